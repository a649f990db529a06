//! `musubi member disable|enable|import`.

use std::process::ExitCode;

use clap::Subcommand;
use musubi::{
    import,
    member::{
        self,
        disabling::{self, Outcome},
    },
};

use super::{ConfigPath, Failure, note, open, say, told};

#[derive(Subcommand)]
pub enum Command {
    /// Ends every session of a member and lets them sign in no more; their links stay
    Disable {
        #[command(flatten)]
        config: ConfigPath,
        /// The member's e-mail address
        email: String,
    },
    /// Lets a disabled member sign in again
    Enable {
        #[command(flatten)]
        config: ConfigPath,
        /// The member's e-mail address
        email: String,
    },
    /// Makes and changes members as a CSV file says
    ///
    /// Columns, in any order: external_id (needed), email, name, language (such as ja), time_zone (such as Asia/Tokyo),
    /// tags (with ; or | between), attribute.NAME (a text), attribute.NAME:number, attribute.NAME:flag (true or false).
    /// An empty cell says nothing. Tags are the whole list; attributes that the file does not name stay. An address
    /// that another member has is refused. Rows that are refused are told by line. Killed, it goes on where it stopped
    /// when it is run again. Ends with 0, or with 4 where rows were refused.
    Import {
        #[command(flatten)]
        config: ConfigPath,
        #[command(flatten)]
        options: import::Options,
    },
}

pub async fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Disable { config, email } => disable(config, &email).await,
        Command::Enable { config, email } => enable(config, &email).await,
        Command::Import { config, options } => {
            let ended = member::import::run(&open(config).await?, &options, &mut note).await?;
            Ok(told(&ended))
        }
    }
}

async fn disable(path: ConfigPath, email: &str) -> Result<ExitCode, Failure> {
    match disabling::disable(&open(path).await?, email).await? {
        Outcome::Changed { sessions } => say(&format!("{email} is disabled; sessions ended: {sessions}")),
        Outcome::AsBefore => say(&format!("{email} was disabled already")),
        Outcome::Unknown => return Err(format!("there is no member with the address {email:?}").into()),
    }
    Ok(ExitCode::SUCCESS)
}

async fn enable(path: ConfigPath, email: &str) -> Result<ExitCode, Failure> {
    match disabling::enable(&open(path).await?, email).await? {
        Outcome::Changed { .. } => say(&format!("{email} can sign in again")),
        Outcome::AsBefore => say(&format!("{email} was not disabled")),
        Outcome::Unknown => return Err(format!("there is no member with the address {email:?}").into()),
    }
    Ok(ExitCode::SUCCESS)
}
