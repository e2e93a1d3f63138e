// SPDX-License-Identifier: Apache-2.0
//! EN 50160 verdict and traffic light over the last seven days.
//!
//! [`Account`] takes results as they come, or records read back later, keeps a slot per ten minutes for a
//! week, and judges them on request. It holds the values themselves, so percentiles are exact order
//! statistics. Memory is fixed (about 250 kB) and allocated by [`Account::new`].

use std::fmt;

use crate::config::{Config, NetworkType};
use crate::en50160::{Edition, CURRENT, LIMITED_ORDERS};
use crate::rank;
use crate::result::{
    Aggregate, Event, EventKind, Flicker, FlickerKind, Frequency, Interval, Measurement, Rvc,
};

/// Ten-minute intervals in a week.
pub const WEEK: usize = 1_008;
/// Valid ten-minute values below which there is no verdict: a day.
pub const ENOUGH: u32 = 144;
/// Slots from 1970 beyond which no time is told from another: a clock may be that wrong, arithmetic may not overflow.
const FARTHEST: f64 = 1e12;
/// 10 s intervals in ten minutes.
const TENS: usize = 60;
/// Voltage, THD and orders 2 to 25.
const VALUES: usize = LIMITED_ORDERS + 1;
const VOLTAGE: usize = 0;
const THD: usize = 1;
/// Share of the limit from which the light is yellow.
const NEAR: f64 = 0.8;
/// Stored step of frequency deviations in hertz.
const STEP: f64 = 0.000_25;
const ABSENT: i16 = i16::MIN;

/// A characteristic of the supply voltage (EN 50160 4.2, 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Characteristic {
    /// Power frequency, 10 s values (4.2.1).
    Frequency,
    /// Slow voltage changes, 10 min values (4.2.2).
    Voltage,
    /// Long-term flicker severity, 2 h values (4.2.3.2).
    Flicker,
    /// Total harmonic distortion, 10 min values (4.2.5).
    Thd,
    /// A harmonic order from 2 to 25, 10 min values (4.2.5, table 1).
    Harmonic(u8),
    /// Mains signalling voltage, 3 s values (4.2.7).
    Signalling,
    /// Voltage dips (4.3.2).
    Dip,
    /// Voltage swells (4.3.3).
    Swell,
    /// Interruptions (4.3.1).
    Interruption,
    /// Rapid voltage changes (4.2.3.1).
    Rvc,
}

impl fmt::Display for Characteristic {
    /// `frequency`, `voltage`, `flicker`, `thd`, `h2` … `h25`, `signalling`, `dip`, `swell`, `interruption`, `rvc`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Frequency => "frequency",
            Self::Voltage => "voltage",
            Self::Flicker => "flicker",
            Self::Thd => "thd",
            Self::Harmonic(order) => return write!(f, "h{order}"),
            Self::Signalling => "signalling",
            Self::Dip => "dip",
            Self::Swell => "swell",
            Self::Interruption => "interruption",
            Self::Rvc => "rvc",
        })
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Characteristic {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The traffic light of a characteristic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
pub enum Light {
    /// Within the limits.
    Green,
    /// More than 80 % of the allowance is used, or the percentile is above 80 % of the limit.
    Yellow,
    /// A limit is violated.
    Red,
    /// Fewer values than a day has, and not red.
    #[default]
    Grey,
}

/// Verdict on one characteristic. Shares, limits and values are in % (Plt: 1), counts in intervals.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Row {
    /// What is judged.
    pub characteristic: Characteristic,
    /// Valid intervals.
    pub n: u32,
    /// Valid intervals beyond the limit that a share of the time may exceed.
    pub n1: u32,
    /// Valid intervals beyond the limit that holds always.
    pub n2: u32,
    /// Flagged, incomplete and missing intervals.
    pub invalid: u32,
    /// Limit for the ordinary share of the time; `None` for events.
    pub limit: Option<f64>,
    /// Share of intervals (events: of the week's time) beyond it.
    pub share: f64,
    /// Share that is allowed.
    pub allowance: f64,
    /// Order statistic that the limit applies to (95 %, frequency 99.5 %) of the absolute value; `None` without values.
    pub value: Option<f64>,
    /// Events counted; an interruption is not counted as a dip as well.
    pub count: Option<u32>,
    /// Seconds of all events together.
    pub event_time: Option<f64>,
    /// Traffic light.
    pub light: Light,
}

