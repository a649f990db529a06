//! The commands that have commands of their own, a file each, and what all commands share.

pub mod api_key;
pub mod attempts;
pub mod events;
pub mod key;
pub mod link;
pub mod member;
pub mod outbox;
pub mod rich_menu;
pub mod template;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use musubi::{
    app::{App, Clock},
    config::Config,
    db::{Db, Millis},
    import,
};
use secrecy::ExposeSecret;

#[derive(clap::Args)]
pub struct ConfigPath {
    /// The configuration file; every key can be overridden by MUSUBI__SECTION__KEY
    #[arg(long = "config", env = "MUSUBI_CONFIG", value_name = "FILE")]
    pub path: Option<PathBuf>,
}

pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The application, beside a server that may be running.
pub async fn open(path: ConfigPath) -> Result<App, Failure> {
    let config = Config::load(path.path.as_deref())?;
    let db = Db::connect(config.database_url.expose_secret()).await?;
    db.check_schema().await?;
    Ok(App::new(config, db, Clock::default())?)
}

/// The lines of an import, and how it ended.
pub fn told(ended: &import::Ended) -> ExitCode {
    ended.lines.iter().for_each(|line| say(line));
    ExitCode::from(ended.code())
}

/// A time for an operator, to the millisecond, in UTC.
pub fn when(time: Millis) -> String {
    jiff::Timestamp::from_millisecond(time.0).map_or_else(|_| time.to_string(), |time| format!("{time:.3}"))
}

/// A command's answer. Whoever reads it may go away, as `| head` does: that is no reason to stop. An answer that is
/// lost otherwise is, as on a full disk.
pub fn say(line: &str) {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            note(&format!("musubi: the answer cannot be written: {error}"));
            std::process::exit(1);
        }
        _ => {}
    }
}

/// Beside the answer, which may be on its way to a file.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// What to do with a command's answer.
pub fn explain(text: &str) {
    note(&format!("\n{text}"));
}
