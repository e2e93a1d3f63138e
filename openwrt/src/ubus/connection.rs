// SPDX-License-Identifier: Apache-2.0
//! The task that keeps the connection: connects, moves bytes, runs handlers.

use super::mailbox::Mailbox;
use super::peer::{Action, Fault, Key, Outcome, Peer, Ticket, Token};
use super::{Error, Event, Failure, Status, Update};
use crate::small_map::SmallMap;
use crate::task::boxed;
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::sync::{oneshot, Notify};
use tokio::task::JoinSet;

const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(10);
/// A connection that lasted this long makes the next back-off short again.
const STABLE: Duration = Duration::from_secs(5);

/// A call of a served method.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Name of the method.
    pub method: String,
    /// The arguments as the caller sent them, a JSON object.
    pub args: Value,
    /// User name of the calling process, as far as ubusd tells.
    pub user: Option<String>,
    /// Group name of the calling process, as far as ubusd tells.
    pub group: Option<String>,
}

pub(super) type Answer = Pin<Box<dyn Future<Output = Result<Value, Failure>>>>;
pub(super) type Handler = Rc<dyn Fn(Request) -> Answer>;

/// Where what comes for a registration goes.
pub(super) enum Route {
    Methods(SmallMap<String, Handler>),
    Events(Rc<Mailbox<Event>>),
    Subscription(Rc<Mailbox<Update>>),
}

impl Drop for Route {
    fn drop(&mut self) {
        match self {
            Self::Methods(_) => {}
            Self::Events(mailbox) => mailbox.close(),
            Self::Subscription(mailbox) => mailbox.close(),
        }
    }
}

pub(super) struct Shared {
    pub(super) peer: RefCell<Peer>,
    /// Something is to be written, or the end has come.
    pub(super) wake: Notify,
    pub(super) calls: RefCell<SmallMap<Token, oneshot::Sender<Result<Outcome, Error>>>>,
    pub(super) routes: RefCell<SmallMap<Key, Route>>,
    pub(super) closed: Cell<bool>,
}

/// Why a connection ended.
enum End {
    Closed,
    Lost(io::Error),
    Fault(Fault),
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl End {
    fn log(&self, socket: &Path, was_up: bool, again: bool) {
        let level = match self {
            Self::Lost(_) if was_up => log::Level::Warn,
            _ if again => log::Level::Debug,
            Self::Lost(_) => log::Level::Info,
            Self::Closed | Self::Fault(_) => log::Level::Warn,
        };
        let socket = socket.display();
        match self {
            Self::Closed => {}
            Self::Lost(error) if was_up => log::log!(level, "ubus: lost the connection to {socket}: {error}"),
            Self::Lost(error) => log::log!(level, "ubus: none at {socket} yet: {error}"),
            Self::Fault(fault) => log::log!(level, "ubus: closed the connection to {socket}: {fault}"),
        }
    }
}

impl Shared {
    pub(super) fn new() -> Self {
        let mut peer = Peer::new();
        // Before the task first runs, so that calls wait from the start.
        peer.connecting(Instant::now());
        Self {
            peer: RefCell::new(peer),
            wake: Notify::new(),
            calls: RefCell::default(),
            routes: RefCell::default(),
            closed: Cell::new(false),
        }
    }

    pub(super) fn with_peer<T>(&self, act: impl FnOnce(&mut Peer) -> T) -> T {
        let result = act(&mut self.peer.borrow_mut());
        self.wake.notify_one();
        result
    }

    /// Runs until [`Shared::closed`].
    pub(super) async fn run(self: Rc<Self>, socket: PathBuf) {
        let mut handlers = JoinSet::new();
        let mut backoff = Backoff::default();
        let mut told = false;
        while !self.closed.get() {
            let started = Instant::now();
            self.peer.borrow_mut().connecting(started);
            let end = self.connect(&socket, &mut handlers).await;
            let fault = match &end {
                End::Fault(fault) => Some(fault),
                End::Closed | End::Lost(_) => None,
            };
            let was_up = self.peer.borrow().is_up();
            let stable = was_up && started.elapsed() >= STABLE;
            self.peer.borrow_mut().disconnected(fault);
            self.dispatch(&mut handlers);
            if matches!(end, End::Closed) {
                return;
            }
            // That there is none, or nonsense, is said once and not at every attempt.
            end.log(&socket, was_up, told && !stable);
            told = true;
            let pause = backoff.next(stable);
            self.rest(pause, &mut handlers).await;
        }
    }

    /// Waits; handlers that are under way go on.
    async fn rest(self: &Rc<Self>, pause: Duration, handlers: &mut JoinSet<()>) {
        let until = tokio::time::Instant::now() + pause;
        while !self.closed.get() {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                () = self.wake.notified() => {}
                Some(_) = handlers.join_next() => {}
            }
        }
    }

