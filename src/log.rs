//! The log: one line an event, whatever is in it.
//!
//! Names, paths and errors come from outside. A line break in one would be a line of its own, a control character
//! an order to the terminal, and a mark of direction a sentence turned round: all are written as escapes.
//!
//! It goes to standard error, or into a folder, where each day's file is kept for a while.

use std::{
    fs,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use clap::ValueEnum;
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use tracing_appender::rolling::{InitError, RollingFileAppender, Rotation};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

/// `RUST_LOG` chooses what is logged; standard error, so that a command's own output stays clean.
pub fn start(format: Format) {
    start_with(Lines { format, has_colours: format == Format::Text && io::stderr().is_terminal(), files: None });
}

/// As [`start`], into a file for each day in `folder`, which is made where it is missing. Files older than `keep_days` go.
pub fn start_in(format: Format, folder: &Path, keep_days: u32) -> Result<(), InitError> {
    let files = Arc::new(Files::open(folder, keep_days)?);
    start_with(Lines { format, has_colours: false, files: Some(files) });
    Ok(())
}

fn start_with(lines: Lines) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn"));
    let (format, has_colours) = (lines.format, lines.has_colours);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines).with_ansi(has_colours);
    match format {
        Format::Text => builder.compact().init(),
        Format::Json => builder.json().init(),
    }
}

/// Writes each event as one line.
#[derive(Debug, Clone)]
struct Lines {
    format: Format,
    /// Our own colours pass; the subscriber itself escapes such marks in values.
    has_colours: bool,
    /// None where they go to standard error.
    files: Option<Arc<Files>>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Lines {
    /// The subscriber hands over a whole event at once.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        if is_plain(event) {
            self.put(event)?;
        } else {
            self.put(one_line(&String::from_utf8_lossy(event), self.format, self.has_colours).as_bytes())?;
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl Lines {
    /// What the folder does not take goes to standard error.
    fn put(&self, line: &[u8]) -> io::Result<()> {
        match &self.files {
            Some(files) if files.put(line).is_ok() => Ok(()),
            Some(_) | None => io::stderr().lock().write_all(line),
        }
    }
}

const PREFIX: &str = "musubi";
const SUFFIX: &str = "log";

/// A folder with a file for each day of UTC, such as `musubi.2026-11-29.log`.
#[derive(Debug)]
struct Files {
    appender: RollingFileAppender,
    folder: PathBuf,
    keep_days: u32,
    /// The day, counted from 1970, on which old files were removed last.
    tidied_on: AtomicI64,
}

impl Files {
    fn open(folder: &Path, keep_days: u32) -> Result<Self, InitError> {
        let builder = RollingFileAppender::builder().rotation(Rotation::DAILY);
        let appender = builder.filename_prefix(PREFIX).filename_suffix(SUFFIX).build(folder)?;
        Ok(Self { appender, folder: folder.to_owned(), keep_days, tidied_on: AtomicI64::new(-1) })
    }

    fn put(&self, line: &[u8]) -> io::Result<()> {
        // The time of the file's name, which is the system's.
        let now = Timestamp::now();
        let today = now.as_second().div_euclid(24 * 3600);
        if self.tidied_on.swap(today, Ordering::Relaxed) != today {
            tidy(&self.folder, now.to_zoned(TimeZone::UTC).date(), self.keep_days);
        }
        self.appender.make_writer().write_all(line)
    }
}

/// Removes the files of days that are past; by their names, so that it does not matter when they were copied here. Those
/// that cannot be removed are tried again tomorrow.
fn tidy(folder: &Path, today: Date, keep_days: u32) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| is_old(name, today, keep_days)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn is_old(name: &str, today: Date, keep_days: u32) -> bool {
    let day = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('.'));
    let day = day.and_then(|rest| rest.strip_suffix(SUFFIX)).and_then(|rest| rest.strip_suffix('.'));
    let day = day.and_then(|day| day.parse::<Date>().ok());
    let age = day.and_then(|day| today.since(day).ok()).map(|age| i64::from(age.get_days()));
    age.is_some_and(|age| age > i64::from(keep_days))
}

/// Whether an event is one line of ASCII already, as nearly all are.
fn is_plain(event: &[u8]) -> bool {
    event.split_last().is_some_and(|(last, line)| *last == b'\n' && line.iter().all(|byte| (0x20..0x7f).contains(byte)))
}

fn one_line(event: &str, format: Format, has_colours: bool) -> String {
    let text = event.strip_suffix('\n').unwrap_or(event);
    let mut line = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        match c {
            '\u{1b}' if has_colours => line.push(c),
            _ if !is_unruly(c) => line.push(c),
            _ if format == Format::Json => line.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => line.extend(c.escape_default()),
        }
    }
    line.push('\n');
    line
}

/// Whether a character is more than a mark on the line it stands in. All of them are of the basic plane.
fn is_unruly(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_plain_is_one_line_as_it_is() {
        for (event, plain) in
            [("a b~\n", true), ("a", false), ("", false), ("a\nb\n", false), ("\u{7f}\n", false), ("é\n", false)]
        {
            assert_eq!(is_plain(event.as_bytes()), plain, "{event:?}");
            assert!(!plain || one_line(event, Format::Json, false) == event);
        }
    }

    #[test]
    fn a_day_is_kept_so_many_days() {
        let today: Date = "2026-03-02".parse().unwrap();
        for (name, old) in [
            ("musubi.2026-03-02.log", false),
            ("musubi.2026-02-28.log", false),
            ("musubi.2026-02-27.log", true),
            ("musubi.2019-12-31.log", true),
            ("musubi.2027-01-01.log", false),
            ("musubi.log", false),
            ("musubi.old.log", false),
            ("musubi.2019-12-31.log.gz", false),
            ("other.2019-12-31.log", false),
            ("2019-12-31", false),
        ] {
            assert_eq!(is_old(name, today, 2), old, "{name}");
        }
        assert!(!is_old("musubi.2019-12-31.log", today, u32::MAX));
    }

    #[test]
    fn j11_an_event_is_one_line() {
        let event = "a\n2026 INFO forged\r\t\u{1b}[31m\u{85}\u{2028}\u{202e}「花」\"\n";
        let text = one_line(event, Format::Text, false);
        assert_eq!(text, "a\\n2026 INFO forged\\r\\t\\u{1b}[31m\\u{85}\\u{2028}\\u{202e}「花」\"\n");
        let json = one_line("{\"a\":\"\u{7f}\u{2028}花\"}\n", Format::Json, false);
        assert_eq!(json, "{\"a\":\"\\u007f\\u2028花\"}\n");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["a"], "\u{7f}\u{2028}花");
        assert_eq!(one_line("\u{1b}[2ma\u{1b}[0m\nb\n", Format::Text, true), "\u{1b}[2ma\u{1b}[0m\\nb\n");
    }
}
