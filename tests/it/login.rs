//! The ways LINE Login is attacked between the start and the callback, and what comes of each.

use std::{
    io::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{Method, Request, StatusCode},
};
use musubi::{
    app::App,
    config::Config,
    link::{
        attempt::{PER_ADDRESS, UNUSED_AT_MOST},
        grant,
    },
    routes,
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::ServiceExt;

use crate::support::{
    Answer, Engine, LOGIN_CHANNEL, LOGIN_SECRET, ORIGIN, PASSWORD, Refusal, TestApp, Visitor, at_once, both_engines,
    hs256, parameter, read, refused, title,
};

const TOKEN: &str = "/oauth2/v2.1/token";
/// A code was exchanged, and what it brought was given back.
const GIVEN_BACK: [&str; 2] = [TOKEN, "/oauth2/v2.1/revoke"];
const CALLBACK: &str = "/line/callback/main";
/// All that a good callback asks of LINE.
const WHOLE: [&str; 3] = [TOKEN, "/v2/profile", "/friendship/v1/status"];
/// What LINE told of a person is kept, and its tokens are kept until they are revoked.
const KEPT: [&str; 4] = ["line_users", "friends", "grants", "jobs"];
const SESSIONS: &str = "SELECT CAST(COUNT(*) AS BIGINT) FROM sessions";
const ATTEMPTS: &str = "SELECT CAST(COUNT(*) AS BIGINT) FROM attempts";

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn bad<'a>(key: &'a str, reason: &'a str) -> Refusal<'a> {
    Refusal::new(400, key, reason)
}

/// A callback's path for these parameters.
fn callback(parameters: &[(&str, &str)]) -> String {
    format!("{CALLBACK}?{}", url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish())
}

/// A linked person, and a browser that knows nobody.
pub async fn linked_person(app: &TestApp) -> (Visitor<'_>, String) {
    let (_, user) = app.linked("hanako@example.jp").await;
    (app.visitor(), user)
}

/// Starts and comes back from LINE: the callback's path, not opened yet.
pub async fn come_back(visitor: &mut Visitor<'_>, user: &str) -> String {
    let url = visitor.start_line("sign_in", "/").await;
    visitor.at_line(&url, user, "consent").await
}

fn assert_signed_in(answer: &Answer) {
    assert_eq!((answer.status, answer.location().as_str()), (StatusCode::SEE_OTHER, "/account"), "{}", answer.body);
}

/// The same house with another configuration, on the same database.
pub async fn rebuilt(app: &TestApp, change: impl FnOnce(&mut Config)) -> (App, Router) {
    let mut config = app.app.config.clone();
    change(&mut config);
    let other = App::new(config, app.app.db.clone(), app.clock.clone()).unwrap();
    let router = routes::router(&other);
    (other, router)
}

pub async fn get_from(router: &Router, visitor: &Visitor<'_>, path: &str) -> Answer {
    let request = visitor.request(Method::GET, path).body(Body::empty()).unwrap();
    read(router.clone().oneshot(request).await.unwrap()).await
}

both_engines! {
    async fn l01_a_callback_without_state(app) {
        let mut visitor = app.visitor();
        visitor.get("/").await;
        for path in ["?code=x", "?code=x&state=", "?error=access_denied", "?", ""] {
            refused(&mut visitor, &format!("{CALLBACK}{path}"), bad("line_state", "state_missing")).await;
        }
    }

    async fn l02_a_guessed_state(app) {
        let mut visitor = app.visitor();
        visitor.start_line("sign_in", "/").await;
        let guess = app.app.random_token().unwrap();
        refused(&mut visitor, &callback(&[("code", "x"), ("state", &guess)]), bad("line_state", "state_unknown")).await;
        let unused = "SELECT CAST(COUNT(*) AS BIGINT) FROM attempts WHERE used_at IS NULL";
        assert_eq!(app.count(unused).await, 1, "the browser's own attempt is as it was");
    }

    async fn l03_a_state_used_twice(app) {
        let (mut visitor, user) = linked_person(app).await;
        let back = come_back(&mut visitor, &user).await;
        assert_signed_in(&visitor.get(&back).await);
        refused(&mut visitor, &back, bad("line_used", "state_used")).await;
        assert_eq!(visitor.get("/account").await.status, StatusCode::OK, "the session is kept");
        let copied = parameter(&back, "state");
        let mut other = app.visitor();
        refused(&mut other, &callback(&[("code", "other"), ("state", &copied)]), bad("line_used", "state_used")).await;
    }

    async fn l04_login_csrf(app) {
        let (mut attacker, user) = linked_person(app).await;
        app.member("victim@example.jp", "Victim").await;
        for mut victim in [app.visitor(), app.signed_in("victim@example.jp").await] {
            let back = come_back(&mut attacker, &user).await;
            // Also a victim who is on the way themselves, with an attempt cookie of their own.
            victim.start_line("sign_in", "/").await;
            let session = victim.session_cookie().cloned();
            let page = refused(&mut victim, &back, bad("line_elsewhere", "state_unbound")).await;
            assert_eq!(victim.session_cookie().cloned(), session);
            assert_eq!(page.field("fresh").is_none(), session.is_some(), "who is signed in has nothing to start");
            // It is of no use but where it was begun.
            assert_signed_in(&attacker.get(&back).await);
            refused(&mut victim, &back, bad("line_used", "state_used")).await;
            attacker = app.visitor();
        }
        let back = come_back(&mut attacker, &user).await;
        let mut without_cookies = app.visitor();
        let page = refused(&mut without_cookies, &back, bad("line_cookies", "state_unbound")).await;
        for (field, value) in [("purpose", "sign_in"), ("provider", "main"), ("return_to", "/"), ("fresh", "1")] {
            assert_eq!(page.field(field).as_deref(), Some(value), "the fresh start keeps {field}");
        }
    }

    /// A cookie planted beside the browser's own, or under the plain name, binds nothing.
    async fn l04_planted_cookies(app) {
        let (mut attacker, user) = linked_person(app).await;
        let name = "__Host-musubi_attempt";
        for planted in ["{name}={theirs}; {name}={own}", "{name}={own}; {name}={theirs}", "musubi_attempt={theirs}",
            "{name}=", "{name}={theirs}x"]
        {
            let back = come_back(&mut attacker, &user).await;
            let mut victim = app.visitor();
            victim.start_line("sign_in", "/").await;
            let cookies = planted.replace("{name}", name).replace("{own}", &victim.cookies[name])
                .replace("{theirs}", &attacker.cookies[name]);
            let request = app.visitor().request(Method::GET, &back).header("cookie", &cookies);
            let answer = victim.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{planted}");
            assert_eq!(app.audit().await.iter().filter(|row| *row == "line_refused/state_unbound").count(), 1, "{planted}");
            assert!(victim.session_cookie().is_none());
            app.execute("DELETE FROM audit").await;
        }
    }

    async fn l04_auto_login_that_comes_back_elsewhere_starts_afresh_without_it(app) {
        let (mut visitor, user) = linked_person(app).await;
        let url = visitor.start_line("sign_in", "/account").await;
        assert!(!url.contains("disable_auto_login"), "{url}");
        let back = visitor.at_line(&url, &user, "auto_login_failure").await;
        let page = refused(&mut visitor, &back, bad("line_state", "state_unknown")).await;
        let fields = ["purpose", "provider", "return_to", "fresh"].map(|name| (name, page.field(name).unwrap()));
        let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
        let url = visitor.post("/line/start", &fields).await.location();
        assert_eq!(parameter(&url, "disable_auto_login"), "true");
        let back = visitor.at_line(&url, &user, "consent").await;
        assert_signed_in(&visitor.get(&back).await);
    }

    async fn l05_a_late_callback(app) {
        let (mut visitor, user) = linked_person(app).await;
        let back = come_back(&mut visitor, &user).await;
        app.clock.advance(10 * MINUTE + SECOND);
        refused(&mut visitor, &back, bad("line_expired", "state_expired")).await;
        let back = come_back(&mut visitor, &user).await;
        app.clock.advance(10 * MINUTE - SECOND);
        assert_signed_in(&visitor.get(&back).await);
    }

    /// There is one callback a provider; the purpose is in the attempt, where no URL can change it.
    async fn l06_purposes_do_not_mix(app) {
        let (mut hanako, user) = app.linked("hanako@example.jp").await;
        let jiro_at_line = app.line_user("じろう").await;
        app.member("jiro@example.jp", "Jiro").await;
        let mut jiro = app.signed_in("jiro@example.jp").await;
        let back = come_back(&mut jiro, &jiro_at_line).await;
        let links = "SELECT CAST(COUNT(*) AS BIGINT) FROM links";
        assert_eq!(jiro.get(&back).await.location(), "/line/not-linked?provider=main");
        assert_eq!(app.count(links).await, 1, "a sign-in never links");

        let url = hanako.start_line("link", "/account").await;
        let back = hanako.at_line(&url, &user, "consent").await;
        hanako.post("/sign-out", &[]).await;
        refused(&mut hanako, &format!("{back}&purpose=sign_in"), bad("link_session", "session_changed")).await;
        assert!(hanako.session_cookie().is_none(), "a link never signs in");

        let (_, router) = rebuilt(app, |config| {
            let same = config.provider["main"].clone();
            config.provider.insert("other".into(), same);
        }).await;
        let back = come_back(&mut hanako, &user).await.replace("callback/main", "callback/other");
        let answer = get_from(&router, &hanako, &back).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(answer.body.contains(&title("line_answer")));
        assert!(app.audit().await.contains(&"line_refused/provider".to_owned()));
        refused(&mut hanako, &back.replace("callback/other", "callback/main"), bad("line_used", "state_used")).await;
    }

    async fn l07_a_victims_code_in_the_attackers_attempt(app) {
        let (mut victim, user) = linked_person(app).await;
        let mut attacker = app.visitor();
        let stolen = parameter(&come_back(&mut victim, &user).await, "code");
        let own = attacker.start_line("sign_in", "/").await;
        let injected = callback(&[("code", &stolen), ("state", &parameter(&own, "state"))]);
        refused(&mut attacker, &injected, bad("line_answer", "code").calls(&[TOKEN])).await;
    }

    /// The same where LINE does not look at the PKCE verifier: the nonce is another attempt's.
    async fn l07_a_victims_code_where_pkce_is_ignored(app) {
        let (mut victim, user) = linked_person(app).await;
        let mut attacker = app.visitor();
        let others = parameter(&victim.start_line("sign_in", "/").await, "nonce");
        let back = come_back(&mut attacker, &user).await;
        let id_token = id_token(app, &user, &json!({ "nonce": others }));
        reply_with(app, json!({ "id_token": id_token })).await;
        let refusal = bad("line_token", "id_token_nonce").calls(&GIVEN_BACK).secrets(&["stolen-access-token"]);
        refused(&mut attacker, &back, refusal).await;
    }

    async fn l08_a_code_used_before(app) {
        let (mut visitor, user) = linked_person(app).await;
        let back = come_back(&mut visitor, &user).await;
        assert_signed_in(&visitor.get(&back).await);
        let spent = parameter(&back, "code");
        let state = parameter(&visitor.start_line("sign_in", "/").await, "state");
        let again = callback(&[("code", &spent), ("state", &state)]);
        refused(&mut visitor, &again, bad("line_answer", "code").calls(&[TOKEN])).await;
        refused(&mut visitor, &again, bad("line_used", "state_used")).await;
    }

    async fn l09_the_person_says_no_at_line(app) {
        let (mut visitor, user) = linked_person(app).await;
        let url = visitor.start_line("sign_in", "/").await;
        let back = visitor.at_line(&url, &user, "deny").await;
        refused(&mut visitor, &back, bad("line_denied", "denied")).await;
        refused(&mut visitor, &back, bad("line_used", "state_used")).await;
        let state = parameter(&visitor.start_line("sign_in", "/").await, "state");
        let lower = callback(&[("error", "access_denied"), ("state", &state)]);
        refused(&mut visitor, &lower, bad("line_denied", "denied")).await;
    }

    async fn l10_a_reflected_error(app) {
        let mut visitor = app.visitor();
        let long = "x".repeat(60 * 1024);
        for (error, text) in [
            ("server_error", "<script>alert(1)</script>"),
            ("server_error", long.as_str()),
            ("server_error", "x\r\nSet-Cookie: a=b"),
            ("<script>alert(1)</script>", "x"),
        ] {
            let state = parameter(&visitor.start_line("sign_in", "/").await, "state");
            let path = callback(&[("error", error), ("error_description", text), ("state", &state)]);
            let refusal = Refusal::new(502, "line_provider_fault", "line_error");
            let answer = refused(&mut visitor, &path, refusal).await;
            assert!(!answer.body.contains("alert(1)") && !answer.body.contains("a=b"), "{}", answer.body);
        }
        for error in [long.as_str(), "x\r\nSet-Cookie: a=b"] {
            let state = parameter(&visitor.start_line("sign_in", "/").await, "state");
            refused(&mut visitor, &callback(&[("error", error), ("state", &state)]), bad("line_answer", "query")).await;
        }
    }

    async fn l11_both_code_and_error(app) {
        let (mut visitor, user) = linked_person(app).await;
        let back = come_back(&mut visitor, &user).await;
        let both = format!("{back}&error=access_denied");
        refused(&mut visitor, &both, bad("line_answer", "code_and_error")).await;
        let back = come_back(&mut visitor, &user).await;
        for name in ["code", "state"] {
            let twice = format!("{back}&{name}={}", parameter(&back, name));
            refused(&mut visitor, &twice, bad("line_answer", "query")).await;
        }
        let state = parameter(&visitor.start_line("sign_in", "/").await, "state");
        refused(&mut visitor, &callback(&[("state", &state)]), bad("line_answer", "query")).await;
    }

    async fn l13_oversize_and_garbage(app) {
        let mut visitor = app.visitor();
        visitor.get("/").await;
        let just_too_long = "s".repeat(257);
        for state in ["s".repeat(60 * 1024).as_str(), &just_too_long, "a%00b", "a%0d%0ab", "%1b"] {
            refused(&mut visitor, &format!("{CALLBACK}?code=x&state={state}"), bad("line_answer", "query")).await;
        }
        for state in ["%zz", "%", "%ff%fe", "%ed%a0%80", "%F0%9F%92%A9", "'%20OR%201=1--"] {
            let path = format!("{CALLBACK}?code=x&state={state}");
            refused(&mut visitor, &path, bad("line_state", "state_unknown")).await;
        }
        for provider in ["nowhere", "%00", "..%2fmain", "%ff"] {
            let path = format!("/line/callback/{provider}?code=x&state=y");
            let answer = visitor.get(&path).await;
            assert!(matches!(answer.status.as_u16(), 400 | 404), "{path}: {}", answer.status);
            let ours = ["bad_request", "not_found"].iter().any(|key| answer.body.contains(&title(key)));
            assert!(ours, "{path}: {}", answer.body);
        }
    }

    /// Forms that lack a field, or are none, get a page of ours and write nothing.
    async fn l13_a_start_that_makes_no_sense(app) {
        let mut visitor = app.visitor();
        visitor.get("/").await;
        let before = app.dump(&[]).await;
        let cases: [(&[(&str, &str)], &str); 7] = [
            (&[], "bad_request"),
            (&[("purpose", "sign_in")], "bad_request"),
            (&[("purpose", "sign_in"), ("purpose", "link"), ("provider", "main")], "bad_request"),
            (&[("purpose", "admin"), ("provider", "main")], "bad_request"),
            (&[("purpose", ""), ("provider", "")], "bad_request"),
            (&[("purpose", "sign_in"), ("provider", "nowhere")], "not_found"),
            (&[("purpose", "sign_in"), ("provider", "main\0")], "not_found"),
        ];
        for (fields, key) in cases {
            let answer = visitor.post("/line/start", fields).await;
            assert!(answer.status.is_client_error(), "{fields:?} {}", answer.status);
            assert!(answer.body.contains(&title(key)), "{fields:?} {}", answer.body);
        }
        let answer = visitor.get("/line/start").await;
        assert_eq!((answer.status, answer.headers["allow"].to_str().unwrap()), (StatusCode::METHOD_NOT_ALLOWED, "POST"));
        assert!(answer.body.contains(&title("bad_request")), "{}", answer.body);
        assert_eq!(app.dump(&[]).await, before);
    }

    /// What no URL type can hold, on the wire.
    async fn l13_garbage_on_the_wire(app) {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = app.router.clone().into_make_service_with_connect_info::<std::net::SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        let before = app.dump(&["audit"]).await;
        let long = "s".repeat(1024 * 1024);
        for (query, statuses) in [
            (long.as_bytes(), [414, 431]),
            (b"a\0b".as_slice(), [400, 400]),
            (b"\xff\xfe".as_slice(), [400, 400]),
            (b"a\x01b".as_slice(), [400, 400]),
            (b"a b".as_slice(), [400, 400]),
        ] {
            let head = format!("GET {CALLBACK}?code=x&state=").into_bytes();
            let tail = b" HTTP/1.1\r\nhost: members.example.jp\r\nconnection: close\r\n\r\n";
            let answer = on_the_wire(address, &[head.as_slice(), query, tail].concat()).await;
            let status: u16 = answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
            assert!(statuses.contains(&status), "{}: {answer}", String::from_utf8_lossy(&query[..query.len().min(20)]));
        }
        assert_eq!(app.dump(&["audit"]).await, before);
        let alive = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        assert!(on_the_wire(address, alive).await.starts_with("HTTP/1.1 200"));
    }

    async fn l15_the_responses_issuer(app) {
        let (mut visitor, user) = linked_person(app).await;
        for iss in ["https://evil", "https://access.line.me/", "HTTPS://access.line.me", "http://access.line.me"] {
            let back = come_back(&mut visitor, &user).await;
            refused(&mut visitor, &format!("{back}&iss={iss}"), bad("line_answer", "iss")).await;
        }
        let back = come_back(&mut visitor, &user).await;
        assert_signed_in(&visitor.get(&format!("{back}&iss=https://access.line.me")).await);
        assert_signed_in(&app.visitor().sign_in_by_line(&user).await);
    }

    async fn l16_the_way_back_stays_here(app) {
        let (mut visitor, user) = linked_person(app).await;
        for target in ["//evil", "https:evil", "/\\evil", "/\t/evil", "@evil", "javascript:alert(1)", "/%2e%2e//evil",
            "/\r\nLocation: https://evil", "https://evil/", "https://members.example.jp.evil/", "/x\\..//evil"]
        {
            let url = visitor.start_line("sign_in", target).await;
            let back = visitor.at_line(&url, &user, "consent").await;
            assert_eq!(visitor.get(&back).await.location(), "/account", "{target:?}");
            app.execute("DELETE FROM attempts").await;
        }
        let url = visitor.start_line("sign_in", "/account?done=linked").await;
        let back = visitor.at_line(&url, &user, "consent").await;
        assert_eq!(visitor.get(&back).await.location(), "/account?done=linked");
    }

    async fn l17_a_foreign_host(app) {
        let mut visitor = app.visitor();
        let token = visitor.form_token().await;
        let before = app.dump(&[]).await;
        let body = format!("purpose=sign_in&provider=main&csrf={token}");
        let start = |visitor: &Visitor<'_>, headers: &[(&'static str, &'static str)]| {
            let mut request = visitor.request(Method::POST, "/line/start").body(Body::from(body.clone())).unwrap();
            for (name, value) in [("origin", ORIGIN), ("content-type", "application/x-www-form-urlencoded")]
                .iter().chain(headers)
            {
                request.headers_mut().insert(*name, value.parse().unwrap());
            }
            request
        };
        for host in ["evil", "members.example.jp.evil", "members.example.jp:1", "evil@members.example.jp", ""] {
            let answer = visitor.send(start(&visitor, &[("host", host)])).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{host}");
            assert!(answer.body.contains(&title("bad_request")) && !answer.body.contains("evil"), "{}", answer.body);
        }
        let unknown = Request::get(format!("http://evil{CALLBACK}?code=x")).body(Body::empty()).unwrap();
        assert_eq!(app.visitor().send(unknown).await.status, StatusCode::BAD_REQUEST, "by HTTP/2");
        assert_eq!(app.dump(&[]).await, before);

        let spoofed = [("x-forwarded-host", "evil"), ("x-forwarded-proto", "http"), ("forwarded", "host=evil")];
        let url = visitor.send(start(&visitor, &spoofed)).await.location();
        assert_eq!(parameter(&url, "redirect_uri"), format!("{ORIGIN}{CALLBACK}"));
        let by_http2 = Request::get(format!("{ORIGIN}/account")).body(Body::empty()).unwrap();
        assert_eq!(app.visitor().send(by_http2).await.location(), "/sign-in?return_to=%2Faccount");
    }

    async fn l18_a_flood_from_one_address(app) {
        let (mut visitor, user) = linked_person(app).await;
        app.execute("DELETE FROM attempts").await;
        for _ in 0..PER_ADDRESS {
            visitor.start_line("sign_in", "/").await;
        }
        let before = app.dump(&[]).await;
        let form = [("purpose", "sign_in"), ("provider", "main")];
        let answer = visitor.post("/line/start", &form).await;
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(answer.body.contains(&title("too_many")));
        let mut another = app.visitor();
        assert_eq!(another.post("/line/start", &form).await.status, StatusCode::TOO_MANY_REQUESTS, "cookies do not help");
        assert_eq!(app.dump(&[]).await, before);
        another.address = "192.0.2.2".into();
        assert_signed_in(&another.sign_in_by_line(&user).await);
        app.clock.advance(10 * MINUTE + SECOND);
        assert_signed_in(&visitor.sign_in_by_line(&user).await);
    }

    async fn l18_a_flood_from_many_addresses(app) {
        let (mut early, user) = linked_person(app).await;
        app.execute("DELETE FROM attempts").await;
        let early_back = come_back(&mut early, &user).await;
        flood(app, UNUSED_AT_MOST).await;
        let mut late = app.visitor();
        late.address = "198.51.100.7".into();
        let late_back = come_back(&mut late, &user).await;
        assert!(app.count(ATTEMPTS).await <= UNUSED_AT_MOST);
        assert_signed_in(&early.get(&early_back).await);
        assert_signed_in(&late.get(&late_back).await);
        flood(app, 3 * UNUSED_AT_MOST).await;
        late.start_line("sign_in", "/").await;
        assert!(app.count(ATTEMPTS).await <= UNUSED_AT_MOST + 2, "however many there were");
    }

    /// Who stands behind the proxies is counted, and nobody names another's address for his own.
    async fn l18_behind_proxies(app) {
        let (_, router) = rebuilt(app, |config| {
            config.trusted_proxies = ["192.0.2.1/32", "10.0.0.0/8", "fd00::/8"].map(|net| net.parse().unwrap()).into();
        }).await;
        let mut visitor = app.visitor();
        let token = visitor.form_token().await;
        let body = format!("purpose=sign_in&provider=main&csrf={token}");
        for (peer, forwarded, counted) in [
            ("192.0.2.1", &["203.0.113.5"][..], "203.0.113.5"),
            ("192.0.2.1", &["198.51.100.9, 203.0.113.5"], "203.0.113.5"),
            ("192.0.2.1", &["198.51.100.9", "203.0.113.5, 10.1.1.1"], "203.0.113.5"),
            ("192.0.2.1", &["203.0.113.5:4711"], "203.0.113.5"),
            ("192.0.2.1", &["[2001:db8::1]:4711, fd00::1"], "2001:db8:0:0::/64"),
            ("192.0.2.1", &["203.0.113.5, nonsense"], "192.0.2.1"),
            ("192.0.2.1", &["203.0.113.5, "], "192.0.2.1"),
            ("192.0.2.1", &["10.1.1.1"], "10.1.1.1"),
            ("192.0.2.1", &[], "192.0.2.1"),
            ("203.0.113.7", &["198.51.100.9"], "203.0.113.7"),
            ("::ffff:192.0.2.1", &["203.0.113.5"], "203.0.113.5"),
        ] {
            let mut request = visitor.request(Method::POST, "/line/start").header("origin", ORIGIN);
            request = request.header("content-type", "application/x-www-form-urlencoded");
            for value in forwarded {
                request = request.header("x-forwarded-for", *value);
            }
            let peer = std::net::SocketAddr::new(peer.parse().unwrap(), 40000);
            let mut request = request.body(Body::from(body.clone())).unwrap();
            request.extensions_mut().insert(axum::extract::ConnectInfo(peer));
            let answer = read(router.clone().oneshot(request).await.unwrap()).await;
            assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
            let rows = app.dump(&[]).await;
            let row = rows.iter().find(|row| row.starts_with("attempts:")).unwrap();
            assert!(row.contains(&format!("address=Some({counted:?})")), "{peer} {forwarded:?}: {row}");
            app.execute("DELETE FROM attempts").await;
        }
    }

    async fn l18_a_flood_at_one_moment(app) {
        let mut visitor = app.visitor();
        let token = visitor.form_token().await;
        let body = format!("purpose=sign_in&provider=main&csrf={token}");
        let requests = (0..2 * PER_ADDRESS).map(|_| {
            let request = visitor.request(Method::POST, "/line/start").header("origin", ORIGIN);
            let request = request.header("content-type", "application/x-www-form-urlencoded");
            request.body(Body::from(body.clone())).unwrap()
        });
        let answers = at_once(app, requests.collect()).await;
        let started = answers.iter().filter(|answer| answer.status == StatusCode::SEE_OTHER).count();
        let refused = answers.iter().filter(|answer| answer.status == StatusCode::TOO_MANY_REQUESTS).count();
        assert_eq!(started + refused, answers.len());
        assert_eq!(app.count(ATTEMPTS).await, i64::try_from(started).unwrap());
        // PostgreSQL counts side by side: as many more as there are connections.
        let more = if app.engine == Engine::Sqlite { 0 } else { 8 };
        assert!((PER_ADDRESS..=PER_ADDRESS + more).contains(&app.count(ATTEMPTS).await), "{started}");
    }

    async fn l20_a_bad_token_reply(app) {
        let (mut visitor, user) = linked_person(app).await;
        let whole = json!({ "access_token": "stolen-access-token", "token_type": "Bearer", "expires_in": 2_592_000,
            "refresh_token": "stolen-refresh-token", "scope": "openid profile", "id_token": "eyJ0.eyJ0.AA" });
        let with = |name: &str, value: serde_json::Value| {
            let mut reply = whole.clone();
            reply[name] = value;
            reply
        };
        // Tokens that came along are given back, whatever else is wrong.
        for reply in [
            with("id_token", json!(null)),
            with("scope", json!("profile")),
            with("scope", json!(null)),
            with("scope", json!("openidx")),
            with("token_type", json!("mac")),
        ] {
            app.fault(json!({ "endpoint": TOKEN, "replace_body": reply })).await;
            refuse_fault_after(&mut visitor, &user, &[TOKEN, "/oauth2/v2.1/revoke"]).await;
        }
        for reply in [
            with("id_token", json!(["eyJ0"])),
            with("token_type", json!(null)),
            with("access_token", json!(null)),
            with("access_token", json!({ "secret": "stolen-access-token" })),
            with("expires_in", json!("stolen-access-token")),
            json!("not JSON"),
            json!(""),
            json!([]),
            json!("\"stolen-access-token\""),
            json!("x".repeat(1024 * 1024)),
            json!("[".repeat(60 * 1024)),
        ] {
            app.fault(json!({ "endpoint": TOKEN, "replace_body": reply })).await;
            refuse_fault(&mut visitor, &user).await;
        }
        app.fault(json!({ "endpoint": TOKEN, "replace_body": "\u{1f}x", "headers": { "content-encoding": "gzip" } })).await;
        refuse_fault(&mut visitor, &user).await;
        app.fault(json!({ "endpoint": TOKEN, "status": 307, "headers": { "location": "https://evil.example/" } })).await;
        refuse_fault(&mut visitor, &user).await;
    }

    /// However long the answer is, no more than a little of it is read.
    async fn l20_an_endless_token_reply(app) {
        let (mut visitor, user) = linked_person(app).await;
        let sent = Arc::new(AtomicUsize::new(0));
        let url = endless(Arc::clone(&sent)).await;
        let (_, router) = rebuilt(app, |config| config.line.api = url).await;
        let back = come_back(&mut visitor, &user).await;
        let answer = get_from(&router, &visitor, &back).await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
        assert!(app.audit().await.contains(&"line_refused/provider_fault".to_owned()));
        assert!(sent.load(Ordering::SeqCst) > 0);
    }

    async fn l21_a_disabled_member(app) {
        let (mut visitor, user) = linked_person(app).await;
        app.execute("UPDATE members SET disabled_at = 1").await;
        let back = come_back(&mut visitor, &user).await;
        let refusal = Refusal::new(403, "account_unavailable", "unavailable").calls(&WHOLE).may_change(&KEPT);
        let page = refused(&mut visitor, &back, refusal).await;
        assert!(!page.body.contains("hanako") && !page.body.contains("Hanako"));
        app.drain().await;
        let held = "SELECT CAST(COUNT(*) AS BIGINT) FROM grants WHERE sealed IS NOT NULL";
        assert_eq!(app.count(held).await, 1, "the new tokens are revoked, the link's are kept for its end");
        app.execute("UPDATE members SET disabled_at = NULL").await;
        app.execute("UPDATE links SET suspended_at = 1").await;
        let back = come_back(&mut visitor, &user).await;
        refused(&mut visitor, &back, refusal).await;
    }

    async fn l22_a_login_by_line_is_no_proof_of_the_password(app) {
        let (mut visitor, user) = linked_person(app).await;
        assert_signed_in(&visitor.sign_in_by_line(&user).await);
        let before = app.dump(&["audit", "throttles"]).await;
        let fields = [("purpose", "link"), ("provider", "main"), ("return_to", "/account")];
        let answer = visitor.post("/line/start", &fields).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert!(answer.body.contains(&title("reauth")));
        for password in ["", "wrong password"] {
            let answer = visitor.post("/account/unlink", &[("provider", "main"), ("password", password)]).await;
            assert!(answer.status.is_client_error(), "{} {}", answer.status, answer.location());
        }
        assert_eq!(app.dump(&["audit", "throttles"]).await, before);
        visitor.post("/sign-in", &[("email", "hanako@example.jp"), ("password", PASSWORD)]).await;
        assert_eq!(visitor.post("/line/start", &fields).await.status, StatusCode::SEE_OTHER);
    }

    async fn l23_one_callback_many_times_at_once(app) {
        let (mut visitor, user) = linked_person(app).await;
        let back = come_back(&mut visitor, &user).await;
        let (sessions, calls) = (app.count(SESSIONS).await, app.calls_to(TOKEN).await.len());
        let request = || visitor.request(Method::GET, &back).body(Body::empty()).unwrap();
        let answers = at_once(app, (0..50).map(|_| request()).collect()).await;
        let signed_in = answers.iter().filter(|answer| answer.location() == "/account").count();
        let refused = answers.iter().filter(|answer| answer.status == StatusCode::BAD_REQUEST).count();
        assert_eq!((signed_in, refused), (1, 49));
        assert_eq!(app.count(SESSIONS).await, sessions + 1);
        assert_eq!(app.calls_to(TOKEN).await.len(), calls + 1);
        let used = app.audit().await.into_iter().filter(|row| row == "line_refused/state_used").count();
        assert_eq!(used, 49);
    }

    async fn l24_two_tabs(app) {
        let (_, user) = linked_person(app).await;
        for first_wins in [true, false] {
            let mut visitor = app.visitor();
            let mut backs = vec![come_back(&mut visitor, &user).await, come_back(&mut visitor, &user).await];
            if !first_wins {
                backs.reverse();
            }
            for back in backs {
                assert_signed_in(&visitor.get(&back).await);
            }
        }
    }

    /// Neither tab has the other's cookie yet when it starts.
    async fn l24_two_tabs_that_start_at_one_moment(app) {
        let (mut visitor, user) = linked_person(app).await;
        visitor.get("/").await;
        let mut other = visitor.clone();
        let one = come_back(&mut visitor, &user).await;
        let two = come_back(&mut other, &user).await;
        visitor.cookies.extend(other.cookies);
        assert_signed_in(&visitor.get(&one).await);
        assert_signed_in(&visitor.get(&two).await);
    }

    async fn l24_two_tabs_that_link(app) {
        app.member("hanako@example.jp", "Hanako").await;
        let user = app.line_user("はなこ").await;
        let mut visitor = app.signed_in("hanako@example.jp").await;
        let (one, two) = (visitor.reach_confirm(&user).await, visitor.reach_confirm(&user).await);
        assert_eq!(visitor.confirm(&two).await.location(), "/account?done=linked");
        let answer = visitor.confirm(&one).await;
        assert!(answer.status == StatusCode::CONFLICT || answer.status.is_redirection(), "{}", answer.body);
        let links = "SELECT CAST(COUNT(*) AS BIGINT) FROM links WHERE ended_at IS NULL";
        assert_eq!(app.count(links).await, 1);
    }

    async fn x33_the_token_endpoint_is_down(app) {
        let (mut visitor, user) = linked_person(app).await;
        for fault in [
            json!({ "endpoint": TOKEN, "status": 500 }),
            json!({ "endpoint": TOKEN, "status": 503 }),
            json!({ "endpoint": TOKEN, "status": 429 }),
            json!({ "endpoint": TOKEN, "cut": "before" }),
            json!({ "endpoint": TOKEN, "cut": "after" }),
            json!({ "endpoint": TOKEN, "truncate": 20 }),
        ] {
            app.fault(fault).await;
            let (page, back) = refuse_fault(&mut visitor, &user).await;
            assert_eq!(page.field("fresh").as_deref(), Some("1"), "a fresh start is offered");
            refused(&mut visitor, &back, bad("line_used", "state_used")).await;
        }
        assert_signed_in(&visitor.sign_in_by_line(&user).await);
    }

    async fn x33_nobody_listens_at_the_token_endpoint(app) {
        let (mut visitor, user) = linked_person(app).await;
        let gone = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", gone.local_addr().unwrap()).parse().unwrap();
        drop(gone);
        let (_, router) = rebuilt(app, |config| config.line.api = url).await;
        let back = come_back(&mut visitor, &user).await;
        let answer = get_from(&router, &visitor, &back).await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
        assert!(answer.body.contains(&title("line_provider_fault")));
        refused(&mut visitor, &back, bad("line_used", "state_used")).await;
    }

    async fn x34_clocks_that_differ_a_little(app) {
        let (mut visitor, user) = linked_person(app).await;
        app.line_clock.advance(30 * SECOND);
        assert_signed_in(&visitor.sign_in_by_line(&user).await);
        app.line_clock.turn_back(60 * SECOND);
        assert_signed_in(&visitor.sign_in_by_line(&user).await);
    }

    async fn x34_clocks_that_differ_too_much(app) {
        let (mut visitor, user) = linked_person(app).await;
        let clock = bad("line_clock", "id_token_iat").calls(&GIVEN_BACK);
        for (ahead, by) in [(true, 5 * MINUTE), (false, 5 * MINUTE), (true, 48 * 60 * MINUTE), (false, 48 * 60 * MINUTE)] {
            if ahead { app.line_clock.advance(by) } else { app.line_clock.turn_back(by) }
            let back = come_back(&mut visitor, &user).await;
            refused(&mut visitor, &back, clock).await;
            if ahead { app.line_clock.turn_back(by) } else { app.line_clock.advance(by) }
        }
        assert_signed_in(&visitor.sign_in_by_line(&user).await);
    }

    async fn x34_our_clock_jumps_back_on_the_way(app) {
        let (mut visitor, user) = linked_person(app).await;
        let back = come_back(&mut visitor, &user).await;
        app.clock.turn_back(60 * MINUTE);
        app.line_clock.advance(60 * MINUTE);
        refused(&mut visitor, &back, bad("line_clock", "id_token_iat").calls(&GIVEN_BACK)).await;
        app.clock.advance(60 * MINUTE);
        app.line_clock.turn_back(60 * MINUTE);
        assert_signed_in(&visitor.sign_in_by_line(&user).await);
    }
}

