//! The log: one line an event, whatever is in it.
//!
//! Names, paths and errors come from outside. A line break in one would be a line of its own, a control character
//! an order to the terminal, and a mark of direction a sentence turned round: all are written as escapes.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

/// `RUST_LOG` chooses what is logged; standard error, so that a command's own output stays clean.
pub fn start(format: Format) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn"));
    let has_colours = format == Format::Text && io::stderr().is_terminal();
    let lines = Lines { format, has_colours };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines).with_ansi(has_colours);
    match format {
        Format::Text => builder.compact().init(),
        Format::Json => builder.json().init(),
    }
}

/// Writes each event as one line.
#[derive(Debug, Clone, Copy)]
struct Lines {
    format: Format,
    /// Our own colours pass; the subscriber itself escapes such marks in values.
    has_colours: bool,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}

impl Write for Lines {
    /// The subscriber hands over a whole event at once.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        if is_plain(event) {
            io::stderr().lock().write_all(event)?;
            return Ok(event.len());
        }
        let line = one_line(&String::from_utf8_lossy(event), self.format, self.has_colours);
        io::stderr().lock().write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
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
