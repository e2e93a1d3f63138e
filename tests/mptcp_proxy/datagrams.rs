// SPDX-License-Identifier: Apache-2.0
//! Datagrams and names through the tunnel, and past it while there is none.

use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use lab::process::Daemon;
use lab::{Dnsmasq, Netns};
use serde_json::json;

use crate::bed::*;
use crate::paths::wait_for_paths;

pub fn socket(namespace: &Netns, address: &str) -> UdpSocket {
    let socket = namespace.enter(|| UdpSocket::bind(address).unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Sends every datagram back to where it came from, until the test ends.
fn echo_datagrams(namespace: &Netns, address: &str) -> SocketAddr {
    let socket = socket(namespace, address);
    let address = socket.local_addr().unwrap();
    socket.set_read_timeout(None).unwrap();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], peer);
        }
    });
    address
}

/// Sends until an answer comes: a datagram may be lost while a lane is being opened or a server found to be gone.
pub fn ask(socket: &UdpSocket, target: SocketAddr, question: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        socket.send_to(question, target).unwrap();
        if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            assert_eq!(peer, target, "the answer comes from whom was asked");
            buffer.truncate(length);
            return buffer;
        }
    }
    panic!("no answer from {target}");
}

fn counter(daemon: &Daemon, name: &str) -> u64 {
    daemon.call("status", &json!({})).unwrap()["counters"][name].as_u64().unwrap()
}

#[test]
fn datagrams_of_the_lan_reach_their_target_and_come_back() {
    for encryption in ["\toption encryption 'none'", "\toption encryption 'aead'"] {
        let bed = Bed::new();
        let server = bed.start_server("");
        let client = bed.start_client("", encryption);
        for (target, own) in [(format!("{HOST2}:0"), "0.0.0.0:0"), (format!("[{HOST2_V6}]:0"), "[::]:0")] {
            let target = echo_datagrams(&bed.host2, &target);
            let asking = socket(&bed.host1, own);
            for length in [0, 1, 1400, 9000, 60_000] {
                let question = noise(length, 3);
                assert!(ask(&asking, target, &question) == question, "{length} bytes to {target}");
            }
        }
        assert_eq!((counter(&client, "udp_tunnelled"), counter(&client, "udp_direct")), (2, 0));
        // The lanes are in the list of connections, on both sides.
        for daemon in [&client, &server] {
            let listed = daemon.call("connections", &json!({})).unwrap();
            let lanes = listed["connections"].as_array().unwrap();
            let bytes: u64 = lanes.iter().filter_map(|lane| lane["tx_bytes"].as_u64()).sum();
            assert!(bytes > 140_000 && bytes < 200_000, "{listed:#}");
        }
    }
}

#[test]
fn a_socket_keeps_its_port_whatever_it_talks_to() {
    let bed = Bed::new();
    let _server = bed.start_server("");
    let _client = bed.start_client("", "");
    let asking = socket(&bed.host1, "0.0.0.0:0");
    let seen: Vec<SocketAddr> = (0..2)
        .map(|_| {
            let target = socket(&bed.host2, &format!("{HOST2}:0"));
            asking.send_to(b"who am I", target.local_addr().unwrap()).unwrap();
            target.recv_from(&mut [0; 16]).unwrap().1
        })
        .collect();
    assert_eq!(seen[0], seen[1]);
}

