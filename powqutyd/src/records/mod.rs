// SPDX-License-Identifier: Apache-2.0
//! What is kept of the measurement for the weekly verdict: ten-minute, two-hour and ten-second values and events.
//!
//! A [`Record`] holds values as they come back from the file, so that the live verdict, the one after a restart
//! and the one of `report --records` are made of the same numbers. [`codec`] turns them into frames, [`file`] keeps
//! these on disk, [`collect`] makes them out of results of the analysis.

pub mod codec;
pub mod collect;
pub mod file;

use crate::clock::Utc;
use crate::config::Config;
use crate::record::EventRecord;
use power_quality::compliance::Account;
use power_quality::{
    Aggregate, Event, Flicker, FlickerKind, Frequency, Interval, NetworkType, Rvc, Spectrum, ORDERS,
};
use serde::{Deserialize, Serialize};

/// Length of a slot of the verdict in milliseconds.
pub const SLOT_MS: i64 = 600_000;

/// 10 s values in a [`FrequencyBlock`].
pub const TENS: usize = 60;

/// Most values in a [`SignallingBlock`]: ten minutes of 150/180-cycle intervals, and some for a fast supply.
pub const MOST_SIGNALLING: usize = 256;

/// Harmonic orders 2 to 25, those that EN 50160 limits.
pub const KEPT_ORDERS: usize = 24;

/// A record and its place in time.
#[derive(Debug, Clone, PartialEq)]
pub struct Stamped {
    /// Start of the interval or event, in milliseconds since 1970.
    pub time_ms: i64,
    /// What was measured.
    pub record: Record,
}

/// One entry of the record file.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// What the following records refer to.
    Header(Box<Header>),
    /// A ten-minute interval.
    TenMinutes(Means),
    /// A two-hour interval.
    TwoHours(Means),
    /// A flicker severity.
    Flicker(FlickerValue),
    /// The 10 s frequencies of a ten-minute slot.
    Frequencies(Box<FrequencyBlock>),
    /// The signalling voltages of a ten-minute slot.
    Signalling(SignallingBlock),
    /// A dip, swell, interruption or harmonic event.
    Event(EventRecord),
    /// A rapid voltage change.
    Rvc(RvcRecord),
    /// Nothing was measured because the monitor was off.
    Outage(Outage),
    /// The daemon ended in good order: what follows is no power loss.
    Stop,
    /// The summary of the week that began at the record's time was handed to the alert sinks.
    SummarySent,
}

/// Who measures what, and how it is judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the format: 1.
    pub format: u32,
    /// `dev_uuid`.
    pub device: String,
    /// Host name.
    pub host: String,
    /// Latitude in degrees, where known.
    pub latitude: Option<f64>,
    /// Longitude in degrees, where known.
    pub longitude: Option<f64>,
    /// Declared voltage (V).
    pub nominal_voltage: f64,
    /// Nominal frequency (Hz): 50 or 60.
    pub nominal_frequency: u8,
    /// Frequency of the mains signalling (Hz).
    pub signalling: Option<f64>,
    /// The network is an island.
    pub island: bool,
    /// `event_time_share` (%).
    pub event_time_share: f64,
    /// Dip, swell and interruption thresholds (%).
    pub thresholds: [f64; 3],
}

/// Means of a ten-minute or two-hour interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Means {
    /// Length in seconds.
    pub duration_s: f32,
    /// RMS voltage (V).
    pub voltage: f32,
    /// Smallest 10/12-cycle RMS voltage (V).
    pub voltage_min: f32,
    /// Largest 10/12-cycle RMS voltage (V).
    pub voltage_max: f32,
    /// RMS of the fundamental (V).
    pub fundamental: Option<f32>,
    /// Total harmonic distortion (%).
    pub thd: Option<f32>,
    /// Orders 2 to 25 in thousandths of a percent of the fundamental, saturated at 65.534 %.
    pub harmonics: [Option<u16>; KEPT_ORDERS],
    /// A dip, swell, interruption or gap touches the interval.
    pub flagged: bool,
    /// The measurement began or ended inside.
    pub partial: bool,
}

/// Pst or Plt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FlickerValue {
    /// Long-term severity, otherwise short-term.
    pub long: bool,
    /// Severity.
    pub value: f32,
    /// An event or a gap touches the interval.
    pub flagged: bool,
}

/// The 10 s frequencies of a ten-minute slot.
#[derive(Debug, Clone, PartialEq)]
pub struct FrequencyBlock {
    /// Nominal frequency (Hz).
    pub nominal: u8,
    /// One per 10 s.
    pub values: [Tenth; TENS],
}

/// A 10 s frequency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tenth {
    /// Nothing was measured.
    #[default]
    Absent,
    /// Flagged, or without a countable cycle.
    Invalid,
    /// Deviation from the nominal frequency in steps of [`FrequencyBlock::STEP`].
    Deviation(i16),
}

