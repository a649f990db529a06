//! Answers (table `answers`): what is said to a person who wrote, by the reply token while it lives (free of charge),
//! else by a push.
//!
//! - A reply has no retry key. LINE takes a token once, so one repeat with the same token is safe while it lives; an
//!   outcome that stays open is `unknown`, and is never followed by a push.
//! - A definite refusal, or a token past its time, is followed by a push through the outbox.

use crate::{
    app::App,
    db::{Conn, Millis},
    error::{Error, Result},
    queue::Outcome,
};

/// LINE's permission to answer an event once, without cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub token: String,
    /// Our time after which it is not tried: LINE takes it for about a minute.
    pub until: Millis,
}

/// An answer to be.
#[derive(Debug, Clone, Copy)]
pub struct New<'a> {
    pub channel: &'a str,
    pub line_user_id: &'a str,
    /// A machine word.
    pub cause: &'a str,
    pub reply: Option<&'a Reply>,
}

/// Queues an answer in the caller's transaction, with its content (a JSON list of LINE message objects) where that is
/// known already. Gives its id; none where this person was answered too often lately.
pub async fn queue(_conn: &mut Conn, _app: &App, _new: New<'_>, _content: Option<&str>) -> Result<Option<String>> {
    Err(Error::internal("not built yet"))
}

/// Gives an answer the content it waited for, and has it sent.
pub async fn fill(_conn: &mut Conn, _app: &App, _id: &str, _content: &str) -> Result<()> {
    Err(Error::internal("not built yet"))
}

/// [`Job::Answer`](crate::queue::Job::Answer)
pub async fn send(_app: &App, _id: &str) -> Result<Outcome> {
    Err(Error::internal("not built yet"))
}
