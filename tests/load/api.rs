//! The company's API over loopback: messages accepted a second, each durably, and pages of long lists. Ratios are to the
//! quota endpoint of the same server, whose key is read and whose answer is made like any other's.
//!
//! `cargo bench --bench api -- [--members N] [--deliveries N] [--seconds N]`; on PostgreSQL too where
//! `MUSUBI_TEST_POSTGRES` names a server. Application and caller share this machine's cores.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a measurement that cannot go on ends")]
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a command of its own, and its figures")]

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use musubi::{
    api::key::{self, New},
    app::{App, Clock},
    config::Config,
    db::Db,
    member::guard::Scope,
    routes,
};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tokio::{net::TcpListener, task::JoinSet};

const AT_ONCE: usize = 64;

struct Options {
    members: u64,
    deliveries: u64,
    time: Duration,
}

/// A running server, and a key to its API.
#[derive(Clone)]
struct Server {
    client: Client,
    base: String,
    key: String,
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str, usual: u64| {
        let place = arguments.iter().position(|argument| argument == name);
        place.map_or(usual, |place| arguments[place + 1].parse().expect("a number"))
    };
    let options = Options {
        members: number("--members", 100_000),
        deliveries: number("--deliveries", 500_000),
        time: Duration::from_secs(number("--seconds", 5)),
    };
    let folder = tempfile::tempdir().unwrap();
    let mut databases = vec![("SQLite", format!("sqlite://{}", folder.path().join("api.db").display()))];
    if let Ok(server) = std::env::var("MUSUBI_TEST_POSTGRES") {
        databases.push(("PostgreSQL", fresh(&server).await));
    }
    for (name, url) in databases {
        measure(name, &url, &options).await;
    }
}

async fn fresh(server: &str) -> String {
    let db = Db::connect(server).await.unwrap();
    for statement in ["DROP DATABASE IF EXISTS musubi_api_bench", "CREATE DATABASE musubi_api_bench"] {
        sqlx::raw_sql(statement).execute(&mut *db.conn().await.unwrap()).await.unwrap();
    }
    let mut url = url::Url::parse(server).unwrap();
    url.set_path("musubi_api_bench");
    url.into()
}

async fn measure(name: &str, database: &str, options: &Options) {
    let app = open(database).await;
    let begin = Instant::now();
    fill(&app, database, options).await;
    println!(
        "\n{name}: {} members, {} deliveries (filled in {:.0} s)",
        options.members,
        options.deliveries,
        begin.elapsed().as_secs_f64()
    );
    let server = serve(&app).await;
    let nothing = sends(&server, options, |server, _| server.ask(Method::GET, "/api/v1/quota")).await;
    println!("{:<44}{nothing:>10.0} /s", "quota, 64 at once");
    let sent = sends(&server, options, message).await;
    println!("{:<44}{sent:>10.0} /s  ratio {:.2}", "messages to one member, 64 at once", sent / nothing);
    println!(
        "{:<44}{:>10}{:>10}{:>10}{:>8}",
        "pages of 200, one after another", "pages /s", "p50 ms", "p99 ms", "pages"
    );
    for path in [
        "/api/v1/members",
        "/api/v1/members?linked=main",
        "/api/v1/members?friend=main:no",
        "/api/v1/members?tag=vip",
        "/api/v1/members?attribute.tier=gold",
        "/api/v1/members?attribute.tier=gold&tag=vip&linked=main",
        "/api/v1/deliveries",
        "/api/v1/deliveries?state=failed",
        "/api/v1/deliveries?message=bench-0",
        "/api/v1/deliveries?message=bench-0&state=sent",
        "/api/v1/deliveries?member=c1000",
        "/api/v1/messages",
        "/api/v1/events",
    ] {
        pages(&server, path, options).await;
    }
    app.db.close().await;
}

async fn open(database: &str) -> App {
    let text = format!(
        r#"
        public_url = "https://members.example.jp"
        database_url = "{database}"
        company = "Example"
        default_locale = "en"
        [security]
        sealing_key = "test"
        sealing_keys = {{ test = "yVqOczA5k8UOOBIL+mBfzBQ3UWTa8xu8jd/Cjvkp60g=" }}
        [provider.main]
        [provider.main.login]
        channel_id = "1000000001"
        channel_secret = "5f1c0b7a9d3e4f60812233445566778a"
        [channel.main]
        provider = "main"
        channel_id = "1000000002"
        channel_secret = "5f1c0b7a9d3e4f60812233445566778b"
        "#
    );
    let db = Db::connect(database).await.unwrap();
    db.migrate().await.unwrap();
    App::new(Config::parse("bench", &text, []).unwrap(), db, Clock::default()).unwrap()
}

