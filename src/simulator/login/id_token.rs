//! ID tokens, and the key of the JWKS.
//!
//! A web login's token is signed with HS256 and the channel secret's bytes, whatever the discovery document says; the
//! header has no `kid`. A LIFF app's is signed with ES256 and a key of the JWKS. Tokens live 3600 seconds.

use std::io;

use aws_lc_rs::{
    digest, hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey},
};
use axum::{Json, body::Bytes, extract::State, response::Response};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::token::Form;
use crate::simulator::{
    Simulator, answer,
    state::{Code, State as Memory, hex, user_id},
    world::World,
};

pub(super) const ISSUER: &str = "https://access.line.me";
const LIFE_SECONDS: i64 = 3600;

/// A key whose public half is published.
pub(in crate::simulator) struct SigningKey {
    pair: EcdsaKeyPair,
}

impl SigningKey {
    /// Makes a key and stores it, where there is none; else sees that it can be used.
    pub(in crate::simulator) fn ensure(stored: &mut Option<String>) -> io::Result<()> {
        match stored {
            Some(text) => Self::read(text).map(|_| ()),
            None => {
                *stored = Some(Self::make()?);
                Ok(())
            }
        }
    }

    fn make() -> io::Result<String> {
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        Ok(STANDARD.encode(made.map_err(unusable)?.as_ref()))
    }

    fn read(text: &str) -> io::Result<Self> {
        let pkcs8 = STANDARD.decode(text).map_err(unusable)?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8).map_err(unusable)?;
        Ok(Self { pair })
    }

    fn id(&self) -> String {
        hex(digest::digest(&digest::SHA256, self.pair.public_key().as_ref()).as_ref())
    }

    fn jwk(&self) -> Value {
        // An uncompressed point: 0x04, then 32 bytes each of x and y.
        let point = self.pair.public_key().as_ref();
        let part = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(point.get(range).unwrap_or_default());
        json!({
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig",
            "kid": self.id(), "x": part(1..33), "y": part(33..65),
        })
    }

    fn sign(&self, claims: &Value) -> Option<String> {
        let header = json!({ "typ": "JWT", "alg": "ES256", "kid": self.id() }).to_string();
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).ok()?;
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// The published keys, the one that signs first.
fn published(state: &Memory) -> Vec<SigningKey> {
    let texts = state.signing_key.iter().chain(&state.former_signing_keys);
    texts.filter_map(|text| SigningKey::read(text).ok()).collect()
}

fn unusable(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the signing key is unusable: {error}"))
}

/// `GET /oauth2/v2.1/certs`
pub(super) async fn certs(State(sim): State<Simulator>) -> Response {
    let keys: Vec<Value> = published(&sim.state()).iter().map(SigningKey::jwk).collect();
    answer::ok(json!({ "keys": keys }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotation {
    /// Whether the former keys stay in the JWKS.
    keep_former: bool,
}

/// `POST /_sim/keys/rotate`: from now on another key signs.
pub(super) async fn rotate(State(sim): State<Simulator>, Json(order): Json<Rotation>) -> Response {
    let Ok(made) = SigningKey::make() else {
        return answer::message(axum::http::StatusCode::INTERNAL_SERVER_ERROR, "no key could be made");
    };
    let mut state = sim.state();
    let former = state.signing_key.replace(made);
    if order.keep_former {
        state.former_signing_keys.extend(former);
    } else {
        state.former_signing_keys.clear();
    }
    drop(state);
    sim.changed();
    answer::ok(json!({}))
}

/// The ID token of a sign-in, if `openid` was asked for.
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
    });
    let claims_map = claims.as_object_mut()?;
    let mut set = |name: &str, value: Option<Value>| {
        claims_map.extend(value.map(|value| (name.to_owned(), value)));
    };
    // Neither was seen in a LIFF app's token.
    set("amr", (!code.is_liff).then(|| json!([code.amr])));
    set("nonce", code.nonce.clone().map(Value::from));
    set("auth_time", code.auth_time.map(Value::from));
    if has("profile") {
        set("name", Some(person.display_name.clone().into()));
        set("picture", person.picture_url.clone().map(Value::from));
    }
    if has("email") {
        set("email", allowed_email(state, code).map(Value::from));
    }
    if code.is_liff { published(state).first()?.sign(&claims) } else { Some(jws(&channel.secret, &claims)) }
}

/// The address the person allowed this channel to see; they may have refused it, or have none.
fn allowed_email(state: &Memory, code: &Code) -> Option<String> {
    let consent = state.consents.get(&code.channel)?.get(&code.person)?;
    consent.email.as_ref().map(|(address, _)| address.clone())
}

/// A JWS by HS256.
pub(in crate::simulator) fn jws(secret: &str, claims: &Value) -> String {
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
    let Some(claims) = read(&sim, token) else {
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

/// The claims of a token with a good signature, of whichever of the two kinds it is.
fn read(sim: &Simulator, token: &str) -> Option<Value> {
    let (signed, tag) = token.rsplit_once('.')?;
    let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
    let (header, payload) = signed.split_once('.')?;
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    let (_, channel) = sim.world().login(claims.get("aud")?.as_str()?)?;
    match header.get("alg").and_then(Value::as_str)? {
        "HS256" => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, channel.secret.as_bytes());
            hmac::verify(&key, signed.as_bytes(), &tag).ok()?;
        }
        "ES256" => {
            let wanted = header.get("kid").and_then(Value::as_str)?;
            let key = published(&sim.state()).into_iter().find(|key| key.id() == wanted)?;
            let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.pair.public_key().as_ref().to_vec());
            key.verify(signed.as_bytes(), &tag).ok()?;
        }
        _ => return None,
    }
    Some(claims)
}
