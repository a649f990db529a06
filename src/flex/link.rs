//! Where links lead: scheme and host are the template's, or those of one whole value that was handed the beginning.
//! That value is https, and is none of those that people write about themselves.

use url::{Host, Url, form_urlencoded};

use super::syntax::Part;

/// How a link begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beginning {
    /// With the template's own words, which fix scheme and host or are the whole link.
    Fixed,
    /// With one value, alone or before a query.
    Value,
    /// With one value, before a path.
    ValueBeforePath,
}

/// Whether LINE's name of a field says that it is a link: `uri`, `url`, `linkUri`, `iconUrl`, `altUri.desktop`.
pub(super) fn is_link(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key.ends_with("uri") || key.ends_with("url") || key == "desktop"
}

/// How a link with placeholders begins, or what is wrong with that.
pub(super) fn beginning(text: &str, parts: &[Part<'_>]) -> Result<Beginning, String> {
    match parts {
        [] | [Part::Text(_)] => Ok(Beginning::Fixed),
        [Part::Text(fixed), ..] if fixes_host(fixed) => Ok(Beginning::Fixed),
        [Part::Placeholder(_)] => Ok(Beginning::Value),
        [Part::Placeholder(_), Part::Text(after), ..] if after.starts_with('/') => Ok(Beginning::ValueBeforePath),
        [Part::Placeholder(_), Part::Text(after), ..] if after.starts_with(['?', '#']) => Ok(Beginning::Value),
        _ => Err(format!("{text:?} must fix the scheme and host of its link before the first placeholder")),
    }
}

/// Schemes whose links may hold values: in others even an encoded value may be more than a part of an address.
const SCHEMES: [&str; 3] = ["https", "http", "line"];

/// Whether `fixed` holds a scheme, a host, and the end of the host.
fn fixes_host(fixed: &str) -> bool {
    fixed.split_once("://").is_some_and(|(scheme, rest)| {
        SCHEMES.contains(&scheme) && rest.find(['/', '?', '#']).is_some_and(|end| end > 0)
    })
}

/// Whether a value is a whole link that nothing after it turns into another one: https, or http to this machine, and
/// nobody's name before the host.
pub(super) fn is_whole(value: &str) -> bool {
    is_plain(value) || is_allowed(value)
}

fn is_allowed(value: &str) -> bool {
    let Some(rest) = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://")) else { return false };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.is_empty() || host.contains('@') {
        return false;
    }
    let is_clean = !value.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\');
    is_clean && Url::parse(value).is_ok_and(|url| url.scheme() == "https" || is_loopback(&url))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Whether a value is a link of the commonest form, which needs no closer look: a name of letters, digits, and single
/// dots and dashes, that begins and ends with a letter, and graphic ASCII after it.
fn is_plain(value: &str) -> bool {
    let Some(rest) = value.as_bytes().strip_prefix(b"https://") else { return false };
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let (host, after) = rest.split_at(end);
    let is_mark = |byte: u8| matches!(byte, b'.' | b'-');
    let mut before = b'.';
    let mut is_name = host.last().is_some_and(u8::is_ascii_lowercase) && host.len() < 200;
    for byte in host {
        let is_letter = byte.is_ascii_lowercase() || (byte.is_ascii_digit() && before != b'.');
        is_name = is_name && (is_letter || (is_mark(*byte) && !is_mark(before)));
        before = *byte;
    }
    is_name && after.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'\\')
}

pub(super) fn percent_encoded(value: &str) -> String {
    form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>().replace('+', "%20")
}
