//! Jobs and leases (tables `jobs`, `leases`).
//!
//! A job is enqueued in the transaction of the thing that causes it, names ids only, and is safe to run
//! twice. A claimed job is leased by the database's clock; a worker that dies loses the lease and the job
//! runs again. Tries are counted at the claim, so that a job which kills its process is parked as well.

use std::{sync::LazyLock, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    app::App,
    db::{Conn, Db, Locking, Millis, Rows, new_id, with_lock},
    error::Result,
};

/// How long a claim holds.
const LEASE: Duration = Duration::from_secs(60);
/// How long a run may take: it ends before its lease does, so that nothing is done to LINE after the claim.
pub const LIMIT: Duration = Duration::from_secs(50);

/// Work to be done after a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Job {
    /// Takes our permission away at LINE, for an ended link.
    Deauthorize {
        link_id: String,
    },
    /// Revokes a person's tokens at LINE and erases them here.
    RevokeGrant {
        grant_id: String,
    },
    /// Revokes the tokens of an attempt that was never confirmed.
    AbandonAttempt {
        attempt_id: String,
    },
    /// Brings one LINE user's rich menu to what the rules say.
    UserMenu {
        line_user_id: String,
        channel: String,
    },
    /// Makes sure that a channel's rich menus exist at LINE.
    EnsureMenus {
        channel: String,
    },
    SendMail {
        mail_id: String,
    },
    /// Erases what a deleted account's clean-up still needed, once that is over.
    EraseMember {
        member_id: String,
    },
    /// Says something to a person who wrote, by reply or push.
    Answer {
        answer_id: String,
    },
    /// Gets a link token of LINE's for an answer that offers to link.
    OfferLink {
        answer_id: String,
    },
    /// Tells a person that the account link they began did not end.
    ExpireLink {
        account_link_id: String,
    },
    /// Reads a LINE user's profile.
    SyncProfile {
        line_user_id: String,
        channel: String,
    },
    /// Asks LINE whether a person's permission still stands.
    CheckGrant {
        grant_id: String,
    },
    /// Fetches the picture, video, sound or file of a message.
    FetchMedia {
        channel: String,
        message_id: String,
    },
    /// Learns from LINE which official account a channel is.
    LearnBot {
        channel: String,
    },
}

/// Jobs that wait for one kind of server; a slow one holds up its own lane only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    Line,
    Mail,
    /// Somebody waits in a chat, and a reply token lives for a minute.
    Chat,
    /// Somebody waits there too, and LINE is asked several things first.
    Offer,
    /// Reading from LINE: nobody waits.
    Fetch,
}

/// A claimed job. `fence` proves the claim when its end is recorded.
#[derive(Debug)]
pub struct Claimed {
    pub id: String,
    pub job: Job,
    pub attempts: i64,
    fence: i64,
}

/// How a run of a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Not yet: try again, after this long where LINE or the job says so, else by the backoff.
    Retry {
        why: String,
        after: Option<Duration>,
    },
    /// Never by itself: a person must look.
    Park {
        why: String,
    },
}

impl Lane {
    pub const ALL: [Self; 5] = [Self::Line, Self::Mail, Self::Chat, Self::Offer, Self::Fetch];

    fn word(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Mail => "mail",
            Self::Chat => "chat",
            Self::Offer => "offer",
            Self::Fetch => "fetch",
        }
    }
}

impl Outcome {
    pub fn retry(why: &impl ToString) -> Self {
        Self::Retry { why: why.to_string(), after: None }
    }
}

