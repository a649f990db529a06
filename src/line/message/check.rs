//! LINE's rules for messages, looked at before LINE does: all that is wrong is told, each with its place.
//!
//! What LINE leaves open is judged strictly. Properties that are not known are LINE's affair.

pub(in crate::line) mod action;
mod flex;
pub(in crate::line) mod found;
mod media;
mod template;
mod text;

use serde_json::Value;

use self::{
    action::Place,
    found::{Found, Text, kind},
};

/// Most message objects of one request.
pub const MOST_MESSAGES: usize = 5;

/// LINE takes 2 MB a request; the rest is left to 500 ids and whatever else it holds.
const MOST_BYTES: usize = 2 * 1024 * 1024 - 32 * 1024;

/// One thing that LINE would not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {text}")]
pub struct Mistake {
    /// A JSON path into the list of messages: `$[0].template.actions[1].label`.
    pub path: String,
    pub text: String,
}

/// Everything wrong with the messages of one request; nothing where LINE would take them.
pub fn check(messages: &[Value]) -> Vec<Mistake> {
    let mut found = Found::default();
    if !(1..=MOST_MESSAGES).contains(&messages.len()) {
        found.add("$", format!("must hold 1 to {MOST_MESSAGES} messages, not {}", messages.len()));
    }
    if messages.iter().map(|message| message.to_string().len() + 1).sum::<usize>() > MOST_BYTES {
        found.add("$", "is longer than LINE takes in one request (2 MB)");
    }
    for (place, message) in messages.iter().enumerate() {
        check_one(&mut found, message, &format!("$[{place}]"));
    }
    found.into_mistakes()
}

fn check_one(found: &mut Found, message: &Value, at: &str) {
    if !message.is_object() {
        return found.add(at, "must be a message object");
    }
    match kind(message) {
        "text" => text::plain(found, message, at),
        "textV2" => text::with_places(found, message, at),
        "sticker" => {
            found.text(message, at, "packageId", Text::needed(50));
            found.text(message, at, "stickerId", Text::needed(50));
            found.text(message, at, "quoteToken", Text::optional(1000));
        }
        "image" => media::picture(found, message, at),
        "video" => media::video(found, message, at),
        "audio" => media::audio(found, message, at),
        "location" => media::location(found, message, at),
        "imagemap" => media::imagemap(found, message, at),
        "template" => template::check(found, message, at),
        "flex" => flex::check(found, message, at),
        "coupon" => {
            found.text(message, at, "couponId", Text::needed(100));
            found.text(message, at, "deliveryTag", Text::optional(30));
        }
        _ => found.unknown_kind(
            message,
            at,
            "text, textV2, sticker, image, video, audio, location, imagemap, template, flex, coupon",
        ),
    }
    quick_reply(found, message, at);
    sender(found, message, at);
}

fn quick_reply(found: &mut Found, message: &Value, at: &str) {
    let Some((quick, at)) = found.object(message, at, "quickReply") else { return };
    for (item, at) in found.list(quick, &at, "items", 1..=13) {
        if item.get("type").is_some() {
            found.choice(item, &at, "type", &["action"]);
        }
        found.url(item, &at, "imageUrl", false);
        action::needed(found, item, &at, Place::QuickReply);
    }
}

fn sender(found: &mut Found, message: &Value, at: &str) {
    let Some((sender, at)) = found.object(message, at, "sender") else { return };
    found.text(sender, &at, "name", Text::optional(20).filled());
    if sender.get("name").and_then(Value::as_str).is_some_and(|name| name.contains("LINE")) {
        found.add(format!("{at}.name"), "must not contain LINE");
    }
    found.url(sender, &at, "iconUrl", false);
}
