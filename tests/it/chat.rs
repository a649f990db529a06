//! What people write: kept in words, with its media, erased when it is taken back; and what is answered to it.

use std::time::Duration;

use axum::http::Method;
use musubi::{
    chat::{self, Said},
    db::Millis,
    webhook::erase,
};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::{
    stub::{Answer, Stage, stages},
    support::{BOT_CHANNEL, PASSWORD, TestApp, both_engines},
};

const IMAGE: &str = "iVBORw0KGgo=";
const CONTENT: &str = "/v2/bot/message/";
const HANAKO: &str = "hanako@example.jp";

/// `kind|text` of what is kept, oldest first.
async fn kept(app: &TestApp) -> Vec<String> {
    texts(app, "SELECT kind || '|' || text FROM chat_messages ORDER BY at, id").await
}

/// State, type and bytes of each content.
async fn media(app: &TestApp) -> Vec<(String, Option<String>, Option<i64>, Option<Vec<u8>>)> {
    let mut conn = app.app.db.conn().await.unwrap();
    let statement = "SELECT state, content_type, size, bytes FROM media ORDER BY created_at, message_id";
    sqlx::query_as(statement).fetch_all(&mut *conn).await.unwrap()
}

async fn texts(app: &TestApp, statement: &'static str) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(statement)).fetch_all(&mut *app.app.db.conn().await.unwrap()).await.unwrap()
}

/// Every body that came, as text.
async fn bodies(app: &TestApp) -> String {
    let mut conn = app.app.db.conn().await.unwrap();
    let bodies: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT body FROM webhook_bodies").fetch_all(&mut *conn).await.unwrap();
    bodies.iter().map(|body| String::from_utf8_lossy(body).into_owned()).collect()
}

/// Drains, and again after what waits a little.
async fn later(app: &TestApp) {
    for _ in 0..4 {
        app.drain().await;
        app.clock.advance(Duration::from_secs(20));
    }
}

async fn replies(app: &TestApp) -> usize {
    app.calls_to("/v2/bot/message/reply").await.len()
}

