// SPDX-License-Identifier: Apache-2.0
//! The recent input as one contiguous slice, addressed by absolute sample number.

/// Samples kept before the first one, so that filters reach back from sample 0.
pub(crate) const HISTORY: usize = 512;

#[derive(Debug, Clone)]
pub(crate) struct SampleBuffer {
    data: Vec<f32>,
    /// Absolute number of `data[0]`.
    first: i64,
}

impl SampleBuffer {
    /// A buffer that can keep `keep` samples besides those that arrive; it never grows.
    pub(crate) fn new(keep: usize) -> Self {
        let mut data = Vec::with_capacity(2 * (keep + HISTORY));
        data.resize(HISTORY, 0.0);
        Self { data, first: -(HISTORY as i64) }
    }

    /// Absolute number of the next sample to arrive.
    pub(crate) fn end(&self) -> i64 {
        self.first + self.data.len() as i64
    }

    /// Samples that fit in when the buffer is empty.
    pub(crate) fn room(&self) -> usize {
        self.data.capacity()
    }

    /// Takes as many of `samples` as there is room for and says how many.
    pub(crate) fn append(&mut self, samples: &[f32]) -> usize {
        let count = samples.len().min(self.data.capacity() - self.data.len());
        self.data.extend_from_slice(&samples[..count]);
        count
    }

    /// Adds one computed sample, if there is room.
    pub(crate) fn append_one(&mut self, sample: f32) {
        if self.data.len() < self.data.capacity() {
            self.data.push(sample);
        }
    }

    /// Forgets what lies before `oldest`, once that frees half of the room.
    pub(crate) fn release(&mut self, oldest: i64) {
        let count = (oldest - self.first).clamp(0, self.data.len() as i64) as usize;
        if self.data.len() < self.data.capacity() / 2 || count == 0 {
            return;
        }
        self.data.copy_within(count.., 0);
        self.data.truncate(self.data.len() - count);
        self.first += count as i64;
    }

    /// Drops everything and continues at `position` after an interruption of the input, with a history of silence.
    pub(crate) fn restart(&mut self, position: i64) {
        self.data.clear();
        self.data.resize(HISTORY, 0.0);
        self.first = position - HISTORY as i64;
    }

    /// The samples `from..to`, cut to what is there.
    pub(crate) fn range(&self, from: i64, to: i64) -> &[f32] {
        let length = self.data.len() as i64;
        let start = (from - self.first).clamp(0, length);
        let end = (to - self.first).clamp(start, length);
        &self.data[start as usize..end as usize]
    }

    /// Overwrites the history before `position` with `value(absolute number)`.
    pub(crate) fn fill_history(&mut self, position: i64, mut value: impl FnMut(&[f32], i64, i64) -> f32) {
        let start = (position - HISTORY as i64).max(self.first);
        for number in start..position {
            let filled = value(&self.data, self.first, number);
            self.data[(number - self.first) as usize] = filled;
        }
    }

    /// Value between the samples, by cubic interpolation; zero outside the buffer.
    pub(crate) fn interpolate(&self, position: f64) -> f32 {
        interpolate(&self.data, self.first, position)
    }
}

/// Cubic (Catmull-Rom) value at the absolute `position` of `data`, whose first element is number `first`.
pub(crate) fn interpolate(data: &[f32], first: i64, position: f64) -> f32 {
    let floor = libm::floor(position);
    let fraction = position - floor;
    let index = floor as i64 - first;
    let last = data.len() as i64 - 1;
    if index < 0 || index > last {
        return 0.0;
    }
    let at = |offset: i64| f64::from(data[(index + offset).clamp(0, last) as usize]);
    let (a, b, c, d) = (at(-1), at(0), at(1), at(2));
    let slope_b = 0.5 * (c - a);
    let slope_c = 0.5 * (d - b);
    let cubic = 2.0 * (b - c) + slope_b + slope_c;
    let square = 3.0 * (c - b) - 2.0 * slope_b - slope_c;
    (((cubic * fraction + square) * fraction + slope_b) * fraction + b) as f32
}
