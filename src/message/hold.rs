//! What waits in a database that was put back from a backup (columns `held_at`; table `heartbeats`): it may have been
//! sent by what happened after the backup, so it is held until an operator decides.
//!
//! - Held are waiting deliveries that are due, requests whose outcome is open, and messages that lack recipients. What
//!   is due later cannot have been sent, and what is accepted from now on goes its way.
//! - Answers to chats that wait become pushes and are held too, where they concern a link; small talk is dropped.
//! - A held thing keeps its state. The times when it is tried are moved away by [`AWAY`], which release undoes; the
//!   order among what goes on does not see it.
//! - An in-doubt request that is released goes on under its key, or is given up where LINE has forgotten that.

pub mod command;
mod store;

use std::time::Duration;

use tokio::time;
use tokio_util::sync::CancellationToken;

use super::{answer, cancel::cancel_message};
use crate::{
    app::App,
    audit,
    db::{Conn, Millis},
    error::Result,
};

/// A server writes down this often that it works.
const BEAT: Duration = Duration::from_secs(60);
/// A database that no server worked on for so long may be an old one.
const OLD: Duration = Duration::from_secs(3600);
/// A thousand years in milliseconds.
const AWAY: i64 = 1000 * 365 * 24 * 3600 * 1000;

/// How much is held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    pub messages: i64,
    /// Recipients to whom it was not sent yet, by this database.
    pub waiting: i64,
    /// Recipients to whom it may have been sent already then.
    pub in_doubt: i64,
}

/// What is held of a message.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Held {
    pub message_id: String,
    pub channel: String,
    pub lane: String,
    pub cause: String,
    pub template: String,
    pub created_at: Millis,
    pub waiting: i64,
    pub in_doubt: i64,
    /// When recipients stopped being added.
    pub stopped_at: Option<Millis>,
}

/// What an operator decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was not sent: it goes on.
    Release,
    /// It was sent, or is not wanted any more: what waits is cancelled, what is in doubt is unknown.
    Cancel,
}

/// To be called before anything is sent: holds what waits, where `always` or where the database seems to be an old one.
/// Killed half-way, the next start does it again: the heartbeat is written last.
pub async fn at_start(app: &App, always: bool) -> Result<()> {
    let now = app.now();
    let last = store::last_beat(&mut *app.db.conn().await?).await?;
    let is_old = last.is_some_and(|last| last < now.minus(OLD));
    if always || is_old {
        hold(app).await?;
        let size = size(&mut *app.db.conn().await?).await?;
        let idle_minutes = last.map(|last| (now.0 - last.0) / 60_000);
        if size != Size::default() {
            let Size { messages, waiting, in_doubt } = size;
            tracing::warn!(
                messages,
                waiting,
                in_doubt,
                idle_minutes,
                "the outbox is held: if this database was put back from a backup, what waits in it may have been sent since. \
                 Look with `musubi outbox held`, then `musubi outbox release` or `cancel`"
            );
        }
    }
    store::beat(app).await
}

/// Writes down that a server works on this database, until it is told to stop.
pub async fn beat_by_the_minute(app: App, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = time::sleep(BEAT) => {}
        }
        if let Err(error) = store::beat(&app).await {
            tracing::warn!(%error, "the heartbeat could not be written");
        }
    }
}

/// How much is held by now.
pub async fn size(conn: &mut Conn) -> Result<Size> {
    let (messages, waiting, in_doubt) = sqlx::query_as(
        "SELECT CAST(COUNT(DISTINCT h.message_id) AS BIGINT), CAST(COALESCE(SUM(h.waiting), 0) AS BIGINT),
           CAST(COALESCE(SUM(h.in_doubt), 0) AS BIGINT)
         FROM (
           SELECT message_id, 1 AS waiting, 0 AS in_doubt FROM deliveries WHERE held_at IS NOT NULL AND state = 'waiting'
           UNION ALL
           SELECT d.message_id, 0, 1 FROM requests r JOIN deliveries d ON d.request_id = r.id AND d.state = 'sending'
           WHERE r.held_at IS NOT NULL AND r.state = 'open'
           UNION ALL
           SELECT id, 0, 0 FROM messages WHERE held_at IS NOT NULL AND expanded_at IS NULL) AS h",
    )
    .fetch_one(conn)
    .await?;
    Ok(Size { messages, waiting, in_doubt })
}

