// SPDX-License-Identifier: Apache-2.0
//! What the daemon costs while nothing happens: processor time per check, memory, processes.

use std::path::PathBuf;
use std::time::Duration;

use lab::Daemon;

use crate::rig::{Resolver, Rig, Web};

const CHECKS: usize = 20;
const ROUNDS: usize = 150;

/// The router's binary as `make size` leaves it, where there is one; else that of the tests, which is not measured.
fn router_binary() -> Option<PathBuf> {
    let target = lab::binary("dynapoint").parent()?.parent()?.to_owned();
    Some(target.join("router/release/dynapoint")).filter(|path| path.is_file())
}

#[test]
#[ignore = "measures for half a minute: make size, then make test-long"]
fn a_check_costs_little_and_starts_no_process() {
    let binary = router_binary();
    let path = binary.clone().unwrap_or_else(|| lab::binary("dynapoint"));
    let rig = Rig::new();
    let (web, _resolver) = (Web::start(&rig, 80), Resolver::start(&rig));
    let checks: String = (0..CHECKS)
        .map(|index| {
            format!(
                "config check\n\toption rule 'internet'\n\toption type 'http'\n\toption target 'host{index}.test/'\n"
            )
        })
        .collect();
    rig.env.write_config(
        "dynapoint",
        &format!(
            "config rule 'internet'\n\toption interval '200ms'\n\toption timeout '5'\n\toption policy 'all'\n\
             \toption family 'ipv4'\n{checks}"
        ),
    );
    let inner = rig.env.command_of(&path, ["--log-level", "info"]);
    let mut command = rig.router.command(&inner.get_program().to_string_lossy());
    command.args(inner.get_args());
    let daemon = Daemon::start(command, "dynapoint", rig.env.socket("dynapoint"));
    daemon.wait_for_status("online", |status| status["rules"][0]["state"] == "online");
    let (requests, cpu, faults) = (web.requests().len(), cpu_ns(&daemon), children_faults(&daemon));
    daemon.wait_for("the rounds", || (web.requests().len() >= requests + CHECKS * ROUNDS).then_some(()));
    let (spent, made) = (cpu_ns(&daemon) - cpu, web.requests().len() - requests);
    let per_check = Duration::from_nanos(spent / made as u64);
    let (anon, rss) = (daemon.memory_kb("RssAnon"), daemon.memory_kb("VmRSS"));
    println!(
        "{}: {made} checks (a name resolved, a page fetched, each), {} µs each; RssAnon {anon} kB, RSS {rss} kB",
        path.display(),
        per_check.as_micros()
    );
    assert_eq!(children_faults(&daemon), faults, "a process was started");
    if binary.is_some() {
        assert!(per_check < Duration::from_micros(200), "{per_check:?}");
        assert!(anon <= 1024, "RssAnon {anon} kB");
    }
}

/// What the scheduler counted, in nanoseconds (proc(5), `schedstat`).
fn cpu_ns(daemon: &Daemon) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/schedstat", daemon.pid())).expect("schedstat");
    text.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
}

/// Page faults of children that were waited for (proc(5), `cminflt`): any process has some.
fn children_faults(daemon: &Daemon) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).expect("stat");
    let (_, rest) = text.rsplit_once(')').expect("the name in parentheses");
    rest.split_whitespace().nth(8).and_then(|word| word.parse().ok()).expect("a number")
}
