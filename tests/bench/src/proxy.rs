// SPDX-License-Identifier: Apache-2.0
//! All stages for mptcp-proxy and its peers in one run, and the tables of it.

use std::fmt::Write as _;
use std::time::Duration;

use crate::cost::{self, Cost};
use crate::goodput::{self, Cells, Effort};
use crate::loss::{self, Felt};
use crate::measure::{median, ms, quantile};
use crate::peers::{Kind, Programs, CONGESTION};
use crate::Options;

const GOODPUT: [Kind; 7] = [
    Kind::OursNone,
    Kind::OursAead,
    Kind::RustNone,
    Kind::Libev,
    Kind::Haproxy,
    Kind::Redsocks,
    Kind::Forwarding,
];
const COST: [Kind; 9] = [
    Kind::Forwarding,
    Kind::SpliceRelay,
    Kind::OursNone,
    Kind::OursAead,
    Kind::RustNone,
    Kind::RustAes,
    Kind::Libev,
    Kind::Haproxy,
    Kind::Redsocks,
];
const FIRST: [Kind; 8] = [
    Kind::Forwarding,
    Kind::OursNone,
    Kind::OursAead,
    Kind::OursNoPool,
    Kind::RustNone,
    Kind::Libev,
    Kind::Haproxy,
    Kind::Redsocks,
];
const PEERS: [Kind; 4] = [Kind::RustNone, Kind::Libev, Kind::Haproxy, Kind::Redsocks];

/// A line of the first table.
struct Goal {
    what: &'static str,
    value: f64,
    decimals: usize,
    unit: &'static str,
    limit: f64,
    /// The value has to be above the limit.
    above: bool,
    /// What it is made of.
    from: String,
}

impl Goal {
    fn below(
        what: &'static str,
        value: f64,
        decimals: usize,
        unit: &'static str,
        limit: f64,
        from: String,
    ) -> Self {
        Self { what, value, decimals, unit, limit, above: false, from }
    }

    fn above(
        what: &'static str,
        value: f64,
        decimals: usize,
        unit: &'static str,
        limit: f64,
        from: String,
    ) -> Self {
        Self { what, value, decimals, unit, limit, above: true, from }
    }

    fn row(&self) -> String {
        let sign = if self.above { '≥' } else { '≤' };
        // Judged as printed.
        let scale = 10_f64.powi(self.decimals as i32);
        let printed = (self.value * scale).round() / scale;
        let met = if self.above { printed >= self.limit } else { printed <= self.limit };
        let verdict = if met { "met" } else { "**missed**" };
        format!(
            "| {} | {:.*}{} | {sign} {}{} | {verdict} | {} |\n",
            self.what, self.decimals, self.value, self.unit, self.limit, self.unit, self.from
        )
    }
}

/// Runs the stages and prints the section.
pub fn run(options: &Options, programs: &Programs) {
    raise_file_limit();
    let (mut goals, mut tables) = (Vec::new(), String::new());
    if options.wants("cost") {
        let costs = cost::all(&COST, programs, options.quick);
        cost_goals(&costs, programs, &mut goals);
        tables += &cost_table(&costs);
        eprintln!("{}{tables}", goals.iter().map(Goal::row).collect::<String>());
    }
    if options.wants("loss") {
        first_bytes(options, programs, &mut goals, &mut tables);
        losses(options, programs, &mut goals, &mut tables);
        eprintln!("{}{tables}", goals.iter().map(Goal::row).collect::<String>());
    }
    if options.wants("goodput") {
        goodputs(options, programs, &mut goals, &mut tables);
    }
    println!("| mptcp-proxy | measured | goal | | from |\n|---|---|---|---|---|");
    print!("{}", goals.iter().map(Goal::row).collect::<String>());
    println!("\n{tables}");
    println!(
        "Namespaces host1 – r1 =(p1, p2)= r2 – host2; the hosts without MPTCP; every socket uses {CONGESTION}, the only \
         congestion control that every namespace may choose; rates by tbf (4 ms of burst, 60 ms of queue), delay by a \
         relay between TUN devices. haproxy, redsocks, microsocks and shadowsocks-libev run under mptcpize, \
         shadowsocks-rust with its own `mptcp`. Splice relay and plain forwarding use one path."
    );
}

