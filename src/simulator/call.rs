//! What surrounds every call to LINE's faces: the request id, the size limit, a fault if one is ordered, the ledger.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
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
