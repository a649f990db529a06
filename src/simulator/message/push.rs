//! `POST /v2/bot/message/push`: to one person, or one group that the bot is in.

use axum::{
    Extension,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde_json::Value;

use super::{
    check,
    deliver::Kind,
    keyed::{self, Ask, Plan},
};
use crate::simulator::{
    Simulator,
    answer::{self, RequestId},
    state::State as Memory,
};

pub(super) async fn push(
    State(sim): State<Simulator>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    keyed::send(&sim, &id, &headers, &body, Kind::Push, plan)
}

#[expect(clippy::result_large_err, reason = "the error is the answer itself")]
fn plan(state: &mut Memory, ask: &Ask<'_>) -> Result<Plan, Response> {
    check::push(ask.body)?;
    let to = ask.body.get("to").and_then(Value::as_str).unwrap_or_default();
    reached(state, ask, to).ok_or_else(|| answer::message(StatusCode::BAD_REQUEST, "Failed to send messages"))
}

/// Whose chat an id names. A group is known to the bots that are in it, and costs by its members.
fn reached(state: &Memory, ask: &Ask<'_>, to: &str) -> Option<Plan> {
    let channel = &ask.bot.channel_id;
    if let Some(group) = state.groups.get(to) {
        let cost = group.members.len() as u64;
        return group.bots.contains(channel).then(|| Plan { to: vec![(to.to_owned(), to.to_owned())], cost });
    }
    let person = state.find_in(ask.provider, to)?;
    let arrives = state.is_reachable(channel, &person, ask.now);
    let to = if arrives { vec![(person, to.to_owned())] } else { Vec::new() };
    Some(Plan { cost: to.len() as u64, to })
}
