//! The sender of a channel: one at a time over all nodes, by a lease.
//!
//! The lease paces and orders; it is not what keeps a message from being sent twice. That is the claim, and
//! LINE's memory of the retry key. What ended meanwhile is written down in the transaction that claims what is next, so
//! that many messages share a commit; and somewhat more is claimed than is sent at one time, so that nobody waits for a
//! commit. After a rest of the channel one request goes first, and each that goes well lets one more go beside it.

mod rest;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use secrecy::SecretString;
use tokio::{
    sync::Semaphore,
    task::{JoinError, JoinSet},
    time::{self, Instant},
};

use super::{
    after::{self, Tried, after},
    claim::{self, Claimed, DEADLINE, Room, Try},
    quota,
    recipient::Sources,
    settle::{self, Ended},
};
use crate::{
    app::App,
    channel::{self, Kind},
    db::Conn,
    error::{Error, Result},
    kill,
    line::{self, messaging::Endpoint},
    queue,
};

/// Longer than a turn, a token and a push take at the client's time limits.
const LEASE: Duration = Duration::from_secs(60);
/// How long a sender begins new requests before it looks up again.
const TURN: Duration = Duration::from_secs(10);
/// How long a channel rests when it has no token, because LINE is away or refuses its credentials.
const NO_TOKEN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));
/// Requests in flight at one time: LINE's 2,000 a second at its answers' usual 100 ms.
const WINDOW: usize = 256;
/// Requests claimed at one time; those that are not in flight follow at once.
const CLAIMED: usize = 2 * WINDOW;
/// Places that must be free before more is claimed: few large claims instead of many small ones.
const ENOUGH: usize = 128;
/// Multicasts of one claim.
const MULTICASTS: usize = 8;
/// Ends that share a commit are waited for no longer than this.
const GATHER: Duration = Duration::from_millis(4);
/// How often a sender that has places looks for what became due, while LINE takes its time.
const LOOK: Duration = Duration::from_millis(100);

/// Sends what is due in a channel, for a while; returns the number of requests made. `holder` names this sender.
/// Call it again at once while it made any.
pub async fn deliver(app: &App, channel: &str, holder: &str) -> Result<usize> {
    let now = app.now();
    settle::give_up(app, channel, now).await?;
    let mut conn = app.db.conn().await?;
    let rest = rest::find(&mut conn, channel).await?;
    let is_resting = rest.is_some_and(|rest| rest.until > now)
        || !claim::is_due(&mut conn, channel, now).await?
        || quota::holds_all(&mut conn, app, channel).await?;
    drop(conn);
    let lease = format!("send:{channel}");
    if is_resting || !queue::lease(app, &lease, holder, LEASE).await? {
        return Ok(0);
    }
    let made = send(app, channel, rest.map_or(0, |rest| rest.failures)).await;
    queue::release(app, &lease, holder).await?;
    made
}

async fn send(app: &App, channel: &str, failures: i64) -> Result<usize> {
    let token = match channel::token(app, Kind::Bot(channel)).await {
        Ok(token) => token,
        Err(error) => {
            let rest = if error.is_passing() { NO_TOKEN.0 } else { NO_TOKEN.1 };
            rest::begin(app, channel, rest, failures, &format!("no channel access token: {error}")).await?;
            return Ok(0);
        }
    };
    let mut turn = Turn::new(app, channel, failures);
    let mut conn = app.db.worker_conn().await?;
    let (ends, mut running, mut ended, mut made) = (Instant::now() + TURN, JoinSet::new(), Vec::new(), 0);
    let mut failure = None;
    loop {
        let goes_on = failure.is_none() && !turn.rests() && Instant::now() < ends;
        let free = if goes_on { turn.free(running.len()) } else { 0 };
        let claimed = match turn.settle_and_claim(&mut conn, &ended, running.len(), free).await {
            Ok(claimed) => claimed,
            Err(error) => {
                failure.get_or_insert(error);
                Claimed::default()
            }
        };
        ended.clear();
        let (found, claimed) = (claimed.found > 0, claimed.tries);
        if running.is_empty() && claimed.is_empty() && !found {
            return failure.map_or(Ok(made), Err);
        }
        made += claimed.len();
        for tried in claimed {
            running.spawn(turn.carry_out(&token, tried));
        }
        let looks_again = (goes_on && turn.free(running.len()) > 0).then_some(if found { GATHER } else { LOOK });
        for joined in gather(&mut running, looks_again).await {
            match joined {
                Ok((one, facts)) => {
                    if let Err(error) = turn.learn(&one, facts).await {
                        failure.get_or_insert(error);
                    }
                    ended.push(one);
                }
                Err(error) => drop(failure.get_or_insert(Error::internal(error))),
            }
        }
    }
}

