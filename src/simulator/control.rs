//! The control API under `/_sim`: what people do at LINE, ordered by a test or a script.
//!
//! A person is named by any of their user ids. Which bots an order is about follows from the id's provider.

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    Simulator, answer,
    fault::Fault,
    ledger, rich_menu,
    state::{Outcome, Person, PersonId, QueuedLogin, State as Memory, user_id},
    world::{Bot, Provider, World},
};

pub(super) fn routes() -> Router<Simulator> {
    Router::new()
        .route("/_sim/health", get(async || answer::ok(json!({ "status": "ok" }))))
        .route("/_sim/users", get(list_users).post(create_user))
        .route("/_sim/users/{user_id}/withdraw", post(withdraw))
        .route("/_sim/users/{user_id}/chat", get(chat))
        .route("/_sim/logins", post(queue_login))
        .route("/_sim/faults", post(add_fault).delete(clear_faults))
        .route("/_sim/latency", post(set_latency))
        .route("/_sim/ledger", get(ledger))
        .route("/_sim/ledger/summary", get(summary))
        .route("/_sim/bots/{channel_id}/quota", post(set_quota))
        .route("/_sim/bots/{channel_id}/verified", post(set_verified))
        .route("/_sim/bots/{channel_id}/rate", post(set_rate))
        .route("/_sim/reset", post(reset))
}

/// Answers an order that cannot be carried out.
pub(super) fn refuse(status: StatusCode, text: &str) -> Response {
    answer::json(status, json!({ "error": text }))
}

pub(super) fn nobody() -> Response {
    refuse(StatusCode::NOT_FOUND, "no such user")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewUser {
    display_name: String,
    email: Option<String>,
    language: Option<String>,
    picture_url: Option<String>,
}

async fn create_user(State(sim): State<Simulator>, Json(new): Json<NewUser>) -> Response {
    let person = Person {
        number: 0,
        display_name: new.display_name,
        email: new.email,
        language: new.language,
        picture_url: new.picture_url,
    };
    let id = sim.state().add_person(sim.world(), person);
    sim.changed();
    let Some(provider) = sim.world().providers.first() else {
        return refuse(StatusCode::CONFLICT, "the world has no provider");
    };
    let body = json!({
        "user_id": user_id(&id, &provider.name),
        "user_ids": ids(sim.world(), &id),
    });
    answer::json(StatusCode::CREATED, body)
}

/// The person's user id at each provider.
fn ids(world: &World, person: &str) -> Value {
    let ids = world.providers.iter().map(|p| (p.name.clone(), user_id(person, &p.name).into()));
    Value::Object(ids.collect::<Map<_, _>>())
}

async fn list_users(State(sim): State<Simulator>) -> Response {
    let state = sim.state();
    let first = sim.world().providers.first();
    let users = state.people_in_order().into_iter().map(|(id, person)| {
        json!({
            "user_id": first.map(|provider| user_id(id, &provider.name)),
            "user_ids": ids(sim.world(), id),
            "display_name": person.display_name,
            "email": person.email,
            "language": person.language,
            "picture_url": person.picture_url,
        })
    });
    answer::ok(json!({ "users": users.collect::<Vec<_>>() }))
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Which {
    channel: Option<String>,
}

/// The bots of the provider, or the one that is named.
pub(super) fn bots<'p>(provider: &'p Provider, channel: Option<&str>) -> Vec<&'p Bot> {
    let wanted = |bot: &&Bot| channel.is_none_or(|channel| bot.channel_id == channel);
    provider.bots.iter().filter(wanted).collect()
}

/// Whose id this is, and at which provider.
pub(super) fn whose<'s>(sim: &'s Simulator, state: &Memory, user_id: &str) -> Option<(PersonId, &'s Provider)> {
    let (person, provider) = state.find(user_id)?;
    Some((person.clone(), sim.world().provider(provider)?))
}

/// The person unlinks the app in LINE's settings. LINE tells nobody.
async fn withdraw(State(sim): State<Simulator>, Path(id): Path<String>) -> Response {
    let mut state = sim.state();
    let Some((person, provider)) = whose(&sim, &state, &id) else {
        return nobody();
    };
    if let Some(login) = &provider.login {
        state.withdraw(&login.channel_id, &person);
    }
    drop(state);
    sim.changed();
    answer::ok(json!({}))
}