/// A tenth of the members is tagged and no friend, a quarter has the tier; a message has a fifth of the deliveries.
async fn fill(app: &App, database: &str, options: &Options) {
    let numbers =
        |count: u64| format!("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})");
    let mut conn = app.db.conn().await.unwrap();
    if database.starts_with("postgres") {
        sqlx::raw_sql("SET statement_timeout = 0").execute(&mut *conn).await.unwrap();
    }
    let mut statements = vec![format!(
        "{} INSERT INTO members (id, external_id, email, email_key, name, source, created_at)
         SELECT 'm' || CAST(10000000 + i AS TEXT), 'c' || i, '', 'id:' || i, 'N', 'company', i FROM n",
        numbers(options.members)
    )];
    statements.extend(
        [
            "INSERT INTO member_tags (member_id, tag) SELECT id, 'vip' FROM members WHERE created_at % 10 = 0",
            "INSERT INTO member_attributes (member_id, name, kind, value)
             SELECT id, 'tier', 'text', CASE WHEN created_at % 4 = 0 THEN 'gold' ELSE 'silver' END FROM members",
            "INSERT INTO line_users (id, provider, user_id, display_name, profile_at, created_at)
             SELECT id, 'main', 'U' || SUBSTR('00000000000000000000000000000000' || external_id, LENGTH(external_id) + 1), '', 0, 0
             FROM members",
            "INSERT INTO links (id, provider, line_user_id, member_id, source, consent_version, consent_locale, created_at,
               permission) SELECT id, 'main', id, id, 'web', '1', 'ja', 1, 'none' FROM members",
            "INSERT INTO friends (line_user_id, channel, friend, changed_at)
             SELECT id, 'main', CASE WHEN created_at % 10 = 0 THEN 'no' ELSE 'yes' END, 1 FROM members",
        ]
        .map(str::to_owned),
    );
    for message in 0..5 {
        statements.push(format!(
            "INSERT INTO messages (id, channel, lane, cause, template, locale, accepted, created_at, expanded_at, ended_at)
             VALUES ('bench-{message}', 'main', 'bulk', 'bench', '', 'ja', {}, 1, 1, 1)",
            options.deliveries / 5
        ));
        statements.push(format!(
            "{} INSERT INTO deliveries (message_id, seq, channel, lane, member_id, line_user_id, link_id, state, attempts,
               order_at, due_at, created_at, updated_at)
             SELECT 'bench-{message}', i, 'main', 'bulk', 'm' || CAST(10000001 + i % {members} AS TEXT),
               'm' || CAST(10000001 + i % {members} AS TEXT), 'm' || CAST(10000001 + i % {members} AS TEXT),
               CASE WHEN i % 50 = 0 THEN 'failed' ELSE 'sent' END, 1, 1, 1, 1, 1 FROM n",
            numbers(options.deliveries / 5),
            members = options.members,
        ));
    }
    statements.push("ANALYZE".into());
    for statement in statements {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *conn).await.unwrap();
    }
}

async fn serve(app: &App) -> Server {
    let per_minute = NonZeroU32::new(100_000_000).unwrap();
    let new = New { name: "bench", scopes: Scope::ALL, providers: &[], expires_at: None, per_minute };
    let key = key::create(app, &new).await.unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let router = routes::router(app).into_make_service_with_connect_info::<std::net::SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, router).await });
    Server { client: Client::new(), base, key }
}

impl Server {
    fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(&self.key)
            .header("host", "members.example.jp")
    }
}

fn message(server: &Server, number: usize) -> RequestBuilder {
    let body = json!({
        "to": { "members": [format!("c{}", number % 90_000 + 1)] }, "messages": [{ "type": "text", "text": "hello" }],
    });
    server.ask(Method::POST, "/api/v1/messages").header("idempotency-key", format!("bench-{number}")).json(&body)
}

/// Requests a second, so many at once.
async fn sends(server: &Server, options: &Options, request: fn(&Server, usize) -> RequestBuilder) -> f64 {
    let (begin, mut callers) = (Instant::now(), JoinSet::new());
    for caller in 0..AT_ONCE {
        let (server, time) = (server.clone(), options.time);
        callers.spawn(async move {
            let mut done = 0;
            while begin.elapsed() < time {
                let answer = request(&server, done * AT_ONCE + caller).send().await.unwrap();
                let status = answer.status();
                let body = answer.text().await.unwrap();
                assert!(status.is_success(), "{status}: {body}");
                done += 1;
            }
            done
        });
    }
    let done: usize = callers.join_all().await.into_iter().sum();
    done as f64 / begin.elapsed().as_secs_f64()
}

/// Goes through a list from its beginning till the time is over, and says how long its pages took.
async fn pages(server: &Server, path: &str, options: &Options) {
    let (begin, mut took, mut cursor) = (Instant::now(), Vec::new(), None::<String>);
    while begin.elapsed() < options.time {
        let mut request = server.ask(Method::GET, path).query(&[("limit", "200")]);
        if let Some(cursor) = &cursor {
            request = request.query(&[("cursor", cursor)]);
        }
        let asked = Instant::now();
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let page: Value = answer.json().await.unwrap();
        assert!(status.is_success(), "{path}: {status}: {page}");
        took.push(asked.elapsed());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => break,
        }
    }
    let rate = took.len() as f64 / begin.elapsed().as_secs_f64();
    let count = took.len();
    took.sort();
    let ms = |share: f64| took[((count as f64 * share) as usize).min(count - 1)].as_secs_f64() * 1000.0;
    println!("{path:<44.44}{rate:>10.0}{:>10.2}{:>10.2}{count:>8}", ms(0.5), ms(0.99));
}
