//! Adding the official account: offered by LINE on the way, asked for after the link, and noticed by the page.

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use musubi::link::ticket;
use serde_json::{Value, json};

use crate::{
    sending::texts,
    support::{Engine, ORIGIN, TestApp, Visitor, both_engines, parameter, read},
};

const PAGE: &str = "/account/friend?provider=main";
const AFTER_LINK: &str = "/account/friend?provider=main&done=linked";
const ADD: &str = "https://line.me/R/ti/p/%40example";

/// As [`Visitor::at_line`], where the person does or does not add the official account.
async fn at_line(visitor: &Visitor<'_>, authorize: &str, user: &str, adds: bool) -> String {
    let app = visitor.app;
    let login = json!({ "user_id": user, "outcome": "consent", "add_friend": adds });
    app.sim(Method::POST, "/_sim/logins", login).await;
    let url = url::Url::parse(authorize).unwrap();
    let path = format!("{}?{}", url.path(), url.query().unwrap_or_default());
    let request = Request::get(path).header(header::HOST, "access.line.me").body(Body::empty()).unwrap();
    let answer = read(tower::ServiceExt::oneshot(app.line.clone(), request).await.unwrap()).await;
    answer.location().strip_prefix(ORIGIN).unwrap().to_owned()
}

/// Links, to where that leads.
async fn link(visitor: &mut Visitor<'_>, user: &str, adds: bool) -> String {
    let authorize = visitor.start_line("link", "/account").await;
    let back = at_line(visitor, &authorize, user, adds).await;
    let confirm = visitor.get(&back).await.location();
    visitor.confirm(&parameter(&confirm, "attempt")).await.location()
}

async fn state(visitor: &mut Visitor<'_>) -> Value {
    let answer = visitor.get("/account/friend/state?provider=main").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    answer.json()["state"].clone()
}

async fn kept(app: &TestApp) -> Vec<String> {
    texts(app, "SELECT COALESCE(friend, '-') FROM attempts ORDER BY created_at, id").await
}

