// SPDX-License-Identifier: Apache-2.0
//! The shell around the outbox: takes alerts in, writes the journal, runs one worker per sink.

use crate::backoff::{random, random_u32};
use crate::config::Config;
use crate::inbox::{AlertHandle, Inbox};
use crate::journal::Journal;
use crate::outbox::{Cure, Failure, Losses, Message, Next, Now, Outbox, SinkKind};
use crate::render::Context;
use crate::{Alert, Severity};
use openwrt::timezone::Zone;
use serde_json::{json, Value};
use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use time::format_description::well_known::Rfc3339;
use time::OffsetDateTime;
use tokio::sync::{watch, Notify};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The journal is synced to its medium at most this often.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// The operator may move the router to another time zone.
const ZONE_INTERVAL: Duration = Duration::from_secs(60);

/// Who speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Name of the daemon, for instance `powqutyd`.
    pub daemon: String,
    /// Name of the router.
    pub host: String,
    /// Name of the device that is measured or guarded, for instance PowQuty's `dev_uuid`.
    pub device_id: String,
}

/// Answer of [`Alerts::test`] and [`Alerts::send`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TestResult {
    /// Which sink was tried.
    pub sink: &'static str,
    /// Whether the receiver acknowledged the message.
    pub delivered: bool,
    /// What the server answered, or exactly what went wrong.
    pub answer: String,
}

/// The running delivery; ends its tasks when dropped.
pub struct Alerts {
    shared: Rc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

pub(crate) struct Shared {
    identity: Identity,
    config: RefCell<Rc<Config>>,
    outbox: RefCell<Outbox>,
    journal: RefCell<Journal>,
    inbox: Arc<Inbox>,
    origin: Instant,
    /// And when it was read.
    zone: Cell<(Zone, Instant)>,
    wake: [Notify; 4],
    /// Counts reconfigurations.
    generation: watch::Sender<u32>,
    reports: RefCell<[Report; 4]>,
    /// Alerts taken in so far; an alert counts once it is in the journal.
    accepted: watch::Sender<u32>,
    default_outbox: std::path::PathBuf,
    #[cfg(feature = "mqtt")]
    connections: RefCell<crate::sink::mqtt::Connections>,
    #[cfg(feature = "mqtt")]
    wants_telemetry: Cell<bool>,
}

/// What status says about a sink beside its queue.
#[derive(Debug, Clone, Default)]
struct Report {
    delivered: u32,
    last_error: Option<(String, OffsetDateTime)>,
    last_success: Option<OffsetDateTime>,
}

/// Starts delivery as tasks of the current `LocalSet`; the outbox lies in `run_dir` unless the configuration says
/// otherwise, and what it holds from before is delivered.
pub fn start(config: Config, identity: Identity, run_dir: &Path) -> (AlertHandle, Alerts) {
    let inbox = Arc::new(Inbox::new(&identity.daemon, random_u32()));
    let handle = AlertHandle::new(Arc::clone(&inbox));
    let default_outbox = run_dir.join(format!("{}.outbox", identity.daemon));
    let path = config.outbox_path.as_deref().unwrap_or(&default_outbox);
    let origin = Instant::now();
    let (mut journal, content) = Journal::open(path, config.outbox_size as u64);
    let (outbox, whole) = Outbox::restore(config.policy(), &content, now(origin, Zone::system()));
    journal.keep(whole);
    let waiting: usize = SinkKind::ALL.iter().map(|&sink| outbox.queued(sink)).sum();
    if waiting > 0 {
        log::info!("{waiting} deliveries of alerts are waiting from before");
    }
    let shared = Rc::new(Shared {
        #[cfg(feature = "mqtt")]
        connections: RefCell::new(crate::sink::mqtt::Connections::new(&identity)),
        #[cfg(feature = "mqtt")]
        wants_telemetry: Cell::new(false),
        identity,
        config: RefCell::new(Rc::new(config)),
        outbox: RefCell::new(outbox),
        journal: RefCell::new(journal),
        inbox,
        origin,
        zone: Cell::new((Zone::system(), origin)),
        wake: std::array::from_fn(|_| Notify::new()),
        generation: watch::Sender::new(0),
        reports: RefCell::default(),
        accepted: watch::Sender::new(0),
        default_outbox,
    });
    shared.configure_connections();
    let mut tasks = vec![
        openwrt::task::spawn(Rc::clone(&shared).accept()),
        openwrt::task::spawn(Rc::clone(&shared).sync_journal()),
    ];
    tasks.extend(SinkKind::ALL.map(|sink| openwrt::task::spawn(Rc::clone(&shared).work(sink))));
    (handle, Alerts { shared, tasks })
}

impl Alerts {
    /// Applies another configuration: what waits goes to the new addresses, what waits for a sink that is now off is
    /// discarded.
    pub fn reconfigure(&self, config: Config) {
        let shared = &self.shared;
        let old = shared.config.replace(Rc::new(config));
        let config = shared.config();
        if old == config {
            return;
        }
        let now = shared.now();
        let discarded = shared.outbox.borrow_mut().set_policy(config.policy(), now);
        if discarded > 0 {
            log::warn!(
                "{discarded} alerts were waiting for receivers that are switched off now; they are discarded"
            );
        }
        if (&old.outbox_path, old.outbox_size) != (&config.outbox_path, config.outbox_size) {
            shared.move_journal(&config);
        }
        shared.write_journal();
        shared.configure_connections();
        for sink in SinkKind::ALL {
            if sink_changed(sink, &old, &config) {
                shared.outbox.borrow_mut().address_changed(sink, now);
            }
        }
        shared.generation.send_modify(|generation| *generation = generation.wrapping_add(1));
        shared.wake_all();
    }

