//! The claim: what is due at an endpoint is taken in one transaction, before anything is told.

use std::{sync::LazyLock, time::Duration};

use secrecy::SecretString;
use serde::Serialize;
use serde_json::value::RawValue;
use url::Url;

use super::secret;
use crate::{
    app::App,
    db::{Conn, Locking, Millis, Rows, with_lock},
    error::{Error, Result},
    hook_event::{Kind, time},
};

/// How long a claim holds, by the database's clock: longer than all that is claimed takes at the client's time limit.
const LEASE: Duration = Duration::from_secs(120);

/// Where to tell it.
pub(super) struct Target {
    pub url: Url,
    pub secrets: Vec<SecretString>,
    /// Rests in a row that helped nothing.
    pub failures: i64,
    pub failing_since: Option<Millis>,
}

/// A claimed delivery. Its attempt number is the fence: a later claim makes this one's end void.
#[derive(Debug, Clone)]
pub(super) struct Try {
    pub event_id: String,
    pub attempt: i64,
    /// Which try this is since it was last asked for.
    pub tries: i64,
    pub what: What,
}

#[derive(Debug, Clone)]
pub(super) enum What {
    /// The body, and LINE's signature of it where it is LINE's own.
    Body { bytes: Vec<u8>, line_signature: Option<String> },
    /// Nothing is left to be told.
    Nothing,
}

#[derive(sqlx::FromRow)]
struct Due {
    event_id: String,
    attempts: i64,
    tries: i64,
    #[sqlx(rename = "type")]
    kind: String,
    at: Millis,
    source: Option<String>,
    data: String,
    erased_at: Option<Millis>,
}

/// What every event says first.
#[derive(Serialize)]
struct Payload<'a> {
    r#type: &'a str,
    timestamp: String,
    data: &'a RawValue,
}

/// The endpoints at which something is due and that do not rest; reads only.
pub(super) async fn list_due(app: &App) -> Result<Vec<String>> {
    let mut conn = app.db.conn().await?;
    let leases_now = app.db.now(&mut conn).await?;
    let ids = sqlx::query_scalar(
        "SELECT e.id FROM hook_endpoints e
         WHERE e.disabled_at IS NULL AND (e.rest_until IS NULL OR e.rest_until <= $1)
           AND (SELECT d.event_id FROM hook_deliveries d WHERE d.endpoint_id = e.id AND d.state = 'waiting'
                  AND d.due_at <= $1 AND (d.leased_until IS NULL OR d.leased_until < $2) LIMIT 1) IS NOT NULL
         ORDER BY e.id",
    )
    .bind(app.now())
    .bind(leases_now)
    .fetch_all(&mut *conn)
    .await?;
    Ok(ids)
}

/// Where an endpoint is; none where it is told nothing at present.
pub(super) async fn find_target(conn: &mut Conn, app: &App, endpoint_id: &str) -> Result<Option<Target>> {
    type Row = (String, String, Option<String>, Option<Millis>, i64, Option<Millis>);
    let now = app.now();
    let row: Option<Row> = sqlx::query_as(
        "SELECT url, sealed_secret, sealed_former_secret, former_until, failures, failing_since FROM hook_endpoints
         WHERE id = $1 AND disabled_at IS NULL AND (rest_until IS NULL OR rest_until <= $2)",
    )
    .bind(endpoint_id)
    .bind(now)
    .fetch_optional(conn)
    .await?;
    let Some((url, sealed, former, former_until, failures, failing_since)) = row else { return Ok(None) };
    let mut secrets = vec![secret::open(app, endpoint_id, &sealed)?];
    if let Some(former) = former.filter(|_| former_until.is_some_and(|until| now < until)) {
        secrets.push(secret::open(app, endpoint_id, &former)?);
    }
    let url = Url::parse(&url).map_err(Error::internal)?;
    Ok(Some(Target { url, secrets, failures, failing_since }))
}

/// Takes up to `limit` deliveries that are due at an endpoint.
pub(super) async fn claim(conn: &mut Conn, app: &App, endpoint_id: &str, limit: i64) -> Result<Vec<Try>> {
    let leases_now = app.db.now(conn).await?;
    let due: Vec<Due> = sqlx::query_as(app.db.locking(DUE))
        .bind(endpoint_id)
        .bind(app.now())
        .bind(leases_now)
        .bind(limit)
        .fetch_all(&mut *conn)
        .await?;
    take(conn, app, endpoint_id, &due, leases_now.plus(LEASE)).await?;
    let mut tries = Vec::new();
    for due in due {
        let what = what(conn, &due).await?;
        tries.push(Try { event_id: due.event_id, attempt: due.attempts + 1, tries: due.tries + 1, what });
    }
    Ok(tries)
}

/// By the index of what waits, however much was told already.
pub const DUE: Locking = with_lock!(
    "SELECT d.event_id, d.attempts, d.tries, e.type, e.at, e.source, e.data, e.erased_at
     FROM hook_deliveries d JOIN hook_events e ON e.id = d.event_id
     WHERE d.endpoint_id = $1 AND d.state = 'waiting' AND d.due_at <= $2
       AND (d.leased_until IS NULL OR d.leased_until < $3)
     ORDER BY d.due_at LIMIT $4",
    "FOR UPDATE OF d SKIP LOCKED"
);

async fn take(conn: &mut Conn, app: &App, endpoint_id: &str, due: &[Due], until: Millis) -> Result<()> {
    static UPDATE: LazyLock<Rows> = LazyLock::new(|| {
        Rows::new(
            "UPDATE hook_deliveries SET attempts = hook_deliveries.attempts + 1, tries = hook_deliveries.tries + 1,
               leased_until = v.column3
             FROM (VALUES",
            3,
            ") AS v WHERE hook_deliveries.endpoint_id = v.column1 AND hook_deliveries.event_id = v.column2",
        )
    });
    for (text, rows) in UPDATE.pieces(&app.db, due) {
        let mut update = sqlx::query(text);
        for due in rows {
            update = update.bind(endpoint_id).bind(&due.event_id).bind(until);
        }
        update.execute(&mut *conn).await?;
    }
    Ok(())
}

async fn what(conn: &mut Conn, due: &Due) -> Result<What> {
    if due.erased_at.is_some() {
        return Ok(What::Nothing);
    }
    if due.kind == Kind::LineWebhook.word() {
        return line_body(conn, due.source.as_deref().unwrap_or_default()).await;
    }
    let data = serde_json::from_str(&due.data)?;
    let payload = Payload { r#type: &due.kind, timestamp: time(due.at), data };
    Ok(What::Body { bytes: serde_json::to_vec(&payload)?, line_signature: None })
}

/// A body as LINE sent it. One that something was taken out of has no signature any more, and is not LINE's.
async fn line_body(conn: &mut Conn, body_id: &str) -> Result<What> {
    let found: Option<(Vec<u8>, String)> = sqlx::query_as("SELECT body, signature FROM webhook_bodies WHERE id = $1")
        .bind(body_id)
        .fetch_optional(conn)
        .await?;
    Ok(match found {
        Some((bytes, signature)) if !signature.is_empty() => What::Body { bytes, line_signature: Some(signature) },
        Some(_) | None => What::Nothing,
    })
}
