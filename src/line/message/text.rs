//! Texts with more than letters: LINE's emoji, and texts whose places are filled by LINE.

use std::collections::BTreeMap;

use serde::Serialize;

/// One of LINE's own emoji in a text, in the place of a `$`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Emoji {
    /// Where the `$` is, in UTF-16 units.
    index: usize,
    product_id: String,
    emoji_id: String,
}

/// A text with places `{name}`, which LINE fills with an emoji or a mention. Other braces are written twice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TextV2 {
    text: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    substitution: BTreeMap<String, Substitution>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quote_token: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Substitution {
    Emoji { product_id: String, emoji_id: String },
    Mention { mentionee: Mentionee },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Mentionee {
    User { user_id: String },
    All,
}

impl Emoji {
    /// The emoji for each `$` of a text in turn; a `$` too many stays one.
    pub fn for_dollars<'a>(text: &str, emojis: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Self> {
        let units = text.encode_utf16().enumerate();
        let dollars = units.filter(|(_, unit)| *unit == u16::from(b'$')).map(|(index, _)| index);
        let made = dollars.zip(emojis).map(|(index, (product_id, emoji_id))| Self {
            index,
            product_id: product_id.to_owned(),
            emoji_id: emoji_id.to_owned(),
        });
        made.collect()
    }
}

impl TextV2 {
    /// A text with places; text from elsewhere goes through [`escape`] first.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    #[must_use]
    pub fn emoji(self, place: &str, product_id: &str, emoji_id: &str) -> Self {
        self.fill(place, Substitution::Emoji { product_id: product_id.to_owned(), emoji_id: emoji_id.to_owned() })
    }

    /// Names a member of the group; in a reply or push to a group only.
    #[must_use]
    pub fn mention(self, place: &str, user_id: &str) -> Self {
        self.fill(place, Substitution::Mention { mentionee: Mentionee::User { user_id: user_id.to_owned() } })
    }

    /// Names everybody in the group.
    #[must_use]
    pub fn mention_all(self, place: &str) -> Self {
        self.fill(place, Substitution::Mention { mentionee: Mentionee::All })
    }

    fn fill(mut self, place: &str, with: Substitution) -> Self {
        self.substitution.insert(place.to_owned(), with);
        self
    }
}

/// Text that stays as it is within a [`TextV2`].
pub fn escape(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}")
}

#[cfg(test)]
mod tests {
    use super::{Emoji, escape};

    #[test]
    fn emoji_are_placed_by_utf16_units() {
        let emojis = Emoji::for_dollars("😀$a$$", [("p", "1"), ("p", "2")]);
        assert_eq!(emojis.iter().map(|emoji| emoji.index).collect::<Vec<_>>(), [2, 4]);
    }

    #[test]
    fn braces_are_written_twice() {
        assert_eq!(escape("{a}{"), "{{a}}{{");
    }
}
