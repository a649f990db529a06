//! The bot's side of the simulator: what a webhook is sent, when, and how often; and what a bot may answer.

#![allow(clippy::unwrap_used, clippy::too_many_lines, reason = "a failed unwrap is a failed test")]

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_lc_rs::hmac;
use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use musubi::simulator::{Bot, Host, Options, Provider, Simulator, World};
use serde_json::{Value, json};

use crate::simulator::{Answer, BOT, BOT_SECRET, Line, START};

/// A bot that takes webhooks, and answers 200 unless told otherwise.
#[derive(Clone, Default)]
struct Receiver {
    got: Arc<Mutex<Vec<(HeaderMap, String)>>>,
    answers: Arc<Mutex<VecDeque<Ending>>>,
}

#[derive(Clone, Copy)]
enum Ending {
    Status(u16),
    Never,
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: String) -> Response {
    receiver.got.lock().unwrap().push((headers, body));
    let ending = receiver.answers.lock().unwrap().pop_front();
    match ending {
        None => StatusCode::OK.into_response(),
        Some(Ending::Status(status)) => {
            (StatusCode::from_u16(status).unwrap(), [("location", "/webhook")]).into_response()
        }
        Some(Ending::Never) => std::future::pending().await,
    }
}

impl Receiver {
    /// Listens, and is what the bot's webhook is set to.
    async fn of(line: &Line) -> Self {
        let receiver = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/webhook", listener.local_addr().unwrap());
        let router = Router::new().route("/webhook", post(take)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let set = line.post(&format!("/_sim/bots/{BOT}/webhook"), "", json!({ "endpoint": url, "active": true })).await;
        assert_eq!(set.status, StatusCode::OK, "{}", set.text());
        receiver
    }

    fn answer(&self, endings: &[Ending]) {
        self.answers.lock().unwrap().extend(endings);
    }

    fn count(&self) -> usize {
        self.got.lock().unwrap().len()
    }

    /// The body that came last.
    fn last(&self) -> Value {
        serde_json::from_str(&self.got.lock().unwrap().last().unwrap().1).unwrap()
    }

    /// The one event of the body that came last.
    fn event(&self) -> Value {
        let body = self.last();
        assert_eq!(body["destination"], "Ub0000000000000000000000000000000");
        let events = body["events"].as_array().unwrap();
        assert_eq!(events.len(), 1, "{body}");
        events[0].clone()
    }
}

impl Line {
    async fn does(&self, user: &str, deed: &str, order: Value) -> Value {
        let answer = self.post(&format!("/_sim/users/{user}/{deed}"), "", order).await;
        assert_eq!(answer.status, StatusCode::OK, "{deed}: {}", answer.text());
        answer.json()
    }

    async fn order(&self, path: &str, order: Value) -> Value {
        let answer = self.post(path, "", order).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text());
        answer.json()
    }

    async fn reply(&self, token: &Value, text: &str) -> Answer {
        let bearer = self.bot_token().await;
        let body = json!({ "replyToken": token, "messages": [{ "type": "text", "text": text }] });
        self.post("/v2/bot/message/reply", &bearer, body).await
    }
}

/// The fields that differ each time are seen to be there, and taken out.
fn plain(mut event: Value) -> Value {
    let map = event.as_object_mut().unwrap();
    let id = map.remove("webhookEventId").unwrap();
    assert_eq!(id.as_str().unwrap().len(), 26);
    if let Some(token) = map.remove("replyToken") {
        assert_eq!(token.as_str().unwrap().len(), 32);
        map.insert("replyToken".to_owned(), json!("…"));
    }
    if let Some(message) = map.get_mut("message").and_then(Value::as_object_mut) {
        for name in ["id", "quoteToken", "markAsReadToken"] {
            if message.contains_key(name) {
                assert!(message[name].is_string());
                message.insert(name.to_owned(), json!("…"));
            }
        }
    }
    assert_eq!(map.remove("timestamp"), Some(json!(START)));
    assert_eq!(map.remove("mode"), Some(json!("active")));
    assert_eq!(map.remove("deliveryContext"), Some(json!({ "isRedelivery": false })));
    event
}

