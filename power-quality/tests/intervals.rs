// SPDX-License-Identifier: Apache-2.0
//! Windows, aggregates, ticks, gaps (IEC 61000-4-30 4.4 to 4.7).
#![allow(clippy::unwrap_used)] // a failure here is the failure of the test

mod support;

use power_quality::{Analyzer, FlickerKind, Interval, NominalFrequency, TimeMap};
use support::{near, run, Random, Results, Signal};

fn run_at(signal: &Signal, unix_s: f64) -> Results {
    let mut results = Results::default();
    let mut analyzer = Analyzer::new(signal.config(230.0, NominalFrequency::Hz50)).unwrap();
    analyzer.set_time(TimeMap { sample: 0.0, unix_s, rate: signal.rate });
    analyzer.push(&signal.samples(), &mut |m| results.take(m));
    analyzer.finish(&mut |m| results.take(m));
    assert_eq!(analyzer.origin_unix_s(), Some(unix_s));
    results
}

#[test]
fn windows_follow_each_other_without_gap() {
    for hertz in [49.2, 50.0, 50.7] {
        let results = Signal::new(9.0).phase(hertz, 200.0).run();
        near("first", results.windows[0].start_s, 0.0, 1e-9);
        for pair in results.windows.windows(2) {
            near("next", pair[1].start_s, pair[0].start_s + pair[0].duration_s, 1e-9);
        }
        for window in results.whole() {
            near("length", window.duration_s, 10.0 / hertz, 1e-6);
        }
    }
}

#[test]
fn a_tick_overlaps_windows_and_three_second_intervals() {
    // 49.7 Hz: no window ends at the tick 10 s after the start.
    let results = run_at(&Signal::new(30.0).frequency(49.7), 590.0);
    let overlapping: Vec<_> = results.windows.iter().filter(|window| window.overlap).collect();
    let [last] = overlapping[..] else { panic!("{}", overlapping.len()) };
    assert!(last.start_s < 10.0 && last.start_s + last.duration_s > 10.0);
    let next = results.windows.iter().find(|window| window.start_s > last.start_s).unwrap();
    near("resynchronised", next.start_s, 10.0, 1e-6);

    let threes = results.aggregates_of(Interval::Cycles150);
    let running =
        threes.iter().position(|three| three.start_s < 10.0 && three.start_s + three.duration_s > 10.0);
    let running = threes[running.unwrap()];
    near("running one finishes", running.duration_s, 150.0 / 49.7, 1e-6);
    assert!(threes.iter().any(|three| (three.start_s - 10.0).abs() < 1e-6), "a new one begins at the tick");

    let tens = results.aggregates_of(Interval::TenMinutes);
    assert_eq!(tens.len(), 2);
    near("ten minutes end at the tick", tens[0].start_s + tens[0].duration_s, 10.0, 1e-9);
    assert!(tens[0].partial && tens[1].partial);
    near("voltage", tens[0].voltage, 230.0, 0.0115);
}

#[test]
fn a_window_that_ends_at_the_tick_overlaps_nothing() {
    let results = run_at(&Signal::new(20.0), 590.0);
    assert!(results.windows.iter().all(|window| !window.overlap));
    assert!(results.windows.iter().any(|window| (window.start_s - 10.0).abs() < 1e-9));
    assert_eq!(results.whole().count(), 100);
}

#[test]
fn minutes_and_hours_of_utc() {
    // One 10-minute interval from tick to tick, flicker with it; the two hours end with it, incomplete.
    let signal = Signal::new(612.0).rate(2_000.0).frequency(50.02);
    let results = run_at(&signal, 7_200.0 * 11.0 - 606.0);
    let tens = results.aggregates_of(Interval::TenMinutes);
    assert_eq!(tens.iter().map(|ten| ten.partial).collect::<Vec<_>>(), [true, false, true]);
    near("start", tens[1].start_s, 6.0, 1e-9);
    near("length", tens[1].duration_s, 600.0, 1e-6);
    let twos = results.aggregates_of(Interval::TwoHours);
    assert_eq!(twos.len(), 1);
    assert!(twos[0].partial);
    near("two hours end", twos[0].start_s + twos[0].duration_s, 606.0, 1e-6);
    let pst = results.flicker_of(FlickerKind::Pst);
    assert_eq!(pst.len(), 1);
    near("Pst", pst[0].start_s, 6.0, 1e-9);
    assert!(results.flicker_of(FlickerKind::Plt).is_empty());
    // 10 s intervals of the clock: from 6 s on.
    assert_eq!(results.frequencies.len(), 60);
    near("first 10 s", results.frequencies[0].start_s, 6.0, 1e-9);
}

