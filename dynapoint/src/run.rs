// SPDX-License-Identifier: Apache-2.0
//! The main loop: signals, links and routes, netifd and hostapd, checks, time.

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use openwrt::cli::Common;
use openwrt::interfaces;
use openwrt::metrics;
use openwrt::netlink::{Change, Connection, Event, Monitor, Object, Topics};
use openwrt::reload::{self, Configuration, Signal};
use openwrt::task::spawn;
use openwrt::ubus;
use tokio::sync::mpsc;
use tokio::time::{sleep, sleep_until, timeout};

use crate::config::{self, Config};
use crate::daemon::Daemon;
use crate::service;
use crate::uplink::Network;
use crate::wireless::air::Radio;
use crate::wireless::switch::Switch;

/// netifd's interfaces are waited for so long before the first link is judged.
const NETIFD_PATIENCE: Duration = Duration::from_secs(3);
/// Links and routes that could not be read are read again after this.
const READ_AGAIN: Duration = Duration::from_secs(1);
const METRICS_INTERVAL: Duration = Duration::from_secs(15);
/// Of the 2 s that procd grants, what hostapd may take to be put back.
const RESTORE_TIME: Duration = Duration::from_millis(1500);
const GOODBYE_TIME: Duration = Duration::from_millis(300);

/// Runs the daemon until it is told to stop. Must be called within a `LocalSet`.
///
/// # Errors
/// When signals or the service socket cannot be had.
pub async fn run(common: Common) -> io::Result<()> {
    let origin = Instant::now();
    let mut signals = reload::signals()?;
    let configuration = Configuration::boot(config::load(&common.source));
    configuration.log();
    let alerts_config =
        configuration.current().map_or_else(|| Config::empty().alerts, |config| config.alerts.clone());
    let host = configuration.current().and_then(|config| config.host_name.clone()).unwrap_or_default();
    let identity = alerts::Identity { daemon: service::NAME.to_owned(), device_id: host.clone(), host };
    let alerts = alerts::start(alerts_config, identity, &common.run_dir);
    let bus = ubus::Client::connect(&common.ubus);
    let switch = Switch::new(Radio::new(&common.run_dir), bus.clone(), origin);
    let (reports, mut incoming) = mpsc::unbounded_channel();
    let has_ubus = common.ubus.exists();
    let daemon = Daemon::new(common, configuration, Rc::clone(&switch), bus.clone(), origin, alerts, reports);
    let service = service::service(&daemon);
    daemon.set_events(service.events());
    daemon.prepare();
    let running = service.start(&daemon.common.run_dir, &daemon.common.ubus)?;

    let mut watch = Watch::start(&daemon);
    let (found, mut dumps) = mpsc::unbounded_channel();
    if has_ubus {
        let first = timeout(NETIFD_PATIENCE, first_dump(&bus)).await.unwrap_or_default();
        daemon.network.borrow_mut().interfaces = first;
    }
    let teller = spawn(Rc::clone(&daemon).tell());
    let listeners = [
        spawn(follow_interfaces(bus.clone(), found)),
        spawn(follow_hostapd(bus.clone(), Rc::clone(&switch))),
        spawn(write_metrics(Rc::clone(&daemon))),
    ];
    // The names of access points can depend on their devices.
    switch.look().await;
    daemon.start();
    let keeper = spawn(Rc::clone(&switch).run());
    log::info!("started");

    loop {
        let due = daemon.wake_at().map(|at| tokio::time::Instant::from_std(origin + at));
        tokio::select! {
            biased;
            signal = signals.next() => match signal {
                Signal::Reload => { daemon.reload(); }
                Signal::Stop => break,
            },
            event = watch.next() => watch.on_event(&daemon, event),
            Some(interfaces) = dumps.recv() => {
                daemon.network.borrow_mut().interfaces = interfaces;
                daemon.on_network(None);
                switch.moved();
            }
            Some(report) = incoming.recv() => daemon.on_report(report),
            () = daemon.poked.notified() => {}
            () = until(due) => daemon.on_time(),
        }
    }
    listeners.iter().for_each(tokio::task::JoinHandle::abort);
    keeper.abort();
    let _ = keeper.await;
    switch.restore(RESTORE_TIME).await;
    teller.abort();
    daemon.tell_all();
    drop(running);
    if timeout(GOODBYE_TIME, daemon.alerts.flush()).await.is_err() {
        log::warn!("alerts could not be saved in time");
    }
    log::info!("stopped");
    Ok(())
}

