// SPDX-License-Identifier: Apache-2.0
//! Power frequency over 10 s clock intervals (IEC 61000-4-30 5.1.1): whole cycles inside over their duration.

use crate::clock::Clock;
use crate::phase::PhaseTracker;

const INTERVAL_S: f64 = 10.0;

/// A completed interval, in sample positions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TenSeconds {
    pub(crate) start: f64,
    pub(crate) end: f64,
    pub(crate) frequency: Option<f64>,
}

#[derive(Debug, Clone)]
pub(crate) struct FrequencyMeter {
    number: i64,
    /// Number and position of the first crossing inside.
    first: Option<(f64, f64)>,
    /// Half cycles of this interval in which the fundamental was seen.
    seen: u32,
}

impl FrequencyMeter {
    pub(crate) fn new() -> Self {
        Self { number: 0, first: None, seen: 0 }
    }

    /// Begins with the first whole clock interval at or after `position`.
    pub(crate) fn start(&mut self, position: f64, clock: &Clock) {
        let number = clock.interval_number(position, INTERVAL_S);
        let whole = clock.interval_start(number, INTERVAL_S) > position - 1.0;
        self.number = if whole { number } else { number + 1 };
        self.first = None;
        self.seen = 0;
    }

    /// The clock has moved; after a step another interval than the one expected is in progress.
    pub(crate) fn clock_moved(&mut self, position: f64, clock: &Clock) {
        let ahead = clock.interval_start(self.number + 1, INTERVAL_S) - position;
        // Before the first whole interval its end may be two lengths away.
        if !clock.is_next(ahead, INTERVAL_S) && !clock.is_next(ahead, 2.0 * INTERVAL_S) {
            self.start(position, clock);
        }
    }

    /// Called after each half cycle, when the input is known up to `now`; returns an interval once it is complete.
    pub(crate) fn advance(
        &mut self,
        tracker: &PhaseTracker,
        now: f64,
        clock: &Clock,
        last: bool,
    ) -> Option<TenSeconds> {
        let start = clock.interval_start(self.number, INTERVAL_S);
        if now < start {
            return None;
        }
        let fresh = tracker.fresh();
        self.seen += u32::from(fresh);
        let (first, first_position) = match self.first {
            Some(first) => first,
            None => {
                let crossing = libm::ceil(tracker.phase(start, last)? - 1e-3);
                *self.first.insert((crossing, tracker.position(crossing, last)?))
            }
        };
        let end = clock.interval_start(self.number + 1, INTERVAL_S);
        if now < end - 0.5 {
            return None;
        }
        let cycles = libm::floor((tracker.phase(end, last)? + 1e-3 - first) / 2.0);
        let duration = tracker.position(first + 2.0 * cycles, last)? - first_position;
        let frequency =
            (self.seen > 0 && cycles >= 1.0 && duration > 0.0).then(|| cycles * clock.rate() / duration);
        self.number += 1;
        self.first = None;
        self.seen = 0;
        Some(TenSeconds { start, end, frequency })
    }
}
