//! What a person asks about their link in the chat, and its end there.

use std::time::Duration;

use musubi::{
    app::App,
    db::Db,
    link::{Chat, by_chat},
};
use serde_json::{Value, json};

use crate::{
    account_link::{friend, last_message, says},
    linking::rows,
    support::{TestApp, both_engines},
};

/// Presses what stands for a word in a menu, and has it answered.
async fn asks(app: &TestApp, user: &str, word: &str) {
    presses(app, user, &format!("musubi={word}")).await;
}

/// The data of the buttons that stand in the chat last: yes and no.
async fn buttons(app: &TestApp, user: &str) -> [String; 2] {
    let message = last_message(app, user).await;
    [0, 1].map(|place| {
        let data = message.pointer(&format!("/template/actions/{place}/data")).and_then(Value::as_str);
        assert!(data.is_some(), "no button: {message}");
        data.unwrap().to_owned()
    })
}

async fn presses(app: &TestApp, user: &str, data: &str) {
    app.does(user, "postback", json!({ "data": data })).await;
    app.drain().await;
}

/// Linked on the web, and a friend as the bot knows.
async fn linked(app: &TestApp) -> String {
    let (_, user) = app.linked("hanako@example.jp").await;
    app.does(&user, "follow", json!({})).await;
    app.drain().await;
    user
}

