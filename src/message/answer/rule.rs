//! What becomes of an answer: two rules without I/O.
//!
//! A reply is *in doubt* when an earlier one with the same token ended without an answer of LINE's: it may have been
//! taken. In doubt a refusal proves nothing about the earlier one.

use std::time::Duration;

use crate::{
    line::{Error, messaging::Accepted},
    queue::backoff,
};

/// How long is waited for a channel's credentials to be mended.
const WRONG_CREDENTIALS: Duration = Duration::from_secs(10);

/// What to do with an answer now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Reply {
        in_doubt: bool,
    },
    Push,
    GiveUp,
    /// It has ended, or waits for its content; whoever brings that has it sent.
    Nothing,
}

/// What to do with an answer after a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    Replied,
    /// Surely not taken: the reply is tried again after this long.
    Again(Duration),
    /// The outcome is open: the same reply once more, after this long.
    Repeat(Duration),
    /// The token is of no use, and was of none.
    Push,
    /// LINE does not take what we say: a push would say the same.
    Failed,
    Unknown,
}

/// What is known of a reply besides LINE's answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tried {
    pub in_doubt: bool,
    /// How long the token is still tried.
    pub left: Duration,
    /// Which reply of the answer this was, from 1.
    pub attempt: i64,
    /// After a 401: whether the next try gets a new channel token.
    pub fresh_token: bool,
    /// In 0..1.
    pub jitter: f64,
}

/// How a reply ended, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Accepted,
    /// No answer, or one that does not say whether the reply was taken.
    Ambiguous,
    /// Surely not taken, and may be later.
    NotNow,
    Unauthorized,
    TokenRefused,
    Refused,
}

/// Decides how an answer goes on; `lives` says whether its reply token may still be tried.
pub(super) fn step(state: &str, has_content: bool, has_token: bool, lives: bool) -> Step {
    match state {
        "waiting" if !has_content => Step::Nothing,
        "waiting" if has_token && lives => Step::Reply { in_doubt: false },
        "waiting" => Step::Push,
        // Begun, and its end was never written down.
        "replying" if lives => Step::Reply { in_doubt: true },
        "replying" => Step::GiveUp,
        _ => Step::Nothing,
    }
}

/// Decides what becomes of an answer after a reply.
pub(super) fn after(result: &Result<Accepted, Error>, tried: Tried) -> After {
    let in_time = |wait: Duration| (wait < tried.left).then_some(wait);
    let wait = match end(result) {
        End::Accepted => return After::Replied,
        End::Ambiguous | End::TokenRefused | End::Refused if tried.in_doubt => return After::Unknown,
        End::Ambiguous => {
            let wait = in_time(backoff(1, tried.jitter));
            return wait.map_or(After::Unknown, After::Repeat);
        }
        End::TokenRefused => return After::Push,
        End::Refused => return After::Failed,
        End::NotNow => backoff(tried.attempt, tried.jitter),
        End::Unauthorized if tried.fresh_token => Duration::ZERO,
        End::Unauthorized => WRONG_CREDENTIALS,
    };
    match (in_time(wait), tried.in_doubt) {
        (Some(wait), false) => After::Again(wait),
        (Some(wait), true) => After::Repeat(wait),
        (None, false) => After::Push,
        (None, true) => After::Unknown,
    }
}

/// Whether LINE did not take the channel's token.
pub(super) fn is_unauthorized(result: &Result<Accepted, Error>) -> bool {
    end(result) == End::Unauthorized
}

