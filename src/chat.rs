//! Chats (tables `chat_messages`, `media`): what people wrote to the official account, described in words, with the
//! media that came along. What a person unsends is erased.
//!
//! - Events may come in any order: an end that comes first leaves a row without content, an edit one with the newest
//!   text.
//! - A row names every event that brought words of it, so that an end finds them all.

mod describe;
pub mod media;

use std::time::Duration;

use serde_json::{Map, Value};

use crate::{
    app::App,
    db::{Conn, Locking, Millis, with_lock},
    error::Result,
    line,
};

/// A message that somebody wrote.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    pub channel: &'a str,
    /// LINE's user, group or room id.
    pub chat: &'a str,
    /// Who wrote it, where LINE says so.
    pub line_user_id: Option<&'a str>,
    pub event_id: &'a str,
    pub at: Millis,
    /// LINE's message object.
    pub message: &'a Value,
}

/// What is kept of a message already.
#[derive(Debug, sqlx::FromRow)]
struct Known {
    event_id: String,
    data: String,
    edited_at: Option<Millis>,
    unsent_at: Option<Millis>,
}

/// The further events of a message, in its `data`.
const EVENTS: &str = "events";

/// Keeps a message, and has its media fetched. False where it was taken back before it came: then nothing of it is
/// kept, and the caller erases it from the body as well.
pub async fn keep(conn: &mut Conn, app: &App, said: Said<'_>) -> Result<bool> {
    let Some(id) = describe::id(said.message) else { return Ok(true) };
    if !insert(conn, &said, &id, None).await? {
        let Some(known) = find(conn, app, said.channel, &id).await? else { return Ok(true) };
        if known.unsent_at.is_some() {
            return Ok(false);
        }
        return arrive_after_edit(conn, &said, &id, &known).await.map(|()| true);
    }
    if describe::has_media(said.message) {
        media::expect(conn, app.now(), said.channel, &id).await?;
    }
    Ok(true)
}

/// Keeps an edited text, unless a later edit is known. False where the message was taken back before.
pub async fn edit(conn: &mut Conn, app: &App, said: Said<'_>) -> Result<bool> {
    let Some(id) = describe::id(said.message) else { return Ok(true) };
    if insert(conn, &said, &id, Some(said.at)).await? {
        return Ok(true);
    }
    let Some(known) = find(conn, app, said.channel, &id).await? else { return Ok(true) };
    if known.unsent_at.is_some() {
        return Ok(false);
    }
    if known.edited_at.is_none_or(|edited_at| edited_at <= said.at) {
        let data = with_event(describe::data(said.message), &known.events(), said.event_id);
        let kept = describe::text(said.message);
        sqlx::query("UPDATE chat_messages SET text = $1, data = $2, edited_at = $3 WHERE channel = $4 AND id = $5")
            .bind(kept)
            .bind(data)
            .bind(said.at)
            .bind(said.channel)
            .bind(&id)
            .execute(conn)
            .await?;
        return Ok(true);
    }
    set_data(conn, &said, &id, &with_event(known.object(), &known.events(), said.event_id)).await?;
    Ok(true)
}

/// Erases a message and its media, also one that has not come yet. Gives the ids of the events that brought it.
pub async fn unsend(conn: &mut Conn, now: Millis, channel: &str, chat: &str, message_id: &str) -> Result<Vec<String>> {
    if !describe::is_id(message_id) {
        return Ok(Vec::new());
    }
    // First, because it holds the row.
    insert_end(conn, now, channel, chat, message_id).await?;
    let known: Option<Known> =
        sqlx::query_as(FIND.plain).bind(channel).bind(message_id).fetch_optional(&mut *conn).await?;
    sqlx::query("UPDATE chat_messages SET text = '', data = '{}' WHERE channel = $1 AND id = $2")
        .bind(channel)
        .bind(message_id)
        .execute(&mut *conn)
        .await?;
    media::erase(conn, now, channel, message_id).await?;
    let mut events = known.as_ref().map(Known::events).unwrap_or_default();
    events.extend(known.map(|known| known.event_id));
    events.retain(|event| !event.is_empty());
    events.sort();
    events.dedup();
    Ok(events)
}

