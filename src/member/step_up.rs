//! The proof, asked again before what cannot be taken back lightly: the password, or for a member without one a
//! code by mail, or a sign-in at the company's provider, given within the last ten minutes.

use super::{
    find,
    password::Verdict,
    session::Session,
    throttle::{self, Guesser},
};
use crate::{
    app::App,
    db::Conn,
    error::{Error, Result},
};

/// What came of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    Given,
    /// The password is not right.
    Wrong,
}

/// Whether `session`'s member just proved to be there. Without a password to ask for, and without a fresh code,
/// the answer is [`Error::Reauth`] with `return_to`; after too many tries it is [`Error::TooMany`].
pub async fn prove(app: &App, session: &Session, password: &str, return_to: &str) -> Result<Proof> {
    let member = find(&mut *app.db.conn().await?, &session.member_id).await?.ok_or(Error::NotFound)?;
    let Some(stored) = member.password(app) else {
        return if session.is_fresh(app.now()) {
            Ok(Proof::Given)
        } else {
            Err(Error::Reauth { return_to: return_to.to_owned() })
        };
    };
    let guesser = Guesser::Member { member_id: session.member_id.clone() };
    match throttle::compare(app, &guesser, Some(stored), password).await? {
        Verdict::Wrong => Ok(Proof::Wrong),
        Verdict::Right | Verdict::RightButOld(_) => {
            throttle::succeed(&mut *app.db.conn().await?, app, &guesser).await?;
            Ok(Proof::Given)
        }
    }
}

/// Whether a form that proves it asks for a password. Without one to ask for, a code by mail must have been given
/// lately: else the answer is [`Error::Reauth`] with `return_to`.
pub async fn asks_password(conn: &mut Conn, app: &App, session: &Session, return_to: &str) -> Result<bool> {
    let member = find(conn, &session.member_id).await?.ok_or(Error::NotFound)?;
    let has_password = member.password(app).is_some();
    if !has_password && !session.is_fresh(app.now()) {
        return Err(Error::Reauth { return_to: return_to.to_owned() });
    }
    Ok(has_password)
}
