//! The person's word on an imported link, at their first sign-in with LINE: both accounts, the consent text, yes or no.
//!
//! The company says that the two belong together; LINE has just proved the one, and nothing has proved the other. So
//! the link signs nobody in before the yes, which counts as in any other way of linking: evidence of the consent, the
//! mail with "this was not me", the audit. A no ends the link: what was sent by it went to somebody else.

use askama::Template;
use axum::{
    extract::{Query, State},
    http::HeaderMap,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{
    Owner, Purpose,
    attempt::{self, Pending},
    consent::{self, Consent, Shown},
    end::{self, Ending},
    find_active_by_id, find_owner, friend, grant,
    refusal::{Cause, Restart},
    tell::{self, Linked},
    ticket::mask,
    yes::call_off_clean_up,
};
use crate::{
    app::App,
    audit,
    db::{Conn, Millis},
    error::{Error, Result},
    hook_event, line_user,
    member::{
        self, Member,
        guard::MaybeSession,
        session::{self, Method, Session},
    },
    queue::{self, Job},
    web::{
        cookie,
        form::Form,
        page::{Page, html},
        picture,
        visit::Visit,
    },
};

const LINKED: &str = "/account?done=linked";

#[derive(Template)]
#[template(path = "link/imported.html")]
struct Imported {
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

/// `GET /link/imported`
pub async fn show(
    State(app): State<App>,
    visit: Visit,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Result<Response> {
    let mut conn = app.db.conn().await?;
    let pending = find(&mut conn, &app, &headers, &asked.attempt).await?;
    if let Some(pending) = &pending
        && is_confirmed(&mut conn, pending).await?
    {
        return Ok(Redirect::to(LINKED).into_response());
    }
    let open = pending.filter(|pending| pending.confirmed_at.is_none() && app.now() < pending.confirm_by);
    let Some(open) = open else { return Err(Cause::ConfirmGone.refuse(&restart(None))) };
    let Some((_, member)) = find_imported(&mut conn, &open).await? else {
        return Err(Cause::ConfirmGone.refuse(&restart(Some(&open))));
    };
    let line_user = line_user::find(&mut conn, &open.line_user_id).await?.ok_or(Error::NotFound)?;
    attempt::note_shown(&mut conn, app.now(), &open).await;
    html(&Imported {
        label: app.config.label_of(&open.provider),
        attempt: open.id,
        member_email: member::masked_email(&member.email),
        // The company may be wrong about who this is.
        member_name: mask::name(&member.name),
        line_name: line_user.display_name,
        line_picture: picture::allowed(&app, line_user.picture_url.as_deref()),
        consent: Shown::new(&app, &visit),
        page: Page::new(&app, &visit),
    })
}

/// `POST /link/imported`
pub async fn submit(
    State(app): State<App>,
    visit: Visit,
    MaybeSession(old): MaybeSession,
    headers: HeaderMap,
    Form(fields): Form<Fields>,
) -> Result<Response> {
    let pending = find(&mut *app.db.conn().await?, &app, &headers, &fields.attempt).await?;
    let Some(pending) = pending else { return Err(refuse(&app, &visit, None, Cause::ConfirmGone).await?) };
    let done = match fields.decision.as_str() {
        "yes" => match Consent::named(&app, &fields.consent) {
            Some(consent) => confirm(&app, &visit, old.as_ref(), &pending, consent).await?.map(Some),
            // Another text holds by now: the person reads that one first.
            None => return Ok(Redirect::to(&format!("/link/imported?attempt={}", pending.id)).into_response()),
        },
        "no" => decline(&app, &visit, &pending).await?.map(|()| None),
        _ => return Err(Error::BadRequest("unknown decision")),
    };
    app.wake();
    match done {
        Ok(Some(token)) => {
            let session = cookie::set(&app.config, cookie::SESSION, &token, None);
            let next = friend::after_link(&app, &pending.provider, &pending.line_user_id).await;
            Ok((session, Redirect::to(&next)).into_response())
        }
        Ok(None) => Ok(Redirect::to(&format!("/line/not-linked?provider={}", pending.provider)).into_response()),
        Err(Cause::ConfirmGone) if is_answered_yes(&app, &fields.attempt, &headers).await? => {
            Ok(Redirect::to(LINKED).into_response())
        }
        Err(cause) => Err(refuse(&app, &visit, Some(&pending), cause).await?),
    }
}

/// The yes, in one transaction: the link is the person's word now, and signs them in. Gives the session's cookie.
async fn confirm(
    app: &App,
    visit: &Visit,
    old: Option<&Session>,
    pending: &Pending,
    consent: Consent<'_>,
) -> Result<Result<String, Cause>> {
    let mut tx = app.db.begin().await?;
    let now = app.now();
    if !attempt::answer(&mut tx, now, &pending.id, "linked").await? {
        return Ok(Err(Cause::ConfirmGone));
    }
    let Some((owner, member)) = hold_imported(&mut tx, app, pending).await? else {
        return Ok(Err(Cause::Unavailable));
    };
    if !set_confirmed(&mut tx, &owner.link_id, consent).await? {
        return Ok(Err(Cause::Unavailable));
    }
    // A former link's clean-up would take the permission that was just given.
    if let Some(cause) = call_off_clean_up(&mut tx, app, now, &pending.line_user_id, pending.used_at).await? {
        return Ok(Err(cause));
    }
    consent::record(&mut tx, now, &owner.link_id, consent).await?;
    grant::give_to_link(&mut tx, &pending.id, &owner.link_id).await?;
    let method = Method::Line { link_id: owner.link_id.clone() };
    let token = session::replace(&mut tx, app, visit, old, &member.id, &method).await?;
    for action in ["link_confirmed", "signed_in"] {
        record(&mut tx, now, visit, pending, &owner, action, consent).await?;
    }
    told(&mut tx, app, visit, pending, &owner, &member).await?;
    hook_event::link::created(&mut tx, app, &pending.provider, &owner.link_id).await?;
    tx.commit().await?;
    Ok(Ok(token))
}

/// The no: the company was wrong, or the LINE account is another's by now. The link ends as by an unlink.
async fn decline(app: &App, visit: &Visit, pending: &Pending) -> Result<Result<(), Cause>> {
    let mut tx = app.db.begin().await?;
    let now = app.now();
    if !attempt::answer(&mut tx, now, &pending.id, "declined").await? {
        return Ok(Err(Cause::ConfirmGone));
    }
    for grant_id in grant::list_of_attempt(&mut tx, &pending.id).await? {
        queue::enqueue_once(&mut tx, now, now, &Job::RevokeGrant { grant_id }).await?;
    }
    if let Some((owner, _)) = hold_imported(&mut tx, app, pending).await?
        && let Some(active) = find_active_by_id(&mut tx, &owner.link_id).await?
    {
        let ending = Ending { reason: "declined", action: "unlinked", address: Some(&visit.address) };
        end::end(&mut tx, app, &active, ending).await?;
    }
    tx.commit().await?;
    Ok(Ok(()))
}

async fn set_confirmed(conn: &mut Conn, link_id: &str, consent: Consent<'_>) -> Result<bool> {
    let set = sqlx::query(
        "UPDATE links SET unconfirmed_at = NULL, permission = 'given', consent_version = $1, consent_locale = $2
         WHERE id = $3 AND ended_at IS NULL AND suspended_at IS NULL AND unconfirmed_at IS NOT NULL",
    )
    .bind(consent.version)
    .bind(consent.locale)
    .bind(link_id)
    .execute(conn)
    .await?;
    Ok(set.rows_affected() == 1)
}

async fn record(
    conn: &mut Conn,
    now: Millis,
    visit: &Visit,
    pending: &Pending,
    owner: &Owner,
    action: &str,
    consent: Consent<'_>,
) -> Result<()> {
    let data = serde_json::json!({ "method": "line", "line_user": pending.line_user_id, "consent": consent.version });
    let entry = audit::Entry {
        action,
        member_id: Some(&owner.member_id),
        subject: Some(&owner.link_id),
        provider: Some(&pending.provider),
        address: Some(&visit.address),
        data,
        ..Default::default()
    };
    audit::insert(conn, now, entry).await
}

/// The mail with "this was not me", and the menu. No welcome: they have been with us for long.
async fn told(
    conn: &mut Conn,
    app: &App,
    visit: &Visit,
    pending: &Pending,
    owner: &Owner,
    member: &Member,
) -> Result<()> {
    let locale = visit.locale.tag();
    let linked = Linked {
        link_id: &owner.link_id,
        provider: &pending.provider,
        line_user_id: &pending.line_user_id,
        member_id: &member.id,
        name: &member.name,
        email: &member.email,
        locale,
        mail_locale: member.locale.as_deref().unwrap_or(locale),
    };
    tell::menus(conn, app, &pending.provider, &pending.line_user_id).await?;
    let line_user = line_user::find(conn, &pending.line_user_id).await?.ok_or(Error::NotFound)?;
    tell::mail(conn, app, &linked, &line_user.display_name).await
}

/// The imported link that the attempt is about, with its member, while it waits for the yes.
async fn find_imported(conn: &mut Conn, pending: &Pending) -> Result<Option<(Owner, Member)>> {
    let owner = find_owner(conn, &pending.line_user_id).await?.filter(is_waiting);
    let Some(owner) = owner else { return Ok(None) };
    let member = member::find(conn, &owner.member_id).await?;
    Ok(member.map(|member| (owner, member)))
}

/// [`find_imported`], with the member held first, as by everybody who makes or ends links.
async fn hold_imported(conn: &mut Conn, app: &App, pending: &Pending) -> Result<Option<(Owner, Member)>> {
    let Some(owner) = find_owner(conn, &pending.line_user_id).await? else { return Ok(None) };
    let Some(member) = member::hold(conn, &app.db, &owner.member_id).await? else { return Ok(None) };
    let owner = find_owner(conn, &pending.line_user_id).await?.filter(is_waiting);
    Ok(owner.filter(|owner| owner.member_id == member.id).map(|owner| (owner, member)))
}

fn is_waiting(owner: &Owner) -> bool {
    owner.unconfirmed_at.is_some() && owner.suspended_at.is_none() && owner.disabled_at.is_none()
}

/// Whether this attempt's answer was a yes, as where it comes twice.
async fn is_answered_yes(app: &App, attempt: &str, headers: &HeaderMap) -> Result<bool> {
    let mut conn = app.db.conn().await?;
    match find(&mut conn, app, headers, attempt).await? {
        Some(pending) => is_confirmed(&mut conn, &pending).await,
        None => Ok(false),
    }
}

/// Whether the person has answered, and is linked.
async fn is_confirmed(conn: &mut Conn, pending: &Pending) -> Result<bool> {
    if pending.confirmed_at.is_none() {
        return Ok(false);
    }
    let owner = find_owner(conn, &pending.line_user_id).await?;
    Ok(owner.is_some_and(|owner| owner.unconfirmed_at.is_none() && owner.suspended_at.is_none()))
}

/// The attempt of this browser.
async fn find(conn: &mut Conn, app: &App, headers: &HeaderMap, id: &str) -> Result<Option<Pending>> {
    let browser = cookie::get(&app.config, headers, cookie::ATTEMPT).unwrap_or_default();
    attempt::find_pending_import(conn, id, &browser).await
}

/// The refusal, with one audit row.
async fn refuse(app: &App, visit: &Visit, pending: Option<&Pending>, cause: Cause) -> Result<Error> {
    let entry = audit::Entry {
        action: "line_refused",
        reason: Some(cause.reason()),
        subject: pending.map(|pending| pending.id.as_str()),
        provider: pending.map(|pending| pending.provider.as_str()),
        address: Some(&visit.address),
        ..Default::default()
    };
    audit::insert(&mut *app.db.conn().await?, app.now(), entry).await?;
    Ok(cause.refuse(&restart(pending)))
}

fn restart(pending: Option<&Pending>) -> Restart {
    let provider = pending.map(|pending| pending.provider.clone()).unwrap_or_default();
    Restart::new(&provider, Purpose::SignIn, "/account")
}
