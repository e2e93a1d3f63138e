// SPDX-License-Identifier: Apache-2.0
//! Flickermeter after IEC 61000-4-15: Pinst, Pst and Plt.
//!
//! Block 1 (adaptation) works on half-cycle RMS values, blocks 2 to 4 on squares averaged down to 2 to
//! 4 kHz, block 5 on a logarithmic histogram.

mod classifier;
mod filter;

use crate::buffer::SampleBuffer;
use crate::config::{Config, Lamp, NominalFrequency};
use classifier::Classifier;
use filter::{LampModel, Sensation};

/// Lowest rate of the filters, in hertz.
const FILTER_RATE: f64 = 2_000.0;
/// Time constant of the adaptation to the voltage (IEC 61000-4-15 5.2), in seconds.
const ADAPTATION_S: f64 = 27.3;
/// Time constant with which direct voltage is kept out, in seconds.
const COUPLING_S: f64 = 1.0;
/// The adaptation does not go below this share of the nominal voltage.
const ADAPTATION_FLOOR: f64 = 0.05;
/// Settling played before the first sample, in seconds.
const SETTLING_S: f64 = 1.5;
/// Half cycles whose highest Pinst is remembered.
const KEPT: usize = 64;

#[derive(Debug, Clone)]
pub(crate) struct Flickermeter {
    nominal: f64,
    rate: f64,
    divider: u32,
    sensation: Sensation,
    classifier: Classifier,
    /// Voltage that the eye has adapted to (V).
    adapted: f64,
    /// 1 / (adapted² · divider)
    gain: f64,
    /// Direct voltage that the input transformer of the standard's meter keeps out (V).
    direct: f64,
    sum: f64,
    summed: u32,
    next: i64,
    highest: [(f64, f32); KEPT],
    newest: usize,
    pst: Severities,
    running: bool,
}

/// Pst values of a two-hour interval.
#[derive(Debug, Clone, Copy, Default)]
struct Severities {
    cubes: f64,
    count: u32,
    flagged: bool,
}

/// A long-term value is the cubic mean of this many short-term ones (IEC 61000-4-15 5.7.3).
const SEVERITIES: u32 = 12;

impl Flickermeter {
    pub(crate) fn new(config: &Config) -> Self {
        let divider = libm::floor(config.rate / FILTER_RATE).max(1.0);
        let model = match config.lamp {
            Lamp::V230 => LampModel::V230,
            Lamp::V120 => LampModel::V120,
        };
        // Butterworth corner of block 3 (IEC 61000-4-15 5.6.1).
        let low_pass = match config.nominal_frequency {
            NominalFrequency::Hz50 => 35.0,
            NominalFrequency::Hz60 => 42.0,
        };
        Self {
            nominal: config.nominal_voltage,
            rate: config.rate,
            divider: divider as u32,
            sensation: Sensation::new(&model, low_pass, config.rate / divider),
            classifier: Classifier::new(),
            adapted: config.nominal_voltage,
            gain: 0.0,
            direct: 0.0,
            sum: 0.0,
            summed: 0,
            next: 0,
            highest: [(f64::NEG_INFINITY, 0.0); KEPT],
            newest: 0,
            pst: Severities::default(),
            running: false,
        }
    }

    /// Begins at sample `from` as if its first cycle had gone on for ever: `adapted` is the voltage the eye
    /// has adapted to, `period` the length of a cycle in samples.
    pub(crate) fn start(&mut self, buffer: &SampleBuffer, from: i64, period: f64, adapted: f64) {
        let cycle = libm::floor(period) as i64;
        self.next = from;
        self.sum = 0.0;
        self.summed = 0;
        self.running = true;
        self.classifier.clear();
        self.highest = [(f64::NEG_INFINITY, 0.0); KEPT];
        self.set_adapted(adapted);
        let count = (libm::ceil(SETTLING_S * self.rate / period) * period) as i64;
        let copied = |back: i64| {
            let ahead = libm::ceil(back as f64 / period) * period;
            f64::from(buffer.interpolate((from - back) as f64 + ahead))
        };
        let direct = (1..=cycle).map(copied).sum::<f64>() / cycle as f64;
        self.direct = direct;
        let square = |back: i64| {
            let u = copied(back) - direct;
            u * u
        };
        let mean = (1..=cycle).map(square).sum::<f64>() / cycle as f64;
        self.sensation.settle(mean * self.gain * f64::from(self.divider));
        let mut back = count / i64::from(self.divider) * i64::from(self.divider);
        let calm = back / 2;
        while back > 0 {
            // What the onset of the ripple at twice the mains frequency left behind is not flicker.
            if back > calm {
                self.sensation.calm();
            }
            let mut sum = 0.0;
            for _ in 0..self.divider {
                sum += square(back);
                back -= 1;
            }
            self.sensation.next(sum * self.gain);
        }
    }

