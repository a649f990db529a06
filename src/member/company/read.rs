//! Members as the company reads them: one, or page by page in the order of their making.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use crate::{
    db::{Conn, Db, Locking, Millis, Rows, with_lock},
    error::Result,
    member::{Member, attribute, tag},
};

/// All that is kept of a member for the company.
#[derive(Debug, Clone)]
pub struct Details {
    pub id: String,
    /// None of a member who signed up themselves.
    pub external_id: Option<String>,
    pub email: Option<String>,
    pub name: String,
    pub language: Option<String>,
    pub time_zone: Option<String>,
    /// Of their own, in place of the company's.
    pub quiet_hours: Option<String>,
    pub source: String,
    pub created_at: Millis,
    pub disabled_at: Option<Millis>,
    pub attributes: Map<String, Value>,
    pub tags: Vec<String>,
}

/// Which members a list is of: those for whom all of it holds.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Linked in this provider.
    pub linked: Option<String>,
    pub friend: Option<Friendship>,
    pub tag: Option<String>,
    /// Name, and the value's text: `12` finds the number and the text.
    pub attribute: Option<(String, String)>,
}

/// Linked in a channel's provider, and a friend of its official account or not.
#[derive(Debug, Clone)]
pub struct Friendship {
    pub provider: String,
    pub channel: String,
    /// `yes`, `no` or `unknown`.
    pub friend: String,
}

