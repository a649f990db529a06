//! The official account itself: who it is, who follows it, and where its webhooks go.

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{Error, Line, endpoint, http};

const WEBHOOK: &str = "/v2/bot/channel/webhook/endpoint";

/// `GET /v2/bot/info`, as far as it is used.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BotInfo {
    /// The `destination` of the channel's webhooks.
    pub user_id: String,
    pub basic_id: String,
    pub display_name: String,
}

/// Where the channel's webhooks go.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Webhook {
    pub endpoint: String,
    /// "Use webhook", which only LINE's console switches.
    pub active: bool,
}

/// How a webhook that LINE sent as a test was answered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tested {
    #[serde(default)]
    pub success: bool,
    /// Zero or less where there was no answer.
    pub status_code: i32,
    /// `OK`, `COULD_NOT_CONNECT`, `REQUEST_TIMEOUT`, `ERROR_STATUS_CODE` or `UNCLASSIFIED`.
    pub reason: String,
    pub detail: String,
}

/// A page of the people who follow the account.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Followers {
    pub user_ids: Vec<String>,
    /// Where the next page begins, for 24 hours. A page may be short, or empty, and not be the last.
    pub next: Option<String>,
}

impl Line {
    /// The official account behind a channel token.
    pub async fn bot_info(&self, token: &SecretString) -> Result<BotInfo, Error> {
        http::send_ok(self.bot_get(token, "/v2/bot/info"), http::SMALL).await?.json()
    }

    /// A page of follower ids, the first without `start`. LINE tells them to verified and premium accounts only (403).
    pub async fn followers(&self, token: &SecretString, start: Option<&str>) -> Result<Followers, Error> {
        let request = self.bot_get(token, "/v2/bot/followers/ids").query(&[("limit", "1000")]);
        let request = request.query(&start.map(|start| ("start", start)).as_slice());
        http::send_ok(request, http::LARGE).await?.json()
    }

    /// Where webhooks go; none where no URL is set.
    pub async fn webhook(&self, token: &SecretString) -> Result<Option<Webhook>, Error> {
        let answer = http::send(self.bot_get(token, WEBHOOK), http::SMALL).await?;
        match answer.status {
            200 => answer.json().map(Some),
            404 => Ok(None),
            _ => Err(answer.into_refusal()),
        }
    }

    /// Sets where webhooks go; in effect within about a minute.
    pub async fn set_webhook(&self, token: &SecretString, url: &str) -> Result<(), Error> {
        let request = self.http.put(&endpoint(&self.hosts.api, WEBHOOK)).bearer_auth(token.expose_secret());
        let request = request.json(&serde_json::json!({ "endpoint": url }));
        http::send_ok(request, http::SMALL).await.map(|_| ())
    }

    /// Has LINE send a webhook without events to the URL that is set. 60 times an hour at most.
    pub async fn test_webhook(&self, token: &SecretString) -> Result<Tested, Error> {
        let request = self.bot_post(token, "/v2/bot/channel/webhook/test").json(&serde_json::json!({}));
        http::send_ok(request, http::SMALL).await?.json()
    }
}
