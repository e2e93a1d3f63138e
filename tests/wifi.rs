// SPDX-License-Identifier: Apache-2.0
//! dynapoint against a real hostapd, real clients, simulated radios (mac80211_hwsim) and a real batman-adv, mptcp-proxy
//! over two Wi-Fi links, and what belongs to a whole machine; each in a machine of its own. What runs there is below
//! `tests/vm/scenarios`.

use std::path::PathBuf;
use std::time::Duration;

use lab::Vm;

/// Only guards against hanging; `make test-vm` prints what the machines took.
const LIMIT: Duration = Duration::from_secs(280);

const SETUP: &str = include_str!("vm/scenarios/setup.sh");
const RENAME: &str = include_str!("vm/scenarios/rename.sh");
const TWINS: &str = include_str!("vm/scenarios/twins.sh");
const MESH: &str = include_str!("vm/scenarios/mesh.sh");
const PROXY: &str = include_str!("vm/scenarios/proxy.sh");
const FAULTS: &str = include_str!("vm/scenarios/faults.sh");

fn run(name: &str, script: &str, programs: &[&str]) -> String {
    let vm = Vm::build();
    let files: Vec<_> = programs.iter().map(|name| (program(name), format!("usr/sbin/{name}"))).collect();
    let files: Vec<_> = files.iter().map(|(host, guest)| (host.as_path(), guest.as_str())).collect();
    let outcome = vm.run(&format!("{SETUP}{script}"), &files, LIMIT);
    println!("{}\n{name}: the machine ran {:.0} s", outcome.console, outcome.took.as_secs_f64());
    assert_eq!(outcome.status, Some(0), "{name} failed in the machine");
    outcome.console
}

/// The build for a router where `make test-vm` made one (variable DYNAPOINT), otherwise the one for tests.
fn program(name: &str) -> PathBuf {
    let built = std::env::var_os(name.to_uppercase()).map(PathBuf::from);
    built.unwrap_or_else(|| lab::binary(name))
}

/// Numbers behind `word` in lines of the console.
fn numbers(console: &str, word: &str) -> Vec<Vec<f64>> {
    console
        .lines()
        .filter_map(|line| line.strip_prefix(word))
        .map(|line| line.split_whitespace().filter_map(|number| number.parse().ok()).collect())
        .collect()
}

/// Column of a table of numbers: median and 99th percentile.
fn figures(rows: &[Vec<f64>], column: usize) -> (f64, f64) {
    let mut values: Vec<f64> = rows.iter().map(|row| row[column]).collect();
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    (at(0.5), at(0.99))
}

/// The client of the private BSS has lost nothing, and the daemon has left nothing behind.
fn nobody_else_noticed(console: &str) {
    assert!(console.contains(" 0% packet loss"), "the other BSS lost pings");
    assert!(console.contains("disconnects 0\n"), "the other BSS's client was disconnected");
    assert!(console.contains("stopped 0\n"));
    assert!(!console.contains("left behind"), "an uncommitted change was written");
}

/// One BSS that changes its name, beside a private one with a client that pings all the time: 100 switches.
#[test]
fn a_rename_is_quick_and_nobody_else_notices() {
    let console = run("rename", RENAME, &["dynapoint", "air"]);
    let switches = numbers(&console, "switch ");
    assert_eq!(switches.len(), 50);
    let apply = numbers(&console, "apply ");
    assert!(apply.len() >= 50, "one stamp per lost carrier: {}", apply.len());
    let (down, up, apply) = (figures(&switches, 1), figures(&switches, 2), figures(&apply, 1));
    println!("carrier lost -> first beacon with the new name: median {:.1} ms, p99 {:.1} ms", down.0, down.1);
    println!("carrier back -> first beacon with the old name: median {:.1} ms, p99 {:.1} ms", up.0, up.1);
    println!("netlink message read -> hostapd's OK: median {:.1} ms, p99 {:.1} ms", apply.0, apply.1);
    assert!(down.1 < 250.0, "p99 of the switch");
    // Emulated on a shared machine; the p99 is printed, not asserted.
    assert!(apply.0 < 20.0, "median of applying");
    // The key follows the name (IEEE 802.11-2020, J.4).
    assert!(console.contains("wrong keys 0\n"));
    nobody_else_noticed(&console);
}

