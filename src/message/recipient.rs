//! What is said to each recipient of a message to many: its frozen template, rendered when it is sent.

use std::{collections::BTreeMap, sync::Arc};

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::{
    app::App,
    db::Conn,
    error::Result,
    flex::{self, Context, Template},
};

/// Messages whose templates were compiled, while one sender works.
#[derive(Default)]
pub(super) struct Sources(BTreeMap<String, Option<Arc<Source>>>);

/// A message's template in its languages, and the data that is the same for all.
pub(super) struct Source {
    /// By language; `""` is for everybody without one of their own.
    templates: BTreeMap<String, Template>,
    data: Value,
}

/// Who is spoken to.
#[derive(Debug, Default, sqlx::FromRow)]
pub(super) struct Recipient {
    pub name: Option<String>,
    pub external_id: Option<String>,
    /// The member's own choice.
    pub locale: Option<String>,
    pub time_zone: Option<String>,
    /// As LINE tells it.
    pub language: Option<String>,
}

/// Sources kept at one time; a channel works on few messages at once.
const KEPT: usize = 64;

impl Sources {
    /// None where the message has no template, or none that can be read.
    pub async fn find(&mut self, conn: &mut Conn, message_id: &str) -> Result<Option<Arc<Source>>> {
        if let Some(found) = self.0.get(message_id) {
            return Ok(found.clone());
        }
        let row: Option<(Option<String>, Option<String>)> =
            sqlx::query_as("SELECT source, data FROM messages WHERE id = $1")
                .bind(message_id)
                .fetch_optional(conn)
                .await?;
        let source = row.and_then(|(source, data)| Source::read(&source?, data.as_deref())).map(Arc::new);
        if self.0.len() >= KEPT {
            self.0.clear();
        }
        self.0.insert(message_id.to_owned(), source.clone());
        Ok(source)
    }
}

impl Source {
    fn read(source: &str, data: Option<&str>) -> Option<Self> {
        let files: BTreeMap<String, Value> = serde_json::from_str(source).ok()?;
        let templates: Option<_> =
            files.into_iter().map(|(language, file)| Some((language, Template::compile(&file).ok()?))).collect();
        Some(Self { templates: templates?, data: serde_json::from_str(data.unwrap_or("{}")).ok()? })
    }

    /// The JSON list of message objects for this person, or why there is none.
    pub fn render(&self, app: &App, recipient: &Recipient) -> std::result::Result<String, String> {
        let default = app.config.default_locale.as_str();
        let spoken = [&recipient.locale, &recipient.language].into_iter().flatten();
        let locale = spoken.filter_map(|tag| flex::language(tag)).next().unwrap_or(default);
        let found = [locale, "", default].iter().find_map(|language| self.templates.get(*language));
        let template = found.or_else(|| self.templates.values().next()).ok_or("the template has no language")?;
        let own = recipient.time_zone.as_deref().and_then(|name| TimeZone::get(name).ok());
        let context = Context { zone: own.as_ref().unwrap_or(&app.zone), locale };
        template.render(&self.data_of(recipient), &context).map_err(|error| error.to_string())
    }

    fn data_of(&self, recipient: &Recipient) -> Value {
        let mut data = self.data.clone();
        if let Some(fields) = data.as_object_mut() {
            let member = json!({ "name": recipient.name, "external_id": recipient.external_id });
            fields.insert("member".into(), member);
        }
        data
    }
}
