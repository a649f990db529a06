//! What a browser says it is, in two words: enough for its owner to know it, and no more. Anybody can claim anything.

/// Marks of apps that show pages in a browser of their own, the more special first.
const APPS: [(&str, &str); 17] = [
    ("Line/", "LINE"),
    ("Instagram", "Instagram"),
    ("Barcelona", "Threads"),
    ("FBAN/Messenger", "Messenger"),
    ("FB_IAB/MESSENGER", "Messenger"),
    ("FBAN/", "Facebook"),
    ("FBAV/", "Facebook"),
    ("FB_IAB/", "Facebook"),
    ("Twitter", "X"),
    ("BytedanceWebview", "TikTok"),
    ("musical_ly", "TikTok"),
    ("MicroMessenger/", "WeChat"),
    ("KAKAOTALK", "KakaoTalk"),
    ("Snapchat", "Snapchat"),
    ("Pinterest", "Pinterest"),
    ("LinkedInApp", "LinkedIn"),
    (YAHOO, "Yahoo! JAPAN"),
];
/// Yahoo! JAPAN's app, which LINE comes back to (with PKCE).
const YAHOO: &str = "YJApp";
/// Every browser inside of an app on Android.
const WEB_VIEW: &str = "; wv)";

/// Marks of browsers, the more special first: nearly all claim to be Safari or Chrome as well.
const BROWSERS: [(&str, &str); 11] = [
    ("EdgA/", "Edge"),
    ("EdgiOS/", "Edge"),
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("FxiOS/", "Firefox"),
    ("Firefox/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("HeadlessChrome/", "Chrome"),
    ("Safari/", "Safari"),
];

const SYSTEMS: [(&str, &str); 7] = [
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("CrOS", "ChromeOS"),
    ("Macintosh", "Mac"),
    ("Linux", "Linux"),
];

/// Browser and system, where they are known.
pub fn read(user_agent: &str) -> (Option<&'static str>, Option<&'static str>) {
    let browser = first(&APPS, user_agent).or_else(|| first(&BROWSERS, user_agent));
    (browser, first(&SYSTEMS, user_agent))
}

/// The same in words, for a command.
pub fn words(user_agent: &str) -> String {
    match read(user_agent) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(known), None) | (None, Some(known)) => known.to_owned(),
        (None, None) => "an unknown browser".to_owned(),
    }
}

/// The browser of an app other than LINE, from which LINE Login is known not to come back at times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InApp {
    /// The app, where it is known.
    pub app: Option<&'static str>,
    pub is_android: bool,
}

/// Whether this is the browser of another app. LINE's own works, and Yahoo! JAPAN's.
pub fn in_app(user_agent: &str) -> Option<InApp> {
    let (app, is_android) = (first(&APPS, user_agent), first(&SYSTEMS, user_agent) == Some("Android"));
    match app {
        Some("LINE" | "Yahoo! JAPAN") => None,
        Some(_) => Some(InApp { app, is_android }),
        None => (is_android && user_agent.contains(WEB_VIEW)).then_some(InApp { app, is_android }),
    }
}