both_engines! {
    async fn every_kind_is_kept_in_words(app) {
        let user = app.line_user("はなこ").await;
        let elsewhere = json!({ "type": "external", "originalContentUrl": "http://127.0.0.1:1/a.png" });
        for order in [
            json!({ "text": "こんにちは\u{0} \"A\" '; DROP" }),
            json!({ "type": "sticker", "keywords": ["cony", "hi"] }),
            json!({ "type": "location", "title": "Office", "address": "Tokyo", "latitude": 35.5, "longitude": 139.25 }),
            json!({ "type": "image", "base64": IMAGE, "contentType": "image/png" }),
            json!({ "type": "image", "contentProvider": elsewhere }),
            json!({ "type": "video", "duration": 1500 }),
            json!({ "type": "audio", "duration": 1000 }),
            json!({ "type": "file", "fileName": "契約書.pdf" }),
        ] {
            app.does(&user, "message", order).await;
            app.clock.advance(Duration::from_secs(1));
        }
        app.drain().await;
        let expected = [
            "text|こんにちは \"A\" '; DROP",
            "sticker|[sticker: cony, hi]",
            "location|[location: Office, Tokyo, 35.5, 139.25]",
            "image|[image]",
            "image|[image]",
            "video|[video: 2 s]",
            "audio|[audio: 1 s]",
            "file|[file: 契約書.pdf, 12 bytes]",
        ];
        assert_eq!(kept(app).await, expected);
        let media = media(app).await;
        assert_eq!(media.len(), 4, "what lies elsewhere is not fetched");
        assert_eq!(media[0], ("kept".into(), Some("image/png".into()), Some(8), Some(b"\x89PNG\r\n\x1a\n".to_vec())));
        assert!(media.iter().all(|one| one.0 == "kept" && one.2 == one.3.as_ref().map(|bytes| bytes.len() as i64)));
        let provider = "SELECT data FROM chat_messages WHERE data LIKE '%127.0.0.1:1/a.png%'";
        assert_eq!(texts(app, provider).await.len(), 1, "its address is kept");
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM chat_messages c JOIN line_users u
            ON u.id = c.line_user_id AND u.user_id = c.chat").await, 8);
    }

    async fn media_is_waited_for_and_fetched_once(app) {
        let user = app.line_user("はなこ").await;
        app.does(&user, "message", json!({ "type": "video", "preparing": 3 })).await;
        app.does(&user, "message", json!({ "type": "audio", "failed": true })).await;
        app.fault(json!({ "endpoint": format!("GET {CONTENT}"), "status": 500 })).await;
        later(app).await;
        later(app).await;
        let states: Vec<String> = media(app).await.into_iter().map(|one| one.0).collect();
        assert_eq!(states, ["kept", "gone"]);
        let fetches = app.calls_to(CONTENT).await.iter().filter(|call| call["method"] == "GET").count();
        assert_eq!(fetches, 3 + 1 + 1 + 1, "prepared, a 500, and each once");
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM jobs WHERE ended_at IS NULL").await, 0);
    }

    async fn what_is_taken_back_is_erased_everywhere(app) {
        let user = app.line_user("はなこ").await;
        let secret = "ひみつの番号";
        let text = app.say(&user, secret).await;
        let early = app.does(&user, "message", json!({ "type": "image" })).await;
        app.drain().await;
        let late = app.does(&user, "message", json!({ "type": "file", "fileName": secret, "preparing": 1 })).await;
        app.drain().await;
        assert_eq!(media(app).await.iter().map(|one| one.0.as_str()).collect::<Vec<_>>(), ["kept", "waiting"]);
        for told in [&text, &early, &late] {
            app.does(&user, "unsend", json!({ "message_id": told["message_id"] })).await;
        }
        later(app).await;
        assert!(media(app).await.iter().all(|one| (one.0.as_str(), &one.3, one.2) == ("erased", &None, None)));
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM chat_messages
            WHERE text = '' AND data = '{}' AND unsent_at IS NOT NULL").await, 3);
        for row in app.dump(&[]).await {
            assert!(!row.contains(secret), "{row}");
        }
        assert!(!bodies(app).await.contains(secret));
    }

    /// In a group: nothing is answered, edits are kept, and an end reaches the bodies of the edits too.
    async fn a_group_message_is_edited_and_taken_back(app) {
        let user = app.line_user("はなこ").await;
        let group = format!("C{}", "0123456789abcdef".repeat(2));
        let source = json!({ "type": "group", "groupId": group, "userId": user });
        let message = |id: &str, text: &str| json!({ "id": id, "type": "text", "text": text });
        for (kind, fields) in [
            ("message", json!({ "message": message("91", "一番") })),
            ("messageEdited", json!({ "message": message("91", "二番") })),
            ("message", json!({ "message": message("92", "三番") })),
            ("messageEdited", json!({ "message": message("92", "四番") })),
            ("unsend", json!({ "unsend": { "messageId": "91" } })),
            ("messageEdited", json!({ "message": message("91", "五番") })),
        ] {
            let mut event = fields;
            (event["type"], event["source"]) = (kind.into(), source.clone());
            app.sim(Method::POST, &format!("/_sim/bots/{BOT_CHANNEL}/events"), event).await;
            app.clock.advance(Duration::from_secs(1));
            app.drain().await;
        }
        assert_eq!(kept(app).await, ["text|", "text|四番"]);
        let stored = bodies(app).await;
        for (text, is_there) in [("一番", false), ("二番", false), ("三番", true), ("四番", true), ("五番", false)] {
            assert_eq!(stored.contains(text), is_there, "{text}: {stored}");
        }
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM answers").await, 0);
        // Nothing of it is left where the person is forgotten.
        let mut tx = app.app.db.begin().await.unwrap();
        let bodies_of = erase::list_bodies(&mut tx, &user).await.unwrap();
        erase::person(&mut tx, &app.app.db, &user, &bodies_of).await.unwrap();
        tx.commit().await.unwrap();
        let stored = bodies(app).await;
        assert!(!stored.contains("三番") && !stored.contains("四番"), "{stored}");
    }

    async fn who_writes_is_told_what_can_be_written_now_and_then(app) {
        let user = app.line_user("はなこ").await;
        for (text, minutes, expected) in [("こんにちは", 0, 1), ("もしもし", 9, 1), ("ねえ", 2, 2)] {
            app.clock.advance(Duration::from_secs(minutes * 60));
            app.say(&user, text).await;
            app.drain().await;
            assert_eq!(replies(app).await, expected, "{text}");
        }
        assert!(app.calls_to("/v2/bot/message/push").await.is_empty(), "free of charge");
        let shown = app.phone(&user).await.to_string();
        assert!(shown.contains("You can write"), "{shown}");
    }

    /// We were away: what is only polite is not said hours later, at the company's cost.
    async fn small_talk_is_not_pushed_long_afterwards(app) {
        for (text, minutes, state, note) in [
            ("こんにちは", 10, "pushed", ""),
            ("こんにちは", 11, "failed", "too_late"),
            ("status", 11, "failed", "too_late"),
            ("link", 11, "pushed", ""),
        ] {
            let user = app.line_user("はなこ").await;
            app.say(&user, text).await;
            app.clock.advance(Duration::from_secs(minutes * 60));
            let before = app.calls_to("/v2/bot/message/push").await.len();
            app.drain().await;
            let pushes = app.calls_to("/v2/bot/message/push").await.len() - before;
            let ended = texts(app, "SELECT state || '|' || COALESCE(note, '') FROM answers").await;
            assert_eq!(ended, [format!("{state}|{note}")], "{text} {minutes}");
            assert_eq!(pushes, usize::from(state == "pushed"), "{text} {minutes}");
            // Who writes again is answered.
            if state == "failed" {
                let before = replies(app).await;
                app.say(&user, text).await;
                app.drain().await;
                assert_eq!(replies(app).await - before, 1, "{text}");
            }
            app.execute("DELETE FROM answers").await;
        }
    }

    /// LINE fails before and after it took a reply, and refuses; the person sees one answer, and never two.
    async fn x21_a_reply_is_seen_once_whatever_line_does(app) {
        for (fault, seen, state) in [
            (json!({ "status": 500 }), 1, "replied"),
            (json!({ "cut": "before" }), 1, "replied"),
            (json!({ "cut": "after" }), 1, "unknown"),
            (json!({ "truncate": 3 }), 1, "replied"),
            (json!({ "status": 500, "replace_body": { "message": "after" } }), 1, "unknown"),
            (json!({ "status": 429, "body": { "message": "The API rate limit has been exceeded. Try again later." } }), 1, "replied"),
            (json!({ "status": 400, "body": { "message": "Invalid reply token" } }), 1, "pushed"),
            (json!({ "status": 403, "body": { "message": "Access to this API is not available for your account" } }), 0, "failed"),
        ] {
            let user = app.line_user("はなこ").await;
            let mut order = fault.clone();
            order["endpoint"] = "POST /v2/bot/message/reply".into();
            app.fault(order).await;
            app.say(&user, "こんにちは").await;
            for _ in 0..4 {
                app.drain().await;
                app.clock.advance(Duration::from_secs(3));
            }
            let shown = app.phone(&user).await.to_string().matches("answers automatically").count();
            assert_eq!(shown, seen, "{fault}");
            assert_eq!(texts(app, "SELECT state FROM answers").await, [state], "{fault}");
            app.execute("DELETE FROM answers").await;
        }
    }

    async fn a_member_gets_a_copy_of_their_chat_and_takes_it_along(app) {
        let (mut hanako, user) = app.linked(HANAKO).await;
        app.say(&user, "ひみつの番号").await;
        app.does(&user, "message", json!({ "type": "image" })).await;
        app.drain().await;
        let answer = hanako.post("/account/data", &[("password", PASSWORD)]).await;
        let copy: Value = serde_json::from_str(&answer.body).unwrap();
        let chat = copy["line_chat"].as_array().unwrap();
        assert_eq!((chat.len(), &chat[0]["text"], &chat[1]["media"]), (2, &json!("ひみつの番号"), &json!("kept")));
        let answers = copy["line_answers"].as_array().unwrap();
        assert!(answers.iter().any(|answer| answer["cause"] == "default" && answer["state"] == "replied"), "{answers:?}");
        assert!(!answer.body.contains("Token"), "no tokens");

        assert_eq!(hanako.post("/account/delete", &[("word", "DELETE"), ("password", PASSWORD)]).await.status.as_u16(), 200);
        for _ in 0..4 {
            app.drain().await;
            app.clock.advance(Duration::from_secs(15 * 60));
        }
        assert_eq!(app.audit().await.last().unwrap(), "erased/");
        for table in ["SELECT CAST(COUNT(*) AS BIGINT) FROM chat_messages", "SELECT CAST(COUNT(*) AS BIGINT) FROM media",
            "SELECT CAST(COUNT(*) AS BIGINT) FROM answers"] {
            assert_eq!(app.count(table).await, 0, "{table}");
        }
        for row in app.dump(&["jobs"]).await {
            assert!(!row.contains(&user) && !row.contains("ひみつ"), "{row}");
        }
        assert!(!bodies(app).await.contains(&user));
    }

    /// Who only met the official account is forgotten a day later; its friends are not, nor who wrote.
    async fn strangers_are_forgotten_but_friends_and_writers_are_not(app) {
        let [friend, gone, writer] = [app.line_user("a").await, app.line_user("b").await, app.line_user("c").await];
        for user in [&friend, &gone] {
            app.does(user, "follow", json!({})).await;
        }
        app.does(&gone, "block", json!({})).await;
        app.say(&writer, "こんにちは").await;
        app.drain().await;
        let known = async || texts(app, "SELECT user_id FROM line_users WHERE user_id NOT LIKE 'erased:%'").await;
        for (hours, left) in [(23, 3), (2, 2)] {
            app.clock.advance(Duration::from_secs(hours * 3600));
            musubi::privacy::erase::prune(&app.app).await.unwrap();
            assert_eq!(known().await.len(), left, "{hours}");
        }
        assert!(known().await.contains(&friend) && known().await.contains(&writer));
        assert!(!bodies(app).await.contains(&gone) && bodies(app).await.contains(&friend));
        assert!(app.dump(&["jobs"]).await.iter().all(|row| !row.contains(&gone)));
    }
}

