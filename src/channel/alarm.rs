//! What LINE refuses of a channel (table `channel_alarms`): told once, and held back on every node.
//!
//! A database that fails hides no answer of LINE's: then each process waits by itself.

use std::time::Duration;

use super::Own;
use crate::{
    app::App,
    db::{Conn, Millis},
    error::Result,
    line::Error,
};

/// Between two questions to LINE that were refused, over all nodes.
const HOLD: Duration = Duration::from_secs(60);
/// What was not refused again for so long is over, if nobody said so.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);

/// What LINE refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// To give a token.
    Credentials,
    /// To take a token that it just gave.
    Token,
}

#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct Alarm {
    what: String,
    pub since: Millis,
    until: Millis,
    status: Option<i64>,
    message: String,
    request_id: String,
}

impl What {
    fn word(self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::Token => "token",
        }
    }
}

impl Alarm {
    /// Whether LINE is not to be asked for a token yet.
    pub fn holds(&self, now: Millis) -> bool {
        self.what == What::Credentials.word() && now < self.until
    }

    /// What LINE said.
    pub fn error(&self) -> Error {
        let (message, request_id) = (self.message.clone(), self.request_id.clone());
        match self.status.and_then(|status| u16::try_from(status).ok()) {
            Some(status) => Error::Refused { status, message, request_id, retry_after: None },
            None => Error::Malformed(message),
        }
    }
}

/// The channel's alarm, if it is about the present credentials.
pub(super) async fn find(app: &App, own: &Own<'_>) -> Option<Alarm> {
    let found = async { find_on(&mut *app.db.conn().await?, own).await };
    found.await.unwrap_or_else(|error| {
        tracing::warn!(channel = own.name(), %error, "whether LINE refuses the channel is not known");
        None
    })
}

pub(super) async fn find_on(conn: &mut Conn, own: &Own<'_>) -> Result<Option<Alarm>> {
    let found = sqlx::query_as(
        "SELECT what, since, until, status, message, request_id FROM channel_alarms
         WHERE channel_id = $1 AND credentials = $2",
    )
    .bind(own.id)
    .bind(own.fingerprint())
    .fetch_optional(conn)
    .await?;
    Ok(found)
}

/// Notes how a question for a token ended; `known` is the alarm there was before.
pub(super) async fn note(app: &App, own: &Own<'_>, known: Option<&Alarm>, error: Option<&Error>) {
    match error {
        None if known.is_some_and(|alarm| alarm.what == What::Credentials.word()) => {
            clear(app, own, What::Credentials).await;
        }
        Some(error) if !error.is_passing() => raise(app, own, What::Credentials, error).await,
        None | Some(_) => {}
    }
}

/// Tells it, if it was not told already.
pub(super) async fn raise(app: &App, own: &Own<'_>, what: What, error: &Error) {
    let told = async {
        let mut conn = app.db.conn().await?;
        if extend(&mut conn, app.now(), own, what).await? {
            Ok(false)
        } else {
            insert(&mut conn, app, own, what, error).await
        }
    };
    let is_new = told.await.unwrap_or_else(|failure: crate::error::Error| {
        tracing::warn!(channel = own.name(), error = %failure, "an alarm could not be kept");
        true
    });
    if is_new {
        let section = own.section();
        tracing::error!(channel = own.name(), section, %error, "LINE refuses the channel: nothing is sent until it is mended; see `musubi doctor`");
    }
}

/// The trouble is over.
pub(super) async fn clear(app: &App, own: &Own<'_>, what: What) {
    let cleared = async {
        let mut conn = app.db.conn().await?;
        let deleted = sqlx::query("DELETE FROM channel_alarms WHERE channel_id = $1 AND what = $2")
            .bind(own.id)
            .bind(what.word())
            .execute(&mut *conn)
            .await?;
        Ok::<_, sqlx::Error>(deleted.rows_affected() == 1)
    };
    match cleared.await {
        Ok(true) => tracing::info!(channel = own.name(), "LINE takes the channel again"),
        Ok(false) => {}
        Err(error) => tracing::warn!(channel = own.name(), %error, "an alarm could not be ended"),
    }
}

/// Deletes what nobody said more about.
pub(super) async fn prune(conn: &mut Conn, now: Millis) -> Result<u64> {
    let deleted =
        sqlx::query("DELETE FROM channel_alarms WHERE until < $1").bind(now.minus(FORGOTTEN)).execute(conn).await?;
    Ok(deleted.rows_affected())
}

/// The same trouble goes on; false where it is not known yet.
async fn extend(conn: &mut Conn, now: Millis, own: &Own<'_>, what: What) -> Result<bool> {
    let updated =
        sqlx::query("UPDATE channel_alarms SET until = $1, what = $2 WHERE channel_id = $3 AND credentials = $4")
            .bind(now.plus(HOLD))
            .bind(what.word())
            .bind(own.id)
            .bind(own.fingerprint())
            .execute(conn)
            .await?;
    Ok(updated.rows_affected() == 1)
}

/// False where another node was quicker.
async fn insert(conn: &mut Conn, app: &App, own: &Own<'_>, what: What, error: &Error) -> Result<bool> {
    let (status, message, request_id) = match error {
        Error::Refused { status, message, request_id, .. } => {
            (Some(i64::from(*status)), message.clone(), request_id.as_str())
        }
        other => (None, other.to_string(), ""),
    };
    let message: String = message.chars().filter(|c| !c.is_control()).collect();
    let inserted = sqlx::query(
        "INSERT INTO channel_alarms (channel_id, credentials, what, since, until, status, message, request_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (channel_id) DO UPDATE SET credentials = excluded.credentials, what = excluded.what,
           since = excluded.since, until = excluded.until, status = excluded.status, message = excluded.message,
           request_id = excluded.request_id
         WHERE channel_alarms.credentials <> excluded.credentials",
    )
    .bind(own.id)
    .bind(own.fingerprint())
    .bind(what.word())
    .bind(app.now())
    .bind(app.now().plus(HOLD))
    .bind(status)
    .bind(message)
    .bind(request_id)
    .execute(conn)
    .await?;
    Ok(inserted.rows_affected() == 1)
}
