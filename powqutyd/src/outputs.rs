// SPDX-License-Identifier: Apache-2.0
//! Where results go: logs, alerts, telemetry, subscribers, and the memory behind `status`, `events` and `trend`.

use crate::clock::reference::STEP_S;
use crate::clock::{Clock, Utc};
use crate::config::{Config, Device, Position, Telemetry};
use crate::homeassistant;
use crate::lights::{self, LightRow};
use crate::notify::{self, Judge, Teller};
use crate::outage::LastSeen;
use crate::printer::Printer;
use crate::record::{EventRecord, Incident};
use crate::records::collect::Collector;
use crate::records::{file, Header, Record, Stamped};
use crate::second::{Second, Seconds};
use crate::storage::waveforms::{self, Encoded, Nominal};
use crate::storage::{self, Log, Storage};
use crate::telemetry::{Message, PackageCounter};
use crate::trend::Trend;
use openwrt::service::Events;
use openwrt::timezone::Zone;
use power_quality::{EventKind, FlickerKind, Measurement};
use std::collections::VecDeque;

/// Events kept in memory.
const RECENT: usize = 500;

/// Seconds of signal after which a clock that nobody synchronises is believed.
const SETTLED_S: f64 = 300.0;

/// Everything behind the analysis.
pub struct Outputs {
    device: Device,
    nominal: Nominal,
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
    judge: Judge,
    collector: Collector,
    /// What the collector is for; a week of values survives anything but a change of it.
    collected_for: (power_quality::Config, f64),
    /// Something was collected that may change a light.
    lights_due: bool,
    /// How far the records of the run before reach, until it is known what came after them.
    last_seen: Option<LastSeen>,
    /// Seconds of signal since the start of the daemon.
    signal_s: f64,
    /// Week of the last summary that was sent.
    pub summarised: Option<Utc>,
    /// The traffic light of each characteristic over the last week.
    pub lights: Vec<LightRow>,
    /// The last values of each kind.
    pub values: Values,
    /// The recent past for graphs.
    pub trend: Trend,
    /// Finished events and outages, oldest first.
    pub recent: VecDeque<Incident>,
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
    /// Nothing measured yet; events of an earlier run are read back.
    #[must_use]
    pub fn new(config: &Config, sinks: Sinks) -> Self {
        let Sinks { storage, alerts, broker, subscribers } = sinks;
        let restored = Restored::read(config);
        let mut this = Self {
            device: config.device.clone(),
            nominal: nominal(config),
            telemetry: config.telemetry.clone(),
            storage,
            alerts,
            broker,
            subscribers,
            printer: None,
            seconds: Seconds::default(),
            package: PackageCounter::default(),
            telemetry_due: 0.0,
            judge: Judge::default(),
            collector: restored.collector,
            collected_for: basis(config),
            lights_due: true,
            last_seen: Some(restored.last_seen),
            summarised: restored.summarised,
            signal_s: 0.0,
            lights: Vec::new(),
            values: Values::default(),
            trend: Trend::default(),
            recent: restored.recent,
            open: Vec::new(),
            counts: [0; 4],
        };
        this.set_printer();
        this.refresh_lights();
        this.introduce();
        this
    }

    /// The device is here.
    pub fn moved(&mut self, position: Position) {
        self.device.position = position;
    }

    /// Judges the time before the start, once the clock can be relied on.
    fn look_back(&mut self, utc: Utc, clock: &Clock) {
        let settled = clock.reference().is_synchronised() || self.signal_s >= SETTLED_S;
        if self.last_seen.is_none() || !clock.plausible() || !settled {
            return;
        }
        let first_sample = utc.plus_seconds(-self.signal_s);
        if let Some(outage) = self.last_seen.take().and_then(|last| last.outage(first_sample, boot())) {
            self.outage(outage);
        }
    }

    /// The monitor was off: recorded, counted, told to everybody.
    fn outage(&mut self, record: Stamped) {
        let Record::Outage(outage) = record.record else { return };
        let start = Utc::from_millis(record.time_ms);
        log::warn!("{} since {}", notify::outage_subject(&outage), start.rfc3339());
        let _id = self.alerts.raise(self.teller(&Zone::system()).outage(start, &outage));
        self.collector.replay(&record);
        self.lights_due = true;
        self.storage.record(record);
        self.tell(Incident::Outage(start, outage));
    }

    fn teller<'a>(&'a self, zone: &'a Zone) -> Teller<'a> {
        Teller { device: &self.device, zone }
    }

