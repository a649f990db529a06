//! What follows from a proof: one transaction that signs in, waits for a yes, or says why not.

use axum::response::{IntoResponse, Redirect, Response};

use super::{
    Decision, Owner, Purpose,
    attempt::{self, Attempt},
    callback::Arrival,
    decide, find_active, find_owner,
    grant::{self, Holder, Kind},
    hold_owner, permission,
    proof::Proof,
    refusal::{Cause, Restart},
    tell,
    yes::call_off_clean_up,
};
use crate::{
    app::App,
    audit,
    db::{Conn, Millis, Tx},
    error::Result,
    line::id_token::Identity,
    line_user::{self, Friend, Profile, profile},
    member::{
        self,
        session::{self, Method},
    },
    queue::{self, Job},
    web::cookie,
};

/// Does what [`decide`] says, in a transaction that the caller commits; then the answer holds.
pub async fn follow(
    arrival: &Arrival,
    attempt: &Attempt,
    restart: &Restart,
    proof: &Proof,
) -> Result<(Tx, Result<Response>)> {
    let (app, now) = (&arrival.app, arrival.app.now());
    let provider = restart.provider.as_str();
    let mut tx = app.db.begin().await?;
    let line_user_id = keep_line_user(&mut tx, app, now, provider, &proof.identity, proof.friend).await?;
    if let Some(added) = proof.added_friend {
        attempt::set_added_friend(&mut tx, &attempt.id, added).await?;
    }
    if let Some(owner) = find_owner(&mut tx, &line_user_id).await? {
        // The member before the link, as everybody does who ends links.
        member::hold(&mut tx, &app.db, &owner.member_id).await?;
    }
    let owner = hold_owner(&mut tx, &app.db, &line_user_id).await?;
    let owner_id = owner.as_ref().map(|owner| owner.member_id.clone());
    attempt::set_person(&mut tx, &attempt.id, &line_user_id, owner_id.as_deref()).await?;
    let member_id = match restart.purpose {
        Purpose::Ticket => attempt.member_id.as_deref(),
        Purpose::SignIn | Purpose::Link => arrival.session.as_ref().map(|session| session.member_id.as_str()),
    };
    let has_other = match member_id {
        Some(member_id) => find_active(&mut tx, member_id, provider).await?.is_some(),
        None => false,
    };
    let decision = decide(restart.purpose, member_id, owner, has_other);
    if let Decision::SignIn(owner) = &decision
        && !renew_permission(&mut tx, app, attempt, owner, &line_user_id).await?
    {
        tx.rollback().await?;
        return turn_away(arrival, attempt, restart, proof, owner).await;
    }
    let holder = match &decision {
        Decision::SignIn(owner) => Holder::Link(&owner.link_id),
        _ => Holder::Attempt(&attempt.id),
    };
    keep_tokens(&mut tx, app, provider, &line_user_id, holder, proof).await?;
    let answer = match &decision {
        Decision::SignIn(owner) => Ok(sign_in(&mut tx, arrival, attempt, owner, &proof.grant_id).await?),
        Decision::Confirm => Ok(ask(&mut tx, now, attempt, &line_user_id, "/link/confirm").await?),
        Decision::ConfirmImported(_) => Ok(ask(&mut tx, now, attempt, &line_user_id, "/link/imported").await?),
        Decision::OfferToLink | Decision::OfferToSignUp => {
            Ok(Redirect::to(&format!("/line/not-linked?provider={provider}")).into_response())
        }
        Decision::Unavailable => Err(Cause::Unavailable),
        Decision::AlreadyYours => Err(Cause::AlreadyYours),
        Decision::MemberHasAnother => Err(Cause::ConflictMember),
        Decision::OwnedByAnother(owner) => {
            tell::owner(&mut tx, app, provider, &line_user_id, owner, None).await?;
            Err(Cause::ConflictLine)
        }
    };
    if !matches!(decision, Decision::SignIn(_) | Decision::Confirm | Decision::ConfirmImported(_)) {
        // Nothing came of it: LINE's tokens are given back.
        queue::enqueue(&mut tx, now, now, &Job::RevokeGrant { grant_id: proof.grant_id.clone() }).await?;
        attempt::set_outcome(&mut tx, &attempt.id, "not_linked").await?;
    }
    let answer = match answer {
        Ok(answer) => Ok(answer),
        Err(cause) => Err(arrival.record(&mut tx, Some(&attempt.id), cause, restart).await?),
    };
    Ok((tx, answer))
}

/// Signing in gives the permission, also where it was withdrawn before, or never asked for. A former link's clean-up would
/// take it away again, so that is called off; false where it cannot be, and nothing of the transaction may stay.
async fn renew_permission(
    conn: &mut Conn,
    app: &App,
    attempt: &Attempt,
    owner: &Owner,
    line_user_id: &str,
) -> Result<bool> {
    if !permission::set(conn, &owner.link_id, "given").await? {
        return Ok(true);
    }
    Ok(call_off_clean_up(conn, app, app.now(), line_user_id, attempt.used_at).await?.is_none())
}

