//! LINE's rules for a push body, and for each type of message.

use axum::response::Response;
use serde_json::Value;

use super::{
    action::{Label, action, actions},
    flex,
    found::{Found, graphemes, join, units},
};
use crate::simulator::answer;

const TYPES: &str = "[text, textV2, sticker, image, video, audio, location, imagemap, template, flex, coupon]";

/// Checks a push body as a whole.
#[expect(clippy::result_large_err, reason = "the error is the answer itself")]
pub(super) fn push(body: &Value) -> Result<(), Response> {
    let to = body.get("to").and_then(Value::as_str).unwrap_or_default();
    if !is_recipient(to) {
        return Err(answer::invalid_property("to"));
    }
    let mut found = Found::default();
    units_of(&mut found, body);
    messages(body, found)
}

/// Checks what a reply has in common with a push.
#[expect(clippy::result_large_err, reason = "the error is the answer itself")]
pub(super) fn messages(body: &Value, mut found: Found) -> Result<(), Response> {
    if !matches!(body.get("notificationDisabled"), None | Some(Value::Null | Value::Bool(_))) {
        return Err(answer::invalid_property("notificationDisabled"));
    }
    if !matches!(body.get("messages"), None | Some(Value::Null | Value::Array(_))) {
        return Err(answer::invalid_property("messages"));
    }
    let size = body.get("messages").and_then(Value::as_array).map_or(0, Vec::len);
    if !(1..=5).contains(&size) {
        found.add("messages", "Size must be between 1 and 5");
    } else {
        for (place, message) in found_messages(body).iter().enumerate() {
            check(&mut found, message, &format!("messages[{place}]"));
        }
    }
    if found.0.is_empty() { Ok(()) } else { Err(answer::details(&found.0)) }
}

fn found_messages(body: &Value) -> &[Value] {
    body.get("messages").and_then(Value::as_array).map_or(&[], Vec::as_slice)
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
            (1..=30).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        });
        if !fits {
            found.add("customAggregationUnits[0]", "must be 1 to 30 letters, digits or _");
        }
    }
}

fn check(found: &mut Found, message: &Value, at: &str) {
    let kind = message.get("type").and_then(Value::as_str).unwrap_or_default();
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
            action(found, item.get("action"), &at, Label { max: 20, required: true });
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
    let label = Label { max: 20, required: true };
    match template.get("type").and_then(Value::as_str).unwrap_or_default() {
        "buttons" => {
            let narrow = template.get("title").is_some() || template.get("thumbnailImageUrl").is_some();
            found.optional_text(template, at, "title", 40, graphemes);
            found.text(template, at, "text", if narrow { 60 } else { 160 }, graphemes);
            actions(found, template, at, 1..=4, label);
        }
        "confirm" => {
            found.text(template, at, "text", 240, graphemes);
            actions(found, template, at, 2..=2, label);
        }
        "carousel" => {
            for (place, column) in found.list(template, at, "columns", 1, 10).iter().enumerate() {
                let at = &format!("{at}.columns[{place}]");
                let narrow = column.get("title").is_some() || column.get("thumbnailImageUrl").is_some();
                found.optional_text(column, at, "title", 40, graphemes);
                found.text(column, at, "text", if narrow { 60 } else { 120 }, graphemes);
                actions(found, column, at, 1..=3, label);
            }
        }
        "image_carousel" => {
            for (place, column) in found.list(template, at, "columns", 1, 10).iter().enumerate() {
                let at = &format!("{at}.columns[{place}]");
                found.media_url(column, at, "imageUrl");
                let label = Label { max: 12, required: false };
                action(found, column.get("action"), &join(at, "action"), label);
            }
        }
        _ => found
            .add(join(at, "type"), "Must be one of the following values: [buttons, confirm, carousel, image_carousel]"),
    }
}
