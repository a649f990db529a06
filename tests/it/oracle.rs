//! The real binary sends while LINE fails at random and the process is killed again and again: each person sees each
//! message at most once, LINE's ledger agrees with every state, and the counts add up at every moment.
#![expect(clippy::panic, clippy::print_stderr, reason = "a failure says how to play it again")]

use std::{collections::BTreeMap, time::Duration};

use musubi::{
    app::App,
    message::{self, Audience, Counts, Order, What},
};
use serde_json::{Value, json};

use crate::{
    kill::{Dice, ENGINES, World, rounds},
    order::order,
    stub::insert_linked,
    support::process::{Process, until},
};

const PUSH: &str = "/v2/bot/message/push";
const ONE: Counts = Counts { accepted: 1, waiting: 0, sending: 0, sent: 0, failed: 0, unknown: 0, cancelled: 0 };

/// A friend of the official account whose account is linked; the LINE user's id is also the member's and the link's.
pub async fn friend(world: &World) -> String {
    let user = world.line.friend().await;
    let mut tx = world.app.db.begin().await.unwrap();
    insert_linked(&mut tx, world.app.now(), &user, &user, None).await.unwrap();
    tx.commit().await.unwrap();
    user
}

/// An order of one text.
pub fn text(to: Audience, text: &str) -> Order {
    order(to, What::Messages(vec![json!({ "type": "text", "text": text })]))
}

pub async fn accept(app: &App, order: &Order) -> String {
    message::accept(app, order).await.unwrap().message_id
}

pub async fn counts(app: &App, id: &str) -> Counts {
    let counts = message::counts(&mut app.db.conn().await.unwrap(), id).await.unwrap().unwrap();
    assert!(counts.add_up(), "{counts:?}");
    counts
}

/// As if all that waits for a time had waited, and nobody worked any more.
async fn let_time_pass(world: &World) {
    world
        .place
        .execute(
            "UPDATE requests SET next_attempt_at = 0 WHERE state = 'open';
             UPDATE deliveries SET due_at = 0 WHERE state = 'waiting';
             UPDATE send_pauses SET paused_until = 0; DELETE FROM leases",
        )
        .await;
}

// ---- X04

