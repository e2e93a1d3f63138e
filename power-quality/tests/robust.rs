// SPDX-License-Identifier: Apache-2.0
//! What must hold for any input: no allocation after construction, no dependence on chunks, no panics, no NaN.
#![allow(clippy::unwrap_used)] // a failure here is the failure of the test

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use power_quality::{
    Analyzer, Config, Lamp, Measurement, NominalFrequency, Recording, Reference, Thresholds,
};
use proptest::prelude::*;
use support::{run, run_chunked, Random, Results, Signal};

/// Counts the allocations of the thread that asks for it, and how much it holds.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static HELD: Cell<i64> = const { Cell::new(0) };
}

// SAFETY: every call is handed to the system allocator unchanged; the counters are plain thread-local cells
// without destructor.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        HELD.with(|held| held.set(held.get() + layout.size() as i64));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.with(|held| held.set(held.get() - layout.size() as i64));
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn everything(rate: f64) -> Config {
    let mut config = Config::new(rate, 230.0, NominalFrequency::Hz50);
    config.signalling = Some(175.0);
    config.recording = Some(Recording { before_s: 0.1, after_s: 0.3 });
    config.converter_limits = Some((-400.0, 400.0));
    config.harmonic_window_s = 5.0;
    config.reference = Reference::Sliding;
    config
}

/// Twenty-five seconds with every kind of result.
fn eventful() -> Vec<f32> {
    Signal::new(25.0)
        .frequency(49.87)
        .harmonic(5, 7.0)
        .tone(175.0, 3.0)
        .noise(0.5)
        .envelope(|t| match t {
            t if (2.0..2.1).contains(&t) => 0.4,
            t if (3.0..3.5).contains(&t) => 1.2,
            t if (5.0..6.0).contains(&t) => 0.0,
            t if t > 12.0 => 0.96,
            _ => 1.0,
        })
        .samples()
}

#[test]
fn nothing_is_allocated_after_construction() {
    let samples = eventful();
    let mut analyzer = Analyzer::new(everything(10_240.0)).unwrap();
    let (mut results, mut kinds) = (0u32, [0u32; 9]);
    let mut count = |measurement: Measurement<'_>| {
        results += 1;
        kinds[match measurement {
            Measurement::Window(_) => 0,
            Measurement::Frequency(_) => 1,
            Measurement::Aggregate(_) => 2,
            Measurement::Flicker(_) => 3,
            Measurement::Event(_) => 4,
            Measurement::Rvc(_) => 5,
            Measurement::Gap(_) => 6,
            Measurement::EventStart(_) => 7,
            Measurement::Waveform(_) => 8,
        }] += 1;
    };
    let before = ALLOCATIONS.with(Cell::get);
    for chunk in samples[..200_000].chunks(64) {
        analyzer.push(chunk, &mut count);
    }
    analyzer.gap(100, &mut count);
    analyzer.push(&samples[200_100..], &mut count);
    analyzer.gap(1_000_000, &mut count);
    analyzer.push(&samples, &mut count);
    assert!(analyzer.live().window.is_some());
    analyzer.finish(&mut count);
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0);
    assert!(results > 200);
    // Everything but flicker, which needs ten minutes.
    assert!(kinds.iter().enumerate().all(|(kind, &count)| count > 0 || kind == 3), "{kinds:?}");
}

#[test]
fn the_state_is_under_a_megabyte_without_waveforms() {
    for (rate, nominal) in [
        (1_000.0, NominalFrequency::Hz50),
        (10_240.0, NominalFrequency::Hz50),
        (100_000.0, NominalFrequency::Hz50),
        (100_000.0, NominalFrequency::Hz60),
    ] {
        let before = HELD.with(Cell::get);
        let analyzer = Analyzer::new(Config::new(rate, 230.0, nominal)).unwrap();
        let held = HELD.with(Cell::get) - before + size_of_val(&analyzer) as i64;
        println!("{rate} Hz: {held} bytes");
        assert!(held < 1_000_000, "{rate} Hz: {held} bytes");
    }
}

#[test]
fn results_do_not_depend_on_chunks() {
    let samples = eventful();
    let whole = run_chunked(everything(10_240.0), &samples, || usize::MAX);
    assert!(whole.events.len() >= 4 && !whole.rvcs.is_empty() && !whole.waveforms.is_empty());
    let text = format!("{whole:?}");
    for size in [1usize, 7, 64, 2_048] {
        assert!(format!("{:?}", run_chunked(everything(10_240.0), &samples, || size)) == text, "{size}");
    }
    let mut random = Random(7);
    let sizes = move || (random.next() % 5_000) as usize + 1;
    assert!(format!("{:?}", run_chunked(everything(10_240.0), &samples, sizes)) == text, "random sizes");
}

