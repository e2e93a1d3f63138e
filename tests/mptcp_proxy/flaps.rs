// SPDX-License-Identifier: Apache-2.0
//! Whatever the paths do, as long as one lives, every byte arrives in its place.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::bed::*;
use crate::paths::wait_for_paths;

/// Transfers of random bytes in both directions all the time, while paths die and return, one at a time, in a random
/// order and rhythm.
fn survive(flaps: usize, least_transfers: usize) {
    let bed = Bed::new();
    bed.shape(50);
    let _server = bed.start_server("");
    let client = bed.start_client("\toption fallback 'block'", "");
    wait_for_paths(&client, ["up", "up"]);
    let service = bed.serve(echo);
    let (next, flapping) = (AtomicUsize::new(0), AtomicBool::new(true));
    let broken = Mutex::new(Vec::new());
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (bed, next, flapping, service, broken) = (&bed, &next, &flapping, &service, &broken);
            let client = &client;
            scope.spawn(move || loop {
                let round = next.fetch_add(1, Ordering::Relaxed);
                if round >= least_transfers && !flapping.load(Ordering::Relaxed) {
                    return;
                }
                let bytes = noise(20_000 + round * 997 % 400_000, round as u64);
                let begun = Instant::now();
                let back = try_connect(&bed.host1, service.address)
                    .and_then(|stream| exchange(&stream, bytes.clone()));
                let intact = back.as_ref().is_ok_and(|back| *back == bytes);
                if !intact {
                    let back = back.map(|back| format!("{} of {} bytes", back.len(), bytes.len()));
                    let line = format!("transfer {round} after {:?}: {back:?}", begun.elapsed());
                    let log = client.log();
                    let last: Vec<&str> = log.lines().rev().take(30).collect();
                    eprintln!("{line}\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
                    broken.lock().unwrap().push(line);
                    std::thread::sleep(Duration::from_millis(100));
                }
            });
        }
        for _ in 0..flaps {
            if broken.lock().unwrap().len() > 10 {
                break;
            }
            let path = ["p1", "p2"][random(2) as usize];
            if random(2) == 0 {
                silence(&bed, path);
                std::thread::sleep(Duration::from_millis(100 + random(900)));
                end_silence(&bed);
            } else {
                bed.r2.ip(&format!("link set {path} down"));
                std::thread::sleep(Duration::from_millis(100 + random(900)));
                bed.r2.ip(&format!("link set {path} up"));
            }
            // The other path must not die before this one is known to be back.
            wait_for_paths(&client, ["up", "up"]);
        }
        flapping.store(false, Ordering::Relaxed);
    });
    let (broken, transfers) = (broken.into_inner().unwrap(), next.into_inner());
    eprintln!("{transfers} transfers over {flaps} flaps, {} broken", broken.len());
    assert!(broken.is_empty(), "{} of {transfers} broke: {broken:#?}\n{}", broken.len(), client.log());
}

#[test]
fn transfers_survive_20_random_flaps() {
    survive(20, 60);
}

#[test]
#[ignore = "long: 10 000 transfers over 1 000 flaps"]
fn transfers_survive_1000_random_flaps() {
    survive(1_000, 10_000);
}
