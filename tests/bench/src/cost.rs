// SPDX-License-Identifier: Apache-2.0
//! Without limits on the paths: processor time per byte, speed of one stream, connections per second, added latency,
//! memory per connection. Every kind has its routers; all are measured in turn, round by round.

use std::time::Duration;

use lab::Daemon;

use crate::load;
use crate::measure::{cpu, iperf, mean, median, ms, quantile, Iperf, WAYS};
use crate::peers::{Kind, Programs, Setup};

const PARALLEL: usize = 32;
const CONNECTIONS: usize = 1000;

/// What one kind costs.
#[derive(Debug, Default)]
pub struct Cost {
    /// Seconds of processor per GB: client up, client down, server up, server down.
    pub per_gb: [f64; 4],
    /// Mean of these four, per round.
    pub mean_per_gb: Vec<f64>,
    /// Gbit/s of one stream, up and down.
    pub gbit: [f64; 2],
    /// Short connections per second, 32 at once.
    pub per_second: f64,
    /// Of which so many failed.
    pub failed: usize,
    /// Connect, ask, first byte of the answer: median and 99th percentile, ms.
    pub latency: [f64; 2],
    /// RssAnon idle, client and server, kB.
    pub idle: [f64; 2],
    /// kB of RssAnon per silent connection, client and server.
    pub per_connection: [f64; 2],
}

/// Measures all kinds.
pub fn all(kinds: &[Kind], programs: &Programs, quick: bool) -> Vec<(Kind, Cost)> {
    let (rounds, seconds) = if quick { (1, 1) } else { (5, 2) };
    let setups: Vec<Setup> = kinds.iter().map(|&kind| Setup::new(kind, programs, None)).collect();
    let mut costs: Vec<Cost> = kinds.iter().map(|_| Cost::default()).collect();
    for (setup, cost) in setups.iter().zip(&mut costs) {
        setup.wait_for_pool(1);
        for (half, daemon) in setup.halves.iter().enumerate() {
            cost.idle[half] = rss_anon(daemon);
        }
    }
    let servers: Vec<Iperf> = setups.iter().map(|setup| Iperf::serve(&setup.bed.host2)).collect();
    // Per kind and round: four costs, two speeds.
    let mut taken = vec![Vec::new(); kinds.len()];
    for round in 0..rounds {
        eprintln!("bytes: round {} of {rounds}", round + 1);
        for (setup, taken) in setups.iter().zip(&mut taken) {
            taken.push(bytes(setup, seconds));
        }
    }
    drop(servers);
    for (cost, taken) in costs.iter_mut().zip(&taken) {
        let column =
            |place: usize| median(&taken.iter().map(|row: &[f64; 6]| row[place]).collect::<Vec<_>>());
        cost.per_gb = [column(0), column(1), column(2), column(3)];
        cost.gbit = [column(4), column(5)];
        cost.mean_per_gb = taken.iter().map(|row| mean(&row[..4])).collect();
    }
    connections(&setups, &mut costs, quick);
    for (setup, cost) in setups.iter().zip(&mut costs) {
        eprintln!("memory: {}", setup.kind.name());
        memory(setup, cost);
    }
    kinds.iter().copied().zip(costs).collect()
}

fn bytes(setup: &Setup, seconds: u32) -> [f64; 6] {
    let mut row = [0.0; 6];
    for (place, way) in WAYS.into_iter().enumerate() {
        let before: Vec<f64> = setup.halves.iter().map(cpu).collect();
        let (bytes, speed) = iperf(&setup.bed.host1, way, 0, seconds);
        for (half, daemon) in setup.halves.iter().enumerate() {
            row[2 * half + place] = (cpu(daemon) - before[half]) / (bytes / 1e9);
        }
        row[4 + place] = speed / 1e9;
    }
    row
}

fn connections(setups: &[Setup], costs: &mut [Cost], quick: bool) {
    let (rounds, length, requests) =
        if quick { (1, Duration::from_secs(1), 100) } else { (3, Duration::from_secs(3), 300) };
    let mut rows = vec![Vec::new(); setups.len()];
    for round in 0..rounds {
        eprintln!("connections: round {} of {rounds}", round + 1);
        for ((setup, cost), rows) in setups.iter().zip(costs.iter_mut()).zip(&mut rows) {
            // Alone first: what many at once leave behind would be counted with it.
            let times = load::one_by_one(setup, requests, || ());
            let (per_second, failed) = load::per_second(setup, PARALLEL, length);
            cost.failed += failed;
            rows.push([per_second, ms(quantile(&times, 0.5)), ms(quantile(&times, 0.99))]);
        }
    }
    for (cost, rows) in costs.iter_mut().zip(&rows) {
        let column = |place: usize| median(&rows.iter().map(|row: &[f64; 3]| row[place]).collect::<Vec<_>>());
        cost.per_second = column(0);
        cost.latency = [column(1), column(2)];
    }
}

/// Memory of its own that is in RAM, kB.
fn rss_anon(daemon: &Daemon) -> f64 {
    daemon.memory_kb("RssAnon") as f64
}

fn memory(setup: &Setup, cost: &mut Cost) {
    // The first fifty also take what is taken once.
    drop(load::idle(setup, 50));
    std::thread::sleep(Duration::from_millis(500));
    let before: Vec<f64> = setup.halves.iter().map(rss_anon).collect();
    let open = load::idle(setup, CONNECTIONS);
    for (half, daemon) in setup.halves.iter().enumerate() {
        cost.per_connection[half] = (rss_anon(daemon) - before[half]) / CONNECTIONS as f64;
    }
    drop(open);
}
