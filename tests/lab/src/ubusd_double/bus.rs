// SPDX-License-Identifier: Apache-2.0
//! The double's state: who is connected, what they offer, and what goes where.

use super::wire::{self, Attr, Message};
use serde_json::{json, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The test itself, among the clients.
const TEST: u32 = 2;
/// The bus's own object for events.
const EVENTS: u32 = 1;

const OK: u32 = 0;
const INVALID_COMMAND: u32 = 1;
const INVALID_ARGUMENT: u32 = 2;
const NOT_FOUND: u32 = 4;
const PERMISSION_DENIED: u32 = 6;

#[derive(Debug, Default)]
pub(super) struct Bus {
    pub(super) stopping: bool,
    pub(super) paused: bool,
    pub(super) clients: BTreeMap<u32, UnixStream>,
    pub(super) objects: BTreeMap<u32, Object>,
    /// Taken by tests: object, kind, data.
    pub(super) notifications: Vec<(String, String, Value)>,
    /// Taken by tests: name, data.
    pub(super) events: Vec<(String, Value)>,
    pub(super) unheard: usize,
    pub(super) violations: Vec<String>,
    answers: HashMap<u16, (Option<u32>, Option<Value>)>,
    last_id: u32,
    last_seq: u16,
}

#[derive(Debug)]
pub(super) struct Object {
    owner: Owner,
    pub(super) path: Option<String>,
    pub(super) signature: Option<Value>,
    patterns: Vec<String>,
    /// Objects that receive the notifications of this one; [`TEST`] records them.
    subscribers: BTreeSet<u32>,
}

type Handler = Box<dyn Fn(&str, &Value) -> Option<Result<Value, u32>> + Send>;

pub(super) enum Owner {
    Client(u32),
    Test(Handler),
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(id) => write!(f, "client {id}"),
            Self::Test(_) => f.write_str("the test"),
        }
    }
}

impl Bus {
    pub(super) fn greet(&mut self, writer: UnixStream) -> u32 {
        // A daemon that does not read must not hold the test for ever.
        writer.set_write_timeout(Some(Duration::from_secs(10))).expect("a time-out can be set");
        let id = self.fresh_id();
        self.clients.insert(id, writer);
        self.send(id, wire::HELLO, 0, id, vec![]);
        id
    }

