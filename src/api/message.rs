//! Messages: sent ([`send`]), looked at, and taken back.

pub mod send;

use std::collections::BTreeMap;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    caller::Caller,
    json::Json,
    list::{List, NoFilter, Page, Paging},
    path::Path,
    time,
};
use crate::{
    app::App,
    db::Conn,
    error::{Error, Result},
    message::{self, look},
};

/// A message: what was asked to be sent.
#[derive(Debug, Serialize, ToSchema)]
pub struct Message {
    #[schema(example = "0198c5a2-7d3e-7b1a-9c41-5f0e8a6b2d10")]
    id: String,
    /// The channel (official account) that sends it.
    #[schema(example = "main")]
    channel: String,
    /// Transactional goes first and keeps no quiet hours.
    #[schema(example = "transactional")]
    lane: String,
    /// What asked for it: `api`, `command`, or a reaction of Musubi's own such as `linked`.
    #[schema(example = "api")]
    cause: String,
    topic: Option<String>,
    /// Null where message objects were given.
    #[schema(example = "reminder")]
    template: Option<String>,
    collapse_key: Option<String>,
    /// Not before this time.
    send_at: Option<String>,
    #[schema(example = "2026-12-24T09:00:00.000Z")]
    created_at: String,
    /// When it was taken back.
    cancelled_at: Option<String>,
    /// Recipients accepted so far.
    #[schema(example = 1)]
    accepted: i64,
    /// False while recipients are being added, or what waits is being cancelled.
    is_expanded: bool,
}

/// A message and what became of it. At every moment `accepted` is the sum of the six states.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MessageStanding)]
pub struct Standing {
    #[serde(flatten)]
    message: Message,
    counts: Counts,
    /// Who was left out when it was accepted, counted by reason: `not_linked`, `suspended`, `member_disabled`,
    /// `consent_withdrawn`, `not_reachable`, `opted_out`.
    #[schema(example = json!({ "not_linked": 1 }))]
    left_out: BTreeMap<String, i64>,
}

/// Accepted recipients by state.
#[derive(Debug, Serialize, ToSchema)]
pub struct Counts {
    waiting: i64,
    /// On its way to LINE.
    sending: i64,
    /// LINE took it.
    sent: i64,
    failed: i64,
    /// LINE never said whether it took it; it is not sent again.
    unknown: i64,
    cancelled: i64,
}

impl From<look::Head> for Message {
    fn from(head: look::Head) -> Self {
        Self {
            id: head.id,
            channel: head.channel,
            lane: head.lane,
            cause: head.cause,
            topic: head.topic,
            template: Some(head.template).filter(|name| !name.is_empty()),
            collapse_key: head.collapse_key,
            send_at: head.send_at.map(time),
            created_at: time(head.created_at),
            cancelled_at: head.cancelled_at.map(time),
            accepted: head.accepted,
            is_expanded: head.expanded_at.is_some(),
        }
    }
}

/// List messages
///
/// The newest first: those sent by the API, by the command line, and by Musubi itself.
#[utoipa::path(
    get, path = "/api/v1/messages", tag = "Messages", operation_id = "list_messages", params(Paging),
    responses((status = 200, description = "A page of messages", body = Page<Message>)),
    security(("key" = ["messages:read"])),
)]
pub async fn list(State(app): State<App>, caller: Caller, list: List<NoFilter>) -> Result<Json<Page<Message>>> {
    let mut conn = app.db.conn().await?;
    let mut found = Vec::new();
    for channel in caller.channels(&app) {
        found.extend(look::list(&mut conn, channel, list.after.as_deref(), list.rows()).await?);
    }
    found.sort_by(|one, other| other.id.cmp(&one.id));
    Ok(Json(list.page(found, |head| head.id.clone(), Message::from)))
}

/// See what became of a message
///
/// The counts belong together: they are read at one moment, and add up to `accepted`.
#[utoipa::path(
    get, path = "/api/v1/messages/{id}", tag = "Messages", operation_id = "get_message",
    params(("id" = String, Path, description = "The message's id", example = "0198c5a2-7d3e-7b1a-9c41-5f0e8a6b2d10")),
    responses((status = 200, description = "The message, its counts, and who was left out", body = Standing)),
    security(("key" = ["messages:read"])),
)]
pub async fn show(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<Standing>> {
    find(&app, &caller, &id).await?;
    standing(&mut *app.db.conn().await?, &id).await.map(Json)
}

/// Take a message back
///
/// No more recipients are added, what waits is cancelled, and what is on its way goes on. Taking it back again changes
/// nothing.
#[utoipa::path(
    post, path = "/api/v1/messages/{id}/cancel", tag = "Messages", operation_id = "cancel_message",
    params(("id" = String, Path, description = "The message's id", example = "0198c5a2-7d3e-7b1a-9c41-5f0e8a6b2d10")),
    responses((status = 200, description = "The message as it stands now", body = Standing)),
    security(("key" = ["messages:write"])),
)]
pub async fn cancel(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<Standing>> {
    find(&app, &caller, &id).await?;
    message::cancel_message(&app, &id).await?;
    standing(&mut *app.db.conn().await?, &id).await.map(Json)
}

/// A message that the key may know of.
pub(super) async fn find(app: &App, caller: &Caller, id: &str) -> Result<look::Head> {
    let head = look::find(&mut *app.db.conn().await?, id).await?.ok_or(Error::NotFound)?;
    if !caller.sees_channel(app, &head.channel) {
        return Err(caller.refuse_foreign(app, "message", id).await);
    }
    Ok(head)
}

async fn standing(conn: &mut Conn, id: &str) -> Result<Standing> {
    let left_out = look::count_left_out(conn, id).await?;
    let head = look::find(conn, id).await?.ok_or(Error::NotFound)?;
    // Read last, and with its own sum: recipients may have been added since.
    let counts = message::counts(conn, id).await?.ok_or(Error::NotFound)?;
    let message = Message { accepted: counts.accepted, ..Message::from(head) };
    let message::Counts { waiting, sending, sent, failed, unknown, cancelled, accepted: _ } = counts;
    Ok(Standing { message, counts: Counts { waiting, sending, sent, failed, unknown, cancelled }, left_out })
}
