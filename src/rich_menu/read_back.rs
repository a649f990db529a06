//! Reading a person's menu at LINE, and mending what differs: of a sample of each request for many (table
//! `menu_checks`), and, by a paced routine, of all who have a menu of their own.
//!
//! A tab of the same group is what the person chose, and stays. Of whoever is not known to be a friend LINE tells
//! nothing: nothing follows from that.

use std::time::Duration;

use super::{
    fact::{self, Person},
    tell::{self, Trouble, Work},
};
use crate::{
    app::App,
    db::{Conn, Millis},
    error::Result,
    line_user::Friend,
    menu_change::{self, Change},
};

/// Read back in one go.
const AT_ONCE: i64 = 20;
/// The routine's questions, once a second.
pub(super) const A_SECOND: i64 = 3;
/// Nobody is asked about again before.
const OLD: Duration = Duration::from_secs(24 * 3600);
/// When it is tried again where LINE does not tell.
const LATER: Duration = Duration::from_secs(60);
/// What LINE took so often and did not do is left to the routine.
const MOST_TRIES: i64 = 3;

/// A person to be read back.
#[derive(Debug, sqlx::FromRow)]
struct Due {
    line_user_id: String,
    request: Option<String>,
    tries: i64,
}

/// Whether somebody is to be read back.
pub(super) async fn is_due(conn: &mut Conn, now: Millis, channel: &str) -> Result<bool> {
    let found: Option<String> =
        sqlx::query_scalar("SELECT line_user_id FROM menu_checks WHERE channel = $1 AND due_at <= $2 LIMIT 1")
            .bind(channel)
            .bind(now)
            .fetch_optional(conn)
            .await?;
    Ok(found.is_some())
}

/// Reads the samples back; where one is not so, all of its request are told again. Gives how many were read.
pub(super) async fn take(work: &Work<'_>) -> Result<usize, Trouble> {
    let (app, channel) = (work.app(), work.channel());
    let due = list_due(&mut *app.db.conn().await?, app.now(), channel).await?;
    for one in &due {
        let person = fact::find(&mut *app.db.conn().await?, app, channel, &one.line_user_id).await?;
        // Told something else since: that has a sample of its own.
        let is_current = |person: &Person| one.request.is_none() || person.told.request == one.request;
        let wrong = match person.filter(|person| is_current(person) && is_friend(person)) {
            Some(person) => match is_so(work, &person).await {
                Ok(is_so) => !is_so,
                Err(trouble) => {
                    // Other work does not wait for it.
                    let later = app.now().plus(LATER);
                    tell::want_check(
                        &mut *app.db.conn().await?,
                        later,
                        channel,
                        &one.line_user_id,
                        one.request.as_deref(),
                        one.tries,
                    )
                    .await?;
                    return Err(trouble);
                }
            },
            None => false,
        };
        let mut tx = app.db.begin().await?;
        if wrong {
            again(&mut tx, app, channel, one).await?;
        }
        forget_check(&mut tx, channel, &one.line_user_id).await?;
        tx.commit().await?;
    }
    Ok(due.len())
}

/// The routine: asks about the next of those who were not read for the longest time, and has told again who differs.
/// Gives how many were asked about.
pub(super) async fn drift(work: &Work<'_>) -> Result<usize, Trouble> {
    let (app, channel) = (work.app(), work.channel());
    let mut conn = app.db.conn().await?;
    let ids = list_old(&mut conn, app.now().minus(OLD), channel).await?;
    let people = fact::list(&mut conn, app, channel, &ids, work.choices.asks_member).await?;
    let (friends, others): (Vec<Person>, Vec<Person>) = people.into_iter().partition(is_friend);
    // Not asked about, and not in the way of those who are.
    for person in others {
        if person.is_reached() {
            set_checked(&mut conn, app.now(), channel, &person.id).await?;
        } else {
            tell::forget(&mut conn, &app.db, channel, &[person.id]).await?;
        }
    }
    drop(conn);
    for person in &friends {
        if !is_so(work, person).await? {
            tracing::warn!(line_user = person.id, channel, "a menu at LINE was another one; it is set again");
            let one = Due { line_user_id: person.id.clone(), request: None, tries: 0 };
            again(&mut *app.db.conn().await?, app, channel, &one).await?;
            set_checked(&mut *app.db.conn().await?, app.now(), channel, &person.id).await?;
        }
    }
    Ok(friends.len())
}

