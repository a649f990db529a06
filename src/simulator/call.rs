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
    fault::{self, Fault},
    ledger::Call,
};

/// LINE's limit on a request body.
const MAX_BODY: usize = 2 * 1024 * 1024;

/// Plays one call. A caller who hangs up does not undo it: LINE works on what it has received.
pub(super) async fn play(State(sim): State<Simulator>, request: Request, next: Next) -> Response {
    let call = tokio::spawn(play_out(sim, request, next));
    call.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a handler of the simulator failed");
        answer::message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
    })
}

/// Fault or handler, then request id and ledger, and only then the ordered delay: a slow answer is one to a call that
/// has already had its effect.
async fn play_out(sim: Simulator, request: Request, next: Next) -> Response {
    let id = uuid::Uuid::new_v4().to_string();
    let (mut parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, MAX_BODY).await;
    let seen = body.as_deref().unwrap_or_default();
    let mut call = Call::of(&parts, seen, sim.now(), &id);
    parts.extensions.insert(RequestId(id.clone()));
    let (fault, latency) = {
        let mut state = sim.state();
        (fault::take(&mut state.faults, &parts.method, parts.uri.path()), state.latency_ms)
    };
    let mut response = match body {
        Ok(body) => handle(&sim, parts, body, next, &mut call, fault.as_ref()).await,
        Err(_) => answer::message(StatusCode::PAYLOAD_TOO_LARGE, "Payload Too Large"),
    };
    call.status = response.status().as_u16();
    if let Ok(id) = HeaderValue::try_from(&id) {
        response.headers_mut().insert("x-line-request-id", id);
    }
    sim.state().ledger.add(call);
    sim.changed();
    let delay = latency + fault.and_then(|fault| fault.delay_ms).unwrap_or_default();
    if delay > 0 {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    response
}

async fn handle(
    sim: &Simulator,
    parts: Parts,
    body: Bytes,
    next: Next,
    call: &mut Call,
    fault: Option<&Fault>,
) -> Response {
    let mut response = match fault.and_then(Fault::instead) {
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
    call.user_id = response.extensions_mut().remove::<About>().map(|About(user_id)| user_id);
    match fault.filter(|_| call.handled) {
        Some(fault) => fault.spoil(response).await,
        None => response,
    }
}

/// Gives an answer outside LINE's faces a request id too, so that no answer is without one.
pub(super) async fn name(mut response: Response) -> Response {
    if let Ok(id) = HeaderValue::try_from(uuid::Uuid::new_v4().to_string()) {
        response.headers_mut().insert("x-line-request-id", id);
    }
    response
}

/// Whether a bot calls this endpoint too often. A caller without a live token is left to the handler.
fn exceeds_rate(sim: &Simulator, parts: &Parts) -> bool {
    let route = parts.extensions.get::<MatchedPath>().map(MatchedPath::as_str);
    let Some(route) = route.filter(|route| route.starts_with("/v2/bot/")) else {
        return false;
    };
    let now = sim.now();
    let mut state = sim.state();
    let token = answer::bearer(&parts.headers);
    let channel = token.and_then(|token| state.channel_of(token, now)).cloned();
    channel.is_some_and(|channel| !state.buckets.take(&channel, &parts.method, route, now))
}
