// SPDX-License-Identifier: Apache-2.0
//! The asynchronous shell: connects, moves bytes, runs handlers.

use super::mailbox::Mailbox;
use super::message::encode_signature;
use super::peer::{Action, Fault, Key, Outcome, Peer, Ticket, Token};
use super::{ArgType, Counters, Description, Error, Event, Failure, Status, Update};
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::sync::{oneshot, Notify};
use tokio::task::JoinSet;

/// How long [`Client::call`] waits, as the `ubus` command does.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(10);
/// A connection that lasted this long makes the next back-off short again.
const STABLE: Duration = Duration::from_secs(5);

/// A handle of a connection to ubusd that is made again for ever; clones share it.
///
/// The connection is kept by a task on the current thread. It ends, and every object goes from the bus, when the last
/// client, object handle, event stream and subscription is dropped.
#[derive(Clone)]
pub struct Client(Rc<Owner>);

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

type Answer = Pin<Box<dyn Future<Output = Result<Value, Failure>>>>;
type Handler = Rc<dyn Fn(Request) -> Answer>;

/// An object to be served: a name and methods.
pub struct Object {
    name: String,
    methods: Vec<Method>,
}

struct Method {
    name: String,
    args: Vec<(String, ArgType)>,
    handler: Handler,
}

impl Object {
    /// An object without methods; `name` is its path on the bus.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), methods: Vec::new() }
    }

    /// Adds a method with its declared arguments.
    ///
    /// The handler may answer whenever it likes and in any order; what it answers is sent as a table: null as an empty
    /// one, a value that is no object as `{"result": value}`. A handler that panics answers [`Status::UnknownError`].
    #[must_use]
    pub fn method<F, Fut>(mut self, name: impl Into<String>, args: &[(&str, ArgType)], handler: F) -> Self
    where
        F: Fn(Request) -> Fut + 'static,
        Fut: Future<Output = Result<Value, Failure>> + 'static,
    {
        self.methods.push(Method {
            name: name.into(),
            args: args.iter().map(|(name, arg_type)| ((*name).to_owned(), *arg_type)).collect(),
            handler: Rc::new(move |request| Box::pin(handler(request))),
        });
        self
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let methods: Vec<_> = self.methods.iter().map(|method| (&method.name, &method.args)).collect();
        f.debug_struct("Object").field("name", &self.name).field("methods", &methods).finish()
    }
}

impl Client {
    /// Starts to connect to the ubusd at `socket`; that there is none is no error.
    ///
    /// # Panics
    /// Outside a tokio `LocalSet`, on which the connection's task and the handlers run.
    pub fn connect(socket: impl Into<PathBuf>) -> Self {
        let shared = Rc::new(Shared {
            peer: RefCell::new(Peer::new()),
            wake: Notify::new(),
            calls: RefCell::default(),
            routes: RefCell::default(),
            closed: Cell::new(false),
        });
        shared.peer.borrow_mut().connecting(Instant::now());
        tokio::task::spawn_local(Rc::clone(&shared).run(socket.into()));
        Self(Rc::new(Owner(shared)))
    }

    /// Whether ubusd has greeted and the connection stands.
    pub fn is_connected(&self) -> bool {
        self.0 .0.peer.borrow().is_up()
    }

    /// What went wrong so far.
    pub fn counters(&self) -> Counters {
        self.0 .0.peer.borrow().counters()
    }

    /// Calls a method and waits up to 30 s for the answer, null if there is no data with it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] at once while ubusd is known to be away; see [`Error`] for the others.
    pub async fn call(&self, object: &str, method: &str, args: &Value) -> Result<Value, Error> {
        self.call_within(CALL_TIMEOUT, object, method, args).await
    }

