// SPDX-License-Identifier: Apache-2.0
//! The device's true sampling rate and the moment of each sample, from arrival stamps that are only ever late.
//!
//! Arrival = moment of the sample + delay, and a delay is never negative: scheduling stalls, a busy bus and full
//! queues push stamps up, nothing pulls them down. So the line through the *earliest* arrivals is the clock. Each
//! block of some seconds keeps its earliest arrival; the line is the edge of the lower convex hull of these that
//! spans their middle (the maximum-likelihood fit for delays with an exponential distribution). A stall of any
//! length leaves the hull where it was.

/// Seconds of signal whose earliest arrival is kept as one point.
const BLOCK_S: f64 = 8.0;
/// Points kept: ten minutes and a half.
const POINTS: usize = 80;
/// Signal needed before the rate is estimated at all: with milliseconds of jitter, less would make it worse.
const WARM_UP_S: f64 = 120.0;
/// Blocks that are late by more than this, and how many of them in a row, tell of lost samples.
const LATE_S: f64 = 0.05;
const LATE_BLOCKS: u32 = 3;
/// No crystal is further off.
const MAX_PPM: f64 = 300.0;

/// Sample counter → monotonic clock.
#[derive(Debug, Clone)]
pub struct Discipline {
    nominal: f64,
    /// Earliest arrivals of past blocks: seconds of signal at the nominal rate, lateness against it.
    points: [Point; POINTS],
    count: usize,
    block: Option<Point>,
    block_start: f64,
    /// Nothing has arrived yet.
    empty: bool,
    line: Line,
    /// The rate was known before the points there are now; it holds until they span enough.
    warm: bool,
    /// Blocks in a row whose earliest arrival was [`LATE_S`] behind the line, and the least of them.
    late_blocks: u32,
    late: f64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Point {
    signal: f64,
    late: f64,
}

/// `late = offset + slope × signal`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Line {
    offset: f64,
    slope: f64,
}

impl Discipline {
    /// For a device that says it samples at `nominal` (Hz).
    #[must_use]
    pub fn new(nominal: f64) -> Self {
        Self {
            nominal,
            points: [Point::default(); POINTS],
            count: 0,
            block: None,
            block_start: 0.0,
            empty: true,
            line: Line::default(),
            warm: false,
            late_blocks: 0,
            late: f64::INFINITY,
        }
    }

    /// The sample before counter value `samples` has arrived at `arrival` (monotonic seconds).
    pub fn arrived(&mut self, samples: u64, arrival: f64) {
        let signal = samples as f64 / self.nominal;
        let point = Point { signal, late: arrival - signal };
        match &mut self.block {
            None => self.block = Some(point),
            Some(earliest) if self.line.over(point) < self.line.over(*earliest) => *earliest = point,
            Some(_) => {}
        }
        if self.count == 0 {
            // Until there is a hull, the earliest arrival so far is the clock.
            let offset = point.late - self.line.slope * point.signal;
            self.line.offset = if self.empty { offset } else { self.line.offset.min(offset) };
            self.empty = false;
        }
        if signal - self.block_start >= BLOCK_S {
            self.close_block(signal);
        }
    }

    /// The counter was set by this arrival: earlier ones say nothing about its place in time any more, only about the
    /// device's rate.
    pub fn resume(&mut self, samples: u64, arrival: f64) {
        let line = self.line;
        let warm = self.ppm().is_some();
        *self = Self { line, warm, block_start: samples as f64 / self.nominal, ..Self::new(self.nominal) };
        self.arrived(samples, arrival);
    }

    /// Everything that came lately was late by at least this (s): samples were lost that nobody counted.
    #[must_use]
    pub fn always_late(&self) -> Option<f64> {
        (self.late_blocks >= LATE_BLOCKS).then_some(self.late)
    }

    /// Monotonic seconds of the moment just after sample number `samples`.
    #[must_use]
    pub fn moment(&self, samples: f64) -> f64 {
        let signal = samples / self.nominal;
        signal + self.line.offset + self.line.slope * signal
    }

    /// Deviation of the device's rate from the nominal one against the monotonic clock; `None` until two minutes
    /// of signal have been seen.
    #[must_use]
    pub fn ppm(&self) -> Option<f64> {
        (self.warm || self.span() >= WARM_UP_S).then(|| -self.line.slope / (1.0 + self.line.slope) * 1e6)
    }

    /// The device's rate (Hz).
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.nominal / (1.0 + self.line.slope)
    }

    fn close_block(&mut self, signal: f64) {
        if let Some(point) = self.block.take() {
            let late = self.line.over(point);
            if self.count > 0 && late > LATE_S {
                self.late = self.late.min(late);
                self.late_blocks += 1;
            } else {
                (self.late, self.late_blocks) = (f64::INFINITY, 0);
            }
            if self.count == POINTS {
                self.points.copy_within(1.., 0);
                self.count -= 1;
            }
            self.points[self.count] = point;
            self.count += 1;
            self.fit();
        }
        self.block_start = signal;
    }

    fn span(&self) -> f64 {
        match self.points[..self.count] {
            [first, .., last] => last.signal - first.signal,
            _ => 0.0,
        }
    }

    fn fit(&mut self) {
        let points = &self.points[..self.count];
        if self.span() < WARM_UP_S {
            let slope = self.line.slope;
            self.line.offset =
                points.iter().map(|point| point.late - slope * point.signal).fold(f64::INFINITY, f64::min);
            return;
        }
        let middle = points.iter().map(|point| point.signal).sum::<f64>() / points.len() as f64;
        let mut hull = [Point::default(); POINTS];
        let length = lower_hull(points, &mut hull);
        let hull = &hull[..length];
        let right = hull.partition_point(|point| point.signal <= middle).clamp(1, length - 1);
        let (a, b) = (hull[right - 1], hull[right]);
        let slope = ((b.late - a.late) / (b.signal - a.signal)).clamp(-MAX_PPM * 1e-6, MAX_PPM * 1e-6);
        let offset =
            points.iter().map(|point| point.late - slope * point.signal).fold(f64::INFINITY, f64::min);
        self.line = Line { offset, slope };
    }
}