#[test]
fn a_telephone_call_survives_the_death_of_a_path_without_losing_a_packet() {
    const PACKETS: u32 = 250;
    let bed = Bed::with_delays([Duration::from_millis(10), Duration::from_millis(20)]);
    let _server = bed.start_server("");
    let client = bed.start_client("", "");
    wait_for_paths(&client, ["up", "up"]);
    let target = echo_datagrams(&bed.host2, &format!("{HOST2}:0"));
    let calling = socket(&bed.host1, "0.0.0.0:0");
    assert_eq!(ask(&calling, target, b"ring"), b"ring");
    calling.set_read_timeout(Some(PATIENCE)).unwrap();
    let begun = Instant::now();
    // G.711: 160 bytes every 20 ms, both ways.
    let sent_at = |number: u32| begun + Duration::from_millis(20) * number;
    let mut delays = std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..PACKETS {
                std::thread::sleep(sent_at(number).saturating_duration_since(Instant::now()));
                let mut packet = [7; 172];
                packet[..4].copy_from_slice(&number.to_be_bytes());
                calling.send_to(&packet, target).unwrap();
                if number == PACKETS / 2 {
                    silence(&bed, "p1");
                }
            }
        });
        let mut packet = [0; 200];
        let mut delays = Vec::new();
        for expected in 0..PACKETS {
            assert_eq!(calling.recv_from(&mut packet).unwrap(), (172, target));
            let number = u32::from_be_bytes(*packet.first_chunk().unwrap());
            assert_eq!(number, expected, "in order, and none lost");
            delays.push(sent_at(number).elapsed());
        }
        delays
    });
    end_silence(&bed);
    delays.sort();
    let (half, most) = (delays[delays.len() / 2], delays[delays.len() - 1]);
    eprintln!("round trip {half:?} in the median, {most:?} at worst, over a path that died");
    assert!(half < Duration::from_millis(500) && most < Duration::from_secs(5), "{half:?} {most:?}");
}

#[test]
fn without_a_server_datagrams_go_out_directly_and_come_back() {
    let bed = Bed::new();
    let server = bed.start_server("");
    let client = bed.start_client("", "");
    let target = echo_datagrams(&bed.host2, &format!("{HOST2}:0"));
    let old = socket(&bed.host1, "0.0.0.0:0");
    assert_eq!(ask(&old, target, b"1"), b"1");
    server.kill();
    client.wait_for_status("the server to be down", |status| status["servers"][0]["state"] == "down");
    assert_eq!(ask(&old, target, b"2"), b"2");
    let fresh = socket(&bed.host1, "0.0.0.0:0");
    assert_eq!(ask(&fresh, target, b"3"), b"3");
    assert_eq!(counter(&client, "udp_direct"), 2);
    let _server = start(&bed.r2, &bed.env2);
    client.wait_for_status("the server to be up", |status| status["servers"][0]["state"] == "up");
    let tunnelled = counter(&client, "udp_tunnelled");
    assert_eq!(ask(&socket(&bed.host1, "0.0.0.0:0"), target, b"4"), b"4");
    assert_eq!(counter(&client, "udp_tunnelled"), tunnelled + 1);
    // Its peer knows it by the address it has.
    assert_eq!(ask(&fresh, target, b"5"), b"5");
}

#[test]
fn with_fallback_block_no_datagram_leaves() {
    let bed = Bed::new();
    let server = bed.start_server("");
    let client = bed.start_client("\toption fallback 'block'", "");
    server.kill();
    client.wait_for_status("the server to be down", |status| status["servers"][0]["state"] == "down");
    let target = socket(&bed.host2, &format!("{HOST2}:0"));
    let asking = socket(&bed.host1, "0.0.0.0:0");
    asking.send_to(b"leak", target.local_addr().unwrap()).unwrap();
    client.wait_for_status("the datagram to be dropped", |status| status["counters"]["udp_dropped"] == 1);
    target.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(target.recv_from(&mut [0; 16]).is_err());
}

#[test]
fn flows_and_their_tunnels_end_after_the_timeout() {
    let bed = Bed::new();
    let server = bed.start_server("");
    let client = bed.start_client("\toption udp_timeout '1'", "");
    let target = echo_datagrams(&bed.host2, &format!("{HOST2}:0"));
    for _ in 0..50 {
        assert_eq!(ask(&socket(&bed.host1, "0.0.0.0:0"), target, b"x"), b"x");
    }
    for daemon in [&client, &server] {
        daemon.wait_for_status("no flows and no lanes", |status| {
            status["counters"]["udp_flows"] == 0 && status["counters"]["connections"] == 0
        });
        daemon.wait_for("sockets to be closed", || (daemon.descriptors().len() < 40).then_some(()));
    }
}

