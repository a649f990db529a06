//! The rate of costly requests by address, and what every answer carries.

use std::net::SocketAddr;

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{HeaderMap, Method, StatusCode, header},
};
use musubi::{member::guard::Who, routes};
use tower::ServiceExt;

use crate::support::{Answer, Engine, ORIGIN, TestApp, Visitor, both_engines, read};

// ---- by address

fn few(per_minute: u32) -> impl FnOnce(&mut musubi::config::Config) {
    move |config| config.security.requests_per_minute = per_minute.try_into().unwrap()
}

async fn guess(visitor: &mut Visitor<'_>) -> Answer {
    visitor.post("/sign-in", &[("email", "hanako@example.jp"), ("password", "wrong")]).await
}

/// Sends the guess as from `peer`, with headers of a proxy.
async fn guess_from(app: &TestApp, router: &Router, peer: &str, headers: &[(&str, &str)]) -> StatusCode {
    let mut visitor = app.visitor();
    let token = visitor.form_token().await;
    let mut request = visitor.request(Method::POST, "/sign-in").header(header::ORIGIN, ORIGIN);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let body = format!("email=hanako%40example.jp&password=wrong&csrf={token}");
    let mut request = request.body(Body::from(body)).unwrap();
    request.extensions_mut().insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 40000)));
    read(router.clone().oneshot(request).await.unwrap()).await.status
}

#[tokio::test]
async fn costly_requests_of_one_address_are_limited() {
    let app = TestApp::start_with(Engine::Sqlite, few(3)).await;
    let mut visitor = app.visitor();
    for _ in 0..3 {
        assert_eq!(guess(&mut visitor).await.status, StatusCode::UNAUTHORIZED);
    }
    let before = app.dump(&[]).await;
    let refused = [
        guess(&mut visitor).await,
        guess(&mut app.visitor()).await,
        visitor.post("/line/start", &[("purpose", "sign_in"), ("provider", "main")]).await,
        visitor.get("/line/callback/main?state=x&code=y").await,
    ];
    for answer in refused {
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        let wait: u64 = answer.headers[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
        assert!(answer.body.contains("Too many tries") && answer.body.contains("error-page"), "{}", answer.body);
    }
    assert_eq!(app.dump(&[]).await, before, "nothing is checked, and nothing kept");
    assert_eq!(visitor.get("/sign-in").await.status, StatusCode::OK, "pages are read all the same");
    let mut other = app.visitor();
    other.address = "192.0.2.2".into();
    assert_eq!(guess(&mut other).await.status, StatusCode::UNAUTHORIZED);
    app.end().await;
}

#[tokio::test]
async fn j14_a_direct_client_cannot_name_its_address() {
    let app = TestApp::start_with(Engine::Sqlite, few(2)).await;
    let router = &app.router;
    for name in ["x-forwarded-for", "x-real-ip", "forwarded", "true-client-ip", "cf-connecting-ip"] {
        let value = if name == "forwarded" { "for=203.0.113.9" } else { "203.0.113.9" };
        let status = guess_from(&app, router, "198.51.100.1", &[(name, value)]).await;
        let expected = if ["x-forwarded-for", "x-real-ip"].contains(&name) {
            StatusCode::UNAUTHORIZED
        } else {
            StatusCode::TOO_MANY_REQUESTS
        };
        assert_eq!(status, expected, "{name}: the share is of the peer");
    }
    let named = guess_from(&app, router, "203.0.113.9", &[]).await;
    assert_eq!(named, StatusCode::UNAUTHORIZED, "the share of the address that was named is untouched");
    let elsewhere = "SELECT CAST(COUNT(*) AS BIGINT) FROM audit WHERE address NOT IN ('198.51.100.1', '203.0.113.9')";
    assert_eq!(app.count(elsewhere).await, 0);
    assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM audit WHERE address = '198.51.100.1'").await, 2);
    app.end().await;
}

#[tokio::test]
async fn j14_behind_a_listed_proxy_each_address_has_its_share() {
    let app = TestApp::start_with(Engine::Sqlite, |config| {
        few(1)(config);
        config.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
    })
    .await;
    for (forwarded, expected) in [
        ("203.0.113.1", StatusCode::UNAUTHORIZED),
        ("203.0.113.2", StatusCode::UNAUTHORIZED),
        ("198.51.100.9, 203.0.113.2", StatusCode::TOO_MANY_REQUESTS),
        ("2001:db8::1", StatusCode::UNAUTHORIZED),
        ("2001:db8::2", StatusCode::TOO_MANY_REQUESTS),
    ] {
        let status = guess_from(&app, &app.router, "10.0.0.1", &[("x-forwarded-for", forwarded)]).await;
        assert_eq!(status, expected, "{forwarded}");
    }
    app.end().await;
}

/// A route that takes a form is costly, unless it neither checks a password nor mails nor asks LINE.
#[test]
fn every_costly_route_says_so() {
    const CHEAP: [&str; 6] = [
        "/locale",
        "/sign-out",
        "/account/consent",
        "/account/preferences",
        "/account/sessions/end",
        "/account/sessions/end-others",
    ];
    for route in routes::all() {
        let forms = route.method != Method::GET
            && !CHEAP.contains(&route.path)
            && !matches!(route.who, Who::Anyone | Who::Line | Who::Key(_));
        let is_callback = route.path.starts_with("/line/callback/") || route.path == "/company/callback";
        assert_eq!(route.is_costly, forms || is_callback, "{} {}", route.method, route.path);
    }
}

// ---- what every answer carries

fn is_guarded(headers: &HeaderMap, what: &str) {
    // What stands in the address of the page that LINE opens is its script's alone.
    let is_liff = ["GET /liff/main", "HEAD /liff/main"].iter().any(|start| what.starts_with(start));
    let referrer = if is_liff && what.contains(" 200") { "no-referrer" } else { "same-origin" };
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", referrer),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("strict-transport-security", "max-age=31536000"),
    ] {
        assert_eq!(headers.get(name).and_then(|value| value.to_str().ok()), Some(value), "{what}: {name}");
    }
    for name in ["content-security-policy", "permissions-policy", "cache-control", "x-request-id"] {
        assert!(headers.contains_key(name), "{what}: {name}");
    }
    let is_kept = headers[header::CACHE_CONTROL] != "no-store";
    assert!(
        !is_kept || headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/css; charset=utf-8"),
        "{what}"
    );
    assert!(!headers.contains_key(header::SERVER), "{what}");
}

