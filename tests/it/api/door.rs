//! Keys: what is refused, and how.

use std::num::NonZeroU32;

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use musubi::{
    api::key,
    member::guard::{Scope, Who},
    routes,
};
use serde_json::{Value, json};

use crate::{
    support::{Answer, TestApp, both_engines, read},
    webhook::signed,
};

/// A path of a route, with something in its places.
pub fn concrete(path: &str) -> String {
    let parts =
        path.split('/').map(|part| if part.starts_with('{') { "0198c5a2-7d3e-7b1a-9c41-5f0e8a6b2d10" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

fn body_for(method: &Method) -> Value {
    if matches!(*method, Method::POST | Method::PUT | Method::PATCH) { json!({}) } else { Value::Null }
}

/// Refused as every bad key is; gives the face without the request's id.
fn unauthorized(answer: &Answer) -> Value {
    assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::UNAUTHORIZED, "unauthorized"));
    assert_eq!(answer.headers[header::WWW_AUTHENTICATE], "Bearer realm=\"musubi\"");
    assert!(!answer.headers.contains_key(header::SET_COOKIE));
    let mut face = answer.json();
    face["request_id"] = Value::Null;
    face
}

async fn key_with(app: &TestApp, per_minute: u32) -> String {
    let per_minute = NonZeroU32::new(per_minute).unwrap();
    let new = key::New { name: "slow", scopes: Scope::ALL, providers: &[], expires_at: None, per_minute };
    key::create(&app.app, &new).await.unwrap()
}

both_engines! {
    async fn a01_every_bad_key_is_refused_alike(app) {
        let good = app.key(Scope::ALL).await;
        let (id, secret) = good.strip_prefix("msb_").unwrap().split_once('_').unwrap();
        let other = app.key(Scope::ALL).await;
        let other_secret = other.rsplit_once(&other[..13]).unwrap().1;
        let revoked = app.key(Scope::ALL).await;
        let expires_at = Some(app.app.now().plus(std::time::Duration::from_secs(60)));
        let per_minute = NonZeroU32::new(600).unwrap();
        let new = key::New { name: "short", scopes: Scope::ALL, providers: &[], expires_at, per_minute };
        let expiring = key::create(&app.app, &new).await.unwrap();
        // Another node of the same installation.
        let node = musubi::app::App::new(app.app.config.clone(), app.app.db.clone(), app.clock.clone()).unwrap();
        let node = routes::router(&node);
        for token in [&good, &revoked, &expiring] {
            let answer = app.api(token, Method::GET, "/api/v1/messages", Value::Null).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
            assert!(!answer.headers.contains_key(header::SET_COOKIE));
        }
        assert!(key::revoke(&app.app, &revoked[4..12]).await.unwrap());
        assert!(!key::revoke(&app.app, &revoked[4..12]).await.unwrap(), "once");
        app.clock.advance(std::time::Duration::from_secs(61));
        let before = app.dump(&[]).await;
        let mut faces = Vec::new();
        for token in [
            "".to_owned(), "x".to_owned(), id.to_owned(), format!("msb_{id}"), format!("msb_{id}_"), format!("msb_{id}_{secret}x"),
            format!("msb_ABCDEFGH_{secret}"), format!("msb_{id}_{other_secret}"), format!("msb_{id}_{}", "a".repeat(43)),
            format!("msb_%00%00%00%00_{secret}"), format!("msb_' OR 1=1_{secret}"), "eyJhbGciOiJIUzI1NiJ9.e30.x".to_owned(), revoked, expiring,
        ] {
            for router in [&app.router, &node] {
                use tower::ServiceExt;
                let request = app.api_request(&token, Method::GET, "/api/v1/messages", &Value::Null);
                faces.push(unauthorized(&read(router.clone().oneshot(request).await.unwrap()).await));
            }
        }
        for value in [format!("Basic {good}"), good.clone(), format!("Bearer{good}"), "Bearer".to_owned()] {
            let request = Request::get("/api/v1/messages").header(header::HOST, "members.example.jp");
            faces.push(unauthorized(&app.answer(request.header(header::AUTHORIZATION, value).body(Body::empty()).unwrap()).await));
        }
        let mut twice = app.api_request(&good, Method::GET, "/api/v1/messages", &Value::Null);
        twice.headers_mut().append(header::AUTHORIZATION, format!("Bearer {good}").parse().unwrap());
        faces.push(unauthorized(&app.answer(twice).await));
        faces.dedup();
        assert_eq!(faces.len(), 1, "{faces:#?}");
        assert_eq!(app.dump(&[]).await, before);
        let answer = app.api(&good, Method::GET, "/api/v1/messages", Value::Null).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    }

    /// Each route by a key with each scope: its own opens it, every other one is refused and noted.
    async fn a03_each_route_needs_its_scope(app) {
        let mut keys = Vec::new();
        for scope in Scope::ALL {
            keys.push((*scope, app.key(&[*scope]).await));
        }
        let refusals = "SELECT CAST(COUNT(*) AS BIGINT) FROM audit WHERE action = 'api_refused' AND reason = 'scope'
                        AND actor LIKE 'key:%'";
        let (mut routes_seen, mut refused) = (0, 0);
        for route in routes::all() {
            let Who::Key(needed) = route.who else { continue };
            routes_seen += 1;
            for (scope, key) in &keys {
                let answer = app.api(key, route.method.clone(), &concrete(route.path), body_for(&route.method)).await;
                let what = format!("{} {} by {scope}: {} {}", route.method, route.path, answer.status, answer.body);
                assert!(!answer.status.is_server_error(), "{what}");
                if *scope == needed {
                    assert!(![401, 403].contains(&answer.status.as_u16()), "{what}");
                } else {
                    assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::FORBIDDEN, "forbidden"), "{what}");
                    assert!(answer.body.contains(needed.word()), "{what}");
                    refused += 1;
                }
                assert_eq!(app.count(refusals).await, refused, "{what}");
            }
        }
        assert!(routes_seen > 2);
    }

    async fn a04_a_key_is_in_its_header_only(app) {
        let key = app.key(Scope::ALL).await;
        app.member("hanako@example.jp", "Hanako").await;
        let mut member = app.signed_in("hanako@example.jp").await;
        for name in ["key", "api_key", "token", "access_token", "Authorization"] {
            for header in ["", &key] {
                let answer = app.api(header, Method::GET, &format!("/api/v1/messages?{name}={key}"), Value::Null).await;
                assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::BAD_REQUEST, "key_in_url"), "{name}");
                assert!(!answer.body.contains(&key[13..]));
            }
        }
        // A session, or a key in a cookie, opens nothing; with a key, a session is not looked at.
        let answer = member.get("/api/v1/messages").await;
        unauthorized(&answer);
        member.cookies.insert("key".into(), key.clone());
        let answer = member.get("/api/v1/messages").await;
        unauthorized(&answer);
        let request = member.request(Method::GET, "/api/v1/messages").header(header::AUTHORIZATION, format!("Bearer {key}"));
        let answer = member.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(!answer.headers.contains_key(header::SET_COOKIE));
        // And a key is no session.
        let request = app.visitor().request(Method::GET, "/account").header(header::AUTHORIZATION, format!("Bearer {key}"));
        let answer = app.visitor().send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
    }

    async fn a08_a_key_has_its_rate_and_others_have_theirs(app) {
        let (slow, other) = (key_with(app, 3).await, key_with(app, 3).await);
        for _ in 0..3 {
            assert_eq!(app.api(&slow, Method::GET, "/api/v1/messages", Value::Null).await.status, StatusCode::OK);
        }
        for _ in 0..27 {
            let answer = app.api(&slow, Method::GET, "/api/v1/messages", Value::Null).await;
            assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::TOO_MANY_REQUESTS, "rate_limited"));
            let wait: u64 = answer.headers[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
            assert!((1..=21).contains(&wait), "{wait}");
        }
        assert_eq!(app.api(&other, Method::GET, "/api/v1/messages", Value::Null).await.status, StatusCode::OK);
        assert_eq!(signed(app, r#"{"destination":"x","events":[]}"#).await.status, StatusCode::OK);
        assert_eq!(app.visitor().get("/").await.status, StatusCode::OK);
    }

    async fn a09_numbers_and_cursors_are_taken_as_given_only(app) {
        let key = app.key(Scope::ALL).await;
        let get = async |key: &str, path: &str| app.api(key, Method::GET, path, Value::Null).await;
        for query in [
            "limit=-1", "limit=0", "limit=201", "limit=1000000000", "limit=NaN", "limit=", "limit=1.5", "limit=%2B1", "limit=1e2",
            "limit=1&limit=2", "sort=%3BDROP", "limit=%00", "offset=3",
        ] {
            let answer = get(&key, &format!("/api/v1/messages?{query}")).await;
            assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::BAD_REQUEST, "invalid_parameter"), "{query}");
            assert_eq!(answer.places(), [query.split('=').next().unwrap()], "{query}");
        }
        for number in 0..3 {
            let text = format!(
                "INSERT INTO messages (id, channel, lane, cause, template, locale, accepted, expanded_at, created_at)
                 VALUES ('m{number}', 'main', 'bulk', 'test', '', 'en', 0, 1, 1)"
            );
            let mut conn = app.app.db.conn().await.unwrap();
            sqlx::query(sqlx::AssertSqlSafe(text)).execute(&mut *conn).await.unwrap();
        }
        let page = get(&key, "/api/v1/messages?limit=2").await.json();
        assert_eq!((&page["items"][0]["id"], &page["items"][1]["id"]), (&json!("m2"), &json!("m1")));
        let cursor = page["next_cursor"].as_str().unwrap();
        let rest = get(&key, &format!("/api/v1/messages?cursor={cursor}&limit=1")).await.json();
        assert_eq!((&rest["items"][0]["id"], &rest["next_cursor"]), (&json!("m0"), &Value::Null));
        let (text, signature) = cursor.split_once('.').unwrap();
        let other = app.key(Scope::ALL).await;
        for (key, cursor) in [
            (&key, "".to_owned()), (&key, "x".to_owned()), (&key, format!("bTA.{signature}")), (&key, text.to_owned()), (&key, format!("{text}.")),
            (&key, format!("{cursor}A")), (&key, format!(".{signature}")), (&other, cursor.to_owned()),
        ] {
            let answer = get(key, &format!("/api/v1/messages?cursor={cursor}")).await;
            assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "invalid_cursor"), "{cursor}");
        }
    }

    /// What the framework would answer by itself has the face of a program too.
    async fn every_refusal_is_a_problem(app) {
        let key = app.key(Scope::ALL).await;
        for path in ["/api/", "/api/v1", "/api/v1/", "/api/v1/nothing", "/api/v2/messages", "/api/v1/messages/", "/api/v1/messages/%00", "/api/v1/messages/%ff", "/api/v1/messages/..%2f..%2fetc%2fpasswd"] {
            let answer = app.api(&key, Method::GET, path, Value::Null).await;
            assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::NOT_FOUND, "not_found"), "{path}");
        }
        for (path, allow) in [("/api/v1/messages/x/cancel", "POST"), ("/api/openapi.json", "GET,HEAD")] {
            let answer = app.api("", Method::DELETE, path, Value::Null).await;
            assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"));
            assert_eq!(answer.headers[header::ALLOW], allow);
        }
        let mut foreign = app.api_request(&key, Method::GET, "/api/v1/messages", &Value::Null);
        foreign.headers_mut().insert(header::HOST, "evil.example".parse().unwrap());
        let mut long = app.api_request(&key, Method::GET, "/api/v1/messages", &Value::Null);
        long.headers_mut().insert("x-long", "b".repeat(20_000).parse().unwrap());
        for (request, status, id) in [(foreign, 400, "bad_request"), (long, 431, "head_too_large")] {
            let answer = app.answer(request).await;
            assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (status, id));
        }
    }

    /// The audit tells who made and revoked a key, and by which key something was done.
    async fn keys_are_audited_and_kept_as_hashes(app) {
        let key = app.key(&[Scope::MessagesRead]).await;
        app.api(&key, Method::GET, "/api/v1/messages", Value::Null).await;
        let secret = key.splitn(3, '_').nth(2).unwrap();
        let rows = app.dump(&[]).await;
        assert!(!rows.iter().any(|row| row.contains(secret)), "the secret is nowhere");
        assert!(rows.iter().any(|row| row.starts_with("api_keys:") && row.contains(&musubi::seal::hash(secret))));
        musubi::api::key::revoke(&app.app, &key[4..12]).await.unwrap();
        assert_eq!(app.audit().await, ["api_key_created/", "api_key_revoked/"]);
        let used = app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM api_keys WHERE last_used_at IS NOT NULL").await;
        assert_eq!(used, 1);
    }
}