// ---- events in any order, which LINE's guidelines allow

async fn say(stage: &Stage, event: &str, at: i64, message: &Value) -> bool {
    let mut tx = stage.app.db.begin().await.unwrap();
    let kept = chat::keep(&mut tx, &stage.app, said(event, at, message)).await.unwrap();
    tx.commit().await.unwrap();
    kept
}

async fn edit(stage: &Stage, event: &str, at: i64, text: &str) -> bool {
    let message = json!({ "id": "1", "type": "text", "text": text });
    let mut tx = stage.app.db.begin().await.unwrap();
    let kept = chat::edit(&mut tx, &stage.app, said(event, at, &message)).await.unwrap();
    tx.commit().await.unwrap();
    kept
}

async fn unsend(stage: &Stage, chat: &str, id: &str) -> Vec<String> {
    let mut tx = stage.app.db.begin().await.unwrap();
    let events = chat::unsend(&mut tx, stage.app.now(), "shop", chat, id).await.unwrap();
    tx.commit().await.unwrap();
    events
}

fn said<'a>(event: &'a str, at: i64, message: &'a Value) -> Said<'a> {
    Said { channel: "shop", chat: "C1", line_user_id: Some("aiko"), event_id: event, at: Millis(at), message }
}

async fn shown(stage: &Stage) -> Vec<String> {
    stage.texts("SELECT text || '|' || CAST(at AS TEXT) FROM chat_messages ORDER BY id").await
}

