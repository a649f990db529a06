//! A JSON tree to a [`Template`], or every mistake with its JSON path.

mod declared;
mod directive;

use serde_json::{Map, Value};

use super::{
    Mistake,
    filter::Filter,
    link::{self, Beginning},
    render::escape,
    schema::{self, Fields, Kind},
    syntax::{self, Part, Placeholder, Test},
};

/// Deeper trees are no messages.
const DEEPEST: usize = 40;
const MOST_LOOPS: usize = 3;
/// What is known of the recipient, partly in their own words.
const PERSON: &str = "member";
/// LINE shows these words where a message itself cannot be shown.
const WITH_ALT_TEXT: [&str; 3] = ["flex", "template", "imagemap"];

/// A compiled template.
#[derive(Debug, Clone)]
pub struct Template {
    pub(super) nodes: Vec<Node>,
    /// Names at the data's top that are asked for, in their order, each with its number: with a schema that of its field.
    pub(super) roots: Vec<(Box<str>, usize)>,
    pub(super) schema: Option<Fields>,
    /// Bytes of the fixed text.
    pub(super) size: usize,
    pub(super) is_messages: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    /// JSON text as it is.
    Literal(String),
    Slot(Box<Slot>),
    /// A comma, unless the list or object has just begun.
    Comma,
    /// Another message object begins.
    Message,
    If {
        condition: Condition,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    For {
        list: Place,
        body: Vec<Node>,
    },
}

/// Where a value is written.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub place: Place,
    pub filters: Vec<Filter>,
    pub target: Target,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Text,
    /// The text of a textV2, in which LINE has placeholders of its own.
    TextV2,
    /// Within a link, after its host.
    InLink,
    /// The whole beginning of a link.
    Link,
    LinkBeforePath,
}

/// Where a value comes from.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// As it is written, for errors.
    pub name: Box<str>,
    pub from: Origin,
    /// What is asked for within it.
    pub keys: Vec<Box<str>>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Origin {
    /// One of the template's roots.
    Root(usize),
    /// An item of a repetition around, counted from the outermost.
    Item(usize),
}

#[derive(Debug, Clone)]
pub(super) struct Condition {
    pub place: Place,
    pub test: Test,
}

impl Template {
    /// Compiles a template file: one message object, a list of them, or `{"$data": …, "messages": …}`.
    pub fn compile(file: &Value) -> Result<Self, Vec<Mistake>> {
        let mut compiler = Compiler::default();
        let (messages, path) = match file {
            Value::Object(object) if object.contains_key("$data") => {
                for name in object.keys().filter(|name| !["$data", "messages"].contains(&name.as_str())) {
                    compiler.complain(name, "stands beside $data, where only messages may stand");
                }
                let declared = object.get("$data").unwrap_or(&Value::Null);
                let fields = schema::read(declared, "$data", &mut compiler.mistakes);
                compiler.roots = fields.keys().map(|name| name.as_str().into()).collect();
                compiler.schema = Some(fields);
                (object.get("messages").unwrap_or(&Value::Null), "messages")
            }
            other => (other, ""),
        };
        let list = match messages {
            Value::Array(list) => list.as_slice(),
            Value::Object(_) => std::slice::from_ref(messages),
            _ => &[],
        };
        if list.is_empty() {
            compiler.complain(path, "must be a LINE message object, or a list of one to five");
        }
        let mut out = Vec::new();
        literal(&mut out, "[");
        let mut comma = Comma::None;
        for (number, message) in list.iter().enumerate() {
            let at = if messages.is_array() { format!("{path}[{number}]") } else { path.to_owned() };
            comma = compiler.item(&mut out, message, &At { path: &at, key: "", depth: 1, is_message: true }, comma);
        }
        literal(&mut out, "]");
        compiler.end(out, true)
    }

    /// Compiles a tree that is no list of messages.
    pub(super) fn tree(tree: &Value) -> Result<Self, Vec<Mistake>> {
        let mut compiler = Compiler::default();
        let mut out = Vec::new();
        compiler.value(&mut out, tree, &At { path: "", key: "", depth: 0, is_message: false });
        compiler.end(out, false)
    }
}

