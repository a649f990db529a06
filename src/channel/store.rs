//! The tokens that all nodes share (table `channel_tokens`).

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::Own;
use crate::{
    app::App,
    db::{Conn, Locking, Millis, with_lock},
    error::Result,
    line::token::{Issued, Kept},
};

/// How long another node may take to notice that a newer token is used.
const GRACE: Duration = Duration::from_secs(10 * 60);
/// LINE's longest life, for what is not known to live shorter.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long is remembered what became of the last tokens.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// The token that a channel uses.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Row {
    pub id: String,
    sealed: String,
    pub asked_at: Millis,
    pub expires_at: Millis,
    pub refused_at: Option<Millis>,
}

/// A token that nobody uses any more.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Idle {
    pub id: String,
    pub channel_id: String,
    pub kind: String,
    pub sealed: String,
}

/// What a row's token is bound to where it is sealed.
pub fn context(id: &str) -> String {
    format!("channel_token:{id}")
}

pub(super) fn open(app: &App, id: &str, sealed: &str) -> Result<SecretString> {
    let bytes = app.sealer.open(&context(id), sealed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned().into())
}

impl Row {
    /// As this process keeps it. The clock of whoever asked for it may be ahead of ours a little.
    pub fn kept(&self, app: &App) -> Result<Kept> {
        let token = open(app, &self.id, &self.sealed)?;
        let from = self.asked_at.0.min(app.now().0);
        Ok(Kept { id: Some(self.id.clone()), token, from, until: self.expires_at.0 })
    }
}

pub(super) async fn find_used(conn: &mut Conn, own: &Own<'_>) -> Result<Option<Row>> {
    let found = sqlx::query_as(FIND_USED.plain).bind(own.id).bind(own.kind().word()).fetch_optional(conn).await?;
    Ok(found)
}

/// [`find_used`], and nobody else may change it until the transaction ends: of two nodes the later one sees what the
/// earlier one did.
pub(super) async fn hold_used(conn: &mut Conn, app: &App, own: &Own<'_>) -> Result<Option<Row>> {
    let statement = app.db.locking(FIND_USED);
    let found = sqlx::query_as(statement).bind(own.id).bind(own.kind().word()).fetch_optional(conn).await?;
    Ok(found)
}

const FIND_USED: Locking = with_lock!(
    "SELECT id, sealed, asked_at, expires_at, refused_at FROM channel_tokens
     WHERE channel_id = $1 AND kind = $2 AND sealed IS NOT NULL AND idle_at IS NULL",
    "FOR UPDATE"
);

/// How many tokens were lost or refused within a day, and when the newest of all was asked for.
pub(super) async fn count_wasted(conn: &mut Conn, own: &Own<'_>, now: Millis) -> Result<(i64, Millis)> {
    let (wasted, last): (i64, Option<i64>) = sqlx::query_as(
        "SELECT CAST(COUNT(CASE WHEN refused_at IS NOT NULL OR (sealed IS NULL AND revoked_at IS NULL) THEN 1 END) AS BIGINT),
           CAST(MAX(asked_at) AS BIGINT)
         FROM channel_tokens WHERE channel_id = $1 AND kind = $2 AND asked_at > $3",
    )
    .bind(own.id)
    .bind(own.kind().word())
    .bind(now.minus(REMEMBERED))
    .fetch_one(conn)
    .await?;
    Ok((wasted, Millis(last.unwrap_or(0))))
}

/// Notes that LINE is being asked for a token.
pub(super) async fn insert(conn: &mut Conn, own: &Own<'_>, id: &str, now: Millis) -> Result<()> {
    sqlx::query("INSERT INTO channel_tokens (id, channel_id, kind, asked_at) VALUES ($1, $2, $3, $4)")
        .bind(id)
        .bind(own.id)
        .bind(own.kind().word())
        .bind(now)
        .execute(conn)
        .await?;
    Ok(())
}

/// Surely none was issued.
pub(super) async fn delete(conn: &mut Conn, id: &str) -> Result<()> {
    sqlx::query("DELETE FROM channel_tokens WHERE id = $1 AND sealed IS NULL").bind(id).execute(conn).await?;
    Ok(())
}

