//! What the sends with a retry key have in common. The first accepted request takes the key for 24 hours; the same key
//! again delivers nothing and answers 409 with the first request's id, and for a push its messages' ids. A refused
//! request leaves its key free.

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue, StatusCode},
    response::Response,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    check,
    deliver::{Kind, Sending, sent_messages},
};
use crate::simulator::{
    Simulator,
    answer::{self, RequestId},
    bot,
    state::{ChatId, State as Memory},
    world::{Bot, Provider},
};

const RETRY_KEY_LIFE: i64 = 24 * 3600 * 1000;

/// A request whose retry key is taken.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(in crate::simulator) struct AcceptedRequest {
    pub request_id: String,
    /// `sentMessages` as JSON text; there may be very many of these. Empty where the answer had none.
    #[serde(default)]
    pub sent: String,
    pub at: i64,
}

/// A request that has passed the door.
pub(super) struct Ask<'a> {
    pub provider: &'a Provider,
    pub bot: &'a Bot,
    pub body: &'a Value,
    pub request_id: &'a str,
    pub now: i64,
}

/// Whom a request reaches: the chats, and the ids that name them to this bot.
pub(super) struct Plan {
    pub to: Vec<(ChatId, String)>,
    /// What it takes of the quota.
    pub cost: u64,
}

/// Takes a send from the door to its answer. `plan` checks what is the endpoint's own, and chooses whom it reaches.
pub(super) fn send(
    sim: &Simulator,
    RequestId(request_id): &RequestId,
    headers: &HeaderMap,
    body: &Bytes,
    kind: Kind,
    plan: impl FnOnce(&mut Memory, &Ask<'_>) -> Result<Plan, Response>,
) -> Response {
    let (provider, bot, retry_key, body) = match read(sim, headers, body) {
        Ok(read) => read,
        Err(answer) => return answer,
    };
    let ask = Ask { provider, bot, body: &body, request_id, now: sim.now() };
    let answer = carry_out(&mut sim.state(), &ask, kind, retry_key, plan).unwrap_or_else(|answer| answer);
    match body.get("to").and_then(Value::as_str) {
        Some(to) => answer::about(answer, to),
        None => answer,
    }
}

#[expect(clippy::result_large_err, reason = "the error is the answer itself")]
fn read<'s>(
    sim: &'s Simulator,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<(&'s Provider, &'s Bot, Option<String>, Value), Response> {
    let (provider, bot) = bot::sender(sim, headers)?;
    let retry_key = retry_key(headers)?;
    Ok((provider, bot, retry_key, answer::read_json(headers, body)?))
}

#[expect(clippy::result_large_err, reason = "the error is the answer itself")]
fn carry_out(
    state: &mut Memory,
    ask: &Ask<'_>,
    kind: Kind,
    retry_key: Option<String>,
    plan: impl FnOnce(&mut Memory, &Ask<'_>) -> Result<Plan, Response>,
) -> Result<Response, Response> {
    if let Some(accepted) = taken(state, ask, retry_key.as_deref()) {
        return Err(conflict(&accepted));
    }
    let plan = plan(state, ask)?;
    state.account(&ask.bot.channel_id).quota.spend(kind, plan.cost, ask.now)?;
    let messages = check::list(ask.body);
    let (ids, sent) = if kind == Kind::Push { sent_messages(state, messages) } else { (Vec::new(), Value::Null) };
    let sending = Sending { kind, request_id: ask.request_id, retry_key: retry_key.as_deref(), ids, messages };
    sending.deliver(state, ask.bot, plan.to, ask.now);
    if let Some(key) = retry_key {
        let sent = if sent.is_null() { String::new() } else { sent.to_string() };
        take(state, ask, key, sent);
    }
    Ok(match kind {
        Kind::Push => answer::ok(json!({ "sentMessages": sent })),
        Kind::Narrowcast => answer::json(StatusCode::ACCEPTED, json!({})),
        _ => answer::ok(json!({})),
    })
}

/// The retry key, in lower case so that one UUID is one key.
#[expect(clippy::result_large_err, reason = "the error is the answer itself")]
fn retry_key(headers: &HeaderMap) -> Result<Option<String>, Response> {
    let Some(value) = headers.get("x-line-retry-key") else {
        return Ok(None);
    };
    let key = value.to_str().unwrap_or_default();
    let dashes = [8, 13, 18, 23];
    let is_uuid = key.len() == 36
        && key.bytes().enumerate().all(
            |(place, byte)| {
                if dashes.contains(&place) { byte == b'-' } else { byte.is_ascii_hexdigit() }
            },
        );
    if is_uuid {
        return Ok(Some(key.to_ascii_lowercase()));
    }
    let text = "The value for the 'X-Line-Retry-Key' header is invalid";
    Err(answer::message(StatusCode::BAD_REQUEST, text))
}

/// The request that has taken the key, if it is less than a day old.
fn taken(state: &mut Memory, ask: &Ask<'_>, retry_key: Option<&str>) -> Option<AcceptedRequest> {
    let keys = &state.account(&ask.bot.channel_id).retry_keys;
    keys.get(retry_key?).filter(|accepted| ask.now - accepted.at < RETRY_KEY_LIFE).cloned()
}

fn take(state: &mut Memory, ask: &Ask<'_>, key: String, sent: String) {
    let keys = &mut state.account(&ask.bot.channel_id).retry_keys;
    // Looked through each time that there are twice as many, so that it costs next to nothing.
    if keys.len() >= 1024 && keys.len().is_power_of_two() {
        keys.retain(|_, accepted| ask.now - accepted.at < RETRY_KEY_LIFE);
    }
    keys.insert(key, AcceptedRequest { request_id: ask.request_id.to_owned(), sent, at: ask.now });
}

fn conflict(accepted: &AcceptedRequest) -> Response {
    let mut body = json!({ "message": "The retry key is already accepted" });
    if let Ok(sent) = serde_json::from_str::<Value>(&accepted.sent) {
        body["sentMessages"] = sent;
    }
    let mut response = answer::json(StatusCode::CONFLICT, body);
    if let Ok(id) = HeaderValue::try_from(&accepted.request_id) {
        response.headers_mut().insert("x-line-accepted-request-id", id);
    }
    response
}
