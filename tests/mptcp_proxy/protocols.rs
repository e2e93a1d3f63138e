// SPDX-License-Identifier: Apache-2.0
//! Packets that are neither TCP nor UDP through the tunnel (`other_protocols`).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use lab::process::{Daemon, Environment};
use lab::Netns;
use serde_json::{json, Value};

use crate::bed::*;
use crate::failover::routing;
use crate::raw::*;

const TAKEN: &str = "\toption other_protocols '1'\n";

/// The server's configuration with these lines in its section and that of its user.
fn server_config(server: &str, user: &str) -> String {
    format!(
        "config server 'vps'\n\toption congestion 'reno'\n{server}\n\
         config user 'r1'\n\toption server 'vps'\n\toption key '{KEY}'\n{user}\n"
    )
}

fn start_server(bed: &Bed, server: &str) -> Daemon {
    bed.env2.write_config("mptcp-proxy", &server_config(server, TAKEN));
    start(&bed.r2, &bed.env2)
}

/// Both halves, once packets are carried.
fn start_both(bed: &Bed, server: &str, client: &str) -> (Daemon, Daemon) {
    let server = start_server(bed, server);
    let client = bed.start_client(&format!("{TAKEN}{client}"), "");
    wait_for_state(&client, "carried");
    (server, client)
}

fn wait_for_state(client: &Daemon, state: &str) -> Value {
    client.wait_for_status(state, |status| status["packets"]["client"]["state"] == state)
}

fn counters(daemon: &Daemon, half: &str) -> Value {
    daemon.call("status", &json!({})).unwrap()["packets"][half]["counters"].take()
}

/// Both halves, and the way back for packets that go beside the tunnel.
fn open_direct_way(bed: &Bed) {
    bed.r2.ip("route add 10.1.0.0/24 via 10.11.0.1");
}

#[test]
fn echo_requests_of_both_families_are_answered_through_the_tunnel() {
    for encryption in ["none", "aead"] {
        let bed = Bed::new();
        let server = start_server(&bed, "");
        let client = bed.start_client(TAKEN, &format!("\toption encryption '{encryption}'"));
        wait_for_state(&client, "carried");
        for target in [HOST2, HOST2_V6] {
            let ping = Raw::open(&bed.host1, icmp(target), PATIENCE);
            for (number, length) in (1u16..).zip([0, 56, 1400, 4000]) {
                let bytes = noise(length, 5);
                let asked = echo_request(target, 77, number, &bytes);
                let answer = ping.ask(target, &asked, |from, answer| {
                    (from == target.parse::<IpAddr>().unwrap())
                        .then(|| echo_reply(answer, 77, number))
                        .flatten()
                });
                assert!(answer == bytes, "{length} bytes to {target}");
            }
        }
        for (half, daemon) in [("client", &client), ("server", &server)] {
            let counters = counters(daemon, half);
            assert!(counters["sent"].as_u64() >= Some(8) && counters["received"].as_u64() >= Some(8));
            assert!(
                counters["dropped"].as_object().unwrap().values().all(|count| *count == 0),
                "{counters:#}"
            );
        }
        let status = client.call("status", &json!({})).unwrap();
        let addresses = &status["packets"]["client"]["addresses"];
        assert_eq!(*addresses, json!(["100.127.88.2", "fd6d:7074:6370::2"]));
        for daemon in [&client, &server] {
            let examined = daemon.call("doctor", &json!({})).unwrap();
            let line = |check: &&Value| check["check"].as_str().unwrap().starts_with("other protocols");
            let line = examined.as_array().unwrap().iter().find(line);
            assert_eq!(line.unwrap()["result"], "ok", "{examined:#}");
        }
    }
}

