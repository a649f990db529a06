//! Account link: a token for a person, LINE's dialog, and the event that tells how it ended.
//!
//! The dialog looks whether the browser's LINE user is the one the token was issued for. If so, the bot hears of the
//! nonce and of the person; if not, of the nonce alone. A token that is used, expired or made up ends in an error page,
//! and the bot hears nothing at all.

use askama::Template;
use axum::{
    Router,
    body::Bytes,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Simulator, answer, bot,
    login::secret_text,
    phone,
    state::{ChannelId, LinkToken, Outcome, PersonId, State as Memory, is_user_id, user_id},
    webhook::{self, Draft, Source},
};

const TOKEN_LIFE: i64 = 10 * 60 * 1000;

pub(super) fn api_routes() -> Router<Simulator> {
    Router::new().route("/v2/bot/user/{user_id}/linkToken", post(issue))
}

pub(super) fn access_routes() -> Router<Simulator> {
    Router::new().route("/dialog/bot/accountLink", get(dialog))
}

/// Where the dialog's form goes; LINE has no such path.
pub(super) fn page_routes() -> Router<Simulator> {
    Router::new().route("/_sim/account-link", post(chosen))
}

/// Whether the person must be a friend is not documented as a rule; they need not be here.
async fn issue(State(sim): State<Simulator>, headers: HeaderMap, Path(user_id): Path<String>) -> Response {
    let (provider, bot) = match bot::caller(&sim, &headers) {
        Ok(caller) => caller,
        Err(answer) => return answer,
    };
    if !is_user_id(&user_id) {
        let text = "The value for the 'userId' parameter is invalid";
        return answer::about(answer::message(StatusCode::BAD_REQUEST, text), &user_id);
    }
    let mut state = sim.state();
    let Some(person) = state.find_in(provider, &user_id) else {
        return answer::about(answer::not_found(), &user_id);
    };
    let token = secret_text();
    let issued = LinkToken { person, expires_at: sim.now() + TOKEN_LIFE, used: false };
    state.account(&bot.channel_id).link_tokens.insert(token.clone(), issued);
    answer::about(answer::ok(json!({ "linkToken": token })), &user_id)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Ask {
    #[serde(rename = "linkToken")]
    token: String,
    nonce: String,
    /// Who the browser's user is, once they have said so.
    person: String,
}

impl Ask {
    /// The channel of a token that is still good, if the request is one.
    fn channel(&self, state: &Memory, now: i64) -> Option<ChannelId> {
        let is_live = |token: &&LinkToken| !token.used && now < token.expires_at;
        let found =
            state.accounts.iter().find(|(_, account)| account.link_tokens.get(&self.token).filter(is_live).is_some());
        let fits = (10..=255).contains(&self.nonce.chars().count());
        found.filter(|_| fits).map(|(channel, _)| channel.clone())
    }
}

struct Choice {
    id: PersonId,
    name: String,
}

#[derive(Template)]
#[template(path = "simulator/account_link.html")]
struct WhoPage<'a> {
    bot: &'a str,
    token: &'a str,
    nonce: &'a str,
    people: Vec<Choice>,
}

#[derive(Template)]
#[template(path = "simulator/account_link_end.html")]
struct EndPage {
    title: &'static str,
    text: &'static str,
}

fn end(status: StatusCode, title: &'static str, text: &'static str) -> Response {
    (status, phone::page(&EndPage { title, text })).into_response()
}

fn refused() -> Response {
    let text = "The link is not valid, has expired, or was used already. Start again in the chat.";
    end(StatusCode::BAD_REQUEST, "This cannot be linked", text)
}

/// `GET /dialog/bot/accountLink`. A queued login says who the browser's user is; else the page asks.
async fn dialog(State(sim): State<Simulator>, Query(ask): Query<Ask>) -> Response {
    let Some(channel) = ask.channel(&sim.state(), sim.now()) else {
        return refused();
    };
    let queued = sim.state().logins.pop_front();
    match queued {
        Some(login) if login.outcome == Outcome::Consent => conclude(&sim, &ask, &login.person).await,
        Some(_) => end(StatusCode::OK, "Not linked", "The login was cancelled. You can close this page."),
        None => who(&sim, &ask, &channel),
    }
}

fn who(sim: &Simulator, ask: &Ask, channel: &str) -> Response {
    let state = sim.state();
    let people = state.people_in_order().into_iter();
    let people = people.map(|(id, person)| Choice { id: id.clone(), name: person.display_name.clone() }).collect();
    let bot = sim.world().bot(channel).map_or("", |(_, bot)| bot.name.as_str());
    phone::page(&WhoPage { bot, token: &ask.token, nonce: &ask.nonce, people })
}

/// `POST /_sim/account-link`: the form of the page above.
async fn chosen(State(sim): State<Simulator>, body: Bytes) -> Response {
    let fields: Vec<(String, String)> = url::form_urlencoded::parse(&body).into_owned().collect();
    let get = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone()).unwrap_or_default();
    let ask = Ask { token: get("linkToken"), nonce: get("nonce"), person: get("person") };
    if !sim.state().people.contains_key(&ask.person) {
        return end(StatusCode::BAD_REQUEST, "Nobody was chosen", "Go back and say who you are.");
    }
    conclude(&sim, &ask, &ask.person).await
}

/// Uses the token up, and tells the bot. The page is shown when the webhook has ended.
async fn conclude(sim: &Simulator, ask: &Ask, person: &str) -> Response {
    let Some((channel, event, is_same)) = decide(sim, ask, person) else {
        return refused();
    };
    sim.changed();
    webhook::tell(sim, &channel, event).await;
    if is_same {
        end(StatusCode::OK, "Linked", "Your LINE account is linked. You can close this page.")
    } else {
        end(StatusCode::OK, "Not linked", "You are not the LINE user that this link was made for.")
    }
}

fn decide(sim: &Simulator, ask: &Ask, person: &str) -> Option<(ChannelId, Value, bool)> {
    let mut state = sim.state();
    let channel = ask.channel(&state, sim.now())?;
    let (provider, bot) = sim.world().bot(&channel)?;
    let token = state.account(&channel).link_tokens.get_mut(&ask.token)?;
    token.used = true;
    let is_same = token.person == person;
    let user_id = user_id(person, &provider.name);
    let draft = Draft {
        kind: "accountLink",
        source: is_same.then_some(Source::User { user_id: &user_id }),
        chat: is_same.then(|| person.to_owned()),
        standby: false,
        fields: json!({ "link": { "result": if is_same { "ok" } else { "failed" }, "nonce": ask.nonce } }),
    };
    let event = draft.make(&mut state, bot, sim.now());
    Some((channel, event, is_same))
}
