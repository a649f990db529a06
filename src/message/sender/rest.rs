//! The rests of a channel (table `send_pauses`): LINE said so, is away, or is not well. They hold on all nodes.

use std::time::Duration;

use crate::{
    app::App,
    db::{Conn, Millis},
    error::Result,
};

/// The latest rest of a channel.
#[derive(Debug, Clone, Copy, sqlx::FromRow)]
pub(super) struct Rest {
    #[sqlx(rename = "paused_until")]
    pub until: Millis,
    /// How many there were in a row without a request that went well.
    pub failures: i64,
}

pub(super) async fn find(conn: &mut Conn, channel: &str) -> Result<Option<Rest>> {
    let rest = sqlx::query_as("SELECT paused_until, failures FROM send_pauses WHERE channel = $1");
    Ok(rest.bind(channel).fetch_optional(conn).await?)
}

/// Lets the whole channel rest; never shortens a rest. `failures`: the rests before it.
pub(super) async fn begin(app: &App, channel: &str, rest: Duration, failures: i64, note: &str) -> Result<()> {
    tracing::warn!(channel, rest_ms = rest.as_millis(), note, "sending pauses");
    let mut conn = app.db.conn().await?;
    sqlx::query(
        "INSERT INTO send_pauses (channel, paused_until, note, failures) VALUES ($1, $2, $3, $4)
         ON CONFLICT (channel) DO UPDATE SET paused_until = excluded.paused_until, note = excluded.note,
           failures = excluded.failures
         WHERE send_pauses.paused_until < excluded.paused_until",
    )
    .bind(channel)
    .bind(app.now().plus(rest))
    .bind(note)
    .bind(failures + 1)
    .execute(&mut *conn)
    .await?;
    Ok(())
}

/// A request went well: the next trouble is the first again.
pub(super) async fn end(app: &App, channel: &str) -> Result<()> {
    tracing::info!(channel, "sending goes on");
    let mut conn = app.db.conn().await?;
    sqlx::query("UPDATE send_pauses SET failures = 0 WHERE channel = $1").bind(channel).execute(&mut *conn).await?;
    Ok(())
}
