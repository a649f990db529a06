//! What another server publishes, read where it is needed and held by this process.
//!
//! It is read at first, once an hour, and when what is looked for is not in it. Whatever is looked for, the server is asked
//! at most every 30 seconds. While it is away what is held is used on for a day; then, or where there never was anything,
//! nothing can be found.

use std::{
    fmt::Display,
    sync::{Arc, PoisonError, RwLock},
};

use tokio::sync::Mutex;

/// Times in milliseconds.
const FRESH: i64 = 3600 * 1000;
const USABLE: i64 = 24 * 3600 * 1000;
/// Between two questions.
const PAUSE: i64 = 30 * 1000;
/// The same while there is nothing at all: nobody can come in before there is.
const PAUSE_WITHOUT: i64 = 3 * 1000;

/// Who waits while another asks looked at the clock before that: so little earlier is no clock that was turned back.
const SKEW: i64 = 3 * 1000;

/// What is held. Times are given by the caller, in epoch milliseconds.
#[derive(Debug)]
pub struct Held<T, E> {
    /// For the log, such as `LINE's keys`.
    what: &'static str,
    kept: RwLock<Kept<T>>,
    /// Held while it is read, so that many callers wait for one answer.
    asking: Mutex<Asking<E>>,
}

#[derive(Debug)]
struct Kept<T> {
    value: Option<Arc<T>>,
    read_at: i64,
}

#[derive(Debug)]
struct Asking<E> {
    asked_at: Option<i64>,
    /// Of the last question, where it brought nothing.
    failure: Option<E>,
}

impl<T, E: Clone + Display> Held<T, E> {
    pub fn new(what: &'static str) -> Self {
        let kept = RwLock::new(Kept { value: None, read_at: 0 });
        Self { what, kept, asking: Mutex::new(Asking { asked_at: None, failure: None }) }
    }

    /// What `find` finds. `Ok(None)`: it is not there. `read` asks the server, and is only awaited where that is needed.
    pub async fn find<R>(
        &self,
        now: i64,
        find: impl Fn(&T) -> Option<R>,
        read: impl Future<Output = Result<T, E>>,
    ) -> Result<Option<R>, E> {
        let kept = self.kept();
        let found = kept.value.as_deref().and_then(&find);
        if found.is_some() && kept.is_within(FRESH, now) {
            return Ok(found);
        }
        let mut asking = match self.asking.try_lock() {
            Ok(asking) => asking,
            // What is good still does not wait for a server that does not answer.
            Err(_) if found.is_some() && kept.is_within(USABLE, now) => return Ok(found),
            Err(_) => self.asking.lock().await,
        };
        self.ask(&mut asking, now, read).await;
        let kept = self.kept();
        let is_usable = kept.is_within(USABLE, now);
        match (kept.value.as_deref().and_then(&find).filter(|_| is_usable), &asking.failure) {
            (Some(found), _) => Ok(Some(found)),
            // It may be in what could not be read.
            (None, Some(failure)) => Err(failure.clone()),
            (None, None) => Ok(None),
        }
    }

    /// What is held, however old.
    pub fn held(&self) -> Option<Arc<T>> {
        self.kept().value
    }

    /// Whether it is time to ask, and nobody does.
    pub fn is_due(&self, now: i64) -> bool {
        let kept = self.kept();
        let is_asked = || self.asking.try_lock().map_or(true, |asking| asking.is_paused(&kept, now));
        !kept.is_within(FRESH, now) && !is_asked()
    }

    /// Asks, unless that was done just now.
    async fn ask(&self, asking: &mut Asking<E>, now: i64, read: impl Future<Output = Result<T, E>>) {
        if asking.is_paused(&self.kept(), now) {
            return;
        }
        asking.asked_at = Some(now);
        match read.await {
            Ok(value) => {
                asking.failure = None;
                let kept = Kept { value: Some(Arc::new(value)), read_at: now };
                *self.kept.write().unwrap_or_else(PoisonError::into_inner) = kept;
            }
            Err(error) => {
                tracing::warn!(%error, "{} could not be read", self.what);
                asking.failure = Some(error);
            }
        }
    }

    fn kept(&self) -> Kept<T> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        Kept { value: kept.value.clone(), read_at: kept.read_at }
    }
}

impl<T> Kept<T> {
    /// A clock that was turned back makes it old: its true age is unknown.
    fn is_within(&self, age: i64, now: i64) -> bool {
        self.value.is_some() && (-SKEW..age).contains(&(now - self.read_at))
    }
}

impl<E> Asking<E> {
    fn is_paused<T>(&self, kept: &Kept<T>, now: i64) -> bool {
        let pause = if kept.is_within(USABLE, now) { PAUSE } else { PAUSE_WITHOUT };
        self.asked_at.is_some_and(|asked_at| (-SKEW..pause).contains(&(now - asked_at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_ages() {
        let kept = Kept { value: Some(Arc::new(())), read_at: 1000 };
        for (now, fresh, usable) in [
            (1000, true, true),
            (1000 + FRESH, false, true),
            (1000 + USABLE, false, false),
            (1000 - SKEW, true, true),
            (999 - SKEW, false, false),
        ] {
            assert_eq!((kept.is_within(FRESH, now), kept.is_within(USABLE, now)), (fresh, usable), "{now}");
        }
        let asking = Asking::<String> { asked_at: Some(1000), failure: None };
        for (now, paused) in [(1000, true), (999, true), (999 - SKEW, false), (1000 + PAUSE, false)] {
            assert_eq!(asking.is_paused(&kept, now), paused, "{now}");
        }
        assert!(!Kept::<()> { value: None, read_at: 0 }.is_within(USABLE, 1));
    }
}
