//! LINE's rules for a push body. Every breach is named with its place, as `messages[0].text`.
//!
//! Lengths are UTF-16 code units, except labels, titles and other short texts, which are grapheme clusters.

use axum::response::Response;
use serde_json::Value;

use super::flex;
use crate::simulator::answer::{self, Detail};

const TYPES: &str =
    "[text, textV2, sticker, image, video, audio, location, imagemap, template, flex, coupon]";

/// The breaches found in one body.
#[derive(Default)]
pub(in crate::simulator) struct Found(pub Vec<Detail>);

impl Found {
    pub fn add(&mut self, property: impl Into<String>, message: impl Into<String>) {
        self.0.push(Detail {
            message: message.into(),
            property: property.into(),
        });
    }

    /// A text that must be there, not empty, and not longer than `max` by `measure`.
    pub fn text(
        &mut self,
        holder: &Value,
        at: &str,
        name: &str,
        max: usize,
        measure: fn(&str) -> usize,
    ) {
        match holder.get(name) {
            None | Some(Value::Null) => self.add(join(at, name), "May not be empty"),
            Some(Value::String(text)) if text.is_empty() => {
                self.add(join(at, name), "May not be empty");
            }
            Some(_) => self.optional_text(holder, at, name, max, measure),
        }
    }

    /// A text that may be absent.
    pub fn optional_text(
        &mut self,
        holder: &Value,
        at: &str,
        name: &str,
        max: usize,
        measure: fn(&str) -> usize,
    ) {
        match holder.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if measure(text) <= max => {}
            Some(Value::String(_)) => {
                self.add(
                    join(at, name),
                    format!("Length must be between 0 and {max}"),
                );
            }
            Some(_) => self.add(join(at, name), "must be a string"),
        }
    }

    /// A URL that must be there, and https (plain http only on this machine).
    pub fn media_url(&mut self, holder: &Value, at: &str, name: &str) {
        self.text(holder, at, name, 2000, units);
        let url = holder.get(name).and_then(Value::as_str).unwrap_or_default();
        if !url.is_empty() && !is_secure(url) {
            self.add(join(at, name), "Must be a valid HTTPS URL");
        }
    }

    /// A list with so many entries; gives them.
    pub fn list<'v>(
        &mut self,
        holder: &'v Value,
        at: &str,
        name: &str,
        min: usize,
        max: usize,
    ) -> &'v [Value] {
        let list = holder.get(name).and_then(Value::as_array);
        match list {
            Some(list) if (min..=max).contains(&list.len()) => list,
            Some(_) => {
                self.add(
                    join(at, name),
                    format!("Size must be between {min} and {max}"),
                );
                &[]
            }
            None => {
                if min > 0 || holder.get(name).is_some() {
                    self.add(join(at, name), "May not be empty");
                }
                &[]
            }
        }
    }
}

/// UTF-16 code units.
pub(in crate::simulator) fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Grapheme clusters, near enough for labels: marks, joiners, variation selectors, skin tones and the second half of a
/// flag belong to what stands before them.
pub(in crate::simulator) fn graphemes(text: &str) -> usize {
    let mut count = 0;
    let (mut joined, mut half_flag) = (false, false);
    for letter in text.chars() {
        let flag = ('\u{1f1e6}'..='\u{1f1ff}').contains(&letter);
        let extends = matches!(letter,
            '\u{300}'..='\u{36f}' | '\u{e31}' | '\u{e34}'..='\u{e3a}' | '\u{e47}'..='\u{e4e}'
            | '\u{200d}' | '\u{20d0}'..='\u{20ff}' | '\u{3099}' | '\u{309a}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}' | '\u{e0020}'..='\u{e007f}');
        let second_half = flag && half_flag;
        if !(extends || joined || second_half) {
            count += 1;
        }
        joined = letter == '\u{200d}';
        half_flag = flag && !half_flag;
    }
    count
}

