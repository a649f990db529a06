//! An audience, gone through in batches: who is in it, who of them may be sent something, and why not the others.
//!
//! All that are linked come in the order of their links, those of a tag in the order of the members. Links that began
//! after the message are passed over, so that nobody who links anew is sent it twice.

use std::collections::BTreeMap;

use super::order::Audience;
use crate::{
    app::App,
    db::{Conn, Millis},
    error::Result,
};

/// A message on its way to its audience.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub provider: String,
    pub channel: String,
    pub topic: Option<String>,
    pub to: Audience,
    /// When the message was accepted.
    pub accepted_at: Millis,
}

/// The next part of an audience: after one id, up to another.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub after: String,
    pub to: String,
    /// How many are looked at.
    pub size: i64,
}

/// What the deliveries of a batch have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct New<'a> {
    pub message_id: &'a str,
    /// The number of the first one.
    pub seq: i64,
    pub lane: &'a str,
    pub order_at: Millis,
    pub due_at: Millis,
    pub now: Millis,
}

impl Target {
    pub fn new(app: &App, channel: &str, topic: Option<String>, to: Audience, accepted_at: Millis) -> Self {
        let provider = app.config.channel.get(channel).map(|channel| channel.provider.clone()).unwrap_or_default();
        Self { provider, channel: channel.to_owned(), topic, to, accepted_at }
    }
}

pub(super) const NEXT_OF_ALL: &str = "SELECT MAX(id), CAST(COUNT(*) AS BIGINT) FROM (
    SELECT id FROM links WHERE ended_at IS NULL AND provider = $1 AND id > $2 ORDER BY id LIMIT $3) b";
pub(super) const NEXT_OF_TAG: &str = "SELECT MAX(member_id), CAST(COUNT(*) AS BIGINT) FROM (
    SELECT member_id FROM member_tags WHERE tag = $1 AND member_id > $2 ORDER BY member_id LIMIT $3) b";

/// Statements over a batch: `$1` provider, `$2` to `$3` the batch, `$4` when the message was accepted, `$5` channel,
/// `$6` topic.
macro_rules! over_all {
    ($head:expr, $tail:expr) => {
        concat!(
            $head,
            " FROM links l WHERE l.ended_at IS NULL AND l.provider = $1 AND l.id > $2 AND l.id <= $3
                AND l.created_at <= $4",
            $tail
        )
    };
}

macro_rules! over_tag {
    ($head:expr, $tag:literal, $tail:expr) => {
        concat!(
            $head,
            " FROM member_tags t
              LEFT JOIN links l ON l.member_id = t.member_id AND l.provider = $1 AND l.ended_at IS NULL
                AND l.created_at <= $4 AND l.member_id > $2 AND l.member_id <= $3
              WHERE t.member_id > $2 AND t.member_id <= $3 AND t.tag = ",
            $tag,
            $tail
        )
    };
}

/// Why a link is left out: 1, or null. Each is looked for person by person, so that PostgreSQL never compares all with all;
/// and by being neither less nor more: at `=` SQLite always takes the primary key, and reads the rows of a million instead
/// of looking among the few in `members_disabled` and `friends_lost`.
macro_rules! disabled {
    () => {
        "(SELECT 1 FROM members m
           WHERE m.id >= l.member_id AND m.id <= l.member_id AND m.disabled_at IS NOT NULL LIMIT 1)"
    };
}

macro_rules! lost {
    () => {
        "(SELECT 1 FROM friends f WHERE f.line_user_id >= l.line_user_id AND f.line_user_id <= l.line_user_id
           AND f.channel = $5 AND f.friend = 'no' LIMIT 1)"
    };
}

macro_rules! opted_out {
    () => {
        "(SELECT 1 FROM topic_opt_outs o WHERE o.member_id = l.member_id AND o.topic = $6 LIMIT 1)"
    };
}

macro_rules! reasons {
    ($over:ident $(, $tag:literal)?) => {
        concat!(
            "SELECT reason, CAST(COUNT(*) AS BIGINT) FROM (",
            $over!(
                concat!(
                    "SELECT CASE WHEN l.id IS NULL THEN 'not_linked' WHEN l.suspended_at IS NOT NULL THEN 'suspended'
                       WHEN ", disabled!(), " = 1 THEN 'member_disabled'
                       WHEN l.permission = 'withdrawn' THEN 'consent_withdrawn'
                       WHEN ", lost!(), " = 1 THEN 'not_reachable'
                       WHEN ", opted_out!(), " = 1 THEN 'opted_out' END AS reason"
                ),
                $($tag,)?
                ""
            ),
            ") r GROUP BY reason"
        )
    };
}

/// Of a batch those without a reason.
macro_rules! may_be_sent {
    ($tail:literal) => {
        concat!(
            " AND l.id IS NOT NULL AND l.suspended_at IS NULL AND l.permission <> 'withdrawn' AND ",
            disabled!(),
            " IS NULL AND ",
            lost!(),
            " IS NULL AND ",
            opted_out!(),
            " IS NULL",
            $tail
        )
    };
}

