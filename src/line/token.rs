//! Channel access tokens of the stateless kind, and a cache of them in this process.
//!
//! Stateless tokens live 15 minutes, there is no limit on how many are out, and none can be revoked. So they
//! need no storing: each node asks for its own, keeps it in memory, and a restart simply asks again. LINE
//! Login channels need this kind too, for deauthorize.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::{Error, Line, endpoint, http};

/// How long a refusal of the channel's credentials is believed: wrong credentials must not hammer LINE.
const REFUSAL_HOLDS: i64 = 60_000;
/// How long a token fetched in place of a refused one is kept, even where it is refused as well.
const REPLACEMENT_HOLDS: i64 = 60_000;

/// The tokens of this process, one per channel. Times are given by the caller, in epoch milliseconds.
#[derive(Debug, Default)]
pub struct Cache {
    slots: Mutex<BTreeMap<String, Arc<Mutex<Slot>>>>,
}

/// Locked while LINE is asked, so that callers of one channel wait for one answer.
#[derive(Debug, Default)]
struct Slot {
    token: Option<Kept>,
    refused: Option<(i64, Error)>,
    replaced_at: Option<i64>,
}

#[derive(Debug, Clone)]
struct Kept {
    token: SecretString,
    fetched_at: i64,
    life: i64,
}

/// What a kept token is good for at a moment.
#[derive(Debug, PartialEq, Eq)]
enum Age {
    Fresh,
    /// Past 80 % of its life: replaced if LINE can be asked, still good if not.
    Ageing,
    Over,
}

impl Line {
    /// A stateless channel access token and its life.
    pub async fn stateless_token(
        &self,
        channel_id: &str,
        secret: &SecretString,
    ) -> Result<(SecretString, Duration), Error> {
        #[derive(Deserialize)]
        struct Reply {
            access_token: SecretString,
            expires_in: u64,
        }
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", channel_id),
            ("client_secret", secret.expose_secret()),
        ];
        let request = self.http.post(&endpoint(&self.hosts.api, "/oauth2/v3/token")).form(&form);
        let reply: Reply = http::send_ok(request, http::SMALL).await?.json()?;
        Ok((reply.access_token, Duration::from_secs(reply.expires_in)))
    }
}

impl Cache {
    /// The channel's token, fetched where none is kept or the kept one ages.
    pub async fn get(
        &self,
        line: &Line,
        channel_id: &str,
        secret: &SecretString,
        now: i64,
    ) -> Result<SecretString, Error> {
        let slot = self.slot(channel_id).await;
        let mut slot = slot.lock().await;
        let ageing = match slot.token.clone().map(|kept| (kept.age(now), kept.token)) {
            Some((Age::Fresh, token)) => return Ok(token),
            Some((Age::Ageing, token)) => Some(token),
            Some((Age::Over, _)) | None => None,
        };
        let fetched = match &slot.refused {
            Some((until, error)) if now < *until => Err(error.clone()),
            Some(_) | None => slot.fetch(line, channel_id, secret, now).await,
        };
        fetched.or_else(|error| ageing.ok_or(error))
    }

    /// Drops a token that LINE refused. False where it is itself a replacement, fetched a moment ago: then
    /// another one would be refused as well, and it is kept.
    pub async fn forget(&self, channel_id: &str, token: &SecretString, now: i64) -> bool {
        let slot = self.slot(channel_id).await;
        let mut slot = slot.lock().await;
        let is_kept = slot.token.as_ref().is_some_and(|kept| kept.token.expose_secret() == token.expose_secret());
        if !is_kept {
            return true;
        }
        if slot.replaced_at.is_some_and(|at| (at..at.saturating_add(REPLACEMENT_HOLDS)).contains(&now)) {
            return false;
        }
        slot.token = None;
        slot.replaced_at = Some(now);
        true
    }

    async fn slot(&self, channel_id: &str) -> Arc<Mutex<Slot>> {
        let mut slots = self.slots.lock().await;
        slots.entry(channel_id.to_owned()).or_default().clone()
    }
}

impl Slot {
    async fn fetch(
        &mut self,
        line: &Line,
        channel_id: &str,
        secret: &SecretString,
        now: i64,
    ) -> Result<SecretString, Error> {
        match line.stateless_token(channel_id, secret).await {
            Ok((token, life)) => {
                let life = i64::try_from(life.as_millis()).unwrap_or(i64::MAX);
                self.token = Some(Kept { token: token.clone(), fetched_at: now, life });
                self.refused = None;
                Ok(token)
            }
            Err(error) => {
                self.refused = (!error.is_passing()).then(|| (now.saturating_add(REFUSAL_HOLDS), error.clone()));
                Err(error)
            }
        }
    }
}

impl Kept {
    /// A clock that was turned back makes a token old: its true age is unknown.
    fn age(&self, now: i64) -> Age {
        let age = now.saturating_sub(self.fetched_at);
        if age < 0 || age >= self.life {
            Age::Over
        } else if age >= self.life / 5 * 4 {
            Age::Ageing
        } else {
            Age::Fresh
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(fetched_at: i64) -> Kept {
        Kept { token: "token".into(), fetched_at, life: 900_000 }
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

    #[tokio::test]
    async fn a_replacement_is_not_forgotten_at_once() {
        let cache = Cache::default();
        let token = SecretString::from("token");
        let put = async |at| cache.slot("1").await.lock().await.token = Some(kept(at));
        put(0).await;
        assert!(cache.forget("1", &"another".into(), 10).await, "already replaced");
        assert!(cache.forget("1", &token, 10).await);
        put(10).await;
        assert!(!cache.forget("1", &token, 20).await, "the replacement is refused too");
        assert!(cache.forget("1", &token, 60_010).await, "a minute later it may be tried again");
    }
}
