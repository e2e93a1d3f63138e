// SPDX-License-Identifier: Apache-2.0
//! Domains that are left alone, by the addresses a real dnsmasq learns.

use std::net::SocketAddr;

use lab::Dnsmasq;
use serde_json::json;

use crate::bed::*;
use crate::datagrams::{answer, ask, question, socket};

#[test]
fn a_bypassed_domain_is_reached_without_the_tunnel_even_after_a_restart() {
    let bed = Bed::new();
    // So that host1 reaches host2 without the proxy as well.
    bed.r2.ip("route add 10.1.0.0/24 via 10.11.0.1");
    bed.host2.ip("addr add 198.51.100.3/24 dev eth0");
    let _server = bed.start_server("");
    let client = bed.start_client("\toption fallback 'block'\n\tlist bypass_domain 'bypass.test'\n", "");
    let snippets = bed.env1.data("dnsmasq.d");
    std::fs::create_dir(&snippets).unwrap();
    let printed = bed.env1.run("mptcp-proxy", ["dnsmasq"]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    std::fs::write(snippets.join("mptcp-proxy.conf"), printed.stdout).unwrap();
    // It only tells of addresses it has asked somebody for.
    let known = ["--address=/bypass.test/198.51.100.3", "--address=/tunnel.test/198.51.100.2"];
    let _uplink = Dnsmasq::start(&bed.r2, &["--listen-address=10.11.0.2", known[0], known[1]]);
    let _dnsmasq = Dnsmasq::start(
        &bed.r1,
        &[
            "--listen-address=10.1.0.1",
            "--no-resolv",
            "--server=10.11.0.2",
            &format!("--conf-dir={}", snippets.display()),
        ],
    );
    let router: SocketAddr = "10.1.0.1:53".parse().unwrap();
    let asking = socket(&bed.host1, "0.0.0.0:0");
    assert_eq!(answer(&ask(&asking, router, &question("www.bypass.test", 1))), [198, 51, 100, 3]);
    assert_eq!(answer(&ask(&asking, router, &question("www.tunnel.test", 2))), [198, 51, 100, 2]);
    let (bypassed, tunnelled) = (bed.serve_at("198.51.100.3:0", echo), bed.serve(echo));
    let both = |client: &lab::process::Daemon, expected: u64| {
        assert_eq!(exchange(&bed.connect(bypassed.address), b"past".to_vec()).unwrap(), b"past");
        assert_eq!(exchange(&bed.connect(tunnelled.address), b"in".to_vec()).unwrap(), b"in");
        let status = client.call("status", &json!({})).unwrap();
        assert_eq!(status["counters"]["tunnelled"], expected, "{status:#}");
    };
    both(&client, 1);
    // The chains go up again, the sets stay: dnsmasq does not tell twice what it remembers.
    bed.env1.write_config(
        "mptcp-proxy",
        &client_config(
            "\toption fallback 'block'\n\tlist bypass_domain 'bypass.test'\n\tlist bypass '192.0.2.0/24'\n",
            "",
        ),
    );
    client.reload();
    client.wait_for("the chains to change", || {
        bed.r1.run("nft list table inet mptcp_proxy").contains("192.0.2.0/24").then_some(())
    });
    both(&client, 2);
    assert!(client.stop().success());
    let client = start(&bed.r1, &bed.env1);
    client.wait_for_status("the server to be up", |status| status["servers"][0]["state"] == "up");
    both(&client, 1);
    // Without domains nothing is left.
    bed.env1.write_config("mptcp-proxy", &client_config("", ""));
    client.reload();
    client.wait_for("the domains to go", || {
        (!bed.r1.run("nft list tables").contains("mptcp_proxy_domains")).then_some(())
    });
}
