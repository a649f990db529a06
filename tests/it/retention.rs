//! What was sent is kept for its time and no longer; what a person said or was is not kept against their will, but never
//! taken from under a request whose outcome is open.

use std::{collections::BTreeSet, time::Duration};

use musubi::{
    db::{Millis, new_id},
    message::{self, Audience, Counts, Order, What, prune},
    worker,
};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tokio_util::sync::CancellationToken;

use crate::{
    sending::{counts, friend, send},
    support::{
        Engine, PASSWORD, TestApp, both_engines,
        process::{Place, Process, until},
    },
};

const DAY: Duration = Duration::from_secs(24 * 3600);
const PUSH: &str = "POST /v2/bot/message/push";
const ROWS: &str = "SELECT CAST((SELECT COUNT(*) FROM messages) + (SELECT COUNT(*) FROM deliveries)
  + (SELECT COUNT(*) FROM requests) + (SELECT COUNT(*) FROM message_exclusions) AS BIGINT)";
const BODIES: &str = "SELECT body FROM requests WHERE body <> '' ORDER BY id";
const CONTENTS: &str = "SELECT message_id FROM deliveries WHERE content <> '[]' ORDER BY message_id";

fn order(to: Audience, text: &str) -> Order {
    let what = What::Messages(vec![json!({ "type": "text", "text": text })]);
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

fn to(user: &str) -> Audience {
    Audience::Member(user.to_owned())
}

async fn accept(app: &TestApp, order: &Order) -> (String, bool) {
    let accepted = message::accept(&app.app, order).await.unwrap();
    (accepted.message_id, accepted.is_new)
}

async fn texts(app: &TestApp, statement: &'static str) -> Vec<String> {
    sqlx::query_scalar(statement).fetch_all(&mut *app.app.db.conn().await.unwrap()).await.unwrap()
}

/// All steps of the worker's pruning; what is left of each message adds up in between.
async fn prune_all(app: &TestApp) {
    while worker::prune(&app.app, "test").await.unwrap() > 0 {
        for id in texts(app, "SELECT id FROM messages").await {
            let counts = counts(app, &id).await;
            assert!(counts.add_up(), "{counts:?}");
        }
    }
}

/// Every row of what this is about.
async fn outbox(app: &TestApp) -> Vec<String> {
    let tables = ["messages:", "deliveries:", "requests:", "message_exclusions:"];
    app.dump(&[]).await.into_iter().filter(|row| tables.iter().any(|table| row.starts_with(table))).collect()
}

/// Past every pause, and what is due then.
async fn later(app: &TestApp) {
    app.clock.advance(Duration::from_secs(660));
    app.drain().await;
}

/// A message of a day to many that ended then, each delivery by a request of its own, made in the database.
async fn fill(app: &musubi::app::App, day: Millis, recipients: i64) -> String {
    let id = new_id(day);
    let numbers =
        format!("WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {recipients} - 1)");
    let request = format!("'{id}.' || CAST(i AS TEXT)");
    let at = day.0;
    let mut conn = app.db.conn().await.unwrap();
    for text in [
        format!(
            "INSERT INTO messages (id, channel, lane, cause, template, locale, accepted, source, data, audience,
               expanded_at, created_at)
             VALUES ('{id}', 'main', 'bulk', 'test', 't', '', {recipients}, '{{}}', '{{}}', '\"all\"', {at}, {at})"
        ),
        format!("INSERT INTO message_exclusions (message_id, reason, recipients) VALUES ('{id}', 'opted_out', 3)"),
        format!(
            "INSERT INTO requests (id, channel, lane, endpoint, recipients, body, state, attempts, first_attempt_at,
               next_attempt_at, closed_at)
             {numbers} SELECT {request}, 'main', 'bulk', 'push', 1, 'said', 'sent', 1, {at}, {at}, {at} FROM n"
        ),
        format!(
            "INSERT INTO deliveries (message_id, seq, channel, lane, line_user_id, state, attempts, request_id, order_at,
               due_at, created_at, updated_at)
             {numbers} SELECT '{id}', i, 'main', 'bulk', 'u', 'sent', 1, {request}, {at}, {at}, {at}, {at} FROM n"
        ),
    ] {
        sqlx::query(AssertSqlSafe(text)).execute(&mut *conn).await.unwrap();
    }
    id
}

