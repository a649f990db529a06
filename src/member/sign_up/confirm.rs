//! The mailed link of a sign-up: opening it shows a page, and its button makes the member.
//!
//! Programs open links in mails, so that opening one changes nothing. In another browser than the one that signed up
//! the password chosen there is asked for: else somebody who gets a mail they never asked for could make an account
//! that a stranger knows the password of.

use askama::Template;
use axum::{
    extract::{Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use crate::{
    app::App,
    audit,
    db::{Conn, Millis},
    error::Result,
    member::{
        self, New, device,
        guard::MaybeSession,
        needs_sign_up,
        password::Verdict,
        session::{self, Method},
        throttle::{self, Guesser},
        token::{self, Gone, Purpose},
    },
    seal,
    web::{
        cookie,
        form::Form,
        page::{Page, html},
        visit::Visit,
    },
};

const GONE: Gone = Gone { purpose: Purpose::SignUp, key: "sign_up_gone", next: "/sign-up" };

#[derive(Template)]
#[template(path = "member/sign_up_confirm.html")]
struct Confirm {
    page: Page,
    token: String,
    email: String,
    name: String,
    asks_password: bool,
    problem: Option<String>,
}

#[derive(Deserialize)]
pub struct Asked {
    #[serde(default)]
    token: String,
}

#[derive(Deserialize)]
pub struct Fields {
    token: String,
    #[serde(default)]
    password: String,
}

/// A sign-up that waits.
#[derive(sqlx::FromRow)]
struct SignUp {
    id: String,
    email: String,
    email_key: String,
    name: String,
    password_hash: String,
    locale: String,
    browser_hash: String,
}

/// `GET /sign-up/confirm`
pub async fn show(State(app): State<App>, visit: Visit, Query(asked): Query<Asked>) -> Result<Response> {
    needs_sign_up(&app)?;
    let found = find(&mut *app.db.conn().await?, app.now(), &asked.token).await?;
    let sign_up = found.ok_or_else(|| GONE.error())?;
    html(&page(&app, &visit, &sign_up, asked.token))
}

/// `POST /sign-up/confirm`
pub async fn submit(
    State(app): State<App>,
    visit: Visit,
    MaybeSession(old): MaybeSession,
    headers: HeaderMap,
    Form(fields): Form<Fields>,
) -> Result<Response> {
    needs_sign_up(&app)?;
    let found = find(&mut *app.db.conn().await?, app.now(), &fields.token).await?;
    let Some(sign_up) = found else { return Err(GONE.refuse(&app, &visit).await?) };
    let guesser = Guesser::SignUp { id: sign_up.id.clone() };
    if asks_password(&visit, &sign_up) {
        let stored = Some(sign_up.password_hash.as_str());
        if throttle::compare(&app, &guesser, stored, &fields.password).await? == Verdict::Wrong {
            let mut page = page(&app, &visit, &sign_up, fields.token);
            page.problem = Some(page.page.t("problem.wrong_password").to_owned());
            return Ok((StatusCode::UNAUTHORIZED, html(&page)?).into_response());
        }
    }

    let mut tx = app.db.begin().await?;
    let Some(member_id) = take(&mut tx, &app, &visit, &sign_up, &fields.token).await? else {
        tx.rollback().await?;
        return Err(GONE.refuse(&app, &visit).await?);
    };
    throttle::succeed(&mut tx, &app, &guesser).await?;
    let session = session::replace(&mut tx, &app, &visit, old.as_ref(), &member_id, &Method::Password).await?;
    let known = device::remember(&mut tx, &app, &headers, &member_id).await?;
    tx.commit().await?;

    let answer = Redirect::to("/account?done=signed_up");
    Ok((cookie::set(&app.config, cookie::SESSION, &session, None), known, answer).into_response())
}

/// Makes the member of a sign-up, once; none where the token is used by now, or the address somebody's.
async fn take(conn: &mut Conn, app: &App, visit: &Visit, sign_up: &SignUp, token: &str) -> Result<Option<String>> {
    let now = app.now();
    if token::take(conn, now, Purpose::SignUp, token).await?.is_none() || !mark_used(conn, now, &sign_up.id).await? {
        return Ok(None);
    }
    let new = New {
        email: &sign_up.email,
        email_key: &sign_up.email_key,
        name: &sign_up.name,
        password_hash: Some(&sign_up.password_hash),
        locale: Some(&sign_up.locale),
        source: "sign_up",
    };
    let Some(member_id) = member::insert(conn, now, &new).await? else { return Ok(None) };
    member::verify_email(conn, now, &member_id).await?;
    let entry = audit::Entry {
        action: "signed_up",
        member_id: Some(&member_id),
        address: Some(&visit.address),
        ..Default::default()
    };
    audit::insert(conn, now, entry).await?;
    Ok(Some(member_id))
}

fn asks_password(visit: &Visit, sign_up: &SignUp) -> bool {
    !seal::equal(&seal::hash(&visit.form_key), &sign_up.browser_hash)
}

fn page(app: &App, visit: &Visit, sign_up: &SignUp, token: String) -> Confirm {
    Confirm {
        page: Page::new(app, visit),
        token,
        email: sign_up.email.clone(),
        name: sign_up.name.clone(),
        asks_password: asks_password(visit, sign_up),
        problem: None,
    }
}

/// The sign-up that a live token is for.
async fn find(conn: &mut Conn, now: Millis, token: &str) -> Result<Option<SignUp>> {
    let Some(token) = token::find(conn, now, Purpose::SignUp, token).await? else { return Ok(None) };
    let found = sqlx::query_as(
        "SELECT id, email, email_key, name, password_hash, locale, browser_hash FROM sign_ups
         WHERE id = $1 AND used_at IS NULL AND expires_at > $2",
    )
    .bind(token.subject)
    .bind(now)
    .fetch_optional(conn)
    .await?;
    Ok(found)
}

async fn mark_used(conn: &mut Conn, now: Millis, id: &str) -> Result<bool> {
    let marked = sqlx::query("UPDATE sign_ups SET used_at = $1 WHERE id = $2 AND used_at IS NULL")
        .bind(now)
        .bind(id)
        .execute(conn)
        .await?;
    Ok(marked.rows_affected() == 1)
}
