//! Names what does not fit [`Config`](super::Config), one mistake after another: serde stops at the first, so each
//! is named, mended in a copy, and the copy is tried again.
//!
//! Never names a value: it may be a secret, or one put in the wrong place.

use toml::{Table, Value};

use super::Config;

/// More mistakes than anybody wants to read.
const MOST: usize = 100;

/// Reads the table; adds what does not fit to `mistakes`. Without a result nothing more can be said.
pub(super) fn read(mut table: Table, mistakes: &mut Vec<String>) -> Option<Config> {
    for _ in 0..MOST {
        let error = match Value::Table(table.clone()).try_into::<Config>() {
            Ok(config) => return Some(config),
            Err(error) => error,
        };
        let misfit = Misfit::of(&error);
        let is_new = !is_named(mistakes, &misfit.key());
        if is_new {
            mistakes.push(misfit.to_string());
        }
        if !misfit.mend(&mut table) {
            return None;
        }
    }
    None
}

/// Whether a mistake of this key was already named.
pub(super) fn is_named(mistakes: &[String], key: &str) -> bool {
    mistakes.iter().any(|mistake| mistake.split_once(": ").is_some_and(|(named, _)| named == key))
}

/// One thing that does not fit: the path to its table or value, and what it is.
#[derive(Debug)]
struct Misfit {
    path: Vec<String>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Unknown { name: String },
    Missing { name: String },
    Wrong { why: String },
}

impl Misfit {
    /// Out of the error's words, which are all that serde leaves of it.
    fn of(error: &toml::de::Error) -> Self {
        let (text, message) = (error.to_string(), error.message());
        let place = text.trim_end().rsplit_once("\nin `").map_or("", |(_, place)| place.trim_end_matches('`'));
        let path = place.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let quoted = || message.split('`').nth(1).unwrap_or_default().to_owned();
        let kind = if message.starts_with("unknown field") {
            Kind::Unknown { name: quoted() }
        } else if message.starts_with("missing field") {
            Kind::Missing { name: quoted() }
        } else {
            Kind::Wrong { why: without_value(message) }
        };
        let mut misfit = Self { path, kind };
        misfit.end_at_the_table();
        misfit
    }

    /// An unknown or missing key is a key of the table that the path leads to.
    fn end_at_the_table(&mut self) {
        if let Kind::Unknown { name } | Kind::Missing { name } = &self.kind
            && self.path.last() == Some(name)
        {
            self.path.pop();
        }
    }

    fn key(&self) -> String {
        let mut path = self.path.clone();
        if let Kind::Unknown { name } | Kind::Missing { name } = &self.kind {
            path.push(name.clone());
        }
        path.join(".")
    }

    /// Changes the table so that this mistake is gone; false where that is not possible.
    fn mend(&self, table: &mut Table) -> bool {
        match &self.kind {
            Kind::Unknown { name } => inside(table, &self.path).is_some_and(|inner| inner.remove(name).is_some()),
            Kind::Missing { name } => {
                inside(table, &self.path).is_some_and(|inner| inner.insert(name.clone(), placeholder(name)).is_none())
            }
            Kind::Wrong { .. } => {
                let Some((last, path)) = self.path.split_last() else { return false };
                inside(table, path).is_some_and(|inner| inner.remove(last).is_some())
            }
        }
    }
}

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = self.key();
        match &self.kind {
            Kind::Unknown { .. } => write!(f, "{key}: there is no such key"),
            Kind::Missing { .. } => write!(f, "{key}: is missing"),
            Kind::Wrong { why } if key.is_empty() => write!(f, "{why}"),
            Kind::Wrong { why } => write!(f, "{key}: {why}"),
        }
    }
}

fn inside<'t>(table: &'t mut Table, path: &[String]) -> Option<&'t mut Table> {
    path.iter().try_fold(table, |table, name| table.get_mut(name)?.as_table_mut())
}

/// Something of the right type, so that the rest can be read.
fn placeholder(name: &str) -> Value {
    match name {
        "security" | "sealing_keys" => Value::Table(Table::new()),
        "public_url" => Value::String("https://missing.invalid".to_owned()),
        _ => Value::String(String::new()),
    }
}

/// What was expected, without what was found.
fn without_value(message: &str) -> String {
    match message.rsplit_once(", expected ") {
        Some((_, expected)) => format!("expected {expected}"),
        None => message.split(": ").next().unwrap_or_default().to_owned(),
    }
}
