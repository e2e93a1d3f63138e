// SPDX-License-Identifier: Apache-2.0
//! The client half: LAN connections in, tunnel connections out.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use openwrt::small_map::SmallMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::config::{self, Fallback, Mode};
use crate::connections::{Connections, Limits, Way};
use crate::early::Early;
use crate::net::{self, Outgoing};
use crate::record::Cipher;
use crate::relay::{self, Awaited, Broken, Relay, Shield};
use crate::session::{self, Greeting};
use crate::socks::{self, Command, Reply, Target};
use crate::udp::entry::Entry;
use crate::udp::resolver;
use crate::udp::transparent::Intercepted;
use crate::upstream::{Accepted, State, Upstream};
use crate::wire::Request;

/// A program has this long to say what it wants of the SOCKS5 listener.
const SOCKS_LIMIT: Duration = Duration::from_secs(20);
/// The far end has this long to connect (its own limit is shorter).
const REPLY_LIMIT: Duration = Duration::from_secs(45);
/// A target of a direct connection has this long.
const DIRECT_LIMIT: Duration = Duration::from_secs(60);

/// What happened so far.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections through the tunnel.
    pub tunnelled: Cell<u32>,
    /// Connections that went out directly because no server answered.
    pub direct: Cell<u32>,
    /// Connections refused because no server answered.
    pub blocked: Cell<u32>,
    /// Connections that ended because the far end could not reach the target.
    pub refused: Cell<u32>,
    /// Connections of hosts that have too many.
    pub limited: Cell<u32>,
}

/// One client half.
pub struct Client {
    config: RefCell<Rc<config::Client>>,
    upstreams: RefCell<Vec<Rc<Upstream>>>,
    connections: Rc<Connections>,
    /// How many connections each host has, whatever becomes of them.
    hosts: RefCell<SmallMap<IpAddr, usize>>,
    /// Its datagrams.
    pub entry: Rc<Entry>,
    /// What happened so far.
    pub counters: Counters,
}

impl Client {
    /// A client half; it serves nothing before [`Client::run`].
    pub fn new(
        config: Rc<config::Client>,
        upstreams: Vec<Rc<Upstream>>,
        connections: Rc<Connections>,
    ) -> Rc<Self> {
        let entry = Entry::new(config.clone(), upstreams.clone(), connections.clone());
        Rc::new(Client {
            config: RefCell::new(config),
            upstreams: RefCell::new(upstreams),
            connections,
            hosts: RefCell::default(),
            entry,
            counters: Counters::default(),
        })
    }

    /// Takes over a new configuration of the same section; connections live on.
    pub fn reconfigure(&self, config: Rc<config::Client>, upstreams: Vec<Rc<Upstream>>) {
        self.entry.reconfigure(config.clone(), upstreams.clone());
        self.config.replace(config);
        self.upstreams.replace(upstreams);
    }

    /// The configuration in force.
    pub fn config(&self) -> Rc<config::Client> {
        self.config.borrow().clone()
    }

    /// Its servers, in order of priority.
    pub fn upstreams(&self) -> Vec<Rc<Upstream>> {
        self.upstreams.borrow().clone()
    }

    /// The timeouts of its connections.
    pub fn limits(&self) -> Limits {
        let config = self.config.borrow();
        Limits { idle: config.idle_timeout, half_open: config.half_open_timeout, connect: REPLY_LIMIT }
    }