/// Where the process dies, how the delivery then stands, and how often the person saw it.
const CUTS: [(Option<&str>, Counts, usize); 6] = [
    (Some("send.claiming"), Counts { waiting: 1, ..ONE }, 0),
    (Some("send.claimed"), Counts { sending: 1, ..ONE }, 0),
    (Some("send.writing"), Counts { sending: 1, ..ONE }, 0),
    // While LINE, which took it, holds its answer back.
    (None, Counts { sending: 1, ..ONE }, 1),
    (Some("send.answered"), Counts { sending: 1, ..ONE }, 1),
    (Some("send.recorded"), Counts { sent: 1, ..ONE }, 1),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x04_wherever_the_sender_is_killed_the_person_sees_one() {
    for engine in ENGINES {
        let world = World::new(engine).await;
        let user = friend(&world).await;
        for round in 0..rounds(1, 50) {
            for (point, state, seen) in CUTS {
                let what = format!("{} {round}", point.unwrap_or("answer held back"));
                let id = accept(&world.app, &text(Audience::Member(user.clone()), &what)).await;
                kill_while_sending(&world, point).await;
                assert_eq!(counts(&world.app, &id).await, state, "{engine:?} {what}");
                assert_eq!(times(&world, &user, &what).await, seen, "{engine:?} {what}");

                let_time_pass(&world).await;
                let (server, _) = world.serve();
                until(async || counts(&world.app, &id).await == Counts { sent: 1, ..ONE }).await;
                server.stop();
                assert_eq!(times(&world, &user, &what).await, 1, "{engine:?} {what}");
            }
        }
        assert!(world.line.delivered(&user).await.iter().all(|count| *count == 1));
        world.end().await;
    }
}

async fn kill_while_sending(world: &World, point: Option<&str>) {
    let Some(point) = point else {
        let before = world.line.calls_to(PUSH).await.len();
        world.line.order("/_sim/faults", json!({ "endpoint": PUSH, "delay_ms": 60_000 })).await;
        let (server, _) = world.serve();
        until(async || world.line.calls_to(PUSH).await.len() > before).await;
        return server.kill();
    };
    world.start_until(point).end_by_abort();
}

async fn times(world: &World, user: &str, what: &str) -> usize {
    world.line.said(user).await.iter().filter(|said| *said == what).count()
}

// ---- the ledger

/// How large a run is. A round is a life of the server, from start to kill.
struct Run {
    rounds: usize,
    people: usize,
    /// Accepted in a round: messages to one, and messages to all.
    singles: usize,
    to_all: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x20_through_random_faults_and_kills_each_sees_each_at_most_once() {
    let run = Run { rounds: rounds(8, 60), people: rounds(30, 60), singles: rounds(35, 47), to_all: 2 };
    let dice = Dice::new();
    for engine in ENGINES {
        let world = World::new(engine).await;
        let mut people = Vec::new();
        for _ in 0..run.people {
            people.push(friend(&world).await);
        }
        script_faults(&world, &dice, run.rounds * (run.singles + run.to_all) * 3).await;
        let mut looks = 0;
        for round in 0..run.rounds {
            let_time_pass(&world).await;
            let (server, _) = world.serve();
            let patience = dice.wait(100, 500);
            let (looked, ()) =
                tokio::join!(look_for(&world, patience), order_more(&world, &dice, &people, round, &run));
            looks += looked;
            server.kill();
            assert_adds_up(&world).await;
        }
        assert!(looks > run.rounds, "{looks} looks at the counts");
        let calls = world.line.calls_to("/v2/bot/message/").await;
        let failed = calls.iter().filter(|call| call["status"] != 200 && call["status"] != 409).count();
        assert!(failed > calls.len() / 20, "{failed} of {} calls failed", calls.len());

        world.line.forget_faults().await;
        let_time_pass(&world).await;
        let (server, _) = world.serve();
        drain(&world).await;
        server.stop();
        compare(&world, &people).await;
        world.end().await;
    }
}

/// A round's messages, some of which are taken back at once.
async fn order_more(world: &World, dice: &Dice, people: &[String], round: usize, run: &Run) {
    for number in 0..run.to_all {
        accept(&world.app, &text(Audience::All, &format!("all {round}.{number}"))).await;
    }
    for number in 0..run.singles {
        let user = &people[usize::try_from(dice.below(people.len() as u64)).unwrap()];
        let id = accept(&world.app, &text(Audience::Member(user.clone()), &format!("one {round}.{number}"))).await;
        if dice.below(20) == 0 {
            assert!(message::cancel_message(&world.app, &id).await.unwrap());
        }
    }
}

/// Makes three calls of ten fail, in each way there is; those in between pass.
async fn script_faults(world: &World, dice: &Dice, calls: usize) {
    let endpoint = "POST /v2/bot/message/";
    let mut passing = 0_u32;
    for _ in 0..calls {
        let fault = match dice.below(100) {
            0..6 => json!({ "status": 500 + dice.below(5) }),
            6..11 => json!({ "status": 500 + dice.below(5), "replace_body": { "message": "after" } }),
            11..16 => json!({ "cut": "before" }),
            16..21 => json!({ "cut": "after" }),
            21..24 => json!({ "truncate": dice.below(20) }),
            24..27 => json!({ "delay_ms": 20 + dice.below(200) }),
            27..30 => json!({ "status": 400, "body": { "message": "not this one" } }),
            30 => json!({ "status": 429, "headers": { "retry-after": "1" } }),
            _ => {
                passing += 1;
                continue;
            }
        };
        if passing > 0 {
            world.line.order("/_sim/faults", json!({ "endpoint": endpoint, "count": passing })).await;
            passing = 0;
        }
        let mut fault: Value = fault;
        fault["endpoint"] = endpoint.into();
        world.line.order("/_sim/faults", fault).await;
    }
}

/// Looks at the counts for so long; gives how often.
async fn look_for(world: &World, patience: Duration) -> usize {
    let mut looks = 0;
    let looking = async {
        loop {
            assert_adds_up(world).await;
            looks += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let _: Result<(), _> = tokio::time::timeout(patience, looking).await;
    looks
}

/// G6 for every message at this moment, and no delivery is on its way without a request that is.
async fn assert_adds_up(world: &World) {
    let wrong = "SELECT CAST(COUNT(*) AS BIGINT) FROM messages m WHERE $1 = '' AND m.accepted <>
        (SELECT COUNT(*) FROM deliveries d WHERE d.message_id = m.id
           AND d.state IN ('waiting', 'sending', 'sent', 'failed', 'unknown', 'cancelled'))";
    assert_eq!(world.count(wrong, "").await, 0, "messages whose recipients do not add up");
    let stray = "SELECT CAST(COUNT(*) AS BIGINT) FROM deliveries d WHERE $1 = '' AND d.state = 'sending' AND NOT EXISTS
        (SELECT 1 FROM requests r WHERE r.id = d.request_id AND r.state = 'open')";
    assert_eq!(world.count(stray, "").await, 0, "deliveries on their way without an open request");
}

/// Waits until nothing is open, as long as there is progress.
async fn drain(world: &World) {
    let open = async || {
        let open = "SELECT CAST((SELECT COUNT(*) FROM deliveries WHERE state IN ('waiting', 'sending'))
            + (SELECT COUNT(*) FROM messages WHERE expanded_at IS NULL) AS BIGINT) WHERE $1 = ''";
        world.count(open, "").await
    };
    let mut left = open().await;
    while left > 0 {
        until(async || open().await != left).await;
        assert_adds_up(world).await;
        left = open().await;
    }
}

/// Holds every delivery's state against what its person saw.
async fn compare(world: &World, people: &[String]) {
    let mut seen: BTreeMap<(String, String), usize> = BTreeMap::new();
    for user in people {
        for said in world.line.said(user).await {
            *seen.entry((user.clone(), said)).or_default() += 1;
        }
    }
    let rows: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT u.user_id, COALESCE(d.content, m.content), d.state
         FROM deliveries d JOIN messages m ON m.id = d.message_id JOIN line_users u ON u.id = d.line_user_id",
    )
    .fetch_all(&mut *world.app.db.conn().await.unwrap())
    .await
    .unwrap();
    let mut states: BTreeMap<String, usize> = BTreeMap::new();
    for (user, content, state) in &rows {
        let content: Value = serde_json::from_str(content).unwrap();
        let said = content[0]["text"].as_str().unwrap().to_owned();
        let times = seen.remove(&(user.clone(), said.clone())).unwrap_or_default();
        match state.as_str() {
            "sent" => assert_eq!(times, 1, "{user} {said}: sent"),
            "failed" | "cancelled" => assert_eq!(times, 0, "{user} {said}: {state}"),
            "unknown" => assert!(times <= 1, "{user} {said}: unknown, seen {times} times"),
            other => panic!("{user} {said} is still {other}"),
        }
        *states.entry(state.clone()).or_default() += 1;
    }
    assert_eq!(seen, BTreeMap::new(), "seen by people, and not known here");
    eprintln!("{states:?}");
    let of = |state: &str| states.get(state).copied().unwrap_or_default();
    assert!(of("sent") > rows.len() * 3 / 4 && of("failed") + of("unknown") > 0 && of("cancelled") > 0, "{states:?}");
    assert!(world.line.calls_to("/v2/bot/message/multicast").await.len() > 4, "some went to many at one time");
}

impl World {
    /// A server that need not live long enough to tell that it serves.
    fn start_until(&self, point: &str) -> Process {
        assert!(musubi::kill::POINTS.contains(&point), "{point}");
        Process::start_with(&["serve", "--config", &self.config], &[("MUSUBI_KILL_AT", point)])
    }
}
