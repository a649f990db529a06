//! The components of a Flex bubble.

use serde_json::Value;

use crate::line::message::check::{
    action::{self, Place},
    found::{Found, Text, kind, value},
};

const SPACES: &[&str] = &["none", "xs", "sm", "md", "lg", "xl", "xxl"];
const SIZES: &[&str] = &["xxs", "xs", "sm", "md", "lg", "xl", "xxl", "3xl", "4xl", "5xl"];
const PICTURES: &[&str] = &["xxs", "xs", "sm", "md", "lg", "xl", "xxl", "3xl", "4xl", "5xl", "full"];
const BORDERS: &[&str] = &["none", "light", "normal", "medium", "semi-bold", "bold"];

/// Where a component stands, which decides what it may be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Parent {
    /// Header, body and footer are boxes.
    Block,
    Hero {
        is_in_carousel: bool,
    },
    Box,
    /// One line of texts and icons.
    BaselineBox,
    /// In the place of a video that cannot be played.
    Video,
}

impl Parent {
    fn allowed(self) -> &'static [&'static str] {
        match self {
            Self::Block => &["box"],
            Self::Hero { is_in_carousel: false } => &["box", "image", "video"],
            Self::Hero { is_in_carousel: true } | Self::Video => &["box", "image"],
            Self::Box => &["box", "button", "image", "text", "separator", "filler"],
            Self::BaselineBox => &["icon", "text", "filler"],
        }
    }
}

pub(super) fn check(found: &mut Found, part: &Value, at: &str, parent: Parent) {
    let kind = kind(part);
    if !parent.allowed().contains(&kind) {
        found.unknown_kind(part, at, &parent.allowed().join(", "));
    }
    match kind {
        "box" => container(found, part, at),
        "text" => text(found, part, at),
        "button" => button(found, part, at),
        "image" => picture(found, part, at),
        "icon" => {
            found.url(part, at, "url", true);
            measure(found, part, at, "size", SIZES, "px%");
            ratio(found, part, at);
        }
        "video" => video(found, part, at),
        "separator" => found.colour(part, at, "color", true),
        _ => {}
    }
    position(found, part, at);
}

/// What most components share.
fn position(found: &mut Found, part: &Value, at: &str) {
    found.optional_whole(part, at, "flex", 0..=i64::from(i32::MAX));
    measure(found, part, at, "margin", SPACES, "px");
    found.optional_choice(part, at, "position", &["relative", "absolute"]);
    for name in ["offsetTop", "offsetBottom", "offsetStart", "offsetEnd"] {
        measure(found, part, at, name, SPACES, "px%");
    }
    found.optional_choice(part, at, "gravity", &["top", "bottom", "center"]);
    found.optional_choice(part, at, "align", &["start", "end", "center"]);
    found.flag(part, at, "scaling");
    found.optional_choice(part, at, "adjustMode", &["shrink-to-fit"]);
    if part.get("type").and_then(Value::as_str) != Some("button") {
        action::optional(found, part, at, "action", Place::FlexPart);
    }
}

fn container(found: &mut Found, part: &Value, at: &str) {
    found.choice(part, at, "layout", &["horizontal", "vertical", "baseline"]);
    let is_baseline = part.get("layout").and_then(Value::as_str) == Some("baseline");
    let parent = if is_baseline { Parent::BaselineBox } else { Parent::Box };
    for (one, at) in found.list(part, at, "contents", 0..=usize::MAX) {
        check(found, one, &at, parent);
    }
    measure(found, part, at, "spacing", SPACES, "px");
    measure(found, part, at, "borderWidth", BORDERS, "px");
    measure(found, part, at, "cornerRadius", SPACES, "px");
    for name in ["paddingAll", "paddingTop", "paddingBottom", "paddingStart", "paddingEnd"] {
        measure(found, part, at, name, SPACES, "px%");
    }
    for name in ["width", "maxWidth", "height", "maxHeight"] {
        measure(found, part, at, name, &[], "px%");
    }
    found.colour(part, at, "backgroundColor", true);
    found.colour(part, at, "borderColor", true);
    let justified = ["center", "flex-start", "flex-end", "space-between", "space-around", "space-evenly"];
    found.optional_choice(part, at, "justifyContent", &justified);
    found.optional_choice(part, at, "alignItems", &["center", "flex-start", "flex-end"]);
    if let Some((gradient, at)) = found.object(part, at, "background") {
        found.choice(gradient, &at, "type", &["linearGradient"]);
        found.text(gradient, &at, "angle", Text::needed(20));
        for name in ["startColor", "centerColor", "endColor"] {
            found.colour(gradient, &at, name, true);
        }
        found.text(gradient, &at, "startColor", Text::needed(9));
        found.text(gradient, &at, "endColor", Text::needed(9));
    }
}

