//! The command line: one short function per command.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use musubi::{
    api,
    app::{App, Clock},
    config::Config,
    db::{Db, Millis},
    demo, doctor, import, key,
    link::{self, attempt::command as attempt},
    log,
    member::{
        self,
        disabling::{self, Outcome},
    },
    message::{
        self,
        hold::{Verdict, command as hold},
        template::command as template,
    },
    rich_menu::command as rich_menu,
    seal, serve,
    webhook::command,
};
use secrecy::ExposeSecret;

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
        command: MemberCommand,
    },
    /// Imports links from another system
    Link {
        #[command(subcommand)]
        command: LinkCommand,
    },
    /// Shows what became of LINE's events, and has failed ones handled again
    Events {
        #[command(subcommand)]
        command: EventsCommand,
    },
    /// Shows people's tries to sign in or link through LINE, and how each ended
    Attempts {
        #[command(subcommand)]
        command: AttemptsCommand,
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
        command: OutboxCommand,
    },
    /// Checks what going live needs, and says what to mend
    Doctor {
        #[command(flatten)]
        config: ConfigPath,
    },
    /// Checks message templates, and shows what they give
    Template {
        #[command(subcommand)]
        command: TemplateCommand,
    },
    /// Compares the rich menu files with LINE, brings them there, and lists what is there
    RichMenu {
        #[command(subcommand)]
        command: RichMenuCommand,
    },
    /// Makes, lists and revokes the keys by which your systems call the HTTP API
    ApiKey {
        #[command(subcommand)]
        command: ApiKeyCommand,
    },
    /// Makes sealing keys, and changes from one to another
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
}

