// SPDX-License-Identifier: Apache-2.0
//! Keys, passwords and addresses of web hooks are nowhere but in the configuration and on their way to their peer; what
//! a daemon leaves behind is for its own user alone.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use lab::Environment;
use serde_json::json;

/// 32 bytes of base64, and pieces of it.
const KEY: &str = "U0VDUkVUa2V5c2VjcmV0S0VZc2VjcmV0a2V5U0VDUkU=";
const SECRETS: [&str; 6] = [KEY, "hook5ecret", "mqtt5ecret", "mail5ecret", "wifi5ecret", "5ecret"];
const DAEMONS: [&str; 3] = ["powqutyd", "dynapoint", "mptcp-proxy"];

fn closed_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// Every secret a daemon can have, for peers that are not there; with `broken`, each where it cannot be used.
fn environment(daemon: &str, broken: bool) -> Environment {
    let environment = Environment::new();
    let port = closed_port();
    let (hook, key) = if broken { ("ftp://hook5ecret.example/x 5ecret", "c2hvcnQ5ecret") } else { ("", KEY) };
    let hook =
        if broken { hook.to_owned() } else { format!("http://127.0.0.1:{port}/services/T/B/hook5ecret") };
    let alerts = format!(
        "\toption slack_webhook '{hook}'\n\toption mqtt_host '127.0.0.1'\n\toption mqtt_port '{port}'\n\
         \toption mqtt_uname 'me'\n\toption mqtt_pw 'mqtt5ecret'\n\toption mqtt_event_flag '1'\n\
         \toption mqtt_event_topic 'a'\n\toption email_host '127.0.0.1'\n\toption email_port '{port}'\n\
         \toption email_security 'none'\n\toption email_user 'me'\n\toption email_password 'mail5ecret'\n\
         \toption email_from 'a@example.org'\n\tlist email_to 'b@example.org'\n\toption email_passwort 'mail5ecret'\n"
    );
    let (package, text) = match daemon {
        "powqutyd" => {
            fs::write(environment.data("grid"), "at 100ms dip 60 for 60ms\nrepeat 1s").unwrap();
            let grid = environment.data("grid").display().to_string();
            let input = format!("\toption input 'simulator'\n\toption simulator_script '{grid}'\n");
            ("powquty", format!("config powquty 'powquty'\n{input}{alerts}"))
        }
        "dynapoint" => {
            let wireless = "config wifi-iface 'ap'\n\toption mode 'ap'\n\toption ssid 'net'\n\
                 \toption encryption 'psk2'\n\toption key 'wifi5ecret'\n\toption dynapoint_rule 'local'\n";
            environment.write_config("wireless", wireless);
            let rule = "config rule 'local'\n\toption interval '1'\nconfig check\n\toption rule 'local'\n\
                 \toption type 'carrier'\n\toption interface 'no-such-device'\n";
            ("dynapoint", format!("config globals 'globals'\n{alerts}{rule}"))
        }
        _ => {
            let sections = format!(
                "config server 's'\n\toption listen '127.0.0.1'\n\toption port '{}'\n\
                 config user 'u'\n\toption server 's'\n\toption key '{key}'\n\
                 config upstream 'far'\n\toption address '127.0.0.1'\n\toption port '{port}'\n\toption key '{key}'\n\
                 config client 'c'\n\toption mode 'socks'\n\tlist server 'far'\n\toption listen_port '{}'\n",
                closed_port(),
                closed_port(),
            );
            ("mptcp-proxy", format!("config globals 'globals'\n{alerts}{sections}"))
        }
    };
    environment.write_config(package, &text);
    environment
}

#[test]
fn no_secret_is_told_by_log_status_check_or_any_answer() {
    for daemon in DAEMONS {
        for broken in [false, true] {
            let environment = environment(daemon, broken);
            let check = environment.run(daemon, ["check"]);
            let process = environment.spawn(daemon);
            process.wait_for_status("a start", |status| status["version"].is_string());
            let mut told = vec![check.stdout, check.stderr];
            for method in ["status", "alerts", "plan", "history", "doctor", "connections", "events", "help"] {
                told.push(format!("{:?}", process.call(method, &json!({}))));
            }
            for sink in ["slack", "mqtt", "email"] {
                told.push(format!("{:?}", process.call("alert_test", &json!({ "sink": sink }))));
            }
            process.reload();
            told.push(process.call("status", &json!({})).unwrap().to_string());
            told.push(environment.run(daemon, ["status"]).stdout);
            told.push(process.log());
            // The dead peers must have been tried, or nothing could have been told of them.
            if !broken && daemon == "powqutyd" {
                process.wait_for("a failed delivery", || process.log().contains("refused").then_some(()));
                told.push(process.log());
            }
            process.stop();
            for text in &told {
                for secret in SECRETS {
                    assert!(!text.contains(secret), "{daemon} tells {secret}:\n{text}");
                }
            }
        }
    }
}

/// Everything below a directory that others could read or write.
fn open_to_others(directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let metadata = entry.path().symlink_metadata().unwrap();
        let mode = metadata.mode() & 0o777;
        if metadata.is_dir() {
            open_to_others(&entry.path(), found);
        } else if mode & 0o022 != 0 || (metadata.file_type().is_socket() && mode != 0o600) {
            found.push(format!("{}: {mode:o}", entry.path().display()));
        }
    }
}

#[test]
fn sockets_are_for_their_user_alone_and_no_file_can_be_written_by_others() {
    for daemon in DAEMONS {
        let environment = environment(daemon, false);
        let mut command = std::process::Command::new("sh");
        // As careless a start as there can be.
        let inner = environment.command(daemon, ["--log-level", "info"]);
        command.args(["-c", "umask 0; exec \"$@\"", "sh"]).arg(inner.get_program()).args(inner.get_args());
        let process = lab::Daemon::start(command, daemon, environment.socket(daemon));
        process.wait_for_status("a start", |status| status["version"].is_string());
        if daemon == "powqutyd" {
            let queued = |status: &serde_json::Value| status["alerts"]["mqtt"]["queued"].as_u64() > Some(0);
            process.wait_for_status("an alert in the outbox", queued);
        }
        let mode = fs::metadata(environment.socket(daemon)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{daemon}");
        let mut found = Vec::new();
        open_to_others(&environment.run_dir(), &mut found);
        assert!(found.is_empty(), "{daemon}: {found:?}");
        process.stop();
    }
}
