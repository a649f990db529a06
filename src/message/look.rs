//! Messages and their deliveries as they stand, for whoever asks (`api`). Newest first.

use std::collections::BTreeMap;

use crate::{
    db::{Conn, Millis},
    error::Result,
};

/// A message's row, without what it says.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Head {
    pub id: String,
    pub channel: String,
    pub lane: String,
    pub cause: String,
    pub topic: Option<String>,
    /// Empty where it was given as message objects.
    pub template: String,
    /// So far.
    pub accepted: i64,
    pub collapse_key: Option<String>,
    pub send_at: Option<Millis>,
    pub created_at: Millis,
    /// None while recipients are added, or what waits is cancelled.
    pub expanded_at: Option<Millis>,
    pub cancelled_at: Option<Millis>,
}

pub async fn find(conn: &mut Conn, id: &str) -> Result<Option<Head>> {
    let found = sqlx::query_as(
        "SELECT id, channel, lane, cause, topic, template, accepted, collapse_key, send_at, created_at, expanded_at,
           cancelled_at
         FROM messages WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(conn)
    .await?;
    Ok(found)
}

/// The statement of [`list`], for a test that reads its plan.
pub const LIST: &str = "SELECT id, channel, lane, cause, topic, template, accepted, collapse_key, send_at, created_at,
    expanded_at, cancelled_at
  FROM messages WHERE channel = $1 AND id < $2 ORDER BY id DESC LIMIT $3";

/// Messages of a channel that are older than one, or the newest.
pub async fn list(conn: &mut Conn, channel: &str, before: Option<&str>, most: i64) -> Result<Vec<Head>> {
    // Greater than every id.
    let before = before.unwrap_or("z");
    Ok(sqlx::query_as(LIST).bind(channel).bind(before).bind(most).fetch_all(conn).await?)
}

/// How many were left out of a message when it was accepted, by reason.
pub async fn count_left_out(conn: &mut Conn, id: &str) -> Result<BTreeMap<String, i64>> {
    let found: Vec<(String, i64)> =
        sqlx::query_as("SELECT reason, recipients FROM message_exclusions WHERE message_id = $1")
            .bind(id)
            .fetch_all(conn)
            .await?;
    Ok(found.into_iter().collect())
}

/// A delivery: what became of a message for one recipient. LINE's user id is not in it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Delivery {
    pub message_id: String,
    pub seq: i64,
    pub channel: String,
    pub lane: String,
    /// By the company's id, else by ours; none where somebody who wrote was answered.
    pub member: Option<String>,
    pub state: String,
    pub reason: Option<String>,
    pub note: Option<String>,
    pub attempts: i64,
    pub due_at: Millis,
    pub created_at: Millis,
    pub updated_at: Millis,
}

/// Which deliveries.
#[derive(Debug, Clone, Copy)]
pub enum Of<'a> {
    /// Of a message, in a state where one is named.
    Message {
        id: &'a str,
        state: Option<&'a str>,
    },
    /// To a member, by our id, in one channel.
    Member {
        id: &'a str,
        channel: &'a str,
        message_id: Option<&'a str>,
        state: Option<&'a str>,
    },
    /// Of a channel: failed, unknown or cancelled.
    Bad {
        channel: &'a str,
        state: &'a str,
    },
    All,
}

/// The place of a delivery among all: they are listed downwards.
pub type Place = (String, i64);

macro_rules! deliveries {
    ($where:literal) => {
        concat!(
            "SELECT d.message_id, d.seq, d.channel, d.lane, COALESCE(m.external_id, m.id) AS member, d.state, d.reason,
               d.note, d.attempts, d.due_at, d.created_at, d.updated_at
             FROM deliveries d LEFT JOIN members m ON m.id = d.member_id WHERE ",
            $where
        )
    };
}

/// The statements of [`list_deliveries`], for a test that reads their plans: `$1` and `$2` the place before which they
/// stand, `$3` how many.
pub const OF_MESSAGE: &str = deliveries!("d.message_id = $1 AND d.seq < $2 ORDER BY d.seq DESC LIMIT $3");
pub const OF_MESSAGE_IN_STATE: &str =
    deliveries!("d.message_id = $1 AND d.seq < $2 AND d.state = $4 ORDER BY d.seq DESC LIMIT $3");
pub const OF_MEMBER: &str = deliveries!(
    "d.link_id IN (SELECT l.id FROM links l WHERE l.member_id = $4) AND (d.message_id, d.seq) < ($1, $2)
       AND d.channel = $5 AND ($6 = '' OR d.state = $6) AND ($7 = '' OR d.message_id = $7)
     ORDER BY d.message_id DESC, d.seq DESC LIMIT $3"
);
pub const BAD: &str = deliveries!(
    "d.channel = $4 AND d.state = $5 AND d.state IN ('failed', 'unknown', 'cancelled')
       AND (d.message_id, d.seq) < ($1, $2)
     ORDER BY d.message_id DESC, d.seq DESC LIMIT $3"
);
pub const ALL: &str = deliveries!("(d.message_id, d.seq) < ($1, $2) ORDER BY d.message_id DESC, d.seq DESC LIMIT $3");

/// The newest deliveries, or those after a place.
pub async fn list_deliveries(conn: &mut Conn, of: Of<'_>, before: Option<&Place>, most: i64) -> Result<Vec<Delivery>> {
    // Greater than every id.
    let (message_id, seq) = before.map_or(("z", i64::MAX), |(message_id, seq)| (message_id.as_str(), *seq));
    let query = match of {
        Of::Message { id, state } => {
            let statement = if state.is_some() { OF_MESSAGE_IN_STATE } else { OF_MESSAGE };
            let query = sqlx::query_as(statement).bind(id).bind(seq).bind(most);
            if state.is_some() { query.bind(state) } else { query }
        }
        Of::Member { id, channel, message_id: of, state } => {
            let query = sqlx::query_as(OF_MEMBER).bind(message_id).bind(seq).bind(most).bind(id).bind(channel);
            query.bind(state.unwrap_or_default()).bind(of.unwrap_or_default())
        }
        Of::Bad { channel, state } => {
            sqlx::query_as(BAD).bind(message_id).bind(seq).bind(most).bind(channel).bind(state)
        }
        Of::All => sqlx::query_as(ALL).bind(message_id).bind(seq).bind(most),
    };
    Ok(query.fetch_all(conn).await?)
}

/// Our id of a member, by the company's or ours.
pub async fn find_member(conn: &mut Conn, id: &str) -> Result<Option<String>> {
    super::addressee::find_member(conn, id).await
}
