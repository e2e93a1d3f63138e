// SPDX-License-Identifier: Apache-2.0
//! The recent past for graphs: ten minutes by the second, a day by the minute, a month by the hour, in
//! memory of fixed size.

use crate::clock::Utc;
use crate::second::Second;
use std::collections::VecDeque;
use std::time::Duration;

/// What can be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// RMS voltage (V).
    Voltage,
    /// Frequency (Hz).
    Frequency,
    /// Total harmonic distortion (%).
    Thd,
}

impl Quantity {
    /// Names on the interfaces.
    pub const NAMES: [(&'static str, Self); 3] =
        [("voltage", Self::Voltage), ("frequency", Self::Frequency), ("thd", Self::Thd)];
}

/// Lowest, mean and highest value of a stretch of time; `None` where nothing was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Start of the stretch.
    pub at: Utc,
    /// Lowest, mean, highest.
    pub values: Option<[f32; 3]>,
}

/// The recent past.
#[derive(Debug)]
pub struct Trend {
    levels: [Level; 3],
}

impl Default for Trend {
    fn default() -> Self {
        Self { levels: [Level::new(1, 600), Level::new(60, 1440), Level::new(3600, 744)] }
    }
}

impl Trend {
    /// Takes the values of a second that ended at `utc`.
    pub fn push(&mut self, second: &Second, utc: Utc) {
        let values = [Some(second.voltage), second.frequency, second.thd];
        for level in &mut self.levels {
            level.push(values, utc);
        }
    }

    /// Length in seconds of one point, and the points of the last `span`, oldest first, from the finest
    /// record that reaches that far back.
    pub fn points(&self, quantity: Quantity, span: Duration) -> (u32, impl Iterator<Item = Point> + '_) {
        let reaches = |level: &&Level| u64::from(level.seconds) * level.capacity as u64 >= span.as_secs();
        let [.., coarsest] = &self.levels;
        let level = self.levels.iter().find(reaches).unwrap_or(coarsest);
        let wanted = span.as_secs().div_ceil(u64::from(level.seconds)).try_into().unwrap_or(usize::MAX);
        let skip = level.points.len().saturating_sub(wanted);
        let points = level.points.iter().skip(skip).map(move |bucket| Point {
            at: Utc::from_millis(bucket.index * i64::from(level.seconds) * 1000),
            values: bucket.of(quantity),
        });
        (level.seconds, points)
    }
}

#[derive(Debug)]
struct Level {
    seconds: u32,
    capacity: usize,
    points: VecDeque<Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Stretches of this length since 1970.
    index: i64,
    count: [u16; 3],
    low: [f32; 3],
    high: [f32; 3],
    sum: [f32; 3],
}

impl Level {
    fn new(seconds: u32, capacity: usize) -> Self {
        Self { seconds, capacity, points: VecDeque::new() }
    }

    fn push(&mut self, values: [Option<f64>; 3], utc: Utc) {
        // The second that ends on the tick belongs to the stretch before it.
        let index = (utc.millis() - 500).div_euclid(i64::from(self.seconds) * 1000);
        let fits = self.points.back().is_some_and(|bucket| bucket.index == index);
        if !fits {
            if self.points.len() == self.capacity {
                self.points.pop_front();
            }
            self.points.push_back(Bucket::new(index));
        }
        if let Some(bucket) = self.points.back_mut() {
            bucket.add(values);
        }
    }
}

impl Bucket {
    fn new(index: i64) -> Self {
        Self { index, count: [0; 3], low: [f32::INFINITY; 3], high: [f32::NEG_INFINITY; 3], sum: [0.0; 3] }
    }

    fn add(&mut self, values: [Option<f64>; 3]) {
        for (place, value) in values.into_iter().enumerate() {
            let Some(value) = value.filter(|value| value.is_finite()) else { continue };
            let value = value as f32;
            self.count[place] = self.count[place].saturating_add(1);
            self.low[place] = self.low[place].min(value);
            self.high[place] = self.high[place].max(value);
            self.sum[place] += value;
        }
    }

    fn of(&self, quantity: Quantity) -> Option<[f32; 3]> {
        let place = quantity as usize;
        let count = self.count[place];
        (count > 0).then(|| [self.low[place], self.sum[place] / f32::from(count), self.high[place]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_finest_level_that_reaches_answers() {
        let mut trend = Trend::default();
        for index in 1..=7200_i64 {
            let second = Second { voltage: 230.0 + (index % 2) as f64, ..Second::default() };
            trend.push(&second, Utc::from_millis(1_800_000_000_000 + index * 1000));
        }
        let (step, points) = trend.points(Quantity::Voltage, Duration::from_secs(600));
        assert_eq!((step, points.count()), (1, 600));
        let (step, points) = trend.points(Quantity::Voltage, Duration::from_secs(3600));
        let points: Vec<Point> = points.collect();
        assert_eq!((step, points.len()), (60, 60));
        assert_eq!(points[59].values, Some([230.0, 230.5, 231.0]));
        assert_eq!(points[59].at, Utc::from_millis(1_800_000_000_000 + 7140 * 1000));
        let (step, mut points) = trend.points(Quantity::Frequency, Duration::from_secs(7 * 86_400));
        assert_eq!((step, points.next().unwrap().values), (3600, None));
    }
}