fn is_friend(person: &Person) -> bool {
    person.facts.friend == Friend::Yes && person.is_reached()
}

/// Whether LINE shows the person what they should see.
async fn is_so(work: &Work<'_>, person: &Person) -> Result<bool, Trouble> {
    let user_id = person.user_id.as_str();
    let found = work.remote.call(|line, token| async move { line.rich_menu_of(&token, user_id).await }).await;
    let found = match found {
        Ok(found) => found,
        // It is the person that LINE does not take, not the menu.
        Err(crate::line::Error::Refused { status: 400, .. }) => return Ok(true),
        Err(error) => return Err(Trouble::of(&error)),
    };
    let is_right = work.choices.is_right(work.choices.own(person), found.as_deref());
    if is_right {
        let mut conn = work.app().db.conn().await?;
        set_checked(&mut conn, work.app().now(), work.channel(), &person.id).await?;
    }
    Ok(is_right)
}

/// Has a person told again, with all who were told in the same request.
async fn again(conn: &mut Conn, app: &App, channel: &str, one: &Due) -> Result<()> {
    if one.tries >= MOST_TRIES {
        tracing::error!(channel, line_user = one.line_user_id, "LINE takes this person's menu, and does not show it");
        return Ok(());
    }
    let people = match &one.request {
        Some(request) => list_request(conn, channel, request).await?,
        None => vec![one.line_user_id.clone()],
    };
    let change =
        |line_user_id| Change { channel: channel.to_owned(), line_user_id, due_at: app.now(), tries: one.tries + 1 };
    let list: Vec<Change> = people.into_iter().map(change).collect();
    menu_change::insert(conn, &app.db, app.now(), &list).await
}

async fn list_due(conn: &mut Conn, now: Millis, channel: &str) -> Result<Vec<Due>> {
    let due = sqlx::query_as(
        "SELECT line_user_id, request, tries FROM menu_checks WHERE channel = $1 AND due_at <= $2
         ORDER BY due_at LIMIT $3",
    )
    .bind(channel)
    .bind(now)
    .bind(AT_ONCE)
    .fetch_all(conn)
    .await?;
    Ok(due)
}

async fn list_old(conn: &mut Conn, before: Millis, channel: &str) -> Result<Vec<String>> {
    let ids = sqlx::query_scalar(
        "SELECT line_user_id FROM user_menus
         WHERE channel = $1 AND checked_at < $2 AND rich_menu_id IS NOT NULL AND refused IS NULL
         ORDER BY checked_at LIMIT $3",
    )
    .bind(channel)
    .bind(before)
    .bind(A_SECOND)
    .fetch_all(conn)
    .await?;
    Ok(ids)
}

async fn list_request(conn: &mut Conn, channel: &str, request: &str) -> Result<Vec<String>> {
    let ids = sqlx::query_scalar("SELECT line_user_id FROM user_menus WHERE request = $1 AND channel = $2")
        .bind(request)
        .bind(channel)
        .fetch_all(conn)
        .await?;
    Ok(ids)
}

async fn set_checked(conn: &mut Conn, now: Millis, channel: &str, line_user_id: &str) -> Result<()> {
    sqlx::query("UPDATE user_menus SET checked_at = $1 WHERE line_user_id = $2 AND channel = $3")
        .bind(now)
        .bind(line_user_id)
        .bind(channel)
        .execute(conn)
        .await?;
    Ok(())
}

async fn forget_check(conn: &mut Conn, channel: &str, line_user_id: &str) -> Result<()> {
    sqlx::query("DELETE FROM menu_checks WHERE channel = $1 AND line_user_id = $2")
        .bind(channel)
        .bind(line_user_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Whether somebody was not asked about for long.
pub(super) async fn is_old(conn: &mut Conn, now: Millis, channel: &str) -> Result<bool> {
    Ok(!list_old(conn, now.minus(OLD), channel).await?.is_empty())
}
