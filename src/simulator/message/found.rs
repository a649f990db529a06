//! Collecting the breaches of a body, each with its place, as `messages[0].text`; and LINE's two ways to count letters.
//!
//! Lengths are UTF-16 code units, except labels, titles and other short texts, which are grapheme clusters.

use serde_json::Value;

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

/// Grapheme clusters, near enough for labels: marks, joiners, variation selectors, skin tones and the second half of a
/// flag belong to what stands before them.
pub(in crate::simulator) fn graphemes(text: &str) -> usize {
    let mut count = 0;
    let (mut joined, mut half_flag) = (false, false);
    for letter in text.chars() {
        let flag = ('\u{1f1e6}'..='\u{1f1ff}').contains(&letter);
        let extends = matches!(letter,
            '\u{300}'..='\u{36f}' | '\u{e31}' | '\u{e34}'..='\u{e3a}' | '\u{e47}'..='\u{e4e}'
            | '\u{200d}' | '\u{20d0}'..='\u{20ff}' | '\u{3099}' | '\u{309a}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}' | '\u{e0020}'..='\u{e007f}');
        let second_half = flag && half_flag;
        if !(extends || joined || second_half) {
            count += 1;
        }
        joined = letter == '\u{200d}';
        half_flag = flag && !half_flag;
    }
    count
}

fn is_secure(url: &str) -> bool {
    url::Url::parse(url).is_ok_and(|url| {
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
