//! The Messaging client against the simulator: each call, its answers, and how it fails.
#![expect(clippy::panic, reason = "a test that cannot go on fails, and says why")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, http::StatusCode, response::IntoResponse, routing::any};
use musubi::{
    line::{
        Error, Hosts, Line,
        message::Message,
        messaging::{
            Accepted, Endpoint,
            narrowcast::Phase,
            quota::{Counted, Quota, Sent},
            validate::For,
        },
    },
    simulator::Host,
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, net::TcpListener};

use crate::simulator::{BOT, Line as Bench};

const RATE: &str = "The API rate limit has been exceeded. Try again later.";
const MONTH: &str = "You have reached your monthly limit.";
const DAY: i64 = 24 * 3600 * 1000;

/// A client of a simulator, with a channel token.
struct Talk {
    bench: Bench,
    line: Line,
    token: SecretString,
}

fn client(origin: &str) -> Line {
    let url = || url::Url::parse(origin).unwrap();
    Line::new(Hosts { access: url(), api: url(), api_data: url() }).unwrap()
}

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    origin
}

/// A client of a server that answers all calls so.
async fn answered(answer: impl IntoResponse + Clone + Send + Sync + 'static) -> Line {
    client(&serve(Router::new().fallback(any(async move || answer.clone()))).await)
}

impl Talk {
    async fn begin() -> Self {
        let bench = Bench::open(None);
        let line = client(&serve(bench.simulator.router(Host::All)).await);
        let token = bench.bot_token().await.into();
        Self { bench, line, token }
    }

    async fn friends(&self, count: usize) -> Vec<String> {
        let mut friends = Vec::new();
        for number in 0..count {
            friends.push(self.bench.friend(&format!("Friend {number}")).await);
        }
        friends
    }

    async fn order(&self, path: &str, order: Value) {
        let answer = self.bench.post(path, "", order).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text());
    }

    async fn texts(&self, user: &str) -> Vec<String> {
        let chat = self.bench.chat(user).await;
        let messages = chat["messages"].as_array().unwrap().iter();
        messages.map(|message| message["text"].as_str().unwrap().to_owned()).collect()
    }

    async fn send(&self, endpoint: Endpoint, key: &str, body: &Value) -> Result<Accepted, Error> {
        self.line.send(&self.token, endpoint, key, &body.to_string()).await
    }
}

fn key() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn text(text: &str) -> Value {
    json!({ "messages": [Message::text(text).to_json()] })
}

fn to(ids: impl Into<Value>, said: &str) -> Value {
    let mut body = text(said);
    body["to"] = ids.into();
    body
}

