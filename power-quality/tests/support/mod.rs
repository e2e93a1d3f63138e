// SPDX-License-Identifier: Apache-2.0
//! Closed-form signals and what the analyser says about them.
#![allow(dead_code, unreachable_pub)] // each test file uses its part
#![allow(clippy::unwrap_used)] // a failure here is the failure of the test

use std::f64::consts::{PI, SQRT_2};

use power_quality::{
    Aggregate, Analyzer, Config, Event, EventKind, Flicker, FlickerKind, Frequency, Gap, Interval,
    Measurement, NominalFrequency, Rvc, Window,
};

/// Resolution of the converter that signals are rounded to, in volts.
pub const LSB: f64 = 0.025;

/// A voltage in closed form. Time in seconds, amplitudes as RMS volts.
pub struct Signal {
    pub rate: f64,
    pub seconds: f64,
    pub volts: f64,
    /// Phase of the fundamental in cycles at a time.
    pub cycles: Box<dyn Fn(f64) -> f64>,
    /// Factor on everything at a time.
    pub envelope: Box<dyn Fn(f64) -> f64>,
    /// (order, RMS in % of the fundamental, phase in radians), locked to the fundamental.
    pub harmonics: Vec<(f64, f64, f64)>,
    /// (frequency in Hz, RMS volts), independent of the fundamental.
    pub tones: Vec<(f64, f64)>,
    pub dc: f64,
    /// RMS volts of white noise.
    pub noise: f64,
    pub lsb: f64,
}

impl Signal {
    pub fn new(seconds: f64) -> Self {
        Self {
            rate: 10_240.0,
            seconds,
            volts: 230.0,
            cycles: Box::new(|t| 50.0 * t),
            envelope: Box::new(|_| 1.0),
            harmonics: Vec::new(),
            tones: Vec::new(),
            dc: 0.0,
            noise: 0.0,
            lsb: LSB,
        }
    }

    pub fn frequency(mut self, hertz: f64) -> Self {
        self.cycles = Box::new(move |t| hertz * t);
        self
    }

    pub fn phase(mut self, hertz: f64, degrees: f64) -> Self {
        self.cycles = Box::new(move |t| hertz * t + degrees / 360.0);
        self
    }

    pub fn cycles(mut self, cycles: impl Fn(f64) -> f64 + 'static) -> Self {
        self.cycles = Box::new(cycles);
        self
    }

    pub fn volts(mut self, volts: f64) -> Self {
        self.volts = volts;
        self
    }

    pub fn rate(mut self, rate: f64) -> Self {
        self.rate = rate;
        self
    }

    pub fn envelope(mut self, envelope: impl Fn(f64) -> f64 + 'static) -> Self {
        self.envelope = Box::new(envelope);
        self
    }

    /// The voltage is `level` (1 = nominal) from `start` for `length` seconds.
    pub fn event(self, start: f64, length: f64, level: f64) -> Self {
        // Half a sample of tolerance would move the step; a nanosecond only absorbs rounding.
        self.envelope(move |t| if t >= start - 1e-9 && t < start + length - 1e-9 { level } else { 1.0 })
    }

    pub fn harmonic(mut self, order: usize, percent: f64) -> Self {
        self.harmonics.push((order as f64, percent, 0.3 * order as f64));
        self
    }

    pub fn tone(mut self, hertz: f64, volts: f64) -> Self {
        self.tones.push((hertz, volts));
        self
    }

    pub fn dc(mut self, volts: f64) -> Self {
        self.dc = volts;
        self
    }

    pub fn noise(mut self, volts: f64) -> Self {
        self.noise = volts;
        self
    }

    pub fn exact(mut self) -> Self {
        self.lsb = 0.0;
        self
    }

    pub fn samples(&self) -> Vec<f32> {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let count = (self.seconds * self.rate).round() as usize;
        (0..count)
            .map(|i| {
                let t = i as f64 / self.rate;
                let theta = 2.0 * PI * ((self.cycles)(t)).rem_euclid(1.0);
                let mut u = theta.sin();
                for &(order, percent, phase) in &self.harmonics {
                    u += percent / 100.0 * (order * theta + phase).sin();
                }
                u *= SQRT_2 * self.volts * (self.envelope)(t);
                for &(hertz, volts) in &self.tones {
                    u += SQRT_2 * volts * (2.0 * PI * hertz * t + 0.4).sin();
                }
                u += self.dc;
                if self.noise > 0.0 {
                    u += self.noise * random.gauss();
                }
                if self.lsb > 0.0 {
                    u = (u / self.lsb).round() * self.lsb;
                }
                u as f32
            })
            .collect()
    }

    pub fn config(&self, nominal: f64, frequency: NominalFrequency) -> Config {
        Config::new(self.rate, nominal, frequency)
    }

    /// Runs the analyser of a 230 V, 50 Hz channel over the signal.
    pub fn run(&self) -> Results {
        run(self.config(230.0, NominalFrequency::Hz50), &self.samples())
    }

