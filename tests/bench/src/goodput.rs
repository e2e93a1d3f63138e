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

/// All cells of one kind. Without delay the three pairs of rates are measured at the same time, each in routers of its
/// own: together they are below 300 Mbit/s. With delay every packet passes through threads of this program, so that the
/// fastest pair has the machine for itself.
pub fn cells(kind: Kind, programs: &Programs, delayed: bool, effort: Effort) -> Cells {
    let delays = delayed.then_some(DELAYS);
    let one = |pair: usize| {
        let setup = Setup::new(kind, programs, delays);
        setup.shape(PAIRS[pair]);
        let _server = Iperf::serve(&setup.bed.host2);
        WAYS.map(|way| {
            let shares: Vec<f64> =
                (0..effort.repeats).map(|_| share(&setup, way, PAIRS[pair], effort.seconds)).collect();
            median(&shares)
        })
    };
    let together = |pairs: &[usize]| -> Vec<[f64; 2]> {
        thread::scope(|scope| {
            let one = &one;
            let lanes: Vec<_> = pairs.iter().map(|&pair| scope.spawn(move || one(pair))).collect();
            lanes.into_iter().map(|lane| lane.join().expect("a cell")).collect()
        })
    };
    if delayed {
        let slow = together(&[0, 2]);
        [slow[0], one(1), slow[1]]
    } else {
        let all = together(&[0, 1, 2]);
        [all[0], all[1], all[2]]
    }
}

fn share(setup: &Setup, way: Way, rates: [u32; 2], seconds: u32) -> f64 {
    let (_, speed) = iperf(&setup.bed.host1, way, OMITTED, seconds);
    speed / (f64::from(rates[0] + rates[1]) * 1e6) * 100.0
}
