//! Client assertions: JWTs that a channel signs with its assertion signing key (RS256).

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use axum::{http::StatusCode, response::Response};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use super::Form;
use crate::simulator::{answer, state::State as Memory};

const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// With its slash at the end.
const AUDIENCE: &str = "https://api.line.me/";
const MAX_LIFE_SECONDS: i64 = 30 * 60;

/// An assertion that was verified.
pub(super) struct Assertion {
    pub channel: String,
    /// `token_exp`: a duration, not a time.
    pub token_seconds: Option<i64>,
}

/// Verifies the assertion of a request; `now` is in milliseconds.
#[expect(clippy::result_large_err, reason = "the error is the answer itself")]
pub(super) fn read(state: &Memory, form: &Form, now: i64) -> Result<Assertion, Response> {
    let jwt = form.get("client_assertion").filter(|_| form.get("client_assertion_type") == Some(TYPE));
    let jwt = jwt.ok_or_else(answer::oauth_missing)?;
    let invalid = |text: &str| answer::oauth("invalid_client", text);
    let parts = parts(jwt).ok_or_else(|| invalid("Invalid client_assertion"))?;
    let claim = |name: &str| parts.claims.get(name).and_then(Value::as_str);
    let kid = parts.header.get("kid").and_then(Value::as_str).unwrap_or_default();
    let (owner, jwk) = find(state, kid).ok_or_else(|| {
        answer::message(StatusCode::NOT_FOUND, "Cannot find channel key that satisfies the conditions")
    })?;
    if parts.header.get("alg").and_then(Value::as_str) != Some("RS256") || !verifies(jwk, &parts) {
        return Err(invalid("Invalid client_assertion"));
    }
    if claim("iss") != Some(owner) || claim("sub") != Some(owner) {
        return Err(invalid("iss and clientId of key do not match"));
    }
    if claim("aud") != Some(AUDIENCE) {
        return Err(invalid("Invalid aud"));
    }
    let left = parts.claims.get("exp").and_then(Value::as_i64).map(|exp| exp - now / 1000);
    if !left.is_some_and(|left| (1..=MAX_LIFE_SECONDS).contains(&left)) {
        return Err(invalid("Invalid exp"));
    }
    let token_seconds = parts.claims.get("token_exp").and_then(Value::as_i64);
    Ok(Assertion { channel: owner.to_owned(), token_seconds })
}

/// Whose key has this id.
fn find<'s>(state: &'s Memory, kid: &str) -> Option<(&'s str, &'s Value)> {
    state.assertion_keys.iter().find_map(|(channel, keys)| Some((channel.as_str(), keys.get(kid)?)))
}

struct Parts<'j> {
    header: Value,
    claims: Value,
    signed: &'j str,
    signature: Vec<u8>,
}

fn parts(jwt: &str) -> Option<Parts<'_>> {
    let (signed, signature) = jwt.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let json = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
    Some(Parts {
        header: json(header)?,
        claims: json(claims)?,
        signed,
        signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
    })
}

fn verifies(jwk: &Value, parts: &Parts<'_>) -> bool {
    components(jwk)
        .is_some_and(|key| key.verify(&RSA_PKCS1_2048_8192_SHA256, parts.signed.as_bytes(), &parts.signature).is_ok())
}

/// The public numbers of a JWK, if it is one that LINE's console takes.
pub(super) fn components(jwk: &Value) -> Option<RsaPublicKeyComponents<Vec<u8>>> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let number = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok().filter(|bytes| !bytes.is_empty());
    let operations = jwk.get("key_ops").and_then(Value::as_array);
    let is_to_verify =
        text("use") == Some("sig") || operations.is_some_and(|all| all.iter().any(|one| one == "verify"));
    let is_fit = text("kty") == Some("RSA") && text("alg") == Some("RS256") && is_to_verify;
    is_fit.then_some(RsaPublicKeyComponents { n: number("n")?, e: number("e")? })
}
