//! A member's link as the company sees it, and its end by the company. Who at LINE it is, is not told: the company names
//! its members, and never a LINE user.

use super::{
    Active,
    end::{self, Ending},
    find_active,
};
use crate::{
    app::App,
    audit,
    db::{Conn, Millis},
    error::Result,
    line_user::{Friend, find_friend},
    member::{
        company::{self, By},
        session,
    },
};

/// Whether a member is linked in a provider, and what became of the last link where they are not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    pub linked: Option<Linked>,
    pub ended: Option<Ended>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linked {
    pub source: String,
    pub since: Millis,
    /// Paused by a reset of the password: nothing is sent, and nobody signs in.
    pub is_suspended: bool,
    /// False while an imported link waits for the person's yes.
    pub is_confirmed: bool,
    /// `given`, `withdrawn`, `unverifiable`, or `none` (never asked for).
    pub permission: String,
    /// By channel; unknown is sent to.
    pub friends: Vec<(String, Friend)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub at: Millis,
    pub reason: String,
    /// How far the end is at LINE: each step, and its state.
    pub steps: Vec<(String, String)>,
}

/// A member's link in a provider.
pub async fn find(conn: &mut Conn, app: &App, member_id: &str, provider: &str) -> Result<View> {
    match find_active(conn, member_id, provider).await? {
        Some(active) => Ok(View { linked: Some(linked(conn, app, active).await?), ended: None }),
        None => Ok(View { linked: None, ended: find_ended(conn, member_id, provider).await? }),
    }
}

async fn linked(conn: &mut Conn, app: &App, active: Active) -> Result<Linked> {
    let mut friends = Vec::new();
    for channel in app.config.channels_of(&active.provider) {
        friends.push((channel.clone(), find_friend(conn, &active.line_user_id, channel).await?));
    }
    Ok(Linked {
        source: find_source(conn, &active.link_id).await?,
        since: active.created_at,
        is_suspended: active.suspended_at.is_some(),
        is_confirmed: active.unconfirmed_at.is_none(),
        permission: active.permission,
        friends,
    })
}

async fn find_source(conn: &mut Conn, link_id: &str) -> Result<String> {
    Ok(sqlx::query_scalar("SELECT source FROM links WHERE id = $1").bind(link_id).fetch_one(conn).await?)
}

async fn find_ended(conn: &mut Conn, member_id: &str, provider: &str) -> Result<Option<Ended>> {
    let last: Option<(String, Millis, Option<String>)> = sqlx::query_as(
        "SELECT id, ended_at, end_reason FROM links
         WHERE member_id = $1 AND provider = $2 AND ended_at IS NOT NULL ORDER BY created_at DESC, id DESC LIMIT 1",
    )
    .bind(member_id)
    .bind(provider)
    .fetch_optional(&mut *conn)
    .await?;
    let Some((link_id, at, reason)) = last else { return Ok(None) };
    let steps = sqlx::query_as("SELECT step, state FROM unlink_steps WHERE link_id = $1 ORDER BY step")
        .bind(link_id)
        .fetch_all(conn)
        .await?;
    Ok(Some(Ended { at, reason: reason.unwrap_or_default(), steps }))
}

/// Ends a member's link, also where it is their only way in: whoever the company calls its member, it can let in anew.
/// Gives what holds now; none where there is no such member. Repeating it changes nothing more.
pub async fn unlink(app: &App, external_id: &str, provider: &str, by: By<'_>) -> Result<Option<View>> {
    let mut tx = app.db.begin().await?;
    let Some(member) = company::hold(&mut tx, &app.db, external_id).await? else { return Ok(None) };
    if let Some(active) = find_active(&mut tx, &member.id, provider).await? {
        let ending = Ending { reason: "company", action: "unlinked", address: None };
        end::end(&mut tx, app, &active, ending).await?;
        session::end_by_link(&mut tx, &active.link_id).await?;
        let entry = audit::Entry {
            action: "unlink_ordered",
            member_id: Some(&member.id),
            subject: Some(&active.link_id),
            provider: Some(provider),
            data: serde_json::json!({ "by": by.what, "by_id": by.id }),
            ..Default::default()
        };
        audit::insert(&mut tx, app.now(), entry).await?;
    }
    let view = find(&mut tx, app, &member.id, provider).await?;
    tx.commit().await?;
    app.wake();
    Ok(Some(view))
}
