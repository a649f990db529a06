//! The way in from LINE itself: a page that LINE opens as a LIFF app ([`page`]), whose script shows us the person's tokens.
//!
//! What they prove is decided as after LINE Login: whoever is linked is signed in, and nobody is linked by opening a page.
//! A LINE user whom nobody here knows has proved to be one all the same: for ten minutes that [`proven`] attempt stands in
//! for a way through LINE, which is not open inside of LIFF, and leads to the page that every link passes.
//!
//! LIFF's tokens carry no nonce of ours: each is taken from the browser that showed it first, and from no other ([`seen`]).

pub mod elsewhere;
pub mod page;
pub mod proven;
pub mod seen;

mod problem;
mod proof;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;

use self::{problem::Problem, proof::Proof};
use super::{
    Decision, Owner, Purpose,
    attempt::{self, LIFE},
    decide, find_owner,
    follow::keep_line_user,
    grant::{self, Holder, Kind},
    hold_owner, permission,
    start::login_channel,
    yes::call_off_clean_up,
};
use crate::{
    app::App,
    audit,
    db::Conn,
    error::{Error, Result},
    kill,
    member::{
        self,
        guard::MaybeSession,
        session::{self, Method, Session},
    },
    queue::{self, Job},
    seal,
    web::{browser, cookie, return_to, visit::Visit},
};

/// The browser keeps its binding for longer than LINE's tokens can be shown again, so that a page that is loaded anew is
/// known.
const BINDING: i64 = 13 * 3600;
/// The purpose of an attempt that has none yet but to prove who somebody is.
pub(super) const PROVEN: &str = "liff";

/// What the script shows. Whatever else somebody writes into it counts for nothing.
#[derive(Deserialize)]
pub struct Shown {
    id_token: Option<String>,
    access_token: Option<String>,
    /// The page's own path: below the LIFF app it may name a page of ours to go on to.
    #[serde(default)]
    path: String,
}

/// Who showed it, and where.
struct Arrival<'a> {
    app: &'a App,
    visit: &'a Visit,
    session: Option<&'a Session>,
    provider: &'a str,
    /// Hash of the attempt cookie.
    browser: String,
}

/// What came of it.
enum Entered {
    /// With the new session's cookie, unless this browser is signed in as this member already.
    SignedIn(Option<String>),
    /// On to a page of ours.
    Onward(String),
    Refused(Problem),
}

