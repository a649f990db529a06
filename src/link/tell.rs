//! What people are told of their links: the welcome in LINE, the menu, the mail with its way to undo, and a word to
//! the owner whose LINE account somebody else tried to link.

use super::{Owner, attempt::Pending};
use crate::{
    app::App,
    audit,
    db::Conn,
    error::Result,
    mail::{self, Mail},
    member::session::Session,
    message::{self, Tie, To},
    queue::{self, Job},
    web::visit::Visit,
};

/// Queues the welcome message on every channel of the provider.
pub async fn welcome(
    conn: &mut Conn,
    app: &App,
    visit: &Visit,
    session: &Session,
    pending: &Pending,
    link_id: &str,
) -> Result<()> {
    let now = app.now();
    let account_url = app.config.url("/account");
    let data =
        [("name", session.name.as_str()), ("company", &app.config.company), ("account_url", &account_url)].into();
    for channel in app.config.channels_of(&pending.provider) {
        let new = message::New {
            channel,
            template: "welcome",
            locale: visit.locale.tag(),
            data: &data,
            cause: "linked",
            topic: None,
            to: To { line_user_id: &pending.line_user_id, link: Some(Tie { member_id: &session.member_id, link_id }) },
        };
        message::send(conn, now, new).await?;
    }
    Ok(())
}

/// Queues the member's menu on every channel of the provider.
pub async fn menus(conn: &mut Conn, app: &App, pending: &Pending) -> Result<()> {
    let now = app.now();
    for channel in app.config.channels_of(&pending.provider) {
        let menu = Job::UserMenu { line_user_id: pending.line_user_id.clone(), channel: channel.clone() };
        queue::enqueue(conn, now, now, &menu).await?;
    }
    Ok(())
}

/// Queues the mail that says so to the member, who may not have been the one that linked.
pub async fn mail(
    conn: &mut Conn,
    app: &App,
    visit: &Visit,
    session: &Session,
    link_id: &str,
    line_name: &str,
) -> Result<()> {
    let linked = Mail::Linked { link_id: link_id.to_owned(), line_name: line_name.to_owned() };
    let to = mail::To {
        email: &session.email,
        member_id: Some(&session.member_id),
        locale: session.locale.as_deref().unwrap_or(visit.locale.tag()),
    };
    mail::queue(conn, app, to, &linked).await
}

/// Records for the present owner that somebody else tried to link their LINE account, and tells them in LINE.
pub async fn owner(conn: &mut Conn, app: &App, provider: &str, line_user_id: &str, owner: &Owner) -> Result<()> {
    let now = app.now();
    let entry = audit::Entry {
        action: "link_conflict",
        member_id: Some(&owner.member_id),
        subject: Some(&owner.link_id),
        provider: Some(provider),
        ..Default::default()
    };
    audit::insert(conn, now, entry).await?;
    let account_url = app.config.url("/account");
    let data = [("company", app.config.company.as_str()), ("account_url", &account_url)].into();
    // In the owner's language: the visitor is somebody else.
    let own: Option<String> = sqlx::query_scalar("SELECT locale FROM members WHERE id = $1")
        .bind(&owner.member_id)
        .fetch_one(&mut *conn)
        .await?;
    let locale = own.as_deref().unwrap_or(&app.config.default_locale);
    for channel in app.config.channels_of(provider) {
        let new = message::New {
            channel,
            template: "link_conflict",
            locale,
            data: &data,
            cause: "link_conflict",
            topic: None,
            to: To { line_user_id, link: Some(Tie { member_id: &owner.member_id, link_id: &owner.link_id }) },
        };
        message::send(conn, now, new).await?;
    }
    Ok(())
}
