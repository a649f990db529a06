//! Retention: what was said goes first, then the facts of its sending.
//!
//! A message is over when all its recipients are added and none of its deliveries is open. Nobody changes it from then on,
//! so whoever sends is not in the way. One that was superseded ends with the one that tells of it. Each step is a
//! transaction of its own: killed anywhere, the next one goes on.

use std::time::Duration;

use super::answer;
use crate::{
    app::App,
    db::{Conn, Locking, Millis, id_before, with_lock},
    error::Result,
    kill,
};

/// Messages looked at in one call, and rows changed in one transaction: SQLite has one writer.
const MESSAGES: i64 = 100;
const AT_ONCE: i64 = 1_000;

/// A message whose contents go.
#[derive(Debug, sqlx::FromRow)]
struct Over {
    id: String,
    /// None where nobody got it.
    last_seq: Option<i64>,
    ended_at: Millis,
}

/// Takes contents past `contents` away, and deletes what is past `rows`, some at a time; gives the number of rows. An
/// idempotency key is known as long as its message, and every retry key for longer than LINE knows it.
pub async fn run(app: &App, contents: Duration, rows: Duration) -> Result<u64> {
    let now = app.now();
    let (contents, rows) = (now.minus(contents.min(rows)), now.minus(rows));
    let mut changed = empty(app, contents).await?;
    changed += delete(app, rows).await?;
    let mut conn = app.db.conn().await?;
    changed += delete_requests(&mut conn, rows).await?;
    changed += answer::prune(&mut conn, contents, rows).await?;
    Ok(changed)
}

/// Empties messages that were over before a time.
async fn empty(app: &App, before: Millis) -> Result<u64> {
    let mut conn = app.db.conn().await?;
    let ids: Vec<String> =
        sqlx::query_scalar(OVER).bind(id_before(before)).bind(before).bind(MESSAGES).fetch_all(&mut *conn).await?;
    let mut found = Vec::new();
    for id in &ids {
        found.extend(find_over(&mut conn, id).await?);
    }
    drop(conn);
    if found.is_empty() {
        return Ok(0);
    }
    let (mut tx, mut room) = (app.db.begin().await?, AT_ONCE);
    for over in &found {
        let (mut from, end) = (0, over.last_seq.map_or(0, |last| last + 1));
        while from < end {
            let to = end.min(from + room);
            empty_deliveries(&mut tx, &over.id, from, to).await?;
            room -= to - from;
            from = to;
            if room == 0 {
                kill::point("prune.emptied");
                tx.commit().await?;
                (tx, room) = (app.db.begin().await?, AT_ONCE);
            }
        }
        set_ended(&mut tx, over).await?;
    }
    tx.commit().await?;
    Ok(found.len() as u64)
}

/// Deletes the oldest of what ended before a time. What is left of a message adds up.
async fn delete(app: &App, before: Millis) -> Result<u64> {
    let (mut tx, mut room) = (app.db.begin().await?, AT_ONCE);
    let ids: Vec<String> =
        sqlx::query_scalar(app.db.locking(ENDED)).bind(before).bind(MESSAGES).fetch_all(&mut *tx).await?;
    for id in &ids {
        let deleted = delete_deliveries(&mut tx, id, room).await?;
        room -= deleted;
        if room == 0 {
            leave(&mut tx, id, deleted).await?;
            break;
        }
        delete_message(&mut tx, id).await?;
        room -= 1;
        if room == 0 {
            break;
        }
    }
    kill::point("prune.deleted");
    tx.commit().await?;
    Ok(u64::try_from(AT_ONCE - room).unwrap_or(0))
}

/// The oldest messages that have contents, and were over before a time.
pub const OVER: &str = "SELECT m.id FROM messages m
     WHERE m.ended_at IS NULL AND m.id < $1 AND m.expanded_at IS NOT NULL
       AND (SELECT d.seq FROM deliveries d WHERE d.message_id = m.id
              AND (d.state IN ('waiting', 'sending') OR d.updated_at >= $2
                OR (SELECT n.id FROM messages n WHERE n.id = d.superseded_by AND n.ended_at IS NULL) IS NOT NULL)
            LIMIT 1) IS NULL
     ORDER BY m.id LIMIT $3";

