//! What waits: a delivery and what is true of its recipient now, whether it may still be sent, and how it ends or waits on
//! without a request.

use std::time::Duration;

use crate::{
    app::App,
    db::{Conn, Locking, Millis, with_lock},
    error::Result,
    message::{addressee::Person, order::Lane},
};

/// LINE lets somebody who is no friend be written to for so long after they wrote.
const WROTE: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long a person's later messages wait for an earlier one that cannot be sent.
const HELD: Duration = Duration::from_secs(600);

/// A waiting delivery, and what is true of its recipient now.
#[derive(Debug, Default, sqlx::FromRow)]
pub struct Waiting {
    pub message_id: String,
    pub seq: i64,
    /// None where the message has it, or it is rendered now.
    pub content: Option<String>,
    pub reason: Option<String>,
    pub attempts: i64,
    #[sqlx(flatten)]
    pub person: Person,
    pub user_id: Option<String>,
    /// None for an answer to a person who wrote, linked or not.
    pub link_id: Option<String>,
    /// The link itself.
    pub found_id: Option<String>,
    pub ended_at: Option<Millis>,
    /// The message was taken back, or its topic is not wanted.
    pub cancelled_at: Option<Millis>,
    pub opted_out_at: Option<Millis>,
    pub suspended_at: Option<Millis>,
    pub disabled_at: Option<Millis>,
    pub permission: Option<String>,
    pub friend: Option<String>,
    pub friend_changed_at: Option<Millis>,
    /// When the recipient last wrote in their own chat with this official account, by LINE's time.
    pub wrote_at: Option<Millis>,
}

/// What is due in a lane, as many as there is room for or fewer, first what is due first.
pub(super) async fn list(
    app: &App,
    conn: &mut Conn,
    lane: Lane,
    channel: &str,
    now: Millis,
    limit: usize,
) -> Result<Vec<Waiting>> {
    let texts = match lane {
        Lane::Transactional => &TRANSACTIONAL,
        Lane::Bulk => &BULK,
    };
    // The largest that has room.
    let Some((_, statement)) = texts.iter().find(|(most, _)| *most <= limit) else { return Ok(Vec::new()) };
    let list = sqlx::query_as(app.db.locking(*statement)).bind(channel).bind(now).bind(now.minus(HELD));
    Ok(list.fetch_all(conn).await?)
}

/// What is due in a lane, `$most` at a time. The number stands in the text: PostgreSQL plans a statement without knowing
/// its parameters, and for many rows it would go through whole tables; for the same reason the earlier ones are asked for
/// person by person. An earlier one of `$earlier` that is not over holds a person's later ones, for a while.
macro_rules! waiting {
    ($lane:literal, $most:literal, $earlier:literal) => {
        (
            $most,
            with_lock!(
                "SELECT d.message_id, d.seq, d.content, d.reason, d.attempts, g.cancelled_at, o.created_at AS opted_out_at,
                   d.link_id, u.user_id, u.language,
                   COALESCE(m.name, '') AS name, m.external_id, m.locale, m.time_zone, m.quiet_hours, m.id AS member_id,
                   l.id AS found_id, l.ended_at, l.suspended_at, l.permission, m.disabled_at,
                   f.friend, f.changed_at AS friend_changed_at,
                   CASE WHEN d.link_id IS NULL AND f.friend = 'no' THEN
                     (SELECT MAX(c.at) FROM chat_messages c WHERE c.channel = d.channel AND c.chat = u.user_id)
                     END AS wrote_at
                 FROM deliveries d
                 JOIN messages g ON g.id = d.message_id
                 LEFT JOIN links l ON l.id = d.link_id
                 LEFT JOIN topic_opt_outs o ON o.member_id = l.member_id AND o.topic = g.topic
                 LEFT JOIN line_users u ON u.id = d.line_user_id
                 LEFT JOIN members m ON m.id = l.member_id
                 LEFT JOIN friends f ON f.line_user_id = d.line_user_id AND f.channel = d.channel
                 WHERE d.channel = $1 AND d.state = 'waiting' AND d.due_at <= $2 AND d.lane = " $lane "
                   AND (SELECT e.seq FROM deliveries e
                     WHERE e.channel = d.channel AND e.line_user_id = d.line_user_id AND e.order_at > $3
                       AND (e.order_at < d.order_at OR (e.order_at = d.order_at AND e.message_id < d.message_id))
                       AND e.state IN ('waiting', 'sending') AND " $earlier " LIMIT 1) IS NULL
                 ORDER BY d.due_at, d.message_id, d.seq LIMIT " $most,
                "FOR UPDATE OF d SKIP LOCKED"
            ),
        )
    };
}

/// What a person is told one by one comes in its order.
const TRANSACTIONAL: [(usize, Locking); 4] = [
    waiting!("'transactional'", 256, "e.lane = 'transactional'"),
    waiting!("'transactional'", 64, "e.lane = 'transactional'"),
    waiting!("'transactional'", 8, "e.lane = 'transactional'"),
    waiting!("'transactional'", 1, "e.lane = 'transactional'"),
];

