//! The application under test: whole, in process, with the simulator as LINE on one listener per host, so
//! that a call to the wrong host fails as it would at LINE. Each test has its own database.
#![allow(dead_code, reason = "not every test needs every helper")]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test that cannot go on fails")]

pub mod browser;
pub mod gate;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod receiver;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::ConnectInfo,
    http::{Method, Request, StatusCode, header},
};
use musubi::{
    app::{App, Clock},
    config::Config,
    db::Db,
    demo,
    member::{self, guard::Scope},
    routes,
    simulator::{self, Host, Simulator},
    worker,
};
use serde_json::{Value, json};
use sqlx::{Column, Row};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tower::ServiceExt;

pub const ORIGIN: &str = "https://members.example.jp";
pub const PASSWORD: &str = "correct horse battery";
pub const LOGIN_CHANNEL: &str = "1000000001";
pub const LOGIN_SECRET: &str = "5f1c0b7a9d3e4f60812233445566778a";
pub const LIFF_ID: &str = "1000000001-AbcdEfgh";
pub const BOT_CHANNEL: &str = "1000000002";
pub const BOT_SECRET: &str = "0a9b8c7d6e5f40312233445566778899";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// Makes two tests of one body: `name::sqlite` and `name::postgres`.
macro_rules! both_engines {
    ($($(#[$meta:meta])* async fn $name:ident($app:ident) $body:block)*) => { $(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports, reason = "some bodies need nothing from around")]
            use super::*;

            async fn body($app: &$crate::support::TestApp) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                let app = $crate::support::TestApp::start($crate::support::Engine::Sqlite).await;
                body(&app).await;
                app.end().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                let app = $crate::support::TestApp::start($crate::support::Engine::Postgres).await;
                body(&app).await;
                app.end().await;
            }
        }
    )* };
}
pub(crate) use both_engines;

pub struct TestApp {
    pub app: App,
    pub router: Router,
    pub clock: Clock,
    /// Moved, it moves LINE's clock away from ours; `clock` moves both.
    pub line_clock: Clock,
    pub engine: Engine,
    pub database_url: String,
    /// Every host of LINE and `/_sim`, in process.
    pub line: Router,
    _simulator: Simulator,
    _folder: TempDir,
}

/// An answer read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: axum::http::HeaderMap,
    pub body: String,
}

impl TestApp {
    pub async fn start(engine: Engine) -> Self {
        Self::start_with(engine, |_| {}).await
    }

    /// With a configuration that `edit` changed.
    pub async fn start_with(engine: Engine, edit: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database_url = match engine {
            Engine::Sqlite => format!("sqlite://{}", folder.path().join("test.db").display()),
            Engine::Postgres => postgres::fresh_database().await,
        };
        Self::build(engine, folder, database_url, edit).await
    }

    /// On SQLite, in this very file.
    pub async fn start_at(database_url: &str) -> Self {
        Self::build(Engine::Sqlite, tempfile::tempdir().unwrap(), database_url.to_owned(), |_| {}).await
    }

    async fn build(engine: Engine, folder: TempDir, database_url: String, edit: impl FnOnce(&mut Config)) -> Self {
        let clock = Clock::default();
        let hosts = [listen().await, listen().await, listen().await, listen().await];
        let mail = listen().await;
        let mut config = config(
            &database_url,
            &hosts.each_ref().map(|host| host.local_addr().unwrap()),
            &mail.local_addr().unwrap(),
        );
        edit(&mut config);
        let line_clock = Clock::default();
        let (ours, theirs, world) = (clock.clone(), line_clock.clone(), demo::simulator::world(&config));
        let now = move || ours.now().0 + theirs.now().0 - Clock::default().now().0;
        let options = simulator::Options { data: None, clock: Arc::new(now), world };
        let simulator = Simulator::open(options).unwrap();
        tokio::spawn(simulator.clone().serve_mail(mail));
        for (listener, host) in hosts.into_iter().zip([Host::Access, Host::Api, Host::ApiData, Host::Liff]) {
            let router = simulator.router(host);
            tokio::spawn(async move { axum::serve(listener, router).await });
        }
        let db = Db::connect(&database_url).await.unwrap();
        db.migrate().await.unwrap();
        let app = App::new(config, db, clock.clone()).unwrap();
        let (router, line) = (routes::router(&app), simulator.router(Host::All));
        serve_webhooks(&app, &router, &simulator).await;
        Self { app, router, clock, line_clock, engine, database_url, line, _simulator: simulator, _folder: folder }
    }

