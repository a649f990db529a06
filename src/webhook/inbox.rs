//! The inbox: what was stored is handled, in LINE's order within a chat, side by side across chats.
//!
//! - One node works on a channel at a time, by a lease. The lease orders; what keeps an effect from happening twice is
//!   the fence: the try is counted when it is claimed, and the effect commits with `done` under that very count.
//! - What fails is tried again later and its chat waits for it; after five tries it is parked, and a person must look.
//! - An event that another process claimed and never ended may have ended that process: it is tried again alone, so
//!   that it cannot take others with it.

mod claim;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{sync::Semaphore, task::JoinSet, time};

pub use self::claim::DUE;
use self::claim::{Claimed, TRIES, claim, give_back, is_due, park};
use super::{
    event::Event,
    handle::{self, Effect},
};
use crate::{
    app::App,
    audit, channel,
    db::{Conn, Millis},
    error::{Error, Result},
    kill,
    line::webhook::Envelope,
    queue,
};

/// Chats worked on at one time.
const CHATS: usize = 4;
/// How long a handler may take; it asks nobody but the database.
const LIMIT: Duration = Duration::from_secs(8);

/// What a claimed event is, once its body was read.
#[derive(Debug)]
enum Read {
    Event(Box<Event>),
    /// Nothing can be done with it, and this is why.
    Not(&'static str),
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Done,
    Ignored,
    /// To be tried again.
    Failed,
    Parked,
    /// Another node has the channel by now, and this event.
    Lost,
}

impl End {
    fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Ignored => "ignored",
            Self::Failed => "failed",
            Self::Parked => "parked",
            Self::Lost => "lost",
        }
    }
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

/// The events of one chat, one after the other, up to the first that is neither done nor ignored.
async fn handle_chat(app: &App, channel: &str, events: Vec<(Claimed, Read)>) -> Result<()> {
    let mut events = events.into_iter();
    while let Some((claimed, read)) = events.next() {
        let end = match try_one(app, channel, &claimed, read).await {
            Ok(end) => end,
            Err(why) => {
                let untried: Vec<Claimed> = events.by_ref().map(|(claimed, _)| claimed).collect();
                fail(app, channel, &claimed, &untried, &why).await?
            }
        };
        app.metrics.event_handled(channel, end.word());
        match end {
            End::Done | End::Ignored => {}
            End::Failed | End::Parked | End::Lost => break,
        }
    }
    Ok(())
}

/// A try in a task of its own: a panic is this event's.
async fn try_one(app: &App, channel: &str, claimed: &Claimed, read: Read) -> Result<End, String> {
    let (worker, name, event) = (app.clone(), channel.to_owned(), claimed.clone());
    let handling = tokio::spawn(time::timeout(LIMIT, async move { handle_one(&worker, &name, &event, read).await }));
    match handling.await {
        Ok(Ok(Ok(end))) => Ok(end),
        Ok(Ok(Err(error))) => Err(error.to_string()),
        Ok(Err(_)) => Err("it took too long".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Effect and end in one transaction.
async fn handle_one(app: &App, channel: &str, claimed: &Claimed, read: Read) -> Result<End> {
    let mut tx = app.db.begin().await?;
    if !finish(&mut tx, app.now(), channel, claimed).await? {
        return Ok(End::Lost);
    }
    let effect = match &read {
        Read::Event(event) => handle::event(&mut tx, app, event).await?,
        Read::Not(why) => {
            record_unhandled(&mut tx, app, channel, claimed, why).await?;
            Effect::Ignored(why)
        }
    };
    let end = match effect {
        Effect::Done => End::Done,
        Effect::Ignored(why) => {
            set_ignored(&mut tx, channel, &claimed.id, why).await?;
            End::Ignored
        }
    };
    kill::point("inbox.effected");
    tx.commit().await?;
    kill::point("inbox.done");
    app.wake();
    Ok(end)
}

/// Ends this try, if it is the last that was claimed. Holds the row, so that the effect of two tries never both commit.
async fn finish(conn: &mut Conn, now: Millis, channel: &str, claimed: &Claimed) -> Result<bool> {
    let finished = sqlx::query(
        "UPDATE events SET state = 'done', handled_at = $1, note = NULL, claimed_by = NULL
         WHERE id = $2 AND channel = $3 AND state = 'waiting' AND attempts = $4",
    )
    .bind(now)
    .bind(&claimed.id)
    .bind(channel)
    .bind(claimed.attempts)
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

/// Holds the chat until the next try, or parks the event and lets the others go on. Where this cannot be written
/// either, the try is given back when the database is there again.
async fn fail(app: &App, channel: &str, claimed: &Claimed, untried: &[Claimed], why: &str) -> Result<End> {
    let (now, attempts) = (app.now(), claimed.attempts);
    tracing::warn!(channel, event = claimed.id, kind = claimed.kind, attempts, why, "an event failed");
    let why: String = why.chars().filter(|c| !c.is_control()).take(500).collect();
    let mut tx = app.db.begin().await?;
    let (is_ours, end) = if attempts >= TRIES {
        (park(&mut tx, now, channel, claimed, &why).await?, End::Parked)
    } else {
        (set_failed(&mut tx, channel, claimed, &why).await?, End::Failed)
    };
    if is_ours && end == End::Failed {
        hold(&mut tx, channel, &claimed.chat, now.plus(queue::backoff(attempts, app.jitter()))).await?;
    }
    for event in untried {
        give_back(&mut tx, channel, event).await?;
    }
    tx.commit().await?;
    Ok(if is_ours { end } else { End::Lost })
}

/// Ends a try that failed; false where another one was claimed meanwhile.
async fn set_failed(conn: &mut Conn, channel: &str, claimed: &Claimed, why: &str) -> Result<bool> {
    let failed = sqlx::query(
        "UPDATE events SET note = $1, claimed_by = NULL
         WHERE id = $2 AND channel = $3 AND state = 'waiting' AND attempts = $4",
    )
    .bind(why)
    .bind(&claimed.id)
    .bind(channel)
    .bind(claimed.attempts)
    .execute(conn)
    .await?;
    Ok(failed.rows_affected() == 1)
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
