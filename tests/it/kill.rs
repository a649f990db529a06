//! The real binary ended in the middle of things: at each place that matters, by SIGTERM, and again and again. After
//! the next start nothing is half done, nothing is done twice, and LINE's ledger agrees.
#![expect(
    clippy::panic,
    clippy::print_stderr,
    clippy::assertions_on_constants,
    reason = "a failure says how to play it again"
)]

use std::{sync::Mutex, time::Duration};

use musubi::{
    app::App,
    link::{grant, ticket},
};
use serde_json::{Value, json};

use crate::{
    support::{
        BOT_SECRET, Engine, PASSWORD,
        process::{Browser, Line, PUBLIC, Page, Place, Process, add_member, run, start_server, start_simulator, until},
    },
    webhook::{envelope, sign},
};

pub const ENGINES: [Engine; 2] = [Engine::Sqlite, Engine::Postgres];
const UNLINK: [(&str, &str); 2] = [("provider", "main"), ("password", PASSWORD)];
const DEAUTHORIZE: &str = "/user/v1/deauthorize";

/// `full` times with `tests/run --full`.
pub fn rounds(usual: usize, full: usize) -> usize {
    if std::env::var_os("MUSUBI_TEST_FULL").is_some() { full } else { usual }
}

/// Numbers that look random, and come again with the seed that is printed where a test fails.
pub struct Dice(Mutex<u64>);

impl Dice {
    pub fn new() -> Self {
        let seed = std::env::var_os("MUSUBI_TEST_SEED").and_then(|seed| seed.to_str()?.parse().ok());
        let seed = seed.unwrap_or_else(|| musubi::app::Clock::default().now().0.unsigned_abs());
        eprintln!("again with MUSUBI_TEST_SEED={seed}");
        Self(Mutex::new(seed | 1))
    }

    /// From `low` up to `high` milliseconds.
    pub fn wait(&self, low: u64, high: u64) -> Duration {
        Duration::from_millis(low + self.below(high - low))
    }

    /// From 0 up to `most`, which is not among them.
    pub fn below(&self, most: u64) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 11) % most
    }
}

/// An installation: its place, LINE, and the server that is ended and started again.
pub struct World {
    pub place: Place,
    pub config: String,
    pub line: Line,
    simulator: Process,
    /// Our own eyes on the database.
    pub app: App,
}

/// A member's browser, and the person at LINE.
struct Person {
    email: String,
    member_id: String,
    browser: Browser,
    user: String,
}

impl World {
    pub async fn new(engine: Engine) -> Self {
        let place = Place::new(engine).await;
        let (simulator, line) = start_simulator(&place);
        let config = place.config("musubi.toml", &line.0.base, "listen = \"127.0.0.1:0\"");
        let app = place.app(&config).await;
        app.db.migrate().await.unwrap();
        Self { place, config, line, simulator, app }
    }

    pub fn serve(&self) -> (Process, String) {
        start_server(&self.config, &[])
    }

    /// A server that ends itself at a place of `src/kill.rs`.
    pub fn serve_until(&self, point: &str) -> (Process, String) {
        assert!(cfg!(feature = "kill-points"), "this needs `cargo test --features kill-points`, as tests/run does it");
        assert!(musubi::kill::POINTS.contains(&point), "{point}");
        start_server(&self.config, &[("MUSUBI_KILL_AT", point)])
    }

    async fn person(&self, base: &str, email: &str) -> Person {
        let member_id = add_member(&self.app, email).await;
        let mut browser = Browser::new(base, PUBLIC);
        browser.sign_in(email).await;
        Person { email: email.to_owned(), member_id, browser, user: self.line.person().await }
    }

    pub async fn count(&self, statement: &'static str, bound: &str) -> i64 {
        let mut conn = self.app.db.conn().await.unwrap();
        sqlx::query_scalar(statement).bind(bound).fetch_one(&mut *conn).await.unwrap()
    }

    async fn is_linked(&self, person: &Person) -> bool {
        let statement = "SELECT CAST(COUNT(*) AS BIGINT) FROM links WHERE member_id = $1 AND ended_at IS NULL";
        self.count(statement, &person.member_id).await == 1
    }

    /// As if the leases of the dead had run out and all that waits had become due, also the attempts nobody answered.
    async fn let_time_pass(&self) {
        self.place
            .execute(
                "UPDATE requests SET next_attempt_at = 0; DELETE FROM leases;
                 UPDATE jobs SET leased_until = NULL, due_at = 0 WHERE ended_at IS NULL",
            )
            .await;
    }

