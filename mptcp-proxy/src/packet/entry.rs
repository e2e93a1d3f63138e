// SPDX-License-Identifier: Apache-2.0
//! The client half's end: packets of LAN hosts out of the kernel and into the tunnel, and back.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use openwrt::netlink::Prefix;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::ip::Packet;
use super::tun::Tun;
use super::{increment, rules, Counters, Dropped, ADDRESS, CLIENT_DEVICE, ECHO, NOWHERE, PACKET};
use crate::config::{Client, Fallback};
use crate::connections::{Connections, Way};
use crate::early::Early;
use crate::intercept::{self, Interception};
use crate::session;
use crate::socks::{Command, Target};
use crate::udp::carrier::{Carrier, Opened};
use crate::udp::frame::Frame;
use crate::upstream::{State, Upstream};
use crate::wire::Request;

/// How often it is looked whether the server is still the right one and the tunnel still used.
const LOOK: Duration = Duration::from_secs(1);
/// The server has this long to say which addresses we have.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// A server that was asked whether it is still there has this long.
const ECHO_LIMIT: Duration = Duration::from_secs(4);
/// A server that does not carry packets for us is asked again after this.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);

/// What becomes of the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A server carries them.
    Carried,
    /// No server answers.
    NoServer,
    /// The server does not carry them for us.
    Refused,
}

impl Standing {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Standing::Carried => "carried",
            Standing::NoServer => "no_server",
            Standing::Refused => "refused",
        }
    }
}

/// The packets of one client half.
pub struct Entry {
    config: RefCell<Rc<Client>>,
    upstreams: RefCell<Vec<Rc<Upstream>>>,
    connections: Rc<Connections>,
    tun: Tun,
    instance: Box<str>,
    standing: Cell<Standing>,
    /// Our place at the server, and its addresses: IPv4, IPv6.
    place: Cell<u16>,
    addresses: Cell<[Option<IpAddr>; 2]>,
    /// The server has told our addresses on this connection.
    told: Cell<bool>,
    /// When a packet was last sent or delivered, and when anything last came from the server.
    used: Cell<Instant>,
    heard: Cell<Instant>,
    /// There is a new configuration.
    changed: Notify,
    /// Devices of the LAN, and networks of this router's own.
    network: RefCell<(Vec<String>, Vec<Prefix>)>,
    /// What the kernel was told last.
    script: RefCell<Option<String>>,
    /// What happened so far.
    pub counters: Counters,
}

impl Entry {
    /// Makes the device; takes nothing before [`Entry::run`].
    pub fn open(
        config: Rc<Client>,
        upstreams: Vec<Rc<Upstream>>,
        connections: Rc<Connections>,
    ) -> io::Result<Rc<Self>> {
        // After a crash there may be rules of a former configuration.
        intercept::nft(&rules::clear(rules::CLIENT_TABLE))?;
        rules::unroute(&config);
        let tun = Tun::open(CLIENT_DEVICE)?;
        rules::route(&config, tun.index)?;
        let instance = u64::from_ne_bytes(session::random());
        Ok(Rc::new(Entry {
            config: RefCell::new(config),
            upstreams: RefCell::new(upstreams),
            connections,
            tun,
            instance: format!("client-{instance:016x}").into(),
            standing: Cell::new(Standing::NoServer),
            place: Cell::new(0),
            addresses: Cell::default(),
            told: Cell::new(false),
            used: Cell::new(Instant::now()),
            heard: Cell::new(Instant::now()),
            changed: Notify::new(),
            network: RefCell::default(),
            script: RefCell::default(),
            counters: Counters::default(),
        }))
    }

    /// Takes over a new configuration of the same section.
    pub fn reconfigure(&self, config: &Rc<Client>, upstreams: Vec<Rc<Upstream>>) {
        let old = self.config.replace(config.clone());
        self.upstreams.replace(upstreams);
        if (old.mark, old.route_table, old.fallback) != (config.mark, config.route_table, config.fallback) {
            rules::unroute(&old);
            if let Err(error) = rules::route(config, self.tun.index) {
                log::error!("client {}: other protocols: {error}", config.name);
            }
        }
        self.tell_kernel();
        self.changed.notify_one();
    }

    /// The devices of the LAN and the networks of this router are these now.
    pub fn set_network(&self, devices: &[String], own: &[Prefix]) {
        self.network.replace((devices.to_vec(), own.to_vec()));
        self.tell_kernel();
    }