/// A callback whose token reply is spoilt already: refused as LINE's fault after one call.
async fn refuse_fault(visitor: &mut Visitor<'_>, user: &str) -> (Answer, String) {
    refuse_fault_after(visitor, user, &[TOKEN]).await
}

/// The same, with the paths that LINE is called at.
async fn refuse_fault_after(visitor: &mut Visitor<'_>, user: &str, calls: &[&str]) -> (Answer, String) {
    visitor.app.execute("UPDATE attempts SET address = 'elsewhere'").await;
    let back = come_back(visitor, user).await;
    let refusal = Refusal::new(502, "line_provider_fault", "provider_fault").calls(calls);
    (refused(visitor, &back, refusal.secrets(&["stolen-"])).await, back)
}

/// A valid ID token for `user` but for `changes`.
pub fn id_token(app: &TestApp, user: &str, changes: &serde_json::Value) -> String {
    let now = app.app.now().seconds();
    let mut claims = json!({ "iss": "https://access.line.me", "sub": user, "aud": LOGIN_CHANNEL, "exp": now + 3600,
        "iat": now, "name": "はなこ" });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    hs256(LOGIN_SECRET.as_bytes(), r#"{"typ":"JWT","alg":"HS256"}"#, &claims.to_string())
}

/// The next code is exchanged for these, beside an access token that LINE does not know.
pub async fn reply_with(app: &TestApp, parts: serde_json::Value) {
    let mut reply = json!({ "access_token": "stolen-access-token", "token_type": "Bearer", "expires_in": 2_592_000,
        "refresh_token": "stolen-refresh-token", "scope": "openid profile" });
    for (name, value) in parts.as_object().unwrap() {
        reply[name] = value.clone();
    }
    app.fault(json!({ "endpoint": TOKEN, "replace_body": reply })).await;
}

/// Adds unused attempts, thirty an address, as a flood would leave them.
async fn flood(app: &TestApp, count: i64) {
    let (now, round) = (app.app.now().0, app.app.new_id());
    let mut tx = app.app.db.begin().await.unwrap();
    for start in (0..count).step_by(500) {
        let rows: Vec<String> = (start..(start + 500).min(count))
            .map(|n| {
                let (address, expires) = (n / PER_ADDRESS, now + 600_000);
                format!("('{round}-{n}', '{round}-{n}', 'main', 'sign_in', 'x', 'x', 'x', 'f{address}', '/', {now}, {expires})")
            })
            .collect();
        let statement = format!(
            "INSERT INTO attempts (id, state_hash, provider, purpose, nonce_hash, sealed_verifier, browser_hash,
               address, return_to, created_at, expires_at) VALUES {}",
            rows.join(", ")
        );
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
}

/// A host that answers anything with a body that never ends.
async fn endless(sent: Arc<AtomicUsize>) -> url::Url {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n";
            let mut going = socket.write_all(head).await.is_ok();
            while going {
                going = socket.write_all(&[b' '; 4096]).await.is_ok();
                sent.fetch_add(4096, Ordering::SeqCst);
            }
        }
    });
    url
}

