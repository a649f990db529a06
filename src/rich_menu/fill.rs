//! LINE's object as a file has it: in one language, with what the configuration says in its places.

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::{
    config::Config,
    flex::{self, Mistake},
};

/// Of LINE's own JSON, what LINE is to be told.
pub(super) fn from_json(object: &Value) -> Value {
    pick(object, &["size", "selected", "chatBarText", "areas"])
}

/// Of a file's keys, in a language.
pub(super) fn from_toml(file: &Value, language: &str) -> Value {
    let mut object = pick(file, &["size", "selected", "areas"]);
    if let Some(text) = file.get("chat_bar_text") {
        object["chatBarText"] = in_language(text, language).clone();
    }
    for action in object["areas"].as_array_mut().into_iter().flatten().filter_map(|area| area.get_mut("action")) {
        for (name, value) in action.as_object_mut().into_iter().flatten() {
            if name != "altUri" {
                *value = in_language(value, language).clone();
            }
        }
    }
    object
}

/// With the placeholders filled.
pub(super) fn fill(config: &Config, template: &Value) -> Result<Value, Vec<Mistake>> {
    let data = json!({ "public_url": config.url(""), "company": config.company });
    let context = flex::Context { zone: &TimeZone::UTC, locale: &config.default_locale };
    flex::fill(template, &data, &context).map_err(|found| {
        let fails = |text: &Value| flex::fill(text, &data, &context).is_err();
        // What has no value is told of the whole: the text alone tells its place.
        let placed = |one: Mistake| match one.path.is_empty() {
            true => Mistake { path: find_text(template, "", &fails).unwrap_or_default(), ..one },
            false => one,
        };
        found.into_iter().map(placed).collect()
    })
}

/// What stands in a language, where it is written by language.
pub(super) fn in_language<'v>(value: &'v Value, language: &str) -> &'v Value {
    value.as_object().and_then(|table| table.get(language)).unwrap_or(value)
}

/// These properties of an object; `selected` is false where it is not said.
fn pick(object: &Value, names: &[&str]) -> Value {
    let mut picked = json!({ "selected": false });
    for name in names {
        if let Some(value) = object.get(name) {
            picked[*name] = value.clone();
        }
    }
    picked
}

/// The path of the first text of which this holds.
fn find_text(value: &Value, path: &str, holds: &dyn Fn(&Value) -> bool) -> Option<String> {
    match value {
        Value::Object(parts) => {
            let at = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            parts.iter().find_map(|(name, part)| find_text(part, &at(name), holds))
        }
        Value::Array(parts) => {
            parts.iter().enumerate().find_map(|(place, part)| find_text(part, &format!("{path}[{place}]"), holds))
        }
        Value::String(_) => holds(value).then(|| path.to_owned()),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}
