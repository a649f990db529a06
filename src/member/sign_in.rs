//! Signing in with the password, and signing out.

use askama::Template;
use axum::{
    extract::{Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{
    Member, code, device, email_key, find, find_by_email_key,
    guard::{MaybeSession, SignedIn},
    hold_by_password, needs_passwords, oidc,
    other_app::OtherApp,
    password::Verdict,
    rehash,
    session::{self, Method, Session},
    throttle::{self, Guesser},
};
use crate::{
    app::App,
    audit,
    db::Conn,
    error::Result,
    web::{
        cookie,
        form::Form,
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
    done: Option<&'static str>,
    problem: Option<String>,
    /// What the company's own sign-in is called.
    oidc: Option<String>,
    providers: Vec<ProviderButton>,
    reauth: bool,
    other_app: Option<OtherApp>,
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
    done: Option<String>,
    /// The code is on its way.
    sent: Option<String>,
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
    if let Some(oidc) = &app.oidc {
        oidc.look(app.now().0).await;
    }
    if let Some(session) = &reauth {
        let member = find(&mut *app.db.conn().await?, &session.member_id).await?;
        if member.is_some_and(|member| member.password(&app).is_none()) {
            return code::show(&app, &visit, session, &asked.return_to, asked.sent.is_some()).await;
        }
    }
    let email = reauth.as_ref().map(|session| session.email.clone()).unwrap_or_default();
    let mut page = form(&app, &visit, email, &asked.return_to, reauth.is_some());
    page.done = match asked.done.as_deref() {
        Some("reset") => Some("done.reset"),
        Some("email_changed") => Some("done.email_changed"),
        _ => None,
    };
    html(&page)
}

/// `POST /sign-in`. Unknown, wrong and disabled take one path and get one answer.
pub async fn submit(
    State(app): State<App>,
    visit: Visit,
    MaybeSession(old): MaybeSession,
    headers: HeaderMap,
    Form(fields): Form<Fields>,
) -> Result<Response> {
    needs_passwords(&app)?;
    let (member, guesser) = look_up(&app, &headers, old.as_ref(), &fields.email).await?;
    let stored = member.as_ref().and_then(|member| member.password_hash.as_deref());
    let verdict = throttle::compare(&app, &guesser, stored, &fields.password).await?;

    let mut tx = app.db.begin().await?;
    let member = match member.as_ref().filter(|_| verdict != Verdict::Wrong) {
        // Not where it was disabled, or got another password, while this one was compared.
        Some(member) if hold_by_password(&mut tx, &app.db, &member.id, stored).await? => member,
        _ => {
            refuse(&mut tx, &app, &visit, &guesser).await?;
            tx.commit().await?;
            let mut page = form(&app, &visit, fields.email, &fields.return_to, old.is_some());
            page.problem = Some(page.page.t("problem.wrong_credentials").to_owned());
            return Ok((StatusCode::UNAUTHORIZED, html(&page)?).into_response());
        }
    };
    if let (Verdict::RightButOld(new), Some(old)) = (&verdict, stored) {
        rehash(&mut tx, &member.id, old, new).await?;
    }
    throttle::succeed(&mut tx, &app, &guesser).await?;
    let token = session::replace(&mut tx, &app, &visit, old.as_ref(), &member.id, &Method::Password).await?;
    let known = device::remember(&mut tx, &app, &headers, &member.id).await?;
    audit::insert(&mut tx, app.now(), entry(&visit, "signed_in", Some(&member.id))).await?;
    tx.commit().await?;

    let target = match return_to::path(&fields.return_to, &app.config.public_url) {
        path if path == "/" => "/account".to_owned(),
        path => path,
    };
    Ok((cookie::set(&app.config, cookie::SESSION, &token, None), known, Redirect::to(&target)).into_response())
}

/// The account that an address names, and who guesses at it. The same is asked for an address that is nobody's.
async fn look_up(
    app: &App,
    headers: &HeaderMap,
    session: Option<&Session>,
    email: &str,
) -> Result<(Option<Member>, Guesser)> {
    let account = email_key(email);
    let key = account.as_deref().unwrap_or_default();
    let mut conn = app.db.conn().await?;
    let member = match session {
        // Asked again of somebody who has a password and no address any more: they are who is signed in.
        Some(session) if session.email.is_empty() && email.is_empty() => find(&mut conn, &session.member_id).await?,
        _ => find_by_email_key(&mut conn, key).await?,
    };
    let device = device::find(&mut conn, app, headers, key).await?;
    let own = session.filter(|session| member.as_ref().is_some_and(|member| member.id == session.member_id));
    let guesser = match (own, device) {
        (Some(session), _) => Guesser::Member { member_id: session.member_id.clone() },
        (None, Some((token_hash, member_id))) => Guesser::Known { token_hash, member_id },
        (None, None) => Guesser::Unknown { account: account.unwrap_or_else(|| email.trim().to_lowercase()) },
    };
    Ok((member, guesser))
}

async fn refuse(conn: &mut Conn, app: &App, visit: &Visit, guesser: &Guesser) -> Result<()> {
    throttle::fail(conn, app, guesser, &visit.address).await?;
    let refused = audit::Entry { reason: Some("credentials"), ..entry(visit, "sign_in_refused", None) };
    audit::insert(conn, app.now(), refused).await
}

fn entry<'a>(visit: &'a Visit, action: &'a str, member_id: Option<&'a str>) -> audit::Entry<'a> {
    audit::Entry {
        action,
        member_id,
        address: Some(&visit.address),
        data: serde_json::json!({ "method": "password" }),
        ..Default::default()
    }
}

/// `POST /sign-out`. Who signed in at the company's provider is signed out there too, afterwards.
pub async fn out(State(app): State<App>, visit: Visit, SignedIn(session): SignedIn) -> Result<Response> {
    let mut tx = app.db.begin().await?;
    // By its lineage: another tab may have given it a new id meanwhile.
    session::end_of_lineage(&mut tx, &app.db, &session.member_id, &session.lineage_id).await?;
    let entry = audit::Entry {
        action: "signed_out",
        member_id: Some(&session.member_id),
        address: Some(&visit.address),
        ..Default::default()
    };
    audit::insert(&mut tx, app.now(), entry).await?;
    tx.commit().await?;
    let there =
        app.oidc.as_ref().filter(|_| session.method == "oidc").and_then(|oidc| oidc.sign_out_url(&app.config.url("/")));
    let target = there.map_or_else(|| "/".to_owned(), String::from);
    Ok((cookie::remove(&app.config, cookie::SESSION), Redirect::to(&target)).into_response())
}

fn form(app: &App, visit: &Visit, email: String, target: &str, reauth: bool) -> SignIn {
    let with_login = app.config.provider.iter().filter(|(_, provider)| provider.login.is_some());
    let providers = with_login
        .map(|(name, provider)| ProviderButton { name: name.clone(), label: provider.label(name).to_owned() })
        .collect();
    let page = Page::new(app, visit);
    SignIn {
        other_app: OtherApp::of(&page, app, visit),
        page,
        email,
        return_to: return_to::path(target, &app.config.public_url),
        done: None,
        problem: None,
        oidc: oidc::label(app),
        providers,
        reauth,
    }
}
