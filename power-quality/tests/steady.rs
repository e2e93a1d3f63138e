// SPDX-License-Identifier: Apache-2.0
//! Steady signals: voltage, frequency, harmonics, interharmonics, signalling (IEC 61000-4-30 5.1, 5.2, 5.7 to 5.10).
//!
//! Tolerances are a small part of class A: 0.005 % of the nominal voltage, 0.1 mHz, harmonics 0.5 % of reading.
#![allow(clippy::unwrap_used)] // a failure here is the failure of the test

mod support;

use power_quality::{Interval, NominalFrequency};
use support::{run, Checks, Results, Signal};

/// % of the nominal voltage.
const VOLTAGE: f64 = 0.005;
const FREQUENCY: f64 = 1e-4;
/// % of reading.
const HARMONIC: f64 = 0.5;

/// Every whole window and every 10 s value against the truth.
fn check(checks: &mut Checks, case: &str, results: &Results, nominal: f64, volts: f64, hertz: f64) {
    checks.that(case, "windows", results.whole().count() >= 3);
    for window in results.whole() {
        checks.near(
            case,
            "voltage (% Udin)",
            100.0 * window.voltage / nominal,
            100.0 * volts / nominal,
            VOLTAGE,
        );
        checks.near(case, "frequency (Hz)", window.frequency.unwrap_or(f64::NAN), hertz, FREQUENCY);
        checks.that(case, "unflagged", !window.flagged);
    }
    for ten in &results.frequencies {
        checks.near(case, "10 s frequency (Hz)", ten.frequency.unwrap_or(f64::NAN), hertz, FREQUENCY);
    }
}

#[test]
fn magnitude_from_10_to_150_percent() {
    let mut checks = Checks::default();
    for percent in [10.0, 20.0, 50.0, 80.0, 89.0, 100.0, 110.0, 120.0, 150.0] {
        let volts = 2.3 * percent;
        let results = Signal::new(4.0).volts(volts).run();
        for window in results.whole() {
            checks.near(
                &format!("{percent} %"),
                "voltage (% Udin)",
                100.0 * window.voltage / 230.0,
                percent,
                VOLTAGE,
            );
        }
    }
    checks.finish();
}

#[test]
fn frequency_range_of_50_hz() {
    let mut checks = Checks::default();
    for hertz in
        [42.5, 45.0, 47.0, 49.0, 49.3, 49.5, 49.7, 49.99, 50.0, 50.01, 50.05, 50.3, 51.0, 53.0, 55.0, 57.5]
    {
        let results = Signal::new(11.0).phase(hertz, 3.7 * hertz).run();
        checks.that(&hertz.to_string(), "one 10 s value", results.frequencies.len() == 1);
        check(&mut checks, &format!("{hertz} Hz"), &results, 230.0, 230.0, hertz);
    }
    checks.finish();
}

#[test]
fn frequency_range_of_60_hz() {
    let mut checks = Checks::default();
    for hertz in [51.0, 55.0, 58.0, 59.97, 60.0, 60.02, 62.0, 66.0, 69.0] {
        let results = Signal::new(11.0).volts(120.0).phase(hertz, 2.1 * hertz).run_60(120.0);
        check(&mut checks, &format!("{hertz} Hz"), &results, 120.0, 120.0, hertz);
    }
    checks.finish();
}

#[test]
fn frequency_beyond_the_range_is_still_followed() {
    let mut checks = Checks::default();
    for hertz in [38.0, 40.0, 60.0, 63.0] {
        let results = Signal::new(11.0).frequency(hertz).run();
        check(&mut checks, &format!("{hertz} Hz"), &results, 230.0, 230.0, hertz);
    }
    checks.finish();
}

#[test]
fn ten_seconds_exactly_are_enough_for_a_frequency() {
    let results = Signal::new(10.0).run();
    assert_eq!(results.frequencies.len(), 1);
    assert_eq!(results.whole().count(), 50);
    assert!(results.windows.iter().all(|window| !window.partial));
}

