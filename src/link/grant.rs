//! Grants (table `grants`): a person's tokens at LINE, sealed, kept so that the unlink can be carried out.

use std::time::Duration;

use crate::{
    app::App,
    db::{Conn, Millis},
    error::Result,
    line::login::{REFRESH_LIFE, UserTokens},
};

/// Whose a grant is until somebody confirms, and after.
#[derive(Debug, Clone, Copy)]
pub enum Holder<'a> {
    Attempt(&'a str),
    Link(&'a str),
}

/// Whose tokens they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ours, of LINE Login.
    Web,
    /// A LIFF app's: the page uses it too, for hours. It is forgotten in the end, and not revoked.
    Liff,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Liff => "liff",
        }
    }
}

/// A grant with its tokens opened.
#[derive(Debug)]
pub struct Grant {
    pub id: String,
    pub provider: String,
    pub link_id: Option<String>,
    pub is_liff: bool,
    pub tokens: UserTokens,
    pub access_expires_at: Millis,
    pub refresh_expires_at: Millis,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    provider: String,
    link_id: Option<String>,
    kind: String,
    sealed: String,
    access_expires_at: Millis,
    refresh_expires_at: Millis,
}

/// A grant to be.
pub struct New<'a> {
    pub id: &'a str,
    pub provider: &'a str,
    pub line_user_id: &'a str,
    pub holder: Holder<'a>,
    pub kind: Kind,
    pub tokens: &'a UserTokens,
    pub expires_in: Duration,
}

/// Seals and keeps tokens; false where this grant is kept already.
pub async fn insert(conn: &mut Conn, app: &App, new: &New<'_>) -> Result<bool> {
    let now = app.now();
    let (attempt_id, link_id) = match new.holder {
        Holder::Attempt(id) => (Some(id), None),
        Holder::Link(id) => (None, Some(id)),
    };
    let life = if new.kind == Kind::Web { REFRESH_LIFE } else { new.expires_in };
    let inserted = sqlx::query(
        "INSERT INTO grants (id, provider, line_user_id, link_id, attempt_id, sealed, access_expires_at,
           refresh_expires_at, created_at, checked_at, kind)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10) ON CONFLICT (id) DO NOTHING",
    )
    .bind(new.id)
    .bind(new.provider)
    .bind(new.line_user_id)
    .bind(link_id)
    .bind(attempt_id)
    .bind(seal(app, new.id, new.tokens)?)
    .bind(now.plus(new.expires_in))
    .bind(now.plus(life))
    .bind(now)
    .bind(new.kind.word())
    .execute(conn)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// The attempt was confirmed: its grant is the link's from now on.
pub async fn give_to_link(conn: &mut Conn, attempt_id: &str, link_id: &str) -> Result<()> {
    sqlx::query("UPDATE grants SET link_id = $1 WHERE attempt_id = $2 AND ended_at IS NULL")
        .bind(link_id)
        .bind(attempt_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// The live grants of a link, first the one that lives longest: it carries out the unlink.
pub async fn list_of_link(conn: &mut Conn, link_id: &str) -> Result<Vec<String>> {
    let ids = sqlx::query_scalar(
        "SELECT id FROM grants WHERE link_id = $1 AND ended_at IS NULL
         ORDER BY refresh_expires_at DESC, id DESC",
    )
    .bind(link_id)
    .fetch_all(conn)
    .await?;
    Ok(ids)
}

/// The live grants of a link whose place a new one of this kind takes. A LIFF app's lives for hours, so that it takes only
/// that of its like.
pub async fn list_superseded(conn: &mut Conn, link_id: &str, kind: Kind) -> Result<Vec<String>> {
    let ids = sqlx::query_scalar(
        "SELECT id FROM grants WHERE link_id = $1 AND ended_at IS NULL AND ($2 = 'web' OR kind = $2)",
    )
    .bind(link_id)
    .bind(kind.word())
    .fetch_all(conn)
    .await?;
    Ok(ids)
}

/// How many grants a link ever had, and how many of them live.
pub async fn count(conn: &mut Conn, link_id: &str) -> Result<(i64, i64)> {
    let counts = sqlx::query_as(
        "SELECT CAST(COUNT(*) AS BIGINT), CAST(COUNT(*) - COUNT(ended_at) AS BIGINT) FROM grants WHERE link_id = $1",
    )
    .bind(link_id)
    .fetch_one(conn)
    .await?;
    Ok(counts)
}

pub async fn list_of_attempt(conn: &mut Conn, attempt_id: &str) -> Result<Vec<String>> {
    let ids =
        sqlx::query_scalar("SELECT id FROM grants WHERE attempt_id = $1 AND link_id IS NULL AND ended_at IS NULL")
            .bind(attempt_id)
            .fetch_all(conn)
            .await?;
    Ok(ids)
}

/// A live grant; none once it is erased.
pub async fn find(conn: &mut Conn, app: &App, id: &str) -> Result<Option<Grant>> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT id, provider, link_id, kind, sealed, access_expires_at, refresh_expires_at FROM grants
         WHERE id = $1 AND ended_at IS NULL AND sealed IS NOT NULL",
    )
    .bind(id)
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let tokens = serde_json::from_slice(&app.sealer.open(&context(&row.id), &row.sealed)?)?;
    Ok(Some(Grant {
        id: row.id,
        provider: row.provider,
        link_id: row.link_id,
        is_liff: row.kind == Kind::Liff.word(),
        tokens,
        access_expires_at: row.access_expires_at,
        refresh_expires_at: row.refresh_expires_at,
    }))
}

/// Keeps refreshed tokens; the refresh token's own end never moves.
pub async fn update(conn: &mut Conn, app: &App, id: &str, tokens: &UserTokens, expires_in: Duration) -> Result<()> {
    sqlx::query("UPDATE grants SET sealed = $1, access_expires_at = $2 WHERE id = $3 AND ended_at IS NULL")
        .bind(seal(app, id, tokens)?)
        .bind(app.now().plus(expires_in))
        .bind(id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Ends a grant and forgets its tokens.
pub async fn erase(conn: &mut Conn, now: Millis, id: &str, reason: &str) -> Result<()> {
    sqlx::query("UPDATE grants SET sealed = NULL, ended_at = $1, end_reason = $2 WHERE id = $3 AND ended_at IS NULL")
        .bind(now)
        .bind(reason)
        .bind(id)
        .execute(conn)
        .await?;
    Ok(())
}

fn seal(app: &App, id: &str, tokens: &UserTokens) -> Result<String> {
    Ok(app.sealer.seal(&context(id), &serde_json::to_vec(tokens)?)?)
}

/// The row that sealed tokens belong to.
pub fn context(id: &str) -> String {
    format!("grant:{id}")
}
