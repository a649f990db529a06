//! The first page.

use askama::Template;
use axum::{extract::State, response::Response};

use super::{
    page::{Page, html},
    visit::Visit,
};
use crate::{app::App, error::Result};

#[derive(Template)]
#[template(path = "web/home.html")]
struct Home {
    page: Page,
}

/// `GET /`
pub async fn show(State(app): State<App>, visit: Visit) -> Result<Response> {
    html(&Home { page: Page::new(&app, &visit) })
}

/// `GET /healthz`: this process answers.
pub async fn alive() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: and reaches its database.
pub async fn ready(State(app): State<App>) -> Result<&'static str> {
    let mut conn = app.db.conn().await?;
    app.db.now(&mut conn).await?;
    Ok("ready\n")
}
