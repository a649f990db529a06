//! Whether people's permission in LINE still stands (column `links.permission`). LINE tells nobody when a person takes
//! it back; only their tokens show it, before their own recorded end.

use crate::{
    app::App,
    error::{Error, Result},
    queue::Outcome,
};

/// [`Job::CheckGrant`](crate::queue::Job::CheckGrant)
pub async fn check(_app: &App, _grant_id: &str) -> Result<Outcome> {
    Err(Error::internal("not built yet"))
}
