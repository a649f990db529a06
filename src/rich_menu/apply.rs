//! Brings one person's menu to what the rules say.

use std::time::Duration;

use super::{
    Menu, Remote, Stop,
    ensure::load,
    rule::{self, Facts, STRANGER},
    store,
};
use crate::{
    app::App,
    error,
    line::{self, Error},
    line_user,
    queue::{self, Job, Outcome},
};

const MENUS_COME: Duration = Duration::from_secs(2);
const GIVEN_UP: Duration = Duration::from_secs(600);

/// What LINE is to be told for a person.
#[derive(Debug, Clone, Copy)]
enum Wanted<'a> {
    /// A menu of their own.
    Own(&'a Menu),
    /// None: the channel's default shows, if there is one.
    None,
}

/// Reads what a person should see now, tells LINE, and looks whether it is still so.
pub async fn apply(app: &App, line_user_id: &str, channel: &str) -> Outcome {
    match apply_wanted(app, line_user_id, channel).await {
        Ok(outcome) | Err(Stop(outcome)) => outcome,
    }
}

async fn apply_wanted(app: &App, line_user_id: &str, channel: &str) -> Result<Outcome, Stop> {
    let person = store::find_person(&mut *app.db.conn().await?, line_user_id).await?;
    let Some((user_id, facts)) = person.filter(|(user_id, _)| line::is_user_id(user_id)) else {
        return Ok(Outcome::Park { why: "there is no such LINE user".to_owned() });
    };
    // A stranger has no menu of their own whatever the files say: an unlink's reset does not wait for them.
    let menus = if facts == STRANGER { Vec::new() } else { load(app).await.map_err(never_park)? };
    let wanted = want(&menus, facts).map_err(|error| Stop(Outcome::retry(&error)))?;
    if !app.config.channel.contains_key(channel) {
        // The company gave the channel up: there is nobody left to tell.
        let mut tx = app.db.begin().await?;
        store::finish_unlink_step(&mut tx, app.now(), line_user_id, channel).await?;
        tx.commit().await?;
        return Ok(Outcome::Done);
    }
    let remote = Remote::new(app, channel).await.map_err(never_park)?;
    let given = match wanted {
        Wanted::None => reset(&remote, &user_id).await.map(|()| None)?,
        Wanted::Own(menu) => Some((menu.name.as_str(), give(&remote, &user_id, menu).await?)),
    };
    let mut tx = app.db.begin().await?;
    line_user::lock(&mut tx, line_user_id).await?;
    let now = app.now();
    let given = given.as_ref().map(|(menu, rich_menu_id)| (*menu, rich_menu_id.as_str()));
    store::set_user_menu(&mut tx, now, line_user_id, channel, given).await?;
    // Another job of this person may have told LINE something else meanwhile, before or after us.
    let still = store::find_person(&mut tx, line_user_id).await?;
    let is_still_so = still.is_some_and(|(_, later)| later == facts);
    if is_still_so && given.is_none() {
        store::finish_unlink_step(&mut tx, now, line_user_id, channel).await?;
    }
    tx.commit().await.map_err(error::Error::from)?;
    let why = || "the link changed meanwhile".to_owned();
    Ok(if is_still_so { Outcome::Done } else { Outcome::Retry { why: why(), after: Some(Duration::ZERO) } })
}

/// Whoever should see the default menu needs none of their own.
fn want(menus: &[Menu], facts: Facts) -> Result<Wanted<'_>, minijinja::Error> {
    let default = rule::choose(menus, STRANGER)?.map(|menu| menu.name.as_str());
    Ok(match rule::choose(menus, facts)? {
        Some(menu) if default != Some(menu.name.as_str()) => Wanted::Own(menu),
        Some(_) | None => Wanted::None,
    })
}

/// Mistakes in the files are told by the job that makes the menus; a person's job waits for their mending.
fn never_park(Stop(outcome): Stop) -> Stop {
    match outcome {
        Outcome::Park { why } => Stop(Outcome::retry(&why)),
        other => Stop(other),
    }
}

async fn reset(remote: &Remote<'_>, user_id: &str) -> Result<(), Stop> {
    let reset = remote.call(|line, token| async move { line.unlink_rich_menu(&token, user_id).await }).await;
    // An unlink is carried out until LINE agrees, whatever it says meanwhile.
    reset.map_err(|error| never_park(error.into()))
}

async fn give(remote: &Remote<'_>, user_id: &str, menu: &Menu) -> Result<String, Stop> {
    let row = store::find(&mut *remote.app.db.conn().await?, remote.channel, menu).await?;
    let Some(row) = row.filter(|row| row.has_image) else {
        return Err(ask_for_menus(remote, "the channel's menus are not made yet", Some(MENUS_COME)).await?);
    };
    let id = row.rich_menu_id.as_str();
    match remote.call(|line, token| async move { line.link_rich_menu(&token, user_id, id).await }).await {
        Ok(()) => Ok(row.rich_menu_id),
        Err(error) if is_vanished(&error) => {
            let mut conn = remote.app.db.conn().await?;
            store::set_gone(&mut conn, remote.app.now(), remote.channel, &row.rich_menu_id).await?;
            drop(conn);
            Err(ask_for_menus(remote, &error.to_string(), None).await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// LINE has no such menu, or has it without its image.
fn is_vanished(error: &Error) -> bool {
    match error {
        Error::Refused { status: 404, .. } => true,
        Error::Refused { status: 400, message, .. } => !message.contains("userId"),
        Error::Refused { .. } | Error::Unreached(_) | Error::Lost(_) | Error::Malformed(_) | Error::Client(_) => false,
    }
}

/// Has the menus made, and ends this job until then.
async fn ask_for_menus(remote: &Remote<'_>, why: &str, after: Option<Duration>) -> Result<Stop, Stop> {
    let app = remote.app;
    let now = app.now();
    let mut tx = app.db.begin().await?;
    if store::is_given_up(&mut tx, remote.channel, now.minus(GIVEN_UP)).await? {
        let why = format!("{why}; making them was given up, see the parked job");
        return Ok(Stop(Outcome::Retry { why, after: Some(GIVEN_UP) }));
    }
    let job = Job::EnsureMenus { channel: remote.channel.to_owned() };
    queue::enqueue_once(&mut tx, now, now, &job).await?;
    tx.commit().await.map_err(error::Error::from)?;
    app.wake();
    Ok(Stop(Outcome::Retry { why: why.to_owned(), after }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, message: &str) -> Error {
        Error::Refused { status, message: message.into(), request_id: String::new(), retry_after: None }
    }

    #[test]
    fn which_refusals_mean_that_the_menu_vanished() {
        for (error, vanished) in [
            (refused(404, "richmenu not found"), true),
            (refused(400, "must upload richmenu image before applying it to user"), true),
            (refused(400, "The value for the 'userId' parameter is invalid"), false),
            (refused(403, ""), false),
            (refused(500, ""), false),
            (Error::Lost("cut".into()), false),
        ] {
            assert_eq!(is_vanished(&error), vanished, "{error}");
        }
    }
}
