//! Template messages.

use serde_json::Value;

use super::{
    action::{self, Place},
    found::{Found, Text, kind, value},
};

pub(super) fn check(found: &mut Found, message: &Value, at: &str) {
    found.text(message, at, "altText", Text::needed(1500));
    let Some((template, at)) = found.needed_object(message, at, "template") else { return };
    match kind(template) {
        "buttons" => {
            pictures(found, template, &at);
            card(found, template, &at, 160, 4);
        }
        "confirm" => {
            found.text(template, &at, "text", Text::needed(240).by_grapheme());
            for (button, at) in found.list(template, &at, "actions", 2..=2) {
                action::check(found, button, &at, Place::Template);
            }
        }
        "carousel" => carousel(found, template, &at),
        "image_carousel" => {
            for (column, at) in found.list(template, &at, "columns", 1..=10) {
                found.url(column, &at, "imageUrl", true);
                action::needed(found, column, &at, Place::ImageCarousel);
            }
        }
        _ => found.unknown_kind(template, &at, "buttons, confirm, carousel, image_carousel"),
    }
}

fn carousel(found: &mut Found, template: &Value, at: &str) {
    pictures(found, template, at);
    let columns = found.list(template, at, "columns", 1..=10);
    let buttons = |column: &Value| column.get("actions").and_then(Value::as_array).map(Vec::len);
    let first = columns.first().and_then(|(column, _)| buttons(column));
    for (column, at) in columns {
        card(found, column, &at, 120, 3);
        if buttons(column).is_some_and(|count| Some(count) != first) {
            found.add(format!("{at}.actions"), "must hold as many entries as those of the other columns");
        }
    }
}

/// How a template's pictures are shown.
fn pictures(found: &mut Found, template: &Value, at: &str) {
    found.optional_choice(template, at, "imageAspectRatio", &["rectangle", "square"]);
    found.optional_choice(template, at, "imageSize", &["cover", "contain"]);
}

fn card(found: &mut Found, card: &Value, at: &str, longest_text: usize, most_buttons: usize) {
    found.url(card, at, "thumbnailImageUrl", false);
    found.colour(card, at, "imageBackgroundColor", false);
    found.text(card, at, "title", Text::optional(40).by_grapheme().filled());
    let has_head = value(card, "title").is_some() || value(card, "thumbnailImageUrl").is_some();
    let longest = if has_head { 60 } else { longest_text };
    found.text(card, at, "text", Text::needed(longest).by_grapheme());
    action::optional(found, card, at, "defaultAction", Place::TemplateDefault);
    for (button, at) in found.list(card, at, "actions", 1..=most_buttons) {
        action::check(found, button, &at, Place::Template);
    }
}
