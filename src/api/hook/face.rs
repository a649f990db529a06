//! How hooks look to a program.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    api::{schema, time},
    hook::{endpoint::Endpoint, log},
};

/// An endpoint that is told what happens. Its secret is not among this: it is shown once, when it is made.
#[derive(Debug, Serialize, ToSchema)]
pub struct Hook {
    #[schema(example = "0198c5a2-7d3e-7b1a-9c41-5f0e8a6b2d10")]
    pub(super) id: String,
    #[schema(example = "https://hooks.your-company.jp/musubi")]
    pub(super) url: String,
    pub(super) description: String,
    /// The types that it hears of; empty: all.
    #[schema(example = json!(["link.created", "link.ended"]))]
    pub(super) types: Vec<String>,
    /// What happens at other providers is not told; null: all.
    pub(super) provider: Option<String>,
    /// What happens at other channels is not told; null: all.
    pub(super) channel: Option<String>,
    /// Whether LINE's bodies go there as they came, with LINE's signature, and nothing else.
    pub(super) forward_raw: bool,
    pub(super) secret: SecretState,
    pub(super) is_enabled: bool,
    /// Why it is disabled: `company`, `failing` (nothing was taken for five days) or `gone` (it answered 410).
    pub(super) disabled_reason: Option<String>,
    pub(super) disabled_at: Option<String>,
    /// Since when nothing was taken.
    pub(super) failing_since: Option<String>,
    #[schema(example = "2026-12-24T09:00:00.000Z")]
    pub(super) created_at: String,
    #[schema(example = "2026-12-24T09:00:00.000Z")]
    pub(super) updated_at: String,
}

/// What is told of a secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct SecretState {
    /// Its last four characters before the padding.
    #[schema(example = "LaSw")]
    pub(super) last4: String,
    #[schema(example = "2026-12-24T09:00:00.000Z")]
    pub(super) created_at: String,
    /// Until when the former one signs too; null where there is none.
    pub(super) former_until: Option<String>,
}

/// An endpoint with its secret, which is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub struct HookWithSecret {
    pub(super) hook: Hook,
    /// Signs what is told, by Standard Webhooks.
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=")]
    pub(super) secret: String,
}

/// An endpoint to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewHook {
    /// Of a public host by https, or in a network that the configuration allows.
    #[schema(example = "https://hooks.your-company.jp/musubi", max_length = 2000, format = "uri")]
    pub(super) url: String,
    #[serde(default)]
    #[schema(example = "Booking system", max_length = 200, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    pub(super) description: String,
    #[serde(default)]
    #[schema(schema_with = schema::hook_types)]
    pub(super) types: Vec<String>,
    /// Only what happens there; it stays as it is.
    pub(super) provider: Option<String>,
    /// Only what happens there; it stays as it is.
    pub(super) channel: Option<String>,
    /// LINE's bodies as they came, and nothing else: for tools that expect LINE itself.
    #[serde(default)]
    pub(super) forward_raw: bool,
}

/// What to change; what is not given stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HookChange {
    #[schema(example = "https://hooks.your-company.jp/musubi", max_length = 2000, format = "uri")]
    pub(super) url: Option<String>,
    #[schema(max_length = 200, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    pub(super) description: Option<String>,
    #[schema(schema_with = schema::hook_types)]
    pub(super) types: Option<Vec<String>>,
    /// Enabled again, it is told what waited, and what happens from now on.
    pub(super) is_enabled: Option<bool>,
}

/// A time whose events are told again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    #[schema(example = "2026-12-24T00:00:00+09:00", format = DateTime)]
    pub(super) from: String,
    /// Not itself.
    #[schema(example = "2026-12-25T00:00:00+09:00", format = DateTime)]
    pub(super) to: String,
    /// The event after which to go on: `continue_after` of the former answer.
    pub(super) after: Option<String>,
}

/// What is told again.
#[derive(Debug, Serialize, ToSchema)]
pub struct Replayed {
    #[schema(example = 120)]
    pub(super) events: u64,
    /// Where there are more than 10,000: what to send as `after` to go on.
    pub(super) continue_after: Option<String>,
}

/// A call that was asked for.
#[derive(Debug, Serialize, ToSchema)]
pub struct Test {
    /// The `webhook-id` of the call; the endpoint's deliveries say how it went.
    #[schema(example = "0198c5a2-7d3e-7b1a-9c41-5f0e8a6b2d10")]
    pub(super) event_id: String,
}

/// An event, and what became of telling it.
#[derive(Debug, Serialize, ToSchema)]
pub struct HookDelivery {
    /// The `webhook-id`.
    #[schema(example = "0198c5a2-7d3e-7b1a-9c41-5f0e8a6b2d10")]
    pub(super) event_id: String,
    #[schema(example = "link.created")]
    pub(super) r#type: String,
    /// `waiting`, `delivered`, `failed` (tried for days) or `cancelled` (what it said was erased).
    #[schema(example = "delivered")]
    pub(super) state: String,
    #[schema(example = 1)]
    pub(super) attempts: i64,
    /// When it is tried next.
    pub(super) next_attempt_at: Option<String>,
    /// The status of the last answer; null where nobody answered.
    #[schema(example = 204)]
    pub(super) status: Option<i64>,
    /// The beginning of the last answer that was no success, or why there was none.
    pub(super) error: Option<String>,
    #[schema(example = "2026-12-24T09:00:00.000Z")]
    pub(super) created_at: String,
    #[schema(example = "2026-12-24T09:00:00.000Z")]
    pub(super) updated_at: String,
}

impl From<Endpoint> for Hook {
    fn from(endpoint: Endpoint) -> Self {
        let Endpoint { row, types, forward_raw } = endpoint;
        let secret = SecretState {
            last4: row.secret_last4,
            created_at: time(row.secret_at),
            former_until: row.former_until.map(time),
        };
        Self {
            id: row.id,
            url: row.url,
            description: row.description,
            types,
            provider: row.provider,
            channel: row.channel,
            forward_raw,
            secret,
            is_enabled: row.disabled_at.is_none(),
            disabled_reason: row.disabled_why,
            disabled_at: row.disabled_at.map(time),
            failing_since: row.failing_since.map(time),
            created_at: time(row.created_at),
            updated_at: time(row.updated_at),
        }
    }
}

impl From<log::Line> for HookDelivery {
    fn from(line: log::Line) -> Self {
        Self {
            next_attempt_at: (line.state == "waiting").then(|| time(line.due_at)),
            event_id: line.event_id,
            r#type: line.kind,
            state: line.state,
            attempts: line.attempts,
            status: line.status,
            error: line.error,
            created_at: time(line.created_at),
            updated_at: time(line.updated_at),
        }
    }
}

impl From<(Endpoint, SecretString)> for HookWithSecret {
    fn from((endpoint, secret): (Endpoint, SecretString)) -> Self {
        Self { hook: endpoint.into(), secret: secret.expose_secret().to_owned() }
    }
}
