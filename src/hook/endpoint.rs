//! Who is told what (tables `hook_endpoints`, `hook_subscriptions`): made, changed, disabled and deleted by the company.

mod check;

use secrecy::SecretString;

use super::{
    Refusal,
    secret::{self, OVERLAP},
};
use crate::{
    app::App,
    audit,
    db::{Conn, Millis},
    error::{Error, Result},
    hook_event::{self, Kind},
};

/// So many endpoints get a turn side by side, each with its own calls.
pub const MOST: usize = 20;

/// An endpoint as the company sees it: never its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub row: Row,
    /// Empty: all.
    pub types: Vec<String>,
    /// Whether LINE's bodies go there as they came, and nothing else.
    pub forward_raw: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Row {
    pub id: String,
    pub url: String,
    pub description: String,
    pub provider: Option<String>,
    pub channel: Option<String>,
    pub secret_last4: String,
    pub secret_at: Millis,
    pub former_until: Option<Millis>,
    pub failing_since: Option<Millis>,
    pub rest_until: Option<Millis>,
    pub disabled_at: Option<Millis>,
    /// `company`, `failing` or `gone`.
    pub disabled_why: Option<String>,
    pub created_at: Millis,
    pub updated_at: Millis,
}

/// An endpoint to be.
#[derive(Debug, Clone, Default)]
pub struct New {
    pub url: String,
    pub description: String,
    /// Empty: all.
    pub types: Vec<String>,
    /// What happens elsewhere is not told; it cannot be changed later.
    pub provider: Option<String>,
    pub channel: Option<String>,
    pub forward_raw: bool,
}

/// What to change; the rest stays.
#[derive(Debug, Clone, Default)]
pub struct Change {
    pub url: Option<String>,
    pub description: Option<String>,
    pub types: Option<Vec<String>>,
    pub is_enabled: Option<bool>,
}

macro_rules! select {
    ($which:literal) => {
        concat!(
            "SELECT id, url, description, provider, channel, secret_last4, secret_at, former_until, failing_since,
               rest_until, disabled_at, disabled_why, created_at, updated_at FROM hook_endpoints
             WHERE deleted_at IS NULL AND ",
            $which
        )
    };
}

/// Makes an endpoint; gives its secret, which is not shown again.
pub async fn create(app: &App, new: &New) -> Result<(Endpoint, SecretString), Refusal> {
    let mut mistakes = Vec::new();
    check::url(app, &new.url, &mut mistakes);
    check::description(&new.description, &mut mistakes);
    check::types(&new.types, new.forward_raw, &mut mistakes);
    let provider = check::place(app, new, &mut mistakes);
    if !mistakes.is_empty() {
        return Err(Refusal::Mistakes(mistakes));
    }
    let (id, fresh) = (app.new_id(), secret::make()?);
    let mut tx = app.db.begin().await?;
    if usize::try_from(count(&mut tx).await?).unwrap_or(MOST) >= MOST {
        return Err(Refusal::TooMany);
    }
    insert(&mut tx, app, &id, new, provider, &fresh).await?;
    set_types(&mut tx, &id, &new.types, new.forward_raw).await?;
    record(&mut tx, app, "hook_created", &id).await?;
    let made = find(&mut tx, &id).await?.ok_or(Error::NotFound)?;
    tx.commit().await?;
    Ok((made, fresh))
}

