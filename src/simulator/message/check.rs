//! LINE's rules for a body, and for each type of message.

mod template;
mod text;

use axum::response::Response;
use serde_json::Value;

use super::{
    action::{Label, Place, action},
    flex,
    found::{Found, join, units},
};
use crate::simulator::{answer, state::is_user_id};

const TYPES: &str = "[text, textV2, sticker, image, video, audio, location, imagemap, template, flex, coupon]";
const MOST_PEOPLE: usize = 500;

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

/// Checks a multicast body as a whole.
#[expect(clippy::result_large_err, reason = "the error is the answer itself")]
pub(super) fn multicast(body: &Value) -> Result<(), Response> {
    let Some(to) = body.get("to").and_then(Value::as_array) else {
        return Err(answer::invalid_property("to"));
    };
    let mut found = Found::default();
    if !(1..=MOST_PEOPLE).contains(&to.len()) {
        found.add("to", format!("Size must be between 1 and {MOST_PEOPLE}"));
    }
    if let Some(place) = to.iter().position(|id| !id.as_str().is_some_and(is_user_id)) {
        return Err(answer::invalid_property(&format!("to[{place}]")));
    }
    units_of(&mut found, body);
    messages(body, found)
}

/// Checks what all bodies have in common.
#[expect(clippy::result_large_err, reason = "the error is the answer itself")]
pub(super) fn messages(body: &Value, mut found: Found) -> Result<(), Response> {
    if !matches!(body.get("notificationDisabled"), None | Some(Value::Null | Value::Bool(_))) {
        return Err(answer::invalid_property("notificationDisabled"));
    }
    if !matches!(body.get("messages"), None | Some(Value::Null | Value::Array(_))) {
        return Err(answer::invalid_property("messages"));
    }
    if !(1..=5).contains(&list(body).len()) {
        found.add("messages", "Size must be between 1 and 5");
    } else {
        for (place, message) in list(body).iter().enumerate() {
            check(&mut found, message, &format!("messages[{place}]"));
        }
    }
    if found.0.is_empty() { Ok(()) } else { Err(answer::details(&found.0)) }
}

/// The messages of a body.
pub(super) fn list(body: &Value) -> &[Value] {
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
    match message.get("type").and_then(Value::as_str).unwrap_or_default() {
        "text" => text::text(found, message, at),
        "textV2" => text::text_v2(found, message, at),
        "sticker" => {
            found.text(message, at, "packageId", 50, units);
            found.text(message, at, "stickerId", 50, units);
        }
        "image" => media(found, message, at),
        "video" => {
            media(found, message, at);
            found.optional_text(message, at, "trackingId", 100, units);
        }
        "audio" => {
            found.media_url(message, at, "originalContentUrl");
            found.number(message, at, "duration", 1, i64::MAX);
        }
        "location" => location(found, message, at),
        "imagemap" => imagemap(found, message, at),
        "template" => template::template(found, message, at),
        "flex" => flex::check(found, message, at),
        "coupon" => {
            found.text(message, at, "couponId", 100, units);
            found.optional_text(message, at, "deliveryTag", 30, units);
        }
        _ => found.add(join(at, "type"), format!("Must be one of the following values: {TYPES}")),
    }
    common(found, message, at);
}

/// What every type may carry: quick replies and a sender.
fn common(found: &mut Found, message: &Value, at: &str) {
    if let Some(quick) = message.get("quickReply").filter(|quick| !quick.is_null()) {
        let at = join(at, "quickReply");
        for (place, item) in found.list(quick, &at, "items", 1, 13).iter().enumerate() {
            let at = format!("{at}.items[{place}]");
            found.optional_media_url(item, &at, "imageUrl");
            let label = Label { max: 20, required: true, place: Place::QuickReply };
            action(found, item.get("action"), &join(&at, "action"), label);
        }
    }
    if let Some(sender) = message.get("sender").filter(|sender| !sender.is_null()) {
        let at = join(at, "sender");
        found.optional_text(sender, &at, "name", 20, units);
        // Which other words are forbidden is not told.
        if sender.get("name").and_then(Value::as_str).is_some_and(|name| name.is_empty() || name.contains("LINE")) {
            found.add(join(&at, "name"), "invalid sender name");
        }
        found.optional_media_url(sender, &at, "iconUrl");
    }
}

fn media(found: &mut Found, message: &Value, at: &str) {
    found.media_url(message, at, "originalContentUrl");
    found.media_url(message, at, "previewImageUrl");
}

fn location(found: &mut Found, message: &Value, at: &str) {
    found.text(message, at, "title", 100, units);
    found.text(message, at, "address", 100, units);
    for (name, most) in [("latitude", 90.0), ("longitude", 180.0)] {
        match message.get(name).and_then(Value::as_f64) {
            None => found.add(join(at, name), "May not be null"),
            Some(degrees) if degrees.abs() > most => {
                found.add(join(at, name), format!("Must be between -{most} and {most}"));
            }
            Some(_) => {}
        }
    }
}

fn imagemap(found: &mut Found, message: &Value, at: &str) {
    found.media_url(message, at, "baseUrl");
    found.text(message, at, "altText", 1500, units);
    let size = message.get("baseSize").unwrap_or(&Value::Null);
    found.number(size, &join(at, "baseSize"), "width", 1040, 1040);
    found.number(size, &join(at, "baseSize"), "height", 1, i64::from(i32::MAX));
    for (place, spot) in found.list(message, at, "actions", 1, 50).iter().enumerate() {
        let at = &format!("{at}.actions[{place}]");
        match spot.get("type").and_then(Value::as_str).unwrap_or_default() {
            "uri" => found.uri(spot, at, "linkUri"),
            "message" => found.text(spot, at, "text", 400, units),
            "clipboard" => found.text(spot, at, "clipboardText", 1000, units),
            _ => found.add(join(at, "type"), "Must be one of the following values: [message, uri, clipboard]"),
        }
        area(found, spot, at);
    }
    if let Some(video) = message.get("video").filter(|video| !video.is_null()) {
        let at = &join(at, "video");
        media(found, video, at);
        area(found, video, at);
        if let Some(link) = video.get("externalLink").filter(|link| !link.is_null()) {
            found.uri(link, &join(at, "externalLink"), "linkUri");
            found.text(link, &join(at, "externalLink"), "label", 30, units);
        }
    }
}

fn area(found: &mut Found, holder: &Value, at: &str) {
    let area = holder.get("area").unwrap_or(&Value::Null);
    let at = &join(at, "area");
    for (name, least) in [("x", 0), ("y", 0), ("width", 1), ("height", 1)] {
        found.number(area, at, name, least, i64::from(i32::MAX));
    }
}
