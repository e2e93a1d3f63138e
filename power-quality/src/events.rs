// SPDX-License-Identifier: Apache-2.0
//! Dips, swells and interruptions from Urms(1/2) (IEC 61000-4-30 5.4, 5.5).

use crate::config::{Reference, Thresholds};
use crate::en50160;
use crate::phase::Cycle;
use crate::result::{Cell, EventKind};

/// Kinds of events found in Urms(1/2), in the order in which they are reported.
pub(crate) const KINDS: [EventKind; 3] = [EventKind::Dip, EventKind::Swell, EventKind::Interruption];

/// An event in sample positions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct VoltageEvent {
    pub(crate) kind: EventKind,
    /// Start of the cycle that began the event.
    pub(crate) start: f64,
    /// End of the cycle that ended it, or of the latest cycle while it is open.
    pub(crate) end: f64,
    /// Residual voltage or swell maximum (V).
    pub(crate) extreme: f64,
    pub(crate) percent: f64,
}

impl VoltageEvent {
    /// EN 50160 cell for an event of `duration_s` seconds.
    pub(crate) fn cell(&self, duration_s: f64) -> Option<Cell> {
        match self.kind {
            EventKind::Dip => en50160::dip_cell(self.percent, duration_s),
            EventKind::Swell => en50160::swell_cell(self.percent, duration_s),
            EventKind::Interruption | EventKind::Harmonic => None,
        }
    }
}

/// What one cycle changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Change {
    Began(VoltageEvent),
    Ended(VoltageEvent),
}

#[derive(Debug, Clone)]
pub(crate) struct VoltageEvents {
    nominal: f64,
    thresholds: Thresholds,
    sliding: Option<f64>,
    open: [Option<VoltageEvent>; 3],
}

impl VoltageEvents {
    pub(crate) fn new(nominal: f64, thresholds: Thresholds, reference: Reference) -> Self {
        let sliding = (reference == Reference::Sliding).then_some(nominal);
        Self { nominal, thresholds, sliding, open: [None; 3] }
    }

    /// An event in progress goes on and ends by the new thresholds.
    pub(crate) fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
    }

    pub(crate) fn open(&self) -> impl Iterator<Item = &VoltageEvent> {
        self.open.iter().flatten()
    }

    /// Moves the sliding reference by an unflagged 10/12-cycle value (IEC 61000-4-30 5.4.4).
    pub(crate) fn window(&mut self, voltage: f64) {
        if let Some(reference) = &mut self.sliding {
            *reference = 0.9967 * *reference + 0.0033 * voltage;
        }
    }

    /// Evaluates one Urms(1/2).
    pub(crate) fn cycle(&mut self, cycle: Cycle, mut changed: impl FnMut(Change)) {
        let t = self.thresholds;
        for (kind, slot) in KINDS.into_iter().zip(&mut self.open) {
            let reference = match kind {
                EventKind::Interruption => self.nominal,
                _ => self.sliding.unwrap_or(self.nominal),
            };
            let percent = 100.0 * cycle.rms / reference;
            let (begins, ends, deeper) = match kind {
                EventKind::Swell => (percent > t.swell, percent <= t.swell - t.hysteresis, f64::gt as Deeper),
                EventKind::Interruption => {
                    (percent < t.interruption, percent >= t.interruption + t.hysteresis, f64::lt as Deeper)
                }
                EventKind::Dip | EventKind::Harmonic => {
                    (percent < t.dip, percent >= t.dip + t.hysteresis, f64::lt as Deeper)
                }
            };
            match slot {
                None if begins => {
                    let event = VoltageEvent {
                        kind,
                        start: cycle.start,
                        end: cycle.end,
                        extreme: cycle.rms,
                        percent,
                    };
                    *slot = Some(event);
                    changed(Change::Began(event));
                }
                None => {}
                Some(event) => {
                    event.end = cycle.end;
                    if deeper(&cycle.rms, &event.extreme) {
                        event.extreme = cycle.rms;
                        event.percent = percent;
                    }
                    if ends {
                        changed(Change::Ended(*event));
                        *slot = None;
                    }
                }
            }
        }
    }
}

type Deeper = fn(&f64, &f64) -> bool;
