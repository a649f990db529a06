//! Of what is sent: deliveries that failed, and messages that are over.

use std::sync::LazyLock;

use serde_json::json;

use super::{Kind, New, Place, insert, member, wanting};
use crate::{
    app::App,
    db::{Conn, Millis, Rows},
    error::Result,
};

/// A delivery that failed.
#[derive(sqlx::FromRow)]
struct Failed {
    message_id: String,
    seq: i64,
    cause: String,
    template: String,
    topic: Option<String>,
    member_id: Option<String>,
    external_id: Option<String>,
    line_user_id: String,
    reason: Option<String>,
    note: Option<String>,
}

macro_rules! select_failed {
    () => {
        "SELECT DISTINCT d.message_id, d.seq, g.cause, g.template, g.topic, d.member_id, m.external_id, d.line_user_id,
           d.reason, d.note FROM "
    };
}
macro_rules! joined {
    () => {
        " JOIN messages g ON g.id = d.message_id LEFT JOIN members m ON m.id = d.member_id WHERE d.state = 'failed'"
    };
}

/// The deliveries of requests that LINE refused just now.
pub async fn refused(conn: &mut Conn, app: &App, channel: &str, request_ids: &[&str]) -> Result<()> {
    static SELECT: LazyLock<Rows> = LazyLock::new(|| {
        let head = concat!(select_failed!(), "(VALUES");
        Rows::new(head, 1, concat!(") AS v JOIN deliveries d ON d.request_id = v.column1", joined!()))
    });
    let place = Place::channel(app, channel);
    let endpoints = wanting(conn, Kind::DeliveryFailed, place).await?;
    if endpoints.is_empty() {
        return Ok(());
    }
    let mut failed: Vec<Failed> = Vec::new();
    for (text, rows) in SELECT.pieces(&app.db, request_ids) {
        let mut select = sqlx::query_as(text);
        for request_id in rows {
            select = select.bind(*request_id);
        }
        failed.extend(select.fetch_all(&mut *conn).await?);
    }
    tell(conn, app, place, &endpoints, failed).await
}

/// Deliveries that could not be rendered, by message and number.
pub async fn not_rendered(conn: &mut Conn, app: &App, channel: &str, which: &[(String, i64)]) -> Result<()> {
    if which.is_empty() {
        return Ok(());
    }
    let place = Place::channel(app, channel);
    let endpoints = wanting(conn, Kind::DeliveryFailed, place).await?;
    if endpoints.is_empty() {
        return Ok(());
    }
    let mut failed = Vec::new();
    for (message_id, seq) in which {
        let statement = concat!(select_failed!(), "deliveries d", joined!(), " AND d.message_id = $1 AND d.seq = $2");
        failed.extend(sqlx::query_as(statement).bind(message_id).bind(seq).fetch_all(&mut *conn).await?);
    }
    tell(conn, app, place, &endpoints, failed).await
}

async fn tell(conn: &mut Conn, app: &App, place: Place<'_>, endpoints: &[String], failed: Vec<Failed>) -> Result<()> {
    let now = app.now();
    let new = |row: Failed| {
        let data = json!({
            "provider": place.provider, "channel": place.channel,
            "delivery": { "message_id": row.message_id, "seq": row.seq, "reason": row.reason, "note": row.note },
            "message": { "id": row.message_id, "cause": row.cause, "template": row.template, "topic": row.topic },
            "member": member(row.member_id.as_deref(), row.external_id.as_deref()),
            "user": { "id": row.line_user_id },
        });
        New { at: now, member_id: row.member_id, line_user_id: Some(row.line_user_id), source: None, data }
    };
    let events: Vec<New<'_>> = failed.into_iter().map(new).collect();
    insert(conn, app, Kind::DeliveryFailed, place, endpoints, &events).await
}

/// Has a message's end told, where somebody wants it: in the transaction that accepts it. `from` is when its sending
/// begins.
pub async fn watch(conn: &mut Conn, app: &App, channel: &str, message_id: &str, from: Millis) -> Result<()> {
    if wanting(conn, Kind::MessageFinished, Place::channel(app, channel)).await?.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO hook_watches (message_id, from_seq, looks, look_at) VALUES ($1, 0, 0, $2) ON CONFLICT DO NOTHING",
    )
    .bind(message_id)
    .bind(from)
    .execute(conn)
    .await?;
    Ok(())
}
