//! The main story: link, welcome, menu, sign-in with LINE, unlink.

use axum::http::StatusCode;

use crate::support::{Answer, both_engines};

both_engines! {
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
