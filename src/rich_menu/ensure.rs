//! Makes sure that a channel has the menus of its set; safe to run at any time and any number of times. Where nothing was
//! ever applied to it, this installation's files are.

use std::time::Duration;

use super::{
    Menu, Remote, Stop,
    bring::{Turn, bring, look},
    file,
    person::want_menus,
    set, store,
};
use crate::{app::App, queue::Outcome};

/// Twenty tries outlast the turn of a process that died.
const BUSY: Duration = Duration::from_secs(10);

/// Brings the menus of its set to a channel, and makes the strangers' menu its default.
pub async fn ensure(app: &App, channel: &str) -> Outcome {
    match ensure_in_turn(app, channel).await {
        Ok(()) => Outcome::Done,
        Err(Stop(outcome)) => outcome,
    }
}

async fn ensure_in_turn(app: &App, channel: &str) -> Result<(), Stop> {
    let Some(turn) = Turn::take(app, channel).await? else {
        let why = "another process works at this channel's menus".to_owned();
        return Err(Stop(Outcome::Retry { why, after: Some(BUSY) }));
    };
    let done = async {
        let menus = menus(app, channel).await?;
        let remote = Remote::new(app, channel).await?;
        let found = look(&remote, &menus).await?;
        bring(&turn, &remote, &menus, &found, &mut |_, _, _| {}).await
    };
    let done = done.await;
    turn.end().await?;
    done.map(|_| ())
}

/// The menus of the channel's set, else those of the files.
async fn menus(app: &App, channel: &str) -> Result<Vec<Menu>, Stop> {
    let mut conn = app.db.conn().await?;
    if set::version(&mut conn, channel).await?.is_some() {
        return Ok(store::list_set(&mut conn, channel).await?);
    }
    drop(conn);
    load(app).await
}

/// Reads the files without holding up other work.
pub(super) async fn load(app: &App) -> Result<Vec<Menu>, Stop> {
    let app = app.clone();
    let loaded = tokio::task::spawn_blocking(move || file::load(&app.config)).await;
    Ok(loaded.map_err(|error| Stop(Outcome::retry(&error)))??)
}

/// Looks whether LINE still has what was applied to each channel, and has it made again where it does not: somebody may
/// delete it there, and a time window may change what strangers see.
pub async fn look_after(app: &App) {
    for channel in app.config.channel.keys() {
        match is_as_applied(app, channel).await {
            Ok(true) => {}
            Ok(false) => {
                if let Err(error) = want_menus(app, channel, None).await {
                    tracing::error!(channel, %error, "missing rich menus could not be asked for");
                }
            }
            Err(Stop(outcome)) => tracing::warn!(channel, ?outcome, "the rich menus at LINE could not be looked at"),
        }
    }
}

async fn is_as_applied(app: &App, channel: &str) -> Result<bool, Stop> {
    let mut conn = app.db.conn().await?;
    if set::version(&mut conn, channel).await?.is_none() {
        return Ok(true);
    }
    let menus = store::list_set(&mut conn, channel).await?;
    drop(conn);
    let remote = Remote::new(app, channel).await?;
    let (plan, _) = look(&remote, &menus).await?;
    Ok(plan.is_applied())
}
