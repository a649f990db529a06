//! What LINE allows in a month, in an hour and in a second: known, kept to, and told where it runs out.
#![expect(clippy::panic, reason = "a test that cannot go on fails, and says why")]

use std::time::Duration;

use axum::{body::Body, http::Method};
use jiff::{SignedDuration, Timestamp, ToSpan, civil::time, tz::TimeZone};
use musubi::{
    app::App,
    channel::hourly::{self, CREATE_RICH_MENU, Hourly, Spend},
    config::{Config, Reserve},
    db::Db,
    doctor,
    message::{
        self, Audience, Counts, Lane, Order, Refusal,
        command::{End, Watch, dry_run},
        quota,
    },
    queue::Outcome,
    rich_menu, worker,
};
use serde_json::json;
use tower::ServiceExt;

use crate::{
    login::captured,
    order::{hello, order, people},
    outbox::{bulk, friends, text},
    sending::{PUSH, counts, send},
    stub::{Answer, stages},
    support::{BOT_CHANNEL, TestApp, both_engines, read},
};

const NONE: Counts = Counts { accepted: 0, waiting: 0, sending: 0, sent: 0, failed: 0, unknown: 0, cancelled: 0 };
const QUOTA: &str = "GET /v2/bot/message/quota";
const HOLD: Duration = Duration::from_secs(601);
const HOUR: Duration = Duration::from_secs(3600);

/// Moves the clocks to the middle of a month in Japan, so that none ends while a test runs.
async fn mid_month(app: &TestApp) {
    app.clock.advance(until_day(app, 15));
}

/// How long it is to noon of a day of Japan's next month.
fn until_day(app: &TestApp, day: i8) -> Duration {
    let now = Timestamp::from_millisecond(app.app.now().0).unwrap().to_zoned(TimeZone::get("Asia/Tokyo").unwrap());
    let date = now.date().first_of_month().checked_add(1.month()).unwrap().with().day(day).build().unwrap();
    let then = date.to_datetime(time(12, 0, 0, 0)).to_zoned(now.time_zone().clone()).unwrap();
    SignedDuration::try_from(&then - &now).unwrap().unsigned_abs()
}

/// Another node at the same database, with more or less in reserve.
async fn node(app: &TestApp, reserve: u32) -> App {
    changed(app, |config| config.sending.reserve = Reserve::Messages(reserve)).await
}

pub async fn changed(app: &TestApp, change: impl FnOnce(&mut Config)) -> App {
    let mut config = app.app.config.clone();
    change(&mut config);
    App::new(config, Db::connect(&app.database_url).await.unwrap(), app.clock.clone()).unwrap()
}

async fn allow(app: &TestApp, limit: Option<u64>) {
    app.sim(Method::POST, &format!("/_sim/bots/{BOT_CHANNEL}/quota"), json!({ "limit": limit })).await;
}

async fn left(app: &App) -> Option<i64> {
    quota::state(app, "main").await.unwrap().left
}

async fn spent(app: &TestApp) -> i64 {
    app.count("SELECT spent FROM quotas").await
}

/// Statuses of the calls that sent something.
async fn sendings(app: &TestApp) -> Vec<u64> {
    let mut statuses = Vec::new();
    for path in ["/v2/bot/message/push", "/v2/bot/message/multicast"] {
        statuses.extend(app.calls_to(path).await.iter().map(|call| call["status"].as_u64().unwrap()));
    }
    statuses
}

async fn looks(app: &TestApp) -> usize {
    app.calls_to("/v2/bot/message/quota").await.iter().filter(|call| call["path"] == "/v2/bot/message/quota").count()
}

/// Everybody's phone shows what was sent to them, once each.
async fn shown(app: &TestApp, users: &[String], words: &str) -> usize {
    let mut shown = 0;
    for user in users {
        let times = app.phone(user).await["messages"].to_string().matches(words).count();
        assert!(times <= 1, "{words} came {times} times");
        shown += times;
    }
    shown
}

async fn finding(app: &App) -> String {
    let all = doctor::examine(app).await.iter().map(ToString::to_string).collect::<Vec<_>>();
    all.iter().find(|one| one.contains(" quota of main: ")).unwrap_or_else(|| panic!("{all:#?}")).clone()
}

