//! A person of whom LINE tells nothing but who they are, as it does of LINE MINI Apps: pages and mails say so, in each
//! language, and a name that is known stays.

use axum::http::Method;
use musubi::web::locale::Locale;
use serde_json::{Value, json};

use crate::{
    account_link,
    liff::{self, NOT_LINKED},
    login::{id_token, reply_with},
    support::{Answer, PASSWORD, TestApp, Visitor, both_engines, parameter},
};

/// Tokens that tell no name.
async fn nameless(app: &TestApp, user: &str) -> Value {
    liff::shown(&liff::tokens_of(app, user, &["openid"]).await)
}

/// The page says that there is no name, and nowhere is an empty place for one.
fn assert_said(answer: &Answer, locale: Locale, name: &str) {
    let said = answer.body.contains(locale.text("line.nameless"));
    assert!(said && !answer.body.contains("<bdi></bdi>"), "{} {name}: {}", locale.tag(), answer.body);
}

/// A member whose browser is in `locale`.
async fn member(app: &TestApp, locale: Locale) -> (Visitor<'_>, String) {
    let email = format!("hanako@{}.example.jp", locale.tag().to_lowercase());
    app.member(&email, "Hanako").await;
    let mut visitor = Visitor { language: locale.tag(), ..app.visitor() };
    let answer = visitor.post("/sign-in", &[("email", &email), ("password", PASSWORD)]).await;
    assert_eq!(answer.location(), "/account", "{}", answer.body);
    (visitor, email)
}

/// From the confirm page to the end of the link; the last mail is in the member's language, which is the page's.
async fn walk(app: &TestApp, visitor: &mut Visitor<'_>, locale: Locale, email: &str, confirm: &str) {
    let page = visitor.get(confirm).await;
    assert_said(&page, locale, "confirm");
    let (attempt, consent) = (parameter(confirm, "attempt"), format!("1:{}", locale.tag()));
    let yes = [("attempt", &*attempt), ("decision", "yes"), ("consent", &consent)];
    assert_eq!(visitor.post("/link/confirm", &yes).await.location(), "/account?done=linked");
    app.drain().await;
    assert_said(&visitor.get("/account").await, locale, "account");
    assert_said(&visitor.get("/account/unlink?provider=main").await, locale, "unlink");
    app.execute("UPDATE links SET consent_version = '0' WHERE ended_at IS NULL").await;
    let asked = visitor.get("/account").await;
    assert_eq!(asked.body.matches(locale.text("line.nameless")).count(), 2, "{}", asked.body);
    assert_said(&asked, locale, "account, asked to agree");

    let mail = app.mails(email).await.pop().unwrap();
    for part in ["text", "html"] {
        assert!(mail[part].as_str().unwrap().contains(locale.text("line.nameless")), "{mail}");
    }
    let undo = app.mailed_link(email, "/link/undo").await;
    assert_said(&visitor.get(&undo).await, locale, "undo");
    assert_eq!(visitor.unlink().await.location(), "/account?done=unlinked");
    assert_said(&visitor.get("/account").await, locale, "account, unlinking");
    let history = visitor.get("/account/history").await;
    assert!(!history.body.contains("<bdi></bdi>"), "{}", history.body);
    app.drain().await;
}

