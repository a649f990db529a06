//! The server of a measurement: this program again, on its own core.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use axum::{Router, body::Bytes, http::HeaderMap, http::StatusCode, routing::post};
use musubi::{
    app::{App, Clock},
    config::Config,
    db::Db,
    line::webhook::Signature,
    log, routes,
    serve::{listener, metrics},
};
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub const SECRET: &str = "0a9b8c7d6e5f40312233445566778899";

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A bare axum handler that reads the body.
    Noop,
    /// It also checks the signature.
    Hmac,
    /// The application, given bodies without events: all but the storing.
    Unstored,
    Sqlite,
    Postgres,
}

impl Target {
    pub const ALL: [Self; 5] = [Self::Noop, Self::Hmac, Self::Unstored, Self::Sqlite, Self::Postgres];

    pub fn name(self) -> &'static str {
        match self {
            Self::Noop => "no-op",
            Self::Hmac => "+ HMAC",
            Self::Unstored => "unstored",
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }
}

/// A running server; ended with its handle.
pub struct Server {
    pub address: SocketAddr,
    metrics: Option<SocketAddr>,
    child: Child,
}

impl Server {
    /// Starts a target on core 0 with a store of its own.
    pub fn start(target: Target, folder: &Path, round: usize) -> Self {
        let database = match target {
            Target::Noop | Target::Hmac => String::new(),
            Target::Unstored => format!("sqlite://{}/empty-{round}.db", folder.display()),
            Target::Sqlite => format!("sqlite://{}/{round}.db", folder.display()),
            Target::Postgres => fresh_database(round),
        };
        let mut child = Command::new("taskset")
            .args(["-c", "0"])
            .arg(std::env::current_exe().unwrap())
            .args(["--serve", target.name(), &database])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut address = || lines.next().unwrap().unwrap().parse().ok();
        Self { address: address().unwrap(), metrics: address(), child }
    }

    /// Seconds of CPU used so far.
    pub fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        ticks as f64 / 100.0
    }

    pub fn peak_mb(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    /// Commits of the intake so far.
    pub fn commits(&self) -> f64 {
        let Some(address) = self.metrics else { return 0.0 };
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        std::io::Write::write_all(&mut stream, b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
        let line = text.lines().find(|line| line.starts_with("musubi_webhook_commits_total"));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn fresh_database(round: usize) -> String {
    let url = std::env::var("MUSUBI_LOAD_POSTGRES").expect("run tests/load/run");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.unwrap();
        for statement in
            [format!("DROP DATABASE IF EXISTS load_{round} WITH (FORCE)"), format!("CREATE DATABASE load_{round}")]
        {
            sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
        }
    });
    url.replace("/postgres", &format!("/load_{round}"))
}

/// The other process: serves until it is killed.
#[tokio::main]
pub async fn serve(target: &str, database: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    match target {
        "no-op" => {
            println!();
            let router = Router::new().route("/webhook/main", post(async |_: Bytes| StatusCode::OK));
            axum::serve(listener, router).await.unwrap();
        }
        "+ HMAC" => {
            println!();
            axum::serve(listener, Router::new().route("/webhook/main", post(signed))).await.unwrap();
        }
        _ => application(listener, database).await,
    }
}

async fn signed(headers: HeaderMap, body: Bytes) -> StatusCode {
    let signature = headers.get("x-line-signature").and_then(|value| Signature::parse(value.to_str().ok()?));
    let secret = SecretString::from(SECRET);
    if signature.is_some_and(|signature| signature.is_of(&body, &secret)) {
        StatusCode::OK
    } else {
        StatusCode::UNAUTHORIZED
    }
}

/// The application as it serves people, its log included; only the workers do not run.
async fn application(listener: TcpListener, database: &str) {
    log::start(log::Format::Json);
    let db = Db::connect(database).await.unwrap();
    db.migrate().await.unwrap();
    let app = App::new(config(database), db, Clock::default()).unwrap();
    let stop = CancellationToken::new();
    let watching = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", watching.local_addr().unwrap());
    tokio::spawn(listener::serve(watching, metrics::router(&app), listener::Limits::default(), stop.clone()));
    listener::serve(listener, routes::router(&app), listener::Limits::default(), stop).await;
}

fn config(database: &str) -> Config {
    let text = format!(
        r#"
        public_url = "https://members.example.jp"
        database_url = "{database}"
        company = "Load"

        [security]
        sealing_key = "load"
        sealing_keys = {{ load = "yVqOczA5k8UOOBIL+mBfzBQ3UWTa8xu8jd/Cjvkp60g=" }}

        [provider.main]

        [channel.main]
        provider = "main"
        channel_id = "1000000002"
        channel_secret = "{SECRET}"
        "#
    );
    Config::parse("load", &text, Vec::new()).unwrap()
}
