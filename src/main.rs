//! The command line: one short function per command.

use std::{io::IsTerminal, net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand, ValueEnum};
use musubi::{
    app::{App, Clock},
    config::Config,
    db::Db,
    demo, doctor, serve,
};
use secrecy::ExposeSecret;
use tracing_subscriber::EnvFilter;

/// Ties people's LINE accounts to the member accounts they hold with a company.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    /// Log format: text for people, json for machines
    #[arg(long, global = true, value_enum, default_value = "text")]
    log: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
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
    },
    /// Plays the LINE Platform, for development; knows the channels of the configuration
    Simulator {
        #[command(flatten)]
        config: ConfigPath,
        /// Where it listens; loopback unless told otherwise
        #[arg(long, default_value = "127.0.0.1:8081")]
        listen: SocketAddr,
        /// Takes mails here (SMTP) and shows them at /_sim/mailbox; without it there is no mailbox
        #[arg(long)]
        mail_listen: Option<SocketAddr>,
        /// Keeps its state in this folder; without it everything is forgotten at the end
        #[arg(long)]
        data: Option<PathBuf>,
    },
    /// Brings the database's schema up to date
    Migrate {
        #[command(flatten)]
        config: ConfigPath,
    },
    /// Checks what going live needs, and says what to mend
    Doctor {
        #[command(flatten)]
        config: ConfigPath,
    },
}

#[derive(clap::Args)]
struct ConfigPath {
    /// The configuration file; every key can be overridden by MUSUBI__SECTION__KEY
    #[arg(long = "config", env = "MUSUBI_CONFIG", value_name = "FILE")]
    path: Option<PathBuf>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(cli.log);
    match run(cli.command).await {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Demo(options) => demo::run(options).await.map(|()| ExitCode::SUCCESS),
        Command::Serve { config, role } => {
            serve::run(Config::load(config.path.as_deref())?, role).await.map(|()| ExitCode::SUCCESS)
        }
        Command::Simulator { config, listen, mail_listen, data } => {
            let config = Config::load(config.path.as_deref())?;
            demo::run_simulator(&config, listen, mail_listen, data).await.map(|()| ExitCode::SUCCESS)
        }
        Command::Migrate { config } => migrate(&Config::load(config.path.as_deref())?).await,
        Command::Doctor { config } => doctor(config).await,
    }
}

async fn migrate(config: &Config) -> Result<ExitCode, Failure> {
    let db = Db::connect(config.database_url.expose_secret()).await?;
    db.migrate().await?;
    say("the schema is up to date");
    Ok(ExitCode::SUCCESS)
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

/// `RUST_LOG` chooses what is logged; standard error, so that a command's own output stays clean.
fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn"));
    let colours = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    match format {
        LogFormat::Text => builder.compact().init(),
        LogFormat::Json => builder.json().init(),
    }
}

#[expect(clippy::print_stdout, reason = "a command's answer")]
fn say(line: &str) {
    println!("{line}");
}

#[expect(clippy::print_stderr, reason = "why a command failed")]
fn report(error: &Failure) {
    let mut told = error.to_string();
    eprintln!("musubi: {told}");
    let mut source = error.source();
    while let Some(cause) = source {
        // Many errors repeat their cause in their own words.
        let words = cause.to_string();
        if !told.contains(&words) {
            eprintln!("  because: {words}");
            told = words;
        }
        source = cause.source();
    }
}
