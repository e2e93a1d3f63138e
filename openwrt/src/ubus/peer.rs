// SPDX-License-Identifier: Apache-2.0
//! What to say to ubusd and what its messages mean; no sockets, no clock.
//!
//! Everything this side offers is an *object* for ubusd: published ones have a name; each event pattern and each
//! subscription has an anonymous object of its own, so that what arrives for it can be told apart. A [`Key`] names such an
//! object for the life of the client, while ubusd's number of it changes with every connection.

mod calls;
pub mod fuzz;
mod objects;

use super::message::{Decoder, Draft, Fields, FrameFault, Kind, Message};
use super::{Counters, Description, Error, Event, Status};
use crate::small_map::SmallMap;
use calls::Call;
use objects::{Entry, Step};
use serde_json::Value;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Bytes that may wait for ubusd.
const QUEUE_BYTES: usize = 2 << 20;
/// Requests that may wait for their answers.
const REQUESTS: usize = 512;
/// Calls from others that may be under way.
const INVOCATIONS: usize = 64;
/// How long ubusd may take to greet or to answer a registration.
const PATIENCE: Duration = Duration::from_secs(10);

/// Names a served object, an event pattern or a subscription of this client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(u32);

/// Names a call of this client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Token(u32);

/// Names a call to this client, for [`Peer::reply`].
#[derive(Debug)]
pub(crate) struct Ticket {
    connection: u32,
    seq: u16,
    caller: u32,
    object: u32,
    answer: bool,
}

/// Something the shell has to do.
#[derive(Debug)]
pub(crate) enum Action {
    /// A call of this client ended.
    Finished { token: Token, result: Result<Outcome, Error> },
    /// Someone calls a method of the object `key`; [`Peer::reply`] must follow.
    Invoke {
        key: Key,
        ticket: Ticket,
        method: String,
        args: Value,
        user: Option<String>,
        group: Option<String>,
    },
    /// An event for the pattern `key`; `size` is that of its payload in bytes.
    Event { key: Key, event: Event, size: usize },
    /// The subscription `key` stands.
    Attached { key: Key },
    /// The subscription `key` no longer stands.
    Detached { key: Key },
    /// A notification for the subscription `key`; `size` is that of its payload in bytes.
    Notification { key: Key, kind: String, data: Value, size: usize },
}

/// What a call of this client brought.
#[derive(Debug)]
pub(crate) enum Outcome {
    Reply(Value),
    Objects(Vec<Description>),
}

/// Why the connection has to be made anew.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Frame(FrameFault),
    NoGreeting,
    Unanswered,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Frame(FrameFault::Version(version)) => {
                write!(f, "a message of version {version} instead of 0")
            }
            Self::Frame(FrameFault::Length(length)) => write!(f, "a message of {length} bytes"),
            Self::NoGreeting => f.write_str("no greeting"),
            Self::Unanswered => f.write_str("a registration was not answered"),
        }
    }
}

/// One side of a connection to ubusd, and what outlives it.
#[derive(Debug)]
pub(crate) struct Peer {
    link: Link,
    /// Counts connections, so that a late answer does not go to a new one.
    connection: u32,
    decoder: Decoder,
    seq: u16,
    requests: SmallMap<u16, Request>,
    entries: SmallMap<Key, Entry>,
    by_id: SmallMap<u32, Key>,
    watch: Option<Key>,
    last_key: u32,
    last_token: u32,
    invocations: usize,
    out: VecDeque<Vec<u8>>,
    out_bytes: usize,
    actions: VecDeque<Action>,
    counters: Counters,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// Waiting before the next attempt: calls fail at once.
    Down,
    /// Connecting, or waiting for the greeting: calls wait.
    Coming {
        deadline: Instant,
    },
    Up,
}

/// What waits for an answer of ubusd or of a called object.
#[derive(Debug)]
struct Request {
    peer: u32,
    deadline: Instant,
    purpose: Purpose,
}

#[derive(Debug)]
enum Purpose {
    /// A step in offering the object `key`; `id` is the number that a data message brought.
    Register {
        key: Key,
        step: Step,
        id: Option<u32>,
    },
    Call(Call),
    /// To be asked as soon as ubusd has greeted.
    WaitingCall(Call),
    /// Nothing depends on the answer.
    Formality,
}

