// SPDX-License-Identifier: Apache-2.0
//! What this client offers and listens to: registration, its repetition, and what arrives for it.

use super::super::message::{encode_data, Draft, Fields};
use super::super::{Error, Event, Status};
use super::calls::EVENT_OBJECT;
use super::{Action, Key, Link, Peer, Purpose, PATIENCE};
use serde_json::{json, Value};
use std::time::{Duration, Instant};

const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Entry {
    role: Role,
    state: State,
    /// ubusd's number of the object on this connection.
    id: Option<u32>,
    /// Steps that failed in a row.
    failures: u32,
    /// Somebody is subscribed to it.
    subscribed: bool,
}

#[derive(Debug, Clone)]
enum Role {
    Published {
        name: String,
        signature: Vec<u8>,
    },
    Pattern(String),
    /// Hears of new objects, for the subscriptions.
    Watch,
    Subscription {
        target: String,
        target_id: Option<u32>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be offered as soon as there is a connection, or when the time comes.
    Unknown {
        retry: Option<Instant>,
    },
    /// A request is under way.
    Busy,
    /// The object is known, but its target or pattern is not to be had.
    Stuck {
        retry: Instant,
    },
    Ready,
}

/// The requests that lead to a standing registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Add,
    Pattern,
    Find,
    Subscribe { target: u32 },
}

impl Peer {
    /// Offers an object of this name; `signature` is the attribute's payload.
    pub(crate) fn publish(&mut self, name: String, signature: Vec<u8>, now: Instant) -> Key {
        self.add(Role::Published { name, signature }, now)
    }

    /// Listens to the events of a pattern: a name, or the beginning of a name and `*`.
    pub(crate) fn listen(&mut self, pattern: String, now: Instant) -> Key {
        self.add(Role::Pattern(pattern), now)
    }

    /// Subscribes to the object of this name, now or whenever it comes.
    pub(crate) fn subscribe(&mut self, target: String, now: Instant) -> Key {
        if self.watch.is_none() {
            self.watch = Some(self.add(Role::Watch, now));
        }
        self.add(Role::Subscription { target, target_id: None }, now)
    }

    /// Takes an object, a pattern or a subscription back.
    pub(crate) fn withdraw(&mut self, key: Key, now: Instant) {
        let Some(entry) = self.entries.remove(&key) else { return };
        if let Some(id) = entry.id {
            self.by_id.remove(&id);
            self.take_back(id, now);
        }
    }

    /// Whether ubusd knows the object and, for a subscription, its target.
    pub(crate) fn is_ready(&self, key: Key) -> bool {
        self.entries.get(&key).is_some_and(|entry| entry.state == State::Ready)
    }

    pub(crate) fn has_subscribers(&self, key: Key) -> bool {
        self.entries.get(&key).is_some_and(|entry| entry.subscribed)
    }

    /// Tells the subscribers of `key`, if it has any.
    pub(crate) fn notify(&mut self, key: Key, kind: &str, data: &Value) -> Result<(), Error> {
        if !data.is_object() {
            return Err(Error::NotAnObject);
        }
        let Some(Entry { id: Some(id), subscribed: true, .. }) = self.entries.get(&key) else {
            return Ok(());
        };
        let draft = Draft::notify(*id, kind, &encode_data(data)?);
        // ubusd answers a notification only with an error, for which nobody waits.
        let seq = self.free_seq();
        self.send(draft, seq).inspect_err(|_| self.counters.dropped = self.counters.dropped.saturating_add(1))
    }

    pub(super) fn is_published(&self, key: Key) -> bool {
        self.entries.get(&key).is_some_and(|entry| matches!(entry.role, Role::Published { .. }))
    }

    fn add(&mut self, role: Role, now: Instant) -> Key {
        self.last_key = self.last_key.wrapping_add(1);
        let key = Key(self.last_key);
        let state = State::Unknown { retry: None };
        self.entries.insert(key, Entry { role, state, id: None, failures: 0, subscribed: false });
        if self.link == Link::Up {
            self.offer(key, now);
        }
        key
    }

