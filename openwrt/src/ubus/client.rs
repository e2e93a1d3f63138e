// SPDX-License-Identifier: Apache-2.0
//! The handles that an application holds; the work is done by the task in `connection`.

use super::connection::{Handler, Request, Route, Shared};
use super::mailbox::Mailbox;
use super::message::encode_signature;
use super::peer::{Key, Outcome, Peer, Token};
use super::{ArgType, Counters, Description, Error, Event, Failure, Update};
use serde_json::Value;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long [`Client::call`] waits, as the `ubus` command does.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// A handle of a connection to ubusd that is made again for ever; clones share it.
///
/// The connection is kept by a task on the current thread. It ends, and every object goes from the bus, when the last
/// client, object handle, event stream and subscription is dropped.
#[derive(Clone)]
pub struct Client(Rc<Owner>);

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
    /// one, a value that is no object as `{"result": value}`. A handler that panics (in a build
    /// that unwinds) answers [`Status::UnknownError`](super::Status::UnknownError).
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
        let shared = Rc::new(Shared::new());
        crate::task::spawn(Rc::clone(&shared).run(socket.into()));
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
