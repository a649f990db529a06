//! Linking a menu to many at once, and unlinking many: answered 202 at once, done a moment later.
//!
//! A request is accepted as a whole or not at all.

#![expect(clippy::result_large_err, reason = "the error is the answer itself")]

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::post,
};
use serde_json::{Value, json};

use super::{Pending, is_menu_id, not_showable};
use crate::simulator::{
    Simulator, answer, bot,
    message::found::Found,
    state::{Account, is_user_id},
    world::{Bot, Provider},
};

const MAX_PEOPLE: usize = 500;
const DELAY: i64 = 1000;

pub(super) fn routes() -> Router<Simulator> {
    Router::new().route("/v2/bot/richmenu/bulk/link", post(link)).route("/v2/bot/richmenu/bulk/unlink", post(unlink))
}

async fn link(State(sim): State<Simulator>, headers: HeaderMap, body: Bytes) -> Response {
    accept(&sim, &headers, &body, |account, body| {
        let id = body.get("richMenuId").and_then(Value::as_str).unwrap_or_default();
        let mut found = Found::default();
        if !is_menu_id(id) {
            found.add("richMenuId", "invalid richMenuId");
            return Err(answer::details(&found.0));
        }
        match not_showable(account, id, super::menu_not_found) {
            Some(refusal) => Err(refusal),
            None => Ok(Some(id.to_owned())),
        }
    })
}

async fn unlink(State(sim): State<Simulator>, headers: HeaderMap, body: Bytes) -> Response {
    accept(&sim, &headers, &body, |_, _| Ok(None))
}

/// Accepts a request for the people it names; `menu` checks and gives what they are to have.
fn accept(
    sim: &Simulator,
    headers: &HeaderMap,
    body: &Bytes,
    menu: impl FnOnce(&Account, &Value) -> Result<Option<String>, Response>,
) -> Response {
    let checked = read(sim, headers, body).and_then(|(provider, bot, body, user_ids)| {
        let now = sim.now();
        let mut state = sim.state();
        let menu = menu(state.account(&bot.channel_id), &body)?;
        let people = user_ids.iter().filter_map(|user_id| state.find_in(provider, user_id));
        let links = people.map(|person| (person, menu.clone())).collect();
        let pending = Pending { due: now + DELAY, links, batch: None };
        state.account(&bot.channel_id).pending_menus.push(pending);
        Ok(answer::json(StatusCode::ACCEPTED, json!({})))
    });
    checked.unwrap_or_else(|refusal| refusal)
}

fn read<'s>(
    sim: &'s Simulator,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<(&'s Provider, &'s Bot, Value, Vec<String>), Response> {
    let (provider, bot) = bot::caller(sim, headers)?;
    let body: Value = answer::read_json(headers, body)?;
    let mut found = Found::default();
    let listed = found.list(&body, "", "userIds", 1, MAX_PEOPLE);
    if !found.0.is_empty() {
        return Err(answer::details(&found.0));
    }
    let mut user_ids = Vec::with_capacity(listed.len());
    for (place, id) in listed.iter().enumerate() {
        match id.as_str().filter(|id| is_user_id(id)) {
            Some(id) => user_ids.push(id.to_owned()),
            None => return Err(answer::invalid_property(&format!("'userIds[{place}]'"))),
        }
    }
    Ok((provider, bot, body, user_ids))
}
