// SPDX-License-Identifier: Apache-2.0
//! Delivery of alerts against real parts: mosquitto, exim, a server that speaks as Slack does, a program; over links that
//! fail, out of a daemon (`src/bin/alertd.rs`) that is killed.

#[path = "alerts/faults.rs"]
mod faults;
#[path = "alerts/mail.rs"]
mod mail;
#[path = "alerts/outage.rs"]
mod outage;
#[path = "alerts/setup.rs"]
mod setup;
#[path = "alerts/slack.rs"]
mod slack;
#[path = "alerts/soak.rs"]
mod soak;

use lab::broker::Setup;
use lab::webhook::Answer;
use lab::{wait_for, Broker, MailServer, Webhook, PATIENCE};
use serde_json::json;
use setup::{Options, Parts};
use slack::Slack;
use std::time::Duration;

#[test]
fn an_alert_reaches_every_sink_in_its_form() {
    let parts = Parts::new();
    let broker = Setup::default().tls(&parts.authority, &parts.certificate).start();
    let subscriber = broker.subscribe("#");
    let slack = Slack::start(&parts);
    let mail = MailServer::start(&parts.certificate);
    let daemon = parts.start(
        &Options::default()
            .mqtt_tls(&parts, &broker)
            .slack(&slack.url("/T0/B0/x"))
            .email(mail.port())
            .exec(&parts),
    );
    let id = parts.raise(&daemon, "dip", "Dip to 43 % <230 V> & back");

    let message = subscriber.wait_for("the alert", |messages| {
        messages.iter().find(|message| message.topic.ends_with("/event")).cloned()
    });
    assert_eq!((message.topic.as_str(), message.qos, message.retained), ("lab/router/event", 1, false));
    let event = message.json();
    assert_eq!(event["id"], id.as_str());
    assert_eq!(event["host"], "router");
    assert_eq!(event["device"], "test device");
    assert_eq!(event["facts"]["residual_voltage"], "90 %");
    let online = subscriber.wait_for("the status", |messages| {
        messages.iter().find(|message| message.topic == "lab/router/event/status").cloned()
    });
    assert_eq!(online.text(), "online");

    let body = wait_for("the message for Slack", PATIENCE, || slack.accepted().first().cloned());
    assert_eq!(body["text"], "🟡 Dip to 43 % &lt;230 V&gt; &amp; back");

    let mails = mail.wait_for_count(1);
    for part in [
        format!("Message-ID: <{id}@lab.example>").as_str(),
        "From: monitor@lab.example",
        "Auto-Submitted: auto-generated",
        "Subject: [router] Dip to 43 % <230 V> & back",
        "Envelope-to: ops@lab.example,\n second@lab.example",
        "text/plain",
        "text/html",
    ] {
        assert!(mails[0].contains(part), "{part} is not in\n{}", mails[0]);
    }
    let hooked = wait_for("the program", PATIENCE, || parts.hooked().first().cloned());
    assert_eq!(hooked["id"], id.as_str());

    daemon.wait_for_status("four deliveries", |status| {
        ["slack", "mqtt", "email", "exec"].iter().all(|sink| status["alerts"][sink]["delivered"] == 1)
    });
    // Ended in order, it says so itself.
    daemon.stop();
    subscriber.wait_for("the goodbye", |messages| {
        messages.iter().any(|message| message.text() == "offline").then_some(())
    });
}

#[test]
fn a_dead_daemon_is_told_by_the_last_will() {
    let parts = Parts::new();
    let broker = Broker::start();
    let subscriber = broker.subscribe("lab/router/event/status");
    let daemon = parts.start(&Options::default().mqtt(&broker));
    subscriber.wait_for_count(1);
    daemon.kill();
    assert_eq!(subscriber.wait_for_count(2)[1].text(), "offline");
}

#[test]
fn a_sink_that_does_not_answer_delays_no_other() {
    let parts = Parts::new();
    let broker = Broker::start();
    let subscriber = broker.subscribe("lab/router/event");
    let webhook = Webhook::start_tls(&parts.certificate);
    webhook.answer(Answer::Hang);
    let daemon =
        parts.start(&Options::default().mqtt(&broker).slack(&parts.url(&webhook, "/x")).exec(&parts));
    let first = parts.raise(&daemon, "a", "first");
    webhook.wait_for(1);
    let others: Vec<_> =
        (0..20).map(|index| parts.raise(&daemon, &format!("kind_{index}"), "next")).collect();
    let messages = subscriber.wait_for_count(21);
    let ids: Vec<_> =
        messages.iter().map(|message| message.json()["id"].as_str().map(str::to_owned)).collect();
    assert!(ids.contains(&Some(first)) && others.into_iter().all(|id| ids.contains(&Some(id))));
    wait_for("the program", PATIENCE, || (parts.hooked().len() == 21).then_some(()));
    let status = daemon.call("status", &json!({})).unwrap();
    assert_eq!(status["alerts"]["slack"]["queued"], 21);
    assert!(status["alerts"]["slack"]["last_error"].is_null(), "the others waited until it was given up");
    assert_eq!(webhook.requests().len(), 1, "one at a time");
}

