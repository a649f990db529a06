//! Whether people's permission in LINE still stands, and what follows where it does not.

use std::time::Duration;

use axum::http::Method;
use musubi::worker;
use serde_json::{Value, json};

use crate::{
    linking::rows,
    support::{TestApp, both_engines},
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A day later the routine looks; gives how many it asks about.
async fn a_day_later(app: &TestApp) -> usize {
    days_later(app, 1).await
}

async fn days_later(app: &TestApp, days: u32) -> usize {
    app.clock.advance(days * DAY + Duration::from_secs(60));
    let asked = worker::ask(&app.app, "test").await.unwrap();
    app.drain().await;
    asked
}

async fn permission(app: &TestApp) -> String {
    let mut conn = app.app.db.conn().await.unwrap();
    sqlx::query_scalar("SELECT permission FROM links ORDER BY id DESC LIMIT 1").fetch_one(&mut *conn).await.unwrap()
}

async fn verified(app: &TestApp) -> usize {
    app.calls_to("/oauth2/v2.1/verify").await.len()
}

/// A message that waits, as one queued while LINE was away.
async fn queue_message(app: &TestApp) {
    app.execute("UPDATE deliveries SET state = 'waiting', due_at = 0").await;
}

both_engines! {
    async fn a_withdrawal_is_noticed_and_ends_the_sending(app) {
        let (mut hanako, user) = app.linked("hanako@example.jp").await;
        assert_eq!(permission(app).await, "given");
        assert_eq!(worker::ask(&app.app, "test").await.unwrap(), 0, "just proven");
        assert_eq!(a_day_later(app).await, 1);
        assert_eq!((verified(app).await, permission(app).await.as_str()), (1, "given"));

        app.sim(Method::POST, &format!("/_sim/users/{user}/withdraw"), Value::Null).await;
        app.clock.advance(DAY);
        app.execute("UPDATE leases SET expires_at = 0").await;
        assert_eq!(worker::ask(&app.app, "test").await.unwrap(), 1);
        queue_message(app).await;
        app.drain().await;
        assert_eq!(permission(app).await, "withdrawn");
        assert!(app.audit().await.contains(&"permission_withdrawn/".to_owned()));
        assert_eq!(rows!(app, "deliveries WHERE state = 'cancelled' AND reason = 'consent_withdrawn'"), 1);
        assert_eq!(rows!(app, "links WHERE ended_at IS NULL"), 1, "the link stays");
        let mut hanako_later = app.signed_in("hanako@example.jp").await;
        let account = hanako_later.get("/account").await;
        assert!(account.body.contains("Permission withdrawn") && account.body.contains("log in with LINE once more"));
        drop(hanako.get("/account").await);

        // What is queued later is not sent either.
        queue_message(app).await;
        app.drain().await;
        assert_eq!(rows!(app, "deliveries WHERE state = 'cancelled' AND reason = 'consent_withdrawn'"), 1);
        // Nobody asks about it again.
        assert_eq!(a_day_later(app).await, 0);

        // A sign-in with LINE gives it anew.
        let mut again = app.visitor();
        assert_eq!(again.sign_in_by_line(&user).await.location(), "/account");
        assert_eq!(permission(app).await, "given");
        queue_message(app).await;
        app.drain().await;
        assert_eq!(rows!(app, "deliveries WHERE state = 'sent'"), 1);
    }

    async fn the_copy_of_ones_data_names_it(app) {
        let (mut hanako, _) = app.linked("hanako@example.jp").await;
        let copy = hanako.post("/account/data", &[("password", crate::support::PASSWORD)]).await;
        let copy: Value = serde_json::from_str(&copy.body).unwrap();
        assert_eq!(copy["line_links"][0]["line_permission"], "given");
    }

    /// Past its own end a token proves nothing; a refresh before that does.
    async fn tokens_near_their_end_are_refreshed(app) {
        app.linked("hanako@example.jp").await;
        assert_eq!(days_later(app, 29).await, 2, "the permission and the profile");
        assert_eq!(verified(app).await, 0, "the access token is near its end");
        assert_eq!(permission(app).await, "given");
        let refreshed = app.calls_to("/oauth2/v2.1/token").await.len();
        assert_eq!(refreshed, 2, "the exchange and the refresh");
        a_day_later(app).await;
        assert_eq!(verified(app).await, 1, "the new one is asked about");
    }

    async fn a_withdrawal_shows_at_the_refresh_too(app) {
        let (_, user) = app.linked("hanako@example.jp").await;
        app.sim(Method::POST, &format!("/_sim/users/{user}/withdraw"), Value::Null).await;
        days_later(app, 45).await;
        assert_eq!(permission(app).await, "withdrawn");
    }

    async fn after_the_last_token_nobody_can_tell(app) {
        let (_, user) = app.linked("hanako@example.jp").await;
        app.sim(Method::POST, &format!("/_sim/users/{user}/withdraw"), Value::Null).await;
        days_later(app, 90).await;
        assert_eq!(permission(app).await, "unverifiable");
        assert_eq!(verified(app).await + app.calls_to("/oauth2/v2.1/token").await.len(), 1, "the exchange only");
        queue_message(app).await;
        app.drain().await;
        assert_eq!(rows!(app, "deliveries WHERE state = 'sent'"), 1, "sending goes on");
        assert_eq!(a_day_later(app).await, 0);
    }

    /// What LINE does not say clearly changes nothing, and is asked again.
    async fn unclear_answers_prove_nothing(app) {
        app.linked("hanako@example.jp").await;
        let invalid = |text: &str| json!({ "error": "invalid_request", "error_description": text });
        for fault in [
            json!({ "status": 500 }),
            json!({ "status": 429 }),
            json!({ "status": 401 }),
            json!({ "status": 400, "body": invalid("The access token not JWS") }),
            json!({ "status": 400, "body": invalid("something else") }),
            json!({ "replace_body": { "scope": "profile", "client_id": "1", "expires_in": 10 } }),
            json!({ "replace_body": [] }),
            json!({ "cut": "after" }),
        ] {
            let mut order = fault.clone();
            order["endpoint"] = json!("/oauth2/v2.1/verify");
            app.fault(order).await;
            let before = verified(app).await;
            app.clock.advance(2 * Duration::from_secs(3600));
            app.execute("UPDATE leases SET expires_at = 0").await;
            if before == 0 {
                app.clock.advance(DAY);
            }
            assert_eq!(worker::ask(&app.app, "test").await.unwrap(), 1, "{fault}");
            app.drain().await;
            assert_eq!(verified(app).await, before + 1, "{fault}");
            assert_eq!(permission(app).await, "given", "{fault}");
        }
        assert_eq!(rows!(app, "jobs WHERE parked_at IS NOT NULL"), 0);
        // Revoked, but the refresh works: the token alone was ended.
        let revoked = json!({ "endpoint": "/oauth2/v2.1/verify", "status": 400, "body": invalid("The access token revoked") });
        app.fault(revoked.clone()).await;
        app.clock.advance(2 * Duration::from_secs(3600));
        app.execute("UPDATE leases SET expires_at = 0").await;
        worker::ask(&app.app, "test").await.unwrap();
        app.drain().await;
        assert_eq!(permission(app).await, "given");
        // Revoked, and LINE is away at the refresh: not yet.
        app.fault(revoked).await;
        app.fault(json!({ "endpoint": "/oauth2/v2.1/token", "status": 500, "count": 3 })).await;
        a_day_later(app).await;
        assert_eq!(permission(app).await, "given");
    }

    async fn thirty_a_minute_by_one_node(app) {
        app.linked("hanako@example.jp").await;
        app.execute(
            "INSERT INTO members (id, email, email_key, name, source, created_at)
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 70)
             SELECT 'm' || CAST(i AS TEXT), '', 'm' || CAST(i AS TEXT), '', 'company', 0 FROM n").await;
        app.execute(
            "INSERT INTO line_users (id, provider, user_id, display_name, profile_at, created_at)
             SELECT 'u' || id, 'main', 'u' || id, '', 9000000000000, 0 FROM members WHERE id LIKE 'm%'").await;
        app.execute(
            "INSERT INTO links (id, provider, line_user_id, member_id, source, consent_version, consent_locale, created_at)
             SELECT 'l' || id, 'main', 'u' || id, id, 'web', '1', 'en', 0 FROM members WHERE id LIKE 'm%'").await;
        app.execute(
            "INSERT INTO grants (id, provider, line_user_id, link_id, access_expires_at, refresh_expires_at, created_at, checked_at)
             SELECT 'g' || id, 'main', 'u' || id, 'l' || id, 0, 0, 0, 0 FROM members WHERE id LIKE 'm%'").await;
        for expected in [30, 30, 10, 0] {
            assert_eq!(worker::ask(&app.app, "one").await.unwrap(), expected);
            assert_eq!(worker::ask(&app.app, "other").await.unwrap(), 0, "another node rests");
            app.execute("UPDATE leases SET expires_at = 0").await;
        }
        app.drain().await;
    }
}
