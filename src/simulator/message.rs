//! Sending: push, multicast, narrowcast, broadcast, and in `reply` the answer to an event.
//!
//! Success says only that LINE took the request: to someone who is no friend, or has blocked the account, nothing is
//! delivered and the answer is the same. What is delivered counts against the month's quota, by the head; replies are
//! free.
//!
//! - `keyed`: what the four have in common, and the retry key; `push`, `multicast`, `narrowcast`, `broadcast`: whom
//!   each reaches; `deliver`: into the chats
//! - `validate`: the check alone; `check`, `flex`, `action`, `found`: LINE's rules for messages
//! - `quota`: what may be sent, and was

pub(super) mod action;
mod broadcast;
mod check;
mod deliver;
mod flex;
pub(super) mod found;
mod keyed;
mod multicast;
mod narrowcast;
mod push;
mod quota;
mod reply;
mod validate;

use axum::{
    Router,
    routing::{get, post},
};

pub(super) use self::{deliver::Kind, keyed::AcceptedRequest, narrowcast::Narrowcast, quota::Quota, reply::ReplyToken};
use super::Simulator;

pub(super) fn routes() -> Router<Simulator> {
    Router::new()
        .route("/v2/bot/message/push", post(push::push))
        .route("/v2/bot/message/multicast", post(multicast::multicast))
        .route("/v2/bot/message/narrowcast", post(narrowcast::narrowcast))
        .route("/v2/bot/message/progress/narrowcast", get(narrowcast::progress))
        .route("/v2/bot/message/broadcast", post(broadcast::broadcast))
        .route("/v2/bot/message/reply", post(reply::reply))
        .route("/v2/bot/message/validate/reply", post(validate::validate))
        .route("/v2/bot/message/validate/push", post(validate::validate))
        .route("/v2/bot/message/validate/multicast", post(validate::validate))
        .route("/v2/bot/message/validate/narrowcast", post(validate::validate))
        .route("/v2/bot/message/validate/broadcast", post(validate::validate))
        .route("/v2/bot/message/quota", get(quota::quota))
        .route("/v2/bot/message/quota/consumption", get(quota::consumption))
        .route("/v2/bot/message/delivery/{kind}", get(quota::sent_on))
}
