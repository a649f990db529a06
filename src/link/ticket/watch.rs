//! `/t/watch/{watch}`: how far a ticket is, for the screen that it was shown on. It has a secret of its own, by which
//! nothing can be linked, and says nothing of who did.

use askama::Template;
use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderValue, header},
    response::Response,
};
use serde_json::{Value, json};

use super::{State as Stage, find_by_watch, page};
use crate::{
    app::App,
    error::{Error, Result},
    web::{
        headers,
        page::{Page, html},
        visit::Visit,
    },
};

#[derive(Template)]
#[template(path = "link/ticket/watch.html")]
struct Watch {
    page: Page,
    title: String,
    text: String,
    stage: &'static str,
    is_open: bool,
    path: String,
}

/// `GET /t/watch/{watch}`: looks again by itself, by a script or without.
pub async fn show(State(app): State<App>, visit: Visit, Path(watch): Path<String>) -> Result<Response> {
    let stage = find_stage(&app, &watch).await?.ok_or_else(page::gone)?;
    let page = Page::new(&app, &visit);
    let (title, text) = match stage {
        Stage::Waiting => ("ticket_watch.waiting_title", "ticket_watch.waiting_text"),
        Stage::Opened => ("ticket_watch.opened_title", "ticket_watch.opened_text"),
        Stage::Linked => ("ticket_watch.linked_title", "ticket_watch.linked_text"),
        Stage::Revoked | Stage::Expired => ("ticket_watch.over_title", "ticket_watch.over_text"),
    };
    let (title, text) = (page.t(title).to_owned(), page.t(text).to_owned());
    let (stage, is_open, path) = (word(stage), stage.is_live(), format!("/t/watch/{watch}"));
    let mut answer = html(&Watch { page, title, text, stage, is_open, path })?;
    // This page's script asks us how far it is; no other page has one that asks anything.
    let policy = HeaderValue::from_str(&headers::policy(&app, "connect-src 'self'; ")).map_err(Error::internal)?;
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    Ok(answer)
}

/// `GET /t/watch/{watch}/state`: the same for the page's script.
pub async fn state(State(app): State<App>, Path(watch): Path<String>) -> Result<Json<Value>> {
    let stage = find_stage(&app, &watch).await?.ok_or(Error::NotFound)?;
    Ok(Json(json!({ "state": word(stage) })))
}

async fn find_stage(app: &App, watch: &str) -> Result<Option<Stage>> {
    let found = find_by_watch(&mut *app.db.conn().await?, watch).await?;
    Ok(found.map(|ticket| ticket.state(app.now())))
}

/// Why it is over is the company's affair.
fn word(stage: Stage) -> &'static str {
    match stage {
        Stage::Waiting | Stage::Opened | Stage::Linked => stage.word(),
        Stage::Revoked | Stage::Expired => "over",
    }
}
