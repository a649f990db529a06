//! Colours, lengths and numbers of a message, read and written anew as CSS.

use std::fmt::{Display, Write};

use serde_json::Value;

use super::{html::escaped, word};

/// LINE's words for distances, in pixels.
const DISTANCES: &[(&str, f64)] =
    &[("none", 0.0), ("xs", 2.0), ("sm", 4.0), ("md", 8.0), ("lg", 12.0), ("xl", 16.0), ("xxl", 20.0)];
const BORDERS: &[(&str, f64)] =
    &[("none", 0.0), ("light", 0.5), ("normal", 1.0), ("medium", 2.0), ("semi-bold", 3.0), ("bold", 4.0)];
const TEXTS: &[(&str, f64)] = &[
    ("xxs", 11.0),
    ("xs", 13.0),
    ("sm", 14.0),
    ("md", 16.0),
    ("lg", 19.0),
    ("xl", 22.0),
    ("xxl", 29.0),
    ("3xl", 35.0),
    ("4xl", 48.0),
    ("5xl", 74.0),
];
const IMAGES: &[(&str, f64)] = &[
    ("xxs", 40.0),
    ("xs", 60.0),
    ("sm", 80.0),
    ("md", 100.0),
    ("lg", 120.0),
    ("xl", 140.0),
    ("xxl", 160.0),
    ("3xl", 180.0),
    ("4xl", 200.0),
    ("5xl", 220.0),
];
/// Larger than any screen.
const LONGEST: f64 = 4000.0;

/// A length of a message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Length {
    Pixels(f64),
    Percent(f64),
}

impl Display for Length {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pixels(number) => write!(f, "{number}px"),
            Self::Percent(number) => write!(f, "{number}%"),
        }
    }
}

/// The style of one element, of values that were read.
#[derive(Debug, Default)]
pub(super) struct Style(String);

impl Style {
    pub fn put(&mut self, property: &'static str, value: impl Display) {
        // Writing to a text cannot fail.
        let _ = write!(self.0, "{property}:{value};");
    }

    pub fn put_some(&mut self, property: &'static str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.put(property, value);
        }
    }

    pub fn colour(&mut self, property: &'static str, value: &Value, name: &str) {
        self.put_some(property, colour(word(value, name)));
    }

    /// As an attribute with a space before it, none where nothing was put.
    pub fn attribute(&self) -> String {
        if self.0.is_empty() { String::new() } else { format!(" style=\"{}\"", escaped(&self.0)) }
    }
}

/// `#RRGGBB` or `#RRGGBBAA`.
pub fn colour(text: &str) -> Option<&str> {
    let digits = text.strip_prefix('#')?;
    let fits = matches!(digits.len(), 6 | 8) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    fits.then_some(text)
}

pub(super) fn distance(value: &Value, name: &str) -> Option<Length> {
    length(word(value, name), DISTANCES)
}

pub(super) fn border(value: &Value) -> Option<Length> {
    length(word(value, "borderWidth"), BORDERS)
}

/// Pixels or percent, in no words.
pub(super) fn plain(value: &Value, name: &str) -> Option<Length> {
    length(word(value, name), &[])
}

pub(super) fn text_size(value: &Value) -> Option<Length> {
    length(word(value, "size"), TEXTS)
}

pub(super) fn image_size(value: &Value) -> Length {
    match word(value, "size") {
        "full" => Length::Percent(100.0),
        asked => length(asked, IMAGES).unwrap_or(Length::Pixels(100.0)),
    }
}

fn length(text: &str, words: &[(&str, f64)]) -> Option<Length> {
    if let Some((_, pixels)) = words.iter().find(|(word, _)| *word == text) {
        return Some(Length::Pixels(*pixels));
    }
    match text.strip_suffix("px") {
        Some(pixels) => number(pixels).map(Length::Pixels),
        None => number(text.strip_suffix('%')?).map(Length::Percent),
    }
}

fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse().ok().filter(|number: &f64| plain && (0.0..=LONGEST).contains(number))
}

/// `20:13`, as width to height; LINE takes heights of up to three widths.
pub(super) fn aspect(value: &Value, usual: (f64, f64)) -> (f64, f64) {
    let read = || {
        let (width, height) = word(value, "aspectRatio").split_once(':')?;
        let (width, height) = (number(width)?, number(height)?);
        (width >= 1.0 && height >= 1.0 && height <= width * 3.0).then_some((width, height))
    };
    read().unwrap_or(usual)
}

/// A gradient of two or three colours.
pub(super) fn gradient(value: &Value) -> Option<String> {
    let asked = value.get("background").filter(|asked| word(asked, "type") == "linearGradient")?;
    let angle = number(word(asked, "angle").strip_suffix("deg")?).filter(|angle| *angle < 360.0)?;
    let (start, end) = (colour(word(asked, "startColor"))?, colour(word(asked, "endColor"))?);
    let centre = colour(word(asked, "centerColor")).map(|centre| {
        let place = plain(asked, "centerPosition").unwrap_or(Length::Percent(50.0));
        format!("{centre} {place},")
    });
    Some(format!("linear-gradient({angle}deg,{start},{}{end})", centre.unwrap_or_default()))
}
