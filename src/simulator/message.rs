//! `POST /v2/bot/message/push`, and in `reply` the answer to an event.
//!
//! 200 says only that LINE took the request: to someone who is no friend, or has blocked the account, nothing is
//! delivered and the answer is the same. A retry key is taken by the first accepted request and kept 24 hours; the same
//! key again delivers nothing and answers 409 with the first answer's ids.

pub(super) mod action;
mod check;
mod flex;
pub(super) mod found;
mod reply;

use axum::{
    Extension, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode},
    response::Response,
    routing::post,
};
use serde_json::{Value, json};

use super::{
    Simulator,
    answer::{self, RequestId},
    bot,
    ledger::Delivery,
    state::{AcceptedRequest, ChatId, State as Memory},
    world::{Bot, Provider},
};

const RETRY_KEY_LIFE: i64 = 24 * 3600 * 1000;

pub(super) fn routes() -> Router<Simulator> {
    Router::new().route("/v2/bot/message/push", post(push)).route("/v2/bot/message/reply", post(reply::reply))
}

async fn push(
    State(sim): State<Simulator>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (provider, bot) = match bot::sender(&sim, &headers) {
        Ok(caller) => caller,
        Err(answer) => return answer,
    };
    let retry_key = match retry_key(&headers) {
        Ok(key) => key,
        Err(answer) => return answer,
    };
    let body: Value = match answer::read_json(&headers, &body) {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    let to = body.get("to").and_then(Value::as_str).unwrap_or_default().to_owned();
    let now = sim.now();
    let mut state = sim.state();
    if let Some(accepted) = taken(&mut state, bot, retry_key.as_deref(), now) {
        return answer::about(conflict(&accepted), &to);
    }
    if let Err(answer) = check::push(&body) {
        return answer::about(answer, &to);
    }
    let Some((chat, arrives)) = recipient(&state, provider, bot, &to, now) else {
        let refusal = answer::message(StatusCode::BAD_REQUEST, "Failed to send messages");
        return answer::about(refusal, &to);
    };
    let messages = body.get("messages").and_then(Value::as_array).cloned().unwrap_or_default();
    let sent = sent_messages(&mut state, &messages);
    if arrives {
        note_delivery(&mut state, bot, &to, Sending::Push(retry_key.as_deref()), messages.len() as u64);
        show(&mut state, bot, &chat, messages);
    }
    if let Some(key) = retry_key {
        let accepted = AcceptedRequest { request_id, sent_messages: sent.clone(), at: now };
        state.account(&bot.channel_id).retry_keys.insert(key, accepted);
    }
    answer::about(answer::ok(json!({ "sentMessages": sent })), &to)
}

/// Whose chat an id names, and whether a push arrives there. A group is known to the bots that are in it.
fn recipient(state: &Memory, provider: &Provider, bot: &Bot, to: &str, now: i64) -> Option<(ChatId, bool)> {
    if let Some(group) = state.groups.get(to) {
        return group.bots.contains(&bot.channel_id).then(|| (to.to_owned(), true));
    }
    let person = state.find_in(provider, to)?;
    let arrives = state.is_reachable(&bot.channel_id, &person, now);
    Some((person, arrives))
}

/// Puts messages of the bot into a chat; they end the loading animation.
fn show(state: &mut Memory, bot: &Bot, chat: &str, messages: Vec<Value>) {
    let account = state.account(&bot.channel_id);
    account.loading.remove(chat);
    account.chats.entry(chat.to_owned()).or_default().extend(messages);
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
fn taken(state: &mut Memory, bot: &Bot, retry_key: Option<&str>, now: i64) -> Option<AcceptedRequest> {
    let keys = &mut state.account(&bot.channel_id).retry_keys;
    let accepted = keys.get(retry_key?).cloned()?;
    if now - accepted.at < RETRY_KEY_LIFE {
        return Some(accepted);
    }
    keys.retain(|_, accepted| now - accepted.at < RETRY_KEY_LIFE);
    None
}

fn conflict(accepted: &AcceptedRequest) -> Response {
    let body = json!({
        "message": "The retry key is already accepted",
        "sentMessages": accepted.sent_messages,
    });
    let mut response = answer::json(StatusCode::CONFLICT, body);
    if let Ok(id) = HeaderValue::try_from(&accepted.request_id) {
        response.headers_mut().insert("x-line-accepted-request-id", id);
    }
    response
}

/// An id for each message, and a quote token where the type can be quoted.
fn sent_messages(state: &mut Memory, messages: &[Value]) -> Value {
    let quotable = ["text", "textV2", "sticker", "image", "video", "template", "flex"];
    let sent = messages.iter().map(|message| {
        let mut sent = json!({ "id": state.message_id() });
        let kind = message.get("type").and_then(Value::as_str).unwrap_or_default();
        if let (true, Some(map)) = (quotable.contains(&kind), sent.as_object_mut()) {
            let token = super::login::secret_text();
            map.insert("quoteToken".to_owned(), token.into());
        }
        sent
    });
    sent.collect()
}

/// The two ways of sending that end in a chat.
enum Sending<'a> {
    Push(Option<&'a str>),
    Reply,
}

fn note_delivery(state: &mut Memory, bot: &Bot, to: &str, by: Sending<'_>, messages: u64) {
    let (retry_key, reply) = match by {
        Sending::Push(key) => (key, false),
        Sending::Reply => (None, true),
    };
    let sending = if reply { "reply" } else { retry_key.unwrap_or_default() };
    let key = format!("{} {to} {sending}", bot.channel_id);
    let delivery = state.deliveries.entry(key).or_insert_with(|| Delivery {
        channel: bot.channel_id.clone(),
        user_id: to.to_owned(),
        retry_key: retry_key.map(str::to_owned),
        reply,
        count: 0,
        messages: 0,
    });
    delivery.count += 1;
    delivery.messages += messages;
}