    /// Closes what the test leaves, and removes its database.
    pub async fn end(&self) {
        self.app.db.close().await;
        if self.engine == Engine::Postgres {
            postgres::drop_database(&self.database_url).await;
        }
    }

    pub fn visitor(&self) -> Visitor<'_> {
        Visitor {
            app: self,
            cookies: BTreeMap::new(),
            address: "192.0.2.1".into(),
            language: "en",
            user_agent: "test browser",
        }
    }

    /// A key of the API with these scopes.
    pub async fn key(&self, scopes: &[Scope]) -> String {
        self.key_for(scopes, &[]).await
    }

    /// The same, for these providers only.
    pub async fn key_for(&self, scopes: &[Scope], providers: &[&str]) -> String {
        let providers: Vec<String> = providers.iter().map(|name| (*name).to_owned()).collect();
        let per_minute = std::num::NonZeroU32::new(1_000_000).unwrap();
        let new = musubi::api::key::New { name: "test", scopes, providers: &providers, expires_at: None, per_minute };
        musubi::api::key::create(&self.app, &new).await.unwrap()
    }

    /// A request of the API, not sent yet; `body` is JSON unless it is null.
    pub fn api_request(&self, key: &str, method: Method, path: &str, body: &Value) -> Request<Body> {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "members.example.jp");
        if !key.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        if body.is_null() {
            return request.body(Body::empty()).unwrap();
        }
        request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body.to_string())).unwrap()
    }

    /// Calls the API.
    pub async fn api(&self, key: &str, method: Method, path: &str, body: Value) -> Answer {
        self.answer(self.api_request(key, method, path, &body)).await
    }

    /// The same, by this idempotency key.
    pub async fn api_once(&self, key: &str, path: &str, body: Value, idempotency_key: &str) -> Answer {
        let mut request = self.api_request(key, Method::POST, path, &body);
        request.headers_mut().insert("idempotency-key", idempotency_key.parse().unwrap());
        self.answer(request).await
    }

    pub async fn answer(&self, request: Request<Body>) -> Answer {
        read(self.router.clone().oneshot(request).await.unwrap()).await
    }

    /// Adds a member with [`PASSWORD`]; gives the id.
    pub async fn member(&self, email: &str, name: &str) -> String {
        let password_hash = member::password::hash(&self.app, PASSWORD).await.unwrap();
        let new = member::New {
            email,
            email_key: email,
            name,
            password_hash: Some(&password_hash),
            locale: None,
            source: "company",
        };
        let mut conn = self.app.db.conn().await.unwrap();
        member::insert(&mut conn, self.app.now(), &new).await.unwrap().expect("a new address")
    }

    /// A member's browser, signed in with the password.
    pub async fn signed_in(&self, email: &str) -> Visitor<'_> {
        let mut visitor = self.visitor();
        let answer = visitor.post("/sign-in", &[("email", email), ("password", PASSWORD)]).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        visitor
    }

    /// A member (`email` says who) linked to a new LINE user; gives their browser and the LINE user's id.
    pub async fn linked(&self, email: &str) -> (Visitor<'_>, String) {
        self.member(email, "Hanako").await;
        let user = self.line_user("はなこ").await;
        let mut visitor = self.signed_in(email).await;
        let answer = visitor.link(&user).await;
        assert_eq!(answer.location(), "/account?done=linked", "{}", answer.body);
        worker::drain(&self.app).await.unwrap();
        (visitor, user)
    }

    /// Runs jobs and sends what waits, until nothing is due.
    pub async fn drain(&self) {
        worker::drain(&self.app).await.unwrap();
    }

    // ---- LINE's side

    /// A call to the simulator's control API.
    pub async fn sim(&self, method: Method, path: &str, body: Value) -> Value {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()))
            .unwrap();
        let answer = read(self.line.clone().oneshot(request).await.unwrap()).await;
        assert!(answer.status.is_success(), "{path}: {} {}", answer.status, answer.body);
        serde_json::from_str(&answer.body).unwrap_or(Value::Null)
    }

    /// A new person at LINE, friend of nobody yet; gives the LINE user ID.
    pub async fn line_user(&self, name: &str) -> String {
        let made = self.sim(Method::POST, "/_sim/users", json!({ "display_name": name })).await;
        made["user_id"].as_str().unwrap().to_owned()
    }

    /// What the person's phone shows.
    pub async fn phone(&self, user: &str) -> Value {
        self.sim(Method::GET, &format!("/_sim/users/{user}/chat"), Value::Null).await
    }

    /// The person does something in the chat with the bot, which is told by its webhook before this returns; gives
    /// the simulator's answer: `webhook`, and `event_id`, `message_id`, `reply_token` where there are such.
    pub async fn does(&self, user: &str, deed: &str, order: Value) -> Value {
        self.sim(Method::POST, &format!("/_sim/users/{user}/{deed}"), order).await
    }

    /// The same; the name says that it is something the bot hears of.
    pub async fn send(&self, user: &str, deed: &str, order: Value) -> Value {
        self.does(user, deed, order).await
    }

    /// The person writes to the bot.
    pub async fn say(&self, user: &str, text: &str) -> Value {
        self.does(user, "message", json!({ "text": text })).await
    }

    /// Every webhook so far with its answer, oldest first.
    pub async fn webhooks(&self) -> Vec<Value> {
        let sent = self.sim(Method::GET, "/_sim/webhooks", Value::Null).await;
        sent["webhooks"].as_array().unwrap().clone()
    }

    pub async fn fault(&self, fault: Value) {
        self.sim(Method::POST, "/_sim/faults", fault).await;
    }

    pub async fn clear_faults(&self) {
        self.sim(Method::DELETE, "/_sim/faults", Value::Null).await;
    }

    /// Every call to LINE's faces so far.
    pub async fn calls(&self) -> Vec<Value> {
        let ledger = self.sim(Method::GET, "/_sim/ledger", Value::Null).await;
        ledger["calls"].as_array().unwrap().clone()
    }

    /// The calls whose path begins so.
    pub async fn calls_to(&self, path: &str) -> Vec<Value> {
        let calls = self.calls().await;
        calls.into_iter().filter(|call| call["path"].as_str().unwrap().starts_with(path)).collect()
    }

    /// A page of the simulator.
    pub async fn sim_page(&self, path: &str) -> String {
        let answer =
            read(self.line.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap()).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.status);
        answer.body
    }

    /// The mails to an address, oldest first, each with `from`, `to`, `subject`, `text`, `html`.
    pub async fn mails(&self, to: &str) -> Vec<Value> {
        let found = self.sim(Method::GET, &format!("/_sim/mails?to={to}"), Value::Null).await;
        found["mails"].as_array().unwrap().clone()
    }

    /// Path and query of the link to `path` in the newest mail that has one.
    pub async fn mailed_link(&self, to: &str, path: &str) -> String {
        let mails = self.mails(to).await;
        let start = format!("{ORIGIN}{path}");
        let lines = mails.iter().rev().flat_map(|mail| mail["text"].as_str().unwrap().lines());
        let link = lines.into_iter().find(|line| line.starts_with(&start));
        link.unwrap_or_else(|| panic!("no link to {path} in {mails:#?}")).strip_prefix(ORIGIN).unwrap().to_owned()
    }

    /// The code in the newest mail.
    pub async fn mailed_code(&self, to: &str) -> String {
        let mails = self.mails(to).await;
        let lines = mails.iter().rev().flat_map(|mail| mail["text"].as_str().unwrap().lines().map(str::trim));
        let is_code = |line: &&str| line.len() == 9 && line.as_bytes()[4] == b'-';
        lines.into_iter().find(is_code).unwrap_or_else(|| panic!("no code in {mails:#?}")).to_owned()
    }

    // ---- the database

    /// Every row of every table but the named ones, as text: to see that nothing changed.
    pub async fn dump(&self, but: &[&str]) -> Vec<String> {
        dump_of(&self.app.db, but).await
    }

    /// One number out of the database.
    pub async fn count(&self, statement: &'static str) -> i64 {
        let mut conn = self.app.db.conn().await.unwrap();
        sqlx::query_scalar(statement).fetch_one(&mut *conn).await.unwrap()
    }

    /// Splits what the webhooks brought into bodies and events, as the inbox does before it handles them.
    pub async fn unpack(&self) {
        musubi::webhook::unpack::all(&self.app).await.unwrap();
    }

    /// The audit's rows as `action/reason`, oldest first.
    pub async fn audit(&self) -> Vec<String> {
        let mut conn = self.app.db.conn().await.unwrap();
        let rows: Vec<(String, Option<String>)> =
            sqlx::query_as("SELECT action, reason FROM audit ORDER BY id").fetch_all(&mut *conn).await.unwrap();
        rows.into_iter().map(|(action, reason)| format!("{action}/{}", reason.unwrap_or_default())).collect()
    }

    pub async fn execute(&self, statement: &'static str) {
        let mut conn = self.app.db.conn().await.unwrap();
        sqlx::query(statement).execute(&mut *conn).await.unwrap();
    }
}

