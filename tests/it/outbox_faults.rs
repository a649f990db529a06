//! What one bad message, one slow channel, one wrong clock or one change must not do to the outbox.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use axum::{body::Body, http::Request};
use musubi::{
    app::App,
    db::Db,
    message::{self, Counts, New, Tie, To},
    queue, routes, worker,
};
use proptest::{
    collection::vec,
    prelude::{ProptestConfig, any},
    test_runner::TestRunner,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{
    kill::ENGINES,
    outbox::{bulk, deliver, said, text},
    sending::{ONE, PUSH, ROUND, closed_port, counts, delivered, elsewhere, friend, full, pushes, send, settle, texts},
    stub::{Answer, Stage, stages},
    support::{BOT_CHANNEL, TestApp, both_engines},
};

both_engines! {
    async fn x19_a_nodes_clock_does_not_move_the_senders_lease(app) {
        let user = friend(app).await;
        let id = send(app, &user, "Hanako").await;
        app.execute("UPDATE deliveries SET due_at = 0").await;
        let minute = Duration::from_secs(60);
        assert!(queue::lease(&app.app, "send:main", "a", minute).await.unwrap());
        for _ in 0..2 {
            app.clock.advance(Duration::from_secs(600));
            assert_eq!(message::deliver(&app.app, "main", "b").await.unwrap(), 0, "the other still holds it");
        }
        app.clock.turn_back(Duration::from_secs(2400));
        assert_eq!(message::deliver(&app.app, "main", "b").await.unwrap(), 0);
        assert_eq!(pushes(app).await.len(), 0);
        // A lease taken by a clock ten minutes ahead lasts no longer than any.
        app.clock.advance(Duration::from_secs(1800));
        assert!(queue::lease(&app.app, "send:main", "a", minute).await.unwrap());
        let now = app.app.db.now(&mut app.app.db.conn().await.unwrap()).await.unwrap();
        let until = app.count("SELECT expires_at FROM leases WHERE name = 'send:main'").await;
        assert!(until <= now.plus(minute).0, "{until} {now}");
        app.execute("UPDATE leases SET expires_at = 0").await;
        assert!(message::deliver(&app.app, "main", "b").await.unwrap() > 0);
        assert_eq!(counts(app, &id).await, Counts { sent: 1, ..ONE });
    }

    /// Whatever LINE does not want, it is told once, and everybody else gets theirs.
    async fn x28_a_refused_message_does_not_block_the_queue(app) {
        for status in [400, 403, 404, 410, 413] {
            let words = format!("not with {status}");
            let users = [friend(app).await, friend(app).await];
            app.fault(json!({ "endpoint": PUSH, "status": status, "body": { "message": words } })).await;
            let mut ids = Vec::new();
            for number in 0..3 {
                for user in &users {
                    ids.push(send(app, user, &format!("{status} {number}.")).await);
                }
            }
            let before = pushes(app).await.len();
            settle(app, &ids).await;
            let mut failed = 0;
            for id in &ids {
                match counts(app, id).await {
                    counts if counts == (Counts { failed: 1, ..ONE }) => failed += 1,
                    counts => assert_eq!(counts, Counts { sent: 1, ..ONE }, "{status}"),
                }
            }
            assert_eq!(failed, 1, "{status}");
            assert_eq!(said(app, &users[0]).await.len() + said(app, &users[1]).await.len(), 5, "{status}");
            let notes = texts(app, "SELECT note FROM deliveries WHERE state = 'failed' ORDER BY updated_at").await;
            assert!(notes.last().unwrap().contains(&words), "{notes:?}");
            app.clock.advance(Duration::from_secs(24 * 3600));
            app.drain().await;
            assert_eq!(pushes(app).await.len() - before, 6, "{status}: never tried again");
        }
    }
}

// ---- X23

/// A channel whose LINE answers slowly, or byte by byte, holds up neither another channel nor a page.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x23_a_slow_channel_holds_up_no_other() {
    let more = "channel.second = { provider = \"main\", channel_id = 2002, \
                channel_secret = \"fedcba9876543210fedcba9876543211\" }";
    for slow in [Answer::Hang, Answer::Trickle] {
        for stage in stages(more).await {
            let mut people = Vec::new();
            for number in 0..8 {
                people.push(format!("person-{number}"));
                stage.link(&people[number], None).await;
                stage.line.script(PUSH, slow.clone());
                push_to(&stage, "shop", &people[number]).await;
            }
            let stop = CancellationToken::new();
            let worker = tokio::spawn(worker::run(stage.app.clone(), stop.clone()));
            stage.line.wait_for_calls(PUSH, 8).await;

            for name in &people {
                push_to(&stage, "second", name).await;
            }
            stage.app.wake();
            stage.line.wait_for_calls(PUSH, 16).await;
            let sent = "SELECT line_user_id FROM deliveries WHERE channel = 'second' AND state = 'sent' ORDER BY 1";
            while stage.texts(sent).await != people {
                tokio::task::yield_now().await;
            }
            for path in ["/healthz", "/readyz", "/sign-in"] {
                let request = Request::get(path).header("host", "localhost:8080").body(Body::empty()).unwrap();
                assert_eq!(routes::router(&stage.app).oneshot(request).await.unwrap().status(), 200, "{path}");
            }
            let states = stage.texts("SELECT state FROM deliveries WHERE channel = 'shop'").await;
            assert_eq!(states, ["sending"; 8], "the slow ones are still asked for");
            worker.abort();
            stop.cancel();
        }
    }
}

