//! A message in English words, whatever its kind, and what its kind has beside. Without I/O.

use serde_json::{Map, Value};

/// LINE's message id, which is digits today; none where there is none that could be one.
pub(super) fn id(message: &Value) -> Option<String> {
    let id = message.get("id")?;
    let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
    is_id(&id).then_some(id)
}

/// Whether a text can be a message's id: it becomes part of a path at LINE.
pub(super) fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// LINE's type.
pub(super) fn kind(message: &Value) -> String {
    let kind: String = word(message, "type").chars().filter(|c| !c.is_control()).take(50).collect();
    if kind.is_empty() { "unknown".to_owned() } else { kind }
}

/// What was written, or a description in brackets.
pub(super) fn text(message: &Value) -> String {
    let kind = kind(message);
    let details = match kind.as_str() {
        "text" => return storable(word(message, "text")),
        "sticker" => sticker(message),
        "location" => location(message),
        "video" | "audio" => duration(message),
        "file" => file(message),
        _ => String::new(),
    };
    if details.is_empty() { format!("[{kind}]") } else { storable(&format!("[{kind}: {details}]")) }
}

/// All that LINE tells beside id, type and text.
pub(super) fn data(message: &Value) -> Map<String, Value> {
    let mut data = message.as_object().cloned().unwrap_or_default();
    for told_apart in ["id", "type", "text", super::EVENTS] {
        data.remove(told_apart);
    }
    data
}

/// Whether LINE holds a content of it. What lies elsewhere is never fetched: its address is the writer's choice.
pub(super) fn has_media(message: &Value) -> bool {
    let is_elsewhere = message.pointer("/contentProvider/type").is_some_and(|provider| provider != "line");
    ["image", "video", "audio", "file"].contains(&kind(message).as_str()) && !is_elsewhere
}

fn sticker(message: &Value) -> String {
    let written = word(message, "text");
    if !written.is_empty() {
        return written.to_owned();
    }
    let keywords = message.get("keywords").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    keywords.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

fn location(message: &Value) -> String {
    let place = |name: &str| message.get(name).and_then(Value::as_f64).map(|degrees| degrees.to_string());
    let named = |name: &str| Some(word(message, name).to_owned()).filter(|text| !text.is_empty());
    let parts = [named("title"), named("address"), place("latitude"), place("longitude")];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn duration(message: &Value) -> String {
    let milliseconds = message.get("duration").and_then(Value::as_u64);
    milliseconds.map(|milliseconds| format!("{} s", milliseconds.div_ceil(1000))).unwrap_or_default()
}

fn file(message: &Value) -> String {
    let size = message.get("fileSize").and_then(Value::as_u64).map(|bytes| format!("{bytes} bytes"));
    let name = Some(word(message, "fileName").to_owned()).filter(|name| !name.is_empty());
    name.into_iter().chain(size).collect::<Vec<_>>().join(", ")
}

fn word<'m>(message: &'m Value, name: &str) -> &'m str {
    message.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// PostgreSQL takes no NUL in a text; of control characters only the end of a line and the tab mean something.
fn storable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || ['\n', '\t'].contains(c)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_in_words() {
        let line = json!({ "type": "line" });
        let elsewhere = json!({ "type": "external", "originalContentUrl": "https://example.com/a.jpg" });
        // (message, text, media)
        for (message, expected, media) in [
            (json!({ "type": "text", "text": "a\u{0}b\r\nc\td\u{1b}" }), "ab\nc\td", false),
            (json!({ "type": "text" }), "", false),
            (
                json!({ "type": "sticker", "keywords": ["cony", "love"], "stickerId": "1" }),
                "[sticker: cony, love]",
                false,
            ),
            (json!({ "type": "sticker", "keywords": ["cony"], "text": "Hi!" }), "[sticker: Hi!]", false),
            (json!({ "type": "sticker", "keywords": [7] }), "[sticker]", false),
            (
                json!({ "type": "location", "title": "Office", "address": "Tokyo", "latitude": 35.5, "longitude": 139.25 }),
                "[location: Office, Tokyo, 35.5, 139.25]",
                false,
            ),
            (json!({ "type": "location", "latitude": 35.5, "longitude": -139 }), "[location: 35.5, -139]", false),
            (json!({ "type": "image", "contentProvider": line }), "[image]", true),
            (json!({ "type": "image", "contentProvider": elsewhere }), "[image]", false),
            (json!({ "type": "image" }), "[image]", true),
            (json!({ "type": "video", "duration": 60500, "contentProvider": line }), "[video: 61 s]", true),
            (json!({ "type": "audio", "duration": 3000, "contentProvider": line }), "[audio: 3 s]", true),
            (json!({ "type": "file", "fileName": "a.pdf", "fileSize": 2138 }), "[file: a.pdf, 2138 bytes]", true),
            (json!({ "type": "file", "fileName": 7, "fileSize": "x" }), "[file]", true),
            (json!({ "type": "hologram", "text": "x" }), "[hologram]", false),
            (json!({}), "[unknown]", false),
            (json!("text"), "[unknown]", false),
        ] {
            assert_eq!((text(&message).as_str(), has_media(&message)), (expected, media), "{message}");
        }
    }

    #[test]
    fn ids_and_what_is_beside() {
        let message =
            json!({ "id": "468789577898262530", "type": "text", "text": "a", "quoteToken": "q", "events": [1] });
        assert_eq!(id(&message).as_deref(), Some("468789577898262530"));
        assert_eq!(Value::Object(data(&message)), json!({ "quoteToken": "q" }));
        assert_eq!(id(&json!({ "id": 7 })).as_deref(), Some("7"));
        for wrong in [
            json!({}),
            json!({ "id": "" }),
            json!({ "id": "../1" }),
            json!({ "id": "1\u{0}" }),
            json!({ "id": null, "a": 1 }),
        ] {
            assert!(id(&wrong).is_none_or(|id| id == "null"), "{wrong}");
        }
    }
}
