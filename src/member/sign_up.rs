//! Signing up (table `sign_ups`): asked for here, and kept until [`confirm`] sees that the address is theirs.
//!
//! The page after it is the same whether the address is somebody's or not; the mail says it, to its owner.

pub mod confirm;

use std::time::Duration;

use askama::Template;
use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use super::{
    email_key, needs_sign_up, password,
    throttle::{self, Guesser},
};
use crate::{
    app::App,
    db::{Conn, Millis},
    error::Result,
    mail::{self, Mail, To},
    seal,
    web::{
        form::Form,
        page::{Page, html},
        visit::Visit,
    },
};

/// Longer than the mail may wait and its token lives.
const LIFE: Duration = Duration::from_secs(2 * 3600);

#[derive(Template)]
#[template(path = "member/sign_up.html")]
struct SignUp {
    page: Page,
    email: String,
    name: String,
    shortest: String,
    problem: Option<String>,
    problem_field: &'static str,
}

#[derive(Template)]
#[template(path = "member/check_mail.html")]
struct CheckMail {
    page: Page,
    text: String,
}

/// The page after something was mailed, or was not, to an address; `key` names its text in the catalogue.
pub fn check_mail(app: &App, visit: &Visit, key: &str, email: &str) -> Result<Response> {
    let page = Page::new(app, visit);
    html(&CheckMail { text: page.with(&format!("check_mail.{key}"), &[email.trim()]), page })
}

#[derive(Deserialize)]
pub struct Fields {
    email: String,
    name: String,
    password: String,
}

/// `GET /sign-up`
pub async fn show(State(app): State<App>, visit: Visit) -> Result<Response> {
    needs_sign_up(&app)?;
    html(&form(&app, &visit, String::new(), String::new()))
}

/// `POST /sign-up`
pub async fn submit(State(app): State<App>, visit: Visit, Form(fields): Form<Fields>) -> Result<Response> {
    needs_sign_up(&app)?;
    let Fields { email, name, password } = fields;
    let Some(email_key) = email_key(&email) else { return again(&app, &visit, email, name, "email") };
    let Some(good_name) = super::name(&name) else { return again(&app, &visit, email, name, "name") };
    let password_hash = match password::hash_new(&app, &password, &[&email, &good_name]).await? {
        Ok(hash) => hash,
        Err(problem) => {
            let mut page = form(&app, &visit, email, name);
            (page.problem, page.problem_field) = (Some(problem.words(&app, &page.page)), "password");
            return Ok((problem.status(), html(&page)?).into_response());
        }
    };

    throttle::admit(&app, &Guesser::Stranger { address: visit.address.clone() }).await?;
    let mut tx = app.db.begin().await?;
    let locale = visit.locale.tag();
    let new =
        New { email: email.trim(), email_key: &email_key, name: &good_name, password_hash: &password_hash, locale };
    let sign_up_id = insert(&mut tx, &app, &visit, &new).await?;
    let to = To { email: &email, member_id: None, locale };
    mail::queue(&mut tx, &app, to, &Mail::SignUp { sign_up_id }).await?;
    tx.commit().await?;
    app.wake();

    check_mail(&app, &visit, "sign_up", &email)
}

fn form(app: &App, visit: &Visit, email: String, name: String) -> SignUp {
    let shortest = app.config.security.password_length.to_string();
    SignUp { page: Page::new(app, visit), email, name, shortest, problem: None, problem_field: "" }
}

/// The form again, with what its field lacks.
fn again(app: &App, visit: &Visit, email: String, name: String, field: &'static str) -> Result<Response> {
    let mut page = form(app, visit, email, name);
    page.problem = Some(page.page.t(&format!("problem.{field}_shape")).to_owned());
    page.problem_field = field;
    Ok((StatusCode::UNPROCESSABLE_ENTITY, html(&page)?).into_response())
}

/// A sign-up to be.
struct New<'a> {
    email: &'a str,
    email_key: &'a str,
    name: &'a str,
    password_hash: &'a str,
    locale: &'a str,
}

async fn insert(conn: &mut Conn, app: &App, visit: &Visit, new: &New<'_>) -> Result<String> {
    let (id, now) = (app.new_id(), app.now());
    sqlx::query(
        "INSERT INTO sign_ups (id, email, email_key, name, password_hash, locale, browser_hash, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(&id)
    .bind(new.email)
    .bind(new.email_key)
    .bind(new.name)
    .bind(new.password_hash)
    .bind(new.locale)
    .bind(seal::hash(&visit.form_key))
    .bind(now)
    .bind(now.plus(LIFE))
    .execute(conn)
    .await?;
    Ok(id)
}

/// Deletes what was not confirmed in its time, some at a time.
pub async fn prune(conn: &mut Conn, now: Millis) -> Result<u64> {
    let deleted =
        sqlx::query("DELETE FROM sign_ups WHERE id IN (SELECT id FROM sign_ups WHERE expires_at < $1 LIMIT 500)")
            .bind(now)
            .execute(conn)
            .await?;
    Ok(deleted.rows_affected())
}
