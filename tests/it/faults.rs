//! The database fails at every call in turn: the wire is cut before or after it, or a write is refused. Whatever a
//! person was about is done or not done, never half; nothing is sent twice; LINE's tokens are a link's or given back.
#![expect(clippy::panic, reason = "a test that cannot go on fails, and says why")]

use std::time::Duration;

use axum::http::StatusCode;
use musubi::{app::App, db::Db, link::grant, routes, worker};
use serde_json::Value;
use sqlx::Connection;

use crate::{
    liff,
    linking::{links_are_sound, rows},
    support::{
        Answer, Engine, ORIGIN, PASSWORD, TABLES, TestApp, Visitor, at_once, both_engines, parameter,
        proxy::{Plan, Proxy},
    },
};

type Pairs<'a> = &'a [(&'a str, &'a str)];

const SAME_ORIGIN: Pairs = &[("sec-fetch-site", "same-origin"), ("origin", ORIGIN)];
const UNLINK: Pairs = &[("provider", "main"), ("password", PASSWORD)];
const AGES: Duration = Duration::from_secs(11 * 60);
/// More calls than any flow makes.
const MOST: u64 = 600;

/// How the database fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    CutBefore,
    CutAfter,
    /// Every write from this one on, until it is mended.
    Refused,
}

/// An application whose database fails on order. `app.app` is our own eyes and hands: it never fails; visitors go
/// through `app.router`, which does.
struct Bench {
    app: TestApp,
    failing: App,
    proxy: Option<Proxy>,
}

impl Bench {
    async fn new(engine: Engine) -> Self {
        let mut app = TestApp::start(engine).await;
        let proxy = match engine {
            Engine::Sqlite => {
                watch_writes(&app).await;
                None
            }
            Engine::Postgres => Some(Proxy::start(&app.database_url).await),
        };
        let url = proxy.as_ref().map_or(&app.database_url, |proxy| &proxy.url);
        let db = Db::connect(url).await.unwrap();
        let failing = App::new(app.app.config.clone(), db, app.clock.clone()).unwrap();
        app.router = routes::router(&failing);
        Self { app, failing, proxy }
    }

    /// The ways that this engine can fail in.
    fn ways(&self) -> &'static [Way] {
        if self.proxy.is_some() { &[Way::CutBefore, Way::CutAfter] } else { &[Way::Refused] }
    }

    /// From now on, at the call of this number.
    async fn fail_at(&self, way: Way, number: u64) {
        match (way, &self.proxy) {
            (Way::CutBefore, Some(proxy)) => proxy.plan(Plan::CutBefore(number)),
            (Way::CutAfter, Some(proxy)) => proxy.plan(Plan::CutAfter(number)),
            _ => self.allow_writes(i64::try_from(number).unwrap() - 1).await,
        }
    }

    /// Whole again; gives whether a cut took place.
    async fn mend(&self) -> bool {
        let Some(proxy) = &self.proxy else {
            self.allow_writes(i64::MAX).await;
            return false;
        };
        let has_struck = proxy.has_struck();
        proxy.plan(Plan::Pass);
        has_struck
    }

    async fn allow_writes(&self, number: i64) {
        let mut conn = self.app.app.db.conn().await.unwrap();
        sqlx::query("UPDATE faults SET allowed = $1").bind(number).execute(&mut *conn).await.unwrap();
    }

    /// Past every backoff, lease and abandoned attempt, and what is due then.
    async fn settle(&self) {
        self.app.clock.advance(AGES);
        self.app.execute("UPDATE jobs SET leased_until = NULL WHERE ended_at IS NULL").await;
        self.app.execute("DELETE FROM leases").await;
        self.app.drain().await;
        // What LINE was asked by a job that could not say so may be told again a little later.
        self.app.clock.advance(AGES);
        self.app.drain().await;
    }

    /// LINE gave out what the links have, and got the rest back. The ledger grows, so it is not read each time.
    async fn assert_no_token_is_lost(&self, fault: &Fault<'_>, live: i64) {
        if fault.number % 8 < 3 {
            assert_eq!(self.tokens_out().await, live, "{} or a little before: tokens lost at LINE", fault.said());
        }
    }

    async fn tokens_out(&self) -> i64 {
        let good = |calls: Vec<Value>| calls.iter().filter(|call| call["status"] == 200).count() as i64;
        good(self.app.calls_to("/oauth2/v2.1/token").await) - good(self.app.calls_to("/oauth2/v2.1/revoke").await)
    }

    async fn end(self) {
        self.failing.db.close().await;
        self.app.end().await;
    }
}

/// On SQLite: each write to a table of ours is counted, and refused when none is left. A refused transaction takes
/// its own counts back, so that from the first refusal on each transaction fails at the same place.
async fn watch_writes(app: &TestApp) {
    let mut conn = app.app.db.conn().await.unwrap();
    sqlx::raw_sql("CREATE TABLE faults (allowed BIGINT NOT NULL)").execute(&mut *conn).await.unwrap();
    sqlx::query("INSERT INTO faults (allowed) VALUES ($1)").bind(i64::MAX).execute(&mut *conn).await.unwrap();
    for table in TABLES {
        for write in ["INSERT", "UPDATE", "DELETE"] {
            let trigger = format!(
                "CREATE TRIGGER fault_{write}_{table} BEFORE {write} ON {table} BEGIN
                   SELECT CASE WHEN allowed <= 0 THEN RAISE(ABORT, 'the disk is full') END FROM faults;
                   UPDATE faults SET allowed = allowed - 1;
                 END"
            );
            sqlx::raw_sql(sqlx::AssertSqlSafe(trigger)).execute(&mut *conn).await.unwrap();
        }
    }
}

