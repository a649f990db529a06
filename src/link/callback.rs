//! LINE's answer: `GET /line/callback/{provider}`.
//!
//! The attempt is taken once and its binding checked before anything is asked of LINE ([`Arrival::take`]); then
//! comes the [`proof`], and what follows from it ([`follow`]).

use std::time::Duration;

use axum::{
    extract::{Path, RawQuery, State},
    http::HeaderMap,
    response::{IntoResponse, Redirect, Response},
};
use tracing::Instrument;

use super::{
    Purpose,
    attempt::{self, Attempt, Browser, Found, Known},
    follow::{follow, revoke_unless_kept},
    proof::{self, Proof},
    refusal::{Cause, Restart},
    start::login_channel,
    ticket,
};
use crate::{
    app::App,
    audit,
    db::Conn,
    error::{Error, Result},
    kill,
    line::ISSUER,
    member::{guard::MaybeSession, session::Session},
    seal,
    web::{authorized::Authorized, cookie, visit::Visit},
};

/// Longest parameter that is looked at; ours have 43 characters, LINE's codes are short.
const LONGEST: usize = 256;

/// The waits before each further try to [`settle`].
const SETTLING: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(20), Duration::from_secs(60)];

/// `GET /line/callback/{provider}`. In a task of its own: a person who closes the tab while LINE is asked leaves no
/// tokens behind that nobody knows of.
pub async fn arrive(
    State(app): State<App>,
    visit: Visit,
    MaybeSession(session): MaybeSession,
    Path(provider): Path<String>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    login_channel(&app, &provider)?;
    let browser = cookie::get(&app.config, &headers, cookie::ATTEMPT).unwrap_or_default();
    let arrival = Arrival { app, visit, session, browser: seal::hash(&browser) };
    let handling = async move { arrival.handle(&provider, &query.unwrap_or_default()).await };
    tokio::spawn(handling.in_current_span()).await.map_err(Error::internal)?
}

/// Who came back from LINE, in which browser.
pub struct Arrival {
    pub app: App,
    pub visit: Visit,
    pub session: Option<Session>,
    /// Hash of the attempt cookie.
    browser: String,
}

/// What became of a callback whose attempt is not taken.
enum Turned {
    Refused(Cause, Option<String>),
    /// Done before, in this browser: on to the page where that ended.
    Onward(String),
}

impl Arrival {
    async fn handle(&self, provider: &str, query: &str) -> Result<Response> {
        let mut restart = Restart::new(provider, Purpose::SignIn, "/");
        let Some(answer) = Authorized::read(query, LONGEST) else {
            return self.refuse(None, Cause::BadQuery, &restart).await;
        };
        let attempt = match self.take(&answer, &mut restart).await? {
            Ok(attempt) => attempt,
            Err(Turned::Refused(cause, id)) => return self.refuse(id.as_deref(), cause, &restart).await,
            Err(Turned::Onward(path)) => return Ok(Redirect::to(&path).into_response()),
        };
        let added_friend = added_friend(&answer);
        let code = match code(answer) {
            Ok(code) => code,
            Err(cause) => return self.refuse(Some(&attempt.id), cause, &restart).await,
        };
        let channel = login_channel(&self.app, provider)?;
        let proof = match proof::obtain(&self.app, &channel, &attempt, &code).await? {
            Ok(proof) => proof.after_option(added_friend),
            Err(cause) => return self.refuse(Some(&attempt.id), cause, &restart).await,
        };
        let (tx, answer) = match follow(self, &attempt, &restart, &proof).await {
            Ok(followed) => followed,
            Err(error) => {
                proof::give_back(&self.app, &channel, &proof.tokens).await;
                return Err(error);
            }
        };
        if let Err(error) = tx.commit().await {
            settle(self.app.clone(), attempt.id, provider.to_owned(), proof).await;
            return Err(error.into());
        }
        kill::point("callback.saved");
        self.app.wake();
        answer
    }

