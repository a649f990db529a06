//! How fast LINE may be called: a bucket for each endpoint of each channel, filled at its rate. Rules without I/O.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use super::messaging::Endpoint;

/// What each channel may still call now, on this node: one node sends for a channel at a time.
#[derive(Debug, Default)]
pub struct Pace(Mutex<BTreeMap<(String, &'static str), Bucket>>);

#[derive(Debug, Clone, Copy, PartialEq)]
struct Bucket {
    calls: f64,
    /// Epoch milliseconds.
    filled_at: i64,
}

impl Pace {
    /// Takes up to `wanted` calls; gives how many there were. A tenth of a second's calls are saved up at most, and one
    /// at least.
    pub fn take(&self, channel: &str, endpoint: Endpoint, per_second: u32, now: i64, wanted: usize) -> usize {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = (f64::from(per_second) / 10.0).max(1.0);
        let new = Bucket { calls: full, filled_at: now };
        let bucket = buckets.entry((channel.to_owned(), endpoint.word())).or_insert(new);
        *bucket = bucket.filled(per_second, full, now);
        let taken = wanted.min(bucket.calls as usize);
        bucket.calls -= taken as f64;
        taken
    }

    /// Gives back calls that were taken and not made.
    pub fn give_back(&self, channel: &str, endpoint: Endpoint, calls: usize) {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.get_mut(&(channel.to_owned(), endpoint.word())) {
            bucket.calls += calls as f64;
        }
    }
}

impl Bucket {
    fn filled(self, per_second: u32, full: f64, now: i64) -> Self {
        // A clock that goes back fills nothing.
        let passed = (now - self.filled_at).max(0) as f64;
        let calls = (self.calls + passed * f64::from(per_second) / 1000.0).min(full);
        Self { calls, filled_at: now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_brings_as_many_as_the_rate() {
        for (per_second, step) in [(2000, 5), (2000, 50), (10, 5), (10, 100), (1, 250)] {
            let pace = Pace::default();
            while pace.take("main", Endpoint::Push, per_second, 0, 1) > 0 {}
            let taken: usize = (1..=10_000 / step)
                .map(|round| pace.take("main", Endpoint::Push, per_second, round * step, usize::MAX))
                .sum();
            let expected = per_second as usize * 10;
            assert!(taken <= expected && taken + 1 >= expected, "{per_second} {step}: {taken}");
        }
    }

    #[test]
    fn channels_and_endpoints_have_buckets_of_their_own() {
        let pace = Pace::default();
        assert_eq!(pace.take("a", Endpoint::Push, 10, 0, 5), 1);
        assert_eq!(pace.take("a", Endpoint::Push, 10, 0, 5), 0);
        assert_eq!(pace.take("b", Endpoint::Push, 10, 0, 5), 1);
        assert_eq!(pace.take("a", Endpoint::Multicast, 10, 0, 5), 1);
        pace.give_back("a", Endpoint::Push, 1);
        assert_eq!(pace.take("a", Endpoint::Push, 10, -50, 5), 1, "a clock that went back takes nothing away");
    }
}
