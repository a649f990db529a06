//! Sessions (table `sessions`): who is signed in, since when and how, judged by our clock on each request.
//!
//! The cookie holds 256 random bits; the table holds their hash. A row is made at sign-in in the sign-in's
//! own transaction, is never re-created, and is deleted at its end, so that nothing can bring it back.
//!
//! Every change of what a browser may do gives it a new id: the old one is dead from the commit on. What makes or
//! ends sessions of a member holds the member's row, so that no session slips past an end to all of them.

use std::time::Duration;

use axum::http::StatusCode;

use super::{Member, hold};
use crate::{
    app::App,
    audit,
    db::{Conn, Db, Millis},
    error::{Error, NextStep, Refusal, Result},
    mail::{self, Mail},
    seal,
    web::visit::Visit,
};

const IDLE: Duration = Duration::from_secs(7 * 24 * 3600);
const ABSOLUTE: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a password counts as just given.
pub const FRESH: Duration = Duration::from_secs(10 * 60);
/// Last-seen is written at most this often.
const TOUCH: Duration = Duration::from_secs(60);
/// Live sessions of one member; the next sign-in ends the one that was not seen for longest.
pub const AT_MOST: i64 = 10;

/// How a session was made. LINE's silent sign-in never counts as a proof of the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    Password,
    /// A code by mail, for members without a password.
    Code,
    /// Through this link; the session ends with it.
    Line {
        link_id: String,
    },
    /// At the company's provider, which may be as silent, unless it says when the person proved to be there just now.
    Oidc {
        proved_at: Option<Millis>,
    },
}

/// A live session with what is known of its member.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Session {
    pub id_hash: String,
    pub member_id: String,
    pub lineage_id: String,
    pub method: String,
    pub authenticated_at: Millis,
    pub last_seen_at: Millis,
    pub idle_expires_at: Millis,
    pub expires_at: Millis,
    pub name: String,
    pub email: String,
    pub locale: Option<String>,
    pub disabled_at: Option<Millis>,
}

/// A live session as its member sees it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Listed {
    pub lineage_id: String,
    pub method: String,
    pub created_at: Millis,
    pub last_seen_at: Millis,
    pub user_agent: String,
    pub address: String,
}

impl Session {
    /// Whether the member proved to be there within the last ten minutes: by the password, by a code by mail, or at the
    /// company's provider.
    pub fn is_fresh(&self, now: Millis) -> bool {
        self.method != "line" && now < self.authenticated_at.plus(FRESH)
    }
}

/// Makes a session for a member who just proved to be one; gives the cookie's value.
pub async fn start(conn: &mut Conn, app: &App, visit: &Visit, member_id: &str, method: &Method) -> Result<String> {
    replace(conn, app, visit, None, member_id, method).await
}

/// [`start`], in a browser that had another session, anybody's: that one ends.
pub async fn replace(
    conn: &mut Conn,
    app: &App,
    visit: &Visit,
    old: Option<&Session>,
    member_id: &str,
    method: &Method,
) -> Result<String> {
    let member = hold(conn, &app.db, member_id).await?.ok_or_else(unavailable)?;
    if let Some(old) = old {
        end(conn, &old.id_hash).await?;
    }
    make_room(conn, app, visit, &member).await?;
    insert(conn, app, visit, member_id, &app.new_id(), method).await
}

/// Replaces a session by one just authenticated by `method`, of the same lineage; none where it ended meanwhile.
pub async fn rotate(
    conn: &mut Conn,
    app: &App,
    visit: &Visit,
    old: &Session,
    method: &Method,
) -> Result<Option<String>> {
    if hold(conn, &app.db, &old.member_id).await?.is_none() || !end(conn, &old.id_hash).await? {
        return Ok(None);
    }
    insert(conn, app, visit, &old.member_id, &old.lineage_id, method).await.map(Some)
}

/// The member was disabled between the proof and the session.
fn unavailable() -> Error {
    Error::Refused(Box::new(Refusal {
        status: StatusCode::FORBIDDEN,
        key: "account_unavailable",
        reason: "unavailable",
        next: NextStep::Link("/sign-in".into()),
    }))
}

