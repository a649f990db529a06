//! What can be tapped: buttons, quick replies, the areas of the rich menu.
//!
//! A tap carries its whole action, so that it does the same whatever has come into the chat since the page was drawn.

use askama::Template;
use serde_json::Value;
use url::form_urlencoded;

use super::draw::{list, text};
use crate::flex::preview::{self, Tap, web_url};

/// Something with a label to tap.
#[derive(Template)]
#[template(path = "simulator/button.html")]
pub(super) struct Button {
    pub class: &'static str,
    pub style: String,
    /// A picture before the words, of quick replies.
    pub icon: String,
    pub label: String,
    pub tap: Tap,
}

/// The menu at the bottom of the chat.
pub(super) struct Menu {
    pub id: String,
    pub bar: String,
    /// Of the picture, so that its room is there before it is.
    pub width: u64,
    pub height: u64,
    /// Whether it is unfolded.
    pub open: bool,
    pub areas: Vec<Button>,
}

pub(super) fn quick_replies(message: &Value) -> Vec<Button> {
    let items = message.get("quickReply").map_or(&[][..], |quick| list(quick, "items"));
    let quick = |item: &Value| {
        let icon = web_url(&text(item, "imageUrl")).unwrap_or_default();
        Some(Button { icon, ..button("quick", item.get("action")?) })
    };
    items.iter().filter_map(quick).collect()
}

pub(super) fn button(class: &'static str, action: &Value) -> Button {
    let label = text(action, "label");
    let label = if label.is_empty() { text(action, "type") } else { label };
    Button { class, style: String::new(), icon: String::new(), label, tap: tap(action) }
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

/// An action over the whole of what it belongs to, as HTML.
pub(super) fn cover(action: &Value) -> String {
    preview::cover(action, &tap(action))
}

/// Bounds as a style, in percent of a whole.
pub(super) fn place(bounds: &Value, width: f64, height: f64) -> Option<String> {
    let side = |name: &str, whole: f64| Some(bounds.get(name)?.as_f64()? / whole * 100.0);
    Some(format!(
        "left:{:.3}%;top:{:.3}%;width:{:.3}%;height:{:.3}%",
        side("x", width)?,
        side("y", height)?,
        side("width", width)?,
        side("height", height)?
    ))
}

/// The menu with its areas in percent of its size.
pub(super) fn menu(object: &Value) -> Option<Menu> {
    let size = object.get("size")?;
    let side = |name: &str| Some((size.get(name)?.as_u64()?, size.get(name)?.as_f64()?));
    let ((width, wide), (height, high)) = (side("width")?, side("height")?);
    let area = |area: &Value| {
        let action = area.get("action")?;
        Some(Button { style: place(area.get("bounds")?, wide, high)?, ..button("area", action) })
    };
    Some(Menu {
        id: text(object, "richMenuId"),
        bar: text(object, "chatBarText"),
        width,
        height,
        open: object.get("selected") == Some(&Value::Bool(true)),
        areas: list(object, "areas").iter().filter_map(area).collect(),
    })
}

/// What a tap has done to the phone itself, as more parameters of its page's address.
pub(super) fn aftermath(action: &Value) -> String {
    let mut more = form_urlencoded::Serializer::new(String::new());
    match text(action, "inputOption").as_str() {
        "openRichMenu" => {
            more.append_pair("menu", "open");
        }
        "openKeyboard" => {
            more.append_pair("menu", "closed").append_pair("text", &text(action, "fillInText"));
        }
        "closeRichMenu" | "openVoice" => {
            more.append_pair("menu", "closed");
        }
        _ => {}
    }
    let copied = text(action, "clipboardText");
    if !copied.is_empty() {
        more.append_pair("copied", &copied);
    }
    let more = more.finish();
    if more.is_empty() { more } else { format!("&{more}") }
}
