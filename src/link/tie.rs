//! The moment of linking: a new link, the end of a suspension, or who holds the place.

use super::{New, Owner, find_owner, insert, refusal::Cause};
use crate::{
    app::App,
    db::{Conn, Millis},
    error::Result,
    hook_event,
};

/// Two accounts that both agreed, each proven.
pub(super) struct Wanted<'a> {
    pub provider: &'a str,
    pub line_user_id: &'a str,
    pub member_id: &'a str,
    pub source: &'static str,
    /// `given` where LINE Login brought tokens; `none` where nothing was asked for.
    pub permission: &'static str,
    pub consent_version: &'a str,
    pub consent_locale: &'a str,
}

/// The link that holds now.
pub(super) enum Tied {
    New(String),
    Resumed(String),
}

impl Tied {
    pub fn link_id(&self) -> &str {
        match self {
            Self::New(link_id) | Self::Resumed(link_id) => link_id,
        }
    }

    /// The audit's word.
    pub fn action(&self) -> &'static str {
        match self {
            Self::New(_) => "linked",
            Self::Resumed(_) => "link_resumed",
        }
    }
}

/// Links, or ends the suspension of this very member's link to this very LINE user, which may also be one that was
/// imported; or says why not.
pub(super) async fn tie(conn: &mut Conn, app: &App, now: Millis, wanted: &Wanted<'_>) -> Result<Result<Tied, Cause>> {
    if let Some(link_id) = resume(conn, wanted).await? {
        return Ok(Ok(Tied::Resumed(link_id)));
    }
    make(conn, app, now, wanted).await
}

/// A new link, or who holds the place that it was to take.
async fn make(conn: &mut Conn, app: &App, now: Millis, wanted: &Wanted<'_>) -> Result<Result<Tied, Cause>> {
    let link_id = app.new_id();
    let new = New {
        id: &link_id,
        provider: wanted.provider,
        line_user_id: wanted.line_user_id,
        member_id: wanted.member_id,
        source: wanted.source,
        permission: wanted.permission,
        consent_version: wanted.consent_version,
        consent_locale: wanted.consent_locale,
    };
    if insert(conn, now, &new).await? {
        hook_event::link::created(conn, app, wanted.provider, &link_id).await?;
        return Ok(Ok(Tied::New(link_id)));
    }
    let owner = find_owner(conn, wanted.line_user_id).await?;
    Ok(Err(conflict(owner, wanted.member_id)))
}

/// Ends a suspension, or confirms what was imported; gives the link's id.
async fn resume(conn: &mut Conn, wanted: &Wanted<'_>) -> Result<Option<String>> {
    let resumed = sqlx::query_scalar(
        "UPDATE links SET suspended_at = NULL, unconfirmed_at = NULL, consent_version = $1, consent_locale = $2,
           permission = CASE WHEN $3 = 'none' THEN permission ELSE $3 END
         WHERE line_user_id = $4 AND member_id = $5 AND ended_at IS NULL
           AND (suspended_at IS NOT NULL OR unconfirmed_at IS NOT NULL)
         RETURNING id",
    )
    .bind(wanted.consent_version)
    .bind(wanted.consent_locale)
    .bind(wanted.permission)
    .bind(wanted.line_user_id)
    .bind(wanted.member_id)
    .fetch_optional(conn)
    .await?;
    Ok(resumed)
}

fn conflict(owner: Option<Owner>, member_id: &str) -> Cause {
    match owner {
        Some(owner) if owner.member_id == member_id => Cause::AlreadyYours,
        Some(_) => Cause::ConflictLine,
        None => Cause::ConflictMember,
    }
}