    /// The attempt of this state, if it is of this browser, provider, time and session; else why not, and its id
    /// where it is known.
    async fn take(&self, answer: &Authorized, restart: &mut Restart) -> Result<Result<Attempt, Turned>> {
        let now = self.app.now();
        let mut conn = self.app.db.conn().await?;
        let browser = Browser { hash: &self.browser, user_agent: &self.visit.user_agent };
        let found = match &answer.state {
            Some(state) => attempt::take(&mut conn, now, state, browser).await?,
            None => Found::Unknown,
        };
        let attempt = match found {
            Found::Taken(attempt) => attempt,
            Found::Known(cause, known) => {
                attempt::note_return(&mut conn, now, &known.id, cause.reason(), browser.user_agent).await?;
                return Ok(Err(self.turn(cause, known, restart)));
            }
            Found::Unknown => {
                let cause = if answer.state.is_some() { Cause::StateUnknown } else { Cause::StateMissing };
                // LINE's auto login comes back with a state of nobody's: what this browser was about is started afresh.
                if let Some(last) = attempt::find_last(&mut conn, now, &self.browser).await? {
                    restart.purpose = last.purpose;
                    restart.return_to = self.way_back(last.return_to, last.ticket_id.as_deref());
                    attempt::note_return(&mut conn, now, &last.id, cause.reason(), browser.user_agent).await?;
                }
                self.go_on(restart);
                return Ok(Err(Turned::Refused(cause, None)));
            }
        };
        restart.return_to = self.way_back(attempt.return_to.clone(), attempt.ticket_id.as_deref());
        let mut cause = match Purpose::of_word(&attempt.purpose) {
            Some(purpose) => {
                restart.purpose = purpose;
                self.objection(&attempt, answer, restart)
            }
            // Started by a newer version of us.
            None => Some(Cause::OtherProvider),
        };
        if cause.is_none()
            && let Some(ticket_id) = &attempt.ticket_id
            && ticket::find_live_by_id(&mut conn, now, ticket_id).await?.is_none()
        {
            cause = Some(Cause::TicketGone);
        }
        self.go_on(restart);
        Ok(match cause {
            Some(cause) => Err(Turned::Refused(cause, Some(attempt.id))),
            None => Ok(attempt),
        })
    }

    /// What is said of an attempt that is not taken: it was used before, it is too old, or it is another browser's.
    fn turn(&self, cause: Cause, known: Known, restart: &mut Restart) -> Turned {
        restart.purpose = Purpose::of_word(&known.purpose).unwrap_or(Purpose::SignIn);
        restart.return_to = self.way_back(known.return_to.clone(), known.ticket_id.as_deref());
        self.go_on(restart);
        if cause != Cause::StateUsed {
            // Where no page of ours left a cookie either, the browser may keep none.
            let cause = if cause == Cause::StateUnbound && self.visit.is_new { Cause::NoCookies } else { cause };
            return Turned::Refused(cause, Some(known.id));
        }
        let confirm = format!("/link/confirm?attempt={}", known.id);
        let waits = matches!(known.outcome.as_deref(), None | Some("confirming" | "linked"));
        if seal::equal(&self.browser, &known.browser_hash) && restart.purpose != Purpose::SignIn && waits {
            match known.outcome {
                Some(_) => return Turned::Onward(confirm),
                // LINE is being asked at this moment: the page is there when the person goes on.
                None => restart.onward = Some(confirm),
            }
        }
        Turned::Refused(cause, None)
    }

    /// Whoever is signed in already needs no fresh start to sign in.
    fn go_on(&self, restart: &mut Restart) {
        if self.session.is_some() && restart.purpose == Purpose::SignIn {
            restart.onward = Some(match restart.return_to.as_str() {
                "/" => "/account".to_owned(),
                path => path.to_owned(),
            });
        }
    }

    /// Where a fresh start returns to: for a ticket its page, whose address is not kept.
    fn way_back(&self, return_to: String, ticket_id: Option<&str>) -> String {
        ticket_id.map_or(return_to, |id| ticket::path(&self.app, id))
    }