/// The messages of which something is held, oldest first, after one of them.
pub async fn list(conn: &mut Conn, after: &str, limit: u32) -> Result<Vec<Held>> {
    let found = sqlx::query_as(
        "SELECT m.id AS message_id, m.channel, m.lane, m.cause, m.template, m.created_at, h.waiting, h.in_doubt,
           CASE WHEN m.expanded_at IS NULL THEN m.held_at END AS stopped_at
         FROM messages m JOIN (
           SELECT message_id, CAST(SUM(waiting) AS BIGINT) AS waiting, CAST(SUM(in_doubt) AS BIGINT) AS in_doubt FROM (
             SELECT message_id, 1 AS waiting, 0 AS in_doubt FROM deliveries
             WHERE held_at IS NOT NULL AND state = 'waiting' AND message_id > $1
             UNION ALL
             SELECT d.message_id, 0, 1 FROM requests r JOIN deliveries d ON d.request_id = r.id AND d.state = 'sending'
             WHERE r.held_at IS NOT NULL AND r.state = 'open' AND d.message_id > $1
             UNION ALL
             SELECT id, 0, 0 FROM messages WHERE held_at IS NOT NULL AND expanded_at IS NULL AND id > $1) AS each_one
           GROUP BY message_id) AS h ON h.message_id = m.id
         ORDER BY m.id LIMIT $2",
    )
    .bind(after)
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    Ok(found)
}

/// Carries out what an operator decided, for one message; false where nothing of it is held.
pub async fn decide(app: &App, message_id: &str, verdict: Verdict) -> Result<bool> {
    let is_stopped = store::is_stopped(&mut *app.db.conn().await?, message_id).await?;
    let requests = store::list_requests(&mut *app.db.conn().await?, message_id).await?;
    let mut changed = is_stopped || !requests.is_empty();
    if is_stopped && verdict == Verdict::Cancel {
        cancel_message(app, message_id).await?;
    }
    for request_id in &requests {
        match verdict {
            Verdict::Release => store::release_request(app, request_id).await?,
            Verdict::Cancel => store::give_up(app, request_id).await?,
        }
    }
    loop {
        let mut conn = app.db.conn().await?;
        let moved = match verdict {
            Verdict::Release => store::release_waiting(&mut conn, message_id).await?,
            Verdict::Cancel => store::cancel_waiting(&mut conn, app.now(), message_id).await?,
        };
        if moved == 0 {
            break;
        }
        changed = true;
    }
    if is_stopped && verdict == Verdict::Release {
        store::let_grow(&mut *app.db.conn().await?, message_id).await?;
    }
    if changed {
        let action = if verdict == Verdict::Release { "held_released" } else { "held_cancelled" };
        let entry = audit::Entry { action, subject: Some(message_id), ..Default::default() };
        audit::insert(&mut *app.db.conn().await?, app.now(), entry).await?;
    }
    Ok(changed)
}

/// Holds what is due or in doubt, some thousands at a time.
async fn hold(app: &App) -> Result<()> {
    answer::hand_all_over(app).await?;
    let now = app.now();
    store::stop_growing(&mut *app.db.conn().await?, now).await?;
    store::hold_requests(app, now).await?;
    let channels: Vec<String> =
        sqlx::query_scalar("SELECT DISTINCT channel FROM messages").fetch_all(&mut *app.db.conn().await?).await?;
    for channel in &channels {
        for lane in ["transactional", "bulk"] {
            while store::hold_waiting(&mut *app.db.conn().await?, now, channel, lane).await? > 0 {}
        }
    }
    Ok(())
}
