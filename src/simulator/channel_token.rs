//! Channel access tokens, for bots and login channels alike.
//!
//! - Stateless ones live 900 seconds, cannot be revoked, and any number may exist at once.
//! - Those of v2.1 live as long as the assertion asks for, 30 days at most; the 31st is refused.
//! - Short-lived ones live 30 days; the 31st silently ends the oldest, which is how workers that issue one per request
//!   break each other.
//! - A long-lived one is made in the console; making another ends it.
//!
//! Tokens v2.1 share their paths with people's access tokens of LINE Login: what is asked for tells them apart.

mod assertion;
mod console;

use axum::{
    Router,
    body::Bytes,
    extract::{RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;
use url::form_urlencoded;

pub(super) use self::console::routes as control_routes;
use super::{
    Simulator, answer, login,
    state::{ChannelToken, ChannelTokenKind as Kind, State as Memory},
};

const STATELESS_SECONDS: i64 = 900;
const SHORT_LIVED_SECONDS: i64 = 2_592_000;
/// Of a kind that is limited.
const MAX_TOKENS: usize = 30;
/// How long it is known of a token how it ended.
const ENDED_KNOWN: i64 = 24 * 3600 * 1000;
/// Not a word is documented; a hundred years, as in LINE's example of an answer.
const LONG_LIVED_SECONDS: i64 = 3_138_007_490;

pub(super) fn routes() -> Router<Simulator> {
    Router::new()
        .route("/oauth2/v3/token", post(stateless))
        .route("/oauth2/v2.1/tokens/kid", get(key_ids))
        .route("/v2/oauth/accessToken", post(short_lived))
        .route("/v2/oauth/verify", post(verify))
        .route("/v2/oauth/revoke", post(revoke))
}

struct Form(Vec<(String, String)>);

impl Form {
    fn read(body: &[u8]) -> Self {
        Self(form_urlencoded::parse(body).into_owned().collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    fn asks_for_credentials(&self) -> bool {
        self.get("grant_type") == Some("client_credentials")
    }

    /// Channel id and secret of a client credentials request.
    fn credentials(&self) -> Option<(&str, &str)> {
        Some((self.get("client_id")?, self.get("client_secret")?)).filter(|_| self.asks_for_credentials())
    }
}

/// `POST /oauth2/v3/token`
async fn stateless(State(sim): State<Simulator>, body: Bytes) -> Response {
    let form = Form::read(&body);
    let mut state = sim.state();
    if form.get("client_assertion").is_some() && form.asks_for_credentials() {
        return match assertion::read(&state, &form, sim.now()) {
            Ok(assertion) => issue(&sim, &mut state, &assertion.channel, Kind::Stateless, STATELESS_SECONDS),
            Err(answer) => answer,
        };
    }
    let Some((id, secret)) = form.credentials() else {
        return answer::oauth_missing();
    };
    if sim.world().secret(id) != Some(secret) {
        return answer::oauth("invalid_request", "Invalid 'client_credentials'.");
    }
    issue(&sim, &mut state, id, Kind::Stateless, STATELESS_SECONDS)
}

/// `POST /oauth2/v2.1/token` with an assertion.
pub(super) fn by_assertion(sim: &Simulator, body: &Bytes) -> Response {
    let form = Form::read(body);
    let now = sim.now();
    let mut state = sim.state();
    let assertion = match assertion::read(&state, &form, now) {
        Ok(assertion) => assertion,
        Err(answer) => return answer,
    };
    let Some(seconds) = assertion.token_seconds.filter(|seconds| (1..=SHORT_LIVED_SECONDS).contains(seconds)) else {
        return answer::oauth("invalid_client", "Invalid token_exp");
    };
    if of_kind(&state, &assertion.channel, Kind::V21, now).len() >= MAX_TOKENS {
        let text = "The maximum number of access tokens has already been issued";
        return answer::message(StatusCode::BAD_REQUEST, text);
    }
    issue(sim, &mut state, &assertion.channel, Kind::V21, seconds)
}

/// `GET /oauth2/v2.1/tokens/kid`
async fn key_ids(State(sim): State<Simulator>, RawQuery(query): RawQuery) -> Response {
    let form = Form::read(query.unwrap_or_default().as_bytes());
    let now = sim.now();
    let state = sim.state();
    match assertion::read(&state, &form, now) {
        Ok(assertion) => {
            let tokens = of_kind(&state, &assertion.channel, Kind::V21, now);
            answer::ok(
                json!({ "kids": tokens.iter().filter_map(|(_, token)| token.key_id.as_ref()).collect::<Vec<_>>() }),
            )
        }
        Err(answer) => answer,
    }
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
            let mut state = sim.state();
            make_room(&mut state, id, sim.now());
            issue(&sim, &mut state, id, Kind::ShortLived, SHORT_LIVED_SECONDS)
        }
    }
}

/// A channel's living tokens of a kind, the oldest first.
fn of_kind<'s>(state: &'s Memory, channel: &str, kind: Kind, now: i64) -> Vec<(&'s String, &'s ChannelToken)> {
    let tokens = state.channel_tokens.iter();
    let mut own: Vec<_> =
        tokens.filter(|(_, token)| token.channel == channel && token.kind == kind && token.expires_at > now).collect();
    own.sort_by_key(|(text, token)| (token.issued_at, *text));
    own
}

/// Ends the channel's oldest short-lived token if there is no place for another.
fn make_room(state: &mut Memory, channel: &str, now: i64) {
    let own = of_kind(state, channel, Kind::ShortLived, now);
    let too_many = (own.len() + 1).saturating_sub(MAX_TOKENS);
    let oldest: Vec<String> = own.into_iter().take(too_many).map(|(text, _)| text.clone()).collect();
    for text in oldest {
        state.channel_tokens.remove(&text);
    }
}

fn issue(sim: &Simulator, state: &mut Memory, channel: &str, kind: Kind, seconds: i64) -> Response {
    let now = sim.now();
    let token = login::opaque_token();
    let key_id = (kind == Kind::V21).then(login::secret_text);
    let expires_at = now + seconds * 1000;
    let (channel, key) = (channel.to_owned(), key_id.clone());
    let record = ChannelToken { channel, kind, key_id: key, issued_at: now, expires_at, revoked: false };
    state.channel_tokens.retain(|_, token| token.expires_at + ENDED_KNOWN > now);
    state.channel_tokens.insert(token.clone(), record);
    let mut body = json!({ "token_type": "Bearer", "access_token": token, "expires_in": seconds });
    if let (Some(key_id), Some(body)) = (key_id, body.as_object_mut()) {
        body.insert("key_id".to_owned(), key_id.into());
    }
    answer::ok(body)
}

/// `POST /v2/oauth/verify`, for short-lived and long-lived tokens; none is documented for stateless ones.
async fn verify(State(sim): State<Simulator>, body: Bytes) -> Response {
    let form = Form::read(&body);
    let now = sim.now();
    let state = sim.state();
    let token = form.get("access_token").and_then(|token| state.channel_token(token, now));
    match token.filter(|token| matches!(token.kind, Kind::ShortLived | Kind::LongLived)) {
        Some(token) => verified(token, "P CM", now),
        None => answer::oauth("invalid_request", "access_token invalid"),
    }
}

fn verified(token: &ChannelToken, scope: &str, now: i64) -> Response {
    let seconds = (token.expires_at - now) / 1000;
    answer::ok(json!({ "client_id": token.channel, "expires_in": seconds, "scope": scope }))
}

/// `GET /oauth2/v2.1/verify`, where the token is one of v2.1.
pub(super) fn verify_v21(state: &Memory, token: &str, now: i64) -> Option<Response> {
    let token = state.channel_tokens.get(token).filter(|token| token.kind == Kind::V21)?;
    let ended = match token {
        _ if token.revoked => "The access token revoked",
        _ if token.expires_at <= now => "The access token expired",
        _ => return Some(verified(token, "profile chat_message.write", now)),
    };
    Some(answer::oauth("invalid_request", ended))
}

/// `POST /v2/oauth/revoke`: 200 whether or not there was such a token.
async fn revoke(State(sim): State<Simulator>, body: Bytes) -> Response {
    let form = Form::read(&body);
    let Some(token) = form.get("access_token") else {
        return answer::oauth_missing();
    };
    let mut state = sim.state();
    let is_of_kind = |token: &ChannelToken| matches!(token.kind, Kind::ShortLived | Kind::LongLived);
    if state.channel_tokens.get(token).is_some_and(is_of_kind) {
        state.channel_tokens.remove(token);
    }
    StatusCode::OK.into_response()
}

/// `POST /oauth2/v2.1/revoke`, where the token is one of v2.1, or the client is a bot, which has no other tokens there.
pub(super) fn revoke_v21(sim: &Simulator, body: &Bytes, token: &str) -> Option<Response> {
    let form = Form::read(body);
    let (client_id, secret) = (form.get("client_id"), form.get("client_secret"));
    let mut state = sim.state();
    let known = state.channel_tokens.get(token).filter(|token| token.kind == Kind::V21);
    if known.is_none() && client_id.and_then(|id| sim.world().bot(id)).is_none() {
        return None;
    }
    let (Some(client_id), Some(secret)) = (client_id, secret) else {
        return Some(answer::oauth_missing());
    };
    match sim.world().secret(client_id) {
        None => return Some(answer::oauth("invalid_client", "invalid client_id")),
        Some(own) if own != secret => return Some(answer::oauth("invalid_client", "invalid client_secret")),
        Some(_) => {}
    }
    if !login::is_jws(token) {
        return Some(answer::oauth("invalid_request", "The access token not JWS"));
    }
    let own = state.channel_tokens.get_mut(token);
    if let Some(own) = own.filter(|token| token.kind == Kind::V21 && token.channel == client_id) {
        own.revoked = true;
        own.expires_at = own.expires_at.min(sim.now());
    }
    Some(StatusCode::OK.into_response())
}
