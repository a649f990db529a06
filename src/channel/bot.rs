//! The official account of a channel (table `bots`): who it is at LINE, and whether LINE suspended it.

use super::Kind;
use crate::{
    app::App,
    db::{Conn, Millis},
    error::Result,
    line::messaging::BotInfo,
    queue::Outcome,
};

/// [`Job::LearnBot`](crate::queue::Job::LearnBot)
pub async fn learn(app: &App, channel: &str) -> Result<Outcome> {
    match super::call(app, Kind::Bot(channel), |token| async move { app.line.bot_info(&token).await }).await {
        Ok(info) => {
            set(&mut *app.db.conn().await?, app.now(), channel, &info).await?;
            Ok(Outcome::Done)
        }
        Err(error) => Ok(Outcome::retry(&error)),
    }
}

/// The user id that LINE names as the destination of this channel's webhooks; none until LINE told.
pub async fn find_user_id(conn: &mut Conn, channel: &str) -> Result<Option<String>> {
    let found: Option<Option<String>> =
        sqlx::query_scalar("SELECT user_id FROM bots WHERE channel = $1").bind(channel).fetch_optional(conn).await?;
    Ok(found.flatten())
}

/// Keeps that LINE suspended the account, or no longer does, unless newer word of it is known.
pub async fn set_suspended(conn: &mut Conn, at: Millis, channel: &str, is_suspended: bool) -> Result<()> {
    sqlx::query(
        "INSERT INTO bots (channel, suspended_at, changed_at) VALUES ($1, $2, $3)
         ON CONFLICT (channel) DO UPDATE SET suspended_at = excluded.suspended_at, changed_at = excluded.changed_at
         WHERE bots.changed_at <= excluded.changed_at",
    )
    .bind(channel)
    .bind(is_suspended.then_some(at))
    .bind(at)
    .execute(conn)
    .await?;
    Ok(())
}

async fn set(conn: &mut Conn, now: Millis, channel: &str, info: &BotInfo) -> Result<()> {
    sqlx::query(
        "INSERT INTO bots (channel, user_id, basic_id, display_name, checked_at, changed_at)
         VALUES ($1, $2, $3, $4, $5, 0)
         ON CONFLICT (channel) DO UPDATE SET user_id = excluded.user_id, basic_id = excluded.basic_id,
           display_name = excluded.display_name, checked_at = excluded.checked_at",
    )
    .bind(channel)
    .bind(&info.user_id)
    .bind(&info.basic_id)
    .bind(&info.display_name)
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}
