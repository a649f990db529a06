//! Members as the company says them (tables `members`, `member_attributes`, `member_tags`), by the company's own id.
//!
//! - What is not said stays as it is. Tags are a whole list; attributes are merged by name, and `null` removes one.
//! - A member may have no address: `email` is empty then, and `email_key` is `id:` and the member's id, which is no
//!   address (a key of one always has an `@`).
//! - An address that another member has is refused, and never makes two members one: whoever reads a mailbox is not
//!   by that whoever the company means.
//!
//! [`upsert`] is one statement for many members as for one, so that an import of a million goes the way of a single one.

mod read;
mod write;

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use serde_json::{Map, Value};

pub use self::{
    read::{Details, Filter, Friendship, STATEMENTS, details, find_id, hold, list},
    write::upsert,
};
use super::{
    attribute::{self, Attribute},
    email_key, tag,
};
use crate::config::QuietHours;

const LONGEST_ID: usize = 100;

/// What somebody says of a member, not looked at yet. `None` is not said; an inner `None` is said to be nothing.
#[derive(Debug, Clone, Default)]
pub struct Said {
    pub email: Option<Option<String>>,
    pub name: Option<Option<String>>,
    pub language: Option<Option<String>>,
    pub time_zone: Option<Option<String>>,
    pub quiet_hours: Option<Option<String>>,
    pub attributes: Map<String, Value>,
    pub tags: Option<Vec<String>>,
}

/// A member to be made or changed; made by [`check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub external_id: String,
    pub email: Option<Option<Email>>,
    pub name: Option<String>,
    pub language: Option<Option<String>>,
    pub time_zone: Option<Option<String>>,
    /// Of the member's own, in place of the company's.
    pub quiet_hours: Option<Option<String>>,
    /// None removes it.
    pub attributes: BTreeMap<String, Option<Attribute>>,
    pub tags: Option<Vec<String>>,
}

/// An address as it was written, and its [`email_key`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email {
    pub text: String,
    pub key: String,
}

/// One thing that is wrong with what was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    pub field: String,
    pub text: String,
}

/// What became of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub member_id: String,
    pub change: Change,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Created,
    Updated,
    /// All was so before: nothing was written.
    None,
}

/// Why a member was neither made nor changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("another member has this e-mail address")]
    EmailTaken,
    #[error("a member has {} attributes at most", attribute::AT_MOST)]
    TooManyAttributes,
}

/// Who says it, for the audit: `api` or `import`, and which.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    pub what: &'a str,
    pub id: &'a str,
}

/// Whether the company's id of a member may be so: 1 to 100 visible characters, with spaces inside only. A path takes
/// it percent-encoded; what paths themselves swallow (`.` and `..` between slashes) is none.
pub fn is_external_id(id: &str) -> bool {
    (1..=LONGEST_ID).contains(&id.chars().count())
        && id.chars().all(|c| c == ' ' || !(c.is_control() || c.is_whitespace() || is_invisible(c)))
        && id.trim() == id
        && !id.split(['/', '\\']).any(|part| matches!(part, "." | ".."))
}

/// Marks that show nothing: with one more of them another id would look the same.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// What was said, in the form that is kept; or every mistake in it.
pub fn check(external_id: &str, said: Said) -> Result<Wanted, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let mut wrong = |field: &str, text: &str| mistakes.push(Mistake { field: field.into(), text: text.into() });
    if !is_external_id(external_id) {
        wrong("external_id", "must be 1 to 100 visible characters, and no path such as ..");
    }
    let email = said.email.map(|text| text.map(|text| email(&text)));
    if matches!(email, Some(Some(None))) {
        wrong("email", "is no e-mail address");
    }
    let name = said.name.map(|text| text.map_or(Some(external_id.to_owned()), |text| super::name(&text)));
    if name == Some(None) {
        wrong("name", "must be 1 to 100 characters, none of them a control character");
    }
    if said.language.as_ref().is_some_and(|tag| tag.as_deref().is_some_and(|tag| !is_language(tag))) {
        wrong("language", "must be a language tag such as ja, en or zh-TW");
    }
    let time_zone = said.time_zone.map(|name| name.map(|name| time_zone(&name)));
    if matches!(time_zone, Some(Some(None))) {
        wrong("time_zone", "must be an IANA time zone such as Asia/Tokyo");
    }
    let quiet_hours = said.quiet_hours.map(|text| text.map(|text| QuietHours::parse(&text)));
    if matches!(quiet_hours, Some(Some(None))) {
        wrong("quiet_hours", "must be two times of the day such as 22:00-07:00");
    }
    let tags = said.tags.map(|tags| check_tags(tags, &mut wrong));
    let attributes = check_attributes(said.attributes, &mut wrong);
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    Ok(Wanted {
        external_id: external_id.to_owned(),
        email: email.map(Option::flatten),
        name: name.flatten(),
        language: said.language,
        time_zone: time_zone.map(Option::flatten),
        quiet_hours: quiet_hours.map(|hours| hours.flatten().map(|hours| hours.to_string())),
        attributes,
        tags,
    })
}

