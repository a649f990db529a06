//! How many messages the outbox sends, as a ratio to a loop that pushes without one. Run by `tests/load/run outbox`.
//!
//! The process that is run plays no part while it measures; LINE is played by another process of the same program on
//! core 1, and the sender is a third one on core 0, with its database. Every delivery is a message of its own, to one
//! of many people, and is a push of some 400 bytes.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a measurement that cannot go on ends")]
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a command of its own, and its figures")]

mod expand;
mod gauge;
mod line;
mod process;
mod push;
mod sender;
mod store;

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use gauge::{Found, Gauge, head, now, row};
use line::Line;
use process::Process;
use store::{Base, Engine, Store};
use tokio::time::sleep;

const WARM: Duration = Duration::from_secs(1);

/// What is asked for on the command line.
struct Options {
    seconds: u64,
    rounds: usize,
    /// Pushes that the bare loop has in flight: as many as the sender has.
    in_flight: usize,
    people: usize,
    queued: usize,
    /// Deliveries a second that become due where a rate is held; none: that is not measured.
    rate: usize,
    /// Members whom a message to all is for; none: that is not measured.
    members: usize,
    latencies: Vec<u64>,
    /// The name of the one target that is measured, where not all are.
    only: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    /// The sender's client, without an outbox.
    Bare,
    Outbox(Engine),
}

/// What is needed for every measurement.
struct Bench {
    options: Options,
    line: Line,
    people: PathBuf,
    bases: Vec<Base>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["--play"] => line::play(),
        ["--push", kind, url, in_flight, people] => push::push(kind, url, in_flight.parse().unwrap(), people),
        ["--work", database, line] => sender::work(database, line),
        ["--expand", database] => expand::expand(database),
        _ => measure(read_options(&arguments)),
    }
}