fn status_of<T: std::fmt::Debug>(result: Result<T, Error>) -> (u16, String) {
    match result {
        Err(Error::Refused { status, message, request_id, .. }) => {
            assert!(!request_id.is_empty());
            (status, message)
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn each_way_of_sending_is_taken_once_by_its_key() {
    let talk = Talk::begin().await;
    let friends = talk.friends(3).await;
    let cases = [
        (Endpoint::Push, to(friends[0].as_str(), "push")),
        (Endpoint::Multicast, to(friends.clone(), "multicast")),
        (Endpoint::Narrowcast, text("narrowcast")),
        (Endpoint::Broadcast, text("broadcast")),
    ];
    for (endpoint, body) in &cases {
        let key = key();
        let first = talk.send(*endpoint, &key, body).await.unwrap();
        assert_eq!(first.accepted_request_id, None);
        assert_eq!(first.sent_message_ids.len(), usize::from(*endpoint == Endpoint::Push));
        let again = talk.send(*endpoint, &key.to_uppercase(), body).await.unwrap();
        assert_eq!(again.accepted_request_id.as_ref(), Some(&first.request_id), "{endpoint:?}");
        assert_eq!(again.sent_message_ids, first.sent_message_ids);
        assert_ne!(again.request_id, first.request_id);
    }
    assert_eq!(talk.texts(&friends[0]).await, ["push", "multicast", "narrowcast", "broadcast"]);
    assert_eq!(talk.texts(&friends[2]).await, ["multicast", "narrowcast", "broadcast"]);
    talk.bench.pass(DAY);
    let key = key();
    let token = SecretString::from(talk.bench.bot_token().await);
    let body = cases[0].1.to_string();
    talk.line.push(&token, &key, &body).await.unwrap();
    talk.bench.pass(DAY - 1);
    let token = SecretString::from(talk.bench.bot_token().await);
    assert!(talk.line.push(&token, &key, &body).await.unwrap().accepted_request_id.is_some());
    talk.bench.pass(1);
    assert!(talk.line.push(&token, &key, &body).await.unwrap().accepted_request_id.is_none(), "LINE has forgotten it");
}

#[tokio::test]
async fn the_ledger_tells_which_request_reached_whom() {
    let talk = Talk::begin().await;
    let friends = talk.friends(2).await;
    let key = key();
    let body = to(friends.clone(), "hello");
    let first = talk.send(Endpoint::Multicast, &key, &body).await.unwrap();
    talk.send(Endpoint::Multicast, &key, &body).await.unwrap();
    let pushed = talk.send(Endpoint::Push, &self::key(), &to(friends[0].as_str(), "hello")).await.unwrap();

    let ledger = talk.bench.get("/_sim/ledger", "").await.json();
    let of = |user: &str, key: &Value| {
        let all = ledger["deliveries"].as_array().unwrap().iter();
        all.filter(|one| one["user_id"] == user && (one["retry_key"] == *key)).cloned().collect::<Vec<_>>()
    };
    for user in &friends {
        let of = of(user, &json!(key));
        assert_eq!(of.len(), 1);
        assert_eq!((&of[0]["count"], &of[0]["channel"]), (&json!(1), &json!(BOT)));
        assert_eq!(of[0]["requests"][0]["request_id"], first.request_id);
        assert_eq!(of[0]["requests"][0]["kind"], "multicast");
    }
    let all = ledger["deliveries"].as_array().unwrap();
    let push = all.iter().find(|one| one["requests"][0]["kind"] == "push").unwrap();
    assert_eq!(push["requests"][0]["message_ids"], json!(pushed.sent_message_ids));
    let summary = talk.bench.get("/_sim/ledger/summary", "").await.json();
    assert_eq!(summary, json!({ "arrivals": 3, "people": 2, "again_by_key": 0, "again_by_content": 1 }));
}

#[tokio::test]
async fn a_multicast_reaches_friends_only_and_one_wrong_id_stops_it() {
    let talk = Talk::begin().await;
    let friends = talk.friends(2).await;
    talk.order(&format!("/_sim/users/{}/block", friends[1]), json!({})).await;
    let stranger = talk.bench.user("Stranger", None).await;
    let nobody = format!("U{}", "0".repeat(32));
    let ids = vec![friends[0].clone(), friends[1].clone(), stranger.clone(), nobody, friends[0].clone()];
    talk.send(Endpoint::Multicast, &key(), &to(ids, "hello")).await.unwrap();
    assert_eq!(talk.texts(&friends[0]).await, ["hello", "hello"], "who is named twice");
    assert_eq!(talk.texts(&friends[1]).await.len() + talk.texts(&stranger).await.len(), 0);

    let group = format!("C{}", "0".repeat(32));
    let key = key();
    let refused = talk.send(Endpoint::Multicast, &key, &to(vec![friends[0].clone(), group], "no")).await;
    let text = "The property, to[1], in the request body is invalid (line: -, column: -)";
    assert_eq!(status_of(refused), (400, text.to_owned()));
    let many = to(vec![friends[0].clone(); 501], "no");
    assert_eq!(status_of(talk.send(Endpoint::Multicast, &key, &many).await).0, 400);
    assert_eq!(status_of(talk.send(Endpoint::Multicast, &key, &to(Vec::<String>::new(), "no")).await).0, 400);
    assert_eq!(talk.texts(&friends[0]).await.len(), 2, "nobody got it");
    let accepted = talk.send(Endpoint::Multicast, &key, &to(vec![friends[0].clone(); 500], "many")).await.unwrap();
    assert_eq!(accepted.accepted_request_id, None, "a refused request leaves its key free");
}

#[tokio::test]
async fn x28_a_refusal_brings_lines_own_words() {
    let talk = Talk::begin().await;
    let user = talk.friends(1).await.remove(0);
    let (status, message) = status_of(talk.send(Endpoint::Push, &key(), &to(user.as_str(), "")).await);
    assert_eq!(status, 400);
    assert!(message.starts_with("The request body has 1 error(s)"), "{message}");
    assert!(message.contains("messages[0].text") && message.contains("May not be empty"), "{message}");
    let nobody = to(format!("U{}", "0".repeat(32)), "hello");
    let refused = status_of(talk.send(Endpoint::Push, &key(), &nobody).await);
    assert_eq!(refused, (400, "Failed to send messages".to_owned()));
    let long = to(user.as_str(), &"a".repeat(2_100_000));
    assert_eq!(status_of(talk.send(Endpoint::Push, &key(), &long).await).0, 413);
    let strange = SecretString::from("no token of LINE's");
    let refused = status_of(talk.line.push(&strange, &key(), &to(user.as_str(), "a").to_string()).await);
    assert_eq!(refused.0, 401);
    for status in [403, 404, 410] {
        talk.order("/_sim/faults", json!({ "endpoint": "POST /v2/bot/message", "status": status })).await;
        assert_eq!(status_of(talk.send(Endpoint::Broadcast, &key(), &text("a")).await).0, status);
    }
}

#[tokio::test]
async fn x26_the_two_429s_differ_by_their_words() {
    let talk = Talk::begin().await;
    let friends = talk.friends(3).await;
    let (path, push) = (format!("/_sim/bots/{BOT}/rate"), to(friends[0].as_str(), "push"));
    talk.order(&path, json!({ "endpoint": "POST /v2/bot/message/push", "calls": 1 })).await;
    talk.send(Endpoint::Push, &key(), &push).await.unwrap();
    assert_eq!(status_of(talk.send(Endpoint::Push, &key(), &push).await), (429, RATE.to_owned()));
    talk.bench.pass(1000);
    talk.send(Endpoint::Push, &key(), &push).await.unwrap();

    talk.order(&format!("/_sim/bots/{BOT}/quota"), json!({ "limit": 4 })).await;
    let (all, key) = (to(friends.clone(), "multicast"), key());
    assert_eq!(status_of(talk.send(Endpoint::Multicast, &key, &all).await), (429, MONTH.to_owned()));
    assert_eq!(talk.texts(&friends[2]).await.len(), 0, "not even those for whom there was room");
    assert_eq!(talk.line.quota(&talk.token).await.unwrap(), Quota::Limited(4));
    assert_eq!(talk.line.consumption(&talk.token).await.unwrap(), 2);
    talk.order(&format!("/_sim/bots/{BOT}/quota"), json!({ "limit": 5 })).await;
    let accepted = talk.send(Endpoint::Multicast, &key, &all).await.unwrap();
    assert_eq!(accepted.accepted_request_id, None);
    assert_eq!(status_of(talk.send(Endpoint::Broadcast, &self::key(), &text("a")).await), (429, MONTH.to_owned()));
    talk.bench.pass(31 * DAY);
    let token = SecretString::from(talk.bench.bot_token().await);
    let body = text("a").to_string();
    talk.line.send(&token, Endpoint::Broadcast, &self::key(), &body).await.unwrap();
    assert_eq!(talk.line.consumption(&token).await.unwrap(), 3, "a new month");
    talk.order(&format!("/_sim/bots/{BOT}/quota"), json!({ "limit": null })).await;
    assert_eq!(talk.line.quota(&token).await.unwrap(), Quota::None);
}

#[tokio::test]
async fn broadcasts_and_narrowcasts_are_sixty_an_hour() {
    let talk = Talk::begin().await;
    for endpoint in [Endpoint::Broadcast, Endpoint::Narrowcast] {
        for _ in 0..60 {
            talk.send(endpoint, &key(), &text("a")).await.unwrap();
        }
        assert_eq!(status_of(talk.send(endpoint, &key(), &text("a")).await), (429, RATE.to_owned()));
    }
    talk.bench.pass(60_000);
    talk.send(Endpoint::Broadcast, &key(), &text("a")).await.unwrap();
}

#[tokio::test]
async fn what_was_sent_is_counted_by_day() {
    let talk = Talk::begin().await;
    let friends = talk.friends(2).await;
    talk.send(Endpoint::Multicast, &key(), &to(friends.clone(), "a")).await.unwrap();
    talk.send(Endpoint::Push, &key(), &to(friends[0].as_str(), "a")).await.unwrap();
    // 2027-01-15 08:00 UTC is the same day in Japan.
    let on = async |counted, date: &str, token: &SecretString| talk.line.sent_on(token, counted, date).await;
    assert_eq!(on(Counted::Push, "20270115", &talk.token).await.unwrap(), Sent::Unready);
    assert_eq!(on(Counted::Push, "20170101", &talk.token).await.unwrap(), Sent::OutOfService);
    assert_eq!(status_of(on(Counted::Push, "2027-1-1", &talk.token).await).0, 400);
    talk.bench.pass(DAY);
    let token = SecretString::from(talk.bench.bot_token().await);
    assert_eq!(on(Counted::Push, "20270115", &token).await.unwrap(), Sent::Ready { success: 1 });
    assert_eq!(on(Counted::Multicast, "20270115", &token).await.unwrap(), Sent::Ready { success: 2 });
    assert_eq!(on(Counted::Reply, "20270115", &token).await.unwrap(), Sent::Ready { success: 0 });
    assert_eq!(on(Counted::Broadcast, "20270114", &token).await.unwrap(), Sent::Ready { success: 0 });
}

#[tokio::test]
async fn a_narrowcast_is_told_in_phases() {
    let talk = Talk::begin().await;
    let friends = talk.friends(50).await;
    let progress = async |id: &str| talk.line.narrowcast_progress(&talk.token, id).await.unwrap();
    let accepted = talk.send(Endpoint::Narrowcast, &key(), &text("a")).await.unwrap();
    let waiting = progress(&accepted.request_id).await.unwrap();
    assert_eq!((waiting.phase, waiting.target_count), (Phase::Waiting, None));
    assert_eq!(waiting.accepted_time, "2027-01-15T08:00:00.000Z");
    talk.bench.pass(1000);
    assert_eq!(progress(&accepted.request_id).await.unwrap().phase, Phase::Sending);
    talk.bench.pass(1000);
    let ended = progress(&accepted.request_id).await.unwrap();
    assert_eq!((ended.phase, ended.success_count, ended.failure_count), (Phase::Succeeded, Some(50), Some(0)));
    assert!(ended.completed_time.is_some());
    assert_eq!(progress("unknown").await, None);

    let ask = async |more: Value| {
        let mut body = text("b");
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        talk.send(Endpoint::Narrowcast, &key(), &body).await
    };
    let again = json!({ "recipient": { "type": "redelivery", "requestId": accepted.request_id } });
    let to_fifty = ask(again.clone()).await.unwrap();
    let but = json!({ "recipient": { "type": "operator", "not": again["recipient"] } });
    let to_nobody = ask(but).await.unwrap();
    talk.bench.pass(2000);
    assert_eq!(progress(&to_fifty.request_id).await.unwrap().phase, Phase::Succeeded);
    let failed = progress(&to_nobody.request_id).await.unwrap();
    assert_eq!((failed.phase, failed.error_code), (Phase::Failed, Some(2)));
    assert_eq!(talk.texts(&friends[0]).await, ["a", "b"]);

    let audience = ask(json!({ "recipient": { "type": "audience", "audienceGroupId": 7 } })).await;
    assert_eq!(status_of(audience), (400, "Invalid audience group id: 7".to_owned()));
    let both = json!({ "recipient": { "type": "operator", "and": [], "or": [] } });
    assert_eq!(status_of(ask(both).await).0, 400);
    let filter = json!({ "filter": { "demographic": { "type": "gender", "oneOf": ["female"] } } });
    assert_eq!(status_of(ask(filter).await), (403, "Your account does not have enough friends".to_owned()));
    assert_eq!(status_of(ask(json!({ "limit": { "forbidPartialDelivery": true } })).await).0, 400);
    talk.order(&format!("/_sim/bots/{BOT}/quota"), json!({ "limit": 110 })).await;
    let all = json!({ "limit": { "upToRemainingQuota": true, "forbidPartialDelivery": true } });
    let stopped = ask(all).await.unwrap();
    let some = ask(json!({ "limit": { "upToRemainingQuota": true } })).await.unwrap();
    talk.bench.pass(2000);
    assert_eq!(progress(&stopped.request_id).await.unwrap().error_code, Some(5));
    assert_eq!(progress(&some.request_id).await.unwrap().target_count, Some(10));
    assert_eq!(status_of(ask(json!({})).await), (429, MONTH.to_owned()));
}

#[tokio::test]
async fn messages_are_validated_without_being_sent() {
    let talk = Talk::begin().await;
    let user = talk.friends(1).await.remove(0);
    let (good, bad) = (Message::text("a").to_json(), Message::text("").to_json());
    for sending in [For::Reply, For::Push, For::Multicast, For::Narrowcast, For::Broadcast] {
        assert_eq!(talk.line.validate(&talk.token, sending, std::slice::from_ref(&good)).await.unwrap(), []);
        let found = talk.line.validate(&talk.token, sending, &[good.clone(), bad.clone()]).await.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].property.as_str(), found[0].message.as_str()), ("messages[1].text", "May not be empty"));
    }
    assert_eq!(talk.texts(&user).await.len(), 0);
    let headers = [("x-line-retry-key", "123e4567-e89b-12d3-a456-426614174000")];
    let token = talk.bench.bot_token().await;
    let keyed = talk.bench.post_with("/v2/bot/message/validate/push", &token, &headers, text("a")).await;
    assert_eq!(keyed.status, StatusCode::BAD_REQUEST, "no retry key here");
}

