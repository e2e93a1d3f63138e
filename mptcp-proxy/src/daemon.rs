// SPDX-License-Identifier: Apache-2.0
//! The daemon: from a configuration to running halves, and from one configuration to the next.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use openwrt::netlink::Prefix;
use openwrt::reload::{Configuration, Outcome, Reading};
use openwrt::task::spawn;
use openwrt::uci::{self, Problems};
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::config::{self, Config, Mode, PACKAGE};
use crate::connections::Connections;
use crate::datagram::Datagrams;
use crate::intercept::{self, Interception};
use crate::interfaces::Interfaces;
use crate::net;
use crate::packet::entry::Entry;
use crate::packet::exit::Exit;
use crate::path::manager::Manager;
use crate::path::Paths;
use crate::server::Server;
use crate::splice;
use crate::udp::{dns, resolver};
use crate::upstream::Upstream;

/// Open connections may go on this long after SIGTERM.
const GRACE: Duration = Duration::from_millis(1500);
/// Then their tasks have this long to reset both sides.
const RESETS: Duration = Duration::from_millis(200);
const SWEEP: Duration = Duration::from_secs(1);

/// Reads the configuration.
pub fn read(source: &uci::Source) -> Reading<Config> {
    let package = source.load(PACKAGE)?;
    // The network's file is only read for the option `multipath`; a router without one has no such option.
    let network = source.load("network").ok();
    let mut problems = Problems::new();
    let config = Config::read(&package, network.as_ref(), &mut problems);
    Ok((config, problems))
}

/// Everything that runs.
pub struct Daemon {
    source: uci::Source,
    interfaces: Rc<Interfaces>,
    /// Keeps paths and kernel in line.
    pub manager: Rc<Manager>,
    /// The configuration in force.
    pub configuration: RefCell<Configuration<Config>>,
    /// All relayed connections.
    pub connections: Rc<Connections>,
    /// The ways to the servers.
    pub paths: Rc<Paths>,
    /// When it was started.
    pub started: Instant,
    /// Why long transfers are not spliced.
    pub unspliced: Option<String>,
    /// New connections are not taken any more.
    pub draining: Cell<bool>,
    clients: RefCell<Vec<RunningClient>>,
    servers: RefCell<Vec<RunningServer>>,
    exit: RefCell<Option<RunningExit>>,
}

/// Where packets of other protocols go, with the task that brings answers back.
type RunningExit = (Rc<Exit>, Task);

struct RunningClient {
    client: Rc<Client>,
    tasks: Vec<Task>,
    /// Tasks for datagrams and names, and the configuration they were made for.
    datagrams: ((bool, u16), Vec<Task>),
    /// Packets of other protocols, and the task that carries them.
    packets: Option<(Rc<Entry>, Task)>,
    upstreams: Vec<RunningUpstream>,
    /// What the table was made from; `None` while it is not up.
    intercepting: Option<String>,
    /// The domains whose sets are up.
    domains: Option<Vec<String>>,
}

struct RunningUpstream {
    upstream: Rc<Upstream>,
    pool: usize,
    congestion: Option<String>,
    _maintenance: Task,
}

struct RunningServer {
    server: Rc<Server>,
    tasks: Vec<Task>,
}

