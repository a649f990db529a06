//! Collecting the breaches of a body, each with its place, as `messages[0].text`; and LINE's two ways to count letters.
//!
//! Lengths are UTF-16 code units, except labels, titles and other short texts, which are grapheme clusters.

use serde_json::Value;
use unicode_segmentation::UnicodeSegmentation;

use crate::simulator::answer::Detail;

/// The breaches found in one body.
#[derive(Default)]
pub(in crate::simulator) struct Found(pub Vec<Detail>);

impl Found {
    pub fn add(&mut self, property: impl Into<String>, message: impl Into<String>) {
        self.0.push(Detail { message: message.into(), property: property.into() });
    }

    /// A text that must be there, not empty, and not longer than `max` by `measure`.
    pub fn text(&mut self, holder: &Value, at: &str, name: &str, max: usize, measure: fn(&str) -> usize) {
        match holder.get(name) {
            None | Some(Value::Null) => self.add(join(at, name), "May not be empty"),
            Some(Value::String(text)) if text.is_empty() => {
                self.add(join(at, name), "May not be empty");
            }
            Some(_) => self.optional_text(holder, at, name, max, measure),
        }
    }

    /// A text that may be absent.
    pub fn optional_text(&mut self, holder: &Value, at: &str, name: &str, max: usize, measure: fn(&str) -> usize) {
        match holder.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if measure(text) <= max => {}
            Some(Value::String(_)) => {
                self.add(join(at, name), format!("Length must be between 0 and {max}"));
            }
            Some(_) => self.add(join(at, name), "must be a string"),
        }
    }

    /// A URL that must be there, and https (plain http only on this machine).
    pub fn media_url(&mut self, holder: &Value, at: &str, name: &str) {
        self.text(holder, at, name, 2000, units);
        let url = holder.get(name).and_then(Value::as_str).unwrap_or_default();
        if !url.is_empty() && !is_secure(url) {
            self.add(join(at, name), "Must be a valid HTTPS URL");
        }
    }

    pub fn optional_media_url(&mut self, holder: &Value, at: &str, name: &str) {
        if holder.get(name).is_some_and(|url| !url.is_null()) {
            self.media_url(holder, at, name);
        }
    }

    /// Where a tap leads; must be there.
    pub fn uri(&mut self, holder: &Value, at: &str, name: &str) {
        self.text(holder, at, name, 1000, units);
        let text = holder.get(name).and_then(Value::as_str).unwrap_or_default();
        let known = url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https" | "line" | "tel"));
        if !text.is_empty() && (!known || !is_encoded(text)) {
            self.add(join(at, name), "invalid uri");
        }
    }

    /// One of some words, where it is there.
    pub fn word(&mut self, holder: &Value, at: &str, name: &str, words: &[&str]) {
        let value = holder.get(name).filter(|value| !value.is_null());
        if value.is_some_and(|value| !value.as_str().is_some_and(|word| words.contains(&word))) {
            self.add(join(at, name), format!("Must be one of the following values: [{}]", words.join(", ")));
        }
    }

    /// A whole number that must be there.
    pub fn number(&mut self, holder: &Value, at: &str, name: &str, min: i64, max: i64) {
        match holder.get(name) {
            None | Some(Value::Null) => self.add(join(at, name), "May not be null"),
            Some(number) if number.as_i64().is_some_and(|number| (min..=max).contains(&number)) => {}
            Some(_) => self.add(join(at, name), format!("Must be between {min} and {max}")),
        }
    }

    /// `#RRGGBB` or `#RRGGBBAA`, where it is there.
    pub fn colour(&mut self, holder: &Value, at: &str, name: &str) {
        let value = holder.get(name).filter(|value| !value.is_null());
        let fits = |text: &str| {
            let digits = text.strip_prefix('#').unwrap_or_default();
            matches!(digits.len(), 6 | 8) && digits.bytes().all(|b| b.is_ascii_hexdigit())
        };
        if value.is_some_and(|value| !value.as_str().is_some_and(fits)) {
            self.add(join(at, name), "invalid color");
        }
    }

    /// A list with so many entries; gives them.
    pub fn list<'v>(&mut self, holder: &'v Value, at: &str, name: &str, min: usize, max: usize) -> &'v [Value] {
        let list = holder.get(name).and_then(Value::as_array);
        match list {
            Some(list) if (min..=max).contains(&list.len()) => list,
            Some(_) => {
                self.add(join(at, name), format!("Size must be between {min} and {max}"));
                &[]
            }
            None => {
                if min > 0 || holder.get(name).is_some() {
                    self.add(join(at, name), "May not be empty");
                }
                &[]
            }
        }
    }
}

/// UTF-16 code units.
pub(in crate::simulator) fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Grapheme clusters.
pub(in crate::simulator) fn graphemes(text: &str) -> usize {
    text.graphemes(true).count()
}

/// Percent-encoded, as LINE's documents ask.
fn is_encoded(url: &str) -> bool {
    url.bytes().all(|b| b.is_ascii_graphic())
}

fn is_secure(url: &str) -> bool {
    is_encoded(url)
        && url::Url::parse(url).is_ok_and(|url| {
            url.scheme() == "https"
                || (url.scheme() == "http" && matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")))
        })
}

pub(in crate::simulator) fn join(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::{graphemes, units};

    #[test]
    fn lengths() {
        assert_eq!(units("a😀"), 3);
        assert_eq!(graphemes("a😀"), 2);
        assert_eq!(graphemes("👨‍👩‍👧"), 1);
        assert_eq!(graphemes("🇯🇵🇹🇭"), 2);
        assert_eq!(graphemes("か\u{3099}"), 1);
    }
}