#[test]
fn routers_on_the_way_answer_when_the_time_to_live_is_over() {
    let bed = Bed::new();
    let (_server, client) = start_both(&bed, "", "");
    for (target, hops) in
        [(HOST2, ["10.1.0.1", "100.127.88.1"]), (HOST2_V6, ["2001:db8:1::1", "fd6d:7074:6370::1"])]
    {
        let ping = Raw::open(&bed.host1, icmp(target), PATIENCE);
        for (ttl, hop) in (1..).zip(hops) {
            ping.set_ttl(ttl);
            let from = ping.ask(target, &echo_request(target, 5, 5, b"trace"), |from, answer| {
                is_time_exceeded(answer, &echo_request(target, 5, 5, b"trace")).then_some(from)
            });
            assert_eq!(from, hop.parse::<IpAddr>().unwrap(), "{ttl} hops");
        }
        ping.set_ttl(3);
        ping.ask(target, &echo_request(target, 5, 6, b"there"), |_, answer| echo_reply(answer, 5, 6));
    }
    assert!(counters(&client, "client")["received"].as_u64() >= Some(4));
}

#[test]
fn sctp_and_gre_keep_their_content_both_ways() {
    let bed = Bed::new();
    let (server, _client) = start_both(&bed, "", "");
    let tag = 0x1234_5678;
    let cases = [
        (132, sctp(1, 0, tag), sctp(2, tag, 9)),
        (47, [&[0, 0, 8, 0][..], &noise(900, 3)].concat(), [&[0, 0, 8, 0][..], &noise(1200, 4)].concat()),
        (253, noise(1, 5), noise(1480, 6)),
    ];
    for (protocol, question, answer) in cases {
        let there = Raw::open(&bed.host2, protocol, PATIENCE);
        let expected = question.clone();
        let reply = answer.clone();
        let answering = std::thread::spawn(move || {
            let (from, received) =
                there.wait(|_, received| (received == expected).then(|| received.to_vec()));
            // It comes from r2, whose kernel brings the answer back.
            assert_eq!(from, "198.51.100.1".parse::<IpAddr>().unwrap());
            for _ in 0..3 {
                there.send(&from.to_string(), &reply);
            }
            received
        });
        let here = Raw::open(&bed.host1, protocol, PATIENCE);
        let received = here.ask(HOST2, &question, |from, received| {
            (from == HOST2.parse::<IpAddr>().unwrap()).then(|| received.to_vec())
        });
        assert!(received == answer, "protocol {protocol}");
        assert!(answering.join().unwrap() == question, "protocol {protocol}");
    }
    assert_eq!(counters(&server, "server")["dropped"]["protocol"], 0);
}

#[test]
fn packets_for_private_targets_are_refused_unless_allowed() {
    let bed = Bed::new();
    let (server, _client) =
        start_both(&bed, "\tlist allow_target '10.2.0.2'\n", "\toption fallback 'block'\n");
    let ping = Raw::open(&bed.host1, icmp(HOST2), PATIENCE);
    ping.ask(HOST2_PRIVATE, &echo_request(HOST2, 1, 1, b""), |_, answer| echo_reply(answer, 1, 1));
    let sent: u64 = 4;
    for closed in ["10.2.0.1", "198.51.100.1", "100.127.88.1", "100.127.88.77"] {
        ping.send(closed, &echo_request(HOST2, 2, 2, b""));
    }
    server.wait_for_status("the refusals", |status| {
        status["packets"]["server"]["counters"]["dropped"]["denied"] == sent
    });
    server.wait_for_log("a packet to 10.2.0.1 refused: it is private: list it in allow_target");
    // Whatever was answered would be in front of this.
    ping.send(HOST2, &echo_request(HOST2, 3, 3, b""));
    ping.wait(|from, answer| {
        assert!(echo_reply(answer, 2, 2).is_none(), "{from} answered");
        echo_reply(answer, 3, 3)
    });
}

