//! Account link (table `account_links`): a link that begins in the chat.
//!
//! The person asks → LINE's link token ([`offer`](self::offer())) → our [`page`], where a member signs in, proves who
//! they are and says yes → a nonce → LINE's dialog, which checks that the browser's LINE user is the one the link token
//! was made for → the event ([`arrive`]).
//!
//! Link token and nonce are kept as hashes. The nonce belongs to the link token, its LINE user, the member who agreed
//! and the lineage of their session; it counts once, for ten minutes.

mod event;
mod offer;
pub mod page;
mod verdict;

use std::time::Duration;

pub use self::{
    event::{Arrival, arrive, expire},
    offer::{obtain, offer},
};
use crate::{
    app::App,
    audit,
    db::{Conn, Millis},
    error::Result,
    member::session::Session,
    seal,
    web::visit::{Visit, network},
};

/// How long LINE's link token lives, and from the yes on the nonce.
pub const LIFE: Duration = Duration::from_secs(10 * 60);

/// An account link that was begun.
#[derive(Debug, sqlx::FromRow)]
struct Begun {
    id: String,
    channel: String,
    line_user_id: String,
    member_id: Option<String>,
    lineage_id: Option<String>,
    locale: Option<String>,
    consent_version: Option<String>,
    consent_locale: Option<String>,
    created_at: Millis,
    expires_at: Millis,
    agreed_at: Option<Millis>,
    ended_at: Option<Millis>,
    outcome: Option<String>,
}

macro_rules! begun {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " id, channel, line_user_id, member_id, lineage_id, locale, consent_version, consent_locale, created_at,
              expires_at, agreed_at, ended_at, outcome ",
            $after
        )
    };
}

impl Begun {
    /// Whether this member may still say yes: LINE's token lives, and nobody else said yes with it.
    fn is_open_to(&self, now: Millis, member_id: &str) -> bool {
        let is_theirs = self.member_id.as_deref().is_none_or(|agreed| agreed == member_id);
        self.ended_at.is_none() && now < self.created_at.plus(LIFE) && is_theirs
    }

    /// A secret of ours, the same for each yes of one session: two tabs, or a form that was sent twice, void nothing.
    fn nonce(&self, app: &App, session: &Session) -> String {
        app.sealer.sign(&format!("nonce:{}:{}:{}", self.id, session.member_id, session.lineage_id))
    }
}

/// What a member's yes adds.
struct Yes<'a> {
    nonce: &'a str,
    session: &'a Session,
    visit: &'a Visit,
    locale: &'a str,
    consent_version: &'a str,
    consent_locale: &'a str,
}

/// Keeps a link token that LINE made for this person.
async fn insert(conn: &mut Conn, app: &App, channel: &str, line_user_id: &str, link_token: &str) -> Result<()> {
    let now = app.now();
    sqlx::query(
        "INSERT INTO account_links (id, channel, line_user_id, link_token_hash, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
    )
    .bind(app.new_id())
    .bind(channel)
    .bind(line_user_id)
    .bind(seal::hash(link_token))
    .bind(now)
    .bind(now.plus(LIFE))
    .execute(conn)
    .await?;
    Ok(())
}

async fn find_by_link_token(conn: &mut Conn, link_token: &str) -> Result<Option<Begun>> {
    let found = sqlx::query_as(begun!("SELECT", "FROM account_links WHERE link_token_hash = $1"))
        .bind(seal::hash(link_token))
        .fetch_optional(conn)
        .await?;
    Ok(found)
}

async fn find_by_nonce(conn: &mut Conn, nonce: &str) -> Result<Option<Begun>> {
    let found = sqlx::query_as(begun!("SELECT", "FROM account_links WHERE nonce_hash = $1"))
        .bind(seal::hash(nonce))
        .fetch_optional(conn)
        .await?;
    Ok(found)
}

