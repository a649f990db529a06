//! The page every link passes: both accounts, the consent text, and the person's yes.
//!
//! Its attempt is of a signed-in member's session, or of a ticket; in either case of this browser.

use askama::Template;
use axum::{
    extract::{Query, State},
    http::HeaderMap,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{
    Purpose,
    attempt::{self, Pending},
    consent::{Consent, Shown},
    find_active, find_owner, friend, grant,
    prover::Prover,
    refusal::{Cause, Restart},
    tell,
    ticket::{self, Ticket},
    yes::{self, Decided, Yes},
};
use crate::{
    app::App,
    audit,
    db::Conn,
    error::{Error, Result},
    line_user,
    member::{guard::MaybeSession, session::Session},
    queue::{self, Job},
    web::{
        cookie,
        form::Form,
        page::{Page, html},
        picture,
        visit::Visit,
    },
};

#[derive(Template)]
#[template(path = "link/confirm.html")]
struct Confirm {
    page: Page,
    label: String,
    attempt: String,
    member_name: String,
    member_email: String,
    line_name: String,
    line_picture: Option<String>,
    warning_title: String,
    warning: String,
    consent: Shown,
}

/// Where somebody ends who came by a ticket, and has no account page before them.
#[derive(Template)]
#[template(path = "link/ticket/done.html")]
struct Done {
    page: Page,
    way_back: Option<String>,
    /// Where the official account is added, for somebody who is no friend of it.
    add_friend: Option<String>,
}

#[derive(Deserialize)]
pub struct Asked {
    attempt: String,
}

#[derive(Deserialize)]
pub struct Fields {
    attempt: String,
    decision: String,
    /// Version and language of the consent text that the page showed.
    consent: String,
}

/// `GET /link/confirm`
pub async fn show(
    State(app): State<App>,
    visit: Visit,
    MaybeSession(session): MaybeSession,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Result<Response> {
    let mut conn = app.db.conn().await?;
    let sign_in = || Error::SignIn { return_to: visit.here.clone() };
    let (prover, pending) = find(&mut conn, &app, session, &headers, &asked.attempt).await?.ok_or_else(sign_in)?;
    let Some(open) = pending.as_ref().filter(|pending| is_open(&app, pending, &prover)) else {
        if let Some(pending) = &pending
            && is_linked(&mut conn, &prover, pending).await?
        {
            drop(conn);
            return done(&app, &visit, &prover, pending).await;
        }
        drop(conn);
        return Err(refuse(&app, &visit, &prover, pending.as_ref(), Cause::ConfirmGone).await?);
    };
    let line_user = line_user::find(&mut conn, &open.line_user_id).await?.ok_or(Error::NotFound)?;
    attempt::note_shown(&mut conn, app.now(), open).await;
    let (member_name, member_email) = prover.shown();
    let page = Page::new(&app, &visit);
    let warnings = if prover.ticket().is_some() { "ticket" } else { "confirm" };
    html(&Confirm {
        label: app.config.label_of(&open.provider),
        attempt: open.id.clone(),
        member_name,
        member_email,
        line_name: line_user.display_name,
        line_picture: picture::allowed(&app, line_user.picture_url.as_deref()),
        warning_title: page.t(&format!("{warnings}.warning_title")).to_owned(),
        warning: page.t(&format!("{warnings}.warning")).to_owned(),
        consent: Shown::new(&app, &visit),
        page,
    })
}

/// `POST /link/confirm`
pub async fn submit(
    State(app): State<App>,
    visit: Visit,
    MaybeSession(session): MaybeSession,
    headers: HeaderMap,
    Form(fields): Form<Fields>,
) -> Result<Response> {
    let mut conn = app.db.conn().await?;
    let Some((prover, pending)) = find(&mut conn, &app, session, &headers, &fields.attempt).await? else {
        // A yes that was sent twice: the first one gave the session a new id, which this one does not know yet.
        let browser = cookie::get(&app.config, &headers, cookie::ATTEMPT).unwrap_or_default();
        if attempt::is_linked_here(&mut conn, &fields.attempt, &browser).await? {
            return Ok(Redirect::to(friend::LINKED).into_response());
        }
        return Err(Error::SignIn { return_to: "/account".into() });
    };
    drop(conn);
    let Some(pending) = pending else { return Err(refuse(&app, &visit, &prover, None, Cause::ConfirmGone).await?) };
    let decided = match fields.decision.as_str() {
        "yes" => match Consent::named(&app, &fields.consent) {
            Some(consent) => {
                let (app, visit, prover, pending) = (&app, &visit, &prover, &pending);
                yes::link(&Yes { app, visit, prover, pending, consent }).await?
            }
            // Another text holds by now: the person reads that one first.
            None => return Ok(Redirect::to(&here(&pending)).into_response()),
        },
        "no" => decline(&app, &pending).await?,
        _ => return Err(Error::BadRequest("unknown decision")),
    };
    app.wake();
    match decided {
        Decided::Linked(token) => {
            let renewed = token.map(|token| cookie::set(&app.config, cookie::SESSION, &token, None));
            Ok((renewed, Redirect::to(&target(&app, &prover, &pending).await)).into_response())
        }
        Decided::Declined => Ok(Redirect::to(&restart(&app, &prover, Some(&pending)).return_to).into_response()),
        Decided::Before if is_linked(&mut *app.db.conn().await?, &prover, &pending).await? => {
            Ok(Redirect::to(&target(&app, &prover, &pending).await).into_response())
        }
        Decided::Before => Err(refuse(&app, &visit, &prover, Some(&pending), Cause::ConfirmGone).await?),
        Decided::Refused(cause) => Err(refuse(&app, &visit, &prover, Some(&pending), cause).await?),
    }
}

/// Whether the attempt still waits for its answer, and the ticket that it came by lives.
fn is_open(app: &App, pending: &Pending, prover: &Prover) -> bool {
    let now = app.now();
    pending.confirmed_at.is_none()
        && now < pending.confirm_by
        && prover.ticket().is_none_or(|ticket| ticket.is_live(now))
}

/// Where the person is after the link: on a page of their account, on the company's, or on a page that says so.
async fn target(app: &App, prover: &Prover, pending: &Pending) -> String {
    match prover {
        Prover::Session(_) => friend::after_link(app, &pending.provider, &pending.line_user_id).await,
        Prover::Ticket(ticket) => ticket.way_back(app).unwrap_or_else(|| here(pending)),
    }
}

/// After the link, on its own page.
async fn done(app: &App, visit: &Visit, prover: &Prover, pending: &Pending) -> Result<Response> {
    match prover {
        Prover::Session(_) => Ok(Redirect::to(&target(app, prover, pending).await).into_response()),
        Prover::Ticket(ticket) => html(&Done {
            way_back: ticket.way_back(app),
            add_friend: friend::offer(app, &pending.provider, &pending.line_user_id).await?,
            page: Page::new(app, visit),
        }),
    }
}

async fn decline(app: &App, pending: &Pending) -> Result<Decided> {
    let now = app.now();
    let mut tx = app.db.begin().await?;
    if !attempt::answer(&mut tx, now, &pending.id, "declined").await? {
        return Ok(Decided::Before);
    }
    for grant_id in grant::list_of_attempt(&mut tx, &pending.id).await? {
        queue::enqueue_once(&mut tx, now, now, &Job::RevokeGrant { grant_id }).await?;
    }
    tx.commit().await?;
    Ok(Decided::Declined)
}

/// The refusal, with one audit row. It uses the attempt up, so that a conflict is told to the owner once; only
/// "try again in a minute" leaves it. A ticket outlives it.
async fn refuse(app: &App, visit: &Visit, prover: &Prover, pending: Option<&Pending>, cause: Cause) -> Result<Error> {
    let now = app.now();
    let cause = match prover.ticket() {
        Some(ticket) if cause == Cause::ConfirmGone && !ticket.is_live(now) => Cause::TicketGone,
        _ => cause,
    };
    let refusal = cause.refuse(&restart(app, prover, pending));
    let Error::Refused(inner) = &refusal else { return Ok(refusal) };
    let mut tx = app.db.begin().await?;
    let entry = audit::Entry {
        action: "line_refused",
        reason: Some(inner.reason),
        member_id: Some(prover.member_id()),
        subject: pending.map(|pending| pending.id.as_str()),
        provider: pending.map(|pending| pending.provider.as_str()),
        address: Some(&visit.address),
        ..Default::default()
    };
    audit::insert(&mut tx, now, entry).await?;
    if let Some(pending) = pending.filter(|_| cause != Cause::Busy)
        && attempt::answer(&mut tx, now, &pending.id, inner.reason).await?
        && let (Cause::ConflictLine, Some(owner)) = (cause, find_owner(&mut tx, &pending.line_user_id).await?)
    {
        tell::owner(&mut tx, app, &pending.provider, &pending.line_user_id, &owner, None).await?;
    }
    tx.commit().await?;
    app.wake();
    Ok(refusal)
}

/// The pending link of this browser with whose it is: by its ticket, or else of this session. None where there is
/// neither.
async fn find(
    conn: &mut Conn,
    app: &App,
    session: Option<Session>,
    headers: &HeaderMap,
    id: &str,
) -> Result<Option<(Prover, Option<Pending>)>> {
    let browser = cookie::get(&app.config, headers, cookie::ATTEMPT).unwrap_or_default();
    if let Some(pending) = attempt::find_pending_by_ticket(conn, id, &browser).await?
        && let Some(ticket) = find_ticket(conn, &pending).await?
    {
        return Ok(Some((Prover::Ticket(Box::new(ticket)), Some(pending))));
    }
    let Some(session) = session else { return Ok(None) };
    let pending = attempt::find_pending(conn, id, &session, &browser).await?;
    Ok(Some((Prover::Session(Box::new(session)), pending)))
}

async fn find_ticket(conn: &mut Conn, pending: &Pending) -> Result<Option<Ticket>> {
    match &pending.ticket_id {
        Some(ticket_id) => ticket::find(conn, ticket_id).await,
        None => Ok(None),
    }
}

/// Whether these two accounts are linked already, as after an answer that came twice; by a ticket, by this answer.
async fn is_linked(conn: &mut Conn, prover: &Prover, pending: &Pending) -> Result<bool> {
    if let Some(ticket) = prover.ticket() {
        let ticket = ticket::find(conn, &ticket.id).await?;
        return Ok(ticket.is_some_and(|ticket| ticket.attempt_id.as_ref() == Some(&pending.id)));
    }
    let active = find_active(conn, prover.member_id(), &pending.provider).await?;
    Ok(active.is_some_and(|active| {
        active.line_user_id == pending.line_user_id && active.suspended_at.is_none() && active.unconfirmed_at.is_none()
    }))
}

/// This page.
fn here(pending: &Pending) -> String {
    format!("/link/confirm?attempt={}", pending.id)
}

fn restart(app: &App, prover: &Prover, pending: Option<&Pending>) -> Restart {
    let provider = pending.map(|pending| pending.provider.clone()).unwrap_or_default();
    match prover {
        Prover::Session(_) => Restart::new(&provider, Purpose::Link, "/account"),
        Prover::Ticket(ticket) => Restart::new(&provider, Purpose::Ticket, &ticket.path(app)),
    }
}
