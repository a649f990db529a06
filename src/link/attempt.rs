//! Attempts (table `attempts`): one try to sign in or link through LINE, used once, for ten minutes.
//!
//! State and nonce are stored as hashes, the PKCE verifier sealed. An attempt belongs to a browser (its
//! cookie); one to link also to a member and the lineage of their session, one by a ticket to that and its member.
//!
//! Anybody may start one, so they are counted: per address, and those without an answer in all.

use std::time::Duration;

use super::{Purpose, refusal::Cause, ticket::Ticket};
use crate::{
    app::App,
    db::{Conn, Millis},
    error::{Error, Result},
    member::session::Session,
    seal,
    web::visit::network,
};

/// From the start to the callback, and again from the callback to the yes.
pub const LIFE: Duration = Duration::from_secs(10 * 60);

/// Starts from one address within [`LIFE`].
pub const PER_ADDRESS: i64 = 30;
/// Attempts that wait for their answer, in all.
pub const UNUSED_AT_MOST: i64 = 10_000;

/// An attempt to be.
#[derive(Debug)]
pub struct New<'a> {
    pub provider: &'a str,
    pub purpose: Purpose,
    /// The member's session, for an attempt to link.
    pub session: Option<&'a Session>,
    /// For one by a ticket.
    pub ticket: Option<&'a Ticket>,
    /// The attempt cookie's value.
    pub browser: &'a str,
    pub return_to: &'a str,
    pub address: &'a str,
}

/// The secrets of a new attempt, for LINE's authorize URL.
pub struct Secrets {
    pub state: String,
    pub nonce: String,
    pub verifier: String,
}

/// An attempt taken at its callback.
#[derive(Debug, sqlx::FromRow)]
pub struct Attempt {
    pub id: String,
    pub provider: String,
    pub purpose: String,
    pub nonce_hash: String,
    pub sealed_verifier: String,
    pub browser_hash: String,
    pub member_id: Option<String>,
    pub lineage_id: Option<String>,
    pub ticket_id: Option<String>,
    pub return_to: String,
    pub created_at: Millis,
    pub used_at: Millis,
    pub expires_at: Millis,
}

/// A link that waits for the person's yes.
#[derive(Debug, sqlx::FromRow)]
pub struct Pending {
    pub id: String,
    pub provider: String,
    pub purpose: String,
    pub line_user_id: String,
    pub ticket_id: Option<String>,
    pub created_at: Millis,
    pub used_at: Millis,
    pub confirm_by: Millis,
    pub confirmed_at: Option<Millis>,
}

/// Makes an attempt, unless too many came from its address. Run in a transaction of its own.
pub async fn insert(conn: &mut Conn, app: &App, new: &New<'_>) -> Result<Secrets> {
    let secrets = Secrets { state: app.random_token()?, nonce: app.random_token()?, verifier: app.random_token()? };
    let (id, now, address) = (app.new_id(), app.now(), network(new.address));
    if count_of_address(conn, now, &address).await? >= PER_ADDRESS {
        return Err(Error::TooMany { seconds: LIFE.as_secs() });
    }
    make_room(conn, now).await?;
    let member_id = new.session.map(|session| &session.member_id).or(new.ticket.map(|ticket| &ticket.member_id));
    sqlx::query(
        "INSERT INTO attempts (id, state_hash, provider, purpose, nonce_hash, sealed_verifier, browser_hash, address,
           member_id, lineage_id, ticket_id, return_to, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
    )
    .bind(&id)
    .bind(seal::hash(&secrets.state))
    .bind(new.provider)
    .bind(new.purpose.word())
    .bind(seal::hash(&secrets.nonce))
    .bind(app.sealer.seal(&context(&id), secrets.verifier.as_bytes())?)
    .bind(seal::hash(new.browser))
    .bind(address)
    .bind(member_id)
    .bind(new.session.map(|session| &session.lineage_id))
    .bind(new.ticket.map(|ticket| &ticket.id))
    .bind(new.return_to)
    .bind(now)
    .bind(now.plus(LIFE))
    .execute(conn)
    .await?;
    Ok(secrets)
}

async fn count_of_address(conn: &mut Conn, now: Millis, address: &str) -> Result<i64> {
    let count =
        sqlx::query_scalar("SELECT CAST(COUNT(*) AS BIGINT) FROM attempts WHERE address = $1 AND created_at > $2")
            .bind(address)
            .bind(now.minus(LIFE))
            .fetch_one(conn)
            .await?;
    Ok(count)
}

