//! LINE's public keys (`GET /oauth2/v2.1/certs`), by which the ID tokens of LIFF apps are verified, and what this process
//! holds of them.
//!
//! They are fetched where one is needed: at first, once an hour, and when a token names a key that is not there, as after
//! LINE changed them. Whatever tokens name, LINE is asked at most every 30 seconds. While LINE is away the keys are used
//! on for a day; then, or where there never were any, nobody's token can be verified.

use std::sync::{Arc, PoisonError, RwLock};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

use super::{Error, Line, endpoint, http};

/// Times in milliseconds.
const FRESH: i64 = 3600 * 1000;
const USABLE: i64 = 24 * 3600 * 1000;
/// Between two questions to LINE.
const PAUSE: i64 = 30 * 1000;
/// The same while there are no keys at all: nobody can come in before there are.
const PAUSE_WITHOUT: i64 = 3 * 1000;

/// A P-256 key that ES256 is verified with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    id: Option<String>,
    /// Uncompressed: 0x04, x, y.
    point: [u8; 65],
}

/// What is known of LINE's keys. Times are given by the caller, in epoch milliseconds.
#[derive(Debug, Default)]
pub struct Cache {
    kept: RwLock<Arc<Kept>>,
    /// Held while they are fetched, so that many callers wait for one answer.
    fetching: tokio::sync::Mutex<Fetching>,
}

#[derive(Debug, Default)]
struct Kept {
    keys: Vec<Key>,
    fetched_at: i64,
}

#[derive(Debug, Default)]
struct Fetching {
    asked_at: Option<i64>,
    /// Of the last question, where it brought no keys.
    failure: Option<Error>,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    kid: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Key {
    pub fn point(&self) -> &[u8] {
        &self.point
    }
}

impl Cache {
    /// The key of this id, or the only key there is where a token names none. `Ok(None)`: LINE has no such key.
    pub async fn find(&self, line: &Line, id: Option<&str>, now: i64) -> Result<Option<Key>, Error> {
        let kept = self.kept();
        let found = kept.find(id);
        if found.is_some() && kept.is_within(FRESH, now) {
            return Ok(found);
        }
        let mut fetching = match self.fetching.try_lock() {
            Ok(fetching) => fetching,
            // A key that is good still does not wait for a LINE that does not answer.
            Err(_) if found.is_some() && kept.is_within(USABLE, now) => return Ok(found),
            Err(_) => self.fetching.lock().await,
        };
        self.fetch(line, &mut fetching, now).await;
        let kept = self.kept();
        let is_usable = kept.is_within(USABLE, now);
        match (kept.find(id).filter(|_| is_usable), &fetching.failure) {
            (Some(key), _) => Ok(Some(key)),
            // It may be one of the keys that could not be read.
            (None, Some(failure)) => Err(failure.clone()),
            (None, None) => Ok(None),
        }
    }

    /// Asks LINE, unless it was asked just now.
    async fn fetch(&self, line: &Line, fetching: &mut Fetching, now: i64) {
        let pause = if self.kept().is_within(USABLE, now) { PAUSE } else { PAUSE_WITHOUT };
        if fetching.asked_at.is_some_and(|asked_at| (0..pause).contains(&(now - asked_at))) {
            return;
        }
        fetching.asked_at = Some(now);
        match line.keys().await {
            Ok(keys) => {
                fetching.failure = None;
                let kept = Arc::new(Kept { keys, fetched_at: now });
                *self.kept.write().unwrap_or_else(PoisonError::into_inner) = kept;
            }
            Err(error) => {
                tracing::warn!(%error, "LINE's keys could not be read");
                fetching.failure = Some(error);
            }
        }
    }

    fn kept(&self) -> Arc<Kept> {
        Arc::clone(&self.kept.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Kept {
    fn find(&self, id: Option<&str>) -> Option<Key> {
        match (id, self.keys.as_slice()) {
            (Some(id), keys) => keys.iter().find(|key| key.id.as_deref() == Some(id)).cloned(),
            (None, [only]) => Some(only.clone()),
            (None, _) => None,
        }
    }

    /// A clock that was turned back makes keys old: their true age is unknown.
    fn is_within(&self, age: i64, now: i64) -> bool {
        !self.keys.is_empty() && (0..age).contains(&(now - self.fetched_at))
    }
}

impl Line {
    /// The keys that LINE signs with now, for ES256.
    pub async fn keys(&self) -> Result<Vec<Key>, Error> {
        let request = self.http.get(&endpoint(&self.hosts.api, "/oauth2/v2.1/certs"));
        let set: Set = http::send_ok(request, http::SMALL).await?.json()?;
        let keys: Vec<Key> = set.keys.into_iter().filter_map(read).collect();
        if keys.is_empty() { Err(Error::Malformed("no key for ES256".into())) } else { Ok(keys) }
    }
}

/// A key of another kind is none for us.
fn read(jwk: Jwk) -> Option<Key> {
    let is = |value: &Option<String>, wanted: &str| value.as_deref().is_none_or(|value| value == wanted);
    if jwk.kty != "EC" || jwk.crv.as_deref() != Some("P-256") || !is(&jwk.alg, "ES256") || !is(&jwk.usage, "sig") {
        return None;
    }
    let number = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?).ok().filter(|bytes| bytes.len() == 32);
    let point = [vec![4], number(jwk.x)?, number(jwk.y)?].concat();
    Some(Key { id: jwk.kid, point: point.try_into().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> Key {
        Key { id: Some(id.to_owned()), point: [4; 65] }
    }

    #[test]
    fn t10_a_token_without_key_id_takes_the_only_key() {
        let one = Kept { keys: vec![key("a")], fetched_at: 0 };
        assert_eq!(one.find(None), Some(key("a")));
        let two = Kept { keys: vec![key("a"), key("b")], fetched_at: 0 };
        assert_eq!(two.find(None), None);
        assert_eq!(two.find(Some("b")), Some(key("b")));
        for other in ["", "A", "a ", "c"] {
            assert_eq!(two.find(Some(other)), None, "{other}");
        }
    }

    #[test]
    fn keys_of_other_kinds_are_left_out() {
        let x = URL_SAFE_NO_PAD.encode([1; 32]);
        let jwk = |changes: &[(&str, serde_json::Value)]| {
            let mut jwk = serde_json::json!({ "kty": "EC", "crv": "P-256", "kid": "k", "x": x, "y": x });
            for (name, value) in changes {
                jwk[name] = value.clone();
            }
            read(serde_json::from_value(jwk).unwrap())
        };
        assert!(jwk(&[]).is_some());
        assert!(jwk(&[("alg", "ES256".into()), ("use", "sig".into())]).is_some());
        for (name, value) in
            [("kty", "RSA"), ("crv", "P-384"), ("alg", "RS256"), ("use", "enc"), ("x", "AA"), ("y", "+/"), ("x", "")]
        {
            assert_eq!(jwk(&[(name, value.into())]), None, "{name} {value}");
        }
        assert_eq!(jwk(&[("x", serde_json::Value::Null)]), None);
    }

    #[test]
    fn keys_age() {
        let kept = Kept { keys: vec![key("a")], fetched_at: 1000 };
        for (now, fresh, usable) in
            [(1000, true, true), (1000 + FRESH, false, true), (1000 + USABLE, false, false), (999, false, false)]
        {
            assert_eq!((kept.is_within(FRESH, now), kept.is_within(USABLE, now)), (fresh, usable), "{now}");
        }
        assert!(!Kept::default().is_within(USABLE, 1));
    }
}
