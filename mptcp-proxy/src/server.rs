// SPDX-License-Identifier: Apache-2.0
//! The server half: authenticated connections in, plain TCP out.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use openwrt::small_map::SmallMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{timeout, timeout_at};

use crate::acl;
use crate::config;
use crate::connections::{Connections, Guard, Limits, Way};
use crate::datagram::Datagrams;
use crate::first;
use crate::lobby::Lobby;
use crate::net::{self, Outgoing};
use crate::packet::exit::Exit;
use crate::packet::pool::Lease;
use crate::record::{Cipher, Opened, MAX_RECORD};
use crate::relay::{self, Broken, Relay, Shield};
use crate::session::{self, Welcome, ASK, ASK_LENGTH, HELLO, HELLO_LENGTH, PROBE_LENGTH};
use crate::socks::{self, Command, Reply, Target};
use crate::tickets::Tickets;
use crate::udp::carrier;
use crate::udp::{resolver, serve};
use crate::wire::{self, Request};

/// A connection has to prove the key in this time; who cannot, learns nothing and is left alone until then.
const PROOF_LIMIT: Duration = Duration::from_secs(10);
/// An authenticated connection may wait this long for its request (the client's pool is shorter).
const READY_LIMIT: Duration = Duration::from_secs(900);
/// The target has to answer in this time.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// One of several addresses of a name has to answer in this time.
const ONE_OF_MANY_LIMIT: Duration = Duration::from_secs(4);
/// A flow of datagrams that is not used is forgotten after this (RFC 4787 4.3), unless the client does so before.
const FLOW_LIMIT: Duration = Duration::from_secs(300);
/// How long a request's number is remembered.
const CLAIM_TIME: Duration = Duration::from_secs(60);
/// Remembered numbers.
const MAX_CLAIMS: usize = 16 * 1024;

/// What happened so far.
#[derive(Debug, Default)]
pub struct Counters {
    /// Relayed connections.
    pub served: Cell<u32>,
    /// Connections that did not prove the key.
    pub unproven: Cell<u32>,
    /// Requests for targets that are not allowed.
    pub denied: Cell<u32>,
    /// Requests beyond a limit.
    pub limited: Cell<u32>,
    /// Connections that arrived as plain TCP.
    pub without_mptcp: Cell<u32>,
}

/// One server half.
pub struct Server {
    config: RefCell<Rc<config::Server>>,
    connections: Rc<Connections>,
    tickets: RefCell<Tickets>,
    claims: RefCell<Claims>,
    own_addresses: RefCell<Vec<IpAddr>>,
    lobby: RefCell<Lobby>,
    /// The connections in the lobby, to send one away.
    waiting: RefCell<SmallMap<u32, Rc<Notify>>>,
    packets: RefCell<Option<Rc<Exit>>>,
    /// What happened so far.
    pub counters: Counters,
}

impl Server {
    /// A server half; it serves nothing before [`Server::run`].
    pub fn new(config: Rc<config::Server>, connections: Rc<Connections>) -> Rc<Self> {
        Rc::new(Server {
            config: RefCell::new(config),
            connections,
            tickets: RefCell::default(),
            claims: RefCell::default(),
            own_addresses: RefCell::default(),
            lobby: RefCell::default(),
            waiting: RefCell::default(),
            packets: RefCell::default(),
            counters: Counters::default(),
        })
    }

    /// The configuration in force.
    pub fn config(&self) -> Rc<config::Server> {
        self.config.borrow().clone()
    }

    /// Takes over a new configuration of the same section: connections live on, tickets of users that are gone or
    /// have a new key do not.
    pub fn reconfigure(&self, new: &Rc<config::Server>) {
        let old = self.config.replace(new.clone());
        self.tickets.borrow_mut().retain_users(|user| {
            let key = |config: &config::Server| {
                config.users.iter().find(|known| *known.name == *user).map(|known| known.key.clone())
            };
            key(new).is_some() && key(new) == key(&old)
        });
    }

    /// The server's own addresses, which are no targets unless listed.
    pub fn set_own_addresses(&self, addresses: Vec<IpAddr>) {
        self.own_addresses.replace(addresses);
    }

