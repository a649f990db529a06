//! When messages to many are sent.

use jiff::{Timestamp, ToSpan, civil::Time, tz::TimeZone};
use serde::{Deserialize, Deserializer, de::Error as _};

/// How messages to many go out.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sending {
    /// Such as `21:00-08:00`: messages in bulk wait until its end, by the recipient's clock.
    #[serde(deserialize_with = "quiet_hours")]
    pub quiet_hours: Option<QuietHours>,
}

/// A time of every day, which may go over midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuietHours {
    begin: Time,
    end: Time,
}

impl QuietHours {
    /// `21:00-08:00`; none where it is not such a time.
    pub fn parse(text: &str) -> Option<Self> {
        let clock = |text: &str| Time::strptime("%H:%M", text.trim()).ok();
        let (begin, end) = text.split_once('-')?;
        let (begin, end) = (clock(begin)?, clock(end)?);
        (begin != end).then_some(Self { begin, end })
    }

    /// The first moment from `at` on that is not quiet in this zone.
    pub fn over(&self, at: Timestamp, zone: &TimeZone) -> Timestamp {
        let local = at.to_zoned(zone.clone()).datetime();
        let time = local.time();
        let is_over_midnight = self.begin > self.end;
        let is_quiet = if is_over_midnight {
            time >= self.begin || time < self.end
        } else {
            (self.begin..self.end).contains(&time)
        };
        let ends_tomorrow = is_over_midnight && time >= self.begin;
        let day = if ends_tomorrow { local.date().checked_add(1.day()) } else { Ok(local.date()) };
        let end = day.and_then(|day| day.to_datetime(self.end).to_zoned(zone.clone()));
        match end {
            Ok(end) if is_quiet => end.timestamp().max(at),
            _ => at,
        }
    }
}

fn quiet_hours<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<QuietHours>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || D::Error::custom("a value, expected two times of the day such as \"21:00-08:00\"");
    QuietHours::parse(&text).map(Some).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_hours_end_in_the_morning() {
        let night = QuietHours::parse("21:00-08:00").unwrap();
        let noon = QuietHours::parse("12:00-13:30").unwrap();
        for (hours, zone, at, over) in [
            (night, "Asia/Tokyo", "2026-11-20T20:59:59+09:00", "2026-11-20T20:59:59+09:00"),
            (night, "Asia/Tokyo", "2026-11-20T21:00:00+09:00", "2026-11-21T08:00:00+09:00"),
            (night, "Asia/Tokyo", "2026-11-21T03:00:00+09:00", "2026-11-21T08:00:00+09:00"),
            (night, "Asia/Tokyo", "2026-11-21T08:00:00+09:00", "2026-11-21T08:00:00+09:00"),
            (night, "Asia/Bangkok", "2026-11-20T22:30:00+09:00", "2026-11-20T22:30:00+09:00"),
            (night, "America/New_York", "2026-03-08T01:30:00-05:00", "2026-03-08T08:00:00-04:00"),
            (noon, "Asia/Tokyo", "2026-11-20T12:00:00+09:00", "2026-11-20T13:30:00+09:00"),
            (noon, "Asia/Tokyo", "2026-11-20T11:00:00+09:00", "2026-11-20T11:00:00+09:00"),
        ] {
            let zone = TimeZone::get(zone).unwrap();
            assert_eq!(hours.over(at.parse().unwrap(), &zone), over.parse().unwrap(), "{at}");
        }
        for text in ["", "21:00", "21-08", "25:00-08:00", "08:00-08:00"] {
            assert_eq!(QuietHours::parse(text), None, "{text}");
        }
    }
}
