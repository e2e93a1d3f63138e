// SPDX-License-Identifier: Apache-2.0
//! Harmonics, interharmonics, THD and mains signalling of one 10/12-cycle window (IEC 61000-4-7, 61000-4-30 5.7 to 5.10).

use crate::buffer::SampleBuffer;
use crate::config::Config;
use crate::fft::Fft;
use crate::resample::Resampler;
use crate::result::{Spectrum, ORDERS};

/// Bins that the highest interharmonic subgroup needs at 12 bins per order, with room for signalling.
const BINS: usize = 620;
/// Highest order in the THD (IEC 61000-4-7 3.3.1).
const THD_ORDERS: usize = 40;

/// Spectral values of a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Lines {
    pub(crate) fundamental: f64,
    pub(crate) harmonics: Spectrum,
    pub(crate) interharmonics: Spectrum,
    pub(crate) thd: Option<f64>,
    pub(crate) signalling: Option<f64>,
}

#[derive(Debug, Clone)]
pub(crate) struct SpectrumAnalyzer {
    resampler: Resampler,
    fft: Fft,
    power: Vec<f32>,
    /// Bins per order.
    cycles: usize,
    rate: f64,
    nominal_frequency: f64,
    signalling: Option<f64>,
    /// Fundamental below which a ratio to it means nothing (V).
    faint: f64,
}

impl SpectrumAnalyzer {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            resampler: Resampler::new(config.rate, config.nominal_frequency),
            fft: Fft::new(),
            power: vec![0.0; BINS],
            cycles: config.nominal_frequency.cycles(),
            rate: config.rate,
            nominal_frequency: config.nominal_frequency.hertz(),
            signalling: config.signalling,
            faint: 0.02 * config.nominal_voltage,
        }
    }

    /// Analyses the window from `start` to `end` (sample positions).
    pub(crate) fn analyze(&mut self, buffer: &SampleBuffer, start: f64, end: f64) -> Option<Lines> {
        if !self.resampler.fill(buffer, start, end, &mut self.fft) {
            return None;
        }
        self.fft.power(&mut self.power);
        let n = self.cycles;
        let power = &self.power;
        let root = |bins: &[f32]| {
            let sum: f32 = bins.iter().sum();
            libm::sqrtf(sum)
        };
        let mut harmonics = [0.0f32; ORDERS];
        let mut interharmonics = [0.0f32; ORDERS];
        for (index, (harmonic, interharmonic)) in harmonics.iter_mut().zip(&mut interharmonics).enumerate() {
            let centre = (index + 1) * n;
            *harmonic = root(&power[centre - 1..=centre + 1]);
            *interharmonic = root(&power[centre + 2..=centre + n - 2]);
        }

        let bin = self.rate / (end - start);
        let carried = self.carried(bin * n as f64);
        let fundamental = f64::from(harmonics[0]);
        let thd = (fundamental > self.faint && carried >= 2).then(|| {
            let squares = harmonics[1..carried.min(THD_ORDERS)].iter().map(|&u| f64::from(u) * f64::from(u));
            100.0 * libm::sqrt(squares.sum::<f64>()) / fundamental
        });
        // The four bins nearest to the signal (IEC 61000-4-30 5.10.1).
        let signalling = self.signalling.map(|hertz| {
            let below = (libm::floor(hertz / bin) as usize).clamp(1, BINS - 3);
            f64::from(root(&power[below - 1..=below + 2]))
        });
        Some(Lines {
            fundamental: libm::sqrt(f64::from(power[n])),
            harmonics: Spectrum::new(harmonics, carried),
            interharmonics: Spectrum::new(interharmonics, self.carried_between(bin * n as f64)),
            thd,
            signalling,
        })
    }

    /// Orders below 0.45 × rate at the nominal frequency, and well below the folding one at the actual.
    fn carried(&self, frequency: f64) -> usize {
        let nominal = libm::floor(0.45 * self.rate / self.nominal_frequency + 1e-9);
        let actual = libm::floor(0.475 * self.rate / frequency);
        (nominal.min(actual) as usize).min(ORDERS)
    }

    /// Subgroups whose upper neighbour is carried.
    fn carried_between(&self, frequency: f64) -> usize {
        let nominal = libm::floor(0.45 * self.rate / self.nominal_frequency + 1e-9);
        let actual = libm::floor(0.475 * self.rate / frequency);
        ((nominal.min(actual) - 1.0).max(0.0) as usize).min(ORDERS)
    }
}
