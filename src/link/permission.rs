//! Whether people's permission in LINE still stands (column `links.permission`). LINE tells nobody when a person takes
//! it back; only their tokens show it, before their own recorded end.
//!
//! A link without it stays, and can be used to sign in, which gives the permission anew; nothing more is sent by it.

use std::time::Duration;

use super::{
    grant::{self, Grant},
    start::login_channel,
};
use crate::{
    app::App,
    audit,
    db::{Conn, Millis},
    error::Result,
    hook_event,
    line::{
        self,
        login::{LoginChannel, Verified},
    },
    member, message,
    queue::{self, Job, Outcome},
};

/// What the routine takes at a time, once a minute.
const AT_ONCE: i64 = 30;
/// Between two questions about one permission.
const EVERY: Duration = Duration::from_secs(24 * 3600);
/// After LINE could not say.
const AGAIN: Duration = Duration::from_secs(3600);
/// So near their own end tokens prove nothing: our clock, and LINE's, may be off.
const MARGIN: Duration = Duration::from_secs(24 * 3600);

/// What LINE's answers say of a permission.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    Given,
    /// A token was refused before its own end.
    Withdrawn,
    /// The tokens came to their own end: no way to know.
    Unverifiable,
    /// Nothing learnt this time.
    Open(String),
}

/// The routine's step: the permissions not asked about for longest. Gives their number.
pub async fn want_checks(app: &App) -> Result<usize> {
    let now = app.now();
    let mut tx = app.db.begin().await?;
    let ids = list_unchecked(&mut tx, now.minus(EVERY)).await?;
    for grant_id in &ids {
        set_checked(&mut tx, now, grant_id).await?;
        queue::enqueue_once(&mut tx, now, now, &Job::CheckGrant { grant_id: grant_id.clone() }).await?;
    }
    tx.commit().await?;
    Ok(ids.len())
}

/// [`Job::CheckGrant`]
pub async fn check(app: &App, grant_id: &str) -> Result<Outcome> {
    let mut conn = app.db.conn().await?;
    let Some(grant) = grant::find(&mut conn, app, grant_id).await? else { return Ok(Outcome::Done) };
    let Some(link_id) = grant.link_id.clone() else { return Ok(Outcome::Done) };
    drop(conn);
    let login = login_channel(app, &grant.provider)?;
    let finding = find_out(app, &login, &grant).await?;
    let word = match &finding {
        Finding::Given => "given",
        Finding::Withdrawn => "withdrawn",
        Finding::Unverifiable => "unverifiable",
        Finding::Open(why) => {
            tracing::warn!(why, "LINE did not say whether a permission stands");
            // The routine asks again, paced: no job that waits for LINE's better days.
            set_checked(&mut *app.db.conn().await?, app.now().minus(EVERY).plus(AGAIN), grant_id).await?;
            return Ok(Outcome::Done);
        }
    };
    record(app, &grant, &link_id, word).await?;
    Ok(Outcome::Done)
}

/// Asks by the access token where that has time left, else by a refresh.
async fn find_out(app: &App, login: &LoginChannel, grant: &Grant) -> Result<Finding> {
    let now = app.now();
    if now >= grant.refresh_expires_at {
        return Ok(Finding::Unverifiable);
    }
    if now.plus(MARGIN) >= grant.access_expires_at {
        return refresh(app, login, grant, false).await;
    }
    match app.line.verify_access(login, &grant.tokens.access_token).await {
        Ok(Verified::Alive { .. }) => Ok(Finding::Given),
        Ok(Verified::OtherChannel) => Ok(Finding::Open("the access token is another channel's".into())),
        Ok(said @ (Verified::Revoked | Verified::Expired)) => {
            refresh(app, login, grant, said == Verified::Revoked).await
        }
        Err(error) => Ok(Finding::Open(error.to_string())),
    }
}