impl Job {
    /// The name stored beside the job, and what it acts on.
    fn kind_and_subject(&self) -> (&'static str, &str) {
        match self {
            Self::Deauthorize { link_id } => ("deauthorize", link_id),
            Self::RevokeGrant { grant_id } => ("revoke_grant", grant_id),
            Self::AbandonAttempt { attempt_id } => ("abandon_attempt", attempt_id),
            Self::UserMenu { line_user_id, .. } => ("user_menu", line_user_id),
            Self::EnsureMenus { channel } => ("ensure_menus", channel),
            Self::SendMail { mail_id } => ("send_mail", mail_id),
            Self::EraseMember { member_id } => ("erase_member", member_id),
            Self::Answer { answer_id } => ("answer", answer_id),
            Self::OfferLink { answer_id } => ("offer_link", answer_id),
            Self::ExpireLink { account_link_id } => ("expire_link", account_link_id),
            Self::SyncProfile { line_user_id, .. } => ("sync_profile", line_user_id),
            Self::CheckGrant { grant_id } => ("check_grant", grant_id),
            Self::FetchMedia { message_id, .. } => ("fetch_media", message_id),
            Self::LearnBot { channel } => ("learn_bot", channel),
        }
    }

    fn lane(&self) -> Lane {
        match self {
            Self::Deauthorize { .. }
            | Self::RevokeGrant { .. }
            | Self::AbandonAttempt { .. }
            | Self::UserMenu { .. }
            | Self::EnsureMenus { .. }
            | Self::EraseMember { .. }
            | Self::ExpireLink { .. }
            | Self::LearnBot { .. } => Lane::Line,
            Self::SendMail { .. } => Lane::Mail,
            Self::Answer { .. } => Lane::Chat,
            Self::OfferLink { .. } => Lane::Offer,
            Self::SyncProfile { .. } | Self::CheckGrant { .. } | Self::FetchMedia { .. } => Lane::Fetch,
        }
    }

    /// Tries after which the job is parked; `None` is never: an unlink is carried out however long LINE is away.
    fn tries(&self) -> Option<i64> {
        match self {
            Self::Deauthorize { .. }
            | Self::RevokeGrant { .. }
            | Self::UserMenu { .. }
            | Self::AbandonAttempt { .. }
            | Self::EraseMember { .. }
            // These end when they are late.
            | Self::SendMail { .. }
            | Self::Answer { .. }
            | Self::OfferLink { .. } => None,
            Self::EnsureMenus { .. }
            | Self::ExpireLink { .. }
            | Self::SyncProfile { .. }
            | Self::CheckGrant { .. }
            | Self::FetchMedia { .. }
            | Self::LearnBot { .. } => Some(20),
        }
    }
}

