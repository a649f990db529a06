//! Musubi ties a person's LINE account to the account they hold with a company.
//!
//! The map of this house; imports go downward by rank only (`tests/it/house.rs` checks it).
//!
//! | rank | rooms |
//! |---|---|
//! | 0 | [`config`] what an installation is told; [`line`] the LINE Platform as a client library |
//! | 1 | [`db`] database; [`seal`] secrets at rest; [`error`] what can be answered |
//! | 2 | [`app`] what everything is given |
//! | 3 | [`audit`] who did what; [`queue`] jobs and leases |

pub mod app;
pub mod audit;
pub mod config;
pub mod db;
pub mod error;
pub mod line;
pub mod line_user;
pub mod member;
pub mod queue;
pub mod routes;
pub mod seal;
pub mod web;
