// SPDX-License-Identifier: Apache-2.0
//! `powqutyd run`: one thread that measures, answers and reloads; beside it the source and the storage thread.

use crate::clock::{kernel, monotonic, Utc};
use crate::config::{self, Config};
use crate::dump::Dump;
use crate::gps::{self, Gps};
use crate::monitor::{Monitor, SourceChange, SourcePhase, SourceState};
use crate::options::Options;
use crate::outputs::{Outputs, Sinks, Values};
use crate::records::Header;
use crate::source::{self, Delivery, Intake};
use crate::storage::Storage;
use crate::summary::build::of_file;
use crate::summary::week::Week;
use crate::{metrics, service, weekly};
use alerts::Alerts;
use openwrt::cli::Common;
use openwrt::reload::{self, Configuration, Outcome, Signal};
use openwrt::timezone::Zone;
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// A source that cannot be opened or broke is tried again after this.
const RETRY: Duration = Duration::from_secs(5);

/// Metrics are written and a broken source is tried again at this pace.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Frames analysed before the other tasks have their turn.
const BURST: usize = 64;

/// How often it is looked whether a summary is due.
const SUMMARY_CHECK: Duration = Duration::from_secs(60);

/// What may take to end: half of the 2 s that procd grants.
const STOP: Duration = Duration::from_secs(1);

/// What the tasks of the daemon share; never borrowed across an await.
pub struct State {
    /// Configuration in force, and what is wrong with the last one.
    pub configuration: Configuration<Config>,
    /// The measurement; none while unconfigured.
    pub monitor: Option<Monitor>,
    /// Delivery of alerts; none while unconfigured.
    pub alerts: Option<Rc<Alerts>>,
    /// Start of the daemon.
    pub started: Instant,
    /// Asks the main loop for a reload.
    pub reloads: mpsc::Sender<oneshot::Sender<()>>,
}

/// [`State`] as the tasks hold it.
pub type Shared = Rc<RefCell<State>>;

impl State {
    /// The last values; all unknown while nothing is measured.
    #[must_use]
    pub fn values(&self) -> Values {
        self.monitor.as_ref().map(|monitor| monitor.outputs.values).unwrap_or_default()
    }
}

/// Why the daemon cannot run.
#[derive(Debug)]
pub struct StartError {
    what: &'static str,
    error: io::Error,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.error)
    }
}

impl std::error::Error for StartError {}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// The system refuses what no daemon can do without: a runtime, signals, the service socket, threads.
pub fn run(common: &Common, options: &Options) -> Result<(), StartError> {
    let dump = Dump::start(options).map_err(|error| StartError { what: "raw samples", error })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| StartError { what: "runtime", error })?;
    let result = tokio::task::LocalSet::new().block_on(&runtime, Daemon::run(common, options, dump));
    // A name resolver that hangs in a thread of its own is not waited for.
    runtime.shutdown_background();
    result
}

struct Daemon<'a> {
    common: &'a Common,
    options: &'a Options,
    /// What `-r` and `-w` ask for, until there is a measurement.
    dump: Option<Dump>,
    shared: Shared,
    events: openwrt::service::Events,
    intake: Option<Intake>,
    gps: Option<Gps>,
    retry_at: Option<Instant>,
    summary_check_at: Instant,
}