pub async fn explain(app: &TestApp, statement: &str, values: &[&str]) -> String {
    use sqlx::Row;
    let (head, column) = if app.engine == Engine::Sqlite { ("EXPLAIN QUERY PLAN", 3) } else { ("EXPLAIN", 0) };
    let mut text = format!("{head} {statement}");
    for (number, value) in values.iter().enumerate().rev() {
        text = text.replace(&format!("${}", number + 1), value);
    }
    let rows = sqlx::query(AssertSqlSafe(text)).fetch_all(&mut *app.app.db.conn().await.unwrap()).await.unwrap();
    rows.iter().map(|row| row.try_get::<String, _>(column).unwrap()).collect::<Vec<_>>().join("\n")
}

both_engines! {
    /// First what was said goes, then that it was; what waits, and what LINE may still be asked, stays as it is.
    async fn x50_what_was_sent_goes_when_it_is_over_and_old(app) {
        let user = friend(app).await;
        let keyed = Order { idempotency_key: Some("once".into()), ..order(to(&user), "said") };
        let (said, _) = accept(app, &keyed).await;
        let (to_all, _) = accept(app, &order(Audience::All, "to all")).await;
        app.execute("INSERT INTO message_exclusions (message_id, reason, recipients) SELECT id, 'opted_out', 2 FROM messages").await;
        app.drain().await;
        let send_at = Some(app.app.now().plus(DAY * 300));
        let (later, _) = accept(app, &Order { send_at, ..order(to(&user), "later") }).await;
        let (later_to_all, _) = accept(app, &Order { send_at, ..order(Audience::All, "later to all") }).await;
        while message::expand(&app.app, "main").await.unwrap() > 0 {}
        app.fault(json!({ "endpoint": PUSH, "count": 1, "status": 500 })).await;
        let (open, _) = accept(app, &order(to(&user), "open")).await;
        message::deliver(&app.app, "main", "test").await.unwrap();
        let (sent, all) = (Counts { accepted: 1, waiting: 0, sending: 0, sent: 1, failed: 0, unknown: 0, cancelled: 0 }, app.count(ROWS).await);

        app.clock.advance(DAY * 89);
        let before = outbox(app).await;
        prune_all(app).await;
        assert_eq!(outbox(app).await, before, "nothing is past its time");

        app.clock.advance(DAY * 2);
        prune_all(app).await;
        assert_eq!(texts(app, CONTENTS).await, [&*later, &open]);
        let bodies = texts(app, BODIES).await;
        assert!(bodies.len() == 1 && bodies[0].contains("\"open\""), "{bodies:?}");
        assert_eq!(texts(app, "SELECT id FROM messages WHERE content IS NOT NULL").await, [&*later_to_all]);
        assert_eq!(app.count(ROWS).await, all, "that it was sent is still known");
        for id in [&said, &to_all] {
            assert_eq!(counts(app, id).await, sent);
        }
        assert_eq!(accept(app, &keyed).await, (said.clone(), false), "and under which key");

        // What waited is sent, and has its time from then on.
        app.clock.advance(DAY * 210);
        app.drain().await;
        app.clock.advance(DAY * 65);
        prune_all(app).await;
        let left: BTreeSet<String> = texts(app, "SELECT id FROM messages").await.into_iter().collect();
        assert_eq!(left, BTreeSet::from([later.clone(), later_to_all, open]), "a year after their ends");
        assert_eq!(texts(app, "SELECT DISTINCT message_id FROM deliveries ORDER BY message_id").await.len(), 3);
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM requests").await, 3);
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM message_exclusions").await, 0);
        assert_eq!(texts(app, BODIES).await.len(), 3, "these ended 66 days ago");
        assert!(accept(app, &keyed).await.1, "the key is forgotten with its message");
        app.drain().await;
        app.clock.advance(DAY * 366);
        prune_all(app).await;
        assert_eq!(app.count(ROWS).await, 0);
    }

    /// Contents are kept no longer than what they belong to.
    async fn x50_the_shorter_time_holds_for_contents(app) {
        let day = app.app.now();
        fill(&app.app, day, 3).await;
        app.clock.advance(DAY * 3);
        while prune::run(&app.app, DAY * 90, DAY * 2).await.unwrap() > 0 {}
        assert_eq!(app.count(ROWS).await, 0);
    }

    /// A message that tells what it took the place of keeps that until it is over itself.
    async fn x50_what_was_superseded_is_kept_with_what_tells_of_it(app) {
        friend(app).await;
        let data = |number: i64| json!({ "company": "Example", "title": format!("Change {number}"), "at": "2026-12-01T10:00:00+09:00" });
        for number in 0..3 {
            let what = What::Template { name: "reminder".into(), data: data(number) };
            let send_at = Some(app.app.now().plus(DAY * 100));
            accept(app, &Order { what, send_at, collapse_key: Some("issue".into()), ..order(Audience::All, "") }).await;
            while message::expand(&app.app, "main").await.unwrap() > 0 {}
        }
        let superseded = "SELECT CAST(COUNT(*) AS BIGINT) FROM deliveries WHERE reason = 'superseded'";
        assert_eq!(app.count(superseded).await, 2);
        app.clock.advance(DAY * 95);
        prune_all(app).await;
        let last = &texts(app, "SELECT id FROM messages ORDER BY id").await[2];
        let link = &texts(app, "SELECT DISTINCT link_id FROM deliveries").await[0];
        let updates = message::updates(&mut app.app.db.conn().await.unwrap(), last, link).await.unwrap();
        assert_eq!(updates, [data(0), data(1)]);
        app.clock.advance(DAY * 6);
        app.drain().await;
        app.clock.advance(DAY * 91);
        prune_all(app).await;
        assert_eq!(app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM messages WHERE data IS NOT NULL").await, 0);
    }

    /// In batches, by two at once; at every moment what is left of a message adds up.
    async fn x50_many_rows_go_some_at_a_time(app) {
        let day = app.app.now();
        let big = fill(&app.app, day, 2_500).await;
        for _ in 0..150 {
            fill(&app.app, day, 1).await;
        }
        app.clock.advance(DAY * 100);
        while prune::run(&app.app, DAY * 90, DAY * 365).await.unwrap() > 0 {}
        assert_eq!(texts(app, BODIES).await.len(), 0);
        assert_eq!(app.count(ROWS).await, 2 * 2_650 + 2 * 151);
        app.clock.advance(DAY * 300);
        let (mut rounds, mut parts) = (0, 0);
        loop {
            let step = || prune::run(&app.app, DAY * 90, DAY * 365);
            // Two nodes at once: where one is in the other's way, its step is undone whole.
            let (one, other) = tokio::join!(step(), step());
            let found = message::counts(&mut app.app.db.conn().await.unwrap(), &big).await.unwrap();
            parts += usize::from(found.is_some_and(|counts| counts.accepted < 2_500));
            assert!(found.is_none_or(|counts| counts.add_up()), "{found:?}");
            rounds += 1;
            if one.unwrap_or(1) + other.unwrap_or(1) == 0 {
                break;
            }
        }
        assert!(rounds > 2 && parts > 0, "{rounds} {parts}");
        assert_eq!(app.count(ROWS).await, 0);
    }

    /// While what is old goes, the worker sends what is new: each gets it once, and nothing of it goes.
    async fn x50_pruning_is_not_in_the_senders_way(app) {
        let users = [friend(app).await, friend(app).await, friend(app).await];
        let year = app.app.now();
        for _ in 0..20 {
            fill(&app.app, year, 60).await;
        }
        app.clock.advance(DAY * 400);
        let stop = CancellationToken::new();
        let working = tokio::spawn(worker::run(app.app.clone(), stop.clone()));
        let pruning = async {
            while app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM messages WHERE template = 't'").await > 0 {
                let _ = prune::run(&app.app, DAY * 90, DAY * 365).await;
            }
        };
        let sending = async {
            let mut sent = Vec::new();
            for number in 0..30 {
                sent.push(send(app, &users[number % 3], &format!("number {number}")).await);
                app.app.wake();
            }
            sent
        };
        let ((), sent) = tokio::join!(pruning, sending);
        until(async || app.count("SELECT CAST(COUNT(*) AS BIGINT) FROM deliveries WHERE state <> 'sent'").await == 0).await;
        stop.cancel();
        working.await.unwrap();
        assert_eq!(texts(app, "SELECT id FROM messages ORDER BY id").await, sent);
        for user in &users {
            let messages = app.phone(user).await["messages"].as_array().unwrap().clone();
            let each: BTreeSet<String> = messages.iter().map(Value::to_string).collect();
            assert_eq!((messages.len(), each.len()), (10, 10), "{messages:?}");
        }
    }

    /// A year of messages is not looked through each time.
    async fn x50_what_goes_is_found_by_index(app) {
        friend(app).await;
        let day = app.app.now().minus(DAY * 200);
        for number in 0..200 {
            fill(&app.app, day.plus(DAY * number), 100).await;
        }
        // Many that say nothing to anybody.
        app.execute(
            "INSERT INTO messages (id, channel, lane, cause, template, locale, accepted, expanded_at, created_at)
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
             SELECT 'ffff' || CAST(i AS TEXT), 'main', 'bulk', 'test', '', '', 0, i, i FROM n",
        ).await;
        app.execute("UPDATE messages SET ended_at = created_at WHERE created_at % 3 > 0").await;
        app.execute(
            "INSERT INTO answers (id, channel, line_user_id, cause, content, reply_until, state, attempts, created_at,
               updated_at)
             SELECT r.id, 'main', u.id, 'default', '[]', 1, 'replied', 1, r.closed_at, r.closed_at
             FROM requests r CROSS JOIN (SELECT MIN(id) AS id FROM line_users) u WHERE u.id IS NOT NULL",
        ).await;
        sqlx::raw_sql("ANALYZE").execute(&mut *app.app.db.conn().await.unwrap()).await.unwrap();
        let (before, id) = (day.plus(DAY * 2).0.to_string(), format!("'{}'", new_id(day.plus(DAY * 2))));
        for (statement, values, index) in [
            (prune::OVER, vec![id.as_str(), &before, "100"], "messages_with_contents"),
            (prune::ENDED.plain, vec![&before, "100"], "messages_ended"),
            (prune::REQUESTS, vec![&id, &before, "1000"], "requests"),
            (message::answer::EMPTY, vec![&before], "answers_with_contents"),
            (message::answer::DELETE, vec![&before], "answers_by_time"),
        ] {
            let plan = explain(app, statement, &values).await;
            assert!(plan.contains(index), "{statement}\n{plan}");
            let scans = |line: &str| line.trim().starts_with("SCAN ") || line.contains("Seq Scan");
            // What is found by index is then joined to itself, as PostgreSQL likes.
            let is_joined = |line: &str| line.trim_start().starts_with("->  Seq Scan on answers  ");
            assert!(!plan.lines().any(|line| scans(line) && !is_joined(line)), "{statement}\n{plan}");
        }
    }

    async fn x50_answers_go_with_the_rest_but_not_while_they_are_open(app) {
        let user = friend(app).await;
        for (id, state) in [("a", "replied"), ("b", "waiting"), ("c", "failed"), ("d", "replying")] {
            sqlx::query(
                "INSERT INTO answers (id, channel, line_user_id, cause, content, reply_until, state, attempts, created_at, updated_at)
                 VALUES ($1, 'main', $2, 'default', '[1]', 1, $3, 1, $4, $4)",
            )
            .bind(id).bind(&user).bind(state).bind(app.app.now())
            .execute(&mut *app.app.db.conn().await.unwrap()).await.unwrap();
        }
        app.clock.advance(DAY * 91);
        prune_all(app).await;
        assert_eq!(texts(app, "SELECT id || content FROM answers ORDER BY id").await, ["a[]", "b[1]", "c[]", "d[1]"]);
        app.clock.advance(DAY * 275);
        prune_all(app).await;
        assert_eq!(texts(app, "SELECT id FROM answers ORDER BY id").await, ["b", "d"]);
    }

    // ---- an erased person

    /// LINE may have it or not, and is asked again with the same body: the erasing waits for the end of that.
    async fn an_open_request_keeps_its_body_until_its_end(app) {
        let (mut hanako, user) = app.linked("hanako@example.jp").await;
        let id = texts(app, "SELECT id FROM members").await.remove(0);
        app.fault(json!({ "endpoint": PUSH, "count": 10_000, "status": 500 })).await;
        accept(app, &order(to(&id), "of the erased")).await;
        app.drain().await;
        let open = texts(app, "SELECT body FROM requests WHERE state = 'open'").await;
        assert!(open.len() == 1 && open[0].contains(&user), "{open:?}");
        // As a node would write it whose clock is ahead.
        app.execute("UPDATE deliveries SET created_at = created_at + 86400000 WHERE state = 'sending'").await;
        hanako.post("/account/delete", &[("word", "DELETE"), ("password", PASSWORD)]).await;
        for _ in 0..3 {
            later(app).await;
            assert_eq!(texts(app, "SELECT body FROM requests WHERE state = 'open'").await, open);
        }
        assert_ne!(app.audit().await.last().unwrap(), "erased/");
        app.clear_faults().await;
        for _ in 0..3 {
            later(app).await;
        }
        assert_eq!(app.audit().await.last().unwrap(), "erased/");
        assert_eq!(texts(app, BODIES).await, [""; 0]);
        let said = app.phone(&user).await["messages"].to_string();
        assert_eq!(said.matches("of the erased").count(), 1, "{said}");
    }

    /// Whose LINE account it was before may be sent something at that moment.
    async fn an_open_request_of_the_former_owner_is_waited_for(app) {
        let (mut taro, user) = app.linked("taro@example.jp").await;
        let id = texts(app, "SELECT id FROM members").await.remove(0);
        app.fault(json!({ "endpoint": PUSH, "count": 10_000, "status": 500 })).await;
        accept(app, &order(to(&id), "to taro")).await;
        app.drain().await;
        let open = texts(app, "SELECT body FROM requests WHERE state = 'open'").await;
        assert_eq!(open.len(), 1);
        taro.unlink().await;
        app.drain().await;
        app.member("hanako@example.jp", "Hanako").await;
        let mut hanako = app.signed_in("hanako@example.jp").await;
        assert_eq!(hanako.link(&user).await.location(), "/account?done=linked");
        hanako.post("/account/delete", &[("word", "DELETE"), ("password", PASSWORD)]).await;
        for _ in 0..3 {
            later(app).await;
            let bodies = texts(app, "SELECT body FROM requests WHERE state = 'open'").await;
            assert!(bodies.contains(&open[0]), "{bodies:?}");
        }
        app.clear_faults().await;
        for _ in 0..3 {
            later(app).await;
        }
        assert_eq!(app.audit().await.last().unwrap(), "erased/");
        let bodies = texts(app, BODIES).await;
        assert!(!bodies.is_empty() && !bodies.concat().contains(&user), "{bodies:?}");
    }

    /// What went to many at once is kept, and no longer says that an erased person was among them.
    async fn a_multicast_forgets_who_is_erased(app) {
        let mut users = Vec::new();
        for name in ["hanako", "taro", "yuki"] {
            users.push(app.linked(&format!("{name}@example.jp")).await.1);
        }
        accept(app, &order(Audience::All, "to all of you")).await;
        app.drain().await;
        let multicast = "SELECT body FROM requests WHERE endpoint = 'multicast'";
        let body: Value = serde_json::from_str(&texts(app, multicast).await[0]).unwrap();
        assert_eq!(body["to"].as_array().unwrap().len(), 3);
        app.signed_in("hanako@example.jp").await.post("/account/delete", &[("word", "DELETE"), ("password", PASSWORD)]).await;
        for _ in 0..3 {
            later(app).await;
        }
        assert_eq!(app.audit().await.last().unwrap(), "erased/");
        let kept: Value = serde_json::from_str(&texts(app, multicast).await[0]).unwrap();
        assert_eq!(kept["messages"], body["messages"]);
        let left: BTreeSet<&str> = kept["to"].as_array().unwrap().iter().map(|to| to.as_str().unwrap()).collect();
        assert_eq!(left, BTreeSet::from(["erased", &users[1], &users[2]]));
        assert!(!app.dump(&["jobs"]).await.concat().contains(&users[0]));
    }
}

