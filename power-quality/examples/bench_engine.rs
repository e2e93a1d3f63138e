// SPDX-License-Identifier: Apache-2.0
//! Runs the full analysis over a signal with everything in it; measured from outside (tests/bench/engine.sh).
//!
//! `bench_engine SECONDS [FRAME [RATE]]`: samples are made before the analyser runs, so that the difference
//! between two lengths is the analyser's alone apart from the making; `SECONDS` 0 prints nothing.

use power_quality::{Analyzer, Config, Measurement, NominalFrequency, Recording};

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<f64>().unwrap_or(0.0));
    let seconds = arguments.next().unwrap_or(60.0);
    let frame = arguments.next().unwrap_or(64.0) as usize;
    let rate = arguments.next().unwrap_or(10_240.0);

    let mut config = Config::new(rate, 230.0, NominalFrequency::Hz50);
    config.signalling = Some(178.0);
    config.recording = Some(Recording { before_s: 0.2, after_s: 0.5 });
    let Ok(mut analyzer) = Analyzer::new(config) else { return };
    // One second of signal, repeated: 49.9 Hz would not repeat, 50 Hz with harmonics and a slow swing does.
    let second: Vec<f32> = (0..rate as usize)
        .map(|i| {
            let t = i as f64 / rate;
            let angle = 2.0 * std::f64::consts::PI * 50.0 * t;
            let swing = 1.0 + 0.002 * (2.0 * std::f64::consts::PI * 9.0 * t).sin();
            let harmonics =
                0.05 * (3.0 * angle).sin() + 0.04 * (5.0 * angle).sin() + 0.01 * (7.0 * angle).sin();
            (325.27 * swing * (angle.sin() + harmonics)) as f32
        })
        .collect();

    let (mut results, mut check) = (0u64, 0.0f64);
    let started = std::time::Instant::now();
    let mut samples = 0usize;
    while samples < (seconds * rate) as usize {
        for frame in second.chunks(frame) {
            analyzer.push(frame, &mut |measurement| {
                results += 1;
                if let Measurement::Window(window) = measurement {
                    check += window.voltage;
                }
            });
        }
        samples += second.len();
    }
    let elapsed = started.elapsed().as_secs_f64();
    println!(
        "{samples} samples, {results} results, check {check:.3}, {:.0} x real time",
        samples as f64 / rate / elapsed
    );
}
