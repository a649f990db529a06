//! LINE's rules for texts of both versions.

use serde_json::{Map, Value};

use crate::simulator::{
    message::found::{Found, join, units},
    state::is_user_id,
};

pub(super) fn text(found: &mut Found, message: &Value, at: &str) {
    found.text(message, at, "text", 5000, units);
    let letters: Vec<u16> = message.get("text").and_then(Value::as_str).unwrap_or_default().encode_utf16().collect();
    for (place, emoji) in found.list(message, at, "emojis", 0, 20).iter().enumerate() {
        let at = &format!("{at}.emojis[{place}]");
        emoji_ids(found, emoji, at);
        let index = emoji.get("index").and_then(Value::as_u64).and_then(|index| usize::try_from(index).ok());
        if index.and_then(|index| letters.get(index)).copied() != Some(u16::from(b'$')) {
            found.add(join(at, "index"), "the emoji placeholder '$' is not found");
        }
    }
}

fn emoji_ids(found: &mut Found, emoji: &Value, at: &str) {
    found.text(emoji, at, "productId", 100, units);
    found.text(emoji, at, "emojiId", 100, units);
}

pub(super) fn text_v2(found: &mut Found, message: &Value, at: &str) {
    found.text(message, at, "text", 5000, units);
    let none = Map::new();
    let parts = message.get("substitution").and_then(Value::as_object).unwrap_or(&none);
    if parts.len() > 100 {
        found.add(join(at, "substitution"), "Size must be between 0 and 100");
    }
    for (key, part) in parts {
        let at = &format!("{at}.substitution.{key}");
        if !is_key(key) {
            found.add(at.as_str(), "invalid key");
        }
        substitution(found, part, at);
    }
    let at = join(at, "text");
    let Some(keys) = keys(message.get("text").and_then(Value::as_str).unwrap_or_default()) else {
        return found.add(at, "invalid placeholder");
    };
    let (mut emojis, mut mentions) = (0, 0);
    for key in keys {
        match parts.get(&key).map(|part| part.get("type").and_then(Value::as_str)) {
            None => found.add(at.as_str(), format!("the key '{key}' is not in substitution")),
            Some(Some("emoji")) => emojis += 1,
            Some(_) => mentions += 1,
        }
    }
    if emojis > 20 || mentions > 20 {
        found.add(at, "too many emojis or mentions");
    }
}

fn substitution(found: &mut Found, part: &Value, at: &str) {
    match part.get("type").and_then(Value::as_str).unwrap_or_default() {
        "emoji" => emoji_ids(found, part, at),
        "mention" => {
            let at = &join(at, "mentionee");
            let Some(who) = part.get("mentionee") else {
                return found.add(at.as_str(), "May not be null");
            };
            match who.get("type").and_then(Value::as_str).unwrap_or_default() {
                "all" => {}
                "user" if who.get("userId").and_then(Value::as_str).is_some_and(is_user_id) => {}
                "user" => found.add(join(at, "userId"), "invalid user id"),
                _ => found.add(join(at, "type"), "Must be one of the following values: [user, all]"),
            }
        }
        _ => found.add(join(at, "type"), "Must be one of the following values: [mention, emoji]"),
    }
}

fn is_key(key: &str) -> bool {
    (1..=20).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The keys in single braces, once the double ones are gone; none where a brace is left over.
fn keys(text: &str) -> Option<Vec<String>> {
    let mut keys = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if !matches!(letter, '{' | '}') || letters.next_if_eq(&letter).is_some() {
            continue;
        }
        if letter == '}' {
            return None;
        }
        let mut key = String::new();
        loop {
            match letters.next()? {
                '}' => break,
                other => key.push(other),
            }
        }
        if !is_key(&key) {
            return None;
        }
        keys.push(key);
    }
    Some(keys)
}
