//! `/t/{ticket}`: whose account it is, who asks, what will happen, and one button. Programs that open links to look at
//! them change nothing.

use askama::Template;
use axum::{
    extract::{Path, State},
    response::Response,
};

use super::{Ticket, find_live, record_refusal};
use crate::{
    app::App,
    error::{Error, Result},
    link::{
        Purpose,
        refusal::{Cause, Restart},
    },
    member::{guard::MaybeSession, other_app::OtherApp},
    web::{
        moment::{self, Moment},
        page::{Page, html},
        visit::Visit,
    },
};

#[derive(Template)]
#[template(path = "link/ticket/show.html")]
struct Show {
    page: Page,
    provider: String,
    path: String,
    member_name: String,
    member_detail: String,
    /// Somebody else is signed in here.
    is_other: bool,
    until: Moment,
    other_app: Option<OtherApp>,
}

/// `GET /t/{ticket}`
pub async fn show(
    State(app): State<App>,
    visit: Visit,
    MaybeSession(session): MaybeSession,
    Path(token): Path<String>,
) -> Result<Response> {
    let found = find_live(&mut *app.db.conn().await?, app.now(), &token).await?;
    let ticket = found.ok_or_else(gone)?;
    let page = Page::new(&app, &visit);
    html(&Show {
        other_app: OtherApp::of(&page, &app, &visit),
        path: ticket.path(&app),
        member_name: ticket.masked_name(),
        member_detail: ticket.masked_detail(),
        is_other: session.is_some_and(|session| session.member_id != ticket.member_id),
        until: moment::show(&app, visit.locale, ticket.expires_at),
        provider: ticket.provider,
        page,
    })
}

/// The live ticket of the form on its page, which names it as the way back; else the page that says it is gone, with
/// its audit row.
pub async fn of_form(app: &App, visit: &Visit, provider: &str, return_to: &str) -> Result<Ticket> {
    let token = return_to.strip_prefix("/t/").unwrap_or_default();
    let found = find_live(&mut *app.db.conn().await?, app.now(), token).await?;
    match found.filter(|ticket| ticket.provider == provider) {
        Some(ticket) => Ok(ticket),
        None => {
            record_refusal(app, visit, "start").await?;
            Err(gone())
        }
    }
}

/// Wrong, used, revoked or too old: nothing tells which.
pub fn gone() -> Error {
    let restart = Restart::new("", Purpose::Ticket, "/t");
    Cause::TicketGone.refuse(&restart)
}