    async fn until_rest(&self) {
        until(async || {
            let open = "SELECT CAST((SELECT COUNT(*) FROM jobs WHERE ended_at IS NULL AND parked_at IS NULL)
                          + (SELECT COUNT(*) FROM requests WHERE state = 'open')
                          + (SELECT COUNT(*) FROM deliveries WHERE state IN ('waiting', 'sending')) AS BIGINT)
                        WHERE $1 = ''";
            self.count(open, "").await == 0
        })
        .await;
    }

    /// What must hold at rest, however things were cut: by SQL over all there ever was, and by LINE's ledger.
    async fn assert_sound(&self, people: &[&Person]) {
        for (statement, what) in SOUND {
            assert_eq!(self.count(statement, "").await, 0, "{what}");
        }
        for person in people {
            let sent = "SELECT CAST(COUNT(*) AS BIGINT) FROM deliveries d JOIN line_users u ON u.id = d.line_user_id
                        WHERE u.user_id = $1 AND d.state = 'sent'";
            let sent = usize::try_from(self.count(sent, &person.user).await).unwrap();
            assert_eq!(self.line.delivered(&person.user).await, vec![1; sent], "{}", person.email);
            if self.is_linked(person).await {
                assert!(self.permission_lives(person).await, "{}: the link's tokens are dead at LINE", person.email);
            }
        }
    }

    /// Whether LINE honours the tokens of a member's active link.
    async fn permission_lives(&self, person: &Person) -> bool {
        let mut conn = self.app.db.conn().await.unwrap();
        let link_id: String = sqlx::query_scalar("SELECT id FROM links WHERE member_id = $1 AND ended_at IS NULL")
            .bind(&person.member_id)
            .fetch_one(&mut *conn)
            .await
            .unwrap();
        let grants = grant::list_of_link(&mut conn, &link_id).await.unwrap();
        let grant = grant::find(&mut conn, &self.app, &grants[0]).await.unwrap().unwrap();
        grants.len() == 1 && self.app.line.profile(&grant.tokens.access_token).await.is_ok()
    }

    /// Tokens that LINE gave out and that nobody gave back.
    async fn tokens_out(&self) -> usize {
        let good = |calls: Vec<Value>| calls.iter().filter(|call| call["status"] == 200).count();
        good(self.line.calls_to("/oauth2/v2.1/token").await) - good(self.line.calls_to("/oauth2/v2.1/revoke").await)
    }

    /// Where a sign-in with LINE ends in a fresh browser.
    async fn sign_in_by_line(&self, base: &str, person: &Person) -> Page {
        let mut browser = Browser::new(base, PUBLIC);
        let callback = browser.come_back(&self.line, "sign_in", &person.user).await;
        browser.get(&callback).await
    }

    pub async fn end(self) {
        self.simulator.stop();
        self.app.db.close().await;
        self.place.end().await;
    }
}

/// Statements that count what must not be.
const SOUND: [(&str, &str); 7] = [
    (
        "SELECT CAST(COUNT(*) AS BIGINT) FROM links l WHERE $1 = '' AND
           1 <> (SELECT COUNT(*) FROM audit a WHERE a.subject = l.id AND a.action = 'linked')",
        "a link without its one audit row",
    ),
    (
        "SELECT CAST(COUNT(*) AS BIGINT) FROM links l WHERE $1 = '' AND
           1 <> (SELECT COUNT(*) FROM deliveries d JOIN messages m ON m.id = d.message_id
                 WHERE d.link_id = l.id AND m.cause = 'linked')",
        "a link without its one welcome",
    ),
    (
        "SELECT CAST(COUNT(*) AS BIGINT) FROM audit WHERE $1 = '' AND action IN ('linked', 'unlinked')
           AND subject NOT IN (SELECT id FROM links)",
        "an audit row without its link",
    ),
    (
        "SELECT CAST(COUNT(*) AS BIGINT) FROM links l WHERE $1 = '' AND l.ended_at IS NOT NULL AND
           1 <> (SELECT COUNT(*) FROM audit a WHERE a.subject = l.id AND a.action = 'unlinked')",
        "an unlink without its one audit row",
    ),
    (
        "SELECT CAST(COUNT(*) AS BIGINT) FROM links l WHERE $1 = '' AND l.ended_at IS NOT NULL AND
           3 <> (SELECT COUNT(*) FROM unlink_steps s WHERE s.link_id = l.id AND s.state <> 'pending')",
        "an unlink that is not carried out",
    ),
    (
        "SELECT CAST(COUNT(*) AS BIGINT) FROM grants WHERE $1 = '' AND sealed IS NOT NULL
           AND (link_id IS NULL OR link_id NOT IN (SELECT id FROM links WHERE ended_at IS NULL))",
        "tokens of nobody's link",
    ),
    (
        "SELECT CAST(COUNT(*) AS BIGINT) FROM sessions WHERE $1 = '' AND link_id IN
           (SELECT id FROM links WHERE ended_at IS NOT NULL)",
        "a session that LINE made and the unlink left",
    ),
];

