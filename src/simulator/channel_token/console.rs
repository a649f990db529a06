//! What a company does about tokens in LINE's console: it registers assertion signing keys, issues the long-lived token,
//! and takes tokens back.

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Kind, LONG_LIVED_SECONDS, assertion, issue};
use crate::simulator::{Simulator, answer, control::refuse};

pub(in crate::simulator) fn routes() -> Router<Simulator> {
    Router::new()
        .route("/_sim/channels/{channel}/assertion-keys", post(register_key))
        .route("/_sim/channels/{channel}/long-lived-token", post(issue_long_lived))
        .route("/_sim/channels/{channel}/tokens", get(list).delete(end_all))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewKey {
    /// The public key as the console takes it: without `kid`.
    jwk: Value,
    /// LINE makes up an id; a test may say which.
    kid: Option<String>,
}

/// Answers with the key id that LINE gives to the key.
async fn register_key(State(sim): State<Simulator>, Path(channel): Path<String>, Json(new): Json<NewKey>) -> Response {
    if sim.world().secret(&channel).is_none() {
        return no_channel();
    }
    if assertion::components(&new.jwk).is_none() || new.jwk.get("kid").is_some() || new.jwk.get("d").is_some() {
        return refuse(StatusCode::BAD_REQUEST, "not a public RSA key for RS256, as JWK without kid");
    }
    let kid = new.kid.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    sim.state().assertion_keys.entry(channel).or_default().insert(kid.clone(), new.jwk);
    sim.changed();
    answer::json(StatusCode::CREATED, json!({ "kid": kid }))
}

/// Another long-lived token ends the one before.
async fn issue_long_lived(State(sim): State<Simulator>, Path(channel): Path<String>) -> Response {
    if sim.world().bot(&channel).is_none() {
        return no_channel();
    }
    let mut state = sim.state();
    state.channel_tokens.retain(|_, token| token.channel != channel || token.kind != Kind::LongLived);
    let response = issue(&sim, &mut state, &channel, Kind::LongLived, LONG_LIVED_SECONDS);
    drop(state);
    sim.changed();
    response
}

/// The living tokens, oldest first, without the tokens themselves.
async fn list(State(sim): State<Simulator>, Path(channel): Path<String>) -> Response {
    let now = sim.now();
    let state = sim.state();
    let mut tokens: Vec<_> = state.channel_tokens.values().filter(|token| token.channel == channel).collect();
    tokens.retain(|token| token.expires_at > now);
    tokens.sort_by_key(|token| token.issued_at);
    answer::ok(json!({ "tokens": tokens }))
}

/// Ends every token of the channel, of whatever kind, as LINE may do.
async fn end_all(State(sim): State<Simulator>, Path(channel): Path<String>) -> Response {
    sim.state().channel_tokens.retain(|_, token| token.channel != channel);
    sim.changed();
    StatusCode::NO_CONTENT.into_response()
}

fn no_channel() -> Response {
    refuse(StatusCode::NOT_FOUND, "no such channel")
}
