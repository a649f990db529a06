//! Attempts (table `oidc_attempts`): one try to sign in at the company's provider, used once, for ten minutes.
//!
//! State and nonce are stored as hashes, the PKCE verifier sealed. An attempt belongs to a browser (its cookie); one to
//! prove oneself again also to a member and the lineage of their session. They are counted as those of LINE are
//! (`link::attempt`): per address, and those without an answer in all.

use std::time::Duration;

use super::{Purpose, refusal::Cause};
use crate::{
    app::App,
    db::{Conn, Millis},
    error::{Error, Result},
    member::session::Session,
    seal,
    web::visit::network,
};

/// From the start to the callback.
pub const LIFE: Duration = Duration::from_secs(10 * 60);
/// What is over is kept so long, for a return that comes late.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Starts from one address within [`LIFE`].
const PER_ADDRESS: i64 = 30;
/// Attempts that wait for their answer, in all.
const UNUSED_AT_MOST: i64 = 10_000;

/// An attempt to be.
#[derive(Debug)]
pub struct New<'a> {
    pub purpose: Purpose,
    /// Whose proof is wanted.
    pub session: Option<&'a Session>,
    /// The attempt cookie's value.
    pub browser: &'a str,
    pub return_to: &'a str,
    pub address: &'a str,
}

/// The secrets of a new attempt, for the authorization request.
pub struct Secrets {
    pub state: String,
    pub nonce: String,
    pub verifier: String,
}

/// An attempt taken at its callback.
#[derive(Debug, sqlx::FromRow)]
pub struct Attempt {
    pub id: String,
    pub purpose: String,
    pub nonce_hash: String,
    pub sealed_verifier: String,
    pub browser_hash: String,
    pub member_id: Option<String>,
    pub lineage_id: Option<String>,
    pub return_to: String,
    pub created_at: Millis,
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
    sqlx::query(
        "INSERT INTO oidc_attempts (id, state_hash, purpose, nonce_hash, sealed_verifier, browser_hash, address,
           member_id, lineage_id, return_to, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(&id)
    .bind(seal::hash(&secrets.state))
    .bind(new.purpose.word())
    .bind(seal::hash(&secrets.nonce))
    .bind(app.sealer.seal(&context(&id), secrets.verifier.as_bytes())?)
    .bind(seal::hash(new.browser))
    .bind(address)
    .bind(new.session.map(|session| &session.member_id))
    .bind(new.session.map(|session| &session.lineage_id))
    .bind(new.return_to)
    .bind(now)
    .bind(now.plus(LIFE))
    .execute(conn)
    .await?;
    Ok(secrets)
}

async fn count_of_address(conn: &mut Conn, now: Millis, address: &str) -> Result<i64> {
    let count =
        sqlx::query_scalar("SELECT CAST(COUNT(*) AS BIGINT) FROM oidc_attempts WHERE address = $1 AND created_at > $2")
            .bind(address)
            .bind(now.minus(LIFE))
            .fetch_one(conn)
            .await?;
    Ok(count)
}

/// Keeps the unused attempts below their number: expired ones go first, then the oldest of the address that holds most.
async fn make_room(conn: &mut Conn, now: Millis) -> Result<()> {
    let unused: i64 = sqlx::query_scalar("SELECT CAST(COUNT(*) AS BIGINT) FROM oidc_attempts WHERE used_at IS NULL")
        .fetch_one(&mut *conn)
        .await?;
    if unused < UNUSED_AT_MOST {
        return Ok(());
    }
    sqlx::query(
        "DELETE FROM oidc_attempts WHERE id IN (
           SELECT id FROM (
             SELECT id, created_at, CASE WHEN expires_at > $1 THEN 1 ELSE 0 END AS live,
               ROW_NUMBER() OVER (PARTITION BY address ORDER BY created_at DESC, id DESC) AS place
             FROM oidc_attempts WHERE used_at IS NULL) AS ranked
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
        "UPDATE oidc_attempts SET used_at = $1 WHERE state_hash = $2 AND used_at IS NULL
         RETURNING id, purpose, nonce_hash, sealed_verifier, browser_hash, member_id, lineage_id, return_to, created_at,
           expires_at",
    )
    .bind(now)
    .bind(seal::hash(state))
    .fetch_optional(&mut *conn)
    .await?;
    if let Some(attempt) = taken {
        return Ok(Ok(attempt));
    }
    let known: Option<String> = sqlx::query_scalar("SELECT id FROM oidc_attempts WHERE state_hash = $1")
        .bind(seal::hash(state))
        .fetch_optional(conn)
        .await?;
    Ok(Err(if known.is_some() { Cause::StateUsed } else { Cause::StateUnknown }))
}

/// Records how an attempt ended, for those who look into one.
pub async fn set_outcome(conn: &mut Conn, id: &str, outcome: &str) -> Result<()> {
    sqlx::query("UPDATE oidc_attempts SET outcome = $1 WHERE id = $2").bind(outcome).bind(id).execute(conn).await?;
    Ok(())
}

/// Deletes attempts long past, some at a time.
pub async fn prune(conn: &mut Conn, now: Millis) -> Result<u64> {
    let deleted = sqlx::query(
        "DELETE FROM oidc_attempts WHERE id IN (SELECT id FROM oidc_attempts WHERE expires_at < $1 LIMIT 500)",
    )
    .bind(now.minus(KEPT))
    .execute(conn)
    .await?;
    Ok(deleted.rows_affected())
}

/// The row that a sealed verifier belongs to.
pub fn context(id: &str) -> String {
    format!("oidc_attempt:{id}")
}