fn first(marks: &[(&str, &'static str)], user_agent: &str) -> Option<&'static str> {
    marks.iter().find(|(mark, _)| has_word(user_agent, mark)).map(|(_, name)| *name)
}

/// Whether a word begins so: `Line/` is not in `Online/`.
fn has_word(text: &str, mark: &str) -> bool {
    text.match_indices(mark).any(|(at, _)| !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_told_apart() {
        let webkit = "AppleWebKit/537.36 (KHTML, like Gecko)";
        for (user_agent, browser, system) in [
            (format!("Mozilla/5.0 (Linux; Android 10; K) {webkit} Chrome/143.0.0.0 Mobile Safari/537.36"), "Chrome", "Android"),
            (format!("Mozilla/5.0 (Windows NT 10.0; Win64; x64) {webkit} Chrome/143.0.0.0 Safari/537.36 Edg/143.0.0.0"), "Edge", "Windows"),
            (format!("Mozilla/5.0 (Windows NT 10.0; Win64; x64) {webkit} Chrome/143.0.0.0 Safari/537.36 OPR/120.0"), "Opera", "Windows"),
            (format!("Mozilla/5.0 (Linux; Android 10; K) {webkit} SamsungBrowser/29.0 Chrome/136.0.0.0 Mobile Safari/537.36"), "Samsung Internet", "Android"),
            ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 Safari Line/15.19.0".into(), "LINE", "iPhone"),
            (format!("Mozilla/5.0 (Linux; Android 15; Pixel 9 Build/AP4A; wv) {webkit} Version/4.0 Chrome/143.0.0.0 Mobile Safari/537.36 Line/15.19.0/IAB"), "LINE", "Android"),
            ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1".into(), "Safari", "iPhone"),
            ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/143.0 Mobile/15E148 Safari/604.1".into(), "Chrome", "iPhone"),
            ("Mozilla/5.0 (iPad; CPU OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) FxiOS/145.0 Mobile/15E148 Safari/605.1.15".into(), "Firefox", "iPad"),
            ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Safari/605.1.15".into(), "Safari", "Mac"),
            ("Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0".into(), "Firefox", "Linux"),
            (format!("Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {webkit} Chrome/143.0.0.0 Safari/537.36"), "Chrome", "ChromeOS"),
        ] {
            assert_eq!(read(&user_agent), (Some(browser), Some(system)), "{user_agent}");
        }
        assert_eq!(words(""), "an unknown browser");
        assert_eq!(words("Mozilla/5.0 (iPhone) Version/18.6 Safari/604.1"), "Safari on iPhone");
        for unknown in ["", "curl/8.14", "test browser", "Online/1", "<b>Chrome</b>", "\u{202e}"] {
            assert_eq!(read(unknown), (None, None), "{unknown}");
        }
    }
    #[test]
    fn browsers_of_other_apps_are_told_from_those_that_line_comes_back_to() {
        let iphone = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)";
        let android = "Mozilla/5.0 (Linux; Android 15; Pixel 9 Build/AP4A; wv) AppleWebKit/537.36 (KHTML, like Gecko) \
             Version/4.0 Chrome/143.0.0.0 Mobile Safari/537.36";
        let of = |app, is_android| Some(InApp { app, is_android });
        for (user_agent, expected) in [
            (
                format!("{iphone} Mobile/15E148 Instagram 300.0.0.0 (iPhone15,3; iOS 18_6)"),
                of(Some("Instagram"), false),
            ),
            (format!("{android} Instagram 300.0.0.0 Android"), of(Some("Instagram"), true)),
            (
                format!("{iphone} Mobile/15E148 [FBAN/FBIOS;FBAV/500.0.0.0;FBDV/iPhone15,3]"),
                of(Some("Facebook"), false),
            ),
            (format!("{android} [FB_IAB/FB4A;FBAV/500.0.0.0;]"), of(Some("Facebook"), true)),
            (format!("{iphone} Mobile/15E148 [FBAN/MessengerForiOS;FBAV/500.0]"), of(Some("Messenger"), false)),
            (format!("{iphone} Mobile/15E148 Twitter for iPhone/11.0"), of(Some("X"), false)),
            (format!("{android} TwitterAndroid"), of(Some("X"), true)),
            (format!("{iphone} Mobile/15E148 musical_ly_38.0 BytedanceWebview/d8a21c6"), of(Some("TikTok"), false)),
            (format!("{android} MicroMessenger/8.0.50"), of(Some("WeChat"), true)),
            (format!("{iphone} Mobile/15E148 Barcelona 350.0"), of(Some("Threads"), false)),
            // Some app, whose name is not known.
            (android.to_owned(), of(None, true)),
            (format!("{android} Line/15.19.0/IAB"), None),
            (format!("{iphone} Mobile/15E148 Safari Line/15.19.0"), None),
            (format!("{android} YJApp-ANDROID jp.co.yahoo.android.yjtop/3.200"), None),
            (format!("{iphone} Version/18.6 Mobile/15E148 Safari/604.1"), None),
            (android.replace("; wv", ""), None),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/143.0.0.0 Safari/537.36".into(),
                None,
            ),
            ("NotInstagram/1".into(), None),
            (String::new(), None),
        ] {
            assert_eq!(in_app(&user_agent), expected, "{user_agent}");
        }
    }
}
