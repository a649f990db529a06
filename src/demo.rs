//! `musubi demo`: the application, the simulator and some people, on one machine, with one command.
//!
//! The application is served on `localhost` and the simulator on `127.0.0.1`, so that they are two sites to
//! a browser, as in life. Both sides keep their state in one folder; a second start goes on where the first ended.

mod config;
mod menus;
pub mod simulator;

use std::{
    env, fs,
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use axum::{
    Router,
    body::Body,
    http::{Request, header},
};
use jiff::ToSpan;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{
    api::key,
    app::{App, Clock},
    config::Config,
    db::{Db, Millis},
    member::{self, company, guard::Scope},
    serve::{self, Role},
    simulator::{Host, Simulator},
};

/// The seeded members sign in with this; the demo listens on loopback only.
pub const PASSWORD: &str = "musubi-demo";
/// Beside the configuration.
const DATA: &str = "reminder.json";
const API_KEY: &str = "api-key";
const MEMBERS: [Seed; 2] = [
    Seed { id: "1001", email: "hanako@example.com", name: "Hanako Yamada", tier: "regular", tags: &["newsletter"] },
    Seed { id: "1002", email: "taro@example.com", name: "Taro Suzuki", tier: "gold", tags: &["newsletter"] },
];
/// Name, language, and the picture that the simulator serves.
const PEOPLE: [(&str, &str, &str); 2] = [("はなこ", "ja", "person-1.svg"), ("Taro", "en", "person-2.svg")];

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Keeps the demo's configuration, database and simulator in this folder
    #[arg(long, default_value = "musubi-demo")]
    pub data: PathBuf,
    /// The application's port on localhost
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// The simulator's port on 127.0.0.1
    #[arg(long, default_value_t = 8081)]
    pub simulator_port: u16,
}

/// A member that the demo begins with, known to the company as `id`.
struct Seed {
    id: &'static str,
    email: &'static str,
    name: &'static str,
    /// An attribute of that name: the rich menus go by it.
    tier: &'static str,
    tags: &'static [&'static str],
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Plays until SIGTERM or SIGINT.
pub async fn run(options: Options) -> Result<(), Failure> {
    let stop = serve::stop_on_signal()?;
    let demo = start(&options, stop.clone()).await?;
    say(&demo.welcome());
    demo.play(stop).await
}

/// A demo that listens already.
pub struct Demo {
    pub app: App,
    pub app_url: String,
    pub simulator_url: String,
    pub config_file: PathBuf,
    simulator: Simulator,
    listener: TcpListener,
    _lock: crate::db::ServeLock,
}

/// Prepares everything; ports may be 0, which takes free ones.
pub async fn start(options: &Options, stop: CancellationToken) -> Result<Demo, Failure> {
    fs::create_dir_all(&options.data)?;
    // First of all, so that a second demo changes nothing under a running one.
    let db = Db::connect(&config::database_url(&options.data)?).await?;
    let lock = db.lock_for_serve()?;
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = serve::listen(local(options.port), "--port").await?;
    let simulator_listener = serve::listen(local(options.simulator_port), "--simulator-port").await?;
    let app_url = format!("http://localhost:{}", listener.local_addr()?.port());
    let simulator_url = format!("http://{}", simulator_listener.local_addr()?);
    let config_file = options.data.join("musubi.toml");
    let mail_listener = TcpListener::bind(local(0)).await?;
    let mail_url = format!("smtp://{}", mail_listener.local_addr()?);
    let places =
        config::Places { listen: listener.local_addr()?, app: &app_url, simulator: &simulator_url, mail: &mail_url };
    menus::write(&options.data)?;
    config::write(&config_file, &options.data, &places)?;
    let config = Config::load(Some(&config_file))?;

    let simulator = simulator::open(&config, Some(options.data.clone()))?;
    // By address: `localhost` may be another one, where nobody listens.
    simulator::use_webhooks(&simulator, &config, &format!("http://{}", listener.local_addr()?));
    let played = simulator.router(Host::All);
    seed_people(&played, &simulator_url).await?;
    tokio::spawn(simulator.clone().serve_mail(mail_listener));
    tokio::spawn(async move {
        axum::serve(simulator_listener, played).with_graceful_shutdown(stop.cancelled_owned()).await
    });

    db.migrate().await?;
    let app = App::new(config, db, Clock::default())?;
    seed_members(&app).await?;
    write_data(&options.data.join(DATA), app.now())?;
    write_api_key(&options.data.join(API_KEY), &app).await?;
    Ok(Demo { app, app_url, simulator_url, config_file, simulator, listener, _lock: lock })
}

impl Demo {
    pub async fn play(self, stop: CancellationToken) -> Result<(), Failure> {
        serve::run_until(&self.app, Role::All, Some(self.listener), stop).await?;
        Ok(self.simulator.save()?)
    }

