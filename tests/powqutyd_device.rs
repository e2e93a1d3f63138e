// SPDX-License-Identifier: Apache-2.0
//! powqutyd on an emulated oscilloscope: the real daemon on a real pseudo-terminal, through faults, unplugging and
//! stalled consumers.

#[path = "powqutyd_device/command.rs"]
mod command;
#[path = "powqutyd_device/comtrade.rs"]
mod comtrade;
#[path = "powqutyd_device/raw.rs"]
mod raw;

use lab::{Broker, Daemon, Environment, PATIENCE};
use serde_json::{json, Value};
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// An emulated oscilloscope at `data/WeSense0`.
fn emulate(environment: &Environment, script: &str) -> Daemon {
    let path = environment.data("script");
    std::fs::write(&path, script).unwrap();
    let mut command = std::process::Command::new(lab::binary("powqutyd"));
    command.arg("emulate").arg("--pty").arg(environment.data("WeSense0")).arg("--script").arg(path);
    let emulator = Daemon::start(command, "emulate", environment.data("none"));
    emulator.wait_for_log("linked from");
    emulator
}

fn configure(environment: &Environment, more: &str) {
    configure_input(environment, "wesense", more);
}

fn configure_input(environment: &Environment, input: &str, more: &str) {
    let data = |name: &str| environment.data(name).display().to_string();
    let text = format!(
        "config powquty 'powquty'\n\toption input '{input}'\n\toption device_tty '{}'\n\toption powquty_path '{}'\n\
         \toption powquty_event_path '{}'\n\toption record_path '{}'\n\toption outbox_path '{}'\n{more}",
        data("WeSense0"),
        data("powquty.log"),
        data("events.log"),
        data("powquty.rec"),
        data("outbox"),
    );
    environment.write_config("powquty", &text);
}

/// UTC of the emulator's time 0 (s).
fn origin(emulator: &Daemon) -> f64 {
    let log = emulator.log();
    let line = log.lines().find(|line| line.contains("time 0 is")).expect("the emulator says when it began");
    let text = line.rsplit(' ').next().unwrap();
    seconds(text)
}

fn seconds(rfc3339: &str) -> f64 {
    let at = powqutyd::clock::Utc::parse_rfc3339(rfc3339).unwrap_or_else(|| panic!("no time: {rfc3339}"));
    at.seconds()
}

/// Finished dips, oldest first: start (s after the emulator's time 0) and length (s).
fn dips(daemon: &Daemon, origin: f64) -> Vec<(f64, f64)> {
    let answer = daemon.call("events", &json!({ "kind": "dip", "limit": 200 })).unwrap();
    let mut dips: Vec<(f64, f64)> = answer["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| {
            (seconds(event["start"].as_str().unwrap()) - origin, event["duration"].as_f64().unwrap())
        })
        .collect();
    dips.reverse();
    dips
}

fn fault(status: &Value, name: &str) -> u64 {
    status["source"]["faults"][name].as_u64().unwrap_or_else(|| panic!("no count of {name}: {status:#}"))
}

/// Ten-second rounds: the faults of one come with the dips of all. Length of a dip of 100 ms from one zero crossing to
/// another, as measured without a line (IEC 61000-4-30 counts whole cycles around it).
const ROUND: f64 = 10.0;
const DIP: (f64, f64) = (5.0, 0.1);
const MEASURED: f64 = 0.13;

