//! `musubi outbox`: what is held back, and what an operator decides.

use std::fmt;

use jiff::Timestamp;

use super::{Held, Size, Verdict, decide as decide_one, list, size};
use crate::{app::App, error::Result};

/// Messages decided in one go.
const AT_ONCE: u32 = 500;

/// The messages that are meant.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Which {
    /// Messages, by the ids of `musubi outbox held`
    #[arg(required_unless_present = "all")]
    pub ids: Vec<String>,
    /// All that are held
    #[arg(long, conflicts_with = "ids")]
    pub all: bool,
}

/// A message that an operator named, of which nothing is held.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("nothing is held of a message {0:?}; `musubi outbox held` lists what is")]
    NotHeld(String),
    #[error(transparent)]
    Failed(#[from] crate::error::Error),
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages, waiting, in_doubt } = self;
        write!(f, "held: {messages} messages; recipients: {waiting} waiting, {in_doubt} in doubt")
    }
}

/// The list as lines for people, with all there is in the last one.
pub async fn held(app: &App, limit: u32) -> Result<Vec<String>> {
    let mut conn = app.db.conn().await?;
    let mut lines: Vec<String> = list(&mut conn, "", limit).await?.iter().map(describe).collect();
    match size(&mut conn).await? {
        size if size == Size::default() => lines.push("nothing is held back".to_owned()),
        size => lines.push(size.to_string()),
    }
    Ok(lines)
}

/// Carries a verdict out, one message after the other, up to one of which nothing is held.
pub async fn decide(app: &App, which: &Which, verdict: Verdict) -> Result<Vec<String>, Refusal> {
    let before = size(&mut *app.db.conn().await?).await?;
    if which.all {
        let mut after = String::new();
        loop {
            let some = list(&mut *app.db.conn().await?, &after, AT_ONCE).await?;
            let Some(last) = some.last() else { break };
            after.clone_from(&last.message_id);
            for one in &some {
                decide_one(app, &one.message_id, verdict).await?;
            }
        }
    }
    for id in &which.ids {
        if !decide_one(app, id, verdict).await? {
            return Err(Refusal::NotHeld(id.clone()));
        }
    }
    let left = size(&mut *app.db.conn().await?).await?;
    let messages = before.messages - left.messages;
    let told = match verdict {
        Verdict::Release => format!("released: {messages} messages; the worker of `musubi serve` goes on with them"),
        Verdict::Cancel => {
            let (waiting, in_doubt) = (before.waiting - left.waiting, before.in_doubt - left.in_doubt);
            format!("given up: {messages} messages; recipients: {waiting} cancelled, {in_doubt} unknown")
        }
    };
    Ok(vec![told, left.to_string()])
}

fn describe(held: &Held) -> String {
    let Held { message_id, channel, lane, cause, template, waiting, in_doubt, .. } = held;
    let at = Timestamp::from_millisecond(held.created_at.0).unwrap_or_default();
    let what = if template.is_empty() { cause } else { template };
    let more = if held.stopped_at.is_some() { ", and those not added yet" } else { "" };
    format!("{message_id}  {at:.0}  {channel}  {lane}  {what}  {waiting} waiting, {in_doubt} in doubt{more}")
}
