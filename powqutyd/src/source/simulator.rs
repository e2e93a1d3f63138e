// SPDX-License-Identifier: Apache-2.0
//! A grid made of arithmetic: the same seed and script give the same samples, bit for bit.

use super::script::{Disturbance, Effect, Script};
use std::f64::consts::{SQRT_2, TAU};

/// Produces the voltage of a [`Script`], sample after sample.
pub struct Simulator {
    script: Script,
    rate: f64,
    nominal_voltage: f64,
    voltage: f64,
    frequency: f64,
    /// Phase of the fundamental in turns.
    phase: f64,
    sample: u64,
    noise: Random,
    /// Index of the next timeline entry and how often the timeline has started over.
    next: usize,
    round: u64,
    active: Vec<Active>,
    random: RandomDisturbances,
    wander: Wander,
}

/// A disturbance on the sample axis.
#[derive(Debug, Clone, Copy)]
struct Active {
    start: u64,
    end: u64,
    effect: Effect,
}

/// What [`Simulator::fill`] produced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Produced {
    /// All samples are there.
    Samples,
    /// None of them is: a `gap` covers the middle of the block.
    Nothing,
}

/// Random disturbances and repeated timelines are looked up this often; no event starts between two blocks.
const MOST_ACTIVE: usize = 64;

impl Simulator {
    /// A grid of `nominal_voltage` (V) and `nominal_frequency` (Hz) sampled at `rate` (Hz).
    #[must_use]
    pub fn new(script: Script, rate: f64, nominal_voltage: f64, nominal_frequency: f64) -> Self {
        let mut seeds = Random::new(script.seed);
        Self {
            rate,
            nominal_voltage,
            voltage: script.voltage.unwrap_or(nominal_voltage),
            frequency: script.frequency.unwrap_or(nominal_frequency),
            phase: 0.0,
            sample: 0,
            noise: Random::new(seeds.next()),
            next: 0,
            round: 0,
            active: Vec::with_capacity(MOST_ACTIVE),
            random: RandomDisturbances::new(Random::new(seeds.next()), script.random_per_hour),
            wander: Wander::new(&mut seeds),
            script,
        }
    }

    /// Writes the next samples (V); when they are lost in a gap, `volts` is left as it was.
    pub fn fill(&mut self, volts: &mut [f32]) -> Produced {
        let (first, end) = (self.sample, self.sample + volts.len() as u64);
        self.active.retain(|active| active.end > first);
        self.schedule(end);
        let middle = first + volts.len() as u64 / 2;
        let lost = self.active.iter().any(|active| {
            matches!(active.effect, Effect::Gap) && (active.start..active.end).contains(&middle)
        });
        let drift = if self.script.wander { self.wander.at(first as f64 / self.rate) } else { (0.0, 0.0) };
        for volt in volts.iter_mut() {
            let value = self.next_sample(drift);
            if !lost {
                *volt = value;
            }
        }
        if lost {
            Produced::Nothing
        } else {
            Produced::Samples
        }
    }

    fn next_sample(&mut self, (voltage_drift, frequency_drift): (f64, f64)) -> f32 {
        let mut frequency = self.frequency + frequency_drift;
        let mut level = self.voltage * (1.0 + voltage_drift);
        let mut extra = 0.0;
        for active in &self.active {
            if !(active.start..active.end).contains(&self.sample) {
                continue;
            }
            match active.effect {
                Effect::Level(percent) => level = self.nominal_voltage * percent / 100.0,
                Effect::Frequency(hertz) => frequency = hertz + frequency_drift,
                Effect::Harmonic(order, percent) => extra += harmonic(self.phase, order, percent),
                Effect::Gap => {}
            }
        }
        let steady: f64 =
            self.script.harmonics.iter().map(|&(n, percent)| harmonic(self.phase, n, percent)).sum();
        let shape = (TAU * self.phase).sin() + steady + extra;
        let mut volts = SQRT_2 * level * shape;
        if self.script.noise > 0.0 {
            volts += self.script.noise * self.noise.gaussian();
        }
        self.phase += frequency / self.rate;
        self.phase -= self.phase.floor();
        self.sample += 1;
        volts as f32
    }

    /// Puts everything that begins before sample `end` on the active list.
    fn schedule(&mut self, end: u64) {
        while self.active.len() < MOST_ACTIVE {
            let Some(entry) = self.script.timeline.get(self.next) else {
                match self.script.repeat {
                    Some(_) if !self.script.timeline.is_empty() => {
                        self.next = 0;
                        self.round += 1;
                        continue;
                    }
                    _ => break,
                }
            };
            let shift = self.script.repeat.unwrap_or(0.0) * self.round as f64;
            let active = on_sample_axis(entry, shift, self.rate);
            if active.start >= end {
                break;
            }
            self.active.push(active);
            self.next += 1;
        }
        while self.active.len() < MOST_ACTIVE {
            let Some(disturbance) = self.random.before(end as f64 / self.rate) else { break };
            self.active.push(on_sample_axis(&disturbance, 0.0, self.rate));
        }
    }
}

fn on_sample_axis(disturbance: &Disturbance, shift: f64, rate: f64) -> Active {
    let start = ((disturbance.start + shift) * rate).round() as u64;
    let end = ((disturbance.start + shift + disturbance.length) * rate).round() as u64;
    Active { start, end, effect: disturbance.effect }
}

