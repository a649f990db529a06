//! A message that is taken back: no more recipients are added, what waits is cancelled, what is on its way goes on.

use crate::{
    app::App,
    audit,
    db::{Conn, Millis},
    error::Result,
};

/// Cancelled in one transaction.
const AT_ONCE: i64 = 5_000;

/// Cancels what waits of a message; false where there is no such message. Killed half-way, a worker goes on.
pub async fn cancel_message(app: &App, id: &str) -> Result<bool> {
    let now = app.now();
    let mut tx = app.db.begin().await?;
    if set_cancelled(&mut tx, now, id).await? {
        audit::insert(
            &mut tx,
            now,
            audit::Entry { action: "message_cancelled", subject: Some(id), ..Default::default() },
        )
        .await?;
    }
    let accepted: Option<i64> =
        sqlx::query_scalar("SELECT accepted FROM messages WHERE id = $1").bind(id).fetch_optional(&mut *tx).await?;
    tx.commit().await?;
    let Some(accepted) = accepted else { return Ok(false) };
    finish(app, id, accepted).await?;
    Ok(true)
}

/// Cancels what waits of a cancelled message, which has no more than `accepted` deliveries.
pub(super) async fn finish(app: &App, id: &str, accepted: i64) -> Result<()> {
    let mut from = 0;
    while from < accepted {
        let mut conn = app.db.conn().await?;
        sqlx::query(
            "UPDATE deliveries SET state = 'cancelled', reason = 'cancelled', updated_at = $1
             WHERE message_id = $2 AND seq >= $3 AND seq < $4 AND state = 'waiting'",
        )
        .bind(app.now())
        .bind(id)
        .bind(from)
        .bind(from + AT_ONCE)
        .execute(&mut *conn)
        .await?;
        from += AT_ONCE;
    }
    let mut conn = app.db.conn().await?;
    sqlx::query(
        "UPDATE messages SET expanded_at = $1 WHERE id = $2 AND cancelled_at IS NOT NULL AND expanded_at IS NULL",
    )
    .bind(app.now())
    .bind(id)
    .execute(&mut *conn)
    .await?;
    Ok(())
}

/// Open again until nothing waits any more; the expansion that holds the row ends first.
async fn set_cancelled(conn: &mut Conn, now: Millis, id: &str) -> Result<bool> {
    let set =
        sqlx::query("UPDATE messages SET cancelled_at = $1, expanded_at = NULL WHERE id = $2 AND cancelled_at IS NULL")
            .bind(now)
            .bind(id)
            .execute(conn)
            .await?;
    Ok(set.rows_affected() == 1)
}