async fn push_to(stage: &Stage, channel: &str, name: &str) {
    let data = json!({ "name": "A", "company": "B", "account_url": "https://example.jp/" });
    let to = To { line_user_id: name, link: Some(Tie { member_id: name, link_id: name }) };
    let new = New { channel, template: "welcome", locale: "en", data: &data, cause: "linked", topic: None, to };
    message::send(&mut stage.app.db.conn().await.unwrap(), &stage.app, new).await.unwrap();
}

// ---- the sender's connection, and its sleep

/// PostgreSQL ends every connection while LINE has a message, that of the sender's turn too: what LINE answered is written
/// down on another one, and LINE is not asked again.
#[tokio::test]
async fn x09_a_sender_without_its_connection_keeps_what_line_answered() {
    for stage in stages("").await.into_iter().skip(1) {
        stage.link("hanako", None).await;
        stage.link("taro", None).await;
        push_to(&stage, "shop", "hanako").await;
        stage.line.script(PUSH, Answer::Hang);
        let app = stage.app.clone();
        let sender = tokio::spawn(async move { message::deliver(&app, "shop", "node-1").await });
        stage.line.wait_for_calls(PUSH, 1).await;
        let ended = stage
            .texts(
                "SELECT query FROM pg_stat_activity WHERE CASE WHEN datname = current_database()
                   AND pid <> pg_backend_pid() THEN pg_terminate_backend(pid) END",
            )
            .await;
        assert!(!ended.is_empty());
        stage.line.release();
        assert!(sender.await.unwrap().is_err(), "the turn tells that its connection is gone");
        assert_eq!(stage.texts("SELECT state FROM deliveries").await, ["sent"]);
        assert_eq!(stage.texts("SELECT state FROM requests").await, ["sent"]);

        push_to(&stage, "shop", "taro").await;
        assert_eq!(message::deliver(&stage.app, "shop", "node-2").await.unwrap(), 1, "the lease was given back");
        assert_eq!(stage.texts("SELECT state FROM deliveries").await, ["sent", "sent"]);
        assert_eq!(stage.line.calls(PUSH).len(), 2);
    }
}

