//! The Messaging API: sending, and what belongs to it. All calls answer with LINE's request id or words in their
//! result, and leave a line in the log (`http/record.rs`).
//!
//! - here: push, multicast, narrowcast, broadcast and reply
//! - [`validate`]: what LINE thinks of messages without sending them; [`narrowcast`]: how far one is
//! - [`quota`]: how much may be sent, and was; [`bot`]: the account itself, its followers, its webhook
//! - [`chat`]: the loading animation, and marking as read
//!
//! Whoever sends under a retry key freezes the body and makes the key before the first try; see LINE's "Retry an API
//! request". LINE keeps a key for 24 hours. A reply has no key: LINE takes its token once.

pub mod bot;
pub mod chat;
pub mod narrowcast;
pub mod quota;
pub mod validate;

use reqwest::RequestBuilder;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

pub use self::bot::BotInfo;
use super::{Error, Line, endpoint, http};

/// LINE has the messages. That is not a delivery: a person who blocked the account gets nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accepted {
    pub request_id: String,
    /// The earlier request that was accepted under this key; set where this one came too late.
    pub accepted_request_id: Option<String>,
    /// Of a push or reply, in the order of the messages. The others have none.
    pub sent_message_ids: Vec<String>,
}

/// The ways of sending that take a retry key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// To one person, group or room.
    Push,
    /// To up to 500 people. One malformed id, and nobody gets it.
    Multicast,
    /// To friends chosen by LINE; takes place later, see [`narrowcast`].
    Narrowcast,
    /// To all friends.
    Broadcast,
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

impl Endpoint {
    /// Its name in our own records.
    pub fn word(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Multicast => "multicast",
            Self::Narrowcast => "narrowcast",
            Self::Broadcast => "broadcast",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Push => "/v2/bot/message/push",
            Self::Multicast => "/v2/bot/message/multicast",
            Self::Narrowcast => "/v2/bot/message/narrowcast",
            Self::Broadcast => "/v2/bot/message/broadcast",
        }
    }
}

impl Line {
    /// Sends `body`, the endpoint's request as JSON text, under `retry_key`. A repeated key is success too.
    pub async fn send(
        &self,
        token: &SecretString,
        endpoint: Endpoint,
        retry_key: &str,
        body: &str,
    ) -> Result<Accepted, Error> {
        let request = json(self.bot_post(token, endpoint.path()), body).header("x-line-retry-key", retry_key);
        let answer = http::send(request, http::SMALL).await?;
        match answer.status {
            200..300 | 409 => Ok(accepted(&answer)),
            _ => Err(answer.into_refusal()),
        }
    }

    /// [`Endpoint::Push`] of [`Line::send`].
    pub async fn push(&self, token: &SecretString, retry_key: &str, body: &str) -> Result<Accepted, Error> {
        self.send(token, Endpoint::Push, retry_key, body).await
    }

    /// Answers an event with `body`, LINE's reply request as JSON text. Never with a retry key: LINE refuses that.
    pub async fn reply(&self, token: &SecretString, body: &str) -> Result<Accepted, Error> {
        let request = json(self.bot_post(token, "/v2/bot/message/reply"), body);
        Ok(accepted(&http::send_ok(request, http::SMALL).await?))
    }

    fn bot_get(&self, token: &SecretString, path: &str) -> RequestBuilder {
        self.http.get(&endpoint(&self.hosts.api, path)).bearer_auth(token.expose_secret())
    }

    fn bot_post(&self, token: &SecretString, path: &str) -> RequestBuilder {
        self.http.post(&endpoint(&self.hosts.api, path)).bearer_auth(token.expose_secret())
    }
}

/// A body that is JSON text already.
fn json(request: RequestBuilder, body: &str) -> RequestBuilder {
    request.header("content-type", "application/json").body(body.to_owned())
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
