//! Events as they stand, for whoever asks (`api`): not what is in them. Newest first.

use crate::{
    db::{Conn, Millis},
    error::Result,
};

/// An event's row.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Event {
    pub id: String,
    pub channel: String,
    pub kind: String,
    pub state: String,
    pub attempts: i64,
    pub at: Millis,
    pub received_at: Millis,
    pub handled_at: Option<Millis>,
}

/// Id and channel: the place of an event among all. They are listed downwards.
pub type Place = (String, String);

/// The statement of [`list`], for a test that reads its plan.
pub const LIST: &str = "SELECT id, channel, kind, state, attempts, at, received_at, handled_at FROM events
    WHERE (id, channel) < ($1, $2) AND channel = $3 ORDER BY id DESC LIMIT $4";

/// The newest events of a channel, or those after a place.
pub async fn list(conn: &mut Conn, channel: &str, before: Option<&Place>, most: i64) -> Result<Vec<Event>> {
    // Greater than every id.
    let (id, other) = before.map_or(("z", ""), |(id, other)| (id.as_str(), other.as_str()));
    Ok(sqlx::query_as(LIST).bind(id).bind(other).bind(channel).bind(most).fetch_all(conn).await?)
}
