// SPDX-License-Identifier: Apache-2.0
//! The daemon: rules, network and access points held together on one thread.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use alerts::{AlertHandle, Alerts};
use openwrt::cli::Common;
use openwrt::reload::{Configuration, Outcome};
use openwrt::service::Events;
use openwrt::ubus;
use serde_json::json;
use tokio::sync::{mpsc, Notify};
use tokio::time::timeout;

use crate::condition::{wish, RuleState};
use crate::config::{self, Config, ManagedAp};
use crate::engine::{Engine, Report};
use crate::rule::{Moment, Observation, State, Transition};
use crate::ssid::{render, Names, Ssid};
use crate::uplink::Network;
use crate::verdict::PortalMeaning;
use crate::wireless::plan::Wish;
use crate::wireless::switch::{Switch, Wishes};
use crate::{announce, hooks};

/// Transitions that are remembered.
const HISTORY: usize = 200;
/// A sysupgrade that has not rebooted the router by then has failed.
const UPGRADE_PATIENCE: Duration = Duration::from_secs(600);
/// What a sysupgrade leaves in memory while it runs.
const UPGRADE_MARKS: [&str; 2] = ["/tmp/sysupgrade.tgz", "/tmp/run/autoupdate"];
/// How long a hostapd that does not answer holds up what is said of a transition.
const TELL_PATIENCE: Duration = Duration::from_millis(500);
/// How often reasons to pause are looked at while there are some.
const PAUSE_CHECK: Duration = Duration::from_secs(5);

/// A transition with the rule it belongs to.
#[derive(Debug, Clone)]
pub struct Past {
    /// Name of the rule.
    pub rule: String,
    /// What happened.
    pub transition: Transition,
}

/// Everything the daemon knows; shared by its tasks on one thread. No borrow is held across an await.
pub struct Daemon {
    /// Where everything lies.
    pub common: Common,
    /// Beginning of the daemon's time.
    pub origin: Instant,
    /// The configuration in force and what is wrong with the one on file.
    pub configuration: RefCell<Configuration<Config>>,
    /// The rules.
    pub engines: RefCell<Vec<Engine>>,
    /// Links, routes, interfaces.
    pub network: Rc<RefCell<Network>>,
    /// The access points.
    pub switch: Rc<Switch>,
    /// Delivery of alerts.
    pub alerts: Alerts,
    /// Last transitions, newest last.
    pub history: RefCell<VecDeque<Past>>,
    bus: ubus::Client,
    alert_handle: AlertHandle,
    events: RefCell<Option<Events>>,
    reports: mpsc::UnboundedSender<Report>,
    /// Sections that had a rule before the last reload and have none now.
    released: RefCell<Vec<ManagedAp>>,
    /// Wakes the main loop after a change from outside.
    pub poked: Notify,
    /// Wakes whoever shows states elsewhere after a transition.
    pub changed: Notify,
    /// Transitions that nobody has been told of yet, oldest first.
    untold: RefCell<VecDeque<Past>>,
    to_tell: Notify,
    pause: RefCell<Option<String>>,
    /// Rules wait until netifd has told its interfaces.
    ready: Cell<bool>,
}

impl Daemon {
    /// A daemon with its configuration, not running yet.
    pub fn new(
        common: Common,
        configuration: Configuration<Config>,
        switch: Rc<Switch>,
        bus: ubus::Client,
        origin: Instant,
        (alert_handle, alerts): (AlertHandle, Alerts),
        reports: mpsc::UnboundedSender<Report>,
    ) -> Rc<Self> {
        Rc::new(Self {
            common,
            origin,
            configuration: RefCell::new(configuration),
            engines: RefCell::default(),
            network: Rc::default(),
            switch,
            alerts,
            history: RefCell::default(),
            bus,
            alert_handle,
            events: RefCell::new(None),
            reports,
            released: RefCell::default(),
            poked: Notify::new(),
            changed: Notify::new(),
            untold: RefCell::default(),
            to_tell: Notify::new(),
            pause: RefCell::new(None),
            ready: Cell::new(false),
        })
    }

    /// Where transitions are told.
    pub fn set_events(&self, events: Events) {
        *self.events.borrow_mut() = Some(events);
    }

    /// The daemon's time.
    pub fn now(&self) -> Moment {
        self.origin.elapsed()
    }

    /// Makes the rules, so that whoever asks finds them; they do nothing before [`Daemon::start`].
    pub fn prepare(&self) {
        self.apply();
    }

    /// What is known is enough to judge links: starts the rules.
    pub fn start(&self) {
        self.ready.set(true);
        self.on_network(None);
        self.wish(None);
    }

