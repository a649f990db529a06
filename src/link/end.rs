//! The end of a link, whoever asks for it: here at once, at LINE by [`cleanup`].

use super::{Active, cleanup};
use crate::{
    app::App,
    audit,
    db::{Conn, Millis},
    error::Result,
    hook_event, message,
    queue::{self, Job},
};

/// Why a link ends, as its row and the audit say it.
#[derive(Debug, Clone, Copy)]
pub struct Ending<'a> {
    /// Kept with the link: `member`, `chat`, `undone`, `deleted`, `declined` (an imported one, by its LINE user), `company`.
    pub reason: &'a str,
    /// The audit's word.
    pub action: &'a str,
    pub address: Option<&'a str>,
}

/// Ends the link with all that hangs on it but its sessions; false where somebody was quicker.
pub async fn end(conn: &mut Conn, app: &App, active: &Active, ending: Ending<'_>) -> Result<bool> {
    let now = app.now();
    if !set_ended(conn, now, &active.link_id, ending.reason).await? {
        return Ok(false);
    }
    hook_event::link::ended(conn, app, &active.provider, &active.link_id).await?;
    message::cancel_waiting(conn, now, &active.link_id).await?;
    let has_menu = app.config.channels_of(&active.provider).next().is_some();
    cleanup::begin(conn, now, &active.link_id, has_menu).await?;
    for channel in app.config.channels_of(&active.provider) {
        let menu = Job::UserMenu { line_user_id: active.line_user_id.clone(), channel: channel.clone() };
        queue::enqueue(conn, now, now, &menu).await?;
    }
    let entry = audit::Entry {
        action: ending.action,
        member_id: Some(&active.member_id),
        subject: Some(&active.link_id),
        provider: Some(&active.provider),
        address: ending.address,
        ..Default::default()
    };
    audit::insert(conn, now, entry).await?;
    Ok(true)
}

async fn set_ended(conn: &mut Conn, now: Millis, link_id: &str, reason: &str) -> Result<bool> {
    let ended = sqlx::query(
        "UPDATE links SET ended_at = $1, end_reason = $2,
           line_name = (SELECT u.display_name FROM line_users u WHERE u.id = links.line_user_id)
         WHERE id = $3 AND ended_at IS NULL",
    )
    .bind(now)
    .bind(reason)
    .bind(link_id)
    .execute(conn)
    .await?;
    Ok(ended.rows_affected() == 1)
}
