//! The aliases of all files: each is one file's, in one of its languages.

use std::collections::BTreeMap;

use super::draft::{Draft, is_word};

/// All aliases of the files, each with the file's plain one and the languages in which it has one of its own.
#[derive(Debug, Default)]
pub(super) struct Aliases(BTreeMap<String, BTreeMap<String, String>>);

impl Aliases {
    /// Of all files; two of one name are a mistake.
    pub fn of(drafts: &[Draft<'_>], mistakes: &mut Vec<String>) -> Self {
        let mut all = Self::default();
        for draft in drafts {
            let Some(plain) = &draft.alias else { continue };
            let own: BTreeMap<String, String> = draft
                .languages
                .iter()
                .filter_map(|language| Some((language.clone(), draft.alias_in(language)?)))
                .collect();
            for alias in own.values() {
                if !is_word(alias) {
                    mistakes
                        .push(draft.mistake("alias", &format!("{alias:?}, in another language, is longer than 32")));
                }
                let entry = if alias == plain { own.clone() } else { BTreeMap::new() };
                if all.0.insert(alias.clone(), entry).is_some() {
                    mistakes.push(draft.mistake("alias", &format!("{alias:?} is another file's too")));
                }
            }
        }
        all
    }

    /// The alias to lead to, where a menu in `language` names `written`.
    pub fn find<'s>(&'s self, written: &'s str, language: &str) -> Option<&'s str> {
        let own = self.0.get(written)?;
        Some(own.get(language).map_or(written, String::as_str))
    }
}