// ---- X07

/// Where a link stood when the process died, and what is then there.
struct Cut {
    point: &'static str,
    /// Whether the link is there after the next start.
    linked: bool,
    /// Tokens that nobody knew of yet, and so nobody can give back.
    lost_tokens: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x07_a_link_that_is_killed_is_there_or_not() {
    for engine in ENGINES {
        let world = World::new(engine).await;
        for round in 0..rounds(1, 30) {
            for (point, linked, lost_tokens) in [
                ("callback.exchanged", false, 1),
                ("callback.saved", false, 0),
                ("link.recorded", false, 0),
                ("link.committed", true, 0),
            ] {
                kill_in_link(&world, round, &Cut { point, linked, lost_tokens }).await;
            }
        }
        world.end().await;
    }
}

async fn kill_in_link(world: &World, round: usize, cut: &Cut) {
    let point = cut.point;
    let out = world.tokens_out().await;
    let (server, base) = world.serve_until(point);
    let mut person = world.person(&base, &format!("{point}.{round}@example.jp")).await;
    let token = person.browser.token().await;
    let callback = person.browser.come_back(&world.line, "link", &person.user).await;
    let page = person.browser.try_get(&callback).await;
    let attempt = page.and_then(|page| Some(page.location.strip_prefix("/link/confirm?attempt=")?.to_owned()));
    let yes = [("attempt", attempt.as_deref().unwrap_or_default()), ("decision", "yes"), ("consent", "1:en")];
    if attempt.is_some() {
        let page = person.browser.try_post("/link/confirm", &token, &yes).await;
        assert!(page.is_none(), "{point}: it was to die");
    }
    server.end_by_abort();

    // The browser's own retry, after the next start: a clear page, or the link.
    world.let_time_pass().await;
    let (server, base) = world.serve();
    person.browser.base = base;
    match &attempt {
        None => {
            let page = person.browser.get(&callback).await;
            // What was saved may still wait for its yes.
            let goes_on = point == "callback.saved" && page.location.starts_with("/link/confirm?attempt=");
            let is_done = page.status.is_client_error() && page.body.contains("This step is already done");
            assert!(goes_on || is_done, "{point}: {} {}", page.status, page.body);
        }
        Some(_) if cut.linked => {
            // The session got a new id with the link, and its cookie went down with the process: on to the account page,
            // after a sign-in.
            let page = person.browser.try_post("/link/confirm", &token, &yes).await.unwrap();
            assert_eq!(page.location, "/account?done=linked", "{} {}", page.status, page.body);
            let page = person.browser.get(&page.location).await;
            assert!(page.location.starts_with("/sign-in?"), "{} {}", page.status, page.body);
        }
        Some(_) => {}
    }
    world.until_rest().await;
    assert_eq!(world.is_linked(&person).await, cut.linked, "{point}");
    world.assert_sound(&[&person]).await;
    let kept = usize::from(cut.linked);
    assert_eq!(world.line.delivered(&person.user).await.len(), kept, "{point}: one welcome with a link, else none");
    assert_eq!(world.tokens_out().await - out, kept + cut.lost_tokens, "{point}");
    // The person tries again and has the link.
    if !cut.linked {
        let attempt = person.browser.reach_confirm(&world.line, &person.user).await;
        person.browser.confirm(&attempt).await;
        until(async || world.line.delivered(&person.user).await == [1]).await;
    }
    server.stop();
}

/// The same by a ticket: it is used up with the link or not at all, and the lost answer is given again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x07_a_link_by_a_ticket_that_is_killed_is_there_or_not() {
    for engine in ENGINES {
        let world = World::new(engine).await;
        for (point, linked) in [("link.recorded", false), ("link.committed", true)] {
            let member_id = add_member(&world.app, &format!("{point}@example.jp")).await;
            let mut tx = world.app.db.begin().await.unwrap();
            let new = ticket::New { member_id: &member_id, provider: "main", return_url: None, made_by: "key:test" };
            let made = ticket::create(&mut tx, &world.app, &new).await.unwrap().ok().unwrap();
            tx.commit().await.unwrap();
            let path = made.url.strip_prefix(PUBLIC).unwrap();

            let (server, base) = world.serve_until(point);
            let (mut browser, user) = (Browser::new(&base, PUBLIC), world.line.person().await);
            let token = browser.token().await;
            let attempt = by_ticket(&world, &mut browser, path, &user).await;
            let yes = [("attempt", attempt.as_str()), ("decision", "yes"), ("consent", "1:en")];
            assert!(browser.try_post("/link/confirm", &token, &yes).await.is_none(), "{point}: it was to die");
            server.end_by_abort();

            let (server, base) = world.serve();
            browser.base = base;
            let links = "SELECT CAST(COUNT(*) AS BIGINT) FROM links WHERE member_id = $1 AND ended_at IS NULL";
            assert_eq!(world.count(links, &member_id).await, i64::from(linked), "{point}");
            let used = "SELECT CAST(COUNT(*) AS BIGINT) FROM tickets WHERE member_id = $1 AND used_at IS NOT NULL";
            assert_eq!(world.count(used, &member_id).await, i64::from(linked), "{point}");
            let page = browser.try_post("/link/confirm", &token, &yes).await.unwrap();
            assert_eq!(page.location, format!("/link/confirm?attempt={attempt}"), "{point} {}", page.body);
            until(async || world.line.delivered(&user).await == [1]).await;
            assert_eq!(world.count(links, &member_id).await, 1, "{point}");
            server.stop();
        }
        world.end().await;
    }
}

