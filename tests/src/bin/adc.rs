// SPDX-License-Identifier: Apache-2.0
//! A converter for the tests of `input 'command'`: 230 V at 50 Hz as 16-bit integers of 25 mV, 10 240 a second, in
//! real time.
//!
//! `adc LOG PLAN...`: LOG gets a line per start (process id, seconds of the monotonic clock); the first start follows
//! the first PLAN and so on, the last one serves for all that follow. A PLAN is how many seconds it writes and what it
//! does then: `1.5:exit` or `2:hang`.

use std::f64::consts::{SQRT_2, TAU};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const RATE: f64 = 10_240.0;
const LSB: f64 = 0.025;
const CHUNK: u64 = 256;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let Some(log) = args.next() else { return ExitCode::from(2) };
    let plans: Vec<(f64, String)> = args.filter_map(|plan| parse(&plan)).collect();
    let Ok(starts) = register(&log) else { return ExitCode::from(2) };
    let Some((seconds, end)) = plans.get(starts.min(plans.len().saturating_sub(1))) else {
        return ExitCode::from(2);
    };
    if write(*seconds).is_err() {
        return ExitCode::from(1);
    }
    if end == "hang" {
        loop {
            std::thread::park();
        }
    }
    ExitCode::from(3)
}

fn parse(plan: &str) -> Option<(f64, String)> {
    let (seconds, end) = plan.split_once(':')?;
    Some((seconds.parse().ok()?, end.to_owned()))
}

/// Adds this start to the log and says how many there were before.
fn register(log: &str) -> io::Result<usize> {
    let before = std::fs::read_to_string(log).unwrap_or_default().lines().count();
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let mut file = OpenOptions::new().create(true).append(true).open(log)?;
    let seconds = now.tv_sec as f64 + now.tv_nsec as f64 / 1e9;
    writeln!(file, "{} {seconds}", std::process::id())?;
    Ok(before)
}

fn write(seconds: f64) -> io::Result<()> {
    let started = Instant::now();
    let mut stdout = io::stdout().lock();
    let mut sample = 0;
    while sample < (seconds * RATE) as u64 {
        let due = started + Duration::from_secs_f64((sample + CHUNK) as f64 / RATE);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let bytes: Vec<u8> = (sample..sample + CHUNK)
            .flat_map(|sample| {
                let volts = 230.0 * SQRT_2 * (TAU * 50.0 * sample as f64 / RATE).sin();
                ((volts / LSB).round() as i16).to_le_bytes()
            })
            .collect();
        stdout.write_all(&bytes)?;
        stdout.flush()?;
        sample += CHUNK;
    }
    Ok(())
}
