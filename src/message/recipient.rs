//! What is said to each recipient of a message to many: its frozen template, rendered when it is sent.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::{addressee::Person, content::Limits};
use crate::{
    app::App,
    db::Conn,
    error::Error,
    flex::{self, Context, Template},
};

/// Messages whose templates were compiled, while one sender works.
#[derive(Default)]
pub(super) struct Sources(BTreeMap<String, Option<Arc<Source>>>);

/// What a message says.
pub(super) enum Source {
    /// The JSON list of message objects, the same for all.
    Content(Arc<str>),
    Template(Frozen),
}

/// A template in its languages, and the data that is the same for all.
pub(super) struct Frozen {
    /// By language; `""` is for everybody without one of their own.
    templates: BTreeMap<String, Template>,
    data: Value,
    limits: Limits,
    /// Whether it may ask for more of a member than the name.
    pub asks_attributes: bool,
    /// Whether it may have taken the place of others, which it tells of.
    pub collapses: bool,
}

/// Sources kept at one time; a channel works on few messages at once.
const KEPT: usize = 64;

impl Sources {
    /// None where the message has neither content nor a template that can be read.
    pub async fn find(&mut self, conn: &mut Conn, message_id: &str) -> Result<Option<Arc<Source>>, Error> {
        if let Some(found) = self.0.get(message_id) {
            return Ok(found.clone());
        }
        let row: Option<Row> = sqlx::query_as("SELECT content, source, data, collapse_key FROM messages WHERE id = $1")
            .bind(message_id)
            .fetch_optional(conn)
            .await?;
        let source = row.and_then(Row::read).map(Arc::new);
        if self.0.len() >= KEPT {
            self.0.clear();
        }
        self.0.insert(message_id.to_owned(), source.clone());
        Ok(source)
    }
}

/// A message's row.
#[derive(sqlx::FromRow)]
struct Row {
    content: Option<String>,
    source: Option<String>,
    data: Option<String>,
    collapse_key: Option<String>,
}

impl Row {
    fn read(self) -> Option<Source> {
        if let Some(content) = self.content {
            return Some(Source::Content(content.into()));
        }
        let source = self.source?;
        let files: BTreeMap<String, Value> = serde_json::from_str(&source).ok()?;
        let templates: Option<_> =
            files.into_iter().map(|(language, file)| Some((language, Template::compile(&file).ok()?))).collect();
        Some(Source::Template(Frozen {
            templates: templates?,
            data: serde_json::from_str(self.data.as_deref().unwrap_or("{}")).ok()?,
            limits: Limits::default(),
            asks_attributes: asks_attributes(&source),
            collapses: self.collapse_key.is_some(),
        }))
    }
}

/// Whether a template's text names something of a member's besides the name and the company's id; rather once too often.
fn asks_attributes(source: &str) -> bool {
    source.match_indices("member.").any(|(place, word)| {
        let rest = &source[place + word.len()..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        !matches!(&rest[..end], "name" | "external_id")
    })
}

impl Frozen {
    /// The JSON list of message objects for this person, or why there is none.
    pub fn render(&self, app: &App, person: &Person, updates: Option<Vec<Value>>) -> Result<String, String> {
        let default = app.config.default_locale.as_str();
        let locale = flex::language(person.locale(app)).unwrap_or(default);
        let found = [locale, "", default].iter().find_map(|language| self.templates.get(*language));
        let template = found.or_else(|| self.templates.values().next()).ok_or("the template has no language")?;
        let zone = person.zone(app);
        let context = Context { zone: &zone, locale };
        let content =
            template.render(&person.fill(&self.data, updates), &context).map_err(|error| error.to_string())?;
        self.limits.keeps(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_an_attribute_asks_for_them() {
        for (source, asks) in [
            (r#"{"text":"Dear {{member.name}}, {{ member.external_id | default: '-' }}"}"#, false),
            (r#"{"text":"Hello {{name}}"}"#, false),
            (r#"{"text":"{{member.name}} {{member.tier}}"}"#, true),
            (r#"{"$if":"member.names"}"#, true),
        ] {
            assert_eq!(asks_attributes(source), asks, "{source}");
        }
    }
}
