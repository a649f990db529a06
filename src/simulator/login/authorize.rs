//! `GET /oauth2/v2.1/authorize`, and the decisions every way through it shares.
//!
//! Which screens a person sees follows from what they allowed before: the consent screen is left out when nothing new is
//! asked for, and with it the add-friend checkbox (and then `friendship_status_changed` too).

use axum::{
    extract::{RawQuery, State},
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use axum_extra::extract::{
    CookieJar,
    cookie::{Cookie, SameSite},
};

use super::{
    request::{self, Ask, BotPrompt, Prompt, Refusal, Way},
    screen, secret_text,
};
use crate::simulator::{
    Simulator, answer, liff,
    state::{ChannelId, Code, Consent, Outcome, PersonId, QueuedLogin, State as Memory, Tie, user_id},
    webhook::{self, Draft, Source},
    world::Provider,
};
use serde_json::{Value, json};

/// For how long an e-mail consent is not asked for again. LINE does not disclose its period.
const EMAIL_CONSENT_PERIOD: i64 = 90 * 24 * 3600 * 1000;
const FORGET_CODES_AFTER: i64 = 24 * 3600 * 1000;
/// The single sign-on cookie of the access host: the person who signed in last in this browser.
const COOKIE: &str = "line_sso";

/// What a person did on the way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Passed {
    /// Adding the friend was offered, and this was the choice.
    pub add_friend: Option<bool>,
    /// The person was signed in already.
    pub by_sso: bool,
}

pub(super) async fn authorize(State(sim): State<Simulator>, RawQuery(query): RawQuery, jar: CookieJar) -> Response {
    let (ask, provider, channel) = match request::read(sim.world(), &query.unwrap_or_default()) {
        Ok(read) => read,
        Err(refusal) => return refused(refusal),
    };
    let queued = sim.state().logins.pop_front();
    if let Some(login) = queued {
        let subject = user_id(&login.person, &provider.name);
        let ended = play(&sim, &ask, provider, &login);
        return answer::about(found(&ended.told(&sim).await), &subject);
    }
    let known = signed_in(&sim, &jar);
    if ask.prompt == Some(Prompt::None) {
        return found(&silently(&sim, &ask, provider, known).url);
    }
    let known = known.filter(|_| ask.prompt != Some(Prompt::Login));
    screen::who(&sim, &ask, channel, known, false)
}

pub(super) fn refused(refusal: Refusal) -> Response {
    match refusal {
        Refusal::Page(reason) => {
            let page = format!("<!doctype html><title>400 Bad Request</title><h1>400 Bad Request</h1><p>{reason}</p>");
            (StatusCode::BAD_REQUEST, Html(page)).into_response()
        }
        Refusal::Redirect(url) => found(&url),
    }
}

pub(super) fn found(url: &str) -> Response {
    (StatusCode::FOUND, [(header::LOCATION, url)]).into_response()
}

/// Does what a queued login ordered, as if a person had walked through the screens.
fn play(sim: &Simulator, ask: &Ask, provider: &Provider, login: &QueuedLogin) -> Ended {
    match login.outcome {
        Outcome::Deny => return ask.denied().into(),
        Outcome::AutoLoginFailure => return ask.auto_login_failure().into(),
        Outcome::Consent => {}
    }
    let mut state = sim.state();
    let now = sim.now();
    let asks = needs_consent(&state, ask, &login.person, now);
    if asks && ask.prompt == Some(Prompt::None) {
        return interaction_required(ask).into();
    }
    let offered = offers_friend(&state, ask, provider, &login.person, asks);
    if asks {
        consent(&mut state, ask, &login.person, login.email, now);
    }
    let passed = Passed { add_friend: offered.map(|_| login.add_friend), by_sso: false };
    finish(sim, &mut state, ask, provider, &login.person, passed, now)
}

/// `prompt=none`: works for who is signed in and has allowed everything before.
fn silently(sim: &Simulator, ask: &Ask, provider: &Provider, known: Option<PersonId>) -> Ended {
    let Some(person) = known else {
        return ask.error("LOGIN_REQUIRED", "The user is not logged in.").into();
    };
    let mut state = sim.state();
    let now = sim.now();
    if needs_consent(&state, ask, &person, now) {
        return interaction_required(ask).into();
    }
    let passed = Passed { add_friend: None, by_sso: true };
    finish(sim, &mut state, ask, provider, &person, passed, now)
}

fn interaction_required(ask: &Ask) -> String {
    ask.error("INTERACTION_REQUIRED", "The user has to allow the request.")
}

/// Whether the consent screen is shown to this person.
pub(super) fn needs_consent(state: &Memory, ask: &Ask, person: &str, now: i64) -> bool {
    let consent = state.consents.get(&ask.client_id).and_then(|consents| consents.get(person));
    let Some(consent) = consent.filter(|_| ask.prompt != Some(Prompt::Consent)) else {
        return true;
    };
    let new_scope = ask.scopes.iter().any(|s| s != "email" && !consent.scopes.contains(s));
    let address = state.people.get(person).and_then(|person| person.email.as_ref());
    let email_again = ask.has("email")
        && match (&consent.email, address) {
            (Some((allowed, at)), address) => Some(allowed) != address || now - at > EMAIL_CONSENT_PERIOD,
            (None, address) => address.is_some(),
        };
    new_scope || email_again
}

