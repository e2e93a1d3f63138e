// SPDX-License-Identifier: Apache-2.0
//! The methods and events a daemon offers, declared once, served over ubus and over a local socket.
//!
//! ```no_run
//! # use std::path::Path;
//! # use serde_json::json;
//! use openwrt::service::{Arg, ArgKind, Service};
//!
//! # async fn start() -> std::io::Result<()> {
//! let running = Service::new("powquty", "powqutyd")
//!     .method("status", "what the monitor sees now", &[], |_| async { Ok(json!({ "uptime": 12 })) })
//!     .method(
//!         "alert_test",
//!         "sends a test alert",
//!         const { &[Arg::required("sink", ArgKind::Text, "slack, mqtt or email")] },
//!         |params| async move { Ok(json!({ "delivered": params.text("sink")? == "mqtt" })) },
//!     )
//!     .event("powquty.event", "a dip, swell or interruption was detected")
//!     .start(Path::new("/var/run"), Path::new("/var/run/ubus/ubus.sock"))?;
//! running.events().emit("powquty.event", json!({ "kind": "dip" }));
//! # Ok(())
//! # }
//! ```
//!
//! On the socket a request is one line, `{"method":"status","params":{}}`, and so is its answer,
//! `{"result":…}` or `{"error":{"code":…,"message":…}}`. Requests of one connection are answered in their
//! order, those of different connections at the same time. `{"method":"subscribe"}` (optionally with
//! `{"events":["powquty.light"]}`) is answered with the names subscribed to and turns the connection into
//! a stream of lines `{"event":…,"data":…}`.

mod bind;
mod bus;
#[cfg(test)]
mod bus_tests;
pub mod client;
mod error;
mod events;
#[doc(hidden)]
pub mod fuzz;
mod params;
mod socket;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{json, Value};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

pub use error::{CallError, ErrorCode};
pub use events::{Event, Events, SUBSCRIBER_QUEUE};
pub use params::{page, Arg, ArgKind, Page, Params, LIMIT, MAX_PAGE, OFFSET};

use crate::task::spawn;
use crate::ubus;
use bind::SocketFile;
use socket::{Counters, Limits};

/// The method that lists the methods.
const HELP: &str = "help";

/// The method that turns a connection into a stream of events.
const SUBSCRIBE: &str = "subscribe";

/// The longest a method may take; what needs longer answers at once and reports by an event.
const CALL_DEADLINE: Duration = Duration::from_secs(60);

/// A socket that could not be made is tried again after this.
const BIND_AGAIN: Duration = Duration::from_secs(5);

const HELP_ARGS: &[Arg] = &[Arg::optional("method", ArgKind::Text, "only this method")];
const SUBSCRIBE_ARGS: &[Arg] =
    &[Arg::optional("events", ArgKind::List, "names of the events wanted (default: all)")];

type Answer = Pin<Box<dyn Future<Output = Result<Value, CallError>>>>;
type Handler = Box<dyn Fn(Params) -> Answer>;

/// What a daemon offers: methods and events under one object name.
pub struct Service {
    daemon: &'static str,
    table: Table,
    limits: Limits,
}

/// A service that is being offered; it ends when this is dropped.
#[derive(Debug)]
pub struct Running {
    events: Events,
    counters: Rc<Counters>,
    path: PathBuf,
    socket: Place,
    tasks: Vec<JoinHandle<()>>,
}

/// What the service interface itself has been doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// Connections open now.
    pub connections: usize,
    /// Connections turned away because there were too many.
    pub refused: u32,
    /// Requests taken, good or bad.
    pub calls: u32,
    /// Subscribers now.
    pub subscribers: usize,
    /// Subscribers cut off because they did not read.
    pub subscribers_cut_off: u32,
}

/// The declarations, as the transports use them.
struct Table {
    object: &'static str,
    methods: Vec<Method>,
    event_docs: Vec<EventDoc>,
    events: Events,
}

