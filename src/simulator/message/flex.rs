//! LINE's rules for a Flex message: sizes, the container, and each component by what it cannot do without.

use serde_json::Value;

use super::{
    action::{Label, Place, action},
    found::{Found, join, units},
};

const BUBBLE_BYTES: usize = 30 * 1024;
const CAROUSEL_BYTES: usize = 50 * 1024;

pub(super) fn check(found: &mut Found, message: &Value, at: &str) {
    found.text(message, at, "altText", 1500, units);
    let at = &join(at, "contents");
    let Some(container) = message.get("contents").filter(|c| c.is_object()) else {
        return found.add(at.as_str(), "must be specified");
    };
    let bytes = container.to_string().len();
    match kind(container) {
        "bubble" => bubble(found, container, at),
        "carousel" => {
            if bytes > CAROUSEL_BYTES {
                found.add(at.as_str(), "The carousel exceeds 50 KB");
            }
            let bubbles = found.list(container, at, "contents", 1, 12);
            let size = |bubble: &Value| bubble.get("size").and_then(Value::as_str).unwrap_or("mega").to_owned();
            for (place, one) in bubbles.iter().enumerate() {
                let at = format!("{at}.contents[{place}]");
                if Some(size(one)) != bubbles.first().map(size) {
                    found.add(join(&at, "size"), "the size must be the same in all bubbles");
                }
                bubble(found, one, &at);
            }
        }
        _ => found.add(join(at, "type"), "Must be one of the following values: [bubble, carousel]"),
    }
}

fn kind(value: &Value) -> &str {
    value.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn bubble(found: &mut Found, bubble: &Value, at: &str) {
    if kind(bubble) != "bubble" {
        return found.add(join(at, "type"), "Must be one of the following values: [bubble]");
    }
    if bubble.to_string().len() > BUBBLE_BYTES {
        found.add(at, "The bubble exceeds 30 KB");
    }
    properties(found, bubble, at, BUBBLE);
    for block in ["header", "body", "footer"] {
        if let Some(content) = bubble.get(block) {
            component(found, content, &join(at, block), &["box"]);
        }
    }
    if let Some(hero) = bubble.get("hero") {
        component(found, hero, &join(at, "hero"), &["box", "image", "video"]);
    }
    for block in ["header", "hero", "body", "footer"] {
        if let Some(style) = bubble.get("styles").and_then(|styles| styles.get(block)) {
            properties(found, style, &format!("{at}.styles.{block}"), STYLE);
        }
    }
    optional_action(found, bubble, at);
}

fn component(found: &mut Found, part: &Value, at: &str, allowed: &[&str]) {
    if !allowed.contains(&kind(part)) {
        return found.add(join(at, "type"), format!("Must be one of the following values: {allowed:?}"));
    }
    properties(found, part, at, SHARED);
    match kind(part) {
        "box" => container(found, part, at),
        "text" => {
            properties(found, part, at, LETTERS);
            let spans = part.get("contents").and_then(Value::as_array);
            if spans.is_none_or(Vec::is_empty) {
                filled(found, part, at, "text");
            }
            for (place, span) in spans.into_iter().flatten().enumerate() {
                component(found, span, &format!("{at}.contents[{place}]"), &["span"]);
            }
        }
        "span" => {
            properties(found, part, at, LETTERS);
            filled(found, part, at, "text");
        }
        "button" => {
            properties(found, part, at, BUTTON);
            let label = Label { max: 40, required: true, place: Place::Message };
            return action(found, part.get("action"), &join(at, "action"), label);
        }
        "image" | "icon" => {
            properties(found, part, at, PICTURE);
            found.media_url(part, at, "url");
            ratio(found, part, at);
        }
        "video" => {
            found.media_url(part, at, "url");
            found.media_url(part, at, "previewUrl");
            ratio(found, part, at);
            match part.get("altContent") {
                Some(other) => component(found, other, &join(at, "altContent"), &["box", "image"]),
                None => found.add(join(at, "altContent"), "must be specified"),
            }
        }
        _ => {}
    }
    optional_action(found, part, at);
}

fn container(found: &mut Found, part: &Value, at: &str) {
    properties(found, part, at, BOX);
    let allowed: &[&str] = match part.get("layout").and_then(Value::as_str) {
        Some("baseline") => &["icon", "text", "filler"],
        Some("horizontal" | "vertical") => &["box", "button", "image", "text", "separator", "filler"],
        _ => {
            let text = "Must be one of the following values: [horizontal, vertical, baseline]";
            return found.add(join(at, "layout"), text);
        }
    };
    match part.get("contents").and_then(Value::as_array) {
        None => found.add(join(at, "contents"), "must be specified"),
        Some(parts) => {
            for (place, one) in parts.iter().enumerate() {
                component(found, one, &format!("{at}.contents[{place}]"), allowed);
            }
        }
    }
    if let Some(gradient) = part.get("background") {
        let at = &join(at, "background");
        if kind(gradient) != "linearGradient" {
            found.add(join(at, "type"), "Must be one of the following values: [linearGradient]");
        }
        properties(found, gradient, at, GRADIENT);
        for name in ["angle", "startColor", "endColor"] {
            filled(found, gradient, at, name);
        }
    }
}

/// What a property may hold, where it is there.
enum Holds {
    Word(&'static [&'static str]),
    /// One of the words, or a number of pixels.
    Size(&'static [&'static str]),
    /// Or a percentage too.
    Share(&'static [&'static str]),
    Colour,
    Flag,
    Count,
}

