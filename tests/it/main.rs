//! The one test binary: a module per feature.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod house;
mod id_token;
mod injection;
mod link;
mod linking;
mod login;
mod member;
mod message;
mod rich_menu;
mod simulator;
mod story;
mod stub;
mod support;
mod unlinking;
