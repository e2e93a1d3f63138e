// SPDX-License-Identifier: Apache-2.0
//! What each daemon makes of a wrong option, at its start and on procd's SIGHUP.

use lab::{Daemon, Environment, Netns};
use serde_json::{json, Value};

/// A daemon with an option whose value shows in its status.
struct Case {
    daemon: &'static str,
    /// Package, section and option.
    option: (&'static str, &'static str, &'static str),
    /// The configuration, with `VALUE` for the value.
    configuration: &'static str,
    wrong: &'static str,
    good: &'static str,
    /// What the log says of a reload that was applied.
    applied: &'static str,
    /// Where in the status the value shows, by default and when it is `good`.
    shows: &'static str,
    default: fn() -> Value,
    set: fn() -> Value,
}

const POWQUTYD: Case = Case {
    daemon: "powqutyd",
    option: ("powquty", "powquty", "swell_threshold"),
    configuration: "config powquty 'powquty'\n\toption input 'simulator'\n\toption swell_threshold 'VALUE'\n",
    wrong: "high",
    good: "115",
    applied: "configuration: applied, measuring goes on",
    shows: "/nominal/swell_threshold",
    default: || json!(110.0),
    set: || json!(115.0),
};

const DYNAPOINT: Case = Case {
    daemon: "dynapoint",
    option: ("dynapoint", "globals", "enabled"),
    configuration: "config globals 'globals'\n\toption enabled 'VALUE'\n\
                    config rule 'internet'\n\tlist hosts 'http://192.0.2.1/'\n",
    wrong: "perhaps",
    good: "0",
    applied: "reload: Applied",
    shows: "/note",
    default: || json!("there is no /etc/config/wireless"),
    set: || json!("switched off (globals.enabled)"),
};

const MPTCP_PROXY: Case = Case {
    daemon: "mptcp-proxy",
    option: ("mptcp-proxy", "away", "port"),
    configuration: "config client 'lan'\n\toption mode 'socks'\n\tlist server 'away'\n\
                    config upstream 'away'\n\toption address '192.0.2.1'\n\toption port 'VALUE'\n\
                    \toption key 'AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8='\n",
    wrong: "99999",
    good: "1099",
    applied: "configuration: applied, open connections go on",
    shows: "/servers/0/address",
    default: || json!("192.0.2.1:1088"),
    set: || json!("192.0.2.1:1099"),
};

/// A network without anybody in it, and the daemon there.
fn start(case: &Case, environment: &Environment, network: &Netns) -> Daemon {
    let inner = environment.command(case.daemon, ["--log-to", "stderr"]);
    let mut command = network.command(&inner.get_program().to_string_lossy());
    command.args(inner.get_args());
    Daemon::start(command, case.daemon, environment.socket(case.daemon))
}

/// That log and status name the option.
fn complains(case: &Case, daemon: &Daemon, state: &str) -> Value {
    let (package, section, option) = case.option;
    daemon.wait_for_log(&format!("{package}:{section}.{option}: {}: ", case.wrong));
    let status =
        daemon.wait_for_status("the complaint", |status| status["configuration"]["problems"][0].is_object());
    assert_eq!(status["configuration"]["state"], state);
    let problem = &status["configuration"]["problems"][0];
    for (key, value) in [("file", package), ("section", section), ("option", option), ("value", case.wrong)] {
        assert_eq!(problem[key], value, "{status:#}");
    }
    status
}

fn a_wrong_option(case: &Case) {
    let environment = Environment::new();
    let network = Netns::new(case.daemon);
    let write = |value: &str| {
        environment.write_config(case.option.0, &case.configuration.replace("VALUE", value));
    };
    write(case.wrong);
    let mut daemon = start(case, &environment, &network);
    daemon.wait_for_log("the options above are wrong, their defaults are used");
    complains(case, &daemon, "ok");
    let shown = |value: Value| move |status: &Value| status.pointer(case.shows) == Some(&value);
    daemon.wait_for_status("the default", shown((case.default)()));

    write(case.good);
    daemon.reload();
    daemon.wait_for_log(case.applied);
    let status = daemon.wait_for_status("the value", shown((case.set)()));
    assert_eq!(status["configuration"], json!({"state": "ok", "problems": []}));
    let (pid, uptime) = (daemon.pid(), status["uptime"].as_f64());

    write(case.wrong);
    daemon.reload();
    daemon.wait_for_log("not applied, the last good one stays in force");
    let status = complains(case, &daemon, "kept");
    assert_eq!(status.pointer(case.shows), Some(&(case.set)()), "{status:#}");
    assert!(daemon.is_running() && status["uptime"].as_f64() >= uptime, "the same process, {pid}");
    let screen = environment.run(case.daemon, ["status"]).stdout;
    assert!(screen.contains(case.option.2) && screen.contains(case.wrong), "{screen}");
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn powqutyd_survives_a_wrong_option_and_names_it() {
    a_wrong_option(&POWQUTYD);
}

#[test]
fn dynapoint_survives_a_wrong_option_and_names_it() {
    a_wrong_option(&DYNAPOINT);
}

#[test]
fn mptcp_proxy_survives_a_wrong_option_and_names_it() {
    a_wrong_option(&MPTCP_PROXY);
}
