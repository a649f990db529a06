//! The verification of the provider's ID token: ES256 or RS256 with a key that it publishes, and nothing else.
//!
//! The header names a key and which of the two it is for; both must be so at the provider. Then the rules of
//! `line::id_token` decide over the claims, each with a reason of its own.

use serde_json::Value;

use super::Claims;
use crate::line::{
    id_token::{
        Parts, Rejection, SKEW, check_access_token, check_header, check_times, decode, ensure, is_audience, key_id,
        seconds,
    },
    jwks::{Algorithm, Key},
};

/// Longest subject, as OpenID Connect Core has it.
const LONGEST_SUBJECT: usize = 255;

/// A token that has the right shape. Nothing in it is believed before [`Unverified::verify`].
pub struct Unverified<'a> {
    signed: &'a str,
    signature: Vec<u8>,
    algorithm: Algorithm,
    key_id: Option<String>,
    claims: Claims,
}

/// What the token must fit, besides its signature. Times in seconds since 1970.
pub struct Expected<'a> {
    pub issuer: &'a str,
    pub client_id: &'a str,
    /// Whether this is the nonce of the attempt (which is kept as a hash only).
    pub nonce: &'a dyn Fn(&str) -> bool,
    pub now: i64,
    pub started: i64,
    pub access_token: &'a str,
}

/// A person, by the provider's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    pub subject: String,
    /// When they proved themselves there, if that was since the start of the attempt and not some time before.
    pub proved_at: Option<i64>,
    pub claims: Claims,
}

impl<'a> Unverified<'a> {
    pub fn read(token: &'a str) -> Result<Self, Rejection> {
        let Parts { header, payload: claims, signature } = decode(token)?;
        let algorithm = match header.get("alg").and_then(Value::as_str) {
            Some("ES256") => Algorithm::Es256,
            Some("RS256") => Algorithm::Rs256,
            _ => return Err(Rejection::Algorithm),
        };
        check_header(&header, algorithm.word())?;
        let key_id = key_id(&header)?;
        let (signed, _) = token.rsplit_once('.').ok_or(Rejection::Shape)?;
        Ok(Self { signed, signature, algorithm, key_id, claims })
    }

    /// Which key it says it is signed with: compared with those of the provider, and used for nothing else.
    pub fn key(&self) -> (Algorithm, Option<&str>) {
        (self.algorithm, self.key_id.as_deref())
    }

    pub fn verify(self, key: &Key, expected: &Expected<'_>) -> Result<Verified, Rejection> {
        ensure(key.algorithm() == self.algorithm, Rejection::Key)?;
        ensure(key.is_signed(self.signed.as_bytes(), &self.signature), Rejection::Signature)?;
        let text = |name: &str| self.claims.get(name).and_then(Value::as_str);
        ensure(text("iss") == Some(expected.issuer), Rejection::Issuer)?;
        ensure(is_audience(self.claims.get("aud"), expected.client_id), Rejection::Audience)?;
        let party = text("azp") == Some(expected.client_id) || !self.claims.contains_key("azp");
        ensure(party, Rejection::AuthorizedParty)?;
        let subject = text("sub").filter(|subject| is_subject(subject)).ok_or(Rejection::Subject)?.to_owned();
        check_times(&self.claims, expected.now, Some(expected.started))?;
        ensure(text("nonce").is_some_and(expected.nonce), Rejection::Nonce)?;
        check_access_token(&self.claims, expected.access_token)?;
        let since = expected.started - SKEW..=expected.now + SKEW;
        let proved_at = seconds(&self.claims, "auth_time")?.filter(|at| since.contains(at));
        Ok(Verified { subject, proved_at, claims: self.claims })
    }
}

fn is_subject(text: &str) -> bool {
    (1..=LONGEST_SUBJECT).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}
