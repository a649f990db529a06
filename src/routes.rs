//! Every route, and who may call it.

use std::{any::Any, time::Duration};

use axum::{
    Extension, Router,
    extract::{DefaultBodyLimit, Request, State},
    handler::Handler,
    http::{HeaderName, Method},
    middleware,
    response::{IntoResponse, Response},
    routing::{self, MethodRouter},
};
use tower_http::{
    catch_panic::CatchPanicLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
};
use tracing::Instrument;

use crate::{
    api,
    app::App,
    error::Error,
    link::{
        account, account_link, callback, confirm, consent, friend, history, imported, liff, start, ticket, undo, unlink,
    },
    member::{
        change_password, code, email,
        guard::{self, Entry, Scope, Who},
        oidc, reset, session_list, sign_in, sign_up,
    },
    preference,
    privacy::{delete, export},
    web::{assets, body, brand, headers, home, locale, security_txt},
    webhook::{self, intake::Intake},
};

/// One route. Made by [`get`], [`post`], [`put`], [`patch`] and [`delete`] only, so that none lacks its `who`.
pub struct Route {
    pub method: Method,
    pub path: &'static str,
    pub who: Who,
    /// Checks a password, mails, or asks LINE: an address has only so many of these in a minute. Never for machines
    /// that must get through, such as LINE's webhook: what they send would be lost.
    pub is_costly: bool,
    handler: MethodRouter<App>,
}

impl Route {
    fn costly(self) -> Self {
        Self { is_costly: true, ..self }
    }
}

