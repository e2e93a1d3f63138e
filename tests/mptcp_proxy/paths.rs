// SPDX-License-Identifier: Apache-2.0
//! Every path is used, and losing one is hardly felt.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use lab::process::Daemon;
use serde_json::{json, Value};

use crate::bed::*;

/// Waits until every path has this state.
pub fn wait_for_paths(client: &Daemon, states: [&str; 2]) -> Value {
    client.wait_for_status(&format!("paths {states:?}"), |status| {
        states.iter().enumerate().all(|(index, state)| status["paths"][index]["state"] == *state)
    })
}

/// Sends noise until the client goes.
fn pour(mut stream: TcpStream) {
    let chunk = noise(64 * 1024, 5);
    while stream.write_all(&chunk).is_ok() {}
}

/// Reads for a while; the longest time without a byte.
fn longest_stall(stream: &mut TcpStream, length: Duration) -> Duration {
    let mut buffer = vec![0; 64 * 1024];
    let (begun, mut last, mut longest) = (Instant::now(), Instant::now(), Duration::ZERO);
    while begun.elapsed() < length {
        assert!(stream.read(&mut buffer).unwrap() > 0, "the transfer ended");
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    longest
}

/// How long a new connection takes to its first byte.
fn first_byte(bed: &Bed, service: &Service) -> Duration {
    let begun = Instant::now();
    let mut stream = bed.connect(service.address);
    stream.write_all(b"?").unwrap();
    stream.read_exact(&mut [0; 1]).unwrap();
    begun.elapsed()
}

#[test]
fn two_subflows_carry_their_shares() {
    let bed = Bed::new();
    bed.shape(10);
    let _server = bed.start_server("");
    let client = bed.start_client("", "");
    wait_for_paths(&client, ["up", "up"]);
    let service = bed.serve(pour);
    let mut stream = bed.connect(service.address);
    longest_stall(&mut stream, Duration::from_secs(4));
    let sockets = bed.r1.run("ss -tnHi dst 203.0.113.2");
    for address in ["10.11.0.1:", "10.12.0.1:"] {
        assert!(sockets.lines().any(|line| line.contains(address)), "{sockets}");
    }
    // The kernel's own view of the connection: one subflow beside its first.
    let whole = bed.r1.run("ss -MnHi dst 203.0.113.2");
    assert!(whole.contains("subflows:1 "), "{whole}");
    // And its window: what the faster path brings has to wait for the slower one somewhere.
    let buffers = bed.r2.run("ss -MnHm sport = :1088");
    let widest =
        buffers.split(",rb").skip(1).filter_map(|rest| rest.split(',').next()?.parse::<u64>().ok()).max();
    assert!(widest >= Some(1 << 20), "{buffers}");
    let listed = client.call("connections", &json!({})).unwrap();
    let subflows = listed["connections"][0]["subflows"].as_array().unwrap();
    assert_eq!(subflows.len(), 2, "{listed:#}");
    let status = client.call("status", &json!({})).unwrap();
    let bytes = [0, 1].map(|path| status["paths"][path]["rx_bytes"].as_u64().unwrap());
    let total: u64 = bytes.iter().sum();
    assert!(bytes.iter().all(|bytes| bytes * 4 > total), "each carries more than a quarter: {bytes:?}");
    assert!(status["paths"][0]["rtt"].as_f64().unwrap() > 0.0, "{status:#}");
    assert_eq!((&status["paths"][1]["subflows"], &status["paths"][1]["mptcp"]), (&json!(1), &json!(true)));
}

#[test]
fn a_path_that_dies_silently_is_left_and_found_again() {
    let bed = Bed::new();
    bed.shape(20);
    let _server = bed.start_server("");
    let client = bed.start_client("", "");
    wait_for_paths(&client, ["up", "up"]);
    let (pouring, answering) = (bed.serve(pour), bed.serve(echo));
    let mut stream = bed.connect(pouring.address);
    longest_stall(&mut stream, Duration::from_millis(1500));
    silence(&bed, "p1");
    let (fresh, stall) = std::thread::scope(|scope| {
        let fresh = scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            (0..5).map(|_| first_byte(&bed, &answering)).collect::<Vec<_>>()
        });
        let stall = longest_stall(&mut stream, Duration::from_secs(3));
        (fresh.join().unwrap(), stall)
    });
    eprintln!("silent death: stall {stall:?}, new connections {fresh:?}");
    // The aim is half a second each; a loaded machine gets more, the kernel alone would take longer than all of it.
    assert!(stall < Duration::from_secs(3), "{stall:?}");
    assert!(fresh.iter().all(|time| *time < Duration::from_secs(3)), "{fresh:?}");
    let status = wait_for_paths(&client, ["down", "up"]);
    assert_eq!(status["counters"]["direct"], 0, "{status:#}");
    let endpoints = bed.r1.ip("mptcp endpoint show");
    assert!(!endpoints.contains("10.11.0.1") && endpoints.contains("10.12.0.1"), "{endpoints}");
    end_silence(&bed);
    wait_for_paths(&client, ["up", "up"]);
    client.wait_for("the endpoint of the path that is back", || {
        bed.r1.ip("mptcp endpoint show").contains("10.11.0.1").then_some(())
    });
    longest_stall(&mut stream, Duration::from_secs(1));
}

