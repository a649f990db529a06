//! The channel access tokens that this process holds, one per channel. Reading a fresh one takes two short locks and
//! asks nobody.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use secrecy::{ExposeSecret, SecretString};

use super::Error;

/// How long a refusal of the channel's credentials is believed: wrong credentials must not hammer LINE.
const REFUSAL_HOLDS: i64 = 60_000;
/// How long an ageing token is used on after it could not be replaced.
const NEXT_TRY: i64 = 10_000;

/// By channel id. Times are given by the caller, in epoch milliseconds.
#[derive(Debug, Default)]
pub struct Cache {
    slots: Mutex<BTreeMap<String, Arc<Slot>>>,
}

/// What is known of one channel's token.
#[derive(Debug, Default)]
pub struct Slot {
    kept: RwLock<Option<Kept>>,
    /// Held while a token is fetched, so that callers of one channel wait for one answer.
    pub fetching: tokio::sync::Mutex<Fetching>,
    /// Until then an ageing token is used as a fresh one is.
    rests_until: AtomicI64,
    /// LINE took a token since this process began, and since it last refused a new one: no alarm about that is left.
    is_taken: AtomicBool,
}

/// What came of the last fetches.
#[derive(Debug, Default)]
pub struct Fetching {
    refused: Option<(i64, Error)>,
    /// When a token was last fetched in place of one that LINE did not take.
    pub replaced_at: Option<i64>,
}

/// A token, and the times between which it is good.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Its row, where all nodes share it.
    pub id: Option<String>,
    pub token: SecretString,
    pub from: i64,
    pub until: i64,
}

/// What a kept token is good for at a moment.
#[derive(Debug)]
pub enum Look {
    Fresh(SecretString),
    /// Past 80 % of its life: replaced if LINE can be asked, still good if not.
    Ageing(SecretString),
    None,
}

#[derive(Debug, PartialEq, Eq)]
enum Age {
    Fresh,
    Ageing,
    Over,
}

impl Cache {
    pub fn slot(&self, channel_id: &str) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        match slots.get(channel_id) {
            Some(slot) => slot.clone(),
            None => slots.entry(channel_id.to_owned()).or_default().clone(),
        }
    }
}

impl Slot {
    pub fn look(&self, now: i64) -> Look {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        match kept.as_ref().map(|kept| (kept.age(now), &kept.token)) {
            Some((Age::Fresh, token)) => Look::Fresh(token.clone()),
            Some((Age::Ageing, token)) if now < self.rests_until.load(Ordering::Relaxed) => Look::Fresh(token.clone()),
            Some((Age::Ageing, token)) => Look::Ageing(token.clone()),
            Some((Age::Over, _)) | None => Look::None,
        }
    }

    pub fn keep(&self, kept: Kept) {
        *self.kept.write().unwrap_or_else(PoisonError::into_inner) = Some(kept);
    }

    /// An ageing token could not be replaced: it is used on for a while before LINE, or the table, is asked again.
    pub fn rest(&self, now: i64) {
        self.rests_until.store(now.saturating_add(NEXT_TRY), Ordering::Relaxed);
    }

    /// The kept token, if it is this one.
    pub fn find(&self, token: &SecretString) -> Option<Kept> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().filter(|kept| kept.token.expose_secret() == token.expose_secret()).cloned()
    }

    /// Drops a token, if it is the kept one still.
    pub fn drop_token(&self, token: &SecretString) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        kept.take_if(|kept| kept.token.expose_secret() == token.expose_secret());
    }

    /// Notes whether LINE took a token; true where that was known.
    pub fn note_taken(&self, is_taken: bool) -> bool {
        // Read first: it hardly ever changes, and every call comes by here.
        self.is_taken.load(Ordering::Relaxed) == is_taken || self.is_taken.swap(is_taken, Ordering::Relaxed) == is_taken
    }
}

impl Fetching {
    /// The last refusal, as long as it is believed.
    pub fn refused(&self, now: i64) -> Option<Error> {
        let (until, error) = self.refused.as_ref()?;
        (now < *until).then(|| error.clone())
    }

    pub fn note(&mut self, now: i64, error: Option<&Error>) {
        let refusal = error.filter(|error| !error.is_passing());
        self.refused = refusal.map(|error| (now.saturating_add(REFUSAL_HOLDS), error.clone()));
    }
}

impl Kept {
    /// A clock that was turned back makes a token old: its true age is unknown.
    fn age(&self, now: i64) -> Age {
        let (age, life) = (now.saturating_sub(self.from), self.until.saturating_sub(self.from));
        if age < 0 || age >= life {
            Age::Over
        } else if age >= life / 5 * 4 {
            Age::Ageing
        } else {
            Age::Fresh
        }
    }

    pub fn is_fresh(&self, now: i64) -> bool {
        self.age(now) == Age::Fresh
    }

    pub fn is_over(&self, now: i64) -> bool {
        self.age(now) == Age::Over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(from: i64) -> Kept {
        Kept { id: None, token: "token".into(), from, until: from + 900_000 }
    }

    #[test]
    fn ages_at_four_fifths_of_its_life() {
        for (now, age) in [
            (1_000, Age::Fresh),
            (720_999, Age::Fresh),
            (721_000, Age::Ageing),
            (900_999, Age::Ageing),
            (901_000, Age::Over),
            (999, Age::Over),
        ] {
            assert_eq!(kept(1_000).age(now), age, "at {now}");
        }
    }

    #[test]
    fn a_token_is_dropped_by_itself_only() {
        let slot = Slot::default();
        slot.keep(kept(0));
        slot.drop_token(&"another".into());
        assert!(matches!(slot.look(1), Look::Fresh(_)));
        slot.drop_token(&"token".into());
        assert!(matches!(slot.look(1), Look::None));
    }
}
