// SPDX-License-Identifier: Apache-2.0
//! A week in numbers: what the report, its JSON and the message to the alert sinks are rendered from.
//!
//! [`build`] makes a [`Summary`] from records alone, so that a file that was copied from a router is judged as on it.

pub mod build;
pub mod week;

use crate::clock::Utc;
use crate::record::EventRecord;
use crate::records::Header;
use openwrt::timezone::Zone;
use power_quality::compliance::{Characteristic, Light, Row};
use serde::{Serialize, Serializer};
use std::ops::Deref;

/// What every rendering has to say (the instrument is not part of the numbers).
pub const METHOD_NOTE: &str =
    "Methods after IEC 61000-4-30 class A, tested on computed signals. This is no certified \
    instrument: the error of the oscilloscope itself is not included.";

/// A week, judged.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// ISO week.
    pub week: String,
    /// First moment.
    pub start: Utc,
    /// First moment after it; for a week that is not over, the moment of the summary.
    pub end: Utc,
    /// The week is over.
    pub complete: bool,
    /// Judged from here on, because the declared supply was changed during the week.
    pub since: Option<Utc>,
    /// Who measured what.
    #[serde(flatten)]
    pub header: Header,
    /// Edition of EN 50160.
    pub edition: &'static str,
    /// The worst light.
    pub light: Light,
    /// How much of the week was measured.
    pub completeness: Completeness,
    /// One line per characteristic.
    pub characteristics: Vec<Line>,
    /// Ten-minute voltages (V).
    pub voltage: Option<Spread>,
    /// 10 s frequencies (Hz).
    pub frequency: Option<Spread>,
    /// Events, those of power losses apart.
    pub events: Events,
    /// Times in which the monitor was off.
    pub outages: Vec<OutageSpan>,
    /// For the plots.
    #[serde(skip)]
    pub series: Series,
    /// The time zone of the week.
    #[serde(skip)]
    pub zone: Zone,
}

/// Counts of ten-minute intervals.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Completeness {
    /// In the week so far.
    pub expected: u32,
    /// Measured and undisturbed.
    pub valid: u32,
    /// Touched by an event, a gap, the start or the end of the measurement.
    pub flagged: u32,
    /// Not measured.
    pub missing: u32,
}

impl Completeness {
    /// Share of the week that was measured at all, in %.
    #[must_use]
    pub fn percent(&self) -> f64 {
        if self.expected == 0 {
            return 0.0;
        }
        100.0 * f64::from(self.valid + self.flagged) / f64::from(self.expected)
    }
}

/// One characteristic of the week.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// The verdict.
    #[serde(flatten)]
    pub row: Row,
    /// The worst value.
    pub worst: Option<Worst>,
    /// The same characteristic a week before.
    pub before: Option<Before>,
}

impl Deref for Line {
    type Target = Row;

    fn deref(&self) -> &Row {
        &self.row
    }
}

impl Line {
    /// Share of the allowance that is used, in %.
    #[must_use]
    pub fn used(&self) -> f64 {
        if self.allowance > 0.0 {
            100.0 * self.share / self.allowance
        } else {
            0.0
        }
    }
}

/// A worst value and its time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Worst {
    /// In the unit of the limit: signed deviation for voltage and frequency; residual, maximum or change in % of the
    /// nominal voltage for events; seconds for interruptions.
    pub value: f64,
    /// Start of its interval.
    pub at: Utc,
}

/// What the comparison needs of the week before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Before {
    /// Traffic light.
    pub light: Light,
    /// As [`Row::share`].
    pub share: f64,
    /// As [`Row::value`].
    pub value: Option<f64>,
    /// As [`Row::count`].
    pub count: Option<u32>,
}

