//! Channel access tokens by the channel's name in the configuration, and the one way to call LINE with one.
//!
//! - Stateless tokens are kept in this process only: there is no limit on them, and nothing to revoke.
//! - Tokens v2.1 and short-lived ones are few, so all nodes share one ([`shared`], table `channel_tokens`): one node
//!   gets the next at 80 % of the life, or after a 401; the former is revoked when nobody uses it ([`tidy`]).
//! - A long-lived token is the configuration's, and is only ever read.
//!
//! A fresh token costs no question to LINE or to the database. Where LINE refuses the credentials, that is told once
//! ([`alarm`], table `channel_alarms`), and LINE is asked once a minute over all nodes. What LINE counts by the hour is
//! counted in [`hourly`].

mod alarm;
pub mod bot;
pub mod hourly;
mod shared;
mod status;
mod store;
mod tidy;

use secrecy::{ExposeSecret, SecretString};

pub use self::{
    status::{Status, status},
    store::context,
    tidy::tidy,
};
use crate::{
    app::App,
    config::{self, TokenKind},
    line::{
        Error,
        token::{Kept, Look, Slot},
    },
    seal,
};

/// How long a stateless token fetched in place of a refused one is kept, even where it is refused as well.
const REPLACEMENT_HOLDS: i64 = 60_000;

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
    let own = Own::find(app, kind)?;
    if let Some(token) = own.long_lived() {
        return Ok(token.clone());
    }
    let slot = app.tokens.slot(own.id);
    match slot.look(app.now().0) {
        Look::Fresh(token) => Ok(token),
        Look::Ageing(token) => Ok(refresh(app, &own, &slot, token).await),
        Look::None => fetch(app, &own, &slot).await,
    }
}

/// Gets the channel's token and calls LINE with it; where LINE answers 401, once more with a new token. Not for a call
/// that must not be made twice, or that is counted before it is made: that one asks for [`token`], calls, and gives
/// [`after_call`] the answer.
pub async fn call<T, C, F>(app: &App, kind: Kind<'_>, call: C) -> Result<T, Error>
where
    C: Fn(SecretString) -> F,
    F: Future<Output = Result<T, Error>>,
{
    let first = token(app, kind).await?;
    let result = call(first.clone()).await;
    if !after_call(app, kind, &first, &result).await {
        return result;
    }
    // Without another token the refusal stands.
    let Ok(second) = token(app, kind).await else { return result };
    let result = call(second.clone()).await;
    after_call(app, kind, &second, &result).await;
    result
}

/// What LINE's answer to a call says of the token: true where it was a 401, and the next call gets another token. A 401
/// with false means that a new token would not help: the caller waits a minute or more.
pub async fn after_call<T>(app: &App, kind: Kind<'_>, token: &SecretString, result: &Result<T, Error>) -> bool {
    match result {
        Err(Error::Refused { status: 401, .. }) => forget(app, kind, token).await,
        Ok(_) => {
            if let Ok(own) = Own::find(app, kind)
                && !app.tokens.slot(own.id).note_taken(true)
            {
                alarm::clear(app, &own, alarm::What::Token).await;
            }
            false
        }
        Err(_) => false,
    }
}

/// Drops a token that LINE answered with 401, so that the next call gets another. False where that was just
/// done and did not help: then the credentials are wrong, and the caller waits a minute or more.
pub async fn forget(app: &App, kind: Kind<'_>, token: &SecretString) -> bool {
    let Ok(own) = Own::find(app, kind) else { return false };
    let slot = app.tokens.slot(own.id);
    let is_dropped = match own.kind() {
        TokenKind::Stateless => forget_stateless(app, &slot, token).await,
        TokenKind::V21 | TokenKind::ShortLived => match shared::forget(app, &own, &slot, token).await {
            Ok(is_dropped) => is_dropped,
            Err(error) => {
                tracing::warn!(channel = own.name(), %error, "that LINE refused a token could not be kept");
                return false;
            }
        },
        TokenKind::LongLived => false,
    };
    if !is_dropped {
        slot.note_taken(false);
        let message = "LINE does not take the token that it gave".to_owned();
        let refusal = Error::Refused { status: 401, message, request_id: String::new(), retry_after: None };
        alarm::raise(app, &own, alarm::What::Token, &refusal).await;
    }
    is_dropped
}

async fn forget_stateless(app: &App, slot: &Slot, token: &SecretString) -> bool {
    let mut fetching = slot.fetching.lock().await;
    let now = app.now().0;
    if slot.find(token).is_none() {
        return true;
    }
    if fetching.replaced_at.is_some_and(|at| (at..at.saturating_add(REPLACEMENT_HOLDS)).contains(&now)) {
        return false;
    }
    fetching.replaced_at = Some(now);
    slot.drop_token(token);
    true
}

/// Another token in place of an ageing one, which is used on where that fails, or while another call does it.
async fn refresh(app: &App, own: &Own<'_>, slot: &Slot, ageing: SecretString) -> SecretString {
    let Ok(_one) = slot.fetching.try_lock() else { return ageing };
    if let Look::Fresh(token) = slot.look(app.now().0) {
        return token;
    }
    match obtain(app, own).await {
        Ok(kept) => {
            slot.rest(app.now().0);
            slot.keep(kept.clone());
            kept.token
        }
        Err(error) => {
            tracing::warn!(channel = own.name(), %error, "the channel access token is not replaced yet");
            slot.rest(app.now().0);
            ageing
        }
    }
}

/// A token where there is none; callers of one channel wait for one answer.
async fn fetch(app: &App, own: &Own<'_>, slot: &Slot) -> Result<SecretString, Error> {
    let mut fetching = slot.fetching.lock().await;
    let now = app.now().0;
    if let Look::Fresh(token) | Look::Ageing(token) = slot.look(now) {
        return Ok(token);
    }
    if let Some(error) = fetching.refused(now) {
        return Err(error);
    }
    let obtained = obtain(app, own).await;
    fetching.note(now, obtained.as_ref().err());
    let kept = obtained?;
    slot.keep(kept.clone());
    Ok(kept.token)
}

async fn obtain(app: &App, own: &Own<'_>) -> Result<Kept, Error> {
    match own.kind() {
        TokenKind::V21 | TokenKind::ShortLived => shared::obtain(app, own).await,
        TokenKind::Stateless | TokenKind::LongLived => stateless(app, own).await,
    }
}

async fn stateless(app: &App, own: &Own<'_>) -> Result<Kept, Error> {
    let now = app.now();
    let known = alarm::find(app, own).await;
    if let Some(alarm) = known.as_ref().filter(|alarm| alarm.holds(now)) {
        return Err(alarm.error());
    }
    let issued = app.line.stateless_token(own.id, own.secret).await;
    alarm::note(app, own, known.as_ref(), issued.as_ref().err()).await;
    let issued = issued?;
    Ok(Kept { id: None, token: issued.token, from: now.0, until: now.plus(issued.life).0 })
}

/// A channel's credentials, as the configuration has them.
#[derive(Debug, Clone, Copy)]
struct Own<'a> {
    kind: Kind<'a>,
    /// LINE's number of it.
    id: &'a str,
    secret: &'a SecretString,
    bot: Option<&'a config::Channel>,
}

