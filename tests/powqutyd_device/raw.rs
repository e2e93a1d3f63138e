// SPDX-License-Identifier: Apache-2.0
//! Samples as they are: the raw recording over a crash, and the options of `run` that PowQuty had.

use super::{configure, emulate, fault};
use lab::process::Finished;
use lab::{Daemon, Environment};
use serde_json::{json, Value};
use std::f64::consts::{SQRT_2, TAU};
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

fn lines(done: &Finished) -> Vec<Value> {
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What an event is: start (ms), length (s), extreme (V).
fn facts(event: &Value, length: &str) -> (f64, f64, f64) {
    let start = super::seconds(event["start"].as_str().unwrap());
    (start * 1e3, event[length].as_f64().unwrap(), event["extreme_voltage"].as_f64().unwrap())
}

#[test]
fn a_raw_recording_gives_the_events_again_even_after_a_crash() {
    let environment = Environment::new();
    let path = environment.data("powquty.raw");
    configure(&environment, &format!("\toption raw_path '{}'\n\toption raw_size_kb '512'\n", path.display()));
    let _emulator = emulate(
        &environment,
        "repeat 3s\ndevice offset 7\ndevice scale 0.02\nnoise 0.1\nat 1s dip 50 for 100ms\nat 1500ms fault skip 2\n",
    );
    let mut told = Vec::new();
    for crash in [true, false] {
        let daemon = environment.spawn("powqutyd");
        let counted = |status: &Value| status["events"]["dip"].as_u64() >= Some(2);
        let frames = daemon.wait_for_status("two dips", counted)["source"]["frames"].as_u64();
        let status = daemon.wait_for_status("what follows", |status| {
            status["source"]["frames"].as_u64() > frames.map(|frames| frames + 160)
        });
        let raw = &status["logs"]["raw"];
        assert_eq!((&raw["dropped_samples"], &raw["error"]), (&json!(0), &Value::Null), "{raw}");
        let events = daemon.call("events", &json!({ "kind": "dip" })).unwrap();
        told = events["events"].as_array().unwrap().iter().map(|event| facts(event, "duration")).collect();
        if crash {
            daemon.kill();
        } else {
            assert!(fault(&status, "gaps") >= 1, "{:#}", status["source"]);
            assert!(daemon.stop().success());
        }
    }
    told.reverse();
    assert!(told.len() >= 4, "events of before the crash are read back: {told:?}");
    let done = environment.run("powqutyd", ["analyze", path.to_str().unwrap(), "--only", "event,gap"]);
    let lines = lines(&done);
    let dips: Vec<_> =
        lines.iter().filter(|line| line["kind"] == "dip").map(|line| facts(line, "duration_s")).collect();
    println!("told {told:?}\nread {dips:?}");
    for (start, length, extreme) in told {
        let same = dips.iter().find(|dip| (dip.0 - start).abs() < 3.0);
        let same = same.unwrap_or_else(|| panic!("the dip at {start} ms is not in the recording: {dips:?}"));
        assert!(
            (same.1 - length).abs() < 1e-3 && (same.2 - extreme).abs() < 0.05,
            "{length} s, {extreme} V: {same:?}"
        );
    }
    let gaps: Vec<u64> = lines
        .iter()
        .filter(|line| line["type"] == "gap")
        .filter_map(|line| line["samples"].as_u64())
        .collect();
    assert!(gaps.contains(&128), "the two frames that were skipped: {gaps:?}");
    assert!(gaps.iter().any(|&gap| gap != 128), "the time between the runs: {gaps:?}");
    let done = environment.run("powqutyd", ["analyze", path.to_str().unwrap(), "--rate", "9600"]);
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.contains("--rate:") && done.stderr.contains("is a raw recording"), "{}", done.stderr);
}

#[test]
fn a_file_on_the_command_line_is_measured_and_its_samples_are_written_as_powquty_did() {
    let environment = Environment::new();
    configure(&environment, "\toption input_speed '10'\n");
    let volts: Vec<f32> = (0..3 * 10_240)
        .map(|n| {
            let t = f64::from(n) / 10_240.0;
            let level = if (1.5..1.6).contains(&t) { 0.5 } else { 1.0 };
            (level * 230.0 * SQRT_2 * (TAU * 50.0 * t).sin()) as f32
        })
        .collect();
    let (recording, dump) = (environment.data("dip.f32"), environment.data("dump.txt"));
    fs::write(&recording, volts.iter().flat_map(|volt| volt.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    let args = ["run", "-f", recording.to_str().unwrap(), "-r", "-d", "-w", dump.to_str().unwrap()];
    // Its log and its samples share no stream.
    let mut command = Command::new("sh");
    let daemon = environment.command("powqutyd", args);
    command.args(["-c", "exec \"$@\" >\"$OUT\"", "sh"]).env("OUT", environment.data("stdout"));
    command.arg(daemon.get_program()).args(daemon.get_args());
    let daemon = Daemon::start(command, "powqutyd", environment.socket("powqutyd"));
    let status = daemon.wait_for_status("the end", |status| status["source"]["state"] == "ended");
    assert_eq!((&status["source"]["kind"], &status["events"]["dip"]), (&json!("file"), &json!(1)));
    daemon.reload();
    std::thread::sleep(Duration::from_millis(100));
    let status = daemon.call("status", &Value::Null).unwrap();
    assert_eq!(status["source"]["kind"], "file", "a reload keeps what the command line says");
    let begun = Instant::now();
    assert!(daemon.stop().success());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let text = fs::read_to_string(&dump).unwrap();
    let mut written = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let (head, values) = line.split_once('\t').unwrap();
        let frame = format!("[134-130-{number}] ");
        assert!(head.starts_with("->  0.0000,  1.0000, ") && head.ends_with(&frame), "{head}");
        written.extend(values.split_whitespace().map(|value| value.parse::<f32>().unwrap()));
    }
    assert_eq!(written.len(), volts.len());
    assert!(written.iter().zip(&volts).all(|(written, volts)| (written - volts).abs() < 0.0051));
    assert_eq!(fs::read_to_string(environment.data("stdout")).unwrap(), text);
}
