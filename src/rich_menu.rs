//! Rich menus: files say what menus there are and who sees which (tables `rich_menus`, `user_menus`).
//!
//! - A menu at LINE carries its file's name and content hash in its own name, `musubi:linked:1a2b3c4d5e6f`, so
//!   that it is found again after a crash. Menus of other names are never touched.
//! - What nobody in particular sees is the channel's default; only those who see another menu have one of their
//!   own. So taking a person's menu away is always safe.
//! - A person's menu follows the state of the link at the moment of the call; it is read again afterwards, so
//!   that of two overlapping jobs the last one leaves the right menu.

mod apply;
mod check;
mod ensure;
mod file;
mod image;
mod rule;
mod store;

use secrecy::SecretString;

pub use self::{
    apply::apply,
    ensure::ensure,
    file::{Menu, Mistakes, load},
};
use crate::{
    app::App,
    channel::{self, Kind},
    error,
    line::{self, Line},
    queue::Outcome,
};

/// Why a job of this room ends before it is done.
struct Stop(Outcome);

/// A channel at LINE, as far as menus go.
struct Remote<'a> {
    app: &'a App,
    channel: &'a str,
    token: SecretString,
}

impl<'a> Remote<'a> {
    async fn new(app: &'a App, channel: &'a str) -> Result<Self, Stop> {
        let token = channel::token(app, Kind::Bot(channel)).await.map_err(|error| match error {
            line::Error::Client(why) => Stop(Outcome::Park { why }),
            // Also where LINE refuses the credentials: an unlink's reset waits until they are mended.
            error => Stop(Outcome::retry(&error)),
        })?;
        Ok(Self { app, channel, token })
    }

    fn line(&self) -> &Line {
        &self.app.line
    }

    /// What a failed call means for the job.
    async fn stop(&self, error: line::Error) -> Stop {
        if matches!(error, line::Error::Refused { status: 401, .. }) {
            channel::forget(self.app, Kind::Bot(self.channel), &self.token).await;
            return Stop(Outcome::retry(&error));
        }
        if error.is_passing() { Stop(Outcome::retry(&error)) } else { Stop(Outcome::Park { why: error.to_string() }) }
    }
}

impl From<error::Error> for Stop {
    fn from(error: error::Error) -> Self {
        Self(Outcome::retry(&error))
    }
}

impl From<sqlx::Error> for Stop {
    fn from(error: sqlx::Error) -> Self {
        error::Error::from(error).into()
    }
}

impl From<Mistakes> for Stop {
    fn from(mistakes: Mistakes) -> Self {
        Self(Outcome::Park { why: mistakes.to_string() })
    }
}
