//! How many deliveries of hooks a second, each claimed and settled durably, from the row to the receiver's answer.
//! With a ratio to a loop that posts without a store. `cargo bench --bench hook`; on PostgreSQL too where
//! `MUSUBI_TEST_POSTGRES` names a server.
//!
//! Application and receiver share this machine's cores; the receiver answers at once.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a measurement that cannot go on ends")]
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a command of its own, and its figures")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, http::StatusCode};
use musubi::{
    app::{App, Clock},
    config::Config,
    db::Db,
    hook::{
        self,
        endpoint::{self, New},
    },
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

const EVENTS: usize = 16_000;
const AT_ONCE: usize = 64;

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let mut databases = vec![("SQLite", format!("sqlite://{}", folder.path().join("hook.db").display()))];
    if let Ok(server) = std::env::var("MUSUBI_TEST_POSTGRES") {
        databases.push(("PostgreSQL", fresh(&server).await));
    }
    let bare = bare().await;
    println!("{:<12}{:>12}{:>14}{:>8}", "", "endpoints", "deliveries /s", "ratio");
    println!("{:<12}{:>12}{bare:>14.0}{:>8}", "bare loop", "", "1.00");
    for (name, url) in databases {
        for endpoints in [1, 8] {
            let rate = measure(&url, endpoints).await;
            println!("{name:<12}{endpoints:>12}{rate:>14.0}{:>8.2}", rate / bare);
        }
    }
}

/// Posts of the same size to the same receiver, from no store.
async fn bare() -> f64 {
    let ((url, heard), client, begin) = (receive().await, reqwest::Client::new(), Instant::now());
    let mut posters = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (client, url) = (client.clone(), url.clone());
        posters.spawn(async move {
            for _ in 0..EVENTS / AT_ONCE {
                client.post(&url).body(vec![b'x'; 200]).send().await.unwrap();
            }
        });
    }
    posters.join_all().await;
    assert_eq!(heard.load(Ordering::Relaxed), EVENTS);
    EVENTS as f64 / begin.elapsed().as_secs_f64()
}

async fn fresh(server: &str) -> String {
    let db = Db::connect(server).await.unwrap();
    for statement in ["DROP DATABASE IF EXISTS musubi_hook_bench", "CREATE DATABASE musubi_hook_bench"] {
        sqlx::raw_sql(statement).execute(&mut *db.conn().await.unwrap()).await.unwrap();
    }
    let mut url = url::Url::parse(server).unwrap();
    url.set_path("musubi_hook_bench");
    url.into()
}

async fn measure(database: &str, endpoints: usize) -> f64 {
    let text = format!(
        r#"
        public_url = "https://members.example.jp"
        database_url = "{database}"
        company = "Example"
        default_locale = "en"
        hooks = {{ allow_networks = ["127.0.0.0/8"] }}
        [security]
        sealing_key = "test"
        sealing_keys = {{ test = "yVqOczA5k8UOOBIL+mBfzBQ3UWTa8xu8jd/Cjvkp60g=" }}
        "#
    );
    let db = Db::connect(database).await.unwrap();
    db.migrate().await.unwrap();
    let app = App::new(Config::parse("bench", &text, []).unwrap(), db, Clock::default()).unwrap();
    let (url, heard) = receive().await;
    let mut made = Vec::new();
    for _ in 0..endpoints {
        made.push(endpoint::create(&app, &New { url: url.clone(), ..New::default() }).await.unwrap().0.row.id);
    }
    for number in 0..EVENTS {
        endpoint::test(&app, &made[number % endpoints]).await.unwrap();
    }
    let (stop, begin) = (CancellationToken::new(), Instant::now());
    let running = tokio::spawn(hook::run(app.clone(), app.wakes(), stop.clone()));
    while hook::log::standing(&mut app.db.conn().await.unwrap()).await.unwrap().waiting > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let rate = EVENTS as f64 / begin.elapsed().as_secs_f64();
    stop.cancel();
    running.await.unwrap();
    assert_eq!(heard.load(Ordering::Relaxed), EVENTS, "each once");
    for id in &made {
        endpoint::delete(&app, id).await.unwrap();
    }
    app.db.close().await;
    rate
}

async fn receive() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (url, heard) = (format!("http://{}/", listener.local_addr().unwrap()), Arc::new(AtomicUsize::new(0)));
    let count = heard.clone();
    let router = Router::new().fallback(move || {
        count.fetch_add(1, Ordering::Relaxed);
        async { StatusCode::NO_CONTENT }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, heard)
}