async fn until(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Links and routes as the kernel tells them. What could not be read (no descriptor, no memory) is read again.
struct Watch {
    monitor: Option<Monitor>,
    /// When what could not be read is tried again.
    again: Option<tokio::time::Instant>,
}

impl Watch {
    /// Starts to listen, then reads what there is: so nothing in between is missed.
    fn start(daemon: &Daemon) -> Self {
        let mut watch = Self { monitor: None, again: None };
        watch.listen();
        watch.read(daemon, true);
        watch
    }

    fn listen(&mut self) {
        match Monitor::new(Topics { links: true, routes: true, ..Topics::default() }) {
            Ok(monitor) => self.monitor = Some(monitor),
            Err(error) => {
                openwrt::log_repeated!(log::Level::Warn, "links and routes are not watched: {error}");
                self.again = Some(tokio::time::Instant::now() + READ_AGAIN);
            }
        }
    }

    fn read(&mut self, daemon: &Daemon, links: bool) {
        // A later reading of routes alone does not make up for links that could not be read.
        let links = links || self.again.is_some();
        self.again = None;
        if self.monitor.is_none() {
            self.listen();
        }
        if !dump(&mut daemon.network.borrow_mut(), links) {
            self.again = Some(tokio::time::Instant::now() + READ_AGAIN);
        }
    }

    async fn next(&mut self) -> Event {
        let again = self.again;
        let Some(monitor) = &mut self.monitor else {
            until(again).await;
            return Event::Overrun;
        };
        let heard = tokio::select! {
            heard = monitor.next() => heard,
            () = until(again) => return Event::Overrun,
        };
        heard.unwrap_or_else(|error| {
            log::warn!("links and routes are not heard: {error}");
            self.monitor = None;
            Event::Overrun
        })
    }

    fn on_event(&mut self, daemon: &Daemon, event: Event) {
        let read = Instant::now();
        let changed = match event {
            Event::Overrun => {
                self.read(daemon, true);
                daemon.switch.moved();
                true
            }
            Event::Change(Change { removed, object: Object::Link(link) }) => {
                let name = link.name.clone();
                let new = !removed && daemon.network.borrow().link(&name).is_none();
                let changed = if removed {
                    daemon.network.borrow_mut().remove_link(link.index);
                    true
                } else {
                    daemon.network.borrow_mut().set_link(link)
                };
                if changed && daemon.switch.may_concern(&name, new) {
                    daemon.switch.moved();
                }
                changed
            }
            Event::Change(Change { object: Object::Route(route), .. }) if Network::counts(&route) => {
                self.read(daemon, false);
                true
            }
            Event::Change(_) => false,
        };
        if changed {
            daemon.on_network(Some(read));
        }
    }
}

/// Reads routes, and with `links` devices, anew; says whether that worked.
pub(crate) fn dump(network: &mut Network, links: bool) -> bool {
    let read = || -> Result<_, openwrt::netlink::Error> {
        let mut connection = Connection::route()?;
        let found = if links { Some(connection.links()?) } else { None };
        Ok((found, connection.routes()?))
    };
    match read() {
        Ok((found, routes)) => {
            if let Some(found) = found {
                network.links = found;
            }
            network.set_routes(routes);
        }
        Err(error) => {
            openwrt::log_repeated!(log::Level::Warn, "links and routes cannot be read: {error}");
            return false;
        }
    }
    true
}

async fn first_dump(bus: &ubus::Client) -> Vec<interfaces::Interface> {
    const AGAIN: Duration = Duration::from_millis(100);
    loop {
        match interfaces::dump(bus).await {
            Ok(interfaces) => return interfaces,
            Err(ubus::Error::NoObject) => return Vec::new(),
            Err(_) => sleep(AGAIN).await,
        }
    }
}

/// Asks netifd for its interfaces whenever it says that one changed, or comes back itself.
async fn follow_interfaces(bus: ubus::Client, found: mpsc::UnboundedSender<Vec<interfaces::Interface>>) {
    let mut updates = bus.subscribe("network.interface");
    let mut events = bus.listen("network.interface");
    loop {
        tokio::select! {
            update = updates.recv() => match update {
                Some(ubus::Update::Detached) => continue,
                Some(_) => {}
                None => return,
            },
            event = events.recv() => if event.is_none() { return },
        }
        match interfaces::dump(&bus).await {
            Ok(interfaces) => {
                if found.send(interfaces).is_err() {
                    return;
                }
            }
            Err(error) => {
                openwrt::log_repeated!(log::Level::Info, "netifd does not tell its interfaces: {error}");
            }
        }
    }
}

/// hostapd's objects come and go with its BSSes, and it says when it has reloaded one.
async fn follow_hostapd(bus: ubus::Client, switch: Rc<Switch>) {
    let mut updates = bus.subscribe("hostapd");
    let mut objects = bus.listen("ubus.object.*");
    loop {
        tokio::select! {
            update = updates.recv() => match update {
                Some(_) => switch.moved(),
                None => return,
            },
            event = objects.recv() => match event {
                Some(event) => {
                    let path = event.data.get("path").and_then(serde_json::Value::as_str).unwrap_or_default();
                    if path.starts_with("hostapd") || path.starts_with("network.wireless") {
                        switch.moved();
                    }
                }
                None => return,
            },
        }
    }
}

async fn write_metrics(daemon: Rc<Daemon>) {
    loop {
        let directory = Path::new(metrics::DIRECTORY);
        if directory.is_dir() {
            if let Err(error) = service::metrics(&daemon).write(directory, service::NAME) {
                openwrt::log_repeated!(log::Level::Warn, "metrics: {error}");
            }
        }
        tokio::select! {
            () = sleep(METRICS_INTERVAL) => {}
            () = daemon.changed.notified() => {}
        }
    }
}