/// Every row of every table but the named ones, as text.
pub async fn dump_of(db: &Db, but: &[&str]) -> Vec<String> {
    let mut rows = Vec::new();
    for table in TABLES.iter().filter(|table| !but.contains(table)) {
        let statement = sqlx::AssertSqlSafe(format!("SELECT * FROM {table}"));
        let mut conn = db.conn().await.unwrap();
        for row in sqlx::query(statement).fetch_all(&mut *conn).await.unwrap() {
            let columns = row.columns().iter().map(|column| {
                let index = column.ordinal();
                let value = row
                    .try_get::<Option<String>, _>(index)
                    .map(|text| format!("{text:?}"))
                    .or_else(|_| row.try_get::<Option<i64>, _>(index).map(|number| format!("{number:?}")))
                    .or_else(|_| row.try_get::<Option<Vec<u8>>, _>(index).map(|bytes| format!("{bytes:?}")));
                format!("{}={}", column.name(), value.unwrap_or_else(|error| format!("?{error}")))
            });
            rows.push(format!("{table}: {}", columns.collect::<Vec<_>>().join(" ")));
        }
    }
    rows.sort();
    rows
}

/// All tables; a test compares them with the migrations.
pub const TABLES: [&str; 62] = [
    "oidc_attempts",
    "liff_tokens",
    "api_keys",
    "api_requests",
    "member_attributes",
    "imports",
    "hook_endpoints",
    "hook_subscriptions",
    "hook_events",
    "hook_deliveries",
    "hook_watches",
    "heartbeats",
    "channel_alarms",
    "channel_tokens",
    "intake",
    "webhook_bodies",
    "events",
    "event_copies",
    "event_holds",
    "bots",
    "group_chats",
    "chat_messages",
    "media",
    "answers",
    "account_links",
    "members",
    "sessions",
    "line_users",
    "friends",
    "links",
    "unlink_steps",
    "grants",
    "attempts",
    "tickets",
    "consent_texts",
    "audit",
    "jobs",
    "leases",
    "messages",
    "requests",
    "deliveries",
    "message_exclusions",
    "member_tags",
    "topic_opt_outs",
    "quotas",
    "hourly_spends",
    "send_pauses",
    "rich_menus",
    "user_menus",
    "menu_sets",
    "set_menus",
    "menu_aliases",
    "menu_changes",
    "menu_checks",
    "menu_sweeps",
    "menu_overrides",
    "mails",
    "sign_ups",
    "tokens",
    "devices",
    "throttles",
    "consents",
];

