//! Message templates: a JSON tree whose texts hold `{{name}}` placeholders.
//!
//! Values are filled into the parsed tree, never into JSON text, and only once: a value can neither change
//! the tree's shape nor bring placeholders of its own. In a link a value cannot choose where the link leads:
//! scheme and host are the template's, unless the template hands the whole beginning to one placeholder.

use std::collections::BTreeMap;

use serde_json::Value;
use url::{Url, form_urlencoded};

/// What fills the placeholders, by name.
pub type Data<'a> = BTreeMap<&'a str, &'a str>;

/// Why a template cannot be rendered with this data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    #[error("the placeholder {{{{{0}}}}} has no value")]
    Unknown(String),
    #[error("{0:?} has a {{{{ that begins no placeholder")]
    Braces(String),
    #[error("{0:?} must fix the scheme and host of its link before the first placeholder")]
    OpenHost(String),
    #[error("{{{{{0}}}}} begins a link and must be an absolute http or https URL")]
    NotALink(String),
}

/// A text, cut at its placeholders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    Placeholder(&'a str),
}

/// Fills the placeholders of `template` from `data`. Keys are left as they are.
pub fn render(template: &Value, data: &Data<'_>) -> Result<Value, RenderError> {
    fill(template, "", data)
}

/// The tree below `key`, the nearest name above it: `"uri"` stays the name of each text of a list of links.
fn fill(tree: &Value, key: &str, data: &Data<'_>) -> Result<Value, RenderError> {
    Ok(match tree {
        Value::String(text) if is_link(key) => Value::String(fill_link(text, data)?),
        Value::String(text) => Value::String(fill_text(text, data)?),
        Value::Array(list) => Value::Array(list.iter().map(|item| fill(item, key, data)).collect::<Result<_, _>>()?),
        Value::Object(object) => Value::Object(
            object.iter().map(|(key, item)| Ok((key.clone(), fill(item, key, data)?))).collect::<Result<_, _>>()?,
        ),
        Value::Null | Value::Bool(_) | Value::Number(_) => tree.clone(),
    })
}

/// Whether LINE's name of a field says that it is a link: `uri`, `url`, `linkUri`, `iconUrl`, `altUri.desktop`.
fn is_link(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key.ends_with("uri") || key.ends_with("url") || key == "desktop"
}

fn fill_text(text: &str, data: &Data<'_>) -> Result<String, RenderError> {
    parts(text)?.into_iter().map(|part| value(part, data)).collect()
}

fn fill_link(text: &str, data: &Data<'_>) -> Result<String, RenderError> {
    let parts = parts(text)?;
    let (beginning, rest) = match parts.split_first() {
        None => return Ok(String::new()),
        Some((Part::Placeholder(name), rest)) => (leading_link(text, name, rest, data)?, rest),
        Some((Part::Text(fixed), [])) => ((*fixed).to_owned(), &[][..]),
        Some((Part::Text(fixed), rest)) if fixes_host(fixed) => ((*fixed).to_owned(), rest),
        Some(_) => return Err(RenderError::OpenHost(text.to_owned())),
    };
    let mut link = beginning;
    for part in rest {
        match part {
            Part::Text(fixed) => link.push_str(fixed),
            Part::Placeholder(_) => link.push_str(&percent_encode(value(*part, data)?)),
        }
    }
    Ok(link)
}

/// The value that a link begins with: a whole URL, which nothing after it may turn into another host.
fn leading_link(text: &str, name: &str, rest: &[Part<'_>], data: &Data<'_>) -> Result<String, RenderError> {
    let given = value(Part::Placeholder(name), data)?;
    let good =
        Url::parse(given).is_ok_and(|url| ["http", "https"].contains(&url.scheme()) && url.username().is_empty());
    if !good || given.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(RenderError::NotALink(name.to_owned()));
    }
    match rest.first() {
        None => Ok(given.to_owned()),
        Some(Part::Text(after)) if after.starts_with('/') => Ok(given.trim_end_matches('/').to_owned()),
        Some(Part::Text(after)) if after.starts_with(['?', '#']) => Ok(given.to_owned()),
        Some(_) => Err(RenderError::OpenHost(text.to_owned())),
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

fn value<'a>(part: Part<'a>, data: &Data<'a>) -> Result<&'a str, RenderError> {
    match part {
        Part::Text(text) => Ok(text),
        Part::Placeholder(name) => data.get(name).copied().ok_or_else(|| RenderError::Unknown(name.to_owned())),
    }
}

fn percent_encode(value: &str) -> String {
    form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>().replace('+', "%20")
}

fn parts(text: &str) -> Result<Vec<Part<'_>>, RenderError> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").ok_or_else(|| RenderError::Braces(text.to_owned()))?;
        let name = name.trim();
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(RenderError::Braces(text.to_owned()));
        }
        if !before.is_empty() {
            parts.push(Part::Text(before));
        }
        parts.push(Part::Placeholder(name));
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests;
