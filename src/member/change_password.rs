//! Changing the password, or setting the first one.

use askama::Template;
use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{
    device, find,
    guard::SignedIn,
    hold, needs_passwords, password,
    session::{self, Method, Session},
    set_password,
    step_up::{self, Proof},
    token,
};
use crate::{
    app::App,
    audit,
    db::Conn,
    error::{Error, Result},
    mail::{self, Mail, To},
    seal,
    web::{
        cookie::{self, SetCookie},
        form::Form,
        page::{Page, html},
        visit::Visit,
    },
};

const HERE: &str = "/password/change";

#[derive(Template)]
#[template(path = "member/change_password.html")]
struct Change {
    page: Page,
    email: String,
    has_password: bool,
    shortest: String,
    problem: Option<String>,
    problem_field: &'static str,
}

#[derive(Deserialize)]
pub struct Fields {
    #[serde(default)]
    current: String,
    password: String,
}

/// `GET /password/change`
pub async fn show(State(app): State<App>, visit: Visit, SignedIn(session): SignedIn) -> Result<Response> {
    needs_passwords(&app)?;
    let page = form(&app, &visit, &session).await?;
    if !page.has_password && !session.is_fresh(app.now()) {
        return Err(Error::Reauth { return_to: HERE.into() });
    }
    html(&page)
}

/// `POST /password/change`
pub async fn submit(
    State(app): State<App>,
    visit: Visit,
    SignedIn(session): SignedIn,
    headers: HeaderMap,
    Form(fields): Form<Fields>,
) -> Result<Response> {
    needs_passwords(&app)?;
    if step_up::prove(&app, &session, &fields.current, HERE).await? == Proof::Wrong {
        record_refusal(&app, &visit, &session).await?;
        let mut page = form(&app, &visit, &session).await?;
        (page.problem, page.problem_field) = (Some(page.page.t("problem.wrong_password").to_owned()), "current");
        return Ok((StatusCode::FORBIDDEN, html(&page)?).into_response());
    }
    let hash = match password::hash_new(&app, &fields.password, &[&session.email, &session.name]).await? {
        Ok(hash) => hash,
        Err(problem) => {
            let mut page = form(&app, &visit, &session).await?;
            (page.problem, page.problem_field) = (Some(problem.words(&app, &page.page)), "password");
            return Ok((problem.status(), html(&page)?).into_response());
        }
    };

    let mut tx = app.db.begin().await?;
    let changed = change(&mut tx, &app, &visit, &session, &headers, &hash).await?;
    let (token, known) = changed.ok_or_else(|| Error::SignIn { return_to: HERE.into() })?;
    tx.commit().await?;
    app.wake();
    let answer = Redirect::to("/account?done=password_changed");
    Ok((cookie::set(&app.config, cookie::SESSION, &token, None), known, answer).into_response())
}

/// Sets the password and ends what hung on the former one; none where this session ended meanwhile, as by a reset.
async fn change(
    conn: &mut Conn,
    app: &App,
    visit: &Visit,
    session: &Session,
    headers: &HeaderMap,
    password_hash: &str,
) -> Result<Option<(String, SetCookie)>> {
    let (now, member_id) = (app.now(), session.member_id.as_str());
    let Some(member) = hold(conn, &app.db, member_id).await? else { return Ok(None) };
    let Some(token) = session::rotate(conn, app, visit, session, &Method::Password).await? else { return Ok(None) };
    set_password(conn, now, member_id, password_hash).await?;
    let ended = session::end_all(conn, member_id, Some(&seal::hash(&token))).await?;
    mail::call_off(conn, now, member_id).await?;
    token::void_of_member(conn, now, member_id).await?;
    device::forget_all(conn, member_id).await?;
    let known = device::remember(conn, app, headers, member_id).await?;
    let entry = audit::Entry {
        action: "password_changed",
        member_id: Some(member_id),
        address: Some(&visit.address),
        data: serde_json::json!({ "sessions": ended }),
        ..Default::default()
    };
    audit::insert(conn, now, entry).await?;
    let to = To { email: &member.email, member_id: Some(member_id), locale: visit.locale.tag() };
    mail::queue(conn, app, to, &Mail::PasswordChanged).await?;
    Ok(Some((token, known)))
}

async fn record_refusal(app: &App, visit: &Visit, session: &Session) -> Result<()> {
    let entry = audit::Entry {
        action: "password_change_refused",
        reason: Some("credentials"),
        member_id: Some(&session.member_id),
        address: Some(&visit.address),
        ..Default::default()
    };
    audit::insert(&mut *app.db.conn().await?, app.now(), entry).await
}

async fn form(app: &App, visit: &Visit, session: &Session) -> Result<Change> {
    let member = find(&mut *app.db.conn().await?, &session.member_id).await?.ok_or(Error::NotFound)?;
    Ok(Change {
        page: Page::new(app, visit),
        email: member.email,
        has_password: member.password_hash.is_some(),
        shortest: app.config.security.password_length.to_string(),
        problem: None,
        problem_field: "",
    })
}
