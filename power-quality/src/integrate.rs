// SPDX-License-Identifier: Apache-2.0
//! Integrals of sampled signals between boundaries that lie between samples.
//!
//! Inside the interval every sample weighs one; the four samples around each boundary carry the weights of
//! a cubic through them, so that the error falls with the fifth power of the sample spacing.

use crate::buffer::SampleBuffer;

/// Samples needed after the sample at or before the end of an interval.
pub(crate) const MARGIN: i64 = 3;

/// The integrals that one half cycle contributes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct HalfCycle {
    /// Integral of the square (V² · samples).
    pub(crate) square: f64,
    /// Integral (V · samples); over two half cycles it is the direct voltage.
    pub(crate) sum: f64,
    /// Integral of `u · exp(-jπ(t - a)/(b - a))` (V · samples).
    pub(crate) re: f64,
    pub(crate) im: f64,
}

/// Square and fundamental of one half cycle from `a` to `b` (positions in samples).
pub(crate) fn half_cycle(buffer: &SampleBuffer, a: f64, b: f64) -> HalfCycle {
    let span = Span::new(a, b);
    let nodes = buffer.range(span.first, span.last + 1);
    if nodes.len() < 8 {
        return HalfCycle::default();
    }
    let omega = core::f64::consts::PI / (b - a);
    let (sin, cos) = libm::sincos(omega);
    let twice_cos = 2.0 * cos;

    let (mut square, mut total, mut s1, mut s2) = (0.0, 0.0, 0.0, 0.0);
    for &node in nodes {
        let u = f64::from(node);
        total += u;
        square += u * u;
        let s0 = u + twice_cos * s1 - s2;
        s2 = s1;
        s1 = s0;
    }
    // Goertzel gives the sum with the phase of the last node; undo that.
    let step = Phasor { re: cos, im: -sin };
    let tail = nodes.len() - 4;
    let at_tail = Phasor::turned(-omega * tail as f64);
    let at_last = at_tail.times(step).times(step).times(step);
    let mut sum = Phasor { re: s1 - cos * s2, im: sin * s2 }.times(at_last);

    let mut head_phase = Phasor { re: 1.0, im: 0.0 };
    let mut tail_phase = at_tail;
    for k in 0..4 {
        let head_node = f64::from(nodes[k]);
        let tail_node = f64::from(nodes[tail + k]);
        square += span.head[k] * head_node * head_node + span.tail[k] * tail_node * tail_node;
        total += span.head[k] * head_node + span.tail[k] * tail_node;
        sum.add(head_phase, span.head[k] * head_node);
        sum.add(tail_phase, span.tail[k] * tail_node);
        head_phase = head_phase.times(step);
        tail_phase = tail_phase.times(step);
    }
    let turned = sum.times(Phasor::turned(-omega * (span.first as f64 - a)));
    HalfCycle { square: square.max(0.0), sum: total, re: turned.re, im: turned.im }
}

/// Mean square between `a` and `b` (V²).
pub(crate) fn mean_square(buffer: &SampleBuffer, a: f64, b: f64) -> f64 {
    let span = Span::new(a, b);
    let nodes = buffer.range(span.first, span.last + 1);
    if nodes.len() < 8 || b <= a {
        return 0.0;
    }
    // Four sums: the order of additions is fixed, and processors with vector units use them.
    let mut lanes = [0.0f64; 4];
    let groups = nodes.chunks_exact(4);
    let rest = groups.remainder();
    for group in groups {
        for (lane, &node) in lanes.iter_mut().zip(group) {
            let u = f64::from(node);
            *lane += u * u;
        }
    }
    let mut square = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
    square += rest.iter().map(|&node| f64::from(node) * f64::from(node)).sum::<f64>();
    let tail = nodes.len() - 4;
    for k in 0..4 {
        let head_node = f64::from(nodes[k]);
        let tail_node = f64::from(nodes[tail + k]);
        square += span.head[k] * head_node * head_node + span.tail[k] * tail_node * tail_node;
    }
    (square / (b - a)).max(0.0)
}

