//! Rich menus: made, given an image, shown to all or to one; `bulk` and `batch` to many, `alias` by a tab.
//!
//! An image is uploaded once and never replaced; a menu without one can be shown to nobody. Linking a menu to somebody
//! who is no friend is answered like success and does nothing, so a caller learns the truth only by reading back.

pub(super) mod alias;
mod batch;
mod bulk;
mod check;
mod control;
pub(super) mod image;
mod pending;

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
use serde_json::{Value, json};

pub(super) use self::{
    alias::Alias,
    batch::Batch,
    control::routes as control_routes,
    pending::{Pending, settle},
};
use super::{
    Simulator, answer, bot,
    state::{Account, Menu, State as Memory, is_user_id},
};

const MAX_MENUS: usize = 1000;

pub(super) fn api_routes() -> Router<Simulator> {
    Router::new()
        .route("/v2/bot/richmenu", post(create))
        .route("/v2/bot/richmenu/validate", post(validate))
        .route("/v2/bot/richmenu/list", get(list))
        .route("/v2/bot/richmenu/{menu}", get(find).delete(delete))
        .route("/v2/bot/user/all/richmenu", get(default_menu).delete(clear_default))
        .route("/v2/bot/user/all/richmenu/{menu}", post(set_default))
        .route("/v2/bot/user/{user_id}/richmenu", get(menu_of).delete(unlink))
        .route("/v2/bot/user/{user_id}/richmenu/{menu}", post(link))
        .merge(alias::routes())
        .merge(bulk::routes())
        .merge(batch::routes())
}

/// The image lives on a host of its own.
pub(super) fn data_routes() -> Router<Simulator> {
    Router::new().route("/v2/bot/richmenu/{menu}/content", get(image::download).post(image::upload))
}

/// The menu object a person sees in the chat with a bot: their own, else the default one.
pub(super) fn shown<'s>(state: &'s Memory, bot: &str, person: &str) -> Option<&'s Value> {
    let account = state.accounts.get(bot)?;
    let own = account.linked_menus.get(person).and_then(|id| account.menus.get(id));
    let menu = own.or_else(|| account.menus.get(account.default_menu.as_ref()?));
    menu.map(|menu| &menu.object)
}

fn empty() -> Response {
    answer::ok(json!({}))
}

fn not_found() -> Response {
    answer::menu_error(StatusCode::NOT_FOUND, "Not found")
}

/// The words of the calls that name the menu in their body.
fn menu_not_found() -> Response {
    answer::menu_error(StatusCode::NOT_FOUND, "richmenu not found")
}

fn bad_request(text: &str) -> Response {
    answer::menu_error(StatusCode::BAD_REQUEST, text)
}

async fn create(State(sim): State<Simulator>, headers: HeaderMap, body: Bytes) -> Response {
    let (_, bot) = match bot::caller(&sim, &headers) {
        Ok(caller) => caller,
        Err(answer) => return answer,
    };
    let mut object = match check::read(&headers, &body) {
        Ok(object) => object,
        Err(answer) => return answer,
    };
    let mut state = sim.state();
    let account = state.account(&bot.channel_id);
    if account.menus.len() >= MAX_MENUS {
        return bad_request("The maximum number of rich menus has already been created");
    }
    let id = format!("richmenu-{}", uuid::Uuid::new_v4().simple());
    object.insert("richMenuId".to_owned(), id.clone().into());
    let number = account.menus.values().map(|menu| menu.number + 1).max().unwrap_or(1);
    let menu = Menu { number, object: Value::Object(object), image: None };
    account.menus.insert(id.clone(), menu);
    answer::ok(json!({ "richMenuId": id }))
}

async fn validate(State(sim): State<Simulator>, headers: HeaderMap, body: Bytes) -> Response {
    if let Err(answer) = bot::caller(&sim, &headers) {
        return answer;
    }
    match check::read(&headers, &body) {
        Ok(_) => empty(),
        Err(answer) => answer,
    }
}

async fn list(State(sim): State<Simulator>, headers: HeaderMap) -> Response {
    with_account(&sim, &headers, |account| {
        let mut menus: Vec<&Menu> = account.menus.values().collect();
        menus.sort_by_key(|menu| menu.number);
        let objects: Vec<&Value> = menus.iter().map(|menu| &menu.object).collect();
        answer::ok(json!({ "richmenus": objects }))
    })
}

