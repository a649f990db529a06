//! The message templates that come with Musubi: one JSON file a language, a LINE message object with
//! placeholders, or a list of them.

use serde_json::Value;

use crate::flex::RenderError;

const SHIPPED: [(&str, &str, &str); 4] = [
    ("link_conflict", "en", include_str!("../../templates/messages/link_conflict.en.json")),
    ("link_conflict", "ja", include_str!("../../templates/messages/link_conflict.ja.json")),
    ("welcome", "en", include_str!("../../templates/messages/welcome.en.json")),
    ("welcome", "ja", include_str!("../../templates/messages/welcome.ja.json")),
];

/// Why a message cannot be sent at all.
#[derive(Debug, thiserror::Error)]
pub enum Unsendable {
    #[error("there is no message template {name} in {locale}")]
    NoTemplate { name: String, locale: String },
    #[error("the message template is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("a message template is one to five LINE message objects")]
    Shape,
    #[error(transparent)]
    Render(#[from] RenderError),
}

/// The template `name` for `locale`, which may be more specific than the languages we have: `ja-JP` is `ja`.
pub fn template(name: &str, locale: &str) -> Result<Value, Unsendable> {
    let language = locale.split(['-', '_']).next().unwrap_or(locale);
    let found = SHIPPED.iter().find(|shipped| shipped.0 == name && shipped.1 == language);
    let missing = || Unsendable::NoTemplate { name: name.to_owned(), locale: locale.to_owned() };
    Ok(serde_json::from_str(found.ok_or_else(missing)?.2)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_shipped_template_renders() {
        let url = "https://members.example.jp/account";
        let data = BTreeMap::from([("name", "Aiko \"A\"\n"), ("company", "Example"), ("account_url", url)]);
        for (name, locale, _) in SHIPPED {
            let template = template(name, locale).unwrap();
            super::super::content(&template, &data).unwrap_or_else(|error| panic!("{name}.{locale}: {error}"));
        }
    }

    #[test]
    fn finds_by_language() {
        assert!(template("welcome", "ja-JP").is_ok());
        assert!(matches!(template("welcome", "fr"), Err(Unsendable::NoTemplate { .. })));
        assert!(matches!(template("nothing", "ja"), Err(Unsendable::NoTemplate { .. })));
    }
}