/// `POST /liff/{provider}/session`
pub async fn submit(
    State(app): State<App>,
    visit: Visit,
    MaybeSession(session): MaybeSession,
    Path(provider): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response> {
    page::liff_id(&app, &provider)?;
    let channel = login_channel(&app, &provider)?;
    let shown: Shown = serde_json::from_slice(&body).map_err(|_| Error::BadRequest("unreadable tokens"))?;
    let browser = browser::of(&app, &visit, &headers);
    let arrival = Arrival {
        app: &app,
        visit: &visit,
        session: session.as_ref(),
        provider: &provider,
        browser: seal::hash(&browser),
    };
    let proof = proof::of(&app, &channel, &shown).await;
    kill::point("liff.proven");
    let (entered, proof) = match proof {
        Ok(proof) => (arrival.enter(&proof).await?, Some(proof)),
        Err(problem) => (Entered::Refused(problem), None),
    };
    let binding = cookie::set(&app.config, cookie::ATTEMPT, &browser, Some(BINDING));
    let next = |path: &str| Json(json!({ "next": path }));
    app.wake();
    match entered {
        Entered::SignedIn(token) => {
            let renewed = token.map(|token| cookie::set(&app.config, cookie::SESSION, &token, None));
            Ok((binding, renewed, next(&onward(&app, &provider, &shown.path))).into_response())
        }
        Entered::Onward(path) => Ok((binding, next(&path)).into_response()),
        Entered::Refused(problem) => Err(arrival.refuse(problem, proof.as_ref()).await?),
    }
}

/// The page of ours that a path below the LIFF app's names, else the account page.
fn onward(app: &App, provider: &str, path: &str) -> String {
    let below = path.strip_prefix(&format!("/liff/{provider}")).unwrap_or_default();
    match return_to::path(below, &app.config.public_url) {
        path if path == "/" || path.starts_with("/liff/") || path.starts_with("/line/") => "/account".to_owned(),
        path => path,
    }
}

impl Arrival<'_> {
    /// One transaction: the tokens are this browser's from now on, and what follows from them.
    async fn enter(&self, proof: &Proof) -> Result<Entered> {
        let (app, now) = (self.app, self.app.now());
        let mut tx = app.db.begin().await?;
        for mark in &proof.marks {
            if !seen::keep(&mut tx, now, mark, &self.browser).await? {
                return Ok(Entered::Refused(Problem::Replayed));
            }
        }
        let line_user_id = keep_line_user(&mut tx, app, now, self.provider, &proof.identity, proof.friend).await?;
        if let Some(owner) = find_owner(&mut tx, &line_user_id).await? {
            // The member before the link, as everybody does who ends links.
            member::hold(&mut tx, &app.db, &owner.member_id).await?;
        }
        let owner = hold_owner(&mut tx, &app.db, &line_user_id).await?;
        let own = self.session.zip(owner.as_ref()).is_some_and(|(session, owner)| session.member_id == owner.member_id);
        let member_id = self.session.map(|session| session.member_id.as_str());
        let entered = match decide(Purpose::SignIn, member_id, owner, false) {
            Decision::SignIn(owner) => self.sign_in(&mut tx, proof, &owner, &line_user_id).await?,
            Decision::ConfirmImported(_) => {
                let id = self.wait(&mut tx, proof, &line_user_id, Purpose::SignIn.word()).await?;
                attempt::await_confirm(&mut tx, now, &id, &line_user_id).await?;
                Entered::Onward(format!("/link/imported?attempt={id}"))
            }
            // Their own link, paused by a reset: the account page says how it goes on.
            Decision::Unavailable if own => {
                self.wait(&mut tx, proof, &line_user_id, PROVEN).await?;
                Entered::Onward("/account".into())
            }
            Decision::OfferToLink | Decision::OfferToSignUp => {
                self.wait(&mut tx, proof, &line_user_id, PROVEN).await?;
                Entered::Onward(format!("/line/not-linked?provider={}", self.provider))
            }
            Decision::Unavailable
            | Decision::Confirm
            | Decision::AlreadyYours
            | Decision::OwnedByAnother(_)
            | Decision::MemberHasAnother => Entered::Refused(Problem::Unavailable),
        };
        if !matches!(entered, Entered::Refused(_)) {
            kill::point("liff.recorded");
            tx.commit().await?;
            kill::point("liff.committed");
        }
        Ok(entered)
    }

    /// Signs the owner in; a browser where they are signed in already keeps its session, which may prove more than this.
    async fn sign_in(&self, conn: &mut Conn, proof: &Proof, owner: &Owner, line_user_id: &str) -> Result<Entered> {
        let (app, now) = (self.app, self.app.now());
        if permission::set(conn, &owner.link_id, "given").await?
            && call_off_clean_up(conn, app, now, line_user_id, now).await?.is_some()
        {
            return Ok(Entered::Refused(Problem::Busy));
        }
        for former in grant::list_superseded(conn, &owner.link_id, Kind::Liff).await? {
            queue::enqueue_once(conn, now, now, &Job::RevokeGrant { grant_id: former }).await?;
        }
        self.keep_tokens(conn, proof, line_user_id, Holder::Link(&owner.link_id)).await?;
        if self.session.is_some_and(|session| session.member_id == owner.member_id) {
            return Ok(Entered::SignedIn(None));
        }
        let method = Method::Line { link_id: owner.link_id.clone() };
        let token = session::replace(conn, app, self.visit, self.session, &owner.member_id, &method).await?;
        let entry = audit::Entry {
            action: "signed_in",
            member_id: Some(&owner.member_id),
            subject: Some(&owner.link_id),
            data: json!({ "method": "liff" }),
            ..self.entry()
        };
        audit::insert(conn, now, entry).await?;
        proven::insert(conn, app, &self.ended("signed_in", Some(line_user_id), Some(&owner.member_id))).await?;
        Ok(Entered::SignedIn(Some(token)))
    }

    /// Keeps the proof for whatever the person does next; gives the attempt's id.
    async fn wait(&self, conn: &mut Conn, proof: &Proof, line_user_id: &str, purpose: &'static str) -> Result<String> {
        let (app, now) = (self.app, self.app.now());
        let new = proven::New { purpose, ..self.ended("proven", Some(line_user_id), None) };
        let id = proven::insert(conn, app, &new).await?;
        proven::give_way(conn, &self.browser, self.provider, &id).await?;
        self.keep_tokens(conn, proof, line_user_id, Holder::Attempt(&id)).await?;
        queue::enqueue(conn, now, now.plus(LIFE), &Job::AbandonAttempt { attempt_id: id.clone() }).await?;
        Ok(id)
    }

    async fn keep_tokens(&self, conn: &mut Conn, proof: &Proof, line_user_id: &str, holder: Holder<'_>) -> Result<()> {
        let Some((tokens, expires_in)) = &proof.tokens else { return Ok(()) };
        let new = grant::New {
            id: &self.app.new_id(),
            provider: self.provider,
            line_user_id,
            holder,
            kind: Kind::Liff,
            tokens,
            expires_in: *expires_in,
        };
        grant::insert(conn, self.app, &new).await.map(|_| ())
    }

    /// An attempt of this browser that came to its end, for support.
    fn ended<'a>(
        &'a self,
        outcome: &'a str,
        line_user_id: Option<&'a str>,
        member_id: Option<&'a str>,
    ) -> proven::New<'a> {
        let (provider, browser_hash, visit) = (self.provider, self.browser.as_str(), self.visit);
        proven::New { provider, purpose: PROVEN, browser_hash, line_user_id, member_id, outcome, visit }
    }

    /// The refusal, with one audit row, and the attempt of whomever LINE proved.
    async fn refuse(&self, problem: Problem, proof: Option<&Proof>) -> Result<Error> {
        let mut tx = self.app.db.begin().await?;
        let known = match proof {
            Some(proof) => find_known(&mut tx, self.provider, &proof.identity.user_id).await?,
            None => None,
        };
        let (line_user_id, member_id) = known.map_or((None, None), |(id, member_id)| (Some(id), member_id));
        let ended = self.ended(problem.reason(), line_user_id.as_deref(), member_id.as_deref());
        proven::insert(&mut tx, self.app, &ended).await?;
        let entry = audit::Entry {
            action: "line_refused",
            reason: Some(problem.reason()),
            member_id: self.session.map(|session| session.member_id.as_str()),
            ..self.entry()
        };
        audit::insert(&mut tx, self.app.now(), entry).await?;
        tx.commit().await?;
        Ok(problem.refuse())
    }

    fn entry(&self) -> audit::Entry<'_> {
        audit::Entry { provider: Some(self.provider), address: Some(&self.visit.address), ..Default::default() }
    }
}

/// A LINE user who was here before, and the member they are linked to.
async fn find_known(conn: &mut Conn, provider: &str, user_id: &str) -> Result<Option<(String, Option<String>)>> {
    let found = sqlx::query_as(
        "SELECT u.id, l.member_id FROM line_users u LEFT JOIN links l ON l.line_user_id = u.id AND l.ended_at IS NULL
         WHERE u.provider = $1 AND u.user_id = $2",
    )
    .bind(provider)
    .bind(user_id)
    .fetch_optional(conn)
    .await?;
    Ok(found)
}
