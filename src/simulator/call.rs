//! What surrounds every call to LINE's faces: the request id, the size and rate limits, a fault if one is ordered, the
//! ledger.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, StatusCode, request::Parts},
    middleware::Next,
    response::Response,
};

use super::{
    Simulator,
    answer::{self, About, RequestId},
    fault,
    ledger::Call,
};

/// LINE's limit on a request body.
const MAX_BODY: usize = 2 * 1024 * 1024;

/// Plays one call: fault or handler, then request id and ledger.
pub(super) async fn play(State(sim): State<Simulator>, request: Request, next: Next) -> Response {
    let id = uuid::Uuid::new_v4().to_string();
    let (mut parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, MAX_BODY).await;
    let mut call = Call::of(
        &parts,
        body.as_ref().unwrap_or(&Bytes::new()),
        sim.now(),
        &id,
    );
    parts.extensions.insert(RequestId(id.clone()));
    let mut response = match body {
        Ok(body) => handle(&sim, parts, body, next, &mut call).await,
        Err(_) => answer::message(StatusCode::PAYLOAD_TOO_LARGE, "Payload Too Large"),
    };
    if let Ok(id) = HeaderValue::try_from(&id) {
        response.headers_mut().insert("x-line-request-id", id);
    }
    sim.state().ledger.add(call);
    sim.changed();
    response
}

async fn handle(
    sim: &Simulator,
    parts: Parts,
    body: Bytes,
    next: Next,
    call: &mut Call,
) -> Response {
    let fault = fault::take(&mut sim.state().faults, &parts.method, parts.uri.path());
    if let Some(delay) = fault.as_ref().and_then(|fault| fault.delay_ms) {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let mut response = match fault.as_ref().and_then(fault::Fault::instead) {
        Some(response) => response,
        None if exceeds_rate(sim, &parts) => {
            let text = "The API rate limit has been exceeded. Try again later.";
            answer::message(StatusCode::TOO_MANY_REQUESTS, text)
        }
        None => {
            call.handled = true;
            next.run(Request::from_parts(parts, Body::from(body))).await
        }
    };
    call.user_id = response
        .extensions_mut()
        .remove::<About>()
        .map(|About(user_id)| user_id);
    if let Some(fault) = fault.filter(|_| call.handled) {
        response = fault.spoil(response).await;
    }
    call.status = response.status().as_u16();
    response
}

/// Whether a bot calls this endpoint too often. A caller without a live token is left to the handler.
fn exceeds_rate(sim: &Simulator, parts: &Parts) -> bool {
    let route = parts
        .extensions
        .get::<MatchedPath>()
        .map(MatchedPath::as_str);
    let Some(route) = route.filter(|route| route.starts_with("/v2/bot/")) else {
        return false;
    };
    let now = sim.now();
    let mut state = sim.state();
    let token = answer::bearer(&parts.headers);
    let channel = token
        .and_then(|token| state.channel_of(token, now))
        .cloned();
    channel.is_some_and(|channel| !state.buckets.take(&channel, &parts.method, route, now))
}
