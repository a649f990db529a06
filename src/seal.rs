//! Keeps secrets in the database: sealed (AEAD) where they must be read back, hashed where they are only compared.
//!
//! A sealed value names its key, so that a new key can seal while the old ones still open, and is bound
//! to a context (the row it belongs to), so that it cannot be moved to another row.

use std::collections::BTreeMap;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey},
    digest, hmac,
    rand::{SecureRandom, SystemRandom},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use secrecy::ExposeSecret;

use crate::config;

const NONCE: usize = 12;

/// The installation's keys.
pub struct Sealer {
    active: String,
    keys: BTreeMap<String, Key>,
}

struct Key {
    seal: RandomizedNonceKey,
    sign: hmac::Key,
}

/// A key is unusable, unknown, or the value was not sealed by it for this context.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("sealing key {0:?} is unusable")]
    Key(String),
    #[error("sealed with key {0:?}, which is not configured")]
    UnknownKey(String),
    #[error("the sealed value is damaged or belongs elsewhere")]
    Damaged,
}

impl Sealer {
    pub fn new(config: &config::Security) -> Result<Self, SealError> {
        let mut keys = BTreeMap::new();
        for (id, key) in &config.sealing_keys {
            let unusable = || SealError::Key(id.clone());
            let bytes = STANDARD.decode(key.expose_secret().trim()).map_err(|_| unusable())?;
            let seal = RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| unusable())?;
            let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &bytes), b"musubi form token v1");
            keys.insert(id.clone(), Key { seal, sign: hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()) });
        }
        let active = config.sealing_key.clone();
        if !keys.contains_key(&active) {
            return Err(SealError::UnknownKey(active));
        }
        Ok(Self { active, keys })
    }

    /// Seals `plain` for `context` as `key id . nonce . ciphertext`, the latter two in one base64 text.
    pub fn seal(&self, context: &str, plain: &[u8]) -> Result<String, SealError> {
        let key = self.keys.get(&self.active).ok_or_else(|| SealError::UnknownKey(self.active.clone()))?;
        let mut bytes = plain.to_vec();
        let nonce =
            key.seal.seal_in_place_append_tag(Aad::from(context), &mut bytes).map_err(|_| SealError::Damaged)?;
        let mut body = nonce.as_ref().to_vec();
        body.extend_from_slice(&bytes);
        Ok(format!("{}.{}", self.active, URL_SAFE_NO_PAD.encode(body)))
    }

    /// Opens what [`Self::seal`] made for the same context.
    pub fn open(&self, context: &str, sealed: &str) -> Result<Vec<u8>, SealError> {
        let (id, body) = sealed.rsplit_once('.').ok_or(SealError::Damaged)?;
        let key = self.keys.get(id).ok_or_else(|| SealError::UnknownKey(id.to_owned()))?;
        let mut body = URL_SAFE_NO_PAD.decode(body).map_err(|_| SealError::Damaged)?;
        if body.len() < NONCE {
            return Err(SealError::Damaged);
        }
        let mut bytes = body.split_off(NONCE);
        let nonce = Nonce::try_assume_unique_for_key(&body).map_err(|_| SealError::Damaged)?;
        let plain = key.seal.open_in_place(nonce, Aad::from(context), &mut bytes).map_err(|_| SealError::Damaged)?;
        Ok(plain.to_vec())
    }

    /// The id of the key that a sealed value names.
    pub fn key_of(sealed: &str) -> Option<&str> {
        sealed.rsplit_once('.').map(|(id, _)| id)
    }

    /// A token that only this installation can make for `text`; see [`Self::is_signed`].
    pub fn sign(&self, text: &str) -> String {
        self.keys.get(&self.active).map(|key| signature(key, text)).unwrap_or_default()
    }

    /// Whether `token` was made for `text`, by any of the keys; compared in constant time.
    pub fn is_signed(&self, text: &str, token: &str) -> bool {
        self.keys.values().any(|key| equal(&signature(key, text), token))
    }
}

fn signature(key: &Key, text: &str) -> String {
    URL_SAFE_NO_PAD.encode(hmac::sign(&key.sign, text.as_bytes()).as_ref())
}

/// SHA-256 in base64url: for secrets of 128 random bits or more that are only compared.
pub fn hash(secret: &(impl AsRef<[u8]> + ?Sized)) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, secret.as_ref()).as_ref())
}

/// Compares in constant time (for texts of one length).
pub fn equal(one: &str, other: &str) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
}

/// 256 random bits as 43 characters of base64url: a session, a state, a nonce, a verifier.
pub fn random_token(random: &SystemRandom) -> Result<String, SealError> {
    let mut bytes = [0_u8; 32];
    random.fill(&mut bytes).map_err(|_| SealError::Damaged)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// A fresh sealing key, as the configuration takes it.
pub fn new_key() -> Result<String, SealError> {
    let mut bytes = [0_u8; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| SealError::Damaged)?;
    Ok(STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(active: &str, ids: &[(&str, u8)]) -> Sealer {
        let keys = ids.iter().map(|(id, byte)| ((*id).to_owned(), STANDARD.encode([*byte; 32]).into()));
        Sealer::new(&config::Security {
            sealing_key: active.to_owned(),
            sealing_keys: keys.collect(),
            password_hash: config::PasswordHash::default(),
            password_length: 8,
            requests_per_minute: std::num::NonZeroU32::MIN,
        })
        .unwrap()
    }

    #[test]
    fn opens_only_for_its_context_and_with_its_key() {
        let old = sealer("old", &[("old", 1)]);
        let sealed = old.seal("grant:1", b"token").unwrap();
        let both = sealer("new", &[("old", 1), ("new", 2)]);
        assert_eq!(both.open("grant:1", &sealed).unwrap(), b"token");
        assert!(both.open("grant:2", &sealed).is_err(), "moved to another row");
        assert!(both.seal("grant:1", b"token").unwrap().starts_with("new."));
        assert!(sealer("old", &[("old", 3)]).open("grant:1", &sealed).is_err(), "another key");
        assert!(sealer("new", &[("new", 1)]).open("grant:1", &sealed).is_err(), "the key id is gone");
        assert!(both.open("grant:1", &sealed[..sealed.len() - 2]).is_err(), "cut");
        assert!(both.open("grant:1", "old.").is_err());
    }

    #[test]
    fn signs_per_text_and_accepts_older_keys() {
        let old = sealer("old", &[("old", 1)]);
        let both = sealer("new", &[("old", 1), ("new", 2)]);
        assert!(both.is_signed("a", &old.sign("a")));
        assert!(!both.is_signed("b", &old.sign("a")));
        assert!(!both.is_signed("a", ""));
    }
}
