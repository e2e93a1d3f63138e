// SPDX-License-Identifier: Apache-2.0
//! Where results go: logs, alerts, telemetry, subscribers, and the memory behind `status`, `events` and `trend`.

use crate::clock::reference::STEP_S;
use crate::clock::{Clock, Utc};
use crate::config::{Config, Device, Position, Telemetry};
use crate::notify::{self, Judge};
use crate::printer::Printer;
use crate::record::{rounded, EventRecord};
use crate::second::{Second, Seconds};
use crate::storage::{self, Log, Storage};
use crate::telemetry::{Message, PackageCounter};
use crate::trend::Trend;
use openwrt::service::Events;
use power_quality::compliance::{Account, Light, Row};
use power_quality::{EventKind, FlickerKind, Interval, Measurement};
use std::collections::VecDeque;

/// Events kept in memory.
const RECENT: usize = 500;

/// Everything behind the analysis.
pub struct Outputs {
    device: Device,
    telemetry: Telemetry,
    storage: Storage,
    alerts: alerts::AlertHandle,
    broker: alerts::Telemetry,
    subscribers: Events,
    printer: Option<Printer>,
    seconds: Seconds,
    package: PackageCounter,
    /// Second of signal at which the next telemetry is due.
    telemetry_due: f64,
    /// UTC of the first sample (s), 0 before it.
    origin: f64,
    judge: Judge,
    account: Account,
    /// What the account is kept for; a week of values survives anything but a change of it.
    account_for: (power_quality::Config, f64),
    /// The traffic light of each characteristic over the last week.
    pub lights: Vec<Row>,
    /// The last values of each kind.
    pub values: Values,
    /// The recent past for graphs.
    pub trend: Trend,
    /// Finished events, oldest first.
    pub recent: VecDeque<EventRecord>,
    /// Events that have begun and not ended.
    pub open: Vec<EventRecord>,
    /// Events since the start of the daemon, by [`EventKind`]; an interruption is no dip here.
    pub counts: [u32; 4],
}

/// What `status` calls `values`; `None` until measured.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Values {
    /// RMS voltage of the last second (V).
    pub voltage: Option<f64>,
    /// Frequency of the last second (Hz).
    pub frequency: Option<f64>,
    /// THD of the last second (%).
    pub thd: Option<f64>,
    /// Last short-term flicker severity.
    pub pst: Option<f64>,
    /// Last long-term flicker severity.
    pub plt: Option<f64>,
    /// End of the last second.
    pub at: Option<Utc>,
}

/// The parts of [`Outputs`] that live elsewhere.
pub struct Sinks {
    /// Logs.
    pub storage: Storage,
    /// Event alerts.
    pub alerts: alerts::AlertHandle,
    /// Telemetry.
    pub broker: alerts::Telemetry,
    /// Subscribers of the service.
    pub subscribers: Events,
}

impl Outputs {
    /// Nothing measured yet; events of an earlier run are read back from the event log.
    #[must_use]
    pub fn new(config: &Config, sinks: Sinks) -> Self {
        let nominal = config.grid.nominal_voltage;
        let Sinks { storage, alerts, broker, subscribers } = sinks;
        let mut this = Self {
            device: config.device.clone(),
            telemetry: config.telemetry.clone(),
            storage,
            alerts,
            broker,
            subscribers,
            printer: None,
            seconds: Seconds::default(),
            package: PackageCounter::default(),
            telemetry_due: 0.0,
            origin: 0.0,
            judge: Judge::default(),
            account: Account::new(&config.engine(), config.grid.event_time_share, 0.0),
            account_for: account_basis(config),
            lights: Vec::new(),
            values: Values::default(),
            trend: Trend::default(),
            recent: storage::events::read_back(&config.logs.event_path, nominal, RECENT),
            open: Vec::new(),
            counts: [0; 4],
        };
        this.set_printer();
        this.note_lights();
        this
    }

    /// The clock has been set: what is counted by the calendar has its place.
    pub fn placed(&mut self, clock: &Clock) {
        let origin = clock.origin().unwrap_or_default();
        if origin != self.origin {
            self.origin = origin;
            self.account.set_origin(origin);
        }
    }

    /// The device is here.
    pub fn moved(&mut self, position: Position) {
        self.device.position = position;
    }

    /// UTC has stepped: what is due by it is due anew.
    pub fn clock_stepped(&mut self) {
        self.telemetry_due = f64::NEG_INFINITY;
    }

    /// The signal was cut: what was being collected is void.
    pub fn interrupted(&mut self) {
        self.seconds = Seconds::default();
        self.telemetry_due = f64::NEG_INFINITY;
        self.open.clear();
    }

    /// Goes on with another configuration.
    pub fn reconfigure(&mut self, config: &Config) {
        self.storage.reconfigure(config.logs.clone());
        self.device = config.device.clone();
        self.telemetry = config.telemetry.clone();
        self.set_printer();
        let basis = account_basis(config);
        if basis != self.account_for {
            self.account = Account::new(&config.engine(), config.grid.event_time_share, self.origin);
            self.account_for = basis;
            self.note_lights();
        }
    }

    /// What `status` says about the logs.
    #[must_use]
    pub fn storage_status(&self) -> serde_json::Value {
        self.storage.status()
    }

    /// Gives the storage thread back to be stopped.
    #[must_use]
    pub fn into_storage(self) -> Storage {
        self.storage
    }

