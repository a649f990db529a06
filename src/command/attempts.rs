//! `musubi attempts list`.

use std::process::ExitCode;

use clap::Subcommand;
use musubi::link::attempt::command as attempts;

use super::{ConfigPath, Failure, explain, open, say};

#[derive(Subcommand)]
pub enum Command {
    /// Lists the newest tries of a member: when, how, in which browsers, how far, what happened, and what to do
    List {
        #[command(flatten)]
        config: ConfigPath,
        #[command(flatten)]
        which: attempts::Which,
        /// How many
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
}

pub async fn run(command: Command) -> Result<ExitCode, Failure> {
    let Command::List { config, which, limit } = command;
    let told = attempts::list(&open(config).await?, &which, limit).await?;
    let lines = told.ok_or_else(|| format!("there is no member {:?}", which.member.as_deref().unwrap_or_default()))?;
    lines.iter().for_each(|line| say(line));
    if lines.is_empty() {
        explain("no such attempts are kept");
    }
    Ok(ExitCode::SUCCESS)
}
