//! LINE's rules for a Flex message: sizes, the container, and each component by what it cannot do without.

use serde_json::Value;

use super::{
    action::{Label, action},
    found::{Found, join, units},
};

const BUBBLE_BYTES: usize = 30 * 1024;
const CAROUSEL_BYTES: usize = 50 * 1024;

pub(super) fn check(found: &mut Found, message: &Value, at: &str) {
    found.text(message, at, "altText", 1500, units);
    let at = &join(at, "contents");
    let Some(container) = message.get("contents").filter(|c| c.is_object()) else {
        return found.add(at.as_str(), "must be specified");
    };
    let bytes = container.to_string().len();
    match kind(container) {
        "bubble" => bubble(found, container, at),
        "carousel" => {
            if bytes > CAROUSEL_BYTES {
                found.add(at.as_str(), "The carousel exceeds 50 KB");
            }
            for (place, one) in found.list(container, at, "contents", 1, 12).iter().enumerate() {
                bubble(found, one, &format!("{at}.contents[{place}]"));
            }
        }
        _ => found.add(join(at, "type"), "Must be one of the following values: [bubble, carousel]"),
    }
}

fn kind(value: &Value) -> &str {
    value.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn bubble(found: &mut Found, bubble: &Value, at: &str) {
    if kind(bubble) != "bubble" {
        return found.add(join(at, "type"), "Must be one of the following values: [bubble]");
    }
    if bubble.to_string().len() > BUBBLE_BYTES {
        found.add(at, "The bubble exceeds 30 KB");
    }
    let sizes = ["nano", "micro", "deca", "hecto", "kilo", "mega", "giga"];
    if bubble.get("size").is_some_and(|size| !size.as_str().is_some_and(|s| sizes.contains(&s))) {
        found.add(join(at, "size"), format!("Must be one of the following values: {sizes:?}"));
    }
    for block in ["header", "body", "footer"] {
        if let Some(content) = bubble.get(block) {
            if kind(content) == "box" {
                component(found, content, &join(at, block));
            } else {
                found.add(join(at, block), "must be a box");
            }
        }
    }
    if let Some(hero) = bubble.get("hero") {
        component(found, hero, &join(at, "hero"));
    }
    optional_action(found, bubble, at);
}

fn component(found: &mut Found, part: &Value, at: &str) {
    match kind(part) {
        "box" => {
            let layout = part.get("layout").and_then(Value::as_str);
            if !matches!(layout, Some("horizontal" | "vertical" | "baseline")) {
                let text = "Must be one of the following values: [horizontal, vertical, baseline]";
                found.add(join(at, "layout"), text);
            }
            match part.get("contents").and_then(Value::as_array) {
                None => found.add(join(at, "contents"), "must be specified"),
                Some(parts) => {
                    for (place, one) in parts.iter().enumerate() {
                        component(found, one, &format!("{at}.contents[{place}]"));
                    }
                }
            }
        }
        "text" => {
            let spans = part.get("contents").and_then(Value::as_array);
            if spans.is_none_or(Vec::is_empty) {
                filled(found, part, at, "text");
            }
        }
        "button" => {
            let label = Label { max: 40, required: true };
            return action(found, part.get("action"), &join(at, "action"), label);
        }
        "image" | "icon" => found.media_url(part, at, "url"),
        "video" => {
            found.media_url(part, at, "url");
            found.media_url(part, at, "previewUrl");
        }
        "span" => filled(found, part, at, "text"),
        "separator" | "filler" => {}
        _ => found.add(join(at, "type"), "unknown component type"),
    }
    optional_action(found, part, at);
}

fn filled(found: &mut Found, part: &Value, at: &str, name: &str) {
    if part.get(name).and_then(Value::as_str).is_none_or(str::is_empty) {
        found.add(join(at, name), "must be non-empty text");
    }
}

fn optional_action(found: &mut Found, holder: &Value, at: &str) {
    if holder.get("action").is_some() {
        let label = Label { max: 40, required: false };
        action(found, holder.get("action"), &join(at, "action"), label);
    }
}
