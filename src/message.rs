//! Messages, their deliveries, and the requests that carry them to LINE (tables `messages`, `message_exclusions`,
//! `deliveries`, `requests`, `send_pauses`, `topic_opt_outs`, `quotas`).
//!
//! - A message commits with the thing that caused it, rendered: what cannot be rendered is an error there.
//! - At every moment a message's accepted recipients are the sum of its deliveries over all states.
//! - A request is written before its first try, with its retry key and its frozen body, and keeps both while its
//!   outcome is open. So LINE's own memory of the key makes each recipient see a push at most once.
//! - LINE forgets a key after 24 hours: half an hour before that an open outcome becomes `unknown` and is never
//!   sent again by itself.
//!
//! - `order` → [`accept()`] → `listed`, `audience`, [`expand()`]: what somebody asks for becomes deliveries, to one, to
//!   some or to many;
//!   [`preview`] only looks, [`cancel_message`] takes back; [`command`] does it from the command line
//! - `addressee`, `content`, [`template`]: who gets what; `recipient`: the same at the sending; `collapse`: what takes
//!   the place of what; [`topic`]: who wants none
//! - `claim` → `sender` → `settle`: deliveries become requests, requests are tried, results are written down; [`quota`]:
//!   how many may be
//! - [`hold`]: what waits in a database that was put back from a backup is not sent by itself
//! - [`look`]: messages and deliveries as they stand, for whoever asks
//! - [`prune`]: what goes when, of what is over

mod accept;
mod addressee;
mod after;
pub mod answer;
pub mod audience;
mod cancel;
pub mod claim;
mod collapse;
pub mod command;
mod content;
pub mod expand;
pub mod hold;
mod listed;
pub mod look;
mod order;
mod preview;
pub mod prune;
pub mod quota;
mod recipient;
mod sender;
mod settle;
pub mod template;
pub mod topic;

use serde_json::Value;

pub use self::{
    accept::{Accepted, LeftOut, accept},
    addressee::Person,
    cancel::cancel_message,
    collapse::updates,
    expand::expand,
    order::{Audience, Lane, Mistake, Order, Refusal, What},
    preview::{Preview, preview},
    sender::deliver,
};
use crate::{
    app::App,
    db::{Conn, Millis, new_id},
    error::{Error, Result},
    hook_event,
};

/// A message to one linked person.
#[derive(Debug)]
pub struct New<'a> {
    /// Name of the Messaging API channel that sends it.
    pub channel: &'a str,
    pub template: &'a str,
    /// Of the page it comes from; the recipient's own choice and what LINE says count first.
    pub locale: &'a str,
    pub data: &'a Value,
    /// What asked for it, a machine word such as `linked`.
    pub cause: &'a str,
    /// What it is about, where a member may opt out of that.
    pub topic: Option<&'a str>,
    pub to: To<'a>,
}

/// The recipient: a LINE user, for the member that a link ties them to.
#[derive(Debug, Clone, Copy)]
pub struct To<'a> {
    pub line_user_id: &'a str,
    /// None where a person who wrote is answered, linked or not.
    pub link: Option<Tie<'a>>,
}

/// By whose authority a member is sent something.
#[derive(Debug, Clone, Copy)]
pub struct Tie<'a> {
    pub member_id: &'a str,
    pub link_id: &'a str,
}

/// How many recipients of a message are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub accepted: i64,
    pub waiting: i64,
    pub sending: i64,
    pub sent: i64,
    pub failed: i64,
    pub unknown: i64,
    pub cancelled: i64,
}

impl Counts {
    /// Whether every accepted recipient is in exactly one state.
    pub fn add_up(&self) -> bool {
        self.accepted == self.waiting + self.sending + self.sent + self.failed + self.unknown + self.cancelled
    }
}

/// Accepts a message in the caller's transaction and returns its id. Wake the worker after the commit. One that LINE would
/// not take has failed already: what caused it stands all the same.
pub async fn send(conn: &mut Conn, app: &App, new: New<'_>) -> Result<String> {
    let now = app.now();
    let person = addressee::of_line_user(conn, new.to.line_user_id, Some(new.locale)).await?;
    let content = template::render_for(app, new.template, &person, new.data).map_err(Error::internal)?;
    let id = new_id(now);
    insert_message(conn, now, &id, &New { locale: person.locale(app), ..new }).await?;
    insert_delivery(conn, now, &id, new.channel, new.to, &content).await?;
    if let Some(why) = content::refused(&content) {
        tracing::warn!(message = id, template = new.template, "LINE would not take this message: see its note");
        fail(conn, now, &id, &why).await?;
        hook_event::delivery::not_rendered(conn, app, new.channel, &[(id.clone(), 0)]).await?;
    }
    Ok(id)
}

