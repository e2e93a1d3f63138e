// SPDX-License-Identifier: Apache-2.0
//! What procd is told to run, and when to tell the daemon that something changed.

use std::path::Path;

use lab::process::finish;
use lab::{Daemon, Environment};
use mptcp_proxy::packet::rules;

use super::{router, service, DAEMONS};

#[test]
fn a_start_asks_for_an_unprivileged_process_that_is_never_given_up() {
    let root = router();
    for (daemon, account, packages) in DAEMONS {
        let told = service(&root, daemon, "start");
        let has =
            |line: &str| assert!(told.iter().any(|told| told == line), "{daemon}: no {line} in {told:#?}");
        has(&format!("set_param|command|/usr/sbin/{daemon}|--run-dir|/var/run/{daemon}"));
        has("set_param|reload_signal|HUP");
        has("set_param|stderr|1");
        has(&format!("add_jail|{daemon}"));
        has(&format!("set_param|user|{account}"));
        has(&format!("set_param|group|{account}"));
        has(&format!("set_param|capabilities|/etc/capabilities/{daemon}.json"));
        has("set_param|no_new_privs|1");
        // The third number is how often procd tries: 0 is for ever.
        let respawn: Vec<_> =
            told.iter().filter_map(|line| line.strip_prefix("set_param|respawn|3600|")).collect();
        assert!(matches!(respawn[..], ["1|0" | "5|0"]), "{daemon}: {respawn:?}");
        let limits = told.iter().find(|line| line.starts_with("set_param|limits|")).expect("limits");
        assert!(limits.contains("|core=0"), "{daemon}: {limits}");

        // Each package that is read is watched, and each that is watched wakes procd up.
        let files: Vec<String> = packages.iter().map(|package| format!("/etc/config/{package}")).collect();
        has(&format!("set_param|file|{}", files.join("|")));
        has(&format!("add_reload_trigger|{}", packages.join("|")));
        assert_eq!(root.read("tmp/logged"), "", "nothing to complain about");
    }
    // One line per second of powqutyd_print is not for the log.
    assert!(!service(&root, "powqutyd", "start").iter().any(|line| line.contains("stdout")));
    assert!(service(&root, "mptcp-proxy", "start").iter().any(|line| line.contains("|nofile=65536 65536|")));
}

#[test]
fn a_reload_tells_procd_the_same_as_the_start_did() {
    let root = router();
    for (daemon, ..) in DAEMONS {
        // Else procd would take the service for another one.
        assert_eq!(service(&root, daemon, "start"), service(&root, daemon, "reload"), "{daemon}");
    }
}

#[test]
fn what_the_configuration_says_is_the_daemons_business() {
    let root = router();
    let enabled = service(&root, "powqutyd", "start");
    for text in [
        "config powquty 'powquty'\n\toption enabled '0'\n",
        "config powquty 'powquty\n\toption this is no UCI\n",
        "config powquty 'powquty'\n\toption device_tty ''\n\toption powquty_path 'relative.log'\n",
    ] {
        root.write("etc/config/powquty", text);
        assert_eq!(service(&root, "powqutyd", "start"), enabled, "{text}");
    }
    std::fs::remove_file(root.path("etc/config/powquty")).unwrap();
    assert_eq!(service(&root, "powqutyd", "start"), enabled, "without a file");
}

#[test]
fn logs_on_a_file_system_that_comes_later_restart_the_daemon() {
    let root = router();
    root.write(
        "etc/config/powquty",
        "config powquty 'powquty'\n\toption powquty_path '/tmp/powquty.log'\n\
         \toption powquty_event_path '/mnt/usb/events.log'\n\toption record_path '/srv/grid/powquty.rec'\n",
    );
    let told = service(&root, "powqutyd", "start");
    let triggers: Vec<_> = told.iter().filter(|line| line.contains("mount")).collect();
    assert_eq!(triggers, ["add_restart_mount_trigger|/mnt/usb/events.log|/srv/grid/powquty.rec"]);
}

#[test]
fn a_stop_leaves_no_table_that_leads_nowhere() {
    let root = router();
    service(&root, "mptcp-proxy", "start");
    assert_eq!(root.read("tmp/nft"), "");
    assert_eq!(service(&root, "mptcp-proxy", "stop"), ["kill|mptcp-proxy"]);
    let tables = [mptcp_proxy::intercept::TABLE, rules::CLIENT_TABLE, rules::SERVER_TABLE]
        .map(|table| format!("delete table inet {table}\n"));
    assert_eq!(root.read("tmp/nft"), tables.concat());
}

#[test]
fn clients_reach_a_daemon_whose_socket_lies_in_a_directory_of_its_own() {
    let root = router();
    for (daemon, ..) in DAEMONS {
        service(&root, daemon, "start");
        let link = root.path("tmp/run").join(format!("{daemon}.sock"));
        assert_eq!(std::fs::read_link(&link).unwrap(), Path::new(&format!("{daemon}/{daemon}.sock")));
    }
    // The same layout with a real daemon in it.
    let ticker = Path::new(env!("CARGO_BIN_EXE_ticker"));
    let inner = Environment::new();
    inner.write_config("ticker", "config ticker 'ticker'\n");
    let daemon = Daemon::start(inner.command_of(ticker, [""; 0]), "ticker", inner.socket("ticker"));
    daemon.wait_until_ready();
    let outer = Environment::new();
    std::os::unix::fs::symlink(inner.socket("ticker"), outer.socket("ticker")).unwrap();
    let status = finish(outer.command_of(ticker, ["status", "--json"]), b"");
    assert_eq!((status.code, status.stderr.as_str()), (Some(0), ""));
    assert!(status.stdout.contains("\"state\""), "{}", status.stdout);
    daemon.kill();
    let status = finish(outer.command_of(ticker, ["status"]), b"");
    assert!(status.stderr.contains("not running"), "{}", status.stderr);
}
