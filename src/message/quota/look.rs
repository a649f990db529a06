//! LINE is asked for the month's limit and its count, by one node at a time.
//!
//! What is sent while LINE answers may be in its count already: it stays counted here until the next look, so that never
//! more seems left than is. Where LINE does not answer, the last known stands.

use std::time::Duration;

use super::{HOLD, Quota, alarm, find, month};
use crate::{
    app::App,
    channel::{self, Kind},
    db::{Conn, Millis},
    error::Result,
    line::{self, messaging::quota},
};

/// Between two looks where nothing happens.
const RARELY: Duration = Duration::from_secs(3600);
/// While messages are sent, or few are left, or LINE did not answer.
const OFTEN: Duration = HOLD;

/// Looks after the quotas of all channels: a step of the slow routine.
pub async fn look(app: &App) {
    for channel in app.config.channel.keys() {
        let looked = async {
            refresh(app, channel).await?;
            alarm::watch(app, channel).await
        };
        if let Err(error) = looked.await {
            tracing::error!(channel, %error, "the quota is not looked after");
        }
    }
}

/// Asks LINE, if it is time and no other node does.
pub async fn refresh(app: &App, channel: &str) -> Result<()> {
    let now = app.now();
    let mut conn = app.db.conn().await?;
    let known = find(&mut conn, now, channel).await?;
    if !known.is_due(now) {
        return Ok(());
    }
    let Some(spent) = begin(&mut conn, now, channel, known.asked_at).await? else { return Ok(()) };
    drop(conn);
    let (monthly, used) = match ask(app, channel).await {
        Ok(told) => told,
        Err(error) => {
            tracing::warn!(channel, %error, "LINE did not tell the quota; the last known stands");
            return Ok(());
        }
    };
    let is_used_up = monthly.is_some_and(|monthly| monthly <= used);
    let told = Told { month: month(now), monthly, used, spent, is_used_up };
    if keep(&mut *app.db.conn().await?, app.now(), channel, told).await? && !is_used_up {
        app.wake();
    }
    Ok(())
}

/// What LINE told, and what was spent before it was asked.
#[derive(Debug, Clone, Copy)]
struct Told {
    month: i64,
    monthly: Option<i64>,
    used: i64,
    spent: i64,
    is_used_up: bool,
}

impl Quota {
    fn is_due(&self, now: Millis) -> bool {
        // Another node may have read its clock a moment later; further ahead it was wrong.
        let Some(asked_at) = self.asked_at.filter(|asked_at| *asked_at <= now.plus(OFTEN)) else { return true };
        let since = (now.0 - asked_at.0).max(0);
        let is_at_least = |wait: Duration| u128::from(since.unsigned_abs()) >= wait.as_millis();
        let is_unanswered = self.checked_at.is_none_or(|checked_at| checked_at < asked_at);
        let is_low = self.refused_at.is_some() || self.low_since.is_some() || self.left().is_some_and(|left| left <= 0);
        month(asked_at) != month(now)
            || self.refused_at.is_some_and(|refused_at| refused_at > asked_at)
            || is_at_least(RARELY)
            || ((self.spent > 0 || self.open > 0 || is_low || is_unanswered) && is_at_least(OFTEN))
    }
}

async fn ask(app: &App, channel: &str) -> Result<(Option<i64>, i64), line::Error> {
    let kind = Kind::Bot(channel);
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let limit = channel::call(app, kind, |token| async move { app.line.quota(&token).await }).await?;
    let used = channel::call(app, kind, |token| async move { app.line.consumption(&token).await }).await?;
    let monthly = match limit {
        quota::Quota::None => None,
        quota::Quota::Limited(monthly) => Some(number(monthly)),
    };
    Ok((monthly, number(used)))
}

/// Takes the turn; gives what was spent until now. None where another node was quicker.
async fn begin(conn: &mut Conn, now: Millis, channel: &str, asked_at: Option<Millis>) -> Result<Option<i64>> {
    let spent = sqlx::query_scalar(
        "INSERT INTO quotas (channel, month, used, spent, asked_at) VALUES ($1, $2, 0, 0, $3)
         ON CONFLICT (channel) DO UPDATE SET asked_at = excluded.asked_at,
           spent = CASE WHEN quotas.month >= excluded.month THEN quotas.spent ELSE 0 END,
           used = CASE WHEN quotas.month >= excluded.month THEN quotas.used ELSE 0 END,
           refused_at = CASE WHEN quotas.month >= excluded.month THEN quotas.refused_at END,
           held_until = CASE WHEN quotas.month >= excluded.month THEN quotas.held_until END,
           month = CASE WHEN quotas.month >= excluded.month THEN quotas.month ELSE excluded.month END
         WHERE COALESCE(quotas.asked_at, -1) = $4
         RETURNING spent",
    )
    .bind(channel)
    .bind(month(now))
    .bind(now)
    .bind(asked_at.unwrap_or(Millis(-1)))
    .fetch_optional(conn)
    .await?;
    Ok(spent)
}

/// Keeps what LINE told, unless it told it of a month that is over. Where something is left, what was held is tried again.
async fn keep(conn: &mut Conn, now: Millis, channel: &str, told: Told) -> Result<bool> {
    if month(now) != told.month {
        return Ok(false);
    }
    let kept = sqlx::query(
        "UPDATE quotas SET monthly = $1, used = $2, spent = spent - $3, checked_at = $4,
           held_until = CASE WHEN refused_at IS NOT NULL THEN $5 END
         WHERE channel = $6 AND month = $7",
    )
    .bind(told.monthly)
    .bind(told.used)
    .bind(told.spent)
    .bind(now)
    .bind(told.is_used_up.then(|| now.plus(HOLD)))
    .bind(channel)
    .bind(told.month)
    .execute(conn)
    .await?;
    Ok(kept.rows_affected() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_line_is_asked_again() {
        let now = Millis(1_796_000_000_000);
        let ago = |seconds: u64| Some(now.minus(Duration::from_secs(seconds)));
        let asked = |seconds: u64| Quota {
            month: month(now),
            monthly: Some(10),
            asked_at: ago(seconds),
            checked_at: ago(seconds),
            ..Quota::default()
        };
        for (quota, is_due) in [
            (Quota::default(), true),
            (asked(3599), false),
            (asked(3600), true),
            (Quota { spent: 1, ..asked(599) }, false),
            (Quota { spent: 1, ..asked(600) }, true),
            (Quota { open: 1, ..asked(600) }, true),
            (Quota { used: 10, ..asked(600) }, true),
            (Quota { low_since: ago(9000), ..asked(600) }, true),
            (Quota { checked_at: ago(9000), ..asked(600) }, true),
            (Quota { checked_at: None, ..asked(599) }, false),
            (Quota { refused_at: ago(1), ..asked(2) }, true),
            (Quota { refused_at: ago(3), ..asked(2) }, false),
            (Quota { refused_at: ago(9000), ..asked(600) }, true),
            (Quota { asked_at: Some(now.plus(Duration::from_millis(1))), ..asked(1) }, false),
            (Quota { asked_at: Some(now.plus(RARELY)), ..asked(1) }, true),
        ] {
            assert_eq!(quota.is_due(now), is_due, "{quota:?}");
        }
        let new_year = Millis("2026-12-31T15:00:00Z".parse::<jiff::Timestamp>().unwrap().as_millisecond());
        let before = Some(new_year.minus(Duration::from_secs(1)));
        assert!(Quota { asked_at: before, checked_at: before, ..Quota::default() }.is_due(new_year));
    }
}