    /// As [`Client::call`], with another limit for connecting, finding the object and its answer together.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn call_within(
        &self,
        timeout: Duration,
        object: &str,
        method: &str,
        args: &Value,
    ) -> Result<Value, Error> {
        let outcome = self.ask(|peer| peer.call(object, method, args, Instant::now() + timeout)).await?;
        match outcome {
            Outcome::Reply(value) => Ok(value),
            Outcome::Objects(_) => Err(Error::Malformed),
        }
    }

    /// Finds the objects of a pattern: a name, or the beginning of names and `*`; at most 1024 of them.
    ///
    /// # Errors
    /// As [`Client::call`]; that there are none is no error.
    pub async fn lookup(&self, pattern: &str) -> Result<Vec<Description>, Error> {
        match self.ask(|peer| peer.list(pattern, Instant::now() + CALL_TIMEOUT)).await? {
            Outcome::Objects(found) => Ok(found),
            Outcome::Reply(_) => Err(Error::Malformed),
        }
    }

    async fn ask(&self, begin: impl FnOnce(&mut Peer) -> Result<Token, Error>) -> Result<Outcome, Error> {
        let shared = &self.0 .0;
        let token = begin(&mut shared.peer.borrow_mut())?;
        let (sender, receiver) = oneshot::channel();
        shared.calls.borrow_mut().insert(token, sender);
        let _forget = ForgetOnDrop { shared, token };
        shared.wake.notify_one();
        receiver.await.unwrap_or(Err(Error::Unavailable))
    }

    /// Broadcasts an event with a JSON object; never waits. This client's own patterns do not get it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] without ubusd; [`Error::NotAnObject`], [`Error::TooLarge`], [`Error::TooDeep`],
    /// [`Error::Overloaded`]. That ubusd refused it (an event `ubus.…`, no permission) is not known here.
    pub fn send_event(&self, name: &str, data: &Value) -> Result<(), Error> {
        self.0 .0.with_peer(|peer| peer.send_event(name, data, Instant::now()))
    }

    /// Listens to the broadcast events of a pattern: a name, or the beginning of names and `*`.
    pub fn listen(&self, pattern: &str) -> Events {
        let (key, mailbox) =
            self.route(|peer| peer.listen(pattern.to_owned(), Instant::now()), Route::Events);
        Events { handle: self.handle(key), mailbox }
    }

    /// Subscribes to the notifications of an object of another process, now or whenever it comes.
    pub fn subscribe(&self, object: &str) -> Subscription {
        let (key, mailbox) =
            self.route(|peer| peer.subscribe(object.to_owned(), Instant::now()), Route::Subscription);
        Subscription { handle: self.handle(key), mailbox }
    }

    /// Serves an object until the handle is dropped. A name that is taken is tried again for ever.
    pub fn publish(&self, object: Object) -> ObjectHandle {
        let signature = encode_signature(object.methods.iter().map(|m| (m.name.as_str(), m.args.as_slice())));
        let key = self.0 .0.with_peer(|peer| peer.publish(object.name, signature, Instant::now()));
        let methods = object.methods.into_iter().map(|method| (method.name, method.handler)).collect();
        self.0 .0.routes.borrow_mut().insert(key, Route::Methods(methods));
        ObjectHandle(self.handle(key))
    }

    fn route<T>(
        &self,
        register: impl FnOnce(&mut Peer) -> Key,
        route: impl FnOnce(Rc<Mailbox<T>>) -> Route,
    ) -> (Key, Rc<Mailbox<T>>) {
        let key = self.0 .0.with_peer(register);
        let mailbox = Rc::new(Mailbox::new());
        self.0 .0.routes.borrow_mut().insert(key, route(Rc::clone(&mailbox)));
        (key, mailbox)
    }

    fn handle(&self, key: Key) -> Handle {
        Handle { owner: Rc::clone(&self.0), key }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("connected", &self.is_connected()).finish_non_exhaustive()
    }
}

/// A served object; dropping it takes the object from the bus.
#[derive(Debug)]
pub struct ObjectHandle(Handle);

impl ObjectHandle {
    /// Notifies the subscribers with a JSON object; never waits, and does nothing when there are none.
    ///
    /// # Errors
    /// [`Error::NotAnObject`], [`Error::TooLarge`], [`Error::TooDeep`], [`Error::Overloaded`].
    pub fn notify(&self, kind: &str, data: &Value) -> Result<(), Error> {
        self.0.owner.0.with_peer(|peer| peer.notify(self.0.key, kind, data))
    }

