//! What stands in a list or in place of a value by `$if` and `$for`, and the commas between.

use serde_json::{Map, Value};

use super::{At, Comma, Compiler, Condition, DEEPEST, Kind, MOST_LOOPS, Node, before, literal};
use crate::flex::syntax::{self, Test};

impl Compiler {
    /// A name and its value, or neither where a condition says so.
    pub(super) fn member(&mut self, out: &mut Vec<Node>, key: &str, value: &Value, at: &At<'_>, comma: Comma) -> Comma {
        if let Value::Object(object) = value
            && object.contains_key("$if")
        {
            return self.choice(out, object, at, comma, |compiler, out, value, at, comma| {
                compiler.member(out, key, value, at, comma);
            });
        }
        before(out, comma);
        literal(out, &format!("{}:", Value::from(key)));
        self.value(out, value, at);
        Comma::Sure
    }

    /// An item of a list, or several, or none.
    pub(super) fn item(&mut self, out: &mut Vec<Node>, item: &Value, at: &At<'_>, comma: Comma) -> Comma {
        match item {
            _ if at.depth > DEEPEST => self.value(out, item, at),
            Value::Object(object) if object.contains_key("$if") => {
                return self.choice(out, object, at, comma, |compiler, out, value, at, comma| {
                    compiler.items(out, value, at, comma);
                });
            }
            Value::Object(object) if object.contains_key("$for") => return self.repetition(out, object, at, comma),
            _ => {
                before(out, comma);
                if at.is_message {
                    self.check_message(item, at.path);
                    out.push(Node::Message);
                }
                self.value(out, item, at);
            }
        }
        Comma::Sure
    }

    /// What stands in place of items: one, or a list of them.
    fn items(&mut self, out: &mut Vec<Node>, value: &Value, at: &At<'_>, mut comma: Comma) {
        let Value::Array(list) = value else {
            self.item(out, value, at, comma);
            return;
        };
        for (number, item) in list.iter().enumerate() {
            let at = At { path: &format!("{}[{number}]", at.path), ..*at };
            comma = self.item(out, item, &at, comma);
        }
    }

    /// `{"$if": condition, "$then": …, "$else": …}`
    fn choice(
        &mut self,
        out: &mut Vec<Node>,
        object: &Map<String, Value>,
        at: &At<'_>,
        comma: Comma,
        compile: impl Fn(&mut Self, &mut Vec<Node>, &Value, &At<'_>, Comma),
    ) -> Comma {
        self.check_keys(object, &["$if", "$then", "$else"], at.path);
        let after = if comma == Comma::Sure { Comma::Sure } else { Comma::Maybe };
        let written = object.get("$if").and_then(Value::as_str).unwrap_or_default();
        let (path, test) = match syntax::condition(written) {
            Ok(condition) => condition,
            Err(text) => {
                self.complain(&format!("{}.$if", at.path), text);
                return after;
            }
        };
        let place = self.place(path, &format!("{}.$if", at.path));
        if !object.contains_key("$then") {
            self.complain(at.path, "$if needs $then");
        }
        let branch = |compiler: &mut Self, name: &str, is_present: bool| {
            let mut nodes = Vec::new();
            if let Some(value) = object.get(name) {
                compiler.present.extend(is_present.then(|| path.to_owned()));
                let at = At { path: &format!("{}.{name}", at.path), depth: at.depth + 1, ..*at };
                compile(compiler, &mut nodes, value, &at, comma);
                if is_present {
                    compiler.present.pop();
                }
            }
            nodes
        };
        let then = branch(self, "$then", matches!(test, Test::Holds | Test::Is(_)));
        let otherwise = branch(self, "$else", test == Test::HoldsNot);
        out.push(Node::If { condition: Condition { place, test }, then, otherwise });
        after
    }

    /// `{"$for": "item in list", "$do": …}`
    fn repetition(&mut self, out: &mut Vec<Node>, object: &Map<String, Value>, at: &At<'_>, comma: Comma) -> Comma {
        self.check_keys(object, &["$for", "$do"], at.path);
        let after = if comma == Comma::Sure { Comma::Sure } else { Comma::Maybe };
        let path = format!("{}.$for", at.path);
        let written = object.get("$for").and_then(Value::as_str).unwrap_or_default();
        let (name, list) = match syntax::repetition(written) {
            Ok(found) => found,
            Err(text) => {
                self.complain(&path, text);
                return after;
            }
        };
        if self.loops.len() >= MOST_LOOPS {
            self.complain(&path, format!("repetitions stand at most {MOST_LOOPS} deep"));
            return after;
        }
        let of = match self.kind(list) {
            Some(Kind::List(of)) => Some(*of),
            Some(other) => {
                self.complain(&path, format!("{list} is declared as {}, not as a list", other.word()));
                None
            }
            None => None,
        };
        let place = self.place(list, &path);
        self.must_be_there(list, &path);
        self.loops.push((name.to_owned(), of));
        let mut body = Vec::new();
        match object.get("$do") {
            Some(value) => {
                let at = At { path: &format!("{}.$do", at.path), depth: at.depth + 1, ..*at };
                self.items(&mut body, value, &at, after);
            }
            None => self.complain(at.path, "$for needs $do"),
        }
        self.loops.pop();
        out.push(Node::For { list: place, body });
        after
    }

    fn check_keys(&mut self, object: &Map<String, Value>, known: &[&str], path: &str) {
        for name in object.keys().filter(|name| !known.contains(&name.as_str())) {
            self.complain(&format!("{path}.{name}"), format!("stands beside {}, where only {known:?} may", known[0]));
        }
    }
}
