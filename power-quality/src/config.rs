// SPDX-License-Identifier: Apache-2.0
//! What the analyser is told about the grid and the input.

use std::fmt;

/// Nominal frequency of the supply; it decides the cycles per window (IEC 61000-4-30 4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum NominalFrequency {
    /// 50 Hz: windows of 10 cycles, measured from 42.5 to 57.5 Hz.
    #[default]
    Hz50,
    /// 60 Hz: windows of 12 cycles, measured from 51 to 69 Hz.
    Hz60,
}

impl NominalFrequency {
    /// The frequency in hertz.
    #[must_use]
    pub fn hertz(self) -> f64 {
        match self {
            Self::Hz50 => 50.0,
            Self::Hz60 => 60.0,
        }
    }

    /// Cycles of one 10/12-cycle window, which is also the number of 5 Hz bins per harmonic order.
    #[must_use]
    pub fn cycles(self) -> usize {
        match self {
            Self::Hz50 => 10,
            Self::Hz60 => 12,
        }
    }
}

/// Lamp whose flicker the sensation filter models (IEC 61000-4-15 5.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lamp {
    /// 60 W incandescent lamp for 230 V.
    V230,
    /// 60 W incandescent lamp for 120 V.
    V120,
}

/// How the supply network is run, which decides the EN 50160 limits of frequency and voltage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum NetworkType {
    /// Synchronously connected to an interconnected system (EN 50160 4.2.1, 4.2.2).
    #[default]
    Interconnected,
    /// No synchronous connection, for instance an island.
    Island,
}

/// What 100 % means for dips and swells (IEC 61000-4-30 5.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Reference {
    /// The declared (nominal) voltage.
    #[default]
    Declared,
    /// The sliding reference voltage, a first-order filter of one minute over the 10/12-cycle values
    /// (IEC 61000-4-30 5.4.4). Interruptions always refer to the declared voltage.
    Sliding,
}

/// Thresholds of events, all in % of the reference voltage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// A dip begins below this (IEC 61000-4-30 5.4.2).
    pub dip: f64,
    /// A swell begins above this (IEC 61000-4-30 5.4.3).
    pub swell: f64,
    /// An interruption begins below this (IEC 61000-4-30 5.5).
    pub interruption: f64,
    /// Distance that the voltage must come back beyond the threshold for a dip, swell or interruption to end.
    pub hysteresis: f64,
    /// Rapid voltage change; its own hysteresis is half of it (IEC 61000-4-30 5.11).
    pub rvc: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { dip: 90.0, swell: 110.0, interruption: 5.0, hysteresis: 2.0, rvc: 3.0 }
    }
}

/// How much of the input around an event is kept as a waveform.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recording {
    /// Seconds before the start of the event.
    pub before_s: f64,
    /// Seconds after it; the recording ends then even if the event goes on.
    pub after_s: f64,
}

/// Everything an [`Analyzer`](crate::Analyzer) has to know before the first sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Config {
    /// Sampling rate in hertz, 1 kHz to 100 kHz.
    pub rate: f64,
    /// Declared voltage in volts, RMS.
    pub nominal_voltage: f64,
    /// Nominal frequency.
    pub nominal_frequency: NominalFrequency,
    /// Thresholds of events.
    pub thresholds: Thresholds,
    /// What the thresholds of dips and swells refer to.
    pub reference: Reference,
    /// Frequency of a mains signal to measure, in hertz (IEC 61000-4-30 5.10).
    pub signalling: Option<f64>,
    /// Lamp of the flickermeter.
    pub lamp: Lamp,
    /// Sliding span of the harmonic event, in seconds.
    pub harmonic_window_s: f64,
    /// Share of that span, in %, that one order may be above its EN 50160 limit.
    pub harmonic_share: f64,
    /// How the network is run.
    pub network: NetworkType,
    /// Lowest and highest voltage that the converter can give; samples there count as clipped.
    pub converter_limits: Option<(f32, f32)>,
    /// Keep waveforms of events.
    pub recording: Option<Recording>,
}

