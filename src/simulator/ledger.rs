//! The ledger: every call to LINE's faces in order, and what was really delivered to whom.
//!
//! It is the witness of the tests ("sent once", "never called"), so it holds what came and what was answered, and no
//! secret: the values of secret parameters are struck out, their names stay.

use std::collections::VecDeque;

use axum::{
    body::Bytes,
    http::{HeaderMap, header, request::Parts},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::form_urlencoded;

/// Older calls make room for new ones; `forgotten` counts them.
const KEPT_CALLS: usize = 20_000;

const SECRETS: [&str; 9] = [
    "client_secret",
    "code",
    "code_verifier",
    "access_token",
    "refresh_token",
    "id_token",
    "client_assertion",
    "userAccessToken",
    "linkToken",
];

#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub calls: VecDeque<Call>,
    pub forgotten: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Call {
    /// Epoch milliseconds, by the simulator's clock.
    pub at: i64,
    pub method: String,
    pub path: String,
    pub status: u16,
    pub request_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    pub handled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
}

/// How often a push of this retry key (or of none), or a reply, reached this person or group.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Delivery {
    pub channel: String,
    pub user_id: String,
    pub retry_key: Option<String>,
    #[serde(default)]
    pub reply: bool,
    /// Sendings that were delivered.
    pub count: u64,
    /// Message objects in them.
    pub messages: u64,
}

impl Ledger {
    pub fn add(&mut self, call: Call) {
        if self.calls.len() >= KEPT_CALLS {
            self.calls.pop_front();
            self.forgotten += 1;
        }
        self.calls.push_back(call);
    }
}

impl Call {
    /// The part of an entry that is known before the answer.
    pub fn of(parts: &Parts, body: &Bytes, at: i64, request_id: &str) -> Self {
        Self {
            at,
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            status: 0,
            request_id: request_id.to_owned(),
            retry_key: text(&parts.headers, "x-line-retry-key").map(str::to_owned),
            user_id: None,
            handled: false,
            query: parts.uri.query().map(|query| form(query.as_bytes())),
            body: readable(&parts.headers, body),
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn readable(headers: &HeaderMap, body: &Bytes) -> Option<Value> {
    if body.is_empty() {
        return None;
    }
    let kind = text(headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
    if kind.starts_with("application/x-www-form-urlencoded") {
        return Some(form(body));
    }
    let mut value = serde_json::from_slice(body).ok()?;
    strike_out(&mut value);
    Some(value)
}

fn form(bytes: &[u8]) -> Value {
    let pairs = form_urlencoded::parse(bytes);
    let mut value = Value::Object(pairs.map(|(k, v)| (k.into_owned(), v.into_owned().into())).collect::<Map<_, _>>());
    strike_out(&mut value);
    value
}

/// Only the top level can hold a parameter; deeper fields are the caller's content.
fn strike_out(value: &mut Value) {
    if let Value::Object(map) = value {
        for (_, secret) in map.iter_mut().filter(|(name, _)| SECRETS.contains(&name.as_str())) {
            *secret = "***".into();
        }
    }
}
