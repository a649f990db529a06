//! Account link: from a word in the chat over our page and LINE's dialog to a link, and each way to abuse it.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use musubi::queue;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{
    linking::{at_once, form, rows},
    support::{Answer, BOT_CHANNEL, ORIGIN, PASSWORD, TestApp, Visitor, both_engines, parameter, read, title},
};

const MINUTE: Duration = Duration::from_secs(60);

/// What the person's phone shows, as JSON text, the last message only.
pub async fn last_message(app: &TestApp, user: &str) -> Value {
    app.phone(user).await["messages"].as_array().unwrap().last().cloned().unwrap_or_default()
}

pub async fn says(app: &TestApp, user: &str, words: &str) {
    let message = last_message(app, user).await;
    assert!(message.to_string().contains(words), "{words:?} is not in {message}");
}

/// A new person at LINE who is a friend, as the bot knows.
pub async fn friend(app: &TestApp, name: &str) -> String {
    let user = app.line_user(name).await;
    app.does(&user, "follow", json!({})).await;
    app.drain().await;
    user
}

/// The person presses "link" in a menu; gives path and query of our page, as the button has it.
pub async fn ask(app: &TestApp, user: &str) -> String {
    asks(app, user).await;
    button(app, user).await
}

async fn asks(app: &TestApp, user: &str) {
    app.does(user, "postback", json!({ "data": "musubi=link" })).await;
    app.drain().await;
}

async fn button(app: &TestApp, user: &str) -> String {
    let message = last_message(app, user).await;
    let uri = message.pointer("/template/actions/0/uri").and_then(Value::as_str);
    assert!(uri.is_some(), "no button: {message}");
    uri.unwrap().strip_prefix(ORIGIN).unwrap().to_owned()
}

/// The member's yes, with the password; the answer leads to LINE's dialog.
pub async fn agree(visitor: &mut Visitor<'_>, page: &str) -> Answer {
    let link_token = parameter(page, "linkToken");
    let fields = [("link_token", link_token.as_str()), ("consent", "1:en"), ("password", PASSWORD)];
    visitor.post("/account-link", &fields).await
}

/// LINE's dialog in a browser of `user`'s; the webhook went out before this returns.
pub async fn dialog(app: &TestApp, url: &str, user: &str) -> String {
    app.sim(Method::POST, "/_sim/logins", json!({ "user_id": user, "outcome": "consent" })).await;
    let url = url::Url::parse(url).unwrap();
    let path = format!("{}?{}", url.path(), url.query().unwrap());
    let request = Request::get(path).header(header::HOST, "access.line.me").body(Body::empty()).unwrap();
    read(app.line.clone().oneshot(request).await.unwrap()).await.body
}

/// An event of LINE's, rightly signed.
async fn event(app: &TestApp, user: Option<&str>, result: &str, nonce: &str) {
    let mut event = json!({ "type": "accountLink", "link": { "result": result, "nonce": nonce } });
    if let Some(user) = user {
        event["source"] = json!({ "type": "user", "userId": user });
    }
    app.sim(Method::POST, &format!("/_sim/bots/{BOT_CHANNEL}/events"), event).await;
    app.drain().await;
}

/// The same, while another one speaks in the chat.
async fn standby(app: &TestApp, user: &str, result: &str, nonce: &str) {
    let source = json!({ "type": "user", "userId": user });
    let link = json!({ "result": result, "nonce": nonce });
    let event = json!({ "type": "accountLink", "source": source, "link": link, "standby": true });
    app.sim(Method::POST, &format!("/_sim/bots/{BOT_CHANNEL}/events"), event).await;
    app.drain().await;
}

/// A member with their browser, a friend at LINE, and the page that their button leads to.
async fn begun(app: &TestApp) -> (Visitor<'_>, String, String) {
    app.member("hanako@example.jp", "Hanako").await;
    let user = friend(app, "はなこ").await;
    let page = ask(app, &user).await;
    (app.signed_in("hanako@example.jp").await, user, page)
}

/// The same up to the yes; gives the URL of LINE's dialog instead of the page.
async fn agreed(app: &TestApp) -> (Visitor<'_>, String, String) {
    let (mut hanako, user, page) = begun(app).await;
    let answer = agree(&mut hanako, &page).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    (hanako, user, answer.location())
}

/// Linked by LINE Login and unlinked, which LINE does not carry out; then linked anew by the chat.
async fn linked_anew(app: &TestApp) -> String {
    let (mut hanako, user) = app.linked("hanako@example.jp").await;
    app.does(&user, "follow", json!({})).await;
    app.fault(json!({ "endpoint": "/user/v1/deauthorize", "status": 500, "count": 1000 })).await;
    assert_eq!(hanako.unlink().await.location(), "/account?done=unlinked");
    app.drain().await;
    let page = ask(app, &user).await;
    let url = agree(&mut hanako, &page).await.location();
    dialog(app, &url, &user).await;
    app.drain().await;
    assert_eq!(links(app).await, 1);
    user
}

async fn links(app: &TestApp) -> i64 {
    rows!(app, "links WHERE ended_at IS NULL")
}

