//! Signing up.

use askama::Template;
use axum::{
    Form,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{
    New, email_key,
    guard::MaybeSession,
    insert,
    password::{self, Problem},
    session::{self, Method},
};
use crate::{
    app::App,
    audit,
    error::Result,
    web::{
        cookie,
        page::{Page, html},
        visit::Visit,
    },
};

#[derive(Template)]
#[template(path = "member/sign_up.html")]
struct SignUp {
    page: Page,
    email: String,
    name: String,
    problem: Option<String>,
    problem_field: String,
}

#[derive(Deserialize)]
pub struct Fields {
    email: String,
    name: String,
    password: String,
}

/// `GET /sign-up`
pub async fn show(State(app): State<App>, visit: Visit) -> Result<Response> {
    let page = Page::new(&app, &visit);
    html(&SignUp { page, email: String::new(), name: String::new(), problem: None, problem_field: String::new() })
}

/// `POST /sign-up`
pub async fn submit(
    State(app): State<App>,
    visit: Visit,
    MaybeSession(old): MaybeSession,
    Form(fields): Form<Fields>,
) -> Result<Response> {
    let (email_key, name) = match check(&fields) {
        Ok(checked) => checked,
        Err((field, key)) => return again(&app, &visit, fields, field, key),
    };
    let password_hash = password::hash(&app, &fields.password).await?;

    let now = app.now();
    let mut tx = app.db.begin().await?;
    let new = New {
        email: fields.email.trim(),
        email_key: &email_key,
        name: &name,
        password_hash: Some(&password_hash),
        locale: Some(visit.locale.tag()),
        source: "sign_up",
    };
    let Some(member_id) = insert(&mut tx, now, &new).await? else {
        return again(&app, &visit, fields, "email", "problem.email_taken");
    };
    if let Some(old) = old {
        session::end(&mut tx, &old.id_hash).await?;
    }
    let token = session::start(&mut tx, &app, &visit, &member_id, &Method::Password).await?;
    let entry = audit::Entry {
        action: "signed_up",
        member_id: Some(&member_id),
        address: Some(&visit.address),
        ..Default::default()
    };
    audit::insert(&mut tx, now, entry).await?;
    tx.commit().await?;

    Ok((cookie::set(&app.config, cookie::SESSION, &token, None), Redirect::to("/account?done=signed_up"))
        .into_response())
}

/// The normal forms, or the field that has a problem and the text that names it.
fn check(fields: &Fields) -> Result<(String, String), (&'static str, &'static str)> {
    let email_key = email_key(&fields.email).ok_or(("email", "problem.email_shape"))?;
    let name = super::name(&fields.name).ok_or(("name", "problem.name_shape"))?;
    password::check_new(&fields.password).map_err(|problem| match problem {
        Problem::Short => ("password", "problem.password_short"),
        Problem::Long => ("password", "problem.password_long"),
    })?;
    Ok((email_key, name))
}

fn again(app: &App, visit: &Visit, fields: Fields, field: &str, key: &str) -> Result<Response> {
    let page = Page::new(app, visit);
    let problem = Some(page.t(key).to_owned());
    let Fields { email, name, .. } = fields;
    let page = html(&SignUp { page, email, name, problem, problem_field: field.to_owned() })?;
    Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
}