/// A thousand connections take two thousand descriptors here.
fn raise_file_limit() {
    use rustix::process::{getrlimit, setrlimit, Resource};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

fn of(costs: &[(Kind, Cost)], kind: Kind) -> &Cost {
    &costs.iter().find(|(known, _)| *known == kind).expect("it was measured").1
}

fn cost_goals(costs: &[(Kind, Cost)], programs: &Programs, goals: &mut Vec<Goal>) {
    let mean = |kind| median(&of(costs, kind).mean_per_gb);
    let mut ratio = |what, ours, peer: Kind, limit| {
        let from = format!("{:.3} against {:.3} s/GB of {}", mean(ours), mean(peer), peer.name());
        goals.push(Goal::below(what, mean(ours) / mean(peer), 2, " ×", limit, from));
    };
    ratio("processor per GB and half, `none`", Kind::OursNone, Kind::RustNone, 0.35);
    ratio("processor per GB and half, `none`", Kind::OursNone, Kind::Haproxy, 0.45);
    ratio("processor per GB and half, `none`", Kind::OursNone, Kind::SpliceRelay, 2.2);
    ratio("processor per GB and half, `aead`", Kind::OursAead, Kind::RustAes, 0.5);
    let (ours, direct) = (of(costs, Kind::OursNone), of(costs, Kind::Forwarding));
    for (way, name) in ["one stream, up", "one stream, down"].into_iter().enumerate() {
        let from =
            format!("{:.1} against {:.1} Gbit/s of plain forwarding", ours.gbit[way], direct.gbit[way]);
        goals.push(Goal::above(name, ours.gbit[way] / direct.gbit[way], 2, " ×", 0.5, from));
    }
    let from =
        format!("{:.0} against {:.0} per second of plain forwarding", ours.per_second, direct.per_second);
    let name = "short connections, 32 at once";
    goals.push(Goal::above(name, ours.per_second / direct.per_second, 2, " ×", 0.36, from));
    let from = format!(
        "{:.2} against {:.2} ms (p99 {:.2} against {:.2})",
        ours.latency[0], direct.latency[0], ours.latency[1], direct.latency[1]
    );
    let name = "added to connect, ask, first byte at RTT 0, median";
    goals.push(Goal::below(name, ours.latency[0] - direct.latency[0], 2, " ms", 0.22, from));
    for (half, name) in ["client half", "server half"].into_iter().enumerate() {
        for kind in [Kind::OursNone, Kind::OursAead] {
            let from = format!("{name}, {}: RssAnon with 1000 connections minus without", kind.name());
            let value = of(costs, kind).per_connection[half];
            goals.push(Goal::below("user memory per idle connection", value, 2, " kB", 2.0, from));
        }
    }
    for (half, name) in ["client half", "server half"].into_iter().enumerate() {
        let from = format!("{name}, `none`");
        goals.push(Goal::below("RssAnon idle", ours.idle[half], 0, " kB", 1024.0, from));
    }
    let size = programs.our_size() as f64 / 1e6;
    goals.push(Goal::below("binary", size, 3, " MB", 0.9, "without the TLS stack of alerts".into()));
}

fn cost_table(costs: &[(Kind, Cost)]) -> String {
    let mut out = String::from(
        "Paths without limits. s/GB: user and system time of a half, client up/down, server up/down; \
         median of the rounds.\n\n\
         | | client s/GB | server s/GB | mean | Gbit/s up/down | connections/s (failed) | first byte p50/p99, ms | RssAnon idle, kB | kB per connection |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for (kind, cost) in costs {
        let [a, b, c, d] = cost.per_gb;
        let halves = |text: String| if *kind == Kind::Forwarding { "–".into() } else { text };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {:.1} / {:.1} | {:.0} ({}) | {:.2} / {:.2} | {} | {} |",
            kind.name(),
            halves(format!("{a:.2} / {b:.2}")),
            halves(format!("{c:.2} / {d:.2}")),
            halves(format!("{:.3}", median(&cost.mean_per_gb))),
            cost.gbit[0],
            cost.gbit[1],
            cost.per_second,
            cost.failed,
            cost.latency[0],
            cost.latency[1],
            halves(format!("{:.0} / {:.0}", cost.idle[0], cost.idle[1])),
            halves(format!("{:.1} / {:.1}", cost.per_connection[0], cost.per_connection[1])),
        );
    }
    out + "\n"
}

fn first_bytes(options: &Options, programs: &Programs, goals: &mut Vec<Goal>, tables: &mut String) {
    tables.push_str(
        "Connect, ask, first byte of the answer, RTT 20 ms on the first path (60 ms on the second), in ms: one after the \
         other with a warm pool where there is one, and 32 at once (four times the pool).\n\n\
         | | median | 32 at once, median | 32 at once, longest |\n|---|---|---|---|\n",
    );
    let mut direct = f64::NAN;
    for kind in FIRST {
        eprintln!("first byte: {}", kind.name());
        let [alone, together, longest] = loss::first_byte(kind, programs, options.quick);
        let _ = writeln!(tables, "| {} | {alone:.1} | {together:.1} | {longest:.1} |", kind.name());
        match kind {
            Kind::Forwarding => direct = alone,
            Kind::OursNone => {
                let from = format!("{alone:.1} against {direct:.1} ms of plain forwarding");
                let name = "first answer byte at RTT 20 ms, pool warm";
                goals.push(Goal::below(name, alone / direct, 2, " ×", 0.62, from));
            }
            _ => {}
        }
    }
    tables.push('\n');
}