#[test]
fn without_utc_the_first_sample_is_a_tick() {
    let results = Signal::new(600.0).rate(2_000.0).run();
    let tens = results.aggregates_of(Interval::TenMinutes);
    assert_eq!(tens.len(), 1);
    assert!(!tens[0].partial && !tens[0].flagged);
    assert_eq!((tens[0].start_s, tens[0].duration_s), (0.0, 600.0));
    assert_eq!(results.flicker_of(FlickerKind::Pst).len(), 1);
    assert_eq!(results.frequencies.len(), 60);
    assert_eq!(results.aggregates_of(Interval::Cycles150).len(), 200);
}

#[test]
fn ten_minutes_are_complete_even_if_their_last_window_is_not() {
    for (hertz, unix_s) in [(49.93, 0.0), (50.013, 1_795_170_000.0)] {
        let signal = Signal::new(600.0).rate(2_000.0).frequency(hertz);
        let results = run_at(&signal, unix_s);
        let tens = results.aggregates_of(Interval::TenMinutes);
        assert_eq!(tens.len(), 1, "{hertz}");
        assert!(!tens[0].partial, "{hertz}");
        assert_eq!(results.flicker_of(FlickerKind::Pst).len(), 1, "{hertz}");
        assert_eq!(results.frequencies.len(), 60, "{hertz}");
    }
}

#[test]
#[ignore = "two hours of signal: make test-long"]
fn two_hours_hold_twelve_ten_minute_intervals() {
    let signal =
        Signal::new(7_200.0)
            .rate(2_000.0)
            .frequency(50.013)
            .envelope(|t| if t < 3_600.0 { 1.0 } else { 0.96 });
    let results = signal.run();
    assert_eq!(results.aggregates_of(Interval::TenMinutes).len(), 12);
    let twos = results.aggregates_of(Interval::TwoHours);
    assert_eq!(twos.len(), 1);
    assert!(!twos[0].partial);
    near("voltage", twos[0].voltage, 230.0 * ((1.0 + 0.96f64 * 0.96) / 2.0).sqrt(), 0.0115);
    near("lowest", twos[0].voltage_min, 220.8, 0.01);
    near("highest", twos[0].voltage_max, 230.0, 0.01);
    let plt = results.flicker_of(FlickerKind::Plt);
    assert_eq!(plt.len(), 1);
    let cubes: f64 = results.flicker_of(FlickerKind::Pst).iter().map(|pst| pst.value.powi(3)).sum();
    near("Plt", plt[0].value, (cubes / 12.0).cbrt(), 1e-12);
    assert_eq!(results.frequencies.len(), 720);
}

#[test]
fn aggregates_are_roots_of_mean_squares() {
    let results = Signal::new(3.0).envelope(|t| if t < 1.0 { 1.0 } else { 0.95 }).run();
    let three = results.aggregates_of(Interval::Cycles150)[0];
    let squares: f64 = results.whole().map(|window| window.voltage * window.voltage).sum();
    near("voltage", three.voltage, (squares / 15.0).sqrt(), 1e-9);
    near("lowest", three.voltage_min, 218.5, 0.01);
    near("highest", three.voltage_max, 230.0, 0.01);
}

#[test]
fn the_true_sampling_rate_makes_times_and_frequency_true() {
    // The converter runs 100 ppm fast: 50 Hz look like 49.995 Hz to the nominal rate.
    let rate = 10_240.0 * 1.000_1;
    let signal = Signal::new(11.0).rate(rate);
    let mut results = Results::default();
    let mut analyzer = Analyzer::new(Signal::new(1.0).config(230.0, NominalFrequency::Hz50)).unwrap();
    analyzer.set_time(TimeMap { sample: 0.0, unix_s: 1_000_000_200.0, rate });
    analyzer.push(&signal.samples(), &mut |m| results.take(m));
    for window in results.whole() {
        near("frequency", window.frequency.unwrap(), 50.0, 1e-4);
        near("length", window.duration_s, 0.2, 1e-6);
    }
    near("10 s", results.frequencies[0].frequency.unwrap(), 50.0, 1e-4);
}