both_engines! {
    async fn by_liff(app) {
        for (before, locale) in Locale::ALL.into_iter().enumerate() {
            let (mut visitor, email) = member(app, locale).await;
            let user = app.line_user("はなこ").await;
            let tokens = nameless(app, &user).await;
            assert_eq!(liff::show(&mut visitor, &tokens).await.json()["next"], NOT_LINKED);
            assert!(visitor.get(NOT_LINKED).await.body.contains(locale.text("not_linked.title")));
            let start = [("purpose", "link"), ("provider", "main"), ("return_to", "/account")];
            let confirm = visitor.post("/line/start", &start).await.location();
            walk(app, &mut visitor, locale, &email, &confirm).await;
            assert_eq!(app.calls_to("/user/v1/deauthorize").await.len(), before + 1, "LINE is told of the unlink");
        }
    }

    /// LINE gives no profile, neither to us nor to the official account, and its ID token has no name.
    async fn by_web(app) {
        for locale in Locale::ALL {
            let (mut visitor, email) = member(app, locale).await;
            let user = app.line_user("はなこ").await;
            app.fault(json!({ "endpoint": "GET /v2/bot/profile/", "status": 404, "count": 100 })).await;
            let authorize = visitor.start_line("link", "/account").await;
            let back = visitor.at_line(&authorize, &user, "consent").await;
            let claims = json!({ "nonce": parameter(&authorize, "nonce"), "name": null });
            reply_with(app, json!({ "id_token": id_token(app, &user, &claims) })).await;
            let confirm = visitor.get(&back).await.location();
            assert!(confirm.starts_with("/link/confirm"), "{confirm}");
            walk(app, &mut visitor, locale, &email, &confirm).await;
        }
    }

    async fn an_imported_link(app) {
        for locale in Locale::ALL {
            let (mut visitor, _) = member(app, locale).await;
            let user = app.line_user("はなこ").await;
            let answer = visitor.link(&user).await;
            assert_eq!(answer.location(), "/account?done=linked", "{}", answer.body);
            app.execute("UPDATE line_users SET display_name = ''").await;
            app.execute("UPDATE links SET source = 'imported', unconfirmed_at = 1 WHERE ended_at IS NULL").await;
            let mut stranger = Visitor { language: locale.tag(), ..app.visitor() };
            let tokens = nameless(app, &user).await;
            let next = liff::show(&mut stranger, &tokens).await.json()["next"].as_str().unwrap().to_owned();
            assert!(next.starts_with("/link/imported?attempt="), "{next}");
            assert_said(&stranger.get(&next).await, locale, "imported");
            visitor.unlink().await;
            app.drain().await;
        }
    }

    /// From the chat the name may not be known yet: the page asks to be careful.
    async fn from_the_chat(app) {
        for locale in Locale::ALL {
            let (mut visitor, _) = member(app, locale).await;
            let user = account_link::friend(app, "はなこ").await;
            let page = account_link::ask(app, &user).await;
            app.execute("UPDATE line_users SET display_name = ''").await;
            let page = visitor.get(&page).await;
            assert_said(&page, locale, "account link");
            assert!(page.body.contains(locale.text("account_link.name_unknown")), "{}", page.body);
        }
    }

    /// A token without a name says nothing of the name that is known.
    async fn a_known_name_stays(app) {
        const LEFT_OUT: [&str; 6] = ["attempts", "grants", "liff_tokens", "sessions", "audit", "jobs"];
        let (_, user) = app.linked("hanako@example.jp").await;
        app.execute("UPDATE line_users SET picture_url = 'https://profile.line-scdn.net/hanako'").await;
        let before = app.dump(&LEFT_OUT).await;
        let mut visitor = app.visitor();
        assert_eq!(liff::show(&mut visitor, &nameless(app, &user).await).await.json()["next"], "/account");
        assert_eq!(app.dump(&LEFT_OUT).await, before);
        assert!(visitor.get("/account").await.body.contains("はなこ"));
    }

    /// The official account knows its friends by name.
    async fn a_friends_name_is_asked_for(app) {
        app.member("hanako@example.jp", "Hanako").await;
        let user = app.line_user("はなこ").await;
        // As if it had been a friend before our time: no event told of it.
        app.sim(Method::POST, &format!("/_sim/users/{user}/follow"), json!({ "standby": true })).await;
        app.drain().await;
        app.execute("UPDATE line_users SET display_name = '', profile_at = 0").await;
        let mut visitor = app.signed_in("hanako@example.jp").await;
        liff::show(&mut visitor, &nameless(app, &user).await).await;
        app.drain().await;
        let start = [("purpose", "link"), ("provider", "main"), ("return_to", "/account")];
        let confirm = visitor.post("/line/start", &start).await.location();
        assert!(visitor.get(&confirm).await.body.contains("はなこ"));
    }
}
