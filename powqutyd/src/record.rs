// SPDX-License-Identifier: Apache-2.0
//! An event as the daemon keeps it: with UTC and an id that is the same on every interface.

use crate::clock::{Clock, Utc};
use crate::records::Outage;
use power_quality::compliance::Characteristic;
use power_quality::{Cell, Event, EventKind, HarmonicDetail};
use serde_json::{json, Value};

/// One finished or open event.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRecord {
    /// What happened.
    pub kind: EventKind,
    /// Start.
    pub start: Utc,
    /// Length so far in seconds.
    pub duration_s: f64,
    /// Not over yet.
    pub open: bool,
    /// Residual or largest voltage (V).
    pub extreme_voltage: Option<f64>,
    /// The same in % of the nominal voltage.
    pub extreme_percent: Option<f64>,
    /// EN 50160 cell.
    pub class: Option<Cell>,
    /// Details of a harmonic event.
    pub harmonic: Option<HarmonicDetail>,
}

/// An entry of the list of events.
#[derive(Debug, Clone, PartialEq)]
pub enum Incident {
    /// Of the voltage.
    Event(EventRecord),
    /// Of the monitor: nothing was measured since then.
    Outage(Utc, Outage),
}

impl Incident {
    /// Names of the kinds.
    pub const KINDS: [&'static str; 6] =
        ["dip", "swell", "interruption", "harmonic", Outage::KINDS[0], Outage::KINDS[1]];

    /// One of [`Incident::KINDS`].
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Event(event) => event.kind.name(),
            Self::Outage(_, outage) => outage.kind(),
        }
    }

    /// Start.
    #[must_use]
    pub fn start(&self) -> Utc {
        match self {
            Self::Event(event) => event.start,
            Self::Outage(start, _) => *start,
        }
    }

    /// The object of the method `events` and of the event `powquty.event`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::Event(event) => event.to_json(),
            Self::Outage(start, outage) => json!({
                "id": format!("{}-{}", start.millis(), outage.kind()),
                "kind": outage.kind(),
                "start": start.rfc3339(),
                "end": start.plus_seconds(outage.duration_s).rfc3339(),
                "duration": rounded(outage.duration_s, 1e6),
                "open": false,
            }),
        }
    }
}

impl EventRecord {
    /// Puts an event of the analyser on the calendar.
    #[must_use]
    pub fn new(event: &Event, clock: &Clock) -> Self {
        Self::at(event, clock.utc(event.start_s))
    }

    /// Puts an event that began at `start` on the calendar.
    #[must_use]
    pub fn at(event: &Event, start: Utc) -> Self {
        Self {
            kind: event.kind,
            start,
            duration_s: event.duration_s,
            open: event.open,
            extreme_voltage: event.extreme_voltage,
            extreme_percent: event.extreme_percent,
            class: event.class,
            harmonic: event.harmonic,
        }
    }

    /// Start in milliseconds since 1970 and kind (and order), for instance `1795170325717-dip`.
    #[must_use]
    pub fn id(&self) -> String {
        let start = self.start.millis();
        match self.harmonic {
            Some(HarmonicDetail { order, .. }) => format!("{start}-{}-{order}", self.kind.name()),
            None => format!("{start}-{}", self.kind.name()),
        }
    }

    /// What it counts for.
    #[must_use]
    pub fn characteristic(&self) -> Characteristic {
        match (self.kind, self.harmonic) {
            (EventKind::Dip, _) => Characteristic::Dip,
            (EventKind::Swell, _) => Characteristic::Swell,
            (EventKind::Interruption, _) => Characteristic::Interruption,
            (EventKind::Harmonic, detail) => Characteristic::Harmonic(detail.map_or(0, |it| it.order)),
        }
    }

    /// End; `None` while open.
    #[must_use]
    pub fn end(&self) -> Option<Utc> {
        (!self.open).then(|| self.start.plus_seconds(self.duration_s))
    }

    /// See [`Incident::to_json`].
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut value = json!({
            "id": self.id(),
            "kind": self.kind.name(),
            "start": self.start.rfc3339(),
            "end": self.end().map(Utc::rfc3339),
            "duration": rounded(self.duration_s, 1e6),
            "open": self.open,
        });
        if let Some(map) = value.as_object_mut() {
            if let Some(harmonic) = self.harmonic {
                map.insert("order".to_owned(), json!(harmonic.order));
                map.insert("limit_percent".to_owned(), json!(rounded(harmonic.limit_percent, 1e3)));
                map.insert("value_percent".to_owned(), json!(rounded(harmonic.value_percent, 1e3)));
                map.insert("share_percent".to_owned(), json!(rounded(harmonic.share_percent, 1e3)));
            } else {
                let extreme = |value: Option<f64>| value.map(|value| rounded(value, 1e3));
                map.insert("extreme_voltage".to_owned(), json!(extreme(self.extreme_voltage)));
                map.insert("extreme_percent".to_owned(), json!(extreme(self.extreme_percent)));
                map.insert("class".to_owned(), json!(self.class.map(|cell| cell.to_string())));
            }
        }
        value
    }
}

/// The start in an id of [`EventRecord::id`].
#[must_use]
pub fn start_of_id(id: &str) -> Option<Utc> {
    let (start, _kind) = id.split_once('-')?;
    start.parse().ok().map(Utc::from_millis)
}

/// `value` rounded to a multiple of `1 / scale`.
#[must_use]
pub fn rounded(value: f64, scale: f64) -> f64 {
    (value * scale).round() / scale
}