#[test]
fn sampling_rates_from_1_to_100_khz() {
    let mut checks = Checks::default();
    for rate in [
        1_000.0,
        1_200.0,
        1_601.332_475_178_746,
        2_048.0,
        3_200.0,
        6_400.0,
        8_000.0,
        12_800.0,
        30_707.244_140_625,
        50_000.0,
        100_000.0,
    ] {
        for hertz in [49.62, 50.0, 51.3] {
            let mut signal =
                Signal::new(3.0).rate(rate).phase(hertz, 100.0).harmonic(3, 5.0).harmonic(7, 2.0);
            signal.lsb = 0.0;
            let results = signal.run();
            let case = format!("{rate} Hz, {hertz} Hz");
            check(&mut checks, &case, &results, 230.0, 230.0 * (1.0f64 + 0.0025 + 0.0004).sqrt(), hertz);
            for window in results.whole() {
                let harmonics = window.harmonics.unwrap();
                let carried = ((0.45 * rate / 50.0) as usize).min(50);
                checks.that(&case, "orders the rate carries", harmonics.carried().len() == carried);
                checks.near(
                    &case,
                    "h3 (% of reading)",
                    100.0 * f64::from(harmonics.get(2).unwrap()) / 11.5,
                    100.0,
                    HARMONIC,
                );
                checks.near(
                    &case,
                    "h7 (% of reading)",
                    100.0 * f64::from(harmonics.get(6).unwrap()) / 4.6,
                    100.0,
                    HARMONIC,
                );
            }
        }
    }
    checks.finish();
}

#[test]
fn direct_current_counts_in_the_voltage_and_moves_no_crossing() {
    let mut checks = Checks::default();
    for (dc, hertz) in [(5.0, 50.0), (-23.0, 50.0), (5.0, 49.3), (-23.0, 57.5)] {
        let results = Signal::new(11.0).frequency(hertz).dc(dc).run();
        let volts = (230.0f64 * 230.0 + dc * dc).sqrt();
        check(&mut checks, &format!("{dc} V at {hertz} Hz"), &results, 230.0, volts, hertz);
    }
    checks.finish();
}

#[test]
fn single_harmonics_up_to_50_over_the_frequency_range() {
    let mut checks = Checks::default();
    let cases: Vec<(NominalFrequency, f64)> = [42.5, 49.3, 49.7, 50.0, 50.05, 50.3, 57.5]
        .into_iter()
        .map(|hertz| (NominalFrequency::Hz50, hertz))
        .chain([51.0, 59.9, 60.0, 69.0].into_iter().map(|hertz| (NominalFrequency::Hz60, hertz)))
        .collect();
    for (nominal, hertz) in cases {
        for order in [2usize, 3, 5, 7, 11, 13, 19, 23, 25, 31, 37, 40, 43, 47, 49, 50] {
            let percent = if order < 20 { 5.0 } else { 1.5 };
            let signal = Signal::new(1.0).phase(hertz, 11.0).harmonic(order, percent);
            let results = run(signal.config(230.0, nominal), &signal.samples());
            let case = format!("h{order} at {hertz} Hz");
            for window in results.whole() {
                let harmonics = window.harmonics.unwrap();
                let measured = 100.0 * f64::from(harmonics.get(order - 1).unwrap()) / 2.3 / percent;
                checks.near(&case, "harmonic (% of reading)", measured, 100.0, HARMONIC);
                let others =
                    (2..=50).filter(|&other| other != order).map(|other| harmonics.get(other - 1).unwrap());
                checks.near(&case, "other harmonics (V)", f64::from(others.fold(0.0, f32::max)), 0.0, 0.05);
                checks.near(&case, "fundamental (V)", window.fundamental.unwrap(), 230.0, 0.0115);
                let thd = if order <= 40 { percent } else { 0.0 };
                checks.near(&case, "THD (points)", window.thd.unwrap(), thd, 0.02);
            }
        }
    }
    checks.finish();
}

#[test]
fn all_limits_of_en_50160_at_once() {
    let mut checks = Checks::default();
    for hertz in [42.5, 49.3, 50.0, 50.05, 57.5] {
        let mut signal = Signal::new(3.7).frequency(hertz);
        let limits: Vec<(usize, f64)> = (2..=25)
            .filter_map(|order| Some((order, power_quality::en50160::CURRENT.harmonic(order)?)))
            .collect();
        for &(order, percent) in &limits {
            signal = signal.harmonic(order, percent);
        }
        let results = signal.run();
        let case = format!("{hertz} Hz");
        for window in results.whole() {
            for &(order, percent) in &limits {
                let measured = f64::from(window.harmonics.unwrap().get(order - 1).unwrap());
                checks.near(
                    &case,
                    "harmonic (% of reading)",
                    100.0 * measured / 2.3 / percent,
                    100.0,
                    HARMONIC,
                );
            }
            checks.near(&case, "frequency (Hz)", window.frequency.unwrap(), hertz, FREQUENCY);
        }
        let three_seconds = &results.aggregates_of(Interval::Cycles150)[0];
        let h5 = f64::from(three_seconds.harmonics.unwrap().get(4).unwrap());
        checks.near(&case, "150-cycle h5 (% of reading)", 100.0 * h5 / 13.8, 100.0, HARMONIC);
    }
    checks.finish();
}

