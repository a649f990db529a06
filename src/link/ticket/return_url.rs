//! Where a person goes once linked: a page of the company's, of an origin that the configuration lists.

use url::Url;

const LONGEST: usize = 1000;
/// The parameter that brings the result code; a company's own address must not have one.
const RESULT: &str = "result";

/// Whether a person may be sent there. Read by the WHATWG parser, as their browser does.
pub(super) fn is_allowed(origins: &[Url], text: &str) -> bool {
    if text.len() > LONGEST || text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return false;
    }
    let Ok(url) = Url::parse(text) else { return false };
    let is_plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    is_plain
        && !url.query_pairs().any(|(name, _)| name == RESULT)
        && origins.iter().any(|origin| origin.origin() == url.origin())
}

/// The page with the result code, beside what the company's address has of its own.
pub(super) fn with_result(text: &str, result: &str) -> String {
    match Url::parse(text) {
        Ok(mut url) => {
            url.query_pairs_mut().append_pair(RESULT, result);
            url.into()
        }
        // It was read when the ticket was made.
        Err(_) => "/".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q08_only_pages_of_listed_origins() {
        let origins = ["https://shop.example.jp", "http://127.0.0.1:3000"].map(|url| Url::parse(url).unwrap());
        for (text, allowed) in [
            ("https://shop.example.jp", true),
            ("https://shop.example.jp/back?state=a%20b&x=1", true),
            ("https://SHOP.example.jp:443/back", true),
            ("http://127.0.0.1:3000/back", true),
            ("http://shop.example.jp/back", false),
            ("https://shop.example.jp:8443/back", false),
            ("https://shop.example.jp.evil.example/back", false),
            ("https://evil.example/https://shop.example.jp", false),
            ("https://shop.example.jp@evil.example/", false),
            ("https://me@shop.example.jp/", false),
            ("https://evil.example\\@shop.example.jp/", false),
            ("https://shop.example.jp/\r\nLocation: x", false),
            ("https://shop.example.jp/ back", false),
            ("https://shop.example.jp/back#fragment", false),
            ("https://shop.example.jp/back?result=mine", false),
            ("//shop.example.jp/back", false),
            ("/back", false),
            ("javascript:alert(1)", false),
            ("", false),
        ] {
            assert_eq!(is_allowed(&origins, text), allowed, "{text:?}");
        }
        assert!(!is_allowed(&origins, &format!("https://shop.example.jp/{}", "a".repeat(LONGEST))));
        assert!(!is_allowed(&[], "https://shop.example.jp"), "nothing is listed by default");
    }

    #[test]
    fn the_result_is_one_more_parameter() {
        for (text, expected) in [
            ("https://shop.example.jp", "https://shop.example.jp/?result=R"),
            ("https://shop.example.jp/back?state=a%20b", "https://shop.example.jp/back?state=a%20b&result=R"),
        ] {
            assert_eq!(with_result(text, "R"), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn q08_whatever_is_allowed_leads_to_a_listed_origin(text in "(https:|http:|)[/\\\\@a-z.]{0,12}(shop\\.example\\.jp)?.{0,20}") {
            let origins = [Url::parse("https://shop.example.jp").unwrap()];
            if is_allowed(&origins, &text) {
                let target = Url::parse(&with_result(&text, "R")).unwrap();
                proptest::prop_assert_eq!(target.origin(), origins[0].origin());
            }
        }
    }
}
