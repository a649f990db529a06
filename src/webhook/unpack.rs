//! From the intake to bodies and events: each event once, whatever LINE sends again.

use std::time::Duration;

use super::pack::{self, Head};
use crate::{
    app::App,
    db::{Conn, Millis},
    error::Result,
    hook_event::{self, Kind, Place},
    kill,
    line::{
        is_chat_id,
        webhook::{Envelope, Head as EventHead, Source},
    },
};

/// Rows of the intake that are read at one time.
const AT_ONCE: i64 = 16;
/// Events older than this are not acted on: their ids may have been forgotten, so that they would count as new.
const TOO_OLD: Duration = Duration::from_secs(30 * 24 * 3600);

/// An event of a request.
#[derive(Debug)]
pub struct NewEvent {
    /// LINE's, or one of ours where it has none.
    id: String,
    seq: i64,
    /// Its own id where it keeps no order.
    chat: String,
    at: Millis,
    kind: String,
    state: &'static str,
    note: Option<&'static str>,
}

/// Whether the intake holds something of a channel.
pub async fn is_due(conn: &mut Conn, channel: &str) -> Result<bool> {
    let first: Option<String> = sqlx::query_scalar("SELECT id FROM intake WHERE channel = $1 LIMIT 1")
        .bind(channel)
        .fetch_optional(conn)
        .await?;
    Ok(first.is_some())
}

/// Splits what came first into bodies and events. Two that do so at one time have the effect of one. Gives the number of
/// rows that it took.
pub async fn run(conn: &mut Conn, app: &App, channel: &str) -> Result<usize> {
    let rows: Vec<(String, Vec<u8>, Millis)> =
        sqlx::query_as("SELECT id, requests, received_at FROM intake WHERE channel = $1 ORDER BY id LIMIT $2")
            .bind(channel)
            .bind(AT_ONCE)
            .fetch_all(&mut *conn)
            .await?;
    let (found, mut new) = (rows.len(), Vec::new());
    for (id, requests, received_at) in rows {
        for request in pack::unpack(&requests) {
            match request {
                Ok((head, body)) => {
                    if insert(conn, channel, &head, body).await? {
                        new.push((head.id, head.received_at));
                    }
                }
                Err(error) => {
                    tracing::error!(channel, intake = id, %error, "the intake cannot be read: a person must look");
                    keep_unreadable(conn, channel, &id, received_at, &requests).await?;
                }
            }
        }
        sqlx::query("DELETE FROM intake WHERE id = $1").bind(&id).execute(&mut *conn).await?;
        kill::point("inbox.unpacked");
    }
    pass_on(conn, app, channel, &new).await?;
    Ok(found)
}

/// Unpacks everything that came so far, for whoever must know that no event of a person waits unseen.
pub async fn all(app: &App) -> Result<()> {
    for channel in app.config.channel.keys() {
        let mut is_more = true;
        while is_more {
            let mut tx = app.db.begin().await?;
            // Fewer than a batch are all; what comes meanwhile is later.
            is_more = run(&mut tx, app, channel).await? == usize::try_from(AT_ONCE).unwrap_or(usize::MAX);
            tx.commit().await?;
        }
    }
    Ok(())
}

/// LINE was told that it is stored: it is kept as it is, beside a parked event that says so.
async fn keep_unreadable(conn: &mut Conn, channel: &str, id: &str, received_at: Millis, requests: &[u8]) -> Result<()> {
    // Beside the row's first request, whose id it has, and pruned in its time.
    let head = Head::new(format!("{id}~"), String::new(), received_at, requests);
    insert_body(conn, channel, &head, requests).await?;
    let event_id = format!("~{id}");
    let event = NewEvent {
        id: event_id.clone(),
        seq: 0,
        chat: event_id,
        at: received_at,
        kind: "unknown".into(),
        state: "parked",
        note: Some("intake_unreadable"),
    };
    insert_event(conn, channel, &head, &event).await?;
    Ok(())
}

/// Bodies that brought something new go on as they came to the endpoints that want that.
async fn pass_on(conn: &mut Conn, app: &App, channel: &str, bodies: &[(String, Millis)]) -> Result<()> {
    if bodies.is_empty() {
        return Ok(());
    }
    let endpoints = hook_event::wanting(conn, Kind::LineWebhook, Place::channel(app, channel)).await?;
    if endpoints.is_empty() {
        return Ok(());
    }
    hook_event::line_webhooks(conn, app, channel, &endpoints, bodies).await
}

