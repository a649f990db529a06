//! Passwords: argon2id, a bounded number at one time, and one path whatever the account is.

use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version, password_hash::phc::PasswordHash};
use tokio::task::spawn_blocking;

use crate::{
    app::App,
    config,
    error::{Error, Result},
};

pub const SHORTEST: usize = 8;
pub const LONGEST: usize = 1024;
/// How long a caller waits for its turn before being told to try again.
const WAIT: Duration = Duration::from_secs(3);
/// Verified where there is no password, so that the answer takes as long.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bXVzdWJpbXVzdWJpbXVzdQ$RTVJ2mM0VG7n5yJd9vZB3oFvFmYdGvFbd6w1a0o4b1c";

/// What came of comparing a password.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Wrong,
    Right,
    /// Right, and this hash with today's cost should replace the stored one.
    RightButOld(String),
}

/// Why a new password is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    Short,
    Long,
}

/// Length in bytes, verbatim: nothing is trimmed or cut.
pub fn check_new(password: &str) -> Result<(), Problem> {
    match password.len() {
        ..SHORTEST => Err(Problem::Short),
        SHORTEST..=LONGEST => Ok(()),
        _ => Err(Problem::Long),
    }
}

/// Hashes with today's cost, as a PHC string.
pub async fn hash(app: &App, password: &str) -> Result<String> {
    let (cost, password) = (app.config.security.password_hash.clone(), password.to_owned());
    run(app, move || hash_now(&cost, &password)).await?
}

/// Compares; where `stored` is none the same work is done for nothing.
pub async fn verify(app: &App, stored: Option<&str>, password: &str) -> Result<Verdict> {
    if password.len() > LONGEST {
        return Ok(Verdict::Wrong);
    }
    let (cost, password) = (app.config.security.password_hash.clone(), password.to_owned());
    let stored = stored.map(str::to_owned);
    run(app, move || {
        let nobody = dummy(&cost);
        let hash =
            PasswordHash::new(stored.as_deref().unwrap_or(&nobody)).map_err(|e| Error::internal(e.to_string()))?;
        let right = Argon2::default().verify_password(password.as_bytes(), &hash).is_ok();
        Ok(match (right && stored.is_some(), is_current(&cost, &hash)) {
            (false, _) => Verdict::Wrong,
            (true, true) => Verdict::Right,
            (true, false) => Verdict::RightButOld(hash_now(&cost, &password)?),
        })
    })
    .await?
}

/// Runs off the async threads, when one of the few places is free. The place is held by the work itself: a
/// caller who hangs up frees nothing that is still in use.
async fn run<T: Send + 'static>(app: &App, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let turn = tokio::time::timeout(WAIT, app.hashing.clone().acquire_owned()).await;
    let turn = turn.map_err(|_| Error::Busy)?.map_err(Error::internal)?;
    let done = spawn_blocking(move || {
        let done = work();
        drop(turn);
        done
    });
    done.await.map_err(Error::internal)
}

fn hash_now(cost: &config::PasswordHash, password: &str) -> Result<String> {
    let params =
        Params::new(cost.memory_kib, cost.passes, 1, None).map_err(|error| Error::internal(error.to_string()))?;
    let hash: PasswordHash = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password(password.as_bytes())
        .map_err(|error| Error::internal(error.to_string()))?;
    Ok(hash.to_string())
}

/// A hash nobody has the password of, at today's cost.
fn dummy(cost: &config::PasswordHash) -> String {
    NOBODY.replace("m=19456,t=2", &format!("m={},t={}", cost.memory_kib, cost.passes))
}

fn is_current(cost: &config::PasswordHash, hash: &PasswordHash) -> bool {
    let text = hash.to_string();
    text.starts_with(&format!("$argon2id$v=19$m={},t={},p=1$", cost.memory_kib, cost.passes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dummy_is_a_hash_of_todays_cost() {
        let cost = config::PasswordHash { memory_kib: 64, passes: 3, at_once: 1 };
        let dummy = dummy(&cost);
        let hash = PasswordHash::new(&dummy).unwrap();
        assert!(is_current(&cost, &hash));
        assert!(!is_current(&config::PasswordHash::default(), &hash));
    }

    #[test]
    fn lengths_are_bytes_and_verbatim() {
        for (password, expected) in [
            ("1234567".to_owned(), Err(Problem::Short)),
            ("12345678".to_owned(), Ok(())),
            ("       ".to_owned() + " ", Ok(())),
            ("🔑🔑".to_owned(), Ok(())),
            ("x".repeat(1024), Ok(())),
            ("x".repeat(1025), Err(Problem::Long)),
        ] {
            assert_eq!(check_new(&password), expected, "{} bytes", password.len());
        }
    }
}