#[derive(Subcommand)]
enum AttemptsCommand {
    /// Lists the newest tries of a member: when, how, in which browsers, how far, what happened, and what to do
    List {
        #[command(flatten)]
        config: ConfigPath,
        #[command(flatten)]
        which: attempt::Which,
        /// How many
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
}

#[derive(Subcommand)]
enum EventsCommand {
    /// Lists the newest events: time, state, tries, type, id, and why where it failed
    List {
        #[command(flatten)]
        config: ConfigPath,
        /// Only those in this state
        #[arg(long, value_enum)]
        state: Option<command::State>,
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

#[derive(Subcommand)]
enum OutboxCommand {
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

#[derive(Subcommand)]
enum RichMenuCommand {
    /// Prints the difference between the files, what was applied and what LINE has; changes nothing
    ///
    /// What begins with + is made, with ~ changes, with - is deleted in the end, with = stays; what is not Musubi's is left
    /// alone. Every mistake in the files is told with file and line. Ends with 0, or with 1 where there is a mistake.
    Plan {
        #[command(flatten)]
        config: ConfigPath,
        #[command(flatten)]
        options: rich_menu::Options,
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
        options: rich_menu::Options,
    },
    /// Lists the menus at LINE: id, menu, aliases, whether it is the default, and how many people were given it
    List {
        #[command(flatten)]
        config: ConfigPath,
        #[command(flatten)]
        options: rich_menu::Options,
    },
    /// Says which menu a member sees on each channel, by which rule, and whether LINE was told
    Explain {
        #[command(flatten)]
        config: ConfigPath,
        /// The company's id of the member, ours, or their e-mail address
        member: String,
    },
}

#[derive(Subcommand)]
enum TemplateCommand {
    /// Names every mistake of every file, with its place; ends with 1 where there is one
    Check {
        #[command(flatten)]
        templates: Templates,
        /// Only the files of this name
        name: Option<String>,
    },
    /// Prints the message objects of a template, and says what LINE would not take; ends with 1 then
    Render {
        #[command(flatten)]
        templates: Templates,
        /// Name of the template, as in welcome
        name: String,
        /// JSON file of the data; - reads it from standard input
        #[arg(long, value_name = "FILE")]
        data: PathBuf,
        /// en, ja, th or zh-TW; the installation's default without it
        #[arg(long)]
        locale: Option<String>,
    },
}

/// Where the templates are: beside the shipped ones, a folder, or the one that the configuration names.
#[derive(clap::Args)]
struct Templates {
    #[command(flatten)]
    config: ConfigPath,
    /// The folder of the company's templates; the configuration is not read then
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

#[derive(Subcommand)]
enum KeyCommand {
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

#[derive(Subcommand)]
enum ApiKeyCommand {
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

#[derive(Subcommand)]
enum MemberCommand {
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

#[derive(Subcommand)]
enum LinkCommand {
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
        Command::Member { command: MemberCommand::Disable { config, email } } => disable(config, &email).await,
        Command::Member { command: MemberCommand::Enable { config, email } } => enable(config, &email).await,
        Command::Member { command: MemberCommand::Import { config, options } } => {
            let ended = member::import::run(&open(config).await?, &options, &mut note).await?;
            Ok(told(&ended))
        }
        Command::Link { command: LinkCommand::Import { config, options } } => {
            let ended = link::import::run(&open(config).await?, &options, &mut note).await?;
            Ok(told(&ended))
        }
        Command::Send { config, options } => send(config, &options).await,
        Command::Outbox { command } => outbox(command).await,
        Command::Doctor { config } => doctor(config).await,
        Command::Events { command: EventsCommand::List { config, state, limit } } => {
            list_events(config, state, limit).await
        }
        Command::Events { command: EventsCommand::Show { config, id } } => show_event(config, &id).await,
        Command::Events { command: EventsCommand::Retry { config, id, all: _ } } => {
            let retried = command::retry(&open(config).await?, id.as_deref()).await?;
            say(&format!("events that will be handled again: {retried}"));
            Ok(ExitCode::SUCCESS)
        }
        Command::Attempts { command: AttemptsCommand::List { config, which, limit } } => {
            list_attempts(config, &which, limit).await
        }
        Command::Template { command: TemplateCommand::Check { templates, name } } => {
            check_templates(&templates, name.as_deref())
        }
        Command::Template { command: TemplateCommand::Render { templates, name, data, locale } } => {
            render_template(&templates, &name, &data, locale.as_deref())
        }
        Command::RichMenu { command } => rich_menu(command).await,
        Command::ApiKey { command } => api_key(command).await,
        Command::Key { command: KeyCommand::New } => new_key(),
        Command::Key { command: KeyCommand::Rotate { config } } => rotate_keys(config).await,
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

/// The application, beside a server that may be running.
async fn open(path: ConfigPath) -> Result<App, Failure> {
    let config = Config::load(path.path.as_deref())?;
    let db = Db::connect(config.database_url.expose_secret()).await?;
    db.check_schema().await?;
    Ok(App::new(config, db, Clock::default())?)
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

fn told(ended: &import::Ended) -> ExitCode {
    ended.lines.iter().for_each(|line| say(line));
    ExitCode::from(ended.code())
}

async fn outbox(command: OutboxCommand) -> Result<ExitCode, Failure> {
    let lines = match command {
        OutboxCommand::Held { config, limit } => hold::held(&open(config).await?, limit).await?,
        OutboxCommand::Release { config, which } => {
            hold::decide(&open(config).await?, &which, Verdict::Release).await?
        }
        OutboxCommand::Cancel { config, which } => hold::decide(&open(config).await?, &which, Verdict::Cancel).await?,
    };
    lines.iter().for_each(|line| say(line));
    Ok(ExitCode::SUCCESS)
}

async fn rich_menu(command: RichMenuCommand) -> Result<ExitCode, Failure> {
    match command {
        RichMenuCommand::Plan { config, options, check } => {
            let planned = rich_menu::plan(&open(config).await?, &options).await?;
            planned.lines.iter().for_each(|line| say(line));
            return Ok(if check && planned.differs { ExitCode::from(2) } else { ExitCode::SUCCESS });
        }
        RichMenuCommand::Apply { config, options } => {
            rich_menu::apply(&open(config).await?, &options, &mut say).await?;
        }
        RichMenuCommand::List { config, options } => {
            rich_menu::list(&open(config).await?, &options).await?.iter().for_each(|line| say(line));
        }
        RichMenuCommand::Explain { config, member } => {
            let told = musubi::rich_menu::explain(&open(config).await?, &member).await?;
            told.ok_or_else(|| format!("there is no member {member:?}"))?.iter().for_each(|line| say(line));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn api_key(command: ApiKeyCommand) -> Result<ExitCode, Failure> {
    match command {
        ApiKeyCommand::Create { config, options } => {
            say(&api::command::create(&open(config).await?, &options).await?);
            explain("This is the key. It is shown this once: keep it as you keep passwords.");
        }
        ApiKeyCommand::List { config } => {
            api::command::list(&open(config).await?).await?.iter().for_each(|line| say(line));
        }
        ApiKeyCommand::Revoke { config, id } => {
            if !api::key::revoke(&open(config).await?, &id).await? {
                return Err(format!("there is no key {id:?} that could be revoked").into());
            }
            say(&format!("{id} is revoked"));
        }
    }
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

async fn list_events(path: ConfigPath, state: Option<command::State>, limit: u32) -> Result<ExitCode, Failure> {
    let app = open(path).await?;
    let rows = command::list(&mut *app.db.conn().await?, state, limit).await?;
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

async fn list_attempts(path: ConfigPath, which: &attempt::Which, limit: u32) -> Result<ExitCode, Failure> {
    let told = attempt::list(&open(path).await?, which, limit).await?;
    let lines = told.ok_or_else(|| format!("there is no member {:?}", which.member.as_deref().unwrap_or_default()))?;
    lines.iter().for_each(|line| say(line));
    if lines.is_empty() {
        explain("no such attempts are kept");
    }
    Ok(ExitCode::SUCCESS)
}

fn check_templates(templates: &Templates, name: Option<&str>) -> Result<ExitCode, Failure> {
    let report = template::check(templates.place()?.folder.as_deref(), name)?;
    report.lines.iter().for_each(|line| say(line));
    Ok(if report.is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn render_template(templates: &Templates, name: &str, data: &Path, locale: Option<&str>) -> Result<ExitCode, Failure> {
    let text = if data == Path::new("-") {
        io::read_to_string(io::stdin())?
    } else {
        std::fs::read_to_string(data).map_err(|error| format!("{}: {error}", data.display()))?
    };
    let shown = template::show(&templates.place()?, name, &text, locale)?;
    say(&shown.messages);
    if shown.breaches.is_empty() {
        explain("within LINE's limits");
        return Ok(ExitCode::SUCCESS);
    }
    explain("LINE would not take this:");
    shown.breaches.iter().for_each(|breach| note(&format!("✗ {breach}")));
    Ok(ExitCode::FAILURE)
}

impl Templates {
    /// Without folder and configuration there are the shipped templates alone.
    fn place(&self) -> Result<template::Place, Failure> {
        match &self.config.path {
            Some(path) if self.folder.is_none() => Ok(template::Place::of(&Config::load(Some(path))?)?),
            _ => Ok(template::Place { folder: self.folder.clone(), ..Default::default() }),
        }
    }
}

/// A time for an operator, to the millisecond, in UTC.
fn when(time: Millis) -> String {
    jiff::Timestamp::from_millisecond(time.0).map_or_else(|_| time.to_string(), |time| format!("{time:.3}"))
}

async fn show_event(path: ConfigPath, id: &str) -> Result<ExitCode, Failure> {
    let app = open(path).await?;
    let shown = command::show(&mut *app.db.conn().await?, id).await?;
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

/// The key alone on standard output, so that it can be sent to a file.
fn new_key() -> Result<ExitCode, Failure> {
    say(&seal::new_key()?);
    explain(&key::instructions(Clock::default().now()));
    Ok(ExitCode::SUCCESS)
}

async fn rotate_keys(path: ConfigPath) -> Result<ExitCode, Failure> {
    let config = Config::load(path.path.as_deref())?;
    let db = Db::connect(config.database_url.expose_secret()).await?;
    db.check_schema().await?;
    let report = key::rotate(&App::new(config, db, Clock::default())?).await?;
    report.lines.iter().for_each(|line| say(line));
    Ok(if report.is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A command's answer. Whoever reads it may go away, as `| head` does: that is no reason to stop. An answer that is
/// lost otherwise is, as on a full disk.
fn say(line: &str) {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            note(&format!("musubi: the answer cannot be written: {error}"));
            std::process::exit(1);
        }
        _ => {}
    }
}

/// Beside the answer, which may be on its way to a file.
fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// What to do with a command's answer.
fn explain(text: &str) {
    note(&format!("\n{text}"));
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
