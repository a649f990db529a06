//! A process of the measurement: this program again, on a core of its own.

use std::{
    io::{BufRead, BufReader, Lines, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// Ended with its handle.
pub struct Process {
    child: Child,
    asked: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    pub fn start(core: usize, arguments: &[&str]) -> Self {
        let mut child = Command::new("taskset")
            .args(["-c", &core.to_string()])
            .arg(std::env::current_exe().unwrap())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { asked: child.stdin.take().unwrap(), child, lines }
    }

    /// The next line it prints.
    pub fn line(&mut self) -> String {
        self.lines.next().expect("the process goes on").unwrap()
    }

    /// Asks for its next line.
    pub fn ask(&mut self) -> String {
        self.asked.write_all(b"\n").unwrap();
        self.line()
    }

    /// Seconds of CPU used so far.
    pub fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }

    pub fn peak_mb(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Seconds that a core was busy since the start, whoever used it.
pub fn busy(core: usize) -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let name = format!("cpu{core} ");
    let line = stat.lines().find(|line| line.starts_with(&name)).unwrap();
    let ticks: Vec<f64> = line.split_whitespace().skip(1).map(|ticks| ticks.parse().unwrap()).collect();
    // All but idle and waiting for a disk.
    (ticks.iter().take(8).sum::<f64>() - ticks[3] - ticks[4]) / 100.0
}

/// Where the log of a process goes: written as in production, and seen where `MUSUBI_LOAD_LOG` names a file.
fn log() -> Stdio {
    match std::env::var("MUSUBI_LOAD_LOG") {
        Ok(path) => std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap().into(),
        Err(_) => Stdio::null(),
    }
}
