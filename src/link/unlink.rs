//! Unlinking by the member: the page, the proof, and [`end`](mod@super::end).

use askama::Template;
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{
    Active,
    end::{self, Ending},
    find_active,
};
use crate::{
    app::App,
    audit,
    db::{Conn, Tx},
    error::{Error, NextStep, Refusal, Result},
    kill,
    member::{
        self,
        guard::SignedIn,
        oidc,
        session::{self, Method, Session},
        step_up::{self, Proof},
    },
    web::{
        cookie,
        form::Form,
        page::{Page, html},
        picture,
        visit::Visit,
    },
};

#[derive(Template)]
#[template(path = "link/unlink.html")]
struct Unlink {
    page: Page,
    provider: String,
    label: String,
    line_name: String,
    picture: Option<String>,
    has_password: bool,
    problem: Option<String>,
}

#[derive(Deserialize)]
pub struct Asked {
    provider: Option<String>,
}

#[derive(Deserialize)]
pub struct Fields {
    provider: String,
    /// Not asked of a member who has none.
    #[serde(default)]
    password: String,
}

/// `GET /account/unlink`
pub async fn show(
    State(app): State<App>,
    visit: Visit,
    SignedIn(session): SignedIn,
    Query(asked): Query<Asked>,
) -> Result<Response> {
    // The rich menu leads here without naming the provider: with one provider there is no question.
    let Some(provider) = asked.provider.or_else(|| app.config.provider.keys().next().cloned()) else {
        return Ok(Redirect::to("/account").into_response());
    };
    check_provider(&app, &provider)?;
    let mut conn = app.db.conn().await?;
    let active = find_active(&mut conn, &session.member_id, &provider).await?;
    let Some(active) = active else { return Ok(Redirect::to("/account").into_response()) };
    if is_last_method(&mut conn, &app, &active).await? {
        return Err(last_method());
    }
    let has_password = step_up::asks_password(&mut conn, &app, &session, &here(&provider)).await?;
    html(&form(&app, &visit, active, has_password, None))
}

/// `POST /account/unlink`. Repeating it changes nothing more.
pub async fn submit(
    State(app): State<App>,
    visit: Visit,
    SignedIn(session): SignedIn,
    Form(fields): Form<Fields>,
) -> Result<Response> {
    check_provider(&app, &fields.provider)?;
    let mut conn = app.db.conn().await?;
    let active = find_active(&mut conn, &session.member_id, &fields.provider).await?;
    let Some(active) = active else { return Ok(Redirect::to("/account").into_response()) };
    if is_last_method(&mut conn, &app, &active).await? {
        record_refusal(&mut conn, &app, &visit, &active, "last_method").await?;
        return Err(last_method());
    }
    drop(conn);
    let proof = step_up::prove(&app, &session, &fields.password, &here(&fields.provider)).await?;
    if proof != Proof::Given {
        record_refusal(&mut *app.db.conn().await?, &app, &visit, &active, "credentials").await?;
        let page = html(&form(&app, &visit, active, true, Some("problem.wrong_password")))?;
        return Ok((StatusCode::UNAUTHORIZED, page).into_response());
    }

    let mut tx = app.db.begin().await?;
    // One unlink of a member after the other: two at once would each leave the other link as the last way in.
    let held = member::hold(&mut tx, &app.db, &session.member_id).await?;
    held.ok_or_else(|| Error::SignIn { return_to: here(&active.provider) })?;
    if is_last_method(&mut tx, &app, &active).await? {
        return Err(last_method());
    }
    let token = unlink(&mut tx, &app, &visit, &session, &active).await?;
    kill::point("unlink.recorded");
    tx.commit().await?;
    kill::point("unlink.committed");
    app.wake();

    let answer = Redirect::to("/account?done=unlinked");
    Ok((cookie::set(&app.config, cookie::SESSION, &token, None), answer).into_response())
}