fn is_secure(url: &str) -> bool {
    url::Url::parse(url).is_ok_and(|url| {
        url.scheme() == "https"
            || (url.scheme() == "http"
                && matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")))
    })
}

pub(in crate::simulator) fn join(at: &str, name: &str) -> String {
    if at.is_empty() {
        name.to_owned()
    } else {
        format!("{at}.{name}")
    }
}

/// Checks a push body as a whole.
#[expect(clippy::result_large_err, reason = "the error is the answer itself")]
pub(super) fn push(body: &Value) -> Result<(), Response> {
    let to = body.get("to").and_then(Value::as_str).unwrap_or_default();
    if !is_recipient(to) {
        return Err(answer::invalid_property("to"));
    }
    if !matches!(
        body.get("notificationDisabled"),
        None | Some(Value::Null | Value::Bool(_))
    ) {
        return Err(answer::invalid_property("notificationDisabled"));
    }
    if !matches!(
        body.get("messages"),
        None | Some(Value::Null | Value::Array(_))
    ) {
        return Err(answer::invalid_property("messages"));
    }
    let mut found = Found::default();
    units_of(&mut found, body);
    let size = body
        .get("messages")
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    if !(1..=5).contains(&size) {
        found.add("messages", "Size must be between 1 and 5");
    } else {
        for (place, message) in found_messages(body).iter().enumerate() {
            check(&mut found, message, &format!("messages[{place}]"));
        }
    }
    if found.0.is_empty() {
        Ok(())
    } else {
        Err(answer::details(&found.0))
    }
}

fn found_messages(body: &Value) -> &[Value] {
    body.get("messages")
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// A user, group or room id: a letter and 32 hex digits.
fn is_recipient(to: &str) -> bool {
    let mut letters = to.bytes();
    matches!(letters.next(), Some(b'U' | b'C' | b'R'))
        && letters.len() == 32
        && letters.all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// At most one aggregation unit, of a narrow alphabet.
fn units_of(found: &mut Found, body: &Value) {
    for unit in found.list(body, "", "customAggregationUnits", 0, 1) {
        let fits = unit.as_str().is_some_and(|name| {
            (1..=30).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        });
        if !fits {
            found.add(
                "customAggregationUnits[0]",
                "must be 1 to 30 letters, digits or _",
            );
        }
    }
}

fn check(found: &mut Found, message: &Value, at: &str) {
    let kind = message
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    match kind {
        "text" | "textV2" => found.text(message, at, "text", 5000, units),
        "sticker" => {
            found.text(message, at, "packageId", 50, units);
            found.text(message, at, "stickerId", 50, units);
        }
        "image" | "video" => {
            found.media_url(message, at, "originalContentUrl");
            found.media_url(message, at, "previewImageUrl");
        }
        "audio" => {
            found.media_url(message, at, "originalContentUrl");
            if message.get("duration").and_then(Value::as_u64).is_none() {
                found.add(join(at, "duration"), "May not be null");
            }
        }
        "location" => location(found, message, at),
        "imagemap" => {
            found.media_url(message, at, "baseUrl");
            found.text(message, at, "altText", 1500, units);
            found.list(message, at, "actions", 1, 50);
        }
        "template" => template(found, message, at),
        "flex" => flex::check(found, message, at),
        "coupon" => found.text(message, at, "couponId", 100, units),
        _ => {
            let text = format!("Must be one of the following values: {TYPES}");
            found.add(join(at, "type"), text);
        }
    }
    common(found, message, at);
}

/// What every type may carry: quick replies and a sender.
fn common(found: &mut Found, message: &Value, at: &str) {
    if let Some(quick) = message.get("quickReply") {
        let at = join(at, "quickReply");
        for (place, item) in found.list(quick, &at, "items", 1, 13).iter().enumerate() {
            let at = format!("{at}.items[{place}].action");
            action(
                found,
                item.get("action"),
                &at,
                Label {
                    max: 20,
                    required: true,
                },
            );
        }
    }
    if let Some(sender) = message.get("sender") {
        found.optional_text(sender, &join(at, "sender"), "name", 20, units);
    }
}

fn location(found: &mut Found, message: &Value, at: &str) {
    found.text(message, at, "title", 100, units);
    found.text(message, at, "address", 100, units);
    for name in ["latitude", "longitude"] {
        if message.get(name).and_then(Value::as_f64).is_none() {
            found.add(join(at, name), "May not be null");
        }
    }
}

fn template(found: &mut Found, message: &Value, at: &str) {
    found.text(message, at, "altText", 1500, units);
    let at = &join(at, "template");
    let Some(template) = message.get("template") else {
        return found.add(at.as_str(), "May not be null");
    };
    let label = Label {
        max: 20,
        required: true,
    };
    match template
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default()
    {
        "buttons" => {
            let narrow =
                template.get("title").is_some() || template.get("thumbnailImageUrl").is_some();
            found.optional_text(template, at, "title", 40, graphemes);
            found.text(
                template,
                at,
                "text",
                if narrow { 60 } else { 160 },
                graphemes,
            );
            actions(found, template, at, 1..=4, label);
        }
        "confirm" => {
            found.text(template, at, "text", 240, graphemes);
            actions(found, template, at, 2..=2, label);
        }
        "carousel" => {
            for (place, column) in found
                .list(template, at, "columns", 1, 10)
                .iter()
                .enumerate()
            {
                let at = &format!("{at}.columns[{place}]");
                let narrow =
                    column.get("title").is_some() || column.get("thumbnailImageUrl").is_some();
                found.optional_text(column, at, "title", 40, graphemes);
                found.text(column, at, "text", if narrow { 60 } else { 120 }, graphemes);
                actions(found, column, at, 1..=3, label);
            }
        }
        "image_carousel" => {
            for (place, column) in found
                .list(template, at, "columns", 1, 10)
                .iter()
                .enumerate()
            {
                let at = &format!("{at}.columns[{place}]");
                found.media_url(column, at, "imageUrl");
                let label = Label {
                    max: 12,
                    required: false,
                };
                action(found, column.get("action"), &join(at, "action"), label);
            }
        }
        _ => found.add(
            join(at, "type"),
            "Must be one of the following values: [buttons, confirm, carousel, image_carousel]",
        ),
    }
}

/// How an action's label is judged; the limit depends on where the action stands.
#[derive(Clone, Copy)]
pub(in crate::simulator) struct Label {
    pub max: usize,
    pub required: bool,
}

fn actions(
    found: &mut Found,
    holder: &Value,
    at: &str,
    size: std::ops::RangeInclusive<usize>,
    label: Label,
) {
    let list = found.list(holder, at, "actions", *size.start(), *size.end());
    for (place, one) in list.iter().enumerate() {
        action(found, Some(one), &format!("{at}.actions[{place}]"), label);
    }
}

/// Checks one action.
pub(in crate::simulator) fn action(
    found: &mut Found,
    action: Option<&Value>,
    at: &str,
    label: Label,
) {
    let Some(action) = action.filter(|action| action.is_object()) else {
        return found.add(at, "must be specified");
    };
    if label.required {
        found.text(action, at, "label", label.max, graphemes);
    } else {
        found.optional_text(action, at, "label", label.max, graphemes);
    }
    match action
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default()
    {
        "uri" => uri(found, action, at),
        "postback" => {
            found.text(action, at, "data", 300, units);
            found.optional_text(action, at, "displayText", 300, graphemes);
            found.optional_text(action, at, "fillInText", 300, graphemes);
        }
        "message" => found.text(action, at, "text", 300, graphemes),
        "datetimepicker" => {
            found.text(action, at, "data", 300, units);
            let mode = action.get("mode").and_then(Value::as_str);
            if !matches!(mode, Some("date" | "time" | "datetime")) {
                let text = "Must be one of the following values: [date, time, datetime]";
                found.add(join(at, "mode"), text);
            }
        }
        "richmenuswitch" => {
            found.text(action, at, "richMenuAliasId", 32, units);
            found.text(action, at, "data", 300, units);
        }
        "clipboard" => found.text(action, at, "clipboardText", 1000, units),
        "camera" | "cameraRoll" | "location" => {}
        _ => found.add(join(at, "type"), "invalid action type"),
    }
}

fn uri(found: &mut Found, action: &Value, at: &str) {
    found.text(action, at, "uri", 1000, units);
    let text = action
        .get("uri")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let known = url::Url::parse(text)
        .is_ok_and(|url| matches!(url.scheme(), "http" | "https" | "line" | "tel"));
    if !text.is_empty() && !known {
        found.add(join(at, "uri"), "invalid uri");
    }
}

#[cfg(test)]
mod tests {
    use super::{graphemes, units};

    #[test]
    fn lengths() {
        assert_eq!(units("a😀"), 3);
        assert_eq!(graphemes("a😀"), 2);
        assert_eq!(graphemes("👨‍👩‍👧"), 1);
        assert_eq!(graphemes("🇯🇵🇹🇭"), 2);
        assert_eq!(graphemes("か\u{3099}"), 1);
    }
}
