//! What somebody asks to be sent: taken whole or refused whole, to one or to many, once.

#![expect(clippy::panic, reason = "a test that cannot go on fails, and says why")]

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use musubi::{
    app::App,
    config::{Config, QuietHours},
    db::{Db, Millis},
    member::tag,
    message::{
        self, Accepted, Audience, Counts, Lane, Order, Refusal, What,
        command::{End, Watch, dry_run},
        topic,
    },
    privacy, worker,
};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tokio_util::sync::CancellationToken;

use crate::support::{Engine, TestApp, both_engines};

pub fn order(to: Audience, what: What) -> Order {
    Order {
        channel: "main".into(),
        to,
        what,
        topic: None,
        send_at: None,
        collapse_key: None,
        idempotency_key: None,
        lane: None,
        beyond_quota: false,
        cause: "test",
    }
}

fn one(id: &str) -> Audience {
    Audience::Member(id.into())
}

pub fn hello() -> What {
    What::Messages(vec![json!({ "type": "text", "text": "hello {{not.a.placeholder}}" })])
}

fn reminder() -> What {
    let data = json!({ "company": "Example", "title": "Dentist", "at": "2026-12-01T10:00:00+09:00" });
    What::Template { name: "reminder".into(), data }
}

async fn accept(app: &TestApp, order: &Order) -> String {
    let accepted = message::accept(&app.app, order).await.unwrap();
    assert!(accepted.is_new);
    accepted.message_id
}

pub async fn expand(app: &TestApp) {
    while message::expand(&app.app, "main").await.unwrap() > 0 {}
}

async fn refused(app: &TestApp, order: &Order) -> Vec<String> {
    let before = app.dump(&[]).await;
    let error = message::accept(&app.app, order).await.unwrap_err();
    assert_eq!(app.dump(&[]).await, before, "{error}");
    let looked_at = message::preview(&app.app, order).await.unwrap_err();
    assert_eq!(looked_at.to_string(), error.to_string());
    let Refusal::Mistakes(mistakes) = error else { panic!("{error}") };
    mistakes.iter().map(ToString::to_string).collect()
}

async fn counts(app: &TestApp, id: &str) -> Counts {
    let counts = message::counts(&mut app.app.db.conn().await.unwrap(), id).await.unwrap().unwrap();
    assert!(counts.add_up(), "{counts:?}");
    counts
}

async fn left_out(app: &TestApp, id: &str) -> BTreeMap<String, i64> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT reason, recipients FROM message_exclusions WHERE message_id = $1")
            .bind(id)
            .fetch_all(&mut *app.app.db.conn().await.unwrap())
            .await
            .unwrap();
    rows.into_iter().collect()
}

/// Members `m00001` and on, each linked by `l00001` and on to a LINE user of the same number.
pub async fn people(app: &TestApp, count: u32) {
    let numbers = format!("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) ");
    let id = |letter: &str| format!("'{letter}' || substr('0000000' || CAST(i AS TEXT), length(CAST(i AS TEXT)) + 1)");
    let (member, user, link) = (id("m"), id("u"), id("l"));
    let mut conn = app.app.db.conn().await.unwrap();
    for statement in [
        format!(
            "INSERT INTO members (id, external_id, email, email_key, name, source, created_at) {numbers}
             SELECT {member}, 'c' || CAST(i AS TEXT), {member}, {member}, 'Member ' || CAST(i AS TEXT), 'x', 1 FROM n"
        ),
        format!(
            "INSERT INTO line_users (id, provider, user_id, display_name, profile_at, created_at) {numbers}
             SELECT {user}, 'main', 'U' || {user}, 'x', 1, 1 FROM n"
        ),
        format!(
            "INSERT INTO links (id, provider, line_user_id, member_id, source, consent_version, consent_locale,
               created_at) {numbers} SELECT {link}, 'main', {user}, {member}, 'web', '1', 'ja', 1 FROM n"
        ),
    ] {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut *conn).await.unwrap();
    }
}

