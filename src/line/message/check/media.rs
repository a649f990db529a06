//! Pictures, videos, sounds, places, and pictures with areas to tap.

use serde_json::Value;

use super::found::{Found, Text, kind, value};

const MOST: i64 = i32::MAX as i64;

pub(super) fn picture(found: &mut Found, message: &Value, at: &str) {
    found.url(message, at, "originalContentUrl", true);
    found.url(message, at, "previewImageUrl", true);
}

pub(super) fn video(found: &mut Found, message: &Value, at: &str) {
    picture(found, message, at);
    found.text(message, at, "trackingId", Text::optional(100).filled());
}

pub(super) fn audio(found: &mut Found, message: &Value, at: &str) {
    found.url(message, at, "originalContentUrl", true);
    found.whole(message, at, "duration", 1..=i64::MAX);
}

pub(super) fn location(found: &mut Found, message: &Value, at: &str) {
    found.text(message, at, "title", Text::needed(100));
    found.text(message, at, "address", Text::needed(100));
    for (name, most) in [("latitude", 90.0), ("longitude", 180.0)] {
        if !message.get(name).and_then(Value::as_f64).is_some_and(|degrees| (-most..=most).contains(&degrees)) {
            found.add(format!("{at}.{name}"), format!("must be a number from -{most} to {most}"));
        }
    }
}

pub(super) fn imagemap(found: &mut Found, message: &Value, at: &str) {
    found.url(message, at, "baseUrl", true);
    found.text(message, at, "altText", Text::needed(1500));
    if let Some((size, at)) = found.needed_object(message, at, "baseSize") {
        found.whole(size, &at, "width", 1040..=1040);
        found.whole(size, &at, "height", 1..=MOST);
    }
    for (spot, at) in found.list(message, at, "actions", 1..=50) {
        found.text(spot, &at, "label", Text::optional(100));
        match kind(spot) {
            "uri" => found.link(spot, &at, "linkUri", Text::needed(1000)),
            "message" => found.text(spot, &at, "text", Text::needed(400)),
            "clipboard" => found.text(spot, &at, "clipboardText", Text::needed(1000)),
            _ => found.unknown_kind(spot, &at, "uri, message, clipboard"),
        }
        area(found, spot, &at);
    }
    if let Some((video, at)) = found.object(message, at, "video") {
        picture(found, video, &at);
        area(found, video, &at);
        if let Some((link, at)) = found.object(video, &at, "externalLink") {
            found.link(link, &at, "linkUri", Text::needed(1000));
            found.text(link, &at, "label", Text::needed(30));
        }
    }
}

fn area(found: &mut Found, holder: &Value, at: &str) {
    let Some((area, at)) = found.needed_object(holder, at, "area") else { return };
    for (name, least) in [("x", 0), ("y", 0), ("width", 1), ("height", 1)] {
        found.whole(area, &at, name, least..=MOST);
    }
    let reaches =
        |from: &str, size: &str| Some(value(area, from)?.as_i64()?.saturating_add(value(area, size)?.as_i64()?));
    if reaches("x", "width").is_some_and(|edge| edge > 1040) {
        found.add(at, "reaches beyond the picture's width of 1040");
    }
}
