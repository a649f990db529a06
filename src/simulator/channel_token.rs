//! Channel access tokens, for bots and login channels alike.
//!
//! Stateless ones live 900 seconds, cannot be revoked, and any number may exist at once. Short-lived ones live 30 days;
//! the 31st silently ends the oldest, which is how workers that issue one per request break each other.

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::json;
use url::form_urlencoded;

use super::{
    Simulator, answer, login,
    state::{ChannelToken, ChannelTokenKind as Kind, State as Memory},
};

const STATELESS_SECONDS: i64 = 900;
const SHORT_LIVED_SECONDS: i64 = 2_592_000;
const MAX_SHORT_LIVED: usize = 30;

pub(super) fn routes() -> Router<Simulator> {
    Router::new()
        .route("/oauth2/v3/token", post(stateless))
        .route("/v2/oauth/accessToken", post(short_lived))
        .route("/v2/oauth/verify", post(verify))
        .route("/v2/oauth/revoke", post(revoke))
}

struct Form(Vec<(String, String)>);

impl Form {
    fn read(body: &Bytes) -> Self {
        Self(form_urlencoded::parse(body).into_owned().collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Channel id and secret of a client credentials request.
    fn credentials(&self) -> Option<(&str, &str)> {
        let grant = self.get("grant_type") == Some("client_credentials");
        Some((self.get("client_id")?, self.get("client_secret")?)).filter(|_| grant)
    }
}

/// `POST /oauth2/v3/token`
async fn stateless(State(sim): State<Simulator>, body: Bytes) -> Response {
    let form = Form::read(&body);
    if form.get("client_assertion").is_some() {
        // This LINE has no assertion keys registered.
        let text = "Cannot find channel key that satisfies the conditions";
        return answer::message(StatusCode::NOT_FOUND, text);
    }
    let Some((id, secret)) = form.credentials() else {
        return answer::oauth_missing();
    };
    if sim.world().secret(id) != Some(secret) {
        return answer::oauth("invalid_request", "Invalid 'client_credentials'.");
    }
    issue(&sim, id, Kind::Stateless, STATELESS_SECONDS)
}

/// `POST /v2/oauth/accessToken`
async fn short_lived(State(sim): State<Simulator>, body: Bytes) -> Response {
    let form = Form::read(&body);
    let Some((id, secret)) = form.credentials() else {
        return answer::oauth_missing();
    };
    match sim.world().secret(id) {
        None => answer::oauth("invalid_client", "invalid client_id"),
        Some(own) if own != secret => answer::oauth("invalid_client", "invalid client_secret"),
        Some(_) => {
            make_room(&mut sim.state(), id);
            issue(&sim, id, Kind::ShortLived, SHORT_LIVED_SECONDS)
        }
    }
}

/// Ends the channel's oldest short-lived token if there is no place for another.
fn make_room(state: &mut Memory, channel: &str) {
    let tokens = state.channel_tokens.iter();
    let mut own: Vec<(i64, String)> = tokens
        .filter(|(_, token)| token.channel == channel && token.kind == Kind::ShortLived)
        .map(|(text, token)| (token.issued_at, text.clone()))
        .collect();
    own.sort();
    for (_, text) in own.iter().take((own.len() + 1).saturating_sub(MAX_SHORT_LIVED)) {
        state.channel_tokens.remove(text);
    }
}

fn issue(sim: &Simulator, channel: &str, kind: Kind, seconds: i64) -> Response {
    let now = sim.now();
    let token = login::opaque_token();
    let record = ChannelToken { channel: channel.to_owned(), kind, issued_at: now, expires_at: now + seconds * 1000 };
    let mut state = sim.state();
    state.channel_tokens.retain(|_, token| token.expires_at > now);
    state.channel_tokens.insert(token.clone(), record);
    answer::ok(json!({ "token_type": "Bearer", "access_token": token, "expires_in": seconds }))
}

/// `POST /v2/oauth/verify`, for short-lived tokens; none is documented for stateless ones.
async fn verify(State(sim): State<Simulator>, body: Bytes) -> Response {
    let form = Form::read(&body);
    let now = sim.now();
    let state = sim.state();
    let token = form.get("access_token").and_then(|token| state.channel_token(token, now));
    match token.filter(|token| token.kind == Kind::ShortLived) {
        Some(token) => answer::ok(json!({
            "client_id": token.channel,
            "expires_in": (token.expires_at - now) / 1000,
            "scope": "P CM",
        })),
        None => answer::oauth("invalid_request", "access_token invalid"),
    }
}

/// `POST /v2/oauth/revoke`: 200 whether or not there was such a token.
async fn revoke(State(sim): State<Simulator>, body: Bytes) -> Response {
    let form = Form::read(&body);
    let Some(token) = form.get("access_token") else {
        return answer::oauth_missing();
    };
    let mut state = sim.state();
    if state.channel_tokens.get(token).is_some_and(|token| token.kind == Kind::ShortLived) {
        state.channel_tokens.remove(token);
    }
    StatusCode::OK.into_response()
}
