// SPDX-License-Identifier: Apache-2.0
//! Checks and states: every type, thresholds, families, links, portals.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::{json, Value};

use crate::netifd_double::NetifdDouble;
use crate::rig::{answer, Resolver, Rig, Web, HOST_V4, HOST_V6};

fn state<'a>(status: &'a Value, rule: &str) -> &'a str {
    let rules = status["rules"].as_array().expect("rules");
    rules.iter().find(|entry| entry["name"] == rule).map_or("", |entry| entry["state"].as_str().unwrap_or(""))
}

fn all_are(status: &Value, rules: &[&str], wanted: &str) -> bool {
    rules.iter().all(|rule| state(status, rule) == wanted)
}

/// A rule with one check, named after its type.
fn rule(name: &str, check: &str) -> String {
    format!(
        "config rule '{name}'\n\toption interval '300ms'\n\toption timeout '2'\n\toption offline_threshold '2'\n\
         config check\n\toption rule '{name}'\n{check}\n"
    )
}

#[test]
fn every_check_type_tells_up_from_down() {
    let rig = Rig::new();
    let (_web, _resolver) = (Web::start(&rig, 80), Resolver::start(&rig));
    let script = rig.env.data("script.sh");
    let verdict = rig.env.data("verdict");
    std::fs::write(&verdict, "0").unwrap();
    std::fs::write(&script, format!("#!/bin/sh\nexit $(cat {})\n", verdict.display())).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let option = |name: &str, value: &str| format!("\toption {name} '{value}'\n");
    let by_network = [
        ("http", option("type", "http") + &option("target", "www.test/") + &option("expect_body", "success")),
        ("dns", option("type", "dns") + &option("target", "www.test")),
        ("dns_given", option("type", "dns") + &option("target", "v4.test") + &option("resolver", HOST_V4)),
        ("icmp4", option("type", "icmp") + &option("target", HOST_V4)),
        ("icmp6", option("type", "icmp") + &option("target", HOST_V6)),
        ("tcp", option("type", "tcp") + &option("target", "www.test:80") + &option("interface", "wan")),
    ];
    let by_link = [
        ("neighbour", option("type", "neighbour") + &option("family", "ipv4")),
        ("route", option("type", "route")),
        ("carrier", option("type", "carrier") + &option("interface", "wan")),
    ];
    let by_script = ("script", option("type", "script") + &option("target", &script.display().to_string()));
    let config: String = by_network
        .iter()
        .chain(&by_link)
        .chain([&by_script])
        .map(|(name, check)| rule(name, check))
        .collect();
    rig.env.write_config("dynapoint", &config);
    let check = rig.env.run("dynapoint", ["check"]);
    assert_eq!((check.code, check.stdout.as_str()), (Some(0), "no problems\n"));

    let network: Vec<&str> = by_network.iter().map(|(name, _)| *name).collect();
    let link: Vec<&str> = by_link.iter().map(|(name, _)| *name).collect();
    let probe = lab::process::finish(rig.command(&["probe"]), b"");
    assert_eq!(probe.code, Some(0), "{}{}", probe.stdout, probe.stderr);
    let daemon = rig.start();
    daemon.wait_for_status("everything online", |status| {
        all_are(status, &network, "online")
            && all_are(status, &link, "online")
            && state(status, "script") == "online"
    });
    rig.black_hole("inet");
    let status = daemon.wait_for_status("black hole seen", |status| all_are(status, &network, "offline"));
    assert!(all_are(&status, &link, "online"), "a black hole further away is none of the link's: {status}");
    let reason = status["rules"][0]["checks"][0]["detail"].as_str().unwrap_or_default();
    assert!(reason.contains("no answer") || reason.contains("resolve"), "{reason}");
    std::fs::write(&verdict, "2").unwrap();
    daemon.wait_for_status("the script's portal", |status| state(status, "script") == "portal");
    std::fs::write(&verdict, "1").unwrap();
    daemon.wait_for_status("the script's failure", |status| state(status, "script") == "offline");
    rig.end_black_hole("inet");
    daemon.wait_for_status("back", |status| all_are(status, &network, "online"));
    rig.cut_link();
    daemon.wait_for_status("cut", |status| {
        all_are(status, &network, "offline") && all_are(status, &link, "offline")
    });
    rig.mend_link();
    daemon.wait_for_status("mended", |status| {
        all_are(status, &network, "online") && all_are(status, &link, "online")
    });
    assert!(daemon.stop().success());
}

