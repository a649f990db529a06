//! The claim: what is due becomes a request in one transaction, before anything goes to LINE.

use std::time::Duration;

use crate::{
    app::App,
    db::{Conn, Locking, Millis, new_id, with_lock},
    error::Result,
};

/// How long a try may be in flight before the request is found again; longer than the client's time limit.
pub(super) const IN_FLIGHT: Duration = Duration::from_secs(30);
/// LINE remembers a retry key for 24 hours from the first try; this leaves half an hour of doubt.
pub(super) const DEADLINE: Duration = Duration::from_secs(23 * 3600 + 30 * 60);

/// LINE lets somebody who is no friend be written to for so long after they wrote.
const WROTE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Requests repeated, and as many made anew, in one claim; all of them are in flight at one time.
const AT_ONCE: i64 = 8;

/// A claimed request. Its attempt number is the fence: a later claim makes this one's result void.
#[derive(Debug)]
pub(super) struct Try {
    pub request_id: String,
    pub attempt: i64,
    /// What the backoff counts.
    pub count: i64,
    pub retry_key: String,
    pub body: String,
    pub first_attempt_at: Millis,
}

/// A waiting delivery, and what is true of its recipient now.
#[derive(Debug, Default, sqlx::FromRow)]
struct Waiting {
    message_id: String,
    seq: i64,
    content: String,
    attempts: i64,
    user_id: Option<String>,
    /// None for an answer to a person who wrote, linked or not.
    link_id: Option<String>,
    /// The link itself.
    found_id: Option<String>,
    ended_at: Option<Millis>,
    suspended_at: Option<Millis>,
    disabled_at: Option<Millis>,
    permission: Option<String>,
    friend: Option<String>,
    friend_changed_at: Option<Millis>,
    /// When the recipient last wrote in their own chat with this official account, by LINE's time.
    wrote_at: Option<Millis>,
}

/// Whether a waiting delivery may still be sent.
#[derive(Debug, PartialEq, Eq)]
enum Verdict<'a> {
    Send { user_id: &'a str },
    Cancel { reason: &'static str },
}

/// Whether there is anything to claim, by reading only: most rounds end here.
pub(super) async fn is_due(conn: &mut Conn, channel: &str, now: Millis) -> Result<bool> {
    let open: Option<String> = sqlx::query_scalar(
        "SELECT id FROM requests WHERE channel = $1 AND state = 'open' AND next_attempt_at <= $2 LIMIT 1",
    )
    .bind(channel)
    .bind(now)
    .fetch_optional(&mut *conn)
    .await?;
    if open.is_some() {
        return Ok(true);
    }
    let waiting: Option<String> = sqlx::query_scalar(
        "SELECT message_id FROM deliveries WHERE channel = $1 AND state = 'waiting' AND due_at <= $2 LIMIT 1",
    )
    .bind(channel)
    .bind(now)
    .fetch_optional(conn)
    .await?;
    Ok(waiting.is_some())
}

/// Claims due requests and makes new ones of due deliveries; commits before it returns.
pub(super) async fn claim(app: &App, channel: &str, now: Millis) -> Result<Vec<Try>> {
    let mut tx = app.db.begin().await?;
    let mut tries = claim_open(app, &mut tx, channel, now).await?;
    for waiting in list_waiting(app, &mut tx, channel, now).await? {
        match judge(&waiting, now) {
            Verdict::Send { user_id } => tries.push(make_request(&mut tx, channel, now, &waiting, user_id).await?),
            Verdict::Cancel { reason } => cancel(&mut tx, now, &waiting, reason).await?,
        }
    }
    tx.commit().await?;
    Ok(tries)
}

/// Not known to be a non-friend is reachable: unknown is sent to.
fn judge(waiting: &Waiting, now: Millis) -> Verdict<'_> {
    let Some(user_id) = waiting.user_id.as_deref() else { return Verdict::Cancel { reason: "unlinked" } };
    let is_linked = waiting.link_id.is_some();
    if is_linked && (waiting.found_id.is_none() || waiting.ended_at.is_some()) {
        return Verdict::Cancel { reason: "unlinked" };
    }
    if is_linked && waiting.suspended_at.is_some() {
        return Verdict::Cancel { reason: "suspended" };
    }
    if is_linked && waiting.disabled_at.is_some() {
        return Verdict::Cancel { reason: "member_disabled" };
    }
    if is_linked && waiting.permission.as_deref() == Some("withdrawn") {
        return Verdict::Cancel { reason: "consent_withdrawn" };
    }
    let is_reachable = waiting.friend.as_deref() != Some("no") || (!is_linked && may_be_answered(waiting, now));
    if is_reachable { Verdict::Send { user_id } } else { Verdict::Cancel { reason: "not_reachable" } }
}

