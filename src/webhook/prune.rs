//! What of the events and their bodies is past its time goes. Both ids are in the order of time, so that the oldest are
//! found without an index of their own.

use std::time::Duration;

use crate::{
    db::{Conn, Millis, id_before},
    error::Result,
};

/// Deletes events past `events` and bodies past `bodies`, some at a time; what waits or is parked stays, with its body.
/// The ids outlive the replay window: what is older is not acted on anyway.
pub async fn run(conn: &mut Conn, now: Millis, events: Duration, bodies: Duration) -> Result<u64> {
    let before = now.minus(events);
    // LINE's ids, and those of ours.
    let mut deleted = prune_events(conn, before, "", &ulid_before(before)).await?;
    deleted += prune_events(conn, before, "~", &format!("~{}", id_before(before))).await?;
    deleted += prune_bodies(conn, now.minus(bodies)).await?;
    let copies = "DELETE FROM event_copies
                  WHERE NOT EXISTS (SELECT 1 FROM webhook_bodies b WHERE b.id = event_copies.body_id)";
    deleted += sqlx::query(copies).execute(&mut *conn).await?.rows_affected();
    let day_ago = now.minus(Duration::from_secs(24 * 3600));
    let holds = sqlx::query("DELETE FROM event_holds WHERE held_until < $1").bind(day_ago).execute(conn).await?;
    Ok(deleted + holds.rows_affected())
}

async fn prune_events(conn: &mut Conn, before: Millis, first: &str, last: &str) -> Result<u64> {
    let deleted = sqlx::query(
        "DELETE FROM events WHERE (id, channel) IN (SELECT id, channel FROM events
           WHERE id >= $1 AND id < $2 AND received_at < $3 AND state IN ('done', 'ignored') ORDER BY id LIMIT 500)",
    )
    .bind(first)
    .bind(last)
    .bind(before)
    .execute(conn)
    .await?;
    Ok(deleted.rows_affected())
}

async fn prune_bodies(conn: &mut Conn, before: Millis) -> Result<u64> {
    let deleted = sqlx::query(
        "DELETE FROM webhook_bodies WHERE id IN (SELECT id FROM webhook_bodies
           WHERE id < $1 AND id NOT IN (
             SELECT body_id FROM events WHERE state = 'waiting' AND received_at < $2
             UNION SELECT body_id FROM events WHERE state = 'parked' AND body_id < $1)
           ORDER BY id LIMIT 500)",
    )
    .bind(id_before(before))
    .bind(before)
    .execute(conn)
    .await?;
    Ok(deleted.rows_affected())
}

/// What every `webhookEventId` of before a time is smaller than: LINE's are ULIDs, whose first ten characters are the
/// time in Crockford's Base32.
fn ulid_before(time: Millis) -> String {
    const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let letter = |place: u32| LETTERS.get(usize::try_from((time.0.max(0) >> (5 * place)) & 31).unwrap_or(0)).copied();
    (0..10).rev().filter_map(letter).map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_before_a_time_are_smaller() {
        // As computed by another program.
        assert_eq!(ulid_before(Millis(1_646_291_118_525)), "01FX79HTDX");
        assert_eq!(ulid_before(Millis(0)), "0000000000");
        let id = crate::db::new_id(Millis(1_000_000));
        assert!(id >= id_before(Millis(1_000_000)) && id < id_before(Millis(1_000_001)), "{id}");
    }
}
