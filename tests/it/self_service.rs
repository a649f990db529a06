//! What members do for themselves: undo a link, look at the past, take a copy of their data, delete the account.

use std::time::Duration;

use axum::http::{Method, StatusCode, header};
use musubi::{app::App, db::Db, demo, privacy, worker};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    linking::{at_once, form, links_are_sound, rounds, rows},
    support::{
        Answer, PASSWORD, TestApp, Visitor, both_engines,
        browser::{Browser, Screen},
        parameter, title,
    },
    webhook::{envelope, signed, text_event},
};

const HANAKO: &str = "hanako@example.jp";
const DAY: Duration = Duration::from_secs(24 * 3600);
const DELETE: [(&str, &str); 2] = [("word", "DELETE"), ("password", PASSWORD)];

async fn delete(visitor: &mut Visitor<'_>) -> Answer {
    visitor.post("/account/delete", &DELETE).await
}

/// Past every backoff and every pause, and what is due then.
async fn later(app: &TestApp) {
    app.clock.advance(Duration::from_secs(660));
    app.drain().await;
}

/// The token of the newest mail that told of a link.
async fn undo_token(app: &TestApp, email: &str) -> String {
    parameter(&app.mailed_link(email, "/link/undo").await, "token")
}

async fn copy(visitor: &mut Visitor<'_>) -> Value {
    let answer = visitor.post("/account/data", &[("password", PASSWORD)]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

both_engines! {
    // ---- "this was not me"

    async fn a_new_link_is_told_by_mail_and_can_be_undone(app) {
        let (mut hanako, user) = app.linked(HANAKO).await;
        let mut elsewhere = app.signed_in(HANAKO).await;
        let mails = app.mails(HANAKO).await;
        assert_eq!(mails.len(), 1, "{mails:?}");
        let token = undo_token(app, HANAKO).await;
        let path = format!("/link/undo?token={token}");

        // Mail programs look too: looking changes nothing.
        let mut mailbox = app.visitor();
        let before = app.dump(&[]).await;
        for _ in 0..2 {
            let page = mailbox.get(&path).await;
            assert_eq!(page.status, StatusCode::OK);
            assert!(page.body.contains("<bdi>はなこ</bdi>") && page.body.contains("<bdi>h***@example.jp</bdi>"), "{}", page.body);
            assert!(!page.body.contains(HANAKO) && !page.body.contains(&user));
            assert_eq!(page.field("token").unwrap(), token);
        }
        assert_eq!(app.dump(&[]).await, before);

        let audit = app.audit().await.len();
        let answer = mailbox.post("/link/undo", &[("token", &token)]).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(answer.body.contains("The link is ended") && answer.body.contains("href=\"/password/forgot\""), "{}", answer.body);
        assert!(!answer.body.contains(&token));
        assert_eq!(app.audit().await[audit..], ["link_undone/"]);
        assert_eq!(rows!(app, "links WHERE end_reason = 'undone' AND ended_at IS NOT NULL"), 1);
        assert_eq!(rows!(app, "sessions"), 0, "everybody is signed out");
        for visitor in [&mut hanako, &mut elsewhere] {
            assert!(visitor.get("/account").await.location().starts_with("/sign-in"));
        }
        assert_eq!(app.visitor().sign_in_by_line(&user).await.location(), "/line/not-linked?provider=main");
        app.drain().await;
        assert_eq!(rows!(app, "unlink_steps WHERE state = 'done'"), 3, "carried out at LINE as any unlink");
        assert_eq!(rows!(app, "grants WHERE sealed IS NOT NULL"), 0);

        // Once only.
        let before = app.dump(&["audit"]).await;
        for answer in [mailbox.get(&path).await, mailbox.post("/link/undo", &[("token", &token)]).await] {
            assert_eq!(answer.status, StatusCode::BAD_REQUEST);
            assert!(answer.body.contains(&title("undo_gone")));
        }
        assert_eq!(app.dump(&["audit"]).await, before);
        assert_eq!(app.audit().await.last().unwrap(), "token_refused/undo_link");
    }

    async fn an_undo_in_ones_own_browser_signs_it_out(app) {
        let (mut hanako, _) = app.linked(HANAKO).await;
        let token = undo_token(app, HANAKO).await;
        let answer = hanako.post("/link/undo", &[("token", &token)]).await;
        assert!(answer.body.contains("The link is ended") && !answer.body.contains("Sign out"), "{}", answer.body);
        assert!(hanako.session_cookie().is_none());
    }

    async fn an_undo_needs_its_own_token_in_time(app) {
        let (mut hanako, _) = app.linked(HANAKO).await;
        let token = undo_token(app, HANAKO).await;
        let mut reset = app.visitor();
        let upper = token.to_uppercase();
        let before = app.dump(&["audit"]).await;
        for wrong in ["", "x", "\0", &token[1..], &upper, &format!("{token}x"), "' OR 1=1 --"] {
            let answer = reset.post("/link/undo", &[("token", wrong)]).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong:?}");
            let query: String = url::form_urlencoded::byte_serialize(wrong.as_bytes()).collect();
            assert_eq!(reset.get(&format!("/link/undo?token={query}")).await.status, StatusCode::BAD_REQUEST);
        }
        assert_eq!(reset.get("/link/undo").await.status, StatusCode::BAD_REQUEST);
        // Another purpose's token is none.
        app.execute("UPDATE tokens SET purpose = 'reset'").await;
        assert_eq!(reset.post("/link/undo", &[("token", &token)]).await.status, StatusCode::BAD_REQUEST);
        app.execute("UPDATE tokens SET purpose = 'undo_link'").await;
        assert_eq!(app.dump(&["audit"]).await, before);
        app.clock.advance(7 * DAY);
        assert_eq!(reset.post("/link/undo", &[("token", &token)]).await.status, StatusCode::BAD_REQUEST);
        assert_eq!(rows!(app, "links WHERE ended_at IS NULL"), 1);
        let _ = &mut hanako;
    }

    /// Whoever linked may have changed the address as well: the former mailbox can still undo it.
    async fn an_undo_works_after_the_address_changed_and_on_the_last_day(app) {
        app.linked(HANAKO).await;
        let token = undo_token(app, HANAKO).await;
        app.execute("UPDATE members SET email = 'thief@example.jp', email_key = 'thief@example.jp'").await;
        app.clock.advance(7 * DAY - Duration::from_secs(5));
        let answer = app.visitor().post("/link/undo", &[("token", &token)]).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(rows!(app, "links WHERE end_reason = 'undone'"), 1);
    }

    /// The link is over already: the sessions end all the same.
    async fn an_undo_of_a_link_that_ended_signs_everybody_out(app) {
        let (mut hanako, user) = app.linked(HANAKO).await;
        let token = undo_token(app, HANAKO).await;
        hanako.unlink().await;
        hanako.link(&user).await;
        assert_eq!(app.visitor().post("/link/undo", &[("token", &token)]).await.status, StatusCode::OK);
        assert_eq!(app.audit().await.last().unwrap(), "link_undone/ended_before");
        assert_eq!((rows!(app, "sessions"), rows!(app, "links WHERE ended_at IS NULL")), (0, 1));
    }

    async fn many_undos_are_one(app) {
        for round in 0..rounds() {
            let email = format!("hanako{round}@example.jp");
            let (mut hanako, _) = app.linked(&email).await;
            let token = undo_token(app, &email).await;
            let mut requests = Vec::new();
            for _ in 0..8 {
                requests.push(form(&mut app.visitor(), "/link/undo", &[("token", &token)]).await);
            }
            let unlink = [("provider", "main"), ("password", PASSWORD)];
            requests.push(form(&mut hanako, "/account/unlink", &unlink).await);
            let answers = at_once(app, requests).await;
            assert_eq!(answers.iter().filter(|answer| answer.status == StatusCode::OK).count(), 1, "{answers:?}");
            let count = (round + 1) as i64;
            assert_eq!(rows!(app, "audit WHERE action = 'link_undone'"), count);
            assert_eq!(rows!(app, "jobs WHERE kind = 'deauthorize'"), count);
            assert_eq!(rows!(app, "links WHERE ended_at IS NULL"), 0);
            app.drain().await;
        }
        links_are_sound(app).await;
    }

    // ---- the past

    async fn the_history_shows_every_link(app) {
        let (mut hanako, user) = app.linked(HANAKO).await;
        hanako.unlink().await;
        app.drain().await;
        hanako.link(&user).await;
        app.drain().await;
        let token = undo_token(app, HANAKO).await;
        app.visitor().post("/link/undo", &[("token", &token)]).await;
        let mut hanako = app.signed_in(HANAKO).await;
        hanako.link(&user).await;
        app.drain().await;
        // Somebody else's later name is not theirs to see.
        let page = hanako.get("/account/history").await;
        assert_eq!(page.status, StatusCode::OK);
        for (words, count) in [("<bdi>はなこ</bdi>", 3), ("You unlinked it.", 1), ("ended by the link in our mail", 1),
            ("Linked until", 2), ("You agreed to", 3), ("class=\"badge success\"", 1), ("Not needed", 0)] {
            assert_eq!(page.body.matches(words).count(), count, "{words}: {}", page.body);
        }
        assert!(page.body.contains("Withdraw our access at LINE") && page.body.contains("Done."));
        app.member("taro@example.jp", "Taro").await;
        let mut taro = app.signed_in("taro@example.jp").await;
        let page = taro.get("/account/history").await.body;
        assert!(page.contains("No LINE account was ever linked") && !page.contains("はなこ"));
    }

    async fn a_former_links_name_is_that_of_its_end(app) {
        let (mut hanako, user) = app.linked(HANAKO).await;
        hanako.unlink().await;
        app.drain().await;
        app.member("taro@example.jp", "Taro").await;
        let mut taro = app.signed_in("taro@example.jp").await;
        taro.link(&user).await;
        app.execute("UPDATE line_users SET display_name = 'いまのたろう', picture_url = 'https://x.example/p'").await;
        let data = copy(&mut hanako).await.to_string();
        for page in [hanako.get("/account/history").await.body, hanako.get("/account").await.body, data] {
            assert!(!page.contains("いまのたろう") && !page.contains("x.example"), "{page}");
        }
    }

    // ---- a copy

    async fn the_copy_holds_all_and_no_secret(app) {
        let (mut hanako, user) = app.linked(HANAKO).await;
        app.linked("taro@example.jp").await;
        hanako.unlink().await;
        app.drain().await;
        hanako.link(&user).await;
        app.drain().await;
        let form = hanako.get("/account/data").await;
        assert!(form.status == StatusCode::OK && form.body.contains("name=\"password\""));
        let audit = app.audit().await.len();
        let wrong = hanako.post("/account/data", &[("password", "wrong")]).await;
        assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
        assert!(wrong.body.contains("The password is not right.") && !wrong.body.contains(&user));
        let answer = hanako.post("/account/data", &[("password", PASSWORD)]).await;
        assert_eq!(app.audit().await[audit..], ["data_refused/credentials", "data_given/"]);
        let header = |name| answer.headers.get(name).unwrap().to_str().unwrap();
        assert_eq!(header(header::CONTENT_TYPE), "application/json; charset=utf-8");
        assert_eq!(header(header::CONTENT_DISPOSITION), "attachment; filename=\"account-data.json\"");
        assert_eq!(header(header::CACHE_CONTROL), "no-store");
        let data: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(data["account"]["email"], HANAKO);
        assert_eq!(data["account"]["name"], "Hanako");
        assert_eq!(data["sessions"][0]["browser"], "test browser");
        assert_eq!(data["sessions"][0]["address"], "192.0.2.1");
        let links = data["line_links"].as_array().unwrap();
        assert_eq!(links.len(), 2);
        assert!(links.iter().all(|link| link["line_user_id"] == user.as_str() && link["line_name"] == "はなこ"));
        assert_eq!((links[0]["ended_by"].as_str(), links[1]["ended_by"].as_str()), (Some("member"), None));
        assert_eq!(data["line_friends"][0]["friend"], "yes");
        assert_eq!(data["consents"].as_array().unwrap().len(), 2);
        assert!(data["consents"][0]["text"].as_str().unwrap().starts_with("I agree"));
        assert_eq!(data["line_messages"].as_array().unwrap().len(), 2);
        assert!(data["line_messages"][0]["content"].to_string().contains("Hanako"));
        assert_eq!(data["line_messages"][0]["state"], "sent");
        assert_eq!(data["mails"][0]["kind"], "linked");
        assert_eq!(data["mails"][0]["state"], "sent");
        let actions: Vec<_> = data["events"].as_array().unwrap().iter().map(|event| event["action"].as_str().unwrap()).collect();
        assert_eq!(actions, ["signed_in", "linked", "unlinked", "linked", "data_refused", "data_given"]);

        // No secret in any form, and nobody else.
        let mut secrets: Vec<String> = hanako.cookies.values().cloned().collect();
        for statement in ["SELECT id_hash FROM sessions", "SELECT sealed FROM grants WHERE sealed IS NOT NULL",
            "SELECT token_hash FROM tokens", "SELECT password_hash FROM members", "SELECT lineage_id FROM sessions",
            "SELECT id FROM requests"] {
            let mut conn = app.app.db.conn().await.unwrap();
            secrets.extend(sqlx::query_scalar::<_, String>(statement).fetch_all(&mut *conn).await.unwrap());
        }
        secrets.extend(["taro@", "argon2", "sealed"].map(str::to_owned));
        assert!(secrets.len() > 10);
        for secret in secrets {
            assert!(!answer.body.contains(&secret), "{secret}: {}", answer.body);
        }
    }

    async fn without_a_password_the_copy_and_the_deletion_need_a_fresh_code(app) {
        app.member(HANAKO, "Hanako").await;
        let mut hanako = app.signed_in(HANAKO).await;
        app.execute("UPDATE members SET password_hash = NULL").await;
        app.clock.advance(Duration::from_secs(660));
        let before = app.dump(&["sessions"]).await;
        for path in ["/account/data", "/account/delete"] {
            for answer in [hanako.get(path).await, hanako.post(path, &DELETE).await] {
                assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
                assert!(answer.body.contains(&title("reauth")), "{}", answer.body);
            }
        }
        assert_eq!(app.dump(&["sessions"]).await, before);
        app.execute("UPDATE sessions SET method = 'code', authenticated_at = authenticated_at + 660000").await;
        for path in ["/account/data", "/account/delete"] {
            let page = hanako.get(path).await;
            assert!(page.status == StatusCode::OK && !page.body.contains("name=\"password\""), "{}", page.body);
        }
        assert_eq!(hanako.post("/account/data", &[]).await.status, StatusCode::OK);
        assert_eq!(hanako.post("/account/delete", &[("word", "DELETE")]).await.status, StatusCode::OK);
        assert_eq!(rows!(app, "members WHERE deleted_at IS NOT NULL"), 1);
    }

    // ---- the end

    async fn a_deletion_needs_the_word_and_the_password(app) {
        let (mut hanako, _) = app.linked(HANAKO).await;
        let page = hanako.get("/account/delete").await;
        assert!(page.body.contains("DELETE") && page.body.contains(HANAKO), "{}", page.body);
        let before = app.dump(&["audit", "throttles"]).await;
        let audit = app.audit().await.len();
        for word in ["", "DELET", "yes", "\0"] {
            let answer = hanako.post("/account/delete", &[("word", word), ("password", PASSWORD)]).await;
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{word:?}");
            assert!(answer.body.contains("type the word") && answer.body.contains("role=\"alert\""));
        }
        for password in ["", "wrong"] {
            let answer = hanako.post("/account/delete", &[("word", "DELETE"), ("password", password)]).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
            assert!(answer.body.contains("The password is not right."));
        }
        assert_eq!(app.dump(&["audit", "throttles"]).await, before);
        assert_eq!(app.audit().await[audit..], ["delete_refused/credentials"; 2]);
        assert_eq!(hanako.post("/account/delete", &[("word", " 削除 "), ("password", PASSWORD)]).await.status, StatusCode::OK);
    }

    async fn a_deletion_ends_all_at_once_and_erases_after_the_clean_up(app) {
        let (mut hanako, user) = app.linked(HANAKO).await;
        let mut elsewhere = app.signed_in(HANAKO).await;
        elsewhere.sign_in_by_line(&user).await;
        app.execute("UPDATE members SET external_id = 'customer-7', locale = 'en'").await;
        app.execute("INSERT INTO devices (token_hash, member_id, created_at, last_used_at) SELECT 'd', id, 1, 1 FROM members").await;
        app.execute("INSERT INTO sign_ups (id, email, email_key, name, password_hash, locale, browser_hash, created_at, expires_at)
            VALUES ('s', 'Hanako@example.jp', 'hanako@example.jp', 'Hanako', 'x', 'en', 'x', 1, 1)").await;
        app.drain().await;
        for endpoint in ["POST /user/v1/deauthorize", "POST /oauth2/v2.1/revoke"] {
            app.fault(json!({ "endpoint": endpoint, "count": 10_000, "status": 503 })).await;
        }
        let answer = delete(&mut hanako).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(answer.body.contains("Your account is deleted") && !answer.body.contains("Sign out"), "{}", answer.body);
        assert!(!answer.body.contains(HANAKO) && hanako.session_cookie().is_none());

        // Here at once.
        assert_eq!(rows!(app, "links WHERE ended_at IS NULL"), 0);
        assert_eq!(rows!(app, "links WHERE end_reason = 'deleted'"), 1);
        assert_eq!(rows!(app, "members WHERE deleted_at IS NOT NULL AND disabled_at IS NOT NULL AND name = '' AND email = ''
            AND email_key = 'deleted:' || id AND password_hash IS NULL AND external_id IS NULL AND locale IS NULL"), 1);
        for table in ["sessions", "tokens", "devices", "sign_ups"] {
            let left = app.dump(&[]).await.iter().filter(|row| row.starts_with(&format!("{table}:"))).count();
            assert_eq!(left, 0, "{table}");
        }
        assert_eq!(rows!(app, "audit WHERE address IS NOT NULL"), 0, "pseudonymous");
        assert_eq!(app.audit().await[app.audit().await.len() - 2..], ["unlinked/", "deleted/"]);
        for visitor in [&mut hanako, &mut elsewhere] {
            assert!(visitor.get("/account").await.location().starts_with("/sign-in"));
        }
        let refused = app.visitor().post("/sign-in", &[("email", HANAKO), ("password", PASSWORD)]).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
        assert_eq!(app.visitor().sign_in_by_line(&user).await.location(), "/line/not-linked?provider=main");

        // The last mail goes out; LINE's side is still to be done, and what that needs is still there.
        for _ in 0..3 {
            later(app).await;
        }
        let mails = app.mails(HANAKO).await;
        assert_eq!(mails.len(), 2, "{mails:?}");
        assert_eq!(rows!(app, "jobs WHERE kind = 'erase_member' AND ended_at IS NULL AND parked_at IS NULL"), 1);
        assert_eq!(rows!(app, "grants WHERE sealed IS NOT NULL AND link_id IS NOT NULL"), 1);
        assert_eq!(rows!(app, "line_users WHERE display_name = 'はなこ'"), 1);

        app.clear_faults().await;
        for _ in 0..3 {
            later(app).await;
        }
        assert_eq!(rows!(app, "unlink_steps WHERE state <> 'done'"), 0);
        assert_eq!(rows!(app, "jobs WHERE kind = 'erase_member' AND ended_at IS NOT NULL"), 1);
        assert_eq!(app.audit().await.last().unwrap(), "erased/");
        for row in app.dump(&["jobs"]).await {
            for personal in [HANAKO, "Hanako", "はなこ", &user, "customer-7", "192.0.2.1"] {
                // The stranger who came by LINE after the end is nobody's; what is kept of attempts goes by itself.
                let strangers = row.starts_with("attempts:") || row.contains("member_id=None");
                assert!(strangers || !row.contains(personal), "{personal}: {row}");
            }
        }
    }

    async fn a_deleted_member_comes_back_as_somebody_new(app) {
        let (mut hanako, user) = app.linked(HANAKO).await;
        assert_eq!(delete(&mut hanako).await.status, StatusCode::OK);
        for _ in 0..3 {
            later(app).await;
        }
        let (mut again, _) = (app.member(HANAKO, "Hanako again").await, ());
        let mut visitor = app.signed_in(HANAKO).await;
        assert_eq!(visitor.link(&user).await.location(), "/account?done=linked");
        app.drain().await;
        assert_eq!(rows!(app, "line_users"), 2, "a new LINE user here");
        let data = copy(&mut visitor).await;
        assert_eq!(data["account"]["id"], again.as_str());
        assert_eq!(data["line_links"].as_array().unwrap().len(), 1);
        assert!(data["events"].as_array().unwrap().iter().all(|event| event["action"] != "deleted"));
        again.clear();
        links_are_sound(app).await;
    }

    /// The same person signs up anew and links anew while LINE is still away: nothing of the new link is taken.
    async fn the_line_account_can_be_linked_anew_while_the_old_clean_up_runs(app) {
        let (mut hanako, user) = app.linked(HANAKO).await;
        app.fault(json!({ "endpoint": "POST /user/v1/deauthorize", "count": 10_000, "status": 503 })).await;
        assert_eq!(delete(&mut hanako).await.status, StatusCode::OK);
        app.drain().await;
        app.member(HANAKO, "Hanako again").await;
        // A try is in doubt: a proof after it counts.
        later(app).await;
        let mut visitor = app.signed_in(HANAKO).await;
        app.clock.advance(Duration::from_secs(60));
        let attempt = visitor.reach_confirm(&user).await;
        // The erasing waits for the yes.
        app.clear_faults().await;
        assert_eq!(visitor.confirm(&attempt).await.location(), "/account?done=linked");
        for _ in 0..3 {
            later(app).await;
        }
        assert_eq!(rows!(app, "jobs WHERE kind = 'erase_member' AND ended_at IS NOT NULL"), 1);
        assert_eq!(rows!(app, "line_users WHERE display_name = 'はなこ'"), 1, "it is linked, and stays");
        assert_eq!(rows!(app, "links l JOIN members m ON m.id = l.member_id AND m.name = 'Hanako again' WHERE l.ended_at IS NULL"), 1);
        assert_eq!(app.visitor().sign_in_by_line(&user).await.location(), "/account");
        assert_eq!(rows!(app, "deliveries WHERE content = '[]'"), 1, "what the former account was sent is erased");
        assert_eq!(rows!(app, "deliveries WHERE content <> '[]'"), 1);
        links_are_sound(app).await;
    }

    /// Between the callback and the yes nobody erases the LINE user.
    async fn the_erasing_waits_for_somebody_elses_yes(app) {
        let (mut hanako, user) = app.linked(HANAKO).await;
        app.member("taro@example.jp", "Taro").await;
        assert_eq!(delete(&mut hanako).await.status, StatusCode::OK);
        app.execute("UPDATE jobs SET due_at = due_at + 1000 WHERE kind = 'erase_member'").await;
        app.drain().await;
        let mut taro = app.signed_in("taro@example.jp").await;
        let attempt = taro.reach_confirm(&user).await;
        app.clock.advance(Duration::from_secs(400));
        app.drain().await;
        assert_eq!(rows!(app, "jobs WHERE kind = 'erase_member' AND ended_at IS NULL AND note LIKE '%waits for a yes%'"), 1);
        assert_eq!(taro.confirm(&attempt).await.location(), "/account?done=linked");
        later(app).await;
        assert_eq!(rows!(app, "line_users WHERE display_name = 'はなこ'"), 1);
        assert_eq!(app.visitor().sign_in_by_line(&user).await.location(), "/account");
    }

    /// One phone, two members: what was said about the first is neither in the second's copy nor left after the first.
    async fn what_was_said_about_a_member_does_not_reach_the_next(app) {
        let (mut hanako, user) = app.linked(HANAKO).await;
        // One by a reply, one by a push.
        for seconds in [0, 120] {
            app.clock.advance(Duration::from_secs(1));
            app.say(&user, "status").await;
            app.clock.advance(Duration::from_secs(seconds));
            app.drain().await;
        }
        assert_eq!(copy(&mut hanako).await["line_answers"].as_array().unwrap().len(), 2);
        hanako.unlink().await;
        app.drain().await;
        app.clock.advance(Duration::from_secs(60));
        app.member("taro@example.jp", "Taro").await;
        let mut taro = app.signed_in("taro@example.jp").await;
        assert_eq!(taro.link(&user).await.location(), "/account?done=linked");
        for seconds in [0, 120] {
            app.clock.advance(Duration::from_secs(1));
            app.say(&user, "status").await;
            app.clock.advance(Duration::from_secs(seconds));
            app.drain().await;
        }
        assert_eq!(rows!(app, "answers WHERE cause = 'status' AND content LIKE '%h***@%'"), 2);
        let given = copy(&mut taro).await;
        let words = given.to_string();
        assert!(!words.contains("Hanako") && !words.contains("h***@"), "{words}");
        assert_eq!((given["line_chat"].as_array().unwrap().len(), given["line_answers"].as_array().unwrap().len()), (2, 2));

        assert_eq!(delete(&mut hanako).await.status, StatusCode::OK);
        for _ in 0..3 {
            later(app).await;
        }
        assert_eq!(app.audit().await.last().unwrap(), "erased/");
        for row in app.dump(&["jobs"]).await {
            assert!(!row.contains("Hanako") && !row.contains("h***@"), "{row}");
        }
        assert_eq!(copy(&mut taro).await["line_answers"], given["line_answers"], "the second's own stay");
        assert_eq!(rows!(app, "deliveries WHERE link_id IS NULL AND content <> '[]'"), 1);
    }

    /// Else the event would bring back, under a new name, whom it is about.
    async fn nobody_is_erased_while_an_event_of_theirs_waits(app) {
        let stranger = app.line_user("b").await;
        for deed in ["follow", "block"] {
            app.does(&stranger, deed, json!({})).await;
        }
        let (mut hanako, user) = app.linked(HANAKO).await;
        app.drain().await;
        assert_eq!(delete(&mut hanako).await.status, StatusCode::OK);
        app.say(&user, "こんにちは").await;
        app.unpack().await;
        app.execute("INSERT INTO event_holds (channel, chat, held_until)
            SELECT channel, chat, 9000000000000 FROM events WHERE state = 'waiting'").await;
        for _ in 0..3 {
            later(app).await;
        }
        assert_eq!(rows!(app, "jobs WHERE kind = 'erase_member' AND ended_at IS NULL AND note LIKE '%event that waits%'"), 1);
        assert_eq!(rows!(app, "line_users WHERE user_id LIKE 'erased:%'"), 0);
        app.execute("DELETE FROM event_holds").await;
        for _ in 0..3 {
            later(app).await;
        }
        assert_eq!(app.audit().await.last().unwrap(), "erased/");
        assert_eq!(rows!(app, "line_users WHERE user_id LIKE 'erased:%'"), 1);
        assert!(app.dump(&["jobs"]).await.iter().all(|row| !row.contains(&user)));

        app.clock.advance(2 * DAY);
        app.does(&stranger, "follow", json!({})).await;
        privacy::erase::prune(&app.app).await.unwrap();
        assert_eq!(rows!(app, "line_users WHERE user_id LIKE 'erased:%'"), 1, "they come back right now");
        app.execute("UPDATE events SET state = 'ignored'").await;
        privacy::erase::prune(&app.app).await.unwrap();
        assert_eq!(rows!(app, "line_users WHERE user_id LIKE 'erased:%'"), 2);
    }

    /// Of an event in a group only its body says whose it is.
    async fn nobody_is_erased_while_an_event_of_a_group_waits(app) {
        let (mut hanako, user) = app.linked(HANAKO).await;
        let group = app.sim(Method::POST, "/_sim/groups", json!({ "name": "Friends" })).await;
        let group = group["group_id"].as_str().unwrap().to_owned();
        let order = async |deed: &str, body: Value| app.sim(Method::POST, &format!("/_sim/groups/{group}/{deed}"), body).await;
        order("join", json!({})).await;
        app.drain().await;
        order("message", json!({ "user_id": user, "text": "hello" })).await;
        app.unpack().await;
        app.execute("INSERT INTO event_holds (channel, chat, held_until)
            SELECT channel, chat, 9000000000000 FROM events WHERE state = 'waiting'").await;
        app.clock.advance(Duration::from_secs(1));
        assert_eq!(delete(&mut hanako).await.status, StatusCode::OK);
        for _ in 0..3 {
            later(app).await;
        }
        assert_eq!(rows!(app, "jobs WHERE kind = 'erase_member' AND ended_at IS NULL AND note LIKE '%event of a group%'"), 1);
        app.execute("DELETE FROM event_holds").await;
        for _ in 0..3 {
            later(app).await;
        }
        assert_eq!(app.audit().await.last().unwrap(), "erased/");
        assert_eq!(rows!(app, "line_users WHERE user_id LIKE 'erased:%'"), 1);
        assert_eq!(rows!(app, "line_users WHERE user_id NOT LIKE 'erased:%'"), 0, "and nobody came back");
        assert_eq!(rows!(app, "chat_messages WHERE text <> ''"), 0);
    }

    /// LINE brings an event once more whose person is erased by now.
    async fn an_erased_persons_event_that_comes_again_is_erased_there_too(app) {
        let (mut hanako, user) = app.linked(HANAKO).await;
        let event = text_event(app, &user, "my secret is open sesame");
        assert_eq!(signed(app, envelope(std::slice::from_ref(&event))).await.status, StatusCode::OK);
        app.drain().await;
        assert_eq!(delete(&mut hanako).await.status, StatusCode::OK);
        for _ in 0..3 {
            later(app).await;
        }
        assert_eq!(rows!(app, "line_users WHERE user_id LIKE 'erased:%'"), 1);
        assert_eq!(signed(app, envelope(&[event])).await.status, StatusCode::OK);
        app.drain().await;
        let bodies = async || {
            let bodies: Vec<Vec<u8>> = sqlx::query_scalar("SELECT body FROM webhook_bodies")
                .fetch_all(&mut *app.app.db.conn().await.unwrap()).await.unwrap();
            bodies.into_iter().map(|body| String::from_utf8(body).unwrap()).collect::<String>()
        };
        assert!(bodies().await.contains(&user));
        assert!(musubi::worker::prune(&app.app, "test").await.unwrap() > 0);
        assert!(!bodies().await.contains(&user) && !bodies().await.contains("open sesame"));
        assert_eq!(rows!(app, "line_users WHERE user_id NOT LIKE 'erased:%'"), 0);
    }

    async fn a_permission_left_to_the_person_does_not_hold_the_erasing_up(app) {
        app.linked(HANAKO).await;
        app.clock.advance(91 * DAY);
        let mut hanako = app.signed_in(HANAKO).await;
        assert_eq!(delete(&mut hanako).await.status, StatusCode::OK);
        for _ in 0..3 {
            later(app).await;
        }
        assert_eq!(rows!(app, "unlink_steps WHERE step = 'deauthorize' AND state = 'needs_user'"), 1);
        assert_eq!(app.audit().await.last().unwrap(), "erased/");
        assert_eq!(rows!(app, "line_users WHERE display_name <> ''"), 0);
    }

    /// Without a mail server nothing waits for a mail.
    async fn without_mail_a_deletion_is_complete_too(app) {
        let mut config = app.app.config.clone();
        config.mail = None;
        let mute = App::new(config, Db::connect(&app.database_url).await.unwrap(), app.clock.clone()).unwrap();
        let (mut hanako, _) = app.linked(HANAKO).await;
        assert_eq!(delete(&mut hanako).await.status, StatusCode::OK);
        for _ in 0..3 {
            worker::drain(&mute).await.unwrap();
            app.clock.advance(2 * DAY);
        }
        worker::drain(&mute).await.unwrap();
        mute.db.close().await;
        assert_eq!(app.audit().await.last().unwrap(), "erased/");
        assert_eq!(rows!(app, "mails WHERE recipient <> '' OR recipient_key <> '' OR mail <> '{}'"), 0);
    }

    async fn many_deletions_are_one(app) {
        for round in 0..rounds() {
            let email = format!("hanako{round}@example.jp");
            let (mut hanako, _) = app.linked(&email).await;
            let mut requests = Vec::new();
            for _ in 0..6 {
                requests.push(form(&mut hanako, "/account/delete", &DELETE).await);
            }
            let unlink = [("provider", "main"), ("password", PASSWORD)];
            requests.push(form(&mut hanako, "/account/unlink", &unlink).await);
            let answers = at_once(app, requests).await;
            assert_eq!(answers.iter().filter(|answer| answer.status == StatusCode::OK).count(), 1, "{answers:?}");
            assert!(answers.iter().all(|answer| answer.status.as_u16() < 500), "{answers:?}");
            let count = (round + 1) as i64;
            assert_eq!(rows!(app, "audit WHERE action = 'deleted'"), count);
            assert_eq!(rows!(app, "audit WHERE action = 'unlinked'"), count);
            for _ in 0..3 {
                later(app).await;
            }
            assert_eq!(app.mails(&email).await.len(), 2, "told of the link and of the deletion, once each");
            assert_eq!(rows!(app, "audit WHERE action = 'erased'"), count);
        }
    }

    /// A sign-in that was on its way leaves no session that lives.
    async fn a_session_made_at_the_same_moment_does_not_live(app) {
        for round in 0..rounds() {
            let email = format!("hanako{round}@example.jp");
            let (mut hanako, user) = app.linked(&email).await;
            let mut phone = app.visitor();
            let url = phone.start_line("sign_in", "/").await;
            let back = phone.at_line(&url, &user, "consent").await;
            let mut desk = app.visitor();
            let requests = vec![
                form(&mut hanako, "/account/delete", &DELETE).await,
                crate::linking::page(&phone, &back),
                form(&mut desk, "/sign-in", &[("email", &email), ("password", PASSWORD)]).await,
            ];
            let answers = at_once(app, requests).await;
            assert_eq!(answers[0].status, StatusCode::OK, "{answers:?}");
            for answer in &answers[1..] {
                let mut stale = app.visitor();
                for cookie in answer.headers.get_all(header::SET_COOKIE) {
                    let (name, value) = cookie.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap();
                    stale.cookies.insert(name.to_owned(), value.to_owned());
                }
                assert!(stale.get("/account").await.location().starts_with("/sign-in"), "round {round}");
            }
            for _ in 0..3 {
                later(app).await;
            }
            assert_eq!(rows!(app, "sessions"), 0, "round {round}");
            assert_eq!(rows!(app, "grants WHERE sealed IS NOT NULL"), 0, "round {round}");
        }
    }
}

/// The pages as people see them: nothing is wider than the screen, also with letters twice as large.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pages_fit_the_screen() {
    let folder = tempfile::tempdir().unwrap();
    let options = demo::Options { data: folder.path().to_owned(), port: 0, simulator_port: 0 };
    let stop = CancellationToken::new();
    let demo = demo::start(&options, stop.clone()).await.unwrap();
    let (app, demo_line) = (demo.app_url.clone(), demo.simulator_url.clone());
    let playing = tokio::spawn({
        let stop = stop.clone();
        async move { demo.play(stop).await.unwrap() }
    });
    for (screen, language, link, allow, linked) in [
        (Screen::Phone, "ja", "LINEと連携する", "Allow", "連携中"),
        (Screen::Desktop, "en", "Link LINE account", "Allow", "Linked since"),
    ] {
        let browser = Browser::start_in(screen, language).await;
        let who = if language == "ja" { "hanako@example.com" } else { "taro@example.com" };
        browser.goto(&format!("{app}/sign-in")).await;
        browser.fill("email", who).await;
        browser.fill("password", demo::PASSWORD).await;
        press(&browser, "main form[action='/sign-in'] button[type=submit]").await;
        browser.wait_for_text(who).await;
        browser.click_text(link).await;
        browser.wait_for_text("Someone new").await;
        browser.fill("display_name", "とても長い名前のはなこさん Hanako Yamada").await;
        browser.click_text("Create and log in").await;
        browser.click_text(allow).await;
        browser.wait_for_text("Hanako Yamada").await;
        look(&browser, &format!("{language}-confirm")).await;
        press(&browser, "button[name=decision][value=yes]").await;
        browser.wait_for_text(linked).await;
        for page in ["account", "account/history", "account/data", "account/delete", "account/unlink?provider=main"] {
            browser.goto(&format!("{app}/{page}")).await;
            look(&browser, &format!("{language}-{}", page.replace(['/', '?', '='], "-"))).await;
        }
        // The mail's way out, a text that changed, and a link that a reset suspended.
        browser.goto(&format!("{}/_sim/mails?to={who}", demo_line)).await;
        let mails: Value = serde_json::from_str(&browser.text().await).unwrap();
        let text = mails["mails"].as_array().unwrap().last().unwrap()["text"].as_str().unwrap().to_owned();
        let undo = text.lines().find(|line| line.contains("/link/undo?token=")).unwrap().to_owned();
        browser.goto(&undo).await;
        look(&browser, &format!("{language}-undo")).await;
        let db = Db::connect(&format!("sqlite://{}", folder.path().join("musubi.db").display())).await.unwrap();
        for (statement, name) in [
            ("UPDATE links SET consent_version = '0' WHERE ended_at IS NULL", "account-asks"),
            ("UPDATE links SET suspended_at = 1 WHERE ended_at IS NULL", "account-suspended"),
        ] {
            sqlx::query(statement).execute(&mut *db.conn().await.unwrap()).await.unwrap();
            browser.goto(&format!("{app}/account")).await;
            look(&browser, &format!("{language}-{name}")).await;
        }
        db.close().await;
        browser.goto(&undo).await;
        press(&browser, "main form button[type=submit]").await;
        browser.wait_for_text(if language == "ja" { "連携を解除しました" } else { "The link is ended" }).await;
        look(&browser, &format!("{language}-undone")).await;
        browser.close().await;
    }
    stop.cancel();
    playing.await.unwrap();
}

async fn press(browser: &Browser, selector: &str) {
    browser.client.find(fantoccini::Locator::Css(selector)).await.unwrap().click().await.unwrap();
}

async fn look(browser: &Browser, name: &str) {
    for size in ["100%", "200%"] {
        let script = format!(
            "document.documentElement.style.fontSize = '{size}';
             return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        );
        let over = browser.client.execute(&script, vec![]).await.unwrap();
        browser.screenshot(&format!("self-{name}-{}", size.trim_end_matches('%'))).await;
        assert_eq!(over, json!(0), "{name} at {size} is wider than the screen");
    }
}