#[test]
fn a_server_that_was_not_told_to_carries_nothing() {
    let bed = Bed::new();
    open_direct_way(&bed);
    let server = bed.start_server("");
    let client = bed.start_client(&format!("{TAKEN}\toption fallback 'block'\n"), "");
    wait_for_state(&client, "refused");
    server.wait_for_log("option other_protocols of its user is off");
    assert!(!bed.r2.ip("link show").contains("mptcp1"));
    let ping = Raw::open(&bed.host1, icmp(HOST2), Duration::from_secs(1));
    ping.send(HOST2, &echo_request(HOST2, 1, 1, b""));
    client.wait_for_status("the drop", |status| {
        status["packets"]["client"]["counters"]["dropped"]["no_tunnel"].as_u64() >= Some(1)
    });
    assert!(ping.receive().is_none(), "blocked");
    let examined = client.call("doctor", &json!({})).unwrap();
    assert!(examined
        .as_array()
        .unwrap()
        .iter()
        .any(|check| { check["check"] == "other protocols (client)" && check["result"] == "fail" }));
    // With the usual fallback they go as they would without us.
    bed.env1.write_config("mptcp-proxy", &client_config(TAKEN, ""));
    client.reload();
    ping.ask(HOST2, &echo_request(HOST2, 2, 2, b""), |_, answer| echo_reply(answer, 2, 2));
    assert!(!bed.r2.ip("link show").contains("mptcp1"));
    // Told to, it does, and told not to any more, it does not.
    bed.env2.write_config("mptcp-proxy", &server_config("", TAKEN));
    server.reload();
    server.wait_for_status("the device", |status| status["packets"]["server"].is_object());
    client.reload();
    wait_for_state(&client, "carried");
    bed.env2.write_config("mptcp-proxy", &server_config("", ""));
    server.reload();
    server.wait_for_status("the end", |status| status["packets"]["server"].is_null());
    wait_for_state(&client, "refused");
    assert!(!bed.r2.run("nft list tables").contains("mptcp_proxy_exit"));
}

#[test]
fn two_clients_with_equal_lans_do_not_meet() {
    let bed = Bed::new();
    let (server, client) = start_both(&bed, "", "");
    // Another router, with the same addresses behind it.
    let (host3, r3, env3) = (Netns::new("host3"), Netns::new("r3"), Environment::new());
    host3.join("eth0", &r3, "lan");
    r3.join("p1", &bed.r2, "p3");
    r3.sysctl("net.ipv4.ip_forward", "1");
    host3.ip("addr add 10.1.0.2/24 dev eth0");
    r3.ip("addr add 10.1.0.1/24 dev lan");
    host3.ip("route add default via 10.1.0.1");
    r3.ip("addr add 10.13.0.1/24 dev p1");
    bed.r2.ip("addr add 10.13.0.2/24 dev p3");
    r3.ip("route add default via 10.13.0.2");
    env3.write_config(
        "mptcp-proxy",
        &client_config(TAKEN, "").replace("config path 'two'\n\toption device 'p2'\n", ""),
    );
    let third = start(&r3, &env3);
    let status = wait_for_state(&third, "carried");
    assert_eq!(status["packets"]["client"]["addresses"][0], "100.127.88.3");
    let pings = [Raw::open(&bed.host1, icmp(HOST2), PATIENCE), Raw::open(&host3, icmp(HOST2), PATIENCE)];
    for round in 0..20 {
        // Both at once, with the same identifier and number: only the content tells them apart.
        let questions = [noise(64, 2 * round + 1), noise(64, 1_000_001 + 2 * round)];
        for (ping, bytes) in pings.iter().zip(&questions) {
            ping.send(HOST2, &echo_request(HOST2, 9, 9, bytes));
        }
        for (ping, bytes) in pings.iter().zip(&questions) {
            let (_, answer) = ping.wait(|_, answer| echo_reply(answer, 9, 9));
            assert!(answer == *bytes, "round {round}");
        }
    }
    assert_eq!(server.call("status", &json!({})).unwrap()["packets"]["server"]["clients"], 2);
    assert_eq!(counters(&client, "client")["dropped"]["foreign"], 0);
}