#[derive(Serialize)]
struct Method {
    name: &'static str,
    doc: &'static str,
    args: &'static [Arg],
    #[serde(skip)]
    handler: Handler,
}

#[derive(Serialize)]
struct EventDoc {
    name: &'static str,
    doc: &'static str,
}

impl Service {
    /// Nothing offered yet. `object` is the name on ubus, `daemon` that of the socket.
    pub fn new(object: &'static str, daemon: &'static str) -> Self {
        let table = Table { object, methods: vec![], event_docs: vec![], events: Events::default() };
        Self { daemon, table, limits: Limits::default() }
    }

    /// Declares a method. Its handler gets arguments that match `args`; it runs on the daemon's only
    /// thread, so it awaits what takes time, and ends within 60 s. The names `help` and `subscribe` are
    /// taken.
    #[must_use]
    pub fn method<F, Fut>(
        mut self,
        name: &'static str,
        doc: &'static str,
        args: &'static [Arg],
        handler: F,
    ) -> Self
    where
        F: Fn(Params) -> Fut + 'static,
        Fut: Future<Output = Result<Value, CallError>> + 'static,
    {
        debug_assert!(
            self.table.find(name).is_none() && name != HELP && name != SUBSCRIBE,
            "{name} is taken"
        );
        let handler: Handler = Box::new(move |params| Box::pin(handler(params)));
        self.table.methods.push(Method { name, doc, args, handler });
        self
    }

    /// Declares an event, by its whole name (`powquty.event`).
    #[must_use]
    pub fn event(mut self, name: &'static str, doc: &'static str) -> Self {
        self.table.event_docs.push(EventDoc { name, doc });
        self.table.events.declare(name);
        self
    }

    /// The events, for handlers that emit them and are made before the service starts.
    pub fn events(&self) -> Events {
        self.table.events.clone()
    }

    /// Serves the socket `<run_dir>/<daemon>.sock` (mode 0600) and, whenever there is a ubusd at `ubus`, the
    /// ubus object, until the result is dropped. Must be called within a `LocalSet` of a current-thread
    /// runtime. A `run_dir` that is full or cannot be written to costs the socket alone, until it can: what a daemon is
    /// for does not depend on being asked.
    ///
    /// # Errors
    /// `AddrInUse` if another process serves the socket, `AlreadyExists` if something else than a socket has its name. The
    /// message names the path.
    pub fn start(self, run_dir: &Path, ubus: &Path) -> io::Result<Running> {
        self.start_on(run_dir, &ubus::Client::connect(ubus))
    }

    /// As [`Service::start`], over a connection to ubusd that the daemon uses for other things as well.
    ///
    /// # Errors
    /// As [`Service::start`].
    pub fn start_on(self, run_dir: &Path, ubus: &ubus::Client) -> io::Result<Running> {
        let (run_dir, daemon, limits) = (run_dir.to_owned(), self.daemon, self.limits);
        let path = run_dir.join(format!("{daemon}.sock"));
        let socket = Rc::new(RefCell::new(None));
        let listener = match bind(&run_dir, daemon, &socket) {
            Ok(listener) => Some(listener),
            Err(error) if bind::may_pass(&error) => {
                log::error!("there is no service socket until this has passed: {error}");
                None
            }
            Err(error) => return Err(error),
        };
        let events = self.table.events.clone();
        let table = Rc::new(self.table);
        let counters = Rc::new(Counters::default());
        let (on_socket, counted, place) = (Rc::clone(&table), Rc::clone(&counters), Rc::clone(&socket));
        let serve = async move {
            let listener = match listener {
                Some(listener) => listener,
                None => bind_later(&run_dir, daemon, &place).await,
            };
            socket::serve(listener, on_socket, limits, counted).await;
        };
        let tasks = vec![spawn(serve), spawn(bus::serve(ubus.clone(), table))];
        Ok(Running { events, counters, path, socket, tasks })
    }
}

type Place = Rc<RefCell<Option<SocketFile>>>;

