//! `musubi link import`.

use std::process::ExitCode;

use clap::Subcommand;
use musubi::link;

use super::{ConfigPath, Failure, note, open, told};

#[derive(Subcommand)]
pub enum Command {
    /// Links members to LINE users as a CSV file says: columns external_id and line_user_id
    ///
    /// The members must be there (see `musubi member import`). Ties that stand are never overwritten: conflicts are
    /// listed by line. Such links can be sent to; at their next sign-in with LINE each person is asked whether both
    /// accounts are theirs, and only their yes lets the link sign them in. LINE is asked whether it knows each user id
    /// as a friend of an official account of the provider; one that it does not know is linked, and sent nothing until
    /// LINE tells of the person. No welcome is sent. Killed, it goes on where it stopped when it is run again. Ends
    /// with 0, or with 4 where rows were refused.
    Import {
        #[command(flatten)]
        config: ConfigPath,
        #[command(flatten)]
        options: link::import::Options,
    },
}

pub async fn run(command: Command) -> Result<ExitCode, Failure> {
    let Command::Import { config, options } = command;
    let ended = link::import::run(&open(config).await?, &options, &mut note).await?;
    Ok(told(&ended))
}
