//! The way of a webhook to the disk: one writer takes whatever queued while its last commit ran.
//!
//! What came is kept as it came, many requests in one value: splitting it into bodies and events is the inbox's work
//! ([`unpack`](super::unpack)), so that a burst costs little more than its bytes. The writer has a connection of its own,
//! so that no crowd of pages holds up LINE. It never guesses about a commit: whoever was not told in time answers 503,
//! after which LINE may send the same again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::body::Bytes;
use sqlx::AnyConnection;
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task, time,
};

use super::pack::{Head, pack};
use crate::{
    app::App,
    db::{Conn, Millis},
    error::{Error, Result},
    kill,
};

/// From the body's end to the answer "not stored"; LINE asks for an answer within two seconds.
const PATIENCE: Duration = Duration::from_millis(1300);
/// When the writer gives up its connection: PostgreSQL is gone without a word.
const HUNG: Duration = Duration::from_secs(2);
/// How long a connection may take to be there.
const CONNECT: Duration = Duration::from_secs(1);
/// A connection that rested for longer may have been forgotten by something in between, and is made anew.
const RESERVE: Duration = Duration::from_secs(30);
/// Bytes of bodies in memory, over all requests: of what is short, as LINE's nearly always are, and of the rest. Room is
/// taken before a signature can be checked: who sends much and slowly takes none from LINE.
const SHORT_ROOM: usize = 32 * 1024 * 1024;
const LONG_ROOM: usize = 32 * 1024 * 1024;
/// Bytes of a body that count as short.
const SHORT: usize = 64 * 1024;
/// Requests in one commit, and bytes of their bodies after which it is full.
const GROUP: usize = 256;
const FULL: usize = 1024 * 1024;
/// Bytes after which a quiet moment is taken to carry SQLite's log over: it takes some milliseconds.
const WORTH_CARRYING: usize = 1024 * 1024;
/// What a commit writes beside the bodies, about.
const COMMIT: usize = 16 * 1024;

/// A request to be stored.
pub struct Entry {
    pub channel: String,
    pub head: Head,
    pub body: Bytes,
    /// How many it brings.
    pub events: usize,
    /// Held as long as the body is in memory.
    pub room: Vec<OwnedSemaphorePermit>,
}

/// It is not known to be stored.
#[derive(Debug)]
pub struct Unstored;

/// The handle of the writer; the writer ends with the last of its handles.
#[derive(Clone)]
pub struct Intake {
    queue: mpsc::Sender<Waiting>,
    short: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

/// The writer's connection, and when it was last good.
type Kept = Option<(AnyConnection, time::Instant)>;

struct Waiting {
    entry: Entry,
    stored: oneshot::Sender<()>,
}

/// A row of the intake.
struct Row {
    /// The first request's.
    id: String,
    requests: Vec<u8>,
    events: i64,
    received_at: Millis,
}

impl Intake {
    /// Starts the writer.
    pub fn start(app: &App) -> Self {
        let (queue, waiting) = mpsc::channel(4 * GROUP);
        tokio::spawn(write_on(app.clone(), waiting));
        let [short, long] = [SHORT_ROOM, LONG_ROOM].map(|bytes| Arc::new(Semaphore::new(bytes)));
        Self { queue, short, long }
    }

    /// Room for the next bytes of a body that has so many already, if there is any now.
    pub fn room(&self, has: usize, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let room = if has + bytes <= SHORT { &self.short } else { &self.long };
        room.clone().try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
    }

