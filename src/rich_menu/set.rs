//! What was applied to a channel (tables `menu_sets`, `set_menus`): the truth that its people are brought to, whatever
//! files a node has. A set changes as a whole, in one transaction, with its version.

use super::rule::Rule;
use crate::{
    db::{Conn, Millis},
    error::Result,
};

/// What was applied to a channel, in the order in which rules are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// One more with each change.
    pub version: i64,
    pub menus: Vec<Applied>,
}

/// A file in one of its languages, as a menu at LINE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Of the file.
    pub name: String,
    /// Empty where the file knows one language only.
    pub language: String,
    pub hash: String,
    /// Menus of one group lead to each other by taps, and count as equal.
    pub group: String,
    /// LINE's alias id of this very menu.
    pub alias: Option<String>,
    /// The same for all languages of a file.
    pub rule: Rule,
    /// At LINE, with its image.
    pub rich_menu_id: String,
}

impl Set {
    /// A file's menu in the first of these languages that it has, else in its own first.
    pub fn variant(&self, name: &str, languages: &[String]) -> Option<&Applied> {
        let own = || self.menus.iter().filter(|menu| menu.name == name);
        let means = |menu: &Applied, language: &String| {
            let (own, wished) = (crate::flex::language(&menu.language), crate::flex::language(language));
            menu.language.eq_ignore_ascii_case(language) || (own.is_some() && own == wished)
        };
        languages.iter().find_map(|language| own().find(|menu| means(menu, language))).or_else(|| own().next())
    }
}

/// The channel's set; none where nothing was ever applied to it.
pub async fn current(conn: &mut Conn, channel: &str) -> Result<Option<Set>> {
    let Some(version) = version(conn, channel).await? else { return Ok(None) };
    Ok(Some(Set { version, menus: list(conn, channel).await? }))
}

pub(super) async fn version(conn: &mut Conn, channel: &str) -> Result<Option<i64>> {
    let version = sqlx::query_scalar("SELECT version FROM menu_sets WHERE channel = $1")
        .bind(channel)
        .fetch_optional(conn)
        .await?;
    Ok(version)
}

type Row = (String, String, String, String, Option<String>, String, String);

async fn list(conn: &mut Conn, channel: &str) -> Result<Vec<Applied>> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT name, language, hash, tab_group, alias, rule, rich_menu_id FROM set_menus
         WHERE channel = $1 ORDER BY position",
    )
    .bind(channel)
    .fetch_all(conn)
    .await?;
    let applied = |(name, language, hash, group, alias, rule, rich_menu_id): Row| {
        let rule = serde_json::from_str(&rule)?;
        Ok(Applied { name, language, hash, group, alias, rule, rich_menu_id })
    };
    rows.into_iter().map(applied).collect()
}

/// Puts another set in the place of the channel's, and marks what is no longer in it; gives its version.
pub(super) async fn replace(conn: &mut Conn, now: Millis, channel: &str, menus: &[Applied]) -> Result<i64> {
    let version = raise_version(conn, now, channel).await?;
    sqlx::query("DELETE FROM set_menus WHERE channel = $1").bind(channel).execute(&mut *conn).await?;
    for (position, menu) in (0_i64..).zip(menus) {
        insert(conn, channel, position, menu).await?;
    }
    retire_menus(conn, now, channel).await?;
    retire_aliases(conn, now, channel).await?;
    Ok(version)
}

async fn raise_version(conn: &mut Conn, now: Millis, channel: &str) -> Result<i64> {
    let version = sqlx::query_scalar(
        "INSERT INTO menu_sets (channel, version, applied_at) VALUES ($1, 1, $2)
         ON CONFLICT (channel) DO UPDATE SET version = menu_sets.version + 1, applied_at = excluded.applied_at
         RETURNING version",
    )
    .bind(channel)
    .bind(now)
    .fetch_one(conn)
    .await?;
    Ok(version)
}

async fn insert(conn: &mut Conn, channel: &str, position: i64, menu: &Applied) -> Result<()> {
    sqlx::query(
        "INSERT INTO set_menus (channel, name, language, position, hash, tab_group, alias, rule, rich_menu_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(channel)
    .bind(&menu.name)
    .bind(&menu.language)
    .bind(position)
    .bind(&menu.hash)
    .bind(&menu.group)
    .bind(&menu.alias)
    .bind(serde_json::to_string(&menu.rule)?)
    .bind(&menu.rich_menu_id)
    .execute(conn)
    .await?;
    Ok(())
}

async fn retire_menus(conn: &mut Conn, now: Millis, channel: &str) -> Result<()> {
    sqlx::query(
        "UPDATE rich_menus SET retired_at = CASE
           WHEN EXISTS (SELECT 1 FROM set_menus s WHERE s.channel = $1 AND s.rich_menu_id = rich_menus.rich_menu_id)
             THEN NULL
           ELSE COALESCE(retired_at, $2) END
         WHERE channel = $1",
    )
    .bind(channel)
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

async fn retire_aliases(conn: &mut Conn, now: Millis, channel: &str) -> Result<()> {
    sqlx::query(
        "UPDATE menu_aliases SET retired_at = CASE
           WHEN EXISTS (SELECT 1 FROM set_menus s WHERE s.channel = $1 AND s.alias = menu_aliases.alias) THEN NULL
           ELSE COALESCE(retired_at, $2) END
         WHERE channel = $1",
    )
    .bind(channel)
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_gets_a_language_they_read() {
        let menu = |name: &str, language: &str| Applied {
            name: name.into(),
            language: language.into(),
            hash: String::new(),
            group: String::new(),
            alias: None,
            rule: Rule::default(),
            rich_menu_id: String::new(),
        };
        let menus = vec![menu("gold", "ja"), menu("gold", "en"), menu("gold", "zh-TW"), menu("plain", "")];
        let set = Set { version: 1, menus };
        for (name, languages, language) in [
            ("gold", &["en"][..], Some("en")),
            ("gold", &["th", "en"], Some("en")),
            ("gold", &["en-US"], Some("en")),
            ("gold", &["zh-Hant"], Some("zh-TW")),
            ("gold", &["ko"], Some("ja")),
            ("gold", &[], Some("ja")),
            ("plain", &["en"], Some("")),
            ("none", &["en"], None),
        ] {
            let languages: Vec<String> = languages.iter().map(|&language| language.into()).collect();
            let found = set.variant(name, &languages);
            assert_eq!(found.map(|menu| menu.language.as_str()), language, "{name} {languages:?}");
        }
    }
}
