//! Languages and the catalogue of texts (`locales/*.toml`, compiled in).

use std::{collections::HashMap, sync::LazyLock};

use axum::{
    Form,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{cookie, return_to};
use crate::app::App;

/// A language that the pages speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Locale {
    En,
    Ja,
}

impl Locale {
    pub const ALL: [Self; 2] = [Self::En, Self::Ja];

    /// The BCP 47 tag.
    pub fn tag(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Ja => "ja",
        }
    }

    /// The language of a tag such as `ja`, `ja-JP` or `en_US`.
    pub fn of_tag(tag: &str) -> Option<Self> {
        let primary = tag.trim().split(['-', '_']).next()?.to_ascii_lowercase();
        Self::ALL.into_iter().find(|locale| locale.tag() == primary)
    }

    /// The browser's first wish that we can meet; wishes come in order of weight in practice, and are sorted here.
    pub fn of_accept_language(header: &str) -> Option<Self> {
        let mut wishes: Vec<(i32, &str)> = header
            .split(',')
            .take(20)
            .map(|wish| {
                let (tag, weight) = wish.split_once(";q=").unwrap_or((wish, "1"));
                let weight = weight.trim().parse::<f32>().unwrap_or(0.0);
                (-(weight * 1000.0) as i32, tag)
            })
            .collect();
        wishes.sort_by_key(|(weight, _)| *weight);
        wishes.into_iter().find_map(|(_, tag)| Self::of_tag(tag))
    }

    /// The text under `section.name`; the key itself where there is none, which a test makes impossible.
    pub fn text(self, key: &str) -> &'static str {
        let texts = &CATALOGUE[&self];
        texts.get(key).map_or_else(|| missing(key), String::as_str)
    }
}

static CATALOGUE: LazyLock<HashMap<Locale, HashMap<String, String>>> = LazyLock::new(|| {
    HashMap::from([
        (Locale::En, flatten(include_str!("../../locales/en.toml"))),
        (Locale::Ja, flatten(include_str!("../../locales/ja.toml"))),
    ])
});

fn flatten(toml: &str) -> HashMap<String, String> {
    let sections: HashMap<String, HashMap<String, String>> = toml::from_str(toml).unwrap_or_default();
    sections
        .into_iter()
        .flat_map(|(section, texts)| texts.into_iter().map(move |(name, text)| (format!("{section}.{name}"), text)))
        .collect()
}

fn missing(key: &str) -> &'static str {
    tracing::error!(key, "a text is missing in the catalogue");
    ""
}

/// The texts' keys, for the test that compares languages.
pub fn keys(locale: Locale) -> Vec<&'static str> {
    CATALOGUE[&locale].keys().map(String::as_str).collect()
}

#[derive(Deserialize)]
pub struct Switch {
    locale: String,
    #[serde(default)]
    return_to: String,
}

/// `POST /locale`: the visitor's own switch, kept for a year.
pub async fn switch(State(app): State<App>, Form(form): Form<Switch>) -> Response {
    let back = Redirect::to(&return_to::path(&form.return_to, &app.config.public_url));
    match Locale::of_tag(&form.locale) {
        Some(locale) => {
            (cookie::set(&app.config, cookie::LOCALE, locale.tag(), Some(365 * 24 * 3600)), back).into_response()
        }
        None => back.into_response(),
    }
}

/// The visitor's switch, then what is known of the member, then the browser, then the company's default.
pub fn choose(headers: &HeaderMap, switch: Option<&str>, member: Option<&str>, default: &str) -> Locale {
    let browser = headers.get("accept-language").and_then(|value| value.to_str().ok());
    switch
        .and_then(Locale::of_tag)
        .or_else(|| member.and_then(Locale::of_tag))
        .or_else(|| browser.and_then(Locale::of_accept_language))
        .or_else(|| Locale::of_tag(default))
        .unwrap_or(Locale::En)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn all_languages_have_the_same_texts() {
        let of = |locale| keys(locale).into_iter().collect::<BTreeSet<_>>();
        assert!(of(Locale::En).len() > 100);
        assert_eq!(of(Locale::En), of(Locale::Ja));
    }

    #[test]
    fn browser_wishes_are_read_by_weight() {
        for (header, expected) in [
            ("ja,en;q=0.5", Some(Locale::Ja)),
            ("fr, en-GB;q=0.8, ja;q=0.9", Some(Locale::Ja)),
            ("EN-us", Some(Locale::En)),
            ("fr", None),
            ("", None),
            (";q=;;,,", None),
        ] {
            assert_eq!(Locale::of_accept_language(header), expected, "{header}");
        }
    }
}
