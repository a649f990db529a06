//! Answers: by the reply token while it lives, by a push only where the reply surely was not taken.

use std::time::Duration;

use musubi::{
    message::{
        answer::{self, New, Reply},
        hold::{self, Verdict},
    },
    queue::Outcome,
    worker,
};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use super::stub::{Answer, Stage, stages};

const REPLY: &str = "POST /v2/bot/message/reply";
const PUSH: &str = "POST /v2/bot/message/push";
const TOKEN: &str = "POST /oauth2/v3/token";
/// How long the tests' reply tokens live.
const LIFE: Duration = Duration::from_secs(50);

fn error(status: u16, message: &str) -> Answer {
    Answer::Json(status, json!({ "message": message }))
}

fn bad_token() -> Answer {
    error(400, "Invalid reply token")
}

fn fresh(stage: &Stage) -> Reply {
    Reply { token: "reply-token".to_owned(), until: stage.app.now().plus(LIFE) }
}

/// Queues an answer to `person`, whom [`Stage::link`] made.
async fn queue(stage: &Stage, person: &str, reply: Option<&Reply>, content: Option<&str>) -> Option<String> {
    queue_for(stage, "keyword", person, reply, content).await
}

async fn queue_for(
    stage: &Stage,
    cause: &str,
    person: &str,
    reply: Option<&Reply>,
    content: Option<&str>,
) -> Option<String> {
    let mut tx = stage.app.db.begin().await.unwrap();
    let new = New { channel: "shop", line_user_id: person, cause, reply };
    let id = answer::queue(&mut tx, &stage.app, new, content).await.unwrap();
    tx.commit().await.unwrap();
    id
}

async fn drain(stage: &Stage) {
    worker::drain(&stage.app).await.unwrap();
}

/// State, replies begun, and the note of the one answer.
async fn state(stage: &Stage) -> (String, i64, String) {
    let mut conn = stage.app.db.conn().await.unwrap();
    sqlx::query_as("SELECT state, attempts, COALESCE(note, '') FROM answers").fetch_one(&mut *conn).await.unwrap()
}

async fn number(stage: &Stage, statement: &'static str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(&mut *stage.app.db.conn().await.unwrap()).await.unwrap()
}

/// Replies and pushes that reached LINE.
fn calls(stage: &Stage) -> (usize, usize) {
    (stage.line.calls(REPLY).len(), stage.line.calls(PUSH).len())
}

#[tokio::test]
async fn a_fresh_token_is_replied_by() {
    for stage in stages("").await {
        stage.link("aiko", None).await;
        stage.line.script(REPLY, Answer::Json(200, json!({ "sentMessages": [] })));
        queue(&stage, "aiko", Some(&fresh(&stage)), Some(&answer::text("愛子 \"A\""))).await.unwrap();
        drain(&stage).await;
        assert_eq!(state(&stage).await, ("replied".into(), 1, String::new()));
        let sent = stage.line.calls(REPLY);
        let expected = json!({ "replyToken": "reply-token", "messages": [{ "type": "text", "text": "愛子 \"A\"" }] });
        assert_eq!((sent.len(), sent[0].json()), (1, expected));
        assert_eq!(sent[0].header("x-line-retry-key"), "", "LINE refuses a reply with a key");
        assert!(sent[0].header("authorization").starts_with("Bearer token-"));
        assert_eq!(number(&stage, "SELECT CAST(COUNT(*) AS BIGINT) FROM messages").await, 0);
        assert_eq!(number(&stage, "SELECT CAST(COUNT(reply_token) AS BIGINT) FROM answers").await, 0, "no longer kept");
        assert!(stage.texts("SELECT line_request_id FROM answers").await[0].starts_with("request-"));
    }
}

