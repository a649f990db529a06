//! Attacks on sessions: planted, invented, copied, swapped, outlived and half-made ones, and the page that lists them.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Method, StatusCode, header},
};
use musubi::{
    db::Db,
    member::{
        disabling::{self, Outcome},
        guard::Who,
        session,
    },
    routes,
};
use sqlx::Row;

use crate::{
    linking::{at_once, form, page, rounds, rows},
    login::{get_from, rebuilt},
    support::{Answer, Engine, PASSWORD, TestApp, Visitor, both_engines},
};

const SESSION: &str = "__Host-musubi_session";
const EMAIL: &str = "hanako@example.jp";
const SIGN_IN: &[(&str, &str)] = &[("email", EMAIL), ("password", PASSWORD)];

async fn is_signed_in(visitor: &Visitor<'_>) -> bool {
    let answer = visitor.clone().get("/account").await;
    assert!(answer.status == StatusCode::OK || answer.location().starts_with("/sign-in?"), "{}", answer.status);
    answer.status == StatusCode::OK
}

/// A browser with just this session cookie.
fn with_session<'a>(app: &'a TestApp, value: &str) -> Visitor<'a> {
    let mut visitor = app.visitor();
    visitor.cookies.insert(SESSION.to_owned(), value.to_owned());
    visitor
}

/// The session has a new id, and the one before is dead.
async fn is_renewed(visitor: &Visitor<'_>, before: &Visitor<'_>, what: &str) {
    assert_ne!(visitor.session_cookie(), before.session_cookie(), "{what}");
    assert!(is_signed_in(visitor).await, "{what}: signed in");
    assert!(!is_signed_in(before).await, "{what}: the old id lives");
}

/// The handles of the page's sessions, in its order.
fn handles(page: &Answer) -> Vec<String> {
    let parts = page.body.split("name=\"session\" value=\"").skip(1);
    parts.map(|part| part.split('"').next().unwrap().to_owned()).collect()
}

/// The audit's rows of one action, as `reason data`.
async fn audited(app: &TestApp, action: &str) -> Vec<String> {
    let mut conn = app.app.db.conn().await.unwrap();
    let rows: Vec<(Option<String>, String)> =
        sqlx::query_as("SELECT reason, data FROM audit WHERE action = $1 ORDER BY id")
            .bind(action)
            .fetch_all(&mut *conn)
            .await
            .unwrap();
    rows.into_iter().map(|(reason, data)| format!("{} {data}", reason.unwrap_or_default())).collect()
}

/// From now on each statement of this kind on the sessions fails.
async fn break_sessions(app: &TestApp, sqlite: &'static str, postgres: &'static str) {
    let statement = match app.engine {
        Engine::Sqlite => sqlite,
        Engine::Postgres => postgres,
    };
    sqlx::raw_sql(statement).execute(&mut *app.app.db.conn().await.unwrap()).await.unwrap();
}

async fn refuse_inserts(app: &TestApp) {
    break_sessions(
        app,
        "CREATE TRIGGER no BEFORE INSERT ON sessions BEGIN SELECT RAISE(ABORT, 'no'); END",
        "CREATE FUNCTION no() RETURNS trigger AS 'BEGIN RAISE EXCEPTION ''no''; END' LANGUAGE plpgsql;
         CREATE TRIGGER no BEFORE INSERT ON sessions FOR EACH ROW EXECUTE FUNCTION no()",
    )
    .await;
}

async fn refuse_updates(app: &TestApp) {
    break_sessions(
        app,
        "CREATE TRIGGER no BEFORE UPDATE ON sessions BEGIN SELECT RAISE(ABORT, 'no'); END",
        "CREATE FUNCTION no() RETURNS trigger AS 'BEGIN RAISE EXCEPTION ''no''; END' LANGUAGE plpgsql;
         CREATE TRIGGER no BEFORE UPDATE ON sessions FOR EACH ROW EXECUTE FUNCTION no()",
    )
    .await;
}

/// A page that says that something went wrong here, and leaves the session cookie as it is.
fn is_our_fault(answer: &Answer) {
    assert!(answer.status.is_server_error(), "{} {}", answer.status, answer.location());
    assert!(answer.body.contains("error-page"), "{}", answer.body);
    let cookies = answer.headers.get_all(header::SET_COOKIE).iter();
    assert!(cookies.into_iter().all(|cookie| !cookie.to_str().unwrap().contains("session")));
}

