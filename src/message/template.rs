//! The message templates of an installation, rendered for a person.

pub mod command;

use serde_json::Value;

use super::addressee::{self, Person};
use crate::{
    app::App,
    db::Conn,
    error::{Error, Result},
    flex::{Catalogue, Context, RenderError},
};

/// Why a template gives no message.
#[derive(Debug, thiserror::Error)]
pub enum Unsendable {
    #[error("there is no message template {0:?}")]
    NoTemplate(String),
    #[error("the message template {name}: {error}")]
    Render { name: String, error: RenderError },
}

/// The message objects of a template for somebody of LINE's, as a JSON list. `page` is the language of the page that they
/// are on, where there is one.
pub async fn content(
    conn: &mut Conn,
    app: &App,
    line_user_id: &str,
    page: Option<&str>,
    name: &str,
    data: &Value,
) -> Result<String> {
    let mut person = addressee::of_line_user(conn, line_user_id, page).await?;
    addressee::read_attributes(conn, &app.db, [&mut person].into_iter()).await?;
    render_for(app, name, &person, data).map_err(Error::internal)
}

/// In a person's language and zone.
pub(super) fn render_for(app: &App, name: &str, person: &Person, data: &Value) -> Result<String, Unsendable> {
    let zone = person.zone(app);
    let context = Context { zone: &zone, locale: person.locale(app) };
    render(&app.templates, name, data, &context, &app.config.default_locale)
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
