//! What became of telling an endpoint (table `hook_deliveries`), newest first.

use crate::{
    db::{Conn, Millis},
    error::Result,
};

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Line {
    pub event_id: String,
    #[sqlx(rename = "type")]
    pub kind: String,
    /// `waiting`, `delivered`, `failed` or `cancelled`.
    pub state: String,
    pub attempts: i64,
    /// When it is tried next, while it waits.
    pub due_at: Millis,
    /// Of the last answer.
    pub status: Option<i64>,
    pub error: Option<String>,
    pub created_at: Millis,
    pub updated_at: Millis,
}

/// The deliveries to an endpoint whose events are older than `before`; all where that is empty.
pub async fn list(conn: &mut Conn, endpoint_id: &str, before: &str, limit: i64) -> Result<Vec<Line>> {
    // After every id.
    let before = if before.is_empty() { "g" } else { before };
    let lines = sqlx::query_as(LIST).bind(endpoint_id).bind(before).bind(limit).fetch_all(conn).await?;
    Ok(lines)
}

/// By the primary key, from its end.
pub const LIST: &str =
    "SELECT d.event_id, e.type, d.state, d.attempts, d.due_at, d.status, d.error, d.created_at, d.updated_at
     FROM hook_deliveries d JOIN hook_events e ON e.id = d.event_id
     WHERE d.endpoint_id = $1 AND d.event_id < $2
     ORDER BY d.event_id DESC LIMIT $3";

/// How much waits in all, and how many endpoints were disabled by themselves or are failing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct Standing {
    pub waiting: i64,
    pub disabled: i64,
    pub failing: i64,
}

pub async fn standing(conn: &mut Conn) -> Result<Standing> {
    let standing = sqlx::query_as(
        "SELECT CAST((SELECT COUNT(*) FROM hook_deliveries d JOIN hook_endpoints e ON e.id = d.endpoint_id
             WHERE d.state = 'waiting' AND e.disabled_at IS NULL) AS BIGINT) AS waiting,
           CAST((SELECT COUNT(*) FROM hook_endpoints WHERE disabled_why IN ('failing', 'gone')) AS BIGINT) AS disabled,
           CAST((SELECT COUNT(*) FROM hook_endpoints WHERE disabled_at IS NULL AND failing_since IS NOT NULL)
             AS BIGINT) AS failing",
    )
    .fetch_one(conn)
    .await?;
    Ok(standing)
}
