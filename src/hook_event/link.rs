//! Of links: made, ended, or without the person's permission in LINE.

use serde_json::json;

use super::{Kind, New, Place, insert, member, time, wanting};
use crate::{
    app::App,
    db::{Conn, Millis},
    error::Result,
};

#[derive(sqlx::FromRow)]
struct Row {
    member_id: String,
    external_id: Option<String>,
    line_user_id: String,
    source: String,
    created_at: Millis,
    ended_at: Option<Millis>,
    end_reason: Option<String>,
}

/// A new link.
pub async fn created(conn: &mut Conn, app: &App, provider: &str, link_id: &str) -> Result<()> {
    tell(conn, app, Kind::LinkCreated, provider, link_id).await
}

/// The end of one, whoever wanted it.
pub async fn ended(conn: &mut Conn, app: &App, provider: &str, link_id: &str) -> Result<()> {
    tell(conn, app, Kind::LinkEnded, provider, link_id).await
}

/// The person took the permission back in LINE: the link stays, and nothing more is sent by it.
pub async fn consent_withdrawn(conn: &mut Conn, app: &App, provider: &str, link_id: &str) -> Result<()> {
    tell(conn, app, Kind::ConsentWithdrawn, provider, link_id).await
}

async fn tell(conn: &mut Conn, app: &App, kind: Kind, provider: &str, link_id: &str) -> Result<()> {
    let place = Place::provider(provider);
    let endpoints = wanting(conn, kind, place).await?;
    if endpoints.is_empty() {
        return Ok(());
    }
    let Some(row) = find(conn, link_id).await? else { return Ok(()) };
    let data = json!({
        "provider": provider,
        "link": { "id": link_id, "source": row.source, "created_at": time(row.created_at),
            "ended_at": row.ended_at.map(time), "end_reason": row.end_reason },
        "member": member(Some(&row.member_id), row.external_id.as_deref()),
        "user": { "id": row.line_user_id },
    });
    let (member_id, line_user_id) = (Some(row.member_id), Some(row.line_user_id));
    let new = New { at: app.now(), member_id, line_user_id, source: None, data };
    insert(conn, app, kind, place, &endpoints, &[new]).await
}

async fn find(conn: &mut Conn, link_id: &str) -> Result<Option<Row>> {
    let row = sqlx::query_as(
        "SELECT l.member_id, m.external_id, l.line_user_id, l.source, l.created_at, l.ended_at, l.end_reason
         FROM links l JOIN members m ON m.id = l.member_id WHERE l.id = $1",
    )
    .bind(link_id)
    .fetch_optional(conn)
    .await?;
    Ok(row)
}