impl<'a> Own<'a> {
    fn find(app: &'a App, kind: Kind<'a>) -> Result<Self, Error> {
        match kind {
            Kind::Bot(name) => {
                let bot = app.config.channel.get(name);
                let own =
                    bot.map(|channel| Self { kind, id: &channel.channel_id, secret: &channel.channel_secret, bot });
                own.ok_or_else(|| Error::Client(format!("there is no [channel.{name}] in the configuration")))
            }
            Kind::Login(provider) => {
                let login = app.config.provider.get(provider).and_then(|provider| provider.login.as_ref());
                let own =
                    login.map(|login| Self { kind, id: &login.channel_id, secret: &login.channel_secret, bot: None });
                own.ok_or_else(|| {
                    Error::Client(format!("there is no [provider.{provider}.login] in the configuration"))
                })
            }
        }
    }

    fn kind(&self) -> TokenKind {
        self.bot.map_or(TokenKind::Stateless, |bot| bot.token)
    }

    fn name(&self) -> &'a str {
        match self.kind {
            Kind::Bot(name) | Kind::Login(name) => name,
        }
    }

    /// The configuration's section.
    fn section(&self) -> String {
        match self.kind {
            Kind::Bot(name) => format!("channel.{name}"),
            Kind::Login(name) => format!("provider.{name}.login"),
        }
    }

    fn long_lived(&self) -> Option<&'a SecretString> {
        let bot = self.bot.filter(|bot| bot.token == TokenKind::LongLived)?;
        bot.channel_access_token.as_ref()
    }

    /// A hash that changes when somebody mends the credentials.
    fn fingerprint(&self) -> String {
        let text = |secret: Option<&SecretString>| secret.map(|secret| secret.expose_secret().to_owned());
        let bot = self.bot.map(|bot| {
            let key_id = bot.assertion_key_id.clone();
            [text(bot.assertion_key.as_ref()), key_id, text(bot.channel_access_token.as_ref())]
        });
        let kind = self.kind().word();
        seal::hash(&format!("{kind}\0{}\0{}\0{bot:?}", self.id, self.secret.expose_secret()))
    }
}
