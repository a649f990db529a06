//! What a test orders about webhooks: their settings, any event, any body, holding back and sending again.

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{
        HeaderMap, StatusCode,
        header::{HeaderName, HeaderValue},
    },
    response::Response,
    routing::{get, post},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    Draft, Sent, deliver, event,
    post::{Letter, post as post_letter},
    redeliver, start_tokens, take_open, tell,
};
use crate::simulator::{
    Simulator, answer,
    control::refuse,
    state::{ChatId, State as Memory},
    world::Bot,
};

pub(in crate::simulator) fn routes() -> Router<Simulator> {
    Router::new()
        .route("/_sim/bots/{channel_id}/webhook", get(settings).post(set))
        .route("/_sim/bots/{channel_id}/events", post(any_event))
        .route("/_sim/webhooks", get(list).post(any_body))
        .route("/_sim/webhooks/hold", post(hold))
        .route("/_sim/webhooks/release", post(release))
        .route("/_sim/webhooks/redeliver", post(send_again))
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    endpoint: Option<String>,
    active: Option<bool>,
    redelivery: Option<bool>,
}

async fn settings(State(sim): State<Simulator>, Path(channel): Path<String>) -> Response {
    if sim.world().bot(&channel).is_none() {
        return no_channel();
    }
    answer::ok(json!(sim.state().account(&channel).webhook))
}

/// Sets what is given and leaves the rest.
async fn set(State(sim): State<Simulator>, Path(channel): Path<String>, Json(new): Json<Settings>) -> Response {
    if sim.world().bot(&channel).is_none() {
        return no_channel();
    }
    let mut state = sim.state();
    let webhook = &mut state.account(&channel).webhook;
    if new.endpoint.is_some() {
        webhook.endpoint = new.endpoint;
    }
    webhook.active = new.active.unwrap_or(webhook.active);
    webhook.redelivery = new.redelivery.unwrap_or(webhook.redelivery);
    let now = json!(webhook);
    drop(state);
    sim.changed();
    answer::ok(now)
}

fn no_channel() -> Response {
    refuse(StatusCode::NOT_FOUND, "no such channel")
}

/// The named bot, or the first of the world.
fn bot<'s>(sim: &'s Simulator, channel: Option<&str>) -> Option<&'s Bot> {
    match channel {
        Some(channel) => sim.world().bot(channel).map(|(_, bot)| bot),
        None => sim.world().providers.iter().find_map(|provider| provider.bots.first()),
    }
}

async fn list(State(sim): State<Simulator>) -> Response {
    answer::ok(json!({ "webhooks": sim.state().webhooks }))
}

/// Any event at all, completed with what all events have. What is given wins; what is given as null is left out.
async fn any_event(
    State(sim): State<Simulator>,
    Path(channel): Path<String>,
    Json(given): Json<Map<String, Value>>,
) -> Response {
    let Some(bot) = bot(&sim, Some(&channel)) else {
        return no_channel();
    };
    let kind = given.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let standby = ["mode", "standby"].map(|name| given.get(name));
    let standby = standby == [Some(&json!("standby")), None] || standby[1] == Some(&json!(true));
    let mut fields = given;
    fields.remove("standby");
    let event = {
        let mut state = sim.state();
        let now = sim.now();
        let chat = chat_of(&state, fields.get("source"));
        if let (Some(token), Some(chat)) = (fields.get("replyToken").and_then(Value::as_str), &chat) {
            event::register(&mut state, bot, token, chat.clone(), now);
        }
        let draft = Draft { kind: &kind, source: None, chat, standby, fields: Value::Object(fields) };
        let mut event = draft.make(&mut state, bot, now);
        if let Some(event) = event.as_object_mut() {
            event.retain(|_, value| !value.is_null());
        }
        event
    };
    sim.changed();
    answer::ok(told(&event, tell(&sim, &channel, event.clone()).await))
}

/// The chat that an event's source names, if there is one.
fn chat_of(state: &Memory, source: Option<&Value>) -> Option<ChatId> {
    let id = |name: &str| source?.get(name)?.as_str();
    let group = id("groupId").filter(|group| state.groups.contains_key(*group));
    group.map(str::to_owned).or_else(|| state.find(id("userId")?).map(|(person, _)| person.clone()))
}