#[tokio::test]
async fn followers_come_page_by_page() {
    let talk = Talk::begin().await;
    let mut friends = talk.friends(5).await;
    talk.order(&format!("/_sim/users/{}/block", friends[4]), json!({})).await;
    friends.truncate(4);
    let token = talk.bench.bot_token().await;
    let page = async |query: &str| talk.bench.get(&format!("/v2/bot/followers/ids?{query}"), &token).await;
    let mut found = Vec::new();
    let mut next = String::new();
    loop {
        let answer = page(&format!("limit=3{next}")).await.json();
        found.extend(answer["userIds"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()));
        match answer["next"].as_str() {
            Some(start) => next = format!("&start={start}"),
            None => break,
        }
    }
    found.sort();
    friends.sort();
    assert_eq!(found, friends);
    let all = talk.line.followers(&talk.token, None).await.unwrap();
    assert_eq!((all.user_ids.len(), all.next), (4, None));
    for query in ["limit=0", "limit=1001", "limit=x", "start=nonsense"] {
        assert_eq!(page(query).await.status, StatusCode::BAD_REQUEST, "{query}");
    }
    let start = &next["&start=".len()..];
    assert!(talk.line.followers(&talk.token, Some(start)).await.is_ok());
    talk.order(&format!("/_sim/bots/{BOT}/verified"), json!({ "verified": false })).await;
    assert_eq!(status_of(talk.line.followers(&talk.token, None).await).0, 403);
    talk.bench.pass(DAY);
    talk.order(&format!("/_sim/bots/{BOT}/verified"), json!({ "verified": true })).await;
    let token = SecretString::from(talk.bench.bot_token().await);
    let late = talk.line.followers(&token, Some(start)).await;
    assert_eq!(status_of(late), (400, "Invalid start param".to_owned()));
}

