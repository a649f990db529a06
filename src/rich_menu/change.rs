//! People who changed (table `menu_changes`), taken some thousands at a time; and overrides whose time is over.

use std::collections::BTreeMap;

use super::{
    fact::{self, Person},
    tell::{self, Move, Moves, Trouble, Work},
};
use crate::{
    app::App,
    db::{Conn, Millis},
    error::Result,
    menu_change,
};

/// Looked at in one go.
const AT_ONCE: i64 = 5_000;
/// Overrides that end in one transaction.
const ENDED_AT_ONCE: i64 = 500;

/// Whether somebody is to be looked at, or an override ended.
pub(super) async fn is_due(conn: &mut Conn, now: Millis, channel: &str) -> Result<bool> {
    let found: Option<i64> = sqlx::query_scalar(
        "SELECT CAST(1 AS BIGINT) WHERE EXISTS (SELECT 1 FROM menu_changes WHERE channel = $1 AND due_at <= $2)
           OR EXISTS (SELECT 1 FROM menu_overrides WHERE channel = $1 AND until <= $2)",
    )
    .bind(channel)
    .bind(now)
    .fetch_optional(conn)
    .await?;
    Ok(found.is_some())
}

/// Ends the overrides whose time is over: their members are looked at.
pub(super) async fn end_overrides(app: &App, channel: &str) -> Result<usize> {
    let now = app.now();
    let mut tx = app.db.begin().await?;
    let ended: Vec<String> = sqlx::query_scalar(
        "DELETE FROM menu_overrides WHERE channel = $1 AND member_id IN (
           SELECT member_id FROM menu_overrides WHERE channel = $1 AND until <= $2 ORDER BY until LIMIT $3)
         AND until <= $2 RETURNING member_id",
    )
    .bind(channel)
    .bind(now)
    .bind(ENDED_AT_ONCE)
    .fetch_all(&mut *tx)
    .await?;
    menu_change::of_members(&mut tx, app, &ended).await?;
    tx.commit().await?;
    Ok(ended.len())
}

/// Looks at the people who changed first, and tells LINE of those who should see something else now; gives how many were
/// looked at.
pub(super) async fn take(work: &Work<'_>) -> Result<usize, Trouble> {
    let (app, channel) = (work.app(), work.channel());
    let mut conn = app.db.conn().await?;
    // The marks first: what commits after this has another one.
    let marks = list(&mut conn, app.now(), channel).await?;
    if marks.is_empty() {
        return Ok(0);
    }
    let ids: Vec<String> = marks.keys().cloned().collect();
    let people = fact::list(&mut conn, app, channel, &ids, work.choices.asks_member).await?;
    let (mut moves, mut strangers) = (Moves::default(), Vec::new());
    let mut done: BTreeMap<&str, &str> = marks.iter().map(|(id, (mark, _))| (id.as_str(), mark.as_str())).collect();
    for person in &people {
        let Some((mark, tries)) = marks.get(&person.id) else { continue };
        if !person.is_reached() {
            strangers.push(person.id.clone());
        } else if *tries > 0 || is_other(work, person) {
            moves.add(work.choices.own(person), Move::of_change(person, mark, *tries));
            done.remove(person.id.as_str());
        }
    }
    tell::forget(&mut conn, &app.db, channel, &strangers).await?;
    let done: Vec<(&str, &str)> = done.into_iter().collect();
    tell::forget_changes(&mut conn, &app.db, channel, &done).await?;
    drop(conn);
    work.tell(&mut moves, true).await?;
    Ok(marks.len())
}

/// Whether a person should see something else than they were told.
pub(super) fn is_other(work: &Work<'_>, person: &Person) -> bool {
    work.choices.own(person).map(|menu| &menu.rich_menu_id) != person.told.rich_menu_id.as_ref()
}

async fn list(conn: &mut Conn, now: Millis, channel: &str) -> Result<BTreeMap<String, (String, i64)>> {
    let rows: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT line_user_id, mark, tries FROM menu_changes WHERE channel = $1 AND due_at <= $2
         ORDER BY due_at LIMIT $3",
    )
    .bind(channel)
    .bind(now)
    .bind(AT_ONCE)
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|(id, mark, tries)| (id, (mark, tries))).collect())
}
