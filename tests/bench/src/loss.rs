// SPDX-License-Identifier: Apache-2.0
//! At a round trip of 20 and 60 ms: the first byte of an answer, and what is felt when the first path dies silently.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::bed::{noise, service, HOST2};
use crate::goodput::DELAYS;
use crate::load::{self, Service};
use crate::measure::{ms, quantile, sorted, Way};
use crate::peers::{Kind, Programs, Setup};

/// What our pool holds at most; it follows the demand.
const POOL: usize = 8;
/// A new connection that takes longer has failed.
pub const LIMIT: Duration = Duration::from_secs(8);
/// The first path is silent so long.
const SILENCE: Duration = Duration::from_secs(3);
/// New connections begin so long after the loss.
const BEGINNINGS: [u64; 5] = [20, 120, 220, 320, 420];

/// First byte of the answer in ms: one after the other (median), 32 at once (median, longest).
pub fn first_byte(kind: Kind, programs: &Programs, quick: bool) -> [f64; 3] {
    let setup = Setup::new(kind, programs, Some(DELAYS));
    let count = if quick { 10 } else { 40 };
    let alone = load::one_by_one(&setup, count, || setup.wait_for_pool(2));
    setup.wait_for_pool(2);
    let together = load::at_once(&setup, 4 * POOL);
    [ms(quantile(&alone, 0.5)), ms(quantile(&together, 0.5)), ms(quantile(&together, 1.0))]
}

/// What was felt.
#[derive(Debug, Default)]
pub struct Felt {
    /// Longest pause of a running transfer per round, in order.
    pub stalls: Vec<Duration>,
    /// New connections until the first byte of the answer, in order; [`LIMIT`] where there was none.
    pub fresh: Vec<Duration>,
}

/// The first path of two with 10 Mbit/s dies `rounds` times while a transfer runs, downwards and upwards in turn.
pub fn silent(kind: Kind, programs: &Programs, rounds: usize) -> Felt {
    let setup = Setup::new(kind, programs, Some(DELAYS));
    setup.shape([10, 10]);
    let mut felt = Felt::default();
    for round in 0..rounds {
        let way = if round % 2 == 0 { Way::Down } else { Way::Up };
        let (stall, fresh) = once(&setup, way);
        felt.stalls.push(stall);
        felt.fresh.extend(fresh);
        if kind.is_ours() {
            setup.wait_for_paths();
        }
        // For the others, the queues of the dead path and the kernel's own timers.
        thread::sleep(Duration::from_secs(1));
    }
    Felt { stalls: sorted(felt.stalls), fresh: sorted(felt.fresh) }
}

fn once(setup: &Setup, way: Way) -> (Duration, Vec<Duration>) {
    let bed = &setup.bed;
    let answering = Service::start(&bed.host2, BEGINNINGS.len());
    let (ended, begun) = (AtomicBool::new(false), Instant::now());
    // Both ends of the transfer: one writes, the other notes when something came.
    let (hand_over, taken) = std::sync::mpsc::channel();
    let other = service(&bed.host2, &format!("{HOST2}:0"), move |stream| drop(hand_over.send(stream)));
    let near = crate::bed::connect(&bed.host1, other.address);
    (&near).write_all(b"!").expect("a transfer");
    let far = taken.recv_timeout(LIMIT).expect("the other end of the transfer");
    (&far).read_exact(&mut [0; 1]).expect("a transfer");
    let (writer, reader) = if way == Way::Up { (&near, &far) } else { (&far, &near) };
    thread::scope(|scope| {
        let ended = &ended;
        scope.spawn(move || pour(writer, ended));
        let arrivals = scope.spawn(move || arrivals(reader, ended));
        thread::sleep(Duration::from_millis(2000));
        bed.links[0].set_silent(true);
        let silent = Instant::now();
        let fresh: Vec<_> = BEGINNINGS
            .map(|after| {
                let address = answering.address;
                scope.spawn(move || {
                    thread::sleep(Duration::from_millis(after).saturating_sub(silent.elapsed()));
                    let begun = Instant::now();
                    load::ask(&bed.host1, address, LIMIT).map_or(LIMIT, |_| begun.elapsed().min(LIMIT))
                })
            })
            .into_iter()
            .collect();
        thread::sleep(SILENCE);
        let fresh_times: Vec<Duration> =
            fresh.into_iter().map(|asked| asked.join().expect("a time")).collect();
        bed.links[0].set_silent(false);
        ended.store(true, Ordering::Relaxed);
        for end in [&near, &far] {
            let _ = socket2::SockRef::from(end).shutdown(std::net::Shutdown::Both);
        }
        let arrivals = arrivals.join().expect("the reader");
        (longest_pause(&arrivals, silent - begun, silent - begun + SILENCE, begun), fresh_times)
    })
}

fn pour(mut stream: &TcpStream, ended: &AtomicBool) {
    let chunk = noise(16 * 1024, 5);
    while !ended.load(Ordering::Relaxed) && stream.write_all(&chunk).is_ok() {}
}

fn arrivals(mut stream: &TcpStream, ended: &AtomicBool) -> Vec<Instant> {
    let (mut times, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    while !ended.load(Ordering::Relaxed) && stream.read(&mut buffer).is_ok_and(|length| length > 0) {
        times.push(Instant::now());
    }
    times
}

/// The longest time between two arrivals that touches the silence.
fn longest_pause(arrivals: &[Instant], from: Duration, to: Duration, begun: Instant) -> Duration {
    let (from, to) = (begun + from, begun + to);
    let before = arrivals.iter().copied().rfind(|at| *at <= from).unwrap_or(from);
    let mut last = before;
    let mut longest = Duration::ZERO;
    for at in arrivals.iter().copied().filter(|at| *at > from && *at <= to).chain([to]) {
        longest = longest.max(at - last);
        last = at;
    }
    longest
}