/// The nodes of an interval and what its ends add to the weight one of each node.
struct Span {
    first: i64,
    last: i64,
    head: [f64; 4],
    tail: [f64; 4],
}

impl Span {
    fn new(a: f64, b: f64) -> Self {
        let (floor_a, floor_b) = (libm::floor(a), libm::floor(b));
        let full = partial_cell(1.0);
        let until_a = partial_cell(a - floor_a);
        let until_b = partial_cell(b - floor_b);
        // Whole cells beside the partial one give their nodes 0, -1/24, 12/24, 25/24.
        const WHOLE: [f64; 4] = [0.0, -1.0 / 24.0, 12.0 / 24.0, 25.0 / 24.0];
        let mut head = [0.0; 4];
        let mut tail = [0.0; 4];
        for k in 0..4 {
            head[k] = full[k] - until_a[k] + WHOLE[k] - 1.0;
            tail[k] = until_b[k] + WHOLE[3 - k] - 1.0;
        }
        Self { first: floor_a as i64 - 1, last: floor_b as i64 + 2, head, tail }
    }
}

/// Integrals from 0 to `x` of the cubic Lagrange polynomials on the nodes -1, 0, 1, 2.
fn partial_cell(x: f64) -> [f64; 4] {
    let (x2, x3, x4) = (x * x, x * x * x, x * x * x * x);
    [
        -(x4 / 4.0 - x3 + x2) / 6.0,
        (x4 / 4.0 - 2.0 * x3 / 3.0 - x2 / 2.0 + 2.0 * x) / 2.0,
        -(x4 / 4.0 - x3 / 3.0 - x2) / 2.0,
        (x4 / 4.0 - x2 / 2.0) / 6.0,
    ]
}

#[derive(Debug, Clone, Copy)]
struct Phasor {
    re: f64,
    im: f64,
}

impl Phasor {
    fn turned(angle: f64) -> Self {
        let (im, re) = libm::sincos(angle);
        Self { re, im }
    }

    fn times(self, other: Self) -> Self {
        Self { re: self.re * other.re - self.im * other.im, im: self.re * other.im + self.im * other.re }
    }

    fn add(&mut self, other: Self, weight: f64) {
        self.re += weight * other.re;
        self.im += weight * other.im;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer_of(samples: usize, value: impl Fn(f64) -> f64) -> SampleBuffer {
        let mut buffer = SampleBuffer::new(samples);
        for i in 0..samples {
            buffer.append(&[value(i as f64) as f32]);
        }
        buffer
    }

    #[test]
    fn a_cubic_is_integrated_exactly_between_samples() {
        // u² = x² must integrate to (b³ - a³) / 3.
        let buffer = buffer_of(64, |x| x);
        let (a, b) = (3.3, 40.85);
        let expected = (b * b * b - a * a * a) / 3.0 / (b - a);
        assert!((mean_square(&buffer, a, b) - expected).abs() < 1e-9 * expected);
        assert!((half_cycle(&buffer, a, b).square - expected * (b - a)).abs() < 1e-9 * expected * (b - a));
    }

    #[test]
    fn the_fundamental_of_a_sine_has_its_phase() {
        for per_cycle in [20.3, 24.0, 204.8, 1999.7] {
            let omega = 2.0 * core::f64::consts::PI / per_cycle;
            let buffer = buffer_of(3 * per_cycle as usize, |x| (omega * x - 0.7).sin());
            let a = 5.0 + (0.7 - 0.01) / omega;
            let (h1, h2) = (
                half_cycle(&buffer, a, a + per_cycle / 2.0),
                half_cycle(&buffer, a + per_cycle / 2.0, a + per_cycle),
            );
            let (re, im) = (h1.re - h2.re, h1.im - h2.im);
            let phase = libm::atan2(re, -im);
            let expected = omega * a - 0.7;
            assert!((phase - expected).abs() < 3e-5, "{per_cycle}: {phase} {expected}");
        }
    }
}
