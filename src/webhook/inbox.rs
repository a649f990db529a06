//! The inbox: what was stored is handled, in LINE's order within a chat, side by side across chats.
//!
//! - One node works on a channel at a time, by a lease. The lease orders; what keeps an effect from happening twice is
//!   the fence: the try is counted when it is claimed, and the effect commits with `done` under that very count.
//! - What fails is tried again later and its chat waits for it; after five tries it is parked, and a person must look.
//! - An event that was claimed and never came to its end may have ended the process: it is tried again alone, so that
//!   it cannot take others with it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{sync::Semaphore, task::JoinSet, time};

use super::{
    event::Event,
    handle::{self, Effect},
    unpack,
};
use crate::{
    app::App,
    audit, channel,
    db::{Conn, Millis, id_before},
    error::{Error, Result},
    kill,
    line::webhook::Envelope,
    queue,
};

/// Events claimed at one time, and of one chat: who writes much holds up nobody.
const ROUND: usize = 64;
const OF_ONE_CHAT: usize = 8;
/// Events looked at for it.
const LOOK: i64 = 512;
/// Chats worked on at one time.
const CHATS: usize = 4;
/// Tries before an event is parked.
const TRIES: i64 = 5;
/// How long a handler may take; it asks nobody but the database.
const LIMIT: Duration = Duration::from_secs(8);
/// How long a round holds the channel; another node takes over after it.
const LEASE: Duration = Duration::from_secs(15);

/// A claimed event.
#[derive(Debug, Clone, sqlx::FromRow)]
struct Claimed {
    id: String,
    chat: String,
    at: Millis,
    kind: String,
    body_id: String,
    seq: i64,
    /// Before this claim.
    attempts: i64,
    /// The last error; none where a try never came to its end.
    note: Option<String>,
    received_at: Millis,
}