/// The real binary, ended in the middle of each step: what is left adds up, and the next start goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x50_a_pruning_that_is_killed_goes_on() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let place = Place::new(engine).await;
        let config = place.alone();
        let app = place.app(&config).await;
        app.db.migrate().await.unwrap();
        let (old, young) = (app.now().minus(DAY * 500), app.now().minus(DAY * 100));
        let (old, young) = (fill(&app, old, 3_500).await, fill(&app, young, 2_500).await);
        for point in ["prune.emptied", "prune.emptied:2", "prune.deleted", "prune.deleted:2", "prune.deleted:3"] {
            let server = Process::start_with(&["serve", "--config", &config], &[("MUSUBI_KILL_AT", point)]);
            server.end_by_abort();
            let mut conn = app.db.conn().await.unwrap();
            for (id, most) in [(&old, 3_500), (&young, 2_500)] {
                let counts = message::counts(&mut conn, id).await.unwrap().unwrap();
                assert!(counts.add_up() && counts.accepted <= most, "{point} {counts:?}");
            }
            sqlx::query("DELETE FROM leases").execute(&mut *conn).await.unwrap();
        }
        let mut server = Process::start(&["serve", "--config", &config]);
        server.wait_for("serving");
        let left = "SELECT CAST(COUNT(*) AS BIGINT) FROM requests";
        until(async || {
            let left: i64 = sqlx::query_scalar(left).fetch_one(&mut *app.db.conn().await.unwrap()).await.unwrap();
            left == 2_500
        })
        .await;
        server.stop();
        let mut conn = app.db.conn().await.unwrap();
        assert!(message::counts(&mut conn, &old).await.unwrap().is_none());
        let kept = message::counts(&mut conn, &young).await.unwrap().unwrap();
        assert!(kept.accepted == 2_500 && kept.sent == 2_500, "{kept:?}");
        let said: i64 = sqlx::query_scalar("SELECT CAST(COUNT(*) AS BIGINT) FROM requests WHERE body <> ''")
            .fetch_one(&mut *conn)
            .await
            .unwrap();
        assert_eq!(said, 0);
        drop(conn);
        app.db.close().await;
        place.end().await;
    }
}
