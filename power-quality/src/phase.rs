// SPDX-License-Identifier: Apache-2.0
//! Where the cycles of the fundamental begin.
//!
//! The tracker predicts zero crossings of the fundamental half a cycle ahead from a straight line through
//! the recent ones. Each crossing is measured with a transform over the cycle around it, in which DC,
//! the image and all harmonics vanish once the prediction is right. A cycle whose amplitude moves, or that
//! disagrees with the prediction, does not steer: through dips, swells and interruptions the prediction runs
//! free (IEC 61000-4-30 5.1.2 and 5.4.1 leave the method open; this one keeps window lengths exact).

use core::f64::consts::PI;

use crate::buffer::SampleBuffer;
use crate::integrate::{half_cycle, HalfCycle, MARGIN};

/// Crossings in the predicting line.
const LINE: usize = 12;
/// Consecutive crossings that must agree with each other before they replace the line.
const STRAYS: usize = 4;
/// Deviation from the prediction beyond which a crossing does not steer, in radians.
const STRAY_ANGLE: f64 = 0.19;
/// Relative deviation of a cycle's length from the tracked period that is not a change of frequency.
const IRREGULAR: f64 = 0.03;
/// Half cycles on each side that smooth a crossing read by [`PhaseTracker::position`].
const SMOOTHING: i64 = 4;
/// Distance of a crossing from the smoothing line, in half cycles, that noise does not reach.
const BENT: f64 = 0.015;
/// Half cycles that tell the phase at the start and the end of the input, and how straight they must be.
const STARTING: i64 = 20;
const STARTING_BENT: f64 = 0.006;
/// Half cycles kept for reading.
const KEPT: i64 = 64;
/// Furthest that the tracked frequency goes from the nominal one, relative.
const REACH: f64 = 0.3;

/// One cycle between two predicted crossings, refreshed each half cycle.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cycle {
    pub(crate) start: f64,
    pub(crate) end: f64,
    /// Urms(1/2) in volts (IEC 61000-4-30 3.24).
    pub(crate) rms: f64,
    /// Mean, the direct voltage.
    pub(crate) mean: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Crossing {
    number: i64,
    position: f64,
}

