//! What an authorization endpoint sends back by the browser (RFC 6749, 4.1.2; RFC 9207).

use url::form_urlencoded;

/// The parameters that count. None is empty.
#[derive(Debug, Default)]
pub struct Authorized {
    pub code: Option<String>,
    pub state: Option<String>,
    pub error: Option<String>,
    pub iss: Option<String>,
    /// LINE's own: whether the person added the official account on the way; only where that was offered.
    pub friendship_status_changed: Option<String>,
}

impl Authorized {
    /// Reads a query strictly: each parameter once, none with control characters, none longer than `longest`.
    pub fn read(query: &str, longest: usize) -> Option<Self> {
        let mut answer = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let place = match name.as_ref() {
                "code" => &mut answer.code,
                "state" => &mut answer.state,
                "error" => &mut answer.error,
                "iss" => &mut answer.iss,
                "friendship_status_changed" => &mut answer.friendship_status_changed,
                _ => continue,
            };
            if place.is_some() || value.len() > longest || value.chars().any(char::is_control) {
                return None;
            }
            *place = Some(value.into_owned()).filter(|value| !value.is_empty());
        }
        Some(answer)
    }
}
