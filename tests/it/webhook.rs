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

use crate::support::{
    Answer, BOT_CHANNEL, BOT_SECRET, Engine, LOGIN_SECRET, TestApp, both_engines, process::until, read,
};

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
    format!("01AA{:022}", NUMBER.fetch_add(1, Ordering::Relaxed))
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

async fn count(app: &TestApp, what: &str) -> i64 {
    app.unpack().await;
    app.count(match what {
        "events" => "SELECT CAST(COUNT(*) AS BIGINT) FROM events",
        "bodies" => "SELECT CAST(COUNT(*) AS BIGINT) FROM webhook_bodies",
        _ => "SELECT CAST(COUNT(*) AS BIGINT) FROM event_copies",
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
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM intake WHERE events = 4000").await, 1);
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

async fn texts(app: &TestApp, user: &str) -> Vec<String> {
    let chat = app.phone(user).await;
    let all = chat["messages"].as_array().unwrap().iter();
    all.filter(|message| message["from"] != "user")
        .map(|message| message["text"].as_str().unwrap_or("?").to_owned())
        .collect()
}

async fn friend(app: &TestApp) -> String {
    let mut conn = app.app.db.conn().await.unwrap();
    sqlx::query_scalar("SELECT friend FROM friends").fetch_one(&mut *conn).await.unwrap()
}

#[tokio::test]
async fn w07_an_empty_secret_does_not_start() {
    let database = "sqlite:///tmp/never-opened.db";
    let hosts = ["127.0.0.1:1".parse().unwrap(); 4];
    let good = crate::support::config_text(database, &hosts, &hosts[0]);
    for secret in ["", " ", "0000", "a"] {
        let bad = good.replace(BOT_SECRET, secret);
        let error = musubi::config::Config::parse("test", &bad, Vec::new()).unwrap_err().to_string();
        assert!(error.contains("channel.main"), "{secret:?}: {error}");
    }
}

#[tokio::test]
async fn w08_both_secrets_hold_while_one_follows_the_other() {
    const NEW: &str = "9f8e7d6c5b4a39281706f5e4d3c2b1a0";
    let rotated = |former: bool| {
        move |config: &mut musubi::config::Config| {
            let channel = config.channel.get_mut("main").unwrap();
            channel.channel_secret = NEW.into();
            channel.former_channel_secret = former.then(|| BOT_SECRET.into());
        }
    };
    for (former, of_old) in [(true, 200), (false, 401)] {
        let app = TestApp::start_with(Engine::Sqlite, rotated(former)).await;
        for (secret, expected) in [(NEW, 200), (BOT_SECRET, of_old)] {
            let body = envelope(&[text_event(&app, USER, "hi")]);
            let answer = post(&app, body.clone(), &[("x-line-signature", &sign(secret, body.as_bytes()))]).await;
            assert_eq!(answer.status.as_u16(), expected);
        }
        app.end().await;
    }
}

both_engines! {
    async fn w13_a_redelivered_event_has_its_effect_once(app) {
        app.sim(Method::POST, &format!("/_sim/bots/{BOT_CHANNEL}/webhook"), json!({ "redelivery": true })).await;
        let user = app.line_user("Aiko").await;
        // Answered 200, and sent again all the same.
        let done = app.does(&user, "follow", json!({})).await;
        let event = app.webhooks().await[0]["body"].as_str().unwrap().replace("\"isRedelivery\":false", "\"isRedelivery\":true");
        app.drain().await;
        assert_eq!(signed(app, event.clone()).await.status, StatusCode::OK, "{done}");
        app.drain().await;
        assert_eq!(texts(app, &user).await.len(), 1, "one greeting");
        assert_eq!(events(app).await, ["done"]);
        // Refused at first: the endpoint was not ours yet.
        let settings = |endpoint: &str| json!({ "endpoint": endpoint });
        let ours = app.sim(Method::GET, &format!("/_sim/bots/{BOT_CHANNEL}/webhook"), Value::Null).await;
        app.sim(Method::POST, &format!("/_sim/bots/{BOT_CHANNEL}/webhook"), settings("http://127.0.0.1:9/nobody")).await;
        app.say(&user, "status").await;
        let endpoint = ours["endpoint"].as_str().unwrap();
        app.sim(Method::POST, &format!("/_sim/bots/{BOT_CHANNEL}/webhook"), settings(endpoint)).await;
        app.sim(Method::POST, "/_sim/webhooks/redeliver", json!({ "channel": BOT_CHANNEL })).await;
        app.drain().await;
        assert_eq!(events(app).await, ["done", "done"]);
    }

    async fn w15_the_newest_word_holds_whatever_the_order(app) {
        let kinds = ["follow", "unfollow", "follow", "unfollow"];
        let now = app.app.now().0;
        for (number, order) in permutations(&[0, 1, 2, 3]).into_iter().enumerate() {
            let user = format!("U{number:032x}");
            let list: Vec<Value> = kinds.iter().zip(0_i64..).map(|(kind, place)| {
                let mut event = text_event(app, &user, "");
                event["type"] = (*kind).into();
                event["timestamp"] = (now - 1000 + place).into();
                event
            }).collect();
            for place in order {
                assert_eq!(signed(app, envelope(&list[place..=place])).await.status, StatusCode::OK);
                if number % 2 == 0 {
                    app.drain().await;
                }
            }
        }
        app.drain().await;
        let wrong = app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM friends WHERE friend <> 'no'").await;
        assert_eq!((app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM friends").await, wrong), (24, 0));
    }

    async fn w23_a_postback_says_nothing_about_who_may(app) {
        let (_, victim) = app.linked("hanako@example.jp").await;
        let stranger = app.line_user("Mallory").await;
        let mut conn = app.app.db.conn().await.unwrap();
        let (link, member): (String, String) = sqlx::query_as("SELECT id, member_id FROM links").fetch_one(&mut *conn).await.unwrap();
        drop(conn);
        for data in [
            format!("musubi=unlink&link={link}"),
            format!("musubi=unlink&member={member}"),
            format!("action=unlink&member={member}"),
            format!("musubi=unlink&link={link}&user={victim}"),
            "musubi=unlink&link=%00".into(),
        ] {
            app.does(&stranger, "postback", json!({ "data": data })).await;
            app.drain().await;
            let live = app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM links WHERE ended_at IS NULL").await;
            assert_eq!(live, 1, "{data}");
        }
        app.does(&victim, "postback", json!({ "data": format!("musubi=unlink&link={link}") })).await;
        app.drain().await;
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM links WHERE ended_at IS NULL").await, 0);
        assert!(events(app).await.iter().all(|state| state == "done"), "{:?}", events(app).await);
    }

    async fn w24_standby_is_silent_and_unsent_is_gone(app) {
        let user = app.line_user("Aiko").await;
        app.does(&user, "follow", json!({ "standby": true })).await;
        app.does(&user, "message", json!({ "text": "status", "standby": true })).await;
        app.does(&user, "postback", json!({ "data": "musubi=status", "standby": true })).await;
        app.drain().await;
        assert_eq!(texts(app, &user).await, Vec::<String>::new());
        let said = app.say(&user, "my secret is open sesame").await;
        app.drain().await;
        let id = said["message_id"].as_str().unwrap();
        assert!(app.dump(&[]).await.join("\n").contains("open sesame"));
        app.does(&user, "unsend", json!({ "message_id": id })).await;
        app.drain().await;
        let dump = app.dump(&[]).await.join("\n");
        let hex: String = format!("{:?}", b"open sesame").trim_matches(['[', ']']).to_owned();
        assert!(!dump.contains("open sesame") && !dump.contains(&hex), "erased wherever it was kept");
        assert!(events(app).await.iter().all(|state| state == "done"));
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM webhook_bodies WHERE signature = ''").await, 1);
    }

    async fn unsent_before_it_came_and_in_a_second_body_is_gone_too(app) {
        let message = text_event(app, USER, "my secret is open sesame");
        let mut unsend = text_event(app, USER, "");
        unsend["type"] = "unsend".into();
        unsend["unsend"] = json!({ "messageId": message["message"]["id"] });
        let other = text_event(app, OTHER, "stays");
        assert_eq!(signed(app, envelope(&[unsend.clone()])).await.status, StatusCode::OK);
        app.drain().await;
        for list in [vec![other.clone(), message.clone()], vec![message.clone()]] {
            assert_eq!(signed(app, envelope(&list)).await.status, StatusCode::OK);
        }
        app.drain().await;
        let dump = app.dump(&[]).await.join("\n");
        let bytes = |text: &str| format!("{:?}", text.as_bytes()).trim_matches(['[', ']']).to_owned();
        assert!(!dump.contains("open sesame") && !dump.contains(&bytes("open sesame")), "{dump}");
        assert!(dump.contains(&bytes("stays")), "what others said in the same body is kept");
    }

    /// LINE was not sure that it had been taken, and brings once more what is gone by now.
    async fn w24_unsent_words_that_come_again_are_erased_there_too(app) {
        let message = text_event(app, USER, "my secret is open sesame");
        let mut unsend = text_event(app, USER, "");
        unsend["type"] = "unsend".into();
        unsend["unsend"] = json!({ "messageId": message["message"]["id"] });
        for event in [&message, &unsend] {
            assert_eq!(signed(app, envelope(std::slice::from_ref(event))).await.status, StatusCode::OK);
            app.drain().await;
        }
        let bytes = |text: &str| format!("{:?}", text.as_bytes()).trim_matches(['[', ']']).to_owned();
        let holds = async |text: &str| app.dump(&[]).await.join("\n").contains(&bytes(text));
        assert!(!holds("open sesame").await);
        let other = text_event(app, OTHER, "stays");
        assert_eq!(signed(app, envelope(&[other.clone(), message])).await.status, StatusCode::OK);
        assert_eq!(signed(app, envelope(&[other])).await.status, StatusCode::OK);
        app.drain().await;
        assert!(holds("open sesame").await, "not at once");
        assert_eq!(musubi::worker::prune(&app.app, "test").await.unwrap(), 1);
        assert!(!holds("open sesame").await);
        assert!(holds("stays").await);
        assert_eq!(musubi::worker::prune(&app.app, "test").await.unwrap(), 0, "once");
    }

    async fn groups_are_nobodys_own_chat(app) {
        let user = app.line_user("Aiko").await;
        let group = app.sim(Method::POST, "/_sim/groups", json!({ "name": "Friends" })).await;
        let group = group["group_id"].as_str().unwrap().to_owned();
        let order = |deed: &str, body: Value| {
            let path = format!("/_sim/groups/{group}/{deed}");
            async move { app.sim(Method::POST, &path, body).await }
        };
        order("join", json!({})).await;
        order("members", json!({ "joined": [user] })).await;
        for text in ["link", "status", "hello"] {
            order("message", json!({ "user_id": user, "text": text })).await;
        }
        order("leave", json!({})).await;
        app.drain().await;
        assert!(events(app).await.iter().all(|state| state == "done"), "{:?}", events(app).await);
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM answers").await, 0, "nothing is said there");
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM group_chats WHERE left_at IS NOT NULL").await, 1);
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM chat_messages").await, 3);
    }

    async fn a_suspension_is_known_and_its_end_too(app) {
        let path = format!("/_sim/bots/{BOT_CHANNEL}/events");
        let suspended = "SELECT CAST(COUNT(*) AS BIGINT) FROM bots WHERE suspended_at IS NOT NULL";
        app.sim(Method::POST, &path, json!({ "type": "botSuspended" })).await;
        app.drain().await;
        assert_eq!(app.count(suspended).await, 1);
        app.clock.advance(std::time::Duration::from_secs(1));
        app.sim(Method::POST, &path, json!({ "type": "botResumed" })).await;
        app.drain().await;
        assert_eq!(app.count(suspended).await, 0);
    }

    async fn a_block_stops_sending_and_the_link_stays(app) {
        let (_, user) = app.linked("hanako@example.jp").await;
        app.drain().await;
        app.does(&user, "block", json!({})).await;
        app.drain().await;
        assert_eq!(friend(app).await, "no");
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM links WHERE ended_at IS NULL").await, 1);
        app.does(&user, "follow", json!({})).await;
        app.drain().await;
        assert_eq!(friend(app).await, "yes");
    }
}

fn permutations(list: &[usize]) -> Vec<Vec<usize>> {
    if list.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (place, first) in list.iter().enumerate() {
        let mut rest = list.to_vec();
        rest.remove(place);
        all.extend(permutations(&rest).into_iter().map(|tail| [vec![*first], tail].concat()));
    }
    all
}

/// Ten thousand bodies and signatures, each broken somewhere: none is let in, none is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_mutations_are_refused_unread() {
    let app = TestApp::start(Engine::Sqlite).await;
    let good = envelope(&[text_event(&app, USER, "hi")]).into_bytes();
    let signature = sign(BOT_SECRET, &good).into_bytes();
    let before = app.dump(&[]).await;
    let mut dice = 0x9E37_79B9_7F4A_7C15_u64;
    let mut roll = |most: usize| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        (dice >> 11) as usize % most
    };
    for number in 0..10_000 {
        let (mut body, mut header) = (good.clone(), signature.clone());
        let target = if number % 2 == 0 { &mut body } else { &mut header };
        let place = roll(target.len());
        match roll(4) {
            0 => target[place] ^= 1 << roll(8),
            1 => drop(target.remove(place)),
            2 => target.insert(place, 32 + u8::try_from(roll(95)).unwrap()),
            _ => target.truncate(place),
        }
        if body == good && header == signature {
            continue;
        }
        let request = Request::builder().method(Method::POST).uri("/webhook/main");
        let Ok(value) = axum::http::HeaderValue::from_bytes(&header) else { continue };
        let request = request.header("x-line-signature", value).body(Body::from(body)).unwrap();
        let status = app.router.clone().oneshot(request).await.unwrap().status();
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{number}: {}", String::from_utf8_lossy(&header));
    }
    assert_eq!(app.dump(&[]).await, before);
    app.end().await;
}

/// The corpus of the fuzz target `webhook_body`, and what was found by it.
#[test]
fn the_fuzz_corpus_is_read_without_harm() {
    let mut count = 0;
    for file in std::fs::read_dir("fuzz/corpus/webhook_body").unwrap() {
        let body = std::fs::read(file.unwrap().path()).unwrap();
        let _ = musubi::webhook::unpack::read_events(&body, "body", musubi::db::Millis(1_760_000_000_000));
        count += 1;
    }
    assert!(count >= 20, "{count}");
}

async fn metrics(app: &TestApp) -> String {
    let request = Request::builder().uri("/metrics").body(Body::empty()).unwrap();
    let answer = read(musubi::serve::metrics::router(&app.app).oneshot(request).await.unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK);
    answer.body
}

both_engines! {
    async fn j15_nobody_adds_labels_to_the_metrics(app) {
        assert_eq!(signed(app, envelope(&[text_event(app, USER, "hi")])).await.status, StatusCode::OK);
        post(app, "x", &[]).await;
        let names = |text: &str| -> Vec<String> {
            text.lines().filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
        };
        app.router.clone().oneshot(Request::post("/webhook/nobody").body(Body::empty()).unwrap()).await.unwrap();
        let before = names(&metrics(app).await);
        for number in 0..200 {
            let path = format!("/webhook/{number}-%22%0a%7d");
            app.router.clone().oneshot(Request::post(path).body(Body::empty()).unwrap()).await.unwrap();
            let mut event = text_event(app, USER, "hi");
            event["type"] = format!("type{number}").into();
            assert_eq!(signed(app, envelope(&[event])).await.status, StatusCode::OK);
        }
        let text = metrics(app).await;
        assert_eq!(names(&text), before);
        for line in [
            "musubi_webhook_requests_total{channel=\"main\",result=\"stored\"} 201",
            "musubi_webhook_requests_total{channel=\"main\",result=\"bad_signature\"} 1",
            "musubi_events_received_total{channel=\"main\",result=\"stored\"} 201",
            "musubi_events_waiting{channel=\"main\"} 201",
            "musubi_events_parked{channel=\"main\"} 0",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        app.clock.advance(std::time::Duration::from_secs(90));
        let lag = metrics(app).await;
        let lag = lag.lines().find_map(|line| line.strip_prefix("musubi_events_lag_seconds{channel=\"main\"} ")).unwrap();
        assert!(lag.parse::<f64>().unwrap() >= 90.0, "{lag}");
        assert_eq!(app.visitor().get("/metrics").await.status, StatusCode::NOT_FOUND, "not on the listener of the world");
    }

    async fn a_quiet_moment_shortens_sqlites_log(app) {
        // Less than what a commit carries over by itself.
        let body = |number| envelope(&[text_event(app, USER, &format!("{number} {}", "long ".repeat(60_000)))]);
        for number in 0..8 {
            assert_eq!(signed(app, body(number)).await.status, StatusCode::OK);
        }
        if app.engine == Engine::Sqlite {
            let mut conn = app.app.db.conn().await.unwrap();
            until(async || {
                let look = sqlx::query_as("PRAGMA wal_checkpoint(NOOP)").fetch_one(&mut *conn).await;
                let (_, _, carried): (i64, i64, i64) = look.unwrap();
                carried > 200
            })
            .await;
        }
        app.unpack().await;
        assert_eq!(events(app).await.len(), 8);
    }
}