fn end(result: &Result<Accepted, Error>) -> End {
    match result {
        Ok(_) => End::Accepted,
        Err(Error::Unreached(_) | Error::Client(_)) => End::NotNow,
        Err(Error::Lost(_) | Error::Malformed(_)) => End::Ambiguous,
        Err(Error::Refused { status, message, .. }) => match status {
            // LINE has one status for a bad token and for bad content; its words alone tell them apart.
            400 if message.to_lowercase().contains("reply token") => End::TokenRefused,
            401 => End::Unauthorized,
            408 => End::Ambiguous,
            429 => End::NotNow,
            400..500 => End::Refused,
            _ => End::Ambiguous,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEFT: Duration = Duration::from_secs(20);

    fn refused(status: u16, message: &str) -> Result<Accepted, Error> {
        Err(Error::Refused { status, message: message.into(), request_id: String::new() })
    }

    fn tried(in_doubt: bool, left: Duration) -> Tried {
        Tried { in_doubt, left, attempt: 3, fresh_token: false, jitter: 1.0 }
    }

    #[test]
    fn how_an_answer_goes_on() {
        // (state, content, token, token lives, step)
        for (state, content, token, lives, expected) in [
            ("waiting", true, true, true, Step::Reply { in_doubt: false }),
            ("waiting", true, true, false, Step::Push),
            ("waiting", true, false, false, Step::Push),
            ("waiting", true, false, true, Step::Push),
            ("waiting", false, true, true, Step::Nothing),
            ("waiting", false, false, false, Step::Nothing),
            ("replying", true, true, true, Step::Reply { in_doubt: true }),
            ("replying", true, true, false, Step::GiveUp),
            ("replied", true, true, true, Step::Nothing),
            ("pushed", true, true, false, Step::Nothing),
            ("failed", true, true, true, Step::Nothing),
            ("unknown", true, true, true, Step::Nothing),
        ] {
            assert_eq!(step(state, content, token, lives), expected, "{state} {content} {token} {lives}");
        }
    }

    #[test]
    fn what_becomes_of_an_answer() {
        let seconds = Duration::from_secs;
        let lost = || Err(Error::Lost("cut".into()));
        let unreached = || Err(Error::Unreached("refused".into()));
        let bad_token = "Invalid reply token";
        // (LINE's answer, after it, in doubt, with the token's time over, and that in doubt)
        for (result, first, doubt, late, late_doubt) in [
            (Ok(Accepted::default()), After::Replied, After::Replied, After::Replied, After::Replied),
            (lost(), After::Repeat(seconds(1)), After::Unknown, After::Unknown, After::Unknown),
            (
                Err(Error::Malformed("long".into())),
                After::Repeat(seconds(1)),
                After::Unknown,
                After::Unknown,
                After::Unknown,
            ),
            (refused(500, ""), After::Repeat(seconds(1)), After::Unknown, After::Unknown, After::Unknown),
            (refused(503, ""), After::Repeat(seconds(1)), After::Unknown, After::Unknown, After::Unknown),
            (refused(302, ""), After::Repeat(seconds(1)), After::Unknown, After::Unknown, After::Unknown),
            (refused(408, ""), After::Repeat(seconds(1)), After::Unknown, After::Unknown, After::Unknown),
            (unreached(), After::Again(seconds(4)), After::Repeat(seconds(4)), After::Push, After::Unknown),
            (refused(429, "rate"), After::Again(seconds(4)), After::Repeat(seconds(4)), After::Push, After::Unknown),
            (refused(401, ""), After::Again(seconds(10)), After::Repeat(seconds(10)), After::Push, After::Unknown),
            (refused(400, bad_token), After::Push, After::Unknown, After::Push, After::Unknown),
            (
                refused(400, "The request body has 1 error(s)"),
                After::Failed,
                After::Unknown,
                After::Failed,
                After::Unknown,
            ),
            (refused(403, ""), After::Failed, After::Unknown, After::Failed, After::Unknown),
            (refused(404, ""), After::Failed, After::Unknown, After::Failed, After::Unknown),
            (refused(413, ""), After::Failed, After::Unknown, After::Failed, After::Unknown),
        ] {
            assert_eq!(after(&result, tried(false, LEFT)), first, "{result:?}");
            assert_eq!(after(&result, tried(true, LEFT)), doubt, "{result:?} in doubt");
            assert_eq!(after(&result, tried(false, Duration::ZERO)), late, "{result:?} late");
            assert_eq!(after(&result, tried(true, Duration::ZERO)), late_doubt, "{result:?} late and in doubt");
        }
    }

    #[test]
    fn a_new_channel_token_is_tried_at_once() {
        let fresh = |in_doubt| Tried { fresh_token: true, ..tried(in_doubt, LEFT) };
        assert_eq!(after(&refused(401, ""), fresh(false)), After::Again(Duration::ZERO));
        assert_eq!(after(&refused(401, ""), fresh(true)), After::Repeat(Duration::ZERO));
    }
}