/// All routes.
#[rustfmt::skip]
#[expect(clippy::too_many_lines, reason = "every route is on one screen, a line each")]
pub fn all() -> Vec<Route> {
    use Who::{Anyone, Key, Liff, Line, Member, Visitor};
    vec![
        get("/", Visitor, home::show),
        get("/healthz", Anyone, home::alive),
        get("/readyz", Anyone, home::ready),
        get("/static/{name}", Anyone, assets::show),
        get("/brand/{name}", Anyone, brand::show),
        get("/.well-known/security.txt", Anyone, security_txt::show),
        post("/locale", Visitor, locale::switch),
        post("/webhook/{channel}", Line, webhook::receive::receive),

        get("/sign-up", Visitor, sign_up::show),
        post("/sign-up", Visitor, sign_up::submit).costly(),
        get("/sign-up/confirm", Visitor, sign_up::confirm::show),
        post("/sign-up/confirm", Visitor, sign_up::confirm::submit).costly(),
        get("/sign-in", Visitor, sign_in::show),
        post("/sign-in", Visitor, sign_in::submit).costly(),
        post("/sign-out", Member, sign_in::out),
        get("/password/forgot", Visitor, reset::show_forgot),
        post("/password/forgot", Visitor, reset::forgot).costly(),
        get("/password/reset", Visitor, reset::show),
        post("/password/reset", Visitor, reset::submit).costly(),
        get("/password/change", Member, change_password::show),
        post("/password/change", Member, change_password::submit).costly(),
        get("/account/email", Member, email::show),
        post("/account/email", Member, email::submit).costly(),
        get("/account/email/confirm", Visitor, email::show_confirm),
        post("/account/email/confirm", Visitor, email::confirm).costly(),
        post("/account/code", Member, code::send).costly(),
        post("/account/code/check", Member, code::check).costly(),

        // By the word of the company's own provider.
        post("/company/start", Visitor, oidc::start::submit).costly(),
        get("/company/callback", Visitor, oidc::callback::arrive).costly(),

        // A link started without a session leads to the sign-in. The confirm page needs one, or the browser that a
        // ticket was begun in.
        post("/line/start", Visitor, start::submit).costly(),
        get("/line/callback/{provider}", Visitor, callback::arrive).costly(),
        get("/line/not-linked", Visitor, account::not_linked),
        get("/link/confirm", Visitor, confirm::show),
        post("/link/confirm", Visitor, confirm::submit).costly(),
        // LINE opens it and what is below with tokens that are for its script only: nothing is asked of anybody, and
        // nothing leads elsewhere.
        get("/liff/{provider}", Anyone, liff::page::show),
        get("/liff/{provider}/", Anyone, liff::page::show),
        get("/liff/{provider}/{*below}", Anyone, liff::page::show),
        get("/liff/{provider}/session", Anyone, liff::page::show),
        post("/liff/{provider}/session", Liff, liff::submit).costly(),
        // Out of LINE, by the secret in an address, into the browser that the company's sign-in wants.
        post("/line/elsewhere", Visitor, liff::elsewhere::ask).costly(),
        get("/line/go-on/{secret}", Visitor, liff::elsewhere::show),
        post("/line/go-on", Visitor, liff::elsewhere::submit).costly(),
        // By the secret in the address, that the company handed out.
        get("/t", Visitor, ticket::code::show),
        post("/t", Visitor, ticket::code::submit).costly(),
        get("/t/{ticket}", Visitor, ticket::page::show),
        get("/t/watch/{watch}", Visitor, ticket::watch::show),
        get("/t/watch/{watch}/state", Visitor, ticket::watch::state),
        // Before the yes there is no session: it is this that signs in.
        get("/link/imported", Visitor, imported::show),
        post("/link/imported", Visitor, imported::submit).costly(),
        // From a chat: leads to the sign-in and back.
        get("/account-link", Visitor, account_link::page::show),
        post("/account-link", Visitor, account_link::page::submit).costly(),
        get("/account", Member, account::show),
        get("/account/sessions", Member, session_list::show),
        post("/account/sessions/end", Member, session_list::end),
        post("/account/sessions/end-others", Member, session_list::end_others),
        get("/account/unlink", Member, unlink::show),
        post("/account/unlink", Member, unlink::submit).costly(),
        post("/account/consent", Member, consent::submit),
        get("/account/history", Member, history::show),
        get("/account/friend", Member, friend::show),
        get("/account/friend/state", Member, friend::state),
        get("/account/preferences", Member, preference::page::show),
        post("/account/preferences", Member, preference::page::submit),
        // By the token in a mail: whoever linked may hold the only session.
        get("/link/undo", Visitor, undo::show),
        post("/link/undo", Visitor, undo::submit).costly(),

        get("/account/data", Member, export::show),
        post("/account/data", Member, export::submit).costly(),
        get("/account/delete", Member, delete::show),
        post("/account/delete", Member, delete::submit).costly(),

        get("/api/openapi.json", Anyone, api::openapi::show),
        get("/api/docs", Visitor, api::docs::show),
        get("/api/v1/members", Key(Scope::MembersRead), api::member::list),
        put("/api/v1/members/{external_id}", Key(Scope::MembersWrite), api::member::put),
        get("/api/v1/members/{external_id}", Key(Scope::MembersRead), api::member::show),
        self::delete("/api/v1/members/{external_id}", Key(Scope::MembersWrite), api::member::delete),
        post("/api/v1/members/{external_id}/disable", Key(Scope::MembersWrite), api::member::disable),
        post("/api/v1/members/{external_id}/enable", Key(Scope::MembersWrite), api::member::enable),
        put("/api/v1/members/{external_id}/rich-menu", Key(Scope::MembersWrite), api::rich_menu::put),
        self::delete("/api/v1/members/{external_id}/rich-menu", Key(Scope::MembersWrite), api::rich_menu::delete),
        get("/api/v1/members/{external_id}/links/{provider}", Key(Scope::LinksRead), api::link::show),
        self::delete("/api/v1/members/{external_id}/links/{provider}", Key(Scope::LinksWrite), api::link::delete),
        post("/api/v1/link-tickets", Key(Scope::TicketsWrite), api::ticket::create),
        post("/api/v1/link-tickets/redeem", Key(Scope::TicketsWrite), api::ticket::redeem),
        get("/api/v1/link-tickets/{id}", Key(Scope::TicketsWrite), api::ticket::show),
        self::delete("/api/v1/link-tickets/{id}", Key(Scope::TicketsWrite), api::ticket::revoke),
        post("/api/v1/messages", Key(Scope::MessagesWrite), api::message::send::create),
        get("/api/v1/messages", Key(Scope::MessagesRead), api::message::list),
        get("/api/v1/messages/{id}", Key(Scope::MessagesRead), api::message::show),
        post("/api/v1/messages/{id}/cancel", Key(Scope::MessagesWrite), api::message::cancel),
        get("/api/v1/deliveries", Key(Scope::MessagesRead), api::delivery::list),
        get("/api/v1/quota", Key(Scope::MessagesRead), api::quota::show),
        get("/api/v1/events", Key(Scope::EventsRead), api::event::list),
        get("/api/v1/hooks", Key(Scope::HooksRead), api::hook::list),
        post("/api/v1/hooks", Key(Scope::HooksWrite), api::hook::create),
        get("/api/v1/hooks/{id}", Key(Scope::HooksRead), api::hook::show),
        patch("/api/v1/hooks/{id}", Key(Scope::HooksWrite), api::hook::update),
        self::delete("/api/v1/hooks/{id}", Key(Scope::HooksWrite), api::hook::delete),
        post("/api/v1/hooks/{id}/rotate-secret", Key(Scope::HooksWrite), api::hook::rotate_secret),
        post("/api/v1/hooks/{id}/test", Key(Scope::HooksWrite), api::hook::test),
        post("/api/v1/hooks/{id}/replay", Key(Scope::HooksWrite), api::hook::replay),
        get("/api/v1/hooks/{id}/deliveries", Key(Scope::HooksRead), api::hook::deliveries),
    ]
}

