// SPDX-License-Identifier: Apache-2.0
//! Fan-out of events to subscribers that may be slow, dead or absent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

/// Events a subscriber may lag behind before it is cut off.
pub const SUBSCRIBER_QUEUE: usize = 1024;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The declared name, such as `powquty.event`.
    #[serde(rename = "event")]
    pub name: String,
    /// What happened.
    pub data: Value,
}

/// Hands events to whoever has subscribed; clones share the subscribers. May be used from any thread.
#[derive(Debug, Clone, Default)]
pub struct Events(Arc<Mutex<Registry>>);

#[derive(Debug, Default)]
struct Registry {
    declared: Vec<&'static str>,
    subscribers: Vec<Subscriber>,
    cut_off: u32,
}

#[derive(Debug)]
struct Subscriber {
    /// Names to deliver; empty for all.
    names: Vec<String>,
    /// Whether this is the way to ubus, which has subscribers of its own behind it.
    bus: bool,
    queue: mpsc::Sender<Arc<Event>>,
    /// Dropped with the subscriber, which tells the receiving side at once.
    _alive: oneshot::Sender<()>,
}

/// The receiving side of a subscription.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) queue: mpsc::Receiver<Arc<Event>>,
    /// Resolves when the subscriber was cut off for not keeping up.
    pub(crate) cut_off: oneshot::Receiver<()>,
}

impl Events {
    /// Offers an event to every subscriber and returns at once. A subscriber whose queue of
    /// [`SUBSCRIBER_QUEUE`] events is full is cut off and counted.
    pub fn emit(&self, name: &'static str, data: Value) {
        let mut registry = self.registry();
        debug_assert!(registry.declared.contains(&name), "event {name} is not declared");
        if registry.subscribers.is_empty() {
            return;
        }
        let event = Arc::new(Event { name: name.into(), data });
        let mut cut_off = 0;
        registry.subscribers.retain(|subscriber| {
            if !subscriber.wants(name) {
                return true;
            }
            match subscriber.queue.try_send(Arc::clone(&event)) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Closed(_)) => false,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    cut_off += 1;
                    false
                }
            }
        });
        registry.cut_off = registry.cut_off.saturating_add(cut_off);
    }

    pub(crate) fn declare(&self, name: &'static str) {
        self.registry().declared.push(name);
    }

    /// Subscribes to the named events, or to all for no names.
    pub(crate) fn subscribe(&self, names: Vec<String>) -> Subscription {
        self.add(names, false)
    }

    /// Subscribes on behalf of ubus to all events.
    pub(crate) fn subscribe_bus(&self) -> Subscription {
        self.add(vec![], true)
    }

    fn add(&self, names: Vec<String>, bus: bool) -> Subscription {
        let (queue, events) = mpsc::channel(SUBSCRIBER_QUEUE);
        let (alive, cut_off) = oneshot::channel();
        let mut registry = self.registry();
        registry.subscribers.retain(|subscriber| !subscriber.queue.is_closed());
        registry.subscribers.push(Subscriber { names, bus, queue, _alive: alive });
        Subscription { queue: events, cut_off }
    }

    /// Subscribers now, without ubus, and how often one was cut off since the start.
    pub(crate) fn counts(&self) -> (usize, u32) {
        let registry = self.registry();
        let is_live = |subscriber: &&Subscriber| !subscriber.bus && !subscriber.queue.is_closed();
        let live = registry.subscribers.iter().filter(is_live).count();
        (live, registry.cut_off)
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscriber {
    fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|wanted| wanted == name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn events() -> Events {
        let events = Events::default();
        events.declare("powquty.event");
        events.declare("powquty.light");
        events
    }

    #[test]
    fn a_subscriber_gets_what_it_asked_for() {
        let events = events();
        let mut all = events.subscribe(vec![]);
        let mut lights = events.subscribe(vec!["powquty.light".into()]);
        events.emit("powquty.event", json!({"kind": "dip"}));
        events.emit("powquty.light", json!({"light": "red"}));
        assert_eq!(all.queue.try_recv().unwrap().data["kind"], "dip");
        assert_eq!(all.queue.try_recv().unwrap().data["light"], "red");
        assert_eq!(lights.queue.try_recv().unwrap().name, "powquty.light");
        assert!(lights.queue.try_recv().is_err());
    }

    #[test]
    fn the_one_that_lags_is_cut_off_and_counted_the_other_stays() {
        let events = events();
        let mut slow = events.subscribe(vec![]);
        let mut quick = events.subscribe(vec![]);
        for number in 0..=SUBSCRIBER_QUEUE {
            events.emit("powquty.event", json!(number));
            assert_eq!(quick.queue.try_recv().unwrap().data, json!(number));
        }
        assert_eq!(events.counts(), (1, 1));
        assert!(matches!(slow.cut_off.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
    }

    #[test]
    fn a_subscriber_that_left_is_forgotten_and_not_counted() {
        let events = events();
        drop(events.subscribe(vec![]));
        assert_eq!(events.counts(), (0, 0));
        events.emit("powquty.event", json!(1));
        let _second = events.subscribe(vec![]);
        assert_eq!(events.counts(), (1, 0));
        assert_eq!(events.registry().subscribers.len(), 1);
    }
}
