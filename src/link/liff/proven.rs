//! A LINE user who proved to be one by LIFF, and of whom nobody is known yet: an attempt (table `attempts`) without a way
//! through LINE. In its browser, for its ten minutes, it serves one link: of whoever signs in, or holds a ticket.

use axum::response::{IntoResponse, Redirect, Response};

use crate::{
    app::App,
    audit,
    db::{Conn, Millis},
    error::Result,
    kill,
    link::{
        Decision, Purpose,
        attempt::{self, LIFE},
        decide, find_active, find_owner, hold_owner,
        refusal::{Cause, Restart},
        tell,
        ticket::{self, Ticket},
    },
    member::{self, session::Session},
    seal,
    web::visit::{Visit, network},
};

/// A proof to be kept, or what else came of a way in by LIFF.
pub(super) struct New<'a> {
    pub provider: &'a str,
    /// `liff`, or what the attempt is to be taken for.
    pub purpose: &'static str,
    pub browser_hash: &'a str,
    pub line_user_id: Option<&'a str>,
    pub member_id: Option<&'a str>,
    pub outcome: &'a str,
    pub visit: &'a Visit,
}

/// Who wants to link by it.
pub struct Claim<'a> {
    pub provider: &'a str,
    pub visit: &'a Visit,
    pub browser: &'a str,
    pub session: Option<&'a Session>,
    pub ticket: Option<&'a Ticket>,
}

#[derive(sqlx::FromRow)]
struct Proven {
    id: String,
    line_user_id: String,
}

/// Keeps an attempt that went by no state; gives its id.
pub(super) async fn insert(conn: &mut Conn, app: &App, new: &New<'_>) -> Result<String> {
    let (id, now) = (app.new_id(), app.now());
    sqlx::query(
        "INSERT INTO attempts (id, state_hash, provider, purpose, nonce_hash, sealed_verifier, browser_hash, address,
           return_to, created_at, used_at, expires_at, line_user_id, member_id, outcome, user_agent)
         VALUES ($1, $2, $3, $4, '', '', $5, $6, '/account', $7, $7, $8, $9, $10, $11, $12)",
    )
    .bind(&id)
    .bind(seal::hash(&app.random_token()?))
    .bind(new.provider)
    .bind(new.purpose)
    .bind(new.browser_hash)
    .bind(network(&new.visit.address))
    .bind(now)
    .bind(now.plus(LIFE))
    .bind(new.line_user_id)
    .bind(new.member_id)
    .bind(new.outcome)
    .bind(&new.visit.user_agent)
    .execute(conn)
    .await?;
    Ok(id)
}

/// Gives up what a browser holds for the sake of the proof with this id.
pub(super) async fn give_way(conn: &mut Conn, browser_hash: &str, provider: &str, id: &str) -> Result<()> {
    sqlx::query(
        "UPDATE attempts SET outcome = 'abandoned'
         WHERE browser_hash = $1 AND provider = $2 AND purpose = 'liff' AND outcome = 'proven' AND id <> $3",
    )
    .bind(browser_hash)
    .bind(provider)
    .bind(id)
    .execute(conn)
    .await?;
    Ok(())
}

/// Uses this browser's proof, if it holds one, in place of a way through LINE: on to the page that every link passes,
/// or why not.
pub async fn claim(app: &App, claim: &Claim<'_>) -> Result<Option<Response>> {
    let now = app.now();
    let mut tx = app.db.begin().await?;
    let Some(proven) = find(&mut tx, now, claim).await? else { return Ok(None) };
    if let Some(owner) = find_owner(&mut tx, &proven.line_user_id).await? {
        member::hold(&mut tx, &app.db, &owner.member_id).await?;
    }
    let owner = hold_owner(&mut tx, &app.db, &proven.line_user_id).await?;
    let (purpose, return_to) = match claim.ticket {
        Some(ticket) => (Purpose::Ticket, ticket.path(app)),
        None => (Purpose::Link, "/account".to_owned()),
    };
    let member_id = claim.member_id();
    let has_other = match member_id {
        Some(member_id) => find_active(&mut tx, member_id, claim.provider).await?.is_some(),
        None => false,
    };
    let cause = match decide(purpose, member_id, owner, has_other) {
        Decision::Confirm => {
            if !bind(&mut tx, claim, &proven.id).await? {
                return Ok(None);
            }
            if let Some(ticket) = claim.ticket {
                ticket::open(&mut tx, now, ticket, &claim.visit.address).await?;
            }
            kill::point("claim.recorded");
            tx.commit().await?;
            kill::point("claim.committed");
            return Ok(Some(Redirect::to(&format!("/link/confirm?attempt={}", proven.id)).into_response()));
        }
        Decision::AlreadyYours => Cause::AlreadyYours,
        Decision::MemberHasAnother => Cause::ConflictMember,
        Decision::OwnedByAnother(owner) => {
            tell::owner(&mut tx, app, claim.provider, &proven.line_user_id, &owner, None).await?;
            Cause::ConflictLine
        }
        Decision::SignIn(_)
        | Decision::ConfirmImported(_)
        | Decision::Unavailable
        | Decision::OfferToLink
        | Decision::OfferToSignUp => Cause::Unavailable,
    };
    let entry = audit::Entry {
        action: "line_refused",
        reason: Some(cause.reason()),
        member_id,
        subject: Some(&proven.id),
        provider: Some(claim.provider),
        address: Some(&claim.visit.address),
        ..Default::default()
    };
    audit::insert(&mut tx, now, entry).await?;
    attempt::set_outcome(&mut tx, &proven.id, cause.reason()).await?;
    tx.commit().await?;
    app.wake();
    Err(cause.refuse(&Restart::new(claim.provider, purpose, &return_to)))
}

impl Claim<'_> {
    fn member_id(&self) -> Option<&str> {
        let of_session = self.session.map(|session| session.member_id.as_str());
        self.ticket.map(|ticket| ticket.member_id.as_str()).or(of_session)
    }
}

/// The proof that this browser holds.
async fn find(conn: &mut Conn, now: Millis, claim: &Claim<'_>) -> Result<Option<Proven>> {
    let found = sqlx::query_as(
        "SELECT id, line_user_id FROM attempts
         WHERE browser_hash = $1 AND provider = $2 AND purpose = 'liff' AND outcome = 'proven' AND expires_at > $3
         ORDER BY created_at DESC, id DESC LIMIT 1",
    )
    .bind(seal::hash(claim.browser))
    .bind(claim.provider)
    .bind(now)
    .fetch_optional(conn)
    .await?;
    Ok(found)
}

/// From here on it waits for the yes, as long as the proof is fresh; false where another tab was quicker.
async fn bind(conn: &mut Conn, claim: &Claim<'_>, id: &str) -> Result<bool> {
    let bound = sqlx::query(
        "UPDATE attempts SET member_id = $1, lineage_id = $2, ticket_id = $3, confirm_by = expires_at,
           outcome = 'confirming'
         WHERE id = $4 AND outcome = 'proven'",
    )
    .bind(claim.member_id())
    .bind(claim.session.map(|session| &session.lineage_id))
    .bind(claim.ticket.map(|ticket| &ticket.id))
    .bind(id)
    .execute(conn)
    .await?;
    Ok(bound.rows_affected() == 1)
}
