//! How fast people are brought to their menus. `cargo bench --bench menu`; on PostgreSQL too where `MUSUBI_TEST_POSTGRES`
//! names a server. `--friends N` and `--people N` in place of 100,000 and 1,000,000.
//!
//! First friends of whom another rule moves half: people a second, and requests beside the fewest that there may be. Then
//! more people who all have the right menu: what it costs to find that out, without LINE. The reconciler is a process of
//! its own, whose peak memory is told; LINE is played by this one, takes everything at once, and shares the cores.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a measurement that cannot go on ends")]
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a command of its own, and its figures")]

use std::{
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use axum::{Json, Router, extract::State, http::Uri};
use musubi::{
    app::{App, Clock},
    config::Config,
    db::Db,
    rich_menu,
};
use serde_json::{Value, json};
use sqlx::{AnyConnection, AssertSqlSafe, Connection};
use tokio::net::TcpListener;

const AT_ONCE: usize = 500;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["--work", database, line] = words[..] {
        return work(database, line).await;
    }
    let number = |name: &str, usual: usize| {
        let place = words.iter().position(|word| *word == name);
        place.map_or(usual, |place| words[place + 1].parse().expect("a number"))
    };
    let (friends, people) = (number("--friends", 100_000), number("--people", 1_000_000));
    let (line, requests) = play().await;
    let folder = tempfile::tempdir().unwrap();
    let server = std::env::var("MUSUBI_TEST_POSTGRES").ok();
    println!(
        "{:<12}{:>10}{:>10}{:>10}{:>12}{:>10}{:>8}{:>10}",
        "", "people", "moved", "seconds", "people /s", "requests", "fewest", "peak MB"
    );
    for (count, moves) in [(friends, true), (people, false)] {
        let mut databases = vec![("SQLite", format!("sqlite://{}/{count}.db?mode=rwc", folder.path().display()))];
        if let Some(server) = &server {
            databases.push(("PostgreSQL", fresh(server, count).await));
        }
        for (name, url) in databases {
            fill(&url, count, moves).await;
            requests.store(0, Ordering::Relaxed);
            let (seconds, moved, peak) = measure(&url, &line);
            let (made, fewest) = (requests.load(Ordering::Relaxed), moved.div_ceil(AT_ONCE));
            assert_eq!(moved, if moves { count / 2 } else { 0 }, "who moves");
            let rate = count as f64 / seconds;
            println!("{name:<12}{count:>10}{moved:>10}{seconds:>10.1}{rate:>12.0}{made:>10}{fewest:>8}{peak:>10.0}");
        }
    }
}

/// The reconciler in a process of its own: seconds, people who were moved, and megabytes.
fn measure(database: &str, line: &str) -> (f64, usize, f64) {
    let program = std::env::current_exe().unwrap();
    let ended = Command::new(program)
        .args(["--work", database, line])
        .stderr(Stdio::inherit())
        .output()
        .expect("the other process");
    let told = String::from_utf8(ended.stdout).unwrap();
    let figures: Vec<f64> = told.split_whitespace().map(|figure| figure.parse().expect("a figure")).collect();
    (figures[0], figures[1] as usize, figures[2])
}

async fn work(database: &str, line: &str) {
    let db = Db::connect(database).await.unwrap();
    let app = App::new(config(database, line), db, Clock::default()).unwrap();
    let start = Instant::now();
    let progress = loop {
        rich_menu::run(&app, "main", "load").await.unwrap();
        let progress = rich_menu::progress(&mut app.db.conn().await.unwrap(), "main", "main").await.unwrap().unwrap();
        assert_eq!(progress.note, None);
        if progress.ended_at.is_some() {
            break progress;
        }
    };
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(progress.seen, progress.people);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    let peak = peak.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0;
    println!("{seconds} {} {peak}", progress.moved);
}

/// LINE: gives tokens, takes everything, and counts the requests for many.
async fn play() -> (String, Arc<AtomicUsize>) {
    async fn answer(State(requests): State<Arc<AtomicUsize>>, uri: Uri) -> Json<Value> {
        if uri.path().starts_with("/v2/bot/richmenu/bulk/") {
            requests.fetch_add(1, Ordering::Relaxed);
        }
        Json(json!({ "token_type": "Bearer", "access_token": "t", "expires_in": 900, "richMenuId": "gold-1" }))
    }
    let requests = Arc::new(AtomicUsize::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer).with_state(requests.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, requests)
}