both_engines! {
    async fn s01_an_id_planted_before_is_never_adopted(app) {
        let (mut victim, user) = app.linked(EMAIL).await;
        victim.post("/sign-out", &[]).await;
        for planted in ["A".repeat(43), app.app.random_token().unwrap(), victim.session_cookie().cloned().unwrap_or_default()] {
            for by_line in [false, true] {
                let mut browser = with_session(app, &planted);
                if by_line {
                    browser.sign_in_by_line(&user).await;
                } else {
                    browser.post("/sign-in", SIGN_IN).await;
                }
                assert!(is_signed_in(&browser).await);
                assert_ne!(browser.session_cookie().unwrap(), &planted);
                assert!(!is_signed_in(&with_session(app, &planted)).await, "the planted id was adopted");
            }
        }
    }

    async fn s01_each_change_of_privilege_gives_a_new_id(app) {
        app.member(EMAIL, "Hanako").await;
        let user = app.line_user("はなこ").await;
        let mut visitor = app.signed_in(EMAIL).await;
        let lineage = "SELECT CAST(COUNT(DISTINCT lineage_id) AS BIGINT) FROM sessions";

        let before = visitor.clone();
        visitor.post("/sign-in", SIGN_IN).await;
        is_renewed(&visitor, &before, "the password again").await;

        let before = visitor.clone();
        assert_eq!(visitor.link(&user).await.location(), "/account?done=linked");
        is_renewed(&visitor, &before, "a link").await;

        let before = visitor.clone();
        assert_eq!(visitor.unlink().await.location(), "/account?done=unlinked");
        is_renewed(&visitor, &before, "an unlink").await;

        assert_eq!(visitor.link(&user).await.location(), "/account?done=linked");
        let before = visitor.clone();
        visitor.sign_in_by_line(&user).await;
        is_renewed(&visitor, &before, "LINE").await;

        let before = visitor.clone();
        assert_eq!(visitor.unlink().await.location(), "/account?done=unlinked");
        is_renewed(&visitor, &before, "an unlink of the link that this came by").await;
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM sessions").await, 1, "none is left behind");
        assert_eq!(app.count(lineage).await, 1);
    }

    async fn s02_an_invented_id_is_nobody(app) {
        let (_, user) = app.linked(EMAIL).await;
        for invented in ["A".repeat(43), app.app.random_token().unwrap(), "x".repeat(3000), "' OR 1=1 --".into()] {
            let mut browser = with_session(app, &invented);
            assert!(!is_signed_in(&browser).await);
            let before = app.dump(&["attempts"]).await;
            let answer = browser.post("/sign-out", &[]).await;
            assert!(answer.location().starts_with("/sign-in?"));
            browser.start_line("sign_in", "/").await;
            assert_eq!(app.dump(&["attempts"]).await, before, "{user}");
            assert_eq!(browser.session_cookie(), Some(&invented), "the browser keeps it, for all we care");
        }
    }

    async fn s06_what_a_member_saw_is_not_kept_and_a_copy_is_dead_everywhere(app) {
        let (mut visitor, _) = app.linked(EMAIL).await;
        for route in routes::all().into_iter().filter(|route| route.who == Who::Member && route.method == Method::GET) {
            let answer = visitor.get(route.path).await;
            assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store", "{}", route.path);
        }
        let (_, other_node) = rebuilt(app, |_| {}).await;
        let copied = visitor.clone();
        assert_eq!(get_from(&other_node, &copied, "/account").await.status, StatusCode::OK);
        assert_eq!(visitor.post("/sign-out", &[]).await.location(), "/");
        assert!(visitor.session_cookie().is_none());
        assert!(!is_signed_in(&copied).await);
        assert!(get_from(&other_node, &copied, "/account").await.location().starts_with("/sign-in?"));
    }

    async fn s07_cookies_do_not_stand_in_for_each_other(app) {
        let (mut visitor, user) = app.linked(EMAIL).await;
        visitor.start_line("sign_in", "/").await;
        let own = visitor.cookies.clone();
        let names = ["__Host-musubi_form", "__Host-musubi_attempt", "__Host-musubi_device"];
        for name in names.into_iter().filter(|name| own.contains_key(*name)) {
            assert!(!is_signed_in(&with_session(app, &own[name])).await, "{name} as the session");
        }
        // The session where LINE's answer looks for the attempt's browser.
        let mut thief = app.visitor();
        thief.cookies.insert("__Host-musubi_attempt".into(), own[SESSION].clone());
        thief.cookies.insert("__Host-musubi_device".into(), own[SESSION].clone());
        let url = visitor.start_line("sign_in", "/").await;
        let back = visitor.at_line(&url, &user, "consent").await;
        assert_eq!(thief.get(&back).await.status, StatusCode::BAD_REQUEST);
        assert!(thief.session_cookie().is_none() && !is_signed_in(&thief).await);
        for name in ["musubi_session", "Authorization", "__Secure-musubi_session"] {
            let mut browser = app.visitor();
            browser.cookies.insert(name.to_owned(), own[SESSION].clone());
            assert!(!is_signed_in(&browser).await, "{name}");
        }
        let mut browser = app.visitor();
        let request = browser.request(Method::GET, "/account").header("authorization", format!("Bearer {}", own[SESSION]));
        let answer = browser.send(request.body(Body::empty()).unwrap()).await;
        assert!(answer.location().starts_with("/sign-in?"), "a session is no key");
    }

    /// What decides access never goes backwards, whichever tab is last.
    async fn s09_race_two_tabs(app) {
        app.member(EMAIL, "Hanako").await;
        for _ in 0..rounds() * 3 {
            let mut visitor = app.signed_in(EMAIL).await;
            app.clock.advance(Duration::from_secs(120));
            let requests = vec![
                form(&mut visitor, "/sign-in", SIGN_IN).await,
                page(&visitor, "/account"),
                form(&mut visitor, "/locale", &[("locale", "ja"), ("return_to", "/account")]).await,
                page(&visitor, "/account/sessions"),
            ];
            let answers = at_once(app, requests).await;
            assert_eq!(answers[0].location(), "/account");
            assert_eq!(answers[2].location(), "/account");
            assert!(!is_signed_in(&visitor).await, "the id from before the password");
            answers.iter().for_each(|answer| visitor.keep_cookies(answer));
            assert!(is_signed_in(&visitor).await);
            assert!(visitor.get("/account").await.body.contains("lang=\"ja\""), "the other tab's choice is kept");
            let stale = "SELECT CAST(COUNT(*) AS BIGINT) FROM sessions WHERE authenticated_at < last_seen_at - 60000";
            assert_eq!(app.count(stale).await, 0, "the time of the password went back");
            assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM sessions").await, 1);
            visitor.post("/sign-out", &[]).await;
        }
    }

    async fn s09_race_a_sign_out_and_everything_else(app) {
        let (mut hanako, user) = app.linked(EMAIL).await;
        for _ in 0..rounds() * 3 {
            app.clock.advance(Duration::from_secs(120));
            hanako.post("/sign-in", SIGN_IN).await;
            let requests = vec![
                form(&mut hanako, "/sign-out", &[]).await,
                form(&mut hanako, "/account/unlink", &[("provider", "main"), ("password", PASSWORD)]).await,
                page(&hanako, "/account"),
            ];
            let answers = at_once(app, requests).await;
            // Signed out first: nothing lives. Unlinked first: the session has another id, which lives.
            let renewed = answers[1].headers.contains_key(header::SET_COOKIE);
            let alive = app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM sessions").await;
            assert!(alive <= i64::from(renewed), "{alive} {renewed}");
            assert!(!is_signed_in(&hanako).await);
            hanako.post("/sign-in", SIGN_IN).await;
            if app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM links WHERE ended_at IS NULL").await == 0 {
                app.drain().await;
                assert_eq!(hanako.link(&user).await.location(), "/account?done=linked");
            }
            app.execute("DELETE FROM sessions").await;
        }
    }

    /// Whoever reads the database, a backup say, can be nobody by it.
    async fn s10_what_the_database_holds_opens_nothing(app) {
        let (mut visitor, user) = app.linked(EMAIL).await;
        app.member("taro@example.jp", "Taro").await;
        app.signed_in("taro@example.jp").await.reach_confirm(&app.line_user("たろう").await).await;
        app.visitor().start_line("sign_in", "/").await;
        let url = visitor.start_line("sign_in", "/").await;
        let back = visitor.at_line(&url, &user, "consent").await;
        let mut values = Vec::new();
        let mut conn = app.app.db.conn().await.unwrap();
        for statement in [
            "SELECT id_hash, lineage_id, member_id FROM sessions",
            "SELECT id, state_hash, nonce_hash, browser_hash, sealed_verifier FROM attempts",
            "SELECT token_hash, id FROM tokens",
            "SELECT token_hash, member_id FROM devices",
            "SELECT id, password_hash FROM members",
        ] {
            for row in sqlx::query(statement).fetch_all(&mut *conn).await.unwrap() {
                values.extend((0..row.len()).filter_map(|at| row.get::<Option<String>, _>(at)));
            }
        }
        drop(conn);
        assert!(values.len() > 15 && values.contains(&musubi::seal::hash(visitor.session_cookie().unwrap())));
        for value in values {
            let mut browser = app.visitor();
            for name in [SESSION, "__Host-musubi_attempt", "__Host-musubi_device"] {
                browser.cookies.insert(name.to_owned(), value.clone());
            }
            assert!(!is_signed_in(&browser).await, "{value}");
            let state = url::form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>();
            let answer = browser.get(&format!("/line/callback/main?code=x&state={state}")).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{value}");
            assert!(browser.get(&back).await.status.is_client_error(), "{value} as the attempt's browser");
            for path in ["/password/reset", "/sign-up/confirm", "/account/email/confirm", "/link/undo"] {
                let answer = browser.get(&format!("{path}?token={state}")).await;
                assert!(!answer.status.is_server_error() && browser.session_cookie() == Some(&value), "{path}");
            }
            let answer = browser.post("/sign-in", &[("email", EMAIL), ("password", &value)]).await;
            assert!(answer.status.is_client_error(), "{value} as the password: {}", answer.status);
            // Wrong passwords are slowed down; that is not asked here.
            app.execute("DELETE FROM throttles").await;
            app.execute("UPDATE attempts SET used_at = NULL").await;
        }
    }

    async fn s11_a_disabled_member_is_cut_off_on_every_node(app) {
        app.member(EMAIL, "Hanako").await;
        app.member("taro@example.jp", "Taro").await;
        let (one, two) = (app.signed_in(EMAIL).await, app.signed_in(EMAIL).await);
        let taro = app.signed_in("taro@example.jp").await;
        let (other, other_node) = rebuilt(app, |_| {}).await;
        assert_eq!(get_from(&other_node, &one, "/account").await.status, StatusCode::OK);

        assert_eq!(disabling::disable(&other, "Hanako@Example.jp").await.unwrap(), Outcome::Changed { sessions: 2 });
        for visitor in [&one, &two] {
            assert!(!is_signed_in(visitor).await);
            assert!(get_from(&other_node, visitor, "/account").await.location().starts_with("/sign-in?"));
        }
        assert_eq!(app.visitor().post("/sign-in", SIGN_IN).await.status, StatusCode::UNAUTHORIZED);
        assert!(is_signed_in(&taro).await, "nobody else");
        assert_eq!(disabling::disable(&other, EMAIL).await.unwrap(), Outcome::AsBefore);

        assert_eq!(disabling::enable(&other, EMAIL).await.unwrap(), Outcome::Changed { sessions: 0 });
        assert_eq!(disabling::enable(&other, EMAIL).await.unwrap(), Outcome::AsBefore);
        assert!(!is_signed_in(&one).await && !is_signed_in(&two).await, "none comes back");
        app.signed_in(EMAIL).await;
        for unknown in ["nobody@example.jp", "nonsense", ""] {
            assert_eq!(disabling::disable(&other, unknown).await.unwrap(), Outcome::Unknown);
            assert_eq!(disabling::enable(&other, unknown).await.unwrap(), Outcome::Unknown);
        }
        assert_eq!(audited(app, "disabled").await, [" {\"by\":\"command\",\"by_id\":\"\",\"sessions\":2}"]);
        assert_eq!(audited(app, "enabled").await, [" {\"by\":\"command\",\"by_id\":\"\"}"]);
    }

    async fn s11_disabling_voids_what_was_mailed(app) {
        app.member(EMAIL, "Hanako").await;
        app.execute(
            "INSERT INTO tokens (id, token_hash, purpose, member_id, subject, tries, created_at, expires_at)
             SELECT 't', 'h', 'reset', id, '', 0, 0, 9000000000000 FROM members",
        )
        .await;
        disabling::disable(&app.app, EMAIL).await.unwrap();
        assert_eq!(rows!(app, "tokens WHERE voided_at IS NULL"), 0);
    }

    /// A sign-in that checks the password while the member is disabled leaves no session for later.
    async fn s11_race_a_sign_in_and_the_end_of_the_account(app) {
        app.member(EMAIL, "Hanako").await;
        for _ in 0..rounds() * 3 {
            let mut browsers = Vec::new();
            for signed_in in [true, false] {
                let mut browser = if signed_in { app.signed_in(EMAIL).await } else { app.visitor() };
                browsers.push(form(&mut browser, "/sign-in", SIGN_IN).await);
            }
            let (_, outcome) = tokio::join!(at_once(app, browsers), disabling::disable(&app.app, EMAIL));
            assert!(matches!(outcome.unwrap(), Outcome::Changed { .. }));
            assert_eq!(rows!(app, "sessions"), 0, "a session waits for the member to be enabled");
            disabling::enable(&app.app, EMAIL).await.unwrap();
        }
    }

    async fn s13_the_eleventh_sign_in_ends_the_session_not_seen_for_longest(app) {
        app.member(EMAIL, "Hanako").await;
        let mut browsers = Vec::new();
        for _ in 0..session::AT_MOST {
            app.clock.advance(Duration::from_secs(120));
            browsers.push(app.signed_in(EMAIL).await);
        }
        app.clock.advance(Duration::from_secs(120));
        assert!(is_signed_in(&browsers[0]).await, "the first made, and just seen");
        let again = browsers[9].clone();
        browsers[9].post("/sign-in", SIGN_IN).await;
        is_renewed(&browsers[9], &again, "in its own place").await;
        assert_eq!(rows!(app, "sessions"), 10, "the password again in one browser is no further session");

        app.clock.advance(Duration::from_secs(120));
        let eleventh = app.signed_in(EMAIL).await;
        assert!(!is_signed_in(&browsers[1]).await);
        for browser in browsers.iter().take(1).chain(&browsers[2..]).chain([&eleventh]) {
            assert!(is_signed_in(browser).await);
        }
        assert_eq!(rows!(app, "sessions"), 10);
        assert_eq!(audited(app, "session_ended").await, ["too_many {}"]);
        app.drain().await;
        assert_eq!(app.mails(EMAIL).await.len(), 1, "and the member is told");
    }

    async fn s13_what_has_expired_does_not_count(app) {
        app.member(EMAIL, "Hanako").await;
        for _ in 0..session::AT_MOST {
            app.signed_in(EMAIL).await;
        }
        app.clock.advance(Duration::from_secs(8 * 24 * 3600));
        app.signed_in(EMAIL).await;
        assert_eq!(audited(app, "session_ended").await, Vec::<String>::new());
    }

    async fn s13_race_many_sign_ins(app) {
        app.member(EMAIL, "Hanako").await;
        for _ in 0..session::AT_MOST - 1 {
            app.signed_in(EMAIL).await;
        }
        let mut requests = Vec::new();
        for _ in 0..6 {
            requests.push(form(&mut app.visitor(), "/sign-in", SIGN_IN).await);
        }
        for answer in at_once(app, requests).await {
            assert_eq!(answer.location(), "/account", "{}", answer.body);
        }
        assert_eq!(rows!(app, "sessions"), session::AT_MOST);
        assert_eq!(audited(app, "session_ended").await, ["too_many {}"; 5]);
    }

    /// The answer with the new id never arrives: signed out, and nothing else.
    async fn s14_a_lost_answer_leaves_nobody_half_signed_in(app) {
        app.member(EMAIL, "Hanako").await;
        let user = app.line_user("はなこ").await;
        let mut visitor = app.signed_in(EMAIL).await;
        for path in ["/sign-in", "/link/confirm", "/account/unlink"] {
            let attempt = if path == "/link/confirm" { visitor.reach_confirm(&user).await } else { String::new() };
            let fields = [("email", EMAIL), ("password", PASSWORD), ("provider", "main"), ("attempt", &attempt),
                ("decision", "yes"), ("consent", "1:en")];
            let mut lost = visitor.clone();
            lost.post(path, &fields).await;
            assert!(lost.session_cookie() != visitor.session_cookie(), "{path} gave a new id");
            assert!(!is_signed_in(&visitor).await, "{path}");
            let answer = visitor.get("/").await;
            assert!(answer.status == StatusCode::OK && !answer.body.contains("/sign-out"), "{path}: a stranger's page");
            assert_eq!(visitor.post("/sign-in", SIGN_IN).await.location(), "/account");
            assert!(is_signed_in(&visitor).await, "{path}");
        }
    }

    async fn s14_a_change_that_fails_leaves_the_session_as_it_was(app) {
        let (mut visitor, _) = app.linked(EMAIL).await;
        refuse_updates(app).await;
        let before = app.dump(&[]).await;
        is_our_fault(&visitor.unlink().await);
        assert_eq!(app.dump(&[]).await, before);
        assert!(is_signed_in(&visitor).await);
    }

    async fn x45_a_session_that_cannot_be_read_is_nobodys_and_not_over(app) {
        app.member(EMAIL, "Hanako").await;
        let mut visitor = app.signed_in(EMAIL).await;
        let token = visitor.form_token().await;
        let cookies = visitor.cookies.clone();
        app.execute("ALTER TABLE sessions RENAME TO away").await;
        for path in ["/", "/account", "/account/sessions", "/sign-in", "/nowhere"] {
            let answer = visitor.get(path).await;
            is_our_fault(&answer);
            assert!(!answer.body.contains("Hanako"), "{path}");
        }
        let fields = [("csrf", token.as_str()), ("purpose", "sign_in"), ("provider", "main")];
        for path in ["/sign-out", "/sign-in", "/line/start", "/account/unlink"] {
            is_our_fault(&visitor.post_raw(path, &fields, &[("origin", crate::support::ORIGIN)]).await);
        }
        assert_eq!(visitor.cookies, cookies);
        assert_eq!(app.visitor().get("/").await.status, StatusCode::OK, "who has no session needs none");
        app.execute("ALTER TABLE away RENAME TO sessions").await;
        assert!(is_signed_in(&visitor).await, "nobody was signed out");
    }

    async fn x45_a_session_that_cannot_be_kept_is_not_begun(app) {
        app.member(EMAIL, "Hanako").await;
        let mut old = app.signed_in(EMAIL).await;
        refuse_inserts(app).await;
        // A try is counted before the password is looked at.
        let before = app.dump(&["throttles"]).await;
        let mut browser = app.visitor();
        is_our_fault(&browser.post("/sign-in", SIGN_IN).await);
        is_our_fault(&old.post("/sign-in", SIGN_IN).await);
        assert!(browser.session_cookie().is_none());
        assert_eq!(app.dump(&["throttles"]).await, before, "the audit too");
        assert!(is_signed_in(&old).await, "the session of before goes on");
    }

    async fn x45_a_last_seen_that_cannot_be_kept_hinders_nobody(app) {
        app.member(EMAIL, "Hanako").await;
        let visitor = app.signed_in(EMAIL).await;
        refuse_updates(app).await;
        app.clock.advance(Duration::from_secs(120));
        assert!(is_signed_in(&visitor).await);
    }

    // ---- the page

    async fn the_page_lists_where_a_member_is_signed_in(app) {
        app.member("taro@example.jp", "Taro").await;
        let (mut visitor, user) = app.linked(EMAIL).await;
        app.signed_in("taro@example.jp").await;
        app.clock.advance(Duration::from_secs(60));
        let mut phone = app.visitor();
        phone.address = "2001:db8:7:8::9".into();
        phone.sign_in_by_line(&user).await;
        let line = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 Mobile Safari Line/15.1";
        let mut conn = app.app.db.conn().await.unwrap();
        sqlx::query("UPDATE sessions SET user_agent = $1, address = $2 WHERE method = 'line'")
            .bind(line)
            .bind("2001:db8:7:8::9")
            .execute(&mut *conn)
            .await
            .unwrap();
        drop(conn);

        let shown = visitor.get("/account/sessions").await;
        assert_eq!(shown.status, StatusCode::OK);
        assert_eq!(handles(&shown).len(), 2, "own ones only");
        let (newer, older) = shown.body.split_once("class=\"card link-card session\"").unwrap().1
            .split_once("class=\"card link-card session\"").unwrap();
        for words in ["\u{2068}LINE\u{2069} on \u{2068}iPhone\u{2069}", "2001:db8:7::/48", "<dd>LINE</dd>", "Sign out there"] {
            assert!(newer.contains(words), "{words}: {newer}");
        }
        for words in ["Unknown browser", "192.0.2.x", "<dd>Password</dd>", "This browser"] {
            assert!(older.contains(words), "{words}: {older}");
        }
        assert!(!newer.contains("This browser") && shown.body.contains("Sign out everywhere else"));
        assert!(!shown.body.contains("192.0.2.1") && !shown.body.contains("7:8::9"), "no whole address");
        visitor.language = "ja";
        assert!(visitor.get("/account/sessions").await.body.contains("\u{2068}iPhone\u{2069}の\u{2068}LINE\u{2069}"));
        assert!(visitor.get("/account").await.body.contains("href=\"/account/sessions\""));
    }

    async fn a_member_ends_one_of_their_sessions(app) {
        app.member(EMAIL, "Hanako").await;
        app.member("taro@example.jp", "Taro").await;
        let (mut one, two) = (app.signed_in(EMAIL).await, app.signed_in(EMAIL).await);
        let mut taro = app.signed_in("taro@example.jp").await;
        let (own, his) = (handles(&one.get("/account/sessions").await), handles(&taro.get("/account/sessions").await));
        let before = app.dump(&[]).await;
        for foreign in [his[0].as_str(), "", "nonsense", "00000000-0000-0000-0000-000000000000", &"\0".repeat(36)] {
            let answer = one.post("/account/sessions/end", &[("session", foreign)]).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{foreign:?}");
        }
        assert_eq!(app.dump(&[]).await, before);

        let answer = one.post("/account/sessions/end", &[("session", &own[0])]).await;
        assert_eq!(answer.location(), "/account/sessions");
        assert!(!is_signed_in(&two).await && is_signed_in(&one).await && is_signed_in(&taro).await);
        let again = one.post("/account/sessions/end", &[("session", &own[0])]).await;
        assert_eq!(again.status, StatusCode::NOT_FOUND);

        let copied = one.clone();
        let answer = one.post("/account/sessions/end", &[("session", &own[1])]).await;
        assert_eq!(answer.location(), "/", "the own one: signed out");
        assert!(one.session_cookie().is_none() && !is_signed_in(&copied).await);
        assert_eq!(audited(app, "session_ended").await, [" {\"sessions\":1}"; 2]);
    }

    async fn a_member_ends_all_sessions_but_this(app) {
        let (mut one, _) = app.linked(EMAIL).await;
        app.member("taro@example.jp", "Taro").await;
        let taro = app.signed_in("taro@example.jp").await;
        let others = [app.signed_in(EMAIL).await, app.signed_in(EMAIL).await];
        for _ in 0..2 {
            let answer = one.post("/account/sessions/end-others", &[]).await;
            assert_eq!(answer.location(), "/account/sessions");
        }
        assert!(is_signed_in(&one).await && is_signed_in(&taro).await);
        for other in &others {
            assert!(!is_signed_in(other).await);
        }
        assert!(!one.get("/account/sessions").await.body.contains("end-others"), "there are no others");
        assert_eq!(audited(app, "session_ended").await, [" {\"sessions\":2}"]);
    }

    /// Ending wins over whatever gives the session a new id at the same moment.
    async fn s09_race_an_end_and_a_rotation(app) {
        for round in 0..rounds() * 3 {
            let email = format!("hanako{round}@example.jp");
            let (_, user) = app.linked(&email).await;
            let mut one = app.signed_in(&email).await;
            let mut two = app.visitor();
            two.sign_in_by_line(&user).await;
            let handle = handles(&one.get("/account/sessions").await)[0].clone();
            let requests = vec![
                form(&mut one, "/account/sessions/end", &[("session", &handle)]).await,
                form(&mut two, "/account/unlink", &[("provider", "main"), ("password", PASSWORD)]).await,
            ];
            let answers = at_once(app, requests).await;
            assert_eq!(answers[0].location(), "/account/sessions", "{}", answers[0].body);
            two.keep_cookies(&answers[1]);
            assert!(!is_signed_in(&two).await, "it came back");
        }
    }

    async fn a_session_by_line_ends_with_its_member(app) {
        let (_, user) = app.linked(EMAIL).await;
        let mut phone = app.visitor();
        phone.sign_in_by_line(&user).await;
        let db = Db::connect(&app.database_url).await.unwrap();
        let other = musubi::app::App::new(app.app.config.clone(), db, app.clock.clone()).unwrap();
        disabling::disable(&other, EMAIL).await.unwrap();
        other.db.close().await;
        assert!(!is_signed_in(&phone).await);
        let answer = phone.sign_in_by_line(&user).await;
        assert!(answer.status.is_client_error() && answer.body.contains("error-page"), "{}", answer.status);
    }
}
