// SPDX-License-Identifier: Apache-2.0
//! `make soak`: the three daemons on one router in network namespaces, an emulated oscilloscope, and for MINUTES (30)
//! one fault after the other. It ends with a table and fails when memory or descriptors grow, an alert is lost, a state
//! is wrong, a log floods or a transfer is not what was sent.

#[allow(dead_code)] // shared with the tests of mptcp-proxy
#[path = "../../mptcp_proxy/bed.rs"]
mod bed;
#[allow(dead_code)] // shared with the tests of dynapoint
#[path = "../../dynapoint/netifd_double.rs"]
mod netifd_double;

mod alerts;
mod faults;
mod router;
mod transfers;
mod watch;

use std::time::{Duration, Instant};

use router::Router;

fn main() {
    let minutes: u64 =
        std::env::args().nth(1).map_or(30, |word| word.parse().expect("usage: soak [MINUTES]"));
    assert!(minutes >= 2, "less than two minutes prove nothing");
    let begun = Instant::now();
    let length = Duration::from_secs(60 * minutes);
    let mut router = Router::start();
    println!("soak: {minutes} minutes; one dot per fault");
    let watched = watch::Watched::of(&router);
    let (transfers, faults) = std::thread::scope(|scope| {
        let transferring = scope.spawn({
            let way = router.way();
            move || transfers::run(&way, begun + length)
        });
        let watching = scope.spawn(|| watched.run(begun + length));
        let faults = faults::run(&mut router, begun + length);
        watching.join().expect("the watcher");
        (transferring.join().expect("the transfers"), faults)
    });
    println!();
    let mut complaints = watched.judge(&router, begun.elapsed());
    complaints.extend(transfers.judge());
    complaints.extend(alerts::judge(&router, begun.elapsed()));
    complaints.extend(faults.wrong.iter().cloned());
    println!("{faults}");
    if complaints.is_empty() {
        println!("soak: nothing to complain about after {:.0} s", begun.elapsed().as_secs_f64());
        return;
    }
    for complaint in &complaints {
        println!("soak: {complaint}");
    }
    // A panic makes the daemons' logs part of the output.
    panic!("{} complaints", complaints.len());
}