/// EN 50160 verdict over the week that an [`Account`] holds.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Verdict {
    /// Edition of the standard.
    pub edition: &'static str,
    /// One row per characteristic, in the order of [`Characteristic`].
    pub characteristics: Vec<Row>,
}

/// Collects a week of results and judges them.
#[derive(Debug, Clone)]
pub struct Account {
    edition: &'static Edition,
    network: NetworkType,
    nominal_voltage: f64,
    nominal_frequency: f64,
    signalling: Option<f64>,
    event_time_share: f64,
    origin_unix_s: f64,
    slots: Vec<Slot>,
    frequencies: Vec<i16>,
    /// Numbers of the oldest and newest slot.
    span: Option<(i64, i64)>,
    /// End of the latest interruption, to recognise its dip.
    interrupted_s: Option<(f64, f64)>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    number: i64,
    /// Voltage deviation, THD and harmonics in %; NaN where absent.
    values: [f32; VALUES],
    ten: Presence,
    plt: f32,
    plt_presence: Presence,
    frequency: Tally,
    signalling: Tally,
    signalling_max: f32,
    events: [(u16, f32); 4],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Presence {
    #[default]
    Absent,
    Invalid,
    Valid,
}

#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    n: u16,
    n1: u16,
    n2: u16,
    near: u16,
    invalid: u16,
}

impl Account {
    /// An empty account. `event_time_share` is the share of the week, in %, that dips, swells or interruptions
    /// may fill before their light turns red; `origin_unix_s` the UTC of `start_s` zero, or 0 without UTC.
    #[must_use]
    pub fn new(config: &Config, event_time_share: f64, origin_unix_s: f64) -> Self {
        Self {
            edition: CURRENT,
            network: config.network,
            nominal_voltage: config.nominal_voltage,
            nominal_frequency: config.nominal_frequency.hertz(),
            signalling: config.signalling,
            event_time_share,
            origin_unix_s,
            slots: vec![Slot::empty(i64::MIN); WEEK],
            frequencies: vec![ABSENT; WEEK * TENS],
            span: None,
            interrupted_s: None,
        }
    }

    /// UTC has become known or was corrected: applies to results from now on.
    pub fn set_origin(&mut self, origin_unix_s: f64) {
        self.origin_unix_s = origin_unix_s;
    }

    /// Takes a result; those that EN 50160 does not judge are ignored.
    pub fn take(&mut self, measurement: &Measurement<'_>) {
        match measurement {
            Measurement::Aggregate(aggregate) => self.aggregate(aggregate),
            Measurement::Frequency(frequency) => self.frequency(frequency),
            Measurement::Flicker(flicker) => self.flicker(flicker),
            Measurement::Event(event) => self.event(event),
            Measurement::Rvc(rvc) => self.rvc(rvc),
            Measurement::Window(_)
            | Measurement::Gap(_)
            | Measurement::EventStart(_)
            | Measurement::Waveform(_) => {}
        }
    }

    /// Takes a 10-minute aggregate, or the signalling voltage of a 150/180-cycle one.
    pub fn aggregate(&mut self, aggregate: &Aggregate) {
        match aggregate.interval {
            Interval::Cycles150 => self.signalling(aggregate),
            Interval::TwoHours => {}
            Interval::TenMinutes => {
                let nominal = self.nominal_voltage;
                let fundamental = aggregate.fundamental.filter(|&volts| volts > 0.02 * nominal);
                let Some(slot) = self.slot(aggregate.start_s) else { return };
                if aggregate.flagged || aggregate.partial {
                    if slot.ten == Presence::Absent {
                        slot.ten = Presence::Invalid;
                    }
                    return;
                }
                slot.ten = Presence::Valid;
                slot.values[VOLTAGE] = (100.0 * (aggregate.voltage / nominal - 1.0)) as f32;
                slot.values[THD] = aggregate.thd.map_or(f32::NAN, |thd| thd as f32);
                if let (Some(fundamental), Some(harmonics)) = (fundamental, &aggregate.harmonics) {
                    for (index, &volts) in harmonics.carried().iter().enumerate().take(LIMITED_ORDERS).skip(1)
                    {
                        slot.values[index + 1] = (100.0 * f64::from(volts) / fundamental) as f32;
                    }
                }
            }
        }
    }

