//! The catalogue with what the company says in its own words (`[texts]`), read once at the start.

use std::collections::{BTreeMap, BTreeSet};

use super::locale::{Locale, find};
use crate::config;

/// The texts of this installation: those of the company's own, by language.
#[derive(Debug, Default)]
pub struct Texts([BTreeMap<&'static str, String>; Locale::ALL.len()]);

impl Texts {
    /// What is wrong with the company's own texts is told at once, a line each.
    pub fn new(own: &config::Texts) -> Result<Self, String> {
        let (mut texts, mut mistakes) = (Self::default(), Vec::new());
        for (tag, section, name, text) in own.iter().flat_map(|(tag, sections)| {
            sections
                .iter()
                .flat_map(move |(section, texts)| texts.iter().map(move |(name, text)| (tag, section, name, text)))
        }) {
            match check(tag, &format!("{section}.{name}"), text) {
                Ok((locale, key)) => drop(texts.0[locale as usize].insert(key, text.clone())),
                Err(why) => mistakes.push(format!("texts.{tag}.{section}.{name}: {why}")),
            }
        }
        if mistakes.is_empty() { Ok(texts) } else { Err(mistakes.join("\n")) }
    }

    /// The text under `section.name`.
    pub fn get<'a>(&'a self, locale: Locale, key: &str) -> &'a str {
        self.0[locale as usize].get(key).map_or_else(|| locale.text(key), String::as_str)
    }
}

/// The language and key that a text takes the place of.
fn check(tag: &str, key: &str, text: &str) -> Result<(Locale, &'static str), String> {
    let locale = Locale::ALL.into_iter().find(|locale| locale.tag() == tag);
    let locale = locale.ok_or_else(|| format!("must be of {}", Locale::ALL.map(Locale::tag).join(", ")))?;
    let key = find(key).ok_or("there is no such text; the files in locales/ have them all")?;
    if text.trim().is_empty() {
        return Err("must not be empty".to_owned());
    }
    let (known, used) = (placeholders(locale.text(key)), placeholders(text));
    if used != known {
        return Err(format!("must have the same places to fill as the text it replaces ({})", words(&known)));
    }
    Ok((locale, key))
}

/// The numbers in `{0}`, `{1}`.
fn placeholders(text: &str) -> BTreeSet<&str> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(number, _)| number).collect()
}

fn words(places: &BTreeSet<&str>) -> String {
    let places: Vec<String> = places.iter().map(|place| format!("{{{place}}}")).collect();
    if places.is_empty() { "none".to_owned() } else { places.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(toml: &str) -> Result<Texts, String> {
        Texts::new(&toml::from_str(toml).unwrap())
    }

    #[test]
    fn own_words_take_the_place_of_ours_in_their_language() {
        let texts = texts("[ja.home]\nheading = \"ようこそ\"").unwrap();
        assert_eq!(texts.get(Locale::Ja, "home.heading"), "ようこそ");
        assert_eq!(texts.get(Locale::En, "home.heading"), Locale::En.text("home.heading"));
        assert_eq!(texts.get(Locale::Ja, "home.title"), Locale::Ja.text("home.title"));
    }

    #[test]
    fn each_mistake_is_named() {
        let wrong = texts(
            "[fr.home]\nheading = \"Bonjour\"\n[en.home]\nheading = \" \"\nlead = \"Hello\"\nnothing = \"x\"\n\
             [ja.home]\nlead = \"{0}と{1}\"",
        );
        let wrong = wrong.unwrap_err();
        let lines: Vec<&str> = wrong.lines().collect();
        for (line, expected) in lines.iter().zip([
            "texts.en.home.heading: must not be empty",
            "texts.en.home.lead: must have the same places to fill as the text it replaces ({0})",
            "texts.en.home.nothing: there is no such text; the files in locales/ have them all",
            "texts.fr.home.heading: must be of en, ja, th, zh-TW",
            "texts.ja.home.lead: must have the same places to fill as the text it replaces ({0})",
        ]) {
            assert_eq!(*line, expected);
        }
        assert_eq!(lines.len(), 5, "{wrong}");
    }
}