    pub(super) fn disconnected(&mut self, client: u32) {
        self.clients.remove(&client);
        let theirs = |object: &Object| matches!(object.owner, Owner::Client(owner) if owner == client);
        let ids: Vec<u32> =
            self.objects.iter().filter(|(_, object)| theirs(object)).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.remove_object(id));
    }

    pub(super) fn disconnect_all(&mut self) {
        self.objects.clear();
        self.answers.clear();
        for stream in std::mem::take(&mut self.clients).into_values() {
            // Gone already: just as well.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub(super) fn send_raw(&mut self, bytes: &[u8]) {
        for stream in self.clients.values_mut() {
            // A daemon that has gone is noticed by its reader.
            let _ = stream.write_all(bytes);
        }
    }

    fn send(&mut self, client: u32, kind: u8, seq: u16, peer: u32, attrs: Vec<Attr>) {
        let Some(stream) = self.clients.get_mut(&client) else { return };
        let sent = stream.write_all(&Message { kind, seq, peer, attrs }.encode());
        if sent.is_err() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub(super) fn received(&mut self, client: u32, message: &Message) {
        let outcome = match message.kind {
            wire::PING => {
                self.send(client, wire::DATA, message.seq, message.peer, vec![]);
                Some(OK)
            }
            wire::LOOKUP => Some(self.look_up(client, message)),
            wire::INVOKE => self.invoke(client, message),
            wire::ADD_OBJECT => Some(self.add_for(client, message)),
            wire::REMOVE_OBJECT => Some(self.remove_for(client, message)),
            wire::SUBSCRIBE => Some(self.subscribe_for(client, message)),
            wire::UNSUBSCRIBE => Some(self.unsubscribe_for(client, message)),
            wire::NOTIFY => self.notify_for(client, message),
            wire::STATUS | wire::DATA => {
                self.answer_from(client, message);
                None
            }
            _ => Some(INVALID_COMMAND),
        };
        if let Some(status) = outcome {
            self.send(client, wire::STATUS, message.seq, message.peer, vec![Attr::Status(status)]);
        }
    }

    fn look_up(&mut self, client: u32, message: &Message) -> u32 {
        let pattern = message.path().unwrap_or_else(|| "*".to_owned());
        let fits = |path: &str| match pattern.strip_suffix('*') {
            Some(start) => path.starts_with(start),
            None => path == pattern,
        };
        let found: Vec<Vec<Attr>> = self
            .objects
            .iter()
            .filter_map(|(id, object)| {
                let path = object.path.clone().filter(|path| fits(path))?;
                let signature = object.signature.clone()?;
                let attrs = [Attr::Path(path), Attr::Object(*id), Attr::ObjectType(*id)];
                Some(attrs.into_iter().chain([Attr::Signature(signature)]).collect())
            })
            .collect();
        if found.is_empty() {
            return NOT_FOUND;
        }
        for attrs in found {
            self.send(client, wire::DATA, message.seq, message.peer, attrs);
        }
        OK
    }

    fn add_for(&mut self, client: u32, message: &Message) -> u32 {
        let path = message.path();
        if path.as_deref().is_some_and(|path| self.id_of(path).is_some()) {
            return INVALID_ARGUMENT;
        }
        let id = self.add_object(Owner::Client(client), path, message.signature());
        self.send(
            client,
            wire::DATA,
            message.seq,
            message.peer,
            vec![Attr::Object(id), Attr::ObjectType(id)],
        );
        OK
    }

    pub(super) fn add_object(&mut self, owner: Owner, path: Option<String>, signature: Option<Value>) -> u32 {
        let id = self.fresh_id();
        let announced = path.clone();
        let object = Object { owner, path, signature, patterns: vec![], subscribers: BTreeSet::new() };
        self.objects.insert(id, object);
        if let Some(path) = announced {
            self.spread_event(None, "ubus.object.add", &json!({ "id": id as i32, "path": path }));
        }
        id
    }

    fn remove_for(&mut self, client: u32, message: &Message) -> u32 {
        let Some(id) = message.object() else { return INVALID_ARGUMENT };
        match self.objects.get(&id).map(|object| &object.owner) {
            Some(Owner::Client(owner)) if *owner == client => {}
            Some(_) => return PERMISSION_DENIED,
            None => return NOT_FOUND,
        }
        self.send(
            client,
            wire::DATA,
            message.seq,
            message.peer,
            vec![Attr::Object(id), Attr::ObjectType(id)],
        );
        self.remove_object(id);
        OK
    }

    pub(super) fn remove_object(&mut self, id: u32) {
        let Some(object) = self.objects.remove(&id) else { return };
        for subscriber in object.subscribers {
            if let Some(Owner::Client(client)) = self.objects.get(&subscriber).map(|object| &object.owner) {
                let (client, seq) = (*client, self.fresh_seq());
                let attrs = vec![Attr::Object(subscriber), Attr::Target(id)];
                self.send(client, wire::UNSUBSCRIBE, seq, 0, attrs);
            }
        }
        let targets: Vec<u32> = self.objects.keys().copied().collect();
        targets.into_iter().for_each(|target| self.unsubscribe(id, target));
        if let Some(path) = object.path {
            self.spread_event(None, "ubus.object.remove", &json!({ "id": id as i32, "path": path }));
        }
    }

    fn subscribe_for(&mut self, client: u32, message: &Message) -> u32 {
        let (Some(own), Some(target)) = (message.object(), message.target()) else { return INVALID_ARGUMENT };
        let is_own = |id: u32| matches!(self.objects.get(&id).map(|o| &o.owner), Some(Owner::Client(c)) if *c == client);
        if !self.objects.contains_key(&own) || !self.objects.contains_key(&target) {
            return NOT_FOUND;
        }
        if !is_own(own) || is_own(target) {
            return INVALID_ARGUMENT;
        }
        self.subscribe(own, target);
        OK
    }

    pub(super) fn subscribe_as_test(&mut self, path: &str) -> Option<()> {
        let target = self.id_of(path)?;
        self.subscribe(TEST, target);
        Some(())
    }

    fn subscribe(&mut self, subscriber: u32, target: u32) {
        let Some(object) = self.objects.get_mut(&target) else { return };
        object.subscribers.insert(subscriber);
        if object.subscribers.len() == 1 {
            self.tell_active(target, true);
        }
    }

    fn unsubscribe_for(&mut self, client: u32, message: &Message) -> u32 {
        let (Some(own), Some(target)) = (message.object(), message.target()) else { return INVALID_ARGUMENT };
        match self.objects.get(&own).map(|object| &object.owner) {
            Some(Owner::Client(owner)) if *owner == client => {}
            _ => return NOT_FOUND,
        }
        self.unsubscribe(own, target);
        OK
    }

    fn unsubscribe(&mut self, subscriber: u32, target: u32) {
        let Some(object) = self.objects.get_mut(&target) else { return };
        if object.subscribers.remove(&subscriber) && object.subscribers.is_empty() {
            self.tell_active(target, false);
        }
    }

    fn tell_active(&mut self, target: u32, active: bool) {
        if let Some(Owner::Client(owner)) = self.objects.get(&target).map(|object| &object.owner) {
            let (owner, seq) = (*owner, self.fresh_seq());
            self.send(owner, wire::NOTIFY, seq, 0, vec![Attr::Object(target), Attr::Active(active)]);
        }
    }

    fn notify_for(&mut self, client: u32, message: &Message) -> Option<u32> {
        let (Some(id), Some(kind)) = (message.object(), message.method()) else {
            return Some(INVALID_ARGUMENT);
        };
        match self.objects.get(&id).map(|object| &object.owner) {
            Some(Owner::Client(owner)) if *owner == client => {}
            Some(_) => return Some(PERMISSION_DENIED),
            None => return Some(NOT_FOUND),
        }
        let data = message.data().unwrap_or_else(|| json!({}));
        let wants_answers = message.no_reply() != Some(true);
        if !self.notify_subscribers(client, id, &kind, &data, !wants_answers) {
            self.unheard += 1;
        }
        wants_answers.then_some(OK)
    }

    /// Whether there was anybody to be told.
    pub(super) fn notify_subscribers(
        &mut self,
        from: u32,
        id: u32,
        kind: &str,
        data: &Value,
        no_reply: bool,
    ) -> bool {
        let Some(object) = self.objects.get(&id) else { return false };
        let (path, subscribers) = (object.path.clone().unwrap_or_default(), object.subscribers.clone());
        for subscriber in &subscribers {
            if *subscriber == TEST {
                self.notifications.push((path.clone(), kind.to_owned(), data.clone()));
            } else if let Some(Owner::Client(client)) =
                self.objects.get(subscriber).map(|object| &object.owner)
            {
                let (client, seq) = (*client, self.fresh_seq());
                let mut attrs = invocation(*subscriber, kind, data);
                if no_reply {
                    attrs.insert(0, Attr::NoReply(true));
                }
                self.send(client, wire::INVOKE, seq, from, attrs);
            }
        }
        !subscribers.is_empty()
    }

    fn invoke(&mut self, client: u32, message: &Message) -> Option<u32> {
        let (Some(id), Some(method)) = (message.object(), message.method()) else {
            return Some(INVALID_ARGUMENT);
        };
        let args = message.data().unwrap_or_else(|| json!({}));
        if id == EVENTS {
            return Some(self.event_request(client, &method, &args));
        }
        match self.objects.get(&id).map(|object| &object.owner) {
            None => Some(NOT_FOUND),
            Some(Owner::Client(owner)) => {
                let owner = *owner;
                self.send(owner, wire::INVOKE, message.seq, client, invocation(id, &method, &args));
                None
            }
            Some(Owner::Test(answer)) => {
                let (data, status) = match answer(&method, &args)? {
                    Ok(data) => (Some(data), OK),
                    Err(status) => (None, status),
                };
                if let Some(data) = data {
                    self.send(client, wire::DATA, message.seq, id, vec![Attr::Object(id), Attr::Data(data)]);
                }
                self.send(
                    client,
                    wire::STATUS,
                    message.seq,
                    id,
                    vec![Attr::Status(status), Attr::Object(id)],
                );
                None
            }
        }
    }

    pub(super) fn invoke_as_test(&mut self, id: u32, method: &str, args: Value) -> u16 {
        let seq = self.fresh_seq();
        if let Some(Owner::Client(owner)) = self.objects.get(&id).map(|object| &object.owner) {
            let owner = *owner;
            self.answers.insert(seq, (None, None));
            self.send(owner, wire::INVOKE, seq, TEST, invocation(id, method, &args));
        }
        seq
    }

    pub(super) fn take_answer(&mut self, seq: u16) -> Option<(u32, Option<Value>)> {
        self.answers.get(&seq)?.0?;
        self.answers.remove(&seq).and_then(|(status, data)| Some((status?, data)))
    }

    fn answer_from(&mut self, client: u32, message: &Message) {
        let Some(id) = message.object() else {
            return self.violations.push("an answer that names no object".into());
        };
        if !matches!(self.objects.get(&id).map(|object| &object.owner), Some(Owner::Client(owner)) if *owner == client)
        {
            // Late, for an object that has been withdrawn: ubusd drops it.
            return;
        }
        if message.peer != TEST {
            return self.send(message.peer, message.kind, message.seq, id, message.attrs.clone());
        }
        let Some((status, data)) = self.answers.get_mut(&message.seq).filter(|(status, _)| status.is_none())
        else {
            return self.violations.push(format!("an answer that nobody waits for: {message:?}"));
        };
        match (message.kind, message.status(), message.data()) {
            (wire::STATUS, Some(code), _) => *status = Some(code),
            (wire::DATA, _, Some(value)) => *data = Some(value),
            _ => self.violations.push(format!("an empty answer: {message:?}")),
        }
    }

    fn event_request(&mut self, client: u32, method: &str, args: &Value) -> u32 {
        match (
            method,
            args["object"].as_i64(),
            args["pattern"].as_str(),
            args["id"].as_str(),
            args.get("data"),
        ) {
            ("register", Some(id), Some(pattern), _, _) => {
                let own =
                    |object: &&mut Object| matches!(object.owner, Owner::Client(owner) if owner == client);
                let Some(object) = self.objects.get_mut(&(id as u32)).filter(own) else { return NOT_FOUND };
                object.patterns.push(pattern.to_owned());
                OK
            }
            ("send", _, _, Some(name), Some(_)) if name.starts_with("ubus.") => PERMISSION_DENIED,
            ("send", _, _, Some(name), Some(data @ Value::Object(_))) => {
                self.spread_event(Some(client), name, data);
                OK
            }
            _ => INVALID_ARGUMENT,
        }
    }

    /// To every object with a fitting pattern but those of the sender, and to the record.
    pub(super) fn spread_event(&mut self, sender: Option<u32>, name: &str, data: &Value) {
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == pattern,
        };
        let receivers: Vec<(u32, u32)> = self
            .objects
            .iter()
            .filter(|(_, object)| object.patterns.iter().any(fits))
            .filter_map(|(id, object)| match object.owner {
                Owner::Client(client) if sender != Some(client) => Some((*id, client)),
                _ => None,
            })
            .collect();
        for (id, client) in receivers {
            let seq = self.fresh_seq();
            let attrs = vec![Attr::Object(id), Attr::Method(name.to_owned()), Attr::Data(data.clone())];
            self.send(client, wire::INVOKE, seq, 0, attrs);
        }
        if sender.is_some() {
            self.events.push((name.to_owned(), data.clone()));
        }
    }

    pub(super) fn id_of(&self, path: &str) -> Option<u32> {
        self.objects.iter().find(|(_, object)| object.path.as_deref() == Some(path)).map(|(id, _)| *id)
    }

    /// Above ubusd's own numbers, and with the highest bit set, as half of the real ones have it.
    fn fresh_id(&mut self) -> u32 {
        self.last_id += 1;
        0x9e00_0000 + self.last_id * 0x101
    }

    fn fresh_seq(&mut self) -> u16 {
        self.last_seq = self.last_seq.wrapping_add(1);
        self.last_seq
    }
}

fn invocation(object: u32, method: &str, args: &Value) -> Vec<Attr> {
    vec![
        Attr::Object(object),
        Attr::Method(method.to_owned()),
        Attr::User("root".to_owned()),
        Attr::Group("root".to_owned()),
        Attr::Data(args.clone()),
    ]
}
