//! `musubi events list|show|retry`.

use std::process::ExitCode;

use clap::Subcommand;
use musubi::webhook::command::{self as events, State};

use super::{ConfigPath, Failure, explain, open, say, when};

#[derive(Subcommand)]
pub enum Command {
    /// Lists the newest events: time, state, tries, type, id, and why where it failed
    List {
        #[command(flatten)]
        config: ConfigPath,
        /// Only those in this state
        #[arg(long, value_enum)]
        state: Option<State>,
        /// How many
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Shows one event as LINE sent it; it may hold what people wrote
    Show {
        #[command(flatten)]
        config: ConfigPath,
        /// LINE's webhookEventId
        id: String,
    },
    /// Has a parked event handled again, once its cause is mended
    Retry {
        #[command(flatten)]
        config: ConfigPath,
        /// LINE's webhookEventId
        #[arg(required_unless_present = "all")]
        id: Option<String>,
        /// All that are parked
        #[arg(long, conflicts_with = "id")]
        all: bool,
    },
}

pub async fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::List { config, state, limit } => list(config, state, limit).await,
        Command::Show { config, id } => show(config, &id).await,
        Command::Retry { config, id, all: _ } => {
            let retried = events::retry(&open(config).await?, id.as_deref()).await?;
            say(&format!("events that will be handled again: {retried}"));
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn list(path: ConfigPath, state: Option<State>, limit: u32) -> Result<ExitCode, Failure> {
    let app = open(path).await?;
    let rows = events::list(&mut *app.db.conn().await?, state, limit).await?;
    for row in &rows {
        let note = row.note.as_deref().unwrap_or_default();
        let line = format!(
            "{}  {:<8}{:<2}  {:<18}{}  {}  {note}",
            when(row.received_at),
            row.state,
            row.attempts,
            row.kind,
            row.id,
            row.channel
        );
        say(line.trim_end());
    }
    if rows.is_empty() {
        explain("no such events");
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(path: ConfigPath, id: &str) -> Result<ExitCode, Failure> {
    let app = open(path).await?;
    let shown = events::show(&mut *app.db.conn().await?, id).await?;
    if shown.is_empty() {
        return Err(format!("there is no event {id:?}").into());
    }
    for (row, json) in shown {
        let (kind, at) = (&row.kind, when(row.at));
        say(&format!("{}: {kind} at {at}, {} after {} tries", row.id, row.state, row.attempts));
        if let Some(note) = &row.note {
            say(&format!("why: {note}"));
        }
        match json {
            Some(json) => say(&serde_json::to_string_pretty(&json)?),
            None => say("what it said is no longer kept"),
        }
    }
    Ok(ExitCode::SUCCESS)
}
