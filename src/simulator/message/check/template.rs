//! LINE's rules for template messages.

use serde_json::Value;

use crate::simulator::message::{
    action::{Label, Place, action, actions},
    found::{Found, graphemes, join, units},
};

const LABEL: Label = Label { max: 20, required: true, place: Place::Message };

pub(super) fn template(found: &mut Found, message: &Value, at: &str) {
    found.text(message, at, "altText", 1500, units);
    let at = &join(at, "template");
    let Some(template) = message.get("template") else {
        return found.add(at.as_str(), "May not be null");
    };
    match template.get("type").and_then(Value::as_str).unwrap_or_default() {
        "buttons" => {
            shape(found, template, at);
            card(found, template, at, 160, 4);
        }
        "confirm" => {
            found.text(template, at, "text", 240, graphemes);
            actions(found, template, at, 2..=2, LABEL);
        }
        "carousel" => {
            shape(found, template, at);
            let columns = found.list(template, at, "columns", 1, 10);
            let count = |column: &Value| column.get("actions").and_then(Value::as_array).map(Vec::len);
            for (place, column) in columns.iter().enumerate() {
                let at = &format!("{at}.columns[{place}]");
                card(found, column, at, 120, 3);
                if count(column) != columns.first().and_then(count) {
                    found.add(join(at, "actions"), "the number of actions must be the same in all columns");
                }
            }
        }
        "image_carousel" => {
            for (place, column) in found.list(template, at, "columns", 1, 10).iter().enumerate() {
                let at = &format!("{at}.columns[{place}]");
                found.media_url(column, at, "imageUrl");
                let label = Label { max: 12, required: false, place: Place::Message };
                action(found, column.get("action"), &join(at, "action"), label);
            }
        }
        _ => found
            .add(join(at, "type"), "Must be one of the following values: [buttons, confirm, carousel, image_carousel]"),
    }
}

fn shape(found: &mut Found, template: &Value, at: &str) {
    found.word(template, at, "imageAspectRatio", &["rectangle", "square"]);
    found.word(template, at, "imageSize", &["cover", "contain"]);
}

fn card(found: &mut Found, card: &Value, at: &str, longest: usize, most: usize) {
    let is_narrow = card.get("title").is_some() || card.get("thumbnailImageUrl").is_some();
    found.optional_media_url(card, at, "thumbnailImageUrl");
    found.colour(card, at, "imageBackgroundColor");
    found.optional_text(card, at, "title", 40, graphemes);
    if card.get("title").and_then(Value::as_str) == Some("") {
        found.add(join(at, "title"), "May not be empty");
    }
    found.text(card, at, "text", if is_narrow { 60 } else { longest }, graphemes);
    if let Some(tap) = card.get("defaultAction") {
        let label = Label { max: 20, required: false, place: Place::Message };
        action(found, Some(tap), &join(at, "defaultAction"), label);
    }
    actions(found, card, at, 1..=most, LABEL);
}
