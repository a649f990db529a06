//! What can be tapped: buttons, quick replies, the areas of the rich menu.
//!
//! A tap carries its whole action, so that it does the same whatever has come into the chat since the page was drawn.

use askama::Template;
use serde_json::Value;

use super::draw::{list, text};

/// Something with a label to tap.
#[derive(Template)]
#[template(path = "simulator/button.html")]
pub(super) struct Button {
    class: &'static str,
    style: String,
    label: String,
    tap: Tap,
}

/// What a tap does.
pub(super) enum Tap {
    Nothing,
    Open(String),
    /// The action, as the form sends it back, and in words what comes of it.
    Act {
        action: String,
        what: String,
    },
}

/// The menu at the bottom of the chat.
pub(super) struct Menu {
    pub id: String,
    pub bar: String,
    pub areas: Vec<Button>,
}

pub(super) fn quick_replies(message: &Value) -> Vec<Button> {
    let items = message.get("quickReply").map_or(&[][..], |quick| list(quick, "items"));
    items.iter().filter_map(|item| item.get("action")).map(|action| button("quick", action)).collect()
}

pub(super) fn button(class: &'static str, action: &Value) -> Button {
    let label = text(action, "label");
    let label = if label.is_empty() { text(action, "type") } else { label };
    Button { class, style: String::new(), label, tap: tap(action) }
}

pub(super) fn web_url(text: &str) -> Option<String> {
    let url = url::Url::parse(text).ok()?;
    matches!(url.scheme(), "http" | "https").then(|| url.to_string())
}

pub(super) fn tap(action: &Value) -> Tap {
    let what = match text(action, "type").as_str() {
        "uri" => match web_url(&text(action, "uri")) {
            Some(url) => return Tap::Open(url),
            None => format!("open {}", text(action, "uri")),
        },
        "message" => format!("message: {}", text(action, "text")),
        "postback" | "datetimepicker" => format!("postback: {}", text(action, "data")),
        "richmenuswitch" => format!("menu: {}", text(action, "richMenuAliasId")),
        other => other.to_owned(),
    };
    Tap::Act { action: action.to_string(), what }
}

/// The menu with its areas in percent of its size.
pub(super) fn menu(object: &Value) -> Option<Menu> {
    let size = object.get("size")?;
    let (width, height) = (size.get("width")?.as_f64()?, size.get("height")?.as_f64()?);
    let area = |area: &Value| {
        let bounds = area.get("bounds")?;
        let side = |name: &str, whole: f64| Some(bounds.get(name)?.as_f64()? / whole * 100.0);
        let action = area.get("action")?;
        Some(Button {
            style: format!(
                "left:{:.3}%;top:{:.3}%;width:{:.3}%;height:{:.3}%",
                side("x", width)?,
                side("y", height)?,
                side("width", width)?,
                side("height", height)?
            ),
            ..button("area", action)
        })
    };
    Some(Menu {
        id: text(object, "richMenuId"),
        bar: text(object, "chatBarText"),
        areas: list(object, "areas").iter().filter_map(area).collect(),
    })
}
