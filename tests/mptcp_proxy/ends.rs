// SPDX-License-Identifier: Apache-2.0
//! Connections end through the proxy as they end without it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::bed::*;

const ENCRYPTIONS: [&str; 2] = ["\toption encryption 'none'", "\toption encryption 'aead'"];

/// Closes with a reset.
fn reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(stream.as_fd(), Some(Duration::ZERO)).unwrap();
}

/// Writes until nothing was taken for a second, or for long enough.
fn fill(mut stream: &TcpStream) {
    let chunk = noise(1 << 20, 3);
    stream.set_nonblocking(true).unwrap();
    let begun = Instant::now();
    let mut taken = begun;
    while taken.elapsed() < Duration::from_secs(1) && begun.elapsed() < Duration::from_secs(8) {
        match stream.write(&chunk) {
            Ok(length) if length > 0 => taken = Instant::now(),
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

#[test]
fn an_answer_after_a_half_close_arrives() {
    for encryption in ENCRYPTIONS {
        let bed = Bed::new();
        let _server = bed.start_server("");
        let _client = bed.start_client("", encryption);
        let service = bed.serve(|mut stream| {
            let mut request = Vec::new();
            stream.read_to_end(&mut request).unwrap();
            std::thread::sleep(Duration::from_millis(300));
            stream.write_all(&request).unwrap();
        });
        let stream = bed.connect(service.address);
        assert_eq!(exchange(&stream, b"question".to_vec()).unwrap(), b"question", "{encryption}");
    }
}

#[test]
fn a_reset_of_the_server_reaches_the_client() {
    for encryption in ENCRYPTIONS {
        let bed = Bed::new();
        let _server = bed.start_server("");
        let _client = bed.start_client("", encryption);
        let service = bed.serve(|mut stream| {
            stream.read_exact(&mut [0; 3]).unwrap();
            stream.write_all(b"half of the fi").unwrap();
            std::thread::sleep(Duration::from_millis(200));
            reset(stream);
        });
        let mut stream = bed.connect(service.address);
        stream.write_all(b"get").unwrap();
        let error = stream.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::ConnectionReset,
            "{encryption}: a cut download must not look complete"
        );
    }
}

#[test]
fn a_reset_of_the_client_reaches_the_server() {
    for encryption in ENCRYPTIONS {
        let bed = Bed::new();
        let _server = bed.start_server("");
        let _client = bed.start_client("", encryption);
        let (tell, told) = std::sync::mpsc::channel();
        let service = bed.serve(move |mut stream| {
            tell.send(stream.read_to_end(&mut Vec::new()).map_err(|error| error.kind())).unwrap();
        });
        let mut stream = bed.connect(service.address);
        stream.write_all(b"half of the uplo").unwrap();
        std::thread::sleep(Duration::from_millis(300));
        reset(stream);
        let ended = told.recv_timeout(PATIENCE).unwrap();
        assert_eq!(
            ended,
            Err(ErrorKind::ConnectionReset),
            "{encryption}: a cut upload must not look complete"
        );
    }
}

#[test]
fn a_long_transfer_ends_as_a_short_one_does() {
    const LONG: usize = 3 << 20;
    for encryption in ENCRYPTIONS {
        let bed = Bed::new();
        let _server = bed.start_server("");
        let _client = bed.start_client("", encryption);
        let (tell, told) = std::sync::mpsc::channel();
        let service = bed.serve(move |mut stream| {
            let mut upload = Vec::new();
            let ended = stream.read_to_end(&mut upload).map_err(|error| error.kind());
            tell.send(ended).unwrap();
            if upload.len() == LONG {
                // After the client has ended its side: a download that is cut.
                stream.write_all(&upload).unwrap();
                std::thread::sleep(Duration::from_millis(300));
                reset(stream);
            }
        });
        let mut stream = bed.connect(service.address);
        stream.write_all(&noise(LONG, 1)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Ok(LONG), "{encryption}");
        let mut download = Vec::new();
        assert_eq!(stream.read_to_end(&mut download).unwrap_err().kind(), ErrorKind::ConnectionReset);
        // An upload that is cut.
        let mut stream = bed.connect(service.address);
        stream.write_all(&noise(LONG / 2, 1)).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        reset(stream);
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Err(ErrorKind::ConnectionReset), "{encryption}");
    }
}

#[test]
fn a_reset_behind_a_blocked_receiver_is_noticed() {
    for encryption in ENCRYPTIONS {
        let bed = Bed::new();
        let server = bed.start_server("");
        let client = bed.start_client("", encryption);
        // A service that does not read.
        let service = bed.serve(|stream| {
            std::thread::sleep(PATIENCE * 2);
            drop(stream);
        });
        let stream = bed.connect(service.address);
        fill(&stream);
        reset(stream);
        for daemon in [&client, &server] {
            daemon.wait_for_status("no connections", |status| status["counters"]["connections"] == 0);
        }
    }
}

#[test]
fn a_daemon_that_is_stopped_resets_what_is_open() {
    let bed = Bed::new();
    let server = bed.start_server("");
    let client = bed.start_client("", "");
    crate::paths::wait_for_paths(&client, ["up", "up"]);
    let (tell, told) = std::sync::mpsc::channel();
    let service = bed.serve(move |mut stream| {
        stream.read_exact(&mut [0; 1]).unwrap();
        stream.write_all(b"!").unwrap();
        tell.send(stream.read_to_end(&mut Vec::new()).map_err(|error| error.kind())).unwrap();
    });
    let mut stream = bed.connect(service.address);
    stream.write_all(b"?").unwrap();
    stream.read_exact(&mut [0; 1]).unwrap();
    assert!(client.stop().success());
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Err(ErrorKind::ConnectionReset));
    assert_eq!(stream.read_exact(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    server.wait_for_status("no connections", |status| status["counters"]["connections"] == 0);
}

#[test]
fn a_reset_that_was_lost_with_the_paths_is_made_up_for_when_one_returns() {
    let bed = Bed::new();
    let server = bed.start_server("");
    let client = bed.start_client("\toption fallback 'block'", "");
    crate::paths::wait_for_paths(&client, ["up", "up"]);
    let (give_up, given_up) = std::sync::mpsc::channel::<()>();
    let given_up = std::sync::Arc::new(std::sync::Mutex::new(given_up));
    let service = bed.serve(move |mut stream| {
        stream.read_exact(&mut [0; 1]).unwrap();
        stream.write_all(b"!").unwrap();
        given_up.lock().unwrap().recv().unwrap();
        reset(stream);
    });
    let mut stream = bed.connect(service.address);
    stream.write_all(b"?").unwrap();
    stream.read_exact(&mut [0; 1]).unwrap();
    for path in ["p1", "p2"] {
        silence(&bed, path);
    }
    give_up.send(()).unwrap();
    server.wait_for_status("no connections", |status| status["counters"]["connections"] == 0);
    end_silence(&bed);
    crate::paths::wait_for_paths(&client, ["up", "up"]);
    let begun = std::time::Instant::now();
    stream.write_all(b"?").unwrap();
    assert_eq!(stream.read_exact(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    // The kernel alone takes a minute.
    assert!(begun.elapsed() < PATIENCE * 2 / 3, "{:?}", begun.elapsed());
    client.wait_for_status("no connections", |status| status["counters"]["connections"] == 0);
}

#[test]
fn an_upload_that_is_given_up_while_it_opens_is_reset_at_its_target() {
    let give_up = |encryption: &str| {
        let bed = Bed::new();
        let _server = bed.start_server("");
        let client = bed.start_client("\toption fallback 'block'", encryption);
        crate::paths::wait_for_paths(&client, ["up", "up"]);
        let (tell, told) = std::sync::mpsc::channel();
        let service = bed.serve(move |mut stream| {
            tell.send(stream.read_to_end(&mut Vec::new()).map_err(|error| error.kind())).unwrap();
        });
        // The request arrives and nothing comes back, though the paths are well.
        bed.r1.run_with_input(
            "nft -f -",
            "table inet deaf { chain input { type filter hook prerouting priority -400; tcp sport 1088 drop; }; }",
        );
        let mut stream = bed.connect(service.address);
        stream.write_all(b"half of the uplo").unwrap();
        let refused = stream.read_exact(&mut [0; 1]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionReset, "{encryption}");
        let ended = told.recv_timeout(PATIENCE).unwrap();
        assert_eq!(
            ended,
            Err(ErrorKind::ConnectionReset),
            "{encryption}: a cut upload must not look complete"
        );
    };
    // The client half gives up after 15 s.
    std::thread::scope(|scope| {
        for encryption in ENCRYPTIONS {
            scope.spawn(|| give_up(encryption));
        }
    });
}

#[test]
fn a_refused_port_is_a_reset() {
    let bed = Bed::new();
    let _server = bed.start_server("");
    let _client = bed.start_client("", "");
    let begun = Instant::now();
    let mut stream = bed.connect(format!("{HOST2}:9").parse().unwrap());
    let error = stream.read_exact(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn an_unreachable_host_is_a_reset() {
    let bed = Bed::new();
    let _server = bed.start_server("");
    let _client = bed.start_client("", "");
    // Nobody has this address in host2's network: r2 asks in vain.
    let mut stream = bed.connect("198.51.100.77:80".parse().unwrap());
    let error = stream.read_exact(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn half_closed_connections_are_gone_after_the_timeout() {
    let bed = Bed::new();
    let server = bed.start_server("\toption half_open_timeout '2'");
    let client = bed.start_client("\toption half_open_timeout '2'", "");
    // A service that never ends its side.
    let service = bed.serve(|stream| {
        std::thread::sleep(PATIENCE);
        drop(stream);
    });
    let streams: Vec<_> = (0..300)
        .map(|_| {
            let stream = bed.connect(service.address);
            stream.shutdown(Shutdown::Write).unwrap();
            stream
        })
        .collect();
    let fds = |pid: u32| std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let mut timed_out = 0;
    for daemon in [&client, &server] {
        let status =
            daemon.wait_for_status("no connections", |status| status["counters"]["connections"] == 0);
        timed_out += status["counters"]["timed_out"].as_u64().unwrap();
        daemon.wait_for("descriptors to be closed", || (fds(daemon.pid()) < 60).then_some(()));
    }
    // Whoever is first resets the other.
    assert!(timed_out >= 300, "{timed_out}");
    drop(streams);
}

#[test]
fn back_pressure_holds_memory_down() {
    let bed = Bed::new();
    let server = bed.start_server("");
    let client = bed.start_client("", "");
    // A service that does not read.
    let service = bed.serve(|stream| {
        std::thread::sleep(PATIENCE);
        drop(stream);
    });
    let chunk = noise(1 << 20, 3);
    let streams: Vec<TcpStream> = (0..32).map(|_| bed.connect(service.address)).collect();
    std::thread::scope(|scope| {
        for mut stream in &streams {
            let chunk = &chunk;
            scope.spawn(move || {
                stream.set_write_timeout(Some(Duration::from_millis(1500))).unwrap();
                // Writes until every buffer on the way is full.
                while stream.write_all(chunk).is_ok() {}
            });
        }
    });
    for daemon in [&client, &server] {
        let kilobytes = daemon.memory_kb("RssAnon");
        // 2.75 MB of buffers of the thread, 32 kB for each connection beyond eight, and what an idle daemon has.
        assert!(kilobytes < 5 * 1024, "{kilobytes} kB");
    }
}

#[test]
fn the_list_is_empty_when_everything_has_ended() {
    let bed = Bed::new();
    let server = bed.start_server("");
    let client = bed.start_client("", "");
    let service = bed.serve(echo);
    for index in 0..20 {
        let stream = bed.connect(service.address);
        assert_eq!(exchange(&stream, vec![index]).unwrap(), [index]);
    }
    for daemon in [&client, &server] {
        daemon.wait_for_status("no connections", |status| status["counters"]["connections"] == 0);
        assert_eq!(daemon.call("connections", &json!({})).unwrap()["total"], 0);
    }
}

#[test]
fn a_name_that_is_none_is_told_as_such() {
    let bed = Bed::new();
    let _server = bed.start_server("");
    let client = bed.start_client("\toption mode 'socks'\n\toption fallback 'block'", "");
    let mut stream = connect(&bed.r1, "127.0.0.1:1088".parse().unwrap());
    // The far end resolves it: RFC 2606 2 keeps this name for ever without an address.
    let name = b"no-such-host.invalid";
    let mut request = vec![5, 1, 0, 5, 1, 0, 3, u8::try_from(name.len()).unwrap()];
    request.extend(name);
    request.extend(80u16.to_be_bytes());
    stream.write_all(&request).unwrap();
    stream.set_read_timeout(Some(2 * PATIENCE)).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[..4], [5, 0, 5, 4], "no authentication, then RFC 1928 6: host unreachable");
    // It was the tunnel's answer.
    let status = client.wait_for_status("the refusal", |status| status["counters"]["refused"] == 1);
    assert_eq!(status["counters"]["blocked"], 0, "{status:#}");
}
