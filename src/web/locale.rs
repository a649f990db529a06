//! Languages and the catalogue of texts (`locales/*.toml`, compiled in).

use axum::{
    Form,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{cookie, return_to};
use crate::{app::App, flex};

// `TAGS` and `TEXTS`, which build.rs has checked.
include!(concat!(env!("OUT_DIR"), "/texts.rs"));

/// A language that the pages speak; in the order of `TAGS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Locale {
    En,
    Ja,
    Th,
    ZhTw,
}

impl Locale {
    pub const ALL: [Self; TAGS.len()] = [Self::En, Self::Ja, Self::Th, Self::ZhTw];

    /// The BCP 47 tag.
    pub fn tag(self) -> &'static str {
        TAGS[self as usize]
    }

    /// What those who speak it call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::En => "English",
            Self::Ja => "日本語",
            Self::Th => "ไทย",
            Self::ZhTw => "繁體中文",
        }
    }

    /// The language of a tag such as `ja`, `ja-JP` or `zh_Hant_HK`.
    pub fn of_tag(tag: &str) -> Option<Self> {
        let known = flex::language(tag.trim())?;
        Self::ALL.into_iter().find(|locale| locale.tag() == known)
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

    /// The text under `section.name`, as we wrote it; what people are shown comes from [`Texts`](super::texts::Texts).
    pub fn text(self, key: &str) -> &'static str {
        match place(key) {
            Some(place) => TEXTS[place].1[self as usize],
            None => {
                debug_assert!(false, "there is no text {key}");
                tracing::error!(key, "a text is missing in the catalogue");
                ""
            }
        }
    }
}

fn place(key: &str) -> Option<usize> {
    TEXTS.binary_search_by(|(known, _)| (*known).cmp(key)).ok()
}

/// A key of the catalogue, as it stands there.
pub(super) fn find(key: &str) -> Option<&'static str> {
    place(key).map(|place| TEXTS[place].0)
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
    use super::*;

    #[test]
    fn each_language_is_its_own_column() {
        assert_eq!(Locale::ALL.map(Locale::tag), ["en", "ja", "th", "zh-TW"]);
        assert_eq!(Locale::ALL.map(|locale| locale.text("nav.sign_in")), ["Sign in", "ログイン", "เข้าสู่ระบบ", "登入"]);
    }

    #[test]
    fn browser_wishes_are_read_by_weight() {
        for (header, expected) in [
            ("ja,en;q=0.5", Some(Locale::Ja)),
            ("fr, en-GB;q=0.8, ja;q=0.9", Some(Locale::Ja)),
            ("EN-us", Some(Locale::En)),
            ("th-TH,th;q=0.9,en;q=0.8", Some(Locale::Th)),
            ("zh-Hant-TW", Some(Locale::ZhTw)),
            ("zh-HK,zh;q=0.9", Some(Locale::ZhTw)),
            ("zh", Some(Locale::ZhTw)),
            ("zh-CN, en;q=0.5", Some(Locale::En)),
            ("fr", None),
            ("", None),
            (";q=;;,,", None),
        ] {
            assert_eq!(Locale::of_accept_language(header), expected, "{header}");
        }
    }
}