/// Makes the first members of [`people`] ones that nothing may be sent to, for each reason one.
async fn leave_out(app: &TestApp) {
    for statement in [
        "UPDATE links SET suspended_at = 1 WHERE id = 'l0000001'",
        "UPDATE members SET disabled_at = 1 WHERE id = 'm0000002'",
        "UPDATE links SET permission = 'withdrawn' WHERE id = 'l0000003'",
        "INSERT INTO friends (line_user_id, channel, friend, changed_at) VALUES ('u0000004', 'main', 'no', 1)",
        "INSERT INTO friends (line_user_id, channel, friend, changed_at) VALUES ('u0000006', 'main', 'yes', 1)",
        "INSERT INTO friends (line_user_id, channel, friend, changed_at) VALUES ('u0000007', 'other', 'no', 1)",
        "UPDATE links SET permission = 'unverifiable' WHERE id = 'l0000008'",
    ] {
        app.execute(statement).await;
    }
    let mut tx = app.app.db.begin().await.unwrap();
    assert!(topic::opt_out(&mut tx, app.app.now(), "m0000005", "news").await.unwrap());
    assert!(topic::opt_out(&mut tx, app.app.now(), "m0000006", "other").await.unwrap());
    tx.commit().await.unwrap();
}

fn all_reasons() -> BTreeMap<String, i64> {
    let reasons = ["suspended", "member_disabled", "consent_withdrawn", "not_reachable", "opted_out"];
    reasons.map(|reason| (reason.to_owned(), 1)).into()
}

async fn texts(app: &TestApp, statement: &'static str) -> Vec<String> {
    sqlx::query_scalar(statement).fetch_all(&mut *app.app.db.conn().await.unwrap()).await.unwrap()
}

async fn at(app: &TestApp, statement: &'static str) -> Vec<Timestamp> {
    let times: Vec<Millis> =
        sqlx::query_scalar(statement).fetch_all(&mut *app.app.db.conn().await.unwrap()).await.unwrap();
    times.into_iter().map(|time| Timestamp::from_millisecond(time.0).unwrap()).collect()
}

/// Another node at the same database.
async fn other_node(app: &TestApp) -> App {
    let db = Db::connect(&app.database_url).await.unwrap();
    App::new(app.app.config.clone(), db, app.clock.clone()).unwrap()
}

const EACH_ONCE: &str = "SELECT CAST(COUNT(*) AS BIGINT) FROM (SELECT DISTINCT line_user_id FROM deliveries) d";
const DELIVERIES: &str = "SELECT CAST(COUNT(*) AS BIGINT) FROM deliveries";
const HIGHEST: &str = "SELECT MAX(seq) FROM deliveries";

