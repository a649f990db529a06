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
const ENGLISH_MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// Monday first.
const ENGLISH_DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
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
    let time = || format!("{:02}:{:02}", at.hour(), at.minute());
    match format {
        Format::Own(format) => strtime::format(format, at).ok(),
        Format::Time => Some(time()),
        Format::Date => day(at, context.locale),
        Format::DateTime => short_day(at, context.locale, &time()),
    }
}

/// Whether a text is a date that can be written.
pub(super) fn is_date(text: &str) -> bool {
    read(text, &TimeZone::UTC).is_some()
}

fn day(at: DateTime, locale: &str) -> Option<String> {
    let (year, month, day) = (at.year(), at.month(), at.day());
    Some(match locale {
        "ja" => format!("{year}年{month}月{day}日"),
        "zh-TW" => format!("{year} 年 {month} 月 {day} 日"),
        "th" => format!("{day} {} {}", of(&THAI_MONTHS, month)?.0, i32::from(year) + THAI_ERA),
        _ => format!("{day} {} {year}", of(&ENGLISH_MONTHS, month)?),
    })
}

/// Weekday, day and time, no longer than a line of a bubble.
fn short_day(at: DateTime, locale: &str, time: &str) -> Option<String> {
    let (year, month, day) = (at.year(), at.month(), at.day());
    let weekday = at.weekday().to_monday_one_offset();
    Some(match locale {
        "ja" => format!("{year}年{month}月{day}日({}) {time}", of(&JAPANESE_DAYS, weekday)?),
        "zh-TW" => format!("{year}/{month}/{day}（{}）{time}", of(&CHINESE_DAYS, weekday)?),
        "th" => {
            let year = i32::from(year) + THAI_ERA;
            format!("{} {day} {} {year} {time} น.", of(&THAI_DAYS, weekday)?, of(&THAI_MONTHS, month)?.1)
        }
        _ => {
            let (weekday, month) = (of(&ENGLISH_DAYS, weekday)?, of(&ENGLISH_MONTHS, month)?.get(..3)?);
            format!("{weekday}, {day} {month} {year}, {time}")
        }
    })
}

/// The word of a number that counts from one.
fn of<T: Copy>(words: &[T], number: i8) -> Option<T> {
    words.get(usize::try_from(number).ok()?.checked_sub(1)?).copied()
}

fn read(text: &str, zone: &TimeZone) -> Option<DateTime> {
    // A time with an offset first: as a date alone the offset would be dropped.
    match text.parse::<Timestamp>() {
        Ok(instant) => Some(zone.to_datetime(instant)),
        Err(_) if text.len() <= 30 && !text.ends_with(['Z', 'z']) => text.parse().ok(),
        Err(_) => None,
    }
}
