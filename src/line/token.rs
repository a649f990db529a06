//! Channel access tokens: issued, counted, verified, revoked.
//!
//! | kind | life | how many at one time |
//! |---|---|---|
//! | stateless | 15 minutes, cannot be revoked | any number |
//! | v2.1 | up to 30 days | 30; LINE refuses the next |
//! | short-lived | 30 days | 30; the next silently ends the oldest |
//! | long-lived | without end; made in LINE's console only | 1 |

mod cache;

use std::time::Duration;

use aws_lc_rs::{rand::SystemRandom, rsa::KeyPair, signature::RSA_PKCS1_SHA256};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

pub use self::cache::{Cache, Kept, Look, Slot};
use super::{Error, Line, endpoint, http};

/// How many tokens v2.1, or short-lived ones, a channel may have at one time.
pub const MOST: usize = 30;

/// The audience of every assertion, whatever host it is sent to.
const AUDIENCE: &str = "https://api.line.me/";
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// LINE takes 30 minutes at most; half of them, so that clocks may differ either way.
const ASSERTION_LIFE: i64 = 15 * 60;

/// A token just issued.
#[derive(Debug, Clone)]
pub struct Issued {
    pub token: SecretString,
    pub life: Duration,
    /// LINE's name of a token v2.1.
    pub key_id: Option<String>,
}

/// What signs for a channel.
pub struct Assertion<'a> {
    pub channel_id: &'a str,
    /// The id that LINE gave to the public key.
    pub key_id: &'a str,
    pub key: &'a KeyPair,
    /// Epoch seconds.
    pub now: i64,
}

/// What LINE knows of a token.
#[derive(Debug, Clone, Deserialize)]
pub struct Verified {
    /// The channel it was issued for.
    pub client_id: String,
    /// Seconds; a long-lived token's are more than 32 bits hold.
    pub expires_in: i64,
}

#[derive(Deserialize)]
struct Reply {
    access_token: SecretString,
    expires_in: u64,
    key_id: Option<String>,
}

impl Line {
    /// A stateless channel access token and its life.
    pub async fn stateless_token(&self, channel_id: &str, secret: &SecretString) -> Result<Issued, Error> {
        self.issue("/oauth2/v3/token", &by_secret(channel_id, secret)).await
    }

    pub async fn short_lived_token(&self, channel_id: &str, secret: &SecretString) -> Result<Issued, Error> {
        self.issue("/v2/oauth/accessToken", &by_secret(channel_id, secret)).await
    }

    /// A token v2.1 that lives for `life`, 30 days at most.
    pub async fn token_v21(&self, assertion: &Assertion<'_>, life: Duration) -> Result<Issued, Error> {
        let jwt = assertion.sign(Some(life))?;
        let form = [
            ("grant_type", "client_credentials"),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", jwt.expose_secret()),
        ];
        self.issue("/oauth2/v2.1/token", &form).await
    }

    /// The key ids of the channel's valid tokens v2.1.
    pub async fn token_key_ids(&self, assertion: &Assertion<'_>) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct KeyIds {
            kids: Vec<String>,
        }
        let jwt = assertion.sign(None)?;
        let query = [("client_assertion_type", ASSERTION_TYPE), ("client_assertion", jwt.expose_secret())];
        let request = self.http.get(&endpoint(&self.hosts.api, "/oauth2/v2.1/tokens/kid")).query(&query);
        let reply: KeyIds = http::send_ok(request, http::SMALL).await?.json()?;
        Ok(reply.kids)
    }

    /// Revokes a token v2.1. LINE says nothing of one that it does not know.
    pub async fn revoke_token_v21(
        &self,
        channel_id: &str,
        secret: &SecretString,
        token: &SecretString,
    ) -> Result<(), Error> {
        let form = [
            ("client_id", channel_id),
            ("client_secret", secret.expose_secret()),
            ("access_token", token.expose_secret()),
        ];
        let request = self.http.post(&endpoint(&self.hosts.api, "/oauth2/v2.1/revoke")).form(&form);
        http::send_ok(request, http::SMALL).await.map(|_| ())
    }

    /// Revokes a short-lived token.
    pub async fn revoke_short_lived_token(&self, token: &SecretString) -> Result<(), Error> {
        let form = [("access_token", token.expose_secret())];
        let request = self.http.post(&endpoint(&self.hosts.api, "/v2/oauth/revoke")).form(&form);
        http::send_ok(request, http::SMALL).await.map(|_| ())
    }

    /// What LINE knows of a short-lived or long-lived token.
    pub async fn verify_token(&self, token: &SecretString) -> Result<Verified, Error> {
        let form = [("access_token", token.expose_secret())];
        let request = self.http.post(&endpoint(&self.hosts.api, "/v2/oauth/verify")).form(&form);
        http::send_ok(request, http::SMALL).await?.json()
    }

    async fn issue(&self, path: &str, form: &[(&str, &str)]) -> Result<Issued, Error> {
        let request = self.http.post(&endpoint(&self.hosts.api, path)).form(form);
        let reply: Reply = http::send_ok(request, http::SMALL).await?.json()?;
        let life = Duration::from_secs(reply.expires_in);
        Ok(Issued { token: reply.access_token, life, key_id: reply.key_id })
    }
}

fn by_secret<'a>(channel_id: &'a str, secret: &'a SecretString) -> [(&'a str, &'a str); 3] {
    [("grant_type", "client_credentials"), ("client_id", channel_id), ("client_secret", secret.expose_secret())]
}

impl Assertion<'_> {
    /// The signed claims; with the life of the token where one is asked for.
    fn sign(&self, life: Option<Duration>) -> Result<SecretString, Error> {
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": self.key_id });
        let mut claims = json!({
            "iss": self.channel_id,
            "sub": self.channel_id,
            "aud": AUDIENCE,
            "exp": self.now + ASSERTION_LIFE,
        });
        if let (Some(life), Some(claims)) = (life, claims.as_object_mut()) {
            claims.insert("token_exp".to_owned(), life.as_secs().into());
        }
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        let made = self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature);
        made.map_err(|_| Error::Client("the assertion key does not sign".to_owned()))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)).into())
    }
}
