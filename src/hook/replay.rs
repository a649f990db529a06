//! Once more: the events of a time, to one endpoint, also what it did not hear of because it was not there.
//!
//! Each keeps its id, so that whoever heard it knows it.

use super::endpoint::{self, Endpoint};
use crate::{
    app::App,
    audit,
    db::{Conn, Millis, id_before},
    error::{Error, Result},
};

/// Events in one transaction, and in one call.
const BATCH: i64 = 500;
pub const MOST: u64 = 10_000;

/// What was asked for again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    pub events: u64,
    /// Where there are more than one call takes: the id of the last one, after which to go on.
    pub after: Option<String>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Range<'a> {
    pub from: Millis,
    /// Not itself.
    pub to: Millis,
    pub after: Option<&'a str>,
}

/// Asks for what was written from `from` on and before `to`, later than the event `after` where one is named. What waits is
/// left as it is; what was erased says nothing.
pub async fn replay(app: &App, endpoint_id: &str, range: &Range<'_>) -> Result<Replayed> {
    let Range { from, to, after } = *range;
    let mut conn = app.db.conn().await?;
    let endpoint = endpoint::find(&mut conn, endpoint_id).await?.ok_or(Error::NotFound)?;
    drop(conn);
    let start = id_before(from);
    let (mut last, end) = (after.map_or(start.clone(), |after| start.max(after.to_owned())), id_before(to));
    let mut done = Replayed { events: 0, after: None };
    loop {
        let mut tx = app.db.begin().await?;
        let ids = list(&mut tx, &endpoint, (&last, &end)).await?;
        if let Some(newest) = ids.last() {
            ask_again(&mut tx, app.now(), &endpoint, (&last, &end), newest).await?;
            done.events += ids.len() as u64;
            last.clone_from(newest);
        }
        let is_over = ids.len() < usize::try_from(BATCH).unwrap_or(usize::MAX);
        if is_over || done.events >= MOST {
            done.after = (!is_over).then_some(last);
            record(&mut tx, app, endpoint_id, &done).await?;
            tx.commit().await?;
            app.wake();
            return Ok(done);
        }
        tx.commit().await?;
    }
}

/// Of the endpoint `$5`, which is limited to the provider `$3` and the channel `$4` where they are there.
macro_rules! heard {
    ($select:literal, $more:literal) => {
        concat!(
            $select,
            " FROM hook_events e
              WHERE e.id > $1 AND e.id < $2 AND e.erased_at IS NULL AND e.type <> 'hook.test'
                AND ($3 IS NULL OR e.provider = $3) AND ($4 IS NULL OR e.channel IS NULL OR e.channel = $4)
                AND (SELECT s.type FROM hook_subscriptions s WHERE s.endpoint_id = $5
                       AND (s.type = e.type OR (s.type = '*' AND e.type <> 'line.webhook')) LIMIT 1) IS NOT NULL ",
            $more
        )
    };
}

/// The next events that the endpoint may hear of, by id.
async fn list(conn: &mut Conn, endpoint: &Endpoint, (after, end): (&str, &str)) -> Result<Vec<String>> {
    let ids = sqlx::query_scalar(heard!("SELECT e.id", "ORDER BY e.id LIMIT $6"))
        .bind(after)
        .bind(end)
        .bind(&endpoint.row.provider)
        .bind(&endpoint.row.channel)
        .bind(&endpoint.row.id)
        .bind(BATCH)
        .fetch_all(conn)
        .await?;
    Ok(ids)
}

/// Asks for those after one up to another.
async fn ask_again(
    conn: &mut Conn,
    now: Millis,
    endpoint: &Endpoint,
    (after, end): (&str, &str),
    last: &str,
) -> Result<()> {
    sqlx::query(heard!(
        "INSERT INTO hook_deliveries (endpoint_id, event_id, state, attempts, tries, due_at, created_at, updated_at)
         SELECT $5, e.id, 'waiting', 0, 0, $6, $6, $6",
        "AND e.id <= $7
         ON CONFLICT (endpoint_id, event_id) DO UPDATE SET state = 'waiting', tries = 0, due_at = excluded.due_at,
           updated_at = excluded.updated_at
         WHERE hook_deliveries.state <> 'waiting'"
    ))
    .bind(after)
    .bind(end)
    .bind(&endpoint.row.provider)
    .bind(&endpoint.row.channel)
    .bind(&endpoint.row.id)
    .bind(now)
    .bind(last)
    .execute(conn)
    .await?;
    Ok(())
}

async fn record(conn: &mut Conn, app: &App, endpoint_id: &str, done: &Replayed) -> Result<()> {
    let data = serde_json::json!({ "events": done.events });
    let entry = audit::Entry { action: "hook_replayed", subject: Some(endpoint_id), data, ..Default::default() };
    audit::insert(conn, app.now(), entry).await
}
