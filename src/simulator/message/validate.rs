//! `POST /v2/bot/message/validate/…`: LINE's rules for the messages, and nothing else: no recipient, no quota.

use axum::{body::Bytes, extract::State, http::HeaderMap, response::Response};
use serde_json::{Value, json};

use super::{check, found::Found};
use crate::simulator::{Simulator, answer, bot};

pub(super) async fn validate(State(sim): State<Simulator>, headers: HeaderMap, body: Bytes) -> Response {
    judge(&sim, &headers, &body).map_or_else(|answer| answer, |()| answer::ok(json!({})))
}

#[expect(clippy::result_large_err, reason = "the error is the answer itself")]
fn judge(sim: &Simulator, headers: &HeaderMap, body: &Bytes) -> Result<(), Response> {
    bot::caller(sim, headers)?;
    let body: Value = answer::read_json(headers, body)?;
    check::messages(&body, Found::default())
}