    /// Reads the configuration again.
    pub fn reload(&self) -> Outcome {
        let before: Vec<ManagedAp> = self
            .configuration
            .borrow()
            .current()
            .map(|config| config.access_points.clone())
            .unwrap_or_default();
        let outcome = self.configuration.borrow_mut().reload(config::load(&self.common.source));
        self.configuration.borrow().log();
        if outcome == Outcome::Applied {
            let configuration = self.configuration.borrow();
            let known = |ap: &ManagedAp| {
                configuration.current().is_some_and(|config| {
                    config.access_points.iter().any(|now| now.ap.section == ap.ap.section)
                })
            };
            let mut released = self.released.borrow_mut();
            released.retain(|ap| !known(ap));
            released.extend(before.into_iter().filter(|ap| !known(ap)));
        }
        self.apply();
        log::info!("reload: {outcome:?}");
        outcome
    }

    /// Brings rules, alerts and access points in line with the configuration.
    fn apply(&self) {
        let configuration = self.configuration.borrow();
        let empty = Config::empty();
        let config = configuration.current().unwrap_or(&empty);
        self.alerts.reconfigure(config.alerts.clone());
        let now = self.now();
        let mut engines = self.engines.borrow_mut();
        let mut old: Vec<Engine> = engines.drain(..).collect();
        for rule in &config.rules {
            match old.iter().position(|engine| engine.config.name == rule.name) {
                Some(index) => {
                    let mut engine = old.swap_remove(index);
                    engine.reconfigure(rule.clone(), config.enabled, now);
                    engines.push(engine);
                }
                None => engines.push(Engine::new(rule.clone(), config.enabled, now, self.reports.clone())),
            }
        }
        drop(engines);
        drop(configuration);
        self.on_network(None);
        self.switch.moved();
        self.wish(None);
        self.poked.notify_one();
    }

    /// Links, routes or interfaces changed; `cause` is when that was read.
    pub fn on_network(&self, cause: Option<Instant>) {
        if !self.ready.get() {
            return;
        }
        self.each(cause, super::engine::Engine::on_network);
    }

    /// The time has come for something.
    pub fn on_time(&self) {
        if !self.ready.get() {
            return;
        }
        self.each(None, super::engine::Engine::on_time);
        if self.update_pause() {
            self.wish(None);
        }
    }

    /// A check has ended.
    pub fn on_report(&self, report: Report) {
        let now = self.now();
        let mut engines = self.engines.borrow_mut();
        let Some(engine) = engines.iter_mut().find(|engine| engine.config.name == report.rule()) else {
            return;
        };
        let name = engine.config.name.clone();
        let transitions = engine.on_report(report, &self.network, now);
        drop(engines);
        self.announce(&name, transitions, None);
    }

    /// Something from outside for one rule, or for all.
    pub fn observe(&self, rule: Option<&str>, observation: &Observation) {
        self.each(None, |engine, network, now| {
            if rule.is_some_and(|rule| rule != engine.config.name) {
                return Vec::new();
            }
            engine.observe(observation.clone(), network, now)
        });
        self.poked.notify_one();
    }

    fn each(
        &self,
        cause: Option<Instant>,
        act: impl Fn(&mut Engine, &Rc<RefCell<Network>>, Moment) -> Vec<Transition>,
    ) {
        let now = self.now();
        let mut all = Vec::new();
        for engine in self.engines.borrow_mut().iter_mut() {
            let transitions = act(engine, &self.network, now);
            if !transitions.is_empty() {
                all.push((engine.config.name.clone(), transitions));
            }
        }
        for (name, transitions) in all {
            self.announce(&name, transitions, cause);
        }
    }

    /// Wakes the main loop at the next moment something is due.
    pub fn wake_at(&self) -> Option<Moment> {
        if !self.ready.get() {
            return None;
        }
        let now = self.now();
        let engines = self.engines.borrow();
        let rules = engines.iter().filter_map(|engine| engine.wake_at(now)).min();
        let pause = self.pause.borrow().is_some().then(|| now + PAUSE_CHECK);
        [rules, pause].into_iter().flatten().min()
    }

    fn announce(&self, rule: &str, transitions: Vec<Transition>, cause: Option<Instant>) {
        if transitions.is_empty() {
            return;
        }
        // The air first: everything else can wait.
        self.wish(cause);
        let past = transitions.into_iter().map(|transition| Past { rule: rule.to_owned(), transition });
        self.untold.borrow_mut().extend(past);
        self.to_tell.notify_one();
    }

    /// Tells of transitions for ever, each once hostapd has been told.
    pub async fn tell(self: Rc<Self>) {
        loop {
            self.to_tell.notified().await;
            let _ = timeout(TELL_PATIENCE, self.switch.carried_out()).await;
            self.tell_all();
        }
    }

    /// Log, alerts, events, hooks and history, for every transition nobody knows of yet.
    pub fn tell_all(&self) {
        loop {
            let Some(past) = self.untold.borrow_mut().pop_front() else { break };
            self.tell_of(&past);
            let mut history = self.history.borrow_mut();
            if history.len() == HISTORY {
                history.pop_front();
            }
            history.push_back(past);
        }
        self.changed.notify_one();
    }

