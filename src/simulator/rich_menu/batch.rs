//! `POST /v2/bot/richmenu/batch`: from one menu to another for all who have it, without naming anybody.
//!
//! Whom the operations concern is settled when the request is accepted: they do not see each other's effects. A
//! request with the resume key of an earlier one does what that one left undone, and nothing else.

#![expect(clippy::result_large_err, reason = "the error is the answer itself")]

mod operation;

use std::mem;

use axum::{
    Extension, Router,
    body::Bytes,
    extract::{Query, State},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::operation::Request;
use super::{Pending, bad_request, not_found, pending::Link, with_account};
use crate::simulator::{
    Simulator,
    answer::{self, RequestId},
    bot,
    state::Account,
};

const DELAY: i64 = 2000;
/// Of a progress, and of a resume key.
const KNOWN_FOR: i64 = 14 * 24 * 3600 * 1000;

pub(super) fn routes() -> Router<Simulator> {
    Router::new()
        .route("/v2/bot/richmenu/batch", post(batch))
        .route("/v2/bot/richmenu/validate/batch", post(validate))
        .route("/v2/bot/richmenu/progress/batch", get(progress))
}

/// A batch that was accepted.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(in crate::simulator) struct Batch {
    pub accepted_at: i64,
    pub completed_at: Option<i64>,
    pub failed: bool,
    pub resume_key: Option<String>,
    /// What a failed batch has not done, until it is resumed.
    pub left: Vec<Link>,
}

async fn batch(
    State(sim): State<Simulator>,
    Extension(RequestId(id)): Extension<RequestId>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    read(&sim, &headers, &body, |account, request| {
        let now = sim.now();
        account.menu_batches.retain(|_, batch| batch.is_known(now));
        let links = resumed(account, request.resume_key.as_deref());
        let links = links.unwrap_or_else(|| request.links(account));
        let batch = Batch {
            accepted_at: now,
            completed_at: None,
            failed: false,
            resume_key: request.resume_key,
            left: Vec::new(),
        };
        account.menu_batches.insert(id.clone(), batch);
        account.pending_menus.push(Pending { due: now + DELAY, links, batch: Some(id) });
        answer::json(StatusCode::ACCEPTED, json!({}))
    })
}

async fn validate(State(sim): State<Simulator>, headers: HeaderMap, body: Bytes) -> Response {
    read(&sim, &headers, &body, |_, _| super::empty())
}

/// Checks a request; then `act`s on the account of the bot that calls.
fn read(
    sim: &Simulator,
    headers: &HeaderMap,
    body: &Bytes,
    act: impl FnOnce(&mut Account, Request) -> Response,
) -> Response {
    let read = bot::caller(sim, headers).and_then(|(_, bot)| {
        let body: Value = answer::read_json(headers, body)?;
        let mut state = sim.state();
        let account = state.account(&bot.channel_id);
        let request = operation::read(&body, account)?;
        Ok(act(account, request))
    });
    read.unwrap_or_else(|refusal| refusal)
}

/// What the batches with this key have left undone; none if there were none.
fn resumed(account: &mut Account, key: Option<&str>) -> Option<Vec<Link>> {
    let key = key?;
    let earlier = account.menu_batches.values_mut().filter(|batch| batch.resume_key.as_deref() == Some(key));
    let left: Vec<Vec<Link>> = earlier.map(|batch| mem::take(&mut batch.left)).collect();
    (!left.is_empty()).then(|| left.concat())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Which {
    #[serde(default)]
    request_id: String,
}

async fn progress(State(sim): State<Simulator>, headers: HeaderMap, Query(which): Query<Which>) -> Response {
    let now = sim.now();
    with_account(&sim, &headers, |account| {
        if which.request_id.is_empty() {
            return bad_request("The value for the 'requestId' parameter is invalid");
        }
        let batch = account.menu_batches.get(&which.request_id).filter(|batch| batch.is_known(now));
        batch.map_or_else(not_found, |batch| answer::ok(batch.progress()))
    })
}

impl Batch {
    fn is_known(&self, now: i64) -> bool {
        now - self.accepted_at < KNOWN_FOR
    }

    fn progress(&self) -> Value {
        let time = |at| jiff::Timestamp::from_millisecond(at).map(|at| format!("{at:.3}")).unwrap_or_default();
        let mut progress = json!({ "phase": "ongoing", "acceptedTime": time(self.accepted_at) });
        if let Some(at) = self.completed_at {
            progress["phase"] = if self.failed { "failed".into() } else { "succeeded".into() };
            progress["completedTime"] = time(at).into();
        }
        progress
    }
}
