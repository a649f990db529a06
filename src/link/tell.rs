//! What people are told of their links: the welcome in LINE, the menu, the mail with its way to undo, and a word to
//! the owner whose LINE account somebody else tried to link.

use serde_json::{Value, json};

use super::Owner;
use crate::{
    app::App,
    audit,
    db::Conn,
    error::Result,
    mail::{self, Mail},
    message::{self, Tie, To, template},
    queue::{self, Job},
};

/// A link that was just made or resumed, and whom it is told to.
#[derive(Debug, Clone, Copy)]
pub struct Linked<'a> {
    pub link_id: &'a str,
    pub provider: &'a str,
    pub line_user_id: &'a str,
    pub member_id: &'a str,
    pub name: &'a str,
    pub email: &'a str,
    /// Of the page that the yes was said on.
    pub locale: &'a str,
    pub mail_locale: &'a str,
}

/// Queues the welcome message on every channel of the provider but the one where it was said already.
pub async fn welcome(conn: &mut Conn, app: &App, linked: &Linked<'_>, but: Option<&str>) -> Result<()> {
    let data = welcome_data(app, linked);
    for channel in app.config.channels_of(linked.provider).filter(|channel| Some(channel.as_str()) != but) {
        let tie = Tie { member_id: linked.member_id, link_id: linked.link_id };
        let new = message::New {
            channel,
            template: "welcome",
            locale: linked.locale,
            data: &data,
            cause: "linked",
            topic: None,
            to: To { line_user_id: linked.line_user_id, link: Some(tie) },
        };
        message::send(conn, app, new).await?;
    }
    Ok(())
}

/// The welcome as message objects, to be said where somebody can be answered.
pub async fn welcome_content(conn: &mut Conn, app: &App, linked: &Linked<'_>) -> Result<String> {
    let data = welcome_data(app, linked);
    template::content(conn, app, linked.line_user_id, Some(linked.locale), "welcome", &data).await
}

fn welcome_data(app: &App, linked: &Linked<'_>) -> Value {
    json!({ "name": linked.name, "company": app.config.company, "account_url": app.config.url("/account") })
}

/// Queues the member's menu on every channel of the provider.
pub async fn menus(conn: &mut Conn, app: &App, provider: &str, line_user_id: &str) -> Result<()> {
    let now = app.now();
    for channel in app.config.channels_of(provider) {
        let menu = Job::UserMenu { line_user_id: line_user_id.to_owned(), channel: channel.clone() };
        queue::enqueue(conn, now, now, &menu).await?;
    }
    Ok(())
}

/// Queues the mail that says so to the member, who may not have been the one that linked.
pub async fn mail(conn: &mut Conn, app: &App, linked: &Linked<'_>, line_name: &str) -> Result<()> {
    let mail = Mail::Linked { link_id: linked.link_id.to_owned(), line_name: line_name.to_owned() };
    let to = mail::To { email: linked.email, member_id: Some(linked.member_id), locale: linked.mail_locale };
    mail::queue(conn, app, to, &mail).await
}

/// Records for the present owner that somebody else tried to link their LINE account, and tells them in LINE, on every
/// channel of the provider but the one where nothing may be said.
pub async fn owner(
    conn: &mut Conn,
    app: &App,
    provider: &str,
    line_user_id: &str,
    owner: &Owner,
    but: Option<&str>,
) -> Result<()> {
    let now = app.now();
    let entry = audit::Entry {
        action: "link_conflict",
        member_id: Some(&owner.member_id),
        subject: Some(&owner.link_id),
        provider: Some(provider),
        ..Default::default()
    };
    audit::insert(conn, now, entry).await?;
    let data = json!({ "company": app.config.company, "account_url": app.config.url("/account") });
    for channel in app.config.channels_of(provider).filter(|channel| Some(channel.as_str()) != but) {
        let new = message::New {
            channel,
            template: "link_conflict",
            // Not of the page: the visitor is somebody else.
            locale: &app.config.default_locale,
            data: &data,
            cause: "link_conflict",
            topic: None,
            to: To { line_user_id, link: Some(Tie { member_id: &owner.member_id, link_id: &owner.link_id }) },
        };
        message::send(conn, app, new).await?;
    }
    Ok(())
}
