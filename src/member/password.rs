//! Passwords: argon2id, a bounded number at one time, and one path whatever the account is.

use std::{sync::atomic::Ordering, time::Duration};

use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version, password_hash::phc::PasswordHash};
use axum::http::StatusCode;
use tokio::task::spawn_blocking;

use crate::{
    app::App,
    config,
    error::{Error, Result},
    web::page::Page,
};

/// Longest password in bytes: more is neither cut nor hashed.
pub const LONGEST: usize = 1024;
/// Characters that are compared with what everybody knows.
const LOOKED_AT: usize = 32;
/// A password that zxcvbn guesses in fewer tries is known to those who guess.
const FEWEST_GUESSES: u64 = 1_000_000;
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
    /// It holds a NUL, which no person types.
    Unreadable,
    /// Known, or easily guessed from what everybody knows of its owner.
    Weak,
}

impl Problem {
    pub fn status(self) -> StatusCode {
        match self {
            Self::Short | Self::Weak => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Long | Self::Unreadable => StatusCode::BAD_REQUEST,
        }
    }

    /// What the person is told.
    pub fn words(self, app: &App, page: &Page) -> String {
        match self {
            Self::Short => page.with("problem.password_short", &[&app.config.security.password_length.to_string()]),
            Self::Long => page.t("problem.password_long").to_owned(),
            Self::Unreadable => page.t("problem.password_unreadable").to_owned(),
            Self::Weak => page.t("problem.password_weak").to_owned(),
        }
    }
}

/// Hashes a new password, or says why it is not taken. `about` is what is known of its owner.
pub async fn hash_new(app: &App, password: &str, about: &[&str]) -> Result<Result<String, Problem>> {
    if let Err(problem) = check_shape(password, app.config.security.password_length) {
        return Ok(Err(problem));
    }
    let known = words_of(&[about, &[app.config.company.as_str(), "musubi", "line"]].concat());
    let (cost, password) = (app.config.security.password_hash.clone(), password.to_owned());
    run(
        app,
        move || if is_weak(&password, &known) { Ok(Err(Problem::Weak)) } else { hash_now(&cost, &password).map(Ok) },
    )
    .await?
}

/// Verbatim: nothing is trimmed, cut, or asked to be of several kinds.
fn check_shape(password: &str, shortest: usize) -> Result<(), Problem> {
    match password {
        _ if password.len() > LONGEST => Err(Problem::Long),
        _ if password.contains('\0') => Err(Problem::Unreadable),
        _ if password.chars().count() < shortest => Err(Problem::Short),
        _ => Ok(()),
    }
}

/// Looks at the first characters only, off the async threads: the work grows with their square, and with the letters
/// that signs may stand for, so that a long one could be made to take seconds.
fn is_weak(password: &str, known: &[String]) -> bool {
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let start: String = password.chars().take(LOOKED_AT).collect();
    zxcvbn::zxcvbn(&start, &known).guesses() < FEWEST_GUESSES
}

/// Texts about somebody, whole and word by word.
fn words_of(texts: &[&str]) -> Vec<String> {
    let words = texts.iter().flat_map(|text| {
        let parts = text.split(|c: char| !c.is_alphanumeric()).filter(|part| part.chars().count() > 1);
        [text.trim().to_owned(), text.split_whitespace().collect()].into_iter().chain(parts.map(str::to_owned))
    });
    words.take(100).collect()
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
    app.hashed.fetch_add(1, Ordering::Relaxed);
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
    fn p05_lengths_are_characters_up_to_a_number_of_bytes() {
        for (password, expected) in [
            ("1234567".to_owned(), Err(Problem::Short)),
            ("12345678".to_owned(), Ok(())),
            ("       ".to_owned() + " ", Ok(())),
            ("🔑🔑🔑🔑🔑🔑🔑".to_owned(), Err(Problem::Short)),
            ("🔑🔑🔑🔑🔑🔑🔑🔑".to_owned(), Ok(())),
            ("x".repeat(64), Ok(())),
            ("x".repeat(1024), Ok(())),
            ("x".repeat(1025), Err(Problem::Long)),
            ("é".repeat(513), Err(Problem::Long)),
            ("long enough\0".to_owned(), Err(Problem::Unreadable)),
        ] {
            assert_eq!(check_shape(&password, 8), expected, "{} bytes", password.len());
        }
        assert_eq!(check_shape("fourteen chars", 15), Err(Problem::Short));
    }

    #[test]
    fn p13_what_everybody_knows_is_weak() {
        let known = words_of(&["hanako.yamada@example.jp", "Hanako Yamada", "Example Company", "musubi", "line"]);
        let listed = "password password1 Password1! P@ssw0rd 12345678 123456789 1234567890 qwertyuiop iloveyou \
             sunshine princess football baseball superman trustno1 letmein1 welcome1 abc12345 1q2w3e4r \
             1qaz2wsx zaq12wsx qwerty123 asdfghjkl zxcvbnm1 11111111 00000000 88888888 aaaaaaaa \
             abababab abcdefgh 87654321 20261120 19900101 sakura123 passw0rd starwars whatever computer \
             michelle jennifer corvette mercedes dolphins liverpool chocolate butterfly jonathan \
             internet hello123 admin123 changeme examplecompany ExampleCompany1 company1 musubi123 \
             musubimusubi lineline1 hanako.yamada@example.jp hanakoyamada Hanako123 yamada99 Yamada2026 \
             asdfasdf qwertyui poiuytrewq";
        for password in listed.split(' ').chain(["example company", "        "]) {
            assert!(is_weak(password, &known), "{password}");
        }
        for password in ["correct horse battery", "ti7Qz-m2Lk", "さくらのきのしたで", "🔑🚪🪟🛏️🧸📚🎹🧵", "Bx9$kT2vQ"]
        {
            assert!(!is_weak(password, &known), "{password}");
        }
    }
}
