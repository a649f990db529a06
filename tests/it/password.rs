//! The password and what stands in for it: guesses, resets, changes of password and address, codes by mail.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
    time::Duration,
};

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};

use crate::support::{Answer, ORIGIN, PASSWORD, TestApp, Visitor, at_once, both_engines, parameter, title};

const HANAKO: &str = "hanako@example.jp";
const NEW: &str = "a fresh phrase of words";
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The page without what differs between two of one kind: form token, reference, and the address typed.
fn strip(answer: &Answer, typed: &str) -> String {
    let reference = answer.headers.get("x-request-id").map_or("-", |id| id.to_str().unwrap());
    let token = answer.field("csrf").unwrap_or_else(|| "-".into());
    answer.body.replace(&token, "").replace(reference, "").replace(typed, "")
}

/// All that somebody outside or beside could tell an answer by: what it says, the hashes it cost, the rows it left.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    status: StatusCode,
    headers: Vec<String>,
    body: String,
    hashes: u64,
    rows: BTreeMap<String, usize>,
}

async fn rows(app: &TestApp) -> BTreeMap<String, usize> {
    let mut rows = BTreeMap::new();
    for row in app.dump(&[]).await {
        *rows.entry(row.split(':').next().unwrap().to_owned()).or_default() += 1;
    }
    rows
}

async fn see(visitor: &mut Visitor<'_>, path: &str, typed: &str, fields: &[(&str, &str)]) -> Seen {
    let app = visitor.app;
    let (before, hashed) = (rows(app).await, app.app.hashed.load(Ordering::Relaxed));
    let answer = visitor.post(path, fields).await;
    let mut rows = rows(app).await;
    rows.retain(|table, count| {
        *count -= before.get(table).copied().unwrap_or(0);
        *count > 0
    });
    Seen {
        status: answer.status,
        headers: answer.headers.keys().map(ToString::to_string).collect(),
        body: strip(&answer, typed),
        hashes: app.app.hashed.load(Ordering::Relaxed) - hashed,
        rows,
    }
}

/// A member of each kind, and an address that is nobody's.
async fn everybody(app: &TestApp) -> [&'static str; 4] {
    for email in ["known@example.jp", "line@example.jp", "closed@example.jp"] {
        app.member(email, "Somebody").await;
    }
    app.execute("UPDATE members SET password_hash = NULL WHERE email_key = 'line@example.jp'").await;
    app.execute("UPDATE members SET disabled_at = 1 WHERE email_key = 'closed@example.jp'").await;
    ["nobody@example.jp", "known@example.jp", "line@example.jp", "closed@example.jp"]
}

async fn sign_in(visitor: &mut Visitor<'_>, email: &str, password: &str) -> u16 {
    visitor.post("/sign-in", &[("email", email), ("password", password)]).await.status.as_u16()
}

