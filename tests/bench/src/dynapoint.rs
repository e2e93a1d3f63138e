// SPDX-License-Identifier: Apache-2.0
//! How long an access point tells something untrue: a lost carrier and a black hole, with hostapd's double.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{channel, Receiver};
use std::time::{Duration, Instant};

use lab::{Daemon, Environment, HostapdDouble, UbusdDouble};

use crate::measure::{ms, quantile, sorted};
use crate::netifd_double::NetifdDouble;
use crate::rig::{Rig, Web, HOST_V4};
use crate::Options;

const WIRELESS: &str = include_str!("../../dynapoint/two_access_points.uci");

/// The original's example: interval 60 s, three rounds.
const ORIGINAL: [f64; 2] = [120.0, 180.0];

/// The kernel tells of changes of carriers once a second (`linkwatch`), whosever they are. Both ends of a cable that is
/// mended change: the second is told a second later, and a loss in the second after that waits in turn.
const QUIET: Duration = Duration::from_millis(2500);

/// When the kernel tells of a carrier that was lost. Both ends of a cable that is cut change as well, and what is told of
/// second comes a second later once in a while.
struct Told {
    monitor: Child,
    at: Receiver<Instant>,
}

impl Told {
    fn new(rig: &Rig) -> Self {
        let mut command = rig.router.command("ip");
        command.args(["monitor", "link"]).stdout(Stdio::piped());
        let mut monitor = command.spawn().expect("ip monitor");
        let lines = BufReader::new(monitor.stdout.take().expect("its output")).lines();
        let (tell, at) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if line.contains(" wan@") && line.contains("NO-CARRIER") && tell.send(Instant::now()).is_err()
                {
                    return;
                }
            }
        });
        Told { monitor, at }
    }

    /// The first time since then.
    fn since(&self, begun: Instant) -> Instant {
        loop {
            let told = self.at.recv_timeout(Duration::from_secs(10)).expect("the kernel tells of it");
            if told >= begun {
                return told;
            }
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.monitor.kill();
        let _ = self.monitor.wait();
    }
}

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
    let kernel = Told::new(&immediate.rig);
    let (mut times, mut after_word) = (Vec::new(), Vec::new());
    for _ in 0..count {
        std::thread::sleep(QUIET);
        let begun = Instant::now();
        immediate.rig.cut_link();
        immediate.until("maintenance");
        times.push(begun.elapsed());
        after_word.push(kernel.since(begun).elapsed());
        immediate.rig.mend_link();
        immediate.until("freifunk");
    }
    let limit = Duration::from_millis(250);
    row("carrier lost, `link_loss 'immediate'`", times, limit, "< 250 ms");
    row("of that, since the kernel told of it", after_word, limit, "< 250 ms");
    drop(kernel);
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
         of the interval; the carrier had been there for more than two seconds). The kernel tells of changes of carriers \
         once a second: of the two ends of a cable, one may wait for the other. The original asks every `interval` \
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
