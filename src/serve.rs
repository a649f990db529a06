//! `musubi serve`: opens the database, listens, works, and stops in order.

pub mod listener;
pub mod metrics;
mod pulse;

use std::{net::SocketAddr, time::Duration};

use clap::ValueEnum;
use secrecy::ExposeSecret;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::listener::Limits;
use crate::{
    app::{App, Clock},
    config::Config,
    db::Db,
    link, message, routes, worker,
};

/// How long open requests and jobs may take to end after the first signal.
const GRACE: Duration = Duration::from_secs(10);
/// How long the database may take to close after that.
const CLOSING: Duration = Duration::from_secs(2);

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    All,
    Web,
    Worker,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Serves until SIGTERM or SIGINT; a second signal ends at once. `hold_outbox`: what waits now is not sent by itself.
pub async fn run(config: Config, role: Role, hold_outbox: bool) -> Result<(), Failure> {
    let url = config.database_url.expose_secret();
    if role != Role::All && url.starts_with("sqlite:") {
        return Err("SQLite serves one process: use --role all, or PostgreSQL for separate roles".into());
    }
    let db = Db::connect(url).await?;
    let _lock = db.lock_for_serve()?;
    db.migrate().await?;
    let app = App::new(config, db, Clock::default())?;
    message::hold::at_start(&app, hold_outbox).await?;
    let metrics = match app.config.metrics_listen {
        Some(address) => Some(listen(address, "metrics_listen in the configuration").await?),
        None => None,
    };
    let listener = match role {
        Role::Worker => None,
        Role::All | Role::Web => Some(listen(app.config.listen, "listen in the configuration").await?),
    };
    let stop = stop_on_signal()?;
    if let Some(metrics) = metrics {
        tracing::info!(listen = %metrics.local_addr()?, "metrics");
        tokio::spawn(listener::serve(metrics, self::metrics::router(&app), Limits::default(), stop.clone()));
    }
    run_until(&app, role, listener, stop).await
}

/// Listens on `address`; where that is not possible, says which `setting` chooses another.
pub async fn listen(address: SocketAddr, setting: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .map_err(|error| format!("{address} cannot be listened on ({error}); choose another with {setting}").into())
}

/// Works, and serves on `listener` where there is one, until `stop`.
pub async fn run_until(
    app: &App,
    role: Role,
    listener: Option<TcpListener>,
    stop: CancellationToken,
) -> Result<(), Failure> {
    // What people agreed to is evidence, and means what they read.
    let changed = link::consent::list_changed(app).await?;
    if !changed.is_empty() {
        return Err(changed.join("; ").into());
    }
    let tasks = TaskTracker::new();
    tasks.spawn(message::hold::beat_by_the_minute(app.clone(), stop.clone()));
    if role != Role::Web {
        worker::prepare(app).await?;
        tracing::info!(channels = app.config.channel.len(), "working");
        tasks.spawn(worker::run(app.clone(), stop.clone()));
    }
    if let Some(listener) = listener {
        tracing::info!(listen = %listener.local_addr()?, public_url = %app.config.public_url, "serving");
        tasks.spawn(listener::serve(listener, routes::router(app), Limits::default(), stop.clone()));
    }
    tasks.close();
    stop.cancelled().await;
    if tokio::time::timeout(GRACE, tasks.wait()).await.is_err() {
        tracing::warn!("some work did not end in time; it will go on after the next start");
    }
    // What did not end may hold a connection.
    let _ = tokio::time::timeout(CLOSING, app.db.close()).await;
    Ok(())
}

/// A token that the first SIGTERM or SIGINT cancels; the second one ends the process.
pub fn stop_on_signal() -> Result<CancellationToken, Failure> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        for round in 0.. {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if round > 0 {
                std::process::exit(1);
            }
            tracing::info!("stopping");
            token.cancel();
        }
    });
    Ok(stop)
}
