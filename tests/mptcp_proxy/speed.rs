// SPDX-License-Identifier: Apache-2.0
//! What a gigabyte costs each half, on paths without a limit. Figures only; the comparison with others is `make bench`.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

use lab::process::Daemon;
use serde_json::json;

use crate::bed::*;
use crate::paths::wait_for_paths;

const CHUNK: usize = 1 << 20;
const CHUNKS: usize = 4096;

fn pour(mut stream: &TcpStream) {
    let chunk = noise(CHUNK, 7);
    for _ in 0..CHUNKS {
        stream.write_all(&chunk).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
}

fn swallow(mut stream: &TcpStream) -> usize {
    let mut buffer = vec![0; CHUNK];
    let mut sum = 0;
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => return sum,
            length => sum += length,
        }
    }
}

/// User and system time of the process so far, seconds.
fn cpu(daemon: &Daemon) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

fn measure(encryption: &str) {
    let bed = Bed::new();
    let server = bed.start_server("");
    let client = bed.start_client("", encryption);
    wait_for_paths(&client, ["up", "up"]);
    let sink = bed.serve(|mut stream| {
        let sum = swallow(&stream);
        stream.write_all(&sum.to_le_bytes()).unwrap();
    });
    let source = bed.serve(|stream| pour(&stream));
    for (name, service) in [("up", &sink), ("down", &source)] {
        let before = [&client, &server].map(cpu);
        let begun = Instant::now();
        let mut stream = bed.connect(service.address);
        if name == "up" {
            pour(&stream);
            let mut sum = [0; 8];
            stream.read_exact(&mut sum).unwrap();
            assert_eq!(usize::from_le_bytes(sum), CHUNK * CHUNKS);
        } else {
            assert_eq!(swallow(&stream), CHUNK * CHUNKS);
        }
        let seconds = begun.elapsed().as_secs_f64();
        let gigabytes = (CHUNK * CHUNKS) as f64 / 1e9;
        let after = [&client, &server].map(cpu);
        eprintln!(
            "{encryption} {name}: {:.1} Gbit/s, client {:.3} s/GB, server {:.3} s/GB",
            8.0 * gigabytes / seconds,
            (after[0] - before[0]) / gigabytes,
            (after[1] - before[1]) / gigabytes
        );
    }
    let counters = client.call("status", &json!({})).unwrap()["counters"].clone();
    eprintln!("{encryption}: {counters}");
}

#[test]
#[ignore = "long: figures"]
fn what_a_gigabyte_costs_in_the_clear() {
    measure("\toption encryption 'none'");
}

#[test]
#[ignore = "long: figures"]
fn what_a_gigabyte_costs_encrypted() {
    measure("\toption encryption 'aead'");
}

/// Every link of 10 Mbit/s is used all the time, by each of several transfers of half a minute.
#[test]
#[ignore = "long: minutes of a saturated uplink"]
fn long_uploads_keep_both_paths_busy() {
    for encryption in ["\toption encryption 'none'", "\toption encryption 'aead'"] {
        let bed = Bed::new();
        bed.shape(10);
        let _server = bed.start_server("");
        let client = bed.start_client("", encryption);
        wait_for_paths(&client, ["up", "up"]);
        let (tell, told) = std::sync::mpsc::channel();
        let sink = bed.serve(move |mut stream| {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                if tell.send(length).is_err() {
                    return;
                }
            }
        });
        for round in 0..4 {
            let stream = bed.connect(sink.address);
            let pouring = std::thread::spawn({
                let mut stream = stream.try_clone().unwrap();
                move || {
                    let chunk = noise(64 << 10, 5);
                    while stream.write_all(&chunk).is_ok() {}
                }
            });
            let mut per_second = Vec::new();
            for _ in 0..25 {
                let second = Instant::now() + std::time::Duration::from_secs(1);
                let mut sum = 0;
                while let Some(left) = second.checked_duration_since(Instant::now()) {
                    sum += told.recv_timeout(left).unwrap_or(0);
                }
                per_second.push((sum as f64 * 8.0 / 1e5).round() / 10.0);
            }
            stream.shutdown(Shutdown::Both).unwrap();
            let _ = pouring.join();
            let mean = per_second[5..].iter().sum::<f64>() / (per_second.len() - 5) as f64;
            eprintln!("{encryption} {round}: {mean:.1} Mbit/s, {per_second:?}");
            assert!(mean > 17.5, "of 20 Mbit/s, of which 18.8 fit");
        }
    }
}
