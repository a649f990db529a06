//! Sending while LINE fails in every way it can: each person gets each message once, and the counts add up.
#![expect(clippy::panic, reason = "a test that cannot go on fails, and says why")]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use axum::{
    Router,
    http::{HeaderValue, Method, header},
    middleware,
    response::Response,
};
use musubi::{
    app::App,
    channel::{self, Kind},
    message::{self, Counts, New, Tie, To},
    worker,
};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tokio::{net::TcpListener, sync::oneshot};

use crate::{
    stub::{Answer, insert_linked, stages},
    support::{TestApp, both_engines},
};

pub const PUSH: &str = "POST /v2/bot/message/push";
/// Longer than the longest backoff.
pub const ROUND: Duration = Duration::from_secs(11 * 60);
pub const ONE: Counts = Counts { accepted: 1, waiting: 0, sending: 0, sent: 0, failed: 0, unknown: 0, cancelled: 0 };

/// A friend of the bot whose account is linked; gives the LINE user's id, which is also the link's.
pub async fn friend(app: &TestApp) -> String {
    let user = app.line_user("はなこ").await;
    // Standby: nobody greets.
    app.does(&user, "follow", json!({ "standby": true })).await;
    let mut tx = app.app.db.begin().await.unwrap();
    insert_linked(&mut tx, app.app.now(), &user, &user, None).await.unwrap();
    tx.commit().await.unwrap();
    user
}

/// Accepts a welcome that calls the person `name`.
pub async fn send(app: &TestApp, user: &str, name: &str) -> String {
    let data = json!({ "name": name, "company": "Example", "account_url": "https://example.jp/account" });
    let to = To { line_user_id: user, link: Some(Tie { member_id: user, link_id: user }) };
    let new = New { channel: "main", template: "welcome", locale: "en", data: &data, cause: "linked", topic: None, to };
    let mut tx = app.app.db.begin().await.unwrap();
    let id = message::send(&mut tx, &app.app, new).await.unwrap();
    tx.commit().await.unwrap();
    id
}

pub async fn counts(app: &TestApp, id: &str) -> Counts {
    message::counts(&mut app.app.db.conn().await.unwrap(), id).await.unwrap().unwrap()
}

async fn look(app: &TestApp, messages: &[String]) {
    for id in messages {
        let counts = counts(app, id).await;
        assert!(counts.add_up(), "{id}: {counts:?}");
    }
}

pub async fn open(app: &TestApp) -> i64 {
    app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM deliveries WHERE state IN ('waiting', 'sending')").await
}

/// Drains, again and again later, until nothing is open; looks at the counts meanwhile and in between.
pub async fn settle(app: &TestApp, messages: &[String]) {
    for _ in 0..60 {
        tokio::join!(app.drain(), look(app, messages));
        look(app, messages).await;
        if open(app).await == 0 {
            return;
        }
        app.clock.advance(ROUND);
    }
    panic!("{} deliveries are still open", open(app).await);
}

/// How many pushes reached each person, and each key's count of them.
pub async fn delivered(app: &TestApp) -> (BTreeMap<String, u64>, BTreeSet<u64>) {
    let ledger = app.sim(Method::GET, "/_sim/ledger", Value::Null).await;
    let (mut people, mut keys) = (BTreeMap::new(), BTreeSet::new());
    for delivery in ledger["deliveries"].as_array().unwrap() {
        let count = delivery["count"].as_u64().unwrap();
        *people.entry(delivery["user_id"].as_str().unwrap().to_owned()).or_default() += count;
        keys.insert(count);
    }
    (people, keys)
}

pub async fn pushes(app: &TestApp) -> Vec<Value> {
    app.calls_to("/v2/bot/message/push").await
}

pub async fn texts(app: &TestApp, statement: &'static str) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(statement)).fetch_all(&mut *app.app.db.conn().await.unwrap()).await.unwrap()
}

#[expect(clippy::disallowed_methods, reason = "how much is tested is the test run's affair")]
pub fn full() -> bool {
    std::env::var("MUSUBI_TEST_FULL").is_ok()
}

/// Makes the pushes to come fail at random: seven in ten pass, of the others half fail after LINE took them.
async fn script_failures(app: &TestApp, calls: u32) {
    let mut random: u64 = 20;
    for _ in 0..calls {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let status = 500 + (random >> 56) % 5;
        let fault = match (random >> 32) % 100 {
            0..15 => json!({ "endpoint": PUSH, "status": status }),
            15..30 => json!({ "endpoint": PUSH, "status": status, "replace_body": { "message": "after" } }),
            _ => json!({ "endpoint": PUSH }),
        };
        app.fault(fault).await;
    }
}

