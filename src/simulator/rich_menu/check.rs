//! LINE's rules for a rich menu object. Only documented fields are kept and answered.

use axum::{body::Bytes, http::HeaderMap, response::Response};
use serde_json::{Map, Value, json};

use crate::simulator::{
    answer,
    message::{
        action::{Label, Place, action},
        found::{Found, graphemes, join},
    },
};

/// Reads and checks a rich menu object; gives it in the shape in which LINE answers it.
#[expect(clippy::result_large_err, reason = "the error is the answer itself")]
pub(super) fn read(headers: &HeaderMap, body: &Bytes) -> Result<Map<String, Value>, Response> {
    let menu: Value = answer::read_json(headers, body)?;
    let mut found = Found::default();
    size(&mut found, menu.get("size"));
    if !menu.get("selected").is_some_and(Value::is_boolean) {
        found.add("selected", "must be specified");
    }
    text(&mut found, &menu, "name", 300);
    text(&mut found, &menu, "chatBarText", 14);
    areas(&mut found, &menu);
    if !found.0.is_empty() {
        return Err(answer::details(&found.0));
    }
    let mut object = Map::new();
    for name in ["size", "selected", "name", "chatBarText", "areas"] {
        object.insert(name.to_owned(), menu.get(name).cloned().unwrap_or_else(|| json!([])));
    }
    Ok(object)
}

fn text(found: &mut Found, menu: &Value, name: &str, max: usize) {
    match menu.get(name).and_then(Value::as_str) {
        None | Some("") => found.add(name, "must be specified"),
        Some(_) => found.text(menu, "", name, max, graphemes),
    }
}

fn size(found: &mut Found, size: Option<&Value>) {
    let side = |name: &str| size.and_then(|size| size.get(name)).and_then(Value::as_u64);
    let (Some(width), Some(height)) = (side("width"), side("height")) else {
        return found.add("size", "must be specified");
    };
    if !(800..=2500).contains(&width) {
        found.add("size.width", "must be between 800 and 2500");
    }
    // width / height >= 1.45
    if height < 250 || width * 100 < height * 145 {
        found.add("size.height", "must be at least 250 and at most the width divided by 1.45");
    }
}

fn areas(found: &mut Found, menu: &Value) {
    for (place, area) in found.list(menu, "", "areas", 0, 20).iter().enumerate() {
        let at = format!("areas[{place}]");
        let bounds = area.get("bounds").cloned().unwrap_or_default();
        for (name, least) in [("x", 0), ("y", 0), ("width", 1), ("height", 1)] {
            if bounds.get(name).and_then(Value::as_u64).is_none_or(|value| value < least) {
                let text = format!("must be a number of at least {least}");
                found.add(format!("{at}.bounds.{name}"), text);
            }
        }
        let at = join(&at, "action");
        let kind = area.get("action").and_then(|action| action.get("type"));
        if matches!(kind.and_then(Value::as_str), Some("camera" | "cameraRoll" | "location")) {
            found.add(join(&at, "type"), "invalid action type");
        }
        action(found, area.get("action"), &at, Label { max: 20, required: false, place: Place::RichMenu });
    }
}