/// The machine sleeps for a day while claimed requests wait for a place: LINE may have forgotten their keys. What was never
/// sent goes under a new one, what may have been is given up.
#[tokio::test]
async fn x05_after_a_long_sleep_no_old_key_is_used() {
    for stage in stages("").await {
        stage.link("in-doubt", None).await;
        push_to(&stage, "shop", "in-doubt").await;
        stage.line.script(PUSH, Answer::Cut);
        assert_eq!(message::deliver(&stage.app, "shop", "node-1").await.unwrap(), 1);
        stage.execute("UPDATE requests SET next_attempt_at = next_attempt_at + 3600000").await;

        // As many as are in flight at one time, and one more.
        for number in 0..257 {
            let name = format!("person-{number:03}");
            stage.link(&name, None).await;
            push_to(&stage, "shop", &name).await;
        }
        for _ in 0..256 {
            stage.line.script(PUSH, Answer::Hang);
        }
        let app = stage.app.clone();
        let sender = tokio::spawn(async move { message::deliver(&app, "shop", "node-1").await });
        stage.line.wait_for_calls(PUSH, 257).await;
        stage.execute("UPDATE requests SET next_attempt_at = 0 WHERE note IS NOT NULL").await;
        while stage.texts("SELECT id FROM requests WHERE attempts = 2").await.is_empty() {
            tokio::task::yield_now().await;
        }

        stage.advance(24 * 3600);
        for _ in 0..256 {
            stage.line.release();
        }
        sender.await.unwrap().unwrap();
        stage.advance(3600);
        while message::deliver(&stage.app, "shop", "node-1").await.unwrap() > 0 {}
        let calls = stage.line.calls(PUSH);
        let keys: BTreeSet<&str> = calls.iter().map(|call| call.header("x-line-retry-key")).collect();
        assert_eq!((calls.len(), keys.len()), (258, 258), "each key once");
        let others = "SELECT line_user_id || ' ' || state FROM deliveries WHERE state <> 'sent'";
        assert_eq!(stage.texts(others).await, ["in-doubt unknown"]);
    }
}

// ---- X40

/// A node that comes up to a backlog, after LINE was away, stays below LINE's limit from its first moment on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x40_a_backlog_is_sent_below_the_limit_when_line_is_back() {
    for engine in ENGINES {
        let edit = |config: &mut musubi::config::Config| {
            config.channel.get_mut("main").unwrap().pushes_per_second = 60;
        };
        let app = &TestApp::start_with(engine, edit).await;
        let rate = json!({ "endpoint": "POST /v2/bot/message/push", "calls": 60 });
        app.sim(axum::http::Method::POST, &format!("/_sim/bots/{BOT_CHANNEL}/rate"), rate).await;
        let mut messages = Vec::new();
        for _ in 0..20 {
            let user = friend(app).await;
            for number in 0..10 {
                messages.push(send(app, &user, &format!("message {number}.")).await);
            }
        }
        worker::drain(&elsewhere(app, &closed_port().await)).await.unwrap();
        assert_eq!(pushes(app).await.len(), 0);

        app.execute("UPDATE send_pauses SET paused_until = 0").await;
        let db = Db::connect(&app.database_url).await.unwrap();
        let restarted = App::new(app.app.config.clone(), db, app.clock.clone()).unwrap();
        while app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM deliveries WHERE state <> 'sent'").await > 0 {
            message::deliver(&restarted, "main", "restarted").await.unwrap();
        }
        let statuses: BTreeSet<_> = pushes(app).await.iter().map(|call| call["status"].as_u64().unwrap()).collect();
        assert_eq!(statuses, BTreeSet::from([200]), "LINE never said that it was too fast");
        assert_eq!(delivered(app).await.0.values().sum::<u64>(), 200);
        restarted.db.close().await;
        app.end().await;
    }
}

// ---- X06

/// What may happen between two tries of a request: something that would change what is sent, or to whom.
const CHANGES: [&str; 6] = [
    "UPDATE members SET name = 'Somebody else', locale = 'ja', time_zone = 'Asia/Tokyo'",
    "UPDATE links SET ended_at = 1 WHERE id = (SELECT MAX(id) FROM links WHERE ended_at IS NULL)",
    "UPDATE links SET suspended_at = 1",
    "UPDATE members SET disabled_at = 1 WHERE id = (SELECT MIN(id) FROM members WHERE disabled_at IS NULL)",
    "UPDATE messages SET source = '{\"\":{\"type\":\"text\",\"text\":\"edited\"}}', data = '{\"day\":\"Sunday\"}'",
    "INSERT INTO topic_opt_outs (member_id, topic, created_at) SELECT id, 'news', 1 FROM members
     WHERE id NOT IN (SELECT member_id FROM topic_opt_outs WHERE topic = 'news')",
];

