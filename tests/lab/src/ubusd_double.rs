// SPDX-License-Identifier: Apache-2.0
//! A double of OpenWrt's ubusd, for machines without the real one.

mod bus;
mod wire;

use bus::{Bus, Owner};
use serde_json::Value;
use std::io::Read;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use wire::Message;

/// How long the waiting methods wait before they panic.
const DEADLINE: Duration = Duration::from_secs(20);

/// A message bus that speaks the ubus protocol on a socket of its own, written from the protocol alone.
///
/// It passes calls, answers, notifications and events between the daemons that connect, and can itself take part: call
/// a daemon's object, subscribe to it, offer objects, send events. It also can fall over ([`UbusdDouble::stop`]), come
/// back ([`UbusdDouble::start_again`]), stop reading and send nonsense.
///
/// Every message is checked more strictly than ubusd checks it (padding, lengths, names, duplicates); when something was
/// wrong with one, dropping the double panics, unless [`UbusdDouble::take_violations`] has been called.
///
/// What it does not prove: permissions (there is no ACL, everybody is `root`), who else uses the bus, ubusd's timing, its
/// dropping of messages for a client that does not read, file descriptors in messages, `ubus monitor`.
#[derive(Debug)]
pub struct UbusdDouble {
    // Held for its clean-up.
    _dir: tempfile::TempDir,
    path: PathBuf,
    shared: Arc<Shared>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    bus: Mutex<Bus>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Bus> {
        // A panic in a test's handler must not hide behind a second one.
        self.bus.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Waits until `probe` gives something.
    fn wait<T>(&self, what: &str, mut probe: impl FnMut(&mut Bus) -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        let mut bus = self.lock();
        loop {
            if let Some(found) = probe(&mut bus) {
                return found;
            }
            let Some(left) = end.checked_duration_since(Instant::now()) else {
                panic!("ubusd double: no {what} within {DEADLINE:?}; the bus: {bus:#?}");
            };
            bus = self.changed.wait_timeout(bus, left).unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }
}

impl UbusdDouble {
    /// Starts on a socket in a temporary directory.
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("ubusd-double-").tempdir().expect("a temporary directory");
        let path = dir.path().join("ubus.sock");
        let shared = Arc::new(Shared { bus: Mutex::default(), changed: Condvar::new() });
        let double = Self { _dir: dir, path, shared, listening: Mutex::default() };
        double.start_again();
        double
    }

    /// The socket; there is a file only while the double runs.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Falls over: all connections close, the socket goes, objects and subscriptions are forgotten. What was recorded
    /// (events, notifications) stays.
    pub fn stop(&self) {
        let Some(listening) = self.listening().take() else { return };
        {
            let mut bus = self.shared.lock();
            bus.stopping = true;
            bus.disconnect_all();
        }
        self.shared.changed.notify_all();
        // Wakes the accepting thread, which then sees `stopping`.
        let _ = UnixStream::connect(&self.path);
        listening.join().expect("the ubusd double's thread does not panic");
        std::fs::remove_file(&self.path).expect("the socket is removed");
    }

    /// Comes back on the same socket.
    pub fn start_again(&self) {
        self.stop();
        let listener = UnixListener::bind(&self.path).expect("the double's socket can be bound");
        self.shared.lock().stopping = false;
        let shared = Arc::clone(&self.shared);
        *self.listening() = Some(thread::spawn(move || accept(&listener, &shared)));
    }

    fn listening(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.listening.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Calls a daemon's method as any other process would; waits for the object and for the answer.
    ///
    /// # Errors
    /// The ubus status other than 0; data sent with it is dropped.
    pub fn call(&self, object: &str, method: &str, args: Value) -> Result<Value, u32> {
        self.call_with_detail(object, method, args).map_err(|(status, _)| status)
    }

    /// As [`UbusdDouble::call`], with the data that came with the error.
    ///
    /// # Errors
    /// The ubus status other than 0, and the data sent with it.
    pub fn call_with_detail(
        &self,
        object: &str,
        method: &str,
        args: Value,
    ) -> Result<Value, (u32, Option<Value>)> {
        let seq = self.begin_call(object, method, args);
        self.finish_call(seq)
    }

    /// Sends a call and does not wait for the answer.
    pub fn begin_call(&self, object: &str, method: &str, args: Value) -> u16 {
        let mut args = Some(args);
        self.shared.wait(&format!("object {object}"), |bus| {
            let id = bus.id_of(object)?;
            Some(bus.invoke_as_test(id, method, args.take()?))
        })
    }

    /// Waits for the answer to [`UbusdDouble::begin_call`].
    ///
    /// # Errors
    /// The ubus status other than 0, and the data sent with it.
    pub fn finish_call(&self, seq: u16) -> Result<Value, (u32, Option<Value>)> {
        let answer = self.shared.wait("answer", |bus| bus.take_answer(seq));
        match answer {
            (0, data) => Ok(data.unwrap_or(Value::Null)),
            error => Err(error),
        }
    }

    /// Waits until a daemon offers the object.
    pub fn wait_for_object(&self, object: &str) {
        self.shared.wait(&format!("object {object}"), |bus| bus.id_of(object));
    }

    /// Waits until nobody offers the object.
    pub fn wait_until_gone(&self, object: &str) {
        self.shared.wait(&format!("end of object {object}"), |bus| bus.id_of(object).is_none().then_some(()));
    }

    /// Names of all objects.
    pub fn objects(&self) -> Vec<String> {
        self.shared.lock().objects.values().filter_map(|object| object.path.clone()).collect()
    }

    /// Waits for the object and gives its methods: name → argument → number of the blobmsg type (1 array, 2 table,
    /// 3 string, 4 int64, 5 int32, 7 boolean, 8 double).
    pub fn signature(&self, object: &str) -> Value {
        self.shared.wait(&format!("object {object}"), |bus| {
            let id = bus.id_of(object)?;
            bus.objects.get(&id)?.signature.clone()
        })
    }

    /// Waits for the object and subscribes to it; what it notifies is recorded until it goes.
    pub fn subscribe(&self, object: &str) {
        self.shared.wait(&format!("object {object}"), |bus| bus.subscribe_as_test(object));
    }

    /// Waits for a notification of this kind and takes it.
    pub fn take_notification(&self, object: &str, kind: &str) -> Value {
        self.shared.wait(&format!("notification {kind} of {object}"), |bus| {
            let at = bus.notifications.iter().position(|(o, k, _)| o == object && k == kind)?;
            Some(bus.notifications.remove(at).2)
        })
    }

    /// How many notifications wait to be taken.
    pub fn notification_count(&self) -> usize {
        self.shared.lock().notifications.len()
    }

    /// How many notifications came from daemons for objects that nobody was subscribed to.
    pub fn unheard_notifications(&self) -> usize {
        self.shared.lock().unheard
    }

    /// Waits for a broadcast event of this name and takes it.
    pub fn take_event(&self, name: &str) -> Value {
        self.shared.wait(&format!("event {name}"), |bus| {
            let at = bus.events.iter().position(|(n, _)| n == name)?;
            Some(bus.events.remove(at).1)
        })
    }

    /// Broadcasts an event.
    pub fn send_event(&self, name: &str, data: &Value) {
        self.shared.lock().spread_event(None, name, data);
    }

    /// Offers an object until the double stops; `answer` gets the method and its arguments and gives the data or a
    /// status, or `None` for never. It runs while the bus waits and must not use the double.
    pub fn publish<F>(&self, object: &str, signature: Value, answer: F)
    where
        F: Fn(&str, &Value) -> Option<Result<Value, u32>> + Send + 'static,
    {
        self.shared.lock().add_object(
            Owner::Test(Box::new(answer)),
            Some(object.to_owned()),
            Some(signature),
        );
        self.shared.changed.notify_all();
    }

    /// Takes an object of [`UbusdDouble::publish`] away.
    pub fn withdraw(&self, object: &str) {
        let mut bus = self.shared.lock();
        let id = bus.id_of(object).expect("the object is offered");
        bus.remove_object(id);
        self.shared.changed.notify_all();
    }

    /// Notifies as an object of [`UbusdDouble::publish`], once somebody has subscribed to it.
    pub fn notify(&self, object: &str, kind: &str, data: &Value) {
        self.shared.wait(&format!("subscriber of {object}"), |bus| {
            let id = bus.id_of(object)?;
            bus.notify_subscribers(0, id, kind, data, true).then_some(())
        });
    }

    /// Sends bytes as they are to every connected daemon.
    pub fn send_raw(&self, bytes: &[u8]) {
        self.shared.lock().send_raw(bytes);
    }

    /// Stops reading what the daemons send, or goes on.
    pub fn set_paused(&self, paused: bool) {
        self.shared.lock().paused = paused;
        self.shared.changed.notify_all();
    }

    /// How many daemons are connected.
    pub fn client_count(&self) -> usize {
        self.shared.lock().clients.len()
    }

    /// What was wrong with the messages so far; they no longer make the drop panic.
    pub fn take_violations(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.lock().violations)
    }
}

impl Drop for UbusdDouble {
    fn drop(&mut self) {
        self.stop();
        let violations = self.take_violations();
        if !thread::panicking() {
            assert!(violations.is_empty(), "ubusd double: malformed messages came: {violations:#?}");
        }
    }
}

fn accept(listener: &UnixListener, shared: &Arc<Shared>) {
    let mut readers = Vec::new();
    for stream in listener.incoming().map_while(Result::ok) {
        if shared.lock().stopping {
            break;
        }
        let writer = stream.try_clone().expect("a socket can be cloned");
        let client = shared.lock().greet(writer);
        let shared = Arc::clone(shared);
        readers.push(thread::spawn(move || {
            serve(stream, client, &shared);
            shared.lock().disconnected(client);
            shared.changed.notify_all();
        }));
    }
    for reader in readers {
        reader.join().expect("the ubusd double's thread does not panic");
    }
}

fn serve(mut stream: UnixStream, client: u32, shared: &Shared) {
    let mut head = [0; 12];
    while stream.read_exact(&mut head).is_ok() {
        let length = usize::from(head[9]) << 16 | usize::from(head[10]) << 8 | usize::from(head[11]);
        if !(4..=1 << 20).contains(&length) {
            shared.lock().violations.push(format!("message of {length} bytes"));
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
        let mut body = vec![0; length - 4];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        let mut bus = shared.lock();
        while bus.paused && !bus.stopping {
            bus = shared.changed.wait(bus).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        match Message::decode(&head, &body) {
            Ok(message) => bus.received(client, &message),
            Err(why) => bus.violations.push(format!("kind {}: {why}", head[1])),
        }
        shared.changed.notify_all();
    }
}
