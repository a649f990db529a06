//! ID tokens, and the key of the JWKS.
//!
//! A web login's token is signed with HS256 and the channel secret's bytes, whatever the discovery document says; the
//! header has no `kid`. The JWKS holds one P-256 key, as it does for LIFF and native apps. Tokens live 3600 seconds.

use std::io;

use aws_lc_rs::{
    digest, hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use axum::{body::Bytes, extract::State, response::Response};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use super::token::Form;
use crate::simulator::{
    Simulator, answer,
    state::{Code, State as Memory, hex, user_id},
    world::World,
};

pub(super) const ISSUER: &str = "https://access.line.me";
const LIFE_SECONDS: i64 = 3600;

/// The key whose public half is published.
pub(in crate::simulator) struct SigningKey {
    pair: EcdsaKeyPair,
}

impl SigningKey {
    /// Reads the stored key, or makes one and stores it.
    pub(in crate::simulator) fn open(stored: &mut Option<String>) -> io::Result<Self> {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = match stored {
            Some(text) => STANDARD.decode(&*text).map_err(unusable)?,
            None => {
                let made = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new());
                let made = made.map_err(unusable)?.as_ref().to_vec();
                *stored = Some(STANDARD.encode(&made));
                made
            }
        };
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, &pkcs8).map_err(unusable)?;
        Ok(Self { pair })
    }

    fn jwk(&self) -> Value {
        // An uncompressed point: 0x04, then 32 bytes each of x and y.
        let point = self.pair.public_key().as_ref();
        let part = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(point.get(range).unwrap_or_default());
        let kid = hex(digest::digest(&digest::SHA256, point).as_ref());
        json!({
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig",
            "kid": kid, "x": part(1..33), "y": part(33..65),
        })
    }
}

fn unusable(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the signing key is unusable: {error}"))
}

/// `GET /oauth2/v2.1/certs`
pub(super) async fn certs(State(sim): State<Simulator>) -> Response {
    answer::ok(json!({ "keys": [sim.signing_key().jwk()] }))
}

/// The ID token of a web login, if `openid` was asked for.
pub(super) fn issue(world: &World, state: &Memory, code: &Code, now: i64) -> Option<String> {
    let has = |scope: &str| code.scopes.iter().any(|s| s == scope);
    let (provider, channel) = world.login(&code.channel).filter(|_| has("openid"))?;
    let person = state.people.get(&code.person)?;
    let mut claims = json!({
        "iss": ISSUER,
        "sub": user_id(&code.person, &provider.name),
        "aud": code.channel,
        "exp": now / 1000 + LIFE_SECONDS,
        "iat": now / 1000,
        "amr": [code.amr],
    });
    let claims_map = claims.as_object_mut()?;
    let mut set = |name: &str, value: Option<Value>| {
        claims_map.extend(value.map(|value| (name.to_owned(), value)));
    };
    set("nonce", code.nonce.clone().map(Value::from));
    set("auth_time", code.auth_time.map(Value::from));
    if has("profile") {
        set("name", Some(person.display_name.clone().into()));
        set("picture", person.picture_url.clone().map(Value::from));
    }
    if has("email") {
        set("email", allowed_email(state, code).map(Value::from));
    }
    Some(sign(&channel.secret, &claims))
}

/// The address the person allowed this channel to see; they may have refused it, or have none.
fn allowed_email(state: &Memory, code: &Code) -> Option<String> {
    let consent = state.consents.get(&code.channel)?.get(&code.person)?;
    consent.email.as_ref().map(|(address, _)| address.clone())
}

fn sign(secret: &str, claims: &Value) -> String {
    let header = URL_SAFE_NO_PAD.encode(br#"{"typ":"JWT","alg":"HS256"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
}

/// `POST /oauth2/v2.1/verify`: checks only what it is asked to, so no `nonce` means no check of the nonce.
pub(super) async fn verify(State(sim): State<Simulator>, body: Bytes) -> Response {
    let form = Form::read(&body);
    let (Some(token), Some(client_id)) = (form.get("id_token"), form.get("client_id")) else {
        return answer::oauth_missing();
    };
    let invalid = |text: &str| answer::oauth("invalid_request", text);
    let Some(claims) = read(sim.world(), token) else {
        return invalid("Invalid IdToken.");
    };
    let claim = |name: &str| claims.get(name).and_then(Value::as_str);
    let differs = |param: &str, name: &str| form.get(param).is_some_and(|expected| claim(name) != Some(expected));
    if claim("iss") != Some(ISSUER) {
        return invalid("Invalid IdToken Issuer.");
    }
    if claims.get("exp").and_then(Value::as_i64).is_none_or(|exp| exp <= sim.now() / 1000) {
        return invalid("IdToken expired.");
    }
    if claim("aud") != Some(client_id) {
        return invalid("Invalid IdToken Audience.");
    }
    if differs("nonce", "nonce") {
        return invalid("Invalid IdToken Nonce.");
    }
    if differs("user_id", "sub") {
        return invalid("Invalid IdToken Subject Identifier.");
    }
    answer::ok(claims)
}

/// The claims of a token with a good signature. The algorithm is ours to choose, never the header's.
fn read(world: &World, token: &str) -> Option<Value> {
    let (signed, tag) = token.rsplit_once('.')?;
    let (header, payload) = signed.split_once('.')?;
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    if header.get("alg").and_then(Value::as_str) != Some("HS256") {
        return None;
    }
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    let (_, channel) = world.login(claims.get("aud")?.as_str()?)?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, channel.secret.as_bytes());
    hmac::verify(&key, signed.as_bytes(), &URL_SAFE_NO_PAD.decode(tag).ok()?).ok()?;
    Some(claims)
}
