//! A database put back from a backup: what waited in it may have been sent since, and goes to nobody twice.

use std::time::Duration;

use musubi::{
    app::App,
    message::{
        self, Audience, Counts, Order,
        hold::{
            self, Size, Verdict,
            command::{self, Which},
        },
    },
};
use serde_json::json;

use crate::{
    kill::{ENGINES, World},
    oracle::{accept, counts, friend, text},
    order::{expand, hello, order, people},
    outbox::deliver,
    sending,
    support::{
        both_engines,
        process::{Place, Process, run, until},
    },
};

const ONE: Counts = Counts { accepted: 1, waiting: 0, sending: 0, sent: 0, failed: 0, unknown: 0, cancelled: 0 };
const WAITING: Counts = Counts { waiting: 1, ..ONE };
const SENDING: Counts = Counts { sending: 1, ..ONE };
const SENT: Counts = Counts { sent: 1, ..ONE };
const CANCELLED: Counts = Counts { cancelled: 1, ..ONE };

// ---- the restore, by the real binary

/// What was there at the time of the backup, by message id.
struct Before {
    users: [String; 3],
    /// LINE has it, and its answer was lost.
    in_doubt: String,
    waiting: String,
    /// Nobody was added yet.
    to_all: String,
    tomorrow: String,
}

/// An installation put back from a copy.
struct Restored {
    place: Place,
    config: String,
    app: App,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x15_a_restored_database_sends_nothing_twice() {
    for engine in ENGINES {
        let mut world = World::new(engine).await;
        let before = prepare(&world).await;
        world.app.db.close().await;
        let copies = [world.place.copy().await, world.place.copy().await];
        world.app = world.place.app(&world.config).await;
        send_on(&world, &before).await;
        for (place, by_order) in copies.into_iter().zip([true, false]) {
            let restored = put_back(&world, place, by_order).await;
            let mut server = restored.serve(by_order);
            server.wait_for("serving");
            let told = server.told.join("\n");
            assert!(told.contains("the outbox is held") && told.contains("messages=3 waiting=1 in_doubt=1"), "{told}");
            what_is_new_goes_on(&world, &restored, &before).await;
            an_operator_decides(&world, &restored, &before).await;
            server.stop();
            each_saw_each_once(&world, &before).await;
            restored.app.db.close().await;
            restored.place.end().await;
        }
        world.end().await;
    }
}

async fn prepare(world: &World) -> Before {
    let users = [friend(world).await, friend(world).await, friend(world).await];
    let app = &world.app;
    let to = |number: usize| Audience::Member(users[number].clone());
    let first = accept(app, &text(to(0), "first")).await;
    let (server, _) = world.serve();
    until(async || counts(app, &first).await == SENT).await;
    world.line.order("/_sim/faults", json!({ "endpoint": "POST /v2/bot/message/", "cut": "after", "count": 50 })).await;
    let in_doubt = accept(app, &text(to(0), "in doubt")).await;
    until(async || world.line.said(&users[0]).await.len() == 2).await;
    server.kill();
    world.line.forget_faults().await;
    world.place.execute("DELETE FROM leases").await;
    assert_eq!(counts(app, &in_doubt).await, SENDING);
    let waiting = accept(app, &text(to(1), "waiting")).await;
    let to_all = accept(app, &text(Audience::All, "to all")).await;
    let later = app.now().plus(Duration::from_secs(24 * 3600));
    let tomorrow = accept(app, &Order { send_at: Some(later), ..text(to(2), "tomorrow") }).await;
    Before { users, in_doubt, waiting, to_all, tomorrow }
}

/// What happened between the backup and the loss.
async fn send_on(world: &World, before: &Before) {
    world.place.execute("UPDATE requests SET next_attempt_at = 0 WHERE state = 'open'").await;
    let (server, _) = world.serve();
    let lost = accept(&world.app, &text(Audience::Member(before.users[2].clone()), "lost")).await;
    let all = Counts { accepted: 3, sent: 3, ..ONE };
    until(async || {
        let app = &world.app;
        counts(app, &lost).await == SENT
            && counts(app, &before.in_doubt).await == SENT
            && counts(app, &before.waiting).await == SENT
            && counts(app, &before.to_all).await == all
    })
    .await;
    server.stop();
}

async fn put_back(world: &World, place: Place, by_order: bool) -> Restored {
    let config = place.config("musubi.toml", &world.line.0.base, "listen = \"127.0.0.1:0\"");
    if !by_order {
        place.execute("UPDATE heartbeats SET at = at - 3700000").await;
    }
    let app = place.app(&config).await;
    Restored { place, config, app }
}

impl Restored {
    fn serve(&self, held: bool) -> Process {
        let mut arguments = vec!["serve", "--config", &self.config];
        arguments.extend(held.then_some("--hold-outbox"));
        Process::start(&arguments)
    }

