//! Which events a round takes, and how a try is counted.
//!
//! A claim writes its holder beside the event, and every end takes the name away. A name that is found there is of a
//! try that never came to its end: of another holder, it may have ended the process; of this one, only its end could
//! not be written, as while the database is away, and it does not count.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    app::App,
    db::{Conn, Millis},
    error::Result,
    queue,
    webhook::unpack,
};

/// Events claimed at one time, and of one chat: who writes much holds up nobody.
const ROUND: usize = 64;
const OF_ONE_CHAT: usize = 8;
/// Events looked at for it.
const LOOK: i64 = 512;
/// Tries before an event is parked.
pub(super) const TRIES: i64 = 5;
/// How long a round holds the channel; another node takes over after it.
const LEASE: Duration = Duration::from_secs(15);

/// An event that waits, or was claimed.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct Claimed {
    pub id: String,
    pub chat: String,
    pub at: Millis,
    pub kind: String,
    pub body_id: String,
    pub seq: i64,
    /// The tries so far; of a claimed event, with this one.
    pub attempts: i64,
    pub received_at: Millis,
    /// Whose try never came to its end.
    claimed_by: Option<String>,
}

/// Whether anything waits, by reading only: most rounds end here.
pub(super) async fn is_due(conn: &mut Conn, channel: &str, now: Millis) -> Result<bool> {
    Ok(unpack::is_due(conn, channel).await? || !list_due(conn, channel, now, 1).await?.is_empty())
}

/// Takes the channel, unpacks what came and takes the next events in one transaction, and counts the tries. Several of
/// which none may have ended a process, or one that may. Gives also how much it unpacked.
pub(super) async fn claim(app: &App, channel: &str, holder: &str) -> Result<(usize, Vec<Claimed>)> {
    let mut tx = app.db.begin_work().await?;
    if !queue::lease_on(&mut tx, &app.db, &format!("inbox:{channel}"), holder, LEASE).await? {
        return Ok((0, Vec::new()));
    }
    let unpacked = unpack::run(&mut tx, app, channel).await?;
    let due = choose(list_due(&mut tx, channel, app.now(), LOOK).await?, holder);
    let mut claimed = Vec::new();
    for mut event in due {
        let is_ours = event.claimed_by.as_deref() == Some(holder);
        if event.attempts >= TRIES && !is_ours {
            park(&mut tx, app.now(), channel, &event, "it ended the process").await?;
            continue;
        }
        event.attempts += i64::from(!is_ours);
        set_claimed(&mut tx, channel, &event, holder).await?;
        claimed.push(event);
    }
    tx.commit().await?;
    Ok((unpacked, claimed))
}

/// What a round takes: a few of each chat, or, where another holder's try of one of the first never ended, what is due
/// in its chat alone.
fn choose(due: Vec<Claimed>, holder: &str) -> Vec<Claimed> {
    let began = due.iter().take(ROUND).find(|event| event.claimed_by.as_deref().is_some_and(|name| name != holder));
    if let Some(chat) = began.map(|event| event.chat.clone()) {
        return due.into_iter().find(|event| event.chat == chat).into_iter().collect();
    }
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    let mut is_few = |event: &Claimed| {
        let count = taken.entry(event.chat.clone()).or_default();
        *count += 1;
        *count <= OF_ONE_CHAT
    };
    due.into_iter().filter(|event| is_few(event)).take(ROUND).collect()
}

/// The oldest that wait, but for the chats that wait for a failed one.
async fn list_due(conn: &mut Conn, channel: &str, now: Millis, limit: i64) -> Result<Vec<Claimed>> {
    let due = sqlx::query_as(DUE).bind(channel).bind(now).bind(limit).fetch_all(conn).await?;
    Ok(due)
}

/// Read by the index `events_waiting`.
pub const DUE: &str = "SELECT e.id, e.chat, e.at, e.kind, e.body_id, e.seq, e.attempts, e.received_at, e.claimed_by
  FROM events e
  WHERE e.channel = $1 AND e.state = 'waiting' AND NOT EXISTS (
    SELECT 1 FROM event_holds h WHERE h.channel = e.channel AND h.chat = e.chat AND h.held_until > $2)
  ORDER BY e.at, e.id LIMIT $3";

async fn set_claimed(conn: &mut Conn, channel: &str, event: &Claimed, holder: &str) -> Result<()> {
    sqlx::query(
        "UPDATE events SET attempts = $1, claimed_by = $2 WHERE id = $3 AND channel = $4 AND state = 'waiting'",
    )
    .bind(event.attempts)
    .bind(holder)
    .bind(&event.id)
    .bind(channel)
    .execute(conn)
    .await?;
    Ok(())
}

/// Gives a try back that was claimed and never begun.
pub(super) async fn give_back(conn: &mut Conn, channel: &str, event: &Claimed) -> Result<()> {
    sqlx::query(
        "UPDATE events SET attempts = attempts - 1, claimed_by = NULL
         WHERE id = $1 AND channel = $2 AND state = 'waiting' AND attempts = $3",
    )
    .bind(&event.id)
    .bind(channel)
    .bind(event.attempts)
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends an event that nobody tries any more, and lets its chat go on; false where another try was claimed meanwhile.
pub(super) async fn park(conn: &mut Conn, now: Millis, channel: &str, event: &Claimed, why: &str) -> Result<bool> {
    let parked = sqlx::query(
        "UPDATE events SET state = 'parked', handled_at = $1, note = $2, claimed_by = NULL
         WHERE id = $3 AND channel = $4 AND state = 'waiting' AND attempts = $5",
    )
    .bind(now)
    .bind(why)
    .bind(&event.id)
    .bind(channel)
    .bind(event.attempts)
    .execute(&mut *conn)
    .await?;
    if parked.rows_affected() == 0 {
        return Ok(false);
    }
    tracing::error!(channel, event = event.id, kind = event.kind, why, "event parked: a person must look");
    sqlx::query("DELETE FROM event_holds WHERE channel = $1 AND chat = $2")
        .bind(channel)
        .bind(&event.chat)
        .execute(conn)
        .await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_round_takes() {
        let event = |id: &str, chat: &str, attempts, claimed_by: Option<&str>| Claimed {
            id: id.into(),
            chat: chat.into(),
            at: Millis(0),
            kind: String::new(),
            body_id: String::new(),
            seq: 0,
            attempts,
            received_at: Millis(0),
            claimed_by: claimed_by.map(str::to_owned),
        };
        let ids = |due: Vec<Claimed>| choose(due, "us").into_iter().map(|event| event.id).collect::<Vec<_>>();
        let new = |id: &str, chat: &str| event(id, chat, 0, None);
        assert_eq!(ids(vec![new("1", "a"), new("2", "b"), new("3", "a")]), ["1", "2", "3"]);
        let failed = event("1", "a", 2, None);
        assert_eq!(ids(vec![failed, new("2", "b")]), ["1", "2"], "what failed by an error hurts nobody");
        let cut = event("1", "a", 1, Some("us"));
        assert_eq!(ids(vec![cut, new("2", "b")]), ["1", "2"], "nor what this process could not end");
        let began = || event("3", "a", 1, Some("a former one"));
        assert_eq!(ids(vec![new("1", "b"), began()]), ["3"], "what never ended is tried alone");
        assert_eq!(ids(vec![new("1", "b"), new("2", "a"), began()]), ["2"], "and its chat keeps its order");
        let mut many: Vec<Claimed> = (0..100).map(|number| new(&number.to_string(), "a")).collect();
        many.push(new("x", "b"));
        assert_eq!(ids(many).len(), OF_ONE_CHAT + 1, "one chat does not fill a round");
    }
}
