//! LIFF: the URLs of LIFF apps, what LINE hands to their pages, and a small SDK with LIFF's functions.
//!
//! A LIFF URL that is opened in LINE (from a phone under `/_sim`, or by a browser that says it is LINE's) leads to the
//! app's page as it was registered, with `liff.state` for what the URL had more, and the person's tokens in the fragment.
//! Anywhere else it leads there without them, and the page asks for a login.
//!
//! LINE's own SDK and ours ask for the same (`static/simulator/liff.js`); LINE documents little of it.

mod open;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Value, json};
use url::form_urlencoded;

pub(super) use self::open::{PHONE, primary};
use super::{
    Simulator, answer,
    control::{nobody, refuse, whose},
    login,
    state::{Code, State as Memory, user_id},
    world::{LiffApp, LoginChannel, Provider},
};

/// The host of LIFF URLs; the SDK has one of its own at LINE.
pub(super) fn routes() -> Router<Simulator> {
    Router::new()
        .route("/liff/edge/2/sdk.js", get(sdk))
        .route("/{liff_id}", any(open::open))
        .route("/{liff_id}/{*rest}", any(open::open))
}

pub(super) fn access_routes() -> Router<Simulator> {
    Router::new().route("/liff/v1/authorize", get(open::authorize))
}

pub(super) fn api_routes() -> Router<Simulator> {
    Router::new().route("/liff/v2/apps/{liff_id}/contextToken", get(context_token))
}

pub(super) fn control_routes() -> Router<Simulator> {
    Router::new().route("/_sim/users/{user_id}/liff", post(hand_over))
}

async fn sdk() -> Response {
    let text = include_str!("../../static/simulator/liff.js");
    let headers = [
        (header::CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
    ];
    (headers, text).into_response()
}

/// `GET /liff/v2/apps/{liff_id}/contextToken`, at every `liff.init()`.
async fn context_token(State(sim): State<Simulator>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let Some((provider, channel, app)) = sim.world().liff(&id) else { return answer::not_found() };
    let state = sim.state();
    let token = answer::bearer(&headers);
    let holder = token.and_then(|token| Some((token, state.live(token, sim.now())?.1.person.clone())));
    let user = holder.as_ref().map(|(token, person)| (*token, user_id(person, &provider.name)));
    answer::ok(json!({ "contextToken": context(channel, app, user.as_ref().map(|(token, id)| (*token, id.as_str()))) }))
}

/// What `liff.getContext()` shows. Nobody checks its signature.
fn context(channel: &LoginChannel, app: &LiffApp, user: Option<(&str, &str)>) -> String {
    let mut context = json!({
        "type": "external",
        "liffId": app.id,
        "endpointUrl": app.endpoint_url,
        "permanentLinkPattern": "concat",
        "scope": app.scopes,
        "availability": {},
    });
    if let (Some((token, user_id)), Some(context)) = (user, context.as_object_mut()) {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
        let half: Vec<u8> = hash.as_ref().iter().take(16).copied().collect();
        context.insert("userId".to_owned(), user_id.into());
        context.insert("accessTokenHash".to_owned(), URL_SAFE_NO_PAD.encode(half).into());
    }
    login::jws(&channel.secret, &context)
}

/// Who a LIFF app's tokens are for, as a sign-in that needs no code.
fn sign_in(app: &LiffApp, channel: &LoginChannel, person: &str, scopes: Vec<String>, now: i64) -> Code {
    Code {
        person: person.to_owned(),
        channel: channel.channel_id.clone(),
        redirect_uri: app.endpoint_url.clone(),
        scopes,
        nonce: None,
        challenge: None,
        issued_at: now,
        auth_time: None,
        amr: String::new(),
        is_liff: true,
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Order {
    /// Those of the LIFF app, where none are named.
    scopes: Option<Vec<String>>,
    /// How many seconds ago the person opened it.
    seconds_ago: i64,
}

/// `POST /_sim/users/{user_id}/liff`: the tokens that LINE would hand to the page, as if the person opened the app.
async fn hand_over(State(sim): State<Simulator>, Path(id): Path<String>, Json(order): Json<Order>) -> Response {
    let mut state = sim.state();
    let Some((person, provider)) = whose(&sim, &state, &id) else { return nobody() };
    let Some((channel, app)) = app_of(provider) else {
        return refuse(StatusCode::NOT_FOUND, "the provider has no LIFF app");
    };
    let scopes = order.scopes.unwrap_or_else(|| app.scopes.clone());
    allow(&mut state, channel, &person, &scopes);
    let opened_at = sim.now() - order.seconds_ago * 1000;
    let code = sign_in(app, channel, &person, scopes, opened_at);
    let tokens = login::liff_tokens(&sim, &mut state, code);
    drop(state);
    sim.changed();
    answer::ok(tokens)
}

fn app_of(provider: &Provider) -> Option<(&LoginChannel, &LiffApp)> {
    let channel = provider.login.as_ref()?;
    Some((channel, channel.liff.as_ref()?))
}

fn allow(state: &mut Memory, channel: &LoginChannel, person: &str, scopes: &[String]) {
    let consents = state.consents.entry(channel.channel_id.clone()).or_default();
    consents.entry(person.to_owned()).or_default().scopes.extend(scopes.iter().cloned());
}

/// A query of these parameters.
fn query(parameters: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
}

fn text<'v>(tokens: &'v Value, name: &str) -> &'v str {
    tokens.get(name).and_then(Value::as_str).unwrap_or_default()
}
