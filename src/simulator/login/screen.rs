//! The screens of an authorize request: who are you, do you allow this, add the friend; and the faults to play.
//!
//! Nothing is kept between the steps but what the forms carry: the query of the request, read anew each time, and who
//! was chosen. A person is chosen, not authenticated: everybody at this LINE is everybody.

use askama::Template;
use axum::{
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::{Html, IntoResponse, Redirect, Response},
};
use axum_extra::extract::CookieJar;

use super::{
    authorize::{self, Passed},
    request::{self, Ask, BotPrompt},
    token::Form,
};
use crate::simulator::{
    Simulator, phone,
    state::{Person, PersonId},
    world::{LoginChannel, Provider},
};

struct Choice {
    id: PersonId,
    name: String,
    email: String,
}

#[derive(Template)]
#[template(path = "simulator/login/who.html")]
struct WhoPage<'a> {
    channel: &'a str,
    ask: &'a str,
    known: Option<Choice>,
    people: Vec<Choice>,
    /// The callback URL will be shown instead of followed.
    elsewhere: bool,
}

#[derive(Template)]
#[template(path = "simulator/login/consent.html")]
struct ConsentPage<'a> {
    channel: &'a str,
    provider: &'a str,
    ask: &'a str,
    person: &'a str,
    name: &'a str,
    elsewhere: bool,
    by_sso: bool,
    profile: bool,
    openid: bool,
    email: Option<&'a str>,
    bot: Option<&'a str>,
    /// Adding the friend has a screen of its own after this one.
    friend_later: bool,
}

#[derive(Template)]
#[template(path = "simulator/login/friend.html")]
struct FriendPage<'a> {
    ask: &'a str,
    person: &'a str,
    bot: &'a str,
    elsewhere: bool,
    by_sso: bool,
}

#[derive(Template)]
#[template(path = "simulator/login/elsewhere.html")]
struct ElsewherePage<'a> {
    url: &'a str,
}

/// Where a person stands on the way.
struct Walk<'a> {
    sim: &'a Simulator,
    ask: Ask,
    provider: &'a Provider,
    channel: &'a LoginChannel,
    person: PersonId,
    elsewhere: bool,
    by_sso: bool,
}

/// The first screen.
pub(super) fn who(
    sim: &Simulator,
    ask: &Ask,
    channel: &LoginChannel,
    known: Option<PersonId>,
    elsewhere: bool,
) -> Response {
    let state = sim.state();
    let choice = |id: &PersonId, person: &Person| Choice {
        id: id.clone(),
        name: person.display_name.clone(),
        email: person.email.clone().unwrap_or_default(),
    };
    let known = known.and_then(|id| Some(choice(&id, state.people.get(&id)?)));
    let people = state.people_in_order().into_iter().map(|(id, p)| choice(id, p)).collect();
    phone::page(&WhoPage { channel: &channel.name, ask: &ask.query, known, people, elsewhere })
}

/// What a person in LINE sees who opens a LIFF app: the consent screen at first, and then the app.
pub(in crate::simulator) async fn open(sim: &Simulator, query: &str, person: PersonId) -> Response {
    match request::read(sim.world(), query) {
        Ok((ask, provider, channel)) => {
            Walk { sim, ask, provider, channel, person, elsewhere: false, by_sso: true }.chosen().await
        }
        Err(refusal) => authorize::refused(refusal),
    }
}

/// `POST /_sim/authorize`: one step on the way.
pub(super) async fn step(State(sim): State<Simulator>, jar: CookieJar, body: Bytes) -> Response {
    let form = Form::read(&body);
    let (ask, provider, channel) = match request::read(sim.world(), form.get("ask").unwrap_or_default()) {
        Ok(read) => read,
        Err(refusal) => return authorize::refused(refusal),
    };
    let step = form.get("step").unwrap_or_default();
    let elsewhere = form.get("elsewhere").is_some();
    match step {
        "cancel" => return Redirect::to(&ask.denied()).into_response(),
        "auto_login_failure" => return Redirect::to(&ask.auto_login_failure()).into_response(),
        "elsewhere" => return who(&sim, &ask, channel, None, true),
        _ => {}
    }
    let person = match step {
        "create" => create(&sim, &form),
        _ => form.get("person").map(str::to_owned),
    };
    let Some(person) = person.filter(|id| sim.state().people.contains_key(id)) else {
        return (StatusCode::BAD_REQUEST, Html("Nobody was chosen.")).into_response();
    };
    let by_sso = form.get("by_sso").is_some();
    let walk = Walk { sim: &sim, ask, provider, channel, person, elsewhere, by_sso };
    let jar = authorize::remember(jar, &walk.person);
    let answer = match step {
        "consent" => walk.consented(&form).await,
        "friend" => walk.finish(Some(form.get("add_friend") == Some("yes"))).await,
        _ => walk.chosen().await,
    };
    (jar, answer).into_response()
}

