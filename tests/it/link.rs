//! The main story: link, welcome, menu, sign-in with LINE, unlink.

use axum::http::StatusCode;

use crate::support::{Answer, both_engines};

both_engines! {
    /// LINE's auto login comes back with a state of nobody's: the fresh start is for what this browser was about.
    async fn a_foreign_state_restarts_what_this_browser_was_about(app) {
        app.member("hanako@example.jp", "Hanako").await;
        let mut visitor = app.signed_in("hanako@example.jp").await;
        visitor.start_line("link", "/account?from=menu").await;
        let answer = visitor.get("/line/callback/main?code=invalid&state=nobodys").await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        let fields = ["purpose", "provider", "return_to", "fresh"].map(|name| answer.field(name).unwrap());
        assert_eq!(fields, ["link", "main", "/account?from=menu", "1"]);
        let mut other = app.visitor();
        let answer = other.get("/line/callback/main?code=invalid&state=nobodys").await;
        assert_eq!(answer.field("purpose").unwrap(), "sign_in", "another browser was about nothing");
        let fresh = [("purpose", "link"), ("provider", "main"), ("return_to", "/account"), ("fresh", "1")];
        assert!(visitor.post("/line/start", &fresh).await.location().contains("disable_auto_login=true"));
        assert!(other.post("/line/start", &fresh).await.location().starts_with("/sign-in?"), "who links signs in first");
    }

    /// A yes counts for the text that the page showed.
    async fn a_yes_to_a_former_text_shows_the_new_one(app) {
        app.member("hanako@example.jp", "Hanako").await;
        let user = app.line_user("はなこ").await;
        let mut visitor = app.signed_in("hanako@example.jp").await;
        let attempt = visitor.reach_confirm(&user).await;
        let page = visitor.get(&format!("/link/confirm?attempt={attempt}")).await;
        assert_eq!(page.field("consent").unwrap(), "1:en");
        for consent in ["0:en", "1:fr", "1", ""] {
            let fields = [("attempt", attempt.as_str()), ("decision", "yes"), ("consent", consent)];
            let answer = visitor.post("/link/confirm", &fields).await;
            assert_eq!(answer.location(), format!("/link/confirm?attempt={attempt}"), "{consent}");
        }
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM links").await, 0);
        let fields = [("attempt", attempt.as_str()), ("decision", "yes"), ("consent", "1:ja")];
        assert_eq!(visitor.post("/link/confirm", &fields).await.location(), "/account?done=linked");
        let kept = "SELECT CAST(COUNT(*) AS BIGINT) FROM links l JOIN consent_texts t
            ON t.version = l.consent_version AND t.locale = l.consent_locale AND t.locale = 'ja'";
        assert_eq!(app.count(kept).await, 1);
    }

    async fn a_sign_up_ends_the_session_before(app) {
        app.member("hanako@example.jp", "Hanako").await;
        let mut visitor = app.signed_in("hanako@example.jp").await;
        let mut copied = visitor.clone();
        let answer = visitor.sign_up("taro@example.jp", "Taro", crate::support::PASSWORD).await;
        assert_eq!(answer.location(), "/account?done=signed_up", "{}", answer.body);
        assert_eq!(copied.get("/account").await.status, StatusCode::SEE_OTHER);
    }

    async fn a_member_links_signs_in_with_line_and_unlinks(app) {
        musubi::worker::prepare(&app.app).await.unwrap();
        app.drain().await;
        let (mut visitor, user) = app.linked("hanako@example.jp").await;

        let phone = app.phone(&user).await;
        assert_eq!(phone["messages"].as_array().unwrap().len(), 1, "{phone}");
        assert!(phone["messages"][0].to_string().contains("Hanako"), "{phone}");
        assert!(phone["rich_menu"]["name"].as_str().unwrap().starts_with("musubi:linked:"), "{phone}");
        let account = visitor.get("/account").await;
        assert!(account.body.contains("はなこ"), "{}", account.body);

        visitor.post("/sign-out", &[]).await;
        let answer: Answer = visitor.sign_in_by_line(&user).await;
        assert_eq!((answer.status, answer.location().as_str()), (StatusCode::SEE_OTHER, "/account"));
        assert_eq!(visitor.get("/account").await.status, StatusCode::OK);

        let answer = visitor.unlink().await;
        assert_eq!(answer.location(), "/account?done=unlinked", "{}", answer.body);
        assert_eq!(visitor.get("/account").await.status, StatusCode::OK, "the password just given keeps the session");
        app.drain().await;
        let phone = app.phone(&user).await;
        assert!(phone["rich_menu"]["name"].as_str().unwrap().starts_with("musubi:unlinked:"), "{phone}");
        assert_eq!(app.calls_to("/user/v1/deauthorize").await.len(), 1);
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM grants WHERE sealed IS NOT NULL").await, 0);
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM unlink_steps WHERE state <> 'done'").await, 0);

        let mut stranger = app.visitor();
        let answer = stranger.sign_in_by_line(&user).await;
        assert_eq!(answer.location(), "/line/not-linked?provider=main");
        assert!(stranger.session_cookie().is_none());
        assert_eq!(
            app.audit().await,
            ["signed_in/", "linked/", "signed_out/", "signed_in/", "unlinked/"]
        );
    }
}
