//! The time in which a rule holds: from a moment on, until another, and at hours of the day, in the company's zone.
//!
//! All are compared as moments, so that a clock that is put forward or back opens and closes nothing twice.

use jiff::{
    Timestamp, ToSpan,
    civil::{Date, DateTime, Time},
    tz::TimeZone,
};

use super::Rule;
use crate::db::Millis;

/// A rule's window, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in super::super) struct Window {
    from: Option<DateTime>,
    until: Option<DateTime>,
    hours: Option<(Time, Time)>,
}

impl Window {
    pub fn read(rule: &Rule) -> Result<Self, String> {
        let from = rule.from.as_deref().map(moment).transpose()?;
        let until = rule.until.as_deref().map(moment).transpose()?;
        let hours = rule.hours.as_deref().map(hours).transpose()?;
        if from.zip(until).is_some_and(|(from, until)| from >= until) {
            return Err("until must be later than from".to_owned());
        }
        Ok(Self { from, until, hours })
    }

    pub fn is_open(&self, now: Millis, zone: &TimeZone) -> bool {
        let is_in_hours = || {
            self.hours.is_none_or(|hours| {
                days(now, zone, -1..=0)
                    .any(|day| span(day, hours, zone).is_some_and(|(start, end)| start <= now && now < end))
            })
        };
        self.from.is_none_or(|from| at(from, zone).is_some_and(|from| from <= now))
            && self.until.is_none_or(|until| at(until, zone).is_some_and(|until| now < until))
            && is_in_hours()
    }

    /// When it opens or closes next.
    pub fn next_boundary(&self, now: Millis, zone: &TimeZone) -> Option<Millis> {
        let from = self.from.and_then(|from| at(from, zone));
        let until = self.until.and_then(|until| at(until, zone));
        let of_day = |base: Millis| {
            let spans = days(base, zone, -1..=2).filter_map(|day| span(day, self.hours?, zone));
            spans.flat_map(|(start, end)| [start, end]).collect::<Vec<_>>()
        };
        let candidates = of_day(now).into_iter().chain(from.into_iter().flat_map(of_day)).chain(from).chain(until);
        let changes = |moment: &Millis| self.is_open(*moment, zone) != self.is_open(moment.plus_signed(-1), zone);
        candidates.filter(|moment| *moment > now).filter(changes).min()
    }
}

fn at(moment: DateTime, zone: &TimeZone) -> Option<Millis> {
    let zoned = moment.to_zoned(zone.clone()).ok()?;
    Some(Millis(zoned.timestamp().as_millisecond()))
}

/// The days around a moment.
fn days(base: Millis, zone: &TimeZone, around: std::ops::RangeInclusive<i64>) -> impl Iterator<Item = Date> {
    let today = Timestamp::from_millisecond(base.0).ok().map(|base| base.to_zoned(zone.clone()).date());
    around.filter_map(move |days| today?.checked_add(days.days()).ok())
}

/// The hours that begin on a day.
fn span(day: Date, (start, end): (Time, Time), zone: &TimeZone) -> Option<(Millis, Millis)> {
    let last = if start < end { day } else { day.checked_add(1.day()).ok()? };
    Some((at(day.to_datetime(start), zone)?, at(last.to_datetime(end), zone)?))
}

fn moment(text: &str) -> Result<DateTime, String> {
    let read = text.trim().replacen(' ', "T", 1).parse::<DateTime>();
    read.map_err(|_| format!("{text:?} is no date and time such as 2026-12-01T09:00"))
}

fn hours(text: &str) -> Result<(Time, Time), String> {
    let clock = |text: &str| Time::strptime("%H:%M", text.trim()).ok();
    let read = text.split_once('-').and_then(|(start, end)| clock(start).zip(clock(end)));
    read.filter(|(start, end)| start != end).ok_or_else(|| format!("{text:?} are no hours such as 18:00-23:00"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(from: &str, until: &str, hours: &str) -> Result<Window, String> {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Window::read(&Rule { when: None, from: text(from), until: text(until), hours: text(hours) })
    }

    fn millis(text: &str) -> Millis {
        Millis(text.parse::<Timestamp>().unwrap().as_millisecond())
    }

    #[test]
    fn windows_open_and_close() {
        for (zone, (from, until, hours), now, open, next) in [
            ("Asia/Tokyo", ("", "", ""), "2026-12-01T00:00:00Z", true, None),
            ("Asia/Tokyo", ("2026-12-01T09:00", "", ""), "2026-11-30T23:59:59Z", false, Some("2026-12-01T00:00:00Z")),
            ("Asia/Tokyo", ("2026-12-01T09:00", "", ""), "2026-12-01T00:00:00Z", true, None),
            ("Asia/Tokyo", ("", "2026-12-01 09:00", ""), "2026-11-30T23:59:59Z", true, Some("2026-12-01T00:00:00Z")),
            ("Asia/Tokyo", ("", "2026-12-01T09:00", ""), "2026-12-01T00:00:00Z", false, None),
            ("Asia/Tokyo", ("", "", "18:00-23:00"), "2026-12-01T08:59:00Z", false, Some("2026-12-01T09:00:00Z")),
            ("Asia/Tokyo", ("", "", "18:00-23:00"), "2026-12-01T09:00:00Z", true, Some("2026-12-01T14:00:00Z")),
            ("Asia/Tokyo", ("", "", "22:00-02:00"), "2026-12-01T16:59:00Z", true, Some("2026-12-01T17:00:00Z")),
            ("Asia/Tokyo", ("", "", "22:00-02:00"), "2026-12-01T17:00:00Z", false, Some("2026-12-02T13:00:00Z")),
            // Hours within days: nothing opens before the first day, or after the last.
            (
                "Asia/Tokyo",
                ("2026-12-10", "2026-12-11T12:00", "18:00-23:00"),
                "2026-12-01T09:00:00Z",
                false,
                Some("2026-12-10T09:00:00Z"),
            ),
            ("Asia/Tokyo", ("2026-12-10", "2026-12-11T12:00", "18:00-23:00"), "2026-12-10T14:00:00Z", false, None),
            // The night in which clocks are put back: one opening, an hour longer.
            ("Europe/Berlin", ("", "", "01:00-04:00"), "2026-10-24T23:00:00Z", true, Some("2026-10-25T03:00:00Z")),
            ("Europe/Berlin", ("", "", "02:30-04:00"), "2026-10-25T00:30:00Z", true, Some("2026-10-25T03:00:00Z")),
            // The night in which they are put forward: 02:30 is not there.
            ("Europe/Berlin", ("", "", "02:30-04:00"), "2027-03-28T01:30:00Z", true, Some("2027-03-28T02:00:00Z")),
        ] {
            let (window, zone) = (window(from, until, hours).unwrap(), TimeZone::get(zone).unwrap());
            let told = format!("{from} {until} {hours} at {now}");
            assert_eq!(window.is_open(millis(now), &zone), open, "{told}");
            assert_eq!(window.next_boundary(millis(now), &zone), next.map(millis), "{told}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (from, until, hours, why) in [
            ("tomorrow", "", "", "\"tomorrow\" is no date"),
            ("", "2026-13-01", "", "is no date"),
            ("2026-12-02", "2026-12-02", "", "later than from"),
            ("", "", "18-23", "\"18-23\" are no"),
            ("", "", "18:00-18:00", "are no hours"),
            ("", "", "18:00-24:01", "are no hours"),
        ] {
            let told = window(from, until, hours).unwrap_err();
            assert!(told.contains(why), "{from} {until} {hours}: {told}");
        }
    }
}
