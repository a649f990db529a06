//! One test binary: each feature in a file of its own.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking, as the tests do")]

mod message;
mod rich_menu;
mod stub;