fn config(database: &str, line: &str) -> Config {
    let text = format!(
        r#"
        public_url = "https://members.example.jp"
        database_url = "{database}"
        company = "Load"
        line = {{ access = "{line}", api = "{line}", api_data = "{line}" }}

        [security]
        sealing_key = "load"
        sealing_keys = {{ load = "yVqOczA5k8UOOBIL+mBfzBQ3UWTa8xu8jd/Cjvkp60g=" }}

        [provider.main]

        [channel.main]
        provider = "main"
        channel_id = "1000000002"
        channel_secret = "0a9b8c7d6e5f40312233445566778899"
        "#
    );
    Config::parse("load", &text, Vec::new()).unwrap()
}

/// Linked friends with an attribute, all of whom were told the members' menu; half of them should have another one, or
/// all have the right one.
async fn fill(url: &str, count: usize, moves: bool) {
    let db = Db::connect(url).await.unwrap();
    db.migrate().await.unwrap();
    db.close().await;
    let mut conn = AnyConnection::connect(url).await.unwrap();
    if url.starts_with("sqlite") {
        run(&mut conn, "PRAGMA synchronous = OFF").await;
    }
    let series = format!(
        "WITH RECURSIVE series(n) AS (SELECT CAST(0 AS BIGINT) UNION ALL SELECT n + 1 FROM series WHERE n + 1 < {count})"
    );
    let digits =
        |width: usize| format!("SUBSTR('{:0width$}', 1, {width} - LENGTH(CAST(n AS TEXT))) || CAST(n AS TEXT)", 0);
    let id = |kind: u8| format!("'0000000{kind}-0000-7000-8000-' || {}", digits(12));
    let (member, user, link, user_id) = (id(1), id(2), id(3), format!("'U' || {}", digits(32)));
    let gold = if moves { "linked and member.points >= 100" } else { "linked and member.points >= 1000" };
    for (table, columns, values) in [
        (
            "members",
            "id, email, email_key, name, source, created_at",
            format!("{member}, '', {member}, 'Aiko', 'company', 1"),
        ),
        (
            "line_users",
            "id, provider, user_id, display_name, profile_at, created_at",
            format!("{user}, 'main', {user_id}, 'Aiko', 1, 1"),
        ),
        (
            "links",
            "id, provider, line_user_id, member_id, source, consent_version, consent_locale, created_at",
            format!("{link}, 'main', {user}, {member}, 'web', '1', 'ja', 1"),
        ),
        ("friends", "line_user_id, channel, friend, changed_at", format!("{user}, 'main', 'yes', 1")),
        (
            "member_attributes",
            "member_id, name, kind, value",
            format!("{member}, 'points', 'number', CAST(n % 200 AS TEXT)"),
        ),
        ("member_tags", "member_id, tag", format!("{member}, 'load'")),
        (
            "user_menus",
            "line_user_id, channel, menu, rich_menu_id, applied_at, checked_at",
            format!("{user}, 'main', 'member', 'member-1', 1, 1"),
        ),
    ] {
        run(&mut conn, &format!("INSERT INTO {table} ({columns}) {series} SELECT {values} FROM series")).await;
    }
    put_set(&mut conn, gold).await;
    run(&mut conn, if url.starts_with("sqlite") { "ANALYZE" } else { "VACUUM ANALYZE" }).await;
    conn.close().await.unwrap();
}

/// Another set than the one that people were brought to.
async fn put_set(conn: &mut AnyConnection, gold: &str) {
    run(conn, "INSERT INTO menu_sets (channel, version, applied_at) VALUES ('main', 2, 1)").await;
    for (position, (name, rule)) in [("gold", gold), ("member", "linked"), ("unlinked", "true")].iter().enumerate() {
        let rule = json!({ "when": rule });
        let values = format!("('main', '{name}', '', {position}, '1', '{name}', '{rule}', '{name}-1')");
        run(
            conn,
            &format!(
                "INSERT INTO set_menus (channel, name, language, position, hash, tab_group, rule, rich_menu_id)
                 VALUES {values}"
            ),
        )
        .await;
    }
}

async fn fresh(server: &str, count: usize) -> String {
    sqlx::any::install_default_drivers();
    let mut conn = AnyConnection::connect(server).await.unwrap();
    let name = format!("musubi_load_menu_{count}");
    run(&mut conn, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
    run(&mut conn, &format!("CREATE DATABASE {name}")).await;
    format!("{}/{name}", server.rsplit_once('/').unwrap().0)
}

async fn run(conn: &mut AnyConnection, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(conn).await.unwrap();
}
