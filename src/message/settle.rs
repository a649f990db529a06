//! The end of tries, written down: only by the try that was claimed last, and a request together with its deliveries.

use std::{collections::BTreeSet, sync::LazyLock};

use crate::{
    app::App,
    db::{Conn, Millis, Rows},
    error::Result,
    hook_event,
    line::{
        Error, Failure,
        messaging::{Accepted, Endpoint},
    },
};

use super::{
    after::After,
    claim::{DEADLINE, REFUSED_TOGETHER, Try},
    quota::{self, Ends},
};

/// Requests given up in one round.
const AT_ONCE: i64 = 100;

/// A try that came to its end.
pub(super) struct Ended {
    pub tried: Try,
    pub after: After,
    pub result: Result<Accepted, Error>,
}

/// What LINE answered to a try that it did not accept, where it answered.
#[derive(Clone, Copy)]
struct Words<'a> {
    note: Option<&'a str>,
    request_id: Option<&'a str>,
}

/// How a closed request's deliveries go on.
struct Deliveries<'a> {
    state: &'a str,
    reason: Option<&'a str>,
    note: Option<&'a str>,
    due_at: Millis,
}

/// Records what became of a channel's tries, in the caller's transaction. Does nothing to a request that was claimed again
/// meanwhile.
pub(super) async fn settle(app: &App, conn: &mut Conn, channel: &str, ended: &[Ended]) -> Result<()> {
    let now = app.now();
    let (sent, others): (Vec<&Ended>, Vec<&Ended>) = ended.iter().partition(|one| one.after == After::Sent);
    let closed = close_sent(app, conn, now, &sent).await?;
    let (closed, recipients): (BTreeSet<String>, Vec<i64>) = closed.into_iter().unzip();
    move_sent(app, conn, now, sent.iter().map(|one| &one.tried).filter(|tried| closed.contains(&tried.request_id)))
        .await?;
    let mut failed = Vec::new();
    for one in others {
        if settle_one(conn, now, one).await? {
            failed.push(one.tried.request_id.as_str());
        }
    }
    if !failed.is_empty() {
        hook_event::delivery::refused(conn, app, channel, &failed).await?;
    }
    let is_refused = |one: &Ended| one.result.as_ref().is_err_and(|error| error.failure() == Failure::MonthlyLimit);
    let ends = Ends { sent: recipients.iter().sum(), is_refused: ended.iter().any(is_refused) };
    quota::note(conn, now, channel, ends).await
}

