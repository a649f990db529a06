//! What people write, edit and take back, and what is answered to it.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Effect, person};
use crate::{
    app::App,
    chat::{self, Said},
    db::Conn,
    error::Result,
    hook_event::{self, Kind},
    link::{Chat, account_link, by_chat},
    message::answer::{self, New},
    webhook::{
        erase,
        event::{Event, picked},
        word::{self, Word},
    },
};

/// The shortest time between two default answers to one person.
const DEFAULT_PAUSE: Duration = Duration::from_secs(600);

/// What the company is told of a message. Media are named by the message's id; mentions name other people.
const TOLD: [&str; 14] = [
    "id",
    "type",
    "text",
    "quotedMessageId",
    "packageId",
    "stickerId",
    "title",
    "address",
    "latitude",
    "longitude",
    "fileName",
    "fileSize",
    "duration",
    "imageSet",
];

/// A message: kept, and answered where it was written to the account alone.
pub async fn said(conn: &mut Conn, app: &App, event: &Event) -> Result<Effect> {
    let person = person::meet(conn, app, event).await?;
    let Some(said) = as_said(event, person.as_deref()) else { return Ok(Effect::Ignored("no_chat")) };
    if !chat::keep(conn, app, said).await? {
        erase::event(conn, app, &event.channel, &event.id).await?;
        return Ok(Effect::Ignored("unsent"));
    }
    let deed = event.deed(Kind::MessageReceived, person.as_deref());
    hook_event::person::did(conn, app, deed, || picked(event, "message", &TOLD)).await?;
    let Some(person) = person.filter(|_| event.group().is_none() && !event.is_standby()) else {
        return Ok(Effect::Done);
    };
    answer(conn, app, event, &person, event.text("/message/text").unwrap_or_default()).await?;
    Ok(Effect::Done)
}

/// Answers a text by the rules, and what no rule knows by a word on what can be written.
async fn answer(conn: &mut Conn, app: &App, event: &Event, person: &str, text: &str) -> Result<()> {
    let reply = event.reply();
    let chat = Chat { channel: &event.channel, line_user_id: person, reply: reply.as_ref() };
    match word::find(&app.config, chat.channel, text) {
        Word::Link => account_link::offer(conn, app, &chat).await,
        Word::Unlink => by_chat::ask_unlink(conn, app, &chat).await,
        Word::Status => by_chat::status(conn, app, &chat).await,
        Word::Keyword(keyword) => {
            let language = answer::language(conn, app, person).await?;
            let text = keyword.answer(&language, &app.config.default_locale).unwrap_or_default();
            answer::queue(conn, app, chat.answer("keyword"), Some(&answer::text(text))).await.map(|_| ())
        }
        Word::Unknown if app.config.chat.default_answer => say_default(conn, app, chat.answer("default")).await,
        Word::Unknown => Ok(()),
    }
}

/// Says what can be written here, now and then: who chats with people would only be disturbed.
async fn say_default(conn: &mut Conn, app: &App, new: New<'_>) -> Result<()> {
    let since = app.now().minus(DEFAULT_PAUSE);
    if !answer::was_given(conn, new.channel, new.line_user_id, new.cause, since).await? {
        let data = json!({ "company": app.config.company });
        answer::say(conn, app, new, "default_answer", &data).await?;
    }
    Ok(())
}

/// An edited text (groups only); the latest edit holds.
pub async fn edited(conn: &mut Conn, app: &App, event: &Event) -> Result<Effect> {
    let person = person::meet(conn, app, event).await?;
    let Some(said) = as_said(event, person.as_deref()) else { return Ok(Effect::Ignored("no_chat")) };
    if !chat::edit(conn, app, said).await? {
        erase::event(conn, app, &event.channel, &event.id).await?;
        return Ok(Effect::Ignored("unsent"));
    }
    Ok(Effect::Done)
}

/// Taken back: erased wherever it is kept.
pub async fn unsent(conn: &mut Conn, app: &App, event: &Event) -> Result<Effect> {
    let id = event.text("/unsend/messageId").filter(|id| is_message_id(id));
    let (Some(id), Some(chat)) = (id, event.chat()) else { return Ok(Effect::Ignored("no_message")) };
    for event_id in chat::unsend(conn, app.now(), &event.channel, chat, id).await? {
        erase::event(conn, app, &event.channel, &event_id).await?;
    }
    Ok(Effect::Done)
}

fn as_said<'e>(event: &'e Event, person: Option<&'e str>) -> Option<Said<'e>> {
    let message = event.json.get("message")?;
    message.get("id").and_then(Value::as_str).filter(|id| is_message_id(id))?;
    let chat = event.chat()?;
    Some(Said { channel: &event.channel, chat, line_user_id: person, event_id: &event.id, at: event.at, message })
}

/// Digits, by LINE's documents; nothing longer or stranger reaches the database.
fn is_message_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