#[test]
fn utc_that_comes_later_moves_the_ticks() {
    let signal = Signal::new(40.0);
    let samples = signal.samples();
    let mut results = Results::default();
    let mut analyzer = Analyzer::new(signal.config(230.0, NominalFrequency::Hz50)).unwrap();
    let (before, after) = samples.split_at(15 * 10_240);
    analyzer.push(before, &mut |m| results.take(m));
    // Sample 0 was 577 s into ten minutes of UTC: the tick comes at 23 s.
    analyzer.set_time(TimeMap { sample: 15.0 * 10_240.0, unix_s: 600_592.0, rate: 10_240.0 });
    analyzer.push(after, &mut |m| results.take(m));
    analyzer.finish(&mut |m| results.take(m));
    let tens = results.aggregates_of(Interval::TenMinutes);
    near("tick", tens[0].start_s + tens[0].duration_s, 8.0 + 15.0, 1e-6);
    assert!(tens.iter().all(|ten| ten.partial));
    assert!(results.flicker.is_empty(), "no severity of incomplete ten minutes");
}

#[test]
fn a_clock_that_is_corrected_every_second_loses_no_tick() {
    // The converter runs 40 ppm slow, the estimate of UTC is off by up to 3 ms, anew each second.
    for seed in 0..6 {
        let rate = 2_000.0 * (1.0 - 40e-6);
        let signal = Signal::new(70.0).rate(rate).frequency(50.02);
        let mut random = Random(seed);
        let mut results = Results::default();
        let mut analyzer =
            Analyzer::new(Signal::new(1.0).rate(2_000.0).config(230.0, NominalFrequency::Hz50)).unwrap();
        let unix_s = 1_795_170_000.0 - 35.0 + random.uniform();
        for (second, samples) in signal.samples().chunks(1_999).enumerate() {
            let sample = (second * 1_999) as f64;
            let error = 0.006 * (random.uniform() - 0.5);
            analyzer.set_time(TimeMap { sample, unix_s: unix_s + sample / rate + error, rate });
            analyzer.push(samples, &mut |m| results.take(m));
        }
        analyzer.finish(&mut |m| results.take(m));
        let tens = results.aggregates_of(Interval::TenMinutes);
        assert_eq!(tens.len(), 2, "{seed}");
        near("tick", tens[1].start_s, 1_795_170_000.0 - unix_s, 0.02);
        let starts: Vec<f64> = results.frequencies.iter().map(|ten| ten.start_s).collect();
        assert!((6..=7).contains(&starts.len()), "{starts:?}");
        assert!(starts.windows(2).all(|pair| (pair[1] - pair[0] - 10.0).abs() < 0.01), "{starts:?}");
        for ten in &results.frequencies {
            near("frequency", ten.frequency.unwrap(), 50.02, 1e-4);
        }
    }
}

#[test]
fn a_clock_that_steps_by_hours_finds_the_next_tick() {
    let signal = Signal::new(60.0);
    let samples = signal.samples();
    let mut results = Results::default();
    let mut analyzer = Analyzer::new(signal.config(230.0, NominalFrequency::Hz50)).unwrap();
    analyzer.set_time(TimeMap { sample: 0.0, unix_s: 100.0, rate: 10_240.0 });
    let (before, after) = samples.split_at(20 * 10_240);
    analyzer.push(before, &mut |m| results.take(m));
    analyzer.set_time(TimeMap { sample: 20.0 * 10_240.0, unix_s: 1_795_169_985.0, rate: 10_240.0 });
    analyzer.push(after, &mut |m| results.take(m));
    analyzer.finish(&mut |m| results.take(m));
    let tens = results.aggregates_of(Interval::TenMinutes);
    assert_eq!(tens.len(), 2);
    near("tick", analyzer.origin_unix_s().unwrap() + tens[1].start_s, 1_795_170_000.0, 1e-3);
    assert!(tens.iter().all(|ten| ten.partial));
}

#[test]
fn a_short_gap_is_flagged_and_nothing_else() {
    for hertz in [50.0, 49.3] {
        for missing in [1usize, 64, 640, 6_400] {
            let signal = Signal::new(8.0).frequency(hertz);
            let samples = signal.samples();
            let mut results = Results::default();
            let mut analyzer = Analyzer::new(signal.config(230.0, NominalFrequency::Hz50)).unwrap();
            analyzer.push(&samples[..30_000], &mut |m| results.take(m));
            analyzer.gap(missing as u64, &mut |m| results.take(m));
            analyzer.push(&samples[30_000 + missing..], &mut |m| results.take(m));
            analyzer.finish(&mut |m| results.take(m));
            assert_eq!(results.gaps.len(), 1);
            assert_eq!(results.gaps[0].samples, missing as u64);
            assert!(results.events.is_empty(), "{missing}: {:?}", results.events);
            let (from, to) = (30_000.0 / 10_240.0, (30_000 + missing) as f64 / 10_240.0);
            for window in results.whole() {
                let end = window.start_s + window.duration_s;
                // A single sample at a window's edge belongs to either side.
                let clear = end < from - 2e-4 || window.start_s > to + 2e-4;
                assert!(window.flagged != clear || missing == 1, "{missing} {}", window.start_s);
                near("voltage", window.voltage, 230.0, 0.05);
                // Within the gap nothing was measured.
                if let Some(frequency) = window.frequency {
                    near("frequency", frequency, hertz, 0.002);
                }
            }
        }
    }
}

