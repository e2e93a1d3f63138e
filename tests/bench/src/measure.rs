// SPDX-License-Identifier: Apache-2.0
//! Numbers of processes, of iperf3, and what becomes of several of them.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::{Daemon, Netns};
use serde_json::Value;

use crate::bed::HOST2;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From host1 to host2.
    Up,
    /// From host2 to host1 (`iperf3 -R`).
    Down,
}

/// Both.
pub const WAYS: [Way; 2] = [Way::Up, Way::Down];

/// `iperf3 -s` on host2, until it is dropped.
pub struct Iperf {
    _server: Daemon,
}

impl Iperf {
    /// Starts it and waits until it listens.
    pub fn serve(host2: &Netns) -> Self {
        let mut command = Command::new("iperf3");
        command.args(["-s", "-B", HOST2]).stdout(Stdio::null());
        let server =
            host2.enter(|| Daemon::start(command, "iperf3", std::env::temp_dir().join("iperf3.sock")));
        let limit = Instant::now() + Duration::from_secs(10);
        while !host2.run("ss -Htln sport = :5201").contains("5201") {
            assert!(Instant::now() < limit, "iperf3 -s does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { _server: server }
    }
}

/// One stream between the hosts for so many seconds, not counting those before; received bytes, and bits per second.
pub fn iperf(host1: &Netns, way: Way, omit: u32, seconds: u32) -> (f64, f64) {
    let mut last = String::new();
    for _ in 0..3 {
        let mut command = Command::new("iperf3");
        command.args(["-c", HOST2, "-J", "-t", &seconds.to_string(), "-O", &omit.to_string()]);
        if way == Way::Down {
            command.arg("-R");
        }
        let output = host1.enter(|| command.output().expect("iperf3"));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        let received = &report["end"]["sum_received"];
        if let (Some(bytes), Some(speed)) = (received["bytes"].as_f64(), received["bits_per_second"].as_f64())
        {
            return (bytes, speed);
        }
        // The server may not be done with the run before.
        last = report["error"].to_string();
        std::thread::sleep(Duration::from_millis(300));
    }
    panic!("iperf3: {last}");
}

/// Seconds of user and system time of a process with all its threads, also those that have ended.
pub fn cpu(daemon: &Daemon) -> f64 {
    let text = fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).expect("a living process");
    let (_, rest) = text.rsplit_once(')').expect("the name in parentheses");
    let ticks: u64 =
        rest.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<u64>().ok()).sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// In order.
pub fn sorted<T: PartialOrd>(mut values: Vec<T>) -> Vec<T> {
    values.sort_by(|a, b| a.partial_cmp(b).expect("no NaN"));
    values
}

/// The middle one.
pub fn median(values: &[f64]) -> f64 {
    let values = sorted(values.to_vec());
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[length / 2],
        length => (values[length / 2 - 1] + values[length / 2]) / 2.0,
    }
}

/// The one below which so much of all others lies; of values in order.
pub fn quantile<T: Copy>(sorted: &[T], share: f64) -> T {
    sorted[((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len()) - 1]
}

/// Mean.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Milliseconds.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