#[test]
fn each_side_may_restart_and_the_address_stays() {
    let bed = Bed::new();
    let (server, client) = start_both(&bed, "", "\toption fallback 'block'\n");
    let ping = Raw::open(&bed.host1, icmp(HOST2), PATIENCE);
    let check = |number: u16| {
        ping.ask(HOST2, &echo_request(HOST2, 4, number, b"again"), |_, answer| echo_reply(answer, 4, number))
    };
    check(1);
    server.kill();
    let server = start_server(&bed, "");
    check(2);
    let status = wait_for_state(&client, "carried");
    assert_eq!(status["packets"]["client"]["addresses"][0], "100.127.88.2");
    client.kill();
    let client = start(&bed.r1, &bed.env1);
    check(3);
    assert!(client.stop().success());
    let client = start(&bed.r1, &bed.env1);
    check(4);
    let status = wait_for_state(&client, "carried");
    // It is another daemon, which the pool does not know.
    assert_eq!(status["packets"]["client"]["addresses"][0], "100.127.88.4");
    drop(server);
}

#[test]
fn what_is_bypassed_and_what_is_not_of_the_lan_goes_beside_the_tunnel() {
    let bed = Bed::new();
    open_direct_way(&bed);
    bed.host2.ip("addr add 198.51.100.3/24 dev eth0");
    bed.host1.ip("addr add 10.1.0.3/24 dev eth0");
    let (_server, client) =
        start_both(&bed, "", &format!("\tlist bypass '{HOST2}'\n\tlist bypass_source '10.1.0.3'\n"));
    let ping = Raw::open(&bed.host1, icmp(HOST2), PATIENCE);
    ping.ask(HOST2, &echo_request(HOST2, 1, 1, b""), |_, answer| echo_reply(answer, 1, 1));
    let other = Raw::open(&bed.host1, icmp(HOST2), PATIENCE);
    other.bind("10.1.0.3");
    other.ask("198.51.100.3", &echo_request(HOST2, 2, 2, b""), |_, answer| echo_reply(answer, 2, 2));
    let own = Raw::open(&bed.r1, icmp(HOST2), PATIENCE);
    own.ask("198.51.100.3", &echo_request(HOST2, 3, 3, b""), |_, answer| echo_reply(answer, 3, 3));
    assert_eq!(counters(&client, "client")["sent"], 0, "none of them");
    ping.ask("198.51.100.3", &echo_request(HOST2, 4, 4, b""), |_, answer| echo_reply(answer, 4, 4));
    assert!(counters(&client, "client")["sent"].as_u64() >= Some(1));
    // TCP goes as a connection, never as packets.
    let sent = counters(&client, "client")["sent"].clone();
    let service = bed.serve_at("198.51.100.3:0", echo);
    assert_eq!(exchange(&bed.connect(service.address), b"tcp".to_vec()).unwrap(), b"tcp");
    assert_eq!(counters(&client, "client")["sent"], sent);
}

#[test]
fn without_a_server_packets_go_out_directly_or_nowhere() {
    let bed = Bed::new();
    open_direct_way(&bed);
    let (server, client) = start_both(&bed, "", "");
    let ping = Raw::open(&bed.host1, icmp(HOST2), PATIENCE);
    let check = |number: u16| {
        ping.ask(HOST2, &echo_request(HOST2, 6, number, b"way"), |_, answer| echo_reply(answer, 6, number))
    };
    check(1);
    // Silent, which is worse than gone: packets are sent until an answer is missed.
    server.freeze();
    check(4);
    wait_for_state(&client, "no_server");
    let sent = counters(&client, "client")["sent"].clone();
    check(2);
    assert_eq!(counters(&client, "client")["sent"], sent, "beside the tunnel");
    server.thaw();
    wait_for_state(&client, "carried");
    check(3);
    assert!(counters(&client, "client")["sent"].as_u64() > sent.as_u64(), "through it again");
    bed.env1.write_config("mptcp-proxy", &client_config(&format!("{TAKEN}\toption fallback 'block'\n"), ""));
    client.reload();
    client.wait_for_status("the reload", |status| status["configuration"]["state"] == "ok");
    server.kill();
    wait_for_state(&client, "no_server");
    let dropped = || counters(&client, "client")["dropped"]["no_tunnel"].as_u64().unwrap();
    let before = dropped();
    let silent = Raw::open(&bed.host1, icmp(HOST2), Duration::from_millis(700));
    silent.send(HOST2, &echo_request(HOST2, 7, 7, b""));
    client.wait_for("the drop", || (dropped() > before).then_some(()));
    assert!(silent.wait_maybe(|_, answer| echo_reply(answer, 7, 7)).is_none());
    // A client half that was killed lets nothing past it either.
    client.kill();
    silent.send(HOST2, &echo_request(HOST2, 8, 8, b""));
    assert!(silent.wait_maybe(|_, answer| echo_reply(answer, 8, 8)).is_none());
}