/// Waits for ends, a moment longer than for the first; for that no longer than `most`.
async fn gather(
    running: &mut JoinSet<(Ended, Facts)>,
    most: Option<Duration>,
) -> Vec<Result<(Ended, Facts), JoinError>> {
    let first = match most {
        Some(most) => time::timeout(most, next(running)).await,
        None => Ok(next(running).await),
    };
    let Ok(first) = first else { return Vec::new() };
    let mut ended = vec![first];
    let until = Instant::now() + GATHER;
    while ended.len() < ENOUGH
        && let Ok(Some(next)) = time::timeout_at(until, running.join_next()).await
    {
        ended.push(next);
    }
    ended
}

/// The next end; where nothing runs there is none.
async fn next(running: &mut JoinSet<(Ended, Facts)>) -> Result<(Ended, Facts), JoinError> {
    match running.join_next().await {
        Some(ended) => ended,
        None => std::future::pending().await,
    }
}

/// A sender at work.
struct Turn<'a> {
    app: &'a App,
    channel: &'a str,
    sources: Sources,
    /// Whether many recipients went into one request lately.
    is_wide: bool,
    /// Whether the channel rests from now on; what is claimed and not sent is left.
    rests: Arc<AtomicBool>,
    /// Whether that is written down, with its end.
    is_paused: bool,
    /// Of requests in flight.
    places: Arc<Semaphore>,
    /// Requests that may be under way.
    window: usize,
    /// Rests in a row that helped nothing.
    failures: i64,
    /// Requests in a row that LINE was not well for.
    failed: usize,
}

/// What a try tells of LINE and of the channel.
#[derive(Debug, Clone, Copy, Default)]
struct Facts {
    is_well: Option<bool>,
    /// How long the channel rests because of it.
    rest: Option<Duration>,
    /// Whether nothing more is begun in this turn.
    is_over: bool,
}

impl<'a> Turn<'a> {
    fn new(app: &'a App, channel: &'a str, failures: i64) -> Self {
        let window = if failures > 0 { 1 } else { WINDOW };
        let (sources, rests, places) = (Sources::default(), Arc::default(), Arc::new(Semaphore::new(WINDOW)));
        Self { app, channel, sources, is_wide: false, rests, is_paused: false, places, window, failures, failed: 0 }
    }

    fn rests(&self) -> bool {
        self.rests.load(Ordering::Relaxed)
    }

    /// One try, once there is a place for it.
    fn carry_out(&self, token: &SecretString, tried: Try) -> impl Future<Output = (Ended, Facts)> + Send + use<> {
        let (app, channel, token) = (self.app.clone(), self.channel.to_owned(), token.clone());
        let (places, rests) = (self.places.clone(), self.rests.clone());
        async move {
            let _place = places.acquire().await;
            carry_out(&app, &channel, &token, tried, &rests).await
        }
    }

    /// How many may be claimed now.
    fn free(&self, running: usize) -> usize {
        let most = if self.window < WINDOW { self.window } else { CLAIMED };
        let free = most.saturating_sub(running);
        if free < ENOUGH.min(most) { 0 } else { free }
    }

    /// Opens the window again, or lets the channel rest.
    async fn learn(&mut self, ended: &Ended, facts: Facts) -> Result<()> {
        match facts.is_well {
            Some(true) => {
                self.failed = 0;
                self.window = (self.window + 1).min(WINDOW);
                if std::mem::take(&mut self.failures) > 0 {
                    rest::end(self.app, self.channel).await?;
                }
            }
            Some(false) => self.failed += 1,
            None => {}
        }
        let is_broken = self.failed >= after::BREAKS || (self.failed > 0 && self.window == 1);
        let broken = || is_broken.then(|| after::rest(self.failures, self.app.jitter()));
        if facts.is_over {
            self.rests.store(true, Ordering::Relaxed);
        }
        // Of many that fail side by side the first one counts.
        if let Some(rest) = facts.rest.or_else(broken)
            && !std::mem::replace(&mut self.is_paused, true)
        {
            self.rests.store(true, Ordering::Relaxed);
            let why = ended.result.as_ref().err().map(ToString::to_string).unwrap_or_default();
            rest::begin(self.app, self.channel, rest, self.failures, &why).await?;
        }
        Ok(())
    }

    /// Both in one transaction. Where it fails, what ended is written down one by one: LINE has it, and must not be asked
    /// again.
    async fn settle_and_claim(
        &mut self,
        conn: &mut Conn,
        ended: &[Ended],
        running: usize,
        free: usize,
    ) -> Result<Claimed> {
        match self.try_both(conn, ended, running, free).await {
            Ok(claimed) => Ok(claimed),
            Err(error) => {
                tracing::warn!(channel = self.channel, %error, "a sender's transaction failed");
                for one in ended {
                    if let Err(error) = self.settle_alone(one).await {
                        tracing::error!(channel = self.channel, request = one.tried.request_id, %error, "an end is not kept");
                    }
                }
                Err(error)
            }
        }
    }

