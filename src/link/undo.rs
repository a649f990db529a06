//! "This was not me": the way back out of a link, by the token in the mail that told of it. No session is asked for,
//! since whoever linked may hold the only one.

use askama::Template;
use axum::{
    extract::{Query, State},
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use super::{
    end::{self, Ending},
    find_active_by_id,
};
use crate::{
    app::App,
    audit,
    db::Conn,
    error::Result,
    mail,
    member::{
        self, device,
        guard::MaybeSession,
        session,
        token::{self, Gone, Purpose, Token},
    },
    web::{
        cookie,
        form::Form,
        page::{Page, html},
        visit::Visit,
    },
};

const GONE: Gone = Gone { purpose: Purpose::UndoLink, key: "undo_gone", next: "/account" };

#[derive(Template)]
#[template(path = "link/undo.html")]
struct Undo {
    page: Page,
    token: String,
    line_name: String,
    label: String,
    member_email: String,
    /// Set once it is done.
    is_done: bool,
}

#[derive(Deserialize)]
pub struct Fields {
    #[serde(default)]
    token: String,
}

/// The link that a token is about, and whose it is.
#[derive(sqlx::FromRow)]
struct About {
    provider: String,
    line_name: String,
    email: String,
    name: String,
}

/// `GET /link/undo`: shows what would be undone. Mail programs open links too, so that it changes nothing.
pub async fn show(State(app): State<App>, visit: Visit, Query(fields): Query<Fields>) -> Result<Response> {
    let mut conn = app.db.conn().await?;
    let token =
        token::find(&mut conn, app.now(), Purpose::UndoLink, &fields.token).await?.ok_or_else(|| GONE.error())?;
    let about = find_about(&mut conn, &token).await?.ok_or_else(|| GONE.error())?;
    html(&page(&app, &visit, about, fields.token, false))
}

/// `POST /link/undo`: ends the link and every session of the member.
pub async fn submit(
    State(app): State<App>,
    visit: Visit,
    MaybeSession(session): MaybeSession,
    Form(fields): Form<Fields>,
) -> Result<Response> {
    let Some((member_id, about)) = undo(&app, &visit, &fields.token).await? else {
        return Err(GONE.refuse(&app, &visit).await?);
    };
    app.wake();
    let is_own = session.is_some_and(|session| session.member_id == member_id);
    let visit = if is_own { Visit { viewer: None, ..visit } } else { visit };
    let answer = html(&page(&app, &visit, about, String::new(), true))?;
    Ok(if is_own { (cookie::remove(&app.config, cookie::SESSION), answer).into_response() } else { answer })
}

/// Takes the token, ends its link if that is there still, and all sessions whatever became of it; none where the token
/// is not live.
async fn undo(app: &App, visit: &Visit, secret: &str) -> Result<Option<(String, About)>> {
    let now = app.now();
    let mut tx = app.db.begin().await?;
    let Some(token) = token::find(&mut tx, now, Purpose::UndoLink, secret).await? else { return Ok(None) };
    let member_id = token.member_id.clone().unwrap_or_default();
    // The member first, as everybody who ends links and tokens holds them; a disabled one can be undone as well.
    member::hold(&mut tx, &app.db, &member_id).await?;
    let Some(token) = token::take(&mut tx, now, Purpose::UndoLink, secret).await? else { return Ok(None) };
    let Some(about) = find_about(&mut tx, &token).await? else { return Ok(None) };
    end_link(&mut tx, app, visit, &member_id, &token.subject).await?;
    // What else an intruder may have asked for.
    mail::call_off(&mut tx, now, &member_id).await?;
    token::void_of_member(&mut tx, now, &member_id).await?;
    device::forget_all(&mut tx, &member_id).await?;
    session::end_all(&mut tx, &member_id, None).await?;
    tx.commit().await?;
    Ok(Some((member_id, about)))
}

/// Ends the link, if it is there still, with an audit row in either case.
async fn end_link(conn: &mut Conn, app: &App, visit: &Visit, member_id: &str, link_id: &str) -> Result<()> {
    let ending = Ending { reason: "undone", action: "link_undone", address: Some(&visit.address) };
    let is_ended = match find_active_by_id(conn, link_id).await?.filter(|active| active.member_id == member_id) {
        Some(active) => end::end(conn, app, &active, ending).await?,
        None => false,
    };
    if is_ended {
        return Ok(());
    }
    let entry = audit::Entry {
        action: "link_undone",
        reason: Some("ended_before"),
        member_id: Some(member_id),
        subject: Some(link_id),
        address: Some(&visit.address),
        ..Default::default()
    };
    audit::insert(conn, app.now(), entry).await
}

/// None where the link is not of the token's member, or that member is gone.
async fn find_about(conn: &mut Conn, token: &Token) -> Result<Option<About>> {
    let about = sqlx::query_as(
        "SELECT l.provider, COALESCE(l.line_name, u.display_name) AS line_name, m.email, m.name
         FROM links l JOIN line_users u ON u.id = l.line_user_id JOIN members m ON m.id = l.member_id
         WHERE l.id = $1 AND m.id = $2 AND m.deleted_at IS NULL",
    )
    .bind(&token.subject)
    .bind(&token.member_id)
    .fetch_optional(conn)
    .await?;
    Ok(about)
}

fn page(app: &App, visit: &Visit, about: About, token: String, is_done: bool) -> Undo {
    Undo {
        page: Page::new(app, visit),
        token,
        line_name: about.line_name,
        label: app.config.label_of(&about.provider),
        member_email: member::account_name(&about.email, &about.name),
        is_done,
    }
}