impl Config {
    /// The defaults for a supply: EN 50160 thresholds, the lamp of the voltage level, no signalling, no recording.
    #[must_use]
    pub fn new(rate: f64, nominal_voltage: f64, nominal_frequency: NominalFrequency) -> Self {
        Self {
            rate,
            nominal_voltage,
            nominal_frequency,
            thresholds: Thresholds::default(),
            reference: Reference::Declared,
            signalling: None,
            lamp: if nominal_voltage < 180.0 { Lamp::V120 } else { Lamp::V230 },
            harmonic_window_s: 600.0,
            harmonic_share: 5.0,
            network: NetworkType::Interconnected,
            converter_limits: None,
            recording: None,
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if !(1_000.0..=100_000.0).contains(&self.rate) {
            return Err(ConfigError::Rate(self.rate));
        }
        if !(1.0..=1e6).contains(&self.nominal_voltage) {
            return Err(ConfigError::NominalVoltage(self.nominal_voltage));
        }
        self.thresholds.check()?;
        if let Some(signalling) = self.signalling {
            // The class A range of IEC 61000-4-30 5.10, and no more than the input can carry.
            let highest = (0.45 * self.rate).min(50.0 * self.nominal_frequency.hertz());
            if !(self.nominal_frequency.hertz()..=highest).contains(&signalling) {
                return Err(ConfigError::Signalling(signalling));
            }
        }
        if !(1.0..=7_200.0).contains(&self.harmonic_window_s) {
            return Err(ConfigError::HarmonicWindow(self.harmonic_window_s));
        }
        if !(0.0..=100.0).contains(&self.harmonic_share) {
            return Err(ConfigError::HarmonicShare(self.harmonic_share));
        }
        if let Some(recording) = self.recording {
            let fits =
                (0.0..=60.0).contains(&recording.before_s) && (0.0..=60.0).contains(&recording.after_s);
            if !fits {
                return Err(ConfigError::Recording(recording));
            }
        }
        Ok(())
    }
}

impl Thresholds {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let ordered = self.interruption >= 0.0
            && self.hysteresis >= 0.0
            && self.interruption < self.dip
            && self.dip + self.hysteresis < self.swell - self.hysteresis
            && self.swell <= 300.0;
        let finite = [self.dip, self.swell, self.interruption, self.hysteresis, self.rvc]
            .iter()
            .all(|v| v.is_finite());
        if ordered && finite && self.rvc > 0.0 {
            Ok(())
        } else {
            Err(ConfigError::Thresholds(*self))
        }
    }
}

/// Why a [`Config`] cannot be used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ConfigError {
    /// Sampling rate outside 1 kHz to 100 kHz.
    Rate(f64),
    /// Nominal voltage outside 1 V to 1 MV.
    NominalVoltage(f64),
    /// Thresholds that are not ordered interruption < dip < swell with room for the hysteresis between dip and swell.
    Thresholds(Thresholds),
    /// Signalling frequency outside the nominal frequency to order 50 or above what the rate carries.
    Signalling(f64),
    /// Harmonic window outside 1 s to 2 h.
    HarmonicWindow(f64),
    /// Harmonic share outside 0 to 100 %.
    HarmonicShare(f64),
    /// Recording of more than a minute before or after.
    Recording(Recording),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rate(rate) => write!(f, "sampling rate {rate} Hz is not within 1000 and 100000 Hz"),
            Self::NominalVoltage(volts) => write!(f, "nominal voltage {volts} V is not within 1 and 1000000 V"),
            Self::Thresholds(t) => write!(
                f,
                "thresholds {} / {} / {} % with hysteresis {} % are not ordered interruption < dip < swell, or the rapid voltage change {} % is not positive",
                t.interruption, t.dip, t.swell, t.hysteresis, t.rvc
            ),
            Self::Signalling(hertz) => {
                write!(f, "signalling frequency {hertz} Hz is outside what harmonic order 50 and the sampling rate allow")
            }
            Self::HarmonicWindow(seconds) => write!(f, "harmonic window {seconds} s is not within 1 s and 2 h"),
            Self::HarmonicShare(share) => write!(f, "harmonic share {share} % is not within 0 and 100 %"),
            Self::Recording(r) => {
                write!(f, "recording of {} s before and {} s after is beyond a minute each", r.before_s, r.after_s)
            }
        }
    }
}

impl std::error::Error for ConfigError {}
