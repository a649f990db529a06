//! `musubi template check` and `render`: for whoever writes templates, without a server.

use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use serde_json::Value;

use super::{Unsendable, render};
use crate::{
    config::Config,
    flex::{self, Catalogue, Context, LANGUAGES, Mistakes},
    line::message::check::{self, Mistake},
};

/// Where templates are found, and how they are rendered.
#[derive(Debug)]
pub struct Place {
    pub folder: Option<PathBuf>,
    pub zone: TimeZone,
    pub default_locale: String,
}

impl Default for Place {
    fn default() -> Self {
        Self { folder: None, zone: TimeZone::UTC, default_locale: "en".to_owned() }
    }
}

impl Place {
    pub fn of(config: &Config) -> Result<Self, jiff::Error> {
        let zone = TimeZone::get(&config.time_zone)?;
        Ok(Self { folder: config.messages.templates.clone(), zone, default_locale: config.default_locale.clone() })
    }
}

/// What a check found, for people.
#[derive(Debug)]
pub struct Report {
    pub lines: Vec<String>,
    pub is_fine: bool,
}

/// What a template gives.
#[derive(Debug)]
pub struct Shown {
    /// The message objects as JSON for people.
    pub messages: String,
    /// What LINE would not take of it.
    pub breaches: Vec<Mistake>,
}

/// Why nothing could be rendered.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Templates(#[from] Mistakes),
    #[error(transparent)]
    Unsendable(#[from] Unsendable),
    #[error("the data is not JSON: {0}")]
    Data(#[from] serde_json::Error),
    #[error("{0:?} is no language; there are {list}", list = LANGUAGES.join(", "))]
    Language(String),
}

/// Looks at every file, or at those of one name.
pub fn check(folder: Option<&Path>, name: Option<&str>) -> Result<Report, Mistakes> {
    let files = flex::list(folder)?;
    let mut report = Report { lines: Vec::new(), is_fine: true };
    for file in files.iter().filter(|file| name.is_none_or(|name| file.name == name)) {
        match &file.compiled {
            Ok(_) => report.lines.push(format!("✓ {}", file.origin)),
            Err(mistakes) => {
                report.is_fine = false;
                report.lines.extend(mistakes.iter().map(|mistake| format!("✗ {}: {mistake}", file.origin)));
            }
        }
    }
    if report.lines.is_empty() {
        report.is_fine = false;
        report.lines.push(format!("✗ there is no message template {:?}", name.unwrap_or_default()));
    }
    Ok(report)
}

/// The message objects of a template with this data, held against LINE's limits.
pub fn show(place: &Place, name: &str, data: &str, locale: Option<&str>) -> Result<Shown, Failure> {
    let locale = locale.unwrap_or(&place.default_locale);
    let language = flex::language(locale).ok_or_else(|| Failure::Language(locale.to_owned()))?;
    let data: Value = serde_json::from_str(data)?;
    let templates = Catalogue::load(place.folder.as_deref())?;
    let text =
        render(&templates, name, &data, &Context { zone: &place.zone, locale: language }, &place.default_locale)?;
    let list: Vec<Value> = serde_json::from_str(&text)?;
    Ok(Shown { messages: serde_json::to_string_pretty(&list)?, breaches: check::check(&list) })
}
