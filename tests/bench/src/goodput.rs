// SPDX-License-Identifier: Apache-2.0
//! How much of two limited paths arrives: three pairs of rates, with and without delay, both ways.

use std::thread;
use std::time::Duration;

use crate::measure::{iperf, median, Iperf, Way, WAYS};
use crate::peers::{Kind, Programs, Setup};

/// Mbit/s of the two paths.
pub const PAIRS: [[u32; 2]; 3] = [[10, 10], [100, 100], [10, 50]];
/// Each way, RTT 20 and 60 ms.
pub const DELAYS: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(30)];
/// Seconds at the start that do not count.
const OMITTED: u32 = 2;

/// Percent of the summed link rate, by pair and way.
pub type Cells = [[f64; 2]; 3];

/// How long and how often each cell is measured.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    pub seconds: u32,
    pub repeats: usize,
}

/// All cells of one kind. The three pairs of rates are measured at the same time, each in routers of its own: together
/// they are below 300 Mbit/s.
pub fn cells(kind: Kind, programs: &Programs, delayed: bool, effort: Effort) -> Cells {
    let delays = delayed.then_some(DELAYS);
    let one = &|rates: [u32; 2]| {
        let setup = Setup::new(kind, programs, delays);
        setup.shape(rates);
        let _server = Iperf::serve(&setup.bed.host2);
        WAYS.map(|way| {
            let shares: Vec<f64> =
                (0..effort.repeats).map(|_| share(&setup, way, rates, effort.seconds)).collect();
            if kind.is_ours() {
                eprintln!("{} {rates:?} {way:?}: {shares:.1?} %", kind.name());
            }
            median(&shares)
        })
    };
    thread::scope(|scope| {
        let lanes = PAIRS.map(|rates| scope.spawn(move || one(rates)));
        lanes.map(|lane| lane.join().expect("a cell"))
    })
}

fn share(setup: &Setup, way: Way, rates: [u32; 2], seconds: u32) -> f64 {
    let (_, speed) = iperf(&setup.bed.host1, way, OMITTED, seconds);
    speed / (f64::from(rates[0] + rates[1]) * 1e6) * 100.0
}
