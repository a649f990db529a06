//! What becomes of a request after a try: a rule without I/O.
//!
//! A request is *in doubt* from its second try on: an earlier one ended without an answer, so LINE may have
//! taken it. In doubt a refusal proves nothing about that earlier try, and the key must stay.

use std::time::Duration;

use super::quota;
use crate::{
    line::{Error, Failure, messaging::Accepted},
    queue::backoff,
};

/// How long a channel rests when LINE does not take even a new token.
const WRONG_CREDENTIALS: Duration = Duration::from_secs(60);
/// The longest rest of a channel while LINE cannot be reached or is not well.
const UNREACHED: Duration = Duration::from_secs(30);

/// What to do with a request and its deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// LINE has it, now or since an earlier try.
    Sent,
    /// The outcome is open: the same body under the same key, after this long.
    Repeat(Duration),
    /// Surely not sent: its deliveries wait again, and a later request gets a new key.
    Thaw(Duration),
    /// LINE will not take it.
    Failed,
    /// LINE will not take it now, but may have taken it before.
    Unknown,
}

/// What is known of a try besides LINE's answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tried {
    /// Which try of the request this was, from 1.
    pub attempt: i64,
    /// What the backoff counts: tries of a request in doubt, else requests made for the delivery.
    pub count: i64,
    /// After a 401: whether the next try gets a new token.
    pub fresh_token: bool,
    /// In 0..1.
    pub jitter: f64,
}

/// Decides what becomes of the request.
pub(super) fn after(result: &Result<Accepted, Error>, tried: Tried) -> After {
    let in_doubt = tried.attempt > 1;
    let Err(error) = result else { return After::Sent };
    let asked = error.retry_after().unwrap_or_default();
    let wait = match error.failure() {
        Failure::Refused if in_doubt => return After::Unknown,
        Failure::Refused => return After::Failed,
        Failure::Ambiguous => return After::Repeat(backoff(tried.count, tried.jitter).max(asked)),
        Failure::Unreached | Failure::TooFast => backoff(tried.count, tried.jitter).max(asked),
        Failure::Unauthorized if tried.fresh_token => Duration::ZERO,
        Failure::Unauthorized => WRONG_CREDENTIALS,
        // What was surely not sent waits for the quota, which holds the whole channel.
        Failure::MonthlyLimit if in_doubt => quota::HOLD,
        Failure::MonthlyLimit => Duration::ZERO,
    };
    if in_doubt { After::Repeat(wait) } else { After::Thaw(wait) }
}

/// How long the whole channel rests after a try, where what happened is not this request's own matter.
pub(super) fn pause(result: &Result<Accepted, Error>, tried: Tried) -> Option<Duration> {
    let error = result.as_ref().err()?;
    match error.failure() {
        // Of one request; many in a row open the breaker.
        Failure::Ambiguous => error.retry_after(),
        // `quota` holds a channel whose month is used up.
        Failure::Refused | Failure::MonthlyLimit => None,
        Failure::Unreached => Some(backoff(tried.count, tried.jitter).min(UNREACHED)),
        // LINE limits one person's pushes by the same answer: a long rest would let one hold up all.
        Failure::TooFast => Some(backoff(1, tried.jitter).max(error.retry_after().unwrap_or_default())),
        Failure::Unauthorized => (!tried.fresh_token).then_some(WRONG_CREDENTIALS),
    }
}

/// Failures in a row after which a channel rests, whatever each of them was.
pub(super) const BREAKS: usize = 10;

/// Whether a try tells that LINE is not well, and not that one request is wrong. None where it tells neither.
pub(super) fn is_well(result: &Result<Accepted, Error>) -> Option<bool> {
    match result.as_ref().map_err(Error::failure) {
        Ok(_) | Err(Failure::Refused) => Some(true),
        Err(Failure::Ambiguous | Failure::Unreached) => Some(false),
        Err(Failure::Unauthorized | Failure::TooFast | Failure::MonthlyLimit) => None,
    }
}

