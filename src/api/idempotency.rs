//! `Idempotency-Key` (table `api_requests`): the same request again has the same answer, for a day.
//!
//! A request is reserved before it is carried out, by a lease. Whoever dies meanwhile leaves the reservation, and after
//! the lease the request is carried out again. So that this has no second effect, what has an effect may take a key for
//! it, [`Effect`]: the same one in every try. An answer that says *try again* (5xx, 429) is not kept, the reservation is.

use std::time::Duration;

use axum::{
    body::{Body, to_bytes},
    extract::{FromRequestParts, Request},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tracing::Instrument;

use super::{caller::Caller, json, problem};
use crate::{
    app::App,
    audit,
    db::{Conn, Millis},
    error::{Error, Kind, Problem, Result},
    kill,
    member::guard,
    seal,
    web::body,
};

/// How long an answer is kept.
pub const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Longer than a request may take.
const LEASE: Duration = Duration::from_secs(60);
const LONGEST_KEY: usize = 255;
/// Deleted in one transaction.
const AT_ONCE: i64 = 1_000;
/// Answers are far shorter.
const LONGEST_ANSWER: usize = 16 * 1024 * 1024;

const HEADER: &str = "idempotency-key";
static REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// A key for the effect of a POST, as a handler's argument: the same in every try of the same request, and in no other.
/// None where the caller sent no Idempotency-Key.
#[derive(Debug, Clone, Default)]
pub struct Effect(pub Option<String>);

/// A request that this process carries out.
#[derive(Debug, Clone)]
struct Reserved {
    id: String,
    fence: i64,
    created_at: Millis,
}

/// What is known of a request under a key.
enum Found {
    Mine(Reserved),
    Answered { status: i64, sealed: String },
    UnderWay,
    Another,
}

#[derive(sqlx::FromRow)]
struct Row {
    fingerprint: String,
    fence: i64,
    leased_until: Millis,
    status: Option<i64>,
    sealed: Option<String>,
    created_at: Millis,
}

/// What a sealed answer is bound to.
pub fn context(id: &str) -> String {
    format!("api_request:{id}")
}

/// Carries a POST out, or answers as it was answered before.
pub(super) async fn run(app: &App, caller: &Caller, request: Request, next: Next) -> Result<Response> {
    let Some(key) = key(request.headers())? else {
        return Ok(next.run(request).await);
    };
    let id = seal::hash(&format!("{}\n{key}", caller.key_id));
    let request_id = guard::request_id(&request);
    let (parts, body) = request.into_parts();
    let body = body::read_within(body, json::LONGEST).await?;
    let target = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let fingerprint = seal::hash(&format!("{} {target}\n{}", parts.method, String::from_utf8_lossy(&body)));
    match reserve(app, &id, &fingerprint).await? {
        Found::Mine(reserved) => {
            let mut request = Request::from_parts(parts, Body::from(body));
            request.extensions_mut().insert(reserved.effect());
            carry_out(app, caller, reserved, request_id, request, next).await
        }
        Found::Answered { status, sealed } => replay(app, &id, status, &sealed),
        Found::UnderWay => {
            let detail = "The first request under this key has no answer yet.";
            Err(Problem { retry_after: Some(1), ..Problem::new(Kind::IdempotencyInProgress, detail) }.into())
        }
        Found::Another => {
            let detail = "Another method, path or body came under this key within the last 24 hours.";
            Err(Problem::new(Kind::IdempotencyKeyReused, detail).into())
        }
    }
}

fn key(headers: &HeaderMap) -> Result<Option<&str>> {
    let mut all = headers.get_all(HEADER).iter();
    let Some(first) = all.next() else { return Ok(None) };
    let is_good =
        |key: &&str| (1..=LONGEST_KEY).contains(&key.len()) && key.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let key = first.to_str().ok().filter(is_good).filter(|_| all.next().is_none());
    let wrong = || Problem::new(Kind::InvalidIdempotencyKey, Kind::InvalidIdempotencyKey.text());
    key.map(Some).ok_or_else(|| wrong().into())
}

impl Reserved {
    /// Bound to the day's reservation, so that a key which comes again after its day is a new one.
    fn effect(&self) -> Effect {
        Effect(Some(seal::hash(&format!("{}\n{}", self.id, self.created_at.0))))
    }
}

/// In a task of its own: a caller who goes away does not end it half-way.
async fn carry_out(
    app: &App,
    caller: &Caller,
    reserved: Reserved,
    request_id: String,
    request: Request,
    next: Next,
) -> Result<Response> {
    let (app, actor) = (app.clone(), caller.actor());
    let doing = async move {
        let answer = problem::finish(&request_id, next.run(request).await);
        kill::point("api.answered");
        let (parts, body) = answer.into_parts();
        let bytes = to_bytes(body, LONGEST_ANSWER).await.map_err(Error::internal)?;
        if let Err(error) = record(&app, &reserved, parts.status, &bytes).await {
            // It was carried out. Asked again, it is tried again, under the same key for its effect.
            tracing::error!(%error, "an answer could not be kept");
        }
        Ok(Response::from_parts(parts, Body::from(bytes)))
    };
    let task = tokio::spawn(audit::acting(actor, doing).instrument(tracing::Span::current()));
    task.await.map_err(Error::internal)?
}

fn replay(app: &App, id: &str, status: i64, sealed: &str) -> Result<Response> {
    let body = app.sealer.open(&context(id), sealed)?;
    let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let status = status.ok_or_else(|| Error::internal("a status that is none"))?;
    let kind = if status.is_success() { "application/json" } else { problem::MEDIA_TYPE };
    let mut answer = (status, body).into_response();
    let headers = answer.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    if status != StatusCode::NO_CONTENT {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    headers.insert(&REPLAYED, HeaderValue::from_static("true"));
    Ok(answer)
}

/// Reserves a request, or tells what became of it.
async fn reserve(app: &App, id: &str, fingerprint: &str) -> Result<Found> {
    let mut conn = app.db.conn().await?;
    let (now, clock) = (app.now(), app.db.now(&mut conn).await?);
    let lease = clock.plus(LEASE);
    let inserted = sqlx::query(
        "INSERT INTO api_requests (id, fingerprint, fence, leased_until, created_at) VALUES ($1, $2, 1, $3, $4)
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(id)
    .bind(fingerprint)
    .bind(lease)
    .bind(now)
    .execute(&mut *conn)
    .await?;
    if inserted.rows_affected() == 1 {
        return Ok(Found::Mine(Reserved { id: id.to_owned(), fence: 1, created_at: now }));
    }
    // Pruned just now, it is there again when the caller repeats.
    let Some(row) = find(&mut conn, id).await? else { return Ok(Found::UnderWay) };
    let is_old = row.created_at.plus(KEPT) <= now;
    if !is_old && row.fingerprint != fingerprint {
        return Ok(Found::Another);
    }
    match (row.status, row.sealed) {
        (Some(status), Some(sealed)) if !is_old => Ok(Found::Answered { status, sealed }),
        _ if row.leased_until > clock => Ok(Found::UnderWay),
        _ => {
            let created_at = if is_old { now } else { row.created_at };
            let mine = Reserved { id: id.to_owned(), fence: row.fence + 1, created_at };
            let is_mine = take_over(&mut conn, &mine, fingerprint, (row.leased_until, lease)).await?;
            Ok(if is_mine { Found::Mine(mine) } else { Found::UnderWay })
        }
    }
}

async fn find(conn: &mut Conn, id: &str) -> Result<Option<Row>> {
    let found = sqlx::query_as(
        "SELECT fingerprint, fence, leased_until, status, sealed, created_at FROM api_requests WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(conn)
    .await?;
    Ok(found)
}

/// Takes a reservation that nobody works on; false where somebody was quicker, or its answer came just now.
async fn take_over(
    conn: &mut Conn,
    mine: &Reserved,
    fingerprint: &str,
    (former, lease): (Millis, Millis),
) -> Result<bool> {
    let taken = sqlx::query(
        "UPDATE api_requests SET fingerprint = $1, fence = $2, leased_until = $3, status = NULL, sealed = NULL,
           created_at = $4
         WHERE id = $5 AND fence = $6 AND leased_until = $7",
    )
    .bind(fingerprint)
    .bind(mine.fence)
    .bind(lease)
    .bind(mine.created_at)
    .bind(&mine.id)
    .bind(mine.fence - 1)
    .bind(former)
    .execute(conn)
    .await?;
    Ok(taken.rows_affected() == 1)
}

/// Keeps an answer, and ends the lease in any case.
async fn record(app: &App, reserved: &Reserved, status: StatusCode, body: &[u8]) -> Result<()> {
    let is_kept = !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS;
    let sealed = is_kept.then(|| app.sealer.seal(&context(&reserved.id), body)).transpose()?;
    let mut conn = app.db.conn().await?;
    sqlx::query("UPDATE api_requests SET status = $1, sealed = $2, leased_until = 0 WHERE id = $3 AND fence = $4")
        .bind(is_kept.then(|| i64::from(status.as_u16())))
        .bind(sealed)
        .bind(&reserved.id)
        .bind(reserved.fence)
        .execute(&mut *conn)
        .await?;
    Ok(())
}

/// Forgets what is older than a day.
pub async fn prune(app: &App) -> Result<u64> {
    let before = app.now().minus(KEPT);
    let mut deleted = 0;
    loop {
        let mut conn = app.db.conn().await?;
        let step = sqlx::query(
            "DELETE FROM api_requests WHERE id IN (
               SELECT id FROM api_requests WHERE created_at <= $1 ORDER BY created_at LIMIT $2)",
        )
        .bind(before)
        .bind(AT_ONCE)
        .execute(&mut *conn)
        .await?
        .rows_affected();
        deleted += step;
        if step == 0 {
            return Ok(deleted);
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Effect {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}