#[test]
fn a_path_whose_link_goes_down_is_left_and_found_again() {
    let bed = Bed::new();
    bed.shape(20);
    let _server = bed.start_server("");
    let client = bed.start_client("", "");
    wait_for_paths(&client, ["up", "up"]);
    let (pouring, answering) = (bed.serve(pour), bed.serve(echo));
    let mut stream = bed.connect(pouring.address);
    longest_stall(&mut stream, Duration::from_millis(1500));
    bed.r2.ip("link set p1 down");
    let stall = longest_stall(&mut stream, Duration::from_secs(3));
    let fresh = first_byte(&bed, &answering);
    eprintln!("link down: stall {stall:?}, new connection {fresh:?}");
    assert!(stall < Duration::from_secs(3) && fresh < Duration::from_secs(3));
    let status = wait_for_paths(&client, ["down", "up"]);
    assert_eq!(status["paths"][0]["reason"], "the device has no carrier");
    bed.r2.ip("link set p1 up");
    wait_for_paths(&client, ["up", "up"]);
    longest_stall(&mut stream, Duration::from_secs(1));
}

#[test]
fn a_path_is_switched_off_and_on() {
    let bed = Bed::new();
    let _server = bed.start_server("");
    let client = bed.start_client("", "");
    wait_for_paths(&client, ["up", "up"]);
    let answer = client.call("path", &json!({"name": "one", "action": "down"})).unwrap();
    assert_eq!(answer["reason"], "switched off by the operator");
    assert!(!bed.r1.ip("mptcp endpoint show").contains("10.11.0.1"));
    let service = bed.serve(echo);
    assert_eq!(exchange(&bed.connect(service.address), b"over two".to_vec()).unwrap(), b"over two");
    client.call("path", &json!({"name": "one", "action": "up"})).unwrap();
    wait_for_paths(&client, ["up", "up"]);
    assert_eq!(
        client.call("path", &json!({"name": "three", "action": "up"})).unwrap_err()["code"],
        "not_found"
    );
}

#[test]
fn foreign_endpoints_are_left_alone_and_ours_are_taken_away() {
    let bed = Bed::new();
    bed.r1.ip("addr add 10.13.0.1/24 dev lan");
    bed.r1.ip("mptcp endpoint add 10.13.0.1 signal");
    let _server = bed.start_server("");
    let client = bed.start_client("", "");
    wait_for_paths(&client, ["up", "up"]);
    assert!(bed.r1.ip("rule show").contains("from 10.12.0.1 lookup"));
    // Killed, its endpoints stay; the next start knows them, and a stop takes them away.
    client.kill();
    let client = start(&bed.r1, &bed.env1);
    wait_for_paths(&client, ["up", "up"]);
    assert!(client.stop().success());
    let endpoints = bed.r1.ip("mptcp endpoint show");
    assert!(endpoints.contains("10.13.0.1") && endpoints.lines().count() == 1, "{endpoints}");
    assert!(!bed.r1.ip("rule show").contains("from 10.12.0.1"), "{}", bed.r1.ip("rule show"));
    assert!(!bed.r1.ip("rule show").contains("fwmark"));
    assert!(!bed.r1.run("nft list tables").contains("mptcp_proxy"));
}

