//! LINE's rules for what a tap does, in messages and rich menus alike.

use serde_json::Value;

use super::found::{Found, graphemes, join, units};

/// How an action's label is judged; the limit depends on where the action stands.
#[derive(Clone, Copy)]
pub(in crate::simulator) struct Label {
    pub max: usize,
    pub required: bool,
}

/// Checks a list of actions.
pub(super) fn actions(
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
pub(in crate::simulator) fn action(found: &mut Found, action: Option<&Value>, at: &str, label: Label) {
    let Some(action) = action.filter(|action| action.is_object()) else {
        return found.add(at, "must be specified");
    };
    if label.required {
        found.text(action, at, "label", label.max, graphemes);
    } else {
        found.optional_text(action, at, "label", label.max, graphemes);
    }
    match action.get("type").and_then(Value::as_str).unwrap_or_default() {
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
    let text = action.get("uri").and_then(Value::as_str).unwrap_or_default();
    let known = url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https" | "line" | "tel"));
    if !text.is_empty() && !known {
        found.add(join(at, "uri"), "invalid uri");
    }
}
