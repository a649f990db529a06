//! Cutting a member off, and letting them in again: for operators.

use super::{
    company::{self, By},
    find_by_email_key, session, token,
};
use crate::{
    app::App,
    audit,
    db::{Conn, Millis},
    error::Result,
    mail, menu_change,
};

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With the number of sessions that ended.
    Changed { sessions: u64 },
    /// It was so before.
    AsBefore,
    /// There is no such member.
    Unknown,
}

/// How an operator, or the company's system, names a member.
#[derive(Debug, Clone, Copy)]
pub enum Named<'a> {
    Email(&'a str),
    ExternalId(&'a str),
}

/// [`cut_off`] by an operator, who names an address.
pub async fn disable(app: &App, email: &str) -> Result<Outcome> {
    cut_off(app, Named::Email(email), COMMAND).await
}

/// [`let_in`] by an operator, who names an address.
pub async fn enable(app: &App, email: &str) -> Result<Outcome> {
    let_in(app, Named::Email(email), COMMAND).await
}

const COMMAND: By<'static> = By { what: "command", id: "" };

/// Disables a member: every session ends, on every node with its next request, and no proof by mail that is under way
/// counts any more. Enabling brings none of it back.
pub async fn cut_off(app: &App, named: Named<'_>, by: By<'_>) -> Result<Outcome> {
    let now = app.now();
    let mut tx = app.db.begin().await?;
    let Some(member_id) = find_id(&mut tx, named).await? else { return Ok(Outcome::Unknown) };
    // First, for whoever makes a session holds this row too.
    let is_new = set_disabled(&mut tx, &member_id, Some(now)).await?;
    let sessions = session::end_all(&mut tx, &member_id, None).await?;
    mail::call_off(&mut tx, now, &member_id).await?;
    token::void_of_member(&mut tx, now, &member_id).await?;
    if is_new {
        let data = serde_json::json!({ "sessions": sessions, "by": by.what, "by_id": by.id });
        record(&mut tx, now, "disabled", &member_id, data).await?;
        menu_change::of_members(&mut tx, app, &[member_id]).await?;
    }
    tx.commit().await?;
    Ok(if is_new { Outcome::Changed { sessions } } else { Outcome::AsBefore })
}

/// Lets a disabled member sign in again.
pub async fn let_in(app: &App, named: Named<'_>, by: By<'_>) -> Result<Outcome> {
    let mut tx = app.db.begin().await?;
    let Some(member_id) = find_id(&mut tx, named).await? else { return Ok(Outcome::Unknown) };
    if !set_disabled(&mut tx, &member_id, None).await? {
        return Ok(Outcome::AsBefore);
    }
    let data = serde_json::json!({ "by": by.what, "by_id": by.id });
    record(&mut tx, app.now(), "enabled", &member_id, data).await?;
    menu_change::of_members(&mut tx, app, &[member_id]).await?;
    tx.commit().await?;
    Ok(Outcome::Changed { sessions: 0 })
}

async fn find_id(conn: &mut Conn, named: Named<'_>) -> Result<Option<String>> {
    match named {
        Named::ExternalId(id) => company::find_id(conn, id).await,
        Named::Email(email) => {
            let Some(key) = super::email_key(email) else { return Ok(None) };
            Ok(find_by_email_key(conn, &key).await?.map(|member| member.id))
        }
    }
}

/// Sets or clears the flag; false where it was so before.
async fn set_disabled(conn: &mut Conn, id: &str, at: Option<Millis>) -> Result<bool> {
    let set = sqlx::query(
        "UPDATE members SET disabled_at = $1 WHERE id = $2 AND (disabled_at IS NULL) <> (CAST($1 AS BIGINT) IS NULL)",
    )
    .bind(at)
    .bind(id)
    .execute(conn)
    .await?;
    Ok(set.rows_affected() == 1)
}

async fn record(conn: &mut Conn, now: Millis, action: &str, member_id: &str, data: serde_json::Value) -> Result<()> {
    let entry = audit::Entry { action, member_id: Some(member_id), data, ..Default::default() };
    audit::insert(conn, now, entry).await
}
