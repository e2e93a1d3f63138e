// SPDX-License-Identifier: Apache-2.0
//! A server as the client half sees it: its state, its ticket, its connections kept ready, and the opening of new
//! ones with a race over another path when an answer is late.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{sleep, sleep_until, timeout};

use crate::asking;
use crate::config;
use crate::early::Early;
use crate::net::{self, Outgoing};
use crate::path::Paths;
use crate::pool::Demand;
use crate::record::{Cipher, Opened, MAX_RECORD};
use crate::session::{Greeting, Question, Session, MAC, TICKET_LENGTH};
use crate::wire;

/// A new connection that has no server by then goes elsewhere.
const OPEN_LIMIT: Duration = Duration::from_millis(900);
/// The same when it may go nowhere else.
const LAST_RESORT_LIMIT: Duration = Duration::from_secs(4);
/// Once client bytes have left it can go nowhere else, whatever is configured: losses are waited for.
const EXPOSED_LIMIT: Duration = Duration::from_secs(15);
/// The least time an answer may take before another path is tried.
const PATIENCE: Duration = Duration::from_millis(150);
/// The request waits this long for the client's first words, to leave in one write with them: those of a second could take
/// the slower path. Who lets the other speak first waits in vain.
const FIRST_WORDS: Duration = Duration::from_millis(1);
/// Attempts for one connection at the usual pace; further ones at the slow one, while there is time.
const MAX_ATTEMPTS: u32 = 4;
const SLOW_PACE: Duration = Duration::from_secs(1);
/// Attempts that are under way at a time.
const MAX_AT_ONCE: usize = 6;
/// How long the maintenance waits for a connection: the kernel needs 3 s to give up MPTCP where a firewall drops it.
const CONNECT_LIMIT: Duration = Duration::from_secs(6);
/// Pause between attempts to reach a server that is down.
const RETRY: Duration = Duration::from_secs(1);
/// A connection kept ready is replaced after this; the server's limit is longer.
const MAX_AGE: Duration = Duration::from_secs(240);
/// Client bytes go out with the request while the server was heard of within this time; otherwise only once it has
/// accepted, so that a connection that goes another way in the end has sent nothing.
const TRUST: Duration = Duration::from_secs(2);
/// A ticket that was not confirmed for this long is replaced when an answer stays away.
const STALE: Duration = Duration::from_secs(2);

/// Whether a server can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing is known yet.
    Unknown,
    /// It answers.
    Up,
    /// It does not.
    Down,
}

/// What happened so far.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections opened.
    pub opened: Cell<u32>,
    /// Of them with a connection from the pool.
    pub pooled: Cell<u32>,
    /// Attempts over another path because an answer was late.
    pub raced: Cell<u32>,
    /// Tunnel connections that turned out to be plain TCP.
    pub without_mptcp: Cell<u32>,
}

/// Why a connection could not be opened.
#[derive(Debug)]
pub struct Failure {
    /// Client bytes have left, so that the connection must not be opened elsewhere.
    pub exposed: bool,
}

/// A server of the client half.
pub struct Upstream {
    /// Its configuration.
    pub config: Rc<config::Upstream>,
    congestion: Option<String>,
    paths: Rc<Paths>,
    session: RefCell<Option<Ticket>>,
    ready: RefCell<VecDeque<Ready>>,
    /// Connections that await the answer to a request.
    pub asking: asking::List,
    filling: Cell<usize>,
    demand: RefCell<Demand>,
    state: Cell<State>,
    since: Cell<Instant>,
    heard: Cell<Option<Instant>>,
    rtt: Cell<Option<Duration>>,
    wake: Notify,
    changed: Notify,
    /// What happened so far.
    pub counters: Counters,
}

struct Ticket {
    session: Session,
    confirmed: Instant,
}

/// A connection to the server that awaits its request.
struct Ready {
    stream: TcpStream,
    greeting: Box<Greeting>,
    /// The server has answered our hello; otherwise the hello goes out with the request.
    verified: bool,
    bound: Option<IpAddr>,
    since: Instant,
    /// It looks like MPTCP, which its first answer has to show.
    trial: Option<Trial>,
}

/// A connection that tried MPTCP.
#[derive(Clone, Copy)]
struct Trial {
    begun: Instant,
    /// The last one from the same address spoke it.
    spoke: bool,
}

