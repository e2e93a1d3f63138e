// SPDX-License-Identifier: Apache-2.0
//! Nobody uses the server half who may not, and nobody learns anything from it.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use serde_json::json;

use crate::bed::*;

#[test]
fn a_wrong_key_is_no_way_in() {
    let bed = Bed::new();
    let server = bed.start_server("");
    bed.env1
        .write_config("mptcp-proxy", &client_config("\toption fallback 'block'", "").replace(KEY, OTHER_KEY));
    let client = start(&bed.r1, &bed.env1);
    let service = bed.serve(echo);
    let mut stream = bed.connect(service.address);
    stream.write_all(b"hello").unwrap();
    assert_eq!(stream.read_exact(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    client.wait_for_status("the server to be down", |status| status["servers"][0]["state"] == "down");
    assert_eq!(server.call("status", &json!({})).unwrap()["counters"]["served"], 0);
}

/// A middlebox writes into what passes: not one byte of it is handed on, and the half that noticed says so.
#[test]
fn bytes_altered_on_the_way_reset_the_transfer_and_are_told() {
    let bed = Bed::new();
    let (server, client) = (bed.start_server(""), bed.start_client("", ""));
    let bytes = noise(3_000_000, 3);
    let (tell, arrived) = std::sync::mpsc::channel();
    let sink = bed.serve(move |mut stream| {
        let mut received = Vec::new();
        let end = stream.read_to_end(&mut received).map_err(|error| error.kind());
        tell.send((received, end)).unwrap();
    });
    let content = bytes.clone();
    let source = bed.serve(move |mut stream| drop(stream.write_all(&content)));
    // Requests and answers are shorter.
    let alter = |router: &lab::Netns, beyond: u32| {
        let script = format!(
            "table inet alter {{ chain prerouting {{ type filter hook prerouting priority -400; \
             iifname {{ p1, p2 }} meta l4proto tcp meta length > {beyond} @th,800,8 set 0x5a; }}; }}"
        );
        router.run_with_input("nft -f -", &script);
    };
    let is_told = |daemon: &lab::Daemon, what: &str| {
        daemon.wait_for_status("the count", |status| status["counters"]["altered"].as_u64() > Some(0));
        daemon.wait_for_log(what);
    };
    let is_cut = |(received, end): (Vec<u8>, Result<usize, ErrorKind>)| {
        assert_eq!(end, Err(ErrorKind::ConnectionReset));
        assert!(received.len() < bytes.len() && bytes.starts_with(&received), "a wrong byte was handed on");
    };
    alter(&bed.r2, 30_000);
    let _ = bed.connect(sink.address).write_all(&bytes);
    is_cut(arrived.recv_timeout(crate::bed::PATIENCE).unwrap());
    is_told(&server, "altered on the way: record");
    bed.r2.run("nft delete table inet alter");

    alter(&bed.r1, 30_000);
    let mut received = Vec::new();
    let end = bed.connect(source.address).read_to_end(&mut received).map_err(|error| error.kind());
    is_cut((received, end));
    is_told(&client, "altered on the way: record");
    bed.r1.run("nft delete table inet alter");

    // Not even a request comes through.
    alter(&bed.r2, 200);
    let mut stream = bed.connect(sink.address);
    stream.write_all(&bytes[..1000]).unwrap();
    is_told(&server, "a request of r1: reset, its bytes were altered on the way: record 0 does not verify");
    bed.r2.run("nft delete table inet alter");
    drop(stream);
    let service = bed.serve(echo);
    assert!(exchange(&bed.connect(service.address), bytes.clone()).unwrap() == bytes, "the echo differs");
}

#[test]
fn a_scan_of_the_server_learns_nothing() {
    let bed = Bed::new();
    let server = bed.start_server("");
    let probes: [&[u8]; 6] = [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x05\x01\x00",
        b"\x01AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        b"\x02AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ];
    for probe in probes {
        let mut stream = connect(&bed.r1, format!("{R2}:1088").parse().unwrap());
        stream.write_all(probe).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
        let answer = stream.read_exact(&mut [0; 1]).map_err(|error| error.kind());
        assert_eq!(answer, Err(ErrorKind::WouldBlock), "neither an answer nor an end: {probe:?}");
    }
    // The datagram port is as silent.
    let answer = bed.r1.enter(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
        socket.send_to(&[0; 32], format!("{R2}:1088")).unwrap();
        socket.recv_from(&mut [0; 64]).map_err(|error| error.kind())
    });
    assert_eq!(answer.unwrap_err(), ErrorKind::WouldBlock);
    // It still serves those who may.
    let _client = bed.start_client("", "");
    let service = bed.serve(echo);
    assert_eq!(exchange(&bed.connect(service.address), b"in".to_vec()).unwrap(), b"in");
    drop(server);
}

#[test]
fn a_recorded_hello_opens_nothing() {
    use mptcp_proxy::record::Cipher;
    use mptcp_proxy::session::{Key, Question, MAC, TICKET_LENGTH};
    let bed = Bed::new();
    let _server = bed.start_server("");
    let address = format!("{R2}:1088").parse().unwrap();
    let (question, bytes) = Question::new(&Key::parse(KEY).unwrap());
    let mut stream = connect(&bed.r1, address);
    stream.write_all(&bytes).unwrap();
    let mut ticket = [0; TICKET_LENGTH];
    stream.read_exact(&mut ticket).unwrap();
    let mut session = question.finish(&ticket).unwrap();
    let greeting = session.greet(Cipher::None);
    stream.write_all(&greeting.hello).unwrap();
    let mut answer = [0; MAC];
    stream.read_exact(&mut answer).unwrap();
    greeting.verify(&answer).unwrap();

    let mut replay = connect(&bed.r1, address);
    replay.write_all(&greeting.hello).unwrap();
    replay.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    assert_eq!(replay.read_exact(&mut answer).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_recorded_question_for_a_ticket_gets_no_second_answer() {
    use mptcp_proxy::session::{Key, Question, TICKET_LENGTH};
    let bed = Bed::new();
    let _server = bed.start_server("");
    let address = format!("{R2}:1088").parse().unwrap();
    let (_, bytes) = Question::new(&Key::parse(KEY).unwrap());
    let mut ticket = [0; TICKET_LENGTH];
    let mut stream = connect(&bed.r1, address);
    stream.write_all(&bytes).unwrap();
    stream.read_exact(&mut ticket).unwrap();
    let mut replay = connect(&bed.r1, address);
    replay.write_all(&bytes).unwrap();
    replay.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    assert_eq!(replay.read_exact(&mut ticket).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn silent_strangers_keep_no_client_out() {
    let bed = Bed::new();
    let server = bed.start_server("");
    let begun = std::time::Instant::now();
    // Twice as many as wait at a time, from an address the client does not have and from its own.
    bed.r1.ip("addr add 10.11.0.9/24 dev p1");
    let strangers: Vec<_> = (0..600)
        .map(|number| {
            bed.r1.enter(|| {
                let socket =
                    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
                let from = ["10.11.0.9:0", "10.11.0.1:0", "10.12.0.1:0"][number % 3];
                socket.bind(&from.parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
                socket
                    .connect(&format!("{R2}:1088").parse::<std::net::SocketAddr>().unwrap().into())
                    .unwrap();
                socket
            })
        })
        .collect();
    server.wait_for_status("strangers to be sent away", |status| {
        status["counters"]["unproven"].as_u64() >= Some(600 - 3 * 32)
    });
    let _client = bed.start_client("\toption fallback 'block'", "");
    let service = bed.serve(echo);
    for _ in 0..10 {
        assert_eq!(exchange(&bed.connect(service.address), b"in".to_vec()).unwrap(), b"in");
        // After ten seconds strangers are sent away in any case.
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    }
    drop(strangers);
}

#[test]
fn one_host_takes_no_more_than_its_share() {
    let bed = Bed::new();
    let _server = bed.start_server("");
    let client = bed.start_client("\toption max_connections_per_host '3'", "");
    bed.host1.ip("addr add 10.1.0.3/24 dev eth0");
    let service = bed.serve(echo);
    let open = |from: &str, expected: bool| {
        let mut stream: std::net::TcpStream = bed.host1.enter(|| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.bind(&format!("{from}:0").parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
            socket.connect(&service.address.into()).unwrap();
            socket.into()
        });
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let answered = stream.write_all(b"x").and_then(|()| stream.read_exact(&mut [0; 1]));
        assert_eq!(answered.is_ok(), expected);
        stream
    };
    let kept: Vec<_> = (0..3).map(|_| open("10.1.0.2", true)).collect();
    open("10.1.0.2", false);
    open("10.1.0.3", true);
    assert_eq!(client.call("status", &json!({})).unwrap()["counters"]["limited"], 1);
    drop(kept);
    client.wait_for_status("no connections", |status| status["counters"]["connections"] == 0);
    open("10.1.0.2", true);
}

#[test]
fn a_program_that_never_says_what_it_wants_of_the_socks_listener_is_cut_off() {
    let bed = Bed::new();
    let _server = bed.start_server("");
    let client = bed.start_client("\toption mode 'socks'\n\toption max_connections_per_host '4'", "");
    let listener = "127.0.0.1:1088".parse().unwrap();
    let slow: Vec<_> = (0..4).map(|_| connect(&bed.r1, listener)).collect();
    // The reset may be there before `connect` has looked.
    let refused =
        try_connect(&bed.r1, listener).and_then(|mut stream| stream.read_exact(&mut [0; 1])).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionReset, "there are as many as allowed");
    // RFC 1928 3: 255 methods follow, and come one a second.
    slow.iter().for_each(|mut stream| stream.write_all(&[5, 255]).unwrap());
    client.wait_for("all of them to be cut off", || {
        std::thread::sleep(Duration::from_secs(1));
        slow.iter().all(|mut stream| stream.write_all(&[0]).is_err()).then_some(())
    });
    let mut served = connect(&bed.r1, listener);
    served.write_all(&[5, 1, 0]).unwrap();
    let mut method = [0; 2];
    served.read_exact(&mut method).unwrap();
    assert_eq!(method, [5, 0]);
}

#[test]
fn without_descriptors_new_connections_wait_and_open_ones_go_on() {
    let bed = Bed::new();
    let server = bed.start_server("");
    let client = bed.start_client("\toption fallback 'block'\n\toption pool '2'", "");
    let service = bed.serve(echo);
    let mut kept = bed.connect(service.address);
    let round = |kept: &mut std::net::TcpStream| {
        kept.write_all(b"x").and_then(|()| kept.read_exact(&mut [0; 1])).unwrap();
    };
    round(&mut kept);
    for daemon in [&client, &server] {
        let limit = format!("--nofile={}", daemon.descriptors().len() + 20);
        let process = format!("--pid={}", daemon.pid());
        let set = std::process::Command::new("prlimit").args([&process, &limit]).status().unwrap();
        assert!(set.success());
    }
    let crowd: Vec<_> = (0..100).map(|_| bed.connect(service.address)).collect();
    client.wait_for_log("accepting a connection");
    round(&mut kept);
    drop(crowd);
    client.wait_for("a new connection", || {
        exchange(&bed.connect(service.address), b"in".to_vec()).is_ok_and(|back| back == b"in").then_some(())
    });
    round(&mut kept);
    let status = client.call("status", &json!({})).unwrap();
    assert_eq!(status["servers"][0]["state"], "up", "{status:#}");
}

#[test]
fn private_targets_are_refused_unless_allowed() {
    let bed = Bed::new();
    let server = bed.start_server("\tlist allow_target '10.2.0.2'\n\tlist deny_target '198.51.100.3'");
    let _client = bed.start_client("", "");
    let allowed = bed.serve_at(&format!("{HOST2_PRIVATE}:0"), echo);
    assert_eq!(exchange(&bed.connect(allowed.address), b"in".to_vec()).unwrap(), b"in");
    for closed in ["10.2.0.1:22", "198.51.100.3:80", "198.51.100.1:1088", "192.168.7.7:80"] {
        let mut stream = bed.connect(closed.parse().unwrap());
        assert_eq!(
            stream.read_exact(&mut [0; 1]).unwrap_err().kind(),
            ErrorKind::ConnectionReset,
            "{closed}"
        );
    }
    let status = server.call("status", &json!({})).unwrap();
    assert_eq!(status["counters"]["denied"], 4, "{status:#}");
    server.wait_for_log("list it in allow_target");
}

#[test]
fn a_user_has_no_more_connections_than_allowed() {
    let bed = Bed::new();
    bed.env2.write_config(
        "mptcp-proxy",
        &format!(
            "config server 'vps'\n\nconfig user 'r1'\n\toption key '{KEY}'\n\toption max_connections '3'\n"
        ),
    );
    let server = start(&bed.r2, &bed.env2);
    let _client = bed.start_client("", "");
    let service = bed.serve(echo);
    let open = |expected: bool| {
        let mut stream = bed.connect(service.address);
        let answered = stream.write_all(b"x").and_then(|()| stream.read_exact(&mut [0; 1]));
        assert_eq!(answered.is_ok(), expected);
        stream
    };
    let kept: Vec<_> = (0..3).map(|_| open(true)).collect();
    open(false);
    drop(kept);
    server.wait_for_status("no connections", |status| status["counters"]["connections"] == 0);
    open(true);
}
