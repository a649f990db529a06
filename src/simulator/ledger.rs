//! The ledger: every call to LINE's faces in order, and what was really delivered to whom.
//!
//! It is the witness of the tests ("sent once", "never called"), so it tells what came and what was answered, and no
//! secret: the values of secret parameters are struck out, their names stay.

use std::collections::{BTreeMap, HashSet, VecDeque};

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue, Method, header, request::Parts},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::form_urlencoded;

use super::message::Kind;

/// Older calls make room for new ones; `forgotten` counts them.
const KEPT_CALLS: usize = 20_000;
const KEPT_BYTES: usize = 64 * 1024 * 1024;

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
    calls: VecDeque<Call>,
    forgotten: u64,
    /// Of the bodies kept.
    bytes: usize,
}

/// A call as it came. Its parts are read, and secrets struck out of them, when it is looked at: most never are.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// Epoch milliseconds, by the simulator's clock.
    pub at: i64,
    pub method: Method,
    pub path: String,
    pub status: u16,
    pub request_id: String,
    pub user_id: Option<String>,
    pub handled: bool,
    retry_key: Option<HeaderValue>,
    query: Option<String>,
    body: Bytes,
    is_form: bool,
}

/// Messages of one accepted request, and whom they reached.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Arrival {
    pub at: i64,
    pub channel: String,
    pub kind: Kind,
    pub request_id: String,
    pub retry_key: Option<String>,
    /// User ids, or a group's.
    pub to: Vec<String>,
    /// How many message objects.
    pub messages: usize,
    pub message_ids: Vec<String>,
    /// A number that equal messages share.
    pub content: u64,
}

impl Ledger {
    pub fn add(&mut self, call: Call) {
        self.bytes += call.body.len();
        self.calls.push_back(call);
        while self.calls.len() > KEPT_CALLS || (self.bytes > KEPT_BYTES && self.calls.len() > 1) {
            let Some(oldest) = self.calls.pop_front() else { return };
            self.bytes -= oldest.body.len();
            self.forgotten += 1;
        }
    }

    pub fn newest(&self, most: usize) -> impl Iterator<Item = &Call> {
        self.calls.iter().rev().take(most)
    }

    /// The calls kept, oldest first.
    pub fn calls(&self) -> Vec<Value> {
        self.calls.iter().map(Call::shown).collect()
    }

    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

impl Call {
    /// The part of an entry that is known before the answer.
    pub fn of(parts: &Parts, body: &[u8], at: i64, request_id: &str) -> Self {
        let kind = text(&parts.headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
        Self {
            at,
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            status: 0,
            request_id: request_id.to_owned(),
            user_id: None,
            handled: false,
            retry_key: parts.headers.get("x-line-retry-key").cloned(),
            query: parts.uri.query().map(str::to_owned),
            is_form: kind.starts_with("application/x-www-form-urlencoded"),
            // A copy: the body as it came holds on to the whole buffer it was read into.
            body: Bytes::copy_from_slice(body),
        }
    }

    pub fn query(&self) -> Option<Value> {
        self.query.as_ref().map(|query| form(query.as_bytes()))
    }

    /// A form or JSON; anything else is not shown.
    pub fn body(&self) -> Option<Value> {
        if self.body.is_empty() {
            return None;
        }
        if self.is_form {
            return Some(form(&self.body));
        }
        let mut value = serde_json::from_slice(&self.body).ok()?;
        strike_out(&mut value);
        Some(value)
    }

    fn shown(&self) -> Value {
        let mut shown = json!({
            "at": self.at,
            "method": self.method.as_str(),
            "path": self.path,
            "status": self.status,
            "request_id": self.request_id,
            "handled": self.handled,
        });
        let retry_key = self.retry_key.as_ref().and_then(|key| key.to_str().ok()).map(Value::from);
        let user_id = self.user_id.clone().map(Value::from);
        let more = [("retry_key", retry_key), ("user_id", user_id), ("query", self.query()), ("body", self.body())];
        for (name, value) in more {
            if let Some(value) = value {
                shown[name] = value;
            }
        }
        shown
    }
}

/// What reached each person or group, by retry key (or none, or as replies): how often, how many message objects, and
/// under which requests.
pub(super) fn deliveries(arrivals: &[Arrival]) -> Vec<Value> {
    let mut found: BTreeMap<(&str, &str, bool, Option<&str>), Vec<&Arrival>> = BTreeMap::new();
    for arrival in arrivals {
        for to in &arrival.to {
            let is_reply = arrival.kind == Kind::Reply;
            found.entry((&arrival.channel, to, is_reply, arrival.retry_key.as_deref())).or_default().push(arrival);
        }
    }
    let shown = found.into_iter().map(|((channel, user_id, reply, retry_key), all)| {
        let requests = all.iter().map(|one| {
            json!({
                "request_id": one.request_id,
                "kind": one.kind,
                "at": one.at,
                "message_ids": one.message_ids,
                "content": format!("{:016x}", one.content),
            })
        });
        json!({
            "channel": channel,
            "user_id": user_id,
            "retry_key": retry_key,
            "reply": reply,
            "count": all.len(),
            "messages": all.iter().map(|one| one.messages).sum::<usize>(),
            "requests": requests.collect::<Vec<_>>(),
        })
    });
    shown.collect()
}

/// The same in four numbers, for runs too large to be listed: arrivals, whom they reached, and how many of them were
/// the same again, by retry key and by content.
pub(super) fn summary(arrivals: &[Arrival]) -> Value {
    let (mut people, mut keys, mut contents) = (HashSet::new(), HashSet::new(), HashSet::new());
    let (mut count, mut same_key, mut same_content) = (0_u64, 0_u64, 0_u64);
    for arrival in arrivals {
        for to in &arrival.to {
            let place = (arrival.channel.as_str(), to.as_str());
            count += 1;
            people.insert(place);
            same_key += u64::from(arrival.retry_key.as_ref().is_some_and(|key| !keys.insert((place, key))));
            same_content += u64::from(!contents.insert((place, arrival.content)));
        }
    }
    json!({
        "arrivals": count,
        "people": people.len(),
        "again_by_key": same_key,
        "again_by_content": same_content,
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
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
