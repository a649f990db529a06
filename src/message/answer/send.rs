//! [`Job::Answer`](crate::queue::Job::Answer): one step of an answer.
//!
//! A reply is claimed and committed before LINE is asked: who finds `replying` knows that one may have gone out. The
//! count of replies is the fence: what a claim brought is written down only while no later one was made.

use std::time::Duration;

use super::{
    New,
    rule::{self, After, Step, Tried},
};
use crate::{
    app::App,
    channel::{self, Kind},
    db::{Conn, Millis},
    error::Result,
    line_user, message,
    queue::Outcome,
};

/// Pushes in place of replies to one person in an hour: they cost the company's quota.
const PUSHES: (Duration, i64) = (Duration::from_secs(3600), 5);
/// How long is waited for a channel token before the answer is looked at again.
const NO_TOKEN: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, sqlx::FromRow)]
struct Answer {
    id: String,
    channel: String,
    line_user_id: String,
    cause: String,
    content: Option<String>,
    reply_token: Option<String>,
    reply_until: Millis,
    state: String,
    attempts: i64,
}

macro_rules! select {
    ($which:literal) => {
        concat!(
            "SELECT id, channel, line_user_id, cause, content, reply_token, reply_until, state, attempts
             FROM answers WHERE ",
            $which
        )
    };
}

/// How an answer stands after a step.
#[derive(Debug, Clone, Copy)]
struct End<'a> {
    state: &'a str,
    note: Option<&'a str>,
    /// LINE's, of the reply.
    request_id: Option<&'a str>,
    message_id: Option<&'a str>,
}

/// What LINE answered to a reply, where it answered.
#[derive(Debug, Clone, Copy, Default)]
struct Words<'a> {
    note: Option<&'a str>,
    request_id: Option<&'a str>,
}

impl<'a> End<'a> {
    fn of(state: &'a str, note: Option<&'a str>) -> Self {
        Self { state, note, request_id: None, message_id: None }
    }
}

/// Does what is next with an answer. Never parks: its token dies within a minute.
pub async fn send(app: &App, id: &str) -> Result<Outcome> {
    let Some(answer) = find(&mut *app.db.conn().await?, id).await? else { return Ok(Outcome::Done) };
    let until = answer.reply_token.is_some().then_some(answer.reply_until);
    let token = rule::token(app.now(), until, &answer.cause);
    match rule::step(&answer.state, answer.content.is_some(), token) {
        Step::Reply { in_doubt } => reply(app, &answer, in_doubt).await,
        Step::Push => push(app, &answer, Words::default()).await,
        Step::TooLate => end(app, &answer, End::of("failed", Some("too_late"))).await,
        Step::GiveUp => end(app, &answer, End::of("unknown", None)).await,
        Step::Nothing => Ok(Outcome::Done),
    }
}

/// In a database that was put back from a backup, what waits may have been said since, and its token used. What concerns a
/// link goes to the outbox, which is held; the rest is said no more.
pub async fn hand_all_over(app: &App) -> Result<()> {
    loop {
        let waiting = list_waiting(&mut *app.db.conn().await?).await?;
        for answer in &waiting {
            if answer.content.is_none() || rule::is_small_talk(&answer.cause) {
                end(app, answer, End::of("failed", Some("put_back"))).await?;
            } else {
                push(app, answer, Words::default()).await?;
            }
        }
        if waiting.is_empty() {
            return Ok(());
        }
    }
}

async fn reply(app: &App, answer: &Answer, in_doubt: bool) -> Result<Outcome> {
    let kind = Kind::Bot(&answer.channel);
    let token = match channel::token(app, kind).await {
        Ok(token) => token,
        Err(error) => return Ok(Outcome::Retry { why: error.to_string(), after: Some(NO_TOKEN) }),
    };
    let Some(attempt) = claim(app, answer).await? else { return Ok(look_again()) };
    let claimed = Answer { attempts: attempt, state: "replying".to_owned(), ..answer.clone() };
    let body = body(answer)?;
    let result = app.line.reply(&token, &body).await;
    let facts = Tried {
        in_doubt,
        left: left(app, answer),
        attempt,
        fresh_token: channel::after_call(app, kind, &token, &result).await,
        jitter: app.jitter(),
    };
    let note = result.as_ref().err().map(ToString::to_string);
    if let Some(error) = &note {
        tracing::warn!(channel = answer.channel, answer = answer.id, attempt, error, "reply not accepted");
    }
    let request_id = result.as_ref().map_or_else(|error| error.request_id(), |taken| Some(&*taken.request_id));
    let request_id = request_id.filter(|id| !id.is_empty());
    settle(app, &claimed, rule::after(&result, facts), Words { note: note.as_deref(), request_id }).await
}

/// Writes down what a reply brought.
async fn settle(app: &App, answer: &Answer, after: After, words: Words<'_>) -> Result<Outcome> {
    let (state, wait) = match after {
        After::Push => return push(app, answer, words).await,
        After::Replied => ("replied", None),
        After::Failed => ("failed", None),
        After::Unknown => ("unknown", None),
        After::Again(wait) => ("waiting", Some(wait)),
        After::Repeat(wait) => ("replying", Some(wait)),
    };
    let Words { note, request_id } = words;
    let outcome = end(app, answer, End { state, note, request_id, message_id: None }).await?;
    match (wait, outcome) {
        (Some(wait), Outcome::Done) => {
            Ok(Outcome::Retry { why: note.unwrap_or_default().to_owned(), after: Some(wait) })
        }
        (_, outcome) => Ok(outcome),
    }
}