impl Peer {
    pub(crate) fn new() -> Self {
        Self {
            link: Link::Down,
            connection: 0,
            decoder: Decoder::default(),
            seq: 0,
            requests: SmallMap::new(),
            entries: SmallMap::new(),
            by_id: SmallMap::new(),
            watch: None,
            last_key: 0,
            last_token: 0,
            invocations: 0,
            out: VecDeque::new(),
            out_bytes: 0,
            actions: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// The shell begins to connect.
    pub(crate) fn connecting(&mut self, now: Instant) {
        self.link = Link::Coming { deadline: now + PATIENCE };
    }

    /// The shell has no connection, or closed it.
    pub(crate) fn disconnected(&mut self, fault: Option<&Fault>) {
        if fault.is_some() {
            self.counters.malformed = self.counters.malformed.saturating_add(1);
        }
        self.link = Link::Down;
        self.decoder = Decoder::default();
        self.out.clear();
        self.out_bytes = 0;
        self.by_id.clear();
        self.invocations = 0;
        for (_, request) in std::mem::take(&mut self.requests) {
            if let Purpose::Call(call) | Purpose::WaitingCall(call) = request.purpose {
                self.finish(call.token, Err(Error::Unavailable));
            }
        }
        self.forget_registrations();
    }

    /// Bytes came from ubusd.
    pub(crate) fn received(&mut self, bytes: &[u8], now: Instant) -> Result<(), Fault> {
        self.decoder.feed(bytes);
        while let Some(message) = self.decoder.next().map_err(Fault::Frame)? {
            self.message(&message, now)?;
        }
        Ok(())
    }

    fn message(&mut self, message: &Message, now: Instant) -> Result<(), Fault> {
        if self.link != Link::Up {
            return match message.kind {
                Some(Kind::Hello) => {
                    self.greeted(now);
                    Ok(())
                }
                _ => Err(Fault::NoGreeting),
            };
        }
        let fields = message.fields();
        match message.kind {
            Some(Kind::Data) => self.data(message, &fields),
            Some(Kind::Status) => self.status(message, &fields, now),
            Some(Kind::Invoke) => self.invoked(message, fields, now),
            Some(Kind::Notify) => self.subscribers_changed(&fields),
            Some(Kind::Unsubscribe) => self.target_gone(&fields, now),
            _ => {}
        }
        Ok(())
    }

    fn greeted(&mut self, now: Instant) {
        log::info!("ubus: connected");
        self.link = Link::Up;
        self.connection = self.connection.wrapping_add(1);
        self.counters.connections = self.counters.connections.saturating_add(1);
        let keys: Vec<Key> = self.entries.keys().copied().collect();
        keys.into_iter().for_each(|key| self.offer(key, now));
        self.start_waiting_calls();
    }

    fn data(&mut self, message: &Message, fields: &Fields<'_>) {
        let Some(request) = self.requests.get_mut(&message.seq).filter(|r| r.peer == message.peer) else {
            return;
        };
        match &mut request.purpose {
            Purpose::Register { id, .. } => *id = fields.object.or(*id),
            Purpose::Call(call) => call.data(fields),
            Purpose::WaitingCall(_) | Purpose::Formality => {}
        }
    }

    fn status(&mut self, message: &Message, fields: &Fields<'_>, now: Instant) {
        if self.requests.get(&message.seq).is_none_or(|request| request.peer != message.peer) {
            return;
        }
        let Some(request) = self.requests.remove(&message.seq) else { return };
        let status = fields.status.unwrap_or(Status::InvalidArgument);
        match request.purpose {
            Purpose::Register { key, step, id } => self.registration_answered(key, step, id, status, now),
            Purpose::Call(call) => self.call_answered(call, status, request.deadline),
            Purpose::WaitingCall(_) | Purpose::Formality => {}
        }
    }

    /// Time passed; see [`Peer::deadline`].
    pub(crate) fn tick(&mut self, now: Instant) -> Result<(), Fault> {
        if matches!(self.link, Link::Coming { deadline } if deadline <= now) {
            return Err(Fault::NoGreeting);
        }
        let late: Vec<u16> =
            self.requests.iter().filter(|(_, r)| r.deadline <= now).map(|(seq, _)| *seq).collect();
        for seq in late {
            match self.requests.remove(&seq).map(|request| request.purpose) {
                Some(Purpose::Call(call) | Purpose::WaitingCall(call)) => {
                    self.finish(call.token, Err(Error::Timeout));
                }
                // Whether ubusd knows the object now cannot be known: only a new connection is a clean start.
                Some(Purpose::Register { .. }) => return Err(Fault::Unanswered),
                Some(Purpose::Formality) | None => {}
            }
        }
        self.retry(now);
        Ok(())
    }

    /// When [`Peer::tick`] has to be called next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let greeting = match self.link {
            Link::Coming { deadline } => Some(deadline),
            Link::Down | Link::Up => None,
        };
        let requests = self.requests.values().map(|request| request.deadline);
        requests.chain(greeting).chain(self.next_retry()).min()
    }

    /// The next thing to do.
    pub(crate) fn action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The bytes to write next, a whole message.
    pub(crate) fn outgoing(&mut self) -> Option<Vec<u8>> {
        let bytes = self.out.pop_front()?;
        self.out_bytes -= bytes.len();
        Some(bytes)
    }

    pub(crate) fn has_outgoing(&self) -> bool {
        !self.out.is_empty()
    }

    pub(crate) fn is_up(&self) -> bool {
        self.link == Link::Up
    }

    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    fn finish(&mut self, token: Token, result: Result<Outcome, Error>) {
        self.actions.push_back(Action::Finished { token, result });
    }

    /// Sends a request and remembers what its answer is for.
    fn request(&mut self, draft: Draft, deadline: Instant, purpose: Purpose) -> Result<(), Error> {
        if self.requests.len() >= REQUESTS {
            return Err(Error::Overloaded);
        }
        let seq = self.free_seq();
        let peer = draft.peer();
        self.send(draft, seq)?;
        self.requests.insert(seq, Request { peer, deadline, purpose });
        Ok(())
    }

    fn send(&mut self, draft: Draft, seq: u16) -> Result<(), Error> {
        if self.link != Link::Up {
            return Err(Error::Unavailable);
        }
        let bytes = draft.encode(seq)?;
        if self.out_bytes + bytes.len() > QUEUE_BYTES {
            return Err(Error::Overloaded);
        }
        self.out_bytes += bytes.len();
        self.out.push_back(bytes);
        Ok(())
    }

    /// Ends: at most [`REQUESTS`] of the 65 536 numbers are taken.
    fn free_seq(&mut self) -> u16 {
        loop {
            self.seq = self.seq.wrapping_add(1);
            if !self.requests.contains_key(&self.seq) {
                return self.seq;
            }
        }
    }
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
