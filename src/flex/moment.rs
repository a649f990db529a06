//! Dates and times as people of a language write them.

use jiff::{
    Timestamp,
    civil::DateTime,
    fmt::strtime,
    tz::{Offset, TimeZone},
};

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

    /// Whether what it writes holds nothing that JSON escapes.
    pub fn is_plain(&self) -> bool {
        !matches!(self, Self::Own(_))
    }
}

/// Appends an RFC 3339 time in the reader's zone, or a date (and time) without a zone as it is.
pub(super) fn write(out: &mut String, text: &str, format: &Format, context: &Context<'_>) -> Option<()> {
    let at = read(text, context.zone)?;
    match format {
        Format::Own(format) => out.push_str(&strtime::format(format, at).ok()?),
        Format::Time => {
            Words(out).time(at);
        }
        Format::Date => day(out, at, context.locale)?,
        Format::DateTime => short_day(out, at, context.locale)?,
    }
    Some(())
}

/// The day in words of a language, as templates and pages write it.
pub fn day_in_words(at: DateTime, locale: &str) -> String {
    let mut words = String::new();
    // None is a month of no name, which no date has.
    let _ = day(&mut words, at, locale);
    words
}

/// Whether a text is a date that can be written.
pub(super) fn is_date(text: &str) -> bool {
    read(text, &TimeZone::UTC).is_some()
}

fn day(out: &mut String, at: DateTime, locale: &str) -> Option<()> {
    let (year, month, day) = (at.year(), at.month(), at.day());
    let words = Words(out);
    match locale {
        "ja" => words.number(year).text("年").number(month).text("月").number(day).text("日"),
        "zh-TW" => words.number(year).text(" 年 ").number(month).text(" 月 ").number(day).text(" 日"),
        "th" => {
            let year = i32::from(year) + THAI_ERA;
            words.number(day).text(" ").text(of(&THAI_MONTHS, month)?.0).text(" ").number(year)
        }
        _ => words.number(day).text(" ").text(of(&ENGLISH_MONTHS, month)?).text(" ").number(year),
    };
    Some(())
}

/// Weekday, day and time, no longer than a line of a bubble.
fn short_day(out: &mut String, at: DateTime, locale: &str) -> Option<()> {
    let (year, month, day) = (at.year(), at.month(), at.day());
    let weekday = at.weekday().to_monday_one_offset();
    let words = Words(out);
    match locale {
        "ja" => {
            let words = words.number(year).text("年").number(month).text("月").number(day).text("日(");
            words.text(of(&JAPANESE_DAYS, weekday)?).text(") ").time(at)
        }
        "zh-TW" => {
            let words = words.number(year).text("/").number(month).text("/").number(day).text("（");
            words.text(of(&CHINESE_DAYS, weekday)?).text("）").time(at)
        }
        "th" => {
            let words = words.text(of(&THAI_DAYS, weekday)?).text(" ").number(day).text(" ");
            let words = words.text(of(&THAI_MONTHS, month)?.1).text(" ").number(i32::from(year) + THAI_ERA);
            words.text(" ").time(at).text(" น.")
        }
        _ => {
            let words = words.text(of(&ENGLISH_DAYS, weekday)?).text(", ").number(day).text(" ");
            words.text(of(&ENGLISH_MONTHS, month)?.get(..3)?).text(" ").number(year).text(", ").time(at)
        }
    };
    Some(())
}

/// A date in the making, without the detours of `format!`.
struct Words<'a>(&'a mut String);

impl Words<'_> {
    fn text(self, text: &str) -> Self {
        self.0.push_str(text);
        self
    }

    fn number(self, number: impl Into<i32>) -> Self {
        let number = number.into();
        match number {
            0..=9 => self.digit(number),
            10..=99 => self.pair(number),
            1000..=9999 => self.pair(number / 100).pair(number % 100),
            _ => self.text(&number.to_string()),
        }
    }

    fn time(self, at: DateTime) -> Self {
        self.pair(at.hour()).text(":").pair(at.minute())
    }

    /// Two digits, of a number below a hundred.
    fn pair(self, number: impl Into<i32>) -> Self {
        let number = number.into();
        self.digit(number / 10).digit(number % 10)
    }

    fn digit(self, digit: i32) -> Self {
        self.0.extend(u32::try_from(digit).ok().and_then(|digit| char::from_digit(digit, 10)));
        self
    }
}

/// The word of a number that counts from one.
fn of<T: Copy>(words: &[T], number: i8) -> Option<T> {
    words.get(usize::try_from(number).ok()?.checked_sub(1)?).copied()
}

fn read(text: &str, zone: &TimeZone) -> Option<DateTime> {
    if let Some(instant) = plain(text) {
        return Some(zone.to_datetime(instant));
    }
    // A time with an offset first: as a date alone the offset would be dropped.
    match text.parse::<Timestamp>() {
        Ok(instant) => Some(zone.to_datetime(instant)),
        Err(_) if text.len() <= 30 && !text.ends_with(['Z', 'z']) => text.parse().ok(),
        Err(_) => None,
    }
}

/// A time of the commonest form, `2026-11-20T09:30:00Z`, which needs no parser.
fn plain(text: &str) -> Option<Timestamp> {
    let text: &[u8; 20] = text.as_bytes().try_into().ok()?;
    if [text[4], text[7], text[10], text[13], text[16], text[19]] != *b"--T::Z" {
        return None;
    }
    let pair = |at: usize| {
        let (tens, ones) = (text[at].wrapping_sub(b'0'), text[at + 1].wrapping_sub(b'0'));
        if tens < 10 && ones < 10 { i8::try_from(tens * 10 + ones).ok() } else { None }
    };
    let year = i16::from(pair(0)?) * 100 + i16::from(pair(2)?);
    let at = DateTime::new(year, pair(5)?, pair(8)?, pair(11)?, pair(14)?, pair(17)?, 0).ok()?;
    Offset::UTC.to_timestamp(at).ok()
}
