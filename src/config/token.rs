//! Which channel access token a channel has, and the key with which a token v2.1 is asked for.

use std::time::Duration;

use aws_lc_rs::rsa::{KeyPair, KeyPairComponents, PublicKeyComponents};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{Span, SpanRelativeTo};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

use super::Channel;

/// LINE's longest life of a token; also what a token v2.1 gets where nothing is said.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
/// What a stateless token lives.
const SHORTEST: Duration = Duration::from_secs(15 * 60);

/// LINE's kinds of channel access tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenKind {
    /// 15 minutes, by the channel's secret; each process has its own.
    #[default]
    Stateless,
    /// By an assertion that the channel's assertion key signs; shared by all processes.
    #[serde(rename = "v2.1")]
    V21,
    /// 30 days, by the channel's secret; shared by all processes.
    ShortLived,
    /// Made in LINE's console; never refreshed or revoked here.
    LongLived,
}

impl TokenKind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Stateless => "stateless",
            Self::V21 => "v2.1",
            Self::ShortLived => "short-lived",
            Self::LongLived => "long-lived",
        }
    }
}

/// The private key of a channel, and the id that LINE gave to its public half.
pub struct AssertionKey {
    pub id: String,
    pub pair: KeyPair,
}

/// A private RSA key as a JWK; all numbers big-endian in base64url.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    n: String,
    e: String,
    d: SecretString,
    p: SecretString,
    q: SecretString,
    dp: SecretString,
    dq: SecretString,
    qi: SecretString,
}

impl Channel {
    /// How long a token v2.1 lives.
    pub fn token_life(&self) -> Duration {
        self.token_lifetime.unwrap_or(LONGEST)
    }

    /// The key of assertions; else what is wrong with it, after the name of what is wrong.
    pub fn assertion_key(&self) -> Result<AssertionKey, String> {
        let Some(text) = &self.assertion_key else {
            return Err(
                "assertion_key: is missing; token = \"v2.1\" needs the private key, or assertion_key_file".into()
            );
        };
        let text = text.expose_secret().trim();
        let (pair, kid) = if text.starts_with('{') { of_jwk(text)? } else { (of_pem(text)?, None) };
        let id = self.assertion_key_id.clone().or(kid).filter(|id| !id.is_empty());
        let missing = "assertion_key_id: is missing; LINE's console shows it (kid) where the public key is registered";
        Ok(AssertionKey { id: id.ok_or(missing)?, pair })
    }

    pub(super) fn check_token(&self, path: &str, mistakes: &mut Vec<String>) {
        let mut add = |mistake: String| mistakes.push(format!("{path}.{mistake}"));
        if self.token == TokenKind::V21 {
            self.assertion_key().err().into_iter().for_each(&mut add);
            if !(SHORTEST..=LONGEST).contains(&self.token_life()) {
                add("token_lifetime: must be 15 minutes to 30 days, such as \"12h\" or \"30d\"".into());
            }
        }
        if self.token == TokenKind::LongLived {
            match &self.channel_access_token {
                None => add("channel_access_token: is missing; token = \"long-lived\" needs it".into()),
                Some(token) if !is_token(token.expose_secret()) => {
                    add("channel_access_token: is not a channel access token; copy it from LINE's console".into());
                }
                Some(_) => {}
            }
        }
        let uses = |name: &str, is_given: bool, kind: TokenKind| {
            let text = format!("{name}: is for token = \"{}\" only; remove it, or set that", kind.word());
            (is_given && self.token != kind).then_some(text)
        };
        let unused = [
            uses("assertion_key", self.assertion_key.is_some(), TokenKind::V21),
            uses("assertion_key_id", self.assertion_key_id.is_some(), TokenKind::V21),
            uses("token_lifetime", self.token_lifetime.is_some(), TokenKind::V21),
            uses("channel_access_token", self.channel_access_token.is_some(), TokenKind::LongLived),
        ];
        unused.into_iter().flatten().for_each(add);
    }
}

/// What can stand in a header: LINE's tokens are opaque, and in base64's letters.
fn is_token(text: &str) -> bool {
    text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

const UNREADABLE: &str = "assertion_key: is neither a private RSA key in PEM nor one as JWK, of 2048 bits or more";

fn of_pem(text: &str) -> Result<KeyPair, String> {
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| UNREADABLE)?;
    let pair = match &key {
        PrivateKeyDer::Pkcs8(key) => KeyPair::from_pkcs8(key.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(key) => KeyPair::from_der(key.secret_pkcs1_der()),
        _ => return Err(UNREADABLE.into()),
    };
    pair.map_err(|_| UNREADABLE.into())
}

fn of_jwk(text: &str) -> Result<(KeyPair, Option<String>), String> {
    let jwk: Jwk = serde_json::from_str(text).map_err(|_| UNREADABLE)?;
    let number = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| UNREADABLE);
    let secret = |text: &SecretString| number(text.expose_secret());
    let components = KeyPairComponents {
        public_key: PublicKeyComponents { n: number(&jwk.n)?, e: number(&jwk.e)? },
        d: secret(&jwk.d)?,
        p: secret(&jwk.p)?,
        q: secret(&jwk.q)?,
        dP: secret(&jwk.dp)?,
        dQ: secret(&jwk.dq)?,
        qInv: secret(&jwk.qi)?,
    };
    if jwk.kty != "RSA" {
        return Err(UNREADABLE.into());
    }
    Ok((KeyPair::from_components(&components).map_err(|_| UNREADABLE)?, jwk.kid))
}

/// A time such as `30d`, `12h` or `1d 12h`; a day has 24 hours.
pub(super) fn lifetime<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let wrong = || serde::de::Error::custom("not a time such as 30d or 12h");
    let text = String::deserialize(deserializer).map_err(|_: D::Error| wrong())?;
    let span: Span = text.parse().map_err(|_| wrong())?;
    let life = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    Duration::try_from(life).map(Some).map_err(|_| wrong())
}
