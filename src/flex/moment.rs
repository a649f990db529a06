//! Dates and times as people of a language write them.

use jiff::{Timestamp, civil::DateTime, fmt::strtime, tz::TimeZone};

use super::render::Context;

/// How a date is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Format {
    /// The day, in words of the language.
    Date,
    /// Day, weekday and time.
    DateTime,
    Time,
    /// By `strftime`, the same in every language.
    Own(String),
}

/// Longer ones are no format of a date.
const LONGEST: usize = 60;

const THAI_MONTHS: [(&str, &str); 12] = [
    ("มกราคม", "ม.ค."),
    ("กุมภาพันธ์", "ก.พ."),
    ("มีนาคม", "มี.ค."),
    ("เมษายน", "เม.ย."),
    ("พฤษภาคม", "พ.ค."),
    ("มิถุนายน", "มิ.ย."),
    ("กรกฎาคม", "ก.ค."),
    ("สิงหาคม", "ส.ค."),
    ("กันยายน", "ก.ย."),
    ("ตุลาคม", "ต.ค."),
    ("พฤศจิกายน", "พ.ย."),
    ("ธันวาคม", "ธ.ค."),
];
/// Monday first, as jiff counts.
const THAI_DAYS: [&str; 7] = ["จ.", "อ.", "พ.", "พฤ.", "ศ.", "ส.", "อา."];
const JAPANESE_DAYS: [&str; 7] = ["月", "火", "水", "木", "金", "土", "日"];
const CHINESE_DAYS: [&str; 7] = ["一", "二", "三", "四", "五", "六", "日"];
/// Years of the Thai calendar before the common era's first.
const THAI_ERA: i32 = 543;

impl Format {
    pub fn new(name: &str) -> Result<Self, String> {
        match name {
            "date" => Ok(Self::Date),
            "datetime" => Ok(Self::DateTime),
            "time" => Ok(Self::Time),
            own if own.contains('%') && own.len() <= LONGEST => {
                // Wide paddings (`%99999Y`) are no format either.
                let is_wide = own.bytes().any(|byte| byte.is_ascii_digit());
                match strtime::format(own, DateTime::constant(2026, 1, 2, 3, 4, 5, 0)) {
                    Ok(_) if !is_wide => Ok(Self::Own(own.to_owned())),
                    Ok(_) => Err(format!("date: {own:?} must hold no digits")),
                    Err(error) => Err(format!("date: {own:?} is no format: {error}")),
                }
            }
            other => Err(format!("date: {other:?} is none of date, datetime, time, or a format such as '%Y-%m-%d'")),
        }
    }
}

/// Writes an RFC 3339 time in the reader's zone, or a date (and time) without a zone as it is.
pub(super) fn write(text: &str, format: &Format, context: &Context<'_>) -> Option<String> {
    let at = read(text, context.zone)?;
    let own = |format: &str| strtime::format(format, at).ok();
    let english = !matches!(context.locale, "ja" | "th" | "zh-TW");
    match format {
        Format::Own(format) => own(format),
        Format::Time => own("%H:%M"),
        Format::Date if english => own("%-d %B %Y"),
        Format::DateTime if english => own("%a, %-d %b %Y, %H:%M"),
        Format::Date => day(at, context.locale),
        Format::DateTime => {
            let weekday = usize::try_from(at.weekday().to_monday_zero_offset()).ok()?;
            let time = own("%H:%M")?;
            Some(match context.locale {
                "ja" => format!("{}({}) {time}", own("%Y年%-m月%-d日")?, JAPANESE_DAYS.get(weekday)?),
                "zh-TW" => format!("{}（{}）{time}", own("%Y/%-m/%-d")?, CHINESE_DAYS.get(weekday)?),
                _ => {
                    let (day, (_, month), year) = thai(at)?;
                    format!("{} {day} {month} {year} {time} น.", THAI_DAYS.get(weekday)?)
                }
            })
        }
    }
}

/// Whether a text is a date that can be written.
pub(super) fn is_date(text: &str) -> bool {
    read(text, &TimeZone::UTC).is_some()
}

fn day(at: DateTime, locale: &str) -> Option<String> {
    match locale {
        "ja" => strtime::format("%Y年%-m月%-d日", at).ok(),
        "zh-TW" => strtime::format("%Y 年 %-m 月 %-d 日", at).ok(),
        _ => thai(at).map(|(day, (month, _), year)| format!("{day} {month} {year}")),
    }
}

/// Day, month (long and short) and year of the Thai calendar.
fn thai(at: DateTime) -> Option<(i8, (&'static str, &'static str), i32)> {
    let month = THAI_MONTHS.get(usize::try_from(at.month()).ok()?.checked_sub(1)?)?;
    Some((at.day(), *month, i32::from(at.year()) + THAI_ERA))
}

fn read(text: &str, zone: &TimeZone) -> Option<DateTime> {
    // A time with an offset first: as a date alone the offset would be dropped.
    match text.parse::<Timestamp>() {
        Ok(instant) => Some(zone.to_datetime(instant)),
        Err(_) if text.len() <= 30 && !text.ends_with(['Z', 'z']) => text.parse().ok(),
        Err(_) => None,
    }
}
