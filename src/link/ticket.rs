//! Tickets (table `tickets`): an address that the company makes for one of its members, by which they may link, once,
//! within ten minutes.
//!
//! Whoever holds it is taken for the member, for this one link and nothing else: it signs nobody in, since all it proves
//! is that somebody was handed an address. Showing its [`page`] never uses it up; only the yes does.
//!
//! The secrets (of the address, of the page that [`watch`]es, of the result) are made of the ticket's id under our key
//! and kept as hashes: so the one that was typed as a short [`code`] leads to the address, and an answer that got lost
//! can be given again.

pub mod code;
pub(super) mod mask;
pub mod page;
pub(super) mod qr;
mod return_url;
pub mod watch;

use std::time::Duration;

use serde_json::json;

use super::find_active;
use crate::{
    app::App,
    audit,
    db::{Conn, Millis},
    error::Result,
    seal,
    web::visit::Visit,
};

/// From its making to the yes.
pub const LIFE: Duration = Duration::from_secs(10 * 60);
/// From the yes to the company's asking what came of it.
pub const RESULT_LIFE: Duration = Duration::from_secs(10 * 60);
/// As evidence.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// A ticket to be.
#[derive(Debug)]
pub struct New<'a> {
    pub member_id: &'a str,
    pub provider: &'a str,
    pub return_url: Option<&'a str>,
    /// Such as `key:ID`.
    pub made_by: &'a str,
}

/// A new ticket with all that is told of it, once.
pub struct Made {
    pub id: String,
    pub url: String,
    /// To be typed at `/t`: `XXXX-XXXX`.
    pub code: String,
    /// An SVG that holds `url`.
    pub qr_svg: String,
    pub status_url: String,
    pub expires_at: Millis,
}

/// Why a ticket is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// No provider of this name has a login channel.
    Provider,
    /// Not a page of an origin on the company's list.
    ReturnUrl,
    /// Not there, disabled or deleted.
    Member,
    AlreadyLinked,
}

/// How far a ticket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Waiting,
    /// Somebody went to LINE with it.
    Opened,
    Linked,
    /// By the company, or by what became of the member since.
    Revoked,
    Expired,
}

/// A ticket, with its member.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Ticket {
    pub id: String,
    pub member_id: String,
    pub provider: String,
    pub return_url: Option<String>,
    pub made_by: String,
    pub created_at: Millis,
    pub expires_at: Millis,
    pub opened_at: Option<Millis>,
    pub revoked_at: Option<Millis>,
    pub used_at: Option<Millis>,
    pub attempt_id: Option<String>,
    pub link_id: Option<String>,
    pub redeemed_at: Option<Millis>,
    pub external_id: Option<String>,
    pub name: String,
    pub email: String,
    pub locale: Option<String>,
    disabled_at: Option<Millis>,
    password_changed_at: Option<Millis>,
}

/// What a result code stands for.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Redeemed {
    pub ticket_id: String,
    pub member_id: String,
    pub external_id: Option<String>,
    pub provider: String,
    pub link_id: String,
    pub linked_at: Millis,
}

impl State {
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Opened => "opened",
            Self::Linked => "linked",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }

    /// Whether it may still be used.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Waiting | Self::Opened)
    }
}

impl Ticket {
    pub fn state(&self, now: Millis) -> State {
        // A new password ends all that was begun before: somebody else may have asked for it.
        let is_changed = self.password_changed_at.is_some_and(|changed| changed > self.created_at);
        if self.used_at.is_some() {
            State::Linked
        } else if self.revoked_at.is_some() || self.disabled_at.is_some() || is_changed {
            State::Revoked
        } else if now >= self.expires_at {
            State::Expired
        } else if self.opened_at.is_some() {
            State::Opened
        } else {
            State::Waiting
        }
    }

    pub fn is_live(&self, now: Millis) -> bool {
        self.state(now).is_live()
    }

