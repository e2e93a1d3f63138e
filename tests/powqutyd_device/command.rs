// SPDX-License-Identifier: Apache-2.0
//! `input 'command'` with a real program that dies, hangs, and does not want to go.

use super::fault;
use lab::{Environment, PATIENCE};
use serde_json::Value;
use std::fs;

/// Members of a process group that are alive.
fn group(leader: u32) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let stats = entries.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let alive = stats.filter(|stat| {
        // Behind the name in parentheses: state, parent, group.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        fields.get(2) == Some(&leader.to_string().as_str()) && fields[0] != "Z"
    });
    alive.collect()
}

/// Process id and monotonic time of each start.
fn starts(environment: &Environment) -> Vec<(u32, f64)> {
    let log = fs::read_to_string(environment.data("starts")).unwrap_or_default();
    let parse = |line: &str| {
        let (pid, at) = line.split_once(' ')?;
        Some((pid.parse().ok()?, at.parse().ok()?))
    };
    log.lines().filter_map(parse).collect()
}

#[test]
fn a_program_that_dies_or_hangs_is_started_again_and_leaves_nothing_behind() {
    let environment = Environment::new();
    let adc = env!("CARGO_BIN_EXE_adc");
    // A shell that ignores SIGTERM and a helper beside the converter, which inherits that.
    let command = format!(
        "trap \"\" TERM; sleep 600 & exec {adc} {} 1.5:exit 0:exit 0:exit 2:hang 600:exit",
        environment.data("starts").display()
    );
    let more = format!("\toption input_command '{command}'\n\toption input_scale '0.025'\n");
    super::configure_input(&environment, "command", &more);
    let daemon = environment.spawn("powqutyd");
    let running = |status: &Value| status["source"]["state"] == "running";
    let status =
        daemon.wait_for_status("a voltage", |status| running(status) && status["values"]["voltage"].is_f64());
    let volts = status["values"]["voltage"].as_f64().unwrap();
    assert!((volts - 230.0).abs() < 0.05, "{volts} V");
    daemon.wait_for_status("the hanging program", |status| {
        status["source"]["state"] == "silent" && starts(&environment).len() == 4
    });
    let status = daemon
        .wait_for_status("the fifth start", |status| running(status) && status["source"]["starts"] == 3);
    println!("{:#}", status["source"]);
    let starts = starts(&environment);
    assert_eq!(starts.len(), 5);
    let pauses: Vec<f64> = starts.windows(2).map(|pair| pair[1].1 - pair[0].1).collect();
    println!("from start to start: {pauses:?} s");
    // 1.5 s of samples, then a quarter of a second and twice as long for each failure; a hang ends after five seconds.
    for (pause, least) in pauses.iter().zip([1.75, 0.5, 1.0, 7.0]) {
        assert!(*pause >= least, "{pauses:?}");
    }
    assert!(fault(&status, "hangups") >= 4 && fault(&status, "silences") >= 1, "{:#}", status["source"]);
    assert!(fault(&status, "missing_samples") > 10_240, "{:#}", status["source"]);
    for (pid, _) in &starts[..4] {
        assert_eq!(group(*pid), [""; 0], "left behind by start {pid}");
    }
    let last = starts[4].0;
    assert!(group(last).len() >= 2, "the helper is not there");
    let begun = std::time::Instant::now();
    assert!(daemon.stop().success());
    println!("stopped within {:.3} s", begun.elapsed().as_secs_f64());
    lab::wait_for("the end of the last program", PATIENCE, || group(last).is_empty().then_some(()));
}
