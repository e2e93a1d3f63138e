// SPDX-License-Identifier: Apache-2.0
//! Tells of changes: events for subscribers, alerts for operators, metrics and the trend.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path as FilePath, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use alerts::{Alert, AlertHandle, Severity};
use openwrt::metrics::{Kind, Page};
use openwrt::service::Events;
use serde_json::{json, Value};
use time::OffsetDateTime;

use crate::daemon::Daemon;
use crate::packet::Counters;
use crate::path::Standing;
use crate::service;
use crate::splice;
use crate::upstream::State;

/// The event of a path.
pub const PATH_EVENT: &str = "mptcp-proxy.path";
/// The event of a server.
pub const SERVER_EVENT: &str = "mptcp-proxy.server";

const LOOK: Duration = Duration::from_secs(1);
const METRICS: Duration = Duration::from_secs(15);
const SAMPLE: Duration = Duration::from_secs(60);
/// A day of samples.
const SAMPLES: usize = 24 * 60;
/// No list of an answer is longer.
const MAX_POINTS: usize = 200;

/// The recent past of all paths.
#[derive(Default)]
pub struct Trend(RefCell<BTreeMap<String, VecDeque<Sample>>>);

#[derive(Clone, Copy)]
struct Sample {
    at: OffsetDateTime,
    /// Seconds; NaN while unknown.
    rtt: f32,
    /// 0 to 1; NaN while unknown.
    loss: f32,
    received: u64,
    sent: u64,
}

impl Trend {
    /// The samples of the last `span`, thinned to at most 200 per path. Rates are in bytes per second.
    pub fn points(&self, span: Duration, now: OffsetDateTime) -> Value {
        let all = self.0.borrow();
        let paths: Vec<Value> = all
            .iter()
            .map(|(name, samples)| {
                let recent: Vec<&Sample> = samples.iter().filter(|sample| now - sample.at <= span).collect();
                let stride = recent.len().div_ceil(MAX_POINTS).max(1);
                let thinned: Vec<&Sample> = recent.into_iter().step_by(stride).collect();
                let points: Vec<Value> = thinned.windows(2).map(|pair| point(pair[0], pair[1])).collect();
                json!({ "name": name, "points": points })
            })
            .collect();
        json!({ "paths": paths })
    }

    fn add(&self, daemon: &Daemon, now: OffsetDateTime) {
        let mut all = self.0.borrow_mut();
        let paths = daemon.paths.all();
        all.retain(|name, _| paths.iter().any(|path| path.config.name == *name));
        let subflows = service::subflows(daemon);
        for path in paths {
            let (received, sent, _) = service::carried(&path, &subflows);
            let health = path.health.borrow();
            let sample = Sample {
                at: now,
                rtt: health.rtt().map_or(f32::NAN, |rtt| rtt.as_secs_f32()),
                loss: health.loss().unwrap_or(f32::NAN),
                received,
                sent,
            };
            let samples = all.entry(path.config.name.clone()).or_default();
            if samples.len() == SAMPLES {
                samples.pop_front();
            }
            samples.push_back(sample);
        }
    }
}

fn point(before: &Sample, sample: &Sample) -> Value {
    let seconds = (sample.at - before.at).as_seconds_f64().max(1e-3);
    let rate = |now: u64, then: u64| (now.saturating_sub(then) as f64 / seconds).round();
    json!({
        "at": sample.at.format(&time::format_description::well_known::Rfc3339).ok(),
        "rtt": known(sample.rtt),
        "loss": known(sample.loss),
        "rx_rate": rate(sample.received, before.received),
        "tx_rate": rate(sample.sent, before.sent),
    })
}

fn known(value: f32) -> Option<f64> {
    value.is_finite().then(|| (f64::from(value) * 1e6).round() / 1e6)
}

/// What was last told, and to whom to tell.
pub struct Watch {
    daemon: Rc<Daemon>,
    events: Events,
    alerts: AlertHandle,
    trend: Rc<Trend>,
    metrics: PathBuf,
    told: BTreeMap<String, Told>,
}

#[derive(Default)]
struct Told {
    state: &'static str,
    /// Id of the alert that a return ends.
    lost: Option<String>,
    stripped: bool,
}

impl Watch {
    /// Watches nothing before [`Watch::run`].
    pub fn new(
        daemon: Rc<Daemon>,
        events: Events,
        alerts: AlertHandle,
        trend: Rc<Trend>,
        metrics: &FilePath,
    ) -> Self {
        Watch { daemon, events, alerts, trend, metrics: metrics.to_owned(), told: BTreeMap::new() }
    }