/// Accepts content that is rendered already, to a person who wrote.
async fn push_answer(conn: &mut Conn, now: Millis, new: answer::New<'_>, content: &str) -> Result<String> {
    let id = new_id(now);
    let to = To { line_user_id: new.line_user_id, link: None };
    let head =
        New { channel: new.channel, template: "", locale: "", data: &Value::Null, cause: new.cause, topic: None, to };
    insert_message(conn, now, &id, &head).await?;
    insert_delivery(conn, now, &id, new.channel, to, content).await?;
    Ok(id)
}

/// Cancels what still waits to be sent for a link that ends; returns how many deliveries that were. One that is
/// on its way at this moment cannot be called back, and is marked.
pub async fn cancel_waiting(conn: &mut Conn, now: Millis, link_id: &str) -> Result<u64> {
    let cancelled = cancel_for(conn, now, link_id, "unlinked").await?;
    // After the cancel: what a sender took in between is on its way, and is marked.
    sqlx::query("UPDATE deliveries SET reason = 'in_flight_at_unlink' WHERE link_id = $1 AND state = 'sending'")
        .bind(link_id)
        .execute(conn)
        .await?;
    Ok(cancelled)
}

/// Cancels what waits to be sent by a link's authority, for this reason.
pub async fn cancel_for(conn: &mut Conn, now: Millis, link_id: &str, reason: &str) -> Result<u64> {
    let cancelled = sqlx::query(
        "UPDATE deliveries SET state = 'cancelled', reason = $1, updated_at = $2
         WHERE link_id = $3 AND state = 'waiting'",
    )
    .bind(reason)
    .bind(now)
    .bind(link_id)
    .execute(conn)
    .await?;
    Ok(cancelled.rows_affected())
}

/// Counts a message's recipients by state, in one statement so that they belong together.
pub async fn counts(conn: &mut Conn, message_id: &str) -> Result<Option<Counts>> {
    let rows: Vec<(i64, Option<String>, i64)> = sqlx::query_as(
        "SELECT m.accepted, d.state, CAST(COUNT(*) AS BIGINT)
         FROM messages m LEFT JOIN deliveries d ON d.message_id = m.id
         WHERE m.id = $1 GROUP BY m.accepted, d.state",
    )
    .bind(message_id)
    .fetch_all(conn)
    .await?;
    let Some((accepted, ..)) = rows.first() else { return Ok(None) };
    let mut counts = Counts { accepted: *accepted, ..Counts::default() };
    for (_, state, count) in &rows {
        match state.as_deref() {
            Some("waiting") => counts.waiting = *count,
            Some("sending") => counts.sending = *count,
            Some("sent") => counts.sent = *count,
            Some("failed") => counts.failed = *count,
            Some("unknown") => counts.unknown = *count,
            Some("cancelled") => counts.cancelled = *count,
            Some(_) | None => {}
        }
    }
    Ok(Some(counts))
}

async fn insert_message(conn: &mut Conn, now: Millis, id: &str, new: &New<'_>) -> Result<()> {
    sqlx::query(
        "INSERT INTO messages (id, channel, lane, cause, topic, template, locale, accepted, expanded_at, created_at)
         VALUES ($1, $2, 'transactional', $3, $4, $5, $6, 1, $7, $7)",
    )
    .bind(id)
    .bind(new.channel)
    .bind(new.cause)
    .bind(new.topic)
    .bind(new.template)
    .bind(new.locale)
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends a message's deliveries before anything is sent.
async fn fail(conn: &mut Conn, now: Millis, message_id: &str, why: &str) -> Result<()> {
    sqlx::query(
        "UPDATE deliveries SET state = 'failed', reason = 'not_rendered', note = $1, updated_at = $2
         WHERE message_id = $3 AND state = 'waiting'",
    )
    .bind(why)
    .bind(now)
    .bind(message_id)
    .execute(conn)
    .await?;
    Ok(())
}

async fn insert_delivery(
    conn: &mut Conn,
    now: Millis,
    message_id: &str,
    channel: &str,
    to: To<'_>,
    content: &str,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO deliveries (message_id, seq, channel, lane, member_id, line_user_id, link_id, content, state,
           attempts, order_at, due_at, created_at, updated_at)
         VALUES ($1, 0, $2, 'transactional', $3, $4, $5, $6, 'waiting', 0, $7, $7, $7, $7)",
    )
    .bind(message_id)
    .bind(channel)
    .bind(to.link.map(|link| link.member_id))
    .bind(to.line_user_id)
    .bind(to.link.map(|link| link.link_id))
    .bind(content)
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}
