//! Profiles as LINE tells them: read when a person follows, when they write after a day, and by a slow routine.

use std::time::Duration;

use super::{Friend, storable};
use crate::{
    app::App,
    channel::{self, Kind},
    db::{Conn, Millis},
    error::Result,
    line,
    line::profile::BotProfile,
    menu_change,
    queue::{self, Job, Outcome},
};

/// A profile this old is read again when its person shows up.
pub const STALE: Duration = Duration::from_secs(24 * 3600);
/// What the routine takes at a time, once a minute.
const AT_ONCE: i64 = 30;
/// When the routine finds a linked person's profile old.
const OLD: Duration = Duration::from_secs(7 * 24 * 3600);

/// Has the profile read where it is older than `max_age`, by this channel.
pub async fn want(conn: &mut Conn, app: &App, line_user_id: &str, channel: &str, max_age: Duration) -> Result<()> {
    let now = app.now();
    let old: Option<String> = sqlx::query_scalar("SELECT id FROM line_users WHERE id = $1 AND profile_at <= $2")
        .bind(line_user_id)
        .bind(now.minus(max_age))
        .fetch_optional(&mut *conn)
        .await?;
    if old.is_none() {
        return Ok(());
    }
    let sync = Job::SyncProfile { line_user_id: line_user_id.to_owned(), channel: channel.to_owned() };
    queue::enqueue_once(conn, now, now, &sync).await
}

/// The routine's step: the linked people whose profiles are the oldest. Gives their number.
pub async fn want_old(app: &App) -> Result<usize> {
    let now = app.now();
    let mut tx = app.db.begin().await?;
    let mut found = 0;
    for provider in app.config.provider.keys() {
        let Some(first) = app.config.channels_of(provider).next() else { continue };
        for line_user_id in list_old(&mut tx, now.minus(OLD), provider).await? {
            let friend_of = find_friend_channel(&mut tx, &line_user_id).await?;
            let known = friend_of.filter(|channel| app.config.channel.contains_key(channel));
            let channel = known.unwrap_or_else(|| first.clone());
            queue::enqueue_once(&mut tx, now, now, &Job::SyncProfile { line_user_id, channel }).await?;
            found += 1;
        }
    }
    tx.commit().await?;
    Ok(found)
}

/// [`Job::SyncProfile`]. Where LINE does not give the profile, it is not known whether they are a friend still: a 404
/// has several causes. A link stays as it is.
pub async fn sync(app: &App, line_user_id: &str, channel: &str) -> Result<Outcome> {
    let asked_at = app.now();
    let Some(user_id) = find_user_id(&mut *app.db.conn().await?, line_user_id).await? else {
        return Ok(Outcome::Done);
    };
    let user = user_id.as_str();
    let profile_of = |token| async move { app.line.profile_of(&token, user).await };
    let profile = match channel::call(app, Kind::Bot(channel), profile_of).await {
        // Somebody else's would be a fault of LINE's, and is not kept.
        Ok(profile) => profile.filter(|profile| profile.user_id == user_id),
        Err(error) => return Ok(outcome_of(&error)),
    };
    let mut tx = app.db.begin().await?;
    match profile {
        Some(profile) => {
            let before = find_language(&mut tx, line_user_id).await?;
            update(&mut tx, asked_at, line_user_id, &profile).await?;
            let provider = app.config.channel.get(channel).map(|known| known.provider.as_str());
            if let Some(provider) = provider.filter(|_| profile.language.is_some() && profile.language != before) {
                menu_change::of_line_user(&mut tx, app, provider, line_user_id).await?;
            }
        }
        None => {
            touch(&mut tx, asked_at, line_user_id).await?;
            doubt_friend(&mut tx, asked_at, line_user_id, channel).await?;
        }
    }
    tx.commit().await?;
    Ok(Outcome::Done)
}

/// Nobody waits for a profile: what LINE refuses for good is left until the next cause.
fn outcome_of(error: &line::Error) -> Outcome {
    let is_passing = error.is_passing() || matches!(error, line::Error::Refused { status: 401, .. });
    if is_passing {
        return Outcome::retry(error);
    }
    tracing::warn!(%error, "a profile was not read");
    Outcome::Done
}

async fn list_old(conn: &mut Conn, before: Millis, provider: &str) -> Result<Vec<String>> {
    let ids = sqlx::query_scalar(
        "SELECT u.id FROM line_users u
         WHERE u.profile_at < $1 AND u.provider = $2
           AND EXISTS (SELECT 1 FROM links l WHERE l.line_user_id = u.id AND l.ended_at IS NULL)
         ORDER BY u.profile_at LIMIT $3",
    )
    .bind(before)
    .bind(provider)
    .bind(AT_ONCE)
    .fetch_all(conn)
    .await?;
    Ok(ids)
}

/// A channel that may read this person's profile.
async fn find_friend_channel(conn: &mut Conn, line_user_id: &str) -> Result<Option<String>> {
    let channel = sqlx::query_scalar(
        "SELECT channel FROM friends WHERE line_user_id = $1 AND friend = $2 ORDER BY channel LIMIT 1",
    )
    .bind(line_user_id)
    .bind(Friend::Yes.word())
    .fetch_optional(conn)
    .await?;
    Ok(channel)
}

/// LINE's id of somebody who was not erased.
async fn find_user_id(conn: &mut Conn, id: &str) -> Result<Option<String>> {
    let user_id: Option<String> =
        sqlx::query_scalar("SELECT user_id FROM line_users WHERE id = $1").bind(id).fetch_optional(conn).await?;
    Ok(user_id.filter(|user_id| line::is_user_id(user_id)))
}

async fn find_language(conn: &mut Conn, id: &str) -> Result<Option<String>> {
    let language: Option<Option<String>> =
        sqlx::query_scalar("SELECT language FROM line_users WHERE id = $1").bind(id).fetch_optional(conn).await?;
    Ok(language.flatten())
}

/// Keeps a profile, unless a newer one is kept, or the person was erased meanwhile.
async fn update(conn: &mut Conn, at: Millis, id: &str, profile: &BotProfile) -> Result<()> {
    sqlx::query(
        "UPDATE line_users SET display_name = $1, picture_url = $2, language = COALESCE($3, language), profile_at = $4
         WHERE id = $5 AND user_id = $6 AND profile_at <= $4",
    )
    .bind(storable(&profile.display_name))
    .bind(profile.picture_url.as_deref().map(storable))
    .bind(profile.language.as_deref().map(storable))
    .bind(at)
    .bind(id)
    .bind(&profile.user_id)
    .execute(conn)
    .await?;
    Ok(())
}

/// Asked in vain: not asked again at once.
async fn touch(conn: &mut Conn, at: Millis, id: &str) -> Result<()> {
    sqlx::query("UPDATE line_users SET profile_at = $1 WHERE id = $2 AND profile_at < $1")
        .bind(at)
        .bind(id)
        .execute(conn)
        .await?;
    Ok(())
}

/// A friend by an older fact may be one still, or not.
///
/// The fact keeps its time: an event of before the question that comes after it is newer word still.
async fn doubt_friend(conn: &mut Conn, at: Millis, line_user_id: &str, channel: &str) -> Result<()> {
    sqlx::query(
        "UPDATE friends SET friend = $1
         WHERE line_user_id = $2 AND channel = $3 AND friend = $4 AND changed_at <= $5",
    )
    .bind(Friend::Unknown.word())
    .bind(line_user_id)
    .bind(channel)
    .bind(Friend::Yes.word())
    .bind(at)
    .execute(conn)
    .await?;
    Ok(())
}
