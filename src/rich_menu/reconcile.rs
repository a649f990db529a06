//! Brings a channel's people to their menus, on one node at a time (lease `reconcile:CHANNEL`): who changed first, then
//! what is read back, then the walk over all of them.

use std::time::Duration;

use super::{
    Remote, Stop, change,
    choice::Choices,
    person, read_back,
    set::{self, Set},
    sweep::{self, Sweep},
    tell::{self, Trouble, Work},
};
use crate::{
    app::App,
    error::Result,
    queue::{self, Outcome},
};

/// How long LINE is left alone where it refuses for good: a person must look.
const STUCK: Duration = Duration::from_secs(600);
/// In which the menus are made anew.
const MENUS_COME: Duration = Duration::from_secs(2);

/// Does the next of what there is to do; gives 0 where there is nothing, or LINE is left alone.
pub async fn run(app: &App, channel: &str, holder: &str) -> Result<usize> {
    let Some((set, sweep)) = look(app, channel).await? else { return Ok(0) };
    let failures = sweep.as_ref().map_or(0, |sweep| sweep.failures);
    match with_lease(app, channel, holder, set, sweep).await {
        Ok(done) => Ok(done),
        Err(trouble) => rest(app, channel, failures, trouble).await,
    }
}

/// The paced routine: once a second it asks LINE about a few of those who were not asked about for the longest time. Gives
/// how many it asked about.
pub async fn drift(app: &App, channel: &str, holder: &str) -> Result<usize> {
    let mut conn = app.db.conn().await?;
    let sweep = sweep::find(&mut conn, channel).await?;
    let Some(sweep) = sweep.filter(|sweep| sweep.ended_at.is_some() && sweep.rests_till <= app.now()) else {
        return Ok(0);
    };
    let Some(set) = set::current(&mut conn, channel).await? else { return Ok(0) };
    if !read_back::is_old(&mut conn, app.now(), channel).await? {
        return Ok(0);
    }
    drop(conn);
    if !tell::lease(app, channel, holder).await? {
        return Ok(0);
    }
    let asked = async {
        let choices = read(app, set)?;
        let work = Work { remote: remote(app, channel).await?, choices: &choices, holder };
        read_back::drift(&work).await
    };
    match asked.await {
        Ok(asked) => Ok(asked),
        Err(trouble) => rest(app, channel, sweep.failures, trouble).await,
    }
}

/// What there is to do, by reading only: most rounds end here.
async fn look(app: &App, channel: &str) -> Result<Option<(Set, Option<Sweep>)>> {
    let now = app.now();
    let mut conn = app.db.conn().await?;
    let Some(set) = set::current(&mut conn, channel).await? else { return Ok(None) };
    let sweep = sweep::find(&mut conn, channel).await?;
    if sweep.as_ref().is_some_and(|sweep| sweep.rests_till > now) {
        return Ok(None);
    }
    let is_walked = sweep.as_ref().is_some_and(|sweep| sweep.ended_at.is_some());
    let is_idle = is_walked
        && sweep::reason(sweep.as_ref(), &set, now).is_none()
        && !change::is_due(&mut conn, now, channel).await?
        && !read_back::is_due(&mut conn, now, channel).await?;
    Ok((!is_idle).then_some((set, sweep)))
}

async fn with_lease(app: &App, channel: &str, holder: &str, set: Set, sweep: Option<Sweep>) -> Result<usize, Trouble> {
    if !tell::lease(app, channel, holder).await? {
        return Ok(0);
    }
    let now = app.now();
    let reason = sweep::reason(sweep.as_ref(), &set, now);
    let choices = read(app, set)?;
    let sweep = match (sweep, reason) {
        (Some(sweep), None) => sweep,
        (_, reason) => {
            let mut tx = app.db.begin().await?;
            let sweep = sweep::begin(&mut tx, now, channel, &choices, reason.unwrap_or("set")).await?;
            tx.commit().await?;
            sweep
        }
    };
    let ended = change::end_overrides(app, channel).await?;
    let work = Work { remote: remote(app, channel).await?, choices: &choices, holder };
    let mut done = change::take(&work).await? + ended;
    if done == 0 {
        done = read_back::take(&work).await?;
    }
    if done == 0 && sweep.ended_at.is_none() {
        done = sweep::step(&work, &sweep).await?;
    }
    if done > 0 && sweep.failures > 0 {
        sweep::set_fine(&mut *app.db.conn().await?, channel).await?;
    }
    Ok(done)
}

fn read(app: &App, set: Set) -> Result<Choices, Trouble> {
    Choices::new(app, set, app.now()).map_err(|why| Trouble::Stuck { why })
}

async fn remote<'a>(app: &'a App, channel: &'a str) -> Result<Remote<'a>, Trouble> {
    Remote::new(app, channel).await.map_err(|Stop(outcome)| match outcome {
        Outcome::Retry { why, after } => Trouble::Passing { why, after },
        Outcome::Park { why } => Trouble::Stuck { why },
        Outcome::Done => Trouble::Taken,
    })
}

/// What is left is done after a rest, from where it stopped.
async fn rest(app: &App, channel: &str, failures: i64, trouble: Trouble) -> Result<usize> {
    let (why, rest) = match trouble {
        Trouble::Taken => return Ok(0),
        Trouble::Passing { why, after } => {
            let wait = after.unwrap_or_else(|| queue::backoff(failures + 1, app.jitter()));
            tracing::warn!(channel, why, wait_ms = wait.as_millis(), "people's menus wait");
            (why, wait)
        }
        Trouble::Vanished { rich_menu_id, why } => {
            let is_asked = person::want_menus(app, channel, Some(&rich_menu_id)).await?;
            tracing::warn!(channel, why, "a menu is not at LINE; it is made again");
            (why, if is_asked { MENUS_COME } else { STUCK })
        }
        Trouble::Stuck { why } => {
            tracing::error!(channel, why, "people's menus wait: a person must look");
            (why, STUCK)
        }
    };
    sweep::set_rest(&mut *app.db.conn().await?, app.now(), channel, rest, &why).await?;
    Ok(0)
}
