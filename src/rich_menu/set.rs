//! What was applied to a channel (tables `menu_sets`, `set_menus`).

use super::rule::Rule;
use crate::{
    db::{Conn, Millis},
    error::{Error, Result},
};

/// What was applied to a channel, in the order in which rules are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    pub version: i64,
    pub menus: Vec<Applied>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Of the file.
    pub name: String,
    /// Empty where the file knows one only.
    pub language: String,
    pub hash: String,
    /// Tabs that count as equal.
    pub group: String,
    /// LINE's alias id of this variant.
    pub alias: Option<String>,
    /// Of the file: the same for all variants.
    pub rule: Rule,
    /// At LINE, with its image.
    pub rich_menu_id: String,
}

#[derive(sqlx::FromRow)]
struct Row {
    version: i64,
    name: String,
    language: String,
    hash: String,
    tab_group: String,
    alias: Option<String>,
    rule: String,
    rich_menu_id: String,
}

/// The set of a channel; none where nothing was ever applied.
pub async fn current(conn: &mut Conn, channel: &str) -> Result<Option<Set>> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT s.version, m.name, m.language, m.hash, m.tab_group, m.alias, m.rule, r.rich_menu_id
         FROM menu_sets s
         JOIN set_menus m ON m.channel = s.channel
         JOIN rich_menus r ON r.channel = m.channel AND r.name = m.name AND r.hash = m.hash
         WHERE s.channel = $1 ORDER BY m.position",
    )
    .bind(channel)
    .fetch_all(conn)
    .await?;
    let Some(version) = rows.first().map(|row| row.version) else { return Ok(None) };
    let applied = |row: Row| {
        Ok(Applied {
            rule: serde_json::from_str(&row.rule)?,
            name: row.name,
            language: row.language,
            hash: row.hash,
            group: row.tab_group,
            alias: row.alias,
            rich_menu_id: row.rich_menu_id,
        })
    };
    let menus = rows.into_iter().map(applied).collect::<Result<_, Error>>()?;
    Ok(Some(Set { version, menus }))
}

/// Stores what was applied, where it differs from what is stored.
pub(super) async fn store(conn: &mut Conn, now: Millis, channel: &str, menus: &[Applied]) -> Result<()> {
    if current(conn, channel).await?.is_some_and(|set| set.menus == menus) {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO menu_sets (channel, version, applied_at) VALUES ($1, 1, $2)
         ON CONFLICT (channel) DO UPDATE SET version = menu_sets.version + 1, applied_at = excluded.applied_at",
    )
    .bind(channel)
    .bind(now)
    .execute(&mut *conn)
    .await?;
    sqlx::query("DELETE FROM set_menus WHERE channel = $1").bind(channel).execute(&mut *conn).await?;
    for (position, menu) in menus.iter().enumerate() {
        insert(conn, channel, i64::try_from(position).unwrap_or(i64::MAX), menu).await?;
    }
    Ok(())
}

async fn insert(conn: &mut Conn, channel: &str, position: i64, menu: &Applied) -> Result<()> {
    sqlx::query(
        "INSERT INTO set_menus (channel, name, language, position, hash, tab_group, alias, rule)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(channel)
    .bind(&menu.name)
    .bind(&menu.language)
    .bind(position)
    .bind(&menu.hash)
    .bind(&menu.group)
    .bind(&menu.alias)
    .bind(serde_json::to_string(&menu.rule)?)
    .execute(conn)
    .await?;
    Ok(())
}
