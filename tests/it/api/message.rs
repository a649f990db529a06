//! Messages by the API: sent once, to whom they are for, and seen to their end.

use axum::http::{Method, StatusCode};
use musubi::{
    member::{self, guard::Scope},
    message::look,
    webhook,
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row};

use crate::support::{Answer, Engine, TestApp, at_once, both_engines};

const MESSAGES: &str = "/api/v1/messages";

fn reminder(to: Value) -> Value {
    let data = json!({ "company": "Example", "title": "Dentist", "at": "2026-12-01T10:00:00+09:00" });
    let mut body = json!({ "template": "reminder", "data": data });
    body["to"] = to;
    body
}

/// 1001 and 1002 are linked, 1003 is not; gives the LINE users.
async fn company(app: &TestApp) -> (String, String) {
    let (_, hanako) = app.linked("hanako@example.jp").await;
    let (_, taro) = app.linked("taro@example.jp").await;
    app.member("jiro@example.jp", "Jiro").await;
    let mut conn = app.app.db.conn().await.unwrap();
    for (email, id) in [("hanako@example.jp", "1001"), ("taro@example.jp", "1002"), ("jiro@example.jp", "1003")] {
        let member = member::find_by_email_key(&mut conn, email).await.unwrap().unwrap();
        member::set_external_id(&mut conn, &member.id, id).await.unwrap();
    }
    (hanako, taro)
}

async fn get(app: &TestApp, key: &str, path: &str) -> Value {
    let answer = app.api(key, Method::GET, path, Value::Null).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
    answer.json()
}

/// What the person was told of the dentist.
async fn dentists(app: &TestApp, user: &str) -> usize {
    let chat = app.phone(user).await;
    chat["messages"].as_array().unwrap().iter().filter(|message| message.to_string().contains("Dentist")).count()
}

fn adds_up(message: &Value) {
    let states = ["waiting", "sending", "sent", "failed", "unknown", "cancelled"];
    let sum: i64 = states.iter().map(|state| message["counts"][*state].as_i64().unwrap()).sum();
    assert_eq!(message["accepted"], sum, "{message}");
}

/// Refused with these places; nothing changed, LINE was not asked.
async fn refused(app: &TestApp, key: &str, body: Value, places: &[&str]) -> Answer {
    let but = ["api_keys", "audit"];
    let (before, calls) = (app.dump(&but).await, app.calls().await.len());
    let answer = app.api(key, Method::POST, MESSAGES, body.clone()).await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
        "{body} {}",
        answer.body
    );
    assert_eq!(answer.places(), places, "{body}: {}", answer.body);
    assert_eq!((app.dump(&but).await, app.calls().await.len()), (before, calls), "{body}");
    answer
}

