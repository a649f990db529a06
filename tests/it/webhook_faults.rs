//! Webhooks on bad days: the database away, locked, full or hung, events that fail, nodes that compete, and the real
//! binary ended at each place. What was answered 200 is handled, once.

use std::time::Duration;

use axum::http::StatusCode;
use musubi::{
    app::{App, Clock},
    db::Db,
    routes, webhook, worker,
};
use serde_json::{Value, json};
use sqlx::Connection;
use tokio_util::sync::CancellationToken;

use crate::{
    support::{
        BOT_CHANNEL, BOT_SECRET, Engine, TestApp, both_engines,
        process::{Browser, Line, PUBLIC, Place, Process, run, start_server, start_simulator, until},
        proxy::{Plan, Proxy},
    },
    webhook::{envelope, event_id, events, many_at_once, sign, signed, text_event},
};

const ENGINES: [Engine; 2] = [Engine::Sqlite, Engine::Postgres];

/// `full` times with `tests/run --full`.
fn rounds(usual: usize, full: usize) -> usize {
    if std::env::var_os("MUSUBI_TEST_FULL").is_some() { full } else { usual }
}

fn user(number: usize) -> String {
    format!("U{number:032x}")
}

fn follow(app: &TestApp, user: &str) -> Value {
    let mut event = text_event(app, user, "");
    event["type"] = "follow".into();
    event
}

/// Stored, whether split already or not; and of these what waits.
const STORED: &str = "SELECT CAST((SELECT COUNT(*) FROM events)
  + (SELECT COALESCE(SUM(events), 0) FROM intake) AS BIGINT)";
const WAITING: &str = "SELECT CAST((SELECT COUNT(*) FROM events WHERE state = 'waiting')
  + (SELECT COUNT(*) FROM intake) AS BIGINT)";

async fn stored(app: &TestApp) -> i64 {
    app.unpack().await;
    app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM events").await
}

/// An application whose router reaches PostgreSQL through a proxy.
async fn behind_a_proxy() -> (TestApp, App, Proxy) {
    let mut app = TestApp::start(Engine::Postgres).await;
    let proxy = Proxy::start(&app.database_url).await;
    let failing = App::new(app.app.config.clone(), Db::connect(&proxy.url).await.unwrap(), app.clock.clone()).unwrap();
    app.router = routes::router(&failing);
    (app, failing, proxy)
}

