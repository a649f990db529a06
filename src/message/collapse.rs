//! Collapse keys: a newer message takes the place of what still waits for the same recipient under the same key, and
//! tells of it. What was tried once is never taken back.

use serde_json::Value;

use crate::{
    db::{Conn, Db, Locking, Millis, with_lock},
    error::Result,
};

/// A message and the deliveries of it that were just added.
#[derive(Debug, Clone, Copy)]
pub(super) struct Added<'a> {
    pub message_id: &'a str,
    pub channel: &'a str,
    pub key: &'a str,
    /// Their numbers, the last one excluded.
    pub seqs: (i64, i64),
}

/// Cancels what the deliveries just added take the place of: waiting, never tried, of an older message.
///
/// Their links are held first: of two messages of one key the second comes after the first one's commit, and sees it.
pub(super) async fn supersede(conn: &mut Conn, db: &Db, now: Millis, added: Added<'_>) -> Result<()> {
    sqlx::query(db.locking(HOLD))
        .bind(added.message_id)
        .bind(added.seqs.0)
        .bind(added.seqs.1)
        .fetch_all(&mut *conn)
        .await?;
    sqlx::query(
        "UPDATE deliveries SET state = 'cancelled', reason = 'superseded', superseded_by = $1, updated_at = $2
         WHERE state = 'waiting' AND attempts = 0
           AND link_id IN (SELECT n.link_id FROM deliveries n WHERE n.message_id = $1 AND n.seq >= $3 AND n.seq < $4)
           AND message_id IN (SELECT m.id FROM messages m WHERE m.channel = $5 AND m.collapse_key = $6 AND m.id < $1)",
    )
    .bind(added.message_id)
    .bind(now)
    .bind(added.seqs.0)
    .bind(added.seqs.1)
    .bind(added.channel)
    .bind(added.key)
    .execute(conn)
    .await?;
    Ok(())
}

/// The data of all that a recipient's delivery took the place of, oldest first.
pub async fn updates(conn: &mut Conn, message_id: &str, link_id: &str) -> Result<Vec<Value>> {
    let found: Vec<String> = sqlx::query_scalar(
        "WITH RECURSIVE former (message_id) AS (
           SELECT d.message_id FROM deliveries d WHERE d.superseded_by = $1 AND d.link_id = $2
           UNION
           SELECT d.message_id FROM former f JOIN deliveries d ON d.superseded_by = f.message_id AND d.link_id = $2)
         SELECT m.data FROM former f JOIN messages m ON m.id = f.message_id WHERE m.data IS NOT NULL ORDER BY m.id",
    )
    .bind(message_id)
    .bind(link_id)
    .fetch_all(conn)
    .await?;
    found.iter().map(|data| Ok(serde_json::from_str(data)?)).collect()
}

const HOLD: Locking = with_lock!(
    "SELECT l.id FROM links l WHERE l.id IN (
       SELECT n.link_id FROM deliveries n WHERE n.message_id = $1 AND n.seq >= $2 AND n.seq < $3)
     ORDER BY l.id",
    "FOR NO KEY UPDATE OF l"
);