/// Each arm: what LINE answers one after the other, and what becomes of the answer.
#[tokio::test]
async fn what_becomes_of_a_reply() {
    let limit = || error(429, "The API rate limit has been exceeded. Try again later.");
    let content = || error(400, "The request body has 1 error(s)");
    let later = || error(503, "later");
    // (LINE's answers, state, replies at LINE, pushes at LINE)
    let cases: Vec<(Vec<Answer>, &str, usize, usize)> = vec![
        (vec![bad_token()], "pushed", 1, 1),
        (vec![content()], "failed", 1, 0),
        (vec![error(403, "Access to this API is not available for your account")], "failed", 1, 0),
        (vec![error(404, "Not found")], "failed", 1, 0),
        (vec![limit(), limit()], "replied", 3, 0),
        (vec![limit(), bad_token()], "pushed", 2, 1),
        (vec![error(401, "expired")], "replied", 2, 0),
        // In doubt.
        (vec![later()], "replied", 2, 0),
        (vec![Answer::Cut], "replied", 2, 0),
        (vec![Answer::Cut, bad_token()], "unknown", 2, 0),
        (vec![later(), later()], "unknown", 2, 0),
        (vec![Answer::Cut, Answer::Cut], "unknown", 2, 0),
        (vec![Answer::Cut, content()], "unknown", 2, 0),
        (vec![Answer::Cut, error(401, "expired"), bad_token()], "unknown", 3, 0),
        (vec![Answer::Cut, limit(), bad_token()], "unknown", 3, 0),
        (vec![Answer::Cut, limit()], "replied", 3, 0),
        (vec![limit(), Answer::Cut, bad_token()], "unknown", 3, 0),
    ];
    for stage in stages("").await {
        for (number, (answers, expected, replies, pushes)) in cases.iter().enumerate() {
            let person = format!("person-{number}");
            stage.link(&person, None).await;
            let before = calls(&stage);
            for answer in answers {
                stage.line.script(REPLY, answer.clone());
            }
            queue(&stage, &person, Some(&fresh(&stage)), Some(&answer::text("Hello"))).await.unwrap();
            for _ in 0..5 {
                drain(&stage).await;
                stage.advance(2);
            }
            let (now, ended) = (calls(&stage), state(&stage).await);
            assert_eq!(ended.0, *expected, "{answers:?}");
            assert_eq!((now.0 - before.0, now.1 - before.1), (*replies, *pushes), "{answers:?}");
            assert_eq!(ended.1, *replies as i64, "{answers:?}");
            if let ("failed" | "unknown", Some(Answer::Json(_, body))) = (*expected, answers.last()) {
                assert!(ended.2.contains(body["message"].as_str().unwrap()), "LINE's words are kept: {}", ended.2);
            }
            // What has ended stays so, whoever runs the job again.
            let id = &stage.texts("SELECT id FROM answers").await[0];
            assert_eq!(answer::send(&stage.app, id).await.unwrap(), Outcome::Done);
            drain(&stage).await;
            assert_eq!((calls(&stage), state(&stage).await.0.as_str()), (now, *expected));
            stage.execute("DELETE FROM answers").await;
        }
    }
}

#[tokio::test]
async fn a_refused_token_is_followed_by_one_push_through_the_outbox() {
    for stage in stages("").await {
        let user_id = stage.link("aiko", None).await;
        // Whoever wrote is answered, linked or not.
        stage.execute("UPDATE links SET ended_at = 1").await;
        stage.line.script(REPLY, bad_token());
        queue(&stage, "aiko", Some(&fresh(&stage)), Some(&answer::text("Hello"))).await.unwrap();
        drain(&stage).await;
        let pushed = &stage.line.calls(PUSH)[0];
        assert_eq!(pushed.json(), json!({ "to": user_id, "messages": [{ "type": "text", "text": "Hello" }] }));
        assert_ne!(pushed.header("x-line-retry-key"), "");
        assert!(stage.texts("SELECT line_request_id FROM answers").await[0].starts_with("request-"));
        let same = "SELECT CAST(COUNT(*) AS BIGINT) FROM answers a JOIN messages m ON m.id = a.message_id
             JOIN deliveries d ON d.message_id = m.id
             WHERE a.state = 'pushed' AND m.cause = 'keyword' AND d.state = 'sent' AND d.link_id IS NULL";
        assert_eq!(number(&stage, same).await, 1);
    }
}

