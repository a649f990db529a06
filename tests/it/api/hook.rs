//! Hooks by the API.

use axum::http::{Method, StatusCode};
use musubi::member::guard::Scope;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::support::{TestApp, both_engines, receiver::Receiver};

const HOOKS: &str = "/api/v1/hooks";
const BOTH: [Scope; 2] = [Scope::HooksRead, Scope::HooksWrite];

async fn make(app: &TestApp, key: &str, body: Value) -> Value {
    let answer = app.api(key, Method::POST, HOOKS, body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    answer.json()
}

both_engines! {
    /// Its whole life: the secret is shown when it is made and when it changes, and never else.
    async fn a_hook_lives_by_the_api(app) {
        let key = app.key(&BOTH).await;
        let order = json!({ "url": "https://hooks.example.jp/musubi", "description": "Booking", "types": ["link.ended", "link.created"] });
        let made = make(app, &key, order).await;
        let (id, secret) = (made["hook"]["id"].as_str().unwrap().to_owned(), made["secret"].as_str().unwrap().to_owned());
        assert!(secret.starts_with("whsec_"));
        assert_eq!(made["hook"]["types"], json!(["link.created", "link.ended"]));
        assert!(secret.trim_end_matches('=').ends_with(made["hook"]["secret"]["last4"].as_str().unwrap()));
        let path = format!("{HOOKS}/{id}");
        let shown = app.api(&key, Method::GET, &path, Value::Null).await;
        assert_eq!(shown.json(), made["hook"]);
        let listed = app.api(&key, Method::GET, HOOKS, Value::Null).await;
        assert_eq!(listed.json(), json!({ "items": [made["hook"]], "next_cursor": null }));
        let changed = app.api(&key, Method::PATCH, &path, json!({ "types": [], "is_enabled": false })).await.json();
        assert_eq!((&changed["types"], &changed["is_enabled"], &changed["disabled_reason"]), (&json!([]), &json!(false), &json!("company")));
        assert_eq!(changed["description"], "Booking");
        let rotated = app.api(&key, Method::POST, &format!("{path}/rotate-secret"), Value::Null).await.json();
        assert_ne!(rotated["secret"], secret.as_str());
        assert!(rotated["hook"]["secret"]["former_until"].is_string());
        let new = rotated["secret"].as_str().unwrap().to_owned();
        for path in [HOOKS.to_owned(), path.clone(), format!("{path}/deliveries")] {
            let body = app.api(&key, Method::GET, &path, Value::Null).await.body;
            assert!(!body.contains(&secret) && !body.contains(&new), "{path}: {body}");
        }
        let gone = app.api(&key, Method::DELETE, &path, Value::Null).await;
        assert_eq!((gone.status, gone.body.as_str()), (StatusCode::NO_CONTENT, ""));
        for method in [Method::GET, Method::DELETE] {
            assert_eq!(app.api(&key, method, &path, Value::Null).await.problem(), "not_found");
        }
        let audit = app.audit().await;
        for action in ["hook_created/", "hook_disabled/", "hook_secret_rotated/", "hook_deleted/"] {
            assert!(audit.contains(&action.to_owned()), "{action}: {audit:?}");
        }
    }

    async fn j08_a_hook_into_the_companys_own_network_is_refused(app) {
        let key = app.key(&BOTH).await;
        let before = app.dump(&["api_keys"]).await;
        for url in [
            "http://hooks.example.jp/", "https://127.0.0.1/", "https://[::1]/", "https://0x7f.1/", "https://2130706433/",
            "https://[::ffff:10.0.0.1]/", "https://169.254.169.254/latest/meta-data/", "https://good.example.jp@10.0.0.1/",
            "https://hooks.example.jp:6379/", "file:///etc/passwd", "", "hooks",
        ] {
            let answer = app.api(&key, Method::POST, HOOKS, json!({ "url": url })).await;
            assert_eq!((answer.problem(), answer.places()), ("invalid".to_owned(), vec!["url".to_owned()]), "{url}");
        }
        assert_eq!(app.dump(&["api_keys"]).await, before);
    }

    /// What is wrong is told by its place; what belongs to another provider is not there.
    async fn a_hook_is_of_its_provider(app) {
        let (all, other) = (app.key(&BOTH).await, app.key_for(&BOTH, &["other"]).await);
        let made = make(app, &all, json!({ "url": "https://hooks.example.jp/" })).await;
        let path = format!("{HOOKS}/{}", made["hook"]["id"].as_str().unwrap());
        assert_eq!(app.api(&other, Method::GET, HOOKS, Value::Null).await.json()["items"], json!([]));
        for (method, path, body) in [
            (Method::GET, path.clone(), Value::Null),
            (Method::PATCH, path.clone(), json!({ "is_enabled": false })),
            (Method::DELETE, path.clone(), Value::Null),
            (Method::POST, format!("{path}/test"), Value::Null),
            (Method::POST, format!("{path}/rotate-secret"), Value::Null),
            (Method::POST, format!("{path}/replay"), json!({ "from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z" })),
            (Method::GET, format!("{path}/deliveries"), Value::Null),
        ] {
            assert_eq!(app.api(&other, method.clone(), &path, body).await.problem(), "not_found", "{method} {path}");
        }
        let url = "https://hooks.example.jp/";
        for (key, body, place) in [
            (&other, json!({ "url": url }), "provider"),
            (&other, json!({ "url": url, "provider": "main" }), "provider"),
            (&other, json!({ "url": url, "channel": "main" }), "channel"),
            (&all, json!({ "url": url, "channel": "nowhere" }), "channel"),
            (&all, json!({ "url": url, "types": ["link.made"] }), "types[0]"),
            (&all, json!({ "url": url, "secret": "mine" }), "secret"),
        ] {
            let answer = app.api(key, Method::POST, HOOKS, body.clone()).await;
            assert_eq!((answer.problem(), answer.places()), ("invalid".to_owned(), vec![place.to_owned()]), "{body}");
        }
        let still = app.api(&all, Method::GET, &path, Value::Null).await.json();
        assert_eq!(still, made["hook"]);
    }
}

/// From the API to the receiver and back to the log, page by page, and once more.
async fn told(app: &TestApp) {
    let receiver = Receiver::start().await;
    let key = app.key(&BOTH).await;
    let made = make(app, &key, json!({ "url": receiver.url })).await;
    let secret: SecretString = made["secret"].as_str().unwrap().to_owned().into();
    let path = format!("{HOOKS}/{}", made["hook"]["id"].as_str().unwrap());
    let mut ids = Vec::new();
    for _ in 0..3 {
        let asked = app.api(&key, Method::POST, &format!("{path}/test"), Value::Null).await;
        assert_eq!(asked.status, StatusCode::ACCEPTED, "{}", asked.body);
        ids.push(asked.json()["event_id"].as_str().unwrap().to_owned());
    }
    app.drain().await;
    let heard = receiver.heard();
    assert!(
        heard.len() == 3 && heard.iter().all(|one| one.is_signed_by(&secret) && ids.contains(&one.id().to_owned()))
    );
    assert_eq!(receiver.types(), ["hook.test"; 3]);

    let (mut pages, mut query) = (Vec::new(), "?limit=2".to_owned());
    loop {
        let page = app.api(&key, Method::GET, &format!("{path}/deliveries{query}"), Value::Null).await.json();
        pages.extend(page["items"].as_array().unwrap().clone());
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        query = format!("?limit=2&cursor={cursor}");
    }
    ids.reverse();
    assert_eq!(pages.iter().map(|line| line["event_id"].as_str().unwrap()).collect::<Vec<_>>(), ids);
    assert!(pages.iter().all(|line| line["state"] == "delivered" && line["status"] == 204 && line["attempts"] == 1));

    app.linked("hanako@example.jp").await;
    receiver.forget();
    let day = json!({ "from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z" });
    let again = app.api(&key, Method::POST, &format!("{path}/replay"), day).await;
    assert_eq!((again.status, again.json()), (StatusCode::ACCEPTED, json!({ "events": 2, "continue_after": null })));
    app.drain().await;
    let mut types = receiver.types();
    types.sort();
    assert_eq!(types, ["link.created", "user.followed"]);
    for (from, to, places) in [
        ("2020-01-01", "2100-01-01T00:00:00Z", vec!["from"]),
        ("2100-01-01T00:00:00Z", "2020-01-01T00:00:00Z", vec!["to"]),
    ] {
        let answer = app.api(&key, Method::POST, &format!("{path}/replay"), json!({ "from": from, "to": to })).await;
        assert_eq!(
            (answer.problem(), answer.places()),
            ("invalid".to_owned(), places.into_iter().map(str::to_owned).collect())
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_told_is_in_the_log_and_told_again() {
    for engine in crate::kill::ENGINES {
        let app = crate::hook::start(engine).await;
        told(&app).await;
        app.end().await;
    }
}
