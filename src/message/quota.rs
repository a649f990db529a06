//! A channel's quota of the month (table `quotas`): what LINE told of it, what was spent since, and so what may be claimed.
//!
//! - LINE counts people, not message objects; replies are free. A recipient counts here in the transaction in which its
//!   request ends as sent: LINE's retry key makes that once.
//! - LINE's own count is approximate, and is about people reached: who blocked the account costs nothing. So what is left
//!   is known roughly, and LINE has the last word.
//! - Messages in bulk are claimed while more than the reserve is left; what is urgent goes on until LINE refuses. Then
//!   both wait for a while, and one recipient is tried first.
//! - `look`: LINE is asked; `outlook`: what that means for a message to many; `alarm`: told once where it runs out.
//!
//! Months are Japan's.

mod alarm;
mod look;
mod outlook;

use std::time::Duration;

use jiff::{Timestamp, civil::Date, tz};

pub use self::{
    alarm::state,
    look::look,
    outlook::{Figures, Outlook, outlook},
};
pub(super) use self::{look::refresh, outlook::misfit};
use super::order::Lane;
use crate::{
    app::App,
    db::{Conn, Millis},
    error::Result,
};

/// How long nothing is tried after LINE refused for the month's limit: reserved messages may become free.
pub(super) const HOLD: Duration = Duration::from_secs(600);

/// What is known of a channel's month.
#[derive(Debug, Clone, Default, sqlx::FromRow)]
struct Quota {
    month: i64,
    monthly: Option<i64>,
    used: i64,
    spent: i64,
    asked_at: Option<Millis>,
    checked_at: Option<Millis>,
    refused_at: Option<Millis>,
    held_until: Option<Millis>,
    low_since: Option<Millis>,
    told_at: Option<Millis>,
    /// Recipients of requests that LINE may have taken; looked up where there is a limit.
    open: i64,
}

/// How many recipients may be claimed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowed {
    pub all: usize,
    /// Of these in bulk.
    pub bulk: usize,
}

/// How requests ended.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ends {
    /// Recipients of those that LINE took.
    pub sent: i64,
    /// Whether LINE refused one for the month's limit.
    pub is_refused: bool,
}

impl Quota {
    /// As it stands now: with a new month all is there again.
    fn at(self, now: Millis) -> Self {
        if self.month >= month(now) {
            return self;
        }
        Self { month: month(now), used: 0, spent: 0, refused_at: None, held_until: None, ..self }
    }

    /// What is left for new requests; none where there is no limit, or it was not told.
    fn left(&self) -> Option<i64> {
        Some(self.monthly? - self.used - self.spent - self.open)
    }

    /// What bulk leaves of the month.
    fn reserve(&self, app: &App) -> i64 {
        self.monthly.map_or(0, |monthly| app.config.sending.reserve.of(monthly))
    }

    fn is_held(&self, now: Millis) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }

    fn allowed(&self, now: Millis, app: &App) -> Allowed {
        let all = match self.refused_at {
            _ if self.is_held(now) => 0,
            Some(_) => 1,
            None => usize::MAX,
        };
        let bulk = self.left().map_or(i64::MAX, |left| left - self.reserve(app));
        Allowed { all, bulk: usize::try_from(bulk.max(0)).unwrap_or(usize::MAX).min(all) }
    }
}

/// What may be claimed in a channel, as far as the month goes.
pub(super) async fn allowed(conn: &mut Conn, app: &App, channel: &str) -> Result<Allowed> {
    Ok(find(conn, app.now(), channel).await?.allowed(app.now(), app))
}

/// Whether the quota holds all that is due in a channel.
pub(super) async fn holds_all(conn: &mut Conn, app: &App, channel: &str) -> Result<bool> {
    let allowed = allowed(conn, app, channel).await?;
    Ok(allowed.all == 0 || (allowed.bulk == 0 && !is_urgent(conn, channel, app.now()).await?))
}

/// Why what waits in a lane is not sent, in words.
pub async fn why_held(app: &App, channel: &str, lane: Lane) -> Result<Option<String>> {
    let (now, quota) = (app.now(), find(&mut *app.db.conn().await?, app.now(), channel).await?);
    let allowed = quota.allowed(now, app);
    if quota.refused_at.is_some() {
        return Ok(Some(
            "LINE refuses more of this month: its limit is reached; it is tried again by itself".to_owned(),
        ));
    }
    let Some((left, monthly)) = quota.left().zip(quota.monthly).filter(|_| lane == Lane::Bulk && allowed.bulk == 0)
    else {
        return Ok(None);
    };
    Ok(Some(format!(
        "{} of this month's {monthly} messages are left, of which {} are kept for the transactional lane: the rest waits \
         for a larger plan or the next month",
        left.max(0),
        quota.reserve(app)
    )))
}

