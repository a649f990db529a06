//! LINE's answer: `GET /line/callback/{provider}`.
//!
//! The attempt is taken once and its binding checked before anything is asked of LINE; the code is exchanged
//! once; the ID token is verified here; then [`decide`] says what follows.

use std::time::Duration;

use axum::{
    extract::{Path, RawQuery, State},
    http::HeaderMap,
    response::{IntoResponse, Redirect, Response},
};
use url::form_urlencoded;

use super::{
    Decision, Purpose, attempt,
    attempt::Attempt,
    decide, find_active,
    grant::{self, Holder},
    hold_owner,
    refusal::{Cause, Restart},
    start::login_channel,
};
use crate::{
    app::App,
    audit,
    db::{Conn, Millis},
    error::{Error, Result},
    line::{
        ISSUER,
        id_token::{self, Expected, Identity},
        login::{LoginChannel, TokenReply, UserTokens},
    },
    line_user::{self, Friend, Profile},
    member::{
        guard::MaybeSession,
        session::{self, Method, Session},
    },
    queue::{self, Job},
    seal,
    web::{cookie, visit::Visit},
};

/// Longest parameter that is looked at; ours have 43 characters, LINE's codes are short.
const LONGEST: usize = 256;

/// `GET /line/callback/{provider}`
pub async fn arrive(
    State(app): State<App>,
    visit: Visit,
    MaybeSession(session): MaybeSession,
    Path(provider): Path<String>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    let arrival = Arrival { app: &app, visit: &visit, session: session.as_ref(), headers: &headers };
    let mut restart = Restart { provider: provider.clone(), purpose: Purpose::SignIn, return_to: "/".into() };
    login_channel(&app, &provider)?;
    match arrival.handle(&query.unwrap_or_default(), &mut restart).await {
        Ok(answer) => Ok(answer),
        Err(Stop::Error(error)) => Err(error),
        Err(Stop::Cause(cause, attempt_id)) => {
            let refusal = cause.refuse(&restart);
            arrival.record(&provider, attempt_id.as_deref(), &refusal).await?;
            Err(refusal)
        }
    }
}

/// Why a callback goes no further: a named cause (of an attempt, where there is one), or a failure of ours.
enum Stop {
    Cause(Cause, Option<String>),
    Error(Error),
}

impl<E: Into<Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// What LINE sent along.
#[derive(Default)]
struct Answer {
    code: Option<String>,
    state: Option<String>,
    error: Option<String>,
    iss: Option<String>,
}

struct Arrival<'a> {
    app: &'a App,
    visit: &'a Visit,
    session: Option<&'a Session>,
    headers: &'a HeaderMap,
}

/// A LINE user who just proved to be one.
struct Proof {
    identity: Identity,
    friend: Friend,
    tokens: UserTokens,
    expires_in: Duration,
}

