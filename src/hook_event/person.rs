//! Of people and official accounts: followed, blocked, written to, tapped.

use serde_json::{Map, Value, json};

use super::{Kind, New, Place, insert, member, wanting};
use crate::{
    app::App,
    db::{Conn, Millis},
    error::Result,
};

/// What somebody did.
#[derive(Debug, Clone, Copy)]
pub struct Deed<'a> {
    pub kind: Kind,
    pub channel: &'a str,
    /// LINE's event, and its time.
    pub event_id: &'a str,
    pub at: Millis,
    /// Who it was here; none where LINE does not say it.
    pub line_user_id: Option<&'a str>,
    /// LINE's kind and id of a group or room; none where it was done to the official account alone.
    pub group: Option<(&'a str, &'a str)>,
    /// Whether another system answers at present.
    pub is_standby: bool,
}

/// Tells what somebody did. `more` is what its kind has beside, and is made only where it is told.
pub async fn did(conn: &mut Conn, app: &App, deed: Deed<'_>, more: impl FnOnce() -> Map<String, Value>) -> Result<()> {
    let place = Place::channel(app, deed.channel);
    let endpoints = wanting(conn, deed.kind, place).await?;
    if endpoints.is_empty() {
        return Ok(());
    }
    let owner = match deed.line_user_id {
        Some(line_user_id) => find_member(conn, line_user_id).await?,
        None => None,
    };
    let chat = match deed.group {
        Some((kind, id)) => json!({ "type": kind, "id": id }),
        None => json!({ "type": "user" }),
    };
    let (member_id, external_id) = owner.unzip();
    let mut data = Map::from_iter([
        ("provider".to_owned(), place.provider.into()),
        ("channel".to_owned(), deed.channel.into()),
        ("user".to_owned(), deed.line_user_id.map_or(Value::Null, |id| json!({ "id": id }))),
        ("member".to_owned(), member(member_id.as_deref(), external_id.flatten().as_deref())),
        ("chat".to_owned(), chat),
        ("is_standby".to_owned(), deed.is_standby.into()),
    ]);
    data.extend(more());
    let line_user_id = deed.line_user_id.map(str::to_owned);
    let new = New { at: deed.at, member_id, line_user_id, source: Some(deed.event_id), data: data.into() };
    insert(conn, app, deed.kind, place, &endpoints, &[new]).await
}

/// The member that somebody is linked to, and the company's id of them. Of a suspended link nobody knows whose it is.
async fn find_member(conn: &mut Conn, line_user_id: &str) -> Result<Option<(String, Option<String>)>> {
    let found = sqlx::query_as(
        "SELECT m.id, m.external_id FROM links l JOIN members m ON m.id = l.member_id
         WHERE l.line_user_id = $1 AND l.ended_at IS NULL AND l.suspended_at IS NULL",
    )
    .bind(line_user_id)
    .fetch_optional(conn)
    .await?;
    Ok(found)
}
