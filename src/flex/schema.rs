//! What data a template asks for (`$data`): names, and what each holds.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Mistake, link, moment, render::RenderError, syntax};

pub(super) type Fields = BTreeMap<String, Field>;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Field {
    pub kind: Kind,
    /// Declared with a `?` after its name.
    pub is_optional: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Text,
    Number,
    Bool,
    Date,
    Url,
    List(Box<Kind>),
    Object(Fields),
}

/// Reads the declaration at `path`; what cannot be read is left out.
pub(super) fn read(declared: &Value, path: &str, mistakes: &mut Vec<Mistake>) -> Fields {
    let Value::Object(declared) = declared else {
        mistakes.push(Mistake { path: path.to_owned(), text: "must be an object of names and kinds".to_owned() });
        return Fields::new();
    };
    let mut fields = Fields::new();
    for (name, kind) in declared {
        let path = format!("{path}.{name}");
        let (name, is_optional) = name.strip_suffix('?').map_or((name.as_str(), false), |name| (name, true));
        if !syntax::is_name(name) {
            mistakes.push(Mistake { path, text: format!("{name:?} is no name: letters, digits and _ only") });
        } else if let Some(kind) = read_kind(kind, &path, mistakes) {
            fields.insert(name.to_owned(), Field { kind, is_optional });
        }
    }
    fields
}

fn read_kind(declared: &Value, path: &str, mistakes: &mut Vec<Mistake>) -> Option<Kind> {
    let kind = match declared {
        Value::Object(_) => return Some(Kind::Object(read(declared, path, mistakes))),
        Value::Array(list) if list.len() == 1 => {
            let of = read_kind(list.first()?, &format!("{path}[0]"), mistakes)?;
            return Some(Kind::List(Box::new(of)));
        }
        Value::String(word) => match word.as_str() {
            "text" => Some(Kind::Text),
            "number" => Some(Kind::Number),
            "bool" => Some(Kind::Bool),
            "date" => Some(Kind::Date),
            "url" => Some(Kind::Url),
            _ => None,
        },
        _ => None,
    };
    if kind.is_none() {
        let text = "must be text, number, bool, date, url, an object, or a list of one of these";
        mistakes.push(Mistake { path: path.to_owned(), text: text.to_owned() });
    }
    kind
}

/// Whether data is as declared, by its values in the order of the fields. What is not declared is not looked at: one
/// data serves several templates.
pub(super) fn check<'a>(
    fields: &Fields,
    values: impl IntoIterator<Item = Option<&'a Value>>,
    path: &str,
) -> Result<(), RenderError> {
    for ((name, field), value) in fields.iter().zip(values) {
        let inner = || if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match value {
            None | Some(Value::Null) if field.is_optional => {}
            None | Some(Value::Null) => return Err(RenderError::Missing(inner())),
            // The names of what is simple are only needed where it is wrong.
            Some(value) => match &field.kind {
                Kind::List(_) | Kind::Object(_) => field.kind.check(value, &inner())?,
                simple if simple.fits(value) => {}
                simple => return Err(RenderError::Kind { name: inner(), wanted: simple.word() }),
            },
        }
    }
    Ok(())
}

impl Kind {
    fn check(&self, value: &Value, name: &str) -> Result<(), RenderError> {
        match (self, value) {
            (Self::Object(fields), Value::Object(object)) => {
                check(fields, fields.keys().map(|key| object.get(key)), name)
            }
            (Self::List(of), Value::Array(list)) => list.iter().try_for_each(|item| of.check(item, name)),
            (simple, value) if simple.fits(value) => Ok(()),
            _ => Err(RenderError::Kind { name: name.to_owned(), wanted: self.word() }),
        }
    }

    /// Whether a simple value is of this kind.
    fn fits(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Text, Value::String(_) | Value::Number(_)) => true,
            (Self::Number, Value::Number(_)) | (Self::Bool, Value::Bool(_)) => true,
            (Self::Date, Value::String(text)) => moment::is_date(text),
            (Self::Url, Value::String(text)) => link::is_whole(text),
            _ => false,
        }
    }

    pub fn word(&self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Number => "a number",
            Self::Bool => "true or false",
            Self::Date => "a date",
            Self::Url => "a whole https URL",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}
