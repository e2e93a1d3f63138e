// SPDX-License-Identifier: Apache-2.0
//! The real powqutyd against a real broker, a web hook and its own files.

use lab::broker::{Message, PASSWORD, USER};
use lab::{wait_for, Broker, Environment, Webhook, PATIENCE};
use serde_json::{json, Value};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const DAEMON: &str = "powqutyd";
const RATE: f64 = 10_240.0;

/// A section of `/etc/config/powquty`: a simulated grid, logs in the environment, and these options.
fn configuration(environment: &Environment, options: &[(&str, &str)]) -> String {
    let path = |name: &str| environment.data(name).display().to_string();
    let mut text = format!(
        "config powquty 'powquty'\n\toption input 'simulator'\n\toption simulator_script '{}'\n\
         \toption powquty_path '{}'\n\toption powquty_event_path '{}'\n\toption record_path '{}'\n\toption dev_uuid 'scope'\n\
         \toption dev_lat '52.520008'\n\toption dev_lon '13.404954'\n",
        path("grid"),
        path("measurements.csv"),
        path("events.csv"),
        path("records")
    );
    for (option, value) in options {
        let value = value.replace('\'', "'\\''");
        text.push_str(&format!("\toption {option} '{value}'\n"));
    }
    text
}

fn environment(script: &str, options: &[(&str, &str)]) -> Environment {
    let environment = Environment::new();
    fs::write(environment.data("grid"), script).unwrap();
    environment.write_config("powquty", &configuration(&environment, options));
    environment
}

/// Fields of each line of a log.
fn rows(path: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// The last message on a topic.
fn on(messages: &[Message], topic: &str) -> Option<Message> {
    messages.iter().rfind(|message| message.topic == topic).cloned()
}

/// Counters that may not differ if no sample was lost.
fn samples_are_whole(status: &Value) -> bool {
    let source = &status["source"];
    source["samples"] == json!(source["frames"].as_u64().unwrap() * 64)
        && source["faults"]["lost_frames"] == 0
        && source["faults"]["missing_samples"] == 0
}

#[test]
fn a_dip_reaches_broker_web_hook_subscriber_and_files() {
    let broker = Broker::start();
    let webhook = Webhook::start();
    let messages = broker.subscribe("#");
    let (port, hook) = (broker.port().to_string(), webhook.url("/services/T/B/x"));
    let comment = "it's \"quoted\", 50 % ⚡";
    let environment = environment(
        "at 3s dip 50 for 100ms",
        &[
            ("mqtt_host", "127.0.0.1"),
            ("mqtt_port", &port),
            ("mqtt_uname", USER),
            ("mqtt_pw", PASSWORD),
            ("mqtt_topic", "wesense/scope"),
            ("mqtt_event_flag", "1"),
            ("mqtt_event_topic", "en50160/events"),
            ("slack_webhook", &hook),
            ("use_metadata", "1"),
            ("meta_comment", comment),
            ("send_t1012_data", "1"),
        ],
    );
    let daemon = environment.spawn(DAEMON);
    let mut stream = daemon.subscribe();

    let event = stream.next_event();
    assert_eq!(event["event"], "powquty.event");
    let dip = &event["data"];
    assert_eq!((&dip["kind"], &dip["open"]), (&json!("dip"), &json!(false)));
    assert!((number(&dip["extreme_percent"]) - 50.0).abs() < 0.2, "{dip}");
    assert!((0.1..=0.141).contains(&number(&dip["duration"])), "{dip}");

    // The web hook: a message in words.
    let request = &webhook.wait_for(1)[0];
    let text = request.json()["text"].as_str().unwrap().to_owned();
    assert!(text.contains("Dip to 11") && text.contains("%) for 1") && text.contains(" ms"), "{text}");

    // The broker: telemetry with PowQuty's fields, and the event.
    let telemetry = messages.wait_for("telemetry", |messages| on(messages, "wesense/scope"));
    let value = telemetry.json();
    assert!(!telemetry.retained);
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["acc", "alt", "id", "lat", "lng", "metadata", "pkg", "t1012", "t5060", "utc"]);
    assert_eq!((&value["id"], &value["lat"]), (&json!("scope"), &json!(52.520008)));
    assert_eq!(value["metadata"]["comment"], comment);
    assert!((number(&value["t5060"]["u"]) - 230.0).abs() < 0.05, "{value}");
    assert!((number(&value["t5060"]["f"]) - 50.0).abs() < 0.001, "{value}");
    assert!(value["t5060"]["h15"].is_number() && value["t1012"]["u"].is_number(), "{value}");
    let alert = messages.wait_for("the event", |messages| on(messages, "en50160/events"));
    assert_eq!((&alert.json()["kind"], alert.qos), (&json!("dip"), 1), "{}", alert.text());

    // The same event in the service, by its id, and in PowQuty's columns.
    let listed = daemon.call("events", &json!({ "kind": "dip" })).unwrap();
    assert_eq!((&listed["total"], &listed["events"][0]["id"]), (&json!(1), &dip["id"]));
    let status = daemon.wait_for_status("delivered alerts", |status| {
        let alerts = &status["alerts"];
        ["slack", "mqtt"]
            .iter()
            .all(|sink| alerts[*sink]["delivered"].as_u64().is_some_and(|count| count > 0))
    });
    assert!(samples_are_whole(&status), "{status:#}");
    assert_eq!(status["events"]["dip"], 1);
    assert!(daemon.stop().success());

    let events = rows(&environment.data("events.csv"));
    let [row] = &events[..] else { panic!("{events:?}") };
    assert_eq!((row.len(), &row[1][..], &row[2][..], &row[9][..]), (10, "scope", "DIP", "-"));
    assert_eq!((&row[3][..], &row[4][..]), ("52.520008", "13.404954"));
    assert_eq!(dip["id"], format!("{}-dip", row[6]));
    assert!((row[8].parse::<f64>().unwrap() - 115.0).abs() < 0.5, "{row:?}");
    let measurements = rows(&environment.data("measurements.csv"));
    assert!(measurements.len() >= 3);
    for row in &measurements {
        assert_eq!((row.len(), &row[0][..], &row[3][..]), (13, "scope", "3"), "{row:?}");
        assert!(row[4].parse::<f64>().is_ok() && row[5].parse::<f64>().is_ok(), "{row:?}");
    }
}

