//! Signing in with the password, and signing out.

use askama::Template;
use axum::{
    Form,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{
    email_key, find_by_email_key,
    guard::{MaybeSession, SignedIn},
    password::{self, Verdict},
    rehash,
    session::{self, Method},
};
use crate::{
    app::App,
    audit,
    error::Result,
    web::{
        cookie,
        page::{Page, html},
        return_to,
        visit::Visit,
    },
};

#[derive(Template)]
#[template(path = "member/sign_in.html")]
struct SignIn {
    page: Page,
    email: String,
    return_to: String,
    problem: Option<String>,
    providers: Vec<ProviderButton>,
    reauth: bool,
}

struct ProviderButton {
    name: String,
    label: String,
}

#[derive(Deserialize)]
pub struct Asked {
    #[serde(default)]
    return_to: String,
    reauth: Option<String>,
}

#[derive(Deserialize)]
pub struct Fields {
    email: String,
    password: String,
    #[serde(default)]
    return_to: String,
}

/// `GET /sign-in`
pub async fn show(
    State(app): State<App>,
    visit: Visit,
    MaybeSession(session): MaybeSession,
    Query(asked): Query<Asked>,
) -> Result<Response> {
    let reauth = session.filter(|_| asked.reauth.is_some());
    let email = reauth.as_ref().map(|session| session.email.clone()).unwrap_or_default();
    html(&form(&app, &visit, email, &asked.return_to, reauth.is_some()))
}

/// `POST /sign-in`. Unknown, wrong and disabled take one path and get one answer.
pub async fn submit(
    State(app): State<App>,
    visit: Visit,
    MaybeSession(old): MaybeSession,
    Form(fields): Form<Fields>,
) -> Result<Response> {
    let member = match email_key(&fields.email) {
        Some(key) => find_by_email_key(&mut *app.db.conn().await?, &key).await?,
        None => None,
    };
    let stored = member.as_ref().and_then(|member| member.password_hash.as_deref());
    let verdict = password::verify(&app, stored, &fields.password).await?;
    let member = member.filter(|member| verdict != Verdict::Wrong && member.disabled_at.is_none());

    let now = app.now();
    let mut tx = app.db.begin().await?;
    let entry = audit::Entry {
        action: if member.is_some() { "signed_in" } else { "sign_in_refused" },
        reason: member.is_none().then_some("credentials"),
        member_id: member.as_ref().map(|member| member.id.as_str()),
        address: Some(&visit.address),
        data: serde_json::json!({ "method": "password" }),
        ..Default::default()
    };
    audit::insert(&mut tx, now, entry).await?;
    let Some(member) = member else {
        tx.commit().await?;
        let reauth = old.is_some();
        let mut page = form(&app, &visit, fields.email, &fields.return_to, reauth);
        page.problem = Some(page.page.t("problem.wrong_credentials").to_owned());
        return Ok((StatusCode::UNAUTHORIZED, html(&page)?).into_response());
    };
    if let (Verdict::RightButOld(new), Some(old)) = (&verdict, &member.password_hash) {
        rehash(&mut tx, &member.id, old, new).await?;
    }
    let token = session::replace(&mut tx, &app, &visit, old.as_ref(), &member.id, &Method::Password).await?;
    tx.commit().await?;

    let target = match return_to::path(&fields.return_to, &app.config.public_url) {
        path if path == "/" => "/account".to_owned(),
        path => path,
    };
    Ok((cookie::set(&app.config, cookie::SESSION, &token, None), Redirect::to(&target)).into_response())
}

/// `POST /sign-out`
pub async fn out(State(app): State<App>, visit: Visit, SignedIn(session): SignedIn) -> Result<Response> {
    let mut tx = app.db.begin().await?;
    session::end(&mut tx, &session.id_hash).await?;
    let entry = audit::Entry {
        action: "signed_out",
        member_id: Some(&session.member_id),
        address: Some(&visit.address),
        ..Default::default()
    };
    audit::insert(&mut tx, app.now(), entry).await?;
    tx.commit().await?;
    Ok((cookie::remove(&app.config, cookie::SESSION), Redirect::to("/")).into_response())
}

fn form(app: &App, visit: &Visit, email: String, target: &str, reauth: bool) -> SignIn {
    let with_login = app.config.provider.iter().filter(|(_, provider)| provider.login.is_some());
    let providers = with_login
        .map(|(name, provider)| ProviderButton { name: name.clone(), label: provider.label(name).to_owned() })
        .collect();
    SignIn {
        page: Page::new(app, visit),
        email,
        return_to: return_to::path(target, &app.config.public_url),
        problem: None,
        providers,
        reauth,
    }
}
