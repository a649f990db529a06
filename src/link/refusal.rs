//! What can go wrong on the way through LINE: a closed list, each with its page, its reason for the audit,
//! and the one next step.

use axum::http::StatusCode;

use super::Purpose;
use crate::{
    error::{Error, NextStep, Refusal},
    line::{self, id_token::Rejection},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    StateMissing,
    StateUnknown,
    /// The callback came to a browser that did not start: LINE opened another one, or somebody sent a link.
    StateUnbound,
    /// The same, in a browser that holds no cookie of ours at all: it was never here, or it keeps none.
    NoCookies,
    StateUsed,
    StateExpired,
    /// Started for one provider, came back for another.
    OtherProvider,
    BadQuery,
    CodeAndError,
    WrongIssuer,
    /// The person said no at LINE.
    Denied,
    LineError,
    /// LINE refused the code.
    Code,
    ProviderFault,
    Token(Rejection),
    /// Profile and ID token name different people.
    ProfileMismatch,
    /// Signed out, or signed in anew, since the start.
    SessionChanged,
    Unavailable,
    ConflictLine,
    ConflictMember,
    AlreadyYours,
    /// The former link is being removed at LINE at this moment.
    Busy,
    ConfirmGone,
    /// Used, revoked or too old.
    TicketGone,
}

/// What a fresh start keeps.
#[derive(Debug, Clone)]
pub struct Restart {
    pub provider: String,
    pub purpose: Purpose,
    pub return_to: String,
    /// Where the person can simply go on, with nothing to be started.
    pub onward: Option<String>,
}

impl Restart {
    pub fn new(provider: &str, purpose: Purpose, return_to: &str) -> Self {
        Self { provider: provider.to_owned(), purpose, return_to: return_to.to_owned(), onward: None }
    }

    fn afresh(&self) -> NextStep {
        NextStep::Line(vec![
            ("purpose", self.purpose.word().to_owned()),
            ("provider", self.provider.clone()),
            ("return_to", self.return_to.clone()),
            // LINE's auto login may be what went wrong: it is not tried again.
            ("fresh", "1".to_owned()),
        ])
    }
}

impl Cause {
    /// As an answer, with the button that starts afresh in this browser where that helps.
    pub fn refuse(self, restart: &Restart) -> Error {
        let (status, key, reason) = self.parts();
        let key = if restart.purpose == Purpose::Ticket { of_ticket(key) } else { key };
        let next = match (key, &restart.onward) {
            (
                "line_state" | "line_elsewhere" | "line_cookies" | "line_answer" | "line_expired" | "line_used"
                | "ticket_used",
                Some(path),
            ) => NextStep::Onward(path.clone()),
            (
                "line_denied" | "line_state" | "line_elsewhere" | "line_cookies" | "line_answer" | "line_expired"
                | "line_provider_fault" | "line_token"
                // Whoever has another LINE account as well can use that.
                | "ticket_conflict_line",
                _,
            ) => restart.afresh(),
            ("account_unavailable" | "link_session", _) => NextStep::Link("/sign-in".into()),
            ("ticket_used" | "ticket_busy" | "ticket_confirm_gone", _) => NextStep::Link(restart.return_to.clone()),
            ("ticket_gone", _) => NextStep::Link("/t".into()),
            ("line_clock" | "bad_request", _) => NextStep::Link("/".into()),
            _ => NextStep::Link("/account".into()),
        };
        Error::Refused(Box::new(Refusal { status, key, reason, next }))
    }

