//! Collecting mistakes, and the rules that many properties share. An absent property and `null` are the same.

use std::ops::RangeInclusive;

use serde_json::Value;
use url::Url;

use super::Mistake;
use crate::line::message::measure::{graphemes, units};

const LONGEST_URL: usize = 2000;

/// The mistakes found so far.
#[derive(Default)]
pub(in crate::line) struct Found(Vec<Mistake>);

/// What a text must be like.
#[derive(Clone, Copy)]
pub(in crate::line) struct Text {
    is_needed: bool,
    may_be_empty: bool,
    most: usize,
    measure: fn(&str) -> usize,
}

impl Text {
    /// There, not empty, and of at most so many UTF-16 units.
    pub fn needed(most: usize) -> Self {
        Self { is_needed: true, may_be_empty: false, most, measure: units }
    }

    pub fn optional(most: usize) -> Self {
        Self { is_needed: false, may_be_empty: true, most, measure: units }
    }

    /// Counted by grapheme clusters instead.
    pub fn by_grapheme(self) -> Self {
        Self { measure: graphemes, ..self }
    }

    /// Not empty where it is there.
    pub fn filled(self) -> Self {
        Self { may_be_empty: false, ..self }
    }

    pub fn or_empty(self) -> Self {
        Self { may_be_empty: true, ..self }
    }
}

impl Found {
    pub fn add(&mut self, path: impl Into<String>, text: impl Into<String>) {
        self.0.push(Mistake { path: path.into(), text: text.into() });
    }

    pub fn into_mistakes(self) -> Vec<Mistake> {
        self.0
    }

    pub fn unknown_kind(&mut self, object: &Value, at: &str, known: &str) {
        let text = match value(object, "type") {
            None => format!("is missing; one of: {known}"),
            Some(kind) => format!("{kind} is not known here; one of: {known}"),
        };
        self.add(format!("{at}.type"), text);
    }

    pub fn text(&mut self, object: &Value, at: &str, name: &str, rule: Text) {
        let problem = match value(object, name) {
            None if rule.is_needed => "is missing".to_owned(),
            None => return,
            Some(Value::String(text)) => match (rule.measure)(text) {
                0 if !rule.may_be_empty => "must not be empty".to_owned(),
                count if count > rule.most => format!("has {count} letters, more than {}", rule.most),
                _ => return,
            },
            Some(_) => "must be a text".to_owned(),
        };
        self.add(format!("{at}.{name}"), problem);
    }

