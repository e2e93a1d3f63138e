// SPDX-License-Identifier: Apache-2.0
//! Memory, descriptors and logs of the daemons while it goes on.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use lab::usage;

use crate::router::Router;

const EVERY: Duration = Duration::from_secs(5);

/// powqutyd fills its memory of the last ten minutes by the second for so long; only what grows after that counts.
const WARM_UP: Duration = Duration::from_secs(11 * 60);

/// kB of RssAnon per minute that count as flat. The kernel counts pages of 4 kB, and a single buffer that an allocator
/// keeps at the end of the run makes a slope; a leak of 70 bytes per second makes 4 kB. For powqutyd what fills for hours
/// comes on top: about a kB per event until it knows 500 of them, three a minute here, and 56 bytes of trend per minute.
const SLOPE: [f64; 4] = [8.0, 4.0, 4.0, 4.0];

/// kB that each may have grown by between its start and the end, over all. powqutyd keeps at most: trends of 600 seconds,
/// 1440 minutes and 744 hours of 56 bytes each (230 kB, as vectors double), 500 events, and what its allocator keeps of
/// configurations that were read anew (170 kB after twenty reloads, none after a hundred more). The proxies keep buffers of
/// 256 kB, made on first use, and what a burst of connections took.
const GROWTH: [f64; 4] = [600.0, 300.0, 1500.0, 1500.0];

/// Lines of log per minute that are not a flood. There are some ten faults a minute, and each may be told by a line when it
/// comes and one when it goes.
const LINES: f64 = 60.0;

/// Descriptors that may have been added: the pool grows with the demand.
const DESCRIPTORS: i64 = 24;

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Duration,
    anon: [f64; 4],
    descriptors: [i64; 4],
}

/// The daemons' numbers over time.
pub struct Watched {
    pids: [u32; 4],
    begun: Instant,
    samples: Mutex<Vec<Sample>>,
}

impl Watched {
    /// Of these daemons, from now on.
    pub fn of(router: &Router) -> Self {
        let pids = router.daemons().map(|(_, daemon)| daemon.pid());
        Self { pids, begun: Instant::now(), samples: Mutex::default() }
    }

    /// Looks until the end; a daemon that has died ends it.
    pub fn run(&self, end: Instant) {
        while Instant::now() < end {
            std::thread::sleep(EVERY);
            let Some(anon) = each(self.pids, anon) else { return };
            let Some(descriptors) = each(self.pids, descriptors) else { return };
            let sample = Sample { at: self.begun.elapsed(), anon, descriptors };
            self.samples.lock().expect("no panic").push(sample);
        }
    }

    /// Prints the numbers; what is wrong with them.
    pub fn judge(&self, router: &Router, length: Duration) -> Vec<String> {
        let samples = self.samples.lock().expect("no panic");
        let minutes = length.as_secs_f64() / 60.0;
        let warm = WARM_UP.min(length / 2);
        let rest: Vec<&Sample> = samples.iter().filter(|sample| sample.at >= warm).collect();
        let mut complaints = Vec::new();
        println!(
            "{:20} {:>8} {:>8} {:>8} {:>8} {:>12} {:>11}",
            "daemon", "kB first", "kB last", "kB most", "kB/min", "descriptors", "lines/min"
        );
        for (place, (name, daemon)) in router.daemons().into_iter().enumerate() {
            let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
                return vec![format!("{name} ended: there are no numbers")];
            };
            if length.checked_sub(last.at).is_some_and(|missing| missing > 12 * EVERY) {
                complaints.push(format!("{name} or another daemon ended after {:?}", last.at));
            }
            let most = samples.iter().map(|sample| sample.anon[place]).fold(0.0, f64::max);
            let slope = slope(rest.iter().map(|sample| (sample.at.as_secs_f64() / 60.0, sample.anon[place])));
            let least = |samples: &[Sample]| samples.iter().map(|sample| sample.descriptors[place]).min();
            let quarter = samples.len().div_ceil(4);
            let (early, late) = (least(&samples[..quarter]), least(&samples[samples.len() - quarter..]));
            let (early, late) = (early.unwrap_or(0), late.unwrap_or(0));
            let lines = daemon.log().lines().count() as f64 / minutes;
            println!(
                "{name:20} {:>8.0} {:>8.0} {most:>8.0} {slope:>8.2} {:>12} {lines:>11.1}",
                first.anon[place],
                last.anon[place],
                format!("{early} → {late}"),
            );
            let tenths =
                samples.chunks(samples.len().div_ceil(10)).map(|tenth| tenth[tenth.len() - 1].anon[place]);
            println!(
                "{:20} {}",
                "  kB after each tenth",
                tenths.map(|kb| format!("{kb:.0} ")).collect::<String>()
            );
            let grown = most - first.anon[place];
            if grown > GROWTH[place] {
                complaints
                    .push(format!("{name} grew by {grown:.0} kB, its buffers explain {}", GROWTH[place]));
            }
            // Before the warm-up is over a slope says nothing: buffers fill.
            if length > WARM_UP + Duration::from_secs(300) && slope > SLOPE[place] {
                complaints
                    .push(format!("{name} grows by {slope:.1} kB per minute, flat is {}", SLOPE[place]));
            }
            if late > early + DESCRIPTORS {
                complaints.push(format!("{name} has {late} descriptors instead of {early}"));
            }
            if lines > LINES {
                complaints.push(format!("{name} logs {lines:.0} lines per minute"));
            }
        }
        complaints
    }
}

fn each<T: Copy + Default>(pids: [u32; 4], look: impl Fn(u32) -> Option<T>) -> Option<[T; 4]> {
    let mut values = [T::default(); 4];
    for (value, pid) in values.iter_mut().zip(pids) {
        *value = look(pid)?;
    }
    Some(values)
}

fn anon(pid: u32) -> Option<f64> {
    Some(usage::memory_kb(pid, "RssAnon")? as f64)
}

fn descriptors(pid: u32) -> Option<i64> {
    Some(usage::descriptors(pid)?.len() as i64)
}

/// Least squares.
fn slope(points: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    let count = points.clone().count() as f64;
    let mean = |of: fn((f64, f64)) -> f64| points.clone().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let above: f64 = points.clone().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let below: f64 = points.map(|point| (point.0 - x).powi(2)).sum();
    above / below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_is_that_of_the_line_through_the_points() {
        let points = [(0.0, 10.0), (1.0, 13.0), (2.0, 16.0)];
        assert!((slope(points.into_iter()) - 3.0).abs() < 1e-9);
        let noisy = [(0.0, 10.0), (1.0, 14.0), (2.0, 10.0)];
        assert!(slope(noisy.into_iter()).abs() < 1e-9);
    }
}