/// `$1` the member before, `$2` how many, `$3` a provider, `$4` to `$6` a channel's provider, the channel, friend or
/// not, `$7` a tag, `$8` and `$9` an attribute. What is not asked for is null. Not by EXISTS: PostgreSQL would read whole
/// tables for it, once.
macro_rules! members {
    ($from:literal, $id:literal) => {
        concat!(
            "SELECT ",
            $id,
            $from,
            " AND m.deleted_at IS NULL AND ",
            $id,
            " > $1
               AND (CAST($3 AS TEXT) IS NULL OR (
                 SELECT 1 FROM links n WHERE n.member_id = ",
            $id,
            " AND n.provider = $3 AND n.ended_at IS NULL LIMIT 1) IS NOT NULL)
               AND (CAST($5 AS TEXT) IS NULL OR (
                 SELECT 1 FROM links n LEFT JOIN friends f ON f.line_user_id = n.line_user_id AND f.channel = $5
                 WHERE n.member_id = ",
            $id,
            " AND n.provider = $4 AND n.ended_at IS NULL
                   AND COALESCE(f.friend, 'unknown') = $6 LIMIT 1) IS NOT NULL)
               AND (CAST($7 AS TEXT) IS NULL OR (
                 SELECT 1 FROM member_tags g WHERE g.member_id = ",
            $id,
            " AND g.tag = $7 LIMIT 1) IS NOT NULL)
               AND (CAST($8 AS TEXT) IS NULL OR (
                 SELECT 1 FROM member_attributes b
                 WHERE b.member_id = ",
            $id,
            " AND b.name = $8 AND b.value = $9 LIMIT 1) IS NOT NULL)
             ORDER BY ",
            $id,
            " LIMIT $2"
        )
    };
}

const OF_ALL: &str = members!(" FROM members m WHERE 1 = 1", "m.id");
const OF_ATTRIBUTE: &str = members!(
    " FROM member_attributes a CROSS JOIN members m WHERE m.id = a.member_id AND a.name = $8 AND a.value = $9",
    "a.member_id"
);
const OF_TAG: &str =
    members!(" FROM member_tags t CROSS JOIN members m WHERE m.id = t.member_id AND t.tag = $7", "t.member_id");
const OF_PROVIDER: &str = members!(
    " FROM links l CROSS JOIN members m WHERE m.id = l.member_id AND l.provider = $3 AND l.ended_at IS NULL",
    "l.member_id"
);

/// The statements of lists, for a test that reads their plans.
pub const STATEMENTS: [&str; 4] = [OF_ALL, OF_ATTRIBUTE, OF_TAG, OF_PROVIDER];

/// The next members after one's id (ours), so many at most.
pub async fn list(conn: &mut Conn, db: &Db, filter: &Filter, after: &str, most: i64) -> Result<Vec<Details>> {
    let statement = match filter {
        Filter { attribute: Some(_), .. } => OF_ATTRIBUTE,
        Filter { tag: Some(_), .. } => OF_TAG,
        Filter { linked: Some(_), .. } | Filter { friend: Some(_), .. } => OF_PROVIDER,
        Filter { .. } => OF_ALL,
    };
    let friend = filter.friend.as_ref();
    let ids: Vec<String> = sqlx::query_scalar(statement)
        .bind(after)
        .bind(most)
        .bind(filter.linked.as_ref().or(friend.map(|friend| &friend.provider)))
        .bind(friend.map(|friend| &friend.provider))
        .bind(friend.map(|friend| &friend.channel))
        .bind(friend.map(|friend| &friend.friend))
        .bind(&filter.tag)
        .bind(filter.attribute.as_ref().map(|(name, _)| name))
        .bind(filter.attribute.as_ref().map(|(_, value)| value))
        .fetch_all(&mut *conn)
        .await?;
    details(conn, db, &ids).await
}

/// All of some members, in the order of their ids.
pub async fn details(conn: &mut Conn, db: &Db, ids: &[String]) -> Result<Vec<Details>> {
    static SELECT: LazyLock<Rows> = LazyLock::new(|| {
        Rows::new(
            "SELECT id, external_id, email, name, locale, time_zone, quiet_hours, source, created_at, disabled_at FROM members
             WHERE deleted_at IS NULL AND id IN (VALUES",
            1,
            ") ORDER BY id",
        )
    });
    let mut attributes = attribute::values(conn, db, ids).await?;
    let mut tags = tag::list(conn, db, ids).await?;
    let mut found = Vec::new();
    for (text, rows) in SELECT.pieces(db, ids) {
        let mut select = sqlx::query_as::<_, Row>(text);
        for id in rows {
            select = select.bind(id);
        }
        for row in select.fetch_all(&mut *conn).await? {
            found.push(Details {
                attributes: attributes.remove(&row.id).unwrap_or_default(),
                tags: tags.remove(&row.id).unwrap_or_default(),
                id: row.id,
                external_id: row.external_id,
                email: Some(row.email).filter(|email| !email.is_empty()),
                name: row.name,
                language: row.locale,
                time_zone: row.time_zone,
                quiet_hours: row.quiet_hours,
                source: row.source,
                created_at: row.created_at,
                disabled_at: row.disabled_at,
            });
        }
    }
    Ok(found)
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    external_id: Option<String>,
    email: String,
    name: String,
    locale: Option<String>,
    time_zone: Option<String>,
    quiet_hours: Option<String>,
    source: String,
    created_at: Millis,
    disabled_at: Option<Millis>,
}

/// Our id of the company's member. Any text may be asked for: what cannot be an id is nobody's.
pub async fn find_id(conn: &mut Conn, external_id: &str) -> Result<Option<String>> {
    if !super::is_external_id(external_id) {
        return Ok(None);
    }
    let found = sqlx::query_scalar("SELECT id FROM members WHERE external_id = $1 AND deleted_at IS NULL")
        .bind(external_id)
        .fetch_optional(conn)
        .await?;
    Ok(found)
}

/// The company's member, disabled or not, held until the transaction ends as by [`member::hold`](crate::member::hold).
pub async fn hold(conn: &mut Conn, db: &Db, external_id: &str) -> Result<Option<Member>> {
    if !super::is_external_id(external_id) {
        return Ok(None);
    }
    let held = sqlx::query_as(db.locking(HOLD)).bind(external_id).fetch_optional(conn).await?;
    Ok(held)
}

const HOLD: Locking = with_lock!(
    "SELECT id, email, name, password_hash, locale, disabled_at FROM members
     WHERE external_id = $1 AND deleted_at IS NULL",
    "FOR NO KEY UPDATE"
);
