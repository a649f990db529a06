//! `/t`: the short code of a ticket, typed where its address cannot be opened.
//!
//! A code has forty bits and lives ten minutes. Tries are counted before they are looked up, for each network and over
//! all, so that nobody comes upon somebody's.

use askama::Template;
use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;
use unicode_normalization::UnicodeNormalization;

use super::{find_live_by_code, record_refusal};
use crate::{
    app::App,
    error::Result,
    member::throttle::{self, Guesser},
    web::{
        form::Form,
        page::{Page, html},
        visit::Visit,
    },
};

#[derive(Template)]
#[template(path = "link/ticket/code.html")]
struct Code {
    page: Page,
    is_wrong: bool,
}

#[derive(Deserialize)]
pub struct Fields {
    code: String,
}

/// `GET /t`
pub async fn show(State(app): State<App>, visit: Visit) -> Result<Response> {
    html(&Code { page: Page::new(&app, &visit), is_wrong: false })
}

/// `POST /t`: leads to the page of the code's ticket.
pub async fn submit(State(app): State<App>, visit: Visit, Form(fields): Form<Fields>) -> Result<Response> {
    let guesser = Guesser::TicketCode { address: visit.address.clone() };
    throttle::admit(&app, &guesser).await?;
    let found = find_live_by_code(&mut *app.db.conn().await?, &app, &normal(&fields.code)).await?;
    if let Some(ticket) = found {
        // Many may type theirs behind one address, as in a shop. Only this try is taken back: who has a code of
        // their own does not guess for longer.
        throttle::give_back(&app, &guesser).await?;
        return Ok(Redirect::to(&ticket.path(&app)).into_response());
    }
    let mut tx = app.db.begin().await?;
    throttle::fail(&mut tx, &app, &guesser, &visit.address).await?;
    tx.commit().await?;
    record_refusal(&app, &visit, "code").await?;
    // The language form of this page leads to the page, which has no other way to be shown.
    let visit = Visit { here: "/t".into(), ..visit };
    Ok((StatusCode::NOT_FOUND, html(&Code { page: Page::new(&app, &visit), is_wrong: true })?).into_response())
}

/// As it is read: `XXXX-XXXX`.
pub(super) fn grouped(code: &str) -> String {
    let (first, last) = code.split_at(code.len().min(4));
    format!("{first}-{last}")
}

/// As it was made: people type small letters, spaces, another dash or none, and full width.
fn normal(code: &str) -> String {
    let letters = code.chars().take(64).nfkc().filter(char::is_ascii_alphanumeric);
    letters.map(|c| c.to_ascii_uppercase()).collect()
}

/// What is kept of a code: it is short, so it is hashed under our key.
pub(super) fn hash(app: &App, code: &str) -> String {
    app.sealer.sign(&format!("ticket:code:{code}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_as_people_type_them() {
        for typed in ["ABCD-EF23", "abcdef23", " ab cd - ef 23 ", "ＡＢＣＤ－ＥＦ２３", "ABCD—EF23", "a.b.c.d.e.f.2.3"]
        {
            assert_eq!(normal(typed), "ABCDEF23", "{typed}");
        }
        assert_eq!(grouped("ABCDEF23"), "ABCD-EF23");
        assert_eq!(normal("花子\0"), "");
    }
}