    /// Takes a 10 s frequency value.
    pub fn frequency(&mut self, frequency: &Frequency) {
        let bands = *self.edition.bands(self.network);
        let nominal = self.nominal_frequency;
        let number = self.number(frequency.start_s);
        let second = frequency.start_s + self.origin_unix_s - 600.0 * number as f64;
        let Some(slot) = self.slot(frequency.start_s) else { return };
        let Some(hertz) = frequency.frequency.filter(|_| !frequency.flagged) else {
            slot.frequency.invalid += 1;
            return;
        };
        let percent = 100.0 * (hertz / nominal - 1.0);
        slot.frequency.count(percent, bands.frequency, bands.frequency_always);
        let index = number.rem_euclid(WEEK as i64) as usize * TENS + ((second / 10.0) as usize).min(TENS - 1);
        self.frequencies[index] = ((hertz - nominal) / STEP).clamp(-32_767.0, 32_767.0) as i16;
    }

    /// Takes a Plt value; Pst has no limit.
    pub fn flicker(&mut self, flicker: &Flicker) {
        if flicker.kind != FlickerKind::Plt {
            return;
        }
        let Some(slot) = self.slot(flicker.start_s) else { return };
        slot.plt = flicker.value as f32;
        slot.plt_presence = if flicker.flagged { Presence::Invalid } else { Presence::Valid };
    }

    /// Takes an event that has ended; open and harmonic ones are not counted.
    pub fn event(&mut self, event: &Event) {
        let (Some(end_s), false) = (event.end_s, event.open) else { return };
        let index = match event.kind {
            EventKind::Dip => {
                let inside =
                    self.interrupted_s.is_some_and(|(start, end)| start < end_s && end > event.start_s);
                if inside {
                    return;
                }
                0
            }
            EventKind::Swell => 1,
            EventKind::Interruption => {
                self.interrupted_s = Some((event.start_s, end_s));
                2
            }
            EventKind::Harmonic => return,
        };
        self.add_event(index, end_s, event.duration_s);
    }

    /// Takes a rapid voltage change.
    pub fn rvc(&mut self, rvc: &Rvc) {
        self.add_event(3, rvc.end_s, rvc.end_s - rvc.start_s);
    }

