//! The bot's side of the simulator: what a webhook is sent, when, and how often; and what a bot may answer.

#![allow(clippy::unwrap_used, clippy::too_many_lines, reason = "a failed unwrap is a failed test")]

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use musubi::simulator::{Bot, Host, Options, Provider, Simulator, World};
use serde_json::{Value, json};

use crate::{
    simulator::{Answer, BOT, BOT_SECRET, Line, START},
    support::browser::{Browser, Screen},
};

type Pairs<'a> = &'a [(&'a str, &'a str)];

/// A bot that takes webhooks, and answers 200 unless told otherwise.
#[derive(Clone, Default)]
pub struct Receiver {
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
    pub async fn of(line: &Line) -> Self {
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

    pub async fn wait_for(&self, count: usize) {
        let come = async {
            while self.count() < count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), come).await.unwrap();
    }

    /// The body that came last.
    fn last(&self) -> Value {
        serde_json::from_str(&self.got.lock().unwrap().last().unwrap().1).unwrap()
    }

    /// The one event of the body that came last.
    pub fn event(&self) -> Value {
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

#[tokio::test]
async fn what_gets_no_2xx_is_redelivered() {
    let line = Line::open(None);
    let receiver = Receiver::of(&line).await;
    let user = line.user("Taro", None).await;
    let again = async || line.order("/_sim/webhooks/redeliver", json!({})).await["webhooks"].clone();

    receiver.answer(&[Ending::Status(500)]);
    let lost = line.does(&user, "message", json!({ "text": "lost" })).await;
    assert_eq!(lost["webhook"]["status"], 500);
    assert_eq!(again().await, json!([]), "redelivery is off");

    line.order(&format!("/_sim/bots/{BOT}/webhook"), json!({ "redelivery": true })).await;
    receiver.answer(&[Ending::Status(302), Ending::Status(404), Ending::Status(204)]);
    let said = line.does(&user, "message", json!({ "text": "kept" })).await;
    assert_eq!(said["webhook"]["status"], 302, "no redirect is followed");
    let first = receiver.event();
    line.pass(30 * 1000);
    assert_eq!(again().await[0]["status"], 404);
    line.pass(59 * 1000);
    let sent = again().await;
    assert_eq!((sent[0]["status"].clone(), sent[0]["is_redelivery"].clone()), (json!(204), json!(true)));
    let mut second = receiver.event();
    assert_eq!(second["deliveryContext"], json!({ "isRedelivery": true }));
    second["deliveryContext"] = json!({ "isRedelivery": false });
    assert_eq!(first, second, "the same but for the flag");
    assert_eq!(again().await, json!([]), "a 2xx ends it");
    line.pass(59 * 1000);
    assert_eq!(line.reply(&said["reply_token"], "ok").await.status, StatusCode::OK, "another minute");

    receiver.answer(&[Ending::Status(500)]);
    let old = line.does(&user, "message", json!({ "text": "old" })).await;
    line.pass(20 * 60 * 1000);
    assert_eq!(again().await[0]["status"], 200);
    assert_eq!(line.reply(&old["reply_token"], "no").await.status, StatusCode::BAD_REQUEST, "twenty minutes at most");
}

#[tokio::test]
async fn a_webhook_has_two_seconds() {
    let line = Line::open(None);
    let receiver = Receiver::of(&line).await;
    let user = line.user("Taro", None).await;
    receiver.answer(&[Ending::Never]);
    let sent = line.does(&user, "message", json!({ "text": "hello" })).await["webhook"].clone();
    assert_eq!((sent["error"].clone(), sent.get("status")), (json!("request_timeout"), None));
    assert!((2000..3000).contains(&sent["took_ms"].as_u64().unwrap()), "{sent}");

    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", nobody.local_addr().unwrap());
    drop(nobody);
    line.order(&format!("/_sim/bots/{BOT}/webhook"), json!({ "endpoint": url })).await;
    let sent = line.does(&user, "message", json!({ "text": "hello" })).await;
    assert_eq!(sent["webhook"]["error"], "could_not_connect");
    let token = line.bot_token().await;
    let tested = line.post("/v2/bot/channel/webhook/test", &token, json!({})).await.json();
    assert_eq!((&tested["reason"], &tested["statusCode"]), (&json!("COULD_NOT_CONNECT"), &json!(0)));
    line.order(&format!("/_sim/bots/{BOT}/webhook"), json!({ "active": false })).await;
    assert_eq!(line.does(&user, "message", json!({ "text": "hello" })).await["webhook"], Value::Null);
}

#[tokio::test]
async fn the_endpoint_is_set_by_api() {
    let line = Line::open(None);
    let token = line.bot_token().await;
    let path = "/v2/bot/channel/webhook/endpoint";
    let none = line.get(path, &token).await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
    assert_eq!(none.json(), json!({ "message": "Webhook endpoint not found" }));
    let tested = line.post("/v2/bot/channel/webhook/test", &token, json!({})).await;
    assert_eq!(tested.json(), json!({ "message": "Webhook endpoint not found" }));
    let bearer = format!("Bearer {token}");
    let put = async |endpoint: &str| {
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        line.call(Method::PUT, path, &headers, json!({ "endpoint": endpoint }).to_string()).await
    };
    let long = format!("https://app.test/{}", "a".repeat(500));
    for endpoint in ["", "app.test", "http://app.test/webhook", "ftp://app.test/", &long] {
        let refused = put(endpoint).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{endpoint}");
        assert_eq!(refused.json(), json!({ "message": "Invalid webhook endpoint URL" }));
    }
    assert_eq!(put("https://app.test/webhook").await.json(), json!({}));
    let set = line.get(path, &token).await.json();
    assert_eq!(set, json!({ "endpoint": "https://app.test/webhook", "active": false }));
    for _ in 0..60 {
        let refused = line.post("/v2/bot/channel/webhook/test", &token, json!({ "endpoint": "x" })).await;
        assert!(refused.status == StatusCode::BAD_REQUEST || refused.status == StatusCode::TOO_MANY_REQUESTS);
    }
    let limited = line.post("/v2/bot/channel/webhook/test", &token, json!({})).await;
    assert_eq!(limited.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn held_events_are_released_as_ordered() {
    let line = Line::open(None);
    let receiver = Receiver::of(&line).await;
    let (one, two) = (line.user("One", None).await, line.user("Two", None).await);
    line.order("/_sim/webhooks/hold", json!({ "channel": BOT })).await;
    let mut ids = Vec::new();
    for (user, text) in [(&one, "a"), (&two, "b"), (&one, "c")] {
        let said = line.does(user, "message", json!({ "text": text })).await;
        assert_eq!(said["webhook"], json!({ "held": true, "index": ids.len() }));
        assert_eq!(line.reply(&said["reply_token"], "too early").await.status, StatusCode::BAD_REQUEST);
        ids.push(said["event_id"].clone());
    }
    assert!(ids.iter().map(|id| id.as_str().unwrap()).is_sorted());
    assert_eq!(receiver.count(), 0);
    let wrong = line.post("/_sim/webhooks/release", "", json!({ "order": [3] })).await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    let order = json!({ "channel": BOT, "order": [2, 0, 1], "repeat": 2 });
    let released = line.order("/_sim/webhooks/release", order).await["webhooks"].clone();
    assert!(released.as_array().unwrap().iter().all(|sent| sent["status"] == 200), "{released}");
    let got = receiver.got.lock().unwrap().clone();
    let texts: Vec<Value> = got
        .iter()
        .map(|(_, body)| serde_json::from_str::<Value>(body).unwrap()["events"][0]["message"]["text"].clone())
        .collect();
    assert_eq!(texts, ["c", "a", "b", "c", "a", "b"]);
    assert_eq!(got[0].1, got[3].1, "a duplicate is no redelivery");

    line.order("/_sim/webhooks/hold", json!({})).await;
    line.does(&one, "message", json!({ "text": "a" })).await;
    line.does(&two, "message", json!({ "text": "b" })).await;
    line.order("/_sim/webhooks/release", json!({ "together": true })).await;
    let body = receiver.last();
    let users: Vec<&Value> =
        body["events"].as_array().unwrap().iter().map(|event| &event["source"]["userId"]).collect();
    assert_eq!(users, [&json!(one), &json!(two)]);
    assert_eq!(receiver.count(), 7);
}

#[tokio::test]
async fn any_event_and_any_body_can_be_sent() {
    let line = Line::open(None);
    let receiver = Receiver::of(&line).await;
    let user = line.user("Taro", None).await;
    let events = format!("/_sim/bots/{BOT}/events");
    line.order(&events, json!({ "type": "botSuspended" })).await;
    assert_eq!(plain(receiver.event()), json!({ "type": "botSuspended" }));
    let source = json!({ "type": "user", "userId": user });
    let order = json!({ "type": "hologram", "source": source, "timestamp": 5, "mode": null, "deliveryContext": null });
    line.order(&events, order).await;
    let mut event = receiver.event();
    event.as_object_mut().unwrap().remove("webhookEventId").unwrap();
    assert_eq!(event, json!({ "type": "hologram", "source": source, "timestamp": 5 }));
    let order = json!({ "type": "postback", "source": source, "postback": { "data": "x" } });
    let sent = line.order(&events, order).await;
    assert_eq!(line.reply(&sent["reply_token"], "ok").await.status, StatusCode::OK);

    let body = "{ no json";
    line.order("/_sim/webhooks", json!({ "channel": BOT, "body": body })).await;
    let (headers, got) = receiver.got.lock().unwrap().last().unwrap().clone();
    assert_eq!(got, body);
    let right = headers["x-line-signature"].clone();
    let order =
        json!({ "body": body, "signature": "wrong", "headers": { "x-more": ["1", "2"], "content-type": null } });
    line.order("/_sim/webhooks", order).await;
    let (headers, _) = receiver.got.lock().unwrap().last().unwrap().clone();
    assert_eq!(headers["x-line-signature"], "wrong");
    assert_eq!(headers.get_all("x-more").iter().count(), 2);
    assert!(headers.get("content-type").is_none());
    line.order("/_sim/webhooks", json!({ "body": body, "signature": null })).await;
    assert!(receiver.got.lock().unwrap().last().unwrap().0.get("x-line-signature").is_none());
    let twice = [right.to_str().unwrap(); 2];
    line.order("/_sim/webhooks", json!({ "body": body, "signature": twice })).await;
    let (headers, _) = receiver.got.lock().unwrap().last().unwrap().clone();
    assert_eq!(headers.get_all("x-line-signature").iter().collect::<Vec<_>>(), [&right, &right]);
}

#[tokio::test]
async fn the_dialog_links_only_the_right_person() {
    let line = Line::open(None);
    let receiver = Receiver::of(&line).await;
    let (user, other) = (line.user("Taro", None).await, line.user("<b>Jiro", None).await);
    let bearer = line.bot_token().await;
    let token = async || {
        let path = format!("/v2/bot/user/{user}/linkToken");
        let headers = [("authorization", format!("Bearer {bearer}"))];
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let issued = line.call(Method::POST, &path, &headers, Body::empty()).await;
        assert_eq!(issued.status, StatusCode::OK, "{}", issued.text());
        issued.json()["linkToken"].as_str().unwrap().to_owned()
    };
    let open = async |token: &str, nonce: &str| {
        let path = format!("/dialog/bot/accountLink?linkToken={token}&nonce={nonce}");
        line.call(Method::GET, &path, &[], Body::empty()).await
    };
    let nonce = "bm9uY2UtYm05dVky";

    let good = token().await;
    line.queue(json!({ "user_id": user, "outcome": "consent" })).await;
    let linked = open(&good, nonce).await;
    assert_eq!(linked.status, StatusCode::OK);
    assert!(linked.text().contains("<h1>Linked</h1>"));
    let event = receiver.event();
    assert_eq!(
        plain(event.clone()),
        json!({ "type": "accountLink", "source": { "type": "user", "userId": user }, "replyToken": "…",
            "link": { "result": "ok", "nonce": nonce } })
    );
    assert_eq!(line.reply(&event["replyToken"], "linked").await.status, StatusCode::OK);
    assert_eq!(open(&good, nonce).await.status, StatusCode::BAD_REQUEST, "a token is good once");

    let good = token().await;
    let page = open(&good, nonce).await.text();
    assert!(page.contains("Who are you?") && !page.contains("<b>Jiro"), "{page}");
    let person = page.split("name=\"person\" value=\"").nth(2).unwrap().split('"').next().unwrap();
    let failed = line.form("/_sim/account-link", &[("linkToken", &good), ("nonce", nonce), ("person", person)]).await;
    assert!(failed.text().contains("<h1>Not linked</h1>"), "{}", failed.text());
    assert_eq!(
        plain(receiver.event()),
        json!({ "type": "accountLink", "link": { "result": "failed", "nonce": nonce } })
    );
    assert_eq!(receiver.count(), 2);
    assert_ne!(user, other);

    let late = token().await;
    line.pass(10 * 60 * 1000);
    line.queue(json!({ "user_id": user, "outcome": "consent" })).await;
    for (token, nonce) in [(late.as_str(), nonce), ("made-up", nonce), (&*token().await, "short"), ("", "")] {
        assert_eq!(open(token, nonce).await.status, StatusCode::BAD_REQUEST, "{token} {nonce}");
    }
    let long = "n".repeat(255);
    assert_eq!(open(&token().await, &long).await.status, StatusCode::OK);
    assert_eq!(receiver.event()["link"]["nonce"], long);
    assert_eq!(open(&token().await, &format!("{long}n")).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(receiver.count(), 3, "an error page tells the bot nothing");

    let path = "/v2/bot/user/U00000000000000000000000000000000/linkToken";
    assert_eq!(line.post(path, &bearer, json!({})).await.status, StatusCode::NOT_FOUND);
    assert_eq!(line.post("/v2/bot/user/Taro/linkToken", &bearer, json!({})).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn content_is_prepared_given_and_gone() {
    let line = Line::open(None);
    let user = line.user("Taro", None).await;
    let token = line.bot_token().await;
    let get = async |id: &Value, part: &str| {
        line.get(&format!("/v2/bot/message/{}/content{part}", id.as_str().unwrap()), &token).await
    };
    let order = json!({ "type": "image", "base64": "aGVsbG8=", "contentType": "image/jpeg", "preparing": 2 });
    let image = line.does(&user, "message", order).await["message_id"].clone();
    assert_eq!(get(&image, "").await.status, StatusCode::ACCEPTED);
    assert_eq!(get(&image, "").await.status, StatusCode::ACCEPTED);
    let given = get(&image, "").await;
    assert_eq!((given.status, given.header("content-type")), (StatusCode::OK, "image/jpeg"));
    assert_eq!(given.bytes, b"hello");
    assert_eq!(get(&image, "/preview").await.bytes, b"hello");
    let refused = get(&image, "/transcoding").await;
    assert_eq!(refused.json(), json!({ "message": "Transcoding status doesn't support this type of content" }));
    line.does(&user, "unsend", json!({ "message_id": image })).await;
    let gone = get(&image, "").await;
    assert_eq!((gone.status, gone.json()), (StatusCode::GONE, json!({ "message": "The content is gone" })));

    let video = line.does(&user, "message", json!({ "type": "video", "preparing": 1 })).await["message_id"].clone();
    assert_eq!(get(&video, "/transcoding").await.json(), json!({ "status": "processing" }));
    assert_eq!(get(&video, "").await.status, StatusCode::ACCEPTED);
    assert_eq!(get(&video, "/transcoding").await.json(), json!({ "status": "succeeded" }));
    let file = line.does(&user, "message", json!({ "type": "file" })).await["message_id"].clone();
    let refused = get(&file, "/preview").await;
    assert_eq!(
        (refused.status, refused.json()["message"].as_str().unwrap()),
        (StatusCode::BAD_REQUEST, "The content can not be previewed")
    );
    let text = line.does(&user, "message", json!({ "text": "words" })).await["message_id"].clone();
    assert_eq!(get(&text, "").await.status, StatusCode::NOT_FOUND);
    let path = format!("/v2/bot/message/{}/content", video.as_str().unwrap());
    let foreign = line.channel_token("3234567890", BOT_SECRET).await;
    assert_eq!(line.get(&path, &foreign).await.status, StatusCode::NOT_FOUND);
    let bearer = [("authorization", format!("Bearer {token}"))];
    let request = axum::http::Request::get(&path).header(bearer[0].0, &bearer[0].1).body(Body::empty()).unwrap();
    let elsewhere = tower::ServiceExt::oneshot(line.simulator.router(Host::Api), request).await.unwrap();
    assert_eq!(elsewhere.status(), StatusCode::NOT_FOUND, "it lives on the host of binary data");
}

#[tokio::test]
async fn loading_and_reading() {
    let line = Line::open(None);
    let user = line.friend("Taro").await;
    let token = line.bot_token().await;
    let start = async |body: Value| line.post("/v2/bot/chat/loading/start", &token, body).await;
    let loading = async || line.chat(&user).await["loading"].clone();
    let started = start(json!({ "chatId": user })).await;
    assert_eq!((started.status, started.json()), (StatusCode::ACCEPTED, json!({})));
    assert_eq!(loading().await, true);
    line.pass(20_000);
    assert_eq!(loading().await, false);
    start(json!({ "chatId": user, "loadingSeconds": 60 })).await;
    line.push(&user, "").await;
    assert_eq!(loading().await, false, "a message ends it");
    for (body, texts) in [
        (
            json!({ "chatId": user, "loadingSeconds": 4 }),
            vec!["Must be between 5 and 60", "must be a multiple of five"],
        ),
        (json!({ "chatId": user, "loadingSeconds": 65 }), vec!["Must be between 5 and 60"]),
        (json!({ "chatId": user, "loadingSeconds": 7 }), vec!["must be a multiple of five"]),
        (
            json!({ "chatId": "C00000000000000000000000000000000" }),
            vec!["Only user id is acceptable, group id and room id are not supported"],
        ),
    ] {
        let refused = start(body).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        let body = refused.json();
        let found: Vec<&str> =
            body["details"].as_array().unwrap().iter().map(|detail| detail["message"].as_str().unwrap()).collect();
        assert_eq!(found, texts);
    }

    let first = line.does(&user, "message", json!({ "text": "1" })).await;
    line.does(&user, "message", json!({ "text": "2" })).await;
    let read = async |token: &str, read: &Value| {
        line.post("/v2/bot/chat/markAsRead", token, json!({ "markAsReadToken": read })).await
    };
    assert_eq!(read(&token, &first["mark_as_read_token"]).await.json(), json!({}));
    let messages = line.chat(&user).await["messages"].clone();
    assert_eq!((&messages[1]["read"], &messages[2]["read"]), (&json!(true), &Value::Null));
    let foreign = line.channel_token("3234567890", BOT_SECRET).await;
    assert_eq!(read(&foreign, &first["mark_as_read_token"]).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(read(&token, &json!("x")).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_group_is_not_the_users_own_chat() {
    let line = Line::open(None);
    let receiver = Receiver::of(&line).await;
    let user = line.user("Taro", None).await;
    let group = line.order("/_sim/groups", json!({ "name": "Family" })).await["group_id"].as_str().unwrap().to_owned();
    let source = json!({ "type": "group", "groupId": group });
    let token = line.bot_token().await;
    let push = async || {
        let body = json!({ "to": group, "messages": [{ "type": "text", "text": "hello" }] });
        line.post("/v2/bot/message/push", &token, body).await
    };
    assert_eq!(push().await.json(), json!({ "message": "Failed to send messages" }));
    let silent = line.order(&format!("/_sim/groups/{group}/message"), json!({ "text": "hi" })).await;
    assert_eq!(silent, json!({ "webhook": null }), "the bot is not there");
    line.order(&format!("/_sim/groups/{group}/join"), json!({})).await;
    assert_eq!(plain(receiver.event()), json!({ "type": "join", "source": source, "replyToken": "…" }));
    let members = json!({ "members": [{ "type": "user", "userId": user }] });
    line.order(&format!("/_sim/groups/{group}/members"), json!({ "joined": [user] })).await;
    assert_eq!(
        plain(receiver.event()),
        json!({ "type": "memberJoined", "source": source, "replyToken": "…", "joined": members })
    );
    let said = line.order(&format!("/_sim/groups/{group}/message"), json!({ "user_id": user, "text": "hi" })).await;
    assert_eq!(receiver.event()["source"], json!({ "type": "group", "groupId": group, "userId": user }));
    assert_eq!(line.reply(&said["reply_token"], "hello all").await.status, StatusCode::OK);
    assert_eq!(push().await.status, StatusCode::OK);
    line.order(&format!("/_sim/groups/{group}/message"), json!({ "text": "who?" })).await;
    assert_eq!(receiver.event()["source"], source);
    line.order(&format!("/_sim/groups/{group}/members"), json!({ "left": [user] })).await;
    assert_eq!(plain(receiver.event()), json!({ "type": "memberLeft", "source": source, "left": members }));
    line.order(&format!("/_sim/groups/{group}/leave"), json!({})).await;
    assert_eq!(plain(receiver.event()), json!({ "type": "leave", "source": source }));
    assert_eq!(line.chat(&user).await["messages"], json!([]));
    let ledger = line.get("/_sim/ledger", "").await.json();
    let delivered: Vec<(&Value, &Value)> =
        ledger["deliveries"].as_array().unwrap().iter().map(|one| (&one["user_id"], &one["reply"])).collect();
    assert_eq!(delivered, [(&json!(group), &json!(false)), (&json!(group), &json!(true))]);
}

#[tokio::test]
async fn taps_do_what_their_action_says() {
    let line = Line::open(None);
    let receiver = Receiver::of(&line).await;
    let user = line.friend("Taro").await;
    let token = line.bot_token().await;
    let push = async |message: Value| {
        let body = json!({ "to": user, "messages": [message] });
        let pushed = line.post("/v2/bot/message/push", &token, body).await;
        assert_eq!(pushed.status, StatusCode::OK, "{}", pushed.text());
    };
    push(
        json!({ "type": "template", "altText": "Sure?", "template": { "type": "confirm", "text": "Sure?", "actions": [
        { "type": "postback", "label": "Yes", "data": "yes=1", "displayText": "Yes!" },
        { "type": "message", "label": "No", "text": "no" },
    ] } }),
    )
    .await;
    line.does(&user, "tap", json!({ "label": "Yes" })).await;
    assert_eq!(receiver.event()["postback"], json!({ "data": "yes=1" }));
    let shown = line.chat(&user).await["messages"][1].clone();
    assert_eq!(shown, json!({ "from": "user", "type": "text", "text": "Yes!" }));
    line.does(&user, "tap", json!({ "label": "No" })).await;
    assert_eq!(receiver.event()["message"]["text"], "no");

    let pick = json!({ "type": "datetimepicker", "label": "When", "data": "when", "mode": "time", "initial": "10:00" });
    let go = json!({ "type": "uri", "label": "Go", "uri": "https://app.test/go" });
    let items = json!([{ "type": "action", "action": pick }, { "type": "action", "action": go }]);
    push(json!({ "type": "text", "text": "Quick!", "quickReply": { "items": items } })).await;
    let page = line.get(&format!("/_sim/phone/{user}/chat"), "").await.text();
    assert!(page.contains("class=\"quick\"") && page.contains("<span>When</span>"), "{page}");
    let count = receiver.count();
    let went = line.does(&user, "tap", json!({ "label": "Go" })).await;
    assert_eq!((&went["uri"], &went["webhook"]), (&json!("https://app.test/go"), &Value::Null));
    assert_eq!(receiver.count(), count);
    line.does(&user, "tap", json!({ "label": "When" })).await;
    assert_eq!(receiver.event()["postback"], json!({ "data": "when", "params": { "time": "10:00" } }));
    line.does(&user, "message", json!({ "text": "next" })).await;
    let gone = line.post(&format!("/_sim/users/{user}/tap"), "", json!({ "label": "When" })).await;
    assert_eq!(gone.status, StatusCode::BAD_REQUEST, "quick replies are gone");
    let page = line.get(&format!("/_sim/phone/{user}/chat"), "").await.text();
    assert!(!page.contains("class=\"quick\"") && page.contains("<span>Yes</span>"), "{page}");
}

#[tokio::test]
async fn an_area_of_the_shown_menu_is_tapped() {
    let line = Line::open(None);
    let receiver = Receiver::of(&line).await;
    let user = line.friend("Taro").await;
    let token = line.bot_token().await;
    let bounds = json!({ "x": 0, "y": 0, "width": 1250, "height": 1686 });
    let menu = json!({
        "size": { "width": 2500, "height": 1686 }, "selected": false, "name": "Members", "chatBarText": "Menu",
        "areas": [
            { "bounds": bounds, "action": { "type": "postback", "label": "Status", "data": "status" } },
            { "bounds": bounds, "action": { "type": "richmenuswitch", "richMenuAliasId": "b", "data": "to-b" } },
        ],
    });
    let tap = format!("/_sim/users/{user}/tap");
    assert_eq!(line.post(&tap, "", json!({ "area": 0 })).await.status, StatusCode::BAD_REQUEST, "no menu is shown");
    let id = line.post("/v2/bot/richmenu", &token, menu).await.json()["richMenuId"].as_str().unwrap().to_owned();
    let (bearer, content) = (format!("Bearer {token}"), format!("/v2/bot/richmenu/{id}/content"));
    let headers = [("authorization", bearer.as_str()), ("content-type", "image/png")];
    let uploaded = line.call(Method::POST, &content, &headers, crate::simulator::png(2500, 1686)).await;
    assert_eq!(uploaded.status, StatusCode::OK);
    line.post(&format!("/v2/bot/user/all/richmenu/{id}"), &token, json!({})).await;
    // The picture has its room before it is there, so that the chat stays at its end.
    let page = line.get(&format!("/_sim/phone/{user}/chat"), "").await.text();
    assert!(
        page.contains(&format!("<img src=\"/_sim/rich-menu/{id}\" alt=\"\" width=\"2500\" height=\"1686\">")),
        "{page}"
    );
    line.does(&user, "tap", json!({ "area": 0 })).await;
    assert_eq!(receiver.event()["postback"], json!({ "data": "status" }));
    line.does(&user, "tap", json!({ "area": 1 })).await;
    let params = json!({ "status": "RICHMENU_ALIAS_ID_NOTFOUND" });
    assert_eq!(receiver.event()["postback"], json!({ "data": "to-b", "params": params }));
    line.does(&user, "tap", json!({ "label": "Status" })).await;
    assert_eq!(receiver.event()["postback"], json!({ "data": "status" }));
    assert_eq!(line.post(&tap, "", json!({ "area": 2 })).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn what_is_set_and_what_is_open_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let line = Line::open(Some(folder.path()));
    let receiver = Receiver::of(&line).await;
    line.order(&format!("/_sim/bots/{BOT}/webhook"), json!({ "redelivery": true })).await;
    let user = line.user("Taro", None).await;
    receiver.answer(&[Ending::Status(503)]);
    let said = line.does(&user, "message", json!({ "text": "hello" })).await;
    line.simulator.save().unwrap();
    drop(line);

    let line = Line::open(Some(folder.path()));
    let sent = line.order("/_sim/webhooks/redeliver", json!({})).await["webhooks"].clone();
    assert_eq!(sent[0]["status"], 200);
    assert_eq!(receiver.event()["webhookEventId"], said["event_id"]);
    assert_eq!(line.reply(&said["reply_token"], "hello").await.status, StatusCode::OK);
    line.order("/_sim/reset", json!({})).await;
    let set = line.get(&format!("/_sim/bots/{BOT}/webhook"), "").await.json();
    assert_eq!((&set["active"], &set["redelivery"]), (&json!(true), &json!(true)), "a reset leaves the console alone");
}

#[tokio::test]
async fn adding_the_friend_at_login_is_told() {
    let line = Line::open(None);
    let receiver = Receiver::of(&line).await;
    let user = line.user("Taro", None).await;
    line.queue(json!({ "user_id": user, "outcome": "consent", "add_friend": true })).await;
    let back = line.authorize(&[("bot_prompt", "normal")]).await;
    assert_eq!(back.param("friendship_status_changed").as_deref(), Some("true"));
    let event = receiver.event();
    assert_eq!((&event["type"], &event["source"]["userId"]), (&json!("follow"), &json!(user)));
}

#[tokio::test]
async fn the_phones_forms_do_the_same() {
    let line = Line::open(None);
    let receiver = Receiver::of(&line).await;
    let user = line.user("Taro", None).await;
    let form = async |deed: &str, fields: &[(&str, &str)]| {
        let fields = [fields, &[("channel", BOT)]].concat();
        line.form(&format!("/_sim/phone/{user}/{deed}"), &fields).await
    };
    let table: [(&str, Pairs<'_>, &str); 6] = [
        ("follow", &[], "follow"),
        ("message", &[("text", "<i>hi")], "message"),
        ("message", &[("type", "sticker"), ("sticker", "789/10855")], "message"),
        ("message", &[("type", "image")], "message"),
        ("tap", &[("action", r#"{"type":"postback","data":"a"}"#)], "postback"),
        ("block", &[], "unfollow"),
    ];
    for (deed, fields, kind) in table {
        let done = form(deed, fields).await;
        assert_eq!(
            (done.status, done.header("location")),
            (StatusCode::SEE_OTHER, &*format!("/_sim/phone/{user}?channel={BOT}"))
        );
        assert_eq!(receiver.event()["type"], kind);
    }
    let refused = form("message", &[("text", "hi")]).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    let messages = line.chat(&user).await["messages"].clone();
    assert_eq!(messages[1]["stickerId"], "10855");
    let page = line.get(&format!("/_sim/phone/{user}"), "").await.text();
    assert!(page.contains("&#60;i&#62;hi") && page.contains("Unsend"), "{page}");
    let picture = line.get(&format!("/_sim/picture/{}", messages[2]["id"].as_str().unwrap()), "").await;
    assert_eq!(picture.header("content-type"), "image/png");
    let trace = line.get("/_sim/trace", "").await.text();
    assert!(trace.contains("unfollow") && trace.contains("x-line-signature"), "{trace}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_uses_the_phone() {
    let line = Line::open(None);
    let receiver = Receiver::of(&line).await;
    let user = line.friend("Taro").await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/_sim/phone/{user}", listener.local_addr().unwrap());
    let router = line.router.clone();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let browser = Browser::start(Screen::Phone).await;
    browser.goto(&url).await;

    browser.fill("text", "hello").await;
    browser.click_text("Send").await;
    browser.wait_for_text("hello Unsend").await;
    assert_eq!(receiver.event()["message"]["text"], "hello");
    let actions = json!([
        { "type": "postback", "label": "Yes", "data": "a", "displayText": "Yes, please" },
        { "type": "uri", "label": "No", "uri": "https://app.test/" },
    ]);
    let confirm = json!({ "type": "confirm", "text": "Sure?", "actions": actions });
    let messages = json!([
        { "type": "template", "altText": "Sure?", "template": confirm },
        { "type": "text", "text": "Or else", "quickReply": { "items": [
            { "type": "action", "action": { "type": "message", "label": "Later", "text": "not now" } },
        ] } },
    ]);
    let token = line.bot_token().await;
    let pushed = line.post("/v2/bot/message/push", &token, json!({ "to": user, "messages": messages })).await;
    assert_eq!(pushed.status, StatusCode::OK, "{}", pushed.text());
    browser.click_text("Later").await;
    browser.wait_for_text("not now").await;
    browser.wait_until_gone("Later").await;
    assert_eq!(receiver.event()["message"]["text"], "not now");
    browser.click_text("Yes").await;
    browser.wait_for_text("Yes, please").await;
    assert_eq!(receiver.event()["postback"], json!({ "data": "a" }));

    browser.click_text("Stickers, picture, location, block").await;
    for (button, kind) in [("Thanks", "sticker"), ("Send a picture", "image"), ("Send a location", "location")] {
        let before = receiver.count();
        browser.click_text(button).await;
        receiver.wait_for(before + 1).await;
        assert_eq!(receiver.event()["message"]["type"], kind);
    }
    browser.screenshot("simulator-phone").await;
    browser.click_text("Unsend").await;
    browser.wait_until_gone("hello").await;
    assert_eq!(receiver.event()["type"], "unsend");
    browser.click_text("Block").await;
    browser.wait_for_text("Blocked").await;
    browser.fill("text", "hello?").await;
    browser.click_text("Send").await;
    browser.wait_for_text("the person blocks the account").await;
    assert_eq!(receiver.event()["type"], "unfollow");
    browser.close().await;
}
