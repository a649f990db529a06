//! A month that runs out is told once, and its end once: whatever node looks, and however often.

use std::time::Duration;

use super::{Quota, find};
use crate::{
    app::App,
    db::{Conn, Millis},
    error::Result,
};

/// What is used up for so long is told; LINE's reserved messages may become free before.
const PATIENCE: Duration = Duration::from_secs(3600);

/// What is short of, as messages left and the month's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shortage {
    /// No more than the reserve is left: messages in bulk wait.
    Reserve(i64, i64),
    /// Nothing is left.
    UsedUp,
    /// LINE takes no more, whatever its count says.
    Refused,
}

/// A channel's month, for whoever looks after the installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// None: there is no limit, or LINE has not told it.
    pub monthly: Option<i64>,
    pub left: Option<i64>,
    /// What is short, in words.
    pub shortage: Option<String>,
    /// Whether that was told as an alarm.
    pub is_told: bool,
}

/// How a channel's month stands, as far as it is known.
pub async fn state(app: &App, channel: &str) -> Result<State> {
    let quota = find(&mut *app.db.conn().await?, app.now(), channel).await?;
    let shortage = quota.shortage(quota.reserve(app));
    Ok(State {
        monthly: quota.monthly,
        left: quota.left().map(|left| left.max(0)),
        is_told: shortage.is_some() && quota.told_at.is_some(),
        shortage: shortage.map(Shortage::words),
    })
}

impl Shortage {
    fn words(self) -> String {
        match self {
            Self::Reserve(left, monthly) => format!(
                "{left} of {monthly} messages of this month are left, no more than is kept for the transactional lane: \
                 messages in bulk wait"
            ),
            Self::UsedUp => "this month's messages are used up: messages in bulk wait".to_owned(),
            Self::Refused => {
                "LINE refuses more messages of this month: everything waits, and is tried again by itself".to_owned()
            }
        }
    }
}

impl Quota {
    /// What was short is so until a hundredth of the month is there: LINE's count goes up and down a little.
    fn shortage(&self, reserve: i64) -> Option<Shortage> {
        if self.refused_at.is_some() {
            return Some(Shortage::Refused);
        }
        let (left, monthly) = self.left().zip(self.monthly)?;
        let margin = if self.low_since.is_some() { monthly / 100 } else { 0 };
        if left <= 0 || (reserve == 0 && left <= margin) {
            Some(Shortage::UsedUp)
        } else if left <= reserve + margin && reserve > 0 {
            Some(Shortage::Reserve(left, monthly))
        } else {
            None
        }
    }
}

/// Tells what is short, or that it no longer is.
pub(super) async fn watch(app: &App, channel: &str) -> Result<()> {
    let now = app.now();
    let mut conn = app.db.conn().await?;
    let quota = find(&mut conn, now, channel).await?;
    let reserve = quota.reserve(app);
    match quota.shortage(reserve) {
        Some(shortage) if quota.told_at.is_none() => {
            // The reserve was set to be told in time.
            let is_patient = reserve == 0 || shortage == Shortage::Refused;
            let since = if is_patient { now.minus(PATIENCE) } else { now };
            set_low(&mut conn, now, channel).await?;
            if set_told(&mut conn, now, channel, since).await? {
                let why = shortage.words();
                tracing::error!(channel, why, "the quota runs out: raise the plan at LINE; see `musubi doctor`");
            }
        }
        Some(_) => {}
        None if quota.low_since.is_some() => {
            let is_ours = clear(&mut conn, channel, quota.told_at).await?;
            if is_ours && quota.told_at.is_some() {
                tracing::info!(channel, left = quota.left(), "there is quota again");
            }
        }
        None => {}
    }
    Ok(())
}

async fn set_low(conn: &mut Conn, now: Millis, channel: &str) -> Result<()> {
    sqlx::query("UPDATE quotas SET low_since = $1 WHERE channel = $2 AND low_since IS NULL")
        .bind(now)
        .bind(channel)
        .execute(conn)
        .await?;
    Ok(())
}

/// True for the one who tells it.
async fn set_told(conn: &mut Conn, now: Millis, channel: &str, since: Millis) -> Result<bool> {
    let told = sqlx::query("UPDATE quotas SET told_at = $1 WHERE channel = $2 AND told_at IS NULL AND low_since <= $3")
        .bind(now)
        .bind(channel)
        .bind(since)
        .execute(conn)
        .await?;
    Ok(told.rows_affected() == 1)
}

/// True for the one who ended it.
async fn clear(conn: &mut Conn, channel: &str, told_at: Option<Millis>) -> Result<bool> {
    let cleared = sqlx::query(
        "UPDATE quotas SET low_since = NULL, told_at = NULL
         WHERE channel = $1 AND low_since IS NOT NULL AND COALESCE(told_at, -1) = $2",
    )
    .bind(channel)
    .bind(told_at.unwrap_or(Millis(-1)))
    .execute(conn)
    .await?;
    Ok(cleared.rows_affected() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short() {
        let quota = |used: i64| Quota { monthly: Some(1000), used, ..Quota::default() };
        let low = |used: i64| Quota { low_since: Some(Millis(1)), ..quota(used) };
        for (quota, reserve, shortage) in [
            (Quota::default(), 100, None),
            (quota(899), 100, None),
            (quota(900), 100, Some(Shortage::Reserve(100, 1000))),
            (Quota { spent: 50, open: 50, ..quota(800) }, 100, Some(Shortage::Reserve(100, 1000))),
            (quota(999), 0, None),
            (quota(1000), 0, Some(Shortage::UsedUp)),
            (quota(1000), 100, Some(Shortage::UsedUp)),
            // What was short once, and a hundredth more.
            (low(890), 100, Some(Shortage::Reserve(110, 1000))),
            (low(889), 100, None),
            (low(990), 0, Some(Shortage::UsedUp)),
            (low(989), 0, None),
            (Quota { refused_at: Some(Millis(1)), ..quota(0) }, 0, Some(Shortage::Refused)),
            (Quota { refused_at: Some(Millis(1)), ..Quota::default() }, 0, Some(Shortage::Refused)),
        ] {
            assert_eq!(quota.shortage(reserve), shortage, "{quota:?} {reserve}");
        }
    }
}