    fn welcome(&self) -> String {
        let member = |seed: &Seed| {
            let Seed { id, email, tier, tags, .. } = seed;
            let tags = tags.join(", ");
            format!("    {email:<20} password: {PASSWORD}   company's id: {id}   tier: {tier:<8} tags: {tags}\n")
        };
        format!(
            "\nMusubi is playing on this machine.\n\n\
             \x20 Members' pages   {}\n\
             \x20 LINE (simulator) {}/_sim/\n\
             \x20 Mailbox          {}/_sim/mailbox\n\
             \x20 Configuration    {}\n\n\
             \x20 Sign in as a member:\n{}\n\
             \x20 Then link a LINE account on the account page, and watch its phone in the simulator.\n\n\
             \x20 Send something to those who are linked, from another terminal:\n\
             \x20   {}\n\n\
             \x20 Make Hanako a gold member, as your systems would, and see the menu of her phone change:\n\
             \x20   {}\n\n\
             \x20 Stop with Ctrl-C; a second start goes on from here.\n",
            self.app_url,
            self.simulator_url,
            self.simulator_url,
            self.config_file.display(),
            MEMBERS.iter().map(member).collect::<String>(),
            self.send_command(),
            self.gold_command(),
        )
    }

    /// The same: what a system of the company's would send.
    fn gold_command(&self) -> String {
        let key = quoted(&self.config_file.with_file_name(API_KEY).display().to_string());
        let [hanako, _] = MEMBERS;
        format!(
            "curl -X PUT {}/api/v1/members/{} -H \"Authorization: Bearer $(cat {key})\" \
             -H 'Content-Type: application/json' -d '{{\"attributes\": {{\"tier\": \"gold\"}}}}'",
            self.app_url, hanako.id,
        )
    }

    /// A command that works as it is printed, where the demo was started.
    fn send_command(&self) -> String {
        let program = env::args_os().next().map_or_else(|| PathBuf::from("musubi"), PathBuf::from);
        let data = self.config_file.with_file_name(DATA);
        let [program, config, data] =
            [&program, &self.config_file, &data].map(|path| quoted(&path.display().to_string()));
        format!("{program} send --config {config} --tag newsletter --template reminder --data {data}")
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@".contains(c);
    if word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// What the printed command fills the template `reminder` with, where there is none yet: an evening two days ahead.
fn write_data(file: &Path, now: Millis) -> Result<(), Failure> {
    if file.exists() {
        return Ok(());
    }
    let day =
        jiff::Timestamp::from_millisecond(now.0)?.to_zoned(jiff::tz::TimeZone::UTC).date().saturating_add(2.days());
    let data = serde_json::json!({
        "company": "Musubi Demo",
        "title": "Dinner for two",
        "at": format!("{day}T18:30"),
        "place": "Musubi Dining, Meguro",
        "note": "Please tell us if you cannot come.",
        "url": "https://example.com/bookings/1042",
    });
    Ok(fs::write(file, serde_json::to_string_pretty(&data)? + "\n")?)
}

/// Makes the key by which the printed command calls the API, where there is none yet.
async fn write_api_key(file: &Path, app: &App) -> Result<(), Failure> {
    if file.exists() {
        return Ok(());
    }
    let key = key::New {
        name: "the demo's command",
        scopes: &[Scope::MembersWrite],
        providers: &[],
        expires_at: None,
        per_minute: NonZeroU32::MAX,
    };
    Ok(fs::write(file, key::create(app, &key).await? + "\n")?)
}

async fn seed_members(app: &App) -> Result<(), Failure> {
    for Seed { id, email, name, tier, tags } in MEMBERS {
        let mut tx = app.db.begin().await?;
        if member::find_by_email_key(&mut tx, email).await?.is_none() {
            let password_hash = member::password::hash(app, PASSWORD).await?;
            let new = member::New {
                email,
                email_key: email,
                name,
                password_hash: Some(&password_hash),
                locale: None,
                source: "company",
            };
            if let Some(member_id) = member::insert(&mut tx, app.now(), &new).await? {
                member::set_external_id(&mut tx, &member_id, id).await?;
                let attributes = [("tier".to_owned(), tier.into())].into_iter().collect();
                let tags = Some(tags.iter().map(|tag| (*tag).to_owned()).collect());
                let said = company::Said { attributes, tags, ..company::Said::default() };
                let wanted = company::check(id, said).map_err(|mistakes| format!("{mistakes:?}"))?;
                let by = company::By { what: "demo", id: "seed" };
                company::upsert(&mut tx, app, &[wanted], by).await?;
            }
        }
        tx.commit().await?;
    }
    Ok(())
}

/// Makes the first LINE users, where the simulator has none.
async fn seed_people(simulator: &Router, simulator_url: &str) -> Result<(), Failure> {
    let answer = simulator.clone().oneshot(Request::get("/_sim/users").body(Body::empty())?).await?;
    let body = axum::body::to_bytes(answer.into_body(), 1024 * 1024).await?;
    let users: serde_json::Value = serde_json::from_slice(&body)?;
    let known = users.as_array().or_else(|| users.get("users")?.as_array()).is_some_and(|users| !users.is_empty());
    if known {
        return Ok(());
    }
    for (name, language, picture) in PEOPLE {
        let picture = format!("{simulator_url}/_sim/static/{picture}");
        let person = serde_json::json!({ "display_name": name, "language": language, "picture_url": picture });
        let request = Request::post("/_sim/users")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(person.to_string()))?;
        simulator.clone().oneshot(request).await?;
    }
    Ok(())
}

/// To the person who started it, who may be gone.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}
