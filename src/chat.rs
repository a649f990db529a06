//! Chats (tables `chat_messages`, `media`): what people wrote to the official account, described in words, with the
//! media that came along. What a person unsends is erased.

pub mod media;

use serde_json::Value;

use crate::{
    app::App,
    db::{Conn, Millis},
    error::{Error, Result},
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

/// Keeps a message, and has its media fetched. False where it was taken back before it came: then nothing of it is
/// kept, and the caller erases it from the body as well.
pub async fn keep(_conn: &mut Conn, _app: &App, _said: Said<'_>) -> Result<bool> {
    Err(Error::internal("not built yet"))
}

/// Keeps an edited text, unless a later edit is known.
pub async fn edit(_conn: &mut Conn, _app: &App, _said: Said<'_>) -> Result<bool> {
    Err(Error::internal("not built yet"))
}

/// Erases a message and its media, also one that has not come yet. Gives the ids of the events that brought it.
pub async fn unsend(
    _conn: &mut Conn,
    _now: Millis,
    _channel: &str,
    _chat: &str,
    _message_id: &str,
) -> Result<Vec<String>> {
    Err(Error::internal("not built yet"))
}
