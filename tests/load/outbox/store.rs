//! The stores that are measured: filled once each, by statements over a generated series, then copied for each round.

use std::path::{Path, PathBuf};

use musubi::db::Db;
use sqlx::{AnyConnection, AssertSqlSafe, Connection};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// A filled store.
pub struct Base {
    pub engine: Engine,
    name: String,
    folder: PathBuf,
}

/// A copy of one.
pub struct Store {
    engine: Engine,
    pub url: String,
    file: PathBuf,
}

/// What came of the deliveries in a time.
pub struct Sent {
    pub count: f64,
    /// Seconds to the last of them.
    pub took: f64,
    /// Milliseconds from when each was due, in order.
    pub late: Vec<i64>,
}

impl Engine {
    pub const ALL: [Self; 2] = [Self::Sqlite, Self::Postgres];

    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }
}

impl Base {
    /// Fills a store with linked friends of these user ids, and `queued` deliveries to them, one after the other, each
    /// of a message of its own and due one millisecond of the year 1970 after the one before.
    pub async fn of_queued(engine: Engine, folder: &Path, people: &[String], queued: usize) -> Self {
        let base = Self { engine, name: "outbox_queued".to_owned(), folder: folder.to_owned() };
        let url = base.make().await;
        let mut conn = impatient(engine, &url).await;
        let ids = people.iter().enumerate();
        let rows: Vec<String> = ids.map(|(n, id)| format!("(CAST({n} AS BIGINT), '{id}')")).collect();
        run(&mut conn, "CREATE TABLE people (n BIGINT PRIMARY KEY, user_id TEXT NOT NULL)").await;
        for rows in rows.chunks(500) {
            run(&mut conn, &format!("INSERT INTO people (n, user_id) VALUES {}", rows.join(", "))).await;
        }
        fill_linked(&mut conn, "people").await;
        fill_queued(&mut conn, people.len(), queued).await;
        run(&mut conn, "DROP TABLE people").await;
        settle(engine, conn).await;
        base
    }

    /// Fills a store with so many linked friends, and nothing queued.
    pub async fn of_members(engine: Engine, folder: &Path, count: usize) -> Self {
        let base = Self { engine, name: "outbox_members".to_owned(), folder: folder.to_owned() };
        let url = base.make().await;
        let mut conn = impatient(engine, &url).await;
        run(&mut conn, "CREATE TABLE people (n BIGINT PRIMARY KEY, user_id TEXT NOT NULL)").await;
        let user_id = format!("'U' || SUBSTR('{:032}', 1, 32 - LENGTH(CAST(n AS TEXT))) || CAST(n AS TEXT)", 0);
        let series = series(count);
        run(&mut conn, &format!("INSERT INTO people (n, user_id) {series} SELECT n, {user_id} FROM series")).await;
        fill_linked(&mut conn, "people").await;
        run(&mut conn, "DROP TABLE people").await;
        settle(engine, conn).await;
        base
    }

    /// A copy of it, for one measurement.
    pub async fn copy(&self) -> Store {
        let file = self.folder.join("round.db");
        match self.engine {
            Engine::Sqlite => {
                remove(&file);
                std::fs::copy(self.folder.join(format!("{}.db", self.name)), &file).unwrap();
                // Or the first checkpoint would have all of it written.
                std::fs::File::open(&file).unwrap().sync_all().unwrap();
            }
            Engine::Postgres => {
                let mut conn = administrator().await;
                run(&mut conn, "DROP DATABASE IF EXISTS outbox_round WITH (FORCE)").await;
                run(&mut conn, &format!("CREATE DATABASE outbox_round TEMPLATE {}", self.name)).await;
                run(&mut conn, "CHECKPOINT").await;
            }
        }
        let url = match self.engine {
            Engine::Sqlite => format!("sqlite://{}", file.display()),
            Engine::Postgres => postgres("outbox_round"),
        };
        Store { engine: self.engine, url, file }
    }

    async fn make(&self) -> String {
        let url = match self.engine {
            Engine::Sqlite => {
                let file = self.folder.join(format!("{}.db", self.name));
                remove(&file);
                format!("sqlite://{}", file.display())
            }
            Engine::Postgres => {
                sqlx::any::install_default_drivers();
                let mut conn = administrator().await;
                run(&mut conn, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)).await;
                run(&mut conn, &format!("CREATE DATABASE {}", self.name)).await;
                postgres(&self.name)
            }
        };
        let db = Db::connect(&url).await.unwrap();
        db.migrate().await.unwrap();
        db.close().await;
        url
    }
}

impl Store {
    /// Has the deliveries become due at a steady rate from a time on.
    pub async fn spread(&self, from: i64, rate: usize) {
        let mut conn = impatient(self.engine, &self.url).await;
        let due = format!("{from} + due_at * 1000 / {rate}");
        run(&mut conn, &format!("UPDATE deliveries SET due_at = {due}, order_at = {due}")).await;
        settle(self.engine, conn).await;
    }

    /// Commits of writing transactions so far; on PostgreSQL how often its log was written to the disk, which several
    /// commits may share.
    pub async fn commits(&self) -> f64 {
        match self.engine {
            Engine::Sqlite => {
                let Ok(shared) = std::fs::read(format!("{}-shm", self.file.display())) else { return 0.0 };
                // The WAL index's count of transactions.
                f64::from(u32::from_ne_bytes(shared[8..12].try_into().unwrap()))
            }
            Engine::Postgres => {
                let mut conn = administrator().await;
                let count: i64 =
                    sqlx::query_scalar("SELECT wal_sync FROM pg_stat_wal").fetch_one(&mut conn).await.unwrap();
                count as f64
            }
        }
    }

