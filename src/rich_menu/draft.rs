//! One menu file as it is written: its keys are read, and it becomes a menu in each of its languages.

use std::{borrow::Cow, collections::BTreeSet};

use serde_json::Value;

use super::{
    alias::Aliases,
    check,
    file::{Menu, Source},
    fill::{self, in_language},
    rule::Rule,
    tree::Tree,
};
use crate::config::Config;

const KEYS: [&str; 13] = [
    "name",
    "priority",
    "when",
    "from",
    "until",
    "hours",
    "alias",
    "image",
    "object",
    "chat_bar_text",
    "selected",
    "size",
    "areas",
];
/// What stands in LINE's own JSON instead, where a file names such.
const IN_OBJECT: [&str; 4] = ["chat_bar_text", "selected", "size", "areas"];

/// A file whose own keys are in order.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    source: &'a Source,
    tree: Tree,
    /// LINE's own JSON, where the file names such, with its file name.
    object: Option<(String, Tree)>,
    pub name: String,
    pub priority: i64,
    pub rule: Rule,
    pub alias: Option<String>,
    /// The installation's own first, as far as the file has it; one that is empty where texts are not by language.
    pub languages: Vec<String>,
}

impl<'a> Draft<'a> {
    /// Reads a file's keys, or says what is wrong with them.
    pub fn read(config: &Config, source: &'a Source) -> Result<Self, Vec<String>> {
        let unreadable = |line: usize, why: &str| vec![format!("{}:{line}: {}", source.origin, why.trim())];
        let tree = Tree::toml(&source.text).map_err(|error| unreadable(error.line, &error.why))?;
        let mut draft = Self {
            source,
            tree,
            object: None,
            name: source.stem.clone(),
            priority: 0,
            rule: Rule::default(),
            alias: None,
            languages: Vec::new(),
        };
        let mut mistakes = Vec::new();
        draft.read_keys(&mut mistakes);
        draft.read_rule(&mut mistakes);
        draft.read_object(&mut mistakes);
        draft.read_languages(config, &mut mistakes);
        if mistakes.is_empty() { Ok(draft) } else { Err(mistakes) }
    }

    pub fn origin(&self) -> &str {
        &self.source.origin
    }

    /// Words about a place of the file.
    pub fn mistake(&self, path: &str, text: &str) -> String {
        let path = path.replacen("chatBarText", "chat_bar_text", 1);
        format!("{}:{}: {path}: {text}", self.source.origin, self.tree.line(&path))
    }

    /// Words about a place of LINE's object, which may be in a file of its own.
    fn mistake_in_object(&self, path: &str, text: &str) -> String {
        match &self.object {
            Some((file, tree)) => format!("{file}:{}: {path}: {text}", tree.line(path)),
            None => self.mistake(path, text),
        }
    }

    fn read_keys(&mut self, mistakes: &mut Vec<String>) {
        for key in self.tree.value.as_object().into_iter().flat_map(serde_json::Map::keys) {
            if !KEYS.contains(&key.as_str()) {
                mistakes.push(self.mistake(key, &format!("is not known; there are {}", KEYS.join(", "))));
            }
        }
        if let Some(name) = self.text("name", mistakes) {
            self.name = name;
        }
        if !is_word(&self.name) {
            mistakes.push(self.mistake("name", &format!("{:?} must be 1 to 32 of a-z, 0-9, - and _", self.name)));
        }
        self.alias = self.text("alias", mistakes);
        if self.alias.as_deref().is_some_and(|alias| !is_word(alias)) {
            mistakes.push(self.mistake("alias", "must be 1 to 32 of a-z, 0-9, - and _"));
        }
        match self.tree.value.get("priority").map(Value::as_i64) {
            None => {}
            Some(Some(priority)) => self.priority = priority,
            Some(None) => mistakes.push(self.mistake("priority", "must be a whole number")),
        }
    }

    /// Each part of the rule is judged by itself, so that its own line is told.
    fn read_rule(&mut self, mistakes: &mut Vec<String>) {
        let mut part = |key: &str| self.text(key, mistakes);
        let (when, from, until, hours) = (part("when"), part("from"), part("until"), part("hours"));
        self.rule = Rule { when, from, until, hours };
        let Rule { when, from, until, hours } = self.rule.clone();
        let before = mistakes.len();
        for (key, rule) in [
            ("when", Rule { when, ..Rule::default() }),
            ("from", Rule { from, ..Rule::default() }),
            ("until", Rule { until, ..Rule::default() }),
            ("hours", Rule { hours, ..Rule::default() }),
        ] {
            if let Err(why) = rule.check() {
                mistakes.push(self.mistake(key, &why));
            }
        }
        if mistakes.len() == before
            && let Err(why) = self.rule.check()
        {
            mistakes.push(self.mistake("until", &why));
        }
    }

    fn read_object(&mut self, mistakes: &mut Vec<String>) {
        let Some(file) = self.text("object", mistakes) else { return };
        for key in IN_OBJECT.into_iter().filter(|key| self.tree.value.get(key).is_some()) {
            mistakes.push(self.mistake(key, &format!("stands beside object; it belongs into {file}")));
        }
        let text = match self.source.beside(&file).map(|bytes| String::from_utf8(bytes.into_owned())) {
            Ok(Ok(text)) => text,
            Ok(Err(_)) => return mistakes.push(self.mistake("object", "is not UTF-8")),
            Err(why) => return mistakes.push(self.mistake("object", &why)),
        };
        match Tree::json(&text) {
            Ok(tree) => self.object = Some((file, tree)),
            Err(error) => mistakes.push(format!("{file}:{}: is not JSON: {}", error.line, error.why)),
        }
    }