    /// The network is back: waiting attempts are made now.
    pub fn connectivity_returned(&self) {
        let now = self.shared.now();
        self.shared.outbox.borrow_mut().connectivity_returned(now);
        #[cfg(feature = "mqtt")]
        self.shared.connections.borrow().kick();
        self.shared.wake_all();
    }

    /// Sends a test message to one sink now, as [`Alerts::send`] does.
    pub async fn test(&self, sink: SinkKind) -> TestResult {
        let daemon = &self.shared.identity.daemon;
        let alert = Alert::new(
            "test",
            Severity::Info,
            format!("Test message from {daemon}"),
            OffsetDateTime::now_utc(),
        );
        self.send(sink, alert.fact("meaning", "This receiver gets the alerts of this device.")).await
    }

    /// Sends an alert to one sink now, past outbox, storm control and quiet hours, and returns the full answer.
    pub async fn send(&self, sink: SinkKind, alert: Alert) -> TestResult {
        let shared = &self.shared;
        let config = shared.config();
        let (delivered, answer) = match config.is_on(sink) {
            false => (false, format!("{} is not switched on", sink.name())),
            true => match shared.send_now(&config, sink, alert).await {
                Ok(answer) => (true, answer),
                Err(failure) => (false, failure.reason),
            },
        };
        TestResult { sink: sink.name(), delivered, answer }
    }

    /// The sinks that are switched on.
    pub fn sinks(&self) -> Vec<SinkKind> {
        let config = self.shared.config();
        SinkKind::ALL.into_iter().filter(|&sink| config.is_on(sink)).collect()
    }

    /// Per sink `queued`, `held`, `delivered`, `dropped`, `last_error`, `last_success` and `retry_in` (s), and
    /// `warnings`. Nothing in it is a secret.
    pub fn status(&self) -> Value {
        self.shared.status()
    }

    /// A handle for measurements; opens the broker's connection for them where the configuration wants one.
    #[cfg(feature = "mqtt")]
    pub fn telemetry(&self) -> crate::Telemetry {
        self.shared.wants_telemetry.set(true);
        self.shared.configure_connections();
        let telemetry = self.shared.connections.borrow().telemetry();
        telemetry
    }

    /// Waits until everything raised before is in the journal.
    pub async fn flush(&self) {
        let target = self.shared.inbox.raised();
        let mut accepted = self.shared.accepted.subscribe();
        // The sender lives as long as `self`.
        let _ = accepted.wait_for(|&accepted| target.wrapping_sub(accepted).cast_signed() <= 0).await;
    }

    /// Takes in what was raised, writes the journal and says goodbye to the broker; a second at most. What waits stays in
    /// the outbox.
    pub async fn stop(self) {
        self.goodbye().await;
    }

    /// As [`Alerts::stop`], for a delivery that is shared; no MQTT afterwards.
    pub async fn goodbye(&self) {
        self.flush().await;
        #[cfg(feature = "mqtt")]
        {
            let none = crate::sink::mqtt::Connections::new(&self.shared.identity);
            let mut connections = self.shared.connections.replace(none);
            connections.stop().await;
        }
        let unsynced = self.shared.journal.borrow_mut().take_unsynced();
        if let Some(file) = unsynced {
            let _ = tokio::task::spawn_blocking(move || file.sync_data()).await;
        }
    }
}

impl Drop for Alerts {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Shared {
    fn config(&self) -> Rc<Config> {
        Rc::clone(&self.config.borrow())
    }

    fn now(&self) -> Now {
        let at = Instant::now();
        let (mut zone, read_at) = self.zone.get();
        if at - read_at >= ZONE_INTERVAL {
            zone = Zone::system();
            self.zone.set((zone, at));
        }
        now(self.origin, zone)
    }

    fn wake_all(&self) {
        self.wake.iter().for_each(Notify::notify_one);
    }