    /// Stores an entry; returns once it is on the disk.
    pub async fn store(&self, app: &App, entry: Entry) -> Result<(), Unstored> {
        let (stored, told) = oneshot::channel();
        let waiting = Waiting { entry, stored };
        let storing = async {
            kill::point("intake.verified");
            self.queue.send(waiting).await.map_err(|_| Unstored)?;
            told.await.map_err(|_| Unstored)
        };
        let answer = time::timeout(PATIENCE, storing).await.unwrap_or(Err(Unstored));
        if answer.is_err() {
            tracing::error!(now = app.now().0, "a webhook could not be stored in time");
        }
        answer
    }
}

/// The writer, again where it panics: without it nothing is taken any more.
async fn write_on(app: App, queue: mpsc::Receiver<Waiting>) {
    let queue = Arc::new(Mutex::new(queue));
    while let Err(error) = tokio::spawn(write(app.clone(), queue.clone())).await {
        tracing::error!(%error, "the writer of webhooks begins anew");
    }
}

/// The writer.
async fn write(app: App, queue: Arc<Mutex<mpsc::Receiver<Waiting>>>) {
    let mut queue = queue.lock().await;
    let (mut conn, mut waiting, mut written) = (None, Vec::new(), 0);
    while !waiting.is_empty() || queue.recv_many(&mut waiting, GROUP).await > 0 {
        gather(&mut queue, &mut waiting).await;
        let mut group = take_group(&mut waiting);
        if let Err(error) = store(&app, &mut conn, &group).await {
            tracing::error!(%error, requests = group.len(), "webhooks could not be stored");
            group.clear();
        }
        app.wake_inbox();
        written += group.iter().map(|waiting| waiting.entry.body.len()).sum::<usize>() + COMMIT;
        for waiting in group {
            let _ = waiting.stored.send(());
        }
        if written >= WORTH_CARRYING && waiting.is_empty() && queue.is_empty() {
            written = 0;
            carry_log_over(&app, &mut conn).await;
        }
    }
}

/// While nobody waits. A connection on which that fails is not used again.
async fn carry_log_over(app: &App, kept: &mut Kept) {
    let Some((mut conn, used)) = kept.take() else { return };
    match time::timeout(HUNG, app.db.carry_log_over(&mut conn)).await {
        Ok(Ok(())) => *kept = Some((conn, used)),
        Ok(Err(error)) => tracing::warn!(%error, "the database's log could not be carried over"),
        Err(error) => tracing::warn!(%error, "the database's log could not be carried over"),
    }
}

/// Whoever was told just now is answered first, and whoever is there by then comes along, as long as somebody does: no time
/// is waited for.
async fn gather(queue: &mut mpsc::Receiver<Waiting>, waiting: &mut Vec<Waiting>) {
    let mut before = 0;
    while before < waiting.len() && waiting.len() < GROUP {
        before = waiting.len();
        task::yield_now().await;
        while waiting.len() < GROUP
            && let Ok(next) = queue.try_recv()
        {
            waiting.push(next);
        }
    }
}

/// What goes into the next commit, oldest first.
fn take_group(waiting: &mut Vec<Waiting>) -> Vec<Waiting> {
    let mut bytes = 0;
    let full = |waiting: &Waiting| {
        bytes += waiting.entry.body.len();
        bytes >= FULL
    };
    let end = waiting.iter().position(full).map_or(waiting.len(), |last| last + 1);
    // Who was answered already sends again.
    waiting.drain(..end).filter(|waiting| !waiting.stored.is_closed()).collect()
}

/// Stores a group in one commit. A connection that failed is not used again: the second try has a new one.
async fn store(app: &App, kept: &mut Kept, group: &[Waiting]) -> Result<()> {
    if group.is_empty() {
        return Ok(());
    }
    let rows = pack_all(group)?;
    match store_rows(app, kept, &rows).await {
        Ok(()) => Ok(()),
        Err(error) => {
            tracing::warn!(%error, "webhooks are stored again, on a new connection");
            store_rows(app, kept, &rows).await
        }
    }
}

async fn store_rows(app: &App, kept: &mut Kept, rows: &BTreeMap<&str, Row>) -> Result<()> {
    let mut conn = match kept.take() {
        Some((conn, used)) if used.elapsed() < RESERVE => conn,
        Some(_) | None => {
            time::timeout(CONNECT, app.db.own_connection()).await.map_err(|_| sqlx::Error::PoolTimedOut)??
        }
    };
    time::timeout(HUNG, insert_all(app, &mut conn, rows)).await.map_err(Error::internal)??;
    *kept = Some((conn, time::Instant::now()));
    Ok(())
}

/// Bytes of a request's line before its body, about.
const HEAD: usize = 200;

/// A row for each channel.
fn pack_all(group: &[Waiting]) -> Result<BTreeMap<&str, Row>> {
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    let bytes: usize = group.iter().map(|waiting| waiting.entry.body.len() + HEAD).sum();
    for Waiting { entry, .. } in group {
        let first = || Row {
            id: entry.head.id.clone(),
            requests: Vec::with_capacity(bytes),
            events: 0,
            received_at: entry.head.received_at,
        };
        let row = rows.entry(&entry.channel).or_insert_with(first);
        pack(&mut row.requests, &entry.head, &entry.body)?;
        row.events += i64::try_from(entry.events).unwrap_or(0);
    }
    Ok(rows)
}

async fn insert_all(app: &App, conn: &mut AnyConnection, rows: &BTreeMap<&str, Row>) -> Result<()> {
    match rows.first_key_value() {
        // One statement is its own transaction: one way to the database instead of three.
        Some((channel, row)) if rows.len() == 1 => insert(conn, channel, row).await?,
        _ => {
            let mut tx = app.db.begin_on(conn).await?;
            for (channel, row) in rows {
                insert(&mut tx, channel, row).await?;
            }
            tx.commit().await?;
        }
    }
    app.metrics.webhook_commit();
    kill::point("intake.committed");
    Ok(())
}

/// A commit whose answer was lost may have been one: the same row again is no other.
async fn insert(conn: &mut Conn, channel: &str, row: &Row) -> Result<()> {
    sqlx::query(
        "INSERT INTO intake (id, channel, requests, events, received_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT DO NOTHING",
    )
    .bind(&row.id)
    .bind(channel)
    .bind(row.requests.as_slice())
    .bind(row.events)
    .bind(row.received_at)
    .execute(conn)
    .await?;
    Ok(())
}
