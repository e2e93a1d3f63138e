// SPDX-License-Identifier: Apache-2.0
//! Which stretch of input is a 10/12-cycle window, and how windows become 150/180-cycle, 10 min and 2 h values.
//!
//! Windows follow each other without gap; at the UTC 10-minute tick a new window and a new 150/180-cycle
//! interval begin while the running ones finish (IEC 61000-4-30 4.5, figure 1: overlap 1 and overlap 2).

use crate::clock::{Clock, STEP_S, TICK_S};
use crate::phase::PhaseTracker;
use crate::result::{Aggregate, Interval, Measurement, Spectrum, Window, ORDERS};

/// Windows of a 150/180-cycle interval.
const WINDOWS: u32 = 15;
/// Ten-minute intervals of a two-hour interval.
const TENS: u32 = 12;
/// A tick closer than this to a window's end (in half cycles) is its end.
const MEETS: f64 = 0.1;

/// A window whose bounds are known, in sample positions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Span {
    pub(crate) start: f64,
    pub(crate) end: f64,
    /// Phases of the bounds in half cycles.
    pub(crate) from: f64,
    pub(crate) to: f64,
    /// The window belongs to the sequence that a tick has ended.
    pub(crate) old: bool,
    /// It overlaps the first window after the tick and is the last of its ten minutes.
    pub(crate) overlap: bool,
}

impl Span {
    /// Whether the window is a result of its own, not only part of a running 150/180-cycle interval.
    pub(crate) fn reported(&self) -> bool {
        !self.old || self.overlap
    }
}

/// A ten-minute interval that has just been completed, in sample positions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Closed {
    pub(crate) start: f64,
    pub(crate) end: f64,
    /// It was observed from its tick on.
    pub(crate) whole: bool,
    /// A two-hour interval ended with it.
    pub(crate) two_hours: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Intervals {
    half_cycles: f64,
    main: Lane,
    old: Option<Lane>,
    /// The next window of `old` is the last of its ten minutes.
    overlap: bool,
    ten: Sums,
    ten_start: f64,
    ten_whole: bool,
    two: Sums,
    two_start: f64,
    two_whole: bool,
    next_tick: i64,
}

impl Intervals {
    pub(crate) fn new(cycles: usize) -> Self {
        Self {
            half_cycles: 2.0 * cycles as f64,
            main: Lane::starting(0.0),
            old: None,
            overlap: false,
            ten: Sums::default(),
            ten_start: 0.0,
            ten_whole: false,
            two: Sums::default(),
            two_start: 0.0,
            two_whole: false,
            next_tick: 0,
        }
    }

    /// Begins everything at `position`, the start of the input or the end of a long gap.
    pub(crate) fn start(&mut self, position: f64, clock: &Clock) {
        self.main = Lane::starting(position);
        self.old = None;
        self.overlap = false;
        self.next_tick = clock.tick_number(position) + 1;
        self.ten.clear();
        self.ten_start = position;
        self.ten_whole = (clock.tick_position(self.next_tick - 1) - position).abs() < 1.0;
        self.two.clear();
        self.two_start = position;
        self.two_whole = self.ten_whole && (self.next_tick - 1).rem_euclid(i64::from(TENS)) == 0;
    }

