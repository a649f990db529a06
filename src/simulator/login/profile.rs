//! What an access token of a person shows: profile, userinfo, friendship. Each needs its scope.
//!
//! The bodies of errors are undocumented here; the statuses are those of the platform.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde_json::{Map, Value, json};

use crate::simulator::{
    Simulator, answer,
    state::{Person, State as Memory, user_id},
    world::Provider,
};

struct Holder<'a> {
    provider: &'a Provider,
    person_id: String,
    person: Person,
    scopes: Vec<String>,
}

impl Holder<'_> {
    fn has(&self, scope: &str) -> bool {
        self.scopes.iter().any(|s| s == scope)
    }

    fn user_id(&self) -> String {
        user_id(&self.person_id, &self.provider.name)
    }
}

fn holder<'a>(sim: &'a Simulator, state: &Memory, headers: &HeaderMap) -> Option<Holder<'a>> {
    let (_, grant) = state.live(answer::bearer(headers)?, sim.now())?;
    let (provider, _) = sim.world().login(&grant.channel)?;
    Some(Holder {
        provider,
        person_id: grant.person.clone(),
        person: state.people.get(&grant.person)?.clone(),
        scopes: grant.scopes.clone(),
    })
}

/// `GET /v2/profile`
pub(super) async fn profile(State(sim): State<Simulator>, headers: HeaderMap) -> Response {
    let Some(holder) = holder(&sim, &sim.state(), &headers) else {
        return answer::unauthenticated();
    };
    if !holder.has("profile") {
        return forbidden();
    }
    let subject = holder.user_id();
    let mut body = Map::new();
    body.insert("userId".to_owned(), subject.clone().into());
    body.insert("displayName".to_owned(), holder.person.display_name.into());
    if let Some(url) = holder.person.picture_url {
        body.insert("pictureUrl".to_owned(), url.into());
    }
    answer::about(answer::ok(Value::Object(body)), &subject)
}

/// `GET|POST /oauth2/v2.1/userinfo`
pub(super) async fn userinfo(State(sim): State<Simulator>, headers: HeaderMap) -> Response {
    let Some(holder) = holder(&sim, &sim.state(), &headers) else {
        let status = StatusCode::UNAUTHORIZED;
        return answer::oauth_status(status, "invalid_token", "The access token is invalid");
    };
    if !holder.has("openid") {
        let text = "scope has not required permission";
        return answer::oauth_status(StatusCode::FORBIDDEN, "insufficient_scope", text);
    }
    let subject = holder.user_id();
    let mut body = Map::new();
    body.insert("sub".to_owned(), subject.clone().into());
    if holder.has("profile") {
        body.insert("name".to_owned(), holder.person.display_name.into());
        if let Some(url) = holder.person.picture_url {
            body.insert("picture".to_owned(), url.into());
        }
    }
    answer::about(answer::ok(Value::Object(body)), &subject)
}

/// `GET /friendship/v1/status`: true means a friend that is not blocked.
pub(super) async fn friendship(State(sim): State<Simulator>, headers: HeaderMap) -> Response {
    let state = sim.state();
    let Some(holder) = holder(&sim, &state, &headers) else {
        return answer::unauthenticated();
    };
    if !holder.has("profile") {
        return forbidden();
    }
    let Some(bot) = holder.provider.linked_bot() else {
        let text = "There is no LINE Official Account linked to the channel.";
        return answer::message(StatusCode::BAD_REQUEST, text);
    };
    let friend = state.is_friend(&bot.channel_id, &holder.person_id);
    answer::about(answer::ok(json!({ "friendFlag": friend })), &holder.user_id())
}

fn forbidden() -> Response {
    answer::message(StatusCode::FORBIDDEN, "scope has not required permission")
}