/// Where in the tree the compiler is.
#[derive(Clone, Copy)]
struct At<'a> {
    path: &'a str,
    /// The nearest name above: `uri` stays the name of each text of a list of links.
    key: &'a str,
    depth: usize,
    /// Whether message objects stand here.
    is_message: bool,
}

/// Whether a comma is needed before the next item.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comma {
    /// Nothing stands before.
    None,
    /// It depends on the data.
    Maybe,
    Sure,
}

#[derive(Default)]
struct Compiler {
    schema: Option<Fields>,
    /// Names at the data's top, as they are met; those of the schema come first.
    roots: Vec<Box<str>>,
    mistakes: Vec<Mistake>,
    /// The names of the repetitions around, with what each holds where that is declared.
    loops: Vec<(String, Option<Kind>)>,
    /// Paths that a condition around has found to be there.
    present: Vec<String>,
    /// Whether the object around is a textV2.
    in_text_v2: bool,
}

impl Compiler {
    fn end(self, nodes: Vec<Node>, is_messages: bool) -> Result<Template, Vec<Mistake>> {
        if !self.mistakes.is_empty() {
            return Err(self.mistakes);
        }
        let size = nodes.iter().map(Node::size).sum();
        let mut roots: Vec<_> = self.roots.into_iter().zip(0..).collect();
        roots.sort_unstable();
        Ok(Template { nodes, roots, schema: self.schema, size, is_messages })
    }

    fn complain(&mut self, path: &str, text: impl Into<String>) {
        self.mistakes.push(Mistake { path: path.to_owned(), text: text.into() });
    }

    fn value(&mut self, out: &mut Vec<Node>, value: &Value, at: &At<'_>) {
        if at.depth > DEEPEST {
            return self.complain(at.path, format!("is nested deeper than {DEEPEST} levels"));
        }
        match value {
            Value::String(text) => self.text(out, text, at),
            Value::Array(list) => {
                literal(out, "[");
                let mut comma = Comma::None;
                for (number, item) in list.iter().enumerate() {
                    let path = format!("{}[{number}]", at.path);
                    let at = At { path: &path, depth: at.depth + 1, is_message: false, ..*at };
                    comma = self.item(out, item, &at, comma);
                }
                literal(out, "]");
            }
            Value::Object(object) => match directive_of(object) {
                Some(name) => self.complain(at.path, format!("{name} stands in a list, or $if in place of a value")),
                None => self.object(out, object, at),
            },
            Value::Null | Value::Bool(_) | Value::Number(_) => literal(out, &value.to_string()),
        }
    }

    fn object(&mut self, out: &mut Vec<Node>, object: &Map<String, Value>, at: &At<'_>) {
        let around = std::mem::replace(&mut self.in_text_v2, object.get("type").is_some_and(|kind| kind == "textV2"));
        literal(out, "{");
        let mut comma = Comma::None;
        for (key, value) in object {
            let path = if at.path.is_empty() { key.clone() } else { format!("{}.{key}", at.path) };
            if key.contains("{{") {
                self.complain(&path, "a name holds no placeholders");
            }
            let at = At { path: &path, key, depth: at.depth + 1, is_message: false };
            comma = self.member(out, key, value, &at, comma);
        }
        literal(out, "}");
        self.in_text_v2 = around;
    }

    fn check_message(&mut self, message: &Value, path: &str) {
        let kind = message.get("type").and_then(Value::as_str).unwrap_or_default();
        if kind.is_empty() {
            return self.complain(path, "is no LINE message object: it has no type");
        }
        let is_silent = match message.get("altText") {
            Some(Value::String(text)) => text.trim().is_empty(),
            Some(Value::Object(choice)) => !choice.contains_key("$if"),
            _ => true,
        };
        if WITH_ALT_TEXT.contains(&kind) && is_silent {
            self.complain(path, "needs altText, which is shown in notifications and read aloud");
        }
    }