/// The signalling voltages of a ten-minute slot, in time order; `None` where flagged. Unit: 1 mV.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SignallingBlock {
    /// At most [`MOST_SIGNALLING`].
    pub values: Vec<Option<u16>>,
}

/// A rapid voltage change; percentages of the nominal voltage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RvcRecord {
    /// Length in seconds.
    pub duration_s: f32,
    /// Largest deviation.
    pub du_max: f32,
    /// Steady-state difference.
    pub du_ss: f32,
}

/// The monitor was off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outage {
    /// From the last record to the first sample after it (s): the monitor was off for at most this long.
    pub duration_s: f64,
    /// The router had started anew since: it lost its supply, or was reset.
    pub power_loss: bool,
}

impl Outage {
    /// The words on the interfaces: with and without a new start of the router.
    pub const KINDS: [&'static str; 2] = ["power_loss", "outage"];

    /// One of [`Outage::KINDS`].
    #[must_use]
    pub fn kind(&self) -> &'static str {
        Self::KINDS[usize::from(!self.power_loss)]
    }
}

/// Longest text in a header, in bytes.
const MOST_TEXT: usize = 255;

impl Default for Header {
    /// A nameless device on a supply of 230 V and 50 Hz, with the thresholds of PowQuty.
    fn default() -> Self {
        Self {
            format: 1,
            device: String::new(),
            host: String::new(),
            latitude: None,
            longitude: None,
            nominal_voltage: 230.0,
            nominal_frequency: 50,
            signalling: None,
            island: false,
            event_time_share: 5.0,
            thresholds: [90.0, 110.0, 10.0],
        }
    }
}

impl Header {
    /// What the configuration says.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let Config { device, grid, .. } = config;
        let thresholds = grid.thresholds;
        Self {
            format: 1,
            device: cut(&device.uuid),
            host: cut(&device.host),
            latitude: device.position.latitude,
            longitude: device.position.longitude,
            nominal_voltage: grid.nominal_voltage,
            nominal_frequency: grid.nominal_frequency.hertz() as u8,
            signalling: grid.signalling,
            island: grid.network == NetworkType::Island,
            event_time_share: grid.event_time_share,
            thresholds: [thresholds.dip, thresholds.swell, thresholds.interruption],
        }
    }

    /// Records under both headers can be judged together.
    #[must_use]
    pub fn same_supply(&self, other: &Self) -> bool {
        let supply = |it: &Self| (it.nominal_voltage, it.nominal_frequency, it.signalling, it.island);
        supply(self) == supply(other)
    }
}

