//! `musubi events list|show|retry`: what became of LINE's events, for whoever looks into one.

use serde_json::Value;

use crate::{
    app::App,
    audit,
    db::{Conn, Millis},
    error::Result,
    line::webhook::Envelope,
};

/// Where an event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum State {
    Waiting,
    Done,
    Ignored,
    Parked,
}

/// An event's row.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Row {
    pub id: String,
    pub channel: String,
    pub kind: String,
    pub chat: String,
    pub state: String,
    pub attempts: i64,
    pub note: Option<String>,
    pub at: Millis,
    pub received_at: Millis,
    pub handled_at: Option<Millis>,
    body_id: String,
    seq: i64,
}

/// What waits in a channel, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    pub waiting: i64,
    pub parked: i64,
    /// The arrival of the oldest that waits.
    pub oldest: Option<Millis>,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Ignored => "ignored",
            Self::Parked => "parked",
        }
    }
}

/// The newest events, of one state where one is named.
pub async fn list(conn: &mut Conn, state: Option<State>, limit: u32) -> Result<Vec<Row>> {
    let rows = sqlx::query_as(
        "SELECT id, channel, kind, chat, state, attempts, note, at, received_at, handled_at, body_id, seq FROM events
         WHERE $1 = '' OR state = $1 ORDER BY id DESC LIMIT $2",
    )
    .bind(state.map_or("", State::word))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// The events of this id (one, unless two channels share it), each with its JSON as received, if that is still kept.
pub async fn show(conn: &mut Conn, id: &str) -> Result<Vec<(Row, Option<Value>)>> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT id, channel, kind, chat, state, attempts, note, at, received_at, handled_at, body_id, seq FROM events
         WHERE id = $1 ORDER BY channel",
    )
    .bind(id)
    .fetch_all(&mut *conn)
    .await?;
    let mut shown = Vec::new();
    for row in rows {
        let body: Option<Vec<u8>> = sqlx::query_scalar("SELECT body FROM webhook_bodies WHERE id = $1")
            .bind(&row.body_id)
            .fetch_optional(&mut *conn)
            .await?;
        let json = body.and_then(|body| {
            let envelope = Envelope::read(&body).ok()?;
            serde_json::from_str(envelope.events.get(usize::try_from(row.seq).ok()?)?.get()).ok()
        });
        shown.push((row, json));
    }
    Ok(shown)
}

/// Has parked events handled again: the one of this id, or all. Gives their number. What was too old stays too old.
pub async fn retry(app: &App, id: Option<&str>) -> Result<u64> {
    let mut tx = app.db.begin().await?;
    let retried = sqlx::query(
        "UPDATE events SET state = 'waiting', attempts = 0, note = NULL, claimed_by = NULL, handled_at = NULL
         WHERE state = 'parked' AND COALESCE(note, '') <> 'too_old' AND ($1 = '' OR id = $1)",
    )
    .bind(id.unwrap_or_default())
    .execute(&mut *tx)
    .await?
    .rows_affected();
    if retried > 0 {
        let entry = audit::Entry { action: "events_retried", subject: id, ..Default::default() };
        audit::insert(&mut tx, app.now(), entry).await?;
    }
    tx.commit().await?;
    app.wake_inbox();
    Ok(retried)
}

/// What waits in a channel.
pub async fn backlog(conn: &mut Conn, channel: &str) -> Result<Backlog> {
    let (waiting, oldest) = sqlx::query_as(
        "SELECT CAST(COALESCE(SUM(events), 0) AS BIGINT), MIN(received_at) FROM (
           SELECT 1 AS events, received_at FROM events WHERE channel = $1 AND state = 'waiting'
           UNION ALL SELECT events, received_at FROM intake WHERE channel = $1) w",
    )
    .bind(channel)
    .fetch_one(&mut *conn)
    .await?;
    let parked =
        sqlx::query_scalar("SELECT CAST(COUNT(*) AS BIGINT) FROM events WHERE channel = $1 AND state = 'parked'")
            .bind(channel)
            .fetch_one(conn)
            .await?;
    Ok(Backlog { waiting, parked, oldest })
}
