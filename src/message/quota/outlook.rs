//! Whether a message to many fits into the month, and how long the rest lasts.

use jiff::{Timestamp, tz::TimeZone};

use super::{bounds, find, month, refresh};
use crate::{
    app::App,
    db::{Conn, Millis},
    error::Result,
    message::{
        order::{Lane, Mistake, Order},
        preview,
    },
};

/// What a channel may still send this month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlook {
    now: Millis,
    limit: Limit,
    /// Roughly.
    used: i64,
    /// Kept for the transactional lane.
    reserve: i64,
    /// Recipients that wait to be sent to this month: in the transactional lane, and in bulk.
    waiting: (i64, i64),
    told_at: Option<Millis>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    /// LINE never told.
    Unknown,
    None,
    /// How many, and when LINE told.
    Monthly(i64, Millis),
}

/// How a month goes on at the pace it had so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forecast {
    /// So many are left at its end.
    Left(i64),
    /// It is used up at this time.
    Over(Millis),
}

/// Asks LINE if it is time, and looks how the month stands.
pub async fn outlook(app: &App, channel: &str) -> Result<Outlook> {
    if let Err(error) = refresh(app, channel).await {
        tracing::warn!(channel, %error, "the quota is taken as it was known last");
    }
    let now = app.now();
    let mut conn = app.db.conn().await?;
    let quota = find(&mut conn, now, channel).await?;
    let limit = match (quota.monthly, quota.checked_at) {
        (_, None) => Limit::Unknown,
        (None, Some(_)) => Limit::None,
        (Some(monthly), Some(told_at)) => Limit::Monthly(monthly, told_at),
    };
    let before = bounds(now).1;
    let (added, others) =
        (count_waiting(&mut conn, channel, before).await?, count_to_add(&mut conn, app, channel, before).await?);
    Ok(Outlook {
        now,
        limit,
        used: quota.used + quota.spent + quota.open,
        reserve: quota.reserve(app),
        waiting: (added.0 + others.0, added.1 + others.1),
        told_at: quota.checked_at,
    })
}

/// Why an order to many is not accepted: more than may be sent of this month. Its audience is counted only where that is
/// in doubt.
pub(in crate::message) async fn misfit(app: &App, order: &Order) -> Result<Option<Mistake>> {
    if order.beyond_quota || is_later(app, order) {
        return Ok(None);
    }
    let outlook = outlook(app, &order.channel).await?;
    let Some(free) = outlook.free(order.lane()) else { return Ok(None) };
    if preview::size(&mut *app.db.conn().await?, app, &order.channel, &order.to).await? <= free {
        return Ok(None);
    }
    let recipients = preview::count(app, order).await?;
    if recipients <= free {
        return Ok(None);
    }
    let what = outlook.describe(&app.zone);
    let text = format!(
        "{recipients} recipients are more than the {free} that may be sent this month ({what}): raise the plan at LINE, \
         choose fewer, or order it with --beyond-quota: the rest waits for a larger plan or the next month"
    );
    Ok(Some(Mistake::new("to", text)))
}

/// Whether an order is for a later month.
fn is_later(app: &App, order: &Order) -> bool {
    order.send_at.is_some_and(|send_at| month(send_at) > month(app.now()))
}

/// How a channel's month stands, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// None where there is none, or LINE never told.
    pub limit: Option<i64>,
    /// Roughly.
    pub used: i64,
    pub reserve: i64,
    /// Recipients that wait for this month: in the transactional lane, and in bulk.
    pub waiting: (i64, i64),
    /// None where LINE never told.
    pub told_at: Option<Millis>,
}

impl Outlook {
    pub fn figures(&self) -> Figures {
        let limit = if let Limit::Monthly(monthly, _) = self.limit { Some(monthly) } else { None };
        Figures { limit, used: self.used, reserve: self.reserve, waiting: self.waiting, told_at: self.told_at }
    }

    fn left(&self) -> Option<i64> {
        match self.limit {
            Limit::Unknown | Limit::None => None,
            Limit::Monthly(monthly, _) => Some(monthly - self.used),
        }
    }

    /// How many more a message in this lane may have; none where nothing limits it.
    fn free(&self, lane: Lane) -> Option<i64> {
        let (urgent, bulk) = self.waiting;
        let taken = match lane {
            Lane::Transactional => urgent,
            Lane::Bulk => urgent + bulk + self.reserve,
        };
        Some((self.left()? - taken).max(0))
    }

    /// The month, whether a message to so many fits, and how the month goes on after it, as lines for people.
    pub fn lines(&self, order: &Order, recipients: i64, zone: &TimeZone) -> Vec<String> {
        let mut lines = vec![format!("quota: {}", self.describe(zone))];
        let is_later = order.send_at.is_some_and(|send_at| month(send_at) > month(self.now));
        if is_later {
            lines.push("it is sent in a later month, of which LINE tells nothing yet".to_owned());
        } else if let Some(free) = self.free(order.lane()) {
            lines.push(if recipients <= free {
                format!("it fits: {recipients} recipients of {free} that may be sent")
            } else {
                let ends = if order.beyond_quota { "the rest will wait" } else { "it will not be accepted" };
                format!("it does not fit: {recipients} recipients, {free} may be sent; {ends}")
            });
        }
        lines.extend(self.forecast_line(if is_later { 0 } else { recipients }, zone));
        lines
    }