    fn take_back(&mut self, id: u32, now: Instant) {
        // On failure the connection is down or clogged; ubusd forgets the object with the connection.
        let _ = self.request(Draft::remove_object(id), now + PATIENCE, Purpose::Formality);
    }

    pub(super) fn forget_registrations(&mut self) {
        for (key, entry) in self.entries.iter_mut() {
            if matches!(entry.role, Role::Subscription { .. }) && entry.state == State::Ready {
                self.actions.push_back(Action::Detached { key: *key });
            }
            if let Role::Subscription { target_id, .. } = &mut entry.role {
                *target_id = None;
            }
            entry.state = State::Unknown { retry: None };
            entry.id = None;
            entry.failures = 0;
            entry.subscribed = false;
        }
    }

    /// The first step: makes the object known to ubusd.
    pub(super) fn offer(&mut self, key: Key, now: Instant) {
        let draft = match self.entries.get(&key).map(|entry| &entry.role) {
            Some(Role::Published { name, signature }) => Draft::add_object(Some(name), signature),
            Some(_) => Draft::add_object(None, &[]),
            None => return,
        };
        self.step(key, Step::Add, draft, now);
    }

    fn step(&mut self, key: Key, step: Step, draft: Draft, now: Instant) {
        let sent = self.request(draft, now + PATIENCE, Purpose::Register { key, step, id: None });
        match sent {
            Ok(()) => self.set_state(key, State::Busy),
            Err(error) => self.failed(key, step, &error.to_string(), now),
        }
    }

    pub(super) fn registration_answered(
        &mut self,
        key: Key,
        step: Step,
        id: Option<u32>,
        status: Status,
        now: Instant,
    ) {
        let Some(entry) = self.entries.get_mut(&key) else {
            // Withdrawn while ubusd was adding it.
            if let (Step::Add, Some(id)) = (step, id) {
                self.take_back(id, now);
            }
            return;
        };
        match (step, status, id) {
            (Step::Add, Status::Ok, Some(id)) => {
                entry.id = Some(id);
                self.by_id.insert(id, key);
                self.refine(key, id, now);
            }
            (Step::Find, Status::Ok, Some(target)) => {
                let Some(own) = entry.id else { return };
                self.step(key, Step::Subscribe { target }, Draft::subscribe(own, target), now);
            }
            (Step::Pattern, Status::Ok, _) => self.ready(key, now),
            (Step::Subscribe { target }, Status::Ok, _) => {
                if let Role::Subscription { target_id, .. } = &mut entry.role {
                    *target_id = Some(target);
                }
                self.ready(key, now);
                self.actions.push_back(Action::Attached { key });
            }
            (_, Status::Ok, None) => self.failed(key, step, "not shown to this user", now),
            (_, status, _) => self.failed(key, step, &status.to_string(), now),
        }
    }

    /// The second step, once the object is known.
    fn refine(&mut self, key: Key, id: u32, now: Instant) {
        let Some(entry) = self.entries.get(&key) else { return };
        let pattern = match &entry.role {
            Role::Published { .. } => return self.ready(key, now),
            // With a trailing `*` ubusd would find other objects.
            Role::Subscription { target, .. } if target.is_empty() || target.ends_with('*') => {
                return self.failed(key, Step::Subscribe { target: 0 }, "not the name of one object", now);
            }
            Role::Subscription { target, .. } => {
                let draft = Draft::lookup(target);
                return self.step(key, Step::Find, draft, now);
            }
            Role::Pattern(pattern) => pattern.as_str(),
            Role::Watch => "ubus.object.add",
        };
        match encode_data(&json!({ "object": id as i32, "pattern": pattern })) {
            Ok(args) => self.step(key, Step::Pattern, Draft::invoke(EVENT_OBJECT, "register", &args), now),
            Err(error) => self.failed(key, Step::Pattern, &error.to_string(), now),
        }
    }

