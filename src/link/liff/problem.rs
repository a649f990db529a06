//! What can be wrong with what LINE's page shows us: a closed list, each with its status, its reason for the audit, and the
//! name by which the page finds the words for it (`locales/`).

use axum::http::StatusCode;

use crate::{
    error::{Error, NextStep, Refusal},
    line::id_token::Rejection,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Problem {
    /// Somebody says who they are, and shows nothing.
    NoToken,
    Token(Rejection),
    /// LINE's keys cannot be read, or LINE cannot be asked.
    Away,
    /// LINE does not know the access token, or not any more.
    AccessToken,
    /// It was given to another channel.
    OtherChannel,
    /// The LIFF app may ask neither for `openid` nor for `profile`.
    Scope,
    /// The two tokens are of different people.
    ProfileMismatch,
    /// Another browser showed it first.
    Replayed,
    /// The member may not sign in; the page does not say more than that.
    Unavailable,
    /// A former link is being removed at LINE at this moment.
    Busy,
}

impl Problem {
    pub fn refuse(self) -> Error {
        let (status, key, reason) = self.parts();
        Error::Refused(Box::new(Refusal { status, key, reason, next: NextStep::Link("/".into()) }))
    }

    pub fn reason(self) -> &'static str {
        self.parts().2
    }

    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        const UNAUTHORIZED: StatusCode = StatusCode::UNAUTHORIZED;
        match self {
            Self::NoToken => (StatusCode::BAD_REQUEST, "failed", "liff_no_token"),
            Self::Token(Rejection::Expired) => (UNAUTHORIZED, "expired", Rejection::Expired.reason()),
            Self::Token(rejection) => (UNAUTHORIZED, "failed", rejection.reason()),
            Self::Away => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "liff_line_away"),
            Self::AccessToken => (UNAUTHORIZED, "expired", "liff_access_token"),
            Self::OtherChannel => (UNAUTHORIZED, "failed", "liff_other_channel"),
            Self::Scope => (UNAUTHORIZED, "scope", "liff_scope"),
            Self::ProfileMismatch => (UNAUTHORIZED, "failed", "profile_mismatch"),
            Self::Replayed => (UNAUTHORIZED, "replayed", "liff_replayed"),
            Self::Unavailable => (StatusCode::FORBIDDEN, "account", "unavailable"),
            Self::Busy => (StatusCode::CONFLICT, "busy", "busy"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::attempt::told;

    /// The next of the list; a problem that is new belongs here too.
    fn next(problem: Problem) -> Option<Problem> {
        Some(match problem {
            Problem::NoToken => Problem::Token(Rejection::Expired),
            Problem::Token(_) => Problem::Away,
            Problem::Away => Problem::AccessToken,
            Problem::AccessToken => Problem::OtherChannel,
            Problem::OtherChannel => Problem::Scope,
            Problem::Scope => Problem::ProfileMismatch,
            Problem::ProfileMismatch => Problem::Replayed,
            Problem::Replayed => Problem::Unavailable,
            Problem::Unavailable => Problem::Busy,
            Problem::Busy => return None,
        })
    }

    #[test]
    fn support_has_words_for_each_problem() {
        for problem in std::iter::successors(Some(Problem::NoToken), |problem| next(*problem)) {
            assert!(told::of(problem.reason()).is_some(), "no words for {problem:?}");
        }
    }
}
