//! Drawing a message as a chat shows it: each kind for what the template needs, Flex by its preview.
//!
//! Only links of schemes that a chat would open become links. Whatever a message says is text.

use serde_json::Value;

use super::{
    STICKERS,
    card::{self, Card},
    tap::{Button, button, cover, tap},
};
use crate::flex::preview::{self, web_url};

/// A message in the chat.
pub(super) struct Message {
    /// The person's, not the bot's.
    pub own: bool,
    /// Of a message that can be taken back.
    pub id: String,
    pub read: bool,
    /// In whose name the bot speaks, where the message says so.
    pub sender: String,
    pub icon: String,
    pub drawing: Drawing,
}

pub(super) enum Drawing {
    Text(Vec<Word>),
    Sticker(String),
    Cards {
        alt: String,
        /// How its buttons stand: `confirm` puts them side by side.
        kind: String,
        cards: Vec<Card>,
    },
    /// The preview's HTML.
    Flex {
        alt: String,
        html: String,
    },
    Image {
        url: String,
        /// What opens when it is pressed.
        original: String,
    },
    Video {
        url: String,
        preview: String,
    },
    Audio {
        url: String,
        seconds: String,
    },
    Place {
        title: String,
        address: String,
        at: String,
    },
    Map(card::ImageMap),
    /// A kind that is not drawn, described.
    Other {
        kind: String,
        text: String,
    },
}

/// A piece of a text.
pub(super) enum Word {
    Plain(String),
    /// LINE's own emoji, by name: its picture is LINE's.
    Emoji(String),
    Mention(String),
    /// A link, as it is written and as it opens.
    Link {
        text: String,
        url: String,
    },
}

pub(super) fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

pub(super) fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn url(value: &Value, name: &str) -> String {
    web_url(&text(value, name)).unwrap_or_default()
}

pub(super) fn message(message: &Value) -> Message {
    let own = message.get("from").is_some();
    let sender = message.get("sender").unwrap_or(&Value::Null);
    Message {
        own,
        id: if own { text(message, "id") } else { String::new() },
        read: message.get("read").is_some(),
        sender: text(sender, "name"),
        icon: url(sender, "iconUrl"),
        drawing: if own { sent_by_person(message) } else { drawing(message) },
    }
}

/// What a person sent has the shape of webhooks, which differs from what bots send.
fn sent_by_person(message: &Value) -> Drawing {
    match text(message, "type").as_str() {
        "image" => Drawing::Image { url: format!("/_sim/picture/{}", text(message, "id")), original: String::new() },
        "file" => Drawing::Other { kind: "file".to_owned(), text: text(message, "fileName") },
        kind @ ("video" | "audio") => Drawing::Other { kind: kind.to_owned(), text: String::new() },
        "text" => Drawing::Text(vec![Word::Plain(text(message, "text"))]),
        _ => drawing(message),
    }
}

fn drawing(message: &Value) -> Drawing {
    let kind = text(message, "type");
    match kind.as_str() {
        "text" => Drawing::Text(words(&text(message, "text"), list(message, "emojis"))),
        "textV2" => Drawing::Text(words_v2(&text(message, "text"), message.get("substitution"))),
        "image" => {
            Drawing::Image { url: url(message, "previewImageUrl"), original: url(message, "originalContentUrl") }
        }
        "video" => Drawing::Video { url: url(message, "originalContentUrl"), preview: url(message, "previewImageUrl") },
        "audio" => {
            let millis = message.get("duration").and_then(Value::as_u64).unwrap_or_default();
            let seconds = format!("{}:{:02}", millis / 60_000, millis / 1000 % 60);
            Drawing::Audio { url: url(message, "originalContentUrl"), seconds }
        }
        "sticker" => sticker(message, kind),
        "location" => {
            let number = |name: &str| message.get(name).and_then(Value::as_f64).unwrap_or_default();
            let at = format!("{:.4}, {:.4}", number("latitude"), number("longitude"));
            Drawing::Place { title: text(message, "title"), address: text(message, "address"), at }
        }
        "imagemap" => Drawing::Map(card::image_map(message)),
        "template" => template(message),
        "flex" => {
            let contents = message.get("contents").unwrap_or(&Value::Null);
            Drawing::Flex { alt: text(message, "altText"), html: preview::draw(contents, &tap) }
        }
        _ => {
            let alt = text(message, "altText");
            let text = if alt.is_empty() { format!("{message:#}") } else { alt };
            Drawing::Other { kind, text }
        }
    }
}

