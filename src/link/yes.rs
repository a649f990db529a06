//! The yes: one transaction that links, or resumes what a reset suspended, with its evidence and its audit row.

use super::{
    attempt::{self, Pending},
    cleanup,
    consent::{self, Consent},
    grant::{self, Kind},
    liff,
    prover::Prover,
    refusal::Cause,
    tell::{self, Linked},
    ticket,
    tie::{Tied, Wanted, tie},
};
use crate::{
    app::App,
    audit,
    db::{Conn, Locking, Millis, with_lock},
    error::{Error, Result},
    kill, line_user,
    member::session,
    queue::{self, Cancelled, Job},
    web::visit::Visit,
};

/// What came of a yes or a no.
pub enum Decided {
    /// With the session's new cookie, where there is a session.
    Linked(Option<String>),
    Declined,
    /// Answered already, or too late.
    Before,
    Refused(Cause),
}

/// Who said yes, and to what.
pub struct Yes<'a> {
    pub app: &'a App,
    pub visit: &'a Visit,
    pub prover: &'a Prover,
    pub pending: &'a Pending,
    pub consent: Consent<'a>,
}

/// Links, with its evidence, its audit row, its welcome and its menu, or not at all.
pub async fn link(yes: &Yes<'_>) -> Result<Decided> {
    let Yes { app, prover, pending, .. } = yes;
    let mut tx = app.db.begin().await?;
    let now = app.now();
    if !attempt::answer(&mut tx, now, &pending.id, "linked").await? {
        return Ok(Decided::Before);
    }
    if !is_member_unchanged(&mut tx, app, prover.member_id(), prover.since(pending)).await? {
        return Ok(Decided::Refused(prover.changed()));
    }
    // Of two who hold it, one gets it.
    if let Some(ticket) = prover.ticket()
        && !ticket::take(&mut tx, now, &ticket.id, &pending.id).await?
    {
        return Ok(Decided::Refused(Cause::TicketGone));
    }
    let wanted = Wanted {
        provider: &pending.provider,
        line_user_id: &pending.line_user_id,
        member_id: prover.member_id(),
        source: prover.source(pending),
        permission: "given",
        consent_version: yes.consent.version,
        consent_locale: yes.consent.locale,
    };
    let tied = match tie(&mut tx, app, now, &wanted).await? {
        Ok(tied) => tied,
        Err(cause) => return Ok(Decided::Refused(cause)),
    };
    // Only now: an unlink at the same moment was waited for, and is seen.
    if let Some(cause) = call_off_clean_up(&mut tx, app, now, &pending.line_user_id, pending.used_at).await? {
        return Ok(Decided::Refused(cause));
    }
    complete(&mut tx, now, yes, &tied).await?;
    let token = match prover {
        // What this browser may do has changed. A session that ended meanwhile links nothing.
        Prover::Session(session) => {
            let token = session::renew(&mut tx, app, session).await?;
            Some(token.ok_or_else(|| Error::SignIn { return_to: "/account".into() })?)
        }
        Prover::Ticket(ticket) => {
            ticket::complete(&mut tx, app, ticket, tied.link_id(), &yes.visit.address).await?;
            None
        }
    };
    kill::point("link.recorded");
    tx.commit().await?;
    kill::point("link.committed");
    Ok(Decided::Linked(token))
}

/// What the link brings with it. After the end of a suspension the newest tokens replace those of before.
async fn complete(conn: &mut Conn, now: Millis, yes: &Yes<'_>, tied: &Tied) -> Result<()> {
    let Yes { app, visit, prover, pending, consent } = yes;
    let link_id = tied.link_id();
    consent::record(conn, now, link_id, *consent).await?;
    let kind = if pending.purpose == liff::PROVEN { Kind::Liff } else { Kind::Web };
    for former in grant::list_superseded(conn, link_id, kind).await? {
        queue::enqueue_once(conn, now, now, &Job::RevokeGrant { grant_id: former }).await?;
    }
    grant::give_to_link(conn, &pending.id, link_id).await?;
    record(conn, yes, tied).await?;
    let linked = Linked {
        link_id,
        provider: &pending.provider,
        line_user_id: &pending.line_user_id,
        member_id: prover.member_id(),
        name: prover.name(),
        email: prover.email(),
        locale: visit.locale.tag(),
        mail_locale: prover.locale().unwrap_or(visit.locale.tag()),
    };
    if let Tied::New(_) = tied {
        tell::welcome(conn, app, &linked, None).await?;
    }
    tell::menus(conn, app, &pending.provider, &pending.line_user_id).await?;
    let line_user = line_user::find(conn, &pending.line_user_id).await?.ok_or(Error::NotFound)?;
    tell::mail(conn, app, &linked, &line_user.display_name).await
}

async fn record(conn: &mut Conn, yes: &Yes<'_>, tied: &Tied) -> Result<()> {
    let entry = audit::Entry {
        action: tied.action(),
        member_id: Some(yes.prover.member_id()),
        subject: Some(tied.link_id()),
        provider: Some(&yes.pending.provider),
        address: Some(&yes.visit.address),
        data: serde_json::json!({ "line_user": yes.pending.line_user_id, "consent": yes.consent.version }),
        ..Default::default()
    };
    audit::insert(conn, yes.app.now(), entry).await
}

/// Whether the member is neither disabled nor has another password than when this began. Held until the end of the
/// transaction: a reset or a deletion at the same moment comes before the link, or sees it.
async fn is_member_unchanged(conn: &mut Conn, app: &App, member_id: &str, since: Millis) -> Result<bool> {
    let unchanged: Option<String> =
        sqlx::query_scalar(app.db.locking(UNCHANGED)).bind(member_id).bind(since).fetch_optional(conn).await?;
    Ok(unchanged.is_some())
}

const UNCHANGED: Locking = with_lock!(
    "SELECT id FROM members WHERE id = $1 AND disabled_at IS NULL
       AND (password_changed_at IS NULL OR password_changed_at <= $2)",
    "FOR NO KEY UPDATE"
);

/// A former link's clean-up would take the new permission away: it is cancelled. One that is in flight is waited
/// for; one that took this proof's permission, or may have, makes the proof worthless. With a cause nothing of the
/// transaction may stay.
pub(super) async fn call_off_clean_up(
    conn: &mut Conn,
    app: &App,
    now: Millis,
    line_user_id: &str,
    proven_at: Millis,
) -> Result<Option<Cause>> {
    // Cancelled first and read afterwards: a try that ends in between is seen.
    for former in list_former(conn, line_user_id).await? {
        let job = Job::Deauthorize { link_id: former.link_id };
        if former.state == "pending" && queue::cancel(conn, &app.db, now, &job).await? == Cancelled::InFlight {
            return Ok(Some(Cause::Busy));
        }
    }
    for former in list_former(conn, line_user_id).await? {
        let is_open = former.state == "pending";
        let was_tried = !is_open || former.note.is_some();
        if was_tried && former.updated_at >= proven_at {
            return Ok(Some(Cause::ConfirmGone));
        }
        if is_open {
            cleanup::call_off(conn, now, &former.link_id).await?;
        }
    }
    cleanup::close_former(conn, now, line_user_id).await?;
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