async fn metrics(app: &App) -> String {
    let request = axum::http::Request::get("/metrics").body(Body::empty()).unwrap();
    read(musubi::serve::metrics::router(app).oneshot(request).await.unwrap()).await.body
}

both_engines! {
    /// By the head, whatever the number of message objects; replies are free.
    async fn what_is_sent_is_counted_until_line_tells(app) {
        mid_month(app).await;
        allow(app, Some(1000)).await;
        let users = friends(app, 4).await;
        quota::look(&app.app).await;
        assert_eq!(left(&app.app).await, Some(1000));
        bulk(app, &users[..3], json!([text("one"), text("two")]), json!({})).await;
        send(app, &users[3], "Hanako").await;
        app.say(&users[0], "hello").await;
        app.drain().await;
        assert_eq!(app.calls_to("/v2/bot/message/reply").await.len(), 1);
        assert_eq!((spent(app).await, left(&app.app).await), (4, Some(996)));

        let before = looks(app).await;
        quota::look(&app.app).await;
        assert_eq!(looks(app).await, before, "not at every step");
        app.clock.advance(HOLD);
        quota::look(&app.app).await;
        assert_eq!((spent(app).await, app.count("SELECT used FROM quotas").await), (0, 4));
        assert_eq!((left(&app.app).await, looks(app).await), (Some(996), before + 1));
        app.clock.advance(HOLD);
        quota::look(&app.app).await;
        assert_eq!(looks(app).await, before + 1, "rarely while nothing is sent");
        app.clock.advance(HOUR);
        quota::look(&app.app).await;
        assert_eq!(looks(app).await, before + 2);
    }

    async fn the_slow_routine_asks_on_one_node(app) {
        mid_month(app).await;
        allow(app, Some(1000)).await;
        let other = node(app, 0).await;
        let (one, two) = tokio::join!(worker::ask(&app.app, "one"), worker::ask(&other, "two"));
        assert_eq!(one.unwrap() + two.unwrap(), 0);
        app.clock.advance(HOUR);
        tokio::join!(quota::look(&app.app), quota::look(&other));
        assert_eq!((looks(app).await, left(&other).await), (2, Some(1000)));
    }

    /// Of ten that may be sent bulk leaves four, which the urgent ones get; then LINE refuses, and nothing fails.
    async fn x26_bulk_stops_at_the_reserve_and_the_urgent_go_on(app) {
        mid_month(app).await;
        allow(app, Some(10)).await;
        let users = friends(app, 9).await;
        let app4 = node(app, 4).await;
        quota::look(&app4).await;
        let news = bulk(app, &users, text("news"), json!({})).await;
        worker::drain(&app4).await.unwrap();
        assert_eq!(counts(app, &news).await, Counts { accepted: 9, sent: 6, waiting: 3, ..NONE });
        assert_eq!(shown(app, &users, "news").await, 6);
        let why = |lane| { let app = &app4; async move { quota::why_held(app, "main", lane).await.unwrap() } };
        let words = why(Lane::Bulk).await.unwrap();
        assert!(words.starts_with("4 of this month's 10 messages are left, of which 4 are kept"), "{words}");
        assert_eq!(why(Lane::Transactional).await, None);

        let mut urgent = Vec::new();
        for user in &users[..4] {
            urgent.push(send(app, user, "Urgent").await);
        }
        worker::drain(&app4).await.unwrap();
        assert_eq!((shown(app, &users, "Urgent").await, left(&app4).await), (4, Some(0)));
        assert!(sendings(app).await.iter().all(|status| *status == 200), "LINE was not asked for more than it allows");

        urgent.push(send(app, &users[4], "Urgent").await);
        worker::drain(&app4).await.unwrap();
        worker::drain(&app4).await.unwrap();
        assert_eq!(sendings(app).await.iter().filter(|status| **status == 429).count(), 1, "asked once");
        assert!(why(Lane::Transactional).await.unwrap().starts_with("LINE refuses more of this month"));
        assert_eq!(counts(app, &urgent[4]).await, Counts { accepted: 1, waiting: 1, ..NONE });
        assert_eq!(counts(app, &news).await, Counts { accepted: 9, sent: 6, waiting: 3, ..NONE });

        // A larger plan: seen at the next look, and everything goes on by itself.
        allow(app, Some(18)).await;
        quota::look(&app4).await;
        worker::drain(&app4).await.unwrap();
        assert_eq!(counts(app, &urgent[4]).await, Counts { accepted: 1, sent: 1, ..NONE });
        assert_eq!(counts(app, &news).await, Counts { accepted: 9, sent: 9, ..NONE });
        assert_eq!((shown(app, &users, "news").await, shown(app, &users, "Urgent").await), (9, 5));
        assert_eq!(left(&app4).await, Some(4));
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM quotas WHERE refused_at IS NULL").await, 1);
    }

    /// Wide messages too: no multicast is larger than what is left, and one that is on its way counts.
    async fn two_nodes_together_keep_the_reserve(app) {
        mid_month(app).await;
        allow(app, Some(40)).await;
        let users = friends(app, 30).await;
        let (one, two) = (node(app, 15).await, node(app, 15).await);
        quota::look(&one).await;
        let mut messages = Vec::new();
        for number in 0..3 {
            messages.push(bulk(app, &users[number * 10..][..10], text(&format!("news-{number}.")), json!({})).await);
        }
        for _ in 0..4 {
            let (first, second) = tokio::join!(message::deliver(&one, "main", "one"), message::deliver(&two, "main", "two"));
            first.unwrap();
            second.unwrap();
        }
        let (mut sent, mut waiting) = (0, 0);
        for id in &messages {
            let counts = counts(app, id).await;
            assert!(counts.add_up());
            (sent, waiting) = (sent + counts.sent, waiting + counts.waiting);
        }
        assert_eq!((sent, waiting, left(&one).await), (25, 5, Some(15)));
        assert!(sendings(app).await.iter().all(|status| *status == 200));
    }

    /// LINE tells no quota: one recipient is tried after a while, and all the others when it is taken.
    async fn x26_without_lines_word_one_is_tried_after_a_while(app) {
        mid_month(app).await;
        let users = friends(app, 5).await;
        allow(app, Some(2)).await;
        app.fault(json!({ "endpoint": QUOTA, "status": 500, "count": 50 })).await;
        let mut messages = Vec::new();
        for user in &users {
            messages.push(send(app, user, "Hanako").await);
        }
        quota::look(&app.app).await;
        assert_eq!(left(&app.app).await, None, "not known");
        app.drain().await;
        assert_eq!(shown(app, &users, "Hanako").await, 2);
        let before = sendings(app).await.len();
        assert_eq!(before, 5);
        app.drain().await;
        assert_eq!(sendings(app).await.len(), before, "held");
        // However long LINE takes over it.
        app.fault(json!({ "endpoint": PUSH, "delay_ms": 400, "count": 3 })).await;
        for round in 1..=3 {
            app.clock.advance(HOLD);
            quota::look(&app.app).await;
            app.drain().await;
            assert_eq!(sendings(app).await.len(), before + round, "one is tried");
        }
        allow(app, Some(5)).await;
        app.clock.advance(HOLD);
        app.drain().await;
        for id in &messages {
            assert_eq!(counts(app, id).await, Counts { accepted: 1, sent: 1, ..NONE });
        }
        assert_eq!(shown(app, &users, "Hanako").await, 5);
        assert_eq!(app.count("SELECT spent FROM quotas WHERE held_until IS NULL").await, 5);
    }

    /// LINE's count says that some are left, and yet it refuses, as while a narrowcast has reserved them.
    async fn x26_what_is_reserved_at_line_is_tried_again(app) {
        mid_month(app).await;
        let users = friends(app, 3).await;
        allow(app, Some(100)).await;
        quota::look(&app.app).await;
        let id = send(app, &users[0], "Hanako").await;
        let refusal = json!({ "message": "You have reached your monthly limit." });
        app.fault(json!({ "endpoint": "POST /v2/bot/message/push", "status": 429, "body": refusal, "count": 3 })).await;
        app.drain().await;
        assert_eq!(left(&app.app).await, Some(100));
        for round in 1..=2 {
            app.clock.advance(HOLD);
            quota::look(&app.app).await;
            app.drain().await;
            assert_eq!(sendings(app).await.len(), 1 + round);
        }
        app.clock.advance(HOLD);
        app.drain().await;
        assert_eq!(counts(app, &id).await, Counts { accepted: 1, sent: 1, ..NONE });
        assert_eq!(sendings(app).await, [429, 429, 429, 200]);
    }

    /// At midnight in Japan all is there again, even where LINE does not tell it.
    async fn a_new_month_has_everything_again(app) {
        mid_month(app).await;
        allow(app, Some(5)).await;
        let users = friends(app, 8).await;
        quota::look(&app.app).await;
        let news = bulk(app, &users, text("news"), json!({})).await;
        let urgent = send(app, &users[7], "Urgent").await;
        app.drain().await;
        let late = send(app, &users[6], "Urgent").await;
        app.drain().await;
        assert_eq!(counts(app, &news).await, Counts { accepted: 8, sent: 4, waiting: 4, ..NONE });
        assert_eq!(counts(app, &urgent).await.sent + counts(app, &late).await.waiting, 2);

        app.fault(json!({ "endpoint": QUOTA, "status": 500, "count": 50 })).await;
        app.clock.advance(until_day(app, 1));
        app.drain().await;
        assert_eq!(counts(app, &news).await, Counts { accepted: 8, sent: 8, ..NONE });
        assert_eq!(counts(app, &late).await, Counts { accepted: 1, sent: 1, ..NONE });
        assert_eq!((shown(app, &users, "news").await, spent(app).await, left(&app.app).await), (8, 5, Some(0)));
        app.clear_faults().await;
        app.clock.advance(HOLD);
        quota::look(&app.app).await;
        assert_eq!((spent(app).await, app.count("SELECT used FROM quotas").await), (0, 5));
    }

    /// The answer is lost and the process with it: the next one finds by the key that LINE has it, and counts it once.
    async fn what_ends_after_a_crash_counts_once(app) {
        mid_month(app).await;
        allow(app, Some(100)).await;
        let users = friends(app, 4).await;
        quota::look(&app.app).await;
        app.fault(json!({ "endpoint": "POST /v2/bot/message/multicast", "cut": "after" })).await;
        let id = bulk(app, &users, text("once"), json!({})).await;
        app.drain().await;
        assert_eq!((counts(app, &id).await.sending, spent(app).await), (4, 0));
        assert_eq!(left(&app.app).await, Some(96), "what LINE may have counts");
        let next = node(app, 0).await;
        app.clock.advance(HOLD);
        quota::look(&next).await;
        assert_eq!(left(&next).await, Some(92), "until it is known, twice");
        worker::drain(&next).await.unwrap();
        assert_eq!(counts(app, &id).await, Counts { accepted: 4, sent: 4, ..NONE });
        assert_eq!((spent(app).await, sendings(app).await.len()), (4, 2));
        app.clock.advance(HOLD);
        quota::look(&next).await;
        assert_eq!((spent(app).await, left(&next).await, shown(app, &users, "once").await), (0, Some(96), 4));
    }

    /// A recipient counts with its request's end, or neither is written down.
    async fn what_is_not_written_down_does_not_count(app) {
        mid_month(app).await;
        let users = friends(app, 1).await;
        quota::look(&app.app).await;
        // Two channels that spent the same: now an error.
        app.execute("CREATE UNIQUE INDEX quotas_spent ON quotas (spent)").await;
        app.execute("INSERT INTO quotas (channel, month, used, spent) VALUES ('other', 1, 0, 1)").await;
        let id = send(app, &users[0], "Hanako").await;
        message::deliver(&app.app, "main", "one").await.unwrap_err();
        assert_eq!(counts(app, &id).await, Counts { accepted: 1, sending: 1, ..NONE });
        assert_eq!(app.count("SELECT spent FROM quotas WHERE channel = 'main'").await, 0);
        app.execute("DELETE FROM quotas WHERE channel = 'other'").await;
        app.clock.advance(HOUR);
        app.drain().await;
        assert_eq!(counts(app, &id).await, Counts { accepted: 1, sent: 1, ..NONE });
        assert_eq!((spent(app).await, shown(app, &users, "Hanako").await), (1, 1));
        assert_eq!(sendings(app).await, [200, 409]);
    }

    /// An order that does not fit is refused with the numbers; beyond the quota it is taken, and waits.
    async fn what_does_not_fit_is_refused_or_waits(app) {
        mid_month(app).await;
        people(app, 10).await;
        let app2 = node(app, 2).await;
        let all = order(Audience::All, hello());
        let refused = async || {
            let Err(Refusal::Mistakes(mistakes)) = message::accept(&app2, &all).await else { panic!("refused") };
            mistakes[0].to_string()
        };
        assert!(message::accept(&app2, &all).await.unwrap().is_new, "LINE sets no limit");
        app.execute("UPDATE deliveries SET state = 'cancelled'").await;
        app.execute("UPDATE messages SET expanded_at = 1").await;

        allow(app, Some(11)).await;
        app.clock.advance(HOUR);
        let before = app.dump(&["quotas"]).await;
        let told = refused().await;
        assert!(told.starts_with("to: 10 recipients are more than the 9 that may be sent this month (about 11 of this \
            month's 11 messages are left, "), "{told}");
        assert!(told.contains("2 are kept for the transactional lane, 0 wait already"), "{told}");
        let look = dry_run(&app2, &all).await.unwrap().join("\n");
        assert!(look.contains("it does not fit: 10 recipients, 9 may be sent; it will not be accepted"), "{look}");
        assert!(look.contains("forecast, at the pace of the month so far: about 1 are left at the month's end"), "{look}");
        assert_eq!(app.dump(&["quotas"]).await, before, "nothing is stored");

        // Whoever is left out costs nothing; for later, urgent, or beyond it, it is taken.
        let later = Order { send_at: Some(app.app.now().plus(HOUR * 24 * 31)), ..all.clone() };
        message::accept(&app2, &later).await.unwrap();
        message::accept(&app2, &Order { lane: Some(Lane::Transactional), ..all.clone() }).await.unwrap();
        app.execute("UPDATE messages SET expanded_at = 1").await;
        app.execute("UPDATE links SET suspended_at = 1 WHERE id = 'l0000001'").await;
        let fits = message::preview(&app2, &all).await.unwrap();
        let lines = fits.outlook.unwrap().lines(&all, fits.recipients, &app.app.zone).join("\n");
        assert!(lines.contains("it fits: 9 recipients of 9"), "{lines}");
        message::accept(&app2, &all).await.unwrap();
        assert!(refused().await.starts_with("to: 9 recipients are more than the 0 "), "what is not added yet counts");
        while message::expand(&app2, "main").await.unwrap() > 0 {}
        assert!(refused().await.starts_with("to: 9 recipients are more than the 0 "), "what waits counts");
        let beyond = Order { beyond_quota: true, ..all.clone() };
        message::accept(&app2, &beyond).await.unwrap();

        // LINE does not answer: what is known stands.
        app.fault(json!({ "endpoint": QUOTA, "status": 500, "count": 50 })).await;
        app.clock.advance(HOUR);
        assert!(refused().await.starts_with("to: 9 recipients are more than the 0 "));
    }

    /// The command says how the month stands, and why what waits is not sent.
    async fn the_command_tells_the_month(app) {
        mid_month(app).await;
        allow(app, Some(3)).await;
        people(app, 5).await;
        let beyond = Order { beyond_quota: true, ..order(Audience::All, hello()) };
        let app3 = node(app, 3).await;
        message::accept(&app3, &Order { idempotency_key: Some("k".into()), ..beyond.clone() }).await.unwrap();
        while message::expand(&app3, "main").await.unwrap() > 0 {}
        let watch = Watch { every: Duration::from_millis(5), patience: Duration::from_millis(50) };
        let mut told = Vec::new();
        let mut say = |line: &str| told.push(line.to_owned());
        let again = Order { beyond_quota: false, idempotency_key: Some("k".into()), ..beyond };
        let end = message::command::send(&app3, &again, true, watch, &mut say).await.unwrap();
        let told = told.join("\n");
        assert_eq!(end, End::Idle, "{told}");
        for words in [
            "accepted before under this key",
            "quota: about 3 of this month's 3 messages are left",
            "3 are kept for the transactional lane, 5 wait already",
            "nothing is left after it",
            "what waits is held: 3 of this month's 3 messages are left",
        ] {
            assert!(told.contains(words), "{words}: {told}");
        }
    }

    /// Told once over all rounds and nodes, in the log, as a number and by the doctor; and its end once.
    async fn a_month_that_runs_out_is_told_once(app) {
        mid_month(app).await;
        allow(app, Some(100)).await;
        let users = friends(app, 6).await;
        let (one, two) = (node(app, 95).await, node(app, 95).await);
        assert!(finding(&one).await.starts_with("✓ quota of main: about 100 of this month's 100 messages are left"));
        let (log, _guards) = captured();
        let round = async || {
            quota::look(&one).await;
            quota::look(&two).await;
        };
        round().await;
        assert!(metrics(&one).await.contains("musubi_quota_alarm{channel=\"main\"} 0"));
        bulk(app, &users, text("news"), json!({})).await;
        worker::drain(&one).await.unwrap();
        for _ in 0..5 {
            round().await;
            app.clock.advance(HOUR);
        }
        assert_eq!(log.text().matches("ERROR").count(), 1, "{}", log.text());
        assert!(log.text().contains("95 of 100 messages of this month are left"), "{}", log.text());
        let text = metrics(&two).await;
        for line in ["musubi_quota_alarm{channel=\"main\"} 1", "musubi_quota_left{channel=\"main\"} 95",
            "musubi_quota_monthly{channel=\"main\"} 100"] {
            assert!(text.contains(line), "{line}: {text}");
        }
        let told = finding(&two).await;
        assert!(told.starts_with("✗ quota of main: 95 of 100 messages") && told.contains("raise the plan at LINE"), "{told}");

        allow(app, Some(101)).await;
        app.clock.advance(HOUR);
        round().await;
        assert!(!log.text().contains("there is quota again"), "a little up and down is no end");
        allow(app, Some(200)).await;
        app.clock.advance(HOUR);
        round().await;
        round().await;
        assert_eq!(log.text().matches("there is quota again").count(), 1, "{}", log.text());
        assert_eq!(log.text().matches("ERROR").count(), 1);
        assert!(finding(&one).await.starts_with('✓'));
    }

    /// Without a reserve only what lasts is told: what others reserved at LINE may become free.
    async fn x26_what_is_used_up_for_an_hour_is_told(app) {
        mid_month(app).await;
        allow(app, Some(2)).await;
        let users = friends(app, 3).await;
        let (log, _guards) = captured();
        for user in &users {
            send(app, user, "Hanako").await;
        }
        for minutes in 0..59 {
            quota::look(&app.app).await;
            app.drain().await;
            assert_eq!(log.text().matches("ERROR").count(), 0, "after {minutes} minutes: {}", log.text());
            app.clock.advance(Duration::from_secs(60));
        }
        for _ in 0..30 {
            quota::look(&app.app).await;
            app.clock.advance(Duration::from_secs(60));
        }
        assert_eq!(log.text().matches("ERROR").count(), 1, "{}", log.text());
        assert!(finding(&app.app).await.starts_with("✗ quota of main: LINE refuses more messages of this month"));

        app.clock.advance(until_day(app, 1));
        app.drain().await;
        quota::look(&app.app).await;
        assert_eq!(log.text().matches("there is quota again").count(), 1, "{}", log.text());
        assert_eq!(shown(app, &users, "Hanako").await, 3);
    }

    /// LINE takes fifty a second of each here. Kept to that, no call is refused; at LINE's usual pace many would be.
    async fn a_lowered_pace_is_kept(app) {
        for endpoint in ["POST /v2/bot/message/push", "POST /v2/bot/message/multicast"] {
            let rate = json!({ "endpoint": endpoint, "calls": 50 });
            app.sim(Method::POST, &format!("/_sim/bots/{BOT_CHANNEL}/rate"), rate).await;
        }
        let slow = |pushes, multicasts| changed(app, move |config| {
            let channel = config.channel.get_mut("main").unwrap();
            (channel.pushes_per_second, channel.multicasts_per_second) = (pushes, multicasts);
        });
        let users = friends(app, 3).await;
        let mut messages = Vec::new();
        for number in 0..80 {
            messages.push((send(app, &users[0], &format!("urgent-{number}.")).await, 1));
        }
        worker::drain(&slow(50, 200).await).await.unwrap();
        for number in 0..80 {
            messages.push((bulk(app, &users[1..], text(&format!("news-{number}.")), json!({})).await, 2));
        }
        let wide = slow(2000, 50).await;
        let waiting = "SELECT CAST(COUNT(*) AS BIGINT) FROM deliveries WHERE state = 'waiting'";
        for _ in 0..200 {
            worker::drain(&wide).await.unwrap();
            if app.count(waiting).await == 0 {
                break;
            }
            app.clock.advance(Duration::from_millis(20));
        }
        for (id, people) in &messages {
            assert_eq!(counts(app, id).await, Counts { accepted: *people, sent: *people, ..NONE });
        }
        assert_eq!(sendings(app).await, vec![200; 160]);
    }

    /// A hundred menus an hour over all nodes; then one for each hundredth of an hour.
    async fn x26_what_line_counts_by_the_hour_is_counted_over_all_nodes(app) {
        let other = node(app, 0).await;
        let take = async |app: &App| hourly::take(app, "main", CREATE_RICH_MENU).await.unwrap();
        for _ in 0..50 {
            let (one, two) = tokio::join!(take(&app.app), take(&other));
            assert_eq!((one, two), (Spend::Taken, Spend::Taken));
        }
        let Spend::Wait(until) = take(&other).await else { panic!("the hour's calls are spent") };
        let wait = until.0 - other.now().0;
        assert!((1..=36_000).contains(&wait), "{wait}");
        assert_eq!(hourly::take(&app.app, "second", CREATE_RICH_MENU).await.unwrap(), Spend::Taken, "another channel");
        app.clock.advance(Duration::from_secs(36));
        let (one, two) = tokio::join!(take(&app.app), take(&other));
        assert_eq!([one, two].iter().filter(|spend| **spend == Spend::Taken).count(), 1, "{one:?} {two:?}");
        app.clock.advance(HOUR * 5);
        for _ in 0..100 {
            assert_eq!(take(&app.app).await, Spend::Taken);
        }
        assert!(matches!(take(&app.app).await, Spend::Wait(_)), "no more than an hour's calls are saved up");

        // A node whose clock was wrong for a year does not stop the others for a year.
        app.execute("UPDATE hourly_spends SET full_at = full_at + 31536000000").await;
        assert_eq!(take(&app.app).await, Spend::Taken);
    }
}