impl Arrival<'_> {
    async fn handle(&self, query: &str, restart: &mut Restart) -> Result<Response, Stop> {
        let answer = parse(query).map_err(|cause| Stop::Cause(cause, None))?;
        let attempt = self.take(&answer, restart).await?;
        let stop = |cause| Stop::Cause(cause, Some(attempt.id.clone()));
        let code = match (answer.code, answer.error) {
            (Some(code), None) => code,
            (Some(_), Some(_)) => return Err(stop(Cause::CodeAndError)),
            // LINE's documents say upper case, others have seen lower.
            (None, Some(error)) if error.eq_ignore_ascii_case("access_denied") => return Err(stop(Cause::Denied)),
            (None, Some(error)) => {
                tracing::warn!(error = error.escape_debug().to_string(), "LINE refused to authorize");
                return Err(stop(Cause::LineError));
            }
            (None, None) => return Err(stop(Cause::BadQuery)),
        };
        let channel = login_channel(self.app, &restart.provider)?;
        let proof = self.prove(&channel, &attempt, &code).await.map_err(|stopped| match stopped {
            Ok(cause) => stop(cause),
            Err(error) => Stop::Error(error),
        })?;
        self.follow(&attempt, restart, proof).await
    }

    /// The attempt of this state, if it is of this browser, provider, time and session.
    async fn take(&self, answer: &Answer, restart: &mut Restart) -> Result<Attempt, Stop> {
        let Some(state) = &answer.state else { return Err(Stop::Cause(Cause::StateMissing, None)) };
        let now = self.app.now();
        let mut conn = self.app.db.conn().await?;
        let attempt = match attempt::take(&mut conn, now, state).await? {
            Ok(attempt) => attempt,
            Err(cause) => return Err(Stop::Cause(cause, None)),
        };
        drop(conn);
        restart.purpose = Purpose::of_word(&attempt.purpose).unwrap_or(Purpose::SignIn);
        restart.return_to.clone_from(&attempt.return_to);

        let browser = cookie::get(&self.app.config, self.headers, cookie::ATTEMPT).unwrap_or_default();
        let session = self.session.map(|session| (session.member_id.as_str(), session.lineage_id.as_str()));
        let started_by = attempt.member_id.as_deref().zip(attempt.lineage_id.as_deref());
        let cause = if attempt.provider != restart.provider {
            Some(Cause::OtherProvider)
        } else if !seal::equal(&seal::hash(&browser), &attempt.browser_hash) {
            Some(Cause::StateUnbound)
        } else if now >= attempt.expires_at {
            Some(Cause::StateExpired)
        } else if answer.iss.as_ref().is_some_and(|iss| iss != ISSUER) {
            Some(Cause::WrongIssuer)
        } else if restart.purpose == Purpose::Link && session != started_by {
            Some(Cause::SessionChanged)
        } else {
            None
        };
        match cause {
            Some(cause) => Err(Stop::Cause(cause, Some(attempt.id))),
            None => Ok(attempt),
        }
    }

    /// Exchanges the code and verifies who came. The error is a cause, or a failure of ours.
    async fn prove(
        &self,
        channel: &LoginChannel,
        attempt: &Attempt,
        code: &str,
    ) -> Result<Proof, Result<Cause, Error>> {
        let ours = |error: Error| Err(error);
        let verifier = self
            .app
            .sealer
            .open(&attempt::context(&attempt.id), &attempt.sealed_verifier)
            .map_err(|error| ours(error.into()))?;
        let verifier = String::from_utf8_lossy(&verifier).into_owned();
        let reply = self.app.line.exchange(channel, code, &verifier).await.map_err(|error| {
            tracing::warn!(%error, "the code was not exchanged");
            Ok(Cause::of_exchange(&error))
        })?;
        let identity = self.verify(channel, attempt, &reply).map_err(Ok)?;
        let identity = self.complete(identity, &reply.tokens).await.map_err(Ok)?;
        let friend = self.friend(&reply.tokens).await;
        Ok(Proof { identity, friend, tokens: reply.tokens, expires_in: reply.expires_in })
    }

    fn verify(&self, channel: &LoginChannel, attempt: &Attempt, reply: &TokenReply) -> Result<Identity, Cause> {
        let expected = Expected {
            channel_id: &channel.channel_id,
            secret: &channel.secret,
            nonce: &|nonce| seal::equal(&seal::hash(nonce), &attempt.nonce_hash),
            now: self.app.now().seconds(),
            started: attempt.created_at.seconds(),
            access_token: &reply.tokens.access_token,
        };
        id_token::verify_web(&reply.id_token, &expected).map_err(|rejection| {
            match rejection {
                id_token::Rejection::IssuedAt => {
                    tracing::error!("alarm: clock: LINE's ID token is from another time; check this machine's clock");
                }
                id_token::Rejection::ExpiryFar => tracing::error!("alarm: id_token: a signed ID token lives too long"),
                _ => {}
            }
            tracing::warn!(reason = rejection.reason(), "ID token refused");
            Cause::Token(rejection)
        })
    }

    /// The profile as it is now. It must name the same person; where LINE does not give it, the token's serves.
    async fn complete(&self, identity: Identity, tokens: &UserTokens) -> Result<Identity, Cause> {
        match self.app.line.profile(&tokens.access_token).await {
            Ok(profile) if profile.user_id != identity.user_id => Err(Cause::ProfileMismatch),
            Ok(profile) => Ok(Identity { name: Some(profile.display_name), picture: profile.picture_url, ..identity }),
            Err(error) => {
                tracing::warn!(%error, "no profile: the ID token's name serves");
                Ok(identity)
            }
        }
    }

    async fn friend(&self, tokens: &UserTokens) -> Friend {
        match self.app.line.is_friend(&tokens.access_token).await {
            Ok(true) => Friend::Yes,
            Ok(false) => Friend::No,
            Err(error) => {
                tracing::warn!(%error, "friendship not known");
                Friend::Unknown
            }
        }
    }

    /// Does what follows from the proof, in one transaction.
    async fn follow(&self, attempt: &Attempt, restart: &Restart, proof: Proof) -> Result<Response, Stop> {
        let (app, now) = (self.app, self.app.now());
        let provider = restart.provider.as_str();
        let mut tx = app.db.begin().await?;
        let line_user_id = keep_line_user(&mut tx, app, now, provider, &proof).await?;
        let owner = hold_owner(&mut tx, &app.db, &line_user_id).await?;
        let member_id = self.session.map(|session| session.member_id.as_str());
        let has_other = match member_id {
            Some(member_id) => find_active(&mut tx, member_id, provider).await?.is_some(),
            None => false,
        };
        let decision = decide(restart.purpose, member_id, owner, has_other);
        let holder = match &decision {
            Decision::SignIn(owner) => Holder::Link(&owner.link_id),
            _ => Holder::Attempt(&attempt.id),
        };
        let grant =
            grant::insert(&mut tx, app, provider, &line_user_id, holder, &proof.tokens, proof.expires_in).await?;
        let refused = match &decision {
            Decision::SignIn(owner) => {
                let answer = self.sign_in(&mut tx, attempt, owner, &grant).await?;
                tx.commit().await?;
                app.wake();
                return Ok(answer);
            }
            Decision::Confirm => {
                attempt::await_confirm(&mut tx, now, &attempt.id, &line_user_id).await?;
                let abandon = Job::AbandonAttempt { attempt_id: attempt.id.clone() };
                queue::enqueue(&mut tx, now, now.plus(attempt::LIFE), &abandon).await?;
                tx.commit().await?;
                return Ok(Redirect::to(&format!("/link/confirm?attempt={}", attempt.id)).into_response());
            }
            Decision::OfferToLink | Decision::OfferToSignUp => None,
            Decision::Unavailable => Some(Cause::Unavailable),
            Decision::AlreadyYours => Some(Cause::AlreadyYours),
            Decision::MemberHasAnother => Some(Cause::ConflictMember),
            Decision::OwnedByAnother(owner) => {
                super::confirm::tell_owner(&mut tx, app, provider, &line_user_id, owner).await?;
                Some(Cause::ConflictLine)
            }
        };
        // Nothing came of it: LINE's tokens are given back.
        queue::enqueue(&mut tx, now, now, &Job::RevokeGrant { grant_id: grant }).await?;
        attempt::set_outcome(&mut tx, &attempt.id, "not_linked").await?;
        tx.commit().await?;
        app.wake();
        match refused {
            Some(cause) => Err(Stop::Cause(cause, Some(attempt.id.clone()))),
            None => Ok(Redirect::to(&format!("/line/not-linked?provider={provider}")).into_response()),
        }
    }

    /// Signs the owner in: a new session, and the newest tokens for the unlink one day.
    async fn sign_in(&self, conn: &mut Conn, attempt: &Attempt, owner: &super::Owner, grant: &str) -> Result<Response> {
        let (app, now) = (self.app, self.app.now());
        if let Some(old) = self.session {
            session::end(conn, &old.id_hash).await?;
        }
        let method = Method::Line { link_id: owner.link_id.clone() };
        let token = session::start(conn, app, self.visit, &owner.member_id, &method).await?;
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
            address: Some(&self.visit.address),
            data: serde_json::json!({ "method": "line" }),
            ..Default::default()
        };
        audit::insert(conn, now, entry).await?;
        let target = if attempt.return_to == "/" { "/account" } else { attempt.return_to.as_str() };
        Ok((cookie::set(&app.config, cookie::SESSION, &token, None), Redirect::to(target)).into_response())
    }

    /// One audit row for a refusal, and the attempt's outcome.
    async fn record(&self, provider: &str, attempt_id: Option<&str>, refusal: &Error) -> Result<()> {
        let Error::Refused(refusal) = refusal else { return Ok(()) };
        let mut tx = self.app.db.begin().await?;
        let entry = audit::Entry {
            action: "line_refused",
            reason: Some(refusal.reason),
            member_id: self.session.map(|session| session.member_id.as_str()),
            subject: attempt_id,
            provider: Some(provider),
            address: Some(&self.visit.address),
            ..Default::default()
        };
        audit::insert(&mut tx, self.app.now(), entry).await?;
        if let Some(id) = attempt_id {
            attempt::set_outcome(&mut tx, id, refusal.reason).await?;
        }
        tx.commit().await?;
        Ok(())
    }
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

/// Reads the query strictly: each parameter once, and none too long to be LINE's or ours.
fn parse(query: &str) -> Result<Answer, Cause> {
    let mut answer = Answer::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let place = match name.as_ref() {
            "code" => &mut answer.code,
            "state" => &mut answer.state,
            "error" => &mut answer.error,
            "iss" => &mut answer.iss,
            _ => continue,
        };
        if place.is_some() || value.len() > LONGEST || value.chars().any(char::is_control) {
            return Err(Cause::BadQuery);
        }
        *place = Some(value.into_owned()).filter(|value| !value.is_empty());
    }
    Ok(answer)
}
