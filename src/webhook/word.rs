//! What a text asks for: a company's keyword, or a word that is built in. Without I/O.

use unicode_normalization::UnicodeNormalization;

use crate::config::{Config, Keyword};

/// What a person asked for by writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word<'c> {
    Link,
    Unlink,
    Status,
    Keyword(&'c Keyword),
    Unknown,
}

/// The built-in words in all languages; whoever writes one is understood, whatever language they are answered in.
const LINK: [&str; 15] = [
    "link",
    "link account",
    "連携",
    "連携する",
    "アカウント連携",
    "LINE連携",
    "連結",
    "連結帳號",
    "帳號連結",
    "連結LINE帳號",
    "綁定",
    "綁定帳號",
    "帳號綁定",
    "เชื่อมต่อ",
    "เชื่อมต่อบัญชี",
];
const UNLINK: [&str; 14] = [
    "unlink",
    "unlink account",
    "連携解除",
    "連携を解除",
    "連携を解除する",
    "連携解除する",
    "解除連結",
    "取消連結",
    "解除帳號連結",
    "解除綁定",
    "取消綁定",
    "解除帳號綁定",
    "ยกเลิกการเชื่อมต่อ",
    "ยกเลิกเชื่อมต่อ",
];
const STATUS: [&str; 11] = [
    "status",
    "link status",
    "連携状況",
    "連携状態",
    "連携確認",
    "連結狀態",
    "連結狀況",
    "綁定狀態",
    "綁定狀況",
    "สถานะ",
    "สถานะการเชื่อมต่อ",
];

/// Understands a text in a channel: the whole of it first, a company's words before the built-in ones; then a
/// company's words anywhere in it.
pub fn find<'c>(config: &'c Config, channel: &str, text: &str) -> Word<'c> {
    let text = plain(text);
    let is_here = |keyword: &&Keyword| keyword.channel.as_deref().is_none_or(|name| name == channel);
    let keywords = || config.keyword.iter().filter(is_here);
    let is_text = |word: &&str| plain(word) == text;
    let exact = || keywords().find(|keyword| keyword.exact.iter().any(|word| is_text(&word.as_str())));
    let within = || keywords().find(|keyword| keyword.contains.iter().any(|word| text.contains(&plain(word))));
    let built_in = || {
        [(LINK.as_slice(), Word::Link), (UNLINK.as_slice(), Word::Unlink), (STATUS.as_slice(), Word::Status)]
            .into_iter()
            .find_map(|(words, word)| words.iter().any(is_text).then_some(word))
    };
    exact().map(Word::Keyword).or_else(built_in).or_else(|| within().map(Word::Keyword)).unwrap_or(Word::Unknown)
}

/// One form of what people write alike: width and compatibility forms, case, and spaces made equal.
fn plain(text: &str) -> String {
    let folded: String = text.nfkc().flat_map(char::to_lowercase).collect();
    folded.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
        public_url = "http://localhost:8080"
        database_url = "sqlite://musubi.db"
        company = "Tsubaki Coffee"
        security = { sealing_key = "k1", sealing_keys = { k1 = "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs=" } }
        provider.main.login = { channel_id = 1001, channel_secret = "0123456789abcdef0123456789abcdef" }
        channel.shop = { provider = "main", channel_id = 2001, channel_secret = "fedcba9876543210fedcba9876543210" }
        channel.cafe = { provider = "main", channel_id = 2002, channel_secret = "fedcba9876543210fedcba9876543211" }

        [[keyword]]
        exact = ["営業時間", "Opening  Hours"]
        text = { ja = "10時から", en = "From ten" }

        [[keyword]]
        exact = ["status"]
        channel = "cafe"
        text = { en = "Open" }

        [[keyword]]
        contains = ["メニュー", "link"]
        text = { en = "The menu" }
    "#;

    #[test]
    fn what_a_text_asks_for() {
        let config = Config::parse("test", CONFIG, []).unwrap();
        let keyword = |number: usize| Word::Keyword(&config.keyword[number]);
        for (channel, text, expected) in [
            ("shop", "link", Word::Link),
            ("shop", "  ＬＩＮＫ\u{3000}", Word::Link),
            ("shop", "Link\n", Word::Link),
            ("shop", "連携", Word::Link),
            ("shop", "連携する", Word::Link),
            ("shop", "連結", Word::Link),
            ("shop", "綁定", Word::Link),
            ("shop", "เชื่อมต่อ", Word::Link),
            ("shop", "Unlink", Word::Unlink),
            ("shop", "連携解除", Word::Unlink),
            ("shop", "解除連結", Word::Unlink),
            ("shop", "解除綁定", Word::Unlink),
            ("shop", "ยกเลิกการเชื่อมต่อ", Word::Unlink),
            ("shop", "STATUS", Word::Status),
            ("shop", "連携状況", Word::Status),
            ("shop", "連結狀態", Word::Status),
            ("shop", "綁定狀態", Word::Status),
            ("shop", "สถานะ", Word::Status),
            ("shop", "営業時間", keyword(0)),
            ("shop", "opening hours ", keyword(0)),
            ("shop", "今日の営業時間", Word::Unknown),
            // A whole text is the company's first, and only in its channel.
            ("cafe", "status", keyword(1)),
            ("cafe", "連携状況", Word::Status),
            // What only contains a company's word is not taken for it where it is a built-in word.
            ("shop", "please link me", keyword(2)),
            ("shop", "ﾒﾆｭｰはありますか", keyword(2)),
            ("shop", "hello", Word::Unknown),
            ("shop", "", Word::Unknown),
            ("shop", " \n", Word::Unknown),
        ] {
            assert_eq!(find(&config, channel, text), expected, "{channel}: {text:?}");
        }
    }

    #[test]
    fn the_greetings_name_words_that_are_known() {
        let config = Config::parse("test", CONFIG, []).unwrap();
        for name in ["greeting", "greeting_linked", "greeting_back", "default_answer"] {
            for language in crate::flex::LANGUAGES {
                let file = format!("templates/messages/{name}.{language}.json");
                let template: serde_json::Value =
                    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
                for item in template["quickReply"]["items"].as_array().unwrap() {
                    let text = item["action"]["text"].as_str().unwrap();
                    assert_ne!(find(&config, "shop", text), Word::Unknown, "{name}.{language}: {text}");
                    assert!(template["text"].as_str().unwrap().contains(text), "{name}.{language}: {text}");
                }
            }
        }
    }
}
