//! Faults to be played: what the network and LINE do on bad days, ordered by a test or a person.
//!
//! A fault is used up by `count` calls to the endpoint it names. Faults before handling change nothing at LINE; faults
//! after it are the cruel ones: the message is out, and the caller does not know.

use std::collections::VecDeque;

use axum::{
    body::{Body, Bytes},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use http_body_util::{Full, Limited};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    /// `POST /v2/bot/message/push`, a prefix of it, a path without method, or `*`.
    pub endpoint: String,
    #[serde(default = "once")]
    pub count: u32,
    /// Answered instead of handling, unless the fault is one that strikes after handling.
    #[serde(default)]
    pub status: Option<u16>,
    #[serde(default)]
    pub body: Option<Value>,
    #[serde(default)]
    pub headers: Option<Map<String, Value>>,
    /// The answer is held back; what was asked is done at once.
    #[serde(default)]
    pub delay_ms: Option<u64>,
    #[serde(default)]
    pub cut: Option<Cut>,
    /// Handled, then the body is cut to so many bytes.
    #[serde(default)]
    pub truncate: Option<usize>,
    /// Handled, then answered with this body.
    #[serde(default)]
    pub replace_body: Option<Value>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Cut {
    Before,
    After,
}

fn once() -> u32 {
    1
}

/// Takes one use of the first fault that fits the call.
pub(super) fn take(faults: &mut VecDeque<Fault>, method: &Method, path: &str) -> Option<Fault> {
    let place = faults.iter().position(|fault| fault.fits(method, path))?;
    let fault = faults.get_mut(place)?;
    fault.count = fault.count.saturating_sub(1);
    let taken = fault.clone();
    if taken.count == 0 {
        faults.remove(place);
    }
    Some(taken)
}

impl Fault {
    fn fits(&self, method: &Method, path: &str) -> bool {
        self.endpoint == "*"
            || path.starts_with(&self.endpoint)
            || format!("{method} {path}").starts_with(&self.endpoint)
    }

    fn strikes_after(&self) -> bool {
        self.cut == Some(Cut::After) || self.truncate.is_some() || self.replace_body.is_some()
    }

    /// The answer given instead of handling the call, if this fault gives one.
    pub fn instead(&self) -> Option<Response> {
        if self.cut == Some(Cut::Before) {
            return Some(broken());
        }
        if self.strikes_after() || (self.status.is_none() && self.body.is_none()) {
            return None;
        }
        let status = self.status.and_then(|s| StatusCode::from_u16(s).ok()).unwrap_or_default();
        let body = self.body.clone().unwrap_or_else(|| json!({ "message": usual_text(status) }));
        Some(self.with_headers((status, body_of(&body)).into_response()))
    }

    /// Spoils the answer to a call that was handled.
    pub async fn spoil(&self, response: Response) -> Response {
        if self.cut == Some(Cut::After) {
            return broken();
        }
        let (mut parts, body) = response.into_parts();
        if let Some(status) = self.status.and_then(|s| StatusCode::from_u16(s).ok()) {
            parts.status = status;
        }
        let body = match &self.replace_body {
            Some(body) => Bytes::from(text_of(body)),
            None => axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default(),
        };
        let body = body.slice(..self.truncate.unwrap_or(body.len()).min(body.len()));
        parts.headers.remove(header::CONTENT_LENGTH);
        self.with_headers(Response::from_parts(parts, Body::from(body)))
    }

    fn with_headers(&self, mut response: Response) -> Response {
        for (name, value) in self.headers.iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

/// An answer whose body fails on the way, so that the server drops the connection.
fn broken() -> Response {
    // The body promises one byte, holds two and therefore fails at the first poll.
    let body = Limited::new(Full::new(Bytes::from_static(b"{}")), 1);
    Response::new(Body::new(body))
}

fn body_of(body: &Value) -> Response {
    let kind = if body.is_string() { "text/plain; charset=utf-8" } else { "application/json" };
    ([(header::CONTENT_TYPE, kind)], text_of(body)).into_response()
}

fn text_of(body: &Value) -> String {
    body.as_str().map_or_else(|| body.to_string(), str::to_owned)
}

fn usual_text(status: StatusCode) -> &'static str {
    match status.as_u16() {
        429 => "The API rate limit has been exceeded. Try again later.",
        403 => "Access to this API is not available for your account",
        404 => "Not found",
        _ => status.canonical_reason().unwrap_or("error"),
    }
}