    #[cfg_attr(not(feature = "mqtt"), allow(clippy::unused_self))]
    fn configure_connections(&self) {
        #[cfg(feature = "mqtt")]
        self.connections.borrow_mut().configure(&self.config(), self.wants_telemetry.get());
    }

    /// Every change of the outbox reaches the journal before anything is sent.
    fn write_journal(&self) {
        let mut outbox = self.outbox.borrow_mut();
        let frames = outbox.take_log();
        self.journal.borrow_mut().append(&frames, || outbox.snapshot(self.now()));
    }

    /// Another place or size: written anew there, removed here.
    fn move_journal(&self, config: &Config) {
        let path = config.outbox_path.as_deref().unwrap_or(&self.default_outbox);
        let mut journal = self.journal.borrow_mut();
        let same_place = journal.path() == path;
        if same_place {
            journal.set_limit(config.outbox_size as u64);
        } else {
            journal.remove();
            let (moved, _) = Journal::open(path, config.outbox_size as u64);
            *journal = moved;
        }
        let outbox = self.outbox.borrow();
        journal.rewrite(|| outbox.snapshot(self.now()));
    }

    async fn accept(self: Rc<Self>) {
        loop {
            let alerts = self.inbox.wait().await;
            let mut count = 0_u32;
            for (index, alert) in alerts.into_iter().enumerate() {
                let now = self.now();
                self.outbox.borrow_mut().raise(alert, now);
                count += 1;
                if index % 16 == 15 {
                    self.write_journal();
                    tokio::task::yield_now().await;
                }
            }
            let lost = self.inbox.take_lost();
            if lost > 0 {
                self.outbox.borrow_mut().lost_before_queueing(lost, self.now());
                log::warn!("{lost} alerts came faster than they could be taken in and are lost");
            }
            self.write_journal();
            self.accepted.send_modify(|accepted| *accepted = accepted.wrapping_add(count).wrapping_add(lost));
            self.wake_all();
        }
    }

    async fn sync_journal(self: Rc<Self>) {
        loop {
            tokio::time::sleep(SYNC_INTERVAL).await;
            let file = self.journal.borrow_mut().take_unsynced();
            if let Some(file) = file {
                // Off this thread: a slow medium must not delay the daemon.
                let _ = tokio::task::spawn_blocking(move || file.sync_data()).await;
            }
        }
    }

    async fn work(self: Rc<Self>, sink: SinkKind) {
        let mut generation = self.generation.subscribe();
        loop {
            let next = {
                let now = self.now();
                let next = self.outbox.borrow_mut().next(sink, now);
                self.write_journal();
                next
            };
            let wake = self.wake[sink as usize].notified();
            match next {
                Next::Idle => wake.await,
                Next::At(at_ms) => {
                    let at = self.origin + Duration::from_millis(u64::try_from(at_ms).unwrap_or(0));
                    tokio::select! {
                        () = tokio::time::sleep_until(at) => {}
                        () = wake => {}
                    }
                }
                Next::Deliver(message) => {
                    generation.mark_unchanged();
                    let config = self.config();
                    let context = self.context();
                    let result = tokio::select! {
                        result = self.deliver(&config, sink, context, &message) => result,
                        () = self.address_changes(&mut generation, sink, &config) => Err(Failure {
                            reason: "the configuration changed meanwhile".into(),
                            cure: Cure::Again,
                        }),
                    };
                    self.finish(sink, &message, result);
                }
            }
        }
    }

    /// Until the configuration of `sink` is another one than `config`.
    async fn address_changes(&self, generation: &mut watch::Receiver<u32>, sink: SinkKind, config: &Config) {
        loop {
            if generation.changed().await.is_err() {
                return std::future::pending().await;
            }
            if sink_changed(sink, config, &self.config()) {
                return;
            }
        }
    }

    fn context(&self) -> Context<'_> {
        Context { identity: &self.identity, utc_offset_s: self.now().utc_offset_s }
    }

    async fn deliver(
        &self,
        config: &Config,
        sink: SinkKind,
        context: Context<'_>,
        message: &Message,
    ) -> Result<String, Failure> {
        match sink {
            #[cfg(feature = "slack")]
            SinkKind::Slack => match &config.slack {
                Some(slack) => crate::sink::slack::deliver(slack, config.tls_verify, context, message).await,
                None => switched_off(),
            },
            #[cfg(feature = "mqtt")]
            SinkKind::Mqtt => {
                let publisher = self.connections.borrow().publisher(config);
                match publisher {
                    Some(publisher) => publisher.deliver(context, message).await,
                    None => switched_off(),
                }
            }
            #[cfg(feature = "email")]
            SinkKind::Email => match &config.email {
                Some(email) => crate::sink::email::deliver(email, config.tls_verify, context, message).await,
                None => switched_off(),
            },
            #[cfg(feature = "exec")]
            SinkKind::Exec => match &config.exec {
                Some(exec) => crate::sink::exec::deliver(exec, context, message).await,
                None => switched_off(),
            },
            #[allow(unreachable_patterns)] // sinks that are not built
            _ => switched_off(),
        }
    }

