//! Fetches what came with a message, once, up to a cap.

use crate::{
    app::App,
    error::{Error, Result},
    queue::Outcome,
};

/// [`Job::FetchMedia`](crate::queue::Job::FetchMedia)
pub async fn fetch(_app: &App, _channel: &str, _message_id: &str) -> Result<Outcome> {
    Err(Error::internal("not built yet"))
}
