// SPDX-License-Identifier: Apache-2.0
//! The client half's end: datagrams of LAN hosts and questions of dnsmasq in, lanes out.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use openwrt::task::spawn;
use socket2::Socket;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::carrier::{Carrier, Opened};
use super::exit::Exit;
use super::frame::{self, Frame};
use super::resolver;
use super::transparent::{answering_for, Intercepted};
use super::with_buffer;
use crate::config::{self, Fallback};
use crate::connections::{Connections, Way};
use crate::early::Early;
use crate::net;
use crate::session;
use crate::socks::{Command, Target};
use crate::upstream::{State, Upstream};
use crate::wire::Request;

/// Sockets of the LAN, at most; the one unused for longest makes room.
const MAX_FLOWS: usize = 2048;
/// Tunnel connections for datagrams; the first is for DNS.
const LANES: usize = 4;
/// Bytes of datagrams that wait for a lane to open.
const MAX_OPENING: usize = 16 * 1024;
/// Datagrams that are taken before others get their turn.
const TURNS: usize = 64;
/// The tunnel has this long to answer a question before the uplink's resolver is asked as well.
const DNS_PATIENCE: Duration = Duration::from_millis(1200);
/// The uplink's resolver has this long.
const DNS_LIMIT: Duration = Duration::from_secs(4);
/// How often flows and lanes are looked after.
const SWEEP: Duration = Duration::from_secs(1);

/// What happened so far.
#[derive(Debug, Default)]
pub struct Counters {
    /// Flows through the tunnel.
    pub tunnelled: Cell<u32>,
    /// Flows that went out directly because no server answered.
    pub direct: Cell<u32>,
    /// Datagrams that were dropped: no server and `fallback 'block'`, or a tunnel without room.
    pub dropped: Cell<u32>,
    /// Questions answered by the far end's resolver.
    pub dns_tunnelled: Cell<u32>,
    /// Questions answered by the uplink's resolver.
    pub dns_direct: Cell<u32>,
}

/// The datagrams of one client half.
pub struct Entry {
    config: RefCell<Rc<config::Client>>,
    upstreams: RefCell<Vec<Rc<Upstream>>>,
    connections: Rc<Connections>,
    flows: RefCell<HashMap<u32, Flow>>,
    by_source: RefCell<HashMap<SocketAddr, u32>>,
    next: Cell<u32>,
    lanes: RefCell<[Option<Lane>; LANES]>,
    direct: RefCell<Option<Rc<Exit>>>,
    /// What happened so far.
    pub counters: Counters,
}

struct Flow {
    owner: Owner,
    used: Instant,
    /// It began while no server answered, and stays outside the tunnel: its peer knows it by that address.
    direct: bool,
}

enum Owner {
    Lan {
        source: SocketAddr,
        /// The socket that answers in the name of the last sender.
        answering: Option<(SocketAddr, Socket)>,
    },
    Question(Option<oneshot::Sender<Vec<u8>>>),
}

struct Lane {
    upstream: Rc<Upstream>,
    task: JoinHandle<()>,
    state: LaneState,
}