/// A browser: keeps cookies, sends forms as browsers do, follows nothing by itself.
#[derive(Clone)]
pub struct Visitor<'a> {
    pub app: &'a TestApp,
    pub cookies: BTreeMap<String, String>,
    pub address: String,
    pub language: &'static str,
    pub user_agent: &'static str,
}

impl Visitor<'_> {
    pub async fn get(&mut self, path: &str) -> Answer {
        let request = self.request(Method::GET, path).body(Body::empty()).unwrap();
        self.send(request).await
    }

    /// Opens a page to have a form token, then sends the form as that page would.
    pub async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let token = self.form_token().await;
        let mut fields = fields.to_vec();
        fields.push(("csrf", &token));
        self.post_raw(path, &fields, &[("sec-fetch-site", "same-origin"), ("origin", ORIGIN)]).await
    }

    /// Sends a form just so: token and headers are the caller's affair.
    pub async fn post_raw(&mut self, path: &str, fields: &[(&str, &str)], headers: &[(&str, &str)]) -> Answer {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let mut request =
            self.request(Method::POST, path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body)).unwrap()).await
    }

    pub async fn form_token(&mut self) -> String {
        let page = self.get("/").await;
        page.field("csrf").expect("the page has a form")
    }

    pub fn request(&self, method: Method, path: &str) -> axum::http::request::Builder {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "members.example.jp")
            .header(header::ACCEPT_LANGUAGE, self.language)
            .header(header::USER_AGENT, self.user_agent);
        if !cookies.is_empty() {
            request = request.header(header::COOKIE, cookies.join("; "));
        }
        request
    }

    pub async fn send(&mut self, mut request: Request<Body>) -> Answer {
        let peer = SocketAddr::new(self.address.parse().unwrap(), 40000);
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = read(self.app.router.clone().oneshot(request).await.unwrap()).await;
        self.keep_cookies(&answer);
        answer
    }

    /// Takes the cookies of an answer, each as it must be (S03).
    pub fn keep_cookies(&mut self, answer: &Answer) {
        for cookie in answer.headers.get_all(header::SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            let (pair, attributes) = cookie.split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            let attributes: Vec<_> = attributes.split(';').map(str::trim).collect();
            for needed in ["Secure", "HttpOnly", "Path=/", "SameSite=Lax"] {
                assert!(attributes.contains(&needed), "{needed} is missing: {cookie}");
            }
            assert!(!attributes.iter().any(|attribute| attribute.to_lowercase().starts_with("domain")), "{cookie}");
            assert!(name.starts_with("__Host-musubi_") && cookie.len() <= 4096, "{cookie}");
            assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store", "{cookie}");
            if attributes.contains(&"Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    pub fn session_cookie(&self) -> Option<&String> {
        self.cookies.get("__Host-musubi_session")
    }

    // ---- LINE Login

    /// Starts at our side; gives the authorize URL that the browser is sent to.
    pub async fn start_line(&mut self, purpose: &str, return_to: &str) -> String {
        let fields = [("purpose", purpose), ("provider", "main"), ("return_to", return_to)];
        let answer = self.post("/line/start", &fields).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        answer.location()
    }

    /// What `user` does at LINE (`outcome` as the simulator names it); gives the callback's path and query.
    pub async fn at_line(&self, authorize_url: &str, user: &str, outcome: &str) -> String {
        let login = json!({ "user_id": user, "outcome": outcome, "add_friend": true });
        self.app.sim(Method::POST, "/_sim/logins", login).await;
        let url = url::Url::parse(authorize_url).unwrap();
        let path = format!("{}?{}", url.path(), url.query().unwrap_or_default());
        let request = Request::get(path).header(header::HOST, "access.line.me").body(Body::empty()).unwrap();
        let answer = read(self.app.line.clone().oneshot(request).await.unwrap()).await;
        let back = answer.location();
        back.strip_prefix(ORIGIN).unwrap_or_else(|| panic!("LINE did not send back: {back} {}", answer.body)).to_owned()
    }

    /// Signs in with LINE as `user`, to the callback's answer.
    pub async fn sign_in_by_line(&mut self, user: &str) -> Answer {
        let url = self.start_line("sign_in", "/").await;
        let back = self.at_line(&url, user, "consent").await;
        self.get(&back).await
    }

    /// Goes to the confirm page for `user`; gives the attempt's id. The visitor is signed in.
    pub async fn reach_confirm(&mut self, user: &str) -> String {
        let url = self.start_line("link", "/account").await;
        let back = self.at_line(&url, user, "consent").await;
        let answer = self.get(&back).await;
        let location = answer.location();
        let id = location.strip_prefix("/link/confirm?attempt=");
        id.unwrap_or_else(|| panic!("no confirm page: {} {location} {}", answer.status, answer.body)).to_owned()
    }

    /// Links the signed-in member to `user`, to the answer of the yes.
    pub async fn link(&mut self, user: &str) -> Answer {
        let attempt = self.reach_confirm(user).await;
        let page = self.get(&format!("/link/confirm?attempt={attempt}")).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.body);
        self.confirm(&attempt).await
    }

    pub async fn confirm(&mut self, attempt: &str) -> Answer {
        self.post("/link/confirm", &[("attempt", attempt), ("decision", "yes"), ("consent", "1:en")]).await
    }

    /// Signs up and confirms by the mailed link, to the confirmation's answer.
    pub async fn sign_up(&mut self, email: &str, name: &str, password: &str) -> Answer {
        let answer = self.post("/sign-up", &[("email", email), ("name", name), ("password", password)]).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        self.app.drain().await;
        let token = parameter(&self.app.mailed_link(email, "/sign-up/confirm").await, "token");
        self.post("/sign-up/confirm", &[("token", &token)]).await
    }

    pub async fn unlink(&mut self) -> Answer {
        self.post("/account/unlink", &[("provider", "main"), ("password", PASSWORD)]).await
    }
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.body))
    }

    /// The problem's id, once its face is seen to be whole.
    pub fn problem(&self) -> String {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json", "{} {}", self.status, self.body);
        let face = self.json();
        assert_eq!(face["status"], self.status.as_u16());
        assert_eq!(face["request_id"], self.headers["x-request-id"].to_str().unwrap());
        let id = face["type"].as_str().unwrap().strip_prefix("/api/docs#error-").unwrap().to_owned();
        let kind = musubi::error::Kind::ALL.iter().find(|kind| kind.id() == id);
        let kind = kind.unwrap_or_else(|| panic!("{id} is not in the list"));
        assert_eq!((kind.status(), kind.title()), (self.status, face["title"].as_str().unwrap()));
        assert!(!face["detail"].as_str().unwrap().is_empty());
        id
    }

    /// The paths of a problem's mistakes.
    pub fn places(&self) -> Vec<String> {
        let face = self.json();
        let errors = face["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| error["path"].as_str().unwrap().to_owned()).collect()
    }

    pub fn location(&self) -> String {
        self.headers.get(header::LOCATION).map_or("", |value| value.to_str().unwrap()).to_owned()
    }

    /// The value of a hidden field.
    pub fn field(&self, name: &str) -> Option<String> {
        let at = self.body.find(&format!("name=\"{name}\" value=\""))?;
        let rest = &self.body[at..];
        let value = rest.split("value=\"").nth(1)?.split('"').next()?;
        Some(value.to_owned())
    }
}

