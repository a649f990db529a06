//! Attempts (table `attempts`): one try to sign in or link through LINE, used once, for ten minutes.
//!
//! State and nonce are stored as hashes, the PKCE verifier sealed. An attempt belongs to a browser (its
//! cookie); one to link also to a member and the lineage of their session, one by a ticket to that and its member.
//!
//! Anybody may start one, so they are counted ([`limit`]). What is over stays for support ([`command`]), without its
//! secrets, for a while ([`prune`](mod@prune)).

pub mod command;
pub mod limit;
mod pending;
pub mod prune;
pub(super) mod told;

use std::time::Duration;

use self::limit::{count_of_address, make_room};
pub use self::{
    limit::{PER_ADDRESS, UNUSED_AT_MOST},
    pending::{
        Pending, abandon, answer, await_confirm, find_pending, find_pending_by_ticket, find_pending_import,
        is_linked_here, note_shown,
    },
};

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
    pub user_agent: &'a str,
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
    pub member_id: Option<String>,
    pub lineage_id: Option<String>,
    pub ticket_id: Option<String>,
    pub return_to: String,
    pub created_at: Millis,
    pub used_at: Millis,
    pub expires_at: Millis,
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
           member_id, lineage_id, ticket_id, return_to, created_at, expires_at, user_agent)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
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
    .bind(new.user_agent)
    .execute(conn)
    .await?;
    Ok(secrets)
}

/// The browser that a callback came to.
#[derive(Debug, Clone, Copy)]
pub struct Browser<'a> {
    /// Of the attempt cookie.
    pub hash: &'a str,
    pub user_agent: &'a str,
}

/// What a callback's state is of.
#[derive(Debug)]
pub enum Found {
    /// This browser's, and used from now on.
    Taken(Attempt),
    /// No longer to be taken, or not here.
    Known(Cause, Known),
    Unknown,
}

/// An attempt as it is found where it is not taken.
#[derive(Debug, sqlx::FromRow)]
pub struct Known {
    pub id: String,
    pub purpose: String,
    pub browser_hash: String,
    pub ticket_id: Option<String>,
    pub return_to: String,
    pub used_at: Option<Millis>,
    pub expires_at: Millis,
    pub outcome: Option<String>,
}

/// Takes the attempt of a state: the first callback in its browser gets it, every one after is told that it was used. One
/// in another browser takes nothing: LINE's app may open the address first, and the browser that started afterwards.
pub async fn take(conn: &mut Conn, now: Millis, state: &str, browser: Browser<'_>) -> Result<Found> {
    let taken: Option<Attempt> = sqlx::query_as(
        "UPDATE attempts SET used_at = $1, returned_at = $1, returned_agent = $4, outcome = NULL
         WHERE state_hash = $2 AND browser_hash = $3 AND used_at IS NULL
         RETURNING id, provider, purpose, nonce_hash, sealed_verifier, member_id, lineage_id, ticket_id, return_to,
           created_at, used_at, expires_at",
    )
    .bind(now)
    .bind(seal::hash(state))
    .bind(browser.hash)
    .bind(browser.user_agent)
    .fetch_optional(&mut *conn)
    .await?;
    if let Some(attempt) = taken {
        forget_link_token(conn, &attempt).await?;
        return Ok(Found::Taken(attempt));
    }
    let known: Option<Known> = sqlx::query_as(
        "SELECT id, purpose, browser_hash, ticket_id, return_to, used_at, expires_at, outcome
         FROM attempts WHERE state_hash = $1",
    )
    .bind(seal::hash(state))
    .fetch_optional(conn)
    .await?;
    let Some(known) = known else { return Ok(Found::Unknown) };
    let cause = match &known {
        Known { used_at: Some(_), .. } => Cause::StateUsed,
        Known { expires_at, .. } if now >= *expires_at => Cause::StateExpired,
        Known { .. } => Cause::StateUnbound,
    };
    Ok(Found::Known(cause, known))
}

/// A page to return to may have one of LINE's link tokens in its address: it is not kept with what is used.
async fn forget_link_token(conn: &mut Conn, attempt: &Attempt) -> Result<()> {
    if attempt.return_to.starts_with("/account-link") {
        sqlx::query("UPDATE attempts SET return_to = '/account' WHERE id = $1").bind(&attempt.id).execute(conn).await?;
    }
    Ok(())
}

/// What the last attempt of this browser was for that is not done.
pub struct Last {
    pub id: String,
    pub purpose: Purpose,
    pub return_to: String,
    pub ticket_id: Option<String>,
}

pub async fn find_last(conn: &mut Conn, now: Millis, browser_hash: &str) -> Result<Option<Last>> {
    let found: Option<(String, String, String, Option<String>)> = sqlx::query_as(
        "SELECT id, purpose, return_to, ticket_id FROM attempts
         WHERE browser_hash = $1 AND expires_at > $2 AND COALESCE(outcome, '') NOT IN ('linked', 'signed_in')
         ORDER BY created_at DESC LIMIT 1",
    )
    .bind(browser_hash)
    .bind(now)
    .fetch_optional(conn)
    .await?;
    Ok(found.and_then(|(id, purpose, return_to, ticket_id)| {
        Some(Last { id, purpose: Purpose::of_word(&purpose)?, return_to, ticket_id })
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

/// Records why LINE's answer was refused where that used nothing up: the attempt may still come to its end.
pub async fn note_return(conn: &mut Conn, now: Millis, id: &str, outcome: &str, user_agent: &str) -> Result<()> {
    sqlx::query(
        "UPDATE attempts SET outcome = $1, returned_at = $2, returned_agent = $3 WHERE id = $4 AND used_at IS NULL",
    )
    .bind(outcome)
    .bind(now)
    .bind(user_agent)
    .bind(id)
    .execute(conn)
    .await?;
    Ok(())
}

/// Records whom LINE proved, and which member that LINE user is of.
pub async fn set_person(conn: &mut Conn, id: &str, line_user_id: &str, member_id: Option<&str>) -> Result<()> {
    sqlx::query("UPDATE attempts SET line_user_id = $1, member_id = COALESCE(member_id, $2) WHERE id = $3")
        .bind(line_user_id)
        .bind(member_id)
        .bind(id)
        .execute(conn)
        .await?;
    Ok(())
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
