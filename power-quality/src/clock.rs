// SPDX-License-Identifier: Apache-2.0
//! Sample positions, seconds and UTC.

/// UTC of one sample position and the true sampling rate, as disciplined by the caller's clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimeMap {
    /// Position in samples since the first one (gaps included); fractions are allowed.
    pub sample: f64,
    /// UTC of that position in seconds since 1970.
    pub unix_s: f64,
    /// True sampling rate in hertz.
    pub rate: f64,
}

/// Seconds of the 10-minute tick (IEC 61000-4-30 4.5.1).
pub(crate) const TICK_S: f64 = 600.0;
/// A correction beyond this is a step of the clock, not its discipline, in seconds.
pub(crate) const STEP_S: f64 = 2.0;

#[derive(Debug, Clone)]
pub(crate) struct Clock {
    map: TimeMap,
    /// UTC of the first sample, the zero of all `start_s`.
    origin_unix: f64,
    synchronised: bool,
}

impl Clock {
    /// Without UTC the first sample is a tick.
    pub(crate) fn new(rate: f64) -> Self {
        Self { map: TimeMap { sample: 0.0, unix_s: 0.0, rate }, origin_unix: 0.0, synchronised: false }
    }

    pub(crate) fn set(&mut self, map: TimeMap) {
        self.map = map;
        if !self.synchronised {
            self.synchronised = true;
            self.origin_unix = map.unix_s - map.sample / map.rate;
        }
    }

    pub(crate) fn rate(&self) -> f64 {
        self.map.rate
    }

    pub(crate) fn origin_unix(&self) -> Option<f64> {
        self.synchronised.then_some(self.origin_unix)
    }

    /// Seconds since the first sample.
    pub(crate) fn seconds(&self, position: f64) -> f64 {
        (self.map.unix_s - self.origin_unix) + (position - self.map.sample) / self.map.rate
    }

    /// Inverse of [`seconds`](Self::seconds).
    pub(crate) fn position(&self, seconds: f64) -> f64 {
        self.map.sample + (seconds - (self.map.unix_s - self.origin_unix)) * self.map.rate
    }

    /// Number of whole `period_s` intervals of UTC before `position`, with a millionth of a second of grace.
    pub(crate) fn interval_number(&self, position: f64, period_s: f64) -> i64 {
        let unix = self.map.unix_s + (position - self.map.sample) / self.map.rate;
        libm::floor((unix + 1e-6) / period_s) as i64
    }

    /// Position of the start of the UTC interval `number` of length `period_s`.
    pub(crate) fn interval_start(&self, number: i64, period_s: f64) -> f64 {
        self.map.sample + (number as f64 * period_s - self.map.unix_s) * self.map.rate
    }

    /// Whether something that comes `ahead` samples from now, once per `period_s`, can be what comes next.
    pub(crate) fn is_next(&self, ahead: f64, period_s: f64) -> bool {
        let ahead_s = ahead / self.map.rate;
        (-STEP_S..=period_s + STEP_S).contains(&ahead_s)
    }

    pub(crate) fn tick_number(&self, position: f64) -> i64 {
        self.interval_number(position, TICK_S)
    }

    pub(crate) fn tick_position(&self, number: i64) -> f64 {
        self.interval_start(number, TICK_S)
    }
}