// ---- the database

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x09_x10_a_database_that_is_away_or_hangs_is_503_and_comes_back() {
    let (app, failing, proxy) = behind_a_proxy().await;
    let body = envelope(&[follow(&app, &user(1))]);
    // Also with a connection that was good a moment ago.
    assert_eq!(signed(&app, envelope(&[follow(&app, &user(0))])).await.status, StatusCode::OK);
    for plan in [Plan::Refuse, Plan::Stall] {
        proxy.plan(plan);
        for _ in 0..3 {
            let answer = signed(&app, body.clone()).await;
            assert_eq!((answer.status.as_u16(), answer.body.as_str()), (503, "not_stored"), "{plan:?}");
        }
        assert_eq!(
            signed(&app, "{\"events\":[]}").await.status,
            StatusCode::OK,
            "the console's Verify asks no database"
        );
        proxy.plan(Plan::Pass);
        until(async || signed(&app, body.clone()).await.status == StatusCode::OK).await;
        assert_eq!(stored(&app).await, 2);
    }
    failing.db.close().await;
    app.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x11_a_locked_sqlite_file_is_503_and_loses_nothing() {
    let app = TestApp::start(Engine::Sqlite).await;
    let mut other = sqlx::SqliteConnection::connect(&app.database_url).await.unwrap();
    sqlx::raw_sql("BEGIN EXCLUSIVE").execute(&mut other).await.unwrap();
    let bodies: Vec<String> = (0..20).map(|number| envelope(&[follow(&app, &user(number))])).collect();
    let statuses = many_at_once(&app, bodies.clone()).await;
    assert_eq!(statuses, [503; 20]);
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    // LINE sends them again.
    let statuses = many_at_once(&app, bodies).await;
    assert_eq!(statuses, [200; 20]);
    assert_eq!(stored(&app).await, 20);
    app.drain().await;
    assert_eq!(events(&app).await, ["done"; 20]);
    other.close().await.unwrap();
    app.end().await;
}

/// A disk of its own, which only root can make.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x12_a_full_disk_refuses_and_tears_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().to_str().unwrap().to_owned();
    let run = |arguments: &[&str]| std::process::Command::new(arguments[0]).args(&arguments[1..]).status();
    if !run(&["mount", "-t", "tmpfs", "-o", "size=4M", "tmpfs", &disk]).is_ok_and(|status| status.success()) {
        eprintln!("skipped: no tmpfs can be mounted here");
        return;
    }
    let app = TestApp::start_at(&format!("sqlite://{disk}/test.db")).await;
    let filler = "x".repeat(100_000);
    let (mut taken, mut refused) = (0, 0);
    for number in 0..60 {
        match signed(&app, envelope(&[text_event(&app, &user(number), &filler)])).await.status.as_u16() {
            200 => taken += 1,
            503 => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert!(taken > 5 && refused > 5, "{taken} {refused}");
    assert_eq!(app.count(STORED).await, taken, "whole or not at all");
    assert!(app.visitor().get("/sign-in").await.status.is_success(), "pages are read all the same");
    assert!(run(&["mount", "-o", "remount,size=64M", &disk]).unwrap().success());
    assert_eq!(signed(&app, envelope(&[text_event(&app, &user(1), &filler)])).await.status, StatusCode::OK);
    app.drain().await;
    assert_eq!(events(&app).await, vec!["done"; usize::try_from(taken).unwrap() + 1]);
    let check: String =
        sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut *app.app.db.conn().await.unwrap()).await.unwrap();
    assert_eq!(check, "ok");
    app.end().await;
    drop(app);
    assert!(run(&["umount", "-l", &disk]).unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x14_a_commit_of_unknown_outcome_is_not_guessed() {
    let (app, failing, proxy) = behind_a_proxy().await;
    for number in 1..=8 {
        // The connection is made and the statement prepared: its next call is the one that commits.
        assert_eq!(signed(&app, envelope(&[follow(&app, &user(100 + number))])).await.status, StatusCode::OK);
        proxy.plan(Plan::CutAfter(1));
        let body = envelope(&[follow(&app, &user(number))]);
        let first = signed(&app, body.clone()).await.status.as_u16();
        assert!(first == 200 || first == 503, "{first}");
        assert!(proxy.has_struck(), "the commit was cut");
        proxy.plan(Plan::Pass);
        until(async || signed(&app, body.clone()).await.status == StatusCode::OK).await;
        assert_eq!(stored(&app).await, i64::try_from(2 * number).unwrap(), "once");
    }
    app.drain().await;
    assert_eq!(events(&app).await, ["done"; 16]);
    failing.db.close().await;
    app.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wire_breaks_at_every_call_of_the_intake() {
    let (app, failing, proxy) = behind_a_proxy().await;
    let mut number = 0;
    for plan in [Plan::CutBefore as fn(u64) -> Plan, Plan::CutAfter] {
        for call in 1.. {
            proxy.plan(plan(call));
            let bodies: Vec<String> = (0..3)
                .map(|_| {
                    number += 1;
                    envelope(&[follow(&app, &user(number))])
                })
                .collect();
            let statuses = many_at_once(&app, bodies.clone()).await;
            let has_struck = proxy.has_struck();
            proxy.plan(Plan::Pass);
            assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
            for body in bodies {
                until(async || signed(&app, body.clone()).await.status == StatusCode::OK).await;
            }
            assert_eq!(stored(&app).await, i64::try_from(number).unwrap(), "call {call}");
            if !has_struck {
                break;
            }
            assert!(call < 40, "it comes to an end");
        }
    }
    failing.db.close().await;
    app.end().await;
}

// ---- events that fail

/// Handling this person's events fails in the database.
async fn poison(app: &TestApp, user: &str) {
    let text = match app.engine {
        Engine::Sqlite => format!(
            "CREATE TRIGGER poison BEFORE INSERT ON line_users WHEN NEW.user_id = '{user}'
             BEGIN SELECT RAISE(ABORT, 'poisoned'); END"
        ),
        Engine::Postgres => format!(
            "CREATE FUNCTION poison() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'poisoned'; END $$ LANGUAGE plpgsql;
             CREATE TRIGGER poison BEFORE INSERT ON line_users FOR EACH ROW WHEN (NEW.user_id = '{user}')
             EXECUTE FUNCTION poison()"
        ),
    };
    sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&mut *app.app.db.conn().await.unwrap()).await.unwrap();
}

async fn cure(app: &TestApp) {
    let text = if app.engine == Engine::Sqlite { "DROP TRIGGER poison" } else { "DROP TRIGGER poison ON line_users" };
    app.execute(text).await;
}

/// From now on events can be claimed, and no end of a try can be written.
async fn refuse_ends(app: &TestApp) {
    let text = match app.engine {
        Engine::Sqlite => {
            "CREATE TRIGGER no_ends BEFORE UPDATE ON events WHEN NEW.claimed_by IS NULL
             BEGIN SELECT RAISE(ABORT, 'no ends'); END"
        }
        Engine::Postgres => {
            "CREATE FUNCTION no_ends() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'no ends'; END $$ LANGUAGE plpgsql;
             CREATE TRIGGER no_ends BEFORE UPDATE ON events FOR EACH ROW WHEN (NEW.claimed_by IS NULL)
             EXECUTE FUNCTION no_ends()"
        }
    };
    sqlx::raw_sql(text).execute(&mut *app.app.db.conn().await.unwrap()).await.unwrap();
}

async fn allow_ends(app: &TestApp) {
    let text = if app.engine == Engine::Sqlite { "DROP TRIGGER no_ends" } else { "DROP TRIGGER no_ends ON events" };
    app.execute(text).await;
}

both_engines! {
    /// The database goes away between claim and end, again and again: no try of events that did nothing.
    async fn an_outage_after_the_claim_is_no_try(app) {
        assert_eq!(signed(app, envelope(&[follow(app, &user(1)), follow(app, &user(2))])).await.status, StatusCode::OK);
        refuse_ends(app).await;
        for _ in 0..7 {
            assert!(webhook::inbox::run(&app.app, "main", "us").await.is_err());
            assert_eq!(events(app).await, ["waiting"; 2]);
        }
        assert_eq!(app.count("SELECT MAX(attempts) FROM events").await, 1);
        allow_ends(app).await;
        assert_eq!(webhook::inbox::run(&app.app, "main", "us").await.unwrap(), 2, "nor is one tried alone");
        assert_eq!(events(app).await, ["done"; 2]);
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM events WHERE claimed_by IS NOT NULL").await, 0);
    }

    async fn x35_a_try_of_a_former_process_counts(app) {
        assert_eq!(signed(app, envelope(&[follow(app, &user(1)), follow(app, &user(2))])).await.status, StatusCode::OK);
        refuse_ends(app).await;
        for (tries, holder) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
            app.execute("DELETE FROM leases").await;
            assert!(webhook::inbox::run(&app.app, "main", holder).await.is_err());
            assert_eq!(app.count("SELECT MAX(attempts) FROM events").await, i64::try_from(tries).unwrap() + 1);
        }
        assert_eq!(app.count("SELECT MIN(attempts) FROM events").await, 1, "only one was tried, alone");
        allow_ends(app).await;
        app.execute("DELETE FROM leases").await;
        // One round parks, the next goes on.
        app.drain().await;
        app.drain().await;
        let mut states = events(app).await;
        states.sort();
        assert_eq!(states, ["done", "parked it ended the process"]);
    }

    async fn x35_a_poisoned_event_is_parked_and_others_go_on(app) {
        let (bad, good) = (user(1), user(2));
        poison(app, &bad).await;
        let first = follow(app, &bad);
        let mut block = follow(app, &bad);
        block["type"] = "unfollow".into();
        block["timestamp"] = (block["timestamp"].as_i64().unwrap() + 1).into();
        let list = [first, block, follow(app, &good)];
        assert_eq!(signed(app, envelope(&list)).await.status, StatusCode::OK);
        app.drain().await;
        let states = events(app).await;
        assert!(states[0].starts_with("waiting internal") && states[0].contains("poisoned"), "{states:?}");
        assert_eq!(states[1..], ["waiting", "done"], "its person's later events wait for it");
        for _ in 2..=5 {
            if !events(app).await[0].starts_with("parked") {
                app.clock.advance(Duration::from_secs(60));
                app.drain().await;
            }
        }
        assert_eq!(app.count("SELECT MAX(attempts) FROM events").await, 5);
        let states = events(app).await;
        assert!(states[0].starts_with("parked ") && states[0].contains("poisoned"), "{states:?}");
        assert_eq!(states[1].split(' ').next(), Some("waiting"), "the next one is tried now, and fails as well");
        for _ in 0..5 {
            app.clock.advance(Duration::from_secs(60));
            app.drain().await;
        }
        assert!(events(app).await[..2].iter().all(|state| state.starts_with("parked ")));
        cure(app).await;
        assert_eq!(webhook::command::retry(&app.app, None).await.unwrap(), 2);
        app.drain().await;
        assert_eq!(events(app).await, ["done"; 3]);
        let friend: String = sqlx::query_scalar("SELECT f.friend FROM friends f JOIN line_users u ON u.id = f.line_user_id WHERE u.user_id = $1")
            .bind(&bad).fetch_one(&mut *app.app.db.conn().await.unwrap()).await.unwrap();
        assert_eq!(friend, "no", "in their order");
    }

    async fn x19_a_nodes_clock_does_not_move_leases(app) {
        let mut conn = app.app.db.conn().await.unwrap();
        let ttl = Duration::from_secs(15);
        assert!(musubi::queue::lease_on(&mut conn, &app.app.db, "inbox:main", "a", ttl).await.unwrap());
        drop(conn);
        assert_eq!(signed(app, envelope(&[follow(app, &user(1))])).await.status, StatusCode::OK);
        for _ in 0..2 {
            app.clock.advance(Duration::from_secs(600));
            assert_eq!(webhook::inbox::run(&app.app, "main", "b").await.unwrap(), 0, "the other still holds it");
        }
        app.clock.turn_back(Duration::from_secs(2400));
        assert_eq!(webhook::inbox::run(&app.app, "main", "b").await.unwrap(), 0);
        app.execute("UPDATE leases SET expires_at = 0").await;
        assert!(webhook::inbox::run(&app.app, "main", "b").await.unwrap() > 0);
    }

    /// While rows go past their time, the inbox works on.
    async fn x50_pruning_takes_only_what_is_over(app) {
        assert_eq!(signed(app, envelope(&[follow(app, &user(1))])).await.status, StatusCode::OK);
        app.drain().await;
        poison(app, &user(2)).await;
        assert_eq!(signed(app, envelope(&[follow(app, &user(2))])).await.status, StatusCode::OK);
        for _ in 0..6 {
            app.drain().await;
            app.clock.advance(Duration::from_secs(60));
        }
        app.clock.advance(Duration::from_secs(20 * 24 * 3600));
        assert_eq!(signed(app, envelope(&[follow(app, &user(3))])).await.status, StatusCode::OK);
        while worker::prune(&app.app, "test").await.unwrap() > 0 {}
        assert_eq!(stored(app).await, 3, "nothing is past its time yet");
        app.clock.advance(Duration::from_secs(12 * 24 * 3600));
        while worker::prune(&app.app, "test").await.unwrap() > 0 {}
        let left = events(app).await;
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(left[0].starts_with("parked") && left[1] == "waiting", "{left:?}");
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM webhook_bodies").await, 2, "with their bodies");
        app.drain().await;
        assert_eq!(events(app).await[1], "done");
    }

    /// A month's worth of events that nobody handled: found by index, and handled.
    async fn x39_a_backlog_is_read_by_index(app) {
        fill(app, 20_000).await;
        let plan = explain(app).await;
        assert!(plan.contains("events_waiting"), "{plan}");
        assert!(!plan.to_lowercase().contains("scan events"), "{plan}");
        assert_eq!(webhook::inbox::run(&app.app, "main", "t").await.unwrap(), 64, "a bounded round");
        assert_eq!(signed(app, envelope(&[follow(app, &user(1))])).await.status, StatusCode::OK);
    }
}

/// Events that wait, made in the database.
async fn fill(app: &TestApp, number: usize) {
    let mut conn = app.app.db.conn().await.unwrap();
    let body = envelope(&[follow(app, &user(7))]);
    sqlx::query(
        "INSERT INTO webhook_bodies (id, channel, body, signature, received_at) VALUES ('b', 'main', $1, '', 1)",
    )
    .bind(body.as_bytes())
    .execute(&mut *conn)
    .await
    .unwrap();
    let text = format!(
        "INSERT INTO events (id, channel, body_id, seq, chat, at, kind, state, attempts, received_at)
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {number})
         SELECT 'e' || CAST(i AS TEXT), 'main', 'b', 0, 'U' || CAST(i % 1000 AS TEXT), i, 'follow', 'waiting', 0, 1 FROM n"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&mut *conn).await.unwrap();
    sqlx::raw_sql("ANALYZE").execute(&mut *conn).await.unwrap();
}

async fn explain(app: &TestApp) -> String {
    use sqlx::Row;
    let head = if app.engine == Engine::Sqlite { "EXPLAIN QUERY PLAN" } else { "EXPLAIN" };
    let text = format!("{head} {}", webhook::inbox::DUE.replace("$1", "'main'").replace("$2", "0").replace("$3", "64"));
    let rows = sqlx::query(sqlx::AssertSqlSafe(text)).fetch_all(&mut *app.app.db.conn().await.unwrap()).await.unwrap();
    let column = if app.engine == Engine::Sqlite { 3 } else { 0 };
    rows.iter().map(|row| row.try_get::<String, _>(column).unwrap()).collect::<Vec<_>>().join("\n")
}

/// Two nodes at one database, and both at work: each event once, and each person's in their order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x17_two_nodes_handle_each_event_once_and_in_order() {
    let app = TestApp::start(Engine::Postgres).await;
    let other = Db::connect(&app.database_url).await.unwrap();
    let other = App::new(app.app.config.clone(), other, app.clock.clone()).unwrap();
    let stop = CancellationToken::new();
    let nodes: Vec<_> =
        [&app.app, &other].map(|node| tokio::spawn(worker::run(node.clone(), stop.clone()))).into_iter().collect();
    let count = rounds(400, 20_000);
    let bodies: Vec<String> = (0..count)
        .map(|number| {
            let mut event = follow(&app, &user(number % 20));
            event["type"] = if number % 3 == 0 { "unfollow".into() } else { "follow".into() };
            event["timestamp"] =
                (event["timestamp"].as_i64().unwrap() - 100_000 + i64::try_from(number).unwrap()).into();
            envelope(&[event])
        })
        .collect();
    for group in bodies.chunks(40) {
        let mut twice = group.to_vec();
        twice.extend_from_slice(group);
        assert!(many_at_once(&app, twice).await.iter().all(|status| *status == 200));
    }
    let over = "SELECT CAST(COUNT(*) AS BIGINT) FROM events WHERE state <> 'waiting'";
    while app.count(WAITING).await > 0 {
        let before = app.count(over).await;
        until(async || app.count(over).await > before || app.count(WAITING).await == 0).await;
    }
    stop.cancel();
    for node in nodes {
        node.await.unwrap();
    }
    assert_eq!(stored(&app).await, i64::try_from(count).unwrap());
    let odd = "SELECT CAST(COUNT(*) AS BIGINT) FROM events WHERE state NOT IN ('done', 'ignored') OR attempts <> 1";
    assert_eq!(app.count(odd).await, 0);
    let wrong = "SELECT CAST(COUNT(*) AS BIGINT) FROM friends f JOIN line_users u ON u.id = f.line_user_id
                 JOIN events e ON e.chat = u.user_id AND e.at = (SELECT MAX(at) FROM events WHERE chat = u.user_id)
                 WHERE (f.friend = 'no') <> (e.kind = 'unfollow')";
    assert_eq!(app.count(wrong).await, 0, "the newest word of each person holds");
    other.db.close().await;
    app.end().await;
}

/// LINE was away for hours and sends everything at once, old and known things among it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x48_x49_a_flood_of_redeliveries_is_taken_while_the_inbox_works() {
    let app = TestApp::start(Engine::Sqlite).await;
    let stop = CancellationToken::new();
    let node = tokio::spawn(worker::run(app.app.clone(), stop.clone()));
    let bodies: Vec<String> = (0..200).map(|number| envelope(&[follow(&app, &user(number % 10))])).collect();
    for round in 0..4 {
        let flood: Vec<String> = bodies
            .iter()
            .map(|body| body.replace("\"isRedelivery\":false", &format!("\"isRedelivery\":{}", round > 0)))
            .collect();
        // What a slow machine cannot store in time is 503, and LINE sends it again.
        let mut unstored = flood;
        for _ in 0..20 {
            let statuses = many_at_once(&app, unstored.clone()).await;
            assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
            let mut statuses = statuses.iter();
            unstored.retain(|_| statuses.next() == Some(&503));
            if unstored.is_empty() {
                break;
            }
        }
        assert!(unstored.is_empty(), "{}", unstored.len());
    }
    until(async || app.count(WAITING).await == 0).await;
    stop.cancel();
    node.await.unwrap();
    assert_eq!(stored(&app).await, 200);
    assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM events WHERE attempts <> 1").await, 0);
    app.end().await;
}

