//! Following, blocking, and signs of life.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Effect;
use crate::{
    app::App,
    db::Conn,
    error::Result,
    hook_event::{self, Kind},
    line_user::{self, Friend, profile},
    link::{self, Chat},
    message::answer,
    queue::{self, Job},
    webhook::event::Event,
};

/// They added the official account as a friend, or unblocked it.
pub async fn followed(conn: &mut Conn, app: &App, event: &Event) -> Result<Effect> {
    let Some(user_id) = event.user_id() else { return Ok(Effect::Ignored("no_user")) };
    let now = app.now();
    let person = line_user::meet(conn, now, &event.provider, user_id).await?;
    let is_newest = line_user::set_friend(conn, event.at, &person, &event.channel, Friend::Yes).await?;
    // LINE Login told it first: the person is on our pages at this moment, and is told there what there is to tell.
    let is_told = !is_newest;
    if is_told && line_user::find_friend(conn, &person, &event.channel).await? != Friend::Yes {
        return Ok(Effect::Ignored("older"));
    }
    let is_back = event.json.pointer("/follow/isUnblocked").and_then(Value::as_bool) == Some(true);
    let deed = event.deed(Kind::UserFollowed, Some(&person));
    hook_event::person::did(conn, app, deed, || [("is_unblocked".to_owned(), is_back.into())].into_iter().collect())
        .await?;
    profile::want(conn, app, &person, &event.channel, Duration::ZERO).await?;
    // LINE does not say whether a menu of their own outlives a block.
    let menu = Job::UserMenu { line_user_id: person.clone(), channel: event.channel.clone() };
    queue::enqueue(conn, now, now, &menu).await?;
    if app.config.chat.greeting && !is_told && !event.is_standby() {
        let is_linked = link::find_owner(conn, &person).await?.is_some_and(|owner| owner.suspended_at.is_none());
        let template = match (is_linked, is_back) {
            (true, _) => "greeting_linked",
            (false, true) => "greeting_back",
            (false, false) => "greeting",
        };
        let reply = event.reply();
        let chat = Chat { channel: &event.channel, line_user_id: &person, reply: reply.as_ref() };
        answer::say(conn, app, chat.answer("greeting"), template, &json!({ "company": app.config.company })).await?;
    }
    Ok(Effect::Done)
}

/// They blocked the official account. The link stays; nothing is sent while it is so.
pub async fn blocked(conn: &mut Conn, app: &App, event: &Event) -> Result<Effect> {
    let Some(user_id) = event.user_id() else { return Ok(Effect::Ignored("no_user")) };
    let person = line_user::meet(conn, app.now(), &event.provider, user_id).await?;
    let set = line_user::set_friend(conn, event.at, &person, &event.channel, Friend::No).await?;
    if !set {
        return Ok(Effect::Ignored("older"));
    }
    hook_event::person::did(conn, app, event.deed(Kind::UserBlocked, Some(&person)), Map::new).await?;
    Ok(Effect::Done)
}

/// Something that only shows that they are there.
pub async fn seen(conn: &mut Conn, app: &App, event: &Event) -> Result<Effect> {
    match meet(conn, app, event).await? {
        Some(_) => Ok(Effect::Done),
        None => Ok(Effect::Ignored("no_user")),
    }
}

/// Who did it, known here from now on; their profile is read where it is old.
pub async fn meet(conn: &mut Conn, app: &App, event: &Event) -> Result<Option<String>> {
    let Some(user_id) = event.user_id() else { return Ok(None) };
    let person = line_user::meet(conn, app.now(), &event.provider, user_id).await?;
    profile::want(conn, app, &person, &event.channel, profile::STALE).await?;
    Ok(Some(person))
}