#[test]
fn a_reload_while_an_event_is_open_keeps_the_event_and_every_sample() {
    // Four seconds of signal per second; the swell lasts 30 s of it.
    let environment = environment("at 3s swell 115 for 30s", &[("input_speed", "4")]);
    let daemon = environment.spawn(DAEMON);
    let mut stream = daemon.subscribe();
    let open = |status: &Value| status["open_events"].as_array().is_some_and(|open| open.len() == 1);
    daemon.wait_for_status("an open swell", open);
    environment.write_config(
        "powquty",
        &configuration(&environment, &[("input_speed", "4"), ("swell_threshold", "112")]),
    );
    daemon.reload();
    let status =
        daemon.wait_for_status("the new threshold", |status| status["nominal"]["swell_threshold"] == 112.0);
    assert!(open(&status), "the swell had ended before the reload: {status:#}");

    let swell = stream.next_event()["data"].take();
    assert_eq!(swell["kind"], "swell");
    assert!((number(&swell["duration"]) - 30.0).abs() < 0.041, "{swell}");
    assert!((number(&swell["extreme_percent"]) - 115.0).abs() < 0.2, "{swell}");
    let status = daemon
        .wait_for_status("five more seconds", |status| number(&status["source"]["samples"]) > 38.0 * RATE);
    assert!(samples_are_whole(&status), "{status:#}");
    assert_eq!(daemon.call("events", &json!({})).unwrap()["total"], 1);
    assert!(daemon.stop().success());

    // One line per 50 cycles without a gap from the first to the last.
    let measurements = rows(&environment.data("measurements.csv"));
    let times: Vec<f64> = measurements.iter().map(|row| row[1].parse().unwrap()).collect();
    assert!(times.len() >= 37, "{}", times.len());
    assert!(times.windows(2).all(|pair| is_a_second(pair[0], pair[1])), "{times:?}");
}

/// Lines come every 50 cycles; around the ten-minute tick of UTC, where the windows begin anew, they come earlier.
fn is_a_second(before: f64, after: f64) -> bool {
    const TICK: f64 = 600.0;
    let step = after - before;
    let crosses_a_tick = ((before - 1.0) / TICK).floor() != ((after + 1.0) / TICK).floor();
    (step - 1.0).abs() < 0.01 || (crosses_a_tick && (0.1..1.01).contains(&step))
}

#[test]
fn the_new_threshold_is_in_force_for_the_next_event() {
    // Every 4 s a swell to 115 %, with a threshold of first 110 %, then 120 %.
    let script = "at 2s swell 115 for 200ms\nat 3s dip 60 for 100ms\nrepeat 4s";
    let environment = environment(script, &[("input_speed", "4")]);
    let daemon = environment.spawn(DAEMON);
    daemon.wait_for_status("a swell", |status| status["events"]["swell"].as_u64() > Some(0));
    environment.write_config(
        "powquty",
        &configuration(&environment, &[("input_speed", "4"), ("swell_threshold", "120")]),
    );
    daemon.reload();
    let status =
        daemon.wait_for_status("the new threshold", |status| status["nominal"]["swell_threshold"] == 120.0);
    let swells = status["events"]["swell"].as_u64().unwrap();
    let dips = status["events"]["dip"].as_u64().unwrap();
    let open = status["open_events"].as_array().unwrap().len() as u64;
    let status = daemon
        .wait_for_status("three more dips", |status| status["events"]["dip"].as_u64() >= Some(dips + 3));
    let later = status["events"]["swell"].as_u64().unwrap();
    assert!(later <= swells + open, "{later} swells, {swells} before the reload");
    assert!(samples_are_whole(&status), "{status:#}");
}

