//! Answers (table `answers`): what is said to a person who wrote, by the reply token while it lives (free of charge),
//! else by a push.
//!
//! - A reply has no retry key. LINE takes a token once, so one repeat with the same token is safe while it lives; an
//!   outcome that stays open is `unknown`, and is never followed by a push.
//! - A refused token, or one past its time, is followed by a push through the outbox; long after it only what concerns
//!   a link is still pushed.
//! - A person is answered so many times and no more: who floods us neither floods LINE nor drains the quota.

mod rule;
mod send;

use std::time::Duration;

use serde_json::{Value, json};

pub use self::send::{hand_all_over, send};
use super::{addressee, content, template};
use crate::{
    app::App,
    db::{Conn, Millis, new_id},
    error::Result,
    queue::{self, Job},
};

/// Answers to one person in a time; more are not queued.
const LIMITS: [(Duration, i64); 2] = [(Duration::from_secs(60), 10), (Duration::from_secs(3600), 60)];

/// LINE's permission to answer an event once, without cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub token: String,
    /// Our time after which it is not tried: LINE takes it for about a minute.
    pub until: Millis,
}

/// An answer to be.
#[derive(Debug, Clone, Copy)]
pub struct New<'a> {
    pub channel: &'a str,
    pub line_user_id: &'a str,
    /// A machine word.
    pub cause: &'a str,
    pub reply: Option<&'a Reply>,
}

/// Queues an answer in the caller's transaction, with its content (a JSON list of LINE message objects) where that is
/// known already. Gives its id; none where this person was answered too often lately.
pub async fn queue(conn: &mut Conn, app: &App, new: New<'_>, content: Option<&str>) -> Result<Option<String>> {
    let now = app.now();
    if is_too_often(conn, now, new.line_user_id).await? {
        tracing::debug!(channel = new.channel, line_user = new.line_user_id, cause = new.cause, "answered too often");
        return Ok(None);
    }
    let id = new_id(now);
    insert(conn, now, &id, &new, content).await?;
    if let Some(content) = content {
        go(conn, now, &id, content).await?;
    }
    Ok(Some(id))
}

/// Gives an answer the content it waited for, and has it sent.
pub async fn fill(conn: &mut Conn, app: &App, id: &str, content: &str) -> Result<()> {
    let now = app.now();
    let filled = sqlx::query(
        "UPDATE answers SET content = $1, updated_at = $2 WHERE id = $3 AND content IS NULL AND state = 'waiting'",
    )
    .bind(content)
    .bind(now)
    .bind(id)
    .execute(&mut *conn)
    .await?;
    if filled.rows_affected() == 1 {
        go(conn, now, id, content).await?;
    }
    Ok(())
}

/// Queues a template in the person's language; as [`queue`].
pub async fn say(conn: &mut Conn, app: &App, new: New<'_>, name: &str, data: &Value) -> Result<Option<String>> {
    let content = template::content(conn, app, new.line_user_id, None, name, data).await?;
    queue(conn, app, new, Some(&content)).await
}

/// A plain text as the content of an answer.
pub fn text(text: &str) -> String {
    Value::Array(vec![json!({ "type": "text", "text": text })]).to_string()
}

/// The language to answer in: what the linked member chose, else what LINE says of the person, else the company's.
pub async fn language(conn: &mut Conn, app: &App, line_user_id: &str) -> Result<String> {
    Ok(addressee::of_line_user(conn, line_user_id, None).await?.locale(app).to_owned())
}

/// Whether a person was answered for this cause, in this official account, since `since`. An answer that came too late
/// was none.
pub async fn was_given(conn: &mut Conn, channel: &str, line_user_id: &str, cause: &str, since: Millis) -> Result<bool> {
    let found: Option<String> = sqlx::query_scalar(
        "SELECT id FROM answers WHERE line_user_id = $1 AND created_at > $2 AND channel = $3 AND cause = $4
           AND (state <> 'failed' OR note IS NULL OR note <> 'too_late') LIMIT 1",
    )
    .bind(line_user_id)
    .bind(since)
    .bind(channel)
    .bind(cause)
    .fetch_optional(conn)
    .await?;
    Ok(found.is_some())
}

/// Of answers that are over: takes what was said before `contents`, and deletes those of before `rows`, some at a time.
pub(super) async fn prune(conn: &mut Conn, contents: Millis, rows: Millis) -> Result<u64> {
    let mut changed = 0;
    for (statement, before) in [(EMPTY, contents), (DELETE, rows)] {
        changed += sqlx::query(statement).bind(before).execute(&mut *conn).await?.rows_affected();
    }
    Ok(changed)
}

pub const EMPTY: &str = "UPDATE answers SET content = '[]' WHERE id IN (
       SELECT id FROM answers WHERE created_at < $1 AND content <> '[]' AND state NOT IN ('waiting', 'replying')
       ORDER BY created_at LIMIT 500)";

pub const DELETE: &str = "DELETE FROM answers WHERE id IN (
       SELECT id FROM answers WHERE created_at < $1 AND state NOT IN ('waiting', 'replying')
       ORDER BY created_at LIMIT 500)";

async fn is_too_often(conn: &mut Conn, now: Millis, line_user_id: &str) -> Result<bool> {
    for (time, most) in LIMITS {
        let count: i64 = sqlx::query_scalar(
            "SELECT CAST(COUNT(*) AS BIGINT) FROM answers WHERE line_user_id = $1 AND created_at > $2",
        )
        .bind(line_user_id)
        .bind(now.minus(time))
        .fetch_one(&mut *conn)
        .await?;
        if count >= most {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Has an answer sent; one that LINE would not take is over.
async fn go(conn: &mut Conn, now: Millis, id: &str, content: &str) -> Result<()> {
    let Some(why) = content::refused(content) else {
        return queue::enqueue(conn, now, now, &Job::Answer { answer_id: id.to_owned() }).await;
    };
    tracing::warn!(answer = id, "LINE would not take this answer: see its note");
    sqlx::query("UPDATE answers SET state = 'failed', note = $1, updated_at = $2 WHERE id = $3")
        .bind(why)
        .bind(now)
        .bind(id)
        .execute(conn)
        .await?;
    Ok(())
}

async fn insert(conn: &mut Conn, now: Millis, id: &str, new: &New<'_>, content: Option<&str>) -> Result<()> {
    sqlx::query(
        "INSERT INTO answers (id, channel, line_user_id, cause, content, reply_token, reply_until, state, attempts,
           created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 'waiting', 0, $8, $8)",
    )
    .bind(id)
    .bind(new.channel)
    .bind(new.line_user_id)
    .bind(new.cause)
    .bind(content)
    .bind(new.reply.map(|reply| reply.token.as_str()))
    .bind(new.reply.map_or(Millis(0), |reply| reply.until))
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}
