//! `musubi key new|rotate`.

use std::process::ExitCode;

use clap::Subcommand;
use musubi::{app::Clock, key, seal};

use super::{ConfigPath, Failure, explain, open, say};

#[derive(Subcommand)]
pub enum Command {
    /// Prints a fresh sealing key, and what to write where
    New,
    /// Seals everything with the active key, then says which older keys and secrets may go
    ///
    /// What older keys sealed is sealed by the active one (security.sealing_key). Serving goes on meanwhile. Stopped
    /// half-way, it goes on from there when it is run again. A value that no configured key opens is named by its
    /// row and left as it is; the command then ends with 1.
    Rotate {
        #[command(flatten)]
        config: ConfigPath,
    },
}

pub async fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::New => new(),
        Command::Rotate { config } => rotate(config).await,
    }
}

/// The key alone on standard output, so that it can be sent to a file.
fn new() -> Result<ExitCode, Failure> {
    say(&seal::new_key()?);
    explain(&key::instructions(Clock::default().now()));
    Ok(ExitCode::SUCCESS)
}

async fn rotate(path: ConfigPath) -> Result<ExitCode, Failure> {
    let report = key::rotate(&open(path).await?).await?;
    report.lines.iter().for_each(|line| say(line));
    Ok(if report.is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
