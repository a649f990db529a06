//! LINE's webhooks (tables `webhook_bodies`, `events`, `event_copies`, `event_holds`).

pub mod word;
