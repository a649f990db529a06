//! LINE's webhooks, from the signature to the effect.

use std::{
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll},
};

use aws_lc_rs::hmac;
use axum::{
    body::{Body, Bytes},
    http::{Method, Request, StatusCode},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::body::Frame;
use serde_json::{Value, json};
use tower::ServiceExt;

use musubi::{webhook::command, worker};

use crate::support::{Answer, BOT_CHANNEL, BOT_SECRET, LOGIN_SECRET, TestApp, both_engines, read};

const USER: &str = "U0123456789abcdef0123456789abcdef";
/// The official account, as the simulator names it.
const BOT: &str = "U00000000000000000000001000000002";
const OTHER: &str = "Uffffffffffffffffffffffffffffffff";

/// Signs as LINE does.
pub fn sign(secret: &str, body: &[u8]) -> String {
    STANDARD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body))
}

/// Posts a body with these headers.
pub async fn post(app: &TestApp, body: impl Into<Vec<u8>>, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(Method::POST).uri("/webhook/main");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    read(app.router.clone().oneshot(request.body(Body::from(body.into())).unwrap()).await.unwrap()).await
}

/// Posts a body as LINE signs it.
pub async fn signed(app: &TestApp, body: impl Into<Vec<u8>>) -> Answer {
    let body = body.into();
    let signature = sign(BOT_SECRET, &body);
    post(app, body, &[("x-line-signature", &signature)]).await
}

/// An id in the form of LINE's, new each time.
pub fn event_id() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    format!("01TEST{:020}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// A person's text message, complete but for the reply token.
pub fn text_event(app: &TestApp, user: &str, text: &str) -> Value {
    let id = event_id();
    json!({
        "type": "message", "mode": "active", "timestamp": app.app.now().0,
        "source": { "type": "user", "userId": user }, "webhookEventId": id,
        "deliveryContext": { "isRedelivery": false },
        "message": { "type": "text", "id": &id[10..], "quoteToken": "q", "text": text },
    })
}

pub fn envelope(events: &[Value]) -> String {
    json!({ "destination": BOT, "events": events }).to_string()
}

/// `state note` of every event, by id.
pub async fn events(app: &TestApp) -> Vec<String> {
    let rows: Vec<(String, Option<String>)> = sqlx::query_as("SELECT state, note FROM events ORDER BY id")
        .fetch_all(&mut *app.app.db.conn().await.unwrap())
        .await
        .unwrap();
    rows.into_iter().map(|(state, note)| format!("{state} {}", note.unwrap_or_default()).trim().to_owned()).collect()
}

both_engines! {
    async fn a_message_is_answered_in_the_chat(app) {
        let user = app.line_user("Aiko").await;
        app.does(&user, "follow", json!({})).await;
        app.say(&user, "what can I do here?").await;
        app.drain().await;
        let chat = app.phone(&user).await;
        let texts: Vec<&Value> = chat["messages"].as_array().unwrap().iter().collect();
        assert_eq!(texts.len(), 3, "{chat}");
        assert_eq!(events(app).await, ["done", "done"]);
        let calls = app.calls_to("/v2/bot/message/reply").await;
        assert_eq!(calls.len(), 2, "answered without cost");
    }
}

/// A body that never ends.
struct Endless;

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 4096])))))
    }
}

async fn channel_token(app: &TestApp) -> String {
    let token = musubi::channel::token(&app.app, musubi::channel::Kind::Bot("main")).await.unwrap();
    secrecy::ExposeSecret::expose_secret(&token).to_owned()
}

/// Posts signed bodies side by side; their statuses.
pub async fn many_at_once(app: &TestApp, bodies: Vec<String>) -> Vec<u16> {
    let mut running = tokio::task::JoinSet::new();
    for body in bodies {
        let signature = sign(BOT_SECRET, body.as_bytes());
        let request =
            Request::builder().method(Method::POST).uri("/webhook/main").header("x-line-signature", signature);
        let answering = app.router.clone().oneshot(request.body(Body::from(body)).unwrap());
        running.spawn(async move { answering.await.unwrap().status().as_u16() });
    }
    running.join_all().await
}

