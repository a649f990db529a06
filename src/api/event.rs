//! Events: what LINE's webhooks brought, and what became of it. What people wrote is not in them.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    caller::Caller,
    json::Json,
    list::{List, Page, Paging},
    time,
};
use crate::{
    app::App,
    error::Result,
    webhook::look::{self, Place},
};

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// Of this channel.
    channel: Option<String>,
}

/// An event of LINE's, without its contents.
#[derive(Debug, Serialize, ToSchema)]
pub struct Event {
    /// LINE's webhookEventId.
    #[schema(example = "01FZ74A0TDDPYRVKNK77XKC3ZR")]
    id: String,
    #[schema(example = "main")]
    channel: String,
    /// LINE's type.
    #[schema(example = "follow")]
    r#type: String,
    /// `waiting`, `done`, `ignored` or `parked`.
    #[schema(example = "done")]
    state: String,
    /// Tries to handle it.
    attempts: i64,
    /// LINE's time of it.
    at: String,
    received_at: String,
    handled_at: Option<String>,
}

impl From<look::Event> for Event {
    fn from(row: look::Event) -> Self {
        Self {
            id: row.id,
            channel: row.channel,
            r#type: row.kind,
            state: row.state,
            attempts: row.attempts,
            at: time(row.at),
            received_at: time(row.received_at),
            handled_at: row.handled_at.map(time),
        }
    }
}

/// List events of LINE's webhooks
///
/// The newest first, for as long as they are kept (`retention.events_days`).
#[utoipa::path(
    get, path = "/api/v1/events", tag = "Events", operation_id = "list_events", params(Paging, Filter),
    responses((status = 200, description = "A page of events", body = Page<Event>)),
    security(("key" = ["events:read"])),
)]
pub async fn list(State(app): State<App>, caller: Caller, list: List<Filter>) -> Result<Json<Page<Event>>> {
    let before: Option<Place> = list
        .after
        .as_deref()
        .and_then(|key| key.split_once(' '))
        .map(|(id, channel)| (id.to_owned(), channel.to_owned()));
    let wanted = |name: &&str| list.filter.channel.as_deref().is_none_or(|channel| channel == *name);
    let mut conn = app.db.conn().await?;
    let mut found = Vec::new();
    for channel in caller.channels(&app).filter(wanted) {
        found.extend(look::list(&mut conn, channel, before.as_ref(), list.rows()).await?);
    }
    found.sort_by(|one, other| (&other.id, &other.channel).cmp(&(&one.id, &one.channel)));
    Ok(Json(list.page(found, |row| format!("{} {}", row.id, row.channel), Event::from)))
}
