//! `POST /oauth2/v2.1/token`: codes and refresh tokens into access tokens.
//!
//! A code lives ten minutes and is burnt by the first request that carries it, whether that succeeds or not. The client
//! authenticates by form parameters only; HTTP Basic counts as missing parameters. A refresh token is neither rotated
//! nor extended, a refresh gives no ID token, and the scope answered never names `email`.

use aws_lc_rs::digest;
use axum::{body::Bytes, extract::State, response::Response};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::id_token;
use crate::simulator::{
    Simulator, answer, channel_token,
    state::{AccessToken, Code, Grant, State as Memory, user_id},
    world::World,
};

const CODE_LIFE: i64 = 10 * 60 * 1000;
const ACCESS_LIFE_SECONDS: i64 = 2_592_000;
/// Of a LIFF app's access token.
const LIFF_LIFE_SECONDS: i64 = 12 * 3600;
const REFRESH_LIFE: i64 = 90 * 24 * 3600 * 1000;

/// The parameters of a form body; of repeated ones the first.
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    pub fn read(body: &Bytes) -> Self {
        Self(form_urlencoded::parse(body).into_owned().collect())
    }

    /// A parameter that is there and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(n, _)| n == name)?;
        (!value.is_empty()).then_some(value)
    }
}

/// 32 hex digits that nobody can guess.
pub(in crate::simulator) fn secret_text() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// A token with the three parts of a JWS. Its parts mean nothing: LINE's tokens are opaque.
pub(in crate::simulator) fn opaque_token() -> String {
    let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256"}"#);
    format!("{header}.{}{}.{}", secret_text(), secret_text(), secret_text())
}

pub(super) async fn token(State(sim): State<Simulator>, body: Bytes) -> Response {
    let form = Form::read(&body);
    match form.get("grant_type") {
        Some("authorization_code") => exchange(&sim, &form),
        Some("refresh_token") => refresh(&sim, &form),
        // The path is shared with channel access tokens v2.1.
        Some("client_credentials") if form.get("client_assertion").is_some() => {
            channel_token::by_assertion(&sim, &body)
        }
        Some(_) => answer::oauth("unsupported_grant_type", "unsupported grant_type"),
        None => answer::oauth_missing(),
    }
}

/// Checks `client_id` and `client_secret` of a login channel, and gives the channel's id.
#[expect(clippy::result_large_err, reason = "the error is the answer itself")]
pub(super) fn client<'f>(world: &World, form: &'f Form) -> Result<&'f str, Response> {
    let (Some(id), Some(secret)) = (form.get("client_id"), form.get("client_secret")) else {
        return Err(answer::oauth_missing());
    };
    let (_, channel) = world.login(id).ok_or_else(|| answer::oauth("invalid_client", "invalid client_id"))?;
    if channel.secret != secret {
        return Err(answer::oauth("invalid_client", "invalid client_secret"));
    }
    Ok(id)
}

fn exchange(sim: &Simulator, form: &Form) -> Response {
    let now = sim.now();
    let mut state = sim.state();
    let code = form.get("code").and_then(|code| state.codes.remove(code));
    // LIFF's SDK has no secret: it proves by PKCE that it is the one that asked.
    let is_public = code.as_ref().is_some_and(|code| code.is_liff && code.challenge.is_some());
    let client = match client(sim.world(), form) {
        Ok(client) => client,
        Err(_) if is_public => form.get("client_id").unwrap_or_default(),
        Err(answer) => return answer,
    };
    let (Some(_), Some(redirect_uri)) = (form.get("code"), form.get("redirect_uri")) else {
        return answer::oauth_missing();
    };
    let Some(code) = code.filter(|c| c.channel == client && now - c.issued_at < CODE_LIFE) else {
        return answer::oauth("invalid_grant", "invalid authorization code");
    };
    if code.redirect_uri != redirect_uri {
        return answer::oauth("invalid_grant", "redirect_uri does not match");
    }
    if !verifies(code.challenge.as_deref(), form.get("code_verifier")) {
        return answer::oauth("invalid_grant", "invalid code_verifier");
    }
    let subject = sim.world().login(client).map(|(p, _)| user_id(&code.person, &p.name));
    let answer = grant(sim.world(), &mut state, code, now);
    answer::about(answer::ok(answer), &subject.unwrap_or_default())
}

