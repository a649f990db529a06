//! Sending through the Messaging API: push and reply to one person.
//!
//! The caller freezes the body of a push and makes the retry key before the first try; see LINE's "Retry an API
//! request". LINE keeps a key for 24 hours. A reply has no key: LINE takes its token once.

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{Error, Line, endpoint, http};

/// LINE has the messages. That is not a delivery: a person who blocked the account gets nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accepted {
    pub request_id: String,
    /// The earlier request that was accepted under this key; set where this one came too late.
    pub accepted_request_id: Option<String>,
    pub sent_message_ids: Vec<String>,
}

/// `GET /v2/bot/info`, as far as it is used.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BotInfo {
    /// The `destination` of the channel's webhooks.
    pub user_id: String,
    pub basic_id: String,
    pub display_name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Reply {
    sent_messages: Vec<SentMessage>,
}

#[derive(Deserialize)]
struct SentMessage {
    /// Larger than 2^53: text, never a number.
    id: String,
}

impl Line {
    /// Pushes `body`, LINE's push request as JSON text, under `retry_key`. A repeated key is success too.
    pub async fn push(&self, token: &SecretString, retry_key: &str, body: &str) -> Result<Accepted, Error> {
        let request = self
            .http
            .post(&endpoint(&self.hosts.api, "/v2/bot/message/push"))
            .bearer_auth(token.expose_secret())
            .header("content-type", "application/json")
            .header("x-line-retry-key", retry_key)
            .body(body.to_owned());
        let answer = http::send(request, http::SMALL).await?;
        match answer.status {
            200..300 | 409 => Ok(accepted(&answer)),
            _ => Err(answer.into_refusal()),
        }
    }

    /// Answers an event with `body`, LINE's reply request as JSON text. Never with a retry key: LINE refuses that.
    pub async fn reply(&self, token: &SecretString, body: &str) -> Result<Accepted, Error> {
        let request = self
            .http
            .post(&endpoint(&self.hosts.api, "/v2/bot/message/reply"))
            .bearer_auth(token.expose_secret())
            .header("content-type", "application/json")
            .body(body.to_owned());
        Ok(accepted(&http::send_ok(request, http::SMALL).await?))
    }

    /// Shows in a person's chat that an answer is being made, for `seconds` (5 to 60, in fives) or until it comes.
    pub async fn start_loading(&self, token: &SecretString, user_id: &str, seconds: u8) -> Result<(), Error> {
        let request = self
            .http
            .post(&endpoint(&self.hosts.api, "/v2/bot/chat/loading/start"))
            .bearer_auth(token.expose_secret())
            .json(&serde_json::json!({ "chatId": user_id, "loadingSeconds": seconds }));
        http::send_ok(request, http::SMALL).await?;
        Ok(())
    }

    /// The official account behind a channel token.
    pub async fn bot_info(&self, token: &SecretString) -> Result<BotInfo, Error> {
        let request = self.http.get(&endpoint(&self.hosts.api, "/v2/bot/info")).bearer_auth(token.expose_secret());
        http::send_ok(request, http::SMALL).await?.json()
    }
}

/// The status decides alone: a body that cannot be read does not undo that LINE took the messages.
fn accepted(answer: &http::Answer) -> Accepted {
    let reply: Reply = answer.json().unwrap_or_default();
    let earlier = answer.header("x-line-accepted-request-id");
    Accepted {
        request_id: answer.request_id().to_owned(),
        accepted_request_id: (!earlier.is_empty()).then(|| earlier.to_owned()),
        sent_message_ids: reply.sent_messages.into_iter().map(|message| message.id).collect(),
    }
}