/// Ends the link and the sessions that came by it; gives the new value of this session's cookie.
async fn unlink(tx: &mut Tx, app: &App, visit: &Visit, session: &Session, active: &Active) -> Result<String> {
    let ending = Ending { reason: "member", action: "unlinked", address: Some(&visit.address) };
    end::end(tx, app, active, ending).await?;
    // What this browser may do has changed, so its session gets a new id, if it lives still. One that came by this
    // link ends with it; the password just given makes a new one of it.
    let token = match session.method.as_str() {
        "line" => session::rotate(tx, app, visit, session, &Method::Password).await?,
        _ => session::renew(tx, app, session).await?,
    };
    // A session that ended meanwhile, as by a reset, unlinks nothing: its proof was of the former password.
    let token = token.ok_or_else(|| Error::SignIn { return_to: here(&active.provider) })?;
    session::end_by_link(tx, &active.link_id).await?;
    Ok(token)
}

/// A name from outside reaches the database only where it is one of ours.
fn check_provider(app: &App, provider: &str) -> Result<()> {
    if app.config.provider.contains_key(provider) { Ok(()) } else { Err(Error::NotFound) }
}

/// Whether the link is the only way in that its member has: no password, no sign-in at the company's provider, and no other
/// link that signs in. Whoever cannot get a password (they have no address, or none is taken) would never be free of it, and
/// the company can let them in anew.
pub(super) async fn is_last_method(conn: &mut Conn, app: &App, active: &Active) -> Result<bool> {
    if !signs_in(app, &active.provider) || active.unconfirmed_at.is_some() || !app.config.has_passwords() {
        return Ok(false);
    }
    if oidc::is_way_in(conn, app, &active.member_id).await? {
        return Ok(false);
    }
    let has_no_password: Option<String> =
        sqlx::query_scalar("SELECT id FROM members WHERE id = $1 AND password_hash IS NULL AND email <> ''")
            .bind(&active.member_id)
            .fetch_optional(&mut *conn)
            .await?;
    if has_no_password.is_none() {
        return Ok(false);
    }
    let others: Vec<String> = sqlx::query_scalar(
        "SELECT provider FROM links WHERE member_id = $1 AND id <> $2 AND ended_at IS NULL AND suspended_at IS NULL
           AND unconfirmed_at IS NULL",
    )
    .bind(&active.member_id)
    .bind(&active.link_id)
    .fetch_all(conn)
    .await?;
    Ok(!others.iter().any(|provider| signs_in(app, provider)))
}

/// A link made in a chat opens nothing where its provider has no LINE Login.
fn signs_in(app: &App, provider: &str) -> bool {
    app.config.provider.get(provider).is_some_and(|provider| provider.login.is_some())
}

fn last_method() -> Error {
    let next = NextStep::Link("/password/change".into());
    let refusal = Refusal { status: StatusCode::CONFLICT, key: "last_method", reason: "last_method", next };
    Error::Refused(Box::new(refusal))
}

async fn record_refusal(conn: &mut Conn, app: &App, visit: &Visit, active: &Active, reason: &str) -> Result<()> {
    let entry = audit::Entry {
        action: "unlink_refused",
        reason: Some(reason),
        member_id: Some(&active.member_id),
        subject: Some(&active.link_id),
        address: Some(&visit.address),
        ..Default::default()
    };
    audit::insert(conn, app.now(), entry).await
}

fn here(provider: &str) -> String {
    format!("/account/unlink?provider={provider}")
}

fn form(app: &App, visit: &Visit, active: Active, has_password: bool, problem: Option<&str>) -> Unlink {
    let page = Page::new(app, visit);
    Unlink {
        label: app.config.label_of(&active.provider),
        provider: active.provider,
        line_name: active.display_name,
        picture: picture::allowed(app, active.picture_url.as_deref()),
        has_password,
        problem: problem.map(|key| page.t(key).to_owned()),
        page,
    }
}
