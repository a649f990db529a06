//! Channel access tokens by the channel's name in the configuration.
//!
//! They are stateless tokens, kept in this process only ([`token::Cache`](crate::line::token::Cache)): there
//! is no table, and nothing to revoke.

pub mod bot;

use secrecy::SecretString;

use crate::{app::App, line::Error};

/// A channel that has tokens of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A Messaging API channel, by its name in the configuration.
    Bot(&'a str),
    /// The LINE Login channel of a provider, by the provider's name.
    Login(&'a str),
}

/// The channel's access token, fresh enough to be used now.
pub async fn token(app: &App, kind: Kind<'_>) -> Result<SecretString, Error> {
    let (channel_id, secret) = credentials(app, kind)?;
    app.tokens.get(&app.line, channel_id, secret, app.now().0).await
}

/// Drops a token that LINE answered with 401, so that the next call fetches anew. False where that was just
/// done and did not help: then the credentials are wrong, and the caller waits a minute or more.
pub async fn forget(app: &App, kind: Kind<'_>, token: &SecretString) -> bool {
    match credentials(app, kind) {
        Ok((channel_id, _)) => app.tokens.forget(channel_id, token, app.now().0).await,
        Err(_) => false,
    }
}

fn credentials<'a>(app: &'a App, kind: Kind<'_>) -> Result<(&'a str, &'a SecretString), Error> {
    let found = match kind {
        Kind::Bot(name) => {
            app.config.channel.get(name).map(|channel| (channel.channel_id.as_str(), &channel.channel_secret))
        }
        Kind::Login(provider) => {
            let login = app.config.provider.get(provider).and_then(|provider| provider.login.as_ref());
            login.map(|login| (login.channel_id.as_str(), &login.channel_secret))
        }
    };
    found.ok_or_else(|| {
        Error::Client(match kind {
            Kind::Bot(name) => format!("there is no [channel.{name}] in the configuration"),
            Kind::Login(name) => format!("there is no [provider.{name}.login] in the configuration"),
        })
    })
}
