//! The channels that exist at this LINE: providers, each with at most one LINE Login channel and any number of bots.
//!
//! The world is given by whoever opens the simulator and is never changed by a call; it is what a company sets up in
//! LINE's console. A user id belongs to one provider, so two channels share ids exactly when they share a provider.

use serde::{Deserialize, Serialize};

/// All providers known to this LINE.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct World {
    pub providers: Vec<Provider>,
}

/// A provider: the unit within which a person has one user id. Its name goes into the ids, so renaming it changes them.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Provider {
    pub name: String,
    #[serde(default)]
    pub login: Option<LoginChannel>,
    #[serde(default)]
    pub bots: Vec<Bot>,
}

/// A LINE Login channel of the app type "Web app", in the status "Published".
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LoginChannel {
    pub channel_id: String,
    pub secret: String,
    pub callback_urls: Vec<String>,
    /// The channel id of the "Linked LINE Official Account", which must be of the same provider.
    #[serde(default)]
    pub linked_bot: Option<String>,
    pub name: String,
    #[serde(default)]
    pub liff: Option<LiffApp>,
}

/// A LIFF app of a LINE Login channel: a page that LINE opens with the person's tokens.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LiffApp {
    /// The channel id, `-`, and eight letters or digits.
    pub id: String,
    pub endpoint_url: String,
    pub scopes: Vec<String>,
}

/// A Messaging API channel with its official account.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Bot {
    pub channel_id: String,
    pub secret: String,
    /// `U` and 32 hex digits.
    pub user_id: String,
    /// With its `@`.
    pub basic_id: String,
    pub name: String,
}

impl World {
    pub(super) fn login(&self, channel_id: &str) -> Option<(&Provider, &LoginChannel)> {
        self.providers.iter().find_map(|provider| {
            let login = provider.login.as_ref()?;
            (login.channel_id == channel_id).then_some((provider, login))
        })
    }

    pub(super) fn liff(&self, id: &str) -> Option<(&Provider, &LoginChannel, &LiffApp)> {
        self.providers.iter().find_map(|provider| {
            let login = provider.login.as_ref()?;
            let app = login.liff.as_ref().filter(|app| app.id == id)?;
            Some((provider, login, app))
        })
    }

    pub(super) fn bot(&self, channel_id: &str) -> Option<(&Provider, &Bot)> {
        self.providers.iter().find_map(|provider| {
            let bot = provider.bots.iter().find(|bot| bot.channel_id == channel_id)?;
            Some((provider, bot))
        })
    }

    pub(super) fn provider(&self, name: &str) -> Option<&Provider> {
        self.providers.iter().find(|provider| provider.name == name)
    }

    /// The secret of a channel of either kind.
    pub(super) fn secret(&self, channel_id: &str) -> Option<&str> {
        let login = self.login(channel_id).map(|(_, login)| login.secret.as_str());
        login.or_else(|| self.bot(channel_id).map(|(_, bot)| bot.secret.as_str()))
    }
}

impl Provider {
    /// The official account whose friendship LINE Login can ask for.
    pub(super) fn linked_bot(&self) -> Option<&Bot> {
        let wanted = self.login.as_ref()?.linked_bot.as_deref()?;
        self.bots.iter().find(|bot| bot.channel_id == wanted)
    }
}