/// What a claimed event is, once its body was read.
#[derive(Debug)]
enum Read {
    Event(Box<Event>),
    /// Nothing can be done with it, and this is why.
    Not(&'static str),
}

/// Handles what is due in a channel, one round; gives how much was found. `holder` names this worker.
pub async fn run(app: &App, channel: &str, holder: &str) -> Result<usize> {
    if !is_due(&mut *app.db.conn().await?, channel, app.now()).await? {
        return Ok(0);
    }
    let (unpacked, claimed) = claim(app, channel, holder).await?;
    kill::point("inbox.claimed");
    let found = unpacked + claimed.len();
    let read = read_bodies(app, channel, &claimed).await?;
    let mut chats: BTreeMap<String, Vec<(Claimed, Read)>> = BTreeMap::new();
    for (claimed, read) in claimed.into_iter().zip(read) {
        chats.entry(claimed.chat.clone()).or_default().push((claimed, read));
    }
    let places = Arc::new(Semaphore::new(CHATS));
    let mut running = JoinSet::new();
    for (_, events) in chats {
        let (app, channel, places) = (app.clone(), channel.to_owned(), places.clone());
        running.spawn(async move {
            let _place = places.acquire_owned().await;
            handle_chat(&app, &channel, events).await
        });
    }
    let mut failure = None;
    while let Some(ended) = running.join_next().await {
        failure = failure.or(ended.map_err(Error::internal).flatten().err());
    }
    failure.map_or(Ok(found), Err)
}

/// Whether anything waits, by reading only: most rounds end here.
async fn is_due(conn: &mut Conn, channel: &str, now: Millis) -> Result<bool> {
    Ok(unpack::is_due(conn, channel).await? || !list_due(conn, channel, now, 1).await?.is_empty())
}

/// Takes the channel, reads its intake and takes the next events in one transaction, and counts the tries. Several that were never tried, or
/// one that was.
async fn claim(app: &App, channel: &str, holder: &str) -> Result<(usize, Vec<Claimed>)> {
    let mut tx = app.db.begin().await?;
    if !queue::lease_on(&mut tx, &app.db, &format!("inbox:{channel}"), holder, LEASE).await? {
        return Ok((0, Vec::new()));
    }
    let unpacked = unpack::run(&mut tx, channel).await?;
    let due = choose(list_due(&mut tx, channel, app.now(), LOOK).await?);
    let mut claimed = Vec::new();
    for event in due {
        if event.attempts >= TRIES {
            park(&mut tx, app.now(), channel, &event, None).await?;
            continue;
        }
        set_attempts(&mut tx, channel, &event.id, event.attempts + 1).await?;
        claimed.push(event);
    }
    tx.commit().await?;
    Ok((unpacked, claimed))
}

/// What a round takes: a few of each chat, or, where one of the first was begun and never ended, what is due in its chat
/// alone.
fn choose(due: Vec<Claimed>) -> Vec<Claimed> {
    let began = due.iter().take(ROUND).find(|event| event.attempts > 0 && event.note.is_none());
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
pub const DUE: &str =
    "SELECT e.id, e.chat, e.at, e.kind, e.body_id, e.seq, e.attempts, e.note, e.received_at FROM events e
  WHERE e.channel = $1 AND e.state = 'waiting' AND NOT EXISTS (
    SELECT 1 FROM event_holds h WHERE h.channel = e.channel AND h.chat = e.chat AND h.held_until > $2)
  ORDER BY e.at, e.id LIMIT $3";

/// Reads each body once, and keeps of it what was claimed.
async fn read_bodies(app: &App, channel: &str, claimed: &[Claimed]) -> Result<Vec<Read>> {
    let mut conn = app.db.conn().await?;
    let bot = channel::bot::find_user_id(&mut conn, channel).await?;
    let mut read: Vec<Option<Read>> = claimed.iter().map(|_| None).collect();
    for (place, event) in claimed.iter().enumerate() {
        if read.get(place).is_some_and(Option::is_some) {
            continue;
        }
        let body: Option<Vec<u8>> = sqlx::query_scalar("SELECT body FROM webhook_bodies WHERE id = $1")
            .bind(&event.body_id)
            .fetch_optional(&mut *conn)
            .await?;
        let body = body.unwrap_or_default();
        let envelope = Envelope::read(&body);
        for (other, slot) in claimed.iter().zip(&mut read).filter(|(other, _)| other.body_id == event.body_id) {
            *slot = Some(match &envelope {
                Ok(envelope) => read_event(app, channel, other, envelope, bot.as_deref()),
                Err(_) => Read::Not("unreadable"),
            });
        }
    }
    Ok(read.into_iter().map(|read| read.unwrap_or(Read::Not("unreadable"))).collect())
}

fn read_event(app: &App, channel: &str, claimed: &Claimed, envelope: &Envelope<'_>, bot: Option<&str>) -> Read {
    let other_bot = match (bot, envelope.destination.as_deref()) {
        (Some(bot), Some(destination)) => bot != destination,
        (Some(_), None) => true,
        (None, _) => false,
    };
    if other_bot {
        return Read::Not("other_destination");
    }
    let raw = usize::try_from(claimed.seq).ok().and_then(|seq| envelope.events.get(seq));
    // A lone half of a surrogate pair, or nesting beyond reason: nothing that a person wrote.
    let Some(json) = raw.and_then(|raw| serde_json::from_str(raw.get()).ok()) else { return Read::Not("unreadable") };
    let provider = app.config.channel.get(channel).map(|channel| channel.provider.clone()).unwrap_or_default();
    Read::Event(Box::new(Event {
        id: claimed.id.clone(),
        channel: channel.to_owned(),
        provider,
        at: claimed.at,
        kind: claimed.kind.clone(),
        json,
        received_at: claimed.received_at,
    }))
}

/// The events of one chat, one after the other, up to the first that fails.
async fn handle_chat(app: &App, channel: &str, events: Vec<(Claimed, Read)>) -> Result<()> {
    let mut events = events.into_iter();
    while let Some((claimed, read)) = events.next() {
        let attempts = claimed.attempts + 1;
        // A task of its own: a panic is this event's.
        let (worker, name, event) = (app.clone(), channel.to_owned(), claimed.clone());
        let handling =
            tokio::spawn(time::timeout(LIMIT, async move { handle_one(&worker, &name, &event, read).await }));
        let why = match handling.await {
            Ok(Ok(Ok("lost"))) => {
                // Another node has the channel by now, and this chat's later events.
                app.metrics.event_handled(channel, "lost");
                return Ok(());
            }
            Ok(Ok(Ok(result))) => {
                app.metrics.event_handled(channel, result);
                continue;
            }
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(_)) => "it took too long".to_owned(),
            Err(error) => error.to_string(),
        };
        tracing::warn!(channel, event = claimed.id, kind = claimed.kind, attempts, why, "an event failed");
        let untried: Vec<Claimed> = events.map(|(claimed, _)| claimed).collect();
        return fail(app, channel, &claimed, &untried, &why).await;
    }
    Ok(())
}

/// Effect and end in one transaction; gives the state it ended in.
async fn handle_one(app: &App, channel: &str, claimed: &Claimed, read: Read) -> Result<&'static str> {
    let mut tx = app.db.begin().await?;
    if !finish(&mut tx, app.now(), channel, claimed).await? {
        return Ok("lost");
    }
    let effect = match &read {
        Read::Event(event) => handle::event(&mut tx, app, event).await?,
        Read::Not(why) => {
            record_unhandled(&mut tx, app, channel, claimed, why).await?;
            Effect::Ignored(why)
        }
    };
    let state = match effect {
        Effect::Done => "done",
        Effect::Ignored(why) => {
            set_ignored(&mut tx, channel, &claimed.id, why).await?;
            "ignored"
        }
    };
    kill::point("inbox.effected");
    tx.commit().await?;
    kill::point("inbox.done");
    app.wake();
    Ok(state)
}