/// A harmonic in phase with the fundamental's rising zero crossing, relative to its amplitude.
fn harmonic(phase: f64, order: u8, percent: f64) -> f64 {
    percent / 100.0 * (TAU * phase * f64::from(order)).sin()
}

/// Disturbances of random kind, depth and length with exponentially distributed distances.
struct RandomDisturbances {
    random: Random,
    mean_distance: f64,
    next_start: f64,
}

impl RandomDisturbances {
    fn new(random: Random, per_hour: f64) -> Self {
        let mean_distance = if per_hour > 0.0 { 3600.0 / per_hour } else { f64::INFINITY };
        let mut this = Self { random, mean_distance, next_start: 0.0 };
        this.advance(0.0);
        this
    }

    fn advance(&mut self, from: f64) {
        // Never zero, so that an infinite distance stays one.
        let distance = (-(1.0 - self.random.unit()).ln()).max(1e-9);
        self.next_start = from + self.mean_distance * distance;
    }

    fn before(&mut self, end: f64) -> Option<Disturbance> {
        if self.next_start >= end {
            return None;
        }
        let start = self.next_start;
        let (percent, longest) = match self.random.unit() {
            kind if kind < 0.7 => (20.0 + 68.0 * self.random.unit(), 1.5_f64),
            kind if kind < 0.9 => (112.0 + 18.0 * self.random.unit(), 1.0),
            _ => (4.0 * self.random.unit(), 3.0),
        };
        // Short ones are the most common on a real grid.
        let length = 0.02 * (longest / 0.02).powf(self.random.unit());
        self.advance(start + length);
        Some(Disturbance { start, length, effect: Effect::Level(percent) })
    }
}

/// Sums of slow sines: at most 1 % of the voltage and 30 mHz.
struct Wander {
    phases: [f64; 6],
}

impl Wander {
    fn new(random: &mut Random) -> Self {
        Self { phases: std::array::from_fn(|_| random.unit()) }
    }

    /// Relative voltage drift and frequency drift in Hz, `seconds` after the start.
    fn at(&self, seconds: f64) -> (f64, f64) {
        let wave = |index: usize, period: f64| (TAU * (seconds / period + self.phases[index])).sin();
        let voltage = 0.005 * wave(0, 613.0) + 0.003 * wave(1, 97.0) + 0.001 * wave(2, 13.0);
        let frequency = 0.015 * wave(3, 421.0) + 0.010 * wave(4, 61.0) + 0.003 * wave(5, 11.0);
        (voltage, frequency)
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Mean 0, variance 1: the sum of four 16-bit uniforms, cheap and close enough for noise.
    fn gaussian(&mut self) -> f64 {
        let bits = self.next();
        let sum: u64 = (0..4).map(|part| (bits >> (16 * part)) & 0xffff).sum();
        // The sum has mean 2 * 65535 and variance 4 * (65536^2 - 1) / 12.
        (sum as f64 - 131_070.0) / 37_837.227
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: f64 = 10_240.0;

    fn samples(script: &str, seconds: f64, block: usize) -> Vec<f32> {
        let mut simulator = Simulator::new(Script::parse(script).unwrap(), RATE, 230.0, 50.0);
        let mut volts = vec![0.0; (seconds * RATE) as usize];
        for block in volts.chunks_mut(block) {
            simulator.fill(block);
        }
        volts
    }

    fn rms(volts: &[f32]) -> f64 {
        (volts.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / volts.len() as f64).sqrt()
    }

    #[test]
    fn a_dip_has_its_depth_place_and_length() {
        let volts = samples("at 1s dip 40 for 100ms", 2.0, 64);
        let at = |from: f64, to: f64| rms(&volts[(from * RATE) as usize..(to * RATE) as usize]);
        assert!((at(0.0, 1.0) - 230.0).abs() < 0.01);
        assert!((at(1.0, 1.1) - 92.0).abs() < 0.01);
        assert!((at(1.1, 2.0) - 230.0).abs() < 0.01);
    }

    #[test]
    fn blocks_do_not_matter_and_seeds_do() {
        let script = "seed 3\nnoise 1\nrandom 3600\nharmonic 5 3\nat 1s swell 115 for 200ms\nrepeat 2s";
        // A wandering grid drifts per block, so it is left out here.
        assert_eq!(samples(script, 5.0, 64), samples(script, 5.0, 1000));
        assert_ne!(samples(script, 5.0, 64), samples(&script.replace("seed 3", "seed 4"), 5.0, 64));
    }

    #[test]
    fn a_timeline_repeats() {
        let volts = samples("at 500ms interruption for 100ms\nrepeat 1s", 4.0, 64);
        for round in 0..4 {
            let from = ((f64::from(round) + 0.5) * RATE) as usize;
            assert!(rms(&volts[from..from + 1024]) < 0.01, "round {round}");
            assert!(rms(&volts[from + 1024..from + 2048]) > 225.0, "round {round}");
        }
    }

    #[test]
    fn noise_has_its_rms() {
        let volts = samples("voltage 0\nnoise 2", 2.0, 64);
        assert!((rms(&volts) - 2.0).abs() < 0.05, "{}", rms(&volts));
    }

    #[test]
    fn a_gap_yields_nothing() {
        let script = Script::parse("at 1s gap for 100ms").unwrap();
        let mut simulator = Simulator::new(script, RATE, 230.0, 50.0);
        let mut frame = [0.0; 64];
        let lost = (0..320).filter(|_| simulator.fill(&mut frame) == Produced::Nothing).count();
        assert_eq!(lost, 16);
    }
}
