//! A person's own data: a copy of all we hold about them, and its end.
//!
//! - [`export`] gives the copy
//! - [`delete`] ends the account at once: links, sessions, mails, name and address
//! - [`erase`] takes what the clean-up at LINE still needed, once that is over

pub mod delete;
pub mod erase;
pub mod export;
