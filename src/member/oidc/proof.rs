//! The proof of who came back: one exchange of the code, an ID token verified here, and what the provider says besides.
//! Its tokens are used for that, and kept nowhere.

use super::{
    attempt::{self, Attempt},
    refusal::Cause,
};
use crate::{
    app::App,
    db::Millis,
    error::Result,
    line::id_token::Rejection,
    oidc::{
        Claims, Oidc, Tokens,
        discovery::Discovery,
        id_token::{Expected, Unverified, Verified},
    },
    seal,
};

/// Somebody, by the provider's word.
pub struct Person {
    pub claims: Claims,
    /// When they proved themselves there, if that was since the start of the attempt.
    pub proved_at: Option<Millis>,
}

/// Exchanges the code and verifies who came.
pub async fn obtain(
    app: &App,
    oidc: &Oidc,
    discovery: &Discovery,
    attempt: &Attempt,
    code: &str,
) -> Result<Result<Person, Cause>> {
    let verifier = app.sealer.open(&attempt::context(&attempt.id), &attempt.sealed_verifier)?;
    let tokens = match oidc.exchange(discovery, code, &String::from_utf8_lossy(&verifier)).await {
        Ok(tokens) => tokens,
        Err(error) => {
            tracing::warn!(%error, "the code was not exchanged");
            return Ok(Err(if error.is_of_code() { Cause::Code } else { Cause::ProviderFault }));
        }
    };
    Ok(person(app, oidc, discovery, attempt, &tokens).await)
}

async fn person(
    app: &App,
    oidc: &Oidc,
    discovery: &Discovery,
    attempt: &Attempt,
    tokens: &Tokens,
) -> Result<Person, Cause> {
    let Verified { subject, proved_at, claims } = verify(app, oidc, discovery, attempt, tokens).await?;
    let mut said = oidc.userinfo(discovery, &tokens.access_token, &subject).await.map_err(|error| {
        tracing::warn!(%error, "the provider does not say who it is");
        Cause::ProviderFault
    })?;
    // What is signed goes before what is not.
    said.extend(claims);
    Ok(Person { claims: said, proved_at: proved_at.map(|seconds| Millis(seconds * 1000)) })
}

async fn verify(
    app: &App,
    oidc: &Oidc,
    discovery: &Discovery,
    attempt: &Attempt,
    tokens: &Tokens,
) -> Result<Verified, Cause> {
    let refuse = |rejection: Rejection| {
        if rejection == Rejection::IssuedAt {
            tracing::error!("alarm: clock: the provider's ID token is from another time; check this machine's clock");
        }
        tracing::warn!(reason = rejection.reason(), "ID token of the company's provider refused");
        Cause::Token(rejection)
    };
    let unverified = Unverified::read(&tokens.id_token).map_err(refuse)?;
    let (algorithm, key_id) = unverified.key();
    let key = oidc.key(discovery, algorithm, key_id, app.now().0).await.map_err(|_| Cause::ProviderFault)?;
    let key = key.ok_or(Rejection::Key).map_err(refuse)?;
    let expected = Expected {
        issuer: oidc.issuer(),
        client_id: oidc.client_id(),
        nonce: &|nonce| seal::equal(&seal::hash(nonce), &attempt.nonce_hash),
        now: app.now().seconds(),
        started: attempt.created_at.seconds(),
        access_token: &tokens.access_token,
    };
    unverified.verify(&key, &expected).map_err(refuse)
}