#[tokio::test]
async fn a_webhook_is_signed_as_line_documents() {
    let bot = Bot {
        channel_id: "1".to_owned(),
        secret: "8c570fa6dd201bb328f1c1eac23a96d8".to_owned(),
        user_id: "U8e742f61d673b39c7fff3cecb7536ef0".to_owned(),
        basic_id: "@bot".to_owned(),
        name: "Bot".to_owned(),
    };
    let provider = Provider { name: "First".to_owned(), login: None, bots: vec![bot] };
    let world = World { providers: vec![provider] };
    let simulator = Simulator::open(Options { data: None, clock: Arc::new(|| START), world }).unwrap();
    let line = Line { router: simulator.router(Host::All), simulator, ..Line::open(None) };
    let receiver = Receiver::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let router = Router::new().route("/", post(take)).with_state(receiver.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    line.simulator.use_webhook("1", &url);

    let token = line.channel_token("1", "8c570fa6dd201bb328f1c1eac23a96d8").await;
    let tested = line.post("/v2/bot/channel/webhook/test", &token, json!({})).await;
    let expected = json!({
        "success": true, "timestamp": "2027-01-15T08:00:00.000Z", "statusCode": 200, "reason": "OK", "detail": "200",
    });
    assert_eq!(tested.json(), expected);
    let (headers, body) = receiver.got.lock().unwrap()[0].clone();
    assert_eq!(body, r#"{"destination":"U8e742f61d673b39c7fff3cecb7536ef0","events":[]}"#);
    assert_eq!(headers["x-line-signature"], "GhRKmvmHys4Pi8DxkF4+EayaH0OqtJtaZxgTD9fMDLs=");
    assert_eq!(headers["content-type"], "application/json; charset=utf-8");
    assert_eq!(headers["user-agent"], "LineBotWebhook/2.0");
}

#[tokio::test]
async fn events_have_lines_shapes() {
    let line = Line::open(None);
    let receiver = Receiver::of(&line).await;
    let user = line.user("Taro", None).await;
    let source = json!({ "type": "user", "userId": user });

    let followed = line.does(&user, "follow", json!({})).await;
    assert_eq!(followed["webhook"]["status"], 200);
    assert_eq!(followed["event_id"], receiver.event()["webhookEventId"]);
    assert_eq!(followed["reply_token"], receiver.event()["replyToken"]);
    let follow = json!({ "type": "follow", "source": source, "replyToken": "…", "follow": { "isUnblocked": false } });
    assert_eq!(plain(receiver.event()), follow);
    assert_eq!(line.does(&user, "follow", json!({})).await, json!({ "webhook": null }), "a friend already");
    line.does(&user, "block", json!({})).await;
    assert_eq!(plain(receiver.event()), json!({ "type": "unfollow", "source": source }));
    let refused = line.post(&format!("/_sim/users/{user}/message"), "", json!({ "text": "hi" })).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    line.does(&user, "follow", json!({})).await;
    assert_eq!(plain(receiver.event())["follow"], json!({ "isUnblocked": true }));

    let event = |kind: &str, fields: Value| {
        let mut event = json!({ "type": kind, "source": source, "replyToken": "…" });
        event.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        event
    };
    let all = json!({ "id": "…", "markAsReadToken": "…" });
    let quotable = json!({ "id": "…", "markAsReadToken": "…", "quoteToken": "…" });
    let with = |base: &Value, fields: Value| {
        let mut message = base.clone();
        message.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!({ "message": message })
    };
    let provider = json!({ "type": "line" });
    let table = [
        ("message", json!({ "text": "hello" }), "message", with(&quotable, json!({ "type": "text", "text": "hello" }))),
        (
            "message",
            json!({ "type": "sticker", "packageId": "1", "stickerId": "2", "keywords": ["hi"] }),
            "message",
            with(
                &quotable,
                json!({ "type": "sticker", "packageId": "1", "stickerId": "2", "stickerResourceType": "STATIC",
                    "keywords": ["hi"] }),
            ),
        ),
        (
            "message",
            json!({ "type": "location", "latitude": 1.5, "longitude": -2, "title": "Here" }),
            "message",
            with(&all, json!({ "type": "location", "latitude": 1.5, "longitude": -2.0, "title": "Here" })),
        ),
        (
            "message",
            json!({ "type": "image" }),
            "message",
            with(&quotable, json!({ "type": "image", "contentProvider": provider })),
        ),
        (
            "message",
            json!({ "type": "video", "duration": 10 }),
            "message",
            with(&quotable, json!({ "type": "video", "contentProvider": provider, "duration": 10 })),
        ),
        (
            "message",
            json!({ "type": "audio" }),
            "message",
            with(&all, json!({ "type": "audio", "contentProvider": provider, "duration": 60_000 })),
        ),
        (
            "message",
            json!({ "type": "file", "fileName": "a.txt", "base64": "aGVsbG8=" }),
            "message",
            with(&all, json!({ "type": "file", "fileName": "a.txt", "fileSize": 5 })),
        ),
        (
            "postback",
            json!({ "data": "a=1", "params": { "date": "2027-01-15" } }),
            "postback",
            json!({ "postback": { "data": "a=1", "params": { "date": "2027-01-15" } } }),
        ),
        (
            "beacon",
            json!({ "hwid": "d41d8cd98f", "dm": "00" }),
            "beacon",
            json!({ "beacon": { "hwid": "d41d8cd98f", "type": "enter", "dm": "00" } }),
        ),
        (
            "video-complete",
            json!({ "tracking_id": "t" }),
            "videoPlayComplete",
            json!({ "videoPlayComplete": { "trackingId": "t" } }),
        ),
        (
            "membership",
            json!({ "type": "joined", "membership_id": 7 }),
            "membership",
            json!({ "membership": { "type": "joined", "membershipId": 7 } }),
        ),
    ];
    for (deed, order, kind, fields) in table {
        line.does(&user, deed, order).await;
        assert_eq!(plain(receiver.event()), event(kind, fields), "{deed}");
    }

    let said = line.does(&user, "message", json!({ "text": "wrong" })).await;
    line.does(&user, "unsend", json!({ "message_id": said["message_id"] })).await;
    let unsend = json!({ "type": "unsend", "source": source, "unsend": { "messageId": said["message_id"] } });
    assert_eq!(plain(receiver.event()), unsend);
    let shown = line.chat(&user).await["messages"].as_array().unwrap().clone();
    assert!(shown.iter().all(|message| message["from"] == "user" && message["text"] != "wrong"));

    line.does(&user, "message", json!({ "text": "quiet", "standby": true })).await;
    assert_eq!(receiver.event()["mode"], "standby");
    assert!(receiver.event().get("replyToken").is_none());
    let trace = line.get("/_sim/webhooks", "").await.json();
    assert_eq!(trace["webhooks"].as_array().unwrap().len(), receiver.count());
    assert!(trace["webhooks"].as_array().unwrap().iter().all(|sent| sent["status"] == 200 && sent["at"] == START));
}

#[tokio::test]
async fn a_reply_token_is_good_once_and_for_a_minute() {
    let line = Line::open(None);
    let receiver = Receiver::of(&line).await;
    let stranger = line.user("Taro", None).await;
    let said = line.does(&stranger, "message", json!({ "text": "hello" })).await;
    let token = &said["reply_token"];

    let bearer = line.bot_token().await;
    let body = json!({ "replyToken": token, "messages": [{ "type": "text", "text": "" }] });
    let refused = line.post("/v2/bot/message/reply", &bearer, body.clone()).await;
    assert_eq!(refused.json()["details"][0]["property"], "messages[0].text");
    let key = [("x-line-retry-key", "123e4567-e89b-12d3-a456-426614174000")];
    let refused = line.post_with("/v2/bot/message/reply", &bearer, &key, body).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    line.pass(59_999);
    let replied = line.reply(token, "welcome").await;
    assert_eq!(replied.status, StatusCode::OK, "{}", replied.text());
    assert!(replied.json()["sentMessages"][0]["id"].is_string());
    let chat = line.chat(&stranger).await;
    assert_eq!(chat["messages"][1], json!({ "type": "text", "text": "welcome" }));
    let again = line.reply(token, "again").await;
    assert_eq!(again.status, StatusCode::BAD_REQUEST);
    assert_eq!(again.json(), json!({ "message": "Invalid reply token" }));

    let said = line.does(&stranger, "message", json!({ "text": "hello" })).await;
    line.pass(60_000);
    assert_eq!(line.reply(&said["reply_token"], "late").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(line.reply(&json!("made up"), "no").await.status, StatusCode::BAD_REQUEST);
    let foreign = line.channel_token("3234567890", BOT_SECRET).await;
    let said = line.does(&stranger, "message", json!({ "text": "hello" })).await;
    let body = json!({ "replyToken": said["reply_token"], "messages": [{ "type": "text", "text": "x" }] });
    assert_eq!(line.post("/v2/bot/message/reply", &foreign, body).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(receiver.count(), 3);

    // Who has written is known to the bot, and reached for seven days.
    let profile = line.get(&format!("/v2/bot/profile/{stranger}"), &bearer).await;
    assert_eq!(profile.status, StatusCode::OK);
    line.pass(7 * 24 * 3600 * 1000 - 1);
    assert_eq!(line.push(&stranger, "").await.status, StatusCode::OK);
    let delivered = async || line.chat(&stranger).await["messages"].as_array().unwrap().len();
    assert_eq!(delivered().await, 5);
    line.pass(1);
    assert_eq!(line.push(&stranger, "").await.status, StatusCode::OK);
    assert_eq!(delivered().await, 5);
}