/// What a refresh says. `is_revoked`: LINE said so of the access token already.
async fn refresh(app: &App, login: &LoginChannel, grant: &Grant, is_revoked: bool) -> Result<Finding> {
    let has_time = app.now().plus(MARGIN) < grant.refresh_expires_at;
    let Some(refresh_token) = &grant.tokens.refresh_token else {
        let open = || Finding::Open("no refresh token, and the access token is near its end".into());
        return Ok(if is_revoked { Finding::Withdrawn } else { open() });
    };
    match app.line.refresh(login, refresh_token).await {
        Ok((tokens, expires_in)) => {
            grant::update(&mut *app.db.conn().await?, app, &grant.id, &tokens, expires_in).await?;
            Ok(Finding::Given)
        }
        Err(line::Error::Refused { status: 400, message, .. }) if message.contains("invalid_grant") => {
            Ok(if has_time || is_revoked { Finding::Withdrawn } else { Finding::Open(message) })
        }
        Err(error) => Ok(Finding::Open(error.to_string())),
    }
}

/// Keeps what was found, unless a newer proof came meanwhile, or the link ended.
async fn record(app: &App, grant: &Grant, link_id: &str, word: &str) -> Result<()> {
    let now = app.now();
    let mut tx = app.db.begin().await?;
    let Some(member_id) = find_member(&mut tx, link_id).await? else { return Ok(()) };
    // Whoever signs in with LINE gives it anew, and holds the member first.
    member::hold(&mut tx, &app.db, &member_id).await?;
    let kept = grant::list_of_link(&mut tx, link_id).await?;
    if word == "withdrawn" && kept.iter().any(|id| *id > grant.id) {
        // Given anew since: it is this token alone that is dead.
        queue::enqueue_once(&mut tx, now, now, &Job::RevokeGrant { grant_id: grant.id.clone() }).await?;
        tx.commit().await?;
        app.wake();
        return Ok(());
    }
    if kept.first() != Some(&grant.id) || !set(&mut tx, link_id, word).await? {
        return Ok(());
    }
    if word == "withdrawn" {
        message::cancel_for(&mut tx, now, link_id, "consent_withdrawn").await?;
        let entry = audit::Entry {
            action: "permission_withdrawn",
            member_id: Some(&member_id),
            subject: Some(link_id),
            provider: Some(&grant.provider),
            ..Default::default()
        };
        audit::insert(&mut tx, now, entry).await?;
        hook_event::link::consent_withdrawn(&mut tx, app, &grant.provider, link_id).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Sets it for an active link; false where it was so before.
pub async fn set(conn: &mut Conn, link_id: &str, permission: &str) -> Result<bool> {
    let set = sqlx::query("UPDATE links SET permission = $1 WHERE id = $2 AND ended_at IS NULL AND permission <> $1")
        .bind(permission)
        .bind(link_id)
        .execute(conn)
        .await?;
    Ok(set.rows_affected() == 1)
}

async fn find_member(conn: &mut Conn, link_id: &str) -> Result<Option<String>> {
    let member_id = sqlx::query_scalar("SELECT member_id FROM links WHERE id = $1 AND ended_at IS NULL")
        .bind(link_id)
        .fetch_optional(conn)
        .await?;
    Ok(member_id)
}

/// Of each active link the grant that lives longest, the longest unasked first.
async fn list_unchecked(conn: &mut Conn, before: Millis) -> Result<Vec<String>> {
    let ids = sqlx::query_scalar(
        "SELECT g.id FROM grants g JOIN links l ON l.id = g.link_id
         WHERE g.ended_at IS NULL AND g.checked_at < $1 AND l.ended_at IS NULL AND l.permission = 'given'
           AND NOT EXISTS (
             SELECT 1 FROM grants n WHERE n.link_id = g.link_id AND n.ended_at IS NULL
               AND (n.refresh_expires_at > g.refresh_expires_at
                 OR (n.refresh_expires_at = g.refresh_expires_at AND n.id > g.id)))
         ORDER BY g.checked_at LIMIT $2",
    )
    .bind(before)
    .bind(AT_ONCE)
    .fetch_all(conn)
    .await?;
    Ok(ids)
}

async fn set_checked(conn: &mut Conn, at: Millis, grant_id: &str) -> Result<()> {
    sqlx::query("UPDATE grants SET checked_at = $1 WHERE id = $2").bind(at).bind(grant_id).execute(conn).await?;
    Ok(())
}
