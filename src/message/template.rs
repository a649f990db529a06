//! The message templates of an installation, rendered for a person.

pub mod command;

use serde_json::Value;

use crate::{
    app::App,
    error::{Error, Result},
    flex::{self, Catalogue, Context, RenderError},
};

/// Why a template gives no message.
#[derive(Debug, thiserror::Error)]
pub enum Unsendable {
    #[error("there is no message template {0:?}")]
    NoTemplate(String),
    #[error("the message template {name}: {error}")]
    Render { name: String, error: RenderError },
}

/// The message objects of a template for a person, as a JSON list.
pub fn content(app: &App, name: &str, locale: &str, data: &Value) -> Result<String> {
    let default = app.config.default_locale.as_str();
    let context = Context { zone: &app.zone, locale: flex::language(locale).unwrap_or(default) };
    render(&app.templates, name, data, &context, default).map_err(Error::internal)
}

/// The one place where what was rendered becomes what is sent.
pub(super) fn render(
    templates: &Catalogue,
    name: &str,
    data: &Value,
    context: &Context<'_>,
    default_locale: &str,
) -> Result<String, Unsendable> {
    let missing = || Unsendable::NoTemplate(name.to_owned());
    let template = templates.find(name, context.locale, default_locale).ok_or_else(missing)?;
    template.render(data, context).map_err(|error| Unsendable::Render { name: name.to_owned(), error })
}