/// Deletes messages older than `kept`, some at a time.
pub async fn prune(conn: &mut Conn, now: Millis, kept: Duration) -> Result<u64> {
    let deleted = sqlx::query(
        "DELETE FROM chat_messages WHERE (channel, id) IN
           (SELECT channel, id FROM chat_messages WHERE at < $1 ORDER BY at LIMIT 500)",
    )
    .bind(now.minus(kept))
    .execute(conn)
    .await?;
    Ok(deleted.rows_affected())
}

/// The message itself after an edit of it: the newer words stay.
async fn arrive_after_edit(conn: &mut Conn, said: &Said<'_>, id: &str, known: &Known) -> Result<()> {
    if known.edited_at.is_none() || known.event_id == said.event_id {
        return Ok(());
    }
    sqlx::query("UPDATE chat_messages SET at = $1, line_user_id = $2 WHERE channel = $3 AND id = $4")
        .bind(said.at)
        .bind(said.line_user_id)
        .bind(said.channel)
        .bind(id)
        .execute(&mut *conn)
        .await?;
    set_data(conn, said, id, &with_event(known.object(), &known.events(), said.event_id)).await
}

/// False where something is known of this message already.
async fn insert(conn: &mut Conn, said: &Said<'_>, id: &str, edited_at: Option<Millis>) -> Result<bool> {
    let inserted = sqlx::query(
        "INSERT INTO chat_messages (channel, id, chat, line_user_id, event_id, kind, text, data, at, edited_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (channel, id) DO NOTHING",
    )
    .bind(said.channel)
    .bind(id)
    .bind(said.chat)
    .bind(said.line_user_id)
    .bind(said.event_id)
    .bind(describe::kind(said.message))
    .bind(describe::text(said.message))
    .bind(Value::Object(describe::data(said.message)).to_string())
    .bind(said.at)
    .bind(edited_at)
    .execute(conn)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Keeps that a message was taken back. Of one that has not come, a person's own chat is not kept: its name is their id,
/// and a row that names no writer would outlive them.
async fn insert_end(conn: &mut Conn, now: Millis, channel: &str, chat: &str, id: &str) -> Result<()> {
    let chat = if line::is_user_id(chat) { "" } else { chat };
    sqlx::query(
        "INSERT INTO chat_messages (channel, id, chat, event_id, kind, text, data, at, unsent_at)
         VALUES ($1, $2, $3, '', '', '', '{}', $4, $4)
         ON CONFLICT (channel, id) DO UPDATE SET unsent_at = COALESCE(chat_messages.unsent_at, excluded.unsent_at)",
    )
    .bind(channel)
    .bind(id)
    .bind(chat)
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

/// Held until the transaction ends.
async fn find(conn: &mut Conn, app: &App, channel: &str, id: &str) -> Result<Option<Known>> {
    Ok(sqlx::query_as(app.db.locking(FIND)).bind(channel).bind(id).fetch_optional(conn).await?)
}

const FIND: Locking = with_lock!(
    "SELECT event_id, data, edited_at, unsent_at FROM chat_messages WHERE channel = $1 AND id = $2",
    "FOR UPDATE"
);

async fn set_data(conn: &mut Conn, said: &Said<'_>, id: &str, data: &str) -> Result<()> {
    sqlx::query("UPDATE chat_messages SET data = $1 WHERE channel = $2 AND id = $3")
        .bind(data)
        .bind(said.channel)
        .bind(id)
        .execute(conn)
        .await?;
    Ok(())
}

impl Known {
    fn object(&self) -> Map<String, Value> {
        serde_json::from_str(&self.data).unwrap_or_default()
    }

    fn events(&self) -> Vec<String> {
        let events = self.object().remove(EVENTS).unwrap_or_default();
        serde_json::from_value(events).unwrap_or_default()
    }
}

/// `data` with the events that are known and one more.
fn with_event(mut data: Map<String, Value>, known: &[String], event_id: &str) -> String {
    let mut events = known.to_vec();
    if !events.iter().any(|event| event == event_id) {
        events.push(event_id.to_owned());
    }
    data.insert(EVENTS.to_owned(), events.into());
    Value::Object(data).to_string()
}