    async fn send_now(&self, config: &Config, sink: SinkKind, mut alert: Alert) -> Result<String, Failure> {
        alert.daemon.clone_from(&self.identity.daemon);
        alert.id = format!("{}-{}-{:08x}", self.identity.daemon, alert.kind, random_u32());
        let message = Message { seq: u64::MAX, alert, losses: Losses::default() };
        #[cfg(feature = "mqtt")]
        if sink == SinkKind::Mqtt {
            let publisher = self.connections.borrow().publisher(config);
            return match publisher {
                Some(publisher) => publisher.test(self.context(), &message).await,
                None => switched_off(),
            };
        }
        self.deliver(config, sink, self.context(), &message).await
    }

    fn finish(&self, sink: SinkKind, message: &Message, result: Result<String, Failure>) {
        let now = self.now();
        let mut outbox = self.outbox.borrow_mut();
        let report = &mut self.reports.borrow_mut()[sink as usize];
        match result {
            Ok(answer) => {
                log::debug!("{}: {} delivered: {answer}", sink.name(), message.alert.id);
                outbox.delivered(sink, message, now);
                report.delivered = report.delivered.wrapping_add(1);
                report.last_success = Some(OffsetDateTime::now_utc());
                if let Some((error, _)) = report.last_error.take() {
                    log::info!("{}: delivering again after: {error}", sink.name());
                }
            }
            Err(failure) => {
                outbox.failed(sink, message.seq, failure.cure, now, random());
                if failure.cure != Cure::Again {
                    if report.last_error.as_ref().map(|(error, _)| error) != Some(&failure.reason) {
                        log::warn!("{}: {}", sink.name(), failure.reason);
                    }
                    report.last_error = Some((failure.reason, OffsetDateTime::now_utc()));
                }
            }
        }
        drop(outbox);
        self.write_journal();
    }

    fn status(&self) -> Value {
        let config = self.config();
        let now = self.now();
        let outbox = self.outbox.borrow();
        let reports = self.reports.borrow();
        let mut status = serde_json::Map::new();
        for sink in SinkKind::ALL.into_iter().filter(|&sink| config.is_on(sink)) {
            let report = &reports[sink as usize];
            let mut last_error = report.last_error.as_ref().map(|(error, _)| error.clone());
            #[cfg(feature = "mqtt")]
            if sink == SinkKind::Mqtt {
                let publisher = self.connections.borrow().publisher(&config);
                last_error = publisher.and_then(|publisher| publisher.trouble()).or(last_error);
            }
            let dropped = outbox.dropped(sink);
            status.insert(
                sink.name().into(),
                json!({
                    "queued": outbox.queued(sink),
                    "held": outbox.held(sink),
                    "delivered": report.delivered,
                    "dropped": dropped,
                    "last_error": last_error.take(),
                    "last_error_at": report.last_error.as_ref().map(|(_, at)| rfc3339(*at)),
                    "last_success": report.last_success.map(rfc3339),
                    "retry_in": outbox.retry_in_ms(sink, now).map(|ms| ms / 1000),
                }),
            );
        }
        let mut warnings = Vec::new();
        if !config.tls_verify {
            warnings.push(
                "tls_verify is 0: servers are not verified, anyone on the way can read and change the alerts"
                    .to_owned(),
            );
        }
        warnings.extend(self.journal.borrow().trouble());
        status.insert("warnings".into(), json!(warnings));
        #[cfg(feature = "mqtt")]
        status.insert("connections".into(), self.connections.borrow().status());
        Value::Object(status)
    }
}

fn switched_off() -> Result<String, Failure> {
    Err(Failure::retry("switched off"))
}

/// Whether what waits for `sink` has to go another way.
fn sink_changed(sink: SinkKind, old: &Config, new: &Config) -> bool {
    old.tls_verify != new.tls_verify
        || match sink {
            SinkKind::Slack => old.slack != new.slack,
            SinkKind::Mqtt => old.mqtt != new.mqtt,
            SinkKind::Email => old.email != new.email,
            SinkKind::Exec => old.exec != new.exec,
        }
}

fn rfc3339(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_default()
}

fn now(origin: Instant, zone: Zone) -> Now {
    let wall = OffsetDateTime::now_utc();
    #[allow(clippy::cast_possible_truncation)] // milliseconds fit until the year 292 million
    let wall_ms = (wall.unix_timestamp_nanos() / 1_000_000) as i64;
    Now {
        mono_ms: i64::try_from(origin.elapsed().as_millis()).unwrap_or(i64::MAX),
        wall_ms,
        utc_offset_s: zone.offset_s(wall_ms / 1000),
    }
}
