//! Fetches what came with a message, once, up to a cap, and for each chat so much in a day: nobody fills the disk.
//!
//! What is `waiting` is fetched; each end is written down only where it still waits, so that nothing comes back after
//! it was taken back.

use std::time::Duration;

use crate::{
    app::App,
    channel::{self, Kind},
    db::{Conn, Millis},
    error::Result,
    line::content::Content,
    queue::{self, Job, Outcome},
};

/// How long LINE is given at least to prepare a content.
const PREPARING: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(600));

/// What is kept of a chat within a day: media, and bytes in all.
const MOST_KEPT: (i64, i64) = (50, 100 * 1024 * 1024);
/// In milliseconds.
const DAY: i64 = 24 * 3_600_000;

/// What was fetched, and how that ended.
struct End<'a> {
    state: &'a str,
    content_type: Option<&'a str>,
    bytes: Option<&'a [u8]>,
}

/// [`Job::FetchMedia`](crate::queue::Job::FetchMedia)
pub async fn fetch(app: &App, channel: &str, message_id: &str) -> Result<Outcome> {
    let mut conn = app.db.conn().await?;
    let Some(since) = find_waiting(&mut conn, channel, message_id).await? else { return Ok(Outcome::Done) };
    let kept = find_kept(&mut conn, channel, message_id).await?;
    drop(conn);
    let (most, too_long) = most_bytes(app.config.chat.media_max_bytes, kept);
    if most == 0 {
        return set(app, channel, message_id, End { state: too_long, content_type: None, bytes: None }).await;
    }
    let content = |token| async move { app.line.content(&token, message_id, most).await };
    let end = match channel::call(app, Kind::Bot(channel), content).await {
        Ok(Content::Ready { content_type, bytes }) => {
            let end = End { state: "kept", content_type: Some(&content_type), bytes: Some(&bytes) };
            return set(app, channel, message_id, end).await;
        }
        Ok(Content::Gone) => "gone",
        Ok(Content::TooLarge) => too_long,
        Ok(Content::Preparing) => {
            let why = "LINE still prepares it".to_owned();
            return Ok(Outcome::Retry { why, after: Some(patience(app.now(), since)) });
        }
        Err(error) => return Ok(Outcome::retry(&error)),
    };
    set(app, channel, message_id, End { state: end, content_type: None, bytes: None }).await
}

/// Has the content of a message fetched.
pub(super) async fn expect(conn: &mut Conn, now: Millis, channel: &str, message_id: &str) -> Result<()> {
    let inserted = sqlx::query(
        "INSERT INTO media (channel, message_id, state, created_at) VALUES ($1, $2, 'waiting', $3)
         ON CONFLICT (channel, message_id) DO NOTHING",
    )
    .bind(channel)
    .bind(message_id)
    .bind(now)
    .execute(&mut *conn)
    .await?;
    if inserted.rows_affected() == 0 {
        return Ok(());
    }
    let job = Job::FetchMedia { channel: channel.to_owned(), message_id: message_id.to_owned() };
    queue::enqueue(conn, now, now, &job).await
}

/// Erases what was fetched, and keeps what is being fetched from coming.
pub(super) async fn erase(conn: &mut Conn, now: Millis, channel: &str, message_id: &str) -> Result<()> {
    sqlx::query(
        "UPDATE media SET state = 'erased', content_type = NULL, size = NULL, bytes = NULL, ended_at = $1
         WHERE channel = $2 AND message_id = $3 AND state <> 'erased'",
    )
    .bind(now)
    .bind(channel)
    .bind(message_id)
    .execute(conn)
    .await?;
    Ok(())
}

/// Deletes media older than `kept`, some at a time.
pub async fn prune(conn: &mut Conn, now: Millis, kept: Duration) -> Result<u64> {
    let deleted = sqlx::query(
        "DELETE FROM media WHERE (channel, message_id) IN
           (SELECT channel, message_id FROM media WHERE created_at < $1 ORDER BY created_at LIMIT 100)",
    )
    .bind(now.minus(kept))
    .execute(conn)
    .await?;
    Ok(deleted.rows_affected())
}

/// Longer and longer: half of the time it was waited for already.
fn patience(now: Millis, since: Millis) -> Duration {
    let waited = Duration::from_millis(u64::try_from(now.0.saturating_sub(since.0)).unwrap_or(0));
    (waited / 2).clamp(PREPARING.0, PREPARING.1)
}

/// How many bytes of a content are taken, and what is said of a longer one; `kept` is what the chat sent already.
fn most_bytes(largest: usize, (count, bytes): (i64, i64)) -> (usize, &'static str) {
    let left = if count < MOST_KEPT.0 { usize::try_from(MOST_KEPT.1 - bytes).unwrap_or(0) } else { 0 };
    if left < largest { (left, "too_much") } else { (largest, "too_large") }
}

/// The media kept of a message's chat since a day before it, and their bytes. Some that are fetched at this moment are
/// not among them.
async fn find_kept(conn: &mut Conn, channel: &str, message_id: &str) -> Result<(i64, i64)> {
    let kept = sqlx::query_as(
        "SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(m.size), 0) AS BIGINT)
         FROM chat_messages own JOIN chat_messages c ON c.channel = own.channel AND c.chat = own.chat
         JOIN media m ON m.channel = c.channel AND m.message_id = c.id
         WHERE own.channel = $1 AND own.id = $2 AND c.at > own.at - $3 AND m.state = 'kept'",
    )
    .bind(channel)
    .bind(message_id)
    .bind(DAY)
    .fetch_one(conn)
    .await?;
    Ok(kept)
}

/// Since when it waits; none where it does not.
async fn find_waiting(conn: &mut Conn, channel: &str, message_id: &str) -> Result<Option<Millis>> {
    let found =
        sqlx::query_scalar("SELECT created_at FROM media WHERE channel = $1 AND message_id = $2 AND state = 'waiting'")
            .bind(channel)
            .bind(message_id)
            .fetch_optional(conn)
            .await?;
    Ok(found)
}

async fn set(app: &App, channel: &str, message_id: &str, end: End<'_>) -> Result<Outcome> {
    sqlx::query(
        "UPDATE media SET state = $1, content_type = $2, size = $3, bytes = $4, ended_at = $5
         WHERE channel = $6 AND message_id = $7 AND state = 'waiting'",
    )
    .bind(end.state)
    .bind(end.content_type)
    .bind(end.bytes.and_then(|bytes| i64::try_from(bytes.len()).ok()))
    .bind(end.bytes)
    .bind(app.now())
    .bind(channel)
    .bind(message_id)
    .execute(&mut *app.db.conn().await?)
    .await?;
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_is_kept_so_much_of() {
        const MIB: i64 = 1024 * 1024;
        let largest = 10 * 1024 * 1024;
        // (media kept, their bytes, how many more bytes, what a longer one is)
        for (count, bytes, expected) in [
            (0, 0, (largest, "too_large")),
            (49, 90 * MIB, (largest, "too_large")),
            (50, 0, (0, "too_much")),
            (1, 90 * MIB + 1, (largest - 1, "too_much")),
            (1, 100 * MIB, (0, "too_much")),
            (1, 101 * MIB, (0, "too_much")),
        ] {
            assert_eq!(most_bytes(largest, (count, bytes)), expected, "{count} {bytes}");
        }
    }

    #[test]
    fn line_is_given_more_and_more_time() {
        for (waited, expected) in [(0, 3), (4, 3), (60, 30), (3600, 600), (-5, 3)] {
            let wait = patience(Millis(waited * 1000), Millis(0));
            assert_eq!(wait, Duration::from_secs(expected), "{waited}");
        }
    }
}