#[tokio::test]
async fn the_latest_edit_holds_in_any_order() {
    let original = json!({ "id": "1", "type": "text", "text": "first" });
    for stage in stages("").await {
        stage.link("aiko", None).await;
        for order in ["oab", "oba", "aob", "abo", "bao", "boa"] {
            for step in order.chars() {
                assert!(match step {
                    'o' => say(&stage, "event-o", 10, &original).await,
                    'a' => edit(&stage, "event-a", 20, "second").await,
                    _ => edit(&stage, "event-b", 30, "third").await,
                });
            }
            assert_eq!(shown(&stage).await, ["third|10"], "{order}");
            assert!(edit(&stage, "event-a", 20, "second").await && say(&stage, "event-o", 10, &original).await);
            assert_eq!(shown(&stage).await, ["third|10"], "{order}, again");
            assert_eq!(unsend(&stage, "C1", "1").await, ["event-a", "event-b", "event-o"], "{order}");
            assert_eq!(stage.texts("SELECT text || data FROM chat_messages").await, ["{}"]);
            assert!(!edit(&stage, "event-b", 30, "third").await && !say(&stage, "event-o", 10, &original).await);
            assert_eq!(stage.texts("SELECT text || data FROM chat_messages").await, ["{}"], "unsent stays unsent");
            stage.execute("DELETE FROM chat_messages").await;
        }
    }
}

