//! Expansion: the recipients of a message to many are added some thousands at a time, while others are sent to
//! already. How far it came commits with what was added, so that it goes on anywhere after a crash.
//!
//! The message's row is held meanwhile: two nodes take two messages, or turns.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use jiff::Timestamp;

use super::{
    accept::count_left_out,
    addressee::Person,
    audience::{self, Batch, New, Target},
    cancel, collapse,
};
use crate::{
    app::App,
    db::{Conn, Db, Locking, Millis, Rows, with_lock},
    error::Result,
};

/// Looked at in one transaction, which takes some 10 ms: others write in between.
const AT_ONCE: i64 = 2_000;
/// The same where what waits is looked for under a collapse key.
const AT_ONCE_TO_COLLAPSE: i64 = 500;

/// The lane that keeps quiet hours.
const BULK: &str = "bulk";

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
    let mut tx = app.db.begin_work().await?;
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
    let due_at = due_at(app, &open.lane, order_at.max(now), &Person::default());
    let new = New { message_id: &open.id, seq: open.accepted, lane: &open.lane, order_at, due_at, now };
    let added = audience::insert(conn, target, batch, &new).await?;
    let seqs = (open.accepted, open.accepted + added);
    if open.lane == BULK {
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

/// When a delivery meant for `order_at` is sent to somebody: after their quiet hours, in the lane that keeps them.
pub(super) fn due_at(app: &App, lane: &str, order_at: Millis, person: &Person) -> Millis {
    let quiet = person.quiet_hours(app).filter(|_| lane == BULK);
    match (quiet, Timestamp::from_millisecond(order_at.0)) {
        (Some(quiet), Ok(at)) => {
            order_at.plus(Duration::try_from(quiet.over(at, &person.zone(app)) - at).unwrap_or_default())
        }
        _ => order_at,
    }
}

/// Until when somebody is left in peace who would be sent something in bulk now.
pub(super) fn quiet_until(app: &App, now: Millis, person: &Person) -> Option<Millis> {
    Some(due_at(app, BULK, now, person)).filter(|due_at| *due_at > now)
}

/// The deliveries just added are due by the company's hours and clock; those of members with their own are moved, some
/// dozens in a statement, whatever they chose.
async fn keep_quiet(conn: &mut Conn, app: &App, new: &New<'_>, seqs: (i64, i64)) -> Result<()> {
    if app.config.sending.quiet_hours.is_none() && !is_hour_chosen(conn).await? {
        return Ok(());
    }
    let mut times = BTreeMap::new();
    for clock in list_clocks(conn, new.message_id, seqs).await? {
        let due_at = due_at(app, new.lane, new.order_at.max(new.now), &person(&clock));
        if due_at != new.due_at {
            times.insert(clock, due_at);
        }
    }
    if times.is_empty() {
        return Ok(());
    }
    let all = list_clocks_of(conn, new.message_id, seqs).await?;
    let moved: Vec<(i64, Millis)> =
        all.into_iter().filter_map(|(seq, clock)| times.get(&clock).map(|due_at| (seq, *due_at))).collect();
    move_to(conn, &app.db, new.message_id, &moved).await
}

/// Somebody with the zone and the hours that a text of `clock!` names; either may be empty.
fn person(clock: &str) -> Person {
    let (zone, hours) = clock.split_once(' ').unwrap_or_default();
    let own = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    Person { time_zone: own(zone), quiet_hours: own(hours), ..Person::default() }
}

/// Whether any member has quiet hours of their own.
async fn is_hour_chosen(conn: &mut Conn) -> Result<bool> {
    let chosen: Option<String> = sqlx::query_scalar(CHOSEN).fetch_optional(conn).await?;
    Ok(chosen.is_some())
}

const CHOSEN: &str = "SELECT id FROM members WHERE quiet_hours IS NOT NULL LIMIT 1";

/// What each member has in place of the company's clock, as one text. Asked for row by row: PostgreSQL, which plans without
/// knowing how few they are, would go through all members for it.
macro_rules! clock {
    () => {
        "(SELECT COALESCE(m.time_zone, '') || ' ' || COALESCE(m.quiet_hours, '') FROM members m
            WHERE m.id = d.member_id) AS clock
          FROM deliveries d WHERE d.message_id = $1 AND d.seq >= $2 AND d.seq < $3"
    };
}

const CLOCKS: &str = concat!("SELECT DISTINCT ", clock!());
const CLOCKS_OF: &str = concat!("SELECT d.seq, ", clock!());

/// The statements over a batch, for a test that reads their plans.
pub const STATEMENTS: [&str; 3] = [CHOSEN, CLOCKS, CLOCKS_OF];

/// The clocks of a batch, each once.
async fn list_clocks(conn: &mut Conn, message_id: &str, seqs: (i64, i64)) -> Result<Vec<String>> {
    let clocks = sqlx::query_scalar(CLOCKS).bind(message_id).bind(seqs.0).bind(seqs.1).fetch_all(conn).await?;
    Ok(clocks)
}

/// The clock of each delivery of a batch.
async fn list_clocks_of(conn: &mut Conn, message_id: &str, seqs: (i64, i64)) -> Result<Vec<(i64, String)>> {
    let clocks = sqlx::query_as(CLOCKS_OF).bind(message_id).bind(seqs.0).bind(seqs.1).fetch_all(conn).await?;
    Ok(clocks)
}

async fn move_to(conn: &mut Conn, db: &Db, message_id: &str, moved: &[(i64, Millis)]) -> Result<()> {
    static UPDATE: LazyLock<Rows> = LazyLock::new(|| {
        Rows::new(
            "UPDATE deliveries SET due_at = v.column3 FROM (VALUES",
            3,
            ") AS v WHERE deliveries.message_id = v.column1 AND deliveries.seq = v.column2",
        )
    });
    for (text, rows) in UPDATE.pieces(db, moved) {
        let mut update = sqlx::query(text);
        for (seq, due_at) in rows {
            update = update.bind(message_id).bind(seq).bind(due_at);
        }
        update.execute(&mut *conn).await?;
    }
    Ok(())
}
