//! The verification of a LIFF app's ID token: ES256 with a key that LINE publishes, and nothing else.
//!
//! It carries no nonce of ours (LIFF's SDK takes none), so that whoever has it could show it again until it ends: the
//! caller sees to it that one browser can (`link::liff`).

use super::{
    Identity, Object, Parts, Rejection, check_access_token, check_header, check_party, check_times, decode, ensure,
    identity, key_id, seconds,
};
use crate::line::jwks::{Algorithm, Key};

/// A token that has the right shape. Nothing in it is believed before [`Unverified::verify`].
pub struct Unverified<'a> {
    signed: &'a str,
    signature: Vec<u8>,
    key_id: Option<String>,
    claims: Object,
}

/// What the token must fit, besides its signature.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    pub channel_id: &'a str,
    /// In seconds since 1970.
    pub now: i64,
    /// The access token that came with it.
    pub access_token: Option<&'a str>,
}

/// A person, by LINE's word, until a time (in seconds since 1970).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    pub identity: Identity,
    pub expires_at: i64,
}

impl<'a> Unverified<'a> {
    pub fn read(token: &'a str) -> Result<Self, Rejection> {
        let Parts { header, payload: claims, signature } = decode(token)?;
        check_header(&header, Algorithm::Es256.word())?;
        let key_id = key_id(&header)?;
        let (signed, _) = token.rsplit_once('.').ok_or(Rejection::Shape)?;
        Ok(Self { signed, signature, key_id, claims })
    }

    /// The key that it says it is signed with: compared with the ids of LINE's keys, and used for nothing else.
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    pub fn verify(&self, key: &Key, expected: Expected<'_>) -> Result<Verified, Rejection> {
        ensure(key.is_signed(self.signed.as_bytes(), &self.signature), Rejection::Signature)?;
        check_party(&self.claims, expected.channel_id)?;
        check_times(&self.claims, expected.now, None)?;
        if let Some(access_token) = expected.access_token {
            check_access_token(&self.claims, access_token)?;
        }
        let expires_at = seconds(&self.claims, "exp")?.ok_or(Rejection::Expired)?;
        Ok(Verified { identity: identity(&self.claims)?, expires_at })
    }
}