    /// A URL of a picture or such: https, or plain http on this machine.
    pub fn url(&mut self, object: &Value, at: &str, name: &str, is_needed: bool) {
        let rule = if is_needed { Text::needed(LONGEST_URL) } else { Text::optional(LONGEST_URL).filled() };
        self.text(object, at, name, rule);
        let is_ours = |url: &Url| url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url));
        self.well_formed(object, at, name, "must be an https URL", is_ours);
    }

    /// Where a tap leads: http, https, line or tel.
    pub fn link(&mut self, object: &Value, at: &str, name: &str, rule: Text) {
        self.text(object, at, name, rule);
        let opens = |url: &Url| match url.scheme() {
            "http" | "https" => url.host_str().is_some_and(|host| !host.is_empty()),
            scheme => matches!(scheme, "line" | "tel"),
        };
        self.well_formed(object, at, name, "must be a URI that begins with https:, http:, line: or tel:", opens);
    }

    fn well_formed(&mut self, object: &Value, at: &str, name: &str, text: &str, fits: impl Fn(&Url) -> bool) {
        let Some(Value::String(uri)) = value(object, name).filter(|uri| uri.as_str() != Some("")) else { return };
        if !uri.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.add(format!("{at}.{name}"), "must be percent-encoded: no spaces, ASCII only");
        } else if !Url::parse(uri).is_ok_and(|url| fits(&url)) {
            self.add(format!("{at}.{name}"), text);
        }
    }

    /// A needed word out of a list.
    pub fn choice(&mut self, object: &Value, at: &str, name: &str, known: &[&str]) {
        match value(object, name) {
            Some(Value::String(word)) if known.contains(&word.as_str()) => {}
            None => self.add(format!("{at}.{name}"), format!("is missing; one of: {}", known.join(", "))),
            Some(other) => {
                self.add(format!("{at}.{name}"), format!("{other} is not known; one of: {}", known.join(", ")));
            }
        }
    }

    pub fn optional_choice(&mut self, object: &Value, at: &str, name: &str, known: &[&str]) {
        if value(object, name).is_some() {
            self.choice(object, at, name, known);
        }
    }

    pub fn flag(&mut self, object: &Value, at: &str, name: &str) {
        if value(object, name).is_some_and(|value| !value.is_boolean()) {
            self.add(format!("{at}.{name}"), "must be true or false");
        }
    }

    /// A needed whole number.
    pub fn whole(&mut self, object: &Value, at: &str, name: &str, range: RangeInclusive<i64>) {
        match value(object, name) {
            None => self.add(format!("{at}.{name}"), "is missing"),
            Some(_) => self.optional_whole(object, at, name, range),
        }
    }

    pub fn optional_whole(&mut self, object: &Value, at: &str, name: &str, range: RangeInclusive<i64>) {
        let Some(number) = value(object, name) else { return };
        if !number.as_i64().is_some_and(|number| range.contains(&number)) {
            let text = format!("must be a whole number from {} to {}", range.start(), range.end());
            self.add(format!("{at}.{name}"), text);
        }
    }

    /// `#RRGGBB`, or with `AA` where it may let through what is below.
    pub fn colour(&mut self, object: &Value, at: &str, name: &str, may_have_alpha: bool) {
        let Some(colour) = value(object, name) else { return };
        let digits = colour.as_str().and_then(|text| text.strip_prefix('#')).unwrap_or_default();
        let is_right = digits.bytes().all(|byte| byte.is_ascii_hexdigit())
            && (digits.len() == 6 || (may_have_alpha && digits.len() == 8));
        if !is_right {
            self.add(format!("{at}.{name}"), "must be a colour as #1A2B3C");
        }
    }

    /// A part that may be absent, with its path.
    pub fn object<'v>(&mut self, holder: &'v Value, at: &str, name: &str) -> Option<(&'v Value, String)> {
        let part = value(holder, name)?;
        let at = format!("{at}.{name}");
        if part.is_object() {
            return Some((part, at));
        }
        self.add(at, "must be an object");
        None
    }

    pub fn needed_object<'v>(&mut self, holder: &'v Value, at: &str, name: &str) -> Option<(&'v Value, String)> {
        if value(holder, name).is_none() {
            self.add(format!("{at}.{name}"), "is missing");
        }
        self.object(holder, at, name)
    }

    /// The entries of a needed list with their paths. Those of a list too long are looked at too.
    pub fn list<'v>(
        &mut self,
        holder: &'v Value,
        at: &str,
        name: &str,
        size: RangeInclusive<usize>,
    ) -> Vec<(&'v Value, String)> {
        let at = format!("{at}.{name}");
        let entries = match value(holder, name) {
            Some(Value::Array(entries)) => entries.as_slice(),
            None => {
                self.add(at, "is missing");
                return Vec::new();
            }
            Some(_) => {
                self.add(at, "must be a list");
                return Vec::new();
            }
        };
        if !size.contains(&entries.len()) {
            let (least, most) = size.into_inner();
            self.add(at.as_str(), format!("must hold {least} to {most} entries, not {}", entries.len()));
        }
        let mut parts = Vec::new();
        for (place, entry) in entries.iter().enumerate() {
            let at = format!("{at}[{place}]");
            if entry.is_object() { parts.push((entry, at)) } else { self.add(at, "must be an object") }
        }
        parts
    }
}

/// A property that is there, and not `null`.
pub(super) fn value<'v>(object: &'v Value, name: &str) -> Option<&'v Value> {
    object.get(name).filter(|value| !value.is_null())
}

/// The `type` of an object; empty where it has none.
pub(super) fn kind(object: &Value) -> &str {
    object.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn is_loopback(url: &Url) -> bool {
    matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
}
