// SPDX-License-Identifier: Apache-2.0
//! The signal between its samples, band-limited: as many points per window as the transform wants.

use core::f64::consts::PI;

use crate::buffer::SampleBuffer;
use crate::config::NominalFrequency;
use crate::fft::{Fft, POINTS};

/// Tabulated positions between two samples; in between the table is linear.
const ROWS: usize = 256;
/// Attenuation of images and aliases in decibels.
const ATTENUATION: f64 = 80.0;

/// Polyphase Kaiser-windowed sinc.
#[derive(Debug, Clone)]
pub(crate) struct Resampler {
    taps: usize,
    /// `ROWS` rows of `taps` coefficients, four by four with their differences to the next row.
    rows: Vec<[[f32; 4]; 2]>,
}

impl Resampler {
    /// Flat up to order 51 at the upper end of the frequency range, or to 0.45 × rate where that is less.
    pub(crate) fn new(rate: f64, nominal: NominalFrequency) -> Self {
        let pass = (51.0 * 1.15 * nominal.hertz()).min(0.45 * rate);
        // Above this the output, 2048 points per window, would fold into order 51 at the lower end of the range.
        let folding = (POINTS as f64 / nominal.cycles() as f64 - 51.0) * 0.85 * nominal.hertz();
        let stop = if rate / 2.0 > folding { folding } else { rate - pass };
        let cutoff = (pass + stop) / 2.0 / rate;
        let length = (ATTENUATION - 8.0) / (2.285 * 2.0 * PI) * rate / (stop - pass);
        let taps = (libm::ceil(length / 4.0) as usize * 4).max(8);
        let beta = 0.1102 * (ATTENUATION - 8.7);
        let kernel = |x: f64| {
            let edge = x / (taps as f64 / 2.0);
            let window = bessel_i0(beta * libm::sqrt((1.0 - edge * edge).max(0.0))) / bessel_i0(beta);
            let angle = 2.0 * PI * cutoff * x;
            let sinc = if angle.abs() < 1e-9 { 1.0 } else { libm::sin(angle) / angle };
            2.0 * cutoff * sinc * window
        };
        let row = |row: usize| -> Vec<f64> {
            let fraction = row as f64 / ROWS as f64;
            let distance = |tap: usize| fraction + taps as f64 / 2.0 - 1.0 - tap as f64;
            let sum: f64 = (0..taps).map(|tap| kernel(distance(tap))).sum();
            (0..taps).map(|tap| kernel(distance(tap)) / sum).collect()
        };
        let mut rows = Vec::with_capacity(ROWS * taps / 4);
        let mut this = row(0);
        for number in 1..=ROWS {
            let next = row(number);
            rows.extend((0..taps / 4).map(|group| {
                let at = |lane: usize| this[4 * group + lane];
                let to = |lane: usize| next[4 * group + lane] - at(lane);
                [core::array::from_fn(|lane| at(lane) as f32), core::array::from_fn(|lane| to(lane) as f32)]
            }));
            this = next;
        }
        Self { taps, rows }
    }

    /// Fills the transform with equally spaced points from `start` up to but not including `end`.
    /// False when the buffer does not hold them all.
    pub(crate) fn fill(&self, buffer: &SampleBuffer, start: f64, end: f64, fft: &mut Fft) -> bool {
        let half = self.taps as i64 / 2;
        let floor = libm::floor(start) as i64;
        let first = floor - half + 1;
        let last = libm::ceil(end) as i64 + half + 1;
        let samples = buffer.range(first, last);
        if samples.len() as i64 != last - first {
            return false;
        }
        // Positions with 32 fractional bits: 8 choose the row, 24 lie between rows.
        const ONE: f64 = 4_294_967_296.0;
        let position = ((start - floor as f64) * ONE) as u64;
        let step = ((end - start) / POINTS as f64 * ONE) as u64;
        // The usual lengths are unrolled.
        match self.taps / 4 {
            3 => self.points(samples, position, step, fft, Self::value_of::<3>),
            4 => self.points(samples, position, step, fft, Self::value_of::<4>),
            _ => self.points(samples, position, step, fft, Self::value),
        }
        true
    }

    #[inline(always)]
    fn points(
        &self,
        samples: &[f32],
        mut position: u64,
        step: u64,
        fft: &mut Fft,
        value: impl Fn(&Self, &[f32], u64) -> f32,
    ) {
        for group in 0..POINTS / 8 {
            let mut points = [0.0f32; 8];
            for point in &mut points {
                *point = value(self, samples, position);
                position += step;
            }
            fft.set(group, points);
        }
    }

    /// [`value`](Self::value) for a number of groups known to the compiler.
    #[inline(always)]
    fn value_of<const GROUPS: usize>(&self, samples: &[f32], position: u64) -> f32 {
        let index = (position >> 32) as usize;
        let begin = ((position >> 24) as usize & (ROWS - 1)) * GROUPS;
        let (samples, row) = (&samples[index..index + 4 * GROUPS], &self.rows[begin..begin + GROUPS]);
        Self::product(samples, row, position)
    }

    #[inline(always)]
    fn value(&self, samples: &[f32], position: u64) -> f32 {
        let groups = self.taps / 4;
        let index = (position >> 32) as usize;
        let begin = ((position >> 24) as usize & (ROWS - 1)) * groups;
        let (samples, row) = (&samples[index..index + 4 * groups], &self.rows[begin..begin + groups]);
        Self::product(samples, row, position)
    }

    /// Sum of products with the row and, by the fraction between rows, the next one.
    #[inline(always)]
    fn product(samples: &[f32], row: &[[[f32; 4]; 2]], position: u64) -> f32 {
        let fraction = (position as u32 & 0x00ff_ffff) as f32 * (1.0 / 16_777_216.0);
        let mut value = [0.0f32; 4];
        let mut difference = [0.0f32; 4];
        for (u, [a, d]) in samples.as_chunks::<4>().0.iter().zip(row) {
            for lane in 0..4 {
                value[lane] += u[lane] * a[lane];
                difference[lane] += u[lane] * d[lane];
            }
        }
        let sum: [f32; 4] = core::array::from_fn(|lane| value[lane] + fraction * difference[lane]);
        (sum[0] + sum[2]) + (sum[1] + sum[3])
    }
}

/// Modified Bessel function of the first kind, order zero.
fn bessel_i0(x: f64) -> f64 {
    let (mut sum, mut term) = (1.0, 1.0);
    for k in 1..60 {
        let factor = x / (2.0 * f64::from(k));
        term *= factor * factor;
        sum += term;
    }
    sum
}
