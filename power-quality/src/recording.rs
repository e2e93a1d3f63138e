// SPDX-License-Identifier: Apache-2.0
//! Waveform and RMS trace around events: a bounded ring with time before and after the trigger.

use crate::buffer::SampleBuffer;
use crate::clock::Clock;
use crate::config::Recording;
use crate::phase::Cycle;
use crate::result::{EventKind, Measurement, Waveform};

#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    before: f64,
    after: f64,
    samples: SampleBuffer,
    /// End position and value of the Urms(1/2) within the ring, oldest first.
    rms: Vec<(f64, f32)>,
    pending: Option<(EventKind, f64)>,
    /// First sample of the stretch of input in progress.
    stretch: f64,
}

impl Recorder {
    /// A recorder beside an input buffer that takes up to `burst` samples before it is read.
    pub(crate) fn new(recording: Recording, rate: f64, nominal_hertz: f64, burst: usize) -> Self {
        let seconds = recording.before_s + recording.after_s + 1.0;
        Self {
            before: recording.before_s * rate,
            after: recording.after_s * rate,
            samples: SampleBuffer::new((seconds * rate) as usize + burst),
            rms: Vec::with_capacity((seconds * 3.0 * nominal_hertz) as usize + 64),
            pending: None,
            stretch: 0.0,
        }
    }

    pub(crate) fn append(&mut self, samples: &[f32]) {
        self.samples.append(samples);
    }

    /// The input continues at `position` after a long gap.
    pub(crate) fn restart(&mut self, position: i64) {
        self.samples.restart(position);
        self.rms.clear();
        self.pending = None;
        self.stretch = position as f64;
    }

    /// An event has begun. One that begins while another is being recorded shares its recording.
    pub(crate) fn trigger(&mut self, kind: EventKind, start: f64) {
        self.pending.get_or_insert((kind, start));
    }

    pub(crate) fn cycle(&mut self, cycle: Cycle) {
        if self.rms.len() == self.rms.capacity() {
            let half = self.rms.len() / 2;
            self.rms.copy_within(half.., 0);
            self.rms.truncate(self.rms.len() - half);
        }
        self.rms.push((cycle.end, cycle.rms as f32));
    }

    /// Hands out the recording that is complete at `now`, or at the `last` chance what there is.
    pub(crate) fn advance(
        &mut self,
        now: f64,
        last: bool,
        clock: &Clock,
        out: &mut dyn FnMut(Measurement<'_>),
    ) {
        if let Some((kind, start)) = self.pending.filter(|(_, start)| last || now >= start + self.after) {
            self.pending = None;
            let first = libm::floor((start - self.before).max(self.stretch));
            let end = libm::floor((start + self.after).min(now));
            let from = self.rms.iter().position(|&(at, _)| at > first).unwrap_or(self.rms.len());
            let to = self.rms.iter().position(|&(at, _)| at > end).unwrap_or(self.rms.len());
            let trace = &mut self.rms[from..to.max(from)];
            for (at, _) in trace.iter_mut() {
                *at = clock.seconds(*at);
            }
            out(Measurement::Waveform(Waveform {
                kind,
                event_start_s: clock.seconds(start),
                start_s: clock.seconds(first),
                rate: clock.rate(),
                samples: self.samples.range(first as i64, end as i64),
                rms: trace,
            }));
            for (at, _) in trace.iter_mut() {
                *at = clock.position(*at);
            }
        }
        let keep = self.pending.map_or(now, |(_, start)| start) - self.before - 1.0;
        self.samples.release(keep as i64);
    }
}
