//! From inside of LINE into the person's own browser, with the LINE account that they just proved: a company's sign-in may
//! refuse the browsers inside of apps (`[member.oidc] external_browser`).
//!
//! The proof (an attempt, see [`proven`](super::proven)) gets a secret address that opens outside of LINE, once, for as long
//! as it lives. Opening the address shows whose LINE account it is, and changes nothing; its button makes the proof that
//! browser's. Whoever sends the address to somebody else gains nothing by that: before a link still come the sign-in, the
//! member's fresh proof, and the yes on the page that names both accounts.

use askama::Template;
use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::proven;
use crate::{
    app::App,
    audit,
    db::{Conn, Millis},
    error::{Error, NextStep, Refusal, Result},
    link::attempt::LIFE,
    member::oidc,
    seal,
    web::{
        browser, cookie,
        form::Form,
        page::{Page, html},
        picture,
        visit::Visit,
    },
};

#[derive(Template)]
#[template(path = "link/liff/elsewhere.html")]
struct Elsewhere {
    page: Page,
    label: String,
    url: String,
}

#[derive(Template)]
#[template(path = "link/liff/go_on.html")]
struct GoOn {
    page: Page,
    label: String,
    secret: String,
    provider: String,
    line_name: String,
    picture: Option<String>,
}

#[derive(Deserialize)]
pub struct OfProvider {
    provider: String,
}

#[derive(Deserialize)]
pub struct OfSecret {
    secret: String,
}

/// A proof that waits to be taken elsewhere.
#[derive(sqlx::FromRow)]
struct Waiting {
    provider: String,
    display_name: String,
    picture_url: Option<String>,
}

/// What the company's sign-in is called, where it wants the person's own browser.
pub fn label(app: &App) -> Option<String> {
    let wants = app.config.member.oidc.as_ref().is_some_and(|oidc| oidc.external_browser);
    oidc::label(app).filter(|_| wants)
}

/// `POST /line/elsewhere`: makes the address that opens outside of LINE.
pub async fn ask(
    State(app): State<App>,
    visit: Visit,
    headers: HeaderMap,
    Form(fields): Form<OfProvider>,
) -> Result<Response> {
    let label = label(&app).ok_or(Error::NotFound)?;
    let provider = app.config.provider.contains_key(&fields.provider).then_some(fields.provider.as_str());
    let provider = provider.ok_or(Error::NotFound)?;
    let (browser, secret) = (browser::of(&app, &visit, &headers), app.random_token()?);
    let mut conn = app.db.conn().await?;
    if !offer(&mut conn, app.now(), &seal::hash(&browser), provider, &seal::hash(&secret)).await? {
        return Err(gone());
    }
    let url = app.config.url(&format!("/line/go-on/{secret}?openExternalBrowser=1"));
    html(&Elsewhere { page: Page::new(&app, &visit), label, url })
}

/// `GET /line/go-on/{secret}`: whose LINE account it is, and one button. Programs that open links use nothing up.
pub async fn show(State(app): State<App>, visit: Visit, Path(secret): Path<String>) -> Result<Response> {
    let label = label(&app).ok_or(Error::NotFound)?;
    let waiting = find(&mut *app.db.conn().await?, app.now(), &secret).await?.ok_or_else(gone)?;
    html(&GoOn {
        page: Page::new(&app, &visit),
        label,
        secret,
        provider: app.config.label_of(&waiting.provider),
        line_name: waiting.display_name,
        picture: picture::allowed(&app, waiting.picture_url.as_deref()),
    })
}

/// `POST /line/go-on`: from here on the proof is this browser's.
pub async fn submit(
    State(app): State<App>,
    visit: Visit,
    headers: HeaderMap,
    Form(fields): Form<OfSecret>,
) -> Result<Response> {
    label(&app).ok_or(Error::NotFound)?;
    let browser = browser::of(&app, &visit, &headers);
    let mut tx = app.db.begin().await?;
    let taken = take(&mut tx, app.now(), &fields.secret, &seal::hash(&browser)).await?;
    let entry = audit::Entry {
        action: if taken.is_some() { "liff_moved" } else { "line_refused" },
        reason: taken.is_none().then_some("elsewhere_gone"),
        subject: taken.as_ref().map(|(id, _)| id.as_str()),
        provider: taken.as_ref().map(|(_, provider)| provider.as_str()),
        address: Some(&visit.address),
        ..Default::default()
    };
    audit::insert(&mut tx, app.now(), entry).await?;
    tx.commit().await?;
    let (_, provider) = taken.ok_or_else(gone)?;
    let life = i64::try_from(LIFE.as_secs() * 6).ok();
    let binding = cookie::set(&app.config, cookie::ATTEMPT, &browser, life);
    Ok((binding, Redirect::to(&format!("/line/not-linked?provider={provider}"))).into_response())
}

/// Gives the proof that this browser holds an address; false where it holds none. A former address of it is dead.
async fn offer(conn: &mut Conn, now: Millis, browser: &str, provider: &str, secret_hash: &str) -> Result<bool> {
    let offered = sqlx::query(
        "UPDATE attempts SET handoff_hash = $1 WHERE id = (
           SELECT id FROM attempts
           WHERE browser_hash = $2 AND provider = $3 AND purpose = 'liff' AND outcome = 'proven' AND expires_at > $4
           ORDER BY created_at DESC, id DESC LIMIT 1)",
    )
    .bind(secret_hash)
    .bind(browser)
    .bind(provider)
    .bind(now)
    .execute(conn)
    .await?;
    Ok(offered.rows_affected() == 1)
}

async fn find(conn: &mut Conn, now: Millis, secret: &str) -> Result<Option<Waiting>> {
    let found = sqlx::query_as(
        "SELECT a.provider, u.display_name, u.picture_url FROM attempts a JOIN line_users u ON u.id = a.line_user_id
         WHERE a.handoff_hash = $1 AND a.outcome = 'proven' AND a.expires_at > $2",
    )
    .bind(seal::hash(secret))
    .bind(now)
    .fetch_optional(conn)
    .await?;
    Ok(found)
}

/// Moves the proof to a browser, once; gives the attempt's id and its provider. What that browser held gives way.
async fn take(conn: &mut Conn, now: Millis, secret: &str, browser: &str) -> Result<Option<(String, String)>> {
    let taken: Option<(String, String)> = sqlx::query_as(
        "UPDATE attempts SET browser_hash = $1, handoff_hash = NULL
         WHERE handoff_hash = $2 AND outcome = 'proven' AND expires_at > $3 RETURNING id, provider",
    )
    .bind(browser)
    .bind(seal::hash(secret))
    .bind(now)
    .fetch_optional(&mut *conn)
    .await?;
    if let Some((id, provider)) = &taken {
        proven::give_way(conn, browser, provider, id).await?;
    }
    Ok(taken)
}

/// Wrong, used or too old: nothing tells which.
fn gone() -> Error {
    Error::Refused(Box::new(Refusal {
        status: StatusCode::NOT_FOUND,
        key: "elsewhere_gone",
        reason: "elsewhere_gone",
        next: NextStep::Link("/".into()),
    }))
}