/// Bodies in memory are bounded over all requests: what has no room is refused, and sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x44_bodies_in_memory_are_bounded() {
    let app = TestApp::start(Engine::Sqlite).await;
    let intake = webhook::intake::Intake::start(&app.app);
    let mut held = Vec::new();
    while let Some(room) = intake.room(0, 2 * 1024 * 1024) {
        held.push(room);
    }
    assert_eq!(held.len(), 16, "32 MiB of long bodies");
    assert!(intake.room(64 * 1024, 1).is_none());
    assert!(intake.room(0, 64 * 1024).is_some(), "and who sends them takes nothing from short ones");
    held.pop();
    assert!(intake.room(64 * 1024, 1).is_some());
    app.end().await;
}

// ---- the real binary

/// An installation with people, a server that is ended and started again, and events sent to it as LINE does.
struct World {
    place: Place,
    config: String,
    line: Line,
    simulator: Process,
    app: App,
    client: reqwest::Client,
}

impl World {
    async fn new(engine: Engine) -> Self {
        let place = Place::new(engine).await;
        let (simulator, line) = start_simulator(&place);
        let config = place.config("musubi.toml", &line.0.base, "listen = \"127.0.0.1:0\"");
        let app = place.app(&config).await;
        app.db.migrate().await.unwrap();
        let client = Browser::new("", PUBLIC).client;
        Self { place, config, line, simulator, app, client }
    }

