//! How values are written: `number`, `date`, `default`, `cut`.

use std::borrow::Cow;

use serde_json::Value;
use unicode_segmentation::UnicodeSegmentation;

use super::{
    moment::{self, Format},
    render::{Context, RenderError},
};

/// More decimals than any price has.
const MOST_DECIMALS: usize = 10;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Filter {
    /// With commas between thousands, and so many decimals.
    Number(Option<usize>),
    Date(Format),
    /// What stands in for a value that is missing, null or empty.
    Default(String),
    /// So many letters as people count them, at most; the last is an ellipsis where something was cut.
    Cut(usize),
}

/// A value on its way through the filters.
pub(super) enum Piece<'a> {
    Missing,
    Json(&'a Value),
    Text(Cow<'a, str>),
}

impl Filter {
    pub fn new(name: &str, argument: Option<&str>) -> Result<Self, String> {
        match (name, argument) {
            ("number", None) => Ok(Self::Number(None)),
            ("number", Some(decimals)) => match decimals.parse() {
                Ok(decimals) if decimals <= MOST_DECIMALS => Ok(Self::Number(Some(decimals))),
                _ => Err(format!("number: {decimals:?} is no count of decimals, 0 to {MOST_DECIMALS}")),
            },
            ("date", format) => Format::new(format.unwrap_or("date")).map(Self::Date),
            ("default", Some(text)) => Ok(Self::Default(text.to_owned())),
            ("default", None) => Err("default needs what to write, as in default: 'friend'".to_owned()),
            ("cut", Some(letters)) => match letters.parse() {
                Ok(letters @ 1..=5000) => Ok(Self::Cut(letters)),
                _ => Err(format!("cut: {letters:?} is no count of letters, 1 to 5000")),
            },
            ("cut", None) => Err("cut needs a count of letters, as in cut: 40".to_owned()),
            (other, _) => Err(format!("{other:?} is no filter; there are number, date, default and cut")),
        }
    }

    pub fn apply<'a>(&'a self, piece: Piece<'a>, name: &str, context: &Context<'_>) -> Result<Piece<'a>, RenderError> {
        let wrong = |wanted| RenderError::Kind { name: name.to_owned(), wanted };
        let is_missing = piece.is_missing();
        match self {
            Self::Default(text) if is_missing => Ok(Piece::Text(Cow::Borrowed(text))),
            Self::Default(_) => Ok(piece),
            _ if matches!(piece, Piece::Missing | Piece::Json(Value::Null)) => Ok(Piece::Missing),
            Self::Number(decimals) => {
                let text = number(&piece, *decimals).ok_or_else(|| wrong("a number"))?;
                Ok(Piece::Text(Cow::Owned(text)))
            }
            Self::Date(format) => {
                let text = piece.text().ok_or_else(|| wrong("a date"))?;
                let mut written = String::new();
                moment::write(&mut written, &text, format, context).ok_or_else(|| wrong("a date"))?;
                Ok(Piece::Text(Cow::Owned(written)))
            }
            Self::Cut(letters) => Ok(Piece::Text(cut(piece.text().ok_or_else(|| wrong("a text"))?, *letters))),
        }
    }
}

impl<'a> Piece<'a> {
    fn is_missing(&self) -> bool {
        match self {
            Self::Missing | Self::Json(Value::Null) => true,
            Self::Json(Value::String(text)) => text.is_empty(),
            Self::Json(_) => false,
            Self::Text(text) => text.is_empty(),
        }
    }

    /// As text, where it is one or a number.
    pub fn text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) => Some(text),
            Self::Json(Value::String(text)) => Some(Cow::Borrowed(text)),
            Self::Json(Value::Number(number)) => Some(Cow::Owned(number.to_string())),
            Self::Missing | Self::Json(_) => None,
        }
    }
}

fn cut(text: Cow<'_, str>, letters: usize) -> Cow<'_, str> {
    // No letter is shorter than a byte.
    if text.len() <= letters {
        return text;
    }
    let mut ends = text.grapheme_indices(true).map(|(at, _)| at).skip(letters.saturating_sub(1));
    match (ends.next(), ends.next()) {
        (Some(end), Some(_)) => Cow::Owned(format!("{}…", &text[..end])),
        _ => text,
    }
}

/// A JSON number, or a text of digits, with commas between its thousands.
fn number(piece: &Piece<'_>, decimals: Option<usize>) -> Option<String> {
    let plain = match piece {
        Piece::Json(Value::Number(number)) => Cow::Owned(match (number.as_f64(), decimals) {
            (Some(float), Some(decimals)) if number.is_f64() => format!("{float:.decimals$}"),
            (Some(float), None) if number.is_f64() => float.to_string(),
            _ => number.to_string(),
        }),
        Piece::Json(Value::String(text)) => Cow::Borrowed(text.as_str()),
        Piece::Text(text) => Cow::Borrowed(text.as_ref()),
        Piece::Missing | Piece::Json(_) => return None,
    };
    let (sign, digits) = plain.strip_prefix('-').map_or(("", plain.as_ref()), |rest| ("-", rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 40 || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let decimals = decimals.unwrap_or(fraction.len());
    if fraction.len() > decimals {
        // A text that says more than was asked for.
        let float: f64 = plain.parse().ok()?;
        return number(&Piece::Text(Cow::Owned(format!("{float:.decimals$}"))), Some(decimals));
    }
    let mut text = String::with_capacity(plain.len() * 4 / 3 + decimals + 2);
    text.push_str(sign);
    push_grouped(&mut text, whole);
    if decimals > 0 {
        text.push('.');
        text.push_str(fraction);
        text.extend(std::iter::repeat_n('0', decimals - fraction.len()));
    }
    Some(text)
}

fn push_grouped(text: &mut String, digits: &str) {
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
}
