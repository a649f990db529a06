//! What stands between `{{` and `}}`, and in `$if` and `$for`.

use super::filter::Filter;

/// A text, cut at its placeholders.
#[derive(Debug, PartialEq)]
pub(super) enum Part<'a> {
    Text(&'a str),
    Placeholder(Placeholder<'a>),
}

#[derive(Debug, PartialEq)]
pub(super) struct Placeholder<'a> {
    pub path: &'a str,
    pub filters: Vec<Filter>,
}

/// A value that a condition compares with.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    Text(String),
    Number(f64),
    Bool(bool),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Test {
    Holds,
    HoldsNot,
    Is(Literal),
    IsNot(Literal),
}

/// Cuts a text at its placeholders, or says what is wrong with one.
pub(super) fn parts(text: &str) -> Result<Vec<Part<'_>>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let end = end_of(after).ok_or_else(|| format!("{text:?} has a {{{{ without its }}}}"))?;
        if !before.is_empty() {
            parts.push(Part::Text(before));
        }
        parts.push(Part::Placeholder(placeholder(&after[..end])?));
        rest = &after[end + 2..];
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest));
    }
    Ok(parts)
}

/// Where the `}}` is that stands in no quotes.
fn end_of(text: &str) -> Option<usize> {
    let mut quote = None;
    text.char_indices().find_map(|(at, c)| {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '\'' || c == '"' => quote = Some(c),
            None if text[at..].starts_with("}}") => return Some(at),
            None => {}
        }
        None
    })
}

fn placeholder(text: &str) -> Result<Placeholder<'_>, String> {
    let mut pieces = split_unquoted(text, '|').into_iter();
    let path = pieces.next().unwrap_or_default().trim();
    if !is_path(path) {
        return Err(format!("{{{{{text}}}}} is no placeholder: it begins with a name, such as {{{{member.name}}}}"));
    }
    let filters = pieces.map(filter).collect::<Result<_, _>>()?;
    Ok(Placeholder { path, filters })
}

fn filter(text: &str) -> Result<Filter, String> {
    let (name, argument) = match text.split_once(':') {
        Some((name, argument)) => (name.trim(), Some(unquoted(argument.trim())?)),
        None => (text.trim(), None),
    };
    Filter::new(name, argument)
}

/// A text without the quotes around it.
fn unquoted(text: &str) -> Result<&str, String> {
    let Some(quote) = text.chars().next().filter(|c| matches!(c, '\'' | '"')) else { return Ok(text) };
    let inner = text.get(1..).and_then(|rest| rest.strip_suffix(quote)).filter(|inner| !inner.contains(quote));
    inner.ok_or_else(|| format!("{text} does not end with its quote"))
}

fn split_unquoted(text: &str, separator: char) -> Vec<&str> {
    let mut quote = None;
    text.split(|c: char| {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '\'' || c == '"' => quote = Some(c),
            None => return c == separator,
        }
        false
    })
    .collect()
}

/// Names with dots between: `issue.assignee.name`.
pub(super) fn is_path(text: &str) -> bool {
    text.split('.').all(is_name)
}

pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// `path`, `not path`, `path == 'text'`, `path != 3`.
pub(super) fn condition(text: &str) -> Result<(&str, Test), String> {
    let wrong = || format!("{text:?} is no condition such as \"paid\", \"not paid\" or \"state == 'open'\"");
    let operator = ["==", "!="].into_iter().filter_map(|sign| Some((text.find(sign)?, sign))).min();
    let (path, test) = match operator {
        Some((at, sign)) => {
            let literal = literal(text[at + 2..].trim()).ok_or_else(wrong)?;
            (text[..at].trim(), if sign == "==" { Test::Is(literal) } else { Test::IsNot(literal) })
        }
        None => match text.trim().strip_prefix("not ") {
            Some(path) => (path.trim(), Test::HoldsNot),
            None => (text.trim(), Test::Holds),
        },
    };
    if is_path(path) { Ok((path, test)) } else { Err(wrong()) }
}

fn literal(text: &str) -> Option<Literal> {
    match text {
        "true" => Some(Literal::Bool(true)),
        "false" => Some(Literal::Bool(false)),
        _ if text.starts_with(['\'', '"']) => unquoted(text).ok().map(|text| Literal::Text(text.to_owned())),
        _ => text.parse().ok().filter(|number: &f64| number.is_finite()).map(Literal::Number),
    }
}

/// `item in path.to.list`
pub(super) fn repetition(text: &str) -> Result<(&str, &str), String> {
    let (name, path) = text.split_once(" in ").map(|(name, path)| (name.trim(), path.trim())).unwrap_or_default();
    if is_name(name) && is_path(path) {
        return Ok((name, path));
    }
    Err(format!("{text:?} is no repetition such as \"item in order.items\""))
}