    /// For the audit and the log.
    pub fn reason(self) -> &'static str {
        self.parts().2
    }

    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        const BAD: StatusCode = StatusCode::BAD_REQUEST;
        match self {
            Self::StateMissing => (BAD, "line_state", "state_missing"),
            Self::StateUnknown => (BAD, "line_state", "state_unknown"),
            Self::StateUnbound => (BAD, "line_elsewhere", "state_unbound"),
            Self::NoCookies => (BAD, "line_cookies", "state_unbound"),
            Self::StateUsed => (BAD, "line_used", "state_used"),
            Self::StateExpired => (BAD, "line_expired", "state_expired"),
            Self::OtherProvider => (BAD, "line_answer", "provider"),
            Self::BadQuery => (BAD, "line_answer", "query"),
            Self::CodeAndError => (BAD, "line_answer", "code_and_error"),
            Self::WrongIssuer => (BAD, "line_answer", "iss"),
            Self::Denied => (BAD, "line_denied", "denied"),
            Self::LineError => (StatusCode::BAD_GATEWAY, "line_provider_fault", "line_error"),
            Self::Code => (BAD, "line_answer", "code"),
            Self::ProviderFault => (StatusCode::BAD_GATEWAY, "line_provider_fault", "provider_fault"),
            Self::Token(Rejection::IssuedAt) => (BAD, "line_clock", Rejection::IssuedAt.reason()),
            Self::Token(rejection) => (BAD, "line_token", rejection.reason()),
            Self::ProfileMismatch => (BAD, "line_token", "profile_mismatch"),
            Self::SessionChanged => (BAD, "link_session", "session_changed"),
            Self::Unavailable => (StatusCode::FORBIDDEN, "account_unavailable", "unavailable"),
            Self::ConflictLine => (StatusCode::CONFLICT, "link_conflict_line", "conflict_line"),
            Self::ConflictMember => (StatusCode::CONFLICT, "link_conflict_member", "conflict_member"),
            Self::AlreadyYours => (StatusCode::CONFLICT, "already_linked", "already_linked"),
            Self::Busy => (StatusCode::CONFLICT, "link_busy", "busy"),
            Self::ConfirmGone => (StatusCode::NOT_FOUND, "confirm_gone", "confirm_gone"),
            Self::TicketGone => (StatusCode::NOT_FOUND, "ticket_gone", "ticket_gone"),
        }
    }

    /// LINE's answer to the one exchange of a code.
    pub fn of_exchange(error: &line::Error) -> Self {
        match error {
            line::Error::Refused { status: 400, message, .. } if message.contains("invalid_grant") => Self::Code,
            line::Error::Refused { .. }
            | line::Error::Unreached(_)
            | line::Error::Lost(_)
            | line::Error::Malformed(_)
            | line::Error::Client(_) => Self::ProviderFault,
        }
    }
}

/// The texts for somebody who came by a ticket, and has no account page before them.
fn of_ticket(key: &'static str) -> &'static str {
    match key {
        "line_used" => "ticket_used",
        "link_conflict_line" => "ticket_conflict_line",
        "link_busy" => "ticket_busy",
        "confirm_gone" => "ticket_confirm_gone",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::attempt::told;

    /// The next of the list; a cause that is new belongs here too.
    fn next(cause: Cause) -> Option<Cause> {
        Some(match cause {
            Cause::StateMissing => Cause::StateUnknown,
            Cause::StateUnknown => Cause::StateUnbound,
            Cause::StateUnbound => Cause::NoCookies,
            Cause::NoCookies => Cause::StateUsed,
            Cause::StateUsed => Cause::StateExpired,
            Cause::StateExpired => Cause::OtherProvider,
            Cause::OtherProvider => Cause::BadQuery,
            Cause::BadQuery => Cause::CodeAndError,
            Cause::CodeAndError => Cause::WrongIssuer,
            Cause::WrongIssuer => Cause::Denied,
            Cause::Denied => Cause::LineError,
            Cause::LineError => Cause::Code,
            Cause::Code => Cause::ProviderFault,
            Cause::ProviderFault => Cause::Token(Rejection::Signature),
            Cause::Token(_) => Cause::ProfileMismatch,
            Cause::ProfileMismatch => Cause::SessionChanged,
            Cause::SessionChanged => Cause::Unavailable,
            Cause::Unavailable => Cause::ConflictLine,
            Cause::ConflictLine => Cause::ConflictMember,
            Cause::ConflictMember => Cause::AlreadyYours,
            Cause::AlreadyYours => Cause::Busy,
            Cause::Busy => Cause::ConfirmGone,
            Cause::ConfirmGone => Cause::TicketGone,
            Cause::TicketGone => return None,
        })
    }

    #[test]
    fn support_has_words_for_each_cause() {
        let all = std::iter::successors(Some(Cause::StateMissing), |cause| next(*cause));
        for cause in all {
            let told = told::of(cause.reason()).unwrap_or_else(|| panic!("no words for {cause:?}"));
            assert!(told.advice.is_some(), "{cause:?}");
        }
        assert_eq!(told::of("of_tomorrow"), None);
    }
}
