//! Carries an unlink out at LINE (table `unlink_steps`): take our permission back, revoke the tokens, reset
//! the menu. Each job is safe to run twice and ends only when LINE agrees, or when nothing can be done by us.

use std::time::Duration;

use super::{attempt, grant, grant::Grant, start::login_channel};
use crate::{
    app::App,
    channel::{self, Kind},
    db::{Conn, Millis},
    error::Result,
    kill,
    line::{self, login::LoginChannel},
    queue::{self, Job, Outcome},
};

/// Adds what an unlink has to do, in the unlink's transaction. Where the person never gave us a permission there is
/// none to take back; where its tokens are gone, only the person can.
pub async fn begin(conn: &mut Conn, now: Millis, link_id: &str, has_menu: bool) -> Result<()> {
    let (permission, tokens) = match grant::count(conn, link_id).await? {
        // LINE asked the person for it, and LINE's token of it never reached us alive.
        (0, _) if is_by_liff(conn, link_id).await? => ("needs_user", "not_applicable"),
        (0, _) => ("not_applicable", "not_applicable"),
        (_, 0) => ("needs_user", "not_applicable"),
        _ => ("pending", "pending"),
    };
    let menu = if has_menu { "pending" } else { "not_applicable" };
    for (step, state) in [("deauthorize", permission), ("revoke", tokens), ("menu", menu)] {
        sqlx::query("INSERT INTO unlink_steps (link_id, step, state, updated_at) VALUES ($1, $2, $3, $4)")
            .bind(link_id)
            .bind(step)
            .bind(state)
            .bind(now)
            .execute(&mut *conn)
            .await?;
    }
    queue::enqueue(conn, now, now, &Job::Deauthorize { link_id: link_id.to_owned() }).await
}

async fn is_by_liff(conn: &mut Conn, link_id: &str) -> Result<bool> {
    let source: Option<String> =
        sqlx::query_scalar("SELECT source FROM links WHERE id = $1").bind(link_id).fetch_optional(conn).await?;
    Ok(source.as_deref() == Some("liff"))
}

/// The person linked again: what was still to be done for the former link is not wanted any more, but its own
/// tokens go.
pub async fn call_off(conn: &mut Conn, now: Millis, link_id: &str) -> Result<()> {
    sqlx::query(
        "UPDATE unlink_steps SET state = 'cancelled', updated_at = $1 WHERE link_id = $2 AND state = 'pending'",
    )
    .bind(now)
    .bind(link_id)
    .execute(&mut *conn)
    .await?;
    for grant_id in grant::list_of_link(conn, link_id).await? {
        queue::enqueue_once(conn, now, now, &Job::RevokeGrant { grant_id }).await?;
    }
    Ok(())
}

async fn set_step(conn: &mut Conn, now: Millis, link_id: &str, step: &str, state: &str) -> Result<()> {
    sqlx::query(
        "UPDATE unlink_steps SET state = $1, updated_at = $2 WHERE link_id = $3 AND step = $4 AND state = 'pending'",
    )
    .bind(state)
    .bind(now)
    .bind(link_id)
    .bind(step)
    .execute(conn)
    .await?;
    Ok(())
}

