//! The pages under `/_sim` for people: who there is, one person's phone, and the trace of calls.
//!
//! A phone shows what that person would see in the chat with a bot, and only draws; whatever a message or a person
//! wrote is text and never markup. The pages work without scripts, by reloading.

mod card;
mod draw;
mod tap;
mod trace;

use askama::Template;
use axum::{
    Router,
    body::Bytes,
    extract::{Path, Query, State},
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use axum_extra::extract::{
    CookieJar,
    cookie::{Cookie, SameSite},
};
use serde::Deserialize;
use serde_json::Value;
use url::form_urlencoded;

use self::{
    draw::{Drawing, Message, Word},
    tap::{Button, Menu},
};
use super::{
    Simulator, content,
    control::{bots, whose},
    deed, liff, rich_menu,
    state::{Person, State as Memory, Tie, user_id},
};
use crate::flex::preview;

pub(super) fn routes() -> Router<Simulator> {
    Router::new()
        .route("/_sim", get(async || Redirect::permanent("/_sim/")))
        .route("/_sim/", get(start))
        .route("/_sim/people", post(add_person))
        .route("/_sim/phone/{user_id}", get(phone))
        .route("/_sim/phone/{user_id}/chat", get(fragment))
        .route("/_sim/phone/{user_id}/{deed}", post(act))
        .route("/_sim/picture/{message_id}", get(own_picture))
        .route("/_sim/trace", get(trace::trace))
        .route("/_sim/rich-menu/{menu}", get(picture))
        .route("/_sim/static/simulator.css", get(css))
        .route("/_sim/static/flex.css", get(flex_css))
        .route("/_sim/static/phone.js", get(script))
        .route("/_sim/static/person-1.svg", get(async || face(include_str!("../../static/simulator/person-1.svg"))))
        .route("/_sim/static/person-2.svg", get(async || face(include_str!("../../static/simulator/person-2.svg"))))
}

/// Renders a page.
pub(super) fn page(template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => ([(header::CACHE_CONTROL, "no-store")], Html(text)).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page of the simulator could not be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn css() -> Response {
    let text = include_str!("../../static/simulator/simulator.css");
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], text).into_response()
}

async fn flex_css() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], preview::CSS).into_response()
}

/// A face for people who have none of their own.
fn face(text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "image/svg+xml")], text)
}

async fn script() -> Response {
    let text = include_str!("../../static/simulator/phone.js");
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], text).into_response()
}

async fn own_picture(State(sim): State<Simulator>, Path(id): Path<String>) -> Response {
    content::own(&sim, &id)
}

async fn picture(State(sim): State<Simulator>, Path(id): Path<String>) -> Response {
    rich_menu::image::picture(&sim, &id)
}

struct Someone {
    name: String,
    email: String,
    /// One phone for each bot the person could chat with.
    phones: Vec<Phone>,
}

struct Phone {
    url: String,
    bot: String,
    friend: bool,
}

#[derive(Template)]
#[template(path = "simulator/start.html")]
struct StartPage {
    people: Vec<Someone>,
}

async fn start(State(sim): State<Simulator>) -> Response {
    let state = sim.state();
    let someone = |id: &str, person: &Person| {
        let pairs = sim.world().providers.iter().flat_map(|p| p.bots.iter().map(move |b| (p, b)));
        let phones = pairs.map(|(provider, bot)| Phone {
            url: phone_url(&user_id(id, &provider.name), &bot.channel_id),
            bot: bot.name.clone(),
            friend: state.is_friend(&bot.channel_id, id),
        });
        Someone {
            name: person.display_name.clone(),
            email: person.email.clone().unwrap_or_default(),
            phones: phones.collect(),
        }
    };
    let people = state.people_in_order().into_iter().map(|(id, p)| someone(id, p)).collect();
    page(&StartPage { people })
}

fn phone_url(user_id: &str, channel: &str) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("channel", channel).finish();
    format!("/_sim/phone/{user_id}?{query}")
}

#[derive(Deserialize)]
struct NewPerson {
    display_name: String,
    #[serde(default)]
    email: String,
}

async fn add_person(State(sim): State<Simulator>, axum::Form(new): axum::Form<NewPerson>) -> Response {
    let (name, email) = (new.display_name.trim(), new.email.trim());
    if name.is_empty() {
        return (StatusCode::BAD_REQUEST, Html("A person needs a name.")).into_response();
    }
    let person = Person {
        number: 0,
        display_name: name.to_owned(),
        email: (!email.is_empty()).then(|| email.to_owned()),
        language: None,
        picture_url: None,
    };
    sim.state().add_person(sim.world(), person);
    sim.changed();
    Redirect::to("/_sim/").into_response()
}

/// What a phone shows below its head; polled by the page.
#[derive(Template)]
#[template(path = "simulator/chat.html")]
struct Chat {
    /// The bot's name, and the letter that stands for its picture.
    bot: String,
    messages: Vec<Message>,
    /// Of the last message, if it has any.
    quick: Vec<Button>,
    loading: bool,
    menu: Option<Menu>,
    friend: bool,
    blocked: bool,
}

#[derive(Template)]
#[template(path = "simulator/phone.html")]
struct PhonePage {
    user_id: String,
    name: String,
    bot: String,
    channel: String,
    chat: Chat,
    stickers: &'static [Sticker],
    /// What a tap has put into the field for messages.
    text: String,
    /// What a tap has copied.
    copied: String,
    liff_id: Option<String>,
}