    /// Why this attempt is not the one of this browser, here and now.
    fn objection(&self, attempt: &Attempt, answer: &Authorized, restart: &Restart) -> Option<Cause> {
        let session = self.session.as_ref().map(|session| (session.member_id.as_str(), session.lineage_id.as_str()));
        let started_by = attempt.member_id.as_deref().zip(attempt.lineage_id.as_deref());
        if attempt.provider != restart.provider {
            Some(Cause::OtherProvider)
        } else if self.app.now() >= attempt.expires_at {
            Some(Cause::StateExpired)
        } else if answer.iss.as_ref().is_some_and(|iss| iss != ISSUER) {
            Some(Cause::WrongIssuer)
        } else if restart.purpose == Purpose::Link && session != started_by {
            Some(Cause::SessionChanged)
        } else {
            None
        }
    }

    async fn refuse(&self, attempt_id: Option<&str>, cause: Cause, restart: &Restart) -> Result<Response> {
        let mut tx = self.app.db.begin().await?;
        let refusal = self.record(&mut tx, attempt_id, cause, restart).await?;
        tx.commit().await?;
        Err(refusal)
    }

    /// The refusal, with one audit row and the attempt's outcome.
    pub async fn record(
        &self,
        conn: &mut Conn,
        attempt_id: Option<&str>,
        cause: Cause,
        restart: &Restart,
    ) -> Result<Error> {
        let refusal = cause.refuse(restart);
        let entry = audit::Entry {
            action: "line_refused",
            reason: Some(cause.reason()),
            member_id: self.session.as_ref().map(|session| session.member_id.as_str()),
            subject: attempt_id,
            provider: Some(&restart.provider),
            address: Some(&self.visit.address),
            ..Default::default()
        };
        audit::insert(conn, self.app.now(), entry).await?;
        // What came to another browser is noted already, and may still come to its own.
        if let Some(id) = attempt_id.filter(|_| !matches!(cause, Cause::StateUnbound | Cause::NoCookies)) {
            attempt::set_outcome(conn, id, cause.reason()).await?;
        }
        Ok(refusal)
    }
}

/// Finds out what became of a commit that failed: its answer may have been lost. Where that cannot be known at once
/// it is asked again, beside; and where the database stays away the tokens are left to their end at LINE, for they may
/// be a link's.
async fn settle(app: App, attempt_id: String, provider: String, proof: Proof) {
    let Err(error) = revoke_unless_kept(&app, &attempt_id, &provider, &proof).await else { return };
    tracing::warn!(%error, "not known yet whether a sign-in with LINE was kept");
    let settling = async move {
        for wait in SETTLING {
            tokio::time::sleep(wait).await;
            if revoke_unless_kept(&app, &attempt_id, &provider, &proof).await.is_ok() {
                return;
            }
        }
        tracing::error!("not known whether a sign-in with LINE was kept: its tokens end at LINE by themselves");
    };
    tokio::spawn(settling.in_current_span());
}

/// What became of the option to add the official account; none where LINE did not show it.
fn added_friend(answer: &Authorized) -> Option<bool> {
    match answer.friendship_status_changed.as_deref() {
        Some("true") => Some(true),
        Some("false") => Some(false),
        _ => None,
    }
}

/// The code, or what LINE says instead of one.
fn code(answer: Authorized) -> Result<String, Cause> {
    match (answer.code, answer.error) {
        (Some(code), None) => Ok(code),
        (Some(_), Some(_)) => Err(Cause::CodeAndError),
        // LINE's documents say upper case, others have seen lower.
        (None, Some(error)) if error.eq_ignore_ascii_case("access_denied") => Err(Cause::Denied),
        (None, Some(error)) => {
            tracing::warn!(error = error.escape_debug().to_string(), "LINE refused to authorize");
            Err(Cause::LineError)
        }
        (None, None) => Err(Cause::BadQuery),
    }
}
