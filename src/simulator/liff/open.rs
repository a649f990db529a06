//! Opening a LIFF app: by its URL, in LINE or elsewhere, and by `liff.login()`.

use axum::{
    extract::{RawQuery, State},
    http::{HeaderMap, Method, Uri, header},
    response::{IntoResponse, Redirect, Response},
};
use axum_extra::extract::CookieJar;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use url::{Url, form_urlencoded};

use super::{context, query, text};
use crate::simulator::{
    Simulator, answer,
    control::whose,
    login,
    state::{Code, PersonId, State as Memory, user_id},
    world::{LiffApp, LoginChannel},
};

/// Whose phone this browser showed last.
pub(in crate::simulator) const PHONE: &str = "line_phone";
/// Stands for a LIFF URL that had nothing more.
const NOTHING: &str = "-";

/// `GET https://liff.line.me/{liff_id}` and below. In the simulator all hosts may be one: what is no LIFF app is not there.
pub(super) async fn open(
    State(sim): State<Simulator>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    jar: CookieJar,
) -> Response {
    let path = uri.path().trim_start_matches('/');
    let (id, rest) = path.find('/').map_or((path, ""), |at| path.split_at(at));
    let Some((_, channel, app)) = sim.world().liff(id).filter(|_| method == Method::GET) else {
        return answer::not_found();
    };
    let more = uri.query().map_or_else(|| rest.to_owned(), |query| format!("{rest}?{query}"));
    match person(&sim, &headers, &jar) {
        Some(person) => login::open(&sim, &ask(channel, app, &more), person).await,
        None => Redirect::to(&with_state(&app.endpoint_url, &more)).into_response(),
    }
}

/// Whose LINE it is that opens the URL; none in another browser.
fn person(sim: &Simulator, headers: &HeaderMap, jar: &CookieJar) -> Option<PersonId> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_line = header(header::USER_AGENT).contains(" Line/");
    let is_from_phone = Url::parse(header(header::REFERER)).is_ok_and(|url| url.path().starts_with("/_sim/phone/"));
    let phone = jar.get(PHONE).filter(|_| is_line || is_from_phone)?;
    whose(sim, &sim.state(), phone.value()).map(|(person, _)| person)
}

/// The request by which a person in LINE is asked for what the app wants. What the URL had more is carried in `state`.
fn ask(channel: &LoginChannel, app: &LiffApp, more: &str) -> String {
    let state = if more.is_empty() { NOTHING.to_owned() } else { URL_SAFE_NO_PAD.encode(more) };
    query(&[
        ("app_id", &app.id),
        ("client_id", &channel.channel_id),
        ("scope", &app.scopes.join(" ")),
        ("state", &state),
        ("bot_prompt", "normal"),
        ("response_type", "code"),
        ("type", "C"),
        ("redirect_uri", &app.endpoint_url),
    ])
}

/// The primary redirect in LINE: the page as it was registered, with the person's tokens in the fragment, which no server
/// is sent.
pub(in crate::simulator) fn primary(
    sim: &Simulator,
    state: &mut Memory,
    liff_id: &str,
    carried: &str,
    code: Code,
) -> String {
    let Some((provider, channel, app)) = sim.world().liff(liff_id) else { return code.redirect_uri };
    let more = URL_SAFE_NO_PAD.decode(carried).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let more = more.filter(|_| carried != NOTHING).unwrap_or_default();
    let user = user_id(&code.person, &provider.name);
    let tokens = login::liff_tokens(sim, state, code);
    let access_token = text(&tokens, "access_token");
    let fragment = query(&[
        ("access_token", access_token),
        ("context_token", &context(channel, app, Some((access_token, &user)))),
        ("feature_token", &login::secret_text()),
        ("id_token", text(&tokens, "id_token")),
        ("client_id", &channel.channel_id),
    ]);
    format!("{}#{fragment}", with_state(&app.endpoint_url, &more))
}

fn with_state(endpoint: &str, more: &str) -> String {
    if more.is_empty() {
        return endpoint.to_owned();
    }
    let joint = if endpoint.contains('?') { '&' } else { '?' };
    format!("{endpoint}{joint}{}", query(&[("liff.state", more)]))
}

/// `GET https://access.line.me/liff/v1/authorize`, from `liff.login()`: LINE's authorize page, with what the app wants.
pub(super) async fn authorize(State(sim): State<Simulator>, RawQuery(asked): RawQuery) -> Response {
    let asked: Vec<(String, String)> =
        form_urlencoded::parse(asked.unwrap_or_default().as_bytes()).into_owned().collect();
    let get = |name: &str| asked.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    let Some((_, channel, app)) = sim.world().liff(get("app_id")) else { return answer::not_found() };
    let redirect_uri = Some(get("redirect_uri")).filter(|uri| !uri.is_empty()).unwrap_or(&app.endpoint_url);
    let query = query(&[
        ("app_id", &app.id),
        ("client_id", &channel.channel_id),
        ("scope", &app.scopes.join(" ")),
        ("state", get("state")),
        ("bot_prompt", "normal"),
        ("response_type", get("response_type")),
        ("code_challenge_method", get("code_challenge_method")),
        ("code_challenge", get("code_challenge")),
        ("type", "L"),
        ("redirect_uri", redirect_uri),
    ]);
    Redirect::to(&format!("/oauth2/v2.1/authorize?{query}")).into_response()
}
