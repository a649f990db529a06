//! Drawing a message simply: text, templates, Flex as nested boxes, and a description of what is not drawn.
//!
//! Only links of schemes a chat would open become links, and only colours of LINE's form become colours, since both
//! come from the message.

use askama::Template;
use serde_json::Value;

use super::STICKERS;

/// A message in the chat.
pub(super) struct Message {
    /// The person's, not the bot's.
    pub own: bool,
    /// Of a message that can be taken back.
    pub id: String,
    pub read: bool,
    pub drawing: Drawing,
}

pub(super) enum Drawing {
    Text(String),
    Sticker(String),
    Template {
        alt: String,
        columns: Vec<Column>,
    },
    Flex {
        alt: String,
        bubbles: Vec<Part>,
    },
    Image(String),
    /// A kind that is not drawn, described.
    Other {
        kind: String,
        text: String,
    },
}

/// A Flex component with what it holds.
#[derive(Template)]
#[template(path = "simulator/part.html")]
pub(super) struct Part {
    kind: Kind,
    /// Classes and colours.
    class: String,
    style: String,
    text: String,
    tap: Tap,
    parts: Vec<Part>,
}

enum Kind {
    Box,
    Text,
    Button,
    Image,
    Separator,
    Unknown,
}

/// A card of a template.
pub(super) struct Column {
    pub image: String,
    pub title: String,
    pub text: String,
    pub buttons: Vec<Button>,
}

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

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(super) fn message(message: &Value) -> Message {
    let own = message.get("from").is_some();
    Message {
        own,
        id: if own { text(message, "id") } else { String::new() },
        read: message.get("read").is_some(),
        drawing: if own { sent_by_person(message) } else { drawing(message) },
    }
}

/// What a person sent has the shape of webhooks, which differs from what bots send.
fn sent_by_person(message: &Value) -> Drawing {
    match text(message, "type").as_str() {
        "image" => Drawing::Image(format!("/_sim/picture/{}", text(message, "id"))),
        "file" => Drawing::Other { kind: "file".to_owned(), text: text(message, "fileName") },
        kind @ ("video" | "audio") => Drawing::Other { kind: kind.to_owned(), text: String::new() },
        _ => drawing(message),
    }
}

fn drawing(message: &Value) -> Drawing {
    let kind = text(message, "type");
    match kind.as_str() {
        "text" | "textV2" => Drawing::Text(text(message, "text")),
        "image" => Drawing::Image(web_url(&text(message, "previewImageUrl")).unwrap_or_default()),
        "sticker" => {
            let (package, id) = (text(message, "packageId"), text(message, "stickerId"));
            let known = STICKERS.iter().find(|sticker| sticker.package == package && sticker.id == id);
            match known {
                Some(sticker) => Drawing::Sticker(sticker.glyph.to_owned()),
                None => Drawing::Other { kind, text: format!("{package}/{id}") },
            }
        }
        "location" => {
            let place = ["title", "address"].map(|name| text(message, name));
            let number = |name: &str| message.get(name).and_then(Value::as_f64).unwrap_or_default();
            let at = format!("{:.4}, {:.4}", number("latitude"), number("longitude"));
            let [title, address] = place;
            let lines = [title, address, at].into_iter().filter(|line| !line.is_empty());
            Drawing::Other { kind, text: lines.collect::<Vec<_>>().join("\n") }
        }
        "template" => template(message),
        "flex" => {
            let contents = message.get("contents").unwrap_or(&Value::Null);
            let bubbles = match text(contents, "type").as_str() {
                "carousel" => list(contents, "contents").iter().map(bubble).collect(),
                _ => vec![bubble(contents)],
            };
            Drawing::Flex { alt: text(message, "altText"), bubbles }
        }
        _ => {
            let alt = text(message, "altText");
            let text = if alt.is_empty() { format!("{message:#}") } else { alt };
            Drawing::Other { kind, text }
        }
    }
}

/// Buttons, confirm, and both carousels, each as a row of cards.
fn template(message: &Value) -> Drawing {
    let template = message.get("template").unwrap_or(&Value::Null);
    let columns = list(template, "columns");
    let columns = if columns.is_empty() { std::slice::from_ref(template) } else { columns };
    let column = |column: &Value| {
        let one = column.get("action").map_or(&[][..], std::slice::from_ref);
        let image = ["thumbnailImageUrl", "imageUrl"].iter().find_map(|name| web_url(&text(column, name)));
        Column {
            image: image.unwrap_or_default(),
            title: text(column, "title"),
            text: text(column, "text"),
            buttons: list(column, "actions").iter().chain(one).map(|action| button("button", action)).collect(),
        }
    };
    Drawing::Template { alt: text(message, "altText"), columns: columns.iter().map(column).collect() }
}