/// How adding the friend is offered to this person, if it is: only for a linked account that is not a friend yet, by
/// checkbox on the consent screen or on a screen of its own.
pub(super) fn offers_friend(
    state: &Memory,
    ask: &Ask,
    provider: &Provider,
    person: &str,
    consent_shown: bool,
) -> Option<BotPrompt> {
    let bot = provider.linked_bot()?;
    let prompt = ask.bot_prompt?;
    let shown = consent_shown || prompt == BotPrompt::Aggressive;
    (shown && !state.is_friend(&bot.channel_id, person)).then_some(prompt)
}

/// Notes what a person allowed on the consent screen; the e-mail address is the only part that can be refused.
pub(super) fn consent(state: &mut Memory, ask: &Ask, person: &str, email: bool, now: i64) {
    let address = state.people.get(person).and_then(|person| person.email.clone());
    let consents = state.consents.entry(ask.client_id.clone()).or_default();
    let consent: &mut Consent = consents.entry(person.to_owned()).or_default();
    consent.scopes.extend(ask.scopes.iter().filter(|scope| *scope != "email").cloned());
    if ask.has("email") {
        consent.email = address.filter(|_| email).map(|address| (address, now));
    }
}

/// How a walk ended: the URL to return to, and what the linked bot is told when the person added it on the way.
pub(super) struct Ended {
    url: String,
    follow: Option<(ChannelId, Value)>,
}

impl From<String> for Ended {
    fn from(url: String) -> Self {
        Self { url, follow: None }
    }
}

impl Ended {
    /// Tells the bot, waits for that, and gives the URL.
    pub async fn told(self, sim: &Simulator) -> String {
        if let Some((channel, event)) = self.follow {
            webhook::tell(sim, &channel, event).await;
        }
        self.url
    }
}

/// Adds the friend on the way; gives what the bot is told of it.
fn add_friend(state: &mut Memory, provider: &Provider, person: &str, now: i64) -> Option<(ChannelId, Value)> {
    let bot = provider.linked_bot()?;
    let was = state.follow(&bot.channel_id, person);
    let draft = Draft {
        kind: "follow",
        source: Some(Source::User { user_id: &user_id(person, &provider.name) }),
        chat: Some(person.to_owned()),
        standby: false,
        fields: json!({ "follow": { "isUnblocked": was == Some(Tie::Blocked) } }),
    };
    (was != Some(Tie::Friend)).then(|| (bot.channel_id.clone(), draft.make(state, bot, now)))
}

/// Ends the walk: adds the friend where wanted, makes the code, and gives the URL to return to.
pub(super) fn finish(
    sim: &Simulator,
    state: &mut Memory,
    ask: &Ask,
    provider: &Provider,
    person: &str,
    passed: Passed,
    now: i64,
) -> Ended {
    let follow = passed.add_friend.filter(|add| *add).and_then(|_| add_friend(state, provider, person, now));
    let record = Code {
        person: person.to_owned(),
        channel: ask.client_id.clone(),
        redirect_uri: ask.redirect_uri.clone(),
        scopes: ask.scopes.clone(),
        nonce: ask.nonce.clone(),
        challenge: ask.challenge.clone(),
        issued_at: now,
        auth_time: ask.max_age.then_some(now / 1000),
        amr: if passed.by_sso { "linesso" } else { "pwd" }.to_owned(),
        is_liff: ask.way != Way::Web,
    };
    if ask.way == Way::Line {
        let liff_id = ask.liff_id.as_deref().unwrap_or_default();
        return Ended { url: liff::primary(sim, state, liff_id, &ask.state, record), follow };
    }
    let code = secret_text();
    // Long past their life: nobody can tell them from codes that never were.
    state.codes.retain(|_, code| now - code.issued_at < FORGET_CODES_AFTER);
    state.codes.insert(code.clone(), record);
    let mut answer = vec![("code", code.as_str())];
    answer.extend(passed.add_friend.map(|added| ("friendship_status_changed", if added { "true" } else { "false" })));
    if ask.way == Way::Sdk {
        answer.extend([("liffClientId", ask.client_id.as_str()), ("liffRedirectUri", ask.redirect_uri.as_str())]);
    }
    Ended { url: ask.back(&answer), follow }
}

fn signed_in(sim: &Simulator, jar: &CookieJar) -> Option<PersonId> {
    let person = jar.get(COOKIE)?.value().to_owned();
    sim.state().people.contains_key(&person).then_some(person)
}

pub(super) fn remember(jar: CookieJar, person: &str) -> CookieJar {
    let cookie = Cookie::build((COOKIE, person.to_owned())).path("/").http_only(true).same_site(SameSite::Lax).build();
    jar.add(cookie)
}
