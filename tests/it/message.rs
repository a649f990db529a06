//! The outbox: what LINE answers, and what becomes of a delivery and its request.

use musubi::message::{self, Counts, New, Tie, To};
use serde_json::json;

use super::stub::{Answer, Call, Stage, stages};

const PUSH: &str = "POST /v2/bot/message/push";
const TOKEN: &str = "POST /oauth2/v3/token";
const WAIT: u64 = 31;

/// Accepts a welcome for the link `name`.
async fn send(stage: &Stage, name: &str) -> String {
    let url = "https://members.example.jp/account";
    let data = json!({ "name": "愛子 \"A\" {{x}}", "company": "Tsubaki", "account_url": url });
    let to = To { line_user_id: name, link: Some(Tie { member_id: name, link_id: name }) };
    let new = New { channel: "shop", template: "welcome", locale: "ja", data: &data, cause: "linked", topic: None, to };
    let mut tx = stage.app.db.begin().await.unwrap();
    let id = message::send(&mut tx, &stage.app, new).await.unwrap();
    tx.commit().await.unwrap();
    id
}

/// One round of the sender, with what holds at every moment.
async fn deliver(stage: &Stage) -> usize {
    let made = message::deliver(&stage.app, "shop", "node-1").await.unwrap();
    for id in stage.texts("SELECT id FROM messages").await {
        assert!(counts(stage, &id).await.add_up(), "{id}");
    }
    made
}

async fn counts(stage: &Stage, id: &str) -> Counts {
    message::counts(&mut stage.app.db.conn().await.unwrap(), id).await.unwrap().unwrap()
}

async fn requests(stage: &Stage) -> Vec<String> {
    stage.texts("SELECT state FROM requests ORDER BY id").await
}

fn same(one: &Call, other: &Call) -> bool {
    !one.header("x-line-retry-key").is_empty()
        && one.header("x-line-retry-key") == other.header("x-line-retry-key")
        && one.body == other.body
}

const ONE: Counts = Counts { accepted: 1, waiting: 0, sending: 0, sent: 0, failed: 0, unknown: 0, cancelled: 0 };
const WAITING: Counts = Counts { waiting: 1, ..ONE };
const SENDING: Counts = Counts { sending: 1, ..ONE };
const SENT: Counts = Counts { sent: 1, ..ONE };
const FAILED: Counts = Counts { failed: 1, ..ONE };
const UNKNOWN: Counts = Counts { unknown: 1, ..ONE };
const CANCELLED: Counts = Counts { cancelled: 1, ..ONE };

fn error(status: u16, message: &str) -> Answer {
    Answer::Json(status, json!({ "message": message }))
}

