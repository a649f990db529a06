//! Account link (table `account_links`): a link that begins in the chat.
//!
//! The person asks → LINE's link token → our page, where a member signs in, proves who they are and says yes → a nonce
//! → LINE's dialog, which checks that the browser's LINE user is the one the link token was made for → the event.

use crate::{
    app::App,
    db::Conn,
    error::{Error, Result},
    message::answer::Reply,
    queue::Outcome,
};

/// The event that LINE sends after its dialog.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    pub channel: &'a str,
    /// None where it failed: LINE does not say whose it was.
    pub line_user_id: Option<&'a str>,
    pub nonce: &'a str,
    pub is_ok: bool,
    pub reply: Option<&'a Reply>,
}

/// Begins: a person asked in the chat to be linked.
pub async fn offer(
    _conn: &mut Conn,
    _app: &App,
    _channel: &str,
    _line_user_id: &str,
    _reply: Option<&Reply>,
) -> Result<()> {
    Err(Error::internal("not built yet"))
}

/// [`Job::OfferLink`](crate::queue::Job::OfferLink)
pub async fn obtain(_app: &App, _answer_id: &str) -> Result<Outcome> {
    Err(Error::internal("not built yet"))
}

/// Ends: links, or says why not. In the transaction that handles the event.
pub async fn arrive(_conn: &mut Conn, _app: &App, _arrival: Arrival<'_>) -> Result<()> {
    Err(Error::internal("not built yet"))
}

/// [`Job::ExpireLink`](crate::queue::Job::ExpireLink)
pub async fn expire(_app: &App, _account_link_id: &str) -> Result<Outcome> {
    Err(Error::internal("not built yet"))
}
