//! The company's HTTP API (tables `api_keys`, `api_requests`): its systems call the verbs of the other rooms, and find
//! here what all calls share.
//!
//! - [`key`] and [`command`]: who may call, and how keys are made; [`door`]: a request is let in by its key, with what
//!   the key may do, how often, and for which providers ([`caller`])
//! - [`json`] and [`list`]: what is sent is read strictly; [`problem`]: how a refusal looks
//! - [`idempotency`]: the same request again has the same answer, and no second effect
//! - [`openapi`] and [`docs`]: the documentation, of which the first is the source of the second; `schema`: what Rust's types do not say
//! - [`member`], [`rich_menu`], [`link`], [`ticket`], [`message`], [`delivery`], [`quota`], [`event`], [`hook`]: the endpoints,
//!   a file for each thing
//!
//! An endpoint is a file with what it takes, what it gives, and a handler; a line in `routes`, with its scope; and a line
//! in [`openapi`]. Tests hold the latter two against each other. No SQL stands in an endpoint, and none calls LINE.

pub mod caller;
pub mod command;
pub mod delivery;
pub mod docs;
pub mod door;
pub mod event;
pub mod hook;
pub mod idempotency;
pub mod json;
pub mod key;
pub mod link;
pub mod list;
pub mod member;
pub mod message;
pub mod openapi;
pub mod path;
pub mod problem;
pub mod quota;
pub mod rich_menu;
mod schema;
pub mod ticket;

use crate::db::Millis;

/// A time as the API writes it: RFC 3339 in UTC, to the millisecond.
pub fn time(at: Millis) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(|_| at.0.to_string(), |time| format!("{time:.3}"))
}

/// A time as the API takes it: RFC 3339 with an offset.
pub fn read_time(text: &str) -> Result<Millis, &'static str> {
    let read = text.parse::<jiff::Timestamp>().map_err(|_| "is no time such as 2026-12-24T18:00:00+09:00")?;
    Ok(Millis(read.as_millisecond()))
}
