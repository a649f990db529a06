//! Texts, their emoji, and the places of a text of version 2.

use serde_json::Value;

use super::found::{Found, Text, kind, value};
use crate::line::is_user_id;

const LONGEST: usize = 5000;
const MOST_EMOJI: usize = 20;
const MOST_MENTIONS: usize = 20;
const MOST_PLACES: usize = 100;

pub(super) fn plain(found: &mut Found, message: &Value, at: &str) {
    found.text(message, at, "text", Text::needed(LONGEST));
    found.text(message, at, "quoteToken", Text::optional(1000));
    if value(message, "emojis").is_none() {
        return;
    }
    let text: Vec<u16> = message.get("text").and_then(Value::as_str).unwrap_or_default().encode_utf16().collect();
    for (emoji, at) in found.list(message, at, "emojis", 0..=MOST_EMOJI) {
        found.text(emoji, &at, "productId", Text::needed(100));
        found.text(emoji, &at, "emojiId", Text::needed(100));
        let index = emoji.get("index").and_then(Value::as_u64).and_then(|index| usize::try_from(index).ok());
        if index.and_then(|index| text.get(index)) != Some(&u16::from(b'$')) {
            found.add(format!("{at}.index"), "must be the place of a $ in the text, in UTF-16 units");
        }
    }
}

pub(super) fn with_places(found: &mut Found, message: &Value, at: &str) {
    found.text(message, at, "text", Text::needed(LONGEST));
    found.text(message, at, "quoteToken", Text::optional(1000));
    let (fillings, fillings_at) = match found.object(message, at, "substitution") {
        Some((fillings, at)) => (fillings.as_object(), at),
        None => (None, format!("{at}.substitution")),
    };
    let fillings = fillings.into_iter().flatten();
    if fillings.clone().count() > MOST_PLACES {
        found.add(fillings_at.as_str(), format!("must hold {MOST_PLACES} entries or fewer"));
    }
    for (name, filling) in fillings.clone() {
        let at = format!("{fillings_at}.{name}");
        if !is_name(name) {
            found.add(at.as_str(), "must be named by 1 to 20 letters, digits or _");
        }
        check_filling(found, filling, &at);
    }
    let text = message.get("text").and_then(Value::as_str).unwrap_or_default();
    let Some(places) = places(text) else {
        return found.add(format!("{at}.text"), "has a brace that is neither doubled nor part of a {place}");
    };
    let kind_of =
        |place: &str| fillings.clone().find(|(name, _)| *name == place).map(|(_, filling)| filling.get("type"));
    let mut used = (0, 0);
    for place in &places {
        match kind_of(place) {
            None => found.add(format!("{at}.text"), format!("has the place {{{place}}}, which nothing fills")),
            Some(kind) if kind.and_then(Value::as_str) == Some("emoji") => used.0 += 1,
            Some(_) => used.1 += 1,
        }
    }
    if used.0 > MOST_EMOJI || used.1 > MOST_MENTIONS {
        found.add(format!("{at}.text"), "has more than 20 emoji or 20 mentions");
    }
}

fn check_filling(found: &mut Found, filling: &Value, at: &str) {
    match kind(filling) {
        "emoji" => {
            found.text(filling, at, "productId", Text::needed(100));
            found.text(filling, at, "emojiId", Text::needed(100));
        }
        "mention" => {
            let Some((who, at)) = found.needed_object(filling, at, "mentionee") else { return };
            match kind(who) {
                "all" => {}
                "user" if who.get("userId").and_then(Value::as_str).is_some_and(is_user_id) => {}
                "user" => found.add(format!("{at}.userId"), "must be a user id"),
                _ => found.unknown_kind(who, &at, "user, all"),
            }
        }
        _ => found.unknown_kind(filling, at, "emoji, mention"),
    }
}

fn is_name(name: &str) -> bool {
    (1..=20).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The names in braces; none where a brace stands alone.
fn places(text: &str) -> Option<Vec<&str>> {
    let mut places = Vec::new();
    let mut rest = text;
    while let Some(brace) = rest.find(['{', '}']) {
        let (mark, after) = (&rest[brace..=brace], &rest[brace + 1..]);
        if let Some(after) = after.strip_prefix(mark) {
            rest = after;
            continue;
        }
        let (name, after) = after.split_once('}').filter(|(name, _)| mark == "{" && is_name(name))?;
        places.push(name);
        rest = after;
    }
    Some(places)
}

#[cfg(test)]
mod tests {
    use super::places;

    #[test]
    fn places_in_braces() {
        for (text, expected) in [
            ("none", Some(vec![])),
            ("{a} and {b_2}{a}", Some(vec!["a", "b_2", "a"])),
            ("{{a}} {{{a}}}", Some(vec!["a"])),
            ("{a", None),
            ("a}", None),
            ("{a b}", None),
            ("{}", None),
        ] {
            assert_eq!(places(text), expected, "{text}");
        }
    }
}
