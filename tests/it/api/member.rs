//! Members and their links by the API.

use axum::http::{Method, StatusCode};
use musubi::member::guard::Scope;
use serde_json::{Value, json};

use crate::support::{TestApp, both_engines};

const HERE: &str = "/api/v1/members";

async fn put(app: &TestApp, key: &str, id: &str, said: Value) -> crate::support::Answer {
    app.api(key, Method::PUT, &format!("{HERE}/{id}"), said).await
}

async fn get(app: &TestApp, key: &str, path: &str) -> crate::support::Answer {
    app.api(key, Method::GET, &format!("{HERE}{path}"), Value::Null).await
}

fn ids(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|member| member["external_id"].as_str().unwrap()).collect()
}

both_engines! {
    async fn a_member_from_the_first_put_to_the_delete(app) {
        let key = app.key(Scope::ALL).await;
        let said = json!({
            "email": "hanako@example.jp", "name": "Hanako", "language": "ja", "time_zone": "Asia/Tokyo",
            "attributes": { "tier": "gold", "points": 12 }, "tags": ["a"], "topics_opted_out": ["news"],
        });
        let made = put(app, &key, "shop%2F10%2001", said.clone()).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
        let mut member = made.json();
        for (name, value) in said.as_object().unwrap() {
            assert_eq!(member[name], *value, "{name}");
        }
        assert_eq!((&member["external_id"], &member["source"]), (&json!("shop/10 01"), &json!("company")));
        assert_eq!(get(app, &key, "/shop%2F10%2001").await.json(), member);
        let same = put(app, &key, "shop%2F10%2001", said).await;
        assert_eq!((same.status, same.json()), (StatusCode::OK, member.clone()));

        let changed = put(app, &key, "shop%2F10%2001", json!({
            "email": null, "attributes": { "points": null, "vip": true }, "topics_opted_out": [],
        })).await;
        member["email"] = Value::Null;
        member["attributes"] = json!({ "tier": "gold", "vip": true });
        member["topics_opted_out"] = json!([]);
        assert_eq!((changed.status, changed.json()), (StatusCode::OK, member));

        let path = format!("{HERE}/shop%2F10%2001");
        let off = app.api(&key, Method::POST, &format!("{path}/disable"), json!({})).await;
        assert!(off.json()["disabled_at"].is_string(), "{}", off.body);
        let on = app.api(&key, Method::POST, &format!("{path}/enable"), json!({})).await;
        assert!(on.json()["disabled_at"].is_null(), "{}", on.body);
        let gone = app.api(&key, Method::DELETE, &path, Value::Null).await;
        assert_eq!((gone.status, gone.body.as_str()), (StatusCode::NO_CONTENT, ""));
        for answer in [
            get(app, &key, "/shop%2F10%2001").await,
            app.api(&key, Method::DELETE, &path, Value::Null).await,
            app.api(&key, Method::POST, &format!("{path}/disable"), json!({})).await,
            app.api(&key, Method::GET, &format!("{path}/links/main"), Value::Null).await,
            app.api(&key, Method::DELETE, &format!("{path}/links/main"), Value::Null).await,
        ] {
            assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::NOT_FOUND, "not_found"));
        }
        let audit = app.audit().await;
        for action in ["member_created/", "member_updated/", "topic_opted_out/", "disabled/", "enabled/", "deleted/"] {
            assert!(audit.contains(&action.to_owned()), "{action}: {audit:?}");
        }
        let acted = "SELECT CAST(COUNT(*) AS BIGINT) FROM audit WHERE actor LIKE 'key:%' AND action IN ('member_created', 'deleted')";
        assert_eq!(app.count(acted).await, 2);
    }

    /// What a body claims is never more than what may be said: no identity at LINE, no password, no proof of an address.
    async fn a_body_says_nothing_of_line_or_of_proofs(app) {
        let key = app.key(Scope::ALL).await;
        app.member("owner@example.jp", "Owner").await;
        let before = app.dump(&["api_keys"]).await;
        for claim in [
            json!({ "line_user_id": format!("U{}", "a".repeat(32)) }),
            json!({ "links": { "main": format!("U{}", "a".repeat(32)) } }),
            json!({ "email_verified_at": "2026-12-24T09:00:00Z" }),
            json!({ "password": "correct horse battery" }),
            json!({ "id": "x" }),
            json!({ "attributes": { "external_id": "2" } }),
            json!({ "attributes": { "Tier": [] } }),
            json!({ "tags": "a" }),
            json!({ "email": "nobody" }),
            json!({ "topics_opted_out": [""] }),
        ] {
            let answer = put(app, &key, "1", claim.clone()).await;
            assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "invalid"), "{claim}");
        }
        let answer = put(app, &key, "1", json!({ "email": "Owner@example.jp" })).await;
        assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::CONFLICT, "conflict"));
        let told = put(app, &key, "1", json!({ "email": "x", "time_zone": "Nowhere", "tags": [""], "topics_opted_out": ["a", ""] })).await;
        assert_eq!(told.places(), ["topics_opted_out[1]", "email", "time_zone", "tags"]);
        assert_eq!(app.dump(&["api_keys"]).await, before);
    }

    async fn j13_a_members_id_is_text_and_no_path(app) {
        let key = app.key(Scope::ALL).await;
        put(app, &key, "1", json!({})).await;
        let before = app.dump(&["api_keys"]).await;
        for id in ["%00", "..%2f", "..%2F..%2Fadmin", "a%2F..%2Fb", "%E2%80%8B1", "a%0Ab", "%20", "%FF"] {
            let answer = put(app, &key, id, json!({})).await;
            assert!([StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND].contains(&answer.status), "{id}: {}", answer.body);
            for path in ["", "/links/main"] {
                assert_eq!(get(app, &key, &format!("/{id}{path}")).await.status, StatusCode::NOT_FOUND, "{id}{path}");
            }
        }
        for id in ["'%20OR%201=1", "1'--", "*", "%25"] {
            assert_eq!(get(app, &key, &format!("/{id}")).await.status, StatusCode::NOT_FOUND, "{id}");
        }
        for query in ["tag='%20OR%201=1", "attribute.tier=%25", "attribute.tier='%20OR%20''='"] {
            assert_eq!(ids(&get(app, &key, &format!("?{query}")).await.json()), Vec::<&str>::new(), "{query}");
        }
        assert_eq!(app.dump(&["api_keys"]).await, before);
    }

    async fn a09_a_list_of_members_takes_its_parameters_only(app) {
        let key = app.key(Scope::ALL).await;
        for number in 0..5 {
            put(app, &key, &format!("m{number}"), json!({ "tags": ["x"], "attributes": { "tier": "gold" } })).await;
        }
        for query in [
            "limit=0", "limit=-1", "limit=201", "limit=1e9", "limit=NaN", "sort=name", "sort=;DROP", "friend=main",
            "friend=main:maybe", "attribute.Tier=a", "attribute.=a", "attribute.a=1&attribute.b=2", "tag=a&tag=b", "cursor=x",
            "cursor=bTE.AAAA",
        ] {
            let answer = get(app, &key, &format!("?{query}")).await;
            let (status, problem) = match query.starts_with("cursor=") {
                true => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_cursor"),
                false => (StatusCode::BAD_REQUEST, "invalid_parameter"),
            };
            assert_eq!((answer.status, answer.problem().as_str()), (status, problem), "{query}: {}", answer.body);
        }
        let first = get(app, &key, "?limit=2&tag=x").await.json();
        assert_eq!(ids(&first), ["m0", "m1"]);
        let cursor = first["next_cursor"].as_str().unwrap();
        let second = get(app, &key, &format!("?limit=2&tag=x&cursor={cursor}")).await.json();
        assert_eq!(ids(&second), ["m2", "m3"]);
        let cursor = second["next_cursor"].as_str().unwrap();
        let third = get(app, &key, &format!("?limit=2&tag=x&cursor={cursor}")).await.json();
        assert_eq!((ids(&third), &third["next_cursor"]), (vec!["m4"], &Value::Null));
        // A cursor is its list's, with its filters.
        assert_eq!(get(app, &key, &format!("?limit=2&attribute.tier=gold&cursor={cursor}")).await.problem(), "invalid_cursor");
        assert_eq!(ids(&get(app, &key, "?attribute.tier=gold").await.json()).len(), 5);
    }

    async fn a02_what_is_another_providers_is_not_found(app) {
        let (_, _) = app.linked("hanako@example.jp").await;
        app.execute("UPDATE members SET external_id = '1'").await;
        let own = app.key_for(Scope::ALL, &["main"]).await;
        // The configuration has one provider: a key of another one, which it had before.
        let other = app.key_for(Scope::ALL, &["former"]).await;
        for path in ["/1/links/main", "?linked=main", "?friend=main:yes"] {
            assert_eq!(get(app, &own, path).await.status, StatusCode::OK, "{path}");
            let answer = get(app, &other, path).await;
            assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::NOT_FOUND, "not_found"), "{path}");
        }
        let links = "SELECT CAST(COUNT(*) AS BIGINT) FROM links WHERE ended_at IS NULL";
        let answer = app.api(&other, Method::DELETE, &format!("{HERE}/1/links/main"), Value::Null).await;
        assert_eq!((answer.status, app.count(links).await), (StatusCode::NOT_FOUND, 1));
        assert_eq!(app.audit().await.iter().filter(|row| *row == "api_refused/foreign").count(), 4);
    }

    async fn a_link_is_shown_and_ended_with_its_steps(app) {
        let key = app.key(Scope::ALL).await;
        put(app, &key, "2", json!({})).await;
        let none = get(app, &key, "/2/links/main").await.json();
        assert_eq!((&none["linked"], &none["ended"], &none["channels"]), (&json!(false), &Value::Null, &json!([])));
        let (_, user) = app.linked("hanako@example.jp").await;
        app.execute("UPDATE members SET external_id = '1' WHERE external_id IS NULL").await;
        let shown = get(app, &key, "/1/links/main").await;
        assert!(!shown.body.contains(&user), "{}", shown.body);
        let link = shown.json();
        assert_eq!((&link["linked"], &link["source"], &link["confirmed"]), (&json!(true), &json!("web"), &json!(true)));
        assert_eq!(link["channels"], json!([{ "channel": "main", "friend": "yes", "reachable": true }]));
        let path = format!("{HERE}/1/links/main");
        let ended = app.api(&key, Method::DELETE, &path, Value::Null).await.json();
        assert_eq!((&ended["linked"], &ended["ended"]["reason"]), (&json!(false), &json!("company")));
        assert_eq!(ended["ended"]["steps"][0], json!({ "step": "deauthorize", "state": "pending" }));
        app.drain().await;
        let again = app.api(&key, Method::DELETE, &path, Value::Null).await.json();
        assert!(again["ended"]["steps"].as_array().unwrap().iter().all(|step| step["state"] == "done"), "{again}");
    }
}