#[tokio::test]
async fn the_account_its_webhook_and_its_chats() {
    let talk = Talk::begin().await;
    let user = talk.friends(1).await.remove(0);
    assert_eq!(talk.line.bot_info(&talk.token).await.unwrap().basic_id, "@musubi");
    assert_eq!(talk.line.webhook(&talk.token).await.unwrap(), None);
    let origin = serve(Router::new().fallback(any(async || StatusCode::IM_A_TEAPOT))).await;
    talk.line.set_webhook(&talk.token, &origin).await.unwrap();
    let webhook = talk.line.webhook(&talk.token).await.unwrap().unwrap();
    assert_eq!((webhook.endpoint, webhook.active), (origin, false));
    let tested = talk.line.test_webhook(&talk.token).await.unwrap();
    assert_eq!((tested.success, tested.status_code, tested.reason.as_str()), (false, 418, "ERROR_STATUS_CODE"));
    assert_eq!(status_of(talk.line.set_webhook(&talk.token, "http://app.test").await).0, 400);

    talk.line.start_loading(&talk.token, &user, 5).await.unwrap();
    assert_eq!(talk.bench.chat(&user).await["loading"], true);
    talk.send(Endpoint::Push, &key(), &to(user.as_str(), "hello")).await.unwrap();
    assert_eq!(talk.bench.chat(&user).await["loading"], false);
    assert_eq!(status_of(talk.line.start_loading(&talk.token, &user, 7).await).0, 400);
    let said = talk.bench.post(&format!("/_sim/users/{user}/message"), "", json!({ "text": "hi" })).await.json();
    let read = said["mark_as_read_token"].as_str().unwrap();
    talk.line.mark_as_read(&talk.token, read).await.unwrap();
    assert_eq!(talk.bench.chat(&user).await["messages"][1]["read"], true);
    assert_eq!(status_of(talk.line.mark_as_read(&talk.token, "nonsense").await).0, 400);
}

