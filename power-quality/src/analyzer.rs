// SPDX-License-Identifier: Apache-2.0
//! The analyser: takes samples, steps through half cycles, hands out results.

use crate::aggregate::{Closed, Intervals, Span};
use crate::buffer::{interpolate, SampleBuffer, HISTORY};
use crate::clock::{Clock, TimeMap, TICK_S};
use crate::config::{Config, ConfigError, Thresholds};
use crate::events::{Change, VoltageEvent, VoltageEvents};
use crate::flags::Disturbances;
use crate::flicker::Flickermeter;
use crate::frequency::FrequencyMeter;
use crate::harmonic_events::{Change as HarmonicChange, Episode, HarmonicEvents};
use crate::integrate::{half_cycle, mean_square, MARGIN};
use crate::phase::{Cycle, PhaseTracker};
use crate::recording::Recorder;
use crate::result::{Event, EventKind, Flicker, FlickerKind, Frequency, Gap, Measurement, Rvc, Window};
use crate::rvc::RapidChanges;
use crate::spectrum::SpectrumAnalyzer;

/// Nominal cycles that are collected before the first phase estimate.
const ACQUISITION_CYCLES: f64 = 11.0;
/// Input that the longest window, its smoothing and an overlapping one may need, in seconds.
const KEEP_S: f64 = 0.5;
/// Longest gap that is bridged with the waveform before it, in seconds; beyond it everything starts anew.
const BRIDGED_S: f64 = 3.0;
/// Voltages beyond this are faults of the input (V).
const IMPOSSIBLE: f32 = 1e9;
/// Samples computed beyond the end of the input so that its last window is complete.
const PADDING: i64 = 160;

/// One voltage channel measured after IEC 61000-4-30 class A methods.
///
/// Feed samples with [`push`](Self::push); results come through the callback in the order of their ends.
/// The results depend only on the samples, never on how they are divided into calls. After construction
/// nothing allocates.
#[derive(Debug, Clone)]
pub struct Analyzer {
    config: Config,
    clock: Clock,
    buffer: SampleBuffer,
    tracker: PhaseTracker,
    /// Samples needed before the tracker can start; `None` once it has.
    pending_start: Option<i64>,
    /// First sample of the stretch of input in progress.
    stretch: i64,
    events: VoltageEvents,
    disturbances: Disturbances,
    /// Bridged part of the input.
    missing: Option<(f64, f64)>,
    /// The cycle before a gap.
    bridge: Vec<f32>,
    intervals: Intervals,
    spectrum: SpectrumAnalyzer,
    frequency: FrequencyMeter,
    flicker: Flickermeter,
    /// Severity of ten minutes whose flag is not known yet.
    pst: Option<f64>,
    /// Tick at which the flickermeter closes its ten minutes.
    flicker_tick: i64,
    rapid: RapidChanges,
    harmonic_events: HarmonicEvents,
    recorder: Option<Recorder>,
    window: Window,
    urms: f64,
}

/// What a display shows now.
#[derive(Debug, Clone, Copy)]
pub struct Live<'a> {
    /// The last cycles in volts, oldest first, beginning near a rising zero crossing.
    pub samples: &'a [f32],
    /// Samples per second.
    pub rate: f64,
    /// The latest Urms(1/2) in volts.
    pub urms: f64,
    /// The latest 10/12-cycle window, once there was one.
    pub window: Option<&'a Window>,
}

