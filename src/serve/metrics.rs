//! `/metrics` for Prometheus, on a listener of its own: what it tells is nobody's business outside.

use std::fmt::Write;

use axum::{
    Router,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};

use crate::{
    app::App,
    error::{Error, Result},
    hook,
    message::quota,
    webhook::command::backlog,
};

/// The only route of the listener.
pub fn router(app: &App) -> Router {
    Router::new().route("/metrics", get(show)).with_state(app.clone())
}

async fn show(State(app): State<App>) -> Result<Response> {
    let mut text = app.metrics.encode().map_err(Error::internal)?;
    write_backlog(&app, &mut text).await?;
    write_quotas(&app, &mut text).await?;
    write_hooks(&app, &mut text).await?;
    text.push_str("# EOF\n");
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// What is true of all nodes, and so is read rather than counted.
async fn write_backlog(app: &App, text: &mut String) -> Result<()> {
    let mut conn = app.db.conn().await?;
    let (mut waiting, mut parked, mut lag) = (String::new(), String::new(), String::new());
    for channel in app.config.channel.keys() {
        let backlog = backlog(&mut conn, channel).await?;
        let age = backlog.oldest.map_or(0, |oldest| (app.now().0 - oldest.0).max(0));
        let written = writeln!(waiting, "musubi_events_waiting{{channel=\"{channel}\"}} {}", backlog.waiting)
            .and_then(|()| writeln!(parked, "musubi_events_parked{{channel=\"{channel}\"}} {}", backlog.parked))
            .and_then(|()| {
                writeln!(lag, "musubi_events_lag_seconds{{channel=\"{channel}\"}} {}.{:03}", age / 1000, age % 1000)
            });
        written.map_err(Error::internal)?;
    }
    for (name, help, lines) in [
        ("musubi_events_waiting", "Events that wait to be handled", waiting),
        ("musubi_events_parked", "Events that failed too often: a person must look", parked),
        ("musubi_events_lag_seconds", "Age of the oldest event that waits", lag),
    ] {
        write_gauge(text, name, help, &lines);
    }
    Ok(())
}

/// What the company's systems are still to be told, and which of them take nothing.
async fn write_hooks(app: &App, text: &mut String) -> Result<()> {
    let standing = hook::log::standing(&mut *app.db.conn().await?).await?;
    for (name, help, value) in [
        ("musubi_hook_deliveries_waiting", "Deliveries that wait to be told", standing.waiting),
        ("musubi_hook_endpoints_failing", "Hook endpoints that took nothing lately", standing.failing),
        ("musubi_hook_endpoints_disabled", "Hook endpoints that were disabled by themselves", standing.disabled),
    ] {
        write_gauge(text, name, help, &format!("{name} {value}\n"));
    }
    Ok(())
}

/// How each channel's month stands; a channel without limit has no line of what is left.
async fn write_quotas(app: &App, text: &mut String) -> Result<()> {
    let (mut monthly, mut left, mut alarm) = (String::new(), String::new(), String::new());
    for channel in app.config.channel.keys() {
        let state = quota::state(app, channel).await?;
        for (lines, name, value) in [
            (&mut monthly, "musubi_quota_monthly", state.monthly),
            (&mut left, "musubi_quota_left", state.left),
            (&mut alarm, "musubi_quota_alarm", Some(i64::from(state.is_told))),
        ] {
            if let Some(value) = value {
                writeln!(lines, "{name}{{channel=\"{channel}\"}} {value}").map_err(Error::internal)?;
            }
        }
    }
    write_gauge(text, "musubi_quota_monthly", "Messages that LINE allows in a month", &monthly);
    write_gauge(text, "musubi_quota_left", "Of these, what is left, roughly", &left);
    write_gauge(text, "musubi_quota_alarm", "Whether the month runs out: bulk or everything waits", &alarm);
    Ok(())
}

fn write_gauge(text: &mut String, name: &str, help: &str, lines: &str) {
    text.push_str(&format!("# HELP {name} {help}.\n# TYPE {name} gauge\n{lines}"));
}
