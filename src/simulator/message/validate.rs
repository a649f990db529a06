//! `POST /v2/bot/message/validate/…`: LINE's rules for the messages, and nothing else: no recipient, no quota.

use axum::{body::Bytes, extract::State, http::HeaderMap, response::Response};
use serde_json::{Value, json};

use super::{check, found::Found};
use crate::simulator::{Simulator, answer, bot};

pub(super) async fn validate(State(sim): State<Simulator>, headers: HeaderMap, body: Bytes) -> Response {
    let read = || {
        bot::caller(&sim, &headers)?;
        let body: Value = answer::read_json(&headers, &body)?;
        check::messages(&body, Found::default())
    };
    match read() {
        Ok(()) => answer::ok(json!({})),
        Err(answer) => answer,
    }
}
