//! What becomes of a delivery after a try: a rule without I/O.

use std::time::Duration;

use crate::egress::{Answer, Failure};

/// Waits between the tries of a delivery, about three days in all, as Standard Webhooks proposes.
const WAITS: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(5 * 3600),
    Duration::from_secs(10 * 3600),
    Duration::from_secs(14 * 3600),
    Duration::from_secs(20 * 3600),
    Duration::from_secs(24 * 3600),
];
/// The longest that an endpoint may ask to be left alone.
const LONGEST_REST: Duration = Duration::from_secs(6 * 3600);
/// The longest rest of an endpoint that is not well.
const UNWELL: Duration = Duration::from_secs(300);

/// What to do with a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    Delivered,
    /// Once more, after this long.
    Again(Duration),
    /// No more: it was tried for days.
    Failed,
    /// The endpoint says that it is there no more.
    Gone,
}

/// Decides after the `tries`th try; `jitter` is in 0..1. A redirect is a failure: who moved must say so to us.
pub(super) fn after(result: &Result<Answer, Failure>, tries: i64, jitter: f64) -> After {
    match result {
        Ok(answer) if (200..300).contains(&answer.status) => return After::Delivered,
        Ok(answer) if answer.status == 410 => return After::Gone,
        Ok(_) | Err(_) => {}
    }
    let place = usize::try_from(tries.max(1) - 1).unwrap_or(usize::MAX);
    match WAITS.get(place) {
        Some(wait) => After::Again(wait.mul_f64(0.8 + 0.4 * jitter).max(asked(result).unwrap_or_default())),
        None => After::Failed,
    }
}

/// For how long the endpoint asks to be left alone altogether.
pub(super) fn asked(result: &Result<Answer, Failure>) -> Option<Duration> {
    let answer = result.as_ref().ok().filter(|answer| matches!(answer.status, 429 | 503))?;
    answer.retry_after.map(|wait| wait.min(LONGEST_REST))
}

/// How long an endpoint rests after so many rests in a row that helped nothing.
pub(super) fn rest(failures: i64, jitter: f64) -> Duration {
    crate::queue::backoff(failures + 3, jitter).min(UNWELL)
}

/// What is kept of it: the status, and words where it is no success.
pub(super) fn words(result: &Result<Answer, Failure>) -> (i64, String) {
    match result {
        Ok(answer) if (200..300).contains(&answer.status) => (i64::from(answer.status), String::new()),
        Ok(answer) if (300..400).contains(&answer.status) => {
            (i64::from(answer.status), "a redirect, which is not followed".to_owned())
        }
        Ok(answer) => (i64::from(answer.status), answer.text.clone()),
        Err(failure) => (0, failure.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, retry_after: Option<u64>) -> Result<Answer, Failure> {
        Ok(Answer { status, retry_after: retry_after.map(Duration::from_secs), text: String::new() })
    }

    #[test]
    fn what_becomes_of_a_delivery() {
        let seconds = |seconds| After::Again(Duration::from_secs(seconds));
        let broken = || Err(Failure::Broken("cut".into()));
        // (answer, after the first try, after the second, after the tenth), at a jitter in the middle.
        for (result, first, second, tenth) in [
            (answer(200, None), After::Delivered, After::Delivered, After::Delivered),
            (answer(204, None), After::Delivered, After::Delivered, After::Delivered),
            (answer(410, None), After::Gone, After::Gone, After::Gone),
            (answer(302, None), seconds(5), seconds(300), After::Failed),
            (answer(400, None), seconds(5), seconds(300), After::Failed),
            (answer(401, None), seconds(5), seconds(300), After::Failed),
            (answer(500, Some(60)), seconds(5), seconds(300), After::Failed),
            (answer(429, Some(60)), seconds(60), seconds(300), After::Failed),
            (answer(503, Some(600)), seconds(600), seconds(600), After::Failed),
            (answer(503, Some(315_360_000)), seconds(21_600), seconds(21_600), After::Failed),
            (broken(), seconds(5), seconds(300), After::Failed),
        ] {
            for (tries, expected) in [(1, first), (2, second), (10, tenth)] {
                assert_eq!(after(&result, tries, 0.5), expected, "{result:?}, try {tries}");
            }
        }
        let all: Duration = WAITS.iter().sum();
        assert!(all > Duration::from_secs(3 * 24 * 3600) && all < Duration::from_secs(4 * 24 * 3600), "{all:?}");
        assert_eq!(after(&broken(), 1, 0.0), After::Again(Duration::from_secs(4)), "spread");
    }
}
