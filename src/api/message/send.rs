//! A message is sent: the order that a body makes, and what becomes of it.

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::super::{
    caller::Caller,
    idempotency::Effect,
    json::{self, Json},
    read_time,
};
use crate::{
    app::App,
    error::{Error, Flaw, Kind, Problem, Result},
    message::{self, Audience, LeftOut, Mistake, Order, Refusal, What, look},
};

/// What to send, and to whom.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "to": { "members": ["1001"] },
    "template": "reminder",
    "data": { "company": "Musubi Demo", "title": "Dinner for two", "at": "2026-12-24T18:30", "place": "Musubi Dining, Meguro",
              "note": "Please tell us if you cannot come.", "url": "https://example.com/bookings/1042" },
}))]
pub struct NewMessage {
    /// The channel (official account) that sends it; may be left out where there is one only.
    channel: Option<String>,
    #[serde(deserialize_with = "json::object")]
    to: To,
    /// A message template, filled for each recipient in their language; this or `messages`.
    template: Option<String>,
    /// What the template is filled with.
    #[schema(value_type = Option<Object>)]
    data: Option<Map<String, Value>>,
    /// One to five LINE message objects, the same for all.
    #[schema(value_type = Option<Vec<Object>>, min_items = 1, max_items = 5)]
    messages: Option<Vec<Value>>,
    /// What it is about; members who opted out of it are left out.
    #[schema(min_length = 1, max_length = 64)]
    topic: Option<String>,
    /// Not before this time.
    #[schema(format = DateTime)]
    send_at: Option<String>,
    /// Takes the place of what still waits for the same recipients under the same key.
    #[schema(min_length = 1, max_length = 255)]
    collapse_key: Option<String>,
    /// Transactional goes first and keeps no quiet hours; one member gets the first, several the second.
    lane: Option<Lane>,
    /// Accepts it even where it is more than may be sent this month: the rest waits.
    #[serde(default)]
    beyond_quota: bool,
    /// Only tells who would get it, and what it would look like; nothing is stored or sent.
    #[serde(default)]
    dry_run: bool,
}

/// Whom it is for: one of these.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(min_properties = 1, max_properties = 1)]
pub struct To {
    /// Members by the company's own ids, or by Musubi's where they have none. LINE's user ids name nobody here. One
    /// that is repeated gets it once.
    #[schema(min_items = 1, max_items = 500, example = json!(["1001"]))]
    members: Option<Vec<String>>,
    /// All members who have this tag.
    #[schema(min_length = 1, max_length = 64)]
    tag: Option<String>,
    /// Everybody who is linked; always true.
    all: Option<bool>,
}

/// Which goes first.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    Transactional,
    Bulk,
}

/// A message that was accepted, or would be.
#[derive(Debug, Serialize, ToSchema)]
pub struct Accepted {
    /// Null for a dry run.
    #[schema(example = "0198c5a2-7d3e-7b1a-9c41-5f0e8a6b2d10")]
    id: Option<String>,
    /// Recipients so far. Those of a tag, and all, are added by and by: see the message.
    #[schema(example = 1)]
    accepted: i64,
    /// False while recipients are being added.
    is_expanded: bool,
    /// Who was left out so far, counted by reason.
    left_out: BTreeMap<String, i64>,
    /// Which of the named members were left out, and why. A message that was accepted by a former try under the same
    /// Idempotency-Key names nobody anew.
    members_left_out: Vec<MemberLeftOut>,
    /// For a dry run: the LINE message objects as one recipient would get them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    example: Option<Value>,
}

/// A member who gets nothing.
#[derive(Debug, Serialize, ToSchema)]
pub struct MemberLeftOut {
    /// As it was named in the request.
    #[schema(example = "1004")]
    member: String,
    /// `not_linked`, `suspended`, `member_disabled`, `consent_withdrawn`, `not_reachable` or `opted_out`.
    #[schema(example = "not_linked")]
    reason: String,
}

