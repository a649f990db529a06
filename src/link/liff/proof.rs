//! Who the tokens of a LIFF app prove somebody to be. The ID token says it, verified here; the access token is asked about at
//! LINE, and kept so that LINE can be told of an unlink. A LIFF app without `openid` has the access token alone.

use std::time::Duration;

use super::{Shown, problem::Problem};
use crate::{
    app::App,
    db::Millis,
    line::{
        self,
        id_token::{
            Identity, Rejection,
            liff::{Expected, Unverified, Verified},
        },
        login::{self, LoginChannel, UserTokens},
    },
    line_user::Friend,
    seal,
};

/// Longest token that is looked at.
const LONGEST: usize = 8 * 1024;

pub(super) struct Proof {
    pub identity: Identity,
    pub friend: Friend,
    /// The access token, where LINE says that it lives, and for how long.
    pub tokens: Option<(UserTokens, Duration)>,
    /// What no other browser may show.
    pub marks: Vec<Mark>,
}

/// A token that was shown.
pub struct Mark {
    pub digest: String,
    pub expires_at: Millis,
}

/// What LINE says of an access token, and of whom it is.
struct Access {
    token: String,
    expires_in: Duration,
    identity: Identity,
    friend: Friend,
}

pub(super) async fn of(app: &App, channel: &LoginChannel, shown: &Shown) -> Result<Proof, Problem> {
    let some = |token: &Option<String>| token.clone().filter(|token| !token.is_empty() && token.len() <= LONGEST);
    let access_token = some(&shown.access_token);
    let Some(id_token) = shown.id_token.as_ref().filter(|token| !token.is_empty()) else {
        let token = access_token.ok_or(Problem::NoToken)?;
        tracing::warn!("alarm: liff: the LIFF app gives no ID token; turn its scope openid on in LINE's console");
        return Ok(by_access_token(app, ask(app, channel, token).await?));
    };
    let verified = verify(app, channel, id_token, access_token.as_deref()).await?;
    let mut marks = vec![mark(id_token, Millis(verified.expires_at * 1000))];
    let access = match access_token {
        Some(token) => check(app, channel, token, &verified.identity).await?,
        None => None,
    };
    marks.extend(access.as_ref().map(|access| mark(&access.token, app.now().plus(access.expires_in))));
    let Some(access) = access else {
        return Ok(Proof { identity: verified.identity, friend: Friend::Unknown, tokens: None, marks });
    };
    Ok(Proof { marks, ..by_access_token(app, access) })
}

/// The ID token against LINE's keys.
async fn verify(
    app: &App,
    channel: &LoginChannel,
    id_token: &str,
    access_token: Option<&str>,
) -> Result<Verified, Problem> {
    let unverified = Unverified::read(id_token).map_err(refused)?;
    let key = app.keys.find(&app.line, unverified.key_id(), app.now().0).await.map_err(|_| Problem::Away)?;
    let key = key.ok_or_else(|| refused(Rejection::Key))?;
    let expected = Expected { channel_id: &channel.channel_id, now: app.now().seconds(), access_token };
    unverified.verify(&key, expected).map_err(refused)
}

fn refused(rejection: Rejection) -> Problem {
    match rejection {
        Rejection::IssuedAt => {
            tracing::error!("alarm: clock: LINE's ID token is from another time; check this machine's clock");
        }
        Rejection::ExpiryFar => tracing::error!("alarm: id_token: a signed ID token lives too long"),
        _ => {}
    }
    tracing::warn!(reason = rejection.reason(), "ID token of a LIFF app refused");
    Problem::Token(rejection)
}

/// The access token beside a good ID token: it must be of the same person and channel; a dead one, or a LINE that does
/// not answer, is no reason to turn the person away.
async fn check(
    app: &App,
    channel: &LoginChannel,
    token: String,
    identity: &Identity,
) -> Result<Option<Access>, Problem> {
    match ask(app, channel, token).await {
        Ok(access) if access.identity.user_id != identity.user_id => Err(Problem::ProfileMismatch),
        Ok(access) => Ok(Some(access)),
        Err(Problem::AccessToken | Problem::Away | Problem::Scope) => Ok(None),
        Err(problem) => Err(problem),
    }
}

/// Asks LINE whose an access token is. Only one of our own channel's proves anything.
async fn ask(app: &App, channel: &LoginChannel, token: String) -> Result<Access, Problem> {
    let expires_in = match app.line.verify_access(channel, &token).await {
        Ok(login::Verified::Alive { expires_in }) => expires_in,
        Ok(login::Verified::OtherChannel) => return Err(Problem::OtherChannel),
        Ok(login::Verified::Expired | login::Verified::Revoked) => return Err(Problem::AccessToken),
        Err(line::Error::Refused { status: 400, .. }) => return Err(Problem::AccessToken),
        Err(error) => return Err(away(&error)),
    };
    let (identity, friend) = tokio::join!(whose(app, &token), app.line.is_friend(&token));
    let identity = identity.map_err(|error| match error {
        line::Error::Refused { status: 403, .. } => Problem::Scope,
        line::Error::Refused { status: 401, .. } => Problem::AccessToken,
        error => away(&error),
    })?;
    if !line::is_user_id(&identity.user_id) {
        return Err(Problem::ProfileMismatch);
    }
    let friend = match friend {
        Ok(true) => Friend::Yes,
        Ok(false) => Friend::No,
        Err(error) => {
            tracing::warn!(%error, "friendship not known");
            Friend::Unknown
        }
    };
    Ok(Access { token, expires_in, identity, friend })
}

/// The profile; where the LIFF app has no scope `profile`, at least who it is.
async fn whose(app: &App, token: &str) -> Result<Identity, line::Error> {
    match app.line.profile(token).await {
        Ok(login::Profile { user_id, display_name, picture_url }) => {
            Ok(Identity { user_id, name: Some(display_name), picture: picture_url })
        }
        Err(line::Error::Refused { status: 403, .. }) => app.line.userinfo(token).await,
        Err(error) => Err(error),
    }
}

fn away(error: &line::Error) -> Problem {
    tracing::warn!(%error, "LINE does not say whose an access token is");
    Problem::Away
}

fn by_access_token(app: &App, access: Access) -> Proof {
    let Access { token, expires_in, identity, friend } = access;
    Proof {
        identity,
        friend,
        marks: vec![mark(&token, app.now().plus(expires_in))],
        tokens: Some((UserTokens { access_token: token, refresh_token: None }, expires_in)),
    }
}

fn mark(token: &str, expires_at: Millis) -> Mark {
    Mark { digest: seal::hash(token), expires_at }
}
