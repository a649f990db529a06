//! `POST /v2/bot/message/narrowcast`: to friends chosen by LINE, and how far that is.
//!
//! The messages arrive at once; the progress is told as LINE tells it, in phases of some seconds by the simulator's
//! clock. This LINE has no audiences, and knows nobody's age or place: a demographic filter is checked and lets all
//! through.

mod who;

use std::collections::BTreeSet;

use axum::{
    Extension,
    body::Bytes,
    extract::{Query, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    broadcast::{friends, named},
    check,
    deliver::Kind,
    found::Found,
    keyed::{self, Ask, Plan},
};
use crate::simulator::{
    Simulator,
    answer::{self, RequestId},
    bot,
    state::{PersonId, State as Memory},
};

const WAITING: i64 = 1000;
const SENDING: i64 = 2000;
const KNOWN_FOR: i64 = 14 * 24 * 3600 * 1000;
/// Fewer chosen people would tell who they are.
const FEWEST: usize = 50;
const FEWEST_FRIENDS: usize = 100;

/// A narrowcast that was taken.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(in crate::simulator) struct Narrowcast {
    accepted_at: i64,
    people: BTreeSet<PersonId>,
    /// LINE's error code, where nothing was sent.
    failure: Option<u8>,
}

pub(super) async fn narrowcast(
    State(sim): State<Simulator>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    keyed::send(&sim, &id, &headers, &body, Kind::Narrowcast, plan)
}

#[expect(clippy::result_large_err, reason = "the error is the answer itself")]
fn plan(state: &mut Memory, ask: &Ask<'_>) -> Result<Plan, Response> {
    check::messages(ask.body, Found::default())?;
    let limit = limit(ask.body)?;
    let mut people: BTreeSet<PersonId> = friends(state, &ask.bot.channel_id).into_iter().collect();
    let reach = people.len();
    let recipient = ask.body.get("recipient").filter(|recipient| !recipient.is_null());
    if let Some(recipient) = recipient {
        let known = who::Known { account: state.accounts.get(&ask.bot.channel_id), friends: &people, now: ask.now };
        people = known.choose(recipient)?;
    }
    let filter = ask.body.pointer("/filter/demographic").filter(|filter| !filter.is_null());
    if let Some(filter) = filter {
        who::check_filter(filter)?;
        if reach < FEWEST_FRIENDS {
            let text = "Your account does not have enough friends";
            return Err(answer::message(StatusCode::FORBIDDEN, text));
        }
    }
    let mut failure = None;
    if (recipient.is_some() || filter.is_some()) && people.len() < FEWEST {
        failure = Some(2);
    }
    let left = state.account(&ask.bot.channel_id).quota.left(ask.now).filter(|_| limit.up_to_remaining_quota);
    let left = left.and_then(|left| usize::try_from(left).ok()).unwrap_or(usize::MAX);
    if left < people.len() && limit.forbid_partial_delivery {
        failure = Some(5);
    }
    people = people.into_iter().take(limit.max.min(left)).collect();
    if failure.is_some() {
        people.clear();
    }
    let job = Narrowcast { accepted_at: ask.now, people: people.clone(), failure };
    let cost = people.len() as u64;
    // A refusal for want of quota must leave no trace.
    if state.account(&ask.bot.channel_id).quota.left(ask.now).is_none_or(|left| left >= cost.max(1)) {
        state.account(&ask.bot.channel_id).narrowcasts.insert(ask.request_id.to_owned(), job);
    }
    Ok(Plan { cost, to: people.into_iter().map(|person| named(person, &ask.provider.name)).collect() })
}

struct Limit {
    max: usize,
    up_to_remaining_quota: bool,
    forbid_partial_delivery: bool,
}

#[expect(clippy::result_large_err, reason = "the error is the answer itself")]
fn limit(body: &Value) -> Result<Limit, Response> {
    let flag = |name: &str| match body.pointer(&format!("/limit/{name}")) {
        None | Some(Value::Null) => Ok(false),
        Some(value) => value.as_bool().ok_or_else(|| answer::invalid_property(&format!("limit.{name}"))),
    };
    let max = match body.pointer("/limit/max") {
        None | Some(Value::Null) => Some(usize::MAX),
        Some(max) => max.as_u64().filter(|max| *max >= 1).and_then(|max| usize::try_from(max).ok()),
    };
    let limit = Limit {
        max: max.ok_or_else(|| answer::invalid_property("limit.max"))?,
        up_to_remaining_quota: flag("upToRemainingQuota")?,
        forbid_partial_delivery: flag("forbidPartialDelivery")?,
    };
    if limit.forbid_partial_delivery && !limit.up_to_remaining_quota {
        let text = "The option forbidPartialDelivery must be used with upToRemainingQuota.";
        return Err(answer::message(StatusCode::BAD_REQUEST, text));
    }
    Ok(limit)
}

impl Narrowcast {
    fn is_over(&self, now: i64) -> bool {
        now - self.accepted_at >= SENDING
    }

    fn is_known(&self, now: i64) -> bool {
        now - self.accepted_at < KNOWN_FOR
    }

    fn progress(&self, now: i64) -> Value {
        let time = |at| jiff::Timestamp::from_millisecond(at).map(|at| format!("{at:.3}")).unwrap_or_default();
        let mut progress = json!({ "phase": "waiting", "acceptedTime": time(self.accepted_at) });
        if now - self.accepted_at < WAITING {
            return progress;
        }
        if let (Some(code), true) = (self.failure, self.is_over(now)) {
            progress["phase"] = "failed".into();
            progress["errorCode"] = code.into();
            progress["failedDescription"] = match code {
                2 => "The number of recipients is insufficient.".into(),
                _ => "Message delivery was canceled to prevent partial delivery.".into(),
            };
        } else {
            progress["phase"] = if self.is_over(now) { "succeeded".into() } else { "sending".into() };
            progress["successCount"] = self.people.len().into();
            progress["failureCount"] = 0.into();
            progress["targetCount"] = self.people.len().into();
        }
        if self.is_over(now) {
            progress["completedTime"] = time(self.accepted_at + SENDING).into();
        }
        progress
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Which {
    #[serde(default)]
    request_id: String,
}

/// `GET /v2/bot/message/progress/narrowcast?requestId=`
pub(super) async fn progress(State(sim): State<Simulator>, headers: HeaderMap, Query(which): Query<Which>) -> Response {
    let (_, bot) = match bot::caller(&sim, &headers) {
        Ok(caller) => caller,
        Err(answer) => return answer,
    };
    if which.request_id.is_empty() {
        let text = "The value for the 'requestId' parameter is invalid";
        return answer::message(StatusCode::BAD_REQUEST, text);
    }
    let now = sim.now();
    let mut state = sim.state();
    let job = state.account(&bot.channel_id).narrowcasts.get(&which.request_id).filter(|job| job.is_known(now));
    job.map_or_else(answer::not_found, |job| answer::ok(job.progress(now)))
}
