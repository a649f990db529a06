//! Public keys as servers publish them (JWK sets), and LINE's own (`GET /oauth2/v2.1/certs`), by which the ID tokens of
//! LIFF apps are verified. They are held as [`Held`] says.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

use super::{Error, Line, endpoint, held::Held, http};

/// Two numbers of 32 bytes.
const P256_SIGNATURE: usize = 64;

/// What a signature is made by. Nothing else is ever taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    Es256,
    Rs256,
}

/// A key that signatures are verified with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    id: Option<String>,
    public: Public,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Public {
    /// Uncompressed: 0x04, x, y.
    P256([u8; 65]),
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
}

/// LINE's keys. Times are given by the caller, in epoch milliseconds.
#[derive(Debug)]
pub struct Cache(Held<Vec<Key>, Error>);

/// A set of keys as it is published.
#[derive(Deserialize)]
pub struct Set {
    keys: Vec<serde_json::Value>,
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
    n: Option<String>,
    e: Option<String>,
}

impl Algorithm {
    pub fn word(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }
}

impl Key {
    /// The one algorithm that this key is for.
    pub fn algorithm(&self) -> Algorithm {
        match self.public {
            Public::P256(_) => Algorithm::Es256,
            Public::Rsa { .. } => Algorithm::Rs256,
        }
    }

    /// Whether this key made `signature` for `signed`.
    pub fn is_signed(&self, signed: &[u8], signature: &[u8]) -> bool {
        match &self.public {
            Public::P256(point) => {
                signature.len() == P256_SIGNATURE
                    && UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, signature).is_ok()
            }
            // Shorter than 2048 bits is no key.
            Public::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature).is_ok()
            }
        }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self(Held::new("LINE's keys"))
    }
}

impl Cache {
    /// The key of this id, or the only key there is where a token names none. `Ok(None)`: LINE has no such key.
    pub async fn find(&self, line: &Line, id: Option<&str>, now: i64) -> Result<Option<Key>, Error> {
        self.0.find(now, |keys| find(keys, Algorithm::Es256, id), line.keys()).await
    }
}

impl Set {
    /// The keys that can be used; one of another kind is none for us.
    pub fn keys(self) -> Vec<Key> {
        self.keys.into_iter().filter_map(|jwk| read(serde_json::from_value(jwk).ok()?)).collect()
    }
}

/// The key of this id, or the only one for the algorithm where no id is named.
pub fn find(keys: &[Key], algorithm: Algorithm, id: Option<&str>) -> Option<Key> {
    let mut fitting = keys.iter().filter(|key| key.algorithm() == algorithm);
    match id {
        Some(id) => fitting.find(|key| key.id.as_deref() == Some(id)).cloned(),
        None => fitting.next().filter(|_| fitting.next().is_none()).cloned(),
    }
}

impl Line {
    /// The keys that LINE signs with now, for ES256.
    pub async fn keys(&self) -> Result<Vec<Key>, Error> {
        let request = self.http.get(&endpoint(&self.hosts.api, "/oauth2/v2.1/certs"));
        let set: Set = http::send_ok(request, http::SMALL).await?.json()?;
        let mut keys = set.keys();
        keys.retain(|key| key.algorithm() == Algorithm::Es256);
        if keys.is_empty() { Err(Error::Malformed("no key for ES256".into())) } else { Ok(keys) }
    }
}

fn read(jwk: Jwk) -> Option<Key> {
    let is = |value: &Option<String>, wanted: &str| value.as_deref().is_none_or(|value| value == wanted);
    let bytes = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?).ok();
    let (algorithm, public) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("EC", Some("P-256")) => {
            let number = |text| bytes(text).filter(|bytes| bytes.len() == 32);
            let point = [vec![4], number(jwk.x)?, number(jwk.y)?].concat();
            (Algorithm::Es256, Public::P256(point.try_into().ok()?))
        }
        ("RSA", None) => {
            let number = |text| bytes(text).filter(|bytes| !bytes.is_empty());
            (Algorithm::Rs256, Public::Rsa { n: number(jwk.n)?, e: number(jwk.e)? })
        }
        _ => return None,
    };
    (is(&jwk.alg, algorithm.word()) && is(&jwk.usage, "sig")).then_some(Key { id: jwk.kid, public })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> Key {
        Key { id: Some(id.to_owned()), public: Public::P256([4; 65]) }
    }

    #[test]
    fn t10_a_token_without_key_id_takes_the_only_key() {
        let es256 = |keys: &[Key], id| find(keys, Algorithm::Es256, id);
        assert_eq!(es256(&[key("a")], None), Some(key("a")));
        assert_eq!(find(&[key("a")], Algorithm::Rs256, None), None);
        assert_eq!(find(&[key("a")], Algorithm::Rs256, Some("a")), None);
        let two = [key("a"), key("b")];
        assert_eq!(es256(&two, None), None);
        assert_eq!(es256(&two, Some("b")), Some(key("b")));
        for other in ["", "A", "a ", "c"] {
            assert_eq!(es256(&two, Some(other)), None, "{other}");
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

        let rsa = |name: &str, value: &str| {
            let mut jwk = serde_json::json!({ "kty": "RSA", "kid": "k", "n": "AQAB", "e": "AQAB", "alg": "RS256" });
            jwk[name] = value.into();
            read(serde_json::from_value(jwk).unwrap()).map(|key| key.algorithm())
        };
        assert_eq!(rsa("use", "sig"), Some(Algorithm::Rs256));
        for (name, value) in [("kty", "oct"), ("alg", "PS256"), ("use", "enc"), ("n", ""), ("e", "+")] {
            assert_eq!(rsa(name, value), None, "{name} {value}");
        }
        let set: Set = serde_json::from_value(serde_json::json!({ "keys": [1, { "kty": 1 }, {}] })).unwrap();
        assert_eq!(set.keys(), []);
    }
}
