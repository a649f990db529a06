//! Rich menus: files say what menus there are and who sees which (tables `rich_menus`, `menu_sets`,
//! `set_menus`, `menu_aliases`, `user_menus`).
//!
//! - What was applied to a channel is its [`Set`], which everybody is brought to. Files become a set by
//!   `musubi rich-menu apply`, and by themselves where nothing was ever applied.
//! - A menu at LINE carries its file's name and content hash in its own name, `musubi:linked:1a2b3c4d5e6f7081`, so
//!   that it is found again after a crash. Menus of other names are never touched.
//! - What nobody in particular sees is the channel's default; only those who see another menu have one of their
//!   own. So taking a person's menu away is always safe.
//! - A person's menu follows the state of the link at the moment of the call; it is read again afterwards, so
//!   that of two overlapping jobs the last one leaves the right menu.
//!
//! From file to LINE: `file`, `draft`, `fill`, `alias`, `tree` (what is written, with lines) → `check`, `image` → `plan` (a pure
//! difference) → `bring` (carries it out) → `retire`. `ensure` makes again what vanished.
//!
//! From rule to person: `rule` over `fact` → `choice` (pure: which menu is whose) → `person` (one, at once: a link, an
//! unlink, a follow) or `reconcile` (many, under a lease): `change` (who changed), `read_back` (what LINE shows),
//! `sweep` (all, after another set or at a time), each by `tell`. `overrule` is the company's choice for one member.

mod alias;
mod at_line;
mod bring;
mod change;
mod check;
mod choice;
pub mod command;
mod draft;
mod ensure;
mod explain;
mod fact;
mod file;
mod fill;
mod image;
pub mod overrule;
mod person;
mod plan;
mod read_back;
mod reconcile;
mod retire;
mod rule;
pub mod set;
mod store;
mod sweep;
mod tell;
mod tree;

use secrecy::SecretString;

pub use self::{
    ensure::{ensure, look_after},
    explain::explain,
    file::{Menu, Mistakes, load},
    person::apply,
    reconcile::{drift, run},
    rule::Rule,
    set::{Applied, Set},
    sweep::{Progress, progress},
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
}

impl<'a> Remote<'a> {
    /// With a token at hand, so that a refusal of the credentials is told from one of a call.
    async fn new(app: &'a App, channel: &'a str) -> Result<Self, Stop> {
        match channel::token(app, Kind::Bot(channel)).await {
            Ok(_) => Ok(Self { app, channel }),
            Err(line::Error::Client(why)) => Err(Stop(Outcome::Park { why })),
            // Also where LINE refuses the credentials: an unlink's reset waits until they are mended.
            Err(error) => Err(Stop(Outcome::retry(&error))),
        }
    }

    /// Calls LINE; every call of this room may be made twice.
    async fn call<T, F>(&self, call: impl Fn(&'a Line, SecretString) -> F) -> Result<T, line::Error>
    where
        F: Future<Output = Result<T, line::Error>>,
    {
        channel::call(self.app, Kind::Bot(self.channel), |token| call(&self.app.line, token)).await
    }
}

impl From<line::Error> for Stop {
    /// What a failed call means for the job.
    fn from(error: line::Error) -> Self {
        let is_unauthorized = matches!(error, line::Error::Refused { status: 401, .. });
        if is_unauthorized || error.is_passing() {
            return Self(Outcome::retry(&error));
        }
        Self(Outcome::Park { why: error.to_string() })
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