/// How a try ends, and what changes after it.
type Step = (usize, Vec<usize>);

fn ending(number: usize) -> Value {
    let endpoint = "POST /v2/bot/message/";
    match number {
        0 => json!({ "endpoint": endpoint, "cut": "before" }),
        1 => json!({ "endpoint": endpoint, "cut": "after" }),
        2 => json!({ "endpoint": endpoint, "status": 500 }),
        3 => json!({ "endpoint": endpoint, "status": 503, "replace_body": {} }),
        _ => json!({ "endpoint": endpoint, "status": 429 }),
    }
}

/// A request's body is frozen with its key: whatever changes between its tries, LINE is asked the same again.
#[test]
fn x06_whatever_changes_a_repeat_says_the_same_to_the_same_people() {
    for engine in ENGINES {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let app = runtime.block_on(TestApp::start(engine));
        let cases = if full() { 300 } else { 16 };
        let mut runner =
            TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) });
        let steps = vec((0_usize..5, vec(0_usize..=CHANGES.len(), 0..4)), 1..5);
        let story = (1_usize..5, any::<bool>(), steps);
        let played = runner.run(&story, |(people, is_equal, steps)| {
            runtime.block_on(play(&app, people, is_equal, &steps));
            Ok(())
        });
        assert!(played.is_ok(), "{}", played.unwrap_err());
        runtime.block_on(app.end());
    }
}

async fn play(app: &TestApp, people: usize, is_equal: bool, steps: &[Step]) {
    // Earlier stories are over.
    app.execute("UPDATE links SET ended_at = 1 WHERE ended_at IS NULL").await;
    app.execute("UPDATE members SET disabled_at = 1 WHERE disabled_at IS NULL").await;
    let mut users = Vec::new();
    for _ in 0..people {
        users.push(friend(app).await);
    }
    let template = if is_equal { text("Open on {{day}}") } else { text("{{member.name}}, open on {{day}}") };
    let id = bulk(app, &users, template, json!({ "day": "Monday" })).await;
    sqlx::query("UPDATE messages SET topic = 'news' WHERE id = $1")
        .bind(&id)
        .execute(&mut *app.app.db.conn().await.unwrap())
        .await
        .unwrap();
    let before = app.calls_to("/v2/bot/message/").await.len();
    for (end, changes) in steps {
        app.fault(ending(*end)).await;
        deliver(&app.app).await;
        app.clear_faults().await;
        for change in changes {
            match CHANGES.get(*change) {
                Some(statement) => app.execute(statement).await,
                None => assert!(message::cancel_message(&app.app, &id).await.unwrap()),
            }
        }
        assert!(counts(app, &id).await.add_up());
        app.clock.advance(ROUND);
    }
    deliver(&app.app).await;

    let counts = counts(app, &id).await;
    assert!(counts.add_up() && counts.waiting + counts.sending == 0, "{counts:?}");
    let mut bodies: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for call in &app.calls_to("/v2/bot/message/").await[before..] {
        let key = call["retry_key"].as_str().unwrap().to_owned();
        bodies.entry(key).or_default().insert(call["body"].to_string());
    }
    assert!(bodies.values().all(|bodies| bodies.len() == 1), "a repeat said something else: {bodies:?}");
    let mut seen = 0;
    for user in &users {
        let said = said(app, user).await;
        assert!(said.len() <= 1, "{user} saw it twice: {said:?}");
        seen += said.len();
    }
    assert_eq!(i64::try_from(seen).unwrap(), counts.sent, "{counts:?}");
}
