//! LINE users (tables `line_users`, `friends`): who they are by LINE's word, and whether they are friends.
//!
//! A LINE user is `(provider, user id)`; name and picture are what the person chose, and prove nothing.

pub mod profile;

use serde::{Deserialize, Serialize};

use crate::{
    db::{Conn, Millis, new_id},
    error::Result,
};

/// A LINE user as last seen.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct LineUser {
    pub id: String,
    pub provider: String,
    pub user_id: String,
    pub display_name: String,
    pub picture_url: Option<String>,
}

/// What LINE told of a person.
#[derive(Debug, Clone)]
pub struct Profile {
    pub user_id: String,
    pub display_name: String,
    pub picture_url: Option<String>,
    /// BCP 47; LINE Login does not tell it.
    pub language: Option<String>,
}

/// Whether a LINE user is a friend of a channel's official account. Unknown is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Friend {
    Yes,
    No,
    Unknown,
}

impl Friend {
    pub fn word(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
        }
    }

    pub fn of_word(word: Option<&str>) -> Self {
        match word {
            Some("yes") => Self::Yes,
            Some("no") => Self::No,
            _ => Self::Unknown,
        }
    }
}

/// Keeps a profile; gives the LINE user's id here.
pub async fn upsert(conn: &mut Conn, now: Millis, provider: &str, profile: &Profile) -> Result<String> {
    let id = sqlx::query_scalar(
        "INSERT INTO line_users (id, provider, user_id, display_name, picture_url, language, profile_at, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7)
         ON CONFLICT (provider, user_id) DO UPDATE SET
           display_name = excluded.display_name, picture_url = excluded.picture_url,
           language = COALESCE(excluded.language, line_users.language), profile_at = excluded.profile_at
         RETURNING id",
    )
    .bind(new_id(now))
    .bind(provider)
    .bind(&profile.user_id)
    .bind(storable(&profile.display_name))
    .bind(profile.picture_url.as_deref().map(storable))
    .bind(profile.language.as_deref().map(storable))
    .bind(now)
    .fetch_one(conn)
    .await?;
    Ok(id)
}

/// The id here of somebody of whom LINE told nothing but the user id, as in an event; their profile is read later.
pub async fn meet(conn: &mut Conn, now: Millis, provider: &str, user_id: &str) -> Result<String> {
    let known: Option<String> = sqlx::query_scalar("SELECT id FROM line_users WHERE provider = $1 AND user_id = $2")
        .bind(provider)
        .bind(user_id)
        .fetch_optional(&mut *conn)
        .await?;
    if let Some(id) = known {
        return Ok(id);
    }
    let id = sqlx::query_scalar(
        "INSERT INTO line_users (id, provider, user_id, display_name, profile_at, created_at)
         VALUES ($1, $2, $3, '', 0, $4)
         ON CONFLICT (provider, user_id) DO UPDATE SET provider = excluded.provider
         RETURNING id",
    )
    .bind(new_id(now))
    .bind(provider)
    .bind(user_id)
    .bind(now)
    .fetch_one(conn)
    .await?;
    Ok(id)
}

pub async fn find(conn: &mut Conn, id: &str) -> Result<Option<LineUser>> {
    let found = sqlx::query_as("SELECT id, provider, user_id, display_name, picture_url FROM line_users WHERE id = $1")
        .bind(id)
        .fetch_optional(conn)
        .await?;
    Ok(found)
}

/// Holds the LINE user until the end of the transaction, as [`upsert`] does: what decides over their link comes
/// one by one, also on PostgreSQL, where two transactions would not see each other.
pub async fn lock(conn: &mut Conn, id: &str) -> Result<()> {
    sqlx::query("UPDATE line_users SET provider = provider WHERE id = $1").bind(id).execute(conn).await?;
    Ok(())
}

/// Keeps a friend fact of a time, LINE's where LINE names one; false where a newer one is known.
pub async fn set_friend(
    conn: &mut Conn,
    at: Millis,
    line_user_id: &str,
    channel: &str,
    friend: Friend,
) -> Result<bool> {
    let set = sqlx::query(
        "INSERT INTO friends (line_user_id, channel, friend, changed_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (line_user_id, channel) DO UPDATE SET friend = excluded.friend, changed_at = excluded.changed_at
         WHERE friends.changed_at <= excluded.changed_at",
    )
    .bind(line_user_id)
    .bind(channel)
    .bind(friend.word())
    .bind(at)
    .execute(conn)
    .await?;
    Ok(set.rows_affected() == 1)
}

/// PostgreSQL takes no NUL in a text; other control characters have no place in a name either.
pub fn storable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}
