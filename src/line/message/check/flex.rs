//! Flex messages: sizes, which component may stand where, and what each must hold.

mod component;

use serde_json::Value;

use self::component::Parent;
use super::{
    action::{self, Place},
    found::{Found, Text, kind},
};

/// LINE says 30 KB and 50 KB, and not which: the smaller reading fits both.
const BUBBLE_BYTES: usize = 30_000;
const CAROUSEL_BYTES: usize = 50_000;
const MOST_ANIMATED: usize = 10;

pub(super) fn check(found: &mut Found, message: &Value, at: &str) {
    found.text(message, at, "altText", Text::needed(1500));
    let Some((container, at)) = found.needed_object(message, at, "contents") else { return };
    match kind(container) {
        "bubble" => bubble(found, container, &at, false),
        "carousel" => carousel(found, container, &at),
        _ => found.unknown_kind(container, &at, "bubble, carousel"),
    }
    if component::count_animated(container) > MOST_ANIMATED {
        found.add(at, format!("has more than {MOST_ANIMATED} animated pictures"));
    }
}

fn carousel(found: &mut Found, carousel: &Value, at: &str) {
    if carousel.to_string().len() > CAROUSEL_BYTES {
        found.add(at, "is longer than 50 KB");
    }
    let bubbles = found.list(carousel, at, "contents", 1..=12);
    let size = |bubble: &Value| bubble.get("size").and_then(Value::as_str).unwrap_or("mega").to_owned();
    let first = bubbles.first().map(|(one, _)| size(one));
    for (one, at) in bubbles {
        if kind(one) == "bubble" {
            bubble(found, one, &at, true);
        } else {
            found.unknown_kind(one, &at, "bubble");
        }
        if first.as_ref().is_some_and(|first| size(one) != *first) {
            found.add(format!("{at}.size"), "must be that of the other bubbles");
        }
    }
}

fn bubble(found: &mut Found, bubble: &Value, at: &str, is_in_carousel: bool) {
    if bubble.to_string().len() > BUBBLE_BYTES {
        found.add(at, "is longer than 30 KB");
    }
    found.optional_choice(bubble, at, "size", &["nano", "micro", "deca", "hecto", "kilo", "mega", "giga"]);
    found.optional_choice(bubble, at, "direction", &["ltr", "rtl"]);
    action::optional(found, bubble, at, "action", Place::FlexPart);
    for block in ["header", "body", "footer"] {
        if let Some((content, at)) = found.object(bubble, at, block) {
            component::check(found, content, &at, Parent::Block);
        }
    }
    if let Some((hero, at)) = found.object(bubble, at, "hero") {
        component::check(found, hero, &at, Parent::Hero { is_in_carousel });
    }
    if let Some((styles, at)) = found.object(bubble, at, "styles") {
        for block in ["header", "hero", "body", "footer"] {
            if let Some((style, at)) = found.object(styles, &at, block) {
                found.colour(style, &at, "backgroundColor", true);
                found.colour(style, &at, "separatorColor", true);
                found.flag(style, &at, "separator");
            }
        }
    }
}
