//! The page every link passes: both accounts, the consent text, and the person's yes.

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
    find_active, find_owner, grant,
    refusal::{Cause, Restart},
    tell,
    yes::{self, Decided, Yes},
};
use crate::{
    app::App,
    audit,
    db::Conn,
    error::{Error, Result},
    line_user, member,
    member::{guard::SignedIn, session::Session},
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
    consent: Shown,
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
    SignedIn(session): SignedIn,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Result<Response> {
    let mut conn = app.db.conn().await?;
    let pending = find(&mut conn, &app, &session, &headers, &asked.attempt).await?;
    let is_open =
        pending.as_ref().is_some_and(|pending| pending.confirmed_at.is_none() && app.now() < pending.confirm_by);
    let Some(open) = pending.as_ref().filter(|_| is_open) else {
        if let Some(pending) = &pending
            && is_linked(&mut conn, &session, pending).await?
        {
            return Ok(Redirect::to("/account?done=linked").into_response());
        }
        drop(conn);
        return Err(refuse(&app, &visit, &session, pending.as_ref(), Cause::ConfirmGone).await?);
    };
    let line_user = line_user::find(&mut conn, &open.line_user_id).await?.ok_or(Error::NotFound)?;
    html(&Confirm {
        label: app.config.label_of(&open.provider),
        attempt: open.id.clone(),
        member_name: session.name,
        member_email: member::masked_email(&session.email),
        line_name: line_user.display_name,
        line_picture: picture::allowed(&app, line_user.picture_url.as_deref()),
        consent: Shown::new(&app, &visit),
        page: Page::new(&app, &visit),
    })
}

/// `POST /link/confirm`
pub async fn submit(
    State(app): State<App>,
    visit: Visit,
    SignedIn(session): SignedIn,
    headers: HeaderMap,
    Form(fields): Form<Fields>,
) -> Result<Response> {
    let mut conn = app.db.conn().await?;
    let pending = find(&mut conn, &app, &session, &headers, &fields.attempt).await?;
    drop(conn);
    let Some(pending) = pending else { return Err(refuse(&app, &visit, &session, None, Cause::ConfirmGone).await?) };
    let decided = match fields.decision.as_str() {
        "yes" => match Consent::named(&app, &fields.consent) {
            Some(consent) => {
                let (app, visit, session, pending) = (&app, &visit, &session, &pending);
                yes::link(&Yes { app, visit, session, pending, consent }).await?
            }
            // Another text holds by now: the person reads that one first.
            None => return Ok(Redirect::to(&format!("/link/confirm?attempt={}", pending.id)).into_response()),
        },
        "no" => decline(&app, &pending).await?,
        _ => return Err(Error::BadRequest("unknown decision")),
    };
    app.wake();
    match decided {
        Decided::Linked(token) => {
            let renewed = cookie::set(&app.config, cookie::SESSION, &token, None);
            Ok((renewed, Redirect::to("/account?done=linked")).into_response())
        }
        Decided::Declined => Ok(Redirect::to("/account").into_response()),
        Decided::Before if is_linked(&mut *app.db.conn().await?, &session, &pending).await? => {
            Ok(Redirect::to("/account?done=linked").into_response())
        }
        Decided::Before => Err(refuse(&app, &visit, &session, Some(&pending), Cause::ConfirmGone).await?),
        Decided::Refused(cause) => Err(refuse(&app, &visit, &session, Some(&pending), cause).await?),
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
/// "try again in a minute" leaves it.
async fn refuse(app: &App, visit: &Visit, session: &Session, pending: Option<&Pending>, cause: Cause) -> Result<Error> {
    let refusal = cause.refuse(&restart(pending));
    let Error::Refused(inner) = &refusal else { return Ok(refusal) };
    let now = app.now();
    let mut tx = app.db.begin().await?;
    let entry = audit::Entry {
        action: "line_refused",
        reason: Some(inner.reason),
        member_id: Some(&session.member_id),
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

/// The pending link of this member, session and browser.
async fn find(conn: &mut Conn, app: &App, session: &Session, headers: &HeaderMap, id: &str) -> Result<Option<Pending>> {
    // An id is sent by anyone: what is not one of ours is not asked for (PostgreSQL takes no NUL at all).
    if id.len() != 36 || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(None);
    }
    let browser = cookie::get(&app.config, headers, cookie::ATTEMPT).unwrap_or_default();
    attempt::find_pending(conn, id, session, &browser).await
}

/// Whether these two accounts are linked already, as after an answer that came twice.
async fn is_linked(conn: &mut Conn, session: &Session, pending: &Pending) -> Result<bool> {
    let active = find_active(conn, &session.member_id, &pending.provider).await?;
    Ok(active.is_some_and(|active| {
        active.line_user_id == pending.line_user_id && active.suspended_at.is_none() && active.unconfirmed_at.is_none()
    }))
}

fn restart(pending: Option<&Pending>) -> Restart {
    let provider = pending.map(|pending| pending.provider.clone()).unwrap_or_default();
    Restart { provider, purpose: Purpose::Link, return_to: "/account".into() }
}
