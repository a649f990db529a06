//! Expansion: the recipients of a message to many are added some thousands at a time, while others are sent to
//! already. How far it came commits with what was added, so that it goes on anywhere after a crash.
//!
//! The message's row is held meanwhile: two nodes take two messages, or turns.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};

use super::{
    accept::count_left_out,
    addressee::Person,
    audience::{self, Batch, New, Target},
    cancel, collapse,
};
use crate::{
    app::App,
    db::{Conn, Locking, Millis, with_lock},
    error::Result,
};

/// Looked at in one transaction, which takes some 10 ms: others write in between.
const AT_ONCE: i64 = 2_000;
/// The same where what waits is looked for under a collapse key.
const AT_ONCE_TO_COLLAPSE: i64 = 500;

/// A message whose recipients are not all added.
#[derive(Debug, sqlx::FromRow)]
struct Open {
    id: String,
    channel: String,
    lane: String,
    topic: Option<String>,
    audience: Option<String>,
    collapse_key: Option<String>,
    accepted: i64,
    expanded_to: Option<String>,
    send_at: Option<Millis>,
    created_at: Millis,
    cancelled_at: Option<Millis>,
}

/// Adds the next recipients of a channel's oldest message that lacks some; gives 0 where there is none. Call it again at
/// once while it gives more.
pub async fn expand(app: &App, channel: &str) -> Result<usize> {
    if !is_open(&mut *app.db.conn().await?, channel).await? {
        return Ok(0);
    }
    let mut tx = app.db.begin().await?;
    let found: Option<Open> = sqlx::query_as(app.db.locking(OPEN)).bind(channel).fetch_optional(&mut *tx).await?;
    let Some(open) = found else { return Ok(0) };
    if open.cancelled_at.is_some() {
        drop(tx);
        cancel::finish(app, &open.id, open.accepted).await?;
        return Ok(1);
    }
    let is_first = open.expanded_to.is_none();
    let is_over = step(&mut tx, app, &open).await?;
    tx.commit().await?;
    if is_first || is_over {
        app.wake();
    }
    Ok(1)
}

/// Whether a message lacks recipients, by reading only.
async fn is_open(conn: &mut Conn, channel: &str) -> Result<bool> {
    let open: Option<String> = sqlx::query_scalar(
        "SELECT id FROM messages
         WHERE channel = $1 AND expanded_at IS NULL AND (held_at IS NULL OR cancelled_at IS NOT NULL) LIMIT 1",
    )
    .bind(channel)
    .fetch_optional(conn)
    .await?;
    Ok(open.is_some())
}

const OPEN: Locking = with_lock!(
    "SELECT id, channel, lane, topic, audience, collapse_key, accepted, expanded_to, send_at, created_at, cancelled_at
     FROM messages WHERE channel = $1 AND expanded_at IS NULL AND (held_at IS NULL OR cancelled_at IS NOT NULL)
     ORDER BY id LIMIT 1",
    "FOR NO KEY UPDATE SKIP LOCKED"
);

/// Adds one batch, with its counts and how far it came; true where it was the last.
async fn step(conn: &mut Conn, app: &App, open: &Open) -> Result<bool> {
    let now = app.now();
    let target = open.target(app)?;
    let most = if open.collapse_key.is_some() { AT_ONCE_TO_COLLAPSE } else { AT_ONCE };
    let after = open.expanded_to.clone().unwrap_or_default();
    let Some(batch) = audience::next(conn, &target, &after, most).await? else {
        set_expanded(conn, &open.id, 0, &after, Some(now)).await?;
        return Ok(true);
    };
    let added = add(conn, app, now, open, &target, &batch).await?;
    if added < batch.size {
        let (_, left_out) = audience::count(conn, &target, &batch).await?;
        count_left_out(conn, &open.id, &left_out).await?;
    }
    let is_over = batch.size < most;
    set_expanded(conn, &open.id, added, &batch.to, is_over.then_some(now)).await?;
    Ok(is_over)
}

