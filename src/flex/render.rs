//! A template and data to JSON text.

use std::cmp::Ordering;

use jiff::tz::TimeZone;
use serde_json::Value;

use super::{
    compile::{Condition, Node, Origin, Place, Slot, Target, Template},
    filter::{Filter, Piece},
    link, moment, schema,
    syntax::{Literal, Test},
};

/// Larger ones are no messages: LINE takes five of at most 50 KB and a little.
const LARGEST: usize = 512 * 1024;
/// Repetitions in all, so that lists within lists end.
const MOST_ROUNDS: usize = 10_000;

/// Data of so many names for each that is asked for is not walked through.
const MANY: usize = 3;

/// Whom a template is rendered for.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// In which times are told.
    pub zone: &'a TimeZone,
    /// `en`, `ja`, `th` or `zh-TW`: the language of dates.
    pub locale: &'a str,
}

/// Why a template cannot be rendered with this data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    #[error("{{{{{0}}}}} has no value")]
    Missing(String),
    #[error("{{{{{name}}}}} must be {wanted}")]
    Kind { name: String, wanted: &'static str },
    #[error("{{{{{0}}}}} begins a link and must be a whole https URL")]
    NotALink(String),
    #[error("the template gives {0} messages; LINE takes one to five")]
    Messages(usize),
    #[error("the template grows too large with this data")]
    TooLarge,
}

impl Template {
    /// The JSON text of the template with its values: a list of message objects.
    pub fn render(&self, data: &Value, context: &Context<'_>) -> Result<String, RenderError> {
        let (mut few, mut many) = ([None; 16], Vec::new());
        let roots = match few.get_mut(..self.roots.len()) {
            Some(few) => few,
            None => {
                many.resize(self.roots.len(), None);
                many.as_mut_slice()
            }
        };
        self.resolve(data, roots);
        if let Some(fields) = &self.schema {
            schema::check(fields, roots.iter().copied(), "")?;
        }
        let out = String::with_capacity(self.size + self.size / 4 + 64);
        let mut run = Run { roots, context, items: Vec::new(), out, rounds: 0, messages: 0 };
        run.nodes(&self.nodes)?;
        if self.is_messages && !(1..=5).contains(&run.messages) {
            return Err(RenderError::Messages(run.messages));
        }
        Ok(run.out)
    }
}

impl Template {
    /// The data's values of the roots. Both are in the order of their names, so that one walk finds all.
    fn resolve<'a>(&self, data: &'a Value, found: &mut [Option<&'a Value>]) {
        let Value::Object(data) = data else { return };
        if data.len() > MANY * self.roots.len() {
            return self.roots.iter().for_each(|(name, place)| found[*place] = data.get(&**name));
        }
        let mut roots = self.roots.iter().peekable();
        for (name, value) in data {
            let mut order = Ordering::Less;
            while let Some((_, place)) = roots.next_if(|(root, _)| {
                order = root.as_ref().cmp(name);
                order.is_le()
            }) {
                found[*place] = order.is_eq().then_some(value);
            }
        }
    }
}

struct Run<'a> {
    /// The data's values of the template's roots.
    roots: &'a [Option<&'a Value>],
    context: &'a Context<'a>,
    /// Of the repetitions around, the outermost first.
    items: Vec<&'a Value>,
    out: String,
    rounds: usize,
    messages: usize,
}

impl<'a> Run<'a> {
    fn nodes(&mut self, nodes: &'a [Node]) -> Result<(), RenderError> {
        for node in nodes {
            match node {
                Node::Literal(text) => self.out.push_str(text),
                Node::Slot(slot) => self.slot(slot)?,
                Node::Comma => {
                    // What stands before is a finished item, or the bracket that opened the list or object.
                    if !self.out.ends_with(['[', '{']) {
                        self.out.push(',');
                    }
                }
                Node::Message => self.messages += 1,
                Node::If { condition, then, otherwise } => {
                    self.nodes(if self.holds(condition) { then } else { otherwise })?;
                }
                Node::For { list, body } => self.repeat(list, body)?,
            }
        }
        if self.out.len() > LARGEST { Err(RenderError::TooLarge) } else { Ok(()) }
    }

    fn repeat(&mut self, place: &'a Place, body: &'a [Node]) -> Result<(), RenderError> {
        let list = match self.look_up(place) {
            Some(Value::Array(list)) => list,
            None | Some(Value::Null) => return Err(RenderError::Missing(place.name.to_string())),
            Some(_) => return Err(RenderError::Kind { name: place.name.to_string(), wanted: "a list" }),
        };
        for item in list {
            self.rounds += 1;
            if self.rounds > MOST_ROUNDS {
                return Err(RenderError::TooLarge);
            }
            self.items.push(item);
            self.nodes(body)?;
            self.items.pop();
        }
        Ok(())
    }

