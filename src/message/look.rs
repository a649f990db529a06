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