/// Two grants of one link are revoked side by side: who comes last sees that none is left, also on PostgreSQL.
async fn hold_revoke_step(conn: &mut Conn, link_id: &str) -> Result<()> {
    sqlx::query("UPDATE unlink_steps SET state = state WHERE link_id = $1 AND step = 'revoke'")
        .bind(link_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// The person linked again with LINE's permission: what an older clean-up left to them, or to the menu, is not wanted
/// any more either.
pub async fn close_former(conn: &mut Conn, now: Millis, line_user_id: &str) -> Result<()> {
    close(conn, now, line_user_id, "deauthorize", "needs_user").await?;
    close_menus(conn, now, line_user_id).await
}

/// The person linked again: the menu is the new link's. A permission that they gave before is taken back still.
pub async fn close_menus(conn: &mut Conn, now: Millis, line_user_id: &str) -> Result<()> {
    close(conn, now, line_user_id, "menu", "pending").await
}

async fn close(conn: &mut Conn, now: Millis, line_user_id: &str, step: &str, state: &str) -> Result<()> {
    sqlx::query(
        "UPDATE unlink_steps SET state = 'cancelled', updated_at = $1
         WHERE step = $3 AND state = $4 AND link_id IN (SELECT id FROM links WHERE line_user_id = $2 AND ended_at IS NOT NULL)",
    )
    .bind(now)
    .bind(line_user_id)
    .bind(step)
    .bind(state)
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes that LINE is being asked, or was: from then on the permission may be gone without our knowing.
async fn note_try(conn: &mut Conn, now: Millis, link_id: &str) -> Result<()> {
    sqlx::query(
        "UPDATE unlink_steps SET note = 'tried', updated_at = $1
         WHERE link_id = $2 AND step = 'deauthorize' AND state = 'pending'",
    )
    .bind(now)
    .bind(link_id)
    .execute(conn)
    .await?;
    Ok(())
}

/// How taking the permission back ended.
enum Deauthorized {
    Done,
    /// LINE does not know this token any more, nor its refresh token: so the permission was taken back before.
    Gone,
    /// No token lives that LINE would take: only the person can remove the permission, in LINE.
    NeedsUser,
    Not(Outcome),
    /// Asked, and no answer came.
    Lost(Outcome),
}

/// [`Job::Deauthorize`]
pub async fn deauthorize(app: &App, link_id: &str) -> Result<Outcome> {
    let mut tx = app.db.begin().await?;
    let ended: Option<(String, String)> = sqlx::query_as(
        "SELECT l.line_user_id, l.provider FROM links l JOIN unlink_steps s ON s.link_id = l.id
         WHERE l.id = $1 AND l.ended_at IS NOT NULL AND s.step = 'deauthorize' AND s.state = 'pending'",
    )
    .bind(link_id)
    .fetch_optional(&mut *tx)
    .await?;
    let Some((line_user_id, provider)) = ended else { return Ok(Outcome::Done) };
    if is_permitted_anew(&mut tx, &line_user_id).await? {
        // Linked again meanwhile: the permission is the new link's.
        call_off(&mut tx, app.now(), link_id).await?;
        tx.commit().await?;
        app.wake();
        return Ok(Outcome::Done);
    }
    let grants = grant::list_of_link(&mut tx, link_id).await?;
    let mut kept = Vec::new();
    for id in &grants {
        kept.extend(grant::find(&mut tx, app, id).await?);
    }
    // Until the try is over, it may still reach LINE up to its limit.
    note_try(&mut tx, app.now().plus(queue::LIMIT), link_id).await?;
    tx.commit().await?;
    let state = take_back(app, &login_channel(app, &provider)?, &provider, kept).await?;
    kill::point("deauthorize.accepted");
    record_try(app, link_id, grants, state).await
}

/// Whether a link that holds now has a permission of its own; one made in a chat asked for none.
async fn is_permitted_anew(conn: &mut Conn, line_user_id: &str) -> Result<bool> {
    let found: Option<String> = sqlx::query_scalar(
        "SELECT id FROM links WHERE line_user_id = $1 AND ended_at IS NULL AND permission <> 'none'",
    )
    .bind(line_user_id)
    .fetch_optional(conn)
    .await?;
    Ok(found.is_some())
}

/// Writes down how a try ended; after the last one the tokens go.
async fn record_try(app: &App, link_id: &str, grants: Vec<String>, state: Deauthorized) -> Result<Outcome> {
    let now = app.now();
    let mut tx = app.db.begin().await?;
    let word = match state {
        // It may still reach LINE: the time noted before the try stands.
        Deauthorized::Lost(outcome) => {
            tx.rollback().await?;
            return Ok(outcome);
        }
        Deauthorized::Not(outcome) => {
            note_try(&mut tx, now, link_id).await?;
            tx.commit().await?;
            return Ok(outcome);
        }
        Deauthorized::Done | Deauthorized::Gone => "done",
        Deauthorized::NeedsUser => "needs_user",
    };
    set_step(&mut tx, now, link_id, "deauthorize", word).await?;
    if grants.is_empty() {
        set_step(&mut tx, now, link_id, "revoke", "not_applicable").await?;
    }
    for grant_id in grants {
        queue::enqueue_once(&mut tx, now, now, &Job::RevokeGrant { grant_id }).await?;
    }
    tx.commit().await?;
    kill::point("deauthorize.recorded");
    app.wake();
    Ok(Outcome::Done)
}

/// Deauthorizes by the token that lives longest, and by the next where that one is dead: the person may have taken the
/// permission back, and given it anew.
async fn take_back(app: &App, login: &LoginChannel, provider: &str, grants: Vec<Grant>) -> Result<Deauthorized> {
    let mut state = Deauthorized::NeedsUser;
    for grant in grants {
        match take_back_by(app, login, provider, grant).await? {
            Deauthorized::NeedsUser => {}
            Deauthorized::Gone => state = Deauthorized::Gone,
            ended => return Ok(ended),
        }
    }
    Ok(state)
}

/// Deauthorizes with a live user token, refreshed where it is near its end or LINE does not take it.
async fn take_back_by(app: &App, login: &LoginChannel, provider: &str, mut grant: Grant) -> Result<Deauthorized> {
    let margin = Duration::from_secs(60);
    let mut refreshed = false;
    if app.now().plus(margin) >= grant.access_expires_at {
        match refresh(app, login, &mut grant).await? {
            Refreshed::Yes => refreshed = true,
            // The permission was withdrawn in LINE, or is too old to be used: we cannot tell which.
            Refreshed::Refused => return Ok(Deauthorized::NeedsUser),
            Refreshed::Not(outcome) => return Ok(Deauthorized::Not(outcome)),
        }
    }
    loop {
        let token = match channel::token(app, Kind::Login(provider)).await {
            Ok(token) => token,
            Err(error) => return Ok(Deauthorized::Not(outcome_of(&error))),
        };
        let refusal = match app.line.deauthorize(&token, &grant.tokens.access_token).await {
            Ok(()) => return Ok(Deauthorized::Done),
            Err(refusal) => refusal,
        };
        match &refusal {
            _ if is_dead_token(&refusal) && refreshed => return Ok(Deauthorized::Gone),
            _ if is_dead_token(&refusal) => match refresh(app, login, &mut grant).await? {
                Refreshed::Yes => refreshed = true,
                // Neither token lives: the person took the permission back in LINE already.
                Refreshed::Refused => return Ok(Deauthorized::Gone),
                Refreshed::Not(outcome) => return Ok(Deauthorized::Not(outcome)),
            },
            line::Error::Refused { status: 401, .. } => {
                let again = channel::forget(app, Kind::Login(provider), &token).await;
                // Wrong credentials: LINE is not hammered while somebody mends them.
                let after = if again { Duration::ZERO } else { Duration::from_secs(60) };
                let why = refusal.to_string();
                return Ok(Deauthorized::Not(Outcome::Retry { why, after: Some(after) }));
            }
            line::Error::Lost(_) => return Ok(Deauthorized::Lost(outcome_of(&refusal))),
            _ => return Ok(Deauthorized::Not(outcome_of(&refusal))),
        }
    }
}

/// LINE does not know the person's token, or not any more. Any other 400 is about us, and proves nothing.
fn is_dead_token(refusal: &line::Error) -> bool {
    matches!(refusal, line::Error::Refused { status: 400, message, .. } if message.contains("invalid token"))
}

enum Refreshed {
    Yes,
    Refused,
    Not(Outcome),
}

async fn refresh(app: &App, login: &LoginChannel, grant: &mut Grant) -> Result<Refreshed> {
    let Some(refresh_token) = grant.tokens.refresh_token.clone() else { return Ok(Refreshed::Refused) };
    if app.now() >= grant.refresh_expires_at {
        return Ok(Refreshed::Refused);
    }
    match app.line.refresh(login, &refresh_token).await {
        Ok((tokens, expires_in)) => {
            grant::update(&mut *app.db.conn().await?, app, &grant.id, &tokens, expires_in).await?;
            grant.tokens = tokens;
            Ok(Refreshed::Yes)
        }
        Err(line::Error::Refused { status: 400, message, .. }) if message.contains("invalid_grant") => {
            Ok(Refreshed::Refused)
        }
        Err(error) => Ok(Refreshed::Not(outcome_of(&error))),
    }
}

/// [`Job::RevokeGrant`]: after it, no token of this grant exists here or at LINE.
pub async fn revoke(app: &App, grant_id: &str) -> Result<Outcome> {
    let grant = grant::find(&mut *app.db.conn().await?, app, grant_id).await?;
    let Some(grant) = grant else { return Ok(Outcome::Done) };
    if let Some(outcome) = revoke_at_line(app, &grant).await? {
        return Ok(outcome);
    }
    kill::point("revoke.accepted");
    let now = app.now();
    let mut tx = app.db.begin().await?;
    if let Some(link_id) = &grant.link_id {
        hold_revoke_step(&mut tx, link_id).await?;
    }
    grant::erase(&mut tx, now, grant_id, "revoked").await?;
    if let Some(link_id) = &grant.link_id
        && grant::list_of_link(&mut tx, link_id).await?.is_empty()
    {
        set_step(&mut tx, now, link_id, "revoke", "done").await?;
    }
    kill::point("revoke.erased");
    tx.commit().await?;
    Ok(Outcome::Done)
}

/// None where the token is dead at LINE, or is not ours to end.
async fn revoke_at_line(app: &App, grant: &Grant) -> Result<Option<Outcome>> {
    if grant.is_liff {
        return Ok(None);
    }
    let login = login_channel(app, &grant.provider)?;
    match app.line.revoke(&login, &grant.tokens.access_token).await {
        Ok(()) => Ok(None),
        // The token is dead already, which is what was wanted; `invalid_client` is about us and not about it.
        Err(line::Error::Refused { status: 400, ref message, .. }) if !message.contains("invalid_client") => Ok(None),
        Err(error) => Ok(Some(outcome_of(&error))),
    }
}

/// [`Job::AbandonAttempt`]: nobody said yes; LINE's tokens are given back.
pub async fn abandon(app: &App, attempt_id: &str) -> Result<Outcome> {
    let now = app.now();
    let mut tx = app.db.begin().await?;
    attempt::abandon(&mut tx, attempt_id).await?;
    for grant_id in grant::list_of_attempt(&mut tx, attempt_id).await? {
        queue::enqueue_once(&mut tx, now, now, &Job::RevokeGrant { grant_id }).await?;
    }
    tx.commit().await?;
    app.wake();
    Ok(Outcome::Done)
}

/// A clean-up ends only when LINE agrees: the network and LINE's bad days pass, and a wrong secret is mended one
/// day. What does not pass by itself is told loudly.
fn outcome_of(error: &line::Error) -> Outcome {
    if !error.is_passing() {
        tracing::error!(%error, "LINE refuses a clean-up: it is tried again, but a person should look");
    }
    Outcome::retry(error)
}
