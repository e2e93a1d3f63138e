// SPDX-License-Identifier: Apache-2.0
//! The connections there are: for the list, for the timeouts, for draining.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::path::Paths;
use crate::record::Forged;
use crate::socks::Target;
use crate::sys;

/// A receiver that takes nothing for so long has its sender looked after.
const BLOCKED: Duration = Duration::from_millis(500);
/// One in so many connections has its subflows looked at in a sweep, so that each is in that many seconds.
const TURN: u32 = 5;

/// Which way a connection goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Client half: through the tunnel to this upstream.
    Tunnel(Rc<str>),
    /// Client half: out by plain TCP, because no upstream answers.
    Direct,
    /// Server half: for this user.
    Served(Rc<str>),
}

/// Where in its life a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The far end is connecting to the target.
    Connecting,
    /// Both directions are open.
    Open,
    /// One direction has ended.
    HalfClosed,
}

/// When a connection that does nothing is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Without a byte in either direction.
    pub idle: Duration,
    /// Without a byte after one direction has ended.
    pub half_open: Duration,
    /// Until the far end says whether it could connect.
    pub connect: Duration,
}

impl Limits {
    /// The longer of each.
    pub fn loosest(self, other: Self) -> Self {
        Limits {
            idle: self.idle.max(other.idle),
            half_open: self.half_open.max(other.half_open),
            connect: self.connect.max(other.connect),
        }
    }
}

/// Whether a receiver does not take what there is for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blocked {
    No,
    Yes,
    /// For a while now: the sender has to be looked after.
    Look,
}

/// One connection.
pub struct Connection {
    /// Number, unique while the daemon runs.
    pub id: u32,
    /// Who opened it.
    pub source: SocketAddr,
    /// Where it leads.
    pub target: Target,
    /// Which way.
    pub way: Way,
    /// When it was accepted.
    pub since: Instant,
    /// Bytes from source to target.
    pub up: Cell<u64>,
    /// Bytes from target to source.
    pub down: Cell<u64>,
    /// The tunnel's socket, for its subflows.
    pub tunnel: RefCell<Option<Rc<TcpStream>>>,
    phase: Cell<Phase>,
    active: Cell<Instant>,
    ended: Cell<bool>,
    /// It had no subflow when it was last looked at.
    stranded: Cell<bool>,
    blocked: Cell<Blocked>,
    waker: RefCell<Option<Waker>>,
}

impl Connection {
    /// Notes a byte count in one direction.
    pub fn count(&self, upward: bool, bytes: usize) {
        let counter = if upward { &self.up } else { &self.down };
        counter.set(counter.get() + bytes as u64);
        self.active.set(Instant::now());
    }

