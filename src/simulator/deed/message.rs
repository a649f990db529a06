//! What people send: texts, stickers, places and files; and taking a message back.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{Done, Refusal, Scene};
use crate::simulator::{
    login::secret_text,
    state::{ChatId, Content, State as Memory},
    world::Bot,
};

/// The picture that is sent where none is given.
const PICTURE: &[u8] = include_bytes!("../../../static/simulator/photo.png");
/// Fields that are sent on as they are given.
const OPTIONAL: [&str; 7] = ["emojis", "mention", "quotedMessageId", "keywords", "imageSet", "title", "address"];

/// A message of a person, and the file behind it.
pub(in crate::simulator) struct Made {
    pub id: String,
    pub message: Value,
    content: Option<Content>,
}

/// Makes the message that an order describes.
pub(in crate::simulator) fn make(state: &mut Memory, order: &Value) -> Result<Made, Refusal> {
    let text = |name: &str| order.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let number = |name: &str, usual: f64| order.get(name).and_then(number).unwrap_or(usual);
    let kind = text("type").unwrap_or("text");
    // A form of the phone names both ids in one field.
    let (package, sticker) = text("sticker").and_then(|both| both.split_once('/')).unwrap_or(("446", "1988"));
    let content = content(order, kind)?;
    let provider = || order.get("contentProvider").cloned().unwrap_or_else(|| json!({ "type": "line" }));
    let duration = order.get("duration").and_then(Value::as_u64).unwrap_or(60_000);
    let size = content.as_ref().map_or(0, |content| STANDARD.decode(&content.base64).map_or(0, |bytes| bytes.len()));
    let mut message = match kind {
        "text" => json!({ "text": text("text").ok_or_else(|| Refusal::bad("text is missing"))? }),
        "sticker" => json!({
            "packageId": text("packageId").unwrap_or(package),
            "stickerId": text("stickerId").unwrap_or(sticker),
            "stickerResourceType": text("stickerResourceType").unwrap_or("STATIC"),
        }),
        "location" => json!({
            "latitude": number("latitude", 35.681_236),
            "longitude": number("longitude", 139.767_125),
        }),
        "image" => json!({ "contentProvider": provider() }),
        "video" | "audio" => json!({ "contentProvider": provider(), "duration": duration }),
        "file" => json!({ "fileName": text("fileName").unwrap_or("file.txt"), "fileSize": size }),
        _ => return Err(Refusal::bad("no such type of message")),
    };
    let id = state.message_id();
    if let Some(message) = message.as_object_mut() {
        message.insert("id".to_owned(), id.clone().into());
        message.insert("type".to_owned(), kind.into());
        let given = OPTIONAL.iter().filter_map(|name| Some(((*name).to_owned(), order.get(name)?.clone())));
        message.extend(given.collect::<Map<_, _>>());
    }
    if let (Some(message), Some(words), "sticker") = (message.as_object_mut(), text("text"), kind) {
        message.insert("text".to_owned(), words.into());
    }
    Ok(Made { id, message, content })
}

/// A number, also one that a form sent as text.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

/// What the content API will give. What lies at another provider is not LINE's to give.
fn content(order: &Value, kind: &str) -> Result<Option<Content>, Refusal> {
    let (content_type, usual): (&str, &[u8]) = match kind {
        "image" => ("image/png", PICTURE),
        "video" => ("video/mp4", b"a short film"),
        "audio" => ("audio/x-m4a", b"a short tune"),
        "file" => ("application/octet-stream", b"a short text"),
        _ => return Ok(None),
    };
    if order.pointer("/contentProvider/type").is_some_and(|provider| provider != "line") {
        return Ok(None);
    }
    let base64 = match order.get("base64").and_then(Value::as_str) {
        Some(given) if STANDARD.decode(given).is_ok() => given.to_owned(),
        Some(_) => return Err(Refusal::bad("base64 is not Base64")),
        None => STANDARD.encode(usual),
    };
    let given = order.get("contentType").and_then(Value::as_str);
    let preparing = order.get("preparing").and_then(Value::as_u64).unwrap_or(0);
    Ok(Some(Content {
        kind: kind.to_owned(),
        content_type: given.unwrap_or(content_type).to_owned(),
        base64,
        preparing: u32::try_from(preparing).unwrap_or(u32::MAX),
        failed: order.get("failed") == Some(&json!(true)),
        gone: false,
    }))
}

impl Made {
    /// Puts the message into the chat and its file where the bot can fetch it; gives it as the webhook shows it.
    pub fn put(self, state: &mut Memory, bot: &Bot, chat: &ChatId, from: Option<&str>) -> Value {
        let Self { id, mut message, content } = self;
        let account = state.account(&bot.channel_id);
        if let Some(content) = content {
            account.contents.insert(id.clone(), content);
        }
        let mut shown = message.clone();
        if let Some(shown) = shown.as_object_mut() {
            shown.insert("from".to_owned(), "user".into());
            shown.extend(from.map(|user_id| ("user_id".to_owned(), user_id.into())));
        }
        account.chats.entry(chat.clone()).or_default().push(shown);
        let read = secret_text();
        account.read_tokens.insert(read.clone(), (chat.clone(), id));
        if let Some(message) = message.as_object_mut() {
            if matches!(message.get("type").and_then(Value::as_str), Some("text" | "sticker" | "image" | "video")) {
                message.insert("quoteToken".to_owned(), secret_text().into());
            }
            message.insert("markAsReadToken".to_owned(), read.into());
        }
        message
    }
}

impl Scene<'_> {
    pub(super) fn send(&self, state: &mut Memory) -> Result<Done, Refusal> {
        self.send_as(state, self.order)
    }

    /// Sends what an order or an action describes.
    pub(super) fn send_as(&self, state: &mut Memory, order: &Value) -> Result<Done, Refusal> {
        let made = make(state, order)?;
        let message = made.put(state, self.bot, &self.person, None);
        state.account(&self.bot.channel_id).spoke.insert(self.person.clone(), self.now);
        Ok(self.done(state, "message", json!({ "message": message })))
    }

    /// Only the person's own messages can be taken back.
    pub(super) fn unsend(&self, state: &mut Memory) -> Result<Done, Refusal> {
        let id = self.text("message_id").ok_or_else(|| Refusal::bad("message_id is missing"))?;
        let account = state.account(&self.bot.channel_id);
        let chat = account.chats.entry(self.person.clone()).or_default();
        let is_it = |message: &Value| message.get("id").and_then(Value::as_str) == Some(id);
        let Some(place) = chat.iter().position(is_it) else {
            let status = axum::http::StatusCode::NOT_FOUND;
            return Err(Refusal { status, text: "the person has sent no such message" });
        };
        chat.remove(place);
        if let Some(content) = account.contents.get_mut(id) {
            content.gone = true;
            content.base64 = String::new();
        }
        Ok(self.done(state, "unsend", json!({ "unsend": { "messageId": id } })))
    }
}