    /// The input ended at `position`: ten minutes whose tick has come are complete without the window in
    /// progress, which will not be.
    pub(crate) fn close_at_end(
        &mut self,
        position: f64,
        clock: &Clock,
        out: &mut dyn FnMut(Measurement<'_>),
    ) -> Option<Closed> {
        let tick = if self.overlap { self.next_tick - 1 } else { self.next_tick };
        let end = clock.tick_position(tick);
        if self.ten.count == 0 || end > position + 0.5 {
            return None;
        }
        self.overlap = false;
        self.next_tick = tick + 1;
        Some(self.close_ten(end, tick, clock, out))
    }

    /// Ends what is running at a long gap: the ten minutes so far are a partial result.
    pub(crate) fn stop(&mut self, position: f64, clock: &Clock, out: &mut dyn FnMut(Measurement<'_>)) {
        if self.ten.count > 0 {
            let aggregate = Aggregate {
                partial: true,
                ..self.ten.aggregate(Interval::TenMinutes, self.ten_start, position, clock)
            };
            out(Measurement::Aggregate(&aggregate));
        }
        self.ten.clear();
    }

    /// The clock has moved. A small correction moves the next tick; a step chooses another one.
    pub(crate) fn clock_moved(&mut self, clock: &Clock) {
        let ahead = clock.tick_position(self.next_tick) - self.main.start;
        if !clock.is_next(ahead, TICK_S) {
            self.next_tick = clock.tick_number(self.main.start) + 1;
        }
        let begin = clock.tick_position(self.next_tick - 1);
        if !self.overlap && (begin - self.ten_start).abs() > STEP_S * clock.rate() {
            self.ten_whole = false;
            self.two_whole = false;
        }
    }

    /// Oldest sample that a window still needs.
    pub(crate) fn oldest(&self) -> f64 {
        self.old.as_ref().map_or(self.main.start, |old| old.start.min(self.main.start))
    }

    /// Start of the window in progress.
    pub(crate) fn current_start(&self) -> f64 {
        self.main.start
    }

    /// The next window that ends by `now`.
    pub(crate) fn next(
        &mut self,
        tracker: &PhaseTracker,
        clock: &Clock,
        now: f64,
        last: bool,
    ) -> Option<Span> {
        loop {
            if let Some(old) = &mut self.old {
                if let Some(span) = old.span(tracker, self.half_cycles, last).filter(|span| span.end <= now) {
                    return Some(Span { old: true, overlap: self.overlap, ..span });
                }
            }
            let span = self.main.span(tracker, self.half_cycles, last)?;
            let tick = clock.tick_position(self.next_tick);
            let meets = MEETS * tracker.half();
            if tick >= span.end - meets || self.overlap {
                return (span.end <= now).then_some(span);
            }
            // The tick lies within this window: it finishes beside the one that begins at the tick.
            self.next_tick += 1;
            let running = core::mem::replace(&mut self.main, Lane::starting(tick.max(span.start)));
            self.old = Some(running);
            self.overlap = true;
        }
    }

    /// Adds a measured window; returns the ten minutes that it completes.
    pub(crate) fn take(
        &mut self,
        span: &Span,
        window: &Window,
        tracker: &PhaseTracker,
        clock: &Clock,
        out: &mut dyn FnMut(Measurement<'_>),
    ) -> Option<Closed> {
        if span.old {
            if let Some(old) = &mut self.old {
                if old.take(span, window, clock, out) {
                    self.old = None;
                }
            }
            if !core::mem::take(&mut self.overlap) {
                return None;
            }
            self.ten.add_window(window);
            return Some(self.close_ten(self.main.start, self.next_tick - 1, clock, out));
        }

        self.ten.add_window(window);
        let complete = self.main.take(span, window, clock, out);
        let tick = clock.tick_position(self.next_tick);
        if (tick - span.end).abs() > MEETS * tracker.half() {
            return None;
        }
        let next = Lane::starting(tick);
        let running = core::mem::replace(&mut self.main, next);
        if !complete {
            self.old = Some(running);
        }
        self.next_tick += 1;
        Some(self.close_ten(tick, self.next_tick - 1, clock, out))
    }

    fn close_ten(
        &mut self,
        end: f64,
        tick: i64,
        clock: &Clock,
        out: &mut dyn FnMut(Measurement<'_>),
    ) -> Closed {
        let two_hours = tick.rem_euclid(i64::from(TENS)) == 0;
        let closed = Closed { start: self.ten_start, end, whole: self.ten_whole, two_hours };
        let mut aggregate = self.ten.aggregate(Interval::TenMinutes, self.ten_start, end, clock);
        aggregate.partial = !self.ten_whole;
        out(Measurement::Aggregate(&aggregate));
        self.two.add_ten(&aggregate);
        self.two_whole &= self.ten_whole;
        self.ten.clear();
        self.ten_start = end;
        self.ten_whole = true;
        if two_hours {
            let mut aggregate = self.two.aggregate(Interval::TwoHours, self.two_start, end, clock);
            aggregate.partial = !self.two_whole || self.two.count != TENS;
            out(Measurement::Aggregate(&aggregate));
            self.two.clear();
            self.two_start = end;
            self.two_whole = true;
        }
        closed
    }
}

/// One gapless sequence of windows with its 150/180-cycle interval.
#[derive(Debug, Clone)]
struct Lane {
    start: f64,
    phase: Option<f64>,
    sums: Sums,
    sums_start: f64,
}

impl Lane {
    fn starting(position: f64) -> Self {
        Self { start: position, phase: None, sums: Sums::default(), sums_start: position }
    }

    fn span(&mut self, tracker: &PhaseTracker, half_cycles: f64, last: bool) -> Option<Span> {
        let from = match self.phase {
            Some(phase) => phase,
            None => *self.phase.insert(tracker.phase(self.start, last)?),
        };
        let to = from + half_cycles;
        let end = tracker.position(to, last)?;
        Some(Span { start: self.start, end, from, to, old: false, overlap: false })
    }

    /// Adds a window and moves on; true when it completes the 150/180 cycles.
    fn take(
        &mut self,
        span: &Span,
        window: &Window,
        clock: &Clock,
        out: &mut dyn FnMut(Measurement<'_>),
    ) -> bool {
        self.start = span.end;
        self.phase = Some(span.to);
        self.sums.add_window(window);
        if self.sums.count < WINDOWS {
            return false;
        }
        let aggregate = self.sums.aggregate(Interval::Cycles150, self.sums_start, span.end, clock);
        out(Measurement::Aggregate(&aggregate));
        self.sums.clear();
        self.sums_start = span.end;
        true
    }
}

/// Sums of squares of windows or of aggregates.
#[derive(Debug, Clone)]
struct Sums {
    count: u32,
    voltage: f64,
    voltage_min: f64,
    voltage_max: f64,
    fundamental: f64,
    fundamentals: u32,
    thd: f64,
    thds: u32,
    signalling: f64,
    signallings: u32,
    harmonics: SpectrumSum,
    interharmonics: SpectrumSum,
    flagged: bool,
}

impl Default for Sums {
    fn default() -> Self {
        Self {
            count: 0,
            voltage: 0.0,
            voltage_min: f64::INFINITY,
            voltage_max: 0.0,
            fundamental: 0.0,
            fundamentals: 0,
            thd: 0.0,
            thds: 0,
            signalling: 0.0,
            signallings: 0,
            harmonics: SpectrumSum::default(),
            interharmonics: SpectrumSum::default(),
            flagged: false,
        }
    }
}

impl Sums {
    fn clear(&mut self) {
        *self = Self::default();
    }

    fn add_window(&mut self, window: &Window) {
        self.add(
            window.voltage,
            window.voltage,
            window.voltage,
            window.fundamental,
            window.thd,
            window.signalling,
        );
        self.harmonics.add(window.harmonics.as_ref());
        self.interharmonics.add(window.interharmonics.as_ref());
        self.flagged |= window.flagged;
    }

    fn add_ten(&mut self, ten: &Aggregate) {
        self.add(ten.voltage, ten.voltage_min, ten.voltage_max, ten.fundamental, ten.thd, ten.signalling);
        self.harmonics.add(ten.harmonics.as_ref());
        self.interharmonics.add(ten.interharmonics.as_ref());
        self.flagged |= ten.flagged;
    }

    fn add(
        &mut self,
        voltage: f64,
        min: f64,
        max: f64,
        fundamental: Option<f64>,
        thd: Option<f64>,
        signalling: Option<f64>,
    ) {
        self.count += 1;
        self.voltage += voltage * voltage;
        self.voltage_min = self.voltage_min.min(min);
        self.voltage_max = self.voltage_max.max(max);
        let optional = |sum: &mut f64, count: &mut u32, value: Option<f64>| {
            if let Some(value) = value {
                *sum += value * value;
                *count += 1;
            }
        };
        optional(&mut self.fundamental, &mut self.fundamentals, fundamental);
        optional(&mut self.thd, &mut self.thds, thd);
        optional(&mut self.signalling, &mut self.signallings, signalling);
    }

    fn aggregate(&self, interval: Interval, start: f64, end: f64, clock: &Clock) -> Aggregate {
        let (start_s, end_s) = (clock.seconds(start), clock.seconds(end));
        let root = |sum: f64, count: u32| (count > 0).then(|| libm::sqrt(sum / f64::from(count)));
        Aggregate {
            interval,
            start_s,
            duration_s: end_s - start_s,
            voltage: root(self.voltage, self.count).unwrap_or(0.0),
            voltage_min: if self.count > 0 { self.voltage_min } else { 0.0 },
            voltage_max: self.voltage_max,
            fundamental: root(self.fundamental, self.fundamentals),
            harmonics: self.harmonics.mean(),
            interharmonics: self.interharmonics.mean(),
            thd: root(self.thd, self.thds),
            signalling: root(self.signalling, self.signallings),
            flagged: self.flagged,
            partial: false,
        }
    }
}

#[derive(Debug, Clone)]
struct SpectrumSum {
    squares: [f64; ORDERS],
    count: u32,
    carried: usize,
}

impl Default for SpectrumSum {
    fn default() -> Self {
        Self { squares: [0.0; ORDERS], count: 0, carried: ORDERS }
    }
}

impl SpectrumSum {
    fn add(&mut self, spectrum: Option<&Spectrum>) {
        let Some(spectrum) = spectrum else { return };
        let values = spectrum.carried();
        for (square, &value) in self.squares.iter_mut().zip(values) {
            *square += f64::from(value) * f64::from(value);
        }
        self.count += 1;
        self.carried = self.carried.min(values.len());
    }

    fn mean(&self) -> Option<Spectrum> {
        if self.count == 0 {
            return None;
        }
        let mut values = [0.0f32; ORDERS];
        for (value, square) in values.iter_mut().zip(self.squares) {
            *value = libm::sqrt(square / f64::from(self.count)) as f32;
        }
        Some(Spectrum::new(values, self.carried))
    }
}