/// The answer to an order that made an event.
pub(in crate::simulator) fn told(event: &Value, webhook: Value) -> Value {
    let mut answer = Map::new();
    answer.insert("webhook".to_owned(), webhook);
    let ids = [
        ("event_id", "/webhookEventId"),
        ("reply_token", "/replyToken"),
        ("message_id", "/message/id"),
        ("mark_as_read_token", "/message/markAsReadToken"),
    ];
    for (name, place) in ids {
        answer.extend(event.pointer(place).map(|value| (name.to_owned(), value.clone())));
    }
    Value::Object(answer)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnyBody {
    channel: Option<String>,
    #[serde(default)]
    body: String,
    /// Instead of `body`, for what is no UTF-8.
    base64: Option<String>,
    /// Left out: the right one. Null: none.
    #[serde(default, deserialize_with = "given")]
    signature: Option<Value>,
    /// A text, a list of texts, or null for a header that is not to be sent.
    #[serde(default)]
    headers: Map<String, Value>,
}

fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Any body at all, signed rightly or as ordered.
async fn any_body(State(sim): State<Simulator>, Json(order): Json<AnyBody>) -> Response {
    let Some(bot) = bot(&sim, order.channel.as_deref()) else {
        return no_channel();
    };
    let body = match &order.base64 {
        None => order.body.into_bytes(),
        Some(text) => match STANDARD.decode(text) {
            Ok(bytes) => bytes,
            Err(_) => return refuse(StatusCode::BAD_REQUEST, "base64 is not Base64"),
        },
    };
    let url = {
        let mut state = sim.state();
        if let Ok(body) = serde_json::from_slice(&body) {
            start_tokens(&mut state, &bot.channel_id, &body, sim.now());
        }
        state.account(&bot.channel_id).webhook.endpoint.clone()
    };
    let Some(url) = url else {
        return refuse(StatusCode::CONFLICT, "the channel has no webhook endpoint");
    };
    let mut letter = Letter::signed(bot, url, body, false);
    let mut headers = order.headers;
    headers.extend(order.signature.map(|signature| ("x-line-signature".to_owned(), signature)));
    if !set_headers(&mut letter.headers, &headers) {
        return refuse(StatusCode::BAD_REQUEST, "no such header can be sent");
    }
    answer::ok(json!({ "webhook": post_letter(&sim, letter).await }))
}

fn set_headers(headers: &mut HeaderMap, ordered: &Map<String, Value>) -> bool {
    for (name, values) in ordered {
        let Ok(name) = HeaderName::try_from(name) else {
            return false;
        };
        headers.remove(&name);
        let values = values.as_array().map_or(std::slice::from_ref(values), Vec::as_slice);
        for value in values.iter().filter(|value| !value.is_null()) {
            match value.as_str().map(HeaderValue::try_from) {
                Some(Ok(value)) => _ = headers.append(&name, value),
                _ => return false,
            }
        }
    }
    true
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Which {
    channel: Option<String>,
}

async fn hold(State(sim): State<Simulator>, Json(which): Json<Which>) -> Response {
    let Some(bot) = bot(&sim, which.channel.as_deref()) else {
        return no_channel();
    };
    sim.state().account(&bot.channel_id).webhook.held.get_or_insert_default();
    sim.changed();
    answer::ok(json!({}))
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Release {
    channel: Option<String>,
    /// Which of the held events, in the order of sending; one may be named twice or not at all.
    order: Option<Vec<usize>>,
    /// In one body.
    together: bool,
    repeat: Option<usize>,
    /// All bodies at one time.
    at_once: bool,
}

/// Sends what was held; what the order leaves out is never sent.
async fn release(State(sim): State<Simulator>, Json(release): Json<Release>) -> Response {
    let Some(bot) = bot(&sim, release.channel.as_deref()) else {
        return no_channel();
    };
    let channel = &bot.channel_id;
    let held = sim.state().account(channel).webhook.held.take().unwrap_or_default();
    sim.changed();
    let order = release.order.unwrap_or_else(|| (0..held.len()).collect());
    let events: Option<Vec<Value>> = order.iter().map(|place| held.get(*place).cloned()).collect();
    let Some(events) = events else {
        sim.state().account(channel).webhook.held = Some(held);
        return refuse(StatusCode::BAD_REQUEST, "no event with that index is held");
    };
    let bodies = if release.together { vec![events] } else { events.into_iter().map(|event| vec![event]).collect() };
    let bodies = std::iter::repeat_n(bodies, release.repeat.unwrap_or(1)).flatten();
    let running = bodies.map(|events| {
        let (sim, channel) = (sim.clone(), channel.clone());
        async move { deliver(&sim, &channel, events).await }
    });
    let mut sent: Vec<Option<Sent>> = Vec::new();
    if release.at_once {
        for one in running.map(tokio::spawn).collect::<Vec<_>>() {
            sent.push(one.await.unwrap_or_default());
        }
    } else {
        for one in running {
            sent.push(one.await);
        }
    }
    answer::ok(json!({ "webhooks": sent }))
}

/// Sends again what got no 2xx, now instead of after its pause.
async fn send_again(State(sim): State<Simulator>, Json(which): Json<Which>) -> Response {
    let Some(bot) = bot(&sim, which.channel.as_deref()) else {
        return no_channel();
    };
    let mut sent = Vec::new();
    for open in take_open(&sim, &bot.channel_id, None) {
        sent.push(redeliver(&sim, &bot.channel_id, open).await);
    }
    answer::ok(json!({ "webhooks": sent }))
}