    /// Watches for ever.
    pub async fn run(mut self) {
        let (mut sampled, mut written) = (None, None);
        loop {
            self.look();
            let now = Instant::now();
            if is_due(&mut sampled, SAMPLE, now) {
                self.trend.add(&self.daemon, OffsetDateTime::now_utc());
            }
            if is_due(&mut written, METRICS, now) {
                if let Err(error) = page(&self.daemon).write(&self.metrics, "mptcp-proxy") {
                    log::warn!("metrics: {error}");
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn look(&mut self) {
        for path in self.daemon.paths.all() {
            let standing = path.standing();
            let stripped = path.mptcp.get() == Some(false);
            let told = self.told.entry(format!("path {}", path.config.name)).or_default();
            let name = &path.config.name;
            if stripped && !told.stripped {
                let subject = format!("MPTCP is stripped or blocked on path {name}: it carries plain TCP");
                self.alerts.raise(alert("mptcp_stripped", Severity::Warning, subject));
            }
            told.stripped = stripped;
            if told.state == standing.state() {
                continue;
            }
            let before = std::mem::replace(&mut told.state, standing.state());
            self.events.emit(PATH_EVENT, service::describe_path(&self.daemon, &path));
            let by_operator = matches!(standing, Standing::SwitchedOff | Standing::RoleOff);
            match standing.state() {
                "down" if !before.is_empty() && !by_operator => {
                    let subject = format!("path {name} is lost: {}", standing.reason());
                    let raised = self.alerts.raise(alert("path_lost", Severity::Warning, subject));
                    told.lost = Some(raised);
                }
                "up" => {
                    if let Some(lost) = told.lost.take() {
                        let subject = format!("path {name} is back");
                        self.alerts.raise(alert("path_returned", Severity::Info, subject).recovers(lost));
                    }
                }
                _ => {}
            }
        }
        for upstream in self.daemon.clients().iter().flat_map(|client| client.upstreams()) {
            let state = service::state_name(upstream.state());
            let name = &upstream.config.name;
            let told = self.told.entry(format!("server {name}")).or_default();
            if told.state == state {
                continue;
            }
            told.state = state;
            self.events.emit(SERVER_EVENT, service::describe_server(&upstream));
            match upstream.state() {
                State::Down => {
                    let subject = format!("server {name} ({}) does not answer", upstream.config.address);
                    told.lost = Some(self.alerts.raise(alert("server_lost", Severity::Critical, subject)));
                }
                State::Up => {
                    if let Some(lost) = told.lost.take() {
                        let subject = format!("server {name} is back");
                        self.alerts.raise(alert("server_returned", Severity::Info, subject).recovers(lost));
                    }
                }
                State::Unknown => {}
            }
        }
    }
}

fn alert(kind: &str, severity: Severity, subject: String) -> Alert {
    Alert::new(kind, severity, subject, OffsetDateTime::now_utc())
}

fn is_due(last: &mut Option<Instant>, pace: Duration, now: Instant) -> bool {
    if last.is_some_and(|last| now.saturating_duration_since(last) < pace) {
        return false;
    }
    *last = Some(now);
    true
}

/// The metrics of this moment.
fn page(daemon: &Daemon) -> Page {
    let mut page = Page::new();
    let number = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
    page.family("mptcp_proxy_connections", Kind::Gauge, "Connections relayed now.")
        .sample(&[], number(daemon.connections.len()));
    let subflows = service::subflows(daemon);
    let paths = daemon.paths.all();
    for path in &paths {
        let (received, sent, count) = service::carried(path, &subflows);
        let name = path.config.name.as_str();
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        page.family("mptcp_proxy_bytes_total", Kind::Counter, "Bytes carried by the path's subflows.")
            .sample(&[("path", name), ("direction", "rx")], bytes(received))
            .sample(&[("path", name), ("direction", "tx")], bytes(sent));
        page.family("mptcp_proxy_subflows", Kind::Gauge, "Subflows of the path now.")
            .sample(&[("path", name)], number(count));
        page.family("mptcp_proxy_path_up", Kind::Gauge, "1 while the path carries packets.")
            .sample(&[("path", name)], i64::from(path.standing() == Standing::Up));
    }
    let (mut fallbacks, mut direct) = (0i64, 0i64);
    for client in daemon.clients() {
        direct += i64::from(client.counters.direct.get());
        for upstream in client.upstreams() {
            fallbacks += i64::from(upstream.counters.without_mptcp.get());
        }
    }
    let halves = [
        ("client", daemon.entry().map(|entry| packets(&entry.counters))),
        ("server", daemon.exit().map(|exit| packets(&exit.counters))),
    ];
    for (half, (carried, dropped)) in
        halves.iter().filter_map(|(half, packets)| Some((*half, packets.as_ref()?)))
    {
        page.family(
            "mptcp_proxy_packets_total",
            Kind::Counter,
            "Packets of other protocols that went into the tunnel (tx) or came out of it (rx).",
        )
        .sample(&[("half", half), ("direction", "tx")], carried[0])
        .sample(&[("half", half), ("direction", "rx")], carried[1]);
        for (reason, count) in dropped {
            page.family(
                "mptcp_proxy_packets_dropped_total",
                Kind::Counter,
                "Packets of other protocols that were dropped.",
            )
            .sample(&[("half", half), ("reason", reason)], *count);
        }
    }
    page.family("mptcp_proxy_fallbacks_total", Kind::Counter, "Tunnel connections that came to plain TCP.")
        .sample(&[], fallbacks);
    let spliced = i64::try_from(splice::spliced_bytes()).unwrap_or(i64::MAX);
    page.family(
        "mptcp_proxy_spliced_bytes_total",
        Kind::Counter,
        "Bytes that went from socket to socket in the kernel.",
    )
    .sample(&[], spliced);
    page.family("mptcp_proxy_direct_total", Kind::Counter, "Connections that went out without a server.")
        .sample(&[], direct);
    page
}

/// Packets into the tunnel and out of it, and those that were dropped by reason.
fn packets(counters: &Counters) -> ([i64; 2], Vec<(&'static str, i64)>) {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let carried = [number(counters.sent.get()), number(counters.received.get())];
    (carried, counters.dropped().map(|(reason, count)| (reason, number(count))).collect())
}