/// Keeps the unused attempts below their number. Expired ones go first, then the oldest of the address that
/// holds most: a flood makes room for itself, and one person's attempt is among the last to go.
async fn make_room(conn: &mut Conn, now: Millis) -> Result<()> {
    let unused: i64 = sqlx::query_scalar("SELECT CAST(COUNT(*) AS BIGINT) FROM attempts WHERE used_at IS NULL")
        .fetch_one(&mut *conn)
        .await?;
    if unused < UNUSED_AT_MOST {
        return Ok(());
    }
    sqlx::query(
        "DELETE FROM attempts WHERE id IN (
           SELECT id FROM (
             SELECT id, created_at, CASE WHEN expires_at > $1 THEN 1 ELSE 0 END AS live,
               ROW_NUMBER() OVER (PARTITION BY address ORDER BY created_at DESC, id DESC) AS place
             FROM attempts WHERE used_at IS NULL) AS ranked
           ORDER BY live, place DESC, created_at, id LIMIT $2) AND used_at IS NULL",
    )
    .bind(now)
    .bind(unused - UNUSED_AT_MOST + UNUSED_AT_MOST / 20)
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes the attempt of a state: the first caller gets it, everyone after is told that it was used.
pub async fn take(conn: &mut Conn, now: Millis, state: &str) -> Result<Result<Attempt, Cause>> {
    let taken: Option<Attempt> = sqlx::query_as(
        "UPDATE attempts SET used_at = $1 WHERE state_hash = $2 AND used_at IS NULL
         RETURNING id, provider, purpose, nonce_hash, sealed_verifier, browser_hash, member_id, lineage_id,
           ticket_id, return_to, created_at, used_at, expires_at",
    )
    .bind(now)
    .bind(seal::hash(state))
    .fetch_optional(&mut *conn)
    .await?;
    if let Some(attempt) = taken {
        forget_link_token(conn, &attempt).await?;
        return Ok(Ok(attempt));
    }
    let known: Option<String> = sqlx::query_scalar("SELECT id FROM attempts WHERE state_hash = $1")
        .bind(seal::hash(state))
        .fetch_optional(conn)
        .await?;
    Ok(Err(if known.is_some() { Cause::StateUsed } else { Cause::StateUnknown }))
}

/// A page to return to may have one of LINE's link tokens in its address: it is not kept with what is used.
async fn forget_link_token(conn: &mut Conn, attempt: &Attempt) -> Result<()> {
    if attempt.return_to.starts_with("/account-link") {
        sqlx::query("UPDATE attempts SET return_to = '/account' WHERE id = $1").bind(&attempt.id).execute(conn).await?;
    }
    Ok(())
}

/// What the last attempt of this browser was for.
pub struct Last {
    pub purpose: Purpose,
    pub return_to: String,
    pub ticket_id: Option<String>,
}

pub async fn find_last(conn: &mut Conn, now: Millis, browser_hash: &str) -> Result<Option<Last>> {
    let found: Option<(String, String, Option<String>)> = sqlx::query_as(
        "SELECT purpose, return_to, ticket_id FROM attempts WHERE browser_hash = $1 AND expires_at > $2
         ORDER BY created_at DESC LIMIT 1",
    )
    .bind(browser_hash)
    .bind(now)
    .fetch_optional(conn)
    .await?;
    Ok(found.and_then(|(purpose, return_to, ticket_id)| {
        Some(Last { purpose: Purpose::of_word(&purpose)?, return_to, ticket_id })
    }))
}

/// Records how an attempt ended, for those who look into one.
pub async fn set_outcome(conn: &mut Conn, id: &str, outcome: &str) -> Result<()> {
    sqlx::query("UPDATE attempts SET outcome = $1 WHERE id = $2").bind(outcome).bind(id).execute(conn).await?;
    Ok(())
}

/// Keeps what became of LINE's option to add the official account on the way, where it was shown.
pub async fn set_added_friend(conn: &mut Conn, id: &str, added: bool) -> Result<()> {
    sqlx::query("UPDATE attempts SET friend = $1 WHERE id = $2")
        .bind(if added { "added" } else { "not_added" })
        .bind(id)
        .execute(conn)
        .await?;
    Ok(())
}

/// From here on the attempt waits for the person's yes.
pub async fn await_confirm(conn: &mut Conn, now: Millis, id: &str, line_user_id: &str) -> Result<()> {
    sqlx::query("UPDATE attempts SET line_user_id = $1, confirm_by = $2, outcome = 'confirming' WHERE id = $3")
        .bind(line_user_id)
        .bind(now.plus(LIFE))
        .bind(id)
        .execute(conn)
        .await?;
    Ok(())
}

