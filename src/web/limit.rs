//! What one address may ask of costly routes, and one API key of all: rates, kept in this node's memory.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    state::keyed::DashMapStateStore,
};

use super::visit::network;

/// Addresses are forgotten after so many requests at the earliest.
const FORGET_EVERY: usize = 1024;

/// Counts by [`network`]. Its clock only runs forward: a leap of the system's locks nobody out.
pub struct Limiter<C: Clock = DefaultClock> {
    rate: RateLimiter<String, DashMapStateStore<String>, C, NoOpMiddleware<C::Instant>>,
    clock: C,
    asked: AtomicUsize,
    /// Addresses that the last look kept.
    kept: AtomicUsize,
}

impl Limiter {
    /// So many requests within a minute from each address, all at once or spread.
    pub fn new(per_minute: NonZeroU32) -> Self {
        Self::with_clock(per_minute, DefaultClock::default())
    }
}

impl<C: Clock + Clone> Limiter<C> {
    fn with_clock(per_minute: NonZeroU32, clock: C) -> Self {
        let rate = RateLimiter::dashmap_with_clock(Quota::per_minute(per_minute), clock.clone());
        Self { rate, clock, asked: AtomicUsize::new(0), kept: AtomicUsize::new(0) }
    }

    /// Counts a request; where it is one too many, says how long to wait.
    pub fn check(&self, address: &str) -> Result<(), Duration> {
        self.forget();
        let refused = self.rate.check_key(&network(address)).err();
        refused.map_or(Ok(()), |refused| Err(refused.wait_time_from(self.clock.now())))
    }

    /// Drops the addresses that have their whole share again, now and then: the more there are, the rarer, so that
    /// the cost of a request stays the same.
    fn forget(&self) {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        if asked >= FORGET_EVERY.max(self.kept.load(Ordering::Relaxed)) {
            self.asked.store(0, Ordering::Relaxed);
            self.rate.retain_recent();
            self.kept.store(self.rate.len(), Ordering::Relaxed);
        }
    }
}

/// Rates of names that each have one of their own. There are as many as somebody made: none is forgotten.
#[derive(Default)]
pub struct Rates(Mutex<HashMap<String, (NonZeroU32, DefaultDirectRateLimiter)>>);

impl Rates {
    /// Counts a request of a name; where it is one too many, says how long to wait. A changed rate begins anew.
    pub fn check(&self, name: &str, per_minute: NonZeroU32) -> Result<(), Duration> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || (per_minute, RateLimiter::direct(Quota::per_minute(per_minute)));
        let (rate, limiter) = all.entry(name.to_owned()).or_insert_with(fresh);
        if *rate != per_minute {
            (*rate, *limiter) = fresh();
        }
        limiter.check().map_err(|refused| refused.wait_time_from(DefaultClock::default().now()))
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    #[test]
    fn each_address_has_its_share_which_comes_back() {
        let clock = FakeRelativeClock::default();
        let limiter = Limiter::with_clock(NonZeroU32::new(3).unwrap(), clock.clone());
        for _ in 0..3 {
            assert_eq!(limiter.check("192.0.2.1"), Ok(()));
        }
        assert_eq!(limiter.check("192.0.2.1"), Err(Duration::from_secs(20)));
        assert_eq!(limiter.check("192.0.2.2"), Ok(()), "another address");
        for last in 1..=3 {
            assert_eq!(limiter.check(&format!("2001:db8::{last}")), Ok(()));
        }
        assert!(limiter.check("2001:db8::4").is_err(), "one /64 is one holder");
        assert_eq!(limiter.check("2001:db8:0:1::4"), Ok(()));
        clock.advance(Duration::from_secs(20));
        assert_eq!(limiter.check("192.0.2.1"), Ok(()));
        assert!(limiter.check("192.0.2.1").is_err());
    }

    #[test]
    fn addresses_are_forgotten() {
        let clock = FakeRelativeClock::default();
        let limiter = Limiter::with_clock(NonZeroU32::new(60).unwrap(), clock.clone());
        for n in 0..FORGET_EVERY {
            limiter.check(&format!("10.0.{}.{}", n / 256, n % 256)).unwrap();
        }
        assert_eq!(limiter.rate.len(), FORGET_EVERY);
        clock.advance(Duration::from_secs(2));
        limiter.check("192.0.2.1").unwrap();
        assert_eq!(limiter.rate.len(), 1);
    }
}
