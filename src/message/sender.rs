//! The sender of a channel: one at a time over all nodes, by a lease.
//!
//! The lease paces and orders; it is not what keeps a message from being sent twice. That is the claim, and
//! LINE's memory of the retry key. What ended meanwhile is written down in the transaction that claims what is next, so
//! that many messages share a commit.

use std::time::Duration;

use secrecy::SecretString;
use tokio::{
    task::{JoinError, JoinSet},
    time::{self, Instant},
};

use super::{
    after::{self, Tried, after},
    claim::{self, Claimed, Room, Try},
    quota,
    recipient::Sources,
    settle::{self, Ended},
};
use crate::{
    app::App,
    channel::{self, Kind},
    db::{Conn, Millis},
    error::{Error, Result},
    line::messaging::Endpoint,
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
/// Places that must be free before more is claimed: few large claims instead of many small ones.
const ENOUGH: usize = 64;
/// Multicasts of one claim.
const MULTICASTS: usize = 8;
/// Ends that share a commit are waited for no longer than this.
const GATHER: Duration = Duration::from_millis(4);

/// Sends what is due in a channel, for a while; returns the number of requests made. `holder` names this sender.
/// Call it again at once while it made any.
pub async fn deliver(app: &App, channel: &str, holder: &str) -> Result<usize> {
    let now = app.now();
    settle::give_up(app, channel, now).await?;
    let mut conn = app.db.conn().await?;
    let resting = is_paused(&mut conn, channel, now).await?
        || !claim::is_due(&mut conn, channel, now).await?
        || quota::holds_all(&mut conn, app, channel).await?;
    drop(conn);
    let lease = format!("send:{channel}");
    if resting || !queue::lease(app, &lease, holder, LEASE).await? {
        return Ok(0);
    }
    let made = send(app, channel).await;
    queue::release(app, &lease, holder).await?;
    made
}

async fn send(app: &App, channel: &str) -> Result<usize> {
    let token = match channel::token(app, Kind::Bot(channel)).await {
        Ok(token) => token,
        Err(error) => {
            let rest = if error.is_passing() { NO_TOKEN.0 } else { NO_TOKEN.1 };
            pause(app, channel, rest, &format!("no channel access token: {error}")).await?;
            return Ok(0);
        }
    };
    let mut turn = Turn { app, channel, sources: Sources::default(), is_wide: false, rests: false };
    let (ends, mut running, mut ended, mut made) = (Instant::now() + TURN, JoinSet::new(), Vec::new(), 0);
    let mut failure = None;
    loop {
        let goes_on = failure.is_none() && !turn.rests && Instant::now() < ends;
        let free = if goes_on { WINDOW - running.len() } else { 0 };
        let claimed = match turn.settle_and_claim(&ended, if free < ENOUGH { 0 } else { free }).await {
            Ok(claimed) => claimed,
            Err(error) => {
                failure.get_or_insert(error);
                Claimed::default()
            }
        };
        ended.clear();
        let is_starved = claimed.found > 0 && claimed.tries.is_empty();
        made += claimed.tries.len();
        for tried in claimed.tries {
            let (app, channel, token) = (app.clone(), channel.to_owned(), token.clone());
            running.spawn(async move { carry_out(&app, &channel, &token, tried).await });
        }
        if running.is_empty() && !is_starved {
            return failure.map_or(Ok(made), Err);
        }
        for joined in gather(&mut running).await {
            match joined {
                Ok((one, rests)) => {
                    turn.rests = turn.rests || rests;
                    ended.push(one);
                }
                Err(error) => drop(failure.get_or_insert(Error::internal(error))),
            }
        }
    }
}

/// Waits for ends, a moment longer than for the first.
async fn gather(running: &mut JoinSet<(Ended, bool)>) -> Vec<Result<(Ended, bool), JoinError>> {
    let Some(first) = running.join_next().await else {
        time::sleep(GATHER).await;
        return Vec::new();
    };
    let mut ended = vec![first];
    let until = Instant::now() + GATHER;
    while ended.len() < ENOUGH
        && let Ok(Some(next)) = time::timeout_at(until, running.join_next()).await
    {
        ended.push(next);
    }
    ended
}

/// A sender at work.
struct Turn<'a> {
    app: &'a App,
    channel: &'a str,
    sources: Sources,
    /// Whether many recipients went into one request lately.
    is_wide: bool,
    /// Whether the channel rests from now on.
    rests: bool,
}