#[test]
fn values_that_are_not_numbers_do_not_spread() {
    let mut samples = Signal::new(6.0).samples();
    samples[20_000] = f32::NAN;
    samples[20_500] = f32::INFINITY;
    samples[21_000] = f32::NEG_INFINITY;
    samples[21_500] = f32::MAX;
    let results = run(everything(10_240.0), &samples);
    for window in results.whole() {
        assert!(window.voltage.is_finite());
        if window.start_s > 3.0 {
            assert!((window.voltage - 230.0).abs() < 0.05, "{} {}", window.start_s, window.voltage);
        }
    }
}

#[test]
fn wrong_configurations_are_refused() {
    let good = Config::new(10_240.0, 230.0, NominalFrequency::Hz50);
    let thresholds = Thresholds::default();
    let bad = [
        Config { rate: 999.0, ..good },
        Config { rate: 100_001.0, ..good },
        Config { rate: f64::NAN, ..good },
        Config { nominal_voltage: 0.0, ..good },
        Config { nominal_voltage: f64::INFINITY, ..good },
        Config { thresholds: Thresholds { dip: 111.0, ..thresholds }, ..good },
        Config { thresholds: Thresholds { interruption: 95.0, ..thresholds }, ..good },
        Config { thresholds: Thresholds { hysteresis: 15.0, ..thresholds }, ..good },
        Config { thresholds: Thresholds { rvc: 0.0, ..thresholds }, ..good },
        Config { thresholds: Thresholds { swell: f64::NAN, ..thresholds }, ..good },
        Config { signalling: Some(4_900.0), ..good },
        Config { harmonic_window_s: 0.0, ..good },
        Config { harmonic_share: 101.0, ..good },
        Config { recording: Some(Recording { before_s: 100.0, after_s: 1.0 }), ..good },
    ];
    for config in bad {
        let error = Analyzer::new(config).unwrap_err();
        assert!(!error.to_string().is_empty());
    }
    assert!(Analyzer::new(good).is_ok());
    assert_eq!(Config::new(10_240.0, 120.0, NominalFrequency::Hz60).lamp, Lamp::V120);
}

fn finite(results: &Results) -> bool {
    let numbers = |text: String| !text.contains("NaN") && !text.contains("inf");
    numbers(format!("{results:?}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Any mixture of pieces, rates and gaps: finite results, increasing times, whole events.
    #[test]
    fn any_input_gives_sound_results(
        rate in 1_000.0f64..20_000.0,
        sixty in any::<bool>(),
        pieces in prop::collection::vec((0.0f32..600.0, 30.0f32..75.0, 0usize..8_000, any::<bool>(), 0u64..40_000), 1..6),
        chunk in 1usize..3_000,
    ) {
        let nominal = if sixty { NominalFrequency::Hz60 } else { NominalFrequency::Hz50 };
        let mut config = everything(rate);
        config.nominal_frequency = nominal;
        let mut analyzer = Analyzer::new(config).unwrap();
        let mut results = Results::default();
        for (peak, hertz, length, noisy, gap) in pieces {
            let mut random = Random(length as u64);
            let samples: Vec<f32> = (0..length)
                .map(|i| {
                    let noise = if noisy { 200.0 * random.gauss() as f32 } else { 0.0 };
                    peak * (std::f32::consts::TAU * hertz * i as f32 / rate as f32).sin() + noise
                })
                .collect();
            for chunk in samples.chunks(chunk) {
                analyzer.push(chunk, &mut |m| results.take(m));
            }
            if gap % 3 == 0 && gap > 0 {
                analyzer.gap(gap, &mut |m| results.take(m));
            }
        }
        analyzer.finish(&mut |m| results.take(m));
        prop_assert!(finite(&results), "{results:?}");
        for pair in results.windows.windows(2) {
            prop_assert!(pair[1].start_s >= pair[0].start_s);
        }
        for event in &results.events {
            prop_assert!(event.duration_s >= 0.0);
            prop_assert!(event.end_s.is_some() != event.open);
        }
        let dips_started = results.starts.iter().filter(|event| event.harmonic.is_none()).count();
        let dips_ended = results.events.iter().filter(|event| event.harmonic.is_none()).count();
        prop_assert_eq!(dips_started, dips_ended, "every event that began was reported once");
    }

    /// Any split of the same samples.
    #[test]
    fn any_chunks_give_the_same_bits(seed in any::<u64>()) {
        let samples = Signal::new(2.0).frequency(50.3).harmonic(7, 3.0).event(0.7, 0.3, 0.6).samples();
        let whole = run(everything(10_240.0), &samples);
        let mut random = Random(seed);
        let pieces = run_chunked(everything(10_240.0), &samples, move || (random.next() % 3_000) as usize + 1);
        let same = format!("{whole:?}") == format!("{pieces:?}");
        prop_assert!(same);
    }
}
