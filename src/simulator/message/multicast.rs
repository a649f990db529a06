//! `POST /v2/bot/message/multicast`: to up to 500 people by id. One id that is none, and nobody gets it.
//!
//! LINE's documents say of ids that the bot cannot know both 200 and 400. Here somebody else's id is refused (400),
//! and an id of nobody is skipped, as of somebody who has left LINE. Who is named twice gets it twice: that is not
//! documented, and the harder case.

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

pub(super) async fn multicast(
    State(sim): State<Simulator>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    keyed::send(&sim, &id, &headers, &body, Kind::Multicast, plan)
}

#[expect(clippy::result_large_err, reason = "the error is the answer itself")]
fn plan(state: &mut Memory, ask: &Ask<'_>) -> Result<Plan, Response> {
    check::multicast(ask.body)?;
    let mut to = Vec::new();
    for id in ask.body.get("to").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        match (state.find_in(ask.provider, id), state.find(id)) {
            (Some(person), _) if state.is_reachable(&ask.bot.channel_id, &person, ask.now) => {
                to.push((person, id.to_owned()));
            }
            (Some(_), _) | (None, None) => {}
            (None, Some(_)) => return Err(answer::message(StatusCode::BAD_REQUEST, "Failed to send messages")),
        }
    }
    Ok(Plan { cost: to.len() as u64, to })
}