/// In bulk what was tried before and is not over comes first.
const BULK: [(usize, Locking); 4] = [
    waiting!("'bulk'", 4000, "e.retried_at IS NOT NULL AND e.lane = 'bulk'"),
    waiting!("'bulk'", 500, "e.retried_at IS NOT NULL AND e.lane = 'bulk'"),
    waiting!("'bulk'", 256, "e.retried_at IS NOT NULL AND e.lane = 'bulk'"),
    waiting!("'bulk'", 64, "e.retried_at IS NOT NULL AND e.lane = 'bulk'"),
];

/// The statements over what waits, for a test that reads their plans.
pub const STATEMENTS: [Locking; 2] = [TRANSACTIONAL[0].1, BULK[1].1];

/// Why a waiting delivery may not be sent any more. Not known to be a non-friend is reachable: unknown is sent to.
pub(super) fn left_out(waiting: &Waiting, now: Millis) -> Option<&'static str> {
    let is_linked = waiting.link_id.is_some();
    let is_reachable = waiting.friend.as_deref() != Some("no") || (!is_linked && may_be_answered(waiting, now));
    if waiting.user_id.is_none() {
        Some("unlinked")
    } else if waiting.cancelled_at.is_some() {
        Some("cancelled")
    } else if waiting.opted_out_at.is_some() {
        Some("opted_out")
    } else if is_linked && (waiting.found_id.is_none() || waiting.ended_at.is_some()) {
        Some("unlinked")
    } else if is_linked && waiting.suspended_at.is_some() {
        Some("suspended")
    } else if is_linked && waiting.disabled_at.is_some() {
        Some("member_disabled")
    } else if is_linked && waiting.permission.as_deref() == Some("withdrawn") {
        Some("consent_withdrawn")
    } else if !is_reachable {
        Some("not_reachable")
    } else {
        None
    }
}

/// Who writes without being a friend may be answered. Who blocked the account after writing may not.
fn may_be_answered(waiting: &Waiting, now: Millis) -> bool {
    waiting.wrote_at.is_some_and(|wrote_at| {
        wrote_at > now.minus(WROTE) && waiting.friend_changed_at.is_none_or(|changed_at| changed_at < wrote_at)
    })
}

/// Leaves a delivery for later.
pub(super) async fn postpone(conn: &mut Conn, now: Millis, waiting: &Waiting, later: Millis) -> Result<()> {
    sqlx::query("UPDATE deliveries SET due_at = $1, updated_at = $2 WHERE message_id = $3 AND seq = $4")
        .bind(later)
        .bind(now)
        .bind(&waiting.message_id)
        .bind(waiting.seq)
        .execute(conn)
        .await?;
    Ok(())
}

/// Ends a delivery that is not sent.
pub(super) async fn end(
    conn: &mut Conn,
    now: Millis,
    waiting: &Waiting,
    state: &str,
    reason: &str,
    note: Option<&str>,
) -> Result<()> {
    sqlx::query(
        "UPDATE deliveries SET state = $1, reason = $2, note = $3, updated_at = $4 WHERE message_id = $5 AND seq = $6",
    )
    .bind(state)
    .bind(reason)
    .bind(note)
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
        let cancel = Some;
        for (waiting, verdict) in [
            (user(), None),
            (Waiting { friend: Some("yes".into()), ..user() }, None),
            (Waiting { friend: Some("unknown".into()), ..user() }, None),
            (Waiting { friend: no(), ..user() }, cancel("not_reachable")),
            (Waiting { friend: no(), wrote_at: ago(0), ..user() }, cancel("not_reachable")),
            (Waiting { ended_at: at, friend: no(), ..user() }, cancel("unlinked")),
            (Waiting { cancelled_at: at, ..user() }, cancel("cancelled")),
            (Waiting { opted_out_at: at, ..user() }, cancel("opted_out")),
            (Waiting { suspended_at: at, ..user() }, cancel("suspended")),
            (Waiting { disabled_at: at, ..user() }, cancel("member_disabled")),
            (Waiting { permission: Some("withdrawn".into()), ..user() }, cancel("consent_withdrawn")),
            (Waiting { permission: Some("unverifiable".into()), ..user() }, None),
            (Waiting { found_id: None, ..user() }, cancel("unlinked")),
            (Waiting { user_id: None, ..user() }, cancel("unlinked")),
            (Waiting::default(), cancel("unlinked")),
            // Answers to a person who wrote.
            (answer(), None),
            (Waiting { friend: Some("yes".into()), ..answer() }, None),
            (Waiting { friend: no(), ..answer() }, cancel("not_reachable")),
            (Waiting { friend: no(), friend_changed_at: ago(2), wrote_at: ago(1), ..answer() }, None),
            (
                Waiting { friend: no(), friend_changed_at: ago(1), wrote_at: ago(2), ..answer() },
                cancel("not_reachable"),
            ),
            (
                Waiting { friend: no(), friend_changed_at: ago(8), wrote_at: ago(7), ..answer() },
                cancel("not_reachable"),
            ),
        ] {
            assert_eq!(left_out(&waiting, now), verdict, "{waiting:?}");
        }
    }
}
