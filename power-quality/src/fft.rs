// SPDX-License-Identifier: Apache-2.0
//! Power spectrum of 2048 real points.
//!
//! A radix-4 autosort transform of 1024 complex points in plain single-precision arithmetic: the order of
//! operations is written down, so every processor gives the same bits. One fixed size and no planner keep
//! it at a few kilobytes of code.

use core::f64::consts::PI;

/// Real points per transform.
pub(crate) const POINTS: usize = 2048;
/// Complex points.
const HALF: usize = POINTS / 2;

#[derive(Debug, Clone)]
pub(crate) struct Fft {
    /// Points with even numbers.
    pub(crate) even: Vec<f32>,
    /// Points with odd numbers.
    pub(crate) odd: Vec<f32>,
    work_re: Vec<f32>,
    work_im: Vec<f32>,
    /// `exp(-2πik/1024)` for k below 768.
    twiddle_re: Vec<f32>,
    twiddle_im: Vec<f32>,
    /// `exp(-2πik/2048)` for k up to 1024.
    split_re: Vec<f32>,
    split_im: Vec<f32>,
}

impl Fft {
    pub(crate) fn new() -> Self {
        let turns = |count: usize, of: usize| -> (Vec<f32>, Vec<f32>) {
            (0..count)
                .map(|k| {
                    let (sin, cos) = libm::sincos(-2.0 * PI * k as f64 / of as f64);
                    (cos as f32, sin as f32)
                })
                .unzip()
        };
        let (twiddle_re, twiddle_im) = turns(3 * HALF / 4, HALF);
        let (split_re, split_im) = turns(HALF + 1, POINTS);
        Self {
            even: vec![0.0; HALF],
            odd: vec![0.0; HALF],
            work_re: vec![0.0; HALF],
            work_im: vec![0.0; HALF],
            twiddle_re,
            twiddle_im,
            split_re,
            split_im,
        }
    }

    /// Transforms the points in place of `even` and `odd`, then writes the mean square of each bin of
    /// `power` from bin 0 on (V² when the points are volts).
    pub(crate) fn power(&mut self, power: &mut [f32]) {
        let (mut size, mut stride) = (HALF, 1);
        while size > 1 {
            self.pass(size / 4, stride);
            core::mem::swap(&mut self.even, &mut self.work_re);
            core::mem::swap(&mut self.odd, &mut self.work_im);
            size /= 4;
            stride *= 4;
        }
        let scale = 2.0 / (POINTS as f32 * POINTS as f32);
        for (k, power) in power.iter_mut().enumerate().take(HALF) {
            let mirror = (HALF - k) % HALF;
            let (a_re, a_im) = (self.even[k], self.odd[k]);
            let (b_re, b_im) = (self.even[mirror], -self.odd[mirror]);
            let (sum_re, sum_im) = (0.5 * (a_re + b_re), 0.5 * (a_im + b_im));
            let (dif_re, dif_im) = (0.5 * (a_im - b_im), -0.5 * (a_re - b_re));
            let (w_re, w_im) = (self.split_re[k], self.split_im[k]);
            let re = sum_re + dif_re * w_re - dif_im * w_im;
            let im = sum_im + dif_re * w_im + dif_im * w_re;
            *power = scale * (re * re + im * im);
        }
        power[0] *= 0.5;
    }

    /// One radix-4 step over `quarter` twiddles and runs of `stride` neighbours.
    fn pass(&mut self, quarter: usize, stride: usize) {
        let run = quarter * stride;
        let (in_re, in_im) = (&self.even[..HALF], &self.odd[..HALF]);
        for p in 0..quarter {
            let twiddle = |k: usize| (self.twiddle_re[k * p * stride], self.twiddle_im[k * p * stride]);
            let (w1, w2, w3) = (twiddle(1), twiddle(2), twiddle(3));
            let from = stride * p;
            let input = |part: usize| {
                let begin = from + part * run;
                (&in_re[begin..begin + stride], &in_im[begin..begin + stride])
            };
            let ((a_re, a_im), (b_re, b_im), (c_re, c_im), (d_re, d_im)) =
                (input(0), input(1), input(2), input(3));
            let out = 4 * from;
            let (y0_re, rest) = self.work_re[out..out + 4 * stride].split_at_mut(stride);
            let (y1_re, rest) = rest.split_at_mut(stride);
            let (y2_re, y3_re) = rest.split_at_mut(stride);
            let (y0_im, rest) = self.work_im[out..out + 4 * stride].split_at_mut(stride);
            let (y1_im, rest) = rest.split_at_mut(stride);
            let (y2_im, y3_im) = rest.split_at_mut(stride);
            for q in 0..stride {
                let (s_re, s_im) = (a_re[q] + c_re[q], a_im[q] + c_im[q]);
                let (t_re, t_im) = (a_re[q] - c_re[q], a_im[q] - c_im[q]);
                let (u_re, u_im) = (b_re[q] + d_re[q], b_im[q] + d_im[q]);
                // -j (b - d)
                let (v_re, v_im) = (b_im[q] - d_im[q], d_re[q] - b_re[q]);
                y0_re[q] = s_re + u_re;
                y0_im[q] = s_im + u_im;
                let (re, im) = (t_re + v_re, t_im + v_im);
                y1_re[q] = re * w1.0 - im * w1.1;
                y1_im[q] = re * w1.1 + im * w1.0;
                let (re, im) = (s_re - u_re, s_im - u_im);
                y2_re[q] = re * w2.0 - im * w2.1;
                y2_im[q] = re * w2.1 + im * w2.0;
                let (re, im) = (t_re - v_re, t_im - v_im);
                y3_re[q] = re * w3.0 - im * w3.1;
                y3_im[q] = re * w3.1 + im * w3.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_hold_the_mean_square_of_their_sine() {
        let mut fft = Fft::new();
        for i in 0..POINTS {
            let t = 2.0 * PI * i as f64 / POINTS as f64;
            let u = 3.0
                + core::f64::consts::SQRT_2
                    * (5.0 * (7.0 * t + 0.3).sin() + 0.25 * (601.0 * t).cos() + (600.0 * t).sin());
            let target = if i % 2 == 0 { &mut fft.even } else { &mut fft.odd };
            target[i / 2] = u as f32;
        }
        let mut power = [0.0f32; 640];
        fft.power(&mut power);
        for (k, &value) in power.iter().enumerate() {
            let expected = match k {
                0 => 9.0,
                7 => 25.0,
                600 => 1.0,
                601 => 0.0625,
                _ => 0.0,
            };
            assert!((value - expected).abs() < 2e-6 * expected + 1e-9, "{k}: {value} {expected}");
        }
    }
}