    fn text(&mut self, out: &mut Vec<Node>, text: &str, at: &At<'_>) {
        let parts = match syntax::parts(text) {
            Ok(parts) => parts,
            Err(mistake) => return self.complain(at.path, mistake),
        };
        let has_values = parts.iter().any(|part| matches!(part, Part::Placeholder(_)));
        if has_values && at.key == "type" {
            return self.complain(at.path, "a type is fixed: values cannot change the tree's shape");
        }
        let mut targets = match self.targets(text, &parts, at.key) {
            Ok((first, others)) => std::iter::once(first).chain(std::iter::repeat(others)),
            Err(mistake) => return self.complain(at.path, mistake),
        };
        literal(out, "\"");
        for part in parts {
            match part {
                Part::Text(text) => {
                    let mut escaped = String::new();
                    escape(&mut escaped, text);
                    literal(out, &escaped);
                }
                Part::Placeholder(Placeholder { path, filters }) => {
                    self.check_filters(path, &filters, at.path);
                    let place = self.place(path, at.path);
                    let mut target = targets.next().unwrap_or(Target::Text);
                    if target == Target::Link && filters.is_empty() && self.kind(path) == Some(Kind::Url) {
                        // The data was looked at before.
                        target = Target::Text;
                    }
                    out.push(Node::Slot(Box::new(Slot { place, filters, target })));
                }
            }
        }
        literal(out, "\"");
    }

    /// How the first value of a text is written, and the others.
    fn targets(&self, text: &str, parts: &[Part<'_>], key: &str) -> Result<(Target, Target), String> {
        if !link::is_link(key) {
            let target = if self.in_text_v2 && key == "text" { Target::TextV2 } else { Target::Text };
            return Ok((target, target));
        }
        if let [Part::Placeholder(Placeholder { path, .. }), ..] = parts
            && path.split('.').next() == Some(PERSON)
            && self.loops.iter().all(|(name, _)| name != PERSON)
        {
            return Err(format!(
                "{text:?} must fix the scheme and host of its link: people write {{{{{path}}}}} themselves"
            ));
        }
        let first = match link::beginning(text, parts)? {
            Beginning::Fixed => Target::InLink,
            Beginning::Value => Target::Link,
            Beginning::ValueBeforePath => Target::LinkBeforePath,
        };
        Ok((first, Target::InLink))
    }

    fn place(&mut self, path: &str, at: &str) -> Place {
        let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
        let keys = rest.into_iter().flat_map(|rest| rest.split('.')).map(Box::from).collect();
        let from = match self.loops.iter().rposition(|(name, _)| name == first) {
            Some(item) => Origin::Item(item),
            None => Origin::Root(self.root(first)),
        };
        if self.schema.is_some() && self.field(path).is_none() {
            self.complain(at, format!("{path} is not declared in $data"));
        }
        Place { name: path.into(), from, keys }
    }

    fn root(&mut self, name: &str) -> usize {
        if let Some(known) = self.roots.iter().position(|root| **root == *name) {
            return known;
        }
        self.roots.push(name.into());
        self.roots.len() - 1
    }
}

impl Node {
    fn size(&self) -> usize {
        match self {
            Self::Literal(text) => text.len(),
            Self::If { then, .. } => then.iter().map(Self::size).sum(),
            Self::For { body, .. } => body.iter().map(Self::size).sum::<usize>() * 4,
            Self::Slot(_) => 16,
            Self::Comma | Self::Message => 1,
        }
    }
}

/// The `$` name of an object that is no plain one.
fn directive_of(object: &Map<String, Value>) -> Option<&str> {
    let mut names = object.keys().map(String::as_str).filter(|name| name.starts_with('$'));
    names.clone().find(|name| ["$for", "$if"].contains(name)).or_else(|| names.next())
}

/// Appends JSON text, to the piece before where there is one.
fn literal(out: &mut Vec<Node>, text: &str) {
    match out.last_mut() {
        Some(Node::Literal(before)) => before.push_str(text),
        _ => out.push(Node::Literal(text.to_owned())),
    }
}

fn before(out: &mut Vec<Node>, comma: Comma) {
    match comma {
        Comma::None => {}
        Comma::Maybe => out.push(Node::Comma),
        Comma::Sure => literal(out, ","),
    }
}
