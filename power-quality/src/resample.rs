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
    /// `ROWS + 1` rows of `taps` coefficients.
    rows: Vec<f32>,
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
        let mut rows = Vec::with_capacity((ROWS + 1) * taps);
        for row in 0..=ROWS {
            let fraction = row as f64 / ROWS as f64;
            let distance = |tap: usize| fraction + taps as f64 / 2.0 - 1.0 - tap as f64;
            let sum: f64 = (0..taps).map(|tap| kernel(distance(tap))).sum();
            rows.extend((0..taps).map(|tap| (kernel(distance(tap)) / sum) as f32));
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
        let mut position = ((start - floor as f64) * ONE) as u64;
        let step = ((end - start) / POINTS as f64 * ONE) as u64;
        for (even, odd) in fft.even.iter_mut().zip(&mut fft.odd) {
            *even = self.value(samples, position);
            *odd = self.value(samples, position + step);
            position += 2 * step;
        }
        true
    }

    #[inline]
    fn value(&self, samples: &[f32], position: u64) -> f32 {
        let index = (position >> 32) as usize;
        let row = (position >> 24) as usize & (ROWS - 1);
        let fraction = (position as u32 & 0x00ff_ffff) as f32 * (1.0 / 16_777_216.0);
        let rows = &self.rows[row * self.taps..(row + 2) * self.taps];
        let (this, next) = rows.split_at(self.taps);
        let samples = &samples[index..index + self.taps];
        let mut low = [0.0f32; 4];
        let mut high = [0.0f32; 4];
        for ((u, a), b) in samples.chunks_exact(4).zip(this.chunks_exact(4)).zip(next.chunks_exact(4)) {
            for lane in 0..4 {
                low[lane] += u[lane] * a[lane];
                high[lane] += u[lane] * b[lane];
            }
        }
        let low = (low[0] + low[2]) + (low[1] + low[3]);
        let high = (high[0] + high[2]) + (high[1] + high[3]);
        low + fraction * (high - low)
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
