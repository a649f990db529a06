//! `POST /v2/bot/message/reply`: free of charge, and only soon after the event.
//!
//! A token is good for one reply, within a minute of its webhook. A redelivered webhook gives it another minute, but
//! none lives longer than twenty minutes after the event. The messages are checked first, so a refused body does not
//! use the token up.

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde_json::{Value, json};

use super::{Sending, check, found::Found, note_delivery, sent_messages, show};
use crate::simulator::{
    Simulator, answer, bot,
    state::{Account, ChatId, Tie, user_id},
};

const LIFE: i64 = 60 * 1000;
const LONGEST_LIFE: i64 = 20 * 60 * 1000;

pub(super) async fn reply(State(sim): State<Simulator>, headers: HeaderMap, body: Bytes) -> Response {
    let (provider, bot) = match bot::caller(&sim, &headers) {
        Ok(caller) => caller,
        Err(answer) => return answer,
    };
    let body: Value = match answer::read_json(&headers, &body) {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    let Some(token) = body.get("replyToken").and_then(Value::as_str) else {
        return answer::invalid_property("replyToken");
    };
    if let Err(answer) = check::messages(&body, Found::default()) {
        return answer;
    }
    let mut state = sim.state();
    let Some(chat) = take(state.account(&bot.channel_id), token, sim.now()) else {
        return answer::message(StatusCode::BAD_REQUEST, "Invalid reply token");
    };
    let messages = body.get("messages").and_then(Value::as_array).cloned().unwrap_or_default();
    let sent = sent_messages(&mut state, &messages);
    let to = if state.groups.contains_key(&chat) { chat.clone() } else { user_id(&chat, &provider.name) };
    if state.tie(&bot.channel_id, &chat) != Some(Tie::Blocked) {
        note_delivery(&mut state, bot, &to, Sending::Reply, messages.len() as u64);
        show(&mut state, bot, &chat, messages);
    }
    answer::about(answer::ok(json!({ "sentMessages": sent })), &to)
}

/// Uses a token up; gives the chat it is for.
fn take(account: &mut Account, token: &str, now: i64) -> Option<ChatId> {
    let token = account.reply_tokens.get_mut(token)?;
    let fresh = token.sent_at.is_some_and(|at| now - at < LIFE) && now - token.event_at < LONGEST_LIFE;
    if token.used || !fresh {
        return None;
    }
    token.used = true;
    Some(token.chat.clone())
}