/// A connection whose request was accepted.
pub struct Accepted {
    /// The tunnel.
    pub stream: Rc<TcpStream>,
    /// Its keys.
    pub greeting: Box<Greeting>,
    /// Bytes behind the acceptance.
    pub received: Vec<u8>,
    /// Client bytes that were sent already.
    pub sent: usize,
}

type Attempt<'a> = asking::Attempt<'a, io::Result<Accepted>>;

impl Upstream {
    /// A server that keeps up to `pool` connections ready once [`Upstream::maintain`] runs.
    pub fn new(
        config: Rc<config::Upstream>,
        pool: usize,
        congestion: Option<String>,
        paths: Rc<Paths>,
    ) -> Rc<Self> {
        let now = Instant::now();
        Rc::new(Upstream {
            config,
            congestion,
            paths,
            session: RefCell::default(),
            ready: RefCell::default(),
            asking: asking::List::default(),
            filling: Cell::new(0),
            demand: RefCell::new(Demand::new(pool, now)),
            state: Cell::new(State::Unknown),
            since: Cell::new(now),
            heard: Cell::new(None),
            rtt: Cell::new(None),
            wake: Notify::new(),
            changed: Notify::new(),
            counters: Counters::default(),
        })
    }

    /// Whether it can be used.
    pub fn state(&self) -> State {
        self.state.get()
    }

    /// Since when.
    pub fn since(&self) -> Instant {
        self.since.get()
    }