fn losses(options: &Options, programs: &Programs, goals: &mut Vec<Goal>, tables: &mut String) {
    tables.push_str(
        "The first of two paths with 10 Mbit/s (RTT 20 and 60 ms) falls silent, its links stay up, while a transfer runs \
         (downwards and upwards in turn): longest pause of the transfer, and new connections opened 20, 120, 220, 320 and \
         420 ms after the loss, until the first byte of the answer; in s.\n\n\
         | | losses | pause, median | pause, longest | new, median | new, p99 | new without answer in 8 s |\n\
         |---|---|---|---|---|---|---|\n",
    );
    let row = |kind: Kind, felt: &Felt| {
        let seconds = |time: Duration| format!("{:.2}", time.as_secs_f64());
        let failed = felt.fresh.iter().filter(|time| **time >= loss::LIMIT).count();
        format!(
            "| {} | {} | {} | {} | {} | {} | {failed} of {} |\n",
            kind.name(),
            felt.stalls.len(),
            seconds(quantile(&felt.stalls, 0.5)),
            seconds(quantile(&felt.stalls, 1.0)),
            seconds(quantile(&felt.fresh, 0.5)),
            seconds(quantile(&felt.fresh, 0.99)),
            felt.fresh.len()
        )
    };
    let rounds = if options.quick { 4 } else { 20 };
    for kind in [Kind::OursNone, Kind::OursAead] {
        eprintln!("silent loss: {}", kind.name());
        let felt = loss::silent(kind, programs, if kind == Kind::OursNone { rounds } else { rounds / 4 });
        tables.push_str(&row(kind, &felt));
        if kind == Kind::OursNone {
            let seconds = |time: Duration| ms(time) / 1000.0;
            let mut goal = |what, value, limit| {
                let from = format!("{} losses, {} new connections", felt.stalls.len(), felt.fresh.len());
                goals.push(Goal::below(what, seconds(value), 2, " s", limit, from));
            };
            goal("silent loss: pause of a transfer, median", quantile(&felt.stalls, 0.5), 0.5);
            goal("silent loss: pause of a transfer, longest", quantile(&felt.stalls, 1.0), 0.5);
            goal("silent loss: new connections, median", quantile(&felt.fresh, 0.5), 0.5);
            goal("silent loss: new connections, p99", quantile(&felt.fresh, 0.99), 0.8);
        }
    }
    eprintln!("silent loss: peers");
    let rounds = if options.quick { 1 } else { 4 };
    let peers: Vec<Felt> = std::thread::scope(|scope| {
        let lanes: Vec<_> =
            PEERS.iter().map(|&kind| scope.spawn(move || loss::silent(kind, programs, rounds))).collect();
        lanes.into_iter().map(|lane| lane.join().expect("a peer")).collect()
    });
    for (kind, felt) in PEERS.into_iter().zip(&peers) {
        tables.push_str(&row(kind, felt));
    }
    tables.push('\n');
}

fn goodputs(options: &Options, programs: &Programs, goals: &mut Vec<Goal>, tables: &mut String) {
    let effort = |kind| match (kind, options.quick) {
        (Kind::OursNone, false) => Effort { seconds: 20, repeats: 3 },
        (_, false) => Effort { seconds: 6, repeats: 1 },
        (_, true) => Effort { seconds: 4, repeats: 1 },
    };
    let own = effort(Kind::OursNone);
    let _ = writeln!(
        tables,
        "iperf3 between the hosts, one stream, % of the summed link rate, up / down (`-R`); what fits at most with frames \
         of 1514 bytes is 94.06 %. mptcp-proxy `none`: median of {} × {} s, the others {} s, after 2 s that do not \
         count.\n\n\
         | | 10+10 | 100+100 | 10+50 | 10+10, RTT 20/60 | 100+100, RTT 20/60 | 10+50, RTT 20/60 |\n|---|---|---|---|---|---|---|",
        own.repeats,
        own.seconds,
        effort(Kind::Libev).seconds
    );
    for kind in GOODPUT {
        eprintln!("goodput: {}", kind.name());
        let cells: [Cells; 2] =
            [false, true].map(|delayed| goodput::cells(kind, programs, delayed, effort(kind)));
        let text: String =
            cells.iter().flatten().map(|[up, down]| format!(" {up:.1} / {down:.1} |")).collect();
        let _ = writeln!(tables, "| {} |{text}", kind.name());
        if kind == Kind::OursNone {
            let all: Vec<f64> = cells.iter().flatten().flatten().copied().collect();
            let from = format!("{} cells", all.len());
            let worst = all.iter().copied().fold(f64::INFINITY, f64::min);
            let name = "goodput, share of the summed link rate, median cell";
            goals.push(Goal::above(name, median(&all), 1, " %", 93.1, from.clone()));
            goals.push(Goal::above("the same, worst cell", worst, 1, " %", 92.5, from));
        }
    }
    tables.push('\n');
}
