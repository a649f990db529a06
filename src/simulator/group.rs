//! Group chats, as far as a bot is told of them: it joins and leaves, people come and go, and somebody says something.

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::Response,
    routing::post,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Simulator, answer,
    control::{nobody, refuse, whose},
    deed,
    state::{Group, PersonId, State as Memory},
    webhook::{self, Draft, Source, told},
    world::Bot,
};

pub(super) fn routes() -> Router<Simulator> {
    Router::new()
        .route("/_sim/groups", post(create))
        .route("/_sim/groups/{group_id}/join", post(join))
        .route("/_sim/groups/{group_id}/leave", post(leave))
        .route("/_sim/groups/{group_id}/members", post(members))
        .route("/_sim/groups/{group_id}/message", post(message))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    name: String,
}

async fn create(State(sim): State<Simulator>, Json(new): Json<New>) -> Response {
    let id = format!("C{}", uuid::Uuid::new_v4().simple());
    sim.state().groups.insert(id.clone(), Group { name: new.name, ..Group::default() });
    sim.changed();
    answer::json(StatusCode::CREATED, json!({ "group_id": id }))
}

/// Who in the group does what, with which bot.
struct Place<'a> {
    sim: &'a Simulator,
    bot: &'a Bot,
    group_id: &'a str,
    standby: bool,
}

impl Place<'_> {
    /// Tells the bot, if it is in the group.
    async fn tell(&self, kind: &str, user_id: Option<&str>, fields: Value) -> Response {
        let event = {
            let mut state = self.sim.state();
            let here = state.groups.get(self.group_id).is_some_and(|group| group.bots.contains(&self.bot.channel_id));
            let draft = Draft {
                kind,
                source: Some(Source::Group { group_id: self.group_id, user_id }),
                chat: Some(self.group_id.to_owned()),
                standby: self.standby,
                fields,
            };
            (here || kind == "leave").then(|| draft.make(&mut state, self.bot, self.sim.now()))
        };
        self.sim.changed();
        answer::ok(match event {
            Some(event) => told(&event, webhook::tell(self.sim, &self.bot.channel_id, event.clone()).await),
            None => json!({ "webhook": null }),
        })
    }
}

/// The group and the bot of an order, which may name it by `channel`.
#[expect(clippy::result_large_err, reason = "the error is the answer itself")]
fn place<'a>(sim: &'a Simulator, group_id: &'a str, order: &Value) -> Result<Place<'a>, Response> {
    let mut bots = sim.world().providers.iter().flat_map(|provider| &provider.bots);
    let bot = match order.get("channel").and_then(Value::as_str) {
        Some(channel) => bots.find(|bot| bot.channel_id == channel),
        None => bots.next(),
    };
    let standby = order.get("standby") == Some(&json!(true));
    match bot {
        Some(bot) if sim.state().groups.contains_key(group_id) => Ok(Place { sim, bot, group_id, standby }),
        _ => Err(refuse(StatusCode::NOT_FOUND, "no such group or channel")),
    }
}

fn change(sim: &Simulator, group_id: &str, how: impl FnOnce(&mut Group) -> bool) -> bool {
    let mut state = sim.state();
    state.groups.get_mut(group_id).is_some_and(how)
}

async fn join(State(sim): State<Simulator>, Path(id): Path<String>, Json(order): Json<Value>) -> Response {
    let place = match place(&sim, &id, &order) {
        Ok(place) => place,
        Err(refusal) => return refusal,
    };
    if !change(&sim, &id, |group| group.bots.insert(place.bot.channel_id.clone())) {
        return answer::ok(json!({ "webhook": null }));
    }
    place.tell("join", None, json!({})).await
}

async fn leave(State(sim): State<Simulator>, Path(id): Path<String>, Json(order): Json<Value>) -> Response {
    let place = match place(&sim, &id, &order) {
        Ok(place) => place,
        Err(refusal) => return refusal,
    };
    if !change(&sim, &id, |group| group.bots.remove(&place.bot.channel_id)) {
        return answer::ok(json!({ "webhook": null }));
    }
    place.tell("leave", None, json!({})).await
}

/// People come (`joined`) or go (`left`), named by their user ids.
async fn members(State(sim): State<Simulator>, Path(id): Path<String>, Json(order): Json<Value>) -> Response {
    let place = match place(&sim, &id, &order) {
        Ok(place) => place,
        Err(refusal) => return refusal,
    };
    let come = order.get("joined").and_then(Value::as_array);
    let Some(ids) = come.or_else(|| order.get("left")?.as_array()) else {
        return refuse(StatusCode::BAD_REQUEST, "expected {\"joined\"} or {\"left\"}");
    };
    let Some(people) = people(&sim, &sim.state(), ids) else {
        return nobody();
    };
    change(&sim, &id, |group| {
        for person in people {
            if come.is_some() {
                group.members.insert(person)
            } else {
                group.members.remove(&person)
            };
        }
        true
    });
    let members: Vec<Value> = ids.iter().map(|id| json!({ "type": "user", "userId": id })).collect();
    let members = json!({ "members": members });
    match come {
        Some(_) => place.tell("memberJoined", None, json!({ "joined": members })).await,
        None => place.tell("memberLeft", None, json!({ "left": members })).await,
    }
}

fn people(sim: &Simulator, state: &Memory, ids: &[Value]) -> Option<Vec<PersonId>> {
    ids.iter().map(|id| whose(sim, state, id.as_str()?).map(|(person, _)| person)).collect()
}

/// Somebody says something. Who has not agreed to it is not named: then `user_id` is left out.
async fn message(State(sim): State<Simulator>, Path(id): Path<String>, Json(order): Json<Value>) -> Response {
    let place = match place(&sim, &id, &order) {
        Ok(place) => place,
        Err(refusal) => return refusal,
    };
    let user_id = order.get("user_id").and_then(Value::as_str);
    if user_id.is_some_and(|id| whose(&sim, &sim.state(), id).is_none()) {
        return nobody();
    }
    let message = {
        let mut state = sim.state();
        match deed::make_message(&mut state, &order) {
            Ok(made) => made.put(&mut state, place.bot, &id, user_id),
            Err(refusal) => return refuse(refusal.status, refusal.text),
        }
    };
    place.tell("message", user_id, json!({ "message": message })).await
}
