// SPDX-License-Identifier: Apache-2.0
//! Who is told of a transition, and how: the hook program, a broker behind the outage, the metrics file.

use std::os::unix::fs::PermissionsExt;

use lab::{wait_for, Broker, Daemon, Environment, FaultyLink, UbusdDouble, PATIENCE};

use crate::procd_double::ProcdDouble;
use crate::rig::{Rig, Web, HOST_V4};

#[test]
fn an_outage_is_told_to_hook_broker_and_metrics() {
    let ubusd = UbusdDouble::start();
    let procd = ProcdDouble::start(ubusd.path(), "dynapoint");
    let rig = Rig::with(Environment::new().with_ubus(ubusd.path()));
    let _web = Web::start(&rig, 80);
    let broker = Broker::start();
    let subscriber = broker.subscribe("ap/event");
    let to_broker = FaultyLink::from_namespace(&rig.internet, HOST_V4.parse().unwrap(), broker.port());
    let (hook, told) = (rig.env.data("hook"), rig.env.data("told"));
    std::fs::write(
        &hook,
        format!(
            "#!/bin/sh\necho \"$RULE $PREVIOUS-$ACTION ${{LASTED:-none}} $REASON\" >>{}\n",
            told.display()
        ),
    )
    .unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    rig.env.write_config("system", "config system\n\toption hostname 'node-0815'\n");
    rig.env.write_config(
        "dynapoint",
        &format!(
            "config globals 'globals'\n\toption hook '{}'\n\toption mqtt_host '{HOST_V4}'\n\toption mqtt_port '{}'\n\
             \toption mqtt_uname '{}'\n\toption mqtt_pw '{}'\n\toption mqtt_event_flag '1'\n\
             \toption mqtt_event_topic 'ap/event'\n\
             config rule 'internet'\n\tlist hosts 'http://{HOST_V4}/'\n\toption interval '1h'\n\
             \toption retry_interval '300ms'\n\toption link_loss 'immediate'\n",
            hook.display(),
            to_broker.port(),
            lab::broker::USER,
            lab::broker::PASSWORD.replace('\'', "'\\''"),
        ),
    );
    // A /var of its own, with the directory that the metrics exporter reads.
    let inner = rig.command(&["--log-level", "debug"]);
    let mut command = rig.router.command("unshare");
    command.args([
        "-m",
        "sh",
        "-c",
        "mount -t tmpfs none /var && mkdir /var/prometheus && exec \"$@\"",
        "sh",
    ]);
    // Behind `ip netns exec NAME`.
    command.args(inner.get_args().skip(3));
    let daemon = Daemon::start(command, "dynapoint", rig.env.socket("dynapoint"));
    let page = format!("/proc/{}/root/var/prometheus/dynapoint.prom", daemon.pid());
    let metric = |line: &str| {
        wait_for(line, PATIENCE, || {
            std::fs::read_to_string(&page)
                .is_ok_and(|text| text.lines().any(|known| known == line))
                .then_some(())
        });
    };
    daemon.wait_for_status("online", |status| status["rules"][0]["state"] == "online");
    metric("dynapoint_rule_state{rule=\"internet\"} 0");
    metric("dynapoint_transitions_total{rule=\"internet\"} 1");

    rig.cut_link();
    metric("dynapoint_rule_state{rule=\"internet\"} 3");
    let alerts = || daemon.call("alerts", &serde_json::json!({})).unwrap();
    daemon.wait_for("the alert in the outbox", || (alerts()["mqtt"]["queued"] == 1).then_some(()));
    assert!(subscriber.messages().is_empty(), "there is no way out");

    rig.mend_link();
    let messages = subscriber.wait_for_count(2);
    let (offline, recovered) = (messages[0].json(), messages[1].json());
    assert_eq!((&offline["kind"], &offline["severity"]), (&"offline".into(), &"critical".into()));
    assert_eq!(offline["subject"], "internet is offline: no default route");
    assert_eq!((&offline["host"], &offline["daemon"]), (&"node-0815".into(), &"dynapoint".into()));
    assert_eq!((&recovered["kind"], &recovered["recovers"]), (&"recovered".into(), &offline["id"]));
    assert_eq!(recovered["facts"]["rule"], "internet");
    metric("dynapoint_rule_state{rule=\"internet\"} 0");
    metric("dynapoint_transitions_total{rule=\"internet\"} 3");

    let lines = wait_for("three runs of the hook", PATIENCE, || {
        let text = std::fs::read_to_string(&told).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        (lines.len() == 3).then_some(lines)
    });
    let begins = ["internet unknown-online 0", "internet online-offline ", "internet offline-online "];
    for (line, begin) in lines.iter().zip(begins) {
        assert!(line.starts_with(begin), "{lines:?}");
    }
    assert!(lines[1].ends_with(" no default route"), "{lines:?}");
    // Scripts in /etc/hotplug.d/dynapoint are procd's to run, as root.
    let called =
        wait_for("three calls of procd", PATIENCE, || Some(procd.calls()).filter(|calls| calls.len() == 3));
    let offline = called.iter().find(|env| env[0] == "ACTION=offline").expect("the outage");
    assert_eq!(offline[1..4], ["RULE=internet", "PREVIOUS=online", "REASON=no default route"]);
    assert!(daemon.stop().success());
}

/// A link that goes up and down is flapping from the third outage on; it is told once, and once more after it was quiet.
#[test]
fn a_flapping_link_is_told_once() {
    let rig = Rig::new();
    let _web = Web::start(&rig, 80);
    let broker = Broker::start();
    let subscriber = broker.subscribe("ap/event");
    let to_broker = FaultyLink::from_namespace(&rig.internet, HOST_V4.parse().unwrap(), broker.port());
    rig.env.write_config(
        "dynapoint",
        &format!(
            // Without a window nothing is held back and put together: what is told twice arrives twice.
            "config globals 'globals'\n\toption mqtt_host '{HOST_V4}'\n\toption mqtt_port '{}'\n\
             \toption mqtt_uname '{}'\n\toption mqtt_pw '{}'\n\toption mqtt_event_flag '1'\n\
             \toption mqtt_event_topic 'ap/event'\n\toption alert_window '0'\n\
             config rule 'internet'\n\tlist hosts 'http://{HOST_V4}/'\n\toption interval '1h'\n\
             \toption retry_interval '300ms'\n\toption link_loss 'immediate'\n",
            to_broker.port(),
            lab::broker::USER,
            lab::broker::PASSWORD.replace('\'', "'\\''"),
        ),
    );
    let daemon = rig.start();
    let is = |wanted: &str| daemon.wait_for_status(wanted, |status| status["rules"][0]["state"] == wanted);
    is("online");
    let outages = 6;
    for _ in 0..outages {
        rig.cut_link();
        is("offline");
        rig.mend_link();
        is("online");
    }
    let count =
        |kind: &str| subscriber.messages().iter().filter(|message| message.json()["kind"] == kind).count();
    // An alert is delivered in the order in which it was raised.
    wait_for("the last recovery", PATIENCE, || (count("recovered") == outages).then_some(()));
    assert_eq!((count("offline"), count("flapping")), (outages, 1));
    assert!(daemon.stop().success());
}
