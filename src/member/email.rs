//! Changing the address: asked for with a proof of the member, done by whoever reads the new mailbox.

use askama::Template;
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{
    email_key, find,
    guard::{MaybeSession, SignedIn},
    hold, needs_mail,
    session::{self, Session},
    sign_up::check_mail,
    step_up::{self, Proof},
    token::{self, Gone, Purpose},
};
use crate::{
    app::App,
    audit,
    db::{Conn, Millis},
    error::{Error, Result},
    mail::{self, Mail, To},
    web::{
        cookie,
        form::Form,
        page::{Page, html},
        visit::Visit,
    },
};

const HERE: &str = "/account/email";
const GONE: Gone = Gone { purpose: Purpose::ChangeEmail, key: "email_gone", next: HERE };

#[derive(Template)]
#[template(path = "member/email.html")]
struct Change {
    page: Page,
    current: String,
    email: String,
    has_password: bool,
    problem: Option<String>,
    problem_field: &'static str,
}

#[derive(Template)]
#[template(path = "member/email_confirm.html")]
struct Confirm {
    page: Page,
    token: String,
    email: String,
}

#[derive(Deserialize)]
pub struct Fields {
    email: String,
    #[serde(default)]
    password: String,
}

#[derive(Deserialize)]
pub struct OfToken {
    #[serde(default)]
    token: String,
}

/// `GET /account/email`
pub async fn show(State(app): State<App>, visit: Visit, SignedIn(session): SignedIn) -> Result<Response> {
    needs_mail(&app)?;
    let page = form(&app, &visit, &session, String::new()).await?;
    if !page.has_password && !session.is_fresh(app.now()) {
        return Err(Error::Reauth { return_to: HERE.into() });
    }
    html(&page)
}

/// `POST /account/email`. Whether the new address is somebody's is told to its owner only.
pub async fn submit(
    State(app): State<App>,
    visit: Visit,
    SignedIn(session): SignedIn,
    Form(fields): Form<Fields>,
) -> Result<Response> {
    needs_mail(&app)?;
    if email_key(&fields.email).is_none() {
        let mut page = form(&app, &visit, &session, fields.email).await?;
        (page.problem, page.problem_field) = (Some(page.page.t("problem.email_shape").to_owned()), "email");
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, html(&page)?).into_response());
    }
    if step_up::prove(&app, &session, &fields.password, HERE).await? == Proof::Wrong {
        let entry = entry(&visit, "email_change_refused", &session.member_id);
        audit::insert(&mut *app.db.conn().await?, app.now(), entry).await?;
        let mut page = form(&app, &visit, &session, fields.email).await?;
        (page.problem, page.problem_field) = (Some(page.page.t("problem.wrong_password").to_owned()), "password");
        return Ok((StatusCode::FORBIDDEN, html(&page)?).into_response());
    }

    let mut tx = app.db.begin().await?;
    // Not after a reset that came while the password was compared: it ended this session.
    let ended = || Error::SignIn { return_to: HERE.into() };
    hold(&mut tx, &app.db, &session.member_id).await?.ok_or_else(ended)?;
    let renewed = session::renew(&mut tx, &app, &session).await?.ok_or_else(ended)?;
    let to = To { email: &fields.email, member_id: Some(&session.member_id), locale: visit.locale.tag() };
    mail::queue(&mut tx, &app, to, &Mail::ChangeEmail).await?;
    audit::insert(&mut tx, app.now(), entry(&visit, "email_change_asked", &session.member_id)).await?;
    tx.commit().await?;
    app.wake();
    let page = check_mail(&app, &visit, "change_email", &fields.email)?;
    Ok((cookie::set(&app.config, cookie::SESSION, &renewed, None), page).into_response())
}

/// `GET /account/email/confirm`: changes nothing, since programs open links in mails.
pub async fn show_confirm(State(app): State<App>, visit: Visit, Query(asked): Query<OfToken>) -> Result<Response> {
    let found = token::find(&mut *app.db.conn().await?, app.now(), Purpose::ChangeEmail, &asked.token).await?;
    let email = found.ok_or_else(|| GONE.error())?.subject;
    html(&Confirm { page: Page::new(&app, &visit), token: asked.token, email })
}

/// `POST /account/email/confirm`
pub async fn confirm(
    State(app): State<App>,
    visit: Visit,
    MaybeSession(session): MaybeSession,
    Form(fields): Form<OfToken>,
) -> Result<Response> {
    let mut tx = app.db.begin().await?;
    let Some(member_id) = change(&mut tx, &app, &visit, &fields.token).await? else {
        tx.rollback().await?;
        return Err(GONE.refuse(&app, &visit).await?);
    };
    tx.commit().await?;
    app.wake();
    let is_own = session.is_some_and(|session| session.member_id == member_id);
    let page = if is_own { "/account?done=email_changed" } else { "/sign-in?done=email_changed" };
    Ok(Redirect::to(page).into_response())
}

/// Takes the token and changes the address; none where the token is not live, or the address somebody's by now.
async fn change(conn: &mut Conn, app: &App, visit: &Visit, secret: &str) -> Result<Option<String>> {
    let now = app.now();
    let Some(token) = token::find(conn, now, Purpose::ChangeEmail, secret).await? else { return Ok(None) };
    let (Some(member_id), Some(key)) = (token.member_id, email_key(&token.subject)) else { return Ok(None) };
    // The member before all that is theirs, as everybody holds them.
    let Some(member) = hold(conn, &app.db, &member_id).await? else { return Ok(None) };
    // Mails before tokens: one that is being written holds its row, and makes a token.
    mail::call_off(conn, now, &member_id).await?;
    if token::take(conn, now, Purpose::ChangeEmail, secret).await?.is_none() {
        return Ok(None);
    }
    if !update(conn, now, &member_id, &token.subject, &key).await? {
        return Ok(None);
    }
    token::void_of_member(conn, now, &member_id).await?;
    audit::insert(conn, now, entry(visit, "email_changed", &member_id)).await?;
    let locale = member.locale.as_deref().unwrap_or(visit.locale.tag());
    let to = To { email: &member.email, member_id: Some(&member_id), locale };
    mail::queue(conn, app, to, &Mail::EmailChanged { new_email: token.subject }).await?;
    Ok(Some(member_id))
}

/// Gives a member an address that they read; false where it is somebody's. The unique index decides, also between
/// two at one moment.
async fn update(conn: &mut Conn, now: Millis, member_id: &str, email: &str, key: &str) -> Result<bool> {
    let updated = sqlx::query("UPDATE members SET email = $1, email_key = $2, email_verified_at = $3 WHERE id = $4")
        .bind(email)
        .bind(key)
        .bind(now)
        .bind(member_id)
        .execute(conn)
        .await;
    match updated {
        Ok(updated) => Ok(updated.rows_affected() == 1),
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn entry<'a>(visit: &'a Visit, action: &'a str, member_id: &'a str) -> audit::Entry<'a> {
    let reason = (action == "email_change_refused").then_some("credentials");
    audit::Entry { action, reason, member_id: Some(member_id), address: Some(&visit.address), ..Default::default() }
}

async fn form(app: &App, visit: &Visit, session: &Session, email: String) -> Result<Change> {
    let member = find(&mut *app.db.conn().await?, &session.member_id).await?.ok_or(Error::NotFound)?;
    Ok(Change {
        page: Page::new(app, visit),
        has_password: member.password(app).is_some(),
        current: member.email,
        email,
        problem: None,
        problem_field: "",
    })
}