    fn outbox(&self, arguments: &[&str]) -> (Option<i32>, String) {
        run(&[&["outbox"], arguments, &["--config", &self.config]].concat())
    }
}

/// Also to the person whose earlier message is in doubt.
async fn what_is_new_goes_on(world: &World, restored: &Restored, before: &Before) {
    let app = &restored.app;
    for user in &before.users {
        let new = text(Audience::Member(user.clone()), &format!("new {}", restored.place.database_url));
        let id = accept(app, &new).await;
        until(async || counts(app, &id).await == SENT).await;
    }
    for (id, expected) in [
        (&before.in_doubt, SENDING),
        (&before.waiting, WAITING),
        (&before.to_all, Counts::default()),
        (&before.tomorrow, WAITING),
    ] {
        assert_eq!(counts(app, id).await, expected);
    }
    each_saw_each_once(world, before).await;
}

async fn an_operator_decides(world: &World, restored: &Restored, before: &Before) {
    let (code, told) = restored.outbox(&["held"]);
    assert_eq!(code, Some(0), "{told}");
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines.len(), 4, "{told}");
    for (line, id, words) in [
        (lines[0], &before.in_doubt, "transactional  test  0 waiting, 1 in doubt"),
        (lines[1], &before.waiting, "transactional  test  1 waiting, 0 in doubt"),
        (lines[2], &before.to_all, "bulk  test  0 waiting, 0 in doubt, and those not added yet"),
    ] {
        assert!(line.starts_with(id.as_str()) && line.ends_with(words), "{line}");
    }
    assert_eq!(lines[3], "held: 3 messages; recipients: 1 waiting, 1 in doubt");
    let (_, told) = run(&["doctor", "--config", &restored.config]);
    assert!(told.contains("✗ outbox: held: 3 messages; recipients: 1 waiting, 1 in doubt; look with"), "{told}");
    let (code, told) = restored.outbox(&["release", &before.tomorrow]);
    assert!(code == Some(1) && told.contains("nothing is held of a message"), "{told}");

