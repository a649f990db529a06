//! Musubi ties a person's LINE account to the account they hold with a company.
//!
//! The map of this house; imports go downward by rank only (`tests/it/house.rs` checks it).
//!
//! | rank | rooms |
//! |---|---|
//! | 0 | [`config`] what an installation is told · [`line`] the LINE Platform as a client library · [`flex`] message templates, and Flex as HTML · [`log`] one line an event · [`kill`] places where a test ends the process |
//! | 1 | [`db`] database · [`seal`] secrets at rest · [`smtp`] the way to the mail server · [`error`] what can be answered · [`metrics`] what is counted · [`egress`] the way out to addresses that others name · [`oidc`] the company's OpenID provider as a client library |
//! | 2 | [`app`] what everything is given · [`web`] what every page shares |
//! | 3 | [`audit`] who did what · [`queue`] jobs and leases · [`mail`] letters to members · [`channel`] channel tokens · [`line_user`] LINE users · [`hook_event`] what the company's systems hear of · [`menu_change`] whose menu is to be looked at · [`member`] accounts, sessions, the door of every route · [`import`] rows of a file, taken up where they stopped |
//! | 4 | [`message`] what is sent, and what became of it · [`chat`] what people wrote · [`rich_menu`] menus as files, brought to LINE, and who sees which |
//! | 5 | [`link`] the tie itself: attempt, confirm, unlink |
//! | 6 | [`webhook`] LINE's events: received, stored, handled once · [`hook`] events out to the company |
//! | 7 | [`privacy`] a person's own data: a copy of it, and its end · [`preference`] what members choose for themselves |
//! | 8 | [`api`] the company's HTTP API: its keys, and how it reads and answers |
//! | 9 | [`worker`] what commits left to do · [`routes`] every route, with who may call it · [`doctor`] what going live needs · [`key`] sealing keys, and their change |
//! | 10 | [`serve`] one process of the application · [`demo`] application, simulator and some people |
//! | aside | [`simulator`] the other side of the wire: imports nothing of ours but the drawing of [`flex`] |

pub mod api;
pub mod app;
pub mod audit;
pub mod channel;
pub mod chat;
pub mod config;
pub mod db;
pub mod demo;
pub mod doctor;
pub mod egress;
pub mod error;
pub mod flex;
pub mod hook;
pub mod hook_event;
pub mod import;
pub mod key;
pub mod kill;
pub mod line;
pub mod line_user;
pub mod link;
pub mod log;
pub mod mail;
pub mod member;
pub mod menu_change;
pub mod message;
pub mod metrics;
pub mod oidc;
pub mod preference;
pub mod privacy;
pub mod queue;
pub mod rich_menu;
pub mod routes;
pub mod seal;
pub mod serve;
pub mod simulator;
pub mod smtp;
pub mod web;
pub mod webhook;
pub mod worker;