    /// Round-trip time of the tunnel.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt.get()
    }

    /// Connections kept ready now.
    pub fn pooled(&self) -> usize {
        self.ready.borrow().len()
    }

    /// Waits until the state changes.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Notes that the server was heard of, by whatever way.
    pub fn hear(&self) {
        let now = Instant::now();
        self.heard.set(Some(now));
        if let Some(ticket) = &mut *self.session.borrow_mut() {
            ticket.confirmed = now;
        }
        self.enter(State::Up);
    }

    /// Whether it was heard of lately.
    pub fn answers(&self) -> bool {
        self.heard.get().is_some_and(|heard| heard.elapsed() < TRUST)
    }

    /// Notes that an answer did not come: a server that was not heard of for so long is looked after.
    pub fn doubt(&self, silence: Duration) {
        if self.state.get() == State::Up && self.heard.get().is_none_or(|heard| heard.elapsed() >= silence) {
            self.enter(State::Unknown);
            self.wake.notify_one();
        }
    }

    /// Notes that every path to the server is dead.
    pub fn lose(&self) {
        self.ready.borrow_mut().clear();
        self.enter(State::Down);
        self.wake.notify_one();
    }

    /// A path was lost: connections that began there are replaced.
    pub fn forget_path(&self, address: IpAddr) {
        self.ready.borrow_mut().retain(|ready| ready.bound != Some(address));
        self.wake.notify_one();
    }

    /// The datagram of a probe, when there is a ticket.
    pub fn probe(&self, number: u64) -> Option<[u8; crate::session::PROBE_LENGTH]> {
        self.session.borrow().as_ref().map(|ticket| ticket.session.probe(number))
    }

    /// The number of the probe this datagram answers.
    pub fn read_probe_answer(&self, datagram: &[u8]) -> Option<u64> {
        self.session.borrow().as_ref()?.session.read_probe_answer(datagram)
    }

    /// Opens a connection: from the pool when there is one, and over another path as well when the answer is late.
    /// `request` is the content of the first record; with `last_resort` there is no other way than this server.
    pub async fn open(
        &self,
        request: &[u8],
        early: &Early<'_>,
        last_resort: bool,
    ) -> Result<Accepted, Failure> {
        let trusted = self.answers();
        let exposed = Cell::new(false);
        if trusted && early.is_awaited() {
            let _ = timeout(FIRST_WORDS, early.beyond(0)).await;
        }
        let patience = PATIENCE.max(2 * self.rtt.get().unwrap_or_default());
        let begun = tokio::time::Instant::now();
        let limit = if last_resort { LAST_RESORT_LIMIT } else { OPEN_LIMIT }.max(3 * patience);
        let mut tried = Vec::new();
        let mut attempts: Vec<Attempt<'_>> = Vec::new();
        let mut next = begun;
        let mut started = 0;
        loop {
            let deadline = begun + if exposed.get() { EXPOSED_LIMIT } else { limit };
            let finished = tokio::select! {
                biased;
                finished = asking::first(&mut attempts), if !attempts.is_empty() => finished,
                () = asking::due(next), if attempts.len() < MAX_AT_ONCE && next < deadline => {
                    let attempt = match self.take(&tried) {
                        Some(ready) => {
                            tried.extend(ready.bound);
                            increment(&self.counters.pooled);
                            self.attempt(Ok(ready), request, early, trusted, &exposed)
                        }
                        None => {
                            let bind = self.paths.choose(self.config.address.ip(), &tried);
                            tried.extend(bind);
                            self.attempt(Err(bind), request, early, trusted, &exposed)
                        }
                    };
                    if started > 0 {
                        increment(&self.counters.raced);
                    }
                    attempts.push(Box::pin(attempt));
                    started += 1;
                    let pace = if started < MAX_ATTEMPTS { patience } else { SLOW_PACE.max(patience) };
                    next = tokio::time::Instant::now() + pace;
                    continue;
                }
                () = sleep_until(deadline) => break,
            };
            match finished {
                Ok(accepted) => {
                    self.hear();
                    increment(&self.counters.opened);
                    return Ok(accepted);
                }
                Err(error) => {
                    log::debug!("server {}: {error}", self.config.name);
                    if net::is_shortage(&error) {
                        // Says nothing about the server.
                        return Err(Failure { exposed: exposed.get() });
                    }
                    if attempts.is_empty() && started >= MAX_ATTEMPTS && !exposed.get() && !last_resort {
                        break;
                    }
                    // No need to wait for the answer of one that has failed.
                    let soon = if started < MAX_ATTEMPTS { Duration::ZERO } else { patience };
                    next = next.min(tokio::time::Instant::now() + soon);
                }
            }
        }
        if self.heard.get().is_none_or(|heard| heard.elapsed() >= OPEN_LIMIT) {
            self.lose();
        }
        Err(Failure { exposed: exposed.get() })
    }

    /// The next connection of the pool that lives and does not begin on a path that was tried.
    fn take(&self, tried: &[IpAddr]) -> Option<Ready> {
        let mut ready = self.ready.borrow_mut();
        ready.retain(|ready| net::is_quiet(&ready.stream));
        let position = ready.iter().position(|ready| ready.bound.is_none_or(|bound| !tried.contains(&bound)));
        let taken = position.and_then(|position| ready.remove(position));
        let left = taken.is_some().then_some(ready.len());
        self.demand.borrow_mut().taken(left, Instant::now());
        self.wake.notify_one();
        taken
    }

    async fn attempt(
        &self,
        ready: Result<Ready, Option<IpAddr>>,
        request: &[u8],
        early: &Early<'_>,
        trusted: bool,
        exposed: &Cell<bool>,
    ) -> io::Result<Accepted> {
        let ready = match ready {
            Ok(ready) => ready,
            Err(bind) => self.connect(bind, OPEN_LIMIT.max(CONNECT_LIMIT)).await?,
        };
        let Ready { stream, mut greeting, verified, bound, trial, .. } = ready;
        let asking = self.asking.enter(stream);
        let stream = &*asking.stream;
        let plain = self.config.cipher == Cipher::None;
        let mut out = Vec::with_capacity(512);
        if !verified {
            out.extend(greeting.hello);
        }
        greeting.sealer.append(request, &mut out);
        // Given up from here on, it must not end like a transfer that was complete.
        net::reset(stream);
        let mut sent = 0;
        if trusted {
            sent = early.append(&mut out, (!plain).then_some(&mut greeting.sealer), sent, exposed);
        }
        net::write_all(stream, &out).await?;
        let mut received = Vec::with_capacity(256);
        let mut proven = verified;
        loop {
            let more = tokio::select! {
                readable = stream.readable() => {
                    readable?;
                    false
                }
                () = early.beyond(sent), if trusted => true,
            };
            if more {
                out.clear();
                sent = early.append(&mut out, (!plain).then_some(&mut greeting.sealer), sent, exposed);
                net::write_all(stream, &out).await?;
                continue;
            }
            match stream.try_read_buf(&mut received) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            }
            if !proven {
                let Some(answer) = received.first_chunk::<MAC>() else { continue };
                greeting
                    .verify(answer)
                    .map_err(|refused| io::Error::new(io::ErrorKind::PermissionDenied, refused))?;
                received.drain(..MAC);
                proven = true;
            }
            match greeting.opener.open(&mut received, 0)? {
                Opened::Incomplete if received.len() >= MAX_RECORD => {
                    return Err(io::ErrorKind::InvalidData.into())
                }
                Opened::Incomplete => {}
                Opened::Record { used, content: 1 } if received[0] == wire::ACCEPTED => {
                    received.drain(..used);
                    net::keep(stream);
                    // The server has acted on it: it is taken as it is.
                    let _ = self.settle(stream, bound, trial);
                    return Ok(Accepted { stream: asking.stream.clone(), greeting, received, sent });
                }
                Opened::Record { .. } => {
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "superseded"));
                }
            }
        }
    }

    /// A new connection, with a ticket for it; the hello is not sent yet.
    async fn connect(&self, bind: Option<IpAddr>, limit: Duration) -> io::Result<Ready> {
        let begun = Instant::now();
        let trial = || Trial { begun, spoke: self.paths.spoke_mptcp(bind) };
        let trial = self.paths.tries_mptcp(bind).then(trial);
        let outgoing =
            Outgoing { mptcp: trial.is_some(), bind, mark: None, congestion: self.congestion.as_deref() };
        let mut stream = outgoing.connect(self.config.address, limit).await?;
        let mptcp = net::is_mptcp(&stream);
        if trial.is_none() {
            increment(&self.counters.without_mptcp);
        } else if !mptcp {
            self.settle(&stream, bind, trial)?;
        }
        self.measure(begun.elapsed());
        let known = {
            let session = self.session.borrow();
            session
                .as_ref()
                .is_some_and(|ticket| ticket.confirmed.elapsed() < STALE || self.state.get() == State::Up)
        };
        if !known {
            timeout(limit, self.ask(&mut stream))
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        }
        let greeting = match &mut *self.session.borrow_mut() {
            Some(ticket) => ticket.session.greet(self.config.cipher),
            None => return Err(io::ErrorKind::NotConnected.into()),
        };
        let trial = trial.filter(|_| mptcp);
        Ok(Ready { stream, greeting, verified: false, bound: bind, since: Instant::now(), trial })
    }

    /// Notes whether a connection has come to speak MPTCP: where the first packet behind the handshake is lost or stripped,
    /// the other end has given it up, which shows with its first answer. An error (`ConnectionAborted`) is not to be kept:
    /// it speaks plain TCP, though the last from the same address spoke MPTCP: the path was silent for a while, and it would
    /// stay plain for ever. If it is the way that has changed, one of the next is taken.
    fn settle(&self, stream: &TcpStream, bound: Option<IpAddr>, trial: Option<Trial>) -> io::Result<()> {
        let Some(Trial { begun, spoke }) = trial else { return Ok(()) };
        let mptcp = net::is_mptcp(stream);
        self.paths.note_connection(bound, mptcp, begun);
        if mptcp {
            return Ok(());
        }
        increment(&self.counters.without_mptcp);
        if spoke {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "came up without MPTCP this time"));
        }
        Ok(())
    }

    async fn ask(&self, stream: &mut TcpStream) -> io::Result<()> {
        let (question, bytes) = Question::new(&self.config.key);
        stream.write_all(&bytes).await?;
        let mut answer = [0; TICKET_LENGTH];
        stream.read_exact(&mut answer).await?;
        let session = question
            .finish(&answer)
            .map_err(|refused| io::Error::new(io::ErrorKind::PermissionDenied, refused))?;
        self.session.replace(Some(Ticket { session, confirmed: Instant::now() }));
        Ok(())
    }

    /// Connects and waits for the server's answer to the hello.
    async fn prepare(&self, bind: Option<IpAddr>) -> io::Result<()> {
        let mut ready = self.connect(bind, CONNECT_LIMIT).await?;
        ready.stream.write_all(&ready.greeting.hello).await?;
        let mut answer = [0; MAC];
        let read = timeout(CONNECT_LIMIT, ready.stream.read_exact(&mut answer)).await;
        if let Err(error) = read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut)).and_then(|read| read) {
            // The server does not know the ticket any more, or is gone.
            self.session.replace(None);
            return Err(error);
        }
        ready
            .greeting
            .verify(&answer)
            .map_err(|refused| io::Error::new(io::ErrorKind::PermissionDenied, refused))?;
        self.settle(&ready.stream, ready.bound, ready.trial.take())?;
        ready.verified = true;
        self.ready.borrow_mut().push_back(ready);
        self.hear();
        Ok(())
    }

    /// Keeps the pool filled and finds out when the server goes and comes back. Runs for ever.
    pub async fn maintain(self: Rc<Self>) {
        loop {
            let pause = self.maintain_once().await;
            tokio::select! {
                () = sleep(pause) => {}
                () = self.wake.notified(), if self.state.get() != State::Down => {}
                () = self.lost_ready() => {}
            }
        }
    }

    async fn maintain_once(self: &Rc<Self>) -> Duration {
        let now = Instant::now();
        self.demand.borrow_mut().calm_down(now);
        let before = self.ready.borrow().len();
        self.ready
            .borrow_mut()
            .retain(|ready| net::is_quiet(&ready.stream) && ready.since.elapsed() < MAX_AGE);
        let after = self.ready.borrow().len();
        if after == 0 && before > 0 && self.connect_check().await.is_err() {
            return RETRY;
        }
        let target = self.demand.borrow().target();
        if self.state.get() != State::Up || target == 0 {
            return match self.connect_check().await {
                Ok(()) if target > 0 => Duration::ZERO,
                Ok(()) => Duration::from_secs(5),
                Err(error) if net::is_shortage(&error) => RETRY,
                // It was answered, but without MPTCP.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => RETRY,
                Err(error) => {
                    if self.state.get() != State::Down {
                        log::warn!("server {} ({}): {error}", self.config.name, self.config.address);
                    }
                    self.lose();
                    RETRY
                }
            };
        }
        let missing = target.saturating_sub(after + self.filling.get());
        for _ in 0..missing {
            let upstream = self.clone();
            self.filling.set(self.filling.get() + 1);
            tokio::task::spawn_local(async move {
                let bind = upstream.paths.choose(upstream.config.address.ip(), &[]);
                let prepared = timeout(2 * CONNECT_LIMIT, upstream.prepare(bind)).await;
                upstream.filling.set(upstream.filling.get() - 1);
                if !matches!(prepared, Ok(Ok(()))) {
                    // Not at once again: either the server is down, which the next round finds out, or it refuses.
                    upstream.state.set(State::Unknown);
                    sleep(RETRY).await;
                    upstream.wake.notify_one();
                }
            });
        }
        MAX_AGE / 16
    }

    /// One connection, to see whether the server answers; it goes to the pool. All paths are tried.
    async fn connect_check(&self) -> io::Result<()> {
        let mut tried = Vec::new();
        loop {
            let bind = self.paths.choose(self.config.address.ip(), &tried);
            let result = timeout(CONNECT_LIMIT, self.prepare(bind)).await;
            let result = result.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            tried.extend(bind);
            let another = self.paths.choose(self.config.address.ip(), &tried);
            match result {
                Err(_) if another.is_some_and(|another| !tried.contains(&another)) => {}
                result => {
                    if self.demand.borrow().target() == 0 {
                        self.ready.borrow_mut().clear();
                    }
                    return result;
                }
            }
        }
    }

    /// Waits until a connection of the pool ends or says something it should not.
    async fn lost_ready(&self) {
        poll_fn(|context| {
            let ready = self.ready.borrow();
            let lost = ready.iter().any(|ready| {
                ready.stream.poll_read_ready(context).is_ready() && !net::is_quiet(&ready.stream)
            });
            if lost {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    fn enter(&self, state: State) {
        if self.state.get() == state {
            return;
        }
        match state {
            State::Up => log::info!("server {} answers", self.config.name),
            State::Down => log::warn!("server {} does not answer", self.config.name),
            State::Unknown => {}
        }
        self.state.set(state);
        self.since.set(Instant::now());
        self.changed.notify_waiters();
    }

    fn measure(&self, sample: Duration) {
        // RFC 6298 2.3, the smoothed round-trip time.
        let smoothed = self.rtt.get().map_or(sample, |rtt| (rtt * 7 + sample) / 8);
        self.rtt.set(Some(smoothed));
    }
}

fn increment(counter: &Cell<u32>) {
    counter.set(counter.get().wrapping_add(1));
}
