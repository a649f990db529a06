//! What LINE knows of user ids: whether a channel of the provider may read their profiles.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{MissedTickBehavior, interval, sleep};

use super::Pair;
use crate::{
    app::App,
    channel::{self, Kind},
    import::ImportError,
    line::{self, Failure, profile::BotProfile},
};

/// Between two questions: LINE has better things to do.
const PACE: Duration = Duration::from_millis(50);
/// Tries of one question while LINE is unwell or wants to be left alone.
const TRIES: u32 = 5;
/// How long LINE is left alone where it does not say.
const REST: Duration = Duration::from_secs(2);

/// What LINE said of a user id.
#[derive(Debug, Clone, Default)]
pub(super) struct Checked {
    /// None where no channel may read it.
    pub profile: Option<BotProfile>,
    /// Each channel that was asked, and whether it may.
    pub friends: Vec<(String, bool)>,
}

/// Asks LINE about each pair, by every channel of the provider; by LINE's user id.
pub(super) async fn check<'a>(
    app: &App,
    channels: &[String],
    pairs: impl Iterator<Item = &'a Pair>,
) -> Result<BTreeMap<String, Checked>, ImportError> {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut found = BTreeMap::new();
    for pair in pairs {
        let mut checked = Checked::default();
        for channel in channels {
            pace.tick().await;
            let profile = ask(app, channel, &pair.user_id)
                .await
                .map_err(|error| ImportError::Stopped { line: pair.line, why: format!("LINE did not say: {error}") })?;
            checked.friends.push((channel.clone(), profile.is_some()));
            checked.profile = checked.profile.or(profile);
        }
        found.insert(pair.user_id.clone(), checked);
    }
    Ok(found)
}

async fn ask(app: &App, channel: &str, user_id: &str) -> Result<Option<BotProfile>, line::Error> {
    let mut tried = 1;
    loop {
        let asked =
            channel::call(app, Kind::Bot(channel), |token| async move { app.line.profile_of(&token, user_id).await })
                .await;
        match asked {
            // Somebody else's would be a fault of LINE's.
            Ok(profile) => return Ok(profile.filter(|profile| profile.user_id == user_id)),
            Err(error) if may_pass(&error) && tried < TRIES => {
                sleep(error.retry_after().unwrap_or(REST * tried)).await;
                tried += 1;
            }
            // Not a user id that LINE would give to this channel.
            Err(line::Error::Refused { status: 400, .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

fn may_pass(error: &line::Error) -> bool {
    match error.failure() {
        Failure::Ambiguous | Failure::TooFast => true,
        Failure::Unreached => !matches!(error, line::Error::Client(_)),
        Failure::Unauthorized | Failure::MonthlyLimit | Failure::Refused => false,
    }
}