/// The whole application.
pub fn router(app: &App) -> Router {
    router_of(app, all())
}

/// An application of these routes.
pub fn router_of(app: &App, routes: Vec<Route>) -> Router {
    let door = |entry| middleware::from_fn_with_state((app.clone(), entry), guard::door);
    let (mut pages, mut webhooks) = (Router::new(), Router::new());
    for route in routes {
        let handler = route.handler.layer(CatchPanicLayer::custom(panicked));
        let timed = |handler: MethodRouter<App>| handler.layer(middleware::from_fn(limit_time));
        match route.who {
            Who::Line => webhooks = webhooks.route(route.path, handler),
            Who::Key(scope) => {
                let entry = api::door::Entry { method: route.method, scope };
                let door = middleware::from_fn_with_state((app.clone(), entry), api::door::door);
                pages = pages.route(route.path, timed(handler).layer(door));
            }
            Who::Anyone if route.path.starts_with("/api/") => {
                pages = pages.route(route.path, handler.layer(middleware::from_fn(api::problem::face)));
            }
            who @ (Who::Anyone | Who::Visitor | Who::Member | Who::Liff) => {
                let entry = Entry { who, is_costly: route.is_costly };
                pages = pages.route(route.path, timed(handler).layer(door(entry)));
            }
        }
    }
    // What is asked for under the API's path comes from a program.
    let no_endpoint = || routing::any(|| async { Error::NotFound }).layer(middleware::from_fn(api::problem::face));
    pages = pages.route("/api/", no_endpoint()).route("/api/{*rest}", no_endpoint());
    let request_id = HeaderName::from_static("x-request-id");
    let nowhere = routing::any(|| async { Error::NotFound }).layer(door(Entry { who: Who::Visitor, is_costly: false }));
    let pages = pages
        .fallback_service(nowhere.with_state(app.clone()))
        .layer(DefaultBodyLimit::max(body::LONGEST))
        .layer(middleware::from_fn_with_state((app.clone(), headers::of(app)), headers::add))
        .layer(middleware::from_fn_with_state(app.clone(), log))
        .layer(PropagateRequestIdLayer::new(request_id.clone()))
        .layer(SetRequestIdLayer::new(request_id, MakeRequestUuid))
        .layer(middleware::map_request(forget_request_id));
    // What LINE sends comes by the thousand in a second, is no page, and keeps its own time. What is stored is its own
    // record; what is not, the handler logs.
    pages.merge(webhooks.layer(Extension(Intake::start(app)))).with_state(app.clone())
}

