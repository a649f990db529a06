//! Tags (table `member_tags`): what the company calls some of its members by, to send to all of them.

use crate::{db::Conn, error::Result};

/// Gives a member a tag; false where they had it.
pub async fn add(conn: &mut Conn, member_id: &str, tag: &str) -> Result<bool> {
    let added = sqlx::query("INSERT INTO member_tags (member_id, tag) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(member_id)
        .bind(tag)
        .execute(conn)
        .await?;
    Ok(added.rows_affected() == 1)
}

/// Takes a tag from a member; false where they had it not.
pub async fn remove(conn: &mut Conn, member_id: &str, tag: &str) -> Result<bool> {
    let removed = sqlx::query("DELETE FROM member_tags WHERE member_id = $1 AND tag = $2")
        .bind(member_id)
        .bind(tag)
        .execute(conn)
        .await?;
    Ok(removed.rows_affected() == 1)
}
