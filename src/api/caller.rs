//! Who calls: the key, and what of it a handler must respect.

use axum::{extract::FromRequestParts, http::request::Parts};
use serde_json::json;

use crate::{
    app::App,
    audit,
    error::{Error, Flaw, Result},
    member::guard::Scope,
};

/// The key of a request, as a handler's argument.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The key's public id.
    pub key_id: String,
    pub scopes: Vec<Scope>,
    /// Empty: all.
    pub(super) providers: Vec<String>,
    pub address: String,
}

impl Caller {
    /// Who acts, as the audit names it.
    pub fn actor(&self) -> String {
        format!("key:{}", self.key_id)
    }

    /// Whether the key is for this provider. What belongs to another one is not found.
    pub fn sees(&self, provider: &str) -> bool {
        self.providers.is_empty() || self.providers.iter().any(|name| name == provider)
    }

    pub fn sees_all(&self) -> bool {
        self.providers.is_empty()
    }

    pub fn sees_channel(&self, app: &App, channel: &str) -> bool {
        // What a channel sent that is no longer configured belongs to nobody's provider any more.
        app.config.channel.get(channel).map_or(self.providers.is_empty(), |channel| self.sees(&channel.provider))
    }

    /// The configured providers that the key is for.
    pub fn providers<'a>(&'a self, app: &'a App) -> impl Iterator<Item = &'a str> {
        app.config.provider.keys().map(String::as_str).filter(|name| self.sees(name))
    }

    /// The configured channels of these.
    pub fn channels<'a>(&'a self, app: &'a App) -> impl Iterator<Item = &'a str> {
        app.config.channel.iter().filter(|(_, channel)| self.sees(&channel.provider)).map(|(name, _)| name.as_str())
    }

    /// The channel that is named, or the only one; of those that the key is for.
    pub fn channel(&self, app: &App, named: Option<String>) -> Result<String, Flaw> {
        let known: Vec<&str> = self.channels(app).collect();
        match (named, known.as_slice()) {
            (Some(name), _) if known.contains(&name.as_str()) => Ok(name),
            (None, [only]) => Ok((*only).to_owned()),
            (Some(name), _) => {
                Err(Flaw::new("channel", format!("there is no channel {name:?}; there are: {}", known.join(", "))))
            }
            (None, []) => Err(Flaw::new("channel", "the key is for none")),
            (None, _) => Err(Flaw::new("channel", format!("there are several, name one: {}", known.join(", ")))),
        }
    }

    /// Notes in the audit that the key asked for what is another provider's, and says that there is no such thing.
    pub async fn refuse_foreign(&self, app: &App, what: &str, id: &str) -> Error {
        match self.note(app, "foreign", Some(id), json!({ "what": what })).await {
            Ok(()) => Error::NotFound,
            Err(error) => error,
        }
    }

    /// Writes an audit row about a refusal of this key.
    pub(super) async fn note(
        &self,
        app: &App,
        reason: &str,
        subject: Option<&str>,
        data: serde_json::Value,
    ) -> Result<()> {
        let entry = audit::Entry {
            action: "api_refused",
            reason: Some(reason),
            subject,
            address: Some(&self.address),
            data,
            ..Default::default()
        };
        let mut conn = app.db.conn().await?;
        audit::insert(&mut conn, app.now(), entry).await
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Error::internal("the route has no door of the API"))
    }
}