enum LaneState {
    /// Frames that wait.
    Opening(Vec<u8>),
    Open(Rc<Carrier>),
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Entry {
    /// Carries nothing before [`Entry::run`].
    pub fn new(
        config: Rc<config::Client>,
        upstreams: Vec<Rc<Upstream>>,
        connections: Rc<Connections>,
    ) -> Rc<Self> {
        Rc::new(Entry {
            config: RefCell::new(config),
            upstreams: RefCell::new(upstreams),
            connections,
            flows: RefCell::default(),
            by_source: RefCell::default(),
            next: Cell::new(u32::from_ne_bytes(session::random())),
            lanes: RefCell::default(),
            direct: RefCell::default(),
            counters: Counters::default(),
        })
    }

    /// Takes over a new configuration; flows live on, by another server where theirs is gone.
    pub fn reconfigure(&self, config: Rc<config::Client>, upstreams: Vec<Rc<Upstream>>) {
        if let Some(direct) = &*self.direct.borrow() {
            direct.set_idle(config.udp_timeout);
        }
        self.config.replace(config);
        self.upstreams.replace(upstreams);
        let upstreams = self.upstreams.borrow();
        for lane in &mut *self.lanes.borrow_mut() {
            let kept = |lane: &Lane| upstreams.iter().any(|upstream| Rc::ptr_eq(upstream, &lane.upstream));
            if lane.as_ref().is_some_and(|lane| !kept(lane)) {
                *lane = None;
            }
        }
    }

    /// Flows there are now.
    pub fn flows(&self) -> usize {
        self.flows.borrow().len()
    }

    /// Takes intercepted datagrams for ever.
    pub async fn run(self: Rc<Self>, socket: Intercepted) {
        loop {
            if socket.readable().await.is_err() {
                sleep(Duration::from_millis(100)).await;
                continue;
            }
            for _ in 0..TURNS {
                let more = with_buffer(|buffer| {
                    let received = match socket.try_receive(buffer) {
                        Ok(received) => received,
                        Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
                    };
                    let (source, target) = (net::canonical(received.source), net::canonical(received.target));
                    self.take(source, target, &buffer[..received.length]);
                    true
                });
                if !more {
                    break;
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Forgets flows and lanes that are not used, for ever.
    pub async fn sweep(self: Rc<Self>) {
        loop {
            sleep(SWEEP).await;
            let idle = self.config.borrow().udp_timeout;
            let now = Instant::now();
            let old = |flow: &Flow| now.saturating_duration_since(flow.used) >= idle;
            let overdue: Vec<u32> =
                self.flows.borrow().iter().filter(|(_, flow)| old(flow)).map(|(flow, _)| *flow).collect();
            overdue.into_iter().for_each(|flow| self.forget(flow));
            if self.flows.borrow().is_empty() {
                self.lanes.replace(Default::default());
                self.direct.replace(None);
            }
        }
    }

    /// Asks the far end's resolver, and the uplink's when there is no answer.
    pub async fn resolve(self: &Rc<Self>, question: &[u8]) -> Option<Vec<u8>> {
        if let Some(upstream) = self.upstream().filter(|upstream| upstream.state() == State::Up) {
            let (answer, answered) = oneshot::channel();
            let flow = self.add(Owner::Question(Some(answer)), false);
            self.send(0, &upstream, flow, &resolver::target(), question);
            let answered = timeout(DNS_PATIENCE, answered).await;
            self.forget(flow);
            if let Ok(Ok(answer)) = answered {
                increment(&self.counters.dns_tunnelled);
                return Some(answer);
            }
            upstream.doubt(DNS_PATIENCE);
        }
        if self.config.borrow().fallback == Fallback::Block {
            return None;
        }
        let file = self.config.borrow().resolv_file.clone();
        let answer = timeout(DNS_LIMIT, ask_directly(&resolver::of_uplink(&file), question)).await.ok()??;
        increment(&self.counters.dns_direct);
        Some(answer)
    }

    fn take(self: &Rc<Self>, source: SocketAddr, target: SocketAddr, payload: &[u8]) {
        let known = self.by_source.borrow().get(&source).copied();
        let flow = match known {
            Some(flow) => flow,
            None => {
                if is_ours(&target, self.config.borrow().listen_port) {
                    return;
                }
                let upstream = self.upstream();
                let fallback = self.config.borrow().fallback;
                if upstream.is_none() && fallback == Fallback::Block {
                    return increment(&self.counters.dropped);
                }
                increment(if upstream.is_some() { &self.counters.tunnelled } else { &self.counters.direct });
                let flow = self.add(Owner::Lan { source, answering: None }, upstream.is_none());
                self.by_source.borrow_mut().insert(source, flow);
                flow
            }
        };
        let direct = match self.flows.borrow_mut().get_mut(&flow) {
            Some(state) => {
                state.used = Instant::now();
                state.direct
            }
            None => return,
        };
        if direct {
            return self.send_directly(flow, target, payload);
        }
        match self.upstream() {
            Some(upstream) => {
                let lane = if target.port() == resolver::PORT { 0 } else { 1 + flow as usize % (LANES - 1) };
                self.send(lane, &upstream, flow, &Target::Address(target), payload);
            }
            None if self.config.borrow().fallback == Fallback::Direct => {
                if let Some(state) = self.flows.borrow_mut().get_mut(&flow) {
                    state.direct = true;
                }
                increment(&self.counters.direct);
                self.send_directly(flow, target, payload);
            }
            None => increment(&self.counters.dropped),
        }
    }

    /// The first server that may answer.
    fn upstream(&self) -> Option<Rc<Upstream>> {
        self.upstreams.borrow().iter().find(|upstream| upstream.state() != State::Down).cloned()
    }

    fn add(&self, owner: Owner, direct: bool) -> u32 {
        if self.flows.borrow().len() >= MAX_FLOWS {
            let oldest = {
                let flows = self.flows.borrow();
                flows.iter().min_by_key(|(_, flow)| flow.used).map(|(flow, _)| *flow)
            };
            oldest.into_iter().for_each(|flow| self.forget(flow));
        }
        let mut flows = self.flows.borrow_mut();
        let mut flow = self.next.get();
        while flows.contains_key(&flow) {
            flow = flow.wrapping_add(1);
        }
        self.next.set(flow.wrapping_add(1));
        flows.insert(flow, Flow { owner, used: Instant::now(), direct });
        flow
    }

    fn forget(&self, flow: u32) {
        if let Some(Flow { owner: Owner::Lan { source, .. }, .. }) = self.flows.borrow_mut().remove(&flow) {
            self.by_source.borrow_mut().remove(&source);
        }
    }

    fn send(
        self: &Rc<Self>,
        lane: usize,
        upstream: &Rc<Upstream>,
        flow: u32,
        target: &Target,
        payload: &[u8],
    ) {
        let mut lanes = self.lanes.borrow_mut();
        let Some(place) = lanes.get_mut(lane) else { return };
        if place.as_ref().is_some_and(|lane| !Rc::ptr_eq(&lane.upstream, upstream)) {
            *place = None;
        }
        let open = place.get_or_insert_with(|| Lane {
            upstream: upstream.clone(),
            task: spawn(self.clone().run_lane(lane, upstream.clone())),
            state: LaneState::Opening(Vec::new()),
        });
        match &mut open.state {
            LaneState::Open(carrier) => {
                if !carrier.send(flow, target, payload) {
                    increment(&self.counters.dropped);
                }
            }
            LaneState::Opening(frames) => {
                if frames.len() + payload.len() > MAX_OPENING || !frame::append(flow, target, payload, frames)
                {
                    increment(&self.counters.dropped);
                }
            }
        }
    }

    async fn run_lane(self: Rc<Self>, lane: usize, upstream: Rc<Upstream>) {
        let result = self.serve_lane(lane, &upstream).await;
        if let Err(error) = result {
            log::debug!("datagrams through {}: {error}", upstream.config.name);
        }
        if let Some(place) = self.lanes.borrow_mut().get_mut(lane) {
            *place = None;
        }
    }

    async fn serve_lane(self: &Rc<Self>, lane: usize, upstream: &Rc<Upstream>) -> io::Result<()> {
        let name = Target::Name("datagrams".into(), u16::try_from(lane).unwrap_or(0));
        let source = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let request = Request {
            number: session::random(),
            command: Command::UdpAssociate,
            target: Target::Address(source),
            source,
        };
        let early = Early::of(self.take_opening(lane));
        let accepted = upstream
            .open(&request.write(), &early, false)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::NotConnected))?;
        let mut rest = early.into_data();
        rest.drain(..accepted.sent.min(rest.len()));
        rest.extend(self.take_opening(lane));
        let way = Way::Tunnel(upstream.config.name.clone());
        let guard = self.connections.register(source, name, way);
        let Opened { carrier, receiver } = Opened::by_us(accepted, upstream.config.cipher, &guard);
        carrier.append_frames(&rest);
        if let Some(Some(lane)) = self.lanes.borrow_mut().get_mut(lane) {
            lane.state = LaneState::Open(carrier.clone());
        }
        carrier.run(receiver, &mut |frame| self.deliver_frame(&frame)).await
    }

    fn take_opening(&self, lane: usize) -> Vec<u8> {
        match self.lanes.borrow_mut().get_mut(lane) {
            Some(Some(Lane { state: LaneState::Opening(frames), .. })) => std::mem::take(frames),
            _ => Vec::new(),
        }
    }

    fn deliver_frame(&self, frame: &Frame<'_>) {
        if let Target::Address(from) = frame.address {
            self.deliver(frame.flow, from, frame.payload);
        }
    }

    fn deliver(&self, flow: u32, from: SocketAddr, payload: &[u8]) {
        let mut flows = self.flows.borrow_mut();
        let Some(state) = flows.get_mut(&flow) else { return };
        state.used = Instant::now();
        match &mut state.owner {
            Owner::Question(answer) => {
                if let Some(answer) = answer.take() {
                    let _ = answer.send(payload.to_vec());
                }
            }
            Owner::Lan { source, answering } => {
                if answering.as_ref().is_none_or(|(address, _)| *address != from) {
                    *answering = answering_for(from).ok().map(|socket| (from, socket));
                }
                if let Some((_, socket)) = answering {
                    // A full queue loses it, as any path may.
                    let _ = socket.send_to(payload, &(*source).into());
                }
            }
        }
    }

    fn send_directly(self: &Rc<Self>, flow: u32, target: SocketAddr, payload: &[u8]) {
        let exit = self.direct.borrow().clone();
        let exit = exit.unwrap_or_else(|| {
            let entry = Rc::downgrade(self);
            let deliver = Box::new(move |flow: u32, from: SocketAddr, payload: &[u8]| {
                if let Some(entry) = entry.upgrade() {
                    entry.deliver(flow, from, payload);
                }
            });
            let exit = Exit::new(MAX_FLOWS, self.config.borrow().udp_timeout, deliver);
            self.direct.replace(Some(exit.clone()));
            exit
        });
        if let Err(error) = exit.send(flow, target, payload) {
            log::debug!("a datagram to {target}: {error}");
        }
    }
}

/// The first answer of any of them.
async fn ask_directly(resolvers: &[SocketAddr], question: &[u8]) -> Option<Vec<u8>> {
    let any = |ipv6: bool| net::udp_socket(net::any(ipv6, 0));
    let ipv6 = resolvers.iter().any(SocketAddr::is_ipv6);
    let socket = tokio::net::UdpSocket::from_std(any(ipv6).ok()?.into()).ok()?;
    for address in resolvers {
        // One socket asks both families.
        let address = match (ipv6, address.ip()) {
            (true, IpAddr::V4(v4)) => SocketAddr::new(v4.to_ipv6_mapped().into(), address.port()),
            _ => *address,
        };
        let _ = socket.send_to(question, address).await;
    }
    let mut buffer = vec![0; 4096];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.ok()?;
        let known = resolvers.contains(&net::canonical(from));
        if known && length >= 2 && buffer[..2] == question[..2.min(question.len())] {
            buffer.truncate(length);
            return Some(buffer);
        }
    }
}

/// A datagram for our listener itself, which would come to it again.
fn is_ours(target: &SocketAddr, port: u16) -> bool {
    target.port() == port && std::net::UdpSocket::bind(SocketAddr::new(target.ip(), 0)).is_ok()
}

fn increment(counter: &Cell<u32>) {
    counter.set(counter.get().wrapping_add(1));
}
