// SPDX-License-Identifier: Apache-2.0
//! Time from the sample counter: pure arithmetic between samples, seconds of signal and UTC.
//!
//! Durations come from the counter and the converter's true rate, never from arrival stamps, so that a stall changes no
//! event's length. UTC is the monotonic clock plus an offset ([`reference`]); the samples of a device are laid on the
//! monotonic clock by their earliest arrivals ([`discipline`]), those of a file or the simulator by their number.

pub mod discipline;
pub mod kernel;
pub mod reference;

mod utc;

pub use kernel::monotonic;
pub use utc::Utc;

use crate::source::Arrival;
use discipline::Discipline;
use power_quality::TimeMap;
use reference::{GpsTime, Reading, Reference};

/// Times before this are those of a router that has no clock yet (2020-01-01T00:00:00Z).
const PLAUSIBLE: f64 = 1_577_836_800.0;

/// Samples that come earlier than this (s) before they can have been taken have been counted wrongly.
const EARLY: f64 = 0.05;

/// A device that is early this often has no clock of its own: a program that writes as fast as it can.
const TOO_OFTEN_EARLY: u32 = 5;

/// Largest correction of UTC between two moves of the map (s), so that results never overlap: the shortest is half a
/// cycle long.
const SLEW: f64 = 0.001;

/// Seconds of signal after a beginning in which the map follows at once: the earliest arrival is still being found.
const ACQUISITION: f64 = 10.0;

/// A map that is off by less than this (s, and relative) stays.
const NEGLIGIBLE: f64 = 50e-6;
const NEGLIGIBLE_RATE: f64 = 20e-9;

/// Sample counter ↔ UTC.
#[derive(Debug, Clone)]
pub struct Clock {
    nominal: f64,
    /// Samples counted, missing ones included.
    samples: u64,
    /// The same as the source counts, which knows nothing of what is missing after a break.
    position: u64,
    lattice: Lattice,
    reference: Reference,
    map: Option<TimeMap>,
    /// UTC of the analyser's zero.
    origin: Option<f64>,
    acquired: u64,
    moved: bool,
    early: u32,
}

/// Where the samples lie on the monotonic clock.
#[derive(Debug, Clone)]
enum Lattice {
    /// At the nominal rate after the first one.
    Nominal { first: Option<f64> },
    /// By the arrivals from a device with a clock of its own.
    Disciplined(Box<Discipline>),
}

/// A frame as the clock sees it.
#[derive(Debug, Clone, Copy)]
pub struct Coming {
    /// Position of its first sample, as the source counts.
    pub position: u64,
    /// Its samples.
    pub count: u64,
    /// More is missing before it than the source can know.
    pub broken: bool,
    /// When its last sample had arrived.
    pub arrival: Option<Arrival>,
}

impl Clock {
    /// A clock for samples at `rate` (Hz), taken by a device with a clock of its own or not.
    #[must_use]
    pub fn new(rate: f64, own_clock: bool) -> Self {
        let lattice = if own_clock {
            Lattice::Disciplined(Box::new(Discipline::new(rate)))
        } else {
            Lattice::Nominal { first: None }
        };
        Self {
            nominal: rate,
            samples: 0,
            position: 0,
            lattice,
            reference: Reference::default(),
            map: None,
            origin: None,
            acquired: 0,
            moved: false,
            early: 0,
        }
    }

    /// A clock for another input that keeps what is known of UTC.
    #[must_use]
    pub fn renewed(&self, rate: f64, own_clock: bool) -> Self {
        Self { reference: self.reference.clone(), ..Self::new(rate, own_clock) }
    }

    /// Takes a reading of the system's clocks and of GPS; to be called about once a second. Returns the size of a step
    /// of UTC (s), if there was one.
    pub fn read(&mut self, reading: &Reading, gps: Option<GpsTime>) -> Option<f64> {
        let step = self.reference.read(reading, gps);
        self.publish(step.is_some());
        step
    }

    /// Counts a frame; returns how many samples are missing before it.
    pub fn advance(&mut self, coming: Coming) -> u64 {
        let Coming { position, count, broken, arrival } = coming;
        let claimed = position.saturating_sub(self.position);
        self.position = position + count;
        let gap = match arrival {
            Some(arrival) => self.place(claimed, count, broken, arrival),
            None => claimed,
        };
        self.samples += gap + count;
        if self.map.is_none() || self.is_acquiring() {
            self.publish(true);
        }
        gap
    }

    /// The newest map from samples to UTC, once each time it has moved.
    pub fn moved(&mut self) -> Option<TimeMap> {
        std::mem::take(&mut self.moved).then_some(self.map).flatten()
    }

    /// UTC of a sample, and the rate there; `None` before the first sample has arrived.
    #[must_use]
    pub fn time_of(&self, sample: u64) -> Option<TimeMap> {
        let map = self.map?;
        let sample = sample as f64;
        Some(TimeMap { sample, unix_s: map.unix_s + (sample - map.sample) / map.rate, rate: map.rate })
    }

