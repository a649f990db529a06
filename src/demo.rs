//! `musubi demo`: the application, the simulator and some people, on one machine, with one command.
//!
//! The application is served on `localhost` and the simulator on `127.0.0.1`, so that they are two sites to
//! a browser, as in life. Both sides keep their state in one folder; a second start goes on where the first ended.

pub mod simulator;

use std::{
    env, fs,
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use axum::{
    Router,
    body::Body,
    http::{Request, header},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::ToSpan;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{
    app::{App, Clock},
    config::Config,
    db::{Db, Millis},
    member,
    serve::{self, Role},
    simulator::{Host, Simulator},
};

/// The seeded members sign in with this; the demo listens on loopback only.
pub const PASSWORD: &str = "musubi-demo";
/// Beside the configuration.
const DATA: &str = "reminder.json";
const MEMBERS: [Seed; 2] = [
    Seed { id: "1001", email: "hanako@example.com", name: "Hanako Yamada", tags: &["gold", "newsletter"] },
    Seed { id: "1002", email: "taro@example.com", name: "Taro Suzuki", tags: &["newsletter"] },
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
    let db = Db::connect(&database_url(&options.data)?).await?;
    let lock = db.lock_for_serve()?;
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = serve::listen(local(options.port), "--port").await?;
    let simulator_listener = serve::listen(local(options.simulator_port), "--simulator-port").await?;
    let app_url = format!("http://localhost:{}", listener.local_addr()?.port());
    let simulator_url = format!("http://{}", simulator_listener.local_addr()?);
    let config_file = options.data.join("musubi.toml");
    let mail_listener = TcpListener::bind(local(0)).await?;
    let mail_url = format!("smtp://{}", mail_listener.local_addr()?);
    let places = Places { listen: listener.local_addr()?, app: &app_url, simulator: &simulator_url, mail: &mail_url };
    write_config(&config_file, &options.data, &places)?;
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
    Ok(Demo { app, app_url, simulator_url, config_file, simulator, listener, _lock: lock })
}

impl Demo {
    pub async fn play(self, stop: CancellationToken) -> Result<(), Failure> {
        serve::run_until(&self.app, Role::All, Some(self.listener), stop).await?;
        Ok(self.simulator.save()?)
    }

    fn welcome(&self) -> String {
        let member = |seed: &Seed| {
            let Seed { id, email, tags, .. } = seed;
            format!("    {email:<20} password: {PASSWORD}   company's id: {id}   tags: {}\n", tags.join(", "))
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
             \x20 Stop with Ctrl-C; a second start goes on from here.\n",
            self.app_url,
            self.simulator_url,
            self.simulator_url,
            self.config_file.display(),
            MEMBERS.iter().map(member).collect::<String>(),
            self.send_command(),
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

fn database_url(folder: &Path) -> io::Result<String> {
    Ok(format!("sqlite://{}", fs::canonicalize(folder)?.join("musubi.db").display()))
}

/// Where everything is in this run.
struct Places<'a> {
    listen: SocketAddr,
    app: &'a str,
    simulator: &'a str,
    mail: &'a str,
}

/// Writes the configuration the demo runs with; secrets of an earlier start are kept.
fn write_config(file: &Path, folder: &Path, places: &Places<'_>) -> Result<(), Failure> {
    let Places { listen, app, simulator, mail } = places;
    let former: toml::Table = fs::read_to_string(file).ok().and_then(|text| text.parse().ok()).unwrap_or_default();
    let kept = |path: [&str; 3]| -> Option<&str> {
        former.get(path[0])?.as_table()?.get(path[1])?.as_table()?.get(path[2])?.as_str()
    };
    let secret = || uuid::Uuid::new_v4().simple().to_string();
    let key = || {
        let bytes = [uuid::Uuid::new_v4().into_bytes(), uuid::Uuid::new_v4().into_bytes()].concat();
        STANDARD.encode(bytes)
    };
    let login_secret = former
        .get("provider")
        .and_then(|p| p.get("main")?.get("login")?.get("channel_secret")?.as_str())
        .map_or_else(secret, str::to_owned);
    let bot_secret = kept(["channel", "main", "channel_secret"]).map_or_else(secret, str::to_owned);
    let sealing_key = kept(["security", "sealing_keys", "demo"]).map_or_else(key, str::to_owned);
    let database = database_url(folder)?;
    let line = line_section(simulator);
    let text = format!(
        r#"# Written by `musubi demo`; the secrets are of this machine only.
public_url = "{app}"
listen = "{listen}"
database_url = "{database}"
company = "Musubi Demo"
time_zone = "Asia/Tokyo"
default_locale = "en"

[security]
sealing_key = "demo"
sealing_keys = {{ demo = "{sealing_key}" }}

# Mails go no further than the simulator's mailbox.
[mail]
url = "{mail}"
from = "Musubi Demo <no-reply@example.com>"

# Where a person may be sent who has linked by a ticket: a site of your own that you try things with.
[tickets]
return_urls = ["http://localhost:3000", "http://127.0.0.1:3000"]

{line}
[hooks]
allow_networks = ["127.0.0.0/8", "::1/128"]    # this machine

[provider.main]
label = "LINE"

[provider.main.login]
channel_id = "2000000001"
channel_secret = "{login_secret}"
bot_prompt = "normal"
channel = "main"
liff_id = "2000000001-MusubiLi"

[channel.main]
provider = "main"
channel_id = "2000000002"
channel_secret = "{bot_secret}"
basic_id = "@musubi-demo"
"#
    );
    fs::write(file, text)?;
    Ok(())
}

fn line_section(simulator: &str) -> String {
    format!(
        r#"# LINE, played by the simulator. Without this section the same configuration talks to LINE itself.
[line]
access = "{simulator}"
api = "{simulator}"
api_data = "{simulator}"
liff = "{simulator}"
liff_sdk = "{simulator}/liff/edge/2/sdk.js"
pictures = "{simulator}"
"#
    )
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

async fn seed_members(app: &App) -> Result<(), Failure> {
    for Seed { id, email, name, tags } in MEMBERS {
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
                for tag in tags {
                    member::tag::add(&mut tx, &member_id, tag).await?;
                }
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