#[tokio::test]
async fn what_was_taken_back_before_it_came_is_not_kept() {
    let image = json!({ "id": "7", "type": "image", "contentProvider": { "type": "line" } });
    for stage in stages("").await {
        let user_id = stage.link("aiko", None).await;
        assert_eq!(unsend(&stage, &user_id, "7").await, Vec::<String>::new());
        assert_eq!(unsend(&stage, &user_id, "7").await, Vec::<String>::new(), "twice");
        assert!(!say(&stage, "event", 10, &image).await);
        assert_eq!(stage.texts("SELECT state FROM media").await, Vec::<String>::new());
        assert_eq!(stage.texts("SELECT chat || kind || text || data FROM chat_messages").await, ["{}"]);
        // Ids that cannot be LINE's reach no table and no path.
        for id in ["", "1\0", "../../info", "1?a=b"] {
            assert_eq!(unsend(&stage, "C1", id).await, Vec::<String>::new());
            assert!(say(&stage, "event", 10, &json!({ "id": id, "type": "image" })).await);
        }
        assert_eq!(stage.texts("SELECT id FROM chat_messages").await, ["7"]);
    }
}

/// Taken back while its content is on the way: it does not come back.
#[tokio::test]
async fn a_fetch_in_flight_writes_nothing_after_the_end() {
    let image = json!({ "id": "7", "type": "image", "contentProvider": { "type": "line" } });
    for stage in stages("").await {
        stage.link("aiko", None).await;
        say(&stage, "event", 10, &image).await;
        stage.line.script("GET /v2/bot/message/7/content", Answer::Hang);
        let app = stage.app.clone();
        let fetch = tokio::spawn(async move { chat::media::fetch(&app, "shop", "7").await });
        stage.line.wait_for_calls("GET /v2/bot/message/7/content", 1).await;
        assert_eq!(unsend(&stage, "C1", "7").await, ["event"]);
        stage.line.release();
        fetch.await.unwrap().unwrap();
        assert_eq!(stage.texts("SELECT state || COALESCE(content_type, '-') FROM media").await, ["erased-"]);
    }
}

