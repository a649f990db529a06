//! Where a person is sent back to: a path of ours, never another site.

use url::Url;

/// `text` where it is a path of `public_url`'s origin, else `/`.
///
/// Read by the WHATWG parser, as a browser would: `//evil`, `/\evil` and `/%2e%2e//evil` are other hosts or become one.
pub fn path(text: &str, public_url: &Url) -> String {
    let plain = text.starts_with('/') && text.len() <= 512 && !text.chars().any(|c| c.is_control() || c == '\\');
    let joined = plain.then(|| public_url.join(text).ok()).flatten();
    match joined {
        Some(url) if url.origin() == public_url.origin() && !url.path().starts_with("//") => match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        },
        _ => "/".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l16_only_paths_of_ours_survive() {
        let base = Url::parse("https://members.example.jp").unwrap();
        for (text, expected) in [
            ("/account", "/account"),
            ("/account?done=linked", "/account?done=linked"),
            ("/a/../b", "/b"),
            ("", "/"),
            ("account", "/"),
            ("//evil", "/"),
            ("https:evil", "/"),
            ("https://evil", "/"),
            ("/\\evil", "/"),
            ("/\t/evil", "/"),
            ("@evil", "/"),
            ("javascript:alert(1)", "/"),
            ("/%2e%2e//evil", "/"),
            ("/x\r\nLocation: evil", "/"),
        ] {
            assert_eq!(path(text, &base), expected, "{text:?}");
        }
        assert_eq!(path("/%09/evil", &base), "/%09/evil", "an encoded tab is just a path");
        assert_eq!(path("/%0d%0aLocation:x", &base), "/%0d%0aLocation:x", "stays encoded");
    }

    proptest::proptest! {
        #[test]
        fn l16_whatever_comes_stays_on_our_origin(text in ".{0,60}") {
            let base = Url::parse("https://members.example.jp").unwrap();
            let target = base.join(&path(&text, &base)).unwrap();
            assert_eq!(target.origin(), base.origin());
            let target = base.join(&path(&format!("/{text}"), &base)).unwrap();
            assert_eq!(target.origin(), base.origin());
        }
    }
}
