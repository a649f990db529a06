//! The message templates that come with Musubi: one JSON file a language, a LINE message object with
//! placeholders, or a list of them.

use serde_json::Value;

use crate::flex::RenderError;

/// The languages that every shipped template has.
pub const LANGUAGES: [&str; 4] = ["en", "ja", "th", "zh-TW"];

const SHIPPED: [(&str, &str, &str); 84] = [
    ("default_answer", "en", include_str!("../../templates/messages/default_answer.en.json")),
    ("default_answer", "ja", include_str!("../../templates/messages/default_answer.ja.json")),
    ("default_answer", "th", include_str!("../../templates/messages/default_answer.th.json")),
    ("default_answer", "zh-TW", include_str!("../../templates/messages/default_answer.zh-TW.json")),
    ("greeting", "en", include_str!("../../templates/messages/greeting.en.json")),
    ("greeting", "ja", include_str!("../../templates/messages/greeting.ja.json")),
    ("greeting", "th", include_str!("../../templates/messages/greeting.th.json")),
    ("greeting", "zh-TW", include_str!("../../templates/messages/greeting.zh-TW.json")),
    ("greeting_back", "en", include_str!("../../templates/messages/greeting_back.en.json")),
    ("greeting_back", "ja", include_str!("../../templates/messages/greeting_back.ja.json")),
    ("greeting_back", "th", include_str!("../../templates/messages/greeting_back.th.json")),
    ("greeting_back", "zh-TW", include_str!("../../templates/messages/greeting_back.zh-TW.json")),
    ("greeting_linked", "en", include_str!("../../templates/messages/greeting_linked.en.json")),
    ("greeting_linked", "ja", include_str!("../../templates/messages/greeting_linked.ja.json")),
    ("greeting_linked", "th", include_str!("../../templates/messages/greeting_linked.th.json")),
    ("greeting_linked", "zh-TW", include_str!("../../templates/messages/greeting_linked.zh-TW.json")),
    ("link_already", "en", include_str!("../../templates/messages/link_already.en.json")),
    ("link_already", "ja", include_str!("../../templates/messages/link_already.ja.json")),
    ("link_already", "th", include_str!("../../templates/messages/link_already.th.json")),
    ("link_already", "zh-TW", include_str!("../../templates/messages/link_already.zh-TW.json")),
    ("link_conflict", "en", include_str!("../../templates/messages/link_conflict.en.json")),
    ("link_conflict", "ja", include_str!("../../templates/messages/link_conflict.ja.json")),
    ("link_conflict", "th", include_str!("../../templates/messages/link_conflict.th.json")),
    ("link_conflict", "zh-TW", include_str!("../../templates/messages/link_conflict.zh-TW.json")),
    ("link_expired", "en", include_str!("../../templates/messages/link_expired.en.json")),
    ("link_expired", "ja", include_str!("../../templates/messages/link_expired.ja.json")),
    ("link_expired", "th", include_str!("../../templates/messages/link_expired.th.json")),
    ("link_expired", "zh-TW", include_str!("../../templates/messages/link_expired.zh-TW.json")),
    ("link_failed", "en", include_str!("../../templates/messages/link_failed.en.json")),
    ("link_failed", "ja", include_str!("../../templates/messages/link_failed.ja.json")),
    ("link_failed", "th", include_str!("../../templates/messages/link_failed.th.json")),
    ("link_failed", "zh-TW", include_str!("../../templates/messages/link_failed.zh-TW.json")),
    ("link_member_taken", "en", include_str!("../../templates/messages/link_member_taken.en.json")),
    ("link_member_taken", "ja", include_str!("../../templates/messages/link_member_taken.ja.json")),
    ("link_member_taken", "th", include_str!("../../templates/messages/link_member_taken.th.json")),
    ("link_member_taken", "zh-TW", include_str!("../../templates/messages/link_member_taken.zh-TW.json")),
    ("link_offer", "en", include_str!("../../templates/messages/link_offer.en.json")),
    ("link_offer", "ja", include_str!("../../templates/messages/link_offer.ja.json")),
    ("link_offer", "th", include_str!("../../templates/messages/link_offer.th.json")),
    ("link_offer", "zh-TW", include_str!("../../templates/messages/link_offer.zh-TW.json")),
    ("link_other_line", "en", include_str!("../../templates/messages/link_other_line.en.json")),
    ("link_other_line", "ja", include_str!("../../templates/messages/link_other_line.ja.json")),
    ("link_other_line", "th", include_str!("../../templates/messages/link_other_line.th.json")),
    ("link_other_line", "zh-TW", include_str!("../../templates/messages/link_other_line.zh-TW.json")),
    ("link_taken", "en", include_str!("../../templates/messages/link_taken.en.json")),
    ("link_taken", "ja", include_str!("../../templates/messages/link_taken.ja.json")),
    ("link_taken", "th", include_str!("../../templates/messages/link_taken.th.json")),
    ("link_taken", "zh-TW", include_str!("../../templates/messages/link_taken.zh-TW.json")),
    ("link_unavailable", "en", include_str!("../../templates/messages/link_unavailable.en.json")),
    ("link_unavailable", "ja", include_str!("../../templates/messages/link_unavailable.ja.json")),
    ("link_unavailable", "th", include_str!("../../templates/messages/link_unavailable.th.json")),
    ("link_unavailable", "zh-TW", include_str!("../../templates/messages/link_unavailable.zh-TW.json")),
    ("status_linked", "en", include_str!("../../templates/messages/status_linked.en.json")),
    ("status_linked", "ja", include_str!("../../templates/messages/status_linked.ja.json")),
    ("status_linked", "th", include_str!("../../templates/messages/status_linked.th.json")),
    ("status_linked", "zh-TW", include_str!("../../templates/messages/status_linked.zh-TW.json")),
    ("status_suspended", "en", include_str!("../../templates/messages/status_suspended.en.json")),
    ("status_suspended", "ja", include_str!("../../templates/messages/status_suspended.ja.json")),
    ("status_suspended", "th", include_str!("../../templates/messages/status_suspended.th.json")),
    ("status_suspended", "zh-TW", include_str!("../../templates/messages/status_suspended.zh-TW.json")),
    ("status_unlinked", "en", include_str!("../../templates/messages/status_unlinked.en.json")),
    ("status_unlinked", "ja", include_str!("../../templates/messages/status_unlinked.ja.json")),
    ("status_unlinked", "th", include_str!("../../templates/messages/status_unlinked.th.json")),
    ("status_unlinked", "zh-TW", include_str!("../../templates/messages/status_unlinked.zh-TW.json")),
    ("unlink_ask", "en", include_str!("../../templates/messages/unlink_ask.en.json")),
    ("unlink_ask", "ja", include_str!("../../templates/messages/unlink_ask.ja.json")),
    ("unlink_ask", "th", include_str!("../../templates/messages/unlink_ask.th.json")),
    ("unlink_ask", "zh-TW", include_str!("../../templates/messages/unlink_ask.zh-TW.json")),
    ("unlink_kept", "en", include_str!("../../templates/messages/unlink_kept.en.json")),
    ("unlink_kept", "ja", include_str!("../../templates/messages/unlink_kept.ja.json")),
    ("unlink_kept", "th", include_str!("../../templates/messages/unlink_kept.th.json")),
    ("unlink_kept", "zh-TW", include_str!("../../templates/messages/unlink_kept.zh-TW.json")),
    ("unlink_last_method", "en", include_str!("../../templates/messages/unlink_last_method.en.json")),
    ("unlink_last_method", "ja", include_str!("../../templates/messages/unlink_last_method.ja.json")),
    ("unlink_last_method", "th", include_str!("../../templates/messages/unlink_last_method.th.json")),
    ("unlink_last_method", "zh-TW", include_str!("../../templates/messages/unlink_last_method.zh-TW.json")),
    ("unlinked_by_chat", "en", include_str!("../../templates/messages/unlinked_by_chat.en.json")),
    ("unlinked_by_chat", "ja", include_str!("../../templates/messages/unlinked_by_chat.ja.json")),
    ("unlinked_by_chat", "th", include_str!("../../templates/messages/unlinked_by_chat.th.json")),
    ("unlinked_by_chat", "zh-TW", include_str!("../../templates/messages/unlinked_by_chat.zh-TW.json")),
    ("welcome", "en", include_str!("../../templates/messages/welcome.en.json")),
    ("welcome", "ja", include_str!("../../templates/messages/welcome.ja.json")),
    ("welcome", "th", include_str!("../../templates/messages/welcome.th.json")),
    ("welcome", "zh-TW", include_str!("../../templates/messages/welcome.zh-TW.json")),
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
    let found = language(locale).and_then(|language| SHIPPED.iter().find(|one| one.0 == name && one.1 == language));
    let missing = || Unsendable::NoTemplate { name: name.to_owned(), locale: locale.to_owned() };
    Ok(serde_json::from_str(found.ok_or_else(missing)?.2)?)
}

