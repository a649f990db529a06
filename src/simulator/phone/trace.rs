//! The trace: what the application asked of LINE, and what LINE told it by webhook.

use askama::Template;
use axum::{extract::State, response::Response};
use serde_json::Value;

use super::page;
use crate::simulator::{Simulator, ledger::Call, webhook::Sent};

const SHOWN: usize = 500;

struct Row {
    /// Seconds of the day, UTC, as 12:34:56.789.
    at: String,
    method: String,
    path: String,
    status: u16,
    handled: bool,
    user_id: String,
    detail: String,
}

struct Hook {
    at: String,
    url: String,
    /// The types of the events.
    events: String,
    answer: String,
    took: String,
    again: bool,
    detail: String,
}

#[derive(Template)]
#[template(path = "simulator/trace.html")]
struct TracePage {
    hooks: Vec<Hook>,
    rows: Vec<Row>,
}

/// The newest first.
pub(super) async fn trace(State(sim): State<Simulator>) -> Response {
    let state = sim.state();
    page(&TracePage {
        hooks: state.webhooks.iter().rev().take(SHOWN).map(hook).collect(),
        rows: state.ledger.newest(SHOWN).map(row).collect(),
    })
}

fn row(call: &Call) -> Row {
    let parts: Vec<Value> = call.query().into_iter().chain(call.body()).collect();
    Row {
        at: clock_text(call.at),
        method: call.method.to_string(),
        path: call.path.clone(),
        status: call.status,
        handled: call.handled,
        user_id: call.user_id.clone().unwrap_or_default(),
        detail: parts.iter().map(|part| format!("{part:#}")).collect::<Vec<_>>().join("\n"),
    }
}

fn hook(sent: &Sent) -> Hook {
    let body: Option<Value> = serde_json::from_str(&sent.body).ok();
    let events = body.as_ref().and_then(|body| body.get("events")?.as_array()).map_or(&[][..], Vec::as_slice);
    let kinds: Vec<&str> = events.iter().filter_map(|event| event.get("type")?.as_str()).collect();
    let shown = body.as_ref().map_or_else(|| sent.body.clone(), |body| format!("{body:#}"));
    Hook {
        at: clock_text(sent.at),
        url: sent.url.clone(),
        events: if kinds.is_empty() { "no events".to_owned() } else { kinds.join(", ") },
        answer: sent.status.map_or_else(|| sent.error.unwrap_or_default().to_owned(), |status| status.to_string()),
        took: format!("{} ms", sent.took_ms),
        again: sent.is_redelivery,
        detail: format!("x-line-signature: {}\n{shown}", sent.signature.as_deref().unwrap_or("none")),
    }
}

fn clock_text(at: i64) -> String {
    let (seconds, millis) = (at.div_euclid(1000).rem_euclid(86_400), at.rem_euclid(1000));
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{millis:03}", seconds % 60)
}