    /// What was sent from one time to another, once the sender is gone.
    pub async fn sent(&self, from: i64, to: i64) -> Sent {
        let mut conn = AnyConnection::connect(&self.url).await.unwrap();
        let broken: i64 = sqlx::query_scalar(
            "SELECT CAST(COUNT(*) AS BIGINT) FROM deliveries WHERE state NOT IN ('waiting', 'sending', 'sent')",
        )
        .fetch_one(&mut conn)
        .await
        .unwrap();
        assert_eq!(broken, 0, "every delivery is sent or will be");
        let rows: Vec<(i64, i64)> = sqlx::query_as(
            "SELECT updated_at, updated_at - order_at FROM deliveries
             WHERE state = 'sent' AND updated_at >= $1 AND updated_at < $2",
        )
        .bind(from)
        .bind(to)
        .fetch_all(&mut conn)
        .await
        .unwrap();
        let last = rows.iter().map(|(at, _)| *at).max().unwrap_or(from);
        let mut late: Vec<i64> = rows.iter().map(|(_, late)| *late).collect();
        late.sort_unstable();
        Sent { count: rows.len() as f64, took: (last - from) as f64 / 1000.0, late }
    }
}

/// One text message of some 300 bytes, unlike any other; `number` is text here and an expression in SQL.
pub fn content(number: &str) -> String {
    let text = "あいうえおかきくけこ".repeat(8);
    format!(r#"[{{"type":"text","text":"{text} {number}"}}]"#)
}

/// Members, LINE users, links and friendships, one of each for every row of a table of numbers and user ids.
async fn fill_linked(conn: &mut AnyConnection, people: &str) {
    let (member, user, link) = (id(1, "n"), id(2, "n"), id(3, "n"));
    for statement in [
        format!(
            "INSERT INTO members (id, email, email_key, name, source, created_at)
             SELECT {member}, 'member' || n || '@example.jp', 'member' || n || '@example.jp', 'Aiko', 'company', 1
             FROM {people}"
        ),
        format!(
            "INSERT INTO line_users (id, provider, user_id, display_name, profile_at, created_at)
             SELECT {user}, 'main', user_id, 'Aiko', 1, 1 FROM {people}"
        ),
        format!(
            "INSERT INTO links (id, provider, line_user_id, member_id, source, consent_version, consent_locale,
               created_at)
             SELECT {link}, 'main', {user}, {member}, 'web', '1', 'ja', 1 FROM {people}"
        ),
        format!(
            "INSERT INTO friends (line_user_id, channel, friend, changed_at) SELECT {user}, 'main', 'yes', 1 FROM {people}"
        ),
    ] {
        run(conn, &statement).await;
    }
}

async fn fill_queued(conn: &mut AnyConnection, people: usize, queued: usize) {
    let series = series(queued);
    let person = format!("(n % {people})");
    let (message, member, user, link) = (id(4, "n"), id(1, &person), id(2, &person), id(3, &person));
    let content = content("' || n || '");
    for statement in [
        format!(
            "INSERT INTO messages (id, channel, lane, cause, template, locale, accepted, expanded_at, created_at)
             {series} SELECT {message}, 'main', 'transactional', 'load', '', 'ja', 1, 1, 1 FROM series"
        ),
        format!(
            "INSERT INTO deliveries (message_id, seq, channel, lane, member_id, line_user_id, link_id, content, state,
               attempts, order_at, due_at, created_at, updated_at)
             {series} SELECT {message}, 0, 'main', 'transactional', {member}, {user}, {link}, '{content}', 'waiting',
               0, n, n, n, n FROM series"
        ),
    ] {
        run(conn, &statement).await;
    }
}

/// The numbers from 0 on, as what a statement begins with.
fn series(count: usize) -> String {
    format!(
        "WITH RECURSIVE series(n) AS (SELECT CAST(0 AS BIGINT) UNION ALL SELECT n + 1 FROM series WHERE n + 1 < {count})"
    )
}

/// The expression of an id as long as ours, in the order of its number.
fn id(kind: u8, number: &str) -> String {
    let text = format!("CAST({number} AS TEXT)");
    format!("'0000000{kind}-0000-7000-8000-' || SUBSTR('000000000000', 1, 12 - LENGTH({text})) || {text}")
}

/// A connection that fills quickly and is not asked to survive a power cut.
async fn impatient(engine: Engine, url: &str) -> AnyConnection {
    let mut conn = AnyConnection::connect(url).await.unwrap();
    let haste = match engine {
        Engine::Sqlite => "PRAGMA synchronous = OFF",
        Engine::Postgres => "SET synchronous_commit = off",
    };
    run(&mut conn, haste).await;
    conn
}

/// Leaves a store as one that has been in use for a while.
async fn settle(engine: Engine, mut conn: AnyConnection) {
    if engine == Engine::Postgres {
        run(&mut conn, "VACUUM ANALYZE").await;
    }
    conn.close().await.unwrap();
}

/// Removes an SQLite database, if there is one.
fn remove(file: &Path) {
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", file.display()));
    }
}

async fn administrator() -> AnyConnection {
    AnyConnection::connect(&postgres("postgres")).await.unwrap()
}

fn postgres(name: &str) -> String {
    let url = std::env::var("MUSUBI_LOAD_POSTGRES").expect("run tests/load/run");
    format!("{}/{name}", url.strip_suffix("/postgres").unwrap())
}

async fn run(conn: &mut AnyConnection, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(conn).await.unwrap();
}