#[tokio::test]
async fn what_is_larger_than_the_limit_is_not_kept() {
    for stage in stages("chat.media_max_bytes = 40").await {
        stage.link("aiko", None).await;
        let large = json!("x".repeat(39));
        for (id, answer, expected) in [
            ("1", Answer::Json(200, large), "too_large"),
            ("2", Answer::Json(200, json!("x".repeat(38))), "kept"),
            ("3", Answer::Json(404, json!({ "message": "not found, in more than forty bytes of words" })), "gone"),
            ("4", Answer::Json(410, json!({ "message": "The content is gone" })), "gone"),
            ("5", Answer::Json(202, json!({})), "waiting"),
            // Once more, at once, with a new token.
            ("6", Answer::Json(401, json!({ "message": "expired" })), "kept"),
            ("7", Answer::Json(503, json!({ "message": "later" })), "waiting"),
            ("8", Answer::Cut, "waiting"),
        ] {
            say(&stage, "event", 10, &json!({ "id": id, "type": "file", "fileName": "a" })).await;
            stage.line.script(&format!("GET /v2/bot/message/{id}/content"), answer);
            let outcome = chat::media::fetch(&stage.app, "shop", id).await.unwrap();
            let is_done = outcome == musubi::queue::Outcome::Done;
            assert_eq!(is_done, expected != "waiting", "{id}: {outcome:?}");
            let state = format!("SELECT state FROM media WHERE message_id = '{id}'");
            let found: String = sqlx::query_scalar(AssertSqlSafe(state))
                .fetch_one(&mut *stage.app.db.conn().await.unwrap())
                .await
                .unwrap();
            assert_eq!(found, expected, "{id}");
        }
        let bytes = stage.texts("SELECT CAST(COUNT(bytes) AS TEXT) || '/' || CAST(MAX(size) AS TEXT) FROM media").await;
        assert_eq!(bytes, ["2/40"]);
    }
}

/// Whoever sends without end fills no disk; another chat, and the next day, have their own room.
#[tokio::test]
async fn of_one_chat_so_much_is_kept_in_a_day() {
    const DAY: i64 = 24 * 3_600_000;
    for stage in stages("").await {
        stage.link("aiko", None).await;
        let send = async |id: &str, chat: &str, at: i64, bytes: usize| {
            let message = json!({ "id": id, "type": "file", "fileName": "a" });
            let said = Said { chat, ..said("event", at, &message) };
            let mut tx = stage.app.db.begin().await.unwrap();
            chat::keep(&mut tx, &stage.app, said).await.unwrap();
            tx.commit().await.unwrap();
            stage
                .line
                .script(&format!("GET /v2/bot/message/{id}/content"), Answer::Json(200, json!("x".repeat(bytes - 2))));
            chat::media::fetch(&stage.app, "shop", id).await.unwrap();
            let state = format!("SELECT state FROM media WHERE message_id = '{id}'");
            let mut conn = stage.app.db.conn().await.unwrap();
            sqlx::query_scalar::<_, String>(AssertSqlSafe(state)).fetch_one(&mut *conn).await.unwrap()
        };
        for number in 1..=52 {
            let expected = if number <= 50 { "kept" } else { "too_much" };
            assert_eq!(send(&number.to_string(), "C1", DAY, 10).await, expected, "{number}");
        }
        assert!(stage.line.calls("GET /v2/bot/message/51/content").is_empty(), "not asked for");
        assert_eq!(send("60", "C2", DAY, 10).await, "kept");
        assert_eq!(send("61", "C1", 2 * DAY, 10).await, "kept");
        // Near the end of the bytes a short one still fits.
        stage.execute("UPDATE media SET size = 100 * 1024 * 1024 - 20 WHERE message_id = '60'").await;
        for (id, bytes, expected) in [("70", 21, "too_much"), ("71", 20, "kept"), ("72", 2, "too_much")] {
            assert_eq!(send(id, "C2", DAY, bytes).await, expected, "{id}");
        }
    }
}

#[tokio::test]
async fn chats_and_media_go_after_their_time() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    for stage in stages("").await {
        stage.link("aiko", None).await;
        let now = stage.app.now();
        say(&stage, "event", now.0, &json!({ "id": "1", "type": "image" })).await;
        for (days, chats, media) in [(1, 1, 1), (3, 1, 0), (5, 0, 0)] {
            let mut conn = stage.app.db.conn().await.unwrap();
            let later = now.plus(DAY * days);
            chat::prune(&mut conn, later, DAY * 4).await.unwrap();
            chat::media::prune(&mut conn, later, DAY * 2).await.unwrap();
            drop(conn);
            let left =
                [stage.texts("SELECT id FROM chat_messages").await, stage.texts("SELECT state FROM media").await];
            assert_eq!([left[0].len(), left[1].len()], [chats, media], "{days}");
        }
    }
}