impl Line {
    /// How far `point` lies above the line.
    fn over(self, point: Point) -> f64 {
        point.late - self.offset - self.slope * point.signal
    }
}

/// Andrew's monotone chain on points that ascend in `signal`; returns how many of `hull` are used (two or more
/// for two or more points).
fn lower_hull(points: &[Point], hull: &mut [Point; POINTS]) -> usize {
    let mut length = 0;
    for &point in points {
        while length >= 2 && !turns_up(hull[length - 2], hull[length - 1], point) {
            length -= 1;
        }
        hull[length] = point;
        length += 1;
    }
    length
}

fn turns_up(a: Point, b: Point, c: Point) -> bool {
    (b.signal - a.signal) * (c.late - a.late) > (c.signal - a.signal) * (b.late - a.late)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: f64 = 10_240.0;

    /// Frames of 64 samples from a device `ppm` fast, each `delay(k)` late; monotonic time begins at 1000 s.
    fn run(clock: &mut Discipline, seconds: f64, ppm: f64, mut delay: impl FnMut(u64) -> f64) {
        let true_rate = RATE * (1.0 + ppm * 1e-6);
        for frame in 1..=(seconds * 160.0) as u64 {
            let samples = frame * 64;
            clock.arrived(samples, 1000.0 + samples as f64 / true_rate + delay(frame));
        }
    }

    fn noise(frame: u64) -> f64 {
        let mixed = frame.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        0.0005 - 0.002 * (1.0 - mixed as f64 / (1u64 << 24) as f64).max(1e-9).ln()
    }

    #[test]
    fn the_rate_is_found_under_jitter() {
        for ppm in [-150.0, -20.0, 0.0, 37.5, 200.0] {
            let mut clock = Discipline::new(RATE);
            run(&mut clock, 600.0, ppm, noise);
            let found = clock.ppm().expect("warm");
            assert!((found - ppm).abs() < 1.0, "{ppm} ppm read as {found}");
            let sample = 600.0 * RATE;
            let truth = 1000.0 + sample / (RATE * (1.0 + ppm * 1e-6));
            assert!(
                (clock.moment(sample) - truth - 0.0005).abs() < 0.001,
                "moment off by {}",
                clock.moment(sample) - truth
            );
        }
    }

    #[test]
    fn a_stall_moves_nothing() {
        let mut steady = Discipline::new(RATE);
        run(&mut steady, 400.0, 25.0, noise);
        let mut stalled = Discipline::new(RATE);
        run(&mut stalled, 400.0, 25.0, |frame| {
            // Half a second every 20 s: frames wait and are then read at once.
            let within = frame % 3200;
            noise(frame) + if within < 80 { 0.5 - within as f64 / 160.0 } else { 0.0 }
        });
        let sample = 390.0 * RATE;
        assert!((steady.moment(sample) - stalled.moment(sample)).abs() < 0.001);
        assert!((steady.ppm().unwrap() - stalled.ppm().unwrap()).abs() < 2.0);
    }

    #[test]
    fn a_late_first_frame_is_forgotten() {
        let mut clock = Discipline::new(RATE);
        run(&mut clock, 2.0, 0.0, |frame| if frame < 50 { 0.3 } else { 0.001 });
        assert!((clock.moment(2.0 * RATE) - 1002.001).abs() < 1e-6);
    }

    #[test]
    fn at_first_the_nominal_rate_holds() {
        let mut clock = Discipline::new(RATE);
        run(&mut clock, 110.0, 80.0, noise);
        assert_eq!(clock.ppm(), None);
        assert!((clock.rate() - RATE).abs() < 1e-9);
    }

    #[test]
    fn memory_is_bounded_and_old_blocks_leave() {
        let mut clock = Discipline::new(RATE);
        run(&mut clock, 1_400.0, 10.0, noise);
        assert_eq!(clock.count, POINTS);
        assert!((clock.ppm().unwrap() - 10.0).abs() < 1.0);
    }

    #[test]
    fn after_a_break_the_rate_is_still_known() {
        let mut clock = Discipline::new(RATE);
        run(&mut clock, 600.0, 40.0, noise);
        let samples = 600 * 10_240 + 500_000;
        clock.resume(samples, 2000.0);
        assert!((clock.ppm().unwrap() - 40.0).abs() < 1.0);
        assert!((clock.moment(samples as f64) - 2000.0).abs() < 1e-9);
        clock.arrived(samples + 64, 2000.001);
        assert!(clock.moment(samples as f64) < 1999.996, "an earlier arrival is the better one");
    }

    #[test]
    fn samples_that_nobody_counted_are_noticed() {
        let mut clock = Discipline::new(RATE);
        run(&mut clock, 300.0, 0.0, noise);
        assert_eq!(clock.always_late(), None);
        for frame in 300 * 160..340 * 160 {
            let samples = frame * 64;
            clock.arrived(samples, 1000.0 + samples as f64 / RATE + 0.08 + noise(frame));
        }
        let late = clock.always_late().expect("late");
        assert!((late - 0.08).abs() < 0.002, "{late}");
    }
}