    /// What becomes of the packets.
    pub fn standing(&self) -> Standing {
        self.standing.get()
    }

    /// Our addresses at the server: IPv4, IPv6.
    pub fn addresses(&self) -> [Option<IpAddr>; 2] {
        self.addresses.get()
    }

    /// Leaves the packets alone again.
    pub fn take_down(&self) {
        if let Err(error) = intercept::nft(&rules::clear(rules::CLIENT_TABLE)) {
            log::warn!("other protocols: {error}");
        }
        rules::unroute(&self.config.borrow());
        self.script.replace(None);
    }

    /// Carries packets for ever.
    pub async fn run(self: Rc<Self>) {
        let mut first = None;
        loop {
            let Some(upstream) = self.upstream() else {
                self.enter(Standing::NoServer);
                self.discard(LOOK).await;
                continue;
            };
            self.told.set(false);
            let ended = Box::pin(self.carry(&upstream, first.take())).await;
            let name = &upstream.config.name;
            match ended {
                Ok(()) => first = self.rest(&upstream).await,
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    if self.standing.get() != Standing::Refused {
                        log::warn!(
                            "server {name} does not carry other protocols for us: it needs \
                             `option other_protocols '1'` in our user's section"
                        );
                    }
                    self.enter(Standing::Refused);
                    self.discard(REFUSED_PAUSE).await;
                }
                // A connection that was good is replaced at once, and packets wait for that in the device.
                Err(error) => {
                    log::debug!("other protocols through {name}: {error}");
                    if !self.told.get() {
                        self.enter(Standing::NoServer);
                        self.discard(LOOK).await;
                    }
                }
            }
        }
    }

    /// The first server that may answer.
    fn upstream(&self) -> Option<Rc<Upstream>> {
        self.upstreams.borrow().iter().find(|upstream| upstream.state() != State::Down).cloned()
    }

    fn is_chosen(&self, upstream: &Rc<Upstream>) -> bool {
        self.upstream().is_some_and(|chosen| Rc::ptr_eq(&chosen, upstream))
    }

    fn enter(&self, standing: Standing) {
        if self.standing.replace(standing) != standing {
            log::info!("other protocols: {}", standing.name());
        }
        self.tell_kernel();
    }

    /// Makes the kernel take the packets, or leave them alone.
    fn tell_kernel(&self) {
        let config = self.config.borrow();
        let network = self.network.borrow();
        let takes = self.standing.get() == Standing::Carried || config.fallback == Fallback::Block;
        let wanted = (takes && !network.0.is_empty()).then(|| {
            let interception = Interception { client: &config, devices: &network.0, own: &network.1 };
            rules::client_script(&interception, self.addresses.get())
        });
        if *self.script.borrow() == wanted {
            return;
        }
        let script = wanted.clone().unwrap_or_else(|| rules::clear(rules::CLIENT_TABLE));
        match intercept::nft(&script) {
            Ok(()) => drop(self.script.replace(wanted)),
            Err(error) => {
                openwrt::log_repeated!(
                    log::Level::Error,
                    "client {}: other protocols cannot be taken: {error}",
                    config.name
                );
            }
        }
    }

    /// Drops what comes, for this long or until there is a new configuration.
    async fn discard(&self, time: Duration) {
        let mut drop = |packet: &[u8]| {
            if is_of_lan(packet) {
                self.counters.drop(Dropped::NoTunnel);
            }
            false
        };
        tokio::select! {
            () = self.tun.read(&mut drop) => {}
            () = sleep(time) => {}
            () = self.changed.notified() => {}
        }
    }

    /// Waits until there is a packet to carry or the server is another.
    async fn rest(&self, upstream: &Rc<Upstream>) -> Option<Vec<u8>> {
        let mut first = None;
        let mut keep = |packet: &[u8]| {
            first = is_of_lan(packet).then(|| packet.to_vec());
            first.is_some()
        };
        tokio::select! {
            () = self.tun.read(&mut keep) => {}
            () = async {
                while self.is_chosen(upstream) {
                    sleep(LOOK).await;
                }
            } => {}
        }
        first
    }

    /// Carries packets until none came for a while.
    async fn carry(&self, upstream: &Rc<Upstream>, first: Option<Vec<u8>>) -> io::Result<()> {
        let source = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let target = Target::Name(self.instance.clone(), self.place.get());
        let request = Request { number: session::random(), command: Command::Packets, target, source };
        let nothing = Early::of(Vec::new());
        let accepted = upstream
            .open(&request.write(), &nothing, false)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::NotConnected))?;
        let way = Way::Tunnel(upstream.config.name.clone());
        let guard = self.connections.register(source, Target::Name("packets".into(), 0), way);
        let Opened { carrier, receiver } = Opened::by_us(accepted, upstream.config.cipher, &guard);
        self.used.set(Instant::now());
        if let Some(first) = first {
            self.send(&carrier, &first);
        }
        let mut send = |packet: &[u8]| {
            if is_of_lan(packet) {
                self.send(&carrier, packet);
            }
            false
        };
        let mut deliver = |frame: Frame<'_>| {
            match (frame.flow, &frame.address) {
                (PACKET, _) => self.deliver(frame.payload),
                (ADDRESS, Target::Address(address)) => self.learn(*address),
                // An answer; or of a server that is younger than we are.
                _ => {}
            }
            self.heard.set(Instant::now());
        };
        tokio::select! {
            ended = carrier.run(receiver, &mut deliver) => ended.and(Err(io::ErrorKind::UnexpectedEof.into())),
            () = self.tun.read(&mut send) => Ok(()),
            ended = self.watch(upstream, &carrier) => ended,
        }
    }

    async fn watch(&self, upstream: &Rc<Upstream>, carrier: &Carrier) -> io::Result<()> {
        let begun = Instant::now();
        let idle = self.config.borrow().udp_timeout;
        let mut asked: Option<Instant> = None;
        loop {
            sleep(LOOK).await;
            let heard = self.heard.get();
            asked = asked.filter(|asked| *asked > heard);
            if asked.is_some_and(|asked| asked.elapsed() >= ECHO_LIMIT) {
                // A new connection soon tells whether it is still there.
                return Err(io::ErrorKind::TimedOut.into());
            }
            // There is an answer to most packets, and where there is none it takes a question to tell silence from death.
            if asked.is_none() && self.used.get() > heard && carrier.send(ECHO, &NOWHERE, &[]) {
                asked = Some(Instant::now());
            }
            if !self.told.get() && begun.elapsed() >= ANSWER_LIMIT {
                return Err(io::ErrorKind::TimedOut.into());
            }
            if self.used.get().elapsed() >= idle || !self.is_chosen(upstream) {
                return Ok(());
            }
        }
    }

    /// Our address of one family.
    fn learn(&self, address: SocketAddr) {
        let mut addresses = self.addresses.get();
        let new = Some(address.ip());
        let old = std::mem::replace(&mut addresses[usize::from(address.is_ipv6())], new);
        self.addresses.set(addresses);
        if old != new && address.is_ipv4() {
            if let Some(old) = old {
                // It may have gone by somebody else's hand.
                let _ = self.tun.delete_address(Prefix::host(old));
            }
            if let Err(error) = self.tun.add_address(Prefix::host(address.ip())) {
                log::warn!("other protocols: address {}: {error}", address.ip());
            }
        }
        self.place.set(address.port());
        // The second of the two.
        if address.is_ipv6() {
            self.told.set(true);
            self.enter(Standing::Carried);
        }
    }

    fn send(&self, carrier: &Carrier, packet: &[u8]) {
        self.used.set(Instant::now());
        if carrier.send(PACKET, &NOWHERE, packet) {
            increment(&self.counters.sent);
        } else {
            self.counters.drop(Dropped::Full);
        }
    }

    fn deliver(&self, bytes: &[u8]) {
        self.used.set(Instant::now());
        let Some(packet) = Packet::read(bytes) else { return self.counters.drop(Dropped::Malformed) };
        if packet.is_tcp_or_udp() {
            return self.counters.drop(Dropped::Protocol);
        }
        if !self.addresses.get().contains(&Some(packet.destination)) {
            return self.counters.drop(Dropped::Foreign);
        }
        match self.tun.write(bytes) {
            Ok(()) => increment(&self.counters.received),
            Err(_) => self.counters.drop(Dropped::Device),
        }
    }
}

/// Whether it is a packet of the LAN: the kernel also sends greetings of its own to the device.
fn is_of_lan(packet: &[u8]) -> bool {
    Packet::read(packet).is_some_and(|packet| {
        let link_local = matches!(packet.source, IpAddr::V6(v6) if v6.is_unicast_link_local());
        !packet.source.is_unspecified() && !link_local && !packet.destination.is_multicast()
    })
}
