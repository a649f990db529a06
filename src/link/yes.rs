//! The yes: one transaction that links, or resumes what a reset suspended, with its evidence and its audit row.

use super::{
    New, Owner,
    attempt::{self, Pending},
    cleanup,
    consent::{self, Consent},
    find_owner, grant, insert,
    refusal::Cause,
    tell,
};
use crate::{
    app::App,
    audit,
    db::{Conn, Locking, Millis, with_lock},
    error::{Error, Result},
    kill, line_user,
    member::session::{self, Session},
    queue::{self, Cancelled, Job},
    web::visit::Visit,
};

/// What came of a yes or a no.
pub enum Decided {
    /// With the session's new cookie.
    Linked(String),
    Declined,
    /// Answered already, or too late.
    Before,
    Refused(Cause),
}

/// Who said yes, and to what.
pub struct Yes<'a> {
    pub app: &'a App,
    pub visit: &'a Visit,
    pub session: &'a Session,
    pub pending: &'a Pending,
    pub consent: Consent<'a>,
}

/// Links, with its evidence, its audit row, its welcome and its menu, or not at all.
pub async fn link(yes: &Yes<'_>) -> Result<Decided> {
    let Yes { app, session, pending, .. } = yes;
    let mut tx = app.db.begin().await?;
    let now = app.now();
    if !attempt::answer(&mut tx, now, &pending.id, "linked").await? {
        return Ok(Decided::Before);
    }
    if !is_member_unchanged(&mut tx, app, session, pending).await? {
        return Ok(Decided::Refused(Cause::Unavailable));
    }
    let tied = match resume(&mut tx, yes).await? {
        Some(link_id) => Tied::Resumed(link_id),
        None => match make(&mut tx, now, yes).await? {
            Ok(link_id) => Tied::New(link_id),
            Err(cause) => return Ok(Decided::Refused(cause)),
        },
    };
    // Only now: an unlink at the same moment was waited for, and is seen.
    if let Some(cause) = call_off_clean_up(&mut tx, app, now, pending).await? {
        return Ok(Decided::Refused(cause));
    }
    match &tied {
        Tied::New(link_id) => complete(&mut tx, now, yes, link_id).await?,
        Tied::Resumed(link_id) => complete_resumed(&mut tx, now, yes, link_id).await?,
    }
    // What this browser may do has changed. A session that ended meanwhile links nothing.
    let token = session::renew(&mut tx, app, session).await?;
    let token = token.ok_or_else(|| Error::SignIn { return_to: "/account".into() })?;
    kill::point("link.recorded");
    tx.commit().await?;
    kill::point("link.committed");
    Ok(Decided::Linked(token))
}

/// The link that holds now.
enum Tied {
    New(String),
    Resumed(String),
}

/// A new link, or who holds the place that it was to take.
async fn make(conn: &mut Conn, now: Millis, yes: &Yes<'_>) -> Result<Result<String, Cause>> {
    let link_id = yes.app.new_id();
    let new = New {
        id: &link_id,
        provider: &yes.pending.provider,
        line_user_id: &yes.pending.line_user_id,
        member_id: &yes.session.member_id,
        source: "web",
        consent_version: yes.consent.version,
        consent_locale: yes.consent.locale,
    };
    if insert(conn, now, &new).await? {
        return Ok(Ok(link_id));
    }
    let owner = find_owner(conn, &yes.pending.line_user_id).await?;
    Ok(Err(conflict(owner, yes.session)))
}

/// Ends the suspension of this very member's link to this very LINE user; gives the link's id.
async fn resume(conn: &mut Conn, yes: &Yes<'_>) -> Result<Option<String>> {
    let resumed = sqlx::query_scalar(
        "UPDATE links SET suspended_at = NULL, consent_version = $1, consent_locale = $2
         WHERE line_user_id = $3 AND member_id = $4 AND ended_at IS NULL AND suspended_at IS NOT NULL
         RETURNING id",
    )
    .bind(yes.consent.version)
    .bind(yes.consent.locale)
    .bind(&yes.pending.line_user_id)
    .bind(&yes.session.member_id)
    .fetch_optional(conn)
    .await?;
    Ok(resumed)
}

fn conflict(owner: Option<Owner>, session: &Session) -> Cause {
    match owner {
        Some(owner) if owner.member_id == session.member_id => Cause::AlreadyYours,
        Some(_) => Cause::ConflictLine,
        None => Cause::ConflictMember,
    }
}

/// What a new link brings with it.
async fn complete(conn: &mut Conn, now: Millis, yes: &Yes<'_>, link_id: &str) -> Result<()> {
    let Yes { app, visit, session, pending, consent } = yes;
    consent::record(conn, now, link_id, *consent).await?;
    grant::give_to_link(conn, &pending.id, link_id).await?;
    record(conn, yes, "linked", link_id).await?;
    tell::welcome(conn, app, visit, session, pending, link_id).await?;
    tell::menus(conn, app, pending).await?;
    let line_user = line_user::find(conn, &pending.line_user_id).await?.ok_or(Error::NotFound)?;
    tell::mail(conn, app, visit, session, link_id, &line_user.display_name).await
}

/// What the end of a suspension brings with it: the newest tokens replace those of before.
async fn complete_resumed(conn: &mut Conn, now: Millis, yes: &Yes<'_>, link_id: &str) -> Result<()> {
    let Yes { app, visit, session, pending, consent } = yes;
    consent::record(conn, now, link_id, *consent).await?;
    for former in grant::list_of_link(conn, link_id).await? {
        queue::enqueue_once(conn, now, now, &Job::RevokeGrant { grant_id: former }).await?;
    }
    grant::give_to_link(conn, &pending.id, link_id).await?;
    record(conn, yes, "link_resumed", link_id).await?;
    tell::menus(conn, app, pending).await?;
    let line_user = line_user::find(conn, &pending.line_user_id).await?.ok_or(Error::NotFound)?;
    tell::mail(conn, app, visit, session, link_id, &line_user.display_name).await
}

async fn record(conn: &mut Conn, yes: &Yes<'_>, action: &str, link_id: &str) -> Result<()> {
    let entry = audit::Entry {
        action,
        member_id: Some(&yes.session.member_id),
        subject: Some(link_id),
        provider: Some(&yes.pending.provider),
        address: Some(&yes.visit.address),
        data: serde_json::json!({ "line_user": yes.pending.line_user_id, "consent": yes.consent.version }),
        ..Default::default()
    };
    audit::insert(conn, yes.app.now(), entry).await
}

/// Whether the member is neither disabled nor has another password than when this began. Held until the end of the
/// transaction: a reset or a deletion at the same moment comes before the link, or sees it.
async fn is_member_unchanged(conn: &mut Conn, app: &App, session: &Session, pending: &Pending) -> Result<bool> {
    let unchanged: Option<String> = sqlx::query_scalar(app.db.locking(UNCHANGED))
        .bind(&session.member_id)
        .bind(pending.created_at)
        .fetch_optional(conn)
        .await?;
    Ok(unchanged.is_some())
}

const UNCHANGED: Locking = with_lock!(
    "SELECT id FROM members WHERE id = $1 AND disabled_at IS NULL
       AND (password_changed_at IS NULL OR password_changed_at <= $2)",
    "FOR NO KEY UPDATE"
);

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
