//! The statements of [`hold`](super).

use super::AWAY;
use crate::{
    app::App,
    db::{Conn, Millis},
    error::Result,
};

/// Rows of one transaction.
const AT_ONCE: i64 = 5_000;

pub(super) async fn last_beat(conn: &mut Conn) -> Result<Option<Millis>> {
    Ok(sqlx::query_scalar("SELECT at FROM heartbeats WHERE name = 'serve'").fetch_optional(conn).await?)
}

pub(super) async fn beat(app: &App) -> Result<()> {
    sqlx::query(
        "INSERT INTO heartbeats (name, at) VALUES ('serve', $1) ON CONFLICT (name) DO UPDATE SET at = excluded.at",
    )
    .bind(app.now())
    .execute(&mut *app.db.conn().await?)
    .await?;
    Ok(())
}

/// Recipients that a lost expansion added may have got it.
pub(super) async fn stop_growing(conn: &mut Conn, now: Millis) -> Result<()> {
    sqlx::query(
        "UPDATE messages SET held_at = $1 WHERE expanded_at IS NULL AND cancelled_at IS NULL AND held_at IS NULL
           AND (send_at IS NULL OR send_at <= $1)",
    )
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

/// What is in doubt holds up nobody's later messages.
pub(super) async fn hold_requests(app: &App, now: Millis) -> Result<()> {
    let mut tx = app.db.begin().await?;
    sqlx::query(
        "UPDATE deliveries SET order_at = order_at - $1 WHERE state = 'sending' AND lane = 'transactional'
           AND request_id IN (SELECT id FROM requests WHERE state = 'open' AND held_at IS NULL)",
    )
    .bind(AWAY)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "UPDATE requests SET held_at = $1, next_attempt_at = next_attempt_at + $2
         WHERE state = 'open' AND held_at IS NULL",
    )
    .bind(now)
    .bind(AWAY)
    .execute(&mut *tx)
    .await?;
    Ok(tx.commit().await?)
}

pub(super) async fn hold_waiting(conn: &mut Conn, now: Millis, channel: &str, lane: &str) -> Result<u64> {
    let held = sqlx::query(
        "UPDATE deliveries SET held_at = $1, due_at = due_at + $2, order_at = order_at - $2
         WHERE (message_id, seq) IN (
           SELECT message_id, seq FROM deliveries
           WHERE state = 'waiting' AND channel = $3 AND lane = $4 AND due_at <= $1 AND held_at IS NULL LIMIT $5)
           AND state = 'waiting' AND held_at IS NULL",
    )
    .bind(now)
    .bind(AWAY)
    .bind(channel)
    .bind(lane)
    .bind(AT_ONCE)
    .execute(conn)
    .await?;
    Ok(held.rows_affected())
}

pub(super) async fn is_stopped(conn: &mut Conn, message_id: &str) -> Result<bool> {
    let found: Option<String> = sqlx::query_scalar(
        "SELECT id FROM messages WHERE id = $1 AND held_at IS NOT NULL AND expanded_at IS NULL AND cancelled_at IS NULL",
    )
    .bind(message_id)
    .fetch_optional(conn)
    .await?;
    Ok(found.is_some())
}

pub(super) async fn list_requests(conn: &mut Conn, message_id: &str) -> Result<Vec<String>> {
    let found = sqlx::query_scalar(
        "SELECT DISTINCT r.id FROM deliveries d JOIN requests r ON r.id = d.request_id
         WHERE d.message_id = $1 AND d.state = 'sending' AND r.held_at IS NOT NULL AND r.state = 'open'",
    )
    .bind(message_id)
    .fetch_all(conn)
    .await?;
    Ok(found)
}

pub(super) async fn let_grow(conn: &mut Conn, message_id: &str) -> Result<()> {
    sqlx::query("UPDATE messages SET held_at = NULL WHERE id = $1").bind(message_id).execute(conn).await?;
    Ok(())
}

pub(super) async fn release_request(app: &App, request_id: &str) -> Result<()> {
    let mut tx = app.db.begin().await?;
    let released = sqlx::query(
        "UPDATE requests SET held_at = NULL, next_attempt_at = next_attempt_at - $1
         WHERE id = $2 AND held_at IS NOT NULL AND state = 'open'",
    )
    .bind(AWAY)
    .bind(request_id)
    .execute(&mut *tx)
    .await?;
    if released.rows_affected() == 1 {
        sqlx::query(
            "UPDATE deliveries SET order_at = order_at + $1
             WHERE request_id = $2 AND state = 'sending' AND lane = 'transactional'",
        )
        .bind(AWAY)
        .bind(request_id)
        .execute(&mut *tx)
        .await?;
    }
    Ok(tx.commit().await?)
}

pub(super) async fn release_waiting(conn: &mut Conn, message_id: &str) -> Result<u64> {
    let released = sqlx::query(
        "UPDATE deliveries SET held_at = NULL, due_at = due_at - $1, order_at = order_at + $1
         WHERE (message_id, seq) IN (
           SELECT message_id, seq FROM deliveries
           WHERE message_id = $2 AND held_at IS NOT NULL AND state = 'waiting' LIMIT $3)
           AND state = 'waiting' AND held_at IS NOT NULL",
    )
    .bind(AWAY)
    .bind(message_id)
    .bind(AT_ONCE)
    .execute(conn)
    .await?;
    Ok(released.rows_affected())
}

pub(super) async fn cancel_waiting(conn: &mut Conn, now: Millis, message_id: &str) -> Result<u64> {
    let cancelled = sqlx::query(
        "UPDATE deliveries SET state = 'cancelled', reason = 'held', updated_at = $1
         WHERE (message_id, seq) IN (
           SELECT message_id, seq FROM deliveries
           WHERE message_id = $2 AND held_at IS NOT NULL AND state = 'waiting' LIMIT $3)
           AND state = 'waiting'",
    )
    .bind(now)
    .bind(message_id)
    .bind(AT_ONCE)
    .execute(conn)
    .await?;
    Ok(cancelled.rows_affected())
}

/// Nobody knows whether LINE has it, and it is not asked any more.
pub(super) async fn give_up(app: &App, request_id: &str) -> Result<()> {
    let now = app.now();
    let mut tx = app.db.begin().await?;
    let closed = sqlx::query(
        "UPDATE requests SET state = 'unknown', closed_at = $1 WHERE id = $2 AND held_at IS NOT NULL AND state = 'open'",
    )
    .bind(now)
    .bind(request_id)
    .execute(&mut *tx)
    .await?;
    if closed.rows_affected() == 1 {
        sqlx::query(
            "UPDATE deliveries SET state = 'unknown', reason = 'held', updated_at = $1
             WHERE request_id = $2 AND state = 'sending'",
        )
        .bind(now)
        .bind(request_id)
        .execute(&mut *tx)
        .await?;
    }
    Ok(tx.commit().await?)
}
