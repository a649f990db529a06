//! The loops that do what commits left to do, and the one match on [`Job`].

use std::time::Duration;

use tokio::{sync::watch, task::JoinSet, time};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    api,
    app::App,
    channel, chat,
    error::Result,
    hook, kill, line_user, link, mail, member, message, privacy,
    queue::{self, Claimed, Job, Lane, Outcome},
    rich_menu, webhook,
};

/// Jobs of a lane run at one time on this node; those of the lane that may hold media are large.
const AT_ONCE: i64 = 8;
const AT_ONCE_TO_FETCH: i64 = 2;
/// How long the loops rest when nothing wakes them; work of other nodes is found after it at the latest.
const REST: Duration = Duration::from_secs(1);
/// Between two batches of recipients: SQLite has one writer, and who waits for it looks now and then only.
const BREATH: Duration = Duration::from_millis(4);
const PRUNE_EVERY: Duration = Duration::from_secs(3600);
/// Between two steps of the slow routines.
const ROUTINE_EVERY: Duration = Duration::from_secs(60);

/// Works until told to stop, then ends what is in flight.
pub async fn run(app: App, stop: CancellationToken) {
    let mut loops = JoinSet::new();
    let holder = app.new_id();
    for channel in app.config.channel.keys() {
        let (expanding, sending) = ((app.clone(), channel.clone()), (app.clone(), channel.clone(), holder.clone()));
        let (receiving, reconciling) = (sending.clone(), sending.clone());
        loops.spawn(repeat(app.wakes(), stop.clone(), move || {
            let (app, channel) = expanding.clone();
            async move { expand(&app, &channel).await }
        }));
        loops.spawn(repeat(app.wakes(), stop.clone(), move || {
            let (app, channel, holder) = sending.clone();
            async move {
                kill::point("loop.deliver");
                message::deliver(&app, &channel, &holder).await
            }
        }));
        loops.spawn(repeat(app.inbox_wakes(), stop.clone(), move || {
            let (app, channel, holder) = receiving.clone();
            async move {
                kill::point("loop.inbox");
                webhook::inbox::run(&app, &channel, &holder).await
            }
        }));
        loops.spawn(repeat(app.wakes(), stop.clone(), move || {
            let (app, channel, holder) = reconciling.clone();
            async move { reconcile(&app, &channel, &holder).await }
        }));
    }
    for lane in Lane::ALL {
        let worker = app.clone();
        loops.spawn(repeat(app.wakes(), stop.clone(), move || {
            let app = worker.clone();
            async move {
                kill::point("loop.jobs");
                run_due(&app, lane).await
            }
        }));
    }
    let (telling, finishing) = ((app.clone(), stop.clone()), (app.clone(), stop.clone()));
    loops.spawn(again(stop.clone(), move || hook::run(telling.0.clone(), telling.0.wakes(), telling.1.clone())));
    loops.spawn(again(stop.clone(), move || hook::finish::run(finishing.0.clone(), finishing.1.clone())));
    let (asking, pruning) = ((app.clone(), holder.clone(), stop.clone()), (app.clone(), holder.clone(), stop.clone()));
    loops.spawn(again(stop.clone(), move || ask_by_the_minute(asking.0.clone(), asking.1.clone(), asking.2.clone())));
    loops.spawn(again(stop, move || prune_hourly(pruning.0.clone(), pruning.1.clone(), pruning.2.clone())));
    while loops.join_next().await.is_some() {}
    // Another node goes on at once.
    if let Err(error) = queue::release_all(&app, &holder).await {
        tracing::warn!(%error, "leases were not given back; they run out");
    }
}

