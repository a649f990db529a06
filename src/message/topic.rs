//! Topics (table `topic_opt_outs`): what a member does not want to hear of.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use super::order::is_word;
use crate::{
    audit,
    db::{Conn, Db, Millis, Rows},
    error::Result,
};

/// Longer names are none.
const LONGEST: usize = 64;

/// Whether a topic may be called so.
pub fn is_topic(topic: &str) -> bool {
    is_word(topic, LONGEST)
}

/// The topics that some members do not want to hear of, by member, in their order.
pub async fn list(conn: &mut Conn, db: &Db, members: &[String]) -> Result<BTreeMap<String, Vec<String>>> {
    static SELECT: LazyLock<Rows> = LazyLock::new(|| {
        Rows::new(
            "SELECT member_id, topic FROM topic_opt_outs WHERE member_id IN (VALUES",
            1,
            ") ORDER BY member_id, topic",
        )
    });
    let mut found = BTreeMap::<String, Vec<String>>::new();
    for (text, rows) in SELECT.pieces(db, members) {
        let mut select = sqlx::query_as::<_, (String, String)>(text);
        for id in rows {
            select = select.bind(id);
        }
        for (member_id, topic) in select.fetch_all(&mut *conn).await? {
            found.entry(member_id).or_default().push(topic);
        }
    }
    Ok(found)
}

/// Lets a member hear of everything but these topics; false where it was so before.
pub async fn replace(conn: &mut Conn, db: &Db, now: Millis, member_id: &str, topics: &[String]) -> Result<bool> {
    let before = list(conn, db, &[member_id.to_owned()]).await?.remove(member_id).unwrap_or_default();
    let (before, wanted): (BTreeSet<_>, BTreeSet<_>) = (before.iter().collect(), topics.iter().collect());
    for topic in wanted.difference(&before) {
        opt_out(conn, now, member_id, topic).await?;
    }
    for topic in before.difference(&wanted) {
        opt_in(conn, now, member_id, topic).await?;
    }
    Ok(before != wanted)
}

/// Sends this member nothing more on a topic; what waits is cancelled. False where it was so before.
pub async fn opt_out(conn: &mut Conn, now: Millis, member_id: &str, topic: &str) -> Result<bool> {
    let set = sqlx::query(
        "INSERT INTO topic_opt_outs (member_id, topic, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    )
    .bind(member_id)
    .bind(topic)
    .bind(now)
    .execute(&mut *conn)
    .await?;
    if set.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query(
        "UPDATE deliveries SET state = 'cancelled', reason = 'opted_out', updated_at = $1
         WHERE state = 'waiting' AND link_id IN (SELECT l.id FROM links l WHERE l.member_id = $2)
           AND EXISTS (SELECT 1 FROM messages m WHERE m.id = deliveries.message_id AND m.topic = $3)",
    )
    .bind(now)
    .bind(member_id)
    .bind(topic)
    .execute(&mut *conn)
    .await?;
    tell(conn, now, "topic_opted_out", member_id, topic).await?;
    Ok(true)
}

/// From now on this member is sent messages on a topic again. False where it was so before.
pub async fn opt_in(conn: &mut Conn, now: Millis, member_id: &str, topic: &str) -> Result<bool> {
    let set = sqlx::query("DELETE FROM topic_opt_outs WHERE member_id = $1 AND topic = $2")
        .bind(member_id)
        .bind(topic)
        .execute(&mut *conn)
        .await?;
    if set.rows_affected() == 0 {
        return Ok(false);
    }
    tell(conn, now, "topic_opted_in", member_id, topic).await?;
    Ok(true)
}

async fn tell(conn: &mut Conn, now: Millis, action: &str, member_id: &str, topic: &str) -> Result<()> {
    let entry = audit::Entry { action, member_id: Some(member_id), subject: Some(topic), ..audit::Entry::default() };
    audit::insert(conn, now, entry).await
}