both_engines! {
    async fn a_message_goes_from_the_request_to_its_delivery(app) {
        let (hanako, taro) = company(app).await;
        let key = app.key(Scope::ALL).await;
        // To one: rendered at once.
        let answer = app.api(&key, Method::POST, MESSAGES, reminder(json!({ "members": ["1001"] }))).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
        let accepted = answer.json();
        assert_eq!((&accepted["accepted"], &accepted["is_expanded"], &accepted["left_out"]), (&json!(1), &json!(true), &json!({})));
        let one = accepted["id"].as_str().unwrap();
        let message = get(app, &key, &format!("{MESSAGES}/{one}")).await;
        assert_eq!((&message["cause"], &message["lane"], &message["counts"]["waiting"]), (&json!("api"), &json!("transactional"), &json!(1)));
        adds_up(&message);
        // To several, of whom one is named twice, and one is not linked.
        let answer = app.api(&key, Method::POST, MESSAGES, reminder(json!({ "members": ["1002", "1003", "1001", "1002"] }))).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
        let accepted = answer.json();
        assert_eq!((&accepted["accepted"], &accepted["left_out"]), (&json!(2), &json!({ "not_linked": 1 })));
        assert_eq!(accepted["members_left_out"], json!([{ "member": "1003", "reason": "not_linked" }]));
        let several = accepted["id"].as_str().unwrap();
        adds_up(&get(app, &key, &format!("{MESSAGES}/{several}")).await);
        // To a tag, and to all.
        let all = app.api(&key, Method::POST, MESSAGES, reminder(json!({ "all": true }))).await.json();
        assert_eq!((&all["accepted"], &all["is_expanded"]), (&json!(0), &json!(false)));
        let none = app.api(&key, Method::POST, MESSAGES, reminder(json!({ "tag": "nobody" }))).await.json();
        app.drain().await;
        assert_eq!((dentists(app, &hanako).await, dentists(app, &taro).await), (3, 2));
        for (id, sent) in [(one, 1), (several, 2), (all["id"].as_str().unwrap(), 2), (none["id"].as_str().unwrap(), 0)] {
            let message = get(app, &key, &format!("{MESSAGES}/{id}")).await;
            adds_up(&message);
            assert_eq!((&message["counts"]["sent"], &message["is_expanded"]), (&json!(sent), &json!(true)), "{message}");
        }
        let page = get(app, &key, &format!("/api/v1/deliveries?message={several}")).await;
        let members: Vec<&str> = page["items"].as_array().unwrap().iter().map(|item| item["member"].as_str().unwrap()).collect();
        assert_eq!(members, ["1001", "1002"]);
        assert!(page["items"].as_array().unwrap().iter().all(|item| item["state"] == "sent" && item["attempts"] == 1));
        assert!(!page.to_string().contains(&hanako) && !page.to_string().contains(&taro), "LINE's ids stay here");
        let ids: Vec<Value> = get(app, &key, MESSAGES).await["items"].as_array().unwrap().iter().map(|item| item["id"].clone()).collect();
        assert_eq!(ids[..4], [none["id"].clone(), all["id"].clone(), json!(several), json!(one)]);
    }

    /// Nobody but members is written to; what a list names is told by its place.
    async fn a07_only_members_are_recipients(app) {
        let (hanako, _) = company(app).await;
        let key = app.key(Scope::ALL).await;
        let stranger = format!("U{}", "0".repeat(32));
        for id in [stranger.as_str(), hanako.as_str(), "4711", "' OR 1=1 --", "../1001", "1001 "] {
            let answer = refused(app, &key, reminder(json!({ "members": ["1001", id] })), &["to.members[1]"]).await;
            assert!(answer.body.contains("there is no member"), "{}", answer.body);
            refused(app, &key, reminder(json!({ "members": [id] })), &["to.members[0]"]).await;
        }
        let many: Vec<String> = (0..501).map(|number| format!("n{number}")).collect();
        refused(app, &key, reminder(json!({ "members": many })), &["to.members"]).await;
        refused(app, &key, reminder(json!({ "members": [] })), &["to.members"]).await;
        refused(app, &key, reminder(json!({ "members": ["4711", "1001", "4712"] })), &["to.members[0]", "to.members[2]"]).await;
        refused(app, &key, reminder(json!({ "members": ["1001", "a\u{1}"] })), &["to.members[1]"]).await;
        refused(app, &key, reminder(json!({ "members": ["a\u{0}"] })), &["to.members[0]"]).await;
        let repeated: Vec<&str> = ["1001"; 400].to_vec();
        let accepted = app.api(&key, Method::POST, MESSAGES, reminder(json!({ "members": repeated }))).await;
        assert_eq!((accepted.status, &accepted.json()["accepted"]), (StatusCode::ACCEPTED, &json!(1)));
        app.drain().await;
        assert_eq!(dentists(app, &hanako).await, 1);
    }

    async fn every_mistake_of_a_message_is_told(app) {
        company(app).await;
        let key = app.key(Scope::ALL).await;
        let to = json!({ "members": ["1001"] });
        for (body, places) in [
            (json!({ "to": {}, "template": "reminder" }), &["to"][..]),
            (json!({ "to": { "tag": "a", "all": true }, "template": "reminder" }), &["to"]),
            (json!({ "to": { "all": false }, "template": "reminder" }), &["to.all"]),
            (json!({ "to": to }), &["."]),
            (json!({ "to": to, "template": "reminder", "messages": [] }), &["."]),
            (json!({ "to": to, "messages": [{ "type": "text", "text": "a" }], "data": {} }), &["data"]),
            (json!({ "to": to, "template": "nothing" }), &["template"]),
            (json!({ "to": to, "template": "reminder" }), &["data"]),
            (json!({ "to": to, "messages": [{ "type": "text", "text": "" }] }), &["messages[0].text"]),
            (json!({ "to": to, "template": "reminder", "channel": "other", "send_at": "tomorrow" }), &["channel", "send_at"]),
            (json!({ "to": to, "template": "reminder", "lane": "fast" }), &["lane"]),
            (json!({ "to": to, "template": "reminder", "topic": "", "collapse_key": "a".repeat(256) }), &["topic", "collapse_key", "data"]),
        ] {
            refused(app, &key, body, places).await;
        }
    }

    async fn a_message_is_sent_once_under_its_key(app) {
        let (hanako, taro) = company(app).await;
        let key = app.key(Scope::ALL).await;
        for (name, to) in [("one", json!({ "members": ["1001"] })), ("some", json!({ "members": ["1001", "1002"] })), ("all", json!({ "all": true }))] {
            let first = app.api_once(&key, MESSAGES, reminder(to.clone()), name).await;
            let again = app.api_once(&key, MESSAGES, reminder(to.clone()), name).await;
            assert_eq!((first.status, again.status, &first.body), (StatusCode::ACCEPTED, StatusCode::ACCEPTED, &again.body));
            let other = app.api_once(&key, MESSAGES, reminder(json!({ "tag": "x" })), name).await;
            assert_eq!(other.problem(), "idempotency_key_reused");
            // The answer was lost in a crash, or was "try again": carried out anew, it is the same message.
            app.execute("UPDATE api_requests SET status = NULL, sealed = NULL, leased_until = 0").await;
            let after = app.api_once(&key, MESSAGES, reminder(to), name).await;
            assert!(!after.headers.contains_key("idempotent-replayed"));
            assert_eq!((after.status, &after.json()["id"]), (StatusCode::ACCEPTED, &first.json()["id"]), "{}", after.body);
        }
        let request = || {
            let mut request = app.api_request(&key, Method::POST, MESSAGES, &reminder(json!({ "members": ["1002"] })));
            request.headers_mut().insert("idempotency-key", "at once".parse().unwrap());
            request
        };
        let answers = at_once(app, (0..20).map(|_| request()).collect()).await;
        assert!(answers.iter().any(|answer| answer.status == StatusCode::ACCEPTED));
        assert!(answers.iter().all(|answer| answer.status == StatusCode::ACCEPTED || answer.problem() == "idempotency_in_progress"));
        app.drain().await;
        assert_eq!((dentists(app, &hanako).await, dentists(app, &taro).await), (3, 3));
    }

    async fn a_dry_run_stores_nothing(app) {
        company(app).await;
        let key = app.key(Scope::ALL).await;
        for (to, recipients) in [(json!({ "members": ["1001"] }), 1), (json!({ "members": ["1001", "1002", "1003"] }), 2), (json!({ "all": true }), 2)] {
            let before = app.dump(&["api_keys", "quotas"]).await;
            let mut body = reminder(to);
            body["dry_run"] = json!(true);
            let answer = app.api(&key, Method::POST, MESSAGES, body).await;
            assert_eq!((answer.status, &answer.json()["accepted"], &answer.json()["id"]), (StatusCode::OK, &json!(recipients), &Value::Null), "{}", answer.body);
            assert!(answer.json()["example"].to_string().contains("Dentist"));
            assert_eq!(app.dump(&["api_keys", "quotas"]).await, before);
        }
    }

    async fn a_message_is_taken_back(app) {
        let (hanako, _) = company(app).await;
        let key = app.key(Scope::ALL).await;
        let mut body = reminder(json!({ "members": ["1001", "1002"] }));
        body["send_at"] = json!("2099-01-01T00:00:00+09:00");
        let id = app.api(&key, Method::POST, MESSAGES, body).await.json()["id"].as_str().unwrap().to_owned();
        for _ in 0..2 {
            let answer = app.api(&key, Method::POST, &format!("{MESSAGES}/{id}/cancel"), Value::Null).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
            let message = answer.json();
            adds_up(&message);
            assert_eq!((&message["counts"]["cancelled"], &message["is_expanded"]), (&json!(2), &json!(true)));
            assert!(message["cancelled_at"].is_string() && message["send_at"] == "2098-12-31T15:00:00.000Z");
        }
        let by = app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM audit WHERE action = 'message_cancelled' AND actor LIKE 'key:%'").await;
        assert_eq!(by, 1);
        let page = get(app, &key, "/api/v1/deliveries?state=cancelled&limit=1").await;
        assert_eq!((&page["items"][0]["number"], &page["items"][0]["reason"]), (&json!(1), &json!("cancelled")));
        let rest = get(app, &key, &format!("/api/v1/deliveries?state=cancelled&limit=1&cursor={}", page["next_cursor"].as_str().unwrap())).await;
        assert_eq!((&rest["items"][0]["number"], &rest["next_cursor"]), (&json!(0), &Value::Null));
        app.drain().await;
        assert_eq!(dentists(app, &hanako).await, 0);
    }

    /// A key for another provider finds nothing of this one, and changes nothing.
    async fn a02_what_is_another_providers_is_not_found(app) {
        company(app).await;
        let (key, other) = (app.key(Scope::ALL).await, app.key_for(Scope::ALL, &["elsewhere"]).await);
        let sent = app.api(&key, Method::POST, MESSAGES, reminder(json!({ "members": ["1001", "1003"] }))).await.json();
        let id = sent["id"].as_str().unwrap();
        let before = app.dump(&["api_keys", "audit"]).await;
        for (method, path) in [(Method::GET, format!("{MESSAGES}/{id}")), (Method::POST, format!("{MESSAGES}/{id}/cancel"))] {
            let answer = app.api(&other, method, &path, Value::Null).await;
            assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::NOT_FOUND, "not_found"));
        }
        let noted = "SELECT CAST(COUNT(*) AS BIGINT) FROM audit WHERE action = 'api_refused' AND reason = 'foreign'";
        assert_eq!(app.count(noted).await, 2);
        for path in [MESSAGES.to_owned(), format!("/api/v1/deliveries?message={id}"), "/api/v1/deliveries?member=1001".into(), "/api/v1/deliveries?state=failed".into(), "/api/v1/events".into()] {
            assert_eq!(get(app, &other, &path).await["items"], json!([]), "{path}");
        }
        assert_eq!(get(app, &other, "/api/v1/quota").await, json!({ "channels": [] }));
        for channel in [json!("main"), Value::Null] {
            let mut body = reminder(json!({ "members": ["1001"] }));
            body["channel"] = channel;
            refused(app, &other, body, &["channel"]).await;
        }
        // A cursor of another key leads nowhere.
        let cursor = get(app, &key, &format!("{MESSAGES}?limit=1")).await["next_cursor"].as_str().unwrap().to_owned();
        let answer = app.api(&other, Method::GET, &format!("{MESSAGES}?cursor={cursor}"), Value::Null).await;
        assert_eq!(answer.problem(), "invalid_cursor");
        assert_eq!(app.dump(&["api_keys", "audit"]).await, before);
    }

    async fn deliveries_are_listed_page_by_page(app) {
        company(app).await;
        let key = app.key(Scope::ALL).await;
        for _ in 0..3 {
            app.api(&key, Method::POST, MESSAGES, reminder(json!({ "members": ["1001", "1002"] }))).await;
        }
        app.drain().await;
        let all = get(app, &key, "/api/v1/deliveries?limit=200").await["items"].as_array().unwrap().clone();
        for (filter, wanted) in [("", 8), ("member=1001&", 4), ("member=1002&state=sent&", 4), ("member=1003&", 0), ("member=4711&", 0), ("state=failed&", 0)] {
            let (mut seen, mut cursor) = (Vec::new(), String::new());
            loop {
                let page = get(app, &key, &format!("/api/v1/deliveries?{filter}limit=3{cursor}")).await;
                seen.extend(page["items"].as_array().unwrap().iter().cloned());
                let Some(next) = page["next_cursor"].as_str() else { break };
                cursor = format!("&cursor={next}");
            }
            let member = filter.split(['=', '&']).nth(1).filter(|_| filter.starts_with("member"));
            let expected: Vec<Value> = all.iter().filter(|one| wanted > 0 && member.is_none_or(|id| one["member"] == id)).cloned().collect();
            assert_eq!((seen.len(), &seen), (wanted, &expected), "{filter}");
        }
        for query in ["state=sent", "state=waiting"] {
            let answer = app.api(&key, Method::GET, &format!("/api/v1/deliveries?{query}"), Value::Null).await;
            assert_eq!((answer.problem(), answer.places()), ("invalid".to_owned(), vec!["state".to_owned()]));
        }
        let wrong = app.api(&key, Method::GET, "/api/v1/deliveries?state=lost", Value::Null).await;
        assert_eq!((wrong.problem(), wrong.places()), ("invalid_parameter".to_owned(), vec!["state".to_owned()]));
    }

    async fn quota_and_events_are_told(app) {
        let (hanako, _) = company(app).await;
        let key = app.key(Scope::ALL).await;
        let quota = get(app, &key, "/api/v1/quota").await;
        assert_eq!((&quota["channels"][0]["channel"], quota["channels"].as_array().unwrap().len()), (&json!("main"), 1));
        assert!(quota["channels"][0]["used"].is_i64() && quota["channels"][0]["told_at"].is_string(), "{quota}");
        app.say(&hanako, "a secret of mine").await;
        app.drain().await;
        let events = get(app, &key, "/api/v1/events?channel=main&limit=1").await;
        assert_eq!((&events["items"][0]["type"], &events["items"][0]["state"]), (&json!("message"), &json!("done")), "{events}");
        let rest = get(app, &key, &format!("/api/v1/events?channel=main&cursor={}", events["next_cursor"].as_str().unwrap())).await;
        assert_eq!(rest["items"].as_array().unwrap().iter().filter(|event| event["type"] == "follow").count(), 2);
        assert!(!events.to_string().contains("secret of mine") && !rest.to_string().contains(&hanako));
        assert_eq!(get(app, &key, "/api/v1/events?channel=other").await["items"], json!([]));
    }

    /// Each list of the API reads by an index that gives its order, or few rows.
    async fn lists_are_read_by_index(app) {
        app.execute(
            "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 19999)
             INSERT INTO deliveries (message_id, seq, channel, lane, member_id, line_user_id, link_id, state, attempts, order_at,
               due_at, created_at, updated_at)
             SELECT 'm' || CAST(100 + i / 200 AS TEXT), i % 200, 'main', 'bulk', 'p' || CAST(i % 1000 AS TEXT), 'u', 'l' || CAST(i % 1000 AS TEXT),
               CASE WHEN i % 500 = 0 THEN 'failed' ELSE 'sent' END, 1, 1, 1, 1, 1 FROM n",
        )
        .await;
        app.execute(
            "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999)
             INSERT INTO messages (id, channel, lane, cause, template, locale, accepted, expanded_at, created_at)
             SELECT 'm' || CAST(100 + i AS TEXT), 'main', 'bulk', 'test', '', 'en', 200, 1, 1 FROM n",
        )
        .await;
        app.execute(
            "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 9999)
             INSERT INTO events (id, channel, body_id, seq, chat, at, kind, state, received_at)
             SELECT 'e' || CAST(10000 + i AS TEXT), 'main', 'b', i, 'c', 1, 'message', 'done', 1 FROM n",
        )
        .await;
        let mut conn = app.app.db.conn().await.unwrap();
        sqlx::raw_sql("ANALYZE").execute(&mut *conn).await.unwrap();
        let (head, column) = if app.engine == Engine::Sqlite { ("EXPLAIN QUERY PLAN", 3) } else { ("EXPLAIN", 0) };
        for (statement, values) in [
            (look::LIST, &["'main'", "'m150'", "51"][..]),
            (look::OF_MESSAGE, &["'m150'", "100", "51"]),
            (look::OF_MESSAGE_IN_STATE, &["'m150'", "100", "51", "'sent'"]),
            (look::OF_MEMBER, &["'m150'", "100", "51", "'p7'", "'main'", "''", "''"]),
            (look::BAD, &["'m150'", "100", "51", "'main'", "'failed'"]),
            (look::ALL, &["'m150'", "100", "51"]),
            (webhook::look::LIST, &["'e15000'", "''", "'main'", "51"]),
        ] {
            let mut text = statement.to_owned();
            for (number, value) in values.iter().enumerate().rev() {
                text = text.replace(&format!("${}", number + 1), value);
            }
            let rows = sqlx::query(AssertSqlSafe(format!("{head} {text}"))).fetch_all(&mut *conn).await.unwrap();
            let plan = rows.iter().map(|row| row.try_get::<String, _>(column).unwrap()).collect::<Vec<_>>().join("\n");
            for table in ["messages", "deliveries", "d", "events"] {
                let scans = [format!("SCAN {table}\n"), format!("Seq Scan on {table} ")];
                assert!(!scans.iter().any(|scan| format!("{plan}\n").contains(scan)), "{text}\n{plan}");
            }
            // What is sorted is few: a person's, or what went wrong.
            let is_sorted = plan.contains("Sort") || plan.contains("TEMP B-TREE");
            let may_be = [look::OF_MEMBER, look::OF_MESSAGE_IN_STATE, look::BAD].contains(&statement);
            assert!(!is_sorted || may_be, "{text}\n{plan}");
        }
    }
}