/// Ends the sessions that are one too many with the next, and tells the member.
async fn make_room(conn: &mut Conn, app: &App, visit: &Visit, member: &Member) -> Result<()> {
    let now = app.now();
    let ended: Vec<String> = sqlx::query_scalar(
        "DELETE FROM sessions WHERE id_hash IN
           (SELECT id_hash FROM sessions WHERE member_id = $1 AND idle_expires_at > $2 AND expires_at > $2
            ORDER BY last_seen_at DESC, created_at DESC, lineage_id DESC LIMIT 1000 OFFSET $3)
         RETURNING lineage_id",
    )
    .bind(&member.id)
    .bind(now)
    .bind(AT_MOST - 1)
    .fetch_all(&mut *conn)
    .await?;
    for lineage_id in &ended {
        let entry = audit::Entry {
            action: "session_ended",
            reason: Some("too_many"),
            member_id: Some(&member.id),
            subject: Some(lineage_id),
            address: Some(&visit.address),
            ..Default::default()
        };
        audit::insert(conn, now, entry).await?;
    }
    if ended.is_empty() {
        return Ok(());
    }
    let locale = member.locale.as_deref().unwrap_or(&app.config.default_locale);
    let to = mail::To { email: &member.email, member_id: Some(&member.id), locale };
    mail::queue(conn, app, to, &Mail::SessionEnded).await
}

/// Gives a session a new id and leaves the rest as it is, for a change of what its member may do; gives the cookie's
/// new value, none where the session ended meanwhile.
pub async fn renew(conn: &mut Conn, app: &App, old: &Session) -> Result<Option<String>> {
    if hold(conn, &app.db, &old.member_id).await?.is_none() {
        return Ok(None);
    }
    let token = app.random_token()?;
    let renewed = sqlx::query("UPDATE sessions SET id_hash = $1 WHERE id_hash = $2")
        .bind(seal::hash(&token))
        .bind(&old.id_hash)
        .execute(conn)
        .await?;
    Ok((renewed.rows_affected() == 1).then_some(token))
}

async fn insert(
    conn: &mut Conn,
    app: &App,
    visit: &Visit,
    member_id: &str,
    lineage_id: &str,
    method: &Method,
) -> Result<String> {
    let (now, token) = (app.now(), app.random_token()?);
    let (word, link_id) = match method {
        Method::Password => ("password", None),
        Method::Code => ("code", None),
        Method::Line { link_id } => ("line", Some(link_id)),
        Method::Oidc { .. } => ("oidc", None),
    };
    let authenticated_at = match method {
        // Who did not prove to be there just now did so at some time, long ago.
        Method::Oidc { proved_at } => proved_at.unwrap_or(Millis(0)).min(now),
        Method::Password | Method::Code | Method::Line { .. } => now,
    };
    sqlx::query(
        "INSERT INTO sessions (id_hash, member_id, lineage_id, method, link_id, authenticated_at, created_at,
           last_seen_at, idle_expires_at, expires_at, user_agent, address)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8, $9, $10, $11)",
    )
    .bind(seal::hash(&token))
    .bind(member_id)
    .bind(lineage_id)
    .bind(word)
    .bind(link_id)
    .bind(authenticated_at)
    .bind(now)
    .bind(now.plus(IDLE))
    .bind(now.plus(ABSOLUTE))
    .bind(&visit.user_agent)
    .bind(&visit.address)
    .execute(conn)
    .await?;
    Ok(token)
}

/// The live session of a cookie's value. A disabled member has none.
pub async fn find(conn: &mut Conn, now: Millis, token: &str) -> Result<Option<Session>> {
    let found: Option<Session> = sqlx::query_as(
        "SELECT s.id_hash, s.member_id, s.lineage_id, s.method, s.authenticated_at, s.last_seen_at,
           s.idle_expires_at, s.expires_at, m.name, m.email, m.locale, m.disabled_at
         FROM sessions s JOIN members m ON m.id = s.member_id WHERE s.id_hash = $1",
    )
    .bind(seal::hash(token))
    .fetch_optional(conn)
    .await?;
    Ok(found.filter(|s| s.disabled_at.is_none() && now < s.idle_expires_at && now < s.expires_at))
}

