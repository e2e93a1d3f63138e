// SPDX-License-Identifier: Apache-2.0
//! Keeps paths and kernel in line: which device and address a path has, the kernel's MPTCP endpoints and limits, a
//! routing table per path, and the probes.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use openwrt::netlink::{self, Address, Connection, Link, Monitor, NextHop, Prefix, Route, Rule, Topics};
use openwrt::task::spawn;
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until};

use super::health::State;
use super::pm::{Endpoint, PathManager, BACKUP, SUBFLOW};
use super::{Path, Paths, Standing};
use crate::config::Role;
use crate::connections::{Connection as Relayed, Connections};
use crate::interfaces::Devices;
use crate::net;
use crate::session::PROBE_LENGTH;
use crate::sys;
use crate::upstream::Upstream;

/// Our rules, just behind the one for intercepted packets.
const RULE_PRIORITY: u32 = 910;
const EEXIST: i32 = 17;
/// Traffic counts as going on this long after the last connection has ended.
const AFTERGLOW: Duration = Duration::from_secs(5);
/// Changes that come together are handled together.
const SETTLE: Duration = Duration::from_millis(20);
/// A path over which a connection heard of the far end within this time (ms) is not dead, whatever became of its probes.
const HEARD: u32 = 100;
/// The kernel's tables are compared at least this often, in case a change was made behind our back.
const RESYNC: Duration = Duration::from_secs(60);
/// How soon it is looked again whether an endpoint that had to stay can go: at first, and later.
const POSTPONED: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// Seconds for which the kernel gives up MPTCP after packets were lost; 0 is never. Kernels before 6.12 have no such
/// thing.
pub const BLACKHOLE_TIMEOUT: &str = "/proc/sys/net/mptcp/blackhole_timeout";

/// Asks which devices the interfaces have now.
pub type FindDevices = Rc<dyn Fn() -> std::pin::Pin<Box<dyn std::future::Future<Output = Devices>>>>;

/// The part that acts.
pub struct Manager {
    paths: Rc<Paths>,
    connections: Rc<Connections>,
    /// Endpoints are of use for the families of these.
    servers: RefCell<Vec<IpAddr>>,
    /// The servers to probe, in order of priority.
    upstreams: RefCell<Vec<Rc<Upstream>>>,
    /// Tables of paths begin behind this number.
    table: RefCell<u32>,
    /// Addresses we made endpoints of, also before a crash.
    ours: RefCell<BTreeSet<IpAddr>>,
    record: PathBuf,
    probers: RefCell<Vec<Prober>>,
    number: std::cell::Cell<u64>,
    last_active: std::cell::Cell<Option<Instant>>,
    find_devices: FindDevices,
    /// An endpoint has to go and cannot yet; the pause before the next look.
    postponed: std::cell::Cell<Option<Duration>>,
    /// Told of every change of links and addresses.
    pub network_changed: tokio::sync::Notify,
}

/// A path, the addresses it is probed from, and the task that does it.
type Prober = (Rc<Path>, [Option<IpAddr>; 2], JoinHandle<()>);

impl Manager {
    /// Manages nothing before [`Manager::run`]. `record` remembers our endpoints over a crash.
    pub fn new(
        paths: Rc<Paths>,
        connections: Rc<Connections>,
        record: PathBuf,
        find_devices: FindDevices,
    ) -> Rc<Self> {
        let ours = std::fs::read_to_string(&record).unwrap_or_default();
        let ours = ours.lines().filter_map(|line| line.parse().ok()).collect();
        Rc::new(Manager {
            paths,
            connections,
            servers: RefCell::default(),
            upstreams: RefCell::default(),
            table: RefCell::new(0),
            ours: RefCell::new(ours),
            record,
            probers: RefCell::default(),
            number: std::cell::Cell::new(0),
            last_active: std::cell::Cell::new(None),
            find_devices,
            postponed: std::cell::Cell::new(None),
            network_changed: tokio::sync::Notify::new(),
        })
    }

    /// The addresses of the servers and where tables begin; makes kernel and paths agree at once, because a
    /// connection that begins before there are endpoints stays on its first path.
    pub fn prepare(&self, servers: Vec<IpAddr>, table: u32, devices: &Devices) {
        if !servers.is_empty() {
            forget_blackholes();
        }
        self.servers.replace(servers);
        if *self.table.borrow() != table {
            // What we put there lies in the tables of the old number.
            self.remove_routing();
        }
        self.table.replace(table);
        if let Err(error) = self.find_addresses(devices).and_then(|()| self.route()) {
            log::warn!("paths: {error}");
        }
        self.endpoints();
    }

