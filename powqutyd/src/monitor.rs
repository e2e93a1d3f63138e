// SPDX-License-Identifier: Apache-2.0
//! From frames to everything that leaves the daemon: analysis, clock and fan-out.
//!
//! Nothing in here waits: disks, brokers and web hooks have queues of their own.

use crate::clock::reference::Reading;
use crate::clock::{kernel, Clock, Coming};
use crate::config::{Config, Position};
use crate::gps::Look;
use crate::outputs::Outputs;
use crate::source::decode::Scaling;
use crate::source::device::{LineFaults, Phase, Report};
use crate::source::{Frame, InputKind};
use crate::taps::Taps;
use power_quality::{Analyzer, ConfigError, EventKind, Measurement};
use std::time::Duration;

/// What the end of a raw recording may take when another one is configured.
const RAW_END: Duration = Duration::from_millis(500);

/// Measures what the source delivers.
pub struct Monitor {
    /// The configuration in force.
    pub config: Config,
    /// Sample counter and UTC.
    pub clock: Clock,
    /// What came of the measurement.
    pub outputs: Outputs,
    /// What came of the source.
    pub source: SourceState,
    /// What the GPS receiver says, where there is one.
    pub gps: Option<Look>,
    /// Who else sees the samples.
    pub taps: Taps,
    analyzer: Analyzer,
    /// Samples were analysed since the last flush.
    unfinished: bool,
}

/// What the daemon knows of its source.
#[derive(Debug, Clone, Default)]
pub struct SourceState {
    /// One of the words of `status`.
    pub phase: SourcePhase,
    /// Why it does not run.
    pub reason: Option<String>,
    /// Frames analysed since the start of the daemon.
    pub frames: u64,
    /// Samples analysed since the start of the daemon.
    pub samples: u64,
    /// Frames that were read but found the analysis too far behind.
    pub lost_frames: u64,
    /// Samples known to be missing, those of lost frames included.
    pub missing_samples: u64,
    /// How often the input broke.
    pub failures: u32,
    /// Where the device is or was last.
    pub device: Option<String>,
    /// How often the device began to send samples.
    pub starts: u32,
    /// Faults of the device's line.
    pub line: LineFaults,
    /// What the device said of its converter.
    pub calibration: Option<Scaling>,
}

/// What the source is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SourcePhase {
    /// Not opened yet.
    #[default]
    Starting,
    /// Samples arrive.
    Running,
    /// There is no device; it is looked for.
    Absent,
    /// The device is there and sends nothing.
    Silent,
    /// The recording is at its end.
    Ended,
    /// It cannot be opened or read; it is tried again where that may help.
    Failed,
    /// `enabled` is off, or there is no configuration.
    Off,
}

impl SourcePhase {
    /// The word in `status`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Absent => "absent",
            Self::Silent => "silent",
            Self::Ended => "ended",
            Self::Failed => "failed",
            Self::Off => "off",
        }
    }
}

fn changes_the_voltage(measurement: &Measurement<'_>) -> bool {
    match measurement {
        Measurement::EventStart(event) | Measurement::Event(event) => event.kind != EventKind::Harmonic,
        _ => false,
    }
}

/// What a new configuration asks of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceChange {
    /// It goes on.
    Keep,
    /// It is to be opened anew.
    Restart,
}

impl Monitor {
    /// Ready for the first frame.
    ///
    /// # Errors
    /// The engine cannot work with this configuration.
    pub fn new(config: Config, outputs: Outputs) -> Result<Self, ConfigError> {
        let analyzer = Analyzer::new(config.engine())?;
        let mut clock = Clock::new(config.input.rate, config.input.has_own_clock());
        clock.read(&kernel::read(), None);
        let mut taps = Taps::default();
        taps.configure(config.raw.as_ref(), RAW_END);
        Ok(Self {
            config,
            clock,
            outputs,
            source: SourceState::default(),
            gps: None,
            taps,
            analyzer,
            unfinished: false,
        })
    }

    /// Analyses a frame and what is missing before it.
    pub fn take(&mut self, frame: &Frame) {
        self.source.phase = SourcePhase::Running;
        self.source.reason = None;
        self.source.lost_frames += u64::from(frame.lost_before);
        let volts = frame.volts();
        let gap = self.clock.advance(Coming {
            position: frame.position,
            count: volts.len() as u64,
            broken: frame.break_before,
            arrival: frame.arrival,
        });
        self.follow_clock();
        self.missing(gap);
        let (clock, outputs) = (&self.clock, &mut self.outputs);
        let mut event = false;
        self.analyzer.push(volts, &mut |measurement| {
            event |= changes_the_voltage(&measurement);
            outputs.take(&measurement, clock);
        });
        event |= outputs.open.iter().any(|open| open.kind != EventKind::Harmonic);
        let scaling = self.scaling();
        self.taps.take(frame, &self.clock, self.config.input.rate, scaling, event);
        self.unfinished = true;
        self.source.frames += 1;
        self.source.samples += volts.len() as u64;
    }

