//! A forgotten password: asked for by address, replaced by whoever reads that mailbox.
//!
//! Asking answers the same whoever it is; whether the address is a member's is looked at when the mail is sent. A
//! reset assumes that somebody else was in: whatever they could have left behind ends or is suspended.

use askama::Template;
use axum::{
    extract::{Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{
    Member, device, email_key, find, hold, needs_reset, password, session, set_password,
    sign_up::check_mail,
    throttle::{self, Guesser},
    token::{self, Gone, Purpose},
    verify_email,
};
use crate::{
    app::App,
    audit,
    db::{Conn, Millis},
    error::Result,
    mail::{self, Mail, To},
    queue::{self, Job},
    web::{
        cookie::SetCookie,
        form::Form,
        page::{Page, html},
        visit::Visit,
    },
};

const GONE: Gone = Gone { purpose: Purpose::Reset, key: "reset_gone", next: "/password/forgot" };

#[derive(Template)]
#[template(path = "member/forgot.html")]
struct Forgot {
    page: Page,
    email: String,
    problem: Option<String>,
}

#[derive(Template)]
#[template(path = "member/reset.html")]
struct Reset {
    page: Page,
    token: String,
    email: String,
    shortest: String,
    problem: Option<String>,
    problem_field: &'static str,
}

#[derive(Deserialize)]
pub struct Address {
    email: String,
}

#[derive(Deserialize)]
pub struct Asked {
    #[serde(default)]
    token: String,
}

#[derive(Deserialize)]
pub struct Fields {
    token: String,
    password: String,
}

/// `GET /password/forgot`
pub async fn show_forgot(State(app): State<App>, visit: Visit) -> Result<Response> {
    needs_reset(&app)?;
    html(&Forgot { page: Page::new(&app, &visit), email: String::new(), problem: None })
}

/// `POST /password/forgot`
pub async fn forgot(State(app): State<App>, visit: Visit, Form(fields): Form<Address>) -> Result<Response> {
    needs_reset(&app)?;
    if email_key(&fields.email).is_none() {
        let page = Page::new(&app, &visit);
        let problem = Some(page.t("problem.email_shape").to_owned());
        let page = html(&Forgot { page, email: fields.email, problem })?;
        return Ok((StatusCode::BAD_REQUEST, page).into_response());
    }
    throttle::admit(&app, &Guesser::Stranger { address: visit.address.clone() }).await?;
    let mut tx = app.db.begin().await?;
    let to = To { email: &fields.email, member_id: None, locale: visit.locale.tag() };
    mail::queue(&mut tx, &app, to, &Mail::Reset).await?;
    tx.commit().await?;
    app.wake();
    check_mail(&app, &visit, "reset", &fields.email)
}

/// `GET /password/reset`
pub async fn show(State(app): State<App>, visit: Visit, Query(asked): Query<Asked>) -> Result<Response> {
    needs_reset(&app)?;
    let member = find_member(&mut *app.db.conn().await?, app.now(), &asked.token).await?.ok_or_else(|| GONE.error())?;
    html(&form(&app, &visit, asked.token, member.email))
}

/// `POST /password/reset`
pub async fn submit(
    State(app): State<App>,
    visit: Visit,
    headers: HeaderMap,
    Form(fields): Form<Fields>,
) -> Result<Response> {
    needs_reset(&app)?;
    let found = find_member(&mut *app.db.conn().await?, app.now(), &fields.token).await?;
    let Some(member) = found else { return Err(GONE.refuse(&app, &visit).await?) };
    let hash = match password::hash_new(&app, &fields.password, &[&member.email, &member.name]).await? {
        Ok(hash) => hash,
        Err(problem) => {
            let mut page = form(&app, &visit, fields.token, member.email);
            (page.problem, page.problem_field) = (Some(problem.words(&app, &page.page)), "password");
            return Ok((problem.status(), html(&page)?).into_response());
        }
    };

    let mut tx = app.db.begin().await?;
    let Some(known) = reset(&mut tx, &app, &visit, &headers, &fields.token, &hash).await? else {
        tx.rollback().await?;
        return Err(GONE.refuse(&app, &visit).await?);
    };
    tx.commit().await?;
    app.wake();
    Ok((known, Redirect::to("/sign-in?done=reset")).into_response())
}

/// Takes the token, sets the password and ends what was before it; none where somebody was quicker. This browser is
/// known from now on, so that whoever guesses at the account cannot keep its owner from the sign-in that follows.
async fn reset(
    conn: &mut Conn,
    app: &App,
    visit: &Visit,
    headers: &HeaderMap,
    token: &str,
    password_hash: &str,
) -> Result<Option<SetCookie>> {
    let now = app.now();
    let found = token::find(conn, now, Purpose::Reset, token).await?;
    let Some(member_id) = found.and_then(|token| token.member_id) else { return Ok(None) };
    // The member before all that is theirs, as everybody holds them.
    let Some(member) = hold(conn, &app.db, &member_id).await? else { return Ok(None) };
    let taken = token::take(conn, now, Purpose::Reset, token).await?;
    // It was mailed to the address that the member has, and not to one they had.
    if taken.is_none_or(|token| email_key(&member.email).as_ref() != Some(&token.subject)) {
        return Ok(None);
    }
    set_password(conn, now, &member_id, password_hash).await?;
    verify_email(conn, now, &member_id).await?;
    // Mails first: one that is being written has made its token then.
    mail::call_off(conn, now, &member_id).await?;
    token::void_of_member(conn, now, &member_id).await?;
    let suspended = suspend_links(conn, app, &member_id).await?;
    let ended = session::end_all(conn, &member_id, None).await?;
    device::forget_all(conn, &member_id).await?;
    forget_guesses(conn, app, &member).await?;
    let entry = audit::Entry {
        action: "password_reset",
        member_id: Some(&member_id),
        address: Some(&visit.address),
        data: serde_json::json!({ "sessions": ended, "links": suspended }),
        ..Default::default()
    };
    audit::insert(conn, now, entry).await?;
    let locale = member.locale.as_deref().unwrap_or(visit.locale.tag());
    let to = To { email: &member.email, member_id: Some(&member_id), locale };
    mail::queue(conn, app, to, &Mail::PasswordChanged).await?;
    device::remember(conn, app, headers, &member_id).await.map(Some)
}

/// Suspends the links made before a reset, which whoever was in may have made: the member confirms each again. Their
/// menus follow. Gives their number.
pub async fn suspend_links(conn: &mut Conn, app: &App, member_id: &str) -> Result<usize> {
    let now = app.now();
    let suspended: Vec<(String, String)> = sqlx::query_as(
        "UPDATE links SET suspended_at = $1 WHERE member_id = $2 AND ended_at IS NULL AND suspended_at IS NULL
         RETURNING line_user_id, provider",
    )
    .bind(now)
    .bind(member_id)
    .fetch_all(&mut *conn)
    .await?;
    for (line_user_id, provider) in &suspended {
        for channel in app.config.channels_of(provider) {
            let job = Job::UserMenu { line_user_id: line_user_id.clone(), channel: channel.clone() };
            queue::enqueue(conn, now, now, &job).await?;
        }
    }
    Ok(suspended.len())
}

/// What was guessed at the former password tells nothing of the new one.
async fn forget_guesses(conn: &mut Conn, app: &App, member: &Member) -> Result<()> {
    let account = email_key(&member.email).unwrap_or_default();
    throttle::succeed(conn, app, &Guesser::Unknown { account }).await?;
    throttle::succeed(conn, app, &Guesser::Member { member_id: member.id.clone() }).await
}

/// The member whom a live token lets reset the password.
async fn find_member(conn: &mut Conn, now: Millis, token: &str) -> Result<Option<Member>> {
    let token = token::find(conn, now, Purpose::Reset, token).await?;
    let Some(member_id) = token.and_then(|token| token.member_id) else { return Ok(None) };
    Ok(find(conn, &member_id).await?.filter(|member| member.disabled_at.is_none()))
}

fn form(app: &App, visit: &Visit, token: String, email: String) -> Reset {
    let shortest = app.config.security.password_length.to_string();
    Reset { page: Page::new(app, visit), token, email, shortest, problem: None, problem_field: "" }
}
