//! The door of every route: who may call it, whether a form is ours, and the face of whatever is refused. The company's
//! systems have a door of their own (`api::door`).

mod scope;

use std::net::{IpAddr, SocketAddr};

use axum::{
    Json,
    body::Body,
    extract::{ConnectInfo, FromRequestParts, Request, State},
    http::{Extensions, HeaderMap, Method, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use tower_http::request_id::RequestId;

pub use self::scope::Scope;
use super::session::{self, Session};
use crate::{
    app::App,
    error::{Error, Result},
    web::{
        cookie, csrf, error_page,
        visit::{Viewer, Visit},
    },
};

/// Who may call a route. Every route states one; there is no default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Anything, also machines: no session, no database, no cookie.
    Anyone,
    /// LINE, by its signature over the body, which the handler checks before it reads anything: no session, no cookie.
    Line,
    /// Any person in a browser; a session is seen where there is one.
    Visitor,
    /// A signed-in member.
    Member,
    /// The script of our page that LINE opens as a LIFF app: by origin and a header that no form can send. It is answered
    /// in JSON, with a session where there is one.
    Liff,
    /// A system of the company's, by an API key that has this scope: no session, no cookie, no form.
    Key(Scope),
}

/// What the door asks of a route.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    pub who: Who,
    /// Counted by address.
    pub is_costly: bool,
}

/// Most bytes of header names and values; ours and those of browsers are far shorter.
const LONGEST_HEAD: usize = 16 * 1024;

/// A signed-in member's session, as a handler's argument.
#[derive(Debug, Clone)]
pub struct SignedIn(pub Session);

/// A session, where there is one.
#[derive(Debug, Clone)]
pub struct MaybeSession(pub Option<Session>);