/// The pending link of this very member, session and browser; anyone else's is not found.
pub async fn find_pending(conn: &mut Conn, id: &str, session: &Session, browser: &str) -> Result<Option<Pending>> {
    if !is_id(id) {
        return Ok(None);
    }
    let found = sqlx::query_as(
        "SELECT id, provider, purpose, line_user_id, ticket_id, created_at, used_at, confirm_by, confirmed_at FROM attempts
         WHERE id = $1 AND member_id = $2 AND lineage_id = $3 AND browser_hash = $4 AND confirm_by IS NOT NULL",
    )
    .bind(id)
    .bind(&session.member_id)
    .bind(&session.lineage_id)
    .bind(seal::hash(browser))
    .fetch_optional(conn)
    .await?;
    Ok(found)
}

/// The pending link by a ticket that was begun in this very browser.
pub async fn find_pending_by_ticket(conn: &mut Conn, id: &str, browser: &str) -> Result<Option<Pending>> {
    if !is_id(id) {
        return Ok(None);
    }
    let found = sqlx::query_as(
        "SELECT id, provider, purpose, line_user_id, ticket_id, created_at, used_at, confirm_by, confirmed_at FROM attempts
         WHERE id = $1 AND ticket_id IS NOT NULL AND browser_hash = $2 AND confirm_by IS NOT NULL",
    )
    .bind(id)
    .bind(seal::hash(browser))
    .fetch_optional(conn)
    .await?;
    Ok(found)
}

/// An imported link that waits for the yes of whoever signs in with LINE in this very browser.
pub async fn find_pending_import(conn: &mut Conn, id: &str, browser: &str) -> Result<Option<Pending>> {
    if !is_id(id) {
        return Ok(None);
    }
    let found = sqlx::query_as(
        "SELECT id, provider, purpose, line_user_id, ticket_id, created_at, used_at, confirm_by, confirmed_at FROM attempts
         WHERE id = $1 AND purpose = 'sign_in' AND browser_hash = $2 AND confirm_by IS NOT NULL",
    )
    .bind(id)
    .bind(seal::hash(browser))
    .fetch_optional(conn)
    .await?;
    Ok(found)
}

/// An id is sent by anyone: what is none of ours is not asked for (PostgreSQL takes no NUL at all).
fn is_id(id: &str) -> bool {
    id.len() == 36 && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Takes the yes or the no, once.
pub async fn answer(conn: &mut Conn, now: Millis, id: &str, outcome: &str) -> Result<bool> {
    let taken = sqlx::query(
        "UPDATE attempts SET confirmed_at = $1, outcome = $2
         WHERE id = $3 AND confirmed_at IS NULL AND confirm_by > $1 AND outcome = 'confirming'",
    )
    .bind(now)
    .bind(outcome)
    .bind(id)
    .execute(conn)
    .await?;
    Ok(taken.rows_affected() == 1)
}

/// Records that nobody answered. Waits for an answer that is being written, so that its grant is seen as the
/// link's afterwards.
pub async fn abandon(conn: &mut Conn, id: &str) -> Result<()> {
    sqlx::query("UPDATE attempts SET outcome = 'abandoned' WHERE id = $1 AND confirmed_at IS NULL")
        .bind(id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Deletes attempts long past, some at a time; and the link tokens of those that nobody came back from.
pub async fn prune(conn: &mut Conn, now: Millis) -> Result<u64> {
    sqlx::query(
        "UPDATE attempts SET return_to = '/account'
         WHERE used_at IS NULL AND expires_at < $1 AND return_to LIKE '/account-link%'",
    )
    .bind(now)
    .execute(&mut *conn)
    .await?;
    let deleted =
        sqlx::query("DELETE FROM attempts WHERE id IN (SELECT id FROM attempts WHERE expires_at < $1 LIMIT 500)")
            .bind(now.minus(Duration::from_secs(30 * 24 * 3600)))
            .execute(conn)
            .await?;
    Ok(deleted.rows_affected())
}

/// The row that a sealed verifier belongs to.
pub fn context(id: &str) -> String {
    format!("attempt:{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l18_one_holder_is_one_network() {
        for (address, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
            ("::1", "0:0:0:0::/64"),
            ("", ""),
            ("unix", ""),
        ] {
            assert_eq!(network(address), expected, "{address}");
        }
    }
}