/// Ends this try, if it is the last that was claimed. Holds the row, so that the effect of two tries never both commit.
async fn finish(conn: &mut Conn, now: Millis, channel: &str, claimed: &Claimed) -> Result<bool> {
    let finished = sqlx::query(
        "UPDATE events SET state = 'done', handled_at = $1, note = NULL
         WHERE id = $2 AND channel = $3 AND state = 'waiting' AND attempts = $4",
    )
    .bind(now)
    .bind(&claimed.id)
    .bind(channel)
    .bind(claimed.attempts + 1)
    .execute(conn)
    .await?;
    Ok(finished.rows_affected() == 1)
}

async fn set_ignored(conn: &mut Conn, channel: &str, id: &str, why: &str) -> Result<()> {
    sqlx::query("UPDATE events SET state = 'ignored', note = $1 WHERE id = $2 AND channel = $3")
        .bind(why)
        .bind(id)
        .bind(channel)
        .execute(conn)
        .await?;
    Ok(())
}

async fn record_unhandled(conn: &mut Conn, app: &App, channel: &str, claimed: &Claimed, why: &str) -> Result<()> {
    tracing::warn!(channel, event = claimed.id, why, "an event is not handled");
    let entry =
        audit::Entry { action: "event_ignored", reason: Some(why), subject: Some(&claimed.id), ..Default::default() };
    audit::insert(conn, app.now(), entry).await
}

/// Holds the chat until the next try, or parks the event and lets the others go on.
async fn fail(app: &App, channel: &str, claimed: &Claimed, untried: &[Claimed], why: &str) -> Result<()> {
    let attempts = claimed.attempts + 1;
    let now = app.now();
    let mut tx = app.db.begin().await?;
    for event in untried {
        set_attempts(&mut tx, channel, &event.id, event.attempts).await?;
    }
    if attempts >= TRIES {
        park(&mut tx, now, channel, claimed, Some(why)).await?;
    } else {
        set_note(&mut tx, channel, &claimed.id, why).await?;
        hold(&mut tx, channel, &claimed.chat, now.plus(queue::backoff(attempts, app.jitter()))).await?;
    }
    tx.commit().await?;
    app.metrics.event_handled(channel, if attempts >= TRIES { "parked" } else { "failed" });
    Ok(())
}

async fn park(conn: &mut Conn, now: Millis, channel: &str, event: &Claimed, why: Option<&str>) -> Result<()> {
    tracing::error!(channel, event = event.id, kind = event.kind, why, "event parked: a person must look");
    sqlx::query(
        "UPDATE events SET state = 'parked', handled_at = $1, note = COALESCE($2, note, 'it ended the process')
         WHERE id = $3 AND channel = $4 AND state = 'waiting'",
    )
    .bind(now)
    .bind(why)
    .bind(&event.id)
    .bind(channel)
    .execute(&mut *conn)
    .await?;
    sqlx::query("DELETE FROM event_holds WHERE channel = $1 AND chat = $2")
        .bind(channel)
        .bind(&event.chat)
        .execute(conn)
        .await?;
    Ok(())
}

async fn set_attempts(conn: &mut Conn, channel: &str, id: &str, attempts: i64) -> Result<()> {
    sqlx::query("UPDATE events SET attempts = $1 WHERE id = $2 AND channel = $3 AND state = 'waiting'")
        .bind(attempts)
        .bind(id)
        .bind(channel)
        .execute(conn)
        .await?;
    Ok(())
}

async fn set_note(conn: &mut Conn, channel: &str, id: &str, why: &str) -> Result<()> {
    let why: String = why.chars().filter(|c| !c.is_control()).take(500).collect();
    sqlx::query("UPDATE events SET note = $1 WHERE id = $2 AND channel = $3")
        .bind(why)
        .bind(id)
        .bind(channel)
        .execute(conn)
        .await?;
    Ok(())
}

async fn hold(conn: &mut Conn, channel: &str, chat: &str, until: Millis) -> Result<()> {
    sqlx::query(
        "INSERT INTO event_holds (channel, chat, held_until) VALUES ($1, $2, $3)
         ON CONFLICT (channel, chat) DO UPDATE SET held_until = excluded.held_until",
    )
    .bind(channel)
    .bind(chat)
    .bind(until)
    .execute(conn)
    .await?;
    Ok(())
}