/// Changes an endpoint. Enabled again it is told what waited, and what happens from now on.
pub async fn update(app: &App, id: &str, change: &Change) -> Result<Endpoint, Refusal> {
    let now = app.now();
    let mut tx = app.db.begin().await?;
    let former = find(&mut tx, id).await?.ok_or(Error::NotFound)?;
    let mut mistakes = Vec::new();
    change.url.iter().for_each(|url| check::url(app, url, &mut mistakes));
    change.description.iter().for_each(|text| check::description(text, &mut mistakes));
    change.types.iter().for_each(|types| check::types(types, former.forward_raw, &mut mistakes));
    if !mistakes.is_empty() {
        return Err(Refusal::Mistakes(mistakes));
    }
    if change.url.is_some() || change.description.is_some() {
        set_words(&mut tx, now, id, change).await?;
    }
    if let Some(types) = &change.types {
        set_types(&mut tx, id, types, former.forward_raw).await?;
    }
    let action = match change.is_enabled {
        Some(true) if former.row.disabled_at.is_some() => {
            set_disabled(&mut tx, now, id, false).await?;
            "hook_enabled"
        }
        Some(false) if former.row.disabled_at.is_none() => {
            set_disabled(&mut tx, now, id, true).await?;
            "hook_disabled"
        }
        Some(_) | None => "hook_changed",
    };
    record(&mut tx, app, action, id).await?;
    let changed = find(&mut tx, id).await?.ok_or(Error::NotFound)?;
    tx.commit().await?;
    app.wake();
    Ok(changed)
}

/// Deletes an endpoint: from now on it is told nothing. Its log goes with it, some at a time.
pub async fn delete(app: &App, id: &str) -> Result<()> {
    let mut tx = app.db.begin().await?;
    find(&mut tx, id).await?.ok_or(Error::NotFound)?;
    sqlx::query("DELETE FROM hook_subscriptions WHERE endpoint_id = $1").bind(id).execute(&mut *tx).await?;
    sqlx::query(
        "UPDATE hook_endpoints SET deleted_at = $1, disabled_at = $1, disabled_why = 'deleted',
           sealed_former_secret = NULL
         WHERE id = $2",
    )
    .bind(app.now())
    .bind(id)
    .execute(&mut *tx)
    .await?;
    record(&mut tx, app, "hook_deleted", id).await?;
    tx.commit().await?;
    Ok(())
}

/// Gives a new secret, which is not shown again; the present one signs beside it for a day.
pub async fn rotate_secret(app: &App, id: &str) -> Result<(Endpoint, SecretString)> {
    let (now, fresh) = (app.now(), secret::make()?);
    let mut tx = app.db.begin().await?;
    let rotated = sqlx::query(
        "UPDATE hook_endpoints SET sealed_former_secret = sealed_secret, former_until = $1, sealed_secret = $2, secret_last4 = $3,
           secret_at = $4, updated_at = $4
         WHERE id = $5 AND deleted_at IS NULL",
    )
    .bind(now.plus(OVERLAP))
    .bind(secret::seal(app, id, &fresh)?)
    .bind(secret::last4(&fresh))
    .bind(now)
    .bind(id)
    .execute(&mut *tx)
    .await?;
    if rotated.rows_affected() == 0 {
        return Err(Error::NotFound);
    }
    record(&mut tx, app, "hook_secret_rotated", id).await?;
    let endpoint = find(&mut tx, id).await?.ok_or(Error::NotFound)?;
    tx.commit().await?;
    Ok((endpoint, fresh))
}

/// Tells an endpoint `hook.test` now; gives the event's id, by which the log says how it went.
pub async fn test(app: &App, id: &str) -> Result<String> {
    let mut tx = app.db.begin().await?;
    find(&mut tx, id).await?.ok_or(Error::NotFound)?;
    let data = serde_json::json!({ "endpoint": { "id": id } });
    let event_id = hook_event::insert_for(&mut tx, app, Kind::Test, id, &data).await?;
    tx.commit().await?;
    app.wake();
    Ok(event_id)
}

pub async fn find(conn: &mut Conn, id: &str) -> Result<Option<Endpoint>> {
    let row: Option<Row> = sqlx::query_as(select!("id = $1")).bind(id).fetch_optional(&mut *conn).await?;
    match row {
        Some(row) => Ok(Some(with_types(conn, row).await?)),
        None => Ok(None),
    }
}

