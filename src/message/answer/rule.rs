//! What becomes of an answer: two rules without I/O.
//!
//! A reply is *in doubt* when an earlier one with the same token ended without an answer of LINE's: it may have been
//! taken. In doubt a refusal proves nothing about the earlier one.

use std::time::Duration;

use crate::{
    db::Millis,
    line::{Error, Failure, messaging::Accepted},
    queue::backoff,
};

/// How long is waited for a channel's credentials to be mended.
const WRONG_CREDENTIALS: Duration = Duration::from_secs(10);
/// What is only said while somebody waits for it, and how long after its token's time that may be.
const SMALL_TALK: [&str; 4] = ["greeting", "default", "keyword", "status"];
const SMALL_TALK_LIFE: Duration = Duration::from_secs(600);

/// An answer's reply token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    None,
    Lives,
    Over,
    /// Over for so long that the answer is of no use any more: a push hours later would only cost.
    LongOver,
}

/// What to do with an answer now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Reply {
        in_doubt: bool,
    },
    Push,
    TooLate,
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

/// Whether an answer is of use only while somebody waits for it.
pub(super) fn is_small_talk(cause: &str) -> bool {
    SMALL_TALK.contains(&cause)
}

/// How the reply token of an answer stands that may be tried until `until`, where there is one.
pub(super) fn token(now: Millis, until: Option<Millis>, cause: &str) -> Token {
    match until {
        None => Token::None,
        Some(until) if now < until => Token::Lives,
        Some(until) if now > until.plus(SMALL_TALK_LIFE) && is_small_talk(cause) => Token::LongOver,
        Some(_) => Token::Over,
    }
}

/// Decides how an answer goes on.
pub(super) fn step(state: &str, has_content: bool, token: Token) -> Step {
    match (state, token) {
        ("waiting", _) if !has_content => Step::Nothing,
        ("waiting", Token::Lives) => Step::Reply { in_doubt: false },
        ("waiting", Token::LongOver) => Step::TooLate,
        ("waiting", Token::None | Token::Over) => Step::Push,
        // Begun, and its end was never written down.
        ("replying", Token::Lives) => Step::Reply { in_doubt: true },
        ("replying", _) => Step::GiveUp,
        _ => Step::Nothing,
    }
}

/// Decides what becomes of an answer after a reply.
pub(super) fn after(result: &Result<Accepted, Error>, tried: Tried) -> After {
    let in_time = |wait: Duration| (wait < tried.left).then_some(wait);
    let Err(error) = result else { return After::Replied };
    let wait = match error.failure() {
        Failure::Ambiguous | Failure::Refused if tried.in_doubt => return After::Unknown,
        Failure::Ambiguous => {
            let wait = in_time(backoff(1, tried.jitter));
            return wait.map_or(After::Unknown, After::Repeat);
        }
        Failure::Refused if is_of_token(error) => return After::Push,
        Failure::Refused => return After::Failed,
        Failure::Unreached | Failure::TooFast | Failure::MonthlyLimit => backoff(tried.attempt, tried.jitter),
        Failure::Unauthorized if tried.fresh_token => Duration::ZERO,
        Failure::Unauthorized => WRONG_CREDENTIALS,
    };
    match (in_time(wait), tried.in_doubt) {
        (Some(wait), false) => After::Again(wait),
        (Some(wait), true) => After::Repeat(wait),
        (None, false) => After::Push,
        (None, true) => After::Unknown,
    }
}

/// Whether LINE refused the reply token. It has one status for a bad token and for bad content; its words alone tell
/// them apart.
fn is_of_token(error: &Error) -> bool {
    matches!(error, Error::Refused { status: 400, message, .. } if message.to_lowercase().contains("reply token"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEFT: Duration = Duration::from_secs(20);

    fn refused(status: u16, message: &str) -> Result<Accepted, Error> {
        Err(Error::Refused { status, message: message.into(), request_id: String::new(), retry_after: None })
    }

    fn tried(in_doubt: bool, left: Duration) -> Tried {
        Tried { in_doubt, left, attempt: 3, fresh_token: false, jitter: 1.0 }
    }

    #[test]
    fn how_an_answer_goes_on() {
        // (state, content, token, step)
        for (state, content, token, expected) in [
            ("waiting", true, Token::Lives, Step::Reply { in_doubt: false }),
            ("waiting", true, Token::Over, Step::Push),
            ("waiting", true, Token::LongOver, Step::TooLate),
            ("waiting", true, Token::None, Step::Push),
            ("waiting", false, Token::Lives, Step::Nothing),
            ("waiting", false, Token::LongOver, Step::Nothing),
            ("waiting", false, Token::None, Step::Nothing),
            ("replying", true, Token::Lives, Step::Reply { in_doubt: true }),
            ("replying", true, Token::Over, Step::GiveUp),
            ("replying", true, Token::LongOver, Step::GiveUp),
            ("replied", true, Token::Lives, Step::Nothing),
            ("pushed", true, Token::Over, Step::Nothing),
            ("failed", true, Token::Lives, Step::Nothing),
            ("unknown", true, Token::Lives, Step::Nothing),
        ] {
            assert_eq!(step(state, content, token), expected, "{state} {content} {token:?}");
        }
    }

    #[test]
    fn how_a_token_stands() {
        let until = Millis(1_000_000);
        // (milliseconds after its time, of small talk, of a link)
        for (after, talk, link) in [
            (-1, Token::Lives, Token::Lives),
            (0, Token::Over, Token::Over),
            (600_000, Token::Over, Token::Over),
            (600_001, Token::LongOver, Token::Over),
        ] {
            let now = Millis(until.0 + after);
            for cause in SMALL_TALK {
                assert_eq!(token(now, Some(until), cause), talk, "{after} {cause}");
            }
            for cause in ["link", "unlink", "linked"] {
                assert_eq!(token(now, Some(until), cause), link, "{after} {cause}");
            }
            assert_eq!(token(now, None, "default"), Token::None, "{after}");
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