#[tokio::test]
async fn the_latency_is_that_of_all_calls() {
    let talk = Talk::begin().await;
    let user = talk.friends(1).await.remove(0);
    talk.order("/_sim/latency", json!({ "ms": 60 })).await;
    let started = std::time::Instant::now();
    talk.send(Endpoint::Push, &key(), &to(user.as_str(), "a")).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(60));
    talk.order("/_sim/latency", json!({ "ms": 0 })).await;
    // Long ago the handler was done: what is asked has its effect at once.
    assert_eq!(talk.texts(&user).await, ["a"]);
}

#[tokio::test]
async fn x22_what_never_reached_line_is_known_to_be_without_effect() {
    let token = SecretString::from("token");
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refused = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let plain = serve(Router::new()).await.replace("http://", "https://");
    for origin in [refused.as_str(), plain.as_str(), "https://line.invalid"] {
        let result = client(origin).push(&token, &key(), "{}").await;
        assert!(matches!(result, Err(Error::Unreached(_))), "{origin}: {result:?}");
    }
    let unsendable = SecretString::from("a\nb");
    assert!(matches!(client(&refused).push(&unsendable, &key(), "{}").await, Err(Error::Client(_))));
}

#[tokio::test]
async fn x21_an_answer_that_breaks_off_leaves_the_outcome_open() {
    let talk = Talk::begin().await;
    let user = talk.friends(1).await.remove(0);
    for fault in [json!({ "cut": "after" }), json!({ "cut": "before" }), json!({ "truncate": 5 })] {
        let mut order = fault.clone();
        order["endpoint"] = "POST /v2/bot/message/push".into();
        talk.order("/_sim/faults", order).await;
        let (key, body) = (key(), to(user.as_str(), &fault.to_string()));
        let broken = talk.send(Endpoint::Push, &key, &body).await;
        let is_taken_as_it_is = fault["truncate"] == 5;
        match broken {
            Err(Error::Lost(_)) => assert!(!is_taken_as_it_is),
            Ok(accepted) => assert!(is_taken_as_it_is && accepted.sent_message_ids.is_empty(), "{accepted:?}"),
            other => panic!("{other:?}"),
        }
        talk.send(Endpoint::Push, &key, &body).await.unwrap();
    }
    assert_eq!(talk.texts(&user).await.len(), 3, "each once");
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let (elsewhere, asked) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), "https://line.invalid/");
    let target = format!("http://{}/", elsewhere.local_addr().unwrap());
    for (status, location) in [(302, target.clone()), (307, target.clone()), (308, asked.to_owned())] {
        let status = StatusCode::from_u16(status).unwrap();
        let line = answered((status, [("location", location), ("x-line-request-id", "r".to_owned())])).await;
        let refused = status_of(line.push(&SecretString::from("token"), &key(), "{}").await);
        assert_eq!(refused.0, status.as_u16());
    }
    let nobody = tokio::time::timeout(Duration::from_millis(100), elsewhere.accept()).await;
    assert!(nobody.is_err(), "the token goes nowhere else");
}