    /// The verdict over the slots kept.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let first = [
            Characteristic::Frequency,
            Characteristic::Voltage,
            Characteristic::Flicker,
            Characteristic::Thd,
        ];
        let orders = (2..=LIMITED_ORDERS).map(|order| Characteristic::Harmonic(order as u8));
        let last = [
            Characteristic::Signalling,
            Characteristic::Dip,
            Characteristic::Swell,
            Characteristic::Interruption,
            Characteristic::Rvc,
        ];
        let characteristics =
            first.into_iter().chain(orders).chain(last).filter_map(|it| self.row(it)).collect();
        Verdict { edition: self.edition.name, characteristics }
    }

    /// The verdict on one characteristic; `None` for an order or a signalling frequency without limit.
    #[must_use]
    pub fn row(&self, characteristic: Characteristic) -> Option<Row> {
        let unlimited = (f64::NEG_INFINITY, f64::INFINITY);
        let bands = self.edition.bands(self.network);
        Some(match characteristic {
            Characteristic::Frequency => self.frequency_row(),
            Characteristic::Voltage => {
                self.value_row(characteristic, VOLTAGE, bands.voltage, bands.voltage_always)
            }
            Characteristic::Flicker => self.flicker_row(),
            Characteristic::Thd => {
                self.value_row(characteristic, THD, (-self.edition.thd, self.edition.thd), unlimited)
            }
            Characteristic::Harmonic(order) => {
                let limit = self.edition.harmonic(usize::from(order))?;
                self.value_row(characteristic, usize::from(order), (-limit, limit), unlimited)
            }
            Characteristic::Signalling => self.signalling_row()?,
            Characteristic::Dip => self.event_row(characteristic, 0),
            Characteristic::Swell => self.event_row(characteristic, 1),
            Characteristic::Interruption => self.event_row(characteristic, 2),
            Characteristic::Rvc => self.event_row(characteristic, 3),
        })
    }

    fn number(&self, start_s: f64) -> i64 {
        let number = libm::floor((start_s + self.origin_unix_s + 0.5) / 600.0);
        number.clamp(-FARTHEST, FARTHEST) as i64
    }

    /// The slot of a time, brought into the week; `None` for what is older than the week.
    fn slot(&mut self, start_s: f64) -> Option<&mut Slot> {
        let number = self.number(start_s);
        let (oldest, newest) = self.span.unwrap_or((number, number));
        if number <= newest - WEEK as i64 {
            return None;
        }
        let newest = newest.max(number);
        let oldest = oldest.min(number).max(newest - WEEK as i64 + 1);
        self.span = Some((oldest, newest));
        let index = number.rem_euclid(WEEK as i64) as usize;
        if self.slots[index].number != number {
            self.slots[index] = Slot::empty(number);
            self.frequencies[index * TENS..(index + 1) * TENS].fill(ABSENT);
        }
        Some(&mut self.slots[index])
    }

    fn signalling(&mut self, aggregate: &Aggregate) {
        let limit = self.signalling.and_then(|hertz| self.edition.signalling_limit(hertz));
        let (Some(volts), Some(limit)) = (aggregate.signalling, limit) else { return };
        let percent = 100.0 * volts / self.nominal_voltage;
        let Some(slot) = self.slot(aggregate.start_s) else { return };
        if aggregate.flagged || aggregate.partial {
            slot.signalling.invalid += 1;
            return;
        }
        slot.signalling.count(percent, (-limit, limit), (f64::NEG_INFINITY, f64::INFINITY));
        slot.signalling_max = slot.signalling_max.max(percent as f32);
    }

    fn add_event(&mut self, index: usize, end_s: f64, duration_s: f64) {
        let Some(slot) = self.slot(end_s) else { return };
        let (count, seconds) = &mut slot.events[index];
        *count = count.saturating_add(1);
        *seconds += duration_s as f32;
    }

    /// Slots of the week that hold something, oldest first.
    fn present(&self) -> impl Iterator<Item = &Slot> {
        let (oldest, newest) = self.span.unwrap_or((0, -1));
        (oldest..=newest).filter_map(|number| {
            let slot = &self.slots[number.rem_euclid(WEEK as i64) as usize];
            (slot.number == number).then_some(slot)
        })
    }

    /// Ten-minute intervals between the oldest and the newest.
    fn expected(&self) -> u32 {
        self.span.map_or(0, |(oldest, newest)| (newest - oldest + 1) as u32)
    }

    fn value_row(
        &self,
        characteristic: Characteristic,
        index: usize,
        band: (f64, f64),
        always: (f64, f64),
    ) -> Row {
        let mut values: Vec<f64> = self
            .present()
            .filter(|slot| slot.ten == Presence::Valid && !slot.values[index].is_nan())
            .map(|slot| f64::from(slot.values[index]))
            .collect();
        let mut counts = Counts::default();
        values.iter().for_each(|&value| counts.count(value, band, always));
        counts.invalid = self.expected() - counts.n;
        values.iter_mut().for_each(|value| *value = value.abs());
        counts.row(characteristic, band.1, 5.0, ENOUGH, rank::of_values(&mut values, 95.0))
    }

    fn flicker_row(&self) -> Row {
        let band = (-self.edition.flicker, self.edition.flicker);
        let mut counts = Counts::default();
        let mut values = Vec::new();
        for slot in self.present() {
            match slot.plt_presence {
                Presence::Absent => {}
                Presence::Invalid => counts.invalid += 1,
                Presence::Valid => {
                    counts.count(f64::from(slot.plt), band, (f64::NEG_INFINITY, f64::INFINITY));
                    values.push(f64::from(slot.plt));
                }
            }
        }
        counts.row(Characteristic::Flicker, band.1, 5.0, ENOUGH / 12, rank::of_values(&mut values, 95.0))
    }

    fn frequency_row(&self) -> Row {
        let bands = self.edition.bands(self.network);
        let mut counts = Counts::default();
        self.present().for_each(|slot| counts.add(&slot.frequency));
        let steps = || {
            self.present().flat_map(|slot| {
                let index = slot.number.rem_euclid(WEEK as i64) as usize * TENS;
                let stored = self.frequencies[index..index + TENS].iter().filter(|&&value| value != ABSENT);
                stored.map(|value| value.unsigned_abs())
            })
        };
        let share = bands.frequency_share;
        let value = rank::of_steps(steps, 100.0 - share)
            .map(|steps| 100.0 * f64::from(steps) * STEP / self.nominal_frequency);
        counts.row(Characteristic::Frequency, bands.frequency.1, share, ENOUGH * TENS as u32, value)
    }

    fn signalling_row(&self) -> Option<Row> {
        let limit = self.edition.signalling_limit(self.signalling?)?;
        let mut counts = Counts::default();
        let mut highest: Option<f64> = None;
        for slot in self.present() {
            counts.add(&slot.signalling);
            if slot.signalling.n > 0 {
                highest = Some(highest.unwrap_or(0.0).max(f64::from(slot.signalling_max)));
            }
        }
        // A day has 28 800 values of three seconds.
        Some(counts.row(Characteristic::Signalling, limit, 1.0, 28_800, highest))
    }

    fn event_row(&self, characteristic: Characteristic, index: usize) -> Row {
        let (mut count, mut seconds) = (0u32, 0.0f64);
        for slot in self.present() {
            count += u32::from(slot.events[index].0);
            seconds += f64::from(slot.events[index].1);
        }
        let share = 100.0 * seconds / (WEEK as f64 * 600.0);
        let light = match share / self.event_time_share {
            // Rapid changes have no limit (EN 50160 4.2.3.1 is indicative).
            _ if characteristic == Characteristic::Rvc => Light::Green,
            used if used > 1.0 => Light::Red,
            _ if self.expected() < ENOUGH => Light::Grey,
            used if used > NEAR => Light::Yellow,
            _ => Light::Green,
        };
        let light = if light == Light::Green && self.expected() < ENOUGH { Light::Grey } else { light };
        Row {
            characteristic,
            n: count,
            n1: 0,
            n2: 0,
            invalid: 0,
            limit: None,
            share,
            allowance: self.event_time_share,
            value: None,
            count: Some(count),
            event_time: Some(seconds),
            light,
        }
    }
}

