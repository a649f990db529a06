//! [`Job::EraseMember`](crate::queue::Job::EraseMember): takes what a deleted account's clean-up at LINE still needed,
//! once that is over.
//!
//! A LINE user whom another member linked meanwhile, or is about to, stays: it is theirs now.

mod contents;

use std::time::Duration;

use super::delete;
use crate::{
    app::App,
    audit,
    db::{Conn, Millis},
    error::Result,
    line_user,
    member::session,
    queue::Outcome,
    webhook,
};

/// How long an open clean-up is left alone before it is looked at again.
const PAUSE: Duration = Duration::from_secs(300);
/// How long somebody is kept who linked nothing.
const STRANGERS_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Erases, or says what it waits for. Never parks: a clean-up ends some day.
pub async fn run(app: &App, member_id: &str) -> Result<Outcome> {
    // What came for the person is found among the events only.
    webhook::unpack::all(app).await?;
    let now = app.now();
    let mut tx = app.db.begin().await?;
    if !is_deleted(&mut tx, member_id).await? {
        return Ok(Outcome::Done);
    }
    let line_users = list_line_users(&mut tx, member_id).await?;
    for line_user_id in &line_users {
        // Held from here on: nobody begins to link it while it is looked at.
        line_user::lock(&mut tx, line_user_id).await?;
        // Before it is asked what is on its way: a sender takes an answer before this, or not at all.
        if is_free(&mut tx, line_user_id).await? {
            cancel_answers(&mut tx, now, line_user_id).await?;
        }
    }
    contents::cancel_said(&mut tx, now, member_id).await?;
    if let Some(what) = find_open(&mut tx, now, member_id).await? {
        return Ok(Outcome::Retry { why: format!("still needed: {what}"), after: Some(PAUSE) });
    }
    for line_user_id in &line_users {
        if is_free(&mut tx, line_user_id).await? {
            contents::line_user(&mut tx, app, line_user_id).await?;
        }
    }
    session::end_all(&mut tx, member_id, None).await?;
    delete::forget(&mut tx, member_id).await?;
    contents::member(&mut tx, app, member_id).await?;
    let entry = audit::Entry { action: "erased", member_id: Some(member_id), ..Default::default() };
    audit::insert(&mut tx, now, entry).await?;
    tx.commit().await?;
    Ok(Outcome::Done)
}

async fn cancel_answers(conn: &mut Conn, now: Millis, line_user_id: &str) -> Result<()> {
    sqlx::query(
        "UPDATE deliveries SET state = 'cancelled', reason = 'erased', updated_at = $1
         WHERE line_user_id = $2 AND link_id IS NULL AND state = 'waiting'",
    )
    .bind(now)
    .bind(line_user_id)
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether there is anything to erase; a second run of the job finds nothing.
async fn is_deleted(conn: &mut Conn, member_id: &str) -> Result<bool> {
    let found: Option<String> = sqlx::query_scalar(
        "SELECT id FROM members WHERE id = $1 AND deleted_at IS NOT NULL
           AND NOT EXISTS (SELECT 1 FROM audit WHERE member_id = $1 AND action = 'erased')",
    )
    .bind(member_id)
    .fetch_optional(conn)
    .await?;
    Ok(found.is_some())
}

/// Erases people who proved a LINE account here, or met an official account, and linked nothing, a day later, some at a
/// time; gives their number. Friends of an official account stay, and whoever wrote, as long as that is kept.
pub async fn prune(app: &App) -> Result<u64> {
    webhook::unpack::all(app).await?;
    let now = app.now();
    let ids = list_strangers(&mut *app.db.conn().await?, now).await?;
    for id in &ids {
        // One transaction each: their events are looked for among all.
        let mut tx = app.db.begin().await?;
        line_user::lock(&mut tx, id).await?;
        if is_stranger(&mut tx, now, id).await? {
            contents::line_user(&mut tx, app, id).await?;
        }
        tx.commit().await?;
    }
    Ok(ids.len() as u64)
}

/// Who linked nothing, is no friend, wrote nothing, and waits for nothing; with one more condition.
macro_rules! strangers {
    ($more:literal) => {
        concat!(
            "SELECT u.id FROM line_users u
             WHERE NOT EXISTS (SELECT 1 FROM friends f WHERE f.line_user_id = u.id AND f.friend = 'yes')
               AND u.profile_at < $1 AND u.created_at < $1 AND u.user_id NOT LIKE 'erased:%'
               AND NOT EXISTS (SELECT 1 FROM links l WHERE l.line_user_id = u.id)
               AND NOT EXISTS (SELECT 1 FROM grants g WHERE g.line_user_id = u.id AND g.ended_at IS NULL)
               AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.line_user_id = u.id AND a.outcome = 'confirming')
               AND NOT EXISTS (SELECT 1 FROM chat_messages c WHERE c.line_user_id = u.id)
               AND NOT EXISTS (SELECT 1 FROM answers w WHERE w.line_user_id = u.id
                 AND w.state IN ('waiting', 'replying'))
               AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.line_user_id = u.id AND d.link_id IS NULL
                 AND d.state IN ('waiting', 'sending'))
               AND NOT EXISTS (SELECT 1 FROM account_links k WHERE k.line_user_id = u.id AND k.ended_at IS NULL
                 AND k.expires_at > $1)
               AND u.user_id NOT IN (SELECT e.chat FROM events e WHERE e.state = 'waiting')",
            $more
        )
    };
}