/// Sends these bytes; gives what comes back before the connection ends.
async fn on_the_wire(address: std::net::SocketAddr, bytes: &[u8]) -> String {
    let (mut reading, mut writing) = tokio::net::TcpStream::connect(address).await.unwrap().into_split();
    let bytes = bytes.to_vec();
    // The server may have answered and hung up long before it is all sent.
    tokio::spawn(async move {
        let _ = writing.write_all(&bytes).await;
        std::future::pending::<()>().await;
    });
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = reading.read(&mut buffer).await {
        answer.extend_from_slice(&buffer[..length]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Where a test's log goes.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Everything that this thread logs from here on, while the guards live.
pub fn captured() -> (Log, impl Sized) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
    // A second one, so that other tests' threads, which have none, do not answer for this one.
    let other = tracing::Dispatch::new(tracing_subscriber::registry());
    let guard = tracing::subscriber::set_default(subscriber.with_writer(move || writer.clone()).finish());
    (log, (other, guard))
}

impl Log {
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[test]
fn l18_proxies_are_read_from_the_configuration() {
    let hosts = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4"].map(|host| host.parse().unwrap());
    assert!(
        crate::support::config("sqlite://x.db", &hosts, &hosts[0]).trusted_proxies.is_empty(),
        "nobody is believed by default"
    );
    let text = |line: &str| {
        format!(
            "{line}\npublic_url = '{ORIGIN}'\ndatabase_url = 'sqlite://x.db'\ncompany = 'x'\n[security]\nsealing_key = 'k'\n\
             sealing_keys = {{ k = 'yVqOczA5k8UOOBIL+mBfzBQ3UWTa8xu8jd/Cjvkp60g=' }}"
        )
    };
    for line in ["trusted_proxies = ['10.0.0.0/8', '::1']", "trusted_proxies = '10.0.0.0/8, ::1'"] {
        let config = Config::parse("test", &text(line), []).unwrap();
        assert_eq!(
            config.trusted_proxies.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.0.0.0/8", "::1/128"]
        );
    }
    for line in ["trusted_proxies = ['10.0.0.0/33']", "trusted_proxies = 'proxy.example'", "trusted_proxies = 1"] {
        assert!(Config::parse("test", &text(line), []).is_err(), "{line}");
    }
}

#[tokio::test]
async fn l10_a_reflected_error_is_logged_escaped_and_short() {
    let (log, _guards) = captured();
    let app = TestApp::start(Engine::Sqlite).await;
    let mut visitor = app.visitor();
    let state = parameter(&visitor.start_line("sign_in", "/").await, "state");
    let error = format!("quote\"\u{2028}\u{202e}{}", "x".repeat(200));
    let path = callback(&[("error", &error), ("error_description", "forged\nline"), ("state", &state)]);
    refused(&mut visitor, &path, Refusal::new(502, "line_provider_fault", "line_error")).await;
    let text = log.text();
    let line = text.lines().find(|line| line.contains("LINE refused to authorize")).unwrap();
    assert!(line.contains("\\u{2028}") && line.contains("\\u{202e}") && line.len() < 500, "{line}");
    assert!(!text.contains("forged") && !text.contains('\u{2028}'), "the description is not logged");
    app.end().await;
}

#[tokio::test]
async fn x34_a_wrong_clock_raises_an_alarm() {
    let (log, _guards) = captured();
    let app = TestApp::start(Engine::Sqlite).await;
    let (mut visitor, user) = linked_person(&app).await;
    assert_signed_in(&visitor.sign_in_by_line(&user).await);
    assert!(!log.text().contains("alarm"));
    app.line_clock.advance(5 * MINUTE);
    let back = come_back(&mut visitor, &user).await;
    refused(&mut visitor, &back, bad("line_clock", "id_token_iat").calls(&GIVEN_BACK)).await;
    assert_eq!(log.text().matches("musubi::link::proof: alarm: clock").count(), 1);
    app.line_clock.turn_back(5 * MINUTE);
    let url = visitor.start_line("sign_in", "/").await;
    let back = visitor.at_line(&url, &user, "consent").await;
    let far = json!({ "nonce": parameter(&url, "nonce"), "exp": app.app.now().seconds() + 10 * 365 * 24 * 3600 });
    reply_with(&app, json!({ "id_token": id_token(&app, &user, &far) })).await;
    refused(&mut visitor, &back, bad("line_token", "id_token_exp_far").calls(&GIVEN_BACK)).await;
    assert_eq!(log.text().matches("musubi::link::proof: alarm: id_token").count(), 1);
    app.end().await;
}

/// A sign-in and refusals, with everything logged that can be: no secret is among it.
#[tokio::test]
async fn l20_no_secret_is_logged() {
    let (log, _guards) = captured();
    let app = TestApp::start(Engine::Sqlite).await;
    let (mut visitor, user) = linked_person(&app).await;
    let url = visitor.start_line("sign_in", "/").await;
    let back = visitor.at_line(&url, &user, "consent").await;
    assert_signed_in(&visitor.get(&back).await);
    let mut secrets: Vec<String> = ["state", "nonce"].map(|name| parameter(&url, name)).into();
    secrets.extend(["state", "code"].map(|name| parameter(&back, name)));
    secrets.extend(visitor.cookies.values().cloned());
    secrets.extend([LOGIN_SECRET, "eyJ", PASSWORD, "stolen-"].map(str::to_owned));
    let mut conn = app.app.db.conn().await.unwrap();
    let grants: Vec<String> = sqlx::query_scalar("SELECT id FROM grants").fetch_all(&mut *conn).await.unwrap();
    for id in grants {
        let tokens = grant::find(&mut conn, &app.app, &id).await.unwrap().unwrap().tokens;
        secrets.extend([tokens.access_token, tokens.refresh_token.unwrap()]);
    }
    drop(conn);
    refused(&mut visitor, &back, bad("line_used", "state_used")).await;
    for reply in [json!("\"stolen-token\""), json!({ "access_token": 1, "refresh_token": "stolen-token" })] {
        app.fault(json!({ "endpoint": TOKEN, "replace_body": reply })).await;
        refuse_fault(&mut visitor, &user).await;
    }
    let back = come_back(&mut visitor, &user).await;
    let forged = hs256(b"other", r#"{"alg":"HS256"}"#, "{}");
    secrets.extend([forged.clone(), parameter(&back, "code"), parameter(&back, "state")]);
    reply_with(&app, json!({ "id_token": forged })).await;
    refused(&mut visitor, &back, bad("line_token", "id_token_iss").calls(&GIVEN_BACK)).await;
    let text = log.text();
    for said in ["ID token refused", "the code was not exchanged", "LINE answered"] {
        assert!(text.contains(said), "{said:?} is not captured");
    }
    assert!(!text.contains("request_id=\"\""), "each line of a request names it");
    for secret in secrets {
        let line = text.lines().find(|line| line.contains(&secret));
        assert_eq!(line, None, "{secret} is logged");
    }
    app.end().await;
}
