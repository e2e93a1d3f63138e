// SPDX-License-Identifier: Apache-2.0
//! What the analyser hands out.
//!
//! Times are seconds from the first sample, measured with the disciplined sampling rate; the caller
//! owns UTC. A field that the input cannot carry, or that needs a setting which is off, is `None`.

/// Number of harmonic orders and of interharmonic subgroups in every spectrum.
pub const ORDERS: usize = 50;

/// One result. Borrowed from the analyser so that handing it out allocates nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(tag = "type", rename_all = "lowercase"))]
pub enum Measurement<'a> {
    /// A 10/12-cycle interval (IEC 61000-4-30 4.4).
    Window(&'a Window),
    /// Power frequency over a 10 s clock interval (IEC 61000-4-30 5.1).
    Frequency(Frequency),
    /// A 150/180-cycle, 10 min or 2 h aggregate (IEC 61000-4-30 4.4, 4.5).
    Aggregate(&'a Aggregate),
    /// A Pst or Plt value (IEC 61000-4-15).
    Flicker(Flicker),
    /// A dip, swell, interruption (IEC 61000-4-30 5.4, 5.5) or harmonic event.
    Event(Event),
    /// A rapid voltage change (IEC 61000-4-30 5.11).
    Rvc(Rvc),
    /// Missing input.
    Gap(Gap),
    /// An event has begun; the same event comes again as [`Measurement::Event`] when it ends.
    #[cfg_attr(feature = "serde", serde(rename = "event_start"))]
    EventStart(Event),
    /// The recorded surroundings of an event that has begun before.
    #[cfg_attr(feature = "serde", serde(rename = "waveform"))]
    Waveform(Waveform<'a>),
}

/// Fifty spectral values in volts, of which the sampling rate carries the first `carried`.
///
/// For harmonics index 0 is order 1 (IEC 61000-4-7 subgroup `Gsg,n`); for interharmonics index `n - 1`
/// is the centred subgroup between orders `n` and `n + 1` (`Gisg,n`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spectrum {
    values: [f32; ORDERS],
    carried: u8,
}

impl Spectrum {
    /// A spectrum whose first `carried` values (at most [`ORDERS`]) are meaningful.
    #[must_use]
    pub fn new(values: [f32; ORDERS], carried: usize) -> Self {
        Self { values, carried: carried.min(ORDERS) as u8 }
    }

    /// The value in volts at `index`, or `None` where the sampling rate cannot carry it.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<f32> {
        self.carried().get(index).copied()
    }

    /// The values that the sampling rate carries, in volts.
    #[must_use]
    pub fn carried(&self) -> &[f32] {
        &self.values[..usize::from(self.carried)]
    }
}

impl Default for Spectrum {
    fn default() -> Self {
        Self { values: [0.0; ORDERS], carried: 0 }
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Spectrum {
    /// Always fifty entries; those the rate cannot carry are null.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((0..ORDERS).map(|index| self.get(index)))
    }
}

/// A 10-cycle (50 Hz) or 12-cycle (60 Hz) interval, gapless, resynchronised at the 10-minute tick.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Window {
    /// Start in seconds.
    pub start_s: f64,
    /// Length in seconds.
    pub duration_s: f64,
    /// RMS voltage including harmonics and DC (V).
    pub voltage: f64,
    /// Fundamental frequency over this interval (Hz); `None` while no fundamental can be seen.
    pub frequency: Option<f64>,
    /// RMS of the fundamental (V).
    pub fundamental: Option<f64>,
    /// Harmonic subgroups of orders 1 to 50 (V).
    pub harmonics: Option<Spectrum>,
    /// Interharmonic centred subgroups (V).
    pub interharmonics: Option<Spectrum>,
    /// Total harmonic distortion by subgroups, orders 2 to 40, in % of the fundamental.
    pub thd: Option<f64>,
    /// Mains signalling voltage at the configured frequency (V).
    pub signalling: Option<f64>,
    /// Highest instantaneous flicker sensation in the interval.
    pub pinst_max: Option<f64>,
    /// A dip, swell, interruption or gap touches the interval (IEC 61000-4-30 4.7).
    pub flagged: bool,
    /// Samples of the interval that stood at the converter's limit.
    pub clipped: u32,
    /// The input ended inside the interval.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "std::ops::Not::not"))]
    pub partial: bool,
    /// The interval overlaps its successor, which began at the 10-minute tick.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "std::ops::Not::not"))]
    pub overlap: bool,
}

/// Whole cycles of a 10 s clock interval over their total duration.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Frequency {
    /// Start of the clock interval in seconds.
    pub start_s: f64,
    /// Mean frequency (Hz); `None` when the interval holds no countable cycle.
    pub frequency: Option<f64>,
    /// An event or a gap touches the interval.
    pub flagged: bool,
}

/// Length class of an [`Aggregate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Interval {
    /// 150 cycles at 50 Hz, 180 at 60 Hz.
    #[default]
    #[cfg_attr(feature = "serde", serde(rename = "150cycle"))]
    Cycles150,
    /// Ten minutes, ending at the UTC tick.
    #[cfg_attr(feature = "serde", serde(rename = "10min"))]
    TenMinutes,
    /// Twelve ten-minute intervals, ending at an even UTC hour.
    #[cfg_attr(feature = "serde", serde(rename = "2h"))]
    TwoHours,
}

