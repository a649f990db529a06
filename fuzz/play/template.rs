//! What is done with any bytes as a template: by the fuzz target, and by the test that replays its corpus.

use jiff::tz::TimeZone;
use musubi::{
    flex::{Context, LANGUAGES, Template, preview},
    line::message::check,
};
use serde_json::Value;

/// Takes `[template, data]`, or a template alone, as JSON. What it gives is a list of message objects, whatever the
/// data holds, and drawing them makes no markup of theirs. Tells in how many languages it gave one.
pub fn play(bytes: &[u8]) -> usize {
    serde_json::from_slice(bytes).map_or(0, |json| play_json(&json))
}

pub fn play_json(json: &Value) -> usize {
    let (file, data) = match json.as_array().map(Vec::as_slice) {
        Some([file, data @ Value::Object(_)]) if data.get("type").is_none() => (file, data),
        _ => (json, &Value::Null),
    };
    let Ok(template) = Template::compile(file) else { return 0 };
    let mut rendered = 0;
    for locale in LANGUAGES {
        let Ok(text) = template.render(data, &Context { zone: &TimeZone::UTC, locale }) else { continue };
        let messages: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
        assert!((1..=5).contains(&messages.len()) && messages.iter().all(Value::is_object), "{text}");
        check::check(&messages);
        for message in &messages {
            let html = preview::draw(&message["contents"], &|_| preview::Tap::Nothing);
            assert!(!html.contains("<script") && !html.contains("=\"javascript:"), "{html}");
        }
        rendered += 1;
    }
    rendered
}