    /// One person's follow, as a body.
    fn follow(user: &str, is_redelivery: bool, id: &str) -> String {
        envelope(&[json!({
            "type": "follow", "mode": "active", "timestamp": Clock::default().now().0,
            "source": { "type": "user", "userId": user }, "webhookEventId": id,
            "deliveryContext": { "isRedelivery": is_redelivery }, "follow": { "isUnblocked": false },
        })])
    }

    /// Posts a body; nothing where the server died over it.
    async fn send(&self, base: &str, body: String) -> Option<u16> {
        let signature = sign(BOT_SECRET, body.as_bytes());
        let request = self.client.post(format!("{base}/webhook/main")).header("x-line-signature", signature).body(body);
        Some(request.send().await.ok()?.status().as_u16())
    }

    async fn count(&self, statement: &'static str) -> i64 {
        sqlx::query_scalar(statement).fetch_one(&mut *self.app.db.conn().await.unwrap()).await.unwrap()
    }

    /// As if the leases of the dead had run out and all that waits had become due.
    async fn let_time_pass(&self) {
        self.place
            .execute(
                "UPDATE requests SET next_attempt_at = 0; DELETE FROM leases; DELETE FROM event_holds;
                 UPDATE jobs SET leased_until = NULL, due_at = 0 WHERE ended_at IS NULL",
            )
            .await;
    }

