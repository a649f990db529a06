//! Small courtesies in a chat: the loading animation, and marking messages as read.

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::post,
};
use serde_json::{Value, json};

use super::{
    Simulator,
    answer::{self, Detail},
    bot,
    state::{Account, is_user_id},
};

const USUAL_SECONDS: i64 = 20;

pub(super) fn routes() -> Router<Simulator> {
    Router::new()
        .route("/v2/bot/chat/loading/start", post(loading))
        .route("/v2/bot/chat/markAsRead", post(mark_as_read))
}

/// Shown until its seconds are over or a message comes. Who is no friend, or not known, sees nothing, with the same
/// answer.
async fn loading(State(sim): State<Simulator>, headers: HeaderMap, body: Bytes) -> Response {
    let (provider, bot) = match bot::caller(&sim, &headers) {
        Ok(caller) => caller,
        Err(answer) => return answer,
    };
    let body: Value = match answer::read_json(&headers, &body) {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    let chat = body.get("chatId").and_then(Value::as_str).unwrap_or_default();
    let seconds = match body.get("loadingSeconds") {
        None | Some(Value::Null) => Some(USUAL_SECONDS),
        Some(seconds) => seconds.as_i64(),
    };
    let found = breaches(chat, seconds);
    if !found.is_empty() {
        return answer::about(answer::details(&found), chat);
    }
    let now = sim.now();
    let mut state = sim.state();
    let person = state.find_in(provider, chat);
    if let Some(person) = person.filter(|person| state.is_reachable(&bot.channel_id, person, now)) {
        let until = now + seconds.unwrap_or(USUAL_SECONDS) * 1000;
        state.account(&bot.channel_id).loading.insert(person, until);
    }
    answer::about(answer::json(StatusCode::ACCEPTED, json!({})), chat)
}

fn breaches(chat: &str, seconds: Option<i64>) -> Vec<Detail> {
    let mut found = Vec::new();
    let mut add = |property: &str, message: &str| {
        found.push(Detail { message: message.to_owned(), property: property.to_owned() });
    };
    if !is_user_id(chat) {
        add("chatId", "Only user id is acceptable, group id and room id are not supported");
    }
    match seconds {
        Some(5..=60) => {}
        _ => add("loadingSeconds", "Must be between 5 and 60"),
    }
    if seconds.is_some_and(|seconds| seconds % 5 != 0) {
        add("loadingSeconds", "must be a multiple of five");
    }
    found
}

/// Marks the message that the token names, and all before it.
async fn mark_as_read(State(sim): State<Simulator>, headers: HeaderMap, body: Bytes) -> Response {
    let (_, bot) = match bot::caller(&sim, &headers) {
        Ok(caller) => caller,
        Err(answer) => return answer,
    };
    let body: Value = match answer::read_json(&headers, &body) {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    let token = body.get("markAsReadToken").and_then(Value::as_str).unwrap_or_default();
    let mut state = sim.state();
    if mark(state.account(&bot.channel_id), token) {
        return answer::ok(json!({}));
    }
    let text = "Invalid markAsReadToken. Tokens must be used by the bot that received them via Webhook.";
    answer::message(StatusCode::BAD_REQUEST, text)
}

/// False for a token that this account was not given. An unsent message marks nothing.
fn mark(account: &mut Account, token: &str) -> bool {
    let Some((chat, id)) = account.read_tokens.get(token) else {
        return false;
    };
    let messages = account.chats.entry(chat.clone()).or_default();
    let last = messages.iter().position(|message| message.get("id").and_then(Value::as_str) == Some(id));
    let theirs = messages.iter_mut().take(last.map_or(0, |last| last + 1));
    for message in theirs.filter_map(Value::as_object_mut).filter(|message| message.contains_key("from")) {
        message.insert("read".to_owned(), true.into());
    }
    true
}
