// SPDX-License-Identifier: Apache-2.0
//! The smallest whole daemon (`src/bin/ticker.rs`) as a process: what every daemon owes its command line, its
//! signals and its log.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use lab::process::{finish, Finished};
use lab::{Daemon, Environment, PATIENCE};
use serde_json::{json, Value};

const QUICK: &str = "config ticker 'ticker'\n\toption interval '10ms'\n";

fn environment(config: &str) -> Environment {
    let environment = Environment::new();
    environment.write_config("ticker", config);
    environment
}

fn command(environment: &Environment, args: &[&str]) -> Command {
    environment.command_of(Path::new(env!("CARGO_BIN_EXE_ticker")), args)
}

fn run(environment: &Environment, args: &[&str]) -> Finished {
    finish(command(environment, args), b"")
}

fn spawn(environment: &Environment) -> Daemon {
    Daemon::start(command(environment, &[]), "ticker", environment.socket("ticker"))
}

#[test]
fn it_runs_answers_and_stops_on_sigterm_with_its_socket_gone() {
    let environment = environment(QUICK);
    let daemon = spawn(&environment);
    let status = daemon.wait_for_status("a count", |status| status["count"].as_u64() > Some(2));
    assert_eq!(status["configuration"], json!({"state": "ok", "problems": []}));
    assert!(environment.socket("ticker").exists());
    assert_eq!(daemon.stop().code(), Some(0));
    assert!(!environment.socket("ticker").exists());
}

