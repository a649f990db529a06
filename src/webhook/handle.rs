//! The one match on LINE's event types; a function for each, in the transaction that ends the event.

mod account_link;
mod group;
mod message;
mod person;
mod postback;

use super::event::Event;
use crate::{app::App, channel, db::Conn, error::Result};

/// What came of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Done,
    /// Nothing was to be done, and this is why.
    Ignored(&'static str),
}

/// Handles an event.
pub async fn event(conn: &mut Conn, app: &App, event: &Event) -> Result<Effect> {
    match event.kind.as_str() {
        "message" => message::said(conn, app, event).await,
        "messageEdited" => message::edited(conn, app, event).await,
        "unsend" => message::unsent(conn, app, event).await,
        "follow" => person::followed(conn, app, event).await,
        "unfollow" => person::blocked(conn, app, event).await,
        "videoPlayComplete" | "beacon" | "membership" => person::seen(conn, app, event).await,
        "postback" => postback::tapped(conn, app, event).await,
        "accountLink" => account_link::ended(conn, app, event).await,
        "join" => group::joined(conn, event).await,
        "leave" => group::left(conn, event).await,
        "memberJoined" => group::members_joined(conn, app, event).await,
        "botSuspended" => suspended(conn, event, true).await,
        "botResumed" => suspended(conn, event, false).await,
        // Of other people's modules and of notification messages: kept with the body.
        "memberLeft" | "module" | "activated" | "deactivated" | "delivery" => Ok(Effect::Done),
        _ => Ok(Effect::Ignored("unknown_type")),
    }
}

/// LINE suspended the official account, or let it work again.
async fn suspended(conn: &mut Conn, event: &Event, is_suspended: bool) -> Result<Effect> {
    tracing::error!(channel = event.channel, is_suspended, "LINE suspended the official account, or resumed it");
    channel::bot::set_suspended(conn, event.at, &event.channel, is_suspended).await?;
    Ok(Effect::Done)
}
