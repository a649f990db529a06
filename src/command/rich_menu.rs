//! `musubi rich-menu plan|apply|list|explain`.

use std::process::ExitCode;

use clap::Subcommand;
use musubi::rich_menu::{self, command as menus};

use super::{ConfigPath, Failure, open, say};

#[derive(Subcommand)]
pub enum Command {
    /// Prints the difference between the files, what was applied and what LINE has; changes nothing
    ///
    /// What begins with + is made, with ~ changes, with - is deleted in the end, with = stays; what is not Musubi's is left
    /// alone. Every mistake in the files is told with file and line. Ends with 0, or with 1 where there is a mistake.
    Plan {
        #[command(flatten)]
        config: ConfigPath,
        #[command(flatten)]
        options: menus::Options,
        /// Ends with 2 where there is a difference
        #[arg(long)]
        check: bool,
    },
    /// Brings the files to LINE: menus, images, aliases, the default, then the people; deletes former menus last
    ///
    /// Ended anywhere, the former menus work on, and this goes on where it stopped when it is run again. Where LINE's
    /// calls of an hour are used up, it ends with 1 and says when there are more.
    Apply {
        #[command(flatten)]
        config: ConfigPath,
        #[command(flatten)]
        options: menus::Options,
    },
    /// Lists the menus at LINE: id, menu, aliases, whether it is the default, and how many people were given it
    List {
        #[command(flatten)]
        config: ConfigPath,
        #[command(flatten)]
        options: menus::Options,
    },
    /// Says which menu a member sees on each channel, by which rule, and whether LINE was told
    Explain {
        #[command(flatten)]
        config: ConfigPath,
        /// The company's id of the member, ours, or their e-mail address
        member: String,
    },
}

pub async fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Plan { config, options, check } => {
            let planned = menus::plan(&open(config).await?, &options).await?;
            planned.lines.iter().for_each(|line| say(line));
            return Ok(if check && planned.differs { ExitCode::from(2) } else { ExitCode::SUCCESS });
        }
        Command::Apply { config, options } => {
            menus::apply(&open(config).await?, &options, &mut say).await?;
        }
        Command::List { config, options } => {
            menus::list(&open(config).await?, &options).await?.iter().for_each(|line| say(line));
        }
        Command::Explain { config, member } => {
            let told = rich_menu::explain(&open(config).await?, &member).await?;
            told.ok_or_else(|| format!("there is no member {member:?}"))?.iter().for_each(|line| say(line));
        }
    }
    Ok(ExitCode::SUCCESS)
}