/// Hands an answer to the outbox, with the fact that it was, unless this person had too many of these.
async fn push(app: &App, answer: &Answer, words: Words<'_>) -> Result<Outcome> {
    let Some(content) = &answer.content else { return Ok(Outcome::Done) };
    let now = app.now();
    let mut tx = app.db.begin().await?;
    // Two answers to one person are counted one after the other.
    line_user::lock(&mut tx, &answer.line_user_id).await?;
    if count_pushes(&mut tx, now, &answer.line_user_id).await? >= PUSHES.1 {
        drop(tx);
        tracing::warn!(channel = answer.channel, line_user = answer.line_user_id, "too many pushes in answer");
        return end(app, answer, End { request_id: words.request_id, ..End::of("failed", Some("too_many_pushes")) })
            .await;
    }
    let new = New { channel: &answer.channel, line_user_id: &answer.line_user_id, cause: &answer.cause, reply: None };
    let message_id = message::push_answer(&mut tx, now, new, content).await?;
    let Words { note, request_id } = words;
    let pushed = End { state: "pushed", note, request_id, message_id: Some(&message_id) };
    if !move_to(&mut tx, now, answer, pushed).await? {
        return Ok(look_again());
    }
    tx.commit().await?;
    app.wake();
    Ok(Outcome::Done)
}

async fn end(app: &App, answer: &Answer, end: End<'_>) -> Result<Outcome> {
    let is_moved = move_to(&mut *app.db.conn().await?, app.now(), answer, end).await?;
    Ok(if is_moved { Outcome::Done } else { look_again() })
}

/// Another run of the job took the answer meanwhile: this one's end must not be the job's.
fn look_again() -> Outcome {
    Outcome::Retry { why: "the answer was taken by another run".to_owned(), after: None }
}

fn left(app: &App, answer: &Answer) -> Duration {
    let left = answer.reply_until.0.saturating_sub(app.now().0);
    Duration::from_millis(u64::try_from(left).unwrap_or(0))
}

/// LINE's reply request; the content is JSON already, and is not parsed again.
fn body(answer: &Answer) -> Result<String> {
    let token = serde_json::to_string(answer.reply_token.as_deref().unwrap_or_default())?;
    let content = answer.content.as_deref().unwrap_or("[]");
    Ok(format!(r#"{{"replyToken":{token},"messages":{content}}}"#))
}

async fn find(conn: &mut Conn, id: &str) -> Result<Option<Answer>> {
    Ok(sqlx::query_as(select!("id = $1")).bind(id).fetch_optional(conn).await?)
}

async fn list_waiting(conn: &mut Conn) -> Result<Vec<Answer>> {
    Ok(sqlx::query_as(select!("state = 'waiting' ORDER BY created_at LIMIT 100")).fetch_all(conn).await?)
}

/// Begins a reply, if the answer still is as it was found and its token lives; gives the number of this reply.
async fn claim(app: &App, answer: &Answer) -> Result<Option<i64>> {
    let now = app.now();
    let claimed = sqlx::query(
        "UPDATE answers SET state = 'replying', attempts = attempts + 1, updated_at = $1
         WHERE id = $2 AND state = $3 AND attempts = $4 AND reply_until > $1",
    )
    .bind(now)
    .bind(&answer.id)
    .bind(&answer.state)
    .bind(answer.attempts)
    .execute(&mut *app.db.conn().await?)
    .await?;
    Ok((claimed.rows_affected() == 1).then_some(answer.attempts + 1))
}

/// Moves an answer on, if it still is as it was found; without new words the earlier ones stay. An answer that has
/// ended keeps no token.
async fn move_to(conn: &mut Conn, now: Millis, answer: &Answer, end: End<'_>) -> Result<bool> {
    let moved = sqlx::query(
        "UPDATE answers SET state = $1, note = COALESCE($2, note), message_id = $3, updated_at = $4,
           line_request_id = COALESCE($8, line_request_id),
           reply_token = CASE WHEN $1 IN ('waiting', 'replying') THEN reply_token END
         WHERE id = $5 AND state = $6 AND attempts = $7",
    )
    .bind(end.state)
    .bind(end.note)
    .bind(end.message_id)
    .bind(now)
    .bind(&answer.id)
    .bind(&answer.state)
    .bind(answer.attempts)
    .bind(end.request_id)
    .execute(conn)
    .await?;
    Ok(moved.rows_affected() == 1)
}

async fn count_pushes(conn: &mut Conn, now: Millis, line_user_id: &str) -> Result<i64> {
    let count = sqlx::query_scalar(
        "SELECT CAST(COUNT(*) AS BIGINT) FROM answers
         WHERE line_user_id = $1 AND created_at > $2 AND state = 'pushed' AND updated_at > $3",
    )
    .bind(line_user_id)
    // By the index: hardly an answer waits for a day.
    .bind(now.minus(PUSHES.0 * 24))
    .bind(now.minus(PUSHES.0))
    .fetch_one(conn)
    .await?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_json() {
        let answer = Answer {
            id: "a".into(),
            channel: "main".into(),
            line_user_id: "u".into(),
            cause: "default".into(),
            content: Some(r#"[{"type":"text"}]"#.into()),
            reply_token: Some("t\"1".into()),
            reply_until: Millis(0),
            state: "waiting".into(),
            attempts: 0,
        };
        let parsed: serde_json::Value = serde_json::from_str(&body(&answer).unwrap()).unwrap();
        assert_eq!(parsed, serde_json::json!({ "replyToken": "t\"1", "messages": [{ "type": "text" }] }));
    }
}