/// A person in the middle of something, with the token of their forms.
struct Person<'a> {
    email: String,
    member_id: String,
    visitor: Visitor<'a>,
    token: String,
    user: String,
}

impl<'a> Person<'a> {
    /// A signed-in member and somebody at LINE; from an address of their own, for starts are counted by address.
    async fn new(bench: &'a Bench, name: &str, number: u64) -> Self {
        let email = format!("{name}.{number}@example.jp").to_lowercase();
        let member_id = bench.app.member(&email, "Hanako").await;
        let user = bench.app.line_user("はなこ").await;
        let mut visitor = bench.app.visitor();
        visitor.address = format!("198.51.{}.{}", number / 250, number % 250);
        let answer = visitor.post("/sign-in", &[("email", &email), ("password", PASSWORD)]).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        let token = visitor.form_token().await;
        Self { email, member_id, visitor, token, user }
    }

    /// The same, linked, and its welcome received.
    async fn linked(bench: &'a Bench, name: &str, number: u64) -> Self {
        let mut person = Self::new(bench, name, number).await;
        let answer = person.visitor.link(&person.user).await;
        assert_eq!(answer.location(), "/account?done=linked", "{}", answer.body);
        bench.app.drain().await;
        person
    }

    /// Adds the official account as a friend, which is not told.
    async fn follow(&self, bench: &Bench) {
        bench.app.does(&self.user, "follow", serde_json::json!({ "standby": true })).await;
    }

    async fn post(&mut self, path: &str, fields: Pairs<'_>) -> Answer {
        let fields = [fields, &[("csrf", &self.token)]].concat();
        self.visitor.post_raw(path, &fields, SAME_ORIGIN).await
    }

    async fn count(&self, bench: &Bench, statement: &'static str) -> i64 {
        let mut conn = bench.app.app.db.conn().await.unwrap();
        sqlx::query_scalar(statement).bind(&self.member_id).fetch_one(&mut *conn).await.unwrap()
    }

    async fn is_linked(&self, bench: &Bench) -> bool {
        let statement = "SELECT CAST(COUNT(*) AS BIGINT) FROM links WHERE member_id = $1 AND ended_at IS NULL";
        self.count(bench, statement).await == 1
    }

    /// The link has one grant, and LINE honours it.
    async fn assert_permission_lives(&self, bench: &Bench, said: &str) {
        let app = &bench.app.app;
        let mut conn = app.db.conn().await.unwrap();
        let link_id: String = sqlx::query_scalar("SELECT id FROM links WHERE member_id = $1 AND ended_at IS NULL")
            .bind(&self.member_id)
            .fetch_one(&mut *conn)
            .await
            .unwrap();
        let grants = grant::list_of_link(&mut conn, &link_id).await.unwrap();
        assert_eq!(grants.len(), 1, "{said}");
        let grant = grant::find(&mut conn, app, &grants[0]).await.unwrap().unwrap();
        app.line.profile(&grant.tokens.access_token).await.unwrap_or_else(|error| panic!("{said}: {error}"));
    }
}

/// A refusal by the database is an answer of 5xx with a page; a cut wire is 503, with when to come again. It never
/// looks like a sign-out.
fn assert_clear(answer: &Answer, said: &str) {
    let page = format!("{said}: {} {:?} {}", answer.status, answer.headers, answer.body);
    assert!(answer.status.is_server_error() && answer.body.contains("error-page"), "{page}");
    let is_503 = answer.status == StatusCode::SERVICE_UNAVAILABLE;
    assert_eq!(is_503, answer.headers.contains_key("retry-after"), "{page}");
    let cookies = answer.headers.get_all("set-cookie").iter().filter_map(|cookie| cookie.to_str().ok());
    assert!(cookies.into_iter().all(|cookie| !cookie.contains("musubi_session")), "{page}");
}

/// Every call with `tests/run --full`, else some: others for each way.
fn calls_of(way: Way, step: u64) -> impl Iterator<Item = u64> {
    let (first, step) = match way {
        _ if std::env::var_os("MUSUBI_TEST_FULL").is_some() => (1, 1),
        Way::Refused => (1, 4),
        Way::CutBefore => (1, step),
        Way::CutAfter => (step / 2, step),
    };
    (first..=MOST).step_by(usize::try_from(step).unwrap())
}

