//! The way of a webhook to the disk: one writer takes whatever queued while its last commit ran.
//!
//! The writer has a connection of its own, so that no crowd of pages holds up LINE. It never guesses about a commit: a
//! group that fails is tried again one by one, an entry twice stored is stored once, and whoever was not told in time
//! answers 503, after which LINE may send the same again.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use axum::body::Bytes;
use sqlx::AnyConnection;
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time,
};

use crate::{
    app::App,
    db::{Conn, Millis},
    error::{Error, Result},
    kill,
};

/// From the body's end to the answer "not stored"; LINE asks for an answer within two seconds.
const PATIENCE: Duration = Duration::from_millis(1300);
/// When the writer gives up its connection: PostgreSQL is gone without a word.
const HUNG: Duration = Duration::from_secs(10);
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
/// Entries in one commit.
const GROUP: usize = 256;
/// Rows of a statement: few lengths, so that each stays prepared. What is short of one is filled up with its last row,
/// which is a conflict with itself and has no effect.
const ROWS: [usize; 9] = [1, 2, 4, 6, 9, 14, 21, 32, 48];

/// A request to be stored.
pub struct Entry {
    /// Ours, in the order of arrival.
    pub id: String,
    pub channel: String,
    pub body: Bytes,
    pub signature: String,
    pub received_at: Millis,
    pub events: Vec<NewEvent>,
    /// Held as long as the body is in memory.
    pub room: Vec<OwnedSemaphorePermit>,
}

/// An event of it.
#[derive(Debug)]
pub struct NewEvent {
    /// LINE's, or one of ours where it has none.
    pub id: String,
    pub seq: i64,
    /// Its own id where it keeps no order.
    pub chat: String,
    pub at: Millis,
    pub kind: String,
    pub state: &'static str,
    pub note: Option<&'static str>,
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
    let mut conn = None;
    let mut group = Vec::new();
    while queue.recv_many(&mut group, GROUP).await > 0 {
        // Who was answered already sends again.
        group.retain(|waiting: &Waiting| !waiting.stored.is_closed());
        if let Err(error) = store(&app, &mut conn, &group).await {
            tracing::error!(%error, entries = group.len(), "webhooks could not be stored together");
            store_one_by_one(&app, &mut conn, &mut group).await;
        }
        app.wake_inbox();
        for waiting in group.drain(..) {
            let _ = waiting.stored.send(());
        }
    }
}

/// Leaves in the group what is stored.
async fn store_one_by_one(app: &App, conn: &mut Kept, group: &mut Vec<Waiting>) {
    for waiting in std::mem::take(group) {
        if waiting.stored.is_closed() {
            continue;
        }
        match store(app, conn, std::slice::from_ref(&waiting)).await {
            Ok(()) => group.push(waiting),
            Err(error) => tracing::error!(%error, channel = waiting.entry.channel, "a webhook could not be stored"),
        }
    }
}

/// Stores a group in one commit. A connection that failed is not used again.
async fn store(app: &App, kept: &mut Kept, group: &[Waiting]) -> Result<()> {
    if group.is_empty() {
        return Ok(());
    }
    let mut conn = match kept.take() {
        Some((conn, used)) if used.elapsed() < RESERVE => conn,
        Some(_) | None => {
            time::timeout(CONNECT, app.db.own_connection()).await.map_err(|_| sqlx::Error::PoolTimedOut)??
        }
    };
    time::timeout(HUNG, insert_all(app, &mut conn, group)).await.map_err(Error::internal)??;
    *kept = Some((conn, time::Instant::now()));
    Ok(())
}

async fn insert_all(app: &App, conn: &mut AnyConnection, group: &[Waiting]) -> Result<()> {
    let mut tx = app.db.begin_on(conn).await?;
    insert_bodies(&mut tx, group).await?;
    kill::point("intake.half");
    insert_events(&mut tx, group).await?;
    kill::point("intake.inserted");
    tx.commit().await?;
    app.metrics.webhook_commit();
    kill::point("intake.committed");
    Ok(())
}

/// An INSERT's texts, one for each of [`ROWS`].
fn texts(head: &str, columns: usize) -> Vec<String> {
    let row = |row: usize| {
        let places: Vec<String> = (1..=columns).map(|column| format!("${}", row * columns + column)).collect();
        format!("({})", places.join(", "))
    };
    let text = |rows: usize| {
        let rows: Vec<String> = (0..rows).map(row).collect();
        format!("{head} VALUES {} ON CONFLICT DO NOTHING", rows.join(", "))
    };
    ROWS.into_iter().map(text).collect()
}

