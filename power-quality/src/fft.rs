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

/// Four neighbouring points: the loops below run on these, and so do vector units.
type Lanes = [f32; 4];
/// Groups of four in a quarter of the points; the four inputs of a butterfly are a quarter apart.
const QUARTER: usize = HALF / 16;

#[derive(Debug, Clone, Copy, Default)]
struct Complex {
    re: Lanes,
    im: Lanes,
}

#[derive(Debug, Clone)]
pub(crate) struct Fft {
    /// Points with even numbers in the real parts, with odd numbers in the imaginary parts.
    points: Vec<Complex>,
    work: Vec<Complex>,
    /// Twiddles of the first pass, four by four: w, w², w³.
    first: Vec<[Complex; 3]>,
    /// `exp(-2πik/1024)` with its square and cube, for k below 256.
    twiddles: Vec<[(f32, f32); 3]>,
    /// `exp(-2πik/2048)`.
    split: Vec<(f32, f32)>,
}

impl Fft {
    pub(crate) fn new() -> Self {
        let turn = |k: usize, of: usize| {
            let (sin, cos) = libm::sincos(-2.0 * PI * k as f64 / of as f64);
            (cos as f32, sin as f32)
        };
        let twiddles: Vec<[(f32, f32); 3]> =
            (0..HALF / 4).map(|p| [turn(p, HALF), turn(2 * p, HALF), turn(3 * p, HALF)]).collect();
        let first = twiddles.as_chunks::<4>().0.iter().map(|group| {
            core::array::from_fn(|power| Complex {
                re: core::array::from_fn(|lane| group[lane][power].0),
                im: core::array::from_fn(|lane| group[lane][power].1),
            })
        });
        Self {
            points: vec![Complex::default(); HALF / 4],
            work: vec![Complex::default(); HALF / 4],
            first: first.collect(),
            split: (0..HALF).map(|k| turn(k, POINTS)).collect(),
            twiddles,
        }
    }

    /// Sets the eight points from number `8 * group` on.
    pub(crate) fn set(&mut self, group: usize, points: [f32; 8]) {
        self.points[group] = Complex {
            re: core::array::from_fn(|lane| points[2 * lane]),
            im: core::array::from_fn(|lane| points[2 * lane + 1]),
        };
    }

    /// Transforms the points, which are lost, and writes the mean square of each bin to `power` from bin 0 on
    /// (V² when the points are volts).
    pub(crate) fn power(&mut self, power: &mut [f32]) {
        self.first_pass();
        let mut stride = 1;
        while stride <= QUARTER {
            core::mem::swap(&mut self.points, &mut self.work);
            self.pass(stride);
            stride *= 4;
        }
        let at = |k: usize| (self.work[k / 4].re[k % 4], self.work[k / 4].im[k % 4]);
        let scale = 2.0 / (POINTS as f32 * POINTS as f32);
        for (k, (power, &(w_re, w_im))) in power.iter_mut().zip(&self.split).enumerate() {
            let (a_re, a_im) = at(k);
            let (b_re, b_im) = at((HALF - k) % HALF);
            let (sum_re, sum_im) = (0.5 * (a_re + b_re), 0.5 * (a_im - b_im));
            let (dif_re, dif_im) = (0.5 * (a_im + b_im), -0.5 * (a_re - b_re));
            let re = sum_re + dif_re * w_re - dif_im * w_im;
            let im = sum_im + dif_re * w_im + dif_im * w_re;
            *power = scale * (re * re + im * im);
        }
        if let Some(dc) = power.first_mut() {
            *dc *= 0.5;
        }
    }

    /// The pass whose results lie side by side.
    fn first_pass(&mut self) {
        for (group, twiddles) in self.first.iter().enumerate() {
            let input = core::array::from_fn(|part| self.points[group + part * QUARTER]);
            let output = butterfly(input, *twiddles);
            for lane in 0..4 {
                self.work[4 * group + lane] = Complex {
                    re: core::array::from_fn(|part| output[part].re[lane]),
                    im: core::array::from_fn(|part| output[part].im[lane]),
                };
            }
        }
    }

    /// A pass whose results lie `stride` groups of four apart.
    fn pass(&mut self, stride: usize) {
        for (p, begin) in (0..QUARTER).step_by(stride).enumerate() {
            // Point p of this pass has the twiddle of point 4·stride·p of all.
            let twiddles = self.twiddles[4 * stride * p].map(|(re, im)| Complex { re: [re; 4], im: [im; 4] });
            for group in begin..begin + stride {
                let input = core::array::from_fn(|part| self.points[group + part * QUARTER]);
                let output = butterfly(input, twiddles);
                let out = 4 * begin + (group - begin);
                for (part, value) in output.into_iter().enumerate() {
                    self.work[out + part * stride] = value;
                }
            }
        }
    }
}

#[inline(always)]
fn butterfly([a, b, c, d]: [Complex; 4], [w1, w2, w3]: [Complex; 3]) -> [Complex; 4] {
    let (s, t) = (a.plus(c), a.minus(c));
    let (u, v) = (b.plus(d), b.minus(d));
    // -j (b - d)
    let v = Complex { re: v.im, im: v.re.map(|x| -x) };
    [s.plus(u), t.plus(v).times(w1), s.minus(u).times(w2), t.minus(v).times(w3)]
}

impl Complex {
    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        Self { re: each(|l| self.re[l] + other.re[l]), im: each(|l| self.im[l] + other.im[l]) }
    }

    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        Self { re: each(|l| self.re[l] - other.re[l]), im: each(|l| self.im[l] - other.im[l]) }
    }

    #[inline(always)]
    fn times(self, other: Self) -> Self {
        Self {
            re: each(|l| self.re[l] * other.re[l] - self.im[l] * other.im[l]),
            im: each(|l| self.re[l] * other.im[l] + self.im[l] * other.re[l]),
        }
    }
}

#[inline(always)]
fn each(value: impl Fn(usize) -> f32) -> Lanes {
    [value(0), value(1), value(2), value(3)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_hold_the_mean_square_of_their_sine() {
        let mut fft = Fft::new();
        let point = |i: usize| {
            let t = 2.0 * PI * i as f64 / POINTS as f64;
            let u = 3.0
                + core::f64::consts::SQRT_2
                    * (5.0 * (7.0 * t + 0.3).sin() + 0.25 * (601.0 * t).cos() + (600.0 * t).sin());
            u as f32
        };
        for group in 0..POINTS / 8 {
            fft.set(group, core::array::from_fn(|k| point(8 * group + k)));
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
