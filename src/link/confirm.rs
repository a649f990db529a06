//! The page every link passes: both accounts, the consent text, and the person's yes.

use askama::Template;
use axum::{
    Form,
    extract::{Query, State},
    http::HeaderMap,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{
    New, Owner, Purpose,
    attempt::{self, Pending},
    cleanup, find_active, find_owner, grant, insert,
    refusal::{Cause, Restart},
};
use crate::{
    app::App,
    audit,
    db::{Conn, Millis},
    error::{Error, Result},
    kill, line_user, member,
    member::{
        guard::SignedIn,
        session::{self, Session},
    },
    message::{self, To},
    queue::{self, Cancelled, Job},
    web::{
        cookie,
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
    consent: String,
    consent_version: String,
    consent_locale: String,
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
    let pending = pending.ok_or_else(|| Cause::ConfirmGone.refuse(&restart(None)))?;
    if pending.confirmed_at.is_some() || app.now() >= pending.confirm_by {
        if is_linked(&mut conn, &session, &pending).await? {
            return Ok(Redirect::to("/account?done=linked").into_response());
        }
        return Err(Cause::ConfirmGone.refuse(&restart(Some(&pending))));
    }
    let line_user = line_user::find(&mut conn, &pending.line_user_id).await?.ok_or(Error::NotFound)?;
    let consent = Consent::in_language(&app, visit.locale.tag());
    html(&Confirm {
        label: app.config.label_of(&pending.provider),
        attempt: pending.id,
        member_name: session.name,
        member_email: member::masked_email(&session.email),
        line_name: line_user.display_name,
        line_picture: picture::allowed(&app, line_user.picture_url.as_deref()),
        consent: consent.text.to_owned(),
        consent_version: consent.version.to_owned(),
        consent_locale: consent.locale.to_owned(),
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
        "yes" => match Consent::shown(&app, &fields.consent) {
            Some(consent) => link(&app, &visit, &session, &pending, consent).await?,
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

/// What came of a yes or a no.
enum Decided {
    /// With the session's new cookie.
    Linked(String),
    Declined,
    /// Answered already, or too late.
    Before,
    Refused(Cause),
}

/// Links, with its evidence, its audit row, its welcome and its menu, or not at all.
async fn link(app: &App, visit: &Visit, session: &Session, pending: &Pending, consent: Consent<'_>) -> Result<Decided> {
    let mut tx = app.db.begin().await?;
    let now = app.now();
    if !attempt::answer(&mut tx, now, &pending.id, "linked").await? {
        return Ok(Decided::Before);
    }
    if !is_member_unchanged(&mut tx, session, pending).await? {
        return Ok(Decided::Refused(Cause::Unavailable));
    }
    let link_id = app.new_id();
    let new = New {
        id: &link_id,
        provider: &pending.provider,
        line_user_id: &pending.line_user_id,
        member_id: &session.member_id,
        source: "web",
        consent_version: consent.version,
        consent_locale: consent.locale,
    };
    if !insert(&mut tx, now, &new).await? {
        let owner = find_owner(&mut tx, &pending.line_user_id).await?;
        return Ok(Decided::Refused(conflict(owner, session)));
    }
    // Only now: an unlink at the same moment was waited for by the insert, and is seen.
    if let Some(cause) = call_off_clean_up(&mut tx, app, now, pending).await? {
        return Ok(Decided::Refused(cause));
    }
    keep_consent(&mut tx, now, consent).await?;
    grant::give_to_link(&mut tx, &pending.id, &link_id).await?;
    record(&mut tx, app, visit, session, pending, &link_id).await?;
    welcome(&mut tx, app, visit, session, pending, &link_id).await?;
    // What this browser may do has changed. A session that ended meanwhile links nothing.
    let token = session::renew(&mut tx, app, session).await?;
    let token = token.ok_or_else(|| Error::SignIn { return_to: "/account".into() })?;
    kill::point("link.recorded");
    tx.commit().await?;
    kill::point("link.committed");
    Ok(Decided::Linked(token))
}

/// Who holds the place that a link was to take.
fn conflict(owner: Option<Owner>, session: &Session) -> Cause {
    match owner {
        Some(owner) if owner.member_id == session.member_id => Cause::AlreadyYours,
        Some(_) => Cause::ConflictLine,
        None => Cause::ConflictMember,
    }
}

/// Whether the member is neither disabled nor has another password than when this began.
async fn is_member_unchanged(conn: &mut Conn, session: &Session, pending: &Pending) -> Result<bool> {
    let unchanged: Option<String> = sqlx::query_scalar(
        "SELECT id FROM members WHERE id = $1 AND disabled_at IS NULL
           AND (password_changed_at IS NULL OR password_changed_at <= $2)",
    )
    .bind(&session.member_id)
    .bind(pending.created_at)
    .fetch_optional(conn)
    .await?;
    Ok(unchanged.is_some())
}

/// A former link's clean-up would take the new permission away: it is cancelled. One that is in flight is waited
/// for; one that took this proof's permission, or may have, makes the proof worthless.
async fn call_off_clean_up(conn: &mut Conn, app: &App, now: Millis, pending: &Pending) -> Result<Option<Cause>> {
    // Cancelled first and read afterwards: a try that ends in between is seen.
    for former in list_former(conn, &pending.line_user_id).await? {
        let job = Job::Deauthorize { link_id: former.link_id };
        if former.state == "pending" && queue::cancel(conn, &app.db, now, &job).await? == Cancelled::InFlight {
            return Ok(Some(Cause::Busy));
        }
    }
    for former in list_former(conn, &pending.line_user_id).await? {
        let is_open = former.state == "pending";
        let was_tried = !is_open || former.note.is_some();
        if was_tried && former.updated_at >= pending.used_at {
            return Ok(Some(Cause::ConfirmGone));
        }
        if is_open {
            cleanup::call_off(conn, now, &former.link_id).await?;
        }
    }
    cleanup::close_former(conn, now, &pending.line_user_id).await?;
    Ok(None)
}

/// The deauthorize step of an ended link. `note` is there once it was tried; `updated_at` is of the last try.
#[derive(sqlx::FromRow)]
struct Former {
    link_id: String,
    state: String,
    note: Option<String>,
    updated_at: Millis,
}

/// The deauthorize steps of a LINE user's ended links that are open or done.
async fn list_former(conn: &mut Conn, line_user_id: &str) -> Result<Vec<Former>> {
    let rows = sqlx::query_as(
        "SELECT s.link_id, s.state, s.note, s.updated_at FROM unlink_steps s JOIN links l ON l.id = s.link_id
         WHERE l.line_user_id = $1 AND s.step = 'deauthorize' AND s.state IN ('pending', 'done')",
    )
    .bind(line_user_id)
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

async fn record(
    conn: &mut Conn,
    app: &App,
    visit: &Visit,
    session: &Session,
    pending: &Pending,
    link_id: &str,
) -> Result<()> {
    let entry = audit::Entry {
        action: "linked",
        member_id: Some(&session.member_id),
        subject: Some(link_id),
        provider: Some(&pending.provider),
        address: Some(&visit.address),
        data: serde_json::json!({ "line_user": pending.line_user_id, "consent": app.config.consent.version }),
        ..Default::default()
    };
    audit::insert(conn, app.now(), entry).await
}

/// Queues the welcome message and the member's menu on every channel of the provider.
async fn welcome(
    conn: &mut Conn,
    app: &App,
    visit: &Visit,
    session: &Session,
    pending: &Pending,
    link_id: &str,
) -> Result<()> {
    let now = app.now();
    let account_url = app.config.url("/account");
    let data =
        [("name", session.name.as_str()), ("company", &app.config.company), ("account_url", &account_url)].into();
    for channel in app.config.channels_of(&pending.provider) {
        let new = message::New {
            channel,
            template: "welcome",
            locale: visit.locale.tag(),
            data: &data,
            cause: "linked",
            topic: None,
            to: To { member_id: &session.member_id, line_user_id: &pending.line_user_id, link_id },
        };
        message::send(conn, now, new).await?;
        let menu = Job::UserMenu { line_user_id: pending.line_user_id.clone(), channel: channel.clone() };
        queue::enqueue(conn, now, now, &menu).await?;
    }
    Ok(())
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
        tell_owner(&mut tx, app, &pending.provider, &pending.line_user_id, &owner).await?;
    }
    tx.commit().await?;
    app.wake();
    Ok(refusal)
}

/// Records for the present owner that somebody else tried to link their LINE account, and tells them in LINE.
pub async fn tell_owner(conn: &mut Conn, app: &App, provider: &str, line_user_id: &str, owner: &Owner) -> Result<()> {
    let now = app.now();
    let entry = audit::Entry {
        action: "link_conflict",
        member_id: Some(&owner.member_id),
        subject: Some(&owner.link_id),
        provider: Some(provider),
        ..Default::default()
    };
    audit::insert(conn, now, entry).await?;
    let account_url = app.config.url("/account");
    let data = [("company", app.config.company.as_str()), ("account_url", &account_url)].into();
    // In the owner's language: the visitor is somebody else.
    let own: Option<String> = sqlx::query_scalar("SELECT locale FROM members WHERE id = $1")
        .bind(&owner.member_id)
        .fetch_one(&mut *conn)
        .await?;
    let locale = own.as_deref().unwrap_or(&app.config.default_locale);
    for channel in app.config.channels_of(provider) {
        let new = message::New {
            channel,
            template: "link_conflict",
            locale,
            data: &data,
            cause: "link_conflict",
            topic: None,
            to: To { member_id: &owner.member_id, line_user_id, link_id: &owner.link_id },
        };
        message::send(conn, now, new).await?;
    }
    Ok(())
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
    Ok(active.is_some_and(|active| active.line_user_id == pending.line_user_id))
}

fn restart(pending: Option<&Pending>) -> Restart {
    let provider = pending.map(|pending| pending.provider.clone()).unwrap_or_default();
    Restart { provider, purpose: Purpose::Link, return_to: "/account".into() }
}

/// A consent text as a person reads it.
#[derive(Debug, Clone, Copy)]
struct Consent<'a> {
    version: &'a str,
    locale: &'a str,
    text: &'a str,
}

impl<'a> Consent<'a> {
    /// The text that holds now, in this language or in the company's.
    fn in_language(app: &'a App, locale: &str) -> Self {
        let (version, texts) = (&app.config.consent.version, &app.config.consent.text);
        let found = texts.get_key_value(locale).or_else(|| texts.get_key_value(&app.config.default_locale));
        let (locale, text) = found.map(|(locale, text)| (locale.as_str(), text.as_str())).unwrap_or_default();
        Self { version, locale, text }
    }

    /// The text that a form names as `version:locale`, if it holds still.
    fn shown(app: &'a App, named: &str) -> Option<Self> {
        let (version, locale) = named.rsplit_once(':')?;
        let shown = Self::in_language(app, locale);
        (shown.version == version && shown.locale == locale).then_some(shown)
    }
}

/// Keeps the text itself as evidence, once for each version and language.
async fn keep_consent(conn: &mut Conn, now: Millis, consent: Consent<'_>) -> Result<()> {
    sqlx::query(
        "INSERT INTO consent_texts (version, locale, text, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
    )
    .bind(consent.version)
    .bind(consent.locale)
    .bind(consent.text)
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}
