//! What a person says about their link in the chat: its state, and its end.

use crate::{
    app::App,
    db::Conn,
    error::{Error, Result},
    message::answer::Reply,
};

/// Answers whether the person is linked, and to whom.
pub async fn status(
    _conn: &mut Conn,
    _app: &App,
    _channel: &str,
    _line_user_id: &str,
    _reply: Option<&Reply>,
) -> Result<()> {
    Err(Error::internal("not built yet"))
}

/// Asks whether the link shall end, with a button that names it.
pub async fn ask_unlink(
    _conn: &mut Conn,
    _app: &App,
    _channel: &str,
    _line_user_id: &str,
    _reply: Option<&Reply>,
) -> Result<()> {
    Err(Error::internal("not built yet"))
}

/// The button: ends this link, if it is the active one of this very LINE user.
pub async fn unlink(
    _conn: &mut Conn,
    _app: &App,
    _channel: &str,
    _line_user_id: &str,
    _link_id: &str,
    _reply: Option<&Reply>,
) -> Result<()> {
    Err(Error::internal("not built yet"))
}