fn email(text: &str) -> Option<Email> {
    Some(Email { text: text.trim().to_owned(), key: email_key(text)? })
}

fn is_language(tag: &str) -> bool {
    let mut parts = tag.split('-');
    tag.len() <= 35
        && parts
            .next()
            .is_some_and(|first| (2..=3).contains(&first.len()) && first.bytes().all(|byte| byte.is_ascii_alphabetic()))
        && parts.all(|part| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// A time zone's name as IANA writes it; none where there is no such zone.
pub fn time_zone(name: &str) -> Option<String> {
    let looks_so = name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_+-".contains(&byte));
    let zone = looks_so.then(|| TimeZone::get(name).ok()).flatten()?;
    zone.iana_name().map(str::to_owned)
}

fn check_tags(mut tags: Vec<String>, wrong: &mut impl FnMut(&str, &str)) -> Vec<String> {
    tags.sort();
    tags.dedup();
    if tags.len() > tag::AT_MOST {
        wrong("tags", "are more than 100");
    }
    for bad in tags.iter().filter(|tag| !tag::is_tag(tag)) {
        wrong("tags", &format!("{bad:?} is no tag: 1 to 64 characters, none of them a control character"));
    }
    tags
}

fn check_attributes(
    said: Map<String, Value>,
    wrong: &mut impl FnMut(&str, &str),
) -> BTreeMap<String, Option<Attribute>> {
    if said.len() > attribute::AT_MOST {
        wrong("attributes", "are more than 100");
    }
    let mut checked = BTreeMap::new();
    for (name, value) in said {
        let field = format!("attributes.{name}");
        if !attribute::is_name(&name) {
            wrong(&field, "is no name of an attribute: [a-z][a-z0-9_]{0,49}, and none that a member has anyway");
            continue;
        }
        match &value {
            Value::Null => drop(checked.insert(name, None)),
            value => match Attribute::of_json(value) {
                Ok(value) => drop(checked.insert(name, Some(value))),
                Err(what) => wrong(&field, what),
            },
        }
    }
    checked
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_are_visible_and_no_path() {
        for id in ["1", "C-0001/7", "会員 12", "a.b", "...", "a@b", &"x".repeat(100), "%2e", "' OR 1=1"] {
            assert!(is_external_id(id), "{id:?}");
        }
        for id in ["", " 1", "1 ", "a\u{0}", "a\nb", ".", "..", "../1", "a/../b", "..\\1", "a\u{200b}", "a\u{3000}b"] {
            assert!(!is_external_id(id), "{id:?}");
        }
        assert!(!is_external_id(&"x".repeat(101)));
    }

    #[test]
    fn what_is_said_gets_its_form() {
        let some = |text: &str| Some(Some(text.to_owned()));
        let said = Said {
            email: some(" Taro@Example.JP "),
            name: some(" 太郎 "),
            language: some("zh-TW"),
            time_zone: some("asia/tokyo"),
            quiet_hours: some("22:00 - 7:30"),
            attributes: json!({ "tier": "gold", "old": null }).as_object().unwrap().clone(),
            tags: Some(vec!["b".into(), "a".into(), "b".into()]),
        };
        let wanted = check("1001", said).unwrap();
        let email = wanted.email.unwrap().unwrap();
        assert_eq!((email.text.as_str(), email.key.as_str()), ("Taro@Example.JP", "taro@example.jp"));
        assert_eq!(wanted.name.as_deref(), Some("太郎"));
        assert_eq!(wanted.time_zone, some("Asia/Tokyo"));
        assert_eq!(wanted.quiet_hours, some("22:00-07:30"));
        assert_eq!(wanted.tags.unwrap(), ["a", "b"]);
        assert!(wanted.attributes["old"].is_none() && wanted.attributes["tier"].is_some());
        let nothing = check("1001", Said { email: Some(None), ..Said::default() }).unwrap();
        assert_eq!((nothing.email, nothing.name, nothing.tags), (Some(None), None, None));
    }

    #[test]
    fn every_mistake_is_told() {
        let some = |text: &str| Some(Some(text.to_owned()));
        let said = Said {
            email: some("taro"),
            name: some(" "),
            language: some("japanese"),
            time_zone: some("Asia/../etc/passwd"),
            quiet_hours: some("22-7"),
            attributes: json!({ "Tier": 1, "list": [] }).as_object().unwrap().clone(),
            tags: Some(vec![String::new()]),
        };
        let fields: Vec<_> = check("..", said).unwrap_err().into_iter().map(|mistake| mistake.field).collect();
        let expected = [
            "external_id",
            "email",
            "name",
            "language",
            "time_zone",
            "quiet_hours",
            "tags",
            "attributes.Tier",
            "attributes.list",
        ];
        assert_eq!(fields, expected);
    }
}
