//! When messages to many are sent, and what is kept of the month for others.

use std::fmt;

use jiff::{Timestamp, ToSpan, civil::Time, tz::TimeZone};
use serde::{Deserialize, Deserializer, de::Error as _};

/// How messages to many go out.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sending {
    /// Such as `21:00-08:00`: messages in bulk wait until its end, by the recipient's clock.
    #[serde(deserialize_with = "quiet_hours")]
    pub quiet_hours: Option<QuietHours>,
    /// How much of a month's quota is kept for the transactional lane: `500` messages, or `"10%"` of the limit.
    #[serde(deserialize_with = "reserve")]
    pub reserve: Reserve,
}

/// A part of the messages that LINE allows in a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserve {
    Messages(u32),
    Percent(u8),
}

impl Default for Reserve {
    fn default() -> Self {
        Self::Messages(0)
    }
}

impl Reserve {
    /// `10%`; none where it is no such part.
    pub fn parse(text: &str) -> Option<Self> {
        let percent: u8 = text.trim().strip_suffix('%')?.trim_end().parse().ok()?;
        (percent <= 100).then_some(Self::Percent(percent))
    }

    /// How many messages that is where LINE allows so many.
    pub fn of(self, monthly: i64) -> i64 {
        match self {
            Self::Messages(messages) => i64::from(messages),
            Self::Percent(percent) => monthly / 100 * i64::from(percent) + monthly % 100 * i64::from(percent) / 100,
        }
    }
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

    /// Begin and end, such as `21:00` and `08:00`.
    pub fn clocks(&self) -> [String; 2] {
        [self.begin, self.end].map(|time| time.strftime("%H:%M").to_string())
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

impl fmt::Display for QuietHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.clocks().join("-"))
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

fn reserve<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Reserve, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        Number(u32),
        Text(String),
    }
    let wrong = || D::Error::custom("a value, expected a number of messages such as 500, or a part such as \"10%\"");
    match Given::deserialize(deserializer) {
        Ok(Given::Number(messages)) => Ok(Reserve::Messages(messages)),
        Ok(Given::Text(text)) => Reserve::parse(&text).ok_or_else(wrong),
        Err(_) => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_a_number_or_a_part() {
        for (text, reserve, kept) in [
            ("reserve = 500", Reserve::Messages(500), 500),
            ("reserve = \"10%\"", Reserve::Percent(10), 3_005),
            ("reserve = \"100%\"", Reserve::Percent(100), 30_050),
            ("", Reserve::Messages(0), 0),
        ] {
            let sending: Sending = toml::from_str(text).unwrap();
            assert_eq!((sending.reserve, sending.reserve.of(30_050)), (reserve, kept), "{text}");
        }
        for text in ["-1", "1.5", "\"10\"", "\"101%\"", "\"%\"", "\"-1%\"", "true"] {
            assert!(toml::from_str::<Sending>(&format!("reserve = {text}")).is_err(), "{text}");
        }
    }

    #[test]
    fn quiet_hours_end_in_the_morning() {
        let night = QuietHours::parse("21:00-08:00").unwrap();
        let noon = QuietHours::parse("12:00-13:30").unwrap();
        let (late, early) = (QuietHours::parse("01:00-02:30").unwrap(), QuietHours::parse("22:00-01:30").unwrap());
        assert_eq!(QuietHours::parse(" 9:00 - 8:05").unwrap().to_string(), "09:00-08:05");
        for (hours, zone, at, over) in [
            (night, "Asia/Tokyo", "2026-11-20T20:59:59+09:00", "2026-11-20T20:59:59+09:00"),
            (night, "Asia/Tokyo", "2026-11-20T21:00:00+09:00", "2026-11-21T08:00:00+09:00"),
            (night, "Asia/Tokyo", "2026-11-21T03:00:00+09:00", "2026-11-21T08:00:00+09:00"),
            (night, "Asia/Tokyo", "2026-11-21T08:00:00+09:00", "2026-11-21T08:00:00+09:00"),
            (night, "Asia/Bangkok", "2026-11-20T22:30:00+09:00", "2026-11-20T22:30:00+09:00"),
            (night, "America/New_York", "2026-03-08T01:30:00-05:00", "2026-03-08T08:00:00-04:00"),
            (noon, "Asia/Tokyo", "2026-11-20T12:00:00+09:00", "2026-11-20T13:30:00+09:00"),
            (noon, "Asia/Tokyo", "2026-11-20T11:00:00+09:00", "2026-11-20T11:00:00+09:00"),
            // The clock goes from 02:00 to 03:00, and to 01:00: what ends in between ends with it.
            (late, "America/New_York", "2026-03-08T01:45:00-05:00", "2026-03-08T03:30:00-04:00"),
            (late, "America/New_York", "2026-03-08T03:15:00-04:00", "2026-03-08T03:15:00-04:00"),
            (early, "America/New_York", "2026-11-01T01:15:00-04:00", "2026-11-01T01:30:00-04:00"),
            (early, "America/New_York", "2026-11-01T01:15:00-05:00", "2026-11-01T01:15:00-05:00"),
        ] {
            let zone = TimeZone::get(zone).unwrap();
            assert_eq!(hours.over(at.parse().unwrap(), &zone), over.parse().unwrap(), "{at}");
        }
        for text in ["", "21:00", "21-08", "25:00-08:00", "08:00-08:00"] {
            assert_eq!(QuietHours::parse(text), None, "{text}");
        }
    }
}
