//! The same request again: the same answer, one effect.

use axum::http::{Method, StatusCode};
use musubi::{
    api::{idempotency, key},
    member::guard::Scope,
    worker,
};
use serde_json::Value;

use crate::support::{
    Engine, at_once, both_engines,
    process::{Place, start_server, start_simulator},
};

const CANCEL: &str = "/api/v1/messages/m0/cancel";

async fn add_message(app: &crate::support::TestApp) {
    app.execute(
        "INSERT INTO messages (id, channel, lane, cause, template, locale, accepted, expanded_at, created_at)
         VALUES ('m0', 'main', 'bulk', 'test', '', 'en', 0, 1, 1), ('m1', 'main', 'bulk', 'test', '', 'en', 0, 1, 1)",
    )
    .await;
}

both_engines! {
    async fn the_same_request_has_the_same_answer(app) {
        add_message(app).await;
        let (key, other) = (app.key(Scope::ALL).await, app.key(Scope::ALL).await);
        let first = app.api_once(&key, CANCEL, Value::Null, "a key").await;
        assert_eq!(first.status, StatusCode::OK, "{}", first.body);
        assert!(!first.headers.contains_key("idempotent-replayed"));
        // What is there now is not what was then.
        app.execute("UPDATE messages SET topic = 'later' WHERE id = 'm0'").await;
        let again = app.api_once(&key, CANCEL, Value::Null, "a key").await;
        assert_eq!((again.status, &again.body), (first.status, &first.body));
        assert_eq!(again.headers["idempotent-replayed"], "true");
        assert_eq!(again.headers["content-type"], first.headers["content-type"]);
        let elsewhere = app.api_once(&key, "/api/v1/messages/m1/cancel", Value::Null, "a key").await;
        assert_eq!((elsewhere.status, elsewhere.problem().as_str()), (StatusCode::CONFLICT, "idempotency_key_reused"));
        // Another API key has keys of its own.
        let others = app.api_once(&other, CANCEL, Value::Null, "a key").await;
        assert!(others.body.contains("later") && !others.headers.contains_key("idempotent-replayed"));
        // A refusal is an answer too.
        let none = app.api_once(&key, "/api/v1/messages/none/cancel", Value::Null, "b").await;
        let again = app.api_once(&key, "/api/v1/messages/none/cancel", Value::Null, "b").await;
        assert_eq!((none.problem().as_str(), &none.body, again.status), ("not_found", &again.body, none.status));
        assert_eq!(again.headers["content-type"], "application/problem+json");
        assert!(!app.dump(&[]).await.iter().any(|row| row.contains("a key") || row.starts_with("api_requests:") && row.contains("later")));
        // A day later the key is forgotten.
        app.clock.advance(idempotency::KEPT);
        let later = app.api_once(&key, CANCEL, Value::Null, "a key").await;
        assert!(later.body.contains("later") && !later.headers.contains_key("idempotent-replayed"));
        app.clock.advance(idempotency::KEPT);
        worker::prune(&app.app, "test").await.unwrap();
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM api_requests").await, 0);
    }

    async fn keys_are_checked(app) {
        let key = app.key(Scope::ALL).await;
        for bad in ["".to_owned(), "x".repeat(256), "ä".to_owned(), "a\tb".to_owned()] {
            let mut request = app.api_request(&key, Method::POST, CANCEL, &Value::Null);
            request.headers_mut().insert("idempotency-key", axum::http::HeaderValue::from_bytes(bad.as_bytes()).unwrap());
            let answer = app.answer(request).await;
            assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::BAD_REQUEST, "invalid_idempotency_key"), "{bad:?}");
        }
        let mut twice = app.api_request(&key, Method::POST, CANCEL, &Value::Null);
        twice.headers_mut().append("idempotency-key", "a".parse().unwrap());
        twice.headers_mut().append("idempotency-key", "a".parse().unwrap());
        assert_eq!(app.answer(twice).await.problem(), "invalid_idempotency_key");
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM api_requests").await, 0);
    }

    async fn at_one_time_there_is_one_effect(app) {
        add_message(app).await;
        let key = app.key(Scope::ALL).await;
        let request = || {
            let mut request = app.api_request(&key, Method::POST, CANCEL, &Value::Null);
            request.headers_mut().insert("idempotency-key", "once".parse().unwrap());
            request
        };
        let answers = at_once(app, (0..20).map(|_| request()).collect()).await;
        let mut bodies: Vec<&String> = Vec::new();
        for answer in &answers {
            match answer.status {
                StatusCode::OK => bodies.push(&answer.body),
                _ => {
                    assert_eq!(answer.problem(), "idempotency_in_progress");
                    assert_eq!(answer.headers["retry-after"], "1");
                }
            }
        }
        assert!(!bodies.is_empty() && bodies.iter().all(|body| *body == bodies[0]));
        let fresh = answers.iter().filter(|answer| answer.status.is_success() && !answer.headers.contains_key("idempotent-replayed"));
        assert_eq!(fresh.count(), 1);
        assert_eq!(app.count("SELECT fence FROM api_requests").await, 1, "it was carried out once");
    }

    /// A process that died left a reservation: until its lease is over it holds, then somebody else carries on.
    async fn a_reservation_outlives_nobody(app) {
        add_message(app).await;
        let key = app.key(Scope::ALL).await;
        app.api_once(&key, CANCEL, Value::Null, "once").await;
        let clock = app.app.db.now(&mut app.app.db.conn().await.unwrap()).await.unwrap();
        let lease = |until: i64| sqlx::query("UPDATE api_requests SET status = NULL, sealed = NULL, leased_until = $1").bind(until);
        lease(clock.0 + 60_000).execute(&mut *app.app.db.conn().await.unwrap()).await.unwrap();
        assert_eq!(app.api_once(&key, CANCEL, Value::Null, "once").await.problem(), "idempotency_in_progress");
        lease(clock.0 - 1).execute(&mut *app.app.db.conn().await.unwrap()).await.unwrap();
        let answer = app.api_once(&key, CANCEL, Value::Null, "once").await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(app.count("SELECT fence FROM api_requests").await, 2);
        assert_eq!(app.api_once(&key, CANCEL, Value::Null, "once").await.headers["idempotent-replayed"], "true");
    }
}