/// Goes through LINE with a ticket; gives the attempt that waits for the yes.
async fn by_ticket(world: &World, browser: &mut Browser, path: &str, user: &str) -> String {
    let fields = [("purpose", "ticket"), ("provider", "main"), ("return_to", path)];
    let authorize = browser.post("/line/start", &fields).await.location;
    let callback = world.line.consent(&authorize, user).await;
    let page = browser.get(&callback).await;
    page.location.strip_prefix("/link/confirm?attempt=").unwrap().to_owned()
}

/// The same in LINE: the page that LINE opens is loaded again and shows the same tokens, and leads to the link all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x07_a_link_from_a_liff_app_that_is_killed_is_there_or_not() {
    for engine in ENGINES {
        let world = World::new(engine).await;
        for round in 0..rounds(1, 10) {
            for point in [
                "liff.proven",
                "liff.recorded",
                "liff.committed",
                "claim.recorded",
                "claim.committed",
                "link.recorded",
                "link.committed",
            ] {
                kill_in_liff(&world, round, point).await;
            }
        }
        world.end().await;
    }
}

async fn kill_in_liff(world: &World, round: usize, point: &str) {
    let (server, base) = world.serve_until(point);
    let mut person = world.person(&base, &format!("{point}.{round}@liff.example.jp")).await;
    world.line.order(&format!("/_sim/users/{}/follow", person.user), json!({ "standby": true })).await;
    let tokens = world.line.order(&format!("/_sim/users/{}/liff", person.user), json!({})).await;
    let token = person.browser.token().await;
    let page = link_by_liff(&mut person.browser, &token, &tokens).await;
    assert!(page.is_none(), "{point}: it was to die");
    server.end_by_abort();

    let is_committed = point == "link.committed";
    assert_eq!(world.is_linked(&person).await, is_committed, "{point}");
    let (server, base) = world.serve();
    person.browser.base = base;
    if is_committed {
        // The session got a new id with the link, and its cookie went down with the process.
        let page = person.browser.try_show(&tokens).await.unwrap();
        assert_eq!(page.body, r#"{"next":"/account"}"#);
        assert!(person.browser.get("/account").await.body.contains("Linked since"));
    } else {
        let page = link_by_liff(&mut person.browser, &token, &tokens).await.unwrap();
        assert!(page.location.ends_with("done=linked"), "{point}: {} {}", page.status, page.body);
    }
    until(async || world.line.delivered(&person.user).await == [1]).await;
    world.let_time_pass().await;
    world.until_rest().await;
    assert!(world.is_linked(&person).await);
    world.assert_sound(&[&person]).await;
    server.stop();
}

/// Shows the tokens, presses the button and says yes; none where the other side died.
async fn link_by_liff(browser: &mut Browser, token: &str, tokens: &Value) -> Option<Page> {
    let page = browser.try_show(tokens).await?;
    assert_eq!(page.body, r#"{"next":"/line/not-linked?provider=main"}"#);
    let start = [("purpose", "link"), ("provider", "main"), ("return_to", "/account")];
    let page = browser.try_post("/line/start", token, &start).await?;
    let attempt = page.location.strip_prefix("/link/confirm?attempt=").unwrap_or_else(|| panic!("{}", page.location));
    let yes = [("attempt", attempt), ("decision", "yes"), ("consent", "1:en")];
    browser.try_post("/link/confirm", token, &yes).await
}

// ---- X08

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x08_an_unlink_that_is_killed_is_carried_out() {
    for engine in ENGINES {
        let world = World::new(engine).await;
        for round in 0..rounds(1, 30) {
            for point in [
                "unlink.recorded",
                "unlink.committed",
                "deauthorize.accepted",
                "deauthorize.recorded",
                "revoke.accepted",
                "revoke.erased",
            ] {
                kill_in_unlink(&world, round, Some(point)).await;
            }
            kill_in_unlink(&world, round, None).await;
        }
        world.end().await;
    }
}

/// Without a place: while LINE holds back its answer to the deauthorize.
async fn kill_in_unlink(world: &World, round: usize, point: Option<&str>) {
    let name = point.unwrap_or("deauthorize.sent");
    let (server, base) = point.map_or_else(|| world.serve(), |point| world.serve_until(point));
    let mut person = world.person(&base, &format!("{name}.{round}@example.jp")).await;
    let attempt = person.browser.reach_confirm(&world.line, &person.user).await;
    person.browser.confirm(&attempt).await;
    until(async || world.line.delivered(&person.user).await == [1]).await;
    let asked = world.line.calls_to(DEAUTHORIZE).await.len();
    if point.is_none() {
        world.line.order("/_sim/faults", json!({ "endpoint": DEAUTHORIZE, "delay_ms": 60_000 })).await;
    }
    let token = person.browser.token().await;
    let page = person.browser.try_post("/account/unlink", &token, &UNLINK).await;
    assert_ne!(page.is_some(), name.starts_with("unlink."), "{name}");
    match point {
        Some(_) => server.end_by_abort(),
        None => {
            until(async || world.line.calls_to(DEAUTHORIZE).await.len() > asked).await;
            server.kill();
        }
    }

    let is_committed = point != Some("unlink.recorded");
    assert_eq!(world.is_linked(&person).await, !is_committed, "{name}");
    world.let_time_pass().await;
    let (server, base) = world.serve();
    // Again, as a person would; nothing more happens where it took place.
    person.browser.base.clone_from(&base);
    let page = person.browser.try_post("/account/unlink", &token, &UNLINK).await.unwrap();
    let expected = match point {
        Some("unlink.recorded") => "/account?done=unlinked",
        // The session got a new id with the unlink, and its cookie went down with the process.
        Some("unlink.committed") => "/sign-in?return_to=%2Faccount",
        _ => "/account",
    };
    assert_eq!(page.location, expected, "{name} {}", page.body);
    let page = world.sign_in_by_line(&base, &person).await;
    assert!(page.location != "/account" && !page.headers.contains("musubi_session"), "{name}: {}", page.location);
    world.until_rest().await;
    assert!(!world.is_linked(&person).await);
    world.assert_sound(&[&person]).await;
    let asked = &world.line.calls_to(DEAUTHORIZE).await[asked..];
    assert!(asked.iter().any(|call| call["status"] == 204 || call["status"] == 200), "{name}: {asked:#?}");
    let page = world.sign_in_by_line(&base, &person).await;
    assert!(page.location.starts_with("/line/not-linked"), "{name}: {} {}", page.location, page.body);
    server.stop();
}

// ---- J16

/// Each loop of the worker panics once, and then works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j16_loops_that_panic_begin_anew() {
    assert!(cfg!(feature = "kill-points"), "this needs `cargo test --features kill-points`, as tests/run does it");
    for engine in ENGINES {
        let world = World::new(engine).await;
        let (mut server, base) = start_server(&world.config, &[("MUSUBI_PANIC_AT", "loop.")]);
        let loops: Vec<&str> = musubi::kill::POINTS.into_iter().filter(|point| point.starts_with("loop.")).collect();
        let has_panicked =
            |told: &[String], point: &str| told.iter().any(|line| line == &format!("ordered at {point}"));
        let begun_anew = |told: &[String]| told.iter().filter(|line| line.contains("begins anew")).count();
        while begun_anew(&server.told) < loops.len() || !loops.iter().all(|point| has_panicked(&server.told, point)) {
            server.wait_for("");
        }

        // Jobs, the sending, the adding of recipients, and the inbox.
        let mut person = world.person(&base, "hanako@example.jp").await;
        let attempt = person.browser.reach_confirm(&world.line, &person.user).await;
        person.browser.confirm(&attempt).await;
        until(async || world.line.delivered(&person.user).await == [1]).await;
        let words = world.place.path("words.json");
        std::fs::write(&words, r#"{ "type": "text", "text": "to all" }"#).unwrap();
        let send = ["send", "--config", &world.config, "--all", "--messages", words.to_str().unwrap()];
        let (code, told) = run(&send);
        assert_eq!(code, Some(0), "{told}");
        until(async || world.line.delivered(&person.user).await == [1, 1]).await;
        let body = envelope(&[json!({
            "type": "follow", "mode": "active", "timestamp": musubi::app::Clock::default().now().0,
            "source": { "type": "user", "userId": person.user }, "webhookEventId": "01FZ74A0TDDPYRVKNK77XKC3ZR",
            "deliveryContext": { "isRedelivery": false }, "follow": { "isUnblocked": false },
        })]);
        let signature = sign(BOT_SECRET, body.as_bytes());
        let request = person.browser.client.post(format!("{base}/webhook/main")).header("x-line-signature", signature);
        assert_eq!(request.body(body).send().await.unwrap().status(), 200);
        until(async || world.count("SELECT CAST(COUNT(*) AS BIGINT) FROM events WHERE state = $1", "done").await == 1)
            .await;
        server.stop();
        world.end().await;
    }
}

// ---- X37

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x37_sigterm_at_any_moment_loses_nothing() {
    let dice = Dice::new();
    for engine in ENGINES {
        let world = World::new(engine).await;
        for round in 0..rounds(3, 100) {
            let (server, base) = world.serve();
            let mut person = world.person(&base, &format!("{round}@example.jp")).await;
            let token = person.browser.token().await;
            let wait = dice.wait(0, 150);
            let mut browser = person.browser.clone();
            let (line, user) = (world.line.clone(), person.user.clone());
            // Whatever the browser gets is right, as long as it is not half of it.
            let busy = tokio::spawn(async move { link_and_unlink(&mut browser, &line, &user, &token).await });
            tokio::time::sleep(wait).await;
            let began = std::time::Instant::now();
            server.stop();
            assert!(began.elapsed() < Duration::from_secs(12), "after {wait:?}");
            let _ = busy.await;

            world.let_time_pass().await;
            let (server, base) = world.serve();
            person.browser.base = base;
            world.until_rest().await;
            world.assert_sound(&[&person]).await;
            person.browser.sign_in(&person.email).await;
            server.stop();
        }
        world.end().await;
    }
}

/// Until the other side dies; gives how far it came.
async fn link_and_unlink(browser: &mut Browser, line: &Line, user: &str, token: &str) -> Option<()> {
    let start = [("purpose", "link"), ("provider", "main"), ("return_to", "/account")];
    let page = browser.try_post("/line/start", token, &start).await?;
    if !page.location.starts_with(&line.0.base) {
        return None;
    }
    let callback = line.consent(&page.location, user).await;
    let page = browser.try_get(&callback).await?;
    let attempt = page.location.strip_prefix("/link/confirm?attempt=")?.to_owned();
    let yes = [("attempt", attempt.as_str()), ("decision", "yes"), ("consent", "1:en")];
    let page = browser.try_post("/link/confirm", token, &yes).await?;
    (page.location == "/account?done=linked").then_some(())?;
    let page = browser.try_post("/account/unlink", token, &UNLINK).await?;
    (page.location == "/account?done=unlinked").then_some(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x37_the_second_sigterm_ends_now() {
    for engine in ENGINES {
        let world = World::new(engine).await;
        let (mut server, base) = world.serve();
        let mut person = world.person(&base, "hanako@example.jp").await;
        let callback = person.browser.come_back(&world.line, "link", &person.user).await;
        let token = "/oauth2/v2.1/token";
        world.line.order("/_sim/faults", json!({ "endpoint": token, "delay_ms": 60_000 })).await;
        let mut browser = person.browser.clone();
        let waiting = tokio::spawn(async move { browser.try_get(&callback).await.is_none() });
        until(async || !world.line.calls_to(token).await.is_empty()).await;
        server.terminate();
        server.wait_for("stopping");
        let began = std::time::Instant::now();
        server.terminate();
        let (code, told) = server.end();
        assert_eq!(code, Some(1), "{told}");
        assert!(began.elapsed() < Duration::from_secs(5), "it waited for its work");
        assert!(waiting.await.unwrap(), "the request died with it");

        world.let_time_pass().await;
        let (server, base) = world.serve();
        person.browser.base = base;
        world.until_rest().await;
        world.assert_sound(&[&person]).await;
        let attempt = person.browser.reach_confirm(&world.line, &person.user).await;
        person.browser.confirm(&attempt).await;
        until(async || world.line.delivered(&person.user).await == [1]).await;
        server.stop();
        world.end().await;
    }
}

// ---- X41

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x41_a_crash_loop_leaves_nothing_half_done() {
    let dice = Dice::new();
    for engine in ENGINES {
        let world = World::new(engine).await;
        let (server, base) = world.serve();
        let mut people = Vec::new();
        for name in ["hanako", "taro", "yuki"] {
            people.push(world.person(&base, &format!("{name}@example.jp")).await);
        }
        server.kill();
        for _ in 0..rounds(5, 50) {
            world.let_time_pass().await;
            let (server, base) = world.serve();
            let mut busy = Vec::new();
            for person in &people {
                let mut browser = Browser::new(&base, PUBLIC);
                let email = person.email.clone();
                // The simulator may take one for another: members meet foreign LINE accounts too.
                let (line, user) = (world.line.clone(), person.user.clone());
                busy.push(tokio::spawn(async move {
                    let Some(page) = browser.try_get("/").await else { return };
                    let Some(rest) = page.body.split("name=\"csrf\" value=\"").nth(1) else { return };
                    let token = rest.split('"').next().unwrap_or_default().to_owned();
                    let fields = [("email", email.as_str()), ("password", PASSWORD)];
                    let Some(_) = browser.try_post("/sign-in", &token, &fields).await else { return };
                    for _ in 0..20 {
                        // A link from before is ended first.
                        let Some(_) = browser.try_post("/account/unlink", &token, &UNLINK).await else { return };
                        let _ = link_and_unlink(&mut browser, &line, &user, &token).await;
                    }
                }));
            }
            tokio::time::sleep(dice.wait(10, 500)).await;
            server.kill();
            for task in busy {
                task.await.unwrap();
            }
        }
        world.let_time_pass().await;
        let (server, base) = world.serve();
        world.until_rest().await;
        let everybody: Vec<&Person> = people.iter().collect();
        world.assert_sound(&everybody).await;
        for person in &mut people {
            person.browser.base.clone_from(&base);
            person.browser.sign_in(&person.email).await;
        }
        server.stop();
        world.end().await;
    }
}

// ---- X42

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x42_a_migration_that_was_killed_goes_on() {
    let dice = Dice::new();
    for engine in ENGINES {
        for _ in 0..rounds(3, 30) {
            let place = Place::new(engine).await;
            if engine == Engine::Postgres {
                place.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public").await;
            }
            let config = place.alone();
            for _ in 0..3 {
                let process = Process::start(&["migrate", "--config", &config]);
                tokio::time::sleep(dice.wait(0, 120)).await;
                process.kill();
            }
            let (code, told) = Process::start(&["migrate", "--config", &config]).end();
            assert_eq!(code, Some(0), "{engine:?} {told}");
            let app = place.app(&config).await;
            app.db.check_schema().await.unwrap();
            add_member(&app, "hanako@example.jp").await;
            app.db.close().await;
            place.end().await;
        }
    }
}
