//! Deliveries: what became of messages, recipient by recipient.

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
    db::Conn,
    error::{Error, Flaw, Problem, Result},
    message::look::{self, Of, Place},
};

/// Which deliveries.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// Of this message.
    message: Option<String>,
    /// To this member, by the company's id, or Musubi's where they have none.
    member: Option<String>,
    /// In this state. `waiting`, `sending` and `sent` are asked for with a message or a member.
    #[param(inline)]
    state: Option<Standing>,
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = DeliveryState)]
pub enum Standing {
    Waiting,
    Sending,
    Sent,
    Failed,
    Unknown,
    Cancelled,
}

/// What became of a message for one recipient.
#[derive(Debug, Serialize, ToSchema)]
pub struct Delivery {
    #[schema(example = "0198c5a2-7d3e-7b1a-9c41-5f0e8a6b2d10")]
    message: String,
    /// Its number in the message, from 0.
    #[schema(example = 0)]
    number: i64,
    #[schema(example = "main")]
    channel: String,
    #[schema(example = "transactional")]
    lane: String,
    /// By the company's id, or Musubi's where they have none; null where somebody who wrote was answered. LINE's user id
    /// is not told: a person is a member here.
    #[schema(example = "1001")]
    member: Option<String>,
    /// `waiting`, `sending`, `sent`, `failed`, `unknown` or `cancelled`.
    #[schema(example = "sent")]
    state: String,
    /// Why, a machine word.
    reason: Option<String>,
    /// LINE's last words, where it refused.
    note: Option<String>,
    /// Requests made for it.
    #[schema(example = 1)]
    attempts: i64,
    /// When it is, or was, to be sent.
    due_at: String,
    created_at: String,
    updated_at: String,
}

impl Standing {
    fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Cancelled => "cancelled",
        }
    }
}

impl From<look::Delivery> for Delivery {
    fn from(row: look::Delivery) -> Self {
        Self {
            message: row.message_id,
            number: row.seq,
            channel: row.channel,
            lane: row.lane,
            member: row.member,
            state: row.state,
            reason: row.reason,
            note: row.note,
            attempts: row.attempts,
            due_at: time(row.due_at),
            created_at: time(row.created_at),
            updated_at: time(row.updated_at),
        }
    }
}

/// List deliveries
///
/// The newest first. A message or a member that is unknown has none.
#[utoipa::path(
    get, path = "/api/v1/deliveries", tag = "Messages", operation_id = "list_deliveries", params(Paging, Filter),
    responses((status = 200, description = "A page of deliveries", body = Page<Delivery>)),
    security(("key" = ["messages:read"])),
)]
pub async fn list(State(app): State<App>, caller: Caller, list: List<Filter>) -> Result<Json<Page<Delivery>>> {
    let before = list.after.as_deref().and_then(place);
    let mut conn = app.db.conn().await?;
    let rows = rows(&mut conn, &app, &caller, &list, before.as_ref()).await?;
    Ok(Json(list.page(rows, |row| format!("{} {}", row.message_id, row.seq), Delivery::from)))
}

fn place(key: &str) -> Option<Place> {
    let (message_id, seq) = key.split_once(' ')?;
    Some((message_id.to_owned(), seq.parse().ok()?))
}

/// A question that no index answers.
fn incomplete(parameter: &str, message: &str) -> Error {
    Problem::invalid(vec![Flaw::new(parameter, message)]).into()
}

/// The rows of the channels that the key is for. Each kind of question has its index.
async fn rows(
    conn: &mut Conn,
    app: &App,
    caller: &Caller,
    list: &List<Filter>,
    before: Option<&Place>,
) -> Result<Vec<look::Delivery>> {
    let state = list.filter.state.map(Standing::word);
    let message_id = list.filter.message.as_deref();
    if let Some(member) = &list.filter.member {
        let Some(id) = look::find_member(conn, member).await? else { return Ok(Vec::new()) };
        return in_channels(conn, app, caller, list, before, |channel| Of::Member {
            id: &id,
            channel,
            message_id,
            state,
        })
        .await;
    }
    if let Some(id) = message_id {
        let head = look::find(conn, id).await?;
        let is_seen = head.is_some_and(|head| caller.sees_channel(app, &head.channel));
        return if is_seen {
            look::list_deliveries(conn, Of::Message { id, state }, before, list.rows()).await
        } else {
            Ok(Vec::new())
        };
    }
    match state {
        Some(state @ ("failed" | "unknown" | "cancelled")) => {
            in_channels(conn, app, caller, list, before, |channel| Of::Bad { channel, state }).await
        }
        Some(_) => Err(incomplete("state", "needs a message or a member beside it")),
        None if caller.sees_all() => look::list_deliveries(conn, Of::All, before, list.rows()).await,
        None => Err(incomplete("message", "a key for some providers names a message, a member or a state")),
    }
}

async fn in_channels<'a>(
    conn: &mut Conn,
    app: &'a App,
    caller: &'a Caller,
    list: &List<Filter>,
    before: Option<&Place>,
    of: impl Fn(&'a str) -> Of<'a>,
) -> Result<Vec<look::Delivery>> {
    let mut found = Vec::new();
    for channel in caller.channels(app) {
        found.extend(look::list_deliveries(conn, of(channel), before, list.rows()).await?);
    }
    found.sort_by(|one, other| (&other.message_id, other.seq).cmp(&(&one.message_id, one.seq)));
    Ok(found)
}