/// A server that dies between a message and its kept answer: the next try finds the same message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_not_sent_again_after_a_kill() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let place = Place::new(engine).await;
        let (simulator, line) = start_simulator(&place);
        let config = place.config("musubi.toml", &line.0.base, "listen = \"127.0.0.1:0\"");
        let (server, base) = start_server(&config, &[("MUSUBI_KILL_AT", "api.answered")]);
        let app = place.app(&config).await;
        crate::support::process::add_member(&app, "hanako@example.jp").await;
        let per_minute = std::num::NonZeroU32::new(600).unwrap();
        let new = key::New { name: "test", scopes: Scope::ALL, providers: &[], expires_at: None, per_minute };
        let key = key::create(&app, &new).await.unwrap();
        let host = app.config.public_url.authority().to_owned();
        let send = async |base: &str| {
            let browser = crate::support::process::Browser::new(base, base);
            let body = r#"{"to":{"all":true},"messages":[{"type":"text","text":"hello"}]}"#;
            let request =
                browser.client.post(format!("{base}/api/v1/messages")).header("host", &host).bearer_auth(&key);
            let request = request.header("idempotency-key", "once").header("content-type", "application/json");
            request.body(body).send().await
        };
        assert!(send(&base).await.is_err(), "it died before it answered");
        server.end_by_abort();
        let ids = "SELECT CAST(COUNT(*) AS BIGINT) FROM messages";
        let count =
            async || -> i64 { sqlx::query_scalar(ids).fetch_one(&mut *app.db.conn().await.unwrap()).await.unwrap() };
        assert_eq!(count().await, 1);
        let (server, base) = start_server(&config, &[]);
        let early = send(&base).await.unwrap();
        assert_eq!((early.status().as_u16(), &early.headers()["retry-after"]), (409, &"1".parse().unwrap()));
        place.execute("UPDATE api_requests SET leased_until = 0").await;
        for replayed in [false, true] {
            let answer = send(&base).await.unwrap();
            assert_eq!(
                (answer.status().as_u16(), answer.headers().contains_key("idempotent-replayed")),
                (202, replayed)
            );
        }
        assert_eq!(count().await, 1);
        server.stop();
        app.db.close().await;
        simulator.stop();
        place.end().await;
    }
}
