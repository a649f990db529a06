//! From the company's system to the phone, with the simulator as LINE; and the server killed in the middle of many.

use std::{fmt::Write, time::Duration};

use axum::http::{Method, StatusCode};
use musubi::{member::guard::Scope, rich_menu, worker};
use serde_json::{Value, json};

use crate::{
    kill::{ENGINES, World},
    rich_menu::apply::{Files, apply, line, on_phone, shown, start},
    support::{TestApp, process::until},
};

/// Somebody who is linked, a friend, and the company's 1001; and a key for members.
async fn world(files: &Files, engine: crate::support::Engine) -> (TestApp, String, String) {
    files.write("gold", "priority = 10\nwhen = \"linked and member.tier == 'gold'\"", "");
    let app = start(engine, files).await;
    apply(&app.app).await.unwrap();
    let (_, user) = app.linked("hanako@example.jp").await;
    app.execute("UPDATE members SET external_id = '1001'").await;
    let key = app.key(&[Scope::MembersRead, Scope::MembersWrite]).await;
    (app, user, key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_tier_changes_the_phone() {
    for engine in ENGINES {
        let files = Files::new();
        let (app, user, key) = world(&files, engine).await;
        assert_eq!(on_phone(&app, &user).await, "member");
        let path = "/api/v1/members/1001";
        for (said, shown) in [
            (json!({ "attributes": { "tier": "gold" } }), "gold"),
            (json!({ "attributes": { "tier": "silver" } }), "member"),
            (json!({ "attributes": { "tier": "gold" }, "tags": ["a"] }), "gold"),
            (json!({ "attributes": { "tier": null } }), "member"),
        ] {
            assert_eq!(app.api(&key, Method::PUT, path, said.clone()).await.status, StatusCode::OK);
            app.drain().await;
            assert_eq!(on_phone(&app, &user).await, shown, "{said}");
        }
        let bulk = app.calls_to("/v2/bot/richmenu/bulk").await;
        assert!(bulk.is_empty(), "one alone is told at once: {bulk:?}");
        app.api(&key, Method::POST, "/api/v1/members/1001/disable", Value::Null).await;
        app.drain().await;
        assert_eq!(on_phone(&app, &user).await, "unlinked");
        app.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_menu_chosen_by_the_api_shows_until_it_ends() {
    const PATH: &str = "/api/v1/members/1001/rich-menu";
    for engine in ENGINES {
        let files = Files::new();
        let (app, user, key) = world(&files, engine).await;
        let put = async |body: Value| app.api(&key, Method::PUT, PATH, body).await;
        let at = jiff::Timestamp::from_millisecond(app.app.now().0 + 3_600_000).unwrap().to_string();
        let chosen = put(json!({ "menu": "help", "until": at })).await;
        assert_eq!(chosen.status, StatusCode::OK, "{}", chosen.body);
        assert_eq!((&chosen.json()["channel"], &chosen.json()["menu"]), (&json!("main"), &json!("help")));
        app.drain().await;
        assert_eq!(on_phone(&app, &user).await, "help");
        for (body, place) in [
            (json!({ "menu": "platinum" }), "menu"),
            (json!({ "menu": "gold", "channel": "other" }), "channel"),
            (json!({ "menu": "gold", "until": "tomorrow" }), "until"),
            (json!({ "menu": "gold", "until": "2020-01-01T00:00:00Z" }), "until"),
        ] {
            let refused = put(body.clone()).await;
            assert_eq!((refused.problem().as_str(), refused.places()), ("invalid", vec![place.to_owned()]), "{body}");
        }
        let told = put(json!({ "menu": "platinum" })).await.body;
        for name in ["gold", "help", "member", "unlinked"] {
            assert!(told.contains(name), "{told}");
        }
        let nobody = app.api(&key, Method::PUT, "/api/v1/members/9/rich-menu", json!({ "menu": "gold" })).await;
        assert_eq!(nobody.status, StatusCode::NOT_FOUND);
        let reader = app.key(&[Scope::MembersRead]).await;
        let refused = app.api(&reader, Method::PUT, PATH, json!({ "menu": "gold" })).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN);

        app.clock.advance(Duration::from_secs(3601));
        app.drain().await;
        assert_eq!(on_phone(&app, &user).await, "member");
        put(json!({ "menu": "gold" })).await;
        app.drain().await;
        assert_eq!(on_phone(&app, &user).await, "gold");
        for _ in 0..2 {
            assert_eq!(app.api(&key, Method::DELETE, PATH, Value::Null).await.status, StatusCode::NO_CONTENT);
        }
        app.drain().await;
        assert_eq!(on_phone(&app, &user).await, "member");
        app.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_changes_at_line_is_mended_and_a_tab_stays() {
    for engine in ENGINES {
        let files = Files::new();
        let (app, user, _) = world(&files, engine).await;
        let ids = shown(&app).await.ids;
        let id = |name: &str| ids.iter().find(|(_, known)| *known == name).unwrap().0.clone();
        for (menu, after) in [("help", "help"), ("gold", "member")] {
            line(&app, Method::POST, &format!("/v2/bot/user/{user}/richmenu/{}", id(menu)), Value::Null).await;
            assert_eq!(on_phone(&app, &user).await, menu);
            app.clock.advance(Duration::from_secs(25 * 3600));
            assert_eq!(rich_menu::drift(&app.app, "main", "one").await.unwrap(), 1);
            worker::drain(&app.app).await.unwrap();
            app.execute("DELETE FROM leases").await;
            app.drain().await;
            assert_eq!(on_phone(&app, &user).await, after);
        }
        app.end().await;
    }
}

/// The server dies between LINE's answer and its own record, or just after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_in_the_middle_of_many_goes_on_where_it_stopped() {
    const PEOPLE: usize = 1200;
    for engine in ENGINES {
        for (point, most) in [("menus.told", 4), ("menus.told:2", 4), ("menus.recorded:2", 3), ("menus.walked", 3)] {
            let world = World::new(engine).await;
            fill(&world, PEOPLE).await;
            let name = point.split(':').next().unwrap();
            assert!(musubi::kill::POINTS.contains(&name));
            let (server, _) = crate::support::process::start_server(&world.config, &[("MUSUBI_KILL_AT", point)]);
            server.end_by_abort();
            world.place.execute("DELETE FROM leases").await;
            let (server, _) = world.serve();
            until(async || {
                let given = "SELECT CAST(COUNT(*) AS BIGINT) FROM user_menus WHERE menu = 'linked' AND $1 = ''";
                world.count(given, "").await == i64::try_from(PEOPLE).unwrap()
            })
            .await;
            server.stop();
            let calls = world.line.calls_to("/v2/bot/richmenu/bulk/link").await.len();
            assert!((3..=most).contains(&calls), "{point}: {calls} requests");
            world.end().await;
        }
    }
}

/// Linked people of whom it is not known whether they are friends.
async fn fill(world: &World, people: usize) {
    let mut conn = world.app.db.conn().await.unwrap();
    let mut values = [String::new(), String::new(), String::new()];
    for n in 0..people {
        let comma = if n == 0 { "" } else { "," };
        write!(values[0], "{comma}('m{n}', '', 'm{n}', 'Aiko', 'company', 1)").unwrap();
        write!(values[1], "{comma}('u{n:05}', 'main', 'U{n:032x}', 'Aiko', 9000000000000, 1)").unwrap();
        write!(values[2], "{comma}('l{n}', 'main', 'u{n:05}', 'm{n}', 'web', '1', 'ja', 1)").unwrap();
    }
    for (into, values) in [
        "members (id, email, email_key, name, source, created_at)",
        "line_users (id, provider, user_id, display_name, profile_at, created_at)",
        "links (id, provider, line_user_id, member_id, source, consent_version, consent_locale, created_at)",
    ]
    .iter()
    .zip(values)
    {
        let statement = sqlx::AssertSqlSafe(format!("INSERT INTO {into} VALUES {values}"));
        sqlx::query(statement).execute(&mut *conn).await.unwrap();
    }
}
