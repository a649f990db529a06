//! Who calls the Messaging API, and the small answers about people and about the bot itself.

use axum::{
    Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::get,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    Simulator, answer,
    state::{Tie, is_user_id, user_id},
    world::{Bot, Provider},
};

pub(super) fn routes() -> Router<Simulator> {
    Router::new()
        .route("/v2/bot/profile/{user_id}", get(profile))
        .route("/v2/bot/info", get(info))
        .route("/v2/bot/followers/ids", get(followers))
}

/// The bot whose channel access token this is. Refuses a retry key, which only sends may carry.
#[expect(clippy::result_large_err, reason = "the error is the answer itself")]
pub(super) fn caller<'s>(sim: &'s Simulator, headers: &HeaderMap) -> Result<(&'s Provider, &'s Bot), Response> {
    let caller = sender(sim, headers)?;
    if headers.contains_key("x-line-retry-key") {
        let text = "The X-Line-Retry-Key header is not supported by this endpoint";
        return Err(answer::message(StatusCode::BAD_REQUEST, text));
    }
    Ok(caller)
}

/// The same for an endpoint that takes a retry key.
#[expect(clippy::result_large_err, reason = "the error is the answer itself")]
pub(super) fn sender<'s>(sim: &'s Simulator, headers: &HeaderMap) -> Result<(&'s Provider, &'s Bot), Response> {
    let token = answer::bearer(headers);
    let channel = token.and_then(|token| sim.state().channel_of(token, sim.now()).cloned());
    let channel = channel.ok_or_else(answer::unauthenticated)?;
    sim.world().bot(&channel).ok_or_else(|| {
        // A live token of a login channel.
        let text = "Access to this API is not available for your account";
        answer::message(StatusCode::FORBIDDEN, text)
    })
}

/// Friends, and who sent a message and has not blocked the account: a block, a stranger and another provider's user
/// all look the same.
async fn profile(State(sim): State<Simulator>, headers: HeaderMap, Path(user_id): Path<String>) -> Response {
    let (provider, bot) = match caller(&sim, &headers) {
        Ok(caller) => caller,
        Err(answer) => return answer,
    };
    if !is_user_id(&user_id) {
        let text = "The value for the 'userId' parameter is invalid";
        return answer::message(StatusCode::BAD_REQUEST, text);
    }
    let state = sim.state();
    let person = state
        .find_in(provider, &user_id)
        .filter(|person| match state.tie(&bot.channel_id, person) {
            Some(tie) => tie == Tie::Friend,
            None => state.spoke_at(&bot.channel_id, person).is_some(),
        })
        .and_then(|person| state.people.get(&person));
    let Some(person) = person else {
        return answer::about(answer::not_found(), &user_id);
    };
    let mut body = Map::new();
    body.insert("displayName".to_owned(), person.display_name.clone().into());
    body.insert("userId".to_owned(), user_id.clone().into());
    let optional = [("language", &person.language), ("pictureUrl", &person.picture_url)];
    for (name, value) in optional {
        body.extend(value.clone().map(|value| (name.to_owned(), value.into())));
    }
    answer::about(answer::ok(Value::Object(body)), &user_id)
}

async fn info(State(sim): State<Simulator>, headers: HeaderMap) -> Response {
    match caller(&sim, &headers) {
        Ok((_, bot)) => answer::ok(json!({
            "userId": bot.user_id,
            "basicId": bot.basic_id,
            "displayName": bot.name,
            "chatMode": "bot",
            "markAsReadMode": "auto",
        })),
        Err(answer) => answer,
    }
}

const PAGE: usize = 300;
const LONGEST_PAGE: usize = 1000;
const START_LIFE: i64 = 24 * 3600 * 1000;

#[derive(Deserialize)]
struct Page {
    limit: Option<String>,
    start: Option<String>,
}

/// The friends, page by page. Where the next page begins is good for a day.
async fn followers(State(sim): State<Simulator>, headers: HeaderMap, Query(page): Query<Page>) -> Response {
    let (provider, bot) = match caller(&sim, &headers) {
        Ok(caller) => caller,
        Err(answer) => return answer,
    };
    let bad = |text: &str| answer::message(StatusCode::BAD_REQUEST, text);
    let limit = page.limit.map_or(Ok(PAGE), |limit| limit.parse());
    let Some(limit) = limit.ok().filter(|limit| (1..=LONGEST_PAGE).contains(limit)) else {
        return bad("The value for the 'limit' parameter is invalid");
    };
    let now = sim.now();
    let after = match page.start.as_deref().map(|start| start_of(start, now)) {
        Some(None) => return bad("Invalid start param"),
        after => after.flatten().unwrap_or_default(),
    };
    let mut state = sim.state();
    let account = state.account(&bot.channel_id);
    if account.is_unverified {
        let text = "Access to this API is not available for your account";
        return answer::message(StatusCode::FORBIDDEN, text);
    }
    let mut friends = account.ties.range(after..).filter(|(_, tie)| **tie == Tie::Friend).map(|(person, _)| person);
    let ids: Vec<String> = friends.by_ref().take(limit).map(|person| user_id(person, &provider.name)).collect();
    let mut body = json!({ "userIds": ids });
    if let Some(next) = friends.next() {
        body["next"] = format!("{now:x}.{next}").into();
    }
    answer::ok(body)
}

/// The person with whom a page begins, if `start` was given out within a day.
fn start_of(start: &str, now: i64) -> Option<String> {
    let (at, person) = start.split_once('.')?;
    let age = now - i64::from_str_radix(at, 16).ok()?;
    (0..START_LIFE).contains(&age).then(|| person.to_owned())
}