/// All of them, in the order of their making; there are some at most.
pub async fn list(conn: &mut Conn) -> Result<Vec<Endpoint>> {
    let rows: Vec<Row> = sqlx::query_as(select!("1 = 1 ORDER BY id")).fetch_all(&mut *conn).await?;
    let mut list = Vec::new();
    for row in rows {
        list.push(with_types(conn, row).await?);
    }
    Ok(list)
}

async fn with_types(conn: &mut Conn, row: Row) -> Result<Endpoint> {
    let mut types: Vec<String> =
        sqlx::query_scalar("SELECT type FROM hook_subscriptions WHERE endpoint_id = $1 ORDER BY type")
            .bind(&row.id)
            .fetch_all(conn)
            .await?;
    let forward_raw = types.iter().any(|word| word == Kind::LineWebhook.word());
    types.retain(|word| Kind::CHOSEN.iter().any(|kind| kind.word() == word));
    Ok(Endpoint { row, types, forward_raw })
}

async fn count(conn: &mut Conn) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT CAST(COUNT(*) AS BIGINT) FROM hook_endpoints WHERE deleted_at IS NULL")
        .fetch_one(conn)
        .await?)
}

async fn insert(
    conn: &mut Conn,
    app: &App,
    id: &str,
    new: &New,
    provider: Option<&str>,
    fresh: &SecretString,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO hook_endpoints (id, url, description, provider, channel, sealed_secret, secret_last4, secret_at, created_at,
           updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $8)",
    )
    .bind(id)
    .bind(&new.url)
    .bind(&new.description)
    .bind(provider)
    .bind(&new.channel)
    .bind(secret::seal(app, id, fresh)?)
    .bind(secret::last4(fresh))
    .bind(app.now())
    .execute(conn)
    .await?;
    Ok(())
}

async fn set_types(conn: &mut Conn, id: &str, types: &[String], forward_raw: bool) -> Result<()> {
    sqlx::query("DELETE FROM hook_subscriptions WHERE endpoint_id = $1").bind(id).execute(&mut *conn).await?;
    let mut words: Vec<&str> = types.iter().map(String::as_str).collect();
    if forward_raw {
        words = vec![Kind::LineWebhook.word()];
    } else if words.is_empty() {
        words = vec!["*"];
    }
    for word in words {
        sqlx::query("INSERT INTO hook_subscriptions (endpoint_id, type) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(id)
            .bind(word)
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}

/// At another address the endpoint begins anew.
async fn set_words(conn: &mut Conn, now: Millis, id: &str, change: &Change) -> Result<()> {
    sqlx::query(
        "UPDATE hook_endpoints SET url = COALESCE($1, url), description = COALESCE($2, description),
           failing_since = CASE WHEN $1 IS NULL THEN failing_since END,
           rest_until = CASE WHEN $1 IS NULL THEN rest_until END,
           failures = CASE WHEN $1 IS NULL THEN failures ELSE 0 END, updated_at = $3
         WHERE id = $4",
    )
    .bind(&change.url)
    .bind(&change.description)
    .bind(now)
    .bind(id)
    .execute(conn)
    .await?;
    Ok(())
}

async fn set_disabled(conn: &mut Conn, now: Millis, id: &str, is_disabled: bool) -> Result<()> {
    sqlx::query(
        "UPDATE hook_endpoints SET disabled_at = $1, disabled_why = $2, failing_since = NULL, failures = 0,
           rest_until = NULL, updated_at = $3
         WHERE id = $4",
    )
    .bind(is_disabled.then_some(now))
    .bind(is_disabled.then_some("company"))
    .bind(now)
    .bind(id)
    .execute(conn)
    .await?;
    Ok(())
}

async fn record(conn: &mut Conn, app: &App, action: &str, id: &str) -> Result<()> {
    audit::insert(conn, app.now(), audit::Entry { action, subject: Some(id), ..Default::default() }).await
}