    fn tell_of(&self, Past { rule, transition }: &Past) {
        log::info!("{rule}: {} -> {}: {}", transition.from, transition.to, transition.reason);
        let mut engines = self.engines.borrow_mut();
        if let Some(engine) = engines.iter_mut().find(|engine| engine.config.name == *rule) {
            announce::alert(engine, transition, &self.alert_handle);
        }
        drop(engines);
        if transition.to.is_up() {
            self.alerts.connectivity_returned();
        }
        if let Some(events) = &*self.events.borrow() {
            events.emit(
                "dynapoint.transition",
                json!({
                    "rule": rule,
                    "from": transition.from.word(),
                    "state": transition.to.word(),
                    "reason": transition.reason,
                    "lasted": transition.lasted.as_secs_f64(),
                }),
            );
        }
        hooks::run(self.hook(), &self.bus, rule, transition);
    }

    fn hook(&self) -> Option<PathBuf> {
        self.configuration.borrow().current().and_then(|config| config.hook.clone())
    }

    /// Tells the switch what is wanted.
    pub fn wish(&self, cause: Option<Instant>) {
        self.update_pause();
        let wishes = Wishes { aps: self.wishes(), paused: self.pause.borrow().clone() };
        self.switch.wish(wishes, cause);
    }

    /// What is wanted of every access point, by the states of the rules.
    fn wishes(&self) -> Vec<(ManagedAp, Wish, Moment)> {
        let configuration = self.configuration.borrow();
        let Some(config) = configuration.current() else { return Vec::new() };
        let engines = self.engines.borrow();
        let engine = |name: &str| engines.iter().find(|engine| engine.config.name == name);
        let state = |name: &str| engine(name).map(|engine| rule_state(engine, config));
        let mut all: Vec<(ManagedAp, Wish, Moment)> = config
            .access_points
            .iter()
            .map(|managed| {
                let wished = wish(&managed.conditions, state, || Wish::On(self.name_of(managed, config)));
                let kept = config.keep_ap.as_deref() == Some(managed.ap.section.as_str());
                let wished =
                    if kept && wished == Wish::Off { Wish::On(managed.ap.ssid.clone()) } else { wished };
                let grace = managed.conditions.iter().filter_map(|condition| {
                    let engine = engine(&condition.rule)?;
                    let since = engine.rule()?.since();
                    (!engine.config.client_grace.is_zero()).then(|| since + engine.config.client_grace)
                });
                (managed.clone(), wished, grace.max().unwrap_or_default())
            })
            .collect();
        let released = self.released.borrow();
        all.extend(released.iter().map(|managed| (managed.clone(), Wish::Configured, Moment::ZERO)));
        all
    }

    fn name_of(&self, managed: &ManagedAp, config: &Config) -> Ssid {
        let template = managed
            .conditions
            .iter()
            .filter(|condition| condition.is_special())
            .find_map(|condition| config.rule(&condition.rule)?.template.as_deref());
        let Some(template) = template else { return managed.ap.ssid.clone() };
        let host = config.host_name.clone().or_else(host_name).unwrap_or_default();
        let ssid = managed.ap.ssid.to_string();
        let mac = self.switch.mac_address(&managed.ap.section);
        render(template, Names { ssid: &ssid, host: &host, mac })
    }

    /// Looks for reasons not to switch anything now; says whether that changed.
    fn update_pause(&self) -> bool {
        let delay = self.configuration.borrow().current().map_or(Duration::ZERO, |config| config.boot_delay);
        let reason = upgrade_under_way().or_else(|| {
            if delay.is_zero() {
                return None;
            }
            let reason = format!("the router booted less than {} ago", openwrt::uci::format_duration(delay));
            (uptime()? < delay).then_some(reason)
        });
        let changed = *self.pause.borrow() != reason;
        if changed {
            match &reason {
                Some(reason) => log::info!("access points are left alone: {reason}"),
                None => log::info!("access points are switched again"),
            }
            *self.pause.borrow_mut() = reason;
        }
        changed
    }

    /// Why nothing is switched now.
    pub fn pause(&self) -> Option<String> {
        self.pause.borrow().clone()
    }
}

fn rule_state(engine: &Engine, config: &Config) -> RuleState {
    let portal = config.rule(&engine.config.name).map_or(PortalMeaning::Offline, |rule| rule.demand.portal);
    let state = if config.enabled { engine.state() } else { State::Disabled };
    RuleState { state, portal }
}

fn upgrade_under_way() -> Option<String> {
    UPGRADE_MARKS.iter().find_map(|mark| {
        let age = std::fs::metadata(mark).ok()?.modified().ok()?.elapsed().unwrap_or_default();
        (age < UPGRADE_PATIENCE).then(|| format!("an upgrade is under way ({mark})"))
    })
}

fn uptime() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    let seconds: f64 = text.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

fn host_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(text.trim().to_owned()).filter(|name| !name.is_empty())
}