async fn is_refused_as(app: &TestApp, reason: &str) {
    let last = app.audit().await.into_iter().rfind(|row| row.starts_with("account_link_refused/"));
    assert_eq!(last.as_deref(), Some(format!("account_link_refused/{reason}").as_str()));
}

/// Everything but what a webhook always leaves: itself, its person, what was said.
async fn state(app: &TestApp) -> Vec<String> {
    app.dump(&["audit", "intake", "webhook_bodies", "events", "event_copies", "jobs", "leases", "line_users"]).await
}

both_engines! {
    async fn a_word_in_the_chat_becomes_a_link(app) {
        app.member("hanako@example.jp", "Hanako").await;
        let user = friend(app, "はなこ").await;
        app.say(&user, "link").await;
        app.drain().await;
        let page = button(app, &user).await;
        assert_eq!(app.calls_to("/v2/bot/chat/loading/start").await.len(), 1);

        // Not signed in: over the sign-in and back.
        let mut hanako = app.visitor();
        let answer = hanako.get(&page).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
        let return_to = parameter(&answer.location(), "return_to");
        assert_eq!(return_to, page);
        let fields = [("email", "hanako@example.jp"), ("password", PASSWORD), ("return_to", return_to.as_str())];
        assert_eq!(hanako.post("/sign-in", &fields).await.location(), page);

        // Both accounts are named, the member's masked.
        let shown = hanako.get(&page).await;
        assert_eq!(shown.status, StatusCode::OK, "{}", shown.body);
        for words in ["<bdi>はなこ</bdi>", "<bdi>h***@example.jp</bdi>", "Did you ask for this yourself", "name=\"password\""] {
            assert!(shown.body.contains(words), "{words}: {}", shown.body);
        }
        let answer = agree(&mut hanako, &page).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        let location = answer.location();
        assert!(location.contains("/dialog/bot/accountLink?linkToken="), "{location}");
        assert_eq!(parameter(&location, "nonce").len(), 43);
        assert_eq!(links(app).await, 0, "nothing is linked before the event");

        let said = dialog(app, &location, &user).await;
        assert!(said.contains("Your LINE account is linked"), "{said}");
        app.drain().await;
        assert_eq!(rows!(app, "links WHERE source = 'account_link' AND permission = 'none' AND ended_at IS NULL"), 1);
        assert_eq!(rows!(app, "consents c JOIN links l ON l.id = c.link_id AND c.version = '1'"), 1);
        assert_eq!(rows!(app, "account_links WHERE outcome = 'linked'"), 1);
        let audit = app.audit().await;
        assert!(audit.contains(&"account_link_agreed/".to_owned()) && audit.contains(&"linked/".to_owned()), "{audit:?}");
        says(app, &user, "Your LINE account is linked").await;
        assert_eq!(app.calls_to("/v2/bot/message/push").await.len(), 0, "all of it by reply tokens");
        assert_eq!(app.mails("hanako@example.jp").await.len(), 1);
        let account = hanako.get("/account").await;
        assert!(account.body.contains("Linked since") && account.body.contains("はなこ"), "{}", account.body);
        // Back in the browser: the button did its work.
        assert_eq!(hanako.get(&page).await.location(), "/account?done=linked");
        let again = agree(&mut hanako, &page).await;
        assert!(again.body.contains(&title("account_link_gone")), "{}", again.body);

        // No permission was given to us, so there is none to take back.
        assert_eq!(hanako.unlink().await.location(), "/account?done=unlinked");
        app.drain().await;
        assert_eq!(rows!(app, "unlink_steps WHERE step <> 'menu' AND state = 'not_applicable'"), 2);
        assert!(app.calls_to("/user/v1/deauthorize").await.is_empty());
    }

    /// Links are opened by programs too.
    async fn opening_the_page_changes_nothing(app) {
        let (mut hanako, _, page) = begun(app).await;
        let before = app.dump(&["sessions"]).await;
        for _ in 0..3 {
            assert_eq!(hanako.get(&page).await.status, StatusCode::OK);
            assert_eq!(app.visitor().get(&page).await.status, StatusCode::SEE_OTHER);
        }
        assert_eq!(app.dump(&["sessions"]).await, before);
    }

    async fn each_asking_has_its_own_button(app) {
        let (mut hanako, user, first) = begun(app).await;
        let second = ask(app, &user).await;
        assert_ne!(first, second);
        for page in [&first, &second] {
            assert_eq!(hanako.get(page).await.status, StatusCode::OK);
        }
        let url = agree(&mut hanako, &first).await.location();
        dialog(app, &url, &user).await;
        app.drain().await;
        assert_eq!(links(app).await, 1);
        let other = hanako.get(&second).await;
        assert!(other.body.contains(&title("already_linked")), "{}", other.body);
        asks(app, &user).await;
        says(app, &user, "is linked to your Example Company account h***@example.jp already").await;
    }

    /// The profile is read beside: somebody who is quick comes before it.
    async fn a_name_that_is_not_known_yet_is_not_left_blank(app) {
        let (mut hanako, _, page) = begun(app).await;
        let words = "LINE has not told us its name yet. Go on only if you yourself wrote in the chat just now.";
        assert!(!hanako.get(&page).await.body.contains(words));
        app.execute("UPDATE line_users SET display_name = ''").await;
        let shown = hanako.get(&page).await;
        assert_eq!(shown.status, StatusCode::OK, "{}", shown.body);
        assert!(shown.body.contains(words) && !shown.body.contains("<bdi></bdi>"), "{}", shown.body);
    }

    async fn the_password_is_asked_each_time(app) {
        let (mut hanako, _, page) = begun(app).await;
        let link_token = parameter(&page, "linkToken");
        for password in ["", "wrong horse"] {
            let fields = [("link_token", link_token.as_str()), ("consent", "1:en"), ("password", password)];
            let answer = hanako.post("/account-link", &fields).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.body);
            assert!(answer.body.contains("The password is not right."));
            assert!(answer.field("link_token").is_some(), "the form is there again");
        }
        is_refused_as(app, "credentials").await;
        assert_eq!(rows!(app, "account_links WHERE agreed_at IS NOT NULL"), 0);
        // Another consent text than the one that holds: it is shown first.
        let fields = [("link_token", link_token.as_str()), ("consent", "0:en"), ("password", PASSWORD)];
        assert_eq!(hanako.post("/account-link", &fields).await.location(), page);
        assert_eq!(rows!(app, "account_links WHERE agreed_at IS NOT NULL"), 0);
    }

    /// Two tabs, or a form sent twice: whichever way to LINE the person goes on with, it is the same.
    async fn each_yes_of_one_session_gives_one_nonce(app) {
        let (mut hanako, user, page) = begun(app).await;
        let link_token = parameter(&page, "linkToken");
        let fields = [("link_token", link_token.as_str()), ("consent", "1:en"), ("password", PASSWORD)];
        let mut tab = hanako.clone();
        let requests = vec![form(&mut hanako, "/account-link", &fields).await, form(&mut tab, "/account-link", &fields).await];
        let both = at_once(app, requests).await;
        let first = both[0].location();
        let nonce = parameter(&first, "nonce");
        assert_eq!(nonce.len(), 43);
        assert_eq!(parameter(&both[1].location(), "nonce"), nonce);
        app.clock.advance(MINUTE);
        assert_eq!(parameter(&agree(&mut hanako, &page).await.location(), "nonce"), nonce);
        dialog(app, &first, &user).await;
        app.drain().await;
        assert_eq!(links(app).await, 1);
        assert_eq!(rows!(app, "account_links WHERE outcome = 'linked'"), 1);
    }

    async fn a_yes_of_another_session_replaces_the_first_one_of_the_same_member_only(app) {
        let (mut hanako, user, page) = begun(app).await;
        let first = agree(&mut hanako, &page).await.location();
        let mut elsewhere = app.signed_in("hanako@example.jp").await;
        let second = agree(&mut elsewhere, &page).await.location();
        assert_ne!(parameter(&first, "nonce"), parameter(&second, "nonce"));
        app.member("eve@example.jp", "Eve").await;
        let mut eve = app.signed_in("eve@example.jp").await;
        for answer in [eve.get(&page).await, agree(&mut eve, &page).await] {
            assert_eq!(answer.status, StatusCode::NOT_FOUND);
            assert!(answer.body.contains(&title("account_link_gone")), "{}", answer.body);
        }
        event(app, Some(&user), "ok", &parameter(&first, "nonce")).await;
        assert_eq!(links(app).await, 0, "the first nonce is void");
        is_refused_as(app, "unknown_nonce").await;
        // Nor is the nonce of one button that of another.
        let other = ask(app, &user).await;
        assert_ne!(parameter(&agree(&mut elsewhere, &other).await.location(), "nonce"), parameter(&second, "nonce"));
        dialog(app, &second, &user).await;
        app.drain().await;
        assert_eq!(links(app).await, 1);
    }

    async fn two_yes_at_once_leave_one_nonce(app) {
        let (mut hanako, user, page) = begun(app).await;
        app.member("eve@example.jp", "Eve").await;
        let mut eve = app.signed_in("eve@example.jp").await;
        let link_token = parameter(&page, "linkToken");
        let fields = [("link_token", link_token.as_str()), ("consent", "1:en"), ("password", PASSWORD)];
        let requests = vec![form(&mut hanako, "/account-link", &fields).await, form(&mut eve, "/account-link", &fields).await];
        let answers = at_once(app, requests).await;
        let through: Vec<_> = answers.iter().filter(|answer| answer.status == StatusCode::SEE_OTHER).collect();
        assert_eq!(through.len(), 1, "{answers:?}");
        dialog(app, &through[0].location(), &user).await;
        app.drain().await;
        assert_eq!(links(app).await, 1);
    }

    async fn n01_a_guessed_nonce_changes_nothing(app) {
        let (_, user, _) = agreed(app).await;
        let before = state(app).await;
        for nonce in ["", "x", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "nul\0byte", &"n".repeat(10_000)] {
            event(app, Some(&user), "ok", nonce).await;
            event(app, None, "failed", nonce).await;
        }
        assert_eq!(state(app).await, before);
        is_refused_as(app, "unknown_nonce").await;
    }

    async fn n02_a_nonce_counts_once(app) {
        let (mut hanako, user, url) = agreed(app).await;
        dialog(app, &url, &user).await;
        app.drain().await;
        let before = state(app).await;
        let nonce = parameter(&url, "nonce");
        event(app, Some(&user), "ok", &nonce).await;
        event(app, None, "failed", &nonce).await;
        assert_eq!(state(app).await, before);
        assert_eq!(links(app).await, 1);
        // Not after an unlink either.
        assert_eq!(hanako.unlink().await.location(), "/account?done=unlinked");
        app.drain().await;
        event(app, Some(&user), "ok", &nonce).await;
        assert_eq!(links(app).await, 0);
    }

    /// LINE delivers again what it is not sure of, with the flag and the same id; and two copies may come at once.
    async fn n02_a_redelivered_event_links_once(app) {
        let (_, user, url) = agreed(app).await;
        let messages = app.phone(&user).await["messages"].as_array().unwrap().len();
        app.sim(Method::POST, "/_sim/webhooks/hold", json!({})).await;
        dialog(app, &url, &user).await;
        app.sim(Method::POST, "/_sim/webhooks/release", json!({ "repeat": 4, "at_once": true })).await;
        app.drain().await;
        assert_eq!(links(app).await, 1);
        assert_eq!(app.phone(&user).await["messages"].as_array().unwrap().len(), messages + 1, "one welcome");
        assert_eq!(app.mails("hanako@example.jp").await.len(), 1);
    }

    async fn n03_a_late_event_links_nothing_and_is_told(app) {
        let (_, user, url) = agreed(app).await;
        app.clock.advance(10 * MINUTE + Duration::from_secs(1));
        // Handled before anybody noticed that none came.
        app.sim(Method::POST, &format!("/_sim/bots/{BOT_CHANNEL}/events"), json!({
            "type": "accountLink", "link": { "result": "ok", "nonce": parameter(&url, "nonce") },
            "source": { "type": "user", "userId": user },
        })).await;
        musubi::webhook::inbox::run(&app.app, "main", "drain").await.unwrap();
        app.drain().await;
        assert_eq!(links(app).await, 0);
        is_refused_as(app, "expired").await;
        let told = |phone: Value| phone.to_string().matches("Linking was not completed in time").count();
        assert_eq!(told(app.phone(&user).await), 1, "once, by the event");
    }

    async fn n03_a_nonce_without_an_event_ends_and_is_told_once(app) {
        let (mut hanako, user, url) = agreed(app).await;
        app.clock.advance(9 * MINUTE);
        app.drain().await;
        assert_eq!(rows!(app, "account_links WHERE ended_at IS NULL"), 1);
        app.clock.advance(MINUTE + Duration::from_secs(1));
        app.drain().await;
        assert_eq!(rows!(app, "account_links WHERE outcome = 'expired'"), 1);
        event(app, Some(&user), "ok", &parameter(&url, "nonce")).await;
        app.clock.advance(10 * MINUTE);
        app.drain().await;
        let told = app.phone(&user).await.to_string().matches("Linking was not completed in time").count();
        assert_eq!(told, 1);
        assert_eq!(links(app).await, 0);
        // What was never agreed to ends without a word.
        let page = ask(app, &user).await;
        app.clock.advance(11 * MINUTE);
        app.drain().await;
        let told = app.phone(&user).await.to_string().matches("Linking was not completed in time").count();
        assert_eq!(told, 1);
        assert!(hanako.get(&page).await.body.contains(&title("account_link_gone")));
    }

    async fn n04_another_line_user_burns_the_nonce(app) {
        let (_, user, url) = agreed(app).await;
        let eve = friend(app, "Eve").await;
        let nonce = parameter(&url, "nonce");
        event(app, Some(&eve), "ok", &nonce).await;
        is_refused_as(app, "other_person").await;
        event(app, Some(&user), "ok", &nonce).await;
        assert_eq!(links(app).await, 0, "burnt");
        assert_eq!(rows!(app, "account_links WHERE outcome = 'other_person'"), 1);
    }

    async fn n05_a_failed_result_burns_the_nonce(app) {
        let (mut hanako, user, url) = agreed(app).await;
        let eve = friend(app, "Eve").await;
        // Eve's browser: LINE says that it failed, and not whose it was.
        assert!(dialog(app, &url, &eve).await.contains("not the LINE user"));
        app.drain().await;
        is_refused_as(app, "failed").await;
        says(app, &user, "the button was used with another LINE account").await;
        event(app, Some(&user), "ok", &parameter(&url, "nonce")).await;
        assert_eq!(links(app).await, 0, "burnt");
        for result in ["unknown", "", "OK"] {
            let page = ask(app, &user).await;
            let nonce = parameter(&agree(&mut hanako, &page).await.location(), "nonce");
            event(app, Some(&user), result, &nonce).await;
            is_refused_as(app, "failed").await;
            event(app, Some(&user), "ok", &nonce).await;
            assert_eq!(links(app).await, 0, "{result}");
        }
    }

    async fn n06_a_forged_event_is_refused(app) {
        let (_, user, url) = agreed(app).await;
        let before = app.dump(&[]).await;
        let body = json!({ "destination": "Ub0000000000000000000000000000000", "events": [{
            "type": "accountLink", "mode": "active", "timestamp": app.app.now().0, "webhookEventId": "01FZ74A0TDDPYRVKNK77XKC3ZR",
            "deliveryContext": { "isRedelivery": false }, "source": { "type": "user", "userId": user },
            "link": { "result": "ok", "nonce": parameter(&url, "nonce") },
        }] });
        let forged = json!({ "body": body.to_string(), "signature": "GhRKmvmHys4Pi8DxkF4+EayaH0OqtJtaZxgTD9fMDLs=" });
        let sent = app.sim(Method::POST, "/_sim/webhooks", forged).await;
        assert_eq!(sent["webhook"]["status"], 401, "{sent}");
        app.drain().await;
        assert_eq!(app.dump(&[]).await, before);
    }

    /// LINE's documented attack: Eve sends Hanako, who is signed in, the page of Eve's own button.
    async fn n07_a_forwarded_page_asks_for_the_password_and_names_the_line_account(app) {
        app.member("hanako@example.jp", "Hanako").await;
        let eve = friend(app, "Eve <3").await;
        let page = ask(app, &eve).await;
        let mut hanako = app.signed_in("hanako@example.jp").await;
        let shown = hanako.get(&page).await;
        assert_eq!(shown.status, StatusCode::OK, "it goes on by itself nowhere");
        assert!(shown.body.contains("<bdi>Eve &#60;3</bdi>") && shown.body.contains("their LINE account would be linked"));
        assert!(shown.body.contains("autocomplete=\"current-password\" required"));
        assert!(!shown.body.contains("http-equiv"), "nor after a while");
        let link_token = parameter(&page, "linkToken");
        let answer = hanako.post("/account-link", &[("link_token", link_token.as_str()), ("consent", "1:en")]).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "a session is not enough");
        assert_eq!(rows!(app, "account_links WHERE nonce_hash IS NOT NULL"), 0);
        // A silent sign-in with LINE does not count either: without a password a code by mail is asked for.
        app.execute("UPDATE members SET password_hash = NULL").await;
        app.clock.advance(11 * MINUTE);
        let page = ask(app, &eve).await;
        let answer = hanako.get(&page).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.body);
        let link_token = parameter(&page, "linkToken");
        let answer = hanako.post("/account-link", &[("link_token", link_token.as_str()), ("consent", "1:en")]).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.body);
        assert_eq!(rows!(app, "account_links WHERE nonce_hash IS NOT NULL"), 0);
    }

    async fn n08_a_link_token_brings_no_parameters(app) {
        let (mut hanako, _, page) = begun(app).await;
        let before = app.dump(&["sessions", "throttles"]).await;
        let calls = app.calls().await.len();
        let long = "a".repeat(10 * 1024);
        for bad in ["x", "x&nonce=evil", "", "abcdefghijkl\r\nLocation: https://evil.example", "abcdefghijkl\0", "abcdefghijkl/../x", long.as_str()] {
            let query: String = url::form_urlencoded::Serializer::new(String::new()).append_pair("linkToken", bad).finish();
            for mut visitor in [hanako.clone(), app.visitor()] {
                let answer = visitor.get(&format!("/account-link?{query}")).await;
                assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{bad:?} {}", answer.body);
                let answer = visitor.post("/account-link", &[("link_token", bad), ("consent", "1:en"), ("password", PASSWORD)]).await;
                assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{bad:?} {}", answer.body);
            }
        }
        let twice = hanako.get(&format!("{page}&linkToken=abcdefghijklmn")).await;
        assert_eq!(twice.status, StatusCode::BAD_REQUEST);
        // Of the right shape, and not one of ours.
        let unknown = hanako.get("/account-link?linkToken=NMZTNuVrPTqlr2IF8Bnymkb7rXfYv5EY").await;
        assert_eq!(unknown.status, StatusCode::NOT_FOUND);
        assert!(unknown.body.contains(&title("account_link_gone")), "{}", unknown.body);
        assert_eq!(app.dump(&["sessions", "throttles"]).await, before);
        assert_eq!(app.calls().await.len(), calls);
        // What else stands in our address does not reach LINE's.
        let answer = hanako.get(&format!("{page}&nonce=evil")).await;
        assert_eq!(answer.status, StatusCode::OK);
        let location = agree(&mut hanako, &page).await.location();
        let names: Vec<_> = url::Url::parse(&location).unwrap().query_pairs().map(|(name, _)| name.into_owned()).collect();
        assert_eq!(names, ["linkToken", "nonce"]);
        assert!(!location.contains("evil"));
    }

    async fn n09_an_event_after_an_unlink_links_nothing(app) {
        let (mut hanako, user, url) = agreed(app).await;
        // Linked by another way meanwhile, and unlinked.
        assert_eq!(hanako.link(&user).await.location(), "/account?done=linked");
        assert_eq!(hanako.unlink().await.location(), "/account?done=unlinked");
        app.drain().await;
        event(app, Some(&user), "ok", &parameter(&url, "nonce")).await;
        is_refused_as(app, "unlinked_since").await;
        assert_eq!(links(app).await, 0);
        says(app, &user, "something changed meanwhile").await;
    }

    async fn n09_an_event_after_the_member_was_cut_off_links_nothing(app) {
        let (mut hanako, user, mut url) = agreed(app).await;
        type Cut = for<'a> fn(&'a TestApp, &'a mut Visitor<'_>) -> std::pin::Pin<Box<dyn Future<Output = ()> + 'a>>;
        let cuts: [Cut; 4] = [
            |app, _| Box::pin(async {
                musubi::member::disabling::disable(&app.app, "hanako@example.jp").await.unwrap();
                musubi::member::disabling::enable(&app.app, "hanako@example.jp").await.unwrap();
            }),
            |_, hanako| Box::pin(async { hanako.post("/sign-out", &[]).await; }),
            |app, _| Box::pin(async {
                let mut visitor = app.visitor();
                visitor.post("/password/forgot", &[("email", "hanako@example.jp")]).await;
                app.drain().await;
                let token = parameter(&app.mailed_link("hanako@example.jp", "/password/reset").await, "token");
                let answer = visitor.post("/password/reset", &[("token", &token), ("password", PASSWORD)]).await;
                assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
            }),
            |app, _| Box::pin(async {
                musubi::member::disabling::disable(&app.app, "hanako@example.jp").await.unwrap();
            }),
        ];
        for cut in cuts {
            cut(app, &mut hanako).await;
            event(app, Some(&user), "ok", &parameter(&url, "nonce")).await;
            is_refused_as(app, "member_changed").await;
            assert_eq!(links(app).await, 0);
            says(app, &user, "something changed meanwhile").await;
            if rows!(app, "members WHERE disabled_at IS NULL") == 1 {
                hanako = app.signed_in("hanako@example.jp").await;
                let page = ask(app, &user).await;
                url = agree(&mut hanako, &page).await.location();
            }
        }
    }

    async fn n09_an_event_after_the_account_was_deleted_links_nothing(app) {
        let (mut hanako, user, url) = agreed(app).await;
        let answer = hanako.post("/account/delete", &[("word", "DELETE"), ("password", PASSWORD)]).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        event(app, Some(&user), "ok", &parameter(&url, "nonce")).await;
        assert_eq!(links(app).await, 0);
        assert_eq!(rows!(app, "links"), 0);
    }

    /// Both conflicts, seen on the page, and again when they come up between the yes and the event.
    async fn k10_a_chat_does_not_take_a_taken_line_account(app) {
        let (_, user) = app.linked("taro@example.jp").await;
        app.does(&user, "follow", json!({})).await;
        app.member("hanako@example.jp", "Hanako").await;
        let other = friend(app, "other").await;
        let mut hanako = app.signed_in("hanako@example.jp").await;
        let page = ask(app, &other).await;
        // The button of a LINE user who is linked by then.
        let mut jiro = { app.member("jiro@example.jp", "Jiro").await; app.signed_in("jiro@example.jp").await };
        assert_eq!(jiro.link(&other).await.location(), "/account?done=linked");
        app.drain().await;
        let shown = hanako.get(&page).await;
        assert_eq!(shown.status, StatusCode::CONFLICT);
        assert!(shown.body.contains(&title("link_conflict_line")) && !shown.body.contains("jiro"), "{}", shown.body);
        assert_eq!(app.audit().await.iter().filter(|row| row.starts_with("link_conflict/")).count(), 0, "nothing by looking");
        let answer = agree(&mut hanako, &page).await;
        assert_eq!(answer.status, StatusCode::CONFLICT);
        assert!(answer.body.contains(&title("link_conflict_line")), "{}", answer.body);
        app.drain().await;
        is_refused_as(app, "conflict_line").await;
        says(app, &other, "tried to link this LINE account").await;
        agree(&mut hanako, &page).await;
        assert_eq!(app.audit().await.iter().filter(|row| row.starts_with("link_conflict/")).count(), 1, "told once");

        // After the yes.
        let third = friend(app, "third").await;
        let page = ask(app, &third).await;
        let url = agree(&mut hanako, &page).await.location();
        let mut saburo = { app.member("saburo@example.jp", "Saburo").await; app.signed_in("saburo@example.jp").await };
        assert_eq!(saburo.link(&third).await.location(), "/account?done=linked");
        app.drain().await;
        dialog(app, &url, &third).await;
        app.drain().await;
        is_refused_as(app, "conflict_line").await;
        assert_eq!(app.audit().await.iter().filter(|row| row.starts_with("link_conflict/")).count(), 2);
        let phone = app.phone(&third).await.to_string();
        assert!(phone.contains("is linked to another Example Company account already"), "{phone}");
        assert_eq!(rows!(app, "links WHERE source = 'account_link'"), 0);
    }

    async fn k11_a_chat_does_not_bring_a_second_line_account(app) {
        let (mut hanako, first) = app.linked("hanako@example.jp").await;
        let second = friend(app, "second").await;
        let page = ask(app, &second).await;
        for answer in [hanako.get(&page).await, agree(&mut hanako, &page).await] {
            assert_eq!(answer.status, StatusCode::CONFLICT);
            assert!(answer.body.contains(&title("link_conflict_member")), "{}", answer.body);
        }
        assert_eq!(hanako.unlink().await.location(), "/account?done=unlinked");
        app.drain().await;
        let page = ask(app, &second).await;
        let url = agree(&mut hanako, &page).await.location();
        assert_eq!(hanako.link(&first).await.location(), "/account?done=linked");
        dialog(app, &url, &second).await;
        app.drain().await;
        is_refused_as(app, "conflict_member").await;
        says(app, &second, "is linked to another LINE account").await;
        assert_eq!(links(app).await, 1);
    }

    async fn k17_a_suspended_link_is_resumed_from_the_chat_by_its_own_member(app) {
        let (_, user) = app.linked("hanako@example.jp").await;
        app.does(&user, "follow", json!({})).await;
        app.execute("UPDATE links SET suspended_at = 1").await;
        let page = ask(app, &user).await;
        app.member("eve@example.jp", "Eve").await;
        let mut eve = app.signed_in("eve@example.jp").await;
        assert!(eve.get(&page).await.body.contains(&title("link_conflict_line")));
        let mut hanako = app.signed_in("hanako@example.jp").await;
        let url = agree(&mut hanako, &page).await.location();
        dialog(app, &url, &user).await;
        app.drain().await;
        assert_eq!(rows!(app, "links WHERE suspended_at IS NULL AND ended_at IS NULL AND permission = 'given'"), 1);
        assert!(app.audit().await.contains(&"link_resumed/".to_owned()));
        assert_eq!(rows!(app, "grants WHERE sealed IS NOT NULL"), 1, "the tokens of before serve the unlink one day");
    }

    /// LINE does not give a link token: tried while the person waits, then said.
    async fn without_a_link_token_the_person_is_told(app) {
        let user = friend(app, "はなこ").await;
        app.fault(json!({ "endpoint": "/v2/bot/user", "status": 500, "count": 1000 })).await;
        asks(app, &user).await;
        assert_eq!(app.phone(&user).await["messages"].to_string().matches("cannot link").count(), 0, "not yet");
        app.clock.advance(Duration::from_secs(30));
        app.drain().await;
        app.clear_faults().await;
        app.clock.advance(Duration::from_secs(10));
        app.drain().await;
        says(app, &user, "/account-link?linkToken=").await;

        app.fault(json!({ "endpoint": "/v2/bot/user", "status": 500, "count": 1000 })).await;
        asks(app, &user).await;
        app.clock.advance(3 * MINUTE);
        app.drain().await;
        says(app, &user, "We cannot link accounts at this moment").await;
        app.clear_faults().await;
        // A definite refusal is said at once.
        app.fault(json!({ "endpoint": "/v2/bot/user", "status": 400 })).await;
        asks(app, &user).await;
        says(app, &user, "We cannot link accounts at this moment").await;
        assert_eq!(rows!(app, "jobs WHERE parked_at IS NOT NULL"), 0);
    }

    /// A former link's permission is taken back, also when the person linked anew from the chat meanwhile.
    async fn a_former_permission_is_taken_back_beside_a_link_from_the_chat(app) {
        let (mut hanako, user) = app.linked("hanako@example.jp").await;
        app.does(&user, "follow", json!({})).await;
        app.fault(json!({ "endpoint": "/user/v1/deauthorize", "status": 500, "count": 1000 })).await;
        assert_eq!(hanako.unlink().await.location(), "/account?done=unlinked");
        app.drain().await;
        // Nor did LINE reset the menu yet.
        app.execute("UPDATE unlink_steps SET state = 'pending' WHERE step = 'menu'").await;
        let page = ask(app, &user).await;
        let url = agree(&mut hanako, &page).await.location();
        dialog(app, &url, &user).await;
        app.drain().await;
        assert_eq!(links(app).await, 1);
        assert_eq!(rows!(app, "unlink_steps WHERE step = 'menu' AND state = 'cancelled'"), 1);
        assert_eq!(rows!(app, "unlink_steps WHERE step = 'deauthorize' AND state = 'pending'"), 1);
        app.clear_faults().await;
        app.clock.advance(11 * MINUTE);
        app.drain().await;
        assert_eq!(rows!(app, "unlink_steps WHERE step = 'deauthorize' AND state = 'done'"), 1);
        assert_eq!(links(app).await, 1);
    }

    /// A sign-in gives the permission which a former link's clean-up still takes back: the one or the other.
    async fn k14_a_sign_in_waits_for_the_clean_up_in_flight(app) {
        let user = linked_anew(app).await;
        app.clear_faults().await;
        app.clock.advance(11 * MINUTE);
        let claimed = queue::claim(&app.app, queue::Lane::Line, 100).await.unwrap();
        assert!(claimed.iter().any(|claimed| matches!(claimed.job, queue::Job::Deauthorize { .. })));
        let mut visitor = app.visitor();
        let answer = visitor.sign_in_by_line(&user).await;
        assert_eq!(answer.status, StatusCode::CONFLICT);
        assert!(answer.body.contains(&title("link_busy")), "{}", answer.body);
        assert!(visitor.get("/account").await.location().starts_with("/sign-in"));
        assert!(app.audit().await.contains(&"line_refused/busy".to_owned()));
        assert_eq!(rows!(app, "links WHERE ended_at IS NULL AND permission = 'none'"), 1);

        let again = queue::Outcome::Retry { why: "held by the test".into(), after: Some(Duration::ZERO) };
        for claimed in &claimed {
            queue::finish(&app.app, claimed, &again, 0.0).await.unwrap();
        }
        app.drain().await;
        assert_eq!(rows!(app, "unlink_steps WHERE step = 'deauthorize' AND state = 'done'"), 1);
        assert_eq!(rows!(app, "grants WHERE sealed IS NOT NULL"), 0, "nor are tokens left of the one turned away");
        app.clock.advance(MINUTE);
        assert_eq!(visitor.sign_in_by_line(&user).await.location(), "/account");
        assert_eq!(rows!(app, "links WHERE ended_at IS NULL AND permission = 'given'"), 1);
    }

    async fn k14_a_sign_in_cancels_the_waiting_clean_up(app) {
        let user = linked_anew(app).await;
        app.clear_faults().await;
        let tried = app.calls_to("/user/v1/deauthorize").await.len();
        app.clock.advance(MINUTE);
        assert_eq!(app.visitor().sign_in_by_line(&user).await.location(), "/account");
        app.clock.advance(60 * MINUTE);
        app.drain().await;
        assert_eq!(app.calls_to("/user/v1/deauthorize").await.len(), tried);
        assert_eq!(rows!(app, "unlink_steps WHERE state = 'pending'"), 0);
        assert_eq!(rows!(app, "links WHERE ended_at IS NULL AND permission = 'given'"), 1);
        assert_eq!(rows!(app, "grants WHERE sealed IS NOT NULL"), 1, "the new one");
    }

    /// Another one speaks in the chat at present: the link is made, and nothing is said there.
    async fn w24_the_end_of_the_dialog_is_silent_in_standby(app) {
        let (_, user, url) = agreed(app).await;
        let said = app.phone(&user).await["messages"].as_array().unwrap().len();
        let pushes = app.calls_to("/v2/bot/message/push").await.len();
        standby(app, &user, "ok", &parameter(&url, "nonce")).await;
        assert_eq!(links(app).await, 1);
        assert_eq!(app.mails("hanako@example.jp").await.len(), 1);
        assert!(app.audit().await.contains(&"linked/".to_owned()));
        assert_eq!(app.phone(&user).await["messages"].as_array().unwrap().len(), said);
        assert_eq!(rows!(app, "jobs WHERE kind = 'user_menu'"), 2, "by the follow, and by the link");

        // Nor that it came to nothing, nor to the owner in the same chat.
        app.execute("UPDATE links SET ended_at = 1").await;
        app.clock.advance(MINUTE);
        let mut hanako = app.signed_in("hanako@example.jp").await;
        let page = ask(app, &user).await;
        let nonce = parameter(&agree(&mut hanako, &page).await.location(), "nonce");
        let failing = ask(app, &user).await;
        let failing = parameter(&agree(&mut hanako, &failing).await.location(), "nonce");
        app.member("eve@example.jp", "Eve").await;
        app.execute(
            "INSERT INTO links (id, provider, line_user_id, member_id, source, consent_version, consent_locale, created_at,
               permission)
             SELECT 'eve', 'main', u.id, m.id, 'web', '1', 'en', 1, 'none' FROM line_users u, members m
             WHERE m.email = 'eve@example.jp'",
        ).await;
        let said = app.phone(&user).await["messages"].as_array().unwrap().len();
        standby(app, &user, "failed", &failing).await;
        is_refused_as(app, "failed").await;
        standby(app, &user, "ok", &nonce).await;
        is_refused_as(app, "conflict_line").await;
        assert!(app.audit().await.contains(&"link_conflict/".to_owned()));
        assert_eq!(app.phone(&user).await["messages"].as_array().unwrap().len(), said);
        assert_eq!(app.calls_to("/v2/bot/message/push").await.len(), pushes);
        assert_eq!(rows!(app, "answers WHERE state = 'waiting'") + rows!(app, "deliveries WHERE state = 'waiting'"), 0);
    }

    /// Whoever signs in with LINE on the way comes back to the page, and its address is not kept.
    async fn a_sign_in_with_line_on_the_way_keeps_no_link_token(app) {
        app.linked("hanako@example.jp").await;
        let (_, by_line) = app.linked("taro@example.jp").await;
        let user = friend(app, "はなこ").await;
        let page = ask(app, &user).await;
        let mut visitor = app.visitor();
        let left = visitor.start_line("sign_in", &page).await;
        let url = visitor.start_line("sign_in", &page).await;
        let kept = async || app.dump(&["answers", "messages", "deliveries", "requests"]).await.join("\n");
        let link_token = parameter(&page, "linkToken");
        assert!(kept().await.contains(&link_token), "while the person is at LINE");
        let back = visitor.at_line(&url, &by_line, "consent").await;
        assert_eq!(visitor.get(&back).await.location(), page);
        assert_eq!(rows!(app, "attempts WHERE used_at IS NOT NULL AND return_to = '/account'"), 3);
        // The other one was left.
        app.clock.advance(11 * MINUTE);
        musubi::worker::prune(&app.app, "test").await.unwrap();
        assert!(!kept().await.contains(&link_token), "{left}");
    }

    async fn no_link_token_and_no_nonce_is_in_the_database(app) {
        let (_, _, url) = agreed(app).await;
        let dump = app.dump(&["answers", "messages", "deliveries", "requests"]).await.join("\n");
        for secret in [parameter(&url, "linkToken"), parameter(&url, "nonce")] {
            assert!(!dump.contains(&secret));
        }
    }
}