/// Who writes without being a friend may be answered. Who blocked the account after writing may not.
fn may_be_answered(waiting: &Waiting, now: Millis) -> bool {
    waiting.wrote_at.is_some_and(|wrote_at| {
        wrote_at > now.minus(WROTE) && waiting.friend_changed_at.is_none_or(|changed_at| changed_at < wrote_at)
    })
}

async fn claim_open(app: &App, conn: &mut Conn, channel: &str, now: Millis) -> Result<Vec<Try>> {
    let rows: Vec<(String, i64, String, String, Millis)> = sqlx::query_as(app.db.locking(OPEN))
        .bind(channel)
        .bind(now)
        .bind(now.minus(DEADLINE))
        .bind(AT_ONCE)
        .fetch_all(&mut *conn)
        .await?;
    let mut tries = Vec::new();
    for (request_id, attempts, retry_key, body, first_attempt_at) in rows {
        sqlx::query("UPDATE requests SET attempts = attempts + 1, next_attempt_at = $1 WHERE id = $2")
            .bind(now.plus(IN_FLIGHT))
            .bind(&request_id)
            .execute(&mut *conn)
            .await?;
        let attempt = attempts + 1;
        tries.push(Try { request_id, attempt, count: attempt, retry_key, body, first_attempt_at });
    }
    Ok(tries)
}

const OPEN: Locking = with_lock!(
    "SELECT id, attempts, retry_key, body, first_attempt_at FROM requests
     WHERE channel = $1 AND state = 'open' AND next_attempt_at <= $2 AND first_attempt_at > $3
     ORDER BY next_attempt_at LIMIT $4",
    "FOR UPDATE SKIP LOCKED"
);

async fn list_waiting(app: &App, conn: &mut Conn, channel: &str, now: Millis) -> Result<Vec<Waiting>> {
    Ok(sqlx::query_as(app.db.locking(WAITING)).bind(channel).bind(now).bind(AT_ONCE).fetch_all(conn).await?)
}

const WAITING: Locking = with_lock!(
    "SELECT d.message_id, d.seq, d.content, d.attempts, d.link_id,
       u.user_id, l.id AS found_id, l.ended_at, l.suspended_at, l.permission, m.disabled_at, f.friend, f.changed_at AS friend_changed_at,
       CASE WHEN d.link_id IS NULL AND f.friend = 'no' THEN
         (SELECT MAX(c.at) FROM chat_messages c WHERE c.channel = d.channel AND c.chat = u.user_id) END AS wrote_at
     FROM deliveries d
     LEFT JOIN links l ON l.id = d.link_id
     LEFT JOIN line_users u ON u.id = d.line_user_id
     LEFT JOIN members m ON m.id = l.member_id
     LEFT JOIN friends f ON f.line_user_id = d.line_user_id AND f.channel = d.channel
     WHERE d.channel = $1 AND d.state = 'waiting' AND d.due_at <= $2
     ORDER BY d.due_at LIMIT $3",
    "FOR UPDATE OF d SKIP LOCKED"
);

