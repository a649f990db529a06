//! The content of a message: what a person sent as a picture, video, sound or file.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::{Error, Line, endpoint, http};

/// A large file takes longer than a call does.
const WHOLE: Duration = Duration::from_secs(40);

/// What LINE has of a message's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Ready {
        content_type: String,
        bytes: Vec<u8>,
    },
    /// Not yet: LINE still converts it.
    Preparing,
    /// No more: unsent by its writer, or too old.
    Gone,
    /// Longer than the caller takes; nothing of it is given.
    TooLarge,
}

impl Line {
    /// Reads a message's content, as long as it has no more than `most_bytes`.
    pub async fn content(&self, token: &SecretString, message_id: &str, most_bytes: usize) -> Result<Content, Error> {
        let url = endpoint(&self.hosts.api_data, &format!("/v2/bot/message/{message_id}/content"));
        let request = self.http.get(&url).bearer_auth(token.expose_secret()).timeout(WHOLE);
        let Some(answer) = http::send_up_to(request, most_bytes).await? else { return Ok(Content::TooLarge) };
        match answer.status {
            200 => {
                let content_type = answer.header("content-type").chars().take(100).collect();
                Ok(Content::Ready { content_type, bytes: answer.body })
            }
            202 => Ok(Content::Preparing),
            404 | 410 => Ok(Content::Gone),
            _ => Err(answer.into_refusal()),
        }
    }
}
