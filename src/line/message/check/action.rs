//! Actions: which may stand where, and what each must hold.

use jiff::civil::{Date, DateTime, Time};
use serde_json::Value;

use super::found::{Found, Text, kind, value};

/// Where an action stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::line) enum Place {
    Template,
    /// A tap beside a template's buttons.
    TemplateDefault,
    ImageCarousel,
    QuickReply,
    FlexButton,
    /// A tap on any other part of a Flex message; its label is not shown.
    FlexPart,
    /// An area of a rich menu; its label is read aloud only.
    RichMenu,
}

impl Place {
    fn label(self) -> Text {
        match self {
            Self::Template | Self::QuickReply => Text::needed(20),
            Self::TemplateDefault | Self::RichMenu => Text::optional(20),
            Self::ImageCarousel => Text::optional(12),
            Self::FlexButton => Text::needed(40),
            Self::FlexPart => Text::optional(40),
        }
        .by_grapheme()
    }
}

/// The property `action`, which must be there.
pub(in crate::line) fn needed(found: &mut Found, holder: &Value, at: &str, place: Place) {
    if let Some((action, at)) = found.needed_object(holder, at, "action") {
        check(found, action, &at, place);
    }
}

pub(super) fn optional(found: &mut Found, holder: &Value, at: &str, name: &str, place: Place) {
    if let Some((action, at)) = found.object(holder, at, name) {
        check(found, action, &at, place);
    }
}

pub(super) fn check(found: &mut Found, action: &Value, at: &str, place: Place) {
    found.text(action, at, "label", place.label());
    match kind(action) {
        "postback" => postback(found, action, at),
        "message" => found.text(action, at, "text", Text::needed(300).by_grapheme()),
        "uri" => {
            found.link(action, at, "uri", Text::needed(1000));
            if let Some((other, at)) = found.object(action, at, "altUri") {
                found.link(other, &at, "desktop", Text::optional(1000));
            }
        }
        "datetimepicker" => picker(found, action, at),
        "clipboard" => found.text(action, at, "clipboardText", Text::needed(1000)),
        "camera" | "cameraRoll" | "location" if place == Place::QuickReply => {}
        "camera" | "cameraRoll" | "location" => found.add(format!("{at}.type"), "is for quick replies only"),
        "richmenuswitch" if place == Place::RichMenu => {
            found.text(action, at, "richMenuAliasId", Text::needed(32));
            found.text(action, at, "data", Text::needed(300));
        }
        "richmenuswitch" => found.add(format!("{at}.type"), "is for rich menus only"),
        _ if place == Place::RichMenu => {
            found.unknown_kind(action, at, "postback, message, uri, datetimepicker, richmenuswitch, clipboard");
        }
        _ => found.unknown_kind(action, at, "postback, message, uri, datetimepicker, clipboard"),
    }
}

fn postback(found: &mut Found, action: &Value, at: &str) {
    found.text(action, at, "data", Text::needed(300).or_empty());
    for name in ["displayText", "text", "fillInText"] {
        found.text(action, at, name, Text::optional(300).by_grapheme());
    }
    if value(action, "displayText").is_some() && value(action, "text").is_some() {
        found.add(format!("{at}.text"), "cannot stand beside displayText");
    }
    let options = ["closeRichMenu", "openRichMenu", "openKeyboard", "openVoice"];
    found.optional_choice(action, at, "inputOption", &options);
    let opens_keyboard = action.get("inputOption").and_then(Value::as_str) == Some("openKeyboard");
    if value(action, "fillInText").is_some() && !opens_keyboard {
        found.add(format!("{at}.fillInText"), "needs the inputOption openKeyboard");
    }
}

fn picker(found: &mut Found, action: &Value, at: &str) {
    found.text(action, at, "data", Text::needed(300).or_empty());
    found.choice(action, at, "mode", &["date", "time", "datetime"]);
    let mode = action.get("mode").and_then(Value::as_str).unwrap_or_default();
    let mut read = |name: &str| {
        let moment = value(action, name)?;
        let moment = moment.as_str().and_then(|text| moment_of(mode, text));
        if moment.is_none() && ["date", "time", "datetime"].contains(&mode) {
            let form = match mode {
                "date" => "2026-01-31",
                "time" => "09:30",
                _ => "2026-01-31T09:30",
            };
            found.add(format!("{at}.{name}"), format!("must be written as {form}, from 1900 to 2100"));
        }
        moment
    };
    read("initial");
    let (least, most) = (read("min"), read("max"));
    if least.zip(most).is_some_and(|(least, most)| least >= most) {
        found.add(format!("{at}.max"), "must be later than min");
    }
}

fn moment_of(mode: &str, text: &str) -> Option<DateTime> {
    let moment = match mode {
        "date" => Date::strptime("%Y-%m-%d", text).ok()?.to_datetime(Time::midnight()),
        "time" => Date::new(2000, 1, 1).ok()?.to_datetime(Time::strptime("%H:%M", text).ok()?),
        _ => DateTime::strptime("%Y-%m-%dT%H:%M", text.replace('t', "T")).ok()?,
    };
    let length = match mode {
        "date" => 10,
        "time" => 5,
        _ => 16,
    };
    (text.len() == length && (1900..=2100).contains(&moment.year())).then_some(moment)
}
