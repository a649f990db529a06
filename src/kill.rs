//! Places where a test may end the process, as a crash would.
//!
//! Without the feature `kill-points` a place is nothing, and the environment is not read. With it, `MUSUBI_KILL_AT`
//! names the place, and the passing that is the last: `link.committed`, or `link.committed:3`.

/// Every place, in the order of the story; a house test finds each once in the sources.
pub const POINTS: [&str; 21] = [
    "intake.verified",
    "intake.committed",
    "inbox.unpacked",
    "inbox.claimed",
    "inbox.effected",
    "inbox.done",
    "callback.exchanged",
    "callback.saved",
    "link.recorded",
    "link.committed",
    "unlink.recorded",
    "unlink.committed",
    "deauthorize.accepted",
    "deauthorize.recorded",
    "revoke.accepted",
    "revoke.erased",
    "send.claiming",
    "send.claimed",
    "send.writing",
    "send.answered",
    "send.recorded",
];

/// Passes a place.
#[cfg(not(feature = "kill-points"))]
#[inline]
pub fn point(_name: &'static str) {}

/// Passes a place, or ends the process there.
#[cfg(feature = "kill-points")]
pub fn point(name: &'static str) {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    };

    #[expect(clippy::disallowed_methods, reason = "a test's order to its own process, and no configuration")]
    static ORDER: LazyLock<Option<(String, u32)>> = LazyLock::new(|| {
        let text = std::env::var("MUSUBI_KILL_AT").ok()?;
        let (name, passing) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), passing.parse().ok()?))
    });
    static PASSED: AtomicU32 = AtomicU32::new(0);

    if let Some((ordered, passing)) = &*ORDER
        && ordered == name
        && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *passing
    {
        std::process::abort();
    }
}