    // LINE still knows the key of what was in doubt: asked for again, it is sent, and seen once.
    let calls = world.line.calls_to("/v2/bot/message/push").await.len();
    assert_eq!(restored.outbox(&["release", &before.in_doubt]).0, Some(0));
    restored.place.execute("UPDATE requests SET next_attempt_at = 0 WHERE state = 'open' AND held_at IS NULL").await;
    until(async || counts(&restored.app, &before.in_doubt).await == SENT).await;
    let calls = world.line.calls_to("/v2/bot/message/push").await.split_off(calls);
    assert_eq!(calls.iter().map(|call| call["status"].as_u64().unwrap()).collect::<Vec<_>>(), [409]);
    let (code, told) = restored.outbox(&["cancel", "--all"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("given up: 2 messages; recipients: 1 cancelled, 0 unknown"), "{told}");
    assert_eq!(counts(&restored.app, &before.waiting).await, CANCELLED);
    assert_eq!(counts(&restored.app, &before.to_all).await, Counts::default());
    let open = "SELECT CAST(COUNT(*) AS BIGINT) FROM messages WHERE expanded_at IS NULL";
    let open: i64 = sqlx::query_scalar(open).fetch_one(&mut *restored.app.db.conn().await.unwrap()).await.unwrap();
    assert_eq!(open, 0, "nobody is added any more");
    assert_eq!(restored.outbox(&["held"]), (Some(0), "nothing is held back".to_owned()));
    let (_, told) = run(&["doctor", "--config", &restored.config]);
    assert!(told.contains("✓ outbox: nothing is held back"), "{told}");
}

async fn each_saw_each_once(world: &World, before: &Before) {
    for user in &before.users {
        let mut said = world.line.said(user).await;
        let all = said.len();
        said.sort();
        said.dedup();
        assert_eq!(said.len(), all, "{user} saw something twice: {said:?}");
        assert!(!said.iter().any(|text| text == "tomorrow"), "{said:?}");
    }
    assert!(world.line.said(&before.users[1]).await.iter().any(|text| text == "waiting"));
}

/// A night without a server, with something waiting for tomorrow: nobody is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x15_an_ordinary_downtime_needs_no_operator() {
    for engine in ENGINES {
        let world = World::new(engine).await;
        let user = friend(&world).await;
        let (app, to) = (&world.app, Audience::Member(user));
        let later = app.now().plus(Duration::from_secs(24 * 3600));
        let tomorrow = accept(app, &Order { send_at: Some(later), ..text(to.clone(), "tomorrow") }).await;
        let (server, _) = world.serve();
        let first = accept(app, &text(to.clone(), "first")).await;
        until(async || counts(app, &first).await == SENT).await;
        server.stop();
        let beat = "SELECT at FROM heartbeats WHERE name = 'serve' AND $1 = ''";
        let lived = world.count(beat, "").await;
        world.place.execute("UPDATE heartbeats SET at = at - 36000000").await;

        let (server, _) = world.serve();
        assert!(world.count(beat, "").await >= lived, "it beats again");
        let second = accept(app, &text(to.clone(), "second")).await;
        until(async || counts(app, &second).await == SENT).await;
        assert_eq!(counts(app, &tomorrow).await, WAITING);
        assert_eq!(hold::size(&mut app.db.conn().await.unwrap()).await.unwrap(), Size::default());
        assert!(!server.stop().contains("the outbox is held"));

        // What waits when a server comes soon after is not held either.
        let third = accept(app, &text(to, "third")).await;
        let (server, _) = world.serve();
        until(async || counts(app, &third).await == SENT).await;
        server.stop();
        world.end().await;
    }
}

// ---- what is held, in process

/// But what tells that somebody looked.
async fn dump(app: &crate::support::TestApp) -> Vec<String> {
    app.dump(&["heartbeats", "audit", "leases", "jobs"]).await
}

async fn size(app: &crate::support::TestApp) -> Size {
    hold::size(&mut app.app.db.conn().await.unwrap()).await.unwrap()
}

fn all() -> Which {
    Which { ids: Vec::new(), all: true }
}

