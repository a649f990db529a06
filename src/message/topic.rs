//! Topics (table `topic_opt_outs`): what a member does not want to hear of.

use crate::{
    audit,
    db::{Conn, Millis},
    error::Result,
};

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
