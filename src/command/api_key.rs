//! `musubi api-key create|list|revoke`.

use std::process::ExitCode;

use clap::Subcommand;
use musubi::api;

use super::{ConfigPath, Failure, explain, open, say};

#[derive(Subcommand)]
pub enum Command {
    /// Makes a key, and prints it: it is shown this once
    Create {
        #[command(flatten)]
        config: ConfigPath,
        #[command(flatten)]
        options: api::command::Options,
    },
    /// Lists all keys, the newest first, without their secrets
    List {
        #[command(flatten)]
        config: ConfigPath,
    },
    /// Ends a key at once, on all nodes
    Revoke {
        #[command(flatten)]
        config: ConfigPath,
        /// The key's id, as the list shows it
        id: String,
    },
}

pub async fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Create { config, options } => {
            say(&api::command::create(&open(config).await?, &options).await?);
            explain("This is the key. It is shown this once: keep it as you keep passwords.");
        }
        Command::List { config } => {
            api::command::list(&open(config).await?).await?.iter().for_each(|line| say(line));
        }
        Command::Revoke { config, id } => {
            if !api::key::revoke(&open(config).await?, &id).await? {
                return Err(format!("there is no key {id:?} that could be revoked").into());
            }
            say(&format!("{id} is revoked"));
        }
    }
    Ok(ExitCode::SUCCESS)
}
