// SPDX-License-Identifier: Apache-2.0
//! What connections cost.

use std::io::{Read, Write};

use crate::bed::*;

const CONNECTIONS: u64 = 1000;
/// What the allocator's pages make of it more or less, kB.
const ROUNDING: u64 = 64;

fn a_thousand(encryption: &str) {
    let bed = Bed::new();
    let server = bed.start_server("");
    let client = bed.start_client("", encryption);
    let service = bed.serve(|mut stream| {
        // Without a buffer per connection of its own.
        while stream.read_exact(&mut [0; 1]).is_ok() && stream.write_all(b"!").is_ok() {}
    });
    let open = || {
        let mut stream = bed.connect(service.address);
        stream.write_all(b"?").unwrap();
        stream.read_exact(&mut [0; 1]).unwrap();
        stream
    };
    let idle = [&client, &server].map(|daemon| daemon.memory_kb("RssAnon"));
    drop((0..50).map(|_| open()).collect::<Vec<_>>());
    for daemon in [&client, &server] {
        daemon.wait_for_status("no connections", |status| status["counters"]["connections"] == 0);
    }
    let before = [&client, &server].map(|daemon| daemon.memory_kb("RssAnon"));
    let streams: Vec<_> = (0..CONNECTIONS).map(|_| open()).collect();
    for daemon in [&client, &server] {
        daemon.wait_for_status("the connections", |status| status["counters"]["connections"] == CONNECTIONS);
    }
    let with = [&client, &server].map(|daemon| daemon.memory_kb("RssAnon"));
    eprintln!(
        "{encryption}: kB idle {idle:?}, before {before:?}, with 1000 connections {with:?} (client, server)"
    );
    for half in 0..2 {
        assert!(with[half] - before[half] <= 2 * CONNECTIONS + ROUNDING, "{before:?} kB, {with:?} kB");
    }
    drop(streams);
}

#[test]
fn a_thousand_connections_cost_2_mb_of_each_half() {
    a_thousand("\toption encryption 'none'");
}

#[test]
fn a_thousand_encrypted_connections_cost_2_mb_of_each_half() {
    a_thousand("\toption encryption 'aead'");
}
