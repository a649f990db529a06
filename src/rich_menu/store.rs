//! The SQL of the menus at LINE and of whom was given which (tables `rich_menus`, `menu_aliases`, `user_menus`).

use serde_json::Value;

use super::Menu;
use crate::{
    db::{Conn, Millis},
    error::Result,
    queue::Job,
};

/// A menu that we made at LINE, as far as we know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Made {
    pub rich_menu_id: String,
    /// With all that it takes to make it again.
    pub is_whole: bool,
}

pub(super) async fn list_made(conn: &mut Conn, channel: &str) -> Result<Vec<Made>> {
    let rows: Vec<(String, Option<Millis>)> = sqlx::query_as(
        "SELECT rich_menu_id, CASE WHEN object IS NULL OR gone_at IS NOT NULL THEN NULL ELSE image_at END
         FROM rich_menus WHERE channel = $1",
    )
    .bind(channel)
    .fetch_all(conn)
    .await?;
    let made = |(rich_menu_id, whole_at): (String, Option<Millis>)| Made { rich_menu_id, is_whole: whole_at.is_some() };
    Ok(rows.into_iter().map(made).collect())
}

/// Records a menu made or found at LINE. Whether it has its image is not known.
pub(super) async fn insert(conn: &mut Conn, now: Millis, channel: &str, menu: &Menu, rich_menu_id: &str) -> Result<()> {
    sqlx::query(
        "INSERT INTO rich_menus
           (channel, name, hash, rich_menu_id, created_at, language, object, content_type, image)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (channel, name, hash) DO UPDATE SET
           rich_menu_id = excluded.rich_menu_id, created_at = excluded.created_at, language = excluded.language,
           object = excluded.object, content_type = excluded.content_type, image = excluded.image,
           image_at = NULL, gone_at = NULL, retired_at = NULL",
    )
    .bind(channel)
    .bind(&menu.name)
    .bind(&menu.hash)
    .bind(rich_menu_id)
    .bind(now)
    .bind(&menu.language)
    .bind(menu.object.to_string())
    .bind(&menu.content_type)
    .bind(&*menu.image)
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn set_image(conn: &mut Conn, now: Millis, channel: &str, rich_menu_id: &str) -> Result<()> {
    sqlx::query("UPDATE rich_menus SET image_at = $1 WHERE channel = $2 AND rich_menu_id = $3")
        .bind(now)
        .bind(channel)
        .bind(rich_menu_id)
        .execute(conn)
        .await?;
    Ok(())
}

pub(super) async fn set_gone(conn: &mut Conn, now: Millis, channel: &str, rich_menu_id: &str) -> Result<()> {
    sqlx::query("UPDATE rich_menus SET gone_at = $1 WHERE channel = $2 AND rich_menu_id = $3 AND gone_at IS NULL")
        .bind(now)
        .bind(channel)
        .bind(rich_menu_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Forgets a menu that is no longer at LINE, or not to be.
pub(super) async fn delete(conn: &mut Conn, channel: &str, rich_menu_id: &str) -> Result<()> {
    sqlx::query("DELETE FROM rich_menus WHERE channel = $1 AND rich_menu_id = $2 AND retired_at IS NOT NULL")
        .bind(channel)
        .bind(rich_menu_id)
        .execute(conn)
        .await?;
    Ok(())
}

type Kept = (String, String, String, Option<String>, String, String, String, String, Vec<u8>);

/// The menus of the channel's set with what they were made of, in the order in which rules are asked.
pub(super) async fn list_set(conn: &mut Conn, channel: &str) -> Result<Vec<Menu>> {
    let rows: Vec<Kept> = sqlx::query_as(
        "SELECT s.name, s.language, s.hash, s.alias, s.tab_group, s.rule, m.object, m.content_type, m.image
         FROM set_menus s JOIN rich_menus m ON m.channel = s.channel AND m.name = s.name AND m.hash = s.hash
         WHERE s.channel = $1 ORDER BY s.position",
    )
    .bind(channel)
    .fetch_all(conn)
    .await?;
    let menu = |(name, language, hash, alias, group, rule, object, content_type, image): Kept| {
        let rule = serde_json::from_str(&rule)?;
        let object: Value = serde_json::from_str(&object)?;
        Ok(Menu { name, language, hash, alias, group, rule, object, content_type, image: image.into() })
    };
    rows.into_iter().map(menu).collect()
}

/// The aliases that we made, those that are to go too.
pub(super) async fn list_aliases(conn: &mut Conn, channel: &str) -> Result<Vec<String>> {
    let aliases = sqlx::query_scalar("SELECT alias FROM menu_aliases WHERE channel = $1 ORDER BY alias")
        .bind(channel)
        .fetch_all(conn)
        .await?;
    Ok(aliases)
}

/// Records an alias as ours, before it is made.
pub(super) async fn insert_alias(conn: &mut Conn, channel: &str, alias: &str) -> Result<()> {
    sqlx::query("INSERT INTO menu_aliases (channel, alias) VALUES ($1, $2) ON CONFLICT (channel, alias) DO NOTHING")
        .bind(channel)
        .bind(alias)
        .execute(conn)
        .await?;
    Ok(())
}

pub(super) async fn delete_alias(conn: &mut Conn, channel: &str, alias: &str) -> Result<()> {
    sqlx::query("DELETE FROM menu_aliases WHERE channel = $1 AND alias = $2")
        .bind(channel)
        .bind(alias)
        .execute(conn)
        .await?;
    Ok(())
}

/// How many people were given a menu.
pub(super) async fn count_people(conn: &mut Conn, channel: &str, rich_menu_id: &str) -> Result<i64> {
    let count =
        sqlx::query_scalar("SELECT CAST(COUNT(*) AS BIGINT) FROM user_menus WHERE channel = $1 AND rich_menu_id = $2")
            .bind(channel)
            .bind(rich_menu_id)
            .fetch_one(conn)
            .await?;
    Ok(count)
}

/// Records what a person was given: a menu of their own, or none.
pub(super) async fn set_user_menu(
    conn: &mut Conn,
    now: Millis,
    line_user_id: &str,
    channel: &str,
    given: Option<(&str, &str)>,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO user_menus (line_user_id, channel, menu, rich_menu_id, applied_at, checked_at)
         VALUES ($1, $2, $3, $4, $5, $5)
         ON CONFLICT (line_user_id, channel) DO UPDATE SET menu = excluded.menu,
           rich_menu_id = excluded.rich_menu_id, applied_at = excluded.applied_at,
           checked_at = excluded.checked_at, request = NULL, refused = NULL",
    )
    .bind(line_user_id)
    .bind(channel)
    .bind(given.map(|(menu, _)| menu))
    .bind(given.map(|(_, rich_menu_id)| rich_menu_id))
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes that LINE carried out the menu step of the person's unlinks, once no other channel of theirs is still to be
/// told. The caller is the job of `channel`.
pub(super) async fn finish_unlink_step(conn: &mut Conn, now: Millis, line_user_id: &str, channel: &str) -> Result<()> {
    sqlx::query(
        "UPDATE unlink_steps SET state = 'done', updated_at = $1
         WHERE step = 'menu' AND state = 'pending'
           AND link_id IN (SELECT id FROM links WHERE line_user_id = $2 AND ended_at IS NOT NULL)
           AND NOT EXISTS (SELECT 1 FROM jobs WHERE subject = $2 AND kind = 'user_menu' AND ended_at IS NULL
                             AND job <> $3)",
    )
    .bind(now)
    .bind(line_user_id)
    .bind(serde_json::to_string(&Job::UserMenu { line_user_id: line_user_id.to_owned(), channel: channel.to_owned() })?)
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether making this channel's menus was given up since `since`: asking again at once would not help.
pub(super) async fn is_given_up(conn: &mut Conn, channel: &str, since: Millis) -> Result<bool> {
    let parked: Option<String> = sqlx::query_scalar(
        "SELECT id FROM jobs WHERE kind = 'ensure_menus' AND subject = $1 AND parked_at > $2 LIMIT 1",
    )
    .bind(channel)
    .bind(since)
    .fetch_optional(conn)
    .await?;
    Ok(parked.is_some())
}

/// Whether a menu at LINE was made by us.
pub(super) async fn is_ours(conn: &mut Conn, channel: &str, rich_menu_id: &str) -> Result<bool> {
    let found: Option<String> =
        sqlx::query_scalar("SELECT rich_menu_id FROM rich_menus WHERE channel = $1 AND rich_menu_id = $2 LIMIT 1")
            .bind(channel)
            .bind(rich_menu_id)
            .fetch_optional(conn)
            .await?;
    Ok(found.is_some())
}
