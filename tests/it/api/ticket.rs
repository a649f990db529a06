//! Link tickets by the API, from the first call to the redeemed result.

use axum::http::{Method, StatusCode};
use musubi::member::guard::Scope;
use serde_json::{Value, json};

use crate::support::{Answer, ORIGIN, TestApp, both_engines, parameter};

const TICKETS: &str = "/api/v1/link-tickets";
const SHOP: &str = "https://shop.example.jp/linked";

/// A member whom the company calls 1001.
async fn company(app: &TestApp) -> String {
    app.member("hanako@example.jp", "Hanako Yamada").await;
    app.execute("UPDATE members SET external_id = '1001'").await;
    app.key(&[Scope::TicketsWrite]).await
}

async fn make(app: &TestApp, key: &str, body: Value) -> Answer {
    app.api(key, Method::POST, TICKETS, body).await
}

async fn state(app: &TestApp, key: &str, id: &str) -> Value {
    let answer = app.api(key, Method::GET, &format!("{TICKETS}/{id}"), Value::Null).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    answer.json()
}

/// Links by the ticket as a new LINE user; gives where the person is sent then.
async fn link(app: &TestApp, url: &str) -> String {
    let user = app.line_user("はなこ").await;
    let mut phone = app.visitor();
    let authorize = phone.start_line("ticket", url.strip_prefix(ORIGIN).unwrap()).await;
    let back = phone.at_line(&authorize, &user, "consent").await;
    let attempt = phone.get(&back).await.location().replace("/link/confirm?attempt=", "");
    phone.confirm(&attempt).await.location()
}

both_engines! {
    async fn a_ticket_from_the_call_to_its_result(app) {
        let key = company(app).await;
        let made = make(app, &key, json!({ "member": "1001", "return_url": SHOP })).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
        let made = made.json();
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        assert!(text("url").starts_with(&format!("{ORIGIN}/t/")) && text("qr_svg").contains("<svg"), "{made}");
        assert!(text("status_url").starts_with(&format!("{ORIGIN}/t/watch/")) && text("code").len() == 9, "{made}");
        let before = state(app, &key, &text("id")).await;
        assert_eq!((&before["state"], &before["member"], &before["provider"]), (&json!("waiting"), &json!("1001"), &json!("main")));

        let back = link(app, &text("url")).await;
        let after = state(app, &key, &text("id")).await;
        assert_eq!(after["state"], "linked");
        let result = json!({ "result": parameter(&back, "result") });
        let told = app.api(&key, Method::POST, &format!("{TICKETS}/redeem"), result.clone()).await;
        assert_eq!(told.status, StatusCode::OK, "{}", told.body);
        let told = told.json();
        assert_eq!(
            told,
            json!({ "ticket_id": text("id"), "member": "1001", "provider": "main", "linked": true,
                "link_id": after["link_id"], "linked_at": after["linked_at"] })
        );
        let again = app.api(&key, Method::POST, &format!("{TICKETS}/redeem"), result).await;
        assert_eq!((again.status, again.problem().as_str()), (StatusCode::NOT_FOUND, "not_found"));

        let another = make(app, &key, json!({ "member": "1001" })).await;
        assert_eq!((another.status, another.problem().as_str()), (StatusCode::CONFLICT, "already_linked"));
        // What is over stays as it is.
        let answer = app.api(&key, Method::DELETE, &format!("{TICKETS}/{}", text("id")), Value::Null).await;
        assert_eq!((answer.status, answer.json()), (StatusCode::OK, after));
        let made_by = "SELECT CAST(COUNT(*) AS BIGINT) FROM tickets t JOIN api_keys k ON t.made_by = 'key:' || k.id";
        assert_eq!(app.count(made_by).await, 1);
    }

    async fn a_ticket_is_revoked(app) {
        let key = company(app).await;
        let made = make(app, &key, json!({ "member": "1001", "provider": "main" })).await.json();
        let (id, url) = (made["id"].as_str().unwrap(), made["url"].as_str().unwrap());
        for _ in 0..2 {
            let answer = app.api(&key, Method::DELETE, &format!("{TICKETS}/{id}"), Value::Null).await;
            assert_eq!((answer.status, &answer.json()["state"]), (StatusCode::OK, &json!("revoked")));
        }
        assert_eq!(app.visitor().get(url.strip_prefix(ORIGIN).unwrap()).await.status, StatusCode::NOT_FOUND);
        assert!(app.audit().await.contains(&"ticket_revoked/".to_owned()));
        for id in ["0198c5a2-7d3e-7b1a-9c41-5f0e8a6b2d10", "x", "%00"] {
            for method in [Method::GET, Method::DELETE] {
                let answer = app.api(&key, method, &format!("{TICKETS}/{id}"), Value::Null).await;
                assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::NOT_FOUND, "not_found"), "{id}");
            }
        }
    }

    async fn q08_a_ticket_that_does_not_fit_names_its_mistake(app) {
        let key = company(app).await;
        let before = app.dump(&["api_keys"]).await;
        for (body, place) in [
            (json!({ "member": "nobody" }), "member"),
            (json!({ "member": "" }), "member"),
            (json!({}), "member"),
            (json!({ "member": "1001", "provider": "other" }), "provider"),
            (json!({ "member": "1001", "return_url": "https://evil.example/" }), "return_url"),
            (json!({ "member": "1001", "return_url": "" }), "return_url"),
            (json!({ "member": "1001", "return_url": "/account" }), "return_url"),
            (json!({ "member": 1001 }), "member"),
            (json!({ "member": "1001", "code": "x" }), "code"),
        ] {
            let answer = make(app, &key, body.clone()).await;
            assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "invalid"), "{body}");
            assert_eq!(answer.places(), [place], "{body}");
        }
        assert_eq!(app.dump(&["api_keys"]).await, before);
    }

    /// A repeated call makes one ticket and gives the same answer, whose secrets no table shows.
    async fn q14_a_repeated_call_makes_one_ticket(app) {
        let key = company(app).await;
        let body = json!({ "member": "1001", "return_url": SHOP });
        let first = app.api_once(&key, TICKETS, body.clone(), "once").await;
        assert_eq!(first.status, StatusCode::CREATED, "{}", first.body);
        let again = app.api_once(&key, TICKETS, body, "once").await;
        assert_eq!((again.status, &again.body), (StatusCode::CREATED, &first.body));
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM tickets").await, 1);
        let url = first.json()["url"].as_str().unwrap().to_owned();
        let token = url.rsplit('/').next().unwrap();
        assert!(!app.dump(&[]).await.iter().any(|row| row.contains(token)));
    }
}
