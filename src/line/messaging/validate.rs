//! What LINE thinks of messages, without sending them. LINE looks at the messages only, not at whom they are for.

use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Error, Line, http};

/// For which way of sending messages are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    Reply,
    Push,
    Multicast,
    Narrowcast,
    Broadcast,
}

/// One thing that LINE finds wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Objection {
    /// LINE's words.
    pub message: String,
    /// Where, as `messages[0].text`.
    pub property: String,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: Vec<Objection>,
}

impl For {
    fn path(self) -> &'static str {
        match self {
            Self::Reply => "/v2/bot/message/validate/reply",
            Self::Push => "/v2/bot/message/validate/push",
            Self::Multicast => "/v2/bot/message/validate/multicast",
            Self::Narrowcast => "/v2/bot/message/validate/narrowcast",
            Self::Broadcast => "/v2/bot/message/validate/broadcast",
        }
    }
}

impl Line {
    /// What LINE finds wrong with messages; nothing where it would take them.
    pub async fn validate(
        &self,
        token: &SecretString,
        sending: For,
        messages: &[Value],
    ) -> Result<Vec<Objection>, Error> {
        let request = self.bot_post(token, sending.path()).json(&json!({ "messages": messages }));
        objections(http::send(request, http::SMALL).await?)
    }
}

/// What LINE's answer finds wrong with that about which it was asked.
pub(in crate::line) fn objections(answer: http::Answer) -> Result<Vec<Objection>, Error> {
    match answer.status {
        200..300 => Ok(Vec::new()),
        400 => {
            let Refusal { message, details } = answer.json()?;
            let whole = || vec![Objection { message, property: String::new() }];
            Ok(if details.is_empty() { whole() } else { details })
        }
        _ => Err(answer.into_refusal()),
    }
}