    async fn until_rest(&self) {
        until(async || {
            self.count(
                "SELECT CAST((SELECT COUNT(*) FROM jobs WHERE ended_at IS NULL AND parked_at IS NULL)
                   + (SELECT COUNT(*) FROM requests WHERE state = 'open')
                   + (SELECT COUNT(*) FROM deliveries WHERE state IN ('waiting', 'sending'))
                   + (SELECT COUNT(*) FROM intake)
                   + (SELECT COUNT(*) FROM events WHERE state = 'waiting') AS BIGINT)",
            )
            .await
                == 0
        })
        .await;
    }

    /// A person at LINE who is a friend, so that a greeting reaches them.
    async fn friend(&self) -> String {
        let user = self.line.person().await;
        self.line.order(&format!("/_sim/users/{user}/follow"), json!({ "channel": BOT_CHANNEL })).await;
        user
    }

    async fn end(self) {
        self.simulator.stop();
        self.app.db.close().await;
        self.place.end().await;
    }
}

/// X01, X03: the process ends at a place of the intake or the inbox.
async fn kill_at(world: &World, point: &str) {
    let (server, base) = start_server(&world.config, &[("MUSUBI_KILL_AT", point)]);
    let (user, id) = (world.friend().await, event_id());
    let before = world.count(STORED).await;
    let status = world.send(&base, World::follow(&user, false, &id)).await;
    if point.starts_with("intake.") {
        assert_eq!(status, None, "{point}: no answer");
    } else {
        assert!(matches!(status, None | Some(200)), "{point}: {status:?}");
    }
    server.end_by_abort();
    let is_stored = world.count(STORED).await > before;
    assert_eq!(is_stored, point == "intake.committed" || point.starts_with("inbox."), "{point}");

    world.let_time_pass().await;
    let (server, base) = start_server(&world.config, &[]);
    // LINE sends again what got no 2xx, and sometimes what did.
    for _ in 0..2 {
        assert_eq!(world.send(&base, World::follow(&user, true, &id)).await, Some(200), "{point}");
    }
    world.until_rest().await;
    assert_eq!(world.count("SELECT CAST(COUNT(*) AS BIGINT) FROM events").await, before + 1, "{point}");
    assert_eq!(world.count("SELECT CAST(COUNT(*) AS BIGINT) FROM events WHERE state <> 'done'").await, 0, "{point}");
    assert_eq!(world.line.delivered(&user).await.len(), 1, "{point}: one greeting");
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x01_a_webhook_that_is_killed_is_stored_or_not_answered() {
    for engine in ENGINES {
        let world = World::new(engine).await;
        for _ in 0..rounds(1, 50) {
            for point in ["intake.verified", "intake.committed"] {
                kill_at(&world, point).await;
            }
        }
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x03_an_event_that_is_killed_is_handled_once() {
    for engine in ENGINES {
        let world = World::new(engine).await;
        for _ in 0..rounds(1, 50) {
            for point in ["inbox.unpacked", "inbox.claimed", "inbox.effected", "inbox.done"] {
                kill_at(&world, point).await;
            }
        }
        world.end().await;
    }
}

/// An event that ends the process each time is parked after five; the others are handled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x35_an_event_that_ends_the_process_is_parked() {
    let world = World::new(Engine::Sqlite).await;
    let (server, base) = start_server(&world.config, &[("MUSUBI_KILL_AT", "inbox.effected")]);
    assert!(matches!(world.send(&base, World::follow(&user(1), false, &event_id())).await, None | Some(200)));
    server.end_by_abort();
    for _ in 1..5 {
        world.let_time_pass().await;
        let mut server =
            Process::start_with(&["serve", "--config", &world.config], &[("MUSUBI_KILL_AT", "inbox.effected")]);
        server.wait_for("working");
        server.end_by_abort();
    }
    world.let_time_pass().await;
    let (server, base) = start_server(&world.config, &[]);
    assert_eq!(world.send(&base, World::follow(&user(2), false, &event_id())).await, Some(200));
    world.until_rest().await;
    let parked = "SELECT CAST(COUNT(*) AS BIGINT) FROM events WHERE state = 'parked' AND attempts = 5";
    assert_eq!(world.count(parked).await, 1);
    assert_eq!(world.count("SELECT CAST(COUNT(*) AS BIGINT) FROM events WHERE state = 'done'").await, 1);
    retry_by_command(&world).await;
    server.stop();
    world.end().await;
}

/// `musubi events`, beside the running server.
async fn retry_by_command(world: &World) {
    let config = ["--config", world.config.as_str()];
    let events = |words: &[&str]| run(&[&["events"], words, &config].concat());
    let (code, listed) = events(&["list", "--state", "parked"]);
    assert_eq!((code, listed.lines().count()), (Some(0), 1), "{listed}");
    assert!(listed.contains("it ended the process") && listed.contains("follow"), "{listed}");
    let id = listed.split_whitespace().find(|word| word.starts_with("01")).unwrap();
    let (code, shown) = events(&["show", id]);
    assert!(code == Some(0) && shown.contains("parked after 5 tries") && shown.contains(&user(1)), "{shown}");
    let (code, told) = events(&["show", "01NOBODY"]);
    assert!(code == Some(1) && told.contains("there is no event"), "{told}");
    assert_eq!(events(&["retry"]).0, Some(2), "one, or --all");
    let (code, told) = events(&["retry", id]);
    assert!(code == Some(0) && told.contains("again: 1"), "{told}");
    world.until_rest().await;
    assert_eq!(world.count("SELECT CAST(COUNT(*) AS BIGINT) FROM events WHERE state = 'done'").await, 2);
}

/// X37, X38, X41: ended by force or in order, again and again, while LINE goes on sending what got no answer.
async fn crash_loop(engine: Engine, kills: usize, in_order: bool) {
    let world = World::new(engine).await;
    let mut people = Vec::new();
    for _ in 0..4 {
        people.push(world.friend().await);
    }
    let mut open: Vec<(String, String)> = Vec::new();
    let mut sent = vec![0_usize; people.len()];
    for round in 0..kills {
        world.let_time_pass().await;
        let (server, base) = start_server(&world.config, &[]);
        for (place, person) in people.iter().enumerate() {
            open.push((person.clone(), event_id()));
            sent[place] += 1;
        }
        let (first, rest) = open.split_at(open.len() / 2);
        let mut unanswered = Vec::new();
        for (person, id) in first {
            if world.send(&base, World::follow(person, round > 0, id)).await != Some(200) {
                unanswered.push((person.clone(), id.clone()));
            }
        }
        if in_order {
            drop(server.stop())
        } else {
            server.kill()
        }
        unanswered.extend_from_slice(rest);
        open = unanswered;
    }
    world.let_time_pass().await;
    let (server, base) = start_server(&world.config, &[]);
    for (person, id) in &open {
        assert_eq!(world.send(&base, World::follow(person, true, id)).await, Some(200));
    }
    world.until_rest().await;
    // What was in hand at five violent deaths may be what kills: it is set aside until somebody says again.
    let parked = "SELECT CAST(COUNT(*) AS BIGINT) FROM events WHERE state = 'parked'";
    let by_death = "SELECT CAST(COUNT(*) AS BIGINT) FROM events
                    WHERE state = 'parked' AND attempts = 5 AND note = 'it ended the process'";
    let set_aside = world.count(parked).await;
    assert_eq!(world.count(by_death).await, set_aside);
    if set_aside > 0 {
        assert!(!in_order, "a stop in order is no try");
        let (code, told) = run(&["events", "retry", "--all", "--config", &world.config]);
        assert_eq!(code, Some(0), "{told}");
        world.until_rest().await;
    }
    let total = i64::try_from(sent.iter().sum::<usize>()).unwrap();
    assert_eq!(world.count("SELECT CAST(COUNT(*) AS BIGINT) FROM events").await, total);
    assert_eq!(
        world.count("SELECT CAST(COUNT(*) AS BIGINT) FROM events WHERE state NOT IN ('done', 'ignored')").await,
        0
    );
    for person in &people {
        let pushes = world.line.delivered(person).await;
        assert!(pushes.iter().all(|count| *count == 1), "nothing twice: {pushes:?}");
    }
    server.stop();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x41_a_crash_loop_loses_no_event() {
    for engine in ENGINES {
        crash_loop(engine, rounds(3, 50), false).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x37_stops_in_order_lose_no_event() {
    crash_loop(Engine::Sqlite, rounds(2, 50), true).await;
}

/// Two nodes, of which one after the other is ended and started again while events come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x38_a_rolling_restart_loses_no_event() {
    let world = World::new(Engine::Postgres).await;
    let mut nodes: Vec<_> = (0..2).map(|_| start_server(&world.config, &[])).collect();
    let mut total = 0;
    for round in 0..rounds(2, 20) {
        for number in 0..10 {
            let body = World::follow(&user(number), round > 0, &event_id());
            // As a proxy does that tries the other node.
            let mut taken = None;
            for (_, base) in nodes.iter().rev() {
                taken = world.send(base, body.clone()).await;
                if taken == Some(200) {
                    break;
                }
            }
            assert_eq!(taken, Some(200));
            total += 1;
        }
        let (server, _) = nodes.remove(0);
        server.stop();
        nodes.push(start_server(&world.config, &[]));
    }
    until(async || world.count(WAITING).await == 0).await;
    assert_eq!(
        world.count("SELECT CAST(COUNT(*) AS BIGINT) FROM events WHERE state IN ('done', 'ignored')").await,
        total
    );
    for (server, _) in nodes {
        server.stop();
    }
    world.end().await;
}

both_engines! {
    /// What this version cannot read was answered 200 all the same: it is kept, and somebody is told.
    async fn an_intake_that_cannot_be_read_is_kept_and_holds_up_nobody(app) {
        assert_eq!(signed(app, envelope(&[follow(app, &user(1))])).await.status, StatusCode::OK);
        sqlx::query("UPDATE intake SET requests = $1")
            .bind(b"{\"of\":\"another version\"}".as_slice())
            .execute(&mut *app.app.db.conn().await.unwrap())
            .await
            .unwrap();
        assert_eq!(signed(app, envelope(&[follow(app, &user(2))])).await.status, StatusCode::OK);
        app.drain().await;
        let mut states = events(app).await;
        states.sort();
        assert_eq!(states, ["done", "parked intake_unreadable"]);
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM webhook_bodies WHERE id LIKE '%~'").await, 1);
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM intake").await, 0);
    }
}