/// Access points that cannot stand in for each other come and go, and a client beside them notices nothing.
#[test]
fn twins_come_and_go_and_nobody_else_notices() {
    let console = run("twins", TWINS, &["dynapoint", "air"]);
    let switches = numbers(&console, "switch ");
    assert_eq!(switches.len(), 10);
    let (down, up) = (figures(&switches, 1), figures(&switches, 2));
    println!(
        "carrier lost -> first beacon of the one that is added: median {:.1} ms, worst {:.1} ms",
        down.0, down.1
    );
    println!(
        "carrier back -> first beacon of the one that is added: median {:.1} ms, worst {:.1} ms",
        up.0, up.1
    );
    for (done, least) in [("added ", 20.0), ("removed ", 20.0), ("silenced ", 10.0)] {
        assert!(numbers(&console, done)[0][0] >= least, "{done}");
    }
    nobody_else_noticed(&console);
}

/// The quality of a mesh's gateway, with both of batman-adv's algorithms, whether or not this node chooses gateways.
#[test]
fn a_mesh_gets_worse_and_better_and_the_rule_follows() {
    let console = run("mesh", MESH, &["dynapoint"]);
    let went: Vec<&str> = console.lines().filter_map(|line| line.strip_prefix("went ")).collect();
    let half = went.iter().position(|step| *step == "online-offline").map_or(0, |at| at + 1);
    for (algorithm, went) in [("BATMAN_IV", &went[..half]), ("BATMAN_V", &went[half..])] {
        // Before that the rule has followed a fresh mesh that was measuring its link for the first time.
        let steps = ["online-degraded", "degraded-offline", "offline-online", "online-offline"];
        assert!(went.ends_with(&steps), "{algorithm}: {went:?}");
        assert!(console.contains(&format!("{algorithm}: this node's gw_mode is off")));
    }
    assert_eq!(console.matches("stopped 0\n").count(), 2);
}

/// The setting of the original project: two routers joined by two Wi-Fi links, and both carry.
#[test]
fn two_routers_share_a_transfer_between_two_wifi_links() {
    let console = run("proxy", PROXY, &["mptcp-proxy"]);
    let transfer = &numbers(&console, "transfer ")[0];
    let [begin, end, a, b] = transfer[..] else { panic!("{transfer:?}") };
    let megabytes = |bytes: f64| bytes / 1e6;
    println!(
        "8 MiB in {:.1} s: {:.1} MB by one link, {:.1} MB by the other",
        end - begin,
        megabytes(a),
        megabytes(b)
    );
    assert!(a + b >= 8.0 * 1024.0 * 1024.0, "all of it came by these two");
    assert!(a.min(b) > 1e6, "both carry");
}

/// A clock that is set by a day changes no decision and no length; a full table of connections breaks none that is open.
#[test]
fn a_clock_set_by_a_day_and_a_full_table_of_connections_break_nothing() {
    let console = run("faults", FAULTS, &["powqutyd", "dynapoint", "mptcp-proxy"]);
    assert_eq!(console.matches("transferred all\n").count(), 2);
    assert_eq!(console.matches("stopped 0\n").count(), 2);
    let went: Vec<&str> = console.lines().filter_map(|line| line.strip_prefix("went ")).collect();
    assert_eq!(went, ["unknown-online"]);
    let events = numbers(&console, "event ");
    assert!(numbers(&console, "told ")[0][0] >= 6.0 && events.len() >= 6);
    for pair in events.windows(2) {
        assert_eq!(pair[0][1], pair[1][1], "the same dip has the same length (ms)");
    }
    // `date` sets whole seconds.
    let apart: Vec<f64> = events.windows(2).map(|pair| pair[1][0] - pair[0][0]).collect();
    let days =
        |days: f64| apart.iter().filter(|apart| (*apart - 4000.0 - days * 86_400e3).abs() < 1100.0).count();
    assert_eq!((days(1.0), days(-1.0), days(0.0)), (1, 1, apart.len() - 2), "{apart:?}");
    assert!(console.contains("nf_conntrack: table full\n"));
}
