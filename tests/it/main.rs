//! The one test binary: a module per feature.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod account_link;
mod by_chat;
mod config;
mod connections;
mod consent;
mod doctor;
mod faults;
mod house;
mod id_token;
mod injection;
mod keys;
mod kill;
mod limits;
mod link;
mod linking;
mod login;
mod mail;
mod member;
mod message;
mod password;
mod permission;
mod process;
mod profile;
mod rich_menu;
mod secrets;
mod self_service;
mod sending;
mod session;
mod simulator;
mod simulator_webhook;
mod story;
mod stub;
mod support;
mod unlinking;