both_engines! {
    /// LINE fails three times in ten, half of those after it took the message.
    async fn x20_random_failures_lose_nothing_and_repeat_nothing(app) {
        let (people, each) = if full() { (500, 20) } else { (40, 5) };
        let mut messages = Vec::new();
        let mut users = Vec::new();
        for _ in 0..people {
            let user = friend(app).await;
            for number in 0..each {
                messages.push(send(app, &user, &format!("message {number}.")).await);
            }
            users.push(user);
        }
        script_failures(app, people * each * 3).await;

        settle(app, &messages).await;

        for id in &messages {
            assert_eq!(counts(app, id).await, Counts { sent: 1, ..ONE });
        }
        let (reached, keys) = delivered(app).await;
        assert_eq!(reached, users.iter().map(|user| (user.clone(), u64::from(each))).collect());
        assert_eq!(keys, BTreeSet::from([1]), "no key was delivered twice");
        for user in &users {
            let shown = app.phone(user).await["messages"].to_string();
            for number in 0..each {
                assert_eq!(shown.matches(&format!("message {number}.")).count(), 1, "{user} {number}");
            }
        }
        let calls = pushes(app).await;
        let failed = calls.iter().filter(|call| call["status"].as_u64().unwrap() >= 500).count();
        let repeated = calls.iter().filter(|call| call["status"] == 409).count();
        assert!(failed > messages.len() / 5 && repeated > messages.len() / 20, "{failed} failed, {repeated} repeated");
    }

    /// Wherever the answer is lost, the person sees one message.
    async fn x21_each_cut_is_sent_once(app) {
        let times = if full() { 200 } else { 1 };
        let cuts = [
            (json!({ "cut": "before" }), vec![200, 200]),
            (json!({ "cut": "after" }), vec![200, 409]),
            (json!({ "status": 500, "replace_body": {} }), vec![500, 409]),
            (json!({ "status": 504, "truncate": 0 }), vec![504, 409]),
            // The status alone says that LINE has it.
            (json!({ "truncate": 7 }), vec![200]),
            (json!({ "replace_body": "<html>" }), vec![200]),
        ];
        let mut played = Vec::new();
        for (fault, statuses) in cuts.iter().cycle().take(cuts.len() * times) {
            let user = friend(app).await;
            let mut fault = fault.clone();
            fault["endpoint"] = json!(PUSH);
            app.fault(fault.clone()).await;
            let id = send(app, &user, "Hanako").await;
            settle(app, std::slice::from_ref(&id)).await;

            assert_eq!(counts(app, &id).await, Counts { sent: 1, ..ONE }, "{fault}");
            assert_eq!(app.phone(&user).await["messages"].as_array().unwrap().len(), 1, "{fault}");
            played.push((user, fault, statuses));
        }
        let mut calls: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for call in pushes(app).await {
            calls.entry(call["body"]["to"].as_str().unwrap().to_owned()).or_default().push(call);
        }
        for (user, fault, statuses) in played {
            let seen: Vec<_> = calls[&user].iter().map(|call| call["status"].as_u64().unwrap()).collect();
            assert_eq!(&seen, statuses, "{fault}");
            let keys: BTreeSet<_> = calls[&user].iter().map(|call| (call["retry_key"].as_str(), call["body"].to_string())).collect();
            assert_eq!(keys.len(), 1, "{fault}: one key and one body");
        }
        let repeated = "SELECT accepted_request_id FROM requests WHERE accepted_request_id IS NOT NULL";
        assert_eq!(texts(app, repeated).await.len(), 3 * times, "LINE's first answer is kept where a repeat found it");
    }

    /// Without a token nothing is even claimed.
    async fn x22_line_away_before_the_token(app) {
        let user = friend(app).await;
        let id = send(app, &user, "Hanako").await;
        let away = elsewhere(app, &closed_port().await);
        worker::drain(&away).await.unwrap();
        assert_eq!(counts(app, &id).await, Counts { waiting: 1, ..ONE });
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM requests").await, 0);
        assert!(texts(app, "SELECT note FROM send_pauses").await[0].contains("could not be reached"));

        settle(app, std::slice::from_ref(&id)).await;
        assert_eq!(counts(app, &id).await, Counts { sent: 1, ..ONE });
        assert_eq!(delivered(app).await.0[&user], 1);
    }

    /// A refused connection is a definite end: the delivery waits again, under no key.
    async fn x22_line_away_at_the_push(app) {
        let user = friend(app).await;
        let id = send(app, &user, "Hanako").await;
        let (port, gone) = short_lived_line(app.line.clone()).await;
        let away = elsewhere(app, &port);
        channel::token(&away, Kind::Bot("main")).await.unwrap();
        gone.end().await;
        // One turn: the rest that it begins may be a short one.
        assert_eq!(message::deliver(&away, "main", "one").await.unwrap(), 1);
        assert_eq!(counts(app, &id).await, Counts { waiting: 1, ..ONE });
        assert_eq!(texts(app, "SELECT state FROM requests").await, ["refused"]);
        let rests = "SELECT COUNT(*) FROM send_pauses p, requests r WHERE p.paused_until >= r.first_attempt_at";
        assert_eq!(app.count(rests).await, 1, "the channel rests");

        settle(app, std::slice::from_ref(&id)).await;
        assert_eq!(counts(app, &id).await, Counts { sent: 1, ..ONE });
        assert_eq!(texts(app, "SELECT state FROM requests ORDER BY id").await, ["refused", "sent"]);
        assert_eq!(texts(app, "SELECT DISTINCT id FROM requests").await.len(), 2);
        assert_eq!(delivered(app).await.0[&user], 1);
    }

    /// A slow LINE only takes longer.
    async fn x23_slow_answers_are_answers(app) {
        let user = friend(app).await;
        app.fault(json!({ "endpoint": PUSH, "delay_ms": 30, "count": 9 })).await;
        let mut messages = Vec::new();
        for number in 0..9 {
            messages.push(send(app, &user, &format!("Hanako {number}")).await);
        }
        settle(app, &messages).await;
        assert_eq!(pushes(app).await.len(), 9);
        assert_eq!(delivered(app).await.0[&user], 9);
    }

    /// LINE forgets a key after a day: shortly before, an open outcome is given up for good.
    async fn x05_a_day_without_an_answer_is_unknown(app) {
        let user = friend(app).await;
        app.fault(json!({ "endpoint": PUSH, "cut": "after" })).await;
        // A repeat within this moment learns nothing.
        app.fault(json!({ "endpoint": PUSH, "status": 500, "count": 9 })).await;
        let id = send(app, &user, "Hanako").await;
        app.drain().await;
        assert_eq!(counts(app, &id).await, Counts { sending: 1, ..ONE });
        let tried = pushes(app).await.len();

        for later in [(23 * 60 + 31) * 60, 2 * 3600, 30 * 24 * 3600] {
            app.clock.advance(Duration::from_secs(later));
            app.drain().await;
            assert_eq!(counts(app, &id).await, Counts { unknown: 1, ..ONE });
        }
        assert_eq!(pushes(app).await.len(), tried);
        assert_eq!(delivered(app).await.0[&user], 1);
        assert_eq!(texts(app, "SELECT reason FROM deliveries").await, ["no_answer"]);
    }

    /// At 23 hours the key is still good, and LINE says that it has the message.
    async fn x05_after_23_hours_the_key_still_counts(app) {
        let user = friend(app).await;
        app.fault(json!({ "endpoint": PUSH, "cut": "after" })).await;
        let id = send(app, &user, "Hanako").await;
        app.drain().await;
        app.clock.advance(Duration::from_secs(23 * 3600));
        app.drain().await;
        assert_eq!(counts(app, &id).await, Counts { sent: 1, ..ONE });
        assert_eq!(delivered(app).await.0[&user], 1);
    }
}