/// What must be there for the work to have a meaning: the menus of each channel, and whose webhooks are its own.
pub async fn prepare(app: &App) -> Result<()> {
    let now = app.now();
    let mut tx = app.db.begin().await?;
    for channel in app.config.channel.keys() {
        queue::enqueue_once(&mut tx, now, now, &Job::EnsureMenus { channel: channel.clone() }).await?;
        queue::enqueue_once(&mut tx, now, now, &Job::LearnBot { channel: channel.clone() }).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Does all that is due, jobs and deliveries, until nothing is: for tests and for commands. Never waits.
pub async fn drain(app: &App) -> Result<()> {
    loop {
        let mut done = 0;
        for lane in Lane::ALL {
            done += run_due(app, lane).await?;
        }
        for channel in app.config.channel.keys() {
            done += webhook::inbox::run(app, channel, "drain").await?;
            done += message::expand(app, channel).await?;
            done += message::deliver(app, channel, "drain").await?;
            done += rich_menu::run(app, channel, "drain").await?;
        }
        done += hook::finish::finish(app).await? + hook::due(app).await?;
        if done == 0 {
            return Ok(());
        }
    }
}

/// Runs `work` again and again, also where it panics.
async fn repeat<W, F>(wakes: watch::Receiver<u64>, stop: CancellationToken, work: W)
where
    W: Fn() -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<usize>> + Send + 'static,
{
    again(stop.clone(), move || rounds(wakes.clone(), stop.clone(), work.clone())).await;
}

/// Runs a loop to its end, and begins it anew where it panics: without it that work would stand still.
async fn again<F>(stop: CancellationToken, begin: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    while let Err(error) = AbortOnDropHandle::new(tokio::spawn(begin())).await {
        tracing::error!(%error, "a loop of the worker begins anew");
        tokio::select! {
            () = stop.cancelled() => {}
            () = time::sleep(REST) => {}
        }
    }
}

/// Works at once while there is something to do, else when woken or rested.
async fn rounds<W, F>(mut wakes: watch::Receiver<u64>, stop: CancellationToken, work: W)
where
    W: Fn() -> F,
    F: Future<Output = Result<usize>>,
{
    while !stop.is_cancelled() {
        let found = work().await.unwrap_or_else(|error| {
            tracing::error!(%error, "the worker could not look for work");
            0
        });
        if found == 0 {
            tokio::select! {
                () = stop.cancelled() => {}
                _ = time::timeout(REST, wakes.changed()) => {}
            }
        }
    }
}

/// Adds the next recipients of a channel's messages to many.
async fn expand(app: &App, channel: &str) -> Result<usize> {
    kill::point("loop.expand");
    let found = message::expand(app, channel).await?;
    if found > 0 {
        time::sleep(BREATH).await;
    }
    Ok(found)
}

/// Brings a channel's people to their menus; where there is nothing to do, asks LINE about a few of them, and rests.
async fn reconcile(app: &App, channel: &str, holder: &str) -> Result<usize> {
    kill::point("loop.menus");
    let done = rich_menu::run(app, channel, holder).await?;
    if done == 0 {
        rich_menu::drift(app, channel, holder).await?;
    }
    Ok(done)
}

/// Runs the jobs of a lane that are due, side by side; gives their number.
async fn run_due(app: &App, lane: Lane) -> Result<usize> {
    let at_once = if lane == Lane::Fetch { AT_ONCE_TO_FETCH } else { AT_ONCE };
    let claimed = queue::claim(app, lane, at_once).await?;
    let found = claimed.len();
    let mut running = JoinSet::new();
    for claimed in claimed {
        running.spawn(run_one(app.clone(), claimed));
    }
    while let Some(ended) = running.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a job's end could not be recorded; its lease will run out");
        }
    }
    Ok(found)
}

async fn run_one(app: App, claimed: Claimed) {
    let (worker, job) = (app.clone(), claimed.job.clone());
    let outcome = shielded(queue::LIMIT, async move { perform(&worker, &job).await }).await;
    if let Outcome::Retry { why, .. } = &outcome {
        tracing::warn!(job = ?claimed.job, attempts = claimed.attempts, why, "job will be tried again");
    }
    if let Err(error) = queue::finish(&app, &claimed, &outcome, app.jitter()).await {
        tracing::error!(%error, "a job's end could not be recorded; its lease will run out");
    }
}

/// A job in a task of its own: a panic is that job's, and counts as a failed try. It ends before its lease does,
/// so that nothing is done to LINE after the claim.
async fn shielded(limit: Duration, job: impl Future<Output = Result<Outcome>> + Send + 'static) -> Outcome {
    match tokio::spawn(time::timeout(limit, job)).await {
        Ok(Ok(Ok(outcome))) => outcome,
        Ok(Ok(Err(error))) => Outcome::retry(&error),
        Ok(Err(_)) => Outcome::retry(&"it took too long"),
        Err(error) => Outcome::retry(&error),
    }
}

/// The one match on [`Job`].
async fn perform(app: &App, job: &Job) -> Result<Outcome> {
    match job {
        Job::Deauthorize { link_id } => link::cleanup::deauthorize(app, link_id).await,
        Job::RevokeGrant { grant_id } => link::cleanup::revoke(app, grant_id).await,
        Job::AbandonAttempt { attempt_id } => link::cleanup::abandon(app, attempt_id).await,
        Job::UserMenu { line_user_id, channel } => Ok(rich_menu::apply(app, line_user_id, channel).await),
        Job::EnsureMenus { channel } => Ok(rich_menu::ensure(app, channel).await),
        Job::SendMail { mail_id } => mail::send(app, mail_id).await,
        Job::EraseMember { member_id } => privacy::erase::run(app, member_id).await,
        Job::Answer { answer_id } => message::answer::send(app, answer_id).await,
        Job::OfferLink { answer_id } => link::account_link::obtain(app, answer_id).await,
        Job::ExpireLink { account_link_id } => link::account_link::expire(app, account_link_id).await,
        Job::SyncProfile { line_user_id, channel } => line_user::profile::sync(app, line_user_id, channel).await,
        Job::CheckGrant { grant_id } => link::permission::check(app, grant_id).await,
        Job::FetchMedia { channel, message_id } => chat::media::fetch(app, channel, message_id).await,
        Job::LearnBot { channel } => channel::bot::learn(app, channel).await,
    }
}