#[tokio::test]
async fn accepted_is_sent() {
    for stage in stages("").await {
        let user_id = stage.link("aiko", Some("unknown")).await;
        let id = send(&stage, "aiko").await;
        assert_eq!(counts(&stage, &id).await, WAITING);
        stage.line.script(PUSH, Answer::Json(200, json!({ "sentMessages": [{ "id": "461230966842064897" }] })));
        assert_eq!(deliver(&stage).await, 1);
        assert_eq!(counts(&stage, &id).await, SENT);
        assert_eq!(deliver(&stage).await, 0);
        let [push] = &stage.line.calls(PUSH)[..] else { panic!("one push") };
        assert_eq!(push.json()["to"], json!(user_id));
        assert!(push.json()["messages"][0].to_string().contains(r#"愛子 \"A\" {{x}}"#));
        assert!(push.header("authorization").starts_with("Bearer token-"));
        assert_eq!(stage.texts("SELECT sent_message_ids FROM requests").await, [r#"["461230966842064897"]"#]);
        assert_eq!(stage.texts("SELECT state FROM requests WHERE line_request_id LIKE 'request-%'").await, ["sent"]);
    }
}

#[tokio::test]
async fn a_key_that_line_knows_is_sent() {
    for stage in stages("").await {
        stage.link("aiko", None).await;
        let id = send(&stage, "aiko").await;
        let headers = &[("x-line-accepted-request-id", "earlier")];
        let body = json!({ "message": "The retry key is already accepted", "sentMessages": [{ "id": "7" }] });
        stage.line.script(PUSH, Answer::With(409, headers, body));
        deliver(&stage).await;
        assert_eq!(counts(&stage, &id).await, SENT);
        assert_eq!(stage.texts("SELECT accepted_request_id FROM requests").await, ["earlier"]);
        assert_eq!(stage.texts("SELECT sent_message_ids FROM requests").await, [r#"["7"]"#]);
    }
}

#[tokio::test]
async fn an_open_outcome_keeps_key_and_body() {
    for stage in stages("").await {
        for answer in [error(500, "oops"), error(503, ""), Answer::Cut] {
            let name = format!("aiko-{}", stage.line.calls(PUSH).len());
            stage.link(&name, None).await;
            let id = send(&stage, &name).await;
            let before = stage.line.calls(PUSH).len();
            stage.line.script(PUSH, answer.clone());
            assert_eq!(deliver(&stage).await, 1, "{answer:?}");
            assert_eq!(counts(&stage, &id).await, SENDING, "{answer:?}");
            assert_eq!(deliver(&stage).await, 0, "not before its time");
            stage.advance(WAIT);
            stage.line.script(PUSH, error(409, "The retry key is already accepted"));
            assert_eq!(deliver(&stage).await, 1, "{answer:?}");
            assert_eq!(counts(&stage, &id).await, SENT, "{answer:?}");
            let pushes = stage.line.calls(PUSH).split_off(before);
            assert_eq!(pushes.len(), 2);
            assert!(same(&pushes[0], &pushes[1]), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn a_sender_that_dies_leaves_an_open_request() {
    for stage in stages("").await {
        stage.link("aiko", None).await;
        let id = send(&stage, "aiko").await;
        stage.line.script(PUSH, Answer::Hang);
        let app = stage.app.clone();
        let sender = tokio::spawn(async move { message::deliver(&app, "shop", "node-1").await });
        stage.line.wait_for_calls(PUSH, 1).await;
        sender.abort();
        assert!(sender.await.unwrap_err().is_cancelled());
        assert_eq!(counts(&stage, &id).await, SENDING);
        assert_eq!(deliver(&stage).await, 0, "it may still be in flight");
        stage.advance(WAIT);
        assert_eq!(deliver(&stage).await, 1);
        assert_eq!(counts(&stage, &id).await, SENT);
        let pushes = stage.line.calls(PUSH);
        assert!(same(&pushes[0], &pushes[1]));
    }
}

#[tokio::test]
async fn a_result_that_comes_too_late_is_void() {
    for stage in stages("").await {
        stage.link("aiko", None).await;
        let id = send(&stage, "aiko").await;
        stage.line.script(PUSH, Answer::Hang);
        let app = stage.app.clone();
        let stalled = tokio::spawn(async move { message::deliver(&app, "shop", "node-1").await });
        stage.line.wait_for_calls(PUSH, 1).await;
        stage.line.script(PUSH, error(500, "oops"));
        stage.advance(WAIT);
        // The sender looks for what is due while LINE takes its time.
        stage.line.wait_for_calls(PUSH, 2).await;
        stage.line.release();
        assert_eq!(stalled.await.unwrap().unwrap(), 2, "claimed again");
        assert_eq!(counts(&stage, &id).await, SENDING, "the later claim owns the request");
        stage.advance(WAIT);
        assert_eq!(deliver(&stage).await, 1);
        assert_eq!(counts(&stage, &id).await, SENT);
        let pushes = stage.line.calls(PUSH);
        assert!(pushes.windows(2).all(|pair| same(&pair[0], &pair[1])));
    }
}

#[tokio::test]
async fn an_ageing_token_is_replaced_and_serves_while_line_is_away() {
    for stage in stages("").await {
        for (name, advance, tokens) in
            [("a", 0, 1), ("b", 719, 1), ("c", 2, 2), ("d", 721, 3), ("e", 9, 3), ("f", 2, 4)]
        {
            stage.link(name, None).await;
            let id = send(&stage, name).await;
            stage.advance(advance);
            if name == "d" {
                stage.line.script(TOKEN, error(500, "oops"));
            }
            assert_eq!(deliver(&stage).await, 1, "{name}");
            assert_eq!(counts(&stage, &id).await, SENT, "{name}");
            assert_eq!(stage.line.calls(TOKEN).len(), tokens, "{name}");
        }
    }
}

#[tokio::test]
async fn in_doubt_a_refusal_keeps_the_key() {
    for stage in stages("").await {
        stage.link("aiko", None).await;
        let id = send(&stage, "aiko").await;
        for answer in [Answer::Cut, error(429, "The API rate limit has been exceeded."), error(401, "")] {
            stage.line.script(PUSH, answer);
            assert_eq!(deliver(&stage).await, 1);
            assert_eq!(counts(&stage, &id).await, SENDING);
            stage.advance(WAIT);
        }
        stage.line.script(PUSH, error(400, "Failed to send messages"));
        assert_eq!(deliver(&stage).await, 1);
        assert_eq!(counts(&stage, &id).await, UNKNOWN, "the first try may have been accepted");
        let pushes = stage.line.calls(PUSH);
        assert!(pushes.windows(2).all(|pair| same(&pair[0], &pair[1])));
    }
}

#[tokio::test]
async fn too_fast_is_thawed_under_a_new_key() {
    for stage in stages("").await {
        stage.link("aiko", None).await;
        let id = send(&stage, "aiko").await;
        stage.line.script(PUSH, error(429, "The API rate limit has been exceeded. Try again later."));
        assert_eq!(deliver(&stage).await, 1);
        assert_eq!(counts(&stage, &id).await, WAITING);
        assert_eq!(deliver(&stage).await, 0, "the channel rests");
        stage.advance(WAIT);
        assert_eq!(deliver(&stage).await, 1);
        assert_eq!(counts(&stage, &id).await, SENT);
        let pushes = stage.line.calls(PUSH);
        assert_ne!(pushes[0].header("x-line-retry-key"), pushes[1].header("x-line-retry-key"));
        assert_eq!(requests(&stage).await, ["refused", "sent"]);
    }
}

#[tokio::test]
async fn the_monthly_limit_holds_the_channel_for_a_while() {
    for stage in stages("").await {
        stage.link("aiko", None).await;
        let id = send(&stage, "aiko").await;
        stage.line.script(PUSH, error(429, "You have reached your monthly limit."));
        assert_eq!(deliver(&stage).await, 1);
        assert_eq!(counts(&stage, &id).await, WAITING);
        assert!(stage.texts("SELECT note FROM deliveries").await[0].contains("monthly limit"));
        stage.link("ben", None).await;
        send(&stage, "ben").await;
        stage.advance(590);
        assert_eq!(deliver(&stage).await, 0);
        stage.advance(11);
        assert_eq!(deliver(&stage).await, 2);
        assert_eq!(counts(&stage, &id).await, SENT);
    }
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    for stage in stages("").await {
        stage.link("aiko", None).await;
        let id = send(&stage, "aiko").await;
        stage.line.script(PUSH, error(401, "Authentication failed"));
        assert_eq!(deliver(&stage).await, 1);
        assert_eq!(counts(&stage, &id).await, WAITING);
        stage.line.script(PUSH, error(401, "Authentication failed"));
        assert_eq!(deliver(&stage).await, 1, "at once, with a new token");
        assert_eq!(stage.line.calls(TOKEN).len(), 2);
        assert_eq!(deliver(&stage).await, 0, "the new one was refused too: the channel rests");
        stage.advance(61);
        assert_eq!(deliver(&stage).await, 1);
        assert_eq!(counts(&stage, &id).await, SENT);
        let pushes = stage.line.calls(PUSH);
        assert_ne!(pushes[0].header("authorization"), pushes[1].header("authorization"));
    }
}

#[tokio::test]
async fn wrong_credentials_do_not_hammer() {
    for stage in stages("").await {
        stage.link("aiko", None).await;
        let id = send(&stage, "aiko").await;
        stage.line.script(TOKEN, Answer::Json(400, json!({ "error": "invalid_client", "error_description": "no" })));
        for _ in 0..3 {
            assert_eq!(deliver(&stage).await, 0);
        }
        assert_eq!(stage.line.calls(TOKEN).len(), 1);
        assert_eq!(counts(&stage, &id).await, WAITING);
        assert!(requests(&stage).await.is_empty());
        stage.advance(61);
        assert_eq!(deliver(&stage).await, 1);
        assert_eq!(counts(&stage, &id).await, SENT);
    }
}

#[tokio::test]
async fn a_refusal_is_final_and_blocks_nobody() {
    for stage in stages("").await {
        stage.link("aiko", None).await;
        stage.link("ben", None).await;
        let (one, other) = (send(&stage, "aiko").await, send(&stage, "ben").await);
        stage.line.script(PUSH, error(400, "The request body has 1 error(s)"));
        assert_eq!(deliver(&stage).await, 2);
        let both = [counts(&stage, &one).await, counts(&stage, &other).await];
        assert!(both.contains(&FAILED) && both.contains(&SENT), "{both:?}");
        stage.advance(24 * 3600);
        assert_eq!(deliver(&stage).await, 0);
        let notes = stage.texts("SELECT note FROM deliveries WHERE state = 'failed'").await;
        assert!(notes[0].contains("The request body has 1 error(s)"), "{notes:?}");
        let named = stage.texts("SELECT line_request_id FROM requests WHERE state = 'failed'").await;
        assert!(named[0].starts_with("request-") && notes[0].contains(&named[0]), "{named:?} {notes:?}");
    }
}

#[tokio::test]
async fn a_day_without_an_answer_is_unknown() {
    for stage in stages("").await {
        stage.link("aiko", None).await;
        let id = send(&stage, "aiko").await;
        stage.line.script(PUSH, error(500, "oops"));
        deliver(&stage).await;
        stage.advance(23 * 3600);
        stage.line.script(PUSH, error(500, "oops"));
        assert_eq!(deliver(&stage).await, 1, "still the same key");
        stage.advance(31 * 60);
        assert_eq!(deliver(&stage).await, 0);
        assert_eq!(counts(&stage, &id).await, UNKNOWN);
        stage.advance(2 * 3600);
        assert_eq!(deliver(&stage).await, 0);
        let pushes = stage.line.calls(PUSH);
        assert_eq!(pushes.len(), 2);
        assert!(same(&pushes[0], &pushes[1]));
        assert_eq!(requests(&stage).await, ["unknown"]);
    }
}

#[tokio::test]
async fn who_may_not_be_sent_to_is_cancelled_at_the_claim() {
    for stage in stages("").await {
        for (name, friend) in [("ended", None), ("held", None), ("off", None), ("blocked", Some("no"))] {
            stage.link(name, friend).await;
            send(&stage, name).await;
        }
        stage.execute("UPDATE links SET ended_at = 1 WHERE id = 'ended'").await;
        stage.execute("UPDATE links SET suspended_at = 1 WHERE id = 'held'").await;
        stage.execute("UPDATE members SET disabled_at = 1 WHERE id = 'off'").await;
        assert_eq!(deliver(&stage).await, 0);
        let reasons = stage.texts("SELECT reason FROM deliveries WHERE state = 'cancelled' ORDER BY link_id").await;
        assert_eq!(reasons, ["not_reachable", "unlinked", "suspended", "member_disabled"]);
        assert!(stage.line.calls(PUSH).is_empty());
    }
}

#[tokio::test]
async fn an_unlink_cancels_what_waits_and_marks_what_is_on_its_way() {
    for stage in stages("").await {
        stage.link("aiko", None).await;
        let flying = send(&stage, "aiko").await;
        stage.line.script(PUSH, error(500, "oops"));
        deliver(&stage).await;
        let waiting = send(&stage, "aiko").await;
        let mut tx = stage.app.db.begin().await.unwrap();
        assert_eq!(message::cancel_waiting(&mut tx, stage.app.now(), "aiko").await.unwrap(), 1);
        tx.commit().await.unwrap();
        assert_eq!(counts(&stage, &waiting).await, CANCELLED);
        stage.advance(WAIT);
        assert_eq!(deliver(&stage).await, 1);
        assert_eq!(counts(&stage, &flying).await, SENT);
        assert_eq!(stage.texts("SELECT reason FROM deliveries WHERE state = 'sent'").await, ["in_flight_at_unlink"]);
    }
}

#[tokio::test]
async fn two_nodes_send_once() {
    for stage in stages("").await {
        let names: Vec<String> = (0..20).map(|number| format!("person-{number}")).collect();
        for name in &names {
            stage.link(name, None).await;
            send(&stage, name).await;
        }
        for _ in 0..10 {
            let (one, other) = tokio::join!(
                message::deliver(&stage.app, "shop", "node-1"),
                message::deliver(&stage.app, "shop", "node-2"),
            );
            one.unwrap();
            other.unwrap();
        }
        let mut people: Vec<String> = stage.line.calls(PUSH).iter().map(|call| call.json()["to"].to_string()).collect();
        assert_eq!(people.len(), names.len());
        people.sort();
        people.dedup();
        assert_eq!(people.len(), names.len());
        assert_eq!(stage.line.calls(TOKEN).len(), 1, "one token for all");
    }
}

#[tokio::test]
async fn what_cannot_be_rendered_is_not_accepted() {
    for stage in stages("").await {
        stage.link("aiko", None).await;
        let data = json!({});
        let to = To { line_user_id: "aiko", link: Some(Tie { member_id: "aiko", link_id: "aiko" }) };
        for (template, locale) in [("welcome", "ja"), ("welcome", "fr"), ("nothing", "ja")] {
            let new = New { channel: "shop", template, locale, data: &data, cause: "linked", topic: None, to };
            let mut tx = stage.app.db.begin().await.unwrap();
            assert!(message::send(&mut tx, &stage.app, new).await.is_err(), "{template}.{locale}");
            tx.commit().await.unwrap();
        }
        assert!(stage.texts("SELECT id FROM messages").await.is_empty());
    }
}