#[test]
fn a_broken_configuration_keeps_the_last_good_one_and_says_where() {
    let environment = environment("", &[("swell_threshold", "115")]);
    let daemon = environment.spawn(DAEMON);
    let running = |status: &Value| status["source"]["state"] == "running";
    daemon.wait_for_status("measuring", running);
    environment.write_config("powquty", &configuration(&environment, &[("swell_threshold", "high")]));
    daemon.reload();
    let status = daemon.wait_for_status("the refusal", |status| status["configuration"]["state"] == "kept");
    assert_eq!(status["nominal"]["swell_threshold"], 115.0);
    let problem = &status["configuration"]["problems"][0];
    assert_eq!(
        (&problem["file"], &problem["section"], &problem["option"], &problem["value"]),
        (&json!("powquty"), &json!("powquty"), &json!("swell_threshold"), &json!("high"))
    );
    daemon.wait_for_log("powquty:powquty.swell_threshold: high: ");
    let screen = environment.run(DAEMON, ["status"]).stdout;
    assert!(
        screen.contains("NOT applied") && screen.contains("powquty:powquty.swell_threshold: high: "),
        "{screen}"
    );

    environment.write_config("powquty", "\0\u{1}binary");
    daemon.reload();
    daemon.wait_for_log("binary data");
    environment.write_config("powquty", &configuration(&environment, &[("swell_threshold", "116")]));
    let answer = daemon.call("reload", &Value::Null).unwrap();
    assert_eq!(answer["configuration"]["state"], "ok", "{answer}");
    let status = daemon.wait_for_status("measuring", running);
    assert_eq!(status["nominal"]["swell_threshold"], 116.0);
    assert!(samples_are_whole(&status), "{status:#}");
}

#[test]
fn a_hanging_web_hook_and_a_dead_broker_cost_no_sample() {
    let webhook = Webhook::start();
    webhook.answer(lab::webhook::Answer::Hang);
    let mut broker = Broker::start();
    let (port, hook) = (broker.port().to_string(), webhook.url("/"));
    let environment = environment(
        "at 2s dip 50 for 100ms\nat 4s swell 120 for 100ms\nrepeat 5s",
        &[
            ("input_speed", "10"),
            ("mqtt_host", "127.0.0.1"),
            ("mqtt_port", &port),
            ("mqtt_uname", USER),
            ("mqtt_pw", PASSWORD),
            ("mqtt_event_flag", "1"),
            ("slack_webhook", &hook),
        ],
    );
    let daemon = environment.spawn(DAEMON);
    webhook.wait_for(1);
    broker.kill();
    let status =
        daemon.wait_for_status("60 s of signal", |status| number(&status["source"]["samples"]) > 60.0 * RATE);
    assert!(samples_are_whole(&status), "{status:#}");
    let counted = status["events"]["dip"].as_u64().unwrap() + status["events"]["swell"].as_u64().unwrap();
    assert!(counted >= 22, "{status:#}");
    let started = Instant::now();
    assert!(daemon.stop().success());
    assert!(started.elapsed() < Duration::from_secs(2), "SIGTERM took {:?}", started.elapsed());
}

#[test]
fn sigterm_saves_what_was_measured_and_the_next_start_knows_it() {
    let environment = environment("at 2s dip 50 for 100ms\nat 4s swell 120 for 1h", &[("input_speed", "4")]);
    let daemon = environment.spawn(DAEMON);
    daemon.wait_for_status("the open swell", |status| {
        status["events"]["dip"] == 1 && status["open_events"].as_array().is_some_and(|open| !open.is_empty())
    });
    let started = Instant::now();
    assert!(daemon.stop().success());
    assert!(started.elapsed() < Duration::from_secs(2), "SIGTERM took {:?}", started.elapsed());
    let kinds: Vec<String> =
        rows(&environment.data("events.csv")).into_iter().map(|row| row[2].clone()).collect();
    assert_eq!(kinds, ["DIP", "SWELL"], "the open swell is logged as far as it went");
    let log = fs::read(environment.data("measurements.csv")).unwrap();
    assert_eq!(log.last(), Some(&b'\n'));

    fs::write(environment.data("grid"), "").unwrap();
    let daemon = environment.spawn(DAEMON);
    let listed = daemon.call("events", &json!({})).unwrap();
    assert_eq!(listed["total"], 2, "{listed:#}");
    let table = environment.run(DAEMON, ["events"]).stdout;
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(table.contains("dip") && table.contains("swell"), "{table}");
    let csv = environment.run(DAEMON, ["events", "--csv"]).stdout;
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].starts_with("id,kind,start,end,duration,extreme_voltage,"), "{csv}");
    assert!(lines.len() == 3 && lines[1].contains("-dip,dip,2") && lines[1].contains(",C1,"), "{csv}");
    let later = listed["events"][0]["start"].as_str().unwrap();
    let since = environment.run(DAEMON, ["events", "--since", later, "--json"]).stdout;
    assert_eq!((since.lines().count(), since.contains("swell")), (1, true), "{since}");
}

