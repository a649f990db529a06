//! The LINE Platform as a client library: no database, no [`App`](crate::app::App), no feature of ours.
//!
//! - [`login`]: LINE Login v2.1 (authorize, token, profile, friendship, revoke, deauthorize)
//! - [`id_token`]: the verification of an ID token; [`jwks`]: LINE's keys for those of LIFF apps; [`held`]: what is read
//!   once an hour
//! - [`token`]: channel access tokens; [`messaging`]: sending, and the account; [`message`]: message objects, checked
//! - [`content`]: what came with a message
//! - [`profile`]: profiles; [`link_token`]: account link; [`rich_menu`]: rich menus
//! - [`webhook`]: what LINE sends to us
//!
//! LINE's base URLs are given ([`Hosts`]), the issuer never is: it is LINE's, always.

pub mod content;
pub mod held;
pub mod http;
pub mod id_token;
pub mod jwks;
pub mod link_token;
pub mod login;
pub mod message;
pub mod messaging;
pub mod pace;
pub mod profile;
pub mod rich_menu;
pub mod token;
pub mod webhook;

use std::time::Duration;

use url::Url;

/// The issuer of every ID token, whatever host it came from.
pub const ISSUER: &str = "https://access.line.me";

/// LINE's base URLs; each endpoint lives on exactly one of them.
#[derive(Debug, Clone)]
pub struct Hosts {
    pub access: Url,
    pub api: Url,
    pub api_data: Url,
}

/// The client. A clone is a handle to the same connections.
#[derive(Debug, Clone)]
pub struct Line {
    hosts: Hosts,
    http: http::Http,
}

/// A call to LINE that brought no usable answer. What the caller may do next depends on which it is.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Nothing reached LINE (refused connection, no such host): surely without effect.
    #[error("LINE could not be reached: {0}")]
    Unreached(String),
    /// The request may have reached LINE, the answer did not reach us: the outcome is unknown.
    #[error("LINE's answer was lost: {0}")]
    Lost(String),
    /// LINE answered with another status than success.
    #[error("LINE answered {status}: {message} (request {request_id})")]
    Refused {
        status: u16,
        message: String,
        request_id: String,
        /// How long to leave LINE alone, where it said so.
        retry_after: Option<Duration>,
    },
    /// LINE answered with success and a body that is not what it documents.
    #[error("LINE's answer is not as documented: {0}")]
    Malformed(String),
    /// The call could not even be put together: our own configuration or code is at fault.
    #[error("LINE was not called: {0}")]
    Client(String),
}

/// What a failed call says about its effect, and about what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No answer, or one that does not say whether the call was taken.
    Ambiguous,
    /// It never left, or reached nobody.
    Unreached,
    /// LINE does not take the token.
    Unauthorized,
    TooFast,
    MonthlyLimit,
    Refused,
}

impl Error {
    /// What this means for the call.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Unreached(_) | Self::Client(_) => Failure::Unreached,
            Self::Lost(_) | Self::Malformed(_) => Failure::Ambiguous,
            Self::Refused { status, message, .. } => match status {
                401 => Failure::Unauthorized,
                // Two meanings, told apart by LINE's words alone.
                429 if message.to_lowercase().contains("monthly limit") => Failure::MonthlyLimit,
                429 => Failure::TooFast,
                // A time limit of something in between, which may have passed the call on.
                408 => Failure::Ambiguous,
                400..500 => Failure::Refused,
                _ => Failure::Ambiguous,
            },
        }
    }

    /// How long LINE wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            Self::Unreached(_) | Self::Lost(_) | Self::Malformed(_) | Self::Client(_) => None,
        }
    }

    /// LINE's name of the call, where it answered.
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::Refused { request_id, .. } if !request_id.is_empty() => Some(request_id),
            Self::Refused { .. } | Self::Unreached(_) | Self::Lost(_) | Self::Malformed(_) | Self::Client(_) => None,
        }
    }

    /// Whether the same call may succeed later: the network, 429 and 5xx.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreached(_) | Self::Lost(_) => true,
            Self::Refused { status, .. } => *status == 429 || *status >= 500,
            Self::Malformed(_) | Self::Client(_) => false,
        }
    }
}

impl Line {
    pub fn new(hosts: Hosts) -> Result<Self, Error> {
        Ok(Self { hosts, http: http::Http::new()? })
    }
}

/// `U` and 32 lower-case hex digits: the shape of every LINE user ID.
pub fn is_user_id(text: &str) -> bool {
    text.starts_with('U') && is_chat_id(text)
}

/// The shape of the ids of users (`U…`), groups (`C…`) and rooms (`R…`).
pub fn is_chat_id(text: &str) -> bool {
    text.len() == 33
        && text.starts_with(['U', 'C', 'R'])
        && text.bytes().skip(1).all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// `path` on `base`, which may itself have a path; never a double slash, which LINE does not take.
fn endpoint(base: &Url, path: &str) -> String {
    format!("{}{path}", base.as_str().trim_end_matches('/'))
}
