//! LINE, played by another process on the driver's core.

use std::sync::Arc;

use musubi::{
    app::Clock,
    line::http::{self, Http},
    simulator::{Bot, Host, Options, Provider, Simulator, World},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

use crate::process::Process;

pub const CHANNEL_ID: &str = "1000000002";
pub const SECRET: &str = "0a9b8c7d6e5f40312233445566778899";

pub struct Line {
    pub url: String,
    http: Http,
    _process: Process,
}

impl Line {
    pub async fn start() -> Self {
        let mut process = Process::start(1, &["--play"]);
        let line = Self { url: process.line(), http: Http::new().unwrap(), _process: process };
        for endpoint in ["push", "multicast"] {
            let endpoint = format!("POST /v2/bot/message/{endpoint}");
            let any = json!({ "endpoint": endpoint, "calls": null });
            line.order(&format!("bots/{CHANNEL_ID}/rate"), &any).await;
        }
        line
    }

    /// Holds every answer back for so long.
    pub async fn hold_back(&self, ms: u64) {
        self.order("latency", &json!({ "ms": ms })).await;
    }

    /// Makes so many people, all friends of the official account; gives their user ids.
    pub async fn people(&self, count: usize) -> Vec<String> {
        let mut making = JoinSet::new();
        for share in 0..16 {
            let (http, url) = (self.http.clone(), self.url.clone());
            making.spawn(async move {
                let mut made = Vec::new();
                for _ in (share..count).step_by(16) {
                    let user = order(&http, &format!("{url}/_sim/users"), &json!({ "display_name": "Aiko" })).await;
                    let id = user["user_id"].as_str().unwrap().to_owned();
                    order(&http, &format!("{url}/_sim/users/{id}/follow"), &json!({})).await;
                    made.push(id);
                }
                made
            });
        }
        making.join_all().await.concat()
    }

    async fn order(&self, path: &str, body: &Value) {
        order(&self.http, &format!("{}/_sim/{path}", self.url), body).await;
    }
}

async fn order(http: &Http, url: &str, body: &Value) -> Value {
    let answer = http::send_ok(http.post(url).json(body), http::LARGE).await.unwrap();
    answer.json().unwrap()
}

/// A channel access token, as the sender gets its own.
pub async fn token(http: &Http, url: &str) -> String {
    let form = [("grant_type", "client_credentials"), ("client_id", CHANNEL_ID), ("client_secret", SECRET)];
    let request = http.post(&format!("{url}/oauth2/v3/token")).form(&form);
    let answer: Value = http::send_ok(request, http::SMALL).await.unwrap().json().unwrap();
    answer["access_token"].as_str().unwrap().to_owned()
}

/// The other process: plays until it is killed.
#[tokio::main]
pub async fn play() {
    let clock = Clock::default();
    let bot = Bot {
        channel_id: CHANNEL_ID.to_owned(),
        secret: SECRET.to_owned(),
        user_id: format!("U{:032x}", 1),
        basic_id: "@load".to_owned(),
        name: "Load".to_owned(),
    };
    let world = World { providers: vec![Provider { name: "main".to_owned(), login: None, bots: vec![bot] }] };
    let simulator = Simulator::open(Options { data: None, clock: Arc::new(move || clock.now().0), world }).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("http://{}", listener.local_addr().unwrap());
    axum::serve(listener, simulator.router(Host::All)).await.unwrap();
}
