//! Messages to many: what says the same goes together, each person's come in their order, what is urgent goes first.

use std::time::Duration;

use musubi::{
    app::App,
    config::QuietHours,
    db::new_id,
    message::{self, Counts, New, Tie, To, answer},
};
use serde_json::{Value, json};

use crate::{
    quota::changed,
    sending::{counts, friend, send, texts},
    support::{TestApp, both_engines},
};

const NONE: Counts = Counts { accepted: 0, waiting: 0, sending: 0, sent: 0, failed: 0, unknown: 0, cancelled: 0 };

pub async fn friends(app: &TestApp, number: usize) -> Vec<String> {
    let mut users = Vec::new();
    for _ in 0..number {
        users.push(friend(app).await);
    }
    app.drain().await;
    users
}

/// A message in bulk, as it stands when all its recipients were added.
pub async fn bulk(app: &TestApp, users: &[String], template: Value, data: Value) -> String {
    let (id, now) = (new_id(app.app.now()), app.app.now());
    let mut tx = app.app.db.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO messages (id, channel, lane, cause, template, locale, accepted, source, data, expanded_at, created_at)
         VALUES ($1, 'main', 'bulk', 'test', 't', '', $2, $3, $4, $5, $5)",
    )
    .bind(&id)
    .bind(i64::try_from(users.len()).unwrap())
    .bind(json!({ "": template }).to_string())
    .bind(data.to_string())
    .bind(now)
    .execute(&mut *tx)
    .await
    .unwrap();
    for (seq, user) in (0_i64..).zip(users) {
        sqlx::query(
            "INSERT INTO deliveries (message_id, seq, channel, lane, member_id, line_user_id, link_id, state, attempts,
               order_at, due_at, created_at, updated_at)
             VALUES ($1, $2, 'main', 'bulk', $3, $3, $3, 'waiting', 0, $4, $4, $4, $4)",
        )
        .bind(&id)
        .bind(seq)
        .bind(user)
        .bind(now)
        .execute(&mut *tx)
        .await
        .unwrap();
    }
    tx.commit().await.unwrap();
    id
}

pub async fn said(app: &TestApp, user: &str) -> Vec<String> {
    let chat = app.phone(user).await;
    let messages = chat["messages"].as_array().unwrap().iter();
    messages.map(|message| message["text"].as_str().map_or(message.to_string(), str::to_owned)).collect()
}

