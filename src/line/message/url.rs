//! Links that LINE treats in its own way: out of LINE's browser, and into LINE's screens.

use url::{ParseError, Url, form_urlencoded::byte_serialize};

/// `link` so that LINE opens it in the phone's own browser. Without effect on LIFF URLs.
pub fn in_external_browser(link: &str) -> Result<String, ParseError> {
    let mut url = Url::parse(link)?;
    if !url.query_pairs().any(|(name, _)| name == "openExternalBrowser") {
        url.query_pairs_mut().append_pair("openExternalBrowser", "1");
    }
    Ok(url.into())
}

/// The official account's page, where a person adds it as a friend. `basic_id` begins with `@`.
pub fn profile(basic_id: &str) -> String {
    format!("https://line.me/R/ti/p/{}", encoded(basic_id))
}

/// The chat with the official account, with `text` ready to be sent.
pub fn chat(basic_id: &str, text: &str) -> String {
    format!("https://line.me/R/oaMessage/{}/?{}", encoded(basic_id), encoded(text))
}

/// The person chooses friends to send `text` to.
pub fn share(text: &str) -> String {
    format!("https://line.me/R/share?text={}", encoded(text))
}

/// The person recommends the official account to friends.
pub fn recommend(basic_id: &str) -> String {
    format!("https://line.me/R/nv/recommendOA/{}", encoded(basic_id))
}

/// LINE's list of the apps that a person has authorized, where a permission is withdrawn.
pub const AUTHORIZED_APPS: &str = "https://line.me/R/nv/connectedApps";

/// LINE does not take `+` for a space.
fn encoded(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_lines_browser() {
        for (link, changed) in [
            ("https://a.test/b", "https://a.test/b?openExternalBrowser=1"),
            ("https://a.test", "https://a.test/?openExternalBrowser=1"),
            ("https://a.test/b?c=d%20e#f", "https://a.test/b?c=d%20e&openExternalBrowser=1#f"),
            ("https://a.test/?openExternalBrowser=0", "https://a.test/?openExternalBrowser=0"),
        ] {
            assert_eq!(in_external_browser(link).as_deref(), Ok(changed));
        }
        assert!(in_external_browser("/relative").is_err());
    }

    #[test]
    fn into_lines_screens() {
        assert_eq!(profile("@musubi"), "https://line.me/R/ti/p/%40musubi");
        assert_eq!(chat("@musubi", "a b+c"), "https://line.me/R/oaMessage/%40musubi/?a%20b%2Bc");
        assert_eq!(share("結び"), "https://line.me/R/share?text=%E7%B5%90%E3%81%B3");
        assert_eq!(recommend("@musubi"), "https://line.me/R/nv/recommendOA/%40musubi");
    }
}