/// Whether the verifier is the one of the challenge. A verifier without a challenge proves nothing and is refused.
fn verifies(challenge: Option<&str>, verifier: Option<&str>) -> bool {
    match (challenge, verifier) {
        (None, None) => true,
        (Some(challenge), Some(verifier)) => {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
            let digest = digest::digest(&digest::SHA256, verifier.as_bytes());
            (43..=128).contains(&verifier.len())
                && verifier.bytes().all(allowed)
                && URL_SAFE_NO_PAD.encode(digest.as_ref()) == challenge
        }
        _ => false,
    }
}

/// The tokens that LINE hands to a LIFF app when it opens it.
pub(in crate::simulator) fn liff_tokens(sim: &Simulator, state: &mut Memory, code: Code) -> Value {
    let at = code.issued_at;
    grant(sim.world(), state, code, at)
}

/// Makes the tokens of one sign-in.
fn grant(world: &World, state: &mut Memory, code: Code, now: i64) -> Value {
    let refresh_token = secret_text();
    let id_token = id_token::issue(world, state, &code, now);
    let life = if code.is_liff { LIFF_LIFE_SECONDS } else { ACCESS_LIFE_SECONDS };
    let grant = Grant {
        person: code.person,
        channel: code.channel,
        scopes: code.scopes,
        expires_at: now + REFRESH_LIFE,
        revoked: false,
    };
    let mut answer = access(state, &refresh_token, &grant, life, now);
    state.grants.insert(refresh_token, grant);
    if let (Some(id_token), Some(map)) = (id_token, answer.as_object_mut()) {
        map.insert("id_token".to_owned(), id_token.into());
    }
    answer
}

fn access(state: &mut Memory, refresh_token: &str, grant: &Grant, life: i64, now: i64) -> Value {
    let token = opaque_token();
    let record = AccessToken { refresh_token: refresh_token.to_owned(), expires_at: now + life * 1000, revoked: false };
    state.access_tokens.insert(token.clone(), record);
    json!({
        "access_token": token,
        "expires_in": life,
        "refresh_token": refresh_token,
        "scope": scope_text(&grant.scopes),
        "token_type": "Bearer",
    })
}

/// The scope as LINE answers it, which never names `email`.
pub(super) fn scope_text(scopes: &[String]) -> String {
    let named: Vec<&str> = scopes.iter().map(String::as_str).filter(|s| *s != "email").collect();
    named.join(" ")
}

fn refresh(sim: &Simulator, form: &Form) -> Response {
    let client = match client(sim.world(), form) {
        Ok(client) => client,
        Err(answer) => return answer,
    };
    let Some(token) = form.get("refresh_token") else {
        return answer::oauth_missing();
    };
    let now = sim.now();
    let mut state = sim.state();
    let grant = state.grants.get(token).cloned();
    let live = grant.filter(|g| g.channel == client && !g.revoked && g.expires_at > now);
    match live {
        Some(grant) => answer::ok(access(&mut state, token, &grant, ACCESS_LIFE_SECONDS, now)),
        None => answer::oauth("invalid_grant", "invalid refresh token"),
    }
}

#[cfg(test)]
mod tests {
    use super::verifies;

    #[test]
    fn the_documented_pkce_vector() {
        let verifier = "wJKN8qz5t8SSI9lMFhBB6qwNkQBkuPZoCxzRhwLRUo1";
        let challenge = "BSCQwo_m8Wf0fpjmwkIKmPAJ1A7tiuRSNDnXzODS7QI";
        assert!(verifies(Some(challenge), Some(verifier)));
        assert!(!verifies(Some(challenge), Some(&verifier.replace('w', "W"))));
        assert!(!verifies(Some(challenge), None));
        assert!(!verifies(None, Some(verifier)));
    }
}