    /// Log, subscribers, the list of events.
    fn tell(&mut self, incident: Incident) {
        self.storage.write(Log::Events, storage::events::line(&incident, &self.device, Utc::now()));
        self.subscribers.emit("powquty.event", incident.to_json());
        remember(&mut self.recent, incident);
    }

    /// Hands an alert to the sinks and gives its id.
    #[must_use]
    pub fn raise(&self, alert: alerts::Alert) -> String {
        self.alerts.raise(alert)
    }

    /// The summary of the week that began at `start` was handed to the sinks, or there is none.
    pub fn summarised(&mut self, start: Utc, sent: bool) {
        self.summarised = Some(start);
        if sent {
            self.storage.record(Stamped { time_ms: start.millis(), record: Record::SummarySent });
        }
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
        self.flush_records();
    }

    /// Goes on with another configuration.
    pub fn reconfigure(&mut self, config: &Config) {
        self.flush_records();
        self.storage.reconfigure(config.logs.clone(), Header::of(config));
        self.device = config.device.clone();
        self.nominal = nominal(config);
        self.telemetry = config.telemetry.clone();
        self.set_printer();
        self.introduce();
        let basis = basis(config);
        if basis != self.collected_for {
            self.collector = Restored::read(config).collector;
            self.collected_for = basis;
            self.lights_due = true;
        }
    }

    /// What `status` says about the logs.
    #[must_use]
    pub fn storage_status(&self) -> serde_json::Value {
        self.storage.status()
    }

    /// The daemon stops in good order; gives the storage thread back to be stopped.
    #[must_use]
    pub fn finish(mut self) -> Storage {
        self.flush_records();
        self.storage.record(Stamped { time_ms: Utc::now().millis(), record: Record::Stop });
        self.storage
    }

    /// Takes one result of the analysis.
    pub fn take(&mut self, measurement: &Measurement<'_>, clock: &Clock) {
        // A router that does not know the time yet has no place for records. Those of events bear the id they were
        // announced with.
        if clock.plausible() && !matches!(measurement, Measurement::Event(_)) {
            let Self { collector, storage, lights_due, .. } = self;
            collector.take(measurement, |seconds| clock.utc(seconds), &mut |record| {
                *lights_due = true;
                storage.record(record);
            });
        }
        match measurement {
            Measurement::Window(window) => {
                if let Some(second) = self.seconds.push(window) {
                    self.second(&second, clock);
                }
            }
            Measurement::EventStart(event) => self.open.push(EventRecord::new(event, clock)),
            Measurement::Event(event) => self.event(EventRecord::new(event, clock), clock.plausible()),
            Measurement::Flicker(flicker) => {
                let value = match flicker.kind {
                    FlickerKind::Pst => &mut self.values.pst,
                    FlickerKind::Plt => &mut self.values.plt,
                };
                *value = Some(flicker.value);
            }
            Measurement::Waveform(waveform) => {
                let encoded = Encoded::new(waveform, self.nominal, |seconds| clock.utc(seconds));
                encoded.into_iter().for_each(|encoded| self.storage.waveform(encoded));
            }
            Measurement::Frequency(_)
            | Measurement::Aggregate(_)
            | Measurement::Rvc(_)
            | Measurement::Gap(_) => {}
        }
    }

    /// The waveforms on disk.
    #[must_use]
    pub fn waveforms(&self) -> waveforms::Index {
        self.storage.waveforms()
    }

    /// Judges the week anew where something new is to be judged, and tells subscribers of each light that has
    /// changed. Costs some milliseconds, so it is not done for each event of a burst.
    pub fn refresh_lights(&mut self) {
        if !std::mem::take(&mut self.lights_due) {
            return;
        }
        let rows = lights::rows(&self.collector.verdict(), self.collector.last());
        for row in lights::changes(&self.lights, &rows) {
            // Numbers and strings have no way to fail.
            self.subscribers.emit("powquty.light", serde_json::to_value(row).unwrap_or_default());
        }
        self.lights = rows;
        self.publish_lights();
    }

    /// Tells Home Assistant what there is, where it is wanted.
    fn introduce(&self) {
        let Some(topic) = self.telemetry.topic.as_ref().filter(|_| self.telemetry.homeassistant) else {
            return;
        };
        let t5060 = self.telemetry.content.t5060;
        for (topic, description) in homeassistant::descriptions(topic, &self.device, t5060) {
            // Retained, and told to each new broker; more than fit are no use to anybody.
            let _ = self.broker.announce(&topic, description);
        }
        self.publish_lights();
    }

