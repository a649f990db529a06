//! What follows from a proof: one transaction that signs in, waits for a yes, or says why not.

use axum::response::{IntoResponse, Redirect, Response};

use super::{
    Decision, Owner,
    attempt::{self, Attempt},
    callback::Arrival,
    decide, find_active,
    grant::{self, Holder},
    hold_owner,
    proof::Proof,
    refusal::{Cause, Restart},
    tell,
};
use crate::{
    app::App,
    audit,
    db::{Conn, Millis},
    error::Result,
    line_user::{self, Friend, Profile},
    member::session::{self, Method},
    queue::{self, Job},
    web::cookie,
};

/// Does what [`decide`] says.
pub async fn follow(arrival: &Arrival, attempt: &Attempt, restart: &Restart, proof: &Proof) -> Result<Response> {
    let (app, now) = (&arrival.app, arrival.app.now());
    let provider = restart.provider.as_str();
    let mut tx = app.db.begin().await?;
    let line_user_id = keep_line_user(&mut tx, app, now, provider, proof).await?;
    let owner = hold_owner(&mut tx, &app.db, &line_user_id).await?;
    let member_id = arrival.session.as_ref().map(|session| session.member_id.as_str());
    let has_other = match member_id {
        Some(member_id) => find_active(&mut tx, member_id, provider).await?.is_some(),
        None => false,
    };
    let decision = decide(restart.purpose, member_id, owner, has_other);
    let holder = match &decision {
        Decision::SignIn(owner) => Holder::Link(&owner.link_id),
        _ => Holder::Attempt(&attempt.id),
    };
    let grant = grant::insert(&mut tx, app, provider, &line_user_id, holder, &proof.tokens, proof.expires_in).await?;
    let answer = match &decision {
        Decision::SignIn(owner) => Ok(sign_in(&mut tx, arrival, attempt, owner, &grant).await?),
        Decision::Confirm => Ok(ask(&mut tx, now, attempt, &line_user_id).await?),
        Decision::OfferToLink | Decision::OfferToSignUp => {
            Ok(Redirect::to(&format!("/line/not-linked?provider={provider}")).into_response())
        }
        Decision::Unavailable => Err(Cause::Unavailable),
        Decision::AlreadyYours => Err(Cause::AlreadyYours),
        Decision::MemberHasAnother => Err(Cause::ConflictMember),
        Decision::OwnedByAnother(owner) => {
            tell::owner(&mut tx, app, provider, &line_user_id, owner).await?;
            Err(Cause::ConflictLine)
        }
    };
    if !matches!(decision, Decision::SignIn(_) | Decision::Confirm) {
        // Nothing came of it: LINE's tokens are given back.
        queue::enqueue(&mut tx, now, now, &Job::RevokeGrant { grant_id: grant }).await?;
        attempt::set_outcome(&mut tx, &attempt.id, "not_linked").await?;
    }
    let answer = match answer {
        Ok(answer) => Ok(answer),
        Err(cause) => Err(arrival.record(&mut tx, Some(&attempt.id), cause, restart).await?),
    };
    tx.commit().await?;
    app.wake();
    answer
}

async fn keep_line_user(conn: &mut Conn, app: &App, now: Millis, provider: &str, proof: &Proof) -> Result<String> {
    let profile = Profile {
        user_id: proof.identity.user_id.clone(),
        display_name: proof.identity.name.clone().unwrap_or_default(),
        picture_url: proof.identity.picture.clone(),
    };
    let id = line_user::upsert(conn, now, provider, &profile).await?;
    let login = app.config.provider.get(provider).and_then(|found| found.login.as_ref());
    if let (Some(channel), false) = (login.and_then(|login| login.channel.as_ref()), proof.friend == Friend::Unknown) {
        line_user::set_friend(conn, now, &id, channel, proof.friend).await?;
    }
    Ok(id)
}

/// Both accounts are proven: the attempt waits for the yes, and its tokens for whoever says it.
async fn ask(conn: &mut Conn, now: Millis, attempt: &Attempt, line_user_id: &str) -> Result<Response> {
    attempt::await_confirm(conn, now, &attempt.id, line_user_id).await?;
    let abandon = Job::AbandonAttempt { attempt_id: attempt.id.clone() };
    queue::enqueue(conn, now, now.plus(attempt::LIFE), &abandon).await?;
    Ok(Redirect::to(&format!("/link/confirm?attempt={}", attempt.id)).into_response())
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
    if let Some(old) = &arrival.session {
        session::end(conn, &old.id_hash).await?;
    }
    let method = Method::Line { link_id: owner.link_id.clone() };
    let token = session::start(conn, app, &arrival.visit, &owner.member_id, &method).await?;
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
