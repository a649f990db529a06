//! Attacks on linking: forged, foreign, late, repeated and simultaneous links. After each, at most one active
//! link per LINE user and per member, and each with its audit row and its welcome.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::ConnectInfo,
    http::{Method, Request, StatusCode, header},
};
use musubi::{
    link::{cleanup, grant},
    queue,
};
use serde_json::json;
use tokio::sync::Barrier;
use tower::ServiceExt;

use crate::support::{Answer, ORIGIN, TestApp, Visitor, both_engines, read};

pub type Pairs<'a> = &'a [(&'a str, &'a str)];

/// How often a race is run.
pub fn rounds() -> usize {
    let full = std::env::var_os("MUSUBI_TEST_FULL").is_some();
    if full { 25 } else { 3 }
}

/// A number of rows: everything after `FROM`.
macro_rules! rows {
    ($app:expr, $from:literal) => {
        $app.count(concat!("SELECT CAST(COUNT(*) AS BIGINT) FROM ", $from)).await
    };
}
pub(crate) use rows;

/// A form as a page of ours would send it, to be sent together with others.
pub async fn form(visitor: &mut Visitor<'_>, path: &str, fields: Pairs<'_>) -> Request<Body> {
    let token = visitor.form_token().await;
    let mut body = url::form_urlencoded::Serializer::new(String::new());
    let body = body.extend_pairs(fields).append_pair("csrf", &token).finish();
    let request = visitor
        .request(Method::POST, path)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ORIGIN, ORIGIN);
    from_somewhere(request.body(Body::from(body)).unwrap())
}

async fn yes(visitor: &mut Visitor<'_>, attempt: &str) -> Request<Body> {
    form(visitor, "/link/confirm", &[("attempt", attempt), ("decision", "yes"), ("consent", "1:en")]).await
}

pub fn page(visitor: &Visitor<'_>, path: &str) -> Request<Body> {
    from_somewhere(visitor.request(Method::GET, path).body(Body::empty()).unwrap())
}

fn from_somewhere(mut request: Request<Body>) -> Request<Body> {
    request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([192, 0, 2, 1], 40000))));
    request
}

/// Sends all requests at one moment, each in a task of its own; the answers are in the requests' order.
pub async fn at_once(app: &TestApp, requests: Vec<Request<Body>>) -> Vec<Answer> {
    let gate = Arc::new(Barrier::new(requests.len()));
    let send = |request| {
        let (gate, router) = (gate.clone(), app.router.clone());
        tokio::spawn(async move {
            gate.wait().await;
            read(router.oneshot(request).await.unwrap()).await
        })
    };
    let tasks: Vec<_> = requests.into_iter().map(send).collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers
}

/// What must hold however things met: by SQL, over all there ever was.
pub async fn links_are_sound(app: &TestApp) {
    let twice =
        rows!(app, "(SELECT 1 AS x FROM links WHERE ended_at IS NULL GROUP BY line_user_id HAVING COUNT(*) > 1) t");
    assert_eq!(twice, 0, "a LINE user with two links");
    let twice = rows!(
        app,
        "(SELECT 1 AS x FROM links WHERE ended_at IS NULL GROUP BY member_id, provider HAVING COUNT(*) > 1) t"
    );
    assert_eq!(twice, 0, "a member with two links");
    let untold =
        rows!(app, "links l WHERE 1 <> (SELECT COUNT(*) FROM audit a WHERE a.subject = l.id AND a.action = 'linked')");
    assert_eq!(untold, 0, "a link without its one audit row");
    let unwelcome = rows!(
        app,
        "links l WHERE 1 <> (SELECT COUNT(*) FROM deliveries d JOIN messages m ON m.id = d.message_id
         WHERE d.link_id = l.id AND m.cause = 'linked')"
    );
    assert_eq!(unwelcome, 0, "a link without its one welcome");
    let stray = rows!(app, "audit WHERE action = 'linked' AND subject NOT IN (SELECT id FROM links)");
    assert_eq!(stray, 0, "an audit row without its link");
}

/// Whether LINE still honours the newest tokens of the active link, of which there is one.
async fn permission_lives(app: &TestApp) -> bool {
    let mut conn = app.app.db.conn().await.unwrap();
    let link_id: String =
        sqlx::query_scalar("SELECT id FROM links WHERE ended_at IS NULL").fetch_one(&mut *conn).await.unwrap();
    let grants = grant::list_of_link(&mut conn, &link_id).await.unwrap();
    let grant = grant::find(&mut conn, &app.app, &grants[0]).await.unwrap().unwrap();
    app.app.line.profile(&grant.tokens.access_token).await.is_ok()
}

/// The one link there is.
async fn the_link(app: &TestApp) -> String {
    let mut conn = app.app.db.conn().await.unwrap();
    sqlx::query_scalar("SELECT id FROM links").fetch_one(&mut *conn).await.unwrap()
}

/// What was before a refusal.
struct Before {
    but: Vec<&'static str>,
    rows: Vec<String>,
    audit: usize,
    calls: usize,
}

/// All but the audit, the attempt that may be used up, and `but` is to stay as it is.
async fn before(app: &TestApp, but: &[&'static str]) -> Before {
    let but = [&["audit", "attempts"], but].concat();
    Before { rows: app.dump(&but).await, but, audit: app.audit().await.len(), calls: app.calls().await.len() }
}

impl Before {
    /// A page of ours with the status, one audit row with the reason, and nothing else.
    async fn refused(self, app: &TestApp, answer: &Answer, status: u16, reason: &str) {
        assert_eq!(answer.status.as_u16(), status, "{} {}", answer.location(), answer.body);
        assert!(answer.body.contains("error-page"), "{}", answer.body);
        assert!(answer.headers.get_all(header::SET_COOKIE).iter().all(|c| !c.to_str().unwrap().contains("session")));
        let after = app.dump(&self.but).await;
        let changed: Vec<_> = after.iter().filter(|row| !self.rows.contains(row)).collect();
        assert!(changed.is_empty() && after.len() == self.rows.len(), "changed: {changed:#?}");
        let audit = app.audit().await;
        assert_eq!(audit[self.audit..], [format!("line_refused/{reason}")]);
        if !self.but.contains(&"grants") {
            assert_eq!(app.calls().await.len(), self.calls, "LINE was called");
        }
    }
}

/// Two members, signed in.
async fn two<'a>(app: &'a TestApp, round: usize) -> (Visitor<'a>, Visitor<'a>) {
    let (hanako, taro) = (format!("hanako{round}@example.jp"), format!("taro{round}@example.jp"));
    app.member(&hanako, "Hanako").await;
    app.member(&taro, "Taro").await;
    let (mut hanako, mut taro) = (app.signed_in(&hanako).await, app.signed_in(&taro).await);
    // Each round comes from elsewhere: starts are counted by address.
    hanako.address = format!("192.0.2.{}", round + 1);
    taro.address = format!("198.51.100.{}", round + 1);
    (hanako, taro)
}