/// While LINE does not answer, so many are in flight and no more, and pages are served.
#[tokio::test]
async fn x23_a_silent_line_holds_one_batch() {
    for stage in stages("").await {
        for number in 0..300 {
            let name = format!("person-{number}");
            stage.link(&name, None).await;
            let data = json!({ "name": "A", "company": "B", "account_url": "https://example.jp/" });
            let to = To { line_user_id: &name, link: Some(Tie { member_id: &name, link_id: &name }) };
            let new = New {
                channel: "shop",
                template: "welcome",
                locale: "en",
                data: &data,
                cause: "linked",
                topic: None,
                to,
            };
            message::send(&mut stage.app.db.conn().await.unwrap(), &stage.app, new).await.unwrap();
            stage.line.script(PUSH, Answer::Hang);
        }
        let app = stage.app.clone();
        let sender = tokio::spawn(async move { message::deliver(&app, "shop", "node-1").await });
        stage.line.wait_for_calls(PUSH, 256).await;
        assert_eq!(message::deliver(&stage.app, "shop", "node-2").await.unwrap(), 0, "one sender a channel");
        let home = axum::http::Request::get("/healthz").body(axum::body::Body::empty()).unwrap();
        let answer = tower::ServiceExt::oneshot(musubi::routes::router(&stage.app), home).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(stage.line.calls(PUSH).len(), 256, "no more than may be in flight");
        sender.abort();
        let _ = sender.await;
    }
}

// ---- LINE in another place

/// Another node on the same database, for which LINE's API is at `api`.
pub fn elsewhere(app: &TestApp, api: &str) -> App {
    let mut config = app.app.config.clone();
    config.line.api = api.parse().unwrap();
    App::new(config, app.app.db.clone(), app.clock.clone()).unwrap()
}

/// A URL at which nobody listens.
pub async fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// LINE at a place of its own, until it ends; it keeps no connection.
async fn short_lived_line(line: Router) -> (String, ShortLived) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (end, ended) = oneshot::channel::<()>();
    let line = line.layer(middleware::map_response(async |mut response: Response| {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    }));
    let ended = async { ended.await.unwrap_or_default() };
    let serving = tokio::spawn(async move { axum::serve(listener, line).with_graceful_shutdown(ended).await });
    (url, ShortLived { end, serving })
}

struct ShortLived {
    end: oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl ShortLived {
    async fn end(self) {
        self.end.send(()).unwrap();
        self.serving.await.unwrap().unwrap();
    }
}