    /// Adapts to the RMS of a half cycle of `length` samples (block 1).
    pub(crate) fn adapt(&mut self, rms: f64, length: f64) {
        let share = 1.0 - libm::exp(-length / self.rate / ADAPTATION_S);
        self.set_adapted(self.adapted + share * (rms - self.adapted));
    }

    /// Follows the direct voltage, given the mean of a cycle; called every half cycle of `length` samples.
    pub(crate) fn couple(&mut self, mean: f64, length: f64) {
        self.direct += (1.0 - libm::exp(-length / self.rate / COUPLING_S)) * (mean - self.direct);
    }

    fn set_adapted(&mut self, adapted: f64) {
        self.adapted = adapted.max(ADAPTATION_FLOOR * self.nominal);
        self.gain = 1.0 / (self.adapted * self.adapted * f64::from(self.divider));
    }

    /// Takes the samples before `to`.
    pub(crate) fn advance(&mut self, buffer: &SampleBuffer, to: f64) {
        let end = libm::ceil(to) as i64;
        let direct = self.direct;
        let add = |sum: f64, &u: &f32| {
            let u = f64::from(u) - direct;
            sum + u * u
        };
        let mut samples = buffer.range(self.next, end);
        self.next += samples.len() as i64;
        let mut highest = 0.0f64;
        // Complete the group that the last call began, then whole groups, then begin one.
        if self.summed > 0 {
            let missing = ((self.divider - self.summed) as usize).min(samples.len());
            let (head, rest) = samples.split_at(missing);
            samples = rest;
            self.summed += missing as u32;
            self.sum = head.iter().fold(self.sum, add);
            if self.summed == self.divider {
                self.point(self.sum, &mut highest);
                self.summed = 0;
            }
        }
        if self.summed == 0 {
            let groups = samples.chunks_exact(self.divider as usize);
            let rest = groups.remainder();
            for group in groups {
                let sum = group.iter().fold(0.0, add);
                self.point(sum, &mut highest);
            }
            self.summed = rest.len() as u32;
            self.sum = rest.iter().fold(0.0, add);
        }
        self.newest = (self.newest + 1) % KEPT;
        self.highest[self.newest] = (to, highest as f32);
    }

    fn point(&mut self, sum: f64, highest: &mut f64) {
        let pinst = self.sensation.next(sum * self.gain);
        self.classifier.count(pinst as f32);
        *highest = highest.max(pinst);
    }

    /// Highest Pinst of the half cycles that end within `start..end`.
    pub(crate) fn highest(&self, start: f64, end: f64) -> Option<f64> {
        let inside = self.highest.iter().filter(|(at, _)| *at > start && *at <= end + 1.0);
        inside.map(|&(_, pinst)| f64::from(pinst)).reduce(f64::max)
    }

    /// Severity of the ten minutes that end here; begins the next ones.
    pub(crate) fn close(&mut self) -> Option<f64> {
        let pst = self.classifier.severity();
        self.classifier.clear();
        pst
    }

    /// Adds a Pst to the two hours in progress.
    pub(crate) fn add(&mut self, pst: f64, flagged: bool) {
        self.pst.cubes += pst * pst * pst;
        self.pst.count += 1;
        self.pst.flagged |= flagged;
    }

    /// Plt of the two hours that end here, if they were complete, and whether it is flagged.
    pub(crate) fn close_two_hours(&mut self) -> Option<(f64, bool)> {
        let pst = core::mem::take(&mut self.pst);
        (pst.count == SEVERITIES).then(|| (libm::cbrt(pst.cubes / f64::from(SEVERITIES)), pst.flagged))
    }
}
