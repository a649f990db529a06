//! Who sees a menu, and when: the rule of its file over what is known of a person.

use jiff::{
    civil::{DateTime, Time},
    tz::TimeZone,
};
use minijinja::{Environment, ErrorKind, UndefinedBehavior, context};
use serde::{Deserialize, Serialize};

use super::set::Applied;
use crate::db::Millis;

/// What a file says of who sees its menu; stored as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// An expression; none: the menu is reached by a tab only.
    pub when: Option<String>,
    /// Local date and time in the company's zone, from which on it holds.
    pub from: Option<String>,
    /// Until then, which is not in it.
    pub until: Option<String>,
    /// Such as `18:00-23:00`, every day.
    pub hours: Option<String>,
}

/// What is known of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    /// An active link, not suspended, to a member who is not disabled.
    pub linked: bool,
}

/// Somebody of whom nothing is known: the channel's default menu is theirs.
pub(super) const STRANGER: Facts = Facts { linked: false };

impl Rule {
    /// Says in words what is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        if let Some(when) = &self.when {
            for linked in [true, false] {
                holds(when, Facts { linked }).map_err(|error| format!("{when:?} is not a rule: {error}"))?;
            }
        }
        let moment = |text: &Option<String>| text.as_deref().map(read_moment).transpose();
        let (from, until) = (moment(&self.from)?, moment(&self.until)?);
        if from.zip(until).is_some_and(|(from, until)| from >= until) {
            return Err("until must be later than from".to_owned());
        }
        self.hours.as_deref().map(read_hours).transpose().map(|_| ())
    }

    /// Whether its time window is open. Hours that end before they begin go over midnight.
    fn is_open(&self, now: Millis, zone: &TimeZone) -> Result<bool, String> {
        let Ok(now) = jiff::Timestamp::from_millisecond(now.0) else { return Ok(false) };
        let now = now.to_zoned(zone.clone()).datetime();
        let from = self.from.as_deref().map(read_moment).transpose()?;
        let until = self.until.as_deref().map(read_moment).transpose()?;
        let hours = self.hours.as_deref().map(read_hours).transpose()?;
        let in_hours = hours.is_none_or(|(start, end)| {
            let time = now.time();
            if start < end { (start..end).contains(&time) } else { time >= start || time < end }
        });
        Ok(from.is_none_or(|from| from <= now) && until.is_none_or(|until| now < until) && in_hours)
    }
}

fn read_moment(text: &str) -> Result<DateTime, String> {
    let read = text.replacen(' ', "T", 1).parse::<DateTime>();
    read.map_err(|_| format!("{text:?} is no date and time such as 2026-12-01T09:00"))
}

fn read_hours(text: &str) -> Result<(Time, Time), String> {
    let wrong = || format!("{text:?} are no hours such as 18:00-23:00");
    let (start, end) = text.split_once('-').ok_or_else(wrong)?;
    let time = |part: &str| Time::strptime("%H:%M", part.trim()).map_err(|_| wrong());
    let (start, end) = (time(start)?, time(end)?);
    if start == end { Err(wrong()) } else { Ok((start, end)) }
}

/// Whether `when` holds for a person. A name that is not known is an error, never just false.
fn holds(when: &str, facts: Facts) -> Result<bool, String> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let value = environment
        .compile_expression(when)
        .and_then(|expression| expression.eval(context! { linked => facts.linked }))
        .map_err(|error| match error.kind() {
            ErrorKind::UndefinedError => "a name in it is not known".to_owned(),
            _ => error.to_string(),
        })?;
    if value.is_undefined() { Err("a name in it is not known".to_owned()) } else { Ok(value.is_true()) }
}

/// The file whose menu a person should see: the first whose rule holds.
pub(super) fn choose<'a>(
    menus: &'a [Applied],
    facts: Facts,
    now: Millis,
    zone: &TimeZone,
) -> Result<Option<&'a str>, String> {
    for menu in menus {
        let Some(when) = &menu.rule.when else { continue };
        if menu.rule.is_open(now, zone)? && holds(when, facts)? {
            return Ok(Some(&menu.name));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_over_the_link() {
        for (when, linked, unlinked) in [
            ("linked", true, false),
            ("not linked", false, true),
            ("true", true, true),
            ("linked and not linked", false, false),
        ] {
            assert_eq!(holds(when, Facts { linked: true }).unwrap(), linked, "{when}");
            assert_eq!(holds(when, STRANGER).unwrap(), unlinked, "{when}");
        }
        for broken in ["", "linkd", "not linkd", "linked and", "linked linked"] {
            let rule = Rule { when: Some(broken.to_owned()), ..Rule::default() };
            assert!(rule.check().is_err(), "{broken:?}");
        }
    }

    #[test]
    fn windows() {
        let rule = |from: &str, until: &str, hours: &str| {
            let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            Rule { when: None, from: text(from), until: text(until), hours: text(hours) }
        };
        let at = |text: &str| Millis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond());
        let zone = TimeZone::get("Asia/Tokyo").unwrap();
        for (rule, now, open) in [
            (rule("2026-12-01T09:00", "", ""), "2026-11-30T23:59:59Z", false),
            (rule("2026-12-01T09:00", "", ""), "2026-12-01T00:00:00Z", true),
            (rule("", "2026-12-01 09:00:00", ""), "2026-11-30T23:59:59Z", true),
            (rule("", "2026-12-01 09:00:00", ""), "2026-12-01T00:00:00Z", false),
            (rule("", "", "18:00-23:00"), "2026-12-01T09:00:00Z", true),
            (rule("", "", "18:00-23:00"), "2026-12-01T14:00:00Z", false),
            (rule("", "", "23:00-02:00"), "2026-12-01T16:59:00Z", true),
            (rule("", "", "23:00-02:00"), "2026-12-01T17:00:00Z", false),
        ] {
            assert_eq!(rule.check(), Ok(()));
            assert_eq!(rule.is_open(at(now), &zone), Ok(open), "{rule:?} {now}");
        }
        for wrong in [
            rule("tomorrow", "", ""),
            rule("", "2026-02-30T00:00", ""),
            rule("2026-12-02T00:00", "2026-12-01T00:00", ""),
            rule("", "", "18-23"),
            rule("", "", "18:00-18:00"),
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }
}
