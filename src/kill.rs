//! Places where a test may end the process, as a crash would, or make it panic.
//!
//! Without the feature `kill-points` a place is nothing, and the environment is not read. With it, `MUSUBI_KILL_AT`
//! names the place, and the passing that is the last: `link.committed`, or `link.committed:3`. Places whose names begin
//! with `MUSUBI_PANIC_AT` panic when they are passed for the first time.

/// Every place, in the order of the story; a house test finds each once in the sources.
pub const POINTS: [&str; 53] = [
    "intake.verified",
    "intake.committed",
    "inbox.unpacked",
    "inbox.claimed",
    "inbox.effected",
    "inbox.done",
    "callback.exchanged",
    "callback.saved",
    "liff.proven",
    "liff.recorded",
    "liff.committed",
    "claim.recorded",
    "claim.committed",
    "link.recorded",
    "link.committed",
    "unlink.recorded",
    "unlink.committed",
    "deauthorize.accepted",
    "deauthorize.recorded",
    "revoke.accepted",
    "revoke.erased",
    "prune.emptied",
    "prune.deleted",
    "import.recorded",
    "import.committed",
    "loop.expand",
    "loop.deliver",
    "loop.inbox",
    "loop.jobs",
    "loop.ask",
    "loop.prune",
    "loop.hook",
    "send.claiming",
    "send.claimed",
    "send.writing",
    "send.answered",
    "send.recorded",
    "api.answered",
    "hook.claimed",
    "hook.writing",
    "hook.answered",
    "hook.recorded",
    "menu.created",
    "menu.uploaded",
    "menu.aliased",
    "menu.default",
    "menu.stored",
    "menu.deleted",
    "loop.menus",
    "menus.told",
    "menus.recorded",
    "menus.batched",
    "menus.walked",
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
    panic_once(name);
}

#[cfg(feature = "kill-points")]
#[expect(clippy::panic, reason = "a test's order to its own process")]
fn panic_once(name: &'static str) {
    use std::{
        collections::BTreeSet,
        sync::{LazyLock, Mutex, PoisonError},
    };

    #[expect(clippy::disallowed_methods, reason = "a test's order to its own process, and no configuration")]
    static ORDER: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("MUSUBI_PANIC_AT").ok());
    static PASSED: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());

    if ORDER.as_ref().is_some_and(|order| name.starts_with(order.as_str()))
        && PASSED.lock().unwrap_or_else(PoisonError::into_inner).insert(name)
    {
        panic!("ordered at {name}");
    }
}
