//! Attacks and faults of unlinking: who may, that it happens here at once and exactly once, and that LINE is told
//! however long it is away.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use musubi::{app::App, db::Db, link::cleanup, queue, worker};
use serde_json::{Value, json};

use crate::{
    linking::{Pairs, at_once, form, links_are_sound, page, rounds, rows},
    support::{Engine, ORIGIN, PASSWORD, TestApp, Visitor, both_engines, title},
};

const UNLINK: Pairs = &[("provider", "main"), ("password", PASSWORD)];
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The steps at LINE as `step=state`, of all links.
async fn steps(app: &TestApp) -> Vec<String> {
    let mut conn = app.app.db.conn().await.unwrap();
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT step, state FROM unlink_steps ORDER BY step").fetch_all(&mut *conn).await.unwrap();
    rows.into_iter().map(|(step, state)| format!("{step}={state}")).collect()
}

const DONE: [&str; 3] = ["deauthorize=done", "menu=done", "revoke=done"];
const PENDING: [&str; 3] = ["deauthorize=pending", "menu=pending", "revoke=pending"];

async fn tokens(app: &TestApp) -> i64 {
    rows!(app, "grants WHERE sealed IS NOT NULL")
}

/// Past every backoff, and what is due then.
async fn later(app: &TestApp) {
    app.clock.advance(11 * MINUTE);
    app.drain().await;
}

async fn deauthorized(app: &TestApp) -> Vec<Value> {
    app.calls_to("/user/v1/deauthorize").await.into_iter().map(|call| call["status"].clone()).collect()
}

/// The application with LINE at an address where nothing listens.
async fn without_line(app: &TestApp) -> App {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere: url::Url = format!("http://{}", free.local_addr().unwrap()).parse().unwrap();
    let mut config = app.app.config.clone();
    (config.line.api, config.line.api_data) = (nowhere.clone(), nowhere);
    App::new(config, Db::connect(&app.database_url).await.unwrap(), app.clock.clone()).unwrap()
}

/// Two browsers of Hanako's, whose account has no password and two LINE accounts of two providers.
async fn without_password(app: &TestApp) -> (Visitor<'_>, Visitor<'_>) {
    let (mut hanako, user) = app.linked("hanako@example.jp").await;
    let fields = [("purpose", "link"), ("provider", "second"), ("return_to", "/account")];
    let url = hanako.post("/line/start", &fields).await.location();
    let back = hanako.at_line(&url, &user, "consent").await;
    let attempt = hanako.get(&back).await.location().replace("/link/confirm?attempt=", "");
    assert_eq!(hanako.confirm(&attempt).await.location(), "/account?done=linked");
    app.drain().await;
    let other = app.signed_in("hanako@example.jp").await;
    app.execute("UPDATE members SET password_hash = NULL").await;
    (hanako, other)
}

/// The test's application with a second provider, which has no official account.
async fn with_two_providers(engine: Engine) -> TestApp {
    TestApp::start_with(engine, |config| {
        let mut second = config.provider["main"].clone();
        let login = second.login.as_mut().unwrap();
        (login.channel_id, login.channel) = ("1000000003".into(), None);
        config.provider.insert("second".into(), second);
    })
    .await
}

/// A member without a password proves by a code given lately; then the form asks for none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u02_a_member_without_a_password_needs_a_fresh_code() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let app = with_two_providers(engine).await;
        let (mut hanako, _) = without_password(&app).await;
        let page = hanako.get("/account/unlink?provider=main").await;
        assert_eq!(page.status, StatusCode::OK, "the session is fresh: {}", page.body);
        assert!(!page.body.contains("name=\"password\""));
        app.clock.advance(11 * MINUTE);
        let before = app.dump(&["sessions"]).await;
        for method in ["password", "line"] {
            if method == "line" {
                app.execute("UPDATE sessions SET method = 'line', authenticated_at = authenticated_at + 660000").await;
            }
            let shown = hanako.get("/account/unlink?provider=main").await;
            let sent = hanako.unlink().await;
            let nothing = hanako.post("/account/unlink", &[("provider", "main"), ("password", "")]).await;
            for answer in [shown, sent, nothing] {
                assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method}");
                assert!(answer.body.contains(&title("reauth")), "{}", answer.body);
                assert!(answer.body.contains("%2Faccount%2Funlink%3Fprovider%3Dmain"), "{}", answer.body);
            }
        }
        assert_eq!(app.dump(&["sessions"]).await, before);
        app.execute("UPDATE sessions SET method = 'code'").await;
        let answer = hanako.post("/account/unlink", &[("provider", "main")]).await;
        assert_eq!(answer.location(), "/account?done=unlinked", "{}", answer.body);
        // Now the other one is the last.
        let answer = hanako.post("/account/unlink", &[("provider", "second")]).await;
        assert_eq!(answer.status, StatusCode::CONFLICT);
        app.end().await;
    }
}

