//! The database: SQLite or PostgreSQL behind one SQL text, and the one place that knows which.
//!
//! Column law, so that one text serves both: TEXT, BIGINT, DOUBLE PRECISION and BYTEA only; a flag is a
//! nullable time; times are epoch milliseconds ([`Millis`]); ids are UUIDv7 text ([`new_id`]).

mod rows;

use std::{
    fmt,
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    str::FromStr,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sqlx::{
    AnyConnection, AnyPool, Connection, Executor,
    any::{AnyConnectOptions, AnyPoolOptions},
    migrate::{MigrateError, Migrator},
    sqlite::SqliteConnectOptions,
};

pub use self::rows::Rows;

/// The connection that every statement takes first; a transaction dereferences to it.
pub type Conn = AnyConnection;
/// A transaction that writes. Dropped without `commit`, it rolls back.
pub type Tx = sqlx::Transaction<'static, sqlx::Any>;

static MIGRATIONS: Migrator = sqlx::migrate!();

/// Connections of workers, of which each channel's sender keeps one while it sends; who finds none tries again later.
const MOST_WORKERS: u32 = 64;
/// How long a connection is waited for.
const ACQUIRE: Duration = Duration::from_secs(5);

/// A time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, sqlx::Type)]
#[sqlx(transparent)]
pub struct Millis(pub i64);

/// Pool and engine.
#[derive(Debug, Clone)]
pub struct Db {
    pool: AnyPool,
    /// Of those that make one transaction after another, each on the one connection that knows their pages and plans.
    workers: AnyPool,
    engine: Engine,
    options: AnyConnectOptions,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Engine {
    Sqlite { file: PathBuf },
    Postgres,
}

/// Why the database cannot be used, in words for the person who starts the server.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    #[error("the database cannot be opened: {0}")]
    Open(#[source] sqlx::Error),
    #[error(
        "another `musubi serve` already works on {0}; SQLite serves one process. \
         Stop that one first, or use PostgreSQL for several nodes"
    )]
    InUse(PathBuf),
    #[error("the lock file {0} cannot be used: {1}")]
    Lock(PathBuf, std::io::Error),
    #[error(
        "the database was written by a newer musubi (its schema has step {0}, unknown to this one); start that version"
    )]
    Newer(i64),
    #[error("the database's schema is older than this musubi; run `musubi migrate` or `musubi serve`")]
    Older,
    #[error("the schema could not be brought up to date: {0}")]
    Migrate(#[source] MigrateError),
}

/// One statement in two forms; made by [`with_lock`].
#[derive(Debug, Clone, Copy)]
pub struct Locking {
    pub plain: &'static str,
    pub locked: &'static str,
}

/// A statement, and the lock clause that PostgreSQL reads at its end: one text, so that the engines cannot drift apart.
macro_rules! with_lock {
    ($($statement:literal)+, $lock:literal) => {
        $crate::db::Locking { plain: concat!($($statement),+), locked: concat!($($statement,)+ " ", $lock) }
    };
}
pub(crate) use with_lock;

