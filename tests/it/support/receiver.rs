//! A company's system that hears hooks: keeps what came, and answers as it is told.
#![allow(clippy::unwrap_used, dead_code, reason = "a test that cannot go on fails")]

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use standardwebhooks::Webhook;
use tokio::{net::TcpListener, sync::watch};

/// What came.
#[derive(Debug, Clone)]
pub struct Heard {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// How one call is answered.
#[derive(Debug, Clone)]
pub struct Say {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

#[derive(Clone)]
pub struct Receiver {
    /// Where it listens.
    pub url: String,
    inner: Arc<Inner>,
}

struct Inner {
    heard: Mutex<Vec<Heard>>,
    /// One each; 204 where there is none.
    answers: Mutex<VecDeque<Say>>,
    /// Answered to all that have none of their own.
    usual: Mutex<u16>,
    /// While it is shut nobody is answered.
    gate: watch::Sender<bool>,
}

impl Receiver {
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/hooks", listener.local_addr().unwrap());
        let inner = Arc::new(Inner {
            heard: Mutex::default(),
            answers: Mutex::default(),
            usual: Mutex::new(204),
            gate: watch::Sender::new(true),
        });
        let router = Router::new().fallback(hear).with_state(inner.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, inner }
    }

    /// Answers the next calls so, one after the other.
    pub fn say(&self, answers: impl IntoIterator<Item = Say>) {
        self.inner.answers.lock().unwrap().extend(answers);
    }

    /// Answers everything so from now on.
    pub fn always(&self, status: u16) {
        *self.inner.usual.lock().unwrap() = status;
    }

    /// Hears, and answers nobody until it is opened.
    pub fn shut(&self) {
        self.inner.gate.send_replace(false);
    }

    pub fn open(&self) {
        self.inner.gate.send_replace(true);
    }

    /// All that came so far, in the order of their coming.
    pub fn heard(&self) -> Vec<Heard> {
        self.inner.heard.lock().unwrap().clone()
    }

    /// The types of what came.
    pub fn types(&self) -> Vec<String> {
        self.heard().iter().map(|heard| heard.json()["type"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// What came of one type.
    pub fn of_type(&self, kind: &str) -> Vec<Value> {
        self.heard().iter().map(Heard::json).filter(|json| json["type"] == kind).collect()
    }

    pub fn forget(&self) {
        self.inner.heard.lock().unwrap().clear();
    }
}

async fn hear(State(inner): State<Arc<Inner>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    inner.heard.lock().unwrap().push(Heard { path: uri.path().to_owned(), headers, body });
    let _ = inner.gate.subscribe().wait_for(|is_open| *is_open).await;
    let answer = inner.answers.lock().unwrap().pop_front();
    let answer = answer.unwrap_or_else(|| Say::status(*inner.usual.lock().unwrap()));
    let mut response = (StatusCode::from_u16(answer.status).unwrap(), answer.body).into_response();
    for (name, value) in answer.headers {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_str(&value).unwrap());
    }
    response
}

impl Say {
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub fn body(self, body: &str) -> Self {
        Self { body: body.to_owned(), ..self }
    }
}

impl Heard {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    /// Whether the official library takes it, by this secret alone.
    pub fn is_signed_by(&self, secret: &SecretString) -> bool {
        let webhook = Webhook::new(secret.expose_secret()).unwrap();
        webhook.verify(&self.body, &self.headers).is_ok()
    }

    /// The same where the clock was moved since: by the signature alone.
    pub fn was_signed_by(&self, secret: &SecretString) -> bool {
        let webhook = Webhook::new(secret.expose_secret()).unwrap();
        let at = self.header("webhook-timestamp").parse().unwrap();
        let signature = webhook.sign(self.id(), at, &self.body).unwrap();
        self.header("webhook-signature").split(' ').any(|one| one == signature)
    }
}