/// Writes the request and puts the delivery on its way.
async fn make_request(conn: &mut Conn, channel: &str, now: Millis, waiting: &Waiting, user_id: &str) -> Result<Try> {
    let new = Try {
        request_id: new_id(now),
        attempt: 1,
        count: waiting.attempts + 1,
        retry_key: uuid::Uuid::new_v4().to_string(),
        body: body(user_id, &waiting.content)?,
        first_attempt_at: now,
    };
    sqlx::query(
        "INSERT INTO requests (id, channel, retry_key, body, state, attempts, first_attempt_at, next_attempt_at)
         VALUES ($1, $2, $3, $4, 'open', 1, $5, $6)",
    )
    .bind(&new.request_id)
    .bind(channel)
    .bind(&new.retry_key)
    .bind(&new.body)
    .bind(now)
    .bind(now.plus(IN_FLIGHT))
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "UPDATE deliveries SET state = 'sending', request_id = $1, attempts = attempts + 1, updated_at = $2
         WHERE message_id = $3 AND seq = $4",
    )
    .bind(&new.request_id)
    .bind(now)
    .bind(&waiting.message_id)
    .bind(waiting.seq)
    .execute(conn)
    .await?;
    Ok(new)
}

/// LINE's push request; `content` is JSON already, and is not parsed again.
fn body(user_id: &str, content: &str) -> Result<String> {
    Ok(format!(r#"{{"to":{},"messages":{content}}}"#, serde_json::to_string(user_id)?))
}

async fn cancel(conn: &mut Conn, now: Millis, waiting: &Waiting, reason: &str) -> Result<()> {
    sqlx::query(
        "UPDATE deliveries SET state = 'cancelled', reason = $1, updated_at = $2 WHERE message_id = $3 AND seq = $4",
    )
    .bind(reason)
    .bind(now)
    .bind(&waiting.message_id)
    .bind(waiting.seq)
    .execute(conn)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_still_be_sent_to() {
        let now = Millis(8 * 24 * 3600 * 1000);
        let ago = |days: i64| Some(now.plus_signed(-days * 24 * 3600 * 1000));
        let no = || Some("no".to_owned());
        let answer = || Waiting { user_id: Some("U1".into()), ..Waiting::default() };
        let user = || Waiting { link_id: Some("l".into()), found_id: Some("l".into()), ..answer() };
        let at = Some(Millis(1));
        let cancel = |reason| Verdict::Cancel { reason };
        for (waiting, verdict) in [
            (user(), Verdict::Send { user_id: "U1" }),
            (Waiting { friend: Some("yes".into()), ..user() }, Verdict::Send { user_id: "U1" }),
            (Waiting { friend: Some("unknown".into()), ..user() }, Verdict::Send { user_id: "U1" }),
            (Waiting { friend: no(), ..user() }, cancel("not_reachable")),
            (Waiting { friend: no(), wrote_at: ago(0), ..user() }, cancel("not_reachable")),
            (Waiting { ended_at: at, friend: no(), ..user() }, cancel("unlinked")),
            (Waiting { suspended_at: at, ..user() }, cancel("suspended")),
            (Waiting { disabled_at: at, ..user() }, cancel("member_disabled")),
            (Waiting { permission: Some("withdrawn".into()), ..user() }, cancel("consent_withdrawn")),
            (Waiting { permission: Some("unverifiable".into()), ..user() }, Verdict::Send { user_id: "U1" }),
            (Waiting { found_id: None, ..user() }, cancel("unlinked")),
            (Waiting { user_id: None, ..user() }, cancel("unlinked")),
            (Waiting::default(), cancel("unlinked")),
            // Answers to a person who wrote.
            (answer(), Verdict::Send { user_id: "U1" }),
            (Waiting { friend: Some("yes".into()), ..answer() }, Verdict::Send { user_id: "U1" }),
            (Waiting { friend: no(), ..answer() }, cancel("not_reachable")),
            (
                Waiting { friend: no(), friend_changed_at: ago(2), wrote_at: ago(1), ..answer() },
                Verdict::Send { user_id: "U1" },
            ),
            (
                Waiting { friend: no(), friend_changed_at: ago(1), wrote_at: ago(2), ..answer() },
                cancel("not_reachable"),
            ),
            (
                Waiting { friend: no(), friend_changed_at: ago(8), wrote_at: ago(7), ..answer() },
                cancel("not_reachable"),
            ),
        ] {
            assert_eq!(judge(&waiting, now), verdict, "{waiting:?}");
        }
    }

    #[test]
    fn the_body_is_json() {
        let body = body("U\"1", r#"[{"type":"text"}]"#).unwrap();
        let parsed: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(parsed, serde_json::json!({ "to": "U\"1", "messages": [{ "type": "text" }] }));
    }
}