/// Adds a job that may run from `due_at` on.
pub async fn enqueue(conn: &mut Conn, now: Millis, due_at: Millis, job: &Job) -> Result<()> {
    let (kind, subject) = job.kind_and_subject();
    sqlx::query(
        "INSERT INTO jobs (id, lane, kind, job, subject, due_at, attempts, fence, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, 0, 0, $7)",
    )
    .bind(new_id(now))
    .bind(job.lane().word())
    .bind(kind)
    .bind(serde_json::to_string(job)?)
    .bind(subject)
    .bind(due_at)
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

/// [`enqueue`] for many, each with the time from which it may run.
pub async fn enqueue_many(conn: &mut Conn, db: &Db, now: Millis, jobs: &[(Millis, Job)]) -> Result<()> {
    static INSERT: LazyLock<Rows> = LazyLock::new(|| {
        Rows::new(
            "INSERT INTO jobs (id, lane, kind, job, subject, due_at, created_at, attempts, fence)
             SELECT column1, column2, column3, column4, column5, column6, column7, 0, 0 FROM (VALUES",
            7,
            ") AS v WHERE 1 = 1 ON CONFLICT DO NOTHING",
        )
    });
    let named: Vec<(String, &(Millis, Job))> = jobs.iter().map(|job| (new_id(now), job)).collect();
    for (text, rows) in INSERT.pieces(db, &named) {
        let mut insert = sqlx::query(text);
        for (id, (due_at, job)) in rows {
            let (kind, subject) = job.kind_and_subject();
            insert = insert.bind(id).bind(job.lane().word()).bind(kind).bind(serde_json::to_string(job)?);
            insert = insert.bind(subject).bind(due_at).bind(now);
        }
        insert.execute(&mut *conn).await?;
    }
    Ok(())
}

/// Adds a job unless one of its kind and subject already waits.
pub async fn enqueue_once(conn: &mut Conn, now: Millis, due_at: Millis, job: &Job) -> Result<()> {
    let (kind, subject) = job.kind_and_subject();
    let waiting: Option<String> = sqlx::query_scalar(
        "SELECT id FROM jobs WHERE subject = $1 AND kind = $2 AND ended_at IS NULL AND parked_at IS NULL",
    )
    .bind(subject)
    .bind(kind)
    .fetch_optional(&mut *conn)
    .await?;
    if waiting.is_none() { enqueue(conn, now, due_at, job).await } else { Ok(()) }
}

/// Takes up to `limit` due jobs of a lane.
pub async fn claim(app: &App, lane: Lane, limit: i64) -> Result<Vec<Claimed>> {
    if !is_due(&mut *app.db.conn().await?, app.now(), lane).await? {
        return Ok(Vec::new());
    }
    let mut tx = app.db.begin().await?;
    let leases_now = app.db.now(&mut tx).await?;
    let rows: Vec<(String, String, i64, i64)> = sqlx::query_as(app.db.locking(CLAIM))
        .bind(app.now())
        .bind(leases_now)
        .bind(limit)
        .bind(lane.word())
        .fetch_all(&mut *tx)
        .await?;
    let mut claimed = Vec::new();
    for (id, job, attempts, fence) in rows {
        sqlx::query("UPDATE jobs SET leased_until = $1, attempts = attempts + 1, fence = fence + 1 WHERE id = $2")
            .bind(leases_now.plus(LEASE))
            .bind(&id)
            .execute(&mut *tx)
            .await?;
        match serde_json::from_str(&job) {
            Ok(job) => claimed.push(Claimed { id, job, attempts: attempts + 1, fence: fence + 1 }),
            Err(error) => tracing::error!(id, %error, "a job of a newer musubi is left alone"),
        }
    }
    tx.commit().await?;
    Ok(claimed)
}

/// Whether anything is due, by reading only: most rounds end here, and take the write lock from nobody.
async fn is_due(conn: &mut Conn, now: Millis, lane: Lane) -> Result<bool> {
    let due: Option<String> = sqlx::query_scalar(
        "SELECT id FROM jobs WHERE lane = $1 AND ended_at IS NULL AND parked_at IS NULL AND due_at <= $2 LIMIT 1",
    )
    .bind(lane.word())
    .bind(now)
    .fetch_optional(conn)
    .await?;
    Ok(due.is_some())
}

const CLAIM: Locking = with_lock!(
    "SELECT id, job, attempts, fence FROM jobs
     WHERE ended_at IS NULL AND parked_at IS NULL AND due_at <= $1
       AND (leased_until IS NULL OR leased_until < $2) AND lane = $4
     ORDER BY due_at LIMIT $3",
    "FOR UPDATE SKIP LOCKED"
);

/// Records how a claimed job ended; does nothing where the claim was lost meanwhile.
pub async fn finish(app: &App, claimed: &Claimed, outcome: &Outcome, jitter: f64) -> Result<()> {
    let now = app.now();
    let (ended_at, parked_at, due_at, note) = match outcome {
        Outcome::Done => (Some(now), None, now, None),
        Outcome::Park { why } => (None, Some(now), now, Some(why)),
        Outcome::Retry { why, .. } if claimed.job.tries().is_some_and(|tries| claimed.attempts >= tries) => {
            (None, Some(now), now, Some(why))
        }
        Outcome::Retry { why, after } => {
            let wait = after.unwrap_or_else(|| backoff(claimed.attempts, jitter));
            (None, None, now.plus(wait), Some(why))
        }
    };
    let mut conn = app.db.conn().await?;
    sqlx::query(
        "UPDATE jobs SET ended_at = $1, parked_at = $2, due_at = $3, note = $4, leased_until = NULL
         WHERE id = $5 AND fence = $6 AND ended_at IS NULL",
    )
    .bind(ended_at)
    .bind(parked_at)
    .bind(due_at)
    .bind(note)
    .bind(&claimed.id)
    .bind(claimed.fence)
    .execute(&mut *conn)
    .await?;
    if parked_at.is_some() {
        tracing::error!(job = ?claimed.job, why = note, "job parked: a person must look");
    }
    Ok(())
}

/// What became of the waiting jobs of one kind and subject when they were no longer wanted.
#[derive(Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// None was running: whatever waited is cancelled.
    All,
    /// One is being carried out at this moment.
    InFlight,
}

/// Cancels the waiting jobs of `job`'s kind and subject, unless one is in flight.
pub async fn cancel(conn: &mut Conn, db: &Db, now: Millis, job: &Job) -> Result<Cancelled> {
    let (kind, subject) = job.kind_and_subject();
    let leases_now = db.now(conn).await?;
    sqlx::query(
        "UPDATE jobs SET ended_at = $1, note = 'cancelled'
         WHERE subject = $2 AND kind = $3 AND ended_at IS NULL AND (leased_until IS NULL OR leased_until < $4)",
    )
    .bind(now)
    .bind(subject)
    .bind(kind)
    .bind(leases_now)
    .execute(&mut *conn)
    .await?;
    let running: Option<String> =
        sqlx::query_scalar("SELECT id FROM jobs WHERE subject = $1 AND kind = $2 AND ended_at IS NULL")
            .bind(subject)
            .bind(kind)
            .fetch_optional(conn)
            .await?;
    Ok(if running.is_some() { Cancelled::InFlight } else { Cancelled::All })
}

/// Takes or renews the lease `name` for `holder`; false while another holds it.
pub async fn lease(app: &App, name: &str, holder: &str, ttl: Duration) -> Result<bool> {
    lease_on(&mut *app.db.conn().await?, &app.db, name, holder, ttl).await
}

/// [`lease`] on the caller's connection, as in a transaction that does the first of the work.
pub async fn lease_on(conn: &mut Conn, db: &Db, name: &str, holder: &str, ttl: Duration) -> Result<bool> {
    let now = db.now(conn).await?;
    let taken = sqlx::query(
        "INSERT INTO leases (name, holder, expires_at) VALUES ($1, $2, $3)
         ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
         WHERE leases.holder = excluded.holder OR leases.expires_at < $4",
    )
    .bind(name)
    .bind(holder)
    .bind(now.plus(ttl))
    .bind(now)
    .execute(conn)
    .await?;
    Ok(taken.rows_affected() == 1)
}

/// Gives a lease back, so that another node need not wait for its end.
pub async fn release(app: &App, name: &str, holder: &str) -> Result<()> {
    let mut conn = app.db.conn().await?;
    sqlx::query("DELETE FROM leases WHERE name = $1 AND holder = $2")
        .bind(name)
        .bind(holder)
        .execute(&mut *conn)
        .await?;
    Ok(())
}

/// Gives back all leases of a holder that stops.
pub async fn release_all(app: &App, holder: &str) -> Result<()> {
    let mut conn = app.db.conn().await?;
    sqlx::query("DELETE FROM leases WHERE holder = $1").bind(holder).execute(&mut *conn).await?;
    Ok(())
}

/// Deletes jobs that ended a month ago, some at a time.
pub async fn prune(conn: &mut Conn, now: Millis) -> Result<u64> {
    let deleted = sqlx::query("DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE ended_at < $1 LIMIT 500)")
        .bind(now.minus(Duration::from_secs(30 * 24 * 3600)))
        .execute(conn)
        .await?;
    Ok(deleted.rows_affected())
}

/// Full jitter over an exponential: 1 s at first, 10 min at most. `jitter` is in 0..1.
pub fn backoff(attempts: i64, jitter: f64) -> Duration {
    let exponent = u32::try_from(attempts.clamp(1, 11) - 1).unwrap_or(0);
    let ceiling = Duration::from_secs(2_u64.pow(exponent)).min(Duration::from_secs(600));
    ceiling.mul_f64(jitter.clamp(0.05, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_to_ten_minutes() {
        for (attempts, seconds) in [(1, 1), (2, 2), (4, 8), (10, 512), (11, 600), (500, 600)] {
            assert_eq!(backoff(attempts, 1.0), Duration::from_secs(seconds), "attempt {attempts}");
        }
        assert!(backoff(3, 0.0) > Duration::ZERO, "never a hot loop");
    }
}