both_engines! {
    async fn everything_wrong_is_told_at_once(app) {
        people(app, 1).await;
        let what = What::Messages(vec![json!({ "type": "text", "text": "" }), json!({ "type": "picture" })]);
        let wrong = Order { channel: "shop".into(), topic: Some("a\0b".into()), ..order(one("nobody"), what) };
        let told = refused(app, &wrong).await.join("\n");
        for words in ["topic: ", "channel: there is no channel \"shop\"; there are: main", "no member \"nobody\"",
            "messages[0].text: ", "messages[1].type: "] {
            assert!(told.contains(words), "{words}: {told}");
        }
        let template = |name: &str, data: Value| What::Template { name: name.into(), data };
        for (what, words) in [
            (template("nothing", json!({})), "template: there is no message template \"nothing\""),
            (template("reminder", json!({})), "data: the template \"reminder\": "),
            (template("reminder", json!([])), "data: must be a JSON object"),
            (What::Messages(Vec::new()), "messages: must hold 1 to 5 messages"),
        ] {
            for to in [one("m0000001"), Audience::All, Audience::Tag("gold".into())] {
                let told = refused(app, &order(to, what.clone())).await.join("\n");
                assert!(told.contains(words), "{words}: {told}");
            }
        }
    }

    /// What names something holds no line break, no escape and no NUL, wherever it would be told.
    async fn j11_names_in_an_order_hold_no_control_characters(app) {
        for word in ["", "a\nb", "a\u{1b}[2J", "a\0b", "\u{85}", &"x".repeat(300)] {
            let order = Order {
                topic: Some(word.into()),
                collapse_key: Some(word.into()),
                idempotency_key: Some(word.into()),
                ..order(Audience::Tag(word.into()), hello())
            };
            assert_eq!(refused(app, &order).await.len(), 4, "{word:?}");
        }
    }

    async fn one_member_gets_it_rendered_in_their_language(app) {
        people(app, 2).await;
        app.execute("UPDATE members SET locale = 'ja', time_zone = 'Asia/Tokyo' WHERE id = 'm0000001'").await;
        let first = accept(app, &order(one("c1"), reminder())).await;
        let second = accept(app, &order(one("m0000002"), hello())).await;
        let contents = texts(app, "SELECT content FROM deliveries ORDER BY member_id").await;
        assert!(contents[0].contains("Dentist") && contents[0].contains("10:00"), "{}", contents[0]);
        assert_eq!(contents[1], json!([{ "type": "text", "text": "hello {{not.a.placeholder}}" }]).to_string());
        assert_eq!(texts(app, "SELECT locale FROM messages ORDER BY id").await, ["ja", "en"]);
        assert_eq!(texts(app, "SELECT DISTINCT lane FROM deliveries").await, ["transactional"]);
        for id in [first, second] {
            assert_eq!(counts(app, &id).await, Counts { accepted: 1, waiting: 1, ..Counts::default() });
        }
        app.execute("UPDATE members SET external_id = 'm0000002' WHERE id = 'm0000001'").await;
        accept(app, &order(one("m0000002"), hello())).await;
        let to = "SELECT CAST(COUNT(*) AS BIGINT) FROM deliveries WHERE member_id = 'm0000001'";
        assert_eq!(app.count(to).await, 2, "the company's id counts first");
    }

    async fn whoever_may_not_be_sent_to_is_left_out_and_counted(app) {
        people(app, 10).await;
        leave_out(app).await;
        let news = |to| Order { topic: Some("news".into()), ..order(to, hello()) };
        for (number, reason) in
            ["suspended", "member_disabled", "consent_withdrawn", "not_reachable", "opted_out"].iter().enumerate()
        {
            let id = accept(app, &news(one(&format!("c{}", number + 1)))).await;
            assert_eq!(left_out(app, &id).await, BTreeMap::from([((*reason).to_owned(), 1)]));
            assert_eq!(counts(app, &id).await, Counts::default());
        }
        app.execute("UPDATE links SET ended_at = 1 WHERE id = 'l0000010'").await;
        let id = accept(app, &news(one("c10"))).await;
        assert_eq!(left_out(app, &id).await, BTreeMap::from([("not_linked".to_owned(), 1)]));
        let all = accept(app, &news(Audience::All)).await;
        let look = message::preview(&app.app, &news(Audience::All)).await.unwrap();
        expand(app).await;
        assert_eq!(left_out(app, &all).await, all_reasons());
        assert_eq!(counts(app, &all).await, Counts { accepted: 4, waiting: 4, ..Counts::default() });
        assert_eq!((look.recipients, look.left_out), (4, all_reasons()), "a look says the same");
        assert_eq!(look.example.unwrap().0, "Member 6");
        assert_eq!(texts(app, "SELECT DISTINCT lane FROM deliveries").await, ["bulk"]);
    }

    async fn a_tag_reaches_its_members_only(app) {
        people(app, 10).await;
        leave_out(app).await;
        app.execute("UPDATE links SET ended_at = 1 WHERE id = 'l0000010'").await;
        let mut tx = app.app.db.begin().await.unwrap();
        for member in ["m0000001", "m0000005", "m0000009", "m0000010"] {
            assert!(tag::add(&mut tx, member, "gold").await.unwrap());
            assert!(!tag::add(&mut tx, member, "gold").await.unwrap());
        }
        tag::add(&mut tx, "m0000007", "silver").await.unwrap();
        tag::add(&mut tx, "m0000008", "gold").await.unwrap();
        assert!(tag::remove(&mut tx, "m0000008", "gold").await.unwrap());
        tx.commit().await.unwrap();
        let gold = order(Audience::Tag("gold".into()), reminder());
        let look = message::preview(&app.app, &gold).await.unwrap();
        let id = accept(app, &gold).await;
        expand(app).await;
        assert_eq!(texts(app, "SELECT member_id FROM deliveries ORDER BY seq").await, ["m0000005", "m0000009"]);
        let out = BTreeMap::from([("not_linked".to_owned(), 1), ("suspended".to_owned(), 1)]);
        assert_eq!(left_out(app, &id).await, out);
        assert_eq!((look.recipients, look.left_out), (2, out));
        assert!(look.example.unwrap().1.contains("Dentist"));
        let empty = accept(app, &order(Audience::Tag("nobody".into()), hello())).await;
        expand(app).await;
        assert_eq!(counts(app, &empty).await, Counts::default());
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM messages WHERE expanded_at IS NULL").await, 0);
    }

    /// The template is kept as it was; who links later, or anew, is not among the recipients.
    async fn the_audience_is_that_of_the_acceptance(app) {
        people(app, 3).await;
        accept(app, &order(Audience::All, reminder())).await;
        app.execute("UPDATE links SET created_at = 9000000000000 WHERE id = 'l0000003'").await;
        expand(app).await;
        assert_eq!(texts(app, "SELECT link_id FROM deliveries ORDER BY seq").await, ["l0000001", "l0000002"]);
        let source: Value = serde_json::from_str(&texts(app, "SELECT source FROM messages").await[0]).unwrap();
        assert!(source.as_object().unwrap().values().any(|file| file.to_string().contains("{{")), "{source}");
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM deliveries WHERE content IS NULL").await, 2);
    }

    /// Cut off at any moment, by two nodes at once: everybody is added once, and the counts are right all the while.
    async fn x04_an_expansion_that_is_killed_adds_everybody_once(app) {
        people(app, 32_003).await;
        let id = accept(app, &order(Audience::All, hello())).await;
        let nodes = [app.app.clone(), other_node(app).await];
        let open = "SELECT CAST(COUNT(*) AS BIGINT) FROM messages WHERE expanded_at IS NULL";
        let mut patience = 1;
        while app.count(open).await > 0 {
            let running = nodes.clone().map(|node| tokio::spawn(async move { message::expand(&node, "main").await }));
            // Some of these are over by then, others are in the middle.
            let _ = tokio::time::timeout(Duration::from_millis(patience), std::future::pending::<()>()).await;
            running.iter().for_each(tokio::task::JoinHandle::abort);
            for one in running {
                let _ = one.await;
            }
            counts(app, &id).await;
            patience = patience % 60 + 7;
        }
        assert_eq!(counts(app, &id).await, Counts { accepted: 32_003, waiting: 32_003, ..Counts::default() });
        assert_eq!((app.count(EACH_ONCE).await, app.count(HIGHEST).await), (32_003, 32_002));
        nodes[1].db.close().await;
    }

    async fn the_same_key_is_the_same_message(app) {
        people(app, 2).await;
        let key = |key: &str, order: Order| Order { idempotency_key: Some(key.into()), ..order };
        let (to_one, to_all) = (key("a", order(one("c1"), reminder())), key("b", order(Audience::All, hello())));
        let ids = [accept(app, &to_one).await, accept(app, &to_all).await];
        expand(app).await;
        // Also where it could not be accepted any more.
        app.execute("UPDATE members SET external_id = NULL").await;
        let before = app.dump(&[]).await;
        for (again, message_id) in [&to_one, &to_all].into_iter().zip(ids) {
            let known = message::accept(&app.app, again).await.unwrap();
            assert_eq!(known, Accepted { message_id: message_id.clone(), is_new: false, left_out: Vec::new() });
            let other = Order { topic: Some("news".into()), ..again.clone() };
            let refusal = message::accept(&app.app, &other).await.unwrap_err();
            assert!(matches!(&refusal, Refusal::KeyTaken { message_id: id } if *id == message_id), "{refusal}");
        }
        assert_eq!(app.dump(&[]).await, before);
    }

    async fn two_at_once_under_one_key_are_one(app) {
        people(app, 3).await;
        for to in [one("c1"), Audience::All] {
            let key = Some(format!("{to:?}"));
            let order = Order { idempotency_key: key, ..order(to, reminder()) };
            let running: Vec<_> = (0..8)
                .map(|_| {
                    let (app, order) = (app.app.clone(), order.clone());
                    tokio::spawn(async move { message::accept(&app, &order).await.unwrap() })
                })
                .collect();
            let mut accepted = Vec::new();
            for one in running {
                accepted.push(one.await.unwrap());
            }
            assert_eq!(accepted.iter().filter(|accepted| accepted.is_new).count(), 1, "{accepted:?}");
            assert!(accepted.iter().all(|other| other.message_id == accepted[0].message_id));
        }
        expand(app).await;
        assert_eq!(app.count(DELIVERIES).await, 1 + 3);
    }

    async fn a_collapse_key_takes_the_place_of_what_waits(app) {
        people(app, 3).await;
        let news = |to, number: i64| {
            let what = What::Template { name: "reminder".into(), data: json!({ "company": "Example", "title": format!("News {number}"), "at": "2026-12-01T10:00:00+09:00" }) };
            Order { collapse_key: Some("news".into()), ..order(to, what) }
        };
        let first = accept(app, &news(one("c1"), 1)).await;
        let all = accept(app, &news(Audience::All, 2)).await;
        expand(app).await;
        assert_eq!(counts(app, &first).await, Counts { accepted: 1, cancelled: 1, ..Counts::default() });
        assert_eq!(counts(app, &all).await, Counts { accepted: 3, waiting: 3, ..Counts::default() });
        // One of another key, and one that was tried, stay.
        accept(app, &order(one("c1"), hello())).await;
        app.execute("UPDATE deliveries SET attempts = 1 WHERE link_id = 'l0000002'").await;
        let last = accept(app, &news(one("c1"), 3)).await;
        let tried = accept(app, &news(one("c2"), 4)).await;
        assert_eq!(counts(app, &all).await, Counts { accepted: 3, waiting: 2, cancelled: 1, ..Counts::default() });
        let reasons = texts(app, "SELECT reason FROM deliveries WHERE state = 'cancelled'").await;
        assert_eq!(reasons, ["superseded", "superseded"]);
        let mut conn = app.app.db.conn().await.unwrap();
        let titles = |updates: Vec<Value>| updates.iter().map(|data| data["title"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!(titles(message::updates(&mut conn, &last, "l0000001").await.unwrap()), ["News 1", "News 2"]);
        assert_eq!(titles(message::updates(&mut conn, &all, "l0000001").await.unwrap()), ["News 1"]);
        assert!(message::updates(&mut conn, &all, "l0000003").await.unwrap().is_empty());
        assert!(message::updates(&mut conn, &tried, "l0000002").await.unwrap().is_empty());
    }

    /// At once: whatever the order, one waits for each person, and it tells of all the others.
    async fn of_many_at_once_under_one_collapse_key_one_waits(app) {
        people(app, 1).await;
        let running: Vec<_> = (0..8)
            .map(|number| {
                let what = What::Template { name: "reminder".into(), data: json!({ "company": "Example", "title": number.to_string(), "at": "2026-12-01T10:00:00+09:00" }) };
                let order = Order { collapse_key: Some("k".into()), ..order(one("c1"), what) };
                let app = app.app.clone();
                tokio::spawn(async move { message::accept(&app, &order).await.unwrap() })
            })
            .collect();
        for one in running {
            one.await.unwrap();
        }
        let waiting = texts(app, "SELECT message_id FROM deliveries WHERE state = 'waiting'").await;
        let ids = texts(app, "SELECT id FROM messages ORDER BY id").await;
        assert!(waiting.contains(&ids[7]), "the newest waits: {waiting:?}");
        assert_eq!(waiting.len(), 1, "{waiting:?}");
    }

    async fn a_message_that_is_taken_back_is_not_sent(app) {
        people(app, 5_000).await;
        let id = accept(app, &order(Audience::All, hello())).await;
        assert_eq!(message::expand(&app.app, "main").await.unwrap(), 1);
        app.execute("UPDATE deliveries SET state = 'sending' WHERE seq = 7").await;
        assert!(message::cancel_message(&app.app, &id).await.unwrap());
        assert!(message::cancel_message(&app.app, &id).await.unwrap(), "twice is once");
        assert!(!message::cancel_message(&app.app, "nothing").await.unwrap());
        let cancelled = Counts { accepted: 2000, sending: 1, cancelled: 1999, ..Counts::default() };
        assert_eq!(counts(app, &id).await, cancelled);
        assert_eq!(message::expand(&app.app, "main").await.unwrap(), 0, "nobody is added any more");
        assert_eq!(app.audit().await.iter().filter(|row| *row == "message_cancelled/").count(), 1);

        // Killed after its first commit: a worker goes on.
        let id = accept(app, &order(Audience::All, hello())).await;
        assert_eq!(message::expand(&app.app, "main").await.unwrap(), 1);
        app.execute("UPDATE messages SET cancelled_at = 1 WHERE expanded_at IS NULL").await;
        expand(app).await;
        assert_eq!(counts(app, &id).await, Counts { accepted: 2000, cancelled: 2000, ..Counts::default() });
    }

    async fn an_opt_out_stops_what_waits_and_is_undone(app) {
        people(app, 2).await;
        let news = Order { topic: Some("news".into()), ..order(Audience::All, hello()) };
        let id = accept(app, &news).await;
        accept(app, &order(one("c1"), hello())).await;
        expand(app).await;
        for (opt_out, changed) in [(true, true), (true, false), (false, true), (false, false)] {
            let mut tx = app.app.db.begin().await.unwrap();
            let done = if opt_out {
                topic::opt_out(&mut tx, app.app.now(), "m0000001", "news").await.unwrap()
            } else {
                topic::opt_in(&mut tx, app.app.now(), "m0000001", "news").await.unwrap()
            };
            tx.commit().await.unwrap();
            assert_eq!(done, changed);
        }
        assert_eq!(counts(app, &id).await, Counts { accepted: 2, waiting: 1, cancelled: 1, ..Counts::default() });
        let waiting = "SELECT CAST(COUNT(*) AS BIGINT) FROM deliveries WHERE state = 'waiting' AND member_id = 'm0000001'";
        assert_eq!(app.count(waiting).await, 1, "of other topics it stays");
        assert_eq!(app.audit().await, ["topic_opted_out/", "topic_opted_in/"]);
    }

    async fn what_is_for_later_keeps_its_time(app) {
        people(app, 2).await;
        let send_at = app.app.now().plus(Duration::from_secs(3600));
        accept(app, &Order { send_at: Some(send_at), ..order(one("c1"), hello()) }).await;
        accept(app, &Order { send_at: Some(send_at), ..order(Audience::All, hello()) }).await;
        expand(app).await;
        let later = format!("SELECT CAST(COUNT(*) AS BIGINT) FROM deliveries WHERE due_at = {0} AND order_at = {0}", send_at.0);
        let mut conn = app.app.db.conn().await.unwrap();
        let found: i64 = sqlx::query_scalar(AssertSqlSafe(later)).fetch_one(&mut *conn).await.unwrap();
        assert_eq!(found, 3);
    }

    async fn what_an_erased_member_was_called_goes(app) {
        people(app, 1).await;
        let mut tx = app.app.db.begin().await.unwrap();
        tag::add(&mut tx, "m0000001", "gold").await.unwrap();
        topic::opt_out(&mut tx, app.app.now(), "m0000001", "news").await.unwrap();
        tx.commit().await.unwrap();
        accept(app, &order(one("c1"), reminder())).await;
        let all = accept(app, &order(Audience::All, reminder())).await;
        expand(app).await;
        app.execute("UPDATE deliveries SET state = 'cancelled'").await;
        app.execute("UPDATE links SET ended_at = 1, end_reason = 'deleted'").await;
        app.execute("UPDATE members SET deleted_at = 1, disabled_at = 1, external_id = NULL").await;
        privacy::erase::run(&app.app, "m0000001").await.unwrap();
        for table in ["member_tags", "topic_opt_outs"] {
            let rows = app.dump(&[]).await.into_iter().filter(|row| row.starts_with(table)).count();
            assert_eq!(rows, 0, "{table}");
        }
        assert_eq!(texts(app, "SELECT id FROM messages WHERE data IS NOT NULL").await, [all]);
    }

    /// A look tells numbers and an example, and nothing changes; a repeated command sends nothing.
    async fn the_command_looks_first_and_is_safe_to_repeat(app) {
        people(app, 7).await;
        leave_out(app).await;
        let order = Order {
            topic: Some("news".into()),
            idempotency_key: Some("weekly".into()),
            // Nothing is sent while this test looks.
            send_at: Some(app.app.now().plus(Duration::from_secs(3600))),
            ..order(Audience::All, reminder())
        };
        let before = app.dump(&["quotas"]).await;
        let told = dry_run(&app.app, &order).await.unwrap().join("\n");
        assert_eq!(app.dump(&["quotas"]).await, before);
        for words in ["recipients: 2 (bulk lane, channel main)", "1 opted out of the topic", "as Member 6", "Dentist", "nothing was stored"] {
            assert!(told.contains(words), "{words}: {told}");
        }
        let watch = Watch { every: Duration::from_millis(5), patience: Duration::from_millis(50) };
        let mut told = Vec::new();
        let mut say = |line: &str| told.push(line.to_owned());
        assert_eq!(message::command::send(&app.app, &order, false, watch, &mut say).await.unwrap(), End::Idle);
        assert!(told.join("\n").contains("start `musubi serve`"), "{told:?}");

        let stop = CancellationToken::new();
        let serving = tokio::spawn(worker::run(other_node(app).await, stop.clone()));
        let watch = Watch { patience: Duration::from_secs(60), ..watch };
        let mut told = Vec::new();
        let mut say = |line: &str| told.push(line.to_owned());
        assert_eq!(message::command::send(&app.app, &order, false, watch, &mut say).await.unwrap(), End::Queued);
        let told = told.join("\n");
        for words in ["accepted before", "left out: 1 opted out of the topic", "recipients: 2; 2 waiting"] {
            assert!(told.contains(words), "{words}: {told}");
        }
        stop.cancel();
        serving.await.unwrap();
        assert_eq!(app.count(DELIVERIES).await, 2);
    }

    /// Message objects and a template, both to everybody: sent as they are, or filled for each.
    async fn what_is_for_all_reaches_all(app) {
        people(app, 3).await;
        let words = accept(app, &order(Audience::All, hello())).await;
        let template = accept(app, &order(Audience::All, reminder())).await;
        app.drain().await;
        for id in [words, template] {
            let counts = counts(app, &id).await;
            assert_eq!((counts.accepted, counts.waiting, counts.cancelled), (3, 0, 0), "{counts:?}");
        }
        let bodies = texts(app, "SELECT body FROM requests").await.concat();
        assert!(bodies.contains("hello {{not.a.placeholder}}") && bodies.contains("Dentist"), "{bodies}");
    }

    /// Whole audiences are read by index.
    async fn audiences_are_gone_through_by_index(app) {
        use sqlx::Row;
        people(app, 20_000).await;
        app.execute("INSERT INTO member_tags (member_id, tag) SELECT id, 'gold' FROM members").await;
        let mut conn = app.app.db.conn().await.unwrap();
        sqlx::raw_sql("ANALYZE").execute(&mut *conn).await.unwrap();
        let (head, column) = if app.engine == Engine::Sqlite { ("EXPLAIN QUERY PLAN", 3) } else { ("EXPLAIN", 0) };
        for statement in message::audience::STATEMENTS {
            let is_tag = statement.contains("member_tags");
            let mut text = statement.to_owned();
            let values = if text.contains("$5") {
                let values = ["'main'", "'l0010000'", "'l0010100'", "9000000000000", "'main'", "'news'"];
                let values = if is_tag { [values[0], "'m0010000'", "'m0010100'", values[3], values[4], values[5]] } else { values };
                let more = ["'id'", "1", "'bulk'", "1", "1", "1", "'gold'"];
                if text.contains("$8") { values.iter().chain(&more).copied().collect::<Vec<_>>() } else { values.into_iter().chain(["'gold'"]).collect() }
            } else if is_tag {
                vec!["'gold'", "'m0010000'", "100"]
            } else {
                vec!["'main'", "'l0010000'", "100"]
            };
            for (number, value) in values.iter().enumerate().rev() {
                text = text.replace(&format!("${}", number + 1), value);
            }
            let rows = sqlx::query(AssertSqlSafe(format!("{head} {text}"))).fetch_all(&mut *conn).await.unwrap();
            let plan = rows.iter().map(|row| row.try_get::<String, _>(column).unwrap()).collect::<Vec<_>>().join("\n");
            for table in ["links", "l", "member_tags", "t"] {
                let scans = [format!("SCAN {table}\n"), format!("SCAN {table} USING"), format!("Seq Scan on {table} ")];
                assert!(!scans.iter().any(|scan| format!("{plan}\n").contains(scan)), "{text}\n{plan}");
            }
        }
    }

    /// However many wait, a claim reads the first of them in their order: not all, to sort them.
    async fn a_claim_reads_what_it_takes(app) {
        use sqlx::Row;
        people(app, 5_000).await;
        for statistics in ["of an empty queue", "of a full one"] {
            let mut conn = app.app.db.worker_conn().await.unwrap();
            sqlx::raw_sql("ANALYZE").execute(&mut *conn).await.unwrap();
            if statistics == "of an empty queue" {
                app.execute(
                    "INSERT INTO messages (id, channel, lane, cause, template, locale, accepted, expanded_at, created_at)
                     SELECT id, 'main', 'bulk', 'x', '', 'ja', 1, 1, 1 FROM links",
                ).await;
                for (seq, lane) in [(0, "bulk"), (1, "transactional")] {
                    let text = format!(
                        "INSERT INTO deliveries (message_id, seq, channel, lane, member_id, line_user_id, link_id, state,
                           attempts, order_at, due_at, created_at, updated_at)
                         SELECT id, {seq}, 'main', '{lane}', member_id, line_user_id, id, 'waiting', 0, 1, 1, 1, 1 FROM links"
                    );
                    sqlx::query(AssertSqlSafe(text)).execute(&mut *conn).await.unwrap();
                }
            }
            for statement in message::claim::STATEMENTS {
                let rows = match app.engine {
                    Engine::Sqlite => {
                        let text = format!("EXPLAIN QUERY PLAN {}", statement.plain);
                        sqlx::query(AssertSqlSafe(text)).fetch_all(&mut *conn).await.unwrap()
                    }
                    Engine::Postgres => {
                        let text = format!("PREPARE claim AS {}", statement.locked);
                        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *conn).await.unwrap();
                        let rows = sqlx::raw_sql("EXPLAIN EXECUTE claim ('main', 9000000000000, 0)").fetch_all(&mut *conn).await.unwrap();
                        sqlx::raw_sql("DEALLOCATE claim").execute(&mut *conn).await.unwrap();
                        rows
                    }
                };
                let column = if app.engine == Engine::Sqlite { 3 } else { 0 };
                let plan = rows.iter().map(|row| row.try_get::<String, _>(column).unwrap()).collect::<Vec<_>>().join("\n");
                assert!(plan.contains("deliveries_waiting"), "{statistics}\n{plan}");
                for all in ["TEMP B-TREE", "Sort", "Bitmap", "Seq Scan on deliveries"] {
                    assert!(!plan.contains(all), "{statistics}\n{plan}");
                }
            }
        }
    }
}