#[test]
fn status_and_call_ask_the_running_daemon() {
    let environment = environment(QUICK);
    let daemon = spawn(&environment);
    daemon.wait_until_ready();
    let status = run(&environment, &["status"]);
    assert_eq!((status.code, status.stderr.as_str()), (Some(0), ""));
    assert!(
        status.stdout.contains("configuration:\n  problems: none\n  state: ok\ncount: "),
        "{}",
        status.stdout
    );
    let status = run(&environment, &["status", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&status.stdout).unwrap()["configuration"]["state"], "ok");
    let help = run(&environment, &["call", "help", r#"{"method": "status"}"#]);
    assert_eq!(serde_json::from_str::<Value>(&help.stdout).unwrap()["doc"], "the count so far");

    let unknown = run(&environment, &["call", "live"]);
    assert_eq!((unknown.code, unknown.stdout.as_str()), (Some(1), ""));
    assert_eq!(unknown.stderr, "ticker: live: not_found: no method `live`; `help` lists them\n");
    let wrong = run(&environment, &["call", "status", r#"{"verbose": true}"#]);
    assert!(
        wrong.stderr.starts_with("ticker: status: invalid_argument: argument `verbose`"),
        "{}",
        wrong.stderr
    );
    daemon.kill();
    let dead = run(&environment, &["status"]);
    assert_eq!(dead.code, Some(1));
    let socket = environment.socket("ticker");
    assert_eq!(dead.stderr, format!("ticker: not running (nobody serves {})\n", socket.display()));
}

#[test]
fn subscribe_prints_events_until_the_daemon_ends() {
    let environment = environment(QUICK);
    let daemon = spawn(&environment);
    assert_eq!(daemon.subscribe().next_event()["event"], "ticker.tick");
    let events = command(&environment, &["call", "subscribe", r#"{"events": ["ticker.tick"]}"#]);
    let mut subscriber = Daemon::start(events, "subscriber", environment.socket("ticker"));
    subscriber.wait_for("some events", || (subscriber.log().lines().count() > 5).then_some(()));
    assert_eq!(daemon.stop().code(), Some(0));
    assert_eq!(subscriber.wait(PATIENCE).code(), Some(0), "{}", subscriber.log());
    let counts: Vec<u64> = subscriber
        .log()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["data"]["count"].as_u64().unwrap())
        .collect();
    assert!(counts.windows(2).all(|pair| pair[1] == pair[0] + 1), "{counts:?}");
}

#[test]
fn sighup_applies_a_good_configuration_and_refuses_a_bad_one() {
    let environment = environment(QUICK);
    let daemon = spawn(&environment);
    daemon.wait_until_ready();
    environment.write_config("ticker", "config ticker 'ticker'\n\toption interval 'often'\n");
    daemon.reload();
    daemon.wait_for_log("ticker:ticker.interval: often: ");
    daemon.wait_for_log("reload: Kept");
    let status = daemon.call("status", &Value::Null).unwrap();
    assert_eq!(status["configuration"]["state"], "kept");
    assert_eq!(status["configuration"]["problems"][0]["option"], "interval");
    // The old interval is in force: it still counts quickly.
    let before = status["count"].as_u64();
    daemon
        .wait_for_status("further ticks", |status| status["count"].as_u64() > before.map(|count| count + 20));

    environment.write_config("ticker", "config ticker 'ticker'\n\toption interval '1h'\n");
    daemon.reload();
    daemon.wait_for_log("reload: Applied");
    let still = daemon.call("status", &Value::Null).unwrap();
    assert_eq!(still["configuration"], json!({"state": "ok", "problems": []}));
    assert_eq!(
        still["count"],
        daemon.call("status", &Value::Null).unwrap()["count"],
        "it counts once an hour now"
    );
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn without_a_readable_configuration_it_runs_and_waits_for_one() {
    let environment = environment("config ticker 'ticker\n");
    let daemon = spawn(&environment);
    daemon.wait_for_status("unconfigured", |status| status["configuration"]["state"] == "unconfigured");
    daemon.wait_for_log("none could be read");
    environment.write_config("ticker", QUICK);
    let status = daemon.call("reload", &Value::Null).unwrap();
    assert_eq!(status["configuration"]["state"], "ok");
    daemon.wait_for_status("a count", |status| status["count"].as_u64() > Some(0));
}

#[test]
fn check_prints_one_line_per_problem() {
    let good = environment(QUICK);
    let checked = run(&good, &["check"]);
    assert_eq!(
        (checked.code, checked.stdout.as_str(), checked.stderr.as_str()),
        (Some(0), "no problems\n", "")
    );

    let warned = environment("config ticker 'ticker'\n\toption intervall '1s'\n");
    let checked = run(&warned, &["check"]);
    assert_eq!(checked.code, Some(0));
    assert!(
        checked.stdout.starts_with("ticker:ticker.intervall: ") && checked.stdout.ends_with(" (warning)\n")
    );

    let wrong = environment("config ticker 'ticker'\n\toption interval 'often'\n\toption colour 'red'\n");
    let checked = run(&wrong, &["check"]);
    assert_eq!((checked.code, checked.stdout.lines().count()), (Some(1), 2), "{}", checked.stdout);
    assert!(checked.stdout.starts_with("ticker:ticker.interval: often: "), "{}", checked.stdout);

    let none = Environment::new();
    let checked = run(&none, &["check"]);
    assert_eq!((checked.code, checked.stdout.lines().count()), (Some(1), 1), "{}", checked.stdout);
}

#[test]
fn a_second_daemon_leaves_the_first_alone() {
    let environment = environment(QUICK);
    let first = spawn(&environment);
    first.wait_until_ready();
    let second = run(&environment, &[]);
    assert_eq!(second.code, Some(1));
    assert!(second.stderr.contains("another process serves this socket"), "{}", second.stderr);
    assert!(first.call("status", &Value::Null).is_ok());
    // A killed one leaves its socket behind; the next start replaces it.
    first.kill();
    assert!(environment.socket("ticker").exists());
    let third = spawn(&environment);
    assert!(third.call("status", &Value::Null).is_ok());
}

#[test]
fn a_reader_that_has_had_enough_is_no_failure() {
    let environment = environment(QUICK);
    let mut child = command(&environment, &["count", "1000000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 2];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    drop(stdout);
    let done = child.wait_with_output().unwrap();
    assert_eq!((done.status.code(), String::from_utf8_lossy(&done.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn a_full_disk_is_a_failure() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    let environment = environment(QUICK);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let done = command(&environment, &["count", "3"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&done.stderr).contains("cannot write the output"));
}

#[test]
fn usage_errors_are_one_line_and_exit_2() {
    let environment = environment(QUICK);
    for (args, reason) in [
        (&["chek"][..], "unknown command 'chek'"),
        (&["--frobnicate"], "invalid option '--frobnicate'"),
        (&["call"], "call: METHOD is missing"),
        (&["count", "many"], "count: NUMBER is missing or no number"),
    ] {
        let done = run(&environment, args);
        assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""));
        assert_eq!(done.stderr, format!("ticker: {reason}; see 'ticker help'\n"));
    }
}

#[test]
fn help_and_version_go_to_stdout() {
    let environment = environment(QUICK);
    let help = run(&environment, &["--help"]);
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    assert!(help.stdout.contains("count NUMBER") && help.stdout.contains("--config-dir"), "{}", help.stdout);
    assert_eq!(run(&environment, &["help", "count"]).stdout, run(&environment, &["count", "--help"]).stdout);
    assert_eq!(run(&environment, &["version"]).stdout, format!("ticker {}\n", env!("CARGO_PKG_VERSION")));
}