/// Order statistics.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Smallest.
    pub min: f64,
    /// 5 % are smaller (frequency: 0.5 %).
    pub low: f64,
    /// Half is smaller.
    pub median: f64,
    /// 5 % are larger (frequency: 0.5 %).
    pub high: f64,
    /// Largest.
    pub max: f64,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Events {
    /// All, the dip of an interruption counted with it.
    pub total: u32,
    /// In time order; of many the most severe.
    #[serde(serialize_with = "events_as_objects")]
    pub listed: Vec<EventRecord>,
    /// By kind and cell, the most frequent first.
    pub groups: Vec<Group>,
    /// Residual voltage × duration: rows A, B, C, D, X, columns to 0.2, 0.5, 1, 5, 60 s and beyond.
    pub dips: [[u32; 6]; 5],
    /// Maximum × duration: rows S, T, columns to 0.5, 5, 60 s and beyond.
    pub swells: [[u32; 4]; 2],
}

/// Events of one kind in one cell.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// `dip`, `swell`, `interruption`, `harmonic`.
    pub kind: &'static str,
    /// EN 50160 cell, or the order of a harmonic such as `h5`.
    pub class: Option<String>,
    /// Number of events.
    pub count: u32,
    /// Seconds of all together.
    pub duration: f64,
    /// Start of the first.
    pub first: Utc,
    /// Start of the last.
    pub last: Utc,
}

/// The monitor was off.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct OutageSpan {
    /// Last record before.
    pub start: Utc,
    /// For at most this long, in seconds.
    pub duration: f64,
    /// The router had started anew.
    pub power_loss: bool,
}

/// What the plots show, a slot of ten minutes at a time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    /// From the start of the week on.
    pub slots: Vec<Slot>,
    /// Long-term flicker: start in slots, severity, flagged.
    pub plt: Vec<(u16, f32, bool)>,
    /// Dips, swells and interruptions: duration (s), extreme (%).
    pub scatter: Vec<(f32, f32)>,
    /// THD: what 95 % of the ten-minute values do not exceed is in the lines; here the orders.
    pub harmonics_carried: u8,
}

/// Ten minutes; NaN where unknown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slot {
    /// Smallest, mean and largest voltage (V).
    pub voltage: [f32; 3],
    /// Smallest, mean and largest 10 s frequency (Hz).
    pub frequency: [f32; 3],
    /// Short-term flicker.
    pub pst: f32,
    /// THD (%).
    pub thd: f32,
    /// Not for the verdict.
    pub flagged: bool,
}

impl Slot {
    /// Nothing known.
    pub const EMPTY: Self = Self {
        voltage: [f32::NAN; 3],
        frequency: [f32::NAN; 3],
        pst: f32::NAN,
        thd: f32::NAN,
        flagged: false,
    };
}

impl Summary {
    /// The line of a characteristic.
    #[must_use]
    pub fn line(&self, characteristic: Characteristic) -> Option<&Line> {
        self.characteristics.iter().find(|line| line.characteristic == characteristic)
    }

    /// Ten-minute slots between the start of the week and the moment of the summary.
    #[must_use]
    pub fn slots_so_far(&self) -> usize {
        ((self.end.millis() - self.start.millis()) / crate::records::SLOT_MS).max(0) as usize
    }

    /// What there is to say in one sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let named = |light: Light| {
            let lines = self.characteristics.iter().filter(|line| line.light == light);
            lines.map(|line| crate::lights::title(line.characteristic)).collect::<Vec<_>>()
        };
        match self.light {
            Light::Red => format!("Outside EN 50160: {}.", listed(&named(Light::Red))),
            Light::Yellow => {
                format!("Within EN 50160, close to the limits: {}.", listed(&named(Light::Yellow)))
            }
            Light::Green if named(Light::Grey).is_empty() => "Within EN 50160.".to_owned(),
            Light::Green => {
                format!("Within EN 50160 as far as measured; too little of: {}.", listed(&named(Light::Grey)))
            }
            Light::Grey => "Less than a day was measured: no verdict.".to_owned(),
        }
    }
}

/// `a`, `a and b`, `a, b and c`, `a, b and 7 more`.
fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [some @ .., last] if names.len() <= 4 => format!("{} and {last}", some.join(", ")),
        [a, b, c, rest @ ..] => format!("{a}, {b}, {c} and {} more", rest.len()),
        _ => names.join(", "),
    }
}

fn events_as_objects<S: Serializer>(events: &[EventRecord], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(events.iter().map(EventRecord::to_json))
}