/// Nothing stored, nothing recorded but what `may_change`, no call to LINE; `word` is the whole answer.
async fn refused(app: &TestApp, body: impl Into<Vec<u8>>, headers: &[(&str, &str)], status: u16, word: &str) {
    let (before, calls) = (app.dump(&[]).await, app.calls().await.len());
    let answer = post(app, body, headers).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (status, word));
    assert_eq!(app.dump(&[]).await, before, "nothing is changed");
    assert_eq!(app.calls().await.len(), calls, "LINE is not asked");
}

async fn count(app: &TestApp, table: &'static str) -> i64 {
    app.count(match table {
        "events" => "SELECT CAST(COUNT(*) AS BIGINT) FROM events",
        "bodies" => "SELECT CAST(COUNT(*) AS BIGINT) FROM webhook_bodies",
        "copies" => "SELECT CAST(COUNT(*) AS BIGINT) FROM event_copies",
        _ => panic!("{table}"),
    })
    .await
}

both_engines! {
    async fn w01_without_a_signature_nothing_is_read(app) {
        let good = envelope(&[text_event(app, USER, "hi")]);
        let signature = sign(BOT_SECRET, good.as_bytes());
        refused(app, good.clone(), &[], 401, "bad_signature").await;
        refused(app, "not json at all", &[], 401, "bad_signature").await;
        let twice = [("x-line-signature", signature.as_str()), ("x-line-signature", signature.as_str())];
        refused(app, good.clone(), &twice, 401, "bad_signature").await;
        for odd in ["", " ", "x", &signature[1..], &format!("{signature} "), &format!("\"{signature}\""), "\u{e9}"] {
            refused(app, good.clone(), &[("x-line-signature", odd)], 401, "bad_signature").await;
        }
        refused(app, good.clone(), &[("x-line-signature2", &signature)], 401, "bad_signature").await;
        let answer = post(app, good, &[("X-Line-Signature", &signature)]).await;
        assert_eq!(answer.status, StatusCode::OK, "the header's case may change");
    }

    async fn w02_every_bit_of_the_signature_counts(app) {
        let good = envelope(&[text_event(app, USER, "hi")]);
        let mac = STANDARD.decode(sign(BOT_SECRET, good.as_bytes())).unwrap();
        let before = app.dump(&[]).await;
        for bit in 0..256 {
            let mut flipped = mac.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let answer = post(app, good.clone(), &[("x-line-signature", &STANDARD.encode(flipped))]).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "bit {bit}");
        }
        let token = channel_token(app).await;
        for secret in [LOGIN_SECRET, &token, BOT_CHANNEL, "", &BOT_SECRET.to_uppercase(), &BOT_SECRET[..31]] {
            let answer = post(app, good.clone(), &[("x-line-signature", &sign(secret, good.as_bytes()))]).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{secret}");
        }
        let decoded: Vec<u8> = (0..16).map(|i| u8::from_str_radix(&BOT_SECRET[2 * i..2 * i + 2], 16).unwrap()).collect();
        let by_bytes = STANDARD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &decoded), good.as_bytes()));
        assert_eq!(post(app, good, &[("x-line-signature", &by_bytes)]).await.status, StatusCode::UNAUTHORIZED);
        let mut after = app.dump(&[]).await;
        after.retain(|row| !before.contains(row));
        assert!(after.is_empty(), "{after:?}");
    }

    async fn w04_an_altered_body_is_refused(app) {
        let good = envelope(&[text_event(app, USER, "あ")]);
        let signature = sign(BOT_SECRET, good.as_bytes());
        let (destination, events) = good.split_once(",\"events\"").unwrap();
        let altered = [
            good.replace("hi", "ho") + " ",
            good.replace(':', ": "),
            format!("\u{feff}{good}"),
            good.replace('あ', "\\u3042"),
            format!("{{\"events\"{},{}}}", &events[..events.len() - 1], &destination[1..]),
            good[..good.len() - 1].to_owned(),
            String::new(),
        ];
        for altered in altered {
            refused(app, altered, &[("x-line-signature", &signature)], 401, "bad_signature").await;
        }
    }

    async fn w06_what_is_signed_and_no_webhook(app) {
        for odd in ["", "null", "[]", "{}", "1", "{\"events\":{}}", "{\"events\":[]", "\u{feff}{\"events\":[]}"] {
            let before = app.dump(&["audit"]).await;
            let answer = signed(app, odd).await;
            assert_eq!((answer.status.as_u16(), answer.body.as_str()), (400, "unreadable"), "{odd}");
            assert_eq!(app.dump(&["audit"]).await, before);
        }
        assert_eq!(app.audit().await, ["webhook_refused/unreadable"; 8]);
        let before = app.dump(&[]).await;
        for empty in ["{\"events\":[]}", "{\"destination\":\"U00000000000000000000000000000001\",\"events\":[]}"] {
            let answer = signed(app, empty).await;
            assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "empty"), "the console's Verify");
        }
        assert_eq!(app.dump(&[]).await, before);
    }

    async fn w09_a_giant_body_is_refused_at_the_limit(app) {
        let filler = "x".repeat(2 * 1024 * 1024);
        let big = format!("{{\"events\":[],\"x\":\"{}\"}}", &filler[..2 * 1024 * 1024 - 21]);
        assert_eq!(big.len(), 2 * 1024 * 1024 - 1 + 1 - 1, "{}", big.len());
        assert_eq!(signed(app, big).await.status, StatusCode::OK, "at the limit");
        let signature = sign(BOT_SECRET, b"");
        refused(app, filler.clone() + "x", &[("x-line-signature", &signature)], 413, "too_large").await;
        let pieces = Body::new(Endless);
        let request = Request::builder().method(Method::POST).uri("/webhook/main").header("x-line-signature", &signature);
        let answer = read(app.router.clone().oneshot(request.body(pieces).unwrap()).await.unwrap()).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (413, "too_large"), "however long it goes on");
    }

    async fn w12_duplicates_are_stored_and_handled_once(app) {
        let event = text_event(app, USER, "hi");
        let first = envelope(&[event.clone(), event.clone()]);
        assert_eq!(signed(app, first.clone()).await.status, StatusCode::OK);
        assert_eq!(signed(app, first.clone()).await.status, StatusCode::OK, "a second body");
        let mut again = event.clone();
        again["deliveryContext"]["isRedelivery"] = true.into();
        let statuses = many_at_once(app, vec![envelope(&[again]); 50]).await;
        assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
        assert_eq!(count(app, "events").await, 1);
        assert_eq!(count(app, "copies").await, 51, "and it is known which bodies hold it");
        app.drain().await;
        assert_eq!(events(app).await, ["done"]);
        assert_eq!(app.count("SELECT attempts FROM events").await, 1);
    }

    async fn w16_whatever_line_adds_is_stored_and_skipped(app) {
        let odd = |edit: &dyn Fn(&mut Value)| {
            let mut event = text_event(app, USER, "hi");
            edit(&mut event);
            event
        };
        let list = [
            odd(&|event| event["type"] = "teleport".into()),
            odd(&|event| { event["type"] = "follow".into(); event["source"] = Value::Null; }),
            odd(&|event| event["type"] = 7.into()),
            odd(&|event| event["mode"] = "twilight".into()),
            odd(&|event| event["brandNew"] = json!({ "deep": [1, [2, [3]]] })),
            odd(&|event| event["message"] = json!({ "id": "5", "type": "hologram", "x": 1 })),
            odd(&|event| event["message"] = Value::Null),
            odd(&|event| event["source"] = json!({ "type": "planet", "planetId": "X" })),
            odd(&|event| { event.as_object_mut().unwrap().remove("webhookEventId"); }),
            odd(&|event| event["timestamp"] = "soon".into()),
            json!("text"),
            Value::Null,
        ];
        assert_eq!(signed(app, envelope(&list)).await.status, StatusCode::OK);
        assert_eq!(count(app, "events").await, 12, "all are stored");
        app.drain().await;
        let mut states = events(app).await;
        states.sort();
        let expected = [
            "done",
            "done",
            "done",
            "ignored no_chat",
            "ignored no_chat",
            "ignored no_id_or_time",
            "ignored no_id_or_time",
            "ignored no_id_or_time",
            "ignored no_id_or_time",
            "ignored no_id_or_time",
            "ignored no_user",
            "ignored unknown_type",
        ];
        assert_eq!(states, expected);
    }

    async fn w18_nul_and_half_surrogates_hurt_nobody(app) {
        let with = |text: &str| envelope(&[text_event(app, USER, "TEXT")]).replace("TEXT", text);
        for text in ["\\u0000", "a\\u0000b", "\\ud800", "\\udc00\\ud800", "\u{202e}\\u001b[31m"] {
            assert_eq!(signed(app, with(text)).await.status, StatusCode::OK, "{text}");
        }
        let mut bad = with("x").into_bytes();
        let place = bad.iter().position(|byte| *byte == b'x').unwrap();
        bad[place] = 0xff;
        assert_eq!(signed(app, bad).await.status, StatusCode::BAD_REQUEST, "no UTF-8 is no JSON");
        app.drain().await;
        assert_eq!(events(app).await, ["done", "done", "ignored unreadable", "ignored unreadable", "done"]);
        let raw = app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM webhook_bodies WHERE signature <> ''").await;
        assert_eq!(raw, 5, "all are kept as received");
    }

    async fn w19_a_big_batch_is_one_commit(app) {
        let many: Vec<Value> = (0..4000).map(|_| text_event(app, USER, "x")).collect();
        assert_eq!(signed(app, envelope(&many)).await.status, StatusCode::OK);
        assert_eq!(count(app, "events").await, 4000);
        assert_eq!(app.count("SELECT CAST(COUNT(DISTINCT body_id) AS BIGINT) FROM events").await, 1);
    }

    async fn w20_another_bots_events_are_kept_and_not_handled(app) {
        app.app.db.conn().await.unwrap();
        musubi::channel::bot::learn(&app.app, "main").await.unwrap();
        let other = envelope(&[text_event(app, USER, "hi")]).replace(BOT, OTHER);
        assert_eq!(signed(app, other).await.status, StatusCode::OK);
        app.drain().await;
        assert_eq!(events(app).await, ["ignored other_destination"]);
        assert_eq!(app.audit().await, ["event_ignored/other_destination"]);
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM chat_messages").await, 0);
    }

    async fn w21_a_replay_after_the_ids_are_forgotten_has_no_effect(app) {
        let captured = envelope(&[text_event(app, USER, "hi")]);
        assert_eq!(signed(app, captured.clone()).await.status, StatusCode::OK);
        app.drain().await;
        app.clock.advance(std::time::Duration::from_secs(40 * 24 * 3600));
        while worker::prune(&app.app, "test").await.unwrap() > 0 {}
        assert_eq!((count(app, "events").await, count(app, "bodies").await), (0, 0), "past their time");
        let calls = app.calls().await.len();
        assert_eq!(signed(app, captured).await.status, StatusCode::OK);
        app.drain().await;
        assert_eq!(events(app).await, ["parked too_old"]);
        assert_eq!(app.calls().await.len(), calls);
        assert_eq!(command::retry(&app.app, None).await.unwrap(), 0, "and cannot be retried");
    }
}
