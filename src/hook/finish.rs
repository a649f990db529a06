//! Messages whose end is to be told (table `hook_watches`): looked at until none of their deliveries is open.
//!
//! What ends the last delivery would have to look at all the others, on the way of every sending. A look begins where the
//! last one stopped, so that all looks together go over a message once.

use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    db::{Conn, Locking, Millis, with_lock},
    error::Result,
    hook_event::{self, Kind, New, Place},
    message,
};

/// Looked at in one call.
const AT_ONCE: i64 = 50;
const EVERY: Duration = Duration::from_secs(1);
/// The longest time between two looks.
const LONGEST: Duration = Duration::from_secs(60);

#[derive(sqlx::FromRow)]
struct Watch {
    message_id: String,
    from_seq: i64,
    looks: i64,
}

/// Looks once a second, until told to stop.
pub async fn run(app: App, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let finished = finish(&app).await.unwrap_or_else(|error| {
            tracing::error!(%error, "messages that are over could not be told");
            0
        });
        if finished > 0 {
            app.wake();
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Looks at messages that may be over; gives the number of those that are.
pub async fn finish(app: &App) -> Result<usize> {
    let now = app.now();
    let ids: Vec<String> =
        sqlx::query_scalar("SELECT message_id FROM hook_watches WHERE look_at <= $1 ORDER BY look_at LIMIT $2")
            .bind(now)
            .bind(AT_ONCE)
            .fetch_all(&mut *app.db.conn().await?)
            .await?;
    let mut finished = 0;
    for id in &ids {
        // One transaction each: two nodes look at two, or the second one finds it gone.
        let mut tx = app.db.begin().await?;
        let watch: Option<Watch> =
            sqlx::query_as(app.db.locking(WATCH)).bind(id).bind(now).fetch_optional(&mut *tx).await?;
        if let Some(watch) = watch {
            finished += usize::from(look(&mut tx, app, &watch).await?);
        }
        tx.commit().await?;
    }
    Ok(finished)
}

const WATCH: Locking = with_lock!(
    "SELECT message_id, from_seq, looks FROM hook_watches WHERE message_id = $1 AND look_at <= $2",
    "FOR UPDATE SKIP LOCKED"
);

/// Tells of a message that is over, else says when to look again.
async fn look(conn: &mut Conn, app: &App, watch: &Watch) -> Result<bool> {
    let found: Option<(String, Option<Millis>, Option<Millis>)> =
        sqlx::query_as("SELECT channel, expanded_at, cancelled_at FROM messages WHERE id = $1")
            .bind(&watch.message_id)
            .fetch_optional(&mut *conn)
            .await?;
    let Some((channel, expanded_at, cancelled_at)) = found else {
        return unwatch(conn, &watch.message_id).await.map(|()| false);
    };
    let open = find_open(conn, &watch.message_id, watch.from_seq).await?;
    if open.is_some() || expanded_at.is_none() {
        let from_seq = open.unwrap_or(watch.from_seq);
        return look_later(conn, app.now(), watch, from_seq).await.map(|()| false);
    }
    unwatch(conn, &watch.message_id).await?;
    tell(conn, app, &channel, &watch.message_id, cancelled_at.is_some()).await?;
    Ok(true)
}

async fn tell(conn: &mut Conn, app: &App, channel: &str, message_id: &str, is_cancelled: bool) -> Result<()> {
    let place = Place::channel(app, channel);
    let endpoints = hook_event::wanting(conn, Kind::MessageFinished, place).await?;
    if endpoints.is_empty() {
        return Ok(());
    }
    let counts = message::counts(conn, message_id).await?.unwrap_or_default();
    let left_out: i64 = sqlx::query_scalar(
        "SELECT CAST(COALESCE(SUM(recipients), 0) AS BIGINT) FROM message_exclusions WHERE message_id = $1",
    )
    .bind(message_id)
    .fetch_one(&mut *conn)
    .await?;
    let data = json!({
        "provider": place.provider, "channel": channel,
        "message": { "id": message_id, "is_cancelled": is_cancelled },
        "recipients": { "accepted": counts.accepted, "sent": counts.sent, "failed": counts.failed,
            "unknown": counts.unknown, "cancelled": counts.cancelled, "left_out": left_out },
    });
    let new = New { at: app.now(), member_id: None, line_user_id: None, source: None, data };
    hook_event::insert(conn, app, Kind::MessageFinished, place, &endpoints, &[new]).await
}

/// The first delivery from a number on that is open.
async fn find_open(conn: &mut Conn, message_id: &str, from_seq: i64) -> Result<Option<i64>> {
    let seq = sqlx::query_scalar(OPEN).bind(message_id).bind(from_seq).fetch_optional(conn).await?;
    Ok(seq)
}

/// Along the primary key, to the first one.
pub const OPEN: &str =
    "SELECT seq FROM deliveries WHERE message_id = $1 AND seq >= $2 AND state IN ('waiting', 'sending')
     ORDER BY message_id, seq LIMIT 1";

/// A while that grows with the time it took so far.
async fn look_later(conn: &mut Conn, now: Millis, watch: &Watch, from_seq: i64) -> Result<()> {
    let exponent = u32::try_from(watch.looks.clamp(0, 6)).unwrap_or(0);
    sqlx::query("UPDATE hook_watches SET from_seq = $1, looks = looks + 1, look_at = $2 WHERE message_id = $3")
        .bind(from_seq)
        .bind(now.plus(Duration::from_secs(1 << exponent).min(LONGEST)))
        .bind(&watch.message_id)
        .execute(conn)
        .await?;
    Ok(())
}

async fn unwatch(conn: &mut Conn, message_id: &str) -> Result<()> {
    sqlx::query("DELETE FROM hook_watches WHERE message_id = $1").bind(message_id).execute(conn).await?;
    Ok(())
}