    /// How the month goes on after everything that waits, and so many more.
    pub fn forecast_line(&self, recipients: i64, zone: &TimeZone) -> Option<String> {
        let left = self.left()? - self.waiting.0 - self.waiting.1 - recipients;
        let end = match forecast(self.used, left, self.now) {
            Forecast::Left(left) => format!("about {left} are left at the month's end"),
            Forecast::Over(_) if left <= 0 => "nothing is left after it".to_owned(),
            Forecast::Over(at) => format!("the month's messages last until {}", moment(at, zone)),
        };
        Some(format!("forecast, at the pace of the month so far: {end}"))
    }

    pub fn describe(&self, zone: &TimeZone) -> String {
        let (urgent, bulk) = self.waiting;
        match self.limit {
            Limit::Unknown => "LINE has not told it yet".to_owned(),
            Limit::None => format!("without limit; about {} sent this month", self.used),
            Limit::Monthly(monthly, told_at) => format!(
                "about {} of this month's {monthly} messages are left, by LINE's count of {} and ours since; {} are kept \
                 for the transactional lane, {} wait already",
                (monthly - self.used).max(0),
                moment(told_at, zone),
                self.reserve,
                urgent + bulk
            ),
        }
    }
}

fn forecast(used: i64, left: i64, now: Millis) -> Forecast {
    if left <= 0 {
        return Forecast::Over(now);
    }
    let (begin, end) = bounds(now);
    let (passed, rest) = (i128::from((now.0 - begin.0).max(1)), i128::from((end.0 - now.0).max(0)));
    let more = i128::from(used) * rest / passed;
    if more <= i128::from(left) {
        return Forecast::Left(left - i64::try_from(more).unwrap_or(left));
    }
    let lasts = i128::from(left) * passed / i128::from(used.max(1));
    Forecast::Over(now.plus_signed(i64::try_from(lasts).unwrap_or(0)))
}

fn moment(at: Millis, zone: &TimeZone) -> String {
    let at = Timestamp::from_millisecond(at.0).unwrap_or_default().to_zoned(zone.clone());
    at.strftime("%F %H:%M").to_string()
}

/// Recipients that wait for a time before this, by lane.
async fn count_waiting(conn: &mut Conn, channel: &str, before: Millis) -> Result<(i64, i64)> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT lane, CAST(COUNT(*) AS BIGINT) FROM deliveries
         WHERE channel = $1 AND state = 'waiting' AND lane IN ('transactional', 'bulk') AND due_at < $2 GROUP BY lane",
    )
    .bind(channel)
    .bind(before)
    .fetch_all(conn)
    .await?;
    let of = |lane: Lane| rows.iter().find(|(word, _)| word == lane.word()).map_or(0, |(_, count)| *count);
    Ok((of(Lane::Transactional), of(Lane::Bulk)))
}

/// Recipients whom messages for a time before this still lack, by lane: those who will be left out too.
async fn count_to_add(conn: &mut Conn, app: &App, channel: &str, before: Millis) -> Result<(i64, i64)> {
    let rows: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT m.lane, m.audience, CAST(m.accepted + COALESCE((SELECT SUM(x.recipients) FROM message_exclusions x
           WHERE x.message_id = m.id), 0) AS BIGINT)
         FROM messages m
         WHERE m.channel = $1 AND m.expanded_at IS NULL AND m.cancelled_at IS NULL AND m.audience IS NOT NULL
           AND COALESCE(m.send_at, 0) < $2",
    )
    .bind(channel)
    .bind(before)
    .fetch_all(&mut *conn)
    .await?;
    let (mut urgent, mut bulk) = (0, 0);
    for (lane, audience, seen) in rows {
        let size = preview::size(conn, app, channel, &serde_json::from_str(&audience)?).await?;
        *(if lane == Lane::Bulk.word() { &mut bulk } else { &mut urgent }) += (size - seen).max(0);
    }
    Ok((urgent, bulk))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Millis {
        Millis(text.parse::<Timestamp>().unwrap().as_millisecond())
    }

    #[test]
    fn how_a_month_goes_on() {
        // November has 30 days; at its eleventh day's begin a third is over.
        let now = at("2026-11-11T00:00:00+09:00");
        for (used, left, expected) in [
            (0, 100, Forecast::Left(100)),
            (100, 300, Forecast::Left(100)),
            (100, 200, Forecast::Left(0)),
            (100, 50, Forecast::Over(at("2026-11-16T00:00:00+09:00"))),
            (1000, 100, Forecast::Over(at("2026-11-12T00:00:00+09:00"))),
            (100, 0, Forecast::Over(now)),
            (100, -5, Forecast::Over(now)),
        ] {
            assert_eq!(forecast(used, left, now), expected, "{used} {left}");
        }
        let begin = at("2026-11-01T00:00:00+09:00");
        assert_eq!(forecast(0, 10, begin), Forecast::Left(10));
        assert_eq!(forecast(i64::MAX, 10, begin), Forecast::Over(begin), "nothing overflows");
    }

    #[test]
    fn what_a_message_may_have() {
        let outlook = Outlook {
            now: at("2026-11-11T00:00:00Z"),
            limit: Limit::Monthly(1000, Millis(0)),
            used: 600,
            reserve: 100,
            waiting: (20, 50),
            told_at: None,
        };
        assert_eq!((outlook.free(Lane::Transactional), outlook.free(Lane::Bulk)), (Some(380), Some(230)));
        let full = Outlook { used: 1100, ..outlook.clone() };
        assert_eq!((full.free(Lane::Transactional), full.free(Lane::Bulk)), (Some(0), Some(0)));
        for limit in [Limit::Unknown, Limit::None] {
            let outlook = Outlook { limit, ..outlook.clone() };
            assert_eq!((outlook.free(Lane::Bulk), outlook.forecast_line(10, &TimeZone::UTC)), (None, None));
        }
    }
}
