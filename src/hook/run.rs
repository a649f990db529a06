//! Who gets a turn when: each endpoint at which something is due, all side by side.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use tokio::{
    sync::watch,
    task::{Id, JoinSet},
    time,
};
use tokio_util::sync::CancellationToken;

use super::{claim::list_due, turn::turn};
use crate::{app::App, error::Result, kill};

/// How long is rested when nothing wakes; what other nodes wrote is found after it at the latest.
const REST: Duration = Duration::from_secs(1);

const MOMENT: Duration = Duration::from_millis(20);
/// Calls that are on their way when it is told to stop are waited for so long; what is cut off is told again.
const LAST: Duration = Duration::from_secs(5);

/// Gives turns until told to stop, then ends what is on its way. A turn that panics is that endpoint's.
pub async fn run(app: App, mut wakes: watch::Receiver<u64>, stop: CancellationToken) {
    let mut turns = Turns { app, running: JoinSet::new(), names: HashMap::new(), stop: stop.clone() };
    let mut looks = true;
    while !stop.is_cancelled() {
        if looks {
            kill::point("loop.hook");
            if let Err(error) = turns.begin().await {
                tracing::error!(%error, "it could not be seen which hooks are due");
            }
        }
        looks = tokio::select! {
            made = turns.end_one(), if !turns.running.is_empty() => made > 0,
            () = stop.cancelled() => false,
            () = rest(&mut wakes) => true,
        };
    }
    let ending = async {
        while !turns.running.is_empty() {
            turns.end_one().await;
        }
    };
    if time::timeout(LAST, ending).await.is_err() {
        tracing::warn!("hooks that were on their way are told again after the next start");
    }
}

/// Until something wakes, and a moment longer: what comes by the thousand in a second is seen together.
async fn rest(wakes: &mut watch::Receiver<u64>) {
    if let Ok(Ok(())) = time::timeout(REST, wakes.changed()).await {
        time::sleep(MOMENT).await;
    }
}

/// Tells all that is due now, once round; gives the number of tries.
pub async fn due(app: &App) -> Result<usize> {
    let (running, stop) = (JoinSet::new(), CancellationToken::new());
    let mut turns = Turns { app: app.clone(), running, names: HashMap::new(), stop };
    turns.begin().await?;
    let mut made = 0;
    while !turns.running.is_empty() {
        made += turns.end_one().await;
    }
    Ok(made)
}

struct Turns {
    app: App,
    running: JoinSet<Result<usize>>,
    /// The endpoint of each.
    names: HashMap<Id, String>,
    stop: CancellationToken,
}

impl Turns {
    /// Begins a turn at each endpoint that is due and has none.
    async fn begin(&mut self) -> Result<()> {
        let busy: BTreeSet<&String> = self.names.values().collect();
        let mut due = list_due(&self.app).await?;
        due.retain(|endpoint_id| !busy.contains(endpoint_id));
        for endpoint_id in due {
            let (app, stop, name) = (self.app.clone(), self.stop.clone(), endpoint_id.clone());
            let task = self.running.spawn(async move { turn(&app, &name, &stop).await });
            self.names.insert(task.id(), endpoint_id);
        }
        Ok(())
    }

    /// Waits for the end of a turn; gives how many tries it made.
    async fn end_one(&mut self) -> usize {
        let Some(ended) = self.running.join_next_with_id().await else { return 0 };
        let (id, result) = match ended {
            Ok((id, result)) => (id, result.map_err(|error| error.to_string())),
            Err(error) => (error.id(), Err(error.to_string())),
        };
        let endpoint = self.names.remove(&id).unwrap_or_default();
        result.unwrap_or_else(|error| {
            tracing::error!(endpoint, error, "a hook endpoint's turn broke off; its claims run out");
            0
        })
    }
}