fn create(sim: &Simulator, form: &Form) -> Option<PersonId> {
    let name = form.get("display_name")?.trim();
    if name.is_empty() {
        return None;
    }
    let person = Person {
        number: 0,
        display_name: name.to_owned(),
        email: form.get("email").map(|email| email.trim().to_owned()),
        language: None,
        picture_url: None,
    };
    let id = sim.state().add_person(sim.world(), person);
    sim.changed();
    Some(id)
}

impl Walk<'_> {
    /// Which way of adding the friend is offered.
    fn offer(&self, consent_shown: bool) -> Option<BotPrompt> {
        let state = self.sim.state();
        authorize::offers_friend(&state, &self.ask, self.provider, &self.person, consent_shown)
    }

    async fn chosen(&self) -> Response {
        let now = self.sim.now();
        if authorize::needs_consent(&self.sim.state(), &self.ask, &self.person, now) {
            return self.consent_page();
        }
        match self.offer(false) {
            Some(_) => self.friend_page(),
            None => self.finish(None).await,
        }
    }

    fn consent_page(&self) -> Response {
        let person = self.sim.state().people.get(&self.person).cloned();
        let (name, email) = person.map(|p| (p.display_name, p.email)).unwrap_or_default();
        let offer = self.offer(true);
        let bot = self.provider.linked_bot().map(|bot| bot.name.as_str());
        phone::page(&ConsentPage {
            channel: &self.channel.name,
            provider: &self.provider.name,
            ask: &self.ask.query,
            person: &self.person,
            name: &name,
            elsewhere: self.elsewhere,
            by_sso: self.by_sso,
            profile: self.ask.has("profile"),
            openid: self.ask.has("openid"),
            email: email.as_deref().filter(|_| self.ask.has("email")),
            bot: bot.filter(|_| offer == Some(BotPrompt::Normal)),
            friend_later: offer == Some(BotPrompt::Aggressive),
        })
    }

    async fn consented(&self, form: &Form) -> Response {
        if form.get("decision") != Some("allow") {
            return self.go(&self.ask.denied());
        }
        let offer = self.offer(true);
        let email = form.get("email").is_some();
        let now = self.sim.now();
        authorize::consent(&mut self.sim.state(), &self.ask, &self.person, email, now);
        self.sim.changed();
        match offer {
            Some(BotPrompt::Aggressive) => self.friend_page(),
            Some(BotPrompt::Normal) => self.finish(Some(form.get("add_friend").is_some())).await,
            None => self.finish(None).await,
        }
    }

    fn friend_page(&self) -> Response {
        phone::page(&FriendPage {
            ask: &self.ask.query,
            person: &self.person,
            bot: self.provider.linked_bot().map_or("", |bot| bot.name.as_str()),
            elsewhere: self.elsewhere,
            by_sso: self.by_sso,
        })
    }

    async fn finish(&self, add_friend: Option<bool>) -> Response {
        let passed = Passed { add_friend, by_sso: self.by_sso };
        let now = self.sim.now();
        let (sim, ask) = (self.sim, &self.ask);
        let ended = authorize::finish(sim, &mut sim.state(), ask, self.provider, &self.person, passed, now);
        self.sim.changed();
        self.go(&ended.told(self.sim).await)
    }

    fn go(&self, url: &str) -> Response {
        if self.elsewhere {
            return phone::page(&ElsewherePage { url });
        }
        Redirect::to(url).into_response()
    }
}