    fn publish_lights(&self) {
        let Some(topic) = self.telemetry.topic.as_ref().filter(|_| self.telemetry.homeassistant) else {
            return;
        };
        let _ = self.broker.announce(&homeassistant::lights_topic(topic), homeassistant::state(&self.lights));
    }

    fn flush_records(&mut self) {
        let Self { collector, storage, .. } = self;
        collector.flush(&mut |record| storage.record(record));
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
        self.signal_s += second.end_s - second.start_s;
        self.look_back(utc, clock);
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

    fn event(&mut self, event: EventRecord, recorded: bool) {
        let event = self.closed(event);
        if event.open {
            // The input ended in the middle of it; the next start knows nothing of it.
            log::warn!("{} when the input ended", notify::subject(&event));
        }
        log::info!("{} at {}", notify::subject(&event), event.start.rfc3339());
        if recorded {
            self.storage.record(self.collector.event(event.clone()));
            self.lights_due = true;
        }
        if self.judge.stands_alone(&event) {
            let count = &mut self.counts[event.kind as usize];
            *count = count.saturating_add(1);
            let row = self.collector.row(event.characteristic());
            let row = row.map(|row| LightRow::new(&row, self.collector.last()));
            let _id = self.alerts.raise(self.teller(&Zone::system()).event(&event, row.as_ref()));
        }
        self.tell(Incident::Event(event));
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

/// Thresholds decide what an event is, not how the week is judged.
fn basis(config: &Config) -> (power_quality::Config, f64) {
    let thresholds = power_quality::Thresholds::default();
    let engine = power_quality::Config { thresholds, rate: 0.0, recording: None, ..config.engine() };
    (engine, config.grid.event_time_share)
}

fn nominal(config: &Config) -> Nominal {
    let grid = &config.grid;
    Nominal { voltage: grid.nominal_voltage, frequency: grid.nominal_frequency.hertz() }
}

/// When the router started.
fn boot() -> Utc {
    Utc::now().plus_seconds(-(rustix::system::sysinfo().uptime as f64))
}

/// What the record file knows of earlier runs.
struct Restored {
    collector: Collector,
    last_seen: LastSeen,
    summarised: Option<Utc>,
    recent: VecDeque<Incident>,
}

impl Restored {
    fn read(config: &Config) -> Self {
        let collector = Collector::new(&config.engine(), config.grid.event_time_share);
        let (last_seen, recent) = (LastSeen::default(), VecDeque::new());
        let mut this = Self { collector, last_seen, summarised: None, recent };
        let path = &config.logs.record_path;
        let header = Header::of(config);
        let mut same_supply = true;
        // Older records than the newest week fall out by themselves.
        for record in file::read(path).into_iter().flatten() {
            match record {
                Ok(Stamped { record: Record::Header(other), .. }) => same_supply = other.same_supply(&header),
                Ok(record) => {
                    this.last_seen.take(&record);
                    let at = Utc::from_millis(record.time_ms);
                    match &record.record {
                        Record::SummarySent => this.summarised = Some(at).max(this.summarised),
                        Record::Event(event) => remember(&mut this.recent, Incident::Event(event.clone())),
                        Record::Outage(outage) => remember(&mut this.recent, Incident::Outage(at, *outage)),
                        _ => {}
                    }
                    if same_supply {
                        this.collector.replay(&record);
                    }
                }
                Err(error) => {
                    log::warn!("{}: cannot read on: {error}", path.display());
                    break;
                }
            }
        }
        if this.recent.is_empty() {
            // Of an earlier version, or of records that are lost: less is known of each.
            let path = &config.logs.event_path;
            this.recent = storage::events::read_back(path, config.grid.nominal_voltage, RECENT);
        }
        this
    }
}

/// Adds to the list in the order of time; the oldest falls out when there are too many.
fn remember(recent: &mut VecDeque<Incident>, incident: Incident) {
    if recent.len() == RECENT {
        recent.pop_front();
    }
    let place = recent.iter().rposition(|known| known.start() <= incident.start()).map_or(0, |at| at + 1);
    recent.insert(place, incident);
}

/// Names of [`Outputs::counts`].
pub const KINDS: [EventKind; 4] =
    [EventKind::Dip, EventKind::Swell, EventKind::Interruption, EventKind::Harmonic];
