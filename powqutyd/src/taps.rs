// SPDX-License-Identifier: Apache-2.0
//! Who sees the samples beside the analysis: the raw recording and the dump of `run -r` and `-w`. Neither can hold
//! the measurement up.

use crate::clock::Clock;
use crate::dump::Dump;
use crate::raw::format::Place;
use crate::raw::recorder::Recorder;
use crate::raw::Settings;
use crate::source::decode::Scaling;
use crate::source::Frame;
use serde_json::Value;
use std::time::Duration;

/// What becomes of the samples as they are.
#[derive(Default)]
pub struct Taps {
    /// As text, where the command line asks for it.
    pub dump: Option<Dump>,
    raw: Option<Recorder>,
}

impl Taps {
    /// Records as configured from now on.
    pub fn configure(&mut self, settings: Option<&Settings>, limit: Duration) {
        if self.raw.as_ref().map(Recorder::settings) == settings {
            return;
        }
        // Two writers in one file would be one too many.
        if let Some(raw) = self.raw.take() {
            raw.stop(limit);
        }
        let Some(settings) = settings else { return };
        match Recorder::start(settings.clone()) {
            Ok(raw) => self.raw = Some(raw),
            Err(error) => log::error!("raw recording: there is no thread to be had: {error}"),
        }
    }

    /// Takes a frame whose samples the clock has counted already; `event` says that a dip, a swell or an interruption
    /// is under way.
    pub fn take(
        &mut self,
        frame: &Frame,
        clock: &Clock,
        nominal_rate: f64,
        scaling: Option<Scaling>,
        event: bool,
    ) {
        if let Some(dump) = &mut self.dump {
            dump.take(frame, scaling);
        }
        let Some(raw) = &mut self.raw else { return };
        let volts = frame.volts();
        let position = clock.samples() - volts.len() as u64;
        let Some(map) = clock.time_of(position) else { return };
        let synchronised = clock.reference().is_synchronised();
        let place = Place { position, unix_s: map.unix_s, rate: map.rate, nominal_rate, synchronised };
        raw.take(volts, place, scaling, event);
    }

    /// Positions begin anew.
    pub fn cut(&mut self) {
        if let Some(raw) = &mut self.raw {
            raw.cut();
        }
    }

    /// What `status` says about the recording.
    #[must_use]
    pub fn status(&self) -> Value {
        self.raw.as_ref().map_or(Value::Null, Recorder::status)
    }

    /// The end, within `limit`.
    pub fn stop(&mut self, limit: Duration) {
        self.dump = None;
        if let Some(raw) = self.raw.take() {
            raw.stop(limit);
        }
    }
}
