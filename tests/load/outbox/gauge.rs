//! What a measurement reads before and after, and the lines it prints.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::{
    process::{Process, busy},
    store::Store,
};

/// What one measurement found.
#[derive(Default)]
pub struct Found {
    pub rate: f64,
    pub commits: f64,
    /// Shares of one core: of the sender alone, of its core with the database, and of the simulator's core.
    pub sender: f64,
    pub core: f64,
    pub line: f64,
    pub peak: f64,
    pub late: Vec<i64>,
    pub is_dry: bool,
}

/// What was used up to a time.
pub struct Gauge {
    pub at: i64,
    commits: f64,
    sender: f64,
    core: f64,
    line: f64,
}

impl Gauge {
    pub async fn read(process: &Process, store: Option<&Store>) -> Self {
        let commits = match store {
            Some(store) => store.commits().await,
            None => 0.0,
        };
        Self { at: now(), commits, sender: process.cpu(), core: busy(0), line: busy(1) }
    }

    pub fn since(&self, start: &Self) -> Found {
        let seconds = (self.at - start.at) as f64 / 1000.0;
        Found {
            commits: (self.commits - start.commits) / seconds,
            sender: (self.sender - start.sender) / seconds * 100.0,
            core: (self.core - start.core) / seconds * 100.0,
            line: (self.line - start.line) / seconds * 100.0,
            ..Found::default()
        }
    }
}

pub fn head() {
    println!(
        "{:<12}{:>10}{:>8}{:>12}{:>10}{:>10}{:>10}{:>10}",
        "", "sent/s", "ratio", "commits/s", "sender %", "core 0 %", "core 1 %", "peak MB"
    );
}

pub fn row(name: &str, found: &Found, bare: Option<f64>) {
    println!(
        "{name:<12}{:>10.0}{:>8}{:>12.0}{:>10.0}{:>10.0}{:>10.0}{:>10.1}{}",
        found.rate,
        bare.map_or(String::new(), |bare| format!("{:.3}", found.rate / bare)),
        found.commits,
        found.sender,
        found.core,
        found.line,
        found.peak,
        if found.is_dry { "   nothing left: more --queued" } else { "" }
    );
}

/// Epoch milliseconds.
pub fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}
