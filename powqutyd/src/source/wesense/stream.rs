// SPDX-License-Identifier: Apache-2.0
//! From portions of bytes with the moment of their arrival to samples, gaps and breaks; no I/O, no clock.

use super::frame::{Decoder, Faults, Item, Missing, SAMPLES};
use crate::source::{Arrival, Read};
use std::collections::VecDeque;
use std::time::Duration;

/// What the oscilloscope has sent, ready to be read.
#[derive(Debug, Default)]
pub struct Stream {
    decoder: Decoder,
    /// Decoded and not handed on yet; at most what one portion holds.
    ready: VecDeque<Ready>,
    /// The last one; what was sent before the device went is still of the old one.
    calibration: (f32, f32),
    /// The device has told its calibration since it was opened.
    calibrated: bool,
    /// The device was opened anew; how long it was away is not known.
    broken: bool,
    /// When the newest byte had arrived.
    arrived: Duration,
}

#[derive(Debug)]
enum Ready {
    Samples([i16; SAMPLES]),
    Gap(u64),
    Break,
}

impl Stream {
    /// Takes bytes that had arrived `at` (monotonic); samples before the first calibration are no voltages and are
    /// left out. Returns the calibration (offset in LSB, V per LSB) when the device has told it.
    pub fn take(&mut self, bytes: &[u8], at: Duration) -> Option<(f32, f32)> {
        self.arrived = at;
        let mut calibration = None;
        let known = self.calibrated;
        let (ready, broken) = (&mut self.ready, &mut self.broken);
        self.decoder.push(bytes, &mut |item| match item {
            Item::Calibration { offset, scale } => calibration = Some((offset, scale)),
            Item::Frame { missing, samples } if known => hand_on(ready, broken, missing, samples),
            Item::Frame { .. } | Item::Acknowledged => {}
        });
        if let Some(calibration) = calibration {
            self.calibration = calibration;
            self.calibrated = true;
        }
        calibration
    }

    /// Nothing has come for so long that the rest of a frame will not come any more.
    pub fn silence(&mut self) {
        let known = self.calibrated;
        let (ready, broken) = (&mut self.ready, &mut self.broken);
        self.decoder.silence(&mut |item| match item {
            Item::Frame { missing, samples } if known => hand_on(ready, broken, missing, samples),
            _ => {}
        });
    }

    /// The device has gone: what comes next is another beginning.
    pub fn interrupted(&mut self) {
        self.silence();
        self.decoder.reopened();
        self.calibrated = false;
        self.broken = true;
    }

    /// The next samples in volts, or what is missing before them.
    pub fn next(&mut self, volts: &mut [f32]) -> Option<Read> {
        Some(match self.ready.pop_front()? {
            Ready::Gap(samples) => Read::Gap(samples),
            Ready::Break => Read::Break,
            Ready::Samples(samples) => {
                let (offset, scale) = self.calibration;
                for (volt, raw) in volts.iter_mut().zip(samples) {
                    *volt = (f32::from(raw) - offset) * scale;
                }
                Read::Samples(SAMPLES.min(volts.len()))
            }
        })
    }

    /// Nothing is ready.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// What had come beyond the samples handed on last, and when.
    #[must_use]
    pub fn arrival(&self) -> Arrival {
        let mut ahead = 0;
        for ready in &self.ready {
            match ready {
                Ready::Samples(_) => ahead += SAMPLES as u64,
                Ready::Gap(samples) => ahead += samples,
                Ready::Break => return Arrival { at: self.arrived, ahead: ahead as u32 },
            }
        }
        Arrival { at: self.arrived, ahead: ahead as u32 + self.decoder.held_samples() as u32 }
    }

    /// Faults of the line so far.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.decoder.faults()
    }
}

fn hand_on(ready: &mut VecDeque<Ready>, broken: &mut bool, missing: Missing, samples: &[i16; SAMPLES]) {
    match missing {
        _ if std::mem::take(broken) => ready.push_back(Ready::Break),
        Missing::Nothing => {}
        Missing::Frames(count) => ready.push_back(Ready::Gap(u64::from(count) * SAMPLES as u64)),
        Missing::Unknown => ready.push_back(Ready::Break),
    }
    ready.push_back(Ready::Samples(*samples));
}