/// Notes that the session is in use. Updates only: a session that ended meanwhile stays ended.
pub async fn touch(conn: &mut Conn, now: Millis, session: &Session) -> Result<()> {
    if now < session.last_seen_at.plus(TOUCH) {
        return Ok(());
    }
    sqlx::query("UPDATE sessions SET last_seen_at = $1, idle_expires_at = $2 WHERE id_hash = $3")
        .bind(now)
        .bind(now.plus(IDLE))
        .bind(&session.id_hash)
        .execute(conn)
        .await?;
    Ok(())
}

/// Ends a session; false where it had ended before.
pub async fn end(conn: &mut Conn, id_hash: &str) -> Result<bool> {
    let ended = sqlx::query("DELETE FROM sessions WHERE id_hash = $1").bind(id_hash).execute(conn).await?;
    Ok(ended.rows_affected() == 1)
}

/// Whether a session is still there, by this id or one that another tab got it. The member is held.
pub async fn is_live(conn: &mut Conn, session: &Session) -> Result<bool> {
    is_lineage_live(conn, &session.member_id, &session.lineage_id).await
}

/// Whether the member has a session of this lineage still.
pub async fn is_lineage_live(conn: &mut Conn, member_id: &str, lineage_id: &str) -> Result<bool> {
    let found: Option<String> =
        sqlx::query_scalar("SELECT id_hash FROM sessions WHERE member_id = $1 AND lineage_id = $2")
            .bind(member_id)
            .bind(lineage_id)
            .fetch_optional(conn)
            .await?;
    Ok(found.is_some())
}

/// The live sessions of a member, the newest first.
pub async fn list(conn: &mut Conn, now: Millis, member_id: &str) -> Result<Vec<Listed>> {
    let rows = sqlx::query_as(
        "SELECT lineage_id, method, created_at, last_seen_at, user_agent, address FROM sessions
         WHERE member_id = $1 AND idle_expires_at > $2 AND expires_at > $2 ORDER BY created_at DESC, lineage_id DESC",
    )
    .bind(member_id)
    .bind(now)
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// Ends the member's own session of this lineage; false where there is none.
pub async fn end_of_lineage(conn: &mut Conn, db: &Db, member_id: &str, lineage_id: &str) -> Result<bool> {
    hold(conn, db, member_id).await?;
    let ended = sqlx::query("DELETE FROM sessions WHERE member_id = $1 AND lineage_id = $2")
        .bind(member_id)
        .bind(lineage_id)
        .execute(conn)
        .await?;
    Ok(ended.rows_affected() > 0)
}

/// Ends the member's sessions of all other lineages; gives their number.
pub async fn end_others(conn: &mut Conn, db: &Db, session: &Session) -> Result<u64> {
    hold(conn, db, &session.member_id).await?;
    let ended = sqlx::query("DELETE FROM sessions WHERE member_id = $1 AND lineage_id <> $2")
        .bind(&session.member_id)
        .bind(&session.lineage_id)
        .execute(conn)
        .await?;
    Ok(ended.rows_affected())
}

/// Ends all sessions of a member but the one with the id hash `but`; gives their number. The caller holds the
/// member's row by changing it.
pub async fn end_all(conn: &mut Conn, member_id: &str, but: Option<&str>) -> Result<u64> {
    let ended = sqlx::query("DELETE FROM sessions WHERE member_id = $1 AND id_hash <> $2")
        .bind(member_id)
        .bind(but.unwrap_or_default())
        .execute(conn)
        .await?;
    Ok(ended.rows_affected())
}

/// Ends the sessions that were made by signing in through a link.
pub async fn end_by_link(conn: &mut Conn, link_id: &str) -> Result<u64> {
    let ended = sqlx::query("DELETE FROM sessions WHERE link_id = $1").bind(link_id).execute(conn).await?;
    Ok(ended.rows_affected())
}

/// Deletes what expired, some at a time.
pub async fn prune(conn: &mut Conn, now: Millis) -> Result<u64> {
    let deleted = sqlx::query(
        "DELETE FROM sessions WHERE id_hash IN
           (SELECT id_hash FROM sessions WHERE expires_at < $1 OR idle_expires_at < $1 LIMIT 500)",
    )
    .bind(now)
    .execute(conn)
    .await?;
    Ok(deleted.rows_affected())
}