/// The requests that LINE has; gives those whose last claim this was, and how many recipients each has.
async fn close_sent(app: &App, conn: &mut Conn, now: Millis, sent: &[&Ended]) -> Result<Vec<(String, i64)>> {
    static UPDATE: LazyLock<Rows> = LazyLock::new(|| {
        Rows::new(
            "UPDATE requests SET state = 'sent', closed_at = v.column3, line_request_id = v.column4,
               accepted_request_id = NULLIF(v.column5, ''), sent_message_ids = v.column6
             FROM (VALUES",
            6,
            // Not by the state, or PostgreSQL goes through all that were open lately.
            ") AS v WHERE requests.id = v.column1 AND requests.attempts = v.column2 AND requests.closed_at IS NULL
             RETURNING requests.id, requests.recipients",
        )
    });
    let mut closed = Vec::new();
    for (text, rows) in UPDATE.pieces(&app.db, sent) {
        let mut update = sqlx::query_as::<_, (String, i64)>(text);
        for one in rows {
            let Ok(accepted) = &one.result else { continue };
            let earlier = accepted.accepted_request_id.as_deref().unwrap_or_default();
            update = update.bind(&one.tried.request_id).bind(one.tried.attempt).bind(now).bind(&accepted.request_id);
            update = update.bind(earlier).bind(serde_json::to_string(&accepted.sent_message_ids)?);
        }
        closed.extend(update.fetch_all(&mut *conn).await?);
    }
    Ok(closed)
}

/// The deliveries of requests that were closed just now.
async fn move_sent(app: &App, conn: &mut Conn, now: Millis, closed: impl Iterator<Item = &Try>) -> Result<()> {
    static UPDATE: LazyLock<Rows> = LazyLock::new(|| {
        Rows::new(
            "UPDATE deliveries SET state = 'sent', due_at = v.column3, updated_at = v.column3
             FROM (VALUES",
            3,
            ") AS v WHERE deliveries.message_id = v.column1 AND deliveries.seq = v.column2
               AND deliveries.state = 'sending'",
        )
    });
    let mut known = Vec::new();
    for tried in closed {
        if tried.to.is_empty() {
            let sent = Deliveries { state: "sent", reason: None, note: None, due_at: now };
            move_deliveries(conn, now, &tried.request_id, &sent).await?;
        }
        known.extend(&tried.to);
    }
    for (text, rows) in UPDATE.pieces(&app.db, &known) {
        let mut update = sqlx::query(text);
        for (message_id, seq) in rows {
            update = update.bind(message_id).bind(seq).bind(now);
        }
        update.execute(&mut *conn).await?;
    }
    Ok(())
}

/// True where its deliveries failed.
async fn settle_one(conn: &mut Conn, now: Millis, ended: &Ended) -> Result<bool> {
    let error = ended.result.as_ref().err();
    let text = error.map(ToString::to_string);
    let note = text.as_deref();
    let words = Words { note, request_id: error.and_then(Error::request_id) };
    let tried = &ended.tried;
    let (request, delivery, reason, due_at) = match ended.after {
        After::Repeat(wait) => return repeat(conn, now, tried, now.plus(wait), words).await.map(|()| false),
        // Closed with the others.
        After::Sent => return Ok(false),
        After::Thaw(wait) => ("refused", "waiting", None, now.plus(wait)),
        // LINE refuses a multicast as a whole for one of its people: each goes alone now.
        After::Failed if tried.endpoint == Endpoint::Multicast => ("refused", "waiting", Some(REFUSED_TOGETHER), now),
        After::Failed => ("failed", "failed", Some("refused_by_line"), now),
        After::Unknown => ("unknown", "unknown", Some("refused_in_doubt"), now),
    };
    if close(conn, now, &tried.request_id, tried.attempt, request, words).await? {
        let deliveries = Deliveries { state: delivery, reason, note, due_at };
        move_deliveries(conn, now, &tried.request_id, &deliveries).await?;
        return Ok(delivery == "failed");
    }
    Ok(false)
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
    let none = Words { note: None, request_id: None };
    for (request_id, attempts, note) in &late {
        // One transaction each: an unlink may hold several of these deliveries in another order.
        let mut tx = app.db.begin().await?;
        if close(&mut tx, now, request_id, *attempts, "unknown", none).await? {
            let end = Deliveries { state: "unknown", reason: Some("no_answer"), note: note.as_deref(), due_at: now };
            move_deliveries(&mut tx, now, request_id, &end).await?;
            tracing::error!(channel, request_id, "LINE gave no answer for a day: whether it was sent is unknown");
        }
        tx.commit().await?;
    }
    Ok(())
}

/// Keeps the request open, to be tried again no later than it is given up.
async fn repeat(conn: &mut Conn, now: Millis, tried: &Try, next: Millis, words: Words<'_>) -> Result<()> {
    sqlx::query(
        "UPDATE requests SET next_attempt_at = $1, note = $2, line_request_id = COALESCE($5, line_request_id)
         WHERE id = $3 AND attempts = $4 AND state = 'open'",
    )
    .bind(next.min(tried.first_attempt_at.plus(DEADLINE)))
    .bind(words.note)
    .bind(&tried.request_id)
    .bind(tried.attempt)
    .bind(words.request_id)
    .execute(&mut *conn)
    .await?;
    // What is said to the same people later waits for it.
    sqlx::query(
        "UPDATE deliveries SET retried_at = $1 WHERE request_id = $2 AND state = 'sending' AND retried_at IS NULL",
    )
    .bind(now)
    .bind(&tried.request_id)
    .execute(conn)
    .await?;
    Ok(())
}

/// Closes a request that LINE has not, or perhaps not; false where the try is not its last claim. A refused one is
/// forgotten by its deliveries, and keeps nothing of what they say.
async fn close(
    conn: &mut Conn,
    now: Millis,
    request_id: &str,
    attempt: i64,
    state: &str,
    words: Words<'_>,
) -> Result<bool> {
    let closed = sqlx::query(
        "UPDATE requests SET state = $1, closed_at = $2, note = COALESCE($3, note),
           line_request_id = COALESCE($6, line_request_id),
           body = CASE WHEN $1 = 'refused' THEN '' ELSE body END
         WHERE id = $4 AND attempts = $5 AND state = 'open'",
    )
    .bind(state)
    .bind(now)
    .bind(words.note)
    .bind(request_id)
    .bind(attempt)
    .bind(words.request_id)
    .execute(conn)
    .await?;
    Ok(closed.rows_affected() == 1)
}

/// Moves the deliveries of a closed request on; without a new reason the earlier one stays.
async fn move_deliveries(conn: &mut Conn, now: Millis, request_id: &str, to: &Deliveries<'_>) -> Result<()> {
    sqlx::query(
        "UPDATE deliveries SET state = $1, reason = COALESCE($2, reason), note = $3, due_at = $4, updated_at = $5,
           retried_at = COALESCE(retried_at, $5)
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
