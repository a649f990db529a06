//! Buttons. What a postback says is anybody's word: the authority is the link of the person who sent it, and only that.

use url::form_urlencoded;

use super::{Effect, person};
use crate::{
    app::App,
    db::Conn,
    error::Result,
    hook_event::{self, Kind},
    link::{Chat, account_link, by_chat},
    webhook::event::{Event, picked},
};

/// A button of ours, of the company, or a tab of a rich menu.
pub async fn tapped(conn: &mut Conn, app: &App, event: &Event) -> Result<Effect> {
    let Some(person) = person::meet(conn, app, event).await? else { return Ok(Effect::Ignored("no_user")) };
    let data = event.text("/postback/data").unwrap_or_default();
    let fields: Vec<(String, String)> = form_urlencoded::parse(data.as_bytes()).into_owned().collect();
    let field = |name: &str| fields.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    // What our own buttons do is told by what comes of it.
    if field("musubi").is_empty() {
        let deed = event.deed(Kind::PostbackReceived, Some(&person));
        hook_event::person::did(conn, app, deed, || picked(event, "postback", &["data", "params"])).await?;
    }
    if event.group().is_some() || event.is_standby() {
        return Ok(Effect::Done);
    }
    let reply = event.reply();
    let chat = Chat { channel: &event.channel, line_user_id: &person, reply: reply.as_ref() };
    match field("musubi") {
        "link" => account_link::offer(conn, app, &chat).await?,
        "status" => by_chat::status(conn, app, &chat).await?,
        "unlink" if field("link").is_empty() => by_chat::ask_unlink(conn, app, &chat).await?,
        "unlink" => by_chat::unlink(conn, app, &chat, field("link")).await?,
        "keep" => by_chat::keep(conn, app, &chat).await?,
        // The company's own buttons and menu tabs: kept with the body.
        _ => {}
    }
    Ok(Effect::Done)
}
