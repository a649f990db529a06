//! Tokens that were shown (table `liff_tokens`), as digests: each is good in the browser that showed it first, so that a page
//! can be loaded anew, and nowhere else, whoever got hold of it.

use std::time::Duration;

use super::proof::Mark;
use crate::{
    db::{Conn, Millis},
    error::Result,
    seal,
};

/// Beyond their own end, since clocks differ.
const KEPT: Duration = Duration::from_secs(3600);

/// Notes that a browser shows a token; false where another one did before.
pub(super) async fn keep(conn: &mut Conn, now: Millis, mark: &Mark, browser_hash: &str) -> Result<bool> {
    sqlx::query(
        "INSERT INTO liff_tokens (digest, browser_hash, expires_at) VALUES ($1, $2, $3) ON CONFLICT (digest) DO NOTHING",
    )
    .bind(&mark.digest)
    .bind(browser_hash)
    .bind(mark.expires_at.max(now))
    .execute(&mut *conn)
    .await?;
    let first: String = sqlx::query_scalar("SELECT browser_hash FROM liff_tokens WHERE digest = $1")
        .bind(&mark.digest)
        .fetch_one(conn)
        .await?;
    Ok(seal::equal(&first, browser_hash))
}

/// Whether a browser showed any lately, as LIFF's own does.
pub async fn is_known(conn: &mut Conn, browser_hash: &str) -> Result<bool> {
    let found: Option<String> = sqlx::query_scalar("SELECT digest FROM liff_tokens WHERE browser_hash = $1 LIMIT 1")
        .bind(browser_hash)
        .fetch_optional(conn)
        .await?;
    Ok(found.is_some())
}

/// Deletes those long past, some at a time.
pub async fn prune(conn: &mut Conn, now: Millis) -> Result<u64> {
    let deleted = sqlx::query(
        "DELETE FROM liff_tokens WHERE digest IN (SELECT digest FROM liff_tokens WHERE expires_at < $1 LIMIT 500)",
    )
    .bind(now.minus(KEPT))
    .execute(conn)
    .await?;
    Ok(deleted.rows_affected())
}
