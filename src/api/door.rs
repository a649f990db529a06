//! The door of every route of the API: the key, what it may do and how often, and the face of whatever is refused.

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{caller::Caller, idempotency, key, problem};
use crate::{
    app::App,
    audit,
    error::{Error, Kind, Problem, Result},
    member::guard::{self, Scope},
};

/// What the door asks of a route.
#[derive(Debug, Clone)]
pub struct Entry {
    pub method: Method,
    pub scope: Scope,
}

/// The public id of the key that a request came with, for its line in the log.
#[derive(Debug, Clone)]
pub struct KeyId(pub String);

/// Parameters that people put keys into.
const KEYS_IN_URLS: [&str; 5] = ["key", "api_key", "token", "access_token", "authorization"];

/// Runs before each handler.
pub async fn door(State((app, entry)): State<(App, Entry)>, request: Request, next: Next) -> Response {
    let request_id = guard::request_id(&request);
    let mut key_id = None;
    let answer = enter(&app, &entry, request, next, &mut key_id).await;
    let mut answer = problem::finish(&request_id, answer.unwrap_or_else(Error::into_response));
    if let Some(key_id) = key_id {
        answer.extensions_mut().insert(key_id);
    }
    answer
}

/// Finds out who calls, and carries the request out in their name.
async fn enter(app: &App, entry: &Entry, request: Request, next: Next, key_id: &mut Option<KeyId>) -> Result<Response> {
    if !check(app, entry, &request)? {
        return Ok(next.run(request).await);
    }
    let token = bearer(request.headers()).map(str::to_owned);
    let address = guard::address(app, request.extensions(), request.headers());
    let caller = identify(app, token, address).await?;
    *key_id = Some(KeyId(caller.key_id.clone()));
    audit::acting(caller.actor(), serve(app, entry, caller, request, next)).await
}

/// Whether a request may be looked at: false where the path has no such method, which the router says itself.
fn check(app: &App, entry: &Entry, request: &Request<Body>) -> Result<bool> {
    guard::check_host(app, request)?;
    guard::check_head(request.headers())?;
    let is_read = *request.method() == Method::HEAD && entry.method == Method::GET;
    if *request.method() != entry.method && !is_read {
        return Ok(false);
    }
    let query = url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
    for (name, _) in query {
        if KEYS_IN_URLS.iter().any(|known| name.eq_ignore_ascii_case(known)) {
            return Err(Problem::new(Kind::KeyInUrl, format!("The parameter {name:?} is not read.")).into());
        }
    }
    Ok(true)
}

/// The key of a request, whatever it may do. Cookies are not looked at.
async fn identify(app: &App, token: Option<String>, address: String) -> Result<Caller> {
    let refuse = |why: &'static str| {
        tracing::info!(why, "no valid key");
        Error::from(Problem::new(Kind::Unauthorized, "Send a valid key as Authorization: Bearer msb_…"))
    };
    let token = token.ok_or_else(|| refuse("none"))?;
    let mut conn = app.db.conn().await?;
    let key = key::check(app, &mut conn, &token).await?.map_err(refuse)?;
    if let Err(error) = key::touch(&mut conn, app.now(), &key).await {
        // Much can still be read where nothing can be written.
        tracing::warn!(%error, "last use not kept");
    }
    app.rates.check(&key.id, key.per_minute()).map_err(|wait| Error::TooMany { seconds: wait.as_secs() + 1 })?;
    Ok(Caller { scopes: key.scopes()?, providers: key.providers()?, key_id: key.id, address })
}

/// The one bearer token that a head names.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(only), None) = (all.next(), all.next()) else { return None };
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Checks the scope, and runs the handler.
async fn serve(app: &App, entry: &Entry, caller: Caller, mut request: Request, next: Next) -> Result<Response> {
    if !caller.scopes.contains(&entry.scope) {
        let data = json!({ "scope": entry.scope, "method": entry.method.as_str(), "path": request.uri().path() });
        caller.note(app, "scope", None, data).await?;
        let detail = format!("The key lacks the scope {}.", entry.scope);
        return Err(Problem::new(Kind::Forbidden, detail).into());
    }
    request.extensions_mut().insert(caller.clone());
    if entry.method == Method::POST {
        idempotency::run(app, &caller, request, next).await
    } else {
        Ok(next.run(request).await)
    }
}