/// What a cycle says about its crossing.
#[derive(Debug, Clone, Copy)]
struct Observed {
    crossing: Crossing,
    angle: f64,
    amplitude: f64,
    /// The cycle before it was as large.
    steady: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Node {
    position: f64,
    measured: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct PhaseTracker {
    nominal_half: f64,
    /// Peak voltage below which a cycle says nothing about phase.
    faint: f64,
    /// Latest boundary and the next one.
    number: i64,
    boundary: f64,
    next: f64,
    half: f64,
    previous: Option<(f64, HalfCycle)>,
    /// The cycle before the latest: it steers once its successor is as large.
    candidate: Option<Observed>,
    line: [Crossing; LINE],
    line_length: usize,
    line_head: usize,
    strays: [Crossing; STRAYS],
    stray_count: usize,
    /// Half cycles since the line last took a crossing.
    blind: u32,
    /// Half cycles in a row with some voltage.
    present: u32,
    /// A cycle was observed since the start; the first one has no predecessor to compare with.
    observed: bool,
    locked: bool,
    nodes: [Node; KEPT as usize],
    oldest_node: i64,
}

impl PhaseTracker {
    pub(crate) fn new(rate: f64, nominal_frequency: f64, nominal_voltage: f64) -> Self {
        let half = rate / nominal_frequency / 2.0;
        Self {
            nominal_half: half,
            faint: 0.02 * core::f64::consts::SQRT_2 * nominal_voltage,
            number: 0,
            boundary: 0.0,
            next: half,
            half,
            previous: None,
            candidate: None,
            line: [Crossing::default(); LINE],
            line_length: 0,
            line_head: 0,
            strays: [Crossing::default(); STRAYS],
            stray_count: 0,
            blind: 0,
            present: 0,
            observed: false,
            locked: false,
            nodes: [Node::default(); KEPT as usize],
            oldest_node: 0,
        }
    }

    /// Places the first boundary at or after `from`, with the phase and frequency found in the samples up to `to`.
    pub(crate) fn start(&mut self, buffer: &SampleBuffer, from: i64, to: i64) {
        self.previous = None;
        self.candidate = None;
        self.stray_count = 0;
        self.blind = 0;
        self.present = 0;
        self.observed = false;
        self.number += 2;
        let found = self.acquire(buffer, from, to);
        self.locked = found.is_some();
        let (crossing, half) = found.unwrap_or((from as f64, self.half));
        // A crossing up to half a sample before the first sample counts as being there.
        let steps = libm::ceil((from as f64 - 0.5 - crossing) / half);
        let first = crossing + steps * half;
        self.boundary = first.max(from as f64);
        self.half = half;
        self.follow(self.number, first, half);
        self.note(self.number, Node { position: self.boundary, measured: false });
        // Only measured crossings tell where the first window begins.
        self.oldest_node = self.number + 1;
        self.next = self.predict(self.number + 1);
    }

    /// End of the half cycle in progress.
    pub(crate) fn next(&self) -> f64 {
        self.next
    }

    /// Start of the half cycle in progress.
    pub(crate) fn boundary(&self) -> f64 {
        self.boundary
    }

    /// Length of the current half cycle in samples.
    pub(crate) fn half(&self) -> f64 {
        self.half
    }

    /// The latest half cycle steered the prediction.
    pub(crate) fn fresh(&self) -> bool {
        self.blind == 0
    }

    /// Takes the half cycle that ends at [`next`](Self::next) and returns the cycle that it completes.
    /// Cycles in which input was missing do not `steer`.
    pub(crate) fn advance(&mut self, half_cycle: HalfCycle, steer: bool) -> Option<Cycle> {
        let (start, middle, end) = (self.previous.map(|(start, _)| start), self.boundary, self.next);
        let before = self.previous.replace((middle, half_cycle));
        self.number += 1;
        self.boundary = end;
        self.note(self.number, Node { position: end, measured: false });
        self.blind = self.blind.saturating_add(1);

        let cycle = start.zip(before).map(|(start, (_, first))| {
            let period = end - start;
            // The second half runs in antiphase.
            let (re, im) = (first.re - half_cycle.re, first.im - half_cycle.im);
            let amplitude = 2.0 * libm::sqrt(re * re + im * im) / period;
            if steer && !self.irregular(start, end) {
                let angle = folded_angle(re, im);
                let position = middle - angle * period / (2.0 * PI);
                self.observe(Crossing { number: self.number - 1, position }, angle, amplitude);
            } else {
                self.candidate = None;
            }
            Cycle {
                start,
                end,
                rms: libm::sqrt((first.square + half_cycle.square) / period),
                mean: (first.sum + half_cycle.sum) / period,
            }
        });
        self.next = self.predict(self.number + 1);
        cycle
    }

    /// The boundaries are not a cycle apart: the count has jumped to another phase in between.
    pub(crate) fn irregular(&self, start: f64, end: f64) -> bool {
        (end - start - 2.0 * self.half).abs() > IRREGULAR * 2.0 * self.half
    }

    /// The signal is there but the tracker cannot follow it: [`reacquire`](Self::reacquire) from the samples.
    pub(crate) fn lost(&self) -> bool {
        self.blind >= 12 && self.present >= 12
    }

    /// Looks for the phase in the samples of the last cycles.
    pub(crate) fn reacquire(&mut self, buffer: &SampleBuffer) {
        self.blind = 0;
        let from = (self.boundary - 10.0 * self.half) as i64;
        if let Some((crossing, half)) =
            self.acquire(buffer, from, buffer.end().min(self.boundary as i64 + MARGIN))
        {
            self.locked = true;
            let steps = libm::round((self.boundary - crossing) / half);
            self.follow(self.number, crossing + steps * half, half);
            self.next = self.predict(self.number + 1);
        }
    }

    /// Position of the crossing number `x` (fractions are phases in between), smoothed over its neighbours.
    /// `None` until enough cycles after it were measured, unless this is the `last` chance.
    pub(crate) fn position(&self, x: f64, last: bool) -> Option<f64> {
        let (origin, intercept, slope) = self.local_line(libm::round(x) as i64, last)?;
        Some(intercept + slope * (x - origin as f64))
    }

    /// Inverse of [`position`](Self::position).
    pub(crate) fn phase(&self, position: f64, last: bool) -> Option<f64> {
        let mut number = self.number;
        while number > self.oldest_node && self.nodes[slot(number)].position > position {
            number -= 1;
        }
        let fraction = (position - self.nodes[slot(number)].position) / self.half;
        let (origin, intercept, slope) =
            self.local_line(libm::round(number as f64 + fraction) as i64, last)?;
        Some(origin as f64 + (position - intercept) / slope)
    }

    /// Some crossing between the numbers `from` and `to` was measured.
    pub(crate) fn seen(&self, from: f64, to: f64) -> bool {
        let first = (libm::ceil(from) as i64).max(self.oldest_node);
        let last = (libm::floor(to) as i64).min(self.number);
        (first..=last).any(|number| self.nodes[slot(number)].measured)
    }

    fn note(&mut self, number: i64, node: Node) {
        self.nodes[slot(number)] = node;
        self.oldest_node = self.oldest_node.max(number - KEPT + 1);
    }

    /// A cycle steers when both its neighbours, half a cycle away, are as large: no event begins or ends in it.
    fn observe(&mut self, crossing: Crossing, angle: f64, amplitude: f64) {
        let near = |before: &Observed| {
            let larger = amplitude.max(before.amplitude);
            larger > self.faint && (amplitude - before.amplitude).abs() < 0.02 * larger
        };
        let steady = self.candidate.as_ref().map_or(!self.observed, near);
        self.observed = true;
        self.present = if amplitude > self.faint { self.present.saturating_add(1) } else { 0 };
        let before = self.candidate.replace(Observed { crossing, angle, amplitude, steady });
        let Some(settled) = before.filter(|before| before.steady && steady) else {
            self.stray_count = 0;
            return;
        };
        let Observed { crossing, angle, .. } = settled;
        if self.locked && angle.abs() < STRAY_ANGLE {
            self.stray_count = 0;
            self.blind = 0;
            self.nodes[slot(crossing.number)] = Node { position: crossing.position, measured: true };
            self.take(crossing);
            self.fit();
        } else {
            self.stray(crossing);
        }
    }

    /// Collects crossings that disagree with the line; once they agree with each other they become the line.
    fn stray(&mut self, mut crossing: Crossing) {
        let half = self.half;
        if self.stray_count > 0 {
            let last = self.strays[self.stray_count - 1];
            let expected = last.position + half * (crossing.number - last.number) as f64;
            crossing.position += half * libm::round((expected - crossing.position) / half);
        }
        if self.stray_count == STRAYS {
            self.strays.copy_within(1.., 0);
            self.stray_count -= 1;
        }
        self.strays[self.stray_count] = crossing;
        self.stray_count += 1;
        if self.stray_count < STRAYS {
            return;
        }
        let (intercept, slope) = straight_line(&self.strays, crossing);
        let straight = self.strays.iter().all(|c| {
            let expected = intercept + slope * (c.number - crossing.number) as f64;
            (c.position - expected).abs() < 0.06 * slope
        });
        if straight && self.plausible(slope) {
            self.line_length = 0;
            self.line_head = 0;
            for stray in self.strays {
                self.take(stray);
                let node = &mut self.nodes[slot(stray.number)];
                if (stray.position - node.position).abs() < 0.5 * slope {
                    *node = Node { position: stray.position, measured: true };
                }
            }
            self.stray_count = 0;
            self.blind = 0;
            self.locked = true;
            self.fit();
        }
    }

    fn plausible(&self, half: f64) -> bool {
        let relative = self.nominal_half / half;
        (1.0 - REACH..=1.0 + REACH).contains(&relative)
    }

    fn take(&mut self, crossing: Crossing) {
        self.line[self.line_head] = crossing;
        self.line_head = (self.line_head + 1) % LINE;
        self.line_length = (self.line_length + 1).min(LINE);
    }

    fn fit(&mut self) {
        let newest = self.line[(self.line_head + LINE - 1) % LINE];
        let (_, slope) = straight_line(&self.line[..self.line_length], newest);
        if self.plausible(slope) {
            self.half = slope;
        }
    }

    /// Replaces the line by the ideal one through `position` at `number`.
    fn follow(&mut self, number: i64, position: f64, half: f64) {
        self.half = half;
        self.line_length = 0;
        self.line_head = 0;
        for back in (0..LINE as i64).rev() {
            self.take(Crossing { number: number - back, position: position - half * back as f64 });
        }
    }

    /// Predicted position of boundary `number`, which follows the latest one.
    fn predict(&mut self, number: i64) -> f64 {
        if self.line_length < 2 {
            return self.boundary + self.half;
        }
        let newest = self.line[(self.line_head + LINE - 1) % LINE];
        let (intercept, _) = straight_line(&self.line[..self.line_length], newest);
        let position = intercept + self.half * (number - newest.number) as f64;
        // After a jump of phase the nearest crossing of the new line continues the count.
        let steps = libm::round((self.boundary + self.half - position) / self.half);
        if steps != 0.0 {
            for crossing in &mut self.line[..self.line_length] {
                crossing.number -= steps as i64;
            }
        }
        let position = position + steps * self.half;
        position.clamp(self.boundary + 0.5 * self.half, self.boundary + 1.5 * self.half)
    }

    /// Smoothing line around a crossing: the number of its origin, the position there, and the half cycle.
    fn local_line(&self, around: i64, last: bool) -> Option<(i64, f64, f64)> {
        let newest = if last { self.number } else { self.number - 2 };
        if around - SMOOTHING < self.oldest_node {
            // Nothing was measured before the start: lean on more of what follows.
            let end = (self.oldest_node + STARTING).min(newest);
            if !last && end < self.oldest_node + STARTING {
                return None;
            }
            if let Some(line) = self.line_through(self.oldest_node, end, STARTING_BENT) {
                return Some(line);
            }
        }
        if around + SMOOTHING > newest {
            if !last {
                return None;
            }
            // Nor after the end: lean on more of what came before.
            let begin = (newest - STARTING).max(self.oldest_node);
            if let Some(line) = self.line_through(begin, newest, STARTING_BENT) {
                return Some(line);
            }
        }
        let first =
            (around - SMOOTHING).clamp(self.oldest_node, (newest - 2 * SMOOTHING).max(self.oldest_node));
        let end = (first + 2 * SMOOTHING).min(newest);
        if end <= first {
            return Some((self.number, self.boundary, self.half));
        }
        // Where the frequency steps only the nearest crossings tell the position.
        let near = around.clamp(first + 1, (end - 1).max(first + 1));
        self.line_through(first, end, BENT)
            .or_else(|| self.line_through(near - 1, (near + 1).min(end), f64::INFINITY))
    }

    /// Line through the crossings `first..=last`, unless one is further than `bent` half cycles from it.
    fn line_through(&self, first: i64, last: i64, bent: f64) -> Option<(i64, f64, f64)> {
        let mut crossings = [Crossing::default(); STARTING as usize + 1];
        let count = ((last - first + 1).max(0) as usize).min(crossings.len());
        for (crossing, number) in crossings.iter_mut().zip(first..=last) {
            *crossing = Crossing { number, position: self.nodes[slot(number)].position };
        }
        let crossings = &crossings[..count];
        let middle = *crossings.get(count / 2).filter(|_| count > 1)?;
        let (intercept, slope) = straight_line(crossings, middle);
        let straight = crossings.iter().all(|crossing| {
            let expected = intercept + slope * (crossing.number - middle.number) as f64;
            (crossing.position - expected).abs() <= bent * slope
        });
        straight.then_some((middle.number, intercept, slope))
    }

    /// Least-squares phase and frequency of the fundamental between two samples: a crossing and the half period.
    fn acquire(&self, buffer: &SampleBuffer, from: i64, to: i64) -> Option<(f64, f64)> {
        // Far from the nominal frequency the first guess has to be nearer.
        [1.0, 1.15, 0.87, 1.26, 0.78]
            .iter()
            .find_map(|factor| self.acquire_near(factor * self.nominal_half, buffer, from, to))
    }

    fn acquire_near(&self, guess: f64, buffer: &SampleBuffer, from: i64, to: i64) -> Option<(f64, f64)> {
        const MOST: usize = 40;
        let first = from as f64 + 1.0;
        let last = (to - MARGIN) as f64;
        let (mut start, mut half) = (first, guess);
        let mut cycles = [(0.0f64, 0.0f64); MOST];
        let mut settled = None;
        for round in 0..12 {
            let count = (libm::floor((last - start) / half).max(0.0) as usize).min(MOST);
            if count < 2 {
                return None;
            }
            let mut before = half_cycle(buffer, start, start + half);
            for (k, cycle) in cycles.iter_mut().enumerate().take(count - 1) {
                let from = start + (k + 1) as f64 * half;
                let after = half_cycle(buffer, from, from + half);
                let (re, im) = (before.re - after.re, before.im - after.im);
                *cycle = (libm::sqrt(re * re + im * im) / half, folded_angle(re, im));
                before = after;
            }
            let cycles = &mut cycles[..count - 1];
            // Only once the frequency is nearly right does the amplitude of a steady signal stand still.
            let strict = round >= 4;
            let (intercept, slope, scatter) = angle_line(cycles, self.faint, strict)?;
            let better = half * (1.0 - slope / PI);
            if !self.plausible(better) {
                return None;
            }
            let crossing = start - (intercept - slope) * half / PI;
            half = better;
            start = crossing + half * libm::ceil((first - crossing) / half);
            if strict {
                settled = (slope.abs() < 0.02 && scatter < 0.15).then_some((start, half));
                if slope.abs() < 1e-11 {
                    break;
                }
            }
        }
        settled
    }
}

fn slot(number: i64) -> usize {
    number.rem_euclid(KEPT) as usize
}

/// Phase of the signal before the oscillator, modulo half a cycle.
fn folded_angle(re: f64, im: f64) -> f64 {
    let angle = libm::atan2(re, -im);
    if angle > PI / 2.0 {
        angle - PI
    } else if angle < -PI / 2.0 {
        angle + PI
    } else {
        angle
    }
}

/// Line through the angles of cycles (amplitude, angle): value at index 0, slope per index, RMS distance.
fn angle_line(cycles: &mut [(f64, f64)], faint: f64, strict: bool) -> Option<(f64, f64, f64)> {
    let steady = |cycles: &[(f64, f64)], k: usize| {
        let own = cycles[k].0;
        let near = |other: f64| (own - other).abs() < 0.03 * own;
        own > faint
            && (!strict
                || ((k == 0 || near(cycles[k - 1].0)) && cycles.get(k + 1).is_none_or(|next| near(next.0))))
    };
    let mut last: Option<f64> = None;
    let (mut n, mut sx, mut sy, mut sxx, mut sxy) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for k in 0..cycles.len() {
        if !steady(cycles, k) {
            continue;
        }
        let mut angle = cycles[k].1;
        if let Some(last) = last {
            angle += PI * libm::round((last - angle) / PI);
        }
        cycles[k].1 = angle;
        last = Some(angle);
        let x = k as f64;
        (n, sx, sy, sxx, sxy) = (n + 1.0, sx + x, sy + angle, sxx + x * x, sxy + x * angle);
    }
    let determinant = n * sxx - sx * sx;
    if n < 1.0 || n * 4.0 < cycles.len() as f64 {
        return None;
    }
    let slope = if determinant > 0.0 { (n * sxy - sx * sy) / determinant } else { 0.0 };
    let intercept = (sy - slope * sx) / n;
    let mut square = 0.0;
    for k in 0..cycles.len() {
        if steady(cycles, k) {
            let distance = cycles[k].1 - intercept - slope * k as f64;
            square += distance * distance;
        }
    }
    Some((intercept, slope, libm::sqrt(square / n)))
}

/// Least-squares line through crossings: position at `origin.number`, and length per crossing.
fn straight_line(crossings: &[Crossing], origin: Crossing) -> (f64, f64) {
    let (mut sx, mut sy, mut sxx, mut sxy) = (0.0, 0.0, 0.0, 0.0);
    for crossing in crossings {
        let x = (crossing.number - origin.number) as f64;
        let y = crossing.position - origin.position;
        sx += x;
        sy += y;
        sxx += x * x;
        sxy += x * y;
    }
    let n = crossings.len() as f64;
    let determinant = n * sxx - sx * sx;
    let slope = if determinant > 0.0 { (n * sxy - sx * sy) / determinant } else { 0.0 };
    (origin.position + (sy - slope * sx) / n, slope)
}