    /// The input has ended at this position: events that are open are kept as open.
    pub fn end(&mut self, at: u64) {
        let gap = self.clock.advance(Coming { position: at, count: 0, broken: false, arrival: None });
        self.missing(gap);
        self.source.phase = SourcePhase::Ended;
        self.flush();
    }

    /// The input broke.
    pub fn fail(&mut self, reason: String) {
        log::error!("input {}: {reason}", self.config.input.kind.name());
        self.source.phase = SourcePhase::Failed;
        self.source.reason = Some(reason);
        self.source.failures += 1;
        self.flush();
    }

    /// The daemon stops: what is open is kept as open.
    pub fn stop(&mut self) {
        self.flush();
        self.taps.stop(RAW_END);
    }

    /// A source starts after another one: time and analysis begin anew.
    pub fn restart_analysis(&mut self) {
        if self.clock.samples() == 0 {
            return;
        }
        match Analyzer::new(self.config.engine()) {
            Ok(analyzer) => self.analyzer = analyzer,
            Err(error) => log::error!("the analysis cannot start anew: {error}"),
        }
        self.clock = self.clock.renewed(self.config.input.rate, self.config.input.has_own_clock());
        self.taps.cut();
        self.outputs.interrupted();
    }

    /// Goes on with another configuration; an event that is open stays open unless the input or the
    /// declared supply changed.
    ///
    /// # Errors
    /// The engine cannot work with it; the configuration in force stays.
    pub fn apply(&mut self, config: Config) -> Result<SourceChange, ConfigError> {
        let engine = config.engine();
        let before = self.config.engine();
        let same_input = config.input == self.config.input && config.enabled == self.config.enabled;
        let same_supply = power_quality::Config { thresholds: before.thresholds, ..engine } == before;
        let fresh = Analyzer::new(engine)?;
        if same_input && same_supply {
            self.analyzer.set_thresholds(engine.thresholds)?;
        } else {
            self.flush();
            self.analyzer = fresh;
            self.clock = self.clock.renewed(config.input.rate, config.input.has_own_clock());
            self.taps.cut();
            self.outputs.interrupted();
        }
        self.taps.configure(config.raw.as_ref(), RAW_END);
        self.outputs.reconfigure(&config);
        self.config = config;
        Ok(if same_input && same_supply { SourceChange::Keep } else { SourceChange::Restart })
    }

    /// Follows the clocks of the system; about once a second.
    pub fn tick(&mut self, reading: &Reading, gps: Option<Look>) {
        self.gps = gps;
        self.outputs.moved(self.position());
        if let Some(step) = self.clock.read(reading, self.gps.as_ref().and_then(|look| look.time)) {
            log::warn!("the {} clock has moved by {step:+.3} s", self.clock.reference().source().name());
            self.outputs.clock_stepped();
        }
        self.follow_clock();
    }

    /// Where the device is: by GPS while it has a fix, else as configured.
    #[must_use]
    pub fn position(&self) -> Position {
        let Some(fix) = self.gps.as_ref().and_then(|look| look.fix) else {
            return self.config.device.position;
        };
        Position {
            latitude: Some(fix.latitude),
            longitude: Some(fix.longitude),
            altitude: fix.altitude,
            accuracy: fix.accuracy,
        }
    }

    /// Takes over what the device says of itself.
    pub fn heed(&mut self, report: Report) {
        let phase = match report.phase {
            Phase::Absent => SourcePhase::Absent,
            Phase::Starting => SourcePhase::Starting,
            Phase::Running => SourcePhase::Running,
            Phase::Silent => SourcePhase::Silent,
        };
        if report.faults != self.source.line {
            log::debug!("input {}: {:?}", self.config.input.kind.name(), report.faults);
        }
        self.source = SourceState {
            phase,
            reason: report.reason,
            device: report.device,
            starts: report.starts,
            line: report.faults,
            calibration: report.calibration.map(|(offset, scale)| Scaling { scale, offset }),
            ..self.source
        };
    }

    /// How the converter's steps become volts, where it has steps.
    fn scaling(&self) -> Option<Scaling> {
        match &self.config.input.kind {
            InputKind::Wesense { .. } => self.source.calibration,
            other => other.steps(),
        }
    }

    /// What the engine shows of the last cycles.
    pub fn live(&self) -> power_quality::Live<'_> {
        self.analyzer.live()
    }

    fn follow_clock(&mut self) {
        if let Some(map) = self.clock.moved() {
            self.analyzer.set_time(map);
        }
    }

    fn missing(&mut self, samples: u64) {
        if samples > 0 {
            self.source.missing_samples += samples;
            let (clock, outputs) = (&self.clock, &mut self.outputs);
            self.analyzer.gap(samples, &mut |measurement| outputs.take(&measurement, clock));
        }
    }

    /// Results that need the end of the input; once for each stretch of signal.
    fn flush(&mut self) {
        if !std::mem::take(&mut self.unfinished) {
            return;
        }
        let (clock, outputs) = (&self.clock, &mut self.outputs);
        self.analyzer.finish(&mut |measurement| outputs.take(&measurement, clock));
    }
}
