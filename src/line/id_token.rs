//! The verification of ID tokens. A web login's is HS256 with the channel secret, and nothing else; one of a LIFF app is
//! ES256 with a key of LINE's, and nothing else ([`liff`]). Which of the two it must be is said by the way it came.
//!
//! The token's header never chooses how it is verified. The library checks the signature; a list of rules
//! of ours then decides over the claims, each with a reason of its own, because libraries have been seen
//! to accept tokens without `aud`, with a second audience, or with `exp` in ten years.
//!
//! While a channel secret is being changed, what the former one signed is taken as well.

pub mod liff;

use std::fmt;

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use openidconnect::{
    ClientId, ClientSecret, IssuerUrl, JsonWebKeySet, Nonce,
    core::{CoreIdToken, CoreIdTokenVerifier, CoreJwsSigningAlgorithm},
};
use secrecy::{ExposeSecret, SecretString};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::{Map, Value};

use super::{ISSUER, is_user_id};

pub(crate) type Object = Map<String, Value>;

const LONGEST: usize = 8 * 1024;
/// How far two clocks may differ.
pub(crate) const SKEW: i64 = 60;
const LONGEST_LIFE: i64 = 24 * 3600;

/// What the token must fit, besides its signature.
pub struct Expected<'a> {
    pub channel_id: &'a str,
    pub secret: &'a SecretString,
    /// The secret before, while it may still have signed.
    pub former_secret: Option<&'a SecretString>,
    /// Whether this is the nonce of the attempt (which is kept as a hash only).
    pub nonce: &'a dyn Fn(&str) -> bool,
    /// Present time and start of the attempt, in seconds since 1970.
    pub now: i64,
    pub started: i64,
    pub access_token: &'a str,
}

/// Who signed in, by LINE's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub user_id: String,
    pub name: Option<String>,
    pub picture: Option<String>,
}

/// The rule that a token broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    Shape,
    Algorithm,
    Type,
    /// Signed by a key that is none of LINE's.
    Key,
    Signature,
    ClaimType,
    Issuer,
    Audience,
    AuthorizedParty,
    Subject,
    Expired,
    ExpiryFar,
    /// Issued in the future or before the attempt: this machine's clock or LINE's is wrong, or a replay.
    IssuedAt,
    NotBefore,
    Nonce,
    AccessTokenHash,
}

impl Rejection {
    /// For the audit and the log.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Shape => "id_token_shape",
            Self::Algorithm => "id_token_alg",
            Self::Type => "id_token_type",
            Self::Key => "id_token_key",
            Self::Signature => "id_token_sig",
            Self::ClaimType => "id_token_claim_type",
            Self::Issuer => "id_token_iss",
            Self::Audience => "id_token_aud",
            Self::AuthorizedParty => "id_token_azp",
            Self::Subject => "id_token_sub",
            Self::Expired => "id_token_exp",
            Self::ExpiryFar => "id_token_exp_far",
            Self::IssuedAt => "id_token_iat",
            Self::NotBefore => "id_token_nbf",
            Self::Nonce => "id_token_nonce",
            Self::AccessTokenHash => "id_token_at_hash",
        }
    }
}

/// Verifies a token from LINE's token endpoint.
pub fn verify_web(token: &str, expected: &Expected<'_>) -> Result<Identity, Rejection> {
    let Parts { header, payload, signature } = decode(token)?;
    check_header(&header, "HS256")?;
    // The library panics at any other length.
    if signature.len() != digest::SHA256_OUTPUT_LEN {
        return Err(Rejection::Signature);
    }
    // Both are tried, whichever fits: the work tells nothing of the secret.
    let by_present = check_signature(token, &payload, expected, expected.secret);
    let by_former = expected.former_secret.map(|secret| check_signature(token, &payload, expected, secret));
    by_former.filter(Result::is_ok).unwrap_or(by_present)?;
    check_claims(&payload, expected)?;
    identity(&payload)
}

fn identity(claims: &Object) -> Result<Identity, Rejection> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
    Ok(Identity { user_id: text("sub").ok_or(Rejection::Subject)?, name: text("name"), picture: text("picture") })
}

pub(crate) struct Parts {
    pub header: Object,
    pub payload: Object,
    pub signature: Vec<u8>,
}

/// An object in which no name comes twice: which of the two counts is no question for whoever reads a proof.
struct Unambiguous(Object);

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;

        impl<'de> Visitor<'de> for Names {
            type Value = Unambiguous;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
                let mut object = Object::new();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if object.insert(name, value).is_some() {
                        return Err(A::Error::custom("a name comes twice"));
                    }
                }
                Ok(Unambiguous(object))
            }
        }

        deserializer.deserialize_map(Names)
    }
}

/// Three parts of strict base64url, the first two JSON objects. Bounded before anything is decoded.
pub(crate) fn decode(token: &str) -> Result<Parts, Rejection> {
    if token.len() > LONGEST {
        return Err(Rejection::Shape);
    }
    let parts: Vec<&str> = token.split('.').collect();
    let &[header, payload, signature] = parts.as_slice() else { return Err(Rejection::Shape) };
    let object = |part: &str| -> Result<Object, Rejection> {
        let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Rejection::Shape)?;
        serde_json::from_slice(&bytes).map(|Unambiguous(object)| object).map_err(|_| Rejection::Shape)
    };
    let (header, payload) = (object(header)?, object(payload)?);
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Rejection::Shape)?;
    Ok(Parts { header, payload, signature })
}