#[test]
fn a_backlog_goes_to_the_new_address() {
    let parts = Parts::new();
    let (old_hook, new_hook) = (Slack::start(&parts), Slack::start(&parts));
    let mut dead = Broker::start();
    dead.stop();
    let broker = Broker::start();
    let subscriber = broker.subscribe("lab/router/event");
    old_hook.webhook().answer(Answer::Status(500, "down".into()));
    old_hook.refuse(Answer::Status(500, "down".into()));
    let daemon = parts.start(&Options::default().mqtt(&dead).slack(&old_hook.url("/old")));
    let ids: Vec<_> = (0..8).map(|index| parts.raise(&daemon, &format!("kind_{index}"), "waits")).collect();
    daemon.wait_for_status("a backlog", |status| {
        status["alerts"]["slack"]["last_error"].is_string()
            && status["alerts"]["mqtt"]["last_error"].is_string()
    });
    parts.configure(&Options::default().mqtt(&broker).slack(&new_hook.url("/new")));
    daemon.reload();
    let messages = subscriber.wait_for_count(ids.len());
    let arrived: Vec<_> =
        messages.iter().map(|message| message.json()["id"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!(arrived, ids, "oldest first");
    wait_for("all at the new hook", PATIENCE, || (new_hook.ids().len() >= ids.len()).then_some(()));
    assert_eq!(new_hook.ids(), ids);
    assert!(old_hook.ids().is_empty());
}

#[test]
fn one_connection_serves_values_and_alerts_when_they_go_to_one_broker() {
    let parts = Parts::new();
    let broker = Broker::start();
    let subscriber = broker.subscribe("#");
    let daemon = parts.start(&Options::default().mqtt(&broker).line("option mqtt_notification '1'"));
    daemon.call("publish", &json!({ "topic": "lab/router", "payload": "231.2" })).unwrap();
    parts.raise(&daemon, "dip", "Dip");
    for topic in ["lab/router", "lab/router/event"] {
        subscriber
            .wait_for(topic, |messages| messages.iter().any(|message| message.topic == topic).then_some(()));
    }
    let status = daemon.call("status", &json!({})).unwrap();
    assert_eq!(status["alerts"]["connections"].as_array().map(Vec::len), Some(1), "{status:#}");
    assert_eq!(status["alerts"]["connections"][0]["role"], "telemetry and alerts");
}

#[test]
fn values_go_on_while_alerts_wait_for_another_broker() {
    let parts = Parts::new();
    let broker = Broker::start();
    let subscriber = broker.subscribe("lab/router");
    let mut dead = Broker::start();
    dead.stop();
    let daemon =
        parts.start(&Options::default().mqtt(&broker).line("option mqtt_notification '1'").line(&format!(
            "option mqtt_event_host '127.0.0.1'\n\toption mqtt_event_port '{}'",
            dead.port()
        )));
    let id = parts.raise(&daemon, "dip", "Dip");
    for index in 0..20 {
        daemon.call("publish", &json!({ "topic": "lab/router", "payload": index.to_string() })).unwrap();
        subscriber.wait_for("the value", |messages| {
            messages.iter().any(|message| message.text() == index.to_string()).then_some(())
        });
    }
    dead.resume();
    let events = dead.subscribe("lab/router/event");
    daemon.call("connectivity_returned", &json!({})).unwrap();
    assert_eq!(events.wait_for_count(1)[0].json()["id"], id.as_str());
}

/// 10 000 events: exact digests, few messages, little memory.
fn storm(seconds: f64, window: &str) {
    const EVENTS: u64 = 10_000;
    const RATE: usize = 20;
    const OUTBOX_KB: u64 = 256;
    let parts = Parts::new();
    let broker = Broker::start();
    let subscriber = broker.subscribe("lab/router/event");
    let slack = Slack::start(&parts);
    let daemon = parts.start(
        &Options::default()
            .storm_control(window, RATE)
            .mqtt(&broker)
            .slack(&slack.url("/x"))
            .exec(&parts)
            .line(&format!("option outbox_size_kb '{OUTBOX_KB}'")),
    );
    for sink in ["mqtt", "slack", "exec"] {
        let tested = daemon.call("alert_test", &json!({ "sink": sink })).unwrap();
        assert_eq!(tested["delivered"], true, "{tested}");
    }
    let before = memory_kb(daemon.pid(), "VmRSS");
    // The answer comes at the end: the peak is asked for afterwards.
    let raised = std::thread::scope(|scope| {
        let caller = scope.spawn(|| {
            let params = json!({ "kind": "dip", "subject": "Dip", "count": EVENTS, "spread": seconds });
            setup::call_for_long(&parts, "raise", &params)
        });
        caller.join()
    });
    assert!(raised.is_ok());
    let grown = memory_kb(daemon.pid(), "VmHWM").saturating_sub(before);
    assert!(grown <= OUTBOX_KB + 512, "memory grew by {grown} kB");
    println!("memory grew by {grown} kB");
    let counted = |digests: &[serde_json::Value]| -> u64 {
        digests.iter().map(|event| event["digest"]["count"].as_u64().unwrap_or(1)).sum()
    };
    let events = || -> Vec<serde_json::Value> {
        let is_dip = |event: &serde_json::Value| event["kind"] == "dip";
        subscriber.messages().iter().map(lab::broker::Message::json).filter(is_dip).collect()
    };
    wait_for("every event in a message", PATIENCE, || (counted(&events()) >= EVENTS).then_some(()));
    let events = events();
    assert_eq!(counted(&events), EVENTS);
    assert!(events.len() <= RATE, "{} messages", events.len());
    assert_eq!(events[0]["digest"], serde_json::Value::Null, "the first comes at once");
    let worst = events[1..]
        .iter()
        .filter_map(|event| event["digest"]["worst"]["value"].as_f64())
        .fold(100.0, f64::min);
    assert!((worst - 41.0).abs() < 1e-9, "worst {worst} %");
    let hooked: Vec<_> = parts.hooked().into_iter().filter(|event| event["kind"] == "dip").collect();
    wait_for("every event at the program", PATIENCE, || {
        let hooked: Vec<_> = parts.hooked().into_iter().filter(|event| event["kind"] == "dip").collect();
        (counted(&hooked) == EVENTS).then_some(())
    });
    assert!(hooked.len() <= RATE);
    let message = slack.accepted().last().map(ToString::to_string).unwrap_or_default();
    assert!(message.contains(" × dip between "), "{message}");
}

#[test]
fn a_storm_is_a_handful_of_exact_digests() {
    storm(8.0, "3s");
}

#[test]
#[ignore = "takes two minutes"]
fn a_storm_of_a_minute_is_a_handful_of_exact_digests() {
    storm(60.0, "20s");
}

fn memory_kb(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap_or_else(|| panic!("{field}: {status}"))
}

#[test]
fn a_program_that_hangs_or_fails_is_told_and_leaves_no_process() {
    let parts = Parts::new();
    let hook = parts.environment.data("hook");
    setup::write_program(&hook, "#!/bin/sh\necho 'no credit left' >&2\nexit 3\n");
    let daemon = parts.start(&Options::default().line(&format!("option exec_command '{}'", hook.display())));
    let tested = daemon.call("alert_test", &json!({ "sink": "exec" })).unwrap();
    assert_eq!(tested["delivered"], false);
    let expected = format!("{} failed (exit status: 3): no credit left", hook.display());
    assert_eq!(tested["answer"], expected.as_str());
    std::thread::sleep(Duration::from_millis(100));
    let children =
        std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", daemon.pid())).unwrap_or_default();
    assert_eq!(children.trim(), "", "a zombie is left");
}

#[test]
fn alert_test_on_the_command_line_prints_the_answer_of_every_sink() {
    let parts = Parts::new();
    let slack = Slack::start(&parts);
    let hook = parts.environment.data("hook");
    setup::write_program(&hook, "#!/bin/sh\necho 'no credit left' >&2\nexit 3\n");
    let nobody = parts.environment.run("alertd", ["alert-test"]);
    assert_eq!((nobody.code, nobody.stdout.as_str()), (Some(1), ""));
    assert!(nobody.stderr.contains("not running"), "{}", nobody.stderr);

    let exec = format!("option exec_command '{}'", hook.display());
    let _daemon = parts.start(&Options::default().slack(&slack.url("/x")).line(&exec));
    let all = parts.environment.run("alertd", ["alert-test"]);
    assert_eq!(all.code, Some(1), "one of the two failed");
    assert!(all.stdout.contains("slack: delivered: "), "{}", all.stdout);
    assert!(
        all.stdout.contains("exec: NOT delivered: ") && all.stdout.contains("no credit left"),
        "{}",
        all.stdout
    );
    let one = parts.environment.run("alertd", ["alert-test", "slack"]);
    assert_eq!((one.code, one.stdout.lines().count()), (Some(0), 1), "{}", one.stdout);
    assert_eq!(parts.environment.run("alertd", ["alert-test", "email"]).code, Some(1), "not configured");
    assert_eq!(parts.environment.run("alertd", ["alert-test", "pigeon"]).code, Some(2));
}
