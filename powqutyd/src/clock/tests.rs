// SPDX-License-Identifier: Apache-2.0
//! The clock against stalls, breaks, lying counters and steps.

use super::*;
use std::time::Duration;

const RATE: f64 = 10_240.0;
const UTC: f64 = 1_795_170_326.0;

fn clock(own: bool) -> Clock {
    let mut clock = Clock::new(RATE, own);
    clock.read(&Reading { monotonic: 1000.0, utc: UTC, synchronised: true }, None);
    clock
}

/// A device that began to sample at 1000 s and is `ppm` fast.
struct Device {
    ppm: f64,
    /// Samples it has taken.
    taken: u64,
    position: u64,
}

impl Device {
    fn new(ppm: f64) -> Self {
        Self { ppm, taken: 0, position: 0 }
    }

    fn moment(&self, sample: u64) -> f64 {
        1000.0 + sample as f64 / (RATE * (1.0 + self.ppm * 1e-6))
    }

    fn arrival(&self, delay: f64) -> Option<Arrival> {
        Some(Arrival { at: Duration::from_secs_f64(self.moment(self.taken) + delay), ahead: 0 })
    }

    /// The next frame, `delay` late; `lost` samples before it that the source knows of.
    fn frame(&mut self, clock: &mut Clock, lost: u64, delay: f64) -> u64 {
        self.taken += lost + 64;
        self.position += lost;
        let coming =
            Coming { position: self.position, count: 64, broken: false, arrival: self.arrival(delay) };
        self.position += 64;
        clock.advance(coming)
    }

    fn run(&mut self, clock: &mut Clock, seconds: f64, mut delay: impl FnMut(u64) -> f64) {
        for frame in 0..(seconds * 160.0) as u64 {
            assert_eq!(self.frame(clock, 0, delay(frame)), 0);
            if frame % 160 == 0 {
                let now = self.moment(self.taken);
                clock.read(&Reading { monotonic: now, utc: UTC + now - 1000.0, synchronised: true }, None);
            }
        }
    }

    /// How far the clock's idea of the newest sample is off (s).
    fn error(&self, clock: &Clock) -> f64 {
        let map = clock.map.unwrap();
        let position = clock.samples() as f64;
        map.unix_s + (position - map.sample) / map.rate - (UTC + self.moment(self.taken) - 1000.0)
    }
}

