//! What can go wrong at the company's sign-in: a closed list, each with its page, its reason for the audit, and the one
//! next step.

use axum::http::StatusCode;

use super::Purpose;
use crate::{
    error::{Error, NextStep, Refusal},
    line::id_token::Rejection,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    StateMissing,
    StateUnknown,
    /// The callback came to a browser that did not start.
    StateUnbound,
    StateUsed,
    StateExpired,
    BadQuery,
    CodeAndError,
    WrongIssuer,
    /// The person said no there.
    Denied,
    ProviderError,
    /// The provider refused the code.
    Code,
    /// It could not be asked, or sent nothing that can be used.
    ProviderFault,
    Token(Rejection),
    /// The claim that names a member is missing or is no id.
    NoId,
    /// Signed out, or signed in anew, since the start.
    SessionChanged,
    /// Another member came back than the one who is signed in here.
    OtherMember,
    /// The provider did not ask the person again.
    NotFresh,
    Unknown,
    Unavailable,
    /// Another member has the address.
    EmailTaken,
}

/// What a fresh start keeps.
#[derive(Debug, Clone)]
pub struct Restart {
    pub purpose: Purpose,
    pub return_to: String,
}

impl Cause {
    /// As an answer, with the button that starts afresh in this browser where that helps.
    pub fn refuse(self, restart: &Restart) -> Error {
        let (status, key, reason) = self.parts();
        let next = match key {
            "company_used" => NextStep::Link("/account".into()),
            "company_unknown" | "company_email" | "company_session" | "account_unavailable" => {
                NextStep::Link("/sign-in".into())
            }
            _ => NextStep::Company(vec![
                ("purpose", restart.purpose.word().to_owned()),
                ("return_to", restart.return_to.clone()),
            ]),
        };
        Error::Refused(Box::new(Refusal { status, key, reason, next }))
    }

    /// For the audit and the log.
    pub fn reason(self) -> &'static str {
        self.parts().2
    }

    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        const BAD: StatusCode = StatusCode::BAD_REQUEST;
        const GATEWAY: StatusCode = StatusCode::BAD_GATEWAY;
        match self {
            Self::StateMissing => (BAD, "company_state", "state_missing"),
            Self::StateUnknown => (BAD, "company_state", "state_unknown"),
            Self::StateUnbound => (BAD, "company_state", "state_unbound"),
            Self::StateUsed => (BAD, "company_used", "state_used"),
            Self::StateExpired => (BAD, "company_expired", "state_expired"),
            Self::BadQuery => (BAD, "company_state", "query"),
            Self::CodeAndError => (BAD, "company_state", "code_and_error"),
            Self::WrongIssuer => (BAD, "company_state", "iss"),
            Self::Denied => (BAD, "company_denied", "denied"),
            Self::ProviderError => (GATEWAY, "company_fault", "provider_error"),
            Self::Code => (BAD, "company_state", "code"),
            Self::ProviderFault => (GATEWAY, "company_fault", "provider_fault"),
            Self::Token(rejection) => (BAD, "company_token", rejection.reason()),
            Self::NoId => (GATEWAY, "company_fault", "no_id"),
            Self::SessionChanged => (BAD, "company_session", "session_changed"),
            Self::OtherMember => (StatusCode::FORBIDDEN, "company_other", "other_member"),
            Self::NotFresh => (StatusCode::FORBIDDEN, "company_fresh", "not_fresh"),
            Self::Unknown => (StatusCode::FORBIDDEN, "company_unknown", "unknown"),
            Self::Unavailable => (StatusCode::FORBIDDEN, "account_unavailable", "unavailable"),
            Self::EmailTaken => (StatusCode::CONFLICT, "company_email", "email_taken"),
        }
    }
}
