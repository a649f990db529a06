//! Profiles kept fresh: on following, on writing after a day, and by the slow routine.

use std::time::Duration;

use axum::http::Method;
use musubi::worker;
use serde_json::{Value, json};

use crate::{
    linking::rows,
    support::{TestApp, both_engines},
};

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn asked(app: &TestApp) -> usize {
    app.calls_to("/v2/bot/profile/").await.len()
}

async fn profile(app: &TestApp) -> (String, Option<String>, Option<String>) {
    let mut conn = app.app.db.conn().await.unwrap();
    sqlx::query_as("SELECT display_name, picture_url, language FROM line_users").fetch_one(&mut *conn).await.unwrap()
}

async fn friend(app: &TestApp) -> String {
    let mut conn = app.app.db.conn().await.unwrap();
    sqlx::query_scalar("SELECT friend FROM friends").fetch_one(&mut *conn).await.unwrap()
}

async fn person(app: &TestApp) -> String {
    let order = json!({ "display_name": "はなこ", "language": "th" });
    let made = app.sim(Method::POST, "/_sim/users", order).await;
    made["user_id"].as_str().unwrap().to_owned()
}

both_engines! {
    async fn a_profile_is_read_at_the_follow_and_after_a_day(app) {
        let user = person(app).await;
        app.does(&user, "follow", json!({})).await;
        app.drain().await;
        assert_eq!(profile(app).await, ("はなこ".into(), None, Some("th".into())));
        assert_eq!(asked(app).await, 1);
        for _ in 0..3 {
            app.say(&user, "hello").await;
        }
        app.drain().await;
        assert_eq!(asked(app).await, 1, "fresh enough");
        app.clock.advance(DAY + Duration::from_secs(1));
        for _ in 0..3 {
            app.say(&user, "hello").await;
        }
        app.drain().await;
        assert_eq!(asked(app).await, 2, "once");
    }

    /// A name with what PostgreSQL refuses, and what is no name, is kept without it.
    async fn odd_profiles_are_kept_as_text(app) {
        let user = person(app).await;
        let odd = json!({ "userId": user, "displayName": "a\u{0}b\nc", "language": "ja\u{0}", "pictureUrl": "javascript:1" });
        app.fault(json!({ "endpoint": "/v2/bot/profile/", "replace_body": odd })).await;
        app.does(&user, "follow", json!({})).await;
        app.drain().await;
        assert_eq!(profile(app).await, ("abc".into(), Some("javascript:1".into()), Some("ja".into())));
        // Somebody else's is not kept.
        let other = json!({ "userId": "U00000000000000000000000000000000", "displayName": "Eve" });
        app.fault(json!({ "endpoint": "/v2/bot/profile/", "replace_body": other })).await;
        app.clock.advance(2 * DAY);
        app.say(&user, "hello").await;
        app.drain().await;
        assert_eq!(profile(app).await.0, "abc");
        assert_eq!(rows!(app, "jobs WHERE parked_at IS NOT NULL"), 0);
    }

    /// A 404 has several causes: what we knew of the friend is not known any more; the link and the rest stay.
    async fn a_profile_that_is_not_given_leaves_the_link(app) {
        let (_, user) = app.linked("hanako@example.jp").await;
        app.drain().await;
        let before = asked(app).await;
        assert_eq!(friend(app).await, "yes");
        app.fault(json!({ "endpoint": "/v2/bot/profile/", "status": 404, "body": { "message": "Not found" } })).await;
        app.clock.advance(8 * DAY);
        app.execute("UPDATE leases SET expires_at = 0").await;
        worker::ask(&app.app, "test").await.unwrap();
        app.drain().await;
        assert_eq!(asked(app).await, before + 1);
        assert_eq!(friend(app).await, "unknown");
        assert_eq!(profile(app).await.0, "はなこ");
        assert_eq!(rows!(app, "links WHERE ended_at IS NULL"), 1);
        app.execute("UPDATE leases SET expires_at = 0").await;
        worker::ask(&app.app, "test").await.unwrap();
        app.drain().await;
        assert_eq!(asked(app).await, before + 1, "not asked again at once");
        // A block is a fact; a 404 adds nothing to it.
        app.does(&user, "block", json!({})).await;
        app.drain().await;
        app.clock.advance(8 * DAY);
        app.execute("UPDATE leases SET expires_at = 0").await;
        worker::ask(&app.app, "test").await.unwrap();
        app.drain().await;
        assert_eq!((asked(app).await, friend(app).await.as_str()), (before + 2, "no"));
    }

    async fn what_line_does_not_answer_is_tried_again(app) {
        let user = person(app).await;
        app.fault(json!({ "endpoint": "/v2/bot/profile/", "status": 500, "count": 2 })).await;
        app.does(&user, "follow", json!({})).await;
        app.drain().await;
        assert_eq!(profile(app).await.0, "");
        app.clock.advance(Duration::from_secs(2));
        app.drain().await;
        app.clock.advance(Duration::from_secs(4));
        app.drain().await;
        assert_eq!(profile(app).await.0, "はなこ");
        assert_eq!(asked(app).await, 3);
    }

    async fn the_routine_asks_for_the_oldest_profiles_of_linked_people(app) {
        let (_, _) = app.linked("hanako@example.jp").await;
        let stranger = person(app).await;
        app.does(&stranger, "follow", json!({})).await;
        app.drain().await;
        let before = asked(app).await;
        worker::ask(&app.app, "test").await.unwrap();
        app.drain().await;
        assert_eq!(asked(app).await, before, "all fresh");
        app.clock.advance(8 * DAY);
        app.execute("UPDATE leases SET expires_at = 0").await;
        worker::ask(&app.app, "test").await.unwrap();
        app.drain().await;
        let calls: Vec<Value> = app.calls_to("/v2/bot/profile/").await.drain(before..).collect();
        assert_eq!(calls.len(), 1, "{calls:?}");
        assert!(!calls[0]["path"].as_str().unwrap().contains(&stranger));
    }
}
