//! LINE's rate limits on the Messaging API: one token bucket per channel and endpoint, whatever the parameters.
//!
//! A bucket starts full and refills evenly, so a burst as large as the limit is allowed, and then one call per share of
//! the period; it is not a window that opens anew. Time is the simulator's clock: while that stands still, nothing
//! refills.

use std::collections::HashMap;

use axum::http::Method;

const SECOND: f64 = 1000.0;
const MINUTE: f64 = 60_000.0;
const HOUR: f64 = 3_600_000.0;

/// The buckets in use, by channel, method and route.
#[derive(Debug, Default)]
pub(super) struct Buckets(HashMap<(String, Method, String), Bucket>);

#[derive(Debug)]
struct Bucket {
    calls: f64,
    at: i64,
}

/// How many calls in how many milliseconds.
fn limit(method: &Method, route: &str) -> (f64, f64) {
    match (method.as_str(), route) {
        ("POST", "/v2/bot/richmenu") | ("DELETE", "/v2/bot/richmenu/{menu}") => (100.0, HOUR),
        ("GET", "/v2/bot/richmenu/list") => (10.0, SECOND),
        ("POST", "/v2/bot/chat/loading/start") => (100.0, SECOND),
        ("POST", "/v2/bot/channel/webhook/test") => (60.0, HOUR),
        (_, "/v2/bot/channel/webhook/endpoint") => (1000.0, MINUTE),
        _ => (2000.0, SECOND),
    }
}

impl Buckets {
    /// Takes one call out of the bucket; false when it is empty.
    pub fn take(&mut self, channel: &str, method: &Method, route: &str, now: i64) -> bool {
        let (most, period) = limit(method, route);
        let key = (channel.to_owned(), method.clone(), route.to_owned());
        let bucket = self.0.entry(key).or_insert(Bucket { calls: most, at: now });
        #[expect(clippy::cast_precision_loss, reason = "a span of milliseconds is small")]
        let passed = (now - bucket.at).max(0) as f64;
        bucket.calls = (bucket.calls + passed * most / period).min(most);
        bucket.at = now;
        let enough = bucket.calls >= 1.0;
        if enough {
            bucket.calls -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::{Buckets, Method};

    #[test]
    fn a_bucket_refills_evenly() {
        let mut buckets = Buckets::default();
        let mut take = |now| buckets.take("1", &Method::POST, "/v2/bot/richmenu", now);
        assert!((0..100).all(|_| take(0)));
        assert!(!take(0));
        assert!(!take(35_000));
        assert!(take(36_000));
        assert!(!take(36_000));
        assert!((0..100).all(|_| take(10_000_000)));
    }
}
