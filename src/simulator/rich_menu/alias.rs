//! Aliases: the names by which tabs lead to menus, so that a menu can be replaced and no tab has to be told.
//!
//! What an alias says anew is read back at once and reaches the phones a moment later. An alias outlives its menu; a
//! tab that leads to nothing says so in its postback.

#![expect(clippy::result_large_err, reason = "the error is the answer itself")]

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{bad_request, empty, is_menu_id, with_account};
use crate::simulator::{
    Simulator, answer, bot,
    message::found::Found,
    state::{Account, Tie},
};

const MAX_ALIASES: usize = 1000;
/// How long phones still know the menu before.
const CACHED: i64 = 1000;

pub(super) fn routes() -> Router<Simulator> {
    Router::new()
        .route("/v2/bot/richmenu/alias", post(create))
        .route("/v2/bot/richmenu/alias/list", get(list))
        .route("/v2/bot/richmenu/alias/{alias}", get(find).post(update).delete(delete))
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(in crate::simulator) struct Alias {
    pub menu: String,
    /// The menu before, and until when phones know that one.
    before: Option<(String, i64)>,
}

impl Alias {
    fn for_phones(&self, now: i64) -> &str {
        let before = self.before.as_ref().filter(|(_, until)| now < *until);
        before.map_or(&self.menu, |(menu, _)| menu)
    }
}

/// A person taps a tab: their own menu becomes the alias's. Gives the `params` of the postback that tells of it.
pub(in crate::simulator) fn switch(account: &mut Account, person: &str, alias: &str, now: i64) -> Value {
    let Some(menu) = account.menu_aliases.get(alias).map(|alias| alias.for_phones(now).to_owned()) else {
        return json!({ "status": "RICHMENU_ALIAS_ID_NOTFOUND" });
    };
    if !account.menus.contains_key(&menu) {
        return json!({ "status": "RICHMENU_NOTFOUND" });
    }
    // Only a friend can have a menu of their own.
    if account.ties.get(person) != Some(&Tie::Friend) {
        return json!({ "status": "FAILED" });
    }
    account.linked_menus.insert(person.to_owned(), menu);
    json!({ "newRichMenuAliasId": alias, "status": "SUCCESS" })
}

async fn create(State(sim): State<Simulator>, headers: HeaderMap, body: Bytes) -> Response {
    with_body(&sim, &headers, &body, |account, body| {
        let id = body.get("richMenuAliasId").and_then(Value::as_str).unwrap_or_default();
        let menu = menu_of(account, body, |found| {
            if !is_alias_id(id) {
                found.add("richMenuAliasId", "invalid richMenuAliasId");
            }
        })?;
        if account.menu_aliases.contains_key(id) {
            return Err(bad_request("conflict richmenu alias id"));
        }
        if account.menu_aliases.len() >= MAX_ALIASES {
            return Err(bad_request("The maximum number of rich menu aliases has already been created"));
        }
        account.menu_aliases.insert(id.to_owned(), Alias { menu, before: None });
        Ok(empty())
    })
}

async fn update(State(sim): State<Simulator>, headers: HeaderMap, Path(id): Path<String>, body: Bytes) -> Response {
    let now = sim.now();
    with_body(&sim, &headers, &body, |account, body| {
        if !account.menu_aliases.contains_key(&id) {
            return Err(not_found());
        }
        let menu = menu_of(account, body, |_| {})?;
        if let Some(alias) = account.menu_aliases.get_mut(&id) {
            let before = Some((alias.for_phones(now).to_owned(), now + CACHED));
            *alias = Alias { menu, before };
        }
        Ok(empty())
    })
}

async fn find(State(sim): State<Simulator>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    with_account(&sim, &headers, |account| match account.menu_aliases.get(&id) {
        Some(alias) => answer::ok(shown(&id, alias)),
        None => not_found(),
    })
}

async fn list(State(sim): State<Simulator>, headers: HeaderMap) -> Response {
    with_account(&sim, &headers, |account| {
        let aliases = account.menu_aliases.iter().map(|(id, alias)| shown(id, alias));
        answer::ok(json!({ "aliases": aliases.collect::<Vec<_>>() }))
    })
}

async fn delete(State(sim): State<Simulator>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    with_account(&sim, &headers, |account| match account.menu_aliases.remove(&id) {
        Some(_) => empty(),
        None => not_found(),
    })
}

fn shown(id: &str, alias: &Alias) -> Value {
    json!({ "richMenuAliasId": id, "richMenuId": alias.menu })
}

fn not_found() -> Response {
    answer::menu_error(StatusCode::NOT_FOUND, "richmenu alias not found")
}

fn is_alias_id(id: &str) -> bool {
    (1..=32).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
}

/// The menu that a body names, if an alias may lead there; `more` checks what else there is to the body.
fn menu_of(account: &Account, body: &Value, more: impl FnOnce(&mut Found)) -> Result<String, Response> {
    let id = body.get("richMenuId").and_then(Value::as_str).unwrap_or_default();
    let mut found = Found::default();
    more(&mut found);
    if !is_menu_id(id) {
        found.add("richMenuId", "invalid richMenuId");
    }
    if !found.0.is_empty() {
        return Err(answer::details(&found.0));
    }
    match account.menus.get(id) {
        Some(menu) if menu.image.is_some() => Ok(id.to_owned()),
        _ => Err(bad_request("richmenu not found")),
    }
}

fn with_body(
    sim: &Simulator,
    headers: &HeaderMap,
    body: &Bytes,
    act: impl FnOnce(&mut Account, &Value) -> Result<Response, Response>,
) -> Response {
    let read = bot::caller(sim, headers).and_then(|(_, bot)| Ok((bot, answer::read_json(headers, body)?)));
    match read {
        Ok((bot, body)) => act(sim.state().account(&bot.channel_id), &body).unwrap_or_else(|refusal| refusal),
        Err(refusal) => refusal,
    }
}