#[tokio::test]
async fn an_answer_is_read_within_bounds() {
    let token = SecretString::from("token");
    let long = "a".repeat(70_000);
    let line = answered((StatusCode::OK, long.clone())).await;
    assert!(matches!(line.quota(&token).await, Err(Error::Malformed(_))));
    let line = answered((StatusCode::BAD_REQUEST, long)).await;
    assert!(matches!(line.quota(&token).await, Err(Error::Malformed(_))));
    let line = answered((StatusCode::BAD_REQUEST, [("x-line-request-id", "r")], "a\u{1b}[31m".repeat(1000))).await;
    let (_, message) = status_of(line.quota(&token).await);
    assert!(message.len() <= 500 && !message.contains('\u{1b}'), "cut, and without control characters");
}

#[tokio::test]
async fn x23_a_silent_line_is_given_up_after_ten_seconds() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let line = client(&format!("http://{}", listener.local_addr().unwrap()));
    let call = tokio::spawn(async move { line.push(&SecretString::from("token"), &key(), "{}").await });
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = [0; 1024];
    assert!(stream.read(&mut request).await.unwrap() > 0);
    // Nothing more will come: the clock runs to the next timer.
    tokio::time::pause();
    let started = tokio::time::Instant::now();
    let result = call.await.unwrap();
    assert!(matches!(&result, Err(Error::Lost(text)) if text.contains("time limit")), "{result:?}");
    assert!(started.elapsed() <= Duration::from_millis(10_100));
}

