// SPDX-License-Identifier: Apache-2.0
//! Which intervals an event or a gap touches (IEC 61000-4-30 4.7).

use crate::result::EventKind;

/// Ended disturbances that are remembered one by one; of older ones only the latest end.
const KEPT: usize = 32;
/// Overlap in samples that does not count, for boundaries that meet.
const TOUCH: f64 = 1.0;

#[derive(Debug, Clone)]
pub(crate) struct Disturbances {
    spans: [(f64, f64); KEPT],
    count: usize,
    forgotten_until: f64,
    open: [Option<f64>; 3],
}

impl Disturbances {
    pub(crate) fn new() -> Self {
        Self { spans: [(0.0, 0.0); KEPT], count: 0, forgotten_until: f64::NEG_INFINITY, open: [None; 3] }
    }

    pub(crate) fn began(&mut self, kind: EventKind, start: f64) {
        if let Some(slot) = slot(kind) {
            self.open[slot] = Some(start);
        }
    }

    pub(crate) fn ended(&mut self, kind: EventKind, end: f64) {
        if let Some(start) = slot(kind).and_then(|slot| self.open[slot].take()) {
            self.span(start, end);
        }
    }

    pub(crate) fn span(&mut self, start: f64, end: f64) {
        if self.count == KEPT {
            self.forgotten_until = self.forgotten_until.max(self.spans[0].1);
            self.spans.copy_within(1.., 0);
            self.count -= 1;
        }
        self.spans[self.count] = (start, end);
        self.count += 1;
    }

    /// Some disturbance that is known by now touches the interval.
    pub(crate) fn touch(&self, start: f64, end: f64) -> bool {
        self.forgotten_until > start + TOUCH
            || self.open.iter().flatten().any(|&began| began < end - TOUCH)
            || self.spans[..self.count].iter().any(|&(from, to)| from < end - TOUCH && to > start + TOUCH)
    }
}

fn slot(kind: EventKind) -> Option<usize> {
    crate::events::KINDS.iter().position(|&known| known == kind)
}