fn jitter(frame: u64) -> f64 {
    0.0003 + 0.02 * (frame.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / (1u64 << 24) as f64
}

#[test]
fn a_file_runs_at_its_nominal_rate_from_its_first_frame() {
    let mut clock = clock(false);
    let mut device = Device::new(200.0);
    device.run(&mut clock, 5.0, |frame| if frame == 0 { 0.0 } else { 3.0 });
    assert_eq!(clock.ppm(), None);
    assert!((clock.origin().unwrap() - UTC).abs() < 1e-5);
    assert_eq!(clock.utc(1.5).rfc3339(), Utc::from_seconds(UTC + 1.5).rfc3339());
    assert!(clock.plausible() && clock.reference().is_synchronised());
    assert!((clock.monotonic(2.0) - 1002.0).abs() < 1e-5);
}

#[test]
fn a_device_is_followed_through_jitter_and_stalls() {
    let mut clock = clock(true);
    let mut device = Device::new(-60.0);
    device.run(&mut clock, 300.0, |frame| {
        let within = frame % 4000;
        jitter(frame) + if within < 80 { 0.5 - within as f64 / 160.0 } else { 0.0 }
    });
    assert!((clock.ppm().unwrap() + 60.0).abs() < 1.0, "{:?}", clock.ppm());
    assert!(device.error(&clock).abs() < 0.001, "{}", device.error(&clock));
    assert!(clock.moved().is_some() && clock.moved().is_none());
}

#[test]
fn a_first_frame_that_comes_late_is_put_right_within_seconds() {
    let mut clock = clock(true);
    let mut device = Device::new(0.0);
    device.run(&mut clock, 5.0, |frame| jitter(frame) + if frame < 100 { 0.3 } else { 0.0 });
    assert!(device.error(&clock).abs() < 0.001, "{}", device.error(&clock));
}

#[test]
fn a_break_is_as_long_as_the_clock_says() {
    let mut clock = clock(true);
    let mut device = Device::new(30.0);
    device.run(&mut clock, 200.0, jitter);
    device.taken += 102_400;
    device.taken += 64;
    let coming =
        Coming { position: device.position, count: 64, broken: true, arrival: device.arrival(0.002) };
    device.position += 64;
    let gap = clock.advance(coming);
    assert!(gap.abs_diff(102_400) < 60, "{gap} samples");
    device.run(&mut clock, 5.0, jitter);
    assert!(device.error(&clock).abs() < 0.001, "{}", device.error(&clock));
    assert!((clock.ppm().unwrap() - 30.0).abs() < 2.0, "the rate is still known");
}

#[test]
fn a_gap_of_known_length_is_believed() {
    let mut clock = clock(true);
    let mut device = Device::new(30.0);
    device.run(&mut clock, 200.0, jitter);
    assert_eq!(device.frame(&mut clock, 640, 0.004), 640);
    device.run(&mut clock, 5.0, jitter);
    assert!(device.error(&clock).abs() < 0.001);
}

#[test]
fn a_counter_that_claims_more_than_time_has_passed_is_not_believed() {
    let mut clock = clock(true);
    let mut device = Device::new(0.0);
    device.run(&mut clock, 200.0, jitter);
    device.position += 9000 * 64;
    let gap = device.frame(&mut clock, 0, 0.004);
    assert!(gap < 64, "{gap} samples");
    device.run(&mut clock, 5.0, jitter);
    assert!(device.error(&clock).abs() < 0.002, "{}", device.error(&clock));
}

#[test]
fn samples_that_vanish_unnoticed_become_a_gap() {
    let mut clock = clock(true);
    let mut device = Device::new(0.0);
    device.run(&mut clock, 200.0, jitter);
    device.taken += 2048;
    let mut gap = 0;
    for frame in 0..160 * 60 {
        gap += device.frame(&mut clock, 0, jitter(frame));
    }
    assert!(gap.abs_diff(2048) < 20, "{gap} samples");
    assert!(device.error(&clock).abs() < 0.002, "{}", device.error(&clock));
}

#[test]
fn a_program_that_is_no_device_is_taken_at_its_nominal_rate() {
    let mut clock = clock(true);
    for frame in 0..20_000u64 {
        let arrival = Arrival { at: Duration::from_secs_f64(1000.0 + frame as f64 * 1e-5), ahead: 0 };
        assert_eq!(
            clock.advance(Coming { position: frame * 64, count: 64, broken: false, arrival: Some(arrival) }),
            0
        );
    }
    assert!(matches!(clock.lattice, Lattice::Nominal { .. }));
}

#[test]
fn a_step_moves_utc_and_nothing_else() {
    let mut clock = Clock::new(RATE, true);
    let mut device = Device::new(0.0);
    clock.read(&Reading { monotonic: 1000.0, utc: 12.0, synchronised: false }, None);
    for frame in 0..1600 {
        device.frame(&mut clock, 0, jitter(frame));
    }
    assert!(!clock.plausible() && !clock.reference().is_synchronised());
    let before = clock.moved().unwrap();
    let now = device.moment(device.taken);
    let step = clock.read(&Reading { monotonic: now, utc: UTC + now - 1000.0, synchronised: true }, None);
    assert!((step.unwrap() - (UTC - 12.0)).abs() < 1e-3);
    let after = clock.moved().unwrap();
    assert_eq!(before.rate, after.rate);
    assert!(device.error(&clock).abs() < 0.001);
    assert!(clock.plausible() && clock.reference().is_synchronised());
}

#[test]
fn slewing_is_followed_in_small_steps() {
    let mut clock = clock(true);
    let mut device = Device::new(0.0);
    device.run(&mut clock, 20.0, jitter);
    let mut last = clock.moved().unwrap();
    for second in 1..=60 {
        for frame in 0..160 {
            device.frame(&mut clock, 0, jitter(frame));
        }
        let now = device.moment(device.taken);
        let utc = UTC + now - 1000.0 - 0.0005 * f64::from(second);
        assert_eq!(clock.read(&Reading { monotonic: now, utc, synchronised: true }, None), None);
        let map = clock.map.unwrap();
        let continued = last.unix_s + (map.sample - last.sample) / last.rate;
        assert!((map.unix_s - continued).abs() < 0.0011);
        last = map;
    }
    assert!((device.error(&clock) + 0.03).abs() < 0.002, "{}", device.error(&clock));
}
