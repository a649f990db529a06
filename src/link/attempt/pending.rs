//! Attempts that wait for the person's yes.

use super::LIFE;
use crate::{
    db::{Conn, Millis},
    error::Result,
    member::session::Session,
    seal,
};

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
    pub shown_at: Option<Millis>,
    pub confirm_by: Millis,
    pub confirmed_at: Option<Millis>,
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
        "SELECT id, provider, purpose, line_user_id, ticket_id, created_at, used_at, shown_at, confirm_by, confirmed_at
         FROM attempts
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
        "SELECT id, provider, purpose, line_user_id, ticket_id, created_at, used_at, shown_at, confirm_by, confirmed_at
         FROM attempts
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
        "SELECT id, provider, purpose, line_user_id, ticket_id, created_at, used_at, shown_at, confirm_by, confirmed_at
         FROM attempts
         WHERE id = $1 AND purpose = 'sign_in' AND browser_hash = $2 AND confirm_by IS NOT NULL",
    )
    .bind(id)
    .bind(seal::hash(browser))
    .fetch_optional(conn)
    .await?;
    Ok(found)
}

/// Whether this browser's attempt ended with a link, whoever is signed in by now.
pub async fn is_linked_here(conn: &mut Conn, id: &str, browser: &str) -> Result<bool> {
    if !is_id(id) {
        return Ok(false);
    }
    let found: Option<String> =
        sqlx::query_scalar("SELECT id FROM attempts WHERE id = $1 AND browser_hash = $2 AND outcome = 'linked'")
            .bind(id)
            .bind(seal::hash(browser))
            .fetch_optional(conn)
            .await?;
    Ok(found.is_some())
}

/// Notes that the page which asks was shown, for support. The page is shown also where nothing can be written.
pub async fn note_shown(conn: &mut Conn, now: Millis, pending: &Pending) {
    if pending.shown_at.is_some() {
        return;
    }
    let noted = sqlx::query("UPDATE attempts SET shown_at = $1 WHERE id = $2 AND shown_at IS NULL")
        .bind(now)
        .bind(&pending.id)
        .execute(conn)
        .await;
    if let Err(error) = noted {
        tracing::warn!(%error, "not kept that the page was shown");
    }
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