/// Where no call is left none is made, and the job waits for some.
#[tokio::test]
async fn menus_wait_for_the_hour() {
    for stage in stages("").await {
        let take = async |hourly: Hourly| hourly::take(&stage.app, "shop", hourly).await.unwrap();
        for _ in 0..99 {
            assert_eq!(take(CREATE_RICH_MENU).await, Spend::Taken);
        }
        let list = || stage.line.script("GET /v2/bot/richmenu/list", Answer::Json(200, json!({ "richmenus": [] })));
        list();
        stage.line.script("GET /v2/bot/richmenu/alias/list", Answer::Json(200, json!({ "aliases": [] })));
        stage.line.script("GET /v2/bot/user/all/richmenu", Answer::Json(404, json!({ "message": "no default" })));
        for _ in 0..2 {
            stage.line.script("POST /v2/bot/richmenu/validate", Answer::Json(200, json!({})));
        }
        stage.line.script("POST /v2/bot/richmenu", Answer::Json(200, json!({ "richMenuId": "rm-1" })));
        let Outcome::Retry { why, after } = rich_menu::ensure(&stage.app, "shop").await else { panic!("it waits") };
        assert!(why.contains("within an hour"), "{why}");
        assert_eq!(after, Some(Duration::from_secs(900)));
        let made = |path: &str| stage.line.calls("POST ").iter().filter(|call| call.path == path).count();
        assert_eq!(made("/v2/bot/richmenu"), 1, "the hundredth was made, and no other asked for");
    }
}