/// Square root of the mean of squares of the shorter intervals (IEC 61000-4-30 4.5).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Aggregate {
    /// Length class.
    pub interval: Interval,
    /// Start in seconds.
    pub start_s: f64,
    /// Length in seconds.
    pub duration_s: f64,
    /// RMS voltage (V).
    pub voltage: f64,
    /// Smallest 10/12-cycle RMS voltage inside (V).
    pub voltage_min: f64,
    /// Largest 10/12-cycle RMS voltage inside (V).
    pub voltage_max: f64,
    /// RMS of the fundamental (V).
    pub fundamental: Option<f64>,
    /// Harmonic subgroups of orders 1 to 50 (V).
    pub harmonics: Option<Spectrum>,
    /// Interharmonic centred subgroups (V).
    pub interharmonics: Option<Spectrum>,
    /// Total harmonic distortion, orders 2 to 40, in % of the fundamental.
    pub thd: Option<f64>,
    /// Mains signalling voltage (V).
    pub signalling: Option<f64>,
    /// Some interval inside is flagged.
    pub flagged: bool,
    /// The input ended inside the interval, or began after its start.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "std::ops::Not::not"))]
    pub partial: bool,
}

/// Short-term (10 min) or long-term (2 h) severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
pub enum FlickerKind {
    /// Short-term severity, ten minutes.
    Pst,
    /// Long-term severity, cubic mean of twelve Pst.
    Plt,
}

/// A flicker severity.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Flicker {
    /// Pst or Plt.
    pub kind: FlickerKind,
    /// Start of the observation interval in seconds.
    pub start_s: f64,
    /// Severity, 1 being the threshold of irritability.
    pub value: f64,
    /// An event or a gap touches the interval.
    pub flagged: bool,
}

/// What happened to the voltage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
pub enum EventKind {
    /// Urms(1/2) below the dip threshold.
    Dip,
    /// Urms(1/2) above the swell threshold.
    Swell,
    /// Urms(1/2) below the interruption threshold; reported beside its dip.
    Interruption,
    /// One order above its EN 50160 limit in too many windows.
    Harmonic,
}

impl EventKind {
    /// The name used on every interface: `dip`, `swell`, `interruption`, `harmonic`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dip => "dip",
            Self::Swell => "swell",
            Self::Interruption => "interruption",
            Self::Harmonic => "harmonic",
        }
    }
}

/// A voltage or harmonic event.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// Start of the Urms(1/2) that began the event, in seconds.
    pub start_s: f64,
    /// End of the Urms(1/2) that ended it, in seconds; `None` while open.
    pub end_s: Option<f64>,
    /// Length so far in seconds.
    pub duration_s: f64,
    /// Residual voltage (lowest) or swell maximum Urms(1/2) (V).
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub extreme_voltage: Option<f64>,
    /// The same in % of the nominal (declared) voltage, or of the sliding reference where that is on.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub extreme_percent: Option<f64>,
    /// EN 50160 cell such as `B2` or `S1`; `None` where the table has no cell.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub class: Option<Cell>,
    /// The event has not ended.
    pub open: bool,
    /// Details of a harmonic event.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub harmonic: Option<HarmonicDetail>,
}

/// Which order exceeded what.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct HarmonicDetail {
    /// Harmonic order.
    pub order: u8,
    /// EN 50160 limit in % of the fundamental.
    pub limit_percent: f64,
    /// Largest 10/12-cycle value in % of the fundamental.
    pub value_percent: f64,
    /// Largest share of windows above the limit, in %.
    pub share_percent: f64,
}

/// A cell of the EN 50160 dip or swell table, for instance `B2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cell {
    /// Row letter: A to D and X for dips, S and T for swells.
    pub row: char,
    /// Column, counted from 1.
    pub column: u8,
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.row, self.column)
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Cell {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A quick transition between two steady states that is neither dip nor swell.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Rvc {
    /// The voltage left its steady state (s).
    pub start_s: f64,
    /// It was steady again (s).
    pub end_s: f64,
    /// Largest deviation from the mean before, in % of the nominal voltage.
    pub du_max_percent: f64,
    /// Difference of the means after and before, in % of the nominal voltage.
    pub du_ss_percent: f64,
}

/// Input that never arrived.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Gap {
    /// Start in seconds.
    pub start_s: f64,
    /// Number of missing samples.
    pub samples: u64,
}

/// Voltage around the start of an event, from the recording that [`Config::recording`](crate::Config) asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Waveform<'a> {
    /// What happened.
    pub kind: EventKind,
    /// `start_s` of the event.
    pub event_start_s: f64,
    /// Time of the first of `samples` in seconds.
    pub start_s: f64,
    /// Samples per second.
    pub rate: f64,
    /// Voltage in volts.
    pub samples: &'a [f32],
    /// Urms(1/2) from the same start on: (end of the cycle in seconds, volts).
    pub rms: &'a [(f64, f32)],
}
