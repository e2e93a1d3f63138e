// SPDX-License-Identifier: Apache-2.0
//! Bytes arrive, whatever the way they are taken and carried.

use std::io::{Read, Write};

use serde_json::json;

use crate::bed::*;

const MEGABYTES: usize = 6 * 1024 * 1024;

fn transfer(client: &str, upstream: &str) {
    let bed = Bed::new();
    let _server = bed.start_server("");
    let client = bed.start_client(client, upstream);
    let service = bed.serve(echo);
    let stream = bed.connect(service.address);
    let bytes = noise(MEGABYTES, 1);
    assert!(exchange(&stream, bytes.clone()).unwrap() == bytes, "the echo differs");
    let status = client.call("status", &json!({})).unwrap();
    assert_eq!(status["counters"]["tunnelled"], 1, "{status:#}");
    assert_eq!(status["counters"]["direct"], 0, "{status:#}");
}

#[test]
fn tproxy_and_encryption_carry_a_transfer_unchanged() {
    transfer("", "");
}

#[test]
fn tproxy_without_encryption_carries_a_transfer_unchanged() {
    transfer("", "\toption encryption 'none'");
}

#[test]
fn a_long_transfer_in_the_clear_stays_in_the_kernel() {
    let bed = Bed::new();
    let server = bed.start_server("");
    let client = bed.start_client("", "\toption encryption 'none'");
    let service = bed.serve(echo);
    // More of them than there are pipes.
    std::thread::scope(|scope| {
        for seed in 0..12 {
            let (bed, service) = (&bed, &service);
            scope.spawn(move || {
                let bytes = noise(2 * MEGABYTES / 3, seed);
                assert!(exchange(&bed.connect(service.address), bytes.clone()).unwrap() == bytes, "{seed}");
            });
        }
    });
    for daemon in [&client, &server] {
        let status = daemon.call("status", &json!({})).unwrap();
        assert_eq!(status["splice"], "ok", "{status:#}");
        assert!(status["counters"]["spliced_bytes"].as_u64() > Some(MEGABYTES as u64), "{status:#}");
        daemon.wait_for_status("no connections", |status| status["counters"]["connections"] == 0);
    }
}

#[test]
fn redirect_carries_a_transfer_unchanged() {
    transfer("\toption mode 'redirect'", "");
}

#[test]
fn without_a_pool_a_transfer_is_carried_unchanged() {
    transfer("\toption pool '0'", "");
}

#[test]
fn a_server_that_speaks_first_is_heard() {
    let bed = Bed::new();
    let _server = bed.start_server("");
    let _client = bed.start_client("", "");
    let service = bed.serve(|mut stream| {
        stream.write_all(b"220 ready").unwrap();
        echo(stream);
    });
    let mut stream = bed.connect(service.address);
    let mut greeting = [0; 9];
    stream.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"220 ready");
    assert_eq!(exchange(&stream, b"bye".to_vec()).unwrap(), b"bye");
}

#[test]
fn many_connections_at_once_are_kept_apart() {
    let bed = Bed::new();
    let _server = bed.start_server("");
    let _client = bed.start_client("", "");
    let service = bed.serve(echo);
    let streams: Vec<_> = (0..60).map(|_| bed.connect(service.address)).collect();
    std::thread::scope(|scope| {
        for (index, stream) in streams.iter().enumerate() {
            scope.spawn(move || {
                let bytes = noise(40_000 + index, index as u64);
                assert!(exchange(stream, bytes.clone()).unwrap() == bytes, "connection {index} differs");
            });
        }
    });
}

#[test]
fn ipv6_of_the_lan_is_carried() {
    let bed = Bed::new();
    let _server = bed.start_server("");
    let client = bed.start_client("", "");
    let service = bed.serve_at(&format!("[{HOST2_V6}]:0"), echo);
    let stream = bed.connect(service.address);
    let bytes = noise(300_000, 6);
    assert!(exchange(&stream, bytes.clone()).unwrap() == bytes);
    let status = client.call("status", &json!({})).unwrap();
    assert_eq!(status["counters"]["tunnelled"], 1, "{status:#}");
}

#[test]
fn programs_use_the_socks_listener() {
    let bed = Bed::new();
    let _server = bed.start_server("");
    let client = bed.start_client("\toption mode 'socks'", "");
    let service = bed.serve(echo);
    let mut stream = connect(&bed.r1, "127.0.0.1:1088".parse().unwrap());
    stream.write_all(&[5, 1, 0]).unwrap();
    let mut method = [0; 2];
    stream.read_exact(&mut method).unwrap();
    assert_eq!(method, [5, 0]);
    let mut request = vec![5, 1, 0, 1, 198, 51, 100, 2];
    request.extend(service.address.port().to_be_bytes());
    stream.write_all(&request).unwrap();
    let mut reply = [0; 10];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(reply[..2], [5, 0], "{reply:?}");
    let bytes = noise(100_000, 2);
    assert!(exchange(&stream, bytes.clone()).unwrap() == bytes);
    let status = client.call("status", &json!({})).unwrap();
    assert_eq!(status["counters"]["tunnelled"], 1, "{status:#}");
}

#[test]
fn the_list_shows_a_connection_with_its_target_and_bytes() {
    let bed = Bed::new();
    let server = bed.start_server("");
    let client = bed.start_client("", "");
    let service = bed.serve(echo);
    let mut stream = bed.connect(service.address);
    stream.write_all(b"12345").unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
    for (daemon, way) in [(&client, "tunnel"), (&server, "served")] {
        let listed = daemon.call("connections", &json!({})).unwrap();
        assert_eq!(listed["total"], 1, "{listed:#}");
        let connection = &listed["connections"][0];
        assert_eq!(connection["target"], service.address.to_string());
        assert!(connection["source"].as_str().unwrap().starts_with("10.1.0.2:"), "{connection:#}");
        assert_eq!((connection["way"].as_str(), connection["state"].as_str()), (Some(way), Some("open")));
    }
    let listed = client.call("connections", &json!({})).unwrap();
    assert_eq!(listed["connections"][0]["tx_bytes"], 0, "early bytes are counted where they are relayed");
}

#[test]
fn r2_itself_is_reached_through_the_proxy() {
    let bed = Bed::new();
    let server = bed.start_server("\tlist allow_target '10.2.0.1'");
    let client = bed.start_client("\toption fallback 'block'", "");
    let itself = service(&bed.r2, "10.2.0.1:0", echo);
    let bytes = noise(500_000, 9);
    assert!(exchange(&bed.connect(itself.address), bytes.clone()).unwrap() == bytes);
    for (daemon, counter) in [(&client, "tunnelled"), (&server, "served")] {
        assert_eq!(daemon.call("status", &json!({})).unwrap()["counters"][counter], 1);
    }
}