#[tokio::test]
async fn without_a_living_token_it_is_pushed() {
    for stage in stages("").await {
        for person in ["aiko", "late", "none"] {
            stage.link(person, None).await;
        }
        let token = fresh(&stage);
        queue(&stage, "late", Some(&token), Some(&answer::text("late"))).await.unwrap();
        stage.clock.advance(LIFE);
        queue(&stage, "none", None, Some(&answer::text("none"))).await.unwrap();
        drain(&stage).await;
        assert_eq!(calls(&stage), (0, 2));
        // The content came too late for its token.
        let token = fresh(&stage);
        let id = queue(&stage, "aiko", Some(&token), None).await.unwrap();
        drain(&stage).await;
        assert_eq!(answer::send(&stage.app, &id).await.unwrap(), Outcome::Done, "it waits for its content");
        stage.clock.advance(LIFE);
        let mut tx = stage.app.db.begin().await.unwrap();
        for text in ["first", "second"] {
            answer::fill(&mut tx, &stage.app, &id, &answer::text(text)).await.unwrap();
        }
        tx.commit().await.unwrap();
        drain(&stage).await;
        assert_eq!(calls(&stage), (0, 3), "once");
        assert_eq!(stage.line.calls(PUSH)[2].json()["messages"][0]["text"], "first");
    }
}

#[tokio::test]
async fn line_away_is_a_push_when_the_token_is_over() {
    for stage in stages("").await {
        stage.link("aiko", None).await;
        stage.line.script(TOKEN, error(503, "later"));
        queue(&stage, "aiko", Some(&fresh(&stage)), Some(&answer::text("Hello"))).await.unwrap();
        drain(&stage).await;
        assert_eq!((state(&stage).await.0.as_str(), calls(&stage)), ("waiting", (0, 0)), "no reply is begun");
        for _ in 0..30 {
            stage.line.script(REPLY, error(429, "The API rate limit has been exceeded. Try again later."));
        }
        for _ in 0..70 {
            stage.advance(1);
            drain(&stage).await;
        }
        assert_eq!(state(&stage).await.0, "pushed");
        let (replies, pushes) = calls(&stage);
        assert!((3..20).contains(&replies) && pushes == 1, "{replies} {pushes}");
    }
}

/// The process dies between the claim and the end of a reply.
#[tokio::test]
async fn a_reply_found_again_is_in_doubt() {
    for stage in stages("").await {
        // (whether the token still lives, LINE's answer to the repeat, state, replies, pushes)
        for (lives, answer, expected, replies, pushes) in [
            (true, Answer::Json(200, json!({})), "replied", 1, 0),
            (true, bad_token(), "unknown", 1, 0),
            (true, error(500, "no"), "unknown", 1, 0),
            (false, Answer::Json(200, json!({})), "unknown", 0, 0),
        ] {
            let before = calls(&stage);
            let person = format!("{expected}-{lives}-{}", before.0);
            stage.link(&person, None).await;
            queue(&stage, &person, Some(&fresh(&stage)), Some(&answer::text("Hello"))).await.unwrap();
            stage.execute("UPDATE answers SET state = 'replying', attempts = 1").await;
            if lives {
                stage.line.script(REPLY, answer);
            } else {
                stage.clock.advance(LIFE);
            }
            drain(&stage).await;
            let now = calls(&stage);
            assert_eq!(state(&stage).await.0, expected, "{person}");
            assert_eq!((now.0 - before.0, now.1 - before.1), (replies, pushes), "{person}");
            stage.execute("DELETE FROM answers").await;
        }
    }
}