#[test]
fn where_mptcp_is_stripped_plain_tcp_carries_on_and_is_shown() {
    let bed = Bed::new();
    let script = "table inet strip { chain forward { type filter hook postrouting priority mangle; \
                  oifname { p1, p2 } tcp flags syn reset tcp option mptcp; }; }";
    bed.r1.run_with_input("nft -f -", script);
    let server = bed.start_server("");
    let client = bed.start_client("", "");
    let service = bed.serve(echo);
    let bytes = noise(500_000, 8);
    assert!(exchange(&bed.connect(service.address), bytes.clone()).unwrap() == bytes);
    let status = client.wait_for_status("MPTCP to be missed", |status| status["paths"][0]["mptcp"] == false);
    assert!(status["counters"]["without_mptcp"].as_u64().unwrap() > 0, "{status:#}");
    client.wait_for_log("MPTCP is stripped");
    assert!(
        server.call("status", &json!({})).unwrap()["counters"]["served_without_mptcp"].as_u64().unwrap() > 0
    );
}

#[test]
fn where_mptcp_is_stripped_behind_the_handshake_plain_tcp_carries_on_and_is_shown() {
    let bed = Bed::new();
    let script = "table inet strip { chain forward { type filter hook postrouting priority mangle; \
                  oifname { p1, p2 } tcp flags & syn == 0 reset tcp option mptcp; }; }";
    let _server = bed.start_server("");
    let client = bed.start_client("", "");
    wait_for_paths(&client, ["up", "up"]);
    let service = bed.serve(echo);
    let bytes = noise(500_000, 8);
    let transfer = || assert!(exchange(&bed.connect(service.address), bytes.clone()).unwrap() == bytes);
    transfer();
    let missed = |status: &Value| status["counters"]["without_mptcp"].as_u64().unwrap();
    let before = client.wait_for_status("MPTCP", |status| status["paths"][0]["mptcp"] == true);
    assert_eq!(missed(&before), 0);
    bed.r1.run_with_input("nft -f -", script);
    // The pool was filled before, and more of it is wanted.
    for _ in 0..20 {
        transfer();
    }
    let status = client.wait_for_status("MPTCP to be missed", |status| missed(status) > 1);
    assert_eq!(status["counters"]["direct"], 0, "{status:#}");
    assert!(!client.log().contains("does not answer"), "{}", client.log());
    client.wait_for_log("MPTCP is stripped");
    bed.r1.run("nft delete table inet strip");
    client.wait_for_status("MPTCP again", |status| {
        transfer();
        status["paths"][0]["mptcp"] == true
    });
}

#[test]
fn where_a_firewall_drops_mptcp_plain_tcp_carries_on_and_is_shown() {
    let bed = Bed::new();
    let script = "table inet dropper { chain prerouting { type filter hook prerouting priority -400; \
                  iifname { p1, p2 } tcp flags syn tcp option mptcp exists drop; }; }";
    bed.r2.run_with_input("nft -f -", script);
    let _server = bed.start_server("");
    // The kernel gives up MPTCP after its second repetition of the SYN, about 3 s.
    let client = bed.start_client("", "");
    let service = bed.serve(echo);
    let bytes = noise(500_000, 9);
    assert!(exchange(&bed.connect(service.address), bytes.clone()).unwrap() == bytes);
    let status = client.wait_for_status("MPTCP to be missed", |status| status["paths"][0]["mptcp"] == false);
    assert_eq!(status["counters"]["direct"], 0, "{status:#}");
}

/// Connect, ask, hear the first byte.
fn median_first_byte(rounds: usize, once: impl Fn() -> Duration) -> Duration {
    let mut times: Vec<Duration> = (0..rounds).map(|_| once()).collect();
    times.sort();
    times[rounds / 2]
}

#[test]
fn a_warm_pool_is_faster_to_the_first_byte_than_no_proxy_at_all() {
    let bed = Bed::with_delays([Duration::from_millis(10), Duration::from_millis(30)]);
    let _server = bed.start_server("");
    let client = bed.start_client("", "");
    wait_for_paths(&client, ["up", "up"]);
    let answering = bed.serve(echo);
    // The router itself reaches host2 without the proxy, over the same first path.
    let direct = median_first_byte(15, || {
        let begun = Instant::now();
        let mut stream = connect(&bed.r1, answering.address);
        stream.write_all(b"?").unwrap();
        stream.read_exact(&mut [0; 1]).unwrap();
        begun.elapsed()
    });
    let proxied = median_first_byte(15, || {
        client.wait_for_status("a warm pool", |status| status["servers"][0]["pool"].as_u64() >= Some(2));
        first_byte(&bed, &answering)
    });
    eprintln!("first byte at RTT 20 ms: direct {direct:?}, by the proxy {proxied:?}");
    assert!(proxied < direct, "direct {direct:?}, by the proxy {proxied:?}");
    let status = client.call("status", &json!({})).unwrap();
    assert_eq!(status["counters"]["tunnelled"], 15, "{status:#}");
}