both_engines! {
    async fn the_state_is_told(app) {
        let stranger = friend(app, "stranger").await;
        asks(app, &stranger, "status").await;
        says(app, &stranger, "is not linked to any Example Company account").await;
        let user = linked(app).await;
        asks(app, &user, "status").await;
        says(app, &user, "is linked to your Example Company account h***@example.jp").await;
        app.execute("UPDATE links SET suspended_at = 1").await;
        asks(app, &user, "status").await;
        says(app, &user, "is paused since your password was reset").await;
        app.execute("UPDATE members SET locale = 'ja'").await;
        asks(app, &user, "status").await;
        says(app, &user, "一時停止中です").await;
    }

    async fn an_unlink_is_asked_and_done(app) {
        let user = linked(app).await;
        let mut by_line = app.visitor();
        assert_eq!(by_line.sign_in_by_line(&user).await.location(), "/account");
        asks(app, &user, "unlink").await;
        let [yes, no] = buttons(app, &user).await;
        assert_eq!(rows!(app, "links WHERE ended_at IS NULL"), 1, "asked only");
        presses(app, &user, &no).await;
        says(app, &user, "stays linked").await;
        assert_eq!(rows!(app, "links WHERE ended_at IS NULL"), 1);

        presses(app, &user, &yes).await;
        says(app, &user, "Your LINE account is unlinked from Example Company").await;
        assert_eq!(rows!(app, "links WHERE ended_at IS NOT NULL AND end_reason = 'chat'"), 1);
        assert!(app.audit().await.contains(&"unlinked/".to_owned()));
        assert!(by_line.get("/account").await.location().starts_with("/sign-in"), "what LINE opened is closed");
        assert_eq!(app.calls_to("/user/v1/deauthorize").await.len(), 1);
        assert_eq!(rows!(app, "unlink_steps WHERE state = 'done'"), 3);
        let mut hanako = app.signed_in("hanako@example.jp").await;
        let history = hanako.get("/account/history").await;
        assert!(history.body.contains("You unlinked it in the LINE chat."), "{}", history.body);

        // The button once more, and the word.
        presses(app, &user, &yes).await;
        says(app, &user, "is not linked to any").await;
        asks(app, &user, "unlink").await;
        says(app, &user, "is not linked to any").await;
        assert_eq!(rows!(app, "links"), 1);
    }

    async fn two_presses_at_once_unlink_once(app) {
        let user = linked(app).await;
        asks(app, &user, "unlink").await;
        let [yes, _] = buttons(app, &user).await;
        app.sim(axum::http::Method::POST, "/_sim/webhooks/hold", json!({})).await;
        app.does(&user, "postback", json!({ "data": yes })).await;
        app.does(&user, "postback", json!({ "data": yes })).await;
        app.sim(axum::http::Method::POST, "/_sim/webhooks/release", json!({ "repeat": 3, "at_once": true })).await;
        app.drain().await;
        assert_eq!(app.audit().await.iter().filter(|row| *row == "unlinked/").count(), 1);
        assert_eq!(rows!(app, "unlink_steps"), 3);
    }

    async fn the_last_way_in_is_not_ended(app) {
        let user = linked(app).await;
        app.execute("UPDATE members SET password_hash = NULL").await;
        asks(app, &user, "unlink").await;
        let [yes, _] = buttons(app, &user).await;
        presses(app, &user, &yes).await;
        says(app, &user, "/password/change").await;
        assert_eq!(rows!(app, "links WHERE ended_at IS NULL"), 1);
        assert!(app.audit().await.contains(&"unlink_refused/last_method".to_owned()));
    }

    /// Only links of providers that have a LINE Login sign anybody in.
    async fn a_link_that_signs_nobody_in_is_no_way_in(app) {
        let user = linked(app).await;
        friend(app, "at the shop").await;
        app.execute("UPDATE members SET password_hash = NULL").await;
        app.execute(
            "INSERT INTO links (id, provider, line_user_id, member_id, source, consent_version, consent_locale, created_at,
               permission)
             SELECT 'shop', 'shop', u.id, m.id, 'account_link', '1', 'en', 1, 'none' FROM line_users u, members m
             WHERE u.id NOT IN (SELECT line_user_id FROM links)",
        ).await;
        asks(app, &user, "unlink").await;
        let [yes, _] = buttons(app, &user).await;
        presses(app, &user, &yes).await;
        says(app, &user, "/password/change").await;
        assert_eq!(rows!(app, "links WHERE ended_at IS NULL"), 2, "the other one is no way in");

        // Nor is it kept as one.
        let mut config = app.app.config.clone();
        let mut shop = config.provider["main"].clone();
        shop.login = None;
        config.provider.insert("shop".to_owned(), shop);
        let with_shop = App::new(config, Db::connect(&app.database_url).await.unwrap(), app.clock.clone()).unwrap();
        let mut tx = with_shop.db.begin().await.unwrap();
        let line_user: String =
            sqlx::query_scalar("SELECT line_user_id FROM links WHERE id = 'shop'").fetch_one(&mut *tx).await.unwrap();
        let chat = Chat { channel: "main", line_user_id: &line_user, reply: None };
        by_chat::unlink(&mut tx, &with_shop, &chat, "shop").await.unwrap();
        tx.commit().await.unwrap();
        with_shop.db.close().await;
        assert_eq!(rows!(app, "links WHERE ended_at IS NULL AND id <> 'shop'"), 1);
        assert_eq!(rows!(app, "links WHERE ended_at IS NULL"), 1);
    }

    /// Whose link it is says who sent it, and nothing that was sent.
    async fn w23_a_hostile_postback_ends_nobodys_link(app) {
        let user = linked(app).await;
        let eve = friend(app, "Eve").await;
        asks(app, &user, "unlink").await;
        let [yes, _] = buttons(app, &user).await;
        let id = yes.rsplit_once('=').unwrap().1.to_owned();
        for data in [
            yes.clone(),
            format!("{yes}&member=1"),
            "musubi=unlink&link=".to_owned(),
            "musubi=unlink&link=%00".to_owned(),
            format!("musubi=unlink&link={}", "a".repeat(200)),
            format!("musubi=unlink&link=' OR 1=1 --{id}"),
            format!("action=unlink&link={id}"),
        ] {
            presses(app, &eve, &data).await;
            assert_eq!(rows!(app, "links WHERE ended_at IS NULL"), 1, "{data}");
        }
        // Hers alone, and another one's id in it.
        app.member("eve@example.jp", "Eve").await;
        let mut at_home = app.signed_in("eve@example.jp").await;
        assert_eq!(at_home.link(&eve).await.location(), "/account?done=linked");
        app.drain().await;
        app.clock.advance(Duration::from_secs(60));
        presses(app, &eve, &yes).await;
        assert_eq!(rows!(app, "links WHERE ended_at IS NULL"), 2);
        says(app, &eve, "is linked to your Example Company account e***@example.jp").await;
        assert_eq!(rows!(app, "events WHERE state = 'parked'"), 0);
    }
}
