//! Musubi ties a person's LINE account to the account they hold with a company.
//!
//! The map of this house; imports go downward by rank only (`tests/it/house.rs` checks it).
//!
//! | rank | rooms |
//! |---|---|
//! | 0 | [`config`] what an installation is told; [`line`] the LINE Platform as a client library; [`flex`] templates |
//! | 1 | [`db`] database; [`seal`] secrets at rest; [`error`] what can be answered |
//! | 2 | [`app`] what everything is given |
//! | 3 | [`audit`] who did what; [`queue`] jobs and leases; [`channel`] channels and their tokens |
//! | 4 | [`message`] what is sent, to whom, and what became of it; [`rich_menu`] who sees which menu |

pub mod app;
pub mod audit;
pub mod channel;
pub mod config;
pub mod db;
pub mod error;
pub mod flex;
pub mod line;
pub mod message;
pub mod queue;
pub mod rich_menu;
pub mod seal;