/// The messages that ended first; held, so that of two who delete each has its own.
pub const ENDED: Locking =
    with_lock!("SELECT id FROM messages WHERE ended_at < $1 ORDER BY ended_at LIMIT $2", "FOR UPDATE SKIP LOCKED");

/// Requests of no delivery: what is left of a message, and what was refused and took another way.
pub const REQUESTS: &str = "DELETE FROM requests WHERE id IN (
       SELECT r.id FROM requests r
       WHERE r.id < $1 AND r.state <> 'open' AND r.closed_at < $2
         AND (SELECT d.seq FROM deliveries d WHERE d.request_id = r.id LIMIT 1) IS NULL
       ORDER BY r.id LIMIT $3)";

async fn find_over(conn: &mut Conn, id: &str) -> Result<Option<Over>> {
    let over = sqlx::query_as(
        "SELECT m.id, MAX(d.seq) AS last_seq, COALESCE(MAX(d.updated_at), m.created_at) AS ended_at
         FROM messages m LEFT JOIN deliveries d ON d.message_id = m.id
         WHERE m.id = $1 GROUP BY m.id, m.created_at",
    )
    .bind(id)
    .fetch_optional(conn)
    .await?;
    Ok(over)
}

async fn empty_deliveries(conn: &mut Conn, message_id: &str, from: i64, to: i64) -> Result<()> {
    for statement in [
        "UPDATE requests SET body = '' WHERE body <> '' AND state <> 'open' AND id IN (
           SELECT request_id FROM deliveries WHERE message_id = $1 AND seq >= $2 AND seq < $3)",
        "UPDATE deliveries SET content = '[]' WHERE message_id = $1 AND seq >= $2 AND seq < $3 AND content <> '[]'",
    ] {
        sqlx::query(statement).bind(message_id).bind(from).bind(to).execute(&mut *conn).await?;
    }
    Ok(())
}

async fn set_ended(conn: &mut Conn, over: &Over) -> Result<()> {
    sqlx::query("UPDATE messages SET ended_at = $1, source = NULL, data = NULL, content = NULL WHERE id = $2")
        .bind(over.ended_at)
        .bind(&over.id)
        .execute(conn)
        .await?;
    Ok(())
}

async fn delete_deliveries(conn: &mut Conn, message_id: &str, most: i64) -> Result<i64> {
    let deleted = sqlx::query(
        "DELETE FROM deliveries WHERE message_id = $1 AND seq IN (
           SELECT seq FROM deliveries WHERE message_id = $1 ORDER BY seq LIMIT $2)",
    )
    .bind(message_id)
    .bind(most)
    .execute(conn)
    .await?;
    Ok(i64::try_from(deleted.rows_affected()).unwrap_or(i64::MAX))
}

async fn leave(conn: &mut Conn, message_id: &str, deleted: i64) -> Result<()> {
    sqlx::query("UPDATE messages SET accepted = accepted - $1 WHERE id = $2")
        .bind(deleted)
        .bind(message_id)
        .execute(conn)
        .await?;
    Ok(())
}

async fn delete_message(conn: &mut Conn, id: &str) -> Result<()> {
    for statement in ["DELETE FROM message_exclusions WHERE message_id = $1", "DELETE FROM messages WHERE id = $1"] {
        sqlx::query(statement).bind(id).execute(&mut *conn).await?;
    }
    Ok(())
}

async fn delete_requests(conn: &mut Conn, before: Millis) -> Result<u64> {
    let deleted = sqlx::query(REQUESTS).bind(id_before(before)).bind(before).bind(AT_ONCE).execute(conn).await?;
    Ok(deleted.rows_affected())
}
