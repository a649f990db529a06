//! The company's own sign-in (`[member.oidc]`): its OpenID provider says which member somebody is.
//!
//! [`start`] → the provider → [`callback`], which takes the [`attempt`] once, asks for the [`proof`] and lets in
//! ([`enter`]). Who somebody is, is the claim that is the company's own id of a member; an e-mail address in it finds
//! nobody. What the provider says besides is kept as what the company says of its members ([`claims`]).
//!
//! A sign-in there may be silent, so that it proves nothing more here; asked for again (`reauth`), the provider must have
//! asked the person just now.

mod attempt;
pub mod callback;
mod claims;
mod enter;
mod proof;
mod refusal;
pub mod start;

pub use self::attempt::{context, prune};
use crate::{
    app::App,
    db::{Conn, Millis},
    error::{Error, Result},
    oidc::Oidc,
};

/// What an attempt is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    SignIn,
    /// Who is signed in proves to be there.
    Reauth,
}

impl Purpose {
    pub fn word(self) -> &'static str {
        match self {
            Self::SignIn => "sign_in",
            Self::Reauth => "reauth",
        }
    }

    pub fn of_word(word: &str) -> Option<Self> {
        [Self::SignIn, Self::Reauth].into_iter().find(|purpose| purpose.word() == word)
    }
}

/// The company's provider. Without one its routes are not there.
pub fn provider(app: &App) -> Result<&Oidc> {
    app.oidc.as_ref().ok_or(Error::NotFound)
}

/// What the button calls the company's sign-in, where there is one.
pub fn label(app: &App) -> Option<String> {
    app.config.member.oidc.as_ref().map(|oidc| oidc.label.trim().to_owned())
}

/// Whether the member signed in there before, and can again.
pub async fn is_way_in(conn: &mut Conn, app: &App, member_id: &str) -> Result<bool> {
    if app.oidc.is_none() {
        return Ok(false);
    }
    let found: Option<Millis> = sqlx::query_scalar("SELECT oidc_at FROM members WHERE id = $1")
        .bind(member_id)
        .fetch_optional(conn)
        .await?
        .flatten();
    Ok(found.is_some())
}