impl Slot {
    fn empty(number: i64) -> Self {
        Self {
            number,
            values: [f32::NAN; VALUES],
            ten: Presence::Absent,
            plt: 0.0,
            plt_presence: Presence::Absent,
            frequency: Tally::default(),
            signalling: Tally::default(),
            signalling_max: 0.0,
            events: [(0, 0.0); 4],
        }
    }
}

impl Tally {
    fn count(&mut self, value: f64, band: (f64, f64), always: (f64, f64)) {
        let mut counts = Counts::default();
        counts.count(value, band, always);
        self.n += 1;
        self.n1 += counts.n1 as u16;
        self.n2 += counts.n2 as u16;
        self.near += counts.near as u16;
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    n: u32,
    n1: u32,
    n2: u32,
    near: u32,
    invalid: u32,
}

impl Counts {
    fn count(&mut self, value: f64, band: (f64, f64), always: (f64, f64)) {
        // A value that equals the limit as far as the stored precision goes is within it.
        let beyond =
            |band: (f64, f64)| value < band.0 - 1e-6 * band.0.abs() || value > band.1 + 1e-6 * band.1.abs();
        self.n += 1;
        self.n1 += u32::from(beyond(band));
        self.n2 += u32::from(beyond(always));
        self.near += u32::from(beyond((NEAR * band.0, NEAR * band.1)));
    }

    fn add(&mut self, tally: &Tally) {
        self.n += u32::from(tally.n);
        self.n1 += u32::from(tally.n1);
        self.n2 += u32::from(tally.n2);
        self.near += u32::from(tally.near);
        self.invalid += u32::from(tally.invalid);
    }

    /// `allowance` in %; `enough` values make a verdict.
    fn row(
        &self,
        characteristic: Characteristic,
        limit: f64,
        allowance: f64,
        enough: u32,
        value: Option<f64>,
    ) -> Row {
        let percent =
            |count: u32| if self.n == 0 { 0.0 } else { 100.0 * f64::from(count) / f64::from(self.n) };
        let light = if self.n2 > 0 || percent(self.n1) > allowance {
            Light::Red
        } else if self.n < enough {
            Light::Grey
        } else if percent(self.n1) > NEAR * allowance || percent(self.near) > allowance {
            Light::Yellow
        } else {
            Light::Green
        };
        Row {
            characteristic,
            n: self.n,
            n1: self.n1,
            n2: self.n2,
            invalid: self.invalid,
            limit: Some(limit),
            share: percent(self.n1),
            allowance,
            value,
            count: None,
            event_time: None,
            light,
        }
    }
}