/// Two unlinks at one moment: each alone would leave the other link, both would leave nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u03_race_of_the_last_two_ways_in() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let app = with_two_providers(engine).await;
        let (mut hanako, mut other) = without_password(&app).await;
        app.execute("UPDATE sessions SET method = 'code'").await;
        let requests = vec![
            form(&mut hanako, "/account/unlink", &[("provider", "main")]).await,
            form(&mut other, "/account/unlink", &[("provider", "second")]).await,
        ];
        let answers = at_once(&app, requests).await;
        hanako.keep_cookies(&answers[0]);
        let mut answers: Vec<_> = answers.iter().map(|answer| answer.status.as_u16()).collect();
        answers.sort_unstable();
        assert_eq!(answers, [303, 409], "{engine:?}");
        assert_eq!(rows!(app, "links WHERE ended_at IS NULL"), 1, "{engine:?}");
        // A suspended link is no way in either.
        app.execute("UPDATE links SET ended_at = NULL, suspended_at = created_at WHERE ended_at IS NOT NULL").await;
        let left =
            if rows!(app, "links WHERE suspended_at IS NULL AND provider = 'main'") == 1 { "main" } else { "second" };
        let answer = hanako.post("/account/unlink", &[("provider", left)]).await;
        assert_eq!(answer.status, StatusCode::CONFLICT, "{left}");
        app.end().await;
    }
}