/// Runs `flow` with a fault at its first call, a later one, and so on until it passes untouched. `flow` prepares a
/// person, arms the fault by the function given, and gives whether everything went through; it looks itself at what
/// is left once the bench is mended.
async fn fault_at_each_call(bench: &Bench, flow: impl AsyncFn(&Fault<'_>) -> bool) {
    fault_at_calls(bench, 7, flow).await;
}

/// The same; without `--full` at one call in `step`.
async fn fault_at_calls(bench: &Bench, step: u64, flow: impl AsyncFn(&Fault<'_>) -> bool) {
    for &way in bench.ways() {
        for (struck, number) in calls_of(way, step).enumerate() {
            let fault = Fault { bench, way, number, has_struck: false.into() };
            let passed = flow(&fault).await;
            if passed && !fault.has_struck.get() {
                assert!(struck >= 1, "{way:?}: the fault never met the flow");
                break;
            }
            assert!(number + step < MOST, "{way:?}: there is no end to it");
        }
    }
}

/// One fault of one round.
struct Fault<'b> {
    bench: &'b Bench,
    way: Way,
    number: u64,
    has_struck: std::cell::Cell<bool>,
}

impl Fault<'_> {
    fn said(&self) -> String {
        format!("{:?} at {}", self.way, self.number)
    }

    fn name(&self) -> String {
        format!("{:?}", self.way)
    }

    /// A number for this round over all ways.
    fn round(&self) -> u64 {
        self.number + if self.way == Way::CutAfter { MOST } else { 0 }
    }

    async fn arm(&self) {
        self.bench.fail_at(self.way, self.number).await;
    }

    async fn mend(&self) {
        let has_struck = self.bench.mend().await;
        self.has_struck.set(has_struck || self.has_struck.get());
    }
}

/// Every step of a link; the answer that ended it early.
async fn link(person: &mut Person<'_>) -> Result<(), Answer> {
    let fields = [("purpose", "link"), ("provider", "main"), ("return_to", "/account")];
    let answer = person.post("/line/start", &fields).await;
    if answer.status != StatusCode::SEE_OTHER {
        return Err(answer);
    }
    let callback = person.visitor.at_line(&answer.location(), &person.user.clone(), "consent").await;
    let answer = person.visitor.get(&callback).await;
    let Some(attempt) = answer.location().strip_prefix("/link/confirm?attempt=").map(str::to_owned) else {
        return Err(answer);
    };
    let answer = person.visitor.get(&format!("/link/confirm?attempt={attempt}")).await;
    if answer.status != StatusCode::OK {
        return Err(answer);
    }
    let yes = [("attempt", attempt.as_str()), ("decision", "yes"), ("consent", "1:en")];
    let answer = person.post("/link/confirm", &yes).await;
    if answer.location() == "/account?done=linked" { Ok(()) } else { Err(answer) }
}

async fn sign_in_by_line(person: &mut Person<'_>) -> Result<(), Answer> {
    let fields = [("purpose", "sign_in"), ("provider", "main"), ("return_to", "/account")];
    let answer = person.post("/line/start", &fields).await;
    if answer.status != StatusCode::SEE_OTHER {
        return Err(answer);
    }
    let callback = person.visitor.at_line(&answer.location(), &person.user.clone(), "consent").await;
    let answer = person.visitor.get(&callback).await;
    if answer.location() == "/account" { Ok(()) } else { Err(answer) }
}