macro_rules! first {
    ($over:ident $(, $tag:literal)?) => {
        $over!("SELECT l.member_id", $($tag,)? may_be_sent!(" ORDER BY l.id LIMIT 1"))
    };
}

macro_rules! insert {
    ($over:ident $(, $tag:literal)?) => {
        $over!(
            "INSERT INTO deliveries (message_id, seq, channel, lane, member_id, line_user_id, link_id, state, attempts,
               order_at, due_at, created_at, updated_at)
             SELECT $7, CAST($8 AS BIGINT) + ROW_NUMBER() OVER (ORDER BY l.id) - 1, $5, $9, l.member_id, l.line_user_id,
               l.id, 'waiting', 0, CAST($10 AS BIGINT), CAST($11 AS BIGINT), CAST($12 AS BIGINT), CAST($12 AS BIGINT)",
            $($tag,)?
            may_be_sent!("")
        )
    };
}

const REASONS_OF_ALL: &str = reasons!(over_all);
const REASONS_OF_TAG: &str = reasons!(over_tag, "$7");
const FIRST_OF_ALL: &str = first!(over_all);
const FIRST_OF_TAG: &str = first!(over_tag, "$7");
const INSERT_ALL: &str = insert!(over_all);
const INSERT_TAG: &str = insert!(over_tag, "$13");

/// The statements that go over an audience, for a test that reads their plans.
pub const STATEMENTS: [&str; 6] = [NEXT_OF_ALL, NEXT_OF_TAG, REASONS_OF_ALL, REASONS_OF_TAG, INSERT_ALL, INSERT_TAG];

/// The next `most` after an id; none where nobody is left.
pub(super) async fn next(conn: &mut Conn, target: &Target, after: &str, most: i64) -> Result<Option<Batch>> {
    let (statement, of) = match &target.to {
        Audience::Tag(tag) => (NEXT_OF_TAG, tag),
        Audience::All | Audience::Member(_) | Audience::Members(_) => (NEXT_OF_ALL, &target.provider),
    };
    let (to, size): (Option<String>, i64) =
        sqlx::query_as(statement).bind(of).bind(after).bind(most).fetch_one(conn).await?;
    Ok(to.map(|to| Batch { after: after.to_owned(), to, size }))
}

/// How many of a batch may be sent the message (no reason), and how many not, by reason.
pub(super) async fn count(conn: &mut Conn, target: &Target, batch: &Batch) -> Result<(i64, BTreeMap<String, i64>)> {
    let statement = if matches!(target.to, Audience::Tag(_)) { REASONS_OF_TAG } else { REASONS_OF_ALL };
    let mut query = sqlx::query_as::<_, (Option<String>, i64)>(statement)
        .bind(&target.provider)
        .bind(&batch.after)
        .bind(&batch.to)
        .bind(target.accepted_at)
        .bind(&target.channel)
        .bind(&target.topic);
    if let Audience::Tag(tag) = &target.to {
        query = query.bind(tag);
    }
    let (mut accepted, mut left_out) = (0, BTreeMap::new());
    for (reason, recipients) in query.fetch_all(conn).await? {
        match reason {
            None => accepted = recipients,
            Some(reason) => drop(left_out.insert(reason, recipients)),
        }
    }
    Ok((accepted, left_out))
}

/// One of a batch who may be sent the message.
pub(super) async fn find_first(conn: &mut Conn, target: &Target, batch: &Batch) -> Result<Option<String>> {
    let statement = if matches!(target.to, Audience::Tag(_)) { FIRST_OF_TAG } else { FIRST_OF_ALL };
    let mut query = sqlx::query_scalar(statement)
        .bind(&target.provider)
        .bind(&batch.after)
        .bind(&batch.to)
        .bind(target.accepted_at)
        .bind(&target.channel)
        .bind(&target.topic);
    if let Audience::Tag(tag) = &target.to {
        query = query.bind(tag);
    }
    Ok(query.fetch_optional(conn).await?)
}

/// Adds the deliveries of a batch to all who may be sent the message; gives their number.
pub(super) async fn insert(conn: &mut Conn, target: &Target, batch: &Batch, new: &New<'_>) -> Result<i64> {
    let statement = if matches!(target.to, Audience::Tag(_)) { INSERT_TAG } else { INSERT_ALL };
    let mut query = sqlx::query(statement)
        .bind(&target.provider)
        .bind(&batch.after)
        .bind(&batch.to)
        .bind(target.accepted_at)
        .bind(&target.channel)
        .bind(&target.topic)
        .bind(new.message_id)
        .bind(new.seq)
        .bind(new.lane)
        .bind(new.order_at)
        .bind(new.due_at)
        .bind(new.now);
    if let Audience::Tag(tag) = &target.to {
        query = query.bind(tag);
    }
    let inserted = query.execute(conn).await?;
    Ok(i64::try_from(inserted.rows_affected()).unwrap_or(i64::MAX))
}
