//! A code by mail in place of a password, for members who have none: they sign in through LINE, which is silent and
//! proves nothing here.

use askama::Template;
use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{
    find,
    guard::SignedIn,
    masked_email, needs_mail, oidc,
    session::{self, Method, Session},
    throttle::{self, Guesser},
    token::{self, Purpose},
};
use crate::{
    app::App,
    audit,
    error::{Error, Result},
    mail::{self, Mail, To},
    seal,
    web::{
        cookie, error_page,
        form::Form,
        page::{Page, html},
        return_to,
        visit::Visit,
    },
};

#[derive(Template)]
#[template(path = "member/code.html")]
struct Code {
    page: Page,
    email: String,
    return_to: String,
    sent: bool,
    problem: Option<String>,
    /// The company's own sign-in, where there is one, and whether it alone is this member's way.
    oidc: Option<String>,
    by_oidc: bool,
}

#[derive(Deserialize)]
pub struct Asked {
    #[serde(default)]
    return_to: String,
}

#[derive(Deserialize)]
pub struct Fields {
    code: String,
    #[serde(default)]
    return_to: String,
}

/// The page that asks for the proof; [`sign_in::show`](super::sign_in::show) shows it to whom it is for. Who signs in at
/// the company's provider proves it there.
pub async fn show(app: &App, visit: &Visit, session: &Session, target: &str, sent: bool) -> Result<Response> {
    let by_oidc = oidc::is_way_in(&mut *app.db.conn().await?, app, &session.member_id).await?;
    html(&Code { by_oidc, ..form(app, visit, session, target, sent) })
}

/// `POST /account/code`
pub async fn send(
    State(app): State<App>,
    visit: Visit,
    SignedIn(session): SignedIn,
    Form(asked): Form<Asked>,
) -> Result<Response> {
    needs_mail(&app)?;
    let page = error_page::sign_in_url(&return_to::path(&asked.return_to, &app.config.public_url), true);
    let mut tx = app.db.begin().await?;
    let member = find(&mut tx, &session.member_id).await?.ok_or(Error::NotFound)?;
    let is_asked_otherwise =
        member.password(&app).is_some() || oidc::is_way_in(&mut tx, &app, &session.member_id).await?;
    if is_asked_otherwise || member.email.is_empty() {
        return Ok(Redirect::to(&page).into_response());
    }
    let to = To { email: &member.email, member_id: Some(&member.id), locale: visit.locale.tag() };
    mail::queue(&mut tx, &app, to, &Mail::Code { lineage_id: session.lineage_id }).await?;
    tx.commit().await?;
    app.wake();
    Ok(Redirect::to(&format!("{page}&sent=1")).into_response())
}

/// `POST /account/code/check`
pub async fn check(
    State(app): State<App>,
    visit: Visit,
    SignedIn(session): SignedIn,
    Form(fields): Form<Fields>,
) -> Result<Response> {
    let guesser = Guesser::Member { member_id: session.member_id.clone() };
    throttle::admit(&app, &guesser).await?;
    let secret = token::of_code(&app, &session.lineage_id, &normal(&fields.code));
    let kept = token::count_try(&mut *app.db.conn().await?, app.now(), &session.member_id, &session.lineage_id).await?;
    let is_right = kept.is_some_and(|hash| seal::equal(&hash, &seal::hash(&secret)));
    if !is_right {
        audit::insert(&mut *app.db.conn().await?, app.now(), entry(&visit, &session, Some("code"))).await?;
        let mut page = form(&app, &visit, &session, &fields.return_to, true);
        page.problem = Some(page.page.t("problem.wrong_code").to_owned());
        return Ok((StatusCode::UNAUTHORIZED, html(&page)?).into_response());
    }

    let mut tx = app.db.begin().await?;
    let ended = || Error::SignIn { return_to: "/account".into() };
    // Held first, as by whoever ends the sessions.
    super::hold(&mut tx, &app.db, &session.member_id).await?.ok_or_else(ended)?;
    token::take(&mut tx, app.now(), Purpose::Code, &secret).await?.ok_or_else(ended)?;
    let token = session::rotate(&mut tx, &app, &visit, &session, &Method::Code).await?.ok_or_else(ended)?;
    throttle::succeed(&mut tx, &app, &guesser).await?;
    audit::insert(&mut tx, app.now(), entry(&visit, &session, None)).await?;
    tx.commit().await?;
    let target = return_to::path(&fields.return_to, &app.config.public_url);
    let target = if target == "/" { "/account" } else { &target };
    Ok((cookie::set(&app.config, cookie::SESSION, &token, None), Redirect::to(target)).into_response())
}

/// As it was sent: people type small letters, spaces, and the dash or none.
fn normal(code: &str) -> String {
    code.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).take(64).collect()
}

fn entry<'a>(visit: &'a Visit, session: &'a Session, reason: Option<&'a str>) -> audit::Entry<'a> {
    audit::Entry {
        action: if reason.is_some() { "step_up_refused" } else { "stepped_up" },
        reason,
        member_id: Some(&session.member_id),
        address: Some(&visit.address),
        data: serde_json::json!({ "method": "code" }),
        ..Default::default()
    }
}

fn form(app: &App, visit: &Visit, session: &Session, target: &str, sent: bool) -> Code {
    Code {
        page: Page::new(app, visit),
        email: masked_email(&session.email),
        return_to: return_to::path(target, &app.config.public_url),
        sent,
        problem: None,
        oidc: oidc::label(app),
        by_oidc: false,
    }
}