fn cut(text: &str) -> String {
    let end = (0..=MOST_TEXT.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    text[..end].to_owned()
}

impl FrequencyBlock {
    /// Resolution in hertz.
    pub const STEP: f64 = 0.000_25;

    /// Nothing measured yet.
    #[must_use]
    pub fn new(nominal: u8) -> Self {
        Self { nominal, values: [Tenth::Absent; TENS] }
    }

    /// A value as the block keeps it.
    #[must_use]
    pub fn entry(nominal: u8, frequency: &Frequency) -> Tenth {
        match frequency.frequency.filter(|hertz| hertz.is_finite() && !frequency.flagged) {
            Some(hertz) => {
                let steps = ((hertz - f64::from(nominal)) / Self::STEP).round();
                Tenth::Deviation(steps.clamp(-32_767.0, 32_767.0) as i16)
            }
            None => Tenth::Invalid,
        }
    }

    /// A kept value in hertz.
    #[must_use]
    pub fn hertz(&self, entry: Tenth) -> Option<f64> {
        match entry {
            Tenth::Deviation(steps) => Some(f64::from(self.nominal) + f64::from(steps) * Self::STEP),
            Tenth::Absent | Tenth::Invalid => None,
        }
    }
}

impl Means {
    /// What is kept of an aggregate.
    #[must_use]
    pub fn of(aggregate: &Aggregate) -> Self {
        let fundamental = aggregate.fundamental.filter(|volts| volts.is_finite() && *volts > 0.0);
        let percent = |order: usize| {
            let volts = f64::from(aggregate.harmonics.as_ref()?.get(order - 1)?);
            let thousandths = 1e5 * volts / fundamental?;
            thousandths.is_finite().then(|| thousandths.round().clamp(0.0, 65_534.0) as u16)
        };
        Self {
            duration_s: aggregate.duration_s as f32,
            voltage: aggregate.voltage as f32,
            voltage_min: aggregate.voltage_min as f32,
            voltage_max: aggregate.voltage_max as f32,
            fundamental: fundamental.map(|volts| volts as f32),
            thd: aggregate.thd.filter(|thd| thd.is_finite()).map(|thd| thd as f32),
            harmonics: std::array::from_fn(|index| percent(index + 2)),
            flagged: aggregate.flagged,
            partial: aggregate.partial,
        }
    }

    /// The aggregate that these values stand for.
    #[must_use]
    pub fn aggregate(&self, interval: Interval, start_s: f64) -> Aggregate {
        let fundamental = self.fundamental.map(f64::from);
        let carried = 1 + self.harmonics.iter().take_while(|value| value.is_some()).count();
        let harmonics = fundamental.map(|volts| {
            let mut values = [0.0; ORDERS];
            values[0] = volts as f32;
            for (value, thousandths) in values[1..].iter_mut().zip(self.harmonics) {
                *value = (volts * f64::from(thousandths.unwrap_or(0)) / 1e5) as f32;
            }
            Spectrum::new(values, carried)
        });
        Aggregate {
            interval,
            start_s,
            duration_s: f64::from(self.duration_s),
            voltage: f64::from(self.voltage),
            voltage_min: f64::from(self.voltage_min),
            voltage_max: f64::from(self.voltage_max),
            fundamental,
            harmonics,
            interharmonics: None,
            thd: self.thd.map(f64::from),
            signalling: None,
            flagged: self.flagged,
            partial: self.partial,
        }
    }

    /// An order from 2 to 25 in % of the fundamental.
    #[must_use]
    pub fn harmonic(&self, order: usize) -> Option<f64> {
        let index = order.checked_sub(2)?;
        self.harmonics.get(index).copied().flatten().map(|thousandths| f64::from(thousandths) / 1000.0)
    }

    /// Counts for the verdict.
    #[must_use]
    pub fn valid(&self) -> bool {
        !self.flagged && !self.partial
    }
}

impl Stamped {
    /// Start in seconds since 1970.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.time_ms as f64 / 1000.0
    }

    /// How long after its start it still tells something, in milliseconds: that of an outage, else none.
    #[must_use]
    pub fn length_ms(&self) -> i64 {
        match self.record {
            Record::Outage(outage) => (outage.duration_s * 1000.0) as i64,
            _ => 0,
        }
    }

    /// Counts this record in an account whose time is seconds since 1970.
    pub fn count(&self, account: &mut Account) {
        let start_s = self.seconds();
        match &self.record {
            Record::TenMinutes(means) => account.aggregate(&means.aggregate(Interval::TenMinutes, start_s)),
            Record::Flicker(FlickerValue { long, value, flagged }) => account.flicker(&Flicker {
                kind: if *long { FlickerKind::Plt } else { FlickerKind::Pst },
                start_s,
                value: f64::from(*value),
                flagged: *flagged,
            }),
            Record::Frequencies(block) => {
                for (index, &entry) in block.values.iter().enumerate() {
                    count_frequency(account, block, entry, start_s + 10.0 * index as f64);
                }
            }
            Record::Signalling(block) => {
                block.values.iter().for_each(|&value| count_signalling(account, value, start_s));
            }
            Record::Event(event) => account.event(&Event {
                kind: event.kind,
                start_s,
                end_s: event.end().map(Utc::seconds),
                duration_s: event.duration_s,
                extreme_voltage: event.extreme_voltage,
                extreme_percent: event.extreme_percent,
                class: event.class,
                open: event.open,
                harmonic: event.harmonic,
            }),
            Record::Rvc(rvc) => account.rvc(&Rvc {
                start_s,
                end_s: start_s + f64::from(rvc.duration_s),
                du_max_percent: f64::from(rvc.du_max),
                du_ss_percent: f64::from(rvc.du_ss),
            }),
            Record::Outage(outage) => count_outage(account, start_s, outage.duration_s),
            Record::Header(_) | Record::TwoHours(_) | Record::Stop | Record::SummarySent => {}
        }
    }
}

/// Counts one 10 s value; an absent one is not counted.
pub fn count_frequency(account: &mut Account, block: &FrequencyBlock, entry: Tenth, start_s: f64) {
    if entry != Tenth::Absent {
        account.frequency(&Frequency { start_s, frequency: block.hertz(entry), flagged: false });
    }
}

/// Counts one signalling voltage in mV.
pub fn count_signalling(account: &mut Account, millivolts: Option<u16>, start_s: f64) {
    account.aggregate(&Aggregate {
        interval: Interval::Cycles150,
        start_s,
        signalling: Some(f64::from(millivolts.unwrap_or(0)) / 1000.0),
        flagged: millivolts.is_none(),
        ..Aggregate::default()
    });
}

/// Marks the ten-minute intervals that an outage touches, and the 10 s values in them, at most a week of them.
fn count_outage(account: &mut Account, start_s: f64, duration_s: f64) {
    const WEEK_S: f64 = 604_800.0;
    let end_s = start_s + duration_s.max(0.0);
    let mut at = (start_s.max(end_s - WEEK_S) / 10.0).ceil() * 10.0;
    while at < end_s {
        account.frequency(&Frequency { start_s: at, frequency: None, flagged: true });
        if at.rem_euclid(600.0) < 5.0 {
            let flagged = Aggregate {
                interval: Interval::TenMinutes,
                start_s: at,
                flagged: true,
                ..Aggregate::default()
            };
            account.aggregate(&flagged);
        }
        at += 10.0;
    }
}