/// Keeps a yes and its nonce, in place of one of the same member in another session; false where it came too late, or
/// after somebody else's.
async fn agree(conn: &mut Conn, now: Millis, id: &str, yes: &Yes<'_>) -> Result<bool> {
    let agreed = sqlx::query(
        "UPDATE account_links SET nonce_hash = $1, member_id = $2, lineage_id = $3, locale = $4, consent_version = $5,
           consent_locale = $6, agreed_at = $7, expires_at = $8, user_agent = $11, address = $12
         WHERE id = $9 AND ended_at IS NULL AND created_at > $10 AND (member_id IS NULL OR member_id = $2)",
    )
    .bind(seal::hash(yes.nonce))
    .bind(&yes.session.member_id)
    .bind(&yes.session.lineage_id)
    .bind(yes.locale)
    .bind(yes.consent_version)
    .bind(yes.consent_locale)
    .bind(now)
    .bind(now.plus(LIFE))
    .bind(id)
    .bind(now.minus(LIFE))
    .bind(&yes.visit.user_agent)
    .bind(network(&yes.visit.address))
    .execute(conn)
    .await?;
    Ok(agreed.rows_affected() == 1)
}

/// Burns the nonce: the first caller gets what it stands for.
async fn take(conn: &mut Conn, now: Millis, nonce: &str) -> Result<Option<Begun>> {
    let taken = sqlx::query_as(begun!(
        "UPDATE account_links SET ended_at = $1, outcome = 'arrived' WHERE nonce_hash = $2 AND ended_at IS NULL RETURNING",
        ""
    ))
    .bind(now)
    .bind(seal::hash(nonce))
    .fetch_optional(conn)
    .await?;
    Ok(taken)
}

/// Ends one whose nonce waited in vain; none where the event was quicker, or a newer yes gave it more time.
async fn take_expired(conn: &mut Conn, now: Millis, id: &str) -> Result<Option<Begun>> {
    let taken = sqlx::query_as(begun!(
        "UPDATE account_links SET ended_at = $1, outcome = 'expired'
         WHERE id = $2 AND ended_at IS NULL AND agreed_at IS NOT NULL AND expires_at <= $1 RETURNING",
        ""
    ))
    .bind(now)
    .bind(id)
    .fetch_optional(conn)
    .await?;
    Ok(taken)
}

/// Ends one; false where it had ended before.
async fn end(conn: &mut Conn, now: Millis, id: &str, outcome: &str) -> Result<bool> {
    let ended = sqlx::query("UPDATE account_links SET ended_at = $1, outcome = $2 WHERE id = $3 AND ended_at IS NULL")
        .bind(now)
        .bind(outcome)
        .bind(id)
        .execute(conn)
        .await?;
    Ok(ended.rows_affected() == 1)
}

async fn set_outcome(conn: &mut Conn, id: &str, outcome: &str) -> Result<()> {
    sqlx::query("UPDATE account_links SET outcome = $1 WHERE id = $2").bind(outcome).bind(id).execute(conn).await?;
    Ok(())
}

/// The audit row of a refusal on the way.
async fn record_refusal(
    conn: &mut Conn,
    app: &App,
    begun: Option<&Begun>,
    member_id: Option<&str>,
    reason: &str,
    address: Option<&str>,
) -> Result<()> {
    let channel = begun.and_then(|begun| app.config.channel.get(&begun.channel));
    let entry = audit::Entry {
        action: "account_link_refused",
        reason: Some(reason),
        member_id,
        subject: begun.map(|begun| begun.id.as_str()),
        provider: channel.map(|channel| channel.provider.as_str()),
        address,
        ..Default::default()
    };
    audit::insert(conn, app.now(), entry).await
}

/// Deletes those long past, some at a time.
pub async fn prune(conn: &mut Conn, now: Millis, kept: Duration) -> Result<u64> {
    let deleted = sqlx::query(
        "DELETE FROM account_links WHERE id IN (SELECT id FROM account_links WHERE expires_at < $1 LIMIT 500)",
    )
    .bind(now.minus(kept))
    .execute(conn)
    .await?;
    Ok(deleted.rows_affected())
}
