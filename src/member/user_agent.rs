//! What a browser says it is, in two words: enough for its owner to know it, and no more. Anybody can claim anything.

/// Marks of browsers, the more special first: nearly all claim to be Safari or Chrome as well.
const BROWSERS: [(&str, &str); 14] = [
    ("Line/", "LINE"),
    ("Instagram", "Instagram"),
    ("FBAN/", "Facebook"),
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
    let first = |marks: &[(&str, &'static str)]| {
        marks.iter().find(|(mark, _)| has_word(user_agent, mark)).map(|(_, name)| *name)
    };
    (first(&BROWSERS), first(&SYSTEMS))
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
        for unknown in ["", "curl/8.14", "test browser", "Online/1", "<b>Chrome</b>", "\u{202e}"] {
            assert_eq!(read(unknown), (None, None), "{unknown}");
        }
    }
}