/// Asks LINE, a few people a minute, what it tells nobody by itself.
async fn ask_by_the_minute(app: App, holder: String, stop: CancellationToken) {
    while !stop.is_cancelled() {
        kill::point("loop.ask");
        if let Err(error) = ask(&app, &holder).await {
            tracing::error!(%error, "nobody could be asked about");
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = time::sleep(ROUTINE_EVERY) => {}
        }
    }
}

/// One step of the slow routines, on one node at a time; gives the number of questions.
pub async fn ask(app: &App, holder: &str) -> Result<usize> {
    if !queue::lease(app, "ask", holder, ROUTINE_EVERY).await? {
        return Ok(0);
    }
    if let Err(error) = channel::tidy(app).await {
        tracing::error!(%error, "former channel access tokens are not looked after");
    }
    message::quota::look(app).await;
    rich_menu::look_after(app).await;
    let found = link::permission::want_checks(app).await? + line_user::profile::want_old(app).await?;
    if found > 0 {
        app.wake();
    }
    Ok(found)
}

/// Deletes what is past its time, in small steps, then rests for an hour.
async fn prune_hourly(app: App, holder: String, stop: CancellationToken) {
    while !stop.is_cancelled() {
        kill::point("loop.prune");
        let deleted = prune(&app, &holder).await.unwrap_or_else(|error| {
            tracing::error!(%error, "nothing could be pruned");
            0
        });
        if deleted == 0 {
            tokio::select! {
                () = stop.cancelled() => {}
                () = time::sleep(PRUNE_EVERY) => {}
            }
        }
    }
}

/// Deletes a step of what is past its time, on one node at a time; gives the number of rows.
pub async fn prune(app: &App, holder: &str) -> Result<u64> {
    if !queue::lease(app, "prune", holder, PRUNE_EVERY).await? {
        return Ok(0);
    }
    let now = app.now();
    let kept = &app.config.retention;
    let (events, bodies) = (days(kept.events_days), days(kept.webhook_bodies_days));
    let mut conn = app.db.conn().await?;
    let mut deleted = or_none("sessions", member::session::prune(&mut conn, now).await);
    deleted += or_none("members", member::prune(&mut conn, now).await);
    deleted += or_none("attempts", link::attempt::prune::run(&mut conn, now, days(kept.attempts_days)).await);
    deleted += or_none("liff_tokens", link::liff::seen::prune(&mut conn, now).await);
    deleted += or_none("tickets", link::ticket::prune(&mut conn, now).await);
    deleted += or_none("account_links", link::account_link::prune(&mut conn, now, days(kept.attempts_days)).await);
    deleted += or_none("mails", mail::prune(&mut conn, now).await);
    deleted += or_none("jobs", queue::prune(&mut conn, now).await);
    deleted += or_none("webhooks", webhook::prune::run(&mut conn, now, events, bodies).await);
    deleted += or_none("hooks", hook::prune::run(&mut conn, now, days(kept.hook_days)).await);
    deleted += or_none("chats", chat::prune(&mut conn, now, days(kept.chat_days)).await);
    deleted += or_none("media", chat::media::prune(&mut conn, now, days(kept.media_days)).await);
    drop(conn);
    let (contents, messages) = (days(kept.message_contents_days), days(kept.messages_days));
    deleted += or_none("messages", message::prune::run(app, contents, messages).await);
    deleted += or_none("copies", webhook::erase::copies(app).await);
    deleted += or_none("api_requests", api::idempotency::prune(app).await);
    deleted += or_none("strangers", privacy::erase::prune(app).await);
    Ok(deleted)
}

/// What cannot be pruned now does not keep the rest.
fn or_none(what: &str, deleted: Result<u64>) -> u64 {
    deleted.unwrap_or_else(|error| {
        tracing::error!(what, %error, "not pruned");
        0
    })
}

fn days(days: u32) -> Duration {
    Duration::from_secs(u64::from(days) * 24 * 3600)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[tokio::test]
    async fn a_job_that_panics_or_takes_too_long_is_tried_again() {
        let done = shielded(queue::LIMIT, async { Ok(Outcome::Done) }).await;
        assert_eq!(done, Outcome::Done);
        let panicked = shielded(queue::LIMIT, async { panic!("at the disco") }).await;
        assert!(matches!(panicked, Outcome::Retry { .. }), "{panicked:?}");
        let endless = shielded(Duration::from_millis(1), std::future::pending()).await;
        assert_eq!(endless, Outcome::retry(&"it took too long"));
    }

    /// Each round panics twice; then there is nothing more to do, and told to stop it ends.
    #[tokio::test(start_paused = true)]
    async fn j16_a_loop_that_panics_begins_anew() {
        let (wakes, woken) = watch::channel(0);
        let stop = CancellationToken::new();
        let (count, stopping) = (Arc::new(AtomicUsize::new(0)), stop.clone());
        let counted = count.clone();
        repeat(woken, stop, move || {
            let (round, stop) = (counted.fetch_add(1, Ordering::Relaxed), stopping.clone());
            async move {
                assert!(round >= 2, "at the disco");
                stop.cancel();
                Ok(0)
            }
        })
        .await;
        assert_eq!(count.load(Ordering::Relaxed), 3);
        drop(wakes);
    }
}