pub fn text(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

pub async fn deliver(app: &App) {
    while message::deliver(app, "main", "test").await.unwrap() > 0 {}
}

/// To whom a delivery failed, and why.
async fn failed(app: &TestApp) -> (String, String, String) {
    let mut conn = app.app.db.conn().await.unwrap();
    sqlx::query_as("SELECT line_user_id, reason, note FROM deliveries WHERE state = 'failed'")
        .fetch_one(&mut *conn)
        .await
        .unwrap()
}

both_engines! {
    async fn what_says_the_same_is_one_multicast(app) {
        let users = friends(app, 7).await;
        let id = bulk(app, &users, text("Open on {{day}}"), json!({ "day": "Monday" })).await;
        deliver(&app.app).await;
        assert_eq!(app.calls_to("/v2/bot/message/multicast").await.len(), 1);
        assert_eq!(app.calls_to("/v2/bot/message/push").await.len(), 0);
        for user in &users {
            assert_eq!(said(app, user).await, ["Open on Monday"]);
        }
        assert_eq!(counts(app, &id).await, Counts { accepted: 7, sent: 7, ..NONE });
        assert_eq!(app.count("SELECT recipients FROM requests WHERE endpoint = 'multicast'").await, 7);
    }

    async fn what_is_personal_is_pushed_to_each(app) {
        let users = friends(app, 3).await;
        app.execute("UPDATE members SET name = 'N' || external_id WHERE external_id IS NOT NULL").await;
        let id = bulk(app, &users, text("Hello {{member.name}}"), json!({})).await;
        deliver(&app.app).await;
        let mut greeted = Vec::new();
        for user in &users {
            greeted.extend(said(app, user).await);
        }
        assert!(greeted.len() == 3 && greeted.iter().all(|text| text.starts_with("Hello ")), "{greeted:?}");
        assert_eq!(counts(app, &id).await, Counts { accepted: 3, sent: 3, ..NONE });
    }

    /// LINE refuses a multicast as a whole for one of its people: the others get theirs all the same.
    async fn a_refused_multicast_goes_to_each_alone(app) {
        let users = friends(app, 4).await;
        app.fault(json!({ "endpoint": "POST /v2/bot/message/multicast", "status": 400 })).await;
        let id = bulk(app, &users, text("hi"), json!({})).await;
        deliver(&app.app).await;
        for user in &users {
            assert_eq!(said(app, user).await, ["hi"]);
        }
        assert_eq!(app.calls_to("/v2/bot/message/push").await.len(), 4);
        assert_eq!(counts(app, &id).await, Counts { accepted: 4, sent: 4, ..NONE });
    }

    async fn a_multicast_whose_answer_is_lost_is_seen_once(app) {
        let users = friends(app, 5).await;
        app.fault(json!({ "endpoint": "POST /v2/bot/message/multicast", "cut": "after", "count": 2 })).await;
        let id = bulk(app, &users, text("once"), json!({})).await;
        for _ in 0..6 {
            deliver(&app.app).await;
            app.clock.advance(Duration::from_secs(700));
        }
        for user in &users {
            assert_eq!(said(app, user).await, ["once"]);
        }
        assert_eq!(counts(app, &id).await, Counts { accepted: 5, sent: 5, ..NONE });
    }

    async fn what_cannot_be_rendered_fails_by_itself(app) {
        let users = friends(app, 2).await;
        let id = bulk(app, &users, text("{{missing}}"), json!({})).await;
        deliver(&app.app).await;
        assert_eq!(counts(app, &id).await, Counts { accepted: 2, failed: 2, ..NONE });
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM deliveries WHERE reason = 'not_rendered'").await, 2);
    }

    /// What one person's name makes too long is dead before LINE sees it, and holds nobody else up.
    async fn x36_what_is_too_long_for_one_person_fails_alone(app) {
        let users = friends(app, 3).await;
        let names = ["Aiko".to_owned(), "x".repeat(5000), "Taro".to_owned()];
        for (user, name) in users.iter().zip(&names) {
            let mut conn = app.app.db.conn().await.unwrap();
            let named = sqlx::query("UPDATE members SET name = $1 WHERE id = $2").bind(name).bind(user);
            named.execute(&mut *conn).await.unwrap();
        }
        let id = bulk(app, &users, text("Hello {{member.name}}"), json!({})).await;
        deliver(&app.app).await;
        assert_eq!(counts(app, &id).await, Counts { accepted: 3, sent: 2, failed: 1, ..NONE });
        assert_eq!(said(app, &users[0]).await, ["Hello Aiko"]);
        assert_eq!(said(app, &users[1]).await, [""; 0]);
        assert_eq!(said(app, &users[2]).await, ["Hello Taro"]);
        assert_eq!(app.calls_to("/v2/bot/message/push").await.len(), 2, "LINE was not asked for the third");
        let (user, reason, note) = failed(app).await;
        assert_eq!((user, reason.as_str()), (users[1].clone(), "not_rendered"));
        assert!(note.starts_with("$[0].text: ") && note.contains("5000"), "{note}");
    }

    /// The same for what is said to one person; what it was said about stands.
    async fn x36_a_message_or_answer_that_is_too_long_is_dead_before_line(app) {
        let users = friends(app, 2).await;
        let data = json!({ "company": "x".repeat(5000) });
        let mut tx = app.app.db.begin().await.unwrap();
        let to = To { line_user_id: &users[0], link: Some(Tie { member_id: &users[0], link_id: &users[0] }) };
        let new =
            New { channel: "main", template: "greeting", locale: "en", data: &data, cause: "test", topic: None, to };
        let long = message::send(&mut tx, &app.app, new).await.unwrap();
        let new = answer::New { channel: "main", line_user_id: &users[0], cause: "greeting", reply: None };
        let answer = answer::say(&mut tx, &app.app, new, "greeting", &data).await.unwrap().unwrap();
        tx.commit().await.unwrap();
        let good = send(app, &users[1], "Aiko").await;
        app.drain().await;
        deliver(&app.app).await;
        assert_eq!(counts(app, &long).await, Counts { accepted: 1, failed: 1, ..NONE });
        assert_eq!(counts(app, &good).await, Counts { accepted: 1, sent: 1, ..NONE });
        assert_eq!(app.calls_to("/v2/bot/message/push").await.len(), 1, "LINE was asked for the good one only");
        let (user, reason, note) = failed(app).await;
        assert_eq!((user, reason.as_str()), (users[0].clone(), "not_rendered"));
        assert!(note.starts_with("$[0].text: ") && note.contains("5000"), "{note}");
        let mut conn = app.app.db.conn().await.unwrap();
        let found = sqlx::query_as("SELECT state, note FROM answers WHERE id = $1").bind(answer);
        let found: (String, String) = found.fetch_one(&mut *conn).await.unwrap();
        assert_eq!(found, ("failed".to_owned(), note));
    }

    /// What is told when it happens follows the same rule as what is sent to many.
    async fn welcomes_and_answers_are_in_the_members_language_and_zone(app) {
        let users = friends(app, 1).await;
        let say = async |locale: &str, page: &str| {
            let mut tx = app.app.db.begin().await.unwrap();
            let member = sqlx::query("UPDATE members SET locale = $1, time_zone = 'America/New_York'")
                .bind(Some(locale).filter(|locale| !locale.is_empty()));
            member.execute(&mut *tx).await.unwrap();
            let (data, to) = (
                json!({ "company": "C", "title": "T", "at": "2026-11-20T01:30:00Z" }),
                To { line_user_id: &users[0], link: Some(Tie { member_id: &users[0], link_id: &users[0] }) },
            );
            let new = New {
                channel: "main",
                template: "reminder",
                locale: page,
                data: &data,
                cause: "test",
                topic: None,
                to,
            };
            let id = message::send(&mut tx, &app.app, new).await.unwrap();
            let answer = answer::New { channel: "main", line_user_id: &users[0], cause: "test", reply: None };
            let answer = answer::say(&mut tx, &app.app, answer, "reminder", &data).await.unwrap().unwrap();
            let mut contents: Vec<String> = Vec::new();
            for (statement, id) in [
                ("SELECT content FROM deliveries WHERE message_id = $1", &id),
                ("SELECT content FROM answers WHERE id = $1", &answer),
                ("SELECT locale FROM messages WHERE id = $1", &id),
            ] {
                contents.push(sqlx::query_scalar(statement).bind(id).fetch_one(&mut *tx).await.unwrap());
            }
            tx.commit().await.unwrap();
            contents
        };
        app.execute("UPDATE line_users SET language = 'th'").await;
        let own = say("ja", "en").await;
        assert!(own[0].contains("2026年11月19日(木) 20:30"), "{}", own[0]);
        assert_eq!(own[0], own[1]);
        assert_eq!(own[2], "ja");
        let at_line = say("", "en").await;
        assert!(at_line[0].contains("20:30 น."), "{}", at_line[0]);
        assert_eq!(at_line[0], at_line[1]);
        app.execute("UPDATE line_users SET language = NULL").await;
        let page = say("", "en").await;
        assert!(page[0].contains("Thu, 19 Nov 2026, 20:30"), "{}", page[0]);
        assert_eq!(page[2], "en");
    }

    async fn a_persons_messages_come_in_their_order(app) {
        let users = friends(app, 2).await;
        // The first is refused for now and tried again later: the second must not overtake it.
        app.fault(json!({ "endpoint": "POST /v2/bot/message/push", "status": 429 })).await;
        send(app, &users[0], "First").await;
        deliver(&app.app).await;
        send(app, &users[0], "Second").await;
        send(app, &users[1], "Other").await;
        for _ in 0..4 {
            deliver(&app.app).await;
            app.clock.advance(Duration::from_secs(30));
        }
        let told = said(app, &users[0]).await;
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("First") && told[1].contains("Second"), "{told:?}");
        assert_eq!(said(app, &users[1]).await.len(), 1);
    }

    /// An earlier one that is held up for long holds up nobody for ever.
    async fn what_cannot_be_sent_holds_the_later_ones_for_a_while_only(app) {
        let users = friends(app, 1).await;
        send(app, &users[0], "First").await;
        app.execute("UPDATE deliveries SET due_at = due_at + 86400000").await;
        app.clock.advance(Duration::from_secs(1));
        send(app, &users[0], "Second").await;
        deliver(&app.app).await;
        assert_eq!(said(app, &users[0]).await.len(), 0);
        app.clock.advance(Duration::from_secs(601));
        deliver(&app.app).await;
        let told = said(app, &users[0]).await;
        assert!(told.len() == 1 && told[0].contains("Second"), "{told:?}");
    }

    async fn what_is_urgent_goes_before_bulk(app) {
        let users = friends(app, 40).await;
        bulk(app, &users, text("{{member.name}} bulk"), json!({})).await;
        app.clock.advance(Duration::from_secs(5));
        let id = send(app, &users[39], "Urgent").await;
        deliver(&app.app).await;
        let told = said(app, &users[39]).await;
        assert!(told.len() == 2, "{told:?}");
        let first: String = sqlx::query_scalar("SELECT d.message_id FROM deliveries d JOIN requests r ON r.id = d.request_id
              ORDER BY r.id LIMIT 1").fetch_one(&mut *app.app.db.conn().await.unwrap()).await.unwrap();
        assert_eq!(first, id, "its request was made first");
    }

    /// What a message to many took the place of is told when it is rendered, to each their own.
    async fn what_took_the_place_of_others_tells_of_them(app) {
        let users = friends(app, 2).await;
        let template = json!([{ "$for": "former in updates", "$do": text("{{former.title}}") }, text("{{title}}")]);
        let old = bulk(app, &users[..1], template.clone(), json!({ "title": "old" })).await;
        let new = bulk(app, &users, template, json!({ "title": "new" })).await;
        for (statement, id) in [
            ("UPDATE messages SET collapse_key = 'k' WHERE id >= $1", &old),
            ("UPDATE deliveries SET state = 'cancelled', reason = 'superseded', superseded_by = $1 WHERE message_id < $1", &new),
        ] {
            sqlx::query(statement).bind(id).execute(&mut *app.app.db.conn().await.unwrap()).await.unwrap();
        }
        deliver(&app.app).await;
        assert_eq!(said(app, &users[0]).await, ["old", "new"]);
        assert_eq!(said(app, &users[1]).await, ["new"]);
        assert_eq!(counts(app, &new).await, Counts { accepted: 2, sent: 2, ..NONE });
    }

    /// G8: an opt-out, or a message taken back, stops also what slipped past it or waits again after a refusal.
    async fn what_is_not_wanted_any_more_is_not_sent(app) {
        let users = friends(app, 3).await;
        let news = bulk(app, &users, text("news"), json!({})).await;
        let taken_back = bulk(app, &users, text("taken back"), json!({})).await;
        for (statement, id) in [
            ("UPDATE messages SET topic = 'news' WHERE id = $1", &news),
            ("INSERT INTO topic_opt_outs (member_id, topic, created_at) SELECT member_id, 'news', 1 FROM deliveries
              WHERE message_id = $1 AND seq = 1", &news),
            ("UPDATE messages SET cancelled_at = 1 WHERE id = $1", &taken_back),
        ] {
            sqlx::query(statement).bind(id).execute(&mut *app.app.db.conn().await.unwrap()).await.unwrap();
        }
        deliver(&app.app).await;
        let mut told = Vec::new();
        for user in &users {
            told.push(said(app, user).await.concat());
        }
        assert_eq!(told, ["news", "", "news"]);
        assert_eq!(counts(app, &news).await, Counts { accepted: 3, sent: 2, cancelled: 1, ..NONE });
        assert_eq!(counts(app, &taken_back).await, Counts { accepted: 3, cancelled: 3, ..NONE });
    }
}

both_engines! {
    /// Also in bulk a person is told one thing after the other where the first had to wait.
    async fn what_waits_again_in_bulk_is_not_overtaken(app) {
        let users = friends(app, 1).await;
        app.fault(json!({ "endpoint": "POST /v2/bot/message/push", "status": 429 })).await;
        bulk(app, &users, text("first"), json!({})).await;
        deliver(&app.app).await;
        bulk(app, &users, text("second"), json!({})).await;
        for _ in 0..4 {
            app.clock.advance(Duration::from_secs(30));
            deliver(&app.app).await;
        }
        assert_eq!(said(app, &users[0]).await, ["first", "second"]);
    }

    /// What LINE has no time for was not refused for one of its people: it stays one request.
    async fn a_multicast_that_comes_too_fast_stays_one(app) {
        let users = friends(app, 3).await;
        app.fault(json!({ "endpoint": "POST /v2/bot/message/multicast", "status": 429 })).await;
        let id = bulk(app, &users, text("news"), json!({})).await;
        for _ in 0..4 {
            deliver(&app.app).await;
            app.clock.advance(Duration::from_secs(30));
        }
        assert_eq!(counts(app, &id).await, Counts { accepted: 3, sent: 3, ..NONE });
        assert_eq!(app.calls_to("/v2/bot/message/multicast").await.len(), 2);
        assert_eq!(app.calls_to("/v2/bot/message/push").await.len(), 0);
    }

    /// Ten failures in a row, and the channel rests; then one request looks whether LINE is well, and no more.
    async fn x22_while_line_is_not_well_one_request_at_a_time_looks(app) {
        let users = friends(app, 30).await;
        app.fault(json!({ "endpoint": "POST /v2/bot/message/push", "status": 500, "count": 1000 })).await;
        let template = text("{{member.name}}");
        let mut messages = Vec::new();
        for user in &users {
            messages.push(bulk(app, std::slice::from_ref(user), template.clone(), json!({})).await);
        }
        // Once each time: a rest may be shorter than a slow machine's step.
        let once = async || message::deliver(&app.app, "main", "test").await.unwrap();
        assert_eq!(once().await, 30);
        let mut calls = app.calls_to("/v2/bot/message/push").await.len();
        assert_eq!(calls, 30, "all were on their way");
        for _ in 0..3 {
            app.clock.advance(Duration::from_secs(31));
            assert_eq!(once().await, 1);
            let before = std::mem::replace(&mut calls, app.calls_to("/v2/bot/message/push").await.len());
            assert_eq!(calls - before, 1);
        }
        app.clear_faults().await;
        for _ in 0..20 {
            app.clock.advance(Duration::from_secs(31));
            deliver(&app.app).await;
        }
        for (id, user) in messages.iter().zip(&users) {
            assert_eq!(counts(app, id).await, Counts { accepted: 1, sent: 1, ..NONE });
            assert_eq!(said(app, user).await.len(), 1);
        }
    }

    /// Where LINE takes not even a new token, the channel rests and nothing else is tried.
    async fn x29_a_new_token_that_is_refused_too_lets_the_channel_rest(app) {
        let users = friends(app, 5).await;
        app.fault(json!({ "endpoint": "POST /v2/bot/message/push", "status": 401, "count": 1000 })).await;
        for user in &users {
            send(app, user, "Hanako").await;
        }
        deliver(&app.app).await;
        let notes = texts(app, "SELECT note FROM send_pauses").await;
        assert!(notes.len() == 1 && notes[0].contains("401"), "{notes:?}");
        let tried = app.calls_to("/v2/bot/message/push").await.len();
        app.clock.advance(Duration::from_secs(30));
        deliver(&app.app).await;
        assert_eq!(app.calls_to("/v2/bot/message/push").await.len(), tried, "for a minute");
    }

    /// What could not be sent before the quiet hours began waits for their end; what is urgent goes.
    async fn a_late_message_in_bulk_leaves_people_their_quiet(app) {
        let users = friends(app, 2).await;
        let hour = app.app.now().0 / 3_600_000 + 9;
        let quiet = format!("{:02}:00-{:02}:00", (hour + 23) % 24, (hour + 2) % 24);
        let app_with_quiet = changed(app, |config| config.sending.quiet_hours = QuietHours::parse(&quiet)).await;
        let id = bulk(app, &users, text("news"), json!({})).await;
        send(app, &users[0], "Hanako").await;
        deliver(&app_with_quiet).await;
        assert_eq!(counts(app, &id).await, Counts { accepted: 2, waiting: 2, ..NONE });
        assert_eq!(said(app, &users[0]).await.len(), 1);
        app.clock.advance(Duration::from_secs(4 * 3600));
        deliver(&app_with_quiet).await;
        assert_eq!(counts(app, &id).await, Counts { accepted: 2, sent: 2, ..NONE });
        app_with_quiet.db.close().await;
    }
}
