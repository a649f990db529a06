//! How a channel's access token stands, for whoever looks after the installation.

use super::{Kind, Own, alarm, store, tidy};
use crate::{
    app::App,
    config::TokenKind,
    db::Millis,
    error::Result,
    line::{Error, token::Verified},
};

/// A channel's token, as far as it can be told.
#[derive(Debug)]
pub struct Status {
    pub kind: TokenKind,
    /// The end of the one in use, where that is kept or LINE tells it.
    pub expires_at: Option<Millis>,
    /// What LINE refuses, and since when.
    pub alarm: Option<(Millis, Error)>,
    /// Of tokens v2.1 at LINE: all, and those that are not this installation's.
    pub at_line: Option<Result<(usize, usize), Error>>,
    /// Of a long-lived one: what LINE says of it.
    pub verified: Option<Result<Verified, Error>>,
}

pub async fn status(app: &App, kind: Kind<'_>) -> Result<Option<Status>> {
    let Ok(own) = Own::find(app, kind) else { return Ok(None) };
    let mut conn = app.db.conn().await?;
    let used = store::find_used(&mut conn, &own).await?;
    let alarm = alarm::find_on(&mut conn, &own).await?.map(|alarm| (alarm.since, alarm.error()));
    let ours = store::list_key_ids(&mut conn, own.id).await?;
    drop(conn);
    let at_line = match own.kind() {
        TokenKind::V21 => Some(tidy::list_key_ids(app, &own).await.map(|at_line| {
            let foreign = at_line.iter().filter(|key_id| !ours.contains(key_id)).count();
            (at_line.len(), foreign)
        })),
        TokenKind::Stateless | TokenKind::ShortLived | TokenKind::LongLived => None,
    };
    let verified = match own.long_lived() {
        Some(token) => Some(app.line.verify_token(token).await),
        None => None,
    };
    let expires_at = used.map(|row| row.expires_at);
    Ok(Some(Status { kind: own.kind(), expires_at, alarm, at_line, verified }))
}
