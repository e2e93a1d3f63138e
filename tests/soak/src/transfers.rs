// SPDX-License-Identifier: Apache-2.0
//! Transfers through the tunnel, all the time, compared byte by byte.

use std::time::{Duration, Instant};

use crate::router::{exchange, noise, Way};

/// Of so many transfers one may be reset: a connection whose path dies while it is set up. None may ever be wrong.
const RESET_PER: usize = 100;

/// What became of them.
#[derive(Debug, Default)]
pub struct Transfers {
    intact: usize,
    bytes: u64,
    reset: Vec<String>,
    wrong: Vec<String>,
}

/// Transfers until the end, two at a time.
pub fn run(way: &Way, end: Instant) -> Transfers {
    let lanes: Vec<Transfers> = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..2).map(|lane| scope.spawn(move || one_lane(way, lane, end))).collect();
        lanes.into_iter().map(|lane| lane.join().expect("a lane")).collect()
    });
    lanes.into_iter().fold(Transfers::default(), |mut all, lane| {
        all.intact += lane.intact;
        all.bytes += lane.bytes;
        all.reset.extend(lane.reset);
        all.wrong.extend(lane.wrong);
        all
    })
}

fn one_lane(way: &Way, lane: usize, end: Instant) -> Transfers {
    let mut transfers = Transfers::default();
    let mut round = 0;
    while Instant::now() < end {
        round += 1;
        let bytes = noise(20_000 + (round * 7919 + lane * 104_729) % 600_000, (2 * round + lane) as u64);
        let begun = Instant::now();
        match way.connect().and_then(|stream| exchange(&stream, bytes.clone())) {
            Ok(back) if back == bytes => {
                transfers.intact += 1;
                transfers.bytes += 2 * bytes.len() as u64;
            }
            Ok(back) => transfers.wrong.push(format!("{} of {} bytes came back", back.len(), bytes.len())),
            Err(error) => transfers.reset.push(format!("after {:?}: {error}", begun.elapsed())),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    transfers
}

impl Transfers {
    /// Prints the numbers; what is wrong with them.
    pub fn judge(&self) -> Vec<String> {
        let all = self.intact + self.reset.len() + self.wrong.len();
        println!(
            "transfers: {all}, {} MB there and back, {} reset, {} wrong",
            self.bytes / 1_000_000,
            self.reset.len(),
            self.wrong.len()
        );
        let mut complaints = self.wrong.clone();
        if self.reset.len() > all.div_ceil(RESET_PER) {
            complaints.push(format!("{} of {all} transfers were reset: {:?}", self.reset.len(), self.reset));
        }
        if self.intact < 20 {
            complaints.push(format!("only {} transfers: the way was not there", self.intact));
        }
        complaints
    }
}