#[test]
fn an_unused_tunnel_is_closed_and_opened_again() {
    let bed = Bed::new();
    let (server, client) = start_both(&bed, "", "\toption udp_timeout '1'\n");
    client.wait_for_status("no connection", |status| status["counters"]["connections"] == 0);
    server.wait_for_status("no client", |status| status["packets"]["server"]["clients"] == 0);
    let ping = Raw::open(&bed.host1, icmp(HOST2), PATIENCE);
    ping.send(HOST2, &echo_request(HOST2, 1, 1, b"first"));
    // Not even the packet that opens it is lost.
    ping.wait(|_, answer| echo_reply(answer, 1, 1));
    assert_eq!(wait_for_state(&client, "carried")["packets"]["client"]["addresses"][0], "100.127.88.2");
}

#[test]
fn nothing_is_left_behind() {
    let bed = Bed::new();
    let state = |namespace: &Netns| {
        let devices = namespace.ip("-o link show").lines().count();
        (routing(namespace), devices, namespace.run("nft list tables"))
    };
    let before = [state(&bed.r1), state(&bed.r2)];
    for killed in [false, true] {
        let (server, client) = start_both(&bed, "", "\toption fallback 'block'\n");
        let (server, client) = if killed {
            server.kill();
            client.kill();
            assert!(!bed.r1.ip("link show").contains("mptcp0") && !bed.r2.ip("link show").contains("mptcp1"));
            (start(&bed.r2, &bed.env2), start(&bed.r1, &bed.env1))
        } else {
            (server, client)
        };
        wait_for_state(&client, "carried");
        assert_eq!(bed.r1.ip("rule show").matches("fwmark 0x4000000/0x4000000").count(), 1);
        assert!(client.stop().success() && server.stop().success());
        assert_eq!(state(&bed.r1), before[0], "killed: {killed}");
        assert_eq!(state(&bed.r2), before[1], "killed: {killed}");
    }
}

/// Sends so many packets of 1 kB as fast as they go, over paths of 20 Mbit/s together.
fn flood(packets: u32) {
    let bed = Bed::new();
    let (server, client) = start_both(&bed, "", "");
    bed.shape(10);
    let service = bed.serve(echo);
    assert_eq!(exchange(&bed.connect(service.address), b"warm".to_vec()).unwrap(), b"warm");
    let before = [&client, &server].map(|daemon| daemon.memory_kb("RssAnon"));
    let flooding = Raw::open(&bed.host1, 253, PATIENCE);
    let begun = Instant::now();
    let sender = std::thread::spawn(move || {
        let bytes = noise(1000, 7);
        (0..packets).for_each(|_| flooding.try_send(HOST2, &bytes));
    });
    let bytes = noise(100_000, 8);
    assert!(exchange(&bed.connect(service.address), bytes.clone()).unwrap() == bytes);
    let transferred = begun.elapsed();
    sender.join().unwrap();
    let flooded = begun.elapsed();
    let after = [&client, &server].map(|daemon| daemon.memory_kb("RssAnon"));
    let counters = counters(&client, "client");
    eprintln!(
        "{packets} packets in {flooded:.1?}, 100 kB there and back in {transferred:.1?}, kB {before:?} → {after:?}, {counters}"
    );
    for half in 0..2 {
        assert!(after[half] <= before[half] + 1024, "{before:?} kB, {after:?} kB");
    }
    assert!(counters["sent"].as_u64() > Some(0));
    // And it is as it was.
    let ping = Raw::open(&bed.host1, icmp(HOST2), PATIENCE);
    ping.ask(HOST2, &echo_request(HOST2, 1, 1, b""), |_, answer| echo_reply(answer, 1, 1));
}