both_engines! {
    /// From the link to the friend, to a block, and back.
    async fn who_is_no_friend_is_asked_and_seen_to_become_one(app) {
        app.member("hanako@example.jp", "Hanako").await;
        let user = app.line_user("はなこ").await;
        let mut hanako = app.signed_in("hanako@example.jp").await;
        assert_eq!(hanako.get(PAGE).await.location(), "/account", "nothing is linked");
        assert_eq!(hanako.get("/account/friend/state?provider=main").await.status, StatusCode::NOT_FOUND);

        assert_eq!(link(&mut hanako, &user, false).await, AFTER_LINK);
        let page = hanako.get(AFTER_LINK).await;
        for words in ["Your LINE account is now linked.", "Add our official account as a friend", &format!("href=\"{ADD}\""), "<svg", "data-state=\"no\"", "href=\"/account\""] {
            assert!(page.body.contains(words), "{words}: {}", page.body);
        }
        assert!(!page.body.contains("<?xml"), "{}", page.body);
        let policy = page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains("connect-src 'self'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(state(&mut hanako).await, "no");
        let account = hanako.get("/account").await;
        assert!(account.body.contains(&format!("href=\"{PAGE}\"")), "{}", account.body);

        app.does(&user, "follow", json!({})).await;
        app.drain().await;
        assert_eq!(state(&mut hanako).await, "yes");
        let page = hanako.get(AFTER_LINK).await;
        assert!(page.body.contains("You are friends on LINE") && !page.body.contains(ADD), "{}", page.body);
        assert!(!hanako.get("/account").await.body.contains(PAGE));

        app.does(&user, "block", json!({})).await;
        app.drain().await;
        assert_eq!(state(&mut hanako).await, "no");
        let page = hanako.get("/account/friend?provider=main&return_to=/account/history").await;
        assert!(page.body.contains("unblock it there") && page.body.contains("href=\"/account/history\""), "{}", page.body);
        assert!(!page.body.contains("is now linked"), "{}", page.body);
    }

    /// Whose friend it is, is told to nobody else; and nobody is led to another site.
    async fn the_page_is_of_ones_own_link(app) {
        let (mut hanako, user) = app.linked("hanako@example.jp").await;
        app.does(&user, "block", json!({})).await;
        app.drain().await;
        app.member("taro@example.jp", "Taro").await;
        let mut taro = app.signed_in("taro@example.jp").await;
        assert_eq!(taro.get(PAGE).await.location(), "/account");
        assert_eq!(taro.get("/account/friend/state?provider=main").await.status, StatusCode::NOT_FOUND);
        for provider in ["other", "", "main%00", "main'"] {
            assert_eq!(hanako.get(&format!("/account/friend?provider={provider}")).await.location(), "/account");
            let state = hanako.get(&format!("/account/friend/state?provider={provider}")).await;
            assert_eq!(state.status, StatusCode::NOT_FOUND, "{provider}");
        }
        for away in ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)"] {
            let page = hanako.get(&format!("{PAGE}&return_to={away}")).await;
            let (_, main) = page.body.split_once("card-foot").unwrap();
            assert!(main.contains("<a href=\"/account\">"), "{away}: {}", page.body);
        }
        hanako.unlink().await;
        assert_eq!(hanako.get(PAGE).await.location(), "/account");
    }

    /// Who adds it on the way, or is a friend already, goes on to the account; LINE's word on it is kept.
    async fn what_line_says_of_its_option_is_kept(app) {
        for (number, (adds, friend_before, leads_to, word, friend)) in [
            (true, false, "/account?done=linked", "added", "yes"),
            (false, false, AFTER_LINK, "not_added", "no"),
            // There was nothing to offer.
            (false, true, "/account?done=linked", "-", "yes"),
        ].into_iter().enumerate() {
            let email = format!("m{number}@example.jp");
            app.member(&email, "Hanako").await;
            let user = app.line_user("はなこ").await;
            if friend_before {
                app.does(&user, "follow", json!({})).await;
            }
            let mut visitor = app.signed_in(&email).await;
            assert_eq!(link(&mut visitor, &user, adds).await, leads_to);
            assert_eq!(kept(app).await.last().map(String::as_str), Some(word));
            assert_eq!(state(&mut visitor).await, friend);
        }
    }

    /// `true` counts where the question after it fails; where LINE answers, its answer does; `false` says nothing.
    async fn an_added_friend_is_one_though_line_does_not_answer(app) {
        for (number, (adds, fails, said, friend)) in [
            (true, true, None, "yes"),
            (false, true, None, "unknown"),
            (false, false, Some("true"), "no"),
            (false, true, Some("yes"), "unknown"),
        ].into_iter().enumerate() {
            let email = format!("m{number}@example.jp");
            app.member(&email, "Hanako").await;
            let user = app.line_user("はなこ").await;
            let mut visitor = app.signed_in(&email).await;
            let authorize = visitor.start_line("link", "/account").await;
            let mut back = at_line(&visitor, &authorize, &user, adds).await;
            if let Some(said) = said {
                back = back.replace("friendship_status_changed=false", &format!("friendship_status_changed={said}"));
            }
            // Its event comes later.
            app.execute("DELETE FROM friends").await;
            app.execute("DELETE FROM intake").await;
            if fails {
                app.fault(json!({ "endpoint": "GET /friendship/v1/status", "status": 500, "count": 9 })).await;
            }
            let confirm = visitor.get(&back).await.location();
            app.clear_faults().await;
            visitor.confirm(&parameter(&confirm, "attempt")).await;
            assert_eq!(state(&mut visitor).await, friend, "{number}");
        }
        // Twice is nobody's answer.
        app.member("last@example.jp", "Hanako").await;
        let user = app.line_user("はなこ").await;
        let mut visitor = app.signed_in("last@example.jp").await;
        let authorize = visitor.start_line("link", "/account").await;
        let back = at_line(&visitor, &authorize, &user, false).await;
        let answer = visitor.get(&format!("{back}&friendship_status_changed=true")).await;
        assert!(answer.status.is_client_error(), "{}", answer.status);
    }

    /// Who came by a ticket has no account page before them: the last page offers it.
    async fn a_ticket_ends_with_the_offer(app) {
        let member_id = app.member("hanako@example.jp", "Hanako").await;
        for (adds, return_url) in [(false, None), (true, None), (false, Some("https://shop.example.jp/back"))] {
            app.execute("UPDATE links SET ended_at = 1 WHERE ended_at IS NULL").await;
            let new = ticket::New { member_id: &member_id, provider: "main", return_url, made_by: "test" };
            let mut tx = app.app.db.begin().await.unwrap();
            let made = ticket::create(&mut tx, &app.app, &new).await.unwrap().unwrap();
            tx.commit().await.unwrap();
            let (user, mut visitor) = (app.line_user("はなこ").await, app.visitor());
            let path = made.url.strip_prefix(ORIGIN).unwrap();
            visitor.get(path).await;
            let start = [("purpose", "ticket"), ("provider", "main"), ("return_to", path)];
            let authorize = visitor.post("/line/start", &start).await.location();
            let back = at_line(&visitor, &authorize, &user, adds).await;
            let confirm = visitor.get(&back).await.location();
            let leads_to = visitor.confirm(&parameter(&confirm, "attempt")).await.location();
            match return_url {
                Some(url) => assert!(leads_to.starts_with(url), "{leads_to}"),
                None => {
                    let page = visitor.get(&leads_to).await;
                    assert_eq!(page.body.contains(ADD), !adds, "{}", page.body);
                }
            }
        }
    }
}

/// Without an official account that can be named, nobody is asked to add one.
#[tokio::test]
async fn without_an_account_to_add_nobody_is_asked() {
    for lacks_channel in [true, false] {
        let app = TestApp::start_with(Engine::Sqlite, |config| {
            if lacks_channel {
                config.provider.get_mut("main").unwrap().login.as_mut().unwrap().channel = None;
            } else {
                config.channel.get_mut("main").unwrap().basic_id = None;
            }
        })
        .await;
        app.member("hanako@example.jp", "Hanako").await;
        let user = app.line_user("はなこ").await;
        let mut hanako = app.signed_in("hanako@example.jp").await;
        assert_eq!(link(&mut hanako, &user, false).await, "/account?done=linked");
        assert!(!hanako.get("/account").await.body.contains("/account/friend"));
        assert_eq!(hanako.get(PAGE).await.location(), "/account");
        app.end().await;
    }
}