/// Asks for a reset; gives the mailed token.
async fn reset_token(app: &TestApp, email: &str) -> String {
    let answer = app.visitor().post("/password/forgot", &[("email", email)]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    app.drain().await;
    parameter(&app.mailed_link(email, "/password/reset").await, "token")
}

async fn reset(visitor: &mut Visitor<'_>, email: &str, password: &str) {
    let token = reset_token(visitor.app, email).await;
    let answer = visitor.post("/password/reset", &[("token", &token), ("password", password)]).await;
    assert_eq!(answer.location(), "/sign-in?done=reset", "{}", answer.body);
}

async fn change_email_token(app: &TestApp, visitor: &mut Visitor<'_>, email: &str) -> String {
    let answer = visitor.post("/account/email", &[("email", email), ("password", PASSWORD)]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    app.drain().await;
    parameter(&app.mailed_link(email, "/account/email/confirm").await, "token")
}

async fn subjects(app: &TestApp, email: &str) -> Vec<String> {
    let mails = app.mails(email).await;
    mails.iter().map(|mail| mail["subject"].as_str().unwrap().replace("Example Company: ", "")).collect()
}

/// Forms that are ready to be sent all at one time, each from a browser of its own.
async fn forms(
    app: &TestApp,
    path: &str,
    fields: impl Fn(usize) -> Vec<(&'static str, String)>,
    count: usize,
) -> Vec<Request<Body>> {
    let mut visitor = app.visitor();
    let token = visitor.form_token().await;
    let form = |index| {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(fields(index)).append_pair("csrf", &token);
        visitor
            .request(Method::POST, path)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header("sec-fetch-site", "same-origin")
            .body(Body::from(body.finish()))
            .unwrap()
    };
    (0..count).map(form).collect()
}

fn tally(answers: &[Answer]) -> BTreeMap<u16, usize> {
    let mut tally = BTreeMap::new();
    for answer in answers {
        *tally.entry(answer.status.as_u16()).or_default() += 1;
    }
    tally
}

both_engines! {
    async fn p01_nobody_learns_whether_an_address_is_known(app) {
        let people = everybody(app).await;
        // The first failure of all begins the count of all.
        sign_in(&mut app.visitor(), "first@example.jp", "wrong password").await;
        let mut signed_in = app.signed_in("known@example.jp").await;
        for (path, more) in [
            ("/sign-in", vec![("password", "wrong password")]),
            ("/sign-in", vec![("password", "")]),
            ("/sign-up", vec![("name", "Somebody"), ("password", NEW)]),
            ("/password/forgot", vec![]),
            ("/account/email", vec![("password", PASSWORD)]),
        ] {
            // The first of a network begins its count.
            see(&mut app.visitor(), "/password/forgot", "first@example.jp", &[("email", "first@example.jp")]).await;
            let mut seen = Vec::new();
            for email in people {
                let fields = [more.as_slice(), &[("email", email)]].concat();
                seen.push(match path {
                    "/account/email" => see(&mut signed_in, path, email, &fields).await,
                    _ => see(&mut app.visitor(), path, email, &fields).await,
                });
            }
            for other in &seen[1..] {
                let told = |seen: &Seen| (seen.status, seen.headers.clone(), seen.hashes, seen.rows.clone());
                assert_eq!(told(other), told(&seen[0]), "{path}");
                assert_eq!(other.body, seen[0].body, "{path}");
            }
            let hashes = u64::from(path != "/password/forgot");
            assert_eq!((seen[0].hashes, seen[0].body.len() > 500), (hashes, true), "{path}");
        }
        // The mails know the difference, and reach the owners of the addresses only.
        app.drain().await;
        assert_eq!(subjects(app, "nobody@example.jp").await, ["confirm your e-mail address", "confirm your new e-mail address"]);
        for (email, resets) in [("known@example.jp", 1), ("line@example.jp", 1), ("closed@example.jp", 0)] {
            let subjects = subjects(app, email).await;
            assert_eq!(subjects.iter().filter(|subject| *subject == "choose a new password").count(), resets, "{subjects:?}");
            assert!(subjects.iter().any(|subject| subject == "you have an account already"), "{subjects:?}");
        }
    }

    async fn p02_ten_guesses_then_rests_but_the_owner_gets_in(app) {
        app.member(HANAKO, "Hanako").await;
        let mut owner = app.signed_in(HANAKO).await;
        owner.post("/sign-out", &[]).await;
        // The same for an address that is nobody's.
        let mut pages = BTreeSet::new();
        for email in ["nobody@example.jp", HANAKO] {
            for tries in 1..=10 {
                assert_eq!(sign_in(&mut app.visitor(), email, "wrong password").await, 401, "{email} {tries}");
            }
            let hashed = app.app.hashed.load(Ordering::Relaxed);
            for password in ["wrong password", PASSWORD] {
                let answer = app.visitor().post("/sign-in", &[("email", email), ("password", password)]).await;
                assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{email}");
                let after: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
                assert!((50..=60).contains(&after), "{after}");
                pages.insert(strip(&answer, email));
            }
            assert_eq!(app.app.hashed.load(Ordering::Relaxed), hashed, "nothing is compared");
        }
        assert_eq!(pages.len(), 1);
        assert!(pages.first().unwrap().contains(&title("too_many")));
        assert_eq!(sign_in(&mut owner, HANAKO, "wrong password").await, 401, "a known browser counts by itself");
        assert_eq!(sign_in(&mut owner, HANAKO, PASSWORD).await, 303);
        assert_eq!(sign_in(&mut app.visitor(), HANAKO, PASSWORD).await, 429);
        // A cookie that is not of this member, or not of ours, makes nobody known.
        let token = owner.cookies["__Host-musubi_device"].clone();
        app.member("taro@example.jp", "Taro").await;
        let mut taro = app.signed_in("taro@example.jp").await;
        assert_eq!(sign_in(&mut taro, HANAKO, PASSWORD).await, 429);
        let mut planted = app.visitor();
        planted.cookies.insert("__Host-musubi_device".into(), "x".repeat(43));
        assert_eq!(sign_in(&mut planted, HANAKO, PASSWORD).await, 429);
        assert_eq!(sign_in(&mut planted, "taro@example.jp", PASSWORD).await, 303);
        assert_ne!(planted.cookies["__Host-musubi_device"], "x".repeat(43), "an invented one is not adopted");
        // One try after the rest, then a longer one; success forgets.
        app.clock.advance(MINUTE);
        assert_eq!(sign_in(&mut app.visitor(), HANAKO, "wrong password").await, 401);
        app.clock.advance(MINUTE);
        assert_eq!(sign_in(&mut app.visitor(), HANAKO, PASSWORD).await, 429);
        app.clock.advance(MINUTE);
        assert_eq!(sign_in(&mut app.visitor(), HANAKO, PASSWORD).await, 303);
        assert_eq!(sign_in(&mut app.visitor(), HANAKO, "wrong password").await, 401);
        // A known browser is not free of rests either.
        owner.cookies.remove("__Host-musubi_session");
        for _ in 0..10 {
            assert_eq!(sign_in(&mut owner, HANAKO, "wrong password").await, 401);
        }
        assert_eq!(sign_in(&mut owner, HANAKO, PASSWORD).await, 429);
        app.clock.advance(Duration::from_secs(3600));
        assert_eq!(sign_in(&mut owner, HANAKO, PASSWORD).await, 303);
        assert_eq!(owner.cookies["__Host-musubi_device"], token, "one row for a member and a browser");
        let rows = "SELECT CAST(COUNT(*) AS BIGINT) FROM devices d JOIN members m ON m.id = d.member_id
            WHERE m.email_key = 'hanako@example.jp'";
        assert_eq!(app.count(rows).await, 2);
    }

    async fn p02_guesses_at_one_time_are_counted_before_they_are_compared(app) {
        app.member(HANAKO, "Hanako").await;
        let fields = |_| vec![("email", HANAKO.to_owned()), ("password", "wrong password".to_owned())];
        let requests = forms(app, "/sign-in", fields, 60).await;
        let hashed = app.app.hashed.load(Ordering::Relaxed);
        let answers = at_once(app, requests).await;
        assert_eq!(tally(&answers), [(401, 10), (429, 50)].into());
        assert_eq!(app.app.hashed.load(Ordering::Relaxed) - hashed, 10);
    }

    /// Who guesses slowly has a hundred tries, then one a day; a reset helps the owner at once.
    async fn p02_patience_does_not_pay(app) {
        app.member(HANAKO, "Hanako").await;
        for tries in 1..=100 {
            assert_eq!(sign_in(&mut app.visitor(), HANAKO, "wrong password").await, 401, "{tries}");
            app.clock.advance(MINUTE * 15);
        }
        assert_eq!(sign_in(&mut app.visitor(), HANAKO, PASSWORD).await, 429);
        app.clock.advance(DAY);
        assert_eq!(sign_in(&mut app.visitor(), HANAKO, "wrong password").await, 401);
        app.clock.advance(MINUTE * 60);
        assert_eq!(sign_in(&mut app.visitor(), HANAKO, PASSWORD).await, 429);
        let mut owner = app.visitor();
        reset(&mut owner, HANAKO, NEW).await;
        assert_eq!(sign_in(&mut app.visitor(), HANAKO, NEW).await, 303);
    }

    /// Whoever guesses on cannot keep the owner from signing in after a reset: its browser is known.
    async fn p02_the_browser_of_a_reset_is_known(app) {
        app.member(HANAKO, "Hanako").await;
        let mut owner = app.visitor();
        reset(&mut owner, HANAKO, NEW).await;
        for _ in 0..10 {
            assert_eq!(sign_in(&mut app.visitor(), HANAKO, "wrong password").await, 401);
        }
        assert_eq!(sign_in(&mut app.visitor(), HANAKO, NEW).await, 429);
        assert_eq!(sign_in(&mut owner, HANAKO, NEW).await, 303);
    }

    async fn p03_guesses_over_many_accounts_brake_unknown_browsers(app) {
        app.member(HANAKO, "Hanako").await;
        let mut owner = app.signed_in(HANAKO).await;
        owner.post("/sign-out", &[]).await;
        assert_eq!(sign_in(&mut app.visitor(), "a@example.jp", "wrong password").await, 401);
        assert_eq!(app.count("SELECT tries FROM throttles WHERE name = 'brake'").await, 1);
        assert_eq!(sign_in(&mut owner, HANAKO, "wrong password").await, 401);
        assert_eq!(app.count("SELECT tries FROM throttles WHERE name = 'brake'").await, 1, "known browsers do not count");
        app.execute("UPDATE throttles SET tries = 998 WHERE name = 'brake'").await;
        assert_eq!(sign_in(&mut app.visitor(), "b@example.jp", "wrong password").await, 401);
        assert_eq!(sign_in(&mut app.visitor(), "c@example.jp", "wrong password").await, 401);
        for email in [HANAKO, "d@example.jp"] {
            assert_eq!(sign_in(&mut app.visitor(), email, PASSWORD).await, 429, "{email}");
        }
        assert_eq!(sign_in(&mut owner, HANAKO, PASSWORD).await, 303);
        app.clock.advance(MINUTE * 10);
        assert_eq!(sign_in(&mut app.visitor(), HANAKO, PASSWORD).await, 303);
        assert_eq!(sign_in(&mut app.visitor(), "d@example.jp", "wrong password").await, 401);
        assert_eq!(app.count("SELECT tries FROM throttles WHERE name = 'brake'").await, 1, "and counts anew");
    }

    async fn p04_more_sign_ins_than_hashes_are_told_to_come_again(app) {
        app.member(HANAKO, "Hanako").await;
        let places = app.app.config.security.password_hash.at_once;
        assert_eq!(app.app.hashing.available_permits(), places);
        let taken = app.app.hashing.clone().acquire_many_owned(u32::try_from(places).unwrap()).await.unwrap();
        let hashed = app.app.hashed.load(Ordering::Relaxed);
        let fields = |index| vec![("email", format!("a{index}@example.jp")), ("password", PASSWORD.to_owned())];
        let answers = at_once(app, forms(app, "/sign-in", fields, 500).await).await;
        assert_eq!(tally(&answers), [(503, 500)].into());
        assert!(answers.iter().all(|answer| answer.headers.contains_key("retry-after")));
        assert_eq!(app.app.hashed.load(Ordering::Relaxed), hashed);
        assert_eq!(sign_in(&mut app.visitor(), HANAKO, PASSWORD).await, 503);
        let kept = "SELECT CAST(COUNT(*) AS BIGINT) FROM throttles WHERE tries > 0 AND name IN
            (SELECT name FROM throttles WHERE tried_at = (SELECT MAX(tried_at) FROM throttles))";
        assert_eq!(app.count(kept).await, 0, "a try that was not compared is given back");
        drop(taken);
        assert_eq!(sign_in(&mut app.visitor(), HANAKO, PASSWORD).await, 303);
    }

    async fn p05_p13_a_new_password_is_taken_verbatim_or_not_at_all(app) {
        app.member(HANAKO, "Hanako Yamada").await;
        let mut visitor = app.signed_in(HANAKO).await;
        let long = (0..24).map(|n| musubi::seal::hash(&n.to_string())).collect::<String>()[..1024].to_owned();
        let hash = "SELECT password_hash FROM members";
        let stored = async || -> String {
            sqlx::query_scalar(hash).fetch_one(&mut *app.app.db.conn().await.unwrap()).await.unwrap()
        };
        let before = stored().await;
        for (password, status, words) in [
            ("1234567", 422, "at least"),
            ("🔑🚪🧸📚🎹🧵🪟", 422, "at least"),
            (&format!("{long}x"), 400, "too long"),
            ("nul in it \0 here", 400, "character"),
            ("password", 422, "guess"),
            ("1qaz2wsx", 422, "guess"),
            ("qwertyuiop", 422, "guess"),
            ("Musubi2026", 422, "guess"),
            ("ExampleCompany", 422, "guess"),
            ("yamada1234", 422, "guess"),
            (HANAKO, 422, "guess"),
        ] {
            let hashed = app.app.hashed.load(Ordering::Relaxed);
            let fields = [("current", PASSWORD), ("password", password)];
            let answer = visitor.post("/password/change", &fields).await;
            assert_eq!(answer.status.as_u16(), status, "{password}");
            assert!(answer.body.contains("role=\"alert\"") && answer.body.contains(words), "{password} {}", answer.body);
            let looked = u64::from(words == "guess");
            assert_eq!(app.app.hashed.load(Ordering::Relaxed) - hashed, 1 + looked, "{password}");
        }
        assert_eq!(stored().await, before);
        let mut current = PASSWORD;
        for password in ["Bx9$kT2v", "さくらのきのしたで", "🔑🚪🪟🛏️🧸📚🎹🧵", "ends with a space ", &long] {
            let answer = visitor.post("/password/change", &[("current", current), ("password", password)]).await;
            assert_eq!(answer.location(), "/account?done=password_changed", "{password} {}", answer.body);
            current = password;
            assert_eq!(sign_in(&mut app.visitor(), HANAKO, password).await, 303, "{password}");
            let other = if password == long { &long[1..] } else { password.trim_end() };
            if other != password {
                assert_eq!(sign_in(&mut app.visitor(), HANAKO, other).await, 401, "{password}");
            }
        }
        assert_eq!(sign_in(&mut app.visitor(), HANAKO, &format!("{long}x")).await, 401, "nothing is cut");
    }

    async fn p07_no_password_is_no_way_in(app) {
        app.member(HANAKO, "Hanako").await;
        app.execute("UPDATE members SET password_hash = NULL").await;
        for password in ["", "null", "NULL", "password", "musubi-demo", PASSWORD, "\0"] {
            let hashed = app.app.hashed.load(Ordering::Relaxed);
            assert_eq!(sign_in(&mut app.visitor(), HANAKO, password).await, 401, "{password}");
            assert_eq!(app.app.hashed.load(Ordering::Relaxed) - hashed, 1, "{password}");
        }
    }

    async fn p09_a_reset_link_works_once_and_in_its_time(app) {
        app.member(HANAKO, "Hanako").await;
        app.member("taro@example.jp", "Taro").await;
        let older = reset_token(app, HANAKO).await;
        let token = reset_token(app, HANAKO).await;
        let stored = app.dump(&[]).await.join("\n");
        assert!(!stored.contains(&token) && !stored.contains(&older), "only hashes are stored");
        let mut visitor = app.visitor();
        for _ in 0..2 {
            let page = visitor.get(&format!("/password/reset?token={token}")).await;
            assert!(page.status == StatusCode::OK && page.body.contains(HANAKO), "{}", page.body);
        }
        assert_eq!(app.dump(&[]).await.join("\n"), stored, "opening it changes nothing");
        let weak = visitor.post("/password/reset", &[("token", &token), ("password", "password1")]).await;
        assert_eq!(weak.status, StatusCode::UNPROCESSABLE_ENTITY);
        let (upper, lower) = (token.to_uppercase(), token.to_lowercase());
        let wrong = [older.as_str(), &token[..42], &upper, &lower, "", "\0", &format!("{token}x"), &format!(" {token}")];
        let before = app.dump(&["audit"]).await;
        for bad in wrong {
            let answer = visitor.post("/password/reset", &[("token", bad), ("password", NEW)]).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{bad}");
            assert!(answer.body.contains(&title("reset_gone")) && answer.body.contains("/password/forgot"), "{}", answer.body);
        }
        assert_eq!(app.dump(&["audit"]).await, before);
        assert_eq!(app.audit().await, vec!["token_refused/reset"; wrong.len()]);
        let answer = visitor.post("/password/reset", &[("token", &token), ("password", NEW)]).await;
        assert_eq!(answer.location(), "/sign-in?done=reset", "{}", answer.body);
        assert!(visitor.session_cookie().is_none(), "not signed in by it");
        assert!(visitor.get("/sign-in?done=reset").await.body.contains("role=\"status\""));
        let again = visitor.post("/password/reset", &[("token", &token), ("password", PASSWORD)]).await;
        assert_eq!(again.status, StatusCode::BAD_REQUEST, "used");
        assert_eq!(visitor.get(&format!("/password/reset?token={token}")).await.status, StatusCode::BAD_REQUEST);
        assert_eq!(sign_in(&mut app.visitor(), HANAKO, NEW).await, 303);
        assert_eq!(sign_in(&mut app.visitor(), HANAKO, PASSWORD).await, 401);
        assert_eq!(sign_in(&mut app.visitor(), "taro@example.jp", PASSWORD).await, 303, "nobody else's is touched");
        assert_eq!(subjects(app, HANAKO).await.last().unwrap(), "choose a new password");
        app.drain().await;
        assert_eq!(subjects(app, HANAKO).await.last().unwrap(), "your password was changed");

        let late = reset_token(app, "taro@example.jp").await;
        app.clock.advance(MINUTE * 10);
        let answer = visitor.post("/password/reset", &[("token", &late), ("password", NEW)]).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "too late");
    }

    async fn p09_a_link_pressed_twice_at_one_time_resets_once(app) {
        app.member(HANAKO, "Hanako").await;
        let token = reset_token(app, HANAKO).await;
        let fields = |index| vec![("token", token.clone()), ("password", format!("a fresh phrase {index}"))];
        let answers = at_once(app, forms(app, "/password/reset", fields, 6).await).await;
        assert_eq!(tally(&answers), [(303, 1), (400, 5)].into());
        let audit = app.audit().await;
        assert_eq!(audit.iter().filter(|row| *row == "password_reset/").count(), 1, "{audit:?}");
    }

    async fn p10_a_foreign_host_gets_no_mail_and_no_say_in_links(app) {
        app.member(HANAKO, "Hanako").await;
        let mut visitor = app.visitor();
        let token = visitor.form_token().await;
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("email", HANAKO), ("csrf", &token)])
            .finish();
        let request = |host: &str| {
            let mut request = visitor
                .request(Method::POST, "/password/forgot")
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .header("sec-fetch-site", "same-origin")
                .header("x-forwarded-host", "evil.example")
                .header("forwarded", "host=evil.example");
            request.headers_mut().unwrap().insert(header::HOST, host.parse().unwrap());
            request.body(Body::from(body.clone())).unwrap()
        };
        let (foreign, ours) = (request("evil.example"), request("members.example.jp"));
        assert_eq!(visitor.send(foreign).await.status, StatusCode::BAD_REQUEST);
        app.drain().await;
        assert_eq!(app.mails(HANAKO).await.len(), 0);
        assert_eq!(visitor.send(ours).await.status, StatusCode::OK);
        app.drain().await;
        let mails = app.mails(HANAKO).await;
        assert_eq!(mails.len(), 1);
        let text = format!("{}{}", mails[0]["text"], mails[0]["html"]);
        assert!(text.contains(&format!("{ORIGIN}/password/reset?token=")) && !text.contains("evil"), "{text}");
    }

    async fn p11_one_address_gets_the_mail_and_it_is_the_stored_one(app) {
        app.member("victim@example.jp", "Victim").await;
        app.member("attacker@example.jp", "Attacker").await;
        let mut visitor = app.visitor();
        let (victim, attacker) = ("victim@example.jp", "attacker@example.jp");
        let before = app.dump(&[]).await;
        for fields in [
            vec![("email[]", victim), ("email[]", attacker)],
            vec![("email", victim), ("email", attacker)],
            vec![("email", "victim@example.jp,attacker@example.jp")],
            vec![("email", "victim@example.jp attacker@example.jp")],
            vec![("email", "victim@example.jp;attacker@example.jp")],
            vec![("email", "victim@example.jp\r\nBcc: attacker@example.jp")],
            vec![("email", "\"victim@example.jp\" <attacker@example.jp>")],
            vec![("email", "victim@example.jp\0")],
            vec![("email", r#"["victim@example.jp","attacker@example.jp"]"#)],
            vec![],
        ] {
            let answer = visitor.post("/password/forgot", &fields).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{fields:?}");
        }
        for (kind, body) in [
            ("application/json", r#"{"email":["victim@example.jp","attacker@example.jp"]}"#),
            ("application/json", r#"["victim@example.jp","attacker@example.jp"]"#),
            ("multipart/form-data; boundary=x", "--x\r\n"),
        ] {
            let request = visitor
                .request(Method::POST, "/password/forgot")
                .header(header::CONTENT_TYPE, kind)
                .header("sec-fetch-site", "same-origin")
                .body(Body::from(body))
                .unwrap();
            assert_eq!(visitor.send(request).await.status, StatusCode::BAD_REQUEST, "{kind}");
        }
        assert_eq!(app.dump(&[]).await, before);
        let answer = visitor.post("/password/forgot", &[("email", " Victim@Example.JP ")]).await;
        assert_eq!(answer.status, StatusCode::OK);
        app.drain().await;
        assert_eq!(app.mails(attacker).await.len(), 0);
        let all = app.sim(Method::GET, "/_sim/mails", serde_json::Value::Null).await;
        assert_eq!(all["mails"].as_array().unwrap().len(), 1, "{all}");
    }

    async fn p12_nothing_is_changed_without_a_proof(app) {
        app.member(HANAKO, "Hanako").await;
        app.member("taken@example.jp", "Taken").await;
        let mut visitor = app.signed_in(HANAKO).await;
        app.clock.advance(MINUTE * 30);
        let before = app.dump(&["audit", "throttles", "sessions"]).await;
        for password in ["", "wrong password"] {
            let answer = visitor.post("/account/email", &[("email", "new@example.jp"), ("password", password)]).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN);
            let answer = visitor.post("/password/change", &[("current", password), ("password", NEW)]).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN);
        }
        assert_eq!(visitor.post("/password/change", &[("password", NEW)]).await.status, StatusCode::FORBIDDEN);
        assert_eq!(visitor.post("/account/email", &[("email", "new@example.jp")]).await.status, StatusCode::FORBIDDEN);
        for look_alike in ["ｎew@example.jp", "new@example.jp.", "ne\u{200b}w@example.jp"] {
            let answer = visitor.post("/account/email", &[("email", look_alike), ("password", PASSWORD)]).await;
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{look_alike}");
        }
        assert_eq!(app.dump(&["audit", "throttles", "sessions"]).await, before);

        let token = change_email_token(app, &mut visitor, "New@example.jp").await;
        let (mut other, before) = (app.visitor(), app.dump(&[]).await);
        let page = other.get(&format!("/account/email/confirm?token={token}")).await;
        assert!(page.status == StatusCode::OK && page.body.contains("New@example.jp"), "{}", page.body);
        assert_eq!(app.dump(&[]).await, before, "opening it changes nothing");
        let answer = other.post("/account/email/confirm", &[("token", &token)]).await;
        assert_eq!(answer.location(), "/sign-in?done=email_changed", "whoever reads the mailbox, in any browser");
        let again = other.post("/account/email/confirm", &[("token", &token)]).await;
        assert_eq!(again.status, StatusCode::BAD_REQUEST);
        assert!(again.body.contains(&title("email_gone")), "{}", again.body);
        app.drain().await;
        assert_eq!(subjects(app, HANAKO).await, ["your e-mail address was changed"]);
        assert!(app.mails(HANAKO).await[0]["text"].as_str().unwrap().contains("N***"));
        assert_eq!(sign_in(&mut app.visitor(), "new@example.jp", PASSWORD).await, 303);
        assert_eq!(sign_in(&mut app.visitor(), HANAKO, PASSWORD).await, 401);
        assert_eq!(visitor.get("/account").await.status, StatusCode::OK, "the sessions stay");
    }

    async fn an_address_that_was_taken_meanwhile_is_not_given_twice(app) {
        app.member(HANAKO, "Hanako").await;
        let mut visitor = app.signed_in(HANAKO).await;
        let token = change_email_token(app, &mut visitor, "new@example.jp").await;
        app.member("new@example.jp", "New").await;
        let before = app.dump(&["audit"]).await;
        let answer = visitor.post("/account/email/confirm", &[("token", &token)]).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.body);
        assert_eq!(app.dump(&["audit"]).await, before);
    }

    /// 100 times asked, three mails an hour; the page never says so.
    async fn p14_a_mailbox_is_not_bombed(app) {
        app.member(HANAKO, "Hanako").await;
        let mut visitor = app.visitor();
        let mut pages = BTreeSet::new();
        for _ in 0..100 {
            let answer = visitor.post("/password/forgot", &[("email", HANAKO)]).await;
            assert_eq!(answer.status, StatusCode::OK);
            pages.insert(strip(&answer, HANAKO));
        }
        assert_eq!(pages.len(), 1);
        for _ in 0..4 {
            let fields = [("email", HANAKO), ("name", "Hanako"), ("password", NEW)];
            assert_eq!(visitor.post("/sign-up", &fields).await.status, StatusCode::OK);
        }
        app.drain().await;
        assert_eq!(app.mails(HANAKO).await.len(), 6);
        app.clock.advance(MINUTE * 60);
        visitor.post("/password/forgot", &[("email", HANAKO)]).await;
        app.drain().await;
        assert_eq!(app.mails(HANAKO).await.len(), 7);
    }

    async fn s12_a_change_ends_the_other_sessions_and_renews_this_one(app) {
        app.member(HANAKO, "Hanako").await;
        let mut others = [app.signed_in(HANAKO).await, app.signed_in(HANAKO).await];
        let mut visitor = app.signed_in(HANAKO).await;
        let mut copied = visitor.clone();
        let token = change_email_token(app, &mut others[0], "new@example.jp").await;
        let answer = visitor.post("/password/change", &[("current", PASSWORD), ("password", NEW)]).await;
        assert_eq!(answer.location(), "/account?done=password_changed", "{}", answer.body);
        assert!(visitor.get("/account?done=password_changed").await.body.contains("role=\"status\""));
        for other in others.iter_mut().chain([&mut copied]) {
            assert_eq!(other.get("/account").await.status, StatusCode::SEE_OTHER);
        }
        let answer = visitor.post("/account/email/confirm", &[("token", &token)]).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "what was asked for before is void");
        app.drain().await;
        assert_eq!(subjects(app, HANAKO).await, ["your password was changed"]);
        assert_eq!(sign_in(&mut app.visitor(), HANAKO, PASSWORD).await, 401);
        assert_eq!(sign_in(&mut app.visitor(), HANAKO, NEW).await, 303);
    }

    /// A password that is replaced while it is being compared starts no session.
    async fn k18_a_sign_in_under_way_does_not_outlive_a_reset(app) {
        app.member(HANAKO, "Hanako").await;
        let token = reset_token(app, HANAKO).await;
        let places = u32::try_from(app.app.config.security.password_hash.at_once).unwrap();
        let taken = app.app.hashing.clone().acquire_many_owned(places).await.unwrap();
        let fields = |_| vec![("email", HANAKO.to_owned()), ("password", PASSWORD.to_owned())];
        let request = forms(app, "/sign-in", fields, 1).await.pop().unwrap();
        let router = app.router.clone();
        let signing_in = tokio::spawn(async move {
            crate::support::read(tower::ServiceExt::oneshot(router, request).await.unwrap()).await
        });
        // Its account was read once its try is counted.
        while app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM throttles WHERE tries > 0 AND name LIKE 'account:%'").await == 0 {
            tokio::task::yield_now().await;
        }
        let hash = "SELECT password_hash FROM members";
        let old: String = sqlx::query_scalar(hash).fetch_one(&mut *app.app.db.conn().await.unwrap()).await.unwrap();
        app.execute("UPDATE members SET password_hash = 'replaced'").await;
        drop(taken);
        let answer = signing_in.await.unwrap();
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.body);
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM sessions").await, 0);
        assert!(!old.is_empty() && !token.is_empty());
    }

    /// Whoever signs in with the former password does so wholly before a reset, which ends it, or not at all.
    async fn k18_sign_ins_at_the_moment_of_a_reset_leave_no_session(app) {
        app.member(HANAKO, "Hanako").await;
        let mut password = PASSWORD.to_owned();
        for round in 0..5 {
            let token = reset_token(app, HANAKO).await;
            let next = format!("a fresh phrase {round}");
            let old = |_| vec![("email", HANAKO.to_owned()), ("password", password.clone())];
            let new = |_| vec![("token", token.clone()), ("password", next.clone())];
            let mut requests = forms(app, "/sign-in", old, 6).await;
            requests.insert(round, forms(app, "/password/reset", new, 1).await.pop().unwrap());
            let answers = at_once(app, requests).await;
            let resets = answers.iter().filter(|answer| answer.location() == "/sign-in?done=reset").count();
            assert_eq!(resets, 1, "{:?}", tally(&answers));
            assert!(answers.iter().all(|answer| [303, 401].contains(&answer.status.as_u16())), "{:?}", tally(&answers));
            assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM sessions").await, 0, "{:?}", tally(&answers));
            password = next;
            app.clock.advance(Duration::from_secs(3601));
        }
    }

    async fn k18_k19_a_reset_ends_all_that_somebody_else_could_have_left(app) {
        let (mut attacker, user) = app.linked(HANAKO).await;
        let mut second = app.signed_in(HANAKO).await;
        let token = change_email_token(app, &mut attacker, "evil@example.jp").await;
        // Another one waits to be sent when the reset comes.
        attacker.post("/account/email", &[("email", "evil2@example.jp"), ("password", PASSWORD)]).await;
        let mut owner = app.visitor();
        owner.post("/password/forgot", &[("email", HANAKO)]).await;
        let reset_mail = "SELECT id FROM mails WHERE kind = 'reset'";
        let id: String = sqlx::query_scalar(reset_mail).fetch_one(&mut *app.app.db.conn().await.unwrap()).await.unwrap();
        musubi::mail::send(&app.app, &id).await.unwrap();
        let reset = parameter(&app.mailed_link(HANAKO, "/password/reset").await, "token");
        let answer = owner.post("/password/reset", &[("token", &reset), ("password", NEW)]).await;
        assert_eq!(answer.location(), "/sign-in?done=reset", "{}", answer.body);
        app.drain().await;

        for gone in [&mut attacker, &mut second] {
            assert_eq!(gone.get("/account").await.status, StatusCode::SEE_OTHER);
            assert_eq!(sign_in(gone, HANAKO, PASSWORD).await, 401);
        }
        assert_eq!(app.mails("evil2@example.jp").await.len(), 0, "its mail is called off");
        let answer = attacker.post("/account/email/confirm", &[("token", &token)]).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "K19");
        let known = "SELECT CAST(COUNT(*) AS BIGINT) FROM devices";
        assert_eq!(app.count(known).await, 1, "only the browser of the reset is known");
        // K17: the link made before signs nobody in until its member confirms it again.
        let suspended = "SELECT CAST(COUNT(*) AS BIGINT) FROM links WHERE suspended_at IS NOT NULL AND ended_at IS NULL";
        assert_eq!(app.count(suspended).await, 1);
        let answer = app.visitor().sign_in_by_line(&user).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.body);
        assert_eq!(sign_in(&mut owner, HANAKO, NEW).await, 303);
        assert!(subjects(app, HANAKO).await.contains(&"your password was changed".to_owned()));
    }

    async fn k17_a_link_made_before_a_reset_is_suspended_with_its_menu(app) {
        musubi::worker::prepare(&app.app).await.unwrap();
        app.drain().await;
        let (_, user) = app.linked(HANAKO).await;
        let menu = async || app.phone(&user).await["rich_menu"]["name"].as_str().unwrap_or_default().to_owned();
        assert!(menu().await.starts_with("musubi:linked:"), "{}", menu().await);
        reset(&mut app.visitor(), HANAKO, NEW).await;
        app.drain().await;
        assert!(!menu().await.starts_with("musubi:linked:"), "{}", menu().await);
        let audit = "SELECT data FROM audit WHERE action = 'password_reset'";
        let data: String = sqlx::query_scalar(audit).fetch_one(&mut *app.app.db.conn().await.unwrap()).await.unwrap();
        assert_eq!(data, r#"{"links":1,"sessions":1}"#);
    }

    /// An attempt to link that waits for its yes is void after a reset, though somebody signs in again.
    async fn k18_an_attempt_to_link_does_not_outlive_a_reset(app) {
        app.member(HANAKO, "Hanako").await;
        let mut attacker = app.signed_in(HANAKO).await;
        let user = app.line_user("はなこ").await;
        let attempt = attacker.reach_confirm(&user).await;
        app.clock.advance(MINUTE);
        reset(&mut app.visitor(), HANAKO, NEW).await;
        let answer = attacker.confirm(&attempt).await;
        assert!(answer.location().starts_with("/sign-in?"), "{} {}", answer.status, answer.body);
        sign_in(&mut attacker, HANAKO, NEW).await;
        assert!(attacker.confirm(&attempt).await.status.is_client_error());
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM links").await, 0);
    }

    /// One mailbox is one member however it is written, and what only looks like it is no address.
    async fn k22_an_address_has_one_form(app) {
        let mut first = app.visitor();
        first.post("/sign-up", &[("email", "Hanako@Example.JP"), ("name", "Hanako"), ("password", NEW)]).await;
        app.drain().await;
        let token = parameter(&app.mailed_link("Hanako@Example.JP", "/sign-up/confirm").await, "token");
        assert_eq!(app.visitor().sign_up(HANAKO, "Hanako", PASSWORD).await.location(), "/account?done=signed_up");
        let answer = first.post("/sign-up/confirm", &[("token", &token)]).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.body);
        assert_eq!(sign_in(&mut app.visitor(), " HANAKO@EXAMPLE.JP ", PASSWORD).await, 303);
        let mut visitor = app.signed_in(HANAKO).await;
        for email in ["hanako@example.jp.", "ｈanako@example.jp", "hana\u{200b}ko@example.jp", "hanak\u{43e}@example.jp"] {
            let fields = [("email", email), ("name", "Hanako"), ("password", PASSWORD)];
            assert_eq!(app.visitor().post("/sign-up", &fields).await.status.as_u16(), 422, "{email}");
            assert_eq!(visitor.post("/account/email", &fields).await.status.as_u16(), 422, "{email}");
            assert_eq!(app.visitor().post("/password/forgot", &fields).await.status.as_u16(), 400, "{email}");
            assert_eq!(sign_in(&mut app.visitor(), email, PASSWORD).await, 401, "{email}");
        }
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM members").await, 1);
    }

    /// An account of this address is there, and the person comes by LINE with the same address: no merge.
    async fn k16_an_address_at_line_merges_nothing(app) {
        app.member(HANAKO, "Attacker").await;
        let made = serde_json::json!({ "display_name": "はなこ", "email": HANAKO });
        let user = app.sim(Method::POST, "/_sim/users", made).await["user_id"].as_str().unwrap().to_owned();
        // A new friend is told to the webhook as well.
        let but =
            ["audit", "attempts", "line_users", "jobs", "grants", "friends", "intake", "events", "webhook_bodies"];
        let before = app.dump(&but).await;
        let mut victim = app.visitor();
        let answer = victim.sign_in_by_line(&user).await;
        assert!(answer.location().starts_with("/line/not-linked"), "{} {}", answer.status, answer.body);
        assert!(victim.session_cookie().is_none());
        assert_eq!(app.dump(&but).await, before);
    }

    /// Signed in and asked again: what is counted is the member, so that nobody outside keeps them from it.
    async fn p02_a_stolen_session_does_not_guess_on(app) {
        app.member(HANAKO, "Hanako").await;
        let mut visitor = app.signed_in(HANAKO).await;
        for tries in 1..=10 {
            let (path, status) = match tries % 3 {
                0 => ("/password/change", 403),
                1 => ("/account/email", 403),
                _ => ("/sign-in", 401),
            };
            let fields = [("email", HANAKO), ("current", "wrong"), ("password", "wrong password")];
            assert_eq!(visitor.post(path, &fields).await.status.as_u16(), status, "{tries}");
        }
        let fields = [("email", HANAKO), ("current", PASSWORD), ("password", PASSWORD)];
        for path in ["/password/change", "/account/email", "/sign-in"] {
            assert_eq!(visitor.post(path, &fields).await.status, StatusCode::TOO_MANY_REQUESTS, "{path}");
        }
        assert_eq!(sign_in(&mut app.visitor(), HANAKO, PASSWORD).await, 303);
    }

    async fn u03_a_member_without_a_password_proves_it_by_a_code(app) {
        let (visitor, user) = app.linked(HANAKO).await;
        drop(visitor);
        app.execute("UPDATE members SET password_hash = NULL").await;
        let mut visitor = app.visitor();
        assert_eq!(visitor.sign_in_by_line(&user).await.location(), "/account");
        for path in ["/password/change", "/account/email"] {
            let answer = visitor.get(path).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
            assert!(answer.body.contains("reauth=1"), "{}", answer.body);
            let answer = visitor.post(path, &[("email", "new@example.jp"), ("password", NEW)]).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        }
        let page = visitor.get("/sign-in?reauth=1&return_to=/password/change").await;
        assert!(page.body.contains("action=\"/account/code\"") && !page.body.contains("type=\"password\""), "{}", page.body);
        assert!(page.body.contains("h***@example.jp") && !page.body.contains(HANAKO), "{}", page.body);
        let before = visitor.session_cookie().cloned();
        let answer = visitor.post("/account/code", &[("return_to", "/password/change")]).await;
        assert_eq!(answer.location(), "/sign-in?return_to=%2Fpassword%2Fchange&reauth=1&sent=1");
        assert!(visitor.get(&answer.location()).await.body.contains("name=\"code\""));
        app.drain().await;
        let code = app.mailed_code(HANAKO).await;
        assert!(!app.dump(&[]).await.join("\n").contains(&code.replace('-', "")));

        // Another session of the same member has no use for it.
        let mut other = app.visitor();
        other.sign_in_by_line(&user).await;
        assert_eq!(other.post("/account/code/check", &[("code", &code)]).await.status, StatusCode::UNAUTHORIZED);
        // Typed as people type.
        let typed = format!(" {} ", code.to_lowercase().replace('-', " "));
        let fields = [("code", typed.as_str()), ("return_to", "/password/change")];
        let answer = visitor.post("/account/code/check", &fields).await;
        assert_eq!(answer.location(), "/password/change", "{}", answer.body);
        assert_ne!(visitor.session_cookie().cloned(), before, "a new session id");
        let answer = visitor.post("/account/code/check", &fields).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "once");

        assert_eq!(visitor.get("/password/change").await.status, StatusCode::OK);
        let answer = visitor.post("/password/change", &[("password", NEW)]).await;
        assert_eq!(answer.location(), "/account?done=password_changed", "{}", answer.body);
        assert_eq!(other.get("/account").await.status, StatusCode::SEE_OTHER);
        assert_eq!(sign_in(&mut app.visitor(), HANAKO, NEW).await, 303);
        let audit = app.audit().await;
        assert!(audit.contains(&"stepped_up/".to_owned()) && audit.contains(&"step_up_refused/code".to_owned()), "{audit:?}");
    }

    async fn u03_a_code_has_five_tries_and_ten_minutes(app) {
        let (visitor, user) = app.linked(HANAKO).await;
        drop(visitor);
        app.execute("UPDATE members SET password_hash = NULL").await;
        let mut visitor = app.visitor();
        visitor.sign_in_by_line(&user).await;
        let ask = async |visitor: &mut Visitor<'_>| {
            visitor.post("/account/code", &[]).await;
            app.drain().await;
            app.mailed_code(HANAKO).await
        };
        let code = ask(&mut visitor).await;
        for tries in 1..=4 {
            let answer = visitor.post("/account/code/check", &[("code", "AAAA-AAAA")]).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{tries}");
        }
        let newer = ask(&mut visitor).await;
        assert_eq!(visitor.post("/account/code/check", &[("code", &code)]).await.status, StatusCode::UNAUTHORIZED, "older");
        for _ in 0..4 {
            visitor.post("/account/code/check", &[("code", "AAAA-AAAA")]).await;
        }
        // The throttle stands before it as before a password.
        app.clock.advance(MINUTE * 2);
        assert_eq!(visitor.post("/account/code/check", &[("code", &newer)]).await.status, StatusCode::UNAUTHORIZED, "spent");
        app.clock.advance(MINUTE * 61);
        let late = ask(&mut visitor).await;
        app.clock.advance(MINUTE * 10);
        assert_eq!(visitor.post("/account/code/check", &[("code", &late)]).await.status, StatusCode::UNAUTHORIZED, "late");
        let good = ask(&mut visitor).await;
        assert_eq!(visitor.post("/account/code/check", &[("code", &good)]).await.location(), "/account");
        for _ in 0..10 {
            assert_eq!(visitor.post("/account/code/check", &[("code", "")]).await.status, StatusCode::UNAUTHORIZED);
        }
        assert_eq!(visitor.post("/account/code/check", &[("code", "")]).await.status, StatusCode::TOO_MANY_REQUESTS);
    }

    async fn a_code_is_only_for_who_has_no_password(app) {
        app.member(HANAKO, "Hanako").await;
        let mut visitor = app.signed_in(HANAKO).await;
        assert!(visitor.get("/sign-in?reauth=1").await.body.contains("type=\"password\""));
        visitor.post("/account/code", &[("return_to", "//evil.example")]).await;
        app.drain().await;
        assert_eq!(app.mails(HANAKO).await.len(), 0);
        assert_eq!(visitor.post("/account/code/check", &[("code", "AAAA-AAAA")]).await.status, StatusCode::UNAUTHORIZED);
    }

    async fn what_is_past_its_time_is_pruned(app) {
        app.member(HANAKO, "Hanako").await;
        app.signed_in(HANAKO).await;
        sign_in(&mut app.visitor(), HANAKO, "wrong password").await;
        reset_token(app, HANAKO).await;
        let prune = async || musubi::member::prune(&mut app.app.db.conn().await.unwrap(), app.app.now()).await.unwrap();
        assert_eq!(prune().await, 0);
        app.clock.advance(DAY * 2);
        assert_eq!(prune().await, 4, "the counters of a day");
        app.clock.advance(DAY * 29);
        assert_eq!(prune().await, 2, "a token, and the counter of a month");
        app.clock.advance(DAY * 334);
        assert_eq!(prune().await, 1, "a browser");
        for table in ["tokens", "throttles", "devices"] {
            assert!(!app.dump(&[]).await.iter().any(|row| row.starts_with(&format!("{table}:"))), "{table}");
        }
    }
}
