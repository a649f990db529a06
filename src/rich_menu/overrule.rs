//! What the company's system chose for one member before all rules, for a time or until it says otherwise (table
//! `menu_overrides`). The reconciler ends what is over.

use serde_json::json;

use super::set;
use crate::{
    app::App,
    audit,
    db::{Conn, Millis},
    error::Result,
    menu_change,
};

/// A menu for a member on a channel.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Overrule {
    pub channel: String,
    pub menu: String,
    pub until: Option<Millis>,
}

/// Why a menu is not chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The channel has no menu of this name; it has these.
    Unknown(Vec<String>),
    /// It would end before it begins.
    Over,
}

/// Chooses a menu for a member, in place of a former choice. The caller holds the member.
pub async fn set(conn: &mut Conn, app: &App, member_id: &str, new: &Overrule) -> Result<Result<(), Refusal>> {
    let now = app.now();
    let menus = set::current(conn, &new.channel).await?.map(|set| set.menus).unwrap_or_default();
    if !menus.iter().any(|menu| menu.name == new.menu) {
        let mut names: Vec<String> = menus.into_iter().map(|menu| menu.name).collect();
        names.dedup();
        return Ok(Err(Refusal::Unknown(names)));
    }
    if new.until.is_some_and(|until| until <= now) {
        return Ok(Err(Refusal::Over));
    }
    upsert(conn, now, member_id, new).await?;
    record(
        conn,
        app,
        member_id,
        "menu_overridden",
        json!({ "channel": new.channel, "menu": new.menu, "until": new.until }),
    )
    .await?;
    menu_change::of_members(conn, app, &[member_id.to_owned()]).await?;
    Ok(Ok(()))
}

/// Takes the choice for a member away: the rules decide again. False where there was none.
pub async fn clear(conn: &mut Conn, app: &App, member_id: &str, channel: &str) -> Result<bool> {
    let is_cleared = delete(conn, member_id, channel).await?;
    if is_cleared {
        record(conn, app, member_id, "menu_override_ended", json!({ "channel": channel })).await?;
        menu_change::of_members(conn, app, &[member_id.to_owned()]).await?;
    }
    Ok(is_cleared)
}

async fn record(conn: &mut Conn, app: &App, member_id: &str, action: &str, data: serde_json::Value) -> Result<()> {
    let entry = audit::Entry { action, member_id: Some(member_id), data, ..Default::default() };
    audit::insert(conn, app.now(), entry).await
}

async fn upsert(conn: &mut Conn, now: Millis, member_id: &str, new: &Overrule) -> Result<()> {
    sqlx::query(
        "INSERT INTO menu_overrides (member_id, channel, menu, until, set_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (member_id, channel) DO UPDATE SET
           menu = excluded.menu, until = excluded.until, set_at = excluded.set_at",
    )
    .bind(member_id)
    .bind(&new.channel)
    .bind(&new.menu)
    .bind(new.until)
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

async fn delete(conn: &mut Conn, member_id: &str, channel: &str) -> Result<bool> {
    let deleted = sqlx::query("DELETE FROM menu_overrides WHERE member_id = $1 AND channel = $2")
        .bind(member_id)
        .bind(channel)
        .execute(conn)
        .await?;
    Ok(deleted.rows_affected() == 1)
}

/// Takes all choices for a member away, who is erased.
pub async fn erase(conn: &mut Conn, member_id: &str) -> Result<()> {
    sqlx::query("DELETE FROM menu_overrides WHERE member_id = $1").bind(member_id).execute(conn).await?;
    Ok(())
}

/// The choices for a member, by channel.
pub async fn list(conn: &mut Conn, member_id: &str) -> Result<Vec<Overrule>> {
    let found = sqlx::query_as("SELECT channel, menu, until FROM menu_overrides WHERE member_id = $1 ORDER BY channel")
        .bind(member_id)
        .fetch_all(conn)
        .await?;
    Ok(found)
}