    /// Where packets of other protocols go, if anywhere.
    pub fn set_packets(&self, exit: Option<Rc<Exit>>) {
        self.packets.replace(exit);
    }

    /// The timeouts of its connections.
    pub fn limits(&self) -> Limits {
        let config = self.config.borrow();
        Limits { idle: config.idle_timeout, half_open: config.half_open_timeout, connect: CONNECT_LIMIT * 2 }
    }

    /// Accepts for ever.
    pub async fn run(self: Rc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    // What is only needed until the target has answered must not stay with the connection.
                    let opening = Box::pin(self.clone().open(stream, peer));
                    tokio::task::spawn_local(async move {
                        let Some((relay, guard)) = opening.await else { return };
                        if let Err(Broken::Failed(error)) = relay::run(relay, &guard).await {
                            guard.broke(&error);
                        }
                    });
                }
                Err(error) => {
                    // Out of descriptors or memory: what is open goes on, what is new waits.
                    log::warn!("accepting a tunnel connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Answers probes for ever.
    pub async fn run_probes(self: Rc<Self>, socket: Datagrams) {
        let mut datagram = [0; PROBE_LENGTH + 1];
        loop {
            let Ok(question) = socket.receive(&mut datagram).await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let length = question.length;
            let answer = {
                let tickets = self.tickets.borrow();
                let known = datagram[..length].first_chunk().and_then(|name| tickets.get(name));
                known.and_then(|known| known.session.answer_probe(&datagram[..length]))
            };
            if let Some(answer) = answer {
                // A full queue is a lost probe, as on any path.
                let _ = socket.answer(&answer, &question);
            }
        }
    }

    /// From an unknown connection to one that can be relayed; `None` when nothing came of it.
    async fn open(self: Rc<Self>, mut stream: TcpStream, peer: SocketAddr) -> Option<(Box<Relay>, Guard)> {
        net::prepare(&stream);
        if let Some(name) = &self.config.borrow().congestion {
            // A module that is not there is the system's default.
            let _ = socket2::SockRef::from(&stream).set_tcp_congestion(name.as_bytes());
        }
        let (number, sent_away) = self.enter_lobby(peer.ip());
        let proven = tokio::select! {
            proven = timeout(PROOF_LIMIT, self.prove(&mut stream)) => proven.ok(),
            () = sent_away.notified() => None,
        };
        self.waiting.borrow_mut().remove(&number);
        self.lobby.borrow_mut().leave(number);
        let Some(proven) = proven else {
            increment(&self.counters.unproven);
            log::debug!("{peer} did not prove a key");
            return None;
        };
        let (user, welcome) = proven.ok()?;
        self.lobby.borrow_mut().prove(peer.ip(), Instant::now());
        if !net::is_mptcp(&stream) {
            increment(&self.counters.without_mptcp);
        }
        let ready = timeout(READY_LIMIT, self.read_request(stream, welcome)).await.ok()?;
        let ready = ready.inspect_err(|error| {
            self.connections.broke(format_args!("a request of {}", user.name), error, "");
        });
        self.connect_out(ready.ok()??, &user).await
    }

    /// Waits for the proof; never returns while there is none, so that the peer cannot tell why.
    async fn prove(&self, stream: &mut TcpStream) -> io::Result<(config::User, Box<Welcome>)> {
        loop {
            match stream.read_u8().await? {
                ASK => {
                    let mut question = [ASK; ASK_LENGTH];
                    stream.read_exact(&mut question[1..]).await?;
                    let Some(ticket) = self.answer(&question) else { return ignore(stream).await };
                    stream.write_all(&ticket).await?;
                }
                HELLO => {
                    let mut hello = [HELLO; HELLO_LENGTH];
                    stream.read_exact(&mut hello[1..]).await?;
                    let Some((user, welcome)) = self.welcome(&hello) else { return ignore(stream).await };
                    stream.write_all(&welcome.answer).await?;
                    return Ok((user, welcome));
                }
                _ => return ignore(stream).await,
            }
        }
    }

    /// A place in the lobby and how to hear that it has to be left; somebody else may have to leave his.
    fn enter_lobby(&self, source: IpAddr) -> (u32, Rc<Notify>) {
        let (number, leaves) = self.lobby.borrow_mut().enter(source, Instant::now());
        let mut waiting = self.waiting.borrow_mut();
        if let Some(leaves) = leaves.and_then(|leaves| waiting.remove(&leaves)) {
            leaves.notify_one();
        }
        let sent_away = Rc::<Notify>::default();
        waiting.insert(number, sent_away.clone());
        (number, sent_away)
    }

    fn answer(&self, question: &[u8; ASK_LENGTH]) -> Option<[u8; session::TICKET_LENGTH]> {
        let nonce = question[1..].first_chunk()?;
        let mut tickets = self.tickets.borrow_mut();
        if tickets.is_known(nonce) {
            return None;
        }
        let config = self.config.borrow();
        let (user, session, ticket) = session::answer(question, config.users.iter().map(|user| &user.key))?;
        tickets.add(config.users[user].name.clone(), *nonce, session, Instant::now());
        Some(ticket)
    }

    fn welcome(&self, hello: &[u8; HELLO_LENGTH]) -> Option<(config::User, Box<Welcome>)> {
        let mut tickets = self.tickets.borrow_mut();
        let name = hello[1..].first_chunk()?;
        let known = tickets.get_mut(name)?;
        let welcome = known.session.welcome(hello)?;
        let config = self.config.borrow();
        let user = config.users.iter().find(|user| user.name == known.user)?;
        tickets.prove(name, Instant::now());
        Some((user.clone(), welcome))
    }

    /// Waits for the request and answers whether it is served on this connection.
    async fn read_request(
        &self,
        mut stream: TcpStream,
        mut welcome: Box<Welcome>,
    ) -> io::Result<Option<Ready>> {
        let mut received = Vec::new();
        let (content, used) = loop {
            if let Opened::Record { used, content } = welcome.opener.open(&mut received, 0)? {
                break (content, used);
            }
            if received.len() >= MAX_RECORD {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if received.capacity() == 0 {
                // Pooled connections are many and wait long: no buffer before there is something to read.
                stream.readable().await?;
                received.reserve(1024);
            }
            if stream.read_buf(&mut received).await? == 0 {
                return Ok(None);
            }
        };
        let Ok(request) = Request::read(&received[..content]) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        received.drain(..used);
        // A target that is slow to answer and speaks first would leave it with the connection.
        received.shrink_to_fit();
        let fresh = self.claims.borrow_mut().claim(request.number, Instant::now());
        let mut answer = Vec::new();
        welcome.sealer.append(&[if fresh { wire::ACCEPTED } else { wire::SUPERSEDED }], &mut answer);
        if fresh {
            return Ok(Some(Ready { stream, welcome, request, received, answer }));
        }
        stream.write_all(&answer).await?;
        Ok(None)
    }

    /// Connects to the target and prepares the reply.
    async fn connect_out(&self, ready: Ready, user: &config::User) -> Option<(Box<Relay>, Guard)> {
        let Ready { stream, mut welcome, request, received, answer: mut unsent } = ready;
        let until = tokio::time::Instant::now() + first::TOGETHER;
        let guard =
            self.connections.register(request.source, request.target.clone(), Way::Served(user.name.clone()));
        let tunnel = Rc::new(stream);
        guard.tunnel.replace(Some(tunnel.clone()));
        if request.command != Command::Connect {
            net::write_all(&tunnel, &std::mem::take(&mut unsent)).await.ok()?;
        }
        if request.command == Command::UdpAssociate && self.check_limits(user).is_ok() {
            let opened = carrier::Opened::by_them(&tunnel, *welcome, received, &guard);
            let resolve = |target: &Target| self.resolve_datagram(target);
            if let Err(error) = Box::pin(serve::serve(opened, FLOW_LIMIT, resolve)).await {
                log::debug!("datagrams of {}: {error}", guard.source);
            }
            return None;
        }
        if let Some((exit, lease)) = self.lease(user, &request) {
            let opened = carrier::Opened::by_them(&tunnel, *welcome, received, &guard);
            let check = |target: IpAddr| self.check_packet(&user.name, target);
            if let Err(error) = Box::pin(exit.serve(opened, lease, &check)).await {
                log::debug!("packets of {}: {error}", user.name);
            }
            return None;
        }
        let connected = match self.check_limits(user) {
            Ok(()) => {
                let mut connecting = Box::pin(self.connect(&request));
                match timeout_at(until, &mut connecting).await {
                    Ok(connected) => connected,
                    Err(_) => {
                        net::write_all(&tunnel, &std::mem::take(&mut unsent)).await.ok()?;
                        connecting.await
                    }
                }
            }
            Err(reply) => Err(reply),
        };
        let (reply, bound) = match &connected {
            Ok(stream) => (Reply::Succeeded, stream.local_addr().unwrap_or(net::any(false, 0))),
            Err(reply) => (*reply, net::any(false, 0)),
        };
        let mut content = Vec::with_capacity(socks::MAX_MESSAGE);
        socks::write_reply(reply, bound, &mut content);
        let together = !unsent.is_empty();
        welcome.sealer.append(&content, &mut unsent);
        let Ok(local) = connected else {
            let _ = timeout(PROOF_LIMIT, net::write_all(&tunnel, &unsent)).await;
            return None;
        };
        increment(&self.counters.served);
        let shield = match welcome.cipher {
            Cipher::None => None,
            Cipher::ChaCha20Poly1305 | Cipher::Aes256Gcm => {
                Some(Box::new(Shield { sealer: welcome.sealer, opener: welcome.opener }))
            }
        };
        let mut relay =
            Box::new(Relay { local, tunnel, shield, received, unsent, awaited: None, opened_locally: false });
        if together {
            if let Err(error) = first::answer(&mut relay, &guard, until).await {
                guard.broke(&error);
                net::reset(&relay.local);
                net::reset(&relay.tunnel);
                return None;
            }
        }
        Some((relay, guard))
    }

    /// A place for the packets of this user, where it may send any.
    fn lease(&self, user: &config::User, request: &Request) -> Option<(Rc<Exit>, Lease)> {
        if request.command != Command::Packets || self.check_limits(user).is_err() {
            return None;
        }
        // The connection may have waited in the client's pool since before the configuration was changed.
        if !self.may_send_packets(&user.name) {
            openwrt::log_repeated!(
                log::Level::Warn,
                "{}: other protocols refused: option other_protocols of its user is off",
                user.name
            );
            increment(&self.counters.denied);
            return None;
        }
        let exit = self.packets.borrow().clone()?;
        let lease = exit.lease(&user.name, &request.target)?;
        Some((exit, lease))
    }

    fn may_send_packets(&self, user: &str) -> bool {
        let config = self.config.borrow();
        config.users.iter().any(|known| *known.name == *user && known.other_protocols)
    }

    /// Whether a packet of this user may go there.
    fn check_packet(&self, user: &str, target: IpAddr) -> Result<(), acl::Denied> {
        if !self.may_send_packets(user) {
            return Err(acl::Denied::Revoked);
        }
        let config = self.config.borrow();
        acl::check(target, &config.allow, &config.deny, &self.own_addresses.borrow())
    }

    /// Where a datagram may go.
    fn resolve_datagram(&self, target: &Target) -> Vec<SocketAddr> {
        let config = self.config.borrow();
        match target {
            target if resolver::is_resolver(target) => resolver::of_uplink(&config.resolv_file),
            Target::Address(address) => {
                let own = self.own_addresses.borrow();
                match acl::check(address.ip(), &config.allow, &config.deny, &own) {
                    Ok(()) => vec![*address],
                    Err(reason) => {
                        increment(&self.counters.denied);
                        log::debug!("server {}: a datagram to {address} refused: {reason}", config.name);
                        Vec::new()
                    }
                }
            }
            Target::Name(..) => Vec::new(),
        }
    }

    fn check_limits(&self, user: &config::User) -> Result<(), Reply> {
        // The connection that asks is in the list already.
        let over_all = self.connections.len() > self.config.borrow().max_connections;
        if !over_all && self.connections.of_user(&user.name) <= user.max_connections {
            return Ok(());
        }
        increment(&self.counters.limited);
        log::warn!("{}: too many connections (max_connections)", user.name);
        Err(Reply::GeneralFailure)
    }

    async fn connect(&self, request: &Request) -> Result<TcpStream, Reply> {
        if request.command != Command::Connect {
            return Err(Reply::CommandNotSupported);
        }
        let addresses = self.resolve(&request.target).await?;
        let limit = if addresses.len() > 1 { ONE_OF_MANY_LIMIT } else { CONNECT_LIMIT };
        let mut failure = Reply::HostUnreachable;
        for address in addresses {
            match Outgoing::default().connect(address, limit).await {
                Ok(mut stream) => {
                    if self.config.borrow().proxy_protocol {
                        let header = wire::proxy_header(request.source, address);
                        stream.write_all(&header).await.map_err(|error| Reply::from_error(&error))?;
                    }
                    return Ok(stream);
                }
                Err(error) => failure = Reply::from_error(&error),
            }
        }
        Err(failure)
    }

    /// The addresses of the target that may be reached.
    async fn resolve(&self, target: &Target) -> Result<Vec<SocketAddr>, Reply> {
        if resolver::is_resolver(target) {
            return Ok(resolver::of_uplink(&self.config.borrow().resolv_file));
        }
        let found = match target {
            Target::Address(address) => vec![*address],
            Target::Name(name, port) => {
                let looked_up = timeout(CONNECT_LIMIT, tokio::net::lookup_host((&**name, *port))).await;
                let Ok(Ok(found)) = looked_up else { return Err(Reply::HostUnreachable) };
                found.map(net::canonical).take(8).collect()
            }
        };
        let config = self.config.borrow();
        let own = self.own_addresses.borrow();
        let (mut allowed, mut denied) = (Vec::new(), None);
        for address in found {
            match acl::check(address.ip(), &config.allow, &config.deny, &own) {
                Ok(()) => allowed.push(address),
                Err(reason) => denied = Some((address, reason)),
            }
        }
        match (allowed.is_empty(), denied) {
            (false, _) => Ok(allowed),
            (true, Some((address, reason))) => {
                increment(&self.counters.denied);
                log::warn!("server {}: {target} ({address}) refused: {reason}", config.name);
                Err(Reply::NotAllowed)
            }
            (true, None) => Err(Reply::HostUnreachable),
        }
    }
}

/// A connection with its request, to be served.
struct Ready {
    stream: TcpStream,
    welcome: Box<Welcome>,
    request: Request,
    received: Vec<u8>,
    /// That the request is served here; not sent yet.
    answer: Vec<u8>,
}

/// Which requests were claimed.
#[derive(Default)]
struct Claims {
    known: HashMap<[u8; wire::NUMBER], ()>,
    order: VecDeque<(Instant, [u8; wire::NUMBER])>,
}

impl Claims {
    /// Whether this is the first with this number.
    fn claim(&mut self, number: [u8; wire::NUMBER], now: Instant) -> bool {
        while self.order.front().is_some_and(|(at, _)| {
            self.order.len() >= MAX_CLAIMS || now.saturating_duration_since(*at) > CLAIM_TIME
        }) {
            if let Some((_, old)) = self.order.pop_front() {
                self.known.remove(&old);
            }
        }
        if self.known.insert(number, ()).is_some() {
            return false;
        }
        self.order.push_back((now, number));
        true
    }
}

/// Reads and forgets until the peer gives up or the time is over.
async fn ignore<T>(stream: &mut TcpStream) -> io::Result<T> {
    let mut nowhere = [0; 256];
    while stream.read(&mut nowhere).await? > 0 {}
    Err(io::ErrorKind::PermissionDenied.into())
}

fn increment(counter: &Cell<u32>) {
    counter.set(counter.get().wrapping_add(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_claimed_once_and_forgotten_later() {
        let mut claims = Claims::default();
        let now = Instant::now();
        assert!(claims.claim([1; 16], now));
        assert!(!claims.claim([1; 16], now + CLAIM_TIME / 2));
        assert!(claims.claim([2; 16], now + CLAIM_TIME));
        assert!(claims.claim([1; 16], now + CLAIM_TIME * 2), "forgotten");
        for number in 0..2 * MAX_CLAIMS {
            let mut bytes = [9; 16];
            bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
            claims.claim(bytes, now + CLAIM_TIME * 2);
        }
        assert!(claims.known.len() <= MAX_CLAIMS && claims.known.len() == claims.order.len());
    }
}