fn read_options(arguments: &[String]) -> Options {
    let text = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name);
        place.and_then(|place| arguments.get(place + 1))
    };
    let number = |name: &str, usual: usize| text(name).map_or(usual, |number| number.parse().expect("a number"));
    let latencies = text("--latency").map_or("0,30", String::as_str);
    Options {
        seconds: number("--seconds", 4) as u64,
        rounds: number("--rounds", 3),
        in_flight: number("--in-flight", 256),
        people: number("--people", 10_000),
        queued: number("--queued", 100_000),
        rate: number("--rate", 2000),
        members: number("--members", 1_000_000),
        latencies: latencies.split(',').map(|ms| ms.parse().expect("milliseconds")).collect(),
        only: text("--only").cloned(),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn measure(options: Options) {
    let folder = PathBuf::from(std::env::var("MUSUBI_LOAD_FOLDER").expect("run tests/load/run"));
    println!("fdatasync p50 {:.2} ms", fdatasync(&folder).as_secs_f64() * 1000.0);
    let bench = Bench::prepare(options, &folder).await;
    let options = &bench.options;
    if options.only.is_none() {
        println!("the simulator takes {:.0} pushes a second on its core", bench.push("socket").await.rate);
    }
    for latency in &options.latencies {
        println!("\nLINE answers after {latency} ms; {} rounds of {} s:", options.rounds, options.seconds);
        bench.line.hold_back(*latency).await;
        bench.compare().await;
    }
    if options.rate > 0 {
        println!("\n{} a second become due, LINE answers after 30 ms, {} s:", options.rate, options.seconds * 2);
        bench.line.hold_back(30).await;
        bench.hold().await;
    }
    if options.members > 0 {
        println!("\na message to {} linked members, 2,000 in a transaction:", options.members);
        bench.expand(&folder).await;
    }
}

impl Bench {
    async fn prepare(options: Options, folder: &Path) -> Self {
        let line = Line::start().await;
        let start = SystemTime::now();
        let ids = line.people(options.people).await;
        let people = folder.join("people");
        std::fs::write(&people, ids.join("\n")).unwrap();
        let mut bases = Vec::new();
        for engine in Engine::ALL.into_iter().filter(|engine| options.wants(Target::Outbox(*engine))) {
            bases.push(Base::of_queued(engine, folder, &ids, options.queued).await);
        }
        println!(
            "{} people, {} deliveries queued in {:.1} s; {} pushes in flight without an outbox",
            ids.len(),
            options.queued,
            start.elapsed().unwrap().as_secs_f64(),
            options.in_flight
        );
        Self { options, line, people, bases }
    }

    /// Every target in every round; the median of the rounds counts.
    async fn compare(&self) {
        let mut found: BTreeMap<Target, Vec<Found>> = BTreeMap::new();
        for _ in 0..self.options.rounds {
            if self.options.wants(Target::Bare) {
                found.entry(Target::Bare).or_default().push(self.push("client").await);
            }
            for base in &self.bases {
                let store = base.copy().await;
                found.entry(Target::Outbox(base.engine)).or_default().push(self.work(&store, None).await);
            }
        }
        head();
        let mut bare = None;
        for (target, mut rounds) in found {
            rounds.sort_by(|a, b| a.rate.total_cmp(&b.rate));
            let median = rounds.swap_remove(rounds.len() / 2);
            if target == Target::Bare {
                bare = Some(median.rate);
            }
            row(target.name(), &median, bare);
        }
    }

    /// Deliveries that become due at a steady rate.
    async fn hold(&self) {
        head();
        for base in &self.bases {
            let store = base.copy().await;
            let from = now() + 1500;
            store.spread(from, self.options.rate).await;
            let found = self.work(&store, Some(from)).await;
            row(base.engine.name(), &found, None);
            if !found.late.is_empty() {
                let late = |share: f64| found.late[(found.late.len() as f64 * share) as usize];
                println!("{:<12}sent after they were due: p50 {} ms, p99 {} ms", "", late(0.5), late(0.99));
            }
        }
    }

    /// How long it takes to queue a message to everybody.
    async fn expand(&self, folder: &Path) {
        println!("{:<12}{:>12}{:>12}{:>12}{:>12}", "", "recipients", "seconds", "longest ms", "peak MB");
        for engine in Engine::ALL.into_iter().filter(|engine| self.options.wants(Target::Outbox(*engine))) {
            let base = Base::of_members(engine, folder, self.options.members).await;
            let mut rounds = Vec::new();
            for _ in 0..self.options.rounds {
                let store = base.copy().await;
                let mut process = Process::start(0, &["--expand", &store.url]);
                let figures: Vec<f64> = process.line().split(' ').map(|figure| figure.parse().unwrap()).collect();
                rounds.push((figures, process.peak_mb()));
            }
            rounds.sort_by(|(a, _), (b, _)| a[1].total_cmp(&b[1]));
            let (figures, peak) = &rounds[rounds.len() / 2];
            let seconds = figures[1] / 1000.0;
            println!("{:<12}{:>12}{seconds:>12.2}{:>12.1}{peak:>12.1}", engine.name(), figures[0], figures[2]);
        }
    }

    /// Pushes without an outbox, by the sender's client or by sockets.
    async fn push(&self, kind: &str) -> Found {
        let in_flight = self.options.in_flight.to_string();
        let people = self.people.to_str().unwrap();
        let mut process = Process::start(0, &["--push", kind, &self.line.url, &in_flight, people]);
        process.ask();
        sleep(WARM).await;
        let (start, before) = (Gauge::read(&process, None).await, process.ask());
        sleep(Duration::from_secs(self.options.seconds)).await;
        let (end, after) = (Gauge::read(&process, None).await, process.ask());
        let count = after.parse::<f64>().unwrap() - before.parse::<f64>().unwrap();
        let mut found = end.since(&start);
        found.rate = count * 1000.0 / (end.at - start.at) as f64;
        found.peak = process.peak_mb();
        found
    }

    /// Has the sender send for a while; where deliveries become due from a time on, that is when it begins.
    async fn work(&self, store: &Store, from: Option<i64>) -> Found {
        let mut process = Process::start(0, &["--work", &store.url, &self.line.url]);
        process.line();
        let wait = from.map_or(0, |from| u64::try_from(from - now()).unwrap_or(0));
        sleep(Duration::from_millis(wait) + WARM).await;
        let start = Gauge::read(&process, Some(store)).await;
        sleep(Duration::from_secs(if from.is_some() { self.options.seconds * 2 } else { self.options.seconds })).await;
        let end = Gauge::read(&process, Some(store)).await;
        let peak = process.peak_mb();
        drop(process);
        let sent = store.sent(start.at, end.at).await;
        let mut found = end.since(&start);
        // It had nothing more to do before the time was over: then the shares of the cores are too small.
        found.is_dry = sent.took < (end.at - start.at) as f64 / 1000.0 - 1.5;
        found.rate = sent.count / if found.is_dry { sent.took.max(0.001) } else { (end.at - start.at) as f64 / 1000.0 };
        found.peak = peak;
        found.late = sent.late;
        found
    }
}

impl Options {
    fn wants(&self, target: Target) -> bool {
        self.only.as_ref().is_none_or(|only| only == target.name())
    }
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare loop",
            Self::Outbox(engine) => engine.name(),
        }
    }
}

/// What one write that is on the disk costs here.
fn fdatasync(folder: &Path) -> Duration {
    let mut file = std::fs::File::create(folder.join("fdatasync")).unwrap();
    let time = |_| {
        let start = Instant::now();
        file.write_all(&[7; 4096]).unwrap();
        file.sync_data().unwrap();
        start.elapsed()
    };
    let mut times: Vec<Duration> = (0..300).map(time).collect();
    times.sort();
    times[times.len() / 2]
}
