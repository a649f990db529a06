//! Profiles as LINE tells them: read when a person follows, when they write after a day, and by a slow routine.

use crate::{
    app::App,
    error::{Error, Result},
    queue::Outcome,
};

/// [`Job::SyncProfile`](crate::queue::Job::SyncProfile)
pub async fn sync(_app: &App, _line_user_id: &str, _channel: &str) -> Result<Outcome> {
    Err(Error::internal("not built yet"))
}
pub async fn want(
    _conn: &mut crate::db::Conn,
    _app: &App,
    _id: &str,
    _channel: &str,
    _age: std::time::Duration,
) -> Result<()> {
    Ok(())
}