    async fn connect(self: &Rc<Self>, socket: &Path, handlers: &mut JoinSet<()>) -> End {
        let stream = match UnixStream::connect(socket).await {
            Ok(stream) => stream,
            Err(error) => return End::Lost(error),
        };
        let mut written = Written::default();
        let mut chunk = vec![0; 8192];
        loop {
            if self.closed.get() {
                // The last words, as far as the socket takes them at once.
                let _ = written.write(&stream, &mut self.peer.borrow_mut());
                return End::Closed;
            }
            let deadline = self.peer.borrow().deadline().map(tokio::time::Instant::from_std);
            let pending = written.is_pending() || self.peer.borrow().has_outgoing();
            let step = tokio::select! {
                () = self.wake.notified() => Ok(()),
                ready = stream.writable(), if pending => match ready {
                    Ok(()) => written.write(&stream, &mut self.peer.borrow_mut()).map_err(End::Lost),
                    Err(error) => Err(End::Lost(error)),
                },
                ready = stream.readable() => match ready {
                    Ok(()) => self.read(&stream, &mut chunk),
                    Err(error) => Err(End::Lost(error)),
                },
                () = sleep_until(deadline), if deadline.is_some() => {
                    self.peer.borrow_mut().tick(Instant::now()).map_err(End::from)
                }
                Some(_) = handlers.join_next() => Ok(()),
            };
            self.dispatch(handlers);
            if let Err(end) = step {
                return end;
            }
        }
    }

    fn read(&self, stream: &UnixStream, chunk: &mut [u8]) -> Result<(), End> {
        match stream.try_read(chunk) {
            Ok(0) => Err(End::Lost(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => Ok(self.peer.borrow_mut().received(&chunk[..count], Instant::now())?),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(End::Lost(error)),
        }
    }

    fn dispatch(self: &Rc<Self>, handlers: &mut JoinSet<()>) {
        loop {
            let Some(action) = self.peer.borrow_mut().action() else { return };
            match action {
                Action::Finished { token, result } => {
                    if let Some(sender) = self.calls.borrow_mut().remove(&token) {
                        // Nobody there: the call was given up at this very moment.
                        let _ = sender.send(result);
                    }
                }
                Action::Invoke { key, ticket, method, args, user, group } => {
                    self.invoke(key, ticket, Request { method, args, user, group }, handlers);
                }
                Action::Event { key, event, size } => {
                    if let Some(Route::Events(mailbox)) = self.routes.borrow().get(&key) {
                        mailbox.push(size, event);
                    }
                }
                Action::Attached { key } => self.update(key, 0, Update::Attached),
                Action::Detached { key } => self.update(key, 0, Update::Detached),
                Action::Notification { key, kind, data, size } => {
                    self.update(key, size, Update::Notification { kind, data });
                }
            }
        }
    }

    fn update(&self, key: Key, size: usize, update: Update) {
        if let Some(Route::Subscription(mailbox)) = self.routes.borrow().get(&key) {
            mailbox.push(size, update);
        }
    }

    fn invoke(self: &Rc<Self>, key: Key, ticket: Ticket, request: Request, handlers: &mut JoinSet<()>) {
        let handler = match self.routes.borrow().get(&key) {
            Some(Route::Methods(methods)) => methods.get(&request.method).cloned(),
            _ => None,
        };
        let Some(handler) = handler else {
            return self.with_peer(|peer| peer.reply(ticket, Err(Status::MethodNotFound.into())));
        };
        let mut responder = Responder { shared: Rc::clone(self), ticket: Some(ticket) };
        handlers.spawn_local(boxed(async move {
            let result = handler(request).await;
            responder.answer(result);
        }));
    }
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    if let Some(deadline) = deadline {
        tokio::time::sleep_until(deadline).await;
    }
}

/// Answers a call once, also when its handler panics or is ended.
struct Responder {
    shared: Rc<Shared>,
    ticket: Option<Ticket>,
}

impl Responder {
    fn answer(&mut self, result: Result<Value, Failure>) {
        if let Some(ticket) = self.ticket.take() {
            self.shared.with_peer(|peer| peer.reply(ticket, result));
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.answer(Err(Status::UnknownError.into()));
    }
}

/// The message that is being written.
#[derive(Default)]
struct Written {
    bytes: Vec<u8>,
    count: usize,
}

impl Written {
    fn is_pending(&self) -> bool {
        self.count < self.bytes.len()
    }

    fn write(&mut self, stream: &UnixStream, peer: &mut Peer) -> io::Result<()> {
        loop {
            if !self.is_pending() {
                let Some(bytes) = peer.outgoing() else { return Ok(()) };
                *self = Self { bytes, count: 0 };
            }
            match stream.try_write(&self.bytes[self.count..]) {
                Ok(count) => self.count += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

#[derive(Default)]
struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    fn next(&mut self, was_stable: bool) -> Duration {
        let pause = match self.last {
            Some(last) if !was_stable => (last * 2).min(LAST_BACKOFF),
            _ => FIRST_BACKOFF,
        };
        self.last = Some(pause);
        pause
    }
}

#[cfg(test)]
mod backoff {
    use super::*;

    #[test]
    fn grows_to_ten_seconds_and_starts_anew_after_a_stable_connection() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..9).map(|_| backoff.next(false).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(backoff.next(true), FIRST_BACKOFF);
    }
}
