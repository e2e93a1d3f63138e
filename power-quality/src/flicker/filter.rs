// SPDX-License-Identifier: Apache-2.0
//! Blocks 2 to 4: demodulation, lamp-eye-brain weighting, smoothing (IEC 61000-4-15 5.3 to 5.6).

use core::f64::consts::PI;

/// Sinusoidal change in % peak to peak at 8.8 Hz that gives Pinst,max = 1 (IEC 61000-4-15 table 1) and the
/// coefficients of the weighting filter (IEC 61000-4-15 5.6.2), frequencies in hertz.
pub(super) struct LampModel {
    unit_change_percent: f64,
    k: f64,
    lambda: f64,
    w1: f64,
    w2: f64,
    w3: f64,
    w4: f64,
}

impl LampModel {
    pub(super) const V230: Self = Self {
        unit_change_percent: 0.250,
        k: 1.74802,
        lambda: 4.05981,
        w1: 9.15494,
        w2: 2.27979,
        w3: 1.22535,
        w4: 21.9,
    };
    pub(super) const V120: Self = Self {
        unit_change_percent: 0.321,
        k: 1.6357,
        lambda: 4.167375,
        w1: 9.077169,
        w2: 2.939902,
        w3: 1.394468,
        w4: 17.31512,
    };
}

const HIGH_PASS: f64 = 0.05;
const SMOOTHING_S: f64 = 0.3;
/// The tables of the standard are rounded; with this the rows of both lamps (Pinst of table 1 and 2, Pst of
/// table 5) lie evenly around one instead of the single row at 8.8 Hz being exact.
const CENTRING: f64 = 1.004;
/// Frequency at which the scale is set, in hertz.
const UNIT_FREQUENCY: f64 = 8.8;

#[derive(Debug, Clone)]
pub(super) struct Sensation {
    high_pass: Section,
    rest: [Section; 5],
    scale: f64,
    smoothing: f64,
    smoothed: f64,
}

impl Sensation {
    pub(super) fn new(lamp: &LampModel, low_pass: f64, rate: f64) -> Self {
        let turn = 2.0 * PI;
        let plain = 2.0 * rate;
        let low = turn * low_pass;
        let warped = low / libm::tan(low / (2.0 * rate));
        // Sixth-order Butterworth: three pairs of poles at 15, 45 and 75 degrees.
        let pair = |degrees: f64| {
            let damping = 2.0 * libm::cos(degrees * PI / 180.0);
            Section::new([1.0, 0.0, 0.0], [1.0, damping / low, 1.0 / (low * low)], warped)
        };
        let (w1, w2, w3, w4) = (turn * lamp.w1, turn * lamp.w2, turn * lamp.w3, turn * lamp.w4);
        let high = turn * HIGH_PASS;
        let high_pass = Section::new([0.0, 1.0, 0.0], [high, 1.0, 0.0], plain);
        let rest = [
            pair(15.0),
            pair(45.0),
            pair(75.0),
            Section::new([0.0, lamp.k * w1, 0.0], [w1 * w1, 2.0 * turn * lamp.lambda, 1.0], plain),
            Section::new([1.0, 1.0 / w2, 0.0], [1.0, 1.0 / w3 + 1.0 / w4, 1.0 / (w3 * w4)], plain),
        ];
        let mut sensation = Self {
            high_pass,
            rest,
            scale: 1.0,
            smoothing: 1.0 - libm::exp(-1.0 / (SMOOTHING_S * rate)),
            smoothed: 0.0,
        };
        // A sinusoidal change of relative size d makes the square swing by d around its mean.
        let gain = sensation.gain(turn * UNIT_FREQUENCY / rate);
        let swing = lamp.unit_change_percent / 100.0 * gain;
        let ripple = 1.0 / libm::sqrt(1.0 + libm::pow(2.0 * turn * UNIT_FREQUENCY * SMOOTHING_S, 2.0));
        sensation.scale = CENTRING * 2.0 / (swing * swing * (1.0 + ripple));
        sensation
    }

    /// The state after a constant `square` since ever.
    pub(super) fn settle(&mut self, square: f64) {
        self.high_pass.state = [-self.high_pass.b[0] * square, 0.0];
        for section in &mut self.rest {
            section.state = [0.0; 2];
        }
        self.smoothed = 0.0;
    }

    /// Forgets the sensation, not the state of the filters before it.
    pub(super) fn calm(&mut self) {
        self.smoothed = 0.0;
    }

    /// Pinst after one more normalised square.
    pub(super) fn next(&mut self, square: f64) -> f64 {
        let mut x = self.high_pass.next(square);
        for section in &mut self.rest {
            x = section.next(x);
        }
        self.smoothed += self.smoothing * (x * x - self.smoothed);
        self.scale * self.smoothed
    }

    /// Gain of the linear filters at `omega` radians per point.
    fn gain(&self, omega: f64) -> f64 {
        self.rest.iter().map(|section| section.gain(omega)).product::<f64>() * self.high_pass.gain(omega)
    }
}

/// Second-order section, transposed direct form 2.
#[derive(Debug, Clone)]
struct Section {
    b: [f64; 3],
    a: [f64; 2],
    state: [f64; 2],
}

impl Section {
    /// Bilinear transform of `(b0 + b1 s + b2 s²) / (a0 + a1 s + a2 s²)` with `s = k (1 - z⁻¹) / (1 + z⁻¹)`.
    fn new(b: [f64; 3], a: [f64; 3], k: f64) -> Self {
        let expand = |c: [f64; 3]| {
            let (c1, c2) = (c[1] * k, c[2] * k * k);
            [c[0] + c1 + c2, 2.0 * c[0] - 2.0 * c2, c[0] - c1 + c2]
        };
        // A first-order section must not carry the pole and zero at -1 that cancel.
        let first_order = b[2] == 0.0 && a[2] == 0.0;
        let (b, a) = if first_order {
            let shrink = |c: [f64; 3]| [c[0] + c[1] * k, c[0] - c[1] * k, 0.0];
            (shrink(b), shrink(a))
        } else {
            (expand(b), expand(a))
        };
        Self { b: b.map(|b| b / a[0]), a: [a[1] / a[0], a[2] / a[0]], state: [0.0; 2] }
    }

    #[inline]
    fn next(&mut self, x: f64) -> f64 {
        let y = self.b[0] * x + self.state[0];
        self.state[0] = self.b[1] * x - self.a[0] * y + self.state[1];
        self.state[1] = self.b[2] * x - self.a[1] * y;
        y
    }

    fn gain(&self, omega: f64) -> f64 {
        let (s1, c1) = libm::sincos(omega);
        let (s2, c2) = libm::sincos(2.0 * omega);
        let size = |c: [f64; 3]| {
            let (re, im) = (c[0] + c[1] * c1 + c[2] * c2, c[1] * s1 + c[2] * s2);
            libm::sqrt(re * re + im * im)
        };
        size(self.b) / size([1.0, self.a[0], self.a[1]])
    }
}
