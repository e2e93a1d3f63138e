// SPDX-License-Identifier: Apache-2.0
//! Networks that are not what one is used to.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use lab::{Broker, Environment};
use serde_json::{json, Value};

use crate::bed::{client_config, echo, exchange, noise, start, Bed, HOST2_V6, R2};
use crate::rig::{Rig, Web, HOST_V4};

/// Takes connections on an IPv6 address to a server that has only an IPv4 one.
fn by_ipv6(port: u16) -> SocketAddr {
    let listener = TcpListener::bind("[::1]:0").expect("IPv6 on the loopback device");
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
            for (mut from, mut to) in
                [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)]
            {
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(length @ 1..) = from.read(&mut buffer) {
                        if to.write_all(&buffer[..length]).is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    address
}

#[test]
fn an_event_reaches_a_broker_that_has_only_an_ipv6_address() {
    let broker = Broker::start();
    let messages = broker.subscribe("#");
    let address = by_ipv6(broker.port());
    let environment = Environment::new();
    std::fs::write(environment.data("grid"), "at 300ms dip 60 for 100ms\nrepeat 1s").unwrap();
    environment.write_config(
        "powquty",
        &format!(
            "config powquty 'powquty'\n\toption input 'simulator'\n\toption simulator_script '{}'\n\
             \toption mqtt_host '::1'\n\toption mqtt_port '{}'\n\toption mqtt_uname '{}'\n\toption mqtt_pw '{}'\n\
             \toption mqtt_event_flag '1'\n\toption mqtt_event_topic 'events'\n",
            environment.data("grid").display(),
            address.port(),
            lab::broker::USER,
            lab::broker::PASSWORD.replace('\'', "'\\''"),
        ),
    );
    let daemon = environment.spawn("powqutyd");
    messages.wait_for("an event", |messages| messages.iter().find(|it| it.topic == "events").cloned());
    assert!(daemon.stop().success());
}

/// The paths carry IPv6 alone.
#[test]
fn a_tunnel_over_ipv6_alone_carries_a_transfer() {
    const R2_V6: &str = "2001:db8:3::2";
    let bed = Bed::new();
    for router in [&bed.r1, &bed.r2] {
        for path in ["p1", "p2"] {
            router.ip(&format!("addr flush dev {path}"));
        }
    }
    for (path, net) in [("p1", 11), ("p2", 12)] {
        bed.r1.ip(&format!("addr add 2001:db8:{net}::1/64 dev {path} nodad"));
        bed.r2.ip(&format!("addr add 2001:db8:{net}::2/64 dev {path} nodad"));
    }
    bed.r2.ip(&format!("addr add {R2_V6}/128 dev lo nodad"));
    bed.r1.ip("-6 route add default via 2001:db8:11::2 dev p1 metric 1");
    bed.r1.ip("-6 route add default via 2001:db8:12::2 dev p2 metric 2");
    let _server = bed.start_server("");
    let config = client_config("", "").replace(R2, R2_V6);
    bed.env1.write_config("mptcp-proxy", &config);
    let client = start(&bed.r1, &bed.env1);
    client.wait_for_status("the server to be up", |status| status["servers"][0]["state"] == "up");
    for address in [format!("[{HOST2_V6}]:0"), format!("{}:0", crate::bed::HOST2)] {
        let service = bed.serve_at(&address, echo);
        let bytes = noise(300_000, 1);
        assert!(exchange(&bed.connect(service.address), bytes.clone()).unwrap() == bytes, "the echo differs");
    }
    let status = client.call("status", &json!({})).unwrap();
    assert_eq!((&status["counters"]["tunnelled"], &status["counters"]["direct"]), (&json!(2), &json!(0)));
}

#[test]
fn paths_of_1280_bytes_carry_a_transfer_and_large_datagrams() {
    let bed = Bed::new();
    for router in [&bed.r1, &bed.r2] {
        for path in ["p1", "p2"] {
            router.ip(&format!("link set {path} mtu 1280"));
        }
    }
    let _server = bed.start_server("");
    let client = bed.start_client("", "");
    let service = bed.serve(echo);
    let bytes = noise(2_000_000, 1);
    assert!(exchange(&bed.connect(service.address), bytes.clone()).unwrap() == bytes, "the echo differs");
    // A datagram that fits the LAN and no path: it goes through the tunnel whole.
    let address = format!("{}:5353", crate::bed::HOST2);
    let server = bed.host2.enter(|| std::net::UdpSocket::bind(&address).unwrap());
    server.set_read_timeout(Some(crate::bed::PATIENCE)).unwrap();
    let socket = bed.host1.enter(|| std::net::UdpSocket::bind("10.1.0.2:0").unwrap());
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let sent = noise(1400, 3);
    let mut buffer = [0; 2000];
    let answered = (0..20).any(|_| {
        socket.send_to(&sent, &address).unwrap();
        let (length, from) = server.recv_from(&mut buffer).unwrap();
        assert!(buffer[..length] == sent, "the datagram differs");
        server.send_to(&sent, from).unwrap();
        socket.recv(&mut buffer).is_ok_and(|length| buffer[..length] == sent)
    });
    assert!(answered, "no large datagram came back");
    assert_eq!(client.call("status", &json!({})).unwrap()["counters"]["direct"], 0);
}

/// A rule that asks the web server of the Internet.
fn web_rule(rig: &Rig) {
    rig.env.write_config(
        "dynapoint",
        &format!(
            "config rule 'internet'\n\tlist hosts 'http://{HOST_V4}'\n\toption interval '300ms'\n\
             \toption timeout '5'\n\toption offline_threshold '2'\n\toption expect_body 'the end'\n"
        ),
    );
}

#[test]
fn a_check_over_a_link_of_1280_bytes_reads_a_large_answer() {
    let rig = Rig::new();
    let web = Web::start(&rig, 80);
    rig.router.ip("link set wan mtu 1280");
    rig.internet.ip("link set up0 mtu 1280");
    web.set(crate::rig::answer("200 OK", "", &format!("{}the end", "x".repeat(3900))));
    web_rule(&rig);
    let daemon = rig.start();
    daemon.wait_for_status("online", |status| status["rules"][0]["state"] == "online");
}

/// While the daemon cannot listen, more changes than the kernel keeps for it, and among them the one that matters.
#[test]
fn after_more_changes_than_the_kernel_keeps_dynapoint_knows_the_truth() {
    let rig = Rig::new();
    let _web = Web::start(&rig, 80);
    rig.env.write_config(
        "dynapoint",
        "config rule 'link'\n\toption interval '1h'\n\toption offline_threshold '1'\n\toption link_loss 'immediate'\n\
         config check\n\toption rule 'link'\n\toption type 'carrier'\n\toption interface 'wan'\n",
    );
    let daemon = rig.start();
    daemon.wait_for_status("online", |status| status["rules"][0]["state"] == "online");
    daemon.freeze();
    let batch: String =
        (0..3000).map(|at| format!("addr add 172.16.{}.{}/32 dev lo\n", at / 250, at % 250 + 1)).collect();
    rig.router.run_with_input("ip -batch -", &batch);
    rig.cut_link();
    // The kernel tells of a lost carrier up to a second later; that, too, must find no room.
    lab::wait_for("the lost carrier", Duration::from_secs(10), || {
        (!rig.router.ip("-o link show wan").contains("state UP")).then_some(())
    });
    std::thread::sleep(Duration::from_millis(200));
    daemon.thaw();
    daemon.wait_for_status("offline", |status| status["rules"][0]["state"] == "offline");
}

/// The same for the paths of the proxy.
#[test]
fn after_more_changes_than_the_kernel_keeps_the_proxy_knows_its_paths() {
    let bed = Bed::new();
    let _server = bed.start_server("");
    let client = bed.start_client("", "");
    client.wait_for_status("both paths", |status| {
        status["paths"].as_array().is_some_and(|paths| paths.iter().all(|path| path["state"] == "up"))
    });
    client.freeze();
    let batch: String =
        (0..3000).map(|at| format!("addr add 172.16.{}.{}/32 dev lo\n", at / 250, at % 250 + 1)).collect();
    bed.r1.run_with_input("ip -batch -", &batch);
    bed.r1.ip("link set p1 down");
    client.thaw();
    client.wait_for_status("the first path down", |status| {
        status["paths"].as_array().is_some_and(|paths| {
            let lost =
                |path: &Value| path["state"] == "down" && path["reason"] == "the device has no carrier";
            paths.iter().any(|path| path["name"] == "one" && lost(path))
                && paths.iter().any(|path| path["name"] == "two" && path["state"] == "up")
        })
    });
}
