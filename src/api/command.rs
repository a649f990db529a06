//! `musubi api-key create|list|revoke`: the keys of the company's systems.

use std::num::NonZeroU32;

use jiff::{Span, SpanRelativeTo};

use super::{
    key::{self, Key, New},
    time,
};
use crate::{app::App, db::Millis, error::Result, member::guard::Scope};

const LONGEST_NAME: usize = 100;

/// A key to be made.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// What it is for, such as the system that uses it
    #[arg(long)]
    pub name: String,
    /// What it may do, such as messages:write; may be given several times; `all` is everything
    #[arg(long = "scope", value_name = "SCOPE", required = true)]
    pub scopes: Vec<String>,
    /// Only for this provider; may be given several times; without it for all
    #[arg(long = "provider", value_name = "NAME")]
    pub providers: Vec<String>,
    /// After this time it is refused: 90d, 12h
    #[arg(long, value_name = "TIME")]
    pub expires: Option<String>,
    /// Requests in a minute
    #[arg(long, value_name = "N", default_value = "600")]
    pub rate: NonZeroU32,
}

/// Why a key is not made.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("--scope: {0}, or all")]
    Scope(String),
    #[error("--provider: there is no provider {0:?}; there are: {1}")]
    Provider(String, String),
    #[error("--expires {0:?} is no time such as 90d or 12h")]
    Expires(String),
    #[error("--name: must be 1 to {LONGEST_NAME} letters without control characters")]
    Name,
    #[error(transparent)]
    Failed(#[from] crate::error::Error),
}

/// Makes a key; gives it whole, to be shown once.
pub async fn create(app: &App, options: &Options) -> Result<String, Unreadable> {
    let letters = options.name.chars().count();
    if !(1..=LONGEST_NAME).contains(&letters) || options.name.chars().any(char::is_control) {
        return Err(Unreadable::Name);
    }
    if let Some(unknown) = options.providers.iter().find(|name| !app.config.provider.contains_key(*name)) {
        let known = app.config.provider.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        return Err(Unreadable::Provider(unknown.clone(), known));
    }
    let expires_at = options.expires.as_deref().map(|text| end(app.now(), text)).transpose()?;
    let new = New {
        name: &options.name,
        scopes: &options.scopes()?,
        providers: &options.providers,
        expires_at,
        per_minute: options.rate,
    };
    Ok(key::create(app, &new).await?)
}

impl Options {
    fn scopes(&self) -> Result<Vec<Scope>, Unreadable> {
        if self.scopes.iter().any(|word| word == "all") {
            return Ok(Scope::ALL.to_vec());
        }
        let mut scopes: Vec<Scope> =
            self.scopes.iter().map(|word| word.parse().map_err(Unreadable::Scope)).collect::<Result<_, _>>()?;
        scopes.sort_unstable();
        scopes.dedup();
        Ok(scopes)
    }
}

fn end(now: Millis, text: &str) -> Result<Millis, Unreadable> {
    let wrong = || Unreadable::Expires(text.to_owned());
    let span: Span = text.parse().map_err(|_| wrong())?;
    let life = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    let life = std::time::Duration::try_from(life).map_err(|_| wrong())?;
    if life.is_zero() { Err(wrong()) } else { Ok(now.plus(life)) }
}

/// All keys, one a line, the newest first.
pub async fn list(app: &App) -> Result<Vec<String>> {
    let now = app.now();
    key::list(&mut *app.db.conn().await?).await?.iter().map(|key| line(now, key)).collect()
}

fn line(now: Millis, key: &Key) -> Result<String> {
    let state = key.refusal(now).unwrap_or("good");
    let scopes = key.scopes()?;
    let scopes = if scopes.len() == Scope::ALL.len() {
        "all".to_owned()
    } else {
        scopes.iter().map(|scope| scope.word()).collect::<Vec<_>>().join(",")
    };
    let providers = key.providers()?;
    let providers = if providers.is_empty() { "all".to_owned() } else { providers.join(",") };
    let told = |at: Option<Millis>| at.map_or_else(|| "never".to_owned(), time);
    Ok(format!(
        "{}  {state:<7}  {}  scopes {scopes}  providers {providers}  {} a minute  made {}  expires {}  last used {}",
        key.id,
        key.name,
        key.per_minute(),
        time(key.created_at),
        told(key.expires_at),
        told(key.last_used_at)
    ))
}
