// SPDX-License-Identifier: Apache-2.0
//! HTTPS with good and bad certificates, and links that are slow and lose packets; over IPv4 and IPv6.

use std::time::Duration;

use lab::certs::Issued;
use lab::webhook::Answer;
use lab::{Authority, Daemon, DelayTun, FaultyLink, Webhook};
use serde_json::Value;

use crate::rig::{Resolver, Rig, Web, HOST_V4, HOST_V6};

/// What the only check of a rule found last: result and detail.
fn finding<'a>(status: &'a Value, rule: &str) -> (&'a str, &'a str) {
    let rules = status["rules"].as_array().expect("rules");
    let rule = rules.iter().find(|entry| entry["name"] == rule).unwrap_or(&Value::Null);
    let text = |key: &str| rule["checks"][0][key].as_str().unwrap_or_default();
    (text("result"), text("detail"))
}

/// A web server with TLS, and a way to it from the Internet's addresses.
struct Secure {
    webhook: Webhook,
    ways: [FaultyLink; 2],
}

impl Secure {
    fn start(rig: &Rig, certificate: &Issued) -> Self {
        let webhook = Webhook::start_tls(certificate);
        let way = |address: &str| {
            FaultyLink::from_namespace(&rig.internet, address.parse().expect("an address"), webhook.port())
        };
        Self { ways: [way(HOST_V4), way(HOST_V6)], webhook }
    }
}

#[test]
fn https_tells_a_good_certificate_from_all_others() {
    let rig = Rig::new();
    let _resolver = Resolver::start(&rig);
    let authority = Authority::new("lab authority");
    let stranger = Authority::new("somebody else");
    let good = Secure::start(&rig, &authority.issue(&["www.test", HOST_V6]));
    let servers = [
        ("elsewhere", Secure::start(&rig, &authority.issue(&["other.test"]))),
        ("expired", Secure::start(&rig, &authority.issue_expired(&["www.test"]))),
        ("stranger", Secure::start(&rig, &stranger.issue(&["www.test"]))),
    ];
    let plain = Webhook::start();
    let to_plain = FaultyLink::from_namespace(&rig.internet, HOST_V4.parse().unwrap(), plain.port());
    let rule = |name: &str, target: &str, family: &str| {
        format!(
            "config rule '{name}'\n\toption interval '300ms'\n\toption timeout '5'\n\toption offline_threshold '1'\n\
             \toption family '{family}'\n\
             config check\n\toption rule '{name}'\n\toption type 'https'\n\toption target '{target}'\n"
        )
    };
    let [four, six] = good.ways.each_ref().map(FaultyLink::port);
    let mut config = rule("four", &format!("www.test:{four}/"), "ipv4");
    config += &rule("six", &format!("www.test:{six}/"), "ipv6");
    config += &rule("address", &format!("[{HOST_V6}]:{six}/"), "any");
    config += &rule("plain", &format!("www.test:{}/", to_plain.port()), "ipv4");
    for (name, server) in &servers {
        config += &rule(name, &format!("www.test:{}/", server.ways[0].port()), "ipv4");
    }
    rig.env.write_config("dynapoint", &config);
    let mut command = rig.command(&["--log-level", "debug"]);
    command.env("SSL_CERT_FILE", authority.file());
    let daemon = Daemon::start(command, "dynapoint", rig.env.socket("dynapoint"));
    daemon.wait_for_status("the good ones", |status| {
        ["four", "six", "address"].iter().all(|rule| finding(status, rule).0 == "passed")
    });
    let peer = |name: &str| {
        let server = servers.iter().find(|(known, _)| *known == name).map(|(_, server)| server);
        format!("www.test:{}", server.map_or(0, |server| server.ways[0].port()))
    };
    for (name, sentence) in [
        (
            "elsewhere",
            format!("the certificate of {} is for other.test, not for www.test", peer("elsewhere")),
        ),
        ("expired", format!("the certificate of {} expired on 2020-12-31", peer("expired"))),
        (
            "stranger",
            format!(
                "the certificate of {} is signed by an authority this router does not know (install ca-certificates, \
                 or name the authority's file)",
                peer("stranger")
            ),
        ),
    ] {
        daemon.wait_for_status(&sentence, |status| finding(status, name) == ("failed", sentence.as_str()));
    }
    daemon.wait_for_status("no TLS there", |status| finding(status, "plain").0 == "failed");
    // With a good certificate, the answer decides.
    good.webhook.answer(Answer::Status(511, "log in".into()));
    daemon.wait_for_status("a portal", |status| {
        ["four", "six"].iter().all(|rule| finding(status, rule).0 == "portal")
    });
    good.webhook.answer(Answer::Cut);
    daemon.wait_for_status("cut", |status| {
        ["four", "six"].iter().all(|rule| finding(status, rule).0 == "failed")
    });
    assert!(daemon.stop().success());
}

/// Every tenth packet is lost each way and the round trip takes 200 ms: a check with time enough passes, one that has
/// less than the round trip does not.
#[test]
fn a_slow_and_lossy_link_is_no_outage() {
    let rig = Rig::new();
    let _link = DelayTun::join(&rig.router, &rig.internet, "sat", Duration::from_millis(100));
    for (namespace, last) in [(&rig.router, 1), (&rig.internet, 2)] {
        namespace.ip(&format!("addr add 10.10.0.{last}/24 dev sat"));
        namespace.ip(&format!("addr add fd10::{last}/64 dev sat nodad"));
    }
    // The host's addresses are behind the satellite now.
    rig.router.ip("route replace 10.9.0.2/32 via 10.10.0.2");
    rig.router.ip("-6 route replace fd09::2/128 via fd10::2");
    rig.internet.ip("route replace 10.9.0.1/32 via 10.10.0.1");
    rig.internet.ip("-6 route replace fd09::1/128 via fd10::1");
    rig.internet.run("nft add table inet loss");
    for hook in ["input", "output"] {
        rig.internet
            .run(&format!("nft add chain inet loss {hook} {{ type filter hook {hook} priority 0 ; }}"));
        rig.internet.run(&format!("nft add rule inet loss {hook} numgen random mod 100 < 10 drop"));
    }
    let web = Web::start(&rig, 80);
    let rule = |name: &str, host: &str, timeout: &str| {
        format!(
            "config rule '{name}'\n\tlist hosts 'http://{host}/'\n\toption interval '500ms'\n\
             \toption timeout '{timeout}'\n\toption offline_threshold '3'\n"
        )
    };
    let six = format!("[{HOST_V6}]");
    rig.env.write_config(
        "dynapoint",
        &(rule("four", HOST_V4, "5") + &rule("six", &six, "5") + &rule("hasty", HOST_V4, "150ms")),
    );
    let daemon = rig.start();
    daemon.wait_for_status("the patient ones", |status| {
        ["four", "six"].iter().all(|rule| finding(status, rule).0 == "passed")
    });
    let status = daemon.wait_for_status("the hasty one", |status| status["rules"][2]["state"] == "offline");
    assert_eq!(finding(&status, "hasty"), ("failed", "no answer within 150 ms"));
    let answered = web.requests().len();
    daemon.wait_for("twelve more answers", || (web.requests().len() >= answered + 12).then_some(()));
    let status = daemon.call("status", &serde_json::json!({})).unwrap();
    for rule in 0..2 {
        assert_eq!(status["rules"][rule]["state"], "online", "{status:#}");
        assert_eq!(status["rules"][rule]["transitions"], 1, "it never was anything else: {status:#}");
    }
}
