//! What is asked about, and done to, access tokens that are out: verify, revoke, deauthorize.
//!
//! Deauthorize takes two tokens: the person's access token in the body, and a channel access token of the login channel
//! it belongs to in the header. It ends the consent and with it every token of that person and channel.

use axum::{
    body::Bytes,
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;
use url::form_urlencoded;

use super::token::{Form, client, scope_text};
use crate::simulator::{
    Simulator, answer, channel_token,
    state::{AccessToken, ChannelTokenKind, Grant, State as Memory, user_id},
};

pub(in crate::simulator) fn is_jws(token: &str) -> bool {
    let parts: Vec<&str> = token.split('.').collect();
    parts.len() == 3 && parts.iter().all(|part| !part.is_empty())
}

fn invalid(description: &str) -> Response {
    answer::oauth("invalid_request", description)
}

/// `GET /oauth2/v2.1/verify`
pub(super) async fn verify_access(State(sim): State<Simulator>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let token = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "access_token");
    let Some((_, token)) = token else {
        return answer::oauth_missing();
    };
    let state = sim.state();
    // The path is shared with channel access tokens v2.1.
    if let Some(answer) = channel_token::verify_v21(&state, &token, sim.now()) {
        return answer;
    }
    // A well-formed token that was never issued has no documented text of its own.
    let Some((access, grant)) = known(&state, &token) else {
        return invalid("The access token not JWS");
    };
    if access.revoked || grant.revoked {
        return invalid("The access token revoked");
    }
    let left = (access.expires_at - sim.now()) / 1000;
    if left <= 0 {
        return invalid("The access token expired");
    }
    answer::ok(json!({
        "scope": scope_text(&grant.scopes),
        "client_id": grant.channel,
        "expires_in": left,
    }))
}

fn known<'s>(state: &'s Memory, token: &str) -> Option<(&'s AccessToken, &'s Grant)> {
    let access = state.access_tokens.get(token)?;
    Some((access, state.grants.get(&access.refresh_token)?))
}

/// `POST /oauth2/v2.1/revoke`. Whether the refresh token outlives this is undocumented: here it does not.
pub(super) async fn revoke(State(sim): State<Simulator>, body: Bytes) -> Response {
    let form = Form::read(&body);
    let Some(token) = form.get("access_token") else {
        return answer::oauth_missing();
    };
    // The path is shared with channel access tokens v2.1.
    if let Some(answer) = channel_token::revoke_v21(&sim, &body, token) {
        return answer;
    }
    let client = match client(sim.world(), &form) {
        Ok(client) => client,
        Err(answer) => return answer,
    };
    if !is_jws(token) {
        return invalid("The access token not JWS");
    }
    let mut state = sim.state();
    let Some(access) = state.access_tokens.get(token) else {
        return StatusCode::OK.into_response();
    };
    let refresh_token = access.refresh_token.clone();
    match state.grants.get_mut(&refresh_token) {
        Some(grant) if grant.channel == client => grant.revoked = true,
        _ => return answer::oauth("invalid_client", "invalid client_id"),
    }
    StatusCode::OK.into_response()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Deauthorize {
    user_access_token: String,
}

/// `POST /user/v1/deauthorize`
pub(super) async fn deauthorize(State(sim): State<Simulator>, headers: HeaderMap, body: Bytes) -> Response {
    let now = sim.now();
    let mut state = sim.state();
    let bearer = answer::bearer(&headers)
        .and_then(|token| state.channel_token(token, now))
        // A short-lived token is not accepted here.
        .filter(|token| matches!(token.kind, ChannelTokenKind::Stateless | ChannelTokenKind::V21))
        .map(|token| token.channel.clone());
    let Some((channel, (provider, _))) =
        bearer.and_then(|channel| Some((channel.clone(), sim.world().login(&channel)?)))
    else {
        return answer::unauthenticated();
    };
    let asked: Deauthorize = match answer::read_json(&headers, &body) {
        Ok(asked) => asked,
        Err(answer) => return answer,
    };
    let grant = state.live(&asked.user_access_token, now).map(|(_, grant)| grant);
    let Some(person) = grant.filter(|g| g.channel == channel).map(|g| g.person.clone()) else {
        return answer::message(StatusCode::BAD_REQUEST, "invalid token");
    };
    state.withdraw(&channel, &person);
    let subject = user_id(&person, &provider.name);
    answer::about(StatusCode::NO_CONTENT.into_response(), &subject)
}