#[test]
fn after_a_long_gap_everything_starts_anew() {
    let signal = Signal::new(60.0);
    let samples = signal.samples();
    let mut results = Results::default();
    let mut analyzer = Analyzer::new(signal.config(230.0, NominalFrequency::Hz50)).unwrap();
    analyzer.push(&samples[..50_000], &mut |m| results.take(m));
    analyzer.gap(102_400, &mut |m| results.take(m));
    analyzer.push(&samples[152_400..], &mut |m| results.take(m));
    analyzer.finish(&mut |m| results.take(m));
    assert!(results.events.is_empty());
    let resumed = results.windows.iter().find(|window| window.start_s > 10.0).unwrap();
    near("resumed", resumed.start_s, 152_400.0 / 10_240.0, 1e-9);
    for window in results.whole() {
        near("voltage", window.voltage, 230.0, 0.0115);
    }
    assert!(results.aggregates_of(Interval::TenMinutes).iter().all(|ten| ten.partial));
}

#[test]
fn an_event_before_a_long_gap_is_not_lost() {
    let signal = Signal::new(20.0).envelope(|t| if (2.0..12.0).contains(&t) { 0.5 } else { 1.0 });
    let samples = signal.samples();
    let mut results = Results::default();
    let mut analyzer = Analyzer::new(signal.config(230.0, NominalFrequency::Hz50)).unwrap();
    analyzer.push(&samples[..30_720], &mut |m| results.take(m));
    analyzer.gap(81_920, &mut |m| results.take(m));
    analyzer.push(&samples[30_720 + 81_920..], &mut |m| results.take(m));
    analyzer.finish(&mut |m| results.take(m));
    let [dip] = results.events[..] else { panic!("{:?}", results.events) };
    near("start", dip.start_s, 1.99, 1e-3);
    near("end", dip.end_s.unwrap(), 12.02, 0.011);
}

#[test]
fn clipped_samples_are_counted_and_flag_their_window() {
    let signal = Signal::new(2.0).volts(240.0);
    let mut config = signal.config(230.0, NominalFrequency::Hz50);
    config.converter_limits = Some((-330.0, 330.0));
    let samples: Vec<f32> = signal.samples().into_iter().map(|u| u.clamp(-330.0, 330.0)).collect();
    let results = run(config, &samples);
    let clipped = samples[..2_048].iter().filter(|u| u.abs() >= 330.0).count();
    assert!(clipped > 100);
    near("clipped", f64::from(results.windows[0].clipped), clipped as f64, 1.0);
    assert!(results.whole().all(|window| window.flagged));
    let clean = run(config, &Signal::new(2.0).samples());
    assert!(clean.whole().all(|window| window.clipped == 0 && !window.flagged));
}

#[test]
fn less_than_a_window_gives_no_window() {
    // Four cycles of 60 Hz at 30.7 kHz.
    let mut signal =
        Signal::new(2_048.0 / 30_707.244).rate(30_707.244).frequency(59.97).volts(348.9).harmonic(5, 1.3);
    signal.lsb = 0.0;
    let results = signal.run_60(347.0);
    assert!(results.windows.is_empty() && results.events.is_empty() && results.aggregates.is_empty());
}

#[test]
fn the_rest_behind_the_last_window_is_a_partial_one() {
    let results = Signal::new(0.55).run();
    let [.., whole, rest] = results.windows[..] else { panic!("{}", results.windows.len()) };
    assert!(!whole.partial && rest.partial);
    near("start", rest.start_s, whole.start_s + whole.duration_s, 1e-6);
    near("voltage", rest.voltage, whole.voltage, 0.01);
}

#[test]
fn next_to_nothing_gives_nothing() {
    for count in [0usize, 1, 2, 10, 100, 200] {
        let results = Signal::new(count as f64 / 10_240.0).run();
        assert!(results.windows.is_empty(), "{count}");
        assert!(results.events.is_empty(), "{count}: {:?}", results.events);
    }
}
