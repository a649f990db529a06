//! What of attempts is past its time goes: first what was secret in them, then the rows that support looks at.

use std::time::Duration;

use super::LIFE;
use crate::{
    db::{Conn, Millis},
    error::Result,
};

/// Attempts that nobody came back from, in all: a flood leaves no more behind.
pub const LEFT_AT_MOST: i64 = 100_000;
/// From an attempt's end on to that of its secrets: longer than a browser keeps its cookie of it.
const SECRETS_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Takes the secrets of what is over, and deletes what is past `kept`, some at a time; gives the number of rows.
pub async fn run(conn: &mut Conn, now: Millis, kept: Duration) -> Result<u64> {
    sqlx::query(
        "UPDATE attempts SET return_to = '/account'
         WHERE used_at IS NULL AND expires_at < $1 AND return_to LIKE '/account-link%'",
    )
    .bind(now)
    .execute(&mut *conn)
    .await?;
    let mut changed = sqlx::query(FORGET).bind(now.minus(SECRETS_KEPT)).execute(&mut *conn).await?.rows_affected();
    changed += sqlx::query(LEFT).bind(now.minus(LIFE)).bind(LEFT_AT_MOST).execute(&mut *conn).await?.rows_affected();
    changed += sqlx::query(OLD).bind(now.minus(kept)).execute(conn).await?.rows_affected();
    Ok(changed)
}

/// The state's hash stays, of a state that counts for nothing any more: by it an old address of the callback, from a
/// bookmark or the history, is told from one that never was.
pub const FORGET: &str =
    "UPDATE attempts SET sealed_verifier = '', nonce_hash = '', browser_hash = '', handoff_hash = NULL
     WHERE id IN (SELECT id FROM attempts WHERE expires_at < $1 AND browser_hash <> '' LIMIT 500)";

pub const LEFT: &str = "DELETE FROM attempts WHERE id IN (
       SELECT id FROM attempts WHERE used_at IS NULL AND created_at < $1 ORDER BY created_at DESC LIMIT 500 OFFSET $2)
     AND used_at IS NULL";

pub const OLD: &str = "DELETE FROM attempts WHERE id IN (SELECT id FROM attempts WHERE expires_at < $1 LIMIT 500)";