/// A run that lost its lease comes back after another one took the answer.
#[tokio::test]
async fn of_two_claims_the_later_one_tells() {
    for stage in stages("").await {
        stage.link("aiko", None).await;
        let id = queue(&stage, "aiko", Some(&fresh(&stage)), Some(&answer::text("Hello"))).await.unwrap();
        stage.line.script(REPLY, Answer::Hang);
        let (app, slow) = (stage.app.clone(), id.clone());
        let slow = tokio::spawn(async move { answer::send(&app, &slow).await });
        stage.line.wait_for_calls(REPLY, 1).await;
        stage.line.script(REPLY, bad_token());
        assert_eq!(answer::send(&stage.app, &id).await.unwrap(), Outcome::Done);
        assert_eq!(state(&stage).await.0, "unknown", "never a push: the first may have been taken");
        stage.line.release();
        let outcome = slow.await.unwrap().unwrap();
        assert!(matches!(outcome, Outcome::Retry { .. }), "the job is not over by this run's word: {outcome:?}");
        assert_eq!((state(&stage).await.0.as_str(), calls(&stage)), ("unknown", (2, 0)));
    }
}

/// One person writes without end: replies and pushes to them are bounded, and nobody else's are.
#[tokio::test]
async fn w22_who_floods_is_answered_so_often_and_no_more() {
    for stage in stages("").await {
        stage.link("aiko", None).await;
        stage.link("mallory", None).await;
        let mut queued = 0;
        for _ in 0..60 {
            for _ in 0..20 {
                let token = Reply { token: "dead".into(), until: stage.app.now() };
                queued += usize::from(queue(&stage, "mallory", Some(&token), Some(&answer::text("?"))).await.is_some());
            }
            drain(&stage).await;
            stage.advance(59);
        }
        assert_eq!(queued, 60, "in an hour");
        assert_eq!(calls(&stage), (0, 5), "and five pushes");
        let refused =
            "SELECT CAST(COUNT(*) AS BIGINT) FROM answers WHERE state = 'failed' AND note = 'too_many_pushes'";
        assert_eq!(number(&stage, refused).await, 55);
        queue(&stage, "aiko", None, Some(&answer::text("Hello"))).await.unwrap();
        drain(&stage).await;
        assert_eq!(calls(&stage), (0, 6));
        // And within one minute ten.
        stage.advance(3600);
        for round in 1..=2 {
            let mut queued = 0;
            for _ in 0..15 {
                queued += usize::from(queue(&stage, "mallory", None, Some(&answer::text("?"))).await.is_some());
            }
            assert_eq!(queued, 10, "{round}");
            stage.advance(61);
        }
        drain(&stage).await;
        assert_eq!(calls(&stage), (0, 11));
    }
}

#[tokio::test]
async fn people_are_answered_in_their_language() {
    for stage in stages("").await {
        stage.link("aiko", None).await;
        let say = async |locale: &str, language: &str, linked: bool| {
            let mut tx = stage.app.db.begin().await.unwrap();
            for (statement, value) in [
                ("UPDATE members SET locale = $1", Some(locale).filter(|locale| !locale.is_empty())),
                ("UPDATE line_users SET language = $1", Some(language).filter(|language| !language.is_empty())),
                ("UPDATE links SET ended_at = CAST($1 AS BIGINT)", (!linked).then_some("1")),
            ] {
                sqlx::query(statement).bind(value).execute(&mut *tx).await.unwrap();
            }
            let found = answer::language(&mut tx, &stage.app, "aiko").await.unwrap();
            tx.commit().await.unwrap();
            found
        };
        for (locale, language, linked, expected) in [
            ("en", "ja", true, "en"),
            ("en", "ja", false, "ja"),
            ("", "zh-Hant", true, "zh-TW"),
            ("", "zh-HK", true, "zh-TW"),
            ("", "th", true, "th"),
            ("", "fr", true, "ja"),
            ("fr", "th", true, "th"),
            ("", "", true, "ja"),
        ] {
            assert_eq!(say(locale, language, linked).await, expected, "{locale} {language} {linked}");
        }
        say("", "th", true).await;
        let mut tx = stage.app.db.begin().await.unwrap();
        let token = fresh(&stage);
        let new = New { channel: "shop", line_user_id: "aiko", cause: "greeting", reply: Some(&token) };
        let data = json!({ "company": "Tsubaki Coffee" });
        answer::say(&mut tx, &stage.app, new, "greeting", &data).await.unwrap().unwrap();
        let since = stage.app.now().minus(Duration::from_secs(600));
        for (channel, cause, expected) in
            [("shop", "greeting", true), ("shop", "default", false), ("x", "greeting", false)]
        {
            let given = answer::was_given(&mut tx, channel, "aiko", cause, since).await.unwrap();
            assert_eq!(given, expected, "{channel} {cause}");
        }
        tx.commit().await.unwrap();
        drain(&stage).await;
        let messages: Value = stage.line.calls(REPLY)[0].json()["messages"].clone();
        assert!(messages[0]["text"].as_str().unwrap().starts_with("ขอบคุณที่เพิ่ม Tsubaki Coffee"), "{messages}");
    }
}