    /// Whether ubusd has the object at the moment.
    pub fn is_published(&self) -> bool {
        self.0.is_ready()
    }

    /// Whether [`ObjectHandle::notify`] would reach anybody.
    pub fn has_subscribers(&self) -> bool {
        self.0.owner.0.peer.borrow().has_subscribers(self.0.key)
    }
}

/// The broadcast events of a pattern; dropping it ends the listening.
#[derive(Debug)]
pub struct Events {
    handle: Handle,
    mailbox: Rc<Mailbox<Event>>,
}

impl Events {
    /// The next event; `None` never comes while this lives. Safe to cancel.
    pub async fn recv(&mut self) -> Option<Event> {
        self.mailbox.pop().await
    }

    /// Events dropped because they were not taken: at most 256 and 1 MiB are kept.
    pub fn lost(&self) -> u32 {
        self.mailbox.lost()
    }

    /// Whether ubusd has the pattern at the moment.
    pub fn is_registered(&self) -> bool {
        self.handle.is_ready()
    }
}

/// The notifications of an object; dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    handle: Handle,
    mailbox: Rc<Mailbox<Update>>,
}

impl Subscription {
    /// What happens next; `None` never comes while this lives. Safe to cancel.
    pub async fn recv(&mut self) -> Option<Update> {
        self.mailbox.pop().await
    }

    /// Updates dropped because they were not taken: at most 256 and 1 MiB are kept.
    pub fn lost(&self) -> u32 {
        self.mailbox.lost()
    }

    /// Whether the object is there and subscribed to at the moment.
    pub fn is_attached(&self) -> bool {
        self.handle.is_ready()
    }
}

/// Withdraws its registration when dropped.
struct Handle {
    owner: Rc<Owner>,
    key: Key,
}

impl Handle {
    fn is_ready(&self) -> bool {
        self.owner.0.peer.borrow().is_ready(self.key)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.owner.0.with_peer(|peer| peer.withdraw(self.key, Instant::now()));
        // Out of the borrow before it is dropped: a handler may hold handles of its own.
        let route = self.owner.0.routes.borrow_mut().remove(&self.key);
        drop(route);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("key", &self.key).field("ready", &self.is_ready()).finish()
    }
}

/// Ends the connection's task when the last handle goes.
struct Owner(Rc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.closed.set(true);
        self.0.wake.notify_one();
    }
}

struct ForgetOnDrop<'a> {
    shared: &'a Shared,
    token: Token,
}

impl Drop for ForgetOnDrop<'_> {
    fn drop(&mut self) {
        if self.shared.calls.borrow_mut().remove(&self.token).is_some() {
            self.shared.peer.borrow_mut().forget(self.token);
        }
    }
}

/// Where what comes for a registration goes.
enum Route {
    Methods(HashMap<String, Handler>),
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

struct Shared {
    peer: RefCell<Peer>,
    /// Something is to be written, or the end has come.
    wake: Notify,
    calls: RefCell<HashMap<Token, oneshot::Sender<Result<Outcome, Error>>>>,
    routes: RefCell<HashMap<Key, Route>>,
    closed: Cell<bool>,
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

impl Shared {
    fn with_peer<T>(&self, act: impl FnOnce(&mut Peer) -> T) -> T {
        let result = act(&mut self.peer.borrow_mut());
        self.wake.notify_one();
        result
    }

    async fn run(self: Rc<Self>, socket: PathBuf) {
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
            self.peer.borrow_mut().disconnected(fault);
            self.dispatch(&mut handlers);
            match &end {
                End::Closed => return,
                End::Fault(fault) => log::warn!("ubus: {}: {fault}; connecting again", socket.display()),
                End::Lost(error) if was_up => {
                    log::warn!("ubus: lost the connection: {error}; connecting again");
                }
                End::Lost(error) if !told => {
                    log::info!("ubus: none at {}: {error}; waiting for it", socket.display());
                }
                End::Lost(_) => {}
            }
            told = true;
            let pause = backoff.next(was_up && started.elapsed() >= STABLE);
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
        handlers.spawn_local(async move {
            let result = handler(request).await;
            responder.answer(result);
        });
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
