//! The one test binary: a module per feature.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod house;
mod injection;
mod link;
mod linking;
mod member;
mod message;
mod rich_menu;
mod simulator;
mod stub;
mod support;
mod unlinking;
