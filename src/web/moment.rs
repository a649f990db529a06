//! Times as people read them: in the company's zone.

use jiff::Zoned;

use super::locale::Locale;
use crate::{app::App, db::Millis, flex};

/// A time for people, and for machines.
#[derive(Debug, Clone)]
pub struct Moment {
    pub words: String,
    pub iso: String,
}

/// Day and time.
pub fn show(app: &App, locale: Locale, at: Millis) -> Moment {
    let time = in_zone(app, at);
    let (separator, hour) = match locale {
        Locale::En => (", ", "%H:%M"),
        Locale::Ja | Locale::ZhTw => (" ", "%H:%M"),
        Locale::Th => (" เวลา ", "%H:%M น."),
    };
    let day = flex::day_in_words(time.datetime(), locale.tag());
    let words = format!("{day}{separator}{}", time.strftime(hour));
    Moment { words, iso: time.strftime("%Y-%m-%dT%H:%M%:z").to_string() }
}

/// The day alone.
pub fn day(app: &App, locale: Locale, at: Millis) -> Moment {
    let time = in_zone(app, at);
    let words = flex::day_in_words(time.datetime(), locale.tag());
    Moment { words, iso: time.strftime("%Y-%m-%d").to_string() }
}

fn in_zone(app: &App, at: Millis) -> Zoned {
    jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().to_zoned(app.zone.clone())
}
