//! `POST /v2/bot/message/broadcast`: to all friends.

use axum::{Extension, body::Bytes, extract::State, http::HeaderMap, response::Response};

use super::{
    check,
    deliver::Kind,
    found::Found,
    keyed::{self, Ask, Plan},
};
use crate::simulator::{
    Simulator,
    answer::RequestId,
    state::{PersonId, State as Memory, Tie, user_id},
};

pub(super) async fn broadcast(
    State(sim): State<Simulator>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    keyed::send(&sim, &id, &headers, &body, Kind::Broadcast, plan)
}

#[expect(clippy::result_large_err, reason = "the error is the answer itself")]
fn plan(state: &mut Memory, ask: &Ask<'_>) -> Result<Plan, Response> {
    check::messages(ask.body, Found::default())?;
    let friends = friends(state, &ask.bot.channel_id);
    let to: Vec<_> = friends.into_iter().map(|person| named(person, &ask.provider.name)).collect();
    Ok(Plan { cost: to.len() as u64, to })
}

pub(super) fn friends(state: &Memory, channel: &str) -> Vec<PersonId> {
    let ties = state.accounts.get(channel).into_iter().flat_map(|account| &account.ties);
    ties.filter(|(_, tie)| **tie == Tie::Friend).map(|(person, _)| person.clone()).collect()
}

/// A person with the id by which a provider knows them.
pub(super) fn named(person: PersonId, provider: &str) -> (PersonId, String) {
    let id = user_id(&person, provider);
    (person, id)
}