/// However slowly a channel pushes, what says the same to many is one request for 500 of them, not one for each.
#[tokio::test]
async fn the_same_words_go_together_at_a_low_pace_too() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let slow = |config: &mut Config| config.channel.get_mut("main").unwrap().pushes_per_second = 2;
        let app = TestApp::start_with(engine, slow).await;
        people(&app, 1100).await;
        app.execute("UPDATE line_users SET user_id = 'U0000000000000000000000000' || substr(id, 2)").await;
        accept(&app, &order(Audience::All, hello())).await;
        for _ in 0..20 {
            app.drain().await;
            app.clock.advance(Duration::from_secs(1));
        }
        let calls = app.calls_to("/v2/bot/message/").await;
        let sent = calls.iter().filter(|call| call["path"] == "/v2/bot/message/multicast").count();
        let pushed = calls.iter().filter(|call| call["path"] == "/v2/bot/message/push").count();
        assert_eq!((sent, pushed), (3, 0), "{calls:?}");
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM deliveries WHERE state = 'sent'").await, 1100);
        app.end().await;
    }
}

#[tokio::test]
async fn bulk_keeps_the_quiet_hours_of_each_recipient() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let app = TestApp::start_with(engine, |config| {
            config.time_zone = "Asia/Tokyo".into();
            config.sending.quiet_hours = QuietHours::parse("21:00-08:00");
        })
        .await;
        people(&app, 4).await;
        app.execute("UPDATE members SET time_zone = 'America/New_York' WHERE id = 'm0000002'").await;
        app.execute("UPDATE members SET time_zone = 'Asia/Bangkok' WHERE id = 'm0000003'").await;
        app.execute("UPDATE members SET time_zone = 'Nowhere/At all' WHERE id = 'm0000004'").await;
        let at_night: Timestamp = "2030-06-01T22:30:00+09:00".parse().unwrap();
        let send_at = Some(Millis(at_night.as_millisecond()));
        accept(&app, &Order { send_at, ..order(Audience::All, hello()) }).await;
        expand(&app).await;
        let times = [
            "2030-06-02T08:00:00+09:00",
            "2030-06-01T22:30:00+09:00",
            "2030-06-01T22:30:00+09:00",
            "2030-06-02T08:00:00+09:00",
        ];
        let times: Vec<Timestamp> = times.iter().map(|time| time.parse().unwrap()).collect();
        assert_eq!(at(&app, "SELECT due_at FROM deliveries ORDER BY seq").await, times);
        assert!(at(&app, "SELECT order_at FROM deliveries").await.iter().all(|order_at| *order_at == at_night));
        // One member is sent to at once, unless it is bulk.
        accept(&app, &Order { send_at, ..order(one("c1"), reminder()) }).await;
        accept(&app, &Order { send_at, lane: Some(Lane::Bulk), ..order(one("c1"), reminder()) }).await;
        let to_one = "SELECT due_at FROM deliveries WHERE content IS NOT NULL ORDER BY message_id";
        assert_eq!(at(&app, to_one).await, [at_night, times[0]]);
        app.end().await;
    }
}