fn run_through_faults(minutes: u32) {
    let environment = Environment::new();
    let mut script = String::from(
        "repeat 60s\nnoise 0.1\ndevice jitter 2ms\ndevice ppm 20\ndevice offset 7\nat 11s fault torn\n\
         at 12s fault duplicate\nat 15.05s fault skip 1\nat 21s fault garbage 300\nat 22s fault counter\n\
         at 24.9s fault stall for 500ms\nat 31s fault silence for 1500ms\nat 37s fault reset\n\
         at 51s fault hangup for 2s\n",
    );
    for round in 0..6 {
        let _ = writeln!(script, "at {}s dip 50 for {}s", f64::from(round) * ROUND + DIP.0, DIP.1);
    }
    configure(&environment, "");
    let emulator = emulate(&environment, &script);
    let origin = origin(&emulator);
    let daemon = environment.spawn("powqutyd");
    daemon.wait_for_status("samples", |status| status["source"]["state"] == "running");
    let rounds = minutes * 6;
    let deadline = Instant::now() + Duration::from_secs(u64::from(minutes) * 60) + PATIENCE;
    while dips(&daemon, origin).len() < rounds as usize {
        assert!(Instant::now() < deadline, "events are missing: {:?}", dips(&daemon, origin));
        std::thread::sleep(Duration::from_millis(500));
    }
    let found = dips(&daemon, origin);
    println!("{found:?}");
    for (round, (start, length)) in found.iter().enumerate() {
        // Measured from the beginning of the cycle that was low first, up to one before the dip.
        let expected = round as f64 * ROUND + DIP.0 - 0.01;
        assert!((start - expected).abs() < 0.02, "dip {round} at {start} s");
        assert!((length - MEASURED).abs() < 0.02, "dip {round} is {length} s long");
    }
    let status = daemon.call("status", &Value::Null).unwrap();
    println!("{:#}", status["source"]);
    let counts = status["events"].as_object().unwrap();
    assert_eq!(counts["dip"], rounds);
    assert!(counts.iter().all(|(kind, count)| kind == "dip" || count == 0), "invented: {counts:?}");
    for name in ["torn", "duplicates", "gaps", "counter_errors", "silences", "hangups"] {
        assert!(fault(&status, name) >= u64::from(minutes), "{name}: {:#}", status["source"]);
    }
    assert!(fault(&status, "garbage_bytes") >= u64::from(300 * minutes));
    assert_eq!(fault(&status, "lost_frames"), 0, "the analysis kept up");
    let missing = fault(&status, "missing_samples") as f64 / 10_240.0;
    let least = f64::from(minutes) * 3.5;
    assert!((least..least + 6.0 * f64::from(minutes)).contains(&missing), "{missing} s missing");
    assert!(daemon.stop().success());
}

#[test]
fn a_minute_of_faults_loses_no_event_and_invents_none() {
    run_through_faults(1);
}

#[test]
#[ignore = "ten minutes; make test-long"]
fn ten_minutes_of_faults_lose_no_event_and_invent_none() {
    run_through_faults(10);
}

#[test]
fn unplugged_and_replugged_under_another_name_it_measures_on() {
    let environment = Environment::new();
    configure(&environment, "");
    let emulator = emulate(&environment, "at 8s fault hangup for 10s\nat 22s dip 40 for 200ms\n");
    let target = || std::fs::read_link(environment.data("WeSense0"));
    let name = target().unwrap();
    let daemon = environment.spawn("powqutyd");
    daemon.wait_for_status("samples", |status| status["source"]["state"] == "running");
    daemon.wait_for_status("absence", |status| status["source"]["state"] == "absent");
    let status = daemon.wait_for_status("samples again", |status| {
        status["source"]["state"] == "running" && status["source"]["starts"] == 2
    });
    assert_ne!(target().unwrap(), name, "plugged in under the same name");
    let away = fault(&status, "missing_samples") as f64 / 10_240.0;
    println!("without samples for {away:.3} s");
    assert!((10.0..12.0).contains(&away), "{away} s without samples, 10 s of them unplugged");
    let origin = origin(&emulator);
    daemon.wait_for("a dip after it", || (!dips(&daemon, origin).is_empty()).then_some(()));
    let (start, _) = dips(&daemon, origin)[0];
    assert!((start - 21.99).abs() < 0.02, "the dip at {start} s");
}

#[test]
fn a_scheduling_stall_changes_no_events_length() {
    let environment = Environment::new();
    configure(&environment, "");
    // Every 4 s the same dip at the same phase.
    let _emulator = emulate(&environment, "repeat 4s\nat 2s dip 50 for 700ms\n");
    let daemon = environment.spawn("powqutyd");
    let mut events = daemon.subscribe();
    let mut next = || loop {
        let event = events.next_event();
        if event["event"] == "powquty.event" {
            return event["data"]["duration"].as_f64().unwrap();
        }
    };
    let undisturbed = next();
    for attempt in 0..4 {
        // A dip begins 3.3 s after the last one has ended; the stall lies at its start, in it and at its end.
        std::thread::sleep(Duration::from_millis(2900 + 300 * attempt));
        daemon.freeze();
        std::thread::sleep(Duration::from_millis(500));
        daemon.thaw();
        let stalled = next();
        println!("{undisturbed} s, with a stall {stalled} s");
        assert!((stalled - undisturbed).abs() < 0.001, "{undisturbed} s became {stalled} s");
    }
    let status = daemon.call("status", &Value::Null).unwrap();
    assert_eq!((fault(&status, "gaps"), fault(&status, "lost_frames")), (0, 0), "{:#}", status["source"]);
}