#[test]
fn a_recording_gives_in_the_daemon_what_analyze_gives() {
    let environment = Environment::new();
    let recording = environment.data("recording.s16");
    let samples = (0..(8.0 * RATE) as u32).flat_map(|sample| {
        let seconds = f64::from(sample) / RATE;
        let level = if (3.0..3.2).contains(&seconds) { 0.4 } else { 1.0 };
        let volts = 230.0 * level * std::f64::consts::SQRT_2 * (std::f64::consts::TAU * 50.0 * seconds).sin();
        ((volts / 0.015).round() as i16).to_le_bytes()
    });
    fs::write(&recording, samples.collect::<Vec<u8>>()).unwrap();
    let file = recording.to_str().unwrap();

    let analyzed = environment.run(DAEMON, ["analyze", file, "--scale", "0.015", "--only", "event"]);
    assert_eq!(analyzed.code, Some(0), "{}", analyzed.stderr);
    let event: Value = serde_json::from_str(analyzed.stdout.trim()).unwrap();

    let options = [("input_path", file), ("input_scale", "0.015"), ("input_speed", "max")];
    let text = configuration(&environment, &options).replace("'simulator'", "'file'");
    fs::write(environment.data("grid"), "").unwrap();
    environment.write_config("powquty", &text);
    let daemon = environment.spawn(DAEMON);
    let status = daemon.wait_for_status("the end", |status| status["source"]["state"] == "ended");
    assert_eq!(status["source"]["samples"], (8.0 * RATE) as u64);
    let listed = daemon.call("events", &json!({})).unwrap();
    assert_eq!(listed["total"], 1, "{listed:#}");
    for (ours, theirs) in [("duration", "duration_s"), ("extreme_percent", "extreme_percent")] {
        let difference = number(&listed["events"][0][ours]) - number(&event[theirs]);
        assert!(difference.abs() < 1e-3, "{ours}: {listed:#} {event:#}");
    }
    wait_for("the logs", PATIENCE, || (rows(&environment.data("events.csv")).len() == 1).then_some(()));
}

#[test]
fn check_prints_each_mistake_on_a_line_of_its_own() {
    let environment = Environment::new();
    let check = |text: Option<&str>| {
        match text {
            Some(text) => environment.write_config("powquty", text),
            None => fs::remove_file(environment.config_dir().join("powquty")).unwrap(),
        }
        let done = environment.run(DAEMON, ["check"]);
        (done.code, done.stdout)
    };
    let (code, text) = check(Some(
        "config powquty 'powquty'\n\toption nominal_voltage 'many'\n\toption swell_threshold '90'\n\
         \toption input 'simulater'\n\toption powquty_path 'relative.log'\n\toption mqtt_interval '5 parsecs'\n",
    ));
    assert_eq!((code, text.lines().count()), (Some(1), 5), "{text}");
    for (line, option) in
        text.lines().zip(["nominal_voltage: many: ", "swell_threshold: 90: ", "input: simulater: "])
    {
        assert!(line.starts_with(&format!("powquty:powquty.{option}")), "{line}");
    }
    let shipped = include_str!("../procd/powqutyd/files/etc/config/powquty");
    let remark = "powquty:powquty.record_path: /tmp/powquty.rec: lies in memory: an outage of the router's own supply \
                  will not be seen (warning)\n";
    assert_eq!(check(Some(shipped)), (Some(0), remark.to_owned()));
    let kept = format!("{shipped}\toption record_path '/mnt/usb/powquty.rec'\n");
    assert_eq!(check(Some(&kept)), (Some(0), "no problems\n".to_owned()));
    for (text, expected) in
        [(Some(""), "empty"), (Some("config powquty \0"), "binary"), (None, "no such file")]
    {
        let (code, text) = check(text);
        assert_eq!((code, text.lines().count()), (Some(1), 1), "{text}");
        assert!(text.contains("powquty") && text.contains(expected), "{text}");
    }
}