fn sticker(message: &Value, kind: String) -> Drawing {
    let (package, id) = (text(message, "packageId"), text(message, "stickerId"));
    match STICKERS.iter().find(|sticker| sticker.package == package && sticker.id == id) {
        Some(sticker) => Drawing::Sticker(sticker.words.to_owned()),
        None => Drawing::Other { kind, text: format!("{package}/{id}") },
    }
}

/// A text with LINE's emoji in the places that `emojis` gives, counted in UTF-16 units.
fn words(text: &str, emojis: &[Value]) -> Vec<Word> {
    let mut places: Vec<(usize, String)> = emojis
        .iter()
        .filter_map(|emoji| Some((usize::try_from(emoji.get("index")?.as_u64()?).ok()?, emoji_name(emoji))))
        .collect();
    places.sort();
    let (mut words, mut plain, mut unit) = (Vec::new(), String::new(), 0);
    for letter in text.chars() {
        match places.iter().find(|(place, _)| *place == unit) {
            Some((_, name)) => {
                linked(&mut words, &plain);
                plain.clear();
                words.push(Word::Emoji(name.clone()));
            }
            None => plain.push(letter),
        }
        unit += letter.len_utf16();
    }
    linked(&mut words, &plain);
    words
}

/// A plain text with its links.
fn linked(words: &mut Vec<Word>, plain: &str) {
    let mut rest = plain;
    while let Some(at) = ["https://", "http://"].iter().filter_map(|scheme| rest.find(scheme)).min() {
        let end = rest[at..].find(|c: char| !c.is_ascii_graphic()).map_or(rest.len(), |end| at + end);
        words.push(Word::Plain(rest[..at].to_owned()));
        let text = rest[at..end].to_owned();
        words.push(match web_url(&text) {
            Some(url) => Word::Link { text, url },
            None => Word::Plain(text),
        });
        rest = &rest[end..];
    }
    words.push(Word::Plain(rest.to_owned()));
}

fn emoji_name(emoji: &Value) -> String {
    format!("{}/{}", text(emoji, "productId"), text(emoji, "emojiId"))
}

/// A text whose `{name}` are replaced by what `substitution` says of them; `{{` and `}}` are braces.
fn words_v2(whole: &str, substitution: Option<&Value>) -> Vec<Word> {
    let (mut words, mut plain, mut rest) = (Vec::new(), String::new(), whole);
    while let Some(at) = rest.find(['{', '}']) {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("{{").or_else(|| rest.strip_prefix("}}")) {
            plain.push_str(&rest[..1]);
            rest = after;
            continue;
        }
        let found = rest.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let Some((name, after, value)) = found.and_then(|(name, after)| Some((name, after, substitution?.get(name)?)))
        else {
            plain.push_str(&rest[..1]);
            rest = &rest[1..];
            continue;
        };
        linked(&mut words, &plain);
        plain.clear();
        words.push(match text(value, "type").as_str() {
            "mention" => Word::Mention(mentioned(value, name)),
            _ => Word::Emoji(emoji_name(value)),
        });
        rest = after;
    }
    plain.push_str(rest);
    linked(&mut words, &plain);
    words
}

fn mentioned(value: &Value, name: &str) -> String {
    let is_all = value.get("mentionee").is_some_and(|mentionee| text(mentionee, "type") == "all");
    if is_all { "@All".to_owned() } else { format!("@{name}") }
}

/// Buttons, confirm, and both carousels, each as a row of cards.
fn template(message: &Value) -> Drawing {
    let template = message.get("template").unwrap_or(&Value::Null);
    let columns = list(template, "columns");
    let columns = if columns.is_empty() { std::slice::from_ref(template) } else { columns };
    let kind = text(template, "type");
    let cards = columns.iter().map(|column| card::card(template, column, &kind)).collect();
    Drawing::Cards { alt: text(message, "altText"), kind, cards }
}

/// Buttons of a list of actions.
pub(super) fn buttons(holder: &Value) -> Vec<Button> {
    list(holder, "actions").iter().map(|action| button("button", action)).collect()
}

/// An action over the whole of what it belongs to, as HTML; empty where there is none.
pub(super) fn covered(action: Option<&Value>) -> String {
    action.map(cover).unwrap_or_default()
}