/// A round that fails four times and then passes is no outage; five times is one: as the original counted.
#[test]
fn the_switch_comes_at_the_nth_consecutive_failed_round() {
    let rig = Rig::new();
    let web = Web::start(&rig, 80);
    let good = || answer("200 OK", "", "");
    let bad = || answer("500 Oops", "", "");
    let mut script = vec![good()];
    script.extend((0..4).map(|_| bad()));
    script.push(good());
    script.extend((0..5).map(|_| bad()));
    web.script(script);
    rig.env.write_config(
        "dynapoint",
        &format!(
            "config rule 'internet'\n\tlist hosts 'http://{HOST_V4}'\n\toption interval '1'\n\toption timeout '5'\n\
             \toption offline_threshold '5'\n\toption add_hostname_to_ssid '0'\n\toption use_curl '0'\n\
             \toption curl_interface 'eth0'\n"
        ),
    );
    let daemon = rig.start();
    daemon.wait_for_status("back online after five failures", |status| {
        web.script_is_done()
            && state(status, "internet") == "online"
            && status["rules"][0]["transitions"] == 3
    });
    let history = daemon.call("history", &json!({})).unwrap();
    let states: Vec<&str> = history["transitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["online", "offline", "online"], "newest first: {history}");
    // Twelve rounds, the interval apart; single gaps say more about the machine's load than about the daemon.
    let requests = web.requests();
    let took = requests[11] - requests[0];
    assert!(took > Duration::from_millis(10_500), "{took:?} for eleven intervals of a second");
}

#[test]
fn portals_are_recognised_and_named() {
    let rig = Rig::new();
    let web = Web::start(&rig, 80);
    rig.env.write_config(
        "dynapoint",
        &format!(
            "config rule 'internet'\n\tlist hosts 'http://{HOST_V4}/generate_204'\n\toption interval '200ms'\n\
             \toption offline_threshold '1'\n"
        ),
    );
    web.set(answer("204 No Content", "", ""));
    let daemon = rig.start();
    for portal in [
        answer("302 Found", "Location: http://login.portal.test/?from=x\r\n", ""),
        answer("511 Network Authentication Required", "", "log in"),
        answer("200 OK", "", "<html>Welcome to the hotel"),
    ] {
        web.set(answer("204 No Content", "", ""));
        daemon.wait_for_status("online", |status| state(status, "internet") == "online");
        web.set(portal);
        daemon.wait_for_status("portal", |status| state(status, "internet") == "portal");
    }
    web.set(answer("503 Busy", "", ""));
    daemon.wait_for_status("offline", |status| state(status, "internet") == "offline");
}

#[test]
fn ipv4_and_ipv6_are_judged_apart() {
    let rig = Rig::new();
    let (_web, _resolver) = (Web::start(&rig, 80), Resolver::start(&rig));
    let with = |name: &str, family: &str| {
        format!(
            "config rule '{name}'\n\tlist hosts 'http://www.test/'\n\toption interval '300ms'\n\toption timeout '2'\n\
             \toption offline_threshold '2'\n\toption family '{family}'\n"
        )
    };
    let rules = [("any", "any"), ("both", "both"), ("four", "ipv4"), ("six", "ipv6")];
    rig.env.write_config("dynapoint", &rules.map(|(name, family)| with(name, family)).concat());
    let daemon = rig.start();
    let expect = |what: &str, wanted: [&str; 4]| {
        daemon.wait_for_status(what, |status| {
            rules.iter().zip(wanted).all(|((name, _), wanted)| state(status, name) == wanted)
        });
    };
    expect("dual stack", ["online", "online", "online", "online"]);
    rig.black_hole("ip6");
    expect("IPv6 broken", ["degraded", "offline", "online", "offline"]);
    // Without a default route the family is not there at all, which is no defect for who takes any.
    rig.router.ip("-6 route del default");
    expect("IPv6 gone", ["online", "offline", "online", "offline"]);
    rig.router.ip(&format!("-6 route add default via {HOST_V6}"));
    rig.end_black_hole("ip6");
    expect("dual stack again", ["online", "online", "online", "online"]);
}

/// A lost link is the verdict where that is asked for, starts a round at once otherwise, and means nothing to others.
#[test]
fn a_lost_link_is_acted_on_as_configured() {
    let rig = Rig::new();
    let _web = Web::start(&rig, 80);
    let with = |name: &str, link_loss: &str| {
        format!(
            "config rule '{name}'\n\tlist hosts 'http://{HOST_V4}/'\n\toption interval '1h'\n\toption timeout '2'\n\
             \toption retry_interval '300ms'\n\toption link_loss '{link_loss}'\n"
        )
    };
    let rules = ["immediate", "probe", "ignore"];
    rig.env.write_config("dynapoint", &rules.map(|name| with(name, name)).concat());
    let daemon = rig.start();
    daemon.wait_for_status("online", |status| all_are(status, &rules, "online"));
    rig.cut_link();
    let status = daemon.wait_for_status("lost", |status| all_are(status, &["immediate", "probe"], "offline"));
    assert_eq!(state(&status, "ignore"), "online", "its next round is an hour away");
    assert_eq!(status["rules"][0]["reason"], "no default route");
    rig.mend_link();
    daemon.wait_for_status("back", |status| all_are(status, &rules, "online"));
}

#[test]
fn a_logical_interface_is_followed_to_its_device() {
    let ubusd = lab::UbusdDouble::start();
    let netifd = NetifdDouble::start(ubusd.path());
    let rig = Rig::with(lab::Environment::new().with_ubus(ubusd.path()));
    let _web = Web::start(&rig, 80);
    netifd.set_interface("uplink", true, "wan");
    rig.env.write_config(
        "dynapoint",
        &format!(
            "config rule 'internet'\n\tlist hosts 'http://{HOST_V4}/'\n\toption interval '1h'\n\
             \toption interface 'uplink'\n\toption link_loss 'immediate'\n\toption retry_interval '300ms'\n"
        ),
    );
    let daemon = rig.start();
    daemon.wait_for_status("online through wan", |status| state(status, "internet") == "online");
    netifd.set_interface("uplink", false, "wan");
    let status = daemon.wait_for_status("netifd says down", |status| state(status, "internet") == "offline");
    assert_eq!(status["rules"][0]["reason"], "interface uplink is down");
    netifd.set_interface("uplink", true, "wan");
    daemon.wait_for_status("up again", |status| state(status, "internet") == "online");
    netifd.set_interface("uplink", true, "nowhere");
    daemon.wait_for_status("moved away", |status| state(status, "internet") == "offline");
    // The same over ubus, as LuCI asks.
    let status = ubusd.call("dynapoint", "status", json!({})).expect("the object is on the bus");
    assert_eq!(state(&status, "internet"), "offline");
}

#[test]
fn without_anything_it_runs_and_says_so() {
    let rig = Rig::new();
    let daemon = rig.start();
    let status = daemon.call("status", &json!({})).unwrap();
    assert_eq!(status["configuration"]["state"], "unconfigured");
    assert_eq!(status["rules"], json!([]));
    rig.env.write_config("dynapoint", "config rule 'internet'\n");
    daemon.reload();
    let status =
        daemon.wait_for_status("a rule without hosts", |status| status["rules"][0]["name"] == "internet");
    assert_eq!(state(&status, "internet"), "disabled");
    assert_eq!(status["note"], "there is no /etc/config/wireless");
    let check = rig.env.run("dynapoint", ["check"]);
    assert_eq!(check.code, Some(1));
    assert!(check.stdout.contains("dynapoint:internet.hosts: nothing to check"), "{}", check.stdout);
    assert!(daemon.stop().success());
}

#[test]
fn force_and_check_now_do_what_they_say() {
    let rig = Rig::new();
    let _web = Web::start(&rig, 80);
    rig.env.write_config(
        "dynapoint",
        &format!("config rule 'internet'\n\tlist hosts 'http://{HOST_V4}/'\n\toption interval '1h'\n"),
    );
    let daemon = rig.start();
    daemon.wait_for_status("online", |status| state(status, "internet") == "online");
    let mut events = daemon.subscribe();
    daemon.call("force", &json!({ "rule": "internet", "state": "offline" })).unwrap();
    let event = events.next_event();
    assert_eq!((&event["data"]["state"], &event["data"]["from"]), (&json!("offline"), &json!("online")));
    daemon.call("check_now", &json!({})).unwrap();
    let status = daemon.call("status", &json!({})).unwrap();
    assert_eq!((state(&status, "internet"), &status["rules"][0]["forced"]), ("offline", &json!(true)));
    daemon.call("force", &json!({ "rule": "internet", "state": "auto" })).unwrap();
    daemon.wait_for_status("online again", |status| state(status, "internet") == "online");
    let error = daemon.call("force", &json!({ "rule": "nobody", "state": "offline" })).unwrap_err();
    assert_eq!(error["code"], "not_found");
    let error = daemon.call("force", &json!({ "rule": "internet", "state": "gone" })).unwrap_err();
    assert_eq!(error["code"], "invalid_argument");
}
