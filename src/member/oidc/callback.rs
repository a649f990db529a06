//! The provider's answer: `GET /company/callback`.
//!
//! The attempt is taken once and its binding checked before anything is asked of the provider; then comes the
//! [`proof`](super::proof), and who it is may [`enter`](super::enter).

use axum::{
    extract::{RawQuery, State},
    http::HeaderMap,
    response::Response,
};

use super::{
    Purpose,
    attempt::{self, Attempt},
    claims, enter, proof, provider,
    refusal::{Cause, Restart},
};
use crate::{
    app::App,
    audit,
    error::{Error, Result},
    member::{guard::MaybeSession, session::Session},
    seal,
    web::{authorized::Authorized, cookie, visit::Visit},
};

/// Longest parameter that is looked at: some providers put a whole token into their codes.
const LONGEST: usize = 4096;

/// Who came back, in which browser.
pub struct Arrival {
    pub app: App,
    pub visit: Visit,
    pub session: Option<Session>,
    /// Hash of the attempt cookie.
    browser: String,
}

/// `GET /company/callback`
pub async fn arrive(
    State(app): State<App>,
    visit: Visit,
    MaybeSession(session): MaybeSession,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    provider(&app)?;
    let browser = cookie::get(&app.config, &headers, cookie::ATTEMPT).unwrap_or_default();
    let arrival = Arrival { app, visit, session, browser: seal::hash(&browser) };
    let mut restart = Restart { purpose: Purpose::SignIn, return_to: "/".into() };
    let Some(answer) = Authorized::read(&query.unwrap_or_default(), LONGEST) else {
        return Err(arrival.refuse(None, Cause::BadQuery, &restart).await?);
    };
    let attempt = match arrival.take(&answer, &mut restart).await? {
        Ok(attempt) => attempt,
        Err((cause, id)) => return Err(arrival.refuse(id.as_deref(), cause, &restart).await?),
    };
    match arrival.handle(&attempt, restart.purpose, answer).await? {
        Ok(response) => Ok(response),
        Err(cause) => Err(arrival.refuse(Some(&attempt.id), cause, &restart).await?),
    }
}

impl Arrival {
    async fn handle(&self, attempt: &Attempt, purpose: Purpose, answer: Authorized) -> Result<Result<Response, Cause>> {
        let (app, oidc) = (&self.app, provider(&self.app)?);
        let Ok(discovery) = oidc.discovery(app.now().0).await else { return Ok(Err(Cause::ProviderFault)) };
        if discovery.says_issuer && answer.iss.is_none() {
            return Ok(Err(Cause::WrongIssuer));
        }
        let code = match code(answer) {
            Ok(code) => code,
            Err(cause) => return Ok(Err(cause)),
        };
        let person = match proof::obtain(app, oidc, &discovery, attempt, &code).await? {
            Ok(person) => person,
            Err(cause) => return Ok(Err(cause)),
        };
        let Some(settings) = &app.config.member.oidc else { return Err(Error::NotFound) };
        let wanted = match claims::read(settings, &person.claims) {
            Ok(wanted) => wanted,
            Err(cause) => return Ok(Err(cause)),
        };
        match purpose {
            Purpose::SignIn => enter::sign_in(self, attempt, wanted, person.proved_at).await,
            Purpose::Reauth => match person.proved_at {
                Some(proved_at) => enter::prove(self, attempt, wanted, proved_at).await,
                None => Ok(Err(Cause::NotFresh)),
            },
        }
    }

    /// The attempt of this state, if it is of this browser, time and session; else why not, and its id where it is known.
    async fn take(
        &self,
        answer: &Authorized,
        restart: &mut Restart,
    ) -> Result<Result<Attempt, (Cause, Option<String>)>> {
        let mut conn = self.app.db.conn().await?;
        let taken = match &answer.state {
            Some(state) => attempt::take(&mut conn, self.app.now(), state).await?,
            None => Err(Cause::StateMissing),
        };
        let attempt = match taken {
            Ok(attempt) => attempt,
            Err(cause) => return Ok(Err((cause, None))),
        };
        let cause = match Purpose::of_word(&attempt.purpose) {
            Some(purpose) => {
                *restart = Restart { purpose, return_to: attempt.return_to.clone() };
                self.objection(&attempt, answer, purpose)
            }
            // Started by a newer version of us.
            None => Some(Cause::StateUnknown),
        };
        Ok(match cause {
            Some(cause) => Err((cause, Some(attempt.id))),
            None => Ok(attempt),
        })
    }

    /// Why this attempt is not the one of this browser, here and now.
    fn objection(&self, attempt: &Attempt, answer: &Authorized, purpose: Purpose) -> Option<Cause> {
        let session = self.session.as_ref().map(|session| (session.member_id.as_str(), session.lineage_id.as_str()));
        let started_by = attempt.member_id.as_deref().zip(attempt.lineage_id.as_deref());
        let issuer = self.app.oidc.as_ref().map(|oidc| oidc.issuer());
        if !seal::equal(&self.browser, &attempt.browser_hash) {
            Some(Cause::StateUnbound)
        } else if self.app.now() >= attempt.expires_at {
            Some(Cause::StateExpired)
        } else if answer.iss.is_some() && answer.iss.as_deref() != issuer {
            Some(Cause::WrongIssuer)
        } else if purpose == Purpose::Reauth && session != started_by {
            Some(Cause::SessionChanged)
        } else {
            None
        }
    }

    /// The refusal, with one audit row and the attempt's outcome.
    async fn refuse(&self, attempt_id: Option<&str>, cause: Cause, restart: &Restart) -> Result<Error> {
        let entry = audit::Entry {
            action: "oidc_refused",
            reason: Some(cause.reason()),
            member_id: self.session.as_ref().map(|session| session.member_id.as_str()),
            subject: attempt_id,
            address: Some(&self.visit.address),
            ..Default::default()
        };
        let mut tx = self.app.db.begin().await?;
        audit::insert(&mut tx, self.app.now(), entry).await?;
        if let Some(id) = attempt_id {
            attempt::set_outcome(&mut tx, id, cause.reason()).await?;
        }
        tx.commit().await?;
        Ok(cause.refuse(restart))
    }
}

/// The code, or what the provider says instead of one.
fn code(answer: Authorized) -> Result<String, Cause> {
    match (answer.code, answer.error) {
        (Some(code), None) => Ok(code),
        (Some(_), Some(_)) => Err(Cause::CodeAndError),
        (None, Some(error)) if error == "access_denied" => Err(Cause::Denied),
        (None, Some(error)) => {
            let error: String = error.escape_debug().take(200).collect();
            tracing::warn!(error, "the company's provider refused to authorize");
            Err(Cause::ProviderError)
        }
        (None, None) => Err(Cause::BadQuery),
    }
}