async fn list_strangers(conn: &mut Conn, now: Millis) -> Result<Vec<String>> {
    let ids = sqlx::query_scalar(strangers!(" ORDER BY u.id LIMIT 100"))
        .bind(now.minus(STRANGERS_KEPT))
        .fetch_all(conn)
        .await?;
    Ok(ids)
}

async fn is_stranger(conn: &mut Conn, now: Millis, line_user_id: &str) -> Result<bool> {
    let found: Option<String> = sqlx::query_scalar(strangers!(" AND u.id = $2"))
        .bind(now.minus(STRANGERS_KEPT))
        .bind(line_user_id)
        .fetch_optional(conn)
        .await?;
    Ok(found.is_some())
}

/// In the order of their ids, in which all who hold several take them.
async fn list_line_users(conn: &mut Conn, member_id: &str) -> Result<Vec<String>> {
    let ids = sqlx::query_scalar("SELECT DISTINCT line_user_id FROM links WHERE member_id = $1 ORDER BY line_user_id")
        .bind(member_id)
        .fetch_all(conn)
        .await?;
    Ok(ids)
}

/// What must be over first, each with the statement that finds it open. Those who wait for a yes come before the links
/// are looked at: a yes at this moment is seen as the one or the other. A step left to the person counts as over.
const OPEN: [(&str, &str); 12] = [
    (
        "a link that waits for a yes",
        "SELECT a.id FROM attempts a JOIN links l ON l.line_user_id = a.line_user_id
         WHERE l.member_id = $1 AND a.outcome = 'confirming' AND a.created_at <= $2 LIMIT 1",
    ),
    (
        "a link begun in a chat",
        "SELECT a.id FROM account_links a JOIN links l ON l.line_user_id = a.line_user_id
         WHERE l.member_id = $1 AND a.member_id <> $1 AND a.ended_at IS NULL AND a.expires_at > $2 LIMIT 1",
    ),
    (
        "the clean-up at LINE",
        "SELECT s.link_id FROM unlink_steps s JOIN links o ON o.id = s.link_id
         WHERE s.state = 'pending' AND o.created_at <= $2
           AND o.line_user_id IN (SELECT line_user_id FROM links WHERE member_id = $1)
           AND NOT EXISTS (SELECT 1 FROM links n WHERE n.line_user_id = o.line_user_id AND n.ended_at IS NULL) LIMIT 1",
    ),
    (
        "tokens at LINE",
        "SELECT g.id FROM grants g JOIN links l ON l.id = g.link_id
         WHERE l.member_id = $1 AND g.ended_at IS NULL AND g.created_at <= $2 LIMIT 1",
    ),
    (
        "a menu at LINE",
        "SELECT j.id FROM jobs j JOIN links l ON l.line_user_id = j.subject
         WHERE l.member_id = $1 AND j.kind = 'user_menu' AND j.ended_at IS NULL AND j.parked_at IS NULL
           AND j.created_at <= $2
           AND NOT EXISTS (SELECT 1 FROM links n WHERE n.line_user_id = l.line_user_id AND n.ended_at IS NULL) LIMIT 1",
    ),
    (
        "a message on its way",
        "SELECT d.message_id FROM links l JOIN deliveries d ON d.link_id = l.id
         WHERE l.member_id = $1 AND d.state IN ('waiting', 'sending') LIMIT 1",
    ),
    (
        "a message to who had the LINE account before",
        "SELECT d.message_id FROM links l JOIN links o ON o.line_user_id = l.line_user_id
         JOIN deliveries d ON d.link_id = o.id
         WHERE l.member_id = $1 AND d.state = 'sending'
           AND NOT EXISTS (SELECT 1 FROM links n WHERE n.line_user_id = l.line_user_id AND n.ended_at IS NULL) LIMIT 1",
    ),
    (
        "an answer on its way",
        "SELECT d.message_id FROM deliveries d WHERE d.link_id IS NULL AND d.state = 'sending'
           AND d.line_user_id IN (SELECT line_user_id FROM links WHERE member_id = $1) LIMIT 1",
    ),
    (
        "an event that waits",
        "SELECT e.id FROM events e WHERE e.state = 'waiting' AND e.received_at <= $2 AND e.chat IN (
           SELECT u.user_id FROM links l JOIN line_users u ON u.id = l.line_user_id WHERE l.member_id = $1
             AND NOT EXISTS (SELECT 1 FROM links n WHERE n.line_user_id = u.id AND n.ended_at IS NULL)) LIMIT 1",
    ),
    (
        // Whose it is says only its body. Later ones are of somebody who came back.
        "an event of a group that waits",
        "SELECT e.id FROM events e WHERE e.state = 'waiting' AND (e.chat LIKE 'C%' OR e.chat LIKE 'R%')
           AND e.received_at <= (SELECT deleted_at FROM members WHERE id = $1 AND deleted_at <= $2) LIMIT 1",
    ),
    (
        // It ends within some days; of one that nobody takes the endpoint is disabled.
        "a hook that tells of the end",
        "SELECT e.id FROM hook_events e JOIN hook_deliveries d ON d.event_id = e.id
         JOIN hook_endpoints p ON p.id = d.endpoint_id
         WHERE e.member_id = $1 AND e.type = 'link.ended' AND d.state = 'waiting' AND d.created_at <= $2
           AND p.disabled_at IS NULL LIMIT 1",
    ),
    ("a mail", "SELECT id FROM mails WHERE member_id = $1 AND state = 'waiting' AND drop_at > $2 LIMIT 1"),
];

async fn find_open(conn: &mut Conn, now: Millis, member_id: &str) -> Result<Option<&'static str>> {
    for (what, statement) in OPEN {
        let open: Option<String> =
            sqlx::query_scalar(statement).bind(member_id).bind(now).fetch_optional(&mut *conn).await?;
        if open.is_some() {
            return Ok(Some(what));
        }
    }
    Ok(None)
}

/// Whether no active link uses the LINE user.
async fn is_free(conn: &mut Conn, line_user_id: &str) -> Result<bool> {
    let used: Option<String> = sqlx::query_scalar("SELECT id FROM links WHERE line_user_id = $1 AND ended_at IS NULL")
        .bind(line_user_id)
        .fetch_optional(conn)
        .await?;
    Ok(used.is_none())
}