/// Runs before each handler of a page.
pub async fn door(State((app, entry)): State<(App, Entry)>, request: Request, next: Next) -> Response {
    if entry.who == Who::Anyone {
        return next.run(request).await;
    }
    let request_id = request_id(&request);
    let address = address(&app, request.extensions(), request.headers());
    let found = find_session(&app, request.headers()).await;
    let viewer = found
        .as_ref()
        .ok()
        .and_then(Option::as_ref)
        .map(|session| Viewer { name: session.name.clone(), locale: session.locale.clone() });
    let visit = match Visit::new(&app, &request, address, viewer) {
        Ok(visit) => visit,
        Err(error) => return error.into_response(),
    };
    let answer = match enter(&app, entry, &visit, found, request).await {
        Ok(request) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    finish(&app, entry, &visit, &request_id, answer)
}

/// Lets a request in, with its visit and session, or says why not.
async fn enter(
    app: &App,
    entry: Entry,
    visit: &Visit,
    found: Result<Option<Session>>,
    request: Request<Body>,
) -> Result<Request<Body>> {
    check_host(app, &request)?;
    check_head(request.headers())?;
    if !matches!(*request.method(), Method::GET | Method::HEAD | Method::POST) {
        // No route has it, and the router names those that are. Without a visit no handler could run.
        return Ok(request);
    }
    if entry.is_costly {
        check_rate(app, &visit.address)?;
    }
    let session = found?;
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if entry.who == Who::Member && session.is_none() {
        // A form is not replayed after the sign-in: the person returns to the account page instead.
        let return_to = if reads { visit.here.clone() } else { "/account".to_owned() };
        return Err(Error::SignIn { return_to });
    }
    let mut request = match entry.who {
        _ if reads => request,
        Who::Liff => {
            csrf::check_script(app, request.headers())?;
            request
        }
        _ => csrf::check(app, visit, request).await?,
    };
    request.extensions_mut().insert(visit.clone());
    request.extensions_mut().insert(MaybeSession(session));
    Ok(request)
}

/// Gives an error its page, and the browser its form cookie.
fn finish(app: &App, entry: Entry, visit: &Visit, request_id: &str, answer: Response) -> Response {
    let error = answer.extensions().get::<Error>().cloned().or_else(|| unread(&answer));
    let allow = answer.headers().get(header::ALLOW).cloned();
    let mut answer = match &error {
        Some(error) if entry.who == Who::Liff => of_script(error, &answer),
        Some(Error::SignIn { return_to }) => Redirect::to(&error_page::sign_in_url(return_to, false)).into_response(),
        Some(error) => error_page::render(app, visit, request_id, error, answer),
        None => answer,
    };
    if let Some(allow) = allow {
        answer.headers_mut().insert(header::ALLOW, allow);
    }
    if visit.is_new {
        (cookie::set(&app.config, cookie::FORM, &visit.form_key, None), answer).into_response()
    } else {
        answer
    }
}

/// The script finds the words by itself; it is told which.
fn of_script(error: &Error, answer: &Response) -> Response {
    let name = match error {
        Error::Refused(refusal) => refusal.key,
        Error::Busy | Error::Unavailable(_) | Error::TooMany { .. } | Error::TooSlow => "unavailable",
        _ => "failed",
    };
    let mut face = (answer.status(), Json(serde_json::json!({ "error": name }))).into_response();
    if let Some(seconds) = error.retry_after() {
        face.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    face
}

/// The framework's own refusals (a method, a path or a form that it cannot read) are no pages.
fn unread(answer: &Response) -> Option<Error> {
    let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_page = kind.starts_with("text/html");
    (answer.status().is_client_error() && !is_page).then_some(Error::BadRequest("unreadable request"))
}

async fn find_session(app: &App, headers: &HeaderMap) -> Result<Option<Session>> {
    let Some(token) = cookie::get(&app.config, headers, cookie::SESSION) else { return Ok(None) };
    let mut conn = app.db.conn().await?;
    let found = session::find(&mut conn, app.now(), &token).await?;
    if let Some(session) = &found
        && let Err(error) = session::touch(&mut conn, app.now(), session).await
    {
        // Pages can still be read where nothing can be written.
        tracing::warn!(%error, "last-seen not kept");
    }
    Ok(found)
}

/// Links in mails and redirects are built from the configuration; a foreign `Host` is not served at all.
pub fn check_host(app: &App, request: &Request) -> Result<()> {
    let url = &app.config.public_url;
    let host = url.host_str().unwrap_or_default();
    let ours = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    // HTTP/2 names it in the URI and sends no header.
    let asked = match request.headers().get(header::HOST) {
        Some(value) => value.to_str().unwrap_or_default(),
        None => request.uri().authority().map(|authority| authority.as_str()).unwrap_or_default(),
    };
    if asked.eq_ignore_ascii_case(&ours) { Ok(()) } else { Err(Error::BadRequest("foreign Host")) }
}

/// Refuses a head that is longer than any of ours.
pub fn check_head(headers: &HeaderMap) -> Result<()> {
    let length: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if length > LONGEST_HEAD { Err(Error::HeadTooLarge) } else { Ok(()) }
}

/// Counts a costly request of an address.
fn check_rate(app: &App, address: &str) -> Result<()> {
    app.limiter.check(address).map_err(|wait| Error::TooMany { seconds: wait.as_secs() + 1 })
}

/// Whose request it is: the peer's or, where that is a listed proxy, the last one named by a listed proxy.
pub fn address(app: &App, extensions: &Extensions, headers: &HeaderMap) -> String {
    let Some(peer) = extensions.get::<ConnectInfo<SocketAddr>>() else { return String::new() };
    let is_proxy = |address: &IpAddr| app.config.trusted_proxies.iter().any(|network| network.contains(address));
    let mut address = peer.0.ip().to_canonical();
    let headers = headers.get_all("x-forwarded-for").iter().rev();
    let mut named = headers.flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
    while is_proxy(&address) {
        // Some proxies add the port.
        let next = named.next().map(str::trim).and_then(|text| {
            text.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip())).ok()
        });
        let Some(next) = next else { break };
        address = next.to_canonical();
    }
    address.to_string()
}

/// The id that a request was given here.
pub fn request_id(request: &Request) -> String {
    let id = request.extensions().get::<RequestId>();
    id.and_then(|id| id.header_value().to_str().ok()).unwrap_or_default().to_owned()
}

impl<S: Send + Sync> FromRequestParts<S> for MaybeSession {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Error::internal("the route has no door"))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for SignedIn {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let MaybeSession(session) = MaybeSession::from_request_parts(parts, state).await?;
        session.map(Self).ok_or_else(|| Error::SignIn { return_to: "/account".into() })
    }
}