#[test]
fn a_flood_costs_neither_memory_nor_other_transfers() {
    flood(20_000);
}

#[test]
#[ignore = "the full count, for `make test-long`"]
fn a_flood_of_575_000_packets_costs_neither_memory_nor_other_transfers() {
    flood(575_000);
}

#[test]
fn a_client_that_cheats_gets_no_packet_out() {
    use mptcp_proxy::record::{Cipher, Opened};
    use mptcp_proxy::session::{Key, Question, MAC, TICKET_LENGTH};
    use mptcp_proxy::socks::{Command, Target};
    use mptcp_proxy::udp::frame;
    use mptcp_proxy::wire::Request;
    use std::io::{Read, Write};

    let bed = Bed::new();
    let server = start_server(&bed, "");
    let mut stream = connect(&bed.r1, format!("{R2}:1088").parse().unwrap());
    let (question, bytes) = Question::new(&Key::parse(KEY).unwrap());
    stream.write_all(&bytes).unwrap();
    let mut ticket = [0; TICKET_LENGTH];
    stream.read_exact(&mut ticket).unwrap();
    let mut greeting = question.finish(&ticket).unwrap().greet(Cipher::None);
    let request = Request {
        number: [7; 16],
        command: Command::Packets,
        target: Target::Name("cheat".into(), 9),
        source: "0.0.0.0:0".parse().unwrap(),
    };
    let mut out = greeting.hello.to_vec();
    greeting.sealer.append(&request.write(), &mut out);
    stream.write_all(&out).unwrap();
    stream.read_exact(&mut [0; MAC]).unwrap();
    let mut received = Vec::new();
    for record in ["accepted", "succeeded"] {
        loop {
            if let Opened::Record { used, .. } = greeting.opener.open(&mut received, 0).unwrap() {
                received.drain(..used);
                break;
            }
            let mut byte = [0; 1];
            stream.read_exact(&mut byte).unwrap_or_else(|error| panic!("{record}: {error}"));
            received.extend(byte);
        }
    }
    let nowhere = Target::Address("0.0.0.0:0".parse().unwrap());
    let mut frames = Vec::new();
    for packet in [
        ipv4("100.127.88.9", HOST2, 6, b"tcp"),
        ipv4("100.127.88.9", HOST2, 17, b"udp"),
        ipv4("100.127.88.8", HOST2, 253, b"another's"),
        ipv4("10.1.0.2", HOST2, 253, b"not ours"),
        ipv4("100.127.88.9", "127.0.0.1", 253, b"private"),
        ipv4("100.127.88.9", HOST2, 253, b"short")[..22].to_vec(),
        b"nonsense".to_vec(),
        ipv4("100.127.88.9", HOST2, 253, b"good"),
    ] {
        assert!(frame::append(0, &nowhere, &packet, &mut frames));
    }
    // Of a kind that is yet to be invented.
    assert!(frame::append(77, &nowhere, b"?", &mut frames));
    let there = Raw::open(&bed.host2, 253, PATIENCE);
    stream.write_all(&frames).unwrap();
    let (_, arrived) = there.wait(|_, received| Some(received.to_vec()));
    assert_eq!(arrived, b"good", "and nothing before it");
    let counters = counters(&server, "server");
    assert_eq!(counters["received"], 1, "{counters:#}");
    let dropped = &counters["dropped"];
    for (reason, count) in [("protocol", 2), ("foreign", 2), ("denied", 1), ("malformed", 2)] {
        assert_eq!(dropped[reason], count, "{reason}: {counters:#}");
    }
    // A stream that holds no frames is the end of it.
    stream.write_all(&[0, 1, 0]).unwrap();
    server.wait_for_status("the end", |status| status["packets"]["server"]["clients"] == 0);
}