async fn sign_in(visitor: &mut Visitor<'_>, email: &str) {
    let answer = visitor.post("/sign-in", &[("email", email), ("password", crate::support::PASSWORD)]).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
}

fn by_status(mut answers: Vec<Answer>) -> Vec<(u16, String)> {
    answers.sort_by_key(|answer| answer.status);
    answers.iter().map(|answer| (answer.status.as_u16(), answer.location())).collect()
}

both_engines! {
    async fn k01_a_callback_of_another_browser_links_nothing(app) {
        let (mut attacker, mut victim) = two(app, 0).await;
        let user = app.line_user("Mallory").await;
        for has_own_attempt in [false, true] {
            if has_own_attempt {
                victim.start_line("link", "/account").await;
            }
            let url = attacker.start_line("link", "/account").await;
            let back = attacker.at_line(&url, &user, "consent").await;
            let before = before(app, &[]).await;
            let answer = victim.get(&back).await;
            before.refused(app, &answer, 400, "state_unbound").await;
        }
        assert_eq!(rows!(app, "links"), 0);
        assert_eq!(victim.get("/account").await.status, StatusCode::OK, "the victim stays signed in");
    }

    async fn k02_a_get_neither_starts_nor_confirms(app) {
        let (mut hanako, _) = two(app, 0).await;
        let user = app.line_user("はなこ").await;
        let attempt = hanako.reach_confirm(&user).await;
        // That it was shown is noted once.
        assert_eq!(hanako.get(&format!("/link/confirm?attempt={attempt}")).await.status, StatusCode::OK);
        let before = app.dump(&[]).await;
        let answer = hanako.get("/line/start?purpose=link&provider=main&return_to=/account").await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
        let answer = hanako.get(&format!("/link/confirm?attempt={attempt}&decision=yes")).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(app.dump(&[]).await, before);
    }

    async fn k03_a_form_from_another_site_neither_starts_nor_confirms(app) {
        let (mut hanako, mut taro) = two(app, 0).await;
        let user = app.line_user("はなこ").await;
        let attempt = hanako.reach_confirm(&user).await;
        let (token, foreign) = (hanako.form_token().await, taro.form_token().await);
        let before = (app.dump(&[]).await, app.calls().await.len());
        let start: Pairs = &[("purpose", "link"), ("provider", "main"), ("return_to", "/account")];
        let confirm: Pairs = &[("attempt", &attempt), ("decision", "yes")];
        for (path, fields) in [("/line/start", start), ("/link/confirm", confirm)] {
            let attacks: [(Option<&str>, Pairs); 6] = [
                (None, &[("origin", ORIGIN)]),
                (Some(&foreign), &[("origin", ORIGIN)]),
                (Some(&token), &[]),
                (Some(&token), &[("origin", "https://evil.example")]),
                (Some(&token), &[("origin", ORIGIN), ("sec-fetch-site", "cross-site")]),
                (Some(&token), &[("sec-fetch-site", "same-site")]),
            ];
            for (token, headers) in attacks {
                let token = token.map(|token| ("csrf", token));
                let fields: Vec<_> = fields.iter().copied().chain(token).collect();
                let answer = hanako.post_raw(path, &fields, headers).await;
                assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} {headers:?}");
                assert!(answer.body.contains("error-page"));
            }
        }
        assert_eq!((app.dump(&[]).await, app.calls().await.len()), before);
    }

    async fn k04_the_session_that_returns_must_be_the_one_that_started(app) {
        let (_, _) = two(app, 0).await;
        let user = app.line_user("はなこ").await;
        for (by, status, reason) in
            [(None, 400, "session_changed"), (Some("taro0@example.jp"), 400, "session_changed"),
             (Some("hanako0@example.jp"), 400, "session_changed")]
        {
            let mut browser = app.signed_in("hanako0@example.jp").await;
            let url = browser.start_line("link", "/account").await;
            let back = browser.at_line(&url, &user, "consent").await;
            browser.post("/sign-out", &[]).await;
            if let Some(email) = by {
                sign_in(&mut browser, email).await;
            }
            let before = before(app, &[]).await;
            let answer = browser.get(&back).await;
            before.refused(app, &answer, status, reason).await;
        }
        assert_eq!(rows!(app, "links"), 0);
    }

    async fn k04_the_session_that_confirms_must_be_the_one_that_returned(app) {
        two(app, 0).await;
        let user = app.line_user("はなこ").await;
        for email in ["taro0@example.jp", "hanako0@example.jp"] {
            let mut browser = app.signed_in("hanako0@example.jp").await;
            let attempt = browser.reach_confirm(&user).await;
            browser.post("/sign-out", &[]).await;
            sign_in(&mut browser, email).await;
            let shown = browser.get(&format!("/link/confirm?attempt={attempt}")).await;
            assert_eq!(shown.status, StatusCode::NOT_FOUND);
            assert!(!shown.body.contains("はなこ"));
            let before = before(app, &[]).await;
            let answer = browser.confirm(&attempt).await;
            before.refused(app, &answer, 404, "confirm_gone").await;
        }
        assert_eq!(rows!(app, "links"), 0);
    }

    async fn k05_a_member_disabled_midway_links_nothing(app) {
        let (mut hanako, mut taro) = two(app, 0).await;
        let (hers, his) = (app.line_user("はなこ").await, app.line_user("たろう").await);
        let url = hanako.start_line("link", "/account").await;
        let back = hanako.at_line(&url, &hers, "consent").await;
        let attempt = taro.reach_confirm(&his).await;
        app.execute("UPDATE members SET disabled_at = created_at").await;
        let before = before(app, &[]).await;
        let answer = hanako.get(&back).await;
        before.refused(app, &answer, 400, "session_changed").await;
        let answer = taro.confirm(&attempt).await;
        assert!(answer.location().starts_with("/sign-in"), "{}", answer.status);
        assert_eq!(rows!(app, "links"), 0);
    }

    async fn k05_a_password_changed_midway_voids_what_was_begun(app) {
        let (mut hanako, mut taro) = two(app, 0).await;
        let (hers, his) = (app.line_user("はなこ").await, app.line_user("たろう").await);
        let url = hanako.start_line("link", "/account").await;
        let back = hanako.at_line(&url, &hers, "consent").await;
        let his = taro.reach_confirm(&his).await;
        app.execute("UPDATE members SET password_changed_at = created_at + 3600000").await;
        let answer = hanako.get(&back).await;
        let hers = answer.location().replace("/link/confirm?attempt=", "");
        for (visitor, attempt) in [(&mut hanako, hers), (&mut taro, his)] {
            let before = before(app, &[]).await;
            let answer = visitor.confirm(&attempt).await;
            before.refused(app, &answer, 403, "unavailable").await;
        }
        assert_eq!(rows!(app, "links"), 0);
    }

    async fn k05_a_member_deleted_midway_links_nothing(app) {
        let (mut hanako, mut taro) = two(app, 0).await;
        let (hers, his) = (app.line_user("はなこ").await, app.line_user("たろう").await);
        let url = hanako.start_line("link", "/account").await;
        let back = hanako.at_line(&url, &hers, "consent").await;
        let attempt = taro.reach_confirm(&his).await;
        for visitor in [&mut hanako, &mut taro] {
            let mut other = visitor.clone();
            let fields = [("word", "delete"), ("password", crate::support::PASSWORD)];
            assert_eq!(other.post("/account/delete", &fields).await.status, StatusCode::OK);
        }
        let before = before(app, &[]).await;
        let answer = hanako.get(&back).await;
        before.refused(app, &answer, 400, "session_changed").await;
        assert!(taro.confirm(&attempt).await.location().starts_with("/sign-in"));
        assert_eq!(rows!(app, "links"), 0);
        app.drain().await;
        assert_eq!(rows!(app, "grants WHERE sealed IS NOT NULL"), 0, "what was begun is given back");
    }

    /// Serial, whichever comes first: a deleted member has no link.
    async fn k05_race_deletion_and_yes(app) {
        for round in 0..rounds() {
            let (mut hanako, _) = two(app, round).await;
            let user = app.line_user("はなこ").await;
            let attempt = hanako.reach_confirm(&user).await;
            let fields = [("word", "DELETE"), ("password", crate::support::PASSWORD)];
            let requests =
                vec![yes(&mut hanako, &attempt).await, form(&mut hanako, "/account/delete", &fields).await];
            let answers = at_once(app, requests).await;
            assert_eq!(answers[1].status, StatusCode::OK, "{:?}", answers[1]);
            let stray = rows!(app, "links l JOIN members m ON m.id = l.member_id
                WHERE l.ended_at IS NULL AND m.deleted_at IS NOT NULL");
            assert_eq!(stray, 0, "round {round}: {:?}", answers[0]);
            app.clock.advance(Duration::from_secs(660));
            app.drain().await;
            assert_eq!(rows!(app, "grants WHERE sealed IS NOT NULL"), 0, "round {round}");
        }
    }

    async fn k07_many_yeses_are_one_link(app) {
        for round in 0..rounds() {
            let (mut hanako, _) = two(app, round).await;
            let user = app.line_user("はなこ").await;
            let attempt = hanako.reach_confirm(&user).await;
            let mut requests = Vec::new();
            for _ in 0..20 {
                requests.push(yes(&mut hanako, &attempt).await);
            }
            let answers = at_once(app, requests).await;
            // The link gave the session a new id. Whoever is late is led to what came of it, and changes nothing.
            assert!(answers.iter().all(|answer| answer.location() == "/account?done=linked"), "{answers:?}");
            let renewed: Vec<_> = answers.iter().filter(|a| a.headers.contains_key(header::SET_COOKIE)).collect();
            assert_eq!(renewed.len(), 1, "{renewed:?}");
            hanako.keep_cookies(renewed[0]);
            assert_eq!(hanako.get("/account").await.status, StatusCode::OK);
            app.drain().await;
            assert_eq!(app.phone(&user).await["messages"].as_array().unwrap().len(), 1);
        }
        assert_eq!(rows!(app, "links"), rounds() as i64);
        assert_eq!(rows!(app, "audit WHERE action IN ('linked', 'line_refused')"), rounds() as i64);
        links_are_sound(app).await;
    }

    async fn k07_race_yes_and_no(app) {
        for round in 0..rounds() {
            let (mut hanako, _) = two(app, round).await;
            let user = app.line_user("はなこ").await;
            let attempt = hanako.reach_confirm(&user).await;
            let no = [("attempt", attempt.as_str()), ("decision", "no"), ("consent", "1:en")];
            let requests = vec![yes(&mut hanako, &attempt).await, form(&mut hanako, "/link/confirm", &no).await];
            let answers = at_once(app, requests).await;
            let linked = answers[0].location() == "/account?done=linked";
            assert!(linked || answers[0].status == StatusCode::NOT_FOUND, "{:?}", answers[0]);
            let late = answers[1].location();
            assert_eq!(late, if linked { "/account?done=linked" } else { "/account" });
            hanako.keep_cookies(&answers[0]);
            app.clock.advance(Duration::from_secs(660));
            app.drain().await;
            assert_eq!(rows!(app, "links WHERE ended_at IS NULL"), i64::from(linked));
            assert_eq!(rows!(app, "grants WHERE sealed IS NOT NULL"), i64::from(linked));
            if linked {
                assert!(permission_lives(app).await);
                hanako.keep_cookies(&answers[0]);
                hanako.unlink().await;
            }
        }
        links_are_sound(app).await;
    }

    async fn k07_a_yes_sent_again_does_not_link_again(app) {
        let (mut hanako, _) = two(app, 0).await;
        let user = app.line_user("はなこ").await;
        let attempt = hanako.reach_confirm(&user).await;
        assert_eq!(hanako.confirm(&attempt).await.location(), "/account?done=linked");
        assert_eq!(hanako.confirm(&attempt).await.location(), "/account?done=linked");
        hanako.unlink().await;
        for drained in [false, true] {
            if drained {
                app.drain().await;
            }
            let before = before(app, &[]).await;
            let answer = hanako.confirm(&attempt).await;
            before.refused(app, &answer, 404, "confirm_gone").await;
        }
        assert_eq!(rows!(app, "links WHERE ended_at IS NULL"), 0);
        links_are_sound(app).await;
    }

    async fn k08_a_foreign_attempt_is_not_found(app) {
        let (mut hanako, mut taro) = two(app, 0).await;
        let user = app.line_user("はなこ").await;
        let attempt = hanako.reach_confirm(&user).await;
        let mut stranger = app.visitor();
        assert!(stranger.confirm(&attempt).await.location().starts_with("/sign-in"));
        // Even with her attempt cookie, and so from her browser.
        for cookie in [None, hanako.cookies.get("__Host-musubi_attempt").cloned()] {
            taro.cookies.extend(cookie.map(|value| ("__Host-musubi_attempt".to_owned(), value)));
            assert_eq!(taro.get(&format!("/link/confirm?attempt={attempt}")).await.status, StatusCode::NOT_FOUND);
            for decision in ["yes", "no"] {
                let before = before(app, &[]).await;
                let answer = taro.post("/link/confirm", &[("attempt", &attempt), ("decision", decision), ("consent", "1:en")]).await;
                before.refused(app, &answer, 404, "confirm_gone").await;
            }
        }
        // Her session without the browser that went to LINE is not enough either.
        let mut copied = hanako.clone();
        copied.cookies.remove("__Host-musubi_attempt");
        assert_eq!(copied.confirm(&attempt).await.status, StatusCode::NOT_FOUND);
        assert_eq!(hanako.confirm(&attempt).await.location(), "/account?done=linked", "hers is still hers");
        assert_eq!(rows!(app, "links"), 1);
    }

    async fn k08_an_invented_attempt_is_not_found(app) {
        let (mut hanako, _) = two(app, 0).await;
        let long = "x".repeat(5000);
        for attempt in ["", "0", "\0", "' OR 1=1 --", "../../etc/passwd", &long] {
            let before = before(app, &[]).await;
            let answer = hanako.confirm(attempt).await;
            before.refused(app, &answer, 404, "confirm_gone").await;
            let query = url::form_urlencoded::byte_serialize(attempt.as_bytes()).collect::<String>();
            assert_eq!(hanako.get(&format!("/link/confirm?attempt={query}")).await.status, StatusCode::NOT_FOUND);
        }
        for fields in [&[][..], &[("attempt", "x")], &[("decision", "yes")], &[("attempt", "x"), ("decision", "maybe")]] {
            let answer = hanako.post("/link/confirm", fields).await;
            assert!(answer.status.is_client_error() && answer.body.contains("error-page"), "{fields:?} {answer:?}");
        }
    }

    async fn k08_a_no_and_a_late_yes_give_the_tokens_back(app) {
        let (mut hanako, mut taro) = two(app, 0).await;
        let user = app.line_user("はなこ").await;
        let declined = hanako.reach_confirm(&user).await;
        let late = taro.reach_confirm(&user).await;
        let answer = hanako.post("/link/confirm", &[("attempt", &declined), ("decision", "no"), ("consent", "1:en")]).await;
        assert_eq!(answer.location(), "/account");
        app.drain().await;
        assert_eq!(rows!(app, "grants WHERE sealed IS NOT NULL"), 1);
        app.clock.advance(Duration::from_secs(600));
        for (visitor, attempt) in [(&mut hanako, declined), (&mut taro, late)] {
            let before = before(app, &["sessions"]).await;
            let answer = visitor.confirm(&attempt).await;
            before.refused(app, &answer, 404, "confirm_gone").await;
        }
        app.drain().await;
        assert_eq!(rows!(app, "grants WHERE sealed IS NOT NULL"), 0);
        assert_eq!(app.calls_to("/oauth2/v2.1/revoke").await.len(), 2);
        assert_eq!(rows!(app, "links"), 0);
    }

    async fn k10_a_taken_line_account_stays_with_its_owner_who_is_told(app) {
        app.member("taro@example.jp", "Taro").await;
        let (_, user) = app.linked("hanako@example.jp").await;
        app.execute("UPDATE members SET locale = 'ja' WHERE email_key = 'hanako@example.jp'").await;
        let mut taro = app.signed_in("taro@example.jp").await;
        let url = taro.start_line("link", "/account").await;
        let back = taro.at_line(&url, &user, "consent").await;
        let audit = app.audit().await.len();
        let answer = taro.get(&back).await;
        assert_eq!(answer.status, StatusCode::CONFLICT);
        for hidden in ["Hanako", "hanako@", "はなこ", &user] {
            assert!(!answer.body.contains(hidden), "{hidden} is named");
        }
        assert_eq!(app.audit().await[audit..], ["link_conflict/", "line_refused/conflict_line"]);
        let of = rows!(app, "audit a JOIN members m ON m.id = a.member_id
            WHERE (a.action, m.name) IN (('link_conflict', 'Hanako'), ('line_refused', 'Taro'))");
        assert_eq!(of, 2, "each row is the right member's");
        app.drain().await;
        let phone = app.phone(&user).await;
        assert_eq!(phone["messages"].as_array().unwrap().len(), 2, "{phone}");
        assert!(phone["messages"][1].to_string().contains("連携"), "told in the owner's language: {phone}");
        assert!(!phone["messages"][1].to_string().contains("Taro"), "the other is not named to the owner either");
        assert_eq!(rows!(app, "links WHERE ended_at IS NULL"), 1);
        assert_eq!(rows!(app, "grants WHERE sealed IS NOT NULL"), 1, "the unwanted tokens are given back");
        assert!(permission_lives(app).await);
        links_are_sound(app).await;
    }

    async fn k10_a_line_account_taken_before_the_yes_is_told_once(app) {
        let (mut hanako, mut taro) = two(app, 0).await;
        let user = app.line_user("はなこ").await;
        let attempt = taro.reach_confirm(&user).await;
        hanako.link(&user).await;
        let audit = app.audit().await.len();
        let answer = taro.confirm(&attempt).await;
        assert_eq!(answer.status, StatusCode::CONFLICT);
        assert!(!answer.body.contains("Hanako"));
        let mut told = app.audit().await[audit..].to_vec();
        told.sort();
        assert_eq!(told, ["line_refused/conflict_line", "link_conflict/"]);
        for _ in 0..3 {
            assert_eq!(taro.confirm(&attempt).await.status, StatusCode::NOT_FOUND);
        }
        app.clock.advance(Duration::from_secs(600));
        app.drain().await;
        assert_eq!(app.phone(&user).await["messages"].as_array().unwrap().len(), 2, "not told again and again");
        assert_eq!(rows!(app, "grants WHERE sealed IS NOT NULL"), 1);
        links_are_sound(app).await;
    }

    async fn k11_a_second_line_account_does_not_replace_the_first(app) {
        let (mut hanako, first) = app.linked("hanako@example.jp").await;
        let second = app.line_user("別のはなこ").await;
        let url = hanako.start_line("link", "/account").await;
        let back = hanako.at_line(&url, &second, "consent").await;
        let before = before(app, &["line_users", "friends", "grants", "jobs"]).await;
        let answer = hanako.get(&back).await;
        before.refused(app, &answer, 409, "conflict_member").await;
        let url = hanako.start_line("link", "/account").await;
        let back = hanako.at_line(&url, &first, "consent").await;
        assert_eq!(hanako.get(&back).await.status, StatusCode::CONFLICT, "linked already");
        app.drain().await;
        assert_eq!(rows!(app, "links"), 1);
        assert_eq!(rows!(app, "grants WHERE sealed IS NOT NULL"), 1);
        assert!(app.phone(&second).await["messages"].as_array().unwrap().is_empty());
        assert!(permission_lives(app).await);
    }

    async fn k12_race_one_line(app) {
        for round in 0..rounds() {
            let (mut hanako, mut taro) = two(app, round).await;
            let user = app.line_user("はなこ").await;
            let (hers, his) = (hanako.reach_confirm(&user).await, taro.reach_confirm(&user).await);
            let requests = vec![yes(&mut hanako, &hers).await, yes(&mut taro, &his).await];
            let answers = by_status(at_once(app, requests).await);
            assert_eq!(answers, [(303, "/account?done=linked".into()), (409, String::new())]);
            app.drain().await;
            let phone = app.phone(&user).await;
            assert_eq!(phone["messages"].as_array().unwrap().len(), 2, "a welcome and a word about the conflict");
        }
        assert_eq!(rows!(app, "links"), rounds() as i64);
        links_are_sound(app).await;
    }

    async fn k13_race_one_member(app) {
        let mut conflicts = 0;
        for round in 0..rounds() {
            let (mut hanako, _) = two(app, round).await;
            let users = [app.line_user("はなこ").await, app.line_user("ハナコ").await];
            let mut requests = Vec::new();
            for user in &users {
                let attempt = hanako.reach_confirm(user).await;
                requests.push(yes(&mut hanako, &attempt).await);
            }
            let mut answers = by_status(at_once(app, requests).await);
            answers.sort();
            assert_eq!(answers[0], (303, "/account?done=linked".into()));
            // Whoever comes when the link is made has an id of before it.
            let is_late = answers[1].1.starts_with("/sign-in?");
            assert!(is_late || answers[1] == (409, String::new()), "{answers:?}");
            conflicts += i64::from(!is_late);
        }
        assert_eq!(rows!(app, "links"), rounds() as i64);
        assert_eq!(rows!(app, "audit WHERE reason = 'conflict_member'"), conflicts);
        links_are_sound(app).await;
    }

    async fn k14_a_new_link_cancels_the_waiting_clean_up(app) {
        let (mut hanako, user) = app.linked("hanako@example.jp").await;
        hanako.unlink().await;
        assert_eq!(hanako.link(&user).await.location(), "/account?done=linked");
        app.drain().await;
        assert_eq!(app.calls_to("/user/v1/deauthorize").await.len(), 0);
        assert_eq!(rows!(app, "unlink_steps WHERE state <> 'cancelled'"), 0);
        assert_eq!(rows!(app, "jobs WHERE kind = 'deauthorize' AND note = 'cancelled'"), 1);
        let old = rows!(app, "grants g JOIN links l ON l.id = g.link_id WHERE l.ended_at IS NOT NULL AND g.sealed IS NULL");
        assert_eq!(old, 1, "the former link's tokens are erased");
        assert!(permission_lives(app).await);
        assert!(app.phone(&user).await["rich_menu"]["name"].as_str().unwrap().starts_with("musubi:linked:"));
        assert!(!hanako.get("/account").await.body.contains("class=\"steps\""));
        links_are_sound(app).await;
    }

    async fn k14_another_members_link_cancels_the_waiting_clean_up_too(app) {
        app.member("taro@example.jp", "Taro").await;
        let (mut hanako, user) = app.linked("hanako@example.jp").await;
        hanako.unlink().await;
        let mut taro = app.signed_in("taro@example.jp").await;
        assert_eq!(taro.link(&user).await.location(), "/account?done=linked");
        app.drain().await;
        assert_eq!(app.calls_to("/user/v1/deauthorize").await.len(), 0);
        assert!(permission_lives(app).await);
        links_are_sound(app).await;
    }

    async fn k14_a_link_waits_for_the_clean_up_in_flight(app) {
        let (mut hanako, user) = app.linked("hanako@example.jp").await;
        hanako.unlink().await;
        let claimed = queue::claim(&app.app, queue::Lane::Line, 100).await.unwrap();
        assert!(claimed.iter().any(|claimed| matches!(claimed.job, queue::Job::Deauthorize { .. })));
        let attempt = hanako.reach_confirm(&user).await;
        for _ in 0..2 {
            let before = before(app, &[]).await;
            let answer = hanako.confirm(&attempt).await;
            before.refused(app, &answer, 409, "busy").await;
        }
        let again = queue::Outcome::Retry { why: "held by the test".into(), after: Some(Duration::ZERO) };
        for claimed in &claimed {
            queue::finish(&app.app, claimed, &again, 0.0).await.unwrap();
        }
        app.drain().await;
        assert_eq!(app.calls_to("/user/v1/deauthorize").await.len(), 1);
        // That took the permission away which this proof came with.
        let before = before(app, &[]).await;
        let answer = hanako.confirm(&attempt).await;
        before.refused(app, &answer, 404, "confirm_gone").await;
        assert_eq!(hanako.link(&user).await.location(), "/account?done=linked");
        app.drain().await;
        assert!(permission_lives(app).await);
        links_are_sound(app).await;
    }

    async fn k14_a_proof_older_than_the_clean_up_is_not_used(app) {
        let (mut hanako, user) = app.linked("hanako@example.jp").await;
        hanako.unlink().await;
        let attempt = hanako.reach_confirm(&user).await;
        app.drain().await;
        let before = before(app, &[]).await;
        let answer = hanako.confirm(&attempt).await;
        before.refused(app, &answer, 404, "confirm_gone").await;
        assert_eq!(hanako.link(&user).await.location(), "/account?done=linked");
        assert!(permission_lives(app).await);
        assert_eq!(rows!(app, "links WHERE ended_at IS NULL"), 1);
    }

    /// LINE carried it out, and we do not know: the proof may be dead.
    async fn k14_a_proof_older_than_a_clean_up_in_doubt_is_not_used(app) {
        let (mut hanako, user) = app.linked("hanako@example.jp").await;
        hanako.unlink().await;
        let attempt = hanako.reach_confirm(&user).await;
        app.fault(json!({ "endpoint": "POST /user/v1/deauthorize", "cut": "after" })).await;
        app.drain().await;
        assert_eq!(rows!(app, "unlink_steps WHERE step = 'deauthorize' AND state = 'pending'"), 1);
        let before = before(app, &[]).await;
        let answer = hanako.confirm(&attempt).await;
        before.refused(app, &answer, 404, "confirm_gone").await;
        // A proof younger than the last try could still be at LINE is fine: the job is cancelled as ever.
        app.clock.advance(queue::LIMIT);
        assert_eq!(hanako.link(&user).await.location(), "/account?done=linked");
        app.clock.advance(Duration::from_secs(3600));
        app.drain().await;
        assert!(permission_lives(app).await);
    }

    async fn k14_a_dead_workers_clean_up_is_cancelled(app) {
        let (mut hanako, user) = app.linked("hanako@example.jp").await;
        hanako.unlink().await;
        let claimed = queue::claim(&app.app, queue::Lane::Line, 100).await.unwrap();
        app.execute("UPDATE jobs SET leased_until = 1 WHERE leased_until IS NOT NULL").await;
        assert_eq!(hanako.link(&user).await.location(), "/account?done=linked");
        let again = queue::Outcome::Retry { why: "not dead after all".into(), after: Some(Duration::ZERO) };
        for claimed in &claimed {
            queue::finish(&app.app, claimed, &again, 0.0).await.unwrap();
        }
        app.drain().await;
        assert_eq!(app.calls_to("/user/v1/deauthorize").await.len(), 0);
        assert_eq!(rows!(app, "grants WHERE sealed IS NOT NULL"), 1);
        assert!(permission_lives(app).await);
    }

    /// However the new link came about: the job itself looks for it before LINE is asked.
    async fn k14_the_job_itself_sees_a_new_link(app) {
        let (mut hanako, _) = app.linked("hanako@example.jp").await;
        hanako.unlink().await;
        app.execute(
            "INSERT INTO links (id, provider, line_user_id, member_id, source, consent_version, consent_locale, created_at)
             SELECT 'imported', provider, line_user_id, member_id, 'imported', '1', 'ja', created_at FROM links",
        )
        .await;
        app.drain().await;
        assert_eq!(app.calls_to("/user/v1/deauthorize").await.len(), 0);
        assert_eq!(rows!(app, "unlink_steps WHERE step = 'deauthorize' AND state = 'cancelled'"), 1);
        assert_eq!(rows!(app, "grants WHERE sealed IS NOT NULL"), 0, "the former link's tokens go all the same");
    }

    async fn k14_race_link_and_unlink(app) {
        for round in 0..rounds() {
            let (mut hanako, mut taro) = two(app, round).await;
            let user = app.line_user("はなこ").await;
            let his = taro.reach_confirm(&user).await;
            hanako.link(&user).await;
            app.drain().await;
            let unlink = [("provider", "main"), ("password", crate::support::PASSWORD)];
            let requests =
                vec![form(&mut hanako, "/account/unlink", &unlink).await, yes(&mut taro, &his).await];
            let working = async {
                for _ in 0..20 {
                    app.drain().await;
                    tokio::task::yield_now().await;
                }
            };
            let (answers, ()) = tokio::join!(at_once(app, requests), working);
            assert_eq!(answers[0].location(), "/account?done=unlinked");
            let linked = answers[1].location() == "/account?done=linked";
            assert!(linked || [404, 409].contains(&answers[1].status.as_u16()), "{:?}", answers[1]);
            app.drain().await;
            assert_eq!(rows!(app, "links WHERE ended_at IS NULL"), i64::from(linked), "round {round}");
            links_are_sound(app).await;
            if linked {
                assert!(permission_lives(app).await, "round {round}: the new link's permission was taken away");
                taro.keep_cookies(&answers[1]);
                assert_eq!(taro.unlink().await.location(), "/account?done=unlinked");
            }
            app.clock.advance(Duration::from_secs(660));
            app.drain().await;
            assert_eq!(rows!(app, "grants WHERE sealed IS NOT NULL"), 0, "round {round}");
            assert_eq!(rows!(app, "unlink_steps WHERE state = 'pending'"), 0, "round {round}");
        }
    }

    async fn k15_race_sign_in_and_link(app) {
        let mut members = 0;
        for round in 0..rounds() {
            let (mut hanako, _) = two(app, round).await;
            members += 2;
            let user = app.line_user("はなこ").await;
            let attempt = hanako.reach_confirm(&user).await;
            let mut stranger = app.visitor();
            let url = stranger.start_line("sign_in", "/").await;
            let back = stranger.at_line(&url, &user, "consent").await;
            let requests = vec![yes(&mut hanako, &attempt).await, page(&stranger, &back)];
            let answers = at_once(app, requests).await;
            assert_eq!(answers[0].location(), "/account?done=linked");
            let signed_in = answers[1].location() == "/account";
            assert!(signed_in || answers[1].location() == "/line/not-linked?provider=main", "{:?}", answers[1]);
            app.drain().await;
        }
        assert_eq!(rows!(app, "members"), members, "nobody new");
        let foreign = rows!(app, "sessions s JOIN links l ON l.id = s.link_id WHERE l.member_id <> s.member_id");
        assert_eq!(foreign, 0);
        links_are_sound(app).await;
    }

    /// A node whose clock is behind says yes to what another gave up already.
    async fn k08_a_yes_after_another_node_gave_the_attempt_up(app) {
        let (mut hanako, _) = two(app, 0).await;
        let user = app.line_user("はなこ").await;
        let attempt = hanako.reach_confirm(&user).await;
        cleanup::abandon(&app.app, &attempt).await.unwrap();
        let before = before(app, &[]).await;
        let answer = hanako.confirm(&attempt).await;
        before.refused(app, &answer, 404, "confirm_gone").await;
        app.drain().await;
        assert_eq!((rows!(app, "links"), rows!(app, "grants WHERE sealed IS NOT NULL")), (0, 0));
    }

    /// To look at a dead confirmation is refused like a yes to it: with one audit row.
    async fn k08_a_dead_confirmation_that_is_looked_at(app) {
        let (mut hanako, mut taro) = two(app, 0).await;
        let user = app.line_user("はなこ").await;
        let attempt = hanako.reach_confirm(&user).await;
        let before_foreign = before(app, &[]).await;
        let answer = taro.get(&format!("/link/confirm?attempt={attempt}")).await;
        before_foreign.refused(app, &answer, 404, "confirm_gone").await;
        app.clock.advance(Duration::from_secs(600));
        let before_late = before(app, &["sessions"]).await;
        let answer = hanako.get(&format!("/link/confirm?attempt={attempt}")).await;
        before_late.refused(app, &answer, 404, "confirm_gone").await;
    }

    /// The try is noted before LINE is asked, with the latest time at which it may still arrive there: a node that
    /// died in it is no reason to trust an older proof.
    async fn k14_a_try_is_noted_with_its_latest_time(app) {
        let (mut hanako, user) = app.linked("hanako@example.jp").await;
        hanako.unlink().await;
        let link_id = the_link(app).await;
        app.fault(json!({ "endpoint": "POST /user/v1/deauthorize", "delay_ms": 60_000 })).await;
        let dying = cleanup::deauthorize(&app.app, &link_id);
        assert!(tokio::time::timeout(Duration::from_millis(700), dying).await.is_err(), "it hangs at LINE");
        let noted = rows!(app, "unlink_steps WHERE step = 'deauthorize' AND state = 'pending' AND note = 'tried'");
        assert_eq!(noted, 1);
        let attempt = hanako.reach_confirm(&user).await;
        let before = before(app, &[]).await;
        let answer = hanako.confirm(&attempt).await;
        before.refused(app, &answer, 404, "confirm_gone").await;
        app.clock.advance(queue::LIMIT);
        assert_eq!(hanako.link(&user).await.location(), "/account?done=linked");
        app.drain().await;
        assert!(permission_lives(app).await);
        links_are_sound(app).await;
    }

    async fn k17_a_suspended_link_is_resumed_by_line_and_a_yes(app) {
        let (mut hanako, user) = app.linked("hanako@example.jp").await;
        app.execute("UPDATE links SET suspended_at = created_at").await;
        assert_eq!(app.visitor().sign_in_by_line(&user).await.status, StatusCode::FORBIDDEN, "it signs nobody in");
        let page = hanako.get("/account").await.body;
        for words in ["Paused", "Confirm with LINE", "name=\"purpose\" value=\"link\"", "/account/unlink?provider=main"] {
            assert!(page.contains(words), "{words}: {page}");
        }
        app.drain().await;
        app.clock.advance(Duration::from_secs(1));
        assert_eq!(hanako.link(&user).await.location(), "/account?done=linked");
        assert_eq!(app.audit().await.last().unwrap(), "link_resumed/");
        assert_eq!((rows!(app, "links"), rows!(app, "links WHERE suspended_at IS NULL AND ended_at IS NULL")), (1, 1));
        assert_eq!(rows!(app, "consents"), 2, "the yes is evidence again");
        app.drain().await;
        assert_eq!(rows!(app, "grants WHERE sealed IS NOT NULL"), 1, "the tokens of before are given back");
        assert!(permission_lives(app).await);
        assert!(app.phone(&user).await["rich_menu"].to_string().contains("musubi:linked:"), "and the menu is back");
        assert_eq!(app.visitor().sign_in_by_line(&user).await.location(), "/account");
        assert_eq!(app.phone(&user).await["messages"].as_array().unwrap().len(), 1, "no second welcome");
        links_are_sound(app).await;
    }

    /// The whole way: a reset by mail suspends, LINE and a yes resume; the way back out of the link works still.
    async fn k17_from_the_reset_to_the_yes(app) {
        let (mut hanako, user) = app.linked("hanako@example.jp").await;
        hanako.post("/password/forgot", &[("email", "hanako@example.jp")]).await;
        app.drain().await;
        let token = crate::support::parameter(&app.mailed_link("hanako@example.jp", "/password/reset").await, "token");
        let new = "a new long password of hers";
        let answer = hanako.post("/password/reset", &[("token", &token), ("password", new)]).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        assert_eq!(rows!(app, "links WHERE suspended_at IS NOT NULL"), 1);
        let answer = hanako.post("/sign-in", &[("email", "hanako@example.jp"), ("password", new)]).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        assert!(hanako.get("/account").await.body.contains("Confirm with LINE"));
        app.clock.advance(Duration::from_secs(2));
        assert_eq!(hanako.link(&user).await.location(), "/account?done=linked");
        app.drain().await;
        assert_eq!(app.visitor().sign_in_by_line(&user).await.location(), "/account");
        let token = crate::support::parameter(&app.mailed_link("hanako@example.jp", "/link/undo").await, "token");
        assert_eq!(app.visitor().post("/link/undo", &[("token", &token)]).await.status, StatusCode::OK);
        assert_eq!(rows!(app, "links WHERE ended_at IS NULL"), 0);
        links_are_sound(app).await;
    }

    async fn k17_a_suspended_link_can_be_unlinked(app) {
        let (mut hanako, user) = app.linked("hanako@example.jp").await;
        app.execute("UPDATE links SET suspended_at = created_at").await;
        assert_eq!(hanako.unlink().await.location(), "/account?done=unlinked");
        app.drain().await;
        assert_eq!(rows!(app, "unlink_steps WHERE state <> 'done'"), 0);
        assert_eq!(hanako.link(&user).await.location(), "/account?done=linked", "and linked anew");
        links_are_sound(app).await;
    }

    async fn k17_neither_another_line_account_nor_another_member_takes_its_place(app) {
        app.member("taro@example.jp", "Taro").await;
        let (mut hanako, user) = app.linked("hanako@example.jp").await;
        app.execute("UPDATE links SET suspended_at = created_at").await;
        let other = app.line_user("別のはなこ").await;
        let url = hanako.start_line("link", "/account").await;
        let back = hanako.at_line(&url, &other, "consent").await;
        let before_other = before(app, &["line_users", "friends", "grants", "jobs"]).await;
        let answer = hanako.get(&back).await;
        before_other.refused(app, &answer, 409, "conflict_member").await;
        let mut taro = app.signed_in("taro@example.jp").await;
        let url = taro.start_line("link", "/account").await;
        let back = taro.at_line(&url, &user, "consent").await;
        assert_eq!(taro.get(&back).await.status, StatusCode::CONFLICT);
        app.drain().await;
        assert_eq!(rows!(app, "links WHERE suspended_at IS NOT NULL AND ended_at IS NULL"), 1);
        assert_eq!(app.phone(&user).await["messages"].as_array().unwrap().len(), 1, "a suspended link is sent nothing");
        // The owner's proof of before the suspension's end is good all the same.
        assert_eq!(hanako.link(&user).await.location(), "/account?done=linked");
    }

    /// Another reset between the start and the yes: the suspension stays.
    async fn k17_a_reset_midway_keeps_it_suspended(app) {
        let (mut hanako, user) = app.linked("hanako@example.jp").await;
        app.execute("UPDATE links SET suspended_at = created_at").await;
        let attempt = hanako.reach_confirm(&user).await;
        app.execute("UPDATE members SET password_changed_at = created_at + 3600000").await;
        let before = before(app, &[]).await;
        let answer = hanako.confirm(&attempt).await;
        before.refused(app, &answer, 403, "unavailable").await;
        assert_eq!(rows!(app, "links WHERE suspended_at IS NOT NULL"), 1);
    }

    async fn k17_race_yeses_and_an_unlink(app) {
        for round in 0..rounds() {
            let (mut hanako, user) = app.linked(&format!("hanako-r{round}@example.jp")).await;
            hanako.address = format!("192.0.2.{}", round + 1);
            app.execute("UPDATE links SET suspended_at = created_at WHERE ended_at IS NULL").await;
            let (one, two) = (hanako.reach_confirm(&user).await, hanako.reach_confirm(&user).await);
            let unlink = [("provider", "main"), ("password", crate::support::PASSWORD)];
            let requests = vec![
                yes(&mut hanako, &one).await,
                yes(&mut hanako, &two).await,
                form(&mut hanako, "/account/unlink", &unlink).await,
            ];
            let answers = at_once(app, requests).await;
            assert!(answers.iter().all(|answer| answer.status.as_u16() != 500), "{answers:?}");
            app.drain().await;
            assert!(rows!(app, "links WHERE ended_at IS NULL") <= 1);
            if rows!(app, "links WHERE ended_at IS NULL AND suspended_at IS NULL") == 1 {
                assert!(permission_lives(app).await, "round {round}");
            }
            links_are_sound(app).await;
            app.signed_in(&format!("hanako-r{round}@example.jp")).await.unlink().await;
            app.clock.advance(Duration::from_secs(660));
            app.drain().await;
            assert_eq!(rows!(app, "grants WHERE sealed IS NOT NULL"), 0, "round {round}");
            assert_eq!(rows!(app, "unlink_steps WHERE state = 'pending'"), 0, "round {round}");
        }
    }

    async fn k20_a_link_starts_only_soon_after_the_password(app) {
        let (_, user) = app.linked("hanako@example.jp").await;
        let mut hanako = app.signed_in("hanako@example.jp").await;
        let mut by_line = app.visitor();
        by_line.sign_in_by_line(&user).await;
        app.drain().await;
        let start = [("purpose", "link"), ("provider", "main"), ("return_to", "/account")];
        let sent = rows!(app, "attempts");
        assert_eq!(by_line.post("/line/start", &start).await.status, StatusCode::UNAUTHORIZED, "LINE does not prove LINE");
        app.clock.advance(Duration::from_secs(599));
        assert_eq!(hanako.post("/line/start", &start).await.status, StatusCode::SEE_OTHER, "just in time");
        app.clock.advance(Duration::from_secs(1));
        let answer = hanako.post("/line/start", &start).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert!(answer.body.contains(&crate::support::title("reauth")) && answer.body.contains("reauth"));
        assert_eq!(rows!(app, "attempts"), sent + 1, "no attempt");
    }

    async fn k21_a_name_is_shown_as_what_anyone_may_choose(app) {
        let (mut hanako, _) = two(app, 0).await;
        let user = app.line_user("Example Company Support ✓").await;
        let attempt = hanako.reach_confirm(&user).await;
        let page = hanako.get(&format!("/link/confirm?attempt={attempt}")).await;
        assert!(page.body.contains("<bdi>Example Company Support ✓</bdi>"), "{}", page.body);
        assert!(page.body.contains("Anyone can choose any name and picture on LINE"));
        assert!(page.body.contains("<bdi>Hanako</bdi>") && page.body.contains("<bdi>h***@example.jp</bdi>"));
        assert!(!page.body.contains("hanako0@example.jp") && !page.body.contains(&user));
    }
}
