//! Groups and rooms (table `group_chats`). They are nobody's own chat: nothing about a person's link is said in them.

use serde_json::Value;

use super::Effect;
use crate::{
    app::App,
    db::{Conn, Millis},
    error::Result,
    line, line_user,
    webhook::event::Event,
};

/// The official account was invited.
pub async fn joined(conn: &mut Conn, event: &Event) -> Result<Effect> {
    set(conn, event, Some(event.at), None).await
}

/// It was removed, or left.
pub async fn left(conn: &mut Conn, event: &Event) -> Result<Effect> {
    set(conn, event, None, Some(event.at)).await
}

/// People came into a group: known from now on, their profiles are not ours to read there.
pub async fn members_joined(conn: &mut Conn, app: &App, event: &Event) -> Result<Effect> {
    let members = event.json.pointer("/joined/members").and_then(Value::as_array);
    for member in members.into_iter().flatten() {
        if let Some(user_id) = member.get("userId").and_then(Value::as_str).filter(|id| line::is_user_id(id)) {
            line_user::meet(conn, app.now(), &event.provider, user_id).await?;
        }
    }
    Ok(Effect::Done)
}

/// Keeps the newest word of a group, by LINE's time.
async fn set(conn: &mut Conn, event: &Event, joined_at: Option<Millis>, left_at: Option<Millis>) -> Result<Effect> {
    let Some((kind, id)) = event.group() else { return Ok(Effect::Ignored("no_group")) };
    let set = sqlx::query(
        "INSERT INTO group_chats (channel, id, kind, joined_at, left_at, changed_at) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (channel, id) DO UPDATE SET joined_at = COALESCE(excluded.joined_at, group_chats.joined_at),
           left_at = excluded.left_at, changed_at = excluded.changed_at
         WHERE group_chats.changed_at <= excluded.changed_at",
    )
    .bind(&event.channel)
    .bind(id)
    .bind(kind)
    .bind(joined_at)
    .bind(left_at)
    .bind(event.at)
    .execute(conn)
    .await?;
    Ok(if set.rows_affected() == 1 { Effect::Done } else { Effect::Ignored("older") })
}