/// Styles of a message stand in attributes, and its pictures and sounds are anywhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; \
    style-src-attr 'unsafe-inline'; img-src http: https: data:; media-src http: https:; form-action 'self'; \
    base-uri 'none'; frame-ancestors 'none'";

/// A sticker that can be sent, and the words drawn for it: not every machine has pictures for its letters.
struct Sticker {
    package: &'static str,
    id: &'static str,
    words: &'static str,
}

const STICKERS: [Sticker; 4] = [
    Sticker { package: "446", id: "1988", words: "Hello!" },
    Sticker { package: "446", id: "1989", words: "OK!" },
    Sticker { package: "789", id: "10855", words: "Yay!" },
    Sticker { package: "789", id: "10877", words: "Thanks" },
];

#[derive(Default, Deserialize)]
struct Which {
    channel: Option<String>,
    /// `open` or `closed`, after a tap that says so.
    menu: Option<String>,
    #[serde(default)]
    text: String,
    #[serde(default)]
    copied: String,
}

fn open(sim: &Simulator, user_id: &str, which: &Which) -> Option<PhonePage> {
    let state = sim.state();
    let (person, provider) = whose(sim, &state, user_id)?;
    let bot = bots(provider, which.channel.as_deref()).into_iter().next()?;
    let mut chat = chat(&state, &bot.channel_id, &bot.name, &person, sim.now());
    if let (Some(menu), Some(wanted)) = (&mut chat.menu, &which.menu) {
        menu.open = wanted == "open";
    }
    Some(PhonePage {
        user_id: user_id.to_owned(),
        name: state.people.get(&person)?.display_name.clone(),
        bot: bot.name.clone(),
        channel: bot.channel_id.clone(),
        chat,
        stickers: &STICKERS,
        text: which.text.clone(),
        copied: which.copied.clone(),
        liff_id: provider.login.as_ref().and_then(|login| login.liff.as_ref()).map(|app| app.id.clone()),
    })
}

fn chat(state: &Memory, bot: &str, name: &str, person: &str, now: i64) -> Chat {
    let account = state.accounts.get(bot);
    let messages = account.and_then(|account| account.chats.get(person)).map_or(&[][..], Vec::as_slice);
    let tie = state.tie(bot, person);
    Chat {
        messages: messages.iter().map(draw::message).collect(),
        bot: name.to_owned(),
        quick: messages.last().map(tap::quick_replies).unwrap_or_default(),
        loading: account.and_then(|account| account.loading.get(person)).is_some_and(|until| now < *until),
        menu: rich_menu::shown(state, bot, person).and_then(tap::menu),
        friend: tie == Some(Tie::Friend),
        blocked: tie == Some(Tie::Blocked),
    }
}

/// A phone shows what anybody may have written: besides being escaped, nothing of it could run.
fn guarded(mut page: Response) -> Response {
    page.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    page
}

impl Chat {
    /// Who says a message: the sender it names, or the bot.
    fn name_of<'a>(&'a self, message: &'a Message) -> &'a str {
        if message.sender.is_empty() { &self.bot } else { &message.sender }
    }

    /// The letter that stands for a picture.
    fn letter_of(&self, message: &Message) -> String {
        self.name_of(message).chars().next().map(String::from).unwrap_or_default()
    }
}

fn no_phone() -> Response {
    (StatusCode::NOT_FOUND, Html("There is no such phone.")).into_response()
}

/// A phone's page. What is opened from it is opened in that person's LINE.
async fn phone(
    State(sim): State<Simulator>,
    Path(user_id): Path<String>,
    Query(which): Query<Which>,
    jar: CookieJar,
) -> Response {
    let Some(phone) = open(&sim, &user_id, &which) else { return no_phone() };
    let cookie = Cookie::build((liff::PHONE, user_id)).path("/").http_only(true).same_site(SameSite::Lax);
    (jar.add(cookie.build()), guarded(page(&phone))).into_response()
}

async fn fragment(State(sim): State<Simulator>, Path(user_id): Path<String>, Query(which): Query<Which>) -> Response {
    open(&sim, &user_id, &which).map_or_else(no_phone, |phone| guarded(page(&phone.chat)))
}

/// A form of the phone: its fields are the order.
async fn act(State(sim): State<Simulator>, Path((user_id, deed)): Path<(String, String)>, body: Bytes) -> Response {
    let fields = form_urlencoded::parse(&body).filter(|(_, value)| !value.is_empty());
    let order = fields.map(|(name, value)| (name.into_owned(), Value::from(value.into_owned())));
    let order = Value::Object(order.collect());
    let channel = order.get("channel").and_then(Value::as_str).unwrap_or_default();
    match deed::carry_out(&sim, &user_id, &deed, &order).await {
        Ok(done) => Redirect::to(&(phone_url(&user_id, channel) + &tap::aftermath(&done["action"]))).into_response(),
        Err(refusal) if refusal.text.is_empty() => no_phone(),
        Err(refusal) => (refusal.status, page(&RefusedPage { url: phone_url(&user_id, channel), text: refusal.text }))
            .into_response(),
    }
}

#[derive(Template)]
#[template(path = "simulator/refused.html")]
struct RefusedPage {
    url: String,
    text: &'static str,
}