impl<'a> Daemon<'a> {
    async fn run(common: &'a Common, options: &'a Options, dump: Option<Dump>) -> Result<(), StartError> {
        let fails = |what| move |error| StartError { what, error };
        let mut signals = reload::signals().map_err(fails("signals"))?;
        let (reloads, mut reload_requests) = mpsc::channel(4);
        let configuration = Configuration::boot(config::load_for(&common.source, options.file.as_deref()));
        configuration.log();
        let state = State { configuration, monitor: None, alerts: None, started: Instant::now(), reloads };
        let shared = Rc::new(RefCell::new(state));
        let service = service::declare(&shared, &common.run_dir);
        let events = service.events();
        let summary_check_at = Instant::now();
        let mut daemon = Self {
            common,
            options,
            dump,
            shared,
            events,
            intake: None,
            gps: None,
            retry_at: None,
            summary_check_at,
        };
        daemon.configured().map_err(fails("threads"))?;
        let running = service.start(&common.run_dir, &common.ubus).map_err(fails("service"))?;
        log::info!("powqutyd {} is running", env!("CARGO_PKG_VERSION"));
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Signal::Reload => daemon.reload(),
                    Signal::Stop => break,
                },
                Some(done) = reload_requests.recv() => {
                    daemon.reload();
                    // A caller that has gone needs no answer.
                    let _ = done.send(());
                }
                delivery = next_of(&mut daemon.intake) => daemon.deliver(delivery),
                _ = housekeeping.tick() => daemon.housekeeping(),
            }
        }
        log::info!("stopping");
        drop(running);
        daemon.stop().await;
        Ok(())
    }

    /// Builds the measurement once there is a configuration.
    fn configured(&mut self) -> io::Result<()> {
        let mut state = self.shared.borrow_mut();
        let Some(config) = state.configuration.current().cloned() else { return Ok(()) };
        let gps = config.gps.clone();
        let storage = Storage::start(config.logs.clone(), Header::of(&config))?;
        let identity = alerts::Identity {
            daemon: "powqutyd".to_owned(),
            host: config.device.host.clone(),
            device_id: config.device.uuid.clone(),
        };
        let (handle, alerts) = alerts::start(config.alerts.clone(), identity, &self.common.run_dir);
        let sinks =
            Sinks { storage, alerts: handle, broker: alerts.telemetry(), subscribers: self.events.clone() };
        let outputs = Outputs::new(&config, sinks);
        match Monitor::new(config, outputs) {
            Ok(mut monitor) => {
                monitor.taps.dump = self.dump.take();
                state.monitor = Some(monitor);
            }
            Err(error) => log::error!("the analysis cannot work with this configuration: {error}"),
        }
        state.alerts = Some(Rc::new(alerts));
        drop(state);
        self.open_gps(gps);
        self.open_source();
        Ok(())
    }

    /// Listens to the receiver that is configured, or to none.
    fn open_gps(&mut self, settings: Option<gps::Settings>) {
        if self.gps.as_ref().map(|gps| &gps.settings) == settings.as_ref() {
            return;
        }
        self.gps = None;
        let Some(settings) = settings else { return };
        match Gps::start(settings) {
            Ok(gps) => self.gps = Some(gps),
            Err(error) => log::error!("gps: there is no thread to be had: {error}"),
        }
    }

    fn open_source(&mut self) {
        self.intake = None;
        self.retry_at = None;
        let mut state = self.shared.borrow_mut();
        let Some(monitor) = &mut state.monitor else { return };
        if !monitor.config.enabled {
            monitor.source = SourceState { phase: SourcePhase::Off, reason: None, ..monitor.source.clone() };
            return;
        }
        let kind = monitor.config.input.kind.name();
        match source::start(&monitor.config.input) {
            Ok(intake) => {
                log::info!("input {kind}: opened");
                monitor.restart_analysis();
                monitor.source.phase = SourcePhase::Starting;
                monitor.source.reason = None;
                self.intake = Some(intake);
            }
            Err(error) => {
                let reason = error.to_string();
                if monitor.source.reason.as_ref() != Some(&reason) {
                    log::error!("input {kind}: {reason}");
                }
                monitor.source.phase = SourcePhase::Failed;
                monitor.source.reason = Some(reason);
                self.retry_at = Some(Instant::now() + RETRY);
            }
        }
    }

    /// Analyses what has come, up to a burst, so that signals and callers have their turn.
    fn deliver(&mut self, first: Option<Delivery>) {
        let mut state = self.shared.borrow_mut();
        let (Some(monitor), Some(intake)) = (&mut state.monitor, &mut self.intake) else { return };
        let mut over = first.is_none();
        let mut next = first;
        let mut taken = 0;
        while let Some(delivery) = next {
            match delivery {
                Delivery::Frame(frame) => {
                    monitor.take(&frame);
                    intake.recycle(frame);
                }
                Delivery::Ended { at } => {
                    log::info!("input {}: its end is reached", monitor.config.input.kind.name());
                    monitor.end(at);
                    over = true;
                }
                Delivery::Failed(reason) => {
                    monitor.fail(reason);
                    over = true;
                }
            }
            taken += 1;
            next = if over || taken == BURST { None } else { intake.try_next() };
        }
        drop(state);
        if over {
            self.intake = None;
        }
    }

    fn reload(&mut self) {
        let read = config::load_for(&self.common.source, self.options.file.as_deref());
        let mut state = self.shared.borrow_mut();
        let outcome = state.configuration.reload(read);
        state.configuration.log();
        if outcome != Outcome::Applied {
            return;
        }
        let Some(config) = state.configuration.current().cloned() else { return };
        if state.monitor.is_none() {
            drop(state);
            if let Err(error) = self.configured() {
                log::error!("cannot start measuring: {error}");
            }
            return;
        }
        if let Some(alerts) = &state.alerts {
            alerts.reconfigure(config.alerts.clone());
        }
        let gps = config.gps.clone();
        let change = state.monitor.as_mut().map(|monitor| monitor.apply(config));
        drop(state);
        self.open_gps(gps);
        match change {
            Some(Ok(SourceChange::Restart)) => {
                log::info!(
                    "configuration: applied; the input or the declared supply changed, measuring anew"
                );
                self.open_source();
            }
            Some(Ok(SourceChange::Keep)) => log::info!("configuration: applied, measuring goes on"),
            Some(Err(error)) => log::error!("configuration: the analysis cannot work with it: {error}"),
            None => {}
        }
    }

    fn housekeeping(&mut self) {
        let report = self.intake.as_ref().and_then(Intake::report);
        if let Some(monitor) = &mut self.shared.borrow_mut().monitor {
            let look = self.gps.as_ref().map(|gps| gps.look(monotonic()));
            monitor.tick(&kernel::read(), look);
            if let Some(report) = report {
                monitor.heed(report);
            }
        }
        if self.retry_at.is_some_and(|at| at <= Instant::now()) {
            self.open_source();
        }
        if let Some(monitor) = &mut self.shared.borrow_mut().monitor {
            monitor.outputs.refresh_lights();
        }
        // Until the clock says something there is nothing to look at, and no minute to be lost.
        let dated = self.shared.borrow().monitor.as_ref().is_some_and(|monitor| monitor.clock.plausible());
        if dated && self.summary_check_at <= Instant::now() {
            self.summary_check_at = Instant::now() + SUMMARY_CHECK;
            self.send_summary();
        }
        metrics::write(&self.shared.borrow());
    }

    /// Starts the weekly summary where it is due.
    fn send_summary(&self) {
        let state = self.shared.borrow();
        let (Some(monitor), Some(config)) = (&state.monitor, state.configuration.current()) else { return };
        let zone = Zone::system();
        let sent = monitor.outputs.summarised.map(|start| Week::of(start, &zone));
        let due = weekly::due(Utc::now(), &zone, config.alerts.summary, sent);
        let Some(week) = due else { return };
        let (path, directory) = (config.logs.record_path.clone(), self.common.run_dir.clone());
        let shared = Rc::clone(&self.shared);
        tokio::task::spawn_local(async move {
            let made = tokio::task::spawn_blocking(move || {
                let summary =
                    of_file(&path, Some(week), &zone, Utc::now()).map_err(|error| error.to_string())?;
                weekly::alert(&summary, &directory)
                    .map_err(|error| format!("{}: {error}", directory.display()))
            });
            let alert = made.await.unwrap_or_else(|error| Err(error.to_string()));
            let Some(monitor) = &mut shared.borrow_mut().monitor else { return };
            if let Err(reason) = &alert {
                log::info!("no summary of week {week}: {reason}");
            }
            monitor.outputs.summarised(week.start(&zone), alert.is_ok());
            let _id = alert.map(|alert| monitor.outputs.raise(alert));
        });
    }

    async fn stop(mut self) {
        if let Some(intake) = &mut self.intake {
            intake.end();
        }
        let (monitor, alerts) = {
            let mut state = self.shared.borrow_mut();
            (state.monitor.take(), state.alerts.take())
        };
        if let Some(mut monitor) = monitor {
            monitor.stop();
            monitor.outputs.finish().stop(STOP);
        }
        if let Some(intake) = self.intake {
            intake.ended(STOP / 2).await;
        }
        // The service is gone, and with it the other holders.
        if let Some(Ok(alerts)) = alerts.map(Rc::try_unwrap) {
            if tokio::time::timeout(STOP / 2, alerts.stop()).await.is_err() {
                log::info!("alerts that are still queued are sent after the next start");
            }
        }
    }
}

async fn next_of(intake: &mut Option<Intake>) -> Option<Delivery> {
    match intake {
        Some(intake) => intake.next().await,
        None => std::future::pending().await,
    }
}