both_engines! {
    /// Of a large backlog too, and where a start is killed and another follows.
    async fn x15_holding_twice_is_holding_once_and_release_undoes_it(app) {
        people(app, 6_001).await;
        let id = accept(&app.app, &order(Audience::All, hello())).await;
        expand(app).await;
        app.clock.advance(Duration::from_secs(1));
        let before = dump(app).await;
        hold::at_start(&app.app, true).await.unwrap();
        let held = dump(app).await;
        assert_eq!(size(app).await, Size { messages: 1, waiting: 6_001, in_doubt: 0 });
        app.clock.advance(Duration::from_secs(7200));
        hold::at_start(&app.app, false).await.unwrap();
        assert_eq!(dump(app).await, held);
        deliver(&app.app).await;
        for way in ["push", "multicast"] {
            assert_eq!(app.calls_to(&format!("/v2/bot/message/{way}")).await.len(), 0, "{way}");
        }
        assert_eq!(counts(&app.app, &id).await, Counts { accepted: 6_001, waiting: 6_001, ..Counts::default() });

        let told = command::decide(&app.app, &all(), Verdict::Release).await.unwrap();
        assert!(told[0].starts_with("released: 1 messages"), "{told:?}");
        assert_eq!(dump(app).await, before);
        assert_eq!(app.audit().await, ["held_released/"]);
    }

    /// Recipients that were added after the backup may have got it: no more are added until somebody decides.
    async fn x15_a_message_that_lacks_recipients_is_held(app) {
        people(app, 3).await;
        let id = accept(&app.app, &order(Audience::All, hello())).await;
        hold::at_start(&app.app, true).await.unwrap();
        expand(app).await;
        assert_eq!(counts(&app.app, &id).await, Counts::default());
        assert!(hold::decide(&app.app, &id, Verdict::Release).await.unwrap());
        expand(app).await;
        assert_eq!(counts(&app.app, &id).await, Counts { accepted: 3, waiting: 3, ..Counts::default() });
        assert!(!hold::decide(&app.app, &id, Verdict::Release).await.unwrap(), "nothing is held any more");
    }

    /// LINE has forgotten the key: what is released is unknown, and not sent.
    async fn x15_a_released_request_past_its_day_is_unknown(app) {
        let user = sending::friend(app).await;
        app.fault(json!({ "endpoint": sending::PUSH, "cut": "after", "count": 99 })).await;
        let id = sending::send(app, &user, "Hanako").await;
        app.drain().await;
        app.clear_faults().await;
        hold::at_start(&app.app, true).await.unwrap();
        let tries = sending::pushes(app).await.len();
        app.clock.advance(Duration::from_secs(25 * 3600));
        app.drain().await;
        assert_eq!(counts(&app.app, &id).await, SENDING, "nobody decided yet");
        assert!(hold::decide(&app.app, &id, Verdict::Release).await.unwrap());
        app.drain().await;
        assert_eq!(counts(&app.app, &id).await, Counts { unknown: 1, ..ONE });
        assert_eq!(sending::pushes(app).await.len(), tries);
        assert_eq!(sending::delivered(app).await.0[&user], 1);
    }

    /// Whatever else ends a delivery ends a held one.
    async fn x15_what_is_held_can_still_be_taken_back(app) {
        let users = [sending::friend(app).await, sending::friend(app).await, sending::friend(app).await];
        let mut ids = Vec::new();
        for user in &users {
            ids.push(sending::send(app, user, "Hanako").await);
        }
        hold::at_start(&app.app, true).await.unwrap();
        let mut tx = app.app.db.begin().await.unwrap();
        assert_eq!(message::cancel_waiting(&mut tx, app.app.now(), &users[0]).await.unwrap(), 1);
        tx.commit().await.unwrap();
        assert!(message::cancel_message(&app.app, &ids[1]).await.unwrap());
        assert_eq!(size(app).await, Size { messages: 1, waiting: 1, in_doubt: 0 });
        assert!(!hold::decide(&app.app, &ids[0], Verdict::Release).await.unwrap());
        command::decide(&app.app, &all(), Verdict::Release).await.unwrap();
        sending::settle(app, &ids).await;
        for (id, expected) in ids.iter().zip([CANCELLED, CANCELLED, SENT]) {
            assert_eq!(counts(&app.app, id).await, expected);
        }
        assert_eq!(sending::pushes(app).await.len(), 1);
    }

    /// The hour counts, not the start.
    async fn x15_a_database_is_old_after_an_hour(app) {
        people(app, 1).await;
        hold::at_start(&app.app, false).await.unwrap();
        accept(&app.app, &order(Audience::Member("m0000001".into()), hello())).await;
        app.clock.advance(Duration::from_secs(3599));
        hold::at_start(&app.app, false).await.unwrap();
        assert_eq!(size(app).await, Size::default());
        app.clock.advance(Duration::from_secs(3601));
        hold::at_start(&app.app, false).await.unwrap();
        assert_eq!(size(app).await, Size { messages: 1, waiting: 1, in_doubt: 0 });
    }
}