/// Which of our languages a tag means. Chinese is ours where it is written with traditional characters.
pub fn language(locale: &str) -> Option<&'static str> {
    let tag = locale.to_ascii_lowercase().replace('_', "-");
    let mut parts = tag.split('-');
    match parts.next() {
        Some("zh") if tag.contains("-hans") => None,
        Some("zh") => parts.any(|part| ["hant", "tw", "hk", "mo"].contains(&part)).then_some("zh-TW"),
        first => LANGUAGES.into_iter().find(|language| Some(*language) == first),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_shipped_template_renders() {
        let url = "https://members.example.jp/account";
        let names = ["name", "company", "email", "link_id"].map(|name| (name, "Aiko \"A\"\n"));
        let urls = ["account_url", "password_url", "link_url"].map(|name| (name, url));
        let data = names.into_iter().chain(urls).collect::<BTreeMap<_, _>>();
        for (name, locale, _) in SHIPPED {
            assert!(LANGUAGES.iter().all(|language| SHIPPED.iter().any(|one| one.0 == name && one.1 == *language)));
            let template = template(name, locale).unwrap();
            super::super::content(&template, &data).unwrap_or_else(|error| panic!("{name}.{locale}: {error}"));
        }
    }

    #[test]
    fn finds_by_language() {
        for (tag, expected) in [
            ("ja", Some("ja")),
            ("ja-JP", Some("ja")),
            ("en_US", Some("en")),
            ("th", Some("th")),
            ("zh-Hant", Some("zh-TW")),
            ("zh-TW", Some("zh-TW")),
            ("zh-hant-HK", Some("zh-TW")),
            ("zh-HK", Some("zh-TW")),
            ("zh-Hans-HK", None),
            ("zh-CN", None),
            ("zh", None),
            ("fr", None),
            ("", None),
        ] {
            assert_eq!(language(tag), expected, "{tag}");
        }
        assert!(template("welcome", "ja-JP").is_ok());
        assert!(matches!(template("welcome", "fr"), Err(Unsendable::NoTemplate { .. })));
        assert!(matches!(template("nothing", "ja"), Err(Unsendable::NoTemplate { .. })));
    }
}