both_engines! {
    async fn u01_neither_a_get_nor_another_site_unlinks(app) {
        let (mut hanako, _) = app.linked("hanako@example.jp").await;
        let (token, foreign) = (hanako.form_token().await, app.visitor().form_token().await);
        let before = app.dump(&[]).await;
        let answer = hanako.get(&format!("/account/unlink?provider=main&password={}", PASSWORD.replace(' ', "+"))).await;
        assert_eq!(answer.status, StatusCode::OK, "only the form");
        let attacks: [(Option<&str>, Pairs); 4] = [
            (None, &[("origin", ORIGIN)]),
            (Some(&foreign), &[("origin", ORIGIN)]),
            (Some(&token), &[("origin", "https://evil.example")]),
            (Some(&token), &[("sec-fetch-site", "cross-site")]),
        ];
        for (token, headers) in attacks {
            let fields: Vec<_> = UNLINK.iter().copied().chain(token.map(|token| ("csrf", token))).collect();
            let answer = hanako.post_raw("/account/unlink", &fields, headers).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{headers:?}");
        }
        assert_eq!(app.dump(&[]).await, before);
    }

    async fn u02_without_the_right_password_nothing_changes(app) {
        let (mut hanako, user) = app.linked("hanako@example.jp").await;
        // A session that LINE made, however fresh, is no proof of the password.
        let mut by_line = app.visitor();
        by_line.sign_in_by_line(&user).await;
        app.drain().await;
        let before = (app.dump(&["audit", "throttles"]).await, app.calls().await.len());
        let audit = app.audit().await.len();
        let long = "x".repeat(5000);
        let wrong = ["wrong", "", "correct horse battery ", &long];
        for visitor in [&mut hanako, &mut by_line] {
            for password in wrong {
                let answer = visitor.post("/account/unlink", &[("provider", "main"), ("password", password)]).await;
                assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
                assert!(answer.body.contains("role=\"alert\"") && answer.body.contains("The password is not right."));
                assert!(password.is_empty() || !answer.body.contains(&format!("value=\"{password}")), "shown again");
            }
            let answer = visitor.post("/account/unlink", &[("provider", "main")]).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "no password is a wrong one");
        }
        assert_eq!((app.dump(&["audit", "throttles"]).await, app.calls().await.len()), before);
        assert_eq!(app.audit().await[audit..], ["unlink_refused/credentials"; 10]);
    }

    async fn u03_the_last_way_in_stays(app) {
        let (mut hanako, _) = app.linked("hanako@example.jp").await;
        app.execute("UPDATE members SET password_hash = NULL").await;
        let (before, audit) = (app.dump(&["audit"]).await, app.audit().await.len());
        let shown = hanako.get("/account/unlink?provider=main").await;
        let sent = hanako.unlink().await;
        for answer in [shown, sent] {
            assert_eq!(answer.status, StatusCode::CONFLICT);
            assert!(answer.body.contains(&title("last_method")) && answer.body.contains("href=\"/password/change\""));
        }
        assert_eq!(app.dump(&["audit"]).await, before);
        assert_eq!(app.audit().await[audit..], ["unlink_refused/last_method"]);
    }

    async fn u04_a_foreign_link_or_provider_cannot_be_unlinked(app) {
        let (_, user) = app.linked("hanako@example.jp").await;
        app.member("taro@example.jp", "Taro").await;
        let mut taro = app.signed_in("taro@example.jp").await;
        let mut conn = app.app.db.conn().await.unwrap();
        let link_id: String = sqlx::query_scalar("SELECT id FROM links").fetch_one(&mut *conn).await.unwrap();
        drop(conn);
        let before = app.dump(&[]).await;
        for (field, value) in [("link_id", link_id.as_str()), ("link", &link_id), ("user", &user), ("member", "hanako@example.jp")] {
            let answer = taro.post("/account/unlink", &[&[(field, value)], UNLINK].concat()).await;
            assert_eq!(answer.location(), "/account", "{field}: there is nothing of his");
        }
        for provider in ["", "other", "main\0", "\0", "' OR 1=1 --", link_id.as_str()] {
            let answer = taro.post("/account/unlink", &[("provider", provider), ("password", PASSWORD)]).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{provider:?}");
            let query: String = url::form_urlencoded::byte_serialize(provider.as_bytes()).collect();
            assert_eq!(taro.get(&format!("/account/unlink?provider={query}")).await.status, StatusCode::NOT_FOUND);
        }
        let shown = taro.get("/account/unlink?provider=main").await;
        assert_eq!(shown.location(), "/account");
        assert_eq!(app.dump(&[]).await, before);
    }

    async fn u05_many_unlinks_are_one(app) {
        for round in 0..rounds() {
            let (mut hanako, user) = app.linked(&format!("hanako{round}@example.jp")).await;
            let mut requests = Vec::new();
            for _ in 0..20 {
                requests.push(form(&mut hanako, "/account/unlink", UNLINK).await);
            }
            for answer in at_once(app, requests).await {
                // The unlink gave the session a new id: whoever is late has to sign in.
                let location = answer.location();
                let known = ["/account", "/account?done=unlinked"].contains(&location.as_str());
                // So many tries at one moment are also too many.
                let late = location.starts_with("/sign-in?") || answer.status == StatusCode::TOO_MANY_REQUESTS;
                assert!(known || late, "{answer:?}");
                hanako.keep_cookies(&answer);
            }
            let count = (round + 1) as i64;
            assert_eq!(rows!(app, "audit WHERE action = 'unlinked'"), count);
            assert_eq!(rows!(app, "jobs WHERE kind = 'deauthorize'"), count);
            // One when they became a friend, one at the link, one at the unlink.
            assert_eq!(rows!(app, "jobs WHERE kind = 'user_menu'"), 3 * count);
            app.drain().await;
            assert_eq!(deauthorized(app).await, vec![json!(204); round + 1]);
            assert_eq!(app.calls_to("/oauth2/v2.1/revoke").await.len(), round + 1);
            assert_eq!(hanako.unlink().await.location(), "/account", "again: nothing more");
            assert!(app.phone(&user).await["messages"].as_array().unwrap().len() == 1, "no word after the end");
        }
        assert_eq!(tokens(app).await, 0);
        links_are_sound(app).await;
    }

    async fn u06_line_is_down_for_an_hour(app) {
        worker::prepare(&app.app).await.unwrap();
        app.drain().await;
        let (mut hanako, user) = app.linked("hanako@example.jp").await;
        let mut phone = app.visitor();
        phone.sign_in_by_line(&user).await;
        app.drain().await;
        for endpoint in ["POST /user/v1/deauthorize", "POST /oauth2/v2.1/revoke", "DELETE /v2/bot/user/"] {
            app.fault(json!({ "endpoint": endpoint, "count": 10_000, "status": 500 })).await;
        }
        assert_eq!(hanako.unlink().await.location(), "/account?done=unlinked");
        // Here all is done at once.
        assert_eq!(rows!(app, "links WHERE ended_at IS NULL"), 0);
        assert_eq!(phone.get("/account").await.location(), "/sign-in?return_to=%2Faccount", "what LINE made has ended");
        assert_eq!(hanako.get("/account").await.status, StatusCode::OK);
        assert_eq!(steps(app).await, PENDING);
        for _ in 0..12 {
            app.drain().await;
            app.clock.advance(5 * MINUTE);
            let mut stranger = app.visitor();
            assert_eq!(stranger.sign_in_by_line(&user).await.location(), "/line/not-linked?provider=main");
        }
        assert_eq!(steps(app).await, PENDING);
        let page = hanako.get("/account").await.body;
        for words in ["Tell LINE that your permission has ended", "Withdraw our access", "Return the chat menu", "Under way."] {
            assert!(page.contains(words), "{words}: {page}");
        }
        assert!(deauthorized(app).await.len() > 6, "tried again and again");
        assert_eq!(rows!(app, "jobs WHERE parked_at IS NOT NULL"), 0);
        assert!(tokens(app).await > 0, "still needed");

        app.clear_faults().await;
        later(app).await;
        assert_eq!(steps(app).await, DONE);
        assert_eq!(tokens(app).await, 0);
        assert_eq!(deauthorized(app).await.iter().filter(|status| **status == 204).count(), 1);
        let shown = app.phone(&user).await;
        assert!(shown["rich_menu"]["name"].as_str().unwrap().starts_with("musubi:unlinked:"), "{shown}");
        let page = hanako.get("/account").await.body;
        assert!(page.contains("Not linked") && !page.contains("Under way."), "{page}");
    }

    async fn u06_line_cannot_be_reached_for_an_hour(app) {
        let (mut hanako, _) = app.linked("hanako@example.jp").await;
        let cut_off = without_line(app).await;
        assert_eq!(hanako.unlink().await.location(), "/account?done=unlinked");
        let calls = app.calls().await.len();
        for _ in 0..12 {
            worker::drain(&cut_off).await.unwrap();
            app.clock.advance(5 * MINUTE);
        }
        cut_off.db.close().await;
        assert_eq!(app.calls().await.len(), calls);
        assert_eq!(steps(app).await, PENDING);
        assert_eq!(rows!(app, "jobs WHERE parked_at IS NOT NULL"), 0);
        later(app).await;
        assert_eq!(steps(app).await, DONE);
        assert_eq!(tokens(app).await, 0);
    }

    /// Whatever LINE answers on a bad day, the clean-up goes on by itself afterwards.
    async fn u06_odd_answers_do_not_end_the_clean_up(app) {
        let odd = [
            json!({ "status": 429 }),
            json!({ "status": 503, "body": "<html>" }),
            json!({ "status": 404 }),
            json!({ "status": 403 }),
            json!({ "status": 401 }),
            json!({ "status": 400, "body": { "error": "invalid_client" } }),
            json!({ "cut": "before" }),
            json!({ "truncate": 5 }),
            json!({ "replace_body": "not json" }),
        ];
        for endpoint in ["/oauth2/v3/token", "/user/v1/deauthorize", "/oauth2/v2.1/revoke", "/v2/bot/user/"] {
            for (number, fault) in odd.iter().enumerate() {
                let email = format!("hanako{}{number}@example.jp", endpoint.len());
                let (mut hanako, _) = app.linked(&email).await;
                app.clock.advance(16 * MINUTE);
                hanako.unlink().await;
                let mut fault = fault.clone();
                (fault["endpoint"], fault["count"]) = (json!(endpoint), json!(3));
                app.fault(fault.clone()).await;
                for _ in 0..8 {
                    later(app).await;
                }
                app.clear_faults().await;
                let open = rows!(app, "unlink_steps WHERE state <> 'done'");
                assert_eq!((open, tokens(app).await), (0, 0), "{fault}");
                assert_eq!(rows!(app, "jobs WHERE parked_at IS NOT NULL"), 0, "{fault}");
            }
        }
    }

    async fn u07_the_person_took_the_permission_back_in_line_before(app) {
        let (mut hanako, user) = app.linked("hanako@example.jp").await;
        app.sim(Method::POST, &format!("/_sim/users/{user}/withdraw"), Value::Null).await;
        assert_eq!(rows!(app, "links WHERE ended_at IS NULL"), 1, "LINE tells nobody");
        hanako.unlink().await;
        app.drain().await;
        assert_eq!(deauthorized(app).await, [400]);
        assert_eq!(steps(app).await, DONE);
        assert_eq!(tokens(app).await, 0);
    }

    async fn u07_an_access_token_of_31_days_is_refreshed_first(app) {
        let (_, _) = app.linked("hanako@example.jp").await;
        app.clock.advance(31 * DAY);
        let mut hanako = app.signed_in("hanako@example.jp").await;
        hanako.unlink().await;
        app.drain().await;
        let calls = app.calls().await;
        let refreshed = calls.iter().position(|call| call["body"]["grant_type"] == "refresh_token");
        let deauthorized = calls.iter().position(|call| call["path"] == "/user/v1/deauthorize");
        assert!(refreshed.is_some() && refreshed < deauthorized, "{refreshed:?} {deauthorized:?}");
        assert_eq!(calls[deauthorized.unwrap()]["status"], 204);
        assert_eq!(steps(app).await, DONE);
        assert_eq!(tokens(app).await, 0);
    }

    async fn u07_after_91_days_only_the_person_can_remove_it_and_is_told_how(app) {
        let (_, _) = app.linked("hanako@example.jp").await;
        app.clock.advance(91 * DAY);
        let mut hanako = app.signed_in("hanako@example.jp").await;
        hanako.unlink().await;
        app.drain().await;
        assert_eq!(steps(app).await, ["deauthorize=needs_user", "menu=done", "revoke=done"]);
        assert!(deauthorized(app).await.is_empty());
        assert_eq!(tokens(app).await, 0);
        let page = hanako.get("/account").await.body;
        assert!(page.contains("Authorized apps"), "{page}");
        assert_eq!(rows!(app, "jobs WHERE ended_at IS NULL AND kind <> 'prune'"), 0);
    }

    async fn u07_a_permission_left_to_the_person_does_not_hinder_a_new_link(app) {
        let (_, user) = app.linked("hanako@example.jp").await;
        app.clock.advance(91 * DAY);
        let mut hanako = app.signed_in("hanako@example.jp").await;
        hanako.unlink().await;
        app.drain().await;
        assert_eq!(hanako.link(&user).await.location(), "/account?done=linked");
        app.drain().await;
        hanako.unlink().await;
        app.drain().await;
        assert_eq!(deauthorized(app).await, [204]);
        assert_eq!(rows!(app, "unlink_steps WHERE state = 'pending'"), 0);
        assert_eq!(tokens(app).await, 0);
        links_are_sound(app).await;
    }

    async fn u06_every_sign_ins_tokens_go_and_line_is_told_once(app) {
        let (mut hanako, user) = app.linked("hanako@example.jp").await;
        for _ in 0..4 {
            assert_eq!(app.visitor().sign_in_by_line(&user).await.location(), "/account");
        }
        hanako.unlink().await;
        assert_eq!(rows!(app, "sessions"), 1);
        app.drain().await;
        assert_eq!(deauthorized(app).await, [204]);
        assert_eq!(steps(app).await, DONE);
        assert_eq!(tokens(app).await, 0);
    }

    async fn u06_an_older_clean_up_is_shown_as_long_as_it_is_open(app) {
        let (mut hanako, _) = app.linked("hanako@example.jp").await;
        app.fault(json!({ "endpoint": "POST /user/v1/deauthorize", "status": 500 })).await;
        hanako.unlink().await;
        app.drain().await;
        // However slow this machine is, the second try is not due before the clock is moved.
        app.execute("UPDATE jobs SET due_at = due_at + 60000 WHERE kind = 'deauthorize' AND ended_at IS NULL").await;
        let other = app.line_user("別のはなこ").await;
        hanako.link(&other).await;
        hanako.unlink().await;
        app.drain().await;
        let page = hanako.get("/account").await.body;
        assert!(page.contains("Under way.") && page.contains("\u{2068}はなこ\u{2069} is unlinked here"), "{page}");
        later(app).await;
        assert_eq!(rows!(app, "unlink_steps WHERE state <> 'done'"), 0);
        assert!(!hanako.get("/account").await.body.contains("Under way."));
    }

    async fn u07_an_answer_that_was_lost_is_asked_for_again(app) {
        let (mut hanako, _) = app.linked("hanako@example.jp").await;
        app.fault(json!({ "endpoint": "POST /user/v1/deauthorize", "cut": "after" })).await;
        hanako.unlink().await;
        app.drain().await;
        assert_eq!(steps(app).await, PENDING.map(|step| step.replace("menu=pending", "menu=done")));
        later(app).await;
        assert_eq!(deauthorized(app).await.len(), 2);
        assert_eq!(deauthorized(app).await[1], 400);
        assert_eq!(steps(app).await, DONE);
        assert_eq!(tokens(app).await, 0);
    }

    async fn u08_a_job_done_twice_does_no_harm(app) {
        let (mut hanako, user) = app.linked("hanako@example.jp").await;
        hanako.unlink().await;
        app.drain().await;
        hanako.link(&user).await;
        app.drain().await;
        app.execute("UPDATE jobs SET ended_at = NULL, leased_until = NULL").await;
        app.drain().await;
        later(app).await;
        assert_eq!(deauthorized(app).await, [204], "the new link's permission stays");
        assert_eq!(tokens(app).await, 1);
        assert!(app.phone(&user).await["messages"].as_array().unwrap().len() == 2);
    }

    async fn u09_u10_race_sign_in_and_unlink(app) {
        for round in 0..rounds() {
            let (mut hanako, user) = app.linked(&format!("hanako{round}@example.jp")).await;
            let mut phone = app.visitor();
            let url = phone.start_line("sign_in", "/").await;
            let back = phone.at_line(&url, &user, "consent").await;
            let requests = vec![form(&mut hanako, "/account/unlink", UNLINK).await, page(&phone, &back)];
            let answers = at_once(app, requests).await;
            assert_eq!(answers[0].location(), "/account?done=unlinked");
            let left = rows!(app, "sessions s JOIN links l ON l.id = s.link_id WHERE l.ended_at IS NOT NULL");
            assert_eq!(left, 0, "round {round}: a session outlived its link");
            app.drain().await;
            later(app).await;
            assert_eq!(tokens(app).await, 0, "round {round}: tokens outlived their link");
        }
    }

    async fn u11_what_waits_to_be_sent_is_cancelled(app) {
        app.member("hanako@example.jp", "Hanako").await;
        app.member("taro@example.jp", "Taro").await;
        let user = app.line_user("はなこ").await;
        let mut hanako = app.signed_in("hanako@example.jp").await;
        hanako.link(&user).await;
        let mut taro = app.signed_in("taro@example.jp").await;
        let url = taro.start_line("link", "/account").await;
        let back = taro.at_line(&url, &user, "consent").await;
        assert_eq!(taro.get(&back).await.status, StatusCode::CONFLICT);
        assert_eq!(rows!(app, "deliveries WHERE state = 'waiting'"), 2);
        hanako.unlink().await;
        assert_eq!(rows!(app, "deliveries WHERE state = 'cancelled' AND reason = 'unlinked'"), 2);
        later(app).await;
        assert!(app.phone(&user).await["messages"].as_array().unwrap().is_empty());
        assert!(app.calls_to("/v2/bot/message/push").await.is_empty());
    }

    /// A wrong secret is mended one day; until then nothing is given up and nothing is lost.
    async fn u06_a_wrong_secret_mended_later(app) {
        let (mut hanako, _) = app.linked("hanako@example.jp").await;
        let mut config = app.app.config.clone();
        let login = config.provider.get_mut("main").unwrap().login.as_mut().unwrap();
        login.channel_secret = "0000000000000000000000000000dead".into();
        let wrong = App::new(config, Db::connect(&app.database_url).await.unwrap(), app.clock.clone()).unwrap();
        hanako.unlink().await;
        for _ in 0..6 {
            worker::drain(&wrong).await.unwrap();
            app.clock.advance(11 * MINUTE);
        }
        wrong.db.close().await;
        assert_eq!(steps(app).await, PENDING.map(|step| step.replace("menu=pending", "menu=done")));
        assert!(deauthorized(app).await.is_empty() && tokens(app).await == 1);
        assert_eq!(rows!(app, "jobs WHERE parked_at IS NOT NULL"), 0);
        later(app).await;
        assert_eq!(steps(app).await, DONE);
        assert_eq!(tokens(app).await, 0);
    }

    /// A 400 that does not name the token is about us: it ends nothing, and no token is erased.
    async fn u07_a_refusal_that_is_not_about_the_token_ends_nothing(app) {
        let (mut hanako, user) = app.linked("hanako@example.jp").await;
        hanako.unlink().await;
        let fault = json!({ "endpoint": "POST /user/v1/deauthorize", "status": 400, "count": 100,
            "body": { "message": "The request body has 1 error(s)" } });
        app.fault(fault).await;
        for _ in 0..4 {
            later(app).await;
            assert_eq!(tokens(app).await, 1);
        }
        assert!(steps(app).await.contains(&"deauthorize=pending".to_owned()));
        let refreshed = |calls: Vec<Value>| calls.iter().filter(|call| call["body"]["grant_type"] == "refresh_token").count();
        assert_eq!(refreshed(app.calls().await), 0, "nor is anything refreshed for it");
        app.clear_faults().await;
        later(app).await;
        assert_eq!(steps(app).await, DONE);
        assert_eq!(deauthorized(app).await.last().unwrap(), 204);
        let _ = user;
    }

    /// The person took the permission back: one try to refresh, and then it is known.
    async fn u07_one_refresh_and_no_more(app) {
        let (mut hanako, user) = app.linked("hanako@example.jp").await;
        app.sim(Method::POST, &format!("/_sim/users/{user}/withdraw"), Value::Null).await;
        hanako.unlink().await;
        for _ in 0..3 {
            later(app).await;
        }
        let calls = app.calls().await;
        assert_eq!(calls.iter().filter(|call| call["body"]["grant_type"] == "refresh_token").count(), 1);
        assert_eq!(deauthorized(app).await, [400]);
        assert_eq!((steps(app).await, tokens(app).await), (DONE.map(str::to_owned).to_vec(), 0));
    }

    /// The process ends after LINE acted and before we wrote it down: at the refresh, the deauthorize, the revoke.
    async fn u06_killed_between_line_and_our_row(app) {
        for (number, endpoint) in
            ["/oauth2/v2.1/token", "/user/v1/deauthorize", "/oauth2/v2.1/revoke", "/v2/bot/user/"].iter().enumerate()
        {
            let email = format!("hanako{number}@example.jp");
            app.linked(&email).await;
            app.clock.advance(31 * DAY);
            let mut hanako = app.signed_in(&email).await;
            // As often as it is tried: on a slow machine that is more than once.
            app.fault(json!({ "endpoint": endpoint, "cut": "after", "count": 100 })).await;
            hanako.unlink().await;
            app.drain().await;
            assert!(rows!(app, "unlink_steps WHERE state = 'pending'") > 0, "{endpoint}");
            app.clear_faults().await;
            for _ in 0..3 {
                later(app).await;
            }
            assert_eq!(rows!(app, "unlink_steps WHERE state <> 'done'"), 0, "{endpoint}");
            assert_eq!(tokens(app).await, 0, "{endpoint}");
        }
    }

    /// Two grants of one link, revoked side by side: the last of them ends the step, whichever that is.
    async fn u06_two_grants_revoked_side_by_side(app) {
        for round in 0..rounds() {
            let (mut hanako, user) = app.linked(&format!("hanako{round}@example.jp")).await;
            assert_eq!(app.visitor().sign_in_by_line(&user).await.location(), "/account");
            hanako.unlink().await;
            let mut conn = app.app.db.conn().await.unwrap();
            let grants: Vec<String> = sqlx::query_scalar("SELECT id FROM grants WHERE ended_at IS NULL")
                .fetch_all(&mut *conn)
                .await
                .unwrap();
            drop(conn);
            assert_eq!(grants.len(), 2);
            let (one, two) =
                tokio::join!(cleanup::revoke(&app.app, &grants[0]), cleanup::revoke(&app.app, &grants[1]));
            assert_eq!((one.unwrap(), two.unwrap()), (queue::Outcome::Done, queue::Outcome::Done));
            assert_eq!(rows!(app, "unlink_steps WHERE step = 'revoke' AND state <> 'done'"), 0, "round {round}");
            later(app).await;
            assert_eq!(tokens(app).await, 0);
            assert_eq!(rows!(app, "unlink_steps WHERE state = 'pending'"), 0);
        }
    }

    /// Blocked, not a friend, permission withdrawn, no profile: none of it ends a link.
    async fn u12_nothing_that_happens_in_line_unlinks(app) {
        let (mut hanako, user) = app.linked("hanako@example.jp").await;
        app.sim(Method::POST, &format!("/_sim/users/{user}/withdraw"), Value::Null).await;
        app.sim(Method::POST, &format!("/_sim/users/{user}/block"), json!({}))
            .await;
        later(app).await;
        assert_eq!(rows!(app, "links WHERE ended_at IS NULL AND suspended_at IS NULL"), 1);
        app.fault(json!({ "endpoint": "GET /v2/profile", "status": 401 })).await;
        app.fault(json!({ "endpoint": "GET /friendship/v1/status", "status": 401 })).await;
        let mut phone = app.visitor();
        assert_eq!(phone.sign_in_by_line(&user).await.location(), "/account", "the ID token's word is enough");
        app.execute("UPDATE friends SET friend = 'no'").await;
        let page = hanako.get("/account").await.body;
        assert!(page.contains("Not a friend") && page.contains("Linked since") && page.contains("The link itself stays."));
        // What would be sent is not: the owner is told of a conflict in LINE, where they are no friend.
        app.member("taro@example.jp", "Taro").await;
        let mut taro = app.signed_in("taro@example.jp").await;
        let url = taro.start_line("link", "/account").await;
        let pushed = app.calls_to("/v2/bot/message/push").await.len();
        let back = taro.at_line(&url, &user, "consent").await;
        // LINE made them a friend on the way.
        app.sim(Method::POST, &format!("/_sim/users/{user}/block"), json!({})).await;
        app.fault(json!({ "endpoint": "GET /friendship/v1/status", "status": 401 })).await;
        assert_eq!(taro.get(&back).await.status, StatusCode::CONFLICT);
        app.drain().await;
        assert_eq!(rows!(app, "deliveries WHERE state = 'cancelled' AND reason = 'not_reachable'"), 1);
        assert_eq!(app.calls_to("/v2/bot/message/push").await.len(), pushed);
        assert_eq!(rows!(app, "links WHERE ended_at IS NULL AND suspended_at IS NULL"), 1);
    }

    /// A job whose run fails for a reason of ours is tried again, with its tries counted, and finishes after the mending.
    async fn j16_a_job_that_fails_is_tried_again(app) {
        let (mut hanako, _) = app.linked("hanako@example.jp").await;
        hanako.unlink().await;
        app.execute("ALTER TABLE grants RENAME TO hidden").await;
        app.drain().await;
        later(app).await;
        assert_eq!(rows!(app, "jobs WHERE kind = 'deauthorize' AND attempts >= 2 AND ended_at IS NULL AND note <> ''"), 1);
        app.execute("ALTER TABLE hidden RENAME TO grants").await;
        later(app).await;
        assert_eq!(steps(app).await, DONE);
    }

    async fn j16_a_job_that_keeps_failing_is_parked_and_holds_up_nobody(app) {
        app.fault(json!({ "endpoint": "POST /v2/bot/richmenu", "status": 503, "count": 1000 })).await;
        worker::prepare(&app.app).await.unwrap();
        for _ in 0..25 {
            later(app).await;
        }
        assert_eq!(rows!(app, "jobs WHERE kind = 'ensure_menus' AND parked_at IS NOT NULL AND attempts = 20"), 1);
        assert!(queue::claim(&app.app, queue::Lane::Line, 10).await.unwrap().is_empty(), "and it is left alone");
        let (_, user) = app.linked("hanako@example.jp").await;
        assert_eq!(app.phone(&user).await["messages"].as_array().unwrap().len(), 1, "the others go on");
    }
}