fn text(found: &mut Found, part: &Value, at: &str) {
    let has_spans = part.get("contents").and_then(Value::as_array).is_some_and(|spans| !spans.is_empty());
    if !has_spans {
        found.text(part, at, "text", Text::needed(usize::MAX));
    }
    if value(part, "contents").is_some() {
        for (span, at) in found.list(part, at, "contents", 0..=usize::MAX) {
            if kind(span) != "span" {
                found.unknown_kind(span, &at, "span");
            }
            found.text(span, &at, "text", Text::needed(usize::MAX));
            letters(found, span, &at);
        }
    }
    letters(found, part, at);
    found.flag(part, at, "wrap");
    found.optional_whole(part, at, "maxLines", 0..=i64::from(i32::MAX));
    measure(found, part, at, "lineSpacing", &[], "px");
}

/// What texts and spans share.
fn letters(found: &mut Found, part: &Value, at: &str) {
    measure(found, part, at, "size", SIZES, "px");
    found.colour(part, at, "color", true);
    found.optional_choice(part, at, "weight", &["regular", "bold"]);
    found.optional_choice(part, at, "style", &["normal", "italic"]);
    found.optional_choice(part, at, "decoration", &["none", "underline", "line-through"]);
}

fn button(found: &mut Found, part: &Value, at: &str) {
    action::needed(found, part, at, Place::FlexButton);
    found.optional_choice(part, at, "height", &["sm", "md"]);
    found.optional_choice(part, at, "style", &["primary", "secondary", "link"]);
    found.colour(part, at, "color", true);
}

fn picture(found: &mut Found, part: &Value, at: &str) {
    found.url(part, at, "url", true);
    measure(found, part, at, "size", PICTURES, "px%");
    ratio(found, part, at);
    found.optional_choice(part, at, "aspectMode", &["fit", "cover"]);
    found.colour(part, at, "backgroundColor", true);
    found.flag(part, at, "animated");
}

fn video(found: &mut Found, part: &Value, at: &str) {
    found.url(part, at, "url", true);
    found.url(part, at, "previewUrl", true);
    if let Some((other, at)) = found.needed_object(part, at, "altContent") {
        check(found, other, &at, Parent::Video);
    }
    ratio(found, part, at);
}

/// A word of a list, or a number with `px` or, where `unit` names it, `%`.
fn measure(found: &mut Found, part: &Value, at: &str, name: &str, words: &[&str], unit: &str) {
    let Some(size) = value(part, name) else { return };
    let text = size.as_str().unwrap_or_default();
    let number = text.strip_suffix("px").or_else(|| text.strip_suffix('%').filter(|_| unit.contains('%')));
    let is_number = number.is_some_and(|number| {
        number.starts_with(|c: char| c.is_ascii_digit() || c == '-') && number.parse::<f64>().is_ok()
    });
    if !is_number && !words.contains(&text) {
        let units = if unit.contains('%') { "as 10px or 10%" } else { "as 10px" };
        let words = if words.is_empty() { String::new() } else { format!(", or one of: {}", words.join(", ")) };
        found.add(format!("{at}.{name}"), format!("must be written {units}{words}"));
    }
}

/// `width:height`, each from 1 to 100000, and not higher than three times the width.
fn ratio(found: &mut Found, part: &Value, at: &str) {
    let Some(ratio) = value(part, "aspectRatio") else { return };
    let sides = ratio.as_str().and_then(|text| text.split_once(':'));
    let sides = sides.and_then(|(width, height)| Some((width.parse::<f64>().ok()?, height.parse::<f64>().ok()?)));
    let range = 1.0..=100_000.0;
    let fits = |(width, height)| range.contains(&width) && range.contains(&height) && height <= width * 3.0;
    if !sides.is_some_and(fits) {
        found.add(format!("{at}.aspectRatio"), "must be written as 20:13, and at most three times as high as wide");
    }
}

/// The pictures anywhere within that move.
pub(super) fn count_animated(part: &Value) -> usize {
    match part {
        Value::Object(fields) => {
            let own = fields.get("animated").and_then(Value::as_bool).unwrap_or_default();
            usize::from(own) + fields.values().map(count_animated).sum::<usize>()
        }
        Value::Array(parts) => parts.iter().map(count_animated).sum(),
        _ => 0,
    }
}