impl Turn<'_> {
    /// Both in one transaction. Where it fails, what ended is written down one by one: LINE has it, and must not be asked
    /// again.
    async fn settle_and_claim(&mut self, ended: &[Ended], free: usize) -> Result<Claimed> {
        match self.try_both(ended, free).await {
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

    async fn try_both(&mut self, ended: &[Ended], free: usize) -> Result<Claimed> {
        let room = self.room(free);
        if ended.is_empty() && room.pushes == 0 {
            return Ok(Claimed { found: usize::from(free > 0), ..Claimed::default() });
        }
        let mut tx = self.app.db.begin().await?;
        settle::settle(self.app, &mut tx, self.channel, ended).await?;
        let room = self.within_quota(&mut tx, room).await?;
        let claimed = match room.pushes {
            0 => Claimed::default(),
            _ => claim::claim(self.app, &mut tx, self.channel, room, &mut self.sources).await?,
        };
        tx.commit().await?;
        if room.pushes > 0 {
            self.app.pace.give_back(self.channel, Endpoint::Push, claimed.pushes);
            self.app.pace.give_back(self.channel, Endpoint::Multicast, claimed.multicasts);
            self.is_wide = claimed.found >= 4 * claimed.tries.len().max(1);
        }
        Ok(claimed)
    }

    /// What may be claimed now, by the places that are free and by LINE's limits.
    fn room(&self, free: usize) -> Room {
        let (app, now) = (self.app, self.app.now().0);
        let Some(limits) = app.config.channel.get(self.channel) else {
            return Room { pushes: 0, multicasts: 0, bulk: 0, is_wide: false };
        };
        let take = |endpoint, rate, wanted| app.pace.take(self.channel, endpoint, rate, now, wanted);
        let pushes = take(Endpoint::Push, limits.pushes_per_second, free);
        let multicasts = match pushes {
            0 => 0,
            _ => take(Endpoint::Multicast, limits.multicasts_per_second, MULTICASTS),
        };
        Room { pushes, multicasts, bulk: usize::MAX, is_wide: self.is_wide }
    }

    /// What the month leaves of the room.
    async fn within_quota(&self, conn: &mut Conn, room: Room) -> Result<Room> {
        if room.pushes == 0 {
            return Ok(room);
        }
        let allowed = quota::allowed(conn, self.app, self.channel).await?;
        let pushes = room.pushes.min(allowed.all);
        let multicasts = if pushes == 0 { 0 } else { room.multicasts };
        self.app.pace.give_back(self.channel, Endpoint::Push, room.pushes - pushes);
        self.app.pace.give_back(self.channel, Endpoint::Multicast, room.multicasts - multicasts);
        Ok(Room { pushes, multicasts, bulk: allowed.bulk, is_wide: room.is_wide && allowed.bulk > 1 })
    }
}

/// One try: LINE is called outside of any transaction. Gives also whether the channel rests now.
async fn carry_out(app: &App, channel: &str, token: &SecretString, tried: Try) -> (Ended, bool) {
    let result = app.line.send(token, tried.endpoint, &tried.retry_key, &tried.body).await;
    let fresh_token = channel::after_call(app, Kind::Bot(channel), token, &result).await;
    let facts = Tried { attempt: tried.attempt, count: tried.count, fresh_token, jitter: app.jitter() };
    let mut rests = after::ends_turn(&result);
    if let Err(error) = &result {
        tracing::warn!(channel, request = tried.request_id, attempt = tried.attempt, %error, "not accepted");
        if let Some(rest) = after::pause(&result, facts) {
            rests = true;
            if let Err(error) = pause(app, channel, rest, &error.to_string()).await {
                tracing::error!(channel, %error, "the channel's rest could not be kept");
            }
        }
    }
    (Ended { after: after(&result, facts), tried, result }, rests)
}

async fn is_paused(conn: &mut Conn, channel: &str, now: Millis) -> Result<bool> {
    let until: Option<Millis> =
        sqlx::query_scalar("SELECT paused_until FROM send_pauses WHERE channel = $1 AND paused_until > $2")
            .bind(channel)
            .bind(now)
            .fetch_optional(conn)
            .await?;
    Ok(until.is_some())
}

/// Lets the whole channel rest; never shortens a rest.
async fn pause(app: &App, channel: &str, rest: Duration, note: &str) -> Result<()> {
    tracing::warn!(channel, rest_ms = rest.as_millis(), note, "sending pauses");
    let mut conn = app.db.conn().await?;
    sqlx::query(
        "INSERT INTO send_pauses (channel, paused_until, note) VALUES ($1, $2, $3)
         ON CONFLICT (channel) DO UPDATE SET paused_until = excluded.paused_until, note = excluded.note
         WHERE send_pauses.paused_until < excluded.paused_until",
    )
    .bind(channel)
    .bind(app.now().plus(rest))
    .bind(note)
    .execute(&mut *conn)
    .await?;
    Ok(())
}
