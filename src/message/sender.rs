//! The sender of a channel: one at a time over all nodes, by a lease.
//!
//! The lease paces and orders; it is not what keeps a message from being sent twice. That is the claim, and
//! LINE's memory of the retry key.

use std::time::Duration;

use secrecy::SecretString;
use tokio::task::JoinSet;

use super::{
    after::{self, Tried, after},
    claim::{self, Try},
    settle,
};
use crate::{
    app::App,
    channel::{self, Kind},
    db::{Conn, Millis},
    error::{Error, Result},
    queue,
};

/// Longer than a token and a push take at the client's time limits.
const LEASE: Duration = Duration::from_secs(30);
/// How long a channel rests when it has no token, because LINE is away or refuses its credentials.
const NO_TOKEN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));

/// Sends what is due in a channel, one batch; returns the number of requests made. `holder` names this sender.
/// Call it again at once while it made any.
pub async fn deliver(app: &App, channel: &str, holder: &str) -> Result<usize> {
    let now = app.now();
    settle::give_up(app, channel, now).await?;
    let mut conn = app.db.conn().await?;
    let resting = is_paused(&mut conn, channel, now).await? || !claim::is_due(&mut conn, channel, now).await?;
    drop(conn);
    let lease = format!("send:{channel}");
    if resting || !queue::lease(app, &lease, holder, LEASE).await? {
        return Ok(0);
    }
    let made = send_batch(app, channel).await;
    queue::release(app, &lease, holder).await?;
    made
}

async fn send_batch(app: &App, channel: &str) -> Result<usize> {
    let token = match channel::token(app, Kind::Bot(channel)).await {
        Ok(token) => token,
        Err(error) => {
            let rest = if error.is_passing() { NO_TOKEN.0 } else { NO_TOKEN.1 };
            pause(app, channel, rest, &format!("no channel access token: {error}")).await?;
            return Ok(0);
        }
    };
    let tries = claim::claim(app, channel, app.now()).await?;
    let made = tries.len();
    let mut running = JoinSet::new();
    for tried in tries {
        let (app, channel, token) = (app.clone(), channel.to_owned(), token.clone());
        running.spawn(async move { carry_out(&app, &channel, &token, &tried).await });
    }
    // Each result is written down before the first failure to write one is told.
    let mut failure = None;
    while let Some(ended) = running.join_next().await {
        failure = failure.or(ended.map_err(Error::internal).flatten().err());
    }
    failure.map_or(Ok(made), Err)
}

/// One try: LINE is called outside of any transaction, then the end is recorded.
async fn carry_out(app: &App, channel: &str, token: &SecretString, tried: &Try) -> Result<()> {
    let result = app.line.push(token, &tried.retry_key, &tried.body).await;
    let fresh_token = after::is_unauthorized(&result) && channel::forget(app, Kind::Bot(channel), token).await;
    let facts = Tried { attempt: tried.attempt, count: tried.count, fresh_token, jitter: app.jitter() };
    if let Err(error) = &result {
        tracing::warn!(channel, request = tried.request_id, attempt = tried.attempt, %error, "push not accepted");
        if let Some(rest) = after::pause(&result, facts) {
            pause(app, channel, rest, &error.to_string()).await?;
        }
    }
    settle::settle(app, app.now(), tried, after(&result, facts), &result).await
}

async fn is_paused(conn: &mut Conn, channel: &str, now: Millis) -> Result<bool> {
    let until: Option<Millis> =
        sqlx::query_scalar("SELECT paused_until FROM send_pauses WHERE channel = $1 AND paused_until > $2")
            .bind(channel)
            .bind(now)
            .fetch_optional(conn)
            .await?;
    Ok(until.is_some())
}

/// Lets the whole channel rest; never shortens a rest.
async fn pause(app: &App, channel: &str, rest: Duration, note: &str) -> Result<()> {
    tracing::warn!(channel, rest_ms = rest.as_millis(), note, "sending pauses");
    let mut conn = app.db.conn().await?;
    sqlx::query(
        "INSERT INTO send_pauses (channel, paused_until, note) VALUES ($1, $2, $3)
         ON CONFLICT (channel) DO UPDATE SET paused_until = excluded.paused_until, note = excluded.note
         WHERE send_pauses.paused_until < excluded.paused_until",
    )
    .bind(channel)
    .bind(app.now().plus(rest))
    .bind(note)
    .execute(&mut *conn)
    .await?;
    Ok(())
}
