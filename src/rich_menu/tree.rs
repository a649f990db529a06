//! A file as a tree of values, which knows the line of each: so that a mistake is told where it is mended.

use std::collections::BTreeMap;

use serde_json::{Map, Value, value::RawValue};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// What a file holds.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub value: Value,
    /// By path, such as `areas[0].action.label`.
    lines: BTreeMap<String, usize>,
}

/// Why a file cannot be read, and at which line.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub line: usize,
    pub why: String,
}

impl Tree {
    pub fn toml(text: &str) -> Result<Self, Unreadable> {
        let table = DeTable::parse(text).map_err(|error| {
            let line = line_at(text, error.span().map_or(0, |span| span.start));
            Unreadable { line, why: error.message().to_owned() }
        })?;
        let mut lines = BTreeMap::new();
        let value = table_of(text, table.get_ref(), "", &mut lines);
        Ok(Self { value, lines })
    }

    pub fn json(text: &str) -> Result<Self, Unreadable> {
        let unreadable = |error: serde_json::Error| Unreadable { line: error.line(), why: error.to_string() };
        let value = serde_json::from_str(text).map_err(unreadable)?;
        let whole: &RawValue = serde_json::from_str(text).map_err(unreadable)?;
        let mut lines = BTreeMap::new();
        note_lines(text, whole, "", &mut lines);
        Ok(Self { value, lines })
    }

    /// The line of a path, else of what is around it.
    pub fn line(&self, path: &str) -> usize {
        let mut path = path;
        loop {
            match self.lines.get(path) {
                Some(line) => return *line,
                None => path = path.rfind(['.', '[']).map_or("", |end| &path[..end]),
            }
            if path.is_empty() {
                return self.lines.get("").copied().unwrap_or(1);
            }
        }
    }
}

/// The path of a part of what is at `path`.
fn within(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn line_at(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

fn table_of(text: &str, table: &DeTable<'_>, path: &str, lines: &mut BTreeMap<String, usize>) -> Value {
    let mut object = Map::new();
    for (key, value) in table {
        let path = within(path, key.get_ref());
        lines.insert(path.clone(), line_at(text, key.span().start));
        object.insert(key.get_ref().clone().into_owned(), value_of(text, value, &path, lines));
    }
    Value::Object(object)
}

fn value_of(text: &str, value: &Spanned<DeValue<'_>>, path: &str, lines: &mut BTreeMap<String, usize>) -> Value {
    match value.get_ref() {
        DeValue::String(text) => Value::String(text.clone().into_owned()),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map_or(Value::Null, Value::from)
        }
        DeValue::Float(number) => number.as_str().parse::<f64>().map_or(Value::Null, Value::from),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Datetime(time) => Value::String(time.to_string()),
        DeValue::Array(list) => {
            let part = |(place, part): (usize, &Spanned<DeValue<'_>>)| {
                let path = format!("{path}[{place}]");
                lines.insert(path.clone(), line_at(text, part.span().start));
                value_of(text, part, &path, lines)
            };
            Value::Array(list.iter().enumerate().map(part).collect())
        }
        DeValue::Table(table) => table_of(text, table, path, lines),
    }
}

/// A raw value is a piece of the text itself, so that its place in it tells the line.
fn note_lines(text: &str, raw: &RawValue, path: &str, lines: &mut BTreeMap<String, usize>) {
    let at = (raw.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    lines.insert(path.to_owned(), line_at(text, at));
    if let Ok(parts) = serde_json::from_str::<BTreeMap<String, &RawValue>>(raw.get()) {
        parts.iter().for_each(|(name, part)| note_lines(text, part, &within(path, name), lines));
    } else if let Ok(parts) = serde_json::from_str::<Vec<&RawValue>>(raw.get()) {
        parts.iter().enumerate().for_each(|(place, part)| note_lines(text, part, &format!("{path}[{place}]"), lines));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_value_has_its_line() {
        let text = "# a menu\nname = \"gold\"\nfrom = 2026-12-01T09:00\nsize = { width = 2_500,\n height = 0x34b }\n\n\
                    [[areas]]\naction = { type = \"uri\" }\n[[areas]]\nbounds.x = 1\n";
        let tree = Tree::toml(text).unwrap();
        let areas = json!([{ "action": { "type": "uri" } }, { "bounds": { "x": 1 } }]);
        let size = json!({ "width": 2500, "height": 843 });
        assert_eq!(tree.value, json!({ "name": "gold", "from": "2026-12-01T09:00", "size": size, "areas": areas }));
        for (path, line) in [
            ("name", 2),
            ("size", 4),
            ("size.height", 5),
            ("areas[0]", 7),
            ("areas[0].action.type", 8),
            ("areas[0].action.label", 8),
            ("areas[1].bounds.x", 10),
            ("areas[1].action", 9),
            ("alias", 1),
            ("", 1),
        ] {
            assert_eq!(tree.line(path), line, "{path}");
        }
        let error = Tree::toml("name = \"a\"\nsize = {\n").unwrap_err();
        assert!(error.line >= 2 && !error.why.is_empty(), "{error:?}");
    }

    #[test]
    fn so_in_json() {
        let text = "{\n \"size\": {\"width\": 1,\n \"h\\u0065ight\": 2},\n \"areas\": [\n  {\"action\":\n   {\"type\": null}}]}";
        let tree = Tree::json(text).unwrap();
        for (path, line) in
            [("size", 2), ("size.width", 2), ("size.height", 3), ("areas[0]", 5), ("areas[0].action.type", 6), ("x", 1)]
        {
            assert_eq!(tree.line(path), line, "{path}");
        }
        assert_eq!(Tree::json("{\n\"a\": }").unwrap_err().line, 2);
    }
}