both_engines! {
    async fn every_answer_is_guarded(app) {
        app.member("hanako@example.jp", "Hanako").await;
        let mut visitor = app.signed_in("hanako@example.jp").await;
        let kept = visitor.clone();
        let paths = routes::all().into_iter().map(|route| route.path).chain(["/nowhere", "/static/nothing.css", "/%ff"]);
        for path in paths {
            let path = path.replace("{provider}", "main").replace("{name}", "app.css");
            for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND"] {
                let request = visitor.request(Method::from_bytes(method.as_bytes()).unwrap(), &path);
                let answer = visitor.send(request.body(Body::empty()).unwrap()).await;
                let what = format!("{method} {path} {}", answer.status);
                // What answers machines alone is no page, and needs no guard against those who frame or script one.
                if !path.starts_with("/webhook/") {
                    is_guarded(&answer.headers, &what);
                }
                assert!(!answer.status.is_server_error(), "{what}");
                if ["PUT", "DELETE", "TRACE", "PROPFIND"].contains(&method) {
                    // The API has such methods, but not for this one.
                    assert!(["405", "404", "401"].contains(&answer.status.as_str()), "{what}");
                }
                if method == "TRACE" {
                    assert!(!answer.body.contains("test browser"), "{what}: it echoes");
                }
            }
        }
        visitor = kept;
        let token = visitor.form_token().await;
        let long = "b".repeat(70_000);
        let too_large = visitor.post_raw("/sign-in", &[("csrf", &token), ("email", &long)], &[("origin", ORIGIN)]).await;
        let request = visitor.request(Method::GET, "/").header("x-long", "b".repeat(20_000)).body(Body::empty());
        let too_long = visitor.send(request.unwrap()).await;
        for (answer, status) in [(too_large, 413), (too_long, 431)] {
            assert_eq!(answer.status, status);
            is_guarded(&answer.headers, &format!("{status}"));
            assert!(answer.body.contains("error-page"), "{}", answer.body);
        }
    }
}

#[tokio::test]
async fn security_txt_says_where_to_write() {
    let app = TestApp::start_with(Engine::Sqlite, |config| {
        config.security_contact = Some("mailto:security@example.jp".parse().unwrap());
    })
    .await;
    let answer = app.visitor().get("/.well-known/security.txt").await;
    let expires = jiff::Timestamp::from_second(app.app.now().seconds() + 180 * 24 * 3600).unwrap();
    let lines: Vec<_> = answer.body.lines().collect();
    assert_eq!(answer.headers[header::CONTENT_TYPE], "text/plain; charset=utf-8");
    assert_eq!(lines[0], "Contact: mailto:security@example.jp");
    let told: jiff::Timestamp = lines[1].strip_prefix("Expires: ").unwrap().parse().unwrap();
    assert!(told <= expires && told.as_second() > expires.as_second() - 60, "{}", lines[1]);
    assert_eq!(lines[2..], ["Preferred-Languages: en", &format!("Canonical: {ORIGIN}/.well-known/security.txt")]);
    app.end().await;

    let app = TestApp::start(Engine::Sqlite).await;
    assert_eq!(app.visitor().get("/.well-known/security.txt").await.status, StatusCode::NOT_FOUND);
    app.end().await;
}