/// Held by `serve` for its lifetime: the one server of a SQLite file. Nothing on PostgreSQL.
#[derive(Debug)]
pub struct ServeLock(#[expect(dead_code, reason = "held open, never read: the lock ends with it")] Option<File>);

impl Db {
    /// Opens `url`; makes an SQLite file where there is none. Does not touch the schema.
    pub async fn connect(url: &str) -> Result<Self, DbError> {
        sqlx::any::install_default_drivers();
        let (engine, url) = if url.starts_with("sqlite:") {
            let options = SqliteConnectOptions::from_str(url).map_err(DbError::Open)?;
            let file = options.get_filename().to_owned();
            let separator = if url.contains('?') { '&' } else { '?' };
            (Engine::Sqlite { file }, format!("{url}{separator}mode=rwc"))
        } else {
            (Engine::Postgres, url.to_owned())
        };
        let options = AnyConnectOptions::from_str(&url).map_err(DbError::Open)?;
        let workers = pool_of(MOST_WORKERS, vec![engine.setup(), engine.worker_setup()]);
        match pool_of(8, vec![engine.setup()]).connect_with(options.clone()).await {
            Ok(pool) => {
                let workers = workers.connect_lazy_with(options.clone());
                Ok(Self { pool, workers, engine: engine.resolved(), options })
            }
            Err(error) => Err(DbError::Open(cause_of(error, &options).await)),
        }
    }

    /// Takes the place of the one server of a SQLite file; refused while another holds it.
    pub fn lock_for_serve(&self) -> Result<ServeLock, DbError> {
        match &self.engine {
            Engine::Postgres => Ok(ServeLock(None)),
            Engine::Sqlite { file } => {
                let path = beside(file, "serve-lock");
                let lock = open_lock(&path)?;
                match lock.try_lock() {
                    Ok(()) => Ok(ServeLock(Some(lock))),
                    Err(TryLockError::WouldBlock) => Err(DbError::InUse(file.clone())),
                    Err(TryLockError::Error(error)) => Err(DbError::Lock(path, error)),
                }
            }
        }
    }

    /// Brings the schema up to date; safe when several processes do it at once.
    pub async fn migrate(&self) -> Result<(), DbError> {
        // PostgreSQL is locked by sqlx (an advisory lock); SQLite has no such lock, so a file serves.
        let _lock = match &self.engine {
            Engine::Postgres => None,
            Engine::Sqlite { file } => Some(wait_for_lock(beside(file, "migrate-lock")).await?),
        };
        let mut conn = self.pool.acquire().await.map_err(DbError::Open)?;
        conn.execute(self.engine.patience()).await.map_err(DbError::Open)?;
        let result = MIGRATIONS.run(&mut *conn).await;
        // Closed, not given back: it is patient, and after a failure it still holds PostgreSQL's lock.
        let _ = conn.close().await;
        result.map_err(|error| match error {
            MigrateError::VersionMissing(version) => DbError::Newer(version),
            other => DbError::Migrate(other),
        })
    }

    /// Checks that the schema is just what this binary knows, without changing it.
    pub async fn check_schema(&self) -> Result<(), DbError> {
        let applied: Vec<i64> = sqlx::query_scalar("SELECT version FROM _sqlx_migrations ORDER BY version")
            .fetch_all(&self.pool)
            .await
            .map_err(|error| match error {
                // There is no such table.
                sqlx::Error::Database(_) => DbError::Older,
                other => DbError::Open(other),
            })?;
        let known: Vec<i64> = MIGRATIONS.iter().map(|migration| migration.version).collect();
        match applied.iter().find(|version| !known.contains(version)) {
            Some(version) => Err(DbError::Newer(*version)),
            None if applied.len() < known.len() => Err(DbError::Older),
            None => Ok(()),
        }
    }

    /// Begins a transaction that writes. SQLite takes the write lock here, not at the first write:
    /// a later upgrade from reader to writer would fail under load.
    pub async fn begin(&self) -> sqlx::Result<Tx> {
        self.pool.begin_with(self.engine.begin()).await
    }

    /// The same for a worker that makes one such transaction after another.
    pub async fn begin_work(&self) -> sqlx::Result<Tx> {
        self.workers.begin_with(self.engine.begin()).await
    }

    /// A connection for reading, or for one statement that commits by itself.
    pub async fn conn(&self) -> sqlx::Result<sqlx::pool::PoolConnection<sqlx::Any>> {
        self.pool.acquire().await
    }

    /// A worker's connection to be kept for several transactions ([`begin_on`](Self::begin_on)): that holds up nobody else.
    pub async fn worker_conn(&self) -> sqlx::Result<sqlx::pool::PoolConnection<sqlx::Any>> {
        self.workers.acquire().await
    }

    /// A connection outside the pool, for a writer that must not wait for others' connections. It gives up a lock
    /// that it does not get within a second.
    pub async fn own_connection(&self) -> sqlx::Result<AnyConnection> {
        let mut conn = AnyConnection::connect_with(&self.options).await?;
        conn.execute(self.engine.setup()).await?;
        conn.execute(self.engine.impatience()).await?;
        Ok(conn)
    }

    /// [`begin`](Self::begin) on a connection that the caller keeps.
    pub async fn begin_on<'c>(&self, conn: &'c mut AnyConnection) -> sqlx::Result<sqlx::Transaction<'c, sqlx::Any>> {
        conn.begin_with(self.engine.begin()).await
    }

    /// A statement of [`with_lock`], as this engine takes it: SQLite has one writer and needs no lock clause.
    pub fn locking(&self, statement: Locking) -> &'static str {
        match self.engine {
            Engine::Sqlite { .. } => statement.plain,
            Engine::Postgres => statement.locked,
        }
    }

    /// The database's own clock, for leases between nodes whose clocks differ.
    pub async fn now(&self, conn: &mut Conn) -> sqlx::Result<Millis> {
        let text = match self.engine {
            Engine::Sqlite { .. } => "SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS BIGINT)",
            Engine::Postgres => "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
        };
        sqlx::query_scalar(text).fetch_one(conn).await
    }

    /// Carries SQLite's log over into its file now, as far as nobody stands in the way. Otherwise the commit that finds
    /// the log long does it, and whoever comes after that waits the longer.
    pub async fn carry_log_over(&self, conn: &mut AnyConnection) -> sqlx::Result<()> {
        match self.engine {
            Engine::Sqlite { .. } => conn.execute("PRAGMA wal_checkpoint(PASSIVE)").await.map(|_| ()),
            Engine::Postgres => Ok(()),
        }
    }

    pub async fn close(&self) {
        self.workers.close().await;
        self.pool.close().await;
    }
}

