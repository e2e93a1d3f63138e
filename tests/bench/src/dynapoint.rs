// SPDX-License-Identifier: Apache-2.0
//! How long an access point tells something untrue: a lost carrier and a black hole, with hostapd's double.

use std::path::Path;
use std::time::{Duration, Instant};

use lab::{Daemon, Environment, HostapdDouble, UbusdDouble};

use crate::measure::{ms, quantile, sorted};
use crate::netifd_double::NetifdDouble;
use crate::rig::{Rig, Web, HOST_V4};
use crate::Options;

const WIRELESS: &str = include_str!("../../dynapoint/two_access_points.uci");

/// The original's example: interval 60 s, three rounds.
const ORIGINAL: [f64; 2] = [120.0, 180.0];

/// The kernel tells of one change of a carrier per second (`linkwatch`): a loss that follows another change sooner would
/// measure its patience, up to a second.
const QUIET: Duration = Duration::from_millis(1200);

struct Place {
    daemon: Daemon,
    hostapd: HostapdDouble,
    rig: Rig,
    _netifd: NetifdDouble,
    _web: Web,
    _ubusd: UbusdDouble,
}

impl Place {
    fn new(binary: &Path, rule: &str) -> Self {
        let ubusd = UbusdDouble::start();
        let netifd = NetifdDouble::start(ubusd.path());
        let rig = Rig::with(Environment::new().with_ubus(ubusd.path()));
        let web = Web::start(&rig, 80);
        let hostapd = HostapdDouble::start(
            &rig.router,
            &rig.env.run_dir(),
            &[("ap0", "freifunk"), ("ap1", "maintenance")],
        );
        netifd.set_access_points(&[("public", "ap0"), ("maintenance", "ap1")]);
        rig.env.write_config("dynapoint", rule);
        rig.env.write_config("wireless", WIRELESS);
        let inner = rig.env.command_of(binary, ["--log-level", "warn"]);
        let mut command = rig.router.command(&inner.get_program().to_string_lossy());
        command.args(inner.get_args());
        let daemon = Daemon::start(command, "dynapoint", rig.env.socket("dynapoint"));
        let place = Place { daemon, hostapd, rig, _netifd: netifd, _web: web, _ubusd: ubusd };
        place.until("freifunk");
        place
    }

    /// Waits until this is the only name on the air; gives the time that took.
    fn until(&self, name: &str) -> Duration {
        let begun = Instant::now();
        while self.hostapd.on_air() != [name] {
            assert!(begun.elapsed() < Duration::from_secs(120), "{name} never came: {}", self.daemon.log());
            std::thread::sleep(Duration::from_micros(500));
        }
        begun.elapsed()
    }
}

/// Measures and prints the section.
pub fn run(options: &Options, binary: &Path) {
    let count = if options.quick { 3 } else { 10 };
    let shipped =
        std::fs::read_to_string("procd/dynapoint/files/etc/config/dynapoint").expect("the shipped file");
    let mut hosts = 0;
    // The shipped configuration, but for hosts that are not in this Internet.
    let shipped: String = shipped
        .lines()
        .filter(|line| {
            let host = line.trim_start().starts_with("list hosts");
            hosts += usize::from(host);
            !host
        })
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(hosts > 0, "the shipped file names no hosts");
    let shipped = format!("{shipped}\tlist hosts 'http://{HOST_V4}/'\n");
    println!(
        "| | until the other name is on the air, median | longest | goal | | the original (computed) |\n\
         |---|---|---|---|---|---|"
    );
    let immediate = Place::new(binary, &format!("{shipped}\toption link_loss 'immediate'\n"));
    let times = (0..count).map(|_| {
        let begun = Instant::now();
        immediate.rig.cut_link();
        immediate.until("maintenance");
        let taken = begun.elapsed();
        immediate.rig.mend_link();
        immediate.until("freifunk");
        std::thread::sleep(QUIET);
        taken
    });
    row("carrier lost, `link_loss 'immediate'`", times.collect(), Duration::from_millis(250), "< 250 ms");
    drop(immediate);
    let probing = Place::new(binary, &shipped);
    let times = (0..count).map(|round| {
        // At every phase of the interval of 3 s.
        std::thread::sleep(Duration::from_millis(300 + 3000 * round / count));
        let begun = Instant::now();
        probing.rig.black_hole("inet");
        probing.until("maintenance");
        let taken = begun.elapsed();
        probing.rig.end_black_hole("inet");
        probing.until("freifunk");
        taken
    });
    row(
        "black hole behind a living link, shipped configuration",
        times.collect(),
        Duration::from_secs(10),
        "< 10 s",
    );
    println!(
        "\nRouter and Internet in two namespaces; hostapd, netifd and ubusd are doubles ({count} losses each, at every phase \
         of the interval; the carrier had been there for more than a second). The original asks every `interval` \
         (60 s in its example) and changes after `offline_threshold` (3) failures in a row: between two and three \
         intervals, whatever was lost."
    );
}

fn row(what: &str, times: Vec<Duration>, limit: Duration, goal: &str) {
    let times = sorted(times);
    let longest = quantile(&times, 1.0);
    let verdict = if longest < limit { "met" } else { "**missed**" };
    let text = |time: Duration| {
        if limit < Duration::from_secs(1) {
            format!("{:.0} ms", ms(time))
        } else {
            format!("{:.1} s", time.as_secs_f64())
        }
    };
    println!(
        "| {what} | {} | {} | {goal} | {verdict} | {:.0}–{:.0} s |",
        text(quantile(&times, 0.5)),
        text(longest),
        ORIGINAL[0],
        ORIGINAL[1]
    );
}