#[test]
fn interharmonics_have_their_subgroup_for_10_and_12_cycles() {
    let mut checks = Checks::default();
    // A tone in the middle between orders n and n + 1 belongs to subgroup n alone.
    for (nominal, hertz) in [(NominalFrequency::Hz50, 50.0), (NominalFrequency::Hz60, 60.0)] {
        for order in [1usize, 2, 3, 7, 12, 24, 36, 49, 50] {
            let cycles = nominal.cycles() as f64;
            // Bins n·N + 2, the middle and n·N + N - 2.
            for bin in [2.0, cycles / 2.0, cycles - 2.0] {
                let tone = hertz * (order as f64 + bin / cycles);
                let signal = Signal::new(1.2).frequency(hertz).tone(tone, 2.4);
                let results = run(signal.config(230.0, nominal), &signal.samples());
                let case = format!("{tone} Hz at {hertz} Hz");
                for window in results.whole() {
                    let between = window.interharmonics.unwrap();
                    let measured = f64::from(between.get(order - 1).unwrap());
                    checks.near(&case, "interharmonic (% of reading)", 100.0 * measured / 2.4, 100.0, 4.0);
                    let near =
                        (1..=50).filter(|&other| other != order).map(|other| between.get(other - 1).unwrap());
                    checks.near(
                        &case,
                        "other interharmonics (V)",
                        f64::from(near.fold(0.0, f32::max)),
                        0.0,
                        0.12,
                    );
                }
            }
        }
    }
    checks.finish();
}

#[test]
fn a_tone_beside_a_harmonic_belongs_to_its_subgroup() {
    let mut checks = Checks::default();
    for tone in [145.0, 155.0] {
        let results = Signal::new(2.0).tone(tone, 5.0).run();
        for window in results.whole() {
            let h3 = f64::from(window.harmonics.unwrap().get(2).unwrap());
            checks.near(&tone.to_string(), "h3 (% of reading)", 20.0 * h3, 100.0, HARMONIC);
        }
    }
    checks.finish();
}

#[test]
fn signalling_voltage() {
    let mut checks = Checks::default();
    for (hertz, frequency) in [(175.0, 50.0), (178.0, 50.0), (316.67, 50.1), (1_342.0, 49.9), (425.0, 50.0)] {
        let signal = Signal::new(3.1).frequency(frequency).tone(hertz, 6.9);
        let mut config = signal.config(230.0, NominalFrequency::Hz50);
        config.signalling = Some(hertz);
        let results = run(config, &signal.samples());
        for window in results.whole() {
            // Four bins hold a tone between bins to a few per cent (5 % in class A).
            checks.near(
                &hertz.to_string(),
                "signalling (% of reading)",
                100.0 * window.signalling.unwrap() / 6.9,
                100.0,
                5.0,
            );
        }
        assert!(results.aggregates_of(Interval::Cycles150)[0].signalling.is_some());
    }
    checks.finish();
}

#[test]
fn noise_moves_windows_no_more_than_its_statistics() {
    let mut checks = Checks::default();
    let noise = 230.0 / 10f64.powf(30.0 / 20.0);
    let results = Signal::new(30.0).noise(noise).run();
    let volts = (230.0f64 * 230.0 + noise * noise).sqrt();
    for window in results.whole() {
        // Standard deviation of the RMS of 2048 samples: cross term of signal and noise.
        let sigma = 100.0 * noise / 230.0 / (2_048.0f64).sqrt();
        checks.near(
            "30 dB",
            "voltage (% Udin)",
            100.0 * window.voltage / 230.0,
            100.0 * volts / 230.0,
            0.02 + 4.5 * sigma,
        );
        checks.near("30 dB", "frequency (Hz)", window.frequency.unwrap(), 50.0, 0.010);
    }
    for ten in &results.frequencies {
        checks.near("30 dB", "10 s frequency (Hz)", ten.frequency.unwrap(), 50.0, 0.001);
    }
    assert!(results.events.is_empty());
    checks.finish();
}