    /// The member's name as a stranger may see it.
    pub fn masked_name(&self) -> String {
        mask::name(&self.name)
    }

    /// The member's address, or else the company's id of them, as a stranger may see it.
    pub fn masked_detail(&self) -> String {
        mask::detail(&self.email, self.external_id.as_deref())
    }

    /// The path of its page.
    pub fn path(&self, app: &App) -> String {
        path(app, &self.id)
    }

    /// The company's page, with the code that it redeems; none where it named no page.
    pub fn way_back(&self, app: &App) -> Option<String> {
        Some(return_url::with_result(self.return_url.as_deref()?, &secret(app, "result", &self.id)))
    }
}

/// Makes a ticket, with its audit row, or says why not.
pub async fn create(conn: &mut Conn, app: &App, new: &New<'_>) -> Result<Result<Made, Unfit>> {
    if app.config.provider.get(new.provider).is_none_or(|provider| provider.login.is_none()) {
        return Ok(Err(Unfit::Provider));
    }
    if new.return_url.is_some_and(|url| !return_url::is_allowed(&app.config.tickets.return_urls, url)) {
        return Ok(Err(Unfit::ReturnUrl));
    }
    if !can_link(conn, new.member_id).await? {
        return Ok(Err(Unfit::Member));
    }
    // One that a reset suspended, or that an import brought, may be confirmed by a ticket.
    let active = find_active(conn, new.member_id, new.provider).await?;
    if active.is_some_and(|active| active.suspended_at.is_none() && active.unconfirmed_at.is_none()) {
        return Ok(Err(Unfit::AlreadyLinked));
    }
    let id = app.new_id();
    let mut code = app.random_code()?;
    while !insert(conn, app, &id, &code, new).await? {
        code = app.random_code()?;
    }
    let entry = audit::Entry {
        action: "ticket_made",
        member_id: Some(new.member_id),
        subject: Some(&id),
        provider: Some(new.provider),
        data: json!({ "by": new.made_by }),
        ..Default::default()
    };
    audit::insert(conn, app.now(), entry).await?;
    let url = app.config.url(&path(app, &id));
    Ok(Ok(Made {
        qr_svg: qr::svg(&url)?,
        url,
        code: code::grouped(&code),
        status_url: app.config.url(&format!("/t/watch/{}", secret(app, "watch", &id))),
        expires_at: app.now().plus(LIFE),
        id,
    }))
}

/// The path of a ticket's page.
pub fn path(app: &App, id: &str) -> String {
    format!("/t/{}", secret(app, "url", id))
}

/// A secret of a ticket, 43 characters. What is signed is never 43 characters long, so that no form cookie, which its
/// browser chooses, has a form token that is one of these.
fn secret(app: &App, what: &str, id: &str) -> String {
    app.sealer.sign(&format!("ticket:{what}:{id}"))
}

