//! What a person says about their link in the chat: its state, and its end. Whose link it is says the event's source
//! alone, never what was written or pressed.

use super::{
    end::{self, Ending},
    find_active_by_id, find_owner,
    say::{self, Chat},
    unlink::is_last_method,
};
use crate::{
    app::App,
    audit,
    db::Conn,
    error::Result,
    member::{self, session},
};

/// Answers whether the person is linked, and to whom.
pub async fn status(conn: &mut Conn, app: &App, chat: &Chat<'_>) -> Result<()> {
    match find_owner(conn, chat.line_user_id).await? {
        Some(owner) if owner.suspended_at.is_some() => {
            say::about_owner(conn, app, chat, "status", "status_suspended", &owner).await
        }
        Some(owner) => say::about_owner(conn, app, chat, "status", "status_linked", &owner).await,
        None => say::say(conn, app, chat, "status", "status_unlinked", &[]).await.map(|_| ()),
    }
}

/// Asks whether the link shall end, with a button that names it.
pub async fn ask_unlink(conn: &mut Conn, app: &App, chat: &Chat<'_>) -> Result<()> {
    match find_owner(conn, chat.line_user_id).await? {
        Some(owner) => say::about_owner(conn, app, chat, "unlink", "unlink_ask", &owner).await,
        None => say::say(conn, app, chat, "unlink", "status_unlinked", &[]).await.map(|_| ()),
    }
}

/// The other button: nothing ends.
pub async fn keep(conn: &mut Conn, app: &App, chat: &Chat<'_>) -> Result<()> {
    say::say(conn, app, chat, "unlink", "unlink_kept", &[]).await.map(|_| ())
}

/// The button: ends this link, if it is the active one of this very LINE user.
pub async fn unlink(conn: &mut Conn, app: &App, chat: &Chat<'_>, link_id: &str) -> Result<()> {
    let Some(owner) = find_owner(conn, chat.line_user_id).await?.filter(|owner| owner.link_id == link_id) else {
        // An old button, or one that somebody else made: what holds is said, and nothing changed.
        return status(conn, app, chat).await;
    };
    // The member first: two unlinks at once would each leave the other link as the last way in.
    member::hold(conn, &app.db, &owner.member_id).await?;
    let Some(active) = find_active_by_id(conn, &owner.link_id).await? else {
        return status(conn, app, chat).await;
    };
    if is_last_method(conn, app, &active).await? {
        let entry = audit::Entry {
            action: "unlink_refused",
            reason: Some("last_method"),
            member_id: Some(&active.member_id),
            subject: Some(&active.link_id),
            provider: Some(&active.provider),
            ..Default::default()
        };
        audit::insert(conn, app.now(), entry).await?;
        return say::say(conn, app, chat, "unlink", "unlink_last_method", &[]).await.map(|_| ());
    }
    let ending = Ending { reason: "chat", action: "unlinked", address: None };
    if !end::end(conn, app, &active, ending).await? {
        return status(conn, app, chat).await;
    }
    session::end_by_link(conn, &active.link_id).await?;
    say::say(conn, app, chat, "unlink", "unlinked_by_chat", &[]).await.map(|_| ())
}