/// A task that ends with what owns it.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Daemon {
    /// Reads the configuration; nothing runs before [`Daemon::apply`].
    pub fn new(source: uci::Source, ubus: PathBuf, run_dir: &std::path::Path) -> Rc<Self> {
        let configuration = Configuration::boot(read(&source));
        configuration.log();
        let interfaces = Rc::new(Interfaces::new(source.clone(), ubus));
        let paths: Rc<Paths> = Rc::default();
        let connections: Rc<Connections> = Rc::new(Connections::new(paths.clone()));
        let asked = interfaces.clone();
        let find_devices: crate::path::manager::FindDevices = Rc::new(move || {
            let interfaces = asked.clone();
            Box::pin(async move { interfaces.devices().await })
        });
        let unspliced = splice::probe().err().map(|error| error.to_string());
        splice::allow(unspliced.is_none());
        let record = run_dir.join("mptcp-proxy.endpoints");
        let manager = Manager::new(paths.clone(), connections.clone(), record, find_devices);
        Rc::new(Daemon {
            interfaces,
            manager,
            source,
            configuration: RefCell::new(configuration),
            connections,
            paths,
            started: Instant::now(),
            unspliced,
            draining: Cell::new(false),
            clients: RefCell::default(),
            servers: RefCell::default(),
            exit: RefCell::default(),
        })
    }

    /// Where alerts go by the configuration in force, or nowhere.
    pub fn alert_config(&self) -> alerts::Config {
        let configuration = self.configuration.borrow();
        let configured = configuration.current().map(|config| config.alerts.clone());
        configured.unwrap_or_else(|| {
            alerts::Config::read(&mut uci::Reader::new(PACKAGE, None, &mut Problems::new()))
        })
    }

    /// Reads the configuration again; what did not change goes on undisturbed.
    pub async fn reload(&self) -> Outcome {
        let outcome = self.configuration.borrow_mut().reload(read(&self.source));
        self.configuration.borrow().log();
        if outcome == Outcome::Applied {
            self.apply().await;
            log::info!("configuration: applied, open connections go on");
        }
        outcome
    }

    /// Makes what runs match the configuration.
    pub async fn apply(&self) {
        let config = self.configuration.borrow().current().cloned();
        let config = config.filter(|config| config.enabled);
        let pool = config.as_ref().map(|config| config.packet_pool);
        let (clients, servers, paths) =
            config.map(|config| (config.clients, config.servers, config.paths)).unwrap_or_default();
        self.apply_exit(pool.filter(|_| servers.iter().any(|server| server.carries_packets())));
        self.apply_servers(&servers);
        self.paths.configure(if clients.is_empty() { &[] } else { &paths });
        let upstreams = clients.iter().flat_map(|client| &client.upstreams);
        let servers = upstreams.map(|upstream| upstream.address.ip()).collect();
        let table = clients.first().map_or(0, |client| client.route_table);
        self.manager.prepare(servers, table, &self.interfaces.devices().await);
        self.apply_clients(&clients);
        self.manager.probe_servers(self.clients().iter().flat_map(|client| client.upstreams()).collect());
        self.intercept().await;
    }

    fn apply_exit(&self, pool: Option<[Prefix; 2]>) {
        let mut exit = self.exit.borrow_mut();
        if exit.as_ref().is_some_and(|(exit, _)| pool.is_none_or(|[v4, v6]| !exit.has(v4, v6))) {
            if let Some((gone, _)) = exit.take() {
                gone.take_down();
            }
            self.servers().iter().for_each(|server| server.set_packets(None));
        }
        let Some([v4, v6]) = pool.filter(|_| exit.is_none()) else { return };
        match Exit::open(v4, v6) {
            Ok(opened) => *exit = Some((opened.clone(), Task(spawn(opened.run())))),
            Err(error) => log::error!("other protocols cannot be served: {error}"),
        }
    }

    fn apply_servers(&self, wanted: &[Rc<config::Server>]) {
        let mut old = self.servers.take();
        let mut new = Vec::new();
        for config in wanted {
            let same = |running: &RunningServer| {
                let have = running.server.config();
                have.name == config.name && have.listen == config.listen
            };
            if let Some(position) = old.iter().position(same) {
                let running = old.swap_remove(position);
                running.server.reconfigure(config);
                new.push(running);
            }
        }
        drop(old);
        for config in wanted {
            if new.iter().any(|running| running.server.config().name == config.name) {
                continue;
            }
            match start_server(config.clone(), self.connections.clone()) {
                Ok(running) => new.push(running),
                Err(error) => {
                    log::error!("server {}: {} cannot be served: {error}", config.name, config.listen);
                }
            }
        }
        let own = intercept::own_networks().map(|(_, addresses)| addresses).unwrap_or_default();
        let exit = self.exit();
        for running in &new {
            running.server.set_own_addresses(own.clone());
            running.server.set_packets(exit.clone());
        }
        self.servers.replace(new);
    }

    fn apply_clients(&self, wanted: &[Rc<config::Client>]) {
        let mut old = self.clients.take();
        let mut new = Vec::new();
        for config in wanted {
            let same = |running: &RunningClient| {
                let have = running.client.config();
                have.name == config.name && have.mode == config.mode && have.listen_port == config.listen_port
            };
            let Some(position) = old.iter().position(same) else { continue };
            let mut running = old.swap_remove(position);
            running.upstreams = self.upstreams(config, std::mem::take(&mut running.upstreams));
            let upstreams = running.upstreams.iter().map(|running| running.upstream.clone()).collect();
            running.client.reconfigure(config.clone(), upstreams);
            let upstreams = running.client.upstreams();
            match &running.packets {
                Some((packets, _)) if takes_packets(config) => packets.reconfigure(config, upstreams),
                Some(_) => stop_packets(&mut running.packets),
                None => running.packets = self.start_packets(&running.client),
            }
            if running.datagrams.0 != (config.udp, config.dns_port) {
                running.datagrams.1.clear();
                running.datagrams = start_datagrams(&running.client);
            }
            new.push(running);
        }
        for mut gone in old {
            stop_packets(&mut gone.packets);
            if gone.intercepting.is_some() {
                if let Err(error) = intercept::take_down(&gone.client.config()) {
                    log::warn!("client {}: {error}", gone.client.config().name);
                }
            }
        }
        for config in wanted {
            if new.iter().any(|running| running.client.config().name == config.name) {
                continue;
            }
            let upstreams = self.upstreams(config, Vec::new());
            let used = upstreams.iter().map(|running| running.upstream.clone()).collect();
            let client = Client::new(config.clone(), used, self.connections.clone());
            match Client::listen(config) {
                Ok(listeners) => {
                    let run = |listener| Task(spawn(client.clone().run(listener, None)));
                    let tasks = listeners.into_iter().map(run).collect();
                    let datagrams = start_datagrams(&client);
                    let packets = self.start_packets(&client);
                    new.push(RunningClient {
                        client,
                        tasks,
                        datagrams,
                        packets,
                        upstreams,
                        intercepting: None,
                        domains: None,
                    });
                }
                Err(error) => {
                    log::error!(
                        "client {}: port {} cannot be served: {error}",
                        config.name,
                        config.listen_port
                    );
                }
            }
        }
        self.clients.replace(new);
    }

    fn start_packets(&self, client: &Rc<Client>) -> Option<(Rc<Entry>, Task)> {
        let config = client.config();
        if !takes_packets(&config) || self.draining.get() {
            return None;
        }
        match Entry::open(config.clone(), client.upstreams(), self.connections.clone()) {
            Ok(entry) => Some((entry.clone(), Task(spawn(entry.run())))),
            Err(error) => {
                log::error!("client {}: other protocols cannot be taken: {error}", config.name);
                None
            }
        }
    }

    fn upstreams(&self, config: &config::Client, mut old: Vec<RunningUpstream>) -> Vec<RunningUpstream> {
        let mut new = Vec::new();
        for wanted in &config.upstreams {
            let same = |running: &RunningUpstream| {
                running.upstream.config == *wanted
                    && running.pool == config.pool
                    && running.congestion == config.congestion
            };
            if let Some(position) = old.iter().position(same) {
                new.push(old.swap_remove(position));
                continue;
            }
            let congestion = config.congestion.clone();
            let upstream = Upstream::new(wanted.clone(), config.pool, congestion.clone(), self.paths.clone());
            let maintenance = Task(spawn(upstream.clone().maintain()));
            new.push(RunningUpstream { upstream, pool: config.pool, congestion, _maintenance: maintenance });
        }
        new
    }

    /// Puts up the interception for what is configured and for the devices there are now.
    pub async fn intercept(&self) {
        let (own, addresses) = match intercept::own_networks() {
            Ok(found) => found,
            Err(error) => return log::warn!("addresses of this router: {error}"),
        };
        for running in &*self.servers.borrow() {
            running.server.set_own_addresses(addresses.clone());
        }
        let devices = self.interfaces.devices().await;
        for running in &mut *self.clients.borrow_mut() {
            let config = running.client.config();
            if config.mode == Mode::Socks || self.draining.get() {
                continue;
            }
            if running.domains.as_ref() != Some(&config.bypass_domains) {
                match intercept::put_up_domains(&config, running.domains.is_some()) {
                    Ok(()) => running.domains = Some(config.bypass_domains.clone()),
                    Err(error) => log::error!("client {}: domains: {error}", config.name),
                }
            }
            let devices = devices.of_client(&config);
            let own: Vec<Prefix> = own.clone();
            let interception = Interception { client: &config, devices: &devices, own: &own };
            let script = interception.script(false);
            if devices.is_empty() {
                log::warn!("client {}: none of its interfaces has a device yet", config.name);
                continue;
            }
            if let Some((packets, _)) = &running.packets {
                packets.set_network(&devices, &own);
            }
            if running.intercepting.as_ref() == Some(&script) {
                continue;
            }
            match interception.put_up() {
                Ok(()) => {
                    log::info!("client {}: taking the traffic of {}", config.name, devices.join(", "));
                    running.intercepting = Some(script);
                }
                Err(error) => log::error!("client {}: traffic cannot be taken: {error}", config.name),
            }
        }
    }

    /// Stops taking new connections; open ones go on.
    pub fn drain(&self) {
        self.draining.set(true);
        for running in &mut *self.clients.borrow_mut() {
            let config = running.client.config();
            if running.intercepting.is_some() {
                let interception = Interception { client: &config, devices: &[], own: &[] };
                if let Err(error) = intercept::nft(&interception.script(true)) {
                    log::warn!("client {}: {error}", config.name);
                }
            }
            if config.mode == Mode::Socks {
                running.tasks.clear();
            }
            stop_packets(&mut running.packets);
        }
    }

    /// Follows the addresses of this router with the interception, for ever.
    pub async fn follow_network(self: Rc<Self>) {
        loop {
            self.manager.network_changed.notified().await;
            self.intercept().await;
        }
    }

    /// Ends what is overdue, for ever.
    pub async fn sweep(self: Rc<Self>) {
        loop {
            tokio::time::sleep(SWEEP).await;
            let limits = {
                let (clients, servers) = (self.clients.borrow(), self.servers.borrow());
                let clients = clients.iter().map(|running| running.client.limits());
                let servers = servers.iter().map(|running| running.server.limits());
                clients.chain(servers).reduce(crate::connections::Limits::loosest)
            };
            if let Some(limits) = limits {
                self.connections.sweep(&limits, |upstream| self.answers(upstream), Instant::now());
            }
        }
    }

    /// Whether the server of this name was heard of lately.
    fn answers(&self, name: &str) -> bool {
        self.clients.borrow().iter().any(|running| {
            let upstreams = running.client.upstreams();
            upstreams.iter().any(|upstream| *upstream.config.name == *name && upstream.answers())
        })
    }

    /// Lets open connections end for a moment, then everything.
    pub async fn stop(&self) {
        self.drain();
        self.servers.borrow_mut().iter_mut().for_each(|running| running.tasks.clear());
        // Packets need no time to end.
        self.apply_exit(None);
        let begun = Instant::now();
        while !self.connections.is_empty() && begun.elapsed() < GRACE {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for connection in self.connections.list() {
            connection.end();
        }
        // The resets need the subflows, which go with the endpoints.
        let begun = Instant::now();
        while !self.connections.is_empty() && begun.elapsed() < RESETS {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for running in &*self.clients.borrow() {
            if running.intercepting.is_some() {
                if let Err(error) = intercept::take_down(&running.client.config()) {
                    log::warn!("client {}: {error}", running.client.config().name);
                }
            }
        }
        self.manager.take_down();
    }

    /// Where packets of other protocols go.
    pub fn exit(&self) -> Option<Rc<Exit>> {
        self.exit.borrow().as_ref().map(|(exit, _)| exit.clone())
    }

    /// What takes packets of other protocols: there is one device for it.
    pub fn entry(&self) -> Option<Rc<Entry>> {
        let clients = self.clients.borrow();
        let found = clients.iter().find_map(|running| running.packets.as_ref());
        found.map(|(entry, _)| entry.clone())
    }

    /// The client halves.
    pub fn clients(&self) -> Vec<Rc<Client>> {
        self.clients.borrow().iter().map(|running| running.client.clone()).collect()
    }

    /// The server halves.
    pub fn servers(&self) -> Vec<Rc<Server>> {
        self.servers.borrow().iter().map(|running| running.server.clone()).collect()
    }
}

fn takes_packets(config: &config::Client) -> bool {
    config.other_protocols && config.mode != Mode::Socks
}

fn stop_packets(packets: &mut Option<(Rc<Entry>, Task)>) {
    if let Some((entry, task)) = packets.take() {
        drop(task);
        entry.take_down();
    }
}

/// Everything of a client half that is not TCP. What cannot be served is said, and the rest goes on.
fn start_datagrams(client: &Rc<Client>) -> ((bool, u16), Vec<Task>) {
    let config = client.config();
    let mut tasks = vec![Task(spawn(client.entry.clone().sweep()))];
    match Client::listen_for_datagrams(&config) {
        Ok(sockets) => {
            tasks.extend(sockets.into_iter().map(|socket| Task(spawn(client.entry.clone().run(socket)))));
        }
        Err(error) => log::error!("client {}: datagrams cannot be taken: {error}", config.name),
    }
    if config.dns_port != 0 {
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), config.dns_port);
        match (net::udp_socket(address), net::listen_plain(address)) {
            (Ok(socket), Ok(listener)) => {
                tasks.push(Task(spawn(dns::run(client.entry.clone(), socket))));
                tasks.push(Task(spawn(client.clone().run(listener, Some(resolver::target())))));
            }
            (Err(error), _) | (_, Err(error)) => {
                log::error!(
                    "client {}: names cannot be served at port {}: {error}",
                    config.name,
                    config.dns_port
                );
            }
        }
    }
    ((config.udp, config.dns_port), tasks)
}

fn start_server(config: Rc<config::Server>, connections: Rc<Connections>) -> io::Result<RunningServer> {
    let listener = net::listen_tunnel(config.listen)?;
    let probes = Datagrams::bind(config.listen)?;
    let server = Server::new(config, connections);
    let tasks =
        vec![Task(spawn(server.clone().run(listener))), Task(spawn(server.clone().run_probes(probes)))];
    Ok(RunningServer { server, tasks })
}