impl Analyzer {
    /// An analyser for the channel that `config` describes; everything it needs is allocated here.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        let nominal_frequency = config.nominal_frequency.hertz();
        let mut analyzer = Self {
            config,
            clock: Clock::new(config.rate),
            buffer: SampleBuffer::new((KEEP_S * config.rate) as usize),
            tracker: PhaseTracker::new(config.rate, nominal_frequency, config.nominal_voltage),
            pending_start: None,
            stretch: 0,
            events: VoltageEvents::new(config.nominal_voltage, config.thresholds, config.reference),
            disturbances: Disturbances::new(),
            missing: None,
            // A cycle at the lowest frequency that is followed.
            bridge: Vec::with_capacity((config.rate / nominal_frequency * 1.5) as usize + 8),
            intervals: Intervals::new(config.nominal_frequency.cycles()),
            spectrum: SpectrumAnalyzer::new(&config),
            frequency: FrequencyMeter::new(),
            flicker: Flickermeter::new(&config),
            pst: None,
            flicker_tick: 0,
            rapid: RapidChanges::new(nominal_frequency),
            harmonic_events: HarmonicEvents::new(&config),
            recorder: None,
            window: Window::default(),
            urms: 0.0,
        };
        let burst = analyzer.buffer.room();
        analyzer.recorder =
            config.recording.map(|recording| Recorder::new(recording, config.rate, nominal_frequency, burst));
        analyzer.pending_start = Some(analyzer.acquisition_samples());
        Ok(analyzer)
    }

    /// Takes samples in volts, any number of them. What is not finite or beyond a gigavolt counts as zero.
    pub fn push(&mut self, volts: &[f32], out: &mut dyn FnMut(Measurement<'_>)) {
        let sound = |volts: &f32| volts.abs() <= IMPOSSIBLE;
        if volts.iter().all(sound) {
            return self.push_sound(volts, out);
        }
        for &volts in volts {
            self.push_sound(&[if sound(&volts) { volts } else { 0.0 }], out);
        }
    }

    fn push_sound(&mut self, volts: &[f32], out: &mut dyn FnMut(Measurement<'_>)) {
        let mut rest = volts;
        while !rest.is_empty() {
            let taken = self.buffer.append(rest);
            if let Some(recorder) = &mut self.recorder {
                recorder.append(&rest[..taken]);
            }
            rest = &rest[taken..];
            self.advance(out);
            if taken == 0 && !rest.is_empty() {
                // Cannot happen while KEEP_S covers what a step needs; dropping beats standing still.
                return;
            }
        }
    }

    /// `samples` of input are missing here. Short gaps are bridged with the waveform before them so that they
    /// cause no event; every interval that a gap touches is flagged.
    pub fn gap(&mut self, samples: u64, out: &mut dyn FnMut(Measurement<'_>)) {
        let from = self.buffer.end();
        let to = from.saturating_add_unsigned(samples);
        out(Measurement::Gap(Gap { start_s: self.clock.seconds(from as f64), samples }));
        self.disturbances.span(from as f64, to as f64);
        let bridged = self.pending_start.is_none() && samples as f64 <= BRIDGED_S * self.config.rate;
        if !bridged {
            self.finish_stretch(out);
            self.intervals.stop(from as f64, &self.clock, out);
            self.buffer.restart(to);
            self.rapid.restart();
            if let Some(recorder) = &mut self.recorder {
                recorder.advance(from as f64, true, &self.clock, out);
                recorder.restart(to);
            }
            self.stretch = to;
            self.missing = None;
            self.pending_start = Some(to + self.acquisition_samples());
            return;
        }
        let done = self.tracker.boundary() - 2.0 * self.tracker.half();
        let start = self.missing.filter(|&(_, end)| end > done).map_or(from as f64, |(start, _)| start);
        self.missing = Some((start, to as f64));
        let period = 2.0 * self.tracker.half();
        // Always the last real cycle, never what was bridged.
        let cycle = from - (period as i64 + 6);
        self.bridge.clear();
        self.bridge.extend_from_slice(self.buffer.range(cycle, from));
        for number in from..to {
            let back = libm::ceil((number - from + 2) as f64 / period) * period;
            let value = interpolate(&self.bridge, cycle, number as f64 - back);
            self.buffer.append_one(value);
            if let Some(recorder) = &mut self.recorder {
                recorder.append(&[value]);
            }
            if (number - from) % 64 == 63 {
                self.advance(out);
            }
        }
        self.advance(out);
    }

    /// Sets UTC and the true sampling rate, which place the 10-minute ticks (IEC 61000-4-30 4.5.1, 4.6).
    pub fn set_time(&mut self, map: TimeMap) {
        if !(map.rate.is_finite() && map.rate > 0.0 && map.sample.is_finite() && map.unix_s.is_finite()) {
            return;
        }
        self.clock.set(map);
        if self.pending_start.is_none() {
            let position = self.tracker.boundary();
            self.intervals.clock_moved(&self.clock);
            self.frequency.clock_moved(position, &self.clock);
            let ahead = self.clock.tick_position(self.flicker_tick) - position;
            if !self.clock.is_next(ahead, TICK_S) {
                self.flicker_tick = self.clock.tick_number(position) + 1;
            }
        }
    }

    /// UTC of `start_s` zero in seconds since 1970, once [`set_time`](Self::set_time) was called.
    #[must_use]
    pub fn origin_unix_s(&self) -> Option<f64> {
        self.clock.origin_unix()
    }

    /// Position of the next sample, gaps included: what [`TimeMap::sample`] counts.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.buffer.end().max(0) as u64
    }

    /// Changes the thresholds; an event in progress goes on and ends by the new ones.
    pub fn set_thresholds(&mut self, thresholds: Thresholds) -> Result<(), ConfigError> {
        thresholds.check()?;
        self.config.thresholds = thresholds;
        self.events.set_thresholds(thresholds);
        Ok(())
    }

    /// The input has ended: completes what the samples allow, then hands out the partial window, the
    /// partial ten minutes and the open events.
    pub fn finish(&mut self, out: &mut dyn FnMut(Measurement<'_>)) {
        let end = self.buffer.end() as f64;
        self.finish_stretch(out);
        self.intervals.stop(end, &self.clock, out);
        if let Some(recorder) = &mut self.recorder {
            recorder.advance(end, true, &self.clock, out);
        }
        for event in self.events.open() {
            out(Measurement::Event(event_result(&self.clock, event, true)));
        }
        for episode in self.harmonic_events.open() {
            out(Measurement::Event(harmonic_result(&episode, true)));
        }
    }

    /// The last cycles and the last window, for a display.
    #[must_use]
    pub fn live(&self) -> Live<'_> {
        let end = self.buffer.end();
        let cycles = self.buffer.range(end - (8.0 * self.tracker.half()) as i64 - 1, end);
        let rising = cycles.windows(2).position(|pair| pair[0] <= 0.0 && pair[1] > 0.0).unwrap_or(0);
        Live {
            samples: &cycles[rising..],
            rate: self.clock.rate(),
            urms: self.urms,
            window: (self.window.duration_s > 0.0).then_some(&self.window),
        }
    }

    fn acquisition_samples(&self) -> i64 {
        (ACQUISITION_CYCLES * self.config.rate / self.config.nominal_frequency.hertz()) as i64
    }

    fn advance(&mut self, out: &mut dyn FnMut(Measurement<'_>)) {
        if let Some(needed) = self.pending_start {
            if self.buffer.end() < needed {
                return;
            }
            self.start(needed);
        }
        while self.tracker.next() + (MARGIN as f64) < self.buffer.end() as f64 {
            self.step(false, out);
        }
    }

    /// Finds the phase in the samples up to `to` and begins with the first sample of the stretch.
    fn start(&mut self, to: i64) {
        self.pending_start = None;
        let from = self.stretch;
        self.tracker.start(&self.buffer, from, to);
        // Before the first sample goes a copy of the first cycle.
        let period = 2.0 * self.tracker.half();
        self.buffer.fill_history(from, |data, first, number| {
            let ahead = libm::ceil((from - number) as f64 / period) * period;
            interpolate(data, first, number as f64 + ahead)
        });
        self.intervals.start(from as f64, &self.clock);
        self.frequency.start(from as f64, &self.clock);
        let adapted = libm::sqrt(mean_square(&self.buffer, from as f64, (to - MARGIN) as f64));
        self.flicker.start(&self.buffer, from, period, adapted);
        self.flicker_tick = self.clock.tick_number(from as f64) + 1;
        self.pst = None;
    }

    /// Completes the stretch of input in progress up to its last sample.
    fn finish_stretch(&mut self, out: &mut dyn FnMut(Measurement<'_>)) {
        let end = self.buffer.end();
        if self.pending_start.is_some() {
            if end <= self.stretch {
                return;
            }
            self.start(end);
        }
        self.advance(out);
        self.sense(end as f64 + 0.5);
        self.pad(end);
        while self.tracker.next() <= end as f64 + 0.5 {
            self.step(true, out);
        }
        self.windows(end as f64 + 0.5, true, out);
        self.ten_seconds(end as f64, true, out);
        self.partial_window(end as f64, out);
        if let Some(closed) = self.intervals.close_at_end(end as f64, &self.clock, out) {
            self.severities(&closed, out);
        }
    }

    /// Continues the waveform beyond the end of the input by a periodic copy.
    fn pad(&mut self, end: i64) {
        let period = 2.0 * self.tracker.half();
        for number in end..end + PADDING {
            let back = libm::ceil((number - end + 2) as f64 / period) * period;
            let value = self.buffer.interpolate(number as f64 - back);
            self.buffer.append_one(value);
        }
    }

    /// One half cycle.
    fn step(&mut self, last: bool, out: &mut dyn FnMut(Measurement<'_>)) {
        let (start, end) = (self.tracker.boundary(), self.tracker.next());
        let half = half_cycle(&self.buffer, start, end);
        let bridged =
            self.missing.is_some_and(|(from, to)| from < end + 2.0 && to > start - (end - start) - 2.0);
        let cycle = self.tracker.advance(half, !bridged);
        if let Some(mut cycle) = cycle {
            if self.tracker.irregular(cycle.start, cycle.end) {
                // After a jump of phase the cycle that ends here is still one period long.
                cycle.start = cycle.end - 2.0 * self.tracker.half();
                cycle.rms = libm::sqrt(mean_square(&self.buffer, cycle.start, cycle.end));
            }
            self.urms = cycle.rms;
            if let Some(recorder) = &mut self.recorder {
                recorder.cycle(cycle);
            }
            if !bridged {
                self.cycle(cycle, out);
            }
        }
        if self.tracker.lost() {
            self.tracker.reacquire(&self.buffer);
        }
        self.flicker.adapt(libm::sqrt(half.square / (end - start)), end - start);
        if let Some(cycle) = cycle {
            self.flicker.couple(cycle.mean, end - start);
        }
        self.sense(end);
        self.windows(end, last, out);
        self.ten_seconds(end, last, out);
        if let Some(recorder) = &mut self.recorder {
            recorder.advance(end, false, &self.clock, out);
        }
        let needed = self.intervals.oldest().min(self.tracker.boundary() - 12.0 * self.tracker.half());
        self.buffer.release(libm::floor(needed) as i64 - HISTORY as i64);
    }

    fn ten_seconds(&mut self, now: f64, last: bool, out: &mut dyn FnMut(Measurement<'_>)) {
        if let Some(ten) = self.frequency.advance(&self.tracker, now, &self.clock, last) {
            out(Measurement::Frequency(Frequency {
                start_s: self.clock.seconds(ten.start),
                frequency: ten.frequency,
                flagged: self.disturbances.touch(ten.start, ten.end),
            }));
        }
    }

    /// Feeds the flickermeter up to `end`, in two parts when a tick lies before it.
    fn sense(&mut self, end: f64) {
        let tick = self.clock.tick_position(self.flicker_tick);
        if tick <= end {
            self.flicker.advance(&self.buffer, tick);
            self.pst = self.flicker.close();
            self.flicker_tick += 1;
        }
        self.flicker.advance(&self.buffer, end);
    }

    fn cycle(&mut self, cycle: Cycle, out: &mut dyn FnMut(Measurement<'_>)) {
        let (clock, disturbances, recorder) = (&self.clock, &mut self.disturbances, &mut self.recorder);
        self.events.cycle(cycle, |change| match change {
            Change::Began(event) => {
                disturbances.began(event.kind, event.start);
                if let Some(recorder) = recorder {
                    recorder.trigger(event.kind, event.start);
                }
                out(Measurement::EventStart(event_result(clock, &event, true)));
            }
            Change::Ended(event) => {
                disturbances.ended(event.kind, event.end);
                out(Measurement::Event(event_result(clock, &event, false)));
            }
        });
        let nominal = self.config.nominal_voltage;
        let threshold = self.config.thresholds.rvc / 100.0 * nominal;
        let disturbed = self.events.open().next().is_some();
        if let Some(change) = self.rapid.cycle(cycle, threshold, disturbed) {
            out(Measurement::Rvc(Rvc {
                start_s: self.clock.seconds(change.start),
                end_s: self.clock.seconds(change.end),
                du_max_percent: 100.0 * change.du_max / nominal,
                du_ss_percent: 100.0 * change.du_ss / nominal,
            }));
        }
    }

    /// Measures the windows that end by `now`.
    fn windows(&mut self, now: f64, last: bool, out: &mut dyn FnMut(Measurement<'_>)) {
        while let Some(span) = self.intervals.next(&self.tracker, &self.clock, now, last) {
            let window = self.measure(&span);
            if span.reported() {
                self.window = window;
                out(Measurement::Window(&self.window));
                if !window.flagged {
                    self.events.window(window.voltage);
                }
                self.harmonic_events.window(&window, |change| {
                    out(match change {
                        HarmonicChange::Began(episode) => {
                            Measurement::EventStart(harmonic_result(&episode, true))
                        }
                        HarmonicChange::Ended(episode) => {
                            Measurement::Event(harmonic_result(&episode, false))
                        }
                    });
                });
            }
            if let Some(closed) = self.intervals.take(&span, &window, &self.tracker, &self.clock, out) {
                self.severities(&closed, out);
            }
        }
    }

    /// Hands out Pst, and Plt at the end of two hours.
    fn severities(&mut self, closed: &Closed, out: &mut dyn FnMut(Measurement<'_>)) {
        let start_s = self.clock.seconds(closed.start);
        if let Some(value) = self.pst.take().filter(|_| closed.whole) {
            let flagged = self.disturbances.touch(closed.start, closed.end);
            self.flicker.add(value, flagged);
            out(Measurement::Flicker(Flicker { kind: FlickerKind::Pst, start_s, value, flagged }));
        }
        if closed.two_hours {
            let start_s = self.clock.seconds(closed.end) - 7_200.0;
            if let Some((value, flagged)) = self.flicker.close_two_hours() {
                out(Measurement::Flicker(Flicker { kind: FlickerKind::Plt, start_s, value, flagged }));
            }
        }
    }

    fn measure(&mut self, span: &Span) -> Window {
        let (start_s, end_s) = (self.clock.seconds(span.start), self.clock.seconds(span.end));
        let cycles = self.config.nominal_frequency.cycles() as f64;
        let seen = self.tracker.seen(span.from, span.to);
        let lines = self.spectrum.analyze(&self.buffer, span.start, span.end);
        let clipped = self.clipped(span.start, span.end);
        if clipped > 0 {
            self.disturbances.span(span.start, span.end);
        }
        Window {
            start_s,
            duration_s: end_s - start_s,
            voltage: libm::sqrt(mean_square(&self.buffer, span.start, span.end)),
            frequency: seen.then(|| cycles / (end_s - start_s)),
            fundamental: lines.map(|lines| lines.fundamental),
            harmonics: lines.map(|lines| lines.harmonics),
            interharmonics: lines.map(|lines| lines.interharmonics),
            thd: lines.and_then(|lines| lines.thd),
            signalling: lines.and_then(|lines| lines.signalling),
            pinst_max: self.flicker.highest(span.start, span.end),
            flagged: self.disturbances.touch(span.start, span.end),
            clipped,
            overlap: span.overlap,
            ..Window::default()
        }
    }

    /// Samples at the limits of the converter.
    fn clipped(&self, start: f64, end: f64) -> u32 {
        let Some((low, high)) = self.config.converter_limits else { return 0 };
        let samples = self.buffer.range(libm::ceil(start) as i64, libm::ceil(end) as i64);
        samples.iter().map(|&u| u32::from(u <= low) | u32::from(u >= high)).sum()
    }

    /// Reports the whole cycles of a window that the end of the input cuts short. Input that never filled a window
    /// has none.
    fn partial_window(&mut self, end: f64, out: &mut dyn FnMut(Measurement<'_>)) {
        if self.window == Window::default() {
            return;
        }
        let start = self.intervals.current_start();
        let (Some(from), Some(to)) = (self.tracker.phase(start, true), self.tracker.phase(end + 0.5, true))
        else {
            return;
        };
        let cycles = libm::floor((to - from) / 2.0);
        if cycles < 1.0 {
            return;
        }
        let to = from + 2.0 * cycles;
        let Some(end) = self.tracker.position(to, true) else { return };
        let (start_s, end_s) = (self.clock.seconds(start), self.clock.seconds(end));
        self.window = Window {
            start_s,
            duration_s: end_s - start_s,
            voltage: libm::sqrt(mean_square(&self.buffer, start, end)),
            frequency: self.tracker.seen(from, to).then(|| cycles / (end_s - start_s)),
            flagged: self.disturbances.touch(start, end),
            clipped: self.clipped(start, end),
            partial: true,
            ..Window::default()
        };
        out(Measurement::Window(&self.window));
    }
}

fn harmonic_result(episode: &Episode, open: bool) -> Event {
    Event {
        kind: EventKind::Harmonic,
        start_s: episode.start_s,
        end_s: (!open).then_some(episode.end_s),
        duration_s: episode.end_s - episode.start_s,
        extreme_voltage: None,
        extreme_percent: None,
        class: None,
        open,
        harmonic: Some(episode.detail),
    }
}

fn event_result(clock: &Clock, event: &VoltageEvent, open: bool) -> Event {
    let (start_s, end_s) = (clock.seconds(event.start), clock.seconds(event.end));
    let duration_s = end_s - start_s;
    Event {
        kind: event.kind,
        start_s,
        end_s: (!open).then_some(end_s),
        duration_s,
        extreme_voltage: Some(event.extreme),
        extreme_percent: Some(event.percent),
        class: event.cell(duration_s),
        open,
        harmonic: None,
    }
}