    fn read_languages(&mut self, config: &Config, mistakes: &mut Vec<String>) {
        let tables = self.tables();
        let all: BTreeSet<&String> = tables.iter().flat_map(|(_, table)| table.keys()).collect();
        for (path, table) in &tables {
            for (language, text) in *table {
                let path = format!("{path}.{language}");
                if !is_language(language) {
                    mistakes.push(self.mistake(&path, "is no language such as ja, en, zh-TW or th"));
                } else if !text.is_string() {
                    mistakes.push(self.mistake(&path, "must be a text"));
                }
            }
            for language in all.iter().filter(|language| !table.contains_key(**language)) {
                mistakes.push(self.mistake(path, &format!("has no text in {language}, as others in this file have")));
            }
        }
        self.languages = all.into_iter().cloned().collect();
        self.languages.sort_by_key(|language| *language != config.default_locale);
        if self.languages.is_empty() {
            self.languages.push(String::new());
        }
    }

    /// Every place that has texts by language.
    fn tables(&self) -> Vec<(String, &serde_json::Map<String, Value>)> {
        let at = |key: &str| (key.to_owned(), self.tree.value.get(key));
        let mut places = vec![at("chat_bar_text"), at("image")];
        let areas = self.tree.value.get("areas").and_then(Value::as_array);
        for (place, area) in areas.into_iter().flatten().enumerate() {
            let action = area.get("action").and_then(Value::as_object).into_iter().flatten();
            let action = action.filter(|(name, _)| *name != "altUri");
            places.extend(action.map(|(name, value)| (format!("areas[{place}].action.{name}"), Some(value))));
        }
        places.into_iter().filter_map(|(path, value)| Some((path, value?.as_object()?))).collect()
    }

    fn text(&self, key: &str, mistakes: &mut Vec<String>) -> Option<String> {
        match self.tree.value.get(key) {
            None => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => {
                mistakes.push(self.mistake(key, "must be a text"));
                None
            }
        }
    }

    /// The alias of the menu in a language: plain in the first, so that it need not be known in which it is written.
    pub fn alias_in(&self, language: &str) -> Option<String> {
        let alias = self.alias.as_deref()?;
        let is_first = self.languages.first().is_none_or(|first| first == language);
        Some(if is_first { alias.to_owned() } else { format!("{alias}-{}", language.to_ascii_lowercase()) })
    }

    /// The menu in a language, or everything for which LINE would not take it.
    pub fn menu(&self, config: &Config, language: &str, aliases: &Aliases) -> Result<Menu, Vec<String>> {
        let mut mistakes = Vec::new();
        let object = self.fill(config, language, &mut mistakes);
        let image = self.read_image(language, &mut mistakes);
        let (Some(mut object), Some(image)) = (object, image) else { return Err(mistakes) };
        self.lead_taps(&mut object, language, aliases, &mut mistakes);
        let mut menu = Menu::new(self, language, object, image);
        for mistake in check::object(&menu.object) {
            let text = if language.is_empty() { mistake.text } else { format!("{} ({language})", mistake.text) };
            mistakes.push(self.mistake_in_object(&mistake.path, &text));
        }
        match check::image(&menu.object, &menu.image) {
            Ok(content_type) => content_type.clone_into(&mut menu.content_type),
            Err(found) => mistakes.extend(found.iter().map(|why| self.mistake("image", why))),
        }
        if mistakes.is_empty() { Ok(menu) } else { Err(mistakes) }
    }

    /// LINE's object without its name, which depends on the rest.
    fn fill(&self, config: &Config, language: &str, mistakes: &mut Vec<String>) -> Option<Value> {
        let template = match &self.object {
            Some((_, tree)) => fill::from_json(&tree.value),
            None => fill::from_toml(&self.tree.value, language),
        };
        let filled = fill::fill(config, &template);
        filled
            .map_err(|found| mistakes.extend(found.iter().map(|one| self.mistake_in_object(&one.path, &one.text))))
            .ok()
    }

    fn read_image(&self, language: &str, mistakes: &mut Vec<String>) -> Option<Cow<'static, [u8]>> {
        let file = match self.tree.value.get("image").map(|image| in_language(image, language)) {
            Some(Value::String(file)) => Ok(file),
            Some(_) => Err("must be a file name".to_owned()),
            None => Err("is missing".to_owned()),
        };
        let read = file.and_then(|file| self.source.beside(file));
        read.map_err(|why| mistakes.push(self.mistake("image", &why))).ok()
    }

    /// Has the taps that switch lead to menus of the same language.
    fn lead_taps(&self, object: &mut Value, language: &str, aliases: &Aliases, mistakes: &mut Vec<String>) {
        let areas = object["areas"].as_array_mut().into_iter().flatten();
        for (place, area) in areas.enumerate() {
            let Some(alias) = area.pointer_mut("/action/richMenuAliasId") else { continue };
            let Some(written) = alias.as_str() else { continue };
            match aliases.find(written, language) {
                Some(found) => *alias = Value::String(found.to_owned()),
                None => {
                    let path = format!("areas[{place}].action.richMenuAliasId");
                    mistakes.push(self.mistake_in_object(&path, &format!("{written:?} is no file's alias")));
                }
            }
        }
    }
}

pub(super) fn is_word(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    (1..=32).contains(&text.len()) && text.bytes().all(plain)
}

fn is_language(tag: &str) -> bool {
    let mut parts = tag.split('-');
    let is_first = |part: &str| (2..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_lowercase());
    parts.next().is_some_and(is_first)
        && parts.all(|part| (2..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}
