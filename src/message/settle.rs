//! The end of a try, written down: only by the try that was claimed last, and the request together with its
//! deliveries.

use crate::{
    app::App,
    db::{Conn, Millis},
    error::Result,
    line::{Error, messaging::Accepted},
};

use super::{
    after::After,
    claim::{DEADLINE, Try},
};

/// Requests given up in one round.
const AT_ONCE: i64 = 100;

/// How a closed request's deliveries go on.
struct Deliveries<'a> {
    state: &'a str,
    reason: Option<&'a str>,
    note: Option<&'a str>,
    due_at: Millis,
}

/// Records what became of a try. Does nothing where the request was claimed again meanwhile.
pub(super) async fn settle(
    app: &App,
    now: Millis,
    tried: &Try,
    after: After,
    result: &Result<Accepted, Error>,
) -> Result<()> {
    let words = result.as_ref().err().map(ToString::to_string);
    let note = words.as_deref();
    let (request, delivery, reason, due_at) = match after {
        After::Repeat(wait) => return repeat(app, tried, now.plus(wait), note).await,
        After::Sent => ("sent", "sent", None, now),
        After::Thaw(wait) => ("refused", "waiting", None, now.plus(wait)),
        After::Failed => ("failed", "failed", Some("refused_by_line"), now),
        After::Unknown => ("unknown", "unknown", Some("refused_in_doubt"), now),
    };
    let mut tx = app.db.begin().await?;
    if close(&mut tx, now, tried, request, result.as_ref().ok(), note).await? {
        let deliveries = Deliveries { state: delivery, reason, note, due_at };
        move_deliveries(&mut tx, now, &tried.request_id, &deliveries).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Gives up requests whose outcome is still open when LINE is about to forget their keys.
pub(super) async fn give_up(app: &App, channel: &str, now: Millis) -> Result<()> {
    let mut conn = app.db.conn().await?;
    let late: Vec<(String, i64, Option<String>)> = sqlx::query_as(
        "SELECT id, attempts, note FROM requests
         WHERE channel = $1 AND state = 'open' AND next_attempt_at <= $2 AND first_attempt_at <= $3
         ORDER BY id LIMIT $4",
    )
    .bind(channel)
    .bind(now)
    .bind(now.minus(DEADLINE))
    .bind(AT_ONCE)
    .fetch_all(&mut *conn)
    .await?;
    drop(conn);
    for (request_id, attempts, note) in &late {
        // One transaction each: an unlink may hold several of these deliveries in another order.
        let mut tx = app.db.begin().await?;
        if close_unknown(&mut tx, now, request_id, *attempts).await? {
            let end = Deliveries { state: "unknown", reason: Some("no_answer"), note: note.as_deref(), due_at: now };
            move_deliveries(&mut tx, now, request_id, &end).await?;
            tracing::error!(channel, request_id, "LINE gave no answer for a day: whether it was sent is unknown");
        }
        tx.commit().await?;
    }
    Ok(())
}

/// Keeps the request open, to be tried again no later than it is given up.
async fn repeat(app: &App, tried: &Try, next: Millis, note: Option<&str>) -> Result<()> {
    let mut conn = app.db.conn().await?;
    sqlx::query(
        "UPDATE requests SET next_attempt_at = $1, note = $2 WHERE id = $3 AND attempts = $4 AND state = 'open'",
    )
    .bind(next.min(tried.first_attempt_at.plus(DEADLINE)))
    .bind(note)
    .bind(&tried.request_id)
    .bind(tried.attempt)
    .execute(&mut *conn)
    .await?;
    Ok(())
}

/// Closes the request; false where this try is not its last claim. A refused one is forgotten by its deliveries,
/// and keeps nothing of what they say.
async fn close(
    conn: &mut Conn,
    now: Millis,
    tried: &Try,
    state: &str,
    accepted: Option<&Accepted>,
    note: Option<&str>,
) -> Result<bool> {
    let ids = accepted.map(|accepted| serde_json::to_string(&accepted.sent_message_ids)).transpose()?;
    let closed = sqlx::query(
        "UPDATE requests SET state = $1, closed_at = $2, line_request_id = $3, accepted_request_id = $4,
           sent_message_ids = $5, note = COALESCE($6, note), body = CASE WHEN $1 = 'refused' THEN '' ELSE body END
         WHERE id = $7 AND attempts = $8 AND state = 'open'",
    )
    .bind(state)
    .bind(now)
    .bind(accepted.map(|accepted| accepted.request_id.as_str()))
    .bind(accepted.and_then(|accepted| accepted.accepted_request_id.as_deref()))
    .bind(ids)
    .bind(note)
    .bind(&tried.request_id)
    .bind(tried.attempt)
    .execute(conn)
    .await?;
    Ok(closed.rows_affected() == 1)
}

async fn close_unknown(conn: &mut Conn, now: Millis, request_id: &str, attempts: i64) -> Result<bool> {
    let closed = sqlx::query(
        "UPDATE requests SET state = 'unknown', closed_at = $1 WHERE id = $2 AND attempts = $3 AND state = 'open'",
    )
    .bind(now)
    .bind(request_id)
    .bind(attempts)
    .execute(conn)
    .await?;
    Ok(closed.rows_affected() == 1)
}

/// Moves the deliveries of a closed request on; without a new reason the earlier one stays.
async fn move_deliveries(conn: &mut Conn, now: Millis, request_id: &str, to: &Deliveries<'_>) -> Result<()> {
    sqlx::query(
        "UPDATE deliveries SET state = $1, reason = COALESCE($2, reason), note = $3, due_at = $4, updated_at = $5
         WHERE request_id = $6 AND state = 'sending'",
    )
    .bind(to.state)
    .bind(to.reason)
    .bind(to.note)
    .bind(to.due_at)
    .bind(now)
    .bind(request_id)
    .execute(conn)
    .await?;
    Ok(())
}
