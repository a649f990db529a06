//! Times as people read them: in the company's zone.

use crate::{app::App, db::Millis, web::locale::Locale};

/// A time for people, and for machines.
#[derive(Debug, Clone)]
pub struct Moment {
    pub words: String,
    pub iso: String,
}

pub fn show(app: &App, locale: Locale, at: Millis) -> Moment {
    let time = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().to_zoned(app.zone.clone());
    let shape = match locale {
        Locale::En => "%-d %b %Y, %H:%M",
        Locale::Ja => "%Y年%-m月%-d日 %H:%M",
    };
    Moment { words: time.strftime(shape).to_string(), iso: time.strftime("%Y-%m-%dT%H:%M%:z").to_string() }
}