/// A known non-friend who wrote may be answered; who blocked afterwards may not.
#[tokio::test]
async fn who_wrote_is_reachable_for_a_week() {
    for stage in stages("").await {
        // (name, friend, hours since they wrote, pushed)
        for (name, friend, wrote, pushed) in [
            ("friend", Some("yes"), None, 1),
            ("unknown", None, None, 1),
            ("never", Some("no"), None, 0),
            ("wrote", Some("no"), Some(0), 1),
            ("blocked", Some("no"), Some(2), 0),
        ] {
            let user_id = stage.link(name, friend).await;
            if let Some(hours) = wrote {
                let at = stage.app.now().plus_signed(1000 - hours * 3_600_000);
                sqlx::query(
                    "INSERT INTO chat_messages (channel, id, chat, line_user_id, event_id, kind, text, data, at)
                     VALUES ('shop', $1, $2, $1, $1, 'text', '', '{}', $3)",
                )
                .bind(name)
                .bind(user_id)
                .bind(at)
                .execute(&mut *stage.app.db.conn().await.unwrap())
                .await
                .unwrap();
            }
            let before = calls(&stage).1;
            queue(&stage, name, None, Some(&answer::text("Hello"))).await.unwrap();
            drain(&stage).await;
            assert_eq!(calls(&stage).1 - before, pushed, "{name}");
        }
        let open = "SELECT CAST(COUNT(*) AS BIGINT) FROM deliveries WHERE state NOT IN ('sent', 'cancelled')";
        assert_eq!(number(&stage, open).await, 0);
    }
}

/// What waits in a database that was put back may have been said since, and its token used.
#[tokio::test]
async fn x15_answers_of_a_restored_database_are_held_too() {
    for stage in stages("").await {
        stage.link("aiko", Some("yes")).await;
        let reply = fresh(&stage);
        let words = answer::text("You are linked.");
        for (cause, content) in [("linked", Some(&*words)), ("offer", None), ("status", Some(&*words))] {
            queue_for(&stage, cause, "aiko", Some(&reply), content).await.unwrap();
        }
        for _ in 0..2 {
            hold::at_start(&stage.app, true).await.unwrap();
            drain(&stage).await;
            assert_eq!(calls(&stage), (0, 0));
        }
        let answers = "SELECT cause || ' ' || state || ' ' || COALESCE(note, '-') FROM answers ORDER BY cause";
        assert_eq!(stage.texts(answers).await, ["linked pushed -", "offer failed put_back", "status failed put_back"]);

        let held = hold::list(&mut stage.app.db.conn().await.unwrap(), "", 10).await.unwrap();
        assert_eq!((held.len(), held[0].cause.as_str(), held[0].waiting), (1, "linked", 1));
        assert!(hold::decide(&stage.app, &held[0].message_id, Verdict::Release).await.unwrap());
        drain(&stage).await;
        assert_eq!(calls(&stage), (0, 1));
    }
}