/// Has every node use the token just issued, instead of the one before.
pub(super) async fn begin_use(app: &App, own: &Own<'_>, id: &str, asked_at: Millis, issued: &Issued) -> Result<()> {
    let sealed = app.sealer.seal(&context(id), issued.token.expose_secret().as_bytes())?;
    let now = app.now();
    let mut tx = app.db.begin().await?;
    set_idle(&mut tx, now, own.id, "").await?;
    sqlx::query("UPDATE channel_tokens SET sealed = $1, key_id = $2, expires_at = $3 WHERE id = $4 AND sealed IS NULL")
        .bind(sealed)
        .bind(&issued.key_id)
        .bind(asked_at.plus(issued.life))
        .bind(id)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}

/// The channel uses another kind than the one of its tokens, or a newer token: of `kind` it is left alone.
pub(super) async fn set_idle(conn: &mut Conn, now: Millis, channel_id: &str, kind: &str) -> Result<()> {
    sqlx::query(
        "UPDATE channel_tokens SET idle_at = CASE WHEN refused_at IS NULL THEN $1 ELSE $2 END
         WHERE channel_id = $3 AND kind <> $4 AND sealed IS NOT NULL AND idle_at IS NULL",
    )
    .bind(now.plus(GRACE))
    .bind(now)
    .bind(channel_id)
    .bind(kind)
    .execute(conn)
    .await?;
    Ok(())
}

/// LINE answered with 401.
pub(super) async fn set_refused(conn: &mut Conn, now: Millis, id: &str) -> Result<()> {
    sqlx::query("UPDATE channel_tokens SET refused_at = $1 WHERE id = $2").bind(now).bind(id).execute(conn).await?;
    Ok(())
}

/// Some of those that may be revoked.
pub(super) async fn list_idle(conn: &mut Conn, now: Millis) -> Result<Vec<Idle>> {
    let rows = sqlx::query_as(
        "SELECT id, channel_id, kind, sealed FROM channel_tokens
         WHERE sealed IS NOT NULL AND idle_at <= $1 AND expires_at > $1 ORDER BY idle_at LIMIT 20",
    )
    .bind(now)
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// LINE revoked it; nothing is left to be kept secret.
pub(super) async fn set_revoked(conn: &mut Conn, now: Millis, id: &str) -> Result<()> {
    sqlx::query("UPDATE channel_tokens SET sealed = NULL, revoked_at = $1 WHERE id = $2")
        .bind(now)
        .bind(id)
        .execute(conn)
        .await?;
    Ok(())
}

/// LINE did not revoke it: another try later.
pub(super) async fn put_off(conn: &mut Conn, until: Millis, id: &str) -> Result<()> {
    sqlx::query("UPDATE channel_tokens SET idle_at = $1 WHERE id = $2").bind(until).bind(id).execute(conn).await?;
    Ok(())
}

/// The key ids of a channel's tokens that may live at LINE.
pub(super) async fn list_key_ids(conn: &mut Conn, channel_id: &str) -> Result<Vec<String>> {
    let ids = sqlx::query_scalar(
        "SELECT key_id FROM channel_tokens WHERE channel_id = $1 AND key_id IS NOT NULL AND revoked_at IS NULL",
    )
    .bind(channel_id)
    .fetch_all(conn)
    .await?;
    Ok(ids)
}

/// Tokens v2.1 whose answer was lost, asked for before a time and not found yet.
pub(super) async fn list_lost(conn: &mut Conn, channel_id: &str, before: Millis) -> Result<Vec<String>> {
    let rows = sqlx::query_scalar(
        "SELECT id FROM channel_tokens WHERE channel_id = $1 AND kind = 'v2.1' AND sealed IS NULL AND key_id IS NULL
           AND revoked_at IS NULL AND asked_at < $2 ORDER BY id",
    )
    .bind(channel_id)
    .bind(before)
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// The lost token was found at LINE.
pub(super) async fn set_key_id(conn: &mut Conn, id: &str, key_id: &str) -> Result<()> {
    sqlx::query("UPDATE channel_tokens SET key_id = $1 WHERE id = $2").bind(key_id).bind(id).execute(conn).await?;
    Ok(())
}

/// Deletes what is over, and no longer needed to know how often LINE was asked.
pub(super) async fn prune(conn: &mut Conn, now: Millis) -> Result<u64> {
    let deleted = sqlx::query(
        "DELETE FROM channel_tokens WHERE asked_at < $1 AND (revoked_at IS NOT NULL OR expires_at < $2 OR asked_at < $3)",
    )
    .bind(now.minus(REMEMBERED))
    .bind(now)
    .bind(now.minus(LONGEST))
    .execute(conn)
    .await?;
    Ok(deleted.rows_affected())
}
