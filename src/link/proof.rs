//! The proof of a LINE account: one exchange of the code, an ID token verified here, and a profile of the same
//! person. Where it fails after the exchange, LINE's tokens are given back at once.

use std::time::Duration;

use super::{
    attempt::{self, Attempt},
    refusal::Cause,
};
use crate::{
    app::App,
    error::Result,
    kill,
    line::{
        id_token::{self, Expected, Identity, Rejection},
        login::{LoginChannel, TokenReply, UserTokens},
    },
    line_user::Friend,
    seal,
};

/// A LINE user who just proved to be one.
pub struct Proof {
    /// Under which the tokens will be kept.
    pub grant_id: String,
    pub identity: Identity,
    pub friend: Friend,
    /// What became of the option to add the official account on the way; none where LINE did not show it.
    pub added_friend: Option<bool>,
    pub tokens: UserTokens,
    pub expires_in: Duration,
}

impl Proof {
    /// With what LINE said of its option to add the official account.
    pub fn after_option(self, added_friend: Option<bool>) -> Self {
        Self { friend: friend_after(self.friend, added_friend), added_friend, ..self }
    }
}

/// Whether they are a friend by now. LINE's own answer goes before; without one, who has just added the account is one.
/// `false` says that nothing has changed, and not what it was before.
fn friend_after(told: Friend, added_friend: Option<bool>) -> Friend {
    match (told, added_friend) {
        (Friend::Unknown, Some(true)) => Friend::Yes,
        (told, _) => told,
    }
}

/// Exchanges the code and verifies who came.
pub async fn obtain(app: &App, channel: &LoginChannel, attempt: &Attempt, code: &str) -> Result<Result<Proof, Cause>> {
    let verifier = app.sealer.open(&attempt::context(&attempt.id), &attempt.sealed_verifier)?;
    let reply = match app.line.exchange(channel, code, &String::from_utf8_lossy(&verifier)).await {
        Ok(reply) => reply,
        Err(error) => {
            tracing::warn!(%error, "the code was not exchanged");
            return Ok(Err(Cause::of_exchange(&error)));
        }
    };
    kill::point("callback.exchanged");
    match check(app, channel, attempt, &reply).await {
        Ok((identity, friend)) => {
            let TokenReply { tokens, expires_in, .. } = reply;
            Ok(Ok(Proof { grant_id: app.new_id(), identity, friend, added_friend: None, tokens, expires_in }))
        }
        Err(cause) => {
            give_back(app, channel, &reply.tokens).await;
            Ok(Err(cause))
        }
    }
}

/// Revokes tokens that nothing will come of. One try: they are not kept, so there is nothing to try again with.
pub async fn give_back(app: &App, channel: &LoginChannel, tokens: &UserTokens) {
    if let Err(error) = app.line.revoke(channel, &tokens.access_token).await {
        tracing::warn!(%error, "tokens of a failed sign-in were not revoked");
    }
}

async fn check(
    app: &App,
    channel: &LoginChannel,
    attempt: &Attempt,
    reply: &TokenReply,
) -> Result<(Identity, Friend), Cause> {
    let id_token = reply.id_token.as_ref().map_err(|error| {
        tracing::warn!(%error, "LINE's token reply is of no use");
        Cause::ProviderFault
    })?;
    let identity = verify(app, channel, attempt, id_token, &reply.tokens)?;
    let (identity, friend) = tokio::join!(complete(app, identity, &reply.tokens), friend(app, &reply.tokens));
    Ok((identity?, friend))
}

fn verify(
    app: &App,
    channel: &LoginChannel,
    attempt: &Attempt,
    id_token: &str,
    tokens: &UserTokens,
) -> Result<Identity, Cause> {
    let expected = Expected {
        channel_id: &channel.channel_id,
        secret: &channel.secret,
        former_secret: channel.former_secret.as_ref(),
        nonce: &|nonce| seal::equal(&seal::hash(nonce), &attempt.nonce_hash),
        now: app.now().seconds(),
        started: attempt.created_at.seconds(),
        access_token: &tokens.access_token,
    };
    id_token::verify_web(id_token, &expected).map_err(|rejection| {
        match rejection {
            Rejection::IssuedAt => {
                tracing::error!("alarm: clock: LINE's ID token is from another time; check this machine's clock");
            }
            Rejection::ExpiryFar => tracing::error!("alarm: id_token: a signed ID token lives too long"),
            _ => {}
        }
        tracing::warn!(reason = rejection.reason(), "ID token refused");
        Cause::Token(rejection)
    })
}

/// The profile as it is now. It must name the same person; where LINE does not give it, the token's serves.
async fn complete(app: &App, identity: Identity, tokens: &UserTokens) -> Result<Identity, Cause> {
    match app.line.profile(&tokens.access_token).await {
        Ok(profile) if profile.user_id != identity.user_id => Err(Cause::ProfileMismatch),
        Ok(profile) => Ok(Identity { name: Some(profile.display_name), picture: profile.picture_url, ..identity }),
        Err(error) => {
            tracing::warn!(%error, "no profile: the ID token's name serves");
            Ok(identity)
        }
    }
}

async fn friend(app: &App, tokens: &UserTokens) -> Friend {
    match app.line.is_friend(&tokens.access_token).await {
        Ok(true) => Friend::Yes,
        Ok(false) => Friend::No,
        Err(error) => {
            tracing::warn!(%error, "friendship not known");
            Friend::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_added_friend_counts_where_line_does_not_answer() {
        for (told, added_friend, expected) in [
            (Friend::Unknown, Some(true), Friend::Yes),
            (Friend::Unknown, Some(false), Friend::Unknown),
            (Friend::Unknown, None, Friend::Unknown),
            (Friend::No, Some(true), Friend::No),
            (Friend::Yes, Some(false), Friend::Yes),
            (Friend::No, None, Friend::No),
        ] {
            assert_eq!(friend_after(told, added_friend), expected, "{told:?} {added_friend:?}");
        }
    }
}
