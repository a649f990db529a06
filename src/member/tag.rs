//! Tags (table `member_tags`): what the company calls some of its members by, to send to all of them.

use std::{collections::BTreeMap, sync::LazyLock};

use crate::{
    db::{Conn, Db, Rows},
    error::Result,
};

/// Tags that one member may have.
pub const AT_MOST: usize = 100;
const LONGEST: usize = 64;

/// Whether a tag may be so: 1 to 64 characters, none of them a control character, no space at its ends.
pub fn is_tag(tag: &str) -> bool {
    (1..=LONGEST).contains(&tag.chars().count()) && !tag.chars().any(char::is_control) && tag.trim() == tag
}

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

/// The tags of some members, by member, in their order.
pub async fn list(conn: &mut Conn, db: &Db, members: &[String]) -> Result<BTreeMap<String, Vec<String>>> {
    static SELECT: LazyLock<Rows> = LazyLock::new(|| {
        Rows::new("SELECT member_id, tag FROM member_tags WHERE member_id IN (VALUES", 1, ") ORDER BY member_id, tag")
    });
    let mut found = BTreeMap::<String, Vec<String>>::new();
    for (text, rows) in SELECT.pieces(db, members) {
        let mut select = sqlx::query_as::<_, (String, String)>(text);
        for id in rows {
            select = select.bind(id);
        }
        for (member_id, tag) in select.fetch_all(&mut *conn).await? {
            found.entry(member_id).or_default().push(tag);
        }
    }
    Ok(found)
}

/// Tags that members get, and others that they lose, as (member, tag).
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub new: Vec<(String, String)>,
    pub gone: Vec<(String, String)>,
}

/// Writes what changes; the members are held.
pub(super) async fn write(conn: &mut Conn, db: &Db, changes: &Changes) -> Result<()> {
    static INSERT: LazyLock<Rows> =
        LazyLock::new(|| Rows::new("INSERT INTO member_tags (member_id, tag) VALUES", 2, "ON CONFLICT DO NOTHING"));
    static DELETE: LazyLock<Rows> =
        LazyLock::new(|| Rows::new("DELETE FROM member_tags WHERE (member_id, tag) IN (VALUES", 2, ")"));
    for (rows, list) in [(&INSERT, &changes.new), (&DELETE, &changes.gone)] {
        for (text, rows) in LazyLock::force(rows).pieces(db, list) {
            let mut query = sqlx::query(text);
            for (member_id, tag) in rows {
                query = query.bind(member_id).bind(tag);
            }
            query.execute(&mut *conn).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_have_a_shape() {
        let long = "あ".repeat(64);
        for (tag, fits) in [("gold", true), ("ゴールド 会員", true), (&long, true), ("", false), (" a", false)] {
            assert_eq!(is_tag(tag), fits, "{tag:?}");
        }
        assert!(!is_tag(&format!("{long}あ")) && !is_tag("a\u{0}") && !is_tag("a\nb"));
    }
}
