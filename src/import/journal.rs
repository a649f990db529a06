//! How far a file came (table `imports`).

use std::collections::BTreeMap;

use super::ImportError;
use crate::{
    app::App,
    db::{Conn, Millis, new_id},
    error::Result,
};

/// A file's row.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    pub id: String,
    pub rows_done: u64,
    pub counts: BTreeMap<String, u64>,
    pub ended_at: Option<Millis>,
}

/// The row of a file (kind, subject, hash), made where there is none; `again` begins an ended one anew.
pub async fn begin(app: &App, file: (&str, &str, &str), again: bool) -> Result<Entry, ImportError> {
    let (kind, subject, hash) = file;
    let now = app.now();
    let mut tx = app.db.begin().await?;
    sqlx::query(
        "INSERT INTO imports (id, kind, subject, file_hash, rows_done, counts, started_at, updated_at)
         VALUES ($1, $2, $3, $4, 0, '{}', $5, $5) ON CONFLICT DO NOTHING",
    )
    .bind(new_id(now))
    .bind(kind)
    .bind(subject)
    .bind(hash)
    .bind(now)
    .execute(&mut *tx)
    .await?;
    if again {
        sqlx::query(
            "UPDATE imports SET rows_done = 0, counts = '{}', started_at = $1, updated_at = $1, ended_at = NULL
             WHERE kind = $2 AND subject = $3 AND file_hash = $4 AND ended_at IS NOT NULL",
        )
        .bind(now)
        .bind(kind)
        .bind(subject)
        .bind(hash)
        .execute(&mut *tx)
        .await?;
    }
    let (id, rows_done, counts, ended_at): (String, i64, String, Option<Millis>) = sqlx::query_as(
        "SELECT id, rows_done, counts, ended_at FROM imports WHERE kind = $1 AND subject = $2 AND file_hash = $3",
    )
    .bind(kind)
    .bind(subject)
    .bind(hash)
    .fetch_one(&mut *tx)
    .await?;
    tx.commit().await?;
    let counts = serde_json::from_str(&counts).unwrap_or_default();
    Ok(Entry { id, rows_done: u64::try_from(rows_done).unwrap_or_default(), counts, ended_at })
}

/// Notes how far a file is now; false where it is not where this process left it.
pub async fn advance(conn: &mut Conn, now: Millis, entry: &Entry, from: u64) -> Result<bool> {
    let advanced = sqlx::query(
        "UPDATE imports SET rows_done = $1, counts = $2, updated_at = $3
         WHERE id = $4 AND rows_done = $5 AND ended_at IS NULL",
    )
    .bind(i64::try_from(entry.rows_done).unwrap_or(i64::MAX))
    .bind(serde_json::to_string(&entry.counts)?)
    .bind(now)
    .bind(&entry.id)
    .bind(i64::try_from(from).unwrap_or(i64::MAX))
    .execute(conn)
    .await?;
    Ok(advanced.rows_affected() == 1)
}

pub async fn end(app: &App, id: &str) -> Result<()> {
    sqlx::query("UPDATE imports SET ended_at = $1, updated_at = $1 WHERE id = $2")
        .bind(app.now())
        .bind(id)
        .execute(&mut *app.db.conn().await?)
        .await?;
    Ok(())
}