    /// The servers to probe, in order of priority.
    pub fn probe_servers(&self, upstreams: Vec<Rc<Upstream>>) {
        self.upstreams.replace(upstreams);
        self.paths.changed.notify_one();
    }

    /// Manages for ever.
    pub async fn run(self: Rc<Self>) {
        let mut monitor = Monitor::new(Topics { rules: false, ..Topics::NETWORK }).ok();
        loop {
            self.synchronise().await;
            let network = async {
                match &mut monitor {
                    Some(monitor) => {
                        let _ = monitor.next().await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = network => {
                    sleep(SETTLE).await;
                    self.network_changed.notify_one();
                }
                () = self.paths.changed.notified() => {}
                () = sleep(self.postponed.get().unwrap_or(RESYNC)) => {
                    if self.postponed.get().is_some() {
                        self.endpoints();
                        continue;
                    }
                }
            }
            if let Some(monitor) = &mut monitor {
                // What else has come in the meantime is covered by the dump that follows.
                while tokio::time::timeout(Duration::ZERO, monitor.next()).await.is_ok() {}
            }
        }
    }

    /// Makes kernel and paths agree, once.
    pub async fn synchronise(self: &Rc<Self>) {
        let devices = (self.find_devices)().await;
        if let Err(error) = self.find_addresses(&devices) {
            log::warn!("paths: {error}");
        }
        if let Err(error) = self.route() {
            log::warn!("routing of paths: {error}");
        }
        self.endpoints();
        self.start_probers();
        let silent = self.paths.all_silent();
        for upstream in &*self.upstreams.borrow() {
            if silent {
                // Full paths swallow probes too: a connection has to tell.
                upstream.doubt(Duration::ZERO);
            }
        }
    }

    /// Switches a path on or off.
    pub fn switch(&self, path: &Path, off: bool) {
        path.off.set(off);
        path.health.borrow_mut().restart(Instant::now());
        path.changed.notify_one();
        if off {
            for address in path.addresses.get().into_iter().flatten() {
                self.upstreams.borrow().iter().for_each(|upstream| upstream.forget_path(address));
            }
        }
        self.endpoints();
        self.paths.changed.notify_one();
    }

    /// Removes what we put into the kernel.
    pub fn take_down(&self) {
        self.probers.borrow_mut().drain(..).for_each(|(_, _, task)| task.abort());
        if let Ok(mut manager) = PathManager::open() {
            for endpoint in manager.endpoints().unwrap_or_default() {
                if self.ours.borrow().contains(&endpoint.address) {
                    let _ = manager.delete(&endpoint);
                }
            }
        }
        self.ours.borrow_mut().clear();
        let _ = std::fs::remove_file(&self.record);
        self.remove_routing();
    }

    fn remove_routing(&self) {
        if let Ok(mut connection) = Connection::route() {
            let _ = self.unroute(&mut connection, &[]);
        }
    }

    fn find_addresses(&self, devices: &Devices) -> Result<(), netlink::Error> {
        let mut connection = Connection::route()?;
        let links = connection.links()?;
        let addresses = connection.addresses()?;
        for path in self.paths.all() {
            let interface = path.config.interface.as_deref();
            let device = interface
                .and_then(|interface| devices.of_interface(interface))
                .or(path.config.device.as_deref());
            let link = device.and_then(|device| links.iter().find(|link| link.name == device));
            let before = (path.link.get(), path.addresses.get());
            path.device.replace(link.map(|link| link.name.clone()));
            path.link.set(link.is_some_and(|link| link.is_up() && link.has_carrier()));
            path.addresses.set(link.map_or([None, None], |link| addresses_of(link, &addresses)));
            let after = (path.link.get(), path.addresses.get());
            if before != after {
                path.health.borrow_mut().restart(Instant::now());
                path.changed.notify_one();
                let gone = if after.0 {
                    before.1.iter().flatten().find(|old| !after.1.contains(&Some(**old))).copied()
                } else {
                    before.1.iter().flatten().next().copied()
                };
                if let Some(gone) = gone {
                    self.upstreams.borrow().iter().for_each(|upstream| upstream.forget_path(gone));
                }
                log::info!("path {}: {}", path.config.name, path.standing().reason());
            }
        }
        Ok(())
    }

    /// A table per path with the default route of its device, and a rule for packets from its address; not where
    /// there is a rule for that address already, such as netifd's.
    fn route(&self) -> Result<(), netlink::Error> {
        let base = *self.table.borrow();
        if base == 0 {
            return Ok(());
        }
        let mut connection = Connection::route()?;
        let links = connection.links()?;
        let routes = connection.routes()?;
        let rules = connection.rules()?;
        let mut wanted = Vec::new();
        for (index, path) in (1u32..).zip(self.paths.all()) {
            let device = path.device.borrow().clone();
            let link = device.and_then(|device| links.iter().find(|link| link.name == device));
            let Some(link) = link.filter(|_| path.config.source_routing && path.link.get()) else { continue };
            for address in path.addresses.get().into_iter().flatten() {
                let foreign = rules.iter().any(|rule| {
                    rule.priority != RULE_PRIORITY
                        && rule.source.is_some_and(|source| source == Prefix::host(address))
                });
                if foreign {
                    continue;
                }
                let Some(default) = default_route(&routes, link.index, address.is_ipv6()) else { continue };
                let table = base + index;
                wanted.push((address, table));
                let on_link = routes.iter().filter(|route| {
                    route.table == Route::MAIN
                        && route.destination.length > 0
                        && route.destination.address.is_ipv6() == address.is_ipv6()
                        && route.next_hops.iter().any(|hop| hop.link == link.index && hop.gateway.is_none())
                });
                for route in on_link {
                    let own =
                        Route { metric: 0, ..Route::unicast(route.destination, table, route.next_hops[0]) };
                    add_missing(&mut connection, &routes, &own)?;
                }
                let any = if address.is_ipv6() { Prefix::ANY_V6 } else { Prefix::ANY_V4 };
                add_missing(&mut connection, &routes, &Route::unicast(any, table, default))?;
                match connection.add_rule(&rule(address, table)) {
                    Err(error) if error.errno() != Some(EEXIST) => return Err(error),
                    _ => {}
                }
            }
        }
        self.unroute(&mut connection, &wanted)
    }

    /// Removes our rules but these, and their tables' default routes.
    fn unroute(&self, connection: &mut Connection, kept: &[(IpAddr, u32)]) -> Result<(), netlink::Error> {
        let base = *self.table.borrow();
        if base == 0 {
            // Without a client half no table is ours, least of all `main` and `local`.
            return Ok(());
        }
        let ours = base + 1..base + 1000;
        for rule in connection.rules()? {
            let Some(source) = rule.source else { continue };
            if rule.priority != RULE_PRIORITY || !ours.contains(&rule.table) {
                continue;
            }
            if kept.contains(&(source.address, rule.table)) {
                continue;
            }
            connection.delete_rule(&rule)?;
        }
        for route in connection.routes()? {
            let kept = kept.iter().any(|(address, table)| {
                *table == route.table && address.is_ipv6() == route.destination.address.is_ipv6()
            });
            if ours.contains(&route.table) && !kept {
                // It may have gone with its device in the meantime.
                let _ = connection.delete_route(&route);
            }
        }
        Ok(())
    }

    /// Endpoints for the paths that carry packets, no others of ours.
    fn endpoints(&self) {
        let ipv6: Vec<bool> = self.servers.borrow().iter().map(IpAddr::is_ipv6).collect();
        let Ok(mut manager) = PathManager::open() else { return };
        let mut wanted = Vec::new();
        for path in self.paths.all() {
            if !path.standing().is_usable() {
                continue;
            }
            let backup = if path.config.role == Role::Backup { BACKUP } else { 0 };
            for address in path.addresses.get().into_iter().flatten() {
                if ipv6.contains(&address.is_ipv6()) {
                    wanted.push(Endpoint { address, id: 0, flags: SUBFLOW | backup, link: 0 });
                }
            }
        }
        let mut postponed = false;
        let result = manager.endpoints().and_then(|present| {
            for endpoint in &present {
                let kept = wanted
                    .iter()
                    .any(|wanted| wanted.address == endpoint.address && wanted.flags == endpoint.flags);
                if kept || !self.ours.borrow().contains(&endpoint.address) {
                    continue;
                }
                if self.is_last_leg(endpoint.address) {
                    postponed = true;
                    continue;
                }
                if self.ours.borrow_mut().remove(&endpoint.address) {
                    manager.delete(endpoint)?;
                }
            }
            for endpoint in &wanted {
                let same = |present: &&Endpoint| {
                    present.address == endpoint.address && present.flags == endpoint.flags
                };
                if present.iter().any(|present| same(&present)) {
                    continue;
                }
                match manager.add(endpoint) {
                    Ok(()) => drop(self.ours.borrow_mut().insert(endpoint.address)),
                    // Somebody else's endpoint of the same address does the same for us.
                    Err(error) if error.errno() == Some(EEXIST) => {}
                    Err(error) => return Err(error),
                }
            }
            manager.allow_subflows(u32::try_from(wanted.len()).unwrap_or(1))
        });
        if let Err(error) = result {
            log::warn!("MPTCP endpoints: {error}");
        }
        let pause = self.postponed.get().map_or(POSTPONED.0, |pause| (pause * 2).min(POSTPONED.1));
        if self.postponed.replace(postponed.then_some(pause)).is_none() && postponed {
            self.paths.changed.notify_one();
        }
        let ours: String = self.ours.borrow().iter().map(|address| format!("{address}\n")).collect();
        if std::fs::read_to_string(&self.record).unwrap_or_default() != ours {
            if let Err(error) = std::fs::write(&self.record, ours) {
                log::warn!("{}: {error}", self.record.display());
            }
        }
    }

    /// Whether connections receive anything over this path.
    fn carries(&self, path: &Path) -> bool {
        let hears = |subflow: &sys::Subflow| {
            subflow.established && subflow.silent_ms < HEARD && path.has(subflow.local.ip())
        };
        self.connections.list().iter().any(|connection| {
            let tunnel = connection.tunnel.borrow();
            let subflows = tunnel.as_ref().and_then(|tunnel| sys::subflows(tunnel.as_ref()).ok());
            subflows.is_some_and(|subflows| subflows.iter().any(hears))
        })
    }

    /// Whether a connection would be left without any subflow if those of this address were closed. The kernel ends it
    /// at once then when one direction has ended already, and it cannot go on in any case before another is made. One
    /// that awaits the answer to its request counts, too: the server may have acted on it, and answers it once.
    fn is_last_leg(&self, address: IpAddr) -> bool {
        let stands_on_it_alone = |tunnel: &Rc<TcpStream>| {
            let Ok(subflows) = sys::subflows(tunnel.as_ref()) else { return false };
            let stands_on = |subflow: &sys::Subflow| !subflow.closed && subflow.local.ip() == address;
            subflows.iter().any(stands_on)
                && !subflows.iter().any(|subflow| subflow.established && !stands_on(subflow))
        };
        let open =
            |connection: &Rc<Relayed>| connection.tunnel.borrow().as_ref().is_some_and(stands_on_it_alone);
        self.connections.list().iter().any(open)
            || self.upstreams.borrow().iter().any(|upstream| upstream.asking.any(stands_on_it_alone))
    }

    fn start_probers(self: &Rc<Self>) {
        let paths = self.paths.all();
        let mut probers = self.probers.borrow_mut();
        probers.retain(|(path, addresses, task)| {
            let kept =
                paths.iter().any(|known| Rc::ptr_eq(known, path)) && path.addresses.get() == *addresses;
            if !kept {
                task.abort();
            }
            kept
        });
        for path in paths {
            if path.config.role == Role::Off || probers.iter().any(|(known, ..)| Rc::ptr_eq(known, &path)) {
                continue;
            }
            let task = spawn(self.clone().probe(path.clone()));
            let addresses = path.addresses.get();
            probers.push((path, addresses, task));
        }
    }

    /// Probes one path for ever.
    async fn probe(self: Rc<Self>, path: Rc<Path>) {
        let mut socket: Option<(SocketAddr, UdpSocket)> = None;
        let mut datagram = [0; PROBE_LENGTH + 1];
        loop {
            let Some(upstream) = self.probed() else {
                sleep(Duration::from_millis(200)).await;
                continue;
            };
            let remote = upstream.config.address;
            let local = path.address(remote.is_ipv6());
            let Some(local) = local.filter(|_| path.link.get() && !path.off.get()) else {
                path.changed.notified().await;
                continue;
            };
            if socket.as_ref().is_none_or(|(known, _)| *known != remote) {
                socket = probe_socket(&path, local, remote).map(|socket| (remote, socket));
            }
            let now = Instant::now();
            let (due, deadline) = {
                let health = path.health.borrow();
                (health.due(self.is_active(now), now), health.deadline())
            };
            if due <= now {
                self.number.set(self.number.get() + 1);
                let number = self.number.get();
                if let (Some(probe), Some((_, socket))) = (upstream.probe(number), &socket) {
                    // Past the runtime, which does not know yet that a new socket is ready.
                    if let Err(error) = socket2::SockRef::from(socket).send(&probe) {
                        log::trace!("path {}: a probe could not be sent: {error}", path.config.name);
                    }
                }
                path.health.borrow_mut().sent(number, now);
                continue;
            }
            let wake = deadline.map_or(due, |deadline| deadline.min(due));
            let received = async {
                match &socket {
                    Some((_, socket)) => socket.recv(&mut datagram).await,
                    None => std::future::pending().await,
                }
            };
            let changed = tokio::select! {
                received = received => match received {
                    Ok(length) => upstream.read_probe_answer(&datagram[..length]).and_then(|number| {
                        upstream.hear();
                        path.health.borrow_mut().answered(number, Instant::now())
                    }),
                    // ICMP errors say no more than the silence does.
                    Err(_) => None,
                },
                () = sleep_until(wake.into()) => {
                    path.health.borrow_mut().tick(Instant::now(), || self.carries(&path))
                }
                () = path.changed.notified() => None,
                // An idle probe may be far away.
                () = self.paths.traffic.notified() => None,
            };
            if let Some(state) = changed {
                self.changed(&path, state);
            }
        }
    }

    fn changed(&self, path: &Path, state: State) {
        match state {
            State::Up => log::info!("path {}: {}", path.config.name, Standing::Up.reason()),
            State::Unknown => {}
            State::Down => {
                log::warn!("path {}: {}", path.config.name, Standing::Silent.reason());
                for address in path.addresses.get().into_iter().flatten() {
                    self.upstreams.borrow().iter().for_each(|upstream| upstream.forget_path(address));
                }
            }
        }
        // At once: every millisecond of a dead path stalls transfers.
        self.endpoints();
        self.paths.changed.notify_one();
    }

    /// The first server that gave us a ticket.
    fn probed(&self) -> Option<Rc<Upstream>> {
        let upstreams = self.upstreams.borrow();
        let up = upstreams.iter().find(|upstream| upstream.state() == crate::upstream::State::Up);
        up.or_else(|| upstreams.first()).filter(|upstream| upstream.probe(0).is_some()).cloned()
    }

    fn is_active(&self, now: Instant) -> bool {
        if !self.connections.is_empty() {
            self.last_active.set(Some(now));
        }
        self.last_active.get().is_some_and(|last| now.saturating_duration_since(last) < AFTERGLOW)
    }
}

/// Whether MPTCP passes is known for each path ([`super::blocked`]); the kernel would give it up on all of them.
fn forget_blackholes() {
    let now = std::fs::read_to_string(BLACKHOLE_TIMEOUT).unwrap_or_default();
    if now.trim() == "0" || now.is_empty() {
        return;
    }
    if let Err(error) = std::fs::write(BLACKHOLE_TIMEOUT, "0") {
        log::warn!(
            "{BLACKHOLE_TIMEOUT}: {error}: a path that is silent for 3 s may cost MPTCP on all of them"
        );
    }
}

/// Adds a route that is not there: adding one again would be reported to ourselves as a change.
fn add_missing(connection: &mut Connection, routes: &[Route], route: &Route) -> Result<(), netlink::Error> {
    let present = routes.iter().any(|present| {
        present.table == route.table
            && present.destination == route.destination
            && present.next_hops == route.next_hops
    });
    if present {
        return Ok(());
    }
    connection.add_route(route)
}

fn rule(address: IpAddr, table: u32) -> Rule {
    Rule { source: Some(Prefix::host(address)), ..Rule::lookup(address.is_ipv6(), RULE_PRIORITY, table) }
}

/// The usable addresses of a link, the global ones of each family first seen.
fn addresses_of(link: &Link, addresses: &[Address]) -> [Option<IpAddr>; 2] {
    let usable = |ipv6: bool| {
        addresses
            .iter()
            .filter(|address| address.link == link.index && address.scope == 0 && address.is_usable())
            .map(|address| address.prefix.address)
            .find(|address| address.is_ipv6() == ipv6)
    };
    [usable(false), usable(true)]
}

/// How the device reaches the rest of the world, by the routes of the main table.
fn default_route(routes: &[Route], link: u32, ipv6: bool) -> Option<NextHop> {
    let mut fitting: Vec<&Route> = routes
        .iter()
        .filter(|route| {
            route.table == Route::MAIN && route.is_default() && route.destination.address.is_ipv6() == ipv6
        })
        .filter(|route| route.next_hops.iter().any(|hop| hop.link == link))
        .collect();
    fitting.sort_by_key(|route| route.metric);
    fitting.first()?.next_hops.iter().find(|hop| hop.link == link).copied()
}

fn probe_socket(path: &Path, local: IpAddr, remote: SocketAddr) -> Option<UdpSocket> {
    let socket = net::udp_socket(SocketAddr::new(local, 0)).ok()?;
    let socket = UdpSocket::from_std(socket.into()).ok()?;
    if let Some(device) = &*path.device.borrow() {
        let _ = socket2::SockRef::from(&socket).bind_device(Some(device.as_bytes()));
    }
    socket2::SockRef::from(&socket).connect(&remote.into()).ok()?;
    Some(socket)
}
