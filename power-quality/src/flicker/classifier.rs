// SPDX-License-Identifier: Apache-2.0
//! Block 5: time-at-level statistics and the short-term severity (IEC 61000-4-15 5.7).

/// Classes per doubling of Pinst, as a power of two.
const FINENESS: u32 = 6;
/// Exponents of two that the classes cover: Pinst from 1e-6 to 1e6.
const LOWEST: i32 = -20;
const HIGHEST: i32 = 20;
const CLASSES: usize = ((HIGHEST - LOWEST) as usize) << FINENESS;

/// Histogram over 64 classes per octave.
#[derive(Debug, Clone)]
pub(super) struct Classifier {
    counts: Vec<u32>,
    total: u32,
}

impl Classifier {
    pub(super) fn new() -> Self {
        Self { counts: vec![0; CLASSES], total: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
    }

    #[inline]
    pub(super) fn count(&mut self, pinst: f32) {
        // Exponent and leading mantissa bits of a positive float number the class.
        const BASE: i32 = (127 + LOWEST) << FINENESS;
        let class = (pinst.to_bits() >> (23 - FINENESS)) as i32 - BASE;
        self.counts[class.clamp(0, CLASSES as i32 - 1) as usize] += 1;
        self.total += 1;
    }

    /// Pst, `None` without any point.
    pub(super) fn severity(&self) -> Option<f64> {
        if self.total == 0 {
            return None;
        }
        let mean = |percents: &[f64]| {
            percents.iter().map(|&percent| self.exceeded(percent)).sum::<f64>() / percents.len() as f64
        };
        let weighted = 0.0314 * self.exceeded(0.1)
            + 0.0525 * mean(&[0.7, 1.0, 1.5])
            + 0.0657 * mean(&[2.2, 3.0, 4.0])
            + 0.28 * mean(&[6.0, 8.0, 10.0, 13.0, 17.0])
            + 0.08 * mean(&[30.0, 50.0, 80.0]);
        Some(libm::sqrt(weighted))
    }

    /// Level that is exceeded for `percent` of the time, linear within its class.
    fn exceeded(&self, percent: f64) -> f64 {
        let wanted = percent / 100.0 * f64::from(self.total);
        let mut above = 0.0;
        for (class, &count) in self.counts.iter().enumerate().rev() {
            let count = f64::from(count);
            if above + count >= wanted && count > 0.0 {
                let top = if class == 0 { edge(1) } else { edge(class + 1) };
                let bottom = if class == 0 { 0.0 } else { edge(class) };
                return top - (wanted - above) / count * (top - bottom);
            }
            above += count;
        }
        0.0
    }
}

/// Lower edge of a class.
fn edge(class: usize) -> f64 {
    let octave = LOWEST + (class >> FINENESS) as i32;
    let part = (class & ((1 << FINENESS) - 1)) as f64 / f64::from(1u32 << FINENESS);
    libm::ldexp(1.0 + part, octave)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_ramp() {
        let mut classifier = Classifier::new();
        for i in 0..100_000 {
            classifier.count(i as f32 * 1e-4);
        }
        for percent in [0.1f64, 1.0, 10.0, 50.0, 80.0] {
            let expected = 10.0 * (1.0 - percent / 100.0);
            assert!((classifier.exceeded(percent) - expected).abs() < 2e-3, "{percent}");
        }
    }

    #[test]
    fn constant_sensation_gives_its_scaled_root() {
        let mut classifier = Classifier::new();
        (0..1_000).for_each(|_| classifier.count(4.0));
        // All percentiles are 4 to within a class: sqrt(4 · 0.5096).
        let pst = classifier.severity().unwrap();
        assert!((pst - (4.0f64 * 0.5096).sqrt()).abs() < 0.01 * pst);
    }

    #[test]
    fn no_points_no_severity() {
        assert_eq!(Classifier::new().severity(), None);
    }
}
