//! LINE's rules for what a tap does, in messages and rich menus alike.

use serde_json::Value;

use super::found::{Found, graphemes, join, units};

/// How an action is judged: the limit of its label, and what it may be, depend on where it stands.
#[derive(Clone, Copy)]
pub(in crate::simulator) struct Label {
    pub max: usize,
    pub required: bool,
    pub place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::simulator) enum Place {
    Message,
    QuickReply,
    RichMenu,
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
        "uri" => {
            found.uri(action, at, "uri");
            if let Some(other) = action.get("altUri") {
                found.uri(other, &join(at, "altUri"), "desktop");
            }
        }
        "postback" => postback(found, action, at),
        "message" => found.text(action, at, "text", 300, graphemes),
        "datetimepicker" => picker(found, action, at),
        "richmenuswitch" if label.place == Place::RichMenu => {
            found.text(action, at, "richMenuAliasId", 32, units);
            found.text(action, at, "data", 300, units);
        }
        "clipboard" => found.text(action, at, "clipboardText", 1000, units),
        "camera" | "cameraRoll" | "location" if label.place == Place::QuickReply => {}
        _ => found.add(join(at, "type"), "invalid action type"),
    }
}

fn postback(found: &mut Found, action: &Value, at: &str) {
    data(found, action, at);
    for name in ["displayText", "text", "fillInText"] {
        found.optional_text(action, at, name, 300, graphemes);
    }
    found.word(action, at, "inputOption", &["closeRichMenu", "openRichMenu", "openKeyboard", "openVoice"]);
    let is_open = action.get("inputOption").and_then(Value::as_str) == Some("openKeyboard");
    if action.get("fillInText").is_some() && !is_open {
        found.add(join(at, "fillInText"), "must be used with inputOption openKeyboard");
    }
    if action.get("displayText").is_some() && action.get("text").is_some() {
        found.add(join(at, "text"), "must not be used with displayText");
    }
}

/// There, and possibly empty.
fn data(found: &mut Found, action: &Value, at: &str) {
    if action.get("data").is_none_or(Value::is_null) {
        found.add(join(at, "data"), "May not be null");
    }
    found.optional_text(action, at, "data", 300, units);
}

fn picker(found: &mut Found, action: &Value, at: &str) {
    data(found, action, at);
    let mode = action.get("mode").and_then(Value::as_str).unwrap_or_default();
    let form = match mode {
        "date" => "dddd-dd-dd",
        "time" => "dd:dd",
        "datetime" => "dddd-dd-ddTdd:dd",
        _ => {
            let text = "Must be one of the following values: [date, time, datetime]";
            return found.add(join(at, "mode"), text);
        }
    };
    let mut read = |name: &str| {
        let text = action.get(name).and_then(Value::as_str)?.replace('t', "T");
        let fits = text.len() == form.len()
            && text.chars().zip(form.chars()).all(|(is, f)| if f == 'd' { is.is_ascii_digit() } else { is == f })
            && is_a_moment(&text, mode);
        if !fits {
            found.add(join(at, name), "invalid format");
        }
        fits.then_some(text)
    };
    read("initial");
    // Of one form, the earlier is the smaller text.
    if read("min").zip(read("max")).is_some_and(|(min, max)| min >= max) {
        found.add(join(at, "max"), "must be greater than min");
    }
}

/// A moment as it is written, with all its digits in range.
fn is_a_moment(text: &str, mode: &str) -> bool {
    let number = |from: usize, to: usize| text.get(from..to).and_then(|digits| digits.parse::<i16>().ok());
    let is_time = |from: usize| {
        number(from, from + 2).is_some_and(|hour| (0..24).contains(&hour))
            && number(from + 3, from + 5).is_some_and(|minute| (0..60).contains(&minute))
    };
    let is_date = || {
        let parts = (number(0, 4), number(5, 7), number(8, 10));
        let (Some(year), Some(month), Some(day)) = parts else { return false };
        let date = (i8::try_from(month), i8::try_from(day));
        (1900..=2100).contains(&year)
            && matches!(date, (Ok(month), Ok(day)) if jiff::civil::Date::new(year, month, day).is_ok())
    };
    match mode {
        "time" => is_time(0),
        "date" => is_date(),
        _ => is_date() && is_time(11),
    }
}