use Holds::{Colour, Count, Flag, Share, Size, Word};

type Rules = &'static [(&'static str, Holds)];

const GAPS: &[&str] = &["none", "xs", "sm", "md", "lg", "xl", "xxl"];
const FONTS: &[&str] = &["xxs", "xs", "sm", "md", "lg", "xl", "xxl", "3xl", "4xl", "5xl"];
const WIDTHS: &[&str] = &["xxs", "xs", "sm", "md", "lg", "xl", "xxl", "3xl", "4xl", "5xl", "full"];

const BUBBLE: Rules = &[
    ("size", Word(&["nano", "micro", "deca", "hecto", "kilo", "mega", "giga"])),
    ("direction", Word(&["ltr", "rtl"])),
];
const STYLE: Rules = &[("backgroundColor", Colour), ("separatorColor", Colour), ("separator", Flag)];
const SHARED: Rules = &[
    ("flex", Count),
    ("margin", Size(GAPS)),
    ("position", Word(&["relative", "absolute"])),
    ("offsetTop", Share(GAPS)),
    ("offsetBottom", Share(GAPS)),
    ("offsetStart", Share(GAPS)),
    ("offsetEnd", Share(GAPS)),
    ("gravity", Word(&["top", "bottom", "center"])),
    ("align", Word(&["start", "end", "center"])),
    ("scaling", Flag),
    ("adjustMode", Word(&["shrink-to-fit"])),
    ("color", Colour),
    ("backgroundColor", Colour),
];
const BOX: Rules = &[
    ("spacing", Size(GAPS)),
    ("borderColor", Colour),
    ("borderWidth", Size(&["none", "light", "normal", "medium", "semi-bold", "bold"])),
    ("cornerRadius", Size(GAPS)),
    ("width", Share(&[])),
    ("maxWidth", Share(&[])),
    ("height", Share(&[])),
    ("maxHeight", Share(&[])),
    ("paddingAll", Share(GAPS)),
    ("paddingTop", Share(GAPS)),
    ("paddingBottom", Share(GAPS)),
    ("paddingStart", Share(GAPS)),
    ("paddingEnd", Share(GAPS)),
    ("justifyContent", Word(&["center", "flex-start", "flex-end", "space-between", "space-around", "space-evenly"])),
    ("alignItems", Word(&["center", "flex-start", "flex-end"])),
];
const LETTERS: Rules = &[
    ("size", Size(FONTS)),
    ("weight", Word(&["regular", "bold"])),
    ("style", Word(&["normal", "italic"])),
    ("decoration", Word(&["none", "underline", "line-through"])),
    ("wrap", Flag),
    ("maxLines", Count),
    ("lineSpacing", Size(&[])),
];
const BUTTON: Rules = &[("height", Word(&["sm", "md"])), ("style", Word(&["primary", "secondary", "link"]))];
const PICTURE: Rules = &[("size", Share(WIDTHS)), ("aspectMode", Word(&["fit", "cover"])), ("animated", Flag)];
const GRADIENT: Rules = &[("startColor", Colour), ("centerColor", Colour), ("endColor", Colour)];

fn properties(found: &mut Found, part: &Value, at: &str, rules: Rules) {
    for (name, holds) in rules {
        let Some(value) = part.get(name).filter(|value| !value.is_null()) else { continue };
        let is_number = |text: &str, unit: &str| {
            text.strip_suffix(unit).is_some_and(|number| !number.is_empty() && number.parse::<f64>().is_ok())
        };
        let text = value.as_str().unwrap_or_default();
        let fits = match holds {
            Word(words) => {
                found.word(part, at, name, words);
                true
            }
            Colour => {
                found.colour(part, at, name);
                true
            }
            Size(words) => words.contains(&text) || is_number(text, "px"),
            Share(words) => words.contains(&text) || is_number(text, "px") || is_number(text, "%"),
            Flag => value.is_boolean(),
            Count => value.as_i64().is_some_and(|count| count >= 0),
        };
        if !fits {
            found.add(join(at, name), "invalid property");
        }
    }
}

fn ratio(found: &mut Found, part: &Value, at: &str) {
    let Some(value) = part.get("aspectRatio") else { return };
    let fits = |text: &str| {
        let (width, height) = text.split_once(':')?;
        let (width, height) = (width.parse::<f64>().ok()?, height.parse::<f64>().ok()?);
        let range = 1.0..=100_000.0;
        Some(range.contains(&width) && range.contains(&height) && height <= 3.0 * width)
    };
    if value.as_str().and_then(fits) != Some(true) {
        found.add(join(at, "aspectRatio"), "invalid aspect ratio");
    }
}

fn filled(found: &mut Found, part: &Value, at: &str, name: &str) {
    if part.get(name).and_then(Value::as_str).is_none_or(str::is_empty) {
        found.add(join(at, name), "must be non-empty text");
    }
}

fn optional_action(found: &mut Found, holder: &Value, at: &str) {
    if holder.get("action").is_some() {
        let label = Label { max: 40, required: false, place: Place::Message };
        action(found, holder.get("action"), &join(at, "action"), label);
    }
}
