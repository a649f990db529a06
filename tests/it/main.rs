//! The one test binary: a module per feature.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod config;
mod doctor;
mod house;
mod link;
mod member;
mod message;
mod process;
mod rich_menu;
mod sending;
mod simulator;
mod stub;
mod support;
