//! LINE's API about the webhook: its URL, and a test of it. Only the console switches "Use webhook" and redelivery.

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{post, put},
};
use serde_json::{Value, json};

use super::post::{Letter, Sent, post as post_letter};
use crate::simulator::{Simulator, answer, bot};

const LONGEST_URL: usize = 500;

pub(in crate::simulator) fn routes() -> Router<Simulator> {
    Router::new()
        .route("/v2/bot/channel/webhook/endpoint", put(set).get(find))
        .route("/v2/bot/channel/webhook/test", post(test))
}

fn invalid() -> Response {
    answer::message(StatusCode::BAD_REQUEST, "Invalid webhook endpoint URL")
}

fn not_found() -> Response {
    answer::message(StatusCode::NOT_FOUND, "Webhook endpoint not found")
}

/// Https, or plain http on this machine.
fn is_usable(endpoint: &str) -> bool {
    let is_local = |url: &url::Url| matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    endpoint.encode_utf16().count() <= LONGEST_URL
        && url::Url::parse(endpoint)
            .is_ok_and(|url| url.scheme() == "https" || (url.scheme() == "http" && is_local(&url)))
}

async fn set(State(sim): State<Simulator>, headers: HeaderMap, body: Bytes) -> Response {
    let (_, bot) = match bot::caller(&sim, &headers) {
        Ok(caller) => caller,
        Err(answer) => return answer,
    };
    let body: Value = match answer::read_json(&headers, &body) {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    let Some(endpoint) = body.get("endpoint").and_then(Value::as_str).filter(|endpoint| is_usable(endpoint)) else {
        return invalid();
    };
    sim.state().account(&bot.channel_id).webhook.endpoint = Some(endpoint.to_owned());
    answer::ok(json!({}))
}

async fn find(State(sim): State<Simulator>, headers: HeaderMap) -> Response {
    let (_, bot) = match bot::caller(&sim, &headers) {
        Ok(caller) => caller,
        Err(answer) => return answer,
    };
    let mut state = sim.state();
    let webhook = &state.account(&bot.channel_id).webhook;
    match &webhook.endpoint {
        Some(endpoint) => answer::ok(json!({ "endpoint": endpoint, "active": webhook.active })),
        None => not_found(),
    }
}

/// Sends an empty list of events, to the given URL or to the one that is set.
async fn test(State(sim): State<Simulator>, headers: HeaderMap, body: Bytes) -> Response {
    let (_, bot) = match bot::caller(&sim, &headers) {
        Ok(caller) => caller,
        Err(answer) => return answer,
    };
    let asked: Value = match answer::read_json(&headers, &body) {
        _ if body.is_empty() => Value::Null,
        Ok(body) => body,
        Err(answer) => return answer,
    };
    let url = match asked.get("endpoint") {
        None | Some(Value::Null) => sim.state().account(&bot.channel_id).webhook.endpoint.clone(),
        Some(endpoint) => match endpoint.as_str().filter(|endpoint| is_usable(endpoint)) {
            Some(endpoint) => Some(endpoint.to_owned()),
            None => return invalid(),
        },
    };
    let Some(url) = url else {
        return not_found();
    };
    let body = super::body(bot, &[], false).to_string();
    let sent = post_letter(&sim, Letter::signed(bot, url, body, false)).await;
    answer::ok(report(&sent))
}

fn report(sent: &Sent) -> Value {
    let timestamp = jiff::Timestamp::from_millisecond(sent.at).map(|at| format!("{at:.3}")).unwrap_or_default();
    let (success, reason, detail) = match (sent.status, sent.error) {
        (Some(200), _) => (true, "OK", "200".to_owned()),
        (Some(status), _) => (false, "ERROR_STATUS_CODE", status.to_string()),
        (None, Some("request_timeout")) => (false, "REQUEST_TIMEOUT", "Request timeout".to_owned()),
        (None, Some("could_not_connect")) => (false, "COULD_NOT_CONNECT", "Connection failed".to_owned()),
        (None, _) => (false, "UNCLASSIFIED", "Unclassified error".to_owned()),
    };
    json!({
        "success": success,
        "timestamp": timestamp,
        "statusCode": sent.status.unwrap_or(0),
        "reason": reason,
        "detail": detail,
    })
}
