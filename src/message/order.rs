//! An order: what somebody asks to be sent to one member or to many, and all that may be wrong with it.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{app::App, db::Millis, error::Error, seal};

/// Longer names and keys are mistakes.
const LONGEST_NAME: usize = 64;
const LONGEST_KEY: usize = 255;
/// Members that one order may name.
pub const MOST_MEMBERS: usize = 500;
/// Data of a template, and messages, as JSON.
const MOST_BYTES: usize = 256 * 1024;

/// What is asked for.
#[derive(Debug, Clone, Serialize)]
pub struct Order {
    /// Name of the Messaging API channel that sends it.
    pub channel: String,
    pub to: Audience,
    pub what: What,
    /// What it is about, where a member may opt out of that.
    pub topic: Option<String>,
    /// Not before; at once where nothing is said.
    pub send_at: Option<Millis>,
    /// Takes the place of whatever waits for the same recipient under the same key.
    pub collapse_key: Option<String>,
    /// Whoever asks again under the same key gets the first message, and sends nothing.
    #[serde(skip)]
    pub idempotency_key: Option<String>,
    /// Transactional for one member and bulk for many, where nothing is said.
    pub lane: Option<Lane>,
    /// Accepted even where it is more than may be sent this month: the rest waits.
    #[serde(skip)]
    pub beyond_quota: bool,
    /// Who or what asks, a machine word.
    #[serde(skip)]
    pub cause: &'static str,
}

/// Whom it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// By the company's id, else by ours.
    Member(String),
    /// Some, each by such an id.
    Members(Vec<String>),
    Tag(String),
    /// Everybody linked in the channel's provider.
    All,
}

/// What they get.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Filled for each recipient, in their language.
    Template { name: String, data: Value },
    /// LINE message objects, the same for all.
    Messages(Vec<Value>),
}

/// Transactional goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    Transactional,
    Bulk,
}

/// One thing that is wrong with an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The order's part, such as `channel`, or a JSON path in it, such as `messages[0].text`.
    pub path: String,
    pub text: String,
}

/// Why an order is not accepted; nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("{}", list(.0))]
    Mistakes(Vec<Mistake>),
    #[error(
        "idempotency key: it was used for another order (message {message_id}); \
         repeat that one unchanged, or take a new key"
    )]
    KeyTaken { message_id: String },
    #[error(transparent)]
    Failed(#[from] Error),
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<serde_json::Error> for Refusal {
    fn from(error: serde_json::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.text)
    }
}

fn list(mistakes: &[Mistake]) -> String {
    match mistakes {
        [one] => format!("nothing was accepted: {one}"),
        many => many.iter().fold("nothing was accepted:".to_owned(), |text, mistake| format!("{text}\n  - {mistake}")),
    }
}

impl Mistake {
    pub(super) fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { path: path.into(), text: text.into() }
    }
}

impl Lane {
    pub fn word(self) -> &'static str {
        match self {
            Self::Transactional => "transactional",
            Self::Bulk => "bulk",
        }
    }
}

impl Order {
    pub fn lane(&self) -> Lane {
        let usual = if matches!(self.to, Audience::Member(_)) { Lane::Transactional } else { Lane::Bulk };
        self.lane.unwrap_or(usual)
    }

    /// Tells this order from any other under the same key.
    pub(super) fn fingerprint(&self) -> Result<String, serde_json::Error> {
        Ok(seal::hash(&serde_json::to_string(self)?))
    }

    /// What is wrong by itself, before anybody or anything is looked up.
    pub(super) fn check_words(&self, app: &App) -> Vec<Mistake> {
        let mut found = Vec::new();
        let mut look = |path: &str, text: Option<&str>, most: usize| {
            if text.is_some_and(|text| !is_word(text, most)) {
                found.push(Mistake::new(path, format!("must be 1 to {most} letters without control characters")));
            }
        };
        look("topic", self.topic.as_deref(), LONGEST_NAME);
        look("collapse_key", self.collapse_key.as_deref(), LONGEST_KEY);
        look("idempotency_key", self.idempotency_key.as_deref(), LONGEST_KEY);
        match &self.to {
            Audience::Member(id) => look("to.member", Some(id), LONGEST_KEY),
            Audience::Members(ids) => {
                for (place, id) in ids.iter().enumerate() {
                    look(&format!("to.members[{place}]"), Some(id), LONGEST_KEY);
                }
            }
            Audience::Tag(tag) => look("to.tag", Some(tag), LONGEST_NAME),
            Audience::All => {}
        }
        if let Audience::Members(ids) = &self.to
            && !(1..=MOST_MEMBERS).contains(&ids.len())
        {
            found.push(Mistake::new("to.members", format!("must name 1 to {MOST_MEMBERS} members")));
        }
        if !app.config.channel.contains_key(&self.channel) {
            let known = app.config.channel.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            found.push(Mistake::new("channel", format!("there is no channel {:?}; there are: {known}", self.channel)));
        }
        self.check_size(&mut found);
        found
    }

    fn check_size(&self, found: &mut Vec<Mistake>) {
        let size = match &self.what {
            What::Template { data, .. } if !data.is_object() => {
                return found.push(Mistake::new("data", "must be a JSON object"));
            }
            What::Template { data, .. } => data.to_string().len(),
            What::Messages(list) => list.iter().map(|message| message.to_string().len()).sum(),
        };
        if size > MOST_BYTES {
            let path = if matches!(self.what, What::Messages(_)) { "messages" } else { "data" };
            found.push(Mistake::new(path, format!("is longer than {} KB", MOST_BYTES / 1024)));
        }
    }
}

/// Whether a text can name something: not empty, not long, nothing invisible that a database or a log would stumble at.
pub(super) fn is_word(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_order_is_known_again() {
        let what = What::Template { name: "reminder".into(), data: json!({ "b": 1, "a": [2] }) };
        let order = Order {
            channel: "main".into(),
            to: Audience::Tag("gold".into()),
            what,
            topic: None,
            send_at: None,
            collapse_key: None,
            idempotency_key: Some("k".into()),
            lane: None,
            beyond_quota: false,
            cause: "command",
        };
        let same = Order {
            what: What::Template { name: "reminder".into(), data: json!({ "a": [2], "b": 1 }) },
            idempotency_key: None,
            beyond_quota: true,
            cause: "api",
            ..order.clone()
        };
        assert_eq!(order.fingerprint().unwrap(), same.fingerprint().unwrap());
        for other in [
            Order { to: Audience::Tag("silver".into()), ..order.clone() },
            Order { to: Audience::Member("gold".into()), ..order.clone() },
            Order { send_at: Some(Millis(1)), ..order.clone() },
            Order { topic: Some("news".into()), ..order.clone() },
            Order { lane: Some(Lane::Transactional), ..order.clone() },
            Order { what: What::Messages(Vec::new()), ..order.clone() },
        ] {
            assert_ne!(order.fingerprint().unwrap(), other.fingerprint().unwrap(), "{other:?}");
        }
    }
}