/// Cuts a list into pieces that fit a statement; each with its statement's place in [`ROWS`] and the rows that fill it.
fn pieces<T>(list: &[T]) -> impl Iterator<Item = (usize, &[T], impl Iterator<Item = &T>)> {
    list.chunks(ROWS[ROWS.len() - 1]).filter_map(|piece| {
        let place = ROWS.iter().position(|rows| *rows >= piece.len())?;
        let filling = std::iter::repeat_n(piece.last()?, ROWS[place] - piece.len());
        Some((place, piece, piece.iter().chain(filling)))
    })
}

async fn insert_bodies(conn: &mut Conn, group: &[Waiting]) -> Result<()> {
    static TEXTS: LazyLock<Vec<String>> =
        LazyLock::new(|| texts("INSERT INTO webhook_bodies (id, channel, body, signature, received_at)", 5));
    for (place, _, rows) in pieces(group) {
        let mut insert = sqlx::query(TEXTS[place].as_str());
        for Waiting { entry, .. } in rows {
            insert = insert.bind(&entry.id).bind(&entry.channel).bind(entry.body.as_ref());
            insert = insert.bind(&entry.signature).bind(entry.received_at);
        }
        insert.execute(&mut *conn).await?;
    }
    Ok(())
}

async fn insert_events(conn: &mut Conn, group: &[Waiting]) -> Result<()> {
    // Tries begin at 0, which is the column's default.
    static TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| {
        texts("INSERT INTO events (id, channel, body_id, seq, chat, at, kind, state, note, received_at)", 10)
    });
    let mut events: Vec<(&Waiting, &NewEvent)> =
        group.iter().flat_map(|waiting| waiting.entry.events.iter().map(move |event| (waiting, event))).collect();
    // In one order on all nodes: two that store the same events do not wait for each other in a circle.
    events.sort_by(|(_, one), (_, other)| one.id.cmp(&other.id));
    for (place, piece, rows) in pieces(&events) {
        let mut insert = sqlx::query(TEXTS[place].as_str());
        for (waiting, event) in rows {
            insert = insert.bind(&event.id).bind(&waiting.entry.channel).bind(&waiting.entry.id).bind(event.seq);
            insert = insert.bind(&event.chat).bind(event.at).bind(&event.kind).bind(event.state);
            insert = insert.bind(event.note).bind(waiting.entry.received_at);
        }
        let inserted = insert.execute(&mut *conn).await?.rows_affected();
        if usize::try_from(inserted) != Ok(piece.len()) {
            note_copies(conn, piece).await?;
        }
    }
    Ok(())
}

/// Remembers which bodies hold an event that was known already.
async fn note_copies(conn: &mut Conn, events: &[(&Waiting, &NewEvent)]) -> Result<()> {
    for (waiting, event) in events {
        sqlx::query(
            "INSERT INTO event_copies (event_id, channel, body_id)
             SELECT id, channel, $1 FROM events WHERE id = $2 AND channel = $3 AND body_id <> $1
             ON CONFLICT DO NOTHING",
        )
        .bind(&waiting.entry.id)
        .bind(&event.id)
        .bind(&waiting.entry.channel)
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_lose_nothing_and_are_filled_with_their_last() {
        for length in [0, 1, 3, 4, 5, 12, 47, 48, 49, 61, 1000] {
            let list: Vec<usize> = (0..length).collect();
            let mut all = Vec::new();
            for (place, piece, rows) in pieces(&list) {
                let rows: Vec<usize> = rows.copied().collect();
                assert_eq!(rows.len(), ROWS[place]);
                assert!(rows[piece.len()..].iter().all(|row| *row == rows[piece.len() - 1]));
                assert_eq!(rows[..piece.len()], *piece);
                all.extend_from_slice(piece);
            }
            assert_eq!(all, list, "{length}");
        }
    }

    #[test]
    fn places_are_numbered_on() {
        assert_eq!(texts("X", 2)[1], "X VALUES ($1, $2), ($3, $4) ON CONFLICT DO NOTHING");
    }
}