pub async fn read(response: axum::response::Response) -> Answer {
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, 256 * 1024 * 1024).await.unwrap_or_default();
    Answer { status: parts.status, headers: parts.headers, body: String::from_utf8_lossy(&bytes).into_owned() }
}

async fn listen() -> TcpListener {
    TcpListener::bind(("127.0.0.1", 0)).await.unwrap()
}

/// Serves the application for LINE to call, and points each bot's webhook there.
async fn serve_webhooks(app: &App, router: &Router, simulator: &Simulator) {
    let listener = listen().await;
    let address = listener.local_addr().unwrap();
    let service = router.clone().into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    for (name, channel) in &app.config.channel {
        simulator.use_webhook(&channel.channel_id, &format!("http://{address}/webhook/{name}"));
    }
}

pub fn config(database_url: &str, hosts: &[SocketAddr; 4], mail: &SocketAddr) -> Config {
    let text = config_text(database_url, hosts, mail);
    Config::parse("test", &text, []).unwrap_or_else(|error| panic!("{error}"))
}

/// Access, API, API data and LIFF, each on its own port.
pub fn config_text(database_url: &str, hosts: &[SocketAddr; 4], mail: &SocketAddr) -> String {
    format!(
        r#"
        public_url = "{ORIGIN}"
        database_url = "{database_url}"
        company = "Example Company"
        default_locale = "en"

        [security]
        sealing_key = "test"
        sealing_keys = {{ test = "yVqOczA5k8UOOBIL+mBfzBQ3UWTa8xu8jd/Cjvkp60g=" }}
        password_hash = {{ memory_kib = 64, passes = 1, at_once = 4 }}
        requests_per_minute = 1000000

        [topic.news]
        label = {{ en = "News and tips", ja = "お知らせとヒント" }}
        description = {{ en = "About once a month." }}

        [topic.offers]
        label.en = "Offers"

        [tickets]
        return_urls = ["https://shop.example.jp"]

        [mail]
        url = "smtp://{mail}"
        from = "Example Company <no-reply@example.jp>"

        [line]
        access = "http://{}"
        api = "http://{}"
        api_data = "http://{}"
        liff = "http://{}"

        [provider.main.login]
        channel_id = "{LOGIN_CHANNEL}"
        channel_secret = "{LOGIN_SECRET}"
        channel = "main"
        liff_id = "{LIFF_ID}"

        [channel.main]
        provider = "main"
        channel_id = "{BOT_CHANNEL}"
        channel_secret = "{BOT_SECRET}"
        basic_id = "@example"
        "#,
        hosts[0], hosts[1], hosts[2], hosts[3]
    )
}

