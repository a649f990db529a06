//! How many messages an account may send in a month, and how many it has sent. Counted are people reached, not message
//! objects; months and days are Japan's.

use std::collections::BTreeMap;

use axum::{
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::deliver::Kind;
use crate::simulator::{Simulator, answer, bot};

/// Japan is nine hours ahead, all year.
const JAPAN: i64 = 9 * 3600 * 1000;
/// Before this day LINE did not count.
const FIRST_DAY: &str = "20180331";

/// An account's limit, and what it has sent.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(in crate::simulator) struct Quota {
    /// A month's; none: no limit.
    pub limit: Option<u64>,
    /// By day (yyyyMMdd).
    sent: BTreeMap<String, BTreeMap<Kind, u64>>,
}

impl Quota {
    /// Counts what is sent; with an answer instead where the month's limit forbids it. At the limit nothing more is
    /// taken, not even what would reach nobody.
    #[expect(clippy::result_large_err, reason = "the error is the answer itself")]
    pub fn spend(&mut self, kind: Kind, cost: u64, now: i64) -> Result<(), Response> {
        if kind != Kind::Reply && self.limit.is_some_and(|limit| self.used(now) + cost.max(1) > limit) {
            return Err(answer::message(StatusCode::TOO_MANY_REQUESTS, "You have reached your monthly limit."));
        }
        *self.sent.entry(day(now)).or_default().entry(kind).or_default() += cost;
        Ok(())
    }

    /// What is left of the month; none: without limit.
    pub fn left(&self, now: i64) -> Option<u64> {
        self.limit.map(|limit| limit.saturating_sub(self.used(now)))
    }

    fn used(&self, now: i64) -> u64 {
        let today = day(now);
        let month = &today[..6];
        let days = self.sent.range(month.to_owned()..).filter(|(day, _)| day.starts_with(month));
        days.flat_map(|(_, kinds)| kinds).filter(|(kind, _)| **kind != Kind::Reply).map(|(_, count)| count).sum()
    }
}

/// The day in Japan, as yyyyMMdd.
fn day(now: i64) -> String {
    let moment = jiff::Timestamp::from_millisecond(now + JAPAN).unwrap_or_default();
    moment.to_zoned(jiff::tz::TimeZone::UTC).strftime("%Y%m%d").to_string()
}

/// `GET /v2/bot/message/quota`
pub(super) async fn quota(State(sim): State<Simulator>, headers: HeaderMap) -> Response {
    let (_, bot) = match bot::caller(&sim, &headers) {
        Ok(caller) => caller,
        Err(answer) => return answer,
    };
    match sim.state().account(&bot.channel_id).quota.limit {
        Some(limit) => answer::ok(json!({ "type": "limited", "value": limit })),
        None => answer::ok(json!({ "type": "none" })),
    }
}

/// `GET /v2/bot/message/quota/consumption`
pub(super) async fn consumption(State(sim): State<Simulator>, headers: HeaderMap) -> Response {
    let (_, bot) = match bot::caller(&sim, &headers) {
        Ok(caller) => caller,
        Err(answer) => return answer,
    };
    let used = sim.state().account(&bot.channel_id).quota.used(sim.now());
    answer::ok(json!({ "totalUsage": used }))
}

#[derive(Deserialize)]
pub(super) struct On {
    #[serde(default)]
    date: String,
}

/// `GET /v2/bot/message/delivery/{kind}?date=yyyyMMdd`: a day's count is ready the day after.
pub(super) async fn sent_on(
    State(sim): State<Simulator>,
    headers: HeaderMap,
    Path(kind): Path<String>,
    Query(On { date }): Query<On>,
) -> Response {
    let (_, bot) = match bot::caller(&sim, &headers) {
        Ok(caller) => caller,
        Err(answer) => return answer,
    };
    let kind = match kind.as_str() {
        "reply" => Kind::Reply,
        "push" => Kind::Push,
        "multicast" => Kind::Multicast,
        "broadcast" => Kind::Broadcast,
        _ => return answer::not_found(),
    };
    if date.len() != 8 || jiff::civil::Date::strptime("%Y%m%d", &date).is_err() {
        let text = "The value for the 'date' parameter is invalid";
        return answer::message(StatusCode::BAD_REQUEST, text);
    }
    if date.as_str() < FIRST_DAY {
        return answer::ok(json!({ "status": "out_of_service" }));
    }
    if date >= day(sim.now()) {
        return answer::ok(json!({ "status": "unready" }));
    }
    let mut state = sim.state();
    let sent = state.account(&bot.channel_id).quota.sent.get(&date).and_then(|kinds| kinds.get(&kind)).copied();
    answer::ok(json!({ "status": "ready", "success": sent.unwrap_or_default() }))
}
