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

/// The buckets in use, and the limits that were set in place of LINE's; by channel, then by method and route.
#[derive(Debug, Default)]
pub(super) struct Buckets(HashMap<String, HashMap<String, Bucket>>);

#[derive(Debug)]
struct Bucket {
    /// How many calls in how many milliseconds; none: any number.
    limit: Option<(f64, f64)>,
    calls: f64,
    at: i64,
}

/// LINE's own limit: how many calls in how many milliseconds.
fn limit(endpoint: &str) -> (f64, f64) {
    match endpoint {
        "POST /v2/bot/message/narrowcast" | "POST /v2/bot/message/broadcast" => (60.0, HOUR),
        "POST /v2/bot/message/multicast" => (200.0, SECOND),
        "POST /v2/bot/richmenu"
        | "DELETE /v2/bot/richmenu/{menu}"
        | "DELETE /v2/bot/richmenu/alias/{alias}"
        | "GET /v2/bot/richmenu/progress/batch" => (100.0, HOUR),
        "POST /v2/bot/richmenu/batch" => (3.0, HOUR),
        "GET /v2/bot/richmenu/list" => (10.0, SECOND),
        "POST /v2/bot/chat/loading/start" => (100.0, SECOND),
        "POST /v2/bot/channel/webhook/test" => (60.0, HOUR),
        "GET /v2/bot/channel/webhook/endpoint" | "PUT /v2/bot/channel/webhook/endpoint" => (1000.0, MINUTE),
        _ => (2000.0, SECOND),
    }
}

impl Buckets {
    /// Takes one call out of the bucket; false when it is empty.
    pub fn take(&mut self, channel: &str, method: &Method, route: &str, now: i64) -> bool {
        let endpoint = format!("{method} {route}");
        if !self.0.contains_key(channel) {
            self.0.insert(channel.to_owned(), HashMap::new());
        }
        let Some(buckets) = self.0.get_mut(channel) else { return true };
        let bucket = buckets.entry(endpoint).or_insert_with_key(|endpoint| Bucket::full(Some(limit(endpoint)), now));
        bucket.take(now)
    }

    /// Sets another limit than LINE's.
    pub fn set(&mut self, channel: &str, endpoint: &str, calls: Option<u32>, per_ms: u32) {
        let limit = calls.map(|calls| (f64::from(calls), f64::from(per_ms)));
        self.0.entry(channel.to_owned()).or_default().insert(endpoint.to_owned(), Bucket::full(limit, 0));
    }
}

impl Bucket {
    fn full(limit: Option<(f64, f64)>, now: i64) -> Self {
        Self { limit, calls: limit.map_or(0.0, |(most, _)| most), at: now }
    }

    fn take(&mut self, now: i64) -> bool {
        let Some((most, period)) = self.limit else { return true };
        #[expect(clippy::cast_precision_loss, reason = "a span of milliseconds is small")]
        let passed = (now - self.at).max(0) as f64;
        self.calls = (self.calls + passed * most / period).min(most);
        self.at = now;
        let is_enough = self.calls >= 1.0;
        if is_enough {
            self.calls -= 1.0;
        }
        is_enough
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

    #[test]
    fn another_limit_may_be_set() {
        let mut buckets = Buckets::default();
        let path = "/v2/bot/message/push";
        buckets.set("1", "POST /v2/bot/message/push", Some(2), 1000);
        let taken =
            |buckets: &mut Buckets, now| (0..5000).filter(|_| buckets.take("1", &Method::POST, path, now)).count();
        assert_eq!((taken(&mut buckets, 0), taken(&mut buckets, 500)), (2, 1));
        buckets.set("1", "POST /v2/bot/message/push", None, 1000);
        assert_eq!(taken(&mut buckets, 500), 5000);
        assert!(buckets.take("2", &Method::POST, path, 0), "another bot has LINE's limit");
    }
}
