//! A message to all linked members: its deliveries queued in batches, by the statements alone. What the outbox does
//! besides is measured against it.

use std::time::{Duration, Instant};

use musubi::db::Db;

/// Recipients of one transaction.
const BATCH: i64 = 5000;
const MESSAGE: &str = "00000009-0000-7000-8000-000000000000";

/// The other process: queues the message, and tells how many recipients it has, in how many milliseconds, and those of
/// the longest transaction.
#[tokio::main]
pub async fn expand(database: &str) {
    let db = Db::connect(database).await.unwrap();
    let mut conn = db.conn().await.unwrap();
    sqlx::query(
        "INSERT INTO messages (id, channel, lane, cause, template, locale, accepted, created_at)
         VALUES ($1, 'main', 'bulk', 'load', 'welcome', 'ja', 0, 1)",
    )
    .bind(MESSAGE)
    .execute(&mut *conn)
    .await
    .unwrap();
    drop(conn);
    let (mut queued, mut last, mut longest) = (0, Some(String::new()), Duration::ZERO);
    let start = Instant::now();
    while let Some(after) = last {
        let begun = Instant::now();
        last = batch(&db, &after, &mut queued).await;
        longest = longest.max(begun.elapsed());
    }
    println!("{queued} {} {}", ms(start.elapsed()), ms(longest));
    std::future::pending::<()>().await;
}

/// One transaction; gives the last link that was looked at, none when there is no other.
async fn batch(db: &Db, after: &str, queued: &mut i64) -> Option<String> {
    let mut tx = db.begin().await.unwrap();
    let last: Option<String> =
        sqlx::query_scalar("SELECT MAX(id) FROM (SELECT id FROM links WHERE id > $1 ORDER BY id LIMIT $2) AS next")
            .bind(after)
            .bind(BATCH)
            .fetch_one(&mut *tx)
            .await
            .unwrap();
    let added = sqlx::query(
        "INSERT INTO deliveries (message_id, seq, channel, lane, member_id, line_user_id, link_id, state, attempts,
           order_at, due_at, created_at, updated_at)
         SELECT $1, $2 + ROW_NUMBER() OVER (ORDER BY l.id), 'main', 'bulk', l.member_id, l.line_user_id, l.id,
           'waiting', 0, 1, 1, 1, 1
         FROM links l
         LEFT JOIN friends f ON f.line_user_id = l.line_user_id AND f.channel = 'main'
         WHERE l.id > $3 AND l.id <= $4 AND l.provider = 'main' AND l.ended_at IS NULL AND l.suspended_at IS NULL
           AND (f.friend IS NULL OR f.friend <> 'no')",
    )
    .bind(MESSAGE)
    .bind(*queued)
    .bind(after)
    .bind(&last)
    .execute(&mut *tx)
    .await
    .unwrap();
    *queued += i64::try_from(added.rows_affected()).unwrap();
    sqlx::query("UPDATE messages SET accepted = $1, expanded_to = $2 WHERE id = $3")
        .bind(*queued)
        .bind(&last)
        .bind(MESSAGE)
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    last
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