    fn ready(&mut self, key: Key, now: Instant) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.state = State::Ready;
        entry.failures = 0;
        if matches!(entry.role, Role::Watch) {
            // What came before the watch stood was not heard of.
            self.look_again(None, now);
        }
    }

    fn failed(&mut self, key: Key, step: Step, reason: &str, now: Instant) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let wait = FIRST_RETRY.saturating_mul(1 << entry.failures.min(7)).min(LAST_RETRY);
        let first = entry.failures == 0;
        entry.failures = entry.failures.saturating_add(1);
        let retry = now + wait;
        entry.state = match step {
            Step::Add => State::Unknown { retry: Some(retry) },
            Step::Pattern | Step::Find | Step::Subscribe { .. } => State::Stuck { retry },
        };
        if !first {
            return;
        }
        match (&entry.role, step) {
            (Role::Published { name, .. }, _) => {
                log::warn!("ubus: cannot offer object {name} yet: {reason} (name taken, or no permission to publish?)");
            }
            (Role::Pattern(pattern), _) => log::warn!("ubus: cannot listen to {pattern} yet: {reason}"),
            (Role::Watch, _) => {
                log::debug!("ubus: cannot watch for new objects, looking now and then: {reason}");
            }
            (Role::Subscription { target, .. }, Step::Find) => log::debug!("ubus: {target} is not there yet"),
            (Role::Subscription { target, .. }, _) => {
                log::warn!("ubus: cannot subscribe to {target} yet: {reason}");
            }
        }
    }

    fn set_state(&mut self, key: Key, state: State) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.state = state;
        }
    }

    /// Looks for the targets of detached subscriptions: all, or those of one name.
    fn look_again(&mut self, appeared: Option<&str>, now: Instant) {
        let matching = |entry: &Entry| match &entry.role {
            Role::Subscription { target, .. } => appeared.is_none_or(|path| path == target),
            _ => false,
        };
        self.resume(|entry| matches!(entry.state, State::Stuck { .. }) && matching(entry), now);
    }

    pub(super) fn retry(&mut self, now: Instant) {
        self.resume(|entry| entry.due().is_some_and(|retry| retry <= now), now);
    }

    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.entries.values().filter_map(Entry::due).min()
    }

    fn resume(&mut self, chosen: impl Fn(&Entry) -> bool, now: Instant) {
        if self.link != Link::Up {
            return;
        }
        let keys: Vec<_> =
            self.entries.iter().filter(|(_, e)| chosen(e)).map(|(key, e)| (*key, e.id)).collect();
        for (key, id) in keys {
            match id {
                Some(id) => self.refine(key, id, now),
                None => self.offer(key, now),
            }
        }
    }

    /// ubusd says whether anybody is subscribed to an object of ours.
    pub(super) fn subscribers_changed(&mut self, fields: &Fields<'_>) {
        let Some((key, active)) = fields.object.and_then(|id| self.by_id.get(&id)).zip(fields.active) else {
            return;
        };
        if let Some(entry) = self.entries.get_mut(key) {
            entry.subscribed = active;
        }
    }

    /// ubusd says that an object is gone to which we were subscribed.
    pub(super) fn target_gone(&mut self, fields: &Fields<'_>, now: Instant) {
        let Some(key) = fields.object.and_then(|id| self.by_id.get(&id)).copied() else { return };
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let Role::Subscription { target_id, .. } = &mut entry.role else { return };
        if *target_id != fields.target {
            return;
        }
        *target_id = None;
        entry.state = State::Stuck { retry: now + FIRST_RETRY };
        self.actions.push_back(Action::Detached { key });
    }

    /// An event or a notification came for an anonymous object.
    pub(super) fn heard(&mut self, key: Key, name: String, data: Value, size: usize, now: Instant) {
        match self.entries.get(&key).map(|entry| &entry.role) {
            Some(Role::Pattern(_)) => {
                self.actions.push_back(Action::Event { key, event: Event { name, data }, size });
            }
            Some(Role::Watch) => self.look_again(data.get("path").and_then(Value::as_str), now),
            Some(Role::Subscription { .. }) => {
                self.actions.push_back(Action::Notification { key, kind: name, data, size });
            }
            Some(Role::Published { .. }) | None => {}
        }
    }
}

impl Entry {
    fn due(&self) -> Option<Instant> {
        match self.state {
            State::Unknown { retry } => retry,
            State::Stuck { retry } => Some(retry),
            State::Busy | State::Ready => None,
        }
    }
}
