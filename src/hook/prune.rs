//! What the company's systems were told goes when it is past its time, whether it arrived or not.

use std::time::Duration;

use crate::{
    db::{Conn, Millis, id_before},
    error::Result,
};

/// Deletes events older than `kept` with their deliveries, and deleted endpoints with theirs, some at a time.
pub async fn run(conn: &mut Conn, now: Millis, kept: Duration) -> Result<u64> {
    let before = id_before(now.minus(kept));
    let mut deleted = 0;
    // Deliveries first: without its event one could not be told.
    for statement in [OLD_DELIVERIES, OLD_EVENTS] {
        deleted += sqlx::query(statement).bind(&before).execute(&mut *conn).await?.rows_affected();
    }
    deleted += delete_endpoints(conn).await?;
    Ok(deleted)
}

async fn delete_endpoints(conn: &mut Conn) -> Result<u64> {
    let ids: Vec<String> =
        sqlx::query_scalar("SELECT id FROM hook_endpoints WHERE deleted_at IS NOT NULL").fetch_all(&mut *conn).await?;
    let mut deleted = 0;
    for id in &ids {
        let log = "DELETE FROM hook_deliveries WHERE endpoint_id = $1 AND event_id IN
             (SELECT event_id FROM hook_deliveries WHERE endpoint_id = $1 LIMIT 500)";
        let lines = sqlx::query(log).bind(id).execute(&mut *conn).await?.rows_affected();
        if lines == 0 {
            sqlx::query("DELETE FROM hook_endpoints WHERE id = $1").bind(id).execute(&mut *conn).await?;
        }
        deleted += lines.max(1);
    }
    Ok(deleted)
}

pub const OLD_DELIVERIES: &str = "DELETE FROM hook_deliveries WHERE event_id IN
     (SELECT id FROM hook_events WHERE id < $1 ORDER BY id LIMIT 500)";
pub const OLD_EVENTS: &str = "DELETE FROM hook_events WHERE id IN
     (SELECT id FROM hook_events WHERE id < $1 ORDER BY id LIMIT 500)";