/// Whether a text has the shape of our secrets; others reach no database.
fn is_secret(text: &str) -> bool {
    text.len() == 43 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

async fn can_link(conn: &mut Conn, member_id: &str) -> Result<bool> {
    let found: Option<String> =
        sqlx::query_scalar("SELECT id FROM members WHERE id = $1 AND disabled_at IS NULL AND deleted_at IS NULL")
            .bind(member_id)
            .fetch_optional(conn)
            .await?;
    Ok(found.is_some())
}

/// False where the code is another ticket's.
async fn insert(conn: &mut Conn, app: &App, id: &str, code: &str, new: &New<'_>) -> Result<bool> {
    let now = app.now();
    let inserted = sqlx::query(
        "INSERT INTO tickets (id, token_hash, code_hash, watch_hash, member_id, provider, return_url, made_by,
           created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (code_hash) DO NOTHING",
    )
    .bind(id)
    .bind(seal::hash(&secret(app, "url", id)))
    .bind(code::hash(app, code))
    .bind(seal::hash(&secret(app, "watch", id)))
    .bind(new.member_id)
    .bind(new.provider)
    .bind(new.return_url)
    .bind(new.made_by)
    .bind(now)
    .bind(now.plus(LIFE))
    .execute(conn)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

macro_rules! select {
    ($which:literal) => {
        concat!(
            "SELECT t.id, t.member_id, t.provider, t.return_url, t.made_by, t.created_at, t.expires_at, t.opened_at,
               t.revoked_at, t.used_at, t.attempt_id, t.link_id, t.redeemed_at, m.external_id, m.name, m.email,
               m.locale, COALESCE(m.deleted_at, m.disabled_at) AS disabled_at, m.password_changed_at
             FROM tickets t JOIN members m ON m.id = t.member_id WHERE t.",
            $which,
            " = $1"
        )
    };
}

/// The ticket of this id, whatever became of it.
pub async fn find(conn: &mut Conn, id: &str) -> Result<Option<Ticket>> {
    Ok(sqlx::query_as(select!("id")).bind(id).fetch_optional(conn).await?)
}

/// The ticket of an address's secret, if it can still be used.
pub async fn find_live(conn: &mut Conn, now: Millis, token: &str) -> Result<Option<Ticket>> {
    if !is_secret(token) {
        return Ok(None);
    }
    let found: Option<Ticket> =
        sqlx::query_as(select!("token_hash")).bind(seal::hash(token)).fetch_optional(conn).await?;
    Ok(found.filter(|ticket| ticket.is_live(now)))
}

/// The ticket of this id, if it can still be used.
pub async fn find_live_by_id(conn: &mut Conn, now: Millis, id: &str) -> Result<Option<Ticket>> {
    Ok(find(conn, id).await?.filter(|ticket| ticket.is_live(now)))
}

/// The ticket that a typed code names, if it can still be used.
async fn find_live_by_code(conn: &mut Conn, app: &App, code: &str) -> Result<Option<Ticket>> {
    let found: Option<Ticket> =
        sqlx::query_as(select!("code_hash")).bind(code::hash(app, code)).fetch_optional(conn).await?;
    Ok(found.filter(|ticket| ticket.is_live(app.now())))
}

async fn find_by_watch(conn: &mut Conn, watch: &str) -> Result<Option<Ticket>> {
    if !is_secret(watch) {
        return Ok(None);
    }
    Ok(sqlx::query_as(select!("watch_hash")).bind(seal::hash(watch)).fetch_optional(conn).await?)
}

/// Notes that somebody goes to LINE with it.
pub async fn open(conn: &mut Conn, now: Millis, ticket: &Ticket, address: &str) -> Result<()> {
    sqlx::query("UPDATE tickets SET opened_at = $1 WHERE id = $2 AND opened_at IS NULL")
        .bind(now)
        .bind(&ticket.id)
        .execute(&mut *conn)
        .await?;
    let entry = audit::Entry { action: "ticket_opened", address: Some(address), ..entry(ticket) };
    audit::insert(conn, now, entry).await
}

/// Uses a ticket up for this attempt's link: one caller gets it, as long as it lives.
pub async fn take(conn: &mut Conn, now: Millis, id: &str, attempt_id: &str) -> Result<bool> {
    let taken = sqlx::query(
        "UPDATE tickets SET used_at = $1, attempt_id = $2
         WHERE id = $3 AND used_at IS NULL AND revoked_at IS NULL AND expires_at > $1",
    )
    .bind(now)
    .bind(attempt_id)
    .bind(id)
    .execute(conn)
    .await?;
    Ok(taken.rows_affected() == 1)
}

/// Notes what the ticket just taken led to, with its audit row, and keeps the result for whoever redeems it.
pub async fn complete(conn: &mut Conn, app: &App, ticket: &Ticket, link_id: &str, address: &str) -> Result<()> {
    let result = ticket.return_url.as_ref().map(|_| seal::hash(&secret(app, "result", &ticket.id)));
    sqlx::query("UPDATE tickets SET link_id = $1, result_hash = $2 WHERE id = $3")
        .bind(link_id)
        .bind(result)
        .bind(&ticket.id)
        .execute(&mut *conn)
        .await?;
    let entry = audit::Entry {
        action: "ticket_used",
        address: Some(address),
        data: json!({ "link": link_id }),
        ..entry(ticket)
    };
    audit::insert(conn, app.now(), entry).await
}

/// Ends a ticket that was not used yet, with its audit row; false where it was, or was revoked before.
pub async fn revoke(conn: &mut Conn, now: Millis, ticket: &Ticket, by: &str) -> Result<bool> {
    let revoked = sqlx::query(
        "UPDATE tickets SET revoked_at = $1 WHERE id = $2 AND used_at IS NULL AND revoked_at IS NULL AND expires_at > $1",
    )
    .bind(now)
    .bind(&ticket.id)
    .execute(&mut *conn)
    .await?;
    if revoked.rows_affected() == 0 {
        return Ok(false);
    }
    let entry = audit::Entry { action: "ticket_revoked", data: json!({ "by": by }), ..entry(ticket) };
    audit::insert(conn, now, entry).await?;
    Ok(true)
}

/// What a result code stands for, told once, to whoever may see `providers` (all, where none are named).
pub async fn redeem(conn: &mut Conn, now: Millis, result: &str, providers: &[String]) -> Result<Option<Redeemed>> {
    let Some(found) = find_result(conn, now, result).await? else { return Ok(None) };
    if !providers.is_empty() && !providers.contains(&found.provider) {
        return Ok(None);
    }
    let taken = sqlx::query("UPDATE tickets SET redeemed_at = $1 WHERE id = $2 AND redeemed_at IS NULL")
        .bind(now)
        .bind(&found.ticket_id)
        .execute(&mut *conn)
        .await?;
    if taken.rows_affected() == 0 {
        return Ok(None);
    }
    let entry = audit::Entry {
        action: "ticket_redeemed",
        member_id: Some(&found.member_id),
        subject: Some(&found.ticket_id),
        provider: Some(&found.provider),
        ..Default::default()
    };
    audit::insert(conn, now, entry).await?;
    Ok(Some(found))
}

async fn find_result(conn: &mut Conn, now: Millis, result: &str) -> Result<Option<Redeemed>> {
    if !is_secret(result) {
        return Ok(None);
    }
    let found = sqlx::query_as(
        "SELECT t.id AS ticket_id, t.member_id, m.external_id, t.provider, t.link_id, t.used_at AS linked_at
         FROM tickets t JOIN members m ON m.id = t.member_id
         WHERE t.result_hash = $1 AND t.redeemed_at IS NULL AND t.used_at > $2 AND m.deleted_at IS NULL",
    )
    .bind(seal::hash(result))
    .bind(now.minus(RESULT_LIFE))
    .fetch_optional(conn)
    .await?;
    Ok(found)
}

/// Deletes tickets long past, some at a time.
pub async fn prune(conn: &mut Conn, now: Millis) -> Result<u64> {
    let deleted =
        sqlx::query("DELETE FROM tickets WHERE id IN (SELECT id FROM tickets WHERE expires_at < $1 LIMIT 500)")
            .bind(now.minus(KEPT))
            .execute(conn)
            .await?;
    Ok(deleted.rows_affected())
}

/// The audit row of a ticket that was tried in vain; nothing tells the person why.
async fn record_refusal(app: &App, visit: &Visit, reason: &str) -> Result<()> {
    let entry = audit::Entry {
        action: "ticket_refused",
        reason: Some(reason),
        address: Some(&visit.address),
        ..Default::default()
    };
    audit::insert(&mut *app.db.conn().await?, app.now(), entry).await
}

fn entry(ticket: &Ticket) -> audit::Entry<'_> {
    audit::Entry {
        member_id: Some(&ticket.member_id),
        subject: Some(&ticket.id),
        provider: Some(&ticket.provider),
        ..Default::default()
    }
}
