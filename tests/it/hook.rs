//! What happens is told to the company's systems: once it is sure, signed, again and again where nobody takes it, and
//! never into our own network.
#![expect(clippy::panic, reason = "a test that cannot go on fails, and says why")]

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::http::HeaderMap;
use musubi::{
    app::{App, Clock},
    db::Millis,
    doctor,
    egress::{Egress, Failure, Found, Lookup},
    hook::{
        self, Mistake, Refusal,
        endpoint::{self, Change, Endpoint, New},
        log::{self, Line},
        replay::Range,
    },
    message::{self, Audience, Order},
    worker,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{
    kill::{ENGINES, World, rounds},
    order::{hello, order},
    retention::explain,
    sending::{PUSH, friend},
    support::{
        BOT_SECRET, Engine, PASSWORD, TestApp,
        process::{Browser, until},
        receiver::{Receiver, Say},
    },
    webhook::{self, envelope, event_id, signed, text_event},
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Makes two tests of one body, with hooks into this machine allowed.
macro_rules! both_with_hooks {
    ($($(#[$meta:meta])* async fn $name:ident($app:ident) $body:block)*) => { $(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports, reason = "some bodies need nothing from around")]
            use super::*;

            async fn body($app: &TestApp) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                let app = start(Engine::Sqlite).await;
                body(&app).await;
                app.end().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                let app = start(Engine::Postgres).await;
                body(&app).await;
                app.end().await;
            }
        }
    )* };
}

pub async fn start(engine: Engine) -> TestApp {
    TestApp::start_with(engine, |config| config.hooks.allow_networks = vec!["127.0.0.0/8".parse().unwrap()]).await
}

/// An endpoint that hears these types (none: all) at the receiver.
async fn endpoint(app: &App, receiver: &Receiver, types: &[&str]) -> (Endpoint, SecretString) {
    let types = types.iter().map(|word| (*word).to_owned()).collect();
    endpoint::create(app, &New { url: receiver.url.clone(), types, ..New::default() }).await.unwrap()
}

async fn find(app: &App, id: &str) -> endpoint::Row {
    endpoint::find(&mut app.db.conn().await.unwrap(), id).await.unwrap().unwrap().row
}

async fn lines(app: &App, id: &str) -> Vec<Line> {
    log::list(&mut app.db.conn().await.unwrap(), id, "", 1000).await.unwrap()
}

/// `state attempts status error` of the newest delivery.
async fn newest(app: &App, id: &str) -> String {
    let line = lines(app, id).await.remove(0);
    format!("{} {} {:?} {:?}", line.state, line.attempts, line.status, line.error.unwrap_or_default())
}

async fn rows(app: &TestApp, tables: &[&str]) -> i64 {
    let mut sum = 0;
    for table in tables {
        let statement = AssertSqlSafe(format!("SELECT CAST(COUNT(*) AS BIGINT) FROM {table}"));
        sum += sqlx::query_scalar::<_, i64>(statement).fetch_one(&mut *app.app.db.conn().await.unwrap()).await.unwrap();
    }
    sum
}

/// Something said to one member.
fn note(member_id: &str) -> Order {
    order(Audience::Member(member_id.to_owned()), hello())
}

/// Later, and what is due then.
async fn later(app: &TestApp, by: Duration) {
    app.clock.advance(by);
    app.drain().await;
}

/// Has an event told that nothing else causes.
async fn test_call(app: &TestApp, endpoint: &Endpoint) -> String {
    let id = endpoint::test(&app.app, &endpoint.row.id).await.unwrap();
    app.drain().await;
    id
}

both_with_hooks! {
    /// A person's whole story, as a company's system hears it.
    async fn everything_is_told_once_and_signed(app) {
        let receiver = Receiver::start().await;
        let (made, secret) = endpoint(&app.app, &receiver, &[]).await;
        let (mut visitor, user) = app.linked("hanako@example.jp").await;
        app.execute("UPDATE members SET external_id = 'C-1001'").await;
        let said = app.say(&user, "いつ届きますか").await;
        app.does(&user, "postback", json!({ "data": "order=7&step=2" })).await;
        let tab = json!({ "type": "richmenuswitch", "richMenuAliasId": "shop", "data": "tab=shop" });
        app.does(&user, "tap", json!({ "action": tab })).await;
        app.does(&user, "postback", json!({ "data": "musubi=status" })).await;
        app.does(&user, "block", json!({})).await;
        app.does(&user, "follow", json!({})).await;
        app.drain().await;
        visitor.unlink().await;
        app.drain().await;

        let mut types = receiver.types();
        types.sort();
        assert_eq!(types, [
            "link.created", "link.ended", "message.received", "postback.received", "postback.received",
            "user.blocked", "user.followed", "user.followed",
        ]);
        let mut ids: Vec<String> = receiver.heard().iter().map(|heard| heard.id().to_owned()).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), types.len(), "each has an id of its own");
        let stranger: SecretString = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned().into();
        for heard in receiver.heard() {
            assert!(heard.is_signed_by(&secret) && !heard.is_signed_by(&stranger), "{heard:?}");
            assert_eq!(heard.header("content-type"), "application/json");
            let text = String::from_utf8(heard.body.to_vec()).unwrap();
            assert!(!text.contains(&user), "LINE's id of a person: {text}");
            let mut changed = heard.clone();
            changed.body = text.replacen("\"type\"", "\"typo\"", 1).into();
            assert!(!changed.is_signed_by(&secret));
            let json = heard.json();
            let names: Vec<&String> = json.as_object().unwrap().keys().collect();
            assert_eq!(names, ["data", "timestamp", "type"]);
            json["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        }

        let created = &receiver.of_type("link.created")[0]["data"];
        let link_id: String = sqlx::query_scalar("SELECT id FROM links").fetch_one(&mut *app.app.db.conn().await.unwrap()).await.unwrap();
        assert_eq!((&created["link"]["id"], &created["link"]["source"], &created["provider"]), (&json!(link_id), &json!("web"), &json!("main")));
        let message = &receiver.of_type("message.received")[0]["data"];
        assert_eq!(message["member"]["external_id"], "C-1001");
        assert_eq!(message["message"], json!({ "id": said["message_id"], "type": "text", "text": "いつ届きますか" }));
        assert_eq!((&message["channel"], &message["chat"]), (&json!("main"), &json!({ "type": "user" })));
        assert_eq!(message["user"]["id"], created["user"]["id"]);
        // The other one is a tab of the rich menu, with what came of it. Hooks arrive in any order.
        let params = json!({ "status": "RICHMENU_ALIAS_ID_NOTFOUND" });
        let postbacks = receiver.of_type("postback.received");
        for postback in [json!({ "data": "order=7&step=2" }), json!({ "data": "tab=shop", "params": params })] {
            assert!(postbacks.iter().any(|told| told["data"]["postback"] == postback), "{postback}: {postbacks:?}");
        }
        let ended = &receiver.of_type("link.ended")[0]["data"];
        assert_eq!((&ended["link"]["id"], &ended["link"]["end_reason"]), (&json!(link_id), &json!("member")));
        assert_eq!(ended["member"]["external_id"], "C-1001");
        assert!(lines(&app.app, &made.row.id).await.iter().all(|line| line.state == "delivered" && line.attempts == 1));
    }

    /// Without an endpoint that wants it nothing is written; a disabled one wants nothing.
    async fn what_nobody_wants_is_not_written(app) {
        let receiver = Receiver::start().await;
        let tables = ["hook_events", "hook_deliveries", "hook_watches"];
        let story = async |number: usize| {
            let email = format!("hanako{number}@example.jp");
            let (_, user) = app.linked(&email).await;
            app.say(&user, "hello").await;
            let found = sqlx::query_scalar::<_, String>("SELECT id FROM members WHERE email = $1").bind(&email);
            let member_id = found.fetch_one(&mut *app.app.db.conn().await.unwrap()).await.unwrap();
            message::accept(&app.app, &note(&member_id)).await.unwrap();
            app.drain().await;
        };
        story(1).await;
        assert_eq!(rows(app, &tables).await, 0, "no endpoint");
        let (made, _) = endpoint(&app.app, &receiver, &["link.ended", "user.blocked"]).await;
        story(2).await;
        assert_eq!(rows(app, &tables).await, 0, "other types");
        let types = Some(vec!["message.received".to_owned()]);
        endpoint::update(&app.app, &made.row.id, &Change { types, ..Change::default() }).await.unwrap();
        story(3).await;
        assert_eq!(receiver.types(), ["message.received"]);
        let off = Change { is_enabled: Some(false), ..Change::default() };
        endpoint::update(&app.app, &made.row.id, &off).await.unwrap();
        story(4).await;
        assert_eq!(rows(app, &tables).await, 2, "disabled");
        endpoint::delete(&app.app, &made.row.id).await.unwrap();
        story(5).await;
        assert_eq!(receiver.types(), ["message.received"]);
        while worker::prune(&app.app, "test").await.unwrap() > 0 {}
        assert_eq!(rows(app, &["hook_deliveries", "hook_endpoints", "hook_subscriptions"]).await, 0);
    }

    /// What failed is told by its reason, and a message's end with its counts.
    async fn deliveries_that_fail_and_messages_that_end_are_told(app) {
        let receiver = Receiver::start().await;
        endpoint(&app.app, &receiver, &["delivery.failed", "message.finished"]).await;
        let users = [friend(app).await, friend(app).await];
        let good = message::accept(&app.app, &note(&users[0])).await.unwrap().message_id;
        later(app, Duration::from_secs(2)).await;
        app.fault(json!({ "endpoint": PUSH, "status": 400, "count": 1 })).await;
        let bad = message::accept(&app.app, &note(&users[1])).await.unwrap().message_id;
        app.drain().await;
        later(app, Duration::from_secs(2)).await;
        later(app, Duration::from_secs(2)).await;

        let failed = receiver.of_type("delivery.failed");
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert_eq!(failed[0]["data"]["delivery"]["message_id"], bad);
        assert_eq!(failed[0]["data"]["delivery"]["reason"], "refused_by_line");
        assert_eq!(failed[0]["data"]["member"]["id"], users[1].as_str(), "the stub's member");
        let finished = receiver.of_type("message.finished");
        let counts: Vec<(&Value, &Value)> =
            finished.iter().map(|told| (&told["data"]["message"]["id"], &told["data"]["recipients"])).collect();
        let count = |sent: i64, failed: i64| json!({ "accepted": 1, "sent": sent, "failed": failed, "unknown": 0, "cancelled": 0, "left_out": 0 });
        assert_eq!(counts, [(&json!(good), &count(1, 0)), (&json!(bad), &count(0, 1))]);
        assert_eq!(rows(app, &["hook_watches"]).await, 0);
    }

    /// One that is sent later, or taken back, ends when it is over and not before.
    async fn a_message_is_not_finished_before_its_time(app) {
        let receiver = Receiver::start().await;
        endpoint(&app.app, &receiver, &["message.finished"]).await;
        let user = friend(app).await;
        let mut planned = note(&user);
        planned.send_at = Some(app.app.now().plus(HOUR));
        let id = message::accept(&app.app, &planned).await.unwrap().message_id;
        later(app, 59 * MINUTE).await;
        assert_eq!(receiver.types(), Vec::<String>::new());
        later(app, 2 * MINUTE).await;
        later(app, 2 * MINUTE).await;
        assert_eq!(receiver.of_type("message.finished")[0]["data"]["message"]["id"], id);
        planned.send_at = Some(app.app.now().plus(HOUR));
        let id = message::accept(&app.app, &planned).await.unwrap().message_id;
        message::cancel_message(&app.app, &id).await.unwrap();
        later(app, HOUR).await;
        let told = &receiver.of_type("message.finished")[1]["data"];
        assert_eq!((&told["message"], &told["recipients"]["cancelled"]), (&json!({ "id": id, "is_cancelled": true }), &json!(1)));
    }

    /// A failure is tried again under the same id, for some days, and then no more.
    async fn what_is_not_taken_is_told_again_for_days(app) {
        let receiver = Receiver::start().await;
        let (made, secret) = endpoint(&app.app, &receiver, &[]).await;
        let (id, at) = (&made.row.id, app.app.now());
        receiver.say([Say::status(500).body("<b>no\r\n</b>"), Say::status(404)]);
        let event_id = test_call(app, &made).await;
        assert_eq!(newest(&app.app, id).await, r#"waiting 1 Some(500) "<b>no</b>""#);
        app.drain().await;
        assert_eq!(receiver.heard().len(), 1, "not at once");
        later(app, Duration::from_secs(7)).await;
        assert_eq!(newest(&app.app, id).await, r#"waiting 2 Some(404) """#);
        assert!(find(&app.app, id).await.failing_since.is_some_and(|since| since >= at));
        later(app, 7 * MINUTE).await;
        assert_eq!(newest(&app.app, id).await, r#"delivered 3 Some(204) """#);
        assert_eq!(find(&app.app, id).await.failing_since, None);
        let heard = receiver.heard();
        assert!(heard.iter().all(|heard| heard.id() == event_id && heard.was_signed_by(&secret)), "{heard:?}");
        assert_eq!(heard[0].body, heard[2].body);
        assert_ne!(heard[0].header("webhook-timestamp"), heard[2].header("webhook-timestamp"), "signed anew");

        receiver.always(500);
        receiver.forget();
        test_call(app, &made).await;
        for _ in 0..100 {
            later(app, HOUR).await;
        }
        assert_eq!(receiver.heard().len(), 10);
        assert_eq!(newest(&app.app, id).await, r#"failed 10 Some(500) """#);
    }

    /// Nobody is led elsewhere, and a connection that is refused is a failure like others.
    async fn j08_redirects_and_dead_ends_are_failures(app) {
        let (receiver, inside) = (Receiver::start().await, Receiver::start().await);
        let (made, _) = endpoint(&app.app, &receiver, &[]).await;
        for status in [301, 302, 303, 307, 308] {
            receiver.say([Say::status(status).header("location", &inside.url)]);
            test_call(app, &made).await;
            assert_eq!(newest(&app.app, &made.row.id).await, format!("waiting 1 Some({status}) \"a redirect, which is not followed\""));
        }
        assert!(inside.heard().is_empty());
        let dead = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/secret-path-of-theirs", dead.local_addr().unwrap());
        drop(dead);
        endpoint::update(&app.app, &made.row.id, &Change { url: Some(url), ..Change::default() }).await.unwrap();
        test_call(app, &made).await;
        let said = newest(&app.app, &made.row.id).await;
        assert!(said.starts_with("waiting 1 None \"no connection") && !said.contains("secret-path"), "{said}");
    }

    /// 410 ends it; a failure of five days does too, and is told to whoever looks.
    async fn an_endpoint_that_is_gone_or_hopeless_is_disabled(app) {
        let (gone, hopeless) = (Receiver::start().await, Receiver::start().await);
        let (one, _) = endpoint(&app.app, &gone, &["link.ended"]).await;
        let (other, _) = endpoint(&app.app, &hopeless, &[]).await;
        let well = async || doctor::examine(&app.app).await.iter().map(ToString::to_string).find(|line| line.contains("hooks")).unwrap();
        assert_eq!(well().await, "✓ hooks: 2 endpoints, all well");
        gone.say([Say::status(410)]);
        test_call(app, &one).await;
        let row = find(&app.app, &one.row.id).await;
        assert_eq!((row.disabled_at.is_some(), row.disabled_why.as_deref()), (true, Some("gone")));
        assert_eq!(newest(&app.app, &one.row.id).await, r#"failed 1 Some(410) """#);
        test_call(app, &one).await;
        assert_eq!(gone.heard().len(), 1, "told nothing more");
        assert!(app.audit().await.contains(&"hook_disabled/gone".to_owned()));

        hopeless.always(503);
        test_call(app, &other).await;
        later(app, 4 * DAY).await;
        assert_eq!(find(&app.app, &other.row.id).await.disabled_at, None);
        assert!(well().await.contains("takes nothing at present"), "{}", well().await);
        later(app, DAY + HOUR).await;
        test_call(app, &other).await;
        assert_eq!(find(&app.app, &other.row.id).await.disabled_why.as_deref(), Some("failing"));
        assert!(app.audit().await.contains(&"hook_disabled/failing".to_owned()));
        let told = well().await;
        assert!(told.starts_with("✗ hooks") && told.contains("took nothing for days") && told.contains("is gone"), "{told}");

        // Mended and enabled, it is told what waited.
        hopeless.always(204);
        hopeless.forget();
        let on = Change { is_enabled: Some(true), ..Change::default() };
        endpoint::update(&app.app, &other.row.id, &on).await.unwrap();
        later(app, DAY).await;
        assert_eq!(hopeless.heard().len(), 2);
        assert_eq!(find(&app.app, &other.row.id).await.failing_since, None);
    }

    /// Who asks to be left alone is, with everything; who fails again and again is left alone for a while.
    async fn an_endpoint_that_is_not_well_rests(app) {
        let receiver = Receiver::start().await;
        let (made, _) = endpoint(&app.app, &receiver, &[]).await;
        receiver.say([Say::status(429).header("retry-after", "3600")]);
        test_call(app, &made).await;
        later(app, 59 * MINUTE).await;
        test_call(app, &made).await;
        assert_eq!(receiver.heard().len(), 1);
        later(app, 2 * MINUTE).await;
        assert_eq!(receiver.heard().len(), 3);

        receiver.forget();
        receiver.always(500);
        for _ in 0..30 {
            endpoint::test(&app.app, &made.row.id).await.unwrap();
        }
        app.drain().await;
        // Those claimed already go on; then it rests.
        assert!((8..=32).contains(&receiver.heard().len()), "{}", receiver.heard().len());
        assert!(find(&app.app, &made.row.id).await.rest_until.is_some());
        let before = receiver.heard().len();
        later(app, 10 * MINUTE).await;
        assert_eq!(receiver.heard().len(), before + 1, "one looks whether it is well");
        receiver.always(204);
        later(app, HOUR).await;
        later(app, HOUR).await;
        assert!(lines(&app.app, &made.row.id).await.iter().all(|line| line.state == "delivered"));
    }

    /// One that answers nobody holds up nobody else.
    async fn a_slow_endpoint_holds_up_no_other(app) {
        let (slow, quick) = (Receiver::start().await, Receiver::start().await);
        let (one, _) = endpoint(&app.app, &slow, &[]).await;
        let (other, _) = endpoint(&app.app, &quick, &[]).await;
        slow.shut();
        for _ in 0..40 {
            endpoint::test(&app.app, &one.row.id).await.unwrap();
        }
        let stop = CancellationToken::new();
        let running = tokio::spawn(hook::run(app.app.clone(), app.app.wakes(), stop.clone()));
        until(async || slow.heard().len() == 8).await;
        for count in 1..=40 {
            endpoint::test(&app.app, &other.row.id).await.unwrap();
            until(async || quick.heard().len() == count).await;
        }
        assert_eq!(slow.heard().len(), 8, "so many at one time");
        slow.open();
        until(async || slow.heard().len() == 40).await;
        until(async || lines(&app.app, &one.row.id).await.iter().all(|line| line.state == "delivered")).await;
        stop.cancel();
        running.await.unwrap();
    }

    /// Two nodes tell each event once; what a dead one had claimed is told by another one when its claim runs out.
    async fn two_nodes_tell_each_event_once(app) {
        let receiver = Receiver::start().await;
        let (made, _) = endpoint(&app.app, &receiver, &[]).await;
        for _ in 0..200 {
            endpoint::test(&app.app, &made.row.id).await.unwrap();
        }
        let (one, other) = tokio::join!(hook::due(&app.app), hook::due(&app.app));
        assert_eq!(one.unwrap() + other.unwrap(), 200);
        assert_eq!(receiver.heard().len(), 200);
        endpoint::test(&app.app, &made.row.id).await.unwrap();
        receiver.shut();
        let (node, id) = (app.app.clone(), made.row.id.clone());
        let dying = tokio::spawn(async move { hook::due(&node).await });
        until(async || receiver.heard().len() == 201).await;
        dying.abort();
        let _ = dying.await;
        receiver.open();
        assert_eq!(hook::due(&app.app).await.unwrap(), 0, "its claim holds");
        app.execute("UPDATE hook_deliveries SET leased_until = 1 WHERE leased_until IS NOT NULL").await;
        assert_eq!(hook::due(&app.app).await.unwrap(), 1);
        let heard = receiver.heard();
        assert_eq!((heard.len(), heard[200].id()), (202, heard[201].id()));
        assert_eq!(newest(&app.app, &id).await, r#"delivered 2 Some(204) """#);
    }

    /// After a change of the secret both sign for a day.
    async fn a_secret_is_changed_without_a_gap(app) {
        let receiver = Receiver::start().await;
        let (made, former) = endpoint(&app.app, &receiver, &[]).await;
        let (changed, fresh) = endpoint::rotate_secret(&app.app, &made.row.id).await.unwrap();
        assert!(former.expose_secret() != fresh.expose_secret() && fresh.expose_secret().starts_with("whsec_"));
        assert!(fresh.expose_secret().trim_end_matches('=').ends_with(&changed.row.secret_last4));
        test_call(app, &made).await;
        let heard = &receiver.heard()[0];
        assert!(heard.is_signed_by(&former) && heard.is_signed_by(&fresh));
        app.clock.advance(DAY);
        test_call(app, &made).await;
        let heard = &receiver.heard()[1];
        assert!(!heard.was_signed_by(&former) && heard.was_signed_by(&fresh));
        for row in app.dump(&[]).await {
            for secret in [&former, &fresh] {
                assert!(!row.contains(secret.expose_secret().trim_start_matches("whsec_")), "{row}");
            }
        }
        assert!(app.audit().await.contains(&"hook_secret_rotated/".to_owned()));
    }

    /// The events of a time are told again, to whom they were told and to whom was not there.
    async fn a_time_is_told_again(app) {
        let (receiver, late) = (Receiver::start().await, Receiver::start().await);
        let (made, _) = endpoint(&app.app, &receiver, &[]).await;
        let user = friend(app).await;
        let mut times = Vec::new();
        for text in ["one", "two", "three"] {
            app.clock.advance(HOUR);
            times.push(app.app.now());
            app.say(&user, text).await;
            app.drain().await;
        }
        let (newcomer, _) = endpoint(&app.app, &late, &["message.received"]).await;
        let (bystander, _) = endpoint(&app.app, &late, &["link.ended"]).await;
        let range = Range { from: times[1], to: app.app.now().plus(HOUR), after: None };
        receiver.forget();
        for (id, events) in [(&made.row.id, 2), (&newcomer.row.id, 2), (&bystander.row.id, 0)] {
            let done = hook::replay::replay(&app.app, id, &range).await.unwrap();
            assert_eq!((done.events, done.after), (events, None));
        }
        app.drain().await;
        let texts = |receiver: &Receiver| {
            let mut texts: Vec<String> = receiver.of_type("message.received").iter().map(|told| told["data"]["message"]["text"].as_str().unwrap().to_owned()).collect();
            texts.sort();
            texts
        };
        assert_eq!(texts(&receiver), ["three", "two"]);
        assert_eq!(texts(&late), ["three", "two"]);
        let ids = |receiver: &Receiver| {
            let mut ids: Vec<String> = receiver.heard().iter().map(|heard| heard.id().to_owned()).collect();
            ids.sort();
            ids
        };
        assert_eq!(ids(&receiver), ids(&late), "the ids stay");
        assert!(app.audit().await.contains(&"hook_replayed/".to_owned()));
    }

    /// LINE's bodies go on as they came, with LINE's signature, for whoever expects LINE itself.
    async fn a_body_of_lines_is_passed_on_as_it_came(app) {
        let (tool, usual) = (Receiver::start().await, Receiver::start().await);
        let raw = New { url: tool.url.clone(), forward_raw: true, channel: Some("main".into()), ..New::default() };
        let (made, secret) = endpoint::create(&app.app, &raw).await.unwrap();
        endpoint(&app.app, &usual, &[]).await;
        let user = friend(app).await;
        app.drain().await;
        tool.forget();
        let events = [text_event(app, &user, "ひとつ"), text_event(app, &user, "ふたつ")];
        let body = envelope(&events);
        for _ in 0..2 {
            assert_eq!(signed(app, body.clone()).await.status, 200);
        }
        app.drain().await;
        let heard = tool.heard();
        assert_eq!(heard.len(), 1, "once, though LINE sent it twice");
        assert_eq!(heard[0].body, body.as_bytes());
        assert_eq!(heard[0].header("x-line-signature"), webhook::sign(BOT_SECRET, body.as_bytes()));
        assert!(heard[0].is_signed_by(&secret), "by ours beside it");
        assert_eq!(usual.types().iter().filter(|kind| *kind == "message.received").count(), 2);
        assert!(!usual.types().contains(&"line.webhook".to_owned()));

        // What was taken back before it arrived is passed on no more: it is not what LINE sent.
        tool.always(500);
        tool.forget();
        let event = text_event(app, &user, "秘密");
        signed(app, envelope(std::slice::from_ref(&event))).await;
        app.drain().await;
        let mut unsend = text_event(app, &user, "");
        unsend["type"] = json!("unsend");
        unsend["unsend"] = json!({ "messageId": event["message"]["id"] });
        signed(app, envelope(&[unsend])).await;
        app.drain().await;
        tool.always(204);
        tool.forget();
        later(app, HOUR).await;
        assert!(tool.heard().iter().all(|heard| !String::from_utf8_lossy(&heard.body).contains("秘密")));
        let states: Vec<String> = lines(&app.app, &made.row.id).await.into_iter().map(|line| line.state).collect();
        assert_eq!(states.iter().filter(|state| *state == "cancelled").count(), 1, "{states:?}");
    }

    /// What a person takes back goes from what was told, and is told no more where it was not yet.
    async fn what_is_taken_back_is_told_no_more(app) {
        let receiver = Receiver::start().await;
        let (made, _) = endpoint(&app.app, &receiver, &["message.received"]).await;
        let user = friend(app).await;
        receiver.always(500);
        let told = app.say(&user, "canary of a secret").await;
        app.drain().await;
        app.does(&user, "unsend", json!({ "message_id": told["message_id"] })).await;
        app.drain().await;
        receiver.always(204);
        receiver.forget();
        later(app, HOUR).await;
        assert_eq!(receiver.heard().len(), 0);
        assert_eq!(newest(&app.app, &made.row.id).await, r#"cancelled 1 Some(500) "erased""#);
        assert!(!app.dump(&[]).await.iter().any(|row| row.contains("canary of a secret")));
        let range = Range { from: Millis(0), to: app.app.now().plus(HOUR), after: None };
        assert_eq!(hook::replay::replay(&app.app, &made.row.id, &range).await.unwrap().events, 0);
    }

    /// A copy of a person's data holds what was told of them; erased, nothing of it stays, but the end of their link is
    /// told first.
    async fn an_erased_person_is_erased_from_hooks(app) {
        let receiver = Receiver::start().await;
        let (made, _) = endpoint(&app.app, &receiver, &[]).await;
        let (mut visitor, user) = app.linked("hanako@example.jp").await;
        app.execute("UPDATE members SET external_id = 'C-1001'").await;
        app.say(&user, "canary of a chat").await;
        app.drain().await;
        let copy: Value = serde_json::from_str(&visitor.post("/account/data", &[("password", PASSWORD)]).await.body).unwrap();
        let told: Vec<&str> = copy["told_to_company_systems"].as_array().unwrap().iter().map(|told| told["type"].as_str().unwrap()).collect();
        assert!(told.contains(&"link.created") && told.contains(&"message.received"), "{told:?}");

        receiver.always(500);
        receiver.forget();
        app.does(&user, "block", json!({})).await;
        let fields = [("password", PASSWORD), ("word", "delete")];
        let page = visitor.post("/account/delete", &fields).await;
        assert_eq!(page.status, 200, "{}", page.body);
        app.drain().await;
        later(app, 6 * MINUTE).await;
        let erased = "SELECT CAST(COUNT(*) AS BIGINT) FROM audit WHERE action = 'erased'";
        assert_eq!(app.count(erased).await, 0, "the company does not know yet");
        receiver.always(204);
        for _ in 0..3 {
            later(app, HOUR).await;
        }
        assert_eq!(app.count(erased).await, 1);
        assert_eq!(receiver.of_type("link.ended").last().unwrap()["data"]["member"]["external_id"], "C-1001");
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM hook_events WHERE data <> '{}'").await, 0);
        assert!(!app.dump(&["audit"]).await.iter().any(|row| row.contains("canary of a chat") || row.contains("C-1001")));
        assert!(!lines(&app.app, &made.row.id).await.is_empty(), "that something was told stays");
    }

    /// After its time it goes, told or not.
    async fn what_was_told_goes_after_its_time(app) {
        let receiver = Receiver::start().await;
        let (made, _) = endpoint(&app.app, &receiver, &[]).await;
        test_call(app, &made).await;
        let off = Change { is_enabled: Some(false), ..Change::default() };
        endpoint::update(&app.app, &made.row.id, &off).await.unwrap();
        test_call(app, &made).await;
        app.clock.advance(29 * DAY);
        test_call(app, &made).await;
        worker::prune(&app.app, "test").await.unwrap();
        assert_eq!(rows(app, &["hook_events", "hook_deliveries"]).await, 6);
        app.clock.advance(2 * DAY);
        worker::prune(&app.app, "test").await.unwrap();
        assert_eq!(rows(app, &["hook_events", "hook_deliveries"]).await, 2);
    }

    /// A link that is not made tells nothing: event and cause are one transaction.
    async fn what_did_not_happen_is_not_told(app) {
        let receiver = Receiver::start().await;
        endpoint(&app.app, &receiver, &[]).await;
        app.member("hanako@example.jp", "Hanako").await;
        let user = app.line_user("はなこ").await;
        let mut visitor = app.signed_in("hanako@example.jp").await;
        let attempt = visitor.reach_confirm(&user).await;
        // The last thing that the yes writes fails.
        app.execute("ALTER TABLE mails RENAME TO mails_away").await;
        let answer = visitor.confirm(&attempt).await;
        app.execute("ALTER TABLE mails_away RENAME TO mails").await;
        assert_eq!(answer.status, 500, "{}", answer.body);
        assert_eq!(rows(app, &["links", "hook_events", "hook_deliveries"]).await, 0);
        visitor.confirm(&attempt).await;
        app.drain().await;
        assert_eq!(receiver.of_type("link.created").len(), 1);
    }

    /// However much was told, and however long a message is, nothing is gone through as a whole.
    async fn what_is_looked_for_is_found_by_index(app) {
        let numbers = "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 29999)";
        for text in [
            format!(
                "INSERT INTO hook_events (id, type, at, data) {numbers}
                 SELECT 'e' || CAST(100000 + i AS TEXT), 'hook.test', i, '{{}}' FROM n"
            ),
            format!(
                "INSERT INTO hook_deliveries (endpoint_id, event_id, state, attempts, tries, due_at, created_at, updated_at)
                 {numbers} SELECT CASE WHEN i % 20 = 0 THEN 'one' ELSE 'two' END, 'e' || CAST(100000 + i AS TEXT),
                   CASE WHEN i < 29900 THEN 'delivered' ELSE 'waiting' END, 1, 1, i, i, i FROM n"
            ),
        ] {
            sqlx::query(AssertSqlSafe(text)).execute(&mut *app.app.db.conn().await.unwrap()).await.unwrap();
        }
        app.execute("ANALYZE").await;
        for (statement, values, index) in [
            (hook::DUE.plain, ["'one'", "99999", "99999", "32"], "hook_deliveries_waiting"),
            (log::LIST, ["'one'", "'e115000'", "50", ""], "hook_deliveries_pkey"),
        ] {
            let plan = explain(app, statement, &values).await;
            // PostgreSQL may take the one by event alone, from its end, too.
            let index = match (app.engine, index.strip_suffix("_pkey")) {
                (Engine::Sqlite, Some(table)) => format!("sqlite_autoindex_{table}_1"),
                (Engine::Postgres, Some(table)) => format!("Backward using {table}"),
                (_, None) => index.to_owned(),
            };
            assert!(plan.contains(&index), "{statement}\n{plan}");
            let whole = ["SCAN d", "SCAN hook_deliveries", "Seq Scan on hook_deliveries"];
            assert!(!whole.iter().any(|words| plan.contains(words)), "{statement}\n{plan}");
        }
    }

    /// Each mistake is named, and changes nothing.
    async fn what_is_wrong_with_an_endpoint_is_named(app) {
        let before = app.dump(&[]).await;
        let paths = |refusal: Refusal| match refusal {
            Refusal::Mistakes(list) => list.into_iter().map(|Mistake { path, .. }| path).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        let good = || New { url: "https://hooks.example.jp/".into(), ..New::default() };
        let types = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        for (new, expected) in [
            (New { url: "".into(), ..good() }, "url"),
            (New { url: "hooks.example.jp".into(), ..good() }, "url"),
            (New { url: "https://hooks.example.jp/ x".into(), ..good() }, "url"),
            (New { url: format!("https://hooks.example.jp/{}", "x".repeat(2000)), ..good() }, "url"),
            (New { url: "https://10.0.0.1/".into(), ..good() }, "url"),
            (New { url: "https://user@hooks.example.jp/".into(), ..good() }, "url"),
            (New { description: "x".repeat(201), ..good() }, "description"),
            (New { description: "a\0b".into(), ..good() }, "description"),
            (New { types: types(&["link.created", "link.create"]), ..good() }, "types[1]"),
            (New { types: types(&["*"]), ..good() }, "types[0]"),
            (New { types: types(&["line.webhook"]), ..good() }, "types[0]"),
            (New { types: types(&["link.created"]), forward_raw: true, ..good() }, "types"),
            (New { provider: Some("' OR 1=1".into()), ..good() }, "provider"),
            (New { channel: Some("other\0".into()), ..good() }, "channel"),
        ] {
            let refusal = endpoint::create(&app.app, &new).await.unwrap_err();
            assert_eq!(paths(refusal), [expected], "{new:?}");
        }
        assert_eq!(app.dump(&[]).await, before);
        for _ in 0..endpoint::MOST {
            endpoint::create(&app.app, &good()).await.unwrap();
        }
        let many = endpoint::create(&app.app, &good()).await.unwrap_err();
        assert!(matches!(many, Refusal::TooMany), "{many:?}");
    }
}

// ---- J08

/// A name is judged by the address that is connected to, each time anew.
#[tokio::test]
async fn j08_a_name_that_leads_inside_is_not_followed() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (asked, asks) = watch::channel(0);
    let asked = Arc::new(asked);
    // Public at first, then this machine: as a rebinding name does between the check and the call.
    let lookup: Lookup = Arc::new(move |name: String| -> Found {
        let asked = asked.clone();
        Box::pin(async move {
            asked.send_modify(|count| *count += 1);
            let inside: &[&str] = match name.as_str() {
                "rebinding.example" if *asked.borrow() == 1 => &["8.8.8.8"],
                "mapped.example" => &["::ffff:127.0.0.1"],
                "six.example" => &["::1", "fe80::1", "64:ff9b::7f00:1", "2002:7f00:1::"],
                "mixed.example" => &["169.254.169.254", "10.0.0.1", "100.64.0.1", "0.0.0.0"],
                _ => &["127.0.0.1"],
            };
            Ok(inside.iter().map(|address| address.parse::<IpAddr>().unwrap()).collect())
        })
    });
    let egress = Egress::with_lookup(&[], &lookup).unwrap();
    let first = "https://rebinding.example/".parse().unwrap();
    assert!(egress.check(&first).is_ok(), "the name alone tells nothing");
    // The first answer is used up by somebody who only looks.
    let found = lookup("rebinding.example".to_owned()).await.unwrap();
    assert_eq!(found, ["8.8.8.8".parse::<IpAddr>().unwrap()]);
    for name in ["rebinding.example", "mapped.example", "six.example", "mixed.example", "localhost"] {
        let url = format!("https://{name}/").parse().unwrap();
        let failure = egress.post(&url, HeaderMap::new(), Vec::new()).await.unwrap_err();
        assert!(matches!(&failure, Failure::Broken(why) if why.contains("not a public one")), "{name}: {failure}");
    }
    assert_eq!(*asks.borrow(), 6, "asked anew for each call");

    // Where a network is allowed, that one only; and by http or another port nothing but that.
    let allowed = Egress::with_lookup(&["127.0.0.0/8".parse().unwrap()], &lookup).unwrap();
    let heard = tokio::spawn(async move { listener.accept().await.map(|_| ()) });
    let url = format!("http://inside.example:{port}/").parse().unwrap();
    let _ = tokio::time::timeout(Duration::from_secs(1), allowed.post(&url, HeaderMap::new(), Vec::new())).await;
    heard.await.unwrap().unwrap();
    for url in ["http://mixed.example/", "https://mixed.example/", "http://six.example:6379/"] {
        let failure = allowed.post(&url.parse().unwrap(), HeaderMap::new(), Vec::new()).await.unwrap_err();
        assert!(matches!(&failure, Failure::Broken(why) if why.contains("not a public one")), "{url}: {failure}");
    }
}

/// A proxy of the environment would connect in our place, where nobody looks: none is asked. Whoever does not prove who
/// they are by TLS is not told anything.
#[tokio::test]
async fn j08_tls_is_spoken_to_who_is_named() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let egress = Egress::new(&["127.0.0.0/8".parse().unwrap()]).unwrap();
    let plain = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut first = [0; 1];
        stream.read_exact(&mut first).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        first[0]
    });
    let failure = egress.post(&url, HeaderMap::new(), b"secret".to_vec()).await.unwrap_err();
    assert!(matches!(failure, Failure::Broken(_)), "{failure}");
    assert_eq!(plain.await.unwrap(), 0x16, "a TLS record, and nothing in clear");
}

// ---- X03

/// The real binary, ended between the cause and the answer: what happened is told, under one id, at least once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x03_a_hook_that_is_killed_is_told_again() {
    for engine in ENGINES {
        let mut world = World::new(engine).await;
        let more = "listen = \"127.0.0.1:0\"\nhooks = { allow_networks = [\"127.0.0.0/8\"] }";
        world.config = world.place.config("hooks.toml", &world.line.0.base, more);
        let app = world.place.app(&world.config).await;
        let receiver = Receiver::start().await;
        let (made, secret) = endpoint(&app, &receiver, &["message.received"]).await;
        for round in 0..rounds(1, 20) {
            // How often it is heard: again only where the answer was not written down.
            for (point, times) in [
                ("inbox.effected", 1),
                ("inbox.done", 1),
                ("hook.claimed", 1),
                ("hook.writing", 1),
                ("hook.answered", 2),
                ("hook.recorded", 1),
            ] {
                receiver.forget();
                let text = format!("{point} {round}");
                let (server, base) = world.serve_until(point);
                assert_eq!(post_text(&base, &text).await, 200);
                server.end_by_abort();
                world.place.execute("UPDATE hook_deliveries SET leased_until = NULL; DELETE FROM leases").await;
                let (server, _) = world.serve();
                until(async || {
                    let lines = lines(&app, &made.row.id).await;
                    let is_over = lines.first().is_some_and(|line| line.state == "delivered");
                    is_over && receiver.heard().iter().any(|heard| String::from_utf8_lossy(&heard.body).contains(&text))
                })
                .await;
                server.stop();
                let heard = receiver.heard();
                assert_eq!(heard.len(), times, "{point}: {heard:?}");
                assert!(heard.iter().all(|one| one.id() == heard[0].id() && one.is_signed_by(&secret)), "{point}");
            }
        }
        let told = "SELECT CAST(COUNT(*) AS BIGINT) FROM hook_events WHERE type = $1";
        assert_eq!(world.count(told, "message.received").await, 6 * i64::try_from(rounds(1, 20)).unwrap());
        app.db.close().await;
        world.end().await;
    }
}

async fn post_text(base: &str, text: &str) -> u16 {
    let id = event_id();
    let body = envelope(&[json!({
        "type": "message", "mode": "standby", "timestamp": Clock::default().now().0,
        "source": { "type": "user", "userId": format!("U{}", "a".repeat(32)) }, "webhookEventId": id,
        "deliveryContext": { "isRedelivery": false },
        "message": { "type": "text", "id": &id[10..], "quoteToken": "q", "text": text },
    })]);
    let signature = webhook::sign(BOT_SECRET, body.as_bytes());
    let client = Browser::new(base, base).client;
    let request = client.post(format!("{base}/webhook/main")).header("x-line-signature", signature).body(body);
    request.send().await.unwrap().status().as_u16()
}
