//! What support sees of people's tries to sign in and link, and for how long.

use std::time::Duration;

use axum::http::StatusCode;
use musubi::{
    key,
    link::attempt::{
        UNUSED_AT_MOST,
        command::{self, Which},
        limit, prune,
    },
    worker,
};
use serde_json::{Value, json};

use crate::{
    account_link, liff,
    linking::rows,
    retention::explain,
    support::{PASSWORD, TestApp, Visitor, both_engines, process, title},
};

const DAY: Duration = Duration::from_secs(24 * 3600);
const MINUTE: Duration = Duration::from_secs(60);
const HANAKO: &str = "hanako@example.jp";
const SAFARI: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
    Version/18.6 Mobile/15E148 Safari/604.1";
const LINE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
    Mobile/15E148 Safari Line/15.19.0";

/// What the command tells, in one text.
async fn told(app: &TestApp, which: Which) -> String {
    command::list(&app.app, &which, 50).await.unwrap().unwrap().join("\n")
}

async fn of_member(app: &TestApp, name: &str) -> String {
    told(app, Which { member: Some(name.to_owned()), ..Default::default() }).await
}

async fn recent(app: &TestApp) -> String {
    told(app, Which { recent: true, ..Default::default() }).await
}

async fn of_line_user(app: &TestApp, user: &str) -> String {
    told(app, Which { line_user: Some(user.to_owned()), ..Default::default() }).await
}

/// A browser of this kind in which Hanako is signed in.
async fn hanako<'a>(app: &'a TestApp, user_agent: &'static str) -> Visitor<'a> {
    app.member(HANAKO, "Hanako").await;
    let mut visitor = Visitor { user_agent, ..app.visitor() };
    let answer = visitor.post("/sign-in", &[("email", HANAKO), ("password", PASSWORD)]).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    visitor
}

/// The first line of each attempt, without its time and whose it is.
fn steps(told: &str) -> Vec<String> {
    let heads = told.lines().filter(|line| !line.starts_with(' '));
    heads.map(|line| line[21..].to_owned()).collect()
}

