// SPDX-License-Identifier: Apache-2.0
//! Memory and descriptors while both halves carry as much as the machine can.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::bed::*;
use crate::paths::wait_for_paths;

const BYTES: usize = 4 << 20;
/// Buffers that happen to be lent at a look, kB: eight of 256 kB at most.
const BUFFERS: u64 = 2048;
/// Connections kept ready, and what else comes and goes.
const DESCRIPTORS: usize = 24;

/// Transfers of every length both ways, checked, for so long; then memory is where it was after the first fifth.
fn stays_flat(length: Duration, encryption: &str) {
    let bed = Bed::new();
    let server = bed.start_server("");
    let client = bed.start_client("\toption fallback 'block'", encryption);
    wait_for_paths(&client, ["up", "up"]);
    let service = bed.serve(echo);
    let halves = [&client, &server];
    let before = halves.map(|daemon| daemon.descriptors().len());
    let bytes = noise(BYTES, 11);
    let (going, done) = (AtomicBool::new(true), AtomicUsize::new(0));
    let mut seen = Vec::new();
    std::thread::scope(|scope| {
        for lane in 0..6 {
            let (bed, bytes, service, going, done) = (&bed, &bytes, &service, &going, &done);
            scope.spawn(move || {
                while going.load(Ordering::Relaxed) {
                    // Two lanes of long transfers, four of short ones.
                    let round = done.fetch_add(1, Ordering::Relaxed);
                    let end = if lane < 2 { BYTES - round % 9973 } else { round * 997 % 40_000 };
                    let back = exchange(&bed.connect(service.address), bytes[..end].to_vec());
                    assert!(back.unwrap() == bytes[..end], "round {round}");
                }
            });
        }
        let begun = Instant::now();
        while begun.elapsed() < length {
            std::thread::sleep(Duration::from_millis(500));
            seen.push(halves.map(|daemon| daemon.memory_kb("RssAnon")));
        }
        going.store(false, Ordering::Relaxed);
    });
    for daemon in halves {
        daemon.wait_for_status("no connections", |status| status["counters"]["connections"] == 0);
    }
    let after = halves.map(|daemon| daemon.descriptors().len());
    let fifth = seen.len() / 5;
    for half in 0..2 {
        let most = |looks: &[[u64; 2]]| looks.iter().map(|look| look[half]).max().unwrap();
        let (early, late) = (most(&seen[fifth..2 * fifth]), most(&seen[4 * fifth..]));
        eprintln!(
            "{} s, {} transfers: RssAnon {early} kB in the second fifth, {late} kB in the last; descriptors {} -> {}",
            length.as_secs(),
            done.load(Ordering::Relaxed),
            before[half],
            after[half]
        );
        assert!(late <= early + BUFFERS, "it grows: {seen:?}");
        assert!(after[half] <= before[half] + DESCRIPTORS, "descriptors are left: {before:?} {after:?}");
    }
}

#[test]
fn twenty_seconds_of_full_load_leave_memory_and_descriptors_flat() {
    stays_flat(Duration::from_secs(20), "");
}

#[test]
#[ignore = "ten minutes of both cores: make test-long"]
fn ten_minutes_of_full_load_leave_memory_and_descriptors_flat() {
    stays_flat(Duration::from_secs(300), "\toption encryption 'none'");
    stays_flat(Duration::from_secs(300), "\toption encryption 'aead'");
}
