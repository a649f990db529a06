//! The texts of `locales/*.toml`: checked against each other and against who uses them, and made into one table.

use std::collections::{BTreeMap, BTreeSet};

/// A language by its tag, and its texts by `section.name`.
pub type Language = (String, BTreeMap<String, String>);

/// The texts of a language's file.
pub fn read(tag: &str, file: &str) -> Result<Language, String> {
    type Sections = BTreeMap<String, BTreeMap<String, String>>;
    let sections: Sections = toml::from_str(file).map_err(|error| format!("locales/{tag}.toml: {error}"))?;
    let named = |(section, texts): (String, BTreeMap<String, String>)| {
        texts.into_iter().map(move |(name, text)| (format!("{section}.{name}"), text))
    };
    Ok((tag.to_owned(), sections.into_iter().flat_map(named).collect()))
}

/// What is wrong, none where each language says the same things, and each of them is asked for by one of `sources`
/// (the program's files and templates).
pub fn mistakes(languages: &[Language], sources: &[String]) -> Vec<String> {
    let keys: BTreeSet<&str> = languages.iter().flat_map(|(_, texts)| texts.keys().map(String::as_str)).collect();
    let mut mistakes = Vec::new();
    for (tag, texts) in languages {
        let missing = keys.iter().filter(|key| texts.get(**key).is_none_or(|text| text.trim().is_empty()));
        mistakes.extend(missing.map(|key| format!("locales/{tag}.toml: {key} is missing")));
    }
    for key in &keys {
        let said = languages.iter().filter_map(|(_, texts)| texts.get(*key));
        let ways: BTreeSet<_> = said.map(|text| placeholders(text)).collect();
        if ways.len() > 1 {
            mistakes.push(format!("locales: {key} has other placeholders in one language than in another: {ways:?}"));
        }
    }
    let quoted = Quoted::of(sources);
    mistakes.extend(keys.iter().filter(|key| !quoted.uses(key)).map(|key| format!("locales: nothing shows {key}")));
    let unknown = quoted.asked.difference(&keys);
    mistakes.extend(unknown.map(|key| format!("{key} is asked for, and there is no such text")));
    mistakes
}

/// The numbers in `{0}`, `{1}`.
fn placeholders(text: &str) -> BTreeSet<&str> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(number, _)| number).collect()
}

/// What stands between quotes in the sources.
struct Quoted<'a> {
    /// `section.name` and single words.
    words: BTreeSet<&'a str>,
    /// The same with places that are filled in, as in `error.{key}_title`.
    patterns: BTreeSet<&'a str>,
    /// Keys that are handed to `t`, `with` or `text` just as they are.
    asked: BTreeSet<&'a str>,
}

impl<'a> Quoted<'a> {
    fn of(sources: &'a [String]) -> Self {
        let mut found = Self { words: BTreeSet::new(), patterns: BTreeSet::new(), asked: BTreeSet::new() };
        for source in sources {
            let mut before = "";
            // Both sides of every quote, so that an odd one somewhere hides nothing.
            for piece in source.split('"') {
                let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._{}".contains(c);
                if !piece.is_empty() && piece.chars().all(is_plain) {
                    if piece.contains('{') {
                        found.patterns.insert(piece);
                    } else {
                        found.words.insert(piece);
                        if is_asking(before) && piece.contains('.') {
                            found.asked.insert(piece);
                        }
                    }
                }
                before = piece;
            }
        }
        found
    }

    fn uses(&self, key: &str) -> bool {
        self.words.contains(key) || self.patterns.iter().any(|pattern| pattern.contains('.') && self.fits(key, pattern))
    }

    /// Whether `pattern` becomes `key` with words of the sources in its places.
    fn fits(&self, key: &str, pattern: &str) -> bool {
        let Some((start, rest)) = pattern.split_once('{') else { return key == pattern };
        let Some((_, rest)) = rest.split_once('}') else { return false };
        let Some(key) = key.strip_prefix(start) else { return false };
        (1..=key.len()).any(|end| self.words.contains(&key[..end]) && self.fits(&key[end..], rest))
    }
}

fn is_asking(before: &str) -> bool {
    let before = before.trim_end();
    [".t(", ".with(", "locale.text("].iter().any(|call| before.ends_with(call))
}

/// The table as Rust: the languages' tags in their order, and each key with its texts in that order.
pub fn table(languages: &[Language]) -> String {
    let count = languages.len();
    let tags: Vec<&str> = languages.iter().map(|(tag, _)| tag.as_str()).collect();
    let keys = languages.first().into_iter().flat_map(|(_, texts)| texts.keys());
    let row = |key: &String| {
        let texts: Vec<&str> = languages.iter().filter_map(|(_, texts)| texts.get(key).map(String::as_str)).collect();
        format!("({key:?}, {texts:?}),\n")
    };
    let rows: String = keys.map(row).collect();
    format!("const TAGS: [&str; {count}] = {tags:?};\nstatic TEXTS: &[(&str, [&str; {count}])] = &[\n{rows}];\n")
}
