//! Browsers in which a member signed in with the password before (table `devices`): a flood of guesses from
//! elsewhere does not keep their owner out. They prove nothing else.
//!
//! The cookie holds 256 random bits, the table their hash, one row for each member who uses the browser.

use std::time::Duration;

use axum::http::HeaderMap;

use crate::{
    app::App,
    db::{Conn, Millis},
    error::Result,
    seal,
    web::cookie::{self, SetCookie},
};

const KEPT: Duration = Duration::from_secs(365 * 24 * 3600);

/// The hash of the browser's token, where the member of this address signed in by it before.
pub async fn find(
    conn: &mut Conn,
    app: &App,
    headers: &HeaderMap,
    email_key: &str,
) -> Result<Option<(String, String)>> {
    let found = sqlx::query_as(
        "SELECT d.token_hash, d.member_id FROM devices d JOIN members m ON m.id = d.member_id
         WHERE d.token_hash = $1 AND m.email_key = $2 AND d.last_used_at > $3",
    )
    .bind(token(app, headers).map(|token| seal::hash(&token)).unwrap_or_default())
    .bind(email_key)
    .bind(app.now().minus(KEPT))
    .fetch_optional(conn)
    .await?;
    Ok(found)
}

/// Knows the browser as one of this member's from now on; gives its cookie.
pub async fn remember(conn: &mut Conn, app: &App, headers: &HeaderMap, member_id: &str) -> Result<SetCookie> {
    // A token that we did not make is not adopted.
    let token = match token(app, headers) {
        Some(token) if is_ours(conn, &token).await? => token,
        _ => app.random_token()?,
    };
    sqlx::query(
        "INSERT INTO devices (token_hash, member_id, created_at, last_used_at) VALUES ($1, $2, $3, $3)
         ON CONFLICT (token_hash, member_id) DO UPDATE SET last_used_at = excluded.last_used_at",
    )
    .bind(seal::hash(&token))
    .bind(member_id)
    .bind(app.now())
    .execute(conn)
    .await?;
    Ok(cookie::set(&app.config, cookie::DEVICE, &token, i64::try_from(KEPT.as_secs()).ok()))
}

/// Forgets all browsers of a member.
pub async fn forget_all(conn: &mut Conn, member_id: &str) -> Result<()> {
    sqlx::query("DELETE FROM devices WHERE member_id = $1").bind(member_id).execute(conn).await?;
    Ok(())
}

async fn is_ours(conn: &mut Conn, token: &str) -> Result<bool> {
    let found: Option<String> = sqlx::query_scalar("SELECT token_hash FROM devices WHERE token_hash = $1 LIMIT 1")
        .bind(seal::hash(token))
        .fetch_optional(conn)
        .await?;
    Ok(found.is_some())
}

fn token(app: &App, headers: &HeaderMap) -> Option<String> {
    cookie::get(&app.config, headers, cookie::DEVICE).filter(|token| token.len() == 43)
}

/// Deletes what was not used for a year, some at a time.
pub async fn prune(conn: &mut Conn, now: Millis) -> Result<u64> {
    let deleted = sqlx::query(
        "DELETE FROM devices WHERE token_hash IN (SELECT token_hash FROM devices WHERE last_used_at < $1 LIMIT 500)
           AND last_used_at < $1",
    )
    .bind(now.minus(KEPT))
    .execute(conn)
    .await?;
    Ok(deleted.rows_affected())
}