/// A panic is one request's, and looks like any other failure of ours.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    Error::internal("a handler panicked").into_response()
}

/// A request's id is ours alone: people name it to us, so that nobody else may choose it.
async fn forget_request_id(mut request: Request) -> Request {
    request.headers_mut().remove("x-request-id");
    request
}

/// Longer than the calls to LINE of a callback.
async fn limit_time(request: Request, next: middleware::Next) -> Response {
    let answer = tokio::time::timeout(Duration::from_secs(40), next.run(request)).await;
    answer.unwrap_or_else(|_| Error::Busy.into_response())
}

/// One line a request, and the request's id on every line that it causes. The path only: queries hold codes
/// and states, and so do the paths of tickets and of ways out of LINE.
async fn log(State(app): State<App>, request: Request, next: middleware::Next) -> Response {
    let address = guard::address(&app, request.extensions(), request.headers());
    let (method, path) = (request.method().clone(), logged(request.uri().path()).to_owned());
    let request_id = request.headers().get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    let span = tracing::info_span!("http", request_id);
    let answering = async {
        let response = next.run(request).await;
        let key = response.extensions().get::<api::door::KeyId>().map(|key| key.0.as_str());
        tracing::info!(%method, path, address, key, status = response.status().as_u16(), "request");
        response
    };
    answering.instrument(span).await
}

fn logged(path: &str) -> &str {
    match path {
        _ if path.starts_with("/t/") => "/t/…",
        _ if path.starts_with("/line/go-on/") => "/line/go-on/…",
        _ => path,
    }
}

pub fn put<H: Handler<T, App>, T: 'static>(path: &'static str, who: Who, handler: H) -> Route {
    Route { method: Method::PUT, path, who, is_costly: false, handler: routing::put(handler) }
}

pub fn patch<H: Handler<T, App>, T: 'static>(path: &'static str, who: Who, handler: H) -> Route {
    Route { method: Method::PATCH, path, who, is_costly: false, handler: routing::patch(handler) }
}

pub fn delete<H: Handler<T, App>, T: 'static>(path: &'static str, who: Who, handler: H) -> Route {
    Route { method: Method::DELETE, path, who, is_costly: false, handler: routing::delete(handler) }
}

pub fn get<H: Handler<T, App>, T: 'static>(path: &'static str, who: Who, handler: H) -> Route {
    Route { method: Method::GET, path, who, is_costly: false, handler: routing::get(handler) }
}

pub fn post<H: Handler<T, App>, T: 'static>(path: &'static str, who: Who, handler: H) -> Route {
    Route { method: Method::POST, path, who, is_costly: false, handler: routing::post(handler) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q14_the_log_has_no_tickets() {
        for (path, expected) in [
            ("/t/NMZTNuVrPTqlr2IF8Bnymkb7rXfYv5EYNMZTNuVrPTq", "/t/…"),
            ("/t/watch/NMZTNuVrPTqlr2IF8Bnymkb7rXfYv5EYNMZTNuVrPTq/state", "/t/…"),
            ("/t", "/t"),
            ("/line/go-on/NMZTNuVrPTqlr2IF8Bnymkb7rXfYv5EYNMZTNuVrPTq", "/line/go-on/…"),
            ("/account", "/account"),
        ] {
            assert_eq!(logged(path), expected);
        }
    }
}