    fn look_up(&self, place: &Place) -> Option<&'a Value> {
        let from = match place.from {
            Origin::Root(root) => self.roots.get(root).copied()??,
            Origin::Item(item) => self.items.get(item).copied()?,
        };
        place.keys.iter().try_fold(from, |value, key| value.get(&**key))
    }

    fn holds(&self, condition: &Condition) -> bool {
        let value = self.look_up(&condition.place).unwrap_or(&Value::Null);
        match &condition.test {
            Test::Holds => is_something(value),
            Test::HoldsNot => !is_something(value),
            Test::Is(literal) => is_equal(value, literal),
            Test::IsNot(literal) => !is_equal(value, literal),
        }
    }

    fn slot(&mut self, slot: &'a Slot) -> Result<(), RenderError> {
        let found = self.look_up(&slot.place);
        if let (Some(Value::String(text)), [], Target::Text) = (found, &*slot.filters, slot.target) {
            escape(&mut self.out, text);
            return Ok(());
        }
        let name = &slot.place.name;
        if let (Some(Value::String(text)), [Filter::Date(format)], Target::Text) = (found, &*slot.filters, slot.target)
            && format.is_plain()
        {
            let wrong = || RenderError::Kind { name: name.to_string(), wanted: "a date" };
            return moment::write(&mut self.out, text, format, self.context).ok_or_else(wrong);
        }
        let missing = || RenderError::Missing(name.to_string());
        let mut piece = found.map_or(Piece::Missing, Piece::Json);
        for filter in &slot.filters {
            piece = filter.apply(piece, name, self.context)?;
        }
        if matches!(piece, Piece::Missing | Piece::Json(Value::Null)) {
            return Err(missing());
        }
        let text = piece.text().ok_or_else(|| RenderError::Kind { name: name.to_string(), wanted: "a text" })?;
        if matches!(slot.target, Target::Link | Target::LinkBeforePath) && !link::is_whole(&text) {
            return Err(RenderError::NotALink(name.to_string()));
        }
        match slot.target {
            Target::Text | Target::Link => escape(&mut self.out, &text),
            Target::LinkBeforePath => escape(&mut self.out, text.trim_end_matches('/')),
            Target::InLink => self.out.push_str(&link::percent_encoded(&text)),
            // LINE reads {name} in these texts as one of its own placeholders.
            Target::TextV2 => escape(&mut self.out, &text.replace('{', "{{").replace('}', "}}")),
        }
        Ok(())
    }
}

fn is_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(object) => !object.is_empty(),
    }
}

fn is_equal(value: &Value, literal: &Literal) -> bool {
    match (value, literal) {
        (Value::String(text), Literal::Text(wanted)) => text == wanted,
        (Value::Number(number), Literal::Number(wanted)) => number.as_f64() == Some(*wanted),
        (Value::Bool(flag), Literal::Bool(wanted)) => flag == wanted,
        _ => false,
    }
}

/// Appends a text as it stands between the quotes of a JSON string.
pub(super) fn escape(out: &mut String, text: &str) {
    if is_plain(text.as_bytes()) {
        return out.push_str(text);
    }
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate().filter(|(_, byte)| is_special(*byte)) {
        // These bytes are whole characters, so both sides are text.
        out.push_str(&text[from..at]);
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            control => out.push_str(&format!("\\u{control:04x}")),
        }
        from = at + 1;
    }
    out.push_str(&text[from..]);
}

/// Whether nothing in a text is escaped, eight bytes at a look.
fn is_plain(text: &[u8]) -> bool {
    // The last eight may overlap the eight before.
    let Some(last) = text.last_chunk() else { return !text.iter().any(|byte| is_special(*byte)) };
    let (words, _) = text.as_chunks();
    !words.iter().chain([last]).any(holds_special)
}

fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// [`is_special`] of any of eight bytes: a byte's highest bit is what is left of it after a subtraction that borrowed.
fn holds_special(bytes: &[u8; 8]) -> bool {
    let all = |byte: u8| u64::from_ne_bytes([byte; 8]);
    let word = u64::from_ne_bytes(*bytes);
    let below = |word: u64, limit: u8| word.wrapping_sub(all(limit)) & !word;
    let (quotes, slashes) = (word ^ all(b'"'), word ^ all(b'\\'));
    (below(word, 0x20) | below(quotes, 1) | below(slashes, 1)) & all(0x80) != 0
}