    /// Samples counted so far, missing ones included.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// UTC of the analyser's zero in seconds since 1970; `None` before the first sample has arrived.
    #[must_use]
    pub fn origin(&self) -> Option<f64> {
        self.origin
    }

    /// UTC of a moment `seconds` after the analyser's zero.
    #[must_use]
    pub fn utc(&self, seconds: f64) -> Utc {
        Utc::from_seconds(self.origin.unwrap_or_default()).plus_seconds(seconds)
    }

    /// The same moment by the monotonic clock (s).
    #[must_use]
    pub fn monotonic(&self, seconds: f64) -> f64 {
        self.origin.unwrap_or_default() + seconds - self.reference.offset().unwrap_or_default()
    }

    /// The router knows the time, be it only from its battery.
    #[must_use]
    pub fn plausible(&self) -> bool {
        self.map.is_some_and(|map| map.unix_s >= PLAUSIBLE)
    }

    /// Where UTC comes from and how good it is.
    #[must_use]
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Deviation of the device's rate from its nominal one in parts per million, once it is known.
    #[must_use]
    pub fn ppm(&self) -> Option<f64> {
        match &self.lattice {
            Lattice::Disciplined(discipline) => discipline.ppm(),
            Lattice::Nominal { .. } => None,
        }
    }

    /// Lays a frame on the monotonic clock; returns what is missing before it.
    fn place(&mut self, claimed: u64, count: u64, broken: bool, arrival: Arrival) -> u64 {
        let at = arrival.at.as_secs_f64();
        let behind = count + u64::from(arrival.ahead);
        let discipline = match &mut self.lattice {
            Lattice::Nominal { first } => {
                first.get_or_insert(at - (self.samples + claimed + behind) as f64 / self.nominal);
                return claimed;
            }
            Lattice::Disciplined(discipline) => discipline,
        };
        if self.samples == 0 {
            discipline.arrived(claimed + behind, at);
            return claimed;
        }
        let by_clock = || {
            let elapsed = (at - discipline.moment(self.samples as f64)) * discipline.rate();
            (elapsed.round().max(0.0) as u64).saturating_sub(behind)
        };
        let early = discipline.moment((self.samples + claimed + behind) as f64) - at;
        let gap = if broken {
            by_clock()
        } else if early > EARLY {
            // More samples than time: the counter has claimed too many missing ones, or the device is none.
            self.early = self.early.saturating_add(1);
            by_clock().min(claimed)
        } else if let Some(late) = discipline.always_late() {
            // Time without samples: some were lost and nobody said so.
            claimed + (late * discipline.rate()).round() as u64
        } else {
            discipline.arrived(self.samples + claimed + behind, at);
            return claimed;
        };
        discipline.resume(self.samples + gap + behind, at);
        self.acquired = self.samples + gap + (ACQUISITION * self.nominal) as u64;
        if self.early == TOO_OFTEN_EARLY {
            log::warn!("the samples come faster than they can have been taken: their times are approximate");
            let first = self.moment(self.samples as f64) - self.samples as f64 / self.nominal;
            self.lattice = Lattice::Nominal { first: Some(first) };
        }
        gap
    }

    fn is_acquiring(&self) -> bool {
        matches!(self.lattice, Lattice::Disciplined(_))
            && self.samples <= self.acquired.max((ACQUISITION * self.nominal) as u64)
    }

    /// Monotonic moment of a sample (s).
    fn moment(&self, sample: f64) -> f64 {
        match &self.lattice {
            Lattice::Disciplined(discipline) => discipline.moment(sample),
            Lattice::Nominal { first } => first.unwrap_or_default() + sample / self.nominal,
        }
    }

    fn rate(&self) -> f64 {
        match &self.lattice {
            Lattice::Disciplined(discipline) => discipline.rate(),
            Lattice::Nominal { .. } => self.nominal,
        }
    }

    /// Moves the map to what is known now: at once, or by a little.
    fn publish(&mut self, at_once: bool) {
        let Some(offset) = self.reference.offset().filter(|_| self.samples > 0) else { return };
        let sample = self.samples as f64;
        let target = TimeMap { sample, unix_s: self.moment(sample) + offset, rate: self.rate() };
        let unix_s = match self.map {
            None => target.unix_s,
            Some(map) => {
                let before = map.unix_s + (sample - map.sample) / map.rate;
                let error = target.unix_s - before;
                if error.abs() < NEGLIGIBLE && (target.rate / map.rate - 1.0).abs() < NEGLIGIBLE_RATE {
                    return;
                }
                before + if at_once { error } else { error.clamp(-SLEW, SLEW) }
            }
        };
        // The analyser counts its seconds from the first map it is given.
        self.origin.get_or_insert(unix_s - sample / target.rate);
        self.map = Some(TimeMap { unix_s, ..target });
        self.moved = true;
    }
}

#[cfg(test)]
#[path = "clock/tests.rs"]
mod tests;