async fn both(test: impl AsyncFn(&Bench)) {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let bench = Bench::new(engine).await;
        test(&bench).await;
        bench.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x09_a_link_is_there_or_not_wherever_the_database_fails() {
    both(async |bench| {
        fault_at_each_call(bench, async |fault| {
            let said = fault.said();
            let mut person = Person::new(bench, &fault.name(), fault.round()).await;
            fault.arm().await;
            let ended = link(&mut person).await;
            fault.mend().await;
            if let Err(answer) = &ended {
                assert_clear(answer, &said);
            }
            bench.settle().await;
            links_are_sound(&bench.app).await;
            let linked = person.is_linked(bench).await;
            assert!(linked || ended.is_err(), "{said}: it was said to be linked");
            if linked {
                person.assert_permission_lives(bench, &said).await;
            }
            let live = rows!(bench.app, "grants WHERE sealed IS NOT NULL");
            assert_eq!(live, rows!(bench.app, "links WHERE ended_at IS NULL"), "{said}: tokens of nobody's link");
            bench.assert_no_token_is_lost(fault, live).await;
            let account = person.visitor.get("/account").await;
            // A link gives the session a new id; where the answer with it was lost, the person signs in again.
            let is_lost = linked && ended.is_err();
            assert!(account.status == StatusCode::OK || is_lost, "{said}: the session lives");
            ended.is_ok()
        })
        .await;
        every_welcome_came_once(bench).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x09_a_sign_in_with_line_keeps_or_revokes_its_tokens_wherever_the_database_fails() {
    both(async |bench| {
        fault_at_each_call(bench, async |fault| {
            let said = fault.said();
            let mut person = Person::linked(bench, &fault.name(), fault.round()).await;
            fault.arm().await;
            let ended = sign_in_by_line(&mut person).await;
            fault.mend().await;
            if let Err(answer) = &ended {
                assert_clear(answer, &said);
            }
            bench.settle().await;
            person.assert_permission_lives(bench, &said).await;
            let live = rows!(bench.app, "grants WHERE sealed IS NOT NULL");
            assert_eq!(live, rows!(bench.app, "links WHERE ended_at IS NULL"), "{said}");
            bench.assert_no_token_is_lost(fault, live).await;
            let (sessions, told) = (
                "SELECT CAST(COUNT(*) AS BIGINT) FROM sessions WHERE member_id = $1 AND method = 'line'",
                "SELECT CAST(COUNT(*) AS BIGINT) FROM audit WHERE member_id = $1 AND action = 'signed_in'
                   AND data LIKE '%line%'",
            );
            let (sessions, told) = (person.count(bench, sessions).await, person.count(bench, told).await);
            assert_eq!(sessions, told, "{said}: a session without its audit row, or the other way round");
            assert!(sessions <= 1 && (sessions == 1 || ended.is_err()), "{said}");
            ended.is_ok()
        })
        .await;
    })
    .await;
}

/// From the page that LINE opens to a link; whatever fails, the page is loaded again with the same tokens and leads there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x09_a_link_from_a_liff_app_is_there_or_not_wherever_the_database_fails() {
    both(async |bench| {
        fault_at_each_call(bench, async |fault| {
            let said = fault.said();
            let mut person = Person::new(bench, &fault.name(), fault.round()).await;
            person.follow(bench).await;
            let tokens = liff::tokens(&bench.app, &person.user).await;
            fault.arm().await;
            let ended = link_by_liff(&mut person, &tokens).await;
            fault.mend().await;
            if let Err(answer) = &ended {
                assert_told(answer, &said);
            }
            links_are_sound(&bench.app).await;
            if person.is_linked(bench).await {
                let answer = liff::show(&mut person.visitor, &liff::shown(&tokens)).await;
                assert_eq!(answer.body, r#"{"next":"/account"}"#, "{said}");
            } else {
                assert!(ended.is_err(), "{said}: it was said to be linked");
                let again = link_by_liff(&mut person, &tokens).await;
                again.unwrap_or_else(|answer| panic!("{said}: {} {}", answer.status, answer.body));
            }
            assert_eq!(person.visitor.get("/account").await.status, StatusCode::OK, "{said}");
            bench.settle().await;
            links_are_sound(&bench.app).await;
            person.assert_permission_lives(bench, &said).await;
            let live = rows!(bench.app, "grants WHERE sealed IS NOT NULL");
            assert_eq!(live, rows!(bench.app, "links WHERE ended_at IS NULL"), "{said}: tokens of nobody's link");
            ended.is_ok()
        })
        .await;
        every_welcome_came_once(bench).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x09_a_sign_in_by_a_liff_app_wherever_the_database_fails() {
    both(async |bench| {
        fault_at_each_call(bench, async |fault| {
            let said = fault.said();
            let mut person = Person::linked(bench, &fault.name(), fault.round()).await;
            let tokens = liff::shown(&liff::tokens(&bench.app, &person.user).await);
            person.visitor.cookies.remove("__Host-musubi_session");
            fault.arm().await;
            let answer = liff::show(&mut person.visitor, &tokens).await;
            fault.mend().await;
            let passed = answer.status == StatusCode::OK;
            if !passed {
                assert_told(&answer, &said);
                let answer = liff::show(&mut person.visitor, &tokens).await;
                assert_eq!(answer.body, r#"{"next":"/account"}"#, "{said}");
            }
            assert_eq!(person.visitor.get("/account").await.status, StatusCode::OK, "{said}");
            let (sessions, told) = (
                "SELECT CAST(COUNT(*) AS BIGINT) FROM sessions WHERE member_id = $1 AND method = 'line'",
                "SELECT CAST(COUNT(*) AS BIGINT) FROM audit WHERE member_id = $1 AND action = 'signed_in'
                   AND data LIKE '%liff%'",
            );
            let (sessions, told) = (person.count(bench, sessions).await, person.count(bench, told).await);
            assert_eq!(sessions, told, "{said}: a session without its audit row, or the other way round");
            // One more where the commit took place and its answer was lost.
            assert!(sessions == 1 || (sessions == 2 && fault.way == Way::CutAfter), "{said}: {sessions}");
            bench.settle().await;
            passed
        })
        .await;
    })
    .await;
}

/// Shows the tokens, presses the button and says yes; the answer that ended it early.
async fn link_by_liff(person: &mut Person<'_>, tokens: &Value) -> Result<(), Answer> {
    let answer = liff::show(&mut person.visitor, &liff::shown(tokens)).await;
    if answer.status != StatusCode::OK {
        return Err(answer);
    }
    assert_eq!(answer.json()["next"], liff::NOT_LINKED);
    let fields = [("purpose", "link"), ("provider", "main"), ("return_to", "/account")];
    let answer = person.post("/line/start", &fields).await;
    let Some(attempt) = answer.location().strip_prefix("/link/confirm?attempt=").map(str::to_owned) else {
        return Err(answer);
    };
    let yes = [("attempt", attempt.as_str()), ("decision", "yes"), ("consent", "1:en")];
    let answer = person.post("/link/confirm", &yes).await;
    if answer.location().ends_with("done=linked") { Ok(()) } else { Err(answer) }
}

/// As [`assert_clear`], also for the script of LIFF's page, which is told one word.
fn assert_told(answer: &Answer, said: &str) {
    if answer.headers["content-type"] != "application/json" {
        return assert_clear(answer, said);
    }
    let face = format!("{said}: {} {:?} {}", answer.status, answer.headers, answer.body);
    let is_503 = answer.status == StatusCode::SERVICE_UNAVAILABLE;
    assert!(answer.status.is_server_error(), "{face}");
    assert_eq!(answer.json()["error"], if is_503 { "unavailable" } else { "failed" }, "{face}");
    assert_eq!(is_503, answer.headers.contains_key("retry-after"), "{face}");
    let cookies = answer.headers.get_all("set-cookie").iter().filter_map(|cookie| cookie.to_str().ok());
    assert!(cookies.into_iter().all(|cookie| !cookie.contains("musubi_session")), "{face}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x09_a_sign_in_by_password_wherever_the_database_fails() {
    both(async |bench| {
        fault_at_each_call(bench, async |fault| {
            let said = fault.said();
            let mut person = Person::new(bench, &fault.name(), fault.round()).await;
            let (old, email) = (person.visitor.cookies.clone(), person.email.clone());
            fault.arm().await;
            let answer = person.post("/sign-in", &[("email", &email), ("password", PASSWORD)]).await;
            fault.mend().await;
            let passed = answer.location() == "/account";
            if !passed {
                assert_clear(&answer, &said);
            }
            let sessions = "SELECT CAST(COUNT(*) AS BIGINT) FROM sessions WHERE member_id = $1";
            assert_eq!(person.count(bench, sessions).await, 1, "{said}: the new one in place of the old one");
            let told = "SELECT CAST(COUNT(*) AS BIGINT) FROM audit WHERE member_id = $1 AND action = 'signed_in'";
            let signed_in = person.count(bench, told).await;
            assert!((1..=2).contains(&signed_in) && (signed_in == 2 || !passed), "{said}");
            person.visitor.cookies = if signed_in == 1 { old } else { person.visitor.cookies };
            if signed_in == 1 || passed {
                assert_eq!(person.visitor.get("/account").await.status, StatusCode::OK, "{said}");
            }
            passed
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x09_an_unlink_is_done_or_not_wherever_the_database_fails() {
    both(async |bench| {
        fault_at_each_call(bench, async |fault| {
            let said = fault.said();
            let mut person = Person::linked(bench, &fault.name(), fault.round()).await;
            fault.arm().await;
            let answer = person.post("/account/unlink", UNLINK).await;
            fault.mend().await;
            let passed = answer.location() == "/account?done=unlinked";
            if !passed {
                assert_clear(&answer, &said);
            }
            bench.settle().await;
            links_are_sound(&bench.app).await;
            let told = "SELECT CAST(COUNT(*) AS BIGINT) FROM audit WHERE member_id = $1 AND action = 'unlinked'";
            let told = person.count(bench, told).await;
            if person.is_linked(bench).await {
                assert!(!passed && told == 0, "{said}");
                person.assert_permission_lives(bench, &said).await;
                let steps = "SELECT CAST(COUNT(*) AS BIGINT) FROM unlink_steps s JOIN links l ON l.id = s.link_id
                             WHERE l.member_id = $1";
                assert_eq!(person.count(bench, steps).await, 0, "{said}");
                // Again, and now it is done.
                let answer = person.post("/account/unlink", UNLINK).await;
                assert_eq!(answer.location(), "/account?done=unlinked", "{said}");
                bench.settle().await;
            } else {
                assert_eq!(told, 1, "{said}");
                let answer = person.post("/account/unlink", UNLINK).await;
                // An unlink gives the session a new id; where the answer with it was lost, the person signs in again.
                let is_over =
                    answer.location() == "/account" || (!passed && answer.location().starts_with("/sign-in?"));
                assert!(is_over, "{said}: there is nothing more to do: {}", answer.location());
            }
            assert_eq!(rows!(bench.app, "unlink_steps WHERE state = 'pending'"), 0, "{said}");
            assert_eq!(rows!(bench.app, "grants WHERE sealed IS NOT NULL"), 0, "{said}");
            passed
        })
        .await;
        let asked = bench.app.calls_to("/user/v1/deauthorize").await.len() as i64;
        assert_eq!(asked, rows!(bench.app, "links WHERE ended_at IS NOT NULL"), "each permission taken back, once");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x09_an_account_is_made_once_or_not_wherever_the_database_fails() {
    both(async |bench| {
        fault_at_each_call(bench, async |fault| {
            let said = fault.said();
            let email = format!("{}.{}@example.jp", fault.name(), fault.round()).to_lowercase();
            let mut visitor = bench.app.visitor();
            visitor.address = format!("198.51.{}.{}", fault.round() / 250, fault.round() % 250);
            let fields = [("email", email.as_str()), ("name", "Hanako"), ("password", PASSWORD)];
            assert_eq!(visitor.post("/sign-up", &fields).await.status, StatusCode::OK);
            bench.app.drain().await;
            let token = parameter(&bench.app.mailed_link(&email, "/sign-up/confirm").await, "token");
            let csrf = visitor.form_token().await;
            let form = [("token", token.as_str()), ("csrf", csrf.as_str())];
            fault.arm().await;
            let answer = visitor.post_raw("/sign-up/confirm", &form, SAME_ORIGIN).await;
            fault.mend().await;
            let passed = answer.location() == "/account?done=signed_up";
            if !passed {
                assert_clear(&answer, &said);
            }
            let members = async || {
                let statement = "SELECT CAST(COUNT(*) AS BIGINT) FROM members WHERE email_key = $1";
                let mut conn = bench.app.app.db.conn().await.unwrap();
                sqlx::query_scalar::<_, i64>(statement).bind(&email).fetch_one(&mut *conn).await.unwrap()
            };
            let made = members().await;
            assert!(made == 1 || (made == 0 && !passed), "{said}: {made}");
            if made == 0 {
                let answer = visitor.post_raw("/sign-up/confirm", &form, SAME_ORIGIN).await;
                assert_eq!(answer.location(), "/account?done=signed_up", "{said}: the mail is good still");
            }
            assert_eq!(members().await, 1, "{said}");
            let sign_in = [("email", email.as_str()), ("password", PASSWORD), ("csrf", csrf.as_str())];
            let answer = visitor.post_raw("/sign-in", &sign_in, SAME_ORIGIN).await;
            assert_eq!(answer.location(), "/account", "{said}: {}", answer.body);
            passed
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x09_a_password_is_the_old_or_the_new_wherever_the_database_fails() {
    const NEW: &str = "another good battery";
    both(async |bench| {
        fault_at_each_call(bench, async |fault| {
            let said = fault.said();
            let mut person = Person::new(bench, &fault.name(), fault.round()).await;
            let email = person.email.clone();
            person.post("/password/forgot", &[("email", &email)]).await;
            bench.app.drain().await;
            let token = parameter(&bench.app.mailed_link(&email, "/password/reset").await, "token");
            let mut visitor = bench.app.visitor();
            visitor.address.clone_from(&person.visitor.address);
            let csrf = visitor.form_token().await;
            let form = [("token", token.as_str()), ("password", NEW), ("csrf", csrf.as_str())];
            fault.arm().await;
            let answer = visitor.post_raw("/password/reset", &form, SAME_ORIGIN).await;
            fault.mend().await;
            let passed = answer.location() == "/sign-in?done=reset";
            if !passed {
                assert_clear(&answer, &said);
            }
            let sessions = "SELECT CAST(COUNT(*) AS BIGINT) FROM sessions WHERE member_id = $1";
            let is_reset = person.count(bench, sessions).await == 0;
            assert!(is_reset || !passed, "{said}: the sessions end with the reset");
            let mut opened = Vec::new();
            for password in [PASSWORD, NEW] {
                let fields = [("email", email.as_str()), ("password", password), ("csrf", csrf.as_str())];
                let answer = visitor.post_raw("/sign-in", &fields, SAME_ORIGIN).await;
                opened.push(answer.location() == "/account");
            }
            assert_eq!(opened, [!is_reset, is_reset], "{said}: one of the two passwords, with the sessions");
            let told = "SELECT CAST(COUNT(*) AS BIGINT) FROM audit WHERE member_id = $1 AND action = 'password_reset'";
            assert_eq!(person.count(bench, told).await, i64::from(is_reset), "{said}");
            passed
        })
        .await;
    })
    .await;
}

/// What a link and an unlink leave to the worker, with the fault in the worker's own calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x09_jobs_end_once_wherever_the_database_fails() {
    both(async |bench| {
        fault_at_calls(bench, 13, async |fault| {
            let said = fault.said();
            // A welcome that waits, and an unlink that is to be carried out.
            let gone = Person::linked(bench, &format!("gone-{}", fault.name()), fault.round()).await;
            let mut fresh = Person::new(bench, &format!("fresh-{}", fault.name()), fault.round()).await;
            let mut gone = gone;
            let answer = gone.post("/account/unlink", UNLINK).await;
            assert_eq!(answer.location(), "/account?done=unlinked", "{said}");
            assert!(link(&mut fresh).await.is_ok(), "{said}");
            fault.arm().await;
            let drained = worker::drain(&bench.failing).await;
            fault.mend().await;
            // As if this node's time for its claims were over.
            bench.app.execute("UPDATE requests SET next_attempt_at = 0").await;
            bench.settle().await;
            links_are_sound(&bench.app).await;
            assert_eq!(rows!(bench.app, "unlink_steps WHERE state = 'pending'"), 0, "{said}");
            assert_eq!(rows!(bench.app, "requests WHERE state = 'open'"), 0, "{said}");
            assert_eq!(rows!(bench.app, "deliveries WHERE state IN ('waiting', 'sending')"), 0, "{said}");
            let live = rows!(bench.app, "grants WHERE sealed IS NOT NULL");
            assert_eq!(live, rows!(bench.app, "links WHERE ended_at IS NULL"), "{said}");
            fresh.assert_permission_lives(bench, &said).await;
            let open = "SELECT CAST(COUNT(*) AS BIGINT) FROM jobs
                        WHERE ended_at IS NULL AND kind <> 'abandon_attempt'";
            assert_eq!(bench.app.count(open).await, 0, "{said}");
            drained.is_ok()
        })
        .await;
        every_welcome_came_once(bench).await;
        let unlinked = rows!(bench.app, "links WHERE ended_at IS NOT NULL");
        let asked = bench.app.calls_to("/user/v1/deauthorize").await;
        assert!(asked.len() as i64 >= unlinked, "each permission was taken back");
    })
    .await;
}

async fn every_welcome_came_once(bench: &Bench) {
    let ledger = bench.app.sim(axum::http::Method::GET, "/_sim/ledger", Value::Null).await;
    let delivered = ledger["deliveries"].as_array().unwrap();
    assert!(delivered.iter().all(|one| one["count"] == 1), "sent twice: {delivered:#?}");
    assert_eq!(delivered.len() as i64, rows!(bench.app, "deliveries WHERE state = 'sent'"));
    assert_eq!(rows!(bench.app, "deliveries WHERE state <> 'sent'"), 0);
}

// ---- the answer of a commit is lost

/// The commit of the callback took place: the tokens are the link's, and must not be given back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x09_tokens_whose_commit_took_place_are_not_given_back() {
    let bench = Bench::new(Engine::Postgres).await;
    let proxy = bench.proxy.as_ref().unwrap();
    let mut person = Person::linked(&bench, "hanako", 1).await;
    bench.settle().await;
    let revoked = bench.app.calls_to("/oauth2/v2.1/revoke").await.len();
    let signed_in = rows!(bench.app, "audit WHERE action = 'signed_in'");
    // The first is of the start, the second of the callback.
    proxy.plan(Plan::CutAfterCommit(2));
    let answer = sign_in_by_line(&mut person).await.unwrap_err();
    assert!(bench.mend().await);
    assert_eq!(rows!(bench.app, "audit WHERE action = 'signed_in'"), signed_in + 1, "it took place");
    assert_clear(&answer, "the commit's answer is lost");
    bench.app.drain().await;
    // The former grant goes, as after every sign-in; the new one lives.
    assert_eq!(bench.app.calls_to("/oauth2/v2.1/revoke").await.len(), revoked + 1);
    person.assert_permission_lives(&bench, "kept").await;
    bench.end().await;
}

// ---- X09, X10, X11: the database is away as a whole

/// Pages and forms of somebody who is signed in.
async fn requests(person: &mut Person<'_>) -> Vec<axum::http::Request<axum::body::Body>> {
    use axum::{body::Body, http::Method};
    let mut requests = Vec::new();
    for path in ["/", "/account", "/account/unlink", "/sign-in", "/link/confirm?attempt=x"] {
        requests.push(person.visitor.request(Method::GET, path).body(Body::empty()).unwrap());
    }
    let token = person.token.clone();
    let forms: [(&str, Pairs); 4] = [
        ("/line/start", &[("purpose", "link"), ("provider", "main")]),
        ("/account/unlink", UNLINK),
        ("/link/confirm", &[("attempt", "x"), ("decision", "yes"), ("consent", "1:en")]),
        ("/sign-out", &[]),
    ];
    for (path, fields) in forms {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        let body = form.extend_pairs(fields).append_pair("csrf", &token).finish();
        let request = person.visitor.request(Method::POST, path).header("origin", ORIGIN);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        requests.push(request.body(Body::from(body)).unwrap());
    }
    requests
}

async fn get(bench: &Bench, path: &str) -> Answer {
    bench.app.visitor().get(path).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x09_a_database_that_refuses_is_503_and_comes_back_by_itself() {
    let bench = Bench::new(Engine::Postgres).await;
    let proxy = bench.proxy.as_ref().unwrap();
    let mut person = Person::linked(&bench, "hanako", 1).await;
    // A welcome that waits, so that there would be something to send.
    let mut other = Person::new(&bench, "taro", 2).await;
    assert!(link(&mut other).await.is_ok());
    let (before, calls) = (bench.app.dump(&[]).await, bench.app.calls().await.len());
    proxy.plan(Plan::Refuse);
    let sent = requests(&mut person).await;
    for answer in at_once(&bench.app, sent).await {
        assert_clear(&answer, "refused");
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(get(&bench, "/healthz").await.status, StatusCode::OK);
    assert_eq!(get(&bench, "/readyz").await.status, StatusCode::SERVICE_UNAVAILABLE);
    worker::drain(&bench.failing).await.unwrap_err();
    assert_eq!(bench.app.calls().await.len(), calls, "LINE is not called");
    assert_eq!(bench.app.dump(&[]).await, before);

    proxy.plan(Plan::Pass);
    assert_eq!(get(&bench, "/readyz").await.status, StatusCode::OK);
    assert_eq!(person.visitor.get("/account").await.status, StatusCode::OK, "still signed in");
    worker::drain(&bench.failing).await.unwrap();
    every_welcome_came_once(&bench).await;
    bench.end().await;
}

/// Nothing is closed and nothing is answered, as by a stopped server: the time limits fire, and nothing is used up.
/// Time is played, so that the limits need not be waited for.
#[tokio::test]
async fn x10_a_database_that_hangs_is_503_and_uses_nothing_up() {
    let bench = Bench::new(Engine::Postgres).await;
    let proxy = bench.proxy.as_ref().unwrap();
    let mut person = Person::linked(&bench, "hanako", 1).await;
    let before = bench.app.dump(&["sessions"]).await;
    for _ in 0..2 {
        let mut sent = requests(&mut person).await;
        sent.extend(requests(&mut person).await);
        proxy.plan(Plan::Stall);
        tokio::time::pause();
        let began = tokio::time::Instant::now();
        let answers = at_once(&bench.app, sent).await;
        let waited = began.elapsed();
        tokio::time::resume();
        for answer in answers {
            assert_clear(&answer, "hangs");
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        }
        assert!(waited < Duration::from_secs(60), "{waited:?}");
        proxy.plan(Plan::Pass);
        // More than the pool has, one after another: no place in it is lost.
        for _ in 0..12 {
            assert_eq!(person.visitor.get("/account").await.status, StatusCode::OK, "still signed in");
        }
        let sent = (0..12).map(|_| {
            person.visitor.request(axum::http::Method::GET, "/account").body(axum::body::Body::empty()).unwrap()
        });
        let sent: Vec<_> = sent.collect();
        assert!(at_once(&bench.app, sent).await.iter().all(|answer| answer.status == StatusCode::OK));
    }
    assert_eq!(bench.app.dump(&["sessions"]).await, before, "nothing of it was carried out");
    bench.end().await;
}

/// The time limits of PostgreSQL itself are set on each connection: a slow statement, a lock, an idle transaction.
#[tokio::test]
async fn x10_each_connection_has_its_limits() {
    let app = TestApp::start(Engine::Postgres).await;
    let mut conn = app.app.db.conn().await.unwrap();
    for (setting, expected) in
        [("statement_timeout", "10s"), ("lock_timeout", "5s"), ("idle_in_transaction_session_timeout", "30s")]
    {
        let statement = sqlx::AssertSqlSafe(format!("SELECT current_setting('{setting}')"));
        let value: String = sqlx::query_scalar(statement).fetch_one(&mut *conn).await.unwrap();
        assert_eq!(value, expected, "{setting}");
    }
    drop(conn);
    app.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x11_a_locked_sqlite_file_is_503_and_loses_nothing() {
    let app = TestApp::start(Engine::Sqlite).await;
    let (mut hanako, _) = app.linked("hanako@example.jp").await;
    let token = hanako.form_token().await;
    let before = app.dump(&[]).await;
    let mut other = sqlx::AnyConnection::connect(&app.database_url).await.unwrap();
    sqlx::raw_sql("BEGIN EXCLUSIVE").execute(&mut other).await.unwrap();
    let fields = [UNLINK, &[("csrf", &token)]].concat();
    let answer = hanako.post_raw("/account/unlink", &fields, SAME_ORIGIN).await;
    assert_clear(&answer, "locked");
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(hanako.get("/account").await.status, StatusCode::OK, "what only reads goes on");
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    other.close().await.unwrap();
    assert_eq!(app.dump(&[]).await, before);
    let answer = hanako.post_raw("/account/unlink", &fields, SAME_ORIGIN).await;
    assert_eq!(answer.location(), "/account?done=unlinked");
    app.drain().await;
    assert_eq!(rows!(app, "unlink_steps WHERE state <> 'done'"), 0);
    app.end().await;
}

// ---- X46

both_engines! {
    async fn x46_what_cannot_be_audited_does_not_happen(app) {
        let (mut hanako, user) = app.linked("hanako@example.jp").await;
        app.member("taro@example.jp", "Taro").await;
        let mut taro = app.signed_in("taro@example.jp").await;
        let person = app.line_user("たろう").await;
        let attempt = taro.reach_confirm(&person).await;
        let mut by_line = app.visitor();
        let url = by_line.start_line("sign_in", "/").await;
        let callback = by_line.at_line(&url, &user, "consent").await;
        // Two tokens are out: Hanako's and the one that waits for Taro's yes.
        let revoked = app.calls_to("/oauth2/v2.1/revoke").await.len();
        // A try at a password is counted before anything is known of it.
        let before = app.dump(&["audit", "attempts", "throttles"]).await;
        app.execute("ALTER TABLE audit RENAME TO hidden").await;
        let mut visitor = app.visitor();
        let fields = [("email", "taro@example.jp"), ("password", PASSWORD)];
        let answers = [
            ("sign-in", visitor.post("/sign-in", &fields).await),
            ("link", taro.confirm(&attempt).await),
            ("unlink", hanako.unlink().await),
            ("sign-in by LINE", by_line.get(&callback).await),
            ("sign-out", taro.post("/sign-out", &[]).await),
        ];
        app.execute("ALTER TABLE hidden RENAME TO audit").await;
        for (what, answer) in answers {
            assert_clear(&answer, what);
        }
        assert_eq!(app.dump(&["audit", "attempts", "throttles"]).await, before);
        assert_eq!(app.calls_to("/oauth2/v2.1/revoke").await.len(), revoked + 1, "LINE's tokens go back at once");
        // And now that it can be told, it happens.
        assert_eq!(taro.confirm(&attempt).await.location(), "/account?done=linked");
        assert_eq!(hanako.unlink().await.location(), "/account?done=unlinked");
        assert_eq!(taro.post("/sign-out", &[]).await.location(), "/");
        app.drain().await;
        links_are_sound(app).await;
    }
}