/// Send a message
///
/// It is accepted whole, or refused with every mistake in it. Accepted, it is stored and goes out by itself; that
/// somebody is left out is no mistake. To one member it is rendered now, to several when it is sent.
#[utoipa::path(
    post, path = "/api/v1/messages", tag = "Messages", operation_id = "send_message", request_body = NewMessage,
    responses(
        (status = 202, description = "It is accepted", body = Accepted),
        (status = 200, description = "It would be accepted (dry_run)", body = Accepted),
    ),
    security(("key" = ["messages:write"])),
)]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Effect(effect): Effect,
    Json(new): Json<NewMessage>,
) -> Result<Response> {
    let is_dry = new.dry_run;
    let mut order = order(&app, &caller, new).map_err(Problem::invalid)?;
    if is_dry {
        return dry_run(&app, &order).await;
    }
    order.idempotency_key = effect;
    let accepted = message::accept(&app, &order).await.map_err(refuse)?;
    let mut conn = app.db.conn().await?;
    let left_out = look::count_left_out(&mut conn, &accepted.message_id).await?;
    let head = look::find(&mut conn, &accepted.message_id).await?.ok_or(Error::NotFound)?;
    let answer = Accepted {
        id: Some(head.id),
        accepted: head.accepted,
        is_expanded: head.expanded_at.is_some(),
        left_out,
        members_left_out: accepted.left_out.into_iter().map(MemberLeftOut::from).collect(),
        example: None,
    };
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

async fn dry_run(app: &App, order: &Order) -> Result<Response> {
    let found = message::preview(app, order).await.map_err(refuse)?;
    let example = found.example.map(|(_, content)| serde_json::from_str(&content)).transpose()?;
    let answer = Accepted {
        id: None,
        accepted: found.recipients,
        is_expanded: true,
        left_out: found.left_out,
        members_left_out: Vec::new(),
        example,
    };
    Ok((StatusCode::OK, Json(answer)).into_response())
}

impl From<LeftOut> for MemberLeftOut {
    fn from(LeftOut { member, reason }: LeftOut) -> Self {
        Self { member, reason: reason.to_owned() }
    }
}

/// The order that a body makes, or every mistake that shows before anything is looked up.
fn order(app: &App, caller: &Caller, new: NewMessage) -> Result<Order, Vec<Flaw>> {
    let mut flaws = Vec::new();
    let channel = caller.channel(app, new.channel).map_err(|flaw| flaws.push(flaw)).unwrap_or_default();
    let to = audience(new.to).map_err(|flaw| flaws.push(flaw)).unwrap_or(Audience::All);
    let what = match (new.template, new.messages, new.data) {
        (Some(name), None, data) => What::Template { name, data: Value::Object(data.unwrap_or_default()) },
        (None, Some(list), None) => What::Messages(list),
        (None, Some(_), Some(_)) => {
            flaws.push(Flaw::new("data", "is for a template; messages are given whole"));
            What::Messages(Vec::new())
        }
        (Some(_), Some(_), _) | (None, None, _) => {
            flaws.push(Flaw::new(".", "must have either template or messages"));
            What::Messages(Vec::new())
        }
    };
    let send_at = new.send_at.as_deref().map(read_time).transpose();
    let send_at = send_at.map_err(|text| flaws.push(Flaw::new("send_at", text))).unwrap_or_default();
    let lane = new.lane.map(|lane| match lane {
        Lane::Transactional => message::Lane::Transactional,
        Lane::Bulk => message::Lane::Bulk,
    });
    if !flaws.is_empty() {
        return Err(flaws);
    }
    let (topic, collapse_key, beyond_quota) = (new.topic, new.collapse_key, new.beyond_quota);
    Ok(Order {
        channel,
        to,
        what,
        topic,
        send_at,
        collapse_key,
        idempotency_key: None,
        lane,
        beyond_quota,
        cause: "api",
    })
}

fn audience(to: To) -> Result<Audience, Flaw> {
    match (to.members, to.tag, to.all) {
        (Some(ids), None, None) => {
            // One alone is rendered now, and goes first.
            let is_one = ids.iter().collect::<BTreeSet<_>>().len() == 1;
            let first = ids.first().filter(|_| is_one).cloned();
            Ok(first.map_or(Audience::Members(ids), Audience::Member))
        }
        (None, Some(tag), None) => Ok(Audience::Tag(tag)),
        (None, None, Some(true)) => Ok(Audience::All),
        (None, None, Some(false)) => Err(Flaw::new("to.all", "must be true, or left out")),
        _ => Err(Flaw::new("to", "must have one of members, tag and all")),
    }
}

fn refuse(refusal: Refusal) -> Error {
    match refusal {
        Refusal::Mistakes(list) => Problem::invalid(list.into_iter().map(flaw).collect()).into(),
        Refusal::KeyTaken { .. } => {
            Problem::new(Kind::IdempotencyKeyReused, "Another message came under this key.").into()
        }
        Refusal::Failed(error) => error,
    }
}

/// A mistake as the body has its place.
fn flaw(mistake: Mistake) -> Flaw {
    let path = if mistake.path == "to.member" { "to.members[0]".to_owned() } else { mistake.path };
    Flaw::new(path, mistake.text.replace("--beyond-quota", "beyond_quota"))
}
