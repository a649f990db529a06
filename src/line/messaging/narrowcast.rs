//! How far a narrowcast is. Acceptance is not yet sending: LINE chooses the people first, and sends after that.

use secrecy::SecretString;
use serde::Deserialize;

use super::{Error, Line, http};

/// `GET /v2/bot/message/progress/narrowcast`. LINE knows a narrowcast for 14 days.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    pub phase: Phase,
    /// The counts are absent while it waits.
    pub target_count: Option<u64>,
    pub success_count: Option<u64>,
    pub failure_count: Option<u64>,
    pub failed_description: Option<String>,
    /// 1 internal, 2 too few people, 3 a repeated key, 4 a small audience, 5 stopped rather than sent to some only.
    pub error_code: Option<u32>,
    /// ISO 8601, UTC.
    pub accepted_time: String,
    pub completed_time: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    Waiting,
    Sending,
    Succeeded,
    Failed,
}

impl Line {
    /// How far the narrowcast of this request id is; none where LINE does not know it, or no more.
    pub async fn narrowcast_progress(&self, token: &SecretString, request_id: &str) -> Result<Option<Progress>, Error> {
        let request = self.bot_get(token, "/v2/bot/message/progress/narrowcast").query(&[("requestId", request_id)]);
        let answer = http::send(request, http::SMALL).await?;
        match answer.status {
            200 => answer.json().map(Some),
            404 => Ok(None),
            _ => Err(answer.into_refusal()),
        }
    }
}