    pub fn run_60(&self, nominal: f64) -> Results {
        run(self.config(nominal, NominalFrequency::Hz60), &self.samples())
    }
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    pub fn gauss(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (2.0 * PI * self.uniform()).cos()
    }
}

/// Everything the analyser handed out.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Results {
    pub windows: Vec<Window>,
    pub frequencies: Vec<Frequency>,
    pub aggregates: Vec<Aggregate>,
    pub flicker: Vec<Flicker>,
    pub events: Vec<Event>,
    pub starts: Vec<Event>,
    pub rvcs: Vec<Rvc>,
    pub gaps: Vec<Gap>,
    pub waveforms: Vec<Recorded>,
}

/// A [`power_quality::Waveform`] that owns its data.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    pub event_start_s: f64,
    pub start_s: f64,
    pub samples: Vec<f32>,
    pub rms: Vec<(f64, f32)>,
}

impl Results {
    pub fn take(&mut self, measurement: Measurement<'_>) {
        match measurement {
            Measurement::Window(w) => self.windows.push(*w),
            Measurement::Frequency(f) => self.frequencies.push(f),
            Measurement::Aggregate(a) => self.aggregates.push(*a),
            Measurement::Flicker(f) => self.flicker.push(f),
            Measurement::Event(e) => self.events.push(e),
            Measurement::EventStart(e) => self.starts.push(e),
            Measurement::Rvc(r) => self.rvcs.push(r),
            Measurement::Gap(g) => self.gaps.push(g),
            Measurement::Waveform(w) => {
                self.waveforms.push(Recorded {
                    event_start_s: w.event_start_s,
                    start_s: w.start_s,
                    samples: w.samples.to_vec(),
                    rms: w.rms.to_vec(),
                });
            }
        }
    }

    /// Whole windows only.
    pub fn whole(&self) -> impl Iterator<Item = &Window> {
        self.windows.iter().filter(|w| !w.partial)
    }

    pub fn of(&self, kind: EventKind) -> Vec<Event> {
        self.events.iter().filter(|e| e.kind == kind).copied().collect()
    }

    pub fn aggregates_of(&self, interval: Interval) -> Vec<Aggregate> {
        self.aggregates.iter().filter(|a| a.interval == interval).copied().collect()
    }

    pub fn flicker_of(&self, kind: FlickerKind) -> Vec<Flicker> {
        self.flicker.iter().filter(|f| f.kind == kind).copied().collect()
    }
}

pub fn run(config: Config, samples: &[f32]) -> Results {
    run_chunked(config, samples, || 2048)
}

pub fn run_chunked(config: Config, samples: &[f32], mut size: impl FnMut() -> usize) -> Results {
    let mut results = Results::default();
    let mut analyzer = Analyzer::new(config).unwrap();
    let mut rest = samples;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(size().clamp(1, rest.len()));
        rest = after;
        analyzer.push(chunk, &mut |m| results.take(m));
    }
    analyzer.finish(&mut |m| results.take(m));
    results
}

/// Collects deviations over many cases and fails once, with all of them and the worst margin of each quantity.
#[derive(Default)]
pub struct Checks {
    failures: Vec<String>,
    worst: std::collections::BTreeMap<&'static str, (f64, f64, String)>,
    count: usize,
}

impl Checks {
    pub fn near(&mut self, case: &str, what: &'static str, measured: f64, expected: f64, tolerance: f64) {
        self.count += 1;
        let off = (measured - expected).abs();
        let worst = self.worst.entry(what).or_insert((0.0, tolerance, String::new()));
        if off / tolerance > worst.0 / worst.1 || worst.2.is_empty() {
            *worst = (off, tolerance, case.to_string());
        }
        if off.is_nan() || off > tolerance {
            self.failures.push(format!("{case}: {what} {measured}, expected {expected} ± {tolerance}"));
        }
    }

    pub fn that(&mut self, case: &str, what: &str, holds: bool) {
        self.count += 1;
        if !holds {
            self.failures.push(format!("{case}: {what}"));
        }
    }

    /// Ends the collection; `--nocapture` shows the worst deviation of each quantity.
    #[track_caller]
    pub fn finish(self) {
        for (what, (off, tolerance, case)) in &self.worst {
            println!("{what}: worst {off:.3e} of {tolerance:.3e} at {case}");
        }
        println!("{} checks", self.count);
        assert!(
            self.failures.is_empty(),
            "{} of {} checks:\n{}",
            self.failures.len(),
            self.count,
            self.failures.join("\n")
        );
    }
}

/// Fails with the measured and the expected value.
#[track_caller]
pub fn near(what: &str, measured: f64, expected: f64, tolerance: f64) {
    assert!(
        (measured - expected).abs() <= tolerance,
        "{what}: measured {measured}, expected {expected} ± {tolerance}, off by {:e}",
        measured - expected
    );
}