/// Signs nobody in while a former link's permission is being taken back; LINE's tokens are given back.
async fn turn_away(
    arrival: &Arrival,
    attempt: &Attempt,
    restart: &Restart,
    proof: &Proof,
    owner: &Owner,
) -> Result<(Tx, Result<Response>)> {
    let (app, now, provider) = (&arrival.app, arrival.app.now(), restart.provider.as_str());
    let mut tx = app.db.begin().await?;
    let line_user_id = keep_line_user(&mut tx, app, now, provider, &proof.identity, proof.friend).await?;
    keep_tokens(&mut tx, app, provider, &line_user_id, Holder::Attempt(&attempt.id), proof).await?;
    attempt::set_person(&mut tx, &attempt.id, &line_user_id, Some(&owner.member_id)).await?;
    queue::enqueue(&mut tx, now, now, &Job::RevokeGrant { grant_id: proof.grant_id.clone() }).await?;
    let refusal = arrival.record(&mut tx, Some(&attempt.id), Cause::Busy, restart).await?;
    Ok((tx, Err(refusal)))
}

/// After a commit whose answer was lost: the tokens go back to LINE, unless the commit took place after all. Writing
/// the same grant waits for a transaction that is still open, so that it is the one or the other.
pub async fn revoke_unless_kept(app: &App, attempt_id: &str, provider: &str, proof: &Proof) -> Result<()> {
    let now = app.now();
    let mut tx = app.db.begin().await?;
    let line_user_id = keep_line_user(&mut tx, app, now, provider, &proof.identity, proof.friend).await?;
    if keep_tokens(&mut tx, app, provider, &line_user_id, Holder::Attempt(attempt_id), proof).await? {
        queue::enqueue(&mut tx, now, now, &Job::RevokeGrant { grant_id: proof.grant_id.clone() }).await?;
        tx.commit().await?;
        app.wake();
    }
    Ok(())
}

async fn keep_tokens(
    conn: &mut Conn,
    app: &App,
    provider: &str,
    line_user_id: &str,
    holder: Holder<'_>,
    proof: &Proof,
) -> Result<bool> {
    let new = grant::New {
        id: &proof.grant_id,
        provider,
        line_user_id,
        holder,
        kind: Kind::Web,
        tokens: &proof.tokens,
        expires_in: proof.expires_in,
    };
    grant::insert(conn, app, &new).await
}

pub(super) async fn keep_line_user(
    conn: &mut Conn,
    app: &App,
    now: Millis,
    provider: &str,
    identity: &Identity,
    friend: Friend,
) -> Result<String> {
    let login = app.config.provider.get(provider).and_then(|found| found.login.as_ref());
    let channel = login.and_then(|login| login.channel.as_deref());
    let id = match &identity.name {
        Some(name) => {
            let profile = Profile {
                user_id: identity.user_id.clone(),
                display_name: name.clone(),
                picture_url: identity.picture.clone(),
                language: None,
            };
            line_user::upsert(conn, now, provider, &profile).await?
        }
        None => keep_nameless(conn, app, now, provider, &identity.user_id, channel).await?,
    };
    if let (Some(channel), false) = (channel, friend == Friend::Unknown) {
        line_user::set_friend(conn, now, &id, channel, friend).await?;
    }
    Ok(id)
}

/// LINE said who they are and nothing else, as it may of a LINE MINI App: the name that is known stays, and where it is
/// old or none, the official account may know it.
async fn keep_nameless(
    conn: &mut Conn,
    app: &App,
    now: Millis,
    provider: &str,
    user_id: &str,
    channel: Option<&str>,
) -> Result<String> {
    let id = line_user::meet(conn, now, provider, user_id).await?;
    line_user::lock(conn, &id).await?;
    if let Some(channel) = channel {
        profile::want(conn, app, &id, channel, profile::STALE).await?;
    }
    Ok(id)
}

/// Both accounts are proven: the attempt waits for the yes, and its tokens for whoever says it.
async fn ask(conn: &mut Conn, now: Millis, attempt: &Attempt, line_user_id: &str, page: &str) -> Result<Response> {
    attempt::await_confirm(conn, now, &attempt.id, line_user_id).await?;
    let abandon = Job::AbandonAttempt { attempt_id: attempt.id.clone() };
    queue::enqueue(conn, now, now.plus(attempt::LIFE), &abandon).await?;
    Ok(Redirect::to(&format!("{page}?attempt={}", attempt.id)).into_response())
}

/// Signs the owner in: a new session, and the newest tokens for the unlink one day.
async fn sign_in(
    conn: &mut Conn,
    arrival: &Arrival,
    attempt: &Attempt,
    owner: &Owner,
    grant: &str,
) -> Result<Response> {
    let (app, now) = (&arrival.app, arrival.app.now());
    let method = Method::Line { link_id: owner.link_id.clone() };
    let token =
        session::replace(conn, app, &arrival.visit, arrival.session.as_ref(), &owner.member_id, &method).await?;
    for former in grant::list_of_link(conn, &owner.link_id).await? {
        if former != grant {
            queue::enqueue_once(conn, now, now, &Job::RevokeGrant { grant_id: former }).await?;
        }
    }
    attempt::set_outcome(conn, &attempt.id, "signed_in").await?;
    let entry = audit::Entry {
        action: "signed_in",
        member_id: Some(&owner.member_id),
        subject: Some(&owner.link_id),
        provider: Some(&attempt.provider),
        address: Some(&arrival.visit.address),
        data: serde_json::json!({ "method": "line" }),
        ..Default::default()
    };
    audit::insert(conn, now, entry).await?;
    let target = if attempt.return_to == "/" { "/account" } else { attempt.return_to.as_str() };
    Ok((cookie::set(&app.config, cookie::SESSION, &token, None), Redirect::to(target)).into_response())
}