fn bind(run_dir: &Path, daemon: &str, place: &Place) -> io::Result<tokio::net::UnixListener> {
    let (listener, file) = SocketFile::bind(run_dir, daemon)?;
    *place.borrow_mut() = Some(file);
    tokio::net::UnixListener::from_std(listener)
}

async fn bind_later(run_dir: &Path, daemon: &str, place: &Place) -> tokio::net::UnixListener {
    loop {
        sleep(BIND_AGAIN).await;
        match bind(run_dir, daemon, place) {
            Ok(listener) => {
                log::info!("the service socket is there now");
                return listener;
            }
            Err(error) => crate::log_repeated!(log::Level::Error, "no service socket: {error}"),
        }
    }
}

impl Running {
    /// Where to emit events.
    pub fn events(&self) -> Events {
        self.events.clone()
    }

    /// Where the socket lies.
    pub fn socket(&self) -> &Path {
        &self.path
    }

    /// Counters since the start.
    pub fn statistics(&self) -> Statistics {
        let (subscribers, subscribers_cut_off) = self.events.counts();
        Statistics {
            connections: self.counters.connections.get(),
            refused: self.counters.refused.get(),
            calls: self.counters.calls.get(),
            subscribers,
            subscribers_cut_off,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.socket.borrow_mut().take();
    }
}

impl Table {
    /// Calls a method by name: checks its arguments, runs its handler, bounds its time.
    async fn call(&self, name: &str, params: Value) -> Result<Value, CallError> {
        if name == HELP {
            return self.help(&Params::check(HELP_ARGS, params)?);
        }
        let method = self
            .find(name)
            .ok_or_else(|| CallError::not_found(format!("no method `{name}`; `help` lists them")))?;
        let params = Params::check(method.args, params)?;
        timeout(CALL_DEADLINE, (method.handler)(params)).await.unwrap_or_else(|_| {
            Err(CallError::internal(format!("`{name}` took longer than {} s", CALL_DEADLINE.as_secs())))
        })
    }

    /// Every method that [`Table::call`] knows, with its arguments.
    fn signatures(&self) -> impl Iterator<Item = (&'static str, &'static [Arg])> + '_ {
        self.methods.iter().map(|method| (method.name, method.args)).chain([(HELP, HELP_ARGS)])
    }

    /// The declarations themselves, for people who explore.
    fn help(&self, params: &Params) -> Result<Value, CallError> {
        let mut methods = serde_json::to_value(&self.methods)?;
        if let Value::Array(methods) = &mut methods {
            methods.push(json!({ "name": HELP, "doc": "this list", "args": HELP_ARGS }));
            methods.push(json!({
                "name": SUBSCRIBE,
                "doc": "turns a connection to the socket into a stream of events",
                "args": SUBSCRIBE_ARGS,
            }));
            if let Some(name) = params.optional_text("method")? {
                let found = methods.iter_mut().find(|method| method["name"] == name);
                return found
                    .map(Value::take)
                    .ok_or_else(|| CallError::not_found(format!("no method `{name}`")));
            }
        }
        Ok(json!({ "object": self.object, "methods": methods, "events": self.event_docs }))
    }

    fn find(&self, name: &str) -> Option<&Method> {
        self.methods.iter().find(|method| method.name == name)
    }

    fn event_names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.event_docs.iter().map(|event| event.name)
    }

    /// The event names a `subscribe` asks for; empty for all.
    fn wanted_events(&self, params: Value) -> Result<Vec<String>, CallError> {
        let params = Params::check(SUBSCRIBE_ARGS, params)?;
        let wanted = params.optional_list("events")?.unwrap_or_default();
        wanted
            .iter()
            .map(|name| match name.as_str().filter(|name| self.event_names().any(|known| known == *name)) {
                Some(name) => Ok(name.to_owned()),
                None => Err(CallError::argument(
                    "events",
                    format_args!(
                        "no event {name}; there are {}",
                        self.event_names().collect::<Vec<_>>().join(", ")
                    ),
                )),
            })
            .collect()
    }
}
