// SPDX-License-Identifier: Apache-2.0
//! Rapid voltage changes from Urms(1/2) (IEC 61000-4-30 5.11).

use crate::phase::Cycle;

/// Urms(1/2) values in one second at 60 Hz, the more of the two.
const MOST: usize = 120;

/// A rapid voltage change in sample positions and volts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Change {
    /// Start of the first cycle outside the steady state.
    pub(crate) start: f64,
    /// Start of the first cycle of the new steady state.
    pub(crate) end: f64,
    pub(crate) du_max: f64,
    pub(crate) du_ss: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Value {
    start: f64,
    volts: f32,
    /// Largest deviation from the mean before the change, up to this value.
    deviation: f32,
}

#[derive(Debug, Clone)]
pub(crate) struct RapidChanges {
    /// Values per second: 100 or 120.
    length: usize,
    values: [Value; MOST],
    next: usize,
    filled: usize,
    steady: bool,
    /// Mean of the last second while the voltage was steady.
    mean: f64,
    /// Start of a change in progress.
    began: Option<f64>,
    /// A dip or swell happened during it.
    void: bool,
}

impl RapidChanges {
    pub(crate) fn new(nominal_hertz: f64) -> Self {
        Self {
            length: ((2.0 * nominal_hertz) as usize).min(MOST),
            values: [Value::default(); MOST],
            next: 0,
            filled: 0,
            steady: false,
            mean: 0.0,
            began: None,
            void: false,
        }
    }

    /// Forgets everything, after missing input.
    pub(crate) fn restart(&mut self) {
        *self = Self { length: self.length, ..Self::new(0.0) };
    }

    /// Takes one Urms(1/2). `threshold` is in volts; `disturbed` says that a dip or swell is in progress.
    pub(crate) fn cycle(&mut self, cycle: Cycle, threshold: f64, disturbed: bool) -> Option<Change> {
        let before = self.values[(self.next + self.length - 1) % self.length].deviation;
        let deviation =
            if self.began.is_some() { before.max((cycle.rms - self.mean).abs() as f32) } else { 0.0 };
        self.values[self.next] = Value { start: cycle.start, volts: cycle.rms as f32, deviation };
        self.next = (self.next + 1) % self.length;
        self.filled = (self.filled + 1).min(self.length);
        self.void |= disturbed;
        if self.filled < self.length {
            return None;
        }

        let values = &self.values[..self.length];
        let mean = values.iter().map(|value| f64::from(value.volts)).sum::<f64>() / self.length as f64;
        // Back to steady the voltage must be nearer: the hysteresis is half of the threshold.
        let allowed = if self.steady { threshold } else { threshold / 2.0 };
        let (low, high) = ((mean - allowed) as f32, (mean + allowed) as f32);
        let steady =
            values.iter().fold(true, |steady, value| steady & (value.volts >= low) & (value.volts <= high));
        match (core::mem::replace(&mut self.steady, steady), steady) {
            (true, true) => {
                self.mean = mean;
                None
            }
            (true, false) => {
                self.began = Some(cycle.start);
                self.void = disturbed;
                let newest = (self.next + self.length - 1) % self.length;
                self.values[newest].deviation = (cycle.rms - self.mean).abs() as f32;
                None
            }
            (false, false) => None,
            (false, true) => {
                let oldest = self.values[self.next];
                let last = core::mem::replace(&mut self.mean, mean);
                let start = self.began.take()?;
                // The largest deviation up to the last value before the steady second.
                let du_ss = (mean - last).abs();
                let du_max = f64::from(oldest.deviation).max(du_ss);
                (!core::mem::take(&mut self.void)).then_some(Change {
                    start,
                    end: oldest.start.max(start),
                    du_max,
                    du_ss,
                })
            }
        }
    }
}
