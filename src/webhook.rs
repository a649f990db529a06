//! LINE's webhooks (tables `intake`, `webhook_bodies`, `events`, `event_copies`, `event_holds`).
//!
//! - [`receive`]: the signature first, then stored, then 200. Nothing is handled, and nobody is asked, on this path.
//! - [`intake`]: concurrent requests share a commit; each is answered after its own data is on the disk.
//! - [`unpack`]: what came is split into bodies and events, each event once.
//! - [`inbox`]: events are handled afterwards, in order within a chat, side by side across chats; an effect and its
//!   `done` are one transaction. What fails is tried again, its chat waits with it, and after five tries it is parked.
//! - [`handle`]: one function for each type of event. They change our own tables and enqueue; they never call LINE.
//! - [`look`]: events as they stand, for whoever asks
//! - [`erase`] takes out of the stored bodies what a person took back; [`prune`] deletes what is past its time.

pub mod command;
pub mod erase;
mod event;
mod handle;
pub mod inbox;
pub mod intake;
pub mod look;
mod pack;
pub mod prune;
pub mod receive;
pub mod unpack;
pub mod word;
