//! Hooks: what happens here is told to the company's systems, by Standard Webhooks (tables `hook_endpoints`,
//! `hook_subscriptions`; the events and their deliveries are written by [`hook_event`](crate::hook_event)).
//!
//! - An event is told at least once, under an id that stays the same, so that whoever hears it can tell it from others.
//!   In which order is not promised.
//! - A delivery is claimed by the database's clock before it is tried, and its end is written under that claim: where a
//!   node dies in between, another one tells it again.
//! - Each endpoint has its own turn, so that a slow one holds up nobody else; one that is not well rests, and one that
//!   took nothing for days is disabled.
//!
//! - [`endpoint`]: who is told what; [`secret`]: what proves it; [`log`]: what became of it; [`replay`]: once more
//! - `claim` → `turn` → `after` → `settle`: what is due is tried, and its end is written down; [`run()`] gives the turns
//! - [`finish`] finds messages that are over; [`prune`] deletes what is past its time

mod after;
mod claim;
pub mod endpoint;
pub mod finish;
pub mod log;
pub mod prune;
pub mod replay;
mod run;
pub mod secret;
mod settle;
mod turn;

pub use self::{
    claim::DUE,
    run::{due, run},
};
use crate::error::Error;

/// Why nothing was done.
#[derive(Debug)]
pub enum Refusal {
    /// What is wrong, and where in what was asked for.
    Mistakes(Vec<Mistake>),
    /// There are as many endpoints as there may be.
    TooMany,
    Other(Error),
}

/// Something wrong in what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where, as `types[1]`.
    pub path: String,
    pub what: String,
}

impl Mistake {
    fn new(path: impl Into<String>, what: impl Into<String>) -> Self {
        Self { path: path.into(), what: what.into() }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        Self::Other(error.into())
    }
}
