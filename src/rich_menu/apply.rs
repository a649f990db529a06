//! Brings one person's menu to what the rules say.

use std::time::Duration;

use super::{
    Remote, Stop,
    rule::{self, STRANGER},
    set::{self, Applied, Set},
    store::{self, Person},
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
    Own(&'a Applied),
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
    let mut conn = app.db.conn().await?;
    let person = store::find_person(&mut conn, line_user_id).await?;
    let Some(person) = person.filter(|person| line::is_user_id(&person.user_id)) else {
        return Ok(Outcome::Park { why: "there is no such LINE user".to_owned() });
    };
    let set = set::current(&mut conn, channel).await?;
    drop(conn);
    if !app.config.channel.contains_key(channel) {
        // The company gave the channel up: there is nobody left to tell.
        let mut tx = app.db.begin().await?;
        store::finish_unlink_step(&mut tx, app.now(), line_user_id, channel).await?;
        tx.commit().await?;
        return Ok(Outcome::Done);
    }
    let remote = Remote::new(app, channel).await.map_err(never_park)?;
    let given = match want(app, set.as_ref(), &person)? {
        Some(Wanted::None) => reset(&remote, &person.user_id).await.map(|()| None)?,
        Some(Wanted::Own(menu)) => {
            give(&remote, &person, menu).await?;
            Some((menu.name.as_str(), menu.rich_menu_id.as_str()))
        }
        None => return Err(ask_for_menus(&remote, "the channel's menus are not made yet", Some(MENUS_COME)).await?),
    };
    let mut tx = app.db.begin().await?;
    line_user::lock(&mut tx, line_user_id).await?;
    let now = app.now();
    store::set_user_menu(&mut tx, now, line_user_id, channel, given).await?;
    // Another job of this person may have told LINE something else meanwhile, before or after us.
    let still = store::find_person(&mut tx, line_user_id).await?;
    let version = set::version(&mut tx, channel).await?;
    let is_still_so = still.as_ref() == Some(&person) && version == set.as_ref().map(|set| set.version);
    if is_still_so && person.facts == STRANGER {
        store::finish_unlink_step(&mut tx, now, line_user_id, channel).await?;
    }
    tx.commit().await.map_err(error::Error::from)?;
    let why = || "the link or the menus changed meanwhile".to_owned();
    Ok(if is_still_so { Outcome::Done } else { Outcome::Retry { why: why(), after: Some(Duration::ZERO) } })
}

/// Whoever should see the default menu needs none of their own; none where the channel has no menus yet. A stranger has
/// none then: an unlink's reset does not wait for them.
fn want<'a>(app: &App, set: Option<&'a Set>, person: &Person) -> Result<Option<Wanted<'a>>, Stop> {
    let Some(set) = set else { return Ok((person.facts == STRANGER).then_some(Wanted::None)) };
    let (now, zone) = (app.now(), &app.zone);
    let own = std::slice::from_ref(&app.config.default_locale);
    let languages: Vec<String> = person.languages.iter().chain(own).cloned().collect();
    let choose = |facts| rule::choose(&set.menus, facts, now, zone).map_err(|why| Stop(Outcome::retry(&why)));
    let default = choose(STRANGER)?.and_then(|name| set.variant(name, own));
    let wanted = choose(person.facts)?.and_then(|name| set.variant(name, &languages));
    Ok(Some(wanted.filter(|menu| Some(*menu) != default).map_or(Wanted::None, Wanted::Own)))
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

async fn give(remote: &Remote<'_>, person: &Person, menu: &Applied) -> Result<(), Stop> {
    let (user_id, id) = (person.user_id.as_str(), menu.rich_menu_id.as_str());
    match remote.call(|line, token| async move { line.link_rich_menu(&token, user_id, id).await }).await {
        Ok(()) => Ok(()),
        Err(error) if is_vanished(&error) => {
            let mut conn = remote.app.db.conn().await?;
            store::set_gone(&mut conn, remote.app.now(), remote.channel, id).await?;
            drop(conn);
            if person.facts == STRANGER {
                // Nobody keeps the menu of a link that ended, however long the other one is not there.
                reset(remote, user_id).await?;
            }
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