/// What is written while the guard lives, by a filter as in `RUST_LOG`.
fn written(filter: &str) -> (Arc<Mutex<Vec<u8>>>, tracing::subscriber::DefaultGuard) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_ansi(false)
        .with_writer(move || Lines(writer.clone()))
        .finish();
    (lines, tracing::subscriber::set_default(subscriber))
}

struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn each_call_is_logged_and_names_nobody() {
    let talk = Talk::begin().await;
    let user = talk.friends(1).await.remove(0);
    let (lines, guard) = written("info");
    let accepted = talk.send(Endpoint::Push, &key(), &to(user.as_str(), "a secret word")).await.unwrap();
    talk.line.profile_of(&talk.token, &user).await.unwrap();
    talk.line.narrowcast_progress(&talk.token, "a-request").await.unwrap();
    let gone = client("http://127.0.0.1:1").quota(&talk.token).await;
    drop(guard);
    assert!(gone.is_err());
    let text = String::from_utf8(lines.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains(" line: ")).collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[0].contains("method=POST path=\"/v2/bot/message/push\" status=200"), "{text}");
    assert!(lines[0].contains(&accepted.request_id) && lines[0].contains("ms="), "{text}");
    assert!(lines[1].contains("path=\"/v2/bot/profile/U*\" status=200"), "{text}");
    assert!(lines[2].contains("path=\"/v2/bot/message/progress/narrowcast\" status=404"), "{text}");
    assert!(lines[3].contains("could not be reached"), "{text}");
    for secret in [talk.token.expose_secret(), &user, "a secret word", "a-request"] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
}

#[tokio::test]
async fn bodies_are_logged_where_asked_for_without_tokens() {
    let talk = Talk::begin().await;
    let user = talk.friends(1).await.remove(0);
    let said = talk.bench.post(&format!("/_sim/users/{user}/message"), "", json!({ "text": "hi" })).await.json();
    let reply_token = said["reply_token"].as_str().unwrap().to_owned();
    let (lines, guard) = written("info,line::body=trace");
    let mut body = text("an answer");
    body["replyToken"] = reply_token.as_str().into();
    // Never sent by webhook, the token is not good yet.
    assert!(talk.line.reply(&talk.token, &body.to_string()).await.is_err());
    talk.send(Endpoint::Push, &key(), &to(user.as_str(), "a push")).await.unwrap();
    talk.line.link_token(&talk.token, &user).await.unwrap();
    drop(guard);
    let text = String::from_utf8(lines.lock().unwrap().clone()).unwrap();
    assert!(text.contains("an answer") && text.contains("sentMessages"), "{text}");
    for secret in [talk.token.expose_secret(), &reply_token] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
    assert!(text.contains(r#"\"linkToken\":\"***\""#), "{text}");
}