impl Engine {
    fn begin(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN",
        }
    }

    /// What each new connection is told. SQLite: a write waits for its turn, and a commit is on the disk; what undoes one
    /// statement need not be on it. PostgreSQL: compiling a short statement takes longer than running it, and so does
    /// the usual compression of long values, where the server knows the other.
    fn setup(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => {
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                 PRAGMA busy_timeout = 5000; PRAGMA wal_autocheckpoint = 1000; PRAGMA cache_size = -2048; \
                 PRAGMA temp_store = MEMORY"
            }
            Self::Postgres => {
                "SET synchronous_commit = on; SET statement_timeout = '10s'; SET lock_timeout = '5s'; \
                 SET idle_in_transaction_session_timeout = '30s'; SET jit = off; \
                 SELECT set_config(name, 'lz4', false) FROM pg_settings \
                   WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)"
            }
        }
    }

    /// What a worker's connection is told besides. SQLite: it reads the same pages again. PostgreSQL: every statement has
    /// its index and is planned once, whatever the statistics say of a queue that was empty, or full, when they were made.
    fn worker_setup(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => "PRAGMA cache_size = -8192",
            Self::Postgres => {
                "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_bitmapscan = off; \
                 SET enable_hashjoin = off; SET enable_mergejoin = off"
            }
        }
    }

    /// What a connection is told whose caller waits a second at most.
    fn impatience(&self) -> &'static str {
        match self {
            // What only appends needs few pages in memory.
            Self::Sqlite { .. } => "PRAGMA busy_timeout = 1000; PRAGMA cache_size = -1024",
            Self::Postgres => "SET lock_timeout = '1s'; SET statement_timeout = '5s'",
        }
    }

    /// What a connection that migrates is told: another node's migration may take its time, and so may its own.
    fn patience(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => "SELECT 1",
            Self::Postgres => "SET statement_timeout = 0; SET lock_timeout = '5min'",
        }
    }

    /// One file is one file, by whatever link or relative path it is named.
    fn resolved(self) -> Self {
        match self {
            Self::Sqlite { file } => Self::Sqlite { file: file.canonicalize().unwrap_or(file) },
            Self::Postgres => Self::Postgres,
        }
    }
}

/// A pool of so many connections, each told these first.
fn pool_of(most: u32, setups: Vec<&'static str>) -> AnyPoolOptions {
    AnyPoolOptions::new().max_connections(most).acquire_timeout(ACQUIRE).after_connect(move |conn, _| {
        let setups = setups.clone();
        Box::pin(async move {
            for setup in setups {
                conn.execute(setup).await?;
            }
            Ok(())
        })
    })
}

/// A pool only tells that it waited in vain; one more connection tells for what.
async fn cause_of(error: sqlx::Error, options: &AnyConnectOptions) -> sqlx::Error {
    if !matches!(error, sqlx::Error::PoolTimedOut) {
        return error;
    }
    match tokio::time::timeout(ACQUIRE, AnyConnection::connect_with(options)).await {
        Ok(Err(cause)) => cause,
        Ok(Ok(_)) | Err(_) => error,
    }
}

impl Millis {
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    pub fn plus_signed(self, milliseconds: i64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }

    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

/// What every id made by [`new_id`] before a time is smaller than.
pub fn id_before(time: Millis) -> String {
    let text = format!("{:012x}", time.0.max(0));
    let (high, low) = text.split_at(8);
    format!("{high}-{low}")
}

/// A new id: UUIDv7 of `now`, so that indexes grow at their end. Ids that this process makes within one millisecond
/// stand in the order of their making.
pub fn new_id(now: Millis) -> String {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let since = Duration::from_millis(u64::try_from(now.0).unwrap_or(0));
    let place = u128::from(MADE.fetch_add(1, Ordering::Relaxed));
    let timestamp = uuid::Timestamp::from_unix_time(since.as_secs(), since.subsec_nanos(), place, 32);
    uuid::Uuid::new_v7(timestamp).to_string()
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{suffix}"));
    PathBuf::from(name)
}

fn open_lock(path: &Path) -> Result<File, DbError> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|error| DbError::Lock(path.to_owned(), error))
}

async fn wait_for_lock(path: PathBuf) -> Result<File, DbError> {
    let lock = open_lock(&path)?;
    let locked = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await;
    match locked {
        Ok(Ok(lock)) => Ok(lock),
        Ok(Err(error)) => Err(DbError::Lock(path, error)),
        Err(error) => Err(DbError::Lock(path, std::io::Error::other(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_moment_keep_their_order() {
        let ids: Vec<String> = (0..1000).map(|_| new_id(Millis(1_800_000_000_000))).collect();
        assert!(ids.is_sorted() && ids.iter().all(|id| id.len() == 36));
        assert!(new_id(Millis(1_800_000_000_001)) > ids[999]);
    }
}