/// How a callback must be refused, and what it may touch besides the audit and the attempt it used up.
#[derive(Debug, Clone, Copy)]
pub struct Refusal<'a> {
    status: u16,
    key: &'a str,
    reason: &'a str,
    calls: &'a [&'a str],
    tables: &'a [&'a str],
    secrets: &'a [&'a str],
}

impl<'a> Refusal<'a> {
    /// `key` names the page's texts, `reason` is the audit's.
    pub fn new(status: u16, key: &'a str, reason: &'a str) -> Self {
        Self { status, key, reason, calls: &[], tables: &[], secrets: &[] }
    }

    /// The paths that LINE is called at, in order; none without this.
    pub fn calls(self, calls: &'a [&'a str]) -> Self {
        Self { calls, ..self }
    }

    pub fn may_change(self, tables: &'a [&'a str]) -> Self {
        Self { tables, ..self }
    }

    /// What must not be in the page, besides what was sent.
    pub fn secrets(self, secrets: &'a [&'a str]) -> Self {
        Self { secrets, ..self }
    }
}

/// Opens `path`, a callback, and sees that it is refused just so and leaves everything as it was.
pub async fn refused(visitor: &mut Visitor<'_>, path: &str, refusal: Refusal<'_>) -> Answer {
    let app = visitor.app;
    let but = [&["audit", "attempts"], refusal.tables].concat();
    let attempts = "SELECT CAST(COUNT(*) AS BIGINT) FROM attempts";
    let before = (app.dump(&but).await, app.count(attempts).await, app.audit().await, app.calls().await.len());
    let logins = |visitor: &Visitor<'_>| {
        let mut cookies = visitor.cookies.clone();
        cookies.remove("__Host-musubi_form");
        cookies
    };
    let cookies = logins(visitor);
    let answer = visitor.get(path).await;
    let said = format!("{path}: {} {}", answer.status, answer.body);
    assert_eq!(answer.status.as_u16(), refusal.status, "{said}");
    assert!(answer.body.contains(&title(refusal.key)), "{} is not said: {said}", refusal.key);
    assert_eq!(logins(visitor), cookies, "{path}");
    assert_eq!(app.dump(&but).await, before.0, "{path}");
    assert_eq!(app.count(attempts).await, before.1, "{path}");
    let mut audit = app.audit().await;
    for known in &before.2 {
        audit.swap_remove(audit.iter().position(|row| row == known).unwrap());
    }
    assert_eq!(audit, [format!("line_refused/{}", refusal.reason)], "{path}");
    // Profile and friendship are asked for side by side.
    let mut calls: Vec<_> =
        app.calls().await.drain(before.3..).map(|call| call["path"].as_str().unwrap().to_owned()).collect();
    let mut expected = refusal.calls.to_vec();
    calls.sort();
    expected.sort_unstable();
    assert_eq!(calls, expected, "{path}");
    let sent = url::form_urlencoded::parse(path.split_once('?').map_or("", |(_, query)| query).as_bytes())
        .map(|(_, value)| value.into_owned())
        .filter(|value| value.len() >= 16)
        .collect::<Vec<_>>();
    let secrets = sent.iter().map(String::as_str).chain([LOGIN_SECRET, "eyJ"]).chain(refusal.secrets.iter().copied());
    for secret in secrets {
        assert!(!answer.body.contains(secret) && !format!("{:?}", answer.headers).contains(secret), "{secret}: {said}");
    }
    answer
}

/// The heading of an error page, as HTML has it.
pub fn title(key: &str) -> String {
    let text = musubi::web::locale::Locale::En.text(&format!("error.{key}_title"));
    text.replace('&', "&#38;").replace('\'', "&#39;")
}

/// Sends the requests all at one time; gives their answers in the same order.
pub async fn at_once(app: &TestApp, requests: Vec<Request<Body>>) -> Vec<Answer> {
    let send = |request: Request<Body>| {
        let router = app.router.clone();
        tokio::spawn(async move { read(router.oneshot(request).await.unwrap()).await })
    };
    let running: Vec<_> = requests.into_iter().map(send).collect();
    let mut answers = Vec::new();
    for one in running {
        answers.push(one.await.unwrap());
    }
    answers
}

/// The value of a parameter in a URL or path.
pub fn parameter(url: &str, name: &str) -> String {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let found = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name);
    found.unwrap_or_else(|| panic!("no {name} in {url}")).1.into_owned()
}

/// A JWS by HS256; header and claims just as given.
pub fn hs256(key: &[u8], header: &str, claims: &str) -> String {
    use aws_lc_rs::hmac;
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
}
