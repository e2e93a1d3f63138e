// SPDX-License-Identifier: Apache-2.0
//! One fault after the other, in an order that is the same at each run, and what has to be true after some of them.

use std::fmt;
use std::io::Write as _;
use std::time::{Duration, Instant};

use lab::ask;
use serde_json::Value;

use crate::bed::{end_silence, silence};
use crate::router::Router;

/// So long a state may take to come true: three failed rounds of a second, and a loaded machine.
const PATIENCE: Duration = Duration::from_secs(40);

const NAMES: [&str; 7] = [
    "path silent",
    "path without carrier",
    "broker restarted",
    "broker out of reach",
    "configuration changed",
    "configuration mistaken",
    "uplink dead",
];

/// How often each was done, and what was wrong after it.
#[derive(Debug, Default)]
pub struct Faults {
    counts: [usize; NAMES.len()],
    pub wrong: Vec<String>,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faults:")?;
        for (name, count) in NAMES.iter().zip(self.counts) {
            write!(f, " {name} {count},")?;
        }
        write!(f, " wrong states {}", self.wrong.len())
    }
}

/// Faults until the end; everything is well again when it returns.
pub fn run(router: &mut Router, end: Instant) -> Faults {
    let mut faults = Faults::default();
    let mut random = Random(0x2545_f491);
    while Instant::now() + Duration::from_secs(20) < end {
        let kind = random.below(NAMES.len());
        faults.counts[kind] += 1;
        faults.wrong.extend(one(router, kind, &mut random));
        print!(".");
        let _ = std::io::stdout().flush();
        std::thread::sleep(Duration::from_millis(500 + 100 * random.below(30) as u64));
    }
    faults.wrong.extend(all_is_well(router));
    faults
}

fn one(router: &mut Router, kind: usize, random: &mut Random) -> Option<String> {
    let path = ["p1", "p2"][random.below(2)];
    let shortly = Duration::from_millis(100 + random.below(1400) as u64);
    match kind {
        0 => {
            silence(&router.bed, path);
            std::thread::sleep(shortly);
            end_silence(&router.bed);
            paths_are_up(router)
        }
        1 => {
            router.bed.r2.ip(&format!("link set {path} down"));
            std::thread::sleep(shortly);
            router.bed.r2.ip(&format!("link set {path} up"));
            paths_are_up(router)
        }
        2 => {
            // While it is away the witness must not miss what is acknowledged.
            router.to_broker.close();
            router.broker.restart();
            router.broker.wait_for_log(" 1 soak/+/event");
            router.to_broker.heal();
            None
        }
        3 => {
            router.to_broker.black_hole();
            std::thread::sleep(3 * shortly);
            router.to_broker.heal();
            None
        }
        4 => {
            router.reload(random.below(3), random.below(2) == 0);
            None
        }
        5 => {
            let place = random.below(3);
            router.reload_mistaken(place);
            let kept = configuration_is(router, place, "kept");
            router.reload(place, false);
            kept.or_else(|| configuration_is(router, place, "ok"))
        }
        _ => {
            // The first path is the router's own way out.
            silence(&router.bed, "p1");
            let offline = state_is(router, "offline", "maintenance");
            end_silence(&router.bed);
            offline.or_else(|| state_is(router, "online", "freifunk")).or_else(|| paths_are_up(router))
        }
    }
}

fn all_is_well(router: &Router) -> Option<String> {
    router.to_broker.heal();
    state_is(router, "online", "freifunk").or_else(|| paths_are_up(router)).or_else(|| {
        let status = status(&router.powqutyd_socket());
        (status["source"]["state"] != "running").then(|| format!("powqutyd does not measure: {status:#}"))
    })
}

/// The rule has this state, and exactly this name is on the air.
fn state_is(router: &Router, state: &str, name: &str) -> Option<String> {
    holds(&format!("dynapoint {state}, {name} on the air"), || {
        let rule = &status(&router.dynapoint_socket())["rules"][0]["state"];
        let names = router.hostapd.on_air();
        (*rule == state && names == [name]).then_some(()).ok_or_else(|| format!("{rule}, {names:?}"))
    })
}

fn paths_are_up(router: &Router) -> Option<String> {
    holds("both paths up", || {
        let status = status(&router.client_socket());
        let states = [0, 1].map(|path| status["paths"][path]["state"].clone());
        states.iter().all(|state| state == "up").then_some(()).ok_or_else(|| format!("{states:?}"))
    })
}

fn configuration_is(router: &Router, place: usize, state: &str) -> Option<String> {
    let sockets = [router.powqutyd_socket(), router.dynapoint_socket(), router.client_socket()];
    holds(&format!("configuration of daemon {place} {state}"), || {
        let found = &status(&sockets[place])["configuration"]["state"];
        (*found == state).then_some(()).ok_or_else(|| found.to_string())
    })
}

fn holds(what: &str, look: impl Fn() -> Result<(), String>) -> Option<String> {
    let limit = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(()) => return None,
            Err(found) if Instant::now() > limit => {
                return Some(format!("not true after {} s: {what}; it was {found}", PATIENCE.as_secs()));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn status(socket: &std::path::Path) -> Value {
    ask(socket, "status", &Value::Null).unwrap_or(Value::Null)
}

/// Xorshift: the same faults at each run.
struct Random(u32);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 as usize % limit
    }
}