pub(super) fn quick_replies(message: &Value) -> Vec<Button> {
    let items = message.get("quickReply").map_or(&[][..], |quick| list(quick, "items"));
    items.iter().filter_map(|item| item.get("action")).map(|action| button("quick", action)).collect()
}

fn button(class: &'static str, action: &Value) -> Button {
    let label = text(action, "label");
    let label = if label.is_empty() { text(action, "type") } else { label };
    Button { class, style: String::new(), label, tap: tap(action) }
}

fn bubble(bubble: &Value) -> Part {
    let blocks = ["header", "hero", "body", "footer"];
    let parts = blocks.iter().filter_map(|name| Some((name, bubble.get(*name)?)));
    let parts = parts.map(|(name, block)| {
        let mut part = part(block);
        part.class.push_str(&format!(" block {name}"));
        part
    });
    let parts: Vec<Part> = parts.collect();
    let mut drawn = blank(Kind::Box, "bubble", bubble);
    if parts.iter().any(Part::can_be_tapped) {
        drawn.tap = Tap::Nothing;
    }
    Part { parts, ..drawn }
}

impl Part {
    fn can_be_tapped(&self) -> bool {
        !matches!(self.tap, Tap::Nothing) || self.parts.iter().any(Self::can_be_tapped)
    }
}

fn blank(kind: Kind, class: &str, value: &Value) -> Part {
    Part {
        kind,
        class: class.to_owned(),
        style: String::new(),
        text: String::new(),
        tap: value.get("action").map_or(Tap::Nothing, tap),
        parts: Vec::new(),
    }
}

fn part(value: &Value) -> Part {
    let style = style(value);
    match text(value, "type").as_str() {
        "box" => {
            let layout = match text(value, "layout").as_str() {
                "horizontal" => "box row",
                "baseline" => "box row baseline",
                _ => "box",
            };
            let parts: Vec<Part> = list(value, "contents").iter().map(part).collect();
            let mut drawn = Part { style, ..blank(Kind::Box, layout, value) };
            // One thing to tap does not stand within another.
            if parts.iter().any(Part::can_be_tapped) {
                drawn.tap = Tap::Nothing;
            }
            Part { parts, ..drawn }
        }
        "text" | "span" => {
            let spans: String = list(value, "contents").iter().map(|s| text(s, "text")).collect();
            let own = text(value, "text");
            let bold = if text(value, "weight") == "bold" { "text bold" } else { "text" };
            let class = format!("{bold} size-{}", size(value));
            let text = if own.is_empty() { spans } else { own };
            Part { text, style, ..blank(Kind::Text, &class, value) }
        }
        "button" => {
            let label = value.get("action").map(|action| text(action, "label"));
            let class = match text(value, "style").as_str() {
                "primary" => "button primary",
                "secondary" => "button secondary",
                _ => "button",
            };
            let text = label.unwrap_or_default();
            Part { text, ..blank(Kind::Button, class, value) }
        }
        "image" | "icon" => {
            let url = web_url(&text(value, "url")).unwrap_or_default();
            Part { text: url, ..blank(Kind::Image, "image", value) }
        }
        "separator" => blank(Kind::Separator, "separator", value),
        "filler" => blank(Kind::Box, "filler", value),
        other => Part { text: other.to_owned(), ..blank(Kind::Unknown, "unknown", value) },
    }
}

/// LINE's named sizes; anything else is drawn as the normal one.
fn size(value: &Value) -> &'static str {
    let named = ["xxs", "xs", "sm", "md", "lg", "xl", "xxl", "3xl", "4xl", "5xl"];
    let asked = text(value, "size");
    named.into_iter().find(|name| *name == asked).unwrap_or("md")
}

fn style(value: &Value) -> String {
    let mut style = String::new();
    for (name, property) in [("color", "color"), ("backgroundColor", "background-color")] {
        if let Some(colour) = colour(&text(value, name)) {
            style.push_str(&format!("{property}:{colour};"));
        }
    }
    if let Some(flex) = value.get("flex").and_then(Value::as_u64) {
        // LINE's 0 is as wide as the content, which CSS calls `none`.
        style.push_str(&if flex == 0 { "flex:none;".to_owned() } else { format!("flex:{flex};") });
    }
    if matches!(text(value, "align").as_str(), "center" | "end") {
        style.push_str(&format!("text-align:{};", text(value, "align")));
    }
    style
}

/// `#RRGGBB` or `#RRGGBBAA`.
fn colour(text: &str) -> Option<&str> {
    let digits = text.strip_prefix('#')?;
    let fits = matches!(digits.len(), 6 | 8) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    fits.then_some(text)
}

fn web_url(text: &str) -> Option<String> {
    let url = url::Url::parse(text).ok()?;
    matches!(url.scheme(), "http" | "https").then(|| url.to_string())
}

fn tap(action: &Value) -> Tap {
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
