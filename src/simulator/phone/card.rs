//! The cards of template messages, and image maps.

use askama::Template;
use serde_json::Value;

use super::{
    draw::{buttons, covered, list, text},
    tap::{self, Button},
};
use crate::flex::preview::{colour, web_url};

/// A card of a template.
pub(super) struct Card {
    pub image: String,
    pub image_style: String,
    pub title: String,
    pub text: String,
    /// What a press on it does besides its buttons, as HTML.
    pub cover: String,
    /// What an image of an image carousel is called.
    pub label: String,
    pub buttons: Vec<Button>,
}

/// An image with places to press.
#[derive(Template)]
#[template(path = "simulator/image_map.html")]
pub(super) struct ImageMap {
    alt: String,
    url: String,
    style: String,
    areas: Vec<Button>,
}

/// A card of `column`; what all columns share is said by `template`.
pub(super) fn card(template: &Value, column: &Value, kind: &str) -> Card {
    let is_image = kind == "image_carousel";
    let image = ["thumbnailImageUrl", "imageUrl"].iter().find_map(|name| web_url(&text(column, name)));
    let ratio = if is_image || text(template, "imageAspectRatio") == "square" { "1/1" } else { "1.51/1" };
    let fit = if text(template, "imageSize") == "contain" { "contain" } else { "cover" };
    let back = text(column, "imageBackgroundColor");
    let back = colour(&back).unwrap_or("#ffffff");
    let own = if is_image { column.get("action") } else { column.get("defaultAction") };
    let label = column.get("action").map(|action| text(action, "label")).filter(|_| is_image);
    Card {
        image: image.unwrap_or_default(),
        image_style: format!("aspect-ratio:{ratio};object-fit:{fit};background-color:{back}"),
        title: text(column, "title"),
        text: text(column, "text"),
        cover: covered(own),
        label: label.unwrap_or_default(),
        buttons: buttons(column),
    }
}

/// The image in the width of a phone, with the areas in percent of its size.
pub(super) fn image_map(message: &Value) -> ImageMap {
    let size = message.get("baseSize").unwrap_or(&Value::Null);
    let side = |name: &str| size.get(name).and_then(Value::as_f64).filter(|side| (1.0..=10_000.0).contains(side));
    let (width, height) = (side("width").unwrap_or(1040.0), side("height").unwrap_or(1040.0));
    let area = |action: &Value| {
        let bounds = action.get("area")?;
        // An image map's actions have words of their own for what they do.
        let known = match text(action, "type").as_str() {
            "uri" => serde_json::json!({ "type": "uri", "label": action.get("label"), "uri": action.get("linkUri") }),
            _ => action.clone(),
        };
        Some(Button { style: tap::place(bounds, width, height)?, ..tap::button("area", &known) })
    };
    let base = text(message, "baseUrl");
    ImageMap {
        alt: text(message, "altText"),
        url: web_url(&format!("{}/1040", base.trim_end_matches('/'))).unwrap_or_default(),
        style: format!("aspect-ratio:{width}/{height}"),
        areas: list(message, "actions").iter().filter_map(area).collect(),
    }
}
