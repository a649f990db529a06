//! What a test orders and sees of rich menus: who has which, what is still to come, and the OA Manager's menu.

use std::collections::BTreeMap;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::Response,
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::pending;
use crate::simulator::{Simulator, answer, control::refuse, state::Account};

pub(in crate::simulator) fn routes() -> Router<Simulator> {
    Router::new()
        .route("/_sim/bots/{channel_id}/rich-menus", get(overview))
        .route("/_sim/bots/{channel_id}/rich-menus/finish", post(finish))
        .route("/_sim/bots/{channel_id}/rich-menus/fail", post(fail))
        .route("/_sim/bots/{channel_id}/rich-menus/manager", post(manager))
}

async fn overview(State(sim): State<Simulator>, Path(channel): Path<String>) -> Response {
    with_bot(&sim, &channel, |account| {
        let mut people: BTreeMap<&str, u64> = BTreeMap::new();
        for menu in account.linked_menus.values() {
            *people.entry(menu).or_default() += 1;
        }
        let menus = account.menus.iter().map(|(id, menu)| {
            json!({ "richMenuId": id, "name": menu.object.get("name"), "people": people.get(id.as_str()).unwrap_or(&0) })
        });
        let aliases = account.menu_aliases.iter().map(|(id, alias)| (id.clone(), Value::from(alias.menu.clone())));
        answer::ok(json!({
            "default": account.default_menu,
            "managers_default": account.managers_menu,
            "menus": menus.collect::<Vec<_>>(),
            "aliases": aliases.collect::<serde_json::Map<_, _>>(),
            "pending": account.pending_menus.len(),
        }))
    })
}

/// What was accepted takes effect now.
async fn finish(State(sim): State<Simulator>, Path(channel): Path<String>) -> Response {
    let now = sim.now();
    with_bot(&sim, &channel, |account| answer::ok(json!({ "finished": pending::finish(account, now) })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fail {
    after: usize,
}

/// The next bulk request or batch to take effect does so for its first people only.
async fn fail(State(sim): State<Simulator>, Path(channel): Path<String>, Json(Fail { after }): Json<Fail>) -> Response {
    with_bot(&sim, &channel, |account| {
        account.menus_fail_after = Some(after);
        answer::ok(json!({}))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manager {
    default: bool,
}

/// Whether the company has set a default menu in LINE Official Account Manager, which the API neither shows nor takes.
async fn manager(State(sim): State<Simulator>, Path(channel): Path<String>, Json(new): Json<Manager>) -> Response {
    with_bot(&sim, &channel, |account| {
        account.managers_menu = new.default;
        answer::ok(json!({}))
    })
}

fn with_bot(sim: &Simulator, channel: &str, act: impl FnOnce(&mut Account) -> Response) -> Response {
    if sim.world().bot(channel).is_none() {
        return refuse(StatusCode::NOT_FOUND, "no such channel");
    }
    let response = act(sim.state().account(channel));
    sim.changed();
    response
}
