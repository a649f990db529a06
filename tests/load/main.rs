//! How many signed webhooks are taken, as a ratio to a handler that does nothing. Run by `tests/load/run`.
//!
//! The process that is run drives the load from one core; the server is another process of the same program on the
//! other core, with its store. Each request is a new signed body of about 1 KB with one event.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a measurement that cannot go on ends")]
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a command of its own, and its figures")]

mod drive;
mod server;

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use drive::{Load, Measured};
use server::{Server, Target};

/// What is asked for on the command line.
struct Options {
    seconds: u64,
    rounds: usize,
    connections: usize,
    stored: u64,
    /// The name of the one target that is measured, where not all are.
    only: Option<String>,
}

impl Options {
    fn targets(&self) -> Vec<Target> {
        let wanted = |target: &Target| self.only.as_ref().is_none_or(|only| only == target.name());
        Target::ALL.into_iter().filter(wanted).collect()
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.first().is_some_and(|first| first == "--serve") {
        return server::serve(&arguments[1], arguments.get(2).map_or("", String::as_str));
    }
    let options = read_options(&arguments);
    let folder = PathBuf::from(std::env::var("MUSUBI_LOAD_FOLDER").expect("run tests/load/run"));
    let disk = fdatasync(&folder);
    println!("fdatasync p50 {:.2} ms; {} connections; bodies of about 1 KB\n", ms(disk), options.connections);
    compare(&options, &folder);
    if options.only.is_none() {
        steady(&options, &folder, disk);
    }
    if options.stored > 0 {
        fill(&options, &folder);
    }
}

fn read_options(arguments: &[String]) -> Options {
    let text = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name);
        place.and_then(|place| arguments.get(place + 1))
    };
    let number = |name: &str, usual: u64| text(name).map_or(usual, |number| number.parse().expect("a number"));
    Options {
        seconds: number("--seconds", 4),
        rounds: usize::try_from(number("--rounds", 3)).unwrap(),
        connections: usize::try_from(number("--connections", 64)).unwrap(),
        stored: number("--stored", 0),
        only: text("--only").cloned(),
    }
}

/// As fast as it goes, every target in every round; the median of the rounds counts.
fn compare(options: &Options, folder: &Path) {
    println!("as fast as it goes, {} rounds of {} s:", options.rounds, options.seconds);
    println!(
        "{:<10}{:>10}{:>8}{:>10}{:>10}{:>10}{:>8}{:>10}",
        "", "req/s", "ratio", "p50 ms", "p99 ms", "commits/s", "cpu %", "peak MB"
    );
    let mut found: BTreeMap<usize, Vec<(Measured, f64, f64, f64)>> = BTreeMap::new();
    for round in 0..options.rounds {
        for (place, target) in options.targets().into_iter().enumerate() {
            let server = Server::start(target, folder, round);
            let load = Load { connections: options.connections, rate: None, is_empty: target == Target::Unstored };
            drive::run(&server, load, Duration::from_secs(1));
            let (cpu, commits) = (server.cpu(), server.commits());
            let measured = drive::run(&server, load, Duration::from_secs(options.seconds));
            let seconds = measured.took.as_secs_f64();
            let busy = (server.cpu() - cpu) / seconds * 100.0;
            let commits = (server.commits() - commits) / seconds;
            found.entry(place).or_default().push((measured, commits, busy, server.peak_mb()));
        }
    }
    let mut noop = 0.0;
    for (place, target) in options.targets().into_iter().enumerate() {
        let mut rounds = found.remove(&place).unwrap();
        rounds.sort_by(|a, b| a.0.rate().total_cmp(&b.0.rate()));
        let (measured, commits, cpu, peak) = &rounds[rounds.len() / 2];
        if place == 0 {
            noop = measured.rate();
        }
        println!(
            "{:<10}{:>10.0}{:>8.2}{:>10.2}{:>10.2}{:>10.0}{:>8.0}{:>10.1}",
            target.name(),
            measured.rate(),
            measured.rate() / noop,
            ms(measured.percentile(0.5)),
            ms(measured.percentile(0.99)),
            commits,
            cpu,
            peak
        );
        assert_eq!(measured.failed, 0, "every request is answered 200");
    }
}

/// At a steady rate, whatever the answers take.
fn steady(options: &Options, folder: &Path, disk: Duration) {
    println!(
        "\nat 2,000 requests a second for {} s (fdatasync p50 + 2 ms is {:.2} ms):",
        options.seconds * 2,
        ms(disk) + 2.0
    );
    for target in [Target::Sqlite, Target::Postgres] {
        let server = Server::start(target, folder, 100);
        let load = Load { connections: options.connections, rate: Some(2000), is_empty: false };
        drive::run(&server, load, Duration::from_secs(1));
        let measured = drive::run(&server, load, Duration::from_secs(options.seconds * 2));
        println!(
            "{:<10}{:>10.0} req/s   p50 {:.2} ms   p99 {:.2} ms   peak {:.1} MB",
            target.name(),
            measured.rate(),
            ms(measured.percentile(0.5)),
            ms(measured.percentile(0.99)),
            server.peak_mb()
        );
    }
}

/// Whether many stored events slow the next ones down.
fn fill(options: &Options, folder: &Path) {
    for target in [Target::Sqlite, Target::Postgres] {
        let server = Server::start(target, folder, 200);
        let load = Load { connections: options.connections, rate: None, is_empty: target == Target::Unstored };
        let first = drive::run(&server, load, Duration::from_secs(options.seconds));
        let mut stored = first.answered;
        while stored < options.stored {
            stored += drive::run(&server, load, Duration::from_secs(10)).answered;
            print!("\r{}: {stored} stored", target.name());
            std::io::stdout().flush().unwrap();
        }
        let last = drive::run(&server, load, Duration::from_secs(options.seconds));
        println!(
            "\r{}: {:.0} req/s empty, {:.0} with {stored} stored: {:.2}",
            target.name(),
            first.rate(),
            last.rate(),
            last.rate() / first.rate()
        );
    }
}

/// What one write that is on the disk costs here.
fn fdatasync(folder: &Path) -> Duration {
    let mut file = std::fs::File::create(folder.join("fdatasync")).unwrap();
    let mut times: Vec<Duration> = (0..300)
        .map(|_| {
            let start = Instant::now();
            file.write_all(&[7; 4096]).unwrap();
            file.sync_data().unwrap();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