#[test]
fn test_states_of_iec_62586_2() {
    // Testing state 1 to 3 in spirit: frequency, magnitude, distortion, interharmonic, flicker change together.
    let mut checks = Checks::default();
    for (state, hertz, volts, orders, tone) in [
        (1, 50.0, 230.0, vec![], None),
        (2, 49.0, 0.73 * 230.0 + 62.1, vec![(3usize, 10.0), (23, 5.0), (40, 1.0)], Some((112.7, 2.3))),
        (3, 51.0, 253.0, vec![(2, 1.5), (5, 5.0), (29, 5.0), (50, 1.0)], Some((178.5, 2.3))),
    ] {
        let mut signal = Signal::new(11.0).frequency(hertz).volts(volts);
        for &(order, percent) in &orders {
            signal = signal.harmonic(order, percent);
        }
        if let Some((hertz, volts)) = tone {
            signal = signal.tone(hertz, volts);
        }
        let results = signal.run();
        let case = format!("state {state}");
        let squares: f64 = orders.iter().map(|(_, percent)| (percent / 100.0 * volts).powi(2)).sum();
        let all = (volts * volts + squares + tone.map_or(0.0, |(_, volts)| volts * volts)).sqrt();
        for window in results.whole().skip(1) {
            checks.near(
                &case,
                "voltage (% Udin)",
                100.0 * window.voltage / 230.0,
                100.0 * all / 230.0,
                VOLTAGE,
            );
            for &(order, percent) in &orders {
                let measured = 100.0 * f64::from(window.harmonics.unwrap().get(order - 1).unwrap()) / volts;
                checks.near(&case, "harmonic (% of reading)", 100.0 * measured / percent, 100.0, HARMONIC);
            }
        }
        checks.near(
            &case,
            "10 s frequency (Hz)",
            results.frequencies[0].frequency.unwrap(),
            hertz,
            FREQUENCY,
        );
    }
    checks.finish();
}

#[test]
fn frequency_ramps_and_steps() {
    let mut checks = Checks::default();
    for slope in [-1.0, -0.1, 0.01, 0.1, 1.0] {
        // Rate of change from one second on.
        let results = Signal::new(9.0)
            .cycles(move |t| 50.0 * t + if t > 1.0 { 0.5 * slope * (t - 1.0) * (t - 1.0) } else { 0.0 })
            .run();
        for window in results.whole().filter(|window| window.start_s > 1.5 && window.start_s < 8.4) {
            let middle = window.start_s + window.duration_s / 2.0;
            let hertz = 50.0 + slope * (middle - 1.0);
            checks.near(&format!("{slope} Hz/s"), "frequency (Hz)", window.frequency.unwrap(), hertz, 5e-4);
            checks.near(&format!("{slope} Hz/s"), "voltage (% Udin)", window.voltage / 2.3, 100.0, 0.01);
        }
    }
    for (from, to) in [(50.0, 50.2), (50.0, 50.5), (50.0, 49.0), (51.0, 49.0), (49.0, 51.0)] {
        let results = Signal::new(14.0)
            .cycles(move |t| if t < 2.0 { from * t } else { from * 2.0 + to * (t - 2.0) })
            .run();
        let case = format!("{from} to {to} Hz");
        for window in results.whole().filter(|window| window.start_s + window.duration_s < 1.9) {
            checks.near(&case, "frequency before (Hz)", window.frequency.unwrap(), from, FREQUENCY);
        }
        for window in results.whole().filter(|window| window.start_s > 2.7) {
            checks.near(&case, "frequency after (Hz)", window.frequency.unwrap(), to, 2e-3);
            checks.near(&case, "voltage after (% Udin)", window.voltage / 2.3, 100.0, 0.01);
        }
        checks.that(&case, "no event", results.events.is_empty());
        // By definition: whole cycles of the ten seconds over their duration.
        let cycles = from * 2.0 + to * 8.0;
        checks.near(
            &case,
            "10 s frequency (Hz)",
            results.frequencies[0].frequency.unwrap(),
            cycles / 10.0,
            0.08,
        );
    }
    checks.finish();
}

#[test]
fn phase_jumps_cause_no_event_and_are_followed() {
    let mut checks = Checks::default();
    for degrees in [10.0, 30.0, 60.0, 90.0, 150.0, 180.0] {
        let results =
            Signal::new(5.0).cycles(move |t| 50.0 * t + if t < 2.0 { 0.0 } else { degrees / 360.0 }).run();
        let case = format!("{degrees} degrees");
        checks.that(&case, "no event", results.events.is_empty());
        for window in results.whole().filter(|window| window.start_s > 2.5) {
            checks.near(&case, "frequency (Hz)", window.frequency.unwrap(), 50.0, FREQUENCY);
            checks.near(&case, "voltage (% Udin)", window.voltage / 2.3, 100.0, VOLTAGE);
        }
    }
    checks.finish();
}