    async fn settle_alone(&self, ended: &Ended) -> Result<()> {
        let mut tx = self.app.db.begin().await?;
        settle::settle(self.app, &mut tx, self.channel, std::slice::from_ref(ended)).await?;
        Ok(tx.commit().await?)
    }

    async fn try_both(&mut self, conn: &mut Conn, ended: &[Ended], running: usize, free: usize) -> Result<Claimed> {
        let room = self.room(free);
        if ended.is_empty() && room.pushes == 0 {
            return Ok(Claimed { found: usize::from(free > 0), ..Claimed::default() });
        }
        let mut tx = self.app.db.begin_on(conn).await?;
        settle::settle(self.app, &mut tx, self.channel, ended).await?;
        let room = self.within_quota(&mut tx, running, room).await?;
        let claimed = match room.pushes {
            0 => Claimed::default(),
            _ => claim::claim(self.app, &mut tx, self.channel, room, self.is_wide, &mut self.sources).await?,
        };
        if !claimed.tries.is_empty() {
            kill::point("send.claiming");
        }
        tx.commit().await?;
        if !claimed.tries.is_empty() {
            kill::point("send.claimed");
        }
        if !ended.is_empty() {
            kill::point("send.recorded");
        }
        if room.pushes > 0 {
            self.app.pace.give_back(self.channel, Endpoint::Push, claimed.left.pushes);
            self.app.pace.give_back(self.channel, Endpoint::Multicast, claimed.left.multicasts);
            self.is_wide =
                if claimed.tries.is_empty() { self.is_wide } else { claimed.found >= 4 * claimed.tries.len() };
        }
        Ok(claimed)
    }

    /// What may be claimed now, by the places that are free and by LINE's limits.
    fn room(&self, free: usize) -> Room {
        let (app, now) = (self.app, self.app.now().0);
        let Some(limits) = app.config.channel.get(self.channel) else { return Room::default() };
        let take = |endpoint, rate, wanted| app.pace.take(self.channel, endpoint, rate, now, wanted);
        let pushes = take(Endpoint::Push, limits.pushes_per_second, free);
        let multicasts = match pushes {
            0 => 0,
            _ => take(Endpoint::Multicast, limits.multicasts_per_second, MULTICASTS.min(free)),
        };
        Room { pushes, multicasts, bulk: usize::MAX }
    }

    /// What the month leaves of the room: where one is tried, none beside it.
    async fn within_quota(&self, conn: &mut Conn, running: usize, room: Room) -> Result<Room> {
        if room.pushes == 0 {
            return Ok(room);
        }
        let allowed = quota::allowed(conn, self.app, self.channel).await?;
        let all = allowed.all.saturating_sub(running);
        let (pushes, multicasts) = (room.pushes.min(all), room.multicasts.min(all));
        self.app.pace.give_back(self.channel, Endpoint::Push, room.pushes - pushes);
        self.app.pace.give_back(self.channel, Endpoint::Multicast, room.multicasts - multicasts);
        Ok(Room { pushes, multicasts, bulk: allowed.bulk })
    }
}

/// One try: LINE is called outside of any transaction. Not any more where the channel rests meanwhile, or where the key may
/// be forgotten, as after a long sleep of this machine.
async fn carry_out(app: &App, channel: &str, token: &SecretString, tried: Try, rests: &AtomicBool) -> (Ended, Facts) {
    let is_late = app.now() >= tried.first_attempt_at.plus(DEADLINE);
    if is_late || rests.load(Ordering::Relaxed) {
        let result = Err(line::Error::Client("the channel rests".into()));
        let told = Tried { attempt: tried.attempt, count: tried.count, fresh_token: false, jitter: app.jitter() };
        return (Ended { after: after(&result, told), tried, result }, Facts::default());
    }
    kill::point("send.writing");
    let result = app.line.send(token, tried.endpoint, &tried.request_id, &tried.body).await;
    kill::point("send.answered");
    let fresh_token = channel::after_call(app, Kind::Bot(channel), token, &result).await;
    let told = Tried { attempt: tried.attempt, count: tried.count, fresh_token, jitter: app.jitter() };
    if let Err(error) = &result {
        tracing::warn!(channel, request = tried.request_id, attempt = tried.attempt, %error, "not accepted");
    }
    let facts = Facts {
        is_well: after::is_well(&result),
        rest: after::pause(&result, told),
        is_over: after::ends_turn(&result),
    };
    (Ended { after: after(&result, told), tried, result }, facts)
}