/// Counts how requests ended, in the transaction that writes it down. What LINE takes after it refused is what was on its
/// way already; after the wait it is a sign that there is quota again.
pub(super) async fn note(conn: &mut Conn, now: Millis, channel: &str, ends: Ends) -> Result<()> {
    if ends.sent == 0 && !ends.is_refused {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO quotas (channel, month, used, spent, refused_at, held_until) VALUES ($1, $2, 0, $3, $4, $5)
         ON CONFLICT (channel) DO UPDATE SET
           spent = CASE WHEN quotas.month >= excluded.month THEN quotas.spent ELSE 0 END + excluded.spent,
           used = CASE WHEN quotas.month >= excluded.month THEN quotas.used ELSE 0 END,
           month = CASE WHEN quotas.month >= excluded.month THEN quotas.month ELSE excluded.month END,
           refused_at = CASE WHEN quotas.month < excluded.month THEN excluded.refused_at
             WHEN excluded.refused_at IS NOT NULL THEN COALESCE(quotas.refused_at, excluded.refused_at)
             WHEN quotas.held_until > $6 THEN quotas.refused_at END,
           held_until = CASE WHEN excluded.held_until IS NOT NULL OR quotas.month < excluded.month
             THEN excluded.held_until WHEN quotas.held_until > $6 THEN quotas.held_until END",
    )
    .bind(channel)
    .bind(month(now))
    .bind(ends.sent)
    .bind(ends.is_refused.then_some(now))
    .bind(ends.is_refused.then(|| now.plus(HOLD)))
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

/// Japan is nine hours ahead, all year.
fn in_japan(at: Millis) -> Date {
    let at = Timestamp::from_millisecond(at.0).unwrap_or_default();
    at.to_zoned(tz::offset(9).to_time_zone()).date()
}

/// Such as 202611.
fn month(at: Millis) -> i64 {
    let date = in_japan(at);
    i64::from(date.year()) * 100 + i64::from(date.month())
}

/// When this month began, and when it will be over.
fn bounds(now: Millis) -> (Millis, Millis) {
    let date = in_japan(now);
    let begin =
        |date: Date| date.to_zoned(tz::offset(9).to_time_zone()).map(|at| Millis(at.timestamp().as_millisecond()));
    let next = date.last_of_month().tomorrow();
    (begin(date.first_of_month()).unwrap_or(now), next.and_then(begin).unwrap_or(now))
}

async fn find(conn: &mut Conn, now: Millis, channel: &str) -> Result<Quota> {
    let found: Option<Quota> = sqlx::query_as(
        "SELECT month, monthly, used, spent, asked_at, checked_at, refused_at, held_until, low_since, told_at,
           CASE WHEN monthly IS NULL THEN 0 ELSE (SELECT CAST(COALESCE(SUM(r.recipients), 0) AS BIGINT)
             FROM requests r WHERE r.channel = quotas.channel AND r.state = 'open') END AS open
         FROM quotas WHERE channel = $1",
    )
    .bind(channel)
    .fetch_optional(conn)
    .await?;
    Ok(found.unwrap_or_default().at(now))
}

/// Whether anything is due besides what waits in bulk.
async fn is_urgent(conn: &mut Conn, channel: &str, now: Millis) -> Result<bool> {
    let found: Option<String> = sqlx::query_scalar(
        "SELECT id FROM (SELECT id FROM requests WHERE channel = $1 AND state = 'open' AND next_attempt_at <= $2
           LIMIT 1) r
         UNION ALL
         SELECT message_id FROM (SELECT message_id FROM deliveries WHERE channel = $1 AND state = 'waiting'
           AND lane = 'transactional' AND due_at <= $2 LIMIT 1) d",
    )
    .bind(channel)
    .bind(now)
    .fetch_optional(conn)
    .await?;
    Ok(found.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_japans() {
        let at = |text: &str| Millis(text.parse::<Timestamp>().unwrap().as_millisecond());
        for (now, name, begin, end) in [
            ("2026-11-30T14:59:59Z", 202_611, "2026-10-31T15:00:00Z", "2026-11-30T15:00:00Z"),
            ("2026-11-30T15:00:00Z", 202_612, "2026-11-30T15:00:00Z", "2026-12-31T15:00:00Z"),
            ("2026-12-31T15:00:00Z", 202_701, "2026-12-31T15:00:00Z", "2027-01-31T15:00:00Z"),
            ("2028-02-29T00:00:00Z", 202_802, "2028-01-31T15:00:00Z", "2028-02-29T15:00:00Z"),
        ] {
            assert_eq!((month(at(now)), bounds(at(now))), (name, (at(begin), at(end))), "{now}");
        }
    }

    #[test]
    fn a_new_month_has_everything_again() {
        let now = Millis(1_796_000_000_000);
        let full = Quota {
            month: month(now),
            monthly: Some(1000),
            used: 700,
            spent: 300,
            refused_at: Some(now),
            held_until: Some(now.plus(HOLD)),
            ..Quota::default()
        };
        let same = full.clone().at(now);
        assert_eq!((same.left(), same.is_held(now)), (Some(0), true));
        let next = full.clone().at(now.plus(Duration::from_secs(31 * 24 * 3600)));
        assert_eq!((next.left(), next.is_held(now)), (Some(1000), false));
        let back = full.at(now.plus_signed(-31 * 24 * 3_600_000));
        assert_eq!(back.left(), Some(0), "a clock that goes back brings nothing");
    }
}
