//! The end of LINE's account-link dialog.

use super::{Effect, person};
use crate::{
    app::App,
    db::Conn,
    error::Result,
    link::account_link::{self, Arrival},
    webhook::event::Event,
};

/// It succeeded, or it failed: then LINE does not say whose it was, and only the nonce tells.
pub async fn ended(conn: &mut Conn, app: &App, event: &Event) -> Result<Effect> {
    let person = person::meet(conn, app, event).await?;
    let Some(nonce) = event.text("/link/nonce") else { return Ok(Effect::Ignored("no_nonce")) };
    let reply = event.reply();
    let arrival = Arrival {
        channel: &event.channel,
        line_user_id: person.as_deref(),
        nonce,
        is_ok: event.text("/link/result") == Some("ok"),
        reply: reply.as_ref(),
        is_standby: event.is_standby(),
    };
    account_link::arrive(conn, app, arrival).await?;
    Ok(Effect::Done)
}