both_engines! {
    /// The case that support is asked about most.
    async fn support_sees_that_line_came_back_in_another_browser(app) {
        let mut safari = hanako(app, SAFARI).await;
        let user = app.line_user("はなこ").await;
        let url = safari.start_line("link", "/account").await;
        let back = safari.at_line(&url, &user, "consent").await;
        let mut line = Visitor { user_agent: LINE, ..app.visitor() };
        line.get("/").await;
        let page = line.get(&back).await;
        assert!(page.body.contains(&title("line_elsewhere")), "{}", page.body);
        let lines = of_member(app, HANAKO).await;
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(&lines[0][21..], "link (main): refused: state_unbound");
        assert_eq!(
            lines[1],
            "  started in Safari on iPhone, from 192.0.2.1; LINE came back in another browser: LINE on iPhone"
        );
        assert!(lines[2].starts_with("  what happened: LINE came back in another browser"), "{lines:?}");
        assert!(lines[3].starts_with("  what to do: press"), "{lines:?}");

        // It is not used up. Where it began it still comes to its end, and that is what is told then.
        let answer = safari.get(&back).await;
        assert!(answer.location().starts_with("/link/confirm?attempt="), "{}", answer.body);
        assert_eq!(steps(&of_member(app, HANAKO).await), ["link (main): not finished"]);
    }

    async fn support_sees_how_far_each_try_went(app) {
        let mut visitor = hanako(app, SAFARI).await;
        let user = app.line_user("はなこ").await;
        assert_eq!(of_member(app, HANAKO).await, "");
        visitor.start_line("link", "/account").await;
        assert_eq!(steps(&of_member(app, HANAKO).await), ["link (main): started"]);
        let attempt = visitor.reach_confirm(&user).await;
        assert!(of_member(app, HANAKO).await.contains("waits for the person's yes; that page was never opened"));
        visitor.get(&format!("/link/confirm?attempt={attempt}")).await;
        assert!(!of_member(app, HANAKO).await.contains("never opened"));
        assert_eq!(visitor.confirm(&attempt).await.location(), "/account?done=linked");
        app.drain().await;
        let mut elsewhere = Visitor { user_agent: LINE, ..app.visitor() };
        assert_eq!(elsewhere.sign_in_by_line(&user).await.location(), "/account");
        app.clock.advance(11 * MINUTE);
        let mut inside = Visitor { user_agent: LINE, ..app.visitor() };
        assert_eq!(liff::open(&mut inside, &user).await, "/account");
        let url = visitor.start_line("sign_in", "/").await;
        let back = visitor.at_line(&url, &user, "deny").await;
        visitor.get(&back).await;
        let lines = of_member(app, HANAKO).await;
        // Newest first. What was denied is nobody's yet.
        assert_eq!(
            steps(&lines),
            ["in LINE (LIFF) (main): signed in", "sign in with LINE (main): signed in", "link (main): linked", "link (main): left"]
        );
        assert!(lines.contains("LINE never came back"), "{lines}");
        assert!(lines.contains("  in LINE on iPhone, from 192.0.2.1\n"), "{lines}");
        assert!(recent(app).await.contains("sign in with LINE (main): refused: denied"));
        let id = rows_of_members(app).await;
        assert_eq!(of_member(app, &id).await, lines, "by our id");
        assert!(recent(app).await.contains(&format!("sign in with LINE (main, member {id}): signed in")));
        assert_eq!(steps(&of_line_user(app, &user).await).len(), 3);
        let unknown = Which { member: Some("nobody@example.jp".into()), ..Default::default() };
        assert!(command::list(&app.app, &unknown, 50).await.unwrap().is_none());
    }

    async fn support_sees_why_it_was_refused(app) {
        let (_, taken) = app.linked("taro@example.jp").await;
        let mut visitor = hanako(app, SAFARI).await;
        let url = visitor.start_line("link", "/account").await;
        let back = visitor.at_line(&url, &taken, "consent").await;
        assert_eq!(visitor.get(&back).await.status, StatusCode::CONFLICT);
        let lines = of_member(app, HANAKO).await;
        assert!(lines.contains("link (main): refused: conflict_line") && lines.contains("unlink LINE there"), "{lines}");
        let nobody = app.line_user("だれか").await;
        let answer = app.visitor().sign_in_by_line(&nobody).await;
        assert!(answer.location().starts_with("/line/not-linked"));
        assert_eq!(steps(&of_line_user(app, &nobody).await), ["sign in with LINE (main): refused: not_linked"]);
        // LINE's auto login comes back with a state of nobody's.
        let url = visitor.start_line("link", "/account").await;
        let back = visitor.at_line(&url, &taken, "auto_login_failure").await;
        assert_eq!(visitor.get(&back).await.status, StatusCode::BAD_REQUEST);
        assert!(of_member(app, HANAKO).await.contains("LINE's auto login failed"));
        app.execute("UPDATE members SET disabled_at = 1 WHERE email = 'taro@example.jp'").await;
        let tokens = app.sim(axum::http::Method::POST, &format!("/_sim/users/{taken}/liff"), json!({})).await;
        let body = json!({ "id_token": tokens["id_token"], "access_token": tokens["access_token"], "path": "/liff/main" });
        assert_eq!(liff::show(&mut app.visitor(), &body).await.status, StatusCode::FORBIDDEN);
        assert!(of_member(app, "taro@example.jp").await.contains("in LINE (LIFF) (main): refused: unavailable"));
        liff::show(&mut app.visitor(), &json!({ "id_token": "x", "path": "/liff/main" })).await;
        assert!(recent(app).await.contains("in LINE (LIFF) (main): refused: id_token_shape"));
    }

    async fn support_sees_links_from_the_chat(app) {
        let mut visitor = hanako(app, SAFARI).await;
        let user = account_link::friend(app, "はなこ").await;
        let page = account_link::ask(app, &user).await;
        assert_eq!(steps(&of_line_user(app, &user).await), ["link from the chat (main): started"]);
        assert!(of_line_user(app, &user).await.contains("  in the chat\n"));
        let answer = account_link::agree(&mut visitor, &page).await;
        let lines = of_member(app, HANAKO).await;
        assert!(lines.contains("link from the chat (main): not finished"), "{lines}");
        assert!(lines.contains("  in Safari on iPhone, from 192.0.2.1\n"), "{lines}");
        account_link::dialog(app, &answer.location(), &user).await;
        app.drain().await;
        assert_eq!(steps(&of_member(app, HANAKO).await), ["link from the chat (main): linked"]);
    }

    /// Rows stay for support, and open nothing.
    async fn an_attempt_loses_its_secrets_after_a_day_and_goes_after_thirty(app) {
        let mut visitor = hanako(app, SAFARI).await;
        let user = app.line_user("はなこ").await;
        visitor.link(&user).await;
        visitor.start_line("link", "/account").await;
        let url = visitor.start_line("sign_in", "/").await;
        let back = visitor.at_line(&url, &user, "consent").await;
        assert_eq!(visitor.get(&back).await.location(), "/account");
        app.drain().await;
        app.clock.advance(DAY + 9 * MINUTE);
        worker::prune(&app.app, "test").await.unwrap();
        assert_eq!(rows!(app, "attempts WHERE sealed_verifier <> '' AND nonce_hash <> '' AND browser_hash <> ''"), 3);
        app.clock.advance(2 * MINUTE);
        worker::prune(&app.app, "test").await.unwrap();
        assert_eq!(rows!(app, "attempts WHERE sealed_verifier <> '' OR nonce_hash <> '' OR browser_hash <> ''"), 0);
        assert_eq!(steps(&of_member(app, HANAKO).await).len(), 3);
        // Keys are changed beside rows that hold nothing sealed any more.
        assert!(key::rotate(&app.app).await.unwrap().is_fine);
        // An old address of the callback is still told from one that never was.
        let page = app.visitor().get(&back).await;
        assert!(page.body.contains(&title("line_used")), "{}", page.body);
        app.clock.advance(29 * DAY - 2 * MINUTE);
        worker::prune(&app.app, "test").await.unwrap();
        assert_eq!(rows!(app, "attempts"), 3);
        app.clock.advance(2 * MINUTE);
        worker::prune(&app.app, "test").await.unwrap();
        assert_eq!(rows!(app, "attempts"), 0);
    }

    /// What is kept for support neither keeps anybody from starting nor grows without end.
    async fn l18_what_is_kept_for_support_is_bounded_and_bounds_nobody(app) {
        let before = app.app.now().minus(11 * MINUTE).0;
        let fill = format!(
            "INSERT INTO attempts (id, state_hash, provider, purpose, nonce_hash, sealed_verifier, browser_hash, address,
               return_to, created_at, expires_at, line_user_id)
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {})
             SELECT 'old' || CAST(i AS TEXT), 'old' || CAST(i AS TEXT), 'main', 'sign_in', '', '', '',
               'a' || CAST(i AS TEXT), '/', {before} - i, {before} - i + 600000,
               CASE WHEN i % 2 = 0 THEN 'u' || CAST(i AS TEXT) END FROM n",
            prune::LEFT_AT_MOST + 300
        );
        sqlx::query(sqlx::AssertSqlSafe(fill)).execute(&mut *app.app.db.conn().await.unwrap()).await.unwrap();
        sqlx::raw_sql("ANALYZE").execute(&mut *app.app.db.conn().await.unwrap()).await.unwrap();
        const { assert!(prune::LEFT_AT_MOST > UNUSED_AT_MOST) };
        app.visitor().start_line("sign_in", "/").await;
        assert_eq!(rows!(app, "attempts"), prune::LEFT_AT_MOST + 301, "nothing made room");
        worker::prune(&app.app, "test").await.unwrap();
        assert_eq!(rows!(app, "attempts"), prune::LEFT_AT_MOST + 1);
        assert_eq!(rows!(app, "attempts WHERE id NOT LIKE 'old%'"), 1);

        let now = app.app.now().0.to_string();
        let small = |text: &str| text.to_owned();
        for (statement, values, index) in [
            (limit::COUNT_OF_ADDRESS, vec![small("'a1'"), now.clone()], "attempts_by_address"),
            (limit::COUNT_UNUSED, vec![now.clone()], "attempts_unused"),
            (command::OF_MEMBER, vec![small("'m'"), small("50")], "attempts_by_member"),
            (command::OF_LINE_USER, vec![small("'U'"), small("50")], "attempts_by_line_user"),
            (prune::FORGET, vec![small("1")], "attempts_with_secrets"),
            (prune::OLD, vec![small("1")], "attempts_by_expiry"),
        ] {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let plan = explain(app, statement, &values).await;
            assert!(plan.contains(index), "{statement}\n{plan}");
            assert!(!plan.lines().any(|line| line.contains("SCAN a") || line.contains("Seq Scan on attempts")), "{plan}");
        }
    }

    async fn a_members_attempts_are_in_their_copy_and_end_with_their_account(app) {
        let mut visitor = hanako(app, SAFARI).await;
        let user = app.line_user("はなこ").await;
        visitor.link(&user).await;
        app.drain().await;
        let mut line = Visitor { user_agent: LINE, ..app.visitor() };
        assert_eq!(line.sign_in_by_line(&user).await.location(), "/account");
        let copy: Value = visitor.post("/account/data", &[("password", PASSWORD)]).await.json();
        let attempts = copy["line_attempts"].as_array().unwrap();
        assert_eq!(attempts.len(), 2, "{copy:#}");
        assert_eq!((&attempts[0]["purpose"], &attempts[0]["outcome"]), (&json!("link"), &json!("linked")));
        assert_eq!((&attempts[0]["browser"], &attempts[0]["address"]), (&json!(SAFARI), &json!("192.0.2.1")));
        assert_eq!((&attempts[1]["purpose"], &attempts[1]["browser_of_return"]), (&json!("sign_in"), &json!(LINE)));

        let answer = visitor.post("/account/delete", &[("word", "DELETE"), ("password", PASSWORD)]).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        // As a stranger, of whom nothing is kept that says who or where they are.
        line.sign_in_by_line(&user).await;
        for _ in 0..4 {
            app.clock.advance(11 * MINUTE);
            app.drain().await;
        }
        assert_eq!(rows!(app, "attempts WHERE member_id IS NOT NULL"), 0);
        app.clock.advance(2 * DAY);
        worker::prune(&app.app, "test").await.unwrap();
        assert_eq!(rows!(app, "attempts"), 1);
        assert_eq!(rows!(app, "attempts WHERE address <> '' OR user_agent IS NOT NULL OR returned_agent IS NOT NULL"), 0);
        assert_eq!(of_line_user(app, &user).await, "");
    }
}