    /// Notes where it is.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.set(phase);
        self.active.set(Instant::now());
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Ends it with a reset.
    pub fn end(&self) {
        self.ended.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether it was ended from outside.
    pub fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// Whether it was ended from outside; wakes the task when it is.
    pub fn poll_ended(&self, context: &Context<'_>) -> bool {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        self.ended.get()
    }

    /// Notes whether a receiver is blocked; says whether it is time to look after the sender.
    pub fn looks(&self, blocked: bool) -> bool {
        let before = self.blocked.replace(if blocked { Blocked::Yes } else { Blocked::No });
        blocked && before == Blocked::Look
    }

    /// Wakes the task of a connection whose receiver has been blocked for a while.
    fn look(&self, now: Instant) {
        if self.blocked.get() != Blocked::No && now.saturating_duration_since(self.active.get()) >= BLOCKED {
            self.blocked.set(Blocked::Look);
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }

    /// Whether it had no subflow now and a turn ago, though its server answers: the server knows it no more, or else the
    /// kernel would have made one. The reset that would have told so was lost with its path, and the kernel by itself
    /// lets the host wait for a minute. While no path is left, that minute is what the connection has to survive in.
    fn is_stranded(&self, answers: impl FnOnce(&str) -> bool) -> bool {
        let Way::Tunnel(upstream) = &self.way else { return false };
        let tunnel = self.tunnel.borrow();
        let subflows = tunnel.as_ref().and_then(|tunnel| sys::subflows(tunnel.as_ref()).ok());
        let none = subflows.is_some_and(|subflows| subflows.iter().all(|subflow| subflow.closed));
        let stranded = none && answers(upstream);
        self.stranded.replace(stranded) && stranded
    }

    fn overdue(&self, limits: &Limits, now: Instant) -> bool {
        let limit = match self.phase.get() {
            Phase::Connecting => limits.connect,
            Phase::Open => limits.idle,
            Phase::HalfClosed => limits.half_open,
        };
        now.saturating_duration_since(self.active.get()) > limit
    }
}

/// All connections.
pub struct Connections {
    paths: Rc<Paths>,
    all: RefCell<BTreeMap<u32, Rc<Connection>>>,
    next: Cell<u32>,
    turn: Cell<u32>,
    timed_out: Cell<u32>,
    altered: Cell<u32>,
}

impl Connections {
    /// None yet; what they carry in the end is added to their paths.
    pub fn new(paths: Rc<Paths>) -> Self {
        Connections {
            paths,
            all: RefCell::default(),
            next: Cell::new(0),
            turn: Cell::new(0),
            timed_out: Cell::new(0),
            altered: Cell::new(0),
        }
    }

    /// Registers a connection until the guard is dropped.
    pub fn register(self: &Rc<Self>, source: SocketAddr, target: Target, way: Way) -> Guard {
        let mut all = self.all.borrow_mut();
        if all.is_empty() {
            self.paths.traffic.notify_waiters();
        }
        let mut id = self.next.get();
        while all.contains_key(&id) {
            id = id.wrapping_add(1);
        }
        self.next.set(id.wrapping_add(1));
        let now = Instant::now();
        let connection = Rc::new(Connection {
            id,
            source,
            target,
            way,
            since: now,
            up: Cell::new(0),
            down: Cell::new(0),
            tunnel: RefCell::new(None),
            phase: Cell::new(Phase::Connecting),
            active: Cell::new(now),
            ended: Cell::new(false),
            stranded: Cell::new(false),
            blocked: Cell::new(Blocked::No),
            waker: RefCell::new(None),
        });
        all.insert(id, connection.clone());
        Guard { connections: self.clone(), connection }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.borrow().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.borrow().is_empty()
    }

    /// How many of one user there are on the server half.
    pub fn of_user(&self, user: &str) -> usize {
        let all = self.all.borrow();
        all.values()
            .filter(|connection| matches!(&connection.way, Way::Served(name) if **name == *user))
            .count()
    }

    /// All of them, oldest number first.
    pub fn list(&self) -> Vec<Rc<Connection>> {
        self.all.borrow().values().cloned().collect()
    }

    /// Connections that were ended because nothing happened.
    pub fn timed_out(&self) -> u32 {
        self.timed_out.get()
    }

    /// Connections that were reset because the tunnel brought something else than the other half had sealed.
    pub fn altered(&self) -> u32 {
        self.altered.get()
    }

    /// Says why a connection of the tunnel broke. Resets are everyday; bytes that were altered on the way are not, and are
    /// counted and told.
    pub fn broke(&self, whose: fmt::Arguments<'_>, error: &io::Error, hint: &str) {
        if !Forged::is_behind(error) {
            return log::debug!("{whose}: {error}");
        }
        self.altered.set(self.altered.get().wrapping_add(1));
        openwrt::log_repeated!(
            log::Level::Warn,
            "{whose}: reset, its bytes were altered on the way: {error}{hint}"
        );
    }

    /// Ends what is overdue or has lost its server, which `answers` knows of by its name, and looks after what is blocked;
    /// to be called about every second.
    pub fn sweep(&self, limits: &Limits, answers: impl Fn(&str) -> bool, now: Instant) {
        let turn = (self.turn.get() + 1) % TURN;
        self.turn.set(turn);
        for connection in self.list() {
            if connection.overdue(limits, now) {
                self.timed_out.set(self.timed_out.get().wrapping_add(1));
                connection.end();
            } else if connection.id % TURN == turn && connection.is_stranded(&answers) {
                if let Way::Tunnel(server) = &connection.way {
                    openwrt::log_repeated!(
                        log::Level::Info,
                        "server {server}: a connection that it knows no more was ended"
                    );
                }
                connection.end();
            } else {
                connection.look(now);
            }
        }
    }
}

/// Keeps a connection in the list.
pub struct Guard {
    connections: Rc<Connections>,
    connection: Rc<Connection>,
}

impl Guard {
    /// As [`Connections::broke`].
    pub fn broke(&self, error: &io::Error) {
        // A kernel that gives MPTCP up in the middle of a connection may repeat bytes.
        let plain = self.tunnel.borrow().as_deref().is_some_and(|tunnel| !sys::is_mptcp(tunnel));
        let hint = if plain { " (without MPTCP by then)" } else { "" };
        self.connections.broke(format_args!("{}", self.target), error, hint);
    }
}

impl std::ops::Deref for Guard {
    type Target = Rc<Connection>;

    fn deref(&self) -> &Rc<Connection> {
        &self.connection
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.connections.all.borrow_mut().remove(&self.connection.id);
        if let Some(tunnel) = self.connection.tunnel.take() {
            self.connections.paths.account(&sys::subflows(tunnel.as_ref()).unwrap_or_default());
        }
    }
}
