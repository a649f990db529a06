//! The log of calls: one line each, target `line`, at level info: method, path, status, LINE's request id, and how long
//! it took. No query, and no id of a person: paths that hold one show its first letter only.
//!
//! Bodies are logged only where the log is asked for them (`RUST_LOG=info,line::body=trace`), of the Messaging API
//! alone, with the values of all tokens struck out: they hold what is said to people.

use std::time::Instant;

use reqwest::{Method, Request};
use serde_json::Value;

use super::Answer;
use crate::line::{Error, is_chat_id};

/// A longer body is cut in the log.
const LONGEST_BODY: usize = 20_000;

/// A call under way.
pub(super) struct Record {
    method: Method,
    path: String,
    body: Option<String>,
    started: Instant,
}

impl Record {
    pub fn of(request: &Request) -> Self {
        let path = request.url().path();
        let body = request.body().and_then(reqwest::Body::as_bytes).filter(|_| shows_bodies(path));
        Self {
            method: request.method().clone(),
            path: shown_path(path),
            body: body.map(shown_body),
            started: Instant::now(),
        }
    }

    pub fn write(self, result: &Result<Option<Answer>, Error>) {
        let Self { method, path, body, started } = self;
        let ms = started.elapsed().as_millis();
        match result {
            Ok(Some(answer)) => {
                let (status, request_id) = (answer.status, answer.request_id());
                tracing::info!(target: "line", %method, path, status, request_id, ms, "called");
            }
            Ok(None) => tracing::info!(target: "line", %method, path, ms, "called; the answer is too long"),
            Err(error) => tracing::info!(target: "line", %method, path, ms, %error, "called in vain"),
        }
        if shows_bodies(&path) {
            let asked = body.unwrap_or_default();
            let answered = result.iter().flatten().next().map(|answer| shown_body(&answer.body)).unwrap_or_default();
            tracing::trace!(target: "line::body", %method, path, asked, answered, "said");
        }
    }
}

/// OAuth's bodies are secrets through and through.
fn shows_bodies(path: &str) -> bool {
    tracing::enabled!(target: "line::body", tracing::Level::TRACE) && path.contains("/v2/bot/")
}

fn shown_path(path: &str) -> String {
    let shown = path.split('/').map(|part| if is_chat_id(part) { format!("{}*", &part[..1]) } else { part.to_owned() });
    shown.collect::<Vec<_>>().join("/")
}

/// JSON only: anything else is a picture or a sound.
fn shown_body(bytes: &[u8]) -> String {
    let Ok(mut body) = serde_json::from_slice::<Value>(bytes) else {
        return format!("{} bytes", bytes.len());
    };
    strike_out(&mut body);
    body.to_string().chars().take(LONGEST_BODY).collect()
}

fn strike_out(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name.ends_with("Token") { *value = "***".into() } else { strike_out(value) }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(strike_out),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::{shown_body, shown_path};

    #[test]
    fn a_path_names_nobody() {
        let id = format!("U{}", "0a".repeat(16));
        assert_eq!(shown_path(&format!("/v2/bot/user/{id}/richmenu")), "/v2/bot/user/U*/richmenu");
        assert_eq!(shown_path("/v2/bot/message/push"), "/v2/bot/message/push");
    }

    #[test]
    fn a_body_holds_no_token() {
        let body = br#"{"replyToken":"secret","messages":[{"quoteToken":"secret","text":"hi"}]}"#;
        assert_eq!(shown_body(body), r#"{"messages":[{"quoteToken":"***","text":"hi"}],"replyToken":"***"}"#);
        assert_eq!(shown_body(&[0xff, 0xd8]), "2 bytes");
    }
}