async fn rows_of_members(app: &TestApp) -> String {
    sqlx::query_scalar("SELECT id FROM members").fetch_one(&mut *app.app.db.conn().await.unwrap()).await.unwrap()
}

/// The program itself, beside a server that runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_lists_attempts_beside_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let (demo, mut browser, line) = crate::process::start_demo(folder.path());
    let config = folder.path().join("musubi.toml");
    let config = config.to_str().unwrap();
    let list = |of: &str| process::run(&["attempts", "list", "--config", config, of]);
    let (code, said) = list("hanako@example.com");
    assert!(code == Some(0) && said.contains("no such attempts are kept"), "{said}");
    let password = musubi::demo::PASSWORD;
    let page = browser.post("/sign-in", &[("email", "hanako@example.com"), ("password", password)]).await;
    assert_eq!(page.status, 303, "{}", page.body);
    let user = line.person().await;
    let attempt = browser.reach_confirm(&line, &user).await;
    browser.confirm(&attempt).await;
    let (code, said) = list("hanako@example.com");
    assert!(code == Some(0) && said.contains("link (main): linked"), "{said}");
    let (code, said) = list("--recent");
    assert!(code == Some(0) && said.contains("link (main, member "), "{said}");
    for (wrong, why) in [("nobody@example.com", "there is no member"), ("--nothing", "unexpected argument")] {
        let (code, said) = list(wrong);
        assert!(code.is_some_and(|code| code > 0) && said.contains(why), "{said}");
    }
    let (code, said) = process::run(&["attempts", "list", "--config", config]);
    assert!(code == Some(2) && said.contains("required"), "{said}");
    demo.stop();
}