    /// Takes one result of the analysis.
    pub fn take(&mut self, measurement: &Measurement<'_>, clock: &Clock) {
        self.account.take(measurement);
        match measurement {
            Measurement::Window(window) => {
                if let Some(second) = self.seconds.push(window) {
                    self.second(&second, clock);
                }
            }
            Measurement::EventStart(event) => self.open.push(EventRecord::new(event, clock)),
            Measurement::Event(event) => {
                self.event(EventRecord::new(event, clock));
                self.note_lights();
            }
            Measurement::Flicker(flicker) => {
                let value = match flicker.kind {
                    FlickerKind::Pst => &mut self.values.pst,
                    FlickerKind::Plt => &mut self.values.plt,
                };
                *value = Some(flicker.value);
                self.note_lights();
            }
            Measurement::Aggregate(aggregate) if aggregate.interval == Interval::TenMinutes => {
                self.note_lights();
            }
            Measurement::Rvc(_) => self.note_lights(),
            Measurement::Frequency(_)
            | Measurement::Aggregate(_)
            | Measurement::Gap(_)
            | Measurement::Waveform(_) => {}
        }
    }

    /// Judges the week anew and tells subscribers of each light that has changed.
    fn note_lights(&mut self) {
        let rows = self.account.verdict().characteristics;
        let before = std::mem::replace(&mut self.lights, rows);
        for row in &self.lights {
            let old = before.iter().find(|old| old.characteristic == row.characteristic);
            if old.map_or(Light::Grey, |old| old.light) != row.light {
                self.subscribers.emit("powquty.light", light_json(row));
            }
        }
    }

    fn second(&mut self, second: &Second, clock: &Clock) {
        let utc = clock.utc(second.end_s);
        self.values = Values {
            voltage: Some(second.voltage),
            frequency: second.frequency,
            thd: second.thd,
            at: Some(utc),
            ..self.values
        };
        self.trend.push(second, utc);
        let monotonic = clock.monotonic(second.end_s);
        let line = storage::measurements::line(second, &self.device.uuid, utc, monotonic);
        self.storage.write(Log::Measurements, line);
        self.publish(second, utc);
    }

    fn publish(&mut self, second: &Second, utc: Utc) {
        if self.telemetry.topic.is_none() && self.printer.is_none() {
            return;
        }
        // A second of 50 cycles is not quite one second; half of one keeps the rhythm.
        if second.end_s + 0.5 < self.telemetry_due {
            return;
        }
        self.telemetry_due = second.end_s + self.telemetry.interval.as_secs_f64();
        let package = self.package.advance();
        let message =
            Message { device: &self.device, content: &self.telemetry.content, package, second, utc }
                .to_json();
        if let Some(printer) = &self.printer {
            printer.print(&message);
        }
        if let Some(topic) = &self.telemetry.topic {
            // A value that is not taken is replaced by the next one.
            let _ = self.broker.publish_latest(topic, message, self.telemetry.retain);
        }
    }

    fn event(&mut self, event: EventRecord) {
        let event = self.closed(event);
        if event.open {
            // The input ended in the middle of it; the next start knows nothing of it.
            log::warn!("{} when the input ended", notify::subject(&event));
        }
        log::info!("{} at {}", notify::subject(&event), event.start.rfc3339());
        self.storage.write(Log::Events, storage::events::line(&event, &self.device, Utc::now()));
        self.subscribers.emit("powquty.event", event.to_json());
        if self.judge.stands_alone(&event) {
            let count = &mut self.counts[event.kind as usize];
            *count = count.saturating_add(1);
            let _id = self.alerts.raise(notify::alert(&event, &self.device));
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(event);
    }

    /// Ends the open event of this kind; it keeps the start it was announced with, and so its id, unless UTC has
    /// stepped since.
    fn closed(&mut self, event: EventRecord) -> EventRecord {
        let order = |event: &EventRecord| event.harmonic.map(|harmonic| harmonic.order);
        let same = |open: &EventRecord| open.kind == event.kind && order(open) == order(&event);
        let Some(index) = self.open.iter().position(same) else { return event };
        let start = self.open.remove(index).start;
        if (start.seconds() - event.start.seconds()).abs() < STEP_S {
            EventRecord { start, ..event }
        } else {
            event
        }
    }

    fn set_printer(&mut self) {
        self.printer = match (self.telemetry.print, self.printer.take()) {
            (false, _) => None,
            (true, Some(printer)) => Some(printer),
            (true, None) => Printer::start()
                .inspect_err(|error| log::error!("powqutyd_print: cannot start: {error}"))
                .ok(),
        };
    }
}

/// A row of `lights` and the object of `powquty.light`.
#[must_use]
pub fn light_json(row: &Row) -> serde_json::Value {
    serde_json::json!({
        "characteristic": row.characteristic.to_string(),
        "light": row.light,
        "share": rounded(row.share, 1e4),
        "allowance": row.allowance,
        "limit": row.limit,
        "value": row.value.map(|value| rounded(value, 1e4)),
        "count": row.count,
        "event_time": row.event_time.map(|seconds| rounded(seconds, 1e3)),
    })
}

/// Thresholds decide what an event is, not how the week is judged.
fn account_basis(config: &Config) -> (power_quality::Config, f64) {
    let thresholds = power_quality::Thresholds::default();
    (power_quality::Config { thresholds, ..config.engine() }, config.grid.event_time_share)
}

/// Names of [`Outputs::counts`].
pub const KINDS: [EventKind; 4] =
    [EventKind::Dip, EventKind::Swell, EventKind::Interruption, EventKind::Harmonic];
