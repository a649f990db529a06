//! What LINE sends to a channel's webhook: the signature over a request's raw bytes, and the envelope around its events.
//!
//! Types, fields and values that LINE adds later must not hurt: only what is needed is read, and what cannot be read of
//! one event is that event's matter alone.

use std::borrow::Cow;

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Bytes of an HMAC-SHA256.
const DIGEST: usize = 32;

/// A well-formed `x-line-signature`: what it says is not checked yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; DIGEST]);

/// A request's body: who it is for, and its events as they were written.
#[derive(Debug, Deserialize)]
pub struct Envelope<'a> {
    /// The user id of the official account.
    #[serde(borrow)]
    pub destination: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub events: Vec<&'a RawValue>,
}

/// What every event has, as far as it is there and readable.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Head<'a> {
    #[serde(borrow)]
    pub webhook_event_id: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type")]
    pub kind: Option<Cow<'a, str>>,
    /// When it happened, in epoch milliseconds; the same at a redelivery.
    pub timestamp: Option<i64>,
    #[serde(borrow)]
    pub source: Option<Source<'a>>,
}

/// Where an event happened: a person's own chat, a group or a room.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Source<'a> {
    #[serde(borrow)]
    pub user_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub group_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub room_id: Option<Cow<'a, str>>,
}

impl Signature {
    /// Out of the header's value: Base64 of 32 bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }

    /// Whether a holder of `secret` signed these bytes. Constant time; the key is the secret's text, not what it may
    /// encode.
    pub fn is_of(&self, body: &[u8], secret: &SecretString) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
        hmac::verify(&key, body, &self.0).is_ok()
    }
}

impl<'a> Envelope<'a> {
    /// Reads a body whose signature was checked.
    pub fn read(body: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }
}

impl<'a> Head<'a> {
    /// What can be read of an event; nothing where a field is of another shape than LINE documents.
    pub fn of(event: &'a RawValue) -> Self {
        serde_json::from_str(event.get()).unwrap_or_default()
    }
}

impl Source<'_> {
    /// LINE's id of the chat.
    pub fn chat(&self) -> Option<&str> {
        let ids = [&self.group_id, &self.room_id, &self.user_id];
        ids.into_iter().find_map(|id| id.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"destination":"U8e742f61d673b39c7fff3cecb7536ef0","events":[]}"#;
    const SIGNATURE: &str = "GhRKmvmHys4Pi8DxkF4+EayaH0OqtJtaZxgTD9fMDLs=";

    /// The example of LINE's documents.
    #[test]
    fn lines_own_example_verifies() {
        let secret = SecretString::from("8c570fa6dd201bb328f1c1eac23a96d8");
        let signature = Signature::parse(SIGNATURE).unwrap();
        assert!(signature.is_of(BODY, &secret));
        assert!(!signature.is_of(&BODY[1..], &secret));
        assert!(!signature.is_of(BODY, &"8c570fa6dd201bb328f1c1eac23a96d9".into()));
    }

    #[test]
    fn a_signature_is_base64_of_32_bytes() {
        for bad in [
            "",
            "=",
            &SIGNATURE[1..],
            &format!("{SIGNATURE}="),
            &format!(" {SIGNATURE}"),
            "AAAA",
            "GhRKmvmHys4Pi8DxkF4-EayaH0OqtJtaZxgTD9fMDLs=",
        ] {
            assert_eq!(Signature::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_of_an_event_is_its_own_matter() {
        for (event, id, chat) in [
            (r#"{"webhookEventId":"1","type":"follow","source":{"type":"user","userId":"U"}}"#, Some("1"), Some("U")),
            (r#"{"webhookEventId":"1","source":{"groupId":"C","userId":"U"},"more":[1e999]}"#, Some("1"), Some("C")),
            (r#"{"webhookEventId":"1","source":null}"#, Some("1"), None),
            (r#"{"webhookEventId":"\u0041","text":"\ud800\u0000"}"#, Some("A"), None),
            (r#"{"webhookEventId":1}"#, None, None),
            (r#"{"webhookEventId":"1","timestamp":"now"}"#, None, None),
            ("null", None, None),
            ("[]", None, None),
        ] {
            let body = format!(r#"{{"events":[{event}]}}"#);
            let envelope = Envelope::read(body.as_bytes()).unwrap();
            let head = Head::of(envelope.events[0]);
            assert_eq!(head.webhook_event_id.as_deref(), id, "{event}");
            assert_eq!(head.source.as_ref().and_then(Source::chat), chat, "{event}");
        }
        for bad in ["", "null", "[]", "{}", "\u{feff}{}", r#"{"events":{}}"#, r#"{"events":[]} x"#] {
            assert!(Envelope::read(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