/// The id of the key, where the header names one.
pub(crate) fn key_id(header: &Object) -> Result<Option<String>, Rejection> {
    match header.get("kid") {
        None => Ok(None),
        Some(Value::String(id)) => Ok(Some(id.clone())),
        Some(_) => Err(Rejection::Key),
    }
}

pub(crate) fn check_header(header: &Object, algorithm: &str) -> Result<(), Rejection> {
    if header.get("alg").and_then(Value::as_str) != Some(algorithm) {
        return Err(Rejection::Algorithm);
    }
    let typed = header.get("typ").is_none_or(|typ| typ.as_str().is_some_and(|typ| typ.eq_ignore_ascii_case("jwt")));
    // What says that the payload is to be read in another way.
    let other = ["crit", "cty", "enc", "zip", "b64"].iter().any(|name| header.contains_key(*name));
    if !typed || other {
        return Err(Rejection::Type);
    }
    Ok(())
}

/// The library's part. Its claim checks are told to accept: ours decide, with their own reasons.
fn check_signature(
    token: &str,
    claims: &Object,
    expected: &Expected<'_>,
    secret: &SecretString,
) -> Result<(), Rejection> {
    // What it cannot read is refused in any case; our rules only name the claim.
    let unread = |_| check_claims(claims, expected).err().unwrap_or(Rejection::ClaimType);
    let parsed: CoreIdToken = token.parse().map_err(unread)?;
    let issuer = IssuerUrl::new(ISSUER.to_owned()).map_err(|_| Rejection::Issuer)?;
    let verifier = CoreIdTokenVerifier::new_confidential_client(
        ClientId::new(expected.channel_id.to_owned()),
        ClientSecret::new(secret.expose_secret().to_owned()),
        issuer,
        JsonWebKeySet::new(Vec::new()),
    )
    .set_allowed_algs([CoreJwsSigningAlgorithm::HmacSha256])
    .require_issuer_match(false)
    .require_audience_match(false)
    .set_time_fn(Default::default);
    parsed.claims(&verifier, |_: Option<&Nonce>| Ok(())).map(|_| ()).map_err(|error| match error {
        // Its clock stands at 1970: what ended before is no time at all.
        openidconnect::ClaimsVerificationError::Expired(_) => Rejection::ClaimType,
        _ => Rejection::Signature,
    })
}

/// The rules. The order is of no matter to the outcome, only to the reason.
fn check_claims(claims: &Object, expected: &Expected<'_>) -> Result<(), Rejection> {
    let issued_since = Some(expected.started);
    check_party(claims, expected.channel_id)?;
    check_times(claims, expected.now, issued_since)?;
    let nonce = claims.get("nonce").and_then(Value::as_str);
    ensure(nonce.is_some_and(expected.nonce), Rejection::Nonce)?;
    check_access_token(claims, expected.access_token)
}

/// Who says it, to whom, of whom.
fn check_party(claims: &Object, channel_id: &str) -> Result<(), Rejection> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    ensure(text("iss") == Some(ISSUER), Rejection::Issuer)?;
    ensure(is_audience(claims.get("aud"), channel_id), Rejection::Audience)?;
    ensure(!claims.contains_key("azp") || text("azp") == Some(channel_id), Rejection::AuthorizedParty)?;
    ensure(text("sub").is_some_and(is_user_id), Rejection::Subject)
}

/// When it holds. `issued_since`: the earliest time at which it can have been made for us.
pub(crate) fn check_times(claims: &Object, now: i64, issued_since: Option<i64>) -> Result<(), Rejection> {
    // Before the expiry: with a clock far ahead every token has expired, and the clock is what is to be mended.
    let issued = seconds(claims, "iat")?.ok_or(Rejection::IssuedAt)?;
    ensure(issued <= now + SKEW && issued_since.is_none_or(|since| issued >= since - SKEW), Rejection::IssuedAt)?;
    let expires = seconds(claims, "exp")?.ok_or(Rejection::Expired)?;
    ensure(expires > now - SKEW, Rejection::Expired)?;
    ensure(expires <= now + LONGEST_LIFE, Rejection::ExpiryFar)?;
    let not_before = seconds(claims, "nbf")?;
    ensure(not_before.is_none_or(|time| time <= now + SKEW), Rejection::NotBefore)
}

/// That the access token beside it is the one it was made with, where it says so.
pub(crate) fn check_access_token(claims: &Object, access_token: &str) -> Result<(), Rejection> {
    let fits = claims.get("at_hash").is_none_or(|hash| hash.as_str() == Some(half_hash(access_token).as_str()));
    ensure(fits, Rejection::AccessTokenHash)
}

pub(crate) fn ensure(holds: bool, rejection: Rejection) -> Result<(), Rejection> {
    if holds { Ok(()) } else { Err(rejection) }
}

/// One audience, ours: as a text, or as a list of just it.
pub(crate) fn is_audience(audience: Option<&Value>, channel_id: &str) -> bool {
    match audience {
        Some(Value::String(text)) => text == channel_id,
        Some(Value::Array(list)) => list.len() == 1 && list.first().and_then(Value::as_str) == Some(channel_id),
        _ => false,
    }
}

/// A time in whole seconds; anything else under that name is refused.
pub(crate) fn seconds(claims: &Object, name: &str) -> Result<Option<i64>, Rejection> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_i64().filter(|time| *time >= 0).map(Some).ok_or(Rejection::ClaimType),
    }
}

fn half_hash(access_token: &str) -> String {
    let hash = digest::digest(&digest::SHA256, access_token.as_bytes());
    URL_SAFE_NO_PAD.encode(hash.as_ref().iter().take(16).copied().collect::<Vec<u8>>())
}
