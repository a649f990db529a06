//! `POST /oauth2/v3/token`: stateless channel access tokens, for bots and login channels alike.
//!
//! They live 900 seconds, cannot be revoked, and any number may exist at once.

use axum::{
    Router, body::Bytes, extract::State, http::StatusCode, response::Response, routing::post,
};
use serde_json::json;
use url::form_urlencoded;

use super::{Simulator, answer, login, state::ChannelToken};

const LIFE_SECONDS: i64 = 900;

pub(super) fn routes() -> Router<Simulator> {
    Router::new().route("/oauth2/v3/token", post(issue))
}

async fn issue(State(sim): State<Simulator>, body: Bytes) -> Response {
    let form: Vec<(String, String)> = form_urlencoded::parse(&body).into_owned().collect();
    let get = |name: &str| {
        form.iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    };
    if get("grant_type") != Some("client_credentials") {
        return answer::oauth_missing();
    }
    if get("client_assertion").is_some() {
        // This LINE has no assertion keys registered.
        let text = "Cannot find channel key that satisfies the conditions";
        return answer::message(StatusCode::NOT_FOUND, text);
    }
    let (Some(id), Some(secret)) = (get("client_id"), get("client_secret")) else {
        return answer::oauth_missing();
    };
    if sim.world().secret(id) != Some(secret) {
        return answer::oauth("invalid_request", "Invalid 'client_credentials'.");
    }
    let now = sim.now();
    let token = login::opaque_token();
    let record = ChannelToken {
        channel: id.to_owned(),
        expires_at: now + LIFE_SECONDS * 1000,
    };
    let mut state = sim.state();
    state
        .channel_tokens
        .retain(|_, token| token.expires_at > now);
    state.channel_tokens.insert(token.clone(), record);
    answer::ok(json!({ "token_type": "Bearer", "access_token": token, "expires_in": LIFE_SECONDS }))
}
