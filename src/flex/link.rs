//! Where links lead: scheme and host are the template's, or those of one whole value that was handed the beginning.

use url::{Url, form_urlencoded};

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

/// Whether `fixed` holds a scheme, a host, and the end of the host.
fn fixes_host(fixed: &str) -> bool {
    fixed.split_once("://").is_some_and(|(scheme, rest)| {
        !scheme.is_empty()
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && rest.find(['/', '?', '#']).is_some_and(|end| end > 0)
    })
}

/// Whether a value is a whole link that nothing after it turns into another one.
pub(super) fn is_whole(value: &str) -> bool {
    if is_plain(value) {
        return true;
    }
    let good = Url::parse(value).is_ok_and(|url| {
        ["http", "https"].contains(&url.scheme()) && url.username().is_empty() && url.password().is_none()
    });
    good && !value.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\')
}

/// Whether a value is a link of the commonest form, which needs no closer look: a name of letters, digits, dots and
/// dashes that ends in a letter, and graphic ASCII after it.
fn is_plain(value: &str) -> bool {
    let Some(rest) = value.strip_prefix("https://") else { return false };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, after) = rest.split_at(end);
    let is_name = host.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-');
    is_name
        && host.starts_with(|c: char| c.is_ascii_lowercase())
        && host.ends_with(|c: char| c.is_ascii_lowercase())
        && host.len() < 200
        && !host.contains("..")
        && !host.contains("--")
        && after.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
}

pub(super) fn percent_encoded(value: &str) -> String {
    form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>().replace('+', "%20")
}
