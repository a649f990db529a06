//! The company's HTTP API: its door, how it reads and refuses, what is done once, and its documentation.

mod document;
mod door;
mod hook;
mod idempotency;
mod member;
mod message;
mod quick_start;
mod ticket;
