// SPDX-License-Identifier: Apache-2.0
//! Dips, swells and interruptions by the definitions of IEC 61000-4-30 5.4 and 5.5.
//!
//! A cycle is 20 ms; an event begins with the start of the first Urms(1/2) beyond the threshold and ends with
//! the end of the first one back beyond the hysteresis.

mod support;

use power_quality::{EventKind, NominalFrequency};
use support::{near, Signal};

const MILLISECOND: f64 = 1e-3;
/// % of the nominal voltage.
const RESIDUAL: f64 = 0.05;

#[test]
fn dip_from_a_zero_crossing() {
    let results = Signal::new(3.0).event(1.0, 0.1, 0.4).run();
    let [dip] = results.of(EventKind::Dip)[..] else { panic!("{:?}", results.events) };
    near("start", dip.start_s, 0.99, MILLISECOND);
    near("end", dip.end_s.unwrap(), 1.12, MILLISECOND);
    near("residual", dip.extreme_percent.unwrap(), 40.0, RESIDUAL);
    assert_eq!(dip.class.unwrap().to_string(), "D1");
    assert_eq!(results.events.len(), 1);
}

#[test]
fn half_a_cycle_of_silence_is_a_dip_to_the_root_of_a_half() {
    let results = Signal::new(3.0).event(1.0, 0.01, 0.0).run();
    let [dip] = results.of(EventKind::Dip)[..] else { panic!("{:?}", results.events) };
    near("residual", dip.extreme_percent.unwrap(), 70.711, RESIDUAL);
    assert!(results.of(EventKind::Interruption).is_empty());
}

#[test]
fn an_event_at_the_end_is_open() {
    let results = Signal::new(3.0).event(2.0, 9.0, 0.5).run_60(230.0);
    let config = Signal::new(3.0).config(230.0, NominalFrequency::Hz50);
    assert!(config.thresholds.dip > 0.0);
    let open: Vec<_> = results.events.iter().filter(|e| e.open).collect();
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].end_s, None);
}
