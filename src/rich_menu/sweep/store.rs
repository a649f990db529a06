//! The SQL of walks.

use std::time::Duration;

use crate::{
    db::{Conn, Millis},
    error::Result,
};

/// A channel's walk.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(in super::super) struct Sweep {
    pub version: i64,
    pub menus: String,
    pub reason: String,
    pub cursor: String,
    pub seen: i64,
    pub started_at: Millis,
    pub ended_at: Option<Millis>,
    pub boundary_at: Option<Millis>,
    pub batch_id: Option<String>,
    pub batch_line: Option<String>,
    pub batch_moves: Option<String>,
    pub batch_at: Option<Millis>,
    pub failures: i64,
    pub rests_till: Millis,
    pub note: Option<String>,
}

/// How far the last walk of a channel is.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Progress {
    /// Of the set that it brings.
    pub version: i64,
    pub seen: i64,
    pub moved: i64,
    /// All people of the channel's provider.
    pub people: i64,
    pub ended_at: Option<Millis>,
    /// Until when LINE is left alone.
    pub rests_till: Millis,
    /// Why LINE is left alone for a while.
    pub note: Option<String>,
}

pub(super) struct New<'a> {
    pub version: i64,
    pub menus: String,
    pub reason: &'a str,
    pub boundary_at: Option<Millis>,
    pub batch_moves: Option<&'a str>,
}

pub(in super::super) async fn find(conn: &mut Conn, channel: &str) -> Result<Option<Sweep>> {
    let found = sqlx::query_as(
        "SELECT version, menus, reason, cursor, seen, started_at, ended_at, boundary_at, batch_id, batch_line,
           batch_moves, batch_at, failures, rests_till, note
         FROM menu_sweeps WHERE channel = $1",
    )
    .bind(channel)
    .fetch_optional(conn)
    .await?;
    Ok(found)
}

/// How far the last walk of a channel is; none where there was none.
pub async fn progress(conn: &mut Conn, channel: &str, provider: &str) -> Result<Option<Progress>> {
    let found = sqlx::query_as(
        "SELECT version, seen, moved, ended_at, rests_till, note,
           (SELECT CAST(COUNT(*) AS BIGINT) FROM line_users WHERE provider = $2) AS people
         FROM menu_sweeps WHERE channel = $1",
    )
    .bind(channel)
    .bind(provider)
    .fetch_optional(conn)
    .await?;
    Ok(found)
}

pub(super) async fn insert(conn: &mut Conn, now: Millis, channel: &str, new: &New<'_>) -> Result<()> {
    sqlx::query(
        "INSERT INTO menu_sweeps (channel, version, menus, reason, cursor, seen, moved, started_at, updated_at,
           boundary_at, batch_moves, failures, rests_till)
         VALUES ($1, $2, $3, $4, '', 0, 0, $5, $5, $6, $7, 0, 0)
         ON CONFLICT (channel) DO UPDATE SET version = excluded.version, menus = excluded.menus,
           reason = excluded.reason, cursor = '', seen = 0, moved = 0, started_at = excluded.started_at,
           updated_at = excluded.updated_at, ended_at = NULL, boundary_at = excluded.boundary_at,
           batch_id = NULL, batch_line = NULL, batch_at = NULL, batch_moves = excluded.batch_moves",
    )
    .bind(channel)
    .bind(new.version)
    .bind(&new.menus)
    .bind(new.reason)
    .bind(now)
    .bind(new.boundary_at)
    .bind(new.batch_moves)
    .execute(conn)
    .await?;
    Ok(())
}

/// Keeps how far a walk came, unless another one began meanwhile.
pub(super) async fn advance(
    conn: &mut Conn,
    now: Millis,
    channel: &str,
    sweep: &Sweep,
    cursor: &str,
    (seen, moved): (usize, usize),
    is_end: bool,
) -> Result<()> {
    let count = |count| i64::try_from(count).unwrap_or(i64::MAX);
    sqlx::query(
        "UPDATE menu_sweeps SET cursor = $1, seen = seen + $2, moved = moved + $3, updated_at = $4, ended_at = $5
         WHERE channel = $6 AND version = $7 AND menus = $8 AND started_at = $9",
    )
    .bind(cursor)
    .bind(count(seen))
    .bind(count(moved))
    .bind(now)
    .bind(is_end.then_some(now))
    .bind(channel)
    .bind(sweep.version)
    .bind(&sweep.menus)
    .bind(sweep.started_at)
    .execute(conn)
    .await?;
    Ok(())
}

/// Keeps how far a walk's batch is.
pub(super) async fn set_batch(
    conn: &mut Conn,
    channel: &str,
    sweep: &Sweep,
    batch_id: Option<&str>,
    batch_line: Option<&str>,
    batch_at: Millis,
) -> Result<()> {
    sqlx::query(
        "UPDATE menu_sweeps SET batch_id = $1, batch_line = $2, batch_at = $3
         WHERE channel = $4 AND version = $5 AND started_at = $6",
    )
    .bind(batch_id)
    .bind(batch_line)
    .bind(batch_at)
    .bind(channel)
    .bind(sweep.version)
    .bind(sweep.started_at)
    .execute(conn)
    .await?;
    Ok(())
}

/// The batch is over, or there is none: people are walked from now on.
pub(super) async fn end_batch(conn: &mut Conn, channel: &str, sweep: &Sweep, moved: i64) -> Result<()> {
    sqlx::query(
        "UPDATE menu_sweeps SET batch_moves = NULL, batch_at = NULL, moved = moved + $1
         WHERE channel = $2 AND version = $3 AND started_at = $4",
    )
    .bind(moved)
    .bind(channel)
    .bind(sweep.version)
    .bind(sweep.started_at)
    .execute(conn)
    .await?;
    Ok(())
}

/// Leaves LINE alone for a while.
pub(in super::super) async fn set_rest(
    conn: &mut Conn,
    now: Millis,
    channel: &str,
    rest: Duration,
    why: &str,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO menu_sweeps
           (channel, version, menus, reason, cursor, seen, moved, started_at, updated_at, failures, rests_till, note)
         VALUES ($1, 0, '', 'set', '', 0, 0, $2, $2, 1, $3, $4)
         ON CONFLICT (channel) DO UPDATE SET
           failures = menu_sweeps.failures + 1, rests_till = excluded.rests_till, note = excluded.note",
    )
    .bind(channel)
    .bind(now)
    .bind(now.plus(rest))
    .bind(why)
    .execute(conn)
    .await?;
    Ok(())
}

/// Somebody asks for it now: LINE is not left alone.
pub(in super::super) async fn end_rest(conn: &mut Conn, channel: &str) -> Result<()> {
    sqlx::query("UPDATE menu_sweeps SET failures = 0, rests_till = 0 WHERE channel = $1")
        .bind(channel)
        .execute(conn)
        .await?;
    Ok(())
}

/// LINE did what it was told.
pub(in super::super) async fn set_fine(conn: &mut Conn, channel: &str) -> Result<()> {
    sqlx::query("UPDATE menu_sweeps SET failures = 0, note = NULL WHERE channel = $1 AND failures > 0")
        .bind(channel)
        .execute(conn)
        .await?;
    Ok(())
}