async fn chat(State(sim): State<Simulator>, Path(id): Path<String>, Query(which): Query<Which>) -> Response {
    let state = sim.state();
    let Some((person, provider)) = whose(&sim, &state, &id) else {
        return nobody();
    };
    let Some(bot) = bots(provider, which.channel.as_deref()).into_iter().next() else {
        return refuse(StatusCode::NOT_FOUND, "no such channel at this provider");
    };
    let account = state.accounts.get(&bot.channel_id);
    answer::ok(json!({
        "messages": account.and_then(|a| a.chats.get(&person)).cloned().unwrap_or_default(),
        "rich_menu": rich_menu::shown(&state, &bot.channel_id, &person),
        "friend": state.is_friend(&bot.channel_id, &person),
        "loading": account.is_some_and(|a| a.loading.get(&person).is_some_and(|until| sim.now() < *until)),
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    user_id: String,
    outcome: Outcome,
    #[serde(default)]
    add_friend: bool,
    #[serde(default = "yes")]
    email: bool,
}

fn yes() -> bool {
    true
}

async fn queue_login(State(sim): State<Simulator>, Json(login): Json<Login>) -> Response {
    let mut state = sim.state();
    let Some((person, _)) = whose(&sim, &state, &login.user_id) else {
        return nobody();
    };
    let Login { outcome, add_friend, email, .. } = login;
    state.logins.push_back(QueuedLogin { person, outcome, add_friend, email });
    drop(state);
    sim.changed();
    answer::json(StatusCode::CREATED, json!({}))
}

async fn add_fault(State(sim): State<Simulator>, Json(fault): Json<Fault>) -> Response {
    if fault.count == 0 {
        return refuse(StatusCode::BAD_REQUEST, "count must be at least 1");
    }
    sim.state().faults.push_back(fault);
    sim.changed();
    answer::json(StatusCode::CREATED, json!({}))
}

async fn clear_faults(State(sim): State<Simulator>) -> Response {
    sim.state().faults.clear();
    sim.changed();
    StatusCode::NO_CONTENT.into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Latency {
    ms: u64,
}

/// How long every answer of LINE is held back, beside what faults do.
async fn set_latency(State(sim): State<Simulator>, Json(Latency { ms }): Json<Latency>) -> Response {
    sim.state().latency_ms = ms;
    answer::ok(json!({}))
}

async fn ledger(State(sim): State<Simulator>) -> Response {
    let state = sim.state();
    answer::ok(json!({
        "calls": state.ledger.calls(),
        "forgotten": state.ledger.forgotten(),
        "deliveries": ledger::deliveries(&state.arrivals),
    }))
}

async fn summary(State(sim): State<Simulator>) -> Response {
    answer::ok(ledger::summary(&sim.state().arrivals))
}

fn no_bot() -> Response {
    refuse(StatusCode::NOT_FOUND, "no such channel")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewQuota {
    limit: Option<u64>,
}

/// How many messages the account may send in a month; `null`: any number.
async fn set_quota(State(sim): State<Simulator>, Path(channel): Path<String>, Json(new): Json<NewQuota>) -> Response {
    let Some((_, bot)) = sim.world().bot(&channel) else { return no_bot() };
    sim.state().account(&bot.channel_id).quota.limit = new.limit;
    sim.changed();
    answer::ok(json!({}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Verified {
    verified: bool,
}

async fn set_verified(
    State(sim): State<Simulator>,
    Path(channel): Path<String>,
    Json(new): Json<Verified>,
) -> Response {
    let Some((_, bot)) = sim.world().bot(&channel) else { return no_bot() };
    sim.state().account(&bot.channel_id).is_unverified = !new.verified;
    sim.changed();
    answer::ok(json!({}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rate {
    /// `POST /v2/bot/message/push`
    endpoint: String,
    /// None: as many as one likes.
    calls: Option<u32>,
    #[serde(default = "second")]
    per_ms: u32,
}

fn second() -> u32 {
    1000
}

/// How often the bot may call an endpoint, in place of LINE's own limit.
async fn set_rate(State(sim): State<Simulator>, Path(channel): Path<String>, Json(new): Json<Rate>) -> Response {
    let Some((_, bot)) = sim.world().bot(&channel) else { return no_bot() };
    if new.per_ms == 0 {
        return refuse(StatusCode::BAD_REQUEST, "per_ms must be at least 1");
    }
    let Rate { endpoint, calls, per_ms } = new;
    sim.state().buckets.set(&bot.channel_id, &endpoint, calls, per_ms);
    answer::ok(json!({}))
}

/// Empties all but the world, the published and registered keys, and what is set about webhooks.
async fn reset(State(sim): State<Simulator>) -> Response {
    let mut state = sim.state();
    let before = std::mem::take(&mut *state);
    state.signing_key = before.signing_key;
    state.former_signing_keys = before.former_signing_keys;
    state.assertion_keys = before.assertion_keys;
    for (channel, account) in before.accounts {
        state.account(&channel).webhook = account.webhook.settings_only();
    }
    drop(state);
    sim.changed();
    answer::ok(json!({}))
}