/// How long a channel rests after so many rests in a row that helped nothing.
pub(super) fn rest(failures: i64, jitter: f64) -> Duration {
    backoff(failures + 1, jitter).min(UNREACHED)
}

/// Whether LINE did not take the token, or no more of this month: nothing else is begun.
pub(super) fn ends_turn(result: &Result<Accepted, Error>) -> bool {
    let is_end = |failure| matches!(failure, Failure::Unauthorized | Failure::MonthlyLimit);
    result.as_ref().is_err_and(|error| is_end(error.failure()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, message: &str) -> Result<Accepted, Error> {
        Err(Error::Refused { status, message: message.into(), request_id: String::new(), retry_after: None })
    }

    #[test]
    fn what_becomes_of_a_request() {
        let seconds = Duration::from_secs;
        let lost = || Err(Error::Lost("cut".into()));
        let unreached = || Err(Error::Unreached("refused".into()));
        let limit = "You have reached your monthly limit.";
        // (answer, after the first try, after a later try, the channel's rest)
        for (result, first, later, rest) in [
            (Ok(Accepted::default()), After::Sent, After::Sent, None),
            (lost(), After::Repeat(seconds(4)), After::Repeat(seconds(4)), None),
            (Err(Error::Malformed("long".into())), After::Repeat(seconds(4)), After::Repeat(seconds(4)), None),
            (refused(500, ""), After::Repeat(seconds(4)), After::Repeat(seconds(4)), None),
            (refused(503, ""), After::Repeat(seconds(4)), After::Repeat(seconds(4)), None),
            (refused(302, ""), After::Repeat(seconds(4)), After::Repeat(seconds(4)), None),
            (refused(408, ""), After::Repeat(seconds(4)), After::Repeat(seconds(4)), None),
            (unreached(), After::Thaw(seconds(4)), After::Repeat(seconds(4)), Some(seconds(4))),
            (refused(429, "rate"), After::Thaw(seconds(4)), After::Repeat(seconds(4)), Some(seconds(1))),
            (refused(429, limit), After::Thaw(seconds(0)), After::Repeat(seconds(600)), None),
            (refused(401, ""), After::Thaw(seconds(60)), After::Repeat(seconds(60)), Some(seconds(60))),
            (refused(400, ""), After::Failed, After::Unknown, None),
            (refused(403, ""), After::Failed, After::Unknown, None),
            (refused(404, ""), After::Failed, After::Unknown, None),
            (refused(413, ""), After::Failed, After::Unknown, None),
        ] {
            let tried = |attempt| Tried { attempt, count: 3, fresh_token: false, jitter: 1.0 };
            assert_eq!(after(&result, tried(1)), first, "{result:?}");
            assert_eq!(after(&result, tried(2)), later, "{result:?} in doubt");
            assert_eq!(pause(&result, tried(1)), rest, "{result:?}");
        }
    }

    #[test]
    fn x25_line_is_left_alone_as_long_as_it_asks() {
        let refused = |status| {
            let retry_after = Some(Duration::from_secs(90));
            Err(Error::Refused { status, message: String::new(), request_id: String::new(), retry_after })
        };
        let tried = Tried { attempt: 1, count: 1, fresh_token: false, jitter: 1.0 };
        let wait = Duration::from_secs(90);
        assert_eq!((after(&refused(429), tried), pause(&refused(429), tried)), (After::Thaw(wait), Some(wait)));
        assert_eq!((after(&refused(503), tried), pause(&refused(503), tried)), (After::Repeat(wait), Some(wait)));
        assert_eq!((after(&refused(400), tried), pause(&refused(400), tried)), (After::Failed, None));
    }

    #[test]
    fn a_new_token_is_tried_at_once() {
        let tried = |attempt| Tried { attempt, count: 1, fresh_token: true, jitter: 1.0 };
        assert_eq!(after(&refused(401, ""), tried(1)), After::Thaw(Duration::ZERO));
        assert_eq!(after(&refused(401, ""), tried(2)), After::Repeat(Duration::ZERO));
        assert_eq!(pause(&refused(401, ""), tried(1)), None);
    }
}
