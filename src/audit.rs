//! The audit: who did what to which account, and what was refused and why. Rows are only ever added.
//!
//! A row commits in the transaction of the thing it tells of, so that neither exists without the other.

use std::{future::Future, sync::LazyLock};

use serde_json::Value;

use crate::{
    db::{Conn, Db, Millis, Rows, new_id},
    error::Result,
};

tokio::task_local! {
    /// Who acts where it is not the person themselves, LINE, or a command on the machine.
    static ACTOR: String;
}

/// Runs `deeds`; every row that they write names the actor, such as `key:K7MPQ2XA`. So no verb can forget it.
pub async fn acting<F: Future>(actor: String, deeds: F) -> F::Output {
    ACTOR.scope(actor, deeds).await
}

/// One row to be written. `data` holds what helps to understand it, never a token or a secret.
#[derive(Debug, Default)]
pub struct Entry<'a> {
    pub action: &'a str,
    pub reason: Option<&'a str>,
    pub member_id: Option<&'a str>,
    pub subject: Option<&'a str>,
    pub provider: Option<&'a str>,
    pub address: Option<&'a str>,
    pub data: Value,
}

pub async fn insert(conn: &mut Conn, now: Millis, entry: Entry<'_>) -> Result<()> {
    sqlx::query(
        "INSERT INTO audit (id, at, action, reason, member_id, subject, provider, address, data, actor)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(new_id(now))
    .bind(now)
    .bind(entry.action)
    .bind(entry.reason)
    .bind(entry.member_id)
    .bind(entry.subject)
    .bind(entry.provider)
    .bind(entry.address)
    .bind(if entry.data.is_null() { "{}".to_owned() } else { entry.data.to_string() })
    .bind(ACTOR.try_with(Clone::clone).ok())
    .execute(conn)
    .await?;
    Ok(())
}

/// One of many rows to be written at a time.
#[derive(Debug, Clone)]
pub struct Row {
    pub action: &'static str,
    pub member_id: String,
    pub subject: Option<String>,
    pub provider: Option<String>,
    /// JSON, as of [`Entry`].
    pub data: String,
}

/// [`insert`] for many.
pub async fn insert_many(conn: &mut Conn, db: &Db, now: Millis, list: &[Row]) -> Result<()> {
    static INSERT: LazyLock<Rows> = LazyLock::new(|| {
        Rows::new(
            "INSERT INTO audit (id, at, action, member_id, subject, provider, data, actor) VALUES",
            8,
            "ON CONFLICT DO NOTHING",
        )
    });
    let actor = ACTOR.try_with(Clone::clone).ok();
    let list: Vec<(String, &Row)> = list.iter().map(|row| (new_id(now), row)).collect();
    for (text, rows) in INSERT.pieces(db, &list) {
        let mut insert = sqlx::query(text);
        for (id, row) in rows {
            insert = insert.bind(id).bind(now).bind(row.action).bind(&row.member_id).bind(&row.subject);
            insert = insert.bind(&row.provider).bind(&row.data).bind(&actor);
        }
        insert.execute(&mut *conn).await?;
    }
    Ok(())
}
