//! What a person does in the chat with a bot, ordered by a test or by a form of the phone page; the bot is told by its
//! webhook, and the order is answered when that has ended.
//!
//! A person who blocks the account sees no chat with it, so they can do nothing there but unblock it.

mod message;
mod tap;

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
    response::Response,
    routing::post,
};
use serde_json::{Map, Value, json};

use super::{
    Simulator, answer,
    control::{bots, nobody, refuse, whose},
    state::{PersonId, State as Memory, Tie},
    webhook::{self, Draft, Source, told},
    world::Bot,
};
pub(super) use message::make as make_message;

pub(super) fn routes() -> Router<Simulator> {
    Router::new().route("/_sim/users/{user_id}/{deed}", post(ordered))
}

/// Why an order cannot be carried out.
pub(super) struct Refusal {
    pub status: StatusCode,
    pub text: &'static str,
}

impl Refusal {
    pub fn bad(text: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, text }
    }
}

/// What was done: the event that tells of it, if any, and what else the order is answered with.
#[derive(Default)]
pub(super) struct Done {
    pub event: Option<Value>,
    pub more: Map<String, Value>,
}

/// Who does something, and where.
struct Scene<'a> {
    bot: &'a Bot,
    person: PersonId,
    user_id: &'a str,
    order: &'a Value,
    now: i64,
}

impl Scene<'_> {
    /// The event of something that only this person did.
    fn event(&self, state: &mut Memory, kind: &str, fields: Value) -> Value {
        let draft = Draft {
            kind,
            source: Some(Source::User { user_id: self.user_id }),
            chat: Some(self.person.clone()),
            standby: self.order.get("standby") == Some(&json!(true)),
            fields,
        };
        draft.make(state, self.bot, self.now)
    }

    fn done(&self, state: &mut Memory, kind: &str, fields: Value) -> Done {
        Done { event: Some(self.event(state, kind, fields)), more: Map::new() }
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.order.get(name).and_then(Value::as_str)
    }

    fn is_blocked(&self, state: &Memory) -> bool {
        state.tie(&self.bot.channel_id, &self.person) == Some(Tie::Blocked)
    }
}

async fn ordered(State(sim): State<Simulator>, Path((user_id, deed)): Path<(String, String)>, body: Bytes) -> Response {
    let order = if body.is_empty() { Ok(json!({})) } else { serde_json::from_slice(&body) };
    let Some(order) = order.ok().filter(Value::is_object) else {
        return refuse(StatusCode::BAD_REQUEST, "expected a JSON object or no body");
    };
    match carry_out(&sim, &user_id, &deed, &order).await {
        Ok(answer) => answer::ok(answer),
        Err(Refusal { status: StatusCode::NOT_FOUND, text: "" }) => nobody(),
        Err(refusal) => refuse(refusal.status, refusal.text),
    }
}

/// Does it, and waits until the bot's webhook has answered or not. Adding and blocking concern every bot of the
/// provider unless `channel` names one; anything else concerns one.
pub(super) async fn carry_out(sim: &Simulator, user_id: &str, deed: &str, order: &Value) -> Result<Value, Refusal> {
    let nobody = || Refusal { status: StatusCode::NOT_FOUND, text: "" };
    let (person, provider) = whose(sim, &sim.state(), user_id).ok_or_else(nobody)?;
    let channel = order.get("channel").and_then(Value::as_str);
    let mut bots = bots(provider, channel);
    if bots.is_empty() && channel.is_some() {
        return Err(Refusal { status: StatusCode::NOT_FOUND, text: "no such channel at this provider" });
    }
    if !matches!(deed, "follow" | "block") {
        bots.truncate(1);
    }
    let mut answer = None;
    for bot in bots {
        let scene = Scene { bot, person: person.clone(), user_id, order, now: sim.now() };
        let done = scene.act(&mut sim.state(), deed)?;
        sim.changed();
        let mut told = match &done.event {
            Some(event) => told(event, webhook::tell(sim, &bot.channel_id, event.clone()).await),
            None => json!({ "webhook": null }),
        };
        if let Some(told) = told.as_object_mut() {
            told.extend(done.more);
        }
        answer.get_or_insert(told);
    }
    Ok(answer.unwrap_or_else(|| json!({ "webhook": null })))
}

impl Scene<'_> {
    fn act(&self, state: &mut Memory, deed: &str) -> Result<Done, Refusal> {
        match deed {
            "follow" => return Ok(self.follow(state)),
            "block" => return Ok(self.block(state)),
            "membership" => return self.membership(state),
            _ if self.is_blocked(state) => {
                return Err(Refusal { status: StatusCode::CONFLICT, text: "the person blocks the account" });
            }
            _ => {}
        }
        match deed {
            "message" => self.send(state),
            "unsend" => self.unsend(state),
            "postback" => self.postback(state, self.order),
            "tap" => self.tap(state),
            "beacon" => self.beacon(state),
            "video-complete" => {
                let id = self.text("tracking_id").ok_or_else(|| Refusal::bad("tracking_id is missing"))?;
                Ok(self.done(state, "videoPlayComplete", json!({ "videoPlayComplete": { "trackingId": id } })))
            }
            _ => Err(Refusal { status: StatusCode::NOT_FOUND, text: "nobody can do that" }),
        }
    }

    /// Adds the account as a friend, or unblocks it. Nothing happens twice.
    fn follow(&self, state: &mut Memory) -> Done {
        match state.follow(&self.bot.channel_id, &self.person) {
            Some(Tie::Friend) => Done::default(),
            was => {
                let follow = json!({ "follow": { "isUnblocked": was == Some(Tie::Blocked) } });
                self.done(state, "follow", follow)
            }
        }
    }

    fn block(&self, state: &mut Memory) -> Done {
        match state.block(&self.bot.channel_id, &self.person) {
            Some(Tie::Blocked) => Done::default(),
            _ => self.done(state, "unfollow", json!({})),
        }
    }

    fn beacon(&self, state: &mut Memory) -> Result<Done, Refusal> {
        let hwid = self.text("hwid").unwrap_or("d41d8cd98f");
        let mut beacon = json!({ "hwid": hwid, "type": self.text("type").unwrap_or("enter") });
        if let (Some(beacon), Some(dm)) = (beacon.as_object_mut(), self.text("dm")) {
            beacon.insert("dm".to_owned(), dm.into());
        }
        Ok(self.done(state, "beacon", json!({ "beacon": beacon })))
    }

    fn membership(&self, state: &mut Memory) -> Result<Done, Refusal> {
        let kind = self.text("type").filter(|kind| matches!(*kind, "joined" | "left" | "renewed"));
        let kind = kind.ok_or_else(|| Refusal::bad("type must be joined, left or renewed"))?;
        let id = self.order.get("membership_id").and_then(Value::as_u64).unwrap_or(3189);
        Ok(self.done(state, "membership", json!({ "membership": { "type": kind, "membershipId": id } })))
    }
}