/// Adds the deliveries of a batch; gives their number.
async fn add(conn: &mut Conn, app: &App, now: Millis, open: &Open, target: &Target, batch: &Batch) -> Result<i64> {
    let order_at = open.send_at.unwrap_or(open.created_at).max(open.created_at);
    let due_at = due_at(app, &open.lane, order_at.max(now), &app.zone);
    let new = New { message_id: &open.id, seq: open.accepted, lane: &open.lane, order_at, due_at, now };
    let added = audience::insert(conn, target, batch, &new).await?;
    let seqs = (open.accepted, open.accepted + added);
    if is_quiet_lane(app, &open.lane) {
        keep_quiet(conn, app, &new, seqs).await?;
    }
    if let Some(key) = &open.collapse_key {
        let added = collapse::Added { message_id: &open.id, channel: &open.channel, key, seqs };
        collapse::supersede(conn, &app.db, now, added).await?;
    }
    Ok(added)
}

impl Open {
    fn target(&self, app: &App) -> Result<Target> {
        let to = serde_json::from_str(self.audience.as_deref().unwrap_or_default())?;
        Ok(Target::new(app, &self.channel, self.topic.clone(), to, self.created_at))
    }
}

async fn set_expanded(conn: &mut Conn, id: &str, added: i64, to: &str, over_at: Option<Millis>) -> Result<()> {
    sqlx::query("UPDATE messages SET accepted = accepted + $1, expanded_to = $2, expanded_at = $3 WHERE id = $4")
        .bind(added)
        .bind(to)
        .bind(over_at)
        .bind(id)
        .execute(conn)
        .await?;
    Ok(())
}

fn is_quiet_lane(app: &App, lane: &str) -> bool {
    lane == "bulk" && app.config.sending.quiet_hours.is_some()
}

/// When a delivery meant for `order_at` is sent to somebody in this zone: after the quiet hours, in the lane that
/// keeps them.
pub(super) fn due_at(app: &App, lane: &str, order_at: Millis, zone: &TimeZone) -> Millis {
    let quiet = app.config.sending.quiet_hours.filter(|_| is_quiet_lane(app, lane));
    match (quiet, Timestamp::from_millisecond(order_at.0)) {
        (Some(quiet), Ok(at)) => order_at.plus(Duration::try_from(quiet.over(at, zone) - at).unwrap_or_default()),
        _ => order_at,
    }
}

/// Until when somebody is left in peace who would be sent something in bulk now.
pub(super) fn quiet_until(app: &App, now: Millis, person: &Person) -> Option<Millis> {
    app.config.sending.quiet_hours?;
    Some(due_at(app, "bulk", now, &person.zone(app))).filter(|due_at| *due_at > now)
}

/// The deliveries just added are due by the company's clock; those of members elsewhere are moved to their own.
async fn keep_quiet(conn: &mut Conn, app: &App, new: &New<'_>, seqs: (i64, i64)) -> Result<()> {
    let zones: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT m.time_zone FROM deliveries d JOIN members m ON m.id = d.member_id
         WHERE d.message_id = $1 AND d.seq >= $2 AND d.seq < $3 AND m.time_zone IS NOT NULL",
    )
    .bind(new.message_id)
    .bind(seqs.0)
    .bind(seqs.1)
    .fetch_all(&mut *conn)
    .await?;
    for name in zones {
        let Ok(zone) = TimeZone::get(&name) else { continue };
        let due_at = due_at(app, new.lane, new.order_at.max(new.now), &zone);
        if due_at == new.due_at {
            continue;
        }
        sqlx::query(
            "UPDATE deliveries SET due_at = $1 WHERE message_id = $2 AND seq >= $3 AND seq < $4
               AND EXISTS (SELECT 1 FROM members m WHERE m.id = deliveries.member_id AND m.time_zone = $5)",
        )
        .bind(due_at)
        .bind(new.message_id)
        .bind(seqs.0)
        .bind(seqs.1)
        .bind(&name)
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}