/// A web hook that takes connections and never answers.
fn hanging_webhook() -> (std::net::TcpListener, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    (listener, url)
}

#[test]
fn stalled_consumers_cost_not_one_frame() {
    let environment = Environment::new();
    let broker = Broker::start();
    let (_webhook, url) = hanging_webhook();
    let more = format!(
        "\toption mqtt_host '127.0.0.1'\n\toption mqtt_port '{}'\n\toption mqtt_event_flag '1'\n\
         \toption slack_notification '1'\n\toption slack_webhook '{url}'\n",
        broker.port(),
    );
    configure(&environment, &more);
    // A disk that is full from the beginning.
    for log in ["powquty.log", "events.log"] {
        std::os::unix::fs::symlink(Path::new("/dev/full"), environment.data(log)).unwrap();
    }
    let _emulator = emulate(&environment, "repeat 2s\nat 1s dip 50 for 100ms\n");
    let daemon = environment.spawn("powqutyd");
    daemon.wait_for_status("samples", |status| status["source"]["frames"].as_u64() > Some(500));
    // The consumers stop: one that no longer answers, one that never did, a disk that takes nothing.
    broker.freeze();
    let frames = |status: &Value| status["source"]["frames"].as_u64().unwrap();
    let before = daemon.call("status", &Value::Null).unwrap();
    let started = Instant::now();
    std::thread::sleep(Duration::from_secs(60));
    let after = daemon.call("status", &Value::Null).unwrap();
    let elapsed = started.elapsed().as_secs_f64();
    broker.thaw();
    let measured = (frames(&after) - frames(&before)) as f64;
    println!("{measured} frames in {elapsed:.3} s: {:#}", after["source"]["faults"]);
    for name in ["lost_frames", "missing_samples", "gaps", "torn", "garbage_bytes"] {
        assert_eq!(fault(&after, name), 0, "{name}");
    }
    assert!((measured / 160.0 - elapsed).abs() < 1.0, "{measured} frames in {elapsed} s");
    assert!(after["logs"]["last_error"].is_string(), "the disk was not full: {:#}", after["logs"]);
}

#[test]
fn gps_says_where_and_when_until_it_is_unplugged() {
    let environment = Environment::new();
    let tty = environment.data("gps");
    let place = "\toption dev_lat '10.5'\n\toption dev_lon '20.5'\n";
    configure(&environment, &format!("\toption gps_tty '{}'\n{place}", tty.display()));
    let script = environment.data("gps-script");
    std::fs::write(&script, "at 2s fault garbage 200\nat 12s fault hangup for 600s\n").unwrap();
    let mut command = std::process::Command::new(lab::binary("powqutyd"));
    command.args(["emulate", "--gps", "--position", "-33.856784,151.215297", "--pty"]).arg(&tty);
    command.arg("--script").arg(&script);
    let emulator = Daemon::start(command, "emulate", environment.data("none"));
    emulator.wait_for_log("linked from");
    let daemon = environment.spawn("powqutyd");
    let status = daemon.wait_for_status("a position by GPS", |status| status["position"]["source"] == "gps");
    let position = &status["position"];
    assert!((position["latitude"].as_f64().unwrap() + 33.856_784).abs() < 1e-5, "{position}");
    assert!((position["longitude"].as_f64().unwrap() - 151.215_297).abs() < 1e-5, "{position}");
    assert_eq!((&status["gps"]["state"], &status["gps"]["satellites"]), (&json!("fix"), &json!(8)));
    assert_eq!(status["clock"]["synchronised"], true, "a fix brings the time: {:#}", status["clock"]);
    let status = daemon.wait_for_status("the receiver's absence", |status| {
        status["gps"]["state"] == "absent" && status["position"]["source"] == "configuration"
    });
    assert_eq!(status["position"]["latitude"], 10.5);
    assert!(daemon.stop().success());
}
