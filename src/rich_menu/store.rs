//! The SQL of this room.

use super::Menu;
use crate::{
    db::{Conn, Millis},
    error::Result,
    queue::Job,
};

/// A menu of ours at LINE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub rich_menu_id: String,
    pub has_image: bool,
}

/// The row of a menu that LINE, as far as we know, has.
pub(super) async fn find(conn: &mut Conn, channel: &str, menu: &Menu) -> Result<Option<Row>> {
    let row: Option<(String, Option<Millis>)> = sqlx::query_as(
        "SELECT rich_menu_id, image_at FROM rich_menus
         WHERE channel = $1 AND name = $2 AND hash = $3 AND gone_at IS NULL",
    )
    .bind(channel)
    .bind(&menu.name)
    .bind(&menu.hash)
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|(rich_menu_id, image_at)| Row { rich_menu_id, has_image: image_at.is_some() }))
}

/// Records a menu made or found at LINE. Whether it has its image is not known.
pub(super) async fn insert(conn: &mut Conn, now: Millis, channel: &str, menu: &Menu, rich_menu_id: &str) -> Result<()> {
    sqlx::query(
        "INSERT INTO rich_menus (channel, name, hash, rich_menu_id, created_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (channel, name, hash) DO UPDATE SET
           rich_menu_id = excluded.rich_menu_id, created_at = excluded.created_at, image_at = NULL, gone_at = NULL",
    )
    .bind(channel)
    .bind(&menu.name)
    .bind(&menu.hash)
    .bind(rich_menu_id)
    .bind(now)
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
