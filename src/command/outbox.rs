//! `musubi outbox held|release|cancel`.

use std::process::ExitCode;

use clap::Subcommand;
use musubi::message::hold::{Verdict, command as hold};

use super::{ConfigPath, Failure, open, say};

#[derive(Subcommand)]
pub enum Command {
    /// Lists the messages held back, oldest first: id, time, channel, lane, what it is, and recipients
    Held {
        #[command(flatten)]
        config: ConfigPath,
        /// How many
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Sends what is held back of these messages: they were not sent
    ///
    /// What was in doubt is asked for again under its key; where LINE has forgotten that by now, it is unknown.
    Release {
        #[command(flatten)]
        config: ConfigPath,
        #[command(flatten)]
        which: hold::Which,
    },
    /// Gives up what is held back of these messages: they were sent, or are not wanted any more
    ///
    /// What waited is cancelled; what was in doubt is unknown.
    Cancel {
        #[command(flatten)]
        config: ConfigPath,
        #[command(flatten)]
        which: hold::Which,
    },
}

pub async fn run(command: Command) -> Result<ExitCode, Failure> {
    let lines = match command {
        Command::Held { config, limit } => hold::held(&open(config).await?, limit).await?,
        Command::Release { config, which } => hold::decide(&open(config).await?, &which, Verdict::Release).await?,
        Command::Cancel { config, which } => hold::decide(&open(config).await?, &which, Verdict::Cancel).await?,
    };
    lines.iter().for_each(|line| say(line));
    Ok(ExitCode::SUCCESS)
}
