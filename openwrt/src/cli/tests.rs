// SPDX-License-Identifier: Apache-2.0
//! Command lines, good and bad.

use std::path::Path;

use serde_json::json;

use super::*;

const SPEC: Spec = Spec {
    name: "powqutyd",
    version: "1.2.3",
    about: "power quality monitor",
    subcommands: &[Subcommand {
        name: "analyze",
        usage: "FILE|- [OPTIONS]",
        about: "analyse a recording",
        help: "  --rate HZ   sampling rate\n",
    }],
};

fn parsed(args: &[&str]) -> (Common, Command) {
    parse(&SPEC, args.iter().map(OsString::from).collect::<Vec<_>>()).unwrap()
}

fn command(args: &[&str]) -> Command {
    parsed(args).1
}

fn refused(args: &[&str]) -> String {
    let error = parse(&SPEC, args.iter().map(OsString::from).collect::<Vec<_>>()).unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

#[test]
fn without_arguments_it_runs_with_the_places_of_openwrt() {
    let (common, command) = parsed(&[]);
    assert_eq!(command, Command::Run);
    assert_eq!(common.source.config_dir, Path::new("/etc/config"));
    assert_eq!(common.source.state_dir, Path::new("/tmp/.uci"));
    assert_eq!(common.socket(&SPEC), Path::new("/var/run/powqutyd.sock"));
    assert_eq!(common.ubus, Path::new("/var/run/ubus/ubus.sock"));
    assert_eq!(common.log_level, LevelFilter::Info);
}

#[test]
fn options_stand_before_and_behind_the_command() {
    for args in [
        &[
            "-c",
            "/a",
            "--state-dir=/b",
            "--run-dir",
            "/r",
            "--ubus",
            "/u",
            "-ldebug",
            "--log-to",
            "stderr",
            "check",
        ][..],
        &[
            "check",
            "-c/a",
            "--state-dir",
            "/b",
            "--run-dir=/r",
            "--ubus=/u",
            "--log-level",
            "DEBUG",
            "--log-to=stderr",
        ],
    ] {
        let (common, command) = parsed(args);
        assert_eq!(command, Command::Check);
        assert_eq!(common.source.config_dir, Path::new("/a"));
        assert_eq!(common.source.state_dir, Path::new("/b"));
        assert_eq!(common.run_dir, Path::new("/r"));
        assert_eq!(common.ubus, Path::new("/u"));
        assert_eq!(common.log_level, LevelFilter::Debug);
        assert_eq!(common.log_to, logging::Target::Stderr);
    }
}

#[test]
fn each_command_is_understood() {
    assert_eq!(command(&["run"]), Command::Run);
    assert_eq!(command(&["status"]), Command::Status { json: false });
    assert_eq!(command(&["status", "--json"]), Command::Status { json: true });
    assert_eq!(command(&["version"]), Command::Version);
    assert_eq!(command(&["-V"]), Command::Version);
    assert_eq!(command(&["call", "live"]), Command::Call { method: "live".into(), params: Value::Null });
    assert_eq!(
        command(&["call", "live", r#"{"waveform": true}"#]),
        Command::Call { method: "live".into(), params: json!({"waveform": true}) }
    );
}

#[test]
fn help_is_found_from_everywhere() {
    let about = |name: &str| Command::Help { topic: Some(name.into()) };
    assert_eq!(command(&["help"]), Command::Help { topic: None });
    assert_eq!(command(&["--help"]), Command::Help { topic: None });
    assert_eq!(command(&["help", "check"]), about("check"));
    assert_eq!(command(&["status", "-h"]), about("status"));
    assert_eq!(command(&["help", "analyze"]), about("analyze"));
    assert_eq!(command(&["analyze", "x", "--help"]), about("analyze"));
}

#[test]
fn what_stands_behind_an_own_command_belongs_to_it() {
    let (common, command) = parsed(&["-l", "warn", "analyze", "-", "--rate", "10240", "-c", "x"]);
    assert_eq!(common.log_level, LevelFilter::Warn);
    let args = ["-", "--rate", "10240", "-c", "x"].map(OsString::from).to_vec();
    assert_eq!(command, Command::Other("analyze".into(), args));
}

#[test]
fn each_mistake_has_one_clear_line() {
    assert_eq!(refused(&["chek"]), "unknown command 'chek'");
    assert_eq!(refused(&["help", "chek"]), "unknown command 'chek'");
    assert_eq!(refused(&["--confdir", "/x"]), "invalid option '--confdir'");
    assert_eq!(refused(&["run", "--json"]), "invalid option '--json'");
    assert_eq!(refused(&["-c"]), "missing argument for option '-c'");
    assert!(refused(&["-l", "loud"]).contains("none of off, error, warn, info, debug, trace"));
    assert!(refused(&["--log-to", "printer"]).contains("none of auto, stderr, syslog"));
    assert_eq!(refused(&["check", "powquty"]), "check: unexpected argument 'powquty'");
    assert_eq!(refused(&["call"]), "call: METHOD is missing");
    assert_eq!(refused(&["call", "live", "[1]"]), "call: the parameters must be a JSON object");
    assert!(refused(&["call", "live", "{"]).starts_with("call: the parameters are not JSON"));
    assert_eq!(refused(&["call", "live", "{}", "x"]), "call: unexpected argument 'x'");
}

#[test]
fn a_daemon_has_options_of_its_own_for_run_alone() {
    let spec = Spec {
        subcommands: &[Subcommand { name: "run", usage: "[-f FILE]", about: "go", help: "" }],
        ..SPEC
    };
    let parse = |args: &[&str]| {
        let mut file = None;
        let args: Vec<_> = args.iter().map(OsString::from).collect();
        let parsed = parse_with(&spec, args, |option, value| {
            match option {
                "-f" | "--file" => file = Some(value()?),
                _ => return Ok(false),
            }
            Ok(true)
        });
        parsed.map(|(_, command)| (command, file)).map_err(|error| error.to_string())
    };
    let file = || Ok((Command::Run, Some("x".into())));
    for args in
        [&["-f", "x"][..], &["run", "-fx"], &["--file=x", "run"], &["run", "-l", "warn", "--file", "x"]]
    {
        assert_eq!(parse(args), file(), "{args:?}");
    }
    assert_eq!(parse(&["run"]), Ok((Command::Run, None)));
    assert_eq!(parse(&["run", "-f"]), Err("missing argument for option '-f'".to_owned()));
    assert_eq!(parse(&["run", "-x"]), Err("invalid option '-x'".to_owned()));
    assert_eq!(parse(&["check", "-f", "x"]), Err("invalid option '-f'".to_owned()));
    assert_eq!(parse(&["-f", "x", "check"]), Err("check: unexpected option '-f'".to_owned()));
    let text = help::of_daemon(&spec);
    assert!(text.contains("run [-f FILE]") && text.matches("\n  run").count() == 1, "{text}");
}

#[test]
fn the_help_names_every_command_and_option() {
    let text = help::of_daemon(&SPEC);
    for part in [
        "powqutyd 1.2.3: power quality monitor",
        "call METHOD [JSON]",
        "analyze FILE|- [OPTIONS]",
        "--log-to",
    ] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    assert!(text.lines().all(|line| line.len() <= 110), "{text}");
    let analyze = help::of_command(&SPEC, &help::find(&SPEC, "analyze").unwrap());
    assert_eq!(
        analyze,
        "powqutyd analyze FILE|- [OPTIONS]: analyse a recording\n\n  --rate HZ   sampling rate\n"
    );
}

#[test]
fn any_status_can_be_read() {
    let status = json!({
        "version": "1.2.3",
        "configuration": {"state": "kept", "problems": [{"option": "swell_threshold", "value": null}]},
        "nested": [[1, true], {}, "x"],
        "lights": [],
        "ssid": "a\u{1b}[2J",
    });
    let mut text = Vec::new();
    generic_status(&status, &mut text).unwrap();
    assert_eq!(
        String::from_utf8(text).unwrap(),
        "configuration:\n  problems:\n    - option: swell_threshold\n      value: unknown\n  state: kept\n\
         lights: none\nnested:\n  - - 1\n    - yes\n  - none\n  - x\nssid: \"a\\u001b[2J\"\nversion: 1.2.3\n"
    );
}