async fn find(State(sim): State<Simulator>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    with_account(&sim, &headers, |account| match account.menus.get(&id) {
        Some(menu) => answer::ok(menu.object.clone()),
        None => not_found(),
    })
}

/// What was shown by the deleted menu's id is shown no more.
async fn delete(State(sim): State<Simulator>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    with_account(&sim, &headers, |account| {
        if account.menus.remove(&id).is_none() {
            return not_found();
        }
        account.linked_menus.retain(|_, linked| *linked != id);
        account.default_menu.take_if(|default| *default == id);
        empty()
    })
}

async fn default_menu(State(sim): State<Simulator>, headers: HeaderMap) -> Response {
    with_account(&sim, &headers, |account| match &account.default_menu {
        Some(id) => answer::ok(json!({ "richMenuId": id })),
        None if account.managers_menu => {
            answer::menu_error(StatusCode::FORBIDDEN, "the richmenu is owned by another channel")
        }
        None => answer::menu_error(StatusCode::NOT_FOUND, "no default richmenu"),
    })
}

async fn set_default(State(sim): State<Simulator>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    with_account(&sim, &headers, |account| {
        if let Some(refusal) = not_showable(account, &id, not_found) {
            return refusal;
        }
        account.default_menu = Some(id);
        empty()
    })
}

async fn clear_default(State(sim): State<Simulator>, headers: HeaderMap) -> Response {
    with_account(&sim, &headers, |account| {
        account.default_menu = None;
        empty()
    })
}

/// Only the person's own menu, never the default one.
async fn menu_of(State(sim): State<Simulator>, headers: HeaderMap, Path(user_id): Path<String>) -> Response {
    with_person(&sim, &headers, &user_id, |account, friend| {
        match friend.and_then(|person| account.linked_menus.get(person)) {
            Some(id) => answer::ok(json!({ "richMenuId": id })),
            None => answer::menu_error(StatusCode::NOT_FOUND, "the user has no richmenu"),
        }
    })
}

async fn link(
    State(sim): State<Simulator>,
    headers: HeaderMap,
    Path((user_id, id)): Path<(String, String)>,
) -> Response {
    with_person(&sim, &headers, &user_id, |account, friend| {
        if let Some(refusal) = not_showable(account, &id, not_found) {
            return refusal;
        }
        if let Some(person) = friend {
            account.linked_menus.insert(person.to_owned(), id);
        }
        empty()
    })
}

async fn unlink(State(sim): State<Simulator>, headers: HeaderMap, Path(user_id): Path<String>) -> Response {
    with_person(&sim, &headers, &user_id, |account, friend| {
        if let Some(person) = friend {
            account.linked_menus.remove(person);
        }
        empty()
    })
}

fn not_showable(account: &Account, id: &str, not_found: fn() -> Response) -> Option<Response> {
    match account.menus.get(id) {
        None => Some(not_found()),
        Some(menu) if menu.image.is_none() => {
            Some(bad_request("must upload richmenu image before applying it to user"))
        }
        Some(_) => None,
    }
}

/// `richmenu-` and 32 hex digits.
fn is_menu_id(id: &str) -> bool {
    id.strip_prefix("richmenu-").is_some_and(|rest| rest.len() == 32 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Answers from the account of the bot that calls.
fn with_account(sim: &Simulator, headers: &HeaderMap, act: impl FnOnce(&mut Account) -> Response) -> Response {
    match bot::caller(sim, headers) {
        Ok((_, bot)) => act(sim.state().account(&bot.channel_id)),
        Err(answer) => answer,
    }
}

/// The same about one person, who is given only if they are a friend.
fn with_person(
    sim: &Simulator,
    headers: &HeaderMap,
    user_id: &str,
    act: impl FnOnce(&mut Account, Option<&str>) -> Response,
) -> Response {
    let (provider, bot) = match bot::caller(sim, headers) {
        Ok(caller) => caller,
        Err(answer) => return answer,
    };
    if !is_user_id(user_id) {
        let refusal = bad_request("The value for the 'userId' parameter is invalid");
        return answer::about(refusal, user_id);
    }
    let mut state = sim.state();
    let person = state.find_in(provider, user_id);
    let friend = person.filter(|person| state.is_friend(&bot.channel_id, person));
    let response = act(state.account(&bot.channel_id), friend.as_deref());
    answer::about(response, user_id)
}