#[test]
fn datagrams_for_private_targets_are_refused_unless_allowed() {
    let bed = Bed::new();
    let server = bed.start_server("\tlist allow_target '10.2.0.2'");
    let _client = bed.start_client("", "");
    let asking = socket(&bed.host1, "0.0.0.0:0");
    let allowed = echo_datagrams(&bed.host2, &format!("{HOST2_PRIVATE}:0"));
    assert_eq!(ask(&asking, allowed, b"in"), b"in");
    let closed = socket(&bed.r2, "10.2.0.1:0");
    asking.send_to(b"out", closed.local_addr().unwrap()).unwrap();
    server.wait_for_status("the refusal", |status| status["counters"]["denied"] == 1);
    closed.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(closed.recv_from(&mut [0; 16]).is_err());
}

#[test]
fn udp_off_leaves_datagrams_alone() {
    let bed = Bed::new();
    let _server = bed.start_server("");
    let client = bed.start_client("\toption udp '0'", "");
    assert!(!bed.r1.run("nft list table inet mptcp_proxy").contains("udp"));
    // Plain routing: host2 has no way back to host1, so that only r1 is asked here.
    let asking = socket(&bed.host1, "0.0.0.0:0");
    asking.send_to(b"past", format!("{HOST2}:9").parse::<SocketAddr>().unwrap()).unwrap();
    assert_eq!(counter(&client, "udp_tunnelled"), 0);
}

/// A question for the IPv4 address of a name (RFC 1035 4.1).
pub fn question(name: &str, id: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label.bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// The address at the end of an answer with one record.
pub fn answer(message: &[u8]) -> [u8; 4] {
    assert_eq!(&message[6..8], [0, 1], "one answer: {message:?}");
    *message.last_chunk().unwrap()
}

#[test]
fn names_are_resolved_by_the_far_end_and_by_the_uplink_when_there_is_no_tunnel() {
    let bed = Bed::new();
    // The far end's resolver and the uplink's know different addresses.
    let _far =
        Dnsmasq::start(&bed.host2, &["--listen-address=198.51.100.2", "--address=/example.test/192.0.2.1"]);
    let _near = Dnsmasq::start(&bed.r2, &["--listen-address=10.11.0.2", "--address=/example.test/192.0.2.2"]);
    let (far, near) = (bed.env2.data("resolv"), bed.env1.data("resolv"));
    std::fs::write(&far, "nameserver 198.51.100.2\n").unwrap();
    std::fs::write(&near, "nameserver 10.11.0.2\n").unwrap();
    let server = bed.start_server(&format!("\toption resolv_file '{}'\n", far.display()));
    let option = format!("\toption dns_port '5353'\n\toption resolv_file '{}'\n", near.display());
    let client = bed.start_client(&option, "");
    // The router's own dnsmasq, without a cache.
    let local = ["--listen-address=10.1.0.1", "--server=127.0.0.1#5353", "--no-resolv", "--cache-size=0"];
    let _local = Dnsmasq::start(&bed.r1, &local);
    let router: SocketAddr = "10.1.0.1:53".parse().unwrap();
    let asking = socket(&bed.host1, "0.0.0.0:0");
    assert_eq!(answer(&ask(&asking, router, &question("www.example.test", 1))), [192, 0, 2, 1]);
    // dnsmasq hands a question by TCP on by TCP.
    let by_tcp = |id: u16| {
        let question = question("www.example.test", id);
        let mut stream = connect(&bed.host1, router);
        stream.write_all(&u16::try_from(question.len()).unwrap().to_be_bytes()).unwrap();
        stream.write_all(&question).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut message).unwrap();
        answer(&message)
    };
    assert_eq!(by_tcp(2), [192, 0, 2, 1]);
    assert_eq!((counter(&client, "dns_tunnelled"), counter(&client, "dns_direct")), (1, 0));
    // A server that stands still is found out by the question itself.
    server.freeze();
    assert_eq!(answer(&ask(&asking, router, &question("www.example.test", 3))), [192, 0, 2, 2]);
    assert!(counter(&client, "dns_direct") > 0);
    client.wait_for_status("the server to be down", |status| status["servers"][0]["state"] == "down");
    assert_eq!(by_tcp(4), [192, 0, 2, 2]);
    server.thaw();
    client.wait_for_status("the server to be up", |status| status["servers"][0]["state"] == "up");
    assert_eq!(answer(&ask(&asking, router, &question("www.example.test", 5))), [192, 0, 2, 1]);
}
