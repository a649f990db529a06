//! Brings one person's menu to what the rules say, at once: after a link, an unlink or a follow.

use std::time::Duration;

use super::{
    Remote, Stop,
    choice::Choices,
    fact::{self, Person},
    set::{self, Applied},
    store, tell,
};
use crate::{
    app::App,
    db::Conn,
    error::{self, Result},
    line::{self, Error},
    line_user::{self, Friend},
    queue::{self, Job, Outcome},
};

const MENUS_COME: Duration = Duration::from_secs(2);
const GIVEN_UP: Duration = Duration::from_secs(600);
/// What was told to many this long ago is done by now.
const LONG_SETTLED: Duration = Duration::from_secs(60);

/// Reads what a person should see now, tells LINE, and looks whether it is still so.
pub async fn apply(app: &App, line_user_id: &str, channel: &str) -> Outcome {
    match apply_wanted(app, line_user_id, channel).await {
        Ok(outcome) | Err(Stop(outcome)) => outcome,
    }
}

async fn apply_wanted(app: &App, line_user_id: &str, channel: &str) -> Result<Outcome, Stop> {
    let mut conn = app.db.conn().await?;
    let person = fact::find(&mut conn, app, channel, line_user_id).await?;
    let Some(person) = person.filter(|person| line::is_user_id(&person.user_id)) else {
        return Ok(Outcome::Park { why: "there is no such LINE user".to_owned() });
    };
    let set = set::current(&mut conn, channel).await?;
    drop(conn);
    if !app.config.channel.contains_key(channel) {
        // The company gave the channel up: there is nobody left to tell.
        return finish(app, channel, &person).await;
    }
    // Of whoever is not linked the menu is taken away in any case: an unlink's reset waits for no files.
    let choices = match set.map(|set| Choices::new(app, set, app.now())) {
        Some(Ok(choices)) => Some(choices),
        Some(Err(_)) | None if !person.facts.linked => None,
        Some(Err(why)) => return Ok(Outcome::retry(&why)),
        None => return Err(ask_for_menus(app, channel, None, "the channel's menus are not made yet").await?),
    };
    let own = choices.as_ref().and_then(|choices| choices.own(&person));
    if person.facts.linked && person.facts.friend == Friend::No {
        // LINE does nothing for them; their follow brings the menu.
        tell::forget(&mut *app.db.conn().await?, &app.db, channel, &[person.id]).await?;
        return Ok(Outcome::Done);
    }
    let remote = Remote::new(app, channel).await.map_err(never_park)?;
    match own {
        None => reset(&remote, &person.user_id).await?,
        Some(own) => give(&remote, &person, own).await?,
    }
    record(app, channel, &person, choices.as_ref(), own).await
}

async fn record(
    app: &App,
    channel: &str,
    person: &Person,
    choices: Option<&Choices>,
    own: Option<&Applied>,
) -> Result<Outcome, Stop> {
    let mut tx = app.db.begin().await?;
    line_user::lock(&mut tx, &person.id).await?;
    let now = app.now();
    // Another job of this person may have told LINE something else meanwhile, before or after us.
    let later = fact::find(&mut tx, app, channel, &person.id).await?;
    let told = later.as_ref().map(|later| later.told.clone()).unwrap_or_default();
    store::set_user_menu(
        &mut tx,
        now,
        &person.id,
        channel,
        own.map(|own| (own.name.as_str(), own.rich_menu_id.as_str())),
    )
    .await?;
    if told.request.is_some() && told.applied_at.is_some_and(|at| at > now.minus(LONG_SETTLED)) {
        // What LINE took for many may be done after this.
        tell::want_check(&mut tx, now.plus(tell::SETTLED), channel, &person.id, None, 0).await?;
    }
    let version = set::version(&mut tx, channel).await?;
    let is_same_set = version == choices.map(|choices| choices.set.version);
    let is_still_so = later.is_some_and(|later| {
        is_same_set
            && later.facts.linked == person.facts.linked
            && choices.is_none_or(|choices| choices.own(&later) == own)
    });
    if is_still_so && !person.facts.linked {
        store::finish_unlink_step(&mut tx, now, &person.id, channel).await?;
    }
    tx.commit().await.map_err(error::Error::from)?;
    let why = || "the link or the menus changed meanwhile".to_owned();
    Ok(if is_still_so { Outcome::Done } else { Outcome::Retry { why: why(), after: Some(Duration::ZERO) } })
}

async fn finish(app: &App, channel: &str, person: &Person) -> Result<Outcome, Stop> {
    let mut tx = app.db.begin().await?;
    store::finish_unlink_step(&mut tx, app.now(), &person.id, channel).await?;
    tx.commit().await?;
    Ok(Outcome::Done)
}

/// Mistakes in the menus are told by the job that makes them; a person's job waits for their mending.
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

async fn give(remote: &Remote<'_>, person: &Person, own: &Applied) -> Result<(), Stop> {
    let (user_id, id) = (person.user_id.as_str(), own.rich_menu_id.as_str());
    match remote.call(|line, token| async move { line.link_rich_menu(&token, user_id, id).await }).await {
        Ok(()) => Ok(()),
        Err(error) if is_vanished(&error) => {
            if !person.facts.linked {
                // Nobody keeps the menu of a link that ended, however long the other one is not there.
                reset(remote, user_id).await?;
            }
            Err(ask_for_menus(remote.app, remote.channel, Some(id), &error.to_string()).await?)
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
async fn ask_for_menus(app: &App, channel: &str, gone: Option<&str>, why: &str) -> Result<Stop, Stop> {
    if want_menus(app, channel, gone).await? {
        let after = gone.is_none().then_some(MENUS_COME);
        return Ok(Stop(Outcome::Retry { why: why.to_owned(), after }));
    }
    let why = format!("{why}; making them was given up, see the parked job");
    Ok(Stop(Outcome::Retry { why, after: Some(GIVEN_UP) }))
}

/// Has the channel's menus made, of which `gone` is not at LINE any more; false where that was given up lately.
pub(super) async fn want_menus(app: &App, channel: &str, gone: Option<&str>) -> Result<bool> {
    let now = app.now();
    let mut tx = app.db.begin().await?;
    if let Some(rich_menu_id) = gone {
        store::set_gone(&mut tx, now, channel, rich_menu_id).await?;
    }
    let is_given_up = store::is_given_up(&mut tx, channel, now.minus(GIVEN_UP)).await?;
    if !is_given_up {
        enqueue(&mut tx, app, channel).await?;
    }
    tx.commit().await?;
    app.wake();
    Ok(!is_given_up)
}

async fn enqueue(conn: &mut Conn, app: &App, channel: &str) -> Result<()> {
    let job = Job::EnsureMenus { channel: channel.to_owned() };
    queue::enqueue_once(conn, app.now(), app.now(), &job).await
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