    /// The listeners of this configuration, for both families where the kernel has both.
    pub fn listen(config: &config::Client) -> io::Result<Vec<TcpListener>> {
        let port = config.listen_port;
        if config.mode == Mode::Socks {
            return Ok(vec![net::listen_plain(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port))?]);
        }
        let listen = |address| match config.mode {
            Mode::Tproxy => net::listen_transparent(address),
            Mode::Redirect | Mode::Socks => net::listen_plain(address),
        };
        let mut listeners = vec![listen(net::any(false, port))?];
        // A kernel without IPv6 has no IPv6 traffic to take.
        listeners.extend(listen(net::any(true, port)).ok());
        Ok(listeners)
    }

    /// The sockets for the datagrams of this configuration, for both families where the kernel has both.
    pub fn listen_for_datagrams(config: &config::Client) -> io::Result<Vec<Intercepted>> {
        if config.mode != Mode::Tproxy || !config.udp {
            return Ok(Vec::new());
        }
        let mut sockets = vec![Intercepted::listen(false, config.listen_port)?];
        // A kernel without IPv6 has no IPv6 traffic to take.
        sockets.extend(Intercepted::listen(true, config.listen_port).ok());
        Ok(sockets)
    }

    /// Accepts for ever; with a fixed target all connections lead there.
    pub async fn run(self: Rc<Self>, listener: TcpListener, fixed: Option<Target>) {
        loop {
            match listener.accept().await {
                Ok((stream, source)) => {
                    let Some(counted) = self.count(source.ip()) else {
                        net::reset(&stream);
                        continue;
                    };
                    // What is only needed until the tunnel is open must not stay in memory with the connection.
                    let opening = Box::pin(self.clone().open(stream, source, fixed.clone()));
                    tokio::task::spawn_local(async move {
                        let Some((relay, guard, pass_on)) = opening.await else { return };
                        let ended = relay::run(relay, &guard).await;
                        counted.client.note(ended, &guard, pass_on);
                    });
                }
                Err(error) => {
                    // Out of descriptors or memory: what is open goes on, what is new waits.
                    log::warn!("accepting a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Counts one more connection of a host, unless it has too many.
    fn count(self: &Rc<Self>, host: IpAddr) -> Option<Counted> {
        let host = host.to_canonical();
        let mut hosts = self.hosts.borrow_mut();
        let limit = self.config.borrow().max_connections_per_host;
        match hosts.get_mut(&host) {
            Some(count) if *count >= limit => {
                increment(&self.counters.limited);
                log::warn!("{host}: too many connections (max_connections_per_host)");
                return None;
            }
            Some(count) => *count += 1,
            None => drop(hosts.insert(host, 1)),
        }
        Some(Counted { client: self.clone(), host })
    }

    fn note(&self, ended: Result<(), Broken>, guard: &crate::connections::Guard, tunnelled: bool) {
        match ended {
            Err(Broken::Refused(reply)) => {
                increment(&self.counters.refused);
                log::debug!("{}: {reply:?}", guard.target);
            }
            Err(Broken::Failed(error)) if tunnelled => guard.broke(&error),
            Ok(()) | Err(Broken::Failed(_) | Broken::Ended) => {}
        }
    }

    /// Finds the way of a connection and opens it; `None` when it was refused.
    async fn open(
        self: Rc<Self>,
        mut stream: TcpStream,
        source: SocketAddr,
        fixed: Option<Target>,
    ) -> Option<(Box<Relay>, crate::connections::Guard, bool)> {
        net::prepare(&stream);
        let config = self.config();
        let source = net::canonical(source);
        let socks = config.mode == Mode::Socks && fixed.is_none();
        let intercepted = config.mode != Mode::Socks && fixed.is_none();
        let target = match config.mode {
            _ if fixed.is_some() => fixed.ok_or_else(|| io::ErrorKind::NotFound.into()),
            Mode::Tproxy => stream.local_addr().map(net::canonical).map(Target::Address),
            Mode::Redirect => net::original_destination(&stream).map(Target::Address),
            Mode::Socks => {
                let asked = timeout(SOCKS_LIMIT, ask_target(&mut stream)).await;
                asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            }
        };
        let Ok(target) = target else {
            net::reset(&stream);
            return None;
        };
        if intercepted && is_ourselves(&stream, &target, config.listen_port) {
            net::reset(&stream);
            return None;
        }
        let request =
            Request { number: session::random(), command: Command::Connect, target: target.clone(), source };
        let request = request.write();
        let upstreams = self.upstreams();
        let mut said = Vec::new();
        let usable: Vec<&Rc<Upstream>> =
            upstreams.iter().filter(|upstream| upstream.state() != State::Down).collect();
        for (index, upstream) in usable.iter().enumerate() {
            let last_resort = config.fallback == Fallback::Block && index + 1 == usable.len();
            let early = Early::new(&stream, std::mem::take(&mut said));
            match upstream.open(&request, &early, last_resort).await {
                Ok(accepted) => {
                    increment(&self.counters.tunnelled);
                    let early = early.into_data();
                    let guard =
                        self.connections.register(source, target, Way::Tunnel(upstream.config.name.clone()));
                    let relay = tunnelled(stream, accepted, &early, upstream.config.cipher, socks);
                    guard.tunnel.replace(Some(relay.tunnel.clone()));
                    return Some((relay, guard, true));
                }
                Err(failure) if failure.exposed => {
                    // The server may have acted on what it got: opening the connection again could do it twice.
                    net::reset(&stream);
                    return None;
                }
                Err(_) => said = early.into_data(),
            }
        }
        self.without_tunnel(stream, source, target, said, socks).await
    }

    async fn without_tunnel(
        &self,
        stream: TcpStream,
        source: SocketAddr,
        target: Target,
        early: Vec<u8>,
        socks: bool,
    ) -> Option<(Box<Relay>, crate::connections::Guard, bool)> {
        let config = self.config();
        if config.fallback == Fallback::Block {
            increment(&self.counters.blocked);
            return refuse(stream, Reply::GeneralFailure, socks).await;
        }
        increment(&self.counters.direct);
        let guard = self.connections.register(source, target, Way::Direct);
        let (way_out, reply) = match connect_directly(&guard.target, &config).await {
            Ok(way_out) => (way_out, Reply::Succeeded),
            Err(error) => return refuse(stream, Reply::from_error(&error), socks).await,
        };
        let mut received = Vec::new();
        if socks {
            let bound = way_out.local_addr().unwrap_or(net::any(false, 0));
            socks::write_reply(reply, bound, &mut received);
        }
        let relay = Relay {
            local: stream,
            tunnel: Rc::new(way_out),
            shield: None,
            received,
            unsent: early,
            awaited: None,
            opened_locally: true,
        };
        Some((Box::new(relay), guard, false))
    }
}

/// One connection of a host.
struct Counted {
    client: Rc<Client>,
    host: IpAddr,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut hosts = self.client.hosts.borrow_mut();
        match hosts.get_mut(&self.host) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(hosts.remove(&self.host)),
        }
    }
}

fn tunnelled(local: TcpStream, accepted: Accepted, early: &[u8], cipher: Cipher, socks: bool) -> Box<Relay> {
    let Accepted { stream, greeting, received, sent } = accepted;
    let Greeting { mut sealer, opener, .. } = *greeting;
    let mut unsent = Vec::new();
    let rest = &early[sent.min(early.len())..];
    let (shield, reply_opener) = if cipher == Cipher::None {
        unsent.extend(rest);
        (None, Some(opener))
    } else {
        if !rest.is_empty() {
            sealer.append(rest, &mut unsent);
        }
        (Some(Box::new(Shield { sealer, opener })), None)
    };
    let awaited = Some(Awaited { opener: reply_opener, pass_on: socks });
    Box::new(Relay { local, tunnel: stream, shield, received, unsent, awaited, opened_locally: true })
}

async fn connect_directly(target: &Target, config: &config::Client) -> io::Result<TcpStream> {
    let outgoing = Outgoing::default();
    match target {
        Target::Address(address) => outgoing.connect(*address, DIRECT_LIMIT).await,
        Target::Name(name, port) => {
            let found: Vec<SocketAddr> = if resolver::is_resolver(target) {
                resolver::of_uplink(&config.resolv_file)
            } else {
                tokio::net::lookup_host((&**name, *port)).await?.collect()
            };
            let mut failure = io::ErrorKind::HostUnreachable.into();
            for address in found {
                match outgoing.connect(address, DIRECT_LIMIT / 4).await {
                    Ok(stream) => return Ok(stream),
                    Err(error) => failure = error,
                }
            }
            Err(failure)
        }
    }
}

async fn refuse<T>(mut stream: TcpStream, reply: Reply, socks: bool) -> Option<T> {
    if socks {
        let mut answer = Vec::new();
        socks::write_reply(reply, net::any(false, 0), &mut answer);
        let _ = timeout(SOCKS_LIMIT, stream.write_all(&answer)).await;
    } else {
        net::reset(&stream);
    }
    None
}

/// A connection to the listener itself, which would be a connection to a connection to …
fn is_ourselves(stream: &TcpStream, target: &Target, port: u16) -> bool {
    let Target::Address(target) = target else { return false };
    target.port() == port
        && stream.local_addr().map(net::canonical).is_ok_and(|local| local == *target)
        && is_own(target)
}

/// Whether the address belongs to this machine: only then a plain socket can be bound to it.
fn is_own(address: &SocketAddr) -> bool {
    std::net::UdpSocket::bind(SocketAddr::new(address.ip(), 0)).is_ok()
}

/// RFC 1928 3 and 4 with the program at the local listener.
async fn ask_target(stream: &mut TcpStream) -> io::Result<Target> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let mut received = Vec::new();
    let (acceptable, used) = loop {
        match socks::read_greeting(&received) {
            Ok(greeting) => break greeting,
            Err(socks::Error::Incomplete) => read_some(stream, &mut received).await?,
            Err(socks::Error::Invalid(_)) => return Err(invalid()),
        }
    };
    received.drain(..used);
    if !acceptable {
        stream.write_all(&[5, 0xff]).await?;
        return Err(invalid());
    }
    stream.write_all(&[5, 0]).await?;
    let result = loop {
        match socks::read_request(&received) {
            Ok((Command::Connect, target, used)) if used == received.len() => return Ok(target),
            Ok((Command::UdpAssociate | Command::Packets, ..)) => break Reply::CommandNotSupported,
            Ok(_) => break Reply::GeneralFailure,
            Err(socks::Error::Incomplete) => read_some(stream, &mut received).await?,
            Err(socks::Error::Invalid(reply)) => break reply,
        }
    };
    let mut answer = Vec::new();
    socks::write_reply(result, net::any(false, 0), &mut answer);
    stream.write_all(&answer).await?;
    Err(invalid())
}

async fn read_some(stream: &mut TcpStream, received: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 512];
    match stream.read(&mut buffer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        length if received.len() + length > 2 * socks::MAX_MESSAGE => Err(io::ErrorKind::InvalidData.into()),
        length => {
            received.extend(&buffer[..length]);
            Ok(())
        }
    }
}

fn increment(counter: &Cell<u32>) {
    counter.set(counter.get().wrapping_add(1));
}
