//! Profiles as a bot reads them: of its friends, and of others who wrote to it and have not blocked it.

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{Error, Line, endpoint, http};

/// `GET /v2/bot/profile/{userId}`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BotProfile {
    pub user_id: String,
    pub display_name: String,
    pub picture_url: Option<String>,
    /// BCP 47; LINE leaves it out where the person did not agree to tell it.
    pub language: Option<String>,
}

impl Line {
    /// The profile of somebody the bot knows; none where it may not read it, which has several causes: blocked, never
    /// a friend, or no such person for this bot.
    pub async fn profile_of(&self, token: &SecretString, user_id: &str) -> Result<Option<BotProfile>, Error> {
        let url = endpoint(&self.hosts.api, &format!("/v2/bot/profile/{user_id}"));
        let answer = http::send(self.http.get(&url).bearer_auth(token.expose_secret()), http::SMALL).await?;
        match answer.status {
            200 => answer.json().map(Some),
            404 => Ok(None),
            _ => Err(answer.into_refusal()),
        }
    }
}
