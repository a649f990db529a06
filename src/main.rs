//! The command line: one short function per command; those with commands of their own are in [`command`].

mod command;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use musubi::{
    app::{App, Clock},
    config::Config,
    db::Db,
    demo, doctor, log, message, serve,
};
use secrecy::ExposeSecret;

use command::{ConfigPath, Failure, explain, note, open, say};

/// Ties people's LINE accounts to the member accounts they hold with a company.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    /// Log format: text for people, json for machines
    #[arg(long, global = true, value_enum, default_value = "text")]
    log: log::Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Plays everything on this machine: the application, and a simulator of LINE; no LINE channel needed
    Demo(demo::Options),
    /// Serves members and does the work behind
    Serve {
        #[command(flatten)]
        config: ConfigPath,
        /// What this process does; SQLite needs `all`
        #[arg(long, value_enum, default_value = "all")]
        role: serve::Role,
        /// Holds back what waits to be sent, for `musubi outbox`: after a restore or a failover
        ///
        /// What waits in an old database may have been sent since. A database that no server worked on for an hour is
        /// held without this too. What is accepted after the start goes its way.
        #[arg(long)]
        hold_outbox: bool,
    },
    /// Plays the LINE Platform, for development; knows the channels of the configuration
    Simulator {
        #[command(flatten)]
        config: ConfigPath,
        #[command(flatten)]
        options: demo::simulator::Options,
    },
    /// Brings the database's schema up to date
    Migrate {
        #[command(flatten)]
        config: ConfigPath,
    },
    /// Cuts a member off, lets them in again, or imports members
    Member {
        #[command(subcommand)]
        command: command::member::Command,
    },
    /// Imports links from another system
    Link {
        #[command(subcommand)]
        command: command::link::Command,
    },
    /// Shows what became of LINE's events, and has failed ones handled again
    Events {
        #[command(subcommand)]
        command: command::events::Command,
    },
    /// Shows people's tries to sign in or link through LINE, and how each ended
    Attempts {
        #[command(subcommand)]
        command: command::attempts::Command,
    },
    /// Sends a message to one member, to all with a tag, or to everybody who is linked
    ///
    /// The message is stored, and the worker of a running `serve` sends it. Ended here, that goes on. Ends with 0
    /// when all recipients are queued (with --wait: when all are sent), with 1 when nothing was accepted, with 3 when
    /// nobody works on it, and with 4 when not all were sent.
    Send {
        #[command(flatten)]
        config: ConfigPath,
        #[command(flatten)]
        options: message::command::Options,
    },
    /// Shows and decides what is held back since the database was put back from a backup
    ///
    /// `serve` holds what waits where it is told to (--hold-outbox), or where no server worked on the database for an
    /// hour: it may have been sent by what happened since.
    Outbox {
        #[command(subcommand)]
        command: command::outbox::Command,
    },
    /// Checks what going live needs, and says what to mend
    Doctor {
        #[command(flatten)]
        config: ConfigPath,
    },
    /// Checks message templates, and shows what they give
    Template {
        #[command(subcommand)]
        command: command::template::Command,
    },
    /// Compares the rich menu files with LINE, brings them there, and lists what is there
    RichMenu {
        #[command(subcommand)]
        command: command::rich_menu::Command,
    },
    /// Makes, lists and revokes the keys by which your systems call the HTTP API
    ApiKey {
        #[command(subcommand)]
        command: command::api_key::Command,
    },
    /// Makes sealing keys, and changes from one to another
    Key {
        #[command(subcommand)]
        command: command::key::Command,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command, cli.log).await {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command, format: log::Format) -> Result<ExitCode, Failure> {
    // What `serve` logs may go elsewhere, as its configuration says.
    if !matches!(command, Command::Serve { .. }) {
        log::start(format);
    }
    match command {
        Command::Demo(options) => demo::run(options).await.map(|()| ExitCode::SUCCESS),
        Command::Serve { config, role, hold_outbox } => serve(config, role, hold_outbox, format).await,
        Command::Simulator { config, options } => {
            let config = Config::load(config.path.as_deref())?;
            demo::simulator::run(&config, options).await.map(|()| ExitCode::SUCCESS)
        }
        Command::Migrate { config } => migrate(&Config::load(config.path.as_deref())?).await,
        Command::Member { command } => command::member::run(command).await,
        Command::Link { command } => command::link::run(command).await,
        Command::Send { config, options } => send(config, &options).await,
        Command::Outbox { command } => command::outbox::run(command).await,
        Command::Doctor { config } => doctor(config).await,
        Command::Events { command } => command::events::run(command).await,
        Command::Attempts { command } => command::attempts::run(command).await,
        Command::Template { command } => command::template::run(command),
        Command::RichMenu { command } => command::rich_menu::run(command).await,
        Command::ApiKey { command } => command::api_key::run(command).await,
        Command::Key { command } => command::key::run(command).await,
    }
}

async fn serve(
    path: ConfigPath,
    role: serve::Role,
    hold_outbox: bool,
    format: log::Format,
) -> Result<ExitCode, Failure> {
    let config = Config::load(path.path.as_deref())?;
    match &config.log {
        Some(kept) => {
            log::start_in(format, &kept.folder, kept.keep_days)?;
            explain(&format!("the log is written to {}", kept.folder.display()));
        }
        None => log::start(format),
    }
    serve::run(config, role, hold_outbox).await?;
    Ok(ExitCode::SUCCESS)
}

async fn migrate(config: &Config) -> Result<ExitCode, Failure> {
    let db = Db::connect(config.database_url.expose_secret()).await?;
    db.migrate().await?;
    say("the schema is up to date");
    Ok(ExitCode::SUCCESS)
}

async fn send(path: ConfigPath, options: &message::command::Options) -> Result<ExitCode, Failure> {
    let app = open(path).await?;
    let order = options.order(&app)?;
    if options.dry_run {
        message::command::dry_run(&app, &order).await?.iter().for_each(|line| say(line));
        return Ok(ExitCode::SUCCESS);
    }
    let watch = message::command::Watch::default();
    let end = message::command::send(&app, &order, options.wait, watch, &mut say).await?;
    Ok(ExitCode::from(end.code()))
}

async fn doctor(path: ConfigPath) -> Result<ExitCode, Failure> {
    let config = Config::load(path.path.as_deref())?;
    let db = Db::connect(config.database_url.expose_secret()).await?;
    let app = App::new(config, db, Clock::default())?;
    let findings = doctor::examine(&app).await;
    findings.iter().for_each(|finding| say(&finding.to_string()));
    let healthy = findings.iter().all(doctor::Finding::is_fine);
    say(if healthy { "\nready to go live" } else { "\nnot ready: mend what is marked with ✗" });
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Why a command failed.
fn report(error: &Failure) {
    let mut told = error.to_string();
    note(&format!("musubi: {told}"));
    let mut source = error.source();
    while let Some(cause) = source {
        // Many errors repeat their cause in their own words.
        let words = cause.to_string();
        if !told.contains(&words) {
            note(&format!("  because: {words}"));
            told = words;
        }
        source = cause.source();
    }
}
