//! A tiny scripted stand-in for LINE's API hosts, and an App that talks to it.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, response::Builder},
    response::{IntoResponse, Response},
};
use hyper::body::Frame;
use musubi::{
    app::{App, Clock},
    config::Config,
    db::{Conn, Db, Millis},
};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::support::{Engine, postgres::fresh_database};

/// A call that reached the stub.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What the stub does with a call.
#[derive(Debug, Clone)]
pub enum Answer {
    Json(u16, Value),
    With(u16, &'static [(&'static str, &'static str)], Value),
    /// Status 200, then the connection breaks.
    Cut,
    /// No answer until [`Stub::release`].
    Hang,
    /// Status 200 and the first byte of a body that never ends.
    Trickle,
}

#[derive(Clone, Default)]
pub struct Stub(Arc<Inner>);

#[derive(Default)]
struct Inner {
    calls: Mutex<Vec<Call>>,
    script: Mutex<VecDeque<(String, Answer)>>,
    called: Notify,
    released: Notify,
}

impl Stub {
    /// Listens on a free port; answers 200 `{}` where nothing else is scripted.
    pub async fn start() -> (Self, String) {
        let stub = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(stub.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (stub, url)
    }

    /// The next call whose `METHOD path` starts with `call` gets this answer, once.
    pub fn script(&self, call: &str, answer: Answer) {
        self.0.script.lock().unwrap().push_back((call.to_owned(), answer));
    }

    /// The calls so far whose `METHOD path` starts with `call`.
    pub fn calls(&self, call: &str) -> Vec<Call> {
        let calls = self.0.calls.lock().unwrap();
        calls.iter().filter(|one| format!("{} {}", one.method, one.path).starts_with(call)).cloned().collect()
    }

    /// Lets a hanging call be answered.
    pub fn release(&self) {
        self.0.released.notify_one();
    }

    pub async fn wait_for_calls(&self, call: &str, count: usize) {
        loop {
            let called = self.0.called.notified();
            if self.calls(call).len() >= count {
                return;
            }
            called.await;
        }
    }
}

impl Call {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

async fn answer(State(stub): State<Stub>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let name = format!("{method} {}", uri.path());
    let scripted = {
        let mut script = stub.0.script.lock().unwrap();
        let found = script.iter().position(|(call, _)| name.starts_with(call));
        found.and_then(|index| script.remove(index)).map(|(_, answer)| answer)
    };
    let number = {
        let mut calls = stub.0.calls.lock().unwrap();
        calls.push(Call { method, path: uri.path().to_owned(), headers, body });
        calls.len()
    };
    stub.0.called.notify_waiters();
    let response = Builder::new().header("x-line-request-id", format!("request-{number}"));
    match scripted {
        Some(Answer::Json(status, body)) => response.status(status).body(body.to_string().into()).unwrap(),
        Some(Answer::With(status, headers, body)) => headers
            .iter()
            .fold(response.status(status), |response, (name, value)| response.header(*name, *value))
            .body(body.to_string().into())
            .unwrap(),
        Some(Answer::Cut) => response.header("content-length", "100").body("{".into()).unwrap(),
        Some(Answer::Hang) => {
            stub.0.released.notified().await;
            (StatusCode::OK, "{}").into_response()
        }
        Some(Answer::Trickle) => response.body(Body::new(Trickle { is_begun: false })).unwrap(),
        None if name == "POST /oauth2/v3/token" => {
            let token = json!({ "token_type": "Bearer", "access_token": format!("token-{number}"), "expires_in": 900 });
            response.body(token.to_string().into()).unwrap()
        }
        None => (StatusCode::OK, "{}").into_response(),
    }
}

struct Trickle {
    is_begun: bool,
}

impl hyper::body::Body for Trickle {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if std::mem::replace(&mut self.is_begun, true) {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"{")))))
    }
}

/// An App on a database of its own, and the stub it talks to.
pub struct Stage {
    pub app: App,
    pub clock: Clock,
    pub line: Stub,
    pub folder: tempfile::TempDir,
}

/// A stage on SQLite and one on PostgreSQL.
pub async fn stages(more: &str) -> Vec<Stage> {
    vec![stage(Engine::Sqlite, more).await, stage(Engine::Postgres, more).await]
}

async fn stage(engine: Engine, more: &str) -> Stage {
    let (line, url) = Stub::start().await;
    let folder = tempfile::tempdir().unwrap();
    let database = match engine {
        Engine::Sqlite => format!("sqlite://{}/musubi.db", folder.path().display()),
        Engine::Postgres => fresh_database().await,
    };
    let more = more.replace("FOLDER", folder.path().to_str().unwrap());
    let text = format!(
        r#"
        public_url = "http://localhost:8080"
        database_url = "{database}"
        company = "Tsubaki Coffee"
        security = {{ sealing_key = "k1", sealing_keys = {{ k1 = "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs=" }} }}
        line = {{ access = "{url}", api = "{url}", api_data = "{url}" }}
        provider.main.login = {{ channel_id = 1001, channel_secret = "0123456789abcdef0123456789abcdef" }}
        channel.shop = {{ provider = "main", channel_id = 2001, channel_secret = "fedcba9876543210fedcba9876543210" }}
        {more}
        "#
    );
    let config = Config::parse("test", &text, []).unwrap();
    let db = Db::connect(&database).await.unwrap();
    db.migrate().await.unwrap();
    let clock = Clock::default();
    Stage { app: App::new(config, db, clock.clone()).unwrap(), clock, line, folder }
}

impl Stage {
    pub fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Adds a member, a LINE user and their link; returns the user's id at LINE. Rows are named after `name`.
    pub async fn link(&self, name: &str, friend: Option<&str>) -> String {
        let user_id = format!("U{:0>32}", name.bytes().map(|byte| format!("{byte:02x}")).collect::<String>());
        let mut tx = self.app.db.begin().await.unwrap();
        insert_linked(&mut tx, self.app.now(), name, &user_id, friend).await.unwrap();
        tx.commit().await.unwrap();
        user_id
    }

    pub async fn execute(&self, statement: &'static str) {
        sqlx::query(statement).execute(&mut *self.app.db.conn().await.unwrap()).await.unwrap();
    }

    pub async fn texts(&self, statement: &'static str) -> Vec<String> {
        sqlx::query_scalar(statement).fetch_all(&mut *self.app.db.conn().await.unwrap()).await.unwrap()
    }
}

pub async fn insert_linked(
    conn: &mut Conn,
    now: Millis,
    name: &str,
    user_id: &str,
    friend: Option<&str>,
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO members (id, email, email_key, name, source, created_at) VALUES ($1, $1, $1, $1, 'x', $2)",
    )
    .bind(name)
    .bind(now)
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "INSERT INTO line_users (id, provider, user_id, display_name, profile_at, created_at)
         VALUES ($1, 'main', $2, $1, $3, $3)",
    )
    .bind(name)
    .bind(user_id)
    .bind(now)
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "INSERT INTO links (id, provider, line_user_id, member_id, source, consent_version, consent_locale, created_at)
         VALUES ($1, 'main', $1, $1, 'web', '1', 'ja', $2)",
    )
    .bind(name)
    .bind(now)
    .execute(&mut *conn)
    .await?;
    if let Some(friend) = friend {
        sqlx::query("INSERT INTO friends (line_user_id, channel, friend, changed_at) VALUES ($1, 'shop', $2, $3)")
            .bind(name)
            .bind(friend)
            .bind(now)
            .execute(conn)
            .await?;
    }
    Ok(())
}
