//! The words of the page that LINE opens (`locales/liff.toml`), in the languages of LINE's own app: it is shown before
//! anything is known of the person.

use std::{collections::HashMap, sync::LazyLock};

use axum::http::HeaderMap;

/// What can be wrong, and what its button does: `reload` the page, forget what LIFF keeps in this browser and `reopen` the
/// page by LINE, or `sign_in` without LIFF.
pub const PROBLEMS: [(&str, &str); 11] = [
    ("expired", "reopen"),
    ("replayed", "reopen"),
    ("clock", "reload"),
    ("scope", "sign_in"),
    ("storage", "reopen"),
    ("outside", "reload"),
    ("sdk", "reload"),
    ("unavailable", "reload"),
    ("busy", "reload"),
    ("account", "sign_in"),
    ("failed", "reopen"),
];

/// One language.
#[derive(Debug)]
pub struct Texts {
    pub lang: String,
    texts: HashMap<String, String>,
}

static ALL: LazyLock<Vec<Texts>> = LazyLock::new(|| {
    let languages: HashMap<String, HashMap<String, String>> =
        toml::from_str(include_str!("../../../locales/liff.toml")).unwrap_or_default();
    let mut all: Vec<Texts> = languages.into_iter().map(|(lang, texts)| Texts { lang, texts }).collect();
    // The first stands in where nothing fits.
    all.sort_by(|one, other| one.lang.cmp(&other.lang));
    all
});

impl Texts {
    /// The text under a name; a test sees to it that there is one.
    pub fn get(&self, name: &str) -> &str {
        self.texts.get(name).map(String::as_str).unwrap_or_default()
    }
}

/// The visitor's own choice, then the browser's wishes, then the company's language.
pub fn choose(headers: &HeaderMap, switch: Option<&str>, default: &str) -> &'static Texts {
    let wishes = headers.get("accept-language").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let found = switch.and_then(of_tag).or_else(|| of_wishes(wishes)).or_else(|| of_tag(default));
    static NONE: LazyLock<Texts> = LazyLock::new(|| Texts { lang: "en".into(), texts: HashMap::new() });
    found.or_else(|| of_tag("en")).unwrap_or(&NONE)
}

/// Browsers name their wishes in the order of their weight.
fn of_wishes(header: &str) -> Option<&'static Texts> {
    header.split(',').take(20).filter_map(|wish| wish.split(';').next()).find_map(of_tag)
}

/// The language of a tag such as `ja`, `th-TH` or `zh-Hant-TW`. There is one Chinese.
fn of_tag(tag: &str) -> Option<&'static Texts> {
    let primary = tag.trim().split(['-', '_']).next()?.to_ascii_lowercase();
    let wanted = if primary == "zh" { "zh-TW" } else { primary.as_str() };
    ALL.iter().find(|texts| texts.lang == wanted)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn all_languages_have_the_same_texts() {
        let of = |texts: &Texts| texts.texts.keys().cloned().collect::<BTreeSet<_>>();
        let languages: Vec<_> = ALL.iter().map(|texts| texts.lang.as_str()).collect();
        assert_eq!(languages, ["en", "ja", "th", "zh-TW"]);
        for texts in ALL.iter() {
            assert_eq!(of(texts), of(&ALL[0]), "{}", texts.lang);
            assert!(texts.texts.values().all(|text| !text.trim().is_empty()), "{}", texts.lang);
        }
        let mut wanted: BTreeSet<String> =
            ["title", "opening", "no_script", "no_script_next"].iter().map(|name| (*name).to_owned()).collect();
        for (problem, _) in PROBLEMS {
            wanted.extend(["title", "text", "next"].map(|part| format!("{problem}_{part}")));
        }
        assert_eq!(of(&ALL[0]), wanted);
    }

    #[test]
    fn the_language_of_whoever_opens_it() {
        let choose = |wishes: &str, switch| {
            let headers = HeaderMap::from_iter([(axum::http::header::ACCEPT_LANGUAGE, wishes.parse().unwrap())]);
            choose(&headers, switch, "ja").lang.as_str()
        };
        for (wishes, lang) in [
            ("th-TH,th;q=0.9,en;q=0.8", "th"),
            ("zh-Hant-TW,zh;q=0.9", "zh-TW"),
            ("zh_TW", "zh-TW"),
            ("fr, en;q=0.5", "en"),
            ("EN-us", "en"),
            ("fr", "ja"),
            ("", "ja"),
        ] {
            assert_eq!(choose(wishes, None), lang, "{wishes}");
        }
        assert_eq!(choose("th", Some("en")), "en");
        assert_eq!(choose("th", Some("nonsense")), "th");
    }
}
