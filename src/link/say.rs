//! What is said in the chat about a link: a template, in the person's language.

use serde_json::json;

use super::Owner;
use crate::{
    app::App,
    db::Conn,
    error::{Error, Result},
    member,
    message::{
        answer::{self, Reply},
        template,
    },
};

/// Where somebody wrote, and how they can be answered for free.
#[derive(Debug, Clone, Copy)]
pub struct Chat<'a> {
    pub channel: &'a str,
    pub line_user_id: &'a str,
    pub reply: Option<&'a Reply>,
}

impl<'a> Chat<'a> {
    /// An answer to be given there.
    pub fn answer(&self, cause: &'a str) -> answer::New<'a> {
        answer::New { channel: self.channel, line_user_id: self.line_user_id, cause, reply: self.reply }
    }
}

/// Answers with a template; false where this person was answered too often lately.
pub(super) async fn say(
    conn: &mut Conn,
    app: &App,
    chat: &Chat<'_>,
    cause: &str,
    template: &str,
    more: &[(&str, &str)],
) -> Result<bool> {
    let content = content(conn, app, chat.line_user_id, template, more).await?;
    answer(conn, app, chat, cause, &content).await
}

/// [`say`] with message objects that are rendered already.
pub(super) async fn answer(conn: &mut Conn, app: &App, chat: &Chat<'_>, cause: &str, content: &str) -> Result<bool> {
    Ok(answer::queue(conn, app, chat.answer(cause), Some(content)).await?.is_some())
}

/// [`say`] with a template that names the member account. The chat is the LINE user's alone, and the address is masked;
/// without one it is named by the member's name.
pub(super) async fn about_owner(
    conn: &mut Conn,
    app: &App,
    chat: &Chat<'_>,
    cause: &str,
    template: &str,
    owner: &Owner,
) -> Result<()> {
    let member = member::find(conn, &owner.member_id).await?.ok_or(Error::NotFound)?;
    let email = short(&member::account_name(&member.email, &member.name));
    let more = [("email", email.as_str()), ("link_id", &owner.link_id)];
    say(conn, app, chat, cause, template, &more).await.map(|_| ())
}

/// The message objects of a template for a person, as JSON text.
pub(super) async fn content(
    conn: &mut Conn,
    app: &App,
    line_user_id: &str,
    name: &str,
    more: &[(&str, &str)],
) -> Result<String> {
    let mut data = json!({
        "company": app.config.company,
        "account_url": app.config.url("/account"),
        "password_url": app.config.url("/password/change"),
    });
    more.iter().for_each(|(name, value)| data[*name] = json!(value));
    template::content(conn, app, line_user_id, None, name, &data).await
}

/// LINE bounds the texts of its buttons.
fn short(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
