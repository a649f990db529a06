//! `POST /v2/bot/message/reply`: free of charge, and only soon after the event.
//!
//! A token is good for one reply, within a minute of its webhook. A redelivered webhook gives it another minute, but
//! none lives longer than twenty minutes after the event. The messages are checked first, so a refused body does not
//! use the token up.

use axum::{
    Extension,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    check,
    deliver::{Kind, Sending, sent_messages},
    found::Found,
};
use crate::simulator::{
    Simulator,
    answer::{self, RequestId},
    bot,
    state::{Account, ChatId, Tie, user_id},
};

const LIFE: i64 = 60 * 1000;
const LONGEST_LIFE: i64 = 20 * 60 * 1000;

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(in crate::simulator) struct ReplyToken {
    pub chat: ChatId,
    pub event_at: i64,
    /// When the webhook that carries it was last sent.
    pub sent_at: Option<i64>,
    pub used: bool,
}

pub(super) async fn reply(
    State(sim): State<Simulator>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
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
    let now = sim.now();
    let Some(chat) = take(state.account(&bot.channel_id), token, now) else {
        return answer::message(StatusCode::BAD_REQUEST, "Invalid reply token");
    };
    let messages = check::list(&body);
    let (ids, sent) = sent_messages(&mut state, messages);
    let to = if state.groups.contains_key(&chat) { chat.clone() } else { user_id(&chat, &provider.name) };
    if state.tie(&bot.channel_id, &chat) != Some(Tie::Blocked) {
        // A reply has no limit to be refused by.
        let _ = state.account(&bot.channel_id).quota.spend(Kind::Reply, 1, now);
        let sending = Sending { kind: Kind::Reply, request_id: &request_id, retry_key: None, ids, messages };
        sending.deliver(&mut state, bot, vec![(chat, to.clone())], now);
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