/// Whether the body, or an event in it, is new.
async fn insert(conn: &mut Conn, channel: &str, head: &Head, body: &[u8]) -> Result<bool> {
    let is_new_body = insert_body(conn, channel, head, body).await?;
    let events = read_events(body, &head.id, head.received_at).unwrap_or_else(|error| {
        tracing::error!(channel, body = head.id, %error, "a stored webhook cannot be read");
        Vec::new()
    });
    // LINE sends an empty one to see that somebody answers.
    let mut is_new = is_new_body && events.is_empty();
    for event in events {
        if insert_event(conn, channel, head, &event).await? {
            is_new = true;
        } else {
            insert_copy(conn, channel, &head.id, &event.id).await?;
        }
    }
    Ok(is_new)
}

/// The events of a body, with what is needed to keep and order them. A body that is no JSON object with a list of events
/// is an error; an event of any shape is not.
pub fn read_events(body: &[u8], body_id: &str, received_at: Millis) -> Result<Vec<NewEvent>, serde_json::Error> {
    let envelope = Envelope::read(body)?;
    let events = (0_i64..).zip(&envelope.events);
    Ok(events.map(|(seq, event)| new_event(body_id, seq, &EventHead::of(event), received_at)).collect())
}

/// An event that cannot be told from others, or has no time, is kept under an id of ours and not acted on.
fn new_event(body_id: &str, seq: i64, head: &EventHead<'_>, received_at: Millis) -> NewEvent {
    let id = head.webhook_event_id.as_deref().filter(|id| is_storable_id(id));
    let kind = head.kind.as_deref().filter(|kind| is_word(kind)).unwrap_or("unknown").to_owned();
    let chat = head.source.as_ref().and_then(Source::chat).filter(|chat| is_chat_id(chat)).map(str::to_owned);
    let (Some(id), Some(at)) = (id, head.timestamp) else {
        let note = Some("no_id_or_time");
        let id = format!("~{body_id}-{seq}");
        return NewEvent {
            chat: chat.unwrap_or_else(|| id.clone()),
            id,
            seq,
            at: received_at,
            kind,
            state: "ignored",
            note,
        };
    };
    let is_old = Millis(at) < received_at.minus(TOO_OLD);
    let (state, note) = if is_old { ("parked", Some("too_old")) } else { ("waiting", None) };
    let chat = chat.unwrap_or_else(|| id.to_owned());
    NewEvent { id: id.to_owned(), seq, chat, at: Millis(at), kind, state, note }
}

fn is_storable_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

fn is_word(kind: &str) -> bool {
    (1..=40).contains(&kind.len()) && kind.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// False where it is there already.
async fn insert_body(conn: &mut Conn, channel: &str, head: &Head, body: &[u8]) -> Result<bool> {
    let inserted = sqlx::query(
        "INSERT INTO webhook_bodies (id, channel, body, signature, received_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT DO NOTHING",
    )
    .bind(&head.id)
    .bind(channel)
    .bind(body)
    .bind(&head.signature)
    .bind(head.received_at)
    .execute(conn)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// False where the event is known.
async fn insert_event(conn: &mut Conn, channel: &str, head: &Head, event: &NewEvent) -> Result<bool> {
    let inserted = sqlx::query(
        "INSERT INTO events (id, channel, body_id, seq, chat, at, kind, state, note, received_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING",
    )
    .bind(&event.id)
    .bind(channel)
    .bind(&head.id)
    .bind(event.seq)
    .bind(&event.chat)
    .bind(event.at)
    .bind(&event.kind)
    .bind(event.state)
    .bind(event.note)
    .bind(head.received_at)
    .execute(conn)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Remembers which bodies hold an event that was known already: what a person takes back is erased there too.
async fn insert_copy(conn: &mut Conn, channel: &str, body_id: &str, event_id: &str) -> Result<()> {
    sqlx::query(
        "INSERT INTO event_copies (event_id, channel, body_id)
         SELECT id, channel, $1 FROM events WHERE id = $2 AND channel = $3 AND body_id <> $1
         ON CONFLICT DO NOTHING",
    )
    .bind(body_id)
    .bind(event_id)
    .bind(channel)
    .execute(conn)
    .await?;
    Ok(())
}
