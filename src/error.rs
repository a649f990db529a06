//! What can be answered to a caller. Everything else is internal: logged once, never shown.
//!
//! An [`Error`] answers with its status and leaves itself in the response's extensions; `web` gives
//! it the face that a person can read, `api` the one for a program.

mod problem;

use std::sync::Arc;

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};

pub use self::problem::{Flaw, Kind, Problem};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An answer that is not the one hoped for.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("not found")]
    NotFound,
    /// The form did not come from a page of ours, or its page is too old.
    #[error("csrf")]
    Csrf,
    #[error("bad request: {0}")]
    BadRequest(&'static str),
    /// Nobody is signed in; the page asked for is kept to return to.
    #[error("sign-in required")]
    SignIn { return_to: String },
    /// Somebody is signed in, but the password was not asked lately.
    #[error("fresh sign-in required")]
    Reauth { return_to: String },
    /// Too many requests or tries; they count again after so many seconds.
    #[error("too many requests, to wait for {seconds} s")]
    TooMany { seconds: u64 },
    /// What was sent did not come in time.
    #[error("too slow")]
    TooSlow,
    #[error("the body is too large")]
    TooLarge,
    #[error("the head is too large")]
    HeadTooLarge,
    /// All places for costly work are taken: nothing was changed, try again in a moment.
    #[error("busy")]
    Busy,
    /// The database is away or overloaded: nothing was changed, try again.
    #[error("unavailable: {0}")]
    Unavailable(Arc<dyn std::error::Error + Send + Sync>),
    /// A refusal with its own page, from the closed list of its feature.
    #[error("refused: {}", .0.reason)]
    Refused(Box<Refusal>),
    /// A refusal for a program, from the closed list of the API.
    #[error("{}: {}", .0.kind.id(), .0.detail)]
    Problem(Box<Problem>),
    #[error("internal: {0}")]
    Internal(Arc<dyn std::error::Error + Send + Sync>),
}

/// A refusal in plain words and the one next step.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub status: StatusCode,
    /// Names the texts `error.{key}_title`, `_text` and `_next` of the catalogue.
    pub key: &'static str,
    /// For the audit and the log, never for the page.
    pub reason: &'static str,
    pub next: NextStep,
}

/// Where the one button of a refusal leads.
#[derive(Debug, Clone)]
pub enum NextStep {
    Link(String),
    /// The same, by the words that fit everywhere.
    Onward(String),
    /// Starts LINE Login afresh in this browser.
    Line(Vec<(&'static str, String)>),
    /// The same at the company's own sign-in.
    Company(Vec<(&'static str, String)>),
}

impl Error {
    pub fn internal(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(Arc::from(error.into()))
    }

    /// When to come again, in seconds, where that is known.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Busy | Self::Unavailable(_) => Some(5),
            Self::TooMany { seconds } => Some(*seconds),
            Self::Problem(problem) => problem.retry_after,
            _ => None,
        }
    }

    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Csrf => StatusCode::FORBIDDEN,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::SignIn { .. } | Self::Reauth { .. } => StatusCode::UNAUTHORIZED,
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Busy | Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Refused(refusal) => refusal.status,
            Self::Problem(problem) => problem.kind.status(),
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let away = match &error {
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Io(_) | sqlx::Error::Tls(_) => true,
            // A connection that is taken and closed at once, as by a proxy before a dead server.
            sqlx::Error::Protocol(_) => true,
            // SQLite: 5 busy, 6 locked, 13 full, and their finer kinds. PostgreSQL: 08 connection, 25P03 and 57
            // time-outs, 40 serialisation and deadlock, 53 resources, 55P03 lock not had in time.
            sqlx::Error::Database(error) => error.code().is_some_and(|code| {
                matches!(code.as_ref(), "5" | "6" | "13" | "261" | "517" | "773" | "25P03" | "55P03")
                    || (code.len() == 5 && ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class)))
            }),
            _ => false,
        };
        if away { Self::Unavailable(Arc::new(error)) } else { Self::internal(error) }
    }
}

impl From<crate::seal::SealError> for Error {
    fn from(error: crate::seal::SealError) -> Self {
        Self::internal(error)
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::internal(error)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        match &self {
            Self::Internal(error) => tracing::error!(%error, "internal error"),
            Self::Unavailable(error) => tracing::error!(%error, "database unavailable"),
            Self::Refused(refusal) => tracing::info!(reason = refusal.reason, "refused"),
            _ => {}
        }
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}