/// Deletes events past `events` and bodies past `bodies`, some at a time; what waits or is parked stays, with its body.
/// The ids outlive the replay window: what is older is not acted on anyway.
pub async fn prune(conn: &mut Conn, now: Millis, events: Duration, bodies: Duration) -> Result<u64> {
    let before = now.minus(events);
    // LINE's ids, and those of ours.
    let mut deleted = prune_events(conn, before, "", &ulid_before(before)).await?;
    deleted += prune_events(conn, before, "~", &format!("~{}", id_before(before))).await?;
    deleted += prune_bodies(conn, now.minus(bodies)).await?;
    let copies = "DELETE FROM event_copies
                  WHERE NOT EXISTS (SELECT 1 FROM webhook_bodies b WHERE b.id = event_copies.body_id)";
    deleted += sqlx::query(copies).execute(&mut *conn).await?.rows_affected();
    let day_ago = now.minus(Duration::from_secs(24 * 3600));
    let holds = sqlx::query("DELETE FROM event_holds WHERE held_until < $1").bind(day_ago).execute(conn).await?;
    Ok(deleted + holds.rows_affected())
}

async fn prune_events(conn: &mut Conn, before: Millis, first: &str, last: &str) -> Result<u64> {
    let deleted = sqlx::query(
        "DELETE FROM events WHERE (id, channel) IN (SELECT id, channel FROM events
           WHERE id >= $1 AND id < $2 AND received_at < $3 AND state IN ('done', 'ignored') ORDER BY id LIMIT 500)",
    )
    .bind(first)
    .bind(last)
    .bind(before)
    .execute(conn)
    .await?;
    Ok(deleted.rows_affected())
}

async fn prune_bodies(conn: &mut Conn, before: Millis) -> Result<u64> {
    let deleted = sqlx::query(
        "DELETE FROM webhook_bodies WHERE id IN (SELECT id FROM webhook_bodies
           WHERE id < $1 AND id NOT IN (
             SELECT body_id FROM events WHERE state = 'waiting' AND received_at < $2
             UNION SELECT body_id FROM events WHERE state = 'parked' AND body_id < $1)
           ORDER BY id LIMIT 500)",
    )
    .bind(id_before(before))
    .bind(before)
    .execute(conn)
    .await?;
    Ok(deleted.rows_affected())
}

/// What every `webhookEventId` of before a time is smaller than: LINE's are ULIDs, whose first ten characters are the
/// time in Crockford's Base32.
fn ulid_before(time: Millis) -> String {
    const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let letter = |place: u32| LETTERS.get(usize::try_from((time.0.max(0) >> (5 * place)) & 31).unwrap_or(0)).copied();
    (0..10).rev().filter_map(letter).map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_round_takes() {
        let event = |id: &str, chat: &str, attempts, note: Option<&str>| Claimed {
            id: id.into(),
            chat: chat.into(),
            at: Millis(0),
            kind: String::new(),
            body_id: String::new(),
            seq: 0,
            attempts,
            note: note.map(str::to_owned),
            received_at: Millis(0),
        };
        let ids = |due: Vec<Claimed>| choose(due).into_iter().map(|event| event.id).collect::<Vec<_>>();
        let new = |id: &str, chat: &str| event(id, chat, 0, None);
        assert_eq!(ids(vec![new("1", "a"), new("2", "b"), new("3", "a")]), ["1", "2", "3"]);
        let failed = event("1", "a", 2, Some("an error"));
        assert_eq!(ids(vec![failed, new("2", "b")]), ["1", "2"], "what failed by an error hurts nobody");
        let began = || event("3", "a", 1, None);
        assert_eq!(ids(vec![new("1", "b"), began()]), ["3"], "what never ended is tried alone");
        assert_eq!(ids(vec![new("1", "b"), new("2", "a"), began()]), ["2"], "and its chat keeps its order");
        let mut many: Vec<Claimed> = (0..100).map(|number| new(&number.to_string(), "a")).collect();
        many.push(new("x", "b"));
        assert_eq!(ids(many).len(), OF_ONE_CHAT + 1, "one chat does not fill a round");
    }

    #[test]
    fn ids_of_before_a_time_are_smaller() {
        // As computed by another program.
        assert_eq!(ulid_before(Millis(1_646_291_118_525)), "01FX79HTDX");
        assert_eq!(ulid_before(Millis(0)), "0000000000");
        let id = crate::db::new_id(Millis(1_000_000));
        assert!(id >= id_before(Millis(1_000_000)) && id < id_before(Millis(1_000_001)), "{id}");
    }
}
